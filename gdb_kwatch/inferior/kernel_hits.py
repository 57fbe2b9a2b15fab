"""Hits that perf sees, the kernel's among them: from a signal to one trap with all its hits.

Each hit of an event of perf's (`thread_events`) sends its thread a signal that stops it on its way
out of the system call, or right after the instruction.  gdb tests the conditions of the catchpoints
for that signal; the first one asked takes down what the counters say: hits may collapse into one
pending signal, never in their counters.  All that one system call touched is one trap.

A signal that is not perf's finds no fresh count: no condition holds, gdb passes it on.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gdb

from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.core.records import BY_COUNTER, KERNEL, USER, Hit, Region, Trap
from gdb_kwatch.linux import perf_event, registers, signals, slots
from gdb_kwatch.linux.perf_event import NoSlot, NoThread, PerfError
from gdb_kwatch.linux.syscalls import SystemCall, decode

from . import faults, gdbfacts, kernel_conditions
from .caller import (
    Caller,
    caller,
    in_scratch_area,
    in_signal_handler_start,
    system_call_before,
    user_frame,
)
from .faults import guarded
from .handlers import Handlers
from .kernel_conditions import Programs
from .kernel_sight import Sight
from .kernel_watch import FUNCTION, HAS_OBJECTS, KernelWatch, Listed, make_catchpoint
from .lvalues import WORD, in_frame
from .thread_events import Count, ThreadEvents
from .watch import Watch

if TYPE_CHECKING:
    from .session import Session
    from .traps import Stop

OFF, ON, AUTO = "off", "on", "auto"
# A program that makes and ends threads without ever stopping: look for ended ones now and then.
_OFTEN = 64


@dataclass(frozen=True)
class Elsewhere:
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
    asked: set[int] = field(default_factory=set)
    stops: set[int] = field(default_factory=set)
    askers: list[Watch] = field(default_factory=list)  # gdb's own, judged here

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


class Asked(gdb.Function):
    """Whether a kwatch -k was hit: (NUMBER, EXPRESSION [, CONDITION]).

    kwatch makes it the condition of the catchpoint that stands for the kwatch; the condition that
    the user has set is its last argument."""

    def __init__(self, hits: KernelHits) -> None:
        self.hits = hits
        super().__init__(FUNCTION)

    def invoke(self, number: gdb.Value, *_: gdb.Value) -> bool:
        try:
            return self.hits.asked(int(number))
        except Exception as error:
            faults.report("a kernel-mode hit", error)
            return True  # rather one stop too many than a hit unseen


class KernelHits:
    """The kwatches with -k, and kernel sight for gdb's own.  One for a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.registry = session.registry
        self.engine = session.engine
        self.engine.untold_elsewhere = self._is_unread
        self.registry.slots.own_events.append(lambda lwp: len(self.events.on(lwp)))
        self.registry.slots.followers.append(self._came_or_went)
        self.programs = Programs(self._hits_so_far)
        self.events = ThreadEvents(self.programs.descriptor)
        self.mode = OFF
        self.sight = Sight(self.registry, self._sight_asked)
        self._hand: Hand | None = None
        self._ended: list[Hand] = []
        self._function: Asked | None = None
        self._threads: dict[int, tuple[int, int]] = {}  # LWP: inferior and thread number
        self._new_threads = 0
        self._disabled: list[Watch] = []
        self._disabling = Handlers(before_prompt=self._disable, stop=self._disable)
        self._parked: list[KernelWatch] = []
        self._handlers = Handlers(
            breakpoint_created=self.at_created,
            breakpoint_modified=self.at_modified,
            breakpoint_deleted=self.at_deleted,
            new_thread=self.at_new_thread,
            new_objfile=self.at_new_objfile,
            clear_objfiles=self.at_clear_objfiles,
            stop=self.at_stop,
            memory_changed=self.at_memory_changed,
            exited=self.at_exited,
            before_prompt=self.at_prompt,
        )

    # On and off, with the session.

    def connect(self) -> None:
        for watch in self._parked:
            watch.bp.look()
            if watch.bp.is_valid():
                self.session.take_in(watch)
                self.registry.switched(watch)
        self._parked.clear()
        self._settle()
        self.serve()

    def disconnect(self) -> None:
        """Nothing is watched any more; the catchpoints stay, and never stop."""
        # gdb 10 does not list them, so that the registry would not find them again.
        self._parked = [watch for watch in self.watches() if isinstance(watch.bp, Listed)]
        self.events.close()
        self._hand = None
        self._ended.clear()
        self._handlers.disconnect()

    def set_mode(self, mode: str) -> None:
        """``set kwatch kernel``.  Raises gdb.GdbError where it is asked for and cannot be had."""
        error = perf_event.why_not() if mode != OFF else None
        if error is not None:
            if mode == ON:
                text = f"hits inside system calls cannot be seen here: {error.strerror}"
                raise gdb.GdbError(f"{text}{f' ({error.remedy})' if error.remedy else ''}.")
            self.fall_back(str(error.strerror), error.remedy)
        self.mode = mode
        if mode == OFF:
            self.sight.remove()
        self._settle()
        self.serve()

    def fall_back(self, reason: str, remedy: str) -> None:
        """``set kwatch kernel auto`` where it cannot be had; told once."""
        self.session.tell_once(
            f"hits inside system calls are not seen, the debug registers are used alone: {reason}"
            f"{f' ({remedy})' if remedy else ''}"
        )

    def serve(self) -> None:
        """What may not be made in a breakpoint event: the catchpoint for gdb's own."""
        if self.mode != OFF and self.session.connected and perf_event.why_not() is None:
            self.sight.serve()
            if self.sight.catchpoint is not None and not self.events.lwps():
                try:
                    self.choose_signal()
                except gdb.GdbError as error:
                    self.session.tell_once(str(error))
                    return
            self._settle()

    # Who there is.

    def watches(self) -> list[KernelWatch]:
        found = self.registry.watches.values()
        return [watch for watch in found if isinstance(watch, KernelWatch)]

    def _all(self) -> list[Watch]:
        """All that perf watches something for, by number."""
        found = [w for w in self.registry.watches.values() if not w.in_registers or w.sight]
        return sorted(found, key=lambda watch: watch.number)

    def perf_pieces(self, watch: Watch) -> frozenset[Piece]:
        """What perf watches for it."""
        return watch.sight if watch.in_registers else watch.pieces

    def armed_on(self, watch: Watch) -> tuple[int, int]:
        """On how many of its program's threads it stands."""
        pieces = self.perf_pieces(watch)
        lwps = [lwp for lwp, _ in self._threads_of(watch)]
        return sum(bool(pieces) and pieces <= self.events.on(lwp) for lwp in lwps), len(lwps)

    def held_on(self, lwp: int) -> list[tuple[Piece, list[Watch]]]:
        """What stands on a thread, and for whom."""
        found = []
        for piece in sorted(self.events.on(lwp)):
            found.append((piece, [w for w in self._all() if piece in self.perf_pieces(w)]))
        return found

    # A new one.

    def _hits_so_far(self, watch: Watch) -> int:
        return self.events.total(self.perf_pieces(watch))

    def hits_of(self, watch: Watch) -> int:
        """Every access, those that no signal tells of as well."""
        return watch.hits + (self._hits_so_far(watch) if watch.judged_in_kernel else 0)

    def refusal(self, pieces: frozenset[Piece], kernel: bool = True) -> PerfError | None:
        """Why ``pieces`` cannot be had now; None if they can.  Nothing is left armed."""
        error = perf_event.why_not(kernel)
        if error is not None:
            return error
        inferior = gdb.selected_inferior()
        number, reason = signals.choose(inferior.pid) if inferior.pid else (signals.HARMLESS[0], "")
        if number is None:
            return PerfError(errno.EBUSY, reason)
        for thread in inferior.threads():
            free = slots.free_slots(thread.ptid[1])
            if free is not None and free < len(pieces - self.events.on(thread.ptid[1])):
                return NoSlot(errno.ENOSPC, self._why_no_slot(thread.ptid[1], free))
        return None

    def _why_no_slot(self, lwp: int, free: int) -> str:
        text = f"{free} of 4 free on LWP {lwp}"
        try:
            held = slots.reserved(lwp)
            own = len(self.events.on(lwp))
        except OSError:
            return text
        others = max(4 - free - held - own, 0)
        parts = [
            f"{held} by ptrace, which keeps what gdb's watchpoints have used until the thread ends"
            if held
            else "",
            f"{own} by kwatch -k" if own else "",
            f"{others} by other users of perf" if others else "",
        ]
        return f"{text} (held: {'; '.join(part for part in parts if part)})"

    def choose_signal(self) -> None:
        """One that the program does not handle itself.  Raises gdb.GdbError."""
        pid = gdb.selected_inferior().pid
        number, reason = signals.choose(pid) if pid else (signals.HARMLESS[0], "")
        if number is None:
            raise gdb.GdbError(f"kwatch: {reason}.")
        if number != self.events.signal:
            self.events.resignal(number)

    def add(
        self, make: Any, temporary: bool, condition: str | None, thread: str | None
    ) -> KernelWatch:
        """A new kwatch -k: ``make`` builds it around its catchpoint.  Raises PerfError, and leaves
        nothing behind then."""
        if self._function is None:
            self._function = Asked(self)
        self.choose_signal()
        watch: KernelWatch = make(make_catchpoint(temporary))
        try:
            watch.programs = self.programs
            if condition:
                watch.asked = condition
            if thread is not None:
                watch.on_thread = _global_number(thread)
            self.session.take_in(watch)
            self._put_condition(watch)
            self.registry.resolve(watch)
            self._handlers.connect()
            self.registry.aim()
            self.arm()
        except Exception:
            self.registry.forget(watch)
            self.programs.drop(watch)
            watch.bp.delete()
            self._settle()
            raise
        return watch

    def _put_condition(self, watch: KernelWatch) -> None:
        with self.registry.own_change():
            watch.put_condition()

    # Which event stands where.

    def _threads_of(self, watch: Watch) -> list[tuple[int, gdb.InferiorThread]]:
        only = watch.only_thread if watch.bp.is_valid() else None
        found = []
        for inferior in gdb.inferiors():
            if not inferior.pid or (gdbfacts.program_of(inferior) or watch.progspace) != (
                watch.progspace
            ):
                continue
            for thread in inferior.threads():
                if only is None or getattr(thread, "global_num", thread.num) == only:
                    found.append((thread.ptid[1], thread))
        return found

    def arm(self) -> None:
        """Have each thread's events stand for what is watched now.  Raises the first PerfError;
        the other threads are armed all the same."""
        wanted: dict[int, set[Piece]] = {}
        self._share_sight()
        for watch in self._all():
            if not (watch.armed and watch.enabled):
                continue
            for lwp, thread in self._threads_of(watch):
                wanted.setdefault(lwp, set()).update(self.perf_pieces(watch))
                self._threads[lwp] = thread.inferior.num, thread.num
        first: PerfError | None = None
        for lwp in self.events.lwps() - wanted.keys():
            if not any(event_lwp == lwp for event_lwp, _ in self._living()):
                continue  # ended: its last counts are still to be told
            self.events.close(lwp)
        for lwp, pieces in wanted.items():
            try:
                self.events.want(lwp, pieces)
            except NoThread:
                pass
            except NoSlot as error:
                free = slots.free_slots(lwp)
                text = self._why_no_slot(lwp, free) if free is not None else error.strerror
                first = first or NoSlot(error.errno, text)
            except PerfError as error:
                first = first or error
        if first is not None:
            raise first

    def _share_sight(self) -> None:
        """Kernel sight takes the slots that are left, and says so."""
        if self.mode == OFF:
            return
        new, without = self.sight.share_out()
        for watch in new:
            gdb.write(
                f"{watch.mention}: the kernel's accesses are seen too, by "
                f"{'a second slot' if len(watch.sight) == 1 else f'{len(watch.sight)} more slots'} "
                "(perf)\n"
            )
        for watch in without:
            self.session.tell_once(
                f"watchpoint {watch.number} ({watch.expression}) does not see the kernel's "
                "accesses: that takes a second slot for each of its own, and none is free"
            )

    def _living(self) -> list[tuple[int, gdb.InferiorThread]]:
        return [
            (thread.ptid[1], thread)
            for inferior in gdb.inferiors()
            for thread in inferior.threads()
        ]

    def rearm(self) -> None:
        """`arm`, where nobody can be refused any more: what is in the way is told, once."""
        try:
            self.arm()
        except PerfError as error:
            self.session.tell_once(
                f"kwatch -k is not armed on every thread: {error.strerror}"
                + (f" ({error.remedy})" if error.remedy else "")
            )

    def _came_or_went(self, watch: Watch) -> None:
        """The arbiter has given it slots, or taken them.  What it gives back may be ptrace's for
        as long as a thread lives: then the watchpoint is disabled, and it is said."""
        if not self.perf_pieces(watch):
            return
        try:
            self.arm()
        except PerfError as error:
            if watch.in_registers or watch.waits:
                self.rearm()
                return
            watch.reason = str(error.strerror)
            self.registry.slots.drop_notes(watch)
            self.registry.slots.note(
                watch, f"{watch.name} could not be installed again and is disabled: {watch.reason}"
            )
            self._disabled.append(watch)
            self._disabling.connect()

    @guarded()
    def _disable(self, event: Any = None) -> None:
        """What `_came_or_went` has found, where the arbiter is at rest again."""
        self._disabling.disconnect()
        found, self._disabled = self._disabled, []
        for watch in found:
            if watch.bp.is_valid():
                reason = watch.reason
                self.registry.turn_off(watch)
                watch.reason = reason
        self._settle()

    def _settle(self) -> None:
        """Arm what is there; where nothing is, leave nothing."""
        self.programs.tidy(self.watches())
        if self._all() or (self.mode != OFF and self.session.connected):
            self._handlers.connect()
            self.rearm()
            return
        self.events.close()
        self._threads.clear()
        self._hand = None
        self._handlers.disconnect()

    def judge_in(self, mode: str) -> None:
        """``set kwatch kernel-conditions``: who tests conditions from now on."""
        self.programs.mode = mode
        for watch in self.watches():
            self.registry.resolve(watch)
        if self.watches():
            self.registry.aim()
            self.rearm()

    # What gdb tells.

    @guarded()
    def at_modified(self, bp: gdb.Breakpoint) -> None:
        watch = self.registry.watches.get(bp.number)
        if self.registry.changing or watch is None:
            return
        if isinstance(watch, KernelWatch):
            self._was_modified(watch)
        elif self.mode != OFF:
            self.rearm()  # switched on or off

    def _was_modified(self, watch: KernelWatch) -> None:
        """The user, or gdb at a hit, has changed the catchpoint."""
        watch.gdb_hits, watch.ignore_count = watch.bp.hit_count, watch.bp.ignore_count
        if watch.was_changed():
            self._put_condition(watch)
            self.registry.resolve(watch)
            self.registry.aim()
            self.rearm()
        if watch.on != watch.bp.enabled:
            self.registry.switched(watch)
            self.session.at_change(watch)
            self.rearm()

    @guarded()
    def at_created(self, bp: gdb.Breakpoint) -> None:
        """One more of gdb's own: sight gives up the slots that it needs."""
        if bp.number in self.registry.watches:
            self.rearm()

    @guarded()
    def at_deleted(self, bp: gdb.Breakpoint) -> None:
        # The registry has let go of it already.
        if bp is self.sight.catchpoint:
            self._lost_catchpoint()
        self._settle()

    def _lost_catchpoint(self) -> None:
        self.sight.catchpoint = None
        self.mode = OFF
        self.sight.remove()
        self._settle()
        self.session.tell_once(
            "kernel sight for gdb's own watchpoints is off: its catchpoint was deleted"
        )

    @guarded()
    def at_new_thread(self, event: gdb.NewThreadEvent) -> None:
        """It is still stopped.  gdb 10 gives the inferior here."""
        self._new_threads += 1
        if self._new_threads % _OFTEN == 0:
            self._take_ended()
        self.rearm()

    @guarded()
    def at_new_objfile(self, event: gdb.NewObjFileEvent) -> None:
        """The session has worked the addresses out again."""
        self.rearm()

    @guarded()
    def at_clear_objfiles(self, event: gdb.ClearObjFilesEvent) -> None:
        """Another program, by exec: events that Linux before 5.13 leaves are taken off."""
        for inferior in gdb.inferiors():
            if gdbfacts.program_of(inferior) in (None, event.progspace):
                for thread in inferior.threads():
                    self.events.close(thread.ptid[1])

    @guarded()
    def at_memory_changed(self, event: gdb.MemoryChangedEvent) -> None:
        region = Region(int(event.address), int(event.length), 0)
        self.programs.user_wrote(self.watches(), region)

    @guarded()
    def at_exited(self, event: gdb.ExitedEvent) -> None:
        """The process has ended, or was detached from."""
        late = 0
        for lwp, (inferior, _) in list(self._threads.items()):
            if inferior == event.inferior.num:
                for piece, count in self.events.fresh(lwp).items():
                    if self.programs.descriptor(piece.rw) is None:
                        late += count.total
                        for watch in self._all():
                            if piece in self.perf_pieces(watch):
                                watch.hits += count.total
                self.events.close(lwp)
                del self._threads[lwp]
        self._hand = None
        if late:
            name = signals.signal.Signals(self.events.signal).name
            self.session.reporter.warn(
                f"{late} accesses of places watched with -k were counted, and did not stop the "
                f"program: a thread that blocks {name} is stopped only when it unblocks it"
            )

    @guarded()
    def at_stop(self, event: gdb.StopEvent) -> None:
        self._look()
        pid = gdb.selected_inferior().pid
        if (
            pid
            and self.events.lwps()
            and signals.has(signals.masks(pid).get("SigCgt", 0), self.events.signal)
        ):
            try:
                self.choose_signal()
            except gdb.GdbError as error:
                self.session.tell_once(str(error))
        self._settle()
        self.serve()

    @guarded()
    def at_prompt(self) -> None:
        if not HAS_OBJECTS:
            self._look()
        self.serve()

    def _look(self) -> None:
        """Notice what no event has told: a catchpoint that gdb disabled by itself (``enable
        once``), a local that is gone; on gdb 10 everything."""
        catchpoint = self.sight.catchpoint
        if isinstance(catchpoint, Listed):
            catchpoint.look()
            if not catchpoint.is_valid():
                self._lost_catchpoint()
        for watch in self.watches():
            if isinstance(watch.bp, Listed):
                watch.bp.look()
            if not watch.bp.is_valid():
                self.registry.forget(watch)
                self._settle()
            elif watch.frame_is_gone():
                gdb.write(
                    f"\nWatchpoint {watch.number} deleted because the program has left the block "
                    f"in\nwhich its expression is valid.\n"
                )
                watch.bp.delete()
                self.registry.forget(watch)
                self._settle()
            else:
                self._was_modified(watch)

    # A trap.

    def asked(self, number: int) -> bool:
        """gdb tests the condition of a catchpoint: was it hit by what stopped the thread?"""
        thread = gdb.selected_thread()
        if thread is None or not self.session.connected:
            return False
        hand = self._in_hand(thread, number)
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

    def _in_hand(self, thread: gdb.InferiorThread, number: int) -> Hand:
        """What stopped the thread.  Each catchpoint asks once: a second time, it is another stop
        (the first one was none)."""
        lwp, hand = thread.ptid[1], self._hand
        if hand is None or hand.lwp != lwp or number in hand.asked:
            hand = self._hand = self._take(thread, lwp)
        hand.asked.add(number)
        return hand

    def _sight_asked(self) -> bool:
        """gdb tests the condition of the catchpoint that stands for its own watchpoints."""
        thread = gdb.selected_thread()
        if thread is None or not self.session.connected:
            return False
        hand = self._in_hand(thread, 0)
        hand.stops |= {watch.number for watch in hand.askers}
        self.sight.lend_commands(hand.askers)
        return bool(hand.askers)

    def _holds(self, watch: KernelWatch) -> bool:
        """The user's condition, in the frame that made the system call.  An error stops, with
        gdb's words."""
        if not watch.asked:
            return True
        stopped, watch.stopped = watch.stopped, None
        if stopped is not None and not stopped.reason:
            return True
        text = kernel_conditions.explanation(stopped) if stopped is not None else ""
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
        if not trap.hits:
            # Of a watchpoint that is gone; or the kernel has judged: the conditions are false.
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
        thread = gdb.selected_thread()
        for watch in self._all():
            touched = [counts[p].total for p in self.perf_pieces(watch) if p in counts]
            if not touched or watch.lvalue is None:
                continue
            if isinstance(watch, KernelWatch) and watch.frame_is_gone():
                continue
            if isinstance(watch, KernelWatch) and watch.program is not None:
                self._judged(hand, trap, watch)
                continue
            hand.touched.append(watch)
            watch.hits += 1
            old, new = watch.last, watch.lvalue.read(inferior)
            watch.last = new
            changed = old != new
            moved = moved or (changed and not watch.lvalue.fixed)
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
            for watch in self.watches():
                if watch.lvalue is not None and not watch.lvalue.fixed:
                    self.registry.resolve(watch, moved=True)
            self.rearm()

    def _judged(self, hand: Hand, trap: Trap, watch: KernelWatch) -> None:
        """What the kernel has said of a thread's accesses: only those that stop are told."""
        assert watch.program is not None and watch.lvalue is not None
        known = {lwp for lwp, _ in self._threads_of(watch)}
        stops = watch.program.taken(hand.lwp, known)
        if not stops:
            return
        watch.stopped = stops[-1]
        size = watch.lvalue.size
        old, new = (
            data if size > WORD else int.from_bytes(data, "little")
            for data in (stops[-1].old, stops[-1].new)
        )
        hand.touched.append(watch)
        hand.wanting.add(watch.number)
        trap.hits.append(_hit(watch, old != new, (watch.lvalue, old, new), len(stops)))

    def _judge(self, watch: Watch, changed: bool, thread: gdb.InferiorThread | None) -> bool:
        """gdb's rules for one of gdb's own, with the program's names: in libc's read() `buf` is
        another one."""
        if thread is None:
            return False
        with in_frame(user_frame()):
            return self.engine.judge(watch, changed, thread)

    def _is_unread(self, watch: Watch) -> bool:
        pieces = self.perf_pieces(watch)
        return bool(pieces) and self.events.is_unread(pieces)

    def _take_ended(self) -> None:
        """What the threads that have ended did at last: exit clears a word for who joins them."""
        for lwp, counts in self.events.take_ended():
            inferior, number = self._threads.pop(lwp, (gdb.selected_inferior().num, 0))
            trap = Trap(0, inferior, number, lwp, 0, 0, [])
            trap.origin, trap.call = KERNEL, THREAD_END
            hand = Hand(lwp, trap)
            self._hits(hand, trap, counts, gdb.selected_inferior())
            trap.number = self.engine.history.next_number()
            self.engine.history.add(trap)
            self._ended.append(hand)

    # A stop, after gdb has decided.

    def finish(self, stop: Stop) -> Hand | None:
        """The trap of the stop that gdb has decided on, where perf saw one.  ``stop``: the one
        that the debug registers tell of; what the same instruction touched of both is one trap."""
        hand, self._hand = self._hand, None
        thread = gdb.selected_thread()
        if thread is None or not self._handlers.connected:
            return None
        self._take_ended()
        lwp = thread.ptid[1]
        if hand is None or hand.lwp != lwp or not hand.stops:
            hand = self._late(thread, lwp)
        trap = hand.trap
        if trap is None:
            return None
        for hit in trap.hits:
            hit.stop = hit.number in hand.stops
        if stop.trap is not None and trap.origin == USER and trap.pc == stop.trap.pc:
            stop.trap.hits = sorted([*stop.trap.hits, *trap.hits], key=lambda hit: hit.number)
            self.engine.history.remove(trap)
            return None
        trap.stopped = bool(hand.stops)
        if not hand.stops:
            return None
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
        trap, thread = hand.trap, gdb.selected_thread()
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


def _global_number(text: str) -> int:
    """A thread as the user names it (2, 1.2), by gdb's global number.  Raises gdb.GdbError."""
    inferior = gdb.selected_inferior()
    number = text
    if "." in text:
        which, number = text.split(".", 1)
        inferior = next((i for i in gdb.inferiors() if str(i.num) == which), inferior)
    for thread in inferior.threads():
        if str(thread.num) == number:
            return int(getattr(thread, "global_num", thread.num))
    raise gdb.GdbError(f"Unknown thread {text}.")
