"""The debug registers of an LWP through ptrace(2), for the process that traces it.

``struct user`` of x86-64 holds them at ``u_debugreg`` (sys/user.h); the kernel answers
PTRACE_PEEKUSER there from ``thread->ptrace_bps`` and ``virtual_dr6``
(arch/x86/kernel/ptrace.c).  Only the thread that traces may ask: in gdb, its main thread.
"""

from __future__ import annotations

import ctypes
import os

from gdb_kwatch.core.debugreg import Registers

PEEKUSER = 3
POKEUSER = 6
_MASK = (1 << 64) - 1
_DEBUGREG = 848  # offsetof(struct user, u_debugreg)
_RIP = 128  # offsetof(struct user, regs.rip)
_DR0, _DR1, _DR2, _DR3, _DR6, _DR7 = (_DEBUGREG + 8 * n for n in (0, 1, 2, 3, 6, 7))

_libc = ctypes.CDLL(None, use_errno=True)
call = _libc.ptrace
call.restype = ctypes.c_long
call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _peek(lwp: int, offset: int) -> int:
    value = int(call(PEEKUSER, lwp, offset, None))
    # -1 is an error or a value; only then is errno worth the look (ctypes keeps its own copy).
    if value == -1 and (number := ctypes.get_errno()):
        ctypes.set_errno(0)
        raise OSError(number, os.strerror(number), f"LWP {lwp}")
    return value & _MASK


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
    return _peek(lwp, _DR6)


def clear_status(lwp: int) -> None:
    """Set DR6 of a stopped LWP to 0, so that its trap is seen to be handled.

    gdb has cached the thread's stop reason and data address by then
    (``save_stop_reason``, gdb/linux-nat.c), and clears DR6 itself before it resumes.
    """
    if call(POKEUSER, lwp, _DR6, None) == -1:
        number = ctypes.get_errno()
        ctypes.set_errno(0)
        raise OSError(number, os.strerror(number), f"LWP {lwp}")


def poke_debug_register(lwp: int, number: int, value: int) -> bool:
    """Set DR ``number`` of a stopped LWP; True where it failed (ctypes.get_errno tells)."""
    return bool(call(POKEUSER, lwp, _DEBUGREG + 8 * number, value) == -1)


def program_counter(lwp: int) -> int:
    """RIP of a stopped LWP; raises as `debug_registers`."""
    return _peek(lwp, _RIP)
