"""Programs in other languages, of other kinds, and without any symbols."""

from __future__ import annotations

import pytest


def stops(gdb, count):
    """The next ``count`` stops, each by one instruction: (expression, old, new)."""
    found = []
    for _ in range(count):
        out = gdb.cont()
        assert "hit by one instruction" in out, out
        hit = gdb.stops()[-1]["hits"][0]
        found.append((hit["expression"], hit["old"], hit["new"]))
    return found


def test_cpp_members_templates_and_an_element_of_a_vector(session):
    with session("language_cpp") as gdb:
        gdb.run_to("change")
        assert gdb.cmd("kwatch -l room.area").startswith("Hardware watchpoint ")
        assert gdb.cmd("kwatch Counter<long>::count").startswith("Hardware watchpoint ")
        gdb.cmd("up")
        for place in ("counter.own", "room.seats._M_impl._M_start[1]"):
            assert gdb.cmd(f"kwatch -l {place}").startswith("Hardware watchpoint "), place
        gdb.cmd("down")
        found = stops(gdb, 4)
        assert [(old, new) for _, old, new in found] == [
            ("1", "2"),
            ("20", "21"),
            ("0", "5"),
            ("0", "5"),
        ]
        assert stops(gdb, 1)[0][1:] == ("2", "3")


def test_a_cpp_reference_by_its_name(session):
    """`watch` on a reference watches the pointer behind it; kwatch what it refers to."""
    with session("language_cpp") as gdb:
        gdb.run_to("main")
        gdb.cmd("python gdb.execute('tbreak change')")
        gdb.cont()
        gdb.cmd("up")
        answer = gdb.cmd("kwatch room.area")
        assert answer.startswith("Hardware watchpoint ")
        assert stops(gdb, 1) == [("room.area", "1", "2")]


def test_fortran(session):
    with session("language_fortran") as gdb:
        gdb.run_to("change")
        assert gdb.cmd("kwatch total").endswith("total\n")
        assert gdb.cmd("kwatch rooms(2)").endswith("rooms(2)\n")
        assert stops(gdb, 3) == [("total", "0", "5"), ("rooms(2)", "0", "7"), ("total", "5", "11")]
        assert gdb.cmd("kwatch -size 8 &total").startswith("Hardware watchpoint")


def test_ada(session):
    with session("language_ada") as gdb:
        gdb.run_to("language_ada.change")
        gdb.cmd("kwatch total")
        gdb.cmd("kwatch house.doors if house.doors = 6")
        assert stops(gdb, 3) == [
            ("total", "0", "5"),
            ("total", "5", "11"),
            ("house.doors", "5", "6"),
        ]


def test_rust(session):
    with session("language_rust", extra=("-iex", "set auto-load python-scripts off")) as gdb:
        gdb.run_to("language_rust::change")
        gdb.cmd("kwatch language_rust::TOTAL")
        gdb.cmd("kwatch -l room.doors if language_rust::TOTAL > 5")
        # gdb 10 cannot subscript a slice.
        slices = gdb.cmd("kwatch -l seats[1]").startswith("Hardware watchpoint")
        total, seats = "language_rust::TOTAL", "-location seats[1]"
        assert stops(gdb, 4 if slices else 3) == [
            (total, "0", "5"),
            *([(seats, "20", "5")] if slices else []),
            (total, "5", "11"),
            ("-location room.doors", "5", "6"),
        ]


def test_a_slice_of_rust_by_its_name(session):
    """gdb watches what is inside the slice too, which cannot be told from outside."""
    with session("language_rust", extra=("-iex", "set auto-load python-scripts off")) as gdb:
        gdb.run_to("language_rust::change")
        if gdb.evaluate("int(gdb.VERSION.split('.')[0])") < 13:
            pytest.skip("this gdb does not tell where it watches")
        answer = gdb.cmd("kwatch seats[1]")
        if not answer.startswith("Hardware"):
            assert "'kwatch -location seats[1]'" in answer
            assert gdb.cmd("info watchpoints") == "No watchpoints.\n"


def test_go(session):
    with session("language_go") as gdb:
        gdb.run_to("main.change")
        gdb.cmd("kwatch 'main.Total'")
        gdb.cmd("kwatch 'main.House'.Doors")
        total, doors = "'main.Total'", "'main.House'.Doors"
        assert stops(gdb, 4) == [
            (total, "0", "5"),
            (doors, "0", "5"),
            (total, "5", "11"),
            (doors, "5", "6"),
        ]


def test_assembly_without_symbols(session):
    with session("language_assembly") as gdb:
        gdb.cmd("starti")
        gdb.cmd("stepi")
        assert gdb.cmd("kwatch -size 8 $rdi") == "Hardware watchpoint 1: -size 8 $rdi\n"
        assert stops(gdb, 2) == [("-size 8 $rdi", "0", "1"), ("-size 8 $rdi", "1", "2")]
        assert gdb.stops()[0]["instruction"].startswith("movq   $0x1,(%rdi)")


@pytest.mark.parametrize("kind", ["32bit", "musl"])
def test_other_programs(session, kind):
    """Of 32 bits, and static on another C library: one trap, both told, every time."""
    with session(f"condition_not_blamed_{kind}") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("watch pair.b if pair.b == -3")
        assert len(gdb.run_out()) == 6
        told = [[(h["old"], h["new"]) for h in trap["hits"]] for trap in gdb.hits()]
        assert told == [[(str(n), str(n + 1)), (str(-n), str(-n - 1))] for n in range(6)]


@pytest.mark.parametrize("how", ["enable count 2 2", "disable 2\nenable delete 2"])
def test_what_is_enabled_in_another_language_stays_where_it_was(session, how):
    """gdb parses it in the current language then, in which its name may be another variable's."""
    with session("two_cases") as gdb:
        gdb.run_to("add")
        gdb.cmd("kwatch Total")
        gdb.cmd("set language fortran")
        for command in how.split("\n"):
            assert "Cannot enable" not in gdb.cmd(command)
        shown = gdb.cmd("info breakpoints")
        assert ("disable after next 2 hits" in shown) == ("count" in how)
        gdb.cmd("set language auto")
        gdb.cmd("stepi")
        held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        assert [s["address"] for s in held] == [gdb.list()[2]["address"]]
        gdb.cont()
        assert gdb.stops()[-1]["hits"][0]["expression"] == "Total"


def test_a_watchpoint_keeps_the_language_it_was_set_in(session):
    """gdb parses each again in the language it was set in, whatever the current one is; only
    enabling takes the current one ("Cannot enable watchpoint 2: unexpected token")."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for command in ("watch *(long *) &s.a", "kwatch s.b + 0", "watch s.c"):
            gdb.cmd(command)
        gdb.cmd("set language rust")
        assert "3 watchpoints hit" in gdb.cont()
        gdb.run_to("both")
        assert {row["state"] for n, row in gdb.list().items() if n < 5} == {"installed"}
        assert "3 watchpoints hit" in gdb.cont()
        assert "kwatch 3 (normal) gave up" not in gdb.transcript
        assert "Cannot enable" not in gdb.transcript
        gdb.cmd("set language auto")
        assert [(h["old"], h["new"]) for h in gdb.stops()[-1]["hits"]] == [
            ("0", "1"),
            ("0", "0"),
            ("0", "1"),
        ]
