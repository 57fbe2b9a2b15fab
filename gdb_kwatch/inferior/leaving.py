"""A moment at which a library that the program unloads is still there, with its names.

gdb.events.free_objfile comes when its symbols cannot be found any more, and its code is gone by
then.  But the dynamic loader calls a function for debuggers before it unmaps, too (``_dl_close``,
RT_DELETE); where it has probes (glibc 2.17, not Debian's), one is there.
"""

from __future__ import annotations

from collections.abc import Callable

import gdb

from . import faults, gdbfacts


class Leaving(gdb.Breakpoint):
    """Calls ``action`` then, and the program goes on; until `delete`."""

    def __init__(self, place: str, action: Callable[[], None]) -> None:
        """Raises gdb.error where there is no such place."""
        super().__init__(place, internal=True)
        self.silent = True
        self.action = action

    def stop(self) -> bool:
        try:
            self.action()
        except Exception as error:
            faults.report("what is looked up before a library leaves", error)
        return False


def before_unloading(action: Callable[[], None]) -> Callable[[], None]:
    """Have ``action`` called whenever a library may be about to leave; what ends that."""
    made = _made(action)

    def end() -> None:
        if made is not None and made.is_valid():
            made.delete()

    return end


def _made(action: Callable[[], None]) -> Leaving | None:
    for place, there in _PLACES.items():
        if there():
            try:
                return Leaving(place, action)
            except (gdb.error, RuntimeError):
                continue
    return None  # a static program, musl


def _has_probe() -> bool:
    # Asked first: a breakpoint at none is an error that gdb prints.
    return "unmap_start" in gdbfacts.answer("info probes stap rtld unmap_start")


def _has_function() -> bool:
    try:
        return bool(int(gdb.parse_and_eval("(long)&_dl_debug_state")))
    except gdb.error:
        return False


_PLACES = {"-probe-stap rtld:unmap_start": _has_probe, "_dl_debug_state": _has_function}
