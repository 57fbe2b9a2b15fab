"""Threads that end while the trap of another one is handled: gdb lets the others run meanwhile."""

from __future__ import annotations

import pytest

# The thread that is to end ends at the first trap, before kwatch has looked at it or after.
AT_THE_TRAP = """
import os, time
from gdb_kwatch.ui import plugin
engine = plugin.session.engine

def state(task):
    try:
        with open(f"/proc/{task}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"

def end_one(of):
    pid = gdb.selected_inferior().pid
    with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
        memory.seek(ender)
        tasks = {int.from_bytes(memory.read(4), "little")} - ({pid} if of == "exec" else set())
        memory.seek(go)
        memory.write(bytes([1]))
    if of in ("exit_group", "killed", "exec"):
        tasks.add(gdb.selected_thread().ptid[1])
    while not all(state(f"{pid}/task/{task}") in "XZ" for task in tasks):
        time.sleep(0.001)
    global ended
    ended += 1

def at_the_trap(of, after):
    def take(*arguments, **named):
        del engine._take
        if not after:
            end_one(of)
        taken = engine._take(*arguments, **named)
        if after:
            end_one(of)
        return taken
    engine._take = take

ended = 0
ender, go = (int(gdb.parse_and_eval(f"(long)&{name}")) for name in ("ender", "go"))
"""

BOTH = [[("s.a", "0", "1"), ("s.d", "0", "1")], [("s.a", "1", "2"), ("s.d", "1", "2")]]


def values(traps):
    return [[(h["expression"], h["old"], h["new"]) for h in trap["hits"]] for trap in traps]


@pytest.mark.parametrize("of", ["thread", "main", "exit_group", "killed", "exec"])
def test_a_thread_ends_in_the_trap_of_another(session, of):
    """The others' hits are seen, and all are where the whole program ends, in its next run.

    Exec by the main thread, as gdb 13.1 ends with an internal error where another thread's exec
    takes the place of a main thread that stands at a trap; and gdb (13.1) writes into the new
    program what was in the old one under its breakpoints, which may end it.
    """
    with session("ends_in_a_trap") as gdb:
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.d")
        gdb.cmd(f"set args {of}")
        for after in (False, True):
            gdb.run_to("main")
            gdb.python(AT_THE_TRAP)
            gdb.cmd(f"python at_the_trap({of!r}, {after})")
            before = len(gdb.hits())
            if of in ("thread", "main"):
                assert len(gdb.run_out()) == 2
                assert values(gdb.hits()[before:]) == BOTH
            else:
                gdb.cont()
                gdb.cont()
            for view in ("list", "slots", "verify"):
                assert gdb.cmd(f"kwatch {view}").strip()
            gdb.cmd("kill")  # gdb 10 goes on saying "Couldn't get registers" where it was killed
            assert gdb.evaluate("ended") == 1
        gdb.cmd("set args again")
        gdb.run_to("main")
        before = len(gdb.hits())
        assert len(gdb.run_out()) == 2
        assert values(gdb.hits()[before:]) == BOTH
        assert "internal fault" not in gdb.transcript
        assert '"None"' not in gdb.transcript
