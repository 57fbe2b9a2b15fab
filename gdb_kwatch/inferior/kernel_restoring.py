"""Catchpoints of kwatches, as `save breakpoints` has written them, are kwatches again.

Their condition says what was asked for (`KernelWatch.call`).  Nothing may be set in the events in
which they come: the next prompt, or the program's start, sees to them.  gdb 10 has no such event:
there `source` is what brings them, or the command line before the first prompt.
"""

from __future__ import annotations

from typing import Any

import gdb

from gdb_kwatch.core.grammar import UsageError, parse

from . import gdbfacts
from .faults import guarded
from .handlers import Handlers
from .hooks import Hook
from .kernel_watch import HAS_OBJECTS, Listed, as_command, listed
from .session import Session
from .setting import set_watch


class Restoring:
    """A part of the session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._strangers: list[gdb.Breakpoint | Listed] = []
        self._always = Handlers(breakpoint_created=self.at_created)
        self._seeing = Handlers(before_prompt=self.see_to_them, new_objfile=self.see_to_them)
        self._hook = None if HAS_OBJECTS else Hook("hookpost-source", self.at_source)

    def connect(self) -> None:
        if self._hook is None:
            self._always.connect()
        else:
            self._hook.install()
            self._seeing.connect()

    def disconnect(self) -> None:
        if self._hook is not None:
            self._hook.uninstall()
        self._always.disconnect()
        self._seeing.disconnect()
        self._strangers.clear()

    @guarded()
    def at_created(self, bp: gdb.Breakpoint) -> None:
        if bp.type == gdb.BP_CATCHPOINT:
            self._strangers.append(bp)
            self._seeing.connect()

    @guarded()
    def at_source(self) -> None:
        """gdb 10: the user has sourced a file."""
        self.see_to_them()

    @guarded()
    def see_to_them(self, event: Any = None) -> None:
        self._seeing.disconnect()
        strangers, self._strangers = self._strangers, []
        if self._hook is not None and gdbfacts.may_execute():
            strangers += listed()
        for bp in strangers:
            if bp.is_valid() and bp.number not in self.session.registry.watches:
                line = as_command(bp.condition)
                if line is not None:
                    self._restore(bp, line)

    def _restore(self, bp: gdb.Breakpoint | Listed, line: str) -> None:
        kernel, number = self.session.kernel, bp.number
        kernel.catchpoint = bp
        try:
            request = parse(line)
            watch = set_watch(self.session, request)
            if request.acts:
                self.session.act(watch, request)
        except (gdb.GdbError, UsageError) as error:
            self.session.reporter.warn(f"catchpoint {number} is no kwatch again: {error}")
            return
        finally:
            kernel.catchpoint = None
        if watch.number != number:
            self.session.reporter.note(
                f"catchpoint {number} is kwatch {watch.number} now: "
                f"{watch.judged.text if watch.judged else line}"
            )
            bp.delete()
