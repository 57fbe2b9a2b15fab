"""`save breakpoints` writes watchpoints as the user wants them, those that wait for a slot too.

gdb writes ``disable $bpnum`` after each that is off (``save_breakpoints``), and nobody would ever
put it on again.  So those that only wait, or are merged, are on while gdb writes: from the hook
before the command to the one after it, or to the next prompt, where it has failed.  Where gdb
would put them into the registers at once they stay off, and are saved so.
"""

from __future__ import annotations

from .faults import guarded
from .gdbfacts import Unlisted, inserts_at_once
from .handlers import Handlers
from .hooks import Hook
from .watch import Watch
from .watches import Registry


class Saving:
    """One for a session."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._on: list[Watch] = []
        self._hooks = (
            Hook("save hook-breakpoints", self.before),
            Hook("save hookpost-breakpoints", self.after),
        )
        self._failed = Handlers(before_prompt=self.after)

    def connect(self) -> None:
        for hook in self._hooks:
            hook.install()

    def disconnect(self) -> None:
        self.after()
        for hook in self._hooks:
            hook.uninstall()

    @guarded()
    def before(self) -> None:
        if inserts_at_once():
            return
        for watch in self.registry.watches.values():
            if watch.enabled and not watch.on and not isinstance(watch.bp, Unlisted):
                self._on.append(watch)
                self.registry.switch(watch, True)
        if self._on:
            self._failed.connect()

    @guarded()
    def after(self) -> None:
        self._failed.disconnect()
        on, self._on = self._on, []
        for watch in on:
            if not watch.on:
                self.registry.switch(watch, False)
