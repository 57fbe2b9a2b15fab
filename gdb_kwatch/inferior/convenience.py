"""Convenience variables that stand for something while gdb evaluates one expression."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gdb


@contextmanager
def standing_in(**values: gdb.Value) -> Iterator[None]:
    """Have ``$NAME`` be a value; the user's own are put back."""
    before = {name: gdb.convenience_variable(name) for name in values}
    for name, value in values.items():
        gdb.set_convenience_variable(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            gdb.set_convenience_variable(name, value)
