"""What kwatch costs beside gdb's own watch.

    python3 tests/bench/run.py [-n HITS] [-rounds R] [-json FILE] [-pin CPU] [-quick] [PART ...]

Parts: traps (a trap with a false condition), kernel (conditions and traces there), idle (no
watchpoint set), load, memory, calls (system calls), million (records of a trace); default: all.
Ends with exit code 1 where something was counted wrong; never because of a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contestants  # noqa: E402
import races  # noqa: E402
import report  # noqa: E402
from debuggers import PLUGIN, Gdb, Lldb, Strace, WrongCount, fixtures, say  # noqa: E402
from machine import machine  # noqa: E402

PARTS = ("traps", "kernel", "idle", "load", "memory", "calls", "million")
NO_LLDB = "No LLDB with Python on PATH (KWATCH_LLDB names one): left out"
QUICK = "The short form: that it works is shown, the figures mean little"
MARKS = (10_000, 100_000)
QUICK_MARKS = (200, 600)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if options.pin is not None:
        os.sched_setaffinity(0, {options.pin})  # gdb and the program inherit it
    try:
        results = bench(options)
    except WrongCount as error:
        print(f"kwatch: the bench is void: {error}", file=sys.stderr)
        return 1
    except say.Stop as stop:
        print(f"kwatch: {stop}", file=sys.stderr)
        return stop.code
    print(report.text(results), end="")
    if options.json is not None:
        text = json.dumps(report.as_json(results), indent=1) + "\n"
        if options.json == "-":
            print(text, end="")
        else:
            Path(options.json).write_text(text)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=_positive, metavar="HITS", help="hits a run (20000)")
    parser.add_argument("-rounds", type=_positive, metavar="R", help="rounds (5)")
    parser.add_argument("-json", metavar="FILE", help="the figures as JSON too; - for the terminal")
    parser.add_argument("-pin", type=int, metavar="CPU", help="keep gdb and the program on one CPU")
    parser.add_argument("-quick", action="store_true", help="only show that it works: few hits")
    parser.add_argument("-beside", metavar="FILE", help="another kwatch's gdbinit.py, for traps")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"no part {unknown[0]}: there are {', '.join(PARTS)}")
    if options.pin is not None and options.pin not in os.sched_getaffinity(0):
        parser.error(f"no CPU {options.pin} for us: {sorted(os.sched_getaffinity(0))}")
    options.n = options.n or (200 if options.quick else 20_000)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.records = 2_000 if options.quick else 1_000_000
    options.marks = QUICK_MARKS if options.quick else MARKS
    return options


def bench(options: argparse.Namespace) -> report.Results:
    """Measure the parts that were asked for."""
    parts = options.parts or PARTS
    with Gdb.ready() as gdb:
        lldb = Lldb(gdb.program)
        version = lldb.version() if {"traps", "kernel"} & set(parts) else None
        results = report.Results(
            machine(gdb.version, gdb.python, version, options.pin), options.n, options.rounds
        )
        if options.quick:
            results.notes.append(QUICK)
        if "traps" in parts:
            if not version:
                results.notes.append(NO_LLDB)
            entries = list(
                contestants.traps(gdb, PLUGIN, options.beside, lldb if version else None)
            )
            results.traps = races.race(entries, options.n, options.rounds, progress)
        if "kernel" in parts:
            refused = gdb.ask("kernel_refused()", PLUGIN)["refused"]
            if refused:
                results.notes.append(f"The kernel's part is left out: {refused}")
            else:
                entries = list(contestants.kernel(gdb, PLUGIN, lldb if version else None))
                results.kernel = races.race(entries, options.n, options.rounds, progress)
        if "idle" in parts:
            entries = list(contestants.idle(gdb, PLUGIN))
            results.idle = races.race(entries, options.n, options.rounds, progress)
        if "load" in parts:
            results.load = races.load(gdb, PLUGIN, 4 * options.rounds, progress)
        if "memory" in parts:
            results.memory = races.memory(gdb, PLUGIN, options.marks, progress)
        if "calls" in parts:
            strace = Strace()
            entries = list(contestants.calls(gdb.on(strace.program), PLUGIN, strace))
            results.calls = races.race(entries, options.n, options.rounds, progress)
        if "million" in parts:
            refused = gdb.ask("kernel_refused()", PLUGIN)["refused"]
            if refused:
                results.notes.append(f"No trace with values: {refused}")
            else:
                traced = gdb.on(fixtures.built("trace"))
                results.million = races.million(traced, PLUGIN, options.records, progress)
    return results


def progress(text: str) -> None:
    """What is being measured, for those who wait; not in what is kept."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
