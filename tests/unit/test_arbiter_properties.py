"""The arbiter beside a model that knows no shortcut, over random histories.

The model is written from the rules' text and judges everything anew after each step, by trying.
1,000 histories by default; the nightly run has 10,000:

    KWATCH_NIGHTLY=1 python3 -m pytest tests/unit/test_arbiter_properties.py

What may take a slot from a request without a strictly higher one is said in one place: `step`.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import combinations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from gdb_kwatch.core.arbiter import Arbiter, Refused
from gdb_kwatch.core.debugreg import READ_WRITE, WRITE, Piece
from gdb_kwatch.core.records import Region

EXAMPLES = 10_000 if os.environ.get("KWATCH_NIGHTLY") else 1_000
STEPS = 25

PROGRAMS = ("A", "B", "C")
PRIORITIES = (0, 16, 17, 128, 192)

longs = st.builds(lambda n: Region(0x2000 + 8 * n, 8, READ_WRITE), st.integers(0, 6))
writes = st.builds(
    Region,
    st.sampled_from([0x1000, 0x1001, 0x1002, 0x1003, 0x1006, 0x1008, 0x100A]),
    st.sampled_from([1, 1, 2, 4, 8]),
    st.just(WRITE),
)
places = st.lists(st.one_of(longs, longs, writes), min_size=1, max_size=4) | st.lists(
    writes, max_size=2
)
scopes = st.sampled_from([None, *PROGRAMS])
priorities = st.sampled_from(PRIORITIES)


def cut(regions):
    return frozenset(piece for region in regions for piece in region.pieces())


def wider(piece):
    """Every aligned piece that holds this one."""
    sizes = [size for size in (1, 2, 4, 8) if size >= piece.length]
    return [Piece(piece.address // size * size, size, WRITE) for size in sizes]


@cache
def fewest(pinned, soft):
    """The fewest slots: beside the pinned ones, the smallest set of slots that holds the rest."""
    rest = [piece for piece in soft if not pinned.intersection(wider(piece))]
    offers = {slot for piece in rest for slot in wider(piece)}
    return len(pinned) + next(
        count
        for count in range(len(rest) + 1)
        if any(
            all(set(slots).intersection(wider(piece)) for piece in rest)
            for slots in combinations(offers, count)
        )
    )


class Wanting:
    """What the model knows of a request."""

    def __init__(self, regions, scope, priority, soft, fixed):
        self.wants = {None: cut(regions)}
        self.scope, self.priority, self.soft, self.fixed = scope, priority, soft, fixed
        self.holds = self.tenured = self.moved = False
        self.arrival = 0

    def pieces(self, program):
        return self.wants.get(program, self.wants[None])


class Model:
    """The rules, by trying."""

    def __init__(self, policy, merge):
        self.policy, self.merge = policy, merge
        self.live, self.taken, self.all = {}, {}, []
        self.seen = [set(), set(), set(), set()]
        self.clock = 0

    def arrive(self, one):
        self.clock += 1
        one.arrival = self.clock
        if one in self.all:
            self.all.remove(one)
        self.all.append(one)

    def capacity(self, program):
        return 4 - self.taken.get(program, 0)

    def there(self, one):
        """The programs in which a request counts."""
        return [p for p in self.live if one.scope == p or (one.scope is None and self.live[p])]

    def slots(self, program, some):
        pinned, soft = set(), set()
        for one in some:
            if program in self.there(one):
                for piece in one.pieces(program):
                    can = self.merge and one.soft and piece.rw == WRITE
                    (soft if can else pinned).add(piece)
        return fewest(frozenset(pinned), frozenset(soft - pinned))

    def same_without(self, one, before):
        """Does it hold nothing that those before it do not hold in the same manner?"""
        for program in self.there(one):
            for piece in one.pieces(program):
                hosts = [o for o in before if program in self.there(o)]
                hosts = [o for o in hosts if piece in o.pieces(program)]
                mergeable = self.merge and one.soft and piece.rw == WRITE
                if not mergeable:
                    hosts = [o for o in hosts if not (self.merge and o.soft and piece.rw == WRITE)]
                if not hosts:
                    return False
        return True

    def fits(self, one, before):
        return all(
            self.slots(p, [*before, one]) <= max(self.capacity(p), self.slots(p, before))
            for p in self.there(one)
        )

    def rank(self, one):
        """How high it is judged: fixed, then by priority; `simple` puts single programs first."""
        first = self.policy == "simple" and (one.scope is not None or one.priority >= 192)
        return (one.fixed, first, one.priority)

    def together(self, one, other):
        return bool(set(self.there(one)) & set(self.there(other)))

    def admitted(self, policy, one, before):
        """Rule 4 for a request of all programs."""
        if one.scope is not None or policy == "exact":
            return True
        if policy == "simple" and one.priority < 192:
            ranks = sum(bool(seen) for seen in self.seen)
        else:
            ranks = sum(max(seen, default=-1) >= one.priority for seen in self.seen)
        common = [o for o in before if o.scope is None and o.tenured]
        for p in self.there(one):
            used = self.slots(p, [*common, one])
            if used > self.slots(p, common) and used + ranks > self.capacity(p):
                return False
        return True

    def forget_marks(self):
        used = max((len(self.ranked(p)) for p in self.live if self.live[p]), default=0)
        stale = any(self.seen[used:])
        for k in range(used, 4):
            self.seen[k] = set()
        return stale

    def ranked(self, program):
        highest = {}
        for one in self.all:
            if one.holds and one.scope == program:
                for piece in one.pieces(program):
                    highest[piece] = max(highest.get(piece, 0), one.priority)
        return sorted(highest.values(), reverse=True)

    def judge(self):
        self.forget_marks()
        self.judge_once()
        while self.forget_marks():
            self.judge_once()
        for program in self.live:
            if self.live[program]:
                for k, priority in enumerate(self.ranked(program)[:4]):
                    self.seen[k].add(priority)
        for one in self.all:
            one.moved = False

    def judge_once(self):
        todo, before, failed = list(self.all), [], []
        while todo:
            one = max(
                todo, key=lambda o: (self.rank(o), o.tenured, o.tenured and not o.moved, -o.arrival)
            )
            guest = self.same_without(one, before)
            fits = one.fixed or self.fits(one, before)
            if one.tenured and not fits:
                one.tenured = False  # and is judged again, among the others
                continue
            todo.remove(one)
            passes = any(
                self.rank(o) == self.rank(one) and o.arrival < one.arrival and self.together(o, one)
                for o in failed
            )
            asked = not one.tenured and not one.fixed and not (guest and one.holds)
            if (
                one.tenured
                or one.fixed
                or (
                    fits
                    and (guest or not passes)
                    and (not asked or self.admitted(self.policy, one, before))
                )
            ):
                before.append(one)
                one.tenured = one.tenured or one.fixed or not guest
                one.holds = True
            else:
                failed.append(one)
                one.holds = one.tenured = False


class Histories(RuleBasedStateMachine):
    """Any history of an arbiter; after each step it stands as the model says."""

    requests = Bundle("requests")

    def __init__(self):
        super().__init__()
        self.pairs = {}
        self.told = {}
        self.held = set()
        self.stood = {}
        self.moves = []
        self.were_installed = set()

    @initialize(
        target=requests,
        policy=st.sampled_from(["exact", "high-water", "simple"]),
        merge=st.booleans(),
        many=st.lists(st.tuples(places, scopes, priorities, st.booleans()), max_size=6),
    )
    def start(self, policy, merge, many):
        self.faults = []
        self.arbiter = Arbiter(policy, merge, self.faults.append)
        self.model = Model(policy, merge)
        for program in PROGRAMS[:2]:
            self.arbiter.add(program)
            self.arbiter.live(program, True)
            self.model.live[program] = True
        return multiple(*(self.ask(*some) for some in many))

    def slots_held(self):
        """Who holds what, after the last step."""
        return {
            (request, program, piece)
            for request in self.pairs
            if request.installed
            for program in self.model.there(self.pairs[request])
            for piece in request.pieces(program)
        }

    def step(self, subject=None, excused=False):
        """The model follows.  Nobody tenured lost its slots to an equal or a lower one.

        Excused are the request that changed itself, and steps that take slots away from all:
        another program alive, foreign users, another policy, no merging.
        """
        self.only_moves_are_told(subject, excused)
        tenured = [r for r, one in self.pairs.items() if one.tenured and one in self.model.all]
        before, now = self.held, self.slots_held()
        self.model.judge()
        self.held = now
        lost = [r for r in tenured if not r.installed and r is not subject]
        for request in () if excused else lost:
            mine = self.model.rank(self.pairs[request])
            assert any(self.model.rank(self.pairs[r]) > mine for r, _, _ in now - before), request

    def only_moves_are_told(self, subject, excused):
        """Who stays installed and stands in other slots is told so, once; nobody else is
        (but those that came into a program with its process, and never stood merged there)."""
        before, moves = self.stood, self.moves
        self.stood = {
            (request, program): request.held(program)
            for request in self.pairs
            if request.installed
            for program in PROGRAMS
            if self.model.live.get(program) or request.scope == program
        }
        self.moves = []
        told = {request for request, events in self.told.items() if events[-1:] == ["installed"]}
        changed = {
            request
            for (request, program), held in self.stood.items()
            if before.get((request, program), request.pieces(program)) != held
            and request in self.were_installed
        }
        self.were_installed = told
        assert len(moves) == len(set(moves))
        assert changed - {subject} <= set(moves)
        assert excused or set(moves) - {subject} == changed - {subject}

    @rule(
        target=requests,
        regions=places,
        scope=scopes,
        priority=priorities,
        soft=st.booleans(),
        fixed=st.sampled_from([False] * 15 + [True]),
    )
    def request(self, regions, scope, priority, soft, fixed):
        return self.ask(regions, scope, priority, soft, fixed)

    @rule(target=requests, address=st.integers(0x1000, 0x100F), scope=scopes, priority=priorities)
    def char(self, address, scope, priority):
        return self.ask([Region(address, 1, WRITE)], scope, priority, True)

    @rule(target=requests, number=st.integers(0, 6), scope=scopes)
    def long(self, number, scope):
        return self.ask([Region(0x2000 + 8 * number, 8, READ_WRITE)], scope, 16, False)

    @rule(target=requests, numbers=st.sets(st.integers(0, 6), min_size=2, max_size=4))
    def common(self, numbers):
        regions = [Region(0x2000 + 8 * number, 8, READ_WRITE) for number in numbers]
        return self.ask(regions, None, 16, False)

    def ask(self, regions, scope, priority, soft, fixed=False):
        one = Wanting(regions, scope, priority, soft, fixed)
        if not fixed:
            slots = fewest_of(one, self.model.merge)
            if slots > 4:
                self.refused(regions, scope, priority, soft)
                return None
        events = []
        request = self.arbiter.request(
            regions,
            scope=scope,
            priority=priority,
            mergeable=soft,
            fixed=fixed,
            installed=lambda r: self.tell(r, events, "installed"),
            uninstalled=lambda r: self.tell(r, events, "uninstalled"),
            triggered=lambda r, hit: events.append(hit),
            moved=lambda r: self.moves.append(r),
        )
        self.told[request] = events
        self.pairs[request] = one
        if scope is not None:
            self.model.live.setdefault(scope, False)
        self.model.arrive(one)
        self.step()
        return request

    def refused(self, regions, scope, priority, soft):
        try:
            self.arbiter.request(regions, scope=scope, priority=priority, mergeable=soft)
        except Refused:
            return
        raise AssertionError("it can never be installed")

    def tell(self, request, events, what):
        """Told once, in turn, and only when everything fits."""
        events.append(what)
        for program in self.arbiter.programs:
            assert self.over_subscribed(program) or self.in_use(program) <= self.capacity(program)

    def capacity(self, program):
        return 4 - self.model.taken.get(program, 0)

    def in_use(self, program):
        return len(self.arbiter.holders(program))

    def over_subscribed(self, program):
        fixed = [r for r in self.arbiter.requests if r.fixed]
        slots = {piece for r in fixed for piece in r.pieces(program)}
        return len(slots) > self.capacity(program)

    @rule(request=consumes(requests))
    def release(self, request):
        if request is None:
            return
        self.arbiter.release(request)
        self.arbiter.release(request)
        if self.pairs[request] in self.model.all:
            self.model.all.remove(self.pairs[request])
        self.step()

    @rule(request=requests, regions=places, program=st.sampled_from([None, *PROGRAMS]))
    def move(self, request, regions, program):
        if request is None or request.released:
            return
        one = self.pairs[request]
        there = program if request.scope is None else None
        if not request.fixed and fewest_of(one, self.model.merge, cut(regions)) > 4:
            return
        self.arbiter.change(request, regions=regions, program=there)
        if there is None:
            one.wants = {}
        else:
            self.model.live.setdefault(there, False)
        one.wants[there] = cut(regions)
        one.moved = True
        self.step(request)

    @rule(request=requests, numbers=st.sets(st.integers(0, 6), min_size=1, max_size=4))
    def grow(self, request, numbers):
        regions = [Region(0x2000 + 8 * number, 8, READ_WRITE) for number in numbers]
        self.move(request, regions, None)

    @rule(request=requests, priority=priorities)
    def rank(self, request, priority):
        if request is None or request.released:
            return
        self.arbiter.change(request, priority=priority)
        one = self.pairs[request]
        if one.priority != priority:
            one.priority = priority
            self.model.arrive(one)
        self.step(request)

    @rule(program=st.sampled_from(PROGRAMS), alive=st.booleans())
    def live(self, program, alive):
        self.model.live[program] = alive
        if not alive:
            self.model.taken.pop(program, None)
        self.arbiter.live(program, alive)
        self.step(excused=True)

    @rule(program=st.sampled_from(PROGRAMS), slots=st.integers(0, 4))
    def foreign(self, program, slots):
        self.model.live.setdefault(program, False)
        self.model.taken[program] = slots
        self.arbiter.foreign(program, slots)
        self.step(excused=True)

    @rule(program=st.sampled_from(PROGRAMS))
    def drop(self, program):
        self.model.live.pop(program, None)
        self.model.taken.pop(program, None)
        self.arbiter.drop(program)
        self.model.all = [one for one in self.model.all if one.scope != program]
        for one in self.model.all:
            one.wants.pop(program, None)
        self.step(excused=True)

    @rule(policy=st.sampled_from(["exact", "high-water", "simple"]))
    def policy(self, policy):
        self.arbiter.policy = self.model.policy = policy
        self.step(excused=True)

    @rule(merge=st.booleans())
    def merge(self, merge):
        self.arbiter.merge = self.model.merge = merge
        self.step(excused=True)

    @rule(request=requests)
    def trigger(self, request):
        if request is None or request.released:
            return
        self.arbiter.trigger(request, "hit")
        assert self.told[request].pop() == "hit"

    @rule(regions=places, scope=scopes, priority=priorities, soft=st.booleans())
    def would(self, regions, scope, priority, soft):
        """The answer is what happens then; asking changes nothing."""
        before = {r: (r.installed, r.arrival) for r in self.pairs}
        try:
            answer = self.arbiter.would(regions, scope=scope, priority=priority, mergeable=soft)
        except Refused:
            return
        assert before == {r: (r.installed, r.arrival) for r in self.pairs}
        self.everything()
        if scope is not None and scope not in self.model.live:
            return
        one = Wanting(regions, scope, priority, soft, False)
        self.model.arrive(one)
        held = {o: (o.holds, o.tenured) for o in self.model.all}
        seen = [set(ranks) for ranks in self.model.seen]
        self.model.judge()
        assert answer.installed == one.holds
        lost = [r for r, o in self.pairs.items() if o in held and held[o][0] and not o.holds]
        assert set(answer.displaced) == {r for r in lost if not r.released}
        assert one.holds or answer.behind or self.model.taken or self.model.seen != [set()] * 4
        self.model.all.remove(one)
        self.model.clock -= 1
        self.model.seen = seen
        for o, (holds, tenured) in held.items():
            o.holds, o.tenured = holds, tenured

    @invariant()
    def everything(self):
        if not self.pairs:
            return
        arbiter, model = self.arbiter, self.model
        assert not self.faults
        alive = [r for r in self.pairs if not r.released]
        assert set(arbiter.requests) == set(alive)
        assert [r.arrival for r in arbiter.requests] == sorted(r.arrival for r in alive)
        for request in alive:
            one = self.pairs[request]
            assert request.installed == one.holds, request
            assert bool(arbiter.behind(request)) <= (not request.installed)
            for program in PROGRAMS:
                whole = request.installed and program in model.there(one)
                held = request.held(program)
                assert bool(held) == bool(whole and one.pieces(program))
                assert all(
                    any(slot == p or (slot in wider(p) and p.rw == WRITE) for slot in held)
                    for p in (one.pieces(program) if whole else ())
                )
        for request, events in self.told.items():
            turns = ["installed", "uninstalled"] * len(events)
            assert events == turns[: len(events)]
            assert (len(events) % 2 == 1) == (request.installed and not request.released)
        for program in model.live:
            self.room(program)

    def room(self, program):
        """Four slots; merged only where needed, and no more than that."""
        model = self.model
        holders = [one for one in model.all if one.holds and program in model.there(one)]
        wanted = {piece for one in holders for piece in one.pieces(program)}
        least = model.slots(program, holders)
        capacity = model.capacity(program)
        assert self.in_use(program) == max(least, min(len(wanted), capacity))
        assert self.over_subscribed(program) or self.in_use(program) <= capacity
        assert self.arbiter.free(program) == max(0, capacity - self.in_use(program))
        for slot, requests in self.arbiter.holders(program).items():
            assert requests
            if slot not in wanted:
                inside = [p for p in wanted if p.rw == WRITE and slot in wider(p)]
                assert len(inside) >= 2

    @invariant()
    def policies_are_ordered(self):
        """What simple admits high-water admits, what that admits exact admits: same state."""
        for one in self.model.all if self.pairs else ():
            if one.scope is None and not one.holds:
                answers = [
                    self.arbiter.admits(policy, r)
                    for policy in POLICIES
                    for r, o in self.pairs.items()
                    if o is one
                ]
                assert answers == sorted(answers), answers

    def teardown(self):
        if not self.pairs:
            return
        for request in self.pairs:
            self.arbiter.release(request)
        for program in PROGRAMS:
            self.arbiter.drop(program)
        for request, events in self.told.items():
            assert not request.installed and request.released
            assert len(events) % 2 == 0
        assert not list(self.arbiter.requests)
        assert self.arbiter.tables() == {}


POLICIES = ("simple", "high-water", "exact")


def fewest_of(one, merge, pieces=None):
    pieces = one.wants[None] if pieces is None else pieces
    soft = frozenset(p for p in pieces if merge and one.soft and p.rw == WRITE)
    return fewest(frozenset(pieces - soft), soft)


TestHistories = Histories.TestCase
TestHistories.pytestmark = [pytest.mark.timeout(300 if EXAMPLES == 1_000 else 3600)]
TestHistories.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
