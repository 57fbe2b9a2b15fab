"""kwatch's side of gdb's DAP server, as one part of the session: it goes with ``kwatch off``.

What hides the sentinels from the editor is there before the first of them is made, and stays: the
session deletes them when its parts have left.  With none there it lets everything pass.
"""

from __future__ import annotations

from gdb_kwatch.inferior.session import Session

from ..report import Report
from .breakpoint import Breakpoints
from .data_breakpoint import DataBreakpoints
from .output import Output
from .requests import Requests
from .stopped import Stopped


class Adapter:
    def __init__(self, session: Session, report: Report) -> None:
        self.report = report
        self.breakpoints = Breakpoints(session)
        self.output = Output(session)
        self.stopped = Stopped(self.breakpoints, self.output)
        self.data = DataBreakpoints(session, self.breakpoints)
        self.requests = Requests()
        self.breakpoints.stand_before()

    def connect(self) -> None:
        self.output.connect()
        self.stopped.connect()
        self.data.connect()
        self.requests.connect()
        self.report.write = self.output.write
        self.report.listeners.append(self.stopped.heard)

    def disconnect(self) -> None:
        self.report.listeners.remove(self.stopped.heard)
        self.report.write = self.report.to_terminal
        self.requests.disconnect()
        self.data.disconnect()
        self.stopped.disconnect()
        self.output.disconnect()
