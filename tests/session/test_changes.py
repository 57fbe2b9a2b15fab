"""`kwatch history` and `kwatch last`: from what was recorded."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()


def rows(out: str) -> list[tuple[str, ...]]:
    return re.findall(r"^\d+\.\d+ +(\d+) +(\S+) +(\S+) +(\S+?)(?: +(\d+) times)?$", out, re.M)


def test_the_changes_of_a_watchpoint_repeats_folded(session):
    with session("who", kernel_conditions=False) as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        assert "No change of shared" in gdb.cmd("kwatch last shared")
        gdb.cmd("kwatch shared if shared == -3")
        gdb.cont()
        place = [f"who.c:{line('who.c', f'writer {n}')}" for n in (1, 2, 3)]
        expected = [
            ("1", place[0], "77", "1", ""),
            ("1", place[1], "1", "-1", ""),
            ("1", place[0], "-1", "2", ""),
            ("1", place[2], "2", "20", ""),
            ("1", place[0], "20", "3", ""),
            ("1", place[1], "3", "-3", ""),
        ]
        assert rows(gdb.cmd("kwatch history 2")) == expected
        assert rows(gdb.cmd("kwatch last shared")) == expected[-1:]
        assert "No hardware watchpoint number 9" in gdb.cmd("kwatch history 9")
        assert "Usage" in gdb.cmd("kwatch history")


def test_what_a_deleted_watchpoint_has_seen_is_known(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch *&s.c")
        gdb.cont()
        gdb.cmd("delete")
        store = f"simultaneous.c:{line('simultaneous.c', 'store')}"
        for place in ("s.a", "s.c", "*&s.a"):
            assert rows(gdb.cmd(f"kwatch last {place}")) == [("1", store, "0", "1", "")], place
        assert "No change of s.b" in gdb.cmd("kwatch last s.b")
        gdb.cmd("kwatch off")
        assert gdb.cmd("kwatch last s.a") == "kwatch is off; 'kwatch on' puts it back.\n"


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_the_changes_of_a_trace(session):
    with session("loop", extra=("-ex", "set args 100")) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch trace a")
        gdb.cmd("break _exit")
        gdb.cont()
        store = "loop.c:6"
        assert rows(gdb.cmd("kwatch last a")) == [("1", store, "99", "100", "")]
        assert "No change of b" in gdb.cmd("kwatch last b")
        gdb.cmd("kwatch a")
        expected = [("1", store, "0", "100", "100")]
        assert rows(gdb.cmd("kwatch history 3")) == expected, "100 writes by one line are one row"


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_what_a_watchpoint_and_a_trace_have_both_seen_is_one_change(session):
    with session("loop", extra=("-ex", "set args 100")) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a")
        gdb.cmd("kwatch trace a")
        for _ in range(3):
            gdb.cont()
        assert rows(gdb.cmd("kwatch history 2")) == [("1", "loop.c:6", "0", "3", "3")]
        gdb.cmd("disable 2")  # the trace goes on alone
        gdb.cmd("break _exit")
        gdb.cont()
        assert rows(gdb.cmd("kwatch history 2")) == [("1", "loop.c:6", "0", "100", "100")]
        assert rows(gdb.cmd("kwatch last a")) == [("1", "loop.c:6", "99", "100", "")]


def test_changes_of_an_earlier_run_are_told_when_asked_for(session):
    with session("loop", extra=("-ex", "set args 100")) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a")
        for _ in range(2):
            gdb.cont()
        gdb.run_to("main")
        assert "2 changes of earlier runs left out (-all)" in gdb.cmd("kwatch history 2")
        assert "No change of a" in gdb.cmd("kwatch last a")
        for _ in range(3):
            gdb.cont()
        out = gdb.cmd("kwatch history 2")
        assert rows(out) == [("1", "loop.c:6", "0", "3", "3")]
        assert "2 changes of earlier runs left out (-all)" in out
        assert rows(gdb.cmd("kwatch last a")) == [("1", "loop.c:6", "2", "3", "")]
        out = gdb.cmd("kwatch history 2 -all")
        found = re.findall(r"^(\S+) +\d+\.\d+ +1 +loop\.c:6 +(\d+) +(\d+) +(\d+) times$", out, re.M)
        assert found == [("-1", "0", "2", "2"), ("this", "0", "3", "3")]
        gdb.cmd("kill")
        assert rows(gdb.cmd("kwatch history 2")) == [("1", "loop.c:6", "0", "3", "3")]


@pytest.mark.parametrize("by", ["kwatch", "kwatch in the kernel", "trace", "stops"])
def test_the_last_change_of_a_part_and_of_the_whole(session, by):
    if REFUSED and by not in ("kwatch", "stops"):
        pytest.skip(REFUSED)
    if by == "stops" and not REFUSED:
        command = "kwatch trace whole if whole.high + 1.0 > 0"
    else:
        command = {"kwatch": "kwatch -log hit whole", "trace": "kwatch trace whole"}.get(by, "")
    with session("parts", kernel_conditions=True) as gdb:
        gdb.run_to("main")
        gdb.cmd("break done")
        for one in [command] if command else [f"kwatch whole if whole.{n}" for n in PARTS]:
            gdb.cmd(one)
        while "Breakpoint" not in gdb.cont():
            pass
        for part, (old, new) in PARTS.items():
            there = f"parts.c:{line('parts.c', part)}"
            assert rows(gdb.cmd(f"kwatch last whole.{part}")) == [("1", there, old, new, "")], part
        assert r"0 '\000'  4 '\004'" in gdb.cmd("kwatch last *(char *) &whole.second")
        assert "{first = 1, second = 4, low = 2, high = 9}" in gdb.cmd("kwatch last whole")


PARTS = {"first": ("0", "1"), "low": ("0", "2"), "high": ("0", "9"), "second": ("0", "4")}


def test_the_last_change_of_the_whole_was_one_of_a_part(session):
    with session("parts") as gdb:
        gdb.run_to("main")
        gdb.cmd("break done")
        gdb.cmd("kwatch whole.second if whole.second == 4")
        gdb.cmd("kwatch whole.low")
        while "Breakpoint" not in gdb.cont():
            pass
        there = f"parts.c:{line('parts.c', 'second')}"
        answer = gdb.cmd("kwatch last whole")
        assert re.search(rf"^\S+ +1 +{there} +whole\.second: 0 +4$", answer, re.M), answer
        assert "No change of whole.high" in gdb.cmd("kwatch last whole.high")


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_the_bits_beside_are_no_change_of_a_traced_one(session):
    with session("parts") as gdb:
        gdb.run_to("main")
        gdb.cmd("break done")
        gdb.cmd("kwatch whole.low if whole.low == 7")
        gdb.cmd("kwatch trace whole.low")
        assert "Breakpoint" in gdb.cont()
        there = f"parts.c:{line('parts.c', 'low')}"
        for asked in ("history 3", "last whole.low"):
            assert rows(gdb.cmd(f"kwatch {asked}")) == [("1", there, "0", "2", "")], asked
