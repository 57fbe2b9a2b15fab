"""gdb's events, in the order in which they come, and what kwatch does at each.

Handlers of breakpoint events only aim and switch; breakpoints are made at load, in new_objfile,
at a stop and in commands; nothing is deleted in `stop` or in breakpoint_deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import gdb

from gdb_kwatch.core.debugreg import SLOTS
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import KERNEL, Trap
from gdb_kwatch.linux import ptrace

from . import by_value, fixed_places, gdbfacts, programs
from .after_exec import AfterExec
from .faults import guarded
from .handlers import Handlers, Part
from .hiding import Hiding
from .hooks import Hook
from .kernel_hits import KernelHits
from .kernel_traps import Hand
from .lost_traps import LostTraps
from .lvalues import frame_or_none
from .no_changes import NoChanges
from .runs import Runs
from .saving import Saving
from .sentinels import Sentinel, define_functions
from .traps import Engine, Stop
from .unloading import follow, parse_again, unfollow
from .watch import EXPIRED, PENDING, SOFTWARE, UNREADABLE_STATE, Watch, asked_of
from .watches import Registry


class Reporter(Protocol):
    """Who tells the user; the ui does."""

    def stopped(self, stop: Stop) -> None: ...
    def untrapped(self, trap: Trap) -> None: ...
    def by_counter(self, hand: Hand) -> None: ...
    def blind(self, watches: list[Watch]) -> None: ...
    def frame(self) -> None: ...
    def warn(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...


class Session:
    """kwatch in one gdb: the registry, the engine, and gdb's events.

    ``connected`` is False after `kwatch off`.  Other rooms that connect to gdb join by `join`.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.registry = Registry()
        self.stop_hook = Hook("hook-stop", self.at_hook)
        self._told: set[str] = set()
        self.engine = Engine(self.registry, self.stop_hook.install, self.at_change)
        self.reporter = reporter
        self.after_exec = AfterExec(self.registry)
        self.spent: list[Sentinel] = []
        self._asked: list[Watch] = []
        self._robbed = False
        self._mute = False
        self._stale = False
        self._resumed = False  # gdb has resumed the program, and no stop was told since
        self._calling = False  # gdb calls a function of the program's, and may stop in it
        self.act: Callable[[Watch, Request], None]  # on a new one's hits; see `hit_actions`
        self.hooked = False  # hook-stop ran for the stop that is being made
        define_functions()
        self.connected = False
        self.kernel = KernelHits(self)
        self.lost_traps = LostTraps(self)
        self.runs = Runs()
        saving = Saving(self.registry)
        self.parts: list[Part] = [programs.births, self.kernel, self.runs, saving, Hiding()]
        self.parts.append(NoChanges(self.registry))
        self._hooks = [
            Hook(f"hookpost-{command}", self.serve) for command in ("watch", "awatch", "rwatch")
        ]
        if gdbfacts.VERSION < (11, 0):
            self._hooks += [Hook(f"hookpost-{name}", self.look) for name in ("hbreak", "thbreak")]
        self._always = Handlers(
            breakpoint_created=self.at_created,
            breakpoint_deleted=self.at_deleted,
            new_objfile=self.at_new_objfile,
            clear_objfiles=self.at_clear_objfiles,
            exited=self.at_exited,
        )
        # What runs at each stop, step or write of the user's is there with the first watchpoint.
        self._watching = Handlers(
            breakpoint_modified=self.engine.modified,
            stop=self.at_stop,
            free_objfile=self.at_free_objfile,
            memory_changed=self.at_memory_changed,
            inferior_call=self.at_inferior_call,
            before_prompt=self.at_prompt,
            cont=self.at_cont,
            new_thread=self.at_new_thread,
        )
        self._resting = Handlers(before_prompt=self.rest)
        self._mending = Handlers(before_prompt=self.at_robbed)
        self._telling = Handlers(before_prompt=self.at_told)
        self._elsewhere = Handlers(before_prompt=self.at_changed_elsewhere)

    # On and off.

    def join(self, part: Part) -> None:
        """Have ``part`` connected and disconnected with the rest."""
        self.parts.append(part)
        if self.connected:
            part.connect()

    def connect(self) -> None:
        """Adopt what is there, and follow gdb's events."""
        if self.connected:
            return
        self.connected = True
        programs.learn()
        self.after_exec.take_over()
        Sentinel.decide = self.engine.decide
        for hook in self._hooks:
            hook.install()
        self.registry.make_pool()
        self._always.connect()
        for objfile in gdb.objfiles():
            follow(objfile, self.at_unloaded)
        back = self.registry.back()
        for bp in gdb.breakpoints() or ():
            if bp.number not in self.registry.watches:
                self.at_created(bp)
        if self.registry.watches:
            self._follow_memory()
            for _ in self._programs():
                self.registry.make_pool()
                self.refresh(moved=True)
                self.serve()
            for watch in back:
                if watch.waits and watch.options is None:  # it was on meanwhile
                    self.registry.slots.note(watch, self.registry.slots.why_waiting(watch))
            self.tell()
        for part in self.parts:
            part.connect()

    def disconnect(self) -> None:
        """Leave gdb alone: nothing of kwatch's runs any more, and its watchpoints are gdb's.

        What gdb cannot forget stays, and does nothing: commands, functions, parameters.
        """
        if not self.connected:
            return
        for part in reversed(self.parts):
            part.disconnect()
        self.registry.forget_hidden()
        self.connected = False
        for handlers in (
            self._always,
            self._watching,
            self._resting,
            self._mending,
            self._telling,
            self._elsewhere,
        ):
            handlers.disconnect()
        for hook in (self.stop_hook, *self._hooks):
            hook.uninstall()
        for objfile in gdb.objfiles():
            unfollow(objfile)
        self.registry.leave()
        self.engine.forget()
        self.spent.clear()
        self._asked.clear()
        gdbfacts.stopping = gdbfacts.stopped = False
        self._robbed = self._mute = self._stale = self._calling = self.hooked = False

    def _programs(self) -> Iterator[None]:
        """With each program space's inferior selected in turn, in silence."""
        selected = gdbfacts.selected_thread()
        frame = frame_or_none() if selected is not None and selected.is_stopped() else None
        try:
            yield
            spaces = {programs.selected()}
            for inferior in gdb.inferiors():
                space = programs.of(inferior)
                threads = inferior.threads()
                if selected is not None and threads and space is not None and space not in spaces:
                    spaces.add(space)
                    threads[0].switch()
                    yield
        finally:
            if selected is not None and selected.is_valid():
                selected.switch()
                if frame is not None and frame.is_valid():
                    frame.select()

    @guarded()
    def at_created(self, bp: gdb.Breakpoint) -> None:
        if isinstance(bp, Sentinel):
            return
        self.registry.created(bp)
        watch = self.registry.watches.get(bp.number)
        if watch is not None:
            self._follow_memory()
            if watch.options is None:
                self.tell_limits()
                self.at_change(watch)
        self.tell()

    def take_in(self, watch: Watch) -> None:
        """One that kwatch itself has made, and no event tells of."""
        self.registry.watches[watch.number] = watch
        self._follow_memory()

    @guarded()
    def look(self) -> None:
        """For gdb 10: find hardware breakpoints that no event tells of."""
        if not self.connected:
            return
        programs.learn()
        for watch in self.registry.look():
            self.at_change(watch)

    @guarded()
    def serve(self) -> None:
        """After a command that has set a watchpoint; see `Registry.serve`."""
        if self.connected:
            self.registry.serve()
            self.kernel.serve()

    def tell_once(self, text: str) -> None:
        """A warning that is given once in a session."""
        if text not in self._told:
            self._told.add(text)
            self.reporter.warn(text)

    def tell_limits(self) -> None:
        """Once: what kwatch cannot see on this target."""
        thread = gdbfacts.selected_thread()
        if thread is None or thread.is_running() or by_value.BY_VALUE in self._told:
            return
        if not gdbfacts.can_read_registers(thread.ptid[1]) and by_value.is_remote():
            self.tell_once(by_value.BY_VALUE)

    def _follow_memory(self) -> None:
        """With the first watchpoint: what runs at each stop or write of the user's."""
        self.stop_hook.install()
        self._watching.connect()
        self._resting.disconnect()

    @guarded()
    def rest(self) -> None:
        """The first prompt after the last watchpoint was deleted: nothing is to be done at a stop
        any more."""
        self._resting.disconnect()
        if self.connected and not self.registry.watches and not self.spent:
            self._watching.disconnect()
            if not self.lost_traps:
                self.stop_hook.uninstall()

    @guarded()
    def at_memory_changed(self, event: gdb.MemoryChangedEvent) -> None:
        """The user wrote to memory."""
        self.engine.catch_up(region=(int(event.address), int(event.length)))

    @guarded()
    def at_inferior_call(self, event: gdb.InferiorCallPostEvent) -> None:
        """gdb takes its watchpoints out while it calls a function for the user."""
        self._calling = not isinstance(event, gdb.InferiorCallPostEvent)
        if not self._calling:
            self.engine.catch_up()

    def at_change(self, watch: Watch) -> None:
        """A watchpoint is new, or was enabled or disabled."""
        if watch.access == "execute" and len(gdb.inferiors()) > 1:
            self._elsewhere.connect()  # in other programs too
        text = self.too_many(watch)
        if text:
            self.reporter.warn(text)
        if watch.waits:
            self.registry.slots.note(watch, self.registry.slots.why_waiting(watch))
        self._warn_about(watch)
        if watch.enabled:
            self.tell()
        else:
            # ``disable`` may go on with others that would only come and go: told at the prompt.
            self._telling.connect()

    @guarded()
    def at_new_thread(self, event: gdb.NewThreadEvent) -> None:
        """From the second one on, places may move while gdb handles a trap."""
        self.registry.give_way()

    @guarded()
    def at_cont(self, event: gdb.ContinueEvent) -> None:
        """gdb resumes the program; where no stop follows, that has failed."""
        self._resumed = True
        self.engine.resumes += 1
        if by_value.BY_VALUE in self._told:
            self.engine.backwards = by_value.goes_back()
        gdbfacts.stopping = gdbfacts.stopped = False

    @guarded()
    def at_prompt(self) -> None:
        """Before a prompt, also one after a resume that failed: has anybody taken slots?"""
        gdbfacts.stopping = gdbfacts.stopped = False
        if not gdbfacts.hardware_allowed():
            self.registry.keep_to_software()
        thread = gdbfacts.selected_thread()
        if thread is None or not thread.is_stopped():
            return
        for watch in self.registry.catch_up():
            self.engine.mend(watch)
        for watch in self.registry.turned_on_unheard():
            self.at_change(watch)
        failed, self._resumed = self._resumed, False
        if self._stale:
            # After ``file`` gdb relocates the program when all its events have been sent.
            self._stale = False
            self.refresh(moved=True)
            self.serve()
            self.tell()
        self.engine.follow(self.registry.moving())
        self.registry.slots.count_lost()
        if self.registry.slots.probe() or (failed and self.registry.slots.perf_is_there()):
            self.registry.reseat()
            self.registry.aim()
            self.registry.serve()
            self.tell()
        elif self.registry.lacks_sentinels():
            self.registry.serve()

    @guarded()
    def at_changed_elsewhere(self) -> None:
        """What a slot given back by one inferior has brought to others.  While no thread is
        selected none can be, without gdb saying so: the next prompt tries again."""
        threads = [thread for inferior in gdb.inferiors() for thread in inferior.threads()]
        if gdbfacts.selected_thread() is not None or not threads:
            self._elsewhere.disconnect()
        for _ in self._programs():
            self.registry.make_pool()
            self.registry.grow()
            self.refresh(moved=True, nothing_ran=True)
            self.serve()
        self.tell()

    def adopt(self, adopting: bool) -> None:
        """``set kwatch adopt``.  What has waited and is gdb's alone now is on again."""
        waited = [watch for watch in self.registry.watches.values() if watch.waits]
        self.registry.adopting = adopting
        self.refresh(moved=True)
        for watch in waited:
            text = "" if watch.waits else self.too_many(watch)
            if text:
                self.reporter.warn(text)
        self.tell()

    def prioritize(self, watch: Watch, priority: int) -> None:
        """``kwatch priority``."""
        self.registry.slots.prioritize(watch, priority)
        self.kernel.prioritized(watch)
        self.settled()

    def settled(self) -> None:
        """After the arbiter was asked for something: carry it out in every inferior, and tell."""
        if not self.connected:
            return
        self.registry.aim()
        self.registry.serve()
        if len(gdb.inferiors()) > 1:
            self.at_changed_elsewhere()
        self.tell()

    def spread(self, watch: Watch) -> None:
        """Have a new session-wide kwatch watch in the other inferiors too."""
        if not watch.everywhere or len(gdb.inferiors()) < 2:
            return
        self.registry.making = watch.options  # it is told by whoever sets it
        try:
            self.at_changed_elsewhere()
        finally:
            self.registry.making = None
        if watch.waits:
            watch.displaced = False
            self.registry.slots.drop_notes(watch)

    @guarded()
    def at_told(self) -> None:
        self._telling.disconnect()
        self.tell()

    def tell(self) -> None:
        """What became of others; not while ``kwatch`` runs gdb's ``watch``, whose words are
        caught."""
        if self.registry.making is None:
            for note in self.registry.slots.take_notes():
                self.reporter.note(note)

    @guarded()
    def at_deleted(self, bp: gdb.Breakpoint) -> None:
        if not isinstance(bp, Sentinel):
            with gdbfacts.in_deletion(bp):
                self.registry.deleted(bp)
            # ``delete`` may go on with others that would only come and go: told at the prompt.
            self._telling.connect()
            if not self.registry.watches and self._watching.connected:
                self._resting.connect()
        elif not bp.leaving and not self._robbed and self.registry.is_in_use(bp):
            # A script that clears all breakpoints; nothing can be made in this event.
            self._robbed = True
            self.reporter.warn(
                "kwatch: another script has deleted kwatch's hidden watchpoints; hits may be "
                "missed until the next prompt, where they are made again"
            )
            self._mending.connect()

    @guarded()
    def at_robbed(self) -> None:
        """The first prompt after the sentinels were deleted by somebody else."""
        self._mending.disconnect()
        self._robbed = False
        self.registry.make_pool()
        self.refresh(moved=True)
        self.registry.serve()

    @guarded()
    def at_new_objfile(self, event: gdb.NewObjFileEvent) -> None:
        """Symbols moved or came: work everything out again."""
        programs.learn()
        self.registry.forget_hidden()
        follow(event.new_objfile, self.at_unloaded)
        self.registry.make_pool()
        if programs.is_half_read(event.new_objfile):
            self._stale = bool(self.registry.watches)
            return
        if event.new_objfile.progspace == programs.selected():
            with self.registry.close_together():
                self.refresh()
            if self.registry.watches:
                self.tell_limits()
        self.registry.serve()
        self.after_exec.rearm()
        self.tell()

    @guarded()
    def at_unloaded(self) -> None:
        """The program has unloaded a library: no watchpoint may use what gdb freed with it."""
        self.registry.forget_hidden()
        for watch in list(self.registry.here()):
            if watch.access == "execute":
                continue
            with self.registry.own_change():
                parsed = parse_again(watch.bp)
            if not parsed:
                self.registry.resolve(watch)
        self.registry.aim()

    def at_free_objfile(self, event: gdb.FreeObjFileEvent) -> None:
        """A file's symbols go; a lookup may still find them now, so look again at the stop."""
        self._stale = bool(self.registry.watches)

    def refresh(self, moved: bool = False, nothing_ran: bool = False) -> None:
        """Resolve each watchpoint of this program space again, and aim.  For ``moved`` see
        `Registry.resolve`.  ``nothing_ran``: another value than that of before is the work of a
        trap that gdb has yet to look at."""
        if not self.connected:
            return
        inferior = gdb.selected_inferior()
        self.registry.grow()
        for watch in list(self.registry.here()):
            if inferior.pid and watch.pid != inferior.pid and watch.access != "execute":
                self._started(watch)
            if watch.state != EXPIRED:
                known = nothing_ran and watch.armed and watch.pid in (inferior.pid, -1)
                before = watch.last
                self.registry.resolve(watch, moved)
                if known and before is not None and watch.armed:
                    watch.last = before
                if inferior.pid and not watch.pid:
                    self._started(watch)
                self._warn_about(watch)
        self.registry.aim()

    def _started(self, watch: Watch) -> None:
        old, ended = watch.lvalue, watch.pid
        if self.registry.started(watch):
            return
        where = f"{old.address:#x}" if old is not None and old.address is not None else "?"
        if watch.options is not None:
            was = f"was at {where} in a process that has ended"
            if not ended:
                was = f"is at {where}, where this process has no memory"
            self.reporter.warn(
                f"kwatch {watch.number}: address expired: {watch.expression} {was}; "
                f"its slot is free (delete {watch.number}, or set it again)"
            )
        else:
            self.reporter.warn(
                f"watchpoint {watch.number}: address expired: {watch.expression} was at {where} "
                f"when it was set; gdb goes on watching that address, whatever is there now"
            )
        self.registry.expire(watch)

    @guarded()
    def at_clear_objfiles(self, event: gdb.ClearObjFilesEvent) -> None:
        """Another program: exec, or the user's ``file``."""
        programs.learn()
        for watch in self.registry.watches.values():
            if watch.progspace == event.progspace:
                watch.pid = -1
        if self.after_exec.called(event.progspace):
            self.engine.history.leave(gdb.selected_inferior().num)
        self._drop_conditions(event.progspace)
        self._stale = bool(self.registry.watches)
        thread = gdbfacts.selected_thread()
        if thread is None or gdbfacts.VERSION[0] >= 17 or not ptrace.stands_at_exec(thread.ptid[1]):
            return
        for watch in list(self.registry.watches.values()):
            if watch.scoped and watch.in_registers and watch.progspace == event.progspace:
                # gdb would: but it looks for the frame in symbols that it has freed, and may end
                # itself (13.1: an assertion, a segmentation fault, an endless loop).
                self.reporter.note(
                    f"Watchpoint {watch.number} deleted because the program has left the block in\n"
                    f"which its expression is valid."
                )
                watch.bp.delete()

    def _drop_conditions(self, space: gdb.Progspace) -> None:
        """gdb (10 to 18) is about to parse each condition again in the block where it was set,
        which it has freed (``cond_exp_valid_block``): where it names a local, gdb ends with a
        segmentation fault."""
        for watch in self.registry.watches.values():
            if watch.progspace != space or watch.condition_function is None:
                continue
            if not watch.in_registers or not watch.bp.condition:
                continue
            text, watch.condition_function = watch.bp.condition, None
            shown = asked_of(text)
            watch.bp.condition = watch.with_acting(None)
            self.reporter.note(
                f"{watch.name}: its condition '{shown}' named variables of the program that was "
                f"left, and is dropped; 'condition {watch.number} ...' sets another"
            )

    @guarded()
    def at_exited(self, event: gdb.ExitedEvent) -> None:
        self._resumed = False
        self.registry.forget_hidden()
        space = programs.of(event.inferior)
        for watch in self.registry.watches.values():
            if watch.progspace == space and watch.access != "execute" and watch.state != EXPIRED:
                self.registry.left(watch)
        self.registry.shrink(space)
        pool = self.registry.pools.get(space)
        if pool is not None and pool.is_valid():
            pool.aim(())
        self.registry.slots.lives(ending=event.inferior)
        self._elsewhere.connect()  # gdb cannot enable anything now ("No registers")

    # A stop.

    @guarded()
    def at_hook(self) -> None:
        """hook-stop: gdb has decided to stop and has printed nothing yet."""
        if not self.connected:
            return  # kwatch's line stands in a hook of the user's that was defined meanwhile
        if self.lost_traps.passed_over() or not self._watching.connected:
            return
        gdbfacts.stopping = True
        programs.learn()
        self.hooked = True
        # Those that gdb has checked stand in its list of what the stop is about, where
        # `continue N`, `info program` and other scripts' stop events would find them.
        checked, self.engine.checked = self.engine.checked, []
        # Not one of another program space, from a trap before: it would be made again in this one.
        space = programs.selected()
        for sentinel in dict.fromkeys(checked):
            if sentinel.space == space:
                self.spent.append(sentinel)
                sentinel.remove()
        if by_value.recording():
            self.engine.stand_back()
            if self.registry.watches:
                self.tell_once(by_value.RECORDING)
            return
        if self.engine.blind:
            self.engine.blind = False
            self.reporter.blind(list(self.registry.here()))
        stop = self.engine.finish()
        hand = self.kernel.finish(stop)
        self._asked = list(stop.askers)
        if self._stale:
            self._stale = False
            self.refresh(moved=True)
        if gdbfacts.selected_thread() is not None:
            self.engine.catch_up(stop.trap.lwp if stop.trap is not None else 0)
        if hand is not None and hand.trap is not None and hand.trap.origin == KERNEL:
            self.kernel.traps.complete(hand, self.engine.take_untold())
        if hand is not None:
            self._asked += hand.askers
        untrapped = self.engine.untrapped(stop.trap)
        if untrapped is not None:
            self.reporter.untrapped(untrapped)
        for ended in self.kernel.traps.take_ended():
            self.reporter.by_counter(ended)
        self.reporter.stopped(stop)
        if hand is not None:
            self.reporter.by_counter(hand)
        self._mute = stop.pending and bool(stop.stops)

    @guarded()
    def at_stop(self, event: gdb.StopEvent) -> None:
        """After gdb has printed."""
        with gdbfacts.stop_event():
            self._at_stop()
        gdbfacts.stopped = True

    def _at_stop(self) -> None:
        self._resumed = False
        programs.learn()
        gone = self.registry.forget_hidden()
        self.after_exec.look()
        if not self.hooked and self.registry.watches:
            self.at_hook()  # the user has defined hook-stop anew; better late than never
        self.hooked = False
        for pool in self.registry.pools.values():
            for sentinel in self.spent:
                pool.renew(sentinel)
        self.spent.clear()
        if self._mute:
            # No sentinel came to speak (10.1: none in a fork's child yet), and the kwatch is
            # silent: gdb has printed nothing.
            self._mute = False
            self.reporter.frame()
        asked, self._asked = self._asked, []
        for watch in asked:
            self._dispose(watch)
        if self.registry.watches or gone:
            self.registry.make_pool()
            self.registry.grow()
            self.registry.slots.lives()
            self.registry.slots.count_lost()
            self.tidy()
        self.registry.serve()
        self.after_exec.rearm()
        self.tell()

    def _dispose(self, watch: Watch) -> None:
        """What gdb would have done at a stop by a watchpoint that it missed."""
        if not watch.bp.is_valid():
            return
        if watch.temporary:
            watch.bp.delete()
        elif watch.once:
            self.registry.turn_off(watch.head)

    def tidy(self) -> None:
        """Notice what changed with no event: hardware turned software, memory come or gone."""
        self.registry.let_go.clear()
        thread = gdbfacts.selected_thread()
        lwp = thread.ptid[1] if thread is not None else 0
        for watch in list(self.registry.here()):
            watch.has_run = True
            silently = watch.access == "execute" or (watch.once and not self._calling)
            if silently and watch.head.on and not watch.bp.enabled:
                # gdb has disabled it with no event: it was for once, or of a function that another
                # program does not have (``location_to_sals``).
                self.registry.switched(watch.head)
                if watch.spans and len(gdb.inferiors()) > 1:
                    self._elsewhere.connect()
            if watch.access == "execute":
                continue
            if watch.unchecked:
                self.registry.check_at_stop(watch)
            address = fixed_places.find(self.registry, watch, lwp)
            if address is not None and watch.lvalue is not None:
                self.registry.put(watch, watch.lvalue, address)
                if gdbfacts.is_memory(address):
                    watch.pid = gdb.selected_inferior().pid
                    self.registry.resolve(watch)
                else:
                    self._started(watch)
            software = watch.bp.type == gdb.BP_WATCHPOINT and watch.enabled and watch.on
            if software != (watch.state == SOFTWARE) or watch.state in (UNREADABLE_STATE, PENDING):
                # gdb makes its locations anew when it resumes.
                self.registry.resolve(watch, moved=True)
            self._warn_about(watch)
        self.registry.aim()

    def _warn_about(self, watch: Watch) -> None:
        """One line, once for each reason, where a watchpoint is not what it seems."""
        if watch.state != SOFTWARE or not watch.was_hardware or gdbfacts.VERSION >= (16, 0):
            return  # gdb 16 says "downgraded to software watchpoint" itself
        text = self.why_software(watch)
        if text not in watch.warned:
            watch.warned.add(text)
            self.reporter.warn(text)

    def why_software(self, watch: Watch) -> str:
        """Why gdb single-steps the program for a watchpoint."""
        name = f"watchpoint {watch.number} ({watch.expression})"
        if not gdbfacts.hardware_allowed():
            return (
                f"{name} is a software watchpoint: can-use-hw-watchpoints is 0, so gdb "
                f"single-steps the program (set can-use-hw-watchpoints 1)"
            )
        return (
            f"{name} is a software watchpoint: it does not fit into the debug registers, so gdb "
            f"single-steps the program"
        )

    def too_many(self, watch: Watch) -> str:
        """Where gdb will fail at resume for want of slots, as kwatch may not switch the watchpoint:
        what is needed and who holds them."""
        if watch.request is None or not watch.request.fixed:
            return ""  # one that can never fit is told when gdb makes it a software watchpoint
        others = self.registry.pieces_in_use(without=watch)
        new = watch.pieces - others
        free = max(SLOTS - len(others), 0)
        if len(new) <= free:
            return ""
        what = "hardware breakpoint" if watch.access == "execute" else "watchpoint"
        return (
            f"{what} {watch.number} needs {len(watch.pieces)} of {SLOTS} hardware slots, {free} "
            f"free; gdb will fail when it resumes the program.\n"
            f"{self.registry.slots.holders(watch)}"
        )
