"""Runs of a program for somebody outside, who may end them at any moment: `gdb-kwatch who -p`.

The program is stopped by SIGSTOP.  SIGINT, by which gdb itself interrupts, comes never where the
program blocks it, ends a program that waits for it (sigwait), and ends any other where it is left
over at the detach; SIGSTOP cannot be blocked, and is taken back here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import gdb

from gdb_kwatch.linux import ptrace, signals

from . import gdbfacts
from .accesses import Run
from .background import Background

# The signals that stop a process: as long as gdb is there they do not (ptrace(2), "Group-stop").
STOPPING = ("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
_LOOK = 0.02
_AGAIN = 0.5  # seconds, after which a signal that nobody takes is looked for
_DYING = 5.0  # seconds: what is killed has none of its threads stopped, and is not yet gone
_ROUNDS = 10  # one is enough, but for a program that makes traps which look like gdb's
_INT3 = b"\xcc"
_SI_KERNEL, _TRAP_PERF = 0x80, 6  # asm-generic/siginfo.h


def _selected_in_turn(threads: Iterable[gdb.InferiorThread]) -> Iterator[gdb.InferiorThread]:
    selected = gdbfacts.selected_thread()
    for thread in threads:
        thread.switch()
        yield thread
    if selected is not None:
        selected.switch()


def _step_over_int3() -> None:
    """A thread whose `int3` gdb has not yet told of stands at that again, as at a breakpoint of
    gdb's (save_stop_reason, gdb/linux-nat.c): let go there it would execute it twice."""
    pc = gdb.newest_frame().pc()
    if gdb.selected_inferior().read_memory(pc, 1)[0] == _INT3:
        gdb.execute(f"set $pc = {pc + 1}", to_string=True)


class Line:
    """The pipe from whoever asked: when it is closed, or its other end has died, all is to end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self.run: AttendedRun | None = None
        self._thread = Background(self._look, 0)

    def _look(self) -> None:
        """By a thread of its own."""
        ready, _, _ = select.select([] if self.closed else [self.fd], [], [], _LOOK)
        if ready and not os.read(self.fd, 1):
            self.closed = True
        run = self.run
        if run is not None and run.is_over():
            run.interrupt()

    def close(self) -> None:
        self._thread.stop()


class AttendedRun(Run):
    """A run for some seconds (0: no limit), until `done`, or until the line is closed."""

    def __init__(
        self,
        line: Line,
        seconds: float,
        begins: Callable[[], object],
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(seconds)
        self.line = line
        self.begins = begins
        self.done = done
        self.stopped_by = ""  # the signal of the last stop
        self.exited = ""  # how the program ended
        self._pid = 0
        self._ends = 0.0
        self._lock = threading.Lock()
        self._going = False
        self._sent = 0.0  # when, by time.monotonic

    def go(self) -> None:
        self._pid = gdb.selected_inferior().pid
        gdb.events.stop.connect(self._at_stop)
        gdb.events.exited.connect(self._at_exited)
        try:
            start = time.monotonic()
            self._ends = start + self.seconds if self.seconds else 0
            self._going = True
            self.line.run = self
            self.begins()
            try:
                gdb.execute("continue", to_string=True)
                while self.stopped_by == "SIGTRAP" and self._is_programs_own():
                    self.stopped_by = ""
                    gdb.execute("signal SIGTRAP", to_string=True)
            except gdb.error:
                # "Couldn't get registers: No such process.": killed in the middle of a stop.
                if not self._was_killed():
                    raise
            else:
                # Or gdb has stopped for that: what was to be asked of the program failed.
                self._was_killed()
            finally:
                with self._lock:
                    self._going = False
                self.line.run = None
                self.elapsed = time.monotonic() - start
        finally:
            gdb.events.stop.disconnect(self._at_stop)
            gdb.events.exited.disconnect(self._at_exited)

    def _was_killed(self) -> bool:
        """Whether the program was killed and gdb has yet to be told; it is told then."""
        if self.exited:
            return True
        try:
            for thread in gdb.selected_inferior().threads():
                ptrace.status(thread.ptid[1])
            if not ptrace.is_dead(self._pid):
                return False  # all its threads are stopped
        except OSError:
            pass
        end = time.monotonic() + _DYING
        while not ptrace.is_dead(self._pid):
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK)
        with contextlib.suppress(gdb.error):
            gdb.execute("continue", to_string=True)
        told = self.exited or "SIGKILL"
        if gdb.selected_inferior().pid:
            # Else gdb would detach from what is gone ("Recursive internal problem", 13.1).
            with contextlib.suppress(gdb.error):
                gdb.execute("kill", to_string=True)
        self.exited = told
        return True

    def is_over(self) -> bool:
        return (
            self.line.closed or bool(self._ends) and time.monotonic() >= self._ends or self.done()
        )

    def interrupt(self) -> None:
        """From any thread, as often as it likes: a SIGCONT that comes before any thread could take
        our signal has dropped it, so it is sent again; and it would drop a SIGCONT that waits
        (``prepare_signal``, kernel/signal.c)."""
        now = time.monotonic()
        with self._lock:
            if not self._going or (self._sent and now < self._sent + _AGAIN):
                return
            if signals.is_coming(self._pid, signal.SIGCONT):
                return
            if not self._sent or not signals.is_pending(self._pid, signal.SIGSTOP):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGSTOP)
            self._sent = now

    def _at_stop(self, event: gdb.StopEvent) -> None:
        # gdb tells of a SIGTRAP as of a step's end (emit_stop_event, gdb/python/py-stopevent.c).
        plain = not isinstance(event, (gdb.SignalEvent, gdb.BreakpointEvent))
        self.stopped_by = "SIGTRAP" if plain else getattr(event, "stop_signal", "")

    def _at_exited(self, event: gdb.ExitedEvent) -> None:
        code = getattr(event, "exit_code", None)
        if code is not None:
            self.exited = f"with exit code {code}"
            return
        try:
            self.exited = signal.Signals(int(gdb.parse_and_eval("$_exitsignal"))).name
        except (gdb.error, ValueError):
            self.exited = "by a signal"

    @property
    def stopped_by_others(self) -> str:
        """The signal of somebody else that would have stopped the program, or ""."""
        return self.stopped_by if self.stopped_by in STOPPING and not self._is_ours() else ""

    def take_back(self) -> None:
        """See that the program has nothing of our signal.  Call it when nothing is watched any
        more: where the program was stopped by something else before the signal came, it must run
        for that.  A SIGSTOP of somebody else stays: gdb passes it on when it detaches."""
        gdb.events.stop.connect(self._at_stop)
        gdb.events.exited.connect(self._at_exited)
        try:
            self._go_on_to_our_signal()
            # gdb passes on all SIGTRAPs or none when it detaches; when it goes on it drops those of
            # watchpoints that are no more.
            for _ in range(_ROUNDS):
                twice = signals.is_pending(self._pid, signal.SIGSTOP)
                mixed = len({own for _, own in self._trapped()}) > 1
                if not (twice or mixed) or not self._is_at_our_signal():
                    break
                gdb.execute("queue-signal 0", to_string=True)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGSTOP)
                self.stopped_by = ""
                self._go_on_to_our_signal()
        finally:
            gdb.events.stop.disconnect(self._at_stop)
            gdb.events.exited.disconnect(self._at_exited)
        if self._is_at_our_signal():
            gdb.execute("queue-signal 0", to_string=True)
        if not self.exited:
            self._keep_traps()

    def _go_on_to_our_signal(self) -> None:
        while self._sent and not self.exited and self.stopped_by != "SIGSTOP":
            own = self.stopped_by == "SIGTRAP" and self._is_programs_own()
            gdb.execute("signal SIGTRAP" if own else "continue", to_string=True)

    def _is_at_our_signal(self) -> bool:
        return not self.exited and self.stopped_by == "SIGSTOP" and self._is_ours()

    def _keep_traps(self) -> None:
        """gdb drops SIGTRAP when it detaches; where threads have only the program's own to tell
        of, it is to pass them on."""
        trapped = self._trapped()
        if trapped and all(own for _, own in trapped):
            for _ in _selected_in_turn(thread for thread, _ in trapped):
                with contextlib.suppress(gdb.error):
                    _step_over_int3()
            gdb.execute("handle SIGTRAP stop print pass", to_string=True)

    def _trapped(self) -> list[tuple[gdb.InferiorThread, bool]]:
        """The threads that a SIGTRAP has stopped, and whether it is the program's own."""
        found = []
        for thread in _selected_in_turn(gdb.selected_inferior().threads()):
            with contextlib.suppress(gdb.error):
                if int(gdb.parse_and_eval("$_siginfo.si_signo")) == signal.SIGTRAP:
                    found.append((thread, self._is_programs_own()))
        return found

    def _is_programs_own(self) -> bool:
        """Whether a SIGTRAP is one that the program has sent itself, or `int3`: gdb never passes
        that signal on, for most of them are its own."""
        try:
            code = int(gdb.parse_and_eval("$_siginfo.si_code"))
        except gdb.error:
            return False
        return code <= 0 or code in (_SI_KERNEL, _TRAP_PERF)

    def _is_ours(self) -> bool:
        """Whether the SIGSTOP that stopped the program was sent by this gdb (the number is 0 where
        the program's PID namespace does not have gdb)."""
        if not self._sent:
            return False
        try:
            sender = int(gdb.parse_and_eval("$_siginfo._sifields._kill.si_pid"))
        except gdb.error:
            return True
        return sender in (os.getpid(), 0)
