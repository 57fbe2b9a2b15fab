"""The debug registers and memory of real children, traced by the test itself."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdb_kwatch.core.debugreg import EXECUTE, READ_WRITE, WRITE, Piece
from gdb_kwatch.linux import ptrace

LIBC = ctypes.CDLL(None, use_errno=True)
GETREGS = 12
SETOPTIONS = 0x4200
ALL_ONES = (1 << 64) - 1

# Written by children at a moment the tests choose; the addresses are the parent's too.
PLACE = ctypes.create_string_buffer(64)
ADDRESS = ctypes.addressof(PLACE) + 7 & ~7
STORE = ctypes.c_ulonglong.from_address(ADDRESS)

# What can be read: every kind of byte, then ones.
BYTES = bytes(range(1, 33)) + b"\xff" * 16 + bytes(16)
MEMORY = ctypes.create_string_buffer(BYTES, len(BYTES))
START = ctypes.addressof(MEMORY)


def make_child(then, traced=True):
    """Fork a process that stops (if traced, by this one) and at last does `then`."""
    pid = os.fork()
    if pid == 0:
        try:
            if traced and ptrace.call(ptrace.TRACEME, 0, None, None) == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            then()
        finally:
            os._exit(0)
    if traced:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            pytest.skip("ptrace is refused here")
    return pid


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


@pytest.fixture
def child() -> Iterator[int]:
    """A stopped, traced child that makes one 8-byte store at ADDRESS when it is resumed."""

    def store():
        STORE.value = 1

    pid = make_child(store)
    yield pid
    end(pid)


@pytest.fixture(scope="module")
def reader() -> Iterator[int]:
    """A stopped, traced child to read from."""
    pid = make_child(lambda: None)
    yield pid
    end(pid)


def set_slots(pid, slots):
    """Set {slot: (address, length, R/W)}; the fields as in the SDM's layout of DR7."""
    dr7 = 0
    for n, (address, length, rw) in slots.items():
        assert not ptrace.poke_debug_register(pid, n, address)
        dr7 |= 1 << 2 * n | rw << 16 + 4 * n | {1: 0, 2: 1, 8: 2, 4: 3}[length] << 18 + 4 * n
    assert not ptrace.poke_debug_register(pid, 7, dr7)
    return dr7


def run_to_trap(pid):
    """Resume; True where it stopped by a trap, False where it ended."""
    assert ptrace.call(ptrace.CONT, pid, None, None) == 0
    _, status = os.waitpid(pid, 0)
    assert not os.WIFSTOPPED(status) or os.WSTOPSIG(status) == signal.SIGTRAP
    return os.WIFSTOPPED(status)


def program_counter(pid):
    """The PC by another call: struct user_regs_struct has 27 registers, rip is the 17th."""
    registers = (ctypes.c_ulonglong * 27)()
    assert ptrace.call(GETREGS, pid, None, ctypes.addressof(registers)) == 0
    return registers[16]


# --- debug registers -----------------------------------------------------------------------------


def test_what_was_set_is_read(child):
    slots = {
        0: (ADDRESS, 8, READ_WRITE),
        1: (ADDRESS + 1, 1, WRITE),
        2: (ADDRESS + 2, 2, WRITE),
        3: (ADDRESS + 4, 4, READ_WRITE),
    }
    dr7 = set_slots(child, slots)
    registers = ptrace.debug_registers(child)
    assert registers.addresses == (ADDRESS, ADDRESS + 1, ADDRESS + 2, ADDRESS + 4)
    assert registers.dr7 == dr7
    assert registers.pieces() == {n: Piece(*slot) for n, slot in slots.items()}
    assert registers.hits() == {}
    assert ptrace.trap(child) == ptrace.NO_TRAP


def test_nothing_set(child):
    registers = ptrace.debug_registers(child)
    assert (registers.addresses, registers.dr7, registers.pieces()) == ((0, 0, 0, 0), 0, {})
    assert ptrace.trap(child) == ptrace.NO_TRAP


# Slots that the store of ADDRESS..ADDRESS+7 hits, by offset and length, and those that it misses.
# All for writes: ctypes reads the old value first.
STORES = [
    ({0: (0, 8)}, {}),
    ({3: (0, 8)}, {0: (8, 8)}),
    ({1: (4, 4), 2: (0, 8)}, {}),
    ({1: (7, 1), 3: (0, 2)}, {0: (8, 1), 2: (16, 8)}),
    ({0: (0, 1), 1: (1, 1), 2: (2, 2), 3: (4, 4)}, {}),
]


@pytest.mark.parametrize(("hit", "missed"), STORES)
def test_a_store_that_hits(child, hit, missed):
    slots = {n: (ADDRESS + offset, length, WRITE) for n, (offset, length) in hit.items()}
    others = {n: (ADDRESS + offset, length, WRITE) for n, (offset, length) in missed.items()}
    dr7 = set_slots(child, {**slots, **others})
    assert run_to_trap(child)

    bits = sum(1 << n for n in slots)
    addresses = [slots[n][0] for n in sorted(slots)]
    assert ptrace.trap(child) == (program_counter(child), (bits, dr7, *addresses))
    assert ptrace.status(child) & 15 == bits
    registers = ptrace.debug_registers(child)
    assert registers.dr6 == ptrace.status(child)
    assert registers.hits() == {n: Piece(*slot) for n, slot in slots.items()}
    # The store has been made, and can be read before the program goes on.
    assert ptrace.Word(ADDRESS, 8).read(child) == 1


def test_a_trap_that_was_handled_is_one_no_more(child):
    dr7 = set_slots(child, {1: (ADDRESS, 8, WRITE)})
    assert run_to_trap(child)
    seen = ptrace.trap(child)
    assert seen[1] == (2, dr7, ADDRESS)
    assert ptrace.trap(child) == seen  # to look changes nothing
    ptrace.clear_status(child)
    assert ptrace.trap(child) == ptrace.NO_TRAP
    assert ptrace.status(child) & 15 == 0
    assert ptrace.debug_registers(child).pieces() == {1: Piece(ADDRESS, 8, WRITE)}
    assert not run_to_trap(child)  # and it goes on to its end


def test_execution_hits_too(child):
    """A hardware breakpoint traps before the instruction, with its bit in DR6."""
    address = ctypes.cast(LIBC._exit, ctypes.c_void_p).value
    dr7 = set_slots(child, {2: (address, 1, EXECUTE)})
    assert run_to_trap(child)
    assert ptrace.trap(child) == (address, (4, dr7, address))


@pytest.mark.parametrize("value", [0, 1, 0x400F, 0xFFFF0FF0, ALL_ONES])
def test_any_status_can_be_read(child, value):
    """All ones too, which is also what a failed call answers."""
    assert not ptrace.poke_debug_register(child, 6, value)
    offset = 848 + 8 * 6
    raw = LIBC.ptrace
    raw.restype, raw.argtypes = ctypes.c_long, [ctypes.c_long] * 4
    told = raw(ptrace.PEEKUSER, child, offset, 0) & ALL_ONES
    assert ptrace.status(child) == ptrace.debug_registers(child).dr6 == told


def test_an_old_errno_means_nothing(child):
    ptrace.poke_debug_register(child, 6, ALL_ONES)
    ctypes.set_errno(errno.EPERM)
    ptrace.debug_registers(child)
    ptrace.status(child)


def test_a_slot_that_cannot_be_set(child):
    assert ptrace.poke_debug_register(child, 0, 0xFFFF888000000000)  # the kernel's memory
    assert ctypes.get_errno() in (errno.EINVAL, errno.EIO, errno.EPERM)
    assert ptrace.poke_debug_register(child, 4, 1)  # there is no DR4


# --- what cannot be read -------------------------------------------------------------------------


def assert_unreadable(lwp):
    for read in (ptrace.debug_registers, ptrace.status, ptrace.trap):
        with pytest.raises(OSError) as caught:
            read(lwp)
        assert caught.value.errno == errno.ESRCH
        assert f"LWP {lwp}" in str(caught.value)
    assert ptrace.program_counter(lwp) == ALL_ONES
    assert ptrace.Word(START, 8).read(lwp) is None
    ptrace.clear_status(lwp)
    assert ptrace.poke_debug_register(lwp, 7, 0)
    assert ctypes.get_errno() == errno.ESRCH


def test_this_process_is_not_traced_by_itself():
    assert_unreadable(os.getpid())


def test_a_process_that_has_ended():
    pid = make_child(lambda: None)
    end(pid)
    assert_unreadable(pid)


def test_a_child_that_was_killed_is_dead_before_anybody_has_waited_for_it():
    pid = make_child(lambda: None)
    try:
        assert not ptrace.is_dead(pid)
        assert ptrace.tracer_of(pid) == os.getpid()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ptrace.is_dead(pid)
        assert ptrace.tracer_of(pid) == os.getpid()
    finally:
        end(pid)
    assert ptrace.is_dead(pid)
    assert not ptrace.is_dead(os.getpid())


def test_a_child_that_is_not_traced():
    pid = make_child(signal.pause, traced=False)
    try:
        assert_unreadable(pid)
    finally:
        end(pid)


def test_a_child_that_runs():
    pid = make_child(signal.pause)
    try:
        assert ptrace.call(ptrace.CONT, pid, None, None) == 0
        assert_unreadable(pid)
    finally:
        end(pid)


def test_another_thread_than_the_tracer(child):
    """Linux ties tracing to the thread: gdb's main thread may ask, a thread of Python's may not."""
    failures = []

    def look():
        try:
            assert_unreadable(child)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert failures == []
    ptrace.debug_registers(child)


# --- memory --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, len(BYTES) - 8), st.integers(1, 8))
def test_words(reader, offset, size):
    expected = int.from_bytes(BYTES[offset : offset + size], "little")
    if BYTES[offset : offset + 8] == b"\xff" * 8:
        expected = None  # no different from a failure, whatever the size
    assert ptrace.Word(START + offset, size).read(reader) == expected


def test_a_word_of_ones(reader):
    ones = START + 32
    assert ptrace.Word(ones, 8).read(reader) is None
    assert ptrace.Word(ones, 1).read(reader) is None
    assert ptrace.Word(ones + 9, 7).read(reader) == (1 << 56) - 1
    assert ptrace.Word(ones + 9, 8).read(reader) == (1 << 56) - 1


@pytest.mark.parametrize("address", [0, 8, (1 << 47) - 1, 1 << 63, ALL_ONES - 7], ids=hex)
def test_memory_that_is_not_there(reader, address):
    assert ptrace.Word(address, 4).read(reader) is None


def test_the_end_of_a_mapping():
    """The call reads 8 bytes; where fewer are mapped, nothing is said of those."""
    size = mmap.PAGESIZE
    pages = mmap.mmap(-1, 2 * size)
    pages[:size] = b"\x11" * size
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))

    def unmap_and_stop():
        LIBC.munmap(ctypes.c_void_p(start + size), ctypes.c_size_t(size))
        os.kill(os.getpid(), signal.SIGTRAP)

    pid = make_child(unmap_and_stop)
    try:
        assert run_to_trap(pid)
        assert ptrace.Word(start + size - 8, 8).read(pid) == 0x1111111111111111
        assert ptrace.Word(start + size - 7, 4).read(pid) is None
        assert ptrace.Word(start + size, 1).read(pid) is None
    finally:
        end(pid)


def test_the_program_counter(child):
    assert ptrace.program_counter(child) == program_counter(child) != 0


def test_a_stop_at_exec_is_told_from_others():
    pid = make_child(lambda: os.execv("/bin/true", ["true"]))
    try:
        assert not ptrace.stands_at_exec(pid)  # SIGSTOP
        assert ptrace.call(SETOPTIONS, pid, None, 1 << ptrace.EVENT_EXEC) == 0
        assert ptrace.call(ptrace.CONT, pid, None, None) == 0
        _, status = os.waitpid(pid, 0)
        assert status >> 8 == signal.SIGTRAP | ptrace.EVENT_EXEC << 8
        assert ptrace.stands_at_exec(pid)
        assert ptrace.debug_registers(pid).dr7 == 0
    finally:
        end(pid)
    assert not ptrace.stands_at_exec(pid)
