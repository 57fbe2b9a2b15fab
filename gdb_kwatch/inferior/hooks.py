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

import contextlib
from collections.abc import Callable, Sequence

import gdb

from . import gdbfacts
from .faults import guarded
from .handlers import Handlers


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
        return outer_indent_off(text.rstrip("\n").split("\n")[1:])

    def _define(self, lines: list[str]) -> None:
        text = self._help()
        gdb.execute("\n".join([f"define {self.name}", *lines, "end"]), to_string=True)
        if text:
            self._document(text)

    def _help(self) -> str:
        """The user's own help text of it, "" where there is none."""
        try:
            text = gdbfacts.answer(f"help {self.name}").rstrip("\n")
        except (gdb.error, UnicodeError):
            return ""
        return "" if text == "User-defined." else text

    def _document(self, text: str) -> None:
        """gdb (10 to 18) frees the help text of a command that is defined anew, and shows freed
        memory from then on (`do_define_command`, `delete_cmd`): give it back."""
        import tempfile  # dear, and seldom needed

        # gdb 10 reads it from the terminal where a script's `execute` has it.
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile("w", suffix=".gdb") as file:
            file.write(f"document {self.name}\n{text}\nend\n")
            file.flush()
            gdb.execute(f"source {file.name}", to_string=True)


class Around:
    """Runs ``before`` and ``after`` around some of gdb's commands, named in full (``save
    breakpoints``).  ``after`` runs at the next prompt as well, for a command that has failed: gdb
    runs no hook after that one."""

    def __init__(
        self, commands: Sequence[str], before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        self._before, self._after = before, after
        self._hooks = []
        for command in commands:
            prefix, _, name = command.rpartition(" ")
            for kind, action in ("hook", self._begin), ("hookpost", self._end):
                self._hooks.append(Hook(f"{prefix} {kind}-{name}".lstrip(), action))
        self._failed = Handlers(before_prompt=self._end)

    def connect(self) -> None:
        for hook in self._hooks:
            hook.install()

    def disconnect(self) -> None:
        self._end()
        for hook in self._hooks:
            hook.uninstall()

    @guarded()
    def _begin(self) -> None:
        self._failed.connect()
        self._before()

    @guarded()
    def _end(self) -> None:
        self._failed.disconnect()
        self._after()


def outer_indent_off(shown: list[str]) -> list[str]:
    """The lines of ``show user`` as they were typed.  gdb indents them by two blanks, but for
    Python (`print_command_lines`), where the blanks are the program's."""
    lines = []
    python = False
    for line in shown:
        if python and line.strip() != "end":
            lines.append(line)
            continue
        python = line.strip() == "python"
        lines.append(line[2:] if line.startswith("  ") else line)
    return lines
