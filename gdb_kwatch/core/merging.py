"""Under pressure, merge: how write regions that lie in one aligned 8-byte block share a slot.

A piece is *pinned* where somebody who cannot be merged wants it (a native, a read): it has a slot
of just that address, length and access.  Every other piece is *soft*: it may stand in a wider slot.
Soft pieces of one block share the smallest aligned piece that holds them; one that lies inside a
pinned write piece can stand in that, which is there anyway.  A hit in a wider slot is told apart by
value and by the instruction's operand, which works for writes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from itertools import combinations

from .debugreg import MAX_LENGTH, WRITE, Piece


def block(piece: Piece) -> int:
    """The aligned 8-byte block that a piece lies in."""
    return piece.address // MAX_LENGTH


def holds(wide: Piece, piece: Piece) -> bool:
    """Can ``piece`` stand in the slot of ``wide``?"""
    return (
        wide.rw == piece.rw == WRITE
        and wide.address <= piece.address
        and piece.address + piece.length <= wide.address + wide.length
    )


def enclosing(one: Piece, other: Piece) -> Piece:
    """The smallest aligned piece that holds two pieces of one block."""
    length = max(one.length, other.length)
    while one.address // length != other.address // length:
        length *= 2
    return Piece(one.address // length * length, length, WRITE)


def least(pinned: Set[Piece], soft: Iterable[Piece]) -> int:
    """The fewest slots that these pieces can do with.

    One for each pinned piece, and one for each block with a soft piece that no pinned one holds.
    Another piece never makes it less, so whatever fits, a part of it fits.
    """
    blocks = {
        block(piece)
        for piece in soft
        if piece not in pinned and not any(holds(wide, piece) for wide in pinned)
    }
    return len(pinned) + len(blocks)


def arrange(pinned: Set[Piece], soft: Iterable[Piece], capacity: int) -> dict[Piece, Piece]:
    """The soft pieces that do not stand in a slot of their own, and where they stand instead.

    Each merge saves one slot, and no more are made than ``capacity`` needs: first those that move
    one slot's pieces into a slot that is there anyway, then those that make a wider one of two,
    narrow before wide.  So every saving that `least` counts is found.
    """
    slots = {piece: [piece] for piece in soft if piece not in pinned}
    moved: dict[Piece, Piece] = {}
    while len(pinned) + len(slots) > capacity:
        merge = _into_another(pinned, slots) or _into_a_wider(slots)
        if merge is None:
            break
        old, new = merge
        pieces = [piece for slot in old for piece in slots.pop(slot)]
        moved.update((piece, new) for piece in pieces if piece != new)
        if new not in pinned:
            slots.setdefault(new, []).extend(pieces)
    return moved


def _into_another(pinned: Set[Piece], slots: Iterable[Piece]) -> tuple[list[Piece], Piece] | None:
    """The narrowest slot that holds another one's pieces."""
    found = [
        (wide.length, piece, wide)
        for piece in slots
        for wide in (*pinned, *slots)
        if wide != piece and holds(wide, piece)
    ]
    return ([min(found)[1]], min(found)[2]) if found else None


def _into_a_wider(slots: Iterable[Piece]) -> tuple[list[Piece], Piece] | None:
    """The two slots of one block that make the narrowest wider one."""
    found = [
        (wide.length, one, other, wide)
        for one, other in combinations(sorted(slots), 2)
        if block(one) == block(other)
        for wide in [enclosing(one, other)]
    ]
    return ([min(found)[1], min(found)[2]], min(found)[3]) if found else None
