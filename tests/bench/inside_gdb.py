"""Runs inside gdb: measures around `continue` only, so that nobody's start-up counts.

Imported there by debuggers.py, which calls one of the functions and reads its answer. Knows next to
nothing of the house, and runs on the Python of every gdb that kwatch supports.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import answers
import gdb

SETTINGS = ("set width 0", "set height 0", "set confirm off", "set style enabled off")


def trap_cost(hits: int, lines: Sequence[str]) -> None:
    """`hits` writes to `a` under what `lines` set."""
    _start(hits)
    _set(lines)
    _answer(_timed(_continue))


def breakpoint_cost(hits: int) -> None:
    """`hits` calls of a function with a breakpoint whose condition is false."""
    _start(hits)
    _set(["break hit if n < 0"])
    _answer(_timed(_continue))


def stop_cost(hits: int) -> None:
    """`hits` stops at a breakpoint, each with a command that goes on."""
    _start(hits)
    _set(["break hit"])
    _answer(_timed(lambda: _repeat("continue", hits)))


def step_cost(steps: int) -> None:
    """`steps` single-steps, a command each."""
    _start(steps)  # a step is an instruction: there are more than enough
    _set(["tbreak hit"])
    _continue()
    _answer(_timed(lambda: _repeat("stepi", steps)))


def memory(hits: int, lines: Sequence[str], marks: Sequence[int]) -> None:
    """gdb's resident kilobytes when `a` reaches each of `marks`; `lines` stop there."""
    _start(hits)
    _set(lines)
    kilobytes = []
    for mark in marks:
        _continue()
        if _value("a") != mark:
            raise gdb.GdbError(f"stopped where a is {_value('a')}, not {mark}")
        kilobytes.append(answers.resident())
    _answer({"resident": kilobytes})


def million(rounds: int) -> None:
    """A trace of all that four threads of fixtures/trace.c write, and gdb's peak kilobytes: before
    it, with all the records, after their summary."""
    for setting in SETTINGS:
        gdb.execute(setting)
    _set(["tbreak main", f"run {rounds}"])
    peaks = [answers.peak()]
    _set(["tbreak done", "kwatch trace place"])
    start = time.perf_counter()
    said = _continue()
    seconds = time.perf_counter() - start
    peaks.append(answers.peak())
    written = sum(_value(f"count_{name}") for name in "abc")
    state = gdb.execute("kwatch trace summary", to_string=True).split("\n")[0]
    peaks.append(answers.peak())
    found = re.search(r": ([\d,]+) hits, ([\d,]+) recorded, lost ([\d,]+)", state)
    hits, recorded, lost = (int(text.replace(",", "")) for text in found.groups())
    counts = {"written": written, "hits": hits, "recorded": recorded, "lost": lost}
    gdb.write(answers.line(**counts, peaks=peaks, seconds=seconds, said=said[-1000:]))


def about() -> None:
    """Which gdb this is, what memory it holds after its start, and whether kwatch is in it."""
    python = platform.python_version()
    resident = answers.resident()
    facts = {"version": gdb.VERSION, "python": python, "resident": resident}
    gdb.write(answers.line(**facts, kwatch=_kwatch()))


def kernel_refused() -> None:
    """Why conditions and traces cannot run in the kernel here."""
    from gdb_kwatch.linux import filters

    gdb.write(answers.line(refused=filters.why_not()))


def _start(writes: int) -> None:
    for setting in SETTINGS:
        gdb.execute(setting)
    _set(["tbreak main", f"run {writes}"])


def _set(lines: Sequence[str]) -> None:
    for line in lines:
        gdb.execute(line, to_string=True)


def _continue() -> str:
    return gdb.execute("continue", to_string=True)


def _repeat(command: str, times: int) -> str:
    execute = gdb.execute
    for _ in range(times):
        said = execute(command, to_string=True)
    return said


def _timed(action: Callable[[], str]) -> dict[str, Any]:
    """How long `action` takes, and how much CPU time gdb; how often the program stopped meanwhile;
    and what gdb said at the end."""
    # The program must still be there afterwards: its counters go with it.
    _set(["tbreak _exit"])
    pid = gdb.selected_inferior().pid
    before = answers.stops(pid)
    start, busy = time.perf_counter(), time.process_time()
    said = action()
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    stops = answers.stops(pid) - before
    return {"seconds": seconds, "cpu": cpu, "stops": stops, "said": said[-1000:]}


def _answer(facts: dict[str, Any]) -> None:
    """`facts`, and what tells whether that was measured which should have been."""
    own = [bp for bp in gdb.breakpoints() or () if bp.number > 0]
    evidence = {
        "written": _value("a"),
        "counts": {str(bp.number): bp.hit_count for bp in own},
        "software": [bp.number for bp in own if bp.type == gdb.BP_WATCHPOINT],
        "kwatch": _kwatch(),
        "traced": _traced(),
    }
    gdb.write(answers.line(**facts, **evidence))


def _kwatch() -> dict[str, int] | None:
    """kwatch's own counts by expression; None where it is not loaded."""
    try:
        text = gdb.execute("kwatch list -json", to_string=True)
    except gdb.error:
        return None
    return {row["expression"]: row["hits"] for row in json.loads(text)}


def _traced() -> dict[str, int] | None:
    """How many records the trace has; None where there is none, or some were lost."""
    try:
        text = gdb.execute("kwatch trace", to_string=True)
    except gdb.error:
        return None
    found = re.search(r"Trace of (\w+): .* ([\d,]+) recorded, lost 0;", text)
    return {found.group(1): int(found.group(2).replace(",", ""))} if found else None


def _value(expression: str) -> int:
    return int(gdb.parse_and_eval(expression))
