"""Tables as gdb's ``info`` commands show them: headings, columns, no lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GAP = 2  # between columns
_INDENT = 5
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


def folded(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """The same in lines of at most ``width``, where its cells allow it: columns that do not fit
    stand on further lines of each row, indented.  No width: as wide as it is."""
    sizes = [max(visible(cell) for cell in column) for column in zip(headings, *rows)]
    parts = _parts(sizes, width or sum(sizes) + _GAP * len(sizes))
    if width:
        while len(tighter := _parts(sizes, width - 1)) == len(parts) and width > _INDENT:
            parts, width = tighter, width - 1  # lines of about the same length
    blocks = []
    for n, part in enumerate(parts):
        text = table([headings[c] for c in part], [[row[c] for c in part] for row in rows])
        indent = " " * _INDENT if n else ""
        blocks.append([indent + line if line else "" for line in text.split("\n")])
    return "\n".join(line for row in zip(*blocks) for line in row if line)


def _parts(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand on each line."""
    parts: list[list[int]] = [[]]
    room = width
    for column, size in enumerate(sizes):
        if parts[-1] and size > room:
            parts.append([])
            room = width - _INDENT
        parts[-1].append(column)
        room -= size + _GAP
    return parts


def _plain(rows: Sequence[Sequence[str]]) -> str:
    """What tabulate does, plainly, where it is not installed."""
    widths = [max(visible(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell + " " * (width - visible(cell)) for cell, width in zip(row, widths)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
