"""The canary: a throwaway child makes one known store under a debug register, and must trap.

It shows that this machine, this kernel and this tracer deliver data watchpoints at all, by the
same calls that gdb makes (``x86_linux_dr_set``, gdb/nat/x86-linux-dregs.c).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import NamedTuple

from . import ptrace

_WRITE_8_BYTES_DR0 = 1 | 1 << 16 | 2 << 18


class Canary(NamedTuple):
    """What became of it.  ``trapped`` is the only good end; ``text`` says it in one line."""

    trapped: bool
    text: str


def _say(request: str) -> Canary:
    number = ctypes.get_errno()
    reason = os.strerror(number)
    if number == errno.ENOSPC:
        reason = "every debug register is taken by somebody else (perf, another tracer)"
    return Canary(False, f"the canary could not be watched: {request}: {reason}")


def run() -> Canary:
    """Fly it.  Takes about a millisecond; the child is gone when this returns.

    The caller's own waiting for children must not run meanwhile (in gdb: its main thread, from
    Python, where nothing else can).
    """
    word = ctypes.c_ulonglong(0)
    try:
        pid = os.fork()
    except OSError as error:
        return Canary(False, f"the canary could not be flown: no new process: {error.strerror}")
    if pid == 0:
        # The child: nothing but the store that must trap.
        try:
            if ptrace.call(ptrace.TRACEME, 0, None, None) == -1:
                os._exit(1)
            os.kill(os.getpid(), signal.SIGSTOP)
            word.value = 1
        finally:
            os._exit(0)
    try:
        return _watch(pid, ctypes.addressof(word))
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _watch(pid: int, address: int) -> Canary:
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        return Canary(False, "the canary could not be traced: ptrace is refused here")
    if ptrace.poke_debug_register(pid, 0, address):
        return _say("setting DR0")
    if ptrace.poke_debug_register(pid, 7, _WRITE_8_BYTES_DR0):
        return _say("setting DR7")
    if ptrace.call(ptrace.CONT, pid, None, None) == -1:
        return _say("resuming it")
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != signal.SIGTRAP:
        return Canary(
            False, "the canary's store did not trap: this machine does not deliver watchpoints"
        )
    try:
        dr6 = ptrace.status(pid)
    except OSError:
        return _say("reading DR6")
    if not dr6 & 1:
        return Canary(False, f"the canary trapped, but DR6 is {dr6:#x}: its bit is missing")
    return Canary(True, f"the canary's store trapped in a throwaway process (DR6 {dr6:#x})")
