"""The kwatches that perf stands for, in gdb's events: set, switched, armed anew, told of.

Each hit of an event of perf's (`thread_events`) sends its thread a signal that stops it on its way
out of the system call, or right after the instruction.  `kernel_arming` has the events,
`kernel_traps` makes a trap of what they have counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gdb

from gdb_kwatch.core.debugreg import Piece
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import perf_event, signals
from gdb_kwatch.linux.perf_event import PerfError

from . import by_value, faults, gdbfacts, programs
from .faults import guarded
from .handlers import Handlers
from .kernel_arming import Arming
from .kernel_conditions import NOT_OURS, Judged, uses_kernel_names
from .kernel_stops import StopSignal
from .kernel_traps import Hand, KernelTraps
from .kernel_watch import BY_USER, FUNCTION, HAS_OBJECTS, KernelWatch, Listed, make_catchpoint
from .thread_events import Count

if TYPE_CHECKING:
    from .session import Session
    from .traps import Stop
    from .watch import Watch

OFF, ON, AUTO = "off", "on", "auto"
# A program that makes and ends threads without ever stopping: look for ended ones now and then.
_OFTEN = 64


class Asked(gdb.Function):
    """Whether a kwatch -k was hit: (NUMBER, EXPRESSION [, CONDITION]).

    kwatch makes it the condition of the catchpoint that stands for the kwatch; the condition that
    the user has set is its last argument."""

    def __init__(self, hits: KernelHits, name: str) -> None:
        self.hits = hits
        super().__init__(name)

    def invoke(self, number: gdb.Value, *_: gdb.Value) -> bool:
        try:
            return self.hits.traps.asked(int(number))
        except Exception as error:
            faults.report("a kernel-mode hit", error)
            return True  # rather one stop too many than a hit unseen


class KernelHits:
    """The kwatches with -k, and kernel sight for gdb's own.  One for a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.registry = session.registry
        self.mode = OFF
        self.arming = Arming(session, self._sight_asked, self._settle)
        self.stop_signal = StopSignal(self.arming)
        self.traps = KernelTraps(session, self.arming, self.stop_signal)
        self.programs, self.events = self.arming.programs, self.arming.events
        session.engine.untold_elsewhere = self.arming.is_unread
        self._functions = [Asked(self, name) for name in (FUNCTION, BY_USER)]
        # A catchpoint that a new kwatch is to have, instead of a new one.
        self.catchpoint: gdb.Breakpoint | Listed | None = None
        self._new_threads = 0
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
        if self.arming.watches():
            self.stop_signal.take()
        self._settle()
        self.serve()

    def disconnect(self) -> None:
        """Nothing is watched any more; the catchpoints stay, and never stop."""
        # gdb 10 does not list them, so that the registry would not find them again.
        self._parked = [watch for watch in self.arming.watches() if isinstance(watch.bp, Listed)]
        self.events.close()
        self.traps.forget(ended=True)
        self._handlers.disconnect()
        self.stop_signal.leave()
        self.stop_signal.give_back()

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
            self.arming.sight.remove()
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
            self.arming.sight.serve()
            if self.arming.sight.catchpoint is not None:
                self.stop_signal.take()
            if self.arming.sight.catchpoint is not None and not self.events.lwps():
                try:
                    self.arming.choose_signal()
                except gdb.GdbError as error:
                    self.session.tell_once(str(error))
                    return
            self._settle()

    # A new one.

    def add(
        self, make: Any, temporary: bool, condition: str | None, thread: str | None
    ) -> KernelWatch:
        """A new kwatch -k: ``make`` builds it around its catchpoint.  Raises PerfError, and leaves
        nothing behind then."""
        self.arming.choose_signal()
        self.stop_signal.take()
        watch: KernelWatch = make(self.catchpoint or make_catchpoint(temporary))
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
            self.arming.arm()
        except Exception:
            self.registry.forget(watch)
            self.programs.drop(watch)
            if self.catchpoint is None:
                watch.bp.delete()
            self._settle()
            raise
        return watch

    def _put_condition(self, watch: KernelWatch) -> None:
        with self.registry.own_change():
            watch.put_condition()

    def prioritized(self, watch: Watch) -> None:
        """The command line in its catchpoint's condition is to say so."""
        if isinstance(watch, KernelWatch) and self.session.connected:
            self._put_condition(watch)

    def _settle(self) -> None:
        """Arm what is there; where nothing is, leave nothing."""
        self.programs.tidy(self.arming.watches())
        if self.arming.all() or (self.mode != OFF and self.session.connected):
            self._handlers.connect()
            self.arming.rearm()
            return
        self.events.close()
        self.arming.threads.clear()
        self.traps.forget()
        self._handlers.disconnect()
        self.stop_signal.leave()

    def judge_in(self, mode: str) -> None:
        """``set kwatch kernel-conditions``: who tests conditions from now on."""
        self.programs.mode = mode
        for watch in self.arming.watches():
            self.registry.resolve(watch)
        if self.arming.watches():
            self.registry.aim()
            self.arming.rearm()

    # What gdb tells.

    def _sight_asked(self) -> bool:
        return self.traps.sight_asked()

    def finish(self, stop: Stop) -> Hand | None:
        """See `KernelTraps.finish`."""
        return self.traps.finish(stop) if self._handlers.connected else None

    @guarded()
    def at_modified(self, bp: gdb.Breakpoint) -> None:
        watch = self.registry.watches.get(bp.number)
        if self.registry.changing or watch is None:
            return
        if isinstance(watch, KernelWatch):
            self._was_modified(watch)
        elif self.mode != OFF:
            self.arming.rearm()  # switched on or off

    def _was_modified(self, watch: KernelWatch) -> None:
        """The user, or gdb at a hit, has changed the catchpoint."""
        watch.gdb_hits, watch.ignore_count = watch.bp.hit_count, watch.bp.ignore_count
        if watch.was_changed():
            self._put_condition(watch)
            self.registry.resolve(watch)
            self.registry.aim()
            self.arming.rearm()
        if watch.on != watch.bp.enabled:
            self.registry.switched(watch)
            self.session.at_change(watch)
            self.arming.rearm()

    @guarded()
    def at_created(self, bp: gdb.Breakpoint) -> None:
        """One more of gdb's own: sight gives up the slots that it needs."""
        if bp.number in self.registry.watches:
            self.arming.rearm()

    @guarded()
    def at_deleted(self, bp: gdb.Breakpoint) -> None:
        # The registry has let go of it already.
        if bp is self.arming.sight.catchpoint:
            self._lost_catchpoint()
        with gdbfacts.in_deletion(bp):
            self._settle()

    def _lost_catchpoint(self) -> None:
        self.arming.sight.catchpoint = None
        self.mode = OFF
        self.arming.sight.remove()
        self._settle()
        self.session.tell_once(
            "kernel sight for gdb's own watchpoints is off: its catchpoint was deleted"
        )

    @guarded()
    def at_new_thread(self, event: gdb.NewThreadEvent) -> None:
        """It is still stopped.  gdb 10 gives the inferior here."""
        self._new_threads += 1
        if self._new_threads % _OFTEN == 0:
            self.traps.note_ended()
        self.programs.know_threads()
        self.arming.rearm()

    @guarded()
    def at_new_objfile(self, event: gdb.NewObjFileEvent) -> None:
        """The session has worked the addresses out again."""
        if programs.is_half_read(event.new_objfile):
            return
        reason = self._why_unarmed()
        if reason:
            for watch in self.arming.watches():
                if not watch.sees_kernel and not self.arming.armed_on(watch)[0]:
                    self._hand_over(watch, reason)
        self.arming.rearm()

    def _why_unarmed(self) -> str:
        """What is in the way of one that was set before its program was there; "" for nothing."""
        waiting = [w for w in self.arming.watches() if not w.sees_kernel and w.armed]
        inferior = gdb.selected_inferior()
        if not waiting or not inferior.pid:
            return ""
        if not by_value.is_traced(inferior, inferior.pid):
            return NOT_OURS
        try:
            self.arming.choose_signal()
            self.arming.arm()
        except (PerfError, gdb.GdbError) as error:
            return str(getattr(error, "strerror", None) or error).rstrip(".")
        return ""

    def _hand_over(self, watch: KernelWatch, reason: str) -> None:
        """Set one anew as gdb's own watchpoint, as perf cannot have it.  Its number is another."""
        self._was_modified(watch)
        assert watch.options is not None
        command = "awatch" if watch.access == "access" else "watch"
        made: Watch | None = None
        if not (watch.only or watch.without or uses_kernel_names(watch.asked)):
            words = [command, watch.watched]
            words += [f"if {watch.asked}"] if watch.asked else []
            words += [f"thread {watch.on_thread}"] if watch.on_thread is not None else []
            made = self._set_anew(watch, " ".join(words))
        if made is None:
            self.session.reporter.warn(
                f"kwatch {watch.number} watches nothing: {reason}; gdb cannot have it either "
                "(delete it, and set it again here)"
            )
            return
        made.judged = Judged(reason)
        self.session.reporter.note(
            f"kwatch {watch.number} is kwatch {made.number} now, and gdb tests its condition: "
            f"{reason}"
        )
        watch.bp.delete()
        if watch.number in self.registry.watches:  # gdb 10 has no event for it
            self.registry.forget(watch)
            self._settle()

    def _set_anew(self, watch: KernelWatch, line: str) -> Watch | None:
        bp, registry = watch.bp, self.registry
        registry.making, registry.made = watch.options, None
        try:
            gdb.execute(line, to_string=True)
            made = registry.made
            if made is not None:
                if bp.ignore_count:
                    gdb.execute(f"ignore {made.number} {bp.ignore_count}", to_string=True)
                if bp.commands:
                    made.bp.commands = bp.commands
                if bp.temporary:
                    gdb.execute(f"enable delete {made.number}", to_string=True)
        except gdb.error:
            return None
        finally:
            registry.making = None
        return made

    @guarded()
    def at_clear_objfiles(self, event: gdb.ClearObjFilesEvent) -> None:
        """Another program, by exec: events that Linux before 5.13 leaves are taken off."""
        for inferior in gdb.inferiors():
            if programs.of(inferior) in (None, event.progspace):
                for thread in inferior.threads():
                    self.events.close(thread.ptid[1])

    @guarded()
    def at_memory_changed(self, event: gdb.MemoryChangedEvent) -> None:
        region = Region(int(event.address), int(event.length), 0)
        self.programs.user_wrote(self.arming.watches(), region)

    @guarded()
    def at_exited(self, event: gdb.ExitedEvent) -> None:
        """The process has ended, or was detached from."""
        late = 0
        for lwp, (inferior, _) in list(self.arming.threads.items()):
            if inferior == event.inferior.num:
                counts: dict[Piece, Count] = {}
                try:
                    counts = self.events.fresh(lwp)
                except PerfError as error:
                    faults.report("the last count of a thread", error)
                for piece, count in counts.items():
                    if not self.programs.judges(piece.rw):
                        late += count.total
                        for watch in self.arming.all():
                            if piece in self.arming.perf_pieces(watch):
                                watch.hits += count.total
                self.events.close(lwp)
                del self.arming.threads[lwp]
        self.traps.forget()
        if late:
            name = signals.signal.Signals(self.events.signal).name
            what = f"{late} accesses of places" if late > 1 else "1 access of a place"
            self.session.reporter.warn(
                f"{what} watched with -k {'were' if late > 1 else 'was'} counted, and did not stop "
                f"the program: a thread that blocks {name} is stopped only when it unblocks it"
            )

    @guarded()
    def at_stop(self, event: gdb.StopEvent) -> None:
        with gdbfacts.stop_event():
            self._at_stop()

    def _at_stop(self) -> None:
        self._look()
        pid = gdb.selected_inferior().pid
        if (
            pid
            and self.events.lwps()
            and signals.has(signals.masks(pid).get("SigCgt", 0), self.events.signal)
        ):
            try:
                self.arming.choose_signal()
            except gdb.GdbError as error:
                self.session.tell_once(str(error))
        self._settle()
        self.serve()
        self.stop_signal.owe()

    @guarded()
    def at_prompt(self) -> None:
        if not HAS_OBJECTS:
            self._look()
            self.session.tell()
            if self.registry.lacks_sentinels():
                self.registry.serve()
        self.arming.make_way()
        self.serve()

    def _look(self) -> None:
        """Notice what no event has told: a catchpoint that gdb disabled by itself (``enable
        once``), a local that is gone; on gdb 10, where each has to be asked for by a command, at
        the prompt and everything."""
        if not HAS_OBJECTS and not gdbfacts.may_execute():
            return
        catchpoint = self.arming.sight.catchpoint
        if isinstance(catchpoint, Listed):
            catchpoint.look()
            if not catchpoint.is_valid():
                self._lost_catchpoint()
        gone = False
        for watch in self.arming.watches():
            if isinstance(watch.bp, Listed):
                watch.bp.look()
            if not watch.bp.is_valid():
                self.registry.forget(watch)
                self._settle()
                gone = True
            elif watch.frame_is_gone():
                gdb.write(
                    f"\nWatchpoint {watch.number} deleted because the program has left the block "
                    f"in\nwhich its expression is valid.\n"
                )
                watch.bp.delete()
                self.registry.forget(watch)
                self._settle()
                gone = True
            else:
                self._was_modified(watch)
        if gone:
            self.registry.aim()  # others may have its slots


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
