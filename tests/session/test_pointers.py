"""Expressions that reach their place through a pointer or an index, which may change."""

import pytest
from harness import line

FIXTURE = "pointer_moves"


@pytest.mark.parametrize("command", ["kwatch", "watch"])
@pytest.mark.parametrize(
    "expression, marks, values",
    [
        (
            "head->key",
            ["the first node", "aimed elsewhere", "the second node"],
            [("1", "5"), ("5", "2"), ("2", "7")],
        ),
        (
            "a[i]",
            ["the first element", "the index moves on", "the second element"],
            [("0", "3"), ("3", "0"), ("0", "4")],
        ),
    ],
)
def test_the_place_is_followed(session, command, expression, marks, values):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} {expression}")
        assert len(gdb.run_out()) == 3
        traps = gdb.hits()
        assert [t["origin"] for t in traps] == ["user"] * 3
        assert [t["line"] for t in traps] == [line(f"{FIXTURE}.c", mark) for mark in marks]
        assert [(h["old"], h["new"]) for t in traps for h in t["hits"]] == values


def test_it_takes_a_slot_for_the_pointer_as_well(session):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch head->key")
        for _ in range(3):
            gdb.cont()
        assert len(gdb.list()[2]["slots"]) == 2
        assert gdb.list()[2]["address"] == hex(int(gdb.value("(long) &two.key")))


def test_location_stays_where_it_was(session):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -l head->key")
        gdb.run_out()
        values = [(h["old"], h["new"]) for t in gdb.hits() for h in t["hits"]]
        assert values == [("1", "5"), ("5", "6")]
