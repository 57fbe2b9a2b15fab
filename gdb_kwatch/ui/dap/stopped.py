"""Stopped events: a trap's stop is a data breakpoint's, with all that it hit and what changed.

gdb's server reads its stop event for the one watchpoint that gdb blames; where gdb would not even
have stopped it has no reason to send at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gdb
from gdb.dap import events as gdbs

from gdb_kwatch.core.records import Hit, Trap
from gdb_kwatch.inferior.faults import guarded

from ..report import UNCHANGED
from .breakpoint import Breakpoints
from .output import Output

REASON = "data breakpoint"


class Stopped:
    """Stands before the server's own stop handler."""

    def __init__(self, breakpoints: Breakpoints, output: Output) -> None:
        self.breakpoints = breakpoints
        self.output = output
        self._trap: Trap | None = None

    def connect(self) -> None:
        gdb.events.stop.disconnect(gdbs._on_stop)
        gdb.events.stop.connect(self.at_stop)

    def disconnect(self) -> None:
        gdb.events.stop.disconnect(self.at_stop)
        gdb.events.stop.connect(gdbs._on_stop)

    def heard(self, trap: Trap) -> None:
        """hook-stop: the trap that the program is about to stop for."""
        if trap.stopped:
            self._trap = trap

    @guarded()
    def at_stop(self, event: gdb.StopEvent) -> None:
        with self._completing():
            gdbs._on_stop(event)
        self._trap = None
        self.output.stopped()

    @contextmanager
    def _completing(self) -> Iterator[None]:
        """While the server's handler runs, complete the body that it sends."""
        names = [n for n in ("send_event", "send_event_maybe_later") if hasattr(gdbs, n)]
        before = {name: getattr(gdbs, name) for name in names}

        def completing(name: str) -> Any:
            def send(event: str, body: Any = None) -> None:
                if event == "stopped":
                    self.complete(body)
                before[name](event, body)

            return send

        for name in names:
            setattr(gdbs, name, completing(name))
        try:
            yield
        finally:
            for name in names:
                setattr(gdbs, name, before[name])

    def complete(self, body: dict[str, Any]) -> None:
        """Put into a stopped event what gdb's server cannot know."""
        known = body.get("hitBreakpointIds", [])
        if self._trap is not None:
            body["reason"] = REASON
            body["description"] = ", ".join(change(hit) for hit in self._trap.hits)
            known = known + [hit.number for hit in self._trap.hits if hit.number > 0]
        if known:
            body["hitBreakpointIds"] = sorted({self.breakpoints.id_of(n) for n in known})


def change(hit: Hit) -> str:
    """``s.a: 0 -> 1``, for a line in an editor."""
    if not hit.changed:
        return f"{hit.expression}: {hit.old} ({UNCHANGED})" if hit.old else hit.expression
    return f"{hit.expression}: {hit.old} -> {hit.new}"
