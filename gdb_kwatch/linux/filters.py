"""A BPF program at work on one watched place: its memory, its events on the threads, their end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import signal
import struct
from collections.abc import Callable, Iterable, Mapping

from gdb_kwatch.core import filters
from gdb_kwatch.core.bpf import AssemblyError, Program
from gdb_kwatch.core.debugreg import WRITE, pieces_of
from gdb_kwatch.core.filters import Kernel, Source

from . import bpf, perf_event
from .perf_event import Event, NoThread, PerfError, Request

_TASK = 8192  # bytes of a task_struct that are searched
# Neither SIGKILL, SIGSTOP, nor glibc's own two (32, 33), which cannot be blocked.
_MASKS = (0x6D5B_3A7C_2A93_A8D5, 0x1B2E_95D8_5528_7A22)
_FIRST_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO

# What says nothing of the kernel.
_PASSING = (
    *(errno.EINTR, errno.EAGAIN, errno.EIO, errno.ENOMEM, errno.ENOSPC, errno.EMFILE),
    *(errno.ENFILE, errno.ESRCH),
)

# In the order in which they are tried: what the kernel may have, best first.
_KERNELS = (Kernel(True, True), Kernel(True, False), Kernel(False, False))


def kernel() -> Kernel:
    """What this kernel's BPF can do, tried once.  Raises OSError where it cannot be used at all."""
    blocked = None
    with contextlib.suppress(OSError):
        blocked = _place_of_blocked()
    return _able()._replace(blocked=blocked)


@functools.lru_cache(maxsize=1)
def _able() -> Kernel:
    error: Exception | None = None
    layout = filters.RecordLayout(8)
    memory = bpf.Memory(filters.HEAD)
    ring: bpf.Ring | None = None
    try:
        ring = bpf.Ring(4096, layout.size)
        maps = {filters.MEMORY: memory.fd, filters.RING: ring.fd}
        for able in _KERNELS:
            able = able._replace(namespace=_namespace())
            try:
                code = filters.recording(Source(0, 8), able, 0, layout).assemble(maps)
                os.close(bpf.load(code))
            except bpf.BpfError as failed:
                if failed.errno in _PASSING:
                    raise
                error = error or failed
            else:
                return able
    finally:
        if ring is not None:
            ring.close()
        memory.close()
    assert error is not None
    raise error


@functools.lru_cache(maxsize=1)
def _place_of_blocked() -> int | None:
    """Where this kernel's task_struct has the mask of the signals that a thread blocks: looked up
    in this thread's own, with masks that stand nowhere else.  None where that fails; raises
    OSError where it failed in passing."""
    memory = bpf.Memory(filters.HEAD + _TASK)
    event = None
    program = -1
    try:
        program = bpf.load(filters.own_task(_TASK).assemble({filters.MEMORY: memory.fd}))
        word = ctypes.c_longlong(0)
        event = Event(Request(ctypes.addressof(word), 8, WRITE, kernel=False), 0)
        event.set_bpf(program)
        found: set[int] | None = None
        for mask in _MASKS:
            numbers = {number for number in range(1, 65) if mask >> (number - 1) & 1}
            before = signal.pthread_sigmask(signal.SIG_SETMASK, numbers)
            try:
                word.value += 1
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            words = struct.unpack_from(f"<{_TASK // 8}Q", memory.data, filters.HEAD)
            places = {8 * n for n, value in enumerate(words) if value == mask}
            found = places if found is None else found & places
        return found.pop() if found is not None and len(found) == 1 else None
    except OSError as error:
        if error.errno in _PASSING:
            raise
        return None
    finally:
        if event is not None:
            event.close()
        if program >= 0:
            os.close(program)
        memory.close()


def _namespace() -> tuple[int, int] | None:
    """The PID namespace of this process, whose numbers it knows its threads and programs by; None
    for the first one of the system."""
    try:
        found = os.stat("/proc/self/ns/pid")
    except OSError:
        return None
    return None if found.st_ino == _FIRST_NAMESPACE else (found.st_dev, found.st_ino)


def why_not(kernel_too: bool = False) -> str:
    """Why nothing can be decided in the kernel here; "" where it can."""
    refused = perf_event.why_not(kernel_too)
    if refused is not None:
        remedy = f" ({refused.remedy})" if refused.remedy else ""
        return f"perf events: {refused.strerror}{remedy}"
    reason = bpf.why_not()
    if reason:
        return reason
    try:
        kernel()
    except OSError as error:
        return f"this kernel's BPF is too old (Linux {os.uname().release}): {error.strerror}"
    return ""


def why_no_stops() -> str:
    """Why the kernel cannot be asked for stops; "" where it can."""
    reason = why_not()
    if not reason and kernel().blocked is None:
        return "BPF cannot tell here which signals a thread blocks"
    return reason


class Filter:
    """One program, on every thread that it is put on; new threads inherit it."""

    def __init__(
        self,
        source: Source,
        write: Callable[[Source, Kernel], Program],
        memory: int = filters.HEAD,
        maps: Mapping[str, int] | None = None,
        rw: int = WRITE,
        kernel_too: bool = False,
        value: bytes = b"",
    ) -> None:
        """``write`` makes the program; ``value`` is what stands there now.  Raises BpfError and
        AssemblyError."""
        # perf counts the reads by the program itself, for which the kernel does not run it again.
        self.source = source = source._replace(own_reads=kernel_too and rw != WRITE)
        self.rw = rw
        self.kernel_too = kernel_too
        self.events: dict[int, list[Event]] = {}
        self.program = -1
        self._ended = 0
        self.memory = bpf.Memory(memory)
        try:
            self.memory.data[filters.OLD : filters.OLD + len(value[: filters.VALUE_MOST])] = value[
                : filters.VALUE_MOST
            ]
            code = write(source, kernel()).assemble(
                {filters.MEMORY: self.memory.fd, **(maps or {})}
            )
            self.program = bpf.load(code)
        except BaseException:
            self.close()
            raise

    def put_on(self, lwp: int, signal: int = 0, inherit: bool = True) -> None:
        """Watch what a thread does.  Raises PerfError: NoSlot, NoThread …"""
        if lwp in self.events:
            return
        made: list[Event] = []
        try:
            for piece in pieces_of(self.source.address, self.source.size, self.rw):
                request = Request(
                    piece.address,
                    piece.length,
                    piece.rw,
                    kernel=self.kernel_too,
                    inherit=inherit,
                    threads_only=True,
                    disabled=True,
                )
                event = Event(request, lwp)
                made.append(event)
                event.set_bpf(self.program)
                if signal:
                    event.signal(signal)
            for event in made:
                event.enable()
        except BaseException:
            for event in made:
                event.close()
            raise
        self.events[lwp] = made

    def put_on_all(self, lwps: Iterable[int]) -> None:
        """Each thread that is there; one that ends meanwhile is none.  Raises PerfError."""
        for lwp in lwps:
            try:
                self.put_on(lwp)
            except NoThread:
                continue

    def hits(self) -> int:
        """Every access, whatever the program said of it."""
        if self.source.own_reads:
            return self.word(filters.RUNS) - self.word(filters.REPEATED)
        if not self.events:
            return self._ended
        counted = sum(e.count() for events in self.events.values() for e in events)
        return self._ended + counted - self.word(filters.REPEATED)

    def word(self, offset: int) -> int:
        return self.memory.word(offset)

    def take_off(self, lwps: Iterable[int] | None = None) -> None:
        """Give the slots back, all or those of some threads; the counts stay."""
        gone = [lwp for lwp in (self.events if lwps is None else lwps) if lwp in self.events]
        events = [event for lwp in gone for event in self.events[lwp]]
        try:
            for event in events:
                event.disable()  # else one may come between its count and its end
            if len(gone) == len(self.events):
                self._ended = self.hits()
            else:
                self._ended += sum(event.count() for event in events)
        finally:
            for lwp in gone:
                del self.events[lwp]
            for event in events:
                event.close()

    def close(self) -> None:
        """Leave nothing behind.  Never raises: nobody asks for its counts any more."""
        with contextlib.suppress(OSError):
            self.take_off()
        if self.program >= 0:
            os.close(self.program)
            self.program = -1
        self.memory.close()


def threads_of(pid: int) -> list[int]:
    """The LWPs of a process."""
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def read_words(data: bytes, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}Q", data)


__all__ = [
    "AssemblyError",
    "Filter",
    "PerfError",
    "kernel",
    "read_words",
    "threads_of",
    "why_no_stops",
    "why_not",
]
