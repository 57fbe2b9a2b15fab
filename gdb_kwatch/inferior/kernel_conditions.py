"""Conditions that the kernel tests: a BPF program on the perf events of a kwatch, which lets the
signal through only where gdb would stop.

Where a condition cannot be compiled exactly, gdb tests it at each trap, as ever; `Judged.reason`
says why.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
from collections.abc import Callable, Container
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import gdb

from gdb_kwatch.core import conditions, filters
from gdb_kwatch.core.debugreg import PROGRAM, USER_ONLY
from gdb_kwatch.core.filters import Source, StopLayout
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import bpf, pages, signals
from gdb_kwatch.linux import filters as kernel

from . import by_value, gdbfacts
from .left_out import code_of
from .lvalues import Lvalue, is_signed
from .operands import numbers_of
from .targets import Target

if TYPE_CHECKING:
    from .kernel_watch import KernelWatch

AUTO, OFF = "auto", "off"
NOT_OURS = "the program is not a process of this system that gdb traces itself"
_OLD_OR_NEW = re.compile(r"\$(old|new)\b")

_numbers = itertools.count(1)


class Stopped(NamedTuple):
    """One access for which the program asked for a stop."""

    reason: int  # why the condition could not be evaluated; 0: it holds
    fault: int
    old: bytes
    new: bytes
    ip: int  # after the instruction
    time: int  # nanoseconds of CLOCK_MONOTONIC


class Judged(NamedTuple):
    """Who tests a condition: the kernel where ``reason`` is empty."""

    reason: str = ""
    without: tuple[str, ...] = ()  # code of -from and -not-from that is not there (yet)

    @property
    def text(self) -> str:
        if self.reason:
            return f"in gdb: {self.reason}"
        missing = ", ".join(self.without)
        return f"in kernel; {missing} is no code of this program yet" if missing else "in kernel"


class Loaded:
    """A program in the kernel for one place in one process."""

    def __init__(self, source: Source, now: bytes, told_by: int = signals.HARMLESS[0]) -> None:
        """``now`` is the value that stands there, ``told_by`` the signal that its stops are told
        by."""
        self.number = next(_numbers)
        self.source = source
        self.size = source.size
        self.layout = StopLayout(source.value_size)
        self.memory = bpf.Memory(self.layout.size)
        self.fd = -1
        try:
            self.memory.data[: len(now)] = now
            self.tell_by(told_by)
            code = filters.stopping(source, kernel.kernel())
            self.fd = bpf.load(code.assemble({filters.MEMORY: self.memory.fd}))
        except BaseException:
            self.close()
            raise
        self._rows: dict[int, int] = {}  # of the table of threads, by LWP
        self.know_threads()
        self._seen = 0
        self._waiting: dict[int, list[Stopped]] = {}

    def tell_by(self, number: int) -> None:
        self.memory.set_word(filters.TOLD_BY, 1 << number - 1)

    @property
    def left_out(self) -> int:
        """Accesses by code that does not count."""
        return self.memory.word(filters.LEFT_OUT)

    def taken(self, lwp: int, known: Container[int] = ()) -> list[Stopped]:
        """The stops that it asked for on a thread since this was last asked; and those of threads
        that are not ``known``: in another PID namespace numbers are others."""
        self._sort(lwp, known)
        return self._waiting.pop(lwp, [])

    def untold(self, known: Container[int]) -> set[int]:
        """The threads whose stops were not `taken` yet."""
        self._sort(0, known)
        return {lwp for lwp in self._waiting if lwp}

    def last(self, lwp: int, ip: int) -> tuple[bytes, bytes] | None:
        """The values before and after the last access, where a thread made it by the instruction
        that ends at ``ip``."""
        memory = self.memory
        thread = memory.word(filters.LAST_THREAD) & 0xFFFFFFFF
        if memory.word(filters.LAST_IP) != ip or thread != lwp:
            return None
        old = memory.data[filters.LAST_OLD : filters.LAST_OLD + self.size]
        return old, memory.data[filters.OLD : filters.OLD + self.size]

    def _sort(self, lwp: int, known: Container[int]) -> None:
        count, layout = self.memory.word(filters.TAKEN), self.layout
        for number in range(max(self._seen, count - layout.entries), count):
            at = filters.HEAD + number % layout.entries * layout.entry
            entry = self.memory.data[at : at + layout.entry]
            thread, reason, fault, ip, time = struct.unpack_from("<QQQQQ", entry)
            old = entry[layout.OLD : layout.OLD + self.size]
            new = entry[layout.new : layout.new + self.size]
            stop = Stopped(reason, fault, old, new, ip, time)
            thread &= 0xFFFFFFFF
            if known and thread not in known:
                thread = lwp
            self._waiting.setdefault(thread, []).append(stop)
        self._seen = count

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


class Teller:
    """The program of all events that have none of their own: it sees to threads that block the
    signal.  ``fd`` is None where there can be none."""

    def __init__(self, told_by: int) -> None:
        self.fd: int | None = None
        self.memory: bpf.Memory | None = None
        if kernel.why_no_stops():
            return
        self.memory = bpf.Memory(filters.HEAD)
        self.tell_by(told_by)
        with suppress(OSError):
            code = filters.telling(kernel.kernel())
            self.fd = bpf.load(code.assemble({filters.MEMORY: self.memory.fd}))

    def tell_by(self, number: int) -> None:
        if self.memory is not None:
            self.memory.set_word(filters.TOLD_BY, 1 << number - 1)

    def close(self) -> None:
        if self.memory is not None:
            self.memory.close()
        if self.fd is not None:
            os.close(self.fd)


def uses_kernel_names(condition: str | None) -> bool:
    """Whether a condition has names that gdb does not know: $old, $new."""
    return _OLD_OR_NEW.search(condition or "") is not None


def judge(mode: str, request: Request, expression: str, location: bool, lvalue: Lvalue) -> Judged:
    """Who is to test the condition of a new kwatch."""
    if mode == OFF:
        return Judged("set kwatch kernel-conditions is off")
    if not _is_ours():
        return Judged(NOT_OURS)
    if location and not gdb.selected_inferior().pid:
        return Judged("it has an address of no program that runs")
    if by_value.recording():
        return Judged("a recording is replayed or made")
    if request.task is not None or request.everywhere:
        return Judged("it is for a task, or for all inferiors")
    if not location and gdbfacts.needs_frame(expression):
        return Judged(f"{expression} is a local variable")
    reason = _unfit(request.access, lvalue) or kernel.why_no_stops()
    if reason:
        return Judged(reason)
    from .compiling import compiled  # on first use: it takes time to load

    _, reason = compiled(request.condition, _target(expression, lvalue), afresh=True)
    return Judged(reason)


def _is_ours() -> bool:
    """Whether the program is a process that gdb traces itself, or will be."""
    if not gdb.selected_inferior().pid:
        return not by_value.is_remote()
    thread = gdbfacts.selected_thread()
    return thread is not None and gdbfacts.can_read_registers(thread.ptid[1])


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
        self.mode = AUTO
        self.loaded: dict[int, Loaded] = {}
        self.told_by: int = signals.HARMLESS[0]
        self._teller: Teller | None = None

    def judges(self, rw: int) -> bool:
        """Whether the kernel tests a condition for pieces with this mark."""
        return rw >> PROGRAM in self.loaded

    def descriptor(self, rw: int) -> int | None:
        """The program for a piece with this mark."""
        program = self.loaded.get(rw >> PROGRAM)
        if program is not None:
            return program.fd
        if self._teller is None:
            self._teller = Teller(self.told_by)
        return self._teller.fd

    def tell_by(self, number: int) -> None:
        """Hits are told by another signal from now on."""
        self.told_by = number
        for program in (*self.loaded.values(), self._teller):
            if program is not None:
                program.tell_by(number)

    def refresh(self, watch: KernelWatch, regions: tuple[Region, ...]) -> None:
        """Have ``watch.program`` be right for what it watches now."""
        pid = gdb.selected_inferior().pid
        filtered = bool(watch.only or watch.without)
        wanted = (
            pid,
            regions,
            watch.asked,
            code_of(watch) if filtered and pid and regions else None,
            watch.access,
            self.mode == OFF,
            watch.only_lwp if regions else None,
        )
        if not regions:  # disabled, or not there: its old value means nothing when it is again
            watch.compiled_for = ()
            self.drop(watch)
            return
        if wanted == watch.compiled_for:
            return
        watch.compiled_for = wanted
        self.drop(watch)
        if watch.asked is None and not filtered:
            watch.judged = None
        else:
            watch.judged = self._load(watch, regions[0])

    def _load(self, watch: KernelWatch, region: Region) -> Judged:
        from .compiling import compiled, places_of

        lvalue = watch.lvalue
        if watch.sees_kernel:
            # Its accesses are seen in the middle of the call, and gdb looks at its end.
            return Judged("-k: a system call is judged when it is done")
        if self.mode == OFF:
            return Judged("set kwatch kernel-conditions is off")
        reason = _unfit(watch.access, lvalue) or kernel.why_no_stops()
        if not reason and watch.needs_frame:
            reason = f"{watch.expression} is a local variable"
        if reason or lvalue is None:
            return Judged(reason)
        node, reason = compiled(watch.asked, _target(watch.text, lvalue), afresh=True)
        if reason or not gdb.selected_inferior().pid:
            return Judged(reason)
        inferior = gdb.selected_inferior()
        source = Source(
            region.address,
            region.length,
            *code_of(watch),
            on_change=watch.access == "write" and not watch.every,
            condition=node,
            bits=lvalue.bits,
            thread=None if watch.only_lwp is None else (inferior.pid, watch.only_lwp),
        )
        try:
            now = bytes(inferior.read_memory(region.address, region.length))
            if watch.asked is not None:
                target = _target(watch.text, lvalue)
                pages.have_there(inferior.pid, places_of(watch.asked, target, afresh=True))
            program = Loaded(source, now, self.told_by)
        except (OSError, gdb.error, kernel.AssemblyError) as error:
            return Judged(str(getattr(error, "strerror", None) or error))
        watch.program = program
        self.loaded[program.number] = program
        return Judged(without=watch.no_code)

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
        if not watches and self._teller is not None:
            self._teller.close()
            self._teller = None


def mark(watch: KernelWatch) -> int:
    """What the pieces of a kwatch have beside their address."""
    number = watch.program.number if watch.program is not None else 0
    return (0 if watch.sees_kernel else USER_ONLY) | number << PROGRAM
