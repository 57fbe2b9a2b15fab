"""What an operation of the arbiter costs, with few requests and with many.  No gdb, no program.

    python3 tests/bench/arbiter.py [-n COUNT ...] [-operations N] [-json FILE]

Eight programs; nine of ten requests are of one program, the others of all; priorities from
background to native; a third are single bytes that may be merged.  With COUNT requests there,
nearly all of them waiting, the operations are timed one by one, in random order.  "uninstall" is
the release of one that holds slots: whoever takes its place is part of it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gdb_kwatch.core.arbiter import PRIORITIES, Arbiter, Request  # noqa: E402
from gdb_kwatch.core.debugreg import READ_WRITE, WRITE  # noqa: E402
from gdb_kwatch.core.records import Region  # noqa: E402

COUNTS = (10, 1_000, 100_000)
PROGRAMS = "ABCDEFGH"
OPERATIONS = ("request", "release", "regions", "priority", "uninstall", "would")
BUDGET = (1_000, 50.0)  # requests, microseconds an operation
MICRO = 1e-6


class Load:
    """An arbiter with ``count`` requests, and what can be asked of it."""

    def __init__(self, count: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.arbiter = Arbiter()
        for program in PROGRAMS:
            self.arbiter.live(program, True)
        self.places = 4 * count + 16
        self.requests = [self.ask(**self.wish()) for _ in range(count)]
        for index, request in enumerate(self.requests):
            request.owner = index

    def wish(self) -> dict[str, Any]:
        choose = self.random
        place = 0x10000 + 8 * choose.randrange(self.places)
        if choose.random() < 1 / 3:
            regions = [Region(place + choose.randrange(8), 1, WRITE)]
        else:
            regions = [Region(place, 8 * choose.choice((1, 1, 2, 3)), READ_WRITE)]
        return {
            "regions": regions,
            "scope": None if choose.random() < 0.1 else choose.choice(PROGRAMS),
            "priority": choose.choice(sorted(PRIORITIES.values())[:3]),
            "mergeable": regions[0].rw == WRITE,
        }

    def ask(self, regions: list[Region], **options: Any) -> Request:
        return self.arbiter.request(regions, **options)

    def one(self, operation: str) -> float:
        """Seconds of CPU that one operation took; the number of requests is the same after it."""
        arbiter, wish = self.arbiter, self.wish()
        index = self.random.randrange(len(self.requests))
        request = self.requests[index]
        if operation == "uninstall":
            request = self.random.choice(self.holders())
            index = request.owner
        began = time.process_time()
        if operation == "request":
            new = self.ask(**wish)
        elif operation in ("release", "uninstall"):
            arbiter.release(request)
        elif operation == "regions":
            arbiter.change(request, regions=wish["regions"])
        elif operation == "priority":
            arbiter.change(request, priority=wish["priority"])
        else:
            arbiter.would(**wish)
        took = time.process_time() - began
        if operation == "request":
            arbiter.release(request)
        elif request.released:
            new = self.ask(**wish)
        if request.released:
            self.requests[index], new.owner = new, index
        return took

    def holders(self) -> list[Request]:
        slots = [self.arbiter.holders(program) for program in PROGRAMS]
        return [request for each in slots for some in each.values() for request in some]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="what an operation of the arbiter costs")
    parser.add_argument("-n", type=int, nargs="+", default=COUNTS, metavar="COUNT")
    parser.add_argument("-operations", type=int, default=3_000, metavar="N")
    parser.add_argument("-json", metavar="FILE")
    options = parser.parse_args(argv)
    results = [measure(count, options.operations) for count in options.n]
    sys.stdout.write(text(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def measure(count: int, operations: int) -> dict[str, Any]:
    """Microseconds of CPU an operation, with ``count`` requests there."""
    load = Load(count, seed=count)
    times: dict[str, list[float]] = {operation: [] for operation in OPERATIONS}
    for _ in range(operations):
        operation = load.random.choice(OPERATIONS)
        times[operation].append(load.one(operation) / MICRO)
    every = [took for some in times.values() for took in some]
    return {
        "requests": count,
        "waiting": sum(not request.installed for request in load.arbiter.requests),
        "operations": operations,
        "median": statistics.median(every),
        "mean": statistics.fmean(every),
        "each": {name: statistics.median(some) for name, some in times.items() if some},
    }


def text(results: list[dict[str, Any]]) -> str:
    """A line a count; growth is against the line above."""
    lines = ["microseconds of CPU an operation (median; mean; median of each kind)", ""]
    names = "".join(f"{name:>10}" for name in OPERATIONS)
    lines.append(f"{'requests':>8} {'waiting':>8} {'median':>8} {'mean':>8} {'growth':>7}{names}")
    before = None
    for result in results:
        growth = f"x{result['median'] / before:.2f}" if before else ""
        before = result["median"]
        each = "".join(f"{result['each'].get(name, 0):>10.1f}" for name in OPERATIONS)
        lines.append(
            f"{result['requests']:>8} {result['waiting']:>8} {result['median']:>8.1f}"
            f" {result['mean']:>8.1f} {growth:>7}{each}"
        )
    for result in results:
        if result["requests"] == BUDGET[0]:
            kept = "within" if result["median"] <= BUDGET[1] else "over"
            lines += ["", f"{kept} the budget of {BUDGET[1]:.0f} us at {BUDGET[0]:,} requests"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
