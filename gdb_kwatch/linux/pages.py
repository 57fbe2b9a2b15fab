"""Pages of a process that it has not touched yet are not there for the kernel's programs, which may
take no page fault (``copy_from_user_nofault``); a read through /proc/PID/mem has them be there."""

from __future__ import annotations

import os
from collections.abc import Iterable

PAGE = 4096
MOST = 16 << 20  # bytes at a time


def have_there(pid: int, places: Iterable[tuple[int, int]]) -> None:
    """Read a byte of each page of these places, (address, length).  Never raises: what is not
    there is told by who asks for it."""
    left = MOST // PAGE
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except OSError:
        return
    try:
        for address, length in places:
            first = address // PAGE
            last = (address + max(length, 1) - 1) // PAGE
            for page in range(first, min(last + 1, first + left)):
                left -= 1
                try:
                    os.pread(memory, 1, page * PAGE)
                except (OSError, OverflowError):
                    break  # the rest of it is no memory either
    finally:
        os.close(memory)
