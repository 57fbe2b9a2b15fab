"""Every errno at every call of the kernel's interfaces, once and for good; SIGKILL before and after
each, and before each question to gdb; and each read of the program's memory fails once.

    python3 tests/matrix/faults.py [-every N] [-part ptrace | bpf]    (-every 1: some hours)

Plays tests/session/injector.py in the gdb on PATH (KWATCH_GDB), says what goes wrong as it comes
and how many rounds there were, and ends with 1 if anything did.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from fixtures.build import build  # noqa: E402

PARTS = {"ptrace": False, "bpf": True}
SCRIPT = """
import sys
sys.path.append({session!r})
import injector
count, wrong = 0, []
for kernel in {parts}:
    for errors, lengths in (injector.ERRORS, [1, 1000]), (injector.PROGRAM, [1]):
        played, found = injector.rounds({every}, errors, lengths, kernel)
        count, wrong = count + played, wrong + found
print("ROUNDS", count, len(wrong))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("-every", type=int, default=1, help="only each Nth call (default: 1)")
    parser.add_argument("-part", choices=list(PARTS), help="only watchpoints, or only perf and BPF")
    arguments = parser.parse_args()
    parts = [PARTS[arguments.part]] if arguments.part else list(PARTS.values())
    with tempfile.TemporaryDirectory(prefix="kwatch-faults-") as name:
        script = Path(name, "faults.py")
        session = str(CHECKOUT / "tests" / "session")
        script.write_text(SCRIPT.format(session=session, every=arguments.every, parts=parts))
        plugin = CHECKOUT / "gdb_kwatch" / "gdbinit.py"
        program = build("blamed_unchanged", Path(name))
        gdb = shlex.split(os.environ.get("KWATCH_GDB", "gdb"))
        words = [*gdb, "-nx", "-q", "-batch", "-iex", f"source {plugin}", "-x", str(script)]
        last: deque[str] = deque(maxlen=60)
        with subprocess.Popen(
            [*words, str(program)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                last.append(line)
                if line.startswith("WRONG "):
                    print(line, end="", flush=True)
    if not last or not last[-1].startswith("ROUNDS "):
        print(f"gdb ended with {running.returncode}:\n{''.join(last)}")
        return 1
    _, rounds, wrong = last[-1].split()
    print(f"{rounds} rounds, {wrong} faults")
    return 1 if int(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
