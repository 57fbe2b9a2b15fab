"""Tables as gdb's ``info`` commands show them: headings, columns, no lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ESCAPES = re.compile(r"\033\[[0-9;]*m")


def visible(text: str) -> int:
    """How wide ``text`` is on the screen."""
    return len(_ESCAPES.sub("", text))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the last one not padded."""
    try:
        import tabulate
    except ImportError:
        return _plain([headings, *rows])
    tabulate.MIN_PADDING = 0
    text: str = tabulate.tabulate(rows, headings, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _plain(rows: Sequence[Sequence[str]]) -> str:
    """What tabulate does, plainly, where it is not installed."""
    widths = [max(visible(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell + " " * (width - visible(cell)) for cell, width in zip(row, widths)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
