"""The second canary: a throwaway child has the kernel write under a perf breakpoint, and must stop.

It shows that hits inside system calls are counted here and told by a signal, before somebody takes
no hits for evidence.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

from gdb_kwatch.core.debugreg import WRITE

from . import ptrace, registers
from .canary import Canary
from .perf_event import Event, PerfError, Request
from .signals import HARMLESS

_LENGTH = 8


def run() -> Canary:
    """Fly it; see `canary.run`."""
    word = ctypes.c_ulonglong(0)
    address = ctypes.addressof(word)
    ends = os.pipe()
    try:
        os.write(ends[1], b"kwatch-k")
        pid = os.fork()
        if pid == 0:
            try:
                # No more Python between the stop and the call than there must be.
                read = ctypes.CDLL(None).read
                for number in HARMLESS:
                    signal.signal(number, signal.SIG_DFL)
                if ptrace.call(ptrace.TRACEME, 0, None, None) == -1:
                    os._exit(1)
                os.kill(os.getpid(), signal.SIGSTOP)
                read(ends[0], ctypes.c_void_p(address), ctypes.c_size_t(_LENGTH))
            finally:
                os._exit(0)
        try:
            return _watch(pid, address)
        finally:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    except OSError as error:
        return Canary(False, f"could not be flown: {error.strerror}")
    finally:
        for end in ends:
            os.close(end)


def _watch(pid: int, address: int) -> Canary:
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        return Canary(False, "could not be traced: ptrace is refused here")
    event = None
    try:
        event = Event(Request(address, _LENGTH, WRITE), pid)
        event.signal(HARMLESS[0])
        ptrace.call(ptrace.CONT, pid, None, None)
        _, status = os.waitpid(pid, 0)
        count = event.count()
        told = os.WIFSTOPPED(status) and os.WSTOPSIG(status) == HARMLESS[0]
        mine = told and registers.signal_info(pid).fd == event.fd
    except PerfError as error:
        return Canary(False, str(error.strerror))
    finally:
        if event is not None:
            event.close()
    if not count:
        return Canary(False, "the kernel's write in a throwaway process was not counted")
    if not mine:
        return Canary(False, f"the kernel's write was counted ({count}), and no signal came")
    return Canary(True, f"a read(2) in a throwaway process was counted ({count}) and stopped it")
