"""One instruction hits several watchpoints: all are reported, judged and kept right."""

from __future__ import annotations

import re

import pytest
from harness import line

STORE = line("simultaneous.c", "store")


def numbers(trap):
    return [hit["number"] for hit in trap["hits"]]


def values(trap):
    return {hit["number"]: (hit["old"], hit["new"]) for hit in trap["hits"]}


def set_on(gdb, command, *places):
    for place in places:
        answer = gdb.cmd(f"{command} {place}")
        assert re.match(rf"Hardware watchpoint \d+: {re.escape(place)}\n", answer), answer


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_one_vector_store_over_watched_longs(session, command):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        set_on(gdb, command, "s.a", "s.b", "s.c")
        stops = gdb.run_out()
        assert len(stops) == 2
        first, second = gdb.stops()
        for trap in (first, second):
            assert numbers(trap) == [2, 3, 4]
            assert [hit["changed"] for hit in trap["hits"]] == [True, False, True]
            assert [hit["stop"] for hit in trap["hits"]] == [True, False, True]
            assert [hit["slots"] for hit in trap["hits"]] == [[0], [1], [2]]
            assert [hit["seen_by"] for hit in trap["hits"]] == ["dr6"] * 3
            assert trap["dr6"] & 15 == 7
            assert trap["line"] == STORE
            assert trap["function"] == "both"
            assert trap["file"].endswith("simultaneous.c")
            assert "mov" in trap["instruction"]
            assert trap["origin"] == "user"
            assert trap["thread"] == 1
        assert values(first) == {2: ("0", "1"), 3: ("0", "0"), 4: ("0", "1")}
        assert values(second) == {2: ("1", "2"), 3: ("0", "0"), 4: ("1", "2")}
        third = gdb.hits()[2]  # nothing changed: the program went on, and it is kept all the same
        assert numbers(third) == [2, 3, 4]
        assert not third["stopped"]


def test_gdb_alone_reports_one_of_the_three(session):
    with session("simultaneous", kwatch=False) as gdb:
        gdb.run_to("main")
        set_on(gdb, "watch", "s.a", "s.b", "s.c")
        stops = gdb.run_out()
        assert len(stops) == 2
        for stop in stops:
            assert re.findall(r"atchpoint (\d)", stop) == ["4"]


def test_the_block(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "s.a", "s.b", "s.c")
        out = gdb.cont()
        block = re.search(
            r"^\n3 watchpoints hit by one instruction\n"
            r"Watchpoint +Slot +Access +Old value +New value *\n"
            r"Hardware watchpoint 2: s\.a +DR0 +write +0 +1 *\n"
            r"Hardware watchpoint 3: s\.b +DR1 +write +0 +unchanged *\n"
            r"Hardware watchpoint 4: s\.c +DR2 +write +0 +1 +\(blamed by gdb\) *\n"
            rf"(?:\S*/)?simultaneous\.c:{STORE}\t  \*\(volatile v4 \*\)&s\.a = x;.*\n"
            r"0x[0-9a-f]+ <both\+\d+>:\t.*mov.*\n",
            out,
            re.M,
        )
        assert block, out
        # Then gdb's own frame and source line, once; and nothing of gdb's own report.
        rest = out[block.end() :]
        assert re.search(rf"^(0x[0-9a-f]+ in )?both \(v=.*\) at .*:{STORE + 1}\n", rest, re.M), out
        assert "Old value =" not in out
        assert "\x1b" not in out


def test_no_escapes_on_a_dumb_terminal(session):
    """gdb 18 styles its own frame line there when it is told to; kwatch's block stays plain."""
    with session("simultaneous") as gdb:  # TERM=dumb
        gdb.cmd("set style enabled on")
        gdb.run_to("main")
        set_on(gdb, "kwatch", "s.a", "s.c")
        out = gdb.cont()
        block = out[: out.index("<both+")]
        assert "hit by one instruction" in block
        said = [gdb.cmd(f"kwatch {x}") for x in ("list", "slots", "hits", "verify", "doctor")]
        assert "\x1b" not in block + "".join(said)


def test_one_watchpoint_hit_is_one_row(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "s.c")
        out = gdb.cont()
        assert "\n1 watchpoint hit by one instruction\n" in out
        assert "Hardware watchpoint 2: s.c" in out
        assert numbers(gdb.hits()[0]) == [2]


def test_all_four_longs(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "s.a", "s.b", "s.c", "s.d")
        assert len(gdb.run_out()) == 2
        for trap in gdb.hits():
            assert numbers(trap) == [2, 3, 4, 5]
            assert trap["dr6"] & 15 == 15
        assert {n: e["hits"] for n, e in gdb.list().items()} == {2: 3, 3: 3, 4: 3, 5: 3}


def test_every_write_of_the_same_value_too(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abc":
            answer = gdb.cmd(f"kwatch -every s.{member}")
            assert re.match(rf"Hardware watchpoint \d: s\.{member}\n", answer), answer
        assert len(gdb.run_out()) == 3
        traps = gdb.stops()
        assert [numbers(trap) for trap in traps] == [[2, 3, 4]] * 3
        assert [hit["stop"] for trap in traps for hit in trap["hits"]] == [True] * 9
        assert [hit["changed"] for hit in traps[2]["hits"]] == [False] * 3


def test_every_alone_stops_where_only_it_was_hit(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -every s.b")  # b never changes
        assert len(gdb.run_out()) == 3
        assert [values(trap) for trap in gdb.stops()] == [{2: ("0", "0")}] * 3


@pytest.mark.parametrize("first,second", [("kwatch", "watch"), ("watch", "kwatch")])
def test_a_kwatch_and_a_native_in_one_trap(session, first, second):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        set_on(gdb, first, "s.a")
        set_on(gdb, second, "s.c")
        stops = gdb.run_out()
        assert len(stops) == 2
        assert [values(trap) for trap in gdb.stops()] == [
            {2: ("0", "1"), 3: ("0", "1")},
            {2: ("1", "2"), 3: ("1", "2")},
        ]
        for stop in stops:
            assert "2 watchpoints hit by one instruction" in stop


def test_first_changes_and_the_blamed_one_is_rewritten(session):
    """gdb blames pair.b, sees no change, and lets the change of pair.a go by."""
    after = "output after"
    with session("blamed_unchanged", kwatch=False) as gdb:
        gdb.run_to("main")
        set_on(gdb, "watch", "pair.a", "pair.b")
        out = gdb.cont()
        assert gdb.cmd(after).strip() == "1"  # the first store is long past
        assert "Hardware watchpoint 3: pair.b" in out
        assert "pair.a" not in out
    for command in ("kwatch", "watch"):
        with session("blamed_unchanged") as gdb:
            gdb.run_to("main")
            set_on(gdb, command, "pair.a", "pair.b")
            out = gdb.cont()
            assert gdb.cmd(after).strip() == "0"
            assert "Hardware watchpoint 2: pair.a" in out
            out = gdb.cont()
            assert gdb.cmd(after).strip() == "1"
            assert len(gdb.run_out()) == 0
            traps = gdb.hits()
            assert [trap["stopped"] for trap in traps] == [True, True, False]
            assert values(traps[0]) == {2: ("0", "1"), 3: ("0", "0")}
            assert values(traps[1]) == {2: ("1", "2"), 3: ("0", "5")}
            assert {t["line"] for t in traps} == {line("blamed_unchanged.c", "store")}


def test_a_stale_old_value_of_a_missed_native_is_mended(session):
    """After a missed hit gdb itself would print the value of two changes ago as the old one."""
    with session("disabled_changes", kwatch=False) as gdb:
        gdb.run_to("main")
        set_on(gdb, "watch", "pair.a", "pair.b")
        gdb.cont()  # blames b: a's change 0 -> 1 is missed
        gdb.cmd("delete 3")
        out = gdb.cont()
        assert "Old value = 0\nNew value = 2\n" in out  # wrong: it was 1
    with session("disabled_changes") as gdb:
        gdb.run_to("main")
        set_on(gdb, "watch", "pair.a", "pair.b")
        gdb.cont()
        gdb.cmd("delete 3")
        out = gdb.cont()
        assert "Old value = 1\nNew value = 2\n" in out
        assert values(gdb.hits()[1]) == {2: ("1", "2")}


def test_memcpy_over_four_ints(session):
    places = [f"to[{i}]" for i in range(4)]
    with session("memcpy_four_ints", kwatch=False) as gdb:
        gdb.run_to("main")
        set_on(gdb, "watch", *places)
        assert [re.findall(r"atchpoint (\d)", stop) for stop in gdb.run_out()] == [["5"]]
    with session("memcpy_four_ints") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", *places)
        assert len(gdb.run_out()) == 1
        (trap,) = gdb.hits()
        assert values(trap) == {2: ("11", "11"), 3: ("0", "22"), 4: ("0", "33"), 5: ("0", "44")}
        assert [hit["size"] for hit in trap["hits"]] == [4] * 4
        assert trap["line"] == line("memcpy_four_ints.c", "copy")


@pytest.mark.parametrize(
    "first,second", [("kwatch", "kwatch"), ("watch", "watch"), ("kwatch", "watch")]
)
def test_one_place_watched_twice_is_one_slot(session, first, second):
    with session("same_place_twice") as gdb:
        gdb.run_to("main")
        set_on(gdb, first, "place")
        set_on(gdb, second, "place")
        out = gdb.cont()
        assert "Hardware watchpoint 2: place" in out
        assert "Hardware watchpoint 3: place" in out
        (trap,) = gdb.hits()
        assert values(trap) == {2: ("0", "7"), 3: ("0", "7")}
        assert [hit["slots"] for hit in trap["hits"]] == [[0], [0]]
        (thread,) = gdb.json("kwatch slots")
        used = [slot for slot in thread["slots"] if slot["enabled"]]
        assert len(used) == 1
        assert len(used[0]["owners"]) == 2
        assert len(gdb.run_out()) == 1
        assert [trap["stopped"] for trap in gdb.hits()] == [True, False, True]


def test_one_of_two_on_one_place_is_deleted(session):
    with session("same_place_twice") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "place", "place")
        gdb.cont()
        gdb.cmd("delete 2")
        gdb.cont()
        assert values(gdb.stops()[-1]) == {3: ("7", "9")}


def test_overlapping_ranges_of_different_size(session):
    with session("overlapping") as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "u.whole", "u.half[1]", "u.byte[6]")
        stops = gdb.run_out()
        assert len(stops) == 4
        traps = gdb.stops()
        assert [numbers(trap) for trap in traps] == [[2, 3, 4], [2, 3, 4], [2], [2, 3, 4]]
        assert [hit["slots"] for hit in traps[0]["hits"]] == [[0], [1], [2]]
        for stop in stops:  # the block is the whole report
            assert "Old value =" not in stop
        assert [hit["size"] for hit in traps[0]["hits"]] == [8, 4, 1]
        assert [trap["line"] for trap in traps] == [
            line("overlapping.c", mark)
            for mark in ("whole store", "upper half", "lowest byte", "upper byte")
        ]
        whole = [0, 0x0102030405060708, 0x0000000105060708, 0x0000000105060709]
        whole.append(whole[-1] + (5 << 48))
        for trap, old, new in zip(traps, whole, whole[1:]):
            assert values(trap)[2] == (str(old), str(new))
        assert values(traps[3])[3] == ("1", str(1 + (5 << 16)))
        assert values(traps[3])[4] == ("0 '\\000'", "5 '\\005'")


def test_watch_and_awatch_on_one_place(session):
    with session("watch_and_awatch") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("watch place") == "Hardware watchpoint 2: place\n"
        assert gdb.cmd("awatch place") == "Hardware access (read/write) watchpoint 3: place\n"
        stops = gdb.run_out()
        traps = gdb.stops()
        marks = ("load", "store", "store")
        assert [t["line"] for t in traps] == [line("watch_and_awatch.c", m) for m in marks]
        assert len(stops) == 3
        load, change, rewrite = traps
        assert numbers(load) == [3]
        assert values(change) == {2: ("1", "2"), 3: ("1", "2")}
        assert values(rewrite) == {2: ("2", "2"), 3: ("2", "2")}
        assert [hit["stop"] for hit in rewrite["hits"]] == [False, True]


def test_kwatch_and_access_kwatch_on_one_place(session):
    with session("watch_and_awatch") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch place") == "Hardware watchpoint 2: place\n"
        assert gdb.cmd("kwatch -a place") == "Hardware access (read/write) watchpoint 3: place\n"
        out = gdb.cont()
        assert "1 watchpoint hit by one instruction" in out
        assert re.search(r"Hardware access \(read/write\) watchpoint 3: place +DR\d +access", out)
        stops = gdb.run_out()
        assert len(stops) == 2
        assert [numbers(trap) for trap in gdb.stops()] == [[3], [2, 3], [2, 3]]


def test_a_read_kwatch(session):
    """x86 has no read-only watchpoint: gdb tells a read from a write by the value."""
    with session("watch_and_awatch", kwatch=False) as gdb:
        gdb.run_to("main")
        gdb.cmd("rwatch place")
        expected = len(gdb.run_out())
    with session("watch_and_awatch") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch -r place") == "Hardware read watchpoint 2: place\n"
        assert len(gdb.run_out()) == expected
        assert gdb.stops()[0]["line"] == line("watch_and_awatch.c", "load")


@pytest.mark.parametrize("name", ["store_64_bytes", "movdir64b"])
def test_a_store_of_64_bytes(session, name):
    with session(name) as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "wide.m[0]", "wide.m[3]", "wide.m[7]")
        assert len(gdb.run_out()) == 1
        (trap,) = gdb.hits()
        assert values(trap) == {2: ("0", "1"), 3: ("0", "2"), 4: ("0", "3")}
        assert trap["line"] == line(f"{name}.c", "store")


@pytest.mark.parametrize(
    "name", ["simultaneous_static", "simultaneous_static_pie", "simultaneous_no_pie"]
)
def test_static_programs(session, name):
    with session(name) as gdb:
        gdb.run_to("main")
        set_on(gdb, "kwatch", "s.a", "s.c")
        assert len(gdb.run_out()) == 2
        assert [numbers(trap) for trap in gdb.stops()] == [[2, 3]] * 2
        assert gdb.stops()[0]["line"] == STORE


def test_a_stripped_program(session, program):
    with session("simultaneous_no_pie", kwatch=False) as gdb:
        a, store = (int(gdb.value(f"(long) {x}")) for x in ("&s.a", "&both"))
        main = int(gdb.value("(long) &main"))
    with session("simultaneous_stripped") as gdb:
        gdb.cmd(f"break *{main:#x}")
        gdb.cmd("run")
        assert gdb.cmd(f"kwatch -size 8 {a:#x}").startswith("Hardware watchpoint 2: ")
        assert gdb.cmd(f"kwatch -size 8 {a + 16:#x}").startswith("Hardware watchpoint 3: ")
        assert len(gdb.run_out()) == 2
        first, second = gdb.stops()
        assert values(first) == {2: ("0", "1"), 3: ("0", "1")}
        assert values(second) == {2: ("1", "2"), 3: ("1", "2")}
        assert [hit["address"] for hit in first["hits"]] == [hex(a), hex(a + 16)]
        assert not first.get("line") and not first.get("file")
        assert store < int(first["pc"], 16) < store + 64


@pytest.mark.parametrize("early", [False, True])
def test_loaded_before_or_after_the_program(session, early):
    with session("simultaneous", early=early) as gdb:
        set_on(gdb, "kwatch", "s.a")
        set_on(gdb, "watch", "s.c")
        gdb.cmd("run")
        assert len(gdb.run_out()) == 1
        assert [numbers(trap) for trap in gdb.stops()] == [[1, 2]] * 2
