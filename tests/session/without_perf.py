"""Runs a command to which perf_event_open is refused: `python3 FILE COMMAND...`, as
`without_ptrace` does for ptrace."""

from __future__ import annotations

import without_ptrace

SYS_PERF_EVENT_OPEN = 298  # x86-64

if __name__ == "__main__":
    without_ptrace.main(SYS_PERF_EVENT_OPEN)
