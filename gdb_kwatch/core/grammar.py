"""The words of a ``kwatch`` command line, in gdb's own habits.

Options come first and may be cut short while they are unambiguous (gdb/cli/cli-option.c); ``--``
ends them; ``thread ID`` may stand before or after the condition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SWITCHES = ("-w", "-a", "-r", "-l", "-location", "-every", "-t")
VALUED = ("-size",)
OPTIONS = (*SWITCHES, *VALUED)

_THREAD = re.compile(r"\s+(thread|task)\s+(\S+)\s*$")
_IF = re.compile(r"(?<![\w$])if(?![\w$])")


class UsageError(ValueError):
    """What was typed cannot be understood; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Request:
    """What ``kwatch`` was asked to set."""

    expression: str
    access: str = "write"
    location: bool = False
    every: bool = False
    temporary: bool = False
    size: str | None = None  # an expression, as gdb's own counts are
    thread: str | None = None
    task: str | None = None
    condition: str | None = None

    def options(self) -> str:
        """The options as they would be typed again."""
        words = [{"write": "", "access": "-a", "read": "-r"}[self.access]]
        words += [word for word, on in (("-every", self.every), ("-t", self.temporary)) if on]
        words += ["-location"] if self.location else []
        words += [f"-size {self.size}"] if self.size is not None else []
        return " ".join(word for word in words if word)


def _option(word: str) -> str:
    """The option that ``word`` stands for, cut short or not."""
    if word in OPTIONS:
        return word
    found = [name for name in OPTIONS if name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{word}: ambiguous option; it may be {', '.join(found)}.")
    raise UsageError(
        f"Unrecognized option {word}; kwatch takes {', '.join(OPTIONS)}, and -- ends options."
    )


def outermost(text: str) -> list[int]:
    """The places in ``text`` outside of brackets and quotes."""
    places, depth, quote, i = [], 0, "", 0
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\":
                i += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth <= 0:
            places.append(i)
        i += 1
    return places


def _cut_condition(text: str) -> tuple[str, str | None]:
    outside = set(outermost(text))
    for match in _IF.finditer(text):
        if match.start() in outside:
            condition = text[match.end() :].strip()
            if not condition:
                raise UsageError("A condition is missing after `if'.")
            return text[: match.start()].strip(), condition
    return text.strip(), None


def _cut_thread(text: str | None) -> tuple[str | None, dict[str, str]]:
    match = _THREAD.search(text) if text else None
    if text is None or match is None:
        return text, {}
    return text[: match.start()].strip(), {match.group(1): match.group(2)}


def parse(line: str) -> Request:
    """What a ``kwatch`` line asks for.  Raises UsageError."""
    rest = line.strip()
    access: str | None = None
    on: set[str] = set()
    size: str | None = None
    while rest.startswith("-"):
        word, _, tail = rest.partition(" ")
        if word == "--":
            rest = tail.strip()
            break
        if re.match(r"-(\d|0x)", word) or word == "-":
            break  # a negative number: gdb will say what it thinks of watching that
        name = _option(word)
        rest = tail.strip()
        if name == "-size":
            size, _, rest = rest.partition(" ")
            if not size:
                raise UsageError("-size requires an argument: the number of bytes to watch.")
            rest = rest.strip()
        elif name in ("-w", "-a", "-r"):
            asked = {"-w": "write", "-a": "access", "-r": "read"}[name]
            if access not in (None, asked):
                raise UsageError("Only one of -w, -a and -r can be given.")
            access = asked
        else:
            on.add("-location" if name == "-l" else name)
    expression, condition = _cut_condition(rest)
    shorter, where = _cut_thread(" " + expression)
    expression = (shorter or "").strip()
    if condition is not None and not where:
        shorter, where = _cut_thread(condition)
        condition = shorter
    if not expression:
        raise UsageError("Argument required (expression to compute).")
    every = "-every" in on
    if every and access == "read":
        raise UsageError("-every is for writes; -r stops at every read as it is.")
    return Request(
        expression,
        access or "write",
        "-location" in on,
        every,
        "-t" in on,
        size,
        where.get("thread"),
        where.get("task"),
        condition,
    )
