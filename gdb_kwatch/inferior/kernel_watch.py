"""A kwatch that perf stands for and not ptrace (``kwatch -k``): it sees the kernel's accesses too.

Its visible breakpoint is a signal catchpoint: a watchpoint would take a second slot of ptrace's.
The condition says what it is, and is how gdb asks for its hits: gdb itself tests it, counts,
ignores, runs commands and deletes, as for any breakpoint.  What the user gives as condition becomes
the last argument of that call.
"""

from __future__ import annotations

import re

import gdb

from gdb_kwatch.core.arbiter import NORMAL, priority_name
from gdb_kwatch.core.debugreg import BY_PERF, Piece
from gdb_kwatch.core.grammar import quoted
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import filters

from . import gdbfacts, kernel_conditions
from .kernel_conditions import Judged, Loaded, Programs, Stopped
from .watch import MENTIONS, Options, Watch, asked_of

FUNCTION = "_kernel_or_user_hit"
BY_USER = "_user_hit"  # the same, of one that sees the program only
SIGNALS = "SIGURG SIGWINCH"
# gdb.BP_CATCHPOINT, and objects for catchpoints, are new in gdb 12.
HAS_OBJECTS = hasattr(gdb, "BP_CATCHPOINT")

_STRING = r'"((?:[^"\\]|\\.)*)"'
_CALL = re.compile(rf"\$({FUNCTION}|{BY_USER})\(\d+, {_STRING}(?:, {_STRING})?\)$")
_ROW = r"^{number}\s+catchpoint\s+(\w+)\s+([yn])(.*(?:\n(?:\t|        ).*)*)"


class Listed:
    """A catchpoint as ``info breakpoints`` tells of it: gdb 10 gives Python no object for one.
    Has what a gdb.Breakpoint has, as far as kwatch looks."""

    type = -1
    thread = task = expression = location = None
    silent = False

    def __init__(self, number: int) -> None:
        self.number = number
        self.valid = True
        self.temporary = False
        self._enabled = True
        self._condition: str | None = None
        self.ignore_count = 0
        self.hit_count = 0
        self.commands: str | None = None
        self.look()

    def look(self) -> None:
        """Ask gdb again."""
        try:
            text = gdbfacts.answer(f"info breakpoints {self.number}")
        except gdb.error:
            self.valid = False
            return
        row = re.search(_ROW.format(number=self.number), text, re.M)
        self.valid = row is not None
        if row is None:
            return
        self.temporary, self._enabled = row.group(1) == "del", row.group(2) == "y"
        rest = row.group(3)
        found = re.search(r"^\tstop only if (.*)$", rest, re.M)
        self._condition = found.group(1) if found else None
        hit = re.search(r"already hit (\d+) time", rest)
        self.hit_count = int(hit.group(1)) if hit else 0
        self.commands = "\n".join(re.findall(r"\n {8}(.*)", rest)) or None
        ignored = re.search(r"ignore next (\d+) hits", rest)
        self.ignore_count = int(ignored.group(1)) if ignored else 0

    def is_valid(self) -> bool:
        return self.valid

    def delete(self) -> None:
        gdb.execute(f"delete {self.number}", to_string=True)
        self.valid = False

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        gdb.execute(f"{'enable' if on else 'disable'} {self.number}", to_string=True)
        self._enabled = on

    @property
    def condition(self) -> str | None:
        return self._condition

    @condition.setter
    def condition(self, text: str) -> None:
        gdb.execute(f"condition {self.number} {text}", to_string=True)
        self._condition = text


def listed() -> list[Listed]:
    """All catchpoints of gdb 10."""
    rows = re.findall(r"^(\d+)\s+catchpoint\s", gdbfacts.answer("info breakpoints"), re.M)
    return [Listed(int(number)) for number in rows]


def make_catchpoint(temporary: bool = False) -> gdb.Breakpoint | Listed:
    """A new catchpoint of the signals by which hits are told.  Not in a breakpoint event."""
    stopping = "" if filters.why_no_stops() else " SIGSTOP"  # see kernel_stops
    gdb.execute(f"catch signal {SIGNALS}{stopping}", to_string=True)
    number = int(gdb.convenience_variable("bpnum"))
    if temporary:
        gdb.execute(f"enable delete {number}", to_string=True)
    if not HAS_OBJECTS:
        return Listed(number)
    return next(bp for bp in gdb.breakpoints() if bp.number == number)


def as_command(condition: str | None) -> str | None:
    """What would set the kwatch again whose catchpoint has this condition; None where it is of
    none."""
    found = _CALL.match(condition or "")
    if found is None:
        return None
    words, asked = (re.sub(r"\\(.)", r"\1", text or "") for text in found.group(2, 3))
    kernel = "-k " if found.group(1) == FUNCTION else ""
    return f"{kernel}{words}" + (f" if {asked}" if asked else "")


class KernelWatch(Watch):
    """A kwatch with -k.  ``bp`` is its catchpoint; ``asked`` the user's own condition."""

    in_registers = False
    programs: Programs | None = None
    program: Loaded | None = None  # the kernel tests the condition
    judged: Judged | None = None  # who tests it; None where there is no condition
    compiled_for: tuple[object, ...] = ()
    stopped: Stopped | None = None  # what the program said of the trap in hand
    failure = ""  # why the condition could not be evaluated then
    sees_kernel = True

    def __init__(
        self,
        bp: gdb.Breakpoint | Listed,
        options: Options,
        access: str,
        text: str,
        location: bool,
        condition: str | None,
    ) -> None:
        self.text = text
        self._location = location
        self.asked = condition
        self._put: str | None = None  # what `put_condition` has given to gdb
        super().__init__(bp, options, ("kwatch", access))
        # Not by gdb: gdb 16 ends itself where a catchpoint is given a thread (`re_set: Assertion
        # `locations ().size () == 1' failed`, breakpoint.c).
        self.on_thread: int | None = None
        self._lwp = 0
        self.needs_frame = not location and gdbfacts.needs_frame(text)

    @property
    def expression(self) -> str:
        if self.options is not None and self.options.spec:
            return self.options.spec
        return self.text

    @property
    def watched(self) -> str:
        return self.text

    @property
    def is_location(self) -> bool:
        return self._location

    @property
    def mention(self) -> str:
        text = f"{MENTIONS[self.access]} {self.number}: {self.expression}"
        return f"{text} (user and kernel)" if self.sees_kernel else text

    @property
    def how(self) -> str:
        """What it has that others have not."""
        parts = ["user and kernel"] if self.sees_kernel else []
        if self.judged is not None:
            parts.append(f"condition {self.judged.text}")
        return "; ".join(parts) or "by perf"

    @property
    def judged_in_kernel(self) -> bool:
        return self.program is not None

    @property
    def only_thread(self) -> int | None:
        return self.on_thread

    @property
    def only_lwp(self) -> int | None:
        """The LWP of that thread, also after its end."""
        if self.on_thread is None:
            return None
        for inferior in gdb.inferiors():
            for thread in inferior.threads():
                if getattr(thread, "global_num", thread.num) == self.on_thread:
                    self._lwp = thread.ptid[1]
        return self._lwp

    def is_for(self, lwp: int) -> bool:
        return self.only_lwp in (None, lwp)

    @property
    def user_condition(self) -> str | None:
        return asked_of(self.asked)

    def cut(self, regions: tuple[Region, ...]) -> frozenset[Piece]:
        mark = BY_PERF | kernel_conditions.mark(self)
        return frozenset(
            Piece(p.address, p.length, p.rw | mark) for r in regions for p in r.pieces()
        )

    def watch_regions(self, regions: tuple[Region, ...]) -> None:
        if self.programs is not None:
            self.programs.refresh(self, regions)
        super().watch_regions(regions)

    # The condition, as gdb has it.

    @property
    def call(self) -> str:
        """What gdb is to evaluate at each signal."""
        words = [str(self.number), quoted(self.line)]
        if self.user_condition:
            words.append(quoted(self.user_condition))
        return f"${FUNCTION if self.sees_kernel else BY_USER}({', '.join(words)})"

    @property
    def line(self) -> str:
        """The command line of `kwatch` that asks for it, but -k, -t and the condition."""
        words = {"write": [], "access": ["-a"], "read": ["-r"]}[self.access]
        words += ["-every"] if self.every else []
        words += ["-p", priority_name(self.priority)] if self.priority != NORMAL else []
        words += self.acting
        words += [self.expression]
        words += [f"thread {self.on_thread}"] if self.on_thread is not None else []
        return " ".join(words)

    def put_condition(self) -> None:
        """Have gdb show and test `call`.  From a command, or in breakpoint_modified."""
        with gdbfacts.speaking("c"):  # for the strings
            self.bp.condition = self.call
        self._put = self.bp.condition

    def was_changed(self) -> bool:
        """Whether the user has given another condition; it is taken in."""
        if self.bp.condition == self._put:
            return False
        self.asked = self.bp.condition
        if self.asked and self.asked.startswith((f"${FUNCTION}(", f"${BY_USER}(")):
            self.asked = None  # another's, copied
        self.asked = self.with_acting(self.asked)
        return True

    def frame_is_gone(self) -> bool:
        """Whether it watches a local of a function that has returned."""
        return self.needs_frame and self.frame is not None and not self.frame.is_valid()
