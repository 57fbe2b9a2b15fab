"""The arbiter's rules, one readable case each."""

from __future__ import annotations

import pytest

from gdb_kwatch.core.arbiter import (
    BACKGROUND,
    BREAK_NATIVE,
    NATIVE,
    NORMAL,
    Arbiter,
    Refused,
    priority_name,
    priority_of,
)
from gdb_kwatch.core.debugreg import READ_WRITE, WRITE, Piece
from gdb_kwatch.core.records import Region


def longs(*numbers: int, rw: int = READ_WRITE) -> list[Region]:
    """8-byte regions by number, each a slot."""
    return [Region(0x1000 + 8 * n, 8, rw) for n in numbers]


def chars(*addresses: int) -> list[Region]:
    return [Region(0x1000 + address, 1, WRITE) for address in addresses]


def ask(arbiter: Arbiter, *numbers: int, scope="A", **options):
    options.setdefault("name", "".join(map(str, numbers)))
    return arbiter.request(longs(*numbers), scope=scope, **options)


def test_four_slots_and_no_more():
    arbiter = Arbiter()
    requests = [ask(arbiter, n) for n in range(5)]
    assert [r.installed for r in requests] == [True] * 4 + [False]
    assert arbiter.free("A") == 0
    arbiter.release(requests[0])
    assert requests[4].installed


def test_a_higher_one_displaces_the_newest_of_the_lowest():
    arbiter = Arbiter()
    low = [ask(arbiter, n) for n in range(4)]
    native = ask(arbiter, 4, priority=NATIVE)
    assert native.installed
    assert [r.installed for r in low] == [True, True, True, False]
    assert arbiter.behind(low[3]) == (native, *low[:3])
    arbiter.release(native)
    assert all(r.installed for r in low)


def test_five_chars_in_one_block_share():
    arbiter = Arbiter()
    requests = [arbiter.request(chars(n), scope="A", mergeable=True, name=str(n)) for n in range(5)]
    assert all(r.installed for r in requests)
    assert len(arbiter.holders("A")) == 4
    assert requests[0].held("A") == requests[1].held("A") == {Piece(0x1000, 2, WRITE)}
    assert requests[0].merged("A") and not requests[2].merged("A")
    arbiter.release(requests[4])
    assert not any(r.merged("A") for r in requests)


@pytest.mark.parametrize(
    ("policy", "admitted"), [("exact", True), ("high-water", False), ("simple", False)]
)
def test_the_scenario_of_2007(policy, admitted):
    arbiter = Arbiter(policy)
    arbiter.live("A", True)
    arbiter.live("B", True)
    ask(arbiter, 0, scope="A", priority=NATIVE)
    low = ask(arbiter, 1, scope="B", priority=BACKGROUND)
    middle = ask(arbiter, 2, 3, 4, 5, scope=None)
    assert not middle.installed
    arbiter.drop("A")
    assert middle.installed == admitted
    assert low.installed != admitted


def test_refused():
    arbiter = Arbiter()
    holder = ask(arbiter, 9)
    with pytest.raises(Refused) as refused:
        ask(arbiter, 0, 1, 2, 3, 4)
    assert refused.value.holders == (holder,)


def test_words():
    assert [priority_of(w) for w in ("background", " Normal", "native", "break-native", "7")] == [
        BACKGROUND,
        NORMAL,
        NATIVE,
        BREAK_NATIVE,
        7,
    ]
    assert priority_name(128) == "native" and priority_name(17) == "17"
    for wrong in ("", "256", "-1", "high", "1.5"):
        with pytest.raises(ValueError, match="priority"):
            priority_of(wrong)
