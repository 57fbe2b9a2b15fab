"""kwatch -log, -do, -from and -not-from."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()


def test_a_message_for_each_hit_and_no_stop(session):
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{expression} {old}->{new} by {thread} at {line} in {function}" a')
        out = gdb.cont()
        expected = [f"a {n}->{n + 1} by 1 at loop.c:6 in hit" for n in range(10)]
        assert re.findall(r"^a \d.*$", out, re.M) == expected
        assert "exited normally" in out
        assert "$_hit_counts(2)" in gdb.cmd("kwatch list")


def test_a_message_where_a_condition_holds(session):
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{new}" a if a % 4 == 0')
        assert re.findall(r"^(\d+)$", gdb.cont(), re.M) == ["4", "8"]


@pytest.mark.parametrize("in_kernel", [True, False])
def test_commands_at_a_hit_and_on(session, in_kernel):
    if in_kernel and REFUSED:
        pytest.skip(REFUSED)
    with session("loop", extra=("-ex", "set args 10"), kernel_conditions=in_kernel) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -do "bt 1; printf \\"a is %ld\\\\n\\", a" a if a % 5 == 0')
        out = gdb.cont()
        if "exited normally" not in out:
            out += gdb.cmd("echo")
        assert out.count("#0 ") == 2
        assert re.findall(r"^a is (\d+)$", out, re.M) == ["5", "10"]


@pytest.mark.parametrize("in_kernel", [True, False])
def test_expected_writers_left_out(session, in_kernel):
    if in_kernel and REFUSED:
        pytest.skip(REFUSED)
    with session("who", kernel_conditions=in_kernel) as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd("kwatch -not-from first -not-from third shared")
        gdb.cmd("kwatch -from libwho shared if shared == 7")
        if in_kernel:
            assert {row["judged"] for row in gdb.list().values()} == {"in kernel"}
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "second"
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "second"
        gdb.cmd("delete 2")
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "write_through"
        assert gdb.value("shared") == "7"


def test_what_cannot_be_had(session):
    with session("loop") as gdb:
        gdb.run_to("main")
        assert "there is no {nothing}" in gdb.cmd('kwatch -log "{nothing}" a')
        assert "-log:" in gdb.cmd('kwatch -log "{" a')
        assert "is no function" in gdb.cmd("kwatch -from nothing_like_it a")
        assert "-log requires" in gdb.cmd("kwatch -log")
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


def test_commands_of_one_for_one_stop_and_another_language(session):
    """gdb deletes it after the stop event, with its commands still to come: another one then gets
    its slots, and gdb is told nothing that would run them before their time."""
    with session("churn") as gdb:
        gdb.run_to("poke")
        gdb.cmd('kwatch -t -do "bt 1" *heap + beta')
        assert "waits for a slot" in gdb.cmd("kwatch -r s.a + s.b if 0")
        gdb.cmd("tbreak poke")
        gdb.cmd("set language rust")
        out = gdb.cont()
        assert out.count("Hardware watchpoint 2: *heap + beta") == 1
        if "Temporary breakpoint 4, poke" not in out:
            out += gdb.cmd("echo")
        assert out.count("#0  ") == 1, out
        assert "Temporary breakpoint 4, poke" in out
        assert {n: row["state"] for n, row in gdb.list().items()} == {3: "installed"}
