"""When each run of the program began: what was recorded of one is not told as another's."""

from __future__ import annotations

import time

import gdb

from .handlers import Handlers


class Runs:
    """A part of the session.  A process is heard of with its first thread, before it has run."""

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}
        self._begun: dict[int, list[int]] = {}  # by inferior: ns of CLOCK_MONOTONIC
        self._handlers = Handlers(new_thread=self._new)

    def connect(self) -> None:
        self._new()
        self._handlers.connect()

    def disconnect(self) -> None:
        self._handlers.disconnect()

    def _new(self, event: gdb.ThreadEvent | None = None) -> None:
        for inferior in gdb.inferiors():
            if inferior.pid and self._pids.get(inferior.num) != inferior.pid:
                self._pids[inferior.num] = inferior.pid
                self._begun.setdefault(inferior.num, []).append(time.monotonic_ns())

    def number(self, when: int, inferior: int) -> int:
        """In which run of an inferior something was at ``when``: the last one is 0, the one before
        it -1."""
        begun = self._begun.get(inferior, [])
        return -sum(when < start for start in begun[1:])
