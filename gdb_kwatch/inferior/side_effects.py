"""What evaluating an expression would do to the program: a call of one of its functions, or an
assignment.  Told before anything is evaluated.

An assignment, and a call with brackets, can be read from the text.  An operator that the program
has defined looks like the language's own: for that gdb is asked, with calls forbidden.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager

import gdb

from gdb_kwatch.core.expression import parts_of, tokens_of

from . import gdbfacts
from .macros import expanded

_FORBIDDEN = "may-call-functions is off"  # call_function_by_hand_dummy, gdb 10 to 18


def refuse(expression: str) -> None:
    """Raises gdb.GdbError where it cannot be evaluated without doing something to the program."""
    text = expanded(expression)
    what = expression if text == expression else f"{expression}, which is {text} by a macro,"
    if gdbfacts.changes_program(text):
        raise gdb.GdbError(
            f"{what} has side effects (a call or an assignment), so kwatch does not evaluate "
            "it.  Name the memory itself."
        )
    if calls_program(text):
        raise gdb.GdbError(
            f"{what} calls a function of the program (maybe by an operator that it defines), "
            "so kwatch does not evaluate it.\nName the memory itself: a member, or the address "
            "that 'print' shows, as *(TYPE *) ADDRESS."
        )


def calls_program(expression: str) -> bool:
    """Whether a function of the program would be called for it or for a part of it, be it one that
    is evaluated only now and then (``a && b[1]``), or a macro would do so or assign.  Call it at a
    prompt or in a command."""
    text = expanded(expression)
    if text != expression and gdbfacts.changes_program(text):
        return True
    if not _may_call(text):
        return False
    with no_calls():
        return _calls(text)


def _may_call(expression: str) -> bool:
    """Whether gdb has to be asked at all: a name or a member calls nothing, but in Ada; and C has
    no operators of a program's own, but ``(f) ()``."""
    tokens, language = tokens_of(expression), gdbfacts.language_now()
    if language in ("ada", "auto"):  # auto: gdb before 13
        return True
    if language == "c" and "(" not in tokens:
        return False
    return any(not re.match(r"[\w$.:]", token) for token in tokens)


def _calls(expression: str) -> bool:
    try:
        gdb.parse_and_eval(expression)
    except (gdb.error, RecursionError) as error:
        if _FORBIDDEN in str(error):
            return True
    return any(_calls(part) for part in parts_of(expression))


@contextmanager
def no_calls() -> Iterator[None]:
    """gdb refuses to call functions of the program for a while; xmethods, which are Python, go on
    working."""
    if not gdb.parameter("may-call-functions") or not gdbfacts.may_execute():
        yield
        return
    _permit("off")
    try:
        yield
    finally:
        _permit("on")


def _permit(word: str) -> None:
    """Front ends are not told: ``-gdb-set`` makes no ``=cmd-param-changed``, as ``set`` does.

    Before gdb 14 they are: an MI command inside another one would send its own ``^done``, with the
    fields that the other has gathered so far (``captured_mi_execute_command``).
    """
    if hasattr(gdb, "execute_mi") and _is_mi():
        gdb.execute_mi("-gdb-set", "may-call-functions", word)
    else:
        gdb.execute(f"set may-call-functions {word}", to_string=True)


@functools.lru_cache(maxsize=1)
def _is_mi() -> bool:
    """Whether this gdb was started as MI."""
    with open("/proc/self/cmdline", "rb") as line:
        text = line.read().replace(b"\0", b" ").decode(errors="replace")
    return re.search(r"\s--?i(?:n[a-z]*)?[= ]mi\d?\s", text) is not None
