"""Minimal Debian roots: made by debootstrap, entered by chroot, with a copy of this checkout.

    python3 tests/matrix/roots.py make [SUITE ...]      make what is missing
    python3 tests/matrix/roots.py run SUITE COMMAND...  run a command in a new copy of the checkout
    python3 tests/matrix/roots.py remove [SUITE ...]    throw roots and their bases away

They are kept in $KWATCH_ROOTS, else in .kwatch/roots of the checkout: SUITE.base.tar, as pristine
as debootstrap leaves it, and SUITE, unpacked from it, with gdb and a compiler. Root only. A command
runs in namespaces of its own (see cell.py), which take its mounts and processes with them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cell
import host
from checkout import CHECKOUT, exit_code, packages, processes, say

# The gdb that each carries: 10.1, 13.1, 16.3, 18.1 (sid moves on).
SUITES = ("bullseye", "bookworm", "trixie", "sid")
PACKAGES = (
    *("gdb", "gcc", "g++", "libc6-dev"),
    *("python3", "python3-venv", "python3-pip", "ca-certificates"),
)
INSIDE = "/root/kwatch"
DEBOOTSTRAP = packages.Need("debootstrap", "debootstrap")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
}


@dataclass(frozen=True)
class Outcome:
    """How a command in a root ended: its exit code (None: out of time), what it left running."""

    code: int | None
    left: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        return self.code == 0 and not self.left

    def __str__(self) -> str:
        said = "out of time" if self.code is None else f"exit {self.code}"
        return ", ".join([said, *(f"left running: {line}" for line in self.left)])


def folder() -> Path:
    """Where the roots are."""
    return Path(os.environ.get("KWATCH_ROOTS") or CHECKOUT / ".kwatch" / "roots")


@contextlib.contextmanager
def held(suite: str) -> Iterator[None]:
    """Keep others from making or using this suite's roots at the same time."""
    if os.geteuid() != 0:
        raise say.Stop("roots need root: debootstrap and chroot do", say.USER_MUST_ACT)
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / f"{suite}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say.step(f"another run is at work in the {suite} root; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made(suite: str) -> Path:
    """The root of `suite` with PACKAGES in it, made if it is not there."""
    root = folder() / suite
    if not root.exists():
        with _scratch(f"{suite}.partial") as partial:
            _unpack(base(suite), partial)
            say.step(f"installing gdb and a compiler into {root}")
            _apt_get(partial, "update")
            _apt_get(partial, "install", "-y", "--no-install-recommends", *PACKAGES)
            _apt_get(partial, "clean")
            partial.rename(root)
    host.lend_network(root)
    return root


@contextlib.contextmanager
def pristine(suite: str) -> Iterator[Path]:
    """A root of `suite` with nothing in it but minbase and python3, removed afterwards."""
    with _scratch(f"{suite}.fresh") as root:
        _unpack(base(suite), root)
        yield root


def base(suite: str) -> Path:
    """The tar file of a new root of `suite`: debootstrap's minbase and python3."""
    tar = folder() / f"{suite}.base.tar"
    if not tar.exists():
        if not shutil.which("debootstrap"):
            packages.provide([DEBOOTSTRAP])
        mirror = host.mirror()
        with _scratch(f"{suite}.debootstrap") as root, _scratch(f"{suite}.tar") as partial:
            say.step(f"making a minimal {suite} by debootstrap")
            options = ["--variant=minbase", "--include=python3"]
            _must(["debootstrap", *options, suite, str(root), mirror], seconds=3600)
            _apt_get(root, "clean")
            # As a new machine has it: what needs a package must fetch the lists first.
            for index in (root / "var/lib/apt/lists").iterdir():
                _remove(index)
            _must(["tar", "--numeric-owner", "-C", str(root), "-cf", str(partial), "."])
            partial.rename(tar)
    return tar


def copy_checkout(root: Path) -> None:
    """Put the checkout into `root` as it would be committed now; its .kwatch there stays."""
    inside = root / INSIDE.lstrip("/")
    inside.mkdir(parents=True, exist_ok=True)
    for entry in inside.iterdir():
        if entry.name != ".kwatch":
            _remove(entry)
    listed = ["git", "-C", str(CHECKOUT), "ls-files", "-z"]
    listed += ["--cached", "--others", "--exclude-standard"]
    for name in _must(listed).split("\0"):
        source = CHECKOUT / name
        if name and os.path.lexists(source):  # a file deleted and not yet committed is listed
            target = inside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def run(
    root: Path,
    command: Sequence[str],
    *,
    seconds: float,
    directory: str = INSIDE,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    network: bool = True,
) -> Outcome:
    """Run `command` in `root` without a terminal; its output goes to `log`, else to the screen."""
    reading, writing = os.pipe()
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if not network:
        unshare.append("--net")
    first = [sys.executable, cell.__file__, str(writing), str(root), directory]
    with open(log or os.devnull, "w") as output:
        process = subprocess.Popen(
            [*unshare, *first, *command],
            stdin=subprocess.DEVNULL,
            stdout=output if log else None,
            stderr=subprocess.STDOUT if log else None,
            env={**ENVIRONMENT, **host.proxies(), **(env or {})},
            pass_fds=[writing],
        )
    os.close(writing)
    with process, open(reading, encoding="utf-8") as report:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return Outcome(None)
        finally:
            process.kill()  # with it, by --kill-child, goes all that the command started
            answer = report.read()  # ends when the last of them has
    if not answer:
        raise say.Stop(f"{root} could not be entered{f': see {log}' if log else ''}")
    said = json.loads(answer)
    return Outcome(said["code"], tuple(said["left"]))


def output(root: Path, command: Sequence[str]) -> str:
    """What a short `command` prints in `root`."""
    log = folder() / f"{root.name}.answer"
    try:
        run(root, command, seconds=120, directory="/", log=log)
        return log.read_text(encoding="utf-8", errors="replace")
    finally:
        log.unlink(missing_ok=True)


def log_file(suite: str, name: str) -> Path:
    """Where the output of a long run in a root of `suite` is kept."""
    logs = folder() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{suite}-{name}.log"


def remove(suite: str) -> None:
    """Throw away all that was made for `suite`."""
    for name in (suite, f"{suite}.base.tar"):
        _remove(folder() / name)


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[Path]:
    """A place among the roots, empty at first; what is still there in the end is removed."""
    path = folder() / name
    _remove(path)
    try:
        yield path
    finally:
        _remove(path)


def _unpack(tar: Path, root: Path) -> None:
    say.step(f"unpacking {tar.name}")
    root.mkdir()
    _must(["tar", "--numeric-owner", "-C", str(root), "-xpf", str(tar)])
    host.lend_network(root)


def _apt_get(root: Path, *arguments: str) -> None:
    log = log_file(root.name, "apt-get")
    command = ["apt-get", "-q", *arguments]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    outcome = run(root, command, seconds=1800, directory="/", log=log, env=env)
    if outcome.code != 0:
        raise say.Stop(f"apt-get {arguments[0]} in {root}: {outcome}; see {log}")


def _must(argv: list[str], *, seconds: float = 600) -> str:
    ended = processes.run(argv, seconds=seconds)
    if not ended.fine:
        raise say.Stop(f"{argv[0]} failed:\n{ended.last_lines()}")
    return ended.output


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Minimal Debian roots to run this checkout in.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (("make", "make what is missing"), ("remove", "throw away")):
        verbs.add_parser(verb, help=text).add_argument("suites", nargs="*", metavar="SUITE")
    one = verbs.add_parser("run", help="run a command in a fresh copy of the checkout")
    one.add_argument("suite", metavar="SUITE")
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        with held(arguments.suite):
            root = made(arguments.suite)
            copy_checkout(root)
            outcome = run(root, arguments.command or ["bash"], seconds=7200)
        if not outcome.fine:
            say.step(str(outcome))
        return 1 if outcome.code is None else outcome.code or bool(outcome.left)
    for suite in arguments.suites or SUITES:
        with held(suite):
            print(made(suite)) if arguments.verb == "make" else remove(suite)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
