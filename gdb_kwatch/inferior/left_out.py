"""Accesses that -from and -not-from leave out: no hits of that kwatch, only the value moves on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gdb

if TYPE_CHECKING:
    from .watch import Watch

Ranges = tuple[tuple[int, int], ...]
_NONE = ((0, 0),)


def counts(pc: int, ranges: tuple[Ranges, Ranges]) -> bool:
    """Whether the code before ``pc`` is wanted (-from), and not left out (-not-from)."""
    only, without = ranges
    if only and not any(start < pc <= end for start, end in only):
        return False
    return not any(start < pc <= end for start, end in without)


def code_of(watch: Watch) -> tuple[Ranges, Ranges]:
    """The code of -from and -not-from, as far as it is there now: a library may still come.
    ``watch.no_code`` has the names of what is not there."""
    from .code_ranges import code_ranges  # on first use: it takes time to load

    missing = []

    def known(names: Sequence[str]) -> Ranges:
        found: Ranges = ()
        for name in names:
            try:
                found += code_ranges([name])
            except (gdb.GdbError, OSError):
                missing.append(name)
        return found

    only, without = known(watch.only), known(watch.without)
    watch.no_code = tuple(missing)
    return (only or _NONE if watch.only else ()), without


def left_out(watch: Watch, pc: int) -> bool:
    """Whether an access by the instruction before ``pc`` is none of its hits."""
    if not (watch.only or watch.without):
        return False
    pid = gdb.selected_inferior().pid
    if watch.code is None or watch.code[0] != pid or watch.no_code:
        watch.code = pid, code_of(watch)  # libraries may stand elsewhere in another process
    return not counts(pc, watch.code[1])
