"""``set kwatch …`` and ``show kwatch …``."""

from __future__ import annotations

import gdb

from gdb_kwatch.core.arbiter import POLICIES
from gdb_kwatch.inferior import faults
from gdb_kwatch.inferior.kernel_hits import AUTO, OFF, ON
from gdb_kwatch.inferior.session import Session


class SetPrefix(gdb.Command):
    """Settings of kwatch."""

    def __init__(self) -> None:
        super().__init__("set kwatch", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_NONE, True)


class ShowPrefix(gdb.Command):
    """Show the settings of kwatch."""

    def __init__(self) -> None:
        super().__init__("show kwatch", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument:
            raise gdb.GdbError(
                f'Undefined show kwatch command: "{argument}".  Try "help show kwatch".'
            )
        for name in (
            "adopt",
            "history",
            "kernel",
            "kernel-conditions",
            "merge",
            "policy",
            "trace-limit",
        ):
            gdb.write(f"{name}:  ")
            gdb.execute(f"show kwatch {name}")


class Setting(gdb.Parameter):
    """What those share that change something at once."""

    def __init_subclass__(cls) -> None:
        cls.get_set_string = faults.as_errors()(cls.get_set_string)


class Adopt(Setting):
    """Whether kwatch also looks after watchpoints made by gdb's own commands and by scripts.

    When on, a hit of theirs that gdb misses stops the program and is reported, and their
    old values are kept right.  When off, only kwatches are looked after."""

    set_doc = "Set whether kwatch looks after gdb's own watchpoints too."
    show_doc = "Show whether kwatch looks after gdb's own watchpoints too."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch adopt", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_BOOLEAN)
        self.value = True
        self.session = session

    def get_set_string(self) -> str:
        self.session.adopt(bool(self.value))
        return ""

    def get_show_string(self, value: str) -> str:
        return f"Looking after gdb's own watchpoints too is {value}."


class HistoryLimit(gdb.Parameter):
    """How many traps `kwatch hits' remembers, the oldest forgotten first."""

    set_doc = "Set how many traps kwatch remembers."
    show_doc = "Show how many traps kwatch remembers."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch history", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ZUINTEGER)
        self.value = session.engine.history.limit
        self.session = session

    def get_set_string(self) -> str:
        self.session.engine.history.resize(int(self.value))
        return ""

    def get_show_string(self, value: str) -> str:
        return f"kwatch remembers {value} traps."


class TraceLimit(gdb.Parameter):
    """How many records a `kwatch trace' keeps in memory, the oldest forgotten first.

    A record takes about 60 bytes.  With -spill FILE there is no limit."""

    set_doc = "Set how many records a trace keeps."
    show_doc = "Show how many records a trace keeps."

    def __init__(self) -> None:
        super().__init__("kwatch trace-limit", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ZUINTEGER)
        self.value = 2_000_000

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"A kwatch trace keeps {value} records."


class KernelConditions(Setting):
    """Whether conditions of kwatches are tested in the kernel: auto or off.

    With auto, the default, a condition that can be compiled runs in the kernel where rights,
    kernel and slots allow, and the program stops only where it holds.  'kwatch list' says for
    each who tests it, and why.  With off, gdb tests them all, at each trap."""

    set_doc = "Set whether conditions of kwatches are tested in the kernel."
    show_doc = "Show whether conditions of kwatches are tested in the kernel."

    def __init__(self, session: Session) -> None:
        super().__init__(
            "kwatch kernel-conditions", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ENUM, (AUTO, OFF)
        )
        self.value = AUTO
        self.session = session

    def get_set_string(self) -> str:
        self.session.kernel.judge_in(self.value)
        return ""

    def get_show_string(self, value: str) -> str:
        return f"Testing conditions of kwatches in the kernel is {value}."


class Merge(Setting):
    """Whether small kwatches that lie in one aligned block of 8 bytes may share a slot.

    Only where there are too few slots, and only kwatches for changes of value, as their hits are
    told apart by value, and where it stayed, by the instruction's operand.  Reads, -every and
    locals are never merged."""

    set_doc = "Set whether small kwatches may share a wider slot where there are too few."
    show_doc = "Show whether small kwatches may share a wider slot where there are too few."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch merge", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_BOOLEAN)
        self.value = True
        self.session = session

    def get_set_string(self) -> str:
        self.session.registry.slots.arbiter.merge = bool(self.value)
        self.session.settled()
        return ""

    def get_show_string(self, value: str) -> str:
        return f"Merging small kwatches where there are too few slots is {value}."


class Policy(Setting):
    """How kwatches for all inferiors (kwatch -g) are admitted beside those of single ones.

    exact:      where each inferior has room beside what it holds at that priority or higher.
    high-water: as if each slot were still held at the highest priority seen there, until every
                inferior has given that slot up.
    simple:     any single inferior's use of a slot takes it, unless the kwatch is break-native."""

    set_doc = "Set how kwatches for all inferiors are admitted."
    show_doc = "Show how kwatches for all inferiors are admitted."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch policy", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ENUM, POLICIES)
        self.value = POLICIES[0]
        self.session = session

    def get_set_string(self) -> str:
        self.session.registry.slots.arbiter.policy = self.value
        self.session.settled()
        return ""

    def get_show_string(self, value: str) -> str:
        return f"The admission policy for kwatches in all inferiors is {value}."


class Kernel(Setting):
    """Whether watchpoints also see what the kernel does to their memory, in system calls.

    off:  only those set by "kwatch -k" do.
    on:   each kwatch does, as with -k, and gdb's own watchpoints do, each by a second
          slot.  Where that cannot be had, you are told why.
    auto: the same where rights and slots allow, and the debug registers alone elsewhere.

    A hit is told by SIGURG, which programs ignore by default; where yours handles it, by
    SIGWINCH.  As any signal it may end a system call early.  A thread that blocks it is sent
    SIGSTOP in its place, by a BPF program at the hit itself; the program sees neither.
    Where BPF is not allowed, it is stopped when it unblocks the signal; its hits are
    counted.  While SIGSTOP is used so, gdb shows one from elsewhere as an interrupt, and
    does not pass it on.  "perf x8" in a report: the kernel copied 8 bytes one by one.
    gdb passes over a breakpoint at the very instruction of such a stop, and locals of a
    function that has returned are noticed at the next one.

    Nothing tells of writes by another process (process_vm_writev, a vfork child that is not
    followed) or by a kernel thread (io_uring, at times), nor, from Linux 6.1 on, of the word
    that the end of a thread clears: these are found by value, at the next stop.
    gdb 10: a followed child is not watched, and commands of gdb's own watchpoints do not
    run at kernel hits."""

    set_doc = "Set whether watchpoints see the kernel's accesses too."
    show_doc = "Show whether watchpoints see the kernel's accesses too."

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch kernel", gdb.COMMAND_BREAKPOINTS, gdb.PARAM_ENUM, [OFF, ON, AUTO])
        self.value = session.kernel.mode
        self.session = session

    def get_set_string(self) -> str:
        try:
            self.session.kernel.set_mode(str(self.value))
        except gdb.GdbError:
            self.value = self.session.kernel.mode
            raise
        return ""

    def get_show_string(self, value: str) -> str:
        value = self.value = self.session.kernel.mode
        return f"Seeing the kernel's accesses is {value}."


def define(session: Session) -> None:
    """Register the parameters."""
    SetPrefix()
    ShowPrefix()
    Adopt(session)
    HistoryLimit(session)
    KernelConditions(session)
    TraceLimit()
    Merge(session)
    Policy(session)
    Kernel(session)
