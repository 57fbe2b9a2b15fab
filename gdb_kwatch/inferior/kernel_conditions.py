"""Conditions that the kernel tests: a BPF program on the perf events of a kwatch, which lets the
signal through only where gdb would stop.

Where a condition cannot be compiled exactly, gdb tests it at each trap, as ever; `Judged.reason`
says why.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import gdb

from gdb_kwatch.core import conditions, filters
from gdb_kwatch.core.debugreg import PROGRAM, USER_ONLY
from gdb_kwatch.core.filters import Source, StopLayout
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import bpf
from gdb_kwatch.linux import filters as kernel

from . import by_value, gdbfacts
from .compiling import compiled
from .lvalues import Lvalue, is_signed
from .operands import numbers_of
from .targets import Target, code_ranges

if TYPE_CHECKING:
    from .kernel_watch import KernelWatch

AUTO, OFF = "auto", "off"

_numbers = itertools.count(1)


class Stopped(NamedTuple):
    """One access for which the program asked for a stop."""

    reason: int  # why the condition could not be evaluated; 0: it holds
    fault: int
    old: bytes
    new: bytes


@dataclass(frozen=True)
class Judged:
    """Who tests a condition: the kernel where ``reason`` is empty."""

    reason: str = ""

    @property
    def text(self) -> str:
        return f"in gdb: {self.reason}" if self.reason else "in kernel"


class Loaded:
    """A program in the kernel for one place in one process."""

    def __init__(self, source: Source, now: bytes) -> None:
        self.number = next(_numbers)
        self.size = source.size
        self.layout = StopLayout(source.value_size)
        self.memory = bpf.Memory(self.layout.size)
        self.fd = -1
        try:
            self.memory.data[: len(now)] = now
            code = filters.stopping(source, kernel.kernel())
            self.fd = bpf.load(code.assemble({filters.MEMORY: self.memory.fd}))
        except BaseException:
            self.close()
            raise
        self._rows: dict[int, int] = {}  # of the table of threads, by LWP
        self.know_threads()
        self._seen = 0
        self._waiting: dict[int, list[Stopped]] = {}

    def taken(self, lwp: int, known: Container[int] = ()) -> list[Stopped]:
        """The stops that it asked for on a thread since this was last asked; and those of threads
        that are not ``known``: in another PID namespace numbers are others."""
        count, layout = self.memory.word(filters.TAKEN), self.layout
        for number in range(max(self._seen, count - layout.entries), count):
            at = filters.HEAD + number % layout.entries * layout.entry
            entry = self.memory.data[at : at + layout.entry]
            thread, reason, fault = struct.unpack_from("<QQQ", entry)
            old = entry[layout.OLD : layout.OLD + self.size]
            new = entry[layout.new : layout.new + self.size]
            stop = Stopped(reason, fault, old, new)
            thread &= 0xFFFFFFFF
            if known and thread not in known:
                thread = lwp
            self._waiting.setdefault(thread, []).append(stop)
        self._seen = count
        return self._waiting.pop(lwp, [])

    def know_threads(self) -> None:
        """Have the program know each thread that is there, before it runs.  Others may be running:
        a row has its LWP last, and that of a thread that has ended is given to another."""
        living = {t.ptid[1]: t for inferior in gdb.inferiors() for t in inferior.threads()}
        for lwp, thread in living.items():
            if lwp not in self._rows:
                rows = [row for old, row in self._rows.items() if old not in living]
                free = set(range(conditions.THREADS)) - set(self._rows.values())
                if not free and not rows:
                    return  # gdb decides for the rest
                row = min(free) if free else rows[0]
                self._rows = {old: at for old, at in self._rows.items() if at != row}
                self._rows[lwp] = row
            at = self.layout.threads + conditions.ROW * self._rows[lwp]
            numbers = struct.pack("<III", *numbers_of(thread))
            if self.memory.data[at + 4 : at + 16] == numbers:
                continue
            self.memory.data[at : at + 4] = bytes(4)
            self.memory.data[at + 4 : at + 16] = numbers
            self.memory.data[at : at + 4] = struct.pack("<I", lwp)

    def close(self) -> None:
        self.memory.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def judge(mode: str, request: Request, expression: str, location: bool, lvalue: Lvalue) -> Judged:
    """Who is to test the condition of a new kwatch."""
    if mode == OFF:
        return Judged("set kwatch kernel-conditions is off")
    if not gdb.selected_inferior().pid:
        return Judged("the program was not running when it was set")
    thread = gdb.selected_thread()
    if thread is None or not gdbfacts.can_read_registers(thread.ptid[1]):
        return Judged("the program is not a process of this system that gdb traces itself")
    if by_value.recording():
        return Judged("a recording is replayed or made")
    if request.task is not None or request.everywhere:
        return Judged("it is for a task, or for all inferiors")
    if not location and gdbfacts.needs_frame(expression):
        return Judged(f"{expression} is a local variable")
    reason = _unfit(request.access, lvalue) or kernel.why_not()
    if reason:
        return Judged(reason)
    _, reason = compiled(request.condition, _target(expression, lvalue), afresh=True)
    return Judged(reason)


def _unfit(access: str, lvalue: Lvalue | None) -> str:
    """Why a place cannot be watched so."""
    if access == "read":
        return "-r tells reads by the value"
    if lvalue is None:
        return "its address is not known"
    if len(lvalue.regions) != 1 or not (lvalue.fixed or lvalue.bits):
        return "its address can change"
    if len(lvalue.regions[0].pieces()) != 1:
        return "it takes more than one slot"
    return ""


def _target(expression: str, lvalue: Lvalue) -> Target:
    kind = lvalue.type.strip_typedefs()
    signed = is_signed(kind) if kind.code == gdb.TYPE_CODE_INT else None
    return Target(expression, lvalue.regions[0], lvalue.type, signed, lvalue.bits)


class Programs:
    """The programs of a session, by the mark that they have in pieces."""

    def __init__(self, total: Callable[[KernelWatch], int]) -> None:
        """``total``: how often a kwatch was hit with the program that it has."""
        self.total = total
        # Not auto: the hit is told by a signal, which a thread may have blocked, and which ends a
        # system call early; gdb's own watchpoint knows neither.
        self.mode = OFF
        self.loaded: dict[int, Loaded] = {}

    def descriptor(self, rw: int) -> int | None:
        """The program for a piece with this mark."""
        program = self.loaded.get(rw >> PROGRAM)
        return program.fd if program is not None else None

    def refresh(self, watch: KernelWatch, regions: tuple[Region, ...]) -> None:
        """Have ``watch.program`` be right for what it watches now."""
        wanted = (
            gdb.selected_inferior().pid,
            regions,
            watch.asked,
            watch.only,
            watch.without,
            watch.access,
            self.mode == OFF,
        )
        if not regions:  # disabled, or not there: its old value means nothing when it is again
            watch.compiled_for = ()
            self.drop(watch)
            return
        if wanted == watch.compiled_for:
            return
        watch.compiled_for = wanted
        self.drop(watch)
        if (watch.asked is None and not watch.only and not watch.without) or not wanted[0]:
            watch.judged = None
            return
        watch.judged = self._load(watch, regions[0])

    def _load(self, watch: KernelWatch, region: Region) -> Judged:
        lvalue = watch.lvalue
        if self.mode == OFF:
            return Judged("set kwatch kernel-conditions is off")
        reason = _unfit(watch.access, lvalue) or kernel.why_not()
        if watch.sees_kernel:
            # Its accesses are seen in the middle of the call, and gdb looks at its end.
            reason = "-k: a system call is judged when it is done"
        if not reason and watch.needs_frame:
            reason = f"{watch.expression} is a local variable"
        if reason or lvalue is None:
            return Judged(reason)
        node, reason = compiled(watch.asked, _target(watch.text, lvalue), afresh=True)
        if reason:
            return Judged(reason)
        source = Source(
            region.address,
            region.length,
            code_ranges(watch.only),
            code_ranges(watch.without),
            on_change=watch.access == "write" and not watch.every,
            condition=node,
            bits=lvalue.bits,
        )
        try:
            now = bytes(gdb.selected_inferior().read_memory(region.address, region.length))
            program = Loaded(source, now)
        except (OSError, gdb.error, kernel.AssemblyError) as error:
            return Judged(str(getattr(error, "strerror", None) or error))
        watch.program = program
        self.loaded[program.number] = program
        return Judged()

    def know_threads(self) -> None:
        """A thread has come, and does not run yet."""
        for program in self.loaded.values():
            program.know_threads()

    def drop(self, watch: KernelWatch) -> None:
        program = watch.program
        if program is not None:
            watch.hits += self.total(watch)
            watch.program = None
            self.loaded.pop(program.number, None)
            program.close()

    def user_wrote(self, watches: list[KernelWatch], region: Region) -> None:
        """The user changed memory: what stands there now is no news (gdb drops its old value)."""
        inferior = gdb.selected_inferior()
        for watch in watches:
            if watch.program is None or watch.lvalue is None:
                continue
            (own,) = watch.lvalue.regions
            if own.address < region.address + region.length and region.address < (
                own.address + own.length
            ):
                now = bytes(inferior.read_memory(own.address, own.length))
                watch.program.memory.data[: len(now)] = now

    def tidy(self, watches: list[KernelWatch]) -> None:
        """Let go of programs whose kwatch is gone."""
        used = {watch.program.number for watch in watches if watch.program is not None}
        for number in self.loaded.keys() - used:
            self.loaded.pop(number).close()


def mark(watch: KernelWatch) -> int:
    """What the pieces of a kwatch have beside their address."""
    number = watch.program.number if watch.program is not None else 0
    return (0 if watch.sees_kernel else USER_ONLY) | number << PROGRAM


@contextmanager
def old_and_new(lvalue: Lvalue | None, stopped: Stopped | None) -> Iterator[None]:
    """Have $old and $new be those of an access that gdb is to judge after all."""
    if lvalue is None or stopped is None:
        yield
        return
    before = {name: gdb.convenience_variable(name) for name in ("old", "new")}
    for name in before:
        reading = lvalue.reading(getattr(stopped, name))
        gdb.set_convenience_variable(name, lvalue.value_of(reading))
    try:
        yield
    finally:
        for name, value in before.items():
            gdb.set_convenience_variable(name, value)


def explanation(stopped: Stopped) -> str:
    """Why gdb could not have evaluated the condition, in gdb's words; "" where it could."""
    return {
        conditions.DIVISION: "Division by zero",
        conditions.UNREADABLE: f"Cannot access memory at address {stopped.fault:#x}",
    }.get(stopped.reason, "")
