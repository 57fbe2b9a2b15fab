"""Run other programs with a time limit, and leave none of their processes behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Ended(NamedTuple):
    """How a program ended: its exit code (None: out of time) and all that it wrote."""

    code: int | None
    output: str

    @property
    def fine(self) -> bool:
        return self.code == 0

    def last_lines(self, count: int = 8) -> str:
        return "\n".join(f"  {line}" for line in self.output.rstrip().splitlines()[-count:])


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: str = "",
) -> Ended:
    """Run `argv` in a session of its own, with `env` added to the environment.

    Whatever is left of that session afterwards is ended: a gdb that is killed may leave the
    program it was debugging, and that program its children.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(stdin, timeout=seconds)
        return Ended(process.returncode, output)
    except subprocess.TimeoutExpired:
        _end(process)
        output, _ = process.communicate()
        return Ended(None, output)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()  # gdb and apt-get tidy up at SIGTERM
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    for pid in _session(process.pid):
        _kill(pid)
    process.wait()


def _kill(pid: int) -> None:
    """Kill, and wait until it is gone: a signal is only a request."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            select.select([handle], [], [], 5)
        finally:
            os.close(handle)


def _session(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # proc(5): pid (comm) state ppid pgrp session …; comm may hold blanks and ")"
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    yield int(entry.name)
