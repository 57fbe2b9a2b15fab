"""The figures as people read them, and as JSON; and what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contestants import IN_KERNEL, IN_KERNEL_AGAIN, KWATCH, KWATCH_4, TRACE, TRACE_AGAIN
from machine import Machine
from races import Load, Memory, Million, Row

MOST_RATIO = 1.30  # of gdb's own watch
# Eight times as fast as gdb, and near to the floor in C.
KERNEL_AIMS = {IN_KERNEL: 0.125, IN_KERNEL_AGAIN: 1.25, TRACE: 0.125, TRACE_AGAIN: 1.6}
MOST_LOAD = 50.0  # milliseconds
MOST_IDLE = 1.05  # of gdb alone; within what two runs of the same gdb differ by
MOST_PEAK = 300.0  # megabytes of gdb, with a million records
MOST_GROWTH = 32.0  # bytes a trap beyond what the history is to keep, and beyond gdb's own


@dataclass
class Results:
    """All that one bench found; None or empty where it was not asked for."""

    machine: Machine
    hits: int
    rounds: int
    traps: list[Row] = field(default_factory=list)
    kernel: list[Row] = field(default_factory=list)
    idle: list[Row] = field(default_factory=list)
    calls: list[Row] = field(default_factory=list)
    load: Load | None = None
    memory: list[Memory] = field(default_factory=list)
    million: Million | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Aim:
    """One thing that is aimed at: never a reason to fail, a noisy machine would."""

    what: str
    most: float
    found: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.found <= self.most

    def text(self) -> str:
        verdict = "met" if self.met else "MISSED"
        return f"{self.what}: {self.found:.2f}{self.unit}, aim {self.most:g}{self.unit}: {verdict}"


def aims(results: Results) -> list[Aim]:
    """What is aimed at, of what was measured."""
    found = []
    for row in results.traps:
        if row.name in (KWATCH, KWATCH_4) and row.ratio is not None:
            found.append(Aim(f"{row.name}, of {row.base}", MOST_RATIO, row.ratio.median))
    for row in results.kernel:
        if row.name in KERNEL_AIMS and row.ratio is not None:
            what = f"{row.name}, of {row.base}"
            found.append(Aim(what, KERNEL_AIMS[row.name], row.ratio.median))
    for row in results.idle:
        if row.ratio is not None:
            found.append(Aim(f"no watchpoint set, {row.base}", MOST_IDLE, row.ratio.median))
    if results.load is not None:
        found.append(Aim("load", MOST_LOAD, results.load.added.median, " ms"))
    if len(results.memory) > 1:
        gdb, ring = results.memory[:2]
        growth = ring.bytes_a_trap - gdb.bytes_a_trap
        found.append(Aim("growth once the history is full", MOST_GROWTH, growth, " bytes a trap"))
    if results.million is not None:
        peak = max(results.million.peaks) / 1024
        what = f"gdb's peak, {results.million.records:,} records"
        found.append(Aim(what, MOST_PEAK, peak, " MB"))
    return found


def text(results: Results) -> str:
    """Tables, one for each kind of measurement."""
    parts = [results.machine.text(), *results.notes]
    if results.traps:
        parts.append(
            f"A trap with a false condition: n = {results.hits}, rounds = {results.rounds}\n"
            + _rows(results.traps)
        )
    if results.kernel:
        parts.append(
            f"A hit that does not stop: n = {results.hits}, rounds = {results.rounds}\n"
            + _rows(results.kernel)
        )
    if results.idle:
        parts.append(
            f"No watchpoint set: n = {results.hits}, rounds = {results.rounds}\n"
            + _idle(results.idle)
        )
    if results.calls:
        parts.append(
            f"A system call that fills 8 bytes: n = {results.hits}, rounds = {results.rounds}\n"
            + _rows(results.calls)
        )
    if results.load is not None:
        parts.append("Start and end of gdb, no watchpoint set\n" + _load(results.load))
    if results.memory:
        parts.append("Resident memory of gdb\n" + _memory(results.memory))
    if results.million is not None:
        parts.append("A trace by four threads, with values\n" + _million(results.million))
    if verdicts := aims(results):
        parts.append("Aims\n" + "\n".join(f"  {aim.text()}" for aim in verdicts))
    return "\n\n".join(parts) + "\n"


def as_json(results: Results) -> dict[str, Any]:
    """The same for programs."""
    return {
        "machine": asdict(results.machine),
        "n": results.hits,
        "rounds": results.rounds,
        "notes": results.notes,
        "traps": [_row_json(row) for row in results.traps],
        "kernel": [_row_json(row) for row in results.kernel],
        "idle": [_row_json(row) for row in results.idle],
        "calls": [_row_json(row) for row in results.calls],
        "load": None
        if results.load is None
        else {
            "alone_ms": results.load.alone.json(),
            "with_kwatch_ms": results.load.with_kwatch.json(),
            "added_ms": results.load.added.json(),
            "resident_kb": list(results.load.resident),
        },
        "memory": [
            {
                "name": row.name,
                "traps": list(row.traps),
                "resident_kb": list(row.resident),
                "bytes_a_trap": round(row.bytes_a_trap, 1),
            }
            for row in results.memory
        ],
        "million": asdict(results.million) if results.million is not None else None,
        "aims": [{**asdict(aim), "met": aim.met} for aim in aims(results)],
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], plain: bool = False) -> str:
    """The first column to the left, the others to the right; by tabulate where it is there."""
    if not plain:
        try:
            from tabulate import tabulate

            aligned = ("left", *["right"] * (len(heads) - 1))
            return tabulate(
                rows, headers=heads, tablefmt="simple", colalign=aligned, disable_numparse=True
            )
        except ImportError:
            pass
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def _rows(rows: Sequence[Row]) -> str:
    heads = ["", "us, median [min..max]", "gdb's CPU", "ratio, median [min..max]", "of"]
    cells = [
        [
            row.name,
            row.cost.text(".1f"),
            f"{row.cpu.median:.1f}" if row.cpu else "",
            row.ratio.text() if row.ratio else "",
            row.base or "",
        ]
        for row in rows
    ]
    return table(heads, cells)


def _idle(rows: Sequence[Row]) -> str:
    """A row of gdb's and one of kwatch's on one line."""
    alone = {row.name: row for row in rows}
    heads = ["", "gdb, us", "with kwatch, us", "ratio, median [min..max]"]
    cells = [
        [row.base, alone[row.base].cost.text(".1f"), row.cost.text(".1f"), row.ratio.text()]
        for row in rows
        if row.base and row.ratio
    ]
    return table(heads, cells)


def _load(load: Load) -> str:
    named = {"alone": load.alone, "with kwatch": load.with_kwatch, "added": load.added}
    alone, loaded = load.resident
    kilobytes = {"alone": alone, "with kwatch": loaded, "added": loaded - alone}
    rows = [[name, spread.text(".1f"), str(kilobytes[name])] for name, spread in named.items()]
    return table(["", "ms, median [min..max]", "resident kB"], rows)


def _memory(rows: Sequence[Memory]) -> str:
    first, last = rows[0].traps
    heads = ["", f"kB at {first} traps", f"kB at {last}", "bytes a trap between"]
    cells = [[row.name, *map(str, row.resident), f"{row.bytes_a_trap:.1f}"] for row in rows]
    return table(heads, cells)


def _million(found: Million) -> str:
    heads = ["records", "lost", "us each", "gdb's peak kB before", "with all", "summed up"]
    heads += ["bytes each", f"of them the store's {found.RECORD}"]
    each = found.seconds * 1e6 / max(found.records, 1)
    share = f"{100 * found.RECORD / found.bytes_a_record:.0f}%" if found.bytes_a_record else ""
    cells = [f"{found.records:,}", f"{found.lost:,}", f"{each:.1f}", *map(str, found.peaks)]
    return table(heads, [[*cells, f"{found.bytes_a_record:.0f}", share]])


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "base": row.base,
        "us": row.cost.json(),
        "cpu_us": row.cpu.json() if row.cpu else None,
        "ratio": row.ratio.json() if row.ratio else None,
    }
