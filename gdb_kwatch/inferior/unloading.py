"""Libraries that leave: what gdb's own watchpoints still hold of them is let go in time.

A watchpoint keeps its parsed expression, which points into the symbols of a library.  After a
dlclose gdb frees these, and up to 16 it reads the expression once more at the next resume
(``insert_breakpoints``, ``update_watchpoint``): a use of freed memory, which ends with a
segmentation fault or an endless loop, sooner or later, as memory happens to be used again (seen on
10.1, 13.1 and 16.3, without kwatch; kwatch's own use of memory only changes when).  gdb 17 parses
all watchpoints again when a library is gone (``solib_add``); here that is done for older ones.
Where the place comes back, its old value is then ``<unreadable>``, as gdb 18.1 alone has it too.

There is no event at the right time: gdb.events.free_objfile (13) comes while a lookup may still
find the symbols, in the source file that was shown last.  But gdb drops its reference to the
gdb.Objfile when the library is gone from all its tables and its memory is still there: so a
`Farewell` is kept in that object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import gdb

from gdb_kwatch.linux import ptrace

from . import gdbfacts, programs
from .hooks import Hook

_PARSES_AGAIN = 17  # the first gdb that does it itself


class Farewell:
    """Calls ``action`` when the object that holds it ends."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.action()


def follow(objfile: gdb.Objfile, action: Callable[[], None]) -> None:
    """Have ``action`` called when the program unloads the library ``objfile``, where this gdb
    needs it."""
    if gdbfacts.VERSION[0] >= _PARSES_AGAIN:
        return
    library = objfile.owner or objfile  # a file of debug information goes with its library
    filename = library.filename

    def left() -> None:
        if _is_unloading(filename):
            action()

    objfile.kwatch_farewell = Farewell(left)


def unfollow(objfile: gdb.Objfile) -> None:
    """Forget what `follow` has kept there."""
    farewell = getattr(objfile, "kwatch_farewell", None)
    if farewell is not None:
        farewell.action = lambda: None  # it ends now
        del objfile.kwatch_farewell


def _is_unloading(filename: str | None) -> bool:
    """Whether the running program has unloaded that library: not a ``file`` command nor an exec,
    where the symbols of another file may be half read (a lookup ends 13.1 with a segmentation
    fault), and gdb parses all watchpoints itself once they are there."""
    thread = gdbfacts.selected_thread()
    main = programs.filename()
    if thread is None or not thread.is_running() or main in (None, filename):
        return False
    return not ptrace.stands_at_exec(thread.ptid[1])


_quietly: list[Hook] = []  # one, made when first needed


def parse_again(bp: gdb.Breakpoint) -> bool:
    """Make gdb parse a watchpoint's expression anew; False where it has no meaning any more.

    Enabling does it, also where it is enabled (`enable_breakpoint_disp`); where it fails the old
    expression is gone all the same.  A disabled one is evaluated at each resume as well.

    By a command of kwatch's own, for gdb's words to be caught.  Not by ``enable``: where that fails
    in gdb.execute, as there is no slot, gdb gives its prompt back while the program goes on
    (``execute_gdb_command``: async_enable_stdin; 10 to 17).
    """
    enabled = bp.enabled
    if not enabled and _comes_before_a_read(bp):
        return True

    def enable() -> None:
        with suppress(gdb.error):  # parsed, and then there was no slot for it
            bp.enabled = True

    if not _quietly:
        _quietly.append(Hook("parse-again", enable))
    _quietly[0].action = enable
    refused = gdbfacts.answer(_quietly[0].line)
    if not enabled:
        bp.enabled = False
    return not refused


def _comes_before_a_read(bp: gdb.Breakpoint) -> bool:
    """Where gdb enables a read watchpoint beside one that comes after it, it may take over the
    other's slot as one for reads alone, which the processor does not have, and ends itself when it
    gives that back (``swap_insertion``, x86_length_and_rw_bits: 10.1, 13.1 and 16.3)."""
    if bp.type != gdb.BP_READ_WATCHPOINT:
        return False
    reads = (other for other in gdb.breakpoints() or () if other.type == bp.type)
    return any(other.enabled and other.number > bp.number for other in reads)
