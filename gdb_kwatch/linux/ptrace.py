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

# The same without errno and without conversions: half the time, for what is read at each trap.
_quick = ctypes.CDLL(None).ptrace
_quick.restype = ctypes.c_ulong


def _peek(lwp: int, offset: int) -> int:
    value: int = _quick(PEEKUSER, lwp, offset, 0)
    if value == _MASK:  # an error, or the value; asking again tells
        again = call(PEEKUSER, lwp, offset, None)
        if again == -1 and (number := ctypes.get_errno()):
            ctypes.set_errno(0)
            raise OSError(number, os.strerror(number), f"LWP {lwp}")
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
    return _peek(lwp, _DR6)


def control(lwp: int) -> int:
    """DR7 of a stopped LWP; raises as `debug_registers`."""
    return _peek(lwp, _DR7)


def address(lwp: int, slot: int) -> int:
    """DR0 to DR3 of a stopped LWP; raises as `debug_registers`."""
    return _peek(lwp, _DEBUGREG + 8 * slot)


def poke_debug_register(lwp: int, number: int, value: int) -> bool:
    """Set DR ``number`` of a stopped LWP; True where it failed (ctypes.get_errno tells)."""
    return bool(call(POKEUSER, lwp, _DEBUGREG + 8 * number, value) == -1)


def program_counter(lwp: int) -> int:
    """RIP of a stopped LWP; raises as `debug_registers`."""
    return _peek(lwp, _RIP)
