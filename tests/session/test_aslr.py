"""Address-space randomisation and addresses that died with their run."""

from __future__ import annotations

import re

import pytest


def randomised(gdb):
    gdb.cmd("set disable-randomization off")


def addresses(traps, number):
    return [h["address"] for t in traps for h in t["hits"] if h["number"] == number]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_three_runs_of_a_position_independent_program(session, command):
    with session("pie_heap") as gdb:
        randomised(gdb)
        answer = gdb.cmd(f"{command} g")
        assert answer == "Hardware watchpoint 1: g\n"
        for run in range(1, 4):
            gdb.cmd("tbreak main")
            gdb.cmd("run")
            out = gdb.cont()
            assert "Hardware watchpoint 1: g" in out
            assert gdb.run_out() == []
            assert len(gdb.stops()) == run
        hits = [t["hits"][0] for t in gdb.stops()]
        assert [(h["old"], h["new"]) for h in hits] == [("0", "1")] * 3
        assert len(set(addresses(gdb.stops(), 1))) > 1  # the runs were at different places


def test_two_places_of_one_trap_over_three_runs(session):
    with session("simultaneous") as gdb:
        randomised(gdb)
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.b")
        gdb.cmd("watch s.c")
        for _ in range(3):
            gdb.cmd("run")
            assert len(gdb.run_out()) == 1
        assert [[h["number"] for h in t["hits"]] for t in gdb.stops()] == [[1, 2, 3]] * 6


def test_gdb_alone_watches_a_dead_address_in_silence(session):
    with session("pie_heap", kwatch=False) as gdb:
        randomised(gdb)
        gdb.cmd("watch -l g")
        gdb.cmd("run")
        assert "exited normally" in gdb.transcript
        assert "New value" not in gdb.transcript


def test_location_of_a_global_set_before_run(session):
    """A kwatch with -location on a symbol is bound again by evaluating it."""
    with session("pie_heap") as gdb:
        randomised(gdb)
        assert gdb.cmd("kwatch -l g") == "Hardware watchpoint 1: -location g\n"
        for run in range(1, 4):
            out = gdb.cmd("run")
            assert "Hardware watchpoint" in out, out
            assert gdb.run_out() == []
            assert len(gdb.stops()) == run
        assert {(t["hits"][0]["old"], t["hits"][0]["new"]) for t in gdb.stops()} == {("0", "1")}


def test_location_of_a_global_over_two_runs(session):
    with session("pie_heap") as gdb:
        randomised(gdb)
        gdb.run_to("main")
        assert gdb.cmd("kwatch -l g").endswith("-location g\n")
        assert len(gdb.run_out()) == 1
        gdb.run_to("main")
        assert len(gdb.run_out()) == 1
        assert len(gdb.stops()) == 2
        first, second = (t["hits"][0] for t in gdb.stops())
        assert (second["old"], second["new"]) == (first["old"], first["new"]) == ("0", "1")


def test_gdbs_own_stay_at_the_address_of_the_last_run(session):
    """Without ASLR the same object is there again: nothing may be said to be never hit."""
    with session("pie_heap") as gdb:
        gdb.run_to("15")
        gdb.cmd("watch -l *heap")
        gdb.cmd("run")
        assert gdb.transcript.count("gdb goes on watching that address, whatever is there now") == 1
        assert "Hardware watchpoint 2: -location *heap" in gdb.cont() + gdb.transcript


def test_location_on_the_heap_of_the_last_run_is_told_once(session):
    with session("pie_heap") as gdb:
        randomised(gdb)
        gdb.run_to("15")
        assert gdb.cmd("kwatch -l *heap") == "Hardware watchpoint 2: -location *heap\n"
        assert len(gdb.run_out()) == 1
        gdb.cmd("break 15")
        started = len(gdb.transcript)
        gdb.cmd("run")
        assert "heap store" in gdb.transcript[started:]
        entry = gdb.list()[2]
        assert entry["state"] == "address expired"
        assert entry["slots"] == []
        # Its slot is free: four others fit.
        for place in ("g", "after", "heap", "*heap"):
            assert gdb.cmd(f"kwatch {place}").startswith("Hardware watchpoint "), place
        gdb.run_out()
        assert len(re.findall(r"expired", gdb.transcript[started:])) == 1
        # And no stop of a stale address.
        assert addresses(gdb.stops()[1:], 2) == []


def test_a_native_at_a_dead_address_gets_one_warning_line(session):
    with session("pie_heap") as gdb:
        randomised(gdb)
        gdb.cmd("watch -l g")
        gdb.cmd("tbreak main")
        out = gdb.cmd("run")
        gdb.run_out()
        warnings = [x for x in gdb.transcript.splitlines() if x.startswith("warning: watchpoint 1")]
        assert len(warnings) == 1, out


def test_a_native_over_two_runs_gets_one_warning_line(session):
    with session("pie_heap") as gdb:
        randomised(gdb)
        gdb.run_to("main")
        gdb.cmd("watch -l g")
        gdb.run_out()
        assert "warning: watchpoint" not in gdb.transcript
        gdb.run_to("main")
        gdb.run_out()
        warnings = [x for x in gdb.transcript.splitlines() if x.startswith("warning: watchpoint 2")]
        assert len(warnings) == 1


def test_a_raw_address_before_and_over_runs(session):
    """Without randomisation a raw address of the program stays what it is."""
    with session("simultaneous_no_pie") as gdb:
        a = gdb.value("(long) &s.a")
        assert gdb.cmd(f"kwatch -size 8 {a}").startswith("Hardware watchpoint 1: ")
        for _ in range(2):
            gdb.cmd("run")
            assert len(gdb.run_out()) == 1
        assert len(gdb.stops()) == 4


def test_a_place_by_its_size_set_before_run_follows_the_program(session):
    with session("pie_heap") as gdb:
        gdb.cmd("kwatch -size 8 &g")
        for _ in range(2):
            gdb.run_to("main")
            row = gdb.list()[1]
            assert (row["state"], row["armed"]) == ("installed", 1)
            assert row["address"] == hex(int(gdb.value("(long) &g")))
            assert "armed on 1 of 1 thread" in gdb.cmd("kwatch verify 1")
            assert "-size 8 &g" in gdb.cmd("kwatch slots")
            assert "-size 8 &g" in gdb.cont()
            gdb.cmd("kill")


def test_a_raw_address_where_the_process_has_no_memory_expires(session):
    with session("pie_heap") as gdb:
        gdb.cmd("kwatch -size 8 (char *) 0x4000")
        gdb.cmd("tbreak main")
        out = gdb.cmd("run")
        assert "address expired: -size 8 (char *) 0x4000 is at 0x4000, where this process" in out
        row = gdb.list()[1]
        assert (row["state"], row["armed"], row["slots"]) == ("address expired", 0, [])
        assert "address expired, in no register" in gdb.cmd("kwatch verify 1")
        assert "0x4000" not in gdb.cmd("kwatch slots")


def test_several_at_one_place_set_before_run_move_together(session):
    """The program is relocated, and each follows: none loses its slot on the way."""
    with session("simultaneous") as gdb:
        for words in ("s.a", "-l s.a", "-l s.b", "s.c", "-size 8 &s.a", "-a s.a"):
            gdb.cmd(f"kwatch {words}")
        out = gdb.cmd("run")
        assert "6 watchpoints hit by one instruction" in out
        assert "gave up" not in out and "installed" not in out
        assert {row["state"] for row in gdb.list().values()} == {"installed"}
