"""Loads kwatch into gdb: one session, its report, its commands."""

from __future__ import annotations

from gdb_kwatch.inferior.kernel_restoring import Restoring
from gdb_kwatch.inferior.session import Session

from . import commands, dap, parameters
from .mi import Mi
from .report import Report
from .scripting import Scripting

session: Session | None = None
_scripting: Scripting | None = None


def scripting() -> Scripting:
    """kwatch as other scripts see it, loaded where it is not yet."""
    load()
    assert _scripting is not None
    return _scripting


def load() -> None:
    """Make and connect everything, once; sourcing again does nothing."""
    global session, _scripting
    if session is not None:
        return
    report = Report()
    made = Session(report)
    report.engine = made.engine
    made.join(Restoring(made))
    made.join(Mi(made, report))
    if dap.running():
        from .dap.adapter import Adapter

        made.join(Adapter(made, report))
    made.connect()
    commands.define(made)
    parameters.define(made)
    _scripting = Scripting(made)
    made.join(_scripting)
    session = made
