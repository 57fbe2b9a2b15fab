"""Watched regions and values of every size, type and alignment."""

from __future__ import annotations

import re

import pytest
from harness import line


def test_an_unaligned_long_over_two_slots_is_reported_once(session):
    with session("unaligned_two_slots") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch u.v") == "Hardware watchpoint 2: u.v\n"
        out = gdb.cont()
        assert out.count("Hardware watchpoint 2: u.v") == 1
        assert "1 watchpoint hit by one instruction" in out
        assert re.search(r"DR0, ?DR1", out)
        assert len(gdb.run_out()) == 1
        both, upper = gdb.hits()
        assert [len(trap["hits"]) for trap in (both, upper)] == [1, 1]
        assert both["hits"][0]["slots"] == [0, 1]
        assert both["dr6"] & 15 == 3
        assert both["hits"][0]["size"] == 8
        assert both["hits"][0]["new"] == str(0x1111111122222222)
        assert upper["dr6"] & 15 == 2
        assert upper["hits"][0]["new"] == str(0x0000000322222222)
        assert upper["line"] == line("unaligned_two_slots.c", "upper piece only")


def test_an_odd_address_takes_all_four_slots(session):
    with session("unaligned_odd") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch u.v") == "Hardware watchpoint 2: u.v\n"
        answer = gdb.cmd("kwatch after")
        assert "kwatch 3 waits for a slot: it needs 1 of 4, 0 free.\n" in answer
        assert "2" in gdb.cmd("kwatch list")
        assert len(gdb.run_out()) == 2
        whole, tail = gdb.hits()
        assert whole["dr6"] & 15 == 15
        assert tail["dr6"] & 15 == 8
        assert [t["hits"][0]["new"] for t in (whole, tail)] == [
            str(0x1122334455667788),
            str(0x0122334455667788),
        ]


def test_a_struct_of_24_bytes(session):
    with session("struct_24") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch t") == "Hardware watchpoint 2: t\n"
        assert gdb.list()[2]["size"] == 24
        gdb.cont()
        assert gdb.list()[2]["slots"] == [0, 1, 2]
        assert len(gdb.run_out()) == 2
        traps = gdb.hits()
        assert [trap["stopped"] for trap in traps] == [True, True, False, True]
        assert [trap["hits"][0]["new"] for trap in traps] == [
            "{x = 1, y = 0, z = 0}",
            "{x = 1, y = 0, z = 3}",
            "{x = 1, y = 0, z = 3}",
            "{x = 7, y = 8, z = 3}",
        ]
        assert [trap["line"] for trap in traps] == [
            line("struct_24.c", mark)
            for mark in ("store x", "store z", "rewrites y", "both stored")
        ]


def test_members_of_a_struct_natively_and_the_struct_as_a_kwatch(session):
    """The members' slots are the struct's: five watchpoints' places in three slots."""
    with session("struct_24") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch t")
        gdb.cmd("watch t.x")
        gdb.cmd("watch t.z")
        (thread,) = gdb.json("kwatch slots")
        gdb.cont()
        (thread,) = gdb.json("kwatch slots")
        assert len([slot for slot in thread["slots"] if slot["enabled"]]) == 3
        gdb.run_out()
        traps = gdb.hits()
        assert [[h["number"] for h in trap["hits"]] for trap in traps] == [
            [2, 3],
            [2, 4],
            [2],
            [2, 3],
        ]


def test_a_struct_of_48_bytes_is_refused(session):
    with session("struct_48") as gdb:
        for moment in ("before run", "running"):
            answer = gdb.cmd("kwatch big")
            assert re.match("No hardware slot free for kwatch big: it needs 6 of 4[,:] ", answer), (
                moment,
                answer,
            )
            assert gdb.cmd("info watchpoints") == "No watchpoints.\n"
            assert gdb.json("kwatch list") == []
            gdb.run_to("main")
        gdb.cmd("kwatch big.m[5]")
        assert len(gdb.run_out()) == 1


# What is watched, its value before and after, as gdb prints them.
VALUES = [
    ("c", "0 '\\000'", "120 'x'"),
    ("flag", "false", "true"),
    ("sh", "0", "-2"),
    ("f", "0", "1.5"),
    ("d", "0", "2.25"),
    ("colour", "RED", "BLUE"),
    ("bits.high", "0", "9"),
    ("bits", "{low = 0, high = 0, rest = 0}", "{low = 0, high = 9, rest = 0}"),
    ("text", "0x0", '0x[0-9a-f]+ "hello"'),
    ("array", "{0, 0, 0, 0}", "{0, 0, 7, 0}"),
    ("array[2]", "0", "7"),
    ("point", "{x = 0, y = 0}", "{x = 0, y = 3}"),
    ("ld", "0", "3.5"),
    ("wide", "0", "(0x)?1267650600228229401496703205376|0x10000000000000000000000000"),
    ("vector", "{0, 0, 0, 0, 0, 0, 0, 0}", "{1, 2, 3, 4, 5, 6, 7, 8}"),
    ("unaligned.v", "0", "77"),
    ("function", "(void (* volatile)(void)) 0x0", r"\(.*\) 0x[0-9a-f]+ <nothing>"),
]


def test_values_of_every_type_print_as_gdb_prints_them(session):
    with session("types") as gdb:
        gdb.run_to("main")
        last = "before"
        for place, old, new in VALUES:
            gdb.cmd("delete")
            if last not in place:  # members and their whole are written by one store
                last = re.split(r"[.\[]", place)[0]
            else:
                gdb.run_to("main")
            before = gdb.value(place)
            answer = gdb.cmd(f"kwatch {place}")
            number = int(re.match(r"Hardware watchpoint (\d+): ", answer).group(1))
            gdb.cont()
            # Some values are written by more than one instruction.
            while gdb.value(place) != before and not gdb.json("kwatch hits")[-1]["hits"]:
                gdb.cont()
            hit = gdb.hits()[-1]["hits"][0]
            assert hit["number"] == number
            assert hit["expression"] == place
            if place != "bits.high":  # sizeof() is that of its type; its byte is watched
                assert hit["size"] == int(gdb.value(f"sizeof({place})"))
            assert hit["old"] == before, place
            assert hit["new"] == gdb.value(place), place
            assert re.fullmatch(re.escape(old), hit["old"]), place
            if place not in ("wide",):
                assert re.fullmatch(new, hit["new"]) or hit["new"] == new, place
            gdb.cmd("delete")


def test_a_bitfield_beside_the_watched_one_does_not_stop(session):
    with session("types") as gdb:
        gdb.run_to("main")
        assert gdb.cmd("kwatch bits.low") == "Hardware watchpoint 2: bits.low\n"
        assert gdb.run_out() == []
        traps = gdb.hits()
        assert traps  # its byte was written
        assert [h["changed"] for t in traps for h in t["hits"]] == [False] * len(traps)


def test_gdbs_print_limits_hold(session):
    with session("types") as gdb:
        gdb.run_to("main")
        gdb.cmd("set print elements 2")
        gdb.cmd("kwatch array")
        out = gdb.cont()
        hit = gdb.hits()[-1]["hits"][0]
        assert hit["new"] == gdb.value("array") == "{0, 0...}"
        assert hit["changed"]
        assert "{0, 0...}" in out


def test_more_bytes_than_the_four_slots_hold(session):
    with session("types") as gdb:
        gdb.run_to("main")
        answer = gdb.cmd("kwatch many")
        assert re.match(r"No hardware slot free for kwatch many: it needs 2[56] of 4[,:] ", answer)


PRINTER = """
import gdb
class PointPrinter:
    def __init__(self, value):
        self.value = value
    def to_string(self):
        return "Point<%d, %d>" % (int(self.value["x"]), int(self.value["y"]))
def lookup(value):
    return PointPrinter(value) if str(value.type.strip_typedefs()) == "geometry::Point" else None
gdb.pretty_printers.append(lookup)
"""


@pytest.mark.parametrize("place", ["geometry::origin", "same", "*&geometry::origin"])
def test_a_cpp_object_with_a_pretty_printer(session, place):
    with session("cpp_class") as gdb:
        gdb.python(PRINTER)
        gdb.run_to("main")
        assert gdb.cmd(f"kwatch {place}") == f"Hardware watchpoint 2: {place}\n"
        out = gdb.cont()
        (trap,) = gdb.hits()
        (hit,) = trap["hits"]
        assert "Point<0, 0>" in hit["old"] and "Point<3, 0>" in hit["new"]
        assert "Point<3, 0>" in out
        assert trap["line"] == line("cpp_class.cc", "move")
        assert "geometry::Point::move" in trap["function"]


def test_a_member_of_this(session):
    with session("cpp_class") as gdb:
        gdb.run_to("main")
        gdb.cmd("break geometry::Point::move")
        gdb.cont()
        assert gdb.cmd("kwatch -l x") == "Hardware watchpoint 3: -location x\n"
        gdb.cont()
        (trap,) = gdb.hits()
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("0", "3")


@pytest.mark.parametrize(
    "language", ["c", "c++", "rust", "ada", "fortran", "pascal", "modula-2", "d", "go", "asm"]
)
def test_raw_addresses_need_no_cast_in_any_language(session, language):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        a = int(gdb.value("(long) &s.a"))
        gdb.cmd(f"set language {language}")
        gdb.cmd("set print max-depth 20")
        if language == "go" and gdb.evaluate("int(gdb.VERSION.split('.')[0])") < 16:
            pytest.skip("gdb before 16 parses no function call in Go")
        if "verflow" in gdb.cmd(f"output {a}"):
            pytest.skip("gdb's parser of this language takes no number of this size")
        for place, size in ((a, 8), (a + 16, 4), (a + 9, 1)):
            answer = gdb.cmd(f"kwatch -size {size} {place}")
            assert answer.startswith("Hardware watchpoint "), answer
        gdb.cmd("set language auto")
        assert len(gdb.run_out()) == 2
        first = gdb.stops()[0]
        assert [hit["size"] for hit in first["hits"]] == [8, 4, 1]
        assert [hit["changed"] for hit in first["hits"]] == [True, True, False]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32])
def test_raw_addresses_of_any_size(session, size):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        answer = gdb.cmd(f"kwatch -size {size} &s.a")
        assert answer.startswith("Hardware watchpoint 2: "), answer
        assert gdb.list()[2]["size"] == size
        gdb.cont()
        (trap,) = gdb.hits()
        assert len(trap["hits"]) == 1
        assert trap["hits"][0]["size"] == size
        assert trap["hits"][0]["changed"]
