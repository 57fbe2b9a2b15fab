"""Hits that come without their mark in DR6, as virtual machines may lose it: counted, no stop."""

from __future__ import annotations

import json
import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
LOST = 3
WRITES = 200 + LOST  # one in the handler for each

pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


@pytest.fixture
def begun(session):
    with session("lost_trap") as gdb:
        gdb.run_to(f"lost_trap.c:{line('lost_trap.c', 'begin')}")
        gdb.cmd(f"break lost_trap.c:{line('lost_trap.c', 'end')}")
        yield gdb


def goes_on_to_the_end(gdb) -> None:
    """The next stop is the program's own int1, then the breakpoint."""
    out = gdb.cont()
    assert out.count("the program goes on") == LOST
    assert out.rstrip().endswith("/* after int1 */")
    assert out.count("received signal SIGTRAP") == LOST + 1
    assert gdb.value("own") == "1"
    assert f"{line('lost_trap.c', 'end')}\t" in gdb.cont()


@pytest.mark.parametrize("way", ["bpf", "ring"])
def test_a_trace_counts_them_and_goes_on(begun, way):
    if way == "ring":
        begun.python(
            "from gdb_kwatch.linux import filters\n"
            "filters.why_not = lambda kernel_too=False: 'BPF: refused for this test'\n"
        )
    begun.cmd("kwatch trace place")
    goes_on_to_the_end(begun)
    total = WRITES + LOST
    out = begun.cmd("kwatch trace summary")
    assert f"{total} hits, {total} recorded, lost 0" in out
    by_line = dict(re.findall(r"^lost_trap.c:(\d+) +(\d+)", out, re.M))
    assert by_line == {
        str(line("lost_trap.c", "write")): "200",
        str(line("lost_trap.c", "hit in the handler")): str(LOST),
        str(line("lost_trap.c", "lost")): str(LOST),
    }
    if way == "bpf":
        shown = begun.cmd(f"kwatch trace show -line {line('lost_trap.c', 'lost')}")
        assert re.findall(r"lost +place +(\d+) +(\w+)$", shown, re.M) == [("5", "same")] * LOST


def test_who_counts_them_and_goes_on(begun):
    out = begun.cmd("kwatch who place -json")
    assert begun.value("own") == "1", "it ran to the program's own trap"
    rows = json.loads(re.search(r"^\[\{.*\]$", out, re.M | re.S).group(0))
    assert {row["line"]: row["hits"] for row in rows} == {
        line("lost_trap.c", "write"): 200,
        line("lost_trap.c", "hit in the handler"): LOST,
        line("lost_trap.c", "lost"): LOST,
    }
    lost = next(row for row in rows if row["function"] == "lost")
    assert (lost["threads"], lost["first_new"], lost["certain"]) == ({"1": LOST}, "5", True)


def test_a_step_that_gdb_gave_up_stays_where_it_is(begun):
    """`next` over a call: gdb has forgotten where it was to end."""
    begun.cmd("kwatch trace place")
    begun.cmd("next")
    out = begun.cmd("next")
    assert "no signal of the program's; it is counted" in out
    assert "goes on" not in out
    assert "lost ()" in out
    assert "102 hits, 102 recorded, lost 0" in begun.cmd("kwatch trace")


def test_signals_of_the_program_s_are_its_own(begun):
    """Another place is watched: nobody claims the traps."""
    begun.cmd("kwatch trace own")
    for _ in range(LOST):
        out = begun.cont()
        assert "received signal SIGTRAP" in out
        assert "kwatch:" not in out, "the bare word may be in a path"
