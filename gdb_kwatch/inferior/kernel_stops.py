"""SIGSTOP, by which the kernel stops a thread that blocks the signals that hits are told by.

The catchpoints of perf's kwatches catch it too, and gdb is told not to pass it on: where gdb goes
on from a catchpoint, or by a command, it then drops the signal (``keep_going``,
``clear_proceed_status_thread``, gdb/infrun.c), so that the program never sees it and no group
stop happens.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import gdb

from gdb_kwatch.linux import filters, signals

from . import gdbfacts
from .faults import guarded
from .handlers import Handlers
from .kernel_arming import Arming
from .lvalues import frame_or_none

_ROW = re.compile(r"^SIGSTOP\s+\w+\s+\w+\s+(\w+)", re.M)


class StopSignal:
    """What gdb does with SIGSTOP; the user's own setting comes back at the end."""

    def __init__(self, arming: Arming) -> None:
        self.arming = arming
        self.session = arming.session
        self._was_passed = False
        self._owed: set[tuple[int, int]] = set()  # process and LWP
        self._standing: set[int] = set()  # LWPs that are stopped by it
        self._resumed = Handlers(cont=self.at_cont)
        self._leaving = Handlers(before_prompt=self.at_prompt)

    def take(self) -> None:
        """Not in an event."""
        self._leaving.disconnect()
        if self._was_passed or filters.why_no_stops():
            return
        found = _ROW.search(gdbfacts.answer("info signals SIGSTOP"))
        self._was_passed = found is not None and found.group(1) == "Yes"
        if self._was_passed:
            gdb.execute("handle SIGSTOP nopass", to_string=True)

    def leave(self) -> None:
        """Nothing is watched any more: give it back at the next prompt."""
        self._owed.clear()
        self._resumed.disconnect()
        if self._was_passed:
            self._leaving.connect()

    @guarded()
    def at_prompt(self) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Not in an event."""
        self._leaving.disconnect()
        if not self._was_passed:
            return
        self._was_passed = False
        for inferior in gdb.inferiors():
            for thread in inferior.threads():
                if thread.ptid[1] in self._standing and thread.is_stopped():
                    _forget_signal(thread)
        gdb.execute("handle SIGSTOP pass", to_string=True)

    def owe(self) -> None:
        """At a stop: gdb may have taken the SIGSTOP of another thread for its own, by which it
        stops all; that thread is to stop again as soon as it runs."""
        for watch in self.arming.watches():
            if watch.program is None:
                continue
            there = dict(self.arming.threads_of(watch))
            for lwp in watch.program.untold(there):
                if lwp in there and signals.is_blocked(lwp, self.arming.events.signal):
                    self._owed.add((there[lwp].ptid[0], lwp))
        if self._owed:
            self._resumed.connect()

    def stands(self, lwp: int) -> None:
        """gdb stops for a thread; by SIGSTOP?"""
        if signals.stopped_by_sigstop(lwp):
            self._standing.add(lwp)
            self._resumed.connect()

    @guarded()
    def at_cont(self, event: Any) -> None:
        self._resumed.disconnect()
        self._standing.clear()
        owed, self._owed = self._owed, set()
        for pid, lwp in owed:
            signals.stop(pid, lwp)

    def look(self, lwp: int) -> None:
        """The thread was stopped by a signal that is no hit's: a SIGSTOP from elsewhere, which gdb
        is about to drop, stops the program in another way."""
        sender = signals.foreign_stop(lwp)
        if sender is None:
            return
        by = f" by process {sender}" if sender else ""
        self.session.reporter.warn(
            f"LWP {lwp} was sent SIGSTOP{by}: gdb shows that as an interrupt, and the program does "
            "not get it, while a kwatch uses SIGSTOP"
        )
        gdb.post_event(_interrupt)


def _forget_signal(thread: gdb.InferiorThread) -> None:
    """Have gdb resume it with no signal."""
    selected, frame = gdbfacts.selected_thread(), frame_or_none()
    if thread != selected:
        thread.switch()
    gdb.execute("queue-signal 0", to_string=True)
    if selected is not None and thread != selected:
        selected.switch()
        if frame is not None and frame.is_valid():
            frame.select()


def _interrupt() -> None:
    """Not where something else has stopped the program: the SIGINT would wait for its next run."""
    with suppress(gdb.error):
        thread = gdb.selected_thread()
        if thread is None or thread.is_running():
            gdb.execute("interrupt")
