"""`gdb-kwatch who -p` and `trace -p`: a running process is looked at, and runs on untouched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import line

from gdb_kwatch.linux import filters as kernel

ROOT = Path(__file__).resolve().parents[2]
REFUSED = kernel.why_not()


@contextlib.contextmanager
def ticking(program):
    process = subprocess.Popen([program("ticking")], stdout=subprocess.PIPE, text=True)
    try:
        assert int(process.stdout.readline()) == process.pid
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def verb(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gdb_kwatch", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def runs_on(process) -> bool:
    """It is traced by nobody, not stopped, and answers."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "TracerPid:\t0" in status
    process.send_signal(signal.SIGUSR1)
    return process.stdout.readline() == "alive\n"


def test_who_on_a_running_process(program):
    with ticking(program) as process:
        done = verb("who", "-p", str(process.pid), "counter", "-for", "0.5", "-json")
        assert done.returncode == 0, done.stderr + done.stdout
        rows = {row["line"]: row for row in json.loads(done.stdout)}
        up, down = rows[line("ticking.c", "up")], rows[line("ticking.c", "down")]
        assert (up["function"], down["function"]) == ("up", "down")
        assert abs(up["hits"] - 2 * down["hits"]) <= 2
        assert down["hits"] > 3
        assert runs_on(process)
        done = verb("who", "-p", str(process.pid), "counter", "-for", "0.3", "-not-from", "up")
        assert "down" in done.stdout
        assert " up " not in done.stdout
        assert runs_on(process)


@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_trace_of_a_running_process(program, tmp_path):
    with ticking(program) as process:
        file = tmp_path / "ticks.json"
        done = verb("trace", "-p", str(process.pid), "counter", "-for", "0.5", "-o", str(file))
        assert done.returncode == 0, done.stderr + done.stdout
        records = [json.loads(text) for text in file.read_text().splitlines()]
        assert f"{len(records):,} records written" in done.stdout
        changes = [(int(record["old"]), int(record["new"])) for record in records]
        assert {new - old for old, new in changes} == {3, -1}
        assert all(one[1] == two[0] for one, two in zip(changes, changes[1:]))
        assert runs_on(process)


def test_what_goes_wrong_is_said(program):
    with ticking(program) as process:
        done = verb("who", "-p", str(process.pid), "nothing_like_it")
        assert done.returncode == 1
        assert "No symbol" in done.stderr
        assert runs_on(process)
    assert not os.path.exists(f"/proc/{process.pid}")
    assert "there is no process" in verb("who", "-p", str(process.pid), "x").stderr
