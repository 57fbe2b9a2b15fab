"""gdb's command hooks: code of kwatch's in a place where no Python event is sent.

hook-stop is the one place between gdb's decision to stop and the first thing it prints.
gdb.events.stop handlers run after gdb has printed.  A silent sentinel would leave the user
without frame and displays, a noisy one would print its hidden expression: so it is noisy, and
deleted here, before gdb prints; gdb then prints frame, displays and MI fields itself
(``print_bp_stop_message`` passes over a deleted breakpoint).

A hook of a subcommand is one too (``save hook-breakpoints``, since gdb 10).

hookpost-awatch and hookpost-rwatch come after such a watchpoint was made, when a sentinel for it
may be made (not so in breakpoint_created).

Hooks belong to the user.  Theirs are kept, after ours; where they define one anew, ours is put
back before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import gdb

from . import gdbfacts


class Hook(gdb.Command):
    """Internal to kwatch: the line that it adds to a hook of gdb's."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self.name = name
        self.line = f"kwatch-internal-{name.replace(' ', '-')}"
        super().__init__(self.line, gdb.COMMAND_OBSCURE)
        # A deprecated command stands in no completion.  gdb warns at its first use: let that be
        # now, unseen.
        self.action: Callable[[], None] = lambda: None
        gdb.execute(f"maintenance deprecate {self.line}", to_string=True)
        gdb.execute(self.line, to_string=True)
        self.action = action

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.action()

    def install(self) -> None:
        """Put kwatch's line first, where it is not there."""
        lines = self.lines()
        if self.line not in lines:
            self._define([self.line, *lines])

    def uninstall(self) -> None:
        """Take kwatch's line out.  gdb cannot forget a user command: an empty one may stay."""
        lines = self.lines()
        if self.line in lines:
            self._define([line for line in lines if line != self.line])

    def lines(self) -> list[str]:
        """The hook's lines as they are now; none where there is no such hook."""
        try:
            text = gdbfacts.answer(f"show user {self.name}")
        except gdb.error:
            return []
        lines = text.rstrip("\n").split("\n")[1:]
        return [line[2:] if line.startswith("  ") else line for line in lines]

    def _define(self, lines: list[str]) -> None:
        gdb.execute("\n".join([f"define {self.name}", *lines, "end"]), to_string=True)
