"""The shared arbiter: who holds the four slots of each program.

What is here is pure: it knows programs, pieces and priorities, and tells its callers; it sets no
debug register.  The rules, which are those that the first kwatch design for Linux (2007) worked
out, are in judgement.py.  Here is what others ask for and what they are told:

6. Each change is told once, after everything stands as the rules say: those uninstalled first,
   then those that stand in other slots, then those installed, each in order of arrival.  A callback
   that raises is reported, and the others are told all the same.  What a callback asks of the
   arbiter is done at once, and told behind what was to be told already.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from .admission import (
    BACKGROUND,
    BREAK_NATIVE,
    EXACT,
    HIGHEST,
    NATIVE,
    NORMAL,
    POLICIES,
    PRIORITIES,
    SIMPLE,
    admits,
    level,
    priority_name,
    priority_of,
)
from .debugreg import SLOTS, WRITE, Piece
from .judgement import Judgement
from .merging import least
from .records import Region
from .requests import Answer, Callback, Pieces, Program, Refused, Request, Triggered
from .rooms import Room, Sets, slots_with

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
        self._judgement = Judgement(_checked(policy), merge)
        self._rooms = self._judgement.rooms
        self._fault = fault or _print_fault
        self._requests: dict[int, Request] = {}  # by arrival
        self._arrivals = 0
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._telling = False

    # -- programs

    def add(self, program: Program) -> None:
        """``program`` is known from now on.  It has no process yet."""
        if program is None:
            raise ValueError("None stands for all programs")
        if program not in self._rooms:
            self._rooms[program] = Room(program)

    def live(self, program: Program, alive: bool) -> None:
        """``program`` has a process from now on, or has none any more (nor foreign users).

        Everything is judged anew, as with all that concerns more than one request.
        """
        self.add(program)
        room = self._rooms[program]
        if room.live == alive:
            if not alive:
                self.foreign(program, 0)
            return
        room.live = alive
        if not alive:
            room.foreign = 0
        self._judgement.again(self._requests.values())
        self._settle(entered=program if alive else None)

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
        self._judge_all()

    def foreign(self, program: Program, slots: int) -> None:
        """So many slots of ``program``'s threads are held by others."""
        self.add(program)
        room = self._rooms[program]
        slots = max(0, min(slots, SLOTS))
        if room.foreign != slots:
            room.foreign = slots
            self._judgement.capacity_changed(room)
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
        (also on release) and ``moved`` (it is merged from now on, or no more) take the request,
        ``triggered`` the request and the hit.
        """
        request = self._made(regions, scope, priority, mergeable, fixed)
        request.owner, request.name = owner, name
        request.on_installed, request.on_uninstalled = installed, uninstalled
        request.on_triggered, request.on_moved = triggered, moved
        if scope is not None:
            self.add(scope)
        self._arrive(request)
        self._judgement.enter(request)
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
        if priority is None or priority == request.priority:
            priority = request.priority
        pieces = None
        if regions is not None:
            pieces = _pieces(regions)
            self._check(pieces, request.mergeable, request.fixed, request.scope)
        new = _in_range(priority) != request.priority
        if not new and pieces is None:
            return
        self._judgement.leave(request)
        if pieces is not None:
            if program is None or request.scope is not None:
                request.wants, request.elsewhere = pieces, {}
            else:
                self.add(program)
                request.elsewhere[program] = pieces
            self._judgement.move(request)
        if new:
            request.priority = priority
            del self._requests[request.arrival]
            self._arrive(request)
        self._judgement.enter(request)
        self._settle()

    def release(self, request: Request) -> None:
        """It wants nothing any more.  Once released, it stays so."""
        if request.released:
            return
        self._judgement.leave(request)
        self._forget(request)
        self._settle()

    def trigger(self, request: Request, hit: Any) -> None:
        """Tell the owner of ``request`` of a hit, after what is to be told already."""
        if request.on_triggered is not None and not request.released:
            self._queue.append((request.on_triggered, (request, hit)))
        self._tell()

    # -- questions

    @property
    def requests(self) -> Iterator[Request]:
        """All of them, in order of arrival."""
        return iter(list(self._requests.values()))

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that are known."""
        return tuple(self._rooms)

    @property
    def policy(self) -> str:
        return self._judgement.policy

    @policy.setter
    def policy(self, policy: str) -> None:
        self._judgement.policy = _checked(policy)
        self._judge_all()

    @property
    def merge(self) -> bool:
        return self._judgement.merge

    @merge.setter
    def merge(self, merge: bool) -> None:
        self._judgement.merge = merge
        self._judge_all()

    def would(
        self,
        regions: Iterable[Region],
        *,
        scope: Program | None,
        priority: int = NORMAL,
        mergeable: bool = False,
    ) -> Answer:
        """What would become of such a request; nothing is changed.  Raises `Refused`."""
        judgement = self._judgement
        request = self._made(regions, scope, priority, mergeable, False)
        new = scope is not None and scope not in self._rooms
        if scope is not None:
            self.add(scope)
        marks = list(judgement.marks.marks)
        self._arrivals += 1  # never used again: the lines may still know it
        request.arrival = self._arrivals
        judgement.enter(request)
        judgement.judge()
        lost = [r for r, (was, _) in judgement.touched.items() if was and not r.installed]
        answer = Answer(
            request.installed,
            tuple(sorted(lost, key=_strength)),
            self.behind(request),
        )
        judgement.leave(request)
        request.installed, request.released = False, True
        judgement.undo()
        judgement.marks.marks = marks
        if new:
            del self._rooms[scope]
        return answer

    def behind(self, request: Request) -> tuple[Request, ...]:
        """Whom a waiting request waits for, highest priority first.

        The holders, of its priority or higher, of the slots that it lacks; and the equal that came
        before it and waits too.  Where only the policy stands in its way, those whose slots count
        against it; nobody, where only foreign users do.
        """
        if request.installed or request.released:
            return ()
        judgement = self._judgement
        rooms = judgement.rooms_of(request)
        found: set[Request] = set()
        for room in rooms:
            if not judgement.fits_in(request, room):
                found.update(r for r in room.holders() if r.level >= request.level)
        blocker = judgement.blocker(request)
        if blocker is not None:
            found.add(blocker)
        if not found and request.scope is None:
            found.update(r for room in rooms for r in room.holders() if r.scope is not None)
        return tuple(sorted(found, key=_strength))

    def holders(self, program: Program) -> dict[Piece, tuple[Request, ...]]:
        """The slots in use there and who holds them, highest priority first."""
        room = self._rooms.get(program)
        if room is None:
            return {}
        found: dict[Piece, set[Request]] = {}
        for piece, use in room.uses.items():
            found.setdefault(room.stands.get(piece, piece), set()).update(use.holders)
        slots = {slot: tuple(sorted(some, key=_strength)) for slot, some in found.items()}
        return dict(sorted(slots.items(), key=lambda item: _strength(item[1][0])))

    def free(self, program: Program) -> int:
        """How many slots of ``program`` nobody holds."""
        room = self._rooms.get(program)
        return SLOTS if room is None else max(0, room.capacity - room.in_use())

    def admits(self, policy: str, request: Request) -> bool:
        """Rule 4 alone: would ``policy`` let a waiting request in, as things stand?"""
        judgement = self._judgement
        rooms = []
        for room in judgement.rooms_of(request):
            used = []
            for each in (EXACT, SIMPLE):
                before = _before(each, room, request, judgement)
                slots = slots_with(before, judgement.softness(request, room))
                used.append(slots if slots > least(*before) else 0)
            rooms.append((room.capacity, used[0], used[1], judgement.theirs(request, room)))
        return admits(policy, request.priority, rooms, judgement.marks)

    def tables(self) -> dict[str, int]:
        """How much is kept, by name, where anything is."""
        sizes = {"requests": len(self._requests), "programs": len(self._rooms)}
        sizes.update(self._judgement.sizes())
        return {name: size for name, size in sizes.items() if size}

    # -- what is told

    def _judge_all(self) -> None:
        self._judgement.again(self._requests.values())
        self._settle()

    def _settle(self, entered: Program | None = None) -> None:
        """Judge what has changed, and tell.  ``entered``: a program that session-wide requests
        have come into, where some may stand merged with what was there."""
        judgement = self._judgement
        judgement.judge()
        gone: list[Request] = []
        come: list[Request] = []
        for request in judgement.touched:
            if request.told != request.installed:
                (come if request.installed else gone).append(request)
        moved: set[Request] = set()
        for room in judgement.rearranged:
            moved.update(r for r in room.arrange() if r.told and r.installed)
        if entered is not None:
            moved.update(
                r
                for r in self._requests.values()
                if r.scope is None and r.told and r.installed and r.merged(entered)
            )
        judgement.touched.clear()
        judgement.rearranged.clear()
        for request in (*gone, *come):
            request.told = request.installed
        self._enqueue((r.on_uninstalled, r) for r in sorted(gone, key=_arrival))
        self._enqueue((r.on_moved, r) for r in sorted(moved, key=_arrival))
        self._enqueue((r.on_installed, r) for r in sorted(come, key=_arrival))
        self._tell()

    def _enqueue(self, calls: Iterable[tuple[Callback, Request]]) -> None:
        self._queue.extend((callback, (r,)) for callback, r in calls if callback is not None)

    def _tell(self) -> None:
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
        return Request(self._rooms, pieces, scope, _in_range(priority), mergeable, fixed)

    def _check(self, pieces: Pieces, mergeable: bool, fixed: bool, scope: Program | None) -> None:
        if fixed or len(pieces) <= SLOTS:
            return
        soft = {piece for piece in pieces if self.merge and mergeable and piece.rw == WRITE}
        needed = least(pieces - soft, soft)
        if needed <= SLOTS:
            return
        programs = [scope] if scope is not None else list(self._rooms)
        holders = {r: None for p in programs for some in self.holders(p).values() for r in some}
        raise Refused(f"it needs {needed} debug registers, and there are {SLOTS}", tuple(holders))

    def _arrive(self, request: Request) -> None:
        self._arrivals += 1
        request.arrival = self._arrivals
        self._requests[request.arrival] = request

    def _forget(self, request: Request) -> None:
        del self._requests[request.arrival]
        self._judgement.touch(request)
        request.installed, request.released = False, True


def _before(policy: str, room: Room, request: Request, judgement: Judgement) -> Sets:
    """What those hold there that are judged before a waiting request under ``policy``."""
    mine = level(policy, request.priority, request.scope is not None)
    pinned: set[Piece] = set()
    soft: set[Piece] = set()
    for piece, use in room.uses.items():
        for holder in use.holders:
            if holder.fixed or level(policy, holder.priority, holder.scope is not None) >= mine:
                (soft if judgement.is_soft(holder, piece) else pinned).add(piece)
    return pinned, soft - pinned


def _strength(request: Request) -> tuple[bool, int, bool, int]:
    return (not request.fixed, -request.priority, not request.tenured, request.arrival)


def _arrival(request: Request) -> int:
    return request.arrival


def _pieces(regions: Iterable[Region]) -> Pieces:
    return frozenset(piece for region in regions for piece in region.pieces())


def _in_range(priority: int) -> int:
    if not 0 <= priority <= HIGHEST:
        raise ValueError(f"a priority is 0 to {HIGHEST}, not {priority}")
    return priority


def _checked(policy: str) -> str:
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    return policy


def _print_fault(error: BaseException) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)
