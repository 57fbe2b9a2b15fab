"""Plain data that crosses the rooms: regions, hits, traps, and their JSON (the contract).

A trap is one #DB exception of one thread; a hit is one watchpoint that it touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic_ns
from typing import Any, NamedTuple, Protocol

from .debugreg import EXECUTE, READ_WRITE, WRITE, Piece, pieces_of

USER = "user"
KERNEL = "kernel"
UNTRAPPED = "untrapped"

BY_DR6 = "dr6"
BY_COUNTER = "counter"
BY_VALUE = "value"

# What a watchpoint asks for, and the R/W field that gdb gives its slot: x86 has no read-only
# watchpoint, so gdb puts an rwatch into an access slot (`insert_bp_location`).
ACCESS_RW = {"write": WRITE, "read": READ_WRITE, "access": READ_WRITE, "execute": EXECUTE}


class Region(NamedTuple):
    """Bytes that a watchpoint watches, before gdb cuts them into pieces."""

    address: int
    length: int
    rw: int

    def pieces(self) -> list[Piece]:
        return pieces_of(*self)

    def covers(self, address: int) -> bool:
        return self.address <= address < self.address + self.length


class Touch(NamedTuple):
    """One watchpoint in the way of a trap: what is known before any value is read.

    ``value`` tells how to print what was read (None where nothing is, as for execution).
    """

    watch: Any
    number: int
    expression: str
    slots: tuple[int, ...]
    address: int
    size: int
    access: str
    blamed: bool
    value: Any


# A trap as it is kept at first, no more than must be taken down while the program waits: number,
# inferior, thread, LWP, PC, DR6, the touches, and for each touch the value before and after, as
# read.  A plain tuple: it is made at each trap.
Quiet = tuple[int, int, int, int, int, int, Sequence[Touch], Sequence[Any], Sequence[Any]]
TOUCHES = 6
# In the place of DR6, where there is none: the program went backwards (a replay).
BACKWARDS = -1


def in_full(quiet: Quiet) -> Trap:
    """The trap that was kept in short."""
    number, inferior, thread, lwp, pc, dr6, touches, olds, news = quiet
    hits = [
        Hit(
            touch.number,
            touch.expression,
            touch.slots,
            touch.address,
            touch.size,
            touch.access,
            changed=old != new,
            stop=False,
            seen_by=BY_DR6 if dr6 > 0 else BY_VALUE,
            blamed=touch.blamed,
            raw=(touch.value, old, new),
        )
        for touch, old, new in zip(touches, olds, news)
    ]
    trap = Trap(number, inferior, thread, lwp, pc, max(dr6, 0), hits)
    trap.backwards = dr6 == BACKWARDS
    return trap


@dataclass
class Hit:
    """One watchpoint touched by a trap.  ``old`` and ``new`` are as gdb prints them, None where
    there is no value; ``raw`` keeps what is needed to print them when somebody looks.  ``count``:
    how often a counter saw it; the kernel may copy 8 bytes one by one."""

    number: int
    expression: str
    slots: tuple[int, ...]
    address: int
    size: int
    access: str
    changed: bool
    stop: bool
    seen_by: str = BY_DR6
    blamed: bool = False
    old: str | None = None
    new: str | None = None
    raw: Any = None
    count: int = 1

    def json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "expression": self.expression,
            "slots": list(self.slots),
            "address": hex(self.address),
            "size": self.size,
            "access": self.access,
            "old": self.old,
            "new": self.new,
            "changed": self.changed,
            "stop": self.stop,
            "seen_by": self.seen_by,
            "blamed": self.blamed,
            **({"count": self.count} if self.seen_by == BY_COUNTER else {}),
        }


class KernelCall(Protocol):
    """What the kernel was doing when it touched the program's memory: a system call, mostly."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    def json(self) -> dict[str, Any]: ...


@dataclass
class Trap:
    """One trap and its hits; with origin ``untrapped``, bytes found changed at a stop.

    ``pc`` is the program counter at the trap, after the access.  ``place`` is where the access
    itself was made, filled in when somebody looks.  ``call`` is what the kernel was doing, with
    origin ``kernel``.  ``backwards``: in a replay that goes back, where ``pc`` is before it.
    """

    number: int
    inferior: int
    thread: int
    lwp: int
    pc: int
    dr6: int
    hits: list[Hit]
    origin: str = USER
    stopped: bool = False
    place: Any = None
    call: KernelCall | None = None
    backwards: bool = False
    outlived: bool = False  # the process has become another program since (exec)

    def json(self, place: dict[str, Any]) -> dict[str, Any]:
        """The object of the contract; ``place`` has pc, function, file, line, instruction."""
        return {
            "trap": self.number,
            "inferior": self.inferior,
            "thread": self.thread,
            "lwp": self.lwp,
            **place,
            "dr6": self.dr6,
            "origin": self.origin,
            "stopped": self.stopped,
            **({"call": self.call.json()} if self.call is not None else {}),
            "hits": [hit.json() for hit in self.hits],
        }


class History:
    """The traps of this session, the oldest forgotten first: a ring of ``limit`` traps."""

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self.count = 0
        self._ring: deque[Quiet | Trap] = deque(maxlen=limit)
        self._times: deque[int] = deque(maxlen=limit)  # ns of CLOCK_MONOTONIC
        self._left: dict[int, int] = {}  # by inferior, the last trap of the program before

    def add(self, record: Quiet | Trap) -> None:
        self._ring.append(record)
        self._times.append(monotonic_ns())

    def next_number(self) -> int:
        self.count += 1
        return self.count

    def leave(self, inferior: int) -> None:
        """The traps of an inferior until now were in another program than what comes."""
        self._left[inferior] = self.count

    def replace(self, trap: Trap) -> None:
        """Keep ``trap`` in full where it was kept in short."""
        for n in range(len(self._ring) - 1, -1, -1):
            record = self._ring[n]
            number = record[0] if isinstance(record, tuple) else record.number
            if number == trap.number:
                self._ring[n] = trap
            if number <= trap.number:
                return

    def remove(self, trap: Trap) -> None:
        """Forget the newest trap, told as part of another one."""
        if self._ring and self._ring[-1] is trap:
            self._ring.pop()
            self._times.pop()
            self.count -= 1

    def newest_time(self) -> int:
        """When the newest was taken down; 0 where there is none."""
        return self._times[-1] if self._times else 0

    def join(self, trap: Trap) -> None:
        """Forget the one before the newest, which is ``trap``: it is told as part of it."""
        if len(self._ring) > 1 and self._ring[-1] is trap:
            del self._ring[-2], self._times[-2]
            trap.number -= 1
            self.count -= 1

    def add_before(self, trap: Trap, later: Trap | None) -> None:
        """Keep ``trap``, as one that came before ``later``, where that is the newest."""
        if later is None or not self._ring or self._ring[-1] is not later:
            self.add(trap)
            return
        trap.number, later.number = later.number, trap.number
        self._ring[-1] = trap
        self.add(later)

    def resize(self, limit: int) -> None:
        """Keep at most ``limit`` traps from now on; the newest stay."""
        self.limit = limit
        self._ring = deque(self._ring, maxlen=limit)
        self._times = deque(self._times, maxlen=limit)

    def times(self) -> list[int]:
        """When the traps that are kept were taken down, in the order of `last`."""
        return list(self._times)

    def last(self, count: int | None = None) -> list[Trap]:
        """The newest ``count`` traps (all, if None), oldest first."""
        skip = 0 if count is None else max(len(self._ring) - count, 0)
        traps = [
            in_full(record) if isinstance(record, tuple) else record
            for record in islice(self._ring, skip, None)
        ]
        for trap in traps if self._left else ():
            trap.outlived = trap.number <= self._left.get(trap.inferior, 0)
        return traps

    def __len__(self) -> int:
        return len(self._ring)


def dumps(rows: Iterable[Any]) -> str:
    """A JSON array, one row a line: readable, and easy to compare."""
    import json  # not at the top: gdb should start quickly, and few sessions write JSON

    lines = [json.dumps(row) for row in rows]
    return "[" + ",\n ".join(lines) + "]\n"
