"""Recorded bytes as text: what stood there then, and nothing else.

To print a ``char *``, a reference, a slice or a std::string gdb and its pretty-printers read what
it points to: memory as it is now, of which a record knows nothing.  So of a pointer only the
address is shown, and its symbol.
"""

from __future__ import annotations

import gdb

from .lvalues import REFERENCES, is_signed, printed

_AGGREGATES = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
_POINTERS = (gdb.TYPE_CODE_PTR, *REFERENCES)


def text_of(data: bytes, kind: gdb.Type) -> str:
    """The value of ``kind`` that these bytes are, on one line.  Raises gdb.error."""
    text = _inside(data, kind, top=True) if _points(kind) else printed(value_of(data, kind))
    return " ".join(line.strip() for line in text.split("\n"))


def bits_of(data: bytes, bits: tuple[int, int], kind: gdb.Type) -> int:
    """The number in a bit-field: its first bit in these bytes, and how many it has."""
    first, count = bits
    number = int.from_bytes(data, "little") >> first & (1 << count) - 1
    if is_signed(kind) and number >> count - 1:
        number -= 1 << count
    return number


def value_of(data: bytes, kind: gdb.Type) -> gdb.Value:
    return gdb.Value(data[: kind.sizeof].ljust(kind.sizeof, b"\0"), kind)


def _points(kind: gdb.Type) -> bool:
    """Whether there is a pointer or reference in it."""
    real = kind.strip_typedefs()
    if real.code in _POINTERS:
        return True
    if real.code == gdb.TYPE_CODE_ARRAY:
        return _points(real.target())
    if real.code in _AGGREGATES:
        return any(_points(field.type) for field in real.fields() if hasattr(field, "bitpos"))
    return False


def _inside(data: bytes, kind: gdb.Type, top: bool = False) -> str:
    """As gdb prints it, part by part."""
    real = kind.strip_typedefs()
    if real.code in REFERENCES:
        return f"@{int.from_bytes(data[: real.sizeof], 'little'):#x}"
    if real.code == gdb.TYPE_CODE_PTR:
        return _pointer(data, kind, real, top)
    if real.code == gdb.TYPE_CODE_ARRAY and _points(real):
        part = real.target()
        size = max(part.sizeof, 1)
        whole = range(0, min(real.sizeof, len(data)), size)
        return "{" + ", ".join(_inside(data[at : at + size], part) for at in whole) + "}"
    if real.code in _AGGREGATES and _points(real):
        return "{" + ", ".join(_members(data, real)) + "}"
    return str(value_of(data, kind).format_string(raw=True))


def _members(data: bytes, kind: gdb.Type) -> list[str]:
    found = []
    for field in kind.fields():
        if not hasattr(field, "bitpos"):
            continue  # a static member is elsewhere
        if field.bitsize:
            at, bits = field.bitpos // 8, (field.bitpos % 8, field.bitsize)
            number = bits_of(data[at : at + 8], bits, field.type)
            text = str(gdb.Value(number).cast(field.type).format_string(raw=True))
        else:
            text = _inside(data[field.bitpos // 8 :], field.type)
        name = f"<{field.name}>" if field.is_base_class else field.name
        found.append(f"{name} = {text}" if name else text)
    return found


def _pointer(data: bytes, kind: gdb.Type, real: gdb.Type, top: bool) -> str:
    target = real.target().strip_typedefs()
    value = value_of(data, kind)
    if target.sizeof <= 4 and target.code in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR):
        # char, wchar_t, u8 …: gdb would show a string.
        void = gdb.lookup_type("void").pointer()
        text = str(value.cast(void).format_string(raw=True))
        is_text = target.sizeof == 1 or target.code == gdb.TYPE_CODE_CHAR
        return text if is_text or not top else f"({kind}) {text}"
    return printed(value, raw=True) if top else str(value.format_string(raw=True))
