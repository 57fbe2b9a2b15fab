"""Instructions whose stores are out of the ordinary."""

from __future__ import annotations

from harness import line


def test_rep_stosb(session):
    with session("rep_stosb") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -size 8 &range[0]")
        gdb.cmd("kwatch -size 8 &range[16]")
        gdb.cmd("kwatch range[40]")
        gdb.run_out()
        check_string_instruction(gdb, line("rep_stosb.c", "fill"))
        assert [t for t in gdb.hits() if t["hits"][0]["number"] == 4][-1]["hits"][0]["new"] == (
            "170 '\\252'"
        )


def test_rep_movsb(session):
    with session("rep_movsb") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -size 8 &to[0]")
        gdb.cmd("kwatch -size 8 &to[16]")
        gdb.cmd("kwatch to[40]")
        gdb.run_out()
        check_string_instruction(gdb, line("rep_movsb.c", "copy"))


def check_string_instruction(gdb, number):
    """A CPU may trap after each byte or after several: each place at least once, in one chain."""
    traps = gdb.stops()
    last = {}
    for trap in traps:
        assert trap["line"] == number
        assert "rep" in trap["instruction"]
        for hit in trap["hits"]:
            if hit["number"] in last:
                assert hit["old"] == last[hit["number"]]
            last[hit["number"]] = hit["new"]
    assert set(last) == {2, 3, 4}


def test_push_onto_a_watched_stack(session):
    with session("push_on_watched_stack") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch area[7]")
        out = gdb.cont()
        (trap,) = gdb.hits()
        assert (trap["hits"][0]["old"], trap["hits"][0]["new"]) == ("0", "5")
        assert "push" in trap["instruction"]
        assert trap["line"] == line("push_on_watched_stack.c", "push")
        assert int(trap["pc"], 16) == int(gdb.value("(long) &the_push"))
        assert "push" in out


def test_call_onto_a_watched_stack(session):
    """The trap is reported at the callee's first instruction; the access was the call's."""
    with session("call_on_watched_stack") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch area[7]")
        gdb.cont()
        (trap,) = gdb.hits()
        assert trap["function"] == "call_it"
        assert trap["instruction"].startswith("call")
        assert trap["line"] == line("call_on_watched_stack.c", "call")
        assert "callee" in gdb.cmd("info symbol $pc")


def test_lock_cmpxchg_that_fails(session):
    """The bus sees a write of the old value; only -every asks for it."""
    swap = line("failed_cmpxchg.c", "swap")
    with session("failed_cmpxchg") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch lock")
        gdb.cont()
        assert gdb.value("after") == "1"
        failed, done = gdb.hits()
        assert (failed["stopped"], done["stopped"]) == (False, True)
        assert failed["hits"][0]["new"] == "1"
        assert (done["hits"][0]["old"], done["hits"][0]["new"]) == ("1", "2")
        assert failed["line"] == done["line"] == swap
    with session("failed_cmpxchg") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -every lock")
        gdb.cont()
        assert gdb.value("after") == "0"
        assert "cmpxchg" in gdb.stops()[0]["instruction"]
