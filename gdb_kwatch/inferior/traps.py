"""One trap, every watchpoint: the engine.

A sentinel's `stop`, or gdb's word that a kwatch stops, brings the trap here, whichever comes
first; it is handled once.  The hits are found from the debug registers of the LWP.  Those that
gdb blames, gdb judges itself; those it does not even look at are judged here by its rules.  What
comes out is one decision for the trap.

gdb's order of things for one stop (``bpstat_stop_status``, gdb/breakpoint.c, 10 to 18): each
breakpoint in turn is checked; where it stops, its hit count is raised and breakpoint_modified is
sent, *then* its `silent` flag is read.  So a kwatch is silenced just there, and only where the
engine has the trap in hand and a sentinel will speak for it.

The way of a trap that does not stop is kept short: each one costs the program a stop and gdb two
rounds of evaluation already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, HIT_MASK, SLOTS
from gdb_kwatch.core.records import (
    BY_VALUE,
    UNTRAPPED,
    History,
    Hit,
    Quiet,
    Region,
    Touch,
    Trap,
)
from gdb_kwatch.linux import ptrace

from . import faults, gdbfacts
from .lvalues import in_frame
from .sentinels import Sentinel
from .watches import Registry, Watch


@dataclass
class Stop:
    """What the engine knows of the stop that is being made: the trap, if there was one, and what
    is to be done once gdb has decided."""

    quiet: Quiet | None = None
    trap: Trap | None = None
    speaker: Sentinel | None = None  # the sentinel that asked for the stop
    askers: list[Watch] = field(default_factory=list)  # judged here, and want a stop
    stops: set[int] = field(default_factory=set)  # the numbers of all that stop
    pending: bool = False  # a sentinel is to ask for the stop

    @property
    def touched(self) -> list[Watch]:
        return [touch.watch for touch in self.quiet.touches] if self.quiet else []

    @property
    def stopping(self) -> list[Watch]:
        """All that stop the program, whoever judged them."""
        return [watch for watch in self.touched if watch.number in self.stops]

    @property
    def silent(self) -> bool:
        """Whether each of them has ``silent`` as its first command."""
        stopping = [watch for watch in self.stopping if watch.bp.is_valid()]
        return bool(stopping) and all(
            (watch.bp.commands or "").lstrip().startswith("silent") for watch in stopping
        )

    def regions(self) -> list[Region]:
        """The bytes that were hit."""
        return [region for watch in self.touched for region in watch.regions]


_NO_STOP = Stop()


class Engine:
    """Handles traps and stops.  One for a session."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.history = History()
        self.current = _NO_STOP
        self.handled = 0  # the LWP whose trap `current` is
        self._by: Sentinel | None = None  # the sentinel that brought it, and at which evaluation
        self._at = 0
        self.mi = gdbfacts.interpreter_is_mi()

    # At a trap.

    def decide(self, sentinel: Sentinel) -> bool:
        """A sentinel's answer: True to stop.  Called inside gdb's own checking."""
        try:
            thread = gdb.selected_thread()
            lwp = thread.ptid[1]
            if not self._is_handled(sentinel, lwp):
                if not self._take(thread, lwp):
                    return False
                self._by, self._at = sentinel, sentinel.evaluated
            if not self.current.pending:
                return False
            self.current.pending = False
            self.current.speaker = sentinel
            self._lend_commands(sentinel)
        except Exception as error:
            faults.report("a sentinel", error)
        return True  # after a fault as well: rather one stop too many than a hit unseen

    def _is_handled(self, sentinel: Sentinel, lwp: int) -> bool:
        """Whether this is the trap in hand: several sentinels may stand at one blamed address.

        Between two traps gdb evaluates each of them again (`update_watchpoint`); within one, each
        is evaluated once, just before its `stop`.
        """
        if lwp != self.handled:
            return False
        by = self._by
        if by is None:  # breakpoint_modified brought it
            self._by, self._at = sentinel, sentinel.evaluated
            return True
        return by is not sentinel and by.evaluated == self._at

    def _take(self, thread: gdb.InferiorThread, lwp: int) -> bool:
        """Handle the thread's trap, if there is one."""
        dr6 = ptrace.status(lwp) & HIT_MASK
        if not dr6:
            return False  # 10.1 calls `stop` also at fork, exec and system-call events
        inferior = gdb.selected_inferior()
        touches = self.registry.touches(
            lwp, (inferior.num, dr6, ptrace.control(lwp), *_hit_addresses(lwp, dr6))
        )
        if not touches:
            return False
        self.handled, self._by = lwp, None
        history = self.history
        history.count += 1
        olds, news, strange = [], [], False
        for touch in touches:
            watch, lvalue = touch.watch, touch.value
            watch.hits += 1
            old = watch.last
            olds.append(old)
            if lvalue is not None:
                watch.last = lvalue.read(inferior)
            news.append(watch.last)
            if not touch.blamed or watch.every or not lvalue.fixed:
                strange = True
        quiet = Quiet(
            history.count,
            inferior.num,
            thread.num,
            lwp,
            ptrace.program_counter(lwp),
            dr6,
            touches,
            olds,
            news,
        )
        history.add(quiet)
        self.current = Stop(quiet)
        if strange:
            self._judge_all(quiet, thread)
        return True

    def _judge_all(self, quiet: Quiet, thread: gdb.InferiorThread) -> None:
        """What gdb does not judge itself: the missed ones, and unchanged ones with -every."""
        stop = self.current
        moved = False
        for touch, old, new in zip(quiet.touches, quiet.olds, quiet.news):
            watch: Watch = touch.watch
            changed = old != new
            if changed and touch.value is not None and not touch.value.fixed:
                moved = True
            unseen = watch.every and not changed
            if (not touch.blamed or unseen) and self._judge(watch, changed, thread):
                stop.askers.append(watch)
                stop.stops.add(watch.number)
                stop.pending = True
            if not touch.blamed and changed:
                self._mend(watch)
        if moved:
            self._follow(quiet)

    def _judge(self, watch: Watch, changed: bool, thread: gdb.InferiorThread) -> bool:
        """gdb's own rules, for a watchpoint that gdb did not look at."""
        bp = watch.bp
        if not bp.enabled:
            return False
        if watch.access == "write" and not changed and not watch.every:
            return False
        if watch.access == "read" and changed:
            return False  # gdb takes a changed value for a write (`bpstat_check_watchpoint`)
        number = getattr(thread, "global_num", thread.num)
        if bp.thread is not None and bp.thread != number:
            return False
        own_stop = getattr(bp, "stop", None)
        if own_stop is not None and not own_stop():
            return False  # another script's, with its own rule
        if bp.condition and not self._holds(watch):
            return False
        if bp.ignore_count > 0:
            # Setting .ignore_count prints; the command's words can be caught.
            gdb.execute(f"ignore {bp.number} {bp.ignore_count - 1}", to_string=True)
            watch.ignore_count = bp.ignore_count
            return False
        return True

    def _holds(self, watch: Watch) -> bool:
        """The condition, evaluated where gdb would: in the innermost frame of the function whose
        locals it uses.  An error stops, as in gdb, with gdb's words."""
        frame = None
        if watch.condition_function is not None:
            frame = _innermost(watch.condition_function)
        try:
            with in_frame(frame):
                return bool(gdb.parse_and_eval(str(watch.bp.condition)))
        except gdb.error as error:
            gdb.write(
                f"Error in testing condition for breakpoint {watch.number}:\n{error}\n",
                gdb.STDERR,
            )
            return True

    def _mend(self, watch: Watch) -> None:
        """Make gdb read the value anew, which it holds from before a hit it missed.

        Enabling what is enabled re-reads (`enable_breakpoint_disp`).  Never for a blamed one:
        its own change would be lost before gdb looks.
        """
        if watch.bp.enabled and watch.access != "execute":
            watch.bp.enabled = True

    def _follow(self, quiet: Quiet) -> None:
        """A pointer on the way to a watched place changed: watch where it points now, as gdb
        will when it resumes."""
        for touch in quiet.touches:
            watch: Watch = touch.watch
            if touch.value is not None and not touch.value.fixed and not watch.is_location:
                last = watch.last
                self.registry.resolve(watch)
                if watch.last is None:
                    watch.last = last
        self.registry.aim()

    def _lend_commands(self, sentinel: Sentinel) -> None:
        """Let gdb run the commands of the watchpoints that it missed, once, as the sentinel's."""
        texts = [w.bp.commands for w in self.current.askers if w.bp.commands]
        if not texts:
            return
        lines: list[str] = ["silent"] if self.current.silent else []
        for text in texts:
            body = text.rstrip("\n").split("\n")
            lines += body[1:] if body[0].strip() == "silent" else body
        sentinel.commands = "\n".join(lines)

    # What gdb decides.

    @faults.guarded()
    def modified(self, bp: gdb.Breakpoint) -> None:
        """breakpoint_modified: a hit that stops, or a change by the user."""
        watch = self.registry.watches.get(bp.number)
        if watch is None or isinstance(bp, Sentinel):
            return
        hits, ignored = bp.hit_count, bp.ignore_count
        counted, spent = hits > watch.gdb_hits, ignored < watch.ignore_count
        watch.gdb_hits, watch.ignore_count = hits, ignored
        if counted and not spent:
            self._gdb_stops(watch)
        elif not counted:
            self.registry.switched(watch)

    def _gdb_stops(self, watch: Watch) -> None:
        """gdb has judged ``watch`` and stops at it."""
        thread = gdb.selected_thread()
        if thread is None or watch.access == "execute" or not watch.armed:
            return
        lwp = thread.ptid[1]
        by = self._by
        if self.handled != lwp or (by is not None and by.evaluated != self._at):
            by = None
            if not self._take(thread, lwp):
                self.current, self.handled = Stop(), 0
        touched = any(touch.number == watch.number for touch in self.touches())
        if touched:
            self.current.stops.add(watch.number)
        if watch.options is None or self.mi:
            return
        # Where a sentinel has asked, or comes after it in gdb's order and will, that one speaks;
        # else gdb prints its own report.
        speaks = touched and (by is None or self.current.speaker is not None)
        if by is None:
            self.current.pending = self.current.pending or speaks
        if watch.bp.silent != speaks:
            watch.bp.silent = speaks

    def touches(self) -> Sequence[Touch]:
        """Of the trap in hand."""
        return self.current.quiet.touches if self.current.quiet is not None else ()

    # At a stop, after the decision.

    def finish(self) -> Stop:
        """The stop that gdb has decided on; the engine starts afresh."""
        stop, self.current = self.current, _NO_STOP
        handled, self.handled, self._by = self.handled, 0, None
        thread = gdb.selected_thread()
        if stop.quiet is None or not stop.stops or thread is None or thread.ptid[1] != handled:
            return Stop(speaker=stop.speaker)
        trap = stop.trap = stop.quiet.trap()
        trap.stopped = True
        for hit in trap.hits:
            hit.stop = hit.number in stop.stops
        self.history.replace_last(trap)
        return stop

    def untrapped(self, stop: Stop) -> Trap | None:
        """Watched bytes that changed with no trap: a system call, another mapping, another
        process, the debugger.  Told once; gdb's old value is mended."""
        inferior = gdb.selected_inferior()
        found: list[Hit] = []
        handled = stop.trap.lwp if stop.trap is not None else 0
        for watch in list(self.registry.here()):
            if not watch.armed or watch.lvalue is None or not self.registry.follows(watch):
                continue
            new, old = watch.lvalue.read(inferior), watch.last
            if old is None:
                watch.last = new
            if new == old or old is None or new is None:
                continue
            if self._trap_to_come(watch, inferior, handled):
                continue
            watch.last = new
            watch.hits += 1
            self._mend(watch)
            region = watch.regions[-1]
            found.append(
                Hit(
                    watch.number,
                    watch.expression,
                    (),
                    *region[:2],
                    watch.access,
                    changed=True,
                    stop=False,
                    seen_by=BY_VALUE,
                    raw=(watch.lvalue, old, new),
                )
            )
        if not found:
            return None
        thread = gdb.selected_thread()
        number = self.history.next_number()
        place = (inferior.num, thread.num, thread.ptid[1], 0, 0)
        trap = Trap(number, *place, hits=found, origin=UNTRAPPED)
        self.history.add(trap)
        return trap

    def _trap_to_come(self, watch: Watch, inferior: gdb.Inferior, handled: int) -> bool:
        """Whether some thread stands at a trap of ``watch`` that gdb has yet to look at."""
        for thread in inferior.threads():
            lwp = thread.ptid[1]
            try:
                if lwp == handled or not ptrace.status(lwp) & HIT_MASK:
                    continue
                registers = ptrace.debug_registers(lwp)
            except OSError:
                continue
            if any(p in watch.pieces for p in registers.hits().values() if p.rw != EXECUTE):
                return True
        return False


def _hit_addresses(lwp: int, dr6: int) -> list[int]:
    """What stands in the slots whose bit is set in DR6."""
    return [ptrace.address(lwp, slot) for slot in range(SLOTS) if dr6 >> slot & 1]


def _innermost(function: gdb.Symbol) -> gdb.Frame | None:
    """The innermost frame of ``function`` on the selected thread's stack."""
    walk: gdb.Frame | None = gdb.newest_frame()
    while walk is not None and walk.function() != function:
        walk = walk.older()
    return walk
