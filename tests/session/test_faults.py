"""Faults on purpose: the kernel refuses, the program is killed, memory and symbols go away.

After each: one clear line at most, a usable gdb, and the watchpoints as they were.
`tests/matrix/faults.py` plays every errno at every call.
"""

from __future__ import annotations

import re
import shutil

import pytest
from harness import ROOT

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_no_stops()

INJECT = f"""
import sys
sys.path.append({str(ROOT / "tests" / "session")!r})
import injector
count, wrong = injector.rounds(%s)
"""


@pytest.mark.parametrize("times", [1, 1000])
def test_each_kernel_call_fails_in_turn(session, times):
    """One call, or all from one on: EPERM, ESRCH, EIO, ENOSPC, EINTR."""
    with session("blamed_unchanged") as gdb:
        gdb.python(INJECT % f"{11 if times == 1 else 19}, injector.ERRORS, [{times}]", timeout=240)
        assert gdb.evaluate("wrong") == []
        assert gdb.evaluate("count") > 8


# What happens to the program (injector.py), and at each how many calls: ptrace's; those and perf's.
PROGRAM = {
    "KILL": (6, 19),
    "KILL AFTER": (7, 19),
    "KILL IN GDB": (29, 61),
    "MEMORY": (2, 11),
}


@pytest.mark.parametrize("what", PROGRAM)
def test_killed_and_unreadable_at_each_point(session, what):
    """It is dead when the kernel is called, when it has answered, or when gdb is asked; or gdb
    cannot read its memory."""
    with session("blamed_unchanged") as gdb:
        gdb.python(INJECT % f"{PROGRAM[what][0]}, [{what!r}], [1]", timeout=240)
        assert gdb.evaluate("wrong") == []
        assert gdb.evaluate("count") > 8


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
@pytest.mark.parametrize("what", ["once", "for good", *PROGRAM])
def test_calls_of_perf_and_bpf_fail_in_turn(session, what):
    """A kwatch by perf, a condition in the kernel, a trace and `kwatch who`."""
    if what in PROGRAM:
        rounds = f"{PROGRAM[what][1]}, [{what!r}], [1], True"
    else:
        every, times = (83, 1) if what == "once" else (89, 1000)
        rounds = f"{every}, injector.ERRORS, [{times}], True"
    with session("blamed_unchanged") as gdb:
        gdb.python(INJECT % rounds, timeout=240)
        assert gdb.evaluate("wrong") == []
        assert gdb.evaluate("count") > 8


KILL_IN = """
import os, signal, gdb
def at_stop(event):
    gdb.events.stop.disconnect(at_stop)
    os.kill(gdb.selected_inferior().pid, signal.SIGKILL)
gdb.events.stop.connect(at_stop)
"""


def test_killed_in_the_stop_event_and_in_a_hook(session):
    with session("simultaneous") as gdb:
        gdb.cmd("kwatch s.a")
        for kill in (KILL_IN, None):
            gdb.run_to("main")
            if kill:
                gdb.python(kill)
            else:
                gdb.cmd("define hook-stop\nshell kill -9 $KILLED\nend")
                gdb.cmd("python os.environ['KILLED'] = str(gdb.selected_inferior().pid)")
            gdb.cont()
            out = gdb.cont()
            assert "SIGKILL" in out or "terminated" in out or "not being run" in out, out
            for command in ("list", "slots", "verify", "hits"):
                gdb.cmd(f"kwatch {command}")
        gdb.cmd("define hook-stop\nend")
        gdb.run_to("main")
        assert len(gdb.run_out()) == 2
        assert "internal fault" not in gdb.transcript


def test_the_symbols_go_away(session, program):
    """`symbol-file` and `file` with nothing after them, in the middle of a run."""
    for command in ("symbol-file", "file"):
        with session("condition_not_blamed") as gdb:
            gdb.run_to("main")
            gdb.cmd("kwatch pair.a")
            gdb.cmd("watch pair.b")
            gdb.cont()
            gdb.cmd(command)
            for _ in range(3):
                gdb.cont()
            for view in ("list", "slots", "verify", "hits"):
                assert gdb.cmd(f"kwatch {view}").strip()
            gdb.cmd("kill")
            gdb.cmd(f"file {program('condition_not_blamed')}")
            gdb.cmd("delete")
            gdb.run_to("main")
            assert gdb.cmd("kwatch pair.a").startswith("Hardware watchpoint")
            assert len(gdb.run_out()) == 6
            assert len(re.findall(r"^kwatch: ", gdb.transcript, re.M)) <= 1
            assert "internal fault" not in gdb.transcript


def test_the_file_of_the_program_goes_away(session, program, tmp_path):
    """It is deleted on the disk in the middle of a run, and comes back with another date."""
    path = tmp_path / "program"
    shutil.copy(program("condition_not_blamed"), path)
    with session(path) as gdb:
        gdb.cmd("kwatch pair.a")
        gdb.cmd("watch pair.b")
        gdb.run_to("main")
        path.unlink()
        assert len(gdb.run_out()) == 6
        assert len(gdb.stops()) == 6
        assert "During startup program exited" in gdb.cmd("run")
        for view in ("list", "slots", "verify", "hits"):
            assert gdb.cmd(f"kwatch {view}").strip()
        shutil.copy(program("condition_not_blamed"), path)
        gdb.run_to("main")
        assert len(gdb.run_out()) == 6
        assert len(gdb.stops()) == 12
        assert "internal fault" not in gdb.transcript


def test_the_memory_goes_away(session):
    """The program unmaps the page that is watched, and maps it again."""
    with session("unmapped") as gdb:
        gdb.run_to("mapped")
        gdb.cmd("up")
        assert gdb.cmd("kwatch -l *place").startswith("Hardware watchpoint")
        gdb.cmd("watch -l place[1]")
        assert "hit by one instruction" in gdb.cont()
        assert "unmapped" in gdb.go_to("unmapped")
        for view in ("list", "slots", "verify"):
            assert gdb.cmd(f"kwatch {view}").strip()
        gdb.cont()
        assert [h["new"] for h in gdb.stops()[-1]["hits"]] == ["3", "3"]
        assert gdb.run_out() == []
        assert "internal fault" not in gdb.transcript


@pytest.mark.parametrize("command", ["rwatch buffer[1]", "awatch alpha", "watch alpha"])
def test_another_program_where_nothing_is_in_its_place(session, program, command):
    """After `file` gdb evaluates its access watchpoints, also those that are off."""
    with session("churn") as gdb:
        gdb.run_to("main")
        gdb.cmd(command)
        out = gdb.cmd(f"file {program('simultaneous_static')}")
        assert "breakpoint -" not in out
        gdb.cmd("stepi")
        gdb.cmd(f"file {program('churn')}")
        assert "breakpoint -" not in gdb.transcript
        gdb.run_to("local")
        assert len(gdb.run_out()) == 8 or command.startswith("rwatch")


def test_a_breakpoint_on_a_function_that_another_program_does_not_have(session, program):
    """gdb disables it after `file`, and no event tells."""
    with session("churn") as gdb:
        gdb.run_to("main")
        gdb.cmd("hbreak together")
        gdb.cmd("stepi")
        assert gdb.list()[2]["slots"] == [0]
        out = gdb.cmd(f"file {program('simultaneous_static')}")
        assert "Error in re-setting breakpoint 2" in out
        gdb.cmd("stepi")
        assert gdb.list()[2]["state"] == "disabled"
        assert not [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
