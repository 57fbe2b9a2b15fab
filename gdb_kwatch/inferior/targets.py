"""What ``kwatch who`` and ``kwatch trace`` watch, and the words for what they find: one place in
memory with its type, and the source behind an address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import gdb

from gdb_kwatch.core.debugreg import SLOTS, WRITE, Piece
from gdb_kwatch.core.instruction import MemoryAccess, memory_accesses, parse
from gdb_kwatch.core.records import ACCESS_RW, Region

from . import gdbfacts, programs, side_effects
from .access import Access, find_access
from .kernel_callers import callers, outside_libraries
from .lvalues import NotWatchable, bits_in, frame_or_none, is_signed, resolve
from .machine_code import symbol_of
from .recorded_values import bits_of, text_of, value_of

if TYPE_CHECKING:
    from .session import Session

_INTEGERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_RANGE)
_MOST = SLOTS * 8
_RED_ZONE = 128  # below the stack pointer: a leaf function's locals may be there (System V ABI)


class Target(NamedTuple):
    """One watched place, fixed for as long as the process lives."""

    expression: str
    region: Region
    type: gdb.Type
    signed: bool | None  # of a plain number; None where gdb must print it
    bits: tuple[int, int] | None = None  # of a bit-field: the first one, and how many
    local: bool = False  # on the stack of the selected thread

    @property
    def pieces(self) -> frozenset[Piece]:
        return frozenset(self.region.pieces())

    def now(self) -> bytes:
        """The bytes that stand there."""
        memory = gdb.selected_inferior().read_memory(self.region.address, self.region.length)
        return bytes(memory)

    def number(self, data: bytes | None) -> int | None:
        """The value, where it is a plain number."""
        if data is None or self.signed is None:
            return None
        if self.bits is not None:
            return bits_of(data[: self.region.length], self.bits, self.type)
        return int.from_bytes(data[: self.region.length], "little", signed=self.signed)

    def value(self, data: bytes) -> gdb.Value:
        """What these bytes are."""
        return value_of(self._whole(data), self.type)

    def part(self, address: int, data: bytes) -> bytes | None:
        """Its own bytes of those that stood at ``address``; None where they are not all there."""
        at = self.region.address - address
        if at < 0 or at + self.region.length > len(data):
            return None
        return data[at : at + self.region.length]

    def changed(self, old: bytes, new: bytes) -> bool:
        """Whether its value did: the bits beside a bit-field are others'."""
        return self._whole(old) != self._whole(new)

    def overlaps(self, address: int, length: int) -> bool:
        own = self.region
        return address < own.address + own.length and own.address < address + length

    def _whole(self, data: bytes) -> bytes:
        """A bit-field is taken out of the bytes that it is in."""
        if self.bits is None:
            return data
        number = bits_of(data[: self.region.length], self.bits, self.type)
        size = self.type.sizeof
        return (number & (1 << 8 * size) - 1).to_bytes(size, "little")

    def text(self, data: bytes | None) -> str:
        """As gdb prints it, on one line, from nothing but these bytes."""
        if data is None:
            return "?"
        if self.signed is not None:
            return str(self.number(data))
        try:
            return text_of(self._whole(data), self.type)
        except (gdb.error, ValueError, OverflowError) as error:
            return f"<error: {error}>"


def target_of(expression: str, access: str) -> Target:
    """The memory that an expression names now.  Raises gdb.GdbError."""
    thread = gdbfacts.selected_thread()
    if thread is None or not gdb.selected_inferior().pid:
        raise gdb.GdbError("The program is not being run.")
    if thread.is_running():
        raise gdb.GdbError("Cannot do that while the program is running; interrupt it first.")
    if not gdbfacts.can_read_registers(thread.ptid[1]):
        raise gdb.GdbError(gdbfacts.why_no_registers())
    side_effects.refuse(expression)
    try:
        lvalue = resolve(expression, ACCESS_RW[access], location=True)
    except NotWatchable:
        raise
    except (gdb.error, gdb.MemoryError) as error:
        raise gdb.GdbError(str(error)) from None
    region = lvalue.regions[-1]
    if not gdbfacts.is_memory(region.address):
        raise gdb.GdbError(f"Cannot access memory at address {region.address:#x}")
    if region.length > _MOST or len(region.pieces()) > SLOTS:
        raise gdb.GdbError(
            f"{expression}: {region.length} bytes are more than the {SLOTS} debug registers hold.\n"
            "Watch the part of it that matters."
        )
    kind = lvalue.type.strip_typedefs()
    signed, bits = None, bits_in(expression)
    if (
        kind.code in _INTEGERS
        and (kind.sizeof == region.length or bits is not None)
        and (kind.sizeof > 1 or not re.search(r"char", str(kind)))
    ):
        signed = is_signed(kind)
    local = gdbfacts.needs_frame(expression) and _on_stack(region.address)
    target = Target(expression, region, lvalue.type, signed, bits, local)
    try:
        target.now()
    except (gdb.error, gdb.MemoryError):
        # gdb's message has the address that it failed at, not always in the same words.
        raise gdb.GdbError(f"Cannot access memory at address {region.address:#x}") from None
    return target


def _on_stack(address: int) -> bool:
    """Whether it is of a frame of the selected thread's."""
    try:
        top = int(gdb.parse_and_eval("(unsigned long)$sp"))
        oldest = gdb.newest_frame()
        while oldest.older() is not None:
            oldest = oldest.older()
        bottom = int(oldest.read_register("rsp"))
    except (gdb.error, ValueError):
        return False
    return top - _RED_ZONE <= address < bottom


def check_slots(
    session: Session, targets: Iterable[Target], what: str, instead_of: str = ""
) -> None:
    """Whether the registers have room for these beside what is set; ``instead_of``: a user that is
    about to leave.  Raises gdb.GdbError."""
    session.look()
    session.at_prompt()  # which finds what slots perf has
    wanted = [piece for target in targets for piece in target.pieces]
    used = session.registry.pieces_in_use()
    slots, space = session.registry.slots, programs.selected()
    leaving = sum(len(pieces) for name, pieces in slots.used(space) if name == instead_of)
    free = max(SLOTS - len(used) - slots.foreign_slots(space) + leaving, 0)
    if len(wanted) > free:
        raise gdb.GdbError(
            f"No hardware slot free for {what}: it needs {len(wanted)} of {SLOTS}, {free} free.\n"
            + session.registry.slots.all_holders()
        )


# Source.


class Symbols:
    """The source behind addresses, each looked up once."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
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


class Numbers:
    """gdb's numbers of threads by LWP, of those that have ended too.  Connect while threads may
    come."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}
        self._home = gdb.selected_inferior().num
        self._elsewhere: dict[int, int] = {}  # inferiors of those that are in another one
        self._look()
        gdb.events.new_thread.connect(self._new)

    def _look(self) -> None:
        # At the end of a program whose main thread went first gdb lists that one anew, with
        # another number ("[New process N]"): the first one is the one that it had.
        for inferior in gdb.inferiors():
            for thread in inferior.threads():
                self._note(thread)

    def _note(self, thread: gdb.InferiorThread) -> None:
        lwp = thread.ptid[1]
        self.of.setdefault(lwp, thread.num)
        if thread.inferior.num != self._home:
            self._elsewhere.setdefault(lwp, thread.inferior.num)

    def _new(self, event: gdb.ThreadEvent) -> None:
        thread = event.inferior_thread
        if isinstance(thread, gdb.InferiorThread):
            self._note(thread)
        else:
            self._look()  # gdb 10 gives the inferior here

    def close(self) -> None:
        self._look()
        gdb.events.new_thread.disconnect(self._new)

    def text(self, lwp: int) -> str:
        """As gdb writes it: ``2.1`` for one of another inferior than where this began."""
        if lwp not in self.of:
            return f"LWP {lwp}"
        inferior = self._elsewhere.get(lwp)
        return f"{inferior}.{self.of[lwp]}" if inferior else str(self.of[lwp])


def backtrace(limit: int) -> tuple[int, ...]:
    """The program counters of the selected thread's frames, by gdb's own unwinding."""
    found: list[int] = []
    frame = frame_or_none()
    while frame is not None and len(found) < limit:
        found.append(frame.pc())
        try:
            frame = frame.older()
        except gdb.error:
            break
    return tuple(found)
