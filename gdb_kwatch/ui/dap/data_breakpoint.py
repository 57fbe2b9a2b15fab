"""Data breakpoints: ``dataBreakpointInfo`` and ``setDataBreakpoints``, each one a kwatch.

Defined where gdb's own server lacks them (all up to 18).  A data breakpoint is a gdb breakpoint
as every kwatch is: it has a number, stands in ``info breakpoints``, and may be had in the REPL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gdb.dap import breakpoint as gdbs

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.handlers import Handlers
from gdb_kwatch.inferior.session import Session

from .breakpoint import Breakpoints
from .data_place import Places
from .data_point import Point
from .sending import send, server

REQUESTS = ("dataBreakpointInfo", "setDataBreakpoints")
CAPABILITIES = ("supportsDataBreakpoints", "supportsDataBreakpointBytes")


class DataBreakpoints:
    """The data breakpoints that the editor wants, and the two requests about them."""

    def __init__(self, session: Session, breakpoints: Breakpoints) -> None:
        self.session = session
        self.breakpoints = breakpoints
        self.places = Places()
        self.points: list[Point] = []
        self.defined = False
        self._handlers = Handlers(new_objfile=self.try_again, stop=self.try_again)

    def connect(self) -> None:
        """Serve the requests, where gdb's server does not."""
        if set(REQUESTS) & set(server._commands):
            return
        self.defined = True

        @server.request("dataBreakpointInfo")
        def data_breakpoint_info(*, name: str, **args):
            return self.places.info(name, args)

        @server.capability("supportsDataBreakpoints")
        @server.capability("supportsDataBreakpointBytes")
        @server.request("setDataBreakpoints", expect_stopped=False)
        def set_data_breakpoints(*, breakpoints: Sequence, **args):
            return {"breakpoints": self.replace(breakpoints)}

        self._handlers.connect()
        self._tell(True)

    def disconnect(self) -> None:
        if not self.defined:
            return
        self.defined = False
        self._handlers.disconnect()
        for name in REQUESTS:
            del server._commands[name]
        for name in CAPABILITIES:
            del server._capabilities[name]
        self._tell(False)

    def _tell(self, able: bool) -> None:
        """To an editor that has asked for the capabilities before kwatch was there."""
        if getattr(getattr(server, "_server", None), "config", None) is not None:
            send("capabilities", {"capabilities": dict.fromkeys(CAPABILITIES, able)})

    def replace(self, wanted: Sequence[Any]) -> list[dict[str, Any]]:
        """All that there are to be; those that were there before are kept as they stand."""
        before, self.points = self.points, []
        for request in wanted:
            point = Point(self.session, self.places, self.breakpoints, request)
            same = next((old for old in before if old.key == point.key), None)
            if same is not None:
                before.remove(same)
                same.request = request
                point = same
            self.points.append(point)
        with gdbs.suppress_new_breakpoint_event():
            for old in before:  # first, as they may hold the slots that the new ones need
                old.delete()
            for point in self.points:
                point.set()
        return [point.answer() for point in self.points]

    @guarded()
    def try_again(self, event: Any) -> None:
        """New symbols or a stop: what could not be set before, perhaps now it can; and what had
        to wait for a slot may have it."""
        for point in self.points:
            if point.waiting:
                with gdbs.suppress_new_breakpoint_event():
                    point.set()
            point.tell()
