"""Runs inside LLDB: the workload and the condition of inside_gdb.trap_cost, timed as there."""

from __future__ import annotations

import time

import answers
import lldb


def trap_cost(hits: int) -> None:
    """`hits` writes to `a`, which is watched with a condition that is false."""
    debugger = lldb.debugger
    debugger.SetAsync(False)
    target = debugger.GetSelectedTarget()
    target.BreakpointCreateByName("main").SetOneShot(True)
    process = target.LaunchSimple([str(hits)], None, ".")
    a = target.FindFirstGlobalVariable("a")
    error = lldb.SBError()
    watch = target.WatchAddress(a.AddressOf().GetValueAsUnsigned(), 8, False, True, error)
    if error.Fail():
        raise RuntimeError(error.GetCString())
    watch.SetCondition("a < 0")
    target.BreakpointCreateByName("_exit")
    pid = process.GetProcessID()
    before = answers.stops(pid)
    start = time.perf_counter()
    process.Continue()
    seconds = time.perf_counter() - start
    facts = {
        "seconds": seconds,
        "stops": answers.stops(pid) - before,
        "written": target.FindFirstGlobalVariable("a").GetValueAsSigned(),
    }
    process.Kill()
    print(answers.line(**facts), flush=True)


def about() -> None:
    """Which LLDB this is."""
    version = lldb.debugger.GetVersionString().split("\n")[0]
    print(answers.line(version=version), flush=True)
