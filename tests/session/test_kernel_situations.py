"""Every way in which the kernel writes into a program's memory, on real system calls."""

from __future__ import annotations

import re
import subprocess

import pytest
from harness import line

from gdb_kwatch.linux import perf_event

pytestmark = pytest.mark.skipif(
    perf_event.why_not() is not None, reason=f"no perf here: {perf_event.why_not()}"
)

SOURCE = "kernel_writes.c"
ONES, TWOS = str(0x1111111111111111), str(0x2222222222222222)
FS = str(int.from_bytes(b"f" * 8, "little"))

# The situation, what is watched, the system call and its result, the values after (None: any).
CALLS = [
    ("read", ["word[0]"], "read", 8, [ONES]),
    ("readv", ["word[0]", "word[4]"], "readv", 16, [ONES, TWOS]),
    ("pread", ["word[0]"], "pread64", 8, [FS]),
    ("page", ["word[0]", "word[1]", "word[100]", "word[511]"], "pread64", 4096, [FS] * 4),
    ("recv", ["word[0]"], "recvfrom", 8, [ONES]),
    ("recvmsg", ["word[0]", "*(int *) &word[10]"], "recvmsg", 8, [ONES, None]),
    ("getdents", ["word[1]"], "getdents64", None, [None]),
    ("ioctl", ["*(int *) word"], "ioctl", 0, ["16"]),
    ("fstat", ["word[6]"], ("fstat", "newfstatat"), 0, ["4096"]),
    ("clock_gettime", ["word[0]", "word[1]"], "clock_gettime", 0, [None, None]),
    ("poll", ["*(short *) ((char *) word + 6)"], "poll", 1, ["1"]),
    ("efault", ["-location *place"], "fstat", -14, [None]),
    ("restart", ["word[0]"], "read", 8, [ONES]),
]


def start(gdb, situation, *places, options=""):
    """The program, stopped where the situation is ready, with kwatches from number 10."""
    gdb.cmd(f"set args {situation}")
    gdb.cmd("handle SIGUSR1 SIGALRM nostop noprint")
    gdb.run_to("ready")
    gdb.cmd("tbreak done")
    return [
        int(re.search(r"watchpoint (\d+): ", gdb.cmd(f"kwatch -k {options} {place}")).group(1))
        for place in places
    ]


@pytest.mark.parametrize(
    ("situation", "places", "call", "result", "news"), CALLS, ids=[one[0] for one in CALLS]
)
def test_a_call_that_writes(session, situation, places, call, result, news):
    with session("kernel_writes") as gdb:
        numbers = start(gdb, situation, *places)
        out = gdb.cont()
        (trap,) = gdb.hits()
        assert trap["origin"] == "kernel"
        assert trap["stopped"]
        assert trap["call"]["name"] in ([call] if isinstance(call, str) else call)
        if result is not None:
            assert trap["call"]["result"] == result
        assert f"{trap['call']['text']}\n" in out
        if trap["function"] != "fstat":  # glibc 2.31 has that one in the program itself
            assert trap["function"] == f"do_{situation}"
            assert trap["line"] == line(SOURCE, situation)
        assert [hit["number"] for hit in trap["hits"]] == numbers
        for hit, new in zip(trap["hits"], news):
            assert hit["changed"] and hit["stop"] and hit.get("count", 1) >= 1
            assert new is None or hit["new"] == new
        assert "done ()" in gdb.cont()
        assert len(gdb.hits()) == 1
        assert gdb.run_out() == []


def test_gdbs_own_watch_sees_a_call(session):
    with session("kernel_writes") as gdb:
        gdb.cmd("set args read")
        gdb.run_to("ready")
        gdb.cmd("set kwatch kernel on")
        assert "by a second slot (perf)" in gdb.cmd("watch word[0]")
        gdb.cmd("tbreak done")
        assert "1 watchpoint hit by the kernel" in gdb.cont()
        (trap,) = gdb.hits()
        assert (trap["call"]["name"], trap["hits"][0]["new"]) == ("read", ONES)
        assert "done ()" in gdb.cont()
        assert len(gdb.hits()) == 1


def test_a_failure_half_way_says_its_error(session):
    with session("kernel_writes") as gdb:
        start(gdb, "efault", "-location *place")
        assert re.search(r"^fstat\(fd=.*\) = -1 EFAULT \(Bad address\)$", gdb.cont(), re.M)


def test_a_signal_frame_on_a_watched_stack(session):
    with session("kernel_writes") as gdb:
        gdb.cmd("handle SIGUSR1 nostop noprint")
        start(gdb, "signal_frame", "-location *place")
        out = gdb.cont()
        (trap,) = gdb.hits()
        assert (trap["origin"], trap["call"]["name"]) == ("kernel", None)
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("1", "2")
        assert "the kernel wrote there when it delivered a signal" in out
        assert "handler (" in out
        assert "done ()" in gdb.cont()


def test_io_uring(session):
    with session("kernel_writes") as gdb:
        gdb.cmd("set args io_uring")
        gdb.cmd("tbreak ready")
        if "no io_uring" in gdb.cmd("run"):
            pytest.skip("no io_uring here")
        gdb.cmd("tbreak done")
        gdb.cmd("kwatch -k word[0]")
        gdb.cont()
        (trap,) = gdb.hits()
        # By the thread itself, inside the call; a kernel thread of io_uring's would be no trap.
        assert trap["origin"] in ("kernel", "untrapped")
        if trap["origin"] == "kernel":
            assert trap["call"]["name"] == "io_uring_enter"
        assert trap["hits"][0]["new"] == ONES


@pytest.mark.parametrize("situation", ["process_vm_writev", "vfork"])
def test_a_write_by_another_process_is_no_trap(session, situation):
    with session("kernel_writes") as gdb:
        start(gdb, situation, "word[0]")
        out = gdb.cont()
        assert "1 watchpoint changed with no trap" in out
        assert "done ()" in out
        (trap,) = gdb.hits()
        assert trap["origin"] == "untrapped"
        assert trap["hits"][0]["new"] == (ONES if situation != "vfork" else "5")


def test_the_end_of_a_thread_clears_a_word(session):
    """By its value, or by its counter where that moves: Linux 5.10, not 6.1 and later."""
    with session("kernel_writes") as gdb:
        start(gdb, "set_tid_address", "*(int *) word")
        out = gdb.cont()
        assert "done ()" in out
        (trap,) = gdb.hits()
        assert trap["origin"] in ("untrapped", "kernel")
        assert (trap["hits"][0]["new"], trap["stopped"]) == ("0", False)
        assert "word" in out.split("done ()")[0]


def test_a_child_of_clone_is_a_thread(session):
    with session("kernel_writes") as gdb:
        start(gdb, "clone", "word[0]")
        out = gdb.cont()
        assert 'Thread 2 "' in out
        (trap,) = gdb.hits()
        assert trap["thread"] == 2
        assert (trap["call"]["name"], trap["line"]) == ("read", line(SOURCE, "clone"))
        assert "done ()" in gdb.cont()


@pytest.mark.parametrize("options", ["", "-every"])
def test_the_same_bytes(session, options):
    with session("kernel_writes") as gdb:
        start(gdb, "same_bytes", "word[0]", options=options)
        stops = gdb.run_out()
        traps = gdb.hits()
        assert [t["stopped"] for t in traps] == [True, bool(options)]
        assert [t["hits"][0]["changed"] for t in traps] == [True, False]
        assert len(stops) == (3 if options else 2)  # the last one at done()


def test_user_mode_hits_on_the_way_are_not_lost(session):
    """A store to a place of ptrace's, a call that touches it, a place of perf's and another of
    ptrace's, and a store to that: the three of the call are one trap, none is told twice."""
    with session("kernel_writes") as gdb:
        gdb.cmd("set args store_call_store")
        gdb.run_to("ready")
        gdb.cmd("kwatch *(int *) &word[0]")
        gdb.cmd("kwatch -k *(int *) ((char *) word + 4)")
        gdb.cmd("kwatch word[1]")
        gdb.run_out()
        first, call, last = gdb.hits()
        assert (first["origin"], first["line"]) == ("user", line(SOURCE, "first store"))
        assert [hit["seen_by"] for hit in first["hits"]] == ["dr6", "counter"]
        assert [hit["changed"] for hit in first["hits"]] == [True, False]
        assert call["origin"] == "kernel"
        assert [hit["seen_by"] for hit in call["hits"]] == ["value", "counter", "value"]
        assert [hit["old"] for hit in call["hits"]] == ["1", "0", "0"]
        assert (last["origin"], last["line"]) == ("user", line(SOURCE, "last store"))
        assert [hit["number"] for hit in last["hits"]] == [4]


def test_one_store_over_both_kinds_is_one_trap(session):
    with session("kernel_writes") as gdb:
        gdb.cmd("set args store_call_store")
        gdb.run_to("ready")
        gdb.cmd("kwatch *(int *) &word[0]")
        gdb.cmd("kwatch -k word[0]")
        out = gdb.cont()
        assert "2 watchpoints hit by one instruction" in out, out
        (trap,) = gdb.hits()
        assert [hit["seen_by"] for hit in trap["hits"]] == ["dr6", "counter"]
        out = gdb.cont()
        assert "2 watchpoints hit by the kernel" in out
        assert len(gdb.hits()) == 2


def test_a_step_over_the_system_call(session):
    """The signal is still to come when the step ends; it is told with the step, and only there."""
    with session("kernel_writes") as gdb:
        start(gdb, "read", "word[0]")
        gdb.cmd("break read")
        gdb.cont()
        gdb.cmd("delete")
        number = int(re.search(r"watchpoint (\d+)", gdb.cmd("kwatch -k word[0]")).group(1))
        for _ in range(30):
            out = gdb.cmd("stepi")
            if "hit by the kernel" in out:
                break
        assert "read(fd=" in out, gdb.transcript
        (trap,) = gdb.hits()
        assert trap["hits"][0]["number"] == number
        gdb.cmd("tbreak done")
        assert "done ()" in gdb.cont()
        assert len(gdb.hits()) == 1


def test_every_situation_runs_by_itself(program):
    path = program("kernel_writes")
    names = [one[0] for one in CALLS] + ["signal_frame", "process_vm_writev", "io_uring", "vfork"]
    for name in [*names, "set_tid_address", "clone", "same_bytes", "store_call_store"]:
        assert subprocess.run([path, name], timeout=60).returncode == 0, name
