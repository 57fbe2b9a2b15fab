"""The condition of ``kwatch who`` and ``kwatch trace``: in the kernel where that is exact, else by
gdb at each access, with the same ``$old`` and ``$new``.

No stop asks for it, so what cannot be evaluated leaves nothing out; how often that was is told.
"""

from __future__ import annotations

import re

import gdb

from gdb_kwatch.core import conditions
from gdb_kwatch.core.conditions import Node
from gdb_kwatch.linux import pages

from . import side_effects
from .compiling import compiled, places_of
from .convenience import standing_in
from .targets import Target

# A thread that begins later has a number that the kernel's program does not know.
_NUMBERS = re.compile(r"\$_g?thread\b")
# `$_streq (name, "x")` compares in gdb; any other string is put into the program's memory first
# (`value_coerce_to_target`, by a call of its malloc).
_IN_GDB = re.compile(r"\$_\w+\s*\([^()]*\)")

_FAILURES = {
    conditions.DIVISION: "Division by zero",
    conditions.UNREADABLE: "Cannot access memory",
}


class AccessCondition:
    """``text`` is what stands after ``if``, None where nothing does.  Raises gdb.GdbError where it
    is no condition."""

    def __init__(self, text: str | None, target: Target) -> None:
        self.text = text
        self.failures = 0
        self.failure = ""
        self._places: list[tuple[int, int]] = []
        if text is not None:
            self._check(text, target)

    def _check(self, text: str, target: Target) -> None:
        if '"' in _IN_GDB.sub("", text):
            raise gdb.GdbError(f"{text}: a string takes memory in the program; use $_streq.")
        now = target.now()
        with standing_in(old=target.value(now), new=target.value(now)):
            side_effects.refuse(text)
        try:
            self._value(text, target, now, now)
        except gdb.MemoryError:
            pass  # another time, maybe
        except gdb.error as error:
            if str(error) != "Division by zero":
                raise gdb.GdbError(str(error)) from None

    @staticmethod
    def _value(text: str, target: Target, old: bytes, new: bytes) -> bool:
        with standing_in(old=target.value(old), new=target.value(new)):
            return bool(gdb.parse_and_eval(text))

    def node(self, target: Target) -> tuple[Node | None, str]:
        """For the kernel; None and why not where gdb must be asked, (None, "") where nothing is
        asked."""
        if self.text is not None:
            number = _NUMBERS.search(self.text)
            if number:
                why = f"{number.group()} of a thread that begins later is gdb's alone"
                return None, f"condition in gdb: {why}"
        node, reason = compiled(self.text, target)
        if reason:
            return None, f"condition in gdb: {reason}"
        if self.text is not None:
            self._places = places_of(self.text, target)
        return node, ""

    def have_there(self, pid: int) -> None:
        """Have the kernel find what it names, of one that is compiled, in a process."""
        pages.have_there(pid, self._places)

    def holds(self, target: Target, old: bytes, new: bytes) -> bool:
        """As gdb evaluates it, where the program stands now."""
        if self.text is None:
            return True
        try:
            return self._value(self.text, target, old, new)
        except gdb.error as error:
            self.failures += 1
            self.failure = self.failure or str(error)
            return True

    def told(self, state: int) -> str:
        """A line about what could not be evaluated, "" where all could be.  ``state``: what the
        kernel's program says (`filters.STATE`)."""
        failure = self.failure or _FAILURES.get(state, "")
        if not failure:
            return ""
        counted = f"at {self.failures:,} of them" if self.failures else "at some of them"
        return f"(the condition could not be tested {counted}, which are counted: {failure})\n"
