"""What set-up says: progress on stderr, so that stdout holds only what was asked for."""

from __future__ import annotations

import sys

from gdb_kwatch import places

FAILED = 1
USER_MUST_ACT = 2


class Stop(Exception):
    """Nothing more can be done: `text` for the user, and the exit code."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def step(text: str) -> None:
    """One line before anything that may take longer than a second."""
    print(f"kwatch: {text}", file=sys.stderr, flush=True)


def verb(name: str) -> str:
    """The command line that runs a verb of kwatch's, as this user would type it."""
    return f"python3 -m gdb_kwatch {name}" if places.checkout() else f"gdb-kwatch {name}"


def listing(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else ""
