"""Watchpoints hit while the user steps, calls, or stops for another reason."""

from __future__ import annotations

import pytest
from harness import line

STORE = line("stepping.c", "store")


def watch_pair(gdb, command="kwatch"):
    gdb.cmd(f"{command} pair.a")
    gdb.cmd(f"{command} pair.b")


def changes(gdb):
    return [(t["hits"][0]["old"], t["hits"][0]["new"]) for t in gdb.stops()]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_next_over_a_call_that_stores(session, command):
    with session("stepping") as gdb:
        gdb.run_to("main")
        watch_pair(gdb, command)
        gdb.cmd("next")
        out = gdb.cmd("next")
        if "watchpoint" not in out:  # one line more where main's prologue is a line of its own
            out = gdb.cmd("next")
        assert "watchpoints hit by one instruction" in out
        assert "Hardware watchpoint 2: pair.a" in out
        (trap,) = gdb.stops()
        assert [h["number"] for h in trap["hits"]] == [2, 3]
        assert trap["line"] == STORE


def test_next_in_gdb_alone_goes_by(session):
    with session("stepping", kwatch=False) as gdb:
        gdb.run_to("main")
        watch_pair(gdb, "watch")
        assert not any("Old value" in gdb.cmd("next") for _ in range(8))


def test_stepi_onto_the_store(session):
    with session("stepping") as gdb:
        gdb.run_to("store")
        watch_pair(gdb)
        for _ in range(12):
            out = gdb.cmd("stepi")
            if "hit by one instruction" in out:
                break
        (trap,) = gdb.hits()
        assert trap["line"] == STORE
        assert trap["dr6"] & 15 == 3
        assert changes(gdb) == [("0", "1")]
        # One more step is one instruction, no trap.
        assert "watchpoint" not in gdb.cmd("stepi")
        assert len(gdb.hits()) == 1


def test_step_over_the_storing_line(session):
    with session("stepping") as gdb:
        gdb.run_to("store")
        watch_pair(gdb)
        for _ in range(4):
            out = gdb.cmd("step")
            if "hit by one instruction" in out:
                break
        assert changes(gdb) == [("0", "1")]
        assert "main ()" in gdb.cmd("finish") or "main ()" in gdb.cmd("where 1")


@pytest.mark.parametrize("command", ["finish", "until 16", "advance 16"])
def test_commands_that_run_to_a_place(session, command):
    """The watchpoint interrupts them; given again, they arrive."""
    with session("stepping") as gdb:
        gdb.run_to("outer")
        watch_pair(gdb)
        out = gdb.cmd(command)
        assert "hit by one instruction" in out
        assert changes(gdb) == [("1", "2")]
        assert gdb.cmd("frame function store").startswith("#0")
        gdb.cmd("frame 0")
        if command == "finish":
            assert "outer" in gdb.cmd("finish")
            assert "Value returned is" in gdb.cmd("finish")
        else:
            gdb.cmd("finish")
            assert "outer" in gdb.cmd("where 1")


@pytest.mark.parametrize("command", ["finish", "until 16", "advance 16", "next"])
def test_commands_that_pass_traps_where_nothing_is_to_stop(session, command):
    """A trap that asks for no stop leaves the command as it was."""
    with session("stepping") as gdb:
        gdb.run_to("outer")
        gdb.cmd("kwatch pair.a if 0")
        gdb.cmd("kwatch pair.b")
        out = gdb.cmd(command)
        while command == "next" and "outer last" not in out:
            assert "watchpoint" not in out
            out = gdb.cmd(command)
        assert "watchpoint" not in out
        assert [t["stopped"] for t in gdb.hits()] == [False]
        if command == "finish":
            assert "Value returned is" in out
        else:
            assert "outer last" in out


def test_a_function_called_by_the_user(session):
    """gdb takes its watchpoints out during an inferior call: the change is told as untrapped."""
    with session("stepping") as gdb:
        gdb.run_to("main")
        watch_pair(gdb)
        gdb.cmd("print store(7, 8)")
        assert gdb.value("pair.a") == "7"
        gdb.cont()
        traps = gdb.hits()
        # One trap of the program; a's change by the call is told once, whenever that is.
        untrapped = [t for t in traps if t["origin"] == "untrapped"]
        assert len(untrapped) == 1
        assert {h["number"]: (h["old"], h["new"]) for h in untrapped[0]["hits"]} == {
            2: ("0", "7"),
            3: ("0", "8"),
        }
        user = [t for t in traps if t["origin"] == "user"]
        assert {h["number"]: (h["old"], h["new"]) for h in user[0]["hits"]} == {
            2: ("7", "1"),
            3: ("8", "0"),
        }


def test_a_hardware_breakpoint_in_the_same_trap(session):
    with session("watch_and_hbreak") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place")
        gdb.cmd("hbreak *after_store")
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" in out
        assert "Breakpoint 3, " in out
        (trap,) = gdb.hits()
        assert [h["number"] for h in trap["hits"]] == [2, 3]
        assert trap["hits"][0]["new"] == "1"
        assert trap["line"] == line("watch_and_hbreak.c", "store")
        entry = gdb.list()[3]
        assert entry["kind"] == "hbreak"
        assert entry["hits"] == 1
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" in out and "Breakpoint 3, " in out
        out = gdb.cont()  # rewritten: only the breakpoint stops
        assert "Breakpoint 3, " in out
        assert [t["hits"][0]["stop"] for t in gdb.hits()] == [True, True, False]
        assert gdb.run_out() == []
        assert "breakpoint already hit 3 times" in gdb.cmd("info breakpoints")


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_the_instruction_before_a_breakpoint(session, command):
    """The trap's PC is the breakpoint's own place; gdb reports both, once each."""
    with session("watch_and_hbreak") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} place")
        gdb.cmd("break *after_store")
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" in out
        assert "Breakpoint 3, " in out
        assert gdb.stops()[0]["line"] == line("watch_and_hbreak.c", "store")
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" in out and "Breakpoint 3, " in out
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" not in out and "Breakpoint 3, " in out
        assert gdb.run_out() == []
        assert changes(gdb) == [("0", "1"), ("1", "2")]


def test_a_breakpoint_at_the_storing_instruction(session):
    """gdb single-steps off its breakpoint: DR6 has BS set beside the slot's bit."""
    with session("watch_and_hbreak") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place")
        gdb.cmd("break *the_store")
        seen = []
        for _ in range(5):
            out = gdb.cont()
            seen.append("watch" if "hit by one instruction" in out else "break")
            assert ("Breakpoint 3, " in out) == (seen[-1] == "break")
        assert seen == ["break", "watch", "break", "watch", "break"]
        assert gdb.run_out() == []
        assert [t["stopped"] for t in gdb.hits()] == [True, True, False]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_store_in_a_signal_handler(session, command):
    with session("signal_handler") as gdb:
        gdb.run_to("main")
        watch_pair(gdb, command)
        gdb.cmd("handle SIGUSR1 nostop noprint pass")
        out = gdb.cont()
        assert "Hardware watchpoint 2: pair.a" in out
        (trap,) = gdb.hits()
        assert trap["function"] == "handler"
        assert trap["line"] == line("signal_handler.c", "store in handler")
        assert gdb.run_out() == []


def test_a_stop_by_the_signal_itself_comes_first(session):
    with session("signal_handler") as gdb:
        gdb.run_to("main")
        watch_pair(gdb)
        out = gdb.cont()
        assert "Program received signal SIGUSR1" in out
        assert gdb.hits() == []
        assert "hit by one instruction" in gdb.cont()


def test_sigtrap_that_the_program_raises_is_no_trap(session):
    with session("raised_sigtrap") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place")
        kinds = []
        for _ in range(5):
            out = gdb.cont()
            kinds.append("watch" if "hit by one instruction" in out else "signal")
            if kinds[-1] == "signal":
                assert "SIGTRAP" in out
        assert kinds == ["watch", "signal", "watch", "signal", "watch"]
        assert [t["hits"][0]["new"] for t in gdb.hits()] == ["1", "2", "3"]


def test_two_processes_after_a_fork(session):
    """The child of a fork runs free (detach-on-fork on): its writes are its own."""
    with session("fork_child") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place")
        assert len(gdb.run_out()) == 2
        assert changes(gdb) == [("0", "1"), ("1", "3")]


def test_the_child_of_a_fork_followed(session):
    with session("fork_child") as gdb:
        gdb.run_to("main")
        gdb.cmd("set follow-fork-mode child")
        gdb.cmd("kwatch place")
        assert "hit by one instruction" in gdb.cont()
        out = gdb.cont()
        assert "1 watchpoint hit by one instruction" in out
        trap = gdb.stops()[-1]
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("1", "2")
        assert trap["line"] == line("fork_child.c", "child")


def test_displays_and_user_hooks_are_kept(session):
    """The user's own hook-stop and `display` work at a kwatch's stop as at any other."""
    with session("simultaneous") as gdb:
        gdb.cmd("define hook-stop\necho the-users-hook\\n\nend")
        gdb.run_to("main")
        gdb.cmd("display other")
        gdb.cmd("kwatch s.a")
        out = gdb.cont()
        assert out.count("the-users-hook") == 1
        assert "1: other = 0" in out
        assert "1 watchpoint hit by one instruction" in out
        gdb.cmd("define hook-stop\necho another-hook\\n\nend")
        out = gdb.cont()
        assert out.count("another-hook") == 1
        assert "the-users-hook" not in out
        assert "1 watchpoint hit by one instruction" in out
