"""``kwatch history`` and ``kwatch last``: what is known of a place, without running it again."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import gdb

from gdb_kwatch.core.exports import Row
from gdb_kwatch.core.records import USER, Hit, Trap
from gdb_kwatch.core.traces import Folded, Record, folded
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.targets import Target, target_of

from .places import place_of
from .report import count_of, fill_in
from .tables import table

if TYPE_CHECKING:
    from .trace import Tracing

_MOST = 200

Texts = tuple[str, str]  # old and new
Change = tuple[int, int, str, str, str]  # time, thread, where, old, new


class Changes:
    """The changes of watchpoints and traces."""

    def __init__(self, session: Session, tracing: Tracing | None, earlier: bool = False) -> None:
        """``earlier``: those of earlier runs as well."""
        self.session = session
        self.earlier = earlier
        self.left_out = 0  # changes of earlier runs
        self.trace = tracing.trace if tracing is not None else None

    def of_watch(self, number: int) -> str:
        watch = self.session.registry.watches.get(number)
        if watch is None:
            raise gdb.GdbError(f"No hardware watchpoint number {number}.")
        # A disabled one watches nothing, and is traced all the same.
        there = watch.regions or (watch.lvalue.regions if watch.lvalue is not None else ())
        places = {region.address for region in there[-1:]}

        def of_hit(trap: Trap, hit: Hit) -> Texts | None:
            return _of_hit(trap, hit) if hit.number == number else None

        return self._text(
            watch.expression,
            self._found(of_hit, lambda target: target.region.address in places, _of_row),
        )

    def last(self, expression: str) -> str:
        """Also what watchpoints saw that have been deleted since; and what was seen of its parts,
        or of what it is a part of."""
        asked = target_of(expression, "write") if gdb.selected_inferior().pid else None

        def of_hit(trap: Trap, hit: Hit) -> Texts | None:
            if hit.expression == expression:
                return _of_hit(trap, hit)
            values = _bytes_of(hit)
            if asked is None or values is None:
                return None
            return _part(asked, hit.address, values, hit.expression, lambda: _of_hit(trap, hit))

        def of_target(target: Target) -> bool:
            region = target.region
            return target.expression == expression or (
                asked is not None and asked.overlaps(region.address, region.length)
            )

        def of_row(target: Target, record: Record, row: Row) -> Texts | None:
            if record.old is None or record.new is None:
                return _of_row(target, record, row)
            size, address = target.region.length, target.region.address
            of = target if target.expression == expression or asked is None else asked
            values = record.old[:size], record.new[:size]
            return _part(of, address, values, target.expression, lambda: _texts(row))

        found = self._found(of_hit, of_target, of_row)
        return self._text(expression, found[-1:], last=True)

    def _found(
        self,
        of_hit: Callable[[Trap, Hit], Texts | None],
        of_target: Callable[[Target], bool],
        of_row: Callable[[Target, Record, Row], Texts | None],
    ) -> list[Change]:
        found = _once(self._trapped(of_hit), self._traced(of_target, of_row))
        if self.earlier:
            return found
        now = [change for change in found if not self._run(change)]
        self.left_out = len(found) - len(now)
        return now

    def _run(self, change: Change) -> int:
        """0 for the present run, or the last one; -1 for the one before it."""
        return self.session.runs.number(change[0], gdb.selected_inferior().num)

    def _trapped(self, of_hit: Callable[[Trap, Hit], Texts | None]) -> Iterator[Change]:
        history = self.session.engine.history
        for when, trap in zip(history.times(), history.last()):
            for hit in trap.hits:
                texts = of_hit(trap, hit) if hit.changed else None
                if texts is None:
                    continue
                place = place_of(trap)
                where = f"{place.short_file}:{place.line}" if place.line else place.symbol
                if trap.origin != USER:
                    where = trap.origin
                yield when, trap.thread, where or hex(trap.pc), *texts

    def _traced(
        self,
        of_target: Callable[[Target], bool],
        of_row: Callable[[Target, Record, Row], Texts | None],
    ) -> Iterator[Change]:
        trace = self.trace
        if trace is None:
            return
        trace.drain()
        wanted = {n: t for n, t in enumerate(trace.targets) if of_target(t)}
        for record, row in zip(trace.store.records(), trace.rows() if wanted else ()):
            if record.source not in wanted or not record.changed:
                continue
            target, values = wanted[record.source], (record.old, record.new)
            if None not in values and not target.changed(*values):
                continue  # the bits beside it
            texts = of_row(target, record, row)
            if texts is not None:
                thread = row.thread if row.thread is not None else row.lwp
                yield record.time, thread, row.where, *texts

    def _text(self, expression: str, changes: list[Change], last: bool = False) -> str:
        text = ""
        if self.left_out and not last:
            text = f"{count_of(self.left_out, 'change')} of earlier runs left out (-all)\n"
        if not changes:
            none = f"No change of {expression} was recorded (kwatch {expression}, kwatch trace).\n"
            return none + text
        rows: list[Folded] = []
        runs: list[str] = []
        for run, ofs in groupby(changes, self._run):
            one = folded(iter(ofs))
            rows += one
            runs += [str(run or "this")] * len(one)
        if len(rows) > _MOST:
            text += f"{count_of(len(rows) - _MOST, 'earlier row')} left out\n"
        now = time.monotonic_ns()
        lines = [self._row(row, now) for row in rows[-_MOST:]]
        head = ["Seconds ago", "Thread", "Where", "Old", "New", ""]
        if len(set(runs)) > 1:
            head = ["Run", *head]
            lines = [[run, *line] for run, line in zip(runs[-_MOST:], lines)]
        return table(head, lines) + "\n" + text

    def _row(self, row: Folded, now: int) -> list[str]:
        times = f"{row.times} times" if row.times > 1 else ""
        ago = f"{(now - row.time) / 1e9:.6f}"
        return [ago, str(row.thread), row.where, row.old, row.new, times]


def _texts(one: Hit | Row) -> Texts:
    return one.old or "", one.new or ""


def _of_hit(trap: Trap, hit: Hit) -> Texts:
    fill_in(trap)
    return _texts(hit)


def _of_row(target: Target, record: Record, row: Row) -> Texts:
    return _texts(row)


def _bytes_of(hit: Hit) -> tuple[bytes, bytes] | None:
    """What stood there before a hit, and what after it."""
    lvalue, *readings = hit.raw or (None,)
    found = []
    for reading in readings:
        if isinstance(reading, int) and lvalue is not None and lvalue.bits is None:
            reading = reading.to_bytes(max(lvalue.size, hit.size), "little")
        if isinstance(reading, bytes):
            found.append(reading[: hit.size])
    return (found[0], found[1]) if len(found) == 2 else None


def _part(
    asked: Target, address: int, values: tuple[bytes, bytes], name: str, whole: Callable[[], Texts]
) -> Texts | None:
    """What a change of the bytes at ``address``, which are ``name``, was to what is asked for; None
    where it was none."""
    old, new = (asked.part(address, value) for value in values)
    if old is not None and new is not None:
        if not asked.changed(old, new):
            return None
        return whole() if name == asked.expression else (asked.text(old), asked.text(new))
    if not asked.overlaps(address, len(values[0])) or values[0] == values[1]:
        return None
    before, after = whole()
    return f"{name}: {before}", after


def _once(trapped: Iterable[Change], traced: Iterable[Change]) -> list[Change]:
    """Both in order, without the trapped ones that the trace has as well: a trap comes right after
    the record of the same access, before its thread can make another one."""
    records: dict[int, list[Change]] = {}
    for record in sorted(traced):
        records.setdefault(record[1], []).append(record)
    found = [record for thread in records.values() for record in thread]
    times = {thread: [record[0] for record in mine] for thread, mine in records.items()}
    taken: set[Change] = set()
    for change in sorted(trapped):
        when, thread, _, old, new = change
        before = bisect.bisect_right(times.get(thread, []), when) - 1
        record = records[thread][before] if before >= 0 else None
        if record is None or record in taken or record[3:] != (old, new):
            found.append(change)
        else:
            taken.add(record)
    return sorted(found)
