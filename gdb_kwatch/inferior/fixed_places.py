"""Where gdb watches for a ``watch -location`` that was set while kwatch was not there, and this gdb
does not tell.

gdb fixes the address when the watchpoint is set; the expression may mean another one since: the
program was relocated, a pointer has moved on.  gdb 13 has ``Breakpoint.locations`` for it; before,
a debug register that is nobody else's shows it, once gdb has resumed the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .watch import Watch

if TYPE_CHECKING:
    from .watches import Registry

_PAGE = 4096


def find(registry: Registry, watch: Watch, lwp: int) -> int | None:
    """At a stop: the address at which gdb watches for it, if that is another than kwatch thinks."""
    if not _is_open(watch):
        return None
    held = _held(lwp)
    address = _elsewhere(registry, watch, held)
    watch.found = address is not None or bool(held & watch.pieces)
    return address


def is_elsewhere(registry: Registry, watch: Watch, lwp: int) -> bool:
    """At a trap that comes before that stop: it is no hit of this one."""
    return _is_open(watch) and _elsewhere(registry, watch, _held(lwp)) is not None


def _is_open(watch: Watch) -> bool:
    if gdbfacts.VERSION >= (13, 0) or watch.found or watch.options is not None:
        return False
    return watch.is_location and watch.on and len(watch.pieces) == 1


def _held(lwp: int) -> set[Piece]:
    try:
        return set(ptrace.debug_registers(lwp).pieces().values())
    except OSError:
        return set()


def _elsewhere(registry: Registry, watch: Watch, held: set[Piece]) -> int | None:
    here = list(registry.here())
    (own,) = watch.pieces
    others = held.difference(*(other.pieces | other.needs for other in here))
    like_it = [piece for piece in others if piece[1:] == own[1:]]
    found = [piece for piece in like_it if _is_relocated(piece, own)]
    if not found and not any(map(is_anywhere, here)):
        found = like_it
    return found[0].address if len(found) == 1 else None


def _is_relocated(piece: Piece, own: Piece) -> bool:
    """A program is loaded at any page."""
    return (piece.address - own.address) % _PAGE == 0


def is_anywhere(watch: Watch) -> bool:
    """Whether gdb may watch for it, or have watched, at places that kwatch does not know."""
    nowhere = watch.enabled and watch.in_registers and not watch.needs
    return bool(watch.moves or watch.wandering or watch.late or nowhere)
