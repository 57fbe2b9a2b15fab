"""Where the subexpressions of a C-like expression lie, as far as a watchpoint needs to know.

gdb watches the memory that it reads on the way to a value; Python is not told which.  So the
expression is taken apart by its postfix and prefix operators, which C, C++, D, Rust, Go and
Objective-C share.  What is not understood yields no parts; the caller compares with the
locations that gdb itself made.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\s+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[$\w]+(?:::[~\w]+)*|::|->|\+\+|--|<<|>>|&&|\|\||"
    r"[<>=!]=|.",
    re.S,
)
_WORD = re.compile(r"[$\w]")
_OPEN = {"(": ")", "[": "]", "{": "}"}
_CLOSE = set(_OPEN.values())
_BINARY = {"+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "<", ">", "<=", ">=", "==", "!="} | {
    "&&",
    "||",
    "?",
    ":",
    ",",
    "=",
}
_PREFIX = {"*", "&", "-", "+", "!", "~"}
_STAR = {"*", "&", "&&"}
# What these take is not evaluated.
_UNEVALUATED = {"sizeof", "alignof", "_Alignof", "typeof", "__typeof__", "decltype", "typeid"}
_ANGLES = {"<", ">", ">>", ",", "::"}
_CPP_CAST = re.compile(r"(static|dynamic|reinterpret|const)_cast<")
_TYPE_WORD = re.compile(
    r"(void|_?[Bb]ool|char|u?int|short|long|(un)?signed|float|double|struct|union|enum|class|"
    r"u?int\d+|.*_t)$"
)


def tokens_of(expression: str) -> list[str]:
    """The tokens of an expression, white space left out."""
    return [t for t in _TOKEN.findall(expression) if not t.isspace()]


def _units(expression: str) -> list[str]:
    """The tokens, with each C++ name that has template arguments as one."""
    tokens = tokens_of(expression)
    units = []
    i = 0
    while i < len(tokens):
        end = _template_end(tokens, i)
        units.append(_join(tokens[i:end]))
        i = end
    return units


def _template_end(tokens: list[str], start: int) -> int:
    """The index after ``name<type, ...>::name`` at ``start``; after one token, if it is no such.

    ``a < b > c`` looks the same but for what follows: only ``::`` and ``(`` are taken for it.
    """
    end = start + 1
    while _WORD.match(tokens[end - 1]) and tokens[end : end + 1] == ["<"]:
        close = _closing_angle(tokens, end)
        follows = tokens[close + 1 : close + 3]
        if follows[:1] == ["("]:
            return close + 1
        if follows[:1] != ["::"] or len(follows) < 2 or not _WORD.match(follows[1]):
            break
        end = close + 3
    return end


def _closing_angle(tokens: list[str], start: int) -> int:
    """The index of the ``>`` that closes the ``<`` at ``start``; len(tokens) where what follows
    are no template arguments."""
    depth = 0
    for i in range(start, len(tokens)):
        token = tokens[i]
        depth += {"<": 1, ">": -1, ">>": -2}.get(token, 0)
        if depth <= 0:
            return i
        if token not in _ANGLES and token not in _STAR and not _WORD.match(token):
            break
    return len(tokens)


def _matching(tokens: list[str], start: int) -> int:
    """The index of the bracket that closes the one at ``start``; len(tokens) if none does."""
    depth = 0
    for i in range(start, len(tokens)):
        if tokens[i] in _OPEN:
            depth += 1
        elif tokens[i] in _CLOSE:
            depth -= 1
            if depth == 0:
                return i
    return len(tokens)


def _opening(tokens: list[str]) -> int:
    """The index of the bracket that the last token closes; 0 if there is none."""
    depth = 0
    for i in range(len(tokens) - 1, 0, -1):
        if tokens[i] in _CLOSE:
            depth += 1
        elif tokens[i] in _OPEN:
            depth -= 1
            if depth == 0:
                return i
    return 0


def _operand_ends(token: str) -> bool:
    """Whether an operand may end with this token, so that an operator after it is binary."""
    if token in _UNEVALUATED:
        return False
    return token in _CLOSE or token in ("++", "--") or bool(re.match(r"[\w$'\"]", token))


def _join(tokens: list[str]) -> str:
    """The tokens as text again; two that would read as one are kept apart."""
    text = ""
    for token in tokens:
        if text and len(_TOKEN.findall(text[-1] + token[0])) == 1:
            text += " "
        text += token
    return text


def _is_type(tokens: list[str]) -> bool:
    """Whether this, in brackets, is surely a type: a word of the language's own, a name in
    ``_t``, a pointer or reference.  A name alone may be either, and is taken for a variable."""
    words: list[str] = []
    i = 0
    while i < len(tokens):
        if tokens[i] in _OPEN:
            end = _matching(tokens, i)
            if tokens[i] == "(" and words and tokens[end - 1] in _STAR:
                return True  # a declarator: int (*)[4]
            if tokens[i] != "[" or not words:
                return False
            i = end
        else:
            words.append(tokens[i])
        i += 1
    if len(words) > 1 and (words[-1] in _STAR or words[-1] in ("const", "volatile")):
        return True
    named = all(_WORD.match(word) or word == "::" for word in words)
    return named and any(_TYPE_WORD.match(word) for word in words)


def _split(tokens: list[str], separators: set[str]) -> list[list[str]]:
    """The operands on the outermost level; one element where there is no such binary operator."""
    operands: list[list[str]] = [[]]
    ended = False
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token in _OPEN:
            end = _matching(tokens, i)
            # After a cast, or {type}, an operator is a prefix.
            cast = token == "{" or (token == "(" and _is_type(tokens[i + 1 : end]))
            ended = ended or not cast or (i > 0 and tokens[i - 1] in _UNEVALUATED)
            operands[-1] += tokens[i : end + 1]
            i = end + 1
            continue
        if token in separators and ended:
            operands.append([])
            ended = False
        else:
            operands[-1].append(token)
            ended = _operand_ends(token)
        i += 1
    return [operand for operand in operands if operand]


def parts_of(expression: str) -> list[str]:
    """The direct subexpressions whose values gdb reads on the way to this one's.

    ``p->x`` -> [``p``], ``a[i]`` -> [``a``, ``i``], ``*p`` -> [``p``], ``a + b`` -> [``a``,
    ``b``], ``&p->x`` -> [``p``], ``*p@n`` -> [``p``, ``n``], names -> [].  Each has fewer tokens
    than the expression, and all of them together too.
    """
    return [text for text in map(_join, _parts(_units(expression))) if text]


def _parts(tokens: list[str]) -> list[list[str]]:
    operands = _split(tokens, _BINARY)
    if len(operands) > 1:
        return operands
    operands = _split(tokens, {"@"})
    if len(operands) > 1:
        # The array is read, its first element is not; what leads there is.
        return [*_parts_of_one(operands[0]), *operands[1:]]
    return _parts_of_one(tokens)


def _parts_of_one(tokens: list[str]) -> list[list[str]]:
    """The same of an expression with no binary operator on its outermost level."""
    if not tokens:
        return []
    first, last = tokens[0], tokens[-1]
    if first == "&":
        # The address is not read through; what leads there is.
        whole = _bare(tokens[1:])
        return _parts(whole) if whole[:1] != ["&"] else []
    if first in _PREFIX:
        return [tokens[1:]]
    if first in _UNEVALUATED:
        return []
    if first in ("(", "{"):
        end = _matching(tokens, 0)
        if end >= len(tokens) - 1:
            return [tokens[1:end]] if first == "(" else []
        if tokens[end + 1] not in (".", "->", "["):
            return [tokens[end + 1 :]]  # a cast, or {type} address
    if last == "]":
        start = _opening(tokens)
        return [tokens[:start], tokens[start + 1 : -1]] if start else []
    if _CPP_CAST.match(first) and last == ")" and _opening(tokens) == 1:
        return [tokens[2:-1]]
    if len(tokens) > 2 and tokens[-2] in (".", "->"):
        return [tokens[:-2]]
    return []


def _bare(tokens: list[str]) -> list[str]:
    """Without the brackets that are around the whole."""
    while tokens[:1] == ["("] and _matching(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def chooses(expression: str) -> bool:
    """Whether it reads some of its parts only now and then, or for nothing: ``?:``, ``&&``,
    ``||`` and the comma.  What gdb watches for such a one, only its locations tell."""
    return any(token in ("?", "&&", "||", ",") for token in tokens_of(expression))


def has_side_effects(expression: str) -> bool:
    """Whether evaluating may change the program: an assignment, ``++``, or a call of one of its
    functions (gdb's own ``$functions`` do not count)."""
    tokens = _units(expression)
    for i, token in enumerate(tokens):
        if token in ("=", "++", "--"):
            return True
        if token == "(" and i and _is_call(tokens, i):
            return True
        if token == "[" and not (i and _operand_ends(tokens[i - 1])) and _is_message(tokens, i):
            return True
    return False


def _is_message(tokens: list[str], start: int) -> bool:
    """Whether the ``[`` at ``start``, where an operand begins, may send a message of Objective-C:
    not that of ``(char *[4])``."""
    return _matching(tokens, start) > start + 2


def _is_call(tokens: list[str], start: int) -> bool:
    """Whether the ``(`` at ``start`` opens the arguments of a call."""
    before = tokens[start - 1]
    if not _operand_ends(before) or before[0] in "$}" or _CPP_CAST.match(before):
        return False
    if before == ")":
        inner = tokens[_opening(tokens[:start]) + 1 : start - 1]
        if len(inner) == 1 or (inner and inner[-1] in _STAR) or _is_type(inner):
            return False  # (type) (value), or the declarator (*) (int)
    # int (*)[4] and int (N::*)(int) are types too.
    return tokens[_matching(tokens, start) - 1] not in _STAR
