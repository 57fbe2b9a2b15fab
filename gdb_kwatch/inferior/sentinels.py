"""Sentinels: the hidden watchpoints that give control at every trap.

A sentinel stands on the same piece (address, length, access) as a slot, so gdb shares the slot
with it (reference count of ``x86_insert_aligned_watchpoint``).  Whichever address gdb blames, the
sentinel there is checked and its `stop` is called; returning True stops, also where gdb would
have gone on.

- A write sentinel's expression never has the same value twice: a tick plus 0 times the lvalue,
  which stands in the value chain so that gdb watches it.  Adding the value itself would let
  ``a--`` cancel the tick.  Idle, it has no lvalue and so is a disabled software watchpoint, which
  gdb does not even evaluate.
- An access watchpoint is checked whether or not its value changed: the lvalue alone will do.  It
  must always have one: gdb refuses an access watchpoint without memory.  So an idle one would be
  evaluated all the same, at 5 us a trap and more, and none is kept idle: they are made when
  needed, at the next place where that is safe (`Pool.serve`).
- The lvalues are gdb.Values kept from when the sentinel was aimed: what they hold does not matter,
  and gdb evaluates each expression three times a trap (`watchpoint_check`, then
  `update_watchpoint` in `bpstat_stop_status` and in `insert_breakpoints`).

Creating a breakpoint inside ``breakpoint_created`` aborts gdb 16.3 and 18.1, deleting one inside
``breakpoint_deleted`` crashes 13.1: so there is a pool for each program space, made at load or in
its ``new_objfile``, and handlers only aim and switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gdb

from gdb_kwatch.core.debugreg import SLOTS, WRITE, Piece

from .gdbfacts import memory_lvalue

_by_index: dict[int, Sentinel] = {}
_ticks = 0


class Tick(gdb.Function):
    """Internal to kwatch: never the same value twice."""

    def __init__(self) -> None:
        super().__init__("_kwatch_tick")

    def invoke(self) -> int:
        global _ticks
        _ticks += 1
        return _ticks


class Slot(gdb.Function):
    """Internal to kwatch: the memory that a sentinel stands on.  It never raises."""

    def __init__(self) -> None:
        super().__init__("_kwatch_slot")

    def invoke(self, index: gdb.Value) -> gdb.Value | int:
        sentinel = _by_index.get(int(index))
        if sentinel is None:
            return 0
        sentinel.evaluated += 1
        return sentinel.lvalue


class Sentinel(gdb.Breakpoint):
    """One hidden watchpoint.  ``piece`` is what it stands on; None while it is idle."""

    decide: Callable[[Sentinel], bool]

    def __init__(self, write: bool, piece: Piece | None = None) -> None:
        self.write = write
        self.piece = piece
        self.evaluated = 0  # how often gdb has asked for its value
        self.index = max(_by_index, default=0) + 1
        self.lvalue = self._lvalue_of(piece)
        _by_index[self.index] = self
        slot = f"$_kwatch_slot({self.index})"
        expression = f"$_kwatch_tick() + 0 * {slot}" if write else slot
        wp_class = gdb.WP_WRITE if write else gdb.WP_ACCESS
        super().__init__(expression, type=gdb.BP_WATCHPOINT, wp_class=wp_class, internal=True)
        # It stays noisy: a silent one that stops would leave gdb without a frame line (stophook).
        self.enabled = False
        self._switch_on()

    def _lvalue_of(self, piece: Piece | None) -> gdb.Value | int:
        if piece is None:
            return 0 if self.write else memory_lvalue(0, 1)
        lvalue = memory_lvalue(piece.address, piece.length)
        try:
            lvalue.fetch_lazy()
        except gdb.error:
            # Unreadable now.  The head of a value chain is watched even so; a write sentinel
            # needs a fetched one, and gdb's own watchpoint there is software as well.
            if self.write:
                return 0
        return lvalue

    def aim(self, piece: Piece | None) -> None:
        """Stand on ``piece``; None: go idle.  Safe in every handler and in `stop`."""
        if self.enabled:
            self.enabled = False
        self.evaluated += 1
        self.piece = piece
        self.lvalue = self._lvalue_of(piece)
        self._switch_on()

    def _switch_on(self) -> None:
        if self.piece is None or isinstance(self.lvalue, int):
            return
        try:
            self.enabled = True
        except gdb.error:
            return  # 10.1 and 13.1 while the selected thread runs; the next stop tries again
        if self.type == gdb.BP_WATCHPOINT:
            # Software: gdb would single-step the program for it (can-use-hw-watchpoints 0).
            self.enabled = False

    def refresh(self) -> None:
        """Enable it again where an earlier attempt was refused."""
        if self.piece is not None and not self.enabled:
            self.aim(self.piece)

    def discard(self) -> None:
        """Take it out for good.  Not in `stop` nor in breakpoint_deleted."""
        self.evaluated += 1
        _by_index.pop(self.index, None)
        if self.is_valid():
            self.delete()

    def stop(self) -> bool:
        if self.piece is None:
            return False
        return Sentinel.decide(self)


class Pool:
    """The sentinels of one program space."""

    def __init__(self) -> None:
        self.sentinels: list[Sentinel] = [Sentinel(write=True) for _ in range(SLOTS)]

    def on(self, piece: Piece) -> Sentinel | None:
        """The sentinel that stands on ``piece``."""
        return next((s for s in self.sentinels if s.piece == piece), None)

    def aim(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Stand on exactly ``pieces``; returns those for which no sentinel was left."""
        wanted = set(pieces)
        for sentinel in self.sentinels:
            if sentinel.piece is None:
                continue
            if sentinel.piece in wanted:
                wanted.remove(sentinel.piece)
                sentinel.refresh()
            else:
                sentinel.aim(None)
        left = []
        for piece in sorted(wanted):
            idle = [s for s in self.sentinels if s.piece is None and s.write == (piece.rw == WRITE)]
            if idle:
                idle[0].aim(piece)
            else:
                left.append(piece)
        return left

    def serve(self, pieces: Iterable[Piece]) -> None:
        """Make sentinels for ``pieces``, and take out idle access ones.  Not in a handler of a
        breakpoint event, not in `stop`."""
        idle = [s for s in self.sentinels if s.piece is None and not s.write]
        for sentinel in idle:
            sentinel.discard()
        self.sentinels = [s for s in self.sentinels if s not in idle]
        for piece in pieces:
            if self.on(piece) is None:
                self.sentinels.append(Sentinel(piece.rw == WRITE, piece))

    def renew(self, sentinel: Sentinel) -> None:
        """Put a new sentinel in the place of one that may be gone; the new one comes last in
        gdb's order of checking.  Not in a handler of a breakpoint event, not in `stop`."""
        if sentinel not in self.sentinels:
            return
        sentinel.discard()
        self.sentinels[self.sentinels.index(sentinel)] = Sentinel(sentinel.write, sentinel.piece)

    def is_valid(self) -> bool:
        """False once gdb has taken the program space away, sentinels and all."""
        return all(s.is_valid() for s in self.sentinels)

    def discard(self) -> None:
        for sentinel in self.sentinels:
            sentinel.discard()
        self.sentinels.clear()


def define_functions() -> None:
    """Register what the sentinels' expressions call."""
    Tick()
    Slot()


