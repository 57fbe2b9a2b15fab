"""Watchpoints of a thread that ends, and of one stop: gdb drops them with no event.

Up to 13 what Python still has of them then points to freed memory.
"""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["kwatch", "awatch"])
@pytest.mark.parametrize("arguments", ["threads", "threads exec"])
def test_the_watchpoint_of_a_thread_that_ended(session, command, arguments):
    with session("churn") as gdb:
        gdb.cmd("break worker")
        gdb.cmd(f"run {arguments}")
        gdb.cmd(f"{command} place[1] thread 2")
        gdb.cmd("kwatch alpha")
        gdb.cmd("delete 1")
        assert set(gdb.list()) == {2, 3}
        while "exec" in arguments and "executing new program" not in gdb.cont():
            pass
        for _ in range(3):
            gdb.cont()
            assert 2 not in gdb.list()
        gdb.cmd("kill")
        gdb.cmd("run")
        assert 2 not in gdb.list()


def test_enabled_for_one_stop(session):
    with session("churn") as gdb:
        gdb.run_to("together")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch alpha")
        gdb.cmd("enable once 2")
        gdb.cmd("enable count 2 3")
        gdb.cont()
        gdb.cont()
        gdb.cont()
        entries = gdb.list()
        assert [entries[n]["state"] for n in (2, 3)] == ["disabled", "disabled"]
        gdb.cmd("stepi")  # the registers are written when a thread is resumed
        assert not any(slot["enabled"] for slot in gdb.json("kwatch slots")[0]["slots"])


def test_a_slot_comes_free_while_no_thread_can_be_asked(session):
    """The selected thread has ended and gdb, alone with it, waits for nobody: before gdb 16 it
    turns no watchpoint on then, and says so of each by its number, kwatch's hidden ones too."""
    with session("churn") as gdb:
        if gdb.evaluate("gdb.VERSION").startswith("10."):
            pytest.skip("gdb 10 waits for ever, for a thread that it has not resumed")
        gdb.cmd("break worker")
        gdb.cmd("run threads")
        gdb.cmd("delete 1")
        gdb.cmd("set scheduler-locking on")
        for member in "abcd":
            gdb.cmd(f"watch s.{member}")
        assert "kwatch 6 waits" in gdb.cmd("kwatch -a alpha")
        assert "No unwaited-for children left" in gdb.cont()
        assert "Cannot enable" not in gdb.cmd("delete 2")
        gdb.cmd("set scheduler-locking off")
        gdb.cmd("thread 1")
        assert "watchpoint 6: alpha" in gdb.cont()
        assert gdb.list()[6]["slots"]
        assert "Cannot enable" not in gdb.transcript
