"""Watched bytes that change with no trap are reported, once, as untrapped."""

from __future__ import annotations

import re

import pytest

HEADING = (
    "1 watchpoint changed with no trap "
    "(a system call, another mapping, another process or the debugger)"
)


def untrapped(gdb):
    return [
        (h["number"], h["old"], h["new"])
        for t in gdb.hits()
        if t["origin"] == "untrapped"
        for h in t["hits"]
    ]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_read_2_writes_the_watched_bytes(session, command):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} buf[16]")
        gdb.cmd("break 18")  # after the first read(2)
        out = gdb.cont()
        assert "Breakpoint 3, main" in out
        assert HEADING in out
        assert re.search(r"Hardware watchpoint 2: buf\[16\] .* 0 '\\000' +103 'g'", out)
        assert untrapped(gdb) == [(2, "0 '\\000'", "103 'g'")]
        # Once: the next stop has nothing to say of it.
        gdb.cmd("break 21")
        out = gdb.cont()
        assert HEADING not in out
        assert len(untrapped(gdb)) == 1


def test_gdb_alone_says_nothing_of_read_2(session):
    with session("syscall", kwatch=False) as gdb:
        gdb.run_to("main")
        gdb.cmd("watch buf[16]")
        assert gdb.run_out() == []


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_trap_after_an_untrapped_change_has_the_right_old_value(session, command):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} buf[0]")
        gdb.go_to("15")  # read(2) made it '0'
        out = gdb.cont()  # buf[0] = 'X'
        assert "Hardware watchpoint 2: buf[0]" in out
        (user,) = [t for t in gdb.hits() if t["origin"] == "user"]
        assert (user["hits"][0]["old"], user["hits"][0]["new"]) == ("48 '0'", "88 'X'")
        assert untrapped(gdb) == [(2, "0 '\\000'", "48 '0'")]


def test_an_untrapped_change_that_is_overwritten_before_any_stop(session):
    """No debug register shows it and no stop was between: the old value is the last one seen."""
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch buf[0]")
        assert "1 watchpoint hit by one instruction" in gdb.cont()
        (trap,) = gdb.hits()
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("0 '\\000'", "88 'X'")


def test_another_mapping_and_another_process(session):
    with session("shared_mapping") as gdb:
        gdb.run_to("checkpoint")
        gdb.cmd("kwatch -l *watched")
        gdb.cmd("break checkpoint")
        out = gdb.cont()
        assert HEADING in out
        assert untrapped(gdb) == [(2, "0", "5")]
        out = gdb.cont()
        assert HEADING in out
        assert untrapped(gdb) == [(2, "0", "5"), (2, "5", "6")]
        out = gdb.cont()
        assert "1 watchpoint hit by one instruction" in out
        assert HEADING not in out
        assert gdb.hits()[-1]["hits"][0]["old"] == "6"
        assert gdb.hits()[-1]["hits"][0]["new"] == "7"


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_the_debugger_itself(session, command):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} s.d")
        gdb.cmd("set var s.d = 9")
        gdb.cmd("break 16")
        gdb.cont()  # both(1) writes s.d with 0
        traps = gdb.hits()
        assert untrapped(gdb) == [(2, "0", "9")]
        assert [(t["hits"][0]["old"], t["hits"][0]["new"]) for t in traps if t["dr6"]] == [
            ("9", "0")
        ]


def test_nothing_is_untrapped_where_a_trap_told_it(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abcd":
            gdb.cmd(f"watch s.{member}")
        gdb.cmd("break 18")
        gdb.run_out()
        assert untrapped(gdb) == []
        assert HEADING not in gdb.transcript


def test_nothing_is_untrapped_where_conditions_let_it_pass(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a if 0")
        gdb.cmd("kwatch pair.b if 0")
        gdb.go_to("18")
        assert untrapped(gdb) == []
