"""The general registers of a stopped LWP, and the signal that it stopped with, through ptrace(2).

For the calling thread alone, as everything in `ptrace`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

from . import ptrace

_GETREGS = 12
_GETSIGINFO = 0x4202

# struct user_regs_struct (sys/user.h): 27 words in this order.
_ORDER = """
r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
fs_base gs_base ds es fs gs
"""
_NAMES = _ORDER.split()
_FORMAT = f"<{len(_NAMES)}Q"
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_ARGUMENTS_I386 = ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
USER32_CS = 0x23

# si_code of a signal that F_SETSIG asked for (``send_sigio_to_task``), from asm-generic/siginfo.h.
POLL_CODES = range(1, 7)


class UserRegisters(NamedTuple):
    """All of them, by name."""

    values: dict[str, int]

    @property
    def rip(self) -> int:
        return self.values["rip"]

    @property
    def rax(self) -> int:
        return self.values["rax"]

    @property
    def orig_rax(self) -> int:
        """The number of the system call that the thread made; negative where it stopped
        otherwise."""
        return self.values["orig_rax"]

    @property
    def is_32bit(self) -> bool:
        return self.values["cs"] == USER32_CS

    def arguments(self, i386: bool = False) -> tuple[int, ...]:
        """The six arguments of a system call."""
        names = _ARGUMENTS_I386 if i386 else _ARGUMENTS
        mask = (1 << (32 if i386 else 64)) - 1
        return tuple(self.values[name] & mask for name in names)


class SignalInfo(NamedTuple):
    """What a signal is about: its number, si_code, si_fd where that has one, and the process that
    has sent it where one has."""

    number: int
    code: int
    fd: int
    sender: int = 0


def read(lwp: int) -> UserRegisters:
    """Raises OSError as `ptrace.debug_registers`."""
    buffer = ctypes.create_string_buffer(struct.calcsize(_FORMAT))
    if ptrace.call(_GETREGS, lwp, None, ctypes.addressof(buffer)) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"LWP {lwp}")
    return UserRegisters(dict(zip(_NAMES, struct.unpack(_FORMAT, buffer.raw))))


def signal_info(lwp: int) -> SignalInfo:
    """The signal with which a thread has stopped.  Raises OSError as `read`."""
    buffer = ctypes.create_string_buffer(128)
    if ptrace.call(_GETSIGINFO, lwp, None, ctypes.addressof(buffer)) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"LWP {lwp}")
    number, _, code, _, sender, _, fd = struct.unpack_from("<iiiiiii", buffer)
    return SignalInfo(number, code, fd if code in POLL_CODES else -1, sender if code <= 0 else 0)
