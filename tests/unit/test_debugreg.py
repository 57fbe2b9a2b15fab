"""The debug registers: encodings built from the SDM's bit layout, regions cut by brute force."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdb_kwatch.core.debugreg import (
    ACCESS_NAMES,
    EXECUTE,
    IO,
    READ_WRITE,
    WRITE,
    Piece,
    Registers,
    blamed_slot,
    control_of,
    pieces_of,
    status_flags,
)

PAGE = 0x7FFFF7FF0000
NOWHERE = (0, 0, 0, 0)

# --- cutting a region ----------------------------------------------------------------------------

# Address in its 8 bytes, length, and the lengths of the pieces.
CUTS = [
    (0, 1, [1]),
    (0, 8, [8]),
    (4, 4, [4]),
    (0, 3, [2, 1]),
    (1, 3, [1, 2]),
    (1, 4, [1, 2, 1]),
    (3, 8, [1, 4, 2, 1]),
    (4, 8, [4, 4]),
    (2, 8, [2, 4, 2]),
    (6, 4, [2, 2]),
    (7, 2, [1, 1]),
    (0, 7, [4, 2, 1]),
    (0, 12, [8, 4]),
    (4, 12, [4, 8]),
    (0, 16, [8, 8]),
    (0, 24, [8, 8, 8]),
    (0, 32, [8, 8, 8, 8]),
    (1, 31, [1, 2, 4, 8, 8, 8]),
]


@pytest.mark.parametrize(("place", "length", "lengths"), CUTS)
def test_known_cuts(place, length, lengths):
    assert [piece.length for piece in pieces_of(PAGE + place, length, WRITE)] == lengths


def greedy(address, length):
    """What x86_handle_nonaligned_watchpoint does: at each place, the largest of four that fits."""
    cuts = []
    while length > 0:
        fits = [n for n in (1, 2, 4, 8) if n <= length and address % n == 0]
        cuts.append((address, max(fits)))
        address, length = address + max(fits), length - max(fits)
    return cuts


@cache
def fewest(place, length):
    """The least number of aligned pieces that hold a region, over all the ways to cut it."""
    if length == 0:
        return 0
    fits = [n for n in (1, 2, 4, 8) if n <= length and place % n == 0]
    return 1 + min(fewest((place + n) % 8, length - n) for n in fits)


ADDRESSES = st.integers(0, (1 << 47) - 1)


@settings(deadline=None)
@given(ADDRESSES, st.integers(1, 100), st.sampled_from([EXECUTE, WRITE, READ_WRITE]))
def test_a_region_is_cut_as_gdb_cuts_it(address, length, rw):
    assert pieces_of(address, length, rw) == [(a, n, rw) for a, n in greedy(address, length)]


@settings(deadline=None)
@given(ADDRESSES, st.integers(1, 100))
def test_each_byte_is_covered_once_in_order_by_aligned_pieces(address, length):
    pieces = pieces_of(address, length, WRITE)
    covered = [byte for piece in pieces for byte in range(piece.address, sum(piece[:2]))]
    assert covered == list(range(address, address + length))
    assert all(p.length in (1, 2, 4, 8) and p.address % p.length == 0 for p in pieces)


def test_no_cut_takes_fewer_slots():
    for place in range(8):
        for length in range(1, 65):
            assert len(pieces_of(PAGE + place, length, WRITE)) == fewest(place, length)


@pytest.mark.parametrize("length", [0, -1])
def test_a_region_of_nothing(length):
    with pytest.raises(ValueError, match="at least 1 byte"):
        pieces_of(PAGE, length, WRITE)


# --- DR7 -----------------------------------------------------------------------------------------

# SDM volume 3, "Debug Control Register (DR7)": the LEN field for a length.
LEN_FIELD = {1: 0b00, 2: 0b01, 8: 0b10, 4: 0b11}


def control(slots):
    """DR7 for four of (L, G, R/W, length)."""
    dr7 = 0
    for n, (local, everywhere, rw, length) in enumerate(slots):
        dr7 |= local << 2 * n | everywhere << 2 * n + 1
        dr7 |= rw << 16 + 4 * n | LEN_FIELD[length] << 18 + 4 * n
    return dr7


SLOT = st.tuples(
    st.integers(0, 1), st.integers(0, 1), st.integers(0, 3), st.sampled_from([1, 2, 4, 8])
)
# LE, GE, RTM and GD, and the bit that always reads 1.
OTHER_BITS = st.sets(st.sampled_from([8, 9, 10, 11, 13])).map(lambda s: sum(1 << n for n in s))
REGISTERS = st.builds(
    lambda slots, other, addresses, dr6: (slots, addresses, dr6, control(slots) | other),
    st.tuples(SLOT, SLOT, SLOT, SLOT),
    OTHER_BITS,
    st.tuples(*[st.integers(0, (1 << 64) - 1)] * 4),
    st.integers(0, (1 << 64) - 1),
)


@settings(deadline=None)
@given(REGISTERS)
def test_decoding_undoes_the_encoding(made):
    slots, addresses, dr6, dr7 = made
    registers = Registers(addresses, dr6, dr7)
    enabled = {
        n: (addresses[n], length, rw)
        for n, (local, everywhere, rw, length) in enumerate(slots)
        if local or everywhere
    }
    assert registers.pieces() == enabled
    assert [registers.piece(n) for n in range(4)] == [enabled.get(n) for n in range(4)]
    assert registers.hits() == {n: piece for n, piece in enabled.items() if dr6 & (1, 2, 4, 8)[n]}


@settings(deadline=None)
@given(REGISTERS)
def test_encoding_undoes_the_decoding(made):
    _, addresses, dr6, dr7 = made
    pieces = Registers(addresses, dr6, dr7).pieces()
    assert Registers(addresses, dr6, control_of(pieces)).pieces() == pieces


@settings(deadline=None)
@given(REGISTERS)
def test_the_blamed_slot_is_the_last_that_gdb_walks_over(made):
    slots, addresses, dr6, dr7 = made
    blamed = None
    for n, (local, everywhere, rw, _) in enumerate(slots):
        if dr6 >> n & 1 and (local or everywhere) and rw != 0:
            blamed = n
    assert blamed_slot(Registers(addresses, dr6, dr7).hits()) == blamed


# DR7 as seen under gdb, and what was set.
SEEN = [
    (0x0, {}),
    (0x90001, {0: (8, WRITE)}),  # the canary's
    (0x90101, {0: (8, WRITE)}),  # with LE, as gdb sets it
    (0xD0101, {0: (4, WRITE)}),  # watch on an int
    (0x101, {0: (1, EXECUTE)}),  # hbreak
    (0x99B0115, {0: (8, READ_WRITE), 1: (8, WRITE), 2: (8, WRITE)}),
    (0x99990155, {0: (8, WRITE), 1: (8, WRITE), 2: (8, WRITE), 3: (8, WRITE)}),
    (0xF5100144, {1: (1, WRITE), 3: (4, READ_WRITE)}),  # the fields of slot 2 are left over
]


@pytest.mark.parametrize(("dr7", "expected"), SEEN)
def test_known_control_values(dr7, expected):
    addresses = (0x1000, 0x2000, 0x3000, 0x4000)
    pieces = Registers(addresses, 0, dr7).pieces()
    assert pieces == {n: (addresses[n], *what) for n, what in expected.items()}


def test_an_empty_slot_cannot_be_hit():
    assert Registers(NOWHERE, 0xF, 0x90001).hits() == {0: Piece(0, 8, WRITE)}


def test_what_is_blamed():
    data, code = Piece(0x1000, 8, WRITE), Piece(0x2000, 1, EXECUTE)
    assert blamed_slot({}) is None
    assert blamed_slot({0: data, 1: data, 2: data}) == 2
    assert blamed_slot({2: data, 0: data}) == 2
    assert blamed_slot({0: data, 3: code}) == 0
    assert blamed_slot({1: code}) is None


def test_names_of_accesses():
    assert ACCESS_NAMES == {0b00: "execute", 0b01: "write", 0b10: "io", 0b11: "access"}
    assert (EXECUTE, WRITE, IO, READ_WRITE) == (0, 1, 2, 3)


# --- DR6 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dr6", "flags"),
    [
        (0, []),
        (0xFFFF0FF0, []),  # as it is after a reset
        (0x1, ["B0"]),
        (0xFFFF0FFA, ["B1", "B3"]),
        (0xFFFF4FF0, ["BS"]),
        (0x400F, ["B0", "B1", "B2", "B3", "BS"]),
        (0xE000, ["BD", "BS", "BT"]),
    ],
)
def test_status_flags(dr6, flags):
    assert status_flags(dr6) == flags
