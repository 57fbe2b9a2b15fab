"""kwatch -log, -do, -from and -not-from."""

from __future__ import annotations

import re

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()


def test_a_message_for_each_hit_and_no_stop(session):
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{expression} {old}->{new} by {thread} at {line} in {function}" a')
        out = gdb.cont()
        expected = [f"a {n}->{n + 1} by 1 at loop.c:6 in hit" for n in range(10)]
        assert re.findall(r"^a \d.*$", out, re.M) == expected
        assert "exited normally" in out
        assert 'a (-log "{expression} {old}->{new} by' in gdb.cmd("kwatch list")


@pytest.mark.parametrize("options", ["", "-k"])
def test_hits_that_are_ignored_have_no_message(session, options):
    if options and REFUSED:
        pytest.skip(REFUSED)
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd(f'kwatch {options} -log "{{old}}->{{new}}" a if a % 2')
        gdb.cmd("ignore 2 3")
        out = gdb.cont()
        assert re.findall(r"^\d+->\d+$", out, re.M) == ["6->7", "8->9"]
        assert "exited normally" in out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "v {new:d}",
            "{new:d} cannot be filled in: Unknown format code",
        ),
        ("{line:x}", "{line:x} cannot be filled in: Unknown format code 'x'"),
        ("{new.x}", "there is no {new.x}; there are old, new, thread"),
        ("{new[0]}", "there is no {new[0]}; there are old"),
        ("{}", "there is no {}; there are old"),
        ("{0}", "there is no {0}; there are old"),
        ("{old!z}", "{old!z} cannot be filled in: Unknown conversion specifier"),
        ("{new:{width}}", "{new:{width}} cannot be filled in: there is no {width}."),
        ("{new:{}}", "{new:{}} cannot be filled in: {} has no name."),
        ("{new", "expected '}' before end of string"),
    ],
)
def test_a_message_that_cannot_be_filled_in(session, text, why):
    with session("loop") as gdb:
        gdb.run_to("main")
        assert gdb.cmd(f'kwatch -log "{text}" a').startswith(f"-log: {why}")
        assert gdb.cmd("info watchpoints") == "No watchpoints.\n"


def test_a_message_is_formatted_as_python_does(session):
    with session("loop", extra=("-ex", "set args 2")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{old!r} {new:>3} {thread:02d} {number:x} {{}}" a')
        out = gdb.cont()
        assert "'0'   1 01 2 {}\n'1'   2 01 2 {}\n" in out and "exited normally" in out


def test_a_message_that_fails_at_a_hit_is_told_once_and_stops_nothing(session):
    """The value is a width here, and a width has no sign."""
    with session("who") as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd('kwatch -log "is {thread:0{new}}." shared if shared < 3')
        out = gdb.cont()
        assert "exited normally" in out
        assert re.findall(r"^is .*$", out, re.M)[:2] == ["is 1.", "is 01."]
        assert out.count("-log: not written: ") == 1
        assert re.search(r"^kwatch \d: -log: not written: Invalid format specifier", out, re.M)


def test_a_message_where_a_condition_holds(session):
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{new}" a if a % 4 == 0')
        assert re.findall(r"^(\d+)$", gdb.cont(), re.M) == ["4", "8"]


def logged(gdb, out):
    """The messages "NUMBER OLD->NEW" of what was printed; they are those of `kwatch hits`."""
    found = re.findall(r"^(\d+) (\S+)->(\S+)$", out, re.M)
    hits = [hit for trap in gdb.hits() for hit in trap["hits"]]
    known = [(str(h["number"]), h["old"], h["new"]) for h in hits]
    assert [row for row in known if row in found][-len(found) :] == found
    return found


@pytest.mark.parametrize("option", ["", "-k "])
def test_the_old_value_of_a_message_in_the_next_run(session, option):
    if option and REFUSED:
        pytest.skip(REFUSED)
    with session("loop", extra=("-ex", "set args 2")) as gdb:
        gdb.run_to("main")
        gdb.cmd(f'kwatch {option}-log "{{number}} {{old}}->{{new}}" a')
        assert logged(gdb, gdb.cont()) == [("2", "0", "1"), ("2", "1", "2")]
        gdb.run_to("main")
        assert logged(gdb, gdb.cont()) == [("2", "0", "1"), ("2", "1", "2")]


def test_the_old_value_of_a_message_after_other_changes(session):
    """By the user, while it was disabled, and by code that is left out."""
    with session("loop", extra=("-ex", "set args 9")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{number} {old}->{new}" a')
        gdb.cmd("set var a = 70")
        gdb.cmd("tbreak hit if i == 3")
        assert logged(gdb, gdb.cont()) == [("2", "70", "1"), ("2", "1", "2")]
        gdb.cmd("disable 2")
        gdb.cmd("tbreak hit if i == 6")
        assert logged(gdb, gdb.cont()) == []
        gdb.cmd("enable 2")
        gdb.cmd('kwatch -log "{number} {old}->{new}" a if a == 8')
        out = gdb.cont()
        expected = [("2", "5", "6"), ("2", "6", "7"), ("2", "7", "8"), ("5", "7", "8")]
        assert logged(gdb, out) == [*expected, ("2", "8", "9")]


def test_the_old_values_of_messages_of_one_instruction(session):
    """Where gdb looks at one of them only, and where nothing has changed."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for command in ("s.a", "-r s.b", "-a s.c", "-every s.d", "s.a"):
            gdb.cmd(f'kwatch -log "{{number}} {{old}}->{{new}}" {command}')
        first, second = (
            [(2, old, new), (3, 0, 0), (4, old, new), (5, 0, 0), (6, old, new)]
            for old, new in ((0, 1), (1, 2))
        )
        told = re.findall(r"^(\d+) (\d+)->(\d+)$", gdb.cont(), re.M)
        found = [tuple(map(int, row)) for row in told]
        assert sorted(found[:5]) == first
        assert sorted(found[5:10]) == second
        assert sorted(found[10:]) == [(3, 0, 0), (4, 2, 2), (5, 0, 0)]


def test_the_values_of_a_message_where_the_place_moves(session):
    with session("pointer_moves") as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -log "{number} {old}->{new}" head->key')
        expected = [("2", "1", "5"), ("2", "5", "2"), ("2", "2", "7")]
        assert logged(gdb, gdb.cont()) == expected


@pytest.mark.parametrize("in_kernel", [True, False])
def test_commands_at_a_hit_and_on(session, in_kernel):
    if in_kernel and REFUSED:
        pytest.skip(REFUSED)
    with session("loop", extra=("-ex", "set args 10"), kernel_conditions=in_kernel) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -do "bt 1; printf \\"a is %ld\\\\n\\", a" a if a % 5 == 0')
        out = gdb.cont()
        if "exited normally" not in out:
            out += gdb.cmd("echo")
        assert out.count("#0 ") == 2
        assert re.findall(r"^a is (\d+)$", out, re.M) == ["5", "10"]


@pytest.mark.parametrize("in_kernel", [True, False])
def test_expected_writers_left_out(session, in_kernel):
    if in_kernel and REFUSED:
        pytest.skip(REFUSED)
    with session("who", kernel_conditions=in_kernel) as gdb:
        gdb.run_to(f"who.c:{line('who.c', 'begin')}")
        gdb.cmd("kwatch -not-from first -not-from third shared")
        gdb.cmd("kwatch -from libwho shared if shared == 7")
        if in_kernel:
            assert {row["judged"] for row in gdb.list().values()} == {"in kernel"}
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "second"
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "second"
        gdb.cmd("delete 2")
        gdb.cont()
        assert gdb.stops()[-1]["function"] == "write_through"
        assert gdb.value("shared") == "7"


def test_no_name_of_code_is_called_at_a_hit(session):
    with session("operators") as gdb:
        gdb.cmd("kwatch -from place() z")
        gdb.cmd("kwatch -not-from (place)() z")
        gdb.cmd("run")
        assert gdb.stops()[-1]["function"] == "go(long)"
        assert gdb.value("calls") == "0"


SAVED = [
    r'kwatch -log "say \"{new}\"" a if a % 4 == 0',
    'kwatch -k -log "in call or not {new}" a',
    "kwatch -not-from hit -- a if a == 9",
    "kwatch -from hit a if a == 3",
]


@pytest.mark.parametrize("command", SAVED)
@pytest.mark.parametrize("by", ["kwatch save", "save breakpoints"])
@pytest.mark.parametrize("in_kernel", [True, False])
def test_saved_and_restored(session, command, by, in_kernel):
    """By `save breakpoints` one that gdb tests is gdb's own afterwards, with the condition only."""
    if REFUSED and (in_kernel or " -k " in command):
        pytest.skip(REFUSED)
    with session("loop", extra=("-ex", "set args 10"), kernel_conditions=in_kernel) as gdb:
        gdb.run_to("main")
        gdb.cmd(command)
        gdb.cmd("set language rust")
        row = gdb.list()[2]
        native = by != "kwatch save" and " -k " not in command and row["judged"] != "in kernel"
        assert row["condition"] == (command.partition(" if ")[2] or None)
        gdb.cmd(f"{by} {gdb.folder}/saved")
        before = gdb.cmd("kwatch list")
        gdb.cmd("delete")
        gdb.cmd("set language auto")
        gdb.cmd(f"source {gdb.folder}/saved")
        gdb.cmd("echo")
        (number,) = gdb.list()
        assert gdb.list()[number]["condition"] == row["condition"]
        options = re.findall(r"\(-(?:log|from|not-from) .*?\)", before)
        assert len(options) == 1
        assert (options[0] in gdb.cmd("kwatch list")) == (not native)
        out = gdb.cont()
    told = re.findall(r'^say "(.*)"$|^in call or not (.*)$', out, re.M)
    if " -log " in command and not native:
        assert [a or b for a, b in told] == (
            ["4", "8"] if "say" in command else [str(n) for n in range(1, 11)]
        )
        assert "exited normally" in out
    elif "-not-from" in command and not native:
        assert "exited normally" in out
    else:
        assert told == [] and "hit (" in out


@pytest.mark.parametrize("waits", [False, True])
def test_another_condition_leaves_the_message(session, waits):
    with session("loop", extra=("-ex", "set args 10")) as gdb:
        gdb.run_to("main")
        gdb.cmd('kwatch -p background -log "{new}" a if a == 4')
        if waits:
            gdb.cmd("kwatch -size 32 ((long) $sp & ~31)")
            assert gdb.list()[2]["state"] == "displaced"
        gdb.cmd("condition 2 a == 9")
        assert gdb.list()[2]["condition"] == "a == 9"
        assert gdb.cmd("condition 2 nothing_like_it") == (
            'No symbol "nothing_like_it" in current context.\n'
        )
        assert gdb.list()[2]["condition"] == "a == 9"
        if waits:
            assert gdb.list()[2]["state"] == "displaced"
            gdb.cmd("delete 3")
        assert re.findall(r"^(\d+)$", gdb.cont(), re.M) == ["9"]
        gdb.run_to("main")
        assert gdb.cmd("condition 2") == "Breakpoint 2 now unconditional.\n"
        assert gdb.list()[2]["condition"] is None
        assert len(re.findall(r"^\d+$", gdb.cont(), re.M)) == 10


def test_what_cannot_be_had(session):
    with session("loop") as gdb:
        gdb.run_to("main")
        assert "there is no {nothing}" in gdb.cmd('kwatch -log "{nothing}" a')
        assert "-log:" in gdb.cmd('kwatch -log "{" a')
        assert "is no function" in gdb.cmd("kwatch -from nothing_like_it a")
        assert "-log requires" in gdb.cmd("kwatch -log")
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


def test_commands_of_one_for_one_stop_and_another_language(session):
    """gdb deletes it after the stop event, with its commands still to come: another one then gets
    its slots, and gdb is told nothing that would run them before their time."""
    with session("churn") as gdb:
        gdb.run_to("poke")
        gdb.cmd('kwatch -t -do "bt 1" *heap + beta')
        assert "waits for a slot" in gdb.cmd("kwatch -r s.a + s.b if 0")
        gdb.cmd("tbreak poke")
        gdb.cmd("set language rust")
        out = gdb.cont()
        assert out.count("Hardware watchpoint 2: *heap + beta") == 1
        if "Temporary breakpoint 4, poke" not in out:
            out += gdb.cmd("echo")
        assert out.count("#0  ") == 1, out
        assert "Temporary breakpoint 4, poke" in out
        assert {n: row["state"] for n, row in gdb.list().items()} == {3: "installed"}


# What is asked for, its stops, and its hits: of 13 writes by the one and 4 by the other.
WRITERS = [
    ("-from use x", [(40, 41), (81, 82), (92, 82)], 4),
    ("-not-from allocate x", [(40, 41), (81, 82), (92, 82)], 4),
    ("-every -from use x", [(40, 41), (81, 82), (82, 82), (92, 82)], 4),
    ("-a -from use x", [(40, 41), (81, 82), (82, 82), (92, 82)], 4),
    ("-from use x if x == 82", [(81, 82), (92, 82)], 4),
    ("-from use x if x > 1000", [], 4),
    ("-from use -every x if x == 82", [(81, 82), (82, 82), (92, 82)], 4),
    ("-from allocate x if x > 70", [(61, 71), (71, 81), (82, 92)], 9),
    ("-not-from use x if x > 70", [(61, 71), (71, 81), (82, 92)], 9),
]


@pytest.mark.parametrize(
    ("by", "line_", "stops", "hits"),
    [("kernel", "-from allocate x if x > 70 thread 1", [(82, 92)], 5)]
    + [(by, *row) for by in ("kernel", "gdb") for row in WRITERS]
    + [(by, *WRITERS[n]) for by in ("kernel, before run", "gdb, before run", "-k") for n in (0, 4)],
)
def test_what_is_left_out_is_no_hit_and_moves_the_value(session, by, line_, stops, hits):
    if REFUSED and by[:3] != "gdb":
        pytest.skip(REFUSED)
    early = "before" in by
    with session("two_writers", kernel_conditions=by[:3] != "gdb") as gdb:
        if not early:
            gdb.run_to("main")
        gdb.cmd(f"kwatch {'-k ' if by == '-k' else ''}{line_}")
        (number,) = gdb.list()
        found = []
        out = gdb.cmd("run") if early else gdb.cont()
        assert (gdb.list()[number]["judged"] == "in kernel") == by.startswith("kernel")
        while "exited normally" not in out:
            found.append(re.search(r"x +(?:perf|DR\d) +\w+ +(\d+) +(\w+)$", out, re.M).groups())
            assert len(found) <= len(stops)
            out = gdb.cont()
        as_shown = [(f"{old}", "unchanged" if new == old else f"{new}") for old, new in stops]
        assert found == as_shown
        assert gdb.list()[number]["hits"] == hits
        assert len(gdb.hits()) == (len(stops) if by.startswith("kernel") else hits)


def test_code_that_comes_with_a_library_counts_from_then_on(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("who") as gdb:
        assert "libwho is no function here" in gdb.cmd("kwatch -from libwho shared")
        gdb.cmd("kwatch -from nothing_like_it shared")
        assert "no function here" not in gdb.cmd("kwatch -from first out")
        gdb.cmd("run")
        assert gdb.stops()[-1]["function"] == "write_through"
        judged = [row["judged"] for row in gdb.list().values()]
        assert judged[0] == "in kernel"
        assert judged[1] == "in kernel; nothing_like_it is no code of this program yet"


@pytest.mark.parametrize("by", ["kernel", "gdb", "-k"])
@pytest.mark.parametrize("options", ["", "-every"])
def test_the_writes_of_other_threads_move_the_value_of_one_for_a_thread(session, by, options):
    if REFUSED and by != "gdb":
        pytest.skip(REFUSED)
    with session("value_of_another_thread", kernel_conditions=by == "kernel") as gdb:
        gdb.run_to("main")
        gdb.cmd(f"kwatch {'-k ' if by == '-k' else ''}{options} x thread 1 if x >= 0")
        stops = [(0, 1), (2, 1), (3, 3)][: 3 if options else 2]
        assert (gdb.list()[2]["judged"] == "in kernel") == (by == "kernel")
        for old, new in stops:
            out = gdb.cont()
            new = new if old != new else "unchanged"
            assert re.search(rf"x +(?:perf|DR\d) +\w+ +{old} +{new}$", out, re.M), out
        gdb.cmd("break exit")
        assert "hit Breakpoint" in gdb.cont()
        assert len([t for t in gdb.hits() if t["stopped"]]) == len(stops)
        if by != "gdb":
            assert gdb.list()[2]["hits"] == 3
