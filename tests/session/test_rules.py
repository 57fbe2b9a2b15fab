"""Each hit is judged by gdb's own rules: condition, ignore count, thread, enabled, temporary."""

from __future__ import annotations

import re

import pytest
from harness import line


def news(gdb, number):
    """The new values of the hits of one watchpoint that asked for a stop."""
    return [h["new"] for t in gdb.hits() for h in t["hits"] if h["number"] == number and h["stop"]]


def test_a_condition_true_only_for_the_one_gdb_does_not_blame(session):
    def ask(gdb, command):
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a if pair.a == 3")
        gdb.cmd(f"{command} pair.b if pair.b == 100")
        return gdb.run_out()

    with session("condition_not_blamed", kwatch=False) as gdb:
        assert ask(gdb, "watch") == []  # gdb alone is silent
    for command in ("kwatch", "watch"):
        with session("condition_not_blamed", kernel_conditions=False) as gdb:
            stops = ask(gdb, command)
            assert len(stops) == 1
            assert "Hardware watchpoint 2: pair.a" in stops[0]
            (trap,) = gdb.stops()
            assert [(h["old"], h["new"]) for h in trap["hits"]] == [("2", "3"), ("-2", "-3")]
            assert [h["stop"] for h in trap["hits"]] == [True, False]
            assert trap["line"] == line("condition_not_blamed.c", "store")
            assert len(gdb.hits()) == 6


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_conditions_given_later(session, command):
    """`condition N` works on a kwatch as on any watchpoint; a false one of each: no output."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd(f"{command} pair.b")
        assert gdb.cmd("condition 2 pair.a == 5") == ""
        assert gdb.cmd("condition 3 0") == ""
        out = gdb.cont()
        assert out.count("hit by one instruction") == 1
        assert news(gdb, 2) == ["5"]
        gdb.cmd("condition 2")
        gdb.cont()
        assert news(gdb, 2) == ["5", "6"]


def test_a_condition_with_an_error_stops_as_gdb_does(session):
    """gdb stops and says so when a condition cannot be evaluated."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a if *(long *) pair.a")  # the address 1 cannot be read
        gdb.cmd("watch pair.b")
        out = gdb.cont()
        assert "Hardware watchpoint 2: pair.a" in out
        assert [h["stop"] for h in gdb.hits()[0]["hits"]] == [True, True]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
@pytest.mark.parametrize("ignored", [2, 3])
def test_ignore(session, command, ignored):
    """Watchpoint 2 is the one gdb misses, 3 the one it blames."""
    other = 5 - ignored
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd(f"{command} pair.b")
        gdb.cmd(f"condition {other} 0")
        answer = gdb.cmd(f"ignore {ignored} 4")
        assert "Will ignore next 4 crossings of breakpoint" in answer
        assert len(gdb.run_out()) == 2
        assert [abs(int(new)) for new in news(gdb, ignored)] == [5, 6]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_disabled(session, command):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd(f"{command} pair.b if 0")
        gdb.cmd("disable 2")
        assert gdb.run_out() == []
        assert all(h["number"] == 3 for t in gdb.hits() for h in t["hits"])
        assert gdb.list()[2]["hits"] == 0


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_enabled_again_after_changes_has_a_fresh_old_value(session, command):
    with session("disabled_changes") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd(f"{command} pair.b")
        gdb.cmd("break checkpoint")
        gdb.cont()  # 0 -> 1
        gdb.cont()  # checkpoint(1)
        gdb.cmd("disable 2 3")
        out = gdb.cont()  # checkpoint(2): changed to 3 meanwhile
        assert "checkpoint (n=2)" in out or "checkpoint (n=n@entry=2)" in out
        assert "watchpoint" not in out
        gdb.cmd("enable 2 3")
        gdb.cont()
        last = gdb.hits()[-1]
        assert last["origin"] == "user"
        assert [(h["old"], h["new"]) for h in last["hits"]] == [("3", "4"), ("30", "40")]
        assert [t["origin"] for t in gdb.hits()] == ["user", "user"]


def test_enabled_once(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("kwatch pair.b if 0")
        gdb.cmd("enable once 2")
        assert len(gdb.run_out()) == 1
        assert re.search(r"^2 .*dis\s+n", gdb.cmd("info breakpoints"), re.M)


@pytest.mark.parametrize("command", ["watch", "kwatch"])
def test_enabled_for_some_hits_with_commands_that_go_on(session, command):
    """gdb.execute in the stop event would run the commands in the middle of it: gdb hung."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd("commands 2\nprint pair.b\ncontinue\nend")
        gdb.cmd("enable count 2 2")
        assert "exited" in gdb.cont()
        assert re.search(r"^2 .*dis\s+n", gdb.cmd("info breakpoints"), re.M)


@pytest.mark.parametrize("resumes", ["finish", "next", "continue"])
@pytest.mark.parametrize("command", ["watch s.a", "kwatch s.a", "hbreak both"])
@pytest.mark.parametrize("once", ["enable once 2", "enable count 1 2"])
def test_commands_that_go_on_at_the_last_stop_of_one_enabled_once(session, once, command, resumes):
    """gdb disables it in the middle of that stop, with no event."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd(command)
        gdb.cmd(f"commands 2\necho hit\\n\n{resumes}\nend")
        gdb.cmd(once)
        gdb.cmd("break simultaneous.c:18")
        answer = gdb.cmd("continue")
        assert answer.count("\nhit\n") == 1, answer
        if resumes == "continue":
            assert "Breakpoint 3" in answer, answer
        elif resumes == "finish":
            assert "main () at " in answer.partition("\nhit\n")[2], answer
        assert re.search(r"^2 .*dis\s+n", gdb.cmd("info breakpoints 2"), re.M)
        gdb.cmd("delete 3")
        assert "exited normally" in gdb.cmd("continue")


def test_temporary(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        answer = gdb.cmd("kwatch -t pair.a")
        assert answer.endswith("atchpoint 2: pair.a\n"), answer
        gdb.cmd("kwatch pair.b if 0")
        assert len(gdb.run_out()) == 1
        assert "pair.a" not in gdb.cmd("info breakpoints")
        assert news(gdb, 2) == ["1"]
        assert 2 not in gdb.list()


def test_a_native_made_temporary_and_missed_by_gdb(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a")
        gdb.cmd("watch pair.b if 0")
        gdb.cmd("enable delete 2")
        assert len(gdb.run_out()) == 1
        assert "pair.a" not in gdb.cmd("info breakpoints")


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_commands_of_a_watchpoint_that_gdb_missed_run_once(session, command):
    with session("condition_not_blamed", kwatch=False) as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a")
        gdb.cmd("commands 2\necho commands-of-a\\n\nend")
        gdb.cmd("watch pair.b if pair.b == -1")
        assert "commands-of-a" not in gdb.cont()
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a")
        gdb.cmd("commands 2\necho commands-of-a\\n\nend")
        gdb.cmd(f"{command} pair.b if pair.b == -1")
        gdb.cmd("commands 3\necho commands-of-b\\n\nend")
        out = gdb.cont()
        assert out.count("commands-of-a") == 1
        assert out.count("commands-of-b") == 1
        out = gdb.cont()
        assert out.count("commands-of-a") == 1
        assert "commands-of-b" not in out
        # They are still the watchpoint's own.
        assert gdb.cmd("info breakpoints").count("commands-of-a") == 1


def test_commands_that_go_on(session):
    """`silent` and `continue` in the commands of a missed watchpoint do what they say."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a")
        gdb.cmd('commands 2\nsilent\nprintf "a is %ld\\n", pair.a\ncontinue\nend')
        gdb.cmd("watch pair.b if 0")
        out = gdb.cont()
        assert re.findall(r"a is (\d)", out) == list("123456")
        assert "exited normally" in out
        assert "Old value" not in out


def test_commands_of_a_kwatch_that_go_on(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd('commands 2\nsilent\nprintf "a is %ld\\n", pair.a\ncontinue\nend')
        gdb.cmd("kwatch pair.b if 0")
        out = gdb.cont()
        assert re.findall(r"a is (\d)", out) == list("123456")
        assert "exited normally" in out
        assert "hit by one instruction" not in out


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_no_stop_asked_for_is_no_output(session, command):
    with session("condition_not_blamed", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        gdb.cmd(f"{command} pair.a if 0")
        gdb.cmd(f"{command} pair.b if 0")
        out = gdb.cont()
        assert re.fullmatch(r"Continuing\.\n\[Inferior 1 \(process \d+\) exited normally\]\n", out)
        assert len(gdb.hits()) == 6


def test_true_counts(session):
    """gdb's own count of a missed native stays behind; `kwatch list` has the true one."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a if pair.a == 3")
        gdb.cmd("watch pair.b if 0")
        gdb.cont()
        assert {n: e["hits"] for n, e in gdb.list().items()} == {2: 3, 3: 3}
        assert gdb.list()[2]["condition"] == "pair.a == 3"


def test_an_invalid_thread_condition_of_a_missed_one(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a thread 1")
        gdb.cmd("watch pair.b if 0")
        assert len(gdb.run_out()) == 6
        assert news(gdb, 2) == list("123456")
