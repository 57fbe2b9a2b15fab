"""Processes that gdb did not start, several at a time, and one that runs while the user types."""

from __future__ import annotations

import re
import subprocess

import pytest


@pytest.fixture
def waiting(program):
    """A process that waits for one byte on its stdin before it stores."""
    process = subprocess.Popen(
        [str(program("waiting"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert int(process.stdout.readline()) == process.pid
    yield process
    process.kill()
    process.communicate()


def test_a_process_attached_to(session, waiting):
    with session("waiting") as gdb:
        out = gdb.cmd(f"attach {waiting.pid}")
        if "Operation not permitted" in out:
            pytest.skip("attaching is not permitted here")
        assert gdb.cmd("kwatch pair.a") == "Hardware watchpoint 1: pair.a\n"
        gdb.cmd("watch pair.b")
        waiting.stdin.write("x")
        waiting.stdin.flush()
        out = gdb.cont()
        assert "2 watchpoints hit by one instruction" in out
        (trap,) = gdb.hits()
        assert trap["lwp"] == waiting.pid
        assert [(h["old"], h["new"]) for h in trap["hits"]] == [("0", "1"), ("0", "0")]
        gdb.cmd("detach")
        assert waiting.wait(timeout=20) == 0


def test_detached_the_process_goes_on_untouched(session, waiting):
    """Debug registers left behind would end it by SIGTRAP at its store."""
    with session("waiting") as gdb:
        out = gdb.cmd(f"attach {waiting.pid}")
        if "Operation not permitted" in out:
            pytest.skip("attaching is not permitted here")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("watch pair.b")
        gdb.cmd("continue &")
        gdb.interrupt()  # what is set is in the registers now
        assert [entry["armed"] for entry in gdb.list().values()] == [1, 1]
        gdb.cmd("detach")
    waiting.stdin.write("x")
    waiting.stdin.flush()
    assert waiting.wait(timeout=20) == 0


def test_while_the_program_runs(session, waiting):
    """A running program's registers cannot be read; every command still answers."""
    with session("waiting") as gdb:
        out = gdb.cmd(f"attach {waiting.pid}")
        if "Operation not permitted" in out:
            pytest.skip("attaching is not permitted here")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("continue &")  # it waits in read(2)
        assert "run" in gdb.cmd("kwatch pair.b")
        for command in ("list", "slots", "hits", "verify", "doctor"):
            assert gdb.cmd(f"kwatch {command}").strip()
        assert "pair.a" in gdb.cmd("info watchpoints")
        assert "pair.b" not in gdb.cmd("info watchpoints")


def test_two_inferiors(session):
    """Each program space has watchpoints and traps of its own."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a if pair.a == 2")
        gdb.cmd("kwatch pair.b if 0")
        gdb.cmd("clone-inferior")
        gdb.cmd("inferior 2")
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a if pair.a == 5")
        gdb.cmd("kwatch pair.b if 0")
        second = sorted(gdb.list())[-2]
        out = gdb.cont()
        assert "hit by one instruction" in out
        assert gdb.value("pair.a") == "5"
        gdb.cmd("inferior 1")
        out = gdb.cont()
        assert "hit by one instruction" in out
        assert gdb.value("pair.a") == "2"
        stops = gdb.stops()
        assert [t["inferior"] for t in stops] == [2, 1]
        asked = [[h["number"] for h in t["hits"] if h["stop"]] for t in stops]
        assert asked == [[second], [2]]
        rows = re.findall(r"^\d+ +(\S+) +condition_not_blamed", gdb.cmd("kwatch hits"), re.M)
        assert rows[-1] == "1.1" and set(rows) == {"1.1", "2.1"}


def test_both_sides_of_a_fork(session):
    """With detach-on-fork off gdb keeps the child: its own write hits as well."""
    with session("fork_child") as gdb:
        gdb.run_to("main")
        gdb.cmd("set detach-on-fork off")
        gdb.cmd("kwatch place")
        assert "hit by one instruction" in gdb.cont()  # place = 1
        gdb.cmd("set schedule-multiple on")
        news = []
        for _ in range(4):
            out = gdb.cont()
            if "hit by one instruction" in out:
                news.append((gdb.stops()[-1]["inferior"], gdb.stops()[-1]["hits"][0]["new"]))
            gdb.cmd("inferior 1")  # where the child's end is what stopped gdb
        assert (1, "3") in news
        # gdb's watchpoint belongs to the parent's program space; the child is told of, if at all,
        # as what it is.
        assert set(news) <= {(1, "3"), (2, "2")}
