"""How write pieces of one block share slots: as few merges as needed, never a piece lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gdb_kwatch.core.debugreg import READ_WRITE, WRITE, Piece
from gdb_kwatch.core.merging import arrange, enclosing, holds, least


def write(address: int, length: int = 1) -> Piece:
    return Piece(0x1000 + address, length, WRITE)


pieces = st.sampled_from([1, 2, 4, 8]).flatmap(
    lambda length: st.builds(lambda n: write(n * length, length), st.integers(0, 16 // length - 1))
)
reads = st.builds(lambda n: Piece(0x1000 + 8 * n, 8, READ_WRITE), st.integers(0, 1))


def test_the_smallest_aligned_piece_that_holds_both():
    assert enclosing(write(0), write(1)) == write(0, 2)
    assert enclosing(write(1), write(2)) == write(0, 4)
    assert enclosing(write(6, 2), write(0)) == write(0, 8)
    assert enclosing(write(0, 8), write(3)) == write(0, 8)


def test_narrow_before_wide():
    soft = [write(n) for n in (0, 2, 3, 7)]
    assert arrange(set(), soft, 4) == {}
    assert arrange(set(), soft, 3) == {write(2): write(2, 2), write(3): write(2, 2)}
    assert set(arrange(set(), soft, 1).values()) == {write(0, 8)}


def test_a_slot_that_is_there_anyway_comes_first():
    assert arrange({write(0, 8)}, [write(0), write(8), write(9)], 3) == {write(0): write(0, 8)}
    assert arrange(set(), [write(0, 4), write(1), write(8), write(9)], 3) == {write(1): write(0, 4)}


def test_blocks_do_not_mix():
    assert arrange(set(), [write(7), write(8)], 1) == {}
    assert least(set(), [write(7), write(8)]) == 2


def test_a_read_holds_no_write():
    assert not holds(Piece(0x1000, 8, READ_WRITE), write(0))
    assert least({Piece(0x1000, 8, READ_WRITE)}, [write(0)]) == 2


@given(st.sets(pieces | reads), st.sets(pieces), st.integers(0, 8))
def test_every_saving_is_found_and_none_too_many(pinned, soft, capacity):
    stands = arrange(pinned, soft, capacity)
    slots = pinned | {stands.get(piece, piece) for piece in soft}
    assert len(slots) == max(least(pinned, soft), min(capacity, len(pinned | soft)))
    for piece, slot in stands.items():
        assert holds(slot, piece) and slot != piece
        assert slot in pinned or sum(holds(slot, other) for other in soft) > 1


@given(st.sets(pieces | reads), st.sets(pieces), pieces | reads)
def test_another_piece_never_makes_it_less(pinned, soft, another):
    before = least(pinned, soft - pinned)
    assert least(pinned | {another}, soft) >= before
    if another.rw == WRITE:
        assert least(pinned, soft | {another}) >= before
