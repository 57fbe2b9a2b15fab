"""Hardware breakpoints through perf_event_open(2): what they count, signal and record.

Where ptrace breakpoints leave out the kernel (``ptrace_breakpoint_init``, arch/x86/kernel/ptrace.c,
sets exclude_kernel), a perf event may see user and kernel alike.  Layouts and names are those of
linux/perf_event.h and linux/hw_breakpoint.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from gdb_kwatch.core.debugreg import READ_WRITE, WRITE

from . import rights

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value
_PERF_EVENT_OPEN = 298  # x86-64
_FLAG_FD_CLOEXEC = 1 << 3
TYPE_BREAKPOINT = 5

# R/W field of DR7, and its ``bp_type``.
BP_TYPE = {WRITE: 2, READ_WRITE: 3}

# struct perf_event_attr, up to sig_data (PERF_ATTR_SIZE_VER7): name and format of each field.
# A kernel that knows a shorter one takes this, as long as the rest is 0 (``perf_copy_attr``).
ATTR_FIELDS = (
    ("type", "I"), ("size", "I"), ("config", "Q"), ("sample_period", "Q"), ("sample_type", "Q"),
    ("read_format", "Q"), ("flags", "Q"), ("wakeup_events", "I"), ("bp_type", "I"),
    ("bp_addr", "Q"), ("bp_len", "Q"), ("branch_sample_type", "Q"), ("sample_regs_user", "Q"),
    ("sample_stack_user", "I"), ("clockid", "i"), ("sample_regs_intr", "Q"),
    ("aux_watermark", "I"), ("sample_max_stack", "H"), ("reserved_2", "H"),
    ("aux_sample_size", "I"), ("reserved_3", "I"), ("sig_data", "Q"),
)  # fmt: skip
ATTR_FORMAT = "<" + "".join(code for _, code in ATTR_FIELDS)
ATTR_SIZE = struct.calcsize(ATTR_FORMAT)

# The bits of ``flags``.
DISABLED = 1 << 0
INHERIT = 1 << 1
PINNED = 1 << 2
EXCLUDE_USER = 1 << 4
EXCLUDE_KERNEL = 1 << 5
EXCLUDE_HV = 1 << 6
WATERMARK = 1 << 14
INHERIT_THREAD = 1 << 35  # Linux 5.13
REMOVE_ON_EXEC = 1 << 36  # Linux 5.13
SIGTRAP = 1 << 37  # Linux 5.13

# ioctl requests.
IOC_ENABLE = 0x2400
IOC_DISABLE = 0x2401
IOC_RESET = 0x2403
IOC_SET_BPF = 0x40042408

F_OWNER_TID = 0  # struct f_owner_ex
_F_SETSIG = 10
_F_SETOWN_EX = 15

# The parts of a sample that are asked for here, in the order in which a record has them.
SAMPLE_IP = 1 << 0
SAMPLE_TID = 1 << 1
SAMPLE_TIME = 1 << 2
_SAMPLE_PARTS = ((SAMPLE_IP, "ip", "Q"), (SAMPLE_TID, "pid tid", "II"), (SAMPLE_TIME, "time", "Q"))

# struct perf_event_header, its types and the mode in ``misc``.
_HEADER = struct.Struct("<IHH")
RECORD_LOST = 2
RECORD_SAMPLE = 9
_CPUMODE_MASK = 7
CPUMODE_KERNEL = 1
CPUMODE_USER = 2

# struct perf_event_mmap_page: where data_head stands; data_tail and two more follow.
_DATA_HEAD = 1024


class PerfError(OSError):
    """perf_event_open was refused.  ``strerror`` says what is in the way, ``remedy`` what to do."""

    def __init__(self, number: int, reason: str, remedy: str = "") -> None:
        super().__init__(number, reason)
        self.remedy = remedy


class NoSlot(PerfError):
    """All four debug registers of the thread are reserved (ENOSPC)."""


class NotAllowed(PerfError):
    """Rights are missing: perf_event_paranoid, CAP_PERFMON, seccomp, or the thread's owner."""


class NoThread(PerfError):
    """The thread has ended (ESRCH)."""


class NoDescriptors(PerfError):
    """This process can open no more files (EMFILE)."""


def paranoid() -> int | None:
    """kernel.perf_event_paranoid; None where the kernel has no perf events."""
    try:
        with open("/proc/sys/kernel/perf_event_paranoid") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _privileged() -> bool:
    return rights.capable(rights.CAP_PERFMON) or rights.capable(rights.CAP_SYS_ADMIN)


def why_refused(number: int, kernel: bool) -> PerfError:
    """What an errno of perf_event_open means here; ``kernel``: it was to see the kernel too."""
    level = paranoid()
    release = os.uname().release
    if number == errno.ENOSPC:
        return NoSlot(number, "no debug register is free on this thread")
    if number == errno.ESRCH:
        return NoThread(number, "the thread has ended")
    if number == errno.EMFILE:
        return NoDescriptors(
            number,
            "gdb can open no more files (a perf event takes one for each thread and slot)",
            "raise the limit before gdb is started: ulimit -n 65536",
        )
    if number == errno.ENFILE:
        return NoDescriptors(number, "the system can open no more files", "sysctl fs.file-max")
    if level is None or number == errno.ENOSYS:
        what = "this kernel has no perf events" if level is None else "perf_event_open is blocked"
        return NotAllowed(
            number,
            f"{what} (Linux {release})",
            "CONFIG_PERF_EVENTS in the kernel; in a container, a seccomp profile that allows "
            "perf_event_open",
        )
    if number in (errno.EACCES, errno.EPERM):
        allowed = 1 if kernel else 2
        if level > allowed and not _privileged():
            what = "inside system calls " if kernel else ""
            return NotAllowed(
                number,
                f"kernel.perf_event_paranoid is {level} and gdb has no CAP_PERFMON",
                f"to see hits {what}run gdb as root, give it CAP_PERFMON, or "
                f"sysctl kernel.perf_event_paranoid={allowed}",
            )
        return NotAllowed(
            number,
            "perf_event_open is refused by a seccomp filter or a security module, or the thread "
            "belongs to another user",
            "in a container, allow perf_event_open (--cap-add PERFMON and a seccomp profile that "
            "has it), or run gdb outside",
        )
    if number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV):
        return PerfError(
            number,
            f"this kernel or machine takes no such hardware breakpoint (Linux {release}: "
            f"{os.strerror(number)})",
        )
    return PerfError(number, os.strerror(number))


class Request(NamedTuple):
    """A hardware breakpoint as perf takes it: an aligned piece of memory and whom it counts."""

    address: int
    length: int
    rw: int
    kernel: bool = True
    user: bool = True
    disabled: bool = False
    inherit: bool = False
    threads_only: bool = False  # child processes do not inherit it
    remove_on_exec: bool = True
    samples: int = 0  # SAMPLE_...; 0: no records

    def attr(self) -> bytes:
        """The struct perf_event_attr."""
        flags = PINNED | EXCLUDE_HV
        for wanted, bit in (
            (self.disabled, DISABLED),
            (self.inherit, INHERIT),
            (self.inherit and self.threads_only, INHERIT_THREAD),
            (not self.user, EXCLUDE_USER),
            (not self.kernel, EXCLUDE_KERNEL),
            (self.remove_on_exec, REMOVE_ON_EXEC),
            (bool(self.samples), WATERMARK),
        ):
            flags |= bit if wanted else 0
        values: dict[str, int] = {
            "type": TYPE_BREAKPOINT,
            "size": ATTR_SIZE,
            "sample_period": 1,
            "sample_type": self.samples,
            "flags": flags,
            # A wake-up is an interrupt.  Who reads records looks by himself, so the whole ring
            # is the mark; a signal (`Event.signal`) goes by events.
            "wakeup_events": 1 << 30 if self.samples else 1,
            "bp_type": BP_TYPE[self.rw],
            "bp_addr": self.address,
            "bp_len": self.length,
        }
        return struct.pack(ATTR_FORMAT, *(values.get(name, 0) for name, _ in ATTR_FIELDS))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A refusal as PerfError, where it is one of a call on an event that is open."""
    try:
        yield
    except ProcessLookupError as error:
        raise NoThread(error.errno or errno.ESRCH, "the thread has ended") from None
    except OSError as error:
        number = error.errno or 0
        raise PerfError(number, f"{what} is refused: {os.strerror(number)}") from None


def _open(attr: bytes, lwp: int, cpu: int) -> int:
    """The bare system call; returns a descriptor, or minus an errno."""
    buffer = ctypes.create_string_buffer(attr, len(attr))
    fd: int = _libc.syscall(
        ctypes.c_long(_PERF_EVENT_OPEN),
        buffer,
        ctypes.c_long(lwp),
        ctypes.c_long(cpu),
        ctypes.c_long(-1),
        ctypes.c_ulong(_FLAG_FD_CLOEXEC),
    )
    return fd if fd >= 0 else -ctypes.get_errno()


class _Ring:
    """Memory shared with the kernel.  Not by Python's mmap, which keeps a descriptor of its own."""

    def __init__(self, fd: int, pages: int) -> None:
        self.size = (1 + pages) * mmap.PAGESIZE
        shared = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
        address = _libc.mmap(None, self.size, *shared, fd, 0)
        if address == _MAP_FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.address: int = address
        # data_head, data_tail
        self.places = (ctypes.c_uint64 * 2).from_address(address + _DATA_HEAD)
        self.data = (ctypes.c_ubyte * (pages * mmap.PAGESIZE)).from_address(address + mmap.PAGESIZE)

    def close(self) -> None:
        _libc.munmap(self.address, self.size)


class Sample(NamedTuple):
    """One hit as the kernel recorded it; what was not asked for is 0."""

    kernel: bool
    ip: int = 0
    pid: int = 0
    tid: int = 0
    time: int = 0


class Event:
    """One hardware breakpoint of perf's on one thread.  Close it: it holds a slot."""

    def __init__(self, request: Request, lwp: int, cpu: int = -1) -> None:
        """Raises PerfError.  Without Linux 5.13's remove_on_exec, the caller must take it off
        when the program calls exec."""
        self.request = request
        self.lwp = lwp
        self.seen = 0  # what `fresh` has told already
        self._ring: _Ring | None = None
        fd = _open(request.attr(), lwp, cpu)
        if fd == -errno.EINVAL and request.remove_on_exec:
            self.request = _without_remove_on_exec(request)
            fd = _open(self.request.attr(), lwp, cpu)
        if fd < 0:
            raise why_refused(-fd, request.kernel)
        self.fd = fd

    @property
    def closed(self) -> bool:
        return self.fd < 0

    @property
    def mapped(self) -> bool:
        """Whether its hits are recorded."""
        return self._ring is not None

    def close(self) -> None:
        """Give the slot back.  A second time does nothing."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def move_up(self, lowest: int) -> None:
        """Use a descriptor of at least ``lowest``.  Before `signal` and `map`, which tie
        themselves to the one in use.  Raises PerfError."""
        try:
            fd = fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as error:
            raise why_refused(errno.EMFILE, self.request.kernel) from error
        os.close(self.fd)
        self.fd = fd

    def signal(self, number: int) -> None:
        """Have each hit send signal ``number`` to the thread itself.

        Its siginfo has si_code POLL_IN and si_fd this descriptor (``send_sigio_to_task``)."""
        with _told("a signal for a perf event"):
            fcntl.fcntl(self.fd, _F_SETOWN_EX, struct.pack("ii", F_OWNER_TID, self.lwp))
            fcntl.fcntl(self.fd, _F_SETSIG, number)
            flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)

    def enable(self) -> None:
        with _told("a perf event"):
            fcntl.ioctl(self.fd, IOC_ENABLE, 0)

    def disable(self) -> None:
        with _told("the end of a perf event"):
            fcntl.ioctl(self.fd, IOC_DISABLE, 0)

    def set_bpf(self, program: int) -> None:
        """Let a BPF program (its descriptor) decide whether a hit signals and is recorded; it is
        counted all the same."""
        with _told("a BPF program on a perf event"):
            fcntl.ioctl(self.fd, IOC_SET_BPF, program)

    def count(self) -> int:
        """How often it was hit; the last count where the thread has ended."""
        with _told("the count of a perf event"):
            data = os.read(self.fd, 8)
        # 0 bytes: a pinned event that lost its place (``perf_read_hw``, PERF_EVENT_STATE_ERROR).
        return int.from_bytes(data, "little") if data else self.seen

    def fresh(self) -> int:
        """How often it was hit since this was last asked."""
        count = self.count()
        new, self.seen = count - self.seen, count
        return new

    def ended(self) -> bool:
        """Whether its thread is gone.  (poll(2) tells so only of an event with a ring.)"""
        try:
            os.kill(self.lwp, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    # Records.

    def map(self, pages: int = 1) -> bool:
        """Keep a record of each hit in ``pages`` (a power of two) of memory; False where the
        limit for that is reached (kernel.perf_event_mlock_kb)."""
        try:
            self._ring = _Ring(self.fd, pages)
        except OSError:
            return False
        return True

    def samples(self) -> tuple[list[Sample], int]:
        """The records since this was last asked, oldest first, and how many were lost for want
        of room (the count has them)."""
        ring = self._ring
        if ring is None:
            return [], 0
        head, tail = ring.places[:2]
        count, size = head - tail, len(ring.data)
        start = tail % size
        data = bytes(ring.data[start : start + count])
        data += bytes(ring.data[: count - len(data)])  # round the end
        found: list[Sample] = []
        lost = at = 0
        while at < count:
            kind, misc, length = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + length]
            if kind == RECORD_SAMPLE:
                found.append(self._sample(misc, body))
            elif kind == RECORD_LOST:
                lost += int(struct.unpack_from("<Q", body, 8)[0])
            at += length
        ring.places[1] = head
        return found, lost

    def _sample(self, misc: int, body: bytes) -> Sample:
        parts: dict[str, int] = {}
        place = 0
        for bit, names, codes in _SAMPLE_PARTS:
            if self.request.samples & bit:
                values = struct.unpack_from("<" + codes, body, place)
                parts.update(zip(names.split(), values))
                place += struct.calcsize("<" + codes)
        return Sample(misc & _CPUMODE_MASK == CPUMODE_KERNEL, **parts)


def _without_remove_on_exec(request: Request) -> Request:
    return request._replace(remove_on_exec=False, threads_only=False)


def why_not(kernel: bool = True) -> PerfError | None:
    """Whether this process may have such events at all, tried on itself; None if it may.

    ``kernel``: those that see system calls.  Having no slot free is no refusal.
    """
    word = ctypes.c_ulonglong(0)
    request = Request(ctypes.addressof(word), 8, WRITE, kernel=kernel, disabled=True)
    event = None
    try:
        event = Event(request, 0)
    except NoSlot:
        return None
    except PerfError as error:
        return error
    finally:
        if event is not None:
            with suppress(OSError):
                event.close()
    return None
