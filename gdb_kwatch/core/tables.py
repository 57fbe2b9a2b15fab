"""What the judgement works on: who holds what, who waits, and what is to be judged again.

What holds a slot is counted by piece and level (rooms.py).  Those that wait stand in one line for
each level and scope; each is also noted at one piece that it lacks to be a guest, so that it is
found when somebody holds that.
"""

from __future__ import annotations

from collections.abc import Iterable

from .admission import Marks, level
from .debugreg import SLOTS, WRITE, Piece
from .requests import Line, Pieces, Program, Request, Wish
from .rooms import Room, Use

FIXED = 1000  # the level of fixed requests: above all

Spot = tuple[Room, Piece]


class Tables:
    """Who is installed, who waits, and what has changed since the last judgement."""

    def __init__(self, policy: str, merge: bool) -> None:
        self.policy = policy
        self.merge = merge
        self.marks = Marks()
        self.rooms: dict[Program, Room] = {}
        self.touched: dict[Request, tuple[bool, bool]] = {}  # installed, tenured: as they were
        self.rearranged: dict[Room, None] = {}
        self._clear()

    def _clear(self) -> None:
        self.live: list[Room] = [room for room in self.rooms.values() if room.live]
        self.levels: dict[int, int] = {}  # how many requests are judged at each
        self.ordered: list[int] | None = []
        self.lines: dict[tuple[int, Program | None], Line] = {}
        self.common: dict[int, dict[Request, None]] = {}  # of all programs, tenured, by level
        self.held_back: dict[Request, None] = {}  # guests but for the policy
        self.used = [0] * (SLOTS + 1)  # how many live programs use so many ranks
        self.used[0] = len(self.live)
        for room in self.rooms.values():
            room.uses, room.tenured, room.watched, room.ranks = {}, {}, {}, []
        self.nothing_to_do()
        self.ranks_changed: dict[Room, None] = {}

    def nothing_to_do(self) -> None:
        self.dirty: dict[Room, int] = {}  # held pieces changed, from that level down
        self.open: dict[int, set[Program | None]] = {}  # lines to look at, by level
        self.candidates: dict[int, list[Request]] = {}
        self.lost: dict[Spot, None] = {}  # pieces that lost an owner
        self.moved: list[Request] = []

    # -- what the arbiter does to the tables

    def level(self, request: Request) -> int:
        if request.fixed:
            return FIXED
        return level(self.policy, request.priority, request.scope is not None)

    def enter(self, request: Request) -> None:
        """It is to be judged, with what it holds already.  Its rooms are known."""
        self.touch(request)
        request.level = self.level(request)
        request.wishes = self._wishes(request, request.wants)
        count = self.levels.get(request.level, 0)
        self.levels[request.level] = count + 1
        if not count:
            self.ordered = None
        if request.fixed or request.tenured:
            self.seat(request, True)
        else:
            if request.installed:
                self.seat(request, False)
            self.candidates.setdefault(request.level, []).append(request)

    def leave(self, request: Request) -> None:
        """It holds nothing and waits for nothing; what it was stays written on it."""
        self.touch(request)
        self.levels[request.level] -= 1
        if not self.levels[request.level]:
            del self.levels[request.level]
            self.ordered = None
        if request.seated:
            self.unseat(request)
        elif self.waits(request):
            self.unline(request)
            self.open_behind(request)

    def move(self, request: Request) -> None:
        """Its regions have changed (2.b).  Called between `leave` and `enter`."""
        request.moved = True
        self.moved.append(request)

    def again(self, requests: Iterable[Request]) -> None:
        """Judge everything anew: programs or rules have changed."""
        self._clear()
        for request in requests:
            request.seated, request.watching = False, None
            self.enter(request)
        for room in self.rooms.values():
            self.dirty[room] = FIXED
            self.rearranged[room] = self.ranks_changed[room] = None

    def capacity_changed(self, room: Room) -> None:
        self.dirty[room] = FIXED
        self.rearranged[room] = None

    def touch(self, request: Request) -> None:
        if request not in self.touched:
            self.touched[request] = (request.installed, request.tenured)

    def undo(self) -> None:
        """Everybody touched is what it was before."""
        for request in self.touched:
            if request.seated:
                self.unseat(request)
            elif self.waits(request):
                self.unline(request)
        for request, (installed, tenured) in self.touched.items():
            request.installed = installed
            if installed:
                self.seat(request, tenured)
            elif not request.released:
                self.wait(request)
        self.rerank()
        self.ranks_changed.clear()
        self.nothing_to_do()
        self.rearranged.clear()
        self.touched.clear()

    def sizes(self) -> dict[str, int]:
        """How many entries the tables have."""
        return {
            "levels": len(self.levels),
            "lines": len(self.lines),
            "common": len(self.common),
            "held back": len(self.held_back),
            "uses": sum(len(room.uses) for room in self.rooms.values()),
            "watched": sum(len(room.watched) for room in self.rooms.values()),
            "tenured": sum(len(room.tenured) for room in self.rooms.values()),
            "to do": len(self.dirty) + len(self.open) + len(self.candidates) + len(self.lost),
            "to tell": len(self.touched) + len(self.rearranged) + len(self.ranks_changed),
        }

    # -- places

    def rooms_of(self, request: Request) -> list[Room]:
        """The rooms that a request must fit in."""
        return self.live if request.scope is None else [self.rooms[request.scope]]

    def is_soft(self, request: Request, piece: Piece) -> bool:
        return self.merge and request.mergeable and piece.rw == WRITE

    def softness(self, request: Request, room: Room) -> list[Wish]:
        """What it wants there, each piece with whether it may be merged."""
        pieces = request.elsewhere.get(room.program) if request.elsewhere else None
        return request.wishes if pieces is None else self._wishes(request, pieces)

    def _wishes(self, request: Request, pieces: Pieces) -> list[Wish]:
        return [(piece, self.is_soft(request, piece)) for piece in pieces]

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
                self.reconsider_held_back(mine)

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
                    self.lost[room, piece] = None
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
            self.ranks_changed[room] = None
        if request.tenured:
            self.dirty[room] = max(self.dirty.get(room, 0), request.level)

    def _tenured(self, request: Request) -> dict[int, dict[Request, None]]:
        return self.common if request.scope is None else self.rooms[request.scope].tenured

    # -- those that wait

    def waits(self, request: Request) -> bool:
        line = self.lines.get((request.level, request.scope))
        return line is not None and request in line

    def wait(self, request: Request) -> None:
        self.touch(request)
        request.installed = request.tenured = False
        line = self.lines.get((request.level, request.scope))
        if line is None:
            line = self.lines[request.level, request.scope] = Line()
        if request not in line:
            line.push(request)
        self._unwatch(request)
        self._watch(request)

    def unline(self, request: Request) -> None:
        line = self.lines[request.level, request.scope]
        line.remove(request)
        if not line:
            del self.lines[request.level, request.scope]
        self._unwatch(request)

    def open_behind(self, request: Request) -> None:
        """Whom a waiting request kept back may have their turn."""
        self.open.setdefault(request.level, set()).update(self.kept_back(request))

    def kept_back(self, request: Request) -> set[Program | None]:
        """The scopes of its level that have a program in common with a request (rule 3)."""
        if request.scope is None:
            return {None, *(room.program for room in self.live)}
        return {request.scope, None} if self.rooms[request.scope].live else {request.scope}

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
        self.held_back[request] = None

    def _unwatch(self, request: Request) -> None:
        if request.watching is None:
            self.held_back.pop(request, None)
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
                    if request in self.held_back:
                        self.candidates.setdefault(each, []).append(request)

    def reconsider_held_back(self, mine: int) -> None:
        for request in self.held_back:
            if request.level <= mine:
                self.candidates.setdefault(request.level, []).append(request)

    def rerank(self) -> None:
        for room in self.ranks_changed:
            ranks = room.rank()
            if room.live:
                self.used[len(room.ranks)] -= 1
                self.used[len(ranks)] += 1
            room.ranks = ranks
