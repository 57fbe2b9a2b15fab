"""Output events: what kwatch has to say reaches the editor, after the stop that it is about.

Not by gdb.write: up to gdb 18 the server catches what is written during its ``continue`` and
throws it away.
"""

from __future__ import annotations

import gdb

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.handlers import Handlers
from gdb_kwatch.inferior.session import Session

from .sending import send


class Output:
    """Takes the place of ``Report.write``."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.told = False  # the editor knows of the stop that is being made
        self._texts: list[str] = []
        self._handlers = Handlers(cont=self.at_cont)

    def connect(self) -> None:
        self._handlers.connect()

    def disconnect(self) -> None:
        self._handlers.disconnect()
        self.flush()

    def at_cont(self, event: gdb.ContinueEvent) -> None:
        self.told = False

    def write(self, text: str, stream: int = gdb.STDOUT) -> None:
        self._texts.append(text)
        if self.told or not self.session.hooked:
            self.flush()

    def stopped(self) -> None:
        """The stopped event has been sent."""
        self.told = True
        self.flush()

    @guarded()
    def flush(self) -> None:
        texts, self._texts = self._texts, []
        if texts:
            send("output", {"category": "console", "output": "".join(texts)})
