"""``kwatch list``, ``slots``, ``hits`` and ``verify``: tables for people, JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import gdb

from gdb_kwatch.core.arbiter import priority_name
from gdb_kwatch.core.debugreg import ACCESS_NAMES, KERNEL_ONLY, SLOTS, Piece, status_flags
from gdb_kwatch.core.records import BY_COUNTER, UNTRAPPED, Trap, dumps
from gdb_kwatch.inferior import gdbfacts, programs
from gdb_kwatch.inferior.arbitration import WHO
from gdb_kwatch.inferior.kernel_watch import KernelWatch
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.threads import Armed, Threads, ThreadSlots
from gdb_kwatch.inferior.watch import INSTALLED, PENDING, SOFTWARE, Watch

from .places import place_of
from .report import UNCHANGED, count_of, fill_in
from .tables import folded, table

_LIST_HEADINGS = (
    "Num", "Kind", "Priority", "State", "Slots", "Armed", "Access", "Address", "Size", "Hits",
    "What",
)  # fmt: skip


def write_out(rows: Iterable[Any], filename: str | None) -> None:
    """JSON to the terminal, or to a file."""
    text = dumps(rows)
    if not filename:
        gdb.write(text)
        return
    try:
        with open(os.path.expanduser(filename), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise gdb.GdbError(f"{filename}: {error.strerror}") from None


class Views:
    """What there is to see of a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.threads = Threads(session)

    def watches(self) -> list[Watch]:
        """All owners of slots: the user's by number, then those of scripts."""
        self.session.look()
        found = self.session.registry.watches.values()
        return sorted(found, key=lambda w: (w.number < 0, abs(w.number)))

    # kwatch list

    def list_json(self) -> list[dict[str, Any]]:
        threads = self.threads.all()
        return [self._row_json(watch, threads) for watch in self.watches()]

    def _row_json(self, watch: Watch, threads: list[ThreadSlots]) -> dict[str, Any]:
        armed = self.threads.armed(watch, threads)
        region = watch.regions[-1] if watch.regions else None
        return {
            "number": watch.number,
            "kind": watch.kind,
            "state": self.state_of(watch),
            "slots": list(armed.slots),
            "armed": armed.threads,
            "threads": armed.of,
            "access": watch.access,
            "address": hex(region.address) if region else None,
            "size": region.length if region else None,
            "hits": self.hits_of(watch),
            "expression": watch.expression,
            "condition": watch.user_condition,
            "priority": watch.priority,
            "behind": [other.number for other in self._behind(watch)],
            "everywhere": watch.everywhere,
            "name": watch.options.name if watch.options is not None else "",
            "every": watch.every,
            "thread": watch.only_thread,
            "temporary": watch.temporary,
            "reason": watch.reason or None,
            "kernel": not watch.in_registers or bool(watch.sight),
            "judged": watch.judged.text if watch.judged is not None else None,
        }

    def list_text(self) -> str:
        watches = self.watches()
        if not watches:
            return "No hardware watchpoints or breakpoints.\n"
        threads = self.threads.all()
        rows = []
        for watch in watches:
            armed = self.threads.armed(watch, threads)
            region = watch.regions[-1] if watch.regions else None
            what = watch.expression + (" (every write)" if watch.every else "")
            if watch.options is not None and watch.options.name:
                what += f" ({watch.options.name})"
            if watch.acting:
                what += f" ({' '.join(watch.acting)})"
            if watch.everywhere:
                what += " (all inferiors)"
            if watch.only_thread is not None:
                what += f" thread {watch.only_thread}"
            if watch.user_condition:
                what += f" if {watch.user_condition}"
            if isinstance(watch, KernelWatch):
                what += f" ({watch.how})"
            elif (
                watch.judged is not None
                and watch.user_condition
                and gdb.parameter("kwatch kernel-conditions") != "off"
            ):
                what += f" (condition {watch.judged.text.splitlines()[0]})"
            if watch.temporary:
                what += " (temporary)"
            rows.append(
                [
                    str(watch.number),
                    watch.kind,
                    priority_name(watch.priority),
                    self._state(watch),
                    slot_names(armed.slots) if watch.in_registers or not armed.threads else "perf",
                    f"{armed.threads}/{armed.of}",
                    watch.access,
                    f"0x{region.address:016x}" if region else "-",
                    str(region.length) if region else "-",
                    str(self.hits_of(watch)),
                    what,
                ]
            )
        return folded(_LIST_HEADINGS, rows, gdb.parameter("width")) + "\n"

    def _behind(self, watch: Watch) -> list[Watch]:
        """Whom it waits for."""
        if not watch.waits or watch.request is None:
            return []
        found = self.session.registry.slots.arbiter.behind(watch.request)
        return sorted((r.owner for r in found if r.owner is not watch), key=lambda w: w.number)

    def _state(self, watch: Watch) -> str:
        behind = ", ".join(str(other.number) for other in self._behind(watch))
        slots = self.session.registry.slots
        if watch.waits and slots.foreign_slots(watch.progspace):
            others = [name for name, _ in slots.used(watch.progspace)]
            others += ["foreign"] * bool(slots.strangers(watch.progspace))
            behind = ", ".join([behind] * bool(behind) + others)
        return self.state_of(watch) + (f" behind {behind}" if behind else "")

    def state_of(self, watch: Watch) -> str:
        """`Watch.shown_state`; a session-wide one is installed where any inferior has it, and none
        in a core file."""
        if watch.state == PENDING and any(
            leg.armed for leg in self.session.registry.owners() if leg.head is watch
        ):
            return INSTALLED
        if watch.state == INSTALLED and gdbfacts.is_core_file():
            return PENDING
        return watch.shown_state

    def slots_of(self, watch: Watch) -> list[int]:
        return list(self.threads.armed(watch, self.threads.all()).slots)

    def hits_of(self, watch: Watch) -> int:
        """How often it was touched, in all inferiors.  gdb counts where kwatch sees no trap."""
        if watch.access == "execute" or watch.state == SOFTWARE:
            return int(watch.bp.hit_count)
        if watch.judged_in_kernel:
            return self.session.kernel.arming.hits_of(watch)
        return sum(leg.hits for leg in self.session.registry.owners() if leg.head is watch)

    # kwatch slots

    def slots_json(self) -> list[dict[str, Any]]:
        return [
            {
                "inferior": thread.inferior,
                "thread": thread.thread,
                "lwp": thread.lwp,
                "dr6": thread.registers.dr6,
                "dr7": thread.registers.dr7,
                "foreign": self.session.registry.slots.foreign_of(thread.inferior),
                "slots": [self._slot_json(thread, slot) for slot in range(SLOTS)],
                "perf": [
                    {
                        "address": hex(piece.address),
                        "size": piece.length,
                        "access": ACCESS_NAMES[piece.rw & 3],
                        "kernel_only": bool(piece.rw & KERNEL_ONLY),
                        "owners": [watch.number for watch in watches],
                        "holder": holder,
                    }
                    for piece, watches, holder in self._by_perf(thread)
                ],
            }
            for thread in self.threads.all()
        ]

    def _slot_json(self, thread: ThreadSlots, slot: int) -> dict[str, Any]:
        piece = thread.registers.piece(slot)
        return {
            "slot": slot,
            "address": hex(thread.registers.addresses[slot]),
            "size": piece.length if piece else None,
            "access": ACCESS_NAMES[piece.rw] if piece else None,
            "enabled": piece is not None,
            "owners": [watch.number for watch in thread.owners.get(slot, ())],
        }

    def slots_text(self) -> str:
        selected = gdbfacts.selected_thread()
        if selected is None:
            raise gdb.GdbError("The program is not being run, so no thread has debug registers.")
        threads = self.threads.all()
        mine = next((t for t in threads if t.lwp == selected.ptid[1]), None)
        if mine is None:
            raise gdb.GdbError(
                f"The debug registers of thread {selected.num} cannot be read: it is running, or "
                "its target is not this system's ptrace."
            )
        self.session.at_prompt()
        rows = []
        by_perf = self._perf_rows(mine)
        foreign = self.session.registry.slots.strangers(programs.selected())
        unused = SLOTS - len(mine.registers.pieces()) - foreign - len(by_perf)
        for slot in range(SLOTS):
            piece = mine.registers.piece(slot)
            unused -= piece is None
            held = sorted(mine.owners.get(slot, ()), key=lambda w: -w.priority)
            owners = "; ".join(f"{w.mention} ({priority_name(w.priority)})" for w in held)
            rows.append(
                [
                    f"DR{slot}",
                    f"0x{mine.registers.addresses[slot]:016x}",
                    str(piece.length) if piece else "-",
                    ACCESS_NAMES[piece.rw] if piece else _unused(unused, len(by_perf)),
                    owners or (self._without_owner(piece) if piece else ""),
                ]
            )
        rows += by_perf
        flags = " ".join(status_flags(mine.registers.dr6))
        lines = [
            f'Thread {mine.thread} (LWP {mine.lwp}) "{mine.name}"',
            table(["Slot", "Address", "Size", "Access", "Held by"], rows),
            f"DR6  {mine.registers.dr6:#018x}  {flags}".rstrip(),
            f"DR7  {mine.registers.dr7:#018x}",
        ]
        lines += self._foreign()
        lines += self._others(mine, threads)
        lines += self._waiting(mine)
        return "\n".join(lines) + "\n"

    def _without_owner(self, piece: Piece) -> str:
        """Of a slot that no watchpoint has: gdb writes the registers when it resumes a thread, so
        those of a deleted one stand there until then."""
        if piece in self.session.registry.let_go:
            return "gdb's, until the next resume"
        return "not gdb's"

    def _perf_rows(self, mine: ThreadSlots) -> list[list[str]]:
        """The slots of this thread that kwatch holds through perf; the CPU has them in registers
        that ptrace does not show."""
        return [
            [
                "perf",
                f"0x{piece.address:016x}",
                str(piece.length),
                ACCESS_NAMES[piece.rw & 3] + (" by kernel" if piece.rw & KERNEL_ONLY else ""),
                holder or "; ".join(watch.mention for watch in watches),
            ]
            for piece, watches, holder in self._by_perf(mine)
        ]

    def _by_perf(self, thread: ThreadSlots) -> Iterator[tuple[Piece, list[Watch], str | None]]:
        """What kwatch watches by perf on a thread, and for whom: watchpoints, or what has none."""
        for piece, watches in self.session.kernel.arming.held_on(thread.lwp):
            yield piece, watches, None
        spaces = {i.num: programs.of(i) for i in gdb.inferiors()}
        space = spaces.get(thread.inferior)
        if space is not None:
            for name, pieces in self.session.registry.slots.used(space):
                for piece in sorted(pieces):
                    yield piece, [], name

    def _foreign(self) -> list[str]:
        """What others hold on the threads of this program."""
        count = self.session.registry.slots.strangers(programs.selected())
        return [f"foreign: {count_of(count, 'slot')} held by {WHO}"] if count else []

    def _others(self, mine: ThreadSlots, threads: list[ThreadSlots]) -> list[str]:
        """Threads whose slots differ are named, those that agree are counted."""
        same = [t for t in threads if t is not mine and t.layout == mine.layout]
        lines = [f"{count_of(len(same), 'other thread')} the same"] if same else []
        for other in threads:
            if other.inferior == mine.inferior and other.layout != mine.layout:
                held = ", ".join(
                    f"DR{slot} 0x{piece.address:x}"
                    for slot, piece in enumerate(other.layout)
                    if piece is not None
                )
                lines.append(f"Thread {other.thread} (LWP {other.lwp}) differs: {held or 'none'}")
        return lines

    def _waiting(self, mine: ThreadSlots) -> list[str]:
        held = set(mine.registers.pieces().values())
        waiting = [
            str(watch.number)
            for watch in self.session.registry.here()
            if watch.in_registers and watch.pieces and not watch.waits and not watch.pieces <= held
        ]
        if not waiting:
            return []
        return [f"Not in the registers until the program is resumed: {', '.join(waiting)}"]

    # kwatch hits

    def hits_json(self, count: int | None = None) -> list[dict[str, Any]]:
        rows = []
        for trap in self.session.engine.history.last(count):
            fill_in(trap)
            rows.append(trap.json(place_of(trap).json()))
        return rows

    def hits_text(self, count: int | None = None) -> str:
        traps = self.session.engine.history.last(count)
        if not traps:
            return "No traps yet.\n"
        several = len({trap.inferior for trap in self.session.engine.history.last()}) > 1
        rows = []
        for trap in traps:
            fill_in(trap)
            thread = f"{trap.inferior}.{trap.thread}" if several else str(trap.thread)
            where = self._where(trap)
            if trap.call is not None:
                where += f" {trap.call.name or 'kernel'}"
            for n, hit in enumerate(trap.hits):
                first = [str(trap.number), thread, where] if n == 0 else ["", "", ""]
                new = hit.new if hit.changed else UNCHANGED
                rows.append(
                    [
                        *first,
                        "perf" if hit.seen_by == BY_COUNTER else slot_names(hit.slots),
                        str(hit.number),
                        hit.expression,
                        hit.old or "",
                        new or "",
                        "stop" if hit.stop else "",
                    ]
                )
        head = ["Trap", "Thread", "Where", "Slot", "Num", "What", "Old", "New", ""]
        text = folded(head, rows, gdb.parameter("width")) + "\n"
        forgotten = self.session.engine.history.count - len(self.session.engine.history)
        if forgotten:
            text += f"{count_of(forgotten, 'earlier trap')} forgotten (set kwatch history)\n"
        return text

    def _where(self, trap: Trap) -> str:
        if trap.origin == UNTRAPPED:
            return trap.origin
        place = place_of(trap)
        if place.file and place.line:
            return f"{place.short_file}:{place.line}"
        return place.symbol or hex(trap.pc)

    # kwatch verify

    def verify(self, numbers: list[int]) -> str:
        known = {watch.number: watch for watch in self.watches()}
        for number in numbers:
            if number not in known:
                raise gdb.GdbError(f"No hardware watchpoint number {number}.")
        threads = self.threads.all()
        chosen = [known[n] for n in numbers] if numbers else list(known.values())
        lines = [self._verified(watch, self.threads.armed(watch, threads)) for watch in chosen]
        if not lines:
            lines = ["No hardware watchpoints or breakpoints."]
        from gdb_kwatch.linux import canary

        bird = canary.run()
        lines.append(f"canary: {bird.text}" if bird.trapped else f"canary: FAILED: {bird.text}")
        return "\n".join(lines) + "\n"

    def _verified(self, watch: Watch, armed: Armed) -> str:
        hits = count_of(self.hits_of(watch), "hit")
        head = f"{watch.number}: {watch.expression}: "
        if watch.state == SOFTWARE:
            return head + f"software watchpoint, in no register; {hits} since set"
        if not watch.armed:
            reason = f" ({watch.reason})" if watch.reason else ""
            return head + f"{self._state(watch)}{reason}, in no register; {hits} since set"
        text = f"armed on {armed.threads} of {count_of(armed.of, 'thread')}"
        if not armed.of and gdbfacts.selected_thread() is not None:
            text = "set, in registers that cannot be read here"
        size = sum(region.length for region in watch.regions)
        if not watch.in_registers:
            text += ", by perf (user and kernel)"
        if armed.slots:
            text += f", {slot_names(armed.slots)}"
        text += f", {count_of(size, 'byte')}, {watch.access}; {hits} since set"
        if armed.of and armed.threads < armed.of:
            text += (
                "; NOT armed there: no slot, or no more files"
                if not watch.in_registers
                else "; NOT in the registers though the program has run"
                if watch.has_run and not armed.threads
                else "; gdb writes the registers when it resumes a thread"
            )
        return head + text


def _unused(left: int, by_perf: int) -> str:
    """Of a slot that ptrace does not use: whether the kernel has given it to perf."""
    if left >= 0:
        return "free"
    return "perf" if left >= -by_perf else "foreign"


def slot_names(slots: Iterable[int]) -> str:
    return ",".join(f"DR{slot}" for slot in slots) or "-"
