"""The user's gdb, asked from outside: where it is, its version, its Python and what that lacks."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gdb_kwatch import places
from gdb_kwatch.outside import probe, processes

# gdb would ask a server for debug information of the C library: slow, and nothing here needs it.
QUIET = {"DEBUGINFOD_URLS": "", "TERM": "dumb"}


class Debugger(NamedTuple):
    """A gdb; `python` is the version of the Python in it, None where it has none."""

    command: tuple[str, ...]
    version: str
    python: tuple[int, int] | None
    lacking: tuple[str, ...]

    @property
    def major(self) -> int:
        number = re.match(r"\d+", self.version)
        return int(number.group()) if number else 0


def find() -> tuple[str, ...] | None:
    """The gdb that $KWATCH_GDB names (a command line), else the one on PATH."""
    command = tuple(shlex.split(os.environ.get("KWATCH_GDB") or "gdb"))
    return command if shutil.which(command[0]) else None


def ask(command: tuple[str, ...]) -> Debugger:
    """Run that gdb twice: for its version and for its Python."""
    banner = processes.run([*command, "-nx", "--version"], seconds=30, env=QUIET).output
    script = str(Path(probe.__file__).resolve())
    answer = processes.run([*command, "-nx", "-batch", "-x", script], seconds=60, env=QUIET).output
    return Debugger(command, version_in(banner), *python_in(answer))


def version_in(banner: str) -> str:
    """'13.1' from 'GNU gdb (Debian 13.1-3) 13.1': the last word of the first line."""
    words = banner.split("\n", 1)[0].split()
    return words[-1] if words else "?"


def python_in(answer: str) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """What probe.py printed inside gdb; (None, ()) where there is no Python to run it."""
    for line in answer.splitlines():
        if line.startswith(probe.MARK):
            said = json.loads(line[len(probe.MARK) :])
            major, minor = said["python"]
            return (major, minor), tuple(said["lacking"])
    return None, ()


def with_kwatch(gdb: Debugger) -> list[str]:
    """The start of a command line: gdb in batch, with kwatch, without the user's own files."""
    return [*gdb.command, "-nx", "-batch", "-x", places.GDBINIT]


def commands(lines: Sequence[str]) -> list[str]:
    """-ex arguments that run `lines`, each shown first as it would stand in a session."""
    shown = ((f"echo (gdb) {line}\\n", line) for line in lines)
    return [part for pair in shown for line in pair for part in ("-ex", line)]
