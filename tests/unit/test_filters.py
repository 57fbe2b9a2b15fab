"""The kernel runs the programs of core/filters.py on real writes of this very process."""

from __future__ import annotations

import ctypes
import os
import struct
import threading

import pytest

from gdb_kwatch.core import conditions as c
from gdb_kwatch.core import filters
from gdb_kwatch.core.filters import RecordLayout, RowLayout, Source, StopLayout
from gdb_kwatch.linux import bpf
from gdb_kwatch.linux import filters as linux

REFUSED = linux.why_not()
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)

NEW, OLD = c.Watched("new", c.LONG), c.Watched("old", c.LONG)


class Word:
    """8 bytes to write to."""

    def __init__(self) -> None:
        self.cell = ctypes.c_longlong(0)
        self.address = ctypes.addressof(self.cell)

    def write(self, *values: int) -> None:
        for value in values:
            self.cell.value = value


@pytest.fixture
def word():
    return Word()


@pytest.fixture
def opened():
    """Filters and rings that are closed whatever happens."""
    things: list = []
    yield things.append
    for thing in things:
        thing.close()


def stopping(word, opened, condition, **options):
    source = Source(word.address, 8, condition=condition, **options)
    made = linux.Filter(source, filters.stopping, StopLayout(8).size)
    opened(made)
    made.put_on(0)
    return made


def test_a_condition_is_true_once_and_every_write_counts(word, opened):
    made = stopping(word, opened, c.Compare("==", NEW, c.Number(7, c.LONG)))
    word.write(*range(10))
    assert made.word(filters.TAKEN) == 1
    at, layout = filters.HEAD, StopLayout(8)
    assert (made.word(at + layout.OLD), made.word(at + layout.new)) == (6, 7)
    assert made.word(at + layout.THREAD) & 0xFFFFFFFF == threading.get_native_id()
    made.take_off()
    assert made.hits() == 10


def test_a_write_of_the_same_value_is_no_change(word, opened):
    made = stopping(word, opened, None, on_change=True)
    word.write(1, 1, 2, 2, 2, 1)
    assert made.word(filters.TAKEN) == 3


def test_the_old_value_is_the_one_before(word, opened):
    made = stopping(word, opened, c.Compare(">", OLD, NEW))
    word.write(5, 3, 4, -1)
    assert made.word(filters.TAKEN) == 2


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (c.Binary("/", NEW, OLD), c.DIVISION),
        (c.Binary("%", NEW, c.Number(0, c.LONG)), c.DIVISION),
        (c.Load(c.Number(0, c.LONG), c.INT), c.UNREADABLE),
        (c.Logic("||", c.Number(1, c.INT), c.Binary("/", NEW, c.Number(0, c.LONG))), 0),
    ],
)
def test_what_cannot_be_evaluated_stops_and_says_why(word, opened, condition, reason):
    made = stopping(word, opened, condition)
    word.write(1)
    layout = StopLayout(8)
    assert (made.word(filters.TAKEN), made.word(filters.HEAD + layout.REASON)) == (1, reason)


@pytest.mark.parametrize(
    ("written", "start", "width", "kind", "value"),
    [
        (0b1011_0110, 1, 3, c.UNSIGNED, 0b011),
        (0b1011_0110, 1, 3, c.INT, 3),
        (0b1011_0110, 4, 4, c.INT, -5),
        (-1, 0, 64, c.LONG, -1),
        (-1, 63, 1, c.UNSIGNED_LONG, 1),
        (0x1234, 8, 8, c.Kind(1, True), 0x12),
    ],
)
def test_bits(word, opened, written, start, width, kind, value):
    bits = c.Bits(c.Watched("new", c.UNSIGNED_LONG), start, width, kind)
    made = stopping(word, opened, c.Compare("==", bits, c.Number(value, kind)))
    word.write(written)
    assert made.word(filters.TAKEN) == 1


def test_of_a_bit_field_only_its_bits_are_the_value(word, opened):
    made = stopping(word, opened, None, on_change=True, bits=(3, 2))
    word.write(0b00111, 0b00010, 0b01010, 0b11010, 0b111010, 0b111111)
    assert made.word(filters.TAKEN) == 2


def test_a_comma_evaluates_what_is_before_it(word, opened):
    divided = c.Sequence(c.Binary("/", c.Number(1, c.LONG), NEW), c.Number(0, c.LONG))
    made = stopping(word, opened, divided)
    word.write(3, 0)
    assert made.word(filters.TAKEN) == 1
    assert made.word(filters.HEAD + StopLayout(8).REASON) == c.DIVISION


SHORT = c.Kind(2, True)


@pytest.mark.parametrize(
    ("node", "written", "asked"),
    [
        (c.Convert(NEW, SHORT, unsure=True), -65536, False),
        (c.Convert(NEW, SHORT, unsure=True), -65537, True),
        (c.Convert(NEW, SHORT, unsure=True), 1 << 40, False),
        (c.Convert(NEW, c.INT, unsure=True), -(1 << 32) - 1, True),
        (c.Binary("*", NEW, c.Number(-3, c.LONG), True), 1 << 30, False),
        (c.Binary("*", NEW, c.Number(-3, c.LONG), True), 1 << 62, True),
        (c.Binary("*", NEW, c.Number(3, c.LONG), True), 1 << 62, False),
        (c.Binary("<<", NEW, c.Number(3, c.INT), True), -5, False),
        (c.Binary("<<", NEW, c.Number(62, c.INT), True), -5, True),
        (c.Binary("<<", NEW, c.Number(62, c.INT), True), 5, False),
        (c.Binary("*", c.Convert(NEW, c.INT), c.Number(-(1 << 31), c.INT), True), 3, True),
        (c.Binary("*", c.Convert(NEW, c.INT), c.Number(-(1 << 31), c.INT), True), 2, False),
        (c.Binary("<<", c.Convert(NEW, c.INT), c.Number(31, c.INT), True), -3, True),
    ],
)
def test_a_gdb_that_cuts_negative_numbers_wrongly_is_asked(word, opened, node, written, asked):
    made = stopping(word, opened, c.Compare("==", node, c.Number(12345, node.kind)))
    word.write(written)
    reason = made.word(filters.HEAD + StopLayout(8).REASON)
    assert (made.word(filters.TAKEN), reason) == ((1, c.UNKNOWN) if asked else (0, 0))


def test_the_number_of_a_thread_is_that_of_the_table(word, opened):
    number = c.Compare("==", c.ThreadNumber(2), c.Number(7, c.INT))
    made = stopping(word, opened, number)
    word.write(1)
    reason, layout = filters.HEAD + StopLayout(8).REASON, StopLayout(8)
    assert (made.word(filters.TAKEN), made.word(reason)) == (1, c.UNKNOWN)
    last = layout.threads + (c.THREADS - 1) * c.ROW
    made.memory.data[last : last + 16] = struct.pack("<IIII", threading.get_native_id(), 1, 7, 1)
    word.write(2)
    assert (made.word(filters.TAKEN), made.word(reason + layout.entry)) == (2, 0)
    made.memory.data[last + 8] = 8
    word.write(3)
    assert made.word(filters.TAKEN) == 2


@pytest.mark.parametrize("operator", ["/", "%"])
@pytest.mark.parametrize("left", [7, -7, 0, -(1 << 63)])
@pytest.mark.parametrize("right", [2, -2, 3, -(1 << 63)])
def test_signed_division_truncates(word, opened, operator, left, right):
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    expected = quotient if operator == "/" else left - quotient * right
    made = stopping(
        word,
        opened,
        c.Compare(
            "==", c.Binary(operator, NEW, c.Number(right, c.LONG)), c.Number(expected, c.LONG)
        ),
    )
    word.write(left)
    assert made.word(filters.TAKEN) == 1


def test_code_left_out(word, opened):
    everything = ((0, (1 << 63) - 1),)
    assert stopping(word, opened, None, without=everything).word(filters.TAKEN) == 0
    inside = stopping(word, opened, None, only=everything)
    outside = stopping(word, opened, None, without=everything)
    word.write(1, 2)
    assert (inside.word(filters.TAKEN), outside.word(filters.TAKEN)) == (2, 0)
    assert outside.hits() == 2


def test_records_of_a_trace(word, opened):
    layout = RecordLayout(8, frames=4)
    ring = bpf.Ring(1 << 16, layout.size)
    opened(ring)
    made = linux.Filter(
        Source(word.address, 8),
        lambda source, kernel: filters.recording(source, kernel, 3, layout),
        maps={filters.RING: ring.fd},
    )
    opened(made)
    made.put_on(0)
    word.write(1, -2)
    other = threading.Thread(target=word.write, args=(9,))
    other.start()
    other.join()
    data = ring.read()
    rows = [
        struct.unpack_from("<QQQQqqQQQQ", data, at + ring.HEADER)
        for at in range(0, len(data), ring.step)
    ]
    assert [(row[4], row[5]) for row in rows] == [(0, 1), (1, -2), (-2, 9)]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert {row[3] for row in rows} == {3}
    assert {row[1] >> 32 for row in rows} == {os.getpid()}
    assert rows[0][1] & 0xFFFFFFFF == threading.get_native_id()
    assert rows[2][1] & 0xFFFFFFFF == other.native_id
    assert rows[0][2] == rows[0][6] > 0, "the call chain begins with the access"
    assert (made.hits(), made.word(filters.LOST)) == (3, 0)


def test_a_full_ring_loses_and_says_so(word, opened):
    layout = RecordLayout(8)
    ring = bpf.Ring(4096, layout.size)
    opened(ring)
    made = linux.Filter(
        Source(word.address, 8),
        lambda source, kernel: filters.recording(source, kernel, 0, layout),
        maps={filters.RING: ring.fd},
    )
    opened(made)
    made.put_on(0)
    word.write(*range(100))
    kept = len(ring.read()) // ring.step
    assert 0 < kept < 100
    assert (made.word(filters.TAKEN), made.word(filters.LOST)) == (100, 100 - kept)


def test_no_more_than_asked_for(word, opened):
    made = linux.Filter(
        Source(word.address, 8),
        lambda source, kernel: filters.counting(source, kernel, RowLayout(8)),
        memory=RowLayout(8).size,
    )
    opened(made)
    made.memory.set_word(filters.MOST, 5)
    made.put_on(0)
    word.write(*range(20))
    assert (made.word(filters.TAKEN), made.hits()) == (5, 20)


def test_a_row_for_each_accessing_instruction(word, opened):
    layout = RowLayout(8)
    made = linux.Filter(
        Source(word.address, 8),
        lambda source, kernel: filters.counting(source, kernel, layout),
        memory=layout.size,
        value=(77).to_bytes(8, "little"),
    )
    opened(made)
    made.put_on(0)
    word.write(1, 2, 2)
    ctypes.memset(word.address, 0, 1)
    rows = [at for at in range(filters.HEAD, layout.thread_table, layout.row) if made.word(at)]
    found = {made.word(at + layout.HITS): at for at in rows}
    assert sorted(found) == [1, 3]
    at = found[3]
    assert made.word(at + layout.CHANGES) == 2
    assert (made.word(at + layout.FIRST_OLD), made.word(at + layout.first_new)) == (77, 1)
    assert made.word(at + layout.last_new) == 2
    assert made.word(at + layout.stack) == made.word(at + layout.KEY)
    pairs = [
        (made.word(at), made.word(at + 8))
        for at in range(layout.thread_table, layout.size, 16)
        if made.word(at)
    ]
    assert sorted(count for _, count in pairs) == [1, 3]
    assert {key & 0xFFFFFFFF for key, _ in pairs} == {threading.get_native_id()}


def test_an_older_kernel_is_served_too(word, opened, monkeypatch):
    old = linux.kernel()._replace(fetching=False, system_calls=False)
    monkeypatch.setattr(linux, "kernel", lambda: old)
    test_a_row_for_each_accessing_instruction(word, opened)
    test_the_old_value_is_the_one_before(word, opened)


def test_nothing_is_left_open(word, opened):
    before = os.listdir("/proc/self/fd")
    made = linux.Filter(Source(word.address, 8), filters.stopping, StopLayout(8).size)
    made.put_on(0)
    made.close()
    made.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
