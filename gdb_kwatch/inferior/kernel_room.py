"""For how many of perf's events there is room on a thread besides gdb's own watchpoints.

gdb puts these into the lowest registers, at each resume anew, and one that ptrace was given once
stays reserved (`linux.slots`).  Where the two are not the same ones there is less room than what is
in use lets expect: gdb could not resume the program any more ("No space left on device").
"""

from __future__ import annotations

from functools import cached_property

import gdb

from gdb_kwatch.core.debugreg import SLOTS, Piece
from gdb_kwatch.linux import slots

from . import gdbfacts
from .thread_events import ThreadEvents
from .watches import Registry

NOTHING: frozenset[Piece] = frozenset()


class Rooms:
    """As things are now: what was asked for once is kept."""

    def __init__(self, registry: Registry, events: ThreadEvents) -> None:
        self.registry = registry
        self.events = events
        self._counts: dict[gdb.Progspace | None, int] = {}
        self._found: dict[int, int] = {}

    def on(self, lwp: int, space: gdb.Progspace | None, new: frozenset[Piece] = NOTHING) -> int:
        """On a thread; of its program there may come ``new`` events of perf's."""
        if lwp in self._found and not new:
            return self._found[lwp]
        foreign = self.registry.slots.foreign_slots(space) if space is not None else 0
        left = max(SLOTS - foreign, 0)
        # Who is to go for what is new may still be there.
        count = min(self.count(space), max(left - len(self.events.on(lwp) | new), 0))
        try:
            room = max(left - slots.reserved(lwp, count, self._stay), 0)
        except OSError:
            room = SLOTS
        if not new:
            self._found[lwp] = room
        return room

    def count(self, space: gdb.Progspace | None) -> int:
        """How many slots gdb's own watchpoints of a program take."""
        if space not in self._counts:
            there = [w for w in self.registry.owners() if w.in_registers and w.progspace == space]
            pieces = {p for w in there if w.enabled and not w.waits for p in w.pieces}
            self._counts[space] = len(pieces)
        return self._counts[space]

    @cached_property
    def _stay(self) -> bool:
        return gdbfacts.inserts_at_once()
