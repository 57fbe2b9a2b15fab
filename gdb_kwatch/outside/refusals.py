"""What gdb says when a system will not let it trace or watch, and what the user can do about it."""

from __future__ import annotations

import re

KNOWN = (
    (
        # gdb/inf-ptrace.c, gdb/nat/fork-inferior.c; seen in containers without SYS_PTRACE
        r"Could not trace the inferior process|ptrace: Operation not permitted"
        r"|During startup program exited with code 127",
        "This system does not let gdb trace programs (ptrace is refused). In a container, start it "
        "with `--cap-add=SYS_PTRACE --security-opt seccomp=unconfined`; elsewhere see "
        "`sysctl kernel.yama.ptrace_scope` (3 forbids all tracing).",
    ),
    (
        # gdb/nat/x86-linux-dregs.c
        r"Couldn't (read|write) debug (register|status|control)|Could not insert hardware",
        "The debug registers are refused: another debugger or a perf breakpoint holds them, or the "
        "hypervisor or sandbox this runs in does not offer them.",
    ),
    (
        r"SIGILL",
        "This processor does not have the 32-byte stores (AVX) that the demo makes.",
    ),
    (
        r"^Watchpoint \d+:",
        "gdb made software watchpoints: hardware watchpoints are off or not offered here.",
    ),
)


def known(transcript: str) -> str | None:
    """The first known reason that `transcript` shows."""
    found = (text for words, text in KNOWN if re.search(words, transcript, re.MULTILINE))
    return next(found, None)
