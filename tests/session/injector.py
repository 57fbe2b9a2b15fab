"""Runs inside gdb: makes the calls of the kernel's interfaces fail, one after the other.

Each round plays the same session on fixtures/blamed_unchanged.c while one call, or all from one on,
fail with an errno, or the program is killed there; then the session is played once more with
nothing failing, and must show every hit.

What is asked of gdb itself is counted too: the program may be dead when it is asked, or its memory
not be readable.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import gdb

from gdb_kwatch.inferior import faults
from gdb_kwatch.inferior.handlers import PROMPTS
from gdb_kwatch.linux import bpf, filters, perf_event, ptrace, signals
from gdb_kwatch.ui import plugin

_LONG = 180  # s
ERRORS = ("EPERM", "ESRCH", "EIO", "ENOSPC", "EINTR")
SHOWN = ("Traceback", "Python Exception", "Error occurred in Python", "internal fault", "$_kwatch")


class Module:
    """A module of Python's as one of kwatch's sees it, for functions of it to be exchanged."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


for module in (perf_event, bpf):
    module.fcntl = Module(module.fcntl)
    module.os = Module(module.os)


# Asked of the kernel, an errno's name is what the call fails with; the rest is about the program.
# Not while gdb reads symbols for `run`: gdb 13.1 waits for ever in the next run then, also without
# kwatch.
KILL = "KILL"  # it is dead when the kernel is called
KILL_AFTER = "KILL AFTER"  # it is dead as soon as the kernel has answered
KILL_IN_GDB = "KILL IN GDB"  # it is dead when gdb is asked
MEMORY = "MEMORY"  # gdb cannot read its memory
KILLS = (KILL, KILL_AFTER, KILL_IN_GDB)
PROGRAM = (*KILLS, MEMORY)
# With these a hit may go by: gdb has no program, or kwatch takes its memory for unmapped.
UNSEEN = (*PROGRAM, "ESRCH")

evaluate, selected_inferior, inferiors = gdb.parse_and_eval, gdb.selected_inferior, gdb.inferiors


def kill() -> None:
    """Kill the program, and wait until it is dead."""
    pid = selected_inferior().pid
    if not pid:
        return
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(30_000), "SIGKILL does not end the program"
        finally:
            os.close(fd)


def in_new_objfile() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "at_new_objfile":
            return True
        frame = frame.f_back
    return False


class Inferior:
    """A gdb.Inferior whose memory may be unreadable."""

    def __init__(self, real: gdb.Inferior, read: Any) -> None:
        self.real = real
        self.read_memory = read(real.read_memory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __eq__(self, other: object) -> bool:
        return self.real == getattr(other, "real", other)

    def __hash__(self) -> int:
        return hash(self.real)


class Calls:
    """Every call that the plugin makes of ptrace, perf and BPF, counted; closing never fails.

    At call number ``at`` (and ``times`` - 1 after it) ``do`` happens: an errno's name, or one of
    the words above; then it is the questions to gdb, or the reads of memory, that are counted.
    """

    # Where a call is to be had, and what it returns when it fails; None: it raises OSError.
    SEAMS = (
        (ptrace, "call", -1),
        (ptrace, "_quick", (1 << 64) - 1),
        (perf_event._libc, "syscall", -1),
        (perf_event._libc, "mmap", (1 << 64) - 1),
        (perf_event.fcntl, "fcntl", None),
        (perf_event.fcntl, "ioctl", None),
        (perf_event.os, "read", None),
        (bpf, "_call", -1),
        (bpf.fcntl, "ioctl", None),
        (signals, "_libc_call", -1),  # tgkill
    )
    ASKED = (
        *("selected_thread", "selected_inferior", "inferiors", "parse_and_eval", "newest_frame"),
        *("selected_frame", "execute", "lookup_symbol", "find_pc_line", "block_for_pc"),
    )

    def __init__(self) -> None:
        for owner, name, bad in self.SEAMS:
            setattr(owner, name, self.counted(getattr(owner, name), bad))
        self.asked = {name: getattr(gdb, name) for name in self.ASKED}
        self.set(-1, "", 0)

    def set(self, at: int, do: str, times: int) -> None:
        self.at, self.do, self.times, self.count = at, do, times, 0
        for name, real in self.asked.items():
            setattr(gdb, name, self.asking(real) if do == KILL_IN_GDB else real)
        if do == MEMORY:
            gdb.parse_and_eval = self.evaluated
            gdb.selected_inferior = lambda: Inferior(selected_inferior(), self.reading)
            gdb.inferiors = lambda: tuple(Inferior(each, self.reading) for each in inferiors())

    def due(self) -> bool:
        """Whether it is to happen at this call."""
        number = self.count
        self.count += 1
        return self.at <= number < self.at + self.times

    def counted(self, real: Any, bad: int | None) -> Any:
        def call(*arguments: Any) -> int:
            if self.do in (KILL_IN_GDB, MEMORY) or self.do in KILLS and in_new_objfile():
                return real(*arguments)
            if not self.due():
                return real(*arguments)
            if self.do == KILL:
                kill()
            elif self.do != KILL_AFTER:
                number_of = getattr(errno, self.do)
                if bad is None:
                    raise OSError(number_of, os.strerror(number_of))
                ctypes.set_errno(number_of)
                return bad
            try:
                return real(*arguments)
            finally:
                if self.do == KILL_AFTER:
                    number_of = ctypes.get_errno()
                    kill()
                    ctypes.set_errno(number_of)

        return call

    def asking(self, real: Any) -> Any:
        def ask(*arguments: Any, **named: Any) -> Any:
            if not in_new_objfile() and self.due():
                kill()
            return real(*arguments, **named)

        return ask

    def reading(self, real: Any) -> Any:
        def read(address: Any, length: Any) -> Any:
            self.may_be_unreadable(int(address))
            return real(address, length)

        return read

    def evaluated(self, *arguments: Any, **named: Any) -> gdb.Value:
        value = evaluate(*arguments, **named)
        if value.is_lazy and value.address is not None:
            self.may_be_unreadable(int(value.address))
        return value

    def may_be_unreadable(self, address: int) -> None:
        if self.due():
            raise gdb.MemoryError(f"Cannot access memory at address {address:#x}")


def play(commands: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Each command, what gdb answered, and whether that was an error."""
    for command in commands:
        try:
            yield command, gdb.execute(command, to_string=True), False
        except gdb.error as error:
            yield command, str(error), True


START = ("delete", "tbreak main", "run", "kwatch pair.a", "watch pair.b")
GO = ("continue", "continue")
LOOK = ("kwatch list", "kwatch slots", "kwatch verify", "kwatch hits", "info watchpoints")
# The same by perf and BPF: hits by the kernel, a condition in it, a trace, and who touches it.
KERNEL = (
    *("set kwatch kernel-conditions auto", "delete", "tbreak main", "run", "kwatch -k pair.a"),
    *("kwatch pair.b if pair.b >= 0", "kwatch trace pair.a", "continue"),
)
KERNEL_LOOK = (
    *("continue", *LOOK, "kwatch trace summary", "kwatch trace stop", "tbreak main", "run"),
    "kwatch who -for 5 pair.a",
)
KERNEL_LAST = ("delete", "set kwatch kernel-conditions off")
SET = {"pair.a": "kwatch -k pair.a", "pair.b": "kwatch pair.b if pair.b >= 0"}
NEW = {"pair.a": {"1", "2"}, "pair.b": {"5"}}
# What says that hits may be missed.
SAID = ("is disabled", "not armed on every thread", "watches nothing", "the system refused")


def value(name: str) -> int | None:
    try:
        return int(evaluate(name)) if selected_inferior().pid else None
    except gdb.error:
        return None


def descriptors() -> Counter[str]:
    """What this process has open, by its kind."""
    names: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            names[os.readlink(f"/proc/self/fd/{number}")] += 1
    return names


def bpf_open() -> int:
    """Programs and maps; the last trace keeps some."""
    return sum(count for name, count in descriptors().items() if "bpf" in name)


class Round:
    """One session with faults and one without; ``wrong`` says what was not as it must be."""

    def __init__(self, calls: Calls, at: int, do: str, times: int, kernel: bool = False) -> None:
        self.wrong: list[str] = []
        self.said: list[str] = []
        faults._told.clear()
        for tried in (filters._able, filters._place_of_blocked):
            tried.cache_clear()  # what the kernel can do is tried anew, and may fail
        calls.set(at, do, times)
        text = self.by_kernel(do) if kernel else self.faulty(do)
        made = calls.count
        calls.set(-1, "", 0)
        lines = [line for line in text.split("\n") if line.startswith(("kwatch: ", "warning: kw"))]
        self.said = lines
        if len(lines) > (1 if times == 1 else 2):
            self.wrong.append(f"{len(lines)} lines: {lines}")
        self.wrong += [f"{word} was shown" for word in SHOWN if word in text]
        self.calls = made
        self.text = text
        if kernel:
            self.healthy_by_kernel()
        self.healthy()

    def faulty(self, do: str) -> str:
        text = ""
        refused = False
        for command, answer, error in play((*START, "continue")):
            text += answer
            if error and command.startswith(("kwatch", "watch")):
                refused = True  # said at once, and not set
        if not refused and do not in UNSEEN and value("pair.a") not in (0, 1):
            self.wrong.append(f"it went by: pair.a is {value('pair.a')}")
        for _, answer, _ in play((*GO[1:], *LOOK)):
            text += answer
        return text

    def by_kernel(self, do: str) -> str:
        """What is refused is said, and nothing of it stays."""
        text, refused = "", set()
        for command, answer, error in play(KERNEL):
            text += answer
            if error:
                refused.add(command)
        self.set = {name for name, command in SET.items() if command not in refused}
        gone = do in UNSEEN or any(said in text for said in SAID)
        if "pair.a" in self.set and not gone and value("pair.a") not in (0, 1):
            self.wrong.append(f"it went by: pair.a is {value('pair.a')}")
        for _, answer, _ in play(KERNEL_LOOK):
            text += answer
        return text

    def healthy_by_kernel(self) -> None:
        """Each that was set sees its hits in the next run, or was said to be disabled."""
        there = {w.expression for w in plugin.session.registry.watches.values() if w.enabled}
        if self.set - there and not any(said in self.text for said in SAID):
            self.wrong.append(f"lost, and nothing was said: {self.set - there}")
        history = plugin.session.engine.history
        before = history.count
        for command, answer, error in play(("tbreak main", "run", *GO)):
            if error and self.set & there:
                self.wrong.append(f"afterwards {command!r} fails: {answer}")
        traps = history.last(history.count - before)
        for name in self.set & there:
            seen = {hit.new for trap in traps for hit in trap.hits if hit.expression == name}
            if not seen >= NEW[name]:
                self.wrong.append(f"afterwards {name} has the hits {seen}")
        for _ in play(KERNEL_LAST):
            pass
        PROMPTS.now()  # gdb 10 has no event for a catchpoint that is deleted: it is missed there
        left = [name for name, count in descriptors().items() if "perf_event" in name and count]
        if left:
            self.wrong.append(f"descriptors are left open: {left}")

    def healthy(self) -> None:
        there = {bp.expression for bp in gdb.breakpoints() or () if bp.number > 0}
        if not {"pair.b"} <= there and "pair.a" in there:
            self.wrong.append(f"lost: {there}")
        history = plugin.session.engine.history
        before = history.count
        missing = [c for c in START[3:] if c.split()[1] not in there]
        for command, answer, error in play(("tbreak main", "run", *missing, *GO)):
            if error:
                self.wrong.append(f"afterwards {command!r} fails: {answer}")
        hits = [
            sorted(hit.expression for hit in trap.hits)
            for trap in history.last(history.count - before)
            if trap.origin == "user"
        ]
        if hits != [["pair.a", "pair.b"]] * 2:
            self.wrong.append(f"afterwards the hits are {hits}")


def rounds(
    every: int, errors: Iterable[str], lengths: Iterable[int], kernel: bool = False
) -> tuple[int, list[str]]:
    """All rounds; how many there were, and what went wrong in them.

    ``every``: only each such call, from a different one on for each errno.  ``kernel``: by perf and
    BPF.
    """
    calls = Calls()
    lengths = tuple(lengths)
    for setting in ("confirm off", "pagination off", "print thread-events off"):
        gdb.execute(f"set {setting}")
    Round(calls, -1, "", 0, kernel)
    first = bpf_open()
    count, wrong = 0, []
    for n, do in enumerate(errors):
        total = Round(calls, -1, do, 0, kernel).calls
        for times in lengths:
            for at in range(n % every, total, every):
                what = f"{do} at call {at} of {total}, {times} times"
                print(what, flush=True)
                signal.alarm(_LONG)  # ends gdb, where a command of it never comes back
                played = Round(calls, at, do, times, kernel)
                signal.alarm(0)
                count += 1
                found = [f"{what}: {text}" for text in played.wrong]
                if bpf_open() > first:
                    found.append(f"{what}: {bpf_open() - first} descriptors of BPF are left open")
                    first = bpf_open()
                for text in found:
                    print("WRONG", text, flush=True)
                wrong += found
    return count, wrong
