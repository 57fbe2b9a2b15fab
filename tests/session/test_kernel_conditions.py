"""Conditions that the kernel tests: the same answers as gdb's, and no stop for a false one."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
NOBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
CASES = 100 if os.environ.get("KWATCH_EMULATED") else 2000


def judged(gdb, number: int = 2) -> str:
    return gdb.list()[number]["judged"]


def loop(session, writes: int):
    return session("loop", extra=("-ex", f"set args {writes}"))


def past_lost_marks(gdb) -> tuple[str, int]:
    """Goes on to the next stop by a hit; how many of the program's writes have ended in a plain
    SIGTRAP before it: a virtual machine under load has lost their marks in DR6 (lost_traps.py),
    about once in 300,000 hits, so that no debugger's condition is asked."""
    for lost in range(5):
        out = gdb.cont(timeout=120)
        if "Program received signal SIGTRAP" not in out:
            return out, lost
        assert re.search(r"hit \(i=(i@entry=)?\d+\)", out)
        assert gdb.value("$_siginfo.si_code") == "1", "TRAP_BRKPT"
    raise AssertionError("too many")


def test_one_stop_in_100_000_writes_and_all_are_counted(session):
    with loop(session, 100_000) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a == 99997")
        assert "condition in kernel" in gdb.cmd("kwatch list")
        out, lost = past_lost_marks(gdb)
        assert re.search(r"^Hardware watchpoint 2: a +perf +write +99996 +99997", out, re.M)
        assert re.search(r"hit \(i=(i@entry=)?99997\)", out)
        assert gdb.value("a") == "99997"
        assert "exited normally" in gdb.cont(timeout=60)  # 2 writes
        assert gdb.list()[2]["hits"] == 100_000 - lost
        counts = [len(trap["hits"]) for trap in gdb.hits()]
        assert counts in [[1] * (1 + more) for more in range(lost + 1)]


@pytest.mark.parametrize(
    ("name", "extra"),
    [("loop", ()), ("loop_no_pie", ()), ("loop", ("-iex", "set disable-randomization off"))],
    ids=["PIE", "non-PIE", "PIE with ASLR"],
)
def test_set_before_run_it_is_tested_in_the_kernel(session, name, extra):
    with session(name, extra=(*extra, "-ex", "set args 2000")) as gdb:
        assert "Hardware watchpoint 1: a" in gdb.cmd("kwatch a if a == 1997")
        assert judged(gdb, 1) == "in kernel"
        assert gdb.list()[1]["state"] == "pending"
        for _ in range(2):  # a rerun too
            out = gdb.cmd("run")
            assert re.search(r"^Hardware watchpoint 1: a +perf +write +1996 +1997", out, re.M)
            assert judged(gdb, 1) == "in kernel"
            assert "exited normally" in gdb.cont()
            assert gdb.list()[1]["hits"] % 2000 == 0
            assert len(gdb.hits()) <= 2


def test_set_before_run_what_the_kernel_cannot_test_is_a_watchpoint(session):
    with session("loop", extra=("-ex", "set args 20")) as gdb:
        gdb.cmd("kwatch a if hit(a) == 3")
        gdb.cmd("kwatch b if a * 1.5 > 9 && b >= 0")
        shown = gdb.cmd("info breakpoints")
        assert shown.count("hw watchpoint") == 2
        assert "catchpoint" not in shown


# What 2,000 random conditions must have had in them, each so often at least.
HAD = {
    **{f"watched {name}": 30 for name in ("i8", "u16", "flag", "color", "pointer", "bits.mid")},
    **{f"Watched {s} {n}": 50 for s in ("signed", "unsigned") for n in (8, 16, 32, 64)},
    **{f"Load {s} {n}": 100 for s in ("signed", "unsigned") for n in (8, 16, 32, 64)},
    **{f"Convert {s} {n}": 40 for s in ("signed", "unsigned") for n in (8, 16, 32, 64)},
    **{
        f"{operator} {s} {n}": 10
        for operator in ("*", "/", "%", "+", "-", "<<", ">>", "&", "|", "^", "<", ">=", "==", "!=")
        for s in ("signed", "unsigned")
        for n in (32, 64)
    },
    **dict.fromkeys(("&&", "||", "Choose", "Not", "Sequence", "CpuRegister", "ThreadId"), 30),
    "Bits signed 32": 100,
    "Bits unsigned 64": 30,
}


def random_conditions(gdb, cases: int, seed: int):
    """What each answer of gdb's was given how often, what the conditions had in them, and the
    differences."""
    gdb.cmd("break stopped")
    gdb.cmd("commands 1\nsilent\nend")
    gdb.cmd("run")
    gdb.cmd(f"python CASES, SEED = {cases}, {seed}")
    out = gdb.cmd(f"source {Path(__file__).parent}/random_conditions.py", timeout=200)
    found = re.search(r"^cases (\d+) differences (\d+) (.*)$", out, re.M)
    assert found and int(found.group(1)) == cases, out[-2000:]
    had = re.findall(r"([^:]+): (\d+)(?:, |$)", re.search(r"^had (.*)$", out, re.M).group(1))
    differences = re.findall(r"^case .*", out, re.M)
    assert len(differences) == int(found.group(2))
    return found.group(3), {name: int(count) for name, count in had}, differences


@pytest.mark.parametrize("seed", [20261123])
def test_the_kernel_answers_as_gdb_does(session, seed):
    print(f"seed {seed}")
    with session("conditions") as gdb:
        answers, had, differences = random_conditions(gdb, CASES, seed)
        assert not differences, "\n".join(differences)
        for kind in ("true", "false", "Division", "memory"):
            assert int(re.search(rf"'{kind}': (\d+)", answers).group(1)) >= CASES // 100
        rare = {name: had.get(name, 0) for name, least in HAD.items() if had.get(name, 0) < least}
        if not gdb.evaluate("hasattr(gdb, 'BreakpointLocation')"):  # shifts: gdb 13 and later
            rare = {name: count for name, count in rare.items() if name[:2] not in ("<<", ">>")}
        assert CASES < 2000 or not rare, (
            "each kind of value and each operator was tried often enough"
        )
        # Only a gdb that cuts numbers wrongly is asked at the access itself.
        wrong = gdb.value("(unsigned char) -257").split()[0] != "255"
        assert wrong or not had.get("left to gdb at the access")
        assert had["deepest"] > 10


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("hit(a) == 3", "in gdb: it calls a function"),
        ("a * 1.5 > 3", "in gdb: "),
        ('$_streq("a", "b")', "in gdb: "),
        ('$_gdb_setting("width") == a', "in gdb: "),
        ("a > 3", "in kernel"),
        ("$new - $old > 1", "in kernel"),
        ("$_thread == 1 && a == 3", "in kernel"),
        ("b + c == 0 && a == 3", "in kernel"),
    ],
)
def test_the_list_says_who_tests_it(session, condition, why):
    with loop(session, 10) as gdb:
        gdb.run_to("main")
        gdb.cmd(f"kwatch a if {condition}")
        assert judged(gdb).startswith(why)
        if why != "in kernel":
            assert f"condition {why}" in gdb.cmd("kwatch list")
            assert "hw watchpoint" in gdb.cmd("info breakpoints")


@pytest.mark.parametrize(
    "condition",
    [
        " || ".join(f"a == {1000 + n}" for n in range(199)) + " || a == 7",
        " && ".join(f"b + {n} != 0" for n in range(1, 200)) + " && a == 7",
        " + ".join(["c"] * 200) + " == 0 && a == 7",
        "".join(f"a == {n} + 1000 ? {n} : " for n in range(199)) + "a == 7",
        "(" * 40 + "a" + " + 1)" * 40 + " == 47",
        "a == 7 + " + "(c + " * 40 + "0" + ")" * 40,
    ],
    ids=["or", "and of memory", "sum", "?:", "nested left", "nested right"],
)
def test_two_hundred_terms(session, condition):
    with loop(session, 10) as gdb:
        gdb.run_to("main")
        gdb.script(f"kwatch a if {condition}\n")
        assert judged(gdb) == "in kernel"
        gdb.cont()
        assert gdb.value("a") == "7"


def test_a_local_in_the_condition_is_gdbs(session):
    """In another frame its name is another one's."""
    with session("local_scope", kernel_conditions=True) as gdb:
        gdb.run_to(f"local_scope.c:{line('local_scope.c', 'local changes')}")
        gdb.cmd("kwatch -l local if local == 5")
        assert judged(gdb, 2) == "in gdb: local is a local variable; $new is the watched value"
        gdb.cmd("kwatch -l local if $new == 5")
        assert judged(gdb, 3) == "in kernel"


def test_a_member_of_this_is_gdbs(session):
    with session("users_conditions_cpp", kernel_conditions=True) as gdb:
        gdb.run_to("Derived::set")
        for condition, why in (
            ("value == 5", "value is a member of this"),
            ("this->value == 5", "this is a local variable"),
        ):
            gdb.cmd(f"kwatch x if {condition}")
            assert list(gdb.list().values())[-1]["judged"] == f"in gdb: {why}"


def test_off_and_auto(session):
    with loop(session, 10) as gdb:
        assert "is auto" in gdb.cmd("show kwatch kernel-conditions")
        gdb.run_to("main")
        gdb.cmd("set kwatch kernel-conditions off")
        gdb.cmd("kwatch a if a == 3")
        assert judged(gdb) == "in gdb: set kwatch kernel-conditions is off"
        gdb.cmd("delete")
        gdb.cmd("set kwatch kernel-conditions auto")
        gdb.cmd("kwatch a if a == 3")
        assert judged(gdb, 3) == "in kernel"
        gdb.cmd("set kwatch kernel-conditions off")
        assert judged(gdb, 3).startswith("in gdb")
        assert "3" in gdb.cont()
        assert gdb.value("a") == "3"


def test_what_gdb_could_not_evaluate_stops_with_its_words(session):
    with loop(session, 20) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if 100 / (a - 7) == 1000")
        out = gdb.cont()
        assert "Error in testing condition for breakpoint 2:\nDivision by zero" in out
        assert gdb.value("a") == "7"
        gdb.cmd("condition 2 *(int *) (a - 9 ? &b : 0) == 77")
        out = gdb.cont()
        assert gdb.value("a") == "9" or "in gdb" in judged(gdb)


# What is not there yet: pages of .bss and of constants, which are brought in, and of a mapping.
NOT_THERE = [
    ("level > 3", None),
    ("big[x * 3] == 1", 95000),
    ("table[7000 * (x / 1000)] == 9", 100000),
    ("fresh[x * 3] == 1", 95000),
    ("fresh[x * 3] == level + 1", 95000),
    ("*(&level + x % 8000) == 1", None),
]


@pytest.mark.parametrize("running", [True, False], ids=["in the program", "before run"])
@pytest.mark.parametrize(("condition", "stop"), NOT_THERE)
def test_memory_that_is_not_there_yet(session, condition, stop, running):
    """BPF reads no page that the program has not touched: gdb's answer is got all the same.  Where
    the write is made another `level` hides the one that is meant."""
    with session("memory_not_there") as gdb:
        if running:
            gdb.run_to("main")
        gdb.cmd(f"kwatch x if {condition}")
        (number,) = gdb.list()
        out = gdb.cont() if running else gdb.cmd("run")
        assert judged(gdb, number) == "in kernel"
        if stop:
            assert re.search(rf"x +perf +write +{stop - 1000} +{stop}$", out, re.M)
            out = gdb.cont()
        assert "Cannot access" not in out
        assert "exited normally" in out
        assert gdb.list()[number]["hits"] == 100
        assert len(gdb.hits()) == bool(stop)


def test_memory_that_is_not_there_yet_and_an_ignored_hit(session):
    """Neither a false one nor one that gdb was asked about spends the ignore count twice."""
    with session("memory_not_there") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch x if fresh[x * 3] == 0 && $new - $old == 1000 && x > 10000")
        gdb.cmd("ignore 2 5")
        gdb.cont()
        assert gdb.value("x") == "16000"
        assert "already hit 6 times" in gdb.cmd("info breakpoints")


def test_memory_that_is_never_there_is_told_in_gdbs_words(session):
    with session("memory_not_there") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch x if fresh[x * 100] == 1")
        out = gdb.cont()
        assert (
            "Error in testing condition for breakpoint 2:\nCannot access memory at address" in out
        )
        assert gdb.value("x > 10000") == "1"
        with_gdb = gdb.cmd("print fresh[x * 100]")
        assert with_gdb.split("at address ")[1].strip() in out


def test_gdbs_own_commands_work_on_it(session):
    with loop(session, 50) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a % 10 == 0")
        gdb.cmd("ignore 2 1")
        gdb.cmd("commands 2\necho said\\n\nend")
        out = gdb.cont()
        assert "said" in out
        assert gdb.value("a") == "20"
        gdb.cmd("condition 2 a == 25")
        assert judged(gdb) == "in kernel"
        gdb.cont()
        assert gdb.value("a") == "25"
        gdb.cmd("disable 2")
        gdb.go_to("hit if i == 35")
        gdb.cmd("enable 2")
        gdb.cmd("condition 2 a == 37")
        gdb.cont()
        assert gdb.value("a") == "37"
        gdb.cmd("delete 2")
        assert gdb.json("kwatch slots")[0]["perf"] == []
        assert "exited normally" in gdb.cont()


def test_a_write_of_the_same_value_is_none(session):
    """The rule of plain watchpoints runs in the kernel; what the user writes is no change."""
    with loop(session, 50) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a > 9")
        gdb.cont()
        assert gdb.value("a") == "10"
        gdb.cmd("set var a = 11")
        gdb.cont()
        assert gdb.value("a") == "12", "the program wrote 11 over the user's 11"


def test_new_and_old_need_the_kernel(session):
    with loop(session, 10) as gdb:
        gdb.run_to("main")
        out = gdb.cmd("kwatch a if $old == 1 && hit(3)")
        assert "$old and $new are for conditions that the kernel tests" in out
        gdb.cmd("kwatch a if $old == 6")
        gdb.cont()
        assert gdb.value("a") == "7"


def test_every_thread_and_those_to_come(session):
    with session("trace") as gdb:
        gdb.cmd("set args 50")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        # One write or the other may be overwritten by another thread before it is read.
        gdb.cmd("kwatch place if place / 1000000 % 2 == 1 && place % 1000000 >= 40")
        stops = gdb.run_out()
        news = [int(hit["new"]) for t in gdb.stops() for hit in t["hits"]]
        assert len(stops) == len(news)
        assert {new // 1000000 for new in news} == {1, 3}
        assert all(new % 1000000 >= 40 for new in news)
        assert gdb.list()[2]["hits"] == 4 * (50 + 25 + 13)


def test_a_thread_by_number_is_known_before_it_runs(session):
    with session("trace", kernel_conditions=True) as gdb:
        gdb.cmd("set args 20")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd("kwatch -every place if $_thread == 3")
        gdb.run_out()
        assert [t["thread"] for t in gdb.stops()] == [3] * (20 + 10 + 5)
        if not os.environ.get("KWATCH_EMULATED"):  # there, Linux 5.10 has told of others as well
            assert len(gdb.hits()) == len(gdb.stops()), "gdb was not asked"
        assert gdb.list()[2]["hits"] == 4 * (20 + 10 + 5)


def test_of_more_threads_than_the_kernel_knows_gdb_is_asked(session):
    with session("threads_200", kernel_conditions=True) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch place if $_thread == 3")
        gdb.cmd("kwatch -every place if $_thread == 139 && $new == 137")
        assert judged(gdb) == judged(gdb, 3) == "in kernel"
        gdb.cont()
        (trap,) = gdb.stops()
        assert trap["thread"] == 139
        assert "exited normally" in gdb.cont()


def test_a_rerun_starts_afresh(session):
    with loop(session, 20) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a == 5")
        gdb.cont()
        assert gdb.value("a") == "5"
        gdb.run_to("main")
        assert gdb.value("a") == "0"
        gdb.cont()
        assert gdb.value("a") == "5"


def test_saved_and_restored(session):
    with loop(session, 20) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a == 5")
        gdb.cmd(f"kwatch save {gdb.folder}/saved")
        gdb.cmd("delete")
        gdb.cmd(f"source {gdb.folder}/saved")
        assert gdb.list()[3]["condition"] == "a == 5"
        gdb.cont()
        assert gdb.value("a") == "5"


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes capabilities away")
def test_without_rights_gdb_tests_it(session):
    with session("loop", extra=("-ex", "set args 20"), before=NOBODY) as gdb:
        gdb.run_to("main")
        assert "Hardware watchpoint 2: a" in gdb.cmd("kwatch a if a == 5")
        assert re.search(r"in gdb: .*CAP_(BPF|PERFMON)", judged(gdb))
        gdb.cont()
        assert gdb.value("a") == "5"


@pytest.mark.skipif(not shutil.which("gdbserver"), reason="gdbserver is not installed")
def test_behind_a_remote_target_gdb_tests_it(session, program):
    with session(None) as gdb:
        path = program("loop")
        gdb.cmd(f"file {path}")
        gdb.cmd(f"target extended-remote | gdbserver --once - {path} 20")
        gdb.cmd("tbreak main")
        gdb.cont()
        gdb.cmd("kwatch a if a == 5")
        assert judged(gdb).startswith("in gdb: the program is not a process of this system")
        assert "remote" in gdb.cmd("kwatch who a")
        gdb.cont()
        assert gdb.value("a") == "5"


@pytest.mark.skipif(not shutil.which("gdbserver"), reason="gdbserver is not installed")
def test_set_before_a_remote_target_it_is_handed_to_gdb(session, program):
    with session("loop") as gdb:
        gdb.cmd("kwatch a if a == 5")
        gdb.cmd("commands 1\necho said\\n\nend")
        gdb.cmd("ignore 1 0")
        assert judged(gdb, 1) == "in kernel"
        out = gdb.cmd(f"target extended-remote | gdbserver --once - {program('loop')} 20")
        gdb.cmd("tbreak main")
        gdb.cont()
        assert re.search(r"kwatch 1 is kwatch \d+ now, and gdb tests its condition: ", out)
        (row,) = gdb.list().values()
        assert row["judged"].startswith("in gdb: the program is not a process of this system")
        assert "said" in gdb.cont()
        assert gdb.value("a") == "5"


@pytest.mark.parametrize("options", ["", "-t "])
def test_where_perf_is_lost_before_the_run_gdb_tests_it(session, options):
    """Both signals are handled by the program, say; here perf_event_open fails."""
    with session("loop", extra=("-ex", "set args 20")) as gdb:
        gdb.cmd(f"kwatch {options}a if a == 5")
        gdb.cmd("ignore 1 0")
        gdb.python(
            "from gdb_kwatch.linux import perf_event\n"
            "perf_event._open = lambda *args: -28\n"  # ENOSPC
        )
        out = gdb.cmd("run")
        assert "kwatch 1 is kwatch 2 now, and gdb tests its condition: " in out
        assert gdb.value("a") == "5"
        assert "in gdb: " in out or options or judged(gdb, 2).startswith("in gdb: ")
        assert "exited normally" in gdb.cont()


@pytest.mark.parametrize("every", [False, True])
def test_one_instruction_for_ptrace_and_for_the_kernel_is_one_stop(session, every):
    """As with gdb's own testing: a false condition is listed, and does not stop."""
    told = {}
    for in_kernel in (True, False):
        with session("simultaneous", kernel_conditions=in_kernel) as gdb:
            gdb.run_to("main")
            gdb.cmd("kwatch s.a")
            gdb.cmd(f"kwatch {'-every' if every else ''} s.b if s.b >= 0")
            gdb.cmd("rwatch s.c")
            gdb.cmd("kwatch s.d if s.d == 12345")
            assert (judged(gdb, 3) == judged(gdb, 5) == "in kernel") == in_kernel
            stops = gdb.run_out()
            blocks = [out.count("hit by one instruction") for out in stops]
            assert blocks[:2] == [1, 1]
            # At the last store nothing changes: gdb alone tells of its own rwatch.
            assert blocks[2:] == [1 if every or not in_kernel else 0]
            told[in_kernel] = [
                [(h["number"], h["old"], h["new"], h["stop"]) for h in trap["hits"]]
                for trap in gdb.stops()
            ]
            assert len(stops) == len(gdb.stops())
    assert told[True] == told[False]


def test_the_signal_is_taken_at_the_instruction_so_no_call_ends_early(session):
    with session("call_after_store") as gdb:
        gdb.cmd("kwatch place if place > 0")
        gdb.cmd("commands 1\nsilent\ncontinue\nend")
        out = gdb.cmd("run", timeout=60)
        while "exited" not in out:
            out = gdb.cmd("echo\\n")
        assert "exited with code 050]" in out, "40 and the number of calls that ended early"
        assert gdb.list()[1]["hits"] == 200


def test_gdbs_own_saving_keeps_all_of_it(session):
    with loop(session, 50) as gdb:
        if not gdb.evaluate("hasattr(gdb, 'BP_CATCHPOINT')"):
            pytest.skip("gdb 10 tells Python of no catchpoint")
        gdb.run_to("main")
        gdb.cmd("kwatch -every -p native a if a % 10 == 0")
        gdb.cmd("kwatch -k b")
        gdb.cmd("ignore 2 1")
        gdb.cmd("commands 2\necho said\\n\nend")
        gdb.cmd("kwatch -t c if $old == 4")
        before = gdb.list()
        path = gdb.folder / "saved"
        gdb.cmd(f"save breakpoints {path}")
        assert "-every -p native a" in path.read_text()
        gdb.cmd("delete")
        gdb.cmd(f"source {path}")
        after = gdb.list()
        keys = ("expression", "condition", "judged", "priority", "access")
        for (_, one), (_, other) in zip(before.items(), after.items()):
            assert {k: one[k] for k in keys} == {k: other[k] for k in keys}
        assert "said" in gdb.cont()
        assert gdb.value("a") == "20"


def test_another_priority_keeps_the_condition(session):
    """Nothing is left to be told to gdb in a stop, where a command would run the commands of the
    breakpoint there (see tripwire.py): the next may be of a stepi that hits nothing."""
    with loop(session, 50) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch a if a % 10 == 0")
        gdb.cmd("commands 2\necho said\\n\nend")
        gdb.cmd("kwatch priority 2 200")
        assert '"-p 200 a", "a % 10 == 0")' in gdb.cmd("info breakpoints 2")
        gdb.cmd("stepi")
        row = gdb.list()[2]
        assert (row["priority"], row["condition"]) == (200, "a % 10 == 0")
        assert "said" in gdb.cont()
        assert gdb.value("a") == "10"


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_with_k_it_is_gdb_that_tests_whatever_is_set(session, mode):
    with loop(session, 10) as gdb:
        gdb.run_to("main")
        gdb.cmd(f"set kwatch kernel-conditions {mode}")
        gdb.cmd("kwatch -k a if a == 3")
        assert judged(gdb) == "in gdb: -k: a system call is judged when it is done"
        gdb.cont()
        assert gdb.value("a") == "3"


def test_a_temporary_one_goes_at_a_stop_that_ptrace_made(session):
    with session("condition_not_blamed") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch pair.a")
        gdb.cmd("kwatch -t pair.b if pair.b == -2")
        gdb.cmd("commands 3\necho of-b\\n\nend")
        stops = gdb.run_out()
        assert len(stops) == 6
        assert [out.count("of-b") for out in stops] == [0, 1, 0, 0, 0, 0]
        assert [h["number"] for t in gdb.stops() for h in t["hits"] if h["stop"]].count(3) == 1
        assert list(gdb.list()) == [2]


def test_why_gdb_tests_the_condition_of_one_that_had_to_wait(session):
    with session("users_conditions") as gdb:
        gdb.run_to("round_over")
        for place in ("x", "y", "step", "total"):
            gdb.cmd(f"kwatch {place} if {place} == 123456")
        assert "waits for a slot" in gdb.cmd("kwatch pointer if pointer == arr + 5")
        assert judged(gdb, 6) == "in gdb: no slot was free when it was set"
        assert gdb.cmd("delete 2") == "kwatch 6 installed\n"
        assert gdb.list()[6]["state"] == "installed"
        assert "no slot was free when it was set" in gdb.cmd("kwatch list")
        assert re.search(
            r"^Hardware watchpoint 6: pointer +DR0 +write .*<arr\+20>$", gdb.cont(), re.M
        )
