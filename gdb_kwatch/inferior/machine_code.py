"""The machine code around a stopped thread: instructions, and which one ends where another begins.

x86 code cannot be read backwards, so the instruction before an address is found by disassembling
forwards: from a boundary that the program's line table or symbols tell, or, where there is none,
from many places at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import gdb

from gdb_kwatch.core.instruction import (
    Instruction,
    Memory,
    Register,
    full_name,
    memory_accesses,
    parse,
)

from .gdbfacts import symbolic

# Bytes of code disassembled from a known boundary up to the address.
CODE_LIMIT = 4096
# Without any boundary, disassembly starts at each of these distances before the address; x86 code
# falls into step within a few instructions. Measured on 6,000 places each of libc and libcrypto:
# where all starts agree they are right, but for the tables between libcrypto's functions (5 of
# 6,000).
VOTE_NEAR, VOTE_FAR = 24, 96
LONGEST_INSTRUCTION = 15

KNOWN = "known"  # decoded from a boundary
AGREED = "agreed"  # every start led to it
GUESSED = "guessed"

_SYMBOL = re.compile(r"(.+?)(?:\+(\d+))?$")


class NotX86(Exception):
    """The program is of another architecture."""


class Decoded(NamedTuple):
    """One instruction in the program; `text` is in the user's disassembly flavor."""

    address: int
    length: int
    text: str
    insn: Instruction

    @property
    def after(self) -> int:
        return self.address + self.length

    @property
    def brief(self) -> str:
        """The text without padding and comment."""
        return " ".join(self.text.split("#")[0].split())


class Registers(Mapping[str, int]):
    """Registers of a frame by 64-bit name, read when asked for; one that gdb has not is missing."""

    def __init__(self, frame: gdb.Frame, word: int) -> None:
        self._frame = frame
        self._word = word
        self._read: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        if name not in self._read:
            own = name if self._word == 8 or name[:1] != "r" else "e" + name[1:]
            try:
                value = int(self._frame.read_register(own))
            except (gdb.error, ValueError, TypeError):  # ValueError: no such register
                raise KeyError(name) from None
            self._read[name] = value & (1 << 64) - 1
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


class MachineCode:
    """Code, memory and registers of the selected thread.

    live: whether its registers may be used
    """

    def __init__(self, pc: int, live: bool) -> None:
        try:
            self.frame: gdb.Frame | None = gdb.newest_frame()
            architecture = self.frame.architecture()
        except gdb.error:
            self.frame = None
            architecture = gdb.selected_inferior().architecture()  # gdb 11
        name = architecture.name()
        if not name.startswith("i386"):
            raise NotX86(name)
        self.word = 8 if "64" in name else 4
        self.live = live and self.frame is not None and self.frame.pc() == pc
        self.registers: Mapping[str, int] = {}
        if self.frame is not None and self.live:
            self.registers = Registers(self.frame, self.word)
        self._architecture = architecture
        # Read, never set: `set` would tell MI and the user's hooks.
        self._intel = gdb.parameter("disassembly-flavor") == "intel"
        self._memory = gdb.selected_inferior()

    # --- instructions ----------------------------------------------------------------------------

    def decode(self, start: int, end: int | None = None, count: int | None = None) -> list[Decoded]:
        """Instructions from `start`: `count` of them, or all that begin before `end`; fewer where
        bytes are no instruction or cannot be read."""
        limits = {"count": count} if end is None else {"end_pc": end - 1}
        try:
            lines = self._architecture.disassemble(start, **limits)
        except gdb.error:
            return []
        found = []
        for line in lines:
            insn = parse(line["asm"], self._intel)
            if insn is None:
                break
            found.append(Decoded(line["addr"], line["length"], line["asm"].strip(), insn))
        return found

    def at(self, address: int) -> Decoded | None:
        """The instruction at `address`."""
        return next(iter(self.decode(address, count=1)), None)

    def before(self, address: int) -> list[tuple[Decoded, str]]:
        """The instruction that ends at `address`, and how well that is known (KNOWN, AGREED,
        GUESSED); several guesses, likeliest first, where no boundary is known."""
        for start in self._boundaries(address):
            if address - start > CODE_LIMIT:
                break
            found = self.decode(start, end=address)
            if found and found[-1].after == address:
                return [(found[-1], KNOWN)]
        return self._voted(address)

    def _boundaries(self, address: int) -> Iterator[int]:
        """Addresses before `address` where an instruction begins, nearest first."""
        near = address
        for _ in range(3 if address else 0):
            row = gdb.find_pc_line(near - 1)
            # Where the line is 0 gdb answers with the address that it was asked for.
            if row.symtab is None or not row.line or row.pc >= near:
                break
            near = row.pc
            yield near
        symbol = symbol_of(address - 1) if address else None
        if symbol:
            yield address - 1 - symbol[1]

    def _voted(self, address: int) -> list[tuple[Decoded, str]]:
        """Where disassembly from many starts leads."""
        known: dict[int, Decoded | None] = {}
        votes: Counter[int] = Counter()
        for start in range(max(0, address - VOTE_FAR), address):
            at, last = start, None
            while at < address:
                if at not in known:
                    known[at] = self.at(at)
                last = known[at]
                if last is None:
                    break
                at = last.after
            if last is not None and at == address:
                # The nearest starts are candidates, but know nothing.
                votes[last.address] += start <= address - VOTE_NEAR
        total = sum(votes.values())
        found = []
        for start, count in votes.most_common():
            one = known[start]
            if one is not None and address - start <= LONGEST_INSTRUCTION:
                found.append((one, AGREED if count and count == total else GUESSED))
        return found

    # --- memory ----------------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """Memory, or b"" where it cannot be read."""
        try:
            return bytes(self._memory.read_memory(address, length))
        except (gdb.error, OverflowError, ValueError):
            return b""

    def pointer(self, address: int | None) -> int | None:
        """The word at `address`."""
        data = b"" if address is None else self.read(address, self.word)
        return int.from_bytes(data, "little") if data else None

    def destination(self, code: Decoded) -> int | None:
        """Where a jump or call went; None where that cannot be told (any more)."""
        operand = code.insn.operands[0] if code.insn.operands else None
        if isinstance(operand, Register):
            return self.registers.get(full_name(operand.name))
        if isinstance(operand, Memory):
            places = memory_accesses(code.insn, self.registers, code.after, self.word)
            return self.pointer(places[0].address)
        return code.insn.target

    def lasting_destination(self, code: Decoded) -> int | None:
        """Where a jump or call of some time ago went; None where a register since overwritten would
        tell it. A pointer in a fixed place, such as a slot of the linkage table, is still read."""
        if any(operand.base not in ("", "rip") or operand.index for operand in code.insn.memory):
            return None
        if any(isinstance(operand, Register) for operand in code.insn.operands):
            return None
        return self.destination(code)


def symbol_of(address: int) -> tuple[str, int] | None:
    """The linker symbol that holds `address`, and the offset in it."""
    match = _SYMBOL.match(symbolic(address))
    return (match[1], int(match[2] or 0)) if match else None
