"""What the arbiter knows of one who wants slots, and the order in which such wait."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from .admission import priority_name
from .debugreg import Piece

if TYPE_CHECKING:
    from .rooms import Room

Program = Hashable
Pieces = frozenset[Piece]
Wish = tuple[Piece, bool]  # a piece, and whether it may be merged
Callback = Optional[Callable[["Request"], None]]
Triggered = Optional[Callable[["Request", Any], None]]

NOTHING: Pieces = frozenset()


class Refused(Exception):
    """A request that can never be installed: it needs more slots than there are.

    ``reason`` is for the user; ``holders`` are the requests that hold slots there now.
    """

    def __init__(self, reason: str, holders: tuple[Request, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.holders = holders


class Answer(NamedTuple):
    """What would become of a request: whom it would displace, or behind whom it would wait."""

    installed: bool
    displaced: tuple[Request, ...]
    behind: tuple[Request, ...]


class Request:
    """One who wants slots.  Only the arbiter changes it."""

    __slots__ = (
        "owner",
        "name",
        "priority",
        "scope",
        "installed",
        "released",
        "mergeable",
        "fixed",
        "on_installed",
        "on_uninstalled",
        "on_triggered",
        "on_moved",
        "arrival",
        "level",
        "tenured",
        "moved",
        "seated",
        "told",
        "watching",
        "wants",
        "wishes",
        "elsewhere",
        "rooms",
    )

    def __init__(
        self,
        rooms: Mapping[Program, Room],
        wants: Pieces,
        scope: Program | None,
        priority: int,
        mergeable: bool,
        fixed: bool,
    ) -> None:
        self.owner: Any = None
        self.name = ""
        self.priority = priority
        self.scope = scope
        self.installed = False
        self.released = False
        self.mergeable = mergeable
        self.fixed = fixed
        self.on_installed: Callback = None
        self.on_uninstalled: Callback = None
        self.on_triggered: Triggered = None
        self.on_moved: Callback = None
        self.arrival = 0
        self.level = 0  # the place in the order of judgement, higher first
        self.tenured = False  # holds slots that it got in its turn
        self.moved = False  # wants other regions than at the last judgement
        self.seated = False  # stands in the tables of its rooms
        self.told = False  # the last callback was `installed`
        self.watching: tuple[Room, Piece] | None = None  # a piece that it lacks to be a guest
        self.wants = wants
        self.wishes: list[Wish] = []  # the same, with softness
        self.elsewhere: dict[Program, Pieces] = {}  # all programs: where the regions differ
        self.rooms = rooms

    def pieces(self, program: Program) -> Pieces:
        """What it wants in ``program``: aligned pieces."""
        if self.scope is None:
            return self.elsewhere.get(program, self.wants) if self.elsewhere else self.wants
        return self.wants if program == self.scope else NOTHING

    def held(self, program: Program) -> Pieces:
        """The slots that it stands in there: merged ones where merged; none while it waits."""
        room = self.rooms.get(program)
        if room is None or not self.installed or (self.scope is None and not room.live):
            return NOTHING
        pieces = self.pieces(program)
        stands = room.stands
        return frozenset(stands.get(piece, piece) for piece in pieces) if stands else pieces

    def merged(self, program: Program) -> bool:
        """Does it stand in a slot there that is wider than what it asked for?"""
        return not self.held(program) <= self.pieces(program)

    def __repr__(self) -> str:
        state = "released" if self.released else "installed" if self.installed else "waiting"
        return f"<request {self.name or self.arrival} {priority_name(self.priority)} {state}>"


class Line:
    """Requests in order of arrival: the first one at hand, any of them removed."""

    __slots__ = ("_heap", "_members")

    def __init__(self) -> None:
        self._heap: list[int] = []  # arrivals
        self._members: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, request: Request) -> bool:
        return request.arrival in self._members

    def push(self, request: Request) -> None:
        self._members[request.arrival] = request
        heappush(self._heap, request.arrival)

    def remove(self, request: Request) -> None:
        """Its entry stays until it comes to the front, or until most entries are such."""
        del self._members[request.arrival]
        if len(self._heap) > 2 * len(self._members) + 8:
            self._heap = list(self._members)
            heapify(self._heap)

    def head(self) -> Request:
        """The one that came first.  There must be one."""
        while self._heap[0] not in self._members:
            heappop(self._heap)
        return self._members[self._heap[0]]
