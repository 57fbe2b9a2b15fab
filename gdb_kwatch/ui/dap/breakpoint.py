"""Breakpoint events (new, changed, removed): none for kwatch's hidden watchpoints, and those that
wait for a slot are not told to be verified.

gdb's server sends one for every breakpoint that gdb makes, internal ones too.  Its three handlers
stay; these stand before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import gdb
from gdb.dap import breakpoint as gdbs

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.leaving import Leaving
from gdb_kwatch.inferior.sentinels import Sentinel
from gdb_kwatch.inferior.session import Session


class Owner(Protocol):
    """Tells the editor itself of a breakpoint, which it may know by another id."""

    id: int

    def tell(self, reason: str = "changed") -> None: ...


class Breakpoints:
    """What the editor is told of breakpoints.  ``owners``: of those that are not gdb's to tell,
    by gdb's number."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.owners: dict[int, Owner] = {}

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
        owner = self.owners.get(number)
        return number if owner is None else owner.id

    @guarded()
    def created(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "new", gdbs._bp_created)

    @guarded()
    def modified(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "changed", gdbs._bp_modified)

    @guarded()
    def deleted(self, bp: gdb.Breakpoint) -> None:
        self._pass_on(bp, "removed", gdbs._bp_deleted)
        self.owners.pop(bp.number, None)

    def _pass_on(self, bp: gdb.Breakpoint, reason: str, handler: Callable[..., None]) -> None:
        if isinstance(bp, (Sentinel, Leaving)):
            return
        owner = self.owners.get(bp.number)
        if owner is None:
            self._gdbs(bp, reason, handler)
        elif not gdbs._suppress_bp:  # else a request answers with it
            owner.tell(reason)

    def _gdbs(self, bp: gdb.Breakpoint, reason: str, handler: Callable[..., None]) -> None:
        """One that gdb's server tells of, in the order in which it does."""
        watch = self.session.registry.watches.get(bp.number)
        if reason == "removed" or watch is None or not watch.waits or gdbs._suppress_bp:
            handler(bp)
            return
        message = self.session.registry.slots.why_waiting(watch).split("\n")[0]
        waits = {"verified": False, "reason": "pending", "message": message}
        body = {"reason": reason, "breakpoint": {**gdbs._breakpoint_descriptor(bp), **waits}}
        gdbs.send_event("breakpoint", body)
