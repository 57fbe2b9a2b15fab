"""Where the subexpressions of a C-like expression lie, as far as a watchpoint needs to know.

gdb watches the memory that it reads on the way to a value; Python is not told which.  So the
expression is taken apart by its postfix and prefix operators, which C, C++, D, Rust, Go and
Objective-C share.  What is not understood yields no parts; the caller compares with the
locations that gdb itself made.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\s+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[$@\w][\w$@]*(?:::[~\w]+)*|::|->|<<|>>|&&|\|\||"
    r"[<>=!]=|[0-9][\w.]*|.",
    re.S,
)
_OPEN = {"(": ")", "[": "]", "{": "}"}
_BINARY = {"+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "<", ">", "<=", ">=", "==", "!="} | {
    "&&",
    "||",
    "?",
    ":",
    ",",
    "=",
}
_PREFIX = {"*", "&", "-", "+", "!", "~"}


def tokens_of(expression: str) -> list[str]:
    """The tokens of an expression, white space left out."""
    return [t for t in _TOKEN.findall(expression) if not t.isspace()]


def _matching(tokens: list[str], start: int) -> int:
    """The index of the bracket that closes the one at ``start``; len(tokens) if none does."""
    depth = 0
    for i in range(start, len(tokens)):
        if tokens[i] in _OPEN:
            depth += 1
        elif tokens[i] in _OPEN.values():
            depth -= 1
            if depth == 0:
                return i
    return len(tokens)


def _operand_ends(token: str) -> bool:
    """Whether an operand may end with this token, so that an operator after it is binary."""
    return token in (")", "]", "}") or bool(re.match(r"[\w$@'\"]", token))


def _join(tokens: list[str]) -> str:
    text = ""
    for token in tokens:
        if text and re.match(r"[\w$@]", token) and re.match(r"[\w$@]", text[-1]):
            text += " "
        text += token
    return text


def _split_binary(tokens: list[str]) -> list[list[str]]:
    """The operands on the outermost level; one element where there is no binary operator."""
    operands: list[list[str]] = [[]]
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token in _OPEN:
            end = _matching(tokens, i)
            operands[-1] += tokens[i : end + 1]
            i = end + 1
            continue
        if token in _BINARY and operands[-1] and _operand_ends(operands[-1][-1]):
            operands.append([])
        else:
            operands[-1].append(token)
        i += 1
    return [operand for operand in operands if operand]


def parts_of(expression: str) -> list[str]:
    """The direct subexpressions whose values gdb reads on the way to this one's.

    ``p->x`` -> [``p``], ``a[i]`` -> [``a``, ``i``], ``*p`` -> [``p``], ``a + b`` -> [``a``,
    ``b``], ``&x`` and names -> [].
    """
    tokens = tokens_of(expression)
    if not tokens:
        return []
    operands = _split_binary(tokens)
    if len(operands) > 1:
        return [_join(operand) for operand in operands]
    first, last = tokens[0], tokens[-1]
    if first == "&":
        return []  # the address is not read through
    if first in _PREFIX:
        return [_join(tokens[1:])]
    if first == "sizeof":
        return []
    if first in "({" and len(first) == 1:
        end = _matching(tokens, 0)
        if end == len(tokens) - 1:
            return [_join(tokens[1:end])] if first == "(" else []
        if tokens[end + 1] not in (".", "->", "["):
            return [_join(tokens[end + 1 :])]  # a cast, or {type} address
    if last == "]":
        start = _start_of_index(tokens)
        return [_join(tokens[:start]), _join(tokens[start + 1 : -1])] if start else []
    if len(tokens) > 2 and tokens[-2] in (".", "->"):
        return [_join(tokens[:-2])]
    return []


def _start_of_index(tokens: list[str]) -> int:
    """The index of the ``[`` that the last ``]`` closes; 0 if there is none."""
    depth = 0
    for i in range(len(tokens) - 1, 0, -1):
        if tokens[i] == "]":
            depth += 1
        elif tokens[i] == "[":
            depth -= 1
            if depth == 0:
                return i
    return 0


def has_side_effects(expression: str) -> bool:
    """Whether evaluating may change the program: an assignment, ``++``, or a call of one of its
    functions (gdb's own ``$functions`` do not count)."""
    tokens = tokens_of(expression)
    for i, token in enumerate(tokens):
        if token == "=" or (token in "+-" and tokens[i + 1 : i + 2] == [token]):
            return True
        called = tokens[i + 1 : i + 2] == ["("] and tokens[i + 2 : i + 4] != ["*", ")"]
        if called and re.match(r"[A-Za-z_]", token) and token != "sizeof":
            return True
    return False
