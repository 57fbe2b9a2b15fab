"""kwatch: hardware watchpoints in gdb that miss no hit.

gdb sources ``gdbinit.py``; ``python3 -m gdb_kwatch`` sets it up.  Another script inside gdb may
``import gdb_kwatch`` and set watchpoints through the same arbiter as the user: `watch`, `slots`,
`hits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdb_kwatch.ui.scripting import Handle, Heard, HitHeard, Scripting

__all__ = ["hits", "slots", "watch"]


def watch(
    expression_or_address: str | int,
    *,
    length: int | None = None,
    access: str = "write",
    priority: int | str = "normal",
    scope: str = "inferior",
    name: str | None = None,
    condition: str | None = None,
    every: bool = False,
    on_hit: HitHeard | None = None,
    on_installed: Heard | None = None,
    on_uninstalled: Heard | None = None,
) -> Handle:
    """Set a kwatch, as the ``kwatch`` command does; it is a gdb breakpoint with a number.

    expression_or_address: what to watch, in the program's language, or an address
    length:     bytes from that address, 1 to 32; needed with an address
    access:     "write" (its value changes), "read" or "access"
    priority:   "background", "normal", "native", "break-native", or 0 to 255
    scope:      "inferior" (the selected one) or "all", those to come included
    name:       for people, in ``kwatch list``
    condition:  as after ``if``
    every:      stop at writes of the same value too
    on_hit:     called as on_hit(handle, hit) for each hit, whether it stops or not; hit is one
                hit of ``kwatch hits -json`` together with its trap's fields
    on_installed, on_uninstalled: called with the handle when it gets its slots, and when it gives
                them up to a higher priority

    Callbacks are called where gdb can be asked for anything: at the end of this call, of a stop, or
    before a prompt.  Raises gdb.GdbError where it cannot be watched, ValueError for arguments that
    mean nothing.  Where no slot is free it waits: see the handle's ``state``.
    """
    return _scripting().watch(
        expression_or_address,
        length,
        access,
        priority,
        scope,
        name,
        condition,
        every,
        on_hit,
        on_installed,
        on_uninstalled,
    )


def slots() -> list[dict[str, Any]]:
    """Each thread's debug registers and their owners, as ``kwatch slots -json``."""
    return _scripting().slots()


def hits() -> list[dict[str, Any]]:
    """The traps of this session, oldest first, as ``kwatch hits -json``."""
    return _scripting().hits()


def _scripting() -> Scripting:
    from gdb_kwatch.ui import plugin  # inside gdb only

    return plugin.scripting()
