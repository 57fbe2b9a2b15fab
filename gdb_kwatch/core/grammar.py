"""The words of a ``kwatch`` command line, in gdb's own habits.

Options come first and may be cut short while they are unambiguous (gdb/cli/cli-option.c); ``--``
ends them; ``thread ID`` may stand before or after the condition.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SWITCHES = ("-w", "-a", "-r", "-l", "-location", "-every", "-t", "-k", "-g")
VALUED = ("-size", "-p", "-log", "-do", "-from", "-not-from")
OPTIONS = (*SWITCHES, *VALUED)
_ARGUMENTS = {
    "-size": "the number of bytes to watch",
    "-log": 'a message, as "x is {new}, was {old}"',
    "-do": "gdb commands, in quotes, separated by ;",
    "-from": "a function or library",
    "-not-from": "a function or library",
    "-p": "a priority, background, normal, native, break-native or a number",
}

_THREAD = re.compile(r"(?:^|\s)(thread|task)\s+(\S+)\s*$")
_IF = re.compile(r"(?<![\w$])if(?![\w$])")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.S)


class UsageError(ValueError):
    """What was typed cannot be understood; the text says what is wrong and what to do."""


class Request(NamedTuple):
    """What ``kwatch`` was asked to set."""

    expression: str
    access: str = "write"
    location: bool = False
    every: bool = False
    temporary: bool = False
    kernel: bool = False
    size: str | None = None  # an expression, as gdb's own counts are
    thread: str | None = None
    task: str | None = None
    condition: str | None = None
    priority: str = "normal"
    everywhere: bool = False
    log: str | None = None  # the message of a hit, which does not stop then
    do: str | None = None  # commands at a hit, a line each; then the program goes on
    only: tuple[str, ...] = ()  # functions and libraries whose accesses count
    without: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether a hit does more than to stop, or not each counts."""
        return bool(self.log is not None or self.do or self.only or self.without)


def _option(word: str) -> str:
    """The option that ``word`` stands for, cut short or not."""
    if word in OPTIONS:
        return word
    found = [name for name in OPTIONS if name.startswith(word)]
    if len(found) == 1 or found == ["-location", "-log"]:
        return found[0]  # `-lo` is gdb's own
    if found:
        raise UsageError(f"{word}: ambiguous option; it may be {', '.join(found)}.")
    raise UsageError(
        f"Unrecognized option {word}; kwatch takes {', '.join(OPTIONS)}, and -- ends options."
    )


def outermost(text: str) -> list[int]:
    """The places in ``text`` outside of brackets and quotes.  A quote that nothing closes is none:
    Rust's ``'a``, Ada's ``x'first``."""
    places, depth, i = [], 0, 0
    while i < len(text):
        char = text[i]
        quoted = _QUOTED.match(text, i)
        if quoted:
            i = quoted.end()
            continue
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth = max(depth - 1, 0)
        elif depth == 0:
            places.append(i)
        i += 1
    return places


def _cut_condition(text: str) -> tuple[str, str | None]:
    outside = set(outermost(text))
    for match in _IF.finditer(text):
        if match.start() in outside:
            return text[: match.start()].strip(), text[match.end() :].strip()
    return text.strip(), None


def _cut_thread(text: str) -> tuple[str, dict[str, str]]:
    match = _THREAD.search(text)
    if match is None or match.start(1) not in outermost(text):
        return text, {}
    return text[: match.start()].strip(), {match.group(1): match.group(2)}


def _cut_word(text: str) -> tuple[str, str]:
    """The first word, and the rest."""
    word, *rest = text.split(None, 1)
    return word, rest[0] if rest else ""


def _cut_quoted(name: str, text: str) -> tuple[str, str]:
    """A string in quotes, or the first word; and the rest."""
    quoted = _QUOTED.match(text)
    if quoted is None:
        if text[0] in "'\"":
            raise UsageError(f"{name}: a quote is not closed: {text}")
        return _cut_word(text)
    inside = re.sub(r"\\(.)", r"\1", quoted.group()[1:-1])
    return inside, text[quoted.end() :].strip()


def cut_code(name: str, text: str) -> tuple[str, str]:
    """The function or library after an option, and the rest: in quotes, or up to a blank outside
    of brackets."""
    if text[0] in "'\"":
        return _cut_quoted(name, text)
    depth = 0
    for at, char in enumerate(text):
        if char in "(<":
            depth += 1
        elif char in ")>":
            depth -= 1
        elif char.isspace() and not depth:
            return text[:at], text[at:].lstrip()
    return (text, "") if not depth else _cut_word(text)


def code_word(name: str) -> str:
    """As a word that `cut_code` takes."""
    return name if name and cut_code("", f"{name} a") == (name, "a") else quoted(name)


def quoted(text: str) -> str:
    """As a string that `parse` takes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(line: str) -> Request:
    """What a ``kwatch`` line asks for.  Raises UsageError."""
    rest = line.strip()
    access: str | None = None
    on: set[str] = set()
    values: dict[str, str] = {}
    code: dict[str, list[str]] = {"-from": [], "-not-from": []}
    while rest.startswith("-"):
        word, tail = _cut_word(rest)
        if word == "--":
            rest = tail
            break
        if re.match(r"-\d", word) or word == "-":
            break  # a negative number: gdb will say what it thinks of watching that
        name = _option(word)
        rest = tail
        if name in _ARGUMENTS:
            if not rest:
                raise UsageError(f"{name} requires an argument: {_ARGUMENTS[name]}.")
            if name in code:
                value, rest = cut_code(name, rest)
                code[name].append(value)
            elif name in ("-log", "-do"):
                values[name], rest = _cut_quoted(name, rest)
            else:
                values[name], rest = _cut_word(rest)
        elif name in ("-w", "-a", "-r"):
            asked = {"-w": "write", "-a": "access", "-r": "read"}[name]
            if access not in (None, asked):
                raise UsageError("Only one of -w, -a and -r can be given.")
            access = asked
        else:
            on.add("-location" if name == "-l" else name)
    expression, condition = _cut_condition(rest)
    expression, where = _cut_thread(expression)
    if condition is not None and not where:
        condition, where = _cut_thread(condition)
    if condition == "":
        raise UsageError("A condition is missing after `if'.")
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
        "-k" in on,
        values.get("-size"),
        where.get("thread"),
        where.get("task"),
        condition,
        values.get("-p", "normal"),
        "-g" in on,
        values.get("-log"),
        "\n".join(part.strip() for part in values["-do"].split(";")) if "-do" in values else None,
        tuple(code["-from"]),
        tuple(code["-not-from"]),
    )
