"""A gdb on a whole terminal, as a person sees it: what it writes goes through a terminal emulator.

Nothing here waits for time: `until` reads until the screen is as it should be.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte
from harness import GDBINIT, gdb_command

SECONDS = 30

# Each prompt has a number: what is on the screen from before cannot be taken for the answer.
COUNT = "import itertools; n = itertools.count(1); gdb.prompt_hook = lambda p: f'(gdb {next(n)}) '"


class Screen:
    """One gdb on a terminal of ``rows`` and ``columns``."""

    def __init__(
        self, program: Path, rows: int = 30, columns: int = 100, kwatch: bool = True
    ) -> None:
        words = [*gdb_command(), "-q", "-nx", "-iex", "set confirm off"]
        words += ["-iex", "set pagination off", "-iex", "set print thread-events off"]
        words += ["-iex", f"python {COUNT}"]
        if kwatch:
            words += ["-ex", f"source {GDBINIT}"]
        environment = dict(os.environ, TERM="linux", LC_ALL="C.UTF-8")
        for name in ("DEBUGINFOD_URLS", "NO_COLOR", "LINES", "COLUMNS"):
            environment.pop(name, None)
        self.child = pexpect.spawn(
            words[0], [*words[1:], str(program)], env=environment, dimensions=(rows, columns)
        )
        self.child.delaybeforesend = None
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.until(lambda: self.prompt() > 0)
        self._prompt = self.prompt()

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def cell(self, row: int, column: int) -> Any:
        """One character, with its colours."""
        return self._screen.buffer[row][column]

    def type(self, command: str) -> None:
        self.child.send(command + "\r")

    def until(self, so: Callable[[], bool]) -> None:
        """Read what gdb writes until ``so`` holds."""
        end = time.monotonic() + SECONDS
        while not so():
            if time.monotonic() > end:
                raise AssertionError(f"the screen is\n{self.text}")
            try:
                self._stream.feed(self.child.read_nonblocking(65536, 1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                raise AssertionError(f"gdb has ended:\n{self.text}") from None

    def prompt(self) -> int:
        """The number of the prompt at which gdb waits; 0 where it does not."""
        shown = [line for line in self.lines if line]
        found = re.fullmatch(r"\(gdb (\d+)\)", shown[-1]) if shown else None
        return int(found[1]) if found else 0

    def paged(self) -> bool:
        """Whether gdb waits at its pager."""
        shown = [line for line in self.lines if line]
        return bool(shown) and shown[-1].startswith("--Type <RET>")

    def cmd(self, command: str, so: Callable[[], bool] = lambda: True) -> None:
        """A command, up to the next prompt and until ``so`` holds."""
        self.type(command)
        self.until(lambda: self.prompt() > self._prompt and so())
        self._prompt = self.prompt()

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    # The TUI's windows.

    def box(self) -> list[str]:
        """The lines inside the frames of the windows above the status line; [] where a frame is
        not whole."""
        inside = []
        columns = self._screen.columns
        framed = False
        for line in self.lines:
            if line.startswith("┌") and line.endswith("┐") and len(line) == columns:
                framed = True
            elif line.startswith(("└", "├")) and line.endswith(("┘", "┤")):
                framed = line.startswith("├")
            elif framed and line.startswith("│") and line.endswith("│") and len(line) == columns:
                inside.append(line)
            elif framed:
                return []
        return [] if framed else inside

    def below(self) -> list[str]:
        """What the last command has written into the command window."""
        end = max((n for n, line in enumerate(self.lines) if line.startswith("└")), default=-1)
        below = self.lines[end + 2 :]  # the status line stands between
        prompts = [n for n, line in enumerate(below) if re.match(r"\(gdb \d+\) ", line)]
        return below[prompts[-1] + 1 :] if prompts else below

    def close(self) -> None:
        self.child.close(force=True)
