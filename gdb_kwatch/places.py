"""Where kwatch's files are: asked outside gdb (set-up) and inside it (gdbinit.py) alike.

Standard library only, nothing of the house, and only os and sys, so that gdb loads it in no time.
In a checkout everything that set-up makes is under its git-ignored `.kwatch`; an installed package,
or a checkout that this user cannot write to, uses the user's data folder.
"""

from __future__ import annotations

import os
import sys

PACKAGE = os.path.dirname(os.path.realpath(__file__))
GDBINIT = os.path.join(PACKAGE, "gdbinit.py")


def checkout() -> str | None:
    """The root of the checkout this package is run from; None for an installed package."""
    root = os.path.dirname(PACKAGE)
    marks = (os.path.join(root, "setup.cfg"), os.path.join(root, "fixtures", "build.py"))
    return root if all(map(os.path.isfile, marks)) else None


def fixtures_dir() -> str:
    """The folder of the sources to debug and of build.py; part of an installed package too."""
    return os.path.join(checkout() or PACKAGE, "fixtures")


def state_dir() -> str:
    """The folder this user can write to, for what set-up makes (it need not exist yet)."""
    return next(filter(_writable, _state_dirs()), _user_dir())


def site_dir(version: tuple[int, int] | None = None) -> str:
    """Where set-up puts pygments and tabulate for a gdb whose Python is `version`."""
    return _site_in(state_dir(), version)


def site_dirs(version: tuple[int, int] | None = None) -> list[str]:
    """Every folder that set-up, run by this user or another, may have put them in."""
    return [_site_in(state, version) for state in _state_dirs()]


def _state_dirs() -> list[str]:
    root = checkout()
    return [os.path.join(root, ".kwatch"), _user_dir()] if root else [_user_dir()]


def _user_dir() -> str:
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # "must be absolute, else ignored": XDG Base Directory
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(os.path.abspath(data), "gdb-kwatch")


def _site_in(state: str, version: tuple[int, int] | None) -> str:
    # One folder a Python version: several gdbs, each with a Python of its own, may share a home.
    major, minor = version or sys.version_info[:2]
    return os.path.join(state, "site", f"{major}.{minor}")


def _writable(folder: str) -> bool:
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)
