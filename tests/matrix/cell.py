"""The first process of a root: started in namespaces of its own, it runs one command by chroot.

    unshare --mount --pid --fork --kill-child python3 cell.py REPORT ROOT DIRECTORY COMMAND...

The mounts and every process end with it, so nothing can stay mounted or go on running. REPORT is
the number of a file descriptor that gets {"code": ..., "left": [...]}: the command's exit code and
the command lines of processes that it left behind. It runs before anything else is there, on the
Python that runs the scripts: standard library only, nothing of the house.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

# A gdb that was told to quit may need a moment to let go of its program.
GRACE_SECONDS = 5


def main(report: int, root: str, directory: str, command: list[str]) -> None:
    os.set_inheritable(report, False)
    for options, place in (
        (["-t", "proc", "proc"], "proc"),
        (["--rbind", "/dev"], "dev"),
        (["--rbind", "/sys"], "sys"),
    ):
        subprocess.run(["mount", *options, os.path.join(root, place)], check=True)
    child = os.fork()
    if child == 0:
        enter(root, directory, command)
    answer = {"code": exit_code_of(child), "left": left_behind(Path(root, "proc"))}
    os.write(report, json.dumps(answer).encode())


def enter(root: str, directory: str, command: list[str]) -> None:
    """Become `command`; never returns."""
    try:
        os.chroot(root)
        os.chdir(directory)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def exit_code_of(child: int) -> int:
    """Wait for `child`, and reap whatever orphans end before it; a signal counts as 128 + it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def left_behind(proc: Path) -> list[str]:
    """The processes still there when the grace is over; every orphan is this process's child."""

    def over(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, over)
    signal.alarm(GRACE_SECONDS)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return []
    except TimeoutError:
        pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
        return [command_line(proc, pid) for pid in pids if pid != os.getpid()]
    finally:
        signal.alarm(0)


def command_line(proc: Path, pid: int) -> str:
    try:
        words = Path(proc, str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}, just ended"
    return b" ".join(words).decode(errors="replace").strip() or f"process {pid}"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
