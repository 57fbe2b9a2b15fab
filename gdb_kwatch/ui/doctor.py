"""``kwatch doctor``: is everything there that kwatch needs, and if not, what to do."""

from __future__ import annotations

import importlib.util
import sys

import gdb

from gdb_kwatch.core.debugreg import SLOTS
from gdb_kwatch.inferior import faults, gdbfacts, programs
from gdb_kwatch.inferior.gdbfacts import can_read_registers
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.linux import canary, kernel_canary, perf_event, rights
from gdb_kwatch.linux.rights import Fact


def facts(session: Session) -> list[Fact]:
    """Everything that was looked at, the good and the bad."""
    found = [
        Fact("gdb", gdb.VERSION, gdbfacts.VERSION >= (10, 0), "gdb 10 or later"),
        Fact("Python in gdb", ".".join(str(n) for n in sys.version_info[:3])),
        Fact("kernel", rights.kernel_release()),
        *_architecture(),
        _target(),
        _canary(),
        _hardware(),
        _free(session),
        *_off(session),
        rights.ptrace_fact(),
        rights.perf_fact(),
        _kernel_hits(session),
        _kernel_speed(),
        *(_library(name) for name in ("tabulate", "pygments")),
    ]
    if faults.last() is not None:
        remedy = "kwatch doctor -traceback shows it; please report it"
        found.append(Fact("faults", "there was an internal fault in this session", False, remedy))
    return found


def _kernel_speed() -> Fact:
    """Conditions, ``kwatch who`` and ``kwatch trace`` by BPF."""
    from gdb_kwatch.linux import filters

    reason = filters.why_not()
    if not reason:
        return Fact("BPF", "conditions, who and trace run in the kernel")
    remedy = f"{reason}; gdb does it, slowly"
    return Fact("BPF", "conditions, who and trace by stops", False, remedy, needed=False)


def _architecture() -> list[Fact]:
    """That of the program; with none, gdb would name one that it takes by default (i386)."""
    if not gdb.selected_inferior().pid and programs.filename() is None:
        return []
    name = gdbfacts.architecture()
    good = name.startswith("i386")
    return [Fact("architecture", name, good, "kwatch knows the debug registers of x86 only")]


def _target() -> Fact:
    thread = gdbfacts.selected_thread()
    if thread is None:
        return Fact("target", "no program is running")
    name = gdbfacts.target_name() or "native"
    if thread.is_running():
        return Fact("target", f"{name}, running; its registers are read when it stops")
    if can_read_registers(thread.ptid[1]):
        return Fact("target", f"{name}; the debug registers of LWP {thread.ptid[1]} can be read")
    if "remote" in name:
        text = f"{name}; no debug registers here: values are compared at each trap"
        remedy = "gdb on that machine sees each hit; here one that changes no value may go by"
        return Fact("target", text, False, remedy, needed=False)
    return Fact(
        "target",
        f"{name}; the debug registers cannot be read",
        False,
        gdbfacts.why_no_registers().replace("\n", " "),
    )


def _canary() -> Fact:
    try:
        bird = canary.run()
    except OSError as error:
        return Fact("canary", f"could not be flown: {error}", False, "allow ptrace (SYS_PTRACE)")
    return Fact(
        "canary",
        bird.text,
        bird.trapped,
        "debug registers do not work here: in a container allow SYS_PTRACE; under a hypervisor, "
        "let it pass debug registers to the guest",
    )


def _kernel_hits(session: Session) -> Fact:
    """Whether kwatch -k works: asked of the kernel, then tried."""
    name = "hits inside system calls"
    instead = "without, they are found by value at the next stop, as untrapped"
    error = perf_event.why_not()
    if error is not None:
        remedy = f"{error.remedy}; {instead}" if error.remedy else instead
        return Fact(name, f"kwatch -k is refused: {error.strerror}", False, remedy, needed=False)
    bird = kernel_canary.run()
    if not bird.trapped:
        text = f"kwatch -k does not work on Linux {rights.kernel_release()}: {bird.text}"
        return Fact(name, text, False, instead, needed=False)
    return Fact(name, f"kwatch -k works: {bird.text} (set kwatch kernel {session.kernel.mode})")


def _hardware() -> Fact:
    allowed = gdbfacts.hardware_allowed()
    text = "1" if allowed else "0: gdb would single-step"
    return Fact("can-use-hw-watchpoints", text, allowed, "set can-use-hw-watchpoints 1")


def _free(session: Session) -> Fact:
    used = len(session.registry.pieces_in_use())
    text = f"{max(SLOTS - used, 0)} of {SLOTS}"
    remedy = "delete or disable a watchpoint (kwatch list shows who holds them)"
    return Fact("slots free", text, used < SLOTS, remedy, needed=False)


def _off(session: Session) -> list[Fact]:
    if session.connected:
        return []
    return [Fact("kwatch", "off: gdb's watchpoints are gdb's alone", False, "kwatch on")]


def _library(name: str) -> Fact:
    there = importlib.util.find_spec(name) is not None
    remedy = "python3 -m gdb_kwatch install; without it, output is plain"
    return Fact(name, "found" if there else "not found", there, remedy, needed=False)


def text(found: list[Fact]) -> str:
    """One line a fact, with the remedy below where there is something to mend."""
    width = max(len(fact.name) for fact in found)
    lines = []
    for fact in found:
        mark = "ok  " if fact.good else ("BAD " if fact.needed else "note")
        lines.append(f"{mark}  {fact.name.ljust(width)}  {fact.text}")
        if not fact.good:
            lines.append(f"      {' ' * width}  -> {fact.remedy}")
    bad = sum(1 for fact in found if fact.needed and not fact.good)
    lines.append("Everything kwatch needs is here." if not bad else f"{bad} to mend.")
    return "\n".join(lines) + "\n"
