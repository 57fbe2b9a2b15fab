"""Watchpoints that other scripts make are owners too, and work as before."""

from __future__ import annotations

import re

# As pwndbg, GEF or a user's own script does it.
SCRIPT = """
import gdb
seen = []
class Watch(gdb.Breakpoint):
    def __init__(self, expression, answer=False, **options):
        super().__init__(expression, type=gdb.BP_WATCHPOINT, wp_class=gdb.WP_WRITE, **options)
        self.silent = options.get("internal", False)
        self.answer = answer
    def stop(self):
        seen.append((self.expression, int(gdb.parse_and_eval(self.expression))))
        return self.answer
"""


def load(gdb, text=""):
    gdb.python(SCRIPT + text)


def test_an_internal_watchpoint_in_the_same_trap_is_adopted(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        load(gdb, 'internal = Watch("pair.a", internal=True)')
        gdb.cmd("kwatch pair.b if pair.b == -4")
        number = gdb.evaluate("internal.number")
        assert number < 0
        stops = gdb.run_out()
        assert len(stops) == 1
        (trap,) = gdb.stops()
        assert {h["number"] for h in trap["hits"]} == {number, 2}
        # Its stop method was called at each change of its value, though gdb blames pair.b.
        assert gdb.evaluate("seen") == [["pair.a", n] for n in range(1, 7)]


def test_gdb_alone_never_calls_the_stop_method_of_the_missed_one(session):
    with session("condition_not_blamed", kwatch=False) as gdb:
        gdb.run_to("main")
        load(gdb, 'internal = Watch("pair.a", internal=True)')
        gdb.cmd("watch pair.b if pair.b == -4")
        gdb.run_out()
        assert gdb.evaluate("seen") == []


def test_an_internal_watchpoint_that_asks_for_a_stop(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        load(gdb, 'internal = Watch("pair.a", answer=True, internal=True)')
        gdb.cmd("kwatch pair.b if 0")
        assert len(gdb.run_out()) == 6
        assert [new for _, new in gdb.evaluate("seen")] == [1, 2, 3, 4, 5, 6]


def test_a_stop_method_is_called_once_a_trap(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch pair.a if 0")
        load(gdb, 'blamed = Watch("pair.b", answer=True)')
        assert len(gdb.run_out()) == 6
        assert [new for _, new in gdb.evaluate("seen")] == [-1, -2, -3, -4, -5, -6]


def test_a_stop_method_that_raises(session):
    """gdb prints the fault of another script as it does without kwatch, and stops."""

    def ask(gdb):
        gdb.run_to("main")
        gdb.python(
            "import gdb\n"
            "class Bad(gdb.Breakpoint):\n"
            "    def stop(self):\n"
            "        raise ValueError('not mine')\n"
            'Bad("pair.b", gdb.BP_WATCHPOINT)\n'
        )
        gdb.cmd("watch pair.a if 0")
        return len(gdb.run_out())

    allow = ("Traceback", "Python Exception", "Error occurred in Python")
    with session("condition_not_blamed", kwatch=False, allow=allow) as gdb:
        bare = ask(gdb)
    with session("condition_not_blamed", allow=allow) as gdb:
        assert ask(gdb) == bare
        assert "not mine" in gdb.transcript


def test_deletion_by_the_script(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        load(gdb, 'internal = Watch("pair.a", internal=True)')
        gdb.cmd("kwatch pair.b if pair.b == -2 || pair.b == -4")
        gdb.cont()
        gdb.cmd("python internal.delete()")
        gdb.cont()
        assert [len(t["hits"]) for t in gdb.stops()] == [2, 1]
        assert gdb.evaluate("len(seen)") == 2
        (thread,) = gdb.json("kwatch slots")
        assert gdb.run_out() == []


def test_deletion_inside_a_stop_event(session):
    """A script may delete its watchpoint in its own stop handler."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        load(
            gdb,
            'internal = Watch("pair.a", answer=True, internal=True)\n'
            "def once(event):\n"
            "    gdb.events.stop.disconnect(once)\n"
            "    internal.delete()\n"
            "gdb.events.stop.connect(once)\n",
        )
        gdb.cmd("kwatch pair.b if pair.b == -3")
        assert len(gdb.run_out()) == 2


def test_temporary_watchpoint_of_a_script(session):
    """Python's finish-like helpers: an internal one that is set and deleted again and again."""
    with session("condition_not_blamed", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        load(gdb)
        gdb.cmd("kwatch pair.b if 0")
        for _ in range(20):
            gdb.cmd('python w = Watch("pair.a", internal=True)')
            gdb.cmd("python w.delete()")
        assert gdb.run_out() == []
        assert gdb.evaluate("seen") == []
        assert len(gdb.hits()) == 6


def test_internal_ones_hold_slots(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        load(gdb, 'internal = [Watch("s." + m, internal=True) for m in "abc"]')
        gdb.cmd("kwatch s.d")
        answer = gdb.cmd("kwatch other")
        assert "waits for a slot: it needs 1 of 4, 0 free.\n" in answer
        assert "s.a" in answer and "s.d" in answer
        # They are in no list of gdb's own.
        assert "s.a" not in gdb.cmd("info breakpoints")


def test_a_script_that_lists_breakpoints_at_each_event(session):
    """Other scripts see every breakpoint event; asking gdb in the handler must be safe."""
    with session("condition_not_blamed") as gdb:
        gdb.python(
            "import gdb\n"
            "events = []\n"
            "def note(name):\n"
            "    def handler(bp):\n"
            "        events.append((name, bp.number))\n"
            "        [b.number for b in gdb.breakpoints.__wrapped__() if b.is_valid()]\n"
            "    return handler\n"
            "for name in ('created', 'modified', 'deleted'):\n"
            "    getattr(gdb.events, 'breakpoint_' + name).connect(note(name))\n"
        )
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("watch pair.b")
        gdb.cont()
        gdb.cmd("delete")
        assert gdb.run_out() == []
        events = gdb.evaluate("events")
        assert ["created", 2] in events and ["deleted", 2] in events


def test_a_script_that_lists_breakpoints_finds_the_users_own(session):
    """The last one, how many, all of them: as in gdb alone, whatever kwatch has hidden."""
    numbers = "[b.number for b in gdb.breakpoints()]"
    with session("condition_not_blamed", kernel_conditions=False) as gdb:
        assert gdb.evaluate(numbers) == []
        gdb.run_to("main")
        gdb.cmd("watch pair.a")
        gdb.cmd("kwatch pair.b if pair.b == -2")
        internal = 'gdb.Breakpoint("pair.a", type=gdb.BP_WATCHPOINT, internal=True)'
        number = gdb.evaluate(f"{internal}.number")
        gdb.cmd("disable 2")
        assert gdb.evaluate(numbers) == [2, 3, number]  # other scripts' internal ones stay
        gdb.cmd("python gdb.breakpoints()[-1].enabled = False")
        assert "pair.b" in gdb.cont()
        gdb.cmd("kwatch off")
        assert gdb.evaluate(numbers) == [2, 3, number]
        assert not gdb.evaluate("hasattr(gdb.breakpoints, '__wrapped__')")
        gdb.cmd("kwatch on")
        gdb.cmd("python [b.delete() for b in gdb.breakpoints()]")
        assert gdb.cmd("kwatch list") == "No hardware watchpoints or breakpoints.\n"
        gdb.cmd("kwatch pair.a if pair.a == 4")
        assert len(gdb.run_out()) == 1
        assert "another script" not in gdb.transcript


def test_a_script_that_deletes_all_that_it_did_not_make(session):
    """Even kwatch's own sentinels, behind its back: told or mended, never a crash."""
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("kwatch pair.b if 0")
        gdb.cmd("python [b.delete() for b in gdb.breakpoints.__wrapped__() if b.number < 0]")
        gdb.cmd("kwatch list")
        stops = gdb.run_out()
        told = [x for x in gdb.transcript.splitlines() if "kwatch:" in x or "warning:" in x]
        assert len(stops) == 6 or told, "six stops were lost in silence"


def test_a_script_with_a_stop_hook(session):
    """gdb.events.stop handlers of others see a kwatch's stop as gdb's own, with its number."""
    with session("condition_not_blamed", kernel_conditions=False) as gdb:
        gdb.python(
            "import gdb\n"
            "stops = []\n"
            "def note(event):\n"
            "    stops.append(sorted(b.number for b in getattr(event, 'breakpoints', [])))\n"
            "gdb.events.stop.connect(note)\n"
        )
        gdb.run_to("main")
        gdb.cmd("kwatch pair.b if pair.b == -3")
        gdb.cont()
        assert gdb.evaluate("stops") == [[1], [2]]


def test_gdbs_own_finish_breakpoint(session):
    with session("stepping") as gdb:
        gdb.run_to("outer")
        gdb.cmd("kwatch pair.a if 0")
        gdb.python(
            "import gdb\n"
            "class Finish(gdb.FinishBreakpoint):\n"
            "    def stop(self):\n"
            "        print('returned', self.return_value)\n"
            "        return True\n"
            "Finish(internal=True)\n"
        )
        out = gdb.cont()
        assert re.search(r"returned 2", out)
        assert "watchpoint" not in out


def test_hidden_watchpoints_deleted_in_the_middle_of_a_script(session):
    """What the script does next, before the prompt where they are made again, works."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("watch s.a")
        gdb.cmd("rwatch s.b")
        out = gdb.script(
            "python\n"
            "for bp in getattr(gdb.breakpoints, '__wrapped__', gdb.breakpoints)():\n"
            "    if bp.number < 0:\n"
            "        bp.delete()\n"
            "end\n"
            "watch s.c\n"
            "kwatch s.d\n"
            "disable 3\n"
            "enable 3\n"
            "delete 3\n"
        )
        assert "another script has deleted kwatch's hidden watchpoints" in out
        assert "Hardware watchpoint 4: s.c\nHardware watchpoint 5: s.d\n" in out
        assert gdb.cmd("kwatch doctor -traceback") == "No internal fault in this session.\n"
        assert "internal fault" not in gdb.transcript.replace("No internal fault", "")
        gdb.run_out()
        assert max(len(trap["hits"]) for trap in gdb.hits()) == 3
