"""bpf(2) by ctypes: programs for perf events, and the memory that they share with this process.

A map that is read while programs run is read through mmap only.  The system calls on maps switch
BPF off on their CPU for a moment (``bpf_disable_instrumentation``, kernel/bpf/syscall.c); on a
preemptible kernel a hit just then runs no program (``bpf_overflow_handler``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import struct
from collections.abc import Iterator

from .rights import capable

_SYS_BPF = 321  # x86-64
_MAP_CREATE, _PROG_LOAD = 0, 5
_MAP_ARRAY, _MAP_RINGBUF = 2, 27
_PROG_PERF_EVENT = 7
_F_MMAPABLE = 1 << 10  # Linux 5.5
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_LOG_SIZE = 1 << 20
_PAGE = mmap.PAGESIZE
_NAME = 16  # BPF_OBJ_NAME_LEN

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39

_libc = ctypes.CDLL(None, use_errno=True)
_call = _libc.syscall
_call.restype = ctypes.c_long


class BpfError(OSError):
    """What the kernel refused, and why; ``log`` is the verifier's."""

    def __init__(self, number: int, what: str, log: str = "") -> None:
        super().__init__(number, f"{what}: {os.strerror(number)}{log and chr(10)}{log}")
        self.log = log


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    ctypes.set_errno(0)
    found = int(_call(_SYS_BPF, command, buffer, len(buffer)))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


@contextlib.contextmanager
def _unlimited() -> Iterator[None]:
    """Before Linux 5.11 maps and programs counted as locked memory (RLIMIT_MEMLOCK)."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        most = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, most)
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def _create(command: int, attributes: bytes) -> int:
    try:
        return _bpf(command, attributes)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    with _unlimited():
        return _bpf(command, attributes)


def _name(name: str) -> bytes:
    return name.encode()[: _NAME - 1].ljust(_NAME, b"\0")


def _map(kind: int, key: int, value: int, entries: int, flags: int, name: str) -> int:
    attributes = struct.pack("<IIIIIII", kind, key, value, entries, flags, 0, 0) + _name(name)
    try:
        return _create(_MAP_CREATE, attributes)
    except OSError as error:
        raise BpfError(error.errno or 0, f"BPF map {name}") from None


class Memory:
    """An array map of one value: plain memory that programs and this process share."""

    def __init__(self, size: int, name: str = "kwatch") -> None:
        self.size = -(-size // 8) * 8
        self.fd = _map(_MAP_ARRAY, 4, self.size, 1, _F_MMAPABLE, name)
        try:
            self.data = mmap.mmap(self.fd, -(-self.size // _PAGE) * _PAGE)
        except BaseException:
            os.close(self.fd)
            raise

    def word(self, offset: int) -> int:
        """8 bytes as a number."""
        return int(struct.unpack_from("<Q", self.data, offset)[0])

    def set_word(self, offset: int, value: int) -> None:
        struct.pack_into("<Q", self.data, offset, value & (1 << 64) - 1)

    def close(self) -> None:
        if self.fd >= 0:
            self.data.close()
            os.close(self.fd)
            self.fd = -1


class Ring:
    """A BPF ring buffer (Linux 5.8) of records that are all of one size.

    Two positions that only grow, and the data mapped twice in a row, so that no record is cut
    (kernel/bpf/ringbuf.c).  Each record has a header of 8 bytes, whose fourth has the flags
    BUSY and DISCARD.
    """

    HEADER = 8

    def __init__(self, size: int, record: int, name: str = "kwatch") -> None:
        self.size = _PAGE
        while self.size < size:
            self.size *= 2
        self.record = record
        self.step = self.HEADER + -(-record // 8) * 8
        self.fd = _map(_MAP_RINGBUF, 0, 0, self.size, 0, name)
        try:
            self._consumer = mmap.mmap(self.fd, _PAGE)
            self._producer = mmap.mmap(
                self.fd, _PAGE + 2 * self.size, prot=mmap.PROT_READ, offset=_PAGE
            )
        except BaseException:
            os.close(self.fd)
            raise

    def read(self) -> bytes:
        """What has come since the last call: whole records, headers included, `step` bytes each;
        and room for more."""
        step = self.step
        (done,) = struct.unpack_from("<Q", self._consumer, 0)
        (there,) = struct.unpack_from("<Q", self._producer, 0)
        start = _PAGE + (done & self.size - 1)
        flags = self._producer[start + 3 : start + (there - done) : step]
        # Another CPU may be about to write one; those after it wait with it.
        count = len(flags) - len(flags.lstrip(b"\0"))
        if not count:
            return b""
        data = self._producer[start : start + count * step]
        struct.pack_into("<Q", self._consumer, 0, done + count * step)
        return data

    def close(self) -> None:
        if self.fd >= 0:
            self._consumer.close()
            self._producer.close()
            os.close(self.fd)
            self.fd = -1


def load(code: bytes, name: str = "kwatch") -> int:
    """Load a program for perf events; its file descriptor.  Raises BpfError."""
    insns = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")  # probe_read_user and others want it

    def attributes(log: ctypes.Array[ctypes.c_char] | None) -> bytes:
        return struct.pack(
            "<IIQQIIQII",
            _PROG_PERF_EVENT,
            len(code) // 8,
            ctypes.addressof(insns),
            ctypes.addressof(licence),
            1 if log is not None else 0,
            len(log) if log is not None else 0,
            ctypes.addressof(log) if log is not None else 0,
            0,
            0,
        ) + _name(name)

    try:
        return _create(_PROG_LOAD, attributes(None))
    except OSError as error:
        number = error.errno or 0
    log = ctypes.create_string_buffer(_LOG_SIZE)
    with contextlib.suppress(OSError):
        os.close(_create(_PROG_LOAD, attributes(log)))
    raise BpfError(number, "BPF program", log.value.decode(errors="replace").strip())


def attach(event: int, program: int) -> None:
    """Have ``program`` decide about each hit of a perf event.  Raises BpfError."""
    try:
        fcntl.ioctl(event, _SET_BPF, program)
    except OSError as error:
        raise BpfError(error.errno or 0, "a BPF program on a perf event") from None


def why_not() -> str:
    """Why this process may not have BPF programs; "" where it may.  Tried, not guessed."""
    try:
        os.close(load(_NOTHING, "kwatch_test"))
    except OSError as error:
        return _reason(error)
    return ""


# r0 = 0; exit
_NOTHING = bytes.fromhex("b700000000000000 9500000000000000")


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL), or seccomp refuses it"
    if error.errno == errno.EPERM:
        missing = [
            name
            for name, number in (("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON))
            if not capable(number)
        ]
        if missing and not capable(CAP_SYS_ADMIN):
            return f"BPF programs are refused: no {' and no '.join(missing)} (run gdb as root)"
        return "BPF programs are refused here (lockdown, seccomp, or another user namespace)"
    return f"BPF programs do not work here ({os.strerror(error.errno or 0)})"
