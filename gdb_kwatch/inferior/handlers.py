"""Handlers of gdb's events that come and go together: `kwatch off` takes all of them out, and while
no watchpoint is set only those that are then needed are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gdb


class Part(Protocol):
    """A part of kwatch that is connected to gdb, and leaves it again with `kwatch off`.

    Both are called from a command, at a prompt or in a script: never inside a gdb event, nor in
    a breakpoint's `stop`.
    """

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...


class Handlers:
    """One handler for each of some events, by the names of their registries in gdb.events."""

    def __init__(self, **handlers: Callable[[Any], None]) -> None:
        # An older gdb lacks some (free_objfile is new in 13).
        there = [(getattr(gdb.events, name, None), each) for name, each in handlers.items()]
        self._pairs = [(registry, each) for registry, each in there if registry is not None]
        self.connected = False

    def connect(self) -> None:
        """Nothing where they are connected."""
        if not self.connected:
            self.connected = True
            for registry, handler in self._pairs:
                registry.connect(handler)

    def disconnect(self) -> None:
        """Nothing where they are not connected.  Safe inside an event: gdb walks a copy of its
        list (``evpy_emit_event``)."""
        if self.connected:
            self.connected = False
            for registry, handler in self._pairs:
                registry.disconnect(handler)
