"""The three policies on the same history, side by side: the table of the README.

python3 tests/unit/test_policies.py     prints it
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gdb_kwatch.core.arbiter import (  # noqa: E402
    BACKGROUND,
    BREAK_NATIVE,
    NATIVE,
    NORMAL,
    POLICIES,
    Arbiter,
)
from gdb_kwatch.core.debugreg import READ_WRITE  # noqa: E402
from gdb_kwatch.core.records import Region  # noqa: E402

# What happens: text; and either whom it concerns ("+": asks for), with scope, priority, slots.
HISTORY = [
    ("B: `low`, background, 1 slot", "+low", "B", BACKGROUND, 1),
    ("all: `mid`, normal, 4 slots", "+mid", None, NORMAL, 4),
    ("A: `high`, native, 1 slot", "+high", "A", NATIVE, 1),
    ("A exits", "drop", "A", 0, 0),
    ("B: `low` is deleted", "-low", "B", 0, 0),
    ("B: `low` again", "+low", "B", BACKGROUND, 1),
    ("all: `top`, break-native, 1 slot", "+top", None, BREAK_NATIVE, 1),
]


class Played:
    """The history under one policy."""

    def __init__(self, policy):
        self.arbiter = Arbiter(policy)
        self.arbiter.live("A", True)
        self.arbiter.live("B", True)
        self.named = {}
        self.address = 0x1000

    def step(self, what, scope, priority, slots):
        """Do it, and say who is installed then."""
        if what == "drop":
            self.arbiter.drop(scope)
        elif what[0] == "-":
            self.arbiter.release(self.named[what[1:]])
        else:
            region = Region(self.address, 8 * slots, READ_WRITE)
            self.address += 8 * slots
            self.named[what[1:]] = self.arbiter.request(
                [region], scope=scope, priority=priority, name=what[1:]
            )
        installed = [f"`{r.name}`" for r in self.arbiter.requests if r.installed]
        waiting = [f"`{r.name}` waits" for r in self.arbiter.requests if not r.installed]
        return ", ".join(installed + waiting)


def rows():
    played = [Played(policy) for policy in POLICIES]
    return [(text, *(each.step(*rest) for each in played)) for text, *rest in HISTORY]


def table() -> str:
    """Markdown: a row a step, a column a policy."""
    lines = [("Two programs, A and B", *(f"`{policy}`" for policy in POLICIES)), *rows()]
    widths = [max(len(line[n]) for line in lines) for n in range(4)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def test_the_readme_has_the_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table() in readme


def test_a_middle_one_is_admitted_at_once_by_exact_only():
    after = {row[0]: row[1:] for row in rows()}
    assert after["A exits"] == (
        "`mid`, `low` waits",
        "`low`, `mid` waits",
        "`low`, `mid` waits",
    )


def test_high_water_forgets_when_nobody_uses_the_slot():
    after = {row[0]: row[1:] for row in rows()}
    assert after["B: `low` is deleted"] == ("`mid`", "`mid`", "`mid`")


def test_simple_takes_a_slot_from_all_for_any_single_use():
    after = {row[0]: row[1:] for row in rows()}
    _, high_water, simple = after["all: `mid`, normal, 4 slots"]
    assert high_water == "`mid`, `low` waits"
    assert simple == "`low`, `mid` waits"


if __name__ == "__main__":
    sys.stdout.write(table())
