"""Libraries that leave while watchpoints on their globals stay, loaded again or not.

gdb 10.1 to 16.3 alone read freed memory there and end with a segmentation fault or an endless loop
most times; gdb 17 does not.
"""

from __future__ import annotations

import pytest
from harness import line

SETTINGS = {
    "kwatch": ("kwatch library_global",),
    "natives": ("watch library_global", "awatch library_global"),
    "disabled": ("watch library_global", "kwatch place", "disable 2"),
    "conditions": ("watch place if library_global > 1000", "kwatch library_global if place < 9"),
}


@pytest.mark.parametrize("lines", SETTINGS.values(), ids=SETTINGS)
def test_unloaded_and_loaded_again(session, lines):
    with session("dlopen_global") as gdb:
        gdb.cmd("break checkpoint")
        gdb.cmd("run again")
        for command in lines:
            gdb.cmd(command)
        gdb.run_out()
        # Once more, from the start: the library is not there yet.
        gdb.cmd("run again")
        gdb.run_out()
        # gdb 10 does not say that a library goes: a condition in the kernel is still tested there
        # when the loader clears the same place for the next one.
        written = [
            (hit["old"], hit["new"], trap["line"])
            for trap in gdb.hits()
            for hit in trap["hits"]
            if hit["number"] == (3 if lines[0].startswith("watch place") else 2)
            and "library" in (trap["file"] or "")
        ]
        stored = line("dlopen_global_library.c", "library store")
        expected = [("0", "41", stored), ("0", "42", stored)] * 2
        assert written == ([] if "disable 2" in lines else expected)


def test_the_slot_is_free_while_the_library_is_gone(session):
    with session("dlopen_global") as gdb:
        gdb.cmd("break checkpoint")
        gdb.cmd("run again")
        gdb.cmd("kwatch library_global")
        for _ in range(3):  # the store, checkpoint(2), checkpoint(3)
            gdb.cont()
        entry = gdb.list()[2]
        assert (entry["state"], entry["address"]) == ("pending", None)
        gdb.run_out()


@pytest.mark.parametrize("ending", ["dlclose", "exec"])
def test_what_waits_for_a_slot_waits_on(session, program, ending):
    """Where gdb cannot enable it, gdb.execute would give the prompt back while the program runs."""
    with session("dlopen_global" if ending == "dlclose" else "exec_other") as gdb:
        if ending == "exec":
            gdb.cmd(f"set args {program('loop')}")
        gdb.run_to("main")
        assert gdb.cmd("rwatch -l *(long *) main").startswith("Hardware read watchpoint")
        assert "waits for a slot" in gdb.cmd("kwatch -size 32 &after")
        out = gdb.cont()
        assert "waits no longer" not in out
        assert ("exited" in out) or gdb.value("1") == "1"
        assert (
            gdb.evaluate("[t for t in gdb.selected_inferior().threads() if t.is_running()]") == []
        )


def test_a_location_in_a_library_that_is_to_come(session):
    """Nobody can tell where it will be before the program has loaded it again."""
    with session("dlopen_global") as gdb:
        gdb.cmd("break checkpoint")
        gdb.cmd("run")
        assert gdb.cmd("watch -l library_global").startswith("Hardware watchpoint 2")
        gdb.cmd("disable 1")
        outs = [gdb.cmd("run")]
        while "exited" not in outs[-1]:
            outs.append(gdb.cont())
        assert not any("never be hit" in out or "expired" in out for out in outs)
        assert any("New value = 41" in out for out in outs)
        assert any("41" in h["new"] for t in gdb.stops() for h in t["hits"])


def test_a_disabled_read_watchpoint_beside_another(session):
    """What gdb still holds of the library is parsed again; gdb 10 to 16 ended itself for it."""
    with session("dlopen_global") as gdb:
        gdb.run_to("main")
        gdb.cmd("rwatch place")
        gdb.cmd("rwatch place")
        gdb.cmd("disable 2")
        gdb.cmd("break checkpoint")
        for _ in range(3):
            assert "Breakpoint 4, checkpoint" in gdb.cont()
        assert gdb.list()[2]["state"] == "disabled"
        assert gdb.list()[3]["slots"] == [0]
        assert len(gdb.run_out()) == 0
        assert "exited normally" in gdb.ending
