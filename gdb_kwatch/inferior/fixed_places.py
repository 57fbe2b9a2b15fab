"""Where gdb watches for a ``watch -location`` that was set while kwatch was not there, and this gdb
does not tell.

gdb fixes the address when the watchpoint is set; the expression may mean another one since: the
program was relocated, a pointer has moved on.  gdb 13 has ``Breakpoint.locations`` for it; before,
a debug register that is nobody else's shows it, once gdb has resumed the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gdb

from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .watch import Watch

if TYPE_CHECKING:
    from .watches import Registry

_PAGE = 4096


def find(registry: Registry, watch: Watch) -> int | None:
    """At a stop: the address at which gdb watches for it, if that is another than kwatch thinks."""
    if gdbfacts.VERSION >= (13, 0) or watch.found or watch.options is not None:
        return None
    thread = gdb.selected_thread()
    if not (watch.is_location and watch.on and len(watch.pieces) == 1) or thread is None:
        return None
    try:
        held = set(ptrace.debug_registers(thread.ptid[1]).pieces().values())
    except OSError:
        return None
    here = list(registry.here())
    known = set().union(*(other.pieces | other.needs for other in here))
    (own,) = watch.pieces
    others = [piece for piece in held - known if piece[1:] == own[1:]]
    found = [piece for piece in others if _is_relocated(piece, own)]
    if not found and not any(_is_anywhere(other) for other in here):
        found = others
    watch.found = bool(found) or own in held
    return found[0].address if len(found) == 1 else None


def _is_relocated(piece: Piece, own: Piece) -> bool:
    """A program is loaded at any page."""
    return (piece.address - own.address) % _PAGE == 0


def _is_anywhere(watch: Watch) -> bool:
    """Whether gdb may watch for it at places that kwatch does not know."""
    nowhere = watch.enabled and watch.in_registers and not watch.needs
    return bool(watch.moves or watch.wandering or watch.late or nowhere)
