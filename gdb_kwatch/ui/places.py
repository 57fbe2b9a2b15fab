"""Where an access was made, in the words a user reads: instruction, function, source line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gdb_kwatch.core.records import ACCESS_RW, KERNEL, USER, Region, Trap
from gdb_kwatch.inferior import programs

if TYPE_CHECKING:
    from gdb_kwatch.inferior.kernel_traps import Hand


class Place(NamedTuple):
    """The access itself; where it is not ``certain``, the likeliest (or none), and ``reason``."""

    pc: int
    address: int | None = None
    instruction: str | None = None
    function: str | None = None
    symbol: str = ""
    file: str | None = None
    line: int | None = None
    certain: bool = True
    reason: str = ""
    source: str | None = None

    @property
    def short_file(self) -> str:
        return os.path.basename(self.file or "")

    def json(self) -> dict[str, Any]:
        return {
            "pc": hex(self.pc if self.address is None else self.address),
            "function": self.function,
            "file": self.short_file or None,
            "line": self.line,
            "instruction": self.instruction,
            "certain": self.certain,
        }


NOWHERE = Place(0, certain=False, reason="there was no trap")


def place_of(trap: Trap, regions: Sequence[Region] = ()) -> Place:
    """The place of a trap's access.  ``regions`` are the bytes that were hit; with them, and
    while the thread still stands at the trap, operands can be compared."""
    if isinstance(trap.place, Place):
        return trap.place
    if trap.origin == KERNEL:
        return Place(trap.pc, certain=False, reason="the program was not stopped there")
    if trap.origin != USER:
        return NOWHERE
    if trap.backwards:
        return Place(trap.pc, certain=False, reason="the program went back, and stands before it")
    if trap.outlived:
        return Place(trap.pc, certain=False, reason="the process has become another program since")
    if programs.is_another(trap.inferior):
        reason = f"it was in the program of inferior {trap.inferior}"
        return Place(trap.pc, certain=False, reason=reason)
    from gdb_kwatch.inferior.access import find_access  # on first use: it takes time to load

    live = bool(regions)
    hit = [Region(h.address, h.size, ACCESS_RW[h.access]) for h in trap.hits]
    access = find_access(trap.pc, regions or hit, live)
    return Place(
        trap.pc,
        access.address,
        access.text,
        access.function,
        access.symbol,
        access.fullname,
        access.line,
        access.certain,
        access.reason,
        source_line(access.fullname, access.line),
    )


def place_of_call(trap: Trap, hand: Hand) -> Place:
    """Where the program called the kernel from: its own frame, libraries skipped."""
    where = hand.place
    if where is None:
        return Place(trap.pc, certain=False, reason="no frame of the program's own was found")
    return Place(
        trap.pc,
        instruction=where.instruction or None,
        function=where.function,
        file=where.fullname,
        line=where.line,
        source=source_line(where.fullname, where.line),
    )


def source_line(filename: str | None, line: int | None) -> str | None:
    """One line of a source file, as ``list`` would show it; None where gdb has no such file."""
    if not filename or not line:
        return None
    try:
        with open(filename, encoding="utf-8", errors="replace") as lines:
            for number, text in enumerate(lines, 1):
                if number == line:
                    return text.rstrip("\n")
    except OSError:
        return None
    return None
