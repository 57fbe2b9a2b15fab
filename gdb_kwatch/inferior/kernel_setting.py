"""Setting a kwatch that sees the kernel: what is in the way is said before anything is made."""

from __future__ import annotations

import gdb

from gdb_kwatch.core.grammar import Request
from gdb_kwatch.linux.perf_event import PerfError

from .kernel_conditions import Judged, judge, uses_kernel_names
from .kernel_hits import AUTO, OFF, KernelHits
from .kernel_sight import marked_for_perf
from .kernel_watch import KernelWatch
from .lvalues import Lvalue
from .session import Session
from .watch import Options, Watch


def sees_kernel(session: Session, request: Request) -> bool:
    """Whether a kwatch is to see the kernel's accesses: -k, or ``set kwatch kernel``."""
    return request.kernel or (session.kernel.mode != OFF and not request.everywhere)


def judged(
    session: Session, request: Request, text: str, location: bool, lvalue: Lvalue, heard: bool
) -> Judged | None:
    """Who is to test the condition; None where there is none.  ``heard``: a script is told of each
    hit.  Raises gdb.GdbError."""
    if request.condition is None and not request.only and not request.without:
        return None
    if heard:
        return Judged("a script hears of each hit")
    if request.log is not None:
        return Judged("-log: gdb writes a message at each hit")
    found = judge(session.kernel.programs.mode, request, text, location, lvalue)
    if found.reason and uses_kernel_names(request.condition):
        raise gdb.GdbError(
            f"$old and $new are for conditions that the kernel tests, and this one it cannot: "
            f"{found.reason}."
        )
    return found


def set_judged_watch(
    session: Session,
    request: Request,
    text: str,
    location: bool,
    options: Options,
    lvalue: Lvalue,
) -> tuple[Watch | None, Judged]:
    """One that sees the program only, and has its condition tested in the kernel; or why not."""
    session.look()
    if session.registry.slots.no_room(marked_for_perf(lvalue.regions), options.priority):
        # It may have one later; gdb's own watchpoint waits for it.
        return None, Judged("no slot was free when it was set")
    try:
        watch, reason, _ = _tried(session, request, text, location, options, lvalue, kernel=False)
    except gdb.GdbError as failed:  # no signal is left by the program
        return None, Judged(str(failed).rstrip("."))
    return watch, Judged(reason)


def set_kernel_watch(
    session: Session,
    request: Request,
    text: str,
    location: bool,
    options: Options,
    lvalue: Lvalue,
) -> Watch | None:
    """Set it.  None where that cannot be, and ``set kwatch kernel auto`` lets the debug registers
    do alone.  Raises gdb.GdbError."""
    hits: KernelHits = session.kernel
    if request.kernel and request.everywhere:
        raise gdb.GdbError("-k and -g cannot be had together: perf watches threads, one by one.")
    watch, reason, remedy = _tried(session, request, text, location, options, lvalue, kernel=True)
    if watch is not None:
        return watch
    if not request.kernel and hits.mode == AUTO:
        hits.fall_back(reason, remedy)
        return None
    option = "-k " if request.kernel else ""
    raise gdb.GdbError(
        f"kwatch {option}{request.expression} was not set: {reason}."
        + (f"\nTo have it: {remedy}." if remedy else "")
        + "\nWithout -k, and with 'set kwatch kernel off', kwatch uses the debug registers alone."
    )


def _tried(
    session: Session,
    request: Request,
    text: str,
    location: bool,
    options: Options,
    lvalue: Lvalue,
    kernel: bool,
) -> tuple[KernelWatch | None, str, str]:
    """Set it; or None, what is in the way, and the remedy.  Raises gdb.GdbError."""
    pieces = marked_for_perf(lvalue.regions)
    session.look()
    reason = session.registry.slots.no_room(pieces, options.priority)
    if reason:
        return None, reason, ""
    error = session.kernel.arming.refusal(pieces, kernel)
    if error is None:
        try:
            return _made(session, request, text, location, options, kernel), "", ""
        except PerfError as failed:
            error = failed
    return None, str(error.strerror), error.remedy


def _made(
    session: Session,
    request: Request,
    text: str,
    location: bool,
    options: Options,
    kernel: bool,
) -> KernelWatch:
    def make(bp: gdb.Breakpoint) -> KernelWatch:
        made = KernelWatch(bp, options, request.access, text, location, request.condition)
        made.sees_kernel = kernel
        made.only, made.without = request.only, request.without
        return made

    return session.kernel.add(make, request.temporary, request.condition, request.thread)
