"""Conditions of `kwatch who` and `kwatch trace`: the same accesses count, whoever tests them."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
ALL = 560  # accesses of fixtures/who.c before its memset: one of 8 bytes stores twice in glibc 2.31


@pytest.fixture(params=["kernel", "stops"])
def begun(session, request):
    """A gdb on fixtures/who.c before its loop, with a breakpoint where no more are counted."""
    if request.param == "kernel" and REFUSED:
        pytest.skip(REFUSED)
    with session("who") as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd("break copied")
        if request.param == "stops":
            gdb.python(
                "from gdb_kwatch.linux import filters\n"
                "filters.why_not = lambda kernel_too=False: 'refused for this test'\n"
            )
        yield gdb


def counted(gdb, command: str, condition: str, place: str = "shared") -> tuple[int, str]:
    """How many accesses count, and what is said."""
    if command == "who":
        out = gdb.cmd(f"kwatch who {place} if {condition}")
        found = re.search(r"^(\d+) hits? in ", out, re.M)
        return int(found.group(1)) if found else 0, out
    gdb.cmd(f"kwatch trace {place} if {condition}")
    gdb.cmd("continue")
    out = gdb.cmd("kwatch trace summary")
    found = re.search(r" (\d+) recorded", out)
    assert found, out
    return int(found.group(1)), out


@pytest.mark.parametrize("command", ["who", "trace"])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [("$new == -$old", 50), ("$new - $old == 5", 300), ("$_thread == 2", 300)],
)
def test_each_has_the_same_answer(begun, command, condition, expected):
    number, out = counted(begun, command, condition)
    assert number == expected, out


@pytest.mark.parametrize("command", ["who", "trace"])
def test_the_users_own_old_and_new_stay(begun, command):
    begun.cmd("set $old = 12")
    counted(begun, command, "$new == -$old")
    assert begun.cmd("print $old") == "$1 = 12\n"
    assert begun.cmd("print $new") == "$2 = void\n"


@pytest.mark.parametrize("command", ["who", "trace"])
@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("*(long *) 0 == 1", "Cannot access memory"),
        ("shared / (shared - shared) == 1", "Division by zero"),
    ],
)
def test_what_cannot_be_tested_is_counted_and_said(begun, command, condition, why):
    number, out = counted(begun, command, condition)
    assert number == ALL
    assert re.search(rf"could not be tested at ({ALL}|some) of them, .*: {why}", out), out


@pytest.mark.parametrize("command", ["who", "trace"])
@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("shared % == 0", "A syntax error"),
        ("(", "A syntax error"),
        ("nothing_like_it == 1", 'No symbol "nothing_like_it" in current context.'),
        ("first(1)", "has side effects"),
        ('shared == "abc"', "use $_streq"),
    ],
)
def test_what_is_no_condition_is_refused(begun, command, condition, why):
    out = begun.cmd(f"kwatch {command} shared if {condition}")
    assert why in out, out
    assert "hits" not in out
    assert "There is no trace" in begun.cmd("kwatch trace")


def test_nothing_that_counts_is_not_nothing(begun):
    number, out = counted(begun, "who", "shared == 123456")
    assert number == 0
    assert re.search(
        rf"^No access to shared counted in [\d.]+ s: {ALL} others were left out\.$", out, re.M
    ), out


@pytest.mark.parametrize("command", ["who", "trace"])
@pytest.mark.parametrize(
    ("condition", "true"),
    [("level > 3", 0), ("big[x * 3] == 1", 1), ("table[x * 7] == 9", 1), ("x > level", 100)],
)
def test_memory_that_is_not_there_yet(session, command, condition, true):
    """BPF reads no page that the program has not touched: they are brought in before."""
    with session("memory_not_there") as gdb:
        gdb.run_to("main")
        number, out = counted(gdb, command, condition, "x")
        assert number == true, out
        assert "could not be tested" not in out
