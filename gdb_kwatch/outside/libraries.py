"""pygments and tabulate, put where the Python inside gdb finds them.

That Python is usually the distribution's, and not the one that runs this. Both libraries are pure
Python, so any pip can fetch them for it, into a folder of kwatch's own that gdbinit.py appends to
sys.path: nothing of the system's or the user's is changed. kwatch works without them, plainly.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gdb_kwatch import places
from gdb_kwatch.outside import debugger, packages, probe, processes, say

# Settings of the user's that would clash with --target, or keep pip from working out of a venv.
PIP = {
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
}


def provide(gdb: debugger.Debugger, python: str = sys.executable) -> debugger.Debugger:
    """Install what `gdb` lacks, by the pip of `python` or another; the gdb as it is then."""
    if not gdb.lacking or gdb.python is None:
        return gdb
    if _by_pip(gdb.python, python) or _by_apt(gdb.lacking):
        gdb = debugger.ask(gdb.command)
    if gdb.lacking:
        say.step(
            f"{say.listing(list(gdb.lacking))} could not be had for gdb's Python; kwatch works "
            "without, in plain text. To have them:\n  " + remedy(gdb.lacking)
        )
    return gdb


def remedy(lacking: tuple[str, ...]) -> str:
    return packages.command([f"python3-{name}" for name in lacking])


def _by_pip(version: tuple[int, int], python: str) -> bool:
    site = Path(places.site_dir(version))
    fresh = site.with_name(f"{site.name}.new")
    wanted = [
        *("--python-version", f"{version[0]}.{version[1]}", "--only-binary=:all:", "--no-deps"),
        *("--quiet", "--retries", "1", "--timeout", "20", "--target", str(fresh)),
        *probe.LIBRARIES,
    ]
    with pip(python) as command:
        if not command:
            return False
        say.step(f"installing {say.listing(list(probe.LIBRARIES))} for gdb's Python into {site}")
        shutil.rmtree(fresh, ignore_errors=True)
        ended = processes.run([*command, "install", *wanted], seconds=300, env=PIP)
    if ended.fine:
        shutil.rmtree(site, ignore_errors=True)
        fresh.rename(site)
    else:
        say.step(f"pip could not:\n{ended.last_lines(3)}")
        shutil.rmtree(fresh, ignore_errors=True)
    return ended.fine


def _by_apt(lacking: tuple[str, ...]) -> bool:
    if not packages.apt_allowed():
        return False
    return packages.apt_install([f"python3-{name}" for name in lacking]).fine


@contextlib.contextmanager
def pip(python: str) -> Iterator[list[str]]:
    """A command that runs some pip; [] where there is none and none can be made."""
    for other in (python, shutil.which("python3"), packages.SYSTEM_PYTHON):
        if other and _has_pip(other):
            yield [other, "-m", "pip"]
            return
    maker = packages.venv_maker()
    if maker is None:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="kwatch-pip-") as folder:
        made = processes.run([maker, "-m", "venv", folder], seconds=300)
        yield [str(Path(folder, "bin", "python")), "-m", "pip"] if made.fine else []


def _has_pip(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("pip") is not None
    return processes.run([python, "-m", "pip", "--version"], seconds=60).fine
