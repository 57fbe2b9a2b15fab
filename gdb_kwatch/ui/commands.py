"""The ``kwatch`` command and its subcommands.

``kwatch`` is one prefix command: gdb would take the first word of an expression for a
subcommand's name, so a variable called ``list`` is reached by ``kwatch -- list``.
"""

from __future__ import annotations

import gdb

from gdb_kwatch.core.grammar import UsageError, parse
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.setting import set_watch


class Kwatch(gdb.Command):
    """Set a hardware watchpoint, and miss none of its hits.
Usage: kwatch [-w|-a|-r] [-l|-location] [-every] [-t] [-size N] EXPRESSION [thread ID] [if COND]

A kwatch stops execution of your program whenever the value of EXPRESSION
changes, as gdb's "watch" does.  When one instruction hits several watchpoints,
all of them are reported, gdb's own included, where gdb reports one.

Options:
  -w            Stop when the value changes; the default.
  -a            Stop at every read or write of it ("awatch").
  -r            Stop at every read of it ("rwatch").
  -every        Stop at every write, also of the same value.
  -l, -location Watch the memory that EXPRESSION names now.
  -size N       EXPRESSION is an address; watch the N bytes there.
  -t            Delete it at its first stop.
  --            End of options and of subcommands: "kwatch -- list" watches `list'.

A kwatch is a gdb breakpoint: "delete", "disable", "enable", "condition", "ignore",
"commands" and "info watchpoints" work on it by its number.  It takes one of the
four debug registers for each aligned piece of 1, 2, 4 or 8 bytes; where none is
free, it is refused at once, and you are told who holds them."""

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_EXPRESSION, True)
        self.session = session

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        try:
            request = parse(argument)
        except UsageError as error:
            raise gdb.GdbError(str(error)) from None
        watch = set_watch(self.session, request)
        gdb.write(f"{watch.mention}\n")


def define(session: Session) -> None:
    """Register ``kwatch`` and what stands below it."""
    Kwatch(session)
