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


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_sum_of_which_a_part_is_not_there_yet(session, command):
    """gdb watches what it could read of it, and the rest once that is there."""
    fixture = "pointer_comes_late"
    with session(fixture) as gdb:
        gdb.run_to("main")
        if command == "kwatch":
            gdb.cmd("set var place = &one")
            gdb.cmd("kwatch *place + other")
            gdb.cmd("set var place = 0")
        else:
            gdb.cmd("watch *place + other")
        gdb.cmd("stepi")
        assert gdb.list()[2]["state"] == "unreadable"
        gdb.cmd("stepi")
        held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        assert len(held) == 2
        assert all(slot["owners"] for slot in held)
        gdb.run_out()
        stops = gdb.stops()[-3:]
        marks = ["now it can", "one part", "the other part"]
        assert [t["line"] for t in stops] == [line(f"{fixture}.c", mark) for mark in marks]
        assert [(h["old"], h["new"]) for t in stops for h in t["hits"]][1:] == [
            ("2", "6"),
            ("6", "7"),
        ]
        assert not [t for t in stops if t["origin"] != "user"]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_place_that_comes_again_in_the_next_run(session, command):
    """It is where it was at the last run's stop, and gdb has not moved there yet in this one."""
    fixture = "pointer_comes_late"
    with session(fixture) as gdb:
        gdb.run_to("main")
        gdb.cmd("set var place = &one")
        gdb.cmd(f"{command} *place + other")
        for _ in range(2):
            gdb.cmd("run")
            assert gdb.stops()[-1]["line"] == line(f"{fixture}.c", "now it can")
        gdb.cmd("stepi")
        held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        assert len(held) == 3
        assert all(slot["owners"] for slot in held)


@pytest.mark.parametrize("sum_of", ["*heap + beta", "beta + *heap"])
def test_an_operand_that_is_not_there_takes_no_slot(session, sum_of):
    with session("churn") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"watch {sum_of}")
        for _ in range(2):
            gdb.cmd("stepi")
            held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
            assert gdb.list()[2]["armed"] == 1
            assert [len(slot["owners"]) for slot in held] == [1, 1]
        for number, place in enumerate(["alpha", "place[0]", "place[1]"], 3):
            gdb.cmd(f"kwatch {place}")
            assert gdb.list()[number]["state"] == ("waiting" if number == 5 else "installed")


def test_a_null_pointer_beside_many_breakpoints(session):
    """gdb puts the idle hidden watchpoints and what lies behind a null pointer at address 0, in no
    order, and sorts more than 16 locations beyond their end: "Fatal signal: Segmentation fault"."""
    with session("list_walk") as gdb:
        gdb.run_to("main")
        for end in (68, 52, 48, 35, 0, 31, 71, 67, 95, 24):
            gdb.cmd(f"break *((char *) main + {4096 + end})")
        gdb.cmd("watch ring[2].next->next")
        for end in (15, 84, 37):
            gdb.cmd(f"break *((char *) main + {4096 + end})")
        out = gdb.cmd("watch ring[0].next->next")
        assert out.startswith("Hardware watchpoint 16"), out
