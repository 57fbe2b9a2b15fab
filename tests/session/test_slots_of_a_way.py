"""Slots of an expression whose way leads elsewhere than when the program was last resumed: gdb
works its own locations out again only at the next resume."""

import pytest


def now_longer(gdb):
    """At a stop where line->next->v takes three slots, and gdb's locations are still those of
    before: ``line`` and address 0."""
    gdb.run_to("main")
    gdb.cmd("watch line->next->v")
    assert "Old value = <unreadable>" in gdb.cont()


@pytest.mark.parametrize(
    "commands",
    [
        ("set kwatch adopt on",),
        ("nosharedlibrary", "sharedlibrary"),
        ("python [b.delete() for b in hidden()]",),
    ],
)
def test_gdbs_stale_locations_free_none(session, commands):
    """What is over would be let in, gdb refuse to resume, and name a hidden watchpoint."""
    with session("list_walk") as gdb:
        gdb.python(
            "def hidden():\n"
            "    all = getattr(gdb.breakpoints, '__wrapped__', gdb.breakpoints)()\n"
            "    return [b for b in all if type(b).__name__ == 'Sentinel']\n"
        )
        now_longer(gdb)
        for command in commands:
            gdb.cmd(command)
        assert "waits" not in gdb.cmd("kwatch turns")
        assert "kwatch 4 waits for a slot: it needs 1 of 4, 0 free." in gdb.cmd("kwatch cur")
        gdb.cmd("stepi")
        assert "Could not insert" not in gdb.transcript
        assert {n: len(row["slots"]) for n, row in gdb.list().items()} == {2: 3, 3: 1, 4: 0}
