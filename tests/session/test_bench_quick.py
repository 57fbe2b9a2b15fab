"""The bench in its short form: everyone runs, and every count is right; no time is judged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from harness import ROOT

from gdb_kwatch.linux import perf_event

PARTS = ("traps", "kernel", "idle", "load", "memory", "calls", "million")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", PARTS)
def test_the_bench_measures_what_it_says(part, program, tmp_path):
    program("loop")
    if part == "calls" and perf_event.why_not() is not None:
        pytest.skip("no perf here")
    file = tmp_path / "bench.json"
    words = [str(ROOT / "tests" / "bench" / "run.py"), "-quick", "-json", str(file), part]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    said = json.loads(file.read_text())
    assert said["machine"]["gdb"] in done.stdout
    assert {name for name in PARTS if said[name]} == {part}
    if part == "traps":
        ratios = {row["name"]: row["ratio"] for row in said["traps"]}
        assert ratios["gdb watch"] is None
        assert ratios["kwatch"]["median"] > 0
        assert ratios["kwatch, four slots in use"]["median"] > 0
