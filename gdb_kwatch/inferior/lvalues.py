"""From an expression to the memory that gdb watches for it, and to values that can be compared.

gdb watches every lvalue in memory that it had to read for an expression, but not a whole struct
or array that only stands in the middle (``update_watchpoint``, ``can_use_hardware_watchpoint``,
gdb/breakpoint.c): ``watch p->x`` watches p and p->x, two regions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Union

import gdb

from gdb_kwatch.core.expression import parts_of
from gdb_kwatch.core.records import Region

from .gdbfacts import integer_type, language_now, speaking

REFERENCES = (gdb.TYPE_CODE_REF, getattr(gdb, "TYPE_CODE_RVALUE_REF", gdb.TYPE_CODE_REF))
# In the middle of an expression gdb passes over structs and arrays by rule, and over unions
# because it never fetches them (a lazy value is not watched).
_SKIPPED_IN_THE_MIDDLE = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION, gdb.TYPE_CODE_ARRAY)


class NotWatchable(gdb.GdbError):
    """The expression names no memory; the text says why."""


class Snapshot:
    """The value of an expression that has no fixed memory of its own.  Compares by contents, as
    gdb compares values."""

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: gdb.Value) -> None:
        self.key = key
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


# What was read: a fixed place of at most 8 bytes as a number, a larger one as bytes; a Snapshot;
# or None where it could not be read.
Reading = Union[int, bytes, Snapshot, None]
WORD = 8
UNREADABLE = "<unreadable>"


def is_signed(kind: gdb.Type) -> bool:
    """gdb.Type.is_signed is new in gdb 12."""
    return int(gdb.Value(-1).cast(kind)) < 0


def printed(value: gdb.Value, raw: bool = False) -> str:
    """As ``print`` and a watchpoint's report have it (`value_print`): a pointer or reference is
    preceded by its type, but for ``char *``.  ``raw``: without pretty-printers."""
    text: str = value.format_string(raw=True) if raw else value.format_string()
    kind = value.type
    if kind.code not in (gdb.TYPE_CODE_PTR, *REFERENCES):
        return text
    if kind.code == gdb.TYPE_CODE_PTR and kind.target().name == "char":
        return text
    name = str(kind)
    # In Rust, Ada or Fortran a type is not written so, and gdb puts none before the value.
    return f"({name}) {text}" if re.search(r"\*|&$|&\)", name) and name[0] not in "*&" else text


def frame_or_none() -> gdb.Frame | None:
    try:
        return gdb.selected_frame()
    except gdb.error:
        return None


@contextmanager
def in_frame(frame: gdb.Frame | None) -> Iterator[None]:
    """Select ``frame`` for a while, where it still lives."""
    before = frame_or_none()
    if frame is None or before is None or frame == before or not frame.is_valid():
        yield
        return
    frame.select()
    try:
        yield
    finally:
        if before.is_valid():
            before.select()


@dataclass
class Lvalue:
    """What an expression watches: its regions, and how to read its value again.

    ``address`` is None for an expression that is no lvalue itself (``a + b``); ``fixed`` says
    that the address cannot change while the process lives.  ``bits`` are the first bit, from there
    on, and the number of those of a bit-field.
    """

    expression: str
    regions: tuple[Region, ...]
    address: int | None
    size: int
    type: gdb.Type
    fixed: bool
    frame: gdb.Frame | None
    language: str = field(default_factory=language_now)
    bits: tuple[int, int] | None = None

    @property
    def is_word(self) -> bool:
        """Whether one PTRACE_PEEKDATA reads it."""
        return self.fixed and self.size <= WORD

    @property
    def way(self) -> tuple[Region, ...]:
        """What leads to the place: where these bytes change, gdb watches elsewhere from its next
        resume on, also where the value stays the same."""
        if self.fixed:
            return ()
        return self.regions if self.address is None else self.regions[:-1]

    def read(self, inferior: gdb.Inferior) -> Reading:
        """The value now; None where memory or the expression's context is gone."""
        try:
            if self.fixed:
                data = bytes(inferior.read_memory(self.address, self.size))
                return data if self.size > WORD else int.from_bytes(data, "little")
            with speaking(self.language) as spoken, in_frame(self.frame):
                if not spoken:
                    return None
                value = gdb.parse_and_eval(self.expression)
                value.fetch_lazy()
            return Snapshot(printed_raw(value), value)
        except (gdb.error, gdb.MemoryError, OverflowError):
            return None

    def reading(self, data: bytes) -> int | bytes:
        """The bytes that were found there."""
        if self.size > WORD:
            return data
        value = int.from_bytes(data, "little")
        return value if self.bits is None else value >> self.bits[0] & (1 << self.bits[1]) - 1

    def value_of(self, reading: int | bytes) -> gdb.Value:
        if isinstance(reading, int):
            if self.bits is not None:
                return of_bits(reading, self.bits[1], self.type)
            reading = reading.to_bytes(self.size, "little")
        return gdb.Value(reading, self.type)

    def text(self, reading: Reading) -> str:
        """A reading as gdb prints it, with gdb's own print settings and pretty-printers."""
        try:
            if reading is None:
                return UNREADABLE
            if isinstance(reading, Snapshot):
                return printed(reading.value)
            return printed(self.value_of(reading))
        except (gdb.error, ValueError) as error:
            return f"<error: {error}>"


def of_bits(value: int, width: int, kind: gdb.Type) -> gdb.Value:
    """The value of a bit-field whose bits are those of ``value``."""
    signed = is_signed(kind)
    if signed and value >> width - 1:
        value -= 1 << width
    return gdb.Value(value.to_bytes(kind.sizeof, "little", signed=signed), kind)


class Way:
    """What the memory on the way to a watched place held when the place was worked out."""

    __slots__ = ("held", "places")

    def __init__(self, regions: Iterable[Region], inferior: gdb.Inferior) -> None:
        self.places = [(region.address, region.length) for region in regions]
        self.held = self._now(inferior)

    def is_another(self, inferior: gdb.Inferior) -> bool:
        """Whether it leads elsewhere now, as far as bytes tell."""
        return self._now(inferior) != self.held

    def _now(self, inferior: gdb.Inferior) -> list[bytes | None]:
        found: list[bytes | None] = []
        for place in self.places:
            try:
                found.append(bytes(inferior.read_memory(*place)))
            except (gdb.error, gdb.MemoryError, OverflowError):
                found.append(None)
        return found


def printed_raw(value: gdb.Value) -> str:
    """A key for values that have no address: everything in it, no pretty-printer, no limit."""
    text: str = value.format_string(raw=True, max_elements=0, repeat_threshold=0, symbols=False)
    return text


def _address_of(value: gdb.Value) -> int | None:
    """Where an lvalue in memory stands, else None.  For a C++ reference, where the pointer
    behind it stands is not to be had from Python."""
    try:
        address = value.address
    except gdb.error:
        return None
    if address is None or value.type.strip_typedefs().code in REFERENCES:
        return None
    return int(address) & (1 << 64) - 1


def is_reference(expression: str) -> bool:
    """Whether it names a C++ reference; False where it cannot be evaluated."""
    try:
        return gdb.parse_and_eval(expression).type.strip_typedefs().code in REFERENCES
    except (gdb.error, RecursionError):
        return False


def _bitfield(expression: str) -> tuple[int, int] | None:
    """Address and length of the bytes that a bit-field member spans.

    ``update_watchpoint`` skips the bytes before it and covers just those it lies in.
    """
    found = _bitfield_member(expression)
    if found is None:
        return None
    start, member = found
    return start + member.bitpos // 8, (member.bitpos % 8 + member.bitsize + 7) // 8


def bits_in(expression: str) -> tuple[int, int] | None:
    """Where the bits of a bit-field member stand in those bytes: the first one, and how many."""
    found = _bitfield_member(expression)
    return None if found is None else (found[1].bitpos % 8, found[1].bitsize)


def _bitfield_member(expression: str) -> tuple[int, gdb.Field] | None:
    """The bit-field that an expression names, and where the object that has it begins."""
    match = re.match(r"(.+?)(\.|->)\s*(\w+)\s*$", expression.strip(), re.S)
    if not match:
        return None
    if [re.sub(r"\s", "", part) for part in parts_of(expression)] != [
        re.sub(r"\s", "", match.group(1))
    ]:
        return None  # the member is not what the whole expression is
    try:
        base = gdb.parse_and_eval(match.group(1))
    except gdb.error:
        return None  # it names no object: the package of Go's main.Total
    if match.group(2) == "->":
        base = base.dereference()
    kind = base.type.strip_typedefs()
    if kind.code not in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        return None
    member = next((f for f in kind.fields() if f.name == match.group(3)), None)
    start = _address_of(base)
    if member is None or not member.bitsize or start is None:
        return None
    return start, member


def _regions(expression: str, rw: int, top: bool) -> tuple[list[Region], gdb.Value]:
    """The regions of one (sub)expression, inner ones first, and its value."""
    value = gdb.parse_and_eval(expression)
    regions: list[Region] = []
    for part in parts_of(expression):
        try:
            inner, _ = _regions(part, rw, top=False)
        except (gdb.error, RecursionError):
            continue
        regions += [region for region in inner if region not in regions]
    kind = value.type.strip_typedefs()
    if not top and kind.code in _SKIPPED_IN_THE_MIDDLE:
        return regions, value
    bits = _bitfield(expression)
    if bits is not None:
        regions.append(Region(*bits, rw))
    elif (address := _address_of(value)) is not None and kind.sizeof:
        regions.append(Region(address, kind.sizeof, rw))
    return list(dict.fromkeys(regions)), value


def resolve(expression: str, rw: int, location: bool = False) -> Lvalue:
    """What ``watch EXPRESSION`` watches, evaluated in the selected frame.

    ``location``: as ``watch -location``, the memory the expression names now, once.
    Raises NotWatchable where there is no memory behind it, gdb.error where gdb cannot evaluate.
    """
    frame = frame_or_none()
    regions, value = _regions(expression, rw, top=True)
    if value.is_optimized_out:
        raise NotWatchable(f"{expression} is optimized out here, so there is no memory to watch.")
    kind = value.type
    bits = _bitfield(expression)
    address = _address_of(value)
    if not regions:
        raise NotWatchable(_why_not(expression, value))
    if location:
        if address is None and bits is None:
            raise NotWatchable(
                f"{expression} is no lvalue in memory, so it has no location to watch."
            )
        regions = regions[-1:]
    if bits is not None:
        made = Lvalue(expression, tuple(regions), bits[0], bits[1], kind, False, frame)
        return replace(made, bits=bits_in(expression))
    if address is None:
        return Lvalue(expression, tuple(regions), None, kind.sizeof, kind, False, frame)
    fixed = len(regions) == 1
    return Lvalue(expression, tuple(regions), address, kind.sizeof, kind, fixed, frame)


def unreadable(expression: str, rw: int) -> Lvalue:
    """The same of an expression whose value cannot be had, as memory on the way to it is not there:
    gdb watches what it could read, and the last place that it came to (``update_watchpoint``)."""
    regions: list[Region] = []
    for part in parts_of(expression):
        with suppress(gdb.error, RecursionError):
            try:
                regions += _regions(part, rw, top=False)[0]
            except gdb.MemoryError:
                regions += unreadable(part, rw).regions
    every = tuple(dict.fromkeys(regions))
    kind = gdb.Value(0).type
    return Lvalue(expression, every, None, kind.sizeof, kind, False, frame_or_none())


def come_to(lvalue: Lvalue) -> tuple[Region, ...]:
    """Which of these gdb is likely to watch.  An operand is seldom the last that it comes to: of
    ``*p + n`` both are found first, of ``n + *p`` the n is then cast."""
    chain = len(list(parts_of(lvalue.expression))) == 1
    return tuple(
        region
        for region in lvalue.regions
        if chain and region == lvalue.regions[-1] or _is_there(region)
    )


def _is_there(region: Region) -> bool:
    try:
        gdb.selected_inferior().read_memory(*region[:2])
    except (gdb.error, gdb.MemoryError, OverflowError):
        return False
    return True


def raw(address: int, size: int, rw: int) -> Lvalue:
    """``size`` bytes at a fixed ``address``: an unsigned integer, or an array of bytes."""
    kind = integer_type(size) if size in (1, 2, 4, 8) else integer_type(1).array(size - 1)
    regions = (Region(address, size, rw),)
    return Lvalue(f"{address:#x}", regions, address, size, kind, True, None)


def _why_not(expression: str, value: gdb.Value) -> str:
    text = expression.strip()
    if "$" in text and re.fullmatch(r"\$\w+", text):
        return f"{text} is a register or convenience variable: debug registers watch memory only."
    if re.fullmatch(r"\w+", text) and not text[0].isdigit() and not value.is_lazy:
        return f"{text} is not in memory here (it lives in a register, or is a constant)."
    if value.type.strip_typedefs().sizeof == 0:
        return f"{text} has size 0: there is nothing to watch."
    return f"Cannot watch constant value `{text}'."
