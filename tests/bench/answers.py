"""What the two sides of a measurement share: the line in which one inside a debugger answers, and
the kernel's count of a program's stops.

Imported outside, inside gdb and inside LLDB; knows none of them.
"""

from __future__ import annotations

import json
from typing import Any

_MARK = "kwatch-bench: "


def line(**facts: Any) -> str:
    """The answer, on a line of its own whatever the debugger has printed before it."""
    return f"\n{_MARK}{json.dumps(facts)}\n"


def found(output: str) -> dict[str, Any] | None:
    """The last answer in all that a debugger printed; None where there is none."""
    answer = None
    for text in output.splitlines():
        if text.startswith(_MARK):
            answer = json.loads(text[len(_MARK) :])
    return answer


def stops(pid: int) -> int:
    """How often the program has given up the CPU by itself; each stop for its tracer is one such
    time (``ptrace_stop`` calls ``schedule``), whoever traces it."""
    return _status(pid, "voluntary_ctxt_switches:")


def resident(pid: int | str = "self") -> int:
    """Resident memory in kilobytes."""
    return _status(pid, "VmRSS:")


def peak(pid: int | str = "self") -> int:
    """The most that it ever was, in kilobytes."""
    return _status(pid, "VmHWM:")


def _status(pid: int | str, field: str) -> int:
    with open(f"/proc/{pid}/status") as status:
        for text in status:
            if text.startswith(field):
                return int(text.split()[1])
    raise LookupError(f"/proc/{pid}/status has no {field}")
