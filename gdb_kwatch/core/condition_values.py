"""What a condition's tree is worth, worked out here: for where the kernel could not, because memory
was not there yet (BPF reads no page that the program has not touched).

The same answers as `conditions.Translation` gives, the same failures as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from . import conditions as tree
from .conditions import DIVISION, UNKNOWN, UNREADABLE, Kind, Node, extended

_WORD = (1 << 64) - 1


class Failed(Exception):
    """Why there is none: one of the reasons of `conditions`, and the address of memory."""

    def __init__(self, reason: int, fault: int = 0) -> None:
        super().__init__(reason, fault)
        self.reason, self.fault = reason, fault


class Access(NamedTuple):
    """What an access found.

    read: memory of the program by address and length; None where it cannot be read
    numbers: gdb's of the thread, as in a row of the table of threads
    """

    old: bytes
    new: bytes
    read: Callable[[int, int], bytes | None]
    registers: Mapping[str, int]
    lwp: int
    numbers: Sequence[int]


def value_of(node: Node, access: Access) -> int:
    """Raises Failed."""

    def of(part: Node) -> int:
        return value_of(part, access)

    kind = node.kind
    if isinstance(node, tree.Number):
        return extended(node.value, kind)
    if isinstance(node, tree.Watched):
        return _number(access.new if node.which == "new" else access.old, kind)
    if isinstance(node, tree.Load):
        address = of(node.address) & _WORD
        data = access.read(address, node.length or kind.size)
        if data is None:
            raise Failed(UNREADABLE, address)
        return _number(data, kind)
    if isinstance(node, tree.Bits):
        found = (of(node.node) & _WORD) >> node.start & (1 << node.width) - 1
        return found - (1 << node.width) if kind.signed and found >> node.width - 1 else found
    if isinstance(node, tree.CpuRegister):
        return extended(access.registers[node.name], kind)
    if isinstance(node, tree.ThreadId):
        return access.lwp
    if isinstance(node, tree.ThreadNumber):
        return access.numbers[node.place - 1]
    if isinstance(node, tree.Unknown):
        raise Failed(UNKNOWN)
    if isinstance(node, tree.Convert):
        found = of(node.node)
        if node.boolean:
            return int(found != 0)
        return _certain(found, kind) if node.unsure else extended(found, kind)
    if isinstance(node, tree.Unary):
        return extended(-of(node.node) if node.operator == "-" else ~of(node.node), kind)
    if isinstance(node, tree.Not):
        return int(not of(node.node))
    if isinstance(node, tree.Logic):
        first = of(node.left) != 0
        return int(first if first == (node.operator == "||") else of(node.right) != 0)
    if isinstance(node, tree.Choose):
        return of(node.yes) if of(node.test) else of(node.no)
    if isinstance(node, tree.Sequence):
        of(node.first)
        return of(node.then)
    left, right = of(node.left), of(node.right)
    if isinstance(node, tree.Compare):
        return int(_COMPARISONS[node.operator](left, right))
    return _binary(node, left, right)


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "&": lambda left, right: left & right,
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
}


def _binary(node: tree.Binary, left: int, right: int) -> int:
    kind = node.kind
    if node.unsure and kind.size == 8 and _is_unsure(node.operator, left, right):
        raise Failed(UNKNOWN)
    if node.operator in _ARITHMETIC:
        found = _ARITHMETIC[node.operator](left, right)
    elif node.operator in ("<<", ">>"):
        if not 0 <= right < 8 * kind.size:
            return -1 if node.operator == ">>" and left < 0 else 0
        found = left << right if node.operator == "<<" else left >> right
    else:
        if not right:
            raise Failed(DIVISION)
        found = abs(left) // abs(right)
        if (left < 0) != (right < 0):
            found = -found
        if node.operator == "%":
            found = left - found * right
    return _certain(found, kind) if node.unsure else extended(found, kind)


def _is_unsure(operator: str, left: int, right: int) -> bool:
    """Whether a product or shift of 64 bits may be one of those, as far as a register tells it."""
    if operator == "*":
        small = all(-(1 << 31) <= factor < 1 << 31 for factor in (left, right))
        return (left < 0) != (right < 0) and not small
    return left < 0 and 0 <= right < 64 and left << right < -(1 << 63)


def _certain(value: int, kind: Kind) -> int:
    """gdb is to decide where gdb 15 to 17 may lose the sign."""
    if value < -(1 << 8 * kind.size):
        raise Failed(UNKNOWN)
    return extended(value, kind)


def _number(data: bytes, kind: Kind) -> int:
    return extended(int.from_bytes(data[: kind.size], "little"), kind)
