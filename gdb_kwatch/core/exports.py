"""A trace for other programs: JSON lines, CSV, Chrome's trace format (Perfetto), folded stacks."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, TextIO


@dataclass(frozen=True)
class Row:
    """One record in words.  ``number`` is the value as a number where it is one."""

    time: int
    process: int
    lwp: int
    thread: int | None
    pc: int
    function: str | None
    file: str | None
    line: int | None
    expression: str
    origin: str
    system_call: int | None
    old: str | None
    new: str | None
    number: int | float | None = None
    stack: tuple[str, ...] = field(default_factory=tuple)  # innermost first
    access: str = "write"  # or read, read/write; ? where it cannot be told

    def json(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "process": self.process,
            "thread": self.thread,
            "lwp": self.lwp,
            "pc": hex(self.pc),
            "function": self.function,
            "file": self.file,
            "line": self.line,
            "expression": self.expression,
            "origin": self.origin,
            "access": self.access,
            "system_call": self.system_call,
            "old": self.old,
            "new": self.new,
            "stack": list(self.stack),
        }

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.file and self.line else hex(self.pc)


SUFFIXES = (".perfetto.json", ".trace.json", ".json", ".csv", ".folded")


class UnknownSuffix(ValueError):
    """No format goes by this name."""


def writer(filename: str) -> Callable[[TextIO, Iterable[Row]], int]:
    """What writes records in the format that a file's name asks for, and says how many there were.
    Raises UnknownSuffix."""
    for suffix in SUFFIXES:
        if filename.endswith(suffix):
            return _WRITERS[suffix]
    raise UnknownSuffix(f"{filename}: the suffix tells the format: {', '.join(SUFFIXES)}")


def _lines(file: TextIO, rows: Iterable[Row]) -> int:
    count = 0
    for row in rows:
        count += 1
        file.write(json.dumps(row.json()) + "\n")
    return count


def _csv(file: TextIO, rows: Iterable[Row]) -> int:
    writer = csv.writer(file)
    count = 0
    for count, row in enumerate(rows, 1):
        values = row.json()
        if count == 1:
            writer.writerow(values)
        values["stack"] = ";".join(row.stack)
        writer.writerow(["" if value is None else value for value in values.values()])
    return count


def _chrome(file: TextIO, rows: Iterable[Row]) -> int:
    """The JSON object format: instants on a track a thread, counters for values.

    Times are microseconds from the first record: a clock since boot makes numbers that a double
    does not hold to the nanosecond.
    """
    count = 0
    file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
    separator = ""
    for event in _events(rows):
        count += event["ph"] == "i"
        file.write(separator + json.dumps(event))
        separator = ",\n"
    file.write("\n]}\n")
    return count


def _events(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    named: set[tuple[int, int]] = set()
    rows = iter(rows)
    # Two CPUs may have swapped the first ones; no time may be negative.
    first = list(islice(rows, 64))
    start = min((row.time for row in first), default=0)
    for row in chain(first, rows):
        place = {"pid": row.process, "tid": row.lwp}
        if (row.process, row.lwp) not in named:
            named.add((row.process, row.lwp))
            name = f"thread {row.thread}" if row.thread is not None else f"LWP {row.lwp}"
            yield {"ph": "M", "name": "thread_name", **place, "args": {"name": name}}
        at = (row.time - start) / 1000
        yield {
            "ph": "i",
            "s": "t",
            "name": f"{row.expression} {row.where}",
            "cat": row.origin,
            "ts": at,
            **place,
            "args": {
                "access": row.access,
                "old": row.old,
                "new": row.new,
                "function": row.function,
                "pc": hex(row.pc),
                "stack": list(row.stack),
            },
        }
        if row.number is not None:
            yield {
                "ph": "C",
                "name": row.expression,
                "ts": at,
                "pid": row.process,
                "args": {"value": row.number},
            }


def _folded(file: TextIO, rows: Iterable[Row]) -> int:
    """Brendan Gregg's format: ``outermost;...;innermost count``."""
    found: Counter[str] = Counter()
    for row in rows:
        frames = list(reversed(row.stack)) or [row.function or "??"]
        found[";".join(_frame(name) for name in (*frames, row.where))] += 1
    for stack, count in found.most_common():
        file.write(f"{stack} {count}\n")
    return sum(found.values())


def _frame(name: str) -> str:
    """The format has no way to write these."""
    return name.replace(";", ":").replace("\n", " ")


_WRITERS = {
    ".perfetto.json": _chrome,
    ".trace.json": _chrome,
    ".json": _lines,
    ".csv": _csv,
    ".folded": _folded,
}
