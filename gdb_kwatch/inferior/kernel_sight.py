"""Kernel sight for gdb's own watchpoints (``set kwatch kernel on``): a second slot, perf's, beside
ptrace's, which counts the kernel's accesses alone.

gdb's watchpoint itself stays as it is.  One catchpoint for all of them gives control at a signal;
the watchpoints are judged by gdb's rules, as those are that gdb misses at a trap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gdb

from gdb_kwatch.core.debugreg import BY_PERF, KERNEL_ONLY, SLOTS, Piece
from gdb_kwatch.core.records import Region

from . import faults, gdbfacts
from .kernel_watch import Listed, make_catchpoint
from .watch import Watch
from .watches import Registry

FUNCTION = "_kernel_hit"
CONDITION = f'${FUNCTION}("a watchpoint of gdb\'s own")'


def marked_for_perf(regions: Iterable[Region], kernel_only: bool = False) -> frozenset[Piece]:
    """The pieces of regions, as perf holds them."""
    mark = BY_PERF | (KERNEL_ONLY if kernel_only else 0)
    return frozenset(
        Piece(p.address, p.length, p.rw | mark) for region in regions for p in region.pieces()
    )


class SightAsked(gdb.Function):
    """Whether a system call touched one of gdb's own watchpoints ('set kwatch kernel on')."""

    def __init__(self, answer: Callable[[], bool]) -> None:
        self.answer = answer
        super().__init__(FUNCTION)

    def invoke(self, *_: gdb.Value) -> bool:
        try:
            return self.answer()
        except Exception as error:
            faults.report("a kernel-mode hit", error)
            return True


class Sight:
    """The catchpoint, and who has the slots that are left."""

    def __init__(self, registry: Registry, answer: Callable[[], bool]) -> None:
        self.registry = registry
        self.catchpoint: gdb.Breakpoint | Listed | None = None
        self._answer = answer
        self._function: SightAsked | None = None
        self._told: set[int] = set()

    def candidates(self) -> list[Watch]:
        """gdb's own that could have it, by number."""
        found = [
            watch
            for watch in self.registry.watches.values()
            if watch.in_registers
            and watch.access != "execute"
            and watch.armed
            and watch.enabled
            and watch.pieces
            and self.registry.follows(watch)
        ]
        return sorted(found, key=lambda watch: watch.number)

    def serve(self) -> None:
        """Make the catchpoint where there is somebody to use it.  Not in a breakpoint event."""
        if self.catchpoint is not None or not self.candidates() or not gdbfacts.may_execute():
            return
        if self._function is None:
            self._function = SightAsked(self._answer)
        self.catchpoint = make_catchpoint()
        with gdbfacts.language("c"):
            self.catchpoint.condition = CONDITION

    def share_out(self, room: Callable[[Watch], int]) -> tuple[list[Watch], list[Watch]]:
        """Give the slots that are left to candidates, by number; those that are new to it, and
        those that are left without.  ``room``: for how many of perf's events there is any in the
        program of one."""
        for watch in self.registry.watches.values():
            watch.sight = frozenset()
        new, without = [], []
        used = {
            space: self.registry.pieces_of(space)
            for space in {watch.progspace for watch in self.registry.watches.values()}
        }
        for watch in self.candidates() if self.catchpoint is not None else ():
            pieces = marked_for_perf(watch.regions, kernel_only=True)
            held = len(used[watch.progspace]) + self.registry.slots.foreign_slots(watch.progspace)
            by_perf = sum(bool(p.rw & BY_PERF) for p in used[watch.progspace] | pieces)
            if held + len(pieces) > SLOTS or by_perf > room(watch):
                without.append(watch)
                continue
            used[watch.progspace] |= pieces
            watch.sight = pieces
            if watch.number not in self._told:
                self._told.add(watch.number)
                new.append(watch)
        return new, without

    def remove(self) -> None:
        """Nothing is left of it.  Not in a breakpoint event."""
        for watch in self.registry.watches.values():
            watch.sight = frozenset()
        catchpoint, self.catchpoint = self.catchpoint, None
        if catchpoint is not None and catchpoint.is_valid():
            catchpoint.delete()
        self._told.clear()

    def lend_commands(self, askers: Iterable[Watch]) -> None:
        """Have gdb run the commands of the watchpoints that stop, as the catchpoint's."""
        if not isinstance(self.catchpoint, gdb.Breakpoint):
            return
        texts = [watch.bp.commands for watch in askers if watch.bp.commands]
        lines: list[str] = []
        for text in texts:
            body = text.rstrip("\n").split("\n")
            lines += body[1:] if body[0].strip() == "silent" else body
        wanted = "\n".join(lines)
        if wanted or self.catchpoint.commands:
            self.catchpoint.commands = wanted
