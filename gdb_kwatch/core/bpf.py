"""A small assembler for BPF programs: instructions as tables with the names of linux/bpf.h, and
labels.  It knows no gdb and no kernel; the maps that a program uses have names here, and become
file descriptors when it is assembled.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Union

# bpf_insn: code, dst_reg and src_reg (4 bits each), off, imm.
_INSN = struct.Struct("<BBhi")

# Instruction classes (BPF_CLASS).
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)

# Sizes of loads and stores (BPF_SIZE), by bytes.
SIZES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}  # W, H, B, DW
IMM, MEM, ATOMIC = 0x00, 0x60, 0xC0  # modes (BPF_MODE)

# Arithmetic (BPF_OP of ALU and ALU64).
OPERATIONS = {
    "add": 0x00,
    "sub": 0x10,
    "mul": 0x20,
    "div": 0x30,  # unsigned; by 0 gives 0
    "or": 0x40,
    "and": 0x50,
    "lsh": 0x60,
    "rsh": 0x70,
    "neg": 0x80,
    "mod": 0x90,  # unsigned; by 0 leaves the dividend
    "xor": 0xA0,
    "mov": 0xB0,
    "arsh": 0xC0,
}

# Jumps (BPF_OP of JMP and JMP32); those with s compare signed numbers.
JUMPS = {
    "ja": 0x00,
    "eq": 0x10,
    "gt": 0x20,
    "ge": 0x30,
    "set": 0x40,
    "ne": 0x50,
    "sgt": 0x60,
    "sge": 0x70,
    "call": 0x80,
    "exit": 0x90,
    "lt": 0xA0,
    "le": 0xB0,
    "slt": 0xC0,
    "sle": 0xD0,
}
K, X = 0x00, 0x08  # the source is the immediate, or a register

# Atomic operations, in the immediate of STX | ATOMIC; those that fetch are new in Linux 5.12.
FETCH = 0x01
ATOMICS = {"add": 0x00, "fetch_add": FETCH, "xchg": 0xE0 | FETCH, "cmpxchg": 0xF0 | FETCH}

# What BPF_LD | BPF_IMM | BPF_DW means by its src_reg.
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE = 1, 2

# Helper functions (enum bpf_func_id), and the kernel that has them first.
HELPERS = {
    "map_lookup_elem": 1,
    "ktime_get_ns": 5,
    "get_smp_processor_id": 8,
    "get_current_pid_tgid": 14,
    "get_current_task": 35,  # 4.8
    "get_stack": 67,  # 4.18
    "probe_read_user": 112,  # 5.5
    "probe_read_kernel": 113,  # 5.5
    "send_signal_thread": 117,  # 5.6
    "get_ns_current_pid_tgid": 120,  # 5.7
    "ringbuf_output": 130,  # 5.8
    "ringbuf_reserve": 131,
    "ringbuf_submit": 132,
    "get_current_task_btf": 158,  # 5.11
    "task_pt_regs": 175,  # 5.15
}
F_USER_STACK = 1 << 8  # get_stack: the user's, not the kernel's
NO_WAKEUP = 1  # ringbuf_submit: nobody sleeps on the ring

# struct pt_regs of x86-64, which is the start of struct bpf_perf_event_data, by name.
PT_REGS = {
    name: 8 * n
    for n, name in enumerate(
        (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
            *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax"),
            *("rip", "cs", "eflags", "rsp", "ss"),
        )
    )
}
SAMPLE_PERIOD, ADDR = 168, 176

STACK = 512  # bytes below r10
LIMIT = 4096  # instructions, before Linux 5.2 and for those without CAP_BPF


class Register(int):
    """R0 to R10, told from a number by its type."""

    def __repr__(self) -> str:
        return f"r{int(self)}"


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = map(Register, range(11))
Operand = Union[Register, int]


class AssemblyError(ValueError):
    """A program that cannot be assembled: a jump too far, a number too big, no such label."""


def _fits(value: int, bits: int) -> bool:
    return -(1 << bits - 1) <= value < 1 << bits - 1


class Program:
    """Instructions in the order in which they are asked for; each method appends one."""

    def __init__(self) -> None:
        # code, dst, src, off, imm; a label as off, or a map as imm, is filled in at the end.
        self._insns: list[tuple[int, int, int, int | str, int | str]] = []
        self._labels: dict[str, int] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._insns)

    def _add(self, code: int, dst: int, src: int, off: int | str, imm: int | str) -> None:
        if isinstance(off, int) and not _fits(off, 16):
            raise AssemblyError(f"offset {off} does not fit into 16 bits")
        if isinstance(imm, int) and not _fits(imm, 32):
            raise AssemblyError(f"immediate {imm} does not fit into 32 bits")
        self._insns.append((code, dst, src, off, imm))

    # Arithmetic.

    def alu(self, operation: str, dst: Register, source: Operand = 0, size: int = 8) -> None:
        """``dst operation= source``, on 8 or 4 bytes; on 4 the upper half becomes 0."""
        code = (ALU64 if size == 8 else ALU) | OPERATIONS[operation]
        if isinstance(source, Register):
            self._add(code | X, dst, source, 0, 0)
        else:
            self._add(code | K, dst, 0, 0, source)

    def mov(self, dst: Register, source: Operand, size: int = 8) -> None:
        """A register, or a number of any size."""
        if isinstance(source, Register) or _fits(source, 32):
            self.alu("mov", dst, source, size)
        else:
            self.number(dst, source)

    def number(self, dst: Register, value: int, pseudo: int = 0) -> None:
        """``dst = value``, 64 bits: two instructions."""
        value &= (1 << 64) - 1
        low, high = value & 0xFFFFFFFF, value >> 32
        self._add(LD | IMM | SIZES[8], dst, pseudo, 0, _signed32(low))
        self._add(0, 0, 0, 0, _signed32(high))

    def map(self, dst: Register, name: str) -> None:
        """``dst`` = the map of that name, for a helper."""
        self._add(LD | IMM | SIZES[8], dst, PSEUDO_MAP_FD, 0, name)
        self._add(0, 0, 0, 0, 0)

    def map_value(self, dst: Register, name: str, offset: int = 0) -> None:
        """``dst`` = a place in the value of a map that is an array of one (Linux 5.2)."""
        self._add(LD | IMM | SIZES[8], dst, PSEUDO_MAP_VALUE, 0, name)
        self._add(0, 0, 0, 0, offset)

    def extend(self, register: Register, size: int, signed: bool) -> None:
        """Make the low ``size`` bytes of a register its whole value."""
        if size == 8:
            return
        if size == 4 and not signed:
            self.alu("mov", register, register, 4)
            return
        self.alu("lsh", register, 64 - 8 * size)
        self.alu("arsh" if signed else "rsh", register, 64 - 8 * size)

    # Memory.

    def load(self, dst: Register, base: Register, offset: int, size: int = 8) -> None:
        """``dst = *(base + offset)``, zero-extended."""
        self._add(LDX | MEM | SIZES[size], dst, base, offset, 0)

    def store(self, base: Register, offset: int, source: Operand, size: int = 8) -> None:
        """``*(base + offset) = source``."""
        if isinstance(source, Register):
            self._add(STX | MEM | SIZES[size], base, source, offset, 0)
        else:
            self._add(ST | MEM | SIZES[size], base, 0, offset, source)

    def atomic(
        self, operation: str, base: Register, offset: int, source: Register, size: int = 8
    ) -> None:
        """``add``: no answer; ``fetch_add`` and ``xchg``: the old value into ``source``;
        ``cmpxchg``: compare with r0, the old value into r0."""
        self._add(STX | ATOMIC | SIZES[size], base, source, offset, ATOMICS[operation])

    # Control.

    def call(self, helper: str) -> None:
        """r0 = helper(r1 … r5); r1 to r5 are lost."""
        self._add(JMP | JUMPS["call"], 0, 0, 0, HELPERS[helper])

    def jump(self, label: str) -> None:
        self._add(JMP | JUMPS["ja"], 0, 0, label, 0)

    def jump_if(
        self, comparison: str, left: Register, right: Operand, label: str, size: int = 8
    ) -> None:
        code = (JMP if size == 8 else JMP32) | JUMPS[comparison]
        if isinstance(right, Register):
            self._add(code | X, left, right, label, 0)
        else:
            self._add(code | K, left, 0, label, right)

    def exit(self) -> None:
        self._add(JMP | JUMPS["exit"], 0, 0, 0, 0)

    def label(self, name: str) -> None:
        """The next instruction's name."""
        if name in self._labels:
            raise AssemblyError(f"label {name} is given twice")
        self._labels[name] = len(self._insns)

    def new_label(self) -> str:
        """A name that no other label has."""
        self._made += 1
        return f".{self._made}"

    def goes_to(self, label: str) -> bool:
        """Whether some jump so far leads there: the verifier takes no code that none reaches."""
        return any(off == label for _, _, _, off, _ in self._insns)

    # The end.

    def assemble(self, maps: Mapping[str, int] | None = None) -> bytes:
        """The instructions as the kernel takes them; ``maps`` has the file descriptors."""
        code = bytearray()
        for place, (opcode, dst, src, off, imm) in enumerate(self._insns):
            if isinstance(off, str):
                if off not in self._labels:
                    raise AssemblyError(f"there is no label {off}")
                off = self._labels[off] - place - 1
                if not _fits(off, 16):
                    raise AssemblyError(f"a jump of {off} instructions is too far")
            if isinstance(imm, str):
                if maps is None or imm not in maps:
                    raise AssemblyError(f"there is no map {imm}")
                imm = maps[imm]
            code += _INSN.pack(opcode, dst | src << 4, off, imm)
        return bytes(code)


def current(program: Program, namespace: tuple[int, int] | None, scratch: int) -> None:
    """R0 = the process (upper half) and thread that run now, as ``namespace`` numbers them: device
    and inode of a PID namespace, None for the first one.  A task of another namespace has its
    numbers of the first.  ``scratch``: 8 bytes of the stack, from R10."""
    if namespace is None:
        program.call("get_current_pid_tgid")
        return
    other, done = program.new_label(), program.new_label()
    program.number(R1, namespace[0])
    program.number(R2, namespace[1])
    program.mov(R3, R10)
    program.alu("add", R3, scratch)
    program.mov(R4, 8)
    program.call("get_ns_current_pid_tgid")
    program.jump_if("ne", R0, 0, other)
    program.load(R0, R10, scratch)
    program.jump(done)
    program.label(other)
    program.call("get_current_pid_tgid")
    program.label(done)


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
