"""`record full` and back: the debug registers mean nothing there, and gdb's own answer stands."""

from __future__ import annotations

import re

import pytest

# gdb 13.1 and the gdbs before it cannot write vector registers on a CPU with AMX, without kwatch
# as well: "Couldn't write extended state status: Bad address".
UNABLE = "Couldn't write extended state"


def asked(gdb, commands):
    """What each command printed, as far as it is of this program."""
    out = []
    for command in commands:
        text = gdb.cmd(command)
        if UNABLE in text:
            pytest.skip("this gdb cannot write this CPU's registers, so it cannot go back")
        text = re.sub(r"process \d+|\(LWP \d+\)", "process", text)
        out.append(re.sub(r"^warning: kwatch: while a recording.*\n", "", text, flags=re.M))
    return out


COMMANDS = (
    *("watch pair.a", "watch pair.b", "record full", "continue", "continue"),
    *("reverse-continue", "reverse-continue", "reverse-step", "continue", "continue", "continue"),
)


def test_natives_answer_as_in_gdb_alone(session):
    with session("condition_not_blamed", kwatch=False) as gdb:
        gdb.run_to("main")
        bare = asked(gdb, COMMANDS)
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        assert asked(gdb, COMMANDS) == bare
        assert gdb.hits() == []
        assert gdb.transcript.count("while a recording is in use") == 1


LIST = (
    *("break 15", "run", "delete 1", "watch cur->v", "commands 2\nprint turns\nend"),
    *("continue", "continue", "stepi", "record full", "continue", "continue", "continue"),
    *("reverse-step", "reverse-step", "reverse-continue", "info watchpoints", "print turns"),
    *("reverse-continue", "print turns", "continue"),
)


def test_a_place_that_moves_back(session):
    """gdb's own stop is left as it is: it may look for its locations in that of later ("location
    number not found", gdb 16)."""
    with session("list_walk", kwatch=False) as gdb:
        bare = asked(gdb, LIST)
    with session("list_walk") as gdb:
        assert asked(gdb, LIST) == bare


def test_a_kwatch_back_and_forth(session):
    """gdb's own report of it, in its own words, and nothing of registers that mean nothing."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.b")
        gdb.cont()
        way = ("continue", "continue", "reverse-continue", "reverse-continue", "continue")
        _, forth, _, _, back, again = asked(gdb, ("record full", *way))
        assert "Old value = -1\nNew value = -2\n" in forth
        assert "Old value = -2\nNew value = -1\n" in back
        assert "Old value = -1\nNew value = -2\n" in again
        assert "with no trap" not in gdb.transcript
        assert len(gdb.hits()) == 1  # that before the recording
        gdb.cmd("record stop")
        out = gdb.cont()
        assert "1 watchpoint hit by one instruction" in out
        assert gdb.stops()[-1]["hits"][0]["old"] == "-2"
