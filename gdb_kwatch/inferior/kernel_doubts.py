"""What the kernel could not tell of a condition is told here, before anything stops for it.

BPF reads no page of memory that is not there yet: what the program has not touched so far, in .bss,
a table of constants or a fresh mapping.  gdb's read has the page be there, so that the kernel can
tell the next time.
"""

from __future__ import annotations

import gdb

from gdb_kwatch.core import filters
from gdb_kwatch.core.condition_values import Access, Failed, value_of
from gdb_kwatch.core.conditions import DIVISION, UNREADABLE
from gdb_kwatch.core.filters import Source
from gdb_kwatch.linux import registers

from . import gdbfacts
from .caller import user_frame
from .convenience import standing_in
from .kernel_conditions import Stopped
from .kernel_watch import KernelWatch
from .lvalues import in_frame
from .operands import numbers_of


class Unknown(Exception):
    """gdb cannot evaluate the condition either; the text says why, in gdb's words."""


def holds(watch: KernelWatch, stopped: Stopped, thread: gdb.InferiorThread) -> bool:
    """Whether a stop that the program asked for is one.  Raises Unknown."""
    if not stopped.reason:
        return True
    try:
        if stopped.reason != UNREADABLE:
            raise Failed(stopped.reason)
        return _holds(watch, stopped, thread)
    except Failed as failed:
        if failed.reason == DIVISION:
            raise Unknown("Division by zero") from None
        if failed.reason == UNREADABLE:
            raise Unknown(f"Cannot access memory at address {failed.fault:#x}") from None
    return _holds_for_gdb(watch, stopped)


def _holds(watch: KernelWatch, stopped: Stopped, thread: gdb.InferiorThread) -> bool:
    """As the kernel would have said.  Not by gdb's parser, for which a name may be another one
    where the thread stands than where the condition was set."""
    assert watch.program is not None and watch.lvalue is not None
    source, lwp = watch.program.source, thread.ptid[1]
    new = stopped.new
    if stopped.fault == source.address:
        new = _new_value(watch, source)
        if source.on_change and watch.lvalue.reading(stopped.old) == watch.lvalue.reading(new):
            return False
    if source.condition is None:
        return True
    values = registers.read(lwp).values
    access = Access(stopped.old, new, _read, values, lwp, numbers_of(thread))
    return value_of(source.condition, access) != 0


def _new_value(watch: KernelWatch, source: Source) -> bytes:
    """The watched value itself could not be read: its page has gone meanwhile."""
    assert watch.program is not None
    now = _read(source.address, source.size)
    if now is None:
        raise Failed(UNREADABLE, source.address)
    watch.program.memory.data[filters.OLD : filters.OLD + len(now)] = now
    return now


def _read(address: int, length: int) -> bytes | None:
    try:
        return bytes(gdb.selected_inferior().read_memory(address, length))
    except (gdb.error, OverflowError):
        return None


def _holds_for_gdb(watch: KernelWatch, stopped: Stopped) -> bool:
    """What the kernel leaves to gdb: as gdb evaluates it, in the frame of the access."""
    assert watch.lvalue is not None and watch.asked
    lvalue = watch.lvalue
    old, new = (lvalue.value_of(lvalue.reading(data)) for data in (stopped.old, stopped.new))
    try:
        speaking, names = gdbfacts.speaking(watch.language), standing_in(old=old, new=new)
        with speaking, in_frame(user_frame()), names:
            return bool(gdb.parse_and_eval(watch.asked))
    except gdb.error as error:
        raise Unknown(str(error)) from None
