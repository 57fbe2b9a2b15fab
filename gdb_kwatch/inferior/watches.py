"""Who owns slots: every hardware watchpoint and hardware breakpoint of the session.

A `Watch` stands beside each gdb.Breakpoint that uses slots, made by ``kwatch`` or by gdb's own
commands or by another script; kwatch's sentinels are told apart by class.  The registry follows
gdb's breakpoint events, works out what each one watches, aims the sentinels, and knows who shares
a slot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, SLOTS, Piece, Registers, blamed_slot
from gdb_kwatch.core.expression import has_side_effects, tokens_of
from gdb_kwatch.core.records import ACCESS_RW, Region, Touch
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .lvalues import Lvalue, NotWatchable, Reading, frame_or_none, in_frame, raw, resolve
from .sentinels import Pool, Sentinel, next_made

_KINDS = {
    gdb.BP_WATCHPOINT: ("watch", "write"),
    gdb.BP_HARDWARE_WATCHPOINT: ("watch", "write"),
    gdb.BP_READ_WATCHPOINT: ("rwatch", "read"),
    gdb.BP_ACCESS_WATCHPOINT: ("awatch", "access"),
    gdbfacts.HARDWARE_BREAKPOINT: ("hbreak", "execute"),
}
MENTIONS = {
    "write": "Hardware watchpoint",
    "read": "Hardware read watchpoint",
    "access": "Hardware access (read/write) watchpoint",
    "execute": "Hardware assisted breakpoint",
}
_LOCATION = re.compile(r"^-l(?:ocation)?\s+")

INSTALLED = "installed"
DISABLED = "disabled"
PENDING = "pending"  # no process, or its symbol is not there yet
SOFTWARE = "software"
EXPIRED = "address expired"
UNREADABLE_STATE = "unreadable"


@dataclass(frozen=True)
class Options:
    """What ``kwatch`` knows of a watchpoint and gdb does not."""

    every: bool = False
    spec: str = ""  # what was asked for, where gdb's own expression is another
    place: tuple[int, int] | None = None  # address and size of a ``-size`` watch


class Watch:
    """One owner of slots.  ``options`` is set for a kwatch, None for a native."""

    def __init__(self, bp: gdb.Breakpoint | gdbfacts.Unlisted, options: Options | None) -> None:
        self.bp = bp
        self.number: int = bp.number
        self.made = next_made()
        self.options = options
        self.kind, self.access = _KINDS[bp.type]
        if options is not None:
            self.kind = "kwatch"
        self.progspace = gdb.current_progspace()
        self.pid = gdb.selected_inferior().pid
        self.frame = frame_or_none()
        self.condition: str | None = bp.condition
        self.condition_function = local_context(bp.condition)
        self.lvalue: Lvalue | None = None
        self.regions: tuple[Region, ...] = ()
        self.passed_over: set[int] = set()
        self.pieces: frozenset[Piece] = frozenset()
        self.last: Reading = None
        self.hits = 0
        self.state = PENDING
        self.reason = ""
        self.enabled: bool = bp.enabled
        self.once = False  # ``enable once``
        self.thread: int | None = bp.thread
        self.gdb_hits: int = bp.hit_count
        self.ignore_count: int = bp.ignore_count
        self.warned: set[str] = set()
        self.was_hardware: bool = bp.type != gdb.BP_WATCHPOINT  # gdb said so

    @property
    def expression(self) -> str:
        """As it was asked for; for gdb's own as ``info breakpoints`` has it."""
        if self.options is not None and self.options.spec:
            return self.options.spec
        if self.access == "execute":
            return str(self.bp.location)
        return str(self.bp.expression)

    @property
    def watched(self) -> str:
        """The expression without -location."""
        return _LOCATION.sub("", str(self.bp.expression))

    @property
    def is_location(self) -> bool:
        """Whether its address was fixed once and for all by -location."""
        return _LOCATION.match(str(self.bp.expression or "")) is not None

    @property
    def temporary(self) -> bool:
        """To be deleted at its first stop (`tbreak`-style disposition)."""
        return bool(self.bp.is_valid() and self.bp.temporary)

    @property
    def every(self) -> bool:
        return self.options is not None and self.options.every

    @property
    def rw(self) -> int:
        return ACCESS_RW[self.access]

    @property
    def mention(self) -> str:
        """As gdb names it: ``Hardware watchpoint 2: s.a``."""
        if self.state == SOFTWARE:
            return f"Watchpoint {self.number}: {self.expression}"
        return f"{MENTIONS[self.access]} {self.number}: {self.expression}"

    @property
    def armed(self) -> bool:
        return self.state == INSTALLED

    def kept(self, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        """Without those that gdb did not take a location for."""
        return tuple(r for n, r in enumerate(regions) if n not in self.passed_over)

    def watch_regions(self, regions: tuple[Region, ...]) -> None:
        self.regions = regions
        self.pieces = frozenset(p for region in regions for p in region.pieces())


class Plan:
    """What a trap means, worked out once: the watchpoints in its way, by number.

    ``crowded``: several sentinels will be asked about it.  ``words`` read the values of those
    that are fixed and short.  ``simple``: gdb will look at all that there is to see, so that the
    trap need only be taken down.
    """

    __slots__ = ("crowded", "only", "simple", "touches", "words")

    def __init__(self, touches: tuple[Touch, ...], crowded: bool) -> None:
        self.touches = touches
        self.crowded = crowded
        self.words = [
            ptrace.Word(touch.value.address, touch.value.size)
            if touch.value is not None and touch.value.is_word
            else None
            for touch in touches
        ]
        word = self.words[0] if len(touches) == 1 else None
        self.only = (touches[0].watch, word) if word is not None else None
        self.simple = all(
            touch.blamed and not touch.watch.every and (touch.value is None or touch.value.fixed)
            for touch in touches
        )

    def read(self, inferior: gdb.Inferior, lwp: int) -> tuple[Sequence[Reading], Sequence[Reading]]:
        """Count a hit of each, and read its value: before, and now."""
        if self.only is not None:  # the common case, in few steps
            watch, word = self.only
            new = word.read(lwp)
            if new is not None:
                watch.hits += 1
                old, watch.last = watch.last, new
                return (old,), (new,)
        olds, news = [], []
        for touch, word in zip(self.touches, self.words):
            watch = touch.watch
            watch.hits += 1
            old = new = watch.last
            if word is not None:
                new = word.read(lwp)
                if new is None:
                    new = touch.value.read(inferior)
                watch.last = new
            elif touch.value is not None:
                new = watch.last = touch.value.read(inferior)
            olds.append(old)
            news.append(new)
        return olds, news


class Registry:
    """All owners of slots, by gdb's breakpoint number, and the sentinel pools."""

    def __init__(self) -> None:
        self.watches: dict[int, Watch] = {}
        self.pools: dict[gdb.Progspace, Pool] = {}
        self.adopting = True
        self.making: Options | None = None  # set while ``kwatch`` runs gdb's own ``watch``
        self.made: Watch | None = None
        # What a trap means, by the inferior and `ptrace.trap`.
        # Made anew after each `aim`.
        self.plans: dict[tuple[int, tuple[int, ...]], Plan] = {}

    # What gdb tells.

    def created(self, bp: gdb.Breakpoint) -> None:
        if isinstance(bp, Sentinel) or bp.type not in _KINDS:
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
            del self.watches[number]
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
        if self.watches.pop(bp.number, None) is not None:
            self.aim()

    def forget_hidden(self) -> None:
        """Let go of the watchpoints of threads that have ended.

        gdb up to 13 hides such a breakpoint and deletes it at its next stop, exec or run without
        any event: the gdb.Breakpoint stays "valid" and points to freed memory
        (``remove_threaded_breakpoints``, ``gdbpy_breakpoint_deleted``).  So this comes before
        anything else looks at one.  ``gdb.breakpoints()`` has those that gdb still has.
        """
        if gdbfacts.VERSION >= (14, 0) or all(w.thread is None for w in self.watches.values()):
            return
        alive = {t.global_num for inferior in gdb.inferiors() for t in inferior.threads()}
        there = {id(bp) for bp in gdb.breakpoints()}
        gone = [
            watch
            for watch in self.watches.values()
            if watch.thread is not None and (watch.thread not in alive or id(watch.bp) not in there)
        ]
        for watch in gone:
            del self.watches[watch.number]
        if gone:
            self.aim()

    def switched(self, watch: Watch) -> bool:
        """The user, or gdb, changed something; True if it was enabled or disabled."""
        bp = watch.bp
        watch.thread = bp.thread
        watch.once = gdbfacts.is_enabled_once(bp)
        if bp.condition != watch.condition:
            watch.condition = bp.condition
            watch.condition_function = local_context(bp.condition)
        if bp.enabled == watch.enabled:
            return False
        watch.enabled = bp.enabled
        self.resolve(watch)
        self.aim()
        return True

    # What each one watches.

    def resolve(self, watch: Watch, moved: bool = False) -> None:
        """Work out regions, state and the value now.  Never raises for the user's reasons.

        ``moved``: gdb's own locations are those of before.
        """
        watch.reason = ""
        if not watch.enabled:
            watch.state = EXPIRED if watch.state == EXPIRED else DISABLED
            watch.watch_regions(())
            return
        if watch.access == "execute":
            addresses = gdbfacts.code_addresses(watch.bp)
            watch.state = INSTALLED if addresses else PENDING
            watch.watch_regions(tuple(Region(address, 1, EXECUTE) for address in addresses))
            return
        if not gdb.selected_inferior().pid:
            self._without_process(watch)
            return
        if watch.bp.type == gdb.BP_WATCHPOINT:
            watch.state = SOFTWARE
            watch.watch_regions(())
            return
        if has_side_effects(watch.watched):
            watch.state, watch.reason = INSTALLED, "the expression has side effects"
            watch.watch_regions(())
            return
        if watch.is_location and watch.lvalue is not None:
            self._read(watch)
            return
        if watch.options is not None and watch.options.place is not None:
            watch.lvalue = raw(*watch.options.place, watch.rw)
            watch.watch_regions(watch.lvalue.regions)
            self._read(watch)
            return
        first = watch.lvalue is None
        try:
            with in_frame(watch.frame):
                watch.lvalue = resolve(watch.watched, watch.rw, watch.is_location)
        except (gdb.error, NotWatchable) as error:
            watch.state, watch.reason = PENDING, str(error)
            watch.watch_regions(())
            return
        if first or (gdbfacts.VERSION >= (13, 0) and not moved):
            self._check_against_gdb(watch)
        else:
            watch.watch_regions(watch.kept(watch.lvalue.regions))
        self._read(watch)

    def _without_process(self, watch: Watch) -> None:
        """Where it would be by the file alone: how many slots it needs is known already, and an
        address fixed by -location stays, though the program may be loaded elsewhere."""
        watch.state = PENDING
        watch.watch_regions(())
        watch.last = None
        if watch.options is not None and watch.options.place is not None:
            watch.lvalue = raw(*watch.options.place, watch.rw)
        elif not watch.is_location or watch.lvalue is None:
            try:
                watch.lvalue = resolve(watch.watched, watch.rw, watch.is_location)
            except (gdb.error, NotWatchable) as error:
                watch.reason = str(error)
                return
        watch.watch_regions(watch.lvalue.regions)

    def started(self, watch: Watch) -> bool:
        """A new process, or a new program in it: is an address fixed by -location still the right
        one?  False where it is not, or nobody can tell any more."""
        now: Lvalue | None = None
        if watch.is_location and watch.lvalue is not None:
            try:
                now = resolve(watch.watched, watch.rw, location=True)
                gdb.selected_inferior().read_memory(now.address, 1)
            except gdb.MemoryError:
                if now is not None and now.address and gdbfacts.symbolic(now.address):
                    return True  # the program is not relocated yet: ask again when it is
                now = None
            except (gdb.error, NotWatchable):
                pass
        watch.pid = gdb.selected_inferior().pid
        watch.gdb_hits = watch.bp.hit_count  # `run` has set it to 0
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
            watch.watch_regions(watch.lvalue.regions if watch.lvalue is not None else ())
            return
        watch.enabled = False
        watch.watch_regions(())
        if watch.bp.enabled:
            watch.bp.enabled = False

    def _check_against_gdb(self, watch: Watch) -> None:
        """Where gdb made its locations is where it watches (``a, b`` takes none for a; a C++
        reference one for the pointer behind it)."""
        lvalue = watch.lvalue
        assert lvalue is not None
        regions = lvalue.regions
        gdbs = gdbfacts.location_addresses(watch.bp)
        if len(gdbs) == 1 and len(regions) == 1:
            regions = (Region(gdbs[0], regions[0].length, watch.rw),)
            if lvalue.fixed:
                lvalue.address = gdbs[0]
        elif gdbs:
            watch.passed_over = {n for n, r in enumerate(regions) if r.address not in gdbs}
            regions = watch.kept(regions)
        watch.watch_regions(regions)

    def _read(self, watch: Watch) -> None:
        assert watch.lvalue is not None
        if not watch.regions:
            watch.watch_regions(watch.lvalue.regions)
        watch.last = watch.lvalue.read(gdb.selected_inferior())
        watch.state = INSTALLED if watch.last is not None else UNREADABLE_STATE

    # Who shares what.

    def here(self) -> Iterator[Watch]:
        """The owners of the current program space."""
        space = gdb.current_progspace()
        return (w for w in self.watches.values() if w.progspace == space)

    def plan(self, lwp: int, key: tuple[int, tuple[int, ...]]) -> Plan:
        """What to do about the trap at which ``lwp`` stands; kept under ``key``."""
        registers = ptrace.debug_registers(lwp)
        touches = self._find_touches(registers)
        pool = self.pool()
        blamed = blamed_slot(registers.hits())
        where = registers.addresses[blamed] if blamed is not None else None
        sentinels = pool.at(where) if pool is not None and where is not None else 0
        plan = self.plans[key] = Plan(touches, sentinels > 1)
        return plan

    def _find_touches(self, registers: Registers) -> tuple[Touch, ...]:
        hits = registers.hits()
        blamed = blamed_slot(hits)
        touches = []
        for watch in sorted(self.here(), key=lambda w: w.number):
            slots = tuple(slot for slot, piece in hits.items() if piece in watch.pieces)
            if not slots or not self.follows(watch):
                continue
            execute = watch.access == "execute"
            touches.append(
                Touch(
                    watch,
                    watch.number,
                    watch.expression,
                    slots,
                    *watch.regions[-1][:2],
                    watch.access,
                    execute
                    or (blamed is not None and _gdb_looks_at(watch, registers.addresses[blamed])),
                    None if execute else watch.lvalue,
                )
            )
        return tuple(touches)

    def pieces_in_use(self, without: Watch | None = None) -> set[Piece]:
        """What the slots of the current inferior are wanted for."""
        return {p for w in self.here() if w is not without for p in w.pieces}

    def holders(self, pieces: set[Piece]) -> str:
        """Who holds the slots for ``pieces``, and what would free one."""
        lines = ["Held by:"]
        numbers = []
        for watch in self.here():
            if watch.pieces & pieces:
                count = len(watch.pieces)
                lines.append(f"  {watch.mention}  ({count} slot{'s' if count > 1 else ''})")
                numbers.append(watch.number)
        if not numbers:
            return ""
        first = next((n for n in reversed(numbers) if n > 0), numbers[-1])
        lines.append(f"'delete {first}' or 'disable {first}' would free its share.")
        return "\n".join(lines)

    def pool(self) -> Pool | None:
        return self.pools.get(gdb.current_progspace())

    def is_in_use(self, sentinel: Sentinel) -> bool:
        """Whether its program space has an inferior; gdb takes the space away with the last one,
        breakpoints and all."""
        spaces = [inferior.progspace for inferior in gdb.inferiors()]
        return any(
            sentinel in pool.sentinels and space in spaces for space, pool in self.pools.items()
        )

    def make_pool(self) -> None:
        """A pool for the current program space.  Not in a breakpoint event, not in `stop`."""
        for space in [
            s for s, pool in self.pools.items() if not (s.is_valid() and pool.is_valid())
        ]:
            self.pools.pop(space).discard()
        space = gdb.current_progspace()
        if space not in self.pools:
            self.pools[space] = Pool()

    def aim(self) -> None:
        """Put a sentinel on each piece that a watchpoint of this program space watches."""
        self.plans.clear()
        pool = self.pool()
        if pool is None:
            return
        wanted: set[Piece] = set()
        if gdb.selected_inferior().pid and gdbfacts.hardware_allowed():
            for watch in self.here():
                if watch.access != "execute" and watch.armed and self.follows(watch):
                    wanted |= watch.pieces
        if len(self.pieces_in_use()) > SLOTS:
            wanted = set()  # gdb will refuse to resume, and must not name a sentinel for it
        pool.aim(wanted)

    def serve(self) -> None:
        """Make the sentinels that `aim` found missing, and have each come after the watchpoints
        at its place: gdb checks its breakpoints in the order in which they were made.  Not in a
        breakpoint event, not in `stop`."""
        pool = self.pool()
        if pool is None:
            return
        pool.serve()
        for sentinel in list(pool.sentinels):
            piece = sentinel.piece
            if piece is not None and any(
                watch.made > sentinel.made and overlap(watch.regions, piece.address, piece.length)
                for watch in self.here()
            ):
                pool.renew(sentinel)

    def follows(self, watch: Watch) -> bool:
        """Whether kwatch looks after it: a kwatch always, a native where adoption is on."""
        return self.adopting or watch.options is not None


def _gdb_looks_at(watch: Watch, address: int) -> bool:
    """Whether gdb has a location there, so that it checks the watchpoint when it blames it."""
    there = gdbfacts.location_addresses(watch.bp)
    return any(
        region.covers(address) and (not there or region.address in there)
        for region in watch.regions
    )


def overlap(regions: Sequence[Region], address: int, length: int) -> bool:
    """Whether one of ``regions`` shares a byte with (address, length)."""
    return any(r.address < address + length and address < r.address + r.length for r in regions)


def local_context(condition: str | None) -> gdb.Symbol | None:
    """The function whose locals a condition uses, where it was set; None if it uses none.

    gdb tests such a condition in the innermost frame of that block (`block_innermost_frame`).
    """
    frame = frame_or_none()
    if not condition or frame is None:
        return None
    for token in tokens_of(condition):
        if token[0].isalpha() or token[0] == "_":
            try:
                symbol = gdb.lookup_symbol(token)[0]
            except gdb.error:
                continue
            if symbol is not None and symbol.needs_frame:
                return frame.function()
    return None


def can_read_registers(lwp: int) -> bool:
    """Whether this gdb traces ``lwp`` by ptrace, so that its debug registers can be read."""
    try:
        ptrace.status(lwp)
    except OSError:
        return False
    return True
