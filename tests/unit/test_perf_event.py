"""perf breakpoints on real children that this test traces, and the account of a thread's slots."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gdb_kwatch.core.debugreg import READ_WRITE, WRITE
from gdb_kwatch.linux import perf_event, ptrace, slots
from gdb_kwatch.linux.perf_event import (
    SAMPLE_IP,
    SAMPLE_TID,
    SAMPLE_TIME,
    Event,
    NoDescriptors,
    NoSlot,
    NotAllowed,
    NoThread,
    PerfError,
    Request,
)

needs_kernel = pytest.mark.skipif(
    perf_event.why_not() is not None, reason=f"no perf here: {perf_event.why_not()}"
)
needs_perf = pytest.mark.skipif(
    perf_event.why_not(kernel=False) is not None, reason="no perf events here"
)

# Written by the children; the addresses are the parent's too.
PLACE = ctypes.create_string_buffer(128)
ADDRESS = ctypes.addressof(PLACE) + 63 & ~63
WORDS = [ctypes.c_ulonglong.from_address(ADDRESS + 8 * n) for n in range(8)]
DISABLED_SLOTS = 0  # DR7


def child_that(*steps):
    """A traced child, stopped, that stops again after each of ``steps``."""
    pid = os.fork()
    if pid == 0:
        try:
            ptrace.call(ptrace.TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            for step in steps:
                step()
                os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def resume(pid):
    """Until its next stop; the signal, or None where it has ended."""
    assert ptrace.call(ptrace.CONT, pid, None, None) == 0
    _, status = os.waitpid(pid, 0)
    return os.WSTOPSIG(status) if os.WIFSTOPPED(status) else None


def end(pid):
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def store():
    WORDS[0].value = 1


def read_from_pipe():
    """Two reads by the kernel into WORDS[0]."""
    ends = os.pipe()
    os.write(ends[1], b"x" * 16)
    read = ctypes.CDLL(None).read
    read(ends[0], ctypes.c_void_p(ADDRESS), ctypes.c_size_t(8))
    read(ends[0], ctypes.c_void_p(ADDRESS), ctypes.c_size_t(8))


@pytest.fixture
def make() -> Iterator:
    """`make(*steps)`: a child that is ended with the test."""
    made = []

    def one(*steps):
        made.append(child_that(*steps))
        return made[-1]

    yield one
    for pid in made:
        end(pid)


@pytest.fixture
def opened() -> Iterator:
    """`opened(request, lwp)`: an event that is closed with the test."""
    events = []

    def one(request, lwp, cpu=-1):
        events.append(Event(request, lwp, cpu))
        return events[-1]

    yield one
    for event in events:
        event.close()


def test_the_attr_is_laid_out_as_in_the_header():
    assert perf_event.ATTR_SIZE == 128  # PERF_ATTR_SIZE_VER7
    attr = Request(0x1234560, 4, READ_WRITE, kernel=False, inherit=True).attr()
    assert struct.unpack_from("<II", attr) == (5, 128)
    assert struct.unpack_from("<Q", attr, 16) == (1,)  # sample_period
    flags = struct.unpack_from("<Q", attr, 40)[0]
    assert flags == 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 36
    assert struct.unpack_from("<IIQQ", attr, 48) == (1, 3, 0x1234560, 4)


@needs_kernel
def test_a_system_call_is_counted_and_recorded(make, opened):
    pid = make(store, read_from_pipe)
    both = opened(Request(ADDRESS, 8, WRITE, samples=SAMPLE_IP | SAMPLE_TID | SAMPLE_TIME), pid)
    user = opened(Request(ADDRESS, 8, WRITE, kernel=False), pid)
    kernel = opened(Request(ADDRESS, 8, WRITE, user=False), pid)
    assert both.map()
    assert resume(pid) == signal.SIGSTOP
    assert [both.fresh(), user.fresh(), kernel.fresh()] == [1, 1, 0]
    samples, lost = both.samples()
    assert [(s.kernel, s.tid, lost) for s in samples] == [(False, pid, 0)]
    assert resume(pid) == signal.SIGSTOP
    hits = both.fresh()
    assert hits >= 2 and kernel.fresh() == hits and user.fresh() == 0
    samples, lost = both.samples()
    assert len(samples) == hits and lost == 0
    assert all(s.kernel and s.ip >> 63 and s.time for s in samples)
    assert both.samples() == ([], 0)


@needs_kernel
def test_records_go_round_the_ring_and_are_lost_only_where_it_is_full(make, opened):
    def many():
        for n in range(1000):
            WORDS[0].value = n

    pid = make(*[many] * 3)
    event = opened(Request(ADDRESS, 8, WRITE, samples=SAMPLE_IP), pid)
    assert event.map()
    for _ in range(3):
        assert resume(pid) == signal.SIGSTOP
        samples, lost = event.samples()
        assert event.fresh() >= 1000
        assert len(samples) > 200 and not any(s.kernel for s in samples)
        assert len({s.ip for s in samples}) == 1


@needs_kernel
def test_a_hit_sends_the_thread_a_signal_that_names_the_event(make, opened):
    pid = make(read_from_pipe)
    event = opened(Request(ADDRESS, 8, WRITE), pid)
    event.move_up(300)
    assert event.fd >= 300
    event.signal(signal.SIGURG)
    assert resume(pid) == signal.SIGURG
    info = ctypes.create_string_buffer(128)
    assert ptrace.call(0x4202, pid, None, ctypes.addressof(info)) == 0  # PTRACE_GETSIGINFO
    number, _, code, _, band, fd = struct.unpack_from("<iiiiqi", info)
    assert (number, code, fd) == (signal.SIGURG, 1, event.fd)
    assert event.fresh() > 0
    assert resume(pid) == signal.SIGURG  # the second read
    assert event.fresh() > 0
    assert resume(pid) == signal.SIGSTOP
    assert event.fresh() == 0


@needs_kernel
def test_disabled_it_counts_nothing_and_an_ended_thread_is_noticed(make, opened):
    pid = make(store, store)
    event = opened(Request(ADDRESS, 8, WRITE, disabled=True), pid)
    resume(pid)
    assert event.fresh() == 0
    event.enable()
    resume(pid)
    assert event.fresh() == 1
    assert not event.ended()
    assert resume(pid) is None
    assert event.ended()
    assert event.count() == 1


@needs_perf
def test_what_is_in_the_way_is_named(make, opened):
    pid = make()
    request = Request(ADDRESS, 8, WRITE, kernel=False)
    for _ in range(4):
        opened(request, pid)
    with pytest.raises(NoSlot, match="no debug register is free"):
        Event(request, pid)
    end(pid)
    with pytest.raises(NoThread, match="has ended"):
        Event(request, pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(NoDescriptors, match="no more files") as caught:
            Event(request, os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in caught.value.remedy


@pytest.mark.parametrize(
    ("level", "capable", "number", "kernel", "kind", "words"),
    [
        (3, False, errno.EACCES, True, NotAllowed, "perf_event_paranoid is 3"),
        (2, False, errno.EACCES, True, NotAllowed, "perf_event_paranoid=1"),
        (2, False, errno.EACCES, False, NotAllowed, "seccomp"),
        (-1, True, errno.EPERM, True, NotAllowed, "seccomp"),
        (None, True, errno.ENOSYS, True, NotAllowed, "no perf events"),
        (1, True, errno.ENOSYS, True, NotAllowed, "blocked"),
        (1, True, errno.EINVAL, True, PerfError, "Linux"),
    ],
)
def test_the_reason_and_the_remedy(monkeypatch, level, capable, number, kernel, kind, words):
    monkeypatch.setattr(perf_event, "paranoid", lambda: level)
    monkeypatch.setattr(perf_event, "_privileged", lambda: capable)
    error = perf_event.why_refused(number, kernel)
    assert type(error) is kind
    assert words in f"{error.strerror} {error.remedy}"
    assert error.errno == number


# The account of slots.


def set_slots(pid, count):
    """``count`` write watchpoints of 8 bytes by ptrace, from DR0."""
    control = 0
    for n in range(count):
        assert not ptrace.poke_debug_register(pid, n, ADDRESS + 8 * n)
        control |= 1 << 2 * n | (1 | 2 << 2) << 16 + 4 * n
    assert not ptrace.poke_debug_register(pid, 7, control)


def account(pid):
    return slots.free_slots(pid), slots.reserved(pid), slots.foreign(pid)


@needs_perf
def test_a_fresh_thread_has_four(make):
    assert account(make()) == (4, 0, 0)


@needs_perf
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_ptrace_used_stays_reserved(make, count):
    pid = make(store)
    set_slots(pid, count)
    assert account(pid) == (4 - count, count, 0)
    assert resume(pid) == signal.SIGTRAP
    assert ptrace.status(pid) & 15 == 1
    assert not ptrace.poke_debug_register(pid, 7, DISABLED_SLOTS)
    assert account(pid) == (4 - count, count, 0)
    assert resume(pid) == signal.SIGSTOP
    assert account(pid) == (4 - count, count, 0)


@needs_perf
def test_what_ptrace_will_have_reserved_depends_on_which_registers_come_next(make, opened):
    pid = make()
    for n in (2, 3):
        assert not ptrace.poke_debug_register(pid, n, ADDRESS + 8 * n)
    assert not ptrace.poke_debug_register(pid, 7, 1 << 4 | 1 << 6 | 0x9 << 24 | 0x9 << 28)
    assert [slots.reserved(pid, n) for n in range(5)] == [2, 3, 4, 4, 4]
    assert [slots.reserved(pid, n, stay=True) for n in range(5)] == [2, 2, 2, 3, 4]
    opened(Request(ADDRESS, 8, WRITE, kernel=False, disabled=True), pid)
    assert not ptrace.poke_debug_register(pid, 0, ADDRESS)
    assert ptrace.poke_debug_register(pid, 1, ADDRESS)  # the kernel has no fifth


@needs_perf
def test_a_perf_user_on_the_thread_is_foreign(make, opened):
    pid = make()
    set_slots(pid, 1)
    event = opened(Request(ADDRESS, 8, WRITE, kernel=False), pid)
    opened(Request(ADDRESS, 8, WRITE, kernel=False, disabled=True), pid)
    assert account(pid) == (1, 1, 2)
    assert slots.foreign(pid, own=1) == 1
    event.close()
    assert account(pid) == (2, 1, 1)


@needs_perf
@pytest.mark.skipif(not perf_event._privileged(), reason="a CPU's breakpoints need privilege")
def test_a_user_on_a_cpu_is_foreign_to_every_thread(make, opened):
    pid = make()
    set_slots(pid, 2)
    try:
        event = opened(Request(0x1000, 8, WRITE, disabled=True), -1, cpu=0)
    except NoSlot:
        pytest.skip("some thread on this machine uses all four")
    assert account(pid) == (1, 2, 1)
    event.close()
    assert account(pid) == (2, 2, 0)


@needs_perf
def test_a_child_of_a_watched_process_starts_with_four(make):
    def fork():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        WORDS[7].value = pid

    pid = make(fork)
    set_slots(pid, 2)
    assert resume(pid) == signal.SIGSTOP
    value = ctypes.c_ulonglong(ptrace.call(ptrace.PEEKDATA, pid, ADDRESS + 56, None)).value
    try:
        assert slots.free_slots(value) == 4
    finally:
        os.kill(value, signal.SIGKILL)


def test_where_perf_is_refused_nothing_is_claimed(make, monkeypatch):
    def refuse(*_):
        raise NotAllowed(errno.EACCES, "no")

    pid = make()
    monkeypatch.setattr(perf_event, "Event", refuse)
    assert slots.free_slots(pid) is None
    assert slots.foreign(pid) is None


@needs_perf
def test_nothing_is_left_open(make):
    pid = make()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        slots.free_slots(pid)
        perf_event.why_not()
    assert sorted(os.listdir("/proc/self/fd")) == before
