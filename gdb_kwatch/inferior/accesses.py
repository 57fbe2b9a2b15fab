"""Who touches a place: one row for each accessing instruction, kept by the kernel while the program
runs at full speed; without the rights for that, by stops that go on by themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

import gdb

from gdb_kwatch.core import filters
from gdb_kwatch.core.access_words import AccessRequest
from gdb_kwatch.core.conditions import Node
from gdb_kwatch.core.filters import RowLayout, Source
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import TOUCHES, Quiet
from gdb_kwatch.core.traces import Accessor, accessors
from gdb_kwatch.linux import bpf, perf_event, registers
from gdb_kwatch.linux import filters as kernel
from gdb_kwatch.linux.filters import Filter

from .access_conditions import AccessCondition
from .background import Background
from .code_ranges import code_ranges
from .following import Following
from .kernel_callers import program_ranges
from .left_out import Ranges, counts
from .lost_traps import touches
from .lvalues import Reading
from .session import Session
from .setting import set_watch
from .targets import Target, backtrace

NAME = "kwatch who"
FRAMES = 16


class Watcher(Protocol):
    """What keeps the rows.  ``label`` says how; ``missing`` why not better."""

    label: str
    missing: str

    def rows(self) -> list[Accessor]: ...
    def hits(self) -> int: ...
    def lost(self) -> int: ...

    def seen(self) -> int:
        """Accesses, those too that were left out."""

    def state(self) -> int:
        """`filters.STATE`: why the kernel could not test a condition; 0 where it could."""

    def close(self) -> None: ...


class InKernel:
    """A BPF program keeps the rows; nothing stops."""

    label = "in the kernel"
    missing = ""

    def __init__(
        self,
        session: Session,
        target: Target,
        request: AccessRequest,
        condition: AccessCondition,
        ranges: tuple[Ranges, Ranges],
        node: Node | None,
    ) -> None:
        """Raises OSError where it cannot be had."""
        self.target = target
        only, without = ranges
        program = program_ranges(gdb.selected_inferior().pid) if request.kernel else ()
        place = target.region.address, target.region.length
        source = Source(*place, only, without, condition=node, program=tuple(program))
        self.layout = layout = RowLayout(source.value_size, FRAMES)
        self.filter = Filter(
            source,
            lambda source, able: filters.counting(source, able, layout),
            layout.size,
            rw=target.region.rw,
            kernel_too=request.kernel,
            value=target.now(),
        )
        self.session, self.ranges, self.condition = session, ranges, condition
        self._found: dict[int, Accessor] = {}
        condition.have_there(gdb.selected_inferior().pid)
        try:
            self.filter.put_on_all(t.ptid[1] for t in gdb.selected_inferior().threads())
        except BaseException:
            self.filter.close()
            raise
        session.lost_traps.join(NAME, self._found_by_stop)
        self._lwps: dict[int, list[int]] = {gdb.selected_inferior().pid: list(self.filter.events)}
        self.following = Following(self._came, self._went)

    def _came(self, pid: int, lwps: list[int]) -> None:
        """A child that gdb follows: its accesses are counted in the same rows."""
        self._lwps[pid] = lwps
        self.condition.have_there(pid)
        try:
            self.filter.put_on_all(lwps)
        except perf_event.PerfError as error:
            self.session.reporter.warn(f"{NAME}: not process {pid}: {error.strerror}")

    def _went(self, pid: int, why: str) -> None:
        """Counted is counted; what gdb lets go of is left alone."""
        self.filter.take_off(self._lwps.pop(pid))

    def _found_by_stop(self, lwp: int, pc: int) -> bool:
        """See `lost_traps`: whether this hit is one of ours; it is counted then."""
        if not touches(pc, self.target.region):
            return False
        value = self.target.now()
        memory = self.filter.memory  # no thread runs now: it can be written
        old = memory.data[filters.OLD : filters.OLD + len(value)]
        if counts(pc, self.ranges) and self.condition.holds(self.target, old, value):
            now = time.monotonic_ns()
            row = self._found.get(pc)
            if row is None:
                row = self._found[pc] = Accessor(
                    pc, False, first_time=now, first_new=value, stack=backtrace(FRAMES)
                )
            row.hits += 1
            row.threads[lwp] += 1
            row.changes += old != value
            row.last_time, row.last_thread, row.last_new = now, lwp, value
            row.registers = registers.read(lwp).values
            memory.set_word(filters.TAKEN, memory.word(filters.TAKEN) + 1)
        memory.data[filters.OLD : filters.OLD + len(value)] = value
        return True

    def rows(self) -> list[Accessor]:
        data = self.filter.memory.data[: self.layout.size]
        rows = accessors(data, self.layout, self.target.region.length)
        there = {row.ip: row for row in rows if not row.kernel}
        for ip, found in list(self._found.items()):
            row = there.get(ip)
            if row is None:
                rows.append(found)
            else:
                row.hits += found.hits
                row.changes += found.changes
                row.threads.update(found.threads)
        return rows

    def hits(self) -> int:
        return self.filter.word(filters.TAKEN)

    def lost(self) -> int:
        return self.filter.word(filters.LOST)

    def seen(self) -> int:
        return self.filter.hits()

    def state(self) -> int:
        return self.filter.word(filters.STATE)

    def close(self) -> None:
        self.following.close()
        self.session.lost_traps.leave(NAME)
        self.filter.close()


class Observer:
    """Sees each trap that touches one watchpoint, as it is taken down."""

    def __init__(self, session: Session, number: int, see: Callable[[Quiet, int], None]) -> None:
        self.number = number
        self.session = session
        self.history = session.engine.history
        self._add = self.history.add
        self.see = see
        self._last, self._shortest = 0, 0  # between two hits, in nanoseconds
        self.history.add = self._record  # type: ignore[method-assign]

    @property
    def cost(self) -> str:
        """What a hit costs at most, in words: the program itself takes time between two."""
        return f": {self._shortest / 1e3:,.0f} µs a hit" if self._shortest else ""

    def _record(self, record: Any) -> None:
        self._add(record)
        if isinstance(record, tuple):
            for n, touch in enumerate(record[TOUCHES]):
                if touch.number == self.number:
                    now = time.monotonic_ns()
                    if self._last:
                        self._shortest = min(self._shortest or now, now - self._last)
                    self._last = now
                    self.see(record, n)

    def close(self) -> None:
        self.history.add = self._add  # type: ignore[method-assign]


def as_bytes(reading: Reading, size: int) -> bytes:
    if isinstance(reading, int):
        return reading.to_bytes(max(size, 8), "little")[:size]
    return bytes(reading) if isinstance(reading, bytes) else b""


class ByStops:
    """gdb stops at each hit and goes on: the same rows, slowly."""

    label = "slow"

    def __init__(
        self,
        session: Session,
        target: Target,
        request: AccessRequest,
        condition: AccessCondition,
        ranges: tuple[Ranges, Ranges],
        missing: str,
    ) -> None:
        self.session = session
        self.target = target
        self.ranges = ranges
        self.condition = condition
        self.missing = missing
        self.found: dict[int, Accessor] = {}
        self.taken = self.all = 0
        self.watch = set_watch(
            session,
            Request(
                hex(target.region.address),
                request.access,
                size=str(target.region.length),
                condition="0",
            ),
            by_stops=True,
        )
        self.observer = Observer(session, self.watch.number, self._see)

    def _see(self, quiet: Quiet, n: int) -> None:
        _, _, _, lwp, pc = quiet[:5]
        self.all += 1
        size = self.target.region.length
        old, new = as_bytes(quiet[7][n], size), as_bytes(quiet[8][n], size)
        if not counts(pc, self.ranges) or not self.condition.holds(self.target, old, new):
            return
        now = time.monotonic_ns()
        row = self.found.get(pc)
        if row is None:
            row = self.found[pc] = Accessor(
                pc, False, first_time=now, first_old=old, first_new=new, stack=backtrace(FRAMES)
            )
        self.taken += 1
        row.hits += 1
        row.changes += old != new
        row.threads[lwp] += 1
        row.last_time, row.last_thread, row.last_old, row.last_new = now, lwp, old, new
        row.registers = registers.read(lwp).values

    def rows(self) -> list[Accessor]:
        return list(self.found.values())

    def hits(self) -> int:
        return self.taken

    def lost(self) -> int:
        return 0

    def seen(self) -> int:
        return self.all

    def state(self) -> int:
        return 0

    def close(self) -> None:
        self.observer.close()
        if self.watch.bp.is_valid():
            self.watch.bp.delete()


def watcher(
    session: Session,
    target: Target,
    request: AccessRequest,
    condition: AccessCondition,
) -> Watcher:
    """The best that can be had."""
    node, why_not = condition.node(target)
    ranges = code_ranges(request.only), code_ranges(request.without)
    reason = why_not or kernel.why_not(request.kernel)
    if not reason:
        try:
            return InKernel(session, target, request, condition, ranges, node)
        except (perf_event.PerfError, bpf.BpfError, kernel.AssemblyError) as error:
            reason = str(getattr(error, "strerror", error))
    if request.kernel:
        raise gdb.GdbError(f"-k: accesses by the kernel cannot be seen here: {reason}")
    return ByStops(session, target, request, condition, ranges, reason)


class Run:
    """The program's run while somebody looks: `continue`, until it stops, or for some time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.elapsed = 0.0
        self.timed_out = False
        self.said = ""
        self.quiet = False  # what gdb says is kept in `said`, and not printed as it comes

    def go(self) -> None:
        """Resume the program and wait for its next stop."""
        pid = gdb.selected_inferior().pid
        timer = None
        if self.seconds:
            timer = Background(lambda: self._interrupt(pid), self.seconds)
        start = time.monotonic()
        try:
            self.said = gdb.execute("continue", to_string=self.quiet) or ""
        finally:
            self.elapsed = time.monotonic() - start
            if timer is not None:
                timer.stop()

    def _interrupt(self, pid: int) -> bool:
        self.timed_out = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        return False
