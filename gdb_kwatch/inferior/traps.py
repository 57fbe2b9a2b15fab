"""One trap, every watchpoint: the engine.

A sentinel's `stop`, or gdb's word that a kwatch stops, brings the trap here, whichever comes
first; it is handled once (DR6 is cleared then).  The hits are found from the debug registers of
the LWP.  Those that gdb blames, gdb judges itself; those it does not even look at are judged here
by its rules.  What comes out is one decision for the trap.

gdb's order of things for one stop (``bpstat_stop_status``, gdb/breakpoint.c, 10 to 18): each
breakpoint in turn is checked; where it stops, its hit count is raised and breakpoint_modified is
sent, *then* its `silent` flag is read.  So a kwatch is silenced just there, and only where the
engine has the trap in hand and a sentinel will speak for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, HIT_MASK, Registers, blamed_slot
from gdb_kwatch.core.records import BY_VALUE, UNTRAPPED, History, Hit, Region, Trap
from gdb_kwatch.linux import ptrace

from . import faults, gdbfacts
from .lvalues import UNREADABLE, Snapshot, in_frame
from .sentinels import Sentinel
from .watches import Registry, Watch


@dataclass
class Stop:
    """What the engine knows of the stop that is being made: the trap, if there was one, and what
    is to be done once gdb has decided."""

    trap: Trap | None = None
    speaker: Sentinel | None = None  # the sentinel that asked for the stop
    askers: list[Watch] = field(default_factory=list)  # judged here, and want a stop
    touched: list[Watch] = field(default_factory=list)
    pending_ask: bool = False
    stopping: list[Watch] = field(default_factory=list)  # all that stop, whoever judged them
    silent: bool = False  # each of them has ``silent`` as its first command

    def regions(self) -> list[Region]:
        """The bytes that were hit."""
        return [region for watch in self.touched for region in watch.regions]


class Engine:
    """Handles traps and stops.  One for a session."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.history = History()
        self.current = Stop()
        # DR6 as the CPU left it and the PC, of each LWP's last trap.
        self.status: dict[int, tuple[int, int]] = {}
        self.mi = gdbfacts.interpreter_is_mi()

    # At a trap.

    @faults.guarded(default=True)
    def decide(self, sentinel: Sentinel) -> bool:
        """A sentinel's answer: True to stop.  Called inside gdb's own checking."""
        thread = gdb.selected_thread()
        if not self._take(thread) and not self.current.pending_ask:
            return False
        if not self.current.pending_ask:
            return False
        self.current.pending_ask = False
        self.current.speaker = sentinel
        self._lend_commands(sentinel)
        return True

    def _take(self, thread: gdb.InferiorThread) -> bool:
        """Handle the thread's trap, if there is one that was not handled before."""
        lwp = thread.ptid[1]
        if not ptrace.status(lwp) & HIT_MASK:
            return False  # handled, or no trap: 10.1 calls `stop` at fork, exec and system calls
        registers = ptrace.debug_registers(lwp)
        ptrace.clear_status(lwp)
        pc = ptrace.program_counter(lwp)
        self.status[lwp] = registers.dr6, pc
        hits = registers.hits()
        if not hits:
            return False
        self.current = Stop()
        self._handle(thread, registers, pc)
        return True

    def _handle(self, thread: gdb.InferiorThread, registers: Registers, pc: int) -> None:
        hits = registers.hits()
        owners = self.registry.owners()
        touched: dict[int, tuple[Watch, list[int]]] = {}
        for slot, piece in hits.items():
            for watch in owners.get(piece, ()):
                touched.setdefault(watch.number, (watch, []))[1].append(slot)
        if not touched:
            return
        blamed = blamed_slot(hits)
        blamed_address = None if blamed is None else registers.addresses[blamed]
        inferior = gdb.selected_inferior()
        trap = Trap(
            self.history.next_number(),
            inferior.num,
            thread.num,
            thread.ptid[1],
            pc,
            registers.dr6 & HIT_MASK,
            [],
        )
        stop = self.current
        stop.trap = trap
        stop.touched = [watch for watch, _ in touched.values()]
        moved = False
        for number, (watch, slots) in sorted(touched.items()):
            watch.hits += 1
            old = watch.last
            changed = False
            if watch.access != "execute":
                if watch.lvalue is not None:
                    watch.last = watch.lvalue.read(inferior)
                changed = watch.last.key != old.key
                moved = moved or (changed and not (watch.lvalue and watch.lvalue.fixed))
            is_blamed = (
                watch.is_at(blamed_address)
                if blamed_address is not None and watch.access != "execute"
                else watch.access == "execute"
            )
            hit = Hit(
                number,
                watch.expression,
                tuple(slots),
                watch.regions[-1].address,
                watch.regions[-1].length,
                watch.access,
                changed,
                False,
                blamed=is_blamed,
                raw=(old, watch.last),
            )
            trap.hits.append(hit)
            unseen = is_blamed and watch.every and not changed
            if not is_blamed:
                hit.missed = True
            if (not is_blamed or unseen) and self._judge(watch, changed, thread):
                hit.stop = True
                stop.askers.append(watch)
            if not is_blamed and changed:
                self._mend(watch)
        if moved:
            self._follow(touched)
        stop.pending_ask = bool(stop.askers)
        self.history.add(trap)

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
        """The condition, evaluated where gdb would: in the frame it was set in, while it lives.

        An error stops, as in gdb, with gdb's words.
        """
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

    def _follow(self, touched: dict[int, tuple[Watch, list[int]]]) -> None:
        """A pointer on the way to a watched place changed: watch where it points now, as gdb
        will when it resumes."""
        for watch, _ in touched.values():
            if watch.lvalue is not None and not watch.lvalue.fixed and not watch.is_location:
                last = watch.last
                self.registry.resolve(watch)
                if watch.last is UNREADABLE:
                    watch.last = last
        self.registry.aim()

    def _lend_commands(self, sentinel: Sentinel) -> None:
        """Let gdb run the commands of the watchpoints that it missed, once, as the sentinel's."""
        texts = [w.bp.commands for w in self.current.askers if w.bp.commands]
        if not texts:
            return
        silent = _silenced(self.stopping())
        lines: list[str] = ["silent"] if silent else []
        for text in texts:
            body = text.rstrip("\n").split("\n")
            lines += body[1:] if body[0].strip() == "silent" else body
        sentinel.commands = "\n".join(lines)

    def stopping(self) -> list[Watch]:
        """The watchpoints of the trap in hand that stop the program."""
        trap = self.current.trap
        stops = {hit.number for hit in trap.hits if hit.stop} if trap is not None else set()
        return [watch for watch in self.current.touched if watch.number in stops]

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
        taken = self._take(thread)
        trap = self.current.trap
        hit = None
        if trap is not None and trap.lwp == thread.ptid[1]:
            hit = next((h for h in trap.hits if h.number == watch.number), None)
        if hit is not None:
            hit.stop = True
        if watch.options is None or self.mi:
            return
        # A sentinel after it in gdb's order will speak; else gdb prints its own report.
        speaks = hit is not None and (taken or self.current.pending_ask)
        if speaks:
            self.current.pending_ask = True
        if watch.bp.silent != speaks:
            watch.bp.silent = speaks

    # At a stop, after the decision.

    def finish(self) -> Stop:
        """The stop that gdb has decided on; the engine starts afresh."""
        stop, trap = self.current, self.current.trap
        stop.stopping = self.stopping()
        self.current = Stop()
        thread = gdb.selected_thread()
        if trap is None or thread is None or thread.ptid[1] != trap.lwp:
            return Stop(speaker=stop.speaker)
        stop.silent = _silenced(stop.stopping)
        trap.stopped = bool(stop.stopping)
        return stop

    def untrapped(self) -> Trap | None:
        """Watched bytes that changed with no trap: a system call, another mapping, another
        process, the debugger.  Told once; gdb's old value is mended."""
        inferior = gdb.selected_inferior()
        found: list[Hit] = []
        for watch in list(self.registry.here()):
            if not watch.armed or watch.lvalue is None or not self.registry.follows(watch):
                continue
            new = watch.lvalue.read(inferior)
            old = watch.last
            if new.key == old.key or old is UNREADABLE or new is UNREADABLE:
                if old is UNREADABLE:
                    watch.last = new
                continue
            if self._trap_to_come(watch, inferior):
                continue
            watch.last = new
            watch.hits += 1
            self._mend(watch)
            found.append(self._untrapped_hit(watch, old))
        if not found:
            return None
        thread = gdb.selected_thread()
        lwp = thread.ptid[1]
        trap = Trap(
            self.history.next_number(), inferior.num, thread.num, lwp, 0, 0, found, UNTRAPPED
        )
        self.history.add(trap)
        return trap

    def _untrapped_hit(self, watch: Watch, old: Snapshot) -> Hit:
        region = watch.regions[-1]
        return Hit(
            watch.number,
            watch.expression,
            (),
            region.address,
            region.length,
            watch.access,
            True,
            False,
            seen_by=BY_VALUE,
            raw=(old, watch.last),
        )

    def _trap_to_come(self, watch: Watch, inferior: gdb.Inferior) -> bool:
        """Whether some thread stands at a trap of ``watch`` that gdb has yet to look at."""
        for thread in inferior.threads():
            try:
                if not ptrace.status(thread.ptid[1]) & HIT_MASK:
                    continue
                registers = ptrace.debug_registers(thread.ptid[1])
            except OSError:
                continue
            if any(p in watch.pieces for p in registers.hits().values() if p.rw != EXECUTE):
                return True
        return False


def _silenced(watches: list[Watch]) -> bool:
    return bool(watches) and all(
        (w.bp.commands or "").lstrip().startswith("silent") for w in watches if w.bp.is_valid()
    )


def _innermost(function: gdb.Symbol) -> gdb.Frame | None:
    """The innermost frame of ``function`` on the selected thread's stack."""
    walk: gdb.Frame | None = gdb.newest_frame()
    while walk is not None and walk.function() != function:
        walk = walk.older()
    return walk
