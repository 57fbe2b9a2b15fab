"""Which signal a hit may be told by: one that does no harm where it is left over.

A signal that is ignored by default stops a traced thread all the same (``sig_ignored``), and is
forgotten where nobody takes it.  One that the program handles would run its handler at each hit;
one that it blocks stops it too late: SIGSTOP, which none can block, takes its place there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from . import registers

STOP = signal.SIGSTOP
_TGKILL = 234  # x86-64
_libc_call = ctypes.CDLL(None).syscall

# Ignored by default, and nobody's own business as SIGCHLD and SIGCONT are.
HARMLESS = (signal.SIGURG, signal.SIGWINCH)


def masks(pid: int) -> dict[str, int]:
    """SigBlk, SigIgn, SigCgt and ShdPnd of a process or thread, bit N-1 for signal N; {} if it is
    gone."""
    found = {}
    try:
        with open(f"/proc/{pid}/status") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name in ("SigBlk", "SigIgn", "SigCgt", "ShdPnd"):
                    found[name] = int(value, 16)
    except OSError:
        pass
    return found


def has(mask: int, number: int) -> bool:
    return bool(mask >> (number - 1) & 1)


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal to the process as a whole is still to be taken by one of its threads."""
    return has(masks(pid).get("ShdPnd", 0), number)


def is_coming(pid: int, number: int) -> bool:
    """The same, where there is a thread that does not block it."""
    if not is_pending(pid, number):
        return False
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return False
    return not all(is_blocked(lwp, number) for lwp in threads)


_SI_TKILL, _SI_KERNEL = -6, 0x80  # si_code, bits/siginfo-consts.h


def stopped_by_sigstop(lwp: int) -> bool:
    """Whether an LWP stands at the delivery of SIGSTOP."""
    try:
        return registers.signal_info(lwp).number == STOP
    except OSError:
        return False


def foreign_stop(lwp: int) -> int | None:
    """Who, but this process and the kernel, has sent the SIGSTOP by which an LWP is stopped (0:
    somebody outside of this PID namespace); None where it is no such stop."""
    try:
        info = registers.signal_info(lwp)
    except OSError:
        return None
    if info.number != STOP or info.code == _SI_KERNEL:
        return None
    if info.code == _SI_TKILL and info.sender in (os.getpid(), 0):
        return None  # gdb's own, which another one had stopped in its place
    return info.sender


def stop(pid: int, lwp: int) -> None:
    """Have one thread of a process that is traced from here stop."""
    _libc_call(_TGKILL, pid, lwp, int(signal.SIGSTOP))  # gone: nothing is to be done


def choose(pid: int) -> tuple[signal.Signals | None, str]:
    """The first harmless signal that the program does not handle; None and the reason where it
    handles all of them."""
    caught = masks(pid).get("SigCgt", 0)
    for number in HARMLESS:
        if not has(caught, number):
            return number, ""
    names = " and ".join(number.name for number in HARMLESS)
    return None, f"the program handles {names} itself, by which hits are told"


def is_blocked(lwp: int, number: int) -> bool:
    """Whether a thread blocks ``number``, so that its hits are told only when it unblocks it."""
    return has(masks(lwp).get("SigBlk", 0), number)


def stop_again(pid: int, name: str) -> None:
    """See that a process which a signal was to stop is stopped.  gdb passes the signal on when it
    detaches, but sends SIGCONT to threads that have a SIGSTOP of gdb's own left over
    (``detach_one_lwp``, gdb/linux-nat.c), and that lets all of the process go on."""
    number = signal.Signals[name]
    caught = masks(pid)
    by_default = not any(has(caught.get(mask, 0), number) for mask in ("SigIgn", "SigCgt"))
    if caught and by_default:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
