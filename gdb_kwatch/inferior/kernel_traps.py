"""From what perf's counters say to one trap with all its hits, judged by gdb's rules, and told.

gdb tests the conditions of the catchpoints for a hit's signal; the first one asked takes down what
the counters say: hits may collapse into one pending signal, never in their counters.  All that one
system call touched is one trap.

A signal that is not perf's finds no fresh count: no condition holds, gdb passes it on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import gdb

from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.core.records import (
    BY_COUNTER,
    KERNEL,
    USER,
    Hit,
    Quiet,
    Region,
    Trap,
    in_full,
)
from gdb_kwatch.linux import registers
from gdb_kwatch.linux.syscalls import SystemCall, decode

from . import gdbfacts, kernel_doubts
from .caller import (
    Caller,
    caller,
    in_scratch_area,
    in_signal_handler_start,
    system_call_before,
    user_frame,
)
from .kernel_arming import Arming
from .kernel_conditions import Stopped
from .kernel_stops import StopSignal
from .kernel_watch import KernelWatch, Listed
from .left_out import left_out
from .lvalues import in_frame
from .thread_events import Count
from .watch import Watch

if TYPE_CHECKING:
    from .session import Session
    from .traps import Stop


class Elsewhere(NamedTuple):
    """What the kernel did outside of any system call that can be told."""

    text: str
    name: str = ""

    def json(self) -> dict[str, Any]:
        return {"name": None, "text": self.text}


SIGNAL_FRAME = Elsewhere("the kernel wrote there when it delivered a signal")
THREAD_END = Elsewhere("the kernel wrote there when the thread ended")
UNKNOWN = Elsewhere("the kernel, in no system call that can be told")


@dataclass
class Hand:
    """One trap as the counters tell of it, and what gdb was answered about it."""

    lwp: int
    trap: Trap | None = None
    instruction: str = ""
    place: Caller | None = None  # worked out for a stop only
    touched: list[Watch] = field(default_factory=list)
    wanting: set[int] = field(default_factory=set)  # by the rules of their values
    false: set[int] = field(default_factory=set)  # for which it was stopped, and need not be
    asked: set[int] = field(default_factory=set)
    stops: set[int] = field(default_factory=set)
    askers: list[Watch] = field(default_factory=list)  # gdb's own, judged here
    before: Quiet | None = None  # what the same instruction hit of ptrace's, and did not stop
    with_trap: bool = False  # a trap of ptrace's stops the program, at the same instruction
    looked: bool = False  # whether the signal is another's SIGSTOP
    late: float = 0.0  # milliseconds between the hit and this stop, where the thread ran on

    @property
    def regions(self) -> list[Region]:
        return [region for watch in self.touched for region in watch.regions]

    @property
    def silent(self) -> bool:
        """Whether each that stops has ``silent`` as its first command."""
        stopping = [w for w in self.touched if w.number in self.stops and w.bp.is_valid()]
        return bool(stopping) and all(
            (watch.bp.commands or "").lstrip().startswith("silent") for watch in stopping
        )


class KernelTraps:
    """Handles what perf saw.  One for a session."""

    def __init__(self, session: Session, arming: Arming, stop_signal: StopSignal) -> None:
        self.session = session
        self.registry = session.registry
        self.engine = session.engine
        self.arming = arming
        self.stop_signal = stop_signal
        self.events = arming.events
        self._hand: Hand | None = None
        self._ended: list[Hand] = []
        self.engine.beside = self._beside

    def forget(self, ended: bool = False) -> None:
        """Nothing is in hand any more; ``ended``: nor to be told of threads that have ended."""
        self._hand = None
        if ended:
            self._ended.clear()

    def asked(self, number: int) -> bool:
        """gdb tests the condition of a catchpoint: was it hit by what stopped the thread?"""
        thread = gdbfacts.selected_thread()
        if thread is None or not self.session.connected:
            return False
        hand = self._in_hand(thread, number)
        found = self._is_hit(hand, number)
        if number not in hand.stops:
            self._look(hand)
        return found

    def _is_hit(self, hand: Hand, number: int) -> bool:
        if number not in hand.wanting:
            return False
        watch = self.registry.watches.get(number)
        if not isinstance(watch, KernelWatch) or not self._holds(watch):
            return False
        if isinstance(watch.bp, Listed):
            watch.bp.look()
        if not watch.bp.ignore_count:
            hand.stops.add(number)
        return True

    def _look(self, hand: Hand) -> None:
        """The signal may be somebody else's SIGSTOP, also where the thread stands at a hit."""
        if not hand.looked:
            hand.looked = True
            self.stop_signal.look(hand.lwp)

    def _in_hand(self, thread: gdb.InferiorThread, number: int) -> Hand:
        """What stopped the thread.  Each catchpoint asks once: a second time, it is another stop
        (the first one was none)."""
        lwp, hand = thread.ptid[1], self._hand
        if hand is None or hand.lwp != lwp or number in hand.asked:
            hand = self._hand = self._take(thread, lwp)
        hand.asked.add(number)
        return hand

    def sight_asked(self) -> bool:
        """gdb tests the condition of the catchpoint that stands for its own watchpoints."""
        thread = gdbfacts.selected_thread()
        if thread is None or not self.session.connected:
            return False
        hand = self._in_hand(thread, 0)
        hand.stops |= {watch.number for watch in hand.askers}
        self.arming.sight.lend_commands(hand.askers)
        if not hand.askers:
            self._look(hand)
        return bool(hand.askers)

    def _holds(self, watch: KernelWatch) -> bool:
        """The user's condition, in the frame that made the system call.  An error stops, with
        gdb's words."""
        if not watch.asked:
            return True
        holds, text, (stopped, watch.stopped) = True, watch.failure, (watch.stopped, None)
        if stopped is None:
            text = ""
            try:
                with in_frame(user_frame()):
                    holds = bool(gdb.parse_and_eval(watch.asked))
            except gdb.error as error:
                text = str(error)
        if text:
            gdb.write(
                f"Error in testing condition for breakpoint {watch.number}:\n{text}\n",
                gdb.STDERR,
            )
        return bool(text) or holds

    def _take(self, thread: gdb.InferiorThread, lwp: int) -> Hand:
        """Take down what the counters of a stopped thread say."""
        hand = Hand(lwp)
        counts = self.events.fresh(lwp)
        if not counts:
            return hand
        inferior = gdb.selected_inferior()
        hand.trap = trap = Trap(0, inferior.num, thread.num, lwp, 0, 0, [])
        self._describe(hand, trap, counts, inferior.pid)
        self._hits(hand, trap, counts, inferior)
        if all(hit.number in hand.false for hit in trap.hits):
            # Of a watchpoint that is gone; or the conditions are false.
            return Hand(lwp)
        trap.number = self.engine.history.next_number()
        self.engine.history.add(trap)
        return hand

    def _describe(self, hand: Hand, trap: Trap, counts: dict[Piece, Count], pid: int) -> None:
        """By whom it was, and where."""
        found = registers.read(hand.lwp)
        trap.pc = found.rip
        instruction = system_call_before(found.rip)
        kernel = any(count.kernel for count in counts.values())
        recorded = kernel or any(count.user for count in counts.values())
        if kernel or (not recorded and instruction):
            trap.origin = KERNEL
            call: SystemCall | None = None
            if instruction:
                call = decode(found, pid, found.is_32bit or instruction != "syscall")
            if call is not None:
                trap.call = call
            else:
                trap.call = SIGNAL_FRAME if in_signal_handler_start() else UNKNOWN
            hand.instruction = instruction
        else:
            trap.origin = USER
            trap.pc = max(count.pc for count in counts.values()) or found.rip
            if trap.pc != found.rip and in_scratch_area(trap.pc, pid):
                trap.pc = found.rip

    def _hits(
        self,
        hand: Hand,
        trap: Trap,
        counts: dict[Piece, Count],
        inferior: gdb.Inferior,
    ) -> None:
        moved = False
        thread = gdbfacts.selected_thread()
        for watch in self.arming.all():
            touched = [counts[p].total for p in self.arming.perf_pieces(watch) if p in counts]
            if not touched or watch.lvalue is None:
                continue
            if isinstance(watch, KernelWatch) and watch.frame_is_gone():
                continue
            if isinstance(watch, KernelWatch) and watch.program is not None:
                self._judged(hand, trap, watch)
                continue
            old, new = watch.last, watch.lvalue.read(inferior)
            watch.before, watch.last = old, new
            changed = old != new
            moved = moved or (changed and not watch.lvalue.fixed)
            others = isinstance(watch, KernelWatch) and not watch.is_for(hand.lwp)
            if others or left_out(watch, trap.pc):
                continue
            hand.touched.append(watch)
            watch.hits += 1
            trap.hits.append(_hit(watch, changed, (watch.lvalue, old, new), sum(touched)))
            if isinstance(watch, KernelWatch):
                if _wants(watch, changed):
                    hand.wanting.add(watch.number)
            else:
                if self._judge(watch, changed, thread):
                    hand.askers.append(watch)
                if changed:
                    self.engine.mend(watch)
        if moved:
            for watch in self.arming.watches():
                if watch.lvalue is not None and not watch.lvalue.fixed:
                    self.registry.resolve(watch, moved=True)
            self.arming.rearm()

    def _judged(self, hand: Hand, trap: Trap, watch: KernelWatch) -> None:
        """What the kernel has said of a thread's accesses: those that stop are told, and one that
        does not, by the instruction at which the thread stands."""
        assert watch.program is not None and watch.lvalue is not None
        known = {lwp for lwp, _ in self.arming.threads_of(watch)}
        asked = watch.program.taken(hand.lwp, known)
        stops = [stop for stop in asked if self._stops(hand, watch, stop)]
        if asked and not stops:
            hand.false.add(watch.number)
        if not stops:
            last = watch.program.last(hand.lwp, trap.pc)
            if last is not None and trap.origin == USER:
                hand.touched.append(watch)
                self._tell(trap, watch, *last, 1)
            return
        watch.stopped = told = stops[-1]
        if trap.origin == USER and told.ip != trap.pc and not in_scratch_area(told.ip, trap.lwp):
            # It was told when the thread was elsewhere: of several hits, one signal was left.
            trap.pc = told.ip
            hand.late = (time.monotonic_ns() - told.time) / 1e6
        hand.touched.append(watch)
        hand.wanting.add(watch.number)
        self._tell(trap, watch, told.old, told.new, len(stops))
        hand.before = hand.before or self.engine.in_hand(hand.lwp, told.ip, told.time)

    def _stops(self, hand: Hand, watch: KernelWatch, stop: Stopped) -> bool:
        """Whether the program has rightly asked for a stop; an error of the condition stops."""
        if not watch.is_for(hand.lwp):
            return False
        thread = gdbfacts.selected_thread()
        if thread is None or thread.ptid[1] != hand.lwp:
            return True  # it has ended
        try:
            holds, failure = kernel_doubts.holds(watch, stop, thread), ""
        except kernel_doubts.Unknown as error:
            holds, failure = True, str(error)
        if holds:
            watch.failure = failure
        return holds

    def _tell(
        self, trap: Trap, watch: KernelWatch, before: bytes, after: bytes, count: int
    ) -> None:
        assert watch.lvalue is not None
        old, new = (watch.lvalue.reading(data) for data in (before, after))
        trap.hits.append(_hit(watch, old != new, (watch.lvalue, old, new), count))

    def _judge(self, watch: Watch, changed: bool, thread: gdb.InferiorThread | None) -> bool:
        """gdb's rules for one of gdb's own, with the program's names: in libc's read() `buf` is
        another one."""
        if thread is None:
            return False
        with in_frame(user_frame()):
            return self.engine.judge(watch, changed, thread)

    def note_ended(self) -> None:
        """What the threads that have ended did at last: exit clears a word for who joins them."""
        for lwp, counts in self.events.take_ended():
            inferior, number = self.arming.threads.pop(lwp, (gdb.selected_inferior().num, 0))
            trap = Trap(0, inferior, number, lwp, 0, 0, [])
            trap.origin, trap.call = KERNEL, THREAD_END
            hand = Hand(lwp, trap)
            self._hits(hand, trap, counts, gdb.selected_inferior())
            if all(hit.number in hand.false for hit in trap.hits):
                continue  # no condition held
            trap.number = self.engine.history.next_number()
            self.engine.history.add(trap)
            self._ended.append(hand)

    # A stop, after gdb has decided.

    def finish(self, stop: Stop) -> Hand | None:
        """The trap of the stop that gdb has decided on, where perf saw one.  ``stop``: the one
        that the debug registers tell of; what the same instruction touched of both is one trap."""
        hand, self._hand = self._hand, None
        thread = gdbfacts.selected_thread()
        if thread is None:
            return None
        self.note_ended()
        lwp = thread.ptid[1]
        if hand is None or hand.lwp != lwp or not (hand.stops or hand.with_trap):
            hand = self._late(thread, lwp)
        trap = hand.trap
        if trap is None:
            return None
        for hit in trap.hits:
            hit.stop = hit.number in hand.stops
        if stop.trap is not None and trap.origin == USER and trap.pc == stop.trap.pc:
            stop.trap.hits = sorted([*stop.trap.hits, *trap.hits], key=lambda hit: hit.number)
            self.engine.history.remove(trap)
            stop.stops |= hand.stops
            if stop.speaker is None:
                stop.beside = hand.touched
            stop.askers += [watch for watch in hand.touched if watch.number in hand.stops]
            return None
        trap.stopped = bool(hand.stops)
        if not hand.stops:
            return None
        self.stop_signal.stands(lwp)
        if hand.before is not None:
            earlier = in_full(hand.before)
            self.engine.history.join(trap)
            trap.dr6 = earlier.dr6
            trap.hits = sorted([*earlier.hits, *trap.hits], key=lambda hit: hit.number)
        if trap.origin == KERNEL:
            hand.place = caller(hand.instruction)
        return hand

    def _late(self, thread: gdb.InferiorThread, lwp: int) -> Hand:
        """Hits whose signal is still to come, at a stop for another reason (a single step)."""
        hand = self._take(thread, lwp)
        hand.stops |= {watch.number for watch in hand.askers}
        for watch in hand.touched:
            if not isinstance(watch, KernelWatch):
                continue
            if watch.number in hand.wanting and not watch.bp.ignore_count and self._holds(watch):
                hand.stops.add(watch.number)
        return hand

    def _beside(self, thread: gdb.InferiorThread) -> tuple[list[Watch], set[int]]:
        """gdb is about to stop at a trap of ptrace's: what the instruction hit of perf's too."""
        if not self.events.on(thread.ptid[1]):
            return [], set()
        hand = self._hand = self._late(thread, thread.ptid[1])
        if hand.trap is None or hand.trap.origin != USER:
            return [], set()
        hand.with_trap = True
        return hand.touched, hand.stops

    def take_ended(self) -> list[Hand]:
        """What is still to be told of threads that have ended."""
        found, self._ended = self._ended, []
        return [
            hand
            for hand in found
            if hand.trap is not None and any(hit.changed for hit in hand.trap.hits)
        ]

    def complete(self, hand: Hand, by_value: Iterable[Hit]) -> None:
        """What the same system call has changed of watchpoints that are ptrace's alone."""
        trap, thread = hand.trap, gdbfacts.selected_thread()
        assert trap is not None
        for hit in by_value:
            watch = self.registry.watches[hit.number]
            hand.touched.append(watch)
            if isinstance(watch, KernelWatch):
                # An emulator may tell one of several registers that one access hits.
                hit.stop = _wants(watch, True) and self._holds(watch)
            elif self._judge(watch, True, thread):
                hit.stop = True
                hand.askers.append(watch)
            trap.hits.append(hit)
        trap.hits.sort(key=lambda hit: hit.number)


def _wants(watch: KernelWatch, changed: bool) -> bool:
    """gdb's rules for a watchpoint's value."""
    if watch.access == "write":
        return changed or watch.every
    return watch.access == "access" or not changed


def _hit(watch: Watch, changed: bool, raw: Any, count: int) -> Hit:
    return Hit(
        watch.number,
        watch.expression,
        (),
        *watch.regions[-1][:2],
        watch.access,
        changed=changed,
        stop=False,
        seen_by=BY_COUNTER,
        raw=raw,
        count=count,
    )
