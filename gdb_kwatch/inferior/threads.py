"""What is really in the registers: each thread's slots, as the CPU has them, and whose they are."""

from __future__ import annotations

from typing import NamedTuple

import gdb

from gdb_kwatch.core.debugreg import HIT_MASK, SLOTS, Piece, Registers
from gdb_kwatch.linux import ptrace

from . import gdbfacts, programs
from .session import Session
from .watch import Watch


class ThreadSlots(NamedTuple):
    """One thread's debug registers, and the owners of each enabled slot."""

    inferior: int
    thread: int
    lwp: int
    name: str
    registers: Registers
    owners: dict[int, list[Watch]]

    @property
    def layout(self) -> tuple[Piece | None, ...]:
        return tuple(self.registers.piece(n) for n in range(SLOTS))


class Armed(NamedTuple):
    """On how many threads a watchpoint stands in the registers, and in which slots."""

    threads: int
    of: int
    slots: tuple[int, ...]


def _name(inferior: gdb.Inferior, thread: gdb.InferiorThread) -> str:
    """gdb 10 aborts where the name of another inferior's thread is asked for
    (``target_thread_name: Assertion 'info->inf == current_inferior ()'``)."""
    if gdbfacts.VERSION < (11, 0) and inferior != gdb.selected_inferior():
        return ""
    return thread.name or ""


class Threads:
    """Reads the registers of the stopped threads."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def all(self) -> list[ThreadSlots]:
        """Every thread of every inferior whose registers can be read, in gdb's order."""
        found = []
        for inferior in sorted(gdb.inferiors(), key=lambda i: i.num):
            for thread in sorted(inferior.threads(), key=lambda t: t.num):
                read = self.of(inferior, thread)
                if read is not None:
                    found.append(read)
        return found

    def of(self, inferior: gdb.Inferior, thread: gdb.InferiorThread) -> ThreadSlots | None:
        """One thread's; None where they cannot be read (it runs, or is not ptrace's)."""
        lwp = thread.ptid[1]
        registers = self.registers(lwp)
        if registers is None:
            return None
        space = programs.of(inferior)
        owners: dict[int, list[Watch]] = {}
        for slot, piece in registers.pieces().items():
            owners[slot] = [
                watch
                for watch in self.session.registry.owners()
                if piece in watch.pieces and watch.progspace == space
            ]
        return ThreadSlots(
            inferior.num, thread.num, lwp, _name(inferior, thread), registers, owners
        )

    def registers(self, lwp: int) -> Registers | None:
        """As the CPU left them: DR6, which is cleared to mark a trap as handled, is shown whole
        while the thread still stands there."""
        try:
            registers = ptrace.debug_registers(lwp)
            seen = self.session.engine.status.get(lwp)
            if not registers.dr6 & HIT_MASK and seen and seen[1] == ptrace.program_counter(lwp):
                return Registers(registers.addresses, seen[0], registers.dr7)
        except OSError:
            return None
        return registers

    def armed(self, watch: Watch, threads: list[ThreadSlots]) -> Armed:
        """Where ``watch`` stands, among the threads of its own program, or of all of them."""
        if not watch.in_registers:
            return Armed(*self.session.kernel.arming.armed_on(watch), ())
        count, of, slots = 0, 0, set()
        for leg in [w for w in self.session.registry.owners() if w.head is watch]:
            numbers = {i.num for i in gdb.inferiors() if programs.of(i) == leg.progspace}
            own = [thread for thread in threads if thread.inferior in numbers]
            of += len(own)
            for thread in own if not leg.waits else ():
                held = {piece: slot for slot, piece in thread.registers.pieces().items()}
                if leg.pieces and leg.pieces <= held.keys():
                    count += 1
                    slots |= {held[piece] for piece in leg.pieces}
        return Armed(count, of, tuple(sorted(slots)))
