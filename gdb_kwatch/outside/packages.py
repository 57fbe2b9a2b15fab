"""What the operating system must bring (gdb, a C compiler …), and how it is got.

As root on a system with apt-get it is installed; else the user gets the exact command to run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gdb_kwatch.outside import debugger, processes, say

SYSTEM_PYTHON = "/usr/bin/python3"


class Need(NamedTuple):
    """Something of the system's: its name for the user, and its Debian package."""

    what: str
    package: str


GDB = Need("gdb", "gdb")
COMPILER = Need("a C compiler", "gcc")
CXX_COMPILER = Need("a C++ compiler", "g++")
HEADERS = Need("the C library's headers", "libc6-dev")
VENV = Need("Python's venv and pip", "python3-venv")

# What some tests are about, and are skipped without: other targets, other languages, viewers.
GUESTS = {
    "gdbserver": Need("gdbserver", "gdbserver"),
    "valgrind": Need("valgrind", "valgrind"),
    "gfortran": Need("a Fortran compiler", "gfortran"),
    "gnatmake": Need("an Ada compiler", "gnat"),
    "rustc": Need("a Rust compiler", "rustc"),
    "go": Need("a Go compiler", "golang-go"),
    "musl-gcc": Need("the musl C library", "musl-tools"),
    "/usr/share/perl5/Devel/NYTProf/flamegraph.pl": Need("flamegraph.pl", "libdevel-nytprof-perl"),
}
MULTILIB = Need("32-bit libraries for the C compiler", "gcc-multilib")

# The same things elsewhere, for the command that is shown.
MANAGERS = {
    "apt-get": ("apt-get install -y", {}),
    "dnf": ("dnf install -y", {"libc6-dev": "glibc-devel", "g++": "gcc-c++"}),
    "zypper": ("zypper install -y", {"libc6-dev": "glibc-devel", "g++": "gcc-c++"}),
    "pacman": ("pacman -S --needed", {"libc6-dev": "glibc", "g++": "gcc"}),
    "apk": ("apk add", {"libc6-dev": "musl-dev"}),
}


def missing(*, compiler: bool = False, cxx: bool = False, venv: bool = False) -> list[Need]:
    """What is not here: gdb always, the others if they are asked for."""
    needs = [] if debugger.find() else [GDB]
    if compiler and not c_compiler():
        needs += [COMPILER, HEADERS]
    elif compiler and not _headers():
        needs.append(HEADERS)
    if cxx and not shutil.which("g++") and not shutil.which("c++"):
        needs.append(CXX_COMPILER)
    if venv and not venv_maker():
        needs.append(VENV)
    return needs


def provide(needs: Iterable[Need]) -> None:
    """Install `needs` with apt-get; where that may not be, say the command and stop."""
    needs = list(needs)
    if not needs:
        return
    whats, names = [need.what for need in needs], [need.package for need in needs]
    if not apt_allowed():
        raise say.Stop(
            f"{say.listing(whats)} {'are' if len(whats) > 1 else 'is'} missing here. "
            f"Install, then try again:\n  {command(names)}",
            say.USER_MUST_ACT,
        )
    ended = apt_install(names)
    if not ended.fine:
        raise say.Stop(
            f"apt-get could not install {' '.join(names)}:\n{ended.last_lines()}\n"
            f"Install, then try again:\n  {command(names)}",
            say.USER_MUST_ACT,
        )


def invite(tried: Path) -> None:
    """Install what GUESTS lacks, where that may be done: once, which the file ``tried`` keeps.
    No harm where it cannot be had."""
    wanted = [need.package for tool, need in GUESTS.items() if not shutil.which(tool)]
    if not _compiles_32_bits():
        wanted.append(MULTILIB.package)
    before = tried.read_text().split() if tried.exists() else []
    wanted = [name for name in wanted if name not in before]
    if not wanted or not apt_allowed():
        return
    # gcc-multilib would have apt remove compilers for other machines.
    if not apt_install(wanted, "--no-remove").fine:
        for name in wanted:  # one of them is not in this Debian
            apt_install([name], "--no-remove")
    tried.parent.mkdir(parents=True, exist_ok=True)
    tried.write_text("\n".join(before + wanted) + "\n")


def _compiles_32_bits() -> bool:
    compiler = c_compiler()
    check = [compiler or "cc", "-m32", "-fsyntax-only", "-x", "c", "-"]
    return processes.run(check, seconds=60, stdin="#include <stdio.h>\n").fine


def apt_allowed() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(names: list[str], *options: str) -> processes.Ended:
    """apt-get update (once) and install; says so in a line each."""
    updated = _apt_update()
    say.step(f"installing {' '.join(names)} (apt-get)")
    ended = _apt_get("install", "-y", "--no-install-recommends", *options, *names)
    # Lists that cannot be fetched are no fault where the packages could be had without.
    return ended if ended.fine or updated.fine else updated


@functools.cache
def _apt_update() -> processes.Ended:
    say.step("fetching the package lists (apt-get update)")
    return _apt_get("update")


def _apt_get(*words: str) -> processes.Ended:
    patient = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"]
    return processes.run(
        [*patient, *words], seconds=1800, env={"DEBIAN_FRONTEND": "noninteractive"}
    )


def command(names: list[str]) -> str:
    """The command line that installs the Debian packages `names`, or their like, here."""
    manager = next(filter(shutil.which, MANAGERS), "apt-get")
    install, renamed = MANAGERS[manager]
    install = f"{install} {' '.join(dict.fromkeys(renamed.get(name, name) for name in names))}"
    steps = ["apt-get update", install] if manager == "apt-get" else [install]
    sudo = "" if os.geteuid() == 0 or not shutil.which("sudo") else "sudo "
    line = " && ".join(sudo + step for step in steps)
    return line if sudo or os.geteuid() == 0 else f"{line}    (as root)"


def c_compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def _headers() -> bool:
    compiler = c_compiler()
    check = [compiler or "cc", "-fsyntax-only", "-x", "c", "-"]
    return processes.run(check, seconds=60, stdin="#include <stdio.h>\n").fine


def venv_maker() -> str | None:
    """A Python that can make a venv with pip in it: this one, else the distribution's.

    Debian packs ensurepip apart; a Python that a user built may lack it for good.
    """
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return sys.executable
    check = [SYSTEM_PYTHON, "-c", "import venv, ensurepip"]
    there = os.path.exists(SYSTEM_PYTHON) and processes.run(check, seconds=60).fine
    return SYSTEM_PYTHON if there else None
