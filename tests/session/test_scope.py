"""The life of a watchpoint: a local's block, a library's stay, a run's end."""

from __future__ import annotations

import re

import pytest
from harness import line

GONE = "deleted because the program has left the block in\nwhich its expression is valid."


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_local_goes_out_of_scope(session, command):
    with session("local_scope") as gdb:
        gdb.run_to("function")
        answer = gdb.cmd(f"{command} local")
        assert answer == "Hardware watchpoint 2: local\n"
        gdb.cont()
        out = gdb.cont()
        assert [(h["old"], h["new"]) for t in gdb.hits() for h in t["hits"]][-1] == ("1", "11")
        out = gdb.cont()
        assert re.search(r"atchpoint 2 " + re.escape(GONE), out), out
        assert "in main ()" in out
        # The slot is free, and nothing is left.
        assert gdb.cmd("info watchpoints") == "No watchpoints.\n"
        assert gdb.json("kwatch list") == []
        for place in ("g1", "g2", "g3", "g4"):
            assert gdb.cmd(f"kwatch {place}").startswith("Hardware watchpoint ")
        stops = gdb.run_out()
        assert len(stops) == 3  # g1 is written with the same value
        assert not any("$_kwatch" in stop for stop in stops)


def test_a_local_beside_a_global(session):
    """The slot of the local is free while other watchpoints stay."""
    with session("local_scope") as gdb:
        gdb.run_to("function")
        gdb.cmd("kwatch local")
        gdb.cmd("kwatch g1")
        gdb.cmd("kwatch g2")
        seen = gdb.run_out()
        text = "".join(seen)
        assert text.count(GONE.splitlines()[0]) == 1
        assert text.count("Hardware watchpoint 3: g1") == 1
        assert text.count("Hardware watchpoint 4: g2") == 1


def test_a_local_by_location_outlives_its_block(session):
    with session("local_scope") as gdb:
        gdb.run_to("function")
        assert gdb.cmd("kwatch -l local") == "Hardware watchpoint 2: -location local\n"
        gdb.cont()
        gdb.cont()
        assert [h["new"] for t in gdb.hits() for h in t["hits"]] == ["1", "11"]
        out = gdb.go_to(str(line("local_scope.c", "after return")))
        assert GONE not in out
        assert 2 in gdb.list()


def test_a_recursion_of_the_block(session):
    """Out of scope is gdb's own decision: the second call has its own local, unwatched."""
    with session("local_scope") as gdb:
        gdb.run_to("function")
        gdb.cmd("kwatch local")
        stops = gdb.run_out()
        assert len(stops) == 3
        assert GONE in stops[-1]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_librarys_global_then_unloaded(session, command):
    with session("dlopen_global") as gdb:
        gdb.cmd("break checkpoint")
        gdb.cmd("run")
        answer = gdb.cmd(f"{command} library_global")
        assert answer == "Hardware watchpoint 2: library_global\n"
        gdb.cont()
        (trap,) = gdb.hits()
        assert trap["line"] == line("dlopen_global_library.c", "library store")
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("0", "41")
        gdb.cmd("kwatch place")
        gdb.cont()  # checkpoint(2)
        gdb.cont()  # checkpoint(3): unloaded
        if command == "watch":
            # Left there, bare gdb 13.1 and 16.3 end with a segmentation fault when the program
            # ends: breakpoint_re_set works with what was freed with the library.
            gdb.cmd("delete 2")
        out = gdb.cont()
        assert re.search(r"atchpoint 3: place", out)
        assert gdb.value("after") == "3"
        assert gdb.run_out() == []
        assert not [t for t in gdb.hits()[1:] for h in t["hits"] if h["number"] == 2]


def test_deleted_and_set_again_in_every_order(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        number = 2
        for first, second in (("a", "b"), ("b", "a"), ("a", "a")):
            for i, member in enumerate((first, second)):
                assert gdb.cmd(f"kwatch pair.{member}").startswith(
                    f"Hardware watchpoint {number + i}: "
                )
            gdb.cont()
            assert [h["number"] for h in gdb.hits()[-1]["hits"]] == [number, number + 1]
            gdb.cmd(f"delete {number}")
            gdb.cont()
            assert [h["number"] for h in gdb.hits()[-1]["hits"]] == [number + 1]
            gdb.cmd(f"delete {number + 1}")
            number += 2
        assert gdb.run_out() == []


def test_a_second_run(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.c")
        assert len(gdb.run_out()) == 2
        gdb.run_to("main")
        assert gdb.list()[2]["armed"] in (0, 1)
        assert len(gdb.run_out()) == 2
        assert [[h["number"] for h in t["hits"]] for t in gdb.stops()] == [[2, 3]] * 4


def test_kill_and_detach_leave_a_usable_gdb(session):
    with session("simultaneous") as gdb:
        for ending in ("kill", "detach"):
            gdb.run_to("main")
            gdb.cmd("kwatch s.a")
            gdb.cont()
            gdb.cmd(ending)
            gdb.cmd("kwatch list")
            gdb.cmd("kwatch slots")
            gdb.cmd("delete")


@pytest.mark.parametrize("command", ["watch place[0]", 'kwatch -log "now {new}" place[0]'])
@pytest.mark.parametrize("way", ["exec", "file"])
def test_a_condition_with_a_local_and_another_program(session, program, way, command):
    """gdb itself ends with a segmentation fault: it parses the condition in symbols it freed."""
    with session("churn", extra=("-ex", "set args exec")) as gdb:
        gdb.run_to("local")
        gdb.cmd(f"{command} if n > 1000")
        gdb.cmd("watch place[1] if alpha > 1000")
        out = ""
        if way == "exec":
            gdb.cmd("tbreak main")
            out = gdb.cont()
            assert "is executing new program" in out
        else:
            out = gdb.cmd(f"file {program('simultaneous_static')}")
        assert out.count(": its condition 'n > 1000' named variables of the program") == 1
        table = gdb.cmd("info breakpoints 2")
        assert "n > 1000" not in table
        assert ("stop only if $_hit_counts(2)" in table) == command.startswith("kwatch")
        assert "stop only if alpha > 1000" in gdb.cmd("info breakpoints 3")
        gdb.cmd("condition 2 1 > 2")
        asked = "$_hit_counts(2, (1 > 2))" if command.startswith("kwatch") else "1 > 2"
        assert f"stop only if {asked}\n" in gdb.cmd("info breakpoints 2")
