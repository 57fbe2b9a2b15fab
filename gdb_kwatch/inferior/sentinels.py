"""Sentinels: the hidden watchpoints that give control at every trap.

A sentinel stands on the same piece (address, length, access) as a slot, so gdb shares the slot
with it (reference count of ``x86_insert_aligned_watchpoint``).  Whichever address gdb blames, the
sentinel there is checked and its `stop` is called; returning True stops, also where gdb would
have gone on.

- A write sentinel's expression never has the same value twice: a tick plus the lvalue, which
  stands in the value chain so that gdb watches it.  What is added is not the watched value (then
  ``a--`` would cancel the tick) but what the memory held when the sentinel was aimed.  Idle, it
  has no lvalue and so is a disabled software watchpoint, which gdb does not even evaluate.
- An access watchpoint must always have an lvalue: gdb refuses one without memory.  So an idle one
  would be evaluated all the same, at 5 us a trap and more, and none is kept idle: they are made
  when needed, at the next place where that is safe (`Pool.serve`).
- The lvalues are gdb.Values that were fetched once, and both functions answer without running
  Python code: gdb evaluates the sentinel that is hit three times a trap (`watchpoint_check`, then
  `update_watchpoint` in `bpstat_stop_status` and in `insert_breakpoints`), the others once.  One
  sentinel with four lvalues was tried: dearer, as it is always the one that is hit.

Creating a breakpoint inside ``breakpoint_created`` aborts gdb 16.3 and 18.1, deleting one inside
``breakpoint_deleted`` crashes 13.1: so there is a pool for each program space, made at load or in
its ``new_objfile``, and handlers only aim and switch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count, repeat

import gdb

from gdb_kwatch.core.debugreg import READ_WRITE, SLOTS, WRITE, Piece

from . import programs
from .gdbfacts import can_enable, inserts_at_once, memory_lvalue

# Raised by each evaluation of a write sentinel, and by whoever asks.
tick = count(1).__next__


# The order in which breakpoints were made, sentinels and others.
next_made = count(1).__next__


# The first lines of these two are what ``help function`` and ``apropos kwatch`` show.


class Tick(gdb.Function):
    """Internal to kwatch: a part of its hidden watchpoints.  Never the same value twice."""

    def __init__(self) -> None:
        super().__init__("_kwatch_tick")
        self.invoke = tick


class Slot(gdb.Function):
    """Internal to kwatch: a part of its hidden watchpoints.  The memory that one stands on, or 0.

    Like `Tick`, it answers without running any Python code: a third of what a call costs."""

    unused: list[Slot] = []
    made = 0

    def __init__(self) -> None:
        Slot.made += 1
        self.name = f"_kwatch_slot{Slot.made}"
        super().__init__(self.name)
        self.free()

    def free(self, parked: gdb.Value | None = None) -> None:
        self.holds = False
        self.invoke = repeat(0 if parked is None else parked).__next__

    def hold(self, piece: Piece) -> None:
        """Stand for ``piece``, where its memory can be read: gdb's own watchpoint has no slot
        elsewhere either.  Where it cannot, the memory of before is still the answer: after ``file``
        gdb evaluates an access watchpoint that is off too, and complains by its number of one
        without memory (``breakpoint_re_set``)."""
        lvalue = memory_lvalue(piece.address, piece.length)
        try:
            lvalue.fetch_lazy()
        except gdb.error:
            self.holds = False
            return
        self.holds = True
        self.invoke = repeat(lvalue).__next__

    @classmethod
    def take(cls) -> Slot:
        """One that no sentinel uses; gdb cannot forget a function."""
        return cls.unused.pop() if cls.unused else cls()

    def give_back(self) -> None:
        self.free()
        Slot.unused.append(self)


class Sentinel(gdb.Breakpoint):
    """One hidden watchpoint.  ``piece`` is what it stands on; None while it is idle."""

    decide: Callable[[Sentinel], bool]

    def __init__(
        self, write: bool, piece: Piece | None = None, parked: gdb.Value | None = None
    ) -> None:
        self.write = write
        self.parked = parked
        self.made = next_made()
        self.space = programs.selected()  # gdb puts it there, for good
        self.leaving = False
        self.on = False
        self.slot = Slot.take()
        self.piece = piece
        self._hold()
        try:
            super().__init__(
                f"$_kwatch_tick() + ${self.slot.name}()",
                type=gdb.BP_WATCHPOINT,
                wp_class=gdb.WP_WRITE if write else gdb.WP_ACCESS,
                internal=True,
            )
        except gdb.error:
            # gdb may have made it all the same, and failed to insert what is in the way.
            self.discard()
            raise
        # It stays noisy: a silent one that stops would leave gdb without a frame line (hooks).
        self.enabled = False
        # Not a method: one call of Python's less at each trap.
        self.stop = functools.partial(Sentinel.decide, self)
        self._switch_on()

    def _hold(self) -> None:
        if self.piece is not None:
            self.slot.hold(self.piece)
        if self.write and (self.piece is None or not self.slot.holds):
            self.slot.free(self.parked)

    def _is_gone(self) -> bool:
        return self.leaving or not self.is_valid()

    def aim(self, piece: Piece | None) -> None:
        """Stand on ``piece``; None: go idle.  Safe in every handler and in `stop`."""
        self.piece = piece
        if self._is_gone():
            return  # the one that is made in its place will (`Pool.renew`, `Session.at_robbed`)
        if self.on or self.enabled:
            # Not by .enabled alone: it is False, and True again later, while gdb calls a function
            # of the program's (`disable_watchpoints_before_interactive_call_start`).
            self.enabled = self.on = False
        self._hold()
        self._switch_on()

    def _switch_on(self) -> None:
        if self.piece is None or not self.slot.holds or not can_enable():
            return
        try:
            self.enabled = True
        except gdb.error:
            return  # the next stop tries again
        self.on = self.type != gdb.BP_WATCHPOINT
        if not self.on:
            # Software: gdb would single-step the program for it (can-use-hw-watchpoints 0).
            self.enabled = False

    def park(self, parked: gdb.Value | None) -> None:
        """What it is to stand for while it is idle; see `Pool.park`."""
        self.parked = parked
        if self.piece is not None or self._is_gone():
            return
        self._hold()
        if parked is not None and self.write and self.type == gdb.BP_WATCHPOINT:
            with suppress(gdb.error):  # no slot, where gdb inserts it at once
                self.enabled = True
            self.enabled = False

    def refresh(self) -> None:
        """Enable it again where an earlier attempt was refused."""
        if self.piece is not None and not self._is_gone() and not self.enabled:
            self.aim(self.piece)

    def remove(self) -> None:
        """Delete it, known to be kwatch's own doing."""
        self.leaving = True
        if self.is_valid():
            self.delete()

    def discard(self) -> None:
        """Take it out for good.  Not in `stop` nor in breakpoint_deleted."""
        self.remove()
        self.slot.give_back()


class Pool:
    """The sentinels of one program space."""

    def __init__(self, parked: bool = False) -> None:
        """Raises gdb.error where nothing can be made now; then nothing is left behind."""
        self.sentinels: list[Sentinel] = []
        self.parked = _memory_to_park() if parked else None
        self._unserved: set[Piece] = set()
        try:
            for _ in range(SLOTS):
                self.sentinels.append(Sentinel(write=True, parked=self.parked))
        except gdb.error:
            self.discard()
            raise

    def at(self, address: int) -> int:
        """How many sentinels stand there: gdb checks each whose location holds what it blames."""
        return sum(
            s.piece is not None and s.piece.address <= address < s.piece.address + s.piece.length
            for s in self.sentinels
        )

    def aim(self, pieces: Iterable[Piece]) -> None:
        """Stand on exactly ``pieces``, at most four of them."""
        wanted = set(pieces)
        for sentinel in self.sentinels:
            if sentinel.piece in wanted:
                wanted.remove(sentinel.piece)
                sentinel.refresh()
            elif sentinel.piece is not None:
                sentinel.aim(None)
        self._unserved = set()
        for piece in sorted(wanted):
            write = piece.rw == WRITE
            idle = next((s for s in self.sentinels if s.piece is None and s.write == write), None)
            if idle is not None:
                idle.aim(piece)
            else:
                self._unserved.add(piece)

    def park(self, parked: bool) -> None:
        """Whether those that are idle are to have a location somewhere in memory.

        One without memory has one at address 0 (`add_dummy_location`).  Where the user's stands
        there too, behind a null pointer, and gdb has more than 16 locations to sort, it reads
        beyond their end: each of the two is less than the other, one by the kind of its location
        and one by its number (`bp_location_is_less_than`; 10 to 18).  But gdb evaluates those that
        have one at each resume, so they have none otherwise.
        """
        if parked == (self.parked is not None):
            return
        self.parked = _memory_to_park() if parked else None
        for sentinel in self.sentinels:
            sentinel.park(self.parked)

    def keep(self, pieces: Iterable[Piece]) -> None:
        """Stand on none but ``pieces``, while another program space is current: gdb puts no
        watchpoint anywhere else then."""
        wanted = set(pieces)
        for sentinel in self.sentinels:
            if sentinel.piece is not None and sentinel.piece not in wanted:
                sentinel.aim(None)

    @property
    def lacking(self) -> bool:
        """Whether `aim` found one missing, which `serve` is to make."""
        return bool(self._unserved)

    def serve(self, accesses: int = 0) -> None:
        """Make the sentinels that `aim` found missing, and have ``accesses`` of that kind, busy or
        idle.  Not in a handler of a breakpoint event, not in `stop`."""
        for piece in sorted(self._unserved):
            self._make(piece)
        self._unserved = set()
        surplus = sum(not s.write for s in self.sentinels) - accesses
        for sentinel in [s for s in self.sentinels if s.piece is None and not s.write]:
            if surplus > 0:
                surplus -= 1
                sentinel.discard()
                self.sentinels.remove(sentinel)
        for _ in range(-surplus):
            made = self._make(_any_memory())
            if made is not None:
                made.aim(None)

    def _make(self, piece: Piece | None) -> Sentinel | None:
        """None where its memory cannot be read: gdb's own has no slot either."""
        if piece is None:
            return None
        try:
            made = Sentinel(piece.rw == WRITE, piece, self.parked)
        except gdb.error:
            return None
        self.sentinels.append(made)
        return made

    def withdraw_accesses(self) -> None:
        """At ``can-use-hw-watchpoints`` 0 gdb complains of each access watchpoint by its number
        when it reads symbols (``breakpoint_re_set``).  Not in a breakpoint event."""
        for sentinel in [s for s in self.sentinels if not s.write]:
            sentinel.discard()
            self.sentinels.remove(sentinel)

    def renew(self, sentinel: Sentinel) -> None:
        """Put a new sentinel in the place of one that may be gone; the new one comes last in
        gdb's order of checking.  Not in a handler of a breakpoint event, not in `stop`."""
        if sentinel not in self.sentinels:
            return
        place = self.sentinels.index(sentinel)
        sentinel.discard()
        try:
            self.sentinels[place] = Sentinel(sentinel.write, sentinel.piece, self.parked)
        except gdb.error:  # ``breakpoint always-inserted``, and no slot: it is tried again
            del self.sentinels[place]
            if sentinel.piece is not None:
                self._unserved.add(sentinel.piece)

    def is_valid(self) -> bool:
        """False once gdb has taken the program space away, sentinels and all."""
        return all(s.is_valid() for s in self.sentinels)

    def discard(self) -> None:
        for sentinel in self.sentinels:
            sentinel.discard()
        self.sentinels.clear()


def _any_memory() -> Piece | None:
    """For an access sentinel to begin with: gdb makes none without memory."""
    try:
        return Piece(int(gdb.parse_and_eval("$sp")) & -8, 8, READ_WRITE)
    except gdb.error:
        return None


def _memory_to_park() -> gdb.Value | None:
    """What idle sentinels stand for while they are parked.  None where gdb would give each a slot
    for a moment, or could enable none."""
    piece = _any_memory() if can_enable() and not inserts_at_once() else None
    if piece is None:
        return None
    lvalue = memory_lvalue(piece.address, piece.length)
    try:
        lvalue.fetch_lazy()
    except gdb.error:
        return None
    return lvalue


def define_functions() -> None:
    """Register what the sentinels' expressions call, besides the slots."""
    Tick()
