"""Threads of kwatch's own inside gdb: for reading rings and drawing, never for gdb's functions."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable


class Background:
    """Calls a function every ``seconds``, until `stop`.  The function may end it by returning
    False."""

    def __init__(self, action: Callable[[], object], seconds: float) -> None:
        self.action = action
        self.seconds = seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kwatch", daemon=True)
        # gdb waits for SIGCHLD with sigsuspend: no other thread may take it (`block_signals`,
        # gdbsupport/block-signals.h, does the same for gdb's own workers).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        atexit.register(self.stop)

    def _run(self) -> None:
        while not self._end.wait(self.seconds):
            if self.action() is False:
                return

    def stop(self) -> None:
        """Returns when the function runs no more."""
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.stop)
