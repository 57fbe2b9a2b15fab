"""Runs inside gdb: makes the calls of the kernel's interfaces fail, one after the other.

Each round plays the same session on fixtures/blamed_unchanged.c while one call, or all from one on,
fail with an errno, or the program is killed there; then the session is played once more with
nothing failing, and must show every hit.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import gdb

from gdb_kwatch.inferior import faults
from gdb_kwatch.linux import perf_event, ptrace
from gdb_kwatch.ui import plugin

ERRORS = ("EPERM", "ESRCH", "EIO", "ENOSPC", "EINTR")
SHOWN = ("Traceback", "Python Exception", "Error occurred in Python", "internal fault", "$_kwatch")


class Calls:
    """Every call that the plugin makes of ptrace and perf_event_open, counted.

    At call number ``at`` (and ``times`` - 1 after it) ``do`` happens: an errno's name, or KILL.
    """

    SEAMS = (
        (ptrace, "call", -1),
        (ptrace, "_quick", (1 << 64) - 1),
        (perf_event._libc, "syscall", -1),
    )

    def __init__(self) -> None:
        self.real = [(owner, name, getattr(owner, name)) for owner, name, _ in self.SEAMS]
        for (owner, name, bad), (_, _, real) in zip(self.SEAMS, self.real):
            setattr(owner, name, self.counted(real, bad))
        self.set(-1, "", 0)

    def set(self, at: int, do: str, times: int) -> None:
        self.at, self.do, self.times, self.count = at, do, times, 0

    def counted(self, real: Any, bad: int) -> Any:
        def call(*arguments: Any) -> int:
            number = self.count
            self.count += 1
            if self.at <= number < self.at + self.times:
                if self.do == "KILL":
                    pid = gdb.selected_inferior().pid
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                else:
                    ctypes.set_errno(getattr(errno, self.do))
                    return bad
            return real(*arguments)

        return call


def play(commands: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Each command, what gdb answered, and whether that was an error."""
    for command in commands:
        try:
            yield command, gdb.execute(command, to_string=True), False
        except gdb.error as error:
            yield command, str(error), True


START = ("delete", "tbreak main", "run", "kwatch pair.a", "watch pair.b")
GO = ("continue", "continue")
LOOK = ("kwatch list", "kwatch slots", "kwatch verify", "kwatch hits", "info watchpoints")


def value(name: str) -> int | None:
    try:
        return int(gdb.parse_and_eval(name)) if gdb.selected_inferior().pid else None
    except gdb.error:
        return None


class Round:
    """One session with faults and one without; ``wrong`` says what was not as it must be."""

    def __init__(self, calls: Calls, at: int, do: str, times: int) -> None:
        self.wrong: list[str] = []
        self.said: list[str] = []
        faults._told.clear()
        calls.set(at, do, times)
        text = self.faulty(do)
        made = calls.count
        calls.set(-1, "", 0)
        lines = [line for line in text.split("\n") if line.startswith(("kwatch: ", "warning: kw"))]
        self.said = lines
        if len(lines) > (1 if times == 1 else 2):
            self.wrong.append(f"{len(lines)} lines: {lines}")
        self.wrong += [f"{word} was shown" for word in SHOWN if word in text]
        self.calls = made
        self.healthy()

    def faulty(self, do: str) -> str:
        text = ""
        refused = False
        for command, answer, error in play((*START, "continue")):
            text += answer
            if error and command.startswith(("kwatch", "watch")):
                refused = True  # said at once, and not set
        if not refused and do not in ("KILL", "ESRCH") and value("pair.a") not in (0, 1):
            self.wrong.append(f"it went by: pair.a is {value('pair.a')}")
        for _, answer, _ in play((*GO[1:], *LOOK)):
            text += answer
        return text

    def healthy(self) -> None:
        there = {bp.expression for bp in gdb.breakpoints() or () if bp.number > 0}
        if not {"pair.b"} <= there and "pair.a" in there:
            self.wrong.append(f"lost: {there}")
        history = plugin.session.engine.history
        before = history.count
        missing = [c for c in START[3:] if c.split()[1] not in there]
        for command, answer, error in play(("tbreak main", "run", *missing, *GO)):
            if error:
                self.wrong.append(f"afterwards {command!r} fails: {answer}")
        hits = [
            sorted(hit.expression for hit in trap.hits)
            for trap in history.last(history.count - before)
            if trap.origin == "user"
        ]
        if hits != [["pair.a", "pair.b"]] * 2:
            self.wrong.append(f"afterwards the hits are {hits}")


def rounds(every: int, errors: Iterable[str], lengths: Iterable[int]) -> tuple[int, list[str]]:
    """All rounds; how many there were, and what went wrong in them.

    ``every``: only each such call, from a different one on for each errno.
    """
    calls = Calls()
    for setting in ("confirm off", "pagination off", "print thread-events off"):
        gdb.execute(f"set {setting}")
    total = Round(calls, -1, "", 0).calls
    count, wrong = 0, []
    for times in lengths:
        for n, do in enumerate(errors):
            for at in range(n % every, total, every):
                played = Round(calls, at, do, times)
                count += 1
                what = f"{do} at call {at} of {total}, {times} times"
                wrong += [f"{what}: {text}" for text in played.wrong]
    return count, wrong
