"""Hardware never becomes software in silence."""

from __future__ import annotations

import re

# One line, kwatch's or gdb's own: gdb 16 and later say `downgraded to software watchpoint`.
WARNING = re.compile(r"^warning: watchpoint (\d+) .*software", re.M)


def test_a_native_on_a_struct_of_48_bytes_set_before_run(session):
    """gdb says "Hardware watchpoint" and single-steps the program later."""
    with session("struct_48") as gdb:
        assert gdb.cmd("watch big").startswith("Hardware watchpoint 1: big\n")
        gdb.run_to("main")
        assert gdb.list()[1]["state"] == "software"
        stops = gdb.run_out()
        assert len(stops) == 2  # gdb's behaviour otherwise
        assert "Watchpoint 1: big" in stops[0]
        assert WARNING.findall(gdb.transcript) == ["1"]
        # What is said must be so: gdb single-steps, it does not fail.
        assert "gdb will fail" not in gdb.transcript


def test_a_native_that_is_software_from_the_start(session):
    """gdb itself says `Watchpoint`, not `Hardware watchpoint`: shown in the list."""
    with session("struct_48") as gdb:
        gdb.run_to("main")
        assert "Watchpoint 2: big\n" in gdb.cmd("watch big")
        assert gdb.list()[2]["state"] == "software"
        assert "software" in gdb.cmd("kwatch list")
        assert len(gdb.run_out()) == 2
        assert len(WARNING.findall(gdb.transcript)) <= 1


def test_a_software_watchpoint_beside_a_hardware_one(session):
    """While gdb single-steps for one, the traps of the other are seen all the same."""
    with session("struct_48") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch big.m[5]")
        gdb.cmd("watch big")
        stops = gdb.run_out()
        assert len(stops) == 2
        traps = [t for t in gdb.stops() if any(h["number"] == 2 for h in t["hits"])]
        assert len(traps) == 1
        assert [h["new"] for t in traps for h in t["hits"] if h["number"] == 2] == ["6"]


def test_can_use_hw_watchpoints_0(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("set can-use-hw-watchpoints 0")
        answer = gdb.cmd("kwatch s.a")
        assert "can-use-hw-watchpoints" in answer
        assert not re.match(r"(Hardware w|W)atchpoint \d", answer)
        assert gdb.cmd("info watchpoints") == "No watchpoints.\n"
        gdb.cmd("set can-use-hw-watchpoints 1")
        assert gdb.cmd("kwatch s.a") == "Hardware watchpoint 2: s.a\n"
        assert len(gdb.run_out()) == 2


def test_can_use_hw_watchpoints_0_for_a_native(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("set can-use-hw-watchpoints 0")
        out = gdb.cmd("watch s.a")
        assert "Watchpoint 2: s.a\n" in out
        assert gdb.list()[2]["state"] == "software"
        said = gdb.cmd("kwatch doctor") + out
        assert "can-use-hw-watchpoints" in said
        assert len(gdb.run_out()) == 2


def test_can_use_hw_watchpoints_0_set_by_another_script_later(session):
    """A kwatch is there already; gdb takes its hardware away when it is next re-evaluated."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.python('import gdb\ngdb.execute("set can-use-hw-watchpoints 0")')
        out = gdb.cmd("disable 2") + gdb.cmd("enable 2")
        assert gdb.cmd("info watchpoints").split()[6:8] == ["2", "watchpoint"]
        assert "can-use-hw-watchpoints" in out + gdb.cmd("kwatch doctor")
        assert gdb.list()[2]["state"] == "software"
        assert WARNING.findall(gdb.transcript) == ["2"]
        assert len(gdb.run_out()) == 2


def test_can_use_hw_watchpoints_0_shows_no_sentinel_of_an_access_watchpoint(session):
    """gdb complains of each access watchpoint by its number when it reads the program again."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("awatch s.a")
        gdb.cmd("set can-use-hw-watchpoints 0")
        gdb.cmd("kill")
        said = gdb.cmd("run")
        assert "Can't set read/access watchpoint when hardware watchpoints are disabled" in said
        assert not re.search(r"breakpoint -\d", gdb.transcript)
        before = len(gdb.stops())  # gdb 10 goes on watching
        assert before == said.count("watchpoint 2: s.a")
        gdb.cmd("kill")
        gdb.cmd("set can-use-hw-watchpoints 1")
        gdb.run_to("main")
        assert len(gdb.run_out()) == 3
        told = [[(h["number"], h["new"]) for h in stop["hits"]] for stop in gdb.stops()[before:]]
        assert told == [[(2, "1")], [(2, "2")], [(2, "2")]]
