"""The words of ``kwatch who`` and ``kwatch trace``: expressions, options before or after them, and
a condition."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .grammar import UsageError, cut_code, outermost

WHO = ("-a", "-k", "-for", "-from", "-not-from", "-json")
TRACE = ("-a", "-k", "-stack", "-for", "-count", "-from", "-not-from", "-spill")
_VALUED = {"-for", "-from", "-not-from", "-stack", "-count", "-spill", "-o"}
_OPTION = re.compile(r"(?:^|(?<=\s))(-[a-z][a-z-]*)(?=\s|$)")
_IF = re.compile(r"(?:^|(?<=\s))if(?![\w$])")
MOST_FRAMES = 32


@dataclass(frozen=True)
class AccessRequest:
    """What is asked for; seconds, count and frames are 0 where they are not."""

    expressions: tuple[str, ...]
    access: str = "write"
    kernel: bool = False
    seconds: float = 0
    count: int = 0
    frames: int = 0
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    condition: str | None = None
    spill: str | None = None
    json: bool = False


def told(error: str, line: str, options: tuple[str, ...]) -> str:
    """An error of evaluation, or what is behind it: `g -x` is an expression where there is an x,
    else an option that is none."""
    missing = re.match(r'No symbol "(\w+)" in', error)
    if missing is not None and f"-{missing.group(1)}" in line.split():
        return f"Unrecognized option -{missing.group(1)}; it takes {', '.join(options)}."
    return error


def parse(line: str, options: tuple[str, ...], several: bool = False) -> AccessRequest:
    """``several``: blanks separate expressions.  Raises UsageError."""
    text, condition = condition_of(line)
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    at = 0
    outside = set(outermost(text))
    for match in _OPTION.finditer(text):
        name = match.group(1)
        if match.start() < at or match.start(1) not in outside:
            continue
        if name not in options:
            if rest or text[at : match.start()].strip():
                continue  # `a -b` is an expression
            raise UsageError(f"Unrecognized option {name}; it takes {', '.join(options)}.")
        rest.append(text[at : match.start()])
        at = match.end()
        value = ""
        if name in _VALUED:
            following = re.match(r"\s*(\S+)", text[at:])
            if following is None or following.group(1) in options:
                raise UsageError(f"{name} requires an argument.")
            value = following.group(1)
            if name in ("-from", "-not-from"):
                value, tail = cut_code(name, text[at + following.start(1) :])
                at = len(text) - len(tail)
            else:
                at += following.end()
        found.setdefault(name, []).append(value)
    rest.append(text[at:])
    left = " ".join(part.strip() for part in rest if part.strip())
    expressions = _words(left) if several else [left] if left else []
    if not several and "<" not in left and any(left[at] == "," for at in outermost(left)):
        raise UsageError(f"One expression is expected: {left}")
    if not expressions:
        raise UsageError("Argument required (expression to watch).")
    return AccessRequest(
        tuple(expressions),
        "access" if "-a" in found else "write",
        "-k" in found,
        _number("-for", found, float),
        int(_number("-count", found, int)),
        min(int(_number("-stack", found, int)), MOST_FRAMES),
        tuple(found.get("-from", ())),
        tuple(found.get("-not-from", ())),
        condition,
        found["-spill"][-1] if "-spill" in found else None,
        "-json" in found,
    )


def _number(name: str, found: dict[str, list[str]], kind: type) -> float:
    if name not in found:
        return 0
    text = found[name][-1]
    try:
        value = float(kind(text))
    except ValueError:
        value = 0
    if value >= 1e9:
        raise UsageError(f"{name} {text}: it takes a number less than 1,000,000,000.")
    if not value > 0:
        raise UsageError(f"{name} {text}: it takes a number greater than 0.")
    return value


def condition_of(text: str) -> tuple[str, str | None]:
    """What stands before ``if`` and what after it; None where there is no condition."""
    outside = set(outermost(text))
    for match in _IF.finditer(text):
        if match.start() in outside:
            condition = text[match.end() :].strip()
            if not condition:
                raise UsageError("A condition is missing after `if'.")
            return text[: match.start()], condition
    return text, None


def _words(text: str) -> list[str]:
    """Words at blanks that stand outside of brackets and quotes."""
    words = [""]
    outside = set(outermost(text))
    for at, char in enumerate(text):
        if char.isspace() and at in outside:
            words.append("")
        else:
            words[-1] += char
    return [word for word in words if word]
