"""One data breakpoint: the kwatch that is set for it, or why there is none."""

from __future__ import annotations

from itertools import count
from typing import Any

import gdb

from gdb_kwatch.core.grammar import Request
from gdb_kwatch.inferior import side_effects
from gdb_kwatch.inferior.lvalues import in_frame
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.setting import set_watch
from gdb_kwatch.inferior.watch import PENDING, Watch

from .breakpoint import Breakpoints
from .data_place import Place, Places
from .log_message import LogPoint, expressions_of
from .sending import send

_ACCESSES = {"read": "read", "write": "write", "readWrite": "access"}

# IDs of those that could not be set when they were asked for: no number of gdb's.
_next_id = count(1_000_000_000)


class Point:
    """What the editor asked for, and what became of it.

    It is set, or `waiting` (for its program to be loaded, for the program to stop), or neither:
    what it names is gone.
    """

    def __init__(
        self, session: Session, places: Places, breakpoints: Breakpoints, request: dict[str, Any]
    ) -> None:
        self.session = session
        self.places = places
        self.breakpoints = breakpoints
        self.request = request
        self.id = 0
        self.message = ""
        self.waiting = True
        self._told: dict[str, Any] | None = None  # None: the editor has none, or no longer
        self._watch: Watch | None = None
        self._ignored: str | None = None  # the hitCondition that was last counted down from

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two requests of one watchpoint; condition and hitCondition can be changed."""
        return tuple(self.request.get(name) for name in ("dataId", "accessType", "logMessage"))

    @property
    def watch(self) -> Watch | None:
        """The kwatch while it is there: the user may delete it, and a local's function return."""
        watch = self._watch
        return watch if watch is not None and watch.bp.is_valid() else None

    def set(self) -> None:
        """Make it what the request says, as far as that can be."""
        self.message = ""
        try:
            place = self.places.place(str(self.request["dataId"]))
        except gdb.GdbError as error:
            self.waiting, self.message = False, str(error)
            return self._name()
        try:
            if self.watch is None:
                self._watch, self._ignored = self._make(place), None
            self.waiting = False
            self._restrict()
        except (gdb.error, gdb.GdbError, gdb.MemoryError, ValueError, KeyError) as error:
            self.delete()
            self.message = str(error).split("\n")[0]
            self.waiting = True
        return self._name()

    def _name(self) -> None:
        """The ID that the editor knows it by: gdb's number, if there is one from the beginning."""
        watch = self.watch
        if not self.id:
            self.id = watch.number if watch is not None else next(_next_id)
        if watch is not None:
            self.breakpoints.owners[watch.number] = self

    def _make(self, place: Place) -> Watch:
        access = _ACCESSES[self.request.get("accessType") or "write"]
        size = None if place.size is None else str(place.size)
        message = self.request.get("logMessage")
        with in_frame(place.frame):
            for expression in [] if message is None else expressions_of(message):
                side_effects.refuse(expression)
            watch = set_watch(
                self.session,
                Request(place.expression, access, size=size),
                make=None if message is None else LogPoint.maker(message),
            )
        self.session.at_change(watch)
        return watch

    def _restrict(self) -> None:
        """Condition, and how many hits are passed over."""
        watch, condition = self.watch, self.request.get("condition") or None
        assert watch is not None
        passes = self.request.get("hitCondition") or None
        ignored = 0
        if passes is not None:
            side_effects.refuse(passes)
            ignored = int(gdb.parse_and_eval(passes))
        if isinstance(watch.bp, LogPoint):
            watch.bp.restrict(condition, None if passes == self._ignored else ignored)
        else:
            if watch.bp.condition != condition:
                watch.bp.condition = condition
            if passes != self._ignored:
                # Setting .ignore_count prints; the command's words can be caught.
                gdb.execute(f"ignore {watch.number} {ignored}", to_string=True)
        self._ignored = passes

    def delete(self) -> None:
        watch, self._watch = self.watch, None
        if watch is not None:
            watch.bp.delete()

    def answer(self) -> dict[str, Any]:
        """The protocol's Breakpoint, for an answer or an event."""
        self._told = told = self._json()
        return told

    def tell(self, reason: str = "changed") -> None:
        """An event, where there is something new."""
        if reason == "removed":
            self._told = None
            send("breakpoint", {"reason": reason, "breakpoint": {"id": self.id, "verified": False}})
        elif self._told is not None and self._json() != self._told:
            send("breakpoint", {"reason": "changed", "breakpoint": self.answer()})

    def _json(self) -> dict[str, Any]:
        watch = self.watch
        if watch is None:
            reason = "pending" if self.waiting else "failed"
            message = self.message or "It is gone: deleted, or its function has returned."
            return {"id": self.id, "verified": False, "reason": reason, "message": message}
        if watch.waits:
            message = self.session.registry.slots.why_waiting(watch).split("\n")[0]
            return {"id": self.id, "verified": False, "reason": "pending", "message": message}
        if watch.armed or (watch.state == PENDING and not gdb.selected_inferior().pid):
            return {"id": self.id, "verified": True}
        message = watch.reason or watch.state
        return {"id": self.id, "verified": False, "reason": "failed", "message": message}
