"""Log messages: a data breakpoint that says something at each hit and does not stop."""

from __future__ import annotations

import re
from collections.abc import Callable

import gdb

from gdb_kwatch.inferior import side_effects

from .sending import send

_CLASSES = {"watch": gdb.WP_WRITE, "rwatch": gdb.WP_READ, "awatch": gdb.WP_ACCESS}


_EXPRESSION = re.compile(r"\{(.*?)\}")


def expressions_of(message: str) -> list[str]:
    """What it has between braces."""
    return _EXPRESSION.findall(message)


class LogPoint(gdb.Breakpoint):
    """A watchpoint whose `stop` answers no.  Its condition is tested here: gdb asks `stop` first,
    and what the condition forbids would have been said already."""

    def __init__(self, message: str, command: str, expression: str) -> None:
        # Text and expressions in turn.
        self.parts = _EXPRESSION.split(message)
        self.when: str | None = None
        self.passes = 0
        super().__init__(expression, gdb.BP_WATCHPOINT, _CLASSES[command])

    @classmethod
    def maker(cls, message: str) -> Callable[[str, str], None]:
        def make(command: str, expression: str) -> None:
            cls(message, command, expression)

        return make

    def restrict(self, condition: str | None, ignored: int | None) -> None:
        """``ignored``: how many hits to pass over from now on; None: as before."""
        if condition is not None:
            side_effects.refuse(condition)
            gdb.parse_and_eval(condition)  # an error is told now, not at each hit
        self.when = condition
        if ignored is not None:
            self.passes = ignored

    def stop(self) -> bool:
        if self.when is not None and not self._holds(self.when):
            return False
        if self.passes > 0:
            self.passes -= 1
            return False
        text = "".join(
            self._value(part) if n % 2 else part for n, part in enumerate(self.parts)
        ).rstrip("\n")
        send("output", {"category": "console", "output": text + "\n"})
        return False

    def _holds(self, condition: str) -> bool:
        try:
            return bool(gdb.parse_and_eval(condition))
        except gdb.error:
            return True  # as gdb: what cannot be tested counts

    def _value(self, expression: str) -> str:
        try:
            return str(gdb.parse_and_eval(expression))
        except gdb.error as error:
            return f"<{error}>"
