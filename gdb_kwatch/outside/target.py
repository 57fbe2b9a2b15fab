"""A running process that somebody wants to look into: whether that can work, and why not."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gdb_kwatch.outside import say

_PF_KTHREAD = 0x00200000  # linux/sched.h


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; {} where there is none."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in fields}


def check(pid: int) -> None:
    """Raises Stop where it is of no use to attach."""
    fields = status(pid)
    if not fields:
        raise say.Stop(f"there is no process {pid}")
    if fields["Tgid"] != str(pid):
        raise say.Stop(f"{pid} is a thread of process {fields['Tgid']}: -p {fields['Tgid']}")
    state = fields["State"][:1]
    if state in "ZX":
        raise say.Stop(
            f"process {pid} has ended; only its exit status is still there, for its parent "
            f"{fields['PPid']} (a zombie)"
        )
    if pid == os.getpid():
        raise say.Stop(f"process {pid} is this command itself")
    if _is_kernels(pid):
        raise say.Stop(f"{pid} is a thread of the kernel's own")
    if fields["TracerPid"] != "0":
        raise say.Stop(
            f"process {pid} is traced already, by {named(int(fields['TracerPid']))}: there is room "
            "for one. End that first",
            say.USER_MUST_ACT,
        )
    if state == "T":
        raise say.Stop(
            f"process {pid} is stopped (by SIGSTOP or Ctrl-Z): nothing runs in it that could touch "
            f"anything, and it stays so. `kill -CONT {pid}` lets it go on",
            say.USER_MUST_ACT,
        )


def named(pid: int) -> str:
    name = status(pid).get("Name")
    return f"process {pid} ({name})" if name else "a process that cannot be seen from here"


def why_not(pid: int) -> str:
    """What is in the way where gdb could not attach; "" where nothing is known."""
    try:
        check(pid)
    except say.Stop as stop:
        return str(stop)
    owner = int(status(pid).get("Uid", "0").split()[0])
    if os.geteuid() not in (0, owner):
        return (
            f"process {pid} is of the user {_user(owner)}: only that user and root may look into it"
        )
    try:
        Path(f"/proc/{pid}/mem").open("rb").close()  # the kernel asks the same for ptrace
    except PermissionError:
        scope = _number("/proc/sys/kernel/yama/ptrace_scope")
        if scope:
            return (
                "this system lets no process look into another (kernel.yama.ptrace_scope is "
                f"{scope}): do it as root"
                + (", or `sysctl kernel.yama.ptrace_scope=0`" if scope < 3 else "")
            )
        return (
            f"process {pid} has rights that this one does not have, or does not let itself be "
            "looked into: do it as root"
        )
    except OSError:
        pass
    return ""


def describe(pid: int) -> str:
    """What has become of it, in a few words."""
    fields = status(pid)
    if not fields or fields["State"][:1] in "ZX":
        return f"process {pid} has ended"
    if fields["TracerPid"] != "0":
        return f"process {pid} is still held by {named(int(fields['TracerPid']))}"
    if fields["State"][:1] == "T":
        return f"process {pid} is stopped: `kill -CONT {pid}` lets it go on"
    return f"process {pid} runs on"


def _is_kernels(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return bool(int(stat[6]) & _PF_KTHREAD)  # proc(5): flags is field 9; 3 is the first here


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return 0
