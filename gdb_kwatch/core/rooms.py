"""One program's slots: which pieces are held there, by whom, at which level.

State that is a count: for each piece the number of its owners at each level.  An *owner* is a
request with tenure; guests stand on pieces that owners hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from .debugreg import SLOTS, Piece
from .merging import arrange, least
from .requests import Line, Program, Request, Wish

NOBODY = -1

Sets = tuple[set[Piece], set[Piece]]  # pinned pieces, soft pieces


class Use:
    """Who holds one piece.

    ``owners`` counts by level, softness, and whether it is a request of all programs; the tops are
    the highest levels in it.
    """

    __slots__ = (
        "holders",
        "owners",
        "guests",
        "singles",
        "pinned",
        "soft",
        "common_pinned",
        "common_soft",
    )

    def __init__(self) -> None:
        self.holders: dict[Request, None] = {}
        self.owners: dict[tuple[int, bool, bool], int] = {}
        self.guests: dict[tuple[int, bool], Line] = {}
        self.singles: dict[int, int] = {}  # single-program requests by priority
        self.pinned = self.soft = self.common_pinned = self.common_soft = NOBODY

    def own(self, key: tuple[int, bool, bool], change: int) -> None:
        count = self.owners.get(key, 0) + change
        if count:
            self.owners[key] = count
        else:
            del self.owners[key]
        if change < 0 or count == 1:
            self._tops()

    def _tops(self) -> None:
        self.pinned = self.soft = self.common_pinned = self.common_soft = NOBODY
        for level, soft, common in self.owners:
            if soft:
                self.soft = max(self.soft, level)
                if common:
                    self.common_soft = max(self.common_soft, level)
            else:
                self.pinned = max(self.pinned, level)
                if common:
                    self.common_pinned = max(self.common_pinned, level)

    def hosts(self, level: int, soft: bool) -> bool:
        """Does an owner of that level or higher hold it, so that one more costs nothing?

        A soft owner is no host for one that cannot be merged: it would be pinned from then on.
        """
        return self.pinned >= level or (soft and self.soft >= level)


class Room:
    """One program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.live = False
        self.foreign = 0
        self.uses: dict[Piece, Use] = {}
        self.tenured: dict[int, dict[Request, None]] = {}  # its own requests, by level
        self.watched: dict[Piece, dict[int, dict[Request, None]]] = {}  # lacked, by level
        self.stands: dict[Piece, Piece] = {}  # merged pieces, and the slots they stand in
        self.ranks: list[int] = []  # priorities of its single requests' slots, highest first

    @property
    def capacity(self) -> int:
        return SLOTS - self.foreign

    def owned(self, level: int) -> Sets:
        """The pieces with an owner of at least ``level``."""
        pinned = {piece for piece, use in self.uses.items() if use.pinned >= level}
        soft = {piece for piece, use in self.uses.items() if use.pinned < level <= use.soft}
        return pinned, soft

    def owned_by_common(self, level: int) -> Sets:
        """Those with an owner of at least ``level`` among the requests of all programs."""
        pinned = {piece for piece, use in self.uses.items() if use.common_pinned >= level}
        soft = {p for p, use in self.uses.items() if use.common_pinned < level <= use.common_soft}
        return pinned, soft

    def held(self) -> Sets:
        """The pieces that anybody holds."""
        return self.owned(0)

    def in_use(self) -> int:
        """How many slots are in use."""
        pinned, soft = self.held()
        return len(pinned | {self.stands.get(piece, piece) for piece in soft})

    def holders(self) -> Iterable[Request]:
        """Everybody who stands here."""
        return {request: None for use in self.uses.values() for request in use.holders}

    def rank(self) -> list[int]:
        """The priorities of the slots of its single requests, unmerged, highest first."""
        found = [max(use.singles) for use in self.uses.values() if use.singles]
        return sorted(found, reverse=True)[:SLOTS]

    def arrange(self) -> list[Request]:
        """Merge as far as needed now.  Who stands otherwise than before?"""
        before, self.stands = self.stands, {}
        if len(self.uses) > self.capacity:
            self.stands = arrange(*self.held(), self.capacity)
        if before == self.stands:
            return []
        changed = [p for p in {**before, **self.stands} if before.get(p) != self.stands.get(p)]
        holders = [r for p in changed if p in self.uses for r in self.uses[p].holders]
        return [r for r in holders if r.mergeable]  # others never stood in a wider slot


def slots_with(sets: Sets, wishes: Iterable[Wish]) -> int:
    """The fewest slots for these pieces and more."""
    pinned, soft = sets
    pinned = pinned.union([piece for piece, is_soft in wishes if not is_soft])
    soft = soft.union([piece for piece, is_soft in wishes if is_soft])
    return least(pinned, soft) if soft else len(pinned)
