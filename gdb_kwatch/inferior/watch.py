"""One owner of slots: a `Watch` stands beside each gdb.Breakpoint that uses debug registers, made
by ``kwatch``, by gdb's own commands or by another script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import gdb

from gdb_kwatch.core.arbiter import NATIVE, NORMAL, Request
from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.core.expression import chooses, tokens_of
from gdb_kwatch.core.grammar import code_word, quoted
from gdb_kwatch.core.records import ACCESS_RW, Region

from . import gdbfacts, programs
from .lvalues import Lvalue, Reading, Way, frame_or_none
from .sentinels import next_made

if TYPE_CHECKING:
    from .kernel_conditions import Judged
    from .left_out import Code

KINDS = {
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
WAITING = "waiting"  # for a slot, from the start
DISPLACED = "displaced"  # waiting, after it had one
MERGED = "merged"  # shares a wider slot with others, told apart by value


HIT_COUNTS = "_hit_counts"  # the function of `hit_actions`, around what the user asked for
_ACTING = re.compile(rf"\${HIT_COUNTS}\(\d+(?:, \((.*)\))?\)", re.DOTALL)


def asked_of(condition: str | None) -> str | None:
    """The user's part of a condition."""
    found = _ACTING.fullmatch(condition or "")
    return found.group(1) if found else condition


class Listener(Protocol):
    """A script that wants to hear of its kwatch: where gdb can be asked for anything again, not
    in the middle of an event."""

    def installed(self) -> None: ...
    def uninstalled(self) -> None: ...
    def hit(self, row: dict[str, Any]) -> None: ...


class Options(NamedTuple):
    """What ``kwatch`` knows of a watchpoint and gdb does not."""

    every: bool = False
    spec: str = ""  # what was asked for, where gdb's own expression is another
    place: tuple[int, int] | None = None  # address and size of a ``-size`` watch
    priority: int = NORMAL
    everywhere: bool = False  # in all inferiors, those to come too
    name: str = ""  # a script's, for people
    listener: Listener | None = None


class Watch:
    """One owner of slots.  ``options`` is set for a kwatch, None for a native.

    ``enabled`` is what the user wants.  The gdb.Breakpoint itself is also off while it waits for a
    slot, and while it is ``carried``: then a sentinel alone watches for it, and the engine judges.
    ``in_registers``: gdb itself puts it into the debug registers, through ptrace.  ``sight``:
    what perf watches for it besides.  ``judged``: who tests its condition.
    """

    in_registers = True
    judged_in_kernel = False
    judged: Judged | None = None
    sight: frozenset[Piece] = frozenset()
    log: str | None = None  # the message of a hit, which does not stop then
    only: tuple[str, ...] = ()  # code whose accesses count, by name
    without: tuple[str, ...] = ()
    code: Code | None = None  # that code in a process
    no_code: tuple[str, ...] = ()  # of these, what is not there (yet)
    acts = False  # `hit_actions` sees to these, in its condition

    def __init__(
        self,
        bp: gdb.Breakpoint | gdbfacts.Unlisted,
        options: Options | None,
        kind: tuple[str, str] | None = None,
    ) -> None:
        self.bp = bp
        self.number: int = bp.number
        self.made = next_made()
        self.options = options
        self.kind, self.access = kind or KINDS[bp.type]
        if options is not None:
            self.kind = "kwatch"
        self.progspace = programs.selected()
        self.pid = gdb.selected_inferior().pid
        self.frame = frame_or_none()
        self.language = gdbfacts.language_now()  # gdb parses it in this one ever after
        self.condition: str | None = bp.condition
        self.condition_function = local_context(bp.condition)
        self.lvalue: Lvalue | None = None
        self.way: Way | None = None  # to a place that may move; None where it cannot
        self.of_symbol = False  # of -location: its address was that of a static symbol
        self.found = False  # of -location: where gdb watches was looked up, see fixed_places
        self.late = False  # gdb is still to move it there
        self.regions: tuple[Region, ...] = ()
        self.passed_over: set[int] = set()
        self.unchecked = False  # not compared with where gdb watches yet
        self.to_check: tuple[Region, ...] = ()  # those of the last stop, to be compared
        # Where memory is missing: all that it may be, and what gdb watches of that.
        self.unread: tuple[tuple[Region, ...], tuple[Region, ...]] = ((), ())
        self.needs: frozenset[Piece] = frozenset()  # the slots that it wants
        self.pieces = self.needs  # those that it stands in, or would
        self.last: Reading = None
        self.before: Reading = None  # what it held before the hit that was taken down last
        self.hits = 0
        self.state = PENDING
        self.reason = ""
        self.enabled: bool = bp.enabled
        self.on: bool = bp.enabled  # gdb's own flag, as it was last seen or set
        self.priority = NATIVE if options is None else options.priority
        self.request: Request | None = None  # what the arbiter knows of it
        self.head: Watch = self  # that of a leg is the kwatch itself
        self.refused = False  # by the arbiter: it needs more than there are
        self.displaced = False
        self.was_installed = True
        self.carried = False
        self.scoped: bool | None = None  # whether it uses locals; None: not known yet
        self.seen: tuple[object, ...] = ()  # see `Registry.switched`
        self.once = False  # ``enable once``
        self.thread: int | None = bp.thread
        self.gdb_hits: int = bp.hit_count
        self.ignore_count: int = bp.ignore_count
        # Whether a function of the program is called to evaluate it; None: not known yet.
        self.calls = None if options is None else False
        self.wandering = False  # thread-local: it stands where gdb last evaluated it
        self.has_run = False  # the program was resumed since it was set
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
    def chooses(self) -> bool:
        """Whether only gdb's locations tell which of its parts are watched."""
        return self.way is not None and chooses(self.watched)

    @property
    def is_location(self) -> bool:
        """Whether its address was fixed once and for all by -location."""
        return _LOCATION.match(str(self.bp.expression or "")) is not None

    @property
    def temporary(self) -> bool:
        """To be deleted at its first stop (`tbreak`-style disposition)."""
        return bool(self.bp.is_valid() and self.bp.temporary)

    @property
    def only_thread(self) -> int | None:
        """The one thread that it is for, by its global number."""
        return self.bp.thread

    @property
    def user_condition(self) -> str | None:
        """The condition that the user has set."""
        return asked_of(self.bp.condition)

    @property
    def acting(self) -> list[str]:
        """The options that say what it does at a hit, and whose hits count."""
        words = [] if self.log is None else [f"-log {quoted(self.log)}"]
        words += [f"-from {code_word(name)}" for name in self.only]
        return words + [f"-not-from {code_word(name)}" for name in self.without]

    def with_acting(self, asked: str | None) -> str | None:
        """The condition for gdb, of the one that the user asked for."""
        if not self.acts or _ACTING.fullmatch(asked or ""):
            return asked
        return f"${HIT_COUNTS}({self.number}" + (f", ({asked}))" if asked else ")")

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
    def name(self) -> str:
        """As kwatch's own messages name it: ``kwatch 5``, ``watch 7``."""
        return f"{self.kind} {self.number}"

    @property
    def everywhere(self) -> bool:
        return self.options is not None and self.options.everywhere

    @property
    def is_watchpoint(self) -> bool:
        """One of gdb's own kind, which it evaluates when it is turned on."""
        return self.in_registers and self.access != "execute"

    @property
    def spans(self) -> bool:
        """Whether it has places in other programs too, for which it takes slots there: gdb puts a
        hardware breakpoint into each that has its function or line."""
        return self.everywhere or self.access == "execute"

    @property
    def merged(self) -> bool:
        """Shares a wider slot with others: a trap of the slot may be none of its own."""
        return self.carried and self.head is self

    @property
    def waits(self) -> bool:
        """Registered with the arbiter, and without a slot."""
        return self.request is not None and not self.request.installed

    @property
    def armed(self) -> bool:
        return self.state == INSTALLED and not self.waits

    @property
    def shown_state(self) -> str:
        """Its state with what the arbiter says of it."""
        if self.waits:
            return DISPLACED if self.displaced else WAITING
        if self.state == INSTALLED and self.merged:
            return MERGED
        return self.state

    @property
    def moves(self) -> bool:
        """Whether what it watches may be elsewhere after a pointer on the way has changed."""
        lvalue = self.lvalue
        return (
            self.in_registers and lvalue is not None and not lvalue.fixed and not self.is_location
        )

    def cut(self, regions: tuple[Region, ...]) -> frozenset[Piece]:
        """The slots that regions take."""
        return frozenset(piece for region in regions for piece in region.pieces())

    def turn(self, on: bool) -> None:
        """Have it watch, or not, as the arbiter says; raises gdb.error where gdb refuses now."""
        self.bp.enabled = on

    @property
    def claims(self) -> tuple[Region, ...]:
        """What it asks the arbiter for.  Not its kernel sight, which takes what is left."""
        return tuple(Region(*piece) for piece in sorted(self.needs))

    def kept(self, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        """Without those that gdb did not take a location for."""
        return tuple(r for n, r in enumerate(regions) if n not in self.passed_over)

    def watch_regions(self, regions: tuple[Region, ...]) -> None:
        self.regions = regions
        self.needs = self.cut(regions)
        if self.request is None:
            self.pieces = self.needs


class Leg(Watch):
    """A kwatch for all inferiors, in another program than the one that gdb keeps it in: there a
    sentinel alone watches, and the engine judges by the rules of the one gdb.Breakpoint."""

    def __init__(self, head: Watch) -> None:
        super().__init__(head.bp, head.options)
        self.head = head
        self.language = head.language
        self.carried = True

    @property
    def enabled(self) -> bool:
        return self.head.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        pass  # the user has one switch for all of them

    @property
    def request(self) -> Request | None:
        return self.head.request

    @request.setter
    def request(self, value: Request | None) -> None:
        pass


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


def overlap(regions: Sequence[Region], address: int, length: int) -> bool:
    """Whether one of ``regions`` shares a byte with (address, length)."""
    return any(r.address < address + length and address < r.address + r.length for r in regions)
