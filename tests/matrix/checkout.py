"""The checkout that these scripts belong to; importing this makes its gdb_kwatch importable.

Everything under tests/matrix runs outside gdb with the standard library only, as
gdb_kwatch.outside does, and shares its ways of installing packages and running programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from gdb_kwatch.outside import debugger, demo, packages, processes, say  # noqa: E402

__all__ = ["CHECKOUT", "debugger", "demo", "exit_code", "packages", "processes", "say", "table"]


def exit_code(main: Callable[[], int]) -> int:
    """What `main` returns; 1 or 2, with the reason on stderr, where it could not go on."""
    try:
        return main()
    except say.Stop as stop:
        print(f"kwatch: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        return 130


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns, two blanks apart."""
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)
