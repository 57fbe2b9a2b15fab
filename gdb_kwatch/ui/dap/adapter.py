"""The DAP side as one thing that can be connected and taken out again.

`connect` comes before kwatch makes its first breakpoint: gdb's server would tell the editor of the
hidden ones.  `join` comes when the session is connected.
"""

from __future__ import annotations

from gdb_kwatch.inferior.session import Session

from ..report import Report
from .breakpoint import Breakpoints
from .data_breakpoint import DataBreakpoints
from .output import Output
from .stopped import Stopped


class Adapter:
    """kwatch's side of gdb's DAP server."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.breakpoints = Breakpoints()
        self.output = Output()
        self.stopped = Stopped(self.breakpoints, self.output)
        self.data: DataBreakpoints | None = None

    def connect(self) -> None:
        self.breakpoints.connect()
        self.stopped.connect()
        self.report.write = self.output.write
        self.report.listeners.append(self.stopped.heard)

    def join(self, session: Session) -> None:
        if self.data is None:
            self.data = DataBreakpoints(session, self.breakpoints)
        self.data.connect()
        self.output.join(session)
        self.output.connect()

    def disconnect(self) -> None:
        if self.data is not None:
            self.data.disconnect()
        self.output.disconnect()
        self.report.listeners.remove(self.stopped.heard)
        self.report.write = self.report.to_terminal
        self.stopped.disconnect()
        self.breakpoints.disconnect()
