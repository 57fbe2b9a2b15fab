"""Ranges of code by name, for -from and -not-from: functions, inlined ones too, and libraries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import gdb

from .machine_code import symbol_of

Range = tuple[int, int]
# So many bytes of a function are looked at, one by one.
_MOST = 1 << 17
_UNNAMED = "(anonymous namespace)"


def code_ranges(names: Sequence[str]) -> tuple[Range, ...]:
    """The code of functions and libraries, by name.  Raises gdb.GdbError."""
    found: list[Range] = []
    for name in names:
        ranges = function_ranges(name) or _library(name)
        if not ranges:
            raise gdb.GdbError(f'"{name}" is no function and no library of this program.')
        found += ranges
    return tuple(found)


def function_ranges(name: str) -> list[Range]:
    """The code of all functions that `break NAME` takes: overloaded ones, instances of a template,
    what is inlined of them.  Of those with just that name, where there are any: `f` is not
    `other::f` then.  Empty where there is none."""
    by_rank: dict[bool, set[Range]] = {True: set(), False: set()}
    for pc in _starts(name):
        whole, ranges = _extent(pc, name)
        by_rank[whole].update(ranges)
    return sorted(by_rank[True] or by_rank[False])


def _starts(name: str) -> list[int]:
    if not re.match(r"[A-Za-z_~:(]", name) or re.search(r":\s*\d+$", name):
        return []  # a line, or an address
    try:
        rest, places = gdb.decode_line(name)
    except (gdb.error, RuntimeError):
        return []
    return [] if rest or not places else [int(place.pc) for place in places]


def _extent(pc: int, name: str) -> tuple[bool, list[Range]]:
    """The code of the function that begins at ``pc``, and whether ``name`` is all of its name."""
    functions = list(_functions(pc))
    if not functions:
        return True, [(pc, _symbol_end(pc))]
    for block in functions:
        whole = _named(str(block.function.name), name)
        if whole is not None:
            break
    else:
        whole, block = True, functions[-1]  # by its linker name
    return whole, _code(block, pc)


def _functions(pc: int) -> Iterator[gdb.Block]:
    """The blocks of the functions that an address belongs to: what is inlined there comes first."""
    try:
        block = gdb.block_for_pc(pc)
    except (gdb.error, RuntimeError):
        block = None
    while block is not None:
        if block.function is not None:
            yield block
        block = block.superblock


def _named(full: str, name: str) -> bool | None:
    """Whether ``name`` is a function's name without what may be left out of it (True), or the end
    of that (False)."""
    wanted = re.sub(r"^[^:()<]+:(?!:)", "", name).replace(_UNNAMED, "{}").replace(" ", "")
    own = full.replace(_UNNAMED, "{}").replace(" ", "")
    plain = own.split("(")[0]
    bare, before = plain, ""
    while bare != before:
        before, bare = bare, re.sub(r"<[^<>]*>", "", bare)
    forms = {own, plain, bare}
    if wanted.lstrip(":") in forms:
        return True
    return False if any(form.endswith(f"::{wanted}") for form in forms) else None


def _code(block: gdb.Block, entry: int) -> list[Range]:
    """The code of a function.  A block reaches from its first byte to its last: what the compiler
    has put elsewhere as it is seldom run (`f.cold`), or has inlined, has other code in between."""
    if block.end - block.start <= _MOST:
        return list(_runs(block, block.start, block.end))
    parts = []
    for place in (entry, block.start):
        parts += list(_runs(block, place, min(place + _MOST, block.end)))[:1]
    return parts


def _runs(block: gdb.Block, start: int, end: int) -> Iterator[Range]:
    begin: int | None = None
    for address in range(start, end + 1):
        inside = address < end and any(_same(one, block) for one in _functions(address))
        if inside and begin is None:
            begin = address
        elif not inside and begin is not None:
            yield begin, address
            begin = None


def _same(one: gdb.Block, other: gdb.Block) -> bool:
    return (one.start, one.end, str(one.function)) == (other.start, other.end, str(other.function))


def _symbol_end(start: int) -> int:
    """Where the linker symbol at ``start`` ends, found by halves: gdb does not tell."""
    symbol = symbol_of(start)

    def inside(address: int) -> bool:
        there = symbol_of(address)
        return there is not None and symbol is not None and there[0] == symbol[0]

    size = 16
    while size < 1 << 20 and inside(start + size):
        size *= 2
    low, high = start, start + size
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return high


def _library(name: str) -> list[Range]:
    """The mappings of a file that can be executed: libc, libc.so.6 or its whole path."""
    found = []
    with open(f"/proc/{gdb.selected_inferior().pid}/maps") as lines:
        for line in lines:
            fields = line.split(None, 5)
            if len(fields) < 6 or "x" not in fields[1]:
                continue
            path = fields[5].rstrip("\n")
            base = os.path.basename(path)
            if name in (path, base) or re.match(re.escape(name) + r"(-[\d.]+)?\.so\b", base):
                start, end = fields[0].split("-")
                found.append((int(start, 16), int(end, 16)))
    return found
