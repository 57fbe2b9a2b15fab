"""Programs behind a remote target: no DR6 there, so values are compared at each trap.

rr's replay server is such a target too; it needs hardware performance counters, and was never run
with kwatch.  replay_stub.py speaks the same packets.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from harness import GdbFailure, shown

LIMITS = "the debug registers of this target cannot be read"


def of_gdbserver(gdb, program, words="--once"):
    """Connect to a gdbserver of its own; the program stands at its first instruction."""
    if not shutil.which("gdbserver"):
        pytest.skip("gdbserver is not installed")
    gdb.cmd("set sysroot /")
    out = gdb.cmd(f"target extended-remote | gdbserver {words} - {program}")
    if "Remote debugging" not in out:
        raise GdbFailure(shown(gdb.transcript))


def rows(trap):
    return [(h["number"], h["old"], h["new"], h["seen_by"], h["stop"]) for h in trap["hits"]]


def test_every_changed_one_is_told(session, program):
    """gdb blames pair.b; pair.a changed as well, and its own condition stops."""
    with session("condition_not_blamed") as gdb:
        of_gdbserver(gdb, program("condition_not_blamed"))
        gdb.go_to("main")
        out = gdb.cmd("watch pair.a if pair.a == 2")
        assert out.count(LIMITS) == 1
        out = gdb.cmd("kwatch pair.b if pair.b == -4")
        assert out == "Hardware watchpoint 3: pair.b\n"
        out = gdb.cont()
        assert "2 watchpoints hit at one trap (found by comparing values)" in out
        assert gdb.value("pair.a") == "2"
        assert gdb.stops()[-1]["dr6"] == 0
        out = gdb.cont()
        assert gdb.value("pair.b") == "-4"
        assert [rows(trap) for trap in gdb.stops()] == [
            [(2, "1", "2", "value", True), (3, "-1", "-2", "value", False)],
            [(2, "3", "4", "value", False), (3, "-3", "-4", "value", True)],
        ]
        assert len(gdb.hits()) == 4
        assert gdb.run_out() == []
        assert len(gdb.hits()) == 6  # each store once
        assert LIMITS not in gdb.transcript.split(LIMITS, 1)[1]
        assert "with no trap" not in gdb.transcript


def test_a_store_of_the_same_value_is_not_told(session, program):
    """The limit that is said: pair.b is blamed, and pair.a told where it changed only."""
    with session("simultaneous") as gdb:
        of_gdbserver(gdb, program("simultaneous"))
        gdb.go_to("main")
        for member in "abc":
            gdb.cmd(f"kwatch s.{member}")
        assert len(gdb.run_out()) == 2  # the third store changes nothing
        assert [[h["number"] for h in t["hits"]] for t in gdb.stops()] == [[2, 4], [2, 4]]


def test_reads_and_two_on_one_place(session, program):
    """A trap that two sentinels are asked about is told once."""
    with session("watch_and_awatch") as gdb:
        of_gdbserver(gdb, program("watch_and_awatch"))
        gdb.go_to("main")
        gdb.cmd("kwatch place")
        gdb.cmd("kwatch -a place")
        assert len(gdb.run_out()) == 3
        traps = gdb.hits()
        assert len(traps) == len(gdb.stops()) == 3
        assert [h["number"] for h in traps[1]["hits"]] == [2, 3]
        assert [(h["old"], h["new"]) for h in traps[1]["hits"]] == [("1", "2")] * 2


def test_set_before_run_and_two_runs(session, program):
    """`run` in extended-remote starts the program again."""
    path = program("condition_not_blamed")
    with session("condition_not_blamed") as gdb:
        if not shutil.which("gdbserver"):
            pytest.skip("gdbserver is not installed")
        gdb.cmd("set sysroot /")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("kwatch pair.b if 0")
        gdb.cmd("target extended-remote | gdbserver --multi --once -")
        gdb.cmd(f"set remote exec-file {path}")
        for run in (1, 2):
            out = gdb.cmd("run")
            assert "found by comparing values" in out, out
            assert len(gdb.run_out()) == 5
            assert len(gdb.stops()) == 6 * run
        assert gdb.transcript.count(LIMITS) == 1
        gdb.cmd("disconnect")
        assert "hit by one instruction" in gdb.cmd("run")  # and native again


def test_threads(session, program):
    """Each trap is counted once, whichever thread it is of."""
    with session("four_threads") as gdb:
        of_gdbserver(gdb, program("four_threads"))
        gdb.go_to("main")
        for n in range(4):
            gdb.cmd(f"kwatch place[{n}]")
        assert gdb.run_out()
        assert sorted({h["number"] for t in gdb.hits() for h in t["hits"]}) == [2, 3, 4, 5]
        assert "internal fault" not in gdb.transcript


def test_what_the_views_say(session, program):
    with session("condition_not_blamed") as gdb:
        of_gdbserver(gdb, program("condition_not_blamed"))
        gdb.go_to("main")
        gdb.cmd("kwatch pair.a")
        assert "cannot be read" in gdb.cmd("kwatch slots")
        assert "2: pair.a: set, in registers that cannot be read here" in gdb.cmd("kwatch verify")
        assert "values are compared at each trap" in gdb.cmd("kwatch doctor")
        gdb.cmd("kwatch off")
        gdb.cmd("watch pair.b")
        assert "comparing" not in gdb.cont()


def test_valgrind(session, program, tmp_path):
    """`target remote | vgdb`: valgrind's memcheck watches by instrumenting the program."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    path = program("condition_not_blamed")
    prefix, log = tmp_path / "vgdb", tmp_path / "log"
    words = ["valgrind", "--vgdb=yes", "--vgdb-error=0", f"--vgdb-prefix={prefix}", str(path)]
    with open(log, "w") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=file)
    try:
        for _ in range(600):  # it has no other way to say that it is ready
            if "target remote" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        if process.poll() is not None:
            pytest.skip(f"valgrind does not run here: {log.read_text()[-300:]}")
        with session("condition_not_blamed") as gdb:
            gdb.cmd(f"target remote | vgdb --vgdb-prefix={prefix} --pid={process.pid}")
            gdb.go_to("main")
            assert LIMITS in gdb.cmd("watch pair.a")
            gdb.cmd("kwatch pair.b")
            out = gdb.cont()
            assert "2 watchpoints hit at one trap (found by comparing values)" in out
            (trap,) = gdb.hits()
            assert rows(trap) == [(2, "0", "1", "value", True), (3, "0", "-1", "value", True)]
            gdb.cmd("delete")
            gdb.cmd("kill")
    finally:
        process.kill()
        process.wait()


def of_replay(gdb, program):
    """Connect to a replay of the six stores; it stands before the first."""
    code = gdb.cmd("disassemble store")
    before, after = re.search(r"(0x\w+) <.*movaps .*\n +(0x\w+) ", code).groups()
    place = gdb.value("(long) &pair")
    words = [str(Path(__file__).with_name("replay_stub.py")), str(program)]
    words += [hex(int(place)), before, after]
    out = gdb.cmd(f"target extended-remote | python3 {' '.join(words)}")
    if "store (v=" not in out:
        raise GdbFailure(shown(gdb.transcript))


JOURNEY = ("continue",) * 2 + ("reverse-continue",) * 3 + ("continue", "reverse-stepi", "continue")


def test_a_replay_that_goes_back(session, program):
    """Each change is told, those that are undone too; of these no instruction is named, as the
    program stands before it."""
    with session("condition_not_blamed") as gdb:
        of_replay(gdb, program("condition_not_blamed"))
        gdb.cmd("watch pair.a")
        gdb.cmd("kwatch pair.b")
        said = [gdb.cmd(command) for command in JOURNEY]
        assert "history" in said[4]  # its end
        told = [[(h["old"], h["new"], h["stop"]) for h in trap["hits"]] for trap in gdb.hits()]
        steps = [(0, 1), (1, 2), (2, 1), (1, 0), (0, 1), (1, 2)]
        assert told == [[(str(a), str(b), True), (str(-a), str(-b), True)] for a, b in steps]
        assert "movaps" in said[0] and "movaps" in said[5]
        for out in said[2:4]:
            assert "movaps" not in out.split("store (v=")[0]
            assert "the program went back, and stands before it" in out
        assert "with no trap" not in gdb.transcript


def test_a_condition_in_a_replay(session, program):
    """Of one that gdb does not blame."""
    with session("condition_not_blamed") as gdb:
        of_replay(gdb, program("condition_not_blamed"))
        gdb.cmd("kwatch pair.a if pair.a == 4")
        gdb.cmd("watch pair.b if 0")
        gdb.cont()
        assert gdb.value("pair.a") == "4"
        gdb.cont()  # the end of the recording
        gdb.cmd("reverse-continue")
        assert gdb.value("pair.a") == "4"
        assert [trap["hits"][0]["new"] for trap in gdb.stops()] == ["4", "4"]
