"""Threads that block every signal: their hits stop at the instruction too, and leave no trace."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters

REFUSED = filters.why_no_stops()
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)

WRITE = line("blocked_threads.c", "write")
SIGSTOP_PASSED = r"SIGSTOP\s+Yes\s+Yes\s+Yes"


def all_threads(session, **options):
    return session("blocked_threads", **options)


def begin(gdb):
    gdb.run_to(f"blocked_threads.c:{line('blocked_threads.c', 'begin')}")


def test_a_condition_is_told_at_the_instruction(session):
    with session("signals_blocked") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place if place == 3")
        assert gdb.list()[2]["judged"] == "in kernel"
        out = gdb.cont()
        assert re.search(r"^Hardware watchpoint 2: place +perf +write +2 +3", out, re.M)
        assert f"signals_blocked.c:{line('signals_blocked.c', 'write')}" in out
        assert gdb.value("place") == "3"
        assert "late" not in out
        assert "exited with code 050]" in gdb.cont(), "no signal is pending"
        assert gdb.list()[2]["hits"] == 5
        gdb.cmd("delete")
        gdb.cmd("kwatch list")  # gdb 10 tells of no deletion: a prompt finds it
        assert re.search(SIGSTOP_PASSED, gdb.cmd("info signals SIGSTOP"))


@pytest.mark.parametrize("command", ["kwatch -k place", "kwatch place if place > 0"])
def test_every_hit_is_a_stop(session, command):
    with session("signals_blocked") as gdb:
        gdb.run_to("main")
        gdb.cmd(command)
        stops = gdb.run_out()
        assert [re.search(r"write +\d +(\d)$", out, re.M).group(1) for out in stops] == list(
            "12345"
        )
        assert "exited with code 050]" in gdb.ending
        assert gdb.list()[2]["hits"] == 5


def test_four_threads_with_all_blocked_and_later_none(session):
    with all_threads(session) as gdb:
        begin(gdb)
        gdb.cmd("kwatch place if place % 500 == 249 || place % 500 == 7")
        stops = gdb.run_out()
        told = [(trap["thread"], int(hit["new"])) for trap in gdb.stops() for hit in trap["hits"]]
        wanted = {n * 1000 + at for n in (1, 2, 3, 4) for at in (7, 249, 507, 749)}
        assert len(stops) == len(told) == 16, "no second stop when the mask is lifted"
        assert {value for _, value in told} == wanted
        assert all(thread == value // 1000 + 1 for thread, value in told)
        assert {trap["line"] for trap in gdb.stops()} == {WRITE}
        assert gdb.list()[2]["hits"] == 4 * 2 * 250
        assert "exited with code 050]" in gdb.ending


def test_four_threads_hit_by_k(session):
    with all_threads(session) as gdb:
        begin(gdb)
        gdb.cmd("kwatch -k place")
        gdb.cmd("ignore 2 1990")
        stops = gdb.run_out()
        assert len(stops) == 10
        assert gdb.list()[2]["hits"] == 2000
        assert "exited with code 050]" in gdb.ending


def test_ignore_counts_and_commands(session):
    with session("signals_blocked") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -t place if place > 1")
        gdb.cmd("ignore 2 2")
        gdb.cmd("commands 2\necho said\\n\nend")
        out = gdb.cont()
        assert "said" in out
        assert gdb.value("place") == "4"
        assert "2    " not in gdb.cmd("kwatch list")
        assert "exited with code 050]" in gdb.cont()


def test_a_false_condition_of_gdbs_leaves_no_group_stop(session):
    with all_threads(session) as gdb:
        begin(gdb)
        gdb.cmd("kwatch -k place if place == 1100")
        assert gdb.list()[2]["judged"].startswith("in gdb")
        assert gdb.value("place") == "0"
        gdb.cont()
        assert gdb.value("place") == "1100"
        assert gdb.run_out() == []
        assert gdb.list()[2]["hits"] == 2000
        assert "exited with code 050]" in gdb.ending


def test_detached_right_after_such_a_stop_it_runs_on(session, tmp_path):
    with session("signals_blocked") as gdb:
        gdb.run_to("main")
        pid = gdb.evaluate("gdb.selected_inferior().pid")
        gdb.cmd("kwatch place if place == 3")
        gdb.cont()
        gdb.python(f"import os\nfd = os.pidfd_open({pid})")
        gdb.cmd("detach")
        gdb.python(
            "import select\n"
            "p = select.poll()\np.register(fd, select.POLLIN)\n"
            "print('@ended', bool(p.poll(20000)))\nos.close(fd)"
        )
        assert "@ended True" in gdb.transcript


@pytest.mark.parametrize("fixture", ["ticking", "says_and_loops"])
def test_a_sigstop_from_elsewhere_still_stops(session, fixture):
    """Also where it comes at a hit: the second one's thread nearly always stands there."""
    with session(fixture) as gdb:
        gdb.run_to("main")
        pid = gdb.evaluate("gdb.selected_inferior().pid")
        gdb.cmd("kwatch counter if counter == -1")
        gdb.python(
            f"import os, signal, threading\n"
            f"timer = threading.Timer(0.2, os.kill, ({pid}, signal.SIGSTOP))\n"
            f"timer.daemon = True\ntimer.start()"
        )
        out = gdb.cont()
        assert re.search(r"LWP \d+ was sent SIGSTOP by process \d+", out)
        assert "SIGINT" in out


def test_in_the_background(session):
    with all_threads(session, extra=("-iex", "set non-stop on")) as gdb:
        begin(gdb)
        gdb.cmd("kwatch place if place == 3100")
        out = gdb.cont()
        assert "3100" in out or "3100" in gdb.cmd("kwatch hits")


def test_off_and_on_again(session):
    with session("signals_blocked") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place if place == 2 || place == 4")
        gdb.cont()
        gdb.cmd("kwatch off")
        assert re.search(SIGSTOP_PASSED, gdb.cmd("info signals SIGSTOP"))
        gdb.cmd("kwatch on")
        assert not re.search(SIGSTOP_PASSED, gdb.cmd("info signals SIGSTOP"))
        gdb.cont()
        assert gdb.value("place") == "4"
        assert "exited with code 050]" in gdb.cont()
