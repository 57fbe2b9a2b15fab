"""A foreign user of a process's debug registers: another process with perf breakpoints on it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from gdb_kwatch.core.debugreg import WRITE
from gdb_kwatch.linux import perf_event
pid, count = int(sys.argv[2]), int(sys.argv[3])
held = [
    perf_event.Event(perf_event.Request(0x1000 + 8 * n, 8, WRITE, kernel=False), pid)
    for n in range(count)
]
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def foreign_user(lwp: int, count: int) -> Iterator[None]:
    """While it lives, `count` slots of the thread are its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ROOT), str(lwp), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.communicate()  # its standard input ends, and so does it
