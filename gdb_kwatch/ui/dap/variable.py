"""What stands behind a name that the editor shows: its value, and how to say it as an expression.

gdb's server keeps the variables that it has sent as references in a tree, without a way up; names
of its private attributes differ between gdb 16 and 18.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import gdb
from gdb.dap import frames, varref

from gdb_kwatch.inferior.lvalues import in_frame

_POINTERS = (
    gdb.TYPE_CODE_PTR,
    gdb.TYPE_CODE_REF,
    getattr(gdb, "TYPE_CODE_RVALUE_REF", gdb.TYPE_CODE_REF),
)


class Variable(NamedTuple):
    """A variable of the editor's: its value, the expression that names the same memory (None
    where none was found), and the frame in which that is to be read (None: any)."""

    value: gdb.Value
    expression: str | None
    frame: gdb.Frame | None


def frame_of(frame_id: int | None) -> gdb.Frame | None:
    """The frame of the editor's stack trace."""
    if frame_id is None:
        return None
    return frames.frame_for_id(frame_id).inferior_frame()


def find(reference: int, name: str) -> Variable:
    """The child ``name`` of one of the editor's variables or scopes.  Raises gdb.GdbError."""
    container = varref.find_variable(reference)
    child = _child(container, name)
    if child is None:
        raise gdb.GdbError(f"no variable named {name!r}")
    value = _private(child, "value")
    way = _way_to(child)
    scope = way[0]
    frame = frame_of(_private(scope, "frameId"))
    expression = _expression(way[1:]) if _private(scope, "value") is None else None
    if expression is not None and not _is_same(expression, frame, value):
        expression = None
    return Variable(value, expression, frame)


def _private(reference: Any, name: str) -> Any:
    """An attribute that has an underscore since gdb 17."""
    return getattr(reference, f"_{name}", getattr(reference, name, None))


def _child(container: Any, name: str) -> Any:
    """By the name that was sent, which is text also where an array's is a number."""
    for child in _private(container, "children") or container.fetch_children(0, 0):
        if child is not None and str(_private(child, "name")) == name:
            return child
    return None


def _way_to(reference: Any) -> list[Any]:
    """From the scope (or the result of an evaluation) down to ``reference``."""
    way = [reference]
    while True:
        parent = next(
            (
                other
                for other in varref.all_variables
                if any(child is way[0] for child in _private(other, "children") or ())
            ),
            None,
        )
        if parent is None:
            return way
        way.insert(0, parent)


def _expression(way: list[Any]) -> str | None:
    """C's words for the way down; whether they mean the same is for `_is_same` to find."""
    text = ""
    before: gdb.Type | None = None
    for reference in way:
        name, value = str(_private(reference, "name")), _private(reference, "value")
        if value is None:
            return None
        if before is None:
            text = name
        elif before.code in _POINTERS:
            text = f"*{text}" if before.code == gdb.TYPE_CODE_PTR else text
        elif re.fullmatch(r"\[?\d+\]?", name):
            text = f"{_tight(text)}[{name.strip('[]')}]"
        else:
            text = f"{_tight(text)}.{name}"
        before = value.type.strip_typedefs()
    return text


def _tight(text: str) -> str:
    return f"({text})" if text.startswith("*") else text


def _is_same(expression: str, frame: gdb.Frame | None, value: gdb.Value) -> bool:
    """Whether an expression names just the memory that ``value`` came from."""
    try:
        with in_frame(frame):
            other = plain(gdb.parse_and_eval(expression))
            mine = plain(value)
            return other.address == mine.address and other.type.sizeof == mine.type.sizeof
    except gdb.error:
        return False


def plain(value: gdb.Value) -> gdb.Value:
    """What a C++ reference refers to; any other value as it is."""
    if value.type.strip_typedefs().code in _POINTERS[1:]:
        return value.referenced_value()
    return value
