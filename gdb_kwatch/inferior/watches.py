"""The registry: every hardware watchpoint and hardware breakpoint of the session.

It follows gdb's breakpoint events, works out what each one watches, has the arbiter say who holds
which slot, and aims the sentinels.  kwatch's own sentinels are told apart by class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, SLOTS, Piece, pieces_of
from gdb_kwatch.core.expression import chooses
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import ptrace

from . import fixed_places, gdbfacts, programs
from .arbitration import Arbitration
from .lvalues import (
    Lvalue,
    NotWatchable,
    Way,
    come_to,
    frame_or_none,
    in_frame,
    raw,
    resolve,
    unreadable,
)
from .plans import Plan, make_plan
from .sentinels import Pool, Sentinel
from .side_effects import calls_program
from .watch import (
    DISABLED,
    EXPIRED,
    INSTALLED,
    KINDS,
    PENDING,
    SOFTWARE,
    UNREADABLE_STATE,
    Leg,
    Options,
    Watch,
    local_context,
    overlap,
)

MORE = "gdb reads more memory for it than kwatch can tell"
_LENGTHS = (1, 2, 4, 8)  # of what a sentinel can stand on


class Registry:
    """All owners of slots, by gdb's breakpoint number, and the sentinel pools."""

    def __init__(self) -> None:
        self.watches: dict[int, Watch] = {}
        self.legs: list[Leg] = []
        self.slots = Arbitration(self.owners, self.follows, self.switch, self.renewed)
        self.changing = False  # kwatch itself changes a breakpoint
        self.may_keep = False  # a command runs that may change nothing, see no_changes
        self.pools: dict[gdb.Progspace, Pool] = {}
        self.adopting = True
        self.making: Options | None = None  # set while ``kwatch`` runs gdb's own ``watch``
        self.made: Watch | None = None
        # What a trap means, by the inferior and `ptrace.trap`.
        # Made anew after each `aim`.
        self.plans: dict[tuple[int, tuple[int, ...]], Plan] = {}
        self.let_go: set[Piece] = set()  # by those deleted or disabled since the last stop
        # What needs another language than the current one, or a thread that stands: it is to be
        # done at the next prompt.
        self.later: set[Watch] = set()
        self._parked: dict[int, Watch] = {}  # by id(bp), which the Watch keeps alive

    # On and off.

    def leave(self) -> None:
        """Take every sentinel out; the watchpoints are gdb's alone now, and are remembered.
        Those of gdb's own commands are on again where they only wait."""
        for watch in self.watches.values():
            if watch.options is not None and watch.bp.is_valid() and watch.bp.silent:
                watch.bp.silent = False  # no sentinel speaks for it any more
            self.slots.release(watch)
        self._parked = {id(watch.bp): watch for watch in self.watches.values()}
        self.watches.clear()
        self.legs.clear()
        self.slots.take_notes()
        self.plans.clear()
        for pool in self.pools.values():
            pool.discard()
        self.pools.clear()
        for watch in self._parked.values():
            if watch.options is None and watch.enabled and not watch.on:
                watch.on = self.switch(watch, True)
        self.later.clear()

    def back(self) -> list[Watch]:
        """Take in again those that `leave` remembers and gdb still has."""
        parked, self._parked = self._parked, {}
        found = [bp for bp in gdb.breakpoints() or () if id(bp) in parked]
        for bp in found:
            watch = parked[id(bp)]
            self.watches[watch.number] = watch
            watch.gdb_hits, watch.ignore_count = bp.hit_count, bp.ignore_count
            if bp.enabled != watch.on:
                self.switched(watch)
        return [parked[id(bp)] for bp in found]

    # What gdb tells.

    def created(self, bp: gdb.Breakpoint) -> None:
        if isinstance(bp, Sentinel) or bp.type not in KINDS:
            return
        watch = Watch(bp, self.making)
        self.watches[watch.number] = watch
        if self.making is not None:
            self.made = watch
        self.resolve(watch)
        self.aim()

    def look(self) -> list[Watch]:
        """Take in what gdb 10 does not tell Python of; returns what is new.  Not while gdb is
        about to stop."""
        found = {bp.number: bp for bp in gdbfacts.unlisted()}
        known = {n for n, w in self.watches.items() if isinstance(w.bp, gdbfacts.Unlisted)}
        for number in known - found.keys():
            self.forget(self.watches[number])
        for number, bp in found.items():
            if number in known:
                self.watches[number].bp = bp
                self.watches[number].enabled = bp.enabled
            else:
                self.watches[number] = Watch(bp, None)
            self.resolve(self.watches[number])
        if known or found:
            self.aim()
        return [self.watches[number] for number in sorted(found.keys() - known)]

    def deleted(self, bp: gdb.Breakpoint) -> None:
        watch = self.watches.get(bp.number)
        if watch is not None:
            self.forget(watch)
            self.aim()

    def forget(self, watch: Watch) -> None:
        """It is no more."""
        self.let_go |= watch.pieces
        self.watches.pop(watch.number, None)
        self.later.discard(watch)
        self.legs = [leg for leg in self.legs if leg.head is not watch]
        self.slots.release(watch)

    def forget_hidden(self) -> bool:
        """Let go of the watchpoints of threads that have ended; True if there were any, and
        `aim` is due.

        gdb up to 13 hides such a breakpoint and deletes it at its next stop, exec or run without
        any event: the gdb.Breakpoint stays "valid" and points to freed memory
        (``remove_threaded_breakpoints``, ``gdbpy_breakpoint_deleted``).  So this comes before
        anything else looks at one.  ``gdb.breakpoints()`` has those that gdb still has.
        """
        if gdbfacts.VERSION >= (14, 0) or all(w.thread is None for w in self.watches.values()):
            return False
        alive = {t.global_num for inferior in gdb.inferiors() for t in inferior.threads()}
        there = {id(bp) for bp in gdb.breakpoints()}
        gone = [
            watch
            for watch in self.watches.values()
            if watch.thread is not None and (watch.thread not in alive or id(watch.bp) not in there)
        ]
        for watch in gone:
            self.forget(watch)
        self.plans.clear()
        return bool(gone)

    def switched(self, watch: Watch) -> bool:
        """The user, or gdb, changed something; True if it was enabled or disabled, or watches
        elsewhere.

        One that waits for a slot is off already, and gdb sends the same event for each change: one
        after which nothing else is different was ``disable`` (or see `no_changes`).
        """
        bp = watch.bp
        watch.thread = bp.thread
        if gdbfacts.may_execute():
            watch.once = gdbfacts.is_enabled_once(bp)
        if watch.in_registers and bp.condition != watch.with_acting(bp.condition):
            bp.condition = watch.with_acting(bp.condition)  # this comes again
            return False
        if bp.condition != watch.condition:
            watch.condition = bp.condition
            watch.condition_function = local_context(bp.condition)
            if watch.access == "execute" and watch.on:
                stood = watch.regions  # gdb leaves out where the condition means nothing
                self.resolve(watch)
                if watch.regions != stood:
                    self.aim()
                    return True
        now, before = bp.enabled, watch.on
        if now:
            self._keep_language(watch)
        seen, watch.seen = watch.seen, _changeable(bp)
        same = self.may_keep or seen != watch.seen
        if now == before and (now or not watch.enabled or same):
            return False
        if not now and watch.waits:
            self.slots.note(watch, f"{watch.name} is disabled, and waits no longer")
        watch.on = now
        watch.enabled = now
        watch.displaced = False
        self.resolve(watch)
        self.aim()
        return True

    def _keep_language(self, watch: Watch) -> None:
        """``enable`` parses in the current language (`enable_breakpoint_disp`; 10 to 18), and all
        else in the one that the watchpoint was set in (`breakpoint_re_set_one`): until then gdb
        would watch what a name of C's is to Rust, say, in slots that nobody knows of."""
        bp, current = watch.bp, gdbfacts.language_now()
        if watch.access == "execute" or not watch.in_registers or watch.language == current:
            return
        places = {region.address for region in watch.regions}
        if watch.on and places == set(gdbfacts.location_addresses(bp)):
            return  # before gdb 13 nobody knows
        if gdb.selected_inferior().pid and gdbfacts.may_execute():
            with self.own_change():
                if not gdbfacts.parse_in(bp, watch.language):
                    gdbfacts.parse_in(bp, current)  # its condition means nothing in the other

    def turned_on_unheard(self) -> list[Watch]:
        """At a prompt, what gdb has turned on and not told of: where watchpoints are put into the
        registers at once and no slot is free, ``enable`` ends with an error before the event
        (`enable_breakpoint_disp`, 10 to 18)."""
        if not gdbfacts.inserts_at_once():
            return []
        if self.forget_hidden():
            self.aim()
        return [
            watch
            for watch in self.watches.values()
            if not watch.on
            and watch.in_registers
            and not isinstance(watch.bp, gdbfacts.Unlisted)
            and watch.bp.is_valid()
            and watch.bp.enabled
            and self.switched(watch)
        ]

    def turn_off(self, watch: Watch) -> None:
        """``disable`` on the user's behalf."""
        if watch.on:
            watch.bp.enabled = False  # the event does the rest
        elif watch.enabled:
            watch.enabled = False
            self.resolve(watch)
            self.aim()

    @contextmanager
    def own_change(self) -> Iterator[None]:
        """While kwatch itself changes a breakpoint, breakpoint_modified says nothing new."""
        before, self.changing = self.changing, True
        try:
            yield
        finally:
            self.changing = before

    def switch(self, watch: Watch, on: bool) -> bool:
        """Turn its gdb.Breakpoint on or off; False where gdb refuses now (see `can_enable`: the
        next stop or prompt where it can tries again)."""
        if not watch.bp.is_valid():
            return False
        with self.own_change(), suppress(gdb.error), gdbfacts.speaking(watch.language) as spoken:
            if not on or (spoken and (not watch.is_watchpoint or gdbfacts.can_enable())):
                watch.turn(on)
            else:
                self.later.add(watch)
        watch.seen = _changeable(watch.bp)
        return bool(watch.bp.enabled) == on

    def renewed(self, watch: Watch) -> None:
        """It stands in a slot again: what it held meanwhile does not count."""
        watch.last = None
        if watch.progspace == programs.selected() and watch.state == INSTALLED:
            self._read(watch)

    # What each one watches.

    def resolve(self, watch: Watch, moved: bool = False) -> None:
        """Work out regions, state and the value now.  Never raises for the user's reasons.

        ``moved``: gdb's own locations are those of before.
        """
        with gdbfacts.speaking(watch.language) as spoken:
            if spoken or not watch.enabled:
                self._resolve(watch, moved)
            else:
                self.later.add(watch)  # and stands where it stood
        if watch.lvalue is None or watch.lvalue.regions != watch.to_check:
            watch.to_check = ()  # gdb may have made its locations while it was elsewhere

    def _resolve(self, watch: Watch, moved: bool) -> None:
        watch.reason, watch.way = "", None
        if not watch.enabled:
            self.let_go |= watch.pieces
            watch.state = EXPIRED if watch.state == EXPIRED else DISABLED
            watch.watch_regions(())
            return
        if watch.progspace != programs.selected():
            # Nothing of another program can be evaluated: a stop of it will (`Session.tidy`).
            watch.state = PENDING
            watch.watch_regions(watch.kept(watch.lvalue.regions) if watch.lvalue else ())
            return
        if watch.access == "execute":
            addresses = gdbfacts.code_addresses(watch.bp)
            watch.state = INSTALLED if addresses else PENDING
            watch.watch_regions(tuple(Region(address, 1, EXECUTE) for address in addresses))
            return
        calls = self._calls(watch)
        if not gdb.selected_inferior().pid:
            self._without_process(watch)
            return
        if watch.bp.type == gdb.BP_WATCHPOINT:
            watch.state = SOFTWARE
            watch.watch_regions(())
            return
        if calls or gdbfacts.changes_program(watch.watched):
            watch.state, watch.reason = INSTALLED, "the expression has side effects"
            watch.watch_regions(())
            return
        if not watch.is_location and gdbfacts.is_thread_local(watch.watched):
            watch.wandering, watch.reason = True, "thread-local: gdb moves it from thread to thread"
        if gdbfacts.VERSION < (13, 0) and chooses(watch.watched):
            watch.state, watch.reason = INSTALLED, gdbfacts.NO_LOCATIONS
            watch.watch_regions(())
            return
        if watch.is_location and watch.lvalue is not None:
            self._go_where_gdb_is(watch, watch.lvalue)
            self._read(watch)
            return
        if watch.options is not None and watch.options.place is not None:
            watch.lvalue = raw(*watch.options.place, watch.rw)
            watch.watch_regions(watch.lvalue.regions)
            self._read(watch)
            return
        first = watch.lvalue is None or watch.state == UNREADABLE_STATE
        try:
            with in_frame(watch.frame):
                watch.lvalue = resolve(watch.watched, watch.rw, watch.is_location)
                if watch.scoped is None:
                    watch.scoped = gdbfacts.needs_frame(watch.watched)
            if watch.is_location and watch.lvalue.address is not None:
                watch.of_symbol = bool(gdbfacts.symbolic(watch.lvalue.address))
        except gdb.MemoryError as error:
            self._unreadable(watch, str(error), moved)
            return
        except (gdb.error, NotWatchable) as error:
            watch.state, watch.reason = PENDING, str(error)
            watch.watch_regions(())
            return
        if not watch.on or watch.head is not watch:
            watch.watch_regions(watch.lvalue.regions)  # gdb has no locations for it
        elif gdbfacts.VERSION >= (13, 0) and not moved:
            self._check_against_gdb(watch)
        else:
            watch.unchecked = watch.unchecked or first
            watch.watch_regions(watch.kept(watch.lvalue.regions))
        if watch.reason != MORE:
            way = watch.lvalue.way
            watch.way = Way(way, gdb.selected_inferior()) if way else None
            self._read(watch)

    def _calls(self, watch: Watch) -> bool:
        """Whether gdb's own watches an operator that the program defines; asked once."""
        if watch.calls is None and gdbfacts.may_execute():
            with in_frame(watch.frame):
                watch.calls = calls_program(watch.watched)
        return bool(watch.calls)

    def _go_where_gdb_is(self, watch: Watch, lvalue: Lvalue) -> None:
        """The address that gdb has fixed by -location is told once there is a process: of one that
        was set before kwatch looked, it may be another than the expression's."""
        gdbs = self._gdbs_places(watch) if watch.options is None else []
        if len(lvalue.regions) == len(gdbs) == 1 and gdbs[0] != lvalue.regions[0].address:
            self.put(watch, lvalue, gdbs[0])

    def put(self, watch: Watch, lvalue: Lvalue, address: int) -> None:
        """Have one of a single region stand where gdb has it."""
        lvalue.regions = (Region(address, *lvalue.regions[0][1:]),)
        lvalue.address = address
        watch.watch_regions(lvalue.regions)
        watch.pid = 0  # whether that is the right place in this process: see `started`

    def _unreadable(self, watch: Watch, why: str, moved: bool) -> None:
        """Memory that an expression needs is not there: gdb watches what leads to it."""
        with in_frame(watch.frame):
            lvalue = unreadable(watch.watched, watch.rw)
        regions = lvalue.regions
        if not moved:
            self._note_unread(watch, regions)
        if watch.unread[0] == regions:
            regions = watch.unread[1]
        else:
            watch.unchecked, regions = True, come_to(lvalue)
        watch.state, watch.reason, watch.last = UNREADABLE_STATE, why, None
        watch.lvalue = None
        if not watch.is_location:
            watch.lvalue, watch.way = lvalue, Way(regions, gdb.selected_inferior())
        watch.watch_regions(regions)

    def _note_unread(self, watch: Watch, regions: tuple[Region, ...]) -> None:
        """Which of these gdb watches while something that the expression needs is not there."""
        gdbs = self._gdbs_places(watch)
        there = tuple(region for region in regions if region.address in gdbs)
        if there:  # else they are those of before
            watch.unread = regions, there

    def _gdbs_places(self, watch: Watch) -> list[int]:
        """The addresses where gdb itself watches; [] where it does not, or does not tell."""
        own = watch.in_registers and watch.on and watch.head is watch
        return gdbfacts.location_addresses(watch.bp) if own else []

    def moving(self) -> list[Watch]:
        """The watchpoints of the current program whose place may move."""
        return [w for w in self.here() if w.way is not None and w.in_registers and not w.wandering]

    def move(self, watch: Watch, moved: bool = True) -> None:
        """Work out its place anew; what it was told to hold stays, as a change of it is still to
        be judged."""
        last = watch.last
        self.resolve(watch, moved)
        watch.last = last

    def _without_process(self, watch: Watch) -> None:
        """Where it would be by the file alone: how many slots it needs is known already, and an
        address fixed by -location stays, though the program may be loaded elsewhere."""
        watch.state = PENDING
        # Where pointers will lead only a process knows: it keeps its place among those who wait.
        kept = watch.needs if watch.moves and watch.pid > 0 else frozenset()
        watch.watch_regions(())
        watch.last = None
        if watch.options is not None and watch.options.place is not None:
            watch.lvalue = raw(*watch.options.place, watch.rw)
        elif not watch.is_location or watch.lvalue is None:
            try:
                watch.lvalue = resolve(watch.watched, watch.rw, watch.is_location)
                watch.scoped = False  # there is no frame
            except (gdb.error, NotWatchable) as error:
                watch.reason, watch.needs = str(error), kept
                return
        if kept and not watch.lvalue.fixed:
            watch.needs = kept
            return
        watch.watch_regions(watch.lvalue.regions)

    def started(self, watch: Watch) -> bool:
        """A new process, or a new program in it: is an address fixed by -location still the right
        one?  False where it is not, or nobody can tell any more."""
        now: Lvalue | None = None
        if watch.is_location and watch.lvalue is not None:
            try:
                with gdbfacts.speaking(watch.language):
                    now = resolve(watch.watched, watch.rw, location=True)
                gdb.selected_inferior().read_memory(now.address, 1)
            except gdb.MemoryError:
                if now is not None and now.address and gdbfacts.symbolic(now.address):
                    return True  # the program is not relocated yet: ask again when it is
                now = None
            except (gdb.error, NotWatchable):
                if watch.of_symbol:
                    return True  # its library is not loaded yet: ask again when one is
        watch.pid = gdb.selected_inferior().pid
        watch.gdb_hits = watch.bp.hit_count  # `run` has set it to 0
        if watch.options is not None and watch.options.place is not None:
            return gdbfacts.is_memory(watch.options.place[0])
        if not watch.is_location or watch.lvalue is None:
            return True
        return now is not None and now.address == watch.lvalue.address

    def left(self, watch: Watch) -> None:
        """Its process has ended, or gdb follows its child.  The value is kept: gdb 10 does not say
        when a child is there, and a new process is read anew."""
        watch.state = PENDING if watch.enabled else DISABLED
        self.plans.clear()

    def expire(self, watch: Watch) -> None:
        """Give up an address that means nothing any more.  A kwatch's slot is free; a native is
        gdb's, which goes on watching there."""
        watch.state = EXPIRED
        if watch.options is None:
            lvalue = watch.lvalue if watch.bp.enabled else None
            watch.watch_regions(lvalue.regions if lvalue is not None else ())
            return
        watch.enabled = False
        watch.watch_regions(())
        if watch.bp.enabled:
            watch.bp.enabled = False

    def check_at_stop(self, watch: Watch) -> None:
        """Compare one that was worked out when gdb had yet to do so: it has, when it resumed the
        program, if the place is still that of the last stop."""
        regions, watch.to_check = watch.to_check, ()
        if not watch.enabled:
            return  # it stands nowhere
        if watch.lvalue is not None and regions and watch.lvalue.regions == regions:
            if watch.state == UNREADABLE_STATE:
                self._note_unread(watch, regions)
            else:
                self._check_against_gdb(watch)
            watch.unchecked = False
        elif watch.unchecked and watch.lvalue is not None:
            watch.to_check = watch.lvalue.regions

    def _check_against_gdb(self, watch: Watch) -> None:
        """Where gdb made its locations is where it watches (``a, b`` takes none for a; a C++
        reference one for the pointer behind it)."""
        lvalue = watch.lvalue
        assert lvalue is not None
        regions = lvalue.regions
        gdbs = gdbfacts.location_addresses(watch.bp) if watch.in_registers else []
        if {region.address for region in regions} < set(gdbs):
            # What lies behind a slice of Rust's, say.
            watch.state, watch.reason = INSTALLED, MORE
            watch.lvalue = None
            watch.watch_regions(())
            return
        if len(gdbs) == 1 and len(regions) == 1:
            regions = (Region(gdbs[0], regions[0].length, watch.rw),)
            if lvalue.fixed:
                lvalue.address = gdbs[0]
        elif not {region.address for region in regions}.issuperset(gdbs):
            # These are of the last resume, and the way leads elsewhere since: they tell nothing of
            # what gdb will take next.
            watch.unchecked = True
            regions = watch.kept(regions)
        elif any(region.address in gdbs for region in regions):
            watch.passed_over = {n for n, r in enumerate(regions) if r.address not in gdbs}
            regions = watch.kept(regions)
        watch.watch_regions(regions)

    def _read(self, watch: Watch) -> None:
        if watch.lvalue is None:
            return  # nothing of it can be read: MORE, or it never could be evaluated
        if not watch.regions:
            watch.watch_regions(watch.lvalue.regions)
        watch.last = watch.lvalue.read(gdb.selected_inferior())
        watch.state = INSTALLED if watch.last is not None else UNREADABLE_STATE

    # Who shares what.

    def owners(self) -> Iterator[Watch]:
        """All owners of slots, session-wide ones once for each program."""
        yield from self.watches.values()
        yield from self.legs

    def here(self) -> Iterator[Watch]:
        """The owners of the current program space."""
        space = programs.selected()
        return (w for w in self.owners() if w.progspace == space)

    def grow(self) -> None:
        """Have the session-wide kwatches watch in the current program too."""
        if not gdb.selected_inferior().pid:
            return
        there = {watch.head for watch in self.here()}
        for watch in list(self.watches.values()):
            if watch.spans and watch.in_registers and watch not in there:
                leg = Leg(watch)
                self.legs.append(leg)
                self.resolve(leg)

    def shrink(self, space: gdb.Progspace | None) -> None:
        """The process of a program has ended: session-wide kwatches watch there no more."""
        gone = [leg for leg in self.legs if leg.progspace == space]
        self.legs = [leg for leg in self.legs if leg not in gone and leg.progspace.is_valid()]
        for leg in gone:
            leg.watch_regions(())
            self.slots.claim(leg)

    def plan(self, lwp: int, key: tuple[int, tuple[int, ...]]) -> Plan:
        """What to do about the trap at which ``lwp`` stands; kept under ``key``."""
        watches = [w for w in self.here() if w.in_registers and self.follows(w) and not w.waits]
        watches = [w for w in watches if not fixed_places.is_elsewhere(self, w, lwp)]
        registers, moving = ptrace.debug_registers(lwp), self.moving()
        plan = self.plans[key] = make_plan(registers, watches, self.pool(), moving)
        return plan

    def pieces_in_use(self, without: Watch | None = None) -> set[Piece]:
        """What the slots of the current inferior are used for.  Kernel sight is not among it: it
        takes what is left, and gives it up at once."""
        return {p for w in self.here() if w is not without and not w.waits for p in w.pieces}

    def pieces_of(self, space: gdb.Progspace) -> set[Piece]:
        """The same, of any program space."""
        return {
            p
            for w in self.watches.values()
            if w.progspace == space and not w.waits
            for p in w.pieces
        }

    def pool(self) -> Pool | None:
        return self.pools.get(programs.selected())

    def is_in_use(self, sentinel: Sentinel) -> bool:
        """Whether its program space has an inferior; gdb takes the space away with the last one,
        breakpoints and all."""
        spaces = [programs.of(inferior) for inferior in gdb.inferiors()]
        return any(
            sentinel in pool.sentinels and space in spaces for space, pool in self.pools.items()
        )

    def make_pool(self) -> None:
        """A pool for the current program space.  Not in a breakpoint event, not in `stop`."""
        for space in [
            s for s, pool in self.pools.items() if not (s.is_valid() and pool.is_valid())
        ]:
            self.pools.pop(space).discard()
        space = programs.selected()
        if space not in self.pools:
            # In the middle of a fork gdb 13 fails to insert the parent's watchpoints into the
            # child; the next event of the child, or its first stop, finds it ready.
            with suppress(gdb.error):
                self.pools[space] = Pool(self._may_be_null())

    def aim(self, let_go: Callable[[], None] | None = None) -> None:
        """Put a sentinel on each piece that a watchpoint of this program space watches, and take
        those of others off where none watches any more.  ``let_go`` is called in between."""
        self.plans.clear()
        self.slots.claim_all(list(self.here()))
        self.slots.settle()
        current = programs.selected()
        for space, other in self.pools.items():
            if space != current and other.is_valid():
                other.keep(self._wanted(space))
        pool = self.pools.get(current)
        if pool is None:
            return
        wanted: set[Piece] = set()
        if gdb.selected_inferior().pid and gdbfacts.hardware_allowed():
            wanted = _without(self._wanted(current), self._outrun())
        if len(self.pieces_in_use()) + self.slots.lost_slots() > SLOTS:
            wanted = set()  # gdb will refuse to resume, and must not name a sentinel for it
        if let_go is not None:
            pool.keep(wanted)
            let_go()
        pool.park(self._may_be_null())
        pool.aim(wanted)

    def _may_be_null(self) -> bool:
        """Whether gdb may watch at address 0 in the current program, behind a null pointer."""
        return any(
            watch.access != "execute"
            and (watch.moves or any(piece.address == 0 for piece in watch.needs))
            for watch in self.here()
        )

    def catch_up(self) -> list[Watch]:
        """What had to wait until the language could be changed; returns whose it was."""
        late, self.later = list(self.later), set()
        for watch in late:
            self.resolve(watch, moved=True)
        if late:
            self.aim()
        return late

    def _outrun(self) -> set[Piece]:
        """The places that other threads may move after a trap was judged and before gdb resumes,
        where no slot is left for a sentinel that comes too late: there gdb alone watches.

        They run on while gdb handles the trap of one (infrun, with a target in non-stop mode).
        """
        if len(gdb.selected_inferior().threads()) < 2:
            return set()
        moving = self.moving()
        loose = {piece for watch in moving for r in watch.regions[1:] for piece in r.pieces()}
        for watch in self.here():
            if watch not in moving and not watch.waits:
                loose -= watch.pieces
        free = SLOTS - len(self.pieces_in_use()) - self.slots.lost_slots()
        return loose if len(loose) > free else set()

    def give_way(self) -> None:
        """Take out the sentinels that would come too late; nothing is enabled."""
        pool, loose = self.pool(), self._outrun()
        if pool is not None and loose:
            self.plans.clear()
            pool.keep(_without((s.piece for s in pool.sentinels if s.piece is not None), loose))

    def reseat(self) -> None:
        """Have gdb give out its slots anew, from DR0 on.

        After a resume that failed for want of slots it still counts each watchpoint in the register
        it meant for it, while the kernel has given it the first ones only, and these it keeps
        (``x86_insert_aligned_watchpoint``; `linux.slots`).
        """
        pool = self.pool()
        if pool is not None:
            pool.aim(())
        on = [w for w in self.here() if w.on and w.head is w and w.bp.is_valid() and w.bp.enabled]
        with self.own_change(), suppress(gdb.error):
            for state in (False, True):
                for watch in on:
                    watch.bp.enabled = state

    @contextmanager
    def close_together(self) -> Iterator[None]:
        """In an event of a program that gdb resumes at once, its watchpoints inserted: where some
        of them go, have the others move up, while the registers that these were meant for are not
        reserved yet.  Each resume after a stop takes DR0 and those that follow; what ptrace were
        given besides would be lost to perf until the thread ends (`linux.slots`)."""
        before = {watch for watch in self.here() if watch.on}
        yield
        if all(watch.on for watch in before) or not self.slots.perf_is_there():
            return
        pool = self.pool()
        if pool is None or frame_or_none() is None:
            return  # gdb might refuse to turn them on again
        pool.aim(())
        for watch in [w for w in self.here() if w.on and w.in_registers and w.head is w]:
            with gdbfacts.speaking(watch.language) as spoken:
                if spoken and watch.bp.is_valid() and not isinstance(watch.bp, gdbfacts.Unlisted):
                    self.switch(watch, False)
                    watch.on = self.switch(watch, True)
        self.aim()

    def _wanted(self, space: gdb.Progspace) -> set[Piece]:
        armed = [
            watch
            for watch in self.owners()
            if watch.progspace == space
            and watch.access != "execute"
            and (watch.armed or (watch.state == UNREADABLE_STATE and not watch.waits))
            and watch.in_registers
        ]
        if not any(self.follows(watch) for watch in armed):
            return set()
        # Those that are not looked after as well: gdb may blame them for a kwatch's trap.
        armed = [watch for watch in armed if not (watch.wandering or watch.late)]
        return _one_an_address(sorted(armed, key=lambda watch: watch.number))

    def serve(self) -> None:
        """Make the sentinels that `aim` found missing, and have each come after the watchpoints
        at its place: gdb checks its breakpoints in the order in which they were made.  Not in a
        breakpoint event, not in `stop`."""
        if self.pool() is None:
            self.make_pool()
            self.aim()
        pool = self.pool()
        if pool is None:
            return
        pool.serve(self._accesses())
        for sentinel in self._too_early(pool):
            pool.renew(sentinel)

    def _too_early(self, pool: Pool) -> list[Sentinel]:
        """Those that gdb checks before a watchpoint at their place."""
        here = list(self.here())
        return [
            sentinel
            for sentinel in pool.sentinels
            if (piece := sentinel.piece) is not None
            and any(
                watch.made > sentinel.made and overlap(watch.regions, piece.address, piece.length)
                for watch in here
            )
        ]

    def keep_to_software(self) -> None:
        """At a prompt, where another script or the user allows no hardware watchpoints."""
        for pool in self.pools.values():
            pool.withdraw_accesses()

    def lacks_sentinels(self) -> bool:
        """Whether some could not be made, or put in order, in the event that called for them."""
        pool = self.pool()
        return pool is not None and (pool.lacking or bool(self._too_early(pool)))

    def _accesses(self) -> int:
        """How many sentinels for accesses there may have to be once what is disabled or waits
        watches: both may end in events in which none can be made, and gdb resumes at once."""
        watches = [
            watch
            for watch in self.here()
            if watch.access in ("access", "read") and watch.in_registers and self.follows(watch)
        ]
        count = min(SLOTS, sum(len(watch.needs) or SLOTS for watch in watches))
        if gdbfacts.inserts_at_once() and len(self.pieces_in_use()) == SLOTS:
            return min(count, sum(watch.armed for watch in watches))  # one takes a slot when made
        return count

    def follows(self, watch: Watch) -> bool:
        """Whether kwatch looks after it: a kwatch always, a native where adoption is on."""
        if watch.wandering:
            return False
        return self.adopting or watch.options is not None


def _one_an_address(watches: Iterable[Watch]) -> set[Piece]:
    """Where sentinels are to stand: gdb blames an address, so one is enough for all that begin
    there, and that of the first.

    With more, and watchpoints of other lengths between them in gdb's order (address, number), gdb
    takes two at one place for two, counts both in the slot, and forgets one whenever it makes the
    locations of one anew, as at each resume (``update_global_location_list``: swap_insertion; 10
    to 18): the slot would never be free again.  So the one there is as long as the first of gdb's
    locations that begin there, where it would be parted from another by that.
    """
    watches = list(watches)
    gdbs = [watch for watch in watches if not watch.carried]
    held = {piece for watch in gdbs for piece in watch.pieces}
    regions = [region for watch in gdbs for region in watch.regions]
    found = {piece for watch in watches for piece in watch.pieces} - held
    taken = {piece.address for piece in found}
    for watch in gdbs:
        for piece in sorted(watch.pieces):
            if piece.address not in taken:
                taken.add(piece.address)
                begins = piece.address, piece.rw
                there = [r.length for r in regions if (r.address, r.rw) == begins]
                if piece.length in there[1:] and there[0] in _LENGTHS:
                    whole = Piece(piece.address, there[0], piece.rw)
                    if held.issuperset(pieces_of(*whole)):
                        piece = whole
                found.add(piece)
    return found


def _without(pieces: Iterable[Piece], loose: set[Piece]) -> set[Piece]:
    return {piece for piece in pieces if loose.isdisjoint(pieces_of(*piece))}


def _changeable(bp: gdb.Breakpoint) -> tuple[object, ...]:
    """What else a breakpoint_modified event can be about."""
    return (
        bp.condition,
        bp.ignore_count,
        bp.commands,
        bp.hit_count,
        bp.thread,
        bp.task,
        bp.silent,
        getattr(bp, "inferior", None),
    )
