"""Which of perf's events stand on which threads, for whom, and what is in the way of more.

The arbiter says who may have slots; a thread that is new gets its events before it runs.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gdb

from gdb_kwatch.core.debugreg import SLOTS, Piece
from gdb_kwatch.linux import perf_event, signals, slots
from gdb_kwatch.linux.perf_event import NoSlot, NoThread, PerfError

from . import by_value, programs
from .faults import guarded
from .handlers import Handlers
from .kernel_conditions import Programs
from .kernel_room import Rooms
from .kernel_sight import Sight
from .kernel_watch import KernelWatch, Listed
from .thread_events import ThreadEvents
from .watch import Watch

if TYPE_CHECKING:
    from .session import Session


class Arming:
    """The events of a session, and who they stand for."""

    def __init__(
        self, session: Session, sight_asked: Callable[[], bool], settle: Callable[[], None]
    ) -> None:
        """``sight_asked`` answers gdb for its own watchpoints; ``settle`` is called where one was
        disabled."""
        self.session = session
        self.registry = session.registry
        self.programs = Programs(self._hits_so_far)
        self.events = ThreadEvents(self.programs.descriptor)
        self.sight = Sight(self.registry, sight_asked)
        self.threads: dict[int, tuple[int, int]] = {}  # LWP: inferior and thread number
        self._disabled: list[Watch] = []
        self._disabling = Handlers(before_prompt=self._disable, stop=self._disable)
        self._settle = settle
        self.registry.slots.own_events.append(lambda lwp: len(self.events.on(lwp)))
        self.registry.slots.followers.append(self._came_or_went)
        self.registry.slots.last.append(self.make_way)

    # Who there is.

    def watches(self) -> list[KernelWatch]:
        found = self.registry.watches.values()
        return [watch for watch in found if isinstance(watch, KernelWatch)]

    def all(self) -> list[Watch]:
        """All that perf watches something for, by number."""
        found = [w for w in self.registry.watches.values() if not w.in_registers or w.sight]
        return sorted(found, key=lambda watch: watch.number)

    def perf_pieces(self, watch: Watch) -> frozenset[Piece]:
        """What perf watches for it."""
        return watch.sight if watch.in_registers else watch.pieces

    def armed_on(self, watch: Watch) -> tuple[int, int]:
        """On how many of its program's threads it stands."""
        pieces = self.perf_pieces(watch)
        lwps = [lwp for lwp, _ in self.threads_of(watch)]
        return sum(bool(pieces) and pieces <= self.events.on(lwp) for lwp in lwps), len(lwps)

    def held_on(self, lwp: int) -> list[tuple[Piece, list[Watch]]]:
        """What stands on a thread, and for whom."""
        found = []
        for piece in sorted(self.events.on(lwp)):
            found.append((piece, [w for w in self.all() if piece in self.perf_pieces(w)]))
        return found

    def _hits_so_far(self, watch: Watch) -> int:
        left_out = watch.program.left_out if isinstance(watch, KernelWatch) and watch.program else 0
        return self.events.total(self.perf_pieces(watch)) - left_out

    def hits_of(self, watch: Watch) -> int:
        """Every access, those that no signal tells of as well."""
        return watch.hits + (self._hits_so_far(watch) if watch.judged_in_kernel else 0)

    # What can be had.

    def refusal(self, pieces: frozenset[Piece], kernel: bool = True) -> PerfError | None:
        """Why ``pieces`` cannot be had now; None if they can.  Nothing is left armed."""
        error = perf_event.why_not(kernel)
        if error is not None:
            return error
        inferior = gdb.selected_inferior()
        number, reason = signals.choose(inferior.pid) if inferior.pid else (signals.HARMLESS[0], "")
        if number is None:
            return PerfError(errno.EBUSY, reason)
        rooms = self._rooms()
        for thread in inferior.threads():
            lwp = thread.ptid[1]
            free, own = slots.free_slots(lwp), self.events.on(lwp)
            if free is None:
                continue
            free = min(free, max(rooms.on(lwp, programs.selected(), pieces) - len(own), 0))
            if free < len(pieces - own):
                return NoSlot(errno.ENOSPC, self._why_no_slot(lwp, free))
        return None

    def _rooms(self) -> Rooms:
        return Rooms(self.registry, self.events)

    def _why_no_slot(self, lwp: int, free: int) -> str:
        text = f"{free} of 4 free on LWP {lwp}"
        try:
            own = len(self.events.on(lwp))
            count = min(self._rooms().count(programs.selected()), SLOTS - own)
            held = min(slots.reserved(lwp, count), SLOTS - own)
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
            self.programs.tell_by(number)
            self.events.resignal(number)

    # Which event stands where.

    def threads_of(self, watch: Watch) -> list[tuple[int, gdb.InferiorThread]]:
        """All of its programs: one that is for one thread needs the values that others leave."""
        found = []
        for inferior in gdb.inferiors():
            if not inferior.pid or (programs.of(inferior) or watch.progspace) != (watch.progspace):
                continue
            if not by_value.is_traced(inferior, inferior.pid):
                continue  # behind a remote target: these numbers are another system's
            found += [(thread.ptid[1], thread) for thread in inferior.threads()]
        return found

    def arm(self) -> None:
        """Have each thread's events stand for what is watched now.  Raises the first PerfError;
        the other threads are armed all the same."""
        wanted: dict[int, set[Piece]] = {}
        self._share_sight()
        for watch in self.all():
            if not (watch.armed and watch.enabled) or watch in self._disabled:
                continue
            for lwp, thread in self.threads_of(watch):
                wanted.setdefault(lwp, set()).update(self.perf_pieces(watch))
                self.threads[lwp] = thread.inferior.num, thread.num
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
        if self.sight.catchpoint is None:
            return
        rooms = self._rooms()

        def room(watch: Watch) -> int:
            lwps = [lwp for lwp, _ in self.threads_of(watch)]
            return min((rooms.on(lwp, watch.progspace) for lwp in lwps), default=SLOTS)

        new, without = self.sight.share_out(room)
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
            self._give_up(watch, f"could not be installed again and is disabled: {error.strerror}")

    def _give_up(self, watch: Watch, what: str) -> None:
        watch.reason = what.split(": ", 1)[1]
        self.registry.slots.drop_notes(watch)
        self.registry.slots.note(watch, f"{watch.name} {what}")
        self._disabled.append(watch)
        self._disabling.connect()

    def make_way(self) -> None:
        """Have those go, the weakest first, that would keep gdb from resuming the program: see
        kernel_room.py."""
        if not self.events.lwps():
            return
        rooms = self._rooms()
        sighted = [watch for watch in self.all() if watch.sight]
        if any(self._too_full(watch, rooms) is not None for watch in sighted):
            self.rearm()  # kernel sight takes what is left
            rooms = self._rooms()
        for watch in sorted(self.watches(), key=lambda watch: (watch.priority, -watch.number)):
            if not (watch.armed and watch.enabled) or watch in self._disabled:
                continue
            lwp = self._too_full(watch, rooms)
            if lwp is not None and not self.events.is_unread(self.perf_pieces(watch)):
                self._give_up(
                    watch,
                    f"gave up its slot and is disabled: beside it gdb could not resume LWP {lwp}, "
                    "where ptrace keeps what gdb's watchpoints have used until the thread ends",
                )
                self.rearm()
                rooms = self._rooms()

    def _too_full(self, watch: Watch, rooms: Rooms) -> int | None:
        """A thread of its program's with more of perf's events than there is room for."""
        pieces = self.perf_pieces(watch)
        for lwp, _ in self.threads_of(watch):
            on = self.events.on(lwp)
            if pieces & on and len(on) > rooms.on(lwp, watch.progspace):
                return lwp
        return None

    @guarded()
    def _disable(self, event: Any = None) -> None:
        """What `_came_or_went` has found, where the arbiter is at rest again."""
        if event is not None and any(isinstance(watch.bp, Listed) for watch in self._disabled):
            return  # a stop: it takes a command (see gdbfacts.may_execute), and a prompt comes
        self._disabling.disconnect()
        found, self._disabled = self._disabled, []
        for watch in found:
            if watch.bp.is_valid():
                reason = watch.reason
                self.registry.turn_off(watch)
                if isinstance(watch.bp, Listed):
                    self.registry.switched(watch)  # no event tells of it
                watch.reason = reason
        self._settle()

    def is_unread(self, watch: Watch) -> bool:
        """Whether its events have hits that were not told yet."""
        pieces = self.perf_pieces(watch)
        return bool(pieces) and self.events.is_unread(pieces)
