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

This is so under `exact`.  The other policies are pessimistic by design: under `simple` single
programs come before a request of all programs, whatever their priority, and under `high-water`
lower ones that come and go can keep a rank in use, and so its mark, for ever.

Not everything is judged again at each change: a judgement goes down the levels from the one where
something has changed, through the programs concerned, and looks at the heads of lines only
(tables.py).  Those that lost their host are found by the piece that they stand on.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from .admission import EXACT, admits
from .debugreg import Piece
from .merging import least
from .requests import Program, Request
from .rooms import Room, slots_with
from .tables import FIXED, Tables


class Judgement(Tables):
    """Keeps the tables as the rules say."""

    def judge(self) -> None:
        """Until everybody stands as the rules say."""
        self._lower()
        self._sweep()
        while self._lower():
            self._sweep()
        for room in self.ranks_changed:
            if room.live:
                self.marks.raise_to(room.ranks)
        self.ranks_changed.clear()
        for request in self.moved:
            request.moved = False
        self.nothing_to_do()

    def _lower(self) -> bool:
        """Reset the marks of ranks that nobody uses.  Is there something to judge for it?"""
        self.rerank()
        used = max((n for n, rooms in enumerate(self.used) if rooms), default=0)
        if not self.marks.reset_above(used) or self.policy == EXACT:
            return False
        for each, scope in self.lines:
            if scope is None:
                self.open.setdefault(each, set()).add(None)
        self.reconsider_held_back(FIXED)
        return True

    def _sweep(self) -> None:
        """Down the levels, from the highest where something has changed."""
        if self.ordered is None:
            self.ordered = sorted(self.levels, reverse=True)
        for mine in self.ordered:
            dirty = [room for room, since in self.dirty.items() if since >= mine]
            opened = self.open.pop(mine, set())
            if dirty or opened or mine in self.candidates:
                self._judge_tenured(mine, dirty)
                self._judge_others(mine, opened)
            elif not (self.dirty or self.open or self.candidates):
                break
        self.dirty.clear()
        self.open.clear()
        self.lost.clear()

    def _judge_tenured(self, mine: int, dirty: list[Room]) -> None:
        """Rule 2: where those with tenure do not all fit, in order, who does?"""
        common = self.common.get(mine)
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
                self.candidates.setdefault(mine, []).append(request)

    def _judge_others(self, mine: int, opened: set[Program | None]) -> None:
        """Rules 2 and 3 for those without tenure, in order of arrival."""
        for room, since in self.dirty.items():
            if since >= mine:
                opened.add(room.program)
                if room.live:
                    opened.add(None)
        heap = [(r.arrival, r) for r in self.candidates.pop(mine, ())]
        heap.extend((r.arrival, r) for r in self.held_back if r.level == mine)
        heapify(heap)
        orphans = [
            (room, piece, soft)
            for room, piece in self.lost
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
            waited = self.waits(request)
            guest = self._is_guest(request)
            if self._passes(request, guest):
                if request.seated:
                    self.unseat(request)
                if waited:
                    self.unline(request)
                self.seat(request, not guest)
                if waited:
                    self.open_behind(request)
                    opened |= self.open.pop(mine)
                for found in self.candidates.pop(mine, ()):
                    heappush(heap, (found.arrival, found))
            else:
                if request.seated:
                    self.unseat(request)
                if not waited or request.watching is None:
                    self.wait(request)
                opened -= self.kept_back(request)

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
            line = self.lines.get((mine, scope))
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
        first: Request | None = None
        for scope in self.kept_back(request):
            line = self.lines.get((request.level, scope))
            if line is not None:
                head = line.head()
                if head.arrival < (first or request).arrival:
                    first = head
        return first

    def _is_guest(self, request: Request) -> bool:
        mine = request.level
        for room in self.rooms_of(request):
            uses = room.uses
            for piece, soft in self.softness(request, room):
                use = uses.get(piece)
                if use is None or not use.hosts(mine, soft):
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
        rooms = [(room.capacity, 0, 0, self.theirs(request, room)) for room in self.live]
        return admits(self.policy, request.priority, rooms, self.marks)

    def theirs(self, request: Request, room: Room) -> int:
        """Slots there of requests of all programs up to this one; 0 where it adds none."""
        owned = room.owned_by_common(request.level)
        used = slots_with(owned, self.softness(request, room))
        return used if used > least(*owned) else 0
