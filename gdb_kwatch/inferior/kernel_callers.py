"""Who called the kernel for a recorded access: told from words of the stack as they were then.

The kernel notes the program counter, behind the `syscall` instruction; that is in the C library as
a rule.  Frame pointers miss its callers: such functions make no frames.  But a return address
stands on the stack, behind what the function itself has pushed, and its code tells how much.
In the C library one calls another: read() has the kernel called three calls below it in glibc 2.41
(`__syscall_cancel_arch`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import gdb

from .caller import in_system_library
from .machine_code import symbol_of

_WORD = 8
_MOST_CODE = 4096  # bytes of such a function
_NUMBER = r"\$?(-?0x[0-9a-f]+|-?\d+)"
# AT&T's and Intel's way of writing it.
_MOVES = re.compile(rf"(sub|add)q?\s+(?:{_NUMBER},\s*%rsp|rsp,\s*{_NUMBER})\s*$")
_PUSH, _POP = re.compile(r"push"), re.compile(r"pop")
_JUMP = re.compile(r"(?:(?:bnd|notrack)\s+)?(j\w+)\s+(0x[0-9a-f]+)")
_ENDS = re.compile(r"(?:(?:bnd|repz?|notrack)\s+)?(ret|hlt|ud2|leave|jmp\w*\s+\*)")
_OTHERWISE = re.compile(r"(?:mov|lea|and|xchg)\S*\s+(?:.*,\s*%rsp|rsp,.*)$")


def callers(ip: int, top: Sequence[int], stack: Sequence[int]) -> list[int]:
    """The chain of a system call, innermost first: ``ip``, the return addresses that stand in
    ``top`` (the words at the stack pointer), and what frame pointers tell of those behind."""
    back = list(_return_addresses(ip, top))
    return [ip, *back, *(frame for frame in stack[1:] if frame not in back)]


def outside_libraries(chain: Sequence[int]) -> int:
    """The first of a chain that is the program's own code, with a source line if any has; the
    innermost where none is."""
    own = [ip for ip in chain if symbol_of(ip) is not None and not in_system_library(ip)]
    return next((ip for ip in own if _has_line(ip)), own[0] if own else chain[0])


def _has_line(ip: int) -> bool:
    place = gdb.find_pc_line(ip - 1)
    return place.symtab is not None and bool(place.line)


def _return_addresses(ip: int, top: Sequence[int]) -> Iterator[int]:
    """Up to the first outside of the C library; none where it cannot be told."""
    at = 0
    while True:
        depth = _pushed(ip)
        if depth is None or depth % _WORD or depth < 0:
            return
        at += depth // _WORD
        if at >= len(top) or not top[at]:
            return
        ip = top[at]
        yield ip
        if not in_system_library(ip):
            return
        at += 1


def _pushed(ip: int) -> int | None:
    """Bytes on the stack above the return address, at ``ip``."""
    symbol = symbol_of(ip - 1)
    if symbol is None or symbol[1] > _MOST_CODE:
        return None
    start = ip - 1 - symbol[1]
    try:
        # Slow ways stand behind the end of the quick one, and may jump back.
        lines = gdb.selected_inferior().architecture().disassemble(start, start + _MOST_CODE)
    except (gdb.error, gdb.MemoryError, AttributeError):
        return None
    code = {line["addr"]: line for line in lines}
    seen: dict[int, int] = {}
    todo = [(start, 0)]
    while todo:
        at, depth = todo.pop()
        while at in code and at not in seen:
            if at == ip:
                return depth
            seen[at] = depth
            line = code[at]
            text = line["asm"]
            if _ENDS.match(text) or _OTHERWISE.match(text):
                break
            depth += _change(text)
            jump = _JUMP.match(text)
            if jump:
                todo.append((int(jump.group(2), 16), depth))
                if jump.group(1).startswith("jmp"):
                    break
            at += line["length"]
    return None


def _change(text: str) -> int:
    moved = _MOVES.match(text)
    if moved:
        number = int(moved.group(2) or moved.group(3), 0)
        return number if moved.group(1) == "sub" else -number
    return _WORD if _PUSH.match(text) else -_WORD if _POP.match(text) else 0


def program_ranges(pid: int) -> Iterator[tuple[int, int]]:
    """The code of a process that is no system library's."""
    with open(f"/proc/{pid}/maps") as lines:
        for line in lines:
            fields = line.split(None, 5)
            if len(fields) > 5 and "x" in fields[1] and fields[5].startswith("/"):
                start, end = (int(text, 16) for text in fields[0].split("-"))
                if not in_system_library(start):
                    yield start, end
