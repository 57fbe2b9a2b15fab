"""What ``kwatch who`` and ``kwatch trace`` watch: one place in memory with its type; and the
numbers of the threads that they tell of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import gdb

from gdb_kwatch.core.debugreg import SLOTS, Piece
from gdb_kwatch.core.records import ACCESS_RW, Region

from . import gdbfacts, programs, side_effects
from .lvalues import NotWatchable, bits_in, frame_or_none, is_signed, resolve
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
