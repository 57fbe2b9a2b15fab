"""An access watchpoint that comes to its slot outside of a command that sets one.

gdb blames the last slot, that of the access watchpoint, whose condition is false: without a
sentinel of its kind there, gdb would run on, and what else the store has changed would be lost.
"""

from __future__ import annotations

import pytest

LAST = "s.b if s.b == 6"

WAYS = {
    "enabled after a stop": ["watch s.a", f"awatch {LAST}", "disable 3", "tbreak both"]
    + ["continue", "enable 3"],
    "enabled": ["watch s.a", f"awatch {LAST}", "disable 3", "enable 3"],
    "both enabled": [f"awatch {LAST}", "watch s.a", "disable", "tbreak both"]
    + ["continue", "enable 3", "enable 2"],
    "a slot is free": ["watch s.a", "watch other", "watch spare", "watch s.d", f"awatch {LAST}"]
    + ["delete 5"],
    "all but the other at its place": ["watch s.a", f"watch {LAST}", f"awatch {LAST}", "delete 3"],
    "of two": ["watch s.a", f"awatch {LAST}", "awatch s.d if s.d == 6", "disable", "tbreak both"]
    + ["continue", "enable 2 3 4"],
    "read": ["watch s.a", f"rwatch {LAST}", "disable 3", "tbreak both", "continue", "enable 3"],
    "of a kwatch": ["watch s.a", f"kwatch -a {LAST}", "disable 3", "enable 3"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("scripted", "inserted"),
    [(False, "off"), (True, "off"), (False, "on")],
    ids=["typed", "in a script", "always inserted"],
)
def test_nothing_is_lost(session, way, scripted, inserted, tmp_path):
    with session("simultaneous", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        commands = [f"set breakpoint always-inserted {inserted}", *WAYS[way], "continue"]
        if scripted:
            (tmp_path / "script").write_text("\n".join(commands))
            gdb.cmd(f"source {tmp_path}/script")
        else:
            for command in commands:
                gdb.cmd(command)
        (trap,) = gdb.stops()
        changed = [hit for hit in trap["hits"] if hit["changed"]]
        assert [(hit["expression"], hit["old"], hit["new"]) for hit in changed] == [
            ("s.a", "0", "1")
        ]
        assert len(trap["hits"]) >= 2
        assert "no trap" not in gdb.transcript and "Could not" not in gdb.transcript
