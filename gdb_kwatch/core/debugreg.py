"""The x86 debug registers: what DR6 and DR7 say, and how gdb cuts a region into slots.

Bit layouts are those of the Intel SDM, volume 3, "Debug Registers".  The cutting rule is that of
``x86_handle_nonaligned_watchpoint`` in gdb/nat/x86-dregs.c (the same from gdb 10 to 18).
"""

from __future__ import annotations

from typing import NamedTuple

SLOTS = 4
MAX_LENGTH = 8

# DR6, the status register.
HIT_MASK = 0xF  # B0-B3: the condition of slot n was met
STATUS_BITS = {"BD": 1 << 13, "BS": 1 << 14, "BT": 1 << 15}

# DR7, the control register: two enable bits a slot from bit 0, R/W and LEN a slot from bit 16.
CONTROL = 7
_ENABLE_BITS = 2
_CONTROL_SHIFT = 16
_CONTROL_BITS = 4
_LENGTHS = (1, 2, 8, 4)

# R/W field of DR7.
EXECUTE = 0
WRITE = 1
IO = 2
READ_WRITE = 3

# Marks, in a `Piece`, a slot that perf holds and not ptrace: equal pieces of the two take a slot
# each.  The second: perf counts accesses by the kernel only.
BY_PERF = 1 << 4
KERNEL_ONLY = 1 << 5
# perf counts accesses by the program only; and from PROGRAM on, the number of the BPF program that
# decides which of them stop.
USER_ONLY = 1 << 6
PROGRAM = 8

ACCESS_NAMES = {EXECUTE: "execute", WRITE: "write", IO: "io", READ_WRITE: "access"}


class Piece(NamedTuple):
    """What one slot holds: an aligned address, 1, 2, 4 or 8 bytes, and the R/W field of DR7."""

    address: int
    length: int
    rw: int


class Registers(NamedTuple):
    """The debug registers of one LWP, as the kernel has them."""

    addresses: tuple[int, int, int, int]
    dr6: int
    dr7: int

    def piece(self, slot: int) -> Piece | None:
        """What ``slot`` (0 to 3) holds; None where it is not enabled in DR7."""
        if not self.dr7 >> (_ENABLE_BITS * slot) & 3:
            return None
        field = self.dr7 >> (_CONTROL_SHIFT + _CONTROL_BITS * slot)
        return Piece(self.addresses[slot], _LENGTHS[field >> 2 & 3], field & 3)

    def pieces(self) -> dict[int, Piece]:
        """The enabled slots and what they hold."""
        return {n: piece for n in range(SLOTS) if (piece := self.piece(n)) is not None}

    def hits(self) -> dict[int, Piece]:
        """The slots whose bit is set in DR6 and which are enabled in DR7."""
        return {n: piece for n, piece in self.pieces().items() if self.dr6 >> n & 1}


def control_of(pieces: dict[int, Piece]) -> int:
    """DR7 with these slots enabled, for one thread, as gdb sets it."""
    value = 0
    for slot, piece in pieces.items():
        field = _LENGTHS.index(piece.length) << 2 | piece.rw
        value |= 1 << _ENABLE_BITS * slot | field << _CONTROL_SHIFT + _CONTROL_BITS * slot
    return value


def blamed_slot(hits: dict[int, Piece]) -> int | None:
    """The slot whose address gdb reports: the last data slot that was hit.

    ``x86_dr_stopped_data_address`` walks DR0 to DR3 and keeps the last one; slots that break on
    execution are passed over.
    """
    data = [slot for slot, piece in hits.items() if piece.rw != EXECUTE]
    return max(data) if data else None


def status_flags(dr6: int) -> list[str]:
    """The names of the bits set in DR6, B0 to B3 first."""
    flags = [f"B{n}" for n in range(SLOTS) if dr6 >> n & 1]
    return flags + [name for name, bit in STATUS_BITS.items() if dr6 & bit]


def pieces_of(address: int, length: int, rw: int) -> list[Piece]:
    """Cut a region into the aligned pieces that gdb gives to the slots.

    At each place gdb takes the largest power of two that is at most 8 (a 64-bit gdb, also for a
    32-bit program), at most what is left, and divides the address.
    """
    if length < 1:
        raise ValueError(f"a region has at least 1 byte, not {length}")
    pieces = []
    while length:
        size = MAX_LENGTH
        while size > length or address % size:
            size //= 2
        pieces.append(Piece(address, size, rw))
        address += size
        length -= size
    return pieces
