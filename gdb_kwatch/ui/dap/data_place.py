"""Data IDs: how the editor names a place in memory between asking for it and watching it.

One that keeps its meaning in the next session is the expression itself.  One that does not (a
local, the heap, an address) is ``#N NAME``, and only this session knows the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gdb

from gdb_kwatch.core.debugreg import SLOTS, WRITE
from gdb_kwatch.core.records import Region
from gdb_kwatch.inferior import gdbfacts, side_effects
from gdb_kwatch.inferior.lvalues import in_frame, is_reference, raw, resolve

from . import variable

ACCESSES = ("read", "write", "readWrite")
_ADDRESS_SIZE = 8


class Place(NamedTuple):
    """What a kwatch is to be set on: an expression in a frame (None: in any), or an address with
    ``size`` bytes.  ``pid`` is the process in which it has a meaning; 0: in all."""

    expression: str
    size: int | None = None
    frame: gdb.Frame | None = None
    pid: int = 0


class Places:
    """The places that the editor has asked about in this session."""

    def __init__(self) -> None:
        self._known: dict[str, Place] = {}

    def info(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """The answer to ``dataBreakpointInfo``.  A null dataId: it cannot be watched."""
        try:
            place, regions = _find(name, args)
            _check(regions)
        except (gdb.error, gdb.GdbError, gdb.MemoryError, ValueError) as error:
            return {"dataId": None, "description": str(error)}
        size = sum(region.length for region in regions)
        where = ", ".join(f"{region.address:#x}" for region in regions)
        return {
            "dataId": self._id_of(place, name),
            "description": f"{name} ({size} byte{'s' if size > 1 else ''} at {where})",
            "accessTypes": list(ACCESSES),
            "canPersist": not place.pid,
        }

    def _id_of(self, place: Place, name: str) -> str:
        if not place.pid:
            return place.expression
        known = next((key for key, other in self._known.items() if other == place), None)
        if known is None:
            known = f"#{len(self._known) + 1} {name}"
            self._known[known] = place
        return known

    def place(self, data_id: str) -> Place:
        """What a data ID stands for.  Raises gdb.GdbError where it has no meaning any more."""
        if not data_id.startswith("#"):
            return Place(data_id)
        place = self._known.get(data_id)
        if place is None:
            raise gdb.GdbError("That place belongs to an earlier session.")
        if place.pid != gdb.selected_inferior().pid:
            raise gdb.GdbError("That place was in a process that has ended.")
        if place.frame is not None and not place.frame.is_valid():
            raise gdb.GdbError("The function that it belongs to has returned.")
        return place


def _find(name: str, args: dict[str, Any]) -> tuple[Place, tuple[Region, ...]]:
    size = args.get("bytes")
    if args.get("asAddress"):
        return _at(int(name, 0), size or _ADDRESS_SIZE)
    reference = args.get("variablesReference")
    if reference:
        return _of_variable(variable.find(reference, name), name, size)
    return _of_expression(name, variable.frame_of(args.get("frameId")), size)


def _of_variable(
    found: variable.Variable, name: str, size: int | None
) -> tuple[Place, tuple[Region, ...]]:
    """The memory of a variable that the editor shows."""
    value = variable.plain(found.value)
    if value.is_optimized_out:
        raise gdb.GdbError(f"{name} is optimized out here, so there is no memory to watch.")
    address = value.address
    if found.expression is not None and size is None:
        with in_frame(found.frame):
            lvalue = resolve(_referred(found.expression), WRITE)
        if lvalue.fixed or address is None:
            return _of_expression(found.expression, found.frame, None)
    if address is None:
        raise gdb.GdbError(f"{name} is not in memory here, so there is nothing to watch.")
    if size is not None and size != value.type.sizeof:
        return _at(int(address), size)
    # Through a pointer: the memory that is shown, whatever the pointer does later.
    return _at_value(value)


def _of_expression(
    expression: str, frame: gdb.Frame | None, size: int | None
) -> tuple[Place, tuple[Region, ...]]:
    with in_frame(frame):
        side_effects.refuse(expression)
        if size is not None:
            value = variable.plain(gdb.parse_and_eval(expression))
            return _at(int(value if value.address is None else value.address), size)
        expression = _referred(expression)
        regions = resolve(expression, WRITE).regions
        local = gdbfacts.needs_frame(expression)
        static = all(gdbfacts.symbol_at(region.address) for region in regions)
        if static and not local:
            value = gdb.parse_and_eval(expression)
            if _is_global(expression, value):
                return Place(expression), regions
            return _at_value(value)  # a function's own static: known by its name in there only
        pid = gdb.selected_inferior().pid
        return Place(expression, None, gdb.selected_frame() if local else None, pid), regions


def _referred(expression: str) -> str:
    """What a C++ reference refers to: gdb would watch the pointer behind it."""
    return f"*&{expression}" if is_reference(expression) else expression


def _is_global(expression: str, value: gdb.Value) -> bool:
    """Whether an expression means the same wherever the program stands."""
    try:
        other = gdb.parse_and_eval(expression, global_context=True)
    except gdb.error:
        return False
    return bool(other.address == value.address)


def _at_value(value: gdb.Value) -> tuple[Place, tuple[Region, ...]]:
    """The memory of a value, with its type where that can be said."""
    address = int(value.address)
    place, regions = _at(address, value.type.sizeof)
    typed = f"*({value.type.strip_typedefs().unqualified()} *) {address:#x}"
    try:
        if gdb.parse_and_eval(typed).type.sizeof == value.type.sizeof:
            place = Place(typed, None, None, place.pid)
    except gdb.error:
        pass  # no C, or a type that has no name
    return place, regions


def _at(address: int, size: int) -> tuple[Place, tuple[Region, ...]]:
    address &= (1 << 64) - 1
    # An address means nothing in another process, nor before there is one.
    pid = gdb.selected_inferior().pid
    if not pid:
        raise gdb.GdbError("There is no process yet, so an address names no memory.")
    gdb.selected_inferior().read_memory(address, size)
    return Place(f"{address:#x}", size, None, pid), raw(address, size, WRITE).regions


def _check(regions: tuple[Region, ...]) -> None:
    """What no debug registers can hold."""
    pieces = {piece for region in regions for piece in region.pieces()}
    if len(pieces) > SLOTS:
        size = sum(region.length for region in regions)
        raise gdb.GdbError(f"{size} bytes are more than the {SLOTS} debug registers can watch.")
