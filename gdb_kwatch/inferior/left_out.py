"""Accesses that -from and -not-from leave out: no hits of that kwatch, only the value moves on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import gdb

if TYPE_CHECKING:
    from .watch import Watch

Ranges = tuple[tuple[int, int], ...]
_NONE = ((0, 0),)


class Code:
    """The code of -from and -not-from in one process, as far as it was there."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.known: dict[str, Ranges] = {}  # by name
        self.ranges: tuple[Ranges, Ranges] | None = None


def counts(pc: int, ranges: tuple[Ranges, Ranges]) -> bool:
    """Whether the code before ``pc`` is wanted (-from), and not left out (-not-from)."""
    only, without = ranges
    if only and not any(start < pc <= end for start, end in only):
        return False
    return not any(start < pc <= end for start, end in without)


def code_of(watch: Watch, known: dict[str, Ranges] | None = None) -> tuple[Ranges, Ranges]:
    """The code of -from and -not-from, as far as it is there now: a library may still come.
    ``watch.no_code`` has the names of what is not there.

    known: what was found before, by name; the rest comes to it
    """
    from .code_ranges import code_ranges  # on first use: it takes time to load

    known = {} if known is None else known
    missing = [name for name in (*watch.only, *watch.without) if name not in known]
    for name in missing:
        with suppress(gdb.GdbError, OSError):
            known[name] = code_ranges([name])
    watch.no_code = tuple(name for name in missing if name not in known)

    def all_of(names: Sequence[str]) -> Ranges:
        return tuple(found for name in names for found in known.get(name, ()))

    return (all_of(watch.only) or _NONE if watch.only else ()), all_of(watch.without)


def left_out(watch: Watch, pc: int) -> bool:
    """Whether an access by the instruction before ``pc`` is none of its hits."""
    if not (watch.only or watch.without):
        return False
    pid = gdb.selected_inferior().pid
    if watch.code is None or watch.code.pid != pid:
        watch.code = Code(pid)  # libraries may stand elsewhere in another process
    if watch.code.ranges is None or watch.no_code:
        watch.code.ranges = code_of(watch, watch.code.known)
    return not counts(pc, watch.code.ranges)
