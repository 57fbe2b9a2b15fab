"""The shared arbiter: who holds the four slots of each program, by what rules.

What is here is pure: it knows programs, pieces and priorities, and tells its callers; it sets no
debug register.  The rules are those that the first kwatch design for Linux (2007) worked out.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Callable, NamedTuple, Optional

from .admission import (
    BACKGROUND,
    BREAK_NATIVE,
    EXACT,
    NATIVE,
    NORMAL,
    POLICIES,
    PRIORITIES,
    SIMPLE,
    Marks,
    admits,
    level,
    priority_name,
    priority_of,
)
from .debugreg import SLOTS, WRITE, Piece
from .merging import arrange, least
from .records import Region

__all__ = [
    "BACKGROUND",
    "BREAK_NATIVE",
    "NATIVE",
    "NORMAL",
    "POLICIES",
    "PRIORITIES",
    "SLOTS",
    "Answer",
    "Arbiter",
    "Refused",
    "Request",
    "priority_name",
    "priority_of",
]

Program = Hashable
Pieces = frozenset[Piece]
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
    """What would become of a request."""

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
        "tenured",
        "moved",
        "told",
        "told_held",
        "wants",
        "elsewhere",
        "arbiter",
    )

    def __init__(
        self,
        arbiter: Arbiter,
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
        self.tenured = False  # holds slots that it got in its turn
        self.moved = False  # wants other regions than at the last judgement
        self.told = False  # the last callback queued was `installed`
        self.told_held: dict[Program, Pieces] = {}
        self.wants = wants
        self.elsewhere: dict[Program, Pieces] = {}  # all programs: where the regions differ
        self.arbiter = arbiter

    def pieces(self, program: Program) -> Pieces:
        """What it wants in ``program``: aligned pieces."""
        if self.scope is None:
            return self.elsewhere.get(program, self.wants)
        return self.wants if program == self.scope else NOTHING

    def held(self, program: Program) -> Pieces:
        """The slots that it stands in there: merged ones where merged; none while it waits."""
        return self.arbiter._held(self, program)

    def merged(self, program: Program) -> bool:
        """Does it stand in a slot there that is wider than what it asked for?"""
        return not self.held(program) <= self.pieces(program)

    def __repr__(self) -> str:
        state = "released" if self.released else "installed" if self.installed else "waiting"
        return f"<request {self.name or self.arrival} {priority_name(self.priority)} {state}>"


class Room:
    """One program: what is known of it, and who holds its slots."""

    def __init__(self) -> None:
        self.live = False
        self.foreign = 0
        self.pinned: set[Piece] = set()
        self.soft: set[Piece] = set()
        self.stands: dict[Piece, Piece] = {}

    @property
    def capacity(self) -> int:
        return SLOTS - self.foreign


class Arbiter:
    """Gives the slots of programs to requests.

    ``fault`` is told what a callback raised (default: its traceback is printed).
    """

    def __init__(
        self,
        policy: str = EXACT,
        merge: bool = True,
        fault: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._policy = _checked(policy)
        self._merge = merge
        self._fault = fault or _print_fault
        self._rooms: dict[Program, Room] = {}
        self._requests: dict[int, Request] = {}  # by arrival
        self._arrivals = 0
        self._marks = Marks()
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._telling = False

    # -- programs

    def add(self, program: Program) -> None:
        """``program`` is known from now on.  It has no process yet."""
        if program is None:
            raise ValueError("None stands for all programs")
        self._rooms.setdefault(program, Room())

    def live(self, program: Program, alive: bool) -> None:
        """``program`` has a process from now on, or has none any more (nor foreign users)."""
        self.add(program)
        room = self._rooms[program]
        room.live = alive
        if not alive:
            room.foreign = 0
        self._settle()

    def drop(self, program: Program) -> None:
        """``program`` is gone for good: its own requests are released."""
        if program not in self._rooms:
            return
        for request in list(self._requests.values()):
            if request.scope is None:
                request.elsewhere.pop(program, None)
            elif request.scope == program:
                self._forget(request)
        del self._rooms[program]
        self._settle()

    def foreign(self, program: Program, slots: int) -> None:
        """So many slots of ``program``'s threads are held by others."""
        self.add(program)
        self._rooms[program].foreign = max(0, min(slots, SLOTS))
        self._settle()

    # -- requests

    def request(
        self,
        regions: Iterable[Region],
        *,
        scope: Program | None,
        priority: int = NORMAL,
        owner: Any = None,
        name: str = "",
        mergeable: bool = False,
        fixed: bool = False,
        installed: Callback = None,
        uninstalled: Callback = None,
        triggered: Triggered = None,
        moved: Callback = None,
    ) -> Request:
        """Ask for slots for ``regions``, in program ``scope`` or in all (None).

        The answer is the request's ``installed``; where it is false, it waits.  Raises `Refused`
        where it needs more than four slots by itself.  The callbacks ``installed``, ``uninstalled``
        (also on release) and ``moved`` (it stands in other slots than before, as one does that is
        merged) take the request, ``triggered`` the request and the hit.
        """
        request = self._made(regions, scope, priority, mergeable, fixed)
        request.owner, request.name = owner, name
        request.on_installed, request.on_uninstalled = installed, uninstalled
        request.on_triggered, request.on_moved = triggered, moved
        if scope is not None:
            self.add(scope)
        self._arrive(request)
        self._settle()
        return request

    def change(
        self,
        request: Request,
        *,
        regions: Iterable[Region] | None = None,
        program: Program | None = None,
        priority: int | None = None,
    ) -> None:
        """Other regions (of ``program`` only, where given), or another priority.

        Raises `Refused`, with nothing changed, where it would need more than four slots by itself.
        """
        if request.released:
            return
        if regions is not None:
            pieces = _pieces(regions)
            self._check(pieces, request.mergeable, request.fixed, request.scope)
            if program is None or request.scope is not None:
                request.wants = pieces
                request.elsewhere = {}
            else:
                self.add(program)
                request.elsewhere[program] = pieces
            request.moved = True
        if priority is not None and priority != request.priority:
            request.priority = _in_range(priority)
            del self._requests[request.arrival]
            self._arrive(request)
        self._settle()

    def release(self, request: Request) -> None:
        """It wants nothing any more.  Once released, it stays so."""
        if request.released:
            return
        self._forget(request)
        self._settle()

    def trigger(self, request: Request, hit: Any) -> None:
        """Tell the owner of ``request`` of a hit, after what is told already."""
        if request.on_triggered is not None and not request.released:
            self._queue.append((request.on_triggered, (request, hit)))
        self._tell()

    # -- questions

    @property
    def requests(self) -> Iterator[Request]:
        """All of them, in order of arrival."""
        return iter(list(self._requests.values()))

    @property
    def policy(self) -> str:
        return self._policy

    @policy.setter
    def policy(self, policy: str) -> None:
        self._policy = _checked(policy)
        self._settle()

    @property
    def merge(self) -> bool:
        return self._merge

    @merge.setter
    def merge(self, merge: bool) -> None:
        self._merge = merge
        self._settle()

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that are known."""
        return tuple(self._rooms)

    def admits(self, policy: str, request: Request) -> bool:
        """Rule 4 alone: would ``policy`` let a waiting request in, as things stand?"""
        rooms = []
        for program in self._programs(request):
            here = [r for r in self._in(program) if r.installed]
            used = [
                self._added(program, [r for r in here if _before(p, r, request)], request)
                for p in (EXACT, SIMPLE)
            ]
            common = [r for r in here if r.scope is None and _before(EXACT, r, request)]
            theirs = self._added(program, common, request)
            rooms.append((self._rooms[program].capacity, used[0], used[1], theirs))
        return admits(policy, request.priority, rooms, self._marks)

    def tables(self) -> dict[str, int]:
        """How much is kept, for whom it concerns that nothing is left behind."""
        sizes = {"requests": len(self._requests), "programs": len(self._rooms)}
        return {name: size for name, size in sizes.items() if size}

    def would(
        self,
        regions: Iterable[Region],
        *,
        scope: Program | None,
        priority: int = NORMAL,
        mergeable: bool = False,
    ) -> Answer:
        """What would become of such a request; nothing is changed.  Raises `Refused`."""
        request = self._made(regions, scope, priority, mergeable, False)
        new = scope is not None and scope not in self._rooms
        if new:
            self._rooms[scope] = Room()
        before = [(r, r.installed, r.tenured) for r in self._requests.values()]
        arrivals, marks = self._arrivals, list(self._marks.marks)
        self._arrive(request)
        self._judge()
        answer = Answer(
            request.installed,
            tuple(r for r, was, _ in before if was and not r.installed),
            self.behind(request),
        )
        self._requests.pop(request.arrival)
        self._arrivals, self._marks.marks = arrivals, marks
        if new:
            del self._rooms[scope]
        for r, installed, tenured in before:
            r.installed, r.tenured = installed, tenured
        self._judge()
        return answer

    def behind(self, request: Request) -> tuple[Request, ...]:
        """Whom a waiting request waits for, highest priority first.

        The holders, of its priority or higher, of the slots that it lacks; and the equal that came
        before it and waits too.
        """
        if request.installed or request.released:
            return ()
        found: dict[Request, None] = {}
        for program in self._programs(request):
            above = [r for r in self._in(program) if r.installed]
            above = [r for r in above if _before(self._policy, r, request)]
            if self._slots(program, [*above, request]) > self._rooms[program].capacity:
                found.update(dict.fromkeys(r for r in above if r.pieces(program)))
        waiting = [r for r in self._requests.values() if not r.installed]
        blocker = next((r for r in waiting if self._may_not_be_passed(r, request)), None)
        if blocker is not None:
            found[blocker] = None
        if not found and request.scope is None:  # the policy alone: the users of the ranks
            found.update(
                (r, None)
                for r in self._requests.values()
                if r.installed and r.scope is not None and self._rooms[r.scope].live
            )
        return tuple(sorted(found, key=self._strength))

    def holders(self, program: Program) -> dict[Piece, tuple[Request, ...]]:
        """The slots in use there and who holds them, highest priority first."""
        found: dict[Piece, list[Request]] = {}
        for request in sorted(self._in(program), key=self._strength):
            for piece in sorted(request.held(program)):
                found.setdefault(piece, []).append(request)
        return {piece: tuple(requests) for piece, requests in found.items()}

    def free(self, program: Program) -> int:
        """How many slots of ``program`` nobody holds."""
        room = self._rooms.get(program)
        if room is None:
            return SLOTS
        used = len(room.pinned) + len({room.stands.get(p, p) for p in room.soft} - room.pinned)
        return max(0, room.capacity - used)

    # -- judgement

    def _judge(self) -> None:
        """Rules 1 to 5: everything, in order."""
        self._marks.reset_above(self._ranks_in_use())
        while True:
            self._judge_once()
            if not self._marks.reset_above(self._ranks_in_use()):
                break
        for program, room in self._rooms.items():
            members = [r for r in self._in(program) if r.installed]
            room.pinned, room.soft = self._wanted(program, members)
            room.stands = arrange(room.pinned, room.soft, room.capacity)
        for program, room in self._rooms.items():
            if room.live:
                self._marks.raise_to(self._single_slots(program))
        for request in self._requests.values():
            request.moved = False

    def _judge_once(self) -> None:
        seated: list[Request] = []
        for request in self._requests.values():
            if request.fixed:
                self._seat(request, seated, True)
        rest = [r for r in self._requests.values() if not r.fixed]
        for mine in sorted({self._level(r) for r in rest}, reverse=True):
            equals = [r for r in rest if self._level(r) == mine]
            later = [r for r in equals if not r.tenured]
            tenured = [r for r in equals if r.tenured]
            for request in sorted(tenured, key=lambda r: (r.moved, r.arrival)):
                if self._fits(request, seated):
                    self._seat(request, seated, True)
                else:
                    request.tenured = False
                    later.append(request)
            waiting: list[Request] = []
            for request in sorted(later, key=lambda r: r.arrival):
                guest = self._is_guest(request, seated)
                blocked = any(self._may_not_be_passed(r, request) for r in waiting)
                if (
                    (guest or not blocked)
                    and self._fits(request, seated)
                    and ((guest and request.installed) or self._admitted(request, seated))
                ):
                    self._seat(request, seated, not guest)
                else:
                    request.installed = request.tenured = False
                    waiting.append(request)

    def _seat(self, request: Request, seated: list[Request], tenured: bool) -> None:
        seated.append(request)
        request.installed, request.tenured = True, tenured

    def _level(self, request: Request) -> int:
        return level(self._policy, request.priority, request.scope is not None)

    def _strength(self, request: Request) -> tuple[bool, int, bool, int]:
        return (not request.fixed, -request.priority, not request.tenured, request.arrival)

    def _in(self, program: Program) -> list[Request]:
        """The requests that count in ``program``."""
        room = self._rooms.get(program)
        return [
            r
            for r in self._requests.values()
            if r.scope == program or (r.scope is None and room is not None and room.live)
        ]

    def _programs(self, request: Request) -> list[Program]:
        """The programs that a request must fit in."""
        if request.scope is not None:
            return [request.scope]
        return [program for program, room in self._rooms.items() if room.live]

    def _may_not_be_passed(self, earlier: Request, later: Request) -> bool:
        """Rule 3: equals, with a program in common?"""
        return (
            not earlier.fixed
            and earlier.arrival < later.arrival
            and self._level(earlier) == self._level(later)
            and bool(set(self._programs(earlier)) & set(self._programs(later)))
        )

    def _wanted(
        self, program: Program, requests: Iterable[Request]
    ) -> tuple[set[Piece], set[Piece]]:
        pinned: set[Piece] = set()
        soft: set[Piece] = set()
        for request in requests:
            for piece in request.pieces(program):
                (soft if self._is_soft(request, piece) else pinned).add(piece)
        return pinned, soft - pinned

    def _is_soft(self, request: Request, piece: Piece) -> bool:
        return self._merge and request.mergeable and piece.rw == WRITE

    def _slots(self, program: Program, requests: Iterable[Request]) -> int:
        return least(*self._wanted(program, requests))

    def _counting(self, program: Program, seated: Iterable[Request]) -> list[Request]:
        live = self._rooms[program].live
        return [r for r in seated if r.scope == program or (r.scope is None and live)]

    def _fits(self, request: Request, seated: list[Request]) -> bool:
        """Does it fit beside these, in each of its programs?  It does where it adds no slot."""
        for program in self._programs(request):
            beside = self._counting(program, seated)
            most = max(self._rooms[program].capacity, self._slots(program, beside))
            if self._slots(program, [*beside, request]) > most:
                return False
        return True

    def _is_guest(self, request: Request, seated: list[Request]) -> bool:
        for program in self._programs(request):
            pinned, soft = self._wanted(program, self._counting(program, seated))
            for piece in request.pieces(program):
                if piece not in pinned and (piece not in soft or not self._is_soft(request, piece)):
                    return False
        return True

    def _admitted(self, request: Request, seated: list[Request]) -> bool:
        if request.scope is not None or self._policy == EXACT:
            return True
        common = [r for r in seated if r.scope is None]
        rooms = []
        for program in self._programs(request):
            beside = self._counting(program, seated)
            used = self._added(program, beside, request)
            theirs = self._added(program, common, request)
            rooms.append((self._rooms[program].capacity, used, used, theirs))
        return admits(self._policy, request.priority, rooms, self._marks)

    def _added(self, program: Program, beside: list[Request], request: Request) -> int:
        """The slots in use with ``request`` beside the others; 0 where it adds none."""
        used = self._slots(program, [*beside, request])
        return used if used > self._slots(program, beside) else 0

    def _single_slots(self, program: Program) -> list[int]:
        """The priorities of the slots that single-program requests hold, unmerged."""
        slots: dict[Piece, int] = {}
        for request in self._requests.values():
            if request.installed and request.scope == program:
                for piece in request.pieces(program):
                    slots[piece] = max(slots.get(piece, 0), request.priority)
        return sorted(slots.values(), reverse=True)

    def _ranks_in_use(self) -> int:
        return max(
            (len(self._single_slots(p)) for p, room in self._rooms.items() if room.live), default=0
        )

    def _held(self, request: Request, program: Program) -> Pieces:
        room = self._rooms.get(program)
        if not request.installed or room is None or not (request.scope is not None or room.live):
            return NOTHING
        pieces = request.pieces(program)
        if not room.stands or not self._merge or not request.mergeable:
            return pieces
        return frozenset(room.stands.get(p, p) if self._is_soft(request, p) else p for p in pieces)

    # -- what is told

    def _settle(self) -> None:
        self._judge()
        gone, moved, come = [], [], []
        for request in self._requests.values():
            held = {p: request.held(p) for p in self._rooms}
            if request.told and not request.installed:
                gone.append(request)
            elif request.installed and not request.told:
                come.append(request)
            elif request.installed and held != request.told_held:
                moved.append(request)
            request.told, request.told_held = request.installed, held
        self._queue.extend((r.on_uninstalled, (r,)) for r in gone if r.on_uninstalled)
        self._queue.extend((r.on_moved, (r,)) for r in moved if r.on_moved)
        self._queue.extend((r.on_installed, (r,)) for r in come if r.on_installed)
        self._tell()

    def _tell(self) -> None:
        """Run the callbacks in turn; what they ask for is done at once, and told after these."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._queue:
                callback, arguments = self._queue.popleft()
                try:
                    callback(*arguments)
                except BaseException as error:  # whatever it is: the others must be told
                    self._fault(error)
        finally:
            self._telling = False

    # -- the table of requests

    def _made(
        self,
        regions: Iterable[Region],
        scope: Program | None,
        priority: int,
        mergeable: bool,
        fixed: bool,
    ) -> Request:
        pieces = _pieces(regions)
        self._check(pieces, mergeable, fixed, scope)
        return Request(self, pieces, scope, _in_range(priority), mergeable, fixed)

    def _check(self, pieces: Pieces, mergeable: bool, fixed: bool, scope: Program | None) -> None:
        soft = {p for p in pieces if self._merge and mergeable and p.rw == WRITE}
        needed = least(pieces - soft, soft)
        if needed <= SLOTS or fixed:
            return
        programs = [scope] if scope is not None else list(self._rooms)
        holders = {r: None for p in programs for rs in self.holders(p).values() for r in rs}
        raise Refused(f"it needs {needed} debug registers, and there are {SLOTS}", tuple(holders))

    def _arrive(self, request: Request) -> None:
        self._arrivals += 1
        request.arrival = self._arrivals
        self._requests[request.arrival] = request

    def _forget(self, request: Request) -> None:
        del self._requests[request.arrival]
        was, request.installed, request.released = request.installed, False, True
        if was and request.on_uninstalled is not None:
            self._queue.append((request.on_uninstalled, (request,)))


def _before(policy: str, one: Request, other: Request) -> bool:
    """Is an installed request judged before a waiting one?"""
    mine = level(policy, other.priority, other.scope is not None)
    return one.fixed or level(policy, one.priority, one.scope is not None) >= mine


def _pieces(regions: Iterable[Region]) -> Pieces:
    return frozenset(piece for region in regions for piece in region.pieces())


def _in_range(priority: int) -> int:
    if not 0 <= priority <= 255:
        raise ValueError(f"a priority is 0 to 255, not {priority}")
    return priority


def _checked(policy: str) -> str:
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    return policy


def _print_fault(error: BaseException) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)
