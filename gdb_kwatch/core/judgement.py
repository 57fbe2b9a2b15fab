"""Who of all requests is installed: the rules, and their judgement.

The rules:

1. A request needs a slot for each aligned piece in each program of its scope, and is installed
   whole or not at all.  Equal pieces share a slot.  A program without a process has four slots, for
   its next run, and its own requests only.
2. All are judged in this order: fixed ones; by priority, highest first; among equals those with
   *tenure* (they hold slots that they got in their turn) by arrival, then the others by arrival.
   Each is installed if it fits beside those before it.  So a request displaces strictly lower ones
   only, the lowest first, then the newest, and spares those whose slots would not help.
     2.a  One with tenure that does not fit loses it, and is judged again among the others.
     2.b  One whose regions have changed is judged after the others with tenure, this once.
     2.c  Another priority makes a new arrival; who is installed keeps its tenure.
3. No passing among equals: where one waits, a later one of the same priority whose scope has a
   program in common waits too.  A *guest* is free of this: all its pieces are held by those before
   it, so it adds no slot.  It has no tenure: when its host leaves it is judged by its arrival.
4. A request of all programs must fit in each that has a process.  The policy is asked too, when it
   is to be installed (see admission.py).
5. Under pressure, merge (see merging.py): "fits" means that merging can make it fit, and no more is
   merged than the requests installed need.

Nobody is delayed for good.  Let W wait.  Strictly higher ones may go before it: that is what a
priority is.  Lower ones hold nothing that W could use, since W is judged before them.  Of its
equals with a program in common, those can stand in its way that came before it or have tenure.
While W waits no later one gets tenure (3), a guest adds nothing to what its hosts hold, and one
that came before W stays before it.  So they are finitely many, known when W came, and never more:
when they have gone, or fit beside it, W is installed.  Two things that are the owner's own doing
add to them: an installed request may be given W's priority (2.c; it brings slots that it held
before), and a process may start (4; it brings along the requests of all programs that have tenure
elsewhere).

How it is judged without judging everything: what holds a slot is counted by piece and level, those
that wait stand in one line for each level and scope, and a judgement goes down the levels from the
one where something has changed, through the programs concerned, looking at heads of lines only.
Those that might become guests are found by one piece that they lack; those that lost their host, by
the piece that they stand on.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from .admission import EXACT, Marks, admits, level
from .debugreg import SLOTS, WRITE, Piece
from .merging import least
from .requests import Line, Program, Request
from .rooms import Room, Use, slots_with

FIXED = 1000  # the level of fixed requests: above all

Spot = tuple[Room, Piece]


class Judgement:
    """The tables, and what keeps them as the rules say."""

    def __init__(self, policy: str, merge: bool) -> None:
        self.policy = policy
        self.merge = merge
        self.marks = Marks()
        self.rooms: dict[Program, Room] = {}
        self.touched: dict[Request, tuple[bool, bool]] = {}  # installed, tenured: as they were
        self.rearranged: dict[Room, None] = {}
        self._clear()

    def _clear(self) -> None:
        self._live: list[Room] = [room for room in self.rooms.values() if room.live]
        self._levels: dict[int, int] = {}  # how many requests are judged at each
        self._ordered: list[int] | None = []
        self._lines: dict[tuple[int, Program | None], Line] = {}
        self._common: dict[int, dict[Request, None]] = {}  # of all programs, tenured, by level
        self._held_back: dict[Request, None] = {}  # guests but for the policy
        self._used = [0] * (SLOTS + 1)  # how many live programs use so many ranks
        self._used[0] = len(self._live)
        for room in self.rooms.values():
            room.uses, room.tenured, room.watched, room.ranks = {}, {}, {}, []
        self._nothing_to_do()
        self._ranks_changed: dict[Room, None] = {}

    def _nothing_to_do(self) -> None:
        self._dirty: dict[Room, int] = {}  # held pieces changed, from that level down
        self._open: dict[int, set[Program | None]] = {}  # lines to look at, by level
        self._candidates: dict[int, list[Request]] = {}
        self._lost: dict[Spot, None] = {}  # pieces that lost an owner
        self._moved: list[Request] = []

    # -- what the arbiter does to the tables

    def level(self, request: Request) -> int:
        if request.fixed:
            return FIXED
        return level(self.policy, request.priority, request.scope is not None)

    def enter(self, request: Request) -> None:
        """It is to be judged, with what it holds already.  Its rooms are known."""
        self.touch(request)
        request.level = self.level(request)
        count = self._levels.get(request.level, 0)
        self._levels[request.level] = count + 1
        if not count:
            self._ordered = None
        if request.fixed or request.tenured:
            self.seat(request, True)
        else:
            if request.installed:
                self.seat(request, False)
            self._candidates.setdefault(request.level, []).append(request)

    def leave(self, request: Request) -> None:
        """It holds nothing and waits for nothing; what it was stays written on it."""
        self.touch(request)
        self._levels[request.level] -= 1
        if not self._levels[request.level]:
            del self._levels[request.level]
            self._ordered = None
        if request.seated:
            self.unseat(request)
        elif self._waits(request):
            self._unline(request)
            self._open_behind(request)

    def move(self, request: Request) -> None:
        """Its regions have changed (2.b).  Called between `leave` and `enter`."""
        request.moved = True
        self._moved.append(request)

    def again(self, requests: Iterable[Request]) -> None:
        """Judge everything anew: programs or rules have changed."""
        self._clear()
        for request in requests:
            request.seated, request.watching = False, None
            self.enter(request)
        for room in self.rooms.values():
            self._dirty[room] = FIXED
            self.rearranged[room] = self._ranks_changed[room] = None

    def capacity_changed(self, room: Room) -> None:
        self._dirty[room] = FIXED
        self.rearranged[room] = None

    def touch(self, request: Request) -> None:
        if request not in self.touched:
            self.touched[request] = (request.installed, request.tenured)

    def undo(self) -> None:
        """Everybody touched is what it was before."""
        for request in self.touched:
            if request.seated:
                self.unseat(request)
            elif self._waits(request):
                self._unline(request)
        for request, (installed, tenured) in self.touched.items():
            request.installed = installed
            if installed:
                self.seat(request, tenured)
            elif not request.released:
                self._wait(request)
        self._rerank()
        self._ranks_changed.clear()
        self._nothing_to_do()
        self.rearranged.clear()
        self.touched.clear()

    def sizes(self) -> dict[str, int]:
        """How many entries the tables have."""
        return {
            "levels": len(self._levels),
            "lines": len(self._lines),
            "common": len(self._common),
            "held back": len(self._held_back),
            "uses": sum(len(room.uses) for room in self.rooms.values()),
            "watched": sum(len(room.watched) for room in self.rooms.values()),
            "tenured": sum(len(room.tenured) for room in self.rooms.values()),
            "to do": len(self._dirty) + len(self._open) + len(self._candidates) + len(self._lost),
            "to tell": len(self.touched) + len(self.rearranged) + len(self._ranks_changed),
        }

    # -- places

    def rooms_of(self, request: Request) -> list[Room]:
        """The rooms that a request must fit in."""
        return self._live if request.scope is None else [self.rooms[request.scope]]

    def is_soft(self, request: Request, piece: Piece) -> bool:
        return self.merge and request.mergeable and piece.rw == WRITE

    def softness(self, request: Request, room: Room) -> list[tuple[Piece, bool]]:
        return [(piece, self.is_soft(request, piece)) for piece in request.pieces(room.program)]

    def seat(self, request: Request, tenured: bool) -> None:
        """Into the tables, with tenure or as a guest."""
        self.touch(request)
        request.installed, request.tenured, request.seated = True, tenured, True
        common, mine = request.scope is None, request.level
        for room in self.rooms_of(request):
            for piece, soft in self.softness(request, room):
                use = room.uses.get(piece)
                if use is None:
                    use = room.uses[piece] = Use()
                use.holders[request] = None
                if not common:
                    use.singles[request.priority] = use.singles.get(request.priority, 0) + 1
                if tenured:
                    use.own((mine, soft, common), 1)
                    if room.watched:
                        self._found(room, piece, mine)
                else:
                    line = use.guests.get((mine, soft))
                    if line is None:
                        line = use.guests[mine, soft] = Line()
                    line.push(request)
            self._changed(request, room)
        if tenured and request.fixed is False:
            self._tenured(request).setdefault(mine, {})[request] = None
            if common:
                self._reconsider_held_back(mine)

    def unseat(self, request: Request) -> None:
        """Out of the tables; whether it is installed is for the caller to say."""
        self.touch(request)
        request.seated = False
        common, mine, tenured = request.scope is None, request.level, request.tenured
        for room in self.rooms_of(request):
            for piece, soft in self.softness(request, room):
                use = room.uses[piece]
                del use.holders[request]
                if not common:
                    use.singles[request.priority] -= 1
                    if not use.singles[request.priority]:
                        del use.singles[request.priority]
                if tenured:
                    use.own((mine, soft, common), -1)
                    self._lost[room, piece] = None
                else:
                    line = use.guests[mine, soft]
                    line.remove(request)
                    if not line:
                        del use.guests[mine, soft]
                if not use.holders:
                    del room.uses[piece]
            self._changed(request, room)
        if tenured and not request.fixed:
            table = self._tenured(request)
            del table[mine][request]
            if not table[mine]:
                del table[mine]

    def _changed(self, request: Request, room: Room) -> None:
        self.rearranged[room] = None
        if request.scope is not None:
            self._ranks_changed[room] = None
        if request.tenured:
            self._dirty[room] = max(self._dirty.get(room, 0), request.level)

    def _tenured(self, request: Request) -> dict[int, dict[Request, None]]:
        return self._common if request.scope is None else self.rooms[request.scope].tenured

    # -- those that wait

    def _waits(self, request: Request) -> bool:
        line = self._lines.get((request.level, request.scope))
        return line is not None and request in line

    def _wait(self, request: Request) -> None:
        self.touch(request)
        request.installed = request.tenured = False
        line = self._lines.get((request.level, request.scope))
        if line is None:
            line = self._lines[request.level, request.scope] = Line()
        if request not in line:
            line.push(request)
        self._unwatch(request)
        self._watch(request)

    def _unline(self, request: Request) -> None:
        line = self._lines[request.level, request.scope]
        line.remove(request)
        if not line:
            del self._lines[request.level, request.scope]
        self._unwatch(request)

    def _open_behind(self, request: Request) -> None:
        """Whom a waiting request kept back may have their turn."""
        opened = self._open.setdefault(request.level, set())
        opened.add(request.scope)
        if request.scope is None:
            opened.update(room.program for room in self._live)
        elif self.rooms[request.scope].live:
            opened.add(None)

    def _watch(self, request: Request) -> None:
        """Note one piece that a waiting request lacks: when it is held, it may be a guest."""
        for room in self.rooms_of(request):
            for piece, soft in self.softness(request, room):
                use = room.uses.get(piece)
                if use is None or not use.hosts(request.level, soft):
                    request.watching = (room, piece)
                    levels = room.watched.setdefault(piece, {})
                    levels.setdefault(request.level, {})[request] = None
                    return
        self._held_back[request] = None

    def _unwatch(self, request: Request) -> None:
        if request.watching is None:
            self._held_back.pop(request, None)
            return
        room, piece = request.watching
        request.watching = None
        levels = room.watched[piece]
        del levels[request.level][request]
        if not levels[request.level]:
            del levels[request.level]
        if not levels:
            del room.watched[piece]

    def _found(self, room: Room, piece: Piece, mine: int) -> None:
        """``piece`` has an owner at level ``mine``: who lacked it?"""
        for each, requests in list(room.watched.get(piece, {}).items()):
            if each <= mine:
                for request in list(requests):
                    self._unwatch(request)
                    self._watch(request)
                    if request in self._held_back:
                        self._candidates.setdefault(each, []).append(request)

    def _reconsider_held_back(self, mine: int) -> None:
        for request in self._held_back:
            if request.level <= mine:
                self._candidates.setdefault(request.level, []).append(request)

    # -- judgement

    def judge(self) -> None:
        """Until everybody stands as the rules say."""
        self._lower()
        self._sweep()
        while self._lower():
            self._sweep()
        for room in self._ranks_changed:
            if room.live:
                self.marks.raise_to(room.ranks)
        self._ranks_changed.clear()
        for request in self._moved:
            request.moved = False
        self._nothing_to_do()

    def _rerank(self) -> None:
        for room in self._ranks_changed:
            ranks = room.rank()
            if room.live:
                self._used[len(room.ranks)] -= 1
                self._used[len(ranks)] += 1
            room.ranks = ranks

    def _lower(self) -> bool:
        """Reset the marks of ranks that nobody uses.  Is there something to judge for it?"""
        self._rerank()
        used = max((n for n, rooms in enumerate(self._used) if rooms), default=0)
        if not self.marks.reset_above(used) or self.policy == EXACT:
            return False
        for each, scope in self._lines:
            if scope is None:
                self._open.setdefault(each, set()).add(None)
        self._reconsider_held_back(FIXED)
        return True

    def _sweep(self) -> None:
        """Down the levels, from the highest where something has changed."""
        if self._ordered is None:
            self._ordered = sorted(self._levels, reverse=True)
        for mine in self._ordered:
            dirty = [room for room, since in self._dirty.items() if since >= mine]
            opened = self._open.pop(mine, set())
            if dirty or opened or mine in self._candidates:
                self._judge_tenured(mine, dirty)
                self._judge_others(mine, opened)
            elif not (self._dirty or self._open or self._candidates):
                break
        self._dirty.clear()
        self._open.clear()
        self._lost.clear()

    def _judge_tenured(self, mine: int, dirty: list[Room]) -> None:
        """Rule 2: where those with tenure do not all fit, in order, who does?"""
        common = self._common.get(mine)
        again: dict[Request, None] = {}
        for room in dirty:
            own = room.tenured.get(mine)
            if not own and not (common and room.live):
                continue
            if len(room.uses) > room.capacity and least(*room.owned(mine)) > room.capacity:
                again.update(own or {})
                if common and room.live:
                    again.update(common)
        for request in again:
            self.unseat(request)
        for request in sorted(again, key=lambda r: (r.moved, r.arrival)):
            if self._fits(request):
                self.seat(request, True)
            else:  # 2.a
                request.tenured = False
                self._candidates.setdefault(mine, []).append(request)

    def _judge_others(self, mine: int, opened: set[Program | None]) -> None:
        """Rules 2 and 3 for those without tenure, in order of arrival."""
        for room, since in self._dirty.items():
            if since >= mine:
                opened.add(room.program)
                if room.live:
                    opened.add(None)
        heap = [(r.arrival, r) for r in self._candidates.pop(mine, ())]
        heap.extend((r.arrival, r) for r in self._held_back if r.level == mine)
        heapify(heap)
        orphans = [
            (room, piece, soft)
            for room, piece in self._lost
            if piece in room.uses
            for soft in (False, True)
            if (mine, soft) in room.uses[piece].guests
        ]
        while True:
            request = self._next(mine, heap, opened, orphans)
            if request is None:
                return
            while heap and heap[0][1] is request:
                heappop(heap)
            waited = self._waits(request)
            guest = self._is_guest(request)
            if self._passes(request, guest):
                if request.seated:
                    self.unseat(request)
                if waited:
                    self._unline(request)
                self.seat(request, not guest)
                if waited:
                    self._open_behind(request)
                    opened |= self._open.pop(mine)
                for found in self._candidates.pop(mine, ()):
                    heappush(heap, (found.arrival, found))
            else:
                if request.seated:
                    self.unseat(request)
                self._wait(request)
                opened.discard(request.scope)

    def _next(
        self,
        mine: int,
        heap: list[tuple[int, Request]],
        opened: set[Program | None],
        orphans: list[tuple[Room, Piece, bool]],
    ) -> Request | None:
        """The one that came first: a candidate, the head of a line, a guest without a host."""
        first = heap[0][1] if heap else None
        for scope in opened:
            line = self._lines.get((mine, scope))
            if line is not None:
                head = line.head()
                if first is None or head.arrival < first.arrival:
                    first = head
        for room, piece, soft in orphans:
            use = room.uses.get(piece)
            if use is not None and (mine, soft) in use.guests and not use.hosts(mine, soft):
                head = use.guests[mine, soft].head()
                if first is None or head.arrival < first.arrival:
                    first = head
        return first

    def _passes(self, request: Request, guest: bool) -> bool:
        """May it be installed?"""
        if guest:
            return request.installed or self._admitted(request)
        return self.blocker(request) is None and self._fits(request) and self._admitted(request)

    def blocker(self, request: Request) -> Request | None:
        """Rule 3: the first equal that waits, came before it, and has a program in common."""
        scopes: list[Program | None] = [request.scope]
        if request.scope is None:
            scopes.extend(room.program for room in self._live)
        elif self.rooms[request.scope].live:
            scopes.append(None)
        first: Request | None = None
        for scope in scopes:
            line = self._lines.get((request.level, scope))
            if line is not None:
                head = line.head()
                if head.arrival < (first or request).arrival:
                    first = head
        return first

    def _is_guest(self, request: Request) -> bool:
        for room in self.rooms_of(request):
            uses = room.uses
            for piece, soft in self.softness(request, room):
                use = uses.get(piece)
                if use is None or not use.hosts(request.level, soft):
                    return False
        return True

    def _fits(self, request: Request) -> bool:
        return all(self.fits_in(request, room) for room in self.rooms_of(request))

    def fits_in(self, request: Request, room: Room) -> bool:
        """Does it fit beside those before it, by merging if need be?  Or does it add no slot?"""
        owned = room.owned(request.level)
        used = slots_with(owned, self.softness(request, room))
        return used <= room.capacity or used <= least(*owned)

    def _admitted(self, request: Request) -> bool:
        """Rule 4, of one that fits."""
        if request.scope is not None or self.policy == EXACT:
            return True
        rooms = [(room.capacity, 0, 0, self.theirs(request, room)) for room in self._live]
        return admits(self.policy, request.priority, rooms, self.marks)

    def theirs(self, request: Request, room: Room) -> int:
        """Slots there of requests of all programs up to this one; 0 where it adds none."""
        owned = room.owned_by_common(request.level)
        used = slots_with(owned, self.softness(request, room))
        return used if used > least(*owned) else 0
