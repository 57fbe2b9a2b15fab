"""Deletes, creates and re-runs by the hundred, on gdbs that crash when it is done wrong.

gdb 16.3 and 18.1 abort when a breakpoint is created inside `breakpoint_created`; 13.1 crashes when
one is deleted inside `breakpoint_deleted`.
"""

from __future__ import annotations

from harness import GDBINIT

# gdb calls handlers in the order they were connected: `enter` before kwatch's, `leave` after them.
# An event inside another of its kind is a creation in `created` or a deletion in `deleted`.
NESTED = """
import gdb
depth = {"breakpoint_created": 0, "breakpoint_deleted": 0}
wrong = []
def enter(name):
    def handler(bp):
        depth[name] += 1
        if depth[name] > 1:
            wrong.append((name, bp.number))
    return handler
def leave(name):
    def handler(bp):
        depth[name] -= 1
    return handler
enters = {name: enter(name) for name in depth}
leaves = {name: leave(name) for name in depth}
"""


def test_nothing_is_created_in_created_nor_deleted_in_deleted(session):
    with session("simultaneous", kwatch=False) as gdb:
        gdb.python(NESTED + "for n in depth: getattr(gdb.events, n).connect(enters[n])\n")
        gdb.cmd(f"source {GDBINIT}")
        # What the plugin made while it was loaded is counted as entered, and never left.
        gdb.python("for n in depth: depth[n] = 0; getattr(gdb.events, n).connect(leaves[n])\n")
        gdb.cmd("python wrong.clear()")
        gdb.run_to("main")
        for _ in range(5):
            for command in ("kwatch s.a", "watch s.b", "kwatch -l s.c", "hbreak both", "tbreak 18"):
                gdb.cmd(command)
            gdb.cont()
            gdb.cmd("delete")
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cont()
        gdb.run_to("main")
        assert gdb.evaluate("wrong") == []
        assert gdb.evaluate("depth") == {"breakpoint_created": 0, "breakpoint_deleted": 0}


def test_delete_create_and_rerun_500_times(session):
    rounds = 500
    with session("simultaneous") as gdb:
        gdb.cmd("set kwatch history 1000")
        gdb.run_to("main")
        gdb.python(
            f"""
import gdb
def quiet(command):
    return gdb.execute(command, to_string=True)
bad = []
for i in range({rounds}):
    if i % 50 == 49:  # a new run, with watchpoints set from the last one
        quiet("tbreak main")
        quiet("run")
    for command in ("kwatch s.a", "watch s.b", "kwatch -l s.c", "awatch s.d"):
        answer = quiet(command)
        if "atchpoint" not in answer:
            bad.append((i, command, answer))
    live = sorted(b.number for b in gdb.breakpoints() if b.number > 0)
    if i % 50 == 25:
        quiet("continue")
    order = live if i % 2 else live[::-1]
    if i % 3 == 0:
        quiet("disable %d" % order[0])
        quiet("enable %d" % order[0])
    for number in order:
        quiet("delete %d" % number)
    if [b.number for b in gdb.breakpoints() if b.number > 0]:
        bad.append((i, "left", [b.number for b in gdb.breakpoints() if b.number > 0]))
    if i % 50 == 25:
        quiet("tbreak main")
        quiet("run")
internal = [b.number for b in gdb.breakpoints.__wrapped__() if b.number < 0]
""",
            timeout=240,
        )
        assert gdb.evaluate("bad") == []
        assert gdb.evaluate("i") == rounds - 1
        # The pool did not grow with the rounds.
        assert gdb.evaluate("len(internal)") < 100
        stops = gdb.stops()
        assert len(stops) == rounds // 50
        assert all(len(t["hits"]) == 4 for t in stops)
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        assert len(gdb.run_out()) == 2


def test_reruns(session):
    with session("simultaneous") as gdb:
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.c")
        gdb.python(
            """
import gdb
codes = []
for i in range(25):
    gdb.execute("run", to_string=True)
    gdb.execute("continue", to_string=True)
    gdb.execute("continue", to_string=True)
    codes.append(len(gdb.selected_inferior().threads()))
""",
            timeout=120,
        )
        assert gdb.evaluate("codes") == [0] * 25
        assert len(gdb.stops()) == 50
        assert all(len(t["hits"]) == 2 for t in gdb.stops())
