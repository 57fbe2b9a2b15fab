"""Priorities, and the policies that admit a request of all programs beside those of single ones.

The three policies are those that the authors of Linux's kwatch weighed in 2007 for kernel-wide
breakpoints beside those of single threads; here a program stands where a thread stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .debugreg import SLOTS

BACKGROUND, NORMAL, NATIVE, BREAK_NATIVE = 0, 16, 128, 192
PRIORITIES = {
    "background": BACKGROUND,
    "normal": NORMAL,
    "native": NATIVE,
    "break-native": BREAK_NATIVE,
}
HIGHEST = 255

EXACT, HIGH_WATER, SIMPLE = "exact", "high-water", "simple"
POLICIES = (EXACT, HIGH_WATER, SIMPLE)

UNUSED = -1


def priority_of(text: str) -> int:
    """The priority that a user's word means: a name, or an integer from 0 to 255."""
    word = text.strip().lower()
    if word in PRIORITIES:
        return PRIORITIES[word]
    if not (word.isascii() and word.isdigit()) or int(word) > HIGHEST:
        raise ValueError(
            f"priority {text.strip()!r} is none of {', '.join(PRIORITIES)}, "
            f"nor a number from 0 to {HIGHEST}"
        )
    return int(word)


def priority_name(priority: int) -> str:
    """The name of a priority where it has one, else the number."""
    for name, value in PRIORITIES.items():
        if value == priority:
            return name
    return str(priority)


def level(policy: str, priority: int, single: bool) -> int:
    """The place of a request in the order of judgement, higher first, under ``policy``.

    It is the priority; but under `simple` single programs come before the requests of all programs
    that have less than break-native.
    """
    if policy == SIMPLE and (single or priority >= BREAK_NATIVE):
        return priority + HIGHEST + 1
    return priority


class Marks:
    """The high-water marks: for each slot rank the highest priority ever seen at it.

    Sort the slots that single-program requests hold in one program by priority, highest first: the
    k-th is of rank k.  A mark goes up with what is seen in any live program, and not down until no
    live program uses that rank: then it is reset.  Four numbers, however many programs there are.
    """

    def __init__(self) -> None:
        self.marks = [UNUSED] * SLOTS

    def raise_to(self, priorities: Sequence[int]) -> None:
        """Seen in one program: the priorities of its slots, highest first."""
        for rank, priority in enumerate(priorities[:SLOTS]):
            self.marks[rank] = max(self.marks[rank], priority)

    def reset_above(self, used: int) -> bool:
        """No live program uses more than ``used`` ranks now.  Was any mark reset?"""
        unused = [UNUSED] * len(self.marks[used:])
        changed = self.marks[used:] != unused
        self.marks[used:] = unused
        return changed

    def counted(self, policy: str, priority: int) -> int:
        """How many ranks count against a request of all programs with ``priority``."""
        if policy == EXACT:
            return 0
        if policy == SIMPLE and priority < BREAK_NATIVE:
            return sum(mark != UNUSED for mark in self.marks)
        return sum(mark >= priority for mark in self.marks)


def admits(
    policy: str,
    priority: int,
    rooms: Iterable[tuple[int, int, int, int]],
    marks: Marks,
) -> bool:
    """May a request of all programs with ``priority`` be installed, rule 4 alone?

    ``rooms`` has for each live program: its slots that are not foreign; those in use by this one
    and those judged before it under `exact`; the same under `simple`; those in use by it and the
    requests of all programs judged before it.  A number is 0 where this request adds no slot.

    What `simple` admits `high-water` admits, and what that admits `exact` admits: fewer are judged
    before a request of all programs under `exact` than under `simple`, and no rank is marked with
    its priority that is not marked at all.
    """
    counted = marks.counted(policy, priority)
    for capacity, exact, simple, common in rooms:
        if (simple if policy == SIMPLE else exact) > capacity:
            return False
        if common and common + counted > capacity and policy != EXACT:
            return False
    return True
