"""gdb's own styles (``set style``), for what kwatch prints itself."""

from __future__ import annotations

import os

import gdb

_COLORS = {
    name: n
    for n, name in enumerate(
        ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
    )
}


def enabled() -> bool:
    """Whether gdb itself would write escapes: its setting, a terminal that can, and no MI.

    gdb decides by ``stdout->can_emit_style_escape``: a tty, and TERM set and not dumb.
    """
    if os.environ.get("TERM", "dumb") in ("", "dumb") or "NO_COLOR" in os.environ:
        return False
    try:
        return bool(gdb.parameter("style enabled")) and os.isatty(1)
    except (RuntimeError, OSError):
        return False


def terminal() -> bool:
    """Whether lines can be redrawn in place: a terminal that can, whatever the style settings."""
    try:
        return os.environ.get("TERM", "dumb") not in ("", "dumb") and os.isatty(1)
    except OSError:
        return False


def styled(text: str, name: str) -> str:
    """``text`` in gdb's style ``name`` (address, function, filename, variable, highlight, title,
    metadata); unchanged where gdb would not style."""
    if not enabled() or not text:
        return text
    codes = []
    try:
        foreground = str(gdb.parameter(f"style {name} foreground"))
        intensity = str(gdb.parameter(f"style {name} intensity"))
    except RuntimeError:
        return text
    if intensity in ("bold", "dim"):
        codes.append("1" if intensity == "bold" else "2")
    if foreground in _COLORS:
        codes.append(str(30 + _COLORS[foreground]))
    return f"\033[{';'.join(codes)}m{text}\033[m" if codes else text


def source(text: str, filename: str) -> str:
    """A source line, highlighted by pygments where gdb would highlight (``set style sources``)."""
    return _highlighted(text, filename, None) if _sources() else text


def assembly(text: str) -> str:
    """An instruction, highlighted by pygments where gdb styles."""
    return _highlighted(text, "", "gas") if enabled() else text


def _sources() -> bool:
    return enabled() and bool(gdb.parameter("style sources"))


def _highlighted(text: str, filename: str, lexer_name: str | None) -> str:
    try:
        from pygments import highlight
        from pygments.formatters import TerminalFormatter
        from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
        from pygments.util import ClassNotFound
    except ImportError:
        return text
    try:
        lexer = (
            get_lexer_by_name(lexer_name, stripnl=False)
            if lexer_name
            else get_lexer_for_filename(filename, stripnl=False)
        )
    except ClassNotFound:
        return text
    done: str = highlight(text, lexer, TerminalFormatter())
    return done.rstrip("\n")
