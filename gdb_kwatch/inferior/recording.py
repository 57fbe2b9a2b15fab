"""A trace: every access of some places recorded while the program runs at full speed.

Three ways, the best that can be had: a BPF program that writes values too; a perf ring, which
knows no values; stops that go on by themselves.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import gdb

from gdb_kwatch.core import filters
from gdb_kwatch.core.access_words import AccessRequest
from gdb_kwatch.core.conditions import Node
from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.core.exports import Row
from gdb_kwatch.core.filters import KERNEL, RecordLayout, Source
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import TOUCHES, Quiet
from gdb_kwatch.core.traces import NO_VALUE, Record, Store
from gdb_kwatch.linux import bpf, perf_event, ptrace
from gdb_kwatch.linux import filters as kernel
from gdb_kwatch.linux.filters import Filter
from gdb_kwatch.linux.perf_event import SAMPLE_IP, SAMPLE_TID, SAMPLE_TIME, Event, Sample

from . import faults, programs
from .access_conditions import AccessCondition
from .accesses import Observer, as_bytes
from .background import Background
from .code_ranges import code_ranges
from .following import EXEC, Following
from .leaving import before_unloading
from .left_out import Ranges, counts
from .lost_traps import touches
from .session import Session
from .setting import set_watch
from .symbols import Symbols, where
from .targets import Numbers, Target, backtrace

NAME = "kwatch trace"
RING = 1 << 24
# Of a perf ring, one for each thread: most where there are few of them.  What an unprivileged user
# may lock is little (kernel.perf_event_mlock_kb).
_PAGES = (512, 128, 32, 8, 2)
_FEW = 16
_DRAIN = 0.01


class Recorder(Protocol):
    """One way to record.  ``label`` names it; ``missing`` is what it cannot tell, and why."""

    label: str
    missing: str

    def drain(self, store: Store) -> None:
        """Move what has come into the store; from any thread."""

    def hits(self) -> int:
        """Every access, by the counters."""

    def taken(self) -> int:
        """Those that were wanted."""

    def before(self, number: int) -> bytes | None:
        """The value of a place after the last access, where it is known."""

    def found(self, number: int, value: bytes, wanted: bool) -> None:
        """One more of a place was found by a stop, with its value."""

    def lost(self) -> int: ...

    def state(self) -> int:
        """`filters.STATE`: why the kernel could not test a condition; 0 where it could."""

    def follow(self, pid: int, lwps: list[int]) -> None:
        """A child by fork, stopped at its beginning, is to be recorded too.  Raises PerfError."""

    def leave(self, pid: int) -> None:
        """A process has ended, or is to be left alone; its counts stay."""

    def finish(self) -> None:
        """Give the slots back; what was recorded can still be drained."""

    def close(self) -> None: ...


class ByBpf:
    """A BPF program for each place, one ring for all."""

    label = "in the kernel, with values"
    missing = ""

    def __init__(
        self,
        targets: list[Target],
        request: AccessRequest,
        ranges: tuple[Ranges, Ranges],
        nodes: list[Node | None],
        layout: RecordLayout,
    ) -> None:
        self.targets = targets
        self.ring = bpf.Ring(RING, layout.size)
        self._found = 0
        self.most = request.count  # of all places together; each program counts for itself
        # Of each process its own, since each has its own value before.
        self.filters: list[Filter] = []
        self._of: dict[int, list[Filter]] = {}
        self.request, self.ranges, self.nodes, self.layout = request, ranges, nodes, layout
        inferior = gdb.selected_inferior()
        try:
            self.follow(inferior.pid, [thread.ptid[1] for thread in inferior.threads()])
        except BaseException:
            self.close()
            raise

    def follow(self, pid: int, lwps: list[int]) -> None:
        made = self._of[pid] = []
        for number, node in enumerate(self.nodes):
            made.append(self._filter(number, pid, node))
            self.filters.append(made[-1])
        for lwp in lwps:
            for one in made:
                one.put_on_all([lwp])

    def leave(self, pid: int) -> None:
        _take_off(self._of.get(pid, ()))

    def _filter(self, number: int, pid: int, node: Node | None) -> Filter:
        region, request = self.targets[number].region, self.request
        made = Filter(
            Source(region.address, region.length, *self.ranges, condition=node),
            lambda source, able: filters.recording(source, able, number, self.layout),
            maps={filters.RING: self.ring.fd},
            rw=region.rw,
            kernel_too=request.kernel,
            value=memory_of(pid, region.address, region.length),
        )
        made.memory.set_word(filters.MOST, max(request.count - self.taken(), request.count > 0))
        return made

    def drain(self, store: Store) -> None:
        store.add(self.ring.read())

    def before(self, number: int) -> bytes | None:
        one = self._here(number)
        return bytes(one.memory.data[filters.OLD : filters.OLD + one.source.size])

    def found(self, number: int, value: bytes, wanted: bool) -> None:
        # No thread runs now, so that the program's own words can be set.
        self._found += 1
        memory = self._here(number).memory
        memory.data[filters.OLD : filters.OLD + len(value)] = value
        if wanted:
            memory.set_word(filters.TAKEN, memory.word(filters.TAKEN) + 1)

    def _here(self, number: int) -> Filter:
        """That of a place in the process that is selected."""
        return self._of[gdb.selected_inferior().pid][number]

    def hits(self) -> int:
        return self._found + sum(one.hits() for one in self.filters)

    def taken(self) -> int:
        taken = sum(one.word(filters.TAKEN) for one in self.filters)
        return min(taken, self.most) if self.most else taken

    def lost(self) -> int:
        return sum(one.word(filters.LOST) for one in self.filters)

    def state(self) -> int:
        return max(one.word(filters.STATE) for one in self.filters)

    def finish(self) -> None:
        _take_off(self.filters)

    def close(self) -> None:
        for one in self.filters:
            one.close()
        self.ring.close()


def _take_off(filters: Iterable[Filter]) -> None:
    """Each of them, even if one raises."""
    with contextlib.ExitStack() as each:
        for one in filters:
            each.callback(one.take_off)


class ByPerfRing:
    """A perf event with a ring for each thread: a ring cannot be shared by those that inherit
    (``perf_mmap``), so a new thread gets its own when gdb hears of it."""

    label = "in the kernel, without values"

    def __init__(
        self,
        targets: list[Target],
        request: AccessRequest,
        ranges: tuple[Ranges, Ranges],
        reason: str,
    ) -> None:
        self.missing = f"no values: {reason}"
        if any(len(target.region.pieces()) > 1 for target in targets):
            self.missing += "; an access over several slots is recorded for each"
        self.targets = targets
        self.request = request
        self.ranges = ranges
        self.events: list[tuple[int, Event, int]] = []  # of which place, and process
        self._pids: set[int] = set()
        self._last: list[tuple[int, list[Sample], int]] = []  # of those that were left
        self._connected = False
        self._hits = self._taken = self._lost = 0
        try:
            inferior = gdb.selected_inferior()
            self.follow(inferior.pid, [thread.ptid[1] for thread in inferior.threads()])
        except BaseException:
            self.close()
            raise
        gdb.events.new_thread.connect(self._new)
        self._connected = True

    def follow(self, pid: int, lwps: list[int]) -> None:
        self._pids.add(pid)
        for lwp in lwps:
            self._put_on(pid, lwp)

    def leave(self, pid: int) -> None:
        self._pids.discard(pid)
        self._take_off([each for each in self.events if each[2] == pid])

    def _take_off(self, left: list[tuple[int, Event, int]]) -> None:
        gone = {event for _, event, _ in left}
        self.events = [each for each in self.events if each[1] not in gone]
        self._last += [(number, *event.samples()) for number, event, _ in left]
        try:
            for _, event, _ in left:
                hits = event.count()
                self._hits += hits
                self._lost += 0 if event.mapped else hits
        finally:
            for _, event, _ in left:
                event.close()

    def _put_on(self, pid: int, lwp: int) -> None:
        for number, target in enumerate(self.targets):
            for piece in target.region.pieces():
                wanted = perf_event.Request(
                    piece.address,
                    piece.length,
                    piece.rw,
                    kernel=self.request.kernel,
                    samples=SAMPLE_IP | SAMPLE_TID | SAMPLE_TIME,
                )
                event = Event(wanted, lwp)
                self.events.append((number, event, pid))
                if not any(event.map(n) for n in _PAGES[min(len(self.events) // _FEW, 2) :]):
                    raise perf_event.PerfError(
                        1, "no memory for a ring may be locked (kernel.perf_event_mlock_kb)"
                    )

    def _new(self, event: gdb.ThreadEvent) -> None:
        there = {made.lwp for _, made, _ in self.events}
        if not there:
            return
        # What may be locked for rings is little: those of threads that have ended are given back.
        known = {t.ptid[1] for inferior in gdb.inferiors() for t in inferior.threads()}
        ended = {lwp for lwp in there - known if ptrace.has_ended(lwp)}
        self._take_off([each for each in self.events if each[1].lwp in ended])
        for inferior in gdb.inferiors():  # gdb 10 does not tell which thread is new
            for thread in inferior.threads() if inferior.pid in self._pids else ():
                if thread.ptid[1] not in there:
                    with contextlib.suppress(perf_event.PerfError):
                        self._put_on(inferior.pid, thread.ptid[1])

    def drain(self, store: Store) -> None:
        read, self._last = self._last, []
        for number, event, _ in list(self.events):
            if not event.closed:
                read.append((number, *event.samples()))
        for number, samples, lost in read:
            self._lost += lost
            rows = []
            for sample in samples:
                if not sample.kernel and not counts(sample.ip, self.ranges):
                    continue
                if self.request.count and self._taken >= self.request.count:
                    break
                self._taken += 1
                info = number | NO_VALUE | (KERNEL if sample.kernel else 0)
                rows.append(store.pack(sample.time, sample.pid, sample.tid, sample.ip, info))
            store.add(b"".join(rows))

    def before(self, number: int) -> bytes | None:
        return None

    def found(self, number: int, value: bytes, wanted: bool) -> None:
        self._hits += 1
        self._taken += wanted

    def hits(self) -> int:
        return self._hits + sum(event.count() for _, event, _ in self.events if not event.closed)

    def taken(self) -> int:
        return self._taken + self.lost()

    def lost(self) -> int:
        """Those of threads for which no ring was to be had are among them."""
        ringless = [e for _, e, _ in self.events if not (e.mapped or e.closed)]
        return self._lost + sum(event.count() for event in ringless)

    def state(self) -> int:
        return 0

    def finish(self) -> None:
        self._take_off(self.events)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of its counts
            self.finish()
        if self._connected:
            self._connected = False
            gdb.events.new_thread.disconnect(self._new)


class ByStops:
    """gdb stops at each hit and goes on: everything, slowly."""

    label = "slow: gdb stops at each hit and goes on"

    def __init__(
        self,
        session: Session,
        targets: list[Target],
        request: AccessRequest,
        conditions: list[AccessCondition],
        ranges: tuple[Ranges, Ranges],
        reason: str,
    ) -> None:
        self.missing = reason
        self.request = request
        self.conditions = conditions
        self.ranges = ranges
        self.frames = request.frames
        self._rows: list[bytes] = []
        self._hits = self._taken = 0
        self.over = False  # no more is wanted
        self.pack: Callable[..., bytes] = lambda *_: b""
        self.watches = []
        self.observers: list[Observer] = []
        try:
            for number, target in enumerate(targets):
                address, size = hex(target.region.address), str(target.region.length)
                wanted = Request(address, request.access, size=size, condition="0")
                watch = set_watch(session, wanted, by_stops=True)
                self.watches.append(watch)
                self.observers.append(Observer(session, watch.number, self._seer(number, target)))
            self.timed = self.observers[0]
        except BaseException:
            self.close()
            raise

    def _seer(self, number: int, target: Target) -> Callable[[Quiet, int], None]:
        size = target.region.length

        def see(quiet: Quiet, n: int) -> None:
            _, _, _, lwp, pc = quiet[:5]
            if self.over:
                self._rest()
                return
            self._hits += 1
            if not counts(pc, self.ranges):
                return
            old, new = as_bytes(quiet[7][n], size), as_bytes(quiet[8][n], size)
            if not self.conditions[number].holds(target, old, new):
                return
            self._taken += 1
            stack = backtrace(self.frames) if self.frames else ()
            pid = gdb.selected_inferior().pid
            self._rows.append(self.pack(time.monotonic_ns(), pid, lwp, pc, number, old, new, stack))
            if self._taken == self.request.count:
                self.over = True
                self._rest()

        assert TOUCHES == 6
        return see

    def _rest(self) -> None:
        """Stop no more: nothing can be deleted here, in the middle of a stop."""
        for watch in self.watches:
            if watch.bp.is_valid() and watch.bp.enabled:
                watch.bp.enabled = False

    def drain(self, store: Store) -> None:
        self.pack = store.pack
        rows, self._rows = self._rows, []
        store.add(b"".join(rows))

    def before(self, number: int) -> bytes | None:
        return None

    def found(self, number: int, value: bytes, wanted: bool) -> None:
        pass  # gdb tells of those itself

    def follow(self, pid: int, lwps: list[int]) -> None:
        """Its watchpoints are gdb's, which has taken them over into the child."""

    def leave(self, pid: int) -> None:
        pass

    def hits(self) -> int:
        return self._hits

    def taken(self) -> int:
        return self._taken

    def lost(self) -> int:
        return 0

    def state(self) -> int:
        return 0

    def finish(self) -> None:
        for observer in reversed(self.observers):
            observer.close()
        self.observers = []
        for watch in self.watches:
            if watch.bp.is_valid():
                watch.bp.delete()
        self.watches = []

    def close(self) -> None:
        self.finish()


def memory_of(pid: int, address: int, length: int) -> bytes:
    """Of any process that gdb traces."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        return os.pread(memory.fileno(), length, address)


def recorder(
    session: Session,
    targets: list[Target],
    request: AccessRequest,
    conditions: list[AccessCondition],
    layout: RecordLayout,
) -> Recorder:
    """The best that can be had.  ``conditions``: one for each target."""
    compiled = [one.node(target) for one, target in zip(conditions, targets)]
    nodes = [node for node, _ in compiled]
    why_not = next((reason for _, reason in compiled if reason), "")
    for one in conditions:
        one.have_there(gdb.selected_inferior().pid)
    ranges = code_ranges(request.only), code_ranges(request.without)
    reason = why_not or kernel.why_not(request.kernel)
    if not reason:
        try:
            return ByBpf(targets, request, ranges, nodes, layout)
        except (perf_event.PerfError, bpf.BpfError, kernel.AssemblyError) as error:
            reason = str(getattr(error, "strerror", error))
    if not why_not and request.condition is None and not request.frames:
        refused = perf_event.why_not(request.kernel)
        if refused is None:
            try:
                return ByPerfRing(targets, request, ranges, reason)
            except perf_event.PerfError as error:
                reason = str(error.strerror)
    if request.kernel:
        raise gdb.GdbError(f"-k: accesses by the kernel cannot be seen here: {reason}")
    return ByStops(session, targets, request, conditions, ranges, reason)


class Trace:
    """One trace, from its beginning until another takes its place."""

    def __init__(
        self,
        session: Session,
        targets: list[Target],
        request: AccessRequest,
        conditions: list[AccessCondition],
        store: Store,
        recording: Recorder,
        tell: Callable[[Trace], None],
    ) -> None:
        """``tell`` is called by a thread, ten times a second while the program runs."""
        self.session = session
        self.targets = targets
        self.request = request
        self.conditions = conditions
        self.store = store
        self.recorder = recording
        self.numbers = Numbers()
        self.symbols = [Symbols([target.region]) for target in targets]
        self.tell = tell
        self.running = False
        self.ended = ""  # why
        self._why = ""  # the same, where only gdb's main thread can end it
        self.ran = 0.0  # seconds
        self._resumed = 0.0
        self._told = 0.0
        self._lock = threading.Lock()
        self._connected = True
        recording.drain(store)
        self._followed = before_unloading(self.look_up)
        if not isinstance(recording, ByStops):
            session.lost_traps.join(NAME, self._found_by_stop)
            pieces = frozenset[Piece]().union(*(target.pieces for target in targets))
            session.registry.slots.users[NAME] = {programs.selected()}, pieces
        gdb.events.cont.connect(self._at_cont)
        gdb.events.stop.connect(self._at_stop)
        self.following = Following(self._came, self._went)
        self._thread = Background(self._work, _DRAIN)

    # gdb's events.

    def _at_cont(self, event: gdb.ContinueEvent) -> None:
        if not self.running and not self.ended:
            self._resumed = self._told = time.monotonic()
            self.running = True

    @faults.guarded()
    def _at_stop(self, event: gdb.StopEvent) -> None:
        self._pause()

    def _came(self, pid: int, lwps: list[int]) -> None:
        """A child that gdb follows."""
        if self.ended:
            return
        spaces = [programs.of(i) for i in gdb.inferiors() if i.pid == pid]
        users = self.session.registry.slots.users
        if NAME in users and spaces[0] is not None:
            users[NAME][0].add(spaces[0])
        try:
            with self._lock:
                self.recorder.follow(pid, lwps)
                for one in self.conditions:
                    one.have_there(pid)
        except (perf_event.PerfError, bpf.BpfError) as error:
            self.session.reporter.warn(f"kwatch trace: not process {pid}: {error.strerror}")

    def _went(self, pid: int, why: str) -> None:
        try:
            with self._lock:
                self.recorder.drain(self.store)
                self.recorder.leave(pid)
                self.recorder.drain(self.store)
        except OSError as error:  # a count cannot be read: its end is one all the same
            faults.report("the end of a traced program", error)
        if self.following.pids:
            return
        if why != EXEC:
            self._pause()
            self.end(why)
        elif isinstance(self.recorder, ByStops):
            self.recorder.over, self._why = True, why  # nothing of gdb's may be deleted now
        else:
            self._finish(why)

    def _pause(self) -> None:
        why = self.ended or self._why or self._over()
        self._halt()
        self.drain()
        if why:
            self.end(why)

    def _halt(self) -> None:
        """The clock stands still."""
        self.ran, self.running = self.seconds(), False

    # The thread.

    def _work(self) -> bool:
        if self.ended:
            return False
        with self._lock:
            self.recorder.drain(self.store)
        why = self._over()
        if why and isinstance(self.recorder, ByStops):
            self.recorder.over = True  # the next hit sees it
            self._why = self._why or why
            self._halt()
        elif why:
            self._finish(why)
            self._halt()
        now = time.monotonic()
        if self.running and now - self._told > 0.1:
            self._told = now
            self.tell(self)
        return True

    def _over(self) -> str:
        if self.request.count and self.recorder.taken() >= self.request.count:
            return f"{self.request.count} were recorded (-count)"
        if self.request.seconds and self.seconds() >= self.request.seconds:
            return f"{self.request.seconds:g} s are over (-for)"
        return ""

    def _finish(self, why: str) -> None:
        with self._lock:
            if not self.ended:
                self.ended = why
                self.recorder.finish()
                self.recorder.drain(self.store)

    def _found_by_stop(self, lwp: int, pc: int) -> bool:
        """See `lost_traps`: whether this hit is one of ours; it is recorded then."""
        if self.ended or gdb.selected_inferior().pid not in self.following.pids:
            return False
        for number, target in enumerate(self.targets):
            if touches(pc, target.region):
                self._take(number, lwp, pc)
                return True
        return False

    def _take(self, number: int, lwp: int, pc: int) -> None:
        request, recorder = self.request, self.recorder
        wanted = counts(pc, (code_ranges(request.only), code_ranges(request.without)))
        wanted = wanted and not 0 < request.count <= recorder.taken()
        with self._lock:
            recorder.drain(self.store)
            target = self.targets[number]
            old, now = recorder.before(number), target.now()
            wanted = wanted and self.conditions[number].holds(target, old or now, now)
            recorder.found(number, now, wanted)
            if not wanted:
                return
            info = number if old is not None else number | NO_VALUE
            stack = backtrace(self.store.layout.frames)
            place = gdb.selected_inferior().pid, lwp, pc
            row = time.monotonic_ns(), *place, info, old or b"", now, stack
            self.store.add(self.store.pack(*row))

    # What can be asked.

    def untested(self) -> str:
        """A line about a condition that could not always be tested; "" where it could."""
        state = self.recorder.state()
        return next(filter(None, (one.told(state) for one in self.conditions)), "")

    def seconds(self) -> float:
        """For how long the program ran under it."""
        return self.ran + (time.monotonic() - self._resumed if self.running else 0)

    def drain(self) -> None:
        with self._lock:
            self.recorder.drain(self.store)

    def look_up(self) -> None:
        """The names of all that there is by now, while they can be had."""
        self.drain()
        layout = self.store.layout
        words = [layout.stack + 8 * n for n in range(layout.frames + layout.top)]
        columns = [self.store.column(at) for at in (layout.IP, layout.INFO, *words)]
        found = {row for chunk in zip(*columns) for row in zip(*chunk)}
        for ip, info, *rest in found:
            symbols = self.symbols[info & 0xFF]
            kernel = bool(info & KERNEL)
            stack, top = tuple(filter(None, rest[: layout.frames])), rest[layout.frames :]
            symbols.access(ip, kernel)
            symbols.access(symbols.caller(ip, kernel, top, stack), kernel=True)
            for frame in symbols.chain(stack, top):
                symbols.frame(frame)

    def end(self, why: str) -> None:
        """No more is recorded; the slots are free.  By gdb's main thread."""
        if isinstance(self.recorder, ByPerfRing):
            self.drain()  # a ring goes with its event
        try:
            self._finish(why)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._connected:
            self._connected = False
            self._thread.stop()
            self.numbers.close()
            self._followed()
            self.following.close()
            self.session.lost_traps.leave(NAME)
            self.session.registry.slots.users.pop(NAME, None)
            gdb.events.cont.disconnect(self._at_cont)
            gdb.events.stop.disconnect(self._at_stop)

    def close(self) -> None:
        """Forget it all."""
        with contextlib.suppress(OSError):
            self.end("forgotten")
        self.recorder.close()
        self.store.close()

    def place(self, record: Record) -> str:
        symbols = self.symbols[record.source]
        caller = symbols.caller(record.ip, record.kernel, record.top, record.stack)
        return where(symbols.access(caller, record.kernel), caller)

    def rows(self) -> Iterator[Row]:
        """The records in words."""
        texts: dict[tuple[int, bytes], str] = {}

        def text(source: int, value: bytes | None) -> str | None:
            if value is None:
                return None
            found = texts.get((source, value))
            if found is None:
                found = self.targets[source].text(value)
                if len(texts) < 100_000:
                    texts[(source, value)] = found
            return found

        for record in self.store.records():
            target = self.targets[record.source]
            symbols = self.symbols[record.source]
            access = symbols.access(record.ip, record.kernel)
            caller = symbols.caller(record.ip, record.kernel, record.top, record.stack)
            place = access if caller == record.ip else symbols.access(caller, kernel=True)
            yield Row(
                record.time,
                record.process,
                record.thread,
                self.numbers.of.get(record.thread),
                access.address or record.ip,
                place.function or (place.symbol.split("+")[0] or None),
                (place.filename or "").rpartition("/")[2] or None,
                place.line,
                target.expression,
                "kernel" if record.kernel else "user",
                record.system_call,
                text(record.source, record.old),
                text(record.source, record.new),
                target.number(record.new),
                tuple(
                    symbols.frame(ip) if n else access.function or symbols.frame(ip)
                    for n, ip in enumerate(symbols.chain(record.stack, record.top))
                ),
                symbols.direction(record.ip, record.kernel, record.changed),
            )
