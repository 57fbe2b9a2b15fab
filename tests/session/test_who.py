"""`kwatch who`: the same rows, exact, from the kernel and by stops."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
NOBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")

# line marks of fixtures/who.c, function and hits of each writer
WRITERS = {
    ("who.c", "writer 1"): ("first", 100, ["1"]),
    ("who.c", "writer 2"): ("second", 50, ["1"]),
    ("who.c", "writer 3"): ("second", 50, ["1"]),
    ("who.c", "writer 4"): ("third", 300, ["2"]),
    ("who_library.c", "writer 5"): ("write_through", 60, ["1"]),
}


@pytest.fixture(params=["kernel", "stops"])
def way(request):
    if request.param == "kernel" and REFUSED:
        pytest.skip(REFUSED)
    return request.param


def without_rights(gdb) -> None:
    """As the kernel refuses a user without rights."""
    gdb.python(
        "from gdb_kwatch.linux import filters\n"
        "filters.why_not = lambda kernel_too=False: 'perf events: refused for this test'\n"
    )


def rows_of(out: str) -> list[dict]:
    found = re.search(r"^\[\{.*\]$", out, re.M | re.S)
    assert found, out
    return json.loads(found.group(0))


@pytest.fixture
def begun(session, way):
    """A gdb on fixtures/who.c before its loop, with a breakpoint at the end."""
    opened = session("who")
    gdb = opened.__enter__()
    try:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd(f"break who.c:{line('who.c', 'end')}")
        if way == "stops":
            without_rights(gdb)
        yield gdb
    except BaseException as error:
        opened.__exit__(type(error), error, error.__traceback__)
        raise
    opened.__exit__(None, None, None)


def check_writers(rows: list[dict]) -> None:
    by_place = {(row["file"], row["line"]): row for row in rows}
    for (source, mark), (function, hits, threads) in WRITERS.items():
        row = by_place[(source, line(source, mark))]
        assert (row["function"], row["hits"]) == (function, hits)
        assert list(row["threads"]) == threads
        assert row["access"] in ("write", "read/write")


def test_six_writers_and_their_exact_counts(begun, way):
    rows = rows_of(begun.cmd("kwatch who shared -json"))
    check_writers(rows)
    memset = [row for row in rows if "memset" in (row["function"] or "")]
    assert {row["hits"] for row in memset} == {40}, "one store or two, as the C library has it"
    assert len(rows) == 5 + len(memset)
    values = {row["line"]: (row["first_new"], row["last_new"]) for row in rows}
    assert values[line("who.c", "writer 1")] == ("1", "100")
    assert values[line("who.c", "writer 2")] == ("-1", "-99")
    assert all(row["certain"] for row in rows if row not in memset)


def test_the_table_says_how_it_was_had(begun, way):
    out = begun.cmd("kwatch who shared")
    assert re.search(r"^1 +300 +2 +who\.c:\d+ +third +write", out, re.M)
    assert re.search(r"^6[04]0 hits in", out, re.M)
    if way == "stops":
        assert "perf events: refused for this test" in out
        assert re.search(r"slow: [\d,]+ µs a hit", out)
    else:
        assert "slow" not in out
    assert f"{line('who.c', 'end')}\t" in out, "gdb's own report of the stop is there"


def test_code_left_out_and_code_alone(begun, way):
    gdb = begun
    rows = rows_of(gdb.cmd("kwatch who shared -not-from third -not-from libwho -json"))
    assert {row["function"] for row in rows} >= {"first", "second"}
    assert not {row["function"] for row in rows} & {"third", "write_through"}
    gdb.run_to(f"who.c:{line('who.c', 'begin')}")
    rows = rows_of(gdb.cmd("kwatch who shared -from second -json"))
    assert [row["hits"] for row in rows] == [50, 50]


def test_readers_too(begun, way):
    begun.cmd("delete")
    rows = rows_of(begun.cmd("kwatch who shared -a -json"))
    by_line = {row["line"]: row for row in rows if row["file"] == "who.c"}
    assert by_line[line("who.c", "reader")]["access"] == "read"
    assert by_line[line("who.c", "writer 4")]["access"] == "read/write"
    assert by_line[line("who.c", "writer 1")]["access"] == "write"


def test_one_accessor_whole(begun, way):
    begun.cmd("kwatch who shared -from first")
    out = begun.cmd("kwatch who 1")
    assert "100 hits" in out
    assert re.search(r"^#0 +0x[0-9a-f]+ in first \(\)", out, re.M)
    assert re.search(r"^rdi +0x64$", out, re.M), "the last argument was 100"
    assert "There are accessors 1 to 1" in begun.cmd("kwatch who 2")


def test_a_condition(begun, way):
    rows = rows_of(begun.cmd("kwatch who shared -from first -json if shared > 90"))
    assert [(row["hits"], row["first_new"]) for row in rows] == [(10, "91")]


def test_nothing_is_left(begun, way):
    begun.cmd("kwatch who shared")
    assert "No hardware watchpoints" in begun.cmd("kwatch list")
    left = begun.evaluate(
        "[l for l in __import__('os').listdir('/proc/self/fd')"
        " if any(w in (__import__('os').readlink('/proc/self/fd/' + l)"
        " if __import__('os').path.islink('/proc/self/fd/' + l) else '')"
        " for w in ('inode:[perf', 'inode:bpf'))]"
    )
    assert left == []


def test_a_time_limit_stops_the_program(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("waiting") as gdb:
        gdb.run_to("main")
        out = gdb.cmd("kwatch who *(long *)$sp -for 0.3", timeout=20)
        assert "in 0.3 s" in out
        assert "interrupted after 0.3 s" in out


def test_what_cannot_be_asked(session):
    with session("who") as gdb:
        assert "not being run" in gdb.cmd("kwatch who shared")
        gdb.run_to("main")
        assert "No symbol" in gdb.cmd("kwatch who nothing_like_it")
        assert gdb.cmd("kwatch who *(long *) 0") == "Cannot access memory at address 0x0\n"
        assert "is no function" in gdb.cmd("kwatch who shared -from nothing_like_it")
        assert "-for requires" in gdb.cmd("kwatch who shared -for")
        assert "greater than 0" in gdb.cmd("kwatch who shared -for 0")
        assert "No accessor" in gdb.cmd("kwatch who 1")
        for n in range(4):
            gdb.cmd(f"watch *(char *)({n} + (char *)&shared)")
        assert "No hardware slot free" in gdb.cmd("kwatch who shared")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes capabilities away")
def test_a_user_without_rights_is_told_and_served(session):
    with session("who", before=NOBODY) as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd(f"break who.c:{line('who.c', 'end')}")
        out = gdb.cmd("kwatch who shared")
        assert "CAP_BPF" in out or "CAP_PERFMON" in out
        assert re.search(r"^6[04]0 hits", out, re.M)
        assert "cannot be seen here" in gdb.cmd("kwatch who shared -k")


def test_a_child_that_gdb_follows(session, way):
    with session("fork_child") as gdb:
        gdb.run_to(f"fork_child.c:{line('fork_child.c', 'before the fork')}")
        if way == "stops" and gdb.evaluate("gdb.VERSION").startswith("10."):
            pytest.skip("gdb 10 takes its own watchpoints into the child at its first stop")
        if way == "stops":
            without_rights(gdb)
        gdb.cmd("set follow-fork-mode child")
        rows = rows_of(gdb.cmd("kwatch who place -json"))
        assert {row["line"]: row["last_new"] for row in rows} == {
            line("fork_child.c", "before the fork"): "1",
            line("fork_child.c", "child"): "2",
        }


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("app::Box::put", [2, 4]),
        ("Box::put", [2, 4]),
        ("app::Box::put(long)", [4]),
        ("'app::Box::put(long)'", [4]),
        ("put", [7]),
        ("put(int)", [7]),
        ("app::write", [5, 6]),
        ("app::write<char>", [6]),
        ('"app::write<char>(char)"', [6]),
        ("app::Box::set", [1, 3, 10]),
        ("main", [1, 3, 10]),
        ("seldom", [-9, 9]),
        ("put -from seldom", [-9, 7, 9]),
    ],
)
def test_code_that_one_name_stands_for(session, code, written):
    with session("whose_code") as gdb:
        gdb.run_to("main")
        if code == "app::write" and "not defined" in gdb.cmd(f"info line {code}"):
            pytest.skip("this gdb wants a template's arguments (10.1)")
        gdb.cmd("break done")
        rows = rows_of(gdb.cmd(f"kwatch who app::x -from {code} -json"))
        assert sorted(int(row["last_new"]) for row in rows) == written


@pytest.mark.parametrize("code", ["whose_code.cc:10", "12", "*0x1000", "app::x", "app::nothing"])
def test_what_is_no_code(session, code):
    with session("whose_code") as gdb:
        gdb.run_to("main")
        answer = gdb.cmd(f"kwatch who app::x -from {code}")
        assert answer == f'"{code}" is no function and no library of this program.\n'
