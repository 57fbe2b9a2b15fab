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


class Prompts:
    """gdb.events.before_prompt, and more: under MI and DAP gdb never sends that event, and whoever
    serves a request there says when it is done (`now`), where anything may be asked of gdb."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[], None]] = []

    def connect(self, handler: Callable[[], None]) -> None:
        gdb.events.before_prompt.connect(handler)
        self._handlers.append(handler)

    def disconnect(self, handler: Callable[[], None]) -> None:
        gdb.events.before_prompt.disconnect(handler)
        self._handlers.remove(handler)

    def now(self) -> None:
        for handler in list(self._handlers):
            handler()


PROMPTS = Prompts()


def registry_of(name: str) -> Any:
    """Where handlers of an event are connected; None in a gdb that has no such event."""
    return PROMPTS if name == "before_prompt" else getattr(gdb.events, name, None)


class Handlers:
    """One handler for each of some events, by the names of their registries in gdb.events."""

    def __init__(self, **handlers: Callable[..., None]) -> None:
        # An older gdb lacks some (free_objfile is new in 13).
        there = [(registry_of(name), each) for name, each in handlers.items()]
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
