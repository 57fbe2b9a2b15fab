"""For front ends that speak gdb/MI: commands of kwatch's own, and a notification for each stop.

gdb 12 and later have commands: ``-kwatch``, ``-kwatch-list``, ``-kwatch-slots``, ``-kwatch-hits``.
gdb 14 and later have notifications: ``=kwatch-trap``, sent before the ``*stopped`` that it is
about.  What they carry is named as in the JSON, in MI's own shape, where everything is a string;
``json`` in a notification is the same once more as JSON text.
"""

from __future__ import annotations

from typing import Any

import gdb

from gdb_kwatch.core.grammar import UsageError, parse
from gdb_kwatch.core.records import Trap
from gdb_kwatch.inferior import faults, gdbfacts
from gdb_kwatch.inferior.handlers import PROMPTS
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.setting import set_watch

from .places import place_of
from .report import Report
from .views import Views

# As ``-break-watch`` names what it has set (`mi_cmd_break_watch`, `watchpoint::print_mention`).
_NAMES = {"write": "wpt", "read": "hw-rwpt", "access": "hw-awpt"}


def as_mi(value: Any) -> Any:
    """A JSON value as MI has it: null is left out, true and false are words."""
    if isinstance(value, dict):
        return {key: as_mi(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [as_mi(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


class _Commands:
    """What the MI commands do.  Each takes MI's words and returns the fields of ``^done``."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.views = Views(session)

    def kwatch(self, words: list[str]) -> dict[str, Any]:
        """-kwatch [OPTION...] EXPRESSION: set one, with the options of the ``kwatch`` command."""
        try:
            watch = set_watch(self.session, parse(" ".join(words)))
        except UsageError as error:
            raise gdb.GdbError(f"-kwatch: {error}") from None
        self.session.at_change(watch)
        return {_NAMES[watch.access]: {"number": str(watch.number), "exp": watch.expression}}

    def list(self, words: list[str]) -> dict[str, Any]:
        """-kwatch-list: the owners of debug registers."""
        _no_words("-kwatch-list", words)
        return {"watchpoints": as_mi(self.views.list_json())}

    def slots(self, words: list[str]) -> dict[str, Any]:
        """-kwatch-slots: the debug registers of each thread."""
        _no_words("-kwatch-slots", words)
        return {"threads": as_mi(self.views.slots_json())}

    def hits(self, words: list[str]) -> dict[str, Any]:
        """-kwatch-hits [-n COUNT]: the traps of this session, the oldest first."""
        count = None
        if words:
            if len(words) != 2 or words[0] != "-n" or not words[1].isdigit():
                raise gdb.GdbError("-kwatch-hits: Usage: -kwatch-hits [-n COUNT]")
            count = int(words[1])
        return {"traps": as_mi(self.views.hits_json(count))}


def _no_words(command: str, words: list[str]) -> None:
    if words:
        raise gdb.GdbError(f"{command}: Usage: {command}")


class Mi:
    """kwatch's side of gdb/MI, as far as this gdb has one."""

    def __init__(self, session: Session, report: Report) -> None:
        self.session = session
        self.report = report
        self.commands: list[gdb.MICommand] = []

    def connect(self) -> None:
        """Safe to call again after `disconnect`."""
        if hasattr(gdb, "MICommand") and not self.commands:
            self.commands = _define(_Commands(self.session))
        for command in self.commands:
            command.installed = True
        if hasattr(gdb, "notify_mi") and gdbfacts.interpreter_is_mi():
            self.report.listeners.append(notify)

    def disconnect(self) -> None:
        for command in self.commands:
            command.installed = False
        if notify in self.report.listeners:
            self.report.listeners.remove(notify)


def _define(commands: _Commands) -> list[gdb.MICommand]:
    """The MI commands themselves; gdb installs each as it is made."""

    class Command(gdb.MICommand):
        def __init__(self, name: str, action: Any) -> None:
            super().__init__(name)
            self.action = action

        @faults.as_errors()
        def invoke(self, words: list[str]) -> dict[str, Any]:
            PROMPTS.now()  # gdb sends no event before MI's prompt
            return self.action(words)

    return [
        Command("-kwatch", commands.kwatch),
        Command("-kwatch-list", commands.list),
        Command("-kwatch-slots", commands.slots),
        Command("-kwatch-hits", commands.hits),
    ]


def notify(trap: Trap) -> None:
    """``=kwatch-trap`` for a trap at which the program stops, or that a stop has brought up."""
    import json  # not at the top: gdb should start quickly

    fields = trap.json(place_of(trap).json())
    gdb.notify_mi("kwatch-trap", {**as_mi(fields), "json": json.dumps(fields)})
