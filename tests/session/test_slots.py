"""Slots: who holds them, what waits, and what really stands in the registers."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters

REFUSED = filters.why_not()
WAITS = "kwatch {} waits for a slot: it needs {} of 4, {} free.\n"


def fill(gdb, command="kwatch", members="abcd"):
    for member in members:
        assert gdb.cmd(f"{command} s.{member}").startswith("Hardware watchpoint ")


@pytest.mark.parametrize("holder", ["kwatch", "watch", "awatch"])
def test_a_kwatch_too_many_waits_and_it_is_told_at_once(session, holder):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abcd":
            assert "watchpoint" in gdb.cmd(f"{holder} s.{member}")
        answer = gdb.cmd("kwatch other")
        assert WAITS.format(6, 1, 0) in answer, answer
        for number, member in enumerate("abcd", 2):  # who holds them
            assert re.search(rf"\b{number}: s\.{member}\b", answer), answer
        assert "delete" in answer or "disable" in answer  # what would free one
        assert gdb.list()[6]["state"] == "waiting"
        # Nothing is broken by it.
        assert gdb.run_out(10)


def test_more_than_there_are_is_refused_and_nothing_is_set(session):
    with session("struct_48") as gdb:
        gdb.run_to("main")
        before = gdb.cmd("info breakpoints")
        answer = gdb.cmd("kwatch big")
        assert answer.startswith("No hardware slot free for kwatch big: it needs 6 of 4"), answer
        assert gdb.cmd("info breakpoints") == before


def test_one_is_installed_after_delete_and_after_disable(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb)
        gdb.cont()
        gdb.cmd("kwatch other")
        assert gdb.cmd("delete 3") == "kwatch 6 installed\n"
        assert "waits for a slot" in gdb.cmd("kwatch s.b")
        assert gdb.cmd("disable 4") == "kwatch 7 installed\n"
        assert gdb.run_out()
        assert {hit["number"] for hit in gdb.hits()[-1]["hits"]} == {6}


@pytest.mark.parametrize("holder", ["kwatch", "watch"])
def test_of_several_that_are_disabled_none_is_installed(session, holder):
    """It would come and go."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb, holder)
        assert f"{holder} 6 waits for a slot" in gdb.cmd(f"{holder} other")
        assert gdb.cmd("disable") == ""
        assert {row["state"] for row in gdb.list().values()} == {"disabled"}
        assert f"{holder} 6 waits for a slot" in gdb.cmd("enable")
        assert gdb.cmd("disable 2 3 4 5 6") == ""
        gdb.cmd("enable")
        assert gdb.cmd("disable 2 3") == f"{holder} 6 installed\n"
        gdb.cmd("enable 3")
        assert gdb.cmd("enable 2").startswith(f"{holder} 2 waits for a slot")
        assert gdb.cmd("disable 6 3") == f"{holder} 2 installed\n"
        assert len(gdb.run_out()) == 2


def test_enabling_one_too_many_is_told(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb)
        gdb.cmd("disable 2")
        gdb.cmd("kwatch other")
        assert WAITS.format(2, 1, 0) in gdb.cmd("enable 2")


def test_a_native_that_is_left_alone_gets_a_warning_at_once(session):
    """With adopt off kwatch may not switch it: gdb's behaviour, which is to fail at resume."""
    with session("simultaneous") as gdb:
        gdb.cmd("set kwatch adopt off")
        gdb.run_to("main")
        fill(gdb, "watch")
        out = gdb.cmd("watch other")
        assert "Hardware watchpoint 6: other\n" in out
        assert re.search(r"^warning: watchpoint 6 needs 1 of 4", out, re.M), out
        assert "Could not insert hardware" in gdb.cont()
        gdb.cmd("delete 6")
        assert gdb.run_out()


def test_a_native_that_waits_is_on_again_when_it_is_left_alone(session):
    """Nobody else would turn it on: it was listed as installed, and stood nowhere."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb, "watch")
        assert WAITS.format(6, 1, 0).replace("kwatch", "watch") in gdb.cmd("watch other")
        out = gdb.cmd("set kwatch adopt off")
        assert re.search(r"^warning: watchpoint 6 needs 1 of 4", out, re.M), out
        assert "Could not insert hardware watchpoint" in gdb.cont()
        gdb.cmd("delete 2")
        gdb.cmd("stepi")
        assert gdb.list()[6]["armed"] == 1
        assert "NOT in the registers" not in gdb.cmd("kwatch verify")
        gdb.cmd("set kwatch adopt on")
        assert gdb.list()[6]["state"] == "installed"


def test_one_that_waits_and_then_needs_more_slots_than_there_are_is_software(session):
    """Nobody would turn it on again: it was listed as installed, and watched nothing."""
    with session("churn") as gdb:
        gdb.run_to("main")
        gdb.cmd("set var heap = (int *) &wide")
        for place in ("alpha", "beta", "place[0]", "place[1]"):
            gdb.cmd(f"watch {place}")
        assert "kwatch 6 waits for a slot" in gdb.cmd("kwatch *(char (*)[16]) heap")
        gdb.cmd("set var heap = (int *) &buffer[1]")  # 16 bytes from an odd address: five slots
        gdb.cmd("stepi")
        assert gdb.list()[6]["state"] == "software"
        gdb.cmd("set var buffer[3] = 9")
        # Where gdb takes the user's own writes for no hits: at what calloc gives.
        assert "Watchpoint 6: *(char (*)[16]) heap\n" in gdb.cont()


def test_hardware_breakpoints_hold_slots(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("hbreak both")
        fill(gdb, members="abc")
        answer = gdb.cmd("kwatch s.d")
        assert WAITS.format(6, 1, 0) in answer, answer
        assert re.search(r"reakpoint 2\b", answer)
        assert gdb.list()[2]["kind"] == "hbreak"


def test_a_hardware_breakpoint_takes_no_slot_where_its_condition_means_nothing(session):
    """gdb disables that location by itself (gdb 11), and enables it with another condition."""
    with session("overloads") as gdb:
        gdb.run_to("main")
        gdb.cmd("hbreak go")
        if "disabling" not in gdb.cmd("condition 2 n > 1"):
            return  # gdb 10 refuses such a condition
        for condition, places in (("n > 1", 1), ("x != 0", 2)):
            gdb.cmd(f"condition 2 {condition}")
            assert "Breakpoint 2" in gdb.cont()
            slots = gdb.json("kwatch slots")[0]["slots"]
            assert [slot["owners"] for slot in slots] == [[2]] * places + [[]] * (4 - places)
            assert "until the program is resumed" not in gdb.cmd("kwatch slots")


def test_a_hardware_breakpoint_displaces_a_kwatch(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb)
        out = gdb.cmd("hbreak both")
        assert "Hardware assisted breakpoint 6 at " in out
        assert "kwatch 5 (normal) gave up its slot to hbreak 6\n" in out
        assert "Breakpoint 6, both" in gdb.cont()


def test_a_hardware_breakpoint_too_many_waits(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb, "watch")
        out = gdb.cmd("hbreak both")
        # gdb answers with an error of its own in some cases; one of gdb 10 cannot be switched, so
        # a watchpoint gives way.
        assert (
            "Hardware assisted breakpoint" not in out
            or "hbreak 6 waits for a slot" in out
            or "watch 5 (native) gave up its slot to hbreak 6" in out
        )


def test_sharing_costs_no_slot(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        fill(gdb)
        assert gdb.cmd("kwatch s.a").startswith("Hardware watchpoint 6: ")
        assert gdb.cmd("kwatch s.a if 0").startswith("Hardware watchpoint 7: ")
        # Another access is another slot.
        assert WAITS.format(8, 1, 0) in gdb.cmd("kwatch -a s.a")
        assert len(gdb.run_out()) == 2
        assert [h["number"] for h in gdb.hits()[0]["hits"]] == [2, 3, 4, 5, 6, 7]


def test_before_run_the_four_are_counted_as_well(session):
    with session("simultaneous") as gdb:
        fill(gdb)
        assert WAITS.format(5, 1, 0) in gdb.cmd("kwatch other")


def test_kwatch_slots(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("awatch s.b")
        gdb.cmd("kwatch -size 4 &s.c")
        gdb.cmd("watch s.a")
        gdb.cont()
        (thread,) = gdb.json("kwatch slots")
        assert (thread["inferior"], thread["thread"]) == (1, 1)
        assert thread["lwp"] == gdb.evaluate("gdb.selected_thread().ptid[1]")
        used = [slot for slot in thread["slots"] if slot["enabled"]]
        assert [slot["slot"] for slot in thread["slots"]] == [0, 1, 2, 3]
        a = int(gdb.value("(long) &s.a"))
        found = {
            (int(s["address"], 16), s["size"], s["access"]): sorted(
                o["number"] if isinstance(o, dict) else o for o in s["owners"]
            )
            for s in used
        }
        assert found == {
            (a, 8, "write"): [2, 5],
            (a + 8, 8, "access"): [3],
            (a + 16, 4, "write"): [4],
        }
        text = gdb.cmd("kwatch slots")
        for word in ("DR0", "DR1", "DR2", "DR3", "DR6", "DR7", "free", "s.a", "s.b"):
            assert word in text


def test_kwatch_slots_of_each_thread(session):
    with session("four_threads") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place[1]")
        gdb.cont()
        threads = gdb.json("kwatch slots")
        assert {t["thread"] for t in threads} >= {1, 3}
        for thread in threads:
            assert [s["enabled"] for s in thread["slots"]] == [True, False, False, False]


def test_verify(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.d")
        gdb.cont()
        said = gdb.cmd("kwatch verify")
        assert re.search(
            r"2: s\.a.*armed on 1 of 1 threads?, DR\d, 8 bytes, write; 1 hit since set", said
        )
        assert re.search(r"3: s\.d.*armed on 1 of 1 threads?", said)
        assert "canary" in said
        one = gdb.cmd("kwatch verify 3")
        assert "s.d" in one and "s.a" not in one


def test_verify_tells_a_watchpoint_that_is_not_armed(session):
    """Evidence must be able to fail: registers changed behind gdb's back are found."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cont()
        gdb.python(
            "import ctypes, gdb\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,"
            " ctypes.c_void_p]\n"
            "DR7 = 848 + 8 * 7  # offsetof(struct user, u_debugreg[7])\n"
            "libc.ptrace(6, gdb.selected_thread().ptid[1], DR7, 0)\n"
        )
        assert "armed on 0 of 1 thread" in gdb.cmd("kwatch verify 2")
        assert gdb.list()[2]["armed"] == 0


def test_verify_of_a_disabled_one(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("disable 2")
        gdb.go_to("both")
        said = gdb.cmd("kwatch verify 2")
        assert "disabled" in said or "armed on 0 of 1" in said


def test_slots_of_deleted_watchpoints_are_gdbs_until_the_next_resume(session):
    """gdb writes the debug registers when it resumes a thread."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch s.a")
        gdb.cmd("watch s.b")
        gdb.cont()
        gdb.cmd("delete 2")
        gdb.cmd("disable 3")
        out = gdb.cmd("kwatch slots")
        assert out.count("gdb's, until the next resume") == 2 and "not gdb's" not in out
        gdb.cmd("stepi")
        assert "gdb's" not in gdb.cmd("kwatch slots")


def test_several_lengths_at_one_place_give_their_slots_back(session):
    """gdb counts a slot twice, and frees it once, where its order of locations is a mixed one."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for size in (1, 8, 4):
            gdb.cmd(f"watch *(char (*)[{size}]) &s.a")
        gdb.cmd("watch s.b")  # blamed: the others are missed by gdb
        gdb.cont()
        gdb.cont()
        gdb.cmd("delete")
        gdb.cmd("stepi")
        held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        assert held == []


@pytest.mark.parametrize("last", ["first", "second"])
def test_a_piece_of_an_unaligned_one_gives_its_slot_back(session, last):
    """gdb's own location is as long as the whole, and stands between two of the piece's length."""
    with session("overlapping") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch *(int *) &u.byte[3]")
        gdb.cmd("kwatch u.byte[3]")
        stop = gdb.cont()
        assert "2 watchpoints hit by one instruction" in stop
        gdb.cmd("delete 3" if last == "first" else "delete 2")
        gdb.cmd("stepi")
        held = [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        assert [len(slot["owners"]) for slot in held] == [1] * (3 if last == "first" else 1)
        gdb.cmd("delete")
        gdb.cmd("stepi")
        assert not [s for s in gdb.json("kwatch slots")[0]["slots"] if s["enabled"]]
        gdb.cont()


def test_an_unaligned_one_and_its_pieces_are_all_told(session):
    with session("overlapping") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch *(int *) &u.byte[3]")
        gdb.cmd("kwatch u.byte[3]")
        gdb.cmd("watch u.byte[6]")
        gdb.run_out()
        marks = ["whole store", "upper half", "upper byte"]
        stops = gdb.stops()
        assert [t["line"] for t in stops] == [line("overlapping.c", mark) for mark in marks]
        assert [[h["number"] for h in t["hits"]] for t in stops] == [[2, 3, 4], [2, 4], [2, 4]]


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_one_that_needs_all_four_waits_behind_a_trace(session):
    """Its pointers may move, and beside perf it should have one more than it needs."""
    with session("churn") as gdb:
        gdb.run_to("poke")
        gdb.cmd("kwatch trace buffer[3]")
        answer = gdb.cmd("rwatch at->next->next->key")
        assert "rwatch 2 waits for a slot: it needs 4 of 4, 3 free." in answer
        gdb.go_to("local")
        assert "rwatch 2 installed" in gdb.cmd("kwatch trace stop")
        gdb.cmd("stepi")
        assert "Couldn't" not in gdb.transcript
