"""The source behind the addresses of accesses, and what their instructions did there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import gdb

from gdb_kwatch.core.debugreg import WRITE
from gdb_kwatch.core.instruction import MemoryAccess, memory_accesses, parse
from gdb_kwatch.core.records import Region

from . import programs
from .access import Access, find_access
from .kernel_callers import callers, outside_libraries
from .machine_code import symbol_of

_NOWHERE = Access(reason="it was in another program")


class Symbols:
    """The source behind addresses, each looked up once."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
        self._program = programs.filename()
        self._accesses: dict[tuple[int, bool], Access] = {}
        self._frames: dict[int, str] = {}
        self._callers: dict[tuple[int, ...], int] = {}

    def access(
        self, ip: int, kernel: bool = False, registers: Mapping[str, int] | None = None
    ) -> Access:
        """The instruction whose access was seen with the program at ``ip``; with the registers
        that it had then it can be told for certain more often."""
        found = self._accesses.get((ip, kernel))
        if found is None:
            if programs.filename() != self._program:
                return _NOWHERE  # exec, or another inferior: what is there now is of no use
            found = find_access(ip, () if kernel else self.regions, live=False)
            if found.line is None and found.function is None:
                found = _by_line(ip, found)
            if registers and not found.certain and self._touches(found, ip, registers):
                found = found._replace(certain=True, reason="")
            self._accesses[(ip, kernel)] = found
        return found

    def _touches(self, access: Access, ip: int, registers: Mapping[str, int]) -> bool:
        """Whether its operand was on the watched bytes."""
        insn = parse(access.text or "", gdb.parameter("disassembly-flavor") == "intel")
        if insn is None:
            return False
        return any(
            one.overlaps(region.address, region.length)
            for one in memory_accesses(insn, registers, ip, 8)
            for region in self.regions
        )

    def direction(
        self,
        ip: int,
        kernel: bool,
        changed: bool,
        registers: Mapping[str, int] | None = None,
    ) -> str:
        """Read or write: x86 traps both alike, but the instruction tells, by the operand that is
        on the watched bytes."""
        if all(region.rw == WRITE for region in self.regions):
            return "write"
        if kernel:
            return "write" if changed else "?"
        access = self.access(ip, kernel, registers)
        insn = None
        if access.text and (access.certain or not access.reason.startswith("no symbol")):
            insn = parse(access.text, gdb.parameter("disassembly-flavor") == "intel")
        there = memory_accesses(insn, registers or {}, ip, 8) if insn is not None else ()
        sure = [one for one in there if self._overlap(one)]
        may = sure or [one for one in there if self._overlap(one) is None]
        # `push (%rax)` reads there and writes the stack: where the registers are not known it is
        # the operand that is meant, unless the value changed.
        if len(may) > 1 and not sure:
            may = [one for one in may if one.writes == changed] or may
        reads, writes = any(one.reads for one in may), any(one.writes for one in may)
        if reads or writes:
            return "read/write" if reads and writes else "read" if reads else "write"
        return "write" if changed else "?"

    def _overlap(self, one: MemoryAccess) -> bool | None:
        """Whether it touched the watched bytes; None where that cannot be told."""
        found = [one.overlaps(region.address, region.length) for region in self.regions]
        return True if any(found) else None if None in found else False

    def known(self, ip: int, kernel: bool) -> Access | None:
        """The same, if it was looked up before."""
        return self._accesses.get((ip, kernel))

    def caller(self, ip: int, kernel: bool, top: Sequence[int], stack: Sequence[int]) -> int:
        """Where the program stood for an access: ``ip``, or from where it called the kernel."""
        if not kernel or not any(top):
            return ip
        key = (ip, *top, *stack)
        found = self._callers.get(key)
        if found is None:
            found = self._callers[key] = outside_libraries(callers(ip, top, stack))
        return found

    def chain(self, stack: Sequence[int], top: Sequence[int] = ()) -> Sequence[int]:
        """A call chain by frame pointers, up to the first address that is no code of the
        program's: the frame pointer was used for something else there.  ``top``: the stack at a
        system call."""
        if stack and any(top):
            stack = callers(stack[0], top, stack)
        for n, address in enumerate(stack):
            if n and self.frame(address) == hex(address):
                return stack[:n]
        return stack

    def frame(self, address: int) -> str:
        """The function of a return address."""
        name = self._frames.get(address)
        if name is None:
            access = self.access(address, kernel=True)
            name = access.function or (access.symbol.split("+")[0] if access.symbol else "")
            name = self._frames[address] = name or hex(address)
        return name


def _by_line(ip: int, access: Access) -> Access:
    """Where no code can be read: at least the line, which holds for the byte before."""
    row = gdb.find_pc_line(ip - 1)
    symbol = symbol_of(ip - 1)
    known = row.symtab is not None and row.line
    return Access(
        access.address,
        access.text,
        symbol[0] if symbol else None,
        f"{symbol[0]}+{symbol[1]}" if symbol else "",
        row.symtab.fullname() if known else None,
        row.symtab.filename if known else None,
        row.line if known else None,
        False,
        access.reason,
    )


def where(access: Access, ip: int) -> str:
    """``sim.c:9``, or the best there is."""
    if access.filename and access.line:
        return f"{os.path.basename(access.filename)}:{access.line}"
    return access.symbol or hex(ip)
