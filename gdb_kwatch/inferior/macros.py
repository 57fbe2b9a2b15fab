"""What an expression is without the program's own macros (``gcc -g3``), which gdb expands where it
parses C: one name may stand for a call, an assignment, or another value each time."""

from __future__ import annotations

import re

import gdb

from gdb_kwatch.core.expression import tokens_of

from . import gdbfacts

_NONE = ("ada", "d", "fortran", "go", "modula-2", "pascal", "rust")
_NAME = re.compile(r"(?<![\w$])[A-Za-z_]")


def expanded(expression: str) -> str:
    """It, where there is no macro in it or gdb cannot be asked."""
    if (
        not _NAME.search(expression)
        or gdbfacts.language_now() in _NONE
        or not gdbfacts.may_execute()
    ):
        return expression
    try:
        text = gdbfacts.answer(f"macro expand {expression}")
    except gdb.error:
        return expression
    text = text.partition("expands to: ")[2].strip()
    return text if text and tokens_of(text) != tokens_of(expression) else expression
