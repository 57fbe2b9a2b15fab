"""``kwatch history`` and ``kwatch last``: what is known of a place, without running it again."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import gdb

from gdb_kwatch.core.records import USER, Hit
from gdb_kwatch.core.traces import Folded, folded
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.targets import target_of

from .places import place_of
from .report import count_of, fill_in
from .tables import table

if TYPE_CHECKING:
    from .trace import Tracing

_MOST = 200

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
        found = self._found(lambda hit: hit.number == number, places)
        return self._text(watch.expression, found)

    def last(self, expression: str) -> str:
        """Also what watchpoints saw that have been deleted since."""
        traced = self.trace.targets if self.trace is not None else []
        places = {target.region.address for target in traced if target.expression == expression}
        numbers: set[int] = set()
        if gdb.selected_inferior().pid:
            places.add(target_of(expression, "write").region.address)
            numbers = {
                watch.number
                for watch in self.session.registry.watches.values()
                if watch.regions and watch.regions[-1].address in places
            }

        def wanted(hit: Hit) -> bool:
            return hit.expression == expression or hit.number in numbers or hit.address in places

        return self._text(expression, self._found(wanted, places)[-1:], last=True)

    def _found(self, wanted: Callable[[Hit], bool], places: set[int]) -> list[Change]:
        found = _once(self._trapped(wanted), self._traced(places))
        if self.earlier:
            return found
        now = [change for change in found if not self._run(change)]
        self.left_out = len(found) - len(now)
        return now

    def _run(self, change: Change) -> int:
        """0 for the present run, or the last one; -1 for the one before it."""
        return self.session.runs.number(change[0], gdb.selected_inferior().num)

    def _trapped(self, wanted: Callable[[Hit], bool]) -> Iterator[Change]:
        history = self.session.engine.history
        for when, trap in zip(history.times(), history.last()):
            for hit in trap.hits:
                if not hit.changed or not wanted(hit):
                    continue
                fill_in(trap)
                place = place_of(trap)
                where = f"{place.short_file}:{place.line}" if place.line else place.symbol
                if trap.origin != USER:
                    where = trap.origin
                yield when, trap.thread, where or hex(trap.pc), hit.old or "", hit.new or ""

    def _traced(self, places: set[int]) -> Iterator[Change]:
        trace = self.trace
        if trace is None:
            return
        trace.drain()
        wanted = {n for n, t in enumerate(trace.targets) if t.region.address in places}
        for record, row in zip(trace.store.records(), trace.rows() if wanted else ()):
            if record.source in wanted and record.changed:
                thread = row.thread if row.thread is not None else row.lwp
                yield record.time, thread, row.where, row.old or "", row.new or ""

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
