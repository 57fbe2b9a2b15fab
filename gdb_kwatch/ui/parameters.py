"""``set kwatch …`` and ``show kwatch …``."""

from __future__ import annotations

import gdb

from gdb_kwatch.inferior.session import Session


class SetPrefix(gdb.Command):
    """Settings of kwatch."""

    def __init__(self) -> None:
        super().__init__("set kwatch", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_NONE, True)


class ShowPrefix(gdb.Command):
    """Show the settings of kwatch."""

    def __init__(self) -> None:
        super().__init__("show kwatch", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        for name in ("adopt", "history"):
            gdb.write(f"{name}:  ")
            gdb.execute(f"show kwatch {name}")


class Adopt(gdb.Parameter):
    """Whether kwatch also looks after watchpoints made by gdb's own commands and by scripts.

    When on, a hit of theirs that gdb misses stops the program and is reported, and their
    old values are kept right.  When off, only kwatches are looked after."""

    set_doc = "Set whether kwatch looks after gdb's own watchpoints too."
    show_doc = "Show whether kwatch looks after gdb's own watchpoints too."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch adopt", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_BOOLEAN)
        self.value = True
        self.session = session

    def get_set_string(self) -> str:
        self.session.registry.adopting = bool(self.value)
        self.session.refresh()
        return ""

    def get_show_string(self, value: str) -> str:
        return f"Looking after gdb's own watchpoints too is {value}."


class HistoryLimit(gdb.Parameter):
    """How many traps `kwatch hits' remembers, the oldest forgotten first."""

    set_doc = "Set how many traps kwatch remembers."
    show_doc = "Show how many traps kwatch remembers."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch history", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ZUINTEGER)
        self.value = session.engine.history.limit
        self.session = session

    def get_set_string(self) -> str:
        self.session.engine.history.resize(int(self.value))
        return ""

    def get_show_string(self, value: str) -> str:
        return f"kwatch remembers {value} traps."


def define(session: Session) -> None:
    """Register the parameters."""
    SetPrefix()
    ShowPrefix()
    Adopt(session)
    HistoryLimit(session)
