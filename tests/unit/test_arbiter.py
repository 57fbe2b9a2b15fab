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


class Diary:
    """What was told, in order."""

    def __init__(self, arbiter: Arbiter) -> None:
        self.arbiter = arbiter
        self.lines: list[str] = []

    def ask(self, *numbers: int, **options):
        return ask(self.arbiter, *numbers, **self.callbacks(), **options)

    def callbacks(self):
        return {
            "installed": lambda r: self.lines.append(f"{r.name} installed"),
            "uninstalled": lambda r: self.lines.append(f"{r.name} uninstalled"),
            "triggered": lambda r, hit: self.lines.append(f"{r.name} {hit}"),
            "moved": lambda r: self.lines.append(f"{r.name} moved"),
        }


def installed(*requests) -> list[bool]:
    return [request.installed for request in requests]


# Rule 1


def test_whole_or_not_at_all():
    arbiter = Arbiter()
    ask(arbiter, 0, 1)
    big = ask(arbiter, 2, 3, 4)
    assert not big.installed and big.held("A") == frozenset()
    assert arbiter.free("A") == 2


def test_equal_pieces_share_a_slot():
    arbiter = Arbiter()
    first, second = ask(arbiter, 0, 1, 2), ask(arbiter, 2, 1)
    assert installed(first, second) == [True, True]
    assert arbiter.free("A") == 1
    assert arbiter.holders("A")[Piece(0x1008, 8, READ_WRITE)] == (first, second)


def test_another_access_is_another_slot():
    arbiter = Arbiter()
    arbiter.request(longs(0), scope="A")
    arbiter.request(longs(0, rw=WRITE), scope="A")
    assert arbiter.free("A") == 2


def test_each_program_has_four_slots():
    arbiter = Arbiter()
    ask(arbiter, 0, 1, 2, 3, scope="A")
    assert ask(arbiter, 0, 1, 2, 3, scope="B").installed


# Rule 2


def test_the_lowest_goes_first_then_the_newest():
    arbiter = Arbiter()
    requests = [
        ask(arbiter, n, priority=priority)
        for n, priority in enumerate((NORMAL, BACKGROUND, BACKGROUND, NORMAL))
    ]
    gone = []
    for n in range(4):
        ask(arbiter, 10 + n, priority=NATIVE)
        gone += [k for k, r in enumerate(requests) if not r.installed and k not in gone]
    assert gone == [2, 1, 3, 0]


def test_an_equal_or_a_higher_one_is_not_displaced():
    arbiter = Arbiter()
    ask(arbiter, 0, 1)
    ask(arbiter, 2, 3, priority=NATIVE)
    waiting = ask(arbiter, 4)
    assert not waiting.installed
    assert len(arbiter.behind(waiting)) == 2


def test_one_whose_slots_would_not_help_is_spared():
    arbiter = Arbiter()
    single, triple = ask(arbiter, 0), ask(arbiter, 1, 2, 3)
    small = ask(arbiter, 0)  # shares with the first
    ask(arbiter, 5, 6, 7, priority=NATIVE)
    assert installed(single, triple, small) == [True, False, True]


def test_a_break_native_one_displaces_a_native_one():
    arbiter = Arbiter()
    natives = [ask(arbiter, n, priority=NATIVE) for n in range(4)]
    breaker = ask(arbiter, 4, priority=BREAK_NATIVE)
    assert installed(*natives, breaker) == [True, True, True, False, True]


def test_a_fixed_one_is_never_displaced_nor_made_to_wait():
    arbiter = Arbiter()
    fixed = ask(arbiter, 0, priority=BACKGROUND, fixed=True)
    four = ask(arbiter, 1, 2, 3, 4, priority=BREAK_NATIVE)
    assert installed(fixed, four) == [True, False]
    ask(arbiter, 5, 6, 7, 8, fixed=True)
    assert len(arbiter.holders("A")) == 5 and arbiter.free("A") == 0


def test_another_priority_is_a_new_arrival_that_keeps_its_slots():
    arbiter = Arbiter()
    first, second = ask(arbiter, 0, 1), ask(arbiter, 2, 3)
    waiting = ask(arbiter, 4, priority=BACKGROUND)
    arbiter.change(first, priority=BACKGROUND)
    assert installed(first, second, waiting) == [True, True, False]
    assert list(arbiter.requests) == [second, waiting, first]
    arbiter.change(waiting, priority=NATIVE)
    assert installed(first, second, waiting) == [False, True, True]


def test_one_that_wants_more_than_before_displaces_no_equal():
    arbiter = Arbiter()
    first, second = ask(arbiter, 0), ask(arbiter, 1, 2)
    arbiter.change(first, regions=longs(5, 6, 7))
    assert installed(first, second) == [False, True]
    arbiter.change(first, regions=longs(5, 6))
    assert installed(first, second) == [True, True]


# Rule 3


def test_a_smaller_equal_may_not_pass():
    arbiter = Arbiter()
    holder = ask(arbiter, 0, 1)
    big, small = ask(arbiter, 2, 3, 4), ask(arbiter, 5)
    assert installed(big, small) == [False, False]
    assert arbiter.behind(big) == (holder,)
    assert arbiter.behind(small) == (big,)
    arbiter.release(holder)
    assert installed(big, small) == [True, True]


def test_a_lower_one_may_pass_and_is_displaced_in_time():
    arbiter = Arbiter()
    holder = ask(arbiter, 0, 1)
    big, low = ask(arbiter, 2, 3, 4, 5), ask(arbiter, 6, priority=BACKGROUND)
    assert installed(big, low) == [False, True]
    arbiter.release(holder)
    assert installed(big, low) == [True, False]


def test_those_of_another_program_may_pass():
    arbiter = Arbiter()
    ask(arbiter, 0, 1)
    assert not ask(arbiter, 2, 3, 4).installed
    assert ask(arbiter, 5, scope="B").installed


def test_a_guest_may_pass_and_delays_nobody():
    arbiter = Arbiter()
    host = ask(arbiter, 0, 1)
    big = ask(arbiter, 2, 3, 4)
    guest = ask(arbiter, 1)
    assert installed(host, big, guest) == [True, False, True]
    arbiter.release(host)
    assert installed(big, guest) == [True, True]
    assert arbiter.free("A") == 0


def test_a_guest_whose_host_leaves_is_judged_by_its_arrival():
    arbiter = Arbiter()
    host, other = ask(arbiter, 0), ask(arbiter, 7)
    big = ask(arbiter, 1, 2, 3, 4)
    guest = ask(arbiter, 0)
    arbiter.release(host)
    assert installed(other, big, guest) == [True, False, False]
    assert arbiter.behind(guest) == (big,)


def test_a_request_that_is_withdrawn_lets_the_next_one_pass():
    arbiter = Arbiter()
    ask(arbiter, 0, 1)
    big, small = ask(arbiter, 2, 3, 4), ask(arbiter, 5)
    arbiter.release(big)
    assert small.installed


# Rule 4


def test_one_of_all_programs_needs_slots_in_each():
    arbiter = Arbiter()
    for program in "AB":
        arbiter.live(program, True)
    holder = ask(arbiter, 0, 1, 2, scope="B")
    common = ask(arbiter, 5, 6, scope=None)
    assert not common.installed and arbiter.behind(common) == (holder,)
    arbiter.live("B", False)
    assert common.installed and holder.installed
    assert common.held("A") and not common.held("B")


def test_a_program_that_comes_alive_gets_those_of_all_programs():
    arbiter = Arbiter()
    common = ask(arbiter, 0, 1, 2, scope=None)
    planned = ask(arbiter, 5, 6, scope="A")
    assert installed(common, planned) == [True, True]
    arbiter.change(common, regions=longs(7), program="A")
    arbiter.live("A", True)
    assert installed(common, planned) == [True, True]
    assert common.held("A") == {Piece(0x1038, 8, READ_WRITE)}
    arbiter.change(common, regions=longs(7, 8, 9), program="A")
    assert installed(common, planned) == [False, True]


def test_a_policy_can_be_changed_at_any_time():
    arbiter = Arbiter("simple")
    arbiter.live("A", True)
    low = ask(arbiter, 0, priority=BACKGROUND)
    common = ask(arbiter, 1, 2, 3, 4, scope=None)
    assert installed(low, common) == [True, False]
    assert [arbiter.admits(p, common) for p in ("exact", "high-water", "simple")] == [
        True,
        True,
        False,
    ]
    arbiter.policy = "exact"
    assert installed(low, common) == [False, True]
    with pytest.raises(ValueError, match="policy 'none'"):
        arbiter.policy = "none"


def test_one_of_all_programs_that_waits_keeps_others_back_everywhere():
    arbiter = Arbiter()
    for program in "AB":
        arbiter.live(program, True)
    holder = ask(arbiter, 0, 1, scope="A")
    common = ask(arbiter, 2, 3, 4, scope=None)
    behind = ask(arbiter, 5, scope="B")
    assert installed(common, behind) == [False, False]
    assert arbiter.behind(behind) == (common,)
    arbiter.release(holder)
    assert installed(common, behind) == [True, True]


def test_a_guest_kept_out_by_the_policy_comes_in_when_that_allows():
    arbiter = Arbiter("high-water")
    arbiter.live("A", True)
    arbiter.foreign("A", 3)
    host = ask(arbiter, 0, priority=NATIVE)
    waiting = ask(arbiter, 5, 6)
    guest = ask(arbiter, 0, scope=None)
    assert installed(host, waiting, guest) == [True, False, False]
    arbiter.foreign("A", 2)
    assert installed(host, waiting, guest) == [True, False, True]


# Rule 5


def test_merging_comes_before_waiting_and_before_displacing():
    arbiter = Arbiter()
    low = [ask(arbiter, n, priority=BACKGROUND) for n in (10, 11, 12)]
    one = arbiter.request(chars(0), scope="A", mergeable=True)
    two = arbiter.request(chars(7), scope="A", mergeable=True)
    assert installed(one, two, *low) == [True] * 5
    assert one.held("A") == two.held("A") == {Piece(0x1000, 8, WRITE)}
    arbiter.release(low[0])
    assert two.held("A") == {Piece(0x1007, 1, WRITE)}


def test_reads_and_natives_are_never_merged():
    arbiter = Arbiter()
    ask(arbiter, 10, 11, 12)
    arbiter.request(chars(0), scope="A", mergeable=True)
    native = arbiter.request(chars(1), scope="A")
    read = arbiter.request([Region(0x1001, 1, READ_WRITE)], scope="A", mergeable=True)
    assert installed(native, read) == [False, False]


def test_merging_can_be_switched_off():
    arbiter = Arbiter()
    requests = [arbiter.request(chars(n), scope="A", mergeable=True) for n in range(6)]
    assert installed(*requests) == [True] * 6
    arbiter.merge = False
    assert installed(*requests) == [True] * 4 + [False] * 2
    assert not any(r.merged("A") for r in requests)


def test_who_is_merged_is_told():
    arbiter = Arbiter()
    diary = Diary(arbiter)
    for n in range(5):
        arbiter.request(chars(n), scope="A", mergeable=True, name=str(n), **diary.callbacks())
    assert diary.lines[4:] == ["0 moved", "1 moved", "4 installed"]
    arbiter.release(next(arbiter.requests))
    assert diary.lines[7:] == ["0 uninstalled", "1 moved"]


# Rule 6


def test_uninstalled_is_told_before_installed():
    diary = Diary(Arbiter())
    for n in range(4):
        diary.ask(n)
    native = diary.ask(4, 5, priority=NATIVE)
    assert diary.lines[4:] == ["2 uninstalled", "3 uninstalled", "45 installed"]
    diary.arbiter.release(native)
    assert diary.lines[7:] == ["45 uninstalled", "2 installed", "3 installed"]
    diary.arbiter.trigger(next(diary.arbiter.requests), "hit")
    assert diary.lines[-1] == "0 hit"


def test_a_callback_that_raises_does_not_stop_the_others():
    faults = []
    arbiter = Arbiter(fault=faults.append)
    diary = Diary(arbiter)

    def wrong(request):
        raise RuntimeError(request.name)

    ask(arbiter, 0, 1, uninstalled=wrong, installed=wrong)
    diary.ask(2, 3)
    native = diary.ask(4, 5, 6, 7, priority=NATIVE)
    arbiter.release(native)
    assert [str(fault) for fault in faults] == ["01"] * 3
    assert diary.lines == [
        "23 installed",
        "23 uninstalled",
        "4567 installed",
        "4567 uninstalled",
        "23 installed",
    ]


def test_what_raises_is_printed_where_nobody_is_told(capsys):
    def wrong(request):
        raise RuntimeError("in the callback")

    ask(Arbiter(), 0, installed=wrong)
    assert "RuntimeError: in the callback" in capsys.readouterr().err


def test_a_callback_may_ask_the_arbiter():
    arbiter = Arbiter()
    diary = Diary(arbiter)
    seen = []

    def instead(request):
        """Displaced: asks again as a native, at once."""
        diary.lines.append(f"{request.name} uninstalled")
        seen.append(diary.ask(9, priority=NATIVE).installed)
        diary.lines.append("asked")

    ask(arbiter, 0, uninstalled=instead, priority=BACKGROUND)
    diary.ask(1, 2, 3)
    diary.ask(8, priority=NATIVE)
    assert seen == [True]
    assert diary.lines[1:] == [
        "0 uninstalled",
        "asked",
        "8 installed",
        "123 uninstalled",
        "9 installed",
    ]


def test_a_callback_may_release_its_own_request_and_others():
    arbiter = Arbiter()
    diary = Diary(arbiter)
    waiting = []

    def only_once(request):
        arbiter.release(request)
        arbiter.release(waiting[0])

    holder = ask(arbiter, 0, 1, 2, 3)
    first = diary.ask(4, 5)
    once = ask(arbiter, 6, 7, installed=only_once)
    waiting.append(first)
    arbiter.release(holder)
    assert once.released and first.released
    assert diary.lines == ["45 installed", "45 uninstalled"]
    assert arbiter.tables() == {"programs": 1}


def test_a_released_request_is_told_nothing_more():
    arbiter = Arbiter()
    diary = Diary(arbiter)
    request = diary.ask(0)
    arbiter.release(request)
    arbiter.release(request)
    arbiter.trigger(request, "late")
    arbiter.change(request, priority=NATIVE)
    assert diary.lines == ["0 installed", "0 uninstalled"]


# Others on the threads, and programs that go


def test_foreign_slots_are_not_granted():
    arbiter = Arbiter()
    requests = [ask(arbiter, n) for n in range(3)]
    arbiter.foreign("A", 2)
    assert installed(*requests) == [True, True, False]
    assert arbiter.behind(requests[2]) == (requests[0], requests[1])
    assert arbiter.free("A") == 0
    arbiter.foreign("A", 4)
    assert installed(*requests) == [False] * 3
    assert arbiter.behind(requests[0]) == ()
    arbiter.live("A", True)
    arbiter.live("A", False)
    assert installed(*requests) == [True] * 3


def test_a_program_that_goes_takes_its_requests_along():
    arbiter = Arbiter()
    arbiter.live("A", True)
    arbiter.live("B", True)
    mine = ask(arbiter, 0, 1)
    common = ask(arbiter, 2, 3, 4, scope=None)
    assert not common.installed
    arbiter.drop("A")
    assert mine.released and not mine.installed and common.installed
    assert arbiter.programs == ("B",)
    arbiter.drop("A")


# Questions


def test_what_would_become_of_it():
    arbiter = Arbiter()
    first, second = ask(arbiter, 0, 1), ask(arbiter, 2, 3)
    assert arbiter.would(longs(4), scope="A") == (False, (), (first, second))
    assert arbiter.would(longs(4), scope="A", priority=NATIVE) == (True, (second,), ())
    assert arbiter.would(longs(4), scope="new").installed
    assert arbiter.programs == ("A",)
    with pytest.raises(Refused, match="5 debug registers"):
        arbiter.would(longs(0, 1, 2, 3, 4), scope="A")
    assert installed(first, second) == [True, True]


def test_a_change_that_is_refused_changes_nothing():
    arbiter = Arbiter()
    request = ask(arbiter, 0)
    with pytest.raises(Refused):
        arbiter.change(request, regions=longs(0, 1, 2, 3, 4))
    with pytest.raises(ValueError, match="0 to 255"):
        arbiter.change(request, regions=longs(1), priority=256)
    assert request.held("A") == {Piece(0x1000, 8, READ_WRITE)}


def test_nothing_is_left_behind():
    arbiter = Arbiter()
    arbiter.live("A", True)
    requests = [ask(arbiter, n % 7, n % 5, scope="A" if n % 3 else None) for n in range(50)]
    for request in requests:
        arbiter.release(request)
    arbiter.drop("A")
    assert arbiter.tables() == {}
