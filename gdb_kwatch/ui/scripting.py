"""kwatch for other scripts in gdb: watchpoints with callbacks, slots and hits as plain data.

`gdb_kwatch` itself exports what is here.  A callback is not called in the middle of a gdb event,
where a script may hardly do anything, but in the next safe place: at the end of the call or command
that caused it, at the end of a stop, or before the next prompt.  One that raises is told in one
line, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gdb

from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import Trap
from gdb_kwatch.inferior import faults
from gdb_kwatch.inferior.handlers import Handlers
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.setting import set_watch
from gdb_kwatch.inferior.watch import Watch

from .places import place_of
from .report import fill_in
from .views import Views

ACCESSES = ("write", "read", "access")
SCOPES = ("inferior", "all")

Heard = Callable[["Handle"], object]
HitHeard = Callable[["Handle", "dict[str, Any]"], object]


class Handle:
    """A kwatch that a script has set.

    number: gdb's breakpoint number; the user may delete, disable or condition it by that
    name: as the script has called it
    """

    def __init__(
        self,
        scripting: Scripting,
        name: str,
        on_hit: HitHeard | None,
        on_installed: Heard | None,
        on_uninstalled: Heard | None,
    ) -> None:
        self.number = 0
        self.name = name
        self._scripting = scripting
        self._on_hit = on_hit
        self._on_installed = on_installed
        self._on_uninstalled = on_uninstalled

    @property
    def valid(self) -> bool:
        """False once it was deleted, by the script or by the user."""
        return self._watch() is not None

    @property
    def state(self) -> str:
        """As `kwatch list` has it (installed, waiting, displaced, merged, disabled, pending, …), or
        "deleted"."""
        watch = self._watch()
        return "deleted" if watch is None else self._scripting.views.state_of(watch)

    @property
    def slots(self) -> list[int]:
        """The debug registers, 0 to 3, in which it stands on the threads that are stopped."""
        watch = self._watch()
        return [] if watch is None else self._scripting.views.slots_of(watch)

    @property
    def hits(self) -> int:
        """How often it was touched."""
        watch = self._watch()
        return 0 if watch is None else self._scripting.views.hits_of(watch)

    def delete(self) -> None:
        """Delete it, as gdb's `delete` does.  Nothing where it is gone already."""
        watch = self._watch()
        if watch is not None:
            watch.bp.delete()
            self._scripting.deliver()

    def _watch(self) -> Watch | None:
        watch = self._scripting.session.registry.watches.get(self.number)
        if watch is None or watch.options is None or watch.options.listener is not self:
            return None
        return watch

    def installed(self) -> None:
        if self._on_installed is not None:
            self._on_installed(self)

    def uninstalled(self) -> None:
        if self._on_uninstalled is not None:
            self._on_uninstalled(self)

    def hit(self, row: dict[str, Any]) -> None:
        if self._on_hit is not None:
            self._on_hit(self, row)

    def __repr__(self) -> str:
        return f"<kwatch {self.number} {self.name!r} {self.state}>"


class Scripting:
    """Sets watchpoints for scripts, and calls them back.  One for a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.views = Views(session)
        self._heard = 0  # the last trap that was told
        self._delivering = False
        self._used = False
        self._events = Handlers(stop=self._at, before_prompt=self._at)

    def connect(self) -> None:
        """Nothing to be done before the first script comes; then again after ``kwatch off``."""
        if self._used:
            self._heard = self.session.engine.history.count
            self._events.connect()

    def disconnect(self) -> None:
        self._events.disconnect()

    def watch(
        self,
        what: str | int,
        length: int | None,
        access: str,
        priority: int | str,
        scope: str,
        name: str | None,
        condition: str | None,
        every: bool,
        on_hit: HitHeard | None,
        on_installed: Heard | None,
        on_uninstalled: Heard | None,
    ) -> Handle:
        if access not in ACCESSES:
            raise ValueError(f"access is one of {', '.join(ACCESSES)}, not {access!r}")
        if scope not in SCOPES:
            raise ValueError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
        if isinstance(what, int) and length is None:
            raise ValueError("an address needs a length, 1 to 32 bytes")
        if not self.session.connected:
            raise gdb.GdbError("kwatch is off; 'kwatch on' puts it back.")
        if not self._used:
            self._used = True
            self.connect()
        expression = hex(what) if isinstance(what, int) else what
        request = Request(
            expression,
            access,
            every=every,
            size=None if length is None else str(length),
            condition=condition,
            priority=str(priority),
            everywhere=scope == "all",
        )
        handle = Handle(self, name or expression, on_hit, on_installed, on_uninstalled)
        made = set_watch(self.session, request, name=name or "", listener=handle)
        handle.number = made.number
        self.session.tell()
        self.deliver()
        return handle

    def hits(self) -> list[dict[str, Any]]:
        return self.views.hits_json()

    def slots(self) -> list[dict[str, Any]]:
        return self.views.slots_json()

    @faults.guarded()
    def _at(self, event: Any = None) -> None:
        self.deliver()

    def deliver(self) -> None:
        """Make the calls that are due, also those that they bring about."""
        if self._delivering:
            return
        self._delivering = True
        try:
            self._take_hits()
            while calls := self.session.registry.slots.take_calls():
                for call in calls:
                    _safely(call)
        finally:
            self._delivering = False

    def _take_hits(self) -> None:
        """Tell the arbiter of the hits since last time."""
        history = self.session.engine.history
        new, self._heard = history.count - self._heard, history.count
        heard = {
            watch.number: watch
            for watch in self.session.registry.watches.values()
            if watch.options is not None and watch.options.listener is not None
        }
        for trap in history.last(new) if new and heard else ():
            for row in _rows(trap, set(heard)):
                self.session.registry.slots.trigger(heard[row["number"]], row)


def _rows(trap: Trap, numbers: set[int]) -> list[dict[str, Any]]:
    """A trap's hits of ``numbers``, each as one flat row."""
    chosen = [hit for hit in trap.hits if hit.number in numbers]
    if not chosen:
        return []
    fill_in(trap)
    whole = trap.json(place_of(trap).json())
    whole.pop("hits")
    return [{**whole, **hit.json()} for hit in chosen]


def _safely(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:
        faults.report("a script's callback", error)
