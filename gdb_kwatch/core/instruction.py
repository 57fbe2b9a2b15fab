"""One x86 instruction, as gdb prints it: which memory it touches, told from the trap after it.

A data watchpoint's trap is delivered when the instruction has ended (Intel SDM vol. 3B, "Data
Memory and I/O Breakpoint Exception Conditions"), so `memory_accesses` works backwards: it takes the
registers as the instruction left them, undoes what the instruction is known to have done to them,
and answers None for an address whose registers are lost.

Both of gdb's syntaxes are read, AT&T and Intel: the user's `set disassembly-flavor` is then never
touched. Inside, everything is in AT&T's order, the destination last. Pure: text and numbers only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Union

__all__ = [
    "Immediate",
    "Instruction",
    "Memory",
    "MemoryAccess",
    "Port",
    "Register",
    "Target",
    "full_name",
    "memory_accesses",
    "parse",
]

# How far behind the string registers a `rep` may have touched memory since the last trap: with
# fast strings a trap comes after the whole 64-byte group (seen: Xeon of 2023, rep stosb and rep
# movsb; a descending copy and an unaligned movsq trap after each element).
REP_GROUP = 64


class Register(NamedTuple):
    """A register operand, by the name gdb prints, without the `%`."""

    name: str


class Immediate(NamedTuple):
    """A constant operand."""

    value: int


class Target(NamedTuple):
    """The address that a direct jump or call goes to."""

    address: int


@dataclass(frozen=True)
class Port:
    """The `(%dx)` of in, out, ins and outs: no memory."""


@dataclass(frozen=True)
class Memory:
    """segment:displacement(base,index,scale); `size` in bytes where the text tells it, else 0."""

    segment: str = ""
    displacement: int = 0
    base: str = ""
    index: str = ""
    scale: int = 1
    size: int = 0


Operand = Union[Register, Immediate, Target, Port, Memory]


class MemoryAccess(NamedTuple):
    """A range of memory that an instruction touched.

    address: first byte, or None where the registers that would tell it are overwritten
    size: bytes; never less than what was touched, more where the text does not tell
    reads, writes: what the instruction may do there
    """

    address: int | None
    size: int
    reads: bool
    writes: bool

    def overlaps(self, address: int, length: int) -> bool | None:
        """Whether a byte of the region was touched; None where that cannot be told."""
        if self.address is None:
            return None
        return self.address < address + length and address < self.address + self.size


class Instruction(NamedTuple):
    """A parsed instruction.

    mnemonic: as printed, without prefixes
    root: the mnemonic without AT&T's size suffix, where the name is one that has rules here
    prefixes: as printed, in order (`lock`, `rep`, `repz`, `notrack`, `fs`, `data16`, ...)
    operands: in AT&T's order, the destination last
    """

    mnemonic: str
    root: str
    prefixes: tuple[str, ...]
    operands: tuple[Operand, ...]

    @property
    def memory(self) -> tuple[Memory, ...]:
        """The memory operands that are written in the text."""
        return tuple(one for one in self.operands if isinstance(one, Memory))

    @property
    def is_string(self) -> bool:
        # `cmps` and `movs` with an SSE suffix (movsd, cmpsd) have other names after normalising.
        return self.root in _STRING and bool(self.memory)

    @property
    def repeats(self) -> bool:
        """Whether this is a string instruction under a rep prefix."""
        return self.is_string and any(one.startswith("rep") for one in self.prefixes)

    @property
    def is_call(self) -> bool:
        return self.root == "call"

    @property
    def is_return(self) -> bool:
        return self.root == "ret"

    @property
    def is_jump(self) -> bool:
        """Whether this is an unconditional jump."""
        return self.root == "jmp"

    @property
    def is_system_call(self) -> bool:
        return self.root in ("syscall", "sysenter") or (
            self.root == "int" and self.operands == (Immediate(0x80),)
        )

    @property
    def falls_through(self) -> bool:
        """Whether the instruction after it, by address, can be the one that runs after it."""
        return self.root not in _NEVER_FALLS_THROUGH

    @property
    def target(self) -> int | None:
        """The address of a direct jump, branch or call."""
        for one in self.operands:
            if isinstance(one, Target):
                return one.address
        return None


# --- Rules, by mnemonic ---------------------------------------------------------------------------

_STRING = frozenset(("movs", "stos", "lods", "scas", "cmps", "ins", "outs"))
_NEVER_FALLS_THROUGH = frozenset(
    ("call", "jmp", "ret", "lcall", "ljmp", "lret", "iret", "sysret", "sysexit", "ud2", "hlt")
)
_PUSHES = frozenset(("push", "pushf", "pusha", "call", "lcall", "enter"))
_POPS = frozenset(("pop", "popf", "popa", "ret", "lret", "iret", "leave"))

# A memory operand that names an address only.
_NO_ACCESS = re.compile(
    r"lea$|nop$|prefetch|clflush|clwb$|cldemote$|bndmk$|bndc[lun]$|invlpg|v(gather|scatter)pf"
)
# The memory operand stands last, or alone, and is only read. x87 has a rule of its own.
_ONLY_READ = re.compile(
    r"(cmp|cmps|test|bt|push|call|jmp|lcall|ljmp|mul|imul|div|idiv|v?ldmxcsr|xrstor\w*|ver[rw]|"
    r"lldt|ltr|lmsw|l[gi]dt|ptwrite|umonitor|vmptrld|vmxon|vmclear|lods|outs|scas|xlat|bound)$"
)
_X87_STORE = re.compile(r"f(st|ist|bstp|nst|nsave|save|xsave)")
# Memory that is written is read as well; every other store only writes.
_READ_MODIFY_WRITE = frozenset(
    (
        "add",
        "or",
        "adc",
        "sbb",
        "and",
        "sub",
        "xor",
        "inc",
        "dec",
        "neg",
        "not",
        "rol",
        "ror",
        "rcl",
        "rcr",
        "shl",
        "shr",
        "sal",
        "sar",
        "shld",
        "shrd",
        "bts",
        "btr",
        "btc",
        "xchg",
        "xadd",
        "cmpxchg",
        "cmpxchg8b",
        "cmpxchg16b",
        "aadd",
        "aand",
        "aor",
        "axor",
        "arpl",
        "rstorssp",
        "clrssbsy",
    )
)
_WITHOUT_DESTINATION = frozenset(
    (
        "cmp",
        "test",
        "bt",
        "push",
        "call",
        "jmp",
        "lcall",
        "ljmp",
        "out",
        "outs",
        "ptwrite",
        "wrfsbase",
        "wrgsbase",
        "verr",
        "verw",
        "lldt",
        "ltr",
        "lmsw",
        "mul",
        "imul",
        "div",
        "idiv",
        "movdir64b",
        "enqcmd",
        "enqcmds",
    )
)
_SPOILS = {
    "mul": ("rax", "rdx"),
    "imul": ("rax", "rdx"),  # the form with one operand; the others name their destination
    "div": ("rax", "rdx"),
    "idiv": ("rax", "rdx"),
    "cmpxchg": ("rax",),
    "cmpxchg8b": ("rax", "rdx"),
    "cmpxchg16b": ("rax", "rdx"),
    "lods": ("rax",),
    "xlat": ("rax",),
    "pcmpistri": ("rcx",),
    "pcmpestri": ("rcx",),
    "vpcmpistri": ("rcx",),
    "vpcmpestri": ("rcx",),
    "leave": ("rbp",),
    "popa": ("rdi", "rsi", "rbp", "rbx", "rdx", "rcx", "rax"),
}
_BIT_STRING = frozenset(("bt", "bts", "btr", "btc"))
_SHIFTS = frozenset(("rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar", "shld", "shrd"))

# Names whose AT&T suffix is taken off. `f...` names never come here, nor SSE's movsd and cmpsd:
# only b, w, l and q are suffixes of integer instructions.
_SUFFIXED = (
    _STRING
    | _PUSHES
    | _POPS
    | _READ_MODIFY_WRITE
    | _WITHOUT_DESTINATION
    | {"lea", "nop", "xlat", "sysret", "sysexit"}
)

# Bytes, where neither suffix nor register says it. XSAVE's area has no fixed size: with AMX it is
# 11,008 bytes (CPUID leaf 0DH); a page and a half each is more than any has.
_SIZES = {
    "fxsave": 512,
    "fxsave64": 512,
    "fxrstor": 512,
    "fxrstor64": 512,
    "fnsave": 108,
    "fsave": 108,
    "frstor": 108,
    "fnstenv": 28,
    "fstenv": 28,
    "fldenv": 28,
    "cmpxchg8b": 8,
    "cmpxchg16b": 16,
    "movdir64b": 64,
    "enqcmd": 64,
    "enqcmds": 64,
    "lcall": 10,
    "ljmp": 10,
    "lds": 10,
    "les": 10,
    "lfs": 10,
    "lgs": 10,
    "lss": 10,
    "ldmxcsr": 4,
    "stmxcsr": 4,
    "movss": 4,
    "movsd": 8,
    "movd": 4,
    "movq": 8,
    "movlps": 8,
    "movhps": 8,
    "movlpd": 8,
    "movhpd": 8,
    "pextrb": 1,
    "pextrw": 2,
    "pextrd": 4,
    "pextrq": 8,
    "extractps": 4,
    "extractf128": 16,
    "extracti128": 16,
    "extractf32x4": 16,
    "extracti32x4": 16,
    "extractf64x2": 16,
    "extracti64x2": 16,
}
_XSAVE_AREA = 12288
_EXTENDING = re.compile(r"mov[sz]([bwl])[wlq]$")
_SCALAR = re.compile(r"(?!v?p|v?cvt).*s([sd])$")  # not pabsd, vpdpbusd
_SUFFIX_SIZE = {"b": 1, "w": 2, "l": 4, "q": 8}
_INTEL_SIZE = {
    "BYTE": 1,
    "WORD": 2,
    "DWORD": 4,
    "FWORD": 6,
    "QWORD": 8,
    "TBYTE": 10,
    "OWORD": 16,
    "XMMWORD": 16,
    "YMMWORD": 32,
    "ZMMWORD": 64,
}
_VECTOR_SIZE = {"mm": 8, "k": 8, "xmm": 16, "ymm": 32, "zmm": 64, "tmm": 1024}


# --- Registers ------------------------------------------------------------------------------------


def _name_registers() -> dict[str, tuple[str, int]]:
    """Every general register's name: its 64-bit name and its own size in bytes."""
    names: dict[str, tuple[str, int]] = {}
    for short in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"):
        names["r" + short] = ("r" + short, 8)
        names["e" + short] = ("r" + short, 4)
        names[short] = ("r" + short, 2)
        names[short + "l"] = ("r" + short, 1)
    for letter in "abcd":
        names[letter + "l"] = names[letter + "h"] = (f"r{letter}x", 1)
    for number in range(8, 32):
        full = f"r{number}"
        for suffix, size in (("", 8), ("d", 4), ("w", 2), ("b", 1), ("l", 1)):
            names[full + suffix] = (full, size)
    # An index that is spelled out though there is none.
    names["riz"] = ("", 8)
    names["eiz"] = ("", 4)
    return names


_REGISTERS = _name_registers()
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_OTHER_REGISTER = re.compile(r"([xyz]mm|tmm|mm|k|cr|db|dr|tr|bnd)\d+$|st(\(\d\))?$")


def full_name(name: str) -> str:
    """The 64-bit name of a general register (`rax` for `al` and `eax`), "" for any other."""
    return _REGISTERS.get(name, ("", 0))[0]


def _register_size(name: str) -> int:
    """Bytes, or 0 for a register that says nothing about the size of memory."""
    if name in _REGISTERS:
        return _REGISTERS[name][1]
    return _VECTOR_SIZE.get(name.rstrip("0123456789"), 0)


# --- Text to instruction --------------------------------------------------------------------------

_PREFIX = re.compile(
    r"(lock|rep|repz|repe|repnz|repne|xacquire|xrelease|bnd|notrack|data16|data32|addr16|addr32|"
    r"[cdefgs]s|rex(\.[WRXB]+)?|rex2(\.\w+)?|\{\w+\})$"
)
_COMMENT = re.compile(r"\s+#\s+0x[0-9a-f]+.*$")
_SYMBOL = re.compile(r"\s+<.*>$")
_DECORATION = re.compile(r"\{[^}]*\}")
_NUMBER = re.compile(r"-?(0x[0-9a-fA-F]+|\d+)$")
_ATT_REGISTER = re.compile(r"%[a-z][a-z0-9]*(\(\d\))?$")
_ATT_MEMORY = re.compile(
    r"(?:%([c-gs]s):)?(-?(?:0x[0-9a-fA-F]+|\d+))?"
    r"(?:\((?:%(\w+))?(?:,(?:%(\w+))?(?:,(\d+))?)?\))?$"
)
_INTEL_MEMORY = re.compile(
    r"(?:(\w+) (?:PTR|BCST) )?(?:([c-gs]s):)?(?:\[(.*)\]|(-?(?:0x[0-9a-fA-F]+|\d+)))$"
)
_BRANCH = re.compile(r"(call|jmp|j\w+|loop\w*|xbegin)$")


def parse(text: str, intel: bool = False) -> Instruction | None:
    """The instruction that `text` names, or None where it is none (`(bad)`) or not understood.

    text: as `gdb.Architecture.disassemble` gives it, comment and symbol included
    intel: whether `set disassembly-flavor` is intel
    """
    rest = _SYMBOL.sub("", _COMMENT.sub("", text.strip()))
    prefixes: list[str] = []
    while True:
        mnemonic, _, rest = rest.partition(" ")
        mnemonic = mnemonic.split(",")[0]  # jne,pn
        rest = rest.strip()
        if not (rest and _PREFIX.match(mnemonic)):
            break
        prefixes.append(mnemonic)
    if not re.match(r"[a-z][a-z0-9_.]*$", mnemonic):
        return None
    root = _root(mnemonic)
    if intel and "FWORD PTR" in rest and root in ("call", "jmp"):
        root = "l" + root
    read = _intel_operand if intel else _att_operand
    operands: list[Operand] = []
    for word in _split(rest):
        operand = read(root, word)
        if operand is None:
            return None
        operands.append(operand)
    if intel and root not in ("enter", "bound"):
        operands.reverse()
    return Instruction(mnemonic, root, tuple(prefixes), tuple(operands))


def _root(mnemonic: str) -> str:
    if mnemonic.startswith("retf"):  # Intel's name
        return "lret"
    if mnemonic not in _SUFFIXED and mnemonic[-1] in _SUFFIX_SIZE and mnemonic[:-1] in _SUFFIXED:
        return mnemonic[:-1]
    return mnemonic


def _split(text: str) -> list[str]:
    """Cut at commas that stand in no bracket, and take AVX-512's {decorations} off."""
    text = _DECORATION.sub("", text)
    words, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif letter == "," and not depth:
            words.append(text[start:at])
            start = at + 1
    words.append(text[start:])
    return [word.strip() for word in words if word.strip()]


def _number(text: str) -> int:
    return int(text, 16 if "x" in text else 10)


def _att_operand(root: str, word: str) -> Operand | None:
    if word.startswith("$"):
        return Immediate(_number(word[1:])) if _NUMBER.match(word[1:]) else None
    indirect = word.startswith("*")
    word = word.lstrip("*")
    if _ATT_REGISTER.match(word):
        return Register(word[1:])
    if not indirect and _BRANCH.match(root) and _NUMBER.match(word):
        return Target(_number(word))
    if word == "(%dx)":
        return Port()
    match = _ATT_MEMORY.match(word)
    if not match:
        return None
    segment, displacement, base, index, scale = match.groups()
    return Memory(
        segment or "", _number(displacement or "0"), base or "", index or "", int(scale or "1")
    )


def _intel_operand(root: str, word: str) -> Operand | None:
    if word in _REGISTERS or word in _SEGMENTS or _OTHER_REGISTER.match(word):
        return Port() if word == "dx" and root in ("in", "out", "ins", "outs") else Register(word)
    if _NUMBER.match(word):
        value = _number(word)
        return Target(value) if _BRANCH.match(root) else Immediate(value)
    match = _INTEL_MEMORY.match(word)
    if not match:
        return None
    size, segment, inside, absolute = match.groups()
    displacement, base, index, scale = _number(absolute or "0"), "", "", 1
    for term in re.findall(r"[+-]?[^+-]+", inside or ""):
        bare = term.lstrip("+")
        if _NUMBER.match(bare):
            displacement += _number(bare)
        elif "*" in bare:
            index, _, times = bare.partition("*")
            if times not in ("1", "2", "4", "8"):
                return None
            scale = int(times)
        elif not base:
            base = bare
        else:
            index = bare
    return Memory(segment or "", displacement, base, index, scale, _INTEL_SIZE.get(size or "", 0))


# --- Instruction to memory touched ----------------------------------------------------------------


def memory_accesses(
    insn: Instruction, registers: Mapping[str, int], after: int, word: int = 8
) -> tuple[MemoryAccess, ...]:
    """Every range of memory that `insn` touched, told from the registers it left behind.

    registers: values by 64-bit name (`rax`, also for a 32-bit program), with `fs_base`, `gs_base`
        and `eflags`; one that is missing makes an address unknown
    after: the address of the instruction that follows it by address
    word: bytes of a stack slot, 8 or 4
    """
    if _NO_ACCESS.match(insn.root):
        return ()
    backwards = _Backwards(insn, registers, after, word)
    found = []
    for place, operand in enumerate(insn.operands):
        if isinstance(operand, Memory):
            reads, writes = _roles(insn, place)
            found.append(backwards.explicit(operand, reads, writes))
    found.extend(backwards.implicit())
    return tuple(found)


def _roles(insn: Instruction, place: int) -> tuple[bool, bool]:
    """Whether the memory operand at `place` may be read, and may be written."""
    root = insn.root
    if root == "xchg":
        return True, True
    if place != len(insn.operands) - 1 or _ONLY_READ.match(root):
        return True, False
    if root.startswith("f"):
        stores = bool(_X87_STORE.match(root))
        return not stores, stores
    return root in _READ_MODIFY_WRITE or bool(re.match(r"cmp\w+xadd$", root)), True


class _Backwards:
    """Addresses of one instruction's memory, computed after it has run."""

    def __init__(
        self, insn: Instruction, registers: Mapping[str, int], after: int, word: int
    ) -> None:
        self.insn = insn
        self.registers = registers
        self.after = after
        self.word = word
        self.spoiled = _overwritten(insn)

    def explicit(self, operand: Memory, reads: bool, writes: bool) -> MemoryAccess:
        size = self._size(operand)
        if self.insn.is_string:
            return self._string(operand, size, reads, writes)
        return MemoryAccess(self._address(operand), size, reads, writes)

    def implicit(self) -> list[MemoryAccess]:
        """The stack, and the few instructions whose memory stands in no operand."""
        insn, root = self.insn, self.insn.root
        found = []
        if root in _PUSHES:
            size = self.word * 8 if root == "pusha" else self._stack_size()
            place = "rbp" if root == "enter" else "rsp"
            found.append(MemoryAccess(self._at(place, 0), size, False, True))
        elif root in _POPS:
            size = self.word * 8 if root == "popa" else self._stack_size()
            skipped = 0  # `ret $8` drops its arguments above the address it has read
            if insn.is_return and insn.operands and isinstance(insn.operands[0], Immediate):
                skipped = insn.operands[0].value
            found.append(MemoryAccess(self._at("rsp", -size - skipped), size, True, False))
        elif root in ("maskmovq", "maskmovdqu", "vmaskmovdqu"):
            found.append(MemoryAccess(self._at("rdi", 0), 16, False, True))
        elif root in ("movdir64b", "enqcmd", "enqcmds") and isinstance(insn.operands[-1], Register):
            full, _ = _REGISTERS.get(insn.operands[-1].name, ("", 0))
            found.append(MemoryAccess(self._at(full, 0), 64, False, True))
        elif root == "clzero":
            line = self._at("rax", 0)
            found.append(MemoryAccess(None if line is None else line & ~63, 64, False, True))
        return found

    def _at(self, name: str, offset: int) -> int | None:
        value = self.registers.get(name)
        if value is None or name in self.spoiled:  # `pop %rsp` loads the stack pointer itself
            return None
        return (value + offset) & self._mask(self.word)

    @staticmethod
    def _mask(size: int) -> int:
        return (1 << 8 * size) - 1

    def _stack_size(self) -> int:
        """Bytes of one push or pop: a word, or 2 with a 16-bit operand."""
        for one in self.insn.operands:
            if isinstance(one, Register) and _REGISTERS.get(one.name, ("", 0))[1] == 2:
                return 2
            if isinstance(one, Memory) and one.size == 2:
                return 2
        short = self.insn.mnemonic.endswith("w") and self.insn.mnemonic != self.insn.root
        return 2 if short and self.insn.root in ("push", "pop", "pushf", "popf") else self.word

    def _string(self, operand: Memory, size: int, reads: bool, writes: bool) -> MemoryAccess:
        full, width = _REGISTERS.get(operand.base, ("", 0))
        value, flags = self.registers.get(full), self.registers.get("eflags")
        segment = self._segment(operand)
        if value is None or flags is None or segment is None:
            return MemoryAccess(None, size, reads, writes)
        downwards = flags >> 10 & 1  # DF
        length = max(size, REP_GROUP) if self.insn.repeats else size
        start = value + size if downwards else value - length
        return MemoryAccess((start & self._mask(width)) + segment, length, reads, writes)

    def _segment(self, operand: Memory) -> int | None:
        """Linear address of the segment's start, None where it is not known."""
        name = operand.segment or next((p for p in self.insn.prefixes if p in ("fs", "gs")), "")
        return self.registers.get(name + "_base") if name in ("fs", "gs") else 0

    def _address(self, operand: Memory) -> int | None:
        segment = self._segment(operand)
        # A tile is rows, a stride apart; xlat adds al, which it then overwrites.
        if segment is None or self.insn.root.startswith(("tile", "xlat")):
            return None
        address, width = operand.displacement, self.word
        for name, times in ((operand.base, 1), (operand.index, operand.scale)):
            if not name:
                continue
            if name not in _REGISTERS:  # a vector of indices
                return None
            full, width = _REGISTERS[name]
            if not full:
                continue
            value = self._before(full)
            if value is None:
                return None
            address += (value & self._mask(width)) * times
        bits = self._bit_offset()
        if bits is None:
            return None
        address = (address & self._mask(width)) + segment + bits
        return address & self._mask(self.word)

    def _before(self, name: str) -> int | None:
        """The register as it was when the instruction computed its address."""
        if name == "rip":
            return self.after
        if name == "rsp" and self.insn.root in ("push", "call"):
            value = self.registers.get("rsp")
            return None if value is None else value + self._stack_size()
        return None if name in self.spoiled else self.registers.get(name)

    def _bit_offset(self) -> int | None:
        """`bts %rax,(mem)` reaches memory far from its operand."""
        first = self.insn.operands[0]
        if self.insn.root not in _BIT_STRING or not isinstance(first, Register):
            return 0
        full, size = _REGISTERS.get(first.name, ("", 0))
        value = self.registers.get(full)
        if value is None or not size:
            return None
        bits = 8 * size
        value &= self._mask(size)
        value -= (value >> bits - 1) << bits
        return value // bits * size

    def _size(self, operand: Memory) -> int:
        insn, root = self.insn, self.insn.root
        if operand.size:
            return operand.size
        fixed = _SIZES.get(root[1:] if root.startswith("v") else root)
        if fixed:
            return fixed
        if root.startswith("x") and ("save" in root or "rstor" in root):
            return _XSAVE_AREA
        if root in ("push", "pop", "call", "jmp"):
            return self._stack_size()
        if root.startswith("set"):
            return 1
        if root.startswith("f"):
            return {"s": 4, "l": 8}.get(root[-1], 10)
        extending, scalar = _EXTENDING.match(root), _SCALAR.match(root)
        if extending:
            return _SUFFIX_SIZE[extending[1]]
        if scalar:
            return 4 if scalar[1] == "s" else 8
        sizes = [
            _register_size(one.name)
            for one in insn.operands
            if isinstance(one, Register) and not (root in _SHIFTS and one.name == "cl")
        ]
        if any(sizes):
            return max(sizes)
        return _SUFFIX_SIZE.get(insn.mnemonic[-1], 64)


def _overwritten(insn: Instruction) -> frozenset[str]:
    """Registers, by 64-bit name, whose value before the instruction is lost."""
    root = insn.root
    lost = set(_SPOILS.get(root, ()))
    if root == "imul" and len(insn.operands) > 1:
        lost = set()
    named = insn.operands[-1:]
    if root in ("xchg", "mulx") or root.endswith("xadd"):
        named = insn.operands
    elif root in _WITHOUT_DESTINATION and not (root == "imul" and len(insn.operands) > 1):
        named = ()
    for one in named:
        if isinstance(one, Register) and one.name in _REGISTERS:
            lost.add(_REGISTERS[one.name][0])
    return frozenset(lost)
