"""What would call a function of the program, or assign, is refused before it is evaluated."""

from __future__ import annotations

import pytest
from harness import line

CALLS = "calls a function of the program"
ASSIGNS = "has side effects (a call or an assignment)"


@pytest.fixture
def begun(session):
    """At the first call of `go`; nothing was called in the program when the test is over."""
    with session("operators") as gdb:
        gdb.run_to("go")
        yield gdb
        assert gdb.value("calls") == "0"
        assert gdb.value("z") == "0"
        assert gdb.value("table.cells[3]") == "0"
        assert gdb.cmd("show may-call-functions").endswith("is on.\n")
        gdb.cmd("delete")
        assert "exited normally" in gdb.cont()


BY_OPERATOR = (
    *("table[3]", "-a table[3]", "-l table[3]", "-every table[3]", "-k table[3]"),
    *("z ? table[3] : table[2]", "numbers[table[3]]", "&table[3]", "(place)()[0]"),
    *("-size 8 &table[3]", "-size 8 (place)()", "-size table[3] &z"),
    *("who table[3]", "who -a table[3]", "who z if table[3] > 5", "who z if z && table[3]"),
    *("who z if table == 5", "trace table[3]", "trace z table[3]", "trace z if table[3]"),
    "last table[3]",
)
BY_ITS_TEXT = (
    *("place()[0]", "-size 8 place()", "-size place() &z", "-size 8 (z = 77, &z)"),
    *("-size 8 &z + z++", "who z if place()", "who z if z = 77", "trace z if z++"),
    *("who place()[0]", "last z = 77"),
)


def test_a_function_behind_an_operator(begun):
    for typed in BY_OPERATOR:
        out = begun.cmd(f"kwatch {typed}")
        assert CALLS in out and "*(TYPE *) ADDRESS" in out, (typed, out)
        assert begun.value("calls") == "0", typed
    assert begun.cmd("info watchpoints") == "No watchpoints.\n"
    assert "There is no trace" in begun.cmd("kwatch trace")


def test_a_call_or_an_assignment(begun):
    for typed in BY_ITS_TEXT:
        out = begun.cmd(f"kwatch {typed}")
        assert ASSIGNS in out and "-location" not in out, (typed, out)
        assert (begun.value("calls"), begun.value("z")) == ("0", "0"), typed
    assert begun.cmd("info watchpoints") == "No watchpoints.\n"
    assert "There is no trace" in begun.cmd("kwatch trace")


@pytest.mark.parametrize("number", ["place()", "table[3]", "z=2", "z++", "1+1", "$z=3", "2-3"])
def test_a_number_of_a_breakpoint_is_a_number(begun, number):
    begun.cmd("kwatch z")
    for command in ("verify", "priority"):
        given = "normal" if command == "priority" else "2"
        answer = f"Bad breakpoint number '{number}'\n"
        assert begun.cmd(f"kwatch {command} {number} {given}") == answer
    begun.cmd("set $mine = 2")
    assert begun.cmd("kwatch verify $mine").startswith("2: z: ")


BY_MACRO = (
    *("NEXT", "PLACE", "-l PLACE", "-size 8 &PLACE", "-size NEXT &place", "who PLACE"),
    *("who place if NEXT", "trace PLACE", "trace place if PLACE > 1", "last NEXT"),
)


def test_what_a_macro_is_counts(session):
    """With `gcc -g3` gdb expands the program's macros."""
    with session("macros") as gdb:
        gdb.run_to(f"macros.c:{line('macros.c', 'begin')}")
        for typed in BY_MACRO:
            out = gdb.cmd(f"kwatch {typed}")
            assert " by a macro, has side effects (a call or an assignment)" in out, (typed, out)
            assert (gdb.value("calls"), gdb.value("counter")) == ("0", "0"), typed
        assert gdb.cmd("kwatch SAME if SAME == TWO").startswith("Hardware watchpoint")
        gdb.cont()
        assert (gdb.value("SAME"), gdb.hits()[-1]["hits"][0]["new"]) == ("2", "2")


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_macro_in_a_condition_is_what_it_is_at_each_hit(session, in_kernel):
    with session("macros", kernel_conditions=in_kernel) as gdb:
        gdb.run_to(f"macros.c:{line('macros.c', 'begin')}")
        gdb.cmd("kwatch place if place > MOST")
        gdb.cont()
        assert gdb.value("place") == "7"


def test_ada_calls_without_brackets(session, program):
    with session(program("language_ada")) as gdb:
        gdb.run_to("language_ada.change")
        gdb.cmd("up")
        assert CALLS in gdb.cmd("kwatch twice")
        assert CALLS in gdb.cmd("kwatch who total if twice > 3")
        assert gdb.value("total") == "0"


def test_no_name_of_code_is_called(begun):
    """`place()` is the function's name with its parameters, as `break` takes it."""
    assert begun.cmd("kwatch -from place() z") == "Hardware watchpoint 2: z\n"
    for typed in ("-from place()+1 z", "who z -from *place()", "trace z -not-from (*place)()"):
        assert "is no function" in begun.cmd(f"kwatch {typed}")


def test_before_there_is_a_process(session):
    with session("operators") as gdb:
        assert CALLS in gdb.cmd("kwatch table[3]")
        assert gdb.cmd("info watchpoints") == "No watchpoints.\n"


def test_what_gdb_is_not_allowed_stays_so(session):
    with session("operators") as gdb:
        gdb.cmd("set may-call-functions off")
        gdb.run_to("go")
        assert CALLS in gdb.cmd("kwatch table[3]")
        assert gdb.cmd("kwatch z").startswith("Hardware watchpoint")
        assert gdb.cmd("show may-call-functions").endswith("is off.\n")


def test_an_xmethod_calls_nothing(begun):
    if "vector" not in begun.cmd("info xmethod"):
        pytest.skip("this gdb has no xmethods of libstdc++")
    assert begun.cmd("kwatch -l numbers[3]").startswith("Hardware watchpoint 2: ")
    assert "Hardware watchpoint 3: " in begun.cmd("kwatch -l numbers[0]")
    assert [row["state"] for row in begun.list().values()] == ["installed"] * 2


def test_conditions_of_a_kwatch_stay_gdbs(begun):
    """gdb tests them at each hit, as those of its own; to set them calls nothing."""
    assert begun.cmd("kwatch z if table[3] == 5").startswith("Hardware watchpoint")
    assert begun.cmd("kwatch z if place()").startswith("Hardware watchpoint")
    assert begun.value("calls") == "0"
