"""`kwatch trace`: exact totals by line and thread, in each of the ways to record; exports."""

from __future__ import annotations

import re
import shutil

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel
from gdb_kwatch.linux import perf_event

REFUSED = kernel.why_not()
NO_PERF = perf_event.why_not(kernel=False)
NOBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
WAYS = {"bpf": "in the kernel, with values", "ring": "without values", "stops": "slow"}


@pytest.fixture(params=list(WAYS))
def way(request):
    if request.param == "bpf" and REFUSED:
        pytest.skip(REFUSED)
    if request.param == "ring" and NO_PERF is not None:
        pytest.skip(str(NO_PERF))
    return request.param


def take_rights(gdb, way: str) -> None:
    if way == "bpf":
        return
    gdb.python(
        "from gdb_kwatch.linux import filters, perf_event\n"
        "filters.why_not = lambda kernel_too=False: 'BPF: refused for this test'\n"
    )
    if way == "stops":
        gdb.python(
            "from gdb_kwatch.linux import perf_event\n"
            "perf_event.why_not = lambda kernel=True: perf_event.PerfError(1, 'refused')\n"
        )


def begin(gdb, way: str, rounds: int = 200) -> None:
    gdb.cmd(f"set args {rounds}")
    gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
    gdb.cmd(f"break trace.c:{line('trace.c', 'end')}")
    take_rights(gdb, way)


def by_line(gdb) -> dict[int, int]:
    out = gdb.cmd("kwatch trace summary")
    return {
        int(number): int(count.replace(",", ""))
        for number, count in re.findall(r"^trace\.c:(\d+) +([\d,]+)", out, re.M)
    }


def own_counts(gdb) -> dict[int, int]:
    """What the program counted itself."""
    return {line("trace.c", f"line {x}"): int(gdb.value(f"count_{x}")) for x in "abc"}


def test_every_line_and_thread_is_exact(session, way):
    with session("trace") as gdb:
        begin(gdb, way)
        out = gdb.cmd("kwatch trace place")
        assert WAYS[way] in out
        assert "refused" in out or way == "bpf"
        gdb.cont()
        own = own_counts(gdb)
        assert by_line(gdb) == own
        total = sum(own.values())
        out = gdb.cmd("kwatch trace summary")
        assert f"{total:,} hits, {total:,} recorded, lost 0" in out
        threads = dict(re.findall(r"^(\d) +([\d,]+) +25\.0%", out, re.M))
        assert threads == {str(n): str(total // 4) for n in (2, 3, 4, 5)}
        assert "ended" not in out


def test_a_big_one_loses_nothing(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, "bpf", 28572)
        gdb.cmd("kwatch trace place")
        gdb.cont(timeout=120)
        own = own_counts(gdb)
        assert sum(own.values()) > 200_000
        assert by_line(gdb) == own
        assert "lost 0" in gdb.cmd("kwatch trace")


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_a_record_takes_little_memory(session):
    """A million must fit into 300 MB of gdb (tests/bench/run.py million makes one)."""
    with session("trace") as gdb:
        begin(gdb, "bpf", 5716)
        gdb.cmd("kwatch trace place")
        pid = gdb.evaluate("__import__('os').getpid()")
        path = f"/proc/{pid}/status"
        before = peak(path)
        gdb.cont(timeout=120)
        total = sum(own_counts(gdb).values())
        assert total > 40_000
        assert f"{total:,} hits" in gdb.cmd("kwatch trace summary")
        # 56 bytes in the store; the rest is what summing up takes, and the code loaded for it.
        assert peak(path) - before < 12_000 + 160 * total / 1024


def peak(status: str) -> int:
    """The most memory that a process ever had, in kilobytes."""
    with open(status) as lines:
        return next(int(text.split()[1]) for text in lines if text.startswith("VmHWM"))


def test_records_have_old_and_new_values(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, "bpf", 4)
        gdb.cmd("kwatch trace place -stack 4")
        gdb.cont()
        out = gdb.cmd("kwatch trace show -n 1000")
        rows = re.findall(
            r"^\d+\.\d+ +(\d) +trace\.c:(\d+) +writer +place +(-?\d+) +(\S+)", out, re.M
        )
        assert len(rows) == 4 * (4 + 2 + 1)
        news = [new for _, at, _, new in rows if int(at) == line("trace.c", "line a")]
        # Another thread may write before the value is read.
        own = {str(1000000 * thread + n) for thread in range(1, 5) for n in range(4)}
        assert len(news) == 16 and len(own & set(news)) >= 8
        at_c = line("trace.c", "line c")
        shown = gdb.cmd(f"kwatch trace show -line trace.c:{at_c} -thread 3")
        # "same" where another thread has written it just before.
        (new,) = [new for thread, at, _, new in rows if (int(thread), int(at)) == (3, at_c)]
        assert re.findall(r" (7|same)$", shown, re.M) == [new]
        assert "There are more than these 2" in gdb.cmd("kwatch trace show -n 2")


def test_code_left_out_a_condition_and_a_count(session, way):
    with session("trace") as gdb:
        begin(gdb, way, 40)
        gdb.cmd("kwatch trace place -not-from writer")
        gdb.cont()
        assert "0 recorded" in gdb.cmd("kwatch trace")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd("kwatch trace place if rounds == 41")
        gdb.cont()
        assert "280 hits, 0 recorded" in gdb.cmd("kwatch trace")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd("kwatch trace place if rounds == 40")
        gdb.cont()
        assert by_line(gdb) == own_counts(gdb)
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd("kwatch trace place -count 5")
        gdb.cont()
        assert "5 recorded" in gdb.cmd("kwatch trace")


def test_a_spilled_trace_and_a_limit(session, tmp_path):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, "bpf", 40)
        gdb.cmd(f"kwatch trace place -spill {tmp_path}/spilled")
        gdb.cont()
        assert by_line(gdb) == own_counts(gdb)
        assert (tmp_path / "spilled").stat().st_size == 280 * 56


def test_stop_and_go(session):
    """Ctrl-C or a breakpoint stops the program, not the trace."""
    if REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, "bpf", 40)
        gdb.cmd("kwatch trace place")
        gdb.cmd(f"tbreak trace.c:{line('trace.c', 'line c')}")
        gdb.cont()
        part = int(re.search(r"(\d+) recorded", gdb.cmd("kwatch trace")).group(1))
        assert 0 < part < 280
        gdb.cont()
        assert "280 recorded" in gdb.cmd("kwatch trace")
        assert "ended: stopped" in gdb.cmd("kwatch trace stop")
        gdb.cmd("kill")
        assert "280 recorded" in gdb.cmd("kwatch trace summary")


def test_the_program_ends_and_nothing_is_left(session, way):
    with session("trace") as gdb:
        begin(gdb, way, 40)
        gdb.cmd("delete")
        gdb.cmd("kwatch trace place")
        gdb.cont()
        out = gdb.cmd("kwatch trace summary")
        assert "280 recorded" in out
        assert "ended: the program has ended" in out
        left = gdb.evaluate(
            "[l for l in __import__('os').listdir('/proc/self/fd')"
            " if __import__('os').path.islink('/proc/self/fd/' + l)"
            " and 'inode:[perf' in __import__('os').readlink('/proc/self/fd/' + l)]"
        )
        assert left == []
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


def test_what_cannot_be_asked(session):
    with session("trace") as gdb:
        assert "There is no trace" in gdb.cmd("kwatch trace")
        assert "There is no trace" in gdb.cmd("kwatch trace summary")
        assert "not being run" in gdb.cmd("kwatch trace place")
        gdb.run_to("main")
        assert "No symbol" in gdb.cmd("kwatch trace nothing_like_it")
        assert gdb.cmd("kwatch trace *(long*)0") == "Cannot access memory at address 0x0\n"
        assert "No hardware slot free" in gdb.cmd(
            "kwatch trace place count_a count_b count_c rounds"
        )


def test_several_places(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, "bpf", 40)
        gdb.cmd("kwatch trace place count_a count_b")
        gdb.cont()
        out = gdb.cmd("kwatch trace show -n 1000")
        assert len(re.findall(r" count_a ", out)) == 4
        assert len(re.findall(r" place ", out)) == 280


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_kwatch_off_ends_it(session):
    with session("trace") as gdb:
        begin(gdb, "bpf", 10)
        gdb.cmd("kwatch trace place")
        gdb.cmd("kwatch off")
        gdb.cont()
        gdb.cmd("kwatch on")
        assert "0 recorded" in gdb.cmd("kwatch trace")
        assert "ended: kwatch off" in gdb.cmd("kwatch trace")


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_the_slots_of_a_trace_are_given_to_nobody_else(session):
    with session("trace") as gdb:
        begin(gdb, "bpf", 10)
        gdb.script(
            "kwatch trace place\nkwatch count_a\nkwatch count_b\nkwatch count_c\nkwatch rounds\n"
        )
        states = [row["state"] for row in gdb.list().values()]
        assert (states.count("installed"), len(states)) == (3, 4)
        out = gdb.cont()
        assert "Couldn't write debug register" not in out
        gdb.cmd("kwatch trace stop")
        assert [row["state"] for row in gdb.list().values()].count("installed") == 4


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_who_holds_its_slots_is_said(session):
    with session("trace") as gdb:
        begin(gdb, "bpf", 10)
        gdb.cmd("kwatch trace place count_a")
        text = gdb.cmd("kwatch slots")
        assert len(re.findall(r"^perf +0x[0-9a-f]+ +8 +write +kwatch trace$", text, re.M)) == 2
        assert "foreign" not in text
        (thread,) = gdb.json("kwatch slots")
        assert thread["foreign"] == 0
        assert [slot["holder"] for slot in thread["perf"]] == ["kwatch trace"] * 2
        gdb.script("kwatch count_b\nkwatch count_c\n")
        waits = gdb.cmd("kwatch rounds")
        assert "waits for a slot: it needs 1 of 4, 0 free" in waits
        assert "  kwatch trace  (2 slots)" in waits
        assert "foreign" not in waits
        assert "kwatch trace" in gdb.cmd("kwatch list")
        refused = gdb.cmd("kwatch who rounds")
        assert "No hardware slot free for kwatch who rounds: it needs 1 of 4, 0 free" in refused
        assert "  kwatch trace  (2 slots)" in refused
        # A new trace takes the place of the old one; one that is refused leaves it.
        assert "No hardware slot free" in gdb.cmd("kwatch trace place count_a rounds")
        assert "ended" not in gdb.cmd("kwatch trace")
        assert "Tracing count_a: in the kernel" in gdb.cmd("kwatch trace count_a")
        gdb.cmd("kwatch trace stop")
        assert "kwatch trace" not in gdb.cmd("kwatch slots")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes capabilities away")
def test_a_user_without_rights_is_told_and_served(session):
    with session("trace", before=NOBODY) as gdb:
        begin(gdb, "bpf", 10)
        out = gdb.cmd("kwatch trace place")
        assert "CAP_BPF" in out or "CAP_PERFMON" in out
        gdb.cont()
        assert by_line(gdb) == own_counts(gdb)


def test_reads_by_the_recording_itself_are_no_hits(session):
    if REFUSED:
        pytest.skip(REFUSED)
    with session("read_write_buffer") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch trace -k -a buffer")
        gdb.cont()
        out = gdb.cmd("kwatch trace")
        told = re.search(r"of buffer: ([\d,]+) hits, ([\d,]+) recorded, lost 0;", out)
        assert told and told[1] == told[2], out
        by_user = gdb.cmd("kwatch trace show -n 10000")
        assert len(re.findall(rf":{line('read_write_buffer.c', 'store')} ", by_user)) == 50
        assert len(re.findall(rf":{line('read_write_buffer.c', 'load')} ", by_user)) == 50


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes capabilities away")
def test_what_may_be_locked_is_enough_for_threads_one_after_the_other(session):
    with session("short_threads", before=NOBODY) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch trace place")
        gdb.cont()
        assert "Trace of place: 60 hits, 60 recorded, lost 0;" in gdb.cmd("kwatch trace")


def test_hits_of_threads_without_a_ring_are_counted_as_lost(session):
    if NO_PERF is not None:
        pytest.skip(str(NO_PERF))
    with session("short_threads") as gdb:
        gdb.run_to("main")
        take_rights(gdb, "ring")
        gdb.cmd("kwatch trace place")
        gdb.python(
            "has_room = perf_event.Event.map\n"
            "perf_event.Event.map = lambda event, pages=1: (\n"
            "    event.lwp % 3 == 0 and has_room(event, pages))\n"
        )
        gdb.cont()
        out = gdb.cmd("kwatch trace")
        told = re.search(r"(\d+) hits, (\d+) recorded, lost (\d+)", out)
        hits, recorded, lost = map(int, told.groups())
        assert hits == 60 == recorded + lost
        assert 10 <= recorded <= 30


@pytest.mark.parametrize("mode", ["parent", "child", "both"])
def test_children_that_gdb_follows_are_traced(session, way, mode):
    """Each with its own values; one that gdb lets go of is left alone."""
    if way == "stops" and mode == "both":
        pytest.skip("gdb's own watchpoints: test_processes.py")
    with session("fork_child") as gdb:
        gdb.run_to(f"fork_child.c:{line('fork_child.c', 'before the fork')}")
        if (way, mode) == ("stops", "child") and gdb.evaluate("gdb.VERSION").startswith("10."):
            pytest.skip("gdb 10 takes its own watchpoints into the child at its first stop")
        take_rights(gdb, way)
        gdb.cmd(f"set follow-fork-mode {'child' if mode == 'child' else 'parent'}")
        if mode == "both":
            gdb.cmd("set detach-on-fork off")
            gdb.cmd("set schedule-multiple on")
        gdb.cmd("kwatch trace place")
        gdb.cont()
        if mode == "both":
            for one in (1, 2):  # the end of either is what stopped gdb
                gdb.cmd(f"inferior {one}")
                gdb.cont()
        out = gdb.cmd("kwatch trace summary")
        marks = ["before the fork", "child", "parent"]
        if mode != "both":
            marks.remove("parent" if mode == "child" else "child")
        lines = re.findall(r"^fork_child\.c:(\d+) +1 ", out, re.M)
        assert sorted(map(int, lines)) == [line("fork_child.c", mark) for mark in marks]
        assert f"{len(marks)} hits, {len(marks)} recorded, lost 0" in out
        assert "ended: the program has ended" in out
        if way == "bpf":
            shown = gdb.cmd("kwatch trace show")
            rows = re.findall(r":(\d+) +main +place +(\d) +(\d)$", shown, re.M)
            assert {int(at): (old, new) for at, old, new in rows} == {
                line("fork_child.c", mark): values
                for mark, values in zip(
                    ["before the fork", "child", "parent"], [("0", "1"), ("1", "2"), ("1", "3")]
                )
                if mark in marks
            }


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("detach", "gdb has let go of the program (detach)"),
        ("kill", "gdb has killed the program"),
        ("run", "gdb has killed the program"),
        ("signal SIGKILL", "the program has ended"),
    ],
)
@pytest.mark.parametrize("way", ["bpf", "stops"])
def test_why_it_ended(session, way, command, why):
    if way == "bpf" and REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, way, 1)
        gdb.cmd("kwatch trace place")
        gdb.cont()
        assert "ended" not in gdb.cmd("kwatch trace")
        gdb.cmd(command)
        for ask in ("kwatch trace", "kwatch trace summary"):
            out = gdb.cmd(ask)
            assert f"(ended: {why})" in out and "8 recorded" in out, out
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


@pytest.mark.parametrize("way", ["bpf", "stops"])
def test_symbols_read_anew_do_not_end_it(session, program, way):
    if way == "bpf" and REFUSED:
        pytest.skip(REFUSED)
    with session("trace") as gdb:
        begin(gdb, way, 1)
        gdb.cmd("kwatch trace place")
        gdb.cmd(f"file {program('trace')}")
        gdb.cont()
        out = gdb.cmd("kwatch trace")
        assert "8 recorded" in out and "ended" not in out


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_exec_ends_it(session, program):
    with session("exec_other") as gdb:
        gdb.cmd(f"set args {program('simultaneous')}")
        gdb.run_to("main")
        gdb.cmd("kwatch trace pair.a after")
        gdb.cmd("tbreak both")
        gdb.cont()
        out = gdb.cmd("kwatch trace")
        assert "2 hits, 2 recorded" in out
        assert "ended: the program has called exec" in out
