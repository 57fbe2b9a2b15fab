"""What a stop is about, as gdb lists it: no sentinel of kwatch's stands there."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["watch", "awatch", "kwatch"])
def test_a_stop_event_and_continue_n_know_no_sentinel(session, command):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb\n"
            "seen = []\n"
            "def at_stop(event):\n"
            "    seen.extend(b.number for b in getattr(event, 'breakpoints', ()))\n"
            "gdb.events.stop.connect(at_stop)\n"
        )
        gdb.cmd(f"{command} s.a")
        gdb.cmd(f"{command} s.c")
        gdb.cont()
        assert all(number > 0 for number in gdb.evaluate("seen"))
        assert "breakpoint -" not in gdb.cmd("info program")
        assert "breakpoint -" not in gdb.cmd("continue 2")
