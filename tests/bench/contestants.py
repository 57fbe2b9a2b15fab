"""Who runs against whom, and what shows that each has measured what it should.

Each contestant is one way to do the same thing; `base` is the one it is compared with, round by
round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from debuggers import BareKernelLoop, BareLoop, Gdb, Lldb, Strace, WrongCount

Facts = dict[str, Any]

BARE = "bare ptrace loop, in C"
WATCH = "gdb watch"
WATCH_4 = "gdb watch, four slots in use"
KWATCH = "kwatch"
KWATCH_4 = "kwatch, four slots in use"
ADOPTED = "gdb watch, adopted by kwatch"
COMMANDS = "gdb watch, commands/silent/continue"
LLDB = "LLDB"
STOP_METHOD = "gdb watch -l, a Python stop()"
BARE_CONDITION = "condition by BPF, bare, in C"
IN_KERNEL = "kwatch, condition in the kernel"
IN_KERNEL_AGAIN = "the same again"
GDB_LOG = "gdb watch, commands/silent/printf/continue"
BARE_TRACE = "values by BPF, bare, in C"
TRACE = "kwatch trace"
TRACE_AGAIN = "the same again (trace)"


@dataclass(frozen=True)
class Cost:
    """Microseconds a hit: on the clock, and of CPU time in gdb alone (None for others), which
    suffers less where other programs run."""

    clock: float
    cpu: float | None


@dataclass(frozen=True)
class Contestant:
    """One row of a table.

    run:    takes a number of hits, measures, and gives the facts
    kwatch: whether kwatch is loaded
    counts: where its own count of the hits stands in the facts; None where it has none beside the
            kernel's
    writes: whether the program runs to its end
    share:  how much of the hits are enough for it
    stops:  whether the program stops at each hit
    """

    name: str
    base: str | None
    run: Callable[[int], Facts] = field(repr=False)
    kwatch: bool = False
    counts: tuple[str, str] | None = None
    writes: bool = True
    share: float = 1.0
    stops: bool = True

    def measure(self, hits: int) -> Cost:
        """What one hit takes.  WrongCount where something else was measured."""
        own = max(round(hits * self.share), 10)
        facts = self.run(own)
        try:
            check(self, facts, own)
        except WrongCount as error:
            raise WrongCount(f"{error}\n{facts.get('said', '')}".rstrip()) from None
        cpu = facts.get("cpu")
        return Cost(1e6 * facts["seconds"] / own, None if cpu is None else 1e6 * cpu / own)


def check(who: Contestant, facts: Facts, hits: int) -> None:
    """A bench that measured nothing, or something else, must fail."""
    if who.writes and facts["written"] != hits:
        raise WrongCount(f"{who.name}: a is {facts['written']} at the end, not {hits}")
    if who.stops and facts["stops"] < hits:
        raise WrongCount(f"{who.name}: the program stopped {facts['stops']} times, not {hits}")
    if facts.get("software"):
        raise WrongCount(f"{who.name}: gdb has single-stepped for a software watchpoint")
    if who.kwatch != (facts.get("kwatch") is not None):
        raise WrongCount(f"{who.name}: kwatch is {'not ' * who.kwatch}loaded")
    if who.counts is not None:
        table, row = who.counts
        counted = (facts[table] or {}).get(row)
        if counted != hits:
            raise WrongCount(f"{who.name}: it has counted {counted} hits of {hits}")


# The cost of a trap is measured, so each hit is to be one.
IN_GDB = "set kwatch kernel-conditions off"


def traps(gdb: Gdb, plugin: str, beside: str | None, lldb: Lldb | None) -> Iterator[Contestant]:
    """The cost of a trap whose watchpoint has a condition that is false."""

    def watching(*lines: str, plugin: str | None = None) -> Callable[[int], Facts]:
        return lambda hits: gdb.ask(f"trap_cost({hits}, {list(lines)!r})", plugin)

    def kwatches(plugin: str, mark: str = "") -> Iterator[Contestant]:
        one, others = "kwatch a if a < 0", ("kwatch -l b", "kwatch -l c", "kwatch -l d")
        for name, base, lines in (
            (KWATCH, WATCH, [IN_GDB, one]),
            (KWATCH_4, WATCH_4, [IN_GDB, one, *others]),
            (ADOPTED, WATCH, ["watch a if a < 0"]),
        ):
            run = watching(*lines, plugin=plugin)
            yield Contestant(name + mark, base, run, kwatch=True, counts=("kwatch", "a"))

    yield Contestant(BARE, WATCH, BareLoop().ask)
    yield Contestant(WATCH, None, watching("watch a if a < 0"))
    others = ("watch -l b", "watch -l c", "watch -l d")
    yield Contestant(WATCH_4, WATCH, watching("watch a if a < 0", *others))
    yield from kwatches(plugin)
    if beside is not None:
        yield from kwatches(beside, " (beside)")
    # Breakpoint 1 was the one at main.
    commands = watching("watch a", "commands\nsilent\ncontinue\nend")
    yield Contestant(COMMANDS, WATCH, commands, counts=("counts", "2"))
    if lldb is not None:
        # Twenty times as slow, and as steady.
        yield Contestant(LLDB, WATCH, lambda hits: lldb.ask(f"trap_cost({hits})"), share=0.05)


FREE = "gdb, nothing set"
ARMED = "kwatch -k, armed and not hit"
HIT = "kwatch -k, hit, condition false"
CATCH = "gdb catch syscall, condition false"
STRACE = "strace -o /dev/null"
ALONE = "no debugger"


def calls(gdb: Gdb, plugin: str, strace: Strace) -> Iterator[Contestant]:
    """The cost of a system call that fills a buffer: pread(2), watched or not."""

    def asking(*lines: str, plugin: str | None = None) -> Callable[[int], Facts]:
        return lambda times: gdb.ask(f"trap_cost({times}, {list(lines)!r})", plugin)

    yield Contestant(ALONE, FREE, strace.alone, stops=False)
    yield Contestant(FREE, None, asking(), stops=False)
    yield Contestant(
        ARMED,
        FREE,
        asking("kwatch -k quiet", plugin=plugin),
        kwatch=True,
        counts=None,
        stops=False,
    )
    hit = asking("kwatch -k -every filled if a < 0", plugin=plugin)
    yield Contestant(HIT, FREE, hit, kwatch=True, counts=("kwatch", "filled"))
    yield Contestant(CATCH, FREE, asking("catch syscall pread64", "condition $bpnum a < 0"))
    if strace.command:
        yield Contestant(STRACE, FREE, strace.ask, stops=False)


_STOP_METHOD = (
    'python exec("class W(gdb.Breakpoint):\\n def stop(self):\\n  return False")',
    "python W('a', gdb.BP_WATCHPOINT)",
)


def kernel(gdb: Gdb, plugin: str, lldb: Lldb | None) -> Iterator[Contestant]:
    """The cost of a hit that does not stop: by stops that go on, and in the kernel."""

    def watching(*lines: str, plugin: str | None = None) -> Callable[[int], Facts]:
        return lambda hits: gdb.ask(f"trap_cost({hits}, {list(lines)!r})", plugin)

    yield Contestant(BARE_CONDITION, WATCH, BareKernelLoop("condition").ask, stops=False)
    yield Contestant(WATCH, None, watching("watch a if a < 0"))
    yield Contestant(STOP_METHOD, WATCH, watching(*_STOP_METHOD))
    condition = watching("kwatch a if a < 0", plugin=plugin)
    for name, base in ((IN_KERNEL, WATCH), (IN_KERNEL_AGAIN, BARE_CONDITION)):
        yield Contestant(name, base, condition, True, ("kwatch", "a"), stops=False)
    log = watching("watch a", 'commands\nsilent\nprintf "%ld\\n", a\ncontinue\nend')
    yield Contestant(GDB_LOG, WATCH, log, counts=("counts", "2"), share=0.25)
    yield Contestant(BARE_TRACE, WATCH, BareKernelLoop("values").ask, stops=False)
    trace = watching("kwatch trace a", plugin=plugin)
    for name, base in ((TRACE, GDB_LOG), (TRACE_AGAIN, BARE_TRACE)):
        yield Contestant(name, base, trace, True, ("traced", "a"), stops=False)
    if lldb is not None:
        yield Contestant(LLDB, WATCH, lambda hits: lldb.ask(f"trap_cost({hits})"), share=0.05)


IDLE = {
    "stop (continue to a breakpoint)": "stop_cost",
    "step (stepi)": "step_cost",
    "breakpoint with a false condition": "breakpoint_cost",
}


def idle(gdb: Gdb, plugin: str) -> Iterator[Contestant]:
    """What kwatch costs where no watchpoint is set."""

    def asking(function: str, plugin: str | None) -> Callable[[int], Facts]:
        return lambda times: gdb.ask(f"{function}({times})", plugin)

    for what, function in IDLE.items():
        writes = function == "breakpoint_cost"  # the others do not run to the end
        with_it = f"{what}, with kwatch"
        yield Contestant(what, None, asking(function, None), writes=writes)
        yield Contestant(with_it, what, asking(function, plugin), kwatch=True, writes=writes)
