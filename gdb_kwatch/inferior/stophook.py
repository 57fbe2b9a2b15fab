"""hook-stop: the one place between gdb's decision to stop and the first thing it prints.

gdb.events.stop handlers run after gdb has printed.  A silent sentinel would leave the user
without frame and displays, a noisy one would print its hidden expression: so it is noisy, and
deleted here, before gdb prints; gdb then prints frame, displays and MI fields itself
(``print_bp_stop_message`` passes over a deleted breakpoint).

hook-stop belongs to the user.  Theirs is kept, after ours; where they define it anew, ours is put
back before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import gdb

COMMAND = "kwatch-internal-stop"


class StopCommand(gdb.Command):
    """Internal to kwatch: tells what was hit, before gdb prints the frame."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(COMMAND, gdb.COMMAND_OBSCURE)
        self.action = action

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.action()


def body() -> list[str] | None:
    """The lines of the user's hook-stop as it is now; None where there is none."""
    try:
        text = gdb.execute("show user hook-stop", to_string=True)
    except gdb.error:
        return None
    lines = text.rstrip("\n").split("\n")[1:]
    return [line[2:] if line.startswith("  ") else line for line in lines]


def installed() -> bool:
    return COMMAND in (body() or [])


def install() -> None:
    """Put kwatch's line first into hook-stop, where it is not there."""
    lines = body() or []
    if COMMAND not in lines:
        _define([COMMAND, *lines])


def uninstall() -> None:
    """Take kwatch's line out; gdb cannot forget a user command, so an empty one may stay."""
    lines = body() or []
    if COMMAND in lines:
        _define([line for line in lines if line != COMMAND])


def _define(lines: list[str]) -> None:
    gdb.execute("\n".join(["define hook-stop", *lines, "end"]), to_string=True)
