"""perf's breakpoints on the threads of the programs under debug: opened, counted, closed.

One event for each thread and piece, on the thread itself: an inherited one would send its signal
to the thread that it was inherited from (``perf_event_fasync``, kernel/events/core.c).
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from gdb_kwatch.core.debugreg import KERNEL_ONLY, USER_ONLY, Piece
from gdb_kwatch.linux.perf_event import SAMPLE_IP, Event, NoDescriptors, Request
from gdb_kwatch.linux.signals import HARMLESS

# Descriptors below are left to gdb, which may give one to select(2).
_LOWEST = 1024
_ENOUGH = 1 << 16


class Count(NamedTuple):
    """What one event has seen: how often, how often so in the kernel and in the program (as far
    as records tell), and the PC after the program's last access."""

    total: int
    kernel: int
    user: int
    pc: int


@contextmanager
def _many_files() -> Iterator[None]:
    """Raise the soft limit on open files for a while: a descriptor outlives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class ThreadEvents:
    """All events of a session, by LWP and piece (with BY_PERF, as in `Watch.pieces`)."""

    def __init__(self, program: Callable[[int], int | None] = lambda rw: None) -> None:
        """``program`` gives the descriptor of the BPF program for a piece with such marks."""
        self._program = program
        self._events: dict[int, dict[Piece, Event]] = {}
        self._totals: Counter[Piece] = Counter()  # what was told by `fresh`, or of closed events
        self.signal: int = HARMLESS[0]

    def want(self, lwp: int, pieces: Iterable[Piece]) -> None:
        """Have exactly these on a thread.  Raises PerfError; what could be had is there then."""
        wanted = set(pieces)
        there = self._events.setdefault(lwp, {})
        for piece in there.keys() - wanted:
            self._close(piece, there.pop(piece))
        if wanted - there.keys():
            with _many_files():
                for piece in sorted(wanted - there.keys()):
                    there[piece] = self._open(lwp, piece)
        if not there:
            del self._events[lwp]

    def _open(self, lwp: int, piece: Piece) -> Event:
        request = Request(
            piece.address,
            piece.length,
            piece.rw & 3,
            user=not piece.rw & KERNEL_ONLY,
            kernel=not piece.rw & USER_ONLY,
            samples=SAMPLE_IP,
        )
        event = Event(request, lwp)
        try:
            try:
                event.move_up(_LOWEST)
            except NoDescriptors:
                if event.fd >= _LOWEST // 2:  # the hard limit is low: leave gdb some
                    raise
            event.map()
            program = self._program(piece.rw)
            if program is not None:
                event.set_bpf(program)
            event.signal(self.signal)
        except OSError:
            event.close()
            raise
        return event

    def fresh(self, lwp: int) -> dict[Piece, Count]:
        """What the events of a thread have seen since this was last asked; only those that have
        seen anything."""
        found = {}
        for piece, event in self._events.get(lwp, {}).items():
            total = event.fresh()
            if total:
                self._totals[piece] += total
                samples, _ = event.samples()
                user = [sample.ip for sample in samples if not sample.kernel]
                kernel = len(samples) - len(user)
                found[piece] = Count(total, kernel, len(user), user[-1] if user else 0)
        return found

    def total(self, pieces: Iterable[Piece]) -> int:
        """How often they were hit on all threads, those that have ended too."""
        asked = set(pieces)
        unread = sum(
            event.count() - event.seen
            for events in self._events.values()
            for piece, event in events.items()
            if piece in asked
        )
        return unread + sum(self._totals[piece] for piece in asked)

    def _close(self, piece: Piece, event: Event) -> None:
        with suppress(OSError):
            self._totals[piece] += event.fresh()
        event.close()

    def is_unread(self, pieces: Iterable[Piece]) -> bool:
        """Whether some thread has hits of one of ``pieces`` that `fresh` has not told yet."""
        asked = set(pieces)
        return any(
            event.count() != event.seen
            for events in self._events.values()
            for piece, event in events.items()
            if piece in asked
        )

    def take_ended(self) -> list[tuple[int, dict[Piece, Count]]]:
        """The last counts of the threads that have ended, and let go of them."""
        found = []
        for lwp, events in list(self._events.items()):
            if any(event.ended() for event in events.values()):
                counts = self.fresh(lwp)
                if counts:
                    found.append((lwp, counts))
                self.close(lwp)
        return found

    def resignal(self, number: int) -> None:
        """Have every hit send another signal from now on."""
        self.signal = number
        for events in self._events.values():
            for event in events.values():
                event.signal(number)

    def lwps(self) -> set[int]:
        return set(self._events)

    def on(self, lwp: int) -> set[Piece]:
        """What stands on a thread."""
        return set(self._events.get(lwp, ()))

    def descriptors(self) -> set[int]:
        return {event.fd for events in self._events.values() for event in events.values()}

    def close(self, lwp: int | None = None) -> None:
        """Give back the slots of one thread, or of all."""
        for one in [lwp] if lwp is not None else list(self._events):
            for piece, event in self._events.pop(one, {}).items():
                self._close(piece, event)
