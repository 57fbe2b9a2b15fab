"""What a row of `kwatch who` and `kwatch trace` says: values, accesses, counts, places."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter

import pexpect
import pytest
from harness import GDBINIT, TIMEOUT, gdb_command, line

from gdb_kwatch.linux import filters as kernel

REFUSED = kernel.why_not()
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


def at(mark: str) -> str:
    return f"records.c:{line('records.c', mark)}"


def begin(gdb) -> None:
    gdb.run_to(at("begin"))
    gdb.cmd(f"break {at('end')}")


def records(gdb, tmp_path) -> list[dict]:
    gdb.cmd(f"kwatch trace export {tmp_path}/out.json")
    return [json.loads(text) for text in (tmp_path / "out.json").read_text().splitlines()]


def without_rights(gdb) -> None:
    """As where neither BPF nor perf events are allowed."""
    gdb.python(
        "from gdb_kwatch.linux import filters, perf_event\n"
        "filters.why_not = lambda kernel_too=False: 'BPF: refused for this test'\n"
        "perf_event.why_not = lambda kernel=True: perf_event.PerfError(1, 'refused')\n"
    )


def who(gdb, words: str) -> list[dict]:
    found = re.search(r"^\[\{.*\]$", gdb.cmd(f"kwatch who {words} -json"), re.M | re.S)
    assert found
    return json.loads(found.group(0))


def test_what_a_pointer_pointed_to_is_not_made_up(session, tmp_path):
    """It was "alpha" when it was written, and is "WIPED" when it is shown: neither is recorded."""
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd("kwatch trace text pair.name")
        gdb.cont()
        assert "WIPED" in gdb.value("text")
        out = gdb.cmd("kwatch trace show")
        rows = re.findall(r"point +(\S+) +(0x\S+(?: <\S+>)?) +(0x\S+ <\S+>)$", out, re.M)
        start = int(gdb.value("(long)&words"))
        there = ["0x0", *(f"{start + 16 * n:#x} <words{f'+{16 * n}' * bool(n)}>" for n in range(3))]
        for name in ("text", "pair.name"):
            assert [row[1:] for row in rows if row[0] == name] == list(zip(there, there[1:]))
        assert rows[-1][2] in gdb.cmd("kwatch last pair.name")
        for text in (out, gdb.cmd("kwatch last text"), gdb.cmd("kwatch trace summary")):
            assert "WIPED" not in text
        assert not [row for row in records(gdb, tmp_path) if "WIPED" in row["new"]]


def test_a_struct_with_a_pointer_in_it(session, tmp_path):
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd("kwatch trace pair")
        gdb.cont()
        last = records(gdb, tmp_path)[-1]["new"]
        assert re.fullmatch(
            r"\{name = 0x[0-9a-f]+ <words\+32>, n = 0, call = 0x[0-9a-f]+ <done>\}", last
        )


def test_a_bit_field_is_its_bits(session, tmp_path):
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd("kwatch trace bits.middle bits.high")
        gdb.cont()
        found = [
            (row["expression"], row["new"])
            for row in records(gdb, tmp_path)
            if f"{row['file']}:{row['line']}" == at(row["expression"].partition(".")[2])
        ]
        assert [new for name, new in found if name == "bits.middle"] == [
            str(n) for n in range(1, 21)
        ]
        high = [str(-(n % 8)) for n in range(1, 21)]
        assert [new for name, new in found if name == "bits.high"] == high
        gdb.run_to(at("begin"))
        rows = {row["line"]: row for row in who(gdb, "bits.middle")}
        row = rows[line("records.c", "middle")]
        assert (row["hits"], row["first_new"], row["last_new"]) == (20, "1", "20")


def test_reads_are_told_from_writes(session, tmp_path):
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd("kwatch trace total -a")
        gdb.cont()
        out = gdb.cmd("kwatch trace show -n 4")
        assert re.findall(r"push_and_pop +(\S+) +total", out) == ["read", "write", "read", "write"]
        kinds = [row["access"] for row in records(gdb, tmp_path)]
        assert kinds == ["read", "write", "read", "write"] * 30
        gdb.cmd(f"kwatch trace export {tmp_path}/out.csv")
        with open(tmp_path / "out.csv", newline="") as file:
            assert [row["access"] for row in csv.DictReader(file)] == kinds
        gdb.cmd(f"kwatch trace export {tmp_path}/out.perfetto.json")
        events = json.loads((tmp_path / "out.perfetto.json").read_text())["traceEvents"]
        assert [e["args"]["access"] for e in events if e["ph"] == "i"] == kinds
        gdb.run_to(at("begin"))
        rows = who(gdb, "total -a")
        kinds = {row["instruction"].split()[0]: row["access"] for row in rows}
        assert (kinds["push"], kinds["pop"]) == ("read", "write")
        assert {row["hits"] for row in rows} == {30}


def test_what_cannot_be_read_is_told_in_gdbs_words(session):
    with session("records") as gdb:
        begin(gdb)
        for words in ("who *(int *)0", "who *text", "who text[0]", "trace *(int *)0"):
            assert gdb.cmd(f"kwatch {words}").strip() == "Cannot access memory at address 0x0"
        gdb.cmd("kwatch trace text")
        gdb.cont()
        assert "alpha" not in gdb.cmd("kwatch trace show -n 99999999999999999999")
        assert "Invalid thread ID: abc" in gdb.cmd("kwatch trace show -thread abc")
        assert "-line abc: it takes LINE" in gdb.cmd("kwatch trace show -line abc")
        assert "No such records" in gdb.cmd("kwatch trace show -line 9999")


WHOLE = "*(long (*)[2])wide"


def test_one_store_over_several_slots_is_one_hit(session, tmp_path):
    """Stores that each touch one slot, by one instruction after the other, are one each."""
    with session("records") as gdb:
        begin(gdb)
        rows = who(gdb, WHOLE)
        hits = {row["instruction"].split()[0]: [] for row in rows}
        for row in rows:
            hits[row["instruction"].split()[0]].append(row["hits"])
        assert hits["movaps"] == [100]
        assert hits["rep"] == [16], "seen at it and behind it, and one row"
        assert sum(n for name, found in hits.items() if name == "mov" for n in found) == 40
        gdb.run_to(at("begin"))
        assert "156 hits in " in gdb.cmd(f"kwatch who {WHOLE}")
        gdb.run_to(at("begin"))
        gdb.cmd(f"kwatch trace {WHOLE}")
        gdb.cont()
        assert "156 hits, 156 recorded, lost 0" in gdb.cmd("kwatch trace")
        counts = Counter(row["line"] for row in records(gdb, tmp_path))
        assert counts[line("records.c", "four stores")] == 40
        assert counts[line("records.c", "repeated")] == 16


@pytest.mark.parametrize("way", ["kernel", "stops"])
def test_a_count_is_exact_and_ends_the_trace(session, tmp_path, way):
    with session("trace") as gdb:
        gdb.cmd("set args 100")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd(f"break trace.c:{line('trace.c', 'end')}")
        if way == "stops":
            without_rights(gdb)
        gdb.cmd("kwatch trace place count_a count_b -count 50")
        gdb.cont()
        assert re.search(
            r"\d hits, 50 recorded .*lost 0; .*ended: 50 were recorded \(-count\)",
            gdb.cmd("kwatch trace"),
        )
        assert len(records(gdb, tmp_path)) == 50
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


@pytest.mark.parametrize("way", ["kernel", "stops"])
def test_a_time_limit_ends_the_trace_and_every_hit_is_recorded(session, way):
    with session("ticking") as gdb:
        gdb.run_to("main")
        if way == "stops":
            without_rights(gdb)
        gdb.cmd("kwatch trace counter -for 0.3")
        gdb.cmd(f"tbreak ticking.c:{line('ticking.c', 'down')} if counter > 5000")
        gdb.cont()
        out = gdb.cmd("kwatch trace")
        found = re.search(
            r"([\d,]+) hits, ([\d,]+) recorded, lost 0; 0\.\d\d s[^(]*\(ended: 0\.3 s", out
        )
        assert found and found[1] == found[2], out
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")


def test_a_limit_is_exact(session, tmp_path):
    with session("trace") as gdb:
        gdb.cmd("set args 100")
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd(f"break trace.c:{line('trace.c', 'end')}")
        gdb.cmd("set kwatch trace-limit 10")
        gdb.cmd("kwatch trace place")
        gdb.cont()
        assert "700 hits, 10 recorded, lost 0, 690 forgotten" in gdb.cmd("kwatch trace")
        news = [row["new"] for row in records(gdb, tmp_path)]
        assert len(news) == 10
        assert news[-1] == gdb.value("place"), "the newest are kept"


CALLERS = {"first": 25, "second": 15}


def test_a_system_call_is_its_callers(session, tmp_path):
    """The C library's read() stands between: it makes no frame, and pushes something where there
    are threads."""
    with session("kernel_callers") as gdb:
        places = {name: line("kernel_callers.c", name) for name in CALLERS}
        gdb.run_to(f"kernel_callers.c:{line('kernel_callers.c', 'begin')}")
        gdb.cmd(f"break kernel_callers.c:{line('kernel_callers.c', 'end')}")
        rows = who(gdb, "buffer[0] -k")
        assert {(r["function"], r["line"], r["access"], r["hits"]) for r in rows} == {
            *((name, at, "kernel", CALLERS[name]) for name, at in places.items()),
            ("main", line("kernel_callers.c", "own"), "write", 1),
        }
        for row in rows[:2]:
            depth = row["stack"].index(row["function"])
            assert depth in (1, 3, 4), "glibc 2.41 has functions between"
        out = gdb.cmd("kwatch who 1")
        assert f"by kernel_callers.c:{places['first']}" in out
        place = f"kernel_callers.c:{places['first']}"
        assert re.search(rf"^#[134] .* in first \(\) at {place}", out, re.M)
        gdb.run_to(f"kernel_callers.c:{line('kernel_callers.c', 'begin')}")
        gdb.cmd("kwatch trace buffer[0] -k")
        gdb.cont()
        found = Counter(
            (row["function"], row["line"])
            for row in records(gdb, tmp_path)
            if row["origin"] == "kernel"
        )
        assert found == {(name, at): CALLERS[name] for name, at in places.items()}
        out = gdb.cmd("kwatch trace summary")
        for name, at in places.items():
            assert re.search(rf"^kernel_callers.c:{at} \(kernel\) +{CALLERS[name]} ", out, re.M)
            assert re.search(rf"^{name} \(kernel\) +{CALLERS[name]} ", out, re.M)


def test_a_library_that_is_unloaded_has_its_names(session, tmp_path):
    with session("leaving") as gdb:
        writer = ("write_through", "who_library.c", line("who_library.c", "writer 5"), 30)
        own = ("main", "leaving.c", line("leaving.c", "own"), 1)
        gdb.run_to(f"leaving.c:{line('leaving.c', 'begin')}")
        gdb.cmd(f"break leaving.c:{line('leaving.c', 'end')}")
        rows = who(gdb, "shared")
        assert [(r["function"], r["file"], r["line"], r["hits"]) for r in rows] == [writer, own]
        assert all(row["certain"] for row in rows)
        gdb.run_to(f"leaving.c:{line('leaving.c', 'begin')}")
        gdb.cmd("kwatch trace shared -stack 2")
        gdb.cont()
        found = Counter((r["function"], r["file"], r["line"]) for r in records(gdb, tmp_path))
        assert found == {writer[:3]: 30, own[:3]: 1}
        gdb.cmd("kwatch trace stop")
        own_ones = (
            "[b.number for b in gdb.breakpoints.__wrapped__() if b.number < 0 and b.location]"
        )
        assert gdb.evaluate(own_ones) == [], "nothing is left in the program"


def test_a_new_trace_says_what_it_forgets(session):
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd("kwatch trace total")
        assert "Forget" not in gdb.cmd("kwatch trace text"), "nothing was recorded"
        gdb.cont()
        out = gdb.cmd("kwatch trace total")
        assert "Forgetting the trace of text with 3 records." in out
        gdb.run_to(at("begin"))
        gdb.cmd("kwatch trace text")
        gdb.cont()
        gdb.cmd("set confirm on")
        # The question has no prompt of gdb's: both lines are there when it reads.
        out = gdb.cmd("kwatch trace total\nn")
        assert "Forget the trace of text with 3 records" in out and "Not confirmed." in out
        assert "3 recorded" in gdb.cmd("kwatch trace")
        assert "Tracing total" in gdb.cmd("kwatch trace total\ny")
        gdb.cmd("set confirm off")


def test_more_than_one_expression_and_limits_that_are_none(session):
    with session("records") as gdb:
        begin(gdb)
        assert "One expression is expected: text, total" in gdb.cmd("kwatch who text, total")
        assert "less than 1,000,000,000" in gdb.cmd("kwatch who total -for 99999999999")
        assert "less than 1,000,000,000" in gdb.cmd("kwatch trace total -count 99999999999999")
        assert "records.c" in gdb.cmd("kwatch who *(long (*)[2])wide -from main")


def test_the_callers_that_were_recorded_are_shown(session):
    with session("records") as gdb:
        begin(gdb)
        gdb.cmd(f"kwatch trace {WHOLE} -stack 4")
        gdb.cont()
        assert re.search(r"^ms .*New +Callers$", gdb.cmd("kwatch trace show -n 2"), re.M)


def test_a_local_is_told_to_be_on_the_stack(session):
    with session("local_scope") as gdb:
        gdb.run_to(f"local_scope.c:{line('local_scope.c', 'local changes')}")
        assert "is on the stack" in gdb.cmd("kwatch who local")


def test_what_gdb_says_comes_in_its_order(session):
    with session("trace", extra=("-ex", "set print thread-events on")) as gdb:
        gdb.run_to(f"trace.c:{line('trace.c', 'begin')}")
        gdb.cmd("delete")
        out = gdb.cmd("kwatch who place")
        assert out.index("[New Thread") < out.index("exited normally]") < out.index("Hits")


def test_the_table_that_is_redrawn_says_all(program):
    """Places, functions and accesses from its first drawing on; the sum is that of its rows."""
    words = [
        *gdb_command(),
        "-q",
        "-nx",
        "-iex",
        "set confirm off",
        "-iex",
        "set style enabled off",
    ]
    words += [
        "-ex",
        f"source {GDBINIT}",
        "-ex",
        "break down",
        "-ex",
        "run",
        "-ex",
        "delete",
        str(program("ticking")),
    ]
    environment = dict(os.environ, TERM="linux", LC_ALL="C.UTF-8")
    size = {"dimensions": (30, 150), "timeout": TIMEOUT, "encoding": "utf-8"}
    child = pexpect.spawn(words[0], words[1:], env=environment, **size)
    try:
        child.expect("down .. at .*\\(gdb\\) ")
        child.sendline("kwatch who counter -a")
        for _ in range(3):
            child.expect(r"([\d,]+) hits \(Ctrl-C stops the program\)")
            total = int(child.match[1].replace(",", ""))
            text = child.before.replace("\033[K", "").replace("\r", "")
            rows = re.findall(r"^\d +([\d,]+) +1 +(\S+) +(\w+) +(\S+) ", text, re.M)
            assert sum(int(hits.replace(",", "")) for hits, *_ in rows) == total
            assert {row[1:3] for row in rows} <= {
                (f"ticking.c:{line('ticking.c', name)}", name) for name in ("up", "down")
            }
            assert {row[3] for row in rows} <= {"read", "write", "read/write"}
            assert "0x" not in re.sub(r"\$0x[0-9a-f]+|0x[0-9a-f]+\(%rip\)", "", text)
        child.sendintr()
        child.expect("hits in .* by . instructions?")
        child.sendline("kill")
        child.sendline("quit")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


def test_a_thread_keeps_the_number_that_it_had_first(session):
    """gdb may list the main thread anew at the end, as "[New process N]", with another number."""
    with session("records") as gdb:
        begin(gdb)
        out = gdb.python(
            "from gdb_kwatch.inferior.targets import Numbers\n"
            "numbers, lwp = Numbers(), gdb.selected_thread().ptid[1]\n"
            "first, numbers.of[lwp] = numbers.of[lwp], 42\n"
            "class Event:\n    inferior_thread = gdb.selected_thread()\n"
            "numbers._new(Event)\n"
            "numbers.close()\n"
            "print('numbers', first, numbers.text(lwp))\n"
        )
        assert "numbers 1 42" in out


@pytest.mark.parametrize("other", ["exec_other", "exec_other_static"])
def test_another_program_makes_no_noise(session, program, other):
    """What is set in the dynamic loader for a while is of no concern to what exec makes of it."""
    with session("exec_other") as gdb:
        gdb.cmd(f"set args {program(other)}")
        gdb.run_to("main")
        gdb.cmd("kwatch trace pair.a")
        out = gdb.cont()
        assert "is executing new program" in out
        assert "re-setting" not in out and "exited with code 01" in out
        assert "_dl_debug_state" not in gdb.transcript
