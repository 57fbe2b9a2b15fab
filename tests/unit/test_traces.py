"""Records, rows and exports, by themselves."""

from __future__ import annotations

import io
import json

import pytest

from gdb_kwatch.core import access_words, exports, traces
from gdb_kwatch.core.access_words import TRACE, WHO, parse
from gdb_kwatch.core.exports import Row
from gdb_kwatch.core.filters import KERNEL, SYSTEM_CALL, RecordLayout
from gdb_kwatch.core.grammar import UsageError
from gdb_kwatch.core.traces import NO_VALUE, Store


def store(limit: int = 100, frames: int = 0) -> Store:
    return Store(RecordLayout(8, frames), limit)


def test_records_come_back_as_they_went_in():
    kept = store(frames=2)
    info = 1 | KERNEL | 5 << SYSTEM_CALL
    kept.add(kept.pack(10, 7, 8, 0x40, info, b"\1", b"\2", (0x40, 0x50)))
    kept.add(kept.pack(11, 7, 9, 0x41, NO_VALUE))
    first, second = kept.records()
    assert (first.time, first.process, first.thread, first.ip) == (10, 7, 8, 0x40)
    assert (first.source, first.kernel, first.system_call) == (1, True, 5)
    assert (first.old, first.new, first.stack) == (b"\1" + bytes(7), b"\2" + bytes(7), (0x40, 0x50))
    assert (second.old, second.new, second.stack, second.system_call) == (None, None, (), None)


def test_the_oldest_are_forgotten():
    kept = store(limit=3)
    for n in range(5):
        kept.add(kept.pack(n, 1, 1, n, 0))
    assert (kept.count, kept.forgotten, len(kept)) == (5, 2, 3)
    assert [record.time for record in kept.records()] == [2, 3, 4]


def test_sums_by_column():
    kept = store()
    kept.add(b"".join(kept.pack(n, 1, n % 2, 0x40 + n % 3, 0) for n in range(9)))
    assert kept.counter(RecordLayout.IP) == {0x40: 3, 0x41: 3, 0x42: 3}
    assert kept.span() == (0, 8)
    assert kept.over_time(3) == [3, 3, 3]


def test_a_million_records_take_little_memory():
    kept = store(limit=10**9)
    block = b"".join(kept.pack(n, 1, 1, n % 7, 0) for n in range(10_000))
    for _ in range(100):
        kept.add(bytes(bytearray(block)))
    assert len(kept) == 1_000_000
    assert sum(map(len, kept.chunks())) < 60 * 1_000_000
    assert sum(kept.counter(RecordLayout.IP).values()) == 1_000_000


def test_repeats_are_folded():
    changes = [
        (1, 1, "a:1", "0", "1"),
        (2, 1, "a:1", "1", "2"),
        (3, 1, "a:1", "2", "3"),
        (4, 2, "a:1", "3", "4"),
        (5, 1, "b:2", "4", "0"),
        (6, 1, "b:2", "9", "1"),
    ]
    rows = [tuple(row) for row in traces.folded(iter(changes))]
    assert rows == [
        (1, 1, "a:1", "0", "3", 3),
        (4, 2, "a:1", "3", "4", 1),
        (5, 1, "b:2", "4", "0", 1),
        (6, 1, "b:2", "9", "1", 1),
    ]


def test_bars_and_lines():
    assert traces.sparkline([0, 1, 8], True) == " .#"
    assert traces.bar(1, 1000, 10, True) == "#"
    assert traces.bar(500, 1000, 10, True) == "#####"
    assert traces.bar(0, 0, 10) == ""


ROWS = [
    Row(1000, 7, 8, 1, 0x40, "f", "a.c", 3, "x", "user", None, "0", "1", 1, ("f", "main")),
    Row(3000, 7, 9, None, 0x50, None, None, None, "x", "kernel", 0, None, None, None, ()),
]


def written(name: str) -> str:
    file = io.StringIO()
    assert exports.writer(name)(file, iter(ROWS)) == 2
    return file.getvalue()


def test_json_lines():
    first, second = map(json.loads, written("t.json").splitlines())
    assert (first["time"], first["line"], first["stack"]) == (1000, 3, ["f", "main"])
    assert (second["thread"], second["origin"]) == (None, "kernel")


def test_csv_has_a_heading():
    heading, first, second = written("t.csv").splitlines()
    assert heading.startswith("time,process,thread,lwp,pc")
    assert first.endswith("0,1,f;main")
    assert ",kernel,write,0,,," in second


def test_chrome_events():
    events = json.loads(written("t.trace.json"))["traceEvents"]
    assert [event["ph"] for event in events] == ["M", "i", "C", "M", "i"]
    assert [event["ts"] for event in events if "ts" in event] == [0, 0, 2.0]
    assert events[2]["args"] == {"value": 1}
    assert events[3]["args"] == {"name": "LWP 9"}


def test_folded_stacks():
    assert sorted(written("t.folded").splitlines()) == ["??;0x50 1", "main;f;a.c:3 1"]


def test_an_unknown_suffix():
    with pytest.raises(exports.UnknownSuffix, match=".folded"):
        exports.writer("t.doc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", (("x",), "write", 0, None)),
        ("-a x -for 2.5", (("x",), "access", 2.5, None)),
        ("a[i - 1] -for 3 if a > 2", (("a[i - 1]",), "write", 3, "a > 2")),
        ("a -b", (("a -b",), "write", 0, None)),
        ("(a if b) if c", (("(a if b)",), "write", 0, "c")),
    ],
)
def test_the_words_of_who(text, expected):
    got = parse(text, WHO)
    assert (got.expressions, got.access, got.seconds, got.condition) == expected


def test_the_words_of_trace():
    got = parse("a b[x + 1] -count 7 -stack 99 -not-from f -not-from libc", TRACE, several=True)
    assert got.expressions == ("a", "b[x + 1]")
    assert (got.count, got.frames) == (7, access_words.MOST_FRAMES)
    assert got.without == ("f", "libc")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "Argument required"),
        ("-for 2", "Argument required"),
        ("x -for", "requires"),
        ("x -for -1", "greater than 0"),
        ("x -for y", "greater than 0"),
        ("-zz x", "Unrecognized"),
        ("x if", "condition is missing"),
    ],
)
def test_words_that_are_wrong(text, wrong):
    with pytest.raises(UsageError, match=wrong):
        parse(text, WHO)
