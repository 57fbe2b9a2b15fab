"""`save breakpoints` writes watchpoints as the user wants them, those that wait for a slot too.

gdb writes ``disable $bpnum`` after each that is off (``save_breakpoints``), and nobody would ever
put it on again.  So those that only wait, or are merged, are on while gdb writes: from the hook
before the command to the one after it, or to the next prompt, where it has failed.  Where gdb
would put them into the registers at once they stay off, and are saved so.
"""

from __future__ import annotations

from .gdbfacts import Unlisted, inserts_at_once
from .hooks import Around
from .watch import Watch
from .watches import Registry


class Saving(Around):
    """One for a session."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(("save breakpoints",), self.before, self.after)
        self.registry = registry
        self._on: list[Watch] = []

    def before(self) -> None:
        if inserts_at_once():
            return
        for watch in self.registry.watches.values():
            if watch.enabled and not watch.on and not isinstance(watch.bp, Unlisted):
                self._on.append(watch)
                self.registry.switch(watch, True)

    def after(self) -> None:
        on, self._on = self._on, []
        for watch in on:
            if not watch.on:
                self.registry.switch(watch, False)
