"""Hits whose debug exception came without its mark in DR6: found, counted, and passed over.

Linux takes such an exception for the one that `int1` makes (``exc_debug_user``,
arch/x86/kernel/traps.c: `icebp = !dr6`), so neither perf nor ptrace hears of the hit, and the
thread gets a plain SIGTRAP with si_code TRAP_BRKPT.  Seen in a KVM guest (Linux 6.18) under load,
about once in 300,000 hits, with no debugger as well; it fits the stale DR6 that KVM before Linux
6.14 loads where it goes back to its guest by a short way ("KVM: x86: Load DR6 with guest value
only before entering .vcpu_run() loop").

gdb takes it for a signal of the program's.  Where the instruction before has touched what a trace
or ``kwatch who`` watches it is their hit, and hook-stop lets the program go on: gdb then makes no
stop of it (`normal_stop`, gdb/infrun.c, looks whether the hook has resumed the target).  Its line
about the signal is out by then, and one of kwatch's follows.  hook-stop is not run while it runs:
what comes next is waited for here, and gdb prints the frame of further ones.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import gdb

from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import ptrace

from . import gdbfacts
from .handlers import Handlers
from .lvalues import frame_or_none

if TYPE_CHECKING:
    from .session import Session

_TRAP_BRKPT = 1
_STEP_OR_HIT = 1 << 14 | 15  # BS, and B0 to B3
_INT1 = b"\xf1"

# Told a hit's LWP and PC, each answers whether it was its own, and has counted it then.
Claimant = Callable[[int, int], bool]

# gdb has forgotten where such a command was to end, so the program may not just go on.
_STEPPING = re.compile(
    r"(n|ne|nex|next|s|st|ste|step|ni|nexti|si|stepi|fin|finish|u|until|adv|advance|"
    r"p|print|call|return)\b"
)


class LostTraps:
    """One for a session.  Nothing is looked at while nobody watches by perf alone."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._claimants: dict[str, Claimant] = {}
        self._waiting = False
        self._prompted = False  # since the program was resumed: the command waits for no stop
        self._handlers = Handlers(cont=self._at_cont, before_prompt=self._at_prompt)

    def _at_cont(self, event: gdb.ContinueEvent) -> None:
        self._prompted = False

    def _at_prompt(self) -> None:
        self._prompted = True

    def __bool__(self) -> bool:
        return bool(self._claimants)

    def join(self, name: str, claimant: Claimant) -> None:
        """Until `leave`; ``name`` is what the user knows it by."""
        self._claimants[name] = claimant
        self._handlers.connect()
        self.session.stop_hook.install()

    def leave(self, name: str) -> None:
        self._claimants.pop(name, None)
        if not self._claimants:
            self._handlers.disconnect()

    def passed_over(self) -> bool:
        """hook-stop: whether this is such a hit, and the program has run again."""
        if self._waiting or not self._claimants:
            return False
        passed = False
        self._waiting = True
        try:
            while (name := self._claimed()) is not None:
                text = f"kwatch: a hit of {name} without its mark in DR6 (virtual machines lose it)"
                if _must_stay():
                    self.session.reporter.note(f"{text}, no signal of the program's; it is counted")
                    break
                self.session.reporter.note(f"{text}; it is counted, the program goes on")
                passed = True
                gdb.execute("queue-signal 0", to_string=True)
                if self._in_background():
                    gdb.execute("continue &", to_string=True)
                    break
                gdb.execute("continue")
        finally:
            self._waiting = False
        return passed

    def _claimed(self) -> str | None:
        """Whose hit the selected thread stands at, by name; it is counted."""
        thread = gdbfacts.selected_thread()
        if thread is None or not thread.is_stopped():
            return None
        lwp = thread.ptid[1]
        if not _without_mark(lwp):
            return None
        pc = ptrace.program_counter(lwp)
        return next((name for name, claims in self._claimants.items() if claims(lwp, pc)), None)

    def _in_background(self) -> bool:
        return self._prompted or bool(gdb.parameter("mi-async"))


def touches(pc: int, region: Region) -> bool:
    """Whether the instruction before ``pc`` has touched a region, as far as it can be told."""
    from .access import find_access, touched  # on first use: it takes time to load

    (answer,) = touched(pc, [region], [region])
    if answer is not None:
        return answer
    found = find_access(pc, [region])
    return found.address is not None and not (found.text or "").startswith("sys")


def _without_mark(lwp: int) -> bool:
    try:
        number, code = ptrace.signal_info(lwp)
        if (number, code) != (signal.SIGTRAP, _TRAP_BRKPT) or ptrace.status(lwp) & _STEP_OR_HIT:
            return False
        before = gdb.selected_inferior().read_memory(ptrace.program_counter(lwp) - 1, 1)
    except (OSError, gdb.error):
        return False
    return bytes(before) != _INT1


def _must_stay() -> bool:
    """Whether gdb was about to end at a place of its own: a step, or a call of a function.

    Steps inside a line are no matter: gdb itself goes on with those (``handle_signal_stop``:
    `currently_stepping`).  What was typed last is all that tells of the others.
    """
    frame = frame_or_none()
    while frame is not None:
        if frame.type() == gdb.DUMMY_FRAME:
            return True
        try:
            frame = frame.older()
        except gdb.error:
            break
    history = gdbfacts.answer("show commands").rstrip().split("\n")[-1]
    return _STEPPING.match(history.strip().partition("  ")[2].strip()) is not None
