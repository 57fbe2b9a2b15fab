"""gdb's events, in the order in which they come, and what kwatch does at each.

Handlers of breakpoint events only aim and switch; breakpoints are made at load, in new_objfile,
at a stop and in commands; nothing is deleted in `stop` or in breakpoint_deleted.
"""

from __future__ import annotations

from typing import Protocol

import gdb

from gdb_kwatch.core.debugreg import SLOTS
from gdb_kwatch.core.records import Trap

from . import gdbfacts
from .faults import guarded
from .hooks import Hook
from .sentinels import Sentinel, define_functions
from .traps import Engine, Stop
from .unloading import follow, parse_again
from .watch import EXPIRED, PENDING, SOFTWARE, UNREADABLE_STATE, Watch
from .watches import Registry


class Reporter(Protocol):
    """Who tells the user; the ui does."""

    def stopped(self, stop: Stop) -> None: ...
    def untrapped(self, trap: Trap) -> None: ...
    def blind(self, watches: list[Watch]) -> None: ...
    def frame(self) -> None: ...
    def warn(self, text: str) -> None: ...


class Session:
    """kwatch in one gdb: the registry, the engine, and gdb's events."""

    def __init__(self, reporter: Reporter) -> None:
        self.registry = Registry()
        self.stop_hook = Hook("hook-stop", self.at_hook)
        self.engine = Engine(self.registry, self.stop_hook.install, self.at_change)
        self.reporter = reporter
        self.spent: list[Sentinel] = []
        self._asked: list[Watch] = []
        self._following = False
        self._robbed = False
        self._mute = False
        self._stale = False
        self._calling = False  # gdb calls a function of the program's, and may stop in it
        self.hooked = False  # hook-stop ran for the stop that is being made
        self._hardware = gdbfacts.hardware_allowed()

    def connect(self) -> None:
        """Define what the sentinels need, adopt what is there, and follow gdb's events."""
        define_functions()
        Sentinel.decide = self.engine.decide
        for command in ("watch", "awatch", "rwatch"):
            Hook(f"hookpost-{command}", guarded()(self.registry.serve)).install()
        if gdbfacts.VERSION < (11, 0):
            for command in ("hbreak", "thbreak"):
                Hook(f"hookpost-{command}", self.look).install()
        self.registry.make_pool()
        events = gdb.events
        events.breakpoint_created.connect(self.at_created)
        events.breakpoint_modified.connect(self.engine.modified)
        events.breakpoint_deleted.connect(self.at_deleted)
        events.stop.connect(self.at_stop)
        events.new_objfile.connect(self.at_new_objfile)
        events.clear_objfiles.connect(self.at_clear_objfiles)
        if hasattr(events, "free_objfile"):  # gdb 13
            events.free_objfile.connect(self.at_free_objfile)
        events.exited.connect(self.at_exited)
        for objfile in gdb.objfiles():
            follow(objfile, self.at_unloaded)
        for bp in gdb.breakpoints() or ():
            self.at_created(bp)

    @guarded()
    def at_created(self, bp: gdb.Breakpoint) -> None:
        if isinstance(bp, Sentinel):
            return
        self.registry.created(bp)
        watch = self.registry.watches.get(bp.number)
        if watch is not None:
            self._follow_memory()
            if watch.options is None:
                self.at_change(watch)

    @guarded()
    def look(self) -> None:
        """For gdb 10: find hardware breakpoints that no event tells of."""
        for watch in self.registry.look():
            self.at_change(watch)

    def _follow_memory(self) -> None:
        """With the first watchpoint: what runs at each stop or write of the user's."""
        self.stop_hook.install()
        if not self._following:
            self._following = True
            gdb.events.memory_changed.connect(self.at_memory_changed)
            gdb.events.inferior_call.connect(self.at_inferior_call)

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
        text = self.too_many(watch)
        if text:
            self.reporter.warn(text)
        self._warn_about(watch)

    @guarded()
    def at_deleted(self, bp: gdb.Breakpoint) -> None:
        if not isinstance(bp, Sentinel):
            self.registry.deleted(bp)
        elif not bp.leaving and not self._robbed and self.registry.is_in_use(bp):
            # A script that clears all breakpoints; nothing can be made in this event.
            self._robbed = True
            self.reporter.warn(
                "kwatch: another script has deleted kwatch's hidden watchpoints; hits may be "
                "missed until the next prompt, where they are made again"
            )
            gdb.events.before_prompt.connect(self.at_robbed)

    @guarded()
    def at_robbed(self) -> None:
        """The first prompt after the sentinels were deleted by somebody else."""
        gdb.events.before_prompt.disconnect(self.at_robbed)
        self._robbed = False
        self.registry.make_pool()
        self.refresh()
        self.registry.serve()

    @guarded()
    def at_new_objfile(self, event: gdb.NewObjFileEvent) -> None:
        """Symbols moved or came: work everything out again."""
        self.registry.forget_hidden()
        follow(event.new_objfile, self.at_unloaded)
        self.registry.make_pool()
        if event.new_objfile.progspace == gdb.current_progspace():
            self.refresh()
        self.registry.serve()

    @guarded()
    def at_unloaded(self) -> None:
        """The program has unloaded a library: no watchpoint may use what gdb freed with it."""
        self.registry.forget_hidden()
        for watch in list(self.registry.here()):
            if watch.access != "execute" and not parse_again(watch.bp):
                self.registry.resolve(watch)
        self.registry.aim()

    def at_free_objfile(self, event: gdb.FreeObjFileEvent) -> None:
        """A file's symbols go; a lookup may still find them now, so look again at the stop."""
        self._stale = bool(self.registry.watches)

    def refresh(self, moved: bool = False) -> None:
        """Resolve each watchpoint of this program space again, and aim.  For ``moved`` see
        `Registry.resolve`."""
        inferior = gdb.selected_inferior()
        for watch in list(self.registry.here()):
            if inferior.pid and watch.pid != inferior.pid and watch.access != "execute":
                self._started(watch)
            if watch.state != EXPIRED:
                self.registry.resolve(watch, moved)
                self._warn_about(watch)
        self.registry.aim()

    def _started(self, watch: Watch) -> None:
        old = watch.lvalue
        if self.registry.started(watch):
            return
        where = f"{old.address:#x}" if old is not None and old.address is not None else "?"
        if watch.options is not None:
            self.reporter.warn(
                f"kwatch {watch.number}: address expired: {watch.expression} was at {where} in a "
                f"process that has ended; its slot is free (delete {watch.number}, or set it again)"
            )
        else:
            self.reporter.warn(
                f"watchpoint {watch.number}: address expired: {watch.expression} was at {where} "
                f"when it was set, and is elsewhere now; it will never be hit"
            )
        self.registry.expire(watch)

    @guarded()
    def at_clear_objfiles(self, event: gdb.ClearObjFilesEvent) -> None:
        """Another program: exec, or the user's ``file``."""
        for watch in self.registry.watches.values():
            if watch.progspace == event.progspace:
                watch.pid = -1

    @guarded()
    def at_exited(self, event: gdb.ExitedEvent) -> None:
        self.registry.forget_hidden()
        space = getattr(event.inferior, "progspace", None)
        for watch in self.registry.watches.values():
            if watch.progspace == space and watch.access != "execute" and watch.state != EXPIRED:
                self.registry.left(watch)
        pool = self.registry.pools.get(space)
        if pool is not None and pool.is_valid():
            pool.aim(())

    # A stop.

    @guarded()
    def at_hook(self) -> None:
        """hook-stop: gdb has decided to stop and has printed nothing yet."""
        self.hooked = True
        # Those that gdb has checked stand in its list of what the stop is about, where
        # `continue N`, `info program` and other scripts' stop events would find them.
        checked, self.engine.checked = self.engine.checked, []
        for sentinel in dict.fromkeys(checked):
            self.spent.append(sentinel)
            sentinel.remove()
        if self.engine.blind:
            self.engine.blind = False
            self.reporter.blind(list(self.registry.here()))
        stop = self.engine.finish()
        self._asked = list(stop.askers)
        if self._stale:
            self._stale = False
            self.refresh(moved=True)
        if gdb.selected_thread() is not None:
            self.engine.catch_up(stop.trap.lwp if stop.trap is not None else 0)
        untrapped = self.engine.untrapped(stop.trap)
        if untrapped is not None:
            self.reporter.untrapped(untrapped)
        self.reporter.stopped(stop)
        self._mute = stop.pending and bool(stop.stops)

    @guarded()
    def at_stop(self, event: gdb.StopEvent) -> None:
        """After gdb has printed."""
        gone = self.registry.forget_hidden()
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
            self.tidy()
        self.registry.serve()

    def _dispose(self, watch: Watch) -> None:
        """What gdb would have done at a stop by a watchpoint that it missed."""
        if not watch.bp.is_valid():
            return
        if watch.temporary:
            watch.bp.delete()
        elif watch.once:
            watch.bp.enabled = False

    def tidy(self) -> None:
        """Notice what changed with no event: hardware turned software, memory come or gone."""
        for watch in list(self.registry.here()):
            watch.has_run = True
            if watch.once and not (watch.bp.enabled or self._calling):
                self.registry.switched(watch)  # gdb has disabled it with no event
            if watch.access == "execute":
                continue
            software = watch.bp.type == gdb.BP_WATCHPOINT and watch.enabled
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
        """Where gdb will fail at resume for want of slots: what is needed and who holds them."""
        others = self.registry.pieces_in_use(without=watch)
        new = watch.pieces - others
        free = max(SLOTS - len(others), 0)
        if len(new) <= free or len(watch.pieces) > SLOTS:
            return ""  # one that can never fit is told when gdb makes it a software watchpoint
        what = "hardware breakpoint" if watch.access == "execute" else "watchpoint"
        return (
            f"{what} {watch.number} needs {len(watch.pieces)} of {SLOTS} hardware slots, {free} "
            f"free; gdb will fail when it resumes the program.\n{self.registry.holders(others)}"
        )
