"""Inside gdb: each condition of a table over one round of a fixture's writes.

Sourced by test_users_conditions.py with COMMAND (watch or kwatch) and ROWS set.  `answer(N)` tells
of a row who tested it, what gdb said in error, and at which steps the program stopped.
"""

from __future__ import annotations

import json
import re

import gdb

_ERROR = re.compile(r"^(?:Error in testing .*\n.*|warning: .*|Watchpoint condition .*)$", re.M)


def of_kwatch(number: int) -> dict[str, object]:
    listed = json.loads(gdb.execute("kwatch list -json", to_string=True))
    (mine,) = (row for row in listed if row["number"] == number)
    return mine


def over_a_round(command: str, watched: str, condition: str, ignored: int) -> dict[str, object]:
    answer: dict[str, object] = {"who": ""}
    gdb.execute(f"{command} {watched} if {condition}", to_string=True)
    number = int(gdb.convenience_variable("bpnum"))
    if command == "kwatch":
        answer["who"] = of_kwatch(number)["judged"]
    if ignored:
        gdb.execute(f"ignore {number} {ignored}", to_string=True)
    steps, errors = [], []
    while True:
        out = gdb.execute("continue", to_string=True)
        found = _ERROR.search(out)
        if gdb.selected_frame().name().startswith("round_over"):
            break
        steps.append(int(gdb.parse_and_eval("step")))
        said = found.group().split("\n")[-1] if found else ""
        errors.append(re.sub(r"process \d+", "the process", said))
        if len(steps) > 40:
            break
    text = gdb.execute(f"info breakpoints {number}", to_string=True)  # gdb 10 has no object for it
    counts = re.findall(r"already hit (\d+) time|ignore next (\d+) hit", text)
    answer.update(steps=steps, errors=errors, counts=counts)
    if command == "kwatch":
        answer["hits"] = of_kwatch(number)["hits"]
    gdb.execute(f"delete {number}")
    return answer


def answer(n: int) -> None:
    """To be called from the prompt: with gdb 10, kwatch learns there what was deleted."""
    print("@" + json.dumps(over_a_round(COMMAND, *ROWS[n])))  # noqa: F821 - set by who sources this
