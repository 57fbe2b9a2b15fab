"""Sourced into each gdb of the session tests: tells of a gdb.execute where kwatch may make none.

At its end gdb.execute runs the commands of the breakpoint that the program stands at
(`bpstat_do_actions`): called between gdb's decision to stop and the end of the stop event, it
resumes a program in the middle of its stop, and a gdb at a terminal hangs.  Where no breakpoint has
commands nothing can happen (gdbfacts.may_execute).
"""

import sys

import gdb

WORDS = "gdb.execute in the middle of a stop"
AT_A_STOP = {"at_hook", "at_stop", "_at_stop"}
_execute = gdb.execute


def execute(*args, **kwargs):
    frame = sys._getframe(1)
    if not any(bp.commands for bp in gdb.breakpoints() or ()):
        frame = None
    while frame is not None:
        code = frame.f_code
        if code.co_name in AT_A_STOP and "gdb_kwatch" in code.co_filename:
            print(f"{WORDS}: {args[0]!r}")
        frame = frame.f_back
    return _execute(*args, **kwargs)


gdb.execute = execute
