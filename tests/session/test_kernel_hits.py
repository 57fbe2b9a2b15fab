"""Writes by the kernel: a system call that touches watched places stops the program, with all."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from harness import line

from gdb_kwatch.linux import perf_event

pytestmark = pytest.mark.skipif(
    perf_event.why_not() is not None, reason=f"no perf here: {perf_event.why_not()}"
)

FILL = line("syscall.c", "one read") - 6
EMULATED = "KWATCH_EMULATED" in os.environ
PLACES = ("*(long *) &buf[0]", "*(long *) &buf[16]", "*(long *) &buf[48]")

# What a session has while no kwatch -k is there.
LEFT = """
import gdb, os
from gdb_kwatch.ui import plugin
def target(fd):
    try:
        return os.readlink("/proc/self/fd/" + fd)
    except OSError:
        return ""
events = sum("perf_event" in target(fd) for fd in os.listdir("/proc/self/fd"))
kernel = plugin.session.kernel
print("@left", events, len(kernel.events.lwps()), kernel._handlers.connected)
"""


def left(gdb):
    """Open perf events, threads with events, and whether handlers are connected."""
    return re.search(r"@left (.*)", gdb.python(LEFT)).group(1)


def set_three(gdb, command="kwatch -k"):
    for place in PLACES:
        gdb.cmd(f"{command} {place}")


def numbers(trap):
    return [hit["number"] for hit in trap["hits"]]


def source_line(text):
    from harness import FIXTURES

    lines = (FIXTURES / "syscall.c").read_text().splitlines()
    return next(n for n, one in enumerate(lines, 1) if text in one)


def test_a_read_that_touches_two_of_three(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        set_three(gdb)
        stops = gdb.run_out()
        assert len(stops) == 3
        first, store, second = gdb.hits()
        assert [t["stopped"] for t in (first, store, second)] == [True] * 3
        # The first read(2) touches the first two.
        assert numbers(first) == [2, 3]
        assert first["origin"] == "kernel"
        seen = [hit["seen_by"] for hit in first["hits"]]
        # Of several registers that one instruction hits, QEMU's emulation tells one.
        assert seen == ["counter", "counter"] or (EMULATED and seen == ["counter", "value"])
        assert [hit["stop"] for hit in first["hits"]] == [True, True]
        assert [hit["old"] for hit in first["hits"]] == ["0", "0"]
        assert first["hits"][0]["new"] == str(int.from_bytes(b"01234567", "little"))
        assert first["hits"][1]["new"] == str(int.from_bytes(b"ghijklmn", "little"))
        call = first["call"]
        assert call["name"] == "read"
        assert [one["name"] for one in call["arguments"]] == ["fd", "buf", "count"]
        assert call["arguments"][0]["path"].startswith("pipe:[")
        assert hex(call["arguments"][1]["value"]) == first["hits"][0]["address"]
        assert call["arguments"][2]["value"] == 36
        assert call["result"] == 36
        assert first["function"] == "fill"
        assert first["line"] == source_line("int fill(")
        assert first["instruction"] == "syscall"
        # The program itself writes.
        assert numbers(store) == [2]
        assert store["origin"] == "user"
        assert "call" not in store
        assert store["line"] == source_line("buf[0] = 'X'")
        assert store["function"] == "main"
        # The second read(2) touches the first one.
        assert numbers(second) == [2]
        assert second["origin"] == "kernel"
        assert second["call"]["result"] == 4
        assert second["function"] == "fill"


def test_the_report(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        set_three(gdb)
        out = gdb.cont()
        assert re.search(
            r"^\n2 watchpoints hit by the kernel\n"
            r"Watchpoint +Slot +Access +Old value +New value\n"
            r"Hardware watchpoint 2: \*\(long \*\) &buf\[0\] +perf x8 +write +0 +\d+\n"
            r"Hardware watchpoint 3: \*\(long \*\) &buf\[16\] +perf x8 +write +0 +\d+\n"
            r"read\(fd=\d+<pipe:\[\d+\]>, buf=0x[0-9a-f]+, count=36\) = 36\n"
            rf"syscall\.c:{source_line('int fill(')}\t.*int fill\(int fd, int n\).*\n",
            out,
            re.M,
        ), out
        assert "Catchpoint 2 (signal SIGURG)" in out
        assert re.search(r"syscall\.c:\d+ read +perf +2 ", gdb.cmd("kwatch hits"))


def test_it_is_a_breakpoint_of_gdbs_that_says_what_it_is(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        answer = gdb.cmd("kwatch -k *(long *) &buf[0]")
        assert answer == "Hardware watchpoint 2: *(long *) &buf[0] (user and kernel)\n"
        listed = gdb.cmd("info breakpoints")
        assert re.search(r"^2 +catchpoint +keep y ", listed, re.M)
        assert 'stop only if $_kernel_or_user_hit(2, "*(long *) &buf[0]")' in listed
        entry = gdb.list()[2]
        assert (entry["kind"], entry["state"], entry["kernel"]) == ("kwatch", "installed", True)
        assert (entry["armed"], entry["threads"], entry["slots"]) == (1, 1, [])
        assert entry["condition"] is None
        slots = gdb.cmd("kwatch slots")
        assert re.search(r"^perf +0x[0-9a-f]+ +8 +write +Hardware watchpoint 2: ", slots, re.M)
        assert gdb.json("kwatch slots")[0]["perf"][0]["owners"] == [2]
        assert "armed on 1 of 1 thread, by perf" in gdb.cmd("kwatch verify 2")


@pytest.mark.parametrize("by", ["delete 2", "disable 2", "kwatch off"])
def test_nothing_is_left_when_the_last_one_goes(session, by):
    with session("syscall") as gdb:
        gdb.run_to("main")
        assert left(gdb) == "0 0 False"
        gdb.cmd("kwatch -k *(long *) &buf[0]")
        assert left(gdb) == "1 1 True"
        gdb.cmd(by)
        assert left(gdb).startswith("0 0")
        assert gdb.run_out() == []
        gdb.cmd("delete")
        if by != "kwatch off":
            assert left(gdb) == "0 0 False"


def test_disable_and_enable_free_and_take_the_slot(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k *(long *) &buf[0]")
        gdb.cmd("disable 2")
        assert gdb.json("kwatch slots")[0]["perf"] == []
        assert gdb.list()[2]["state"] == "disabled"
        gdb.go_to("syscall.c:15")
        gdb.cmd("enable 2")
        assert len(gdb.json("kwatch slots")[0]["perf"]) == 1
        out = gdb.cont()
        assert "1 watchpoint hit by one instruction" in out
        assert gdb.cont().count("hit by the kernel") == 1


def test_conditions_counts_and_commands_are_gdbs_own(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k buf[0] if buf[1] == 'A'")
        assert '(2, "buf[0]", "buf[1] == \'A\'")' in gdb.cmd("info breakpoints")
        assert gdb.list()[2]["condition"] == "buf[1] == 'A'"
        gdb.cmd("kwatch -k buf[16]")
        gdb.cmd("ignore 3 1")
        gdb.cmd("commands 2\necho commands of 2\\n\nend")
        out = gdb.cont()
        assert "commands of 2" in out
        assert "already hit 1 time" in gdb.cmd("info breakpoints 2")
        traps = gdb.hits()
        assert [t["stopped"] for t in traps] == [False, False, True]
        assert [numbers(t) for t in traps] == [[2, 3], [2], [2]]
        assert '(2, "buf[0]")' in gdb.cmd("condition 2") + gdb.cmd("info breakpoints")
        gdb.cmd("condition 2 buf[1] == 'B'")
        assert gdb.list()[2]["condition"] == "buf[1] == 'B'"
        assert "buf[1] == 'B'\")" in gdb.cmd("info breakpoints")


def test_a_condition_on_locals_of_the_caller(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("tbreak fill if n == 4")
        gdb.cont()
        gdb.cmd("kwatch -k buf[0] if n == 4 && fd > 2")
        out = gdb.cont()
        assert "count=4) = 4" in out


def test_silent_commands_print_nothing(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k buf[0]")
        gdb.cmd("commands 2\nsilent\nend")
        assert gdb.cont() == "Continuing.\n"
        assert gdb.stops()[0]["origin"] == "kernel"


def test_temporary_and_every_and_access(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k -t buf[0]")
        assert "hit by the kernel" in gdb.cont()
        assert gdb.list() == {}
        assert left(gdb) == "0 0 False"
        gdb.go_to("syscall.c:16")
        gdb.cmd("kwatch -k -a buf[2]")
        assert "read(fd" in gdb.cont()
        gdb.cmd("tbreak puts")
        gdb.cont()
        out = gdb.cont()  # puts reads it, in the C library
        assert "1 watchpoint hit by one instruction" in out


def test_a_rerun_arms_it_again(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        set_three(gdb)
        assert len(gdb.run_out()) == 3
        assert left(gdb).startswith("0 0")
        gdb.cmd("delete 1")
        out = gdb.cmd("run")
        assert "2 watchpoints hit by the kernel" in out or (
            EMULATED and "1 watchpoint hit by the kernel" in out
        )
        assert len(gdb.run_out()) == 2
        assert left(gdb).startswith("0 0")


def test_set_before_the_program_runs(session):
    with session("syscall") as gdb:
        set_three(gdb)
        assert gdb.list()[1]["state"] == "pending"
        out = gdb.cmd("run")
        assert "2 watchpoints hit by the kernel" in out, out
        assert len(gdb.run_out()) == 2


def test_a_fifth_slot_is_refused_with_its_holders(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        for n in range(0, 32, 8):
            gdb.cmd(f"kwatch {'-k' if n else ''} *(long *) &buf[{n}]")
        answer = gdb.cmd("kwatch -k *(long *) &buf[32]")
        assert "it needs 1 of 4 hardware slots, 0 free" in answer
        assert "Hardware watchpoint 3: *(long *) &buf[8] (user and kernel)  (1 slot)" in answer
        assert len(gdb.list()) == 4
        # gdb's own and perf's stand side by side.
        assert "hit by the kernel" in gdb.cont()


def test_slots_that_ptrace_keeps_are_told(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for place in ("s.a", "s.b", "s.c", "s.d"):
            gdb.cmd(f"watch {place}")
        gdb.cont()
        gdb.cmd("delete")
        answer = gdb.cmd("kwatch -k s.a")
        assert "4 by ptrace, which keeps what gdb's watchpoints have used" in answer
        assert gdb.list() == {}
        assert left(gdb) == "0 0 False"


@pytest.mark.parametrize("first", [True, False])
def test_registers_that_ptrace_keeps_do_not_keep_gdb_from_resuming(session, first):
    """ptrace has DR2 and DR3, and from the next stop on gdb takes DR0 and DR1 for the same two
    watchpoints: beside a slot of perf's there are too few, and each resume failed."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("set breakpoint always-inserted on")
        for place in ("s.a", "s.b", "s.c", "s.d"):
            gdb.cmd(f"kwatch {place}")
        gdb.cmd("delete 2 3")
        if first:
            assert "(user and kernel)" in gdb.cmd("kwatch -k other")
        gdb.cmd("stepi")
        assert gdb.list()[4]["slots"] == [2], gdb.list()
        gdb.cmd("set breakpoint always-inserted off")
        if first:
            gdb.cmd("stepi")
            said = r"^kwatch 6 gave up its slot and is disabled: beside it gdb could not resume LWP"
            assert re.search(said, gdb.transcript, re.M)
            assert gdb.list()[6]["state"] == "disabled"
        else:
            answer = gdb.cmd("kwatch -k other")
            assert "4 by ptrace, which keeps what gdb's watchpoints have used" in answer
        assert len(gdb.run_out()) == 2
        assert [numbers(trap) for trap in gdb.hits()][:2] == [[4, 5], [4, 5]]
        assert "No space left" not in gdb.transcript


def test_gdbs_own_that_goes_while_the_program_starts_leaves_no_gap(session, program):
    """One of four slots is perf's.  Where a pointer leads nobody knows at the start, so that one
    stands in DR0 and DR1, and gives them up in an event in which gdb does not stop: the others
    must not stay behind it, for from the first stop on gdb takes DR0."""
    with session("churn") as gdb:
        gdb.run_to("poke")
        gdb.cmd("kwatch -k -l place[1]")
        assert "waits for a slot" in gdb.cmd("kwatch *heap + beta")
        gdb.cmd("kwatch s.a + s.b")
        gdb.cmd("kill")
        gdb.cmd(f"file {program('churn')}")
        gdb.run_to("poke")
        rows = gdb.list()
        assert [rows[n]["state"] for n in (2, 4)] == ["installed", "installed"], rows
        assert rows[4]["slots"] == [0, 1]
        for _ in range(3):
            gdb.cmd("stepi")
        assert gdb.list()[4]["slots"] == [0, 1]
        assert "No space left" not in gdb.transcript


def test_gdbs_own_watch_with_kernel_sight(session):
    """Three watchpoints: one slot is left, so the first one has sight by a counter of perf's, and
    what the same call does to the others is told by value, in the same trap."""
    with session("syscall") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("set kwatch kernel on") == ""
        answer = gdb.cmd(f"watch {PLACES[0]}")
        assert "the kernel's accesses are seen too, by a second slot (perf)" in answer
        for place in PLACES[1:]:
            gdb.cmd(f"watch {place}")
        listed = gdb.cmd("info breakpoints")
        assert re.search(r"^\d+ +catchpoint ", listed, re.M)
        assert 'stop only if $_kernel_hit("a watchpoint of gdb\'s own")' in listed
        rows = gdb.list()
        first, second, third = sorted(rows)
        assert [rows[n]["kernel"] for n in (first, second, third)] == [True, False, False]
        assert len(gdb.json("kwatch slots")[0]["perf"]) == 1
        stops = gdb.run_out()
        assert len(stops) == 3
        read, store, again = gdb.hits()
        assert numbers(read) == [first, second]
        assert [hit["seen_by"] for hit in read["hits"]] == ["counter", "value"]
        assert (read["origin"], read["call"]["name"], read["function"]) == (
            "kernel",
            "read",
            "fill",
        )
        assert (store["origin"], numbers(store)) == ("user", [first])
        assert store["hits"][0]["seen_by"] == "dr6"
        assert "Old value = " in stops[1]  # gdb's own report
        assert (again["origin"], numbers(again)) == ("kernel", [first])
        assert all(trap["stopped"] for trap in (read, store, again))


def test_kernel_sight_that_comes_at_a_stop_with_commands_that_go_on(session):
    """Its catchpoint is not made in that stop: gdb would run the commands in the middle of it."""
    with session("condition_not_blamed") as gdb:
        gdb.cmd("set kwatch kernel on")
        gdb.cmd("watch pair.a")
        gdb.cmd("commands 1\nprint pair.b\ncontinue\nend")
        assert "exited" in gdb.cmd("run")
        assert len(gdb.stops()) == 6


def test_kernel_sight_of_two_by_two_slots(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("set kwatch kernel on")
        gdb.cmd(f"watch {PLACES[0]}")
        gdb.cmd(f"watch {PLACES[1]} if buf[1] == '1'")
        number = max(gdb.list())
        gdb.cmd(f"commands {number}\necho commands ran\\n\nend")
        out = gdb.cont()
        assert "2 watchpoints hit by the kernel" in out
        assert out.count("perf x8") == 2
        if gdb.evaluate("hasattr(gdb, 'BP_CATCHPOINT')"):  # gdb 10 cannot lend them
            assert "commands ran" in out
        # One more of gdb's own: sight gives up a slot at once.
        answer = gdb.cmd("up")
        answer = gdb.cmd("watch *(long *) &buf[48]")
        assert "does not see the kernel's accesses" in answer
        assert len(gdb.json("kwatch slots")[0]["perf"]) == 1
        assert len(gdb.run_out()) == 2


@pytest.mark.parametrize("by", ["set kwatch kernel off", "delete", "delete 2"])
def test_kernel_sight_leaves_nothing(session, by):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("set kwatch kernel on")
        gdb.cmd(f"watch {PLACES[0]}")
        assert left(gdb) == "1 1 True"
        gdb.cmd(by)
        assert left(gdb) == "0 0 " + ("False" if by != "delete 2" else "True")
        gdb.cmd("set kwatch kernel off")
        assert left(gdb) == "0 0 False"
        assert "SIGURG" not in gdb.cmd("info breakpoints")


def test_a_kwatch_while_kernel_is_on_or_auto(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        for mode in ("on", "auto"):
            gdb.cmd(f"set kwatch kernel {mode}")
            assert "(user and kernel)" in gdb.cmd(f"kwatch {PLACES[0]}")
            gdb.cmd("delete")
        for n in range(0, 32, 8):
            gdb.cmd(f"kwatch *(long *) &buf[{n}]")
        assert len(gdb.list()) == 4
        answer = gdb.cmd("set kwatch kernel sometimes")
        assert "Undefined item" in answer


def test_save_keeps_it(session, tmp_path):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k -every buf[0] if buf[1] == '1'")
        path = tmp_path / "saved.gdb"
        gdb.cmd(f"kwatch save {path}")
        assert path.read_text() == "kwatch -k -every -- buf[0] if buf[1] == '1'\n"
        gdb.cmd("delete")
        gdb.cmd(f"source {path}")
        (entry,) = gdb.list().values()
        assert (entry["kernel"], entry["every"]) == (True, True)
        assert entry["condition"] == "buf[1] == '1'"


def test_off_and_on_again(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k buf[0]")
        gdb.cmd("kwatch off")
        assert left(gdb).startswith("0 0")
        gdb.cmd("kwatch on")
        assert left(gdb) == "1 1 True"
        assert "hit by the kernel" in gdb.cont()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes capabilities away")
def test_without_bpf_hits_of_a_thread_that_blocks_the_signal_are_counted_and_told(session):
    # CAP_PERFMON by its number (linux/capability.h): setpriv of Debian 11 does not know the name.
    no_bpf = ("setpriv", "--bounding-set=-all,+cap_38", "--inh-caps=-all")
    with session("signals_blocked", before=no_bpf) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k place")
        assert "SIGSTOP" not in gdb.cmd("info breakpoints")
        out = gdb.cont()
        assert "exited with code 051]" in out, "SIGURG is pending"
        assert "warning: 5 accesses of places watched with -k were counted" in out
        assert "a thread that blocks SIGURG" in out
        assert gdb.list()[2]["hits"] == 5
