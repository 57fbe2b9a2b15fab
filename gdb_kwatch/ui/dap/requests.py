"""Requests: the end of each one stands for the prompt, which gdb does not show here.

What kwatch puts off to the next prompt (hidden watchpoints that a script has deleted, slots that
other inferiors gave back, scripts' callbacks) is done then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.handlers import PROMPTS

from .sending import server

# Both bring a request from the server's thread to gdb's own.
_SENDERS = ("send_gdb", "send_gdb_with_response")


class Requests:
    def __init__(self) -> None:
        self._theirs: dict[str, Callable[..., Any]] = {}

    def connect(self) -> None:
        for name in _SENDERS:
            self._theirs[name] = getattr(server, name)
            setattr(server, name, _with_prompt(self._theirs[name]))

    def disconnect(self) -> None:
        for name, theirs in self._theirs.items():
            setattr(server, name, theirs)
        self._theirs.clear()


def _with_prompt(sender: Callable[..., Any]) -> Callable[..., Any]:
    def send(what: Any) -> Any:
        return sender(_followed(what) if callable(what) else what)  # "quit", "kill" are text

    return send


def _followed(request: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        try:
            return request()
        finally:
            _prompt()

    return run


@guarded()
def _prompt() -> None:
    PROMPTS.now()
