"""A condition as a typed tree, and its translation into BPF.

The tree says what gdb would compute, conversions and all: each node has a kind (size and sign),
and whoever builds it (inferior/compiling.py) puts a Convert wherever gdb promotes.  A value in a
64-bit BPF register is always extended from its kind.  Where gdb would fail (division by zero,
memory that cannot be read), the program leaves the reason and the address, and asks for a stop.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from . import bpf
from .bpf import R0, R1, R2, R3, R6, R9, R10, Program, Register

# A table of threads: so many rows, each of four 32-bit numbers, the LWP first.
THREADS, ROW = 64, 16

# Why gdb could not have answered; 0 where it could.
DIVISION, UNREADABLE, NO_REGISTERS, UNKNOWN = 1, 2, 3, 4

TEMPORARIES = 48  # how deep a condition may be nested: what the BPF stack has room for
INSTRUCTIONS = 16000  # how long it may become; a jump reaches 32767 instructions


class Kind(NamedTuple):
    """An integer as gdb computes with it.  A bool, enum or pointer is one, too."""

    size: int
    signed: bool


INT, LONG = Kind(4, True), Kind(8, True)
UNSIGNED, UNSIGNED_LONG = Kind(4, False), Kind(8, False)


class Number(NamedTuple):
    value: int
    kind: Kind


class Watched(NamedTuple):
    """The watched value: ``new``, or ``old``."""

    which: str
    kind: Kind


class Load(NamedTuple):
    """What stands at an address of the program's.

    length: so many bytes are read, where it is not the size of ``kind``
    """

    address: Node
    kind: Kind
    length: int = 0


class Bits(NamedTuple):
    """``width`` bits of a number of 64, from ``start`` on: a bit-field, a part of a register."""

    node: Node
    start: int
    width: int
    kind: Kind


class CpuRegister(NamedTuple):
    """A register of the thread's, by its name in PT_REGS."""

    name: str
    kind: Kind


class ThreadId(NamedTuple):
    """The LWP that made the access."""

    kind: Kind = INT


class ThreadNumber(NamedTuple):
    """One of gdb's numbers for the thread that made the access, by its place in a row of the table
    that the program is given (THREADS); gdb is to decide where the thread is not there."""

    place: int
    kind: Kind = INT


class Unknown(NamedTuple):
    """What only gdb can tell: it is to decide."""

    kind: Kind = INT


class Convert(NamedTuple):
    """A cast.

    boolean: to a C bool, 1 for all but 0
    unsure: as Binary has it
    """

    node: Node
    kind: Kind
    boolean: bool = False
    unsure: bool = False


class Unary(NamedTuple):
    """``-`` or ``~``, in the kind of its operand."""

    operator: str
    node: Node

    @property
    def kind(self) -> Kind:
        return self.node.kind


class Binary(NamedTuple):
    """Arithmetic of two operands of one kind, which is the result's; a shift's right one may be
    of another.

    unsure: gdb is to decide where a negative result is far too large for its kind (`_certain`)
    """

    operator: str
    left: Node
    right: Node
    unsure: bool = False

    @property
    def kind(self) -> Kind:
        return self.left.kind


class Compare(NamedTuple):
    """``==`` and its like, of two operands of one kind."""

    operator: str
    left: Node
    right: Node
    kind: Kind = INT


class Not(NamedTuple):
    node: Node
    kind: Kind = INT


class Logic(NamedTuple):
    """``&&`` or ``||``: the right side is evaluated where it matters."""

    operator: str
    left: Node
    right: Node
    kind: Kind = INT


class Choose(NamedTuple):
    """``test ? yes : no``; both of one kind."""

    test: Node
    yes: Node
    no: Node

    @property
    def kind(self) -> Kind:
        return self.yes.kind


class Sequence(NamedTuple):
    """``first, then``."""

    first: Node
    then: Node

    @property
    def kind(self) -> Kind:
        return self.then.kind


Node = Union[
    Number,
    Watched,
    Load,
    Bits,
    CpuRegister,
    ThreadId,
    ThreadNumber,
    Unknown,
    Convert,
    Unary,
    Binary,
    Compare,
    Not,
    Logic,
    Choose,
    Sequence,
]


class TooComplex(ValueError):
    """The condition is nested too deeply, or too long, for a BPF program."""


class Frame(NamedTuple):
    """Where a program keeps things.  R6 is the context, R9 the shared memory.

    new, old, scratch, temporaries: offsets from R10; temporaries grow downwards
    state, fault: offsets from R9, of the reason of a failure and of its address
    failed: the label to go to then
    namespace: of the threads' numbers (bpf.current)
    threads: offset from R9 of a table of threads
    """

    new: int
    old: int
    scratch: int
    temporaries: int
    state: int
    fault: int
    failed: str
    namespace: tuple[int, int] | None = None
    threads: int = 0


_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
NEGATED = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


class Translation:
    """Writes the instructions that leave a node's value in R0."""

    def __init__(self, program: Program, frame: Frame) -> None:
        self.program = program
        self.frame = frame

    def value(self, node: Node, depth: int = 0) -> None:
        """R0 = the value of ``node``, extended from its kind."""
        if depth >= TEMPORARIES:
            raise TooComplex("it is nested too deeply")
        if len(self.program) > INSTRUCTIONS:
            raise TooComplex("it is too long")
        program = self.program
        if isinstance(node, Number):
            program.mov(R0, _signed64(extended(node.value, node.kind)))
        elif isinstance(node, Watched):
            offset = self.frame.new if node.which == "new" else self.frame.old
            program.load(R0, R10, offset, node.kind.size)
            program.extend(R0, node.kind.size, node.kind.signed)
        elif isinstance(node, Load):
            self._load(node, depth)
        elif isinstance(node, Bits):
            self.value(node.node, depth)
            program.alu("lsh", R0, 64 - node.start - node.width)
            program.alu("arsh" if node.kind.signed else "rsh", R0, 64 - node.width)
        elif isinstance(node, CpuRegister):
            self._register(node)
        elif isinstance(node, ThreadId):
            bpf.current(program, self.frame.namespace, self.frame.scratch)
            program.extend(R0, node.kind.size, node.kind.signed)
        elif isinstance(node, ThreadNumber):
            self._thread_number(node)
        elif isinstance(node, Unknown):
            self._fail(UNKNOWN)
        elif isinstance(node, Convert):
            self.value(node.node, depth)
            if node.boolean:
                self._truth(node.node.kind)
            else:
                if node.unsure:
                    self._certain(R0, node.kind.size)
                program.extend(R0, node.kind.size, node.kind.signed)
        elif isinstance(node, Unary):
            self.value(node.node, depth)
            if node.operator == "-":
                program.alu("neg", R0)
            else:
                program.alu("xor", R0, -1)
            program.extend(R0, node.kind.size, node.kind.signed)
        elif isinstance(node, Not):
            self.value(node.node, depth)
            self._truth(node.node.kind)
            program.alu("xor", R0, 1)
        elif isinstance(node, Logic):
            self._logic(node, depth)
        elif isinstance(node, Choose):
            self._choose(node, depth)
        elif isinstance(node, Sequence):
            self.value(node.first, depth)
            self.value(node.then, depth)
        else:
            self._two(node, depth)

    def _truth(self, kind: Kind) -> None:
        """R0 = 1 for all but 0."""
        done = self.program.new_label()
        self.program.jump_if("eq", R0, 0, done)
        self.program.mov(R0, 1)
        self.program.label(done)

    def _load(self, node: Load, depth: int) -> None:
        program, frame = self.program, self.frame
        self.value(node.address, depth)
        program.mov(R3, R0)
        program.store(R10, frame.scratch - 8, R0)
        program.store(R10, frame.scratch, 0)
        program.mov(R1, R10)
        program.alu("add", R1, frame.scratch)
        program.mov(R2, node.length or node.kind.size)
        program.call("probe_read_user")
        fine = program.new_label()
        program.jump_if("eq", R0, 0, fine)
        program.load(R1, R10, frame.scratch - 8)
        program.store(R9, frame.fault, R1)
        self._fail(UNREADABLE)
        program.label(fine)
        program.load(R0, R10, frame.scratch, node.kind.size)
        program.extend(R0, node.kind.size, node.kind.signed)

    def _fail(self, reason: int) -> None:
        self.program.store(R9, self.frame.state, reason)
        self.program.jump(self.frame.failed)

    def _register(self, node: CpuRegister) -> None:
        """The registers are the user's where the access was made in user mode."""
        program = self.program
        user = program.new_label()
        program.load(R1, R6, bpf.PT_REGS["cs"])
        program.jump_if("set", R1, 3, user)
        self._fail(NO_REGISTERS)
        program.label(user)
        program.load(R0, R6, bpf.PT_REGS[node.name])
        program.extend(R0, node.kind.size, node.kind.signed)

    def _thread_number(self, node: ThreadNumber) -> None:
        program, frame = self.program, self.frame
        bpf.current(program, frame.namespace, frame.scratch)
        program.extend(R0, 4, False)
        found = program.new_label()
        rows = range(frame.threads, frame.threads + THREADS * ROW, ROW)
        for row in rows:
            following = program.new_label()
            program.load(R1, R9, row, 4)
            program.jump_if("ne", R1, R0, following)
            program.load(R0, R9, row + 4 * node.place, 4)
            program.jump(found)
            program.label(following)
        self._fail(UNKNOWN)
        program.label(found)

    def _logic(self, node: Logic, depth: int) -> None:
        program = self.program
        done = program.new_label()
        self.value(node.left, depth)
        self._truth(node.left.kind)
        program.jump_if("eq" if node.operator == "&&" else "ne", R0, 0, done)
        self.value(node.right, depth)
        self._truth(node.right.kind)
        program.label(done)

    def _choose(self, node: Choose, depth: int) -> None:
        program = self.program
        no, done = program.new_label(), program.new_label()
        self.value(node.test, depth)
        program.jump_if("eq", R0, 0, no)
        self.value(node.yes, depth)
        program.jump(done)
        program.label(no)
        self.value(node.no, depth)  # where it is Unknown, this does not come back
        program.label(done)

    def _two(self, node: Binary | Compare, depth: int) -> None:
        """R1 = left, R0 = right, then the operation."""
        program = self.program
        place = self.frame.temporaries - 8 * depth
        self.value(node.left, depth)
        program.store(R10, place, R0)
        self.value(node.right, depth + 1)
        program.load(R1, R10, place)
        if isinstance(node, Compare):
            self._compare(node)
        elif node.operator in _ARITHMETIC:
            if node.unsure and node.operator == "*" and node.kind.size == 8:
                self._certain_product()
            program.alu(_ARITHMETIC[node.operator], R1, R0)
            program.mov(R0, R1)
            if node.unsure and node.operator == "*" and node.kind.size < 8:
                self._certain(R0, node.kind.size)
            program.extend(R0, node.kind.size, node.kind.signed)
        elif node.operator in ("<<", ">>"):
            self._shift(node)
        else:
            self._divide(node)

    def _compare(self, node: Compare) -> None:
        program = self.program
        comparison = _COMPARISONS[node.operator]
        if node.left.kind.signed and comparison not in ("eq", "ne"):
            comparison = "s" + comparison
        done = program.new_label()
        program.mov(R2, R0)
        program.mov(R0, 1)
        program.jump_if(comparison, R1, R2, done)
        program.mov(R0, 0)
        program.label(done)

    def _shift(self, node: Binary) -> None:
        """A count that is negative or too large gives 0, or -1 for what is negative and goes to
        the right (``check_valid_shift_count``, gdb 13 and later)."""
        program = self.program
        kind = node.left.kind
        valid, done = program.new_label(), program.new_label()
        program.jump_if("lt", R0, 8 * kind.size, valid)
        program.mov(R0, 0)
        if node.operator == ">>" and kind.signed:
            program.alu("arsh", R1, 63)
            program.mov(R0, R1)
        program.jump(done)
        program.label(valid)
        if node.operator == "<<":
            program.mov(R2, R1)
            program.alu("lsh", R1, R0)
            if node.unsure:
                self._certain_shift(kind.size)
        else:
            program.alu("arsh" if kind.signed else "rsh", R1, R0)
        program.mov(R0, R1)
        program.extend(R0, kind.size, kind.signed)
        program.label(done)

    # gdb 15 to 17 compute with numbers of any size and export the result, |x| where a negative x is
    # still negative with 2 ** bits added (`gdb_mpz::export_bits`): (unsigned char) -257 is 1.

    def _certain(self, register: Register, size: int) -> None:
        """Let gdb decide where that is."""
        if size == 8:
            return
        fine = self.program.new_label()
        self.program.number(R2, -(1 << 8 * size))
        self.program.jump_if("sge", register, R2, fine)
        self._fail(UNKNOWN)
        self.program.label(fine)

    def _certain_product(self) -> None:
        """The same for R1 * R0 of 64 bits: fine where the signs are the same, or both are small."""
        program = self.program
        fine, unsure = program.new_label(), program.new_label()
        program.mov(R2, R1)
        program.alu("xor", R2, R0)
        program.jump_if("sge", R2, 0, fine)
        for register in (R0, R1):
            program.mov(R2, register)
            program.extend(R2, 4, True)
            program.jump_if("ne", R2, register, unsure)
        program.jump(fine)
        program.label(unsure)
        self._fail(UNKNOWN)
        program.label(fine)

    def _certain_shift(self, size: int) -> None:
        """The same for R1 = R2 << R0."""
        if size < 8:
            self._certain(R1, size)
            return
        program = self.program
        fine = program.new_label()
        program.jump_if("sge", R2, 0, fine)
        program.mov(R3, R1)
        program.alu("arsh", R3, R0)
        program.jump_if("eq", R3, R2, fine)
        self._fail(UNKNOWN)
        program.label(fine)

    def _divide(self, node: Binary) -> None:
        """BPF divides without sign; the sign is put on again: of the quotient, or as the
        dividend's for the remainder."""
        program = self.program
        possible = program.new_label()
        program.jump_if("ne", R0, 0, possible)
        self._fail(DIVISION)
        program.label(possible)
        quotient = node.operator == "/"
        if node.kind.signed:
            program.mov(R2, 0)
            self._absolute(R1, flip=True)
            self._absolute(R0, flip=quotient)
        program.alu("div" if quotient else "mod", R1, R0)
        program.mov(R0, R1)
        if node.kind.signed:
            done = program.new_label()
            program.jump_if("eq", R2, 0, done)
            program.alu("neg", R0)
            program.label(done)
        program.extend(R0, node.kind.size, node.kind.signed)

    def _absolute(self, register: Register, flip: bool) -> None:
        positive = self.program.new_label()
        self.program.jump_if("sge", register, 0, positive)
        self.program.alu("neg", register)
        if flip:
            self.program.alu("xor", R2, 1)
        self.program.label(positive)


def extended(value: int, kind: Kind) -> int:
    """A number as ``kind`` holds it."""
    value &= (1 << 8 * kind.size) - 1
    if kind.signed and value >> 8 * kind.size - 1:
        value -= 1 << 8 * kind.size
    return value


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def parts(node: Node) -> list[Node]:
    """The nodes below one."""
    if isinstance(node, (Bits, Convert, Unary, Not)):
        return [node.node]
    if isinstance(node, Load):
        return [node.address]
    if isinstance(node, (Binary, Compare, Logic)):
        return [node.left, node.right]
    if isinstance(node, Choose):
        return [node.test, node.yes, node.no]
    if isinstance(node, Sequence):
        return [node.first, node.then]
    return []
