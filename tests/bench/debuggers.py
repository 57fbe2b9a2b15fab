"""Starts gdb, LLDB and the bare ptrace loop, each for one measurement in a process of its own.

Standard library only, beside gdb_kwatch.outside, whose ways of finding gdb and of running programs
it shares.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

import answers  # noqa: E402

from gdb_kwatch import places  # noqa: E402
from gdb_kwatch.outside import debugger, fixtures, processes, say  # noqa: E402

__all__ = [
    "PLUGIN",
    "BareKernelLoop",
    "BareLoop",
    "Gdb",
    "Lldb",
    "Strace",
    "WrongCount",
    "fixtures",
    "say",
]

# Another kwatch than this checkout's: an installed one, say.
PLUGIN = os.environ.get("KWATCH_GDBINIT") or places.GDBINIT


class WrongCount(Exception):
    """Something was timed, but not what was to be: the figure means nothing."""


class Gdb:
    """The gdb under test, without the user's own start-up files.

    ``SECONDS`` is when a measurement is given up: long beyond what any takes.
    """

    SECONDS = 600

    def __init__(self, bytecode: Path, program: Path) -> None:
        """`bytecode`: where Python keeps what it has compiled, so that only the first gdb does."""
        command = debugger.find()
        if command is None:
            raise say.Stop("gdb is not on PATH (KWATCH_GDB names another)", say.USER_MUST_ACT)
        self.command = command
        self.program = program
        # Empty is unset: else Python would compile kwatch anew at each start.
        self.environment = {
            **debugger.QUIET,
            "PYTHONPYCACHEPREFIX": str(bytecode),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self.version, self.python = "?", "?"

    @classmethod
    @contextlib.contextmanager
    def ready(cls) -> Iterator[Gdb]:
        """One for a whole bench, with the program it runs."""
        with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as folder:
            gdb = cls(Path(folder), fixtures.built("loop"))
            said = gdb.ask("about()")
            gdb.version, gdb.python = said["version"], said["python"]
            yield gdb

    def on(self, program: Path) -> Gdb:
        """The same, for another program."""
        other = copy.copy(self)
        other.program = program
        return other

    def ask(self, call: str, plugin: str | None = None) -> dict[str, Any]:
        """Run one function of inside_gdb.py, with `plugin` sourced if it is given."""
        load = ["-iex", f"source {plugin}"] if plugin else []
        lines = _lines("inside_gdb", call)
        script = [part for line in lines for part in ("-ex", f"python {line}")]
        argv = [*self.command, "-nx", "-q", "-batch", *load, *script, str(self.program)]
        ended = processes.run(argv, seconds=self.SECONDS, env=self.environment)
        answer = answers.found(ended.output)
        if answer is None:
            raise WrongCount(f"gdb gave no answer to {call}:\n{ended.last_lines(20)}")
        return answer

    def start_seconds(self, plugin: str | None = None) -> float:
        """How long it takes to start and to end, with nothing to do but to load `plugin`."""
        load = ["-x", plugin] if plugin else []
        return _seconds([*self.command, "-nx", "-batch", *load], {**os.environ, **self.environment})


class Lldb:
    """The LLDB that $KWATCH_LLDB names, else the one on PATH."""

    NAMES = ("lldb", *(f"lldb-{version}" for version in range(25, 10, -1)))

    def __init__(self, program: Path) -> None:
        names = [os.environ["KWATCH_LLDB"]] if "KWATCH_LLDB" in os.environ else self.NAMES
        self.command = next(filter(None, map(shutil.which, names)), None)
        self.program = program

    def version(self) -> str | None:
        """Its own words; None where there is none, or one whose Python does not work."""
        if not self.command:
            return None
        try:
            return str(self.ask("about()")["version"])
        except WrongCount:
            return None

    def ask(self, call: str) -> dict[str, Any]:
        """Run one function of inside_lldb.py."""
        lines = _lines("inside_lldb", call)
        script = [part for line in lines for part in ("-o", f"script {line}")]
        argv = [str(self.command), "--no-lldbinit", "--batch", *script, str(self.program)]
        ended = processes.run(argv, seconds=Gdb.SECONDS)
        answer = answers.found(ended.output)
        if answer is None:
            raise WrongCount(f"LLDB gave no answer to {call}:\n{ended.last_lines(20)}")
        return answer


class BareLoop:
    """The floor: a C program that traces another and does nothing but read and clear DR6."""

    def __init__(self) -> None:
        self.program = fixtures.built("bare_ptrace_loop")

    def ask(self, hits: int) -> dict[str, Any]:
        ended = processes.run([str(self.program), str(hits)], seconds=Gdb.SECONDS)
        try:
            counted, seconds, _ = ended.output.split()
            return {"seconds": float(seconds), "stops": int(counted), "written": hits}
        except ValueError:
            raise WrongCount(f"the bare loop said:\n{ended.last_lines()}") from None


class Strace:
    """strace, and no debugger at all: the program measures itself."""

    def __init__(self) -> None:
        self.program = fixtures.built("reading_loop")
        self.command = shutil.which("strace")

    def ask(self, times: int) -> dict[str, Any]:
        return self._run([str(self.command), "-f", "-e", "trace=pread64", "-o", "/dev/null"], times)

    def alone(self, times: int) -> dict[str, Any]:
        return self._run([], times)

    def _run(self, before: list[str], times: int) -> dict[str, Any]:
        argv = [*before, str(self.program), str(times), "say"]
        ended = processes.run(argv, seconds=Gdb.SECONDS)
        try:
            counted, seconds = ended.output.split()
            return {"seconds": float(seconds), "stops": 0, "written": int(counted)}
        except ValueError:
            raise WrongCount(f"{argv[0]} said:\n{ended.last_lines()}") from None


class BareKernelLoop:
    """The floors of what the kernel does at a hit: a BPF program alone."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.program = fixtures.built("bare_kernel_loop")

    def ask(self, hits: int) -> dict[str, Any]:
        ended = processes.run([str(self.program), self.what, str(hits)], seconds=Gdb.SECONDS)
        try:
            counted, seconds, _ = ended.output.split()
        except ValueError:
            raise WrongCount(f"the bare kernel loop said:\n{ended.last_lines()}") from None
        if int(counted) != hits:
            raise WrongCount(f"the bare kernel loop has {counted} of {hits} ({self.what})")
        return {"seconds": float(seconds), "stops": 0, "written": hits}


def _lines(module: str, call: str) -> list[str]:
    """Python that runs one function of a module of this folder, in a debugger."""
    return [f"import sys; sys.path.append({str(BENCH)!r})", f"import {module}; {module}.{call}"]


def _seconds(argv: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise WrongCount(f"gdb ended with {done.returncode}:\n{done.stdout.decode()}")
    return seconds
