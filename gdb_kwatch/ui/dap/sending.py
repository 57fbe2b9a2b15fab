"""Sending events to the editor, by whichever function this gdb's server has for it."""

from __future__ import annotations

import importlib
from typing import Any

# `from gdb.dap import server` gives an object that the package has put over the module's name.
server: Any = importlib.import_module("gdb.dap.server")


def send(event: str, body: dict[str, Any]) -> None:
    """Send an event now or, where a request holds events back, after its response.

    `send_event` itself waits since gdb 17; before, one that stands apart does.
    """
    getattr(server, "send_event_maybe_later", server.send_event)(event, body)
