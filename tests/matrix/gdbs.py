"""The whole test suite on gdb 10.1, 13.1, 16.3 and 18.1, each in the Debian that carries it.

    python3 tests/matrix/gdbs.py [-v] [SUITE ...] [-- ARGUMENT ...]

Runs `python3 -m gdb_kwatch test ARGUMENT...` on a copy of the checkout in the root of each suite,
one after the other; ends with a table, and with exit code 1 if anything failed. Needs the network
only for what the roots do not have yet.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import roots
from checkout import debugger, exit_code, say, table

# By pytest itself, inside the root: its own words on a terminal are made to be read by people.
REPORT = "/root/kwatch-tests.xml"
PYTHON = "python import sys; print('.'.join(map(str, sys.version_info[:3])))"
SECONDS = 3600


@dataclass(frozen=True)
class Result:
    """One suite's row of the table."""

    suite: str
    gdb: str
    python: str
    counts: Counter[str]
    seconds: float
    said: str
    fine: bool

    def row(self) -> tuple[object, ...]:
        counts = [self.counts[name] for name in ("passed", "failed", "skipped")]
        return (self.suite, self.gdb, self.python, *counts, f"{self.seconds:.0f} s", self.said)


def tested(suite: str, arguments: list[str], verbose: bool) -> Result:
    """Run the tests in the root of `suite`, making it first if need be."""
    with roots.held(suite):
        root = roots.made(suite)
        roots.copy_checkout(root)
        gdb = debugger.version_in(roots.output(root, ["gdb", "-nx", "--version"]))
        python = roots.output(root, ["gdb", "-nx", "-batch", "-ex", PYTHON]).strip()
        say.step(f"testing in {suite}: gdb {gdb}, Python {python}")
        report = root / REPORT.lstrip("/")
        report.unlink(missing_ok=True)
        log = None if verbose else roots.log_file(suite, "test")
        start = time.monotonic()
        outcome = roots.run(
            root,
            ["python3", "-m", "gdb_kwatch", "test", "--", *arguments],
            seconds=SECONDS,
            log=log,
            env={"PYTEST_ADDOPTS": f"--junitxml={REPORT}"},
        )
        seconds = time.monotonic() - start
        counts, failures = read(report)
    for name in failures:
        say.step(f"{suite}: FAILED {name}")
    said = "ok" if outcome.fine else str(outcome) + (f"; see {log}" if log else "")
    return Result(suite, gdb, python, counts, seconds, said, outcome.fine and not failures)


def read(report: Path) -> tuple[Counter[str], list[str]]:
    """Passed, failed (errors too) and skipped in a JUnit report, and the names of what failed."""
    counts: Counter[str] = Counter()
    failures = []
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            marks = {child.tag for child in case}
            bad = bool(marks & {"failure", "error"})
            counts["failed" if bad else "skipped" if "skipped" in marks else "passed"] += 1
            if bad:
                failures.append(f"{case.get('classname')}::{case.get('name')}")
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="show the tests' output")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" ".join(roots.SUITES))
    own, passed_on = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, passed_on = own[:at], own[at + 1 :]
    arguments = parser.parse_args(own)
    results = []
    for suite in arguments.suites or roots.SUITES:
        try:
            results.append(tested(suite, passed_on, arguments.verbose))
        except say.Stop as stop:
            if stop.code == say.USER_MUST_ACT:
                raise
            results.append(Result(suite, "?", "?", Counter(), 0, str(stop), False))
    heads = ("suite", "gdb", "python", "passed", "failed", "skipped", "time", "result")
    print(table(heads, [result.row() for result in results]))
    return 0 if all(result.fine for result in results) else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
