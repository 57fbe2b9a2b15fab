"""The processes that a trace, or ``kwatch who``, goes with: the program, and its children by fork
where gdb follows them.

A child's memory is as its parent's, so the same addresses hold; gdb has it stopped when it tells of
its first thread.  A child that gdb lets go of is left alone, and so is a program after exec: its
addresses mean nothing there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import gdb

from gdb_kwatch.linux import ptrace

from . import programs
from .faults import guarded
from .handlers import Handlers

ENDED = "the program has ended"
KILLED = "gdb has killed the program"
LET_GO = "gdb has let go of the program (detach)"
EXEC = "the program has called exec"


class Following:
    """From its making until `close`."""

    def __init__(
        self, came: Callable[[int, list[int]], None], went: Callable[[int, str], None]
    ) -> None:
        """``came``: a child with its LWPs; ``went``: a process has ended, was let go of, or has
        called exec, in words."""
        self.pids = {gdb.selected_inferior().pid}
        self.came = came
        self.went = went
        self._running = False
        self._handlers = Handlers(
            cont=self._at_cont,
            stop=self._at_stop,
            new_thread=self._at_new_thread,
            exited=self._at_exited,
            clear_objfiles=self._at_clear_objfiles,
        )
        self._handlers.connect()

    @guarded()
    def _at_new_thread(self, event: gdb.ThreadEvent) -> None:
        self.look()

    def look(self) -> None:
        """Are there children that were not known?"""
        for inferior in gdb.inferiors():
            pid = inferior.pid
            if pid and pid not in self.pids and _parent(pid) in self.pids:
                # gdb 10 tells of the parent's end before the child has a thread: its first is it.
                lwps = [thread.ptid[1] for thread in inferior.threads()] or [pid]
                self.pids.add(pid)
                self.came(pid, lwps)

    @guarded()
    def _at_cont(self, event: gdb.ContinueEvent) -> None:
        self._running = True

    @guarded()
    def _at_stop(self, event: gdb.StopEvent) -> None:
        self._running = False

    @guarded()
    def _at_exited(self, event: gdb.ExitedEvent) -> None:
        """gdb tells of a detach and a kill in the same way."""
        pid = event.inferior.pid
        # gdb leaves no child of its own a zombie whose end it has seen.
        if not ptrace.is_dead(pid) or _parent(pid) == os.getpid():
            self._forget(pid, LET_GO)
        else:
            self._forget(pid, ENDED if self._running else KILLED)

    @guarded()
    def _at_clear_objfiles(self, event: gdb.ClearObjFilesEvent) -> None:
        """Also where the user gives ``file``, and gdb 10 a child of fork its symbols."""
        for inferior in gdb.inferiors():
            if programs.of(inferior) == event.progspace and ptrace.stands_at_exec(inferior.pid):
                self._forget(inferior.pid, EXEC)

    def _forget(self, pid: int, why: str) -> None:
        if pid in self.pids:
            self.look()  # the child of one that gdb lets go of stays
            self.pids.discard(pid)
            self.went(pid, why)

    def close(self) -> None:
        self._handlers.disconnect()


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as lines:
        return next((int(text.split()[1]) for text in lines if text.startswith("PPid:")), 0)
    return 0
