"""What the user reads at a stop: one block for one trap, before gdb's own frame line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gdb

from gdb_kwatch.core.records import BY_COUNTER, Hit, Trap
from gdb_kwatch.inferior import gdbfacts
from gdb_kwatch.inferior.kernel_traps import Hand
from gdb_kwatch.inferior.lvalues import frame_or_none
from gdb_kwatch.inferior.traps import Engine, Stop
from gdb_kwatch.inferior.watch import MENTIONS, Watch

from . import style
from .places import Place, place_of, place_of_call, source_line
from .tables import table, visible

UNCHANGED = "unchanged"
_HEADINGS = ("Watchpoint", "Slot", "Access", "Old value", "New value", "")


def count_of(number: int, what: str, several: str = "") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {several or what + 's'}"


def fill_in(trap: Trap) -> None:
    """Print the old and new values of a trap's hits as gdb prints them, where not yet done."""
    for hit in trap.hits:
        if hit.raw is not None and hit.old is None:
            value, old, new = hit.raw
            if value is not None:
                hit.old, hit.new = one_line(value.text(old)), one_line(value.text(new))


def one_line(text: str) -> str:
    """A struct prints over several lines with ``set print pretty on``."""
    return " ".join(line.strip() for line in text.split("\n"))


def mention(hit: Hit) -> str:
    return f"{MENTIONS[hit.access]} {hit.number}: {hit.expression}"


def until_quit(report: Callable[..., None]) -> Callable[..., None]:
    """Let ``q`` at the pager end a report, and no more than that: gdb 10 pages the report of a
    stop (later ones do not), and would call it an error of hook-stop's."""

    @functools.wraps(report)
    def reported(*arguments: Any) -> None:
        with suppress(KeyboardInterrupt):
            report(*arguments)

    return reported


class Report:
    """Prints stops and warnings.  ``engine`` is set once the session is there; ``listeners`` hear
    of each trap that a stop is about, before anything is printed."""

    engine: Engine

    def __init__(self) -> None:
        self.listeners: list[Callable[[Trap], None]] = []
        # How it says something; a front end may want it by another way.
        self.write: Callable[..., None] = self.to_terminal

    def to_terminal(self, text: str, stream: int = gdb.STDOUT) -> None:
        gdb.write(text, stream)

    def warn(self, text: str) -> None:
        self.write(f"warning: {text}\n", gdb.STDERR)

    def note(self, text: str) -> None:
        self.write(f"{text}\n")

    @until_quit
    def stopped(self, stop: Stop) -> None:
        """The block of a stop, where there is something to add to gdb's own report."""
        trap = stop.trap
        if trap is None or not trap.stopped:
            return
        fill_in(trap)
        trap.place = place_of(trap, stop.regions())
        self._tell(trap)
        if not self._is_wanted(stop, trap) or stop.silent:
            return
        how = "by one instruction" if trap.dr6 else "at one trap (found by comparing values)"
        head = f"{count_of(len(trap.hits), 'watchpoint')} hit {how}"
        self.write(self._block(_thread_prefix() + head, trap.hits))
        self.write(self._place(trap.place))

    @until_quit
    def untrapped(self, trap: Trap) -> None:
        fill_in(trap)
        self._tell(trap)
        self.write(
            self._block(
                f"{count_of(len(trap.hits), 'watchpoint')} changed with no trap "
                "(a system call, another mapping, another process or the debugger)",
                trap.hits,
            )
        )

    @until_quit
    def by_counter(self, hand: Hand) -> None:
        """The block of a stop by what perf has counted: a system call, or an instruction."""
        trap = hand.trap
        if trap is None:
            return
        fill_in(trap)
        trap.place = place_of_call(trap, hand) if trap.call else place_of(trap, hand.regions)
        self._tell(trap)
        if hand.silent:
            return
        head = f"{count_of(len(trap.hits), 'watchpoint')} hit by "
        if trap.call is None:
            self.write(self._block(_thread_prefix() + head + "one instruction", trap.hits))
        else:
            self.write(self._block(_thread_prefix() + head + "the kernel", trap.hits))
            self.write(f"{trap.call.text}\n")
        self.write(self._place(trap.place))
        if hand.late:
            self.write(f"(told {hand.late:.1f} ms late: the thread has run on)\n")

    def frame(self) -> None:
        """The place where the program stands, for a stop at which gdb printed none.

        Not by ``frame``: gdb.execute would run the breakpoint's commands (gdbfacts).
        """
        frame = frame_or_none()
        if frame is None:
            return  # killed just now: gdb has nothing to print either
        place = frame.find_sal()
        where = f"{style.styled(frame.name() or '??', 'function')} ()"
        if place.symtab is None or not place.line:
            self.write(f"{style.styled(f'0x{frame.pc():016x}', 'address')} in {where}\n")
            return
        name = style.styled(place.symtab.filename, "filename")
        self.write(f"{where} at {name}:{place.line}\n")
        text = source_line(place.symtab.fullname(), place.line)
        if text is not None:
            self.write(f"{place.line}\t{style.source(text, place.symtab.filename)}\n")

    def blind(self, watches: list[Watch]) -> None:
        """A stop that was made because kwatch could not judge a trap."""
        lines = [watch.mention for watch in watches if watch.armed]
        self.write("\n".join(["\nStopped, as any of these may have been hit:", *lines, ""]))

    def _tell(self, trap: Trap) -> None:
        for listener in self.listeners:
            listener(trap)

    def _is_wanted(self, stop: Stop, trap: Trap) -> bool:
        """A kwatch always shows its block; for natives it is added where gdb missed one that
        changed, or would not have stopped."""
        if stop.speaker is not None or stop.pending:
            return True
        if self.engine.mi and any(watch.options is not None for watch in stop.stopping):
            return True
        return bool(stop.askers) or any(hit.changed and not hit.blamed for hit in trap.hits)

    def _block(self, head: str, hits: Sequence[Hit]) -> str:
        rows = [self._row(hit) for hit in hits]
        if len(rows) == 1:
            rows[0][-1] = ""  # nothing else could be blamed
        if not any(row[-1] for row in rows):
            rows = [row[:-1] for row in rows]
        text = table(_HEADINGS[: len(rows[0])], rows)
        width = gdb.parameter("width")
        if width and any(visible(line) > int(width) for line in text.split("\n")):
            text = "\n".join(self._tall(hit) for hit in hits)
        return f"\n{head}\n{text}\n"

    def _row(self, hit: Hit) -> list[str]:
        slots = ",".join(f"DR{slot}" for slot in hit.slots) or "-"
        if hit.seen_by == BY_COUNTER:
            slots = f"perf x{hit.count}" if hit.count > 1 else "perf"
        new = hit.new if hit.changed else UNCHANGED
        note = "(blamed by gdb)" if hit.blamed else ""
        return [mention(hit), slots, hit.access, hit.old or "", new or "", note]

    def _tall(self, hit: Hit) -> str:
        """For values too long for a row: gdb's own shape."""
        row = self._row(hit)
        note = ", ".join(part for part in (row[1], row[2], row[5].strip("()")) if part)
        if not hit.changed:
            return f"{row[0]}  ({note})\nValue = {row[3]} ({UNCHANGED})"
        return f"{row[0]}  ({note})\nOld value = {row[3]}\nNew value = {row[4]}"

    def _place(self, place: Place) -> str:
        lines = []
        if place.source and place.file and place.line:
            where = f"{style.styled(place.short_file, 'filename')}:{place.line}"
            lines.append(f"{where}\t{style.source(place.source, place.file)}")
        elif place.file and place.line:
            lines.append(f"{style.styled(place.short_file, 'filename')}:{place.line}")
        if place.instruction and place.address is not None:
            address = style.styled(f"0x{place.address:016x}", "address")
            symbol = f" <{place.symbol}>" if place.symbol else ""
            lines.append(f"{address}{symbol}:\t{style.assembly(place.instruction)}")
        if not place.certain:
            what = "this is the likely one" if place.address is not None else "cannot be told"
            lines.append(f"(the accessing instruction: {what}: {place.reason})")
        return "".join(line + "\n" for line in lines)


def _thread_prefix() -> str:
    """As gdb names the thread that hit, once there is more than one (``show_thread_that_caused_
    stop``)."""
    thread = gdbfacts.selected_thread()
    if thread is None:
        return ""
    if (
        getattr(thread, "global_num", thread.num) <= 1
        and len(gdb.selected_inferior().threads()) < 2
    ):
        return ""
    inferiors = gdb.inferiors()
    number = f"{thread.inferior.num}.{thread.num}" if len(inferiors) > 1 else str(thread.num)
    name = f' "{thread.name}"' if thread.name else ""  # none where it was killed just now
    return f"Thread {number}{name}: "
