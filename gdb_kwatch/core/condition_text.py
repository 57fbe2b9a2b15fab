"""The text of a condition as tokens.  C's and C++'s, as far as a condition can be compiled.

What cannot be is told here already where its form says so: a float, a string, an assignment.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?[fFlL]?|\d+[eE][-+]?\d+[fFlL]?)"
    r"|(?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*(?![\w.]))"
    r"|(?P<char>[LuU]?'(?:[^'\\]|\\.)+'(?!\s*::))"
    r"|(?P<string>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<name>\$?(?:::\s*)?[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*|\$\d*)"
    r"|(?P<operator>\+\+|--|->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:().,\[\]={}@])"
    r"|(?P<other>\S))"
)
_CHANGES = re.compile(r"(?:[-+*/%&|^]|<<|>>)=(?!=)|\+\+|--")
_TYPE_WORD = re.compile(r"[A-Za-z_]\w*(?:::\w+)*$|\*$")


class Token(NamedTuple):
    text: str
    kind: str


class Untold(ValueError):
    """The condition cannot be taken apart; the text says why."""


# C++'s other names for operators, as gdb has them (c-exp.y, FLAG_CXX).
_NAMES = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "not_eq": "!=",
    "compl": "~",
    "bitand": "&",
    "bitor": "|",
    "xor": "^",
}
_CHANGING = ("and_eq", "or_eq", "xor_eq")


def tokens(text: str, cpp: bool = False) -> list[Token]:
    """Raises Untold."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        token = match.group(kind)
        if cpp and token in _CHANGING:
            raise Untold("it changes something")
        if cpp and token in _NAMES:
            found.append(Token(_NAMES[token], "operator"))
            continue
        if kind == "float":
            raise Untold("floating point")
        if kind == "string":
            raise Untold("it has a string")
        if kind == "other":
            raise Untold(f"`{token}' is not understood")
        if _CHANGES.match(text, match.start(kind)) or token in ("=", "++", "--"):
            raise Untold("it changes something")
        found.append(Token(re.sub(r"\s", "", token) if kind == "name" else token, kind))
    return found


def type_words(found: list[Token], start: int) -> tuple[list[str], int]:
    """What may be the name of a type from ``start`` on, and where it ends."""
    end = start
    while end < len(found) and _TYPE_WORD.match(found[end].text):
        end += 1
    words = [token.text for token in found[start:end]]
    return ([] if words[:1] == ["*"] else words), end
