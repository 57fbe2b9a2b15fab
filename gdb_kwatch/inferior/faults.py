"""A fault of kwatch's own must not end a session: it is told in one line, once for each kind."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gdb

from gdb_kwatch.linux import ptrace

_last: str | None = None
_told: set[str] = set()


def report(where: str, error: BaseException) -> None:
    """Tell a fault in one line; ``kwatch doctor -traceback`` shows the last one whole.

    What comes of a program that was killed just now is none: gdb tells of its end soon, and till
    then nothing can be asked of it."""
    global _last
    if isinstance(error, (gdb.error, ProcessLookupError)) and _is_killed():
        return
    _last = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    line = f"internal fault, {type(error).__name__} in {where}: {error}".replace("\n", " ")
    kind = line
    if isinstance(error, OSError):
        line = f"the system refused: {error.strerror} ({error.filename or where})"
        kind = error.strerror or line  # one refusal is met in many places
    if kind in _told:
        return
    _told.add(kind)
    gdb.write(
        f"kwatch: {line} ('kwatch doctor -traceback' shows it whole)\n",
        gdb.STDERR,
    )


def _is_killed() -> bool:
    """Whether the program, a child of this gdb's to trace, has died, and gdb has yet to see it."""
    pid = gdb.selected_inferior().pid
    return bool(pid) and ptrace.tracer_of(pid) == os.getpid() and ptrace.is_dead(pid)


def last() -> str | None:
    """The traceback of the last fault; None where there was none."""
    return _last


def guarded(default: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a gdb hook safe: a fault is told and ``default`` is returned."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def safe(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                report(function.__qualname__, error)
                return default

        return safe

    return wrap


@contextmanager
def as_errors() -> Iterator[None]:
    """In a command: what the system or gdb refuses in the middle of it is an error of that command,
    in words.  The program may be killed at any moment, and nothing of it can be read then."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise gdb.GdbError(f"The system refused: {error.strerror}{place}.") from None
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from None
