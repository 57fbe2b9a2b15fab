"""The debug registers of an LWP through ptrace(2), for the process that traces it.

``struct user`` of x86-64 holds them at ``u_debugreg`` (sys/user.h); the kernel answers
PTRACE_PEEKUSER there from ``thread->ptrace_bps`` and ``virtual_dr6``
(arch/x86/kernel/ptrace.c).  Only the thread that traces may ask: in gdb, its main thread.
"""

from __future__ import annotations

import ctypes
import os
from signal import SIGTRAP

from gdb_kwatch.core.debugreg import Registers

TRACEME = 0
PEEKDATA = 2
PEEKUSER = 3
POKEUSER = 6
CONT = 7
GETSIGINFO = 0x4202
EVENT_EXEC = 4  # PTRACE_EVENT_EXEC (linux/ptrace.h)
_MASK = (1 << 64) - 1
_DEBUGREG = 848  # offsetof(struct user, u_debugreg)
_RIP = 128  # offsetof(struct user, regs.rip)
_DR0, _DR1, _DR2, _DR3, _DR6, _DR7 = (_DEBUGREG + 8 * n for n in (0, 1, 2, 3, 6, 7))

_libc = ctypes.CDLL(None, use_errno=True)
call = _libc.ptrace
call.restype = ctypes.c_long
call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

# The same without errno and without conversions: half the time, for what is read at each trap.
_quick = ctypes.CDLL(None).ptrace
_quick.restype = ctypes.c_ulong


def _peek(lwp: int, offset: int) -> int:
    value: int = _quick(PEEKUSER, lwp, offset, 0)
    if value == _MASK:  # an error, or the value; asking again tells
        ctypes.set_errno(0)
        again = call(PEEKUSER, lwp, offset, None)
        if again == -1 and (number := ctypes.get_errno()):
            raise OSError(number, os.strerror(number), f"LWP {lwp}")
        return int(again) & _MASK
    return value


def debug_registers(lwp: int) -> Registers:
    """DR0 to DR3, DR6 and DR7 of a stopped LWP.

    Raises OSError: ESRCH where it is gone, runs, or is not traced by this thread.
    """
    return Registers(
        (_peek(lwp, _DR0), _peek(lwp, _DR1), _peek(lwp, _DR2), _peek(lwp, _DR3)),
        _peek(lwp, _DR6),
        _peek(lwp, _DR7),
    )


def status(lwp: int) -> int:
    """DR6 of a stopped LWP; raises as `debug_registers`."""
    value: int = _quick(PEEKUSER, lwp, _DR6, 0)
    return value if value != _MASK else _peek(lwp, _DR6)


def clear_status(lwp: int) -> None:
    """Set DR6 of a stopped LWP to 0, which marks its trap as handled.

    gdb has cached the thread's stop reason and data address by then (``save_stop_reason``,
    gdb/linux-nat.c), and clears DR6 itself before it resumes.  Never raises: the LWP was read
    just before.
    """
    _quick(POKEUSER, lwp, _DR6, 0)


# For each value of B0 to B3: where the slots that were hit stand in struct user.
_HIT_OFFSETS = [
    tuple(_DEBUGREG + 8 * slot for slot in range(4) if bits >> slot & 1) for bits in range(16)
]


NO_TRAP = 0, ()


def trap(lwp: int) -> tuple[int, tuple[int, ...]]:
    """The PC of a stopped LWP, and what tells its trap from others: B0 to B3 of DR6, DR7, and
    those of DR0 to DR3 that were hit.  NO_TRAP where none was; raises as `debug_registers`."""
    dr6 = _quick(PEEKUSER, lwp, _DR6, 0)
    bits = dr6 & 15
    if not bits:
        return NO_TRAP
    if dr6 == _MASK:
        bits = _peek(lwp, _DR6) & 15
    pc = _quick(PEEKUSER, lwp, _RIP, 0)
    dr7 = _quick(PEEKUSER, lwp, _DR7, 0)
    offsets = _HIT_OFFSETS[bits]
    if len(offsets) == 1:
        address = _quick(PEEKUSER, lwp, offsets[0], 0)
        if _MASK not in (pc, dr7, address):
            return pc, (bits, dr7, address)
    addresses = [_quick(PEEKUSER, lwp, offset, 0) for offset in offsets]
    if _MASK in (pc, dr7, *addresses):  # one of them failed: again, by the way that tells why
        pc, dr7 = _peek(lwp, _RIP), _peek(lwp, _DR7)
        addresses = [_peek(lwp, offset) for offset in offsets]
    return pc, (bits, dr7, *addresses)


class Word:
    """Reads up to 8 bytes at one place in the memory of a stopped LWP."""

    __slots__ = ("mask", "where")

    def __init__(self, address: int, size: int) -> None:
        self.where = ctypes.c_void_p(address)
        self.mask = (1 << 8 * size) - 1

    def read(self, lwp: int) -> int | None:
        """As a little-endian number; None where the 8 bytes from there cannot be read or are all
        ones: the call does not tell these apart."""
        value: int = _quick(PEEKDATA, lwp, self.where, 0)
        return None if value == _MASK else value & self.mask


def poke_debug_register(lwp: int, number: int, value: int) -> bool:
    """Set DR ``number`` of a stopped LWP; True where it failed (ctypes.get_errno tells)."""
    return bool(call(POKEUSER, lwp, _DEBUGREG + 8 * number, value) == -1)


def program_counter(lwp: int) -> int:
    """RIP of a stopped LWP; all ones where it cannot be read."""
    return int(_quick(PEEKUSER, lwp, _RIP, 0))


def signal_info(lwp: int) -> tuple[int, int]:
    """si_signo and si_code of what stopped an LWP.  Raises OSError where it is no stop by a
    signal."""
    info = (ctypes.c_int * 32)()  # siginfo_t: 128 bytes
    ctypes.set_errno(0)
    if call(GETSIGINFO, lwp, None, ctypes.cast(info, ctypes.c_void_p)) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"LWP {lwp}")
    return info[0], info[2]


def stands_at_exec(lwp: int) -> bool:
    """Whether an LWP is stopped because it has called exec (``PTRACE_O_TRACEEXEC``): then si_code
    is the event's status (``ptrace_event``, ``ptrace_notify``).  False where it cannot be read."""
    try:
        return signal_info(lwp) == (SIGTRAP, SIGTRAP | EVENT_EXEC << 8)
    except OSError:
        return False


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or only zombies are left of it that nobody has waited for yet."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    return all(_is_zombie(f"/proc/{pid}/task/{thread}/stat") for thread in threads)


def has_ended(lwp: int) -> bool:
    """Whether a thread runs no more, waited for or not."""
    return _is_zombie(f"/proc/{lwp}/stat")


def _is_zombie(stat: str) -> bool:
    try:
        with open(stat, errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def tracer_of(lwp: int) -> int:
    """The process that traces an LWP of this system; 0 where none does, or it is gone."""
    try:
        with open(f"/proc/{lwp}/status") as lines:
            return next((int(x.split()[1]) for x in lines if x.startswith("TracerPid:")), 0)
    except OSError:
        return 0
