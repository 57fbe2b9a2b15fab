"""What the system lets this process do, read where the kernel says it: for ``kwatch doctor``."""

from __future__ import annotations

import os
from typing import NamedTuple

CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_PERFMON = 38

_SCOPES = {
    0: "any process of the same user",
    1: "only descendants",
    2: "only with CAP_SYS_PTRACE",
    3: "nobody",
}


class Fact(NamedTuple):
    """One line of the doctor's: what was found, whether it is fine, and the remedy if not.

    ``needed`` says whether kwatch's main job hangs on it.
    """

    name: str
    text: str
    good: bool = True
    remedy: str = ""
    needed: bool = True


def _number(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def capable(capability: int) -> bool:
    """Whether this process has ``capability`` in effect (CapEff of /proc/self/status)."""
    try:
        with open("/proc/self/status") as lines:
            for line in lines:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> capability & 1)
    except OSError:
        pass
    return False


def ptrace_fact() -> Fact:
    """Yama's rule for tracing (Documentation/admin-guide/LSM/Yama.rst).

    From 2 on it is for PTRACE_TRACEME too, so that ``run`` fails as well; 3 is for root too, and
    lasts until the next boot.
    """
    scope = _number("/proc/sys/kernel/yama/ptrace_scope")
    if scope is None or scope == 0 or (scope < 3 and capable(CAP_SYS_PTRACE)):
        return Fact("attaching", "allowed")
    text = f"kernel.yama.ptrace_scope is {scope} ({_SCOPES.get(scope, 'unknown')})"
    remedy = "sysctl kernel.yama.ptrace_scope=0, or run gdb as root"
    if scope == 1:
        remedy = f"to attach to running programs: {remedy}; 'run' works as it is"
    elif scope >= 3:
        remedy = "set kernel.yama.ptrace_scope to 0 in /etc/sysctl.d and reboot"
    return Fact("attaching", text, False, remedy, needed=scope >= 2)


def perf_fact() -> Fact:
    """perf_event_open(2): what it takes to see hits inside system calls."""
    level = _number("/proc/sys/kernel/perf_event_paranoid")
    if level is None:
        return Fact("perf events", "not in this kernel", False, "CONFIG_PERF_EVENTS", needed=False)
    if level <= 1 or capable(CAP_PERFMON) or capable(CAP_SYS_ADMIN):
        return Fact("perf events", f"allowed (kernel.perf_event_paranoid is {level})")
    return Fact(
        "perf events",
        f"refused (kernel.perf_event_paranoid is {level}, no CAP_PERFMON)",
        False,
        "not needed for watchpoints; sysctl kernel.perf_event_paranoid=1, or run gdb as root",
        needed=False,
    )


def kernel_release() -> str:
    return os.uname().release
