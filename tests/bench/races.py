"""Runs the measurements: in rounds that are interleaved, A B C A B C, so that a machine that is
slow for a while is slow for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import figures
from contestants import IN_GDB, KWATCH, WATCH, Contestant, Cost
from debuggers import Gdb, WrongCount
from figures import Spread

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """What one contestant took for one hit (or stop, or step), in microseconds; gdb's CPU time
    of that (None for others); its ratio to the contestant `base`; None for the base itself."""

    name: str
    base: str | None
    cost: Spread
    cpu: Spread | None
    ratio: Spread | None


def race(entries: Sequence[Contestant], hits: int, rounds: int, say: Progress) -> list[Row]:
    """One paired run."""
    costs: dict[str, list[Cost]] = {entry.name: [] for entry in entries}
    for number in range(1, rounds + 1):
        for entry in entries:
            say(f"round {number} of {rounds}: {entry.name}")
            costs[entry.name].append(entry.measure(hits))
    clock = {name: [cost.clock for cost in of] for name, of in costs.items()}
    cpu = {name: [c.cpu for c in of if c.cpu is not None] for name, of in costs.items()}
    return [
        Row(
            entry.name,
            entry.base,
            figures.spread(clock[entry.name]),
            figures.spread(cpu[entry.name]) if cpu[entry.name] else None,
            figures.ratios(clock[entry.name], clock[entry.base]) if entry.base else None,
        )
        for entry in entries
    ]


@dataclass(frozen=True)
class Load:
    """How long gdb takes to start and end, in milliseconds: alone, with kwatch, and what kwatch
    adds; and its resident kilobytes with a program and no watchpoint, alone and with kwatch."""

    alone: Spread
    with_kwatch: Spread
    added: Spread
    resident: tuple[int, int] = (0, 0)


def load(gdb: Gdb, plugin: str, rounds: int, say: Progress) -> Load:
    """Whole processes, the first of each not counted: it compiles, and fills the page cache."""
    alone, with_kwatch = [], []
    say(f"starting gdb {2 * rounds + 2} times")
    gdb.ask("about()", plugin)  # compiles
    bare, loaded = gdb.ask("about()"), gdb.ask("about()", plugin)
    if loaded["kwatch"] is None:
        raise WrongCount(f"{plugin} does not load kwatch")
    for _ in range(rounds + 1):
        alone.append(1000 * gdb.start_seconds())
        with_kwatch.append(1000 * gdb.start_seconds(plugin))
    alone, with_kwatch = alone[1:], with_kwatch[1:]
    added = figures.differences(with_kwatch, alone)
    resident = bare["resident"], loaded["resident"]
    return Load(figures.spread(alone), figures.spread(with_kwatch), added, resident)


@dataclass(frozen=True)
class Memory:
    """gdb's resident kilobytes at two numbers of traps."""

    name: str
    traps: tuple[int, int]
    resident: tuple[int, int]

    @property
    def bytes_a_trap(self) -> float:
        low, high = zip(self.traps, self.resident)
        return 1024 * figures.slope(low, high)


@dataclass(frozen=True)
class Million:
    """A trace with values of all that four threads write."""

    RECORD = 56  # bytes that one takes in the store

    records: int
    lost: int
    seconds: float
    peaks: tuple[int, int, int]  # gdb's, in kilobytes: before, with all records, summed up

    @property
    def bytes_a_record(self) -> float:
        return 1024 * (self.peaks[1] - self.peaks[0]) / max(self.records, 1)


def million(gdb: Gdb, plugin: str, records: int, say: Progress) -> Million:
    """Every write is a record, or one that is counted as lost."""
    say(f"a trace of {records} writes")
    facts = gdb.ask(f"million({-(-records // 7)})", plugin)  # 4 threads, 7 writes in 4 rounds each
    if facts["hits"] != facts["written"] or facts["recorded"] + facts["lost"] != facts["written"]:
        raise WrongCount(f"a trace of {facts['written']} writes: {facts}")
    return Million(facts["recorded"], facts["lost"], facts["seconds"], tuple(facts["peaks"]))


def memory(gdb: Gdb, plugin: str, marks: tuple[int, int], say: Progress) -> list[Memory]:
    """With the usual history and with one that keeps all; and gdb alone, which grows as well."""
    condition = f"a if a == {marks[0]} || a == {marks[1]}"
    runs = [
        (WATCH, f"watch {condition}", [], None),
        (f"{KWATCH}, history {marks[0]}", f"kwatch {condition}", [marks[0]], plugin),
        (f"{KWATCH}, history {marks[1]}", f"kwatch {condition}", [marks[1]], plugin),
    ]
    # The first stop of all compiles what it imports, and that takes memory too.
    gdb.ask(f"memory(1, [{IN_GDB!r}, 'kwatch a if a == 1'], [1])", plugin)
    found = []
    for name, command, limits, loaded in runs:
        say(f"memory after {marks[1]} traps: {name}")
        lines = [*(f"set kwatch history {limit}" for limit in limits), command]
        if loaded:
            lines.insert(0, IN_GDB)
        facts = gdb.ask(f"memory({marks[1]}, {lines!r}, {list(marks)!r})", loaded)
        if loaded and facts["kwatch"] != {"a": marks[1]}:
            raise WrongCount(f"{name}: it has counted {facts['kwatch']} hits of {marks[1]}")
        found.append(Memory(name, marks, tuple(facts["resident"])))
    return found
