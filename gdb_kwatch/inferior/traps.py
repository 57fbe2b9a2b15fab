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

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, HIT_MASK
from gdb_kwatch.core.records import (
    BACKWARDS,
    BY_VALUE,
    TOUCHES,
    UNTRAPPED,
    History,
    Hit,
    Quiet,
    Region,
    Touch,
    Trap,
    in_full,
)
from gdb_kwatch.linux import ptrace

from . import by_value, faults, gdbfacts
from .caller import user_frame
from .left_out import left_out
from .lvalues import in_frame
from .sentinels import Sentinel, tick
from .watch import Watch, overlap
from .watches import Registry


@dataclass
class Stop:
    """What the engine knows of the stop that is being made: the trap, if there was one, and what
    is to be done once gdb has decided."""

    quiet: Quiet | None = None
    trap: Trap | None = None
    speaker: Sentinel | None = None  # the sentinel that asked for the stop
    askers: list[Watch] = field(default_factory=list)  # judged here, and want a stop
    beside: list[Watch] = field(default_factory=list)  # perf's, that the instruction hit as well
    stops: set[int] = field(default_factory=set)  # the numbers of all that stop
    pending: bool = False  # a sentinel is to ask for the stop

    @property
    def touched(self) -> list[Watch]:
        own = [touch.watch for touch in self.quiet[TOUCHES]] if self.quiet else []
        return own + self.beside

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


class Engine:
    """Handles traps and stops.  One for a session."""

    def __init__(
        self,
        registry: Registry,
        prepare: Callable[[], None],
        changed: Callable[[Watch], None],
    ) -> None:
        """``prepare`` is called before a sentinel asks for a stop: hook-stop must be there to
        speak for it.  ``changed`` hears of watchpoints that were enabled or disabled."""
        self.registry = registry
        self.prepare = prepare
        self.changed = changed
        self.history = History()
        self.mi = gdbfacts.interpreter_is_mi()
        # The trap in hand: whose it is, what was touched, and the stop it may come to.
        self._lwp = 0
        self._quiet: Quiet | None = None
        self._stop: Stop | None = None
        # The tick when a sentinel was asked about it; 0 before.
        self._asked = 0
        # DR6 as the CPU left it and the PC, of traps that were marked as handled.
        self.status: dict[int, tuple[int, int]] = {}
        self._untold: list[Hit] = []
        # The sentinels that gdb has checked for the trap in hand, and maybe some from before; and
        # whether one asked for a stop because of a fault.
        self.checked: list[Sentinel] = []
        self._judging: Watch | None = None  # its condition is tested here
        self._ignored = 0  # the number of the one that gdb counted just now, and passes over
        self.blind = False
        self.backwards = False  # a replay goes back
        self._stood: set[int] = set()  # the watchpoints at which the program stands
        self._reported: set[int] = set()  # those that gdb itself has judged, and stops at
        self.resumes = 0  # how often gdb has resumed a program
        self._late: list[Watch] = []  # gdb is still to move them
        self._late_since = 0
        # Whether a counter has hits of a watchpoint that are still to be told.
        self.untold_elsewhere: Callable[[Watch], bool] = lambda watch: False
        # What a counter has seen at the instruction of a stopped thread, and the numbers of those
        # that stop.
        self.beside: Callable[[gdb.InferiorThread], tuple[list[Watch], set[int]]] = lambda thread: (
            [],
            set(),
        )

    def forget(self) -> None:
        """Nothing is in hand any more; the history stays."""
        self._lwp, self._quiet, self._stop = 0, None, None
        self.status.clear()
        self.checked.clear()
        self._untold.clear()
        self._stood.clear()
        self._reported.clear()
        self.blind = False

    def stand_back(self) -> None:
        """gdb's own answer stands; what is there now is taken as it is."""
        self.forget()
        inferior = gdb.selected_inferior()
        for watch in self.registry.here():
            if watch.armed and watch.lvalue is not None:
                watch.last = watch.lvalue.read(inferior)

    # At a trap.

    def decide(self, sentinel: Sentinel) -> bool:
        """A sentinel's answer: True to stop.  Called inside gdb's own checking."""
        try:
            thread = gdb.selected_thread()
            lwp = thread.ptid[1]
            if self._take(thread, lwp, sentinel):
                self.checked = [sentinel]
            else:
                self.checked.append(sentinel)
                if lwp != self._lwp or self._asked:
                    return False
            self._asked = tick()
            stop = self._stop
            if stop is None or not stop.pending:
                return False
            stop.pending = False
            stop.speaker = sentinel
            stop.beside, stopping = self.beside(thread)
            stop.stops |= stopping
            self._lend_commands(stop, sentinel)
            self.prepare()
        except Exception as error:
            # Rather one stop too many than a hit unseen.
            faults.report("a sentinel", error)
            self.checked.append(sentinel)
            self.blind = True
        return True

    def _take(
        self, thread: gdb.InferiorThread, lwp: int, by: Sentinel | Watch, asked: bool = True
    ) -> bool:
        """Handle the thread's trap, if there is one that was not handled yet.

        A trap is marked as handled by clearing DR6, where anybody may ask for it again: several
        sentinels that stand at the blamed address, or (not ``asked``) one after gdb's own word.
        """
        try:
            pc, key = ptrace.trap(lwp)
        except ProcessLookupError:
            # Gone, killed just now: gdb will see.
            return not by_value.is_native(lwp) and self._take_by_value(thread, lwp, by)
        if not key:
            return False  # 10.1 calls `stop` also at fork, exec and system-call events
        if by_value.recording():
            return False
        if self._late:
            self._arrive()
        inferior = gdb.selected_inferior()
        number = inferior.num
        plan = self.registry.plans.get((number, key)) or self.registry.plan(lwp, (number, key))
        if plan.crowded or not asked:
            self.status[lwp] = ptrace.status(lwp), pc
            ptrace.clear_status(lwp)
        if plan.moving:
            self.follow(plan.moving, plan.touches)
        touches = plan.touches
        if not touches:
            return False
        olds, news = plan.read(inferior, lwp)
        if plan.merged:
            touches, olds, news = _told_apart(pc, touches, olds, news)
            if not touches:
                return False  # bytes of a merged slot that nobody watches
        if plan.filtered:
            touches, olds, news = self._not_left_out(pc, touches, olds, news)
            if not touches:
                return False
        history = self.history
        history.count += 1
        quiet = (history.count, number, thread.num, lwp, pc, key[0], touches, olds, news)
        history.add(quiet)
        self._lwp, self._asked, self._stop, self._quiet = lwp, 0, None, quiet
        passed_over = self._passed_over(quiet) if asked and olds != news else []
        if passed_over or not plan.simple:
            self._stop = Stop(quiet)
            self._judge_all(self._stop, quiet, thread, by, passed_over)
        self._ignored = 0
        return True

    def in_hand(self, lwp: int, pc: int, since: int) -> Quiet | None:
        """The trap of an LWP at ``pc`` that was taken down last, where that was after ``since``."""
        quiet, when = self._quiet, self.history.newest_time()
        return quiet if quiet and self._lwp == lwp and quiet[4] == pc and when > since else None

    def _take_by_value(self, thread: gdb.InferiorThread, lwp: int, by: Sentinel | Watch) -> bool:
        """The same where DR6 cannot be read: the values of all are compared.

        Nothing marks the trap as handled; it is the one in hand where nobody was asked about it
        yet, or others who were stand at the blamed place too.
        """
        places = [by.piece] if isinstance(by, Sentinel) else by.regions
        if by_value.recording() or not places or places[0] is None:
            return False
        pc = gdb.newest_frame().pc()
        here = places[0]
        quiet = self._quiet
        if quiet is not None and self._lwp == lwp and quiet[4] == pc:
            others = [s.piece for s in self.checked if s.piece is not None]
            again = isinstance(by, Watch) or by in self.checked
            if not self._asked or not (again or not overlap(others, *here[:2])):
                return False
        watches = [watch for watch in self.registry.here() if self.registry.follows(watch)]
        touches, olds, news = by_value.touched(watches, here[0])
        self.follow(self.registry.moving(), touches)
        touches, olds, news = self._not_left_out(pc, touches, olds, news)
        if not touches:
            return False
        self.history.count += 1
        number = gdb.selected_inferior().num
        dr6 = BACKWARDS if self.backwards else 0
        quiet = (self.history.count, number, thread.num, lwp, pc, dr6, touches, olds, news)
        self.history.add(quiet)
        self._lwp, self._asked, self._quiet, self._stop = lwp, 0, quiet, Stop(quiet)
        passed_over = self._passed_over(quiet) if isinstance(by, Sentinel) else []
        self._judge_all(self._stop, quiet, thread, by, passed_over)
        return True

    def _not_left_out(
        self, pc: int, touches: Sequence[Touch], olds: Sequence[Any], news: Sequence[Any]
    ) -> tuple[Sequence[Touch], Sequence[Any], Sequence[Any]]:
        """Without those that -from and -not-from leave out; their values move on."""
        kept = []
        for row in zip(touches, olds, news):
            touch, old, new = row
            if not left_out(touch.watch, pc):
                kept.append(row)
                continue
            touch.watch.hits -= 1
            if not touch.blamed and old != new:
                self._mend(touch.watch)
        if not kept:
            return (), (), ()
        columns = tuple(zip(*kept))
        return columns[0], columns[1], columns[2]

    def _passed_over(self, quiet: Quiet) -> list[Watch]:
        """Those that gdb has looked at and took for unchanged, where nobody but a sentinel is asked
        about a trap: what gdb finds changed it counts at once (`modified`).  Threads run on while
        gdb decides, so it may have read this value already for the trap before."""
        found = [
            touch.watch
            for touch, old, new in zip(*quiet[TOUCHES:])
            if touch.blamed
            and old != new
            and touch.access == "write"
            and touch.number != self._ignored
            and _gdb_asks_nobody(touch.watch)
        ]
        return found if found and len(gdb.selected_inferior().threads()) > 1 else []

    def _judge_all(
        self,
        stop: Stop,
        quiet: Quiet,
        thread: gdb.InferiorThread,
        by: Sentinel | Watch,
        passed_over: Sequence[Watch],
    ) -> None:
        """What gdb does not judge itself: the missed ones, unchanged ones with -every, and those
        that it has passed over.  ``by``: who is asked, a watchpoint where gdb has judged that."""
        for touch, old, new in zip(*quiet[TOUCHES:]):
            watch: Watch = touch.watch
            if watch is by:
                continue
            changed = old != new
            unseen = watch.every and not changed or watch in passed_over
            if (not touch.blamed or unseen) and self._judge(watch, changed, thread):
                stop.askers.append(watch)
                stop.stops.add(watch.number)
                stop.pending = True
            if not touch.blamed and changed:
                self._mend(watch)

    def _judge(self, watch: Watch, changed: bool, thread: gdb.InferiorThread) -> bool:
        """gdb's own rules, for a watchpoint that gdb did not look at."""
        bp = watch.bp
        if not (bp.enabled or watch.carried):
            return False
        if watch.access == "write" and not changed and not watch.every:
            return False
        if watch.access == "read" and changed:
            return False  # gdb takes a changed value for a write (`bpstat_check_watchpoint`)
        number = getattr(thread, "global_num", thread.num)
        if bp.thread is not None and bp.thread != number:
            return False
        if getattr(bp, "inferior", None) not in (None, gdb.selected_inferior().num):  # gdb 15
            return False
        own_stop = getattr(bp, "stop", None)
        if own_stop is not None and not own_stop():
            return False  # another script's, with its own rule
        if bp.condition and not self._holds(watch):
            return False
        if bp.ignore_count > 0:
            # Setting .ignore_count prints; the command's words can be caught.
            with self.registry.own_change():
                gdb.execute(f"ignore {bp.number} {bp.ignore_count - 1}", to_string=True)
            watch.head.ignore_count = bp.ignore_count
            return False
        return True

    def _holds(self, watch: Watch) -> bool:
        """The condition, evaluated where gdb would: in the innermost frame of the function whose
        locals it uses.  An error stops, as in gdb, with gdb's words."""
        frame = None
        if watch.condition_function is not None:
            frame = _innermost(watch.condition_function)
        self._judging = watch
        try:
            with gdbfacts.speaking(watch.language), in_frame(frame):
                return bool(gdb.parse_and_eval(str(watch.bp.condition)))
        except gdb.error as error:
            gdb.write(
                f"Error in testing condition for breakpoint {watch.number}:\n{error}\n",
                gdb.STDERR,
            )
            return True
        finally:
            self._judging = None

    judge = _judge

    def _mend(self, watch: Watch) -> None:
        """Make gdb read the value anew, which it holds from before a hit it missed.

        Enabling what is enabled re-reads (`enable_breakpoint_disp`).  Never for a blamed one:
        its own change would be lost before gdb looks.  gdb parses the expression anew, in the
        selected frame: in libc's read() `buf` is a parameter of its own.
        """
        if watch.bp.enabled and watch.access != "execute" and not watch.carried:
            alive = watch.frame is not None and watch.frame.is_valid()
            frame = watch.frame if alive else user_frame()
            with self.registry.own_change(), gdbfacts.speaking(watch.language) as spoken:
                if not spoken:
                    self.registry.later.add(watch)
                    return
                # In a stop that nobody sees gdb may have no slot yet: it tries again at resume.
                with in_frame(frame), suppress(gdb.error):
                    watch.bp.enabled = True

    def mend(self, watch: Watch) -> None:
        """`_mend`, for a change that was no trap.  Not the watchpoint at which the program stands:
        it keeps its locations, and gdb would miss them ("location number not found", gdb 13)."""
        if watch.number not in self._stood:
            self._mend(watch)

    def follow(self, watches: Sequence[Watch], touches: Sequence[Touch] | None = None) -> None:
        """Watch where the pointers on the way lead now, whatever the values are.

        gdb works its locations out anew at each resume (``insert_breakpoints``), with no event; a
        sentinel that stayed at the old place would keep the slot that gdb wants.  In a stop that
        nobody sees gdb inserts at once what is enabled: so the old places are let go first, by the
        sentinels and by gdb.  What it looks at for the trap of ``touches`` it moves itself; and
        the watchpoint at which the program stands is not to be moved (see `mend`).
        """
        if touches is None:
            self._arrive()
        inferior = gdb.selected_inferior()
        moved = [w for w in watches if w.way is not None and w.way.is_another(inferior)]
        if not moved:
            return
        before = [watch.regions for watch in moved]
        for watch in moved:
            self.registry.move(watch)
        moved = [w for w, was in zip(moved, before) if w.regions != was or w.chooses]
        touched = {touch.number for touch in touches or ()}
        by_gdb = self._stood if touches is None else {t.number for t in touches if t.blamed}
        stale: list[Watch] = []
        recording = by_value.recording()  # then the hits, and where it stood, were gdb's to tell
        for watch in moved:
            if watch.chooses:
                self._wait_for_gdb(watch)  # only its locations tell
                continue
            if watch.number in by_gdb or watch.lvalue is None:
                continue
            told = watch.number in touched or watch.lvalue.read(inferior) == watch.last
            if told and self.registry.follows(watch) and not recording:
                stale.append(watch)
            else:
                self._wait_for_gdb(watch)  # a change with no trap, or of a trap to come

        def let_go() -> None:
            for watch in stale:
                self._mend(watch)

        if moved:
            self.registry.aim(let_go)

    def _wait_for_gdb(self, watch: Watch) -> None:
        """Let no sentinel stand for it until gdb has resumed, and so moved it."""
        watch.late = True
        self._late.append(watch)
        self._late_since = self.resumes

    def _arrive(self) -> None:
        """gdb has resumed since: what waited for that stands where gdb does."""
        if not self._late or self._late_since == self.resumes:
            return
        late, self._late = self._late, []
        for watch in late:
            watch.late = False
            if watch.bp.is_valid() and watch.enabled and watch.chooses:
                self.registry.move(watch, moved=False)
        self.registry.aim()

    def _lend_commands(self, stop: Stop, sentinel: Sentinel) -> None:
        """Let gdb run the commands of the watchpoints that it missed, once, as the sentinel's."""
        stopping = [w for w in stop.beside if w.number in stop.stops]
        texts = [w.bp.commands for w in (*stop.askers, *stopping) if w.bp.commands]
        if not texts and not stop.silent:
            return
        lines: list[str] = ["silent"] if stop.silent else []
        for text in texts:
            body = text.rstrip("\n").split("\n")
            lines += body[1:] if body[0].strip() == "silent" else body
        sentinel.commands = "\n".join(lines)

    # What gdb decides.

    @faults.guarded()
    def modified(self, bp: gdb.Breakpoint) -> None:
        """breakpoint_modified: a hit that stops, or a change by the user."""
        watch = self.registry.watches.get(bp.number)
        if watch is None or self.registry.changing or not watch.in_registers:
            return
        hits, ignored = bp.hit_count, bp.ignore_count
        counted, spent = hits > watch.gdb_hits, ignored < watch.ignore_count
        watch.gdb_hits, watch.ignore_count = hits, ignored
        self._ignored = watch.number if spent else 0
        if counted and not spent:
            self._gdb_stops(watch)
        elif not counted and self.registry.switched(watch):
            self.changed(watch)

    def _gdb_stops(self, watch: Watch) -> None:
        """gdb has judged ``watch`` and stops at it."""
        thread = gdbfacts.selected_thread()
        if thread is None or watch.access == "execute":
            return
        self._reported.add(watch.number)
        touched = self._gdb_looks(watch, thread)
        quiet, stop = self._quiet, self._stop
        if touched and quiet is not None:
            stop = self._stop = stop or Stop(quiet)
            stop.stops.add(watch.number)
        if watch.options is None or self.mi:
            return
        # Where a sentinel has asked, or comes after it in gdb's order and will, that one speaks;
        # else gdb prints its own report.
        speaks = touched and stop is not None and (not self._asked or stop.speaker is not None)
        if not self._asked and stop is not None:
            stop.pending = stop.pending or speaks
        if watch.bp.silent != speaks:
            with self.registry.own_change():
                watch.bp.silent = speaks

    def _gdb_looks(self, watch: Watch, thread: gdb.InferiorThread) -> bool:
        """Have the trap in hand at which gdb looks at ``watch``; False where it is none of its."""
        lwp = thread.ptid[1]
        # No sentinel was evaluated since one was asked: it was about this same trap.
        in_hand = self._lwp == lwp and self._asked and tick() == self._asked + 1
        if in_hand:
            self._asked += 1
        elif not self._take(thread, lwp, watch, asked=False) and (self._lwp != lwp or self._asked):
            self._lwp, self._quiet, self._stop = 0, None, None  # no trap, as at a scope's end
        quiet = self._quiet
        return quiet is not None and any(touch.number == watch.number for touch in quiet[TOUCHES])

    def tested(self, watch: Watch) -> Watch:
        """Whose condition it is that gdb or kwatch tests now: ``watch``, or it in another program.
        Its values before this hit and now are `before` and `last`."""
        if self._judging is not None and self._judging.head is watch:
            return self._judging
        thread = gdbfacts.selected_thread()
        if not watch.in_registers or (thread is not None and self._gdb_looks(watch, thread)):
            return watch
        if watch.lvalue is not None:  # software, or while gdb records
            watch.before, watch.last = watch.last, watch.lvalue.read(gdb.selected_inferior())
        return watch

    # At a stop, after the decision.

    def finish(self) -> Stop:
        """The stop that gdb has decided on; the engine starts afresh."""
        stop, lwp = self._stop, self._lwp
        self._lwp, self._quiet, self._stop = 0, None, None
        reported, self._reported = self._reported, set()
        self._stood = stop.stops | reported if stop is not None else reported
        thread = gdbfacts.selected_thread()
        if stop is None or not stop.stops or stop.quiet is None:
            return Stop()
        if thread is None or thread.ptid[1] != lwp:
            return Stop()
        trap = stop.trap = in_full(stop.quiet)
        trap.stopped = True
        for hit in trap.hits:
            hit.stop = hit.number in stop.stops
        self.history.replace(trap)
        return stop

    def catch_up(self, handled: int = 0, region: tuple[int, int] | None = None) -> None:
        """Take down what changed with no trap: a system call, another mapping, another process,
        the debugger.  gdb's old value is mended.  It is told at the next stop.

        ``handled``: the LWP whose trap was just judged.  ``region``: look only at what lies in
        (address, length).
        """
        inferior = gdb.selected_inferior()
        self.follow(self.registry.moving())
        for watch in list(self.registry.here()):
            if not watch.armed or watch.lvalue is None or not self.registry.follows(watch):
                continue
            if watch.judged_in_kernel:
                continue
            if region is not None and not overlap(watch.regions, *region):
                continue
            new, old = watch.lvalue.read(inferior), watch.last
            if old is None:
                watch.last = new
            if new == old or old is None or new is None:
                continue
            if watch.pid not in (inferior.pid, -1):
                # Another process, and no event told of it (``restart`` of a checkpoint).
                watch.pid, watch.last = inferior.pid, new
                self._mend(watch)
                continue
            if self._trap_to_come(watch, inferior, handled):
                continue
            watch.before, watch.last = old, new
            watch.hits += 1
            # gdb itself has dropped the old value at a write of the user's.  And the watchpoint at
            # which the program stands keeps its locations: gdb would miss them ("location number
            # not found", gdb 13).
            if region is None and watch.number not in self._stood:
                self._mend(watch)
            self._untold.append(
                Hit(
                    watch.number,
                    watch.expression,
                    (),
                    *watch.regions[-1][:2],
                    watch.access,
                    changed=True,
                    stop=False,
                    seen_by=BY_VALUE,
                    raw=(watch.lvalue, old, new),
                )
            )

    def take_untold(self) -> list[Hit]:
        """What `catch_up` has found, for a trap that explains it."""
        found, self._untold = self._untold, []
        return found

    def untrapped(self, before: Trap | None = None) -> Trap | None:
        """What `catch_up` has found and nobody was told yet; it happened before the trap of the
        stop that is being made."""
        found, self._untold = self._untold, []
        thread = gdbfacts.selected_thread()
        if not found or thread is None:
            return None
        number = self.history.next_number()
        place = (gdb.selected_inferior().num, thread.num, thread.ptid[1], 0, 0)
        trap = Trap(number, *place, hits=found, origin=UNTRAPPED)
        self.history.add_before(trap, before)
        return trap

    def _trap_to_come(self, watch: Watch, inferior: gdb.Inferior, handled: int) -> bool:
        """Whether some thread stands at a trap of ``watch`` that gdb has yet to look at."""
        if self.untold_elsewhere(watch):
            return True
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


def _gdb_asks_nobody(watch: Watch) -> bool:
    """Whether gdb counts each change, or writes its message: there is no condition of the user's,
    and no rule of a script's."""
    conditioned = watch.user_condition if watch.log else watch.bp.condition
    return not conditioned and getattr(watch.bp, "stop", None) is None


def _told_apart(
    pc: int, touches: Sequence[Touch], olds: Sequence[Any], news: Sequence[Any]
) -> tuple[Sequence[Touch], Sequence[Any], Sequence[Any]]:
    """Without those that only share their slot with what was touched.

    A changed value tells, and where it is unchanged the operand of the instruction.  With several
    threads the operand tells first: the change of another place is that of a trap to come.
    """
    threaded = len(gdb.selected_inferior().threads()) > 1
    rows = list(zip(touches, olds, news))
    doubtful = [row for row in rows if row[0].watch.merged and (threaded or row[1] == row[2])]
    if not doubtful:
        return touches, olds, news
    from .access import touched  # on first use: it takes time to load

    slots = {piece for row in doubtful for piece in row[0].watch.pieces}
    answers = touched(
        pc, [row[0].watch.regions[0] for row in doubtful], [Region(*piece) for piece in slots]
    )
    not_hit = set()
    for (touch, old, new), answer in zip(doubtful, answers):
        if answer is False or (answer is None and old == new):
            not_hit.add(touch.number)
            touch.watch.hits -= 1
            touch.watch.last = old
    kept = [row for row in rows if row[0].number not in not_hit]
    if not kept:
        return (), (), ()
    columns = tuple(zip(*kept))
    return columns[0], columns[1], columns[2]


def _innermost(function: gdb.Symbol) -> gdb.Frame | None:
    """The innermost frame of ``function`` on the selected thread's stack."""
    walk: gdb.Frame | None = gdb.newest_frame()
    while walk is not None and walk.function() != function:
        walk = walk.older()
    return walk
