"""`gdb-kwatch who` and `trace`: the commands of that name on a process that runs already."""

from __future__ import annotations

import argparse
import os

from gdb_kwatch.outside import debugger, processes, refusals, say

FROM, TO = "---- kwatch from here ----", "---- kwatch to here ----"
MARGIN = 120  # seconds for gdb to read symbols


def run(options: argparse.Namespace) -> int:
    """Attach gdb, run the command, detach; prints what the command printed."""
    if not os.path.exists(f"/proc/{options.pid}"):
        raise say.Stop(f"there is no process {options.pid}")
    command = debugger.find()
    if command is None:
        raise say.Stop("there is no gdb here", say.USER_MUST_ACT)
    gdb = debugger.with_kwatch(debugger.ask(command))
    lines = _who(options) if options.verb == "who" else _trace(options)
    argv = [*gdb, "-ex", "set width 0", "-ex", "set pagination off", "-p", str(options.pid)]
    argv += ["-ex", f"echo {FROM}\\n"]
    for line in lines:
        argv += ["-ex", line]
    argv += ["-ex", f"echo {TO}\\n", "-ex", "detach"]
    ended = processes.run(argv, seconds=options.seconds + MARGIN, env=debugger.QUIET)
    if why := refusals.known(ended.output):
        raise say.Stop(f"{why}\ngdb said:\n{ended.last_lines()}", say.USER_MUST_ACT)
    shown = ended.output.partition(FROM)[2].partition(TO)[0].strip("\n")
    if TO not in ended.output or not _answered(options, shown):
        raise say.Stop(f"this did not work. gdb said:\n{shown or ended.last_lines()}")
    print(_cleaned(options, shown))
    return 0


def _options(options: argparse.Namespace) -> str:
    words = ["-a"] if options.reads else []
    words += ["-k"] if options.kernel else []
    for name in options.only:
        words += ["-from", name]
    for name in options.without:
        words += ["-not-from", name]
    return " ".join(words)


def _condition(options: argparse.Namespace) -> str:
    return f" if {options.condition}" if options.condition else ""


def _who(options: argparse.Namespace) -> list[str]:
    json = " -json" if options.json else ""
    words = f"{_options(options)} -for {options.seconds:g}{json}{_condition(options)}"
    return [f"kwatch who {options.expression} {words}"]


def _trace(options: argparse.Namespace) -> list[str]:
    stack = f" -stack {options.stack}" if options.stack else ""
    words = f"{_options(options)}{stack}{_condition(options)}"
    return [
        f"kwatch trace {options.expression} {words}",
        "python from gdb_kwatch.inferior.accesses import Run",
        f"python Run({options.seconds:g}).go()",
        "kwatch trace stop",
        f"kwatch trace export {os.path.abspath(options.file)}",
    ]


def _answered(options: argparse.Namespace, shown: str) -> bool:
    if options.verb == "trace":
        return "records written to" in shown
    if options.json:
        return shown.rstrip().endswith("]")
    return " hits in " in shown or " hit in " in shown or "Nothing touched" in shown


def _cleaned(options: argparse.Namespace, shown: str) -> str:
    """Without what gdb says of threads, and of the stop at the end."""
    lines = shown.split("\n")
    if options.verb == "who":
        start = "[" if options.json else "   Hits"
        first = next((n for n, line in enumerate(lines) if _begins(line, start)), 0)
        return "\n".join(lines[first:])
    return "\n".join(line for line in lines if line.startswith(("Trac", "(")) or "written" in line)


def _begins(line: str, start: str) -> bool:
    if start == "[":
        return line.startswith(("[{", "[]"))
    return line.lstrip().startswith("Hits") or line.startswith("Nothing touched")
