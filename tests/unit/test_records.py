"""Traps and hits: the ring that keeps them, and the contract of their JSON."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdb_kwatch.core import records
from gdb_kwatch.core.debugreg import EXECUTE, READ_WRITE, WRITE
from gdb_kwatch.core.records import ACCESS_RW, History, Hit, Region, Touch, Trap, dumps, in_full


def touch(number, **changed):
    fields = {
        "watch": object(),
        "number": number,
        "expression": f"s.m{number}",
        "slots": (number - 2,),
        "address": 0x555555558040 + 8 * number,
        "size": 8,
        "access": "write",
        "blamed": False,
        "value": object(),
    }
    return Touch(**{**fields, **changed})


def quiet(number, touches=(), olds=(), news=()):
    return (number, 1, 2, 4242, 0x555555555140, 7, touches, olds, news)


# --- JSON: the contract --------------------------------------------------------------------------

# As the contract has it, word for word; null is None, and text may be null where nothing is known.
CONTRACT = {
    "trap": int,
    "inferior": int,
    "thread": int,
    "lwp": int,
    "pc": str,
    "function": str,
    "file": str,
    "line": int,
    "instruction": str,
    "dr6": int,
    "origin": str,
    "stopped": bool,
    "hits": list,
}
HIT_CONTRACT = {
    "number": int,
    "expression": str,
    "slots": list,
    "address": str,
    "size": int,
    "access": str,
    "old": str,
    "new": str,
    "changed": bool,
    "stop": bool,
    "seen_by": str,
}
PLACE = {
    "pc": "0x555555555138",
    "function": "both",
    "file": "sim.c",
    "line": 9,
    "instruction": "vmovdqa %ymm0,(%rax)",
}


def hit(**changed):
    fields = {
        "number": 2,
        "expression": "s.a",
        "slots": (0,),
        "address": 0x555555558060,
        "size": 8,
        "access": "write",
        "changed": True,
        "stop": True,
        "old": "0",
        "new": "1",
    }
    return Hit(**{**fields, **changed})


def test_the_json_of_a_trap_has_what_is_promised():
    trap = Trap(1, 1, 1, 4242, 0x555555555140, 7, [hit(), hit(number=3)], stopped=True)
    row = trap.json(PLACE)
    assert {key: type(row[key]) for key in CONTRACT} == CONTRACT
    assert list(row) == list(CONTRACT)
    for one in row["hits"]:
        assert {key: type(one[key]) for key in HIT_CONTRACT} == HIT_CONTRACT
        assert set(one) - set(HIT_CONTRACT) == {"blamed"}
        assert type(one["blamed"]) is bool


def test_the_json_of_a_trap_says_what_was_seen():
    trap = Trap(1, 1, 1, 4242, 0x555555555140, 7, [hit(blamed=True)], stopped=True)
    assert json.loads(dumps([trap.json(PLACE)])) == [
        {
            "trap": 1,
            "inferior": 1,
            "thread": 1,
            "lwp": 4242,
            "pc": "0x555555555138",
            "function": "both",
            "file": "sim.c",
            "line": 9,
            "instruction": "vmovdqa %ymm0,(%rax)",
            "dr6": 7,
            "origin": "user",
            "stopped": True,
            "hits": [
                {
                    "number": 2,
                    "expression": "s.a",
                    "slots": [0],
                    "address": "0x555555558060",
                    "size": 8,
                    "access": "write",
                    "old": "0",
                    "new": "1",
                    "changed": True,
                    "stop": True,
                    "seen_by": "dr6",
                    "blamed": True,
                }
            ],
        }
    ]


def test_words_of_the_contract():
    assert (records.USER, records.KERNEL, records.UNTRAPPED) == ("user", "kernel", "untrapped")
    assert (records.BY_DR6, records.BY_VALUE) == ("dr6", "value")


def test_what_keeps_values_to_print_is_not_in_the_json():
    made = hit(raw=(object(), 1, 2), old=None, new=None)
    row = made.json()
    json.dumps(row)
    assert row["old"] is row["new"] is None


TEXT = st.one_of(st.none(), st.text(max_size=10))


@settings(deadline=None)
@given(st.lists(st.builds(hit, expression=st.text(max_size=10), old=TEXT, new=TEXT), max_size=3))
def test_dumps_is_json_with_a_row_a_line(hits):
    rows = [one.json() for one in hits]
    text = dumps(rows)
    assert json.loads(text) == rows
    assert text.endswith("]\n") and len(text.splitlines()) == max(len(rows), 1)


def test_dumps_takes_what_can_be_read_once():
    assert dumps(iter([])) == "[]\n"
    assert dumps(n for n in (1, 2)) == "[1,\n 2]\n"


# --- in full -------------------------------------------------------------------------------------


def test_in_full():
    touches = [touch(2), touch(3, blamed=True, access="access"), touch(4, slots=(2, 3), value=None)]
    trap = in_full(quiet(5, touches, [0, b"long", None], [1, b"long", None]))
    assert (trap.number, trap.inferior, trap.thread, trap.lwp) == (5, 1, 2, 4242)
    assert (trap.pc, trap.dr6) == (0x555555555140, 7)
    assert (trap.origin, trap.stopped, trap.place) == ("user", False, None)
    assert [one.changed for one in trap.hits] == [True, False, False]
    assert [one.blamed for one in trap.hits] == [False, True, False]
    for made, of in zip(trap.hits, touches):
        for name in ("number", "expression", "slots", "address", "size", "access"):
            assert getattr(made, name) == getattr(of, name)
        assert (made.stop, made.seen_by, made.old, made.new) == (False, "dr6", None, None)
    assert [one.raw for one in trap.hits] == [
        (touches[0].value, 0, 1),
        (touches[1].value, b"long", b"long"),
        (None, None, None),
    ]


def test_touches_stand_where_it_is_said():
    touches, olds, news = [touch(2)], [0], [1]
    assert list(quiet(1, touches, olds, news)[records.TOUCHES :]) == [touches, olds, news]


# --- the ring ------------------------------------------------------------------------------------


def numbers(history, count=None):
    return [trap.number for trap in history.last(count)]


def filled(limit, count):
    history = History(limit)
    for _ in range(count):
        history.add(quiet(history.next_number()))
    return history


def test_the_newest_are_kept():
    history = filled(3, 5)
    assert (len(history), history.count, history.limit) == (3, 5, 3)
    assert numbers(history) == [3, 4, 5]
    assert numbers(history, 2) == [4, 5]
    assert numbers(history, 0) == []
    assert numbers(history, 9) == [3, 4, 5]


def test_none_yet():
    assert (len(History()), History().last(), History().last(3)) == (0, [], [])


def test_a_limit_of_nothing_keeps_nothing():
    history = filled(0, 2)
    assert (len(history), history.count, history.last()) == (0, 2, [])


@pytest.mark.parametrize("number", [1, 3, 5])
def test_one_kept_in_short_is_replaced_in_full(number):
    history = filled(10, 5)
    trap = Trap(number, 1, 1, 1, 0, 0, [hit()], stopped=True)
    history.replace(trap)
    assert numbers(history) == [1, 2, 3, 4, 5]
    assert history.last()[number - 1] is trap
    assert [t.stopped for t in history.last()].count(True) == 1


def test_one_kept_in_full_is_replaced_too():
    history = filled(10, 2)
    history.replace(Trap(2, 1, 1, 1, 0, 0, []))
    newer = Trap(2, 1, 1, 1, 0, 0, [])
    history.replace(newer)
    assert history.last()[1] is newer


@pytest.mark.parametrize("number", [1, 2, 9])
def test_one_that_is_not_there_replaces_nothing(number):
    history = filled(3, 5)
    before = copy.deepcopy(history.last())
    history.replace(Trap(number, 1, 1, 1, 0, 0, [hit()]))
    assert history.last() == before


def test_resizing():
    history = filled(10, 6)
    history.resize(3)
    assert (numbers(history), history.limit, history.count) == ([4, 5, 6], 3, 6)
    history.add(quiet(history.next_number()))
    assert numbers(history) == [5, 6, 7]
    history.resize(5)
    history.add(quiet(history.next_number()))
    assert numbers(history) == [5, 6, 7, 8]
    history.resize(0)
    assert numbers(history) == []


STEPS = st.lists(
    st.one_of(
        st.just(("add",)),
        st.tuples(st.just("replace"), st.integers(1, 12)),
        st.tuples(st.just("resize"), st.integers(0, 6)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(st.integers(0, 6), STEPS)
def test_the_ring_against_a_list(limit, steps):
    history, kept, count = History(limit), [], 0
    for what, *value in steps:
        if what == "add":
            count += 1
            assert history.next_number() == count
            history.add(quiet(count))
            kept.append((count, False))
        elif what == "replace":
            history.replace(Trap(value[0], 1, 2, 3, 4, 5, [], stopped=True))
            kept = [(n, stopped or n == value[0]) for n, stopped in kept]
        else:
            limit = value[0]
            history.resize(limit)
        kept = kept[len(kept) - limit :] if len(kept) > limit else kept
    assert [(trap.number, trap.stopped) for trap in history.last()] == kept
    assert (len(history), history.count) == (len(kept), count)


# --- regions -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 1 << 47), st.integers(1, 40), st.integers(-5, 50))
def test_a_region_covers_its_bytes(address, length, offset):
    region = Region(address, length, WRITE)
    assert region.covers(address + offset) == (address + offset in range(address, address + length))


@settings(deadline=None)
@given(st.integers(0, 1 << 47), st.integers(1, 40))
def test_the_pieces_of_a_region_cover_it(address, length):
    region = Region(address, length, READ_WRITE)
    pieces = region.pieces()
    assert sum(piece.length for piece in pieces) == length
    assert all(region.covers(byte) for p in pieces for byte in (p.address, sum(p[:2]) - 1))
    assert {piece.rw for piece in pieces} == {READ_WRITE}


def test_x86_has_no_slot_for_reads_alone():
    assert ACCESS_RW == {
        "write": WRITE,
        "read": READ_WRITE,
        "access": READ_WRITE,
        "execute": EXECUTE,
    }
