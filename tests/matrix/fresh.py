"""Set-up on a new machine: a minimal Debian with python3 and this checkout, and nothing else.

    python3 tests/matrix/fresh.py [-v] [SUITE ...]

In a pristine root of each suite (bookworm and trixie if none is named): the demo, the demo again,
all tests, and the demo without a network. Each must exit 0 and leave no process behind; the demo
must show its three hits. Only the base that the roots start from is kept between runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import roots
from checkout import demo, exit_code, say, table

SUITES = ("bookworm", "trixie")
TAIL = 30


@dataclass(frozen=True)
class Step:
    """One thing a new user does; `shows` is a text its output must have."""

    name: str
    verb: str
    shows: str = ""
    network: bool = True


STEPS = (
    Step("demo", "demo", demo.PROOF),
    Step("demo-again", "demo", demo.PROOF),
    Step("test", "test"),
    Step("demo-offline", "demo", demo.PROOF, network=False),
)


def taken(step: Step, suite: str, root: Path) -> tuple[bool, tuple[str, ...]]:
    """Take one step in `root`; was it fine, and its row of the table."""
    say.step(f"{suite}: python3 -m gdb_kwatch {step.verb} ({step.name})")
    log = roots.log_file(suite, f"fresh-{step.name}")
    start = time.monotonic()
    command = ["python3", "-m", "gdb_kwatch", step.verb]
    outcome = roots.run(root, command, seconds=3600, log=log, network=step.network)
    seconds = time.monotonic() - start
    fine, said = outcome.fine, str(outcome)
    if fine and step.shows not in log.read_text(encoding="utf-8", errors="replace"):
        fine, said = False, f"exit 0, but it did not show '{step.shows}'"
    return fine, (suite, step.name, f"{seconds:.0f} s", "ok" if fine else f"{said}; see {log}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="show what each step printed")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    arguments = parser.parse_args()
    rows, good = [], True
    for suite in arguments.suites or SUITES:
        with roots.held(suite), roots.pristine(suite) as root:
            roots.copy_checkout(root)
            for step in STEPS:
                fine, row = taken(step, suite, root)
                rows.append(row)
                good = good and fine
                if arguments.verbose or not fine:
                    log = roots.log_file(suite, f"fresh-{step.name}")
                    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                    print("\n".join(lines if arguments.verbose else lines[-TAIL:]))
    print(table(("suite", "step", "time", "result"), rows))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
