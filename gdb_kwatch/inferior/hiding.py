"""``gdb.breakpoints()`` is for the user's breakpoints, and other scripts have none of kwatch's own.

gdb lists the internal ones of Python as well: a script that takes the last of them, counts them or
deletes all would find a hidden watchpoint.  The events of breakpoints still tell of them, as gdb
has no filter there.  The function of before is ``gdb.breakpoints.__wrapped__``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gdb

from .leaving import Leaving
from .sentinels import Sentinel


class Hiding:
    """One for a session."""

    def __init__(self) -> None:
        self._before: Callable[[], Sequence[gdb.Breakpoint]] | None = None
        self._ours: Any = None

    def connect(self) -> None:
        before = self._before = gdb.breakpoints

        @functools.wraps(before)
        def breakpoints() -> tuple[gdb.Breakpoint, ...]:
            return tuple(bp for bp in before() or () if not isinstance(bp, (Sentinel, Leaving)))

        gdb.breakpoints = self._ours = breakpoints

    def disconnect(self) -> None:
        # A script that has put its own there goes on calling ours, where nothing is left to hide.
        if gdb.breakpoints is self._ours and self._before is not None:
            gdb.breakpoints = self._before
