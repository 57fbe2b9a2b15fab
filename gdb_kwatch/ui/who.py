"""``kwatch who``: which instructions touch a place, while the program runs."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gdb

from gdb_kwatch.core.access_words import WHO, AccessRequest, parse, told
from gdb_kwatch.core.grammar import UsageError
from gdb_kwatch.core.traces import Accessor
from gdb_kwatch.inferior.access import Access
from gdb_kwatch.inferior.access_conditions import AccessCondition
from gdb_kwatch.inferior.accesses import ByStops, Run, Watcher, watcher
from gdb_kwatch.inferior.background import Background
from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.leaving import before_unloading
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.symbols import Symbols, where
from gdb_kwatch.inferior.targets import Numbers, Target, check_slots, target_of

from . import style
from .report import count_of
from .tables import folded, visible

_HEADINGS = (
    "", "Hits", "Threads", "Where", "Function", "Access", "First", "Last", "Instruction",
)  # fmt: skip
_REDRAW = 0.25
_THREADS_SHOWN = 6


class Found:
    """What one ``kwatch who`` has found; the last one can be asked again by number."""

    def __init__(self, target: Target, request: AccessRequest, numbers: Numbers) -> None:
        self.target = target
        self.request = request
        self.numbers = numbers
        self.symbols = Symbols([target.region])
        self.rows: list[Accessor] = []
        self.exact_frames = False

    def take(self, rows: Sequence[Accessor]) -> None:
        """The rows as they are at the end.  A `rep` instruction was seen with the program at it
        and, when it was done, behind it: one row."""
        of: dict[tuple[int, bool], Accessor] = {}
        for row in sorted(rows, key=lambda row: row.first_time):
            access = self.symbols.access(row.ip, row.kernel, row.registers)
            repeats = (access.text or "").startswith("rep")
            place = access.address if repeats and access.address is not None else self.place(row)
            if (place, row.kernel) in of:
                of[place, row.kernel].add(row)
            else:
                of[place, row.kernel] = replace(row, threads=Counter(row.threads))
        self.rows = sorted(of.values(), key=lambda row: -row.hits)

    def look_up(self, rows: Sequence[Accessor]) -> None:
        """The names of all of them, while they can be had."""
        self.take(rows)
        for row in self.rows:
            self.code(row)
            for ip in self.symbols.chain(row.stack, row.top):
                self.symbols.frame(ip)

    def place(self, row: Accessor) -> int:
        """Where the program stood, or from where it called the kernel."""
        return self.symbols.caller(row.ip, row.kernel, row.top, row.stack)

    def code(self, row: Accessor) -> Access:
        """The program's code at `place`."""
        place = self.place(row)
        if place == row.ip:
            return self.symbols.access(row.ip, row.kernel, row.registers)
        return self.symbols.access(place, kernel=True)

    def table(self, rows: Sequence[Accessor]) -> str:
        lines = []
        for n, row in enumerate(rows, 1):
            *places, instruction = self.cells(row)
            values = self.target.text(row.first_new), self.target.text(row.last_new)
            count = str(n), f"{row.hits:,}", self.threads(row)
            lines.append([*count, *places, *values, instruction])
        return folded(_HEADINGS, lines, gdb.parameter("width"))

    def cells(self, row: Accessor) -> tuple[str, str, str, str]:
        """Where, function, access, instruction."""
        access = self.symbols.access(row.ip, row.kernel, row.registers)
        code = self.code(row)
        function = code.function or code.symbol.split("+")[0]
        place = where(code, self.place(row))
        return place, function, self.kind(row, access), self.instruction(access)

    def threads(self, row: Accessor) -> str:
        names = sorted((self.numbers.text(lwp) for lwp in row.threads), key=_numeric)
        more = len(names) - _THREADS_SHOWN
        return ",".join(names[:_THREADS_SHOWN]) + (f" +{more}" if more > 0 else "")

    def kind(self, row: Accessor, access: Access | None) -> str:
        if row.kernel:
            return "kernel"
        if access is None:
            return ""
        changed = bool(row.changes)
        return self.symbols.direction(row.ip, row.kernel, changed, row.registers)

    def instruction(self, access: Access | None) -> str:
        if access is None or not access.text:
            return "?"
        return " ".join(access.text.split("#")[0].split()) + ("" if access.certain else " (likely)")

    def json(self) -> list[dict[str, Any]]:
        rows = []
        for n, row in enumerate(self.rows, 1):
            access = self.symbols.access(row.ip, row.kernel, row.registers)
            code = self.code(row)
            rows.append(
                {
                    "number": n,
                    "hits": row.hits,
                    "changes": row.changes,
                    "threads": {
                        self.numbers.text(lwp): hits for lwp, hits in sorted(row.threads.items())
                    },
                    "pc": hex(row.ip if access.address is None else access.address),
                    "file": os.path.basename(code.filename) if code.filename else None,
                    "line": code.line,
                    "function": code.function,
                    "instruction": access.text,
                    "certain": access.certain,
                    "access": self.kind(row, access),
                    "first_old": self.target.text(row.first_old),
                    "first_new": self.target.text(row.first_new),
                    "last_old": self.target.text(row.last_old),
                    "last_new": self.target.text(row.last_new),
                    "stack": [
                        self.symbols.frame(ip) for ip in self.symbols.chain(row.stack, row.top)
                    ],
                }
            )
        return rows

    def detail(self, number: int) -> str:
        """One accessor's first backtrace, and the registers of its last hit."""
        row = self.rows[number - 1]
        access = self.symbols.access(row.ip, row.kernel, row.registers)
        lines = [
            f"{count_of(row.hits, 'hit')} ({row.changes} changed it) of {self.target.expression} "
            f"by {where(self.code(row), self.place(row))}",
            f"{style.styled(hex(access.address or row.ip), 'address')}:\t"
            + self.instruction(access),
            "",
            "First backtrace"
            + ("" if self.exact_frames else " (by frame pointers: a caller may be missing)"),
        ]
        for n, ip in enumerate(self.symbols.chain(row.stack, row.top)):
            frame = access if n == 0 else self.symbols.access(ip, kernel=True)
            name = frame.function or frame.symbol or "??"
            place = f" at {where(frame, ip)}" if frame.line else ""
            lines.append(
                f"#{n:<3}{style.styled(f'0x{ip:016x}', 'address')} in "
                f"{style.styled(name, 'function')} (){place}"
            )
        if not row.stack:
            lines.append("none was recorded")
        if row.registers:
            lines += ["", f"Registers after its last hit, thread {self._thread(row)}"]
            lines += [f"{name:<10}{value:#x}" for name, value in _in_order(row.registers)]
        return "\n".join(lines) + "\n"

    def _thread(self, row: Accessor) -> str:
        return self.numbers.text(row.last_thread)


def _numeric(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (1 << 62, text)


def _in_order(registers: dict[str, int]) -> list[tuple[str, int]]:
    """As ``info registers`` has them."""
    names = [
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *(f"r{n}" for n in range(8, 16)),
        *("rip", "eflags"),
    ]
    return [(name, registers[name]) for name in names if name in registers]


class Live:
    """The table, redrawn in place on the terminal while the program runs.

    It is drawn by a thread, which may call nothing of gdb's: an address that was not seen before
    is looked up by gdb's main thread, which is asked through its event loop.
    """

    def __init__(self, found: Found, watching: Watcher) -> None:
        self.found = found
        self.watching = watching
        self.lines = 0
        self.cells: dict[tuple[int, ...], tuple[str, str, str, str]] = {}
        self._asked = False
        self._thread = Background(self._draw, _REDRAW)

    def _draw(self) -> None:
        rows = sorted(self.watching.rows(), key=lambda row: -row.hits)
        new = [row for row in rows if _key(row) not in self.cells]
        if new and not self._asked:
            self._asked = True
            gdb.post_event(lambda: self._look_up(new))
        if rows and not self.cells:
            return  # soon
        size = shutil.get_terminal_size()
        named = [row for row in rows if _key(row) in self.cells]
        shown = named[: max(size.lines - 5, 1)]
        lines = plain_table(self.found, shown, [self.cells[_key(row)] for row in shown])
        hits = sum(row.hits for row in rows)
        more = len(rows) - len(shown)
        rest = f" by {count_of(len(rows), 'instruction')}, {more} not shown" if more else ""
        lines.append(f"{hits:,} {'hit' if hits == 1 else 'hits'}{rest} (Ctrl-C stops the program)")
        lines = [line[: size.columns - 1] for line in lines]
        left = "\033[J" if len(lines) < self.lines else ""
        self._write(self._up() + "\n".join(f"{line}\033[K" for line in lines) + "\n" + left)
        self.lines = len(lines)

    @guarded()
    def _look_up(self, new: list[Accessor]) -> None:
        self._asked = False
        for row in new:
            self.cells[_key(row)] = self.found.cells(row)

    def _up(self) -> str:
        return f"\033[{self.lines}A\r" if self.lines else "\r"

    def _write(self, text: str) -> None:
        os.write(1, text.encode(errors="replace"))

    def close(self) -> None:
        """gdb has printed its own report of the stop below the table: both stay, and the final
        table follows."""
        self._thread.stop()


def _key(row: Accessor) -> tuple[int, ...]:
    return (row.ip, row.kernel, *row.top)


def plain_table(
    found: Found, rows: Sequence[Accessor], cells: Sequence[tuple[str, str, str, str]]
) -> list[str]:
    """For the drawing thread: values of plain numbers only."""
    lines = [list(_HEADINGS)]
    for n, (row, (*places, instruction)) in enumerate(zip(rows, cells), 1):
        numbers = [found.target.number(value) for value in (row.first_new, row.last_new)]
        values = ["" if value is None else str(value) for value in numbers]
        count = str(n), f"{row.hits:,}", found.threads(row)
        lines.append([*count, *places, *values, instruction])
    widths = [max(visible(line[n]) for line in lines) for n in range(len(_HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    ]


class Who:
    """The command's work; kept for ``kwatch who N``."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.last: Found | None = None

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument.strip().isdigit():
            gdb.write(self._one(int(argument)))
            return
        try:
            request = parse(argument, WHO)
            target = target_of(request.expressions[0], request.access)
        except UsageError as error:
            raise gdb.GdbError(str(error)) from None
        except gdb.GdbError as error:
            raise gdb.GdbError(told(str(error), argument, WHO)) from None
        self.run(request, target, from_tty)

    def _one(self, number: int) -> str:
        if self.last is None or not self.last.rows:
            raise gdb.GdbError("No accessor is known: 'kwatch who EXPRESSION' finds some.")
        if not 1 <= number <= len(self.last.rows):
            raise gdb.GdbError(f"There are accessors 1 to {len(self.last.rows)}.")
        return self.last.detail(number)

    def run(
        self,
        request: AccessRequest,
        target: Target,
        from_tty: bool,
        run: Run | None = None,
        note: Callable[[str], object] = gdb.write,
        write: Callable[[str], object] = gdb.write,
    ) -> None:
        """Let the program run and tell who touched the place; ``note`` takes what is no part of
        the answer."""
        check_slots(self.session, [target], f"kwatch who {target.expression}")
        condition = AccessCondition(request.condition, target)
        watching = watcher(self.session, target, request, condition)
        found = Found(target, request, Numbers())
        found.exact_frames = isinstance(watching, ByStops)
        live = None
        followed = before_unloading(lambda: found.look_up(watching.rows()))
        run = run or Run(request.seconds)
        try:
            if watching.missing:
                note(f"{watching.missing}\nSo gdb stops at each hit and goes on (slow).\n")
            gdb.flush()
            if from_tty and style.terminal() and not isinstance(watching, ByStops):
                live = Live(found, watching)
                run.quiet = True
            run.go()
        finally:
            if live is not None:
                live.close()
            followed()
            try:
                found.take(watching.rows())
                hits, lost = watching.hits(), watching.lost()
                other, untested = watching.seen() - hits, condition.told(watching.state())
            finally:
                watching.close()
                found.numbers.close()
        self.last = found
        note(run.said)
        if request.json:
            from gdb_kwatch.core.records import dumps

            write(dumps(found.json()))
            return
        write(self._text(found, hits, lost, other, run, watching) + untested)

    def _text(
        self, found: Found, hits: int, lost: int, other: int, run: Run, watching: Watcher
    ) -> str:
        """``other``: how many accesses there were that do not count."""
        if not found.rows and other > 0:
            text = (
                f"No access to {found.target.expression} counted in {run.elapsed:.1f} s: "
                f"{count_of(other, 'other')} {'was' if other == 1 else 'were'} left out.\n"
            )
        elif not found.rows:
            text = f"Nothing touched {found.target.expression} in {run.elapsed:.1f} s.\n"
        else:
            cost = ""
            if isinstance(watching, ByStops):
                cost = f", slow{watching.observer.cost}"
            text = found.table(found.rows) + "\n"
            text += (
                f"{hits:,} {'hit' if hits == 1 else 'hits'} in {run.elapsed:.1f} s by "
                f"{count_of(len(found.rows), 'instruction')}{cost}\n"
            )
        if run.timed_out:
            text += f"The program was interrupted after {run.seconds:g} s (-for).\n"
        if found.target.local and found.rows:
            text += (
                f"{found.target.expression} is on the stack: what others did there after its "
                "function had returned is counted too.\n"
            )
        if lost:
            text += f"{lost:,} hits by more instructions than the table holds\n"
        return text
