"""What every verb needs before it can start: gdb, and no other set-up at work beside it."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path

from gdb_kwatch import places
from gdb_kwatch.outside import debugger, libraries, packages, say


def debugger_ready(python: str = sys.executable) -> debugger.Debugger:
    """The user's gdb, with Python in it, and pygments and tabulate where they could be had.

    `python` is one whose pip may fetch these two.
    """
    packages.provide(packages.missing())
    command = debugger.find()
    if command is None:
        raise say.Stop("gdb is installed, but not on PATH", say.USER_MUST_ACT)
    gdb = debugger.ask(command)
    if gdb.python is None:
        raise say.Stop(f"{gdb.command[0]} ({gdb.version}) {no_python()}", say.USER_MUST_ACT)
    return libraries.provide(gdb, python)


def no_python() -> str:
    return f"has no Python in it. Install a full gdb:\n  {packages.command(['gdb'])}"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep two set-ups of one user from working in the same folder at the same time."""
    folder = Path(places.state_dir())
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say.step(f"another set-up is at work in {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
