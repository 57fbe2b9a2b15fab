"""Kernel-mode hits over the life of a program: threads, fork, exec, attach, detach, its signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
from harness import line
from test_kernel_hits import left

from gdb_kwatch.linux import filters, perf_event

pytestmark = pytest.mark.skipif(
    perf_event.why_not() is not None, reason=f"no perf here: {perf_event.why_not()}"
)


def number_of(answer):
    return int(re.search(r"watchpoint (\d+): ", answer).group(1))


def counted(gdb, number):
    """The traps by the kernel that `number` was hit by, and how often its counters moved."""
    traps = [
        hit
        for trap in gdb.hits()
        if trap["origin"] == "kernel"
        for hit in trap["hits"]
        if hit["number"] == number
    ]
    return len(traps), sum(hit["count"] for hit in traps)


@pytest.mark.parametrize("run", range(20))
def test_threads_that_read_at_once_lose_no_hit(session, run):
    """Threads that are there already, and new ones; the fixture counts for itself."""
    with session("reading_threads") as gdb:
        gdb.cmd("set args 2 2 25")
        gdb.run_to("ready")
        number = number_of(gdb.cmd("kwatch -k -every place if 0"))
        gdb.go_to("done")
        done = int(gdb.value("reads_done"))
        assert done == 100
        # The kernel copies 8 bytes one by one, or at once.
        traps, count = counted(gdb, number)
        assert traps == done
        assert count in (done, 8 * done)
        assert gdb.list()[number]["hits"] == done


def test_each_stop_names_its_thread(session):
    with session("reading_threads") as gdb:
        gdb.cmd("set args 1 1 2")
        gdb.run_to("ready")
        number_of(gdb.cmd("kwatch -k -every place"))
        gdb.cmd("tbreak done")
        outs = [gdb.cont() for _ in range(5)]
        assert "done ()" in outs[-1]
        for out in outs[:-1]:
            assert re.search(r'Thread [23] "reading_threads": 1 watchpoint hit by the kernel', out)
        traps = gdb.stops()
        assert sorted(trap["thread"] for trap in traps) == [2, 2, 3, 3]
        assert {trap["line"] for trap in traps} == {line("reading_threads.c", "read")}
        assert {trap["function"] for trap in traps} == {"reader"}


def test_one_thread_only(session):
    with session("reading_threads") as gdb:
        gdb.cmd("set args 3 0 2")
        gdb.run_to("ready")
        number = number_of(gdb.cmd("kwatch -k -every place thread 3"))
        # What other threads write is the value before.
        assert [gdb.list()[number][key] for key in ("armed", "threads")] == [4, 4]
        gdb.run_out()
        assert {trap["thread"] for trap in gdb.hits()} == {3}
        assert counted(gdb, number)[0] == 2


def test_a_thousand_threads(session):
    with session("reading_threads") as gdb:
        gdb.cmd("set args 500 500 1", timeout=200)
        gdb.run_to("ready")
        number = number_of(gdb.cmd("kwatch -k -every place if 0"))
        assert gdb.list()[number]["armed"] == 501
        assert left(gdb) == "501 501 True"
        gdb.go_to("done", timeout=240)
        assert counted(gdb, number)[0] == 1000
        gdb.cmd(f"delete {number}")
        assert left(gdb) == "0 0 False"


def test_too_many_threads_for_the_limit_on_files(session):
    with session("reading_threads", before=("prlimit", "--nofile=100:100")) as gdb:
        gdb.cmd("set args 150 0 1")
        gdb.run_to("ready")
        answer = gdb.cmd("kwatch -k place")
        assert "was not set: gdb can open no more files" in answer
        assert "ulimit -n 65536" in answer
        assert gdb.list() == {}
        assert left(gdb) == "0 0 False"


def test_the_parent_after_a_fork(session):
    with session("fork_and_exec") as gdb:
        gdb.cmd("set args fork")
        gdb.run_to("ready")
        gdb.cmd("kwatch -k buf[0]")
        assert "hit by the kernel" in gdb.cont()
        (trap,) = gdb.hits()
        assert trap["hits"][0]["new"] == "112 'p'"


def test_the_child_where_gdb_follows_it(session):
    with session("fork_and_exec") as gdb:
        if gdb.evaluate("int(gdb.VERSION.split('.')[0])") < 13:
            pytest.skip("gdb 10 says nothing of the child before it stops")
        gdb.cmd("set args fork")
        gdb.cmd("set follow-fork-mode child")
        gdb.run_to("ready")
        gdb.cmd("kwatch -k buf[0]")
        out = gdb.cont()
        assert "hit by the kernel" in out, out
        (trap,) = gdb.hits()
        assert trap["hits"][0]["new"] == "99 'c'"


def test_an_exec(session):
    with session("fork_and_exec") as gdb:
        gdb.cmd("set args exec")
        gdb.run_to("ready")
        gdb.cmd("kwatch -k buf[0]")
        assert "hit by the kernel" in gdb.cont()
        out = gdb.cont()
        assert "hit by the kernel" in out, out
        assert [trap["hits"][0]["new"] for trap in gdb.hits()] == ["49 '1'", "50 '2'"]
        assert gdb.run_out() == []


@pytest.fixture
def waiting(program):
    """The fixture, running by itself: it reads a byte from us for each byte it reads itself."""
    process = subprocess.Popen(
        [program("fork_and_exec"), "wait"], stdin=subprocess.PIPE, start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


def test_attach_and_detach(session, waiting):
    with session(None) as gdb:
        answer = gdb.cmd(f"attach {waiting.pid}")
        if "Operation not permitted" in answer:
            pytest.skip("attaching is refused here")
        gdb.cmd("kwatch -k 'fork_and_exec.c'::buf[0]")
        waiting.stdin.write(b"1")
        waiting.stdin.flush()
        assert "hit by the kernel" in gdb.cont()
        assert gdb.stops()[0]["hits"][0]["new"] == "119 'w'"
        gdb.cmd("detach")
        assert left(gdb).startswith("0 0")
        waiting.stdin.write(b"2q")
        waiting.stdin.close()
        assert waiting.wait(timeout=60) == 0


def test_kill_leaves_nothing(session):
    with session("fork_and_exec") as gdb:
        gdb.run_to("ready")
        gdb.cmd("kwatch -k buf[0]")
        gdb.cmd("kill")
        assert left(gdb).startswith("0 0")
        gdb.cmd("delete")
        assert left(gdb) == "0 0 False"


def test_a_watch_on_a_local_ends_with_its_function(session):
    with session("fork_and_exec") as gdb:
        gdb.run_to("take")
        gdb.cmd("kwatch -k ends")
        assert "pipe" in gdb.cont()  # pipe(2) fills it
        gdb.cmd("tbreak _exit")
        out = gdb.cont()
        assert "deleted because the program has left the block" in out, out
        assert left(gdb) == "0 0 False"


# The program's own signals.


def test_a_sigtrap_of_the_programs_own_is_gdbs(session):
    with session("int3") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k buf[0]")
        assert "Program received signal SIGTRAP" in gdb.cont()
        assert gdb.hits() == []
        assert "hit by the kernel" in gdb.cont()
        assert "Program received signal SIGTRAP" in gdb.cont()
        gdb.run_out()


@pytest.mark.parametrize("handle", ["nostop noprint pass", "nostop print nopass", "stop"])
def test_handle_sigtrap_is_as_in_gdb_alone(session, handle):
    said = []
    for kwatch in (False, True):
        with session("raised_sigtrap", kwatch=kwatch) as gdb:
            gdb.run_to("main")
            if kwatch:
                gdb.cmd("kwatch -k *(char *) $sp if 0")
            gdb.cmd(f"handle SIGTRAP {handle}")
            said.append([re.sub(r"process \d+", "process", gdb.cont()) for _ in range(2)])
    assert said[0] == said[1]


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_sigurg_of_the_programs_own_reaches_its_handler(session, when):
    with session("uses_sigurg") as gdb:
        gdb.cmd(f"set args {when}")
        gdb.run_to("ready")
        gdb.cmd("kwatch -k buf[0]")
        gdb.cmd("break middle")
        gdb.cmd("tbreak done")
        outs = [gdb.cont() for _ in range(5)]
        kinds = [
            "middle" if "middle ()" in out else "done" if "done ()" in out else "hit"
            for out in outs
        ]
        assert kinds == ["hit", "middle", "hit", "hit", "done"], gdb.transcript
        assert gdb.value("handled") == "3"
        assert len(gdb.hits()) == 3


@pytest.fixture
def takes_both(tmp_path):
    """A program that handles SIGURG and SIGWINCH itself."""
    source = tmp_path / "both.c"
    source.write_text(
        "#include <signal.h>\nint x; void h(int n) { (void)n; }\n"
        "int main(void)\n{\n  signal(SIGURG, h);\n  signal(SIGWINCH, h);\n  x = 1;\n"
        "  return 0;\n}\n"
    )
    program = tmp_path / "both"
    subprocess.run(["cc", "-g", "-o", program, source], check=True)
    return program


def past_both(gdb):
    gdb.run_to("main")
    for _ in range(2):
        gdb.cmd("next")


def test_where_every_harmless_signal_is_taken_it_is_said(session, takes_both):
    with session(takes_both) as gdb:
        past_both(gdb)
        answer = gdb.cmd("kwatch -k x")
        assert "the program handles SIGURG and SIGWINCH itself" in answer
        assert gdb.list() == {}
        assert left(gdb) == "0 0 False"


def test_where_every_harmless_signal_is_taken_gdb_tests_conditions(session, takes_both):
    with session(takes_both) as gdb:
        past_both(gdb)
        assert gdb.cmd("kwatch x if x == 1").startswith("Hardware watchpoint 2: x")
        (row,) = gdb.list().values()
        assert row["state"] == "installed" and not row["kernel"]
        if filters.why_not() is None:
            assert "the program handles SIGURG and SIGWINCH itself" in row["judged"]
        assert "Hardware watchpoint 2: x" in gdb.cont()


def test_a_store_that_is_stepped_over_a_breakpoint(session):
    """gdb steps a copy of the instruction at the program's entry ("displaced stepping")."""
    with session("stepping") as gdb:
        place = line("stepping.c", "main first")
        gdb.run_to(f"stepping.c:{place}")
        gdb.cmd("kwatch -k -every after")
        gdb.cmd("break *$pc")
        out = gdb.cmd("next")
        assert f"stepping.c:{place}\t" in out and "cannot be told" not in out
        (trap,) = gdb.hits()
        assert (trap["function"], trap["line"]) == ("main", place)


def test_a_signal_that_is_sent_from_outside_is_no_hit(session, waiting):
    with session(None) as gdb:
        if "not permitted" in gdb.cmd(f"attach {waiting.pid}"):
            pytest.skip("attaching is refused here")
        gdb.cmd("kwatch -k 'fork_and_exec.c'::buf[0]")
        os.kill(waiting.pid, signal.SIGURG)
        waiting.stdin.write(b"1")
        waiting.stdin.flush()
        assert "hit by the kernel" in gdb.cont()
        assert len(gdb.hits()) == 1
        gdb.cmd("detach")
