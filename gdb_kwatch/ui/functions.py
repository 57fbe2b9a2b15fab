"""kwatch's convenience functions for the user."""

from __future__ import annotations

import gdb

from gdb_kwatch.inferior.gdbfacts import integer_type


class Memory(gdb.Function):
    """$_memory (ADDRESS, SIZE): the SIZE bytes at ADDRESS.

    An unsigned integer where SIZE is 1, 2, 4 or 8, else an array of bytes; in any language."""

    def __init__(self) -> None:
        super().__init__("_memory")

    def invoke(self, address: gdb.Value, size: gdb.Value) -> gdb.Value:
        count = int(size)
        kind = integer_type(count) if count in (1, 2, 4, 8) else integer_type(1).array(count - 1)
        return gdb.Value(int(address)).cast(kind.pointer()).dereference()


def define() -> None:
    """Register the functions."""
    Memory()
