"""`kwatch trace export`: each file opened by a program that others look at such files with."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
from consumers import flame_graph, trace_processor
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
ROUNDS = 40
TOTAL = 4 * (ROUNDS + ROUNDS // 2 + ROUNDS // 4)
LINES = {f"trace.c:{line('trace.c', f'line {x}')}": x for x in "abc"}

pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


@pytest.fixture
def traced(session):
    """A gdb with a whole trace of fixtures/trace.c, and the program's own counts by place."""
    with session("trace") as gdb:
        gdb.cmd(f"set args {ROUNDS}")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd(f"break trace.c:{line('trace.c', 'end')}")
        gdb.cmd("kwatch trace place -stack 4")
        gdb.cont()
        yield gdb, {place: int(gdb.value(f"count_{x}")) for place, x in LINES.items()}


def exported(gdb, path) -> None:
    assert f"{TOTAL} records written" in gdb.cmd(f"kwatch trace export {path}")


def test_json_lines_and_csv_are_the_same_records(traced, tmp_path):
    gdb, own = traced
    exported(gdb, tmp_path / "out.json")
    exported(gdb, tmp_path / "out.csv")
    records = [json.loads(text) for text in (tmp_path / "out.json").read_text().splitlines()]
    first = records[0]
    assert (first["function"], first["file"], first["old"]) == ("writer", "trace.c", "0")
    assert first["stack"][0] == "writer"
    assert Counter(f"{row['file']}:{row['line']}" for row in records) == own
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["new"] for row in rows] == [record["new"] for record in records]


@pytest.mark.parametrize("suffix", ["perfetto.json", "trace.json"])
def test_perfetto_opens_it(traced, tmp_path, suffix):
    """A track a thread, the values as a counter, nothing that it had to leave out."""
    gdb, own = traced
    exported(gdb, tmp_path / f"out.{suffix}")
    exported(gdb, tmp_path / "out.json")
    records = [json.loads(text) for text in (tmp_path / "out.json").read_text().splitlines()]
    events, tracks, values, news, bad = trace_processor(
        tmp_path / f"out.{suffix}",
        "select name, count(*) as n from slice group by name",
        "select thread.name, tid, count(*) as n from slice join thread_track on "
        "slice.track_id = thread_track.id join thread using (utid) group by utid",
        "select ts, value from counter order by ts",
        "select string_value as new from args where key = 'args.new'",
        "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    )
    assert bad == []
    assert {row["name"]: row["n"] for row in events} == {f"place {at}": n for at, n in own.items()}
    threads = {row["name"]: row["n"] for row in tracks}
    assert threads == {f"thread {n}": TOTAL // 4 for n in (2, 3, 4, 5)}
    assert {row["tid"] for row in tracks} == {record["lwp"] for record in records}
    assert Counter(row["value"] for row in values) == Counter(int(r["new"]) for r in records)
    # Nanoseconds: the distance of each record from the first one.
    times = sorted(record["time"] for record in records)
    assert [row["ts"] - values[0]["ts"] for row in values] == [t - times[0] for t in times]
    assert {row["new"] for row in news} == {record["new"] for record in records}


def test_a_flame_graph_tool_opens_the_folded_stacks(traced, tmp_path):
    gdb, own = traced
    exported(gdb, tmp_path / "out.folded")
    boxes = flame_graph(tmp_path / "out.folded")
    assert boxes["all"] == TOTAL
    assert boxes["writer"] == TOTAL
    assert {at: boxes[at] for at in own} == own


def test_a_file_that_cannot_be_written(traced, tmp_path):
    gdb, _ = traced
    there = tmp_path / "there.json"
    there.write_text("before\n")
    exported(gdb, there)
    assert len(there.read_text().splitlines()) == TOTAL, "over a file: its text is replaced"
    for name in ("notes.txt", "notes", "a.perfetto", ".json.gz"):
        precious = tmp_path / name
        precious.write_text("mine\n")
        assert ".folded" in gdb.cmd(f"kwatch trace export {precious}")
        assert precious.read_text() == "mine\n", "no format: nothing is touched"
        assert ".folded" in gdb.cmd(f"kwatch trace export {tmp_path}/new{name}")
        assert not (tmp_path / f"new{name}").exists()
    assert "No such file" in gdb.cmd(f"kwatch trace export {tmp_path}/nowhere/out.json")
    folder = tmp_path / "folder.json"
    folder.mkdir()
    assert "s a directory" in gdb.cmd(f"kwatch trace export {folder}")
    assert "Usage" in gdb.cmd("kwatch trace export")
    assert "Usage" in gdb.cmd(f"kwatch trace export {tmp_path}/a.json {tmp_path}/b.json")
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")
    assert "No space left" in gdb.cmd(f"kwatch trace export {full}")
    assert f"{TOTAL} records" in gdb.cmd(f'kwatch trace export "{tmp_path}/with space.csv"')
    assert (tmp_path / "with space.csv").exists()
