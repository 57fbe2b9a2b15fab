"""The debug registers of a process that has become another program.

Linux empties them at exec (``flush_ptrace_hw_breakpoint``).  gdb takes its watchpoints for not
inserted any more (``mark_breakpoints_out``), but keeps its count of who uses which register, and
writes registers only where that count brings in something new (``x86_insert_aligned_watchpoint``,
gdb 10 to 18).  So one whose address has stayed the same would be in no register: it is put in here.
Where gdb does write, it writes all of them, and this is gone.

What it has counted before stays counted until the process ends: a slot at a place where nothing is
watched any more is lost.  Of a process that ran before kwatch came, or while it was off, the
registers tell at its next stop: in them stands what gdb counts.
"""

from __future__ import annotations

from contextlib import suppress

import gdb

from gdb_kwatch.core.debugreg import CONTROL, SLOTS, Piece, control_of
from gdb_kwatch.linux import ptrace

from . import fixed_places, gdbfacts, programs
from .watches import Registry


class AfterExec:
    """Watches over the processes that have called exec, until something is in their registers."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        # By process: the program that it was, and what was in its registers.
        self._empty: dict[int, tuple[str | None, set[Piece]]] = {}
        self._counted: dict[int, set[Piece]] = {}
        self._unknown: set[int] = set()  # processes that kwatch has not seen from the start
        registry.slots.lost_slots = self.lost

    def called(self, space: gdb.Progspace) -> bool:
        """gdb drops the symbols of a program: exec (True), or the user's ``file``, which is no
        matter."""
        pid = gdb.selected_inferior().pid
        if not pid or space != programs.selected() or not ptrace.stands_at_exec(pid):
            return False
        pieces = self._wanted()
        self._empty[pid] = space.filename, pieces
        self._counted[pid] = self._counted.get(pid, set()) | pieces | self._elsewhere(pid)
        return True

    def take_over(self) -> None:
        """kwatch comes, or comes back: what has happened before nobody can tell yet."""
        self._unknown = {inferior.pid for inferior in gdb.inferiors() if inferior.pid}

    def look(self) -> None:
        """At a stop, before anything is changed: what stands in the registers of such a process,
        and nobody has watched since it was resumed, is counted by gdb for ever.  A resume that
        fails for it would name a sentinel: gdb inserts one for all at an address."""
        pid, thread = gdb.selected_inferior().pid, gdbfacts.selected_thread()
        if pid not in self._unknown or thread is None or not thread.is_stopped():
            return
        watches = list(self.registry.here())
        if any(map(fixed_places.is_anywhere, watches)):
            return
        try:
            held = set(ptrace.debug_registers(thread.ptid[1]).pieces().values())
        except OSError:
            return
        if not held:
            return  # gdb has written none yet
        let_go = self.registry.let_go
        known = let_go.union(*(w.pieces | w.needs for w in watches))
        if held - known:
            self._counted[pid] = held  # each may be counted so, until a stop shows that it is not
        elif pid in self._counted:
            self._counted[pid] &= held
        elif not held & let_go:
            self._unknown.discard(pid)

    def _elsewhere(self, pid: int) -> set[Piece]:
        """Where the process has been another inferior until now (``follow-exec-mode new``)."""
        space = programs.selected()
        return {
            piece
            for watch in self.registry.owners()
            if watch.pid == pid and watch.progspace != space and watch.in_registers and watch.on
            for piece in watch.pieces
        }

    def lost(self) -> int:
        """How many slots of the selected process gdb can give to nobody."""
        counted = self._counted.get(gdb.selected_inferior().pid)
        return len(counted - self._wanted()) if counted else 0

    def rearm(self) -> None:
        """Put into the registers what gdb believes to be there.  The process is stopped."""
        pid = gdb.selected_inferior().pid
        if pid not in self._empty:
            return
        # A thread made later gets the registers from gdb.
        with suppress(OSError):
            if ptrace.debug_registers(pid).pieces():
                del self._empty[pid]
            else:
                _fill(pid, self._wanted() or self._before(pid))

    def _wanted(self) -> set[Piece]:
        return {
            piece
            for watch in self.registry.here()
            if watch.in_registers and watch.armed and (watch.carried or watch.bp.enabled)
            for piece in watch.pieces
        }

    def _before(self, pid: int) -> set[Piece]:
        """Where the same program is not relocated yet: it may be where it was.  No event tells
        when a static one is (gdb 10 and 18)."""
        filename, pieces = self._empty[pid]
        return pieces if filename == programs.filename() else set()


def _fill(lwp: int, wanted: set[Piece]) -> None:
    pieces = dict(enumerate(sorted(wanted)))
    if not pieces or len(pieces) > SLOTS:
        return
    for slot, piece in pieces.items():
        if ptrace.poke_debug_register(lwp, slot, piece.address):
            return
    ptrace.poke_debug_register(lwp, CONTROL, control_of(pieces))
