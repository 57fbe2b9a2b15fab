"""The ways in which people work with gdb: kwatch stays right in each of them."""

from __future__ import annotations

import re
import subprocess

import pytest
from harness import line

# gdb 13.1 and older cannot call a function of a program on a CPU with AMX, without kwatch as well.
UNABLE = "Couldn't write extended state"


def hit(gdb, n=-1):
    """(number, old, new) of each hit of a stop."""
    return [(h["number"], h["old"], h["new"]) for h in gdb.stops()[n]["hits"]]


def test_start_again_and_again(session):
    with session("simultaneous") as gdb:
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.c")
        for run in range(3):
            gdb.cmd(f"set disable-randomization {'off' if run else 'on'}")
            out = gdb.cmd("start")
            assert "Temporary breakpoint" in out
            assert len(gdb.run_out()) == 2
            assert hit(gdb) == [(1, "1", "2"), (2, "1", "2")]


def test_run_while_it_runs_and_kill(session):
    with session("simultaneous") as gdb:
        gdb.cmd("kwatch s.a")
        gdb.cmd("run")
        gdb.cmd("run")  # from a stop
        assert hit(gdb) == [(1, "0", "1")]
        gdb.cmd("kill")
        assert gdb.list()[1]["state"] == "pending"
        gdb.cmd("run")
        assert hit(gdb) == [(1, "0", "1")]
        assert len(gdb.stops()) == 3
        assert "untrapped" not in {trap["origin"] for trap in gdb.hits()}


def test_attached_again(session, program):
    """Detached and attached to once more: the same watchpoint, armed again."""
    process = subprocess.Popen(
        [str(program("waiting"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()
        with session("waiting") as gdb:
            if "Operation not permitted" in gdb.cmd(f"attach {process.pid}"):
                pytest.skip("attaching is not permitted here")
            gdb.cmd("kwatch pair.a")
            gdb.cmd("detach")
            assert gdb.list()[1]["state"] == "pending"
            gdb.cmd(f"attach {process.pid}")
            assert gdb.list()[1]["state"] == "installed"
            process.stdin.write("x")
            process.stdin.flush()
            assert "hit by one instruction" in gdb.cont()
            assert hit(gdb) == [(1, "0", "1")]
            gdb.cmd("detach")
            assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_checkpoint(session):
    """`restart` goes to another process, whose values are other ones: nothing is untrapped."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.b")
        out = gdb.cmd("checkpoint")
        if UNABLE in out:
            pytest.skip("this gdb cannot call a function on this CPU")
        assert "hit by one instruction" in gdb.cont()
        gdb.cmd("restart 1")
        assert gdb.value("s.a") == "0"
        assert "hit by one instruction" in gdb.cont()
        assert hit(gdb, 0) == [(2, "0", "1"), (3, "0", "0")]
        # gdb (16, 18) may not put the watchpoints into the other process before its second stop.
        assert hit(gdb, 1)[0] in [(2, "0", "1"), (2, "1", "2")]
        assert {trap["origin"] for trap in gdb.hits()} == {"user"}


def test_a_core_file_of_the_same_program(session, tmp_path):
    """A kwatch that is set stays through a look at a core file, and says nothing of it."""
    core = tmp_path / "core"
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cont()
        gdb.cmd(f"generate-core-file {core}")
        gdb.cmd("kill")
        gdb.cmd(f"core-file {core}")
        assert gdb.value("s.a") == "1"
        for command in ("list", "slots", "verify", "hits", "doctor"):
            assert gdb.cmd(f"kwatch {command}").strip()
        gdb.cmd("core-file")
        gdb.run_to("main")
        assert len(gdb.run_out()) == 2
        assert "with no trap" not in gdb.transcript


def test_scheduler_locking(session):
    with session("four_threads") as gdb:
        gdb.run_to("main")
        for n in range(4):
            gdb.cmd(f"kwatch place[{n}]")
        gdb.cont()
        assert len(gdb.stops()) == 1
        gdb.cmd("set scheduler-locking on")
        gdb.cmd("stepi")
        gdb.cmd("stepi")
        gdb.cmd("set scheduler-locking step")
        gdb.cmd("next")
        gdb.cmd("set scheduler-locking off")
        gdb.run_out()
        # Each thread's store once, whichever command it came in.
        assert sorted(h["number"] for t in gdb.hits() for h in t["hits"]) == [2, 3, 4, 5]
        assert {h["seen_by"] for t in gdb.hits() for h in t["hits"]} == {"dr6"}


@pytest.mark.parametrize("mode", ["parent", "child"])
@pytest.mark.parametrize("kind", ["fork_child", "vfork_child"])
def test_follow_fork_mode(session, kind, mode):
    """Whoever is followed is watched, and told once."""
    with session(kind) as gdb:
        gdb.cmd(f"set follow-fork-mode {mode}")
        gdb.cmd("kwatch place")
        gdb.cmd("run")
        assert hit(gdb) == [(1, "0", "1")]
        gdb.run_out(10)
        values = [h["new"] for t in gdb.hits() for h in t["hits"]]
        wanted = {"parent": "3", "child": "2"}[mode]
        assert wanted in values[1:]
        assert len(values) == len(set(values))


def test_both_processes_run(session):
    with session("fork_child") as gdb:
        gdb.cmd("set detach-on-fork off")
        gdb.cmd("set schedule-multiple on")
        gdb.cmd("kwatch place")
        gdb.cmd("run")
        assert hit(gdb) == [(1, "0", "1")]
        for _ in range(6):
            if "The program is not being run" in gdb.cont():
                gdb.cmd("inferior 1")
        assert "3" in {h["new"] for t in gdb.hits() for h in t["hits"]}


@pytest.mark.parametrize("bits", ["", "_32bit"])
def test_another_program_in_the_same_process(session, program, bits):
    """exec; of a 32-bit program too, whose longs have four bytes."""
    other = program(f"condition_not_blamed{bits}")
    with session("exec_other") as gdb:
        gdb.cmd(f"set args {other}")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("run")
        assert hit(gdb) == [(1, "0", "100")]
        out = gdb.cont()
        assert "is executing new program" in out
        assert "hit by one instruction" in out
        row = gdb.list()[1]
        assert row["size"] == (4 if bits else 8)
        gdb.cmd("kwatch pair.b if pair.b == -3")
        gdb.run_out()
        told = [(h["number"], h["old"], h["new"]) for t in gdb.hits()[1:] for h in t["hits"]]
        assert [(o, n) for number, o, n in told if number == 1] == [
            (str(n), str(n + 1)) for n in range(6)
        ]


def test_an_access_before_exec_is_not_told_by_the_code_that_is_there_now(session, program):
    with session("exec_other") as gdb:
        gdb.cmd(f"set args {program('simultaneous')}")
        gdb.run_to("main")
        gdb.cmd('kwatch -log "it is {new} at {line}" pair.a')
        gdb.cmd("kwatch trace pair.a")
        out = gdb.cont()
        assert f"it is 100 at exec_other.c:{line('exec_other.c', 'before')}" in out
        assert "exited" in out
        (trap,) = gdb.hits()
        assert (trap["function"], trap["file"], trap["line"]) == (None, None, None)
        shown = gdb.cmd("kwatch trace show")
        assert re.search(rf"^\d+\.\d+ +1 +{trap['pc']} ", shown, re.M), shown
        assert ".c:" not in shown + gdb.cmd("kwatch last 1") + gdb.cmd("kwatch hits")


@pytest.mark.parametrize("kind", ["exec_other", "exec_other_static"])
def test_the_same_program_in_the_same_process(session, program, kind):
    """The addresses stay the same: gdb writes no register anew, and so would see nothing."""
    with session(kind) as gdb:
        gdb.cmd(f"set args {program(kind)}")
        gdb.cmd("watch after")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("run")
        assert hit(gdb) == [(2, "0", "100")]
        gdb.cont()
        out = gdb.cont()
        assert "is executing new program" in out
        assert hit(gdb) == [(2, "0", "100")]
        assert {row["armed"] for row in gdb.json("kwatch list")} == {1}
        gdb.cont()
        assert hit(gdb) == [(1, "0", "1")]
        assert "exited" in gdb.cont()
        assert [trap["origin"] for trap in gdb.hits()] == ["user"] * 4


def test_the_same_static_program_that_relocates_itself(session, program):
    """No event tells where it is (gdb 10 and 18): the first stop is gdb's, or kwatch's."""
    with session("exec_other_static_pie") as gdb:
        gdb.cmd(f"set args {program('exec_other_static_pie')}")
        gdb.cmd("watch after")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("run")
        gdb.cont()
        out = gdb.cont()
        assert "is executing new program" in out and "pair.a" in out
        assert {row["armed"] for row in gdb.json("kwatch list")} == {1}
        gdb.cont()
        assert hit(gdb) == [(1, "0", "1")]


@pytest.mark.parametrize("mode", ["same", "new"])
def test_a_slot_that_gdb_loses_by_exec(session, program, mode):
    """gdb goes on counting the place of the program before, and would fail with four others."""
    with session("exec_other") as gdb:
        gdb.cmd(f"set follow-exec-mode {mode}")
        gdb.cmd(f"set args {program('simultaneous')}")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("run")
        gdb.go_to("main")
        gdb.cmd("delete 1")
        out = "".join(gdb.cmd(f"kwatch s.{name}") for name in "abcd")
        assert "waits for a slot: it needs 1 of 4, 0 free" in out
        assert "  gdb itself, for a program that has called exec: until the process ends  (1" in out
        assert "3 watchpoints hit by one instruction" in gdb.cont()
        gdb.cmd("delete")
        gdb.run_to("main")  # another process
        out = "".join(gdb.cmd(f"kwatch s.{name}") for name in "abcd")
        assert "waits" not in out


def test_symbols_read_anew_lose_no_slot(session, program):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for name in "abc":
            gdb.cmd(f"kwatch s.{name}")
        gdb.cmd(f"file {program('simultaneous')}")
        assert "3 watchpoints hit by one instruction" in gdb.cont()
        gdb.cmd("delete 2")
        out = "".join(gdb.cmd(f"kwatch {name}") for name in ("s.a", "spare"))
        assert "waits" not in out
        assert "3 watchpoints hit by one instruction" in gdb.cont()


def test_symbols_read_anew_are_found(session, program):
    """While gdb reads them, what is looked up would not be found later either."""
    with session("churn") as gdb:
        gdb.cmd("run signal")  # and stops in the C library
        gdb.cmd("kwatch alpha")
        gdb.cmd("watch beta")
        gdb.cmd("awatch buffer[9]")
        gdb.cmd(f"file {program('churn')}")
        assert {entry["state"] for entry in gdb.list().values()} == {"installed"}
        gdb.cmd("kwatch wide[1]")
        assert "watchpoint" in gdb.cont()
        assert all(len(entry["slots"]) == 1 for entry in gdb.list().values())
        assert "Error" not in gdb.transcript


def test_symbols_read_anew_in_a_script(session, program, tmp_path):
    """No prompt comes between."""
    script = tmp_path / "script"
    script.write_text(f"file {program('churn')}\nprint buffer[9]\nkwatch buffer[9]\ncontinue\n")
    with session("churn") as gdb:
        gdb.cmd("run signal")
        gdb.cmd("kwatch alpha")
        gdb.cmd("watch beta")
        gdb.cmd("awatch buffer[8]")
        out = gdb.cmd(f"source {script}")
        assert out.startswith("$1 = 0 '\\000'\n")
        assert "Hardware watchpoint 4: buffer[9]\n" in out
        assert "watchpoint 2: beta" in out
        assert "Error" not in gdb.transcript


def test_gdb_alone_sees_nothing_of_the_same_program_again(session, program):
    with session("exec_other", kwatch=False) as gdb:
        gdb.cmd(f"set args {program('exec_other')}")
        gdb.cmd("watch pair.a")
        gdb.cmd("run")
        assert "exited" in gdb.cont()


def test_follow_exec_mode_new(session, program):
    """The new program is another inferior; the kwatch stays with the one it was set in."""
    with session("exec_other") as gdb:
        gdb.cmd(f"set args {program('condition_not_blamed')}")
        gdb.cmd("set follow-exec-mode new")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("run")
        gdb.run_out()
        assert gdb.list()[1]["state"] == "pending"
        gdb.cmd("inferior 1")
        gdb.cmd("run")
        assert hit(gdb) == [(1, "0", "100")]


def test_a_signal_during_a_step(session):
    """Stepping over the line that raises a signal whose handler stores."""
    with session("signal_handler") as gdb:
        gdb.run_to("main")
        gdb.cmd("handle SIGUSR1 nostop noprint pass")
        gdb.cmd("kwatch pair.a")
        for _ in range(40):
            out = gdb.cmd("next")
            if "hit by one instruction" in out or "exited" in out:
                break
        assert "hit by one instruction" in out
        assert len(gdb.stops()) == 1


def test_from_python_and_from_commands(session):
    with session("simultaneous") as gdb:
        gdb.cmd("break main")
        gdb.cmd("commands\nsilent\nkwatch s.a\nkwatch s.c if s.c == 2\ncontinue\nend")
        out = gdb.cmd("run")
        assert "Hardware watchpoint 2: s.a" in out
        assert "2 watchpoints hit by one instruction" in out
        gdb.python(
            "import gdb\n"
            "made = gdb.execute('kwatch s.d if 0', to_string=True)\n"
            "rows = gdb.execute('kwatch list', to_string=True)\n"
            "said = gdb.execute('continue', to_string=True)\n"
        )
        assert gdb.evaluate("made") == "Hardware watchpoint 4: s.d\n"
        assert "s.d" in gdb.evaluate("rows")
        assert "3 watchpoints hit by one instruction" in gdb.evaluate("said")
        # A fault in one of them is an error that Python can catch.
        gdb.python(
            "try:\n    gdb.execute('kwatch nothing_here')\n"
            "except gdb.error as error:\n    caught = str(error)\n"
        )
        assert gdb.evaluate("caught") == 'No symbol "nothing_here" in current context.'


def test_define_prefix_with_and_alias(session):
    with session("simultaneous") as gdb:
        gdb.cmd("define-prefix mine")
        gdb.cmd("define mine watch\nkwatch $arg0\nend")
        gdb.cmd("alias kw = kwatch")
        gdb.cmd("alias kwl = kwatch list")
        gdb.run_to("main")
        assert gdb.cmd("mine watch s.a") == "Hardware watchpoint 2: s.a\n"
        assert gdb.cmd("kw -every s.b") == "Hardware watchpoint 3: s.b\n"
        assert gdb.cmd("kwl") == gdb.cmd("kwatch list")
        assert "s.c" in gdb.cmd("with language c -- kwatch s.c")
        assert gdb.cmd("with kwatch history 5 -- show kwatch history").strip().endswith("5 traps.")
        out = gdb.cmd("with print pretty on -- continue")
        assert "3 watchpoints hit by one instruction" in out
        assert gdb.evaluate("gdb.parameter('kwatch history')") == 10000


@pytest.mark.parametrize("in_kernel", [False, True])
def test_saved_and_restored_in_another_gdb(session, in_kernel):
    """By `save breakpoints` a kwatch comes back as gdb's own, or as itself."""
    with session("condition_not_blamed", kernel_conditions=in_kernel) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a if pair.a == 3")
        gdb.cmd("kwatch -every pair.b if 0")
        natives, kwatches = gdb.folder / "natives", gdb.folder / "kwatches"
        by_kernel = gdb.list()[2]["judged"] == "in kernel"
        gdb.cmd(f"save breakpoints {natives}")
        gdb.cmd(f"kwatch save {kwatches}")
    for path, kind in ((natives, "kwatch" if by_kernel else "watch"), (kwatches, "kwatch")):
        with session("condition_not_blamed", kernel_conditions=in_kernel) as gdb:
            gdb.cmd(f"source {path}")
            rows = gdb.list().values()
            assert {row["kind"] for row in rows} == {kind}
            assert [row["condition"] for row in rows] == ["pair.a == 3", "0"]
            gdb.cmd("run")
            assert gdb.value("pair.a") == "3"


def rows(gdb):
    """Number and expression of each watchpoint, and whether gdb has it on."""
    return re.findall(r"^(\d+) .* keep ([yn]) +(\S+)$", gdb.cmd("info breakpoints"), re.M)


def test_those_that_wait_are_saved_as_they_are_wanted(session, tmp_path):
    """They are off in gdb, and would never be on again."""
    members = ("s.a", "s.b", "s.c", "s.d", "other")
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in members:
            gdb.cmd(f"watch {member}")
        gdb.cmd("watch spare")
        gdb.cmd("disable 7")
        before = rows(gdb)
        assert before[4:] == [("6", "n", "other"), ("7", "n", "spare")]
        gdb.python(
            "import gdb\nsaid = []\n"
            "gdb.events.breakpoint_modified.connect(lambda bp: said.append(bp.number))\n"
        )
        assert gdb.cmd(f"save breakpoints {tmp_path}/saved") == (
            f"Saved to file '{tmp_path}/saved'.\n"
        )
        assert gdb.evaluate("said") == [6, 6]
        assert rows(gdb) == before
        assert "Unable to open file" in gdb.cmd(f"save breakpoints {tmp_path}")
        assert rows(gdb) == before
        gdb.cmd("set breakpoint always-inserted on")
        assert "Saved to file" in gdb.cmd(f"save breakpoints {tmp_path}/not-all")
        assert rows(gdb) == before
        gdb.cmd("set breakpoint always-inserted off")
        assert "2: s.a" in gdb.cont()
        assert gdb.cmd("delete 2") == "watch 6 installed\n"
        assert ("6", "y", "other") in rows(gdb)
        assert {n: row["state"] for n, row in gdb.list().items()}[7] == "disabled"
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        out = gdb.cmd(f"source {tmp_path}/saved")
        assert "watch 6 waits for a slot" in out, out
        states = [row["state"] for row in gdb.list().values()]
        assert states == ["installed"] * 4 + ["waiting", "disabled"]
    with session("simultaneous", kwatch=False) as gdb:
        gdb.run_to("main")
        gdb.cmd(f"source {tmp_path}/saved")
        on = [("y", member) for member in members]
        assert [row[1:] for row in rows(gdb)] == [*on, ("n", "spare")]


def test_merged_ones_are_saved_on(session, tmp_path):
    with session("one_block") as gdb:
        gdb.run_to("main")
        for member in "abcde":
            gdb.cmd(f"kwatch s.{member}")
        gdb.cmd("kwatch -p background -every x")
        states = {number: row["state"] for number, row in gdb.list().items()}
        assert "merged" in states.values()
        before = rows(gdb)
        gdb.cmd(f"save breakpoints {tmp_path}/saved")
        assert "disable" not in (tmp_path / "saved").read_text()
        assert {number: row["state"] for number, row in gdb.list().items()} == states
        assert rows(gdb) == before
        gdb.cmd("kwatch off")
        assert "kwatch" not in gdb.cmd("show user save hook-breakpoints")
        gdb.cmd("kwatch on")
        gdb.cont()
        assert [h["expression"] for h in gdb.stops()[-1]["hits"]] == ["s.a"]
