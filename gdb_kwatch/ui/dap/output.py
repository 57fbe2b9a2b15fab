"""Output events: what kwatch has to say reaches the editor, after the stop that it is about.

Not by gdb.write: up to gdb 18 the server catches what is written during its ``continue`` and
throws it away.
"""

from __future__ import annotations

import gdb

from gdb_kwatch.inferior.faults import guarded
from gdb_kwatch.inferior.session import Session

from .sending import send


class Output:
    """Takes the place of ``Report.write``."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._session: Session | None = None

    def join(self, session: Session) -> None:
        """Follow a session: from its hook-stop to the stop event, what is written waits."""
        self._session = session

    def connect(self) -> None:
        """After the session, whose own stop handler may have last words."""
        gdb.events.stop.connect(self.at_stop)

    def disconnect(self) -> None:
        gdb.events.stop.disconnect(self.at_stop)
        self.flush()

    def at_stop(self, event: gdb.StopEvent) -> None:
        self.flush()

    def write(self, text: str, stream: int = gdb.STDOUT) -> None:
        self._texts.append(text)
        if self._session is None or not self._session.hooked:
            self.flush()

    @guarded()
    def flush(self) -> None:
        texts, self._texts = self._texts, []
        if texts:
            send("output", {"category": "console", "output": "".join(texts)})
