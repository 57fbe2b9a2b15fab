"""`gdb-kwatch who -p` and `trace -p` ended, killed, misled: the process runs on untouched."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
import pytest
from harness import gdb_command, line

from gdb_kwatch.linux import filters as kernel
from gdb_kwatch.linux import signals

ROOT = Path(__file__).resolve().parents[2]
KWATCH = (sys.executable, "-m", "gdb_kwatch")
REFUSED = kernel.why_not()
TIMEOUT = 120
# gdb alone can test this: it stops at each hit and goes on.
SLOW = ("-if", "$_gthread > 0")
WAYS = ("kernel", "stops")


@pytest.fixture(params=WAYS)
def way(request):
    """The words that choose how it is done."""
    if request.param == "kernel" and REFUSED:
        pytest.skip(REFUSED)
    return SLOW if request.param == "stops" else ()


class Watched:
    """fixtures/untouched.c, running."""

    def __init__(self, path: Path, *words: str, before: tuple[str, ...] = ()) -> None:
        # A group of its own, in this session: SIGTSTP stops none of an orphaned group.
        self.process = subprocess.Popen(
            [*before, path, *words], stdout=subprocess.PIPE, text=True, preexec_fn=os.setpgrp
        )
        self.pid = self.process.pid
        assert int(self._line()) == self.pid

    def _line(self) -> str:
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT)
        assert ready, "it does not answer"
        return self.process.stdout.readline().strip()

    def writes(self) -> int:
        self.process.send_signal(signal.SIGUSR1)
        return int(self._line())

    def goes_on(self, count: int = 40) -> None:
        """Returns when it has written so many times more."""
        first = self.writes()
        while self.writes() < first + count:
            pass

    def status(self, field: str) -> str:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return re.search(rf"^{field}:\s*(.*)$", text, re.M).group(1)

    def tracer(self) -> int:
        return int(self.status("TracerPid"))

    def check(self) -> None:
        """Nobody traces it, nothing in it was disturbed, and it ends as it should."""
        assert self.tracer() == 0
        assert self.status("State")[0] in "RS", self.status("State")
        self.goes_on()
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=TIMEOUT)
        assert (out, self.process.returncode) == ("whole\n", 42)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def watched(program):
    made = Watched(program("untouched"))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go: none may be left."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield made
    assert list(made.iterdir()) == []


@contextlib.contextmanager
def begun(
    *words: str,
    patience: float | None = None,
    before: tuple[str, ...] = (),
    python: str = sys.executable,
    checkout: Path = ROOT,
):
    """The command, looking at the process already."""
    command = [python, "-m", "gdb_kwatch", *words]
    if patience is not None:
        text = (
            "import sys\nfrom gdb_kwatch.outside import attached, verbs\n"
            f"attached.TO_LET_GO = {patience}\nsys.exit(verbs.main(sys.argv[1:]))"
        )
        command = [python, "-c", text, *words]
    process = subprocess.Popen(
        [*before, *command],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = ""
        while "looking at" not in said:
            text = process.stderr.readline()
            assert text, said
            said += text
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def verb(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*KWATCH, *words], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, **options
    )


def ends(pid: int) -> None:
    """Waits for a process that is not ours to end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], TIMEOUT)[0], "it is still there"
    finally:
        os.close(handle)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_who_ended_by_a_signal(watched, way, number, folder):
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        gdb = watched.tracer()
        watched.goes_on()
        command.send_signal(number)
        out, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 128 + number, error
    found = re.search(r"^([\d,]+) hits in [\d.]+ s by 1 instruction", out, re.M)
    assert found and int(found.group(1).replace(",", "")) >= 20, out
    assert f"untouched.c:{line('untouched.c', 'write')}" in out
    ends(gdb)
    watched.check()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_trace_ended_by_a_signal(watched, way, number, folder, tmp_path):
    file = tmp_path / "found.csv"
    words = ("trace", "-p", str(watched.pid), "counter", "-o", str(file), "-for", "600")
    with begun(*words, *way) as command:
        watched.goes_on()
        command.send_signal(number)
        out, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 128 + number, error
    with file.open(newline="") as lines:
        records = list(csv.DictReader(lines))
    assert len(records) >= 20
    assert f"{len(records):,} records written to {file}" in out
    assert {record["function"] for record in records} == {"writer"}
    watched.check()


def test_ctrl_c_in_a_terminal(watched, way):
    """It goes to all of the terminal's group: the command alone may be in it."""
    words = ("-m", "gdb_kwatch", "who", "-p", str(watched.pid), "counter", "-for", "600", *way)
    terminal = pexpect.spawn(
        sys.executable, list(words), cwd=str(ROOT), encoding="utf-8", timeout=TIMEOUT
    )
    try:
        terminal.expect_exact("looking at")
        watched.goes_on()
        terminal.sendintr()
        terminal.expect(r"[\d,]+ hits in")
        terminal.expect_exact(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 130
    watched.check()


def test_the_terminal_is_closed(watched, way):
    words = ("-m", "gdb_kwatch", "who", "-p", str(watched.pid), "counter", "-for", "600", *way)
    terminal = pexpect.spawn(
        sys.executable, list(words), cwd=str(ROOT), encoding="utf-8", timeout=TIMEOUT
    )
    terminal.expect_exact("looking at")
    gdb = watched.tracer()
    terminal.close(force=False)
    ends(gdb)
    watched.check()


@pytest.mark.parametrize("whom", ["command", "group"])
def test_the_command_is_killed(watched, way, whom):
    """gdb notices, lets go and ends."""
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        gdb = watched.tracer()
        watched.goes_on()
        if whom == "group":
            os.killpg(command.pid, signal.SIGKILL)
        else:
            command.kill()
        ends(gdb)
    watched.check()


def test_ended_while_gdb_attaches(watched, way):
    command = subprocess.Popen(
        [*KWATCH, "who", "-p", str(watched.pid), "counter", "-for", "600", *way],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not watched.tracer():
        assert command.poll() is None
    command.send_signal(signal.SIGINT)
    _, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 130, error
    watched.check()


def test_signals_to_gdb_itself_do_no_harm(watched, way):
    """A whole control group is ended by SIGTERM, say."""
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        gdb = watched.tracer()
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(gdb, number)
        watched.goes_on()
        command.terminate()
        out, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 143, error
    assert " hits in " in out
    watched.check()


def test_gdb_hangs(watched, way):
    words = ("who", "-p", str(watched.pid), "counter", "-for", "600", *way)
    with begun(*words, patience=0.5) as command:
        gdb = watched.tracer()
        os.kill(gdb, signal.SIGSTOP)
        try:
            command.terminate()
            _, error = command.communicate(timeout=TIMEOUT)
            assert command.returncode == 1
            assert f"gdb (process {gdb}) has not answered for 0.5 s" in error
            assert f"process {watched.pid} is still held by process {gdb}" in error
        finally:
            os.kill(gdb, signal.SIGCONT)
        ends(gdb)
    watched.check()


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_gdb_dies(watched):
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600") as command:
        os.kill(watched.tracer(), signal.SIGKILL)
        _, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 1
    assert f"gdb ended too early, by signal SIGKILL; process {watched.pid} runs on" in error
    watched.check()


def test_the_time_is_over(watched, way, folder):
    words = ("who", "-p", str(watched.pid), "counter", "-for", "0.3", "-json", *way)
    done = verb(*words)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["function"] == "writer"
    watched.check()


def test_the_process_ends_first(watched, way):
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        watched.goes_on()
        watched.process.send_signal(signal.SIGTERM)
        out, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 0, error
    assert "The process has ended (with exit code 42)." in error
    assert re.search(r"^[\d,]+ hits in", out, re.M)
    assert watched.process.communicate()[0] == "whole\n"
    assert watched.process.returncode == 42


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP], ids=lambda n: n.name)
def test_somebody_stops_the_process(program, way, number):
    """It is stopped then, as if nobody had looked."""
    watched = Watched(program("untouched"), "t")
    try:
        with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
            watched.goes_on()
            os.kill(watched.pid, number)
            _, error = command.communicate(timeout=TIMEOUT)
        assert command.returncode == 0, error
        assert f"was stopped by {number.name} from outside" in error
        os.waitid(os.P_PID, watched.pid, os.WSTOPPED | os.WNOWAIT)
        assert (watched.status("State")[0], watched.tracer()) == ("T", 0)
    finally:
        watched.close()


def test_a_sigcont_drops_the_signal_that_ends_the_look(program, way):
    """While the process waits in vfork it can take no signal."""
    process = subprocess.Popen(
        [program("in_vfork")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        pid = int(process.stdout.readline())
        with begun("who", "-p", str(pid), "counter", "-for", "0.2", *way) as command:
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "waiting\n"
            while not signals.is_pending(pid, signal.SIGSTOP):
                pass
            process.send_signal(signal.SIGCONT)
            assert not signals.is_pending(pid, signal.SIGSTOP)
            process.stdin.close()
            _, error = command.communicate(timeout=TIMEOUT)
        assert command.returncode == 0, error
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "1 SIGCONT\n"
        assert process.wait(TIMEOUT) == 7
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("traps", ["r", "R"], ids=["now and then", "all the time"])
def test_traps_of_the_process_itself(program, way, traps):
    watched = Watched(program("untouched"), traps)
    try:
        with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
            watched.goes_on(200)
            command.send_signal(signal.SIGINT)
            out, error = command.communicate(timeout=TIMEOUT)
        assert command.returncode == 130, error
        assert int(re.search(r"^([\d,]+) hits in", out, re.M).group(1)) >= 100
        watched.check()
    finally:
        watched.close()


def test_the_process_is_killed(watched, way):
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        watched.goes_on()
        watched.process.kill()
        out, error = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 0, error
    assert "The process has ended (SIGKILL)." in error
    assert re.search(r"^[\d,]+ hits in", out, re.M)


KILLER = """
import os, sys, time
sys.path.insert(0, {root!r})
import gdb
from gdb_kwatch.inferior import accesses
def killed_before(real, left=[{count}]):
    def function(*arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(gdb.selected_inferior().pid, 9)
        return real(*arguments)
    return function
accesses.{name} = killed_before(accesses.{name})
"""


@pytest.mark.parametrize(
    ("name", "count"), [("counts", 1), ("counts", 7), ("as_bytes", 1), ("as_bytes", 9)]
)
def test_the_process_is_killed_in_the_middle_of_a_stop(watched, tmp_path, name, count):
    """gdb finds some of its threads gone, and asks for nothing more."""
    script = tmp_path / "killer.py"
    script.write_text(KILLER.format(root=str(ROOT), name=name, count=count))
    gdb = shlex.join([*gdb_command(), "-iex", f"source {script}"])
    words = ("who", "-p", str(watched.pid), "counter", "-for", "600", *SLOW)
    done = verb(*words, env={**os.environ, "KWATCH_GDB": gdb})
    assert done.returncode == 0, done.stderr
    assert "The process has ended (SIGKILL)." in done.stderr
    assert re.search(r"^[\d,]+ hits? in", done.stdout, re.M), done.stdout


def test_a_json_answer_that_is_ended_is_whole(watched, way):
    with begun("who", "-p", str(watched.pid), "counter", "-json", *way) as command:
        watched.goes_on()
        command.send_signal(signal.SIGINT)
        out, _ = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 130
    (row,) = json.loads(out)
    assert row["hits"] >= 20
    watched.check()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "this gdb has no Python"),
        ("kill -9 $$", "gdb ended too early, by signal SIGKILL"),
    ],
    ids=["nothing", "killed"],
)
def test_a_gdb_that_cannot(watched, tmp_path, script, said):
    made = tmp_path / "gdb"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    done = verb(
        *("who", "-p", str(watched.pid), "counter"), env={**os.environ, "KWATCH_GDB": str(made)}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    watched.check()


# What the command line says.


def test_conditions(watched):
    pid = str(watched.pid)
    for words in (("alone if alone % 2 == 0",), ("alone", "-if", "alone % 2 == 0")):
        done = verb("who", "-p", pid, *words, "-for", "0.3", "-json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert int(row["first_new"]) % 2 == int(row["last_new"]) % 2 == 0
    for bad in ("counter % == 0", "nothing_like_it > 1", "counter = 3"):
        done = verb("who", "-p", pid, "counter", "-if", bad, "-for", "0.3")
        assert (done.returncode, done.stdout) == (1, ""), bad
        assert done.stderr.startswith("kwatch: ") and "looking at" not in done.stderr
    done = verb("who", "-p", pid, "counter if 1", "-if", "1", "-for", "0.3")
    assert (done.returncode, "more than one condition" in done.stderr) == (1, True)
    watched.check()


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
@pytest.mark.parametrize("words", [(), SLOW], ids=WAYS)
def test_several_places_and_a_count(watched, tmp_path, words):
    file = tmp_path / "found.json"
    options = ("-count", "30", "-stack", "3", "-o", str(file), *words)
    done = verb("trace", "-p", str(watched.pid), "counter", "other", *options)
    assert done.returncode == 0, done.stderr
    records = [json.loads(text) for text in file.read_text().splitlines()]
    assert {record["expression"] for record in records} == {"counter", "other"}
    assert len(records) == 30
    assert all(record["stack"][0] == "writer" for record in records)
    assert "ended: 30 were recorded (-count)" in done.stdout
    assert "'continue' runs the program" not in done.stdout + done.stderr
    watched.check()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("found.txt", "the suffix tells the format"),
        ("nowhere/found.csv", "there is no directory"),
        ("folder.csv", "is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_at_once(watched, tmp_path, file, said):
    (tmp_path / "folder.csv").mkdir()
    words = ("trace", "-p", str(watched.pid), "counter", "-for", "600")
    done = verb(*words, "-o", str(tmp_path / file))
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "looking at" not in done.stderr
    watched.check()


@pytest.mark.parametrize(
    "words",
    [
        ("-for", "0", "x"),
        ("-for", "nan", "x"),
        ("-for", "soon", "x"),
        ("-p", "0", "x"),
        ("-p", "-3", "x"),
        (),
        ("x", "y"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(words):
    done = verb("who", "-p", "1", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr


def test_the_help_tells_the_default_and_the_codes():
    said = " ".join(verb("who", "--help").stdout.split())
    assert "for how long (5)" in said
    assert "130, 143, 129 ended by that signal" in said


# Processes that cannot be looked into.


def test_no_such_process():
    process = subprocess.Popen(["true"])
    process.wait()
    done = verb("who", "-p", str(process.pid), "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"kwatch: there is no process {process.pid}\n"


def test_a_zombie():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    done = verb("who", "-p", str(process.pid), "x")
    process.wait()
    assert done.returncode == 1
    assert f"process {process.pid} has ended; only its exit status is still there" in done.stderr


def test_a_thread_is_not_a_process(watched):
    thread = max(int(name) for name in os.listdir(f"/proc/{watched.pid}/task"))
    done = verb("who", "-p", str(thread), "counter")
    assert done.returncode == 1
    assert f"{thread} is a thread of process {watched.pid}" in done.stderr
    watched.check()


def test_a_thread_of_the_kernel():
    kernels = [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if re.search(r"^PPid:\t2$", _status(pid), re.M)
    ]
    if not kernels:
        pytest.skip("none can be seen in this container")
    done = verb("who", "-p", kernels[0], "x")
    assert (done.returncode, "a thread of the kernel's own" in done.stderr) == (1, True)


def _status(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def test_a_process_that_another_traces(watched, way):
    with begun("who", "-p", str(watched.pid), "counter", "-for", "600", *way) as command:
        done = verb("who", "-p", str(watched.pid), "counter")
        assert done.returncode == 2
        assert f"is traced already, by process {watched.tracer()} (gdb" in done.stderr
        command.terminate()
        command.communicate(timeout=TIMEOUT)
    watched.check()


def test_a_process_that_is_stopped(watched):
    watched.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, watched.pid, os.WSTOPPED | os.WNOWAIT)
    done = verb("who", "-p", str(watched.pid), "counter", "-for", "0.3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is stopped" in done.stderr and f"kill -CONT {watched.pid}" in done.stderr
    assert watched.status("State")[0] == "T"
    watched.process.send_signal(signal.SIGCONT)
    assert watched.process.stdout.readline() == f"disturbed by signal {int(signal.SIGCONT)}\n"
    watched.check()


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
# A virtual environment may be where others cannot look.
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def for_all(program):
    """kwatch and the program where every user may read them: /root is root's alone."""
    with tempfile.TemporaryDirectory(prefix="kwatch-test-") as name:
        made = Path(name)
        made.chmod(0o755)
        unneeded = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "gdb_kwatch", made / "gdb_kwatch", ignore=unneeded)
        shutil.copy(program("untouched"), made)
        yield made


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="root gives rights up")
def test_a_process_of_another_user(watched, for_all):
    done = subprocess.run(
        [*NOBODY, PYTHON, "-m", "gdb_kwatch", "who", "-p", str(watched.pid), "counter"],
        cwd=for_all,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2, done.stderr
    assert f"process {watched.pid} is of the user root" in done.stderr
    watched.check()


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="root gives rights up")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_user_without_rights_ends_it(for_all, number):
    watched = Watched(for_all / "untouched", before=NOBODY)
    try:
        words = ("who", "-p", str(watched.pid), "counter", "-for", "600")
        with begun(*words, before=NOBODY, python=PYTHON, checkout=for_all) as command:
            watched.goes_on()
            command.send_signal(number)
            out, error = command.communicate(timeout=TIMEOUT)
        assert command.returncode == 128 + number, error
        assert re.search(r"^[\d,]+ hits in .*, slow: [\d,]+ µs a hit$", out, re.M), out
        watched.check()
    finally:
        watched.close()


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="makes a namespace")
def test_the_first_process_of_another_namespace(program):
    """It ignores what signals it does not handle; gdb is not in its namespace."""
    shell = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", program("untouched")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if shell.stdout.readline() != "1\n":
            pytest.skip("no namespaces here")
        (pid,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
        for words in ((), SLOW):
            done = verb("who", "-p", pid, "counter", "-for", "0.3", "-json", *words)
            assert done.returncode == 0, done.stderr
            (row,) = json.loads(done.stdout)
            assert row["hits"] > 1
            os.kill(int(pid), signal.SIGUSR1)
            assert int(shell.stdout.readline()) > 1
        os.kill(int(pid), signal.SIGTERM)
        assert shell.communicate(timeout=TIMEOUT)[0] == "whole\n"
        assert shell.returncode == 42
    finally:
        shell.kill()
        shell.wait()
        shell.stdout.close()
