"""What a trap means, worked out once and kept: who is in its way, and how their values are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import gdb

from gdb_kwatch.core.debugreg import Registers, blamed_slot
from gdb_kwatch.core.records import Touch
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .lvalues import Reading
from .sentinels import Pool
from .watch import Watch


class Plan:
    """What a trap means, worked out once: the watchpoints in its way, by number.

    ``crowded``: several sentinels will be asked about it.  ``words`` read the values of those
    that are fixed and short.  ``simple``: gdb will look at all that there is to see, so that the
    trap need only be taken down.  ``moving``: all of the program whose place may move.
    ``filtered``: -from or -not-from may leave some out.
    """

    __slots__ = ("crowded", "filtered", "merged", "moving", "only", "simple", "touches", "words")

    def __init__(
        self, touches: tuple[Touch, ...], crowded: bool, moving: Sequence[Watch] = ()
    ) -> None:
        self.touches = touches
        self.crowded = crowded
        self.moving = moving
        self.filtered = any(t.watch.only or t.watch.without for t in touches)
        self.merged = any(touch.watch.merged for touch in touches)
        self.words = [
            ptrace.Word(touch.value.address, touch.value.size)
            if touch.value is not None and touch.value.is_word
            else None
            for touch in touches
        ]
        word = self.words[0] if len(touches) == 1 else None
        self.only = (touches[0].watch, word) if word is not None else None
        self.simple = all(
            touch.blamed and not touch.watch.every and (touch.value is None or touch.value.fixed)
            for touch in touches
        )

    def read(self, inferior: gdb.Inferior, lwp: int) -> tuple[Sequence[Reading], Sequence[Reading]]:
        """Count a hit of each, and read its value: before, and now."""
        if self.only is not None:  # the common case, in few steps
            watch, word = self.only
            new = word.read(lwp)
            if new is not None:
                watch.hits += 1
                old = watch.before = watch.last
                watch.last = new
                return (old,), (new,)
        olds, news = [], []
        for touch, word in zip(self.touches, self.words):
            watch = touch.watch
            watch.hits += 1
            old = new = watch.before = watch.last
            if word is not None:
                new = word.read(lwp)
                if new is None:
                    new = touch.value.read(inferior)
                watch.last = new
            elif touch.value is not None:
                new = watch.last = touch.value.read(inferior)
            olds.append(old)
            news.append(new)
        return olds, news


def make_plan(
    registers: Registers, watches: Iterable[Watch], pool: Pool | None, moving: Sequence[Watch]
) -> Plan:
    """For the trap that ``registers`` tell of, and the watchpoints of its program."""
    hits = registers.hits()
    blamed = blamed_slot(hits)
    where = registers.addresses[blamed] if blamed is not None else None
    touches = []
    for watch in sorted(watches, key=lambda w: w.number):
        slots = tuple(slot for slot, piece in hits.items() if piece in watch.pieces)
        if not slots:
            continue
        execute = watch.access == "execute"
        touches.append(
            Touch(
                watch,
                watch.number,
                watch.expression,
                slots,
                *watch.regions[-1][:2],
                watch.access,
                execute or (where is not None and not watch.carried and gdb_looks_at(watch, where)),
                None if execute else watch.lvalue,
            )
        )
    sentinels = pool.at(where) if pool is not None and where is not None else 0
    return Plan(tuple(touches), sentinels > 1, moving)


def gdb_looks_at(watch: Watch, address: int) -> bool:
    """Whether gdb has a location there, so that it checks the watchpoint when it blames it."""
    there = gdbfacts.location_addresses(watch.bp)
    return any(
        region.covers(address) and (not there or region.address in there)
        for region in watch.regions
    )
