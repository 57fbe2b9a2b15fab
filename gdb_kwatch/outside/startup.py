"""The one marked block in gdb's start-up file that loads kwatch: put in, updated, taken out.

Everything else in that file stays byte for byte what it was, so all of this works on bytes. A file
that ends without a newline gets a block without one: taking it out gives the old end back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gdb_kwatch import places
from gdb_kwatch.outside import say

BEGIN = b"# >>> kwatch >>>"
END = b"# <<< kwatch <<<"
MADE = b"# (kwatch made this file: its uninstall removes it if nothing else is in it)"


def install(gdb_major: int) -> str:
    """Put the block into the file that this gdb reads; says what was done."""
    path = location(gdb_major)
    for other in _candidates():
        if other != path and _blocks(_read(other) or b""):
            _take_out(other)  # gdb reads one of the two only
    old = _read(path)
    new = with_block(old, places.GDBINIT)
    if new == old:
        return f"{path} loads kwatch already; nothing to do"
    _write(path, new)
    verb = "loads kwatch now" if not _blocks(old or b"") else "is brought up to date"
    return f"{path} {verb}: source {places.GDBINIT}"


def uninstall() -> str:
    """Take the block out of wherever it is; says what was done."""
    done = [_take_out(path) for path in _candidates() if _blocks(_read(path) or b"")]
    return "\n".join(done) or "no start-up file of gdb's loads kwatch; nothing to do"


def location(gdb_major: int) -> Path:
    """The user's start-up file as this gdb chooses it, or the one it would look for.

    gdb 11 and later read $XDG_CONFIG_HOME/gdb/gdbinit (~/.config/gdb/gdbinit) and, only where that
    does not exist, ~/.gdbinit; gdb 10 knows ~/.gdbinit only.
    """
    modern, plain = _candidates()
    return modern if gdb_major >= 11 and modern.exists() else plain


def block(gdbinit: str, newline: bytes = b"\n", made: bool = False) -> bytes:
    """The lines of the block, without a newline at the end."""
    path = os.fsencode(gdbinit)
    if b"\n" in path or b"\r" in path:
        raise say.Stop(f"gdb cannot source a file whose path has a line break: {gdbinit!r}")
    # gdb takes the rest of the line as the path: blanks need no quotes, and quotes would be kept.
    lines = [BEGIN, *([MADE] if made else []), b"source " + path, END]
    return newline.join(lines)


def with_block(text: bytes | None, gdbinit: str) -> bytes:
    """`text` with the block in it, once, up to date; None stands for a file that is not there."""
    if text is None:
        return block(gdbinit, made=True) + b"\n"
    newline = b"\r\n" if 2 * text.count(b"\r\n") > text.count(b"\n") else b"\n"
    blocks = _blocks(text)
    if not blocks:
        if text and not text.endswith(b"\n"):
            return text + newline + block(gdbinit, newline)
        return text + block(gdbinit, newline) + newline
    for start, end in reversed(blocks[1:]):
        text = _cut(text, start, end)
    start, end = blocks[0]
    return text[:start] + block(gdbinit, newline, _made(text[start:end])) + text[end:]


def without_block(text: bytes) -> bytes | None:
    """`text` as it was before; None for a file that was made for the block and holds no more."""
    made = False
    for start, end in reversed(_blocks(text)):
        made = made or _made(text[start:end])
        text = _cut(text, start, end)
    return None if made and not text else text


def _candidates() -> tuple[Path, Path]:
    home = Path(os.path.expanduser("~"))
    config = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    return Path(config, "gdb", "gdbinit"), home / ".gdbinit"


def _blocks(text: bytes) -> list[tuple[int, int]]:
    """Where blocks start, and end (before the last line's newline)."""
    found: list[tuple[int, int]] = []
    start, offset = None, 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.rstrip() == BEGIN:
            if start is not None:
                break
            start, begun = offset, number
        elif start is not None and line.startswith(END):
            found.append((start, offset + len(END)))
            start = None
        offset += len(line)
    if start is not None:
        raise say.Stop(
            f"gdb's start-up file has '{BEGIN.decode()}' in line {begun} without a "
            f"'{END.decode()}' after it. Take the rest of that block out by hand, then try again."
        )
    return found


def _made(block: bytes) -> bool:
    return any(line.rstrip() == MADE for line in block.splitlines())


def _cut(text: bytes, start: int, end: int) -> bytes:
    before, block, after = text[:start], text[start:end], text[end:]
    newline = b"\r\n" if b"\r\n" in block else b"\n"
    if not after:  # the file ended without a newline when the block came: see with_block
        return before[: -len(newline)] if before.endswith(newline) else before
    for ending in (b"\r\n", b"\n"):
        if after.startswith(ending):
            return before + after[len(ending) :]
    return before + after


def _take_out(path: Path) -> str:
    text = without_block(_read(path) or b"")
    if text is None:
        with _told(path):
            os.unlink(os.path.realpath(path))
        return f"{path} removed: nothing else was in it"
    _write(path, text)
    return f"{path} no longer loads kwatch"


def _read(path: Path) -> bytes | None:
    with _told(path):
        return path.read_bytes() if path.exists() else None


def _write(path: Path, text: bytes) -> None:
    """Replace the file in one step; a symbolic link stays one, and the mode stays as it was."""
    real = Path(os.path.realpath(path))
    with _told(path):
        handle, name = tempfile.mkstemp(dir=real.parent, prefix=".gdbinit-")
        try:
            with open(handle, "wb") as file:
                file.write(text)
            if real.exists():
                shutil.copymode(real, name)
                with contextlib.suppress(PermissionError):
                    os.chown(name, real.stat().st_uid, real.stat().st_gid)
            else:
                os.chmod(name, 0o644)
            os.replace(name, real)
        except BaseException:
            os.unlink(name)
            raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise say.Stop(f"{path}: {error.strerror or error}; nothing was changed") from error
