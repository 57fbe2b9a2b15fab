"""The main job, shown: one store that hits three watchpoints, by gdb alone and with kwatch."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from gdb_kwatch import places
from gdb_kwatch.outside import debugger, fixtures, packages, processes, refusals, say, setup

FIXTURE = "simultaneous"
WATCHED = ("s.a", "s.b", "s.c")
START = ["set width 0", "set filename-display basename", "break main", "run"]
FROM, TO = "---- kwatch demo from here ----", "---- kwatch demo to here ----"
SECONDS = 60
PROOF = "3 watchpoints hit by one instruction"


def run() -> int:
    """Set up, run gdb twice, print both answers; 0 where kwatch reported all three hits."""
    with setup.alone():
        packages.provide(packages.missing(compiler=True))
        gdb = setup.debugger_ready()
        program = fixtures.built(FIXTURE)
    alone = _session([*gdb.command, "-nx", "-batch"], "watch", program)
    with_kwatch = _session(debugger.with_kwatch(gdb), "kwatch", program)
    if PROOF not in with_kwatch:
        raise say.Stop(f"kwatch did not report the three hits. This was said:\n{with_kwatch}")
    print(report(gdb, program, between(alone), between(with_kwatch)))
    return 0


def _session(gdb: list[str], command: str, program: Path) -> str:
    """All that gdb prints when `command` sets the three watchpoints and the program goes on."""
    say.step(f"running gdb on {program.name} with {command} {', '.join(WATCHED)}")
    start = [part for line in [*START, f"echo {FROM}\\n"] for part in ("-ex", line)]
    shown = debugger.commands([*(f"{command} {name}" for name in WATCHED), "continue"])
    argv = [*gdb, *start, *shown, "-ex", f"echo {TO}\\n", str(program)]
    ended = processes.run(argv, seconds=SECONDS, env={**debugger.QUIET, "SHELL": "/bin/sh"})
    if why := refusals.known(ended.output):
        raise say.Stop(f"{why}\ngdb said:\n{ended.last_lines()}")
    if ended.code is None:
        raise say.Stop(f"gdb did not come to an end in {SECONDS} seconds:\n{ended.last_lines()}")
    if FROM not in ended.output or TO not in ended.output:
        raise say.Stop(f"gdb could not run the demo:\n{ended.last_lines()}")
    return ended.output


def between(output: str) -> str:
    """The part of a session that is worth showing."""
    return output.partition(FROM)[2].partition(TO)[0].strip("\n")


def report(gdb: debugger.Debugger, program: Path, alone: str, with_kwatch: str) -> str:
    """What the user reads: both sessions, and how to go on."""
    python = ".".join(map(str, gdb.python or ()))
    return f"""\
kwatch demo, on gdb {gdb.version} with Python {python}

One 32-byte store writes s.a (0 to 1), s.b (0, rewritten as 0) and s.c (0 to 1).

1. gdb alone: it names one of the three watchpoints that the store hit.

{_quoted(alone)}

2. gdb with kwatch: all that the store hit, and the store itself.

{_quoted(with_kwatch)}

To go on:
  {say.verb("install")}
      loads kwatch in every gdb from now on; {say.verb("uninstall")} takes it out again
  {shlex.join([*gdb.command, "-x", places.GDBINIT, str(program)])}
      this program by hand: break main, run, kwatch s.a, continue, kwatch list, help kwatch
  {say.verb("doctor")}
      shows what works on this machine"""


def _quoted(text: str) -> str:
    return textwrap.indent(text, "  | ", lambda line: True)
