"""Targets whose debug registers tell nothing: a program behind a remote target, and a recording.

A remote target tells gdb one address a trap and has no DR6: there the values of all watchpoints are
compared.  While ``record`` is in use gdb finds changes of value by itself, and in a replay the
registers are those of a process that does not run: gdb's own answer stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import gdb

from gdb_kwatch.core.records import Touch
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .lvalues import Reading
from .plans import gdb_looks_at
from .watch import Watch

BY_VALUE = (
    "kwatch: the debug registers of this target cannot be read, so at each trap the values of all "
    "watchpoints are compared: a store of the same value, or a read, is seen only where gdb "
    "reports it"
)
RECORDING = (
    "kwatch: while a recording is in use the debug registers tell nothing, so gdb's own reports "
    "stand"
)


def recording() -> bool:
    """Whether the program is recorded or replayed, so that its registers tell nothing.

    ``record btrace`` only follows a program that runs, until one goes back in it.
    """
    record = gdb.current_recording()
    return record is not None and (record.method == "full" or record.replay_position is not None)


def is_native(lwp: int) -> bool:
    """Whether the thread is this gdb's own to trace, even if it is gone.  Safe in `stop`."""
    return is_traced(gdb.selected_inferior(), lwp)


def is_traced(inferior: gdb.Inferior, lwp: int) -> bool:
    """The same, of a thread of any inferior."""
    if hasattr(inferior, "connection"):  # gdb 12
        connection = inferior.connection
        return connection is None or connection.type == "native"
    return ptrace.tracer_of(lwp) == os.getpid()


def is_remote() -> bool:
    """Whether the program is behind a remote target, a simulator of one included (valgrind, rr).
    Not to be asked while gdb is about to stop (`gdbfacts.target_name`)."""
    return "remote" in gdbfacts.target_name()


def goes_back() -> bool:
    """Whether gdb lets the program run backwards: a replay behind a remote target (rr).  For the
    moment at which it is resumed."""
    return "Reverse" in gdbfacts.answer("show exec-direction")


def touched(
    watches: Iterable[Watch], address: int
) -> tuple[list[Touch], list[Reading], list[Reading]]:
    """What a trap at which gdb blames ``address`` has touched, as far as values tell: the touches,
    and each one's value before and now."""
    touches, olds, news = [], [], []
    inferior = gdb.selected_inferior()
    for watch in sorted(watches, key=lambda w: w.number):
        if not watch.armed or watch.lvalue is None or not watch.regions:
            continue
        old, new = watch.last, watch.lvalue.read(inferior)
        if new is None:
            continue
        blamed = not watch.carried and gdb_looks_at(watch, address)
        if not blamed and (old is None or old == new):
            continue
        watch.hits += 1
        watch.before, watch.last = old, new
        where = watch.regions[-1][:2]
        touches.append(
            Touch(
                watch,
                watch.number,
                watch.expression,
                (),
                *where,
                watch.access,
                blamed,
                watch.lvalue,
            )
        )
        olds.append(old)
        news.append(new)
    return touches, olds, news
