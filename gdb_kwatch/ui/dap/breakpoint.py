"""Breakpoint events (new, changed, removed): none for kwatch's hidden watchpoints.

gdb's server sends one for every breakpoint that gdb makes, internal ones too.  Its three handlers
stay; these stand before them.
"""

from __future__ import annotations

from collections.abc import Callable

import gdb
from gdb.dap import breakpoint as gdbs

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.sentinels import Sentinel

from .sending import send


class Breakpoints:
    """What the editor is told of breakpoints.

    ``ids`` holds those that the editor knows by another id than gdb's number: data breakpoints
    that were asked for before they could be set.
    """

    def __init__(self) -> None:
        self.ids: dict[int, int] = {}

    def stand_before(self) -> None:
        """Take the place of the server's handlers, and call them."""
        for registry, theirs, ours in (
            (gdb.events.breakpoint_created, gdbs._bp_created, self.created),
            (gdb.events.breakpoint_modified, gdbs._bp_modified, self.modified),
            (gdb.events.breakpoint_deleted, gdbs._bp_deleted, self.deleted),
        ):
            registry.disconnect(theirs)
            registry.connect(ours)

    def id_of(self, number: int) -> int:
        return self.ids.get(number, number)

    @guarded()
    def created(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "new", gdbs._bp_created)

    @guarded()
    def modified(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "changed", gdbs._bp_modified)

    @guarded()
    def deleted(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "removed", gdbs._bp_deleted)
        self.ids.pop(bp.number, None)

    def _pass_on(self, bp: gdb.Breakpoint, reason: str, handler: Callable[..., None]) -> None:
        if isinstance(bp, Sentinel):
            return
        if bp.number in self.ids:
            if gdbs._suppress_bp:
                return  # a request will answer with it
            body = {"id": self.ids[bp.number], "verified": reason != "removed"}
            send("breakpoint", {"reason": reason, "breakpoint": body})
        else:
            handler(bp)
