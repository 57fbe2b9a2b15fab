"""Who made a system call: the innermost frame that is the program's own, libraries skipped."""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple

import gdb

from . import programs

# glibc's, musl's and the kernel's own.
_SYSTEM = re.compile(
    r"(libc|libpthread|librt|libm|libdl|libresolv|libnss_\w+|libio|ld|ld-linux(-x86-64)?|ld-musl\S*)"
    r"([-.].*)?\.so|linux-(vdso|gate)|\[vdso\]"
)
_MOST_FRAMES = 64
_AT_ENTRY = 9  # linux/auxvec.h
_SCRATCH = 64  # bytes: two buffers of 16 since gdb 11, behind room for a breakpoint
SYSTEM_CALLS = {b"\x0f\x05": "syscall", b"\xcd\x80": "int $0x80", b"\x0f\x34": "sysenter"}


class Caller(NamedTuple):
    """The place in the program from where the kernel was called."""

    pc: int
    function: str | None = None
    fullname: str | None = None
    line: int | None = None
    instruction: str = ""


def system_call_before(pc: int) -> str:
    """The instruction just before ``pc`` if it makes a system call, else ""."""
    try:
        code = bytes(gdb.selected_inferior().read_memory(pc - 2, 2))
    except (gdb.error, gdb.MemoryError):
        return ""
    return SYSTEM_CALLS.get(code, "")


def in_system_library(pc: int) -> bool:
    """Whether an address is in the C library, the dynamic loader or the vdso."""
    name = programs.selected().solib_name(pc)
    return name is not None and _SYSTEM.match(os.path.basename(name)) is not None


def in_scratch_area(pc: int, pid: int) -> bool:
    """Whether gdb steps copies of instructions over breakpoints there ("displaced stepping"): at
    the program's entry, which has run once and for all (``linux_displaced_step_prepare``)."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            pairs = dict(struct.iter_unpack("<QQ", file.read()))
    except (OSError, struct.error):
        return False  # gone, or a 32-bit program
    entry = pairs.get(_AT_ENTRY)
    return entry is not None and entry <= pc < entry + _SCRATCH


def user_frame() -> gdb.Frame | None:
    """The innermost frame of the selected thread that is no system library's: the first that has
    a source line; where none has, the first one."""
    first: gdb.Frame | None = None
    try:
        frame: gdb.Frame | None = gdb.newest_frame()
        for _ in range(_MOST_FRAMES):
            if frame is None:
                break
            if frame.type() != gdb.SIGTRAMP_FRAME and not in_system_library(frame.pc()):
                first = first or frame
                place = frame.find_sal()
                if place.symtab is not None and place.line:
                    return frame
            frame = frame.older()
    except gdb.error:
        pass  # no registers, or a damaged stack
    return first


def caller(instruction: str) -> Caller | None:
    """Where the selected thread called the kernel from, by ``instruction``; None where no frame
    can be told."""
    frame = user_frame()
    if frame is None:
        return None
    place = frame.find_sal()
    name = frame.name()
    if place.symtab is None or not place.line:
        return Caller(frame.pc(), name, instruction=instruction)
    return Caller(frame.pc(), name, place.symtab.fullname(), place.line, instruction)


def in_signal_handler_start() -> bool:
    """Whether the selected thread stands at the first instruction of a signal handler."""
    try:
        frame = gdb.newest_frame()
        older = frame.older()
        return older is not None and older.type() == gdb.SIGTRAMP_FRAME
    except gdb.error:
        return False
