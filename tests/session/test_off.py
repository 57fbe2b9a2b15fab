"""`kwatch off` leaves a gdb as if kwatch were not loaded; `kwatch on` takes up where it left."""

from __future__ import annotations

import re

import pytest
from harness import GDBINIT, line

from gdb_kwatch.linux import perf_event

# What a script sees of kwatch: breakpoints that are not the user's, and handlers of events.
INTERNAL = "sum(type(b).__name__ == 'Sentinel' for b in LISTED() or ())".replace(
    "LISTED", "getattr(gdb.breakpoints, '__wrapped__', gdb.breakpoints)"
)


def internal(gdb):
    return gdb.evaluate(INTERNAL)


def test_off_is_gdb_alone(session):
    """One of three is reported, in gdb's own words."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abc":
            gdb.cmd(f"kwatch s.{member}")
        assert internal(gdb) == 4
        assert gdb.cmd("kwatch off") == (
            "kwatch is off; 3 kwatches left to gdb ('kwatch on' puts it back).\n"
        )
        assert internal(gdb) == 0
        assert gdb.cmd("kwatch off") == "kwatch is off already.\n"
        out = gdb.cont()
        assert "hit by one instruction" not in out
        assert len(re.findall(r"^Hardware watchpoint \d: s\.[abc]$", out, re.M)) == 1
        assert "Old value = 0\nNew value = 1\n" in out
        assert "both (" in out
        assert gdb.hits() == []
        assert "maint" not in gdb.cmd("show user hook-stop")
        assert "kwatch" not in gdb.cmd("show user hook-stop")
        assert "kwatch" not in gdb.cmd("show user hookpost-watch")


def test_on_again_all_are_reported(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch -every s.b")
        gdb.cmd("kwatch off")
        gdb.cmd("watch s.c")  # while it is off
        gdb.cont()
        assert gdb.cmd("kwatch on") == "kwatch is on; 3 watchpoints looked after.\n"
        assert gdb.cmd("kwatch on") == "kwatch is on already.\n"
        out = gdb.cont()
        assert "3 watchpoints hit by one instruction" in out
        (trap,) = gdb.hits()
        assert [(h["number"], h["old"], h["new"]) for h in trap["hits"]] == [
            (2, "1", "2"),
            (3, "0", "0"),
            (4, "1", "2"),
        ]
        kinds = {number: (row["kind"], row["every"]) for number, row in gdb.list().items()}
        assert kinds == {2: ("kwatch", False), 3: ("kwatch", True), 4: ("watch", False)}
        (stop,) = gdb.run_out()  # the last store changes nothing: -every is known again
        assert "unchanged" in stop


def test_thirty_times(session):
    """Nothing grows."""
    with session("eight_threads") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb\n"
            "said = []\n"
            "for n in range(30):\n"
            "    for word in ('off', 'on'):\n"
            "        said.append(gdb.execute('kwatch ' + word, to_string=True))\n"
        )
        assert set(gdb.evaluate("said")) == {
            "kwatch is off ('kwatch on' puts it back).\n",
            "kwatch is on.\n",
        }
        assert internal(gdb) == 4
        assert gdb.evaluate("len(__import__('gdb_kwatch.ui.plugin').ui.plugin.session.parts)") < 10


def test_each_stop_is_seen_by_whoever_is_there(session):
    """Off and on at each stop: gdb's own report and kwatch's take turns, with right old values."""
    with session("disabled_changes") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        olds = []
        while True:
            out = gdb.cont()
            if "exited" in out:
                break
            assert "hit by one instruction" in out
            olds.append(gdb.stops()[-1]["hits"][0]["old"])
            gdb.cmd("kwatch off")
            out = gdb.cont()
            if "exited" in out:
                break
            found = re.search(r"Old value = (\w+)", out)
            assert found, out
            olds.append(found.group(1))
            gdb.cmd("kwatch on")
        assert olds == [str(n) for n in range(len(olds))]
        assert len(olds) == 4


def test_what_a_script_has_set_is_heard_of_again(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb_kwatch\n"
            "seen = []\n"
            "handle = gdb_kwatch.watch('s.a', on_hit=lambda h, row: seen.append(row['new']))\n"
        )
        gdb.cmd("kwatch off")
        gdb.cmd("kwatch on")
        gdb.cont()
        assert gdb.evaluate("[handle.valid, handle.hits, seen]") == [True, 1, ["1"]]
        gdb.cmd("kwatch off")
        gdb.cont()
        gdb.cmd("kwatch on")
        assert gdb.evaluate("seen") == ["1"], "what was not seen is not told"


@pytest.mark.skipif(perf_event.why_not() is not None, reason="no perf here")
def test_those_that_perf_watches_for_rest_while_it_is_off(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -k s.a")
        answer = gdb.cmd("kwatch off")
        assert answer == (
            "kwatch is off; 1 kwatch left to gdb ('kwatch on' puts it back).\n"
            "1 of these sees the kernel or is tested there, and watches nothing until "
            "'kwatch on'.\n"
        )
        gdb.cmd("kwatch on")
        gdb.cmd("kwatch -k s.b")
        assert "\n2 of these see the kernel or are tested there, and watch nothing" in gdb.cmd(
            "kwatch off"
        )
        gdb.cmd("kwatch on")
        out = gdb.cont()
        assert "2 watchpoints hit by one instruction" in out
        assert {row["hits"] for row in gdb.list().values()} == {1}


def test_commands_while_it_is_off(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch off")
        off = "kwatch is off; 'kwatch on' puts it back.\n"
        commands = ("kwatch s.b", "kwatch list", "kwatch slots", "kwatch verify", "info kwatch")
        for command in commands:
            assert gdb.cmd(command) == off, command
        assert gdb.cmd("kwatch hits") == "No traps yet.\n"
        assert "off: gdb's watchpoints are gdb's alone" in gdb.cmd("kwatch doctor")
        gdb.cmd("set kwatch adopt off")
        gdb.cmd("watch s.b")
        assert internal(gdb) == 0
        gdb.cmd("kwatch on")
        assert "Looking after gdb's own watchpoints too is off." in gdb.cmd("show kwatch adopt")
        gdb.cont()  # gdb blames s.b, which is not looked after and has not changed
        assert [h["number"] for h in gdb.hits()[0]["hits"]] == [2]


def test_changed_deleted_and_rerun_while_off(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abcd":
            gdb.cmd(f"kwatch s.{member}")
        gdb.cmd("kwatch off")
        gdb.cmd("delete 3")
        gdb.cmd("disable 4")
        gdb.cmd("condition 2 s.a == 2")
        gdb.run_to("main")
        gdb.cmd("kwatch on")
        rows = gdb.list()
        assert {n: row["state"] for n, row in rows.items()} == {
            2: "installed",
            4: "disabled",
            5: "installed",
        }
        assert rows[2]["condition"] == "s.a == 2"
        gdb.cmd("delete 5")
        out = gdb.cont()
        assert "s.a" in out
        assert gdb.value("s.a") == "2"


def test_location_on_the_heap_of_a_run_that_ended_while_off(session):
    with session("pie_heap") as gdb:
        gdb.cmd("set disable-randomization off")
        gdb.run_to("15")
        gdb.cmd("kwatch -l *heap")
        gdb.cmd("kwatch off")
        gdb.cmd("kill")
        gdb.run_to("15")
        out = gdb.cmd("kwatch on")
        assert out.count("address expired") == 1
        assert gdb.list()[2]["state"] == "address expired"


def test_gdbs_own_that_wait_are_on_while_it_is_off(session):
    """As if kwatch were not loaded: gdb says at the resume that they do not fit."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abcd":
            gdb.cmd(f"watch s.{member}")
        assert "watch 6 waits for a slot" in gdb.cmd("watch other")
        gdb.cmd("watch spare")
        gdb.cmd("disable 7")
        assert gdb.cmd("kwatch off") == "kwatch is off ('kwatch on' puts it back).\n"
        assert re.findall(r"^(\d) .* keep ([yn])", gdb.cmd("info breakpoints"), re.M) == [
            ("2", "y"),
            ("3", "y"),
            ("4", "y"),
            ("5", "y"),
            ("6", "y"),
            ("7", "n"),
        ]
        assert "Could not insert hardware watchpoint" in gdb.cont()
        out = gdb.cmd("kwatch on")
        assert out.startswith("watch 6 waits for a slot: it needs 1 of 4, 0 free.\n"), out
        assert out.endswith("kwatch is on; 6 watchpoints looked after.\n")
        states = {number: row["state"] for number, row in gdb.list().items()}
        assert (states[6], states[7]) == ("waiting", "disabled")
        assert "4 watchpoints hit by one instruction" in gdb.cont()
        assert gdb.cmd("delete 2") == "watch 6 installed\n"
        gdb.cmd("kwatch s.a")
        assert gdb.cmd("kwatch off") == (
            "kwatch is off; 1 kwatch left to gdb ('kwatch on' puts it back).\n"
            "Disabled until then, with no slot of their own: 8.\n"
        )
        gdb.cmd("kwatch on")
        assert gdb.list()[8]["state"] == "waiting"
        stops = "".join(gdb.run_out())
        assert "3 watchpoints hit by one instruction" in stops
        assert "Hardware watchpoint 6: other" in stops


def test_the_users_own_hooks_stay(session):
    with session("simultaneous") as gdb:
        gdb.cmd("define hook-stop\necho mine\\n\nend")
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch off")
        assert gdb.cmd("show user hook-stop") == 'User command "hook-stop":\n  echo mine\\n\n\n'
        assert "mine\n" in gdb.cont()
        gdb.cmd("kwatch on")
        out = gdb.cont()
        assert out.count("mine\n") == 1
        assert "hit by one instruction" in out


HOOK = """\
define hook-stop
  if 1
    python
for n in range(2):
    if n:
        print("mine", n)
    end
  end
  echo last of mine\\n
end
document hook-stop
What I do at stops.
end
"""


def test_a_hook_with_python_and_a_help_text_stays(session):
    """kwatch puts its line in and takes it out: the rest is as it was, blanks and all."""
    with session("simultaneous") as gdb:
        gdb.script(HOOK)
        written = gdb.cmd("show user hook-stop")
        assert '\n        print("mine", n)\n' in written
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        for _ in range(2):
            assert gdb.cmd("show user hook-stop") == written.replace(
                ":\n", ":\n  kwatch-internal-hook-stop\n", 1
            )
            assert gdb.cmd("help hook-stop") == "What I do at stops.\n"
            gdb.cmd("kwatch off")
            assert gdb.cmd("show user hook-stop") == written
            assert gdb.cmd("help hook-stop") == "What I do at stops.\n"
            gdb.cmd("kwatch on")
        out = gdb.cont()
        assert "hit by one instruction" in out and "mine 1\nlast of mine\n" in out
        gdb.cmd("delete")
        assert gdb.cmd("show user hook-stop") == written


def test_with_no_watchpoint_nothing_runs_at_a_stop(session):
    """Handlers of stops and the like are there with the first watchpoint, and go with the last."""
    connected = (
        "[h.connected for h in (lambda s: (s._always, s._watching))"
        "(__import__('gdb_kwatch.ui.plugin').ui.plugin.session)]"
    )
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        assert gdb.evaluate(connected) == [True, False]
        assert "kwatch" not in gdb.cmd("show user hook-stop")
        gdb.cmd("kwatch s.a")
        assert gdb.evaluate(connected) == [True, True]
        gdb.cont()
        gdb.cmd("delete")
        assert gdb.evaluate(connected) == [True, False]
        assert "kwatch" not in gdb.cmd("show user hook-stop")
        gdb.cmd("watch s.b")
        gdb.cmd("watch s.c")
        assert gdb.evaluate(connected) == [True, True]
        gdb.cont()
        assert len(gdb.hits()[-1]["hits"]) == 2


def test_two_programs_at_once(session):
    """Each program space gets its sentinels back, also the one that is not selected."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a if pair.a == 2")
        gdb.cmd("kwatch pair.b if 0")
        gdb.cmd("clone-inferior")
        gdb.cmd("inferior 2")
        gdb.run_to("main")
        gdb.cmd("kwatch off")
        gdb.cmd("kwatch on")
        assert gdb.evaluate("gdb.selected_inferior().num") == 2
        gdb.cmd("inferior 1")
        assert "hit by one instruction" in gdb.cont()
        assert gdb.value("pair.a") == "2"


def test_sourcing_again_while_off_changes_nothing(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch off")
        gdb.cmd(f"source {GDBINIT}")
        assert internal(gdb) == 0
        assert gdb.cmd("kwatch on") == "kwatch is on.\n"


def test_help_and_completion(session):
    with session(None) as gdb:
        text = gdb.cmd("help kwatch")
        assert "kwatch off -- Take kwatch out of gdb" in text
        assert "kwatch on -- Put kwatch back" in text
        assert "Usage: kwatch off" in gdb.cmd("help kwatch off")
        assert "kwatch off" in gdb.cmd("complete kwatch of").splitlines()
        assert gdb.cmd("kwatch off now") == "Usage: kwatch off\n"
        assert gdb.cmd("info kwatch now") == "Usage: kwatch list [-json [FILE]]\n"


def test_location_that_was_set_before_the_program_had_its_place(session):
    """gdb keeps the address in the file; kwatch looks after the program has moved."""
    with session("pie_heap") as gdb:
        gdb.cmd("kwatch off")
        gdb.cmd("watch -l g")
        gdb.run_to("main")
        gdb.cmd("kill")
        gdb.cmd("kwatch on")
        gdb.run_to("main")
        assert gdb.transcript.count("address expired") == 1
        row = gdb.list()[1]
        assert row["state"] == "address expired"
        assert int(row["address"], 16) < 0x100000


def test_location_whose_pointer_has_moved_on(session):
    """gdb stays where the pointer led to; kwatch looks when it leads elsewhere."""
    with session("list_walk") as gdb:
        gdb.run_to(f"list_walk.c:{line('list_walk.c', 'linked')}")
        gdb.cmd("kwatch off")
        gdb.cmd("watch -l cur->v")
        assert "New value = 1" in gdb.cont()
        gdb.go_to(f"list_walk.c:{line('list_walk.c', 'here')}")
        gdb.cmd("kwatch on")
        out = gdb.cont()
        assert "New value = 5" in out
        assert "expired" not in out
        assert int(gdb.list()[2]["address"], 16) == int(gdb.value("(long) &ring[0].v"))


def test_a_setting_while_it_is_off_makes_no_sentinels(session):
    with session("simultaneous") as gdb:
        gdb.cmd("kwatch off")
        gdb.cmd("set kwatch policy simple")
        assert gdb.evaluate("[b.number for b in gdb.breakpoints() or ()]") == []


def test_slots_that_gdb_has_lost_meanwhile_are_found_at_the_next_stop(session):
    """At an exec gdb goes on counting what it had in the registers; kwatch was off, and looks at
    what stands there and is nobody's.  Else a resume fails, and names a hidden watchpoint."""
    with session("churn") as gdb:
        gdb.cmd("set args exec")
        gdb.run_to("main")
        gdb.cmd("watch alpha if 0")
        gdb.cmd("watch beta if 0")
        gdb.cmd("kwatch off")
        gdb.go_to("main")
        gdb.cmd("delete")
        gdb.cmd("kwatch on")
        gdb.cmd("watch place[0] if 0")
        gdb.go_to("walk")
        gdb.cmd("watch place[1] if 0")
        gdb.cmd("kwatch wide[1] if 0")
        out = gdb.cmd("watch wide[2] if 0")
        assert "it needs 1 of 4, 0 free" in out, out
        assert "gdb itself, for a program that has called exec" in out, out
        gdb.cmd("tbreak poke")
        assert "Could not insert" not in gdb.cont()


def test_a_process_that_was_there_before_has_all_its_slots(session):
    with session("churn") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch alpha if 0")
        gdb.cmd("watch beta if 0")
        gdb.go_to("walk")
        gdb.cmd("kwatch off")
        gdb.cmd("kwatch on")
        gdb.cmd("delete 2")
        gdb.go_to("poke")
        for place in ("wide[0]", "wide[1]", "wide[2]"):
            assert "waits for a slot" not in gdb.cmd(f"watch {place} if 0")
