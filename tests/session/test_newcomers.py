"""What a newcomer stumbled over."""

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not() or kernel.why_no_stops()


def test_a_thread_local_kwatch_stays_with_its_thread(session):
    with session("thread_local") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch own") == "Hardware watchpoint 2: -location own\n"
        for name in "abc":
            gdb.cmd(f"kwatch {name}")
        stops = gdb.run_out()
        assert "Could not insert" not in "".join(stops)
        own = [h for t in gdb.hits() for h in t["hits"] if h["number"] == 2]
        assert [(h["old"], h["new"]) for h in own] == [("0", "1"), ("1", "3")]
        others = [h["expression"] for t in gdb.hits() for h in t["hits"] if h["number"] != 2]
        assert others == ["a", "b", "c"]


def test_a_thread_local_native_is_left_to_gdb(session):
    """gdb moves it from thread to thread: a sentinel that stayed behind would take a slot more."""

    def begin(gdb):
        gdb.run_to("main")
        for name in ("own", "a", "b", "c"):
            gdb.cmd(f"watch {name}")
        gdb.cont()
        gdb.cont()
        return gdb.cont()

    with session("thread_local", kwatch=False) as gdb:
        if "Cannot find thread-local storage" in begin(gdb):
            pytest.skip("this gdb by itself loses the variable when a thread ends (10.1)")
    with session("thread_local") as gdb:
        begin(gdb)
        assert "Could not insert" not in "".join(gdb.run_out())
        assert {"a", "b", "c"} <= {h["expression"] for t in gdb.hits() for h in t["hits"]}


@pytest.mark.parametrize("options", ["", "-every "])
def test_silent_commands_of_a_kwatch(session, options):
    """As with `watch`: no block and no frame line, whether or not the value changed."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"kwatch {options}s.a")
        gdb.cmd("commands 2\nsilent\nend")
        assert gdb.cont() == "Continuing.\n"
        assert gdb.hits()[0]["stopped"]
        assert int(gdb.value("s.a")) == 1


def test_size_takes_an_array_for_its_address(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch -size 8 &s").startswith("Hardware watchpoint 2")
    with session("pointer_moves") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch -size 16 a").startswith("Hardware watchpoint 2: -size 16 a")
        assert int(gdb.list()[2]["address"], 16) <= int(gdb.value("(long) &a"))


def test_show_kwatch_lists_the_settings(session):
    with session("simultaneous") as gdb:
        shown = gdb.cmd("show kwatch")
        assert "adopt:" in shown and "history:" in shown and "10000" in shown
        answer = 'Undefined show kwatch command: "histry".  Try "help show kwatch".\n'
        assert gdb.cmd("show kwatch histry") == answer


def test_an_untrapped_change_stands_before_the_trap_after_it(session):
    with session("syscall") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch buf[16]")
        gdb.cmd("kwatch buf[0]")
        gdb.cont()  # buf[0] = 'X'; read(2) has written buf[16] before
        traps = gdb.hits()
        assert [t["origin"] for t in traps] == ["untrapped", "user"]
        assert [t["trap"] for t in traps] == [1, 2]
        assert traps[1]["line"] == line("syscall.c", "a user-mode write")


def test_commands_that_are_traced(session):
    """`set trace-commands on` writes each command before its answer: kwatch reads the answer."""
    with session("simultaneous") as gdb:
        gdb.cmd("set trace-commands on")
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("define hook-stop\necho mine\\n\nend")
        out = gdb.cont()
        block, _, after = out.partition("mine\n")
        assert "+kwatch-internal-hook-stop\n" in block and "Hardware watchpoint 2: s.a" in block
        assert "in both" in after
        assert "Undefined command" not in out
        assert [row["state"] for row in gdb.list().values()] == ["installed"]
        gdb.cmd("delete")
        out = gdb.cmd("continue")
        assert "exited normally" in out and "hook" not in out.replace("kwatch-internal-hook", "")


def test_words_that_who_and_trace_cannot_take(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for command in ("who", "trace"):
            answer = gdb.cmd(f"kwatch {command} s.a -zz")
            assert answer.startswith("Unrecognized option -zz; it takes -a, -k, "), answer
        for word in ("stop", "summary"):
            assert gdb.cmd(f"kwatch trace {word} s.a") == f"Usage: kwatch trace {word}\n"
        assert gdb.cmd("kwatch who s.a - zz") == 'No symbol "zz" in current context.\n'
        usage = gdb.cmd("kwatch who")
        assert usage.startswith("Usage: kwatch who EXPRESSION [-a]")
        assert usage.endswith("\n       kwatch who N\n") and usage.count("\n") == 3
        assert gdb.cmd("kwatch last") == "Usage: kwatch last EXPRESSION\n"


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_one_that_no_thread_has_stands_in_no_slot(session):
    """Also one that perf holds: disabled, or when the program has ended."""
    with session("loop", extra=("-ex", "set args 3"), kernel_conditions=True) as gdb:

        def slots():
            return re.search(r"^2 .*?(\S+) +\d/\d ", gdb.cmd("kwatch list"), re.M).group(1)

        gdb.run_to("main")
        gdb.cmd("kwatch a if a == 2")
        assert slots() == "perf"
        gdb.cmd("disable 2")
        assert slots() == "-"
        gdb.cmd("enable 2")
        assert slots() == "perf"
        gdb.cont()
        gdb.cont()
        assert slots() == "-"
