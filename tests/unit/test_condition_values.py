"""Conditions worked out outside the kernel: gdb decides where the kernel's program would ask it."""

from __future__ import annotations

import pytest

from gdb_kwatch.core import conditions as tree
from gdb_kwatch.core.condition_values import Access, Failed, value_of

INT, LONG = tree.Kind(4, True), tree.Kind(8, True)
NOTHING = Access(b"", b"", lambda address, length: None, {}, 0, ())


def worked_out(operator: str, left: int, right: int, kind: tree.Kind) -> int | str:
    node = tree.Binary(operator, tree.Number(left, kind), tree.Number(right, kind), unsure=True)
    try:
        return value_of(node, NOTHING)
    except Failed as failed:
        assert failed.reason == tree.UNKNOWN
        return "gdb's"


@pytest.mark.parametrize(
    ("operator", "left", "right", "kind", "result"),
    [
        ("*", -3, 5, LONG, -15),
        ("*", -(2**31), 2**31 - 1, LONG, -(2**62) + 2**31),
        ("*", -1, 2**31, LONG, "gdb's"),
        ("*", -(2**33), 0, LONG, "gdb's"),
        ("*", 0, -(2**33), LONG, "gdb's"),
        ("*", 2**40, 2**40, LONG, 0),
        ("*", -(2**40), -(2**40), LONG, 0),
        ("*", -(2**31), 2, INT, 0),
        ("*", -(2**31), 3, INT, "gdb's"),
        ("<<", -1, 63, LONG, -(2**63)),
        ("<<", -2, 63, LONG, "gdb's"),
        ("<<", -1, 64, LONG, 0),
        ("<<", 3, 63, LONG, -(2**63)),
        ("<<", -3, 31, INT, "gdb's"),
    ],
)
def test_what_gdb_15_to_17_may_lose_the_sign_of(operator, left, right, kind, result):
    assert worked_out(operator, left, right, kind) == result
