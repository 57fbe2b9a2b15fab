"""The BPF programs of kwatch: what is done in the kernel at each access of a watched place.

All begin alike: which code made the access (-from, -not-from), the value now and the one before,
the condition.  What follows is one of three: ask for a stop (a condition), write a record (a
trace), or keep a row for the instruction (who).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from . import bpf
from .bpf import R0, R1, R2, R3, R4, R6, R7, R8, R9, R10, Program, Register
from .conditions import ROW, THREADS, UNREADABLE, Frame, Node, Translation
from .debugreg import WRITE, Piece, pieces_of

MEMORY, RING = "memory", "ring"

# The shared memory: offsets of its words.
OLD = 0  # the value as it was last, VALUE_MOST bytes
VALUE_MOST = 32
TAKEN = 32  # accesses that passed the filter
LOST = 40  # of these, those that found no room
BLIND = 48  # accesses at which the value could not be read
STATE = 56  # why a condition could not be evaluated (conditions.DIVISION …)
FAULT = 64  # the address of memory that could not be read then
MOST = 72  # no more than so many are taken; 0: no limit
REPEATED = 80  # runs for a further piece of an access that was taken already
TOLD_BY = 88  # the signal that tells of a stop, as a bit of a signal mask; 0: none
# Of a program that asks for stops: the last access, whatever the condition said.
LAST_IP = 96
LAST_THREAD = 104
LAST_OLD = 112  # VALUE_MOST bytes; what it was then stands at OLD
LEFT_OUT = 144  # accesses by code or threads that do not count
RUNS = 152  # with `Source.own_reads`: how often the program was run
SEEN = 160  # for each CPU: which access was the last one (`_Writer.once`), and its pieces so far
CPUS = 256  # beyond these, CPUs share an entry
HEAD = SEEN + 16 * CPUS

# Places on the BPF stack, from R10.
_NEW, _OLD, _SCRATCH, _USER_IP, _TEMPORARIES = -32, -64, -72, -88, -96
# Where a condition's temporaries were: it is judged by then.
_IP, _TOP = -104, -232

_GOLDEN = 0x9E3779B97F4A7C15  # spreads the bits of a number
SIGSTOP = 19
_TASK_CHUNK = 512

KERNEL = 1 << 8  # in a record's info: made by the kernel, for the thread
UNREAD = 1 << 9  # the value could not be read
SYSTEM_CALL = 32  # from this bit on: the number of the system call
KERNEL_KEY = 1 << 63  # in a row's key


# A system call's return address to the program is among so many words of the stack: the C
# library's functions push something (glibc 2.41: three calls within it, the 13th word).
TOP_WORDS = 16
_OWN_WORDS = 3  # of them, so many that lie in the program's own code tell calls apart


class Source(NamedTuple):
    """One watched place, and which of its accesses count.

    only, without: ranges of code, [start, end), of which the access must, or must not, be
    on_change: take only those that changed the value
    bits: of a bit-field, its first bit and their number; only they count as the value then
    program: the ranges of the program's own code, by which calls of the kernel are told apart
    thread: process and thread; the accesses of its other threads do not count
    own_reads: the program's own reads of the value trap as well, and do not count
    """

    address: int
    size: int
    only: tuple[tuple[int, int], ...] = ()
    without: tuple[tuple[int, int], ...] = ()
    on_change: bool = False
    condition: Node | None = None
    bits: tuple[int, int] | None = None
    program: tuple[tuple[int, int], ...] = ()
    thread: tuple[int, int] | None = None
    own_reads: bool = False

    @property
    def value_size(self) -> int:
        """In whole words, at most VALUE_MOST."""
        return min(-(-self.size // 8) * 8, VALUE_MOST)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Each has a slot of its own."""
        return tuple(pieces_of(self.address, self.size, WRITE))


class Kernel(NamedTuple):
    """What this kernel's BPF can do."""

    fetching: bool = True  # atomic operations that answer (Linux 5.12)
    system_calls: bool = True  # task_pt_regs (5.15, with BTF)
    namespace: tuple[int, int] | None = None  # whose numbers of threads are wanted
    blocked: int | None = None  # where task_struct has the mask of blocked signals


@dataclass(frozen=True)
class RecordLayout:
    """Of a trace's record, after the ring's own header."""

    value: int  # bytes of a value
    frames: int = 0
    top: int = 0  # words from the user's stack pointer on, of accesses by the kernel

    TIME = 0
    THREAD = 8  # process in the upper half, thread in the lower
    IP = 16
    INFO = 24  # the source's number in the lower 8 bits, and flags
    OLD = 32

    @property
    def new(self) -> int:
        return self.OLD + self.value

    @property
    def stack(self) -> int:
        return self.new + self.value

    @property
    def top_words(self) -> int:
        return self.stack + 8 * self.frames

    @property
    def size(self) -> int:
        return self.top_words + 8 * self.top


@dataclass(frozen=True)
class RowLayout:
    """Of one accessing instruction's row, and of the tables that hold them."""

    value: int
    frames: int = 16
    rows: int = 512
    threads: int = 2048
    probes: int = 12

    KEY = 0  # the address after the instruction; by the kernel, the calling code mixed in
    HITS = 8
    CHANGES = 16
    FIRST_TIME = 24
    LAST_TIME = 32
    LAST_THREAD = 40
    IP = 48
    TOP = 56  # as in a record
    REGISTERS = TOP + 8 * TOP_WORDS
    FIRST_OLD = REGISTERS + 8 * len(bpf.PT_REGS)

    @property
    def first_new(self) -> int:
        return self.FIRST_OLD + self.value

    @property
    def last_old(self) -> int:
        return self.first_new + self.value

    @property
    def last_new(self) -> int:
        return self.last_old + self.value

    @property
    def stack(self) -> int:
        return self.last_new + self.value

    @property
    def row(self) -> int:
        return self.stack + 8 * self.frames

    @property
    def thread_table(self) -> int:
        return HEAD + self.rows * self.row

    @property
    def size(self) -> int:
        return self.thread_table + 16 * self.threads


@dataclass(frozen=True)
class StopLayout:
    """Of what a `stopping` program tells about each stop that it asks for: a ring of entries, the
    first one at HEAD; TAKEN counts them.  After them, the table of threads that it is given."""

    value: int
    entries: int = 64

    THREAD = 0
    REASON = 8
    FAULT = 16
    IP = 24
    TIME = 32
    OLD = 40

    @property
    def new(self) -> int:
        return self.OLD + self.value

    @property
    def entry(self) -> int:
        return self.new + self.value

    @property
    def size(self) -> int:
        return self.threads + THREADS * ROW

    @property
    def threads(self) -> int:
        return HEAD + self.entries * self.entry


class _Writer:
    """The parts that the programs share."""

    def __init__(self, source: Source, kernel: Kernel) -> None:
        self.source = source
        self.kernel = kernel
        self.program = Program()

    def begin(self) -> None:
        """R6 = context, R9 = memory; what the source leaves out goes to ``out``."""
        p = self.program
        p.mov(R6, R1)
        p.map_value(R9, MEMORY)
        if self.source.own_reads:
            p.mov(R1, 1)
            p.atomic("add", R9, RUNS, R1)
        if len(self.source.pieces) > 1:
            self._once()
        p.load(R7, R6, bpf.PT_REGS["rip"])
        p.load(R8, R6, bpf.PT_REGS["cs"])
        p.alu("and", R8, 3)
        user = p.new_label()
        p.jump_if("ne", R8, 0, user)
        self._user_ip()
        p.label(user)
        # Whoever makes the access, what it leaves is the value before the next one.
        self._values()
        self._whose()

    def _once(self) -> None:
        """An access that touches several pieces traps once, and the program is run for each
        (``hw_breakpoint_handler``): go to ``out`` for all but the first.

        It is the same access where thread and registers are the same and the piece is another one:
        where the instruction is run again with the same registers it touches the same pieces
        again, the first of them too.  All of it is on one CPU, with nothing in between.
        """
        p = self.program
        new = p.new_label()
        p.call("get_current_pid_tgid")
        p.mov(R7, R0)
        p.number(R2, _GOLDEN)
        for place in bpf.PT_REGS.values():
            p.alu("mul", R7, R2)
            p.mov(R1, R7)
            p.alu("rsh", R1, 32)
            p.alu("xor", R7, R1)
            p.load(R1, R6, place)
            p.alu("xor", R7, R1)
        p.load(R1, R6, bpf.ADDR)
        p.mov(R8, 0)
        for n, piece in enumerate(self.source.pieces):
            other = p.new_label()
            p.number(R2, piece.address)
            p.jump_if("ne", R1, R2, other)
            p.mov(R8, 1 << n)
            p.label(other)
        p.call("get_smp_processor_id")
        p.alu("and", R0, CPUS - 1)
        p.alu("lsh", R0, 4)
        p.mov(R3, R9)
        p.alu("add", R3, SEEN)
        p.alu("add", R3, R0)
        p.load(R1, R3, 0)
        p.load(R2, R3, 8)
        p.jump_if("ne", R1, R7, new)
        p.jump_if("set", R2, R8, new)
        p.alu("or", R2, R8)
        p.store(R3, 8, R2)
        p.mov(R1, 1)
        p.atomic("add", R9, REPEATED, R1)
        p.jump("out")
        p.label(new)
        p.store(R3, 0, R7)
        p.store(R3, 8, R8)

    def _user_ip(self) -> None:
        """R7 = where the program stands in user mode while the kernel works for it."""
        p = self.program
        p.store(R10, _USER_IP, 0)
        p.mov(R1, R6)
        p.mov(R2, R10)
        p.alu("add", R2, _USER_IP)
        p.mov(R3, 8)
        p.mov(R4, bpf.F_USER_STACK)
        p.call("get_stack")
        p.load(R7, R10, _USER_IP)

    def _whose(self) -> None:
        """Whether its code and thread count.  A trap is seen after the instruction, so a range
        begins after its first address."""
        p = self.program
        source = self.source
        if not (source.only or source.without or source.thread):
            return
        left, counts = p.new_label(), p.new_label()
        if source.thread is not None:
            mine = p.new_label()
            process, thread = source.thread
            self.current()
            p.mov(R1, R0)
            p.alu("rsh", R1, 32)
            p.number(R2, process)
            p.jump_if("ne", R1, R2, mine)  # numbers of another namespace: gdb will see
            p.alu("lsh", R0, 32)
            p.alu("rsh", R0, 32)
            p.number(R2, thread)
            p.jump_if("ne", R0, R2, left)
            p.label(mine)
        for start, end in source.without:
            self._if_in(start, end, left)
        for start, end in source.only:
            self._if_in(start, end, counts)
        if not source.only:
            p.jump(counts)
        p.label(left)
        p.mov(R1, 1)
        p.atomic("add", R9, LEFT_OUT, R1)
        p.store(R9, LAST_IP, 0)
        p.jump("out")
        p.label(counts)

    def _if_in(self, start: int, end: int, label: str) -> None:
        p = self.program
        outside = p.new_label()
        p.number(R1, start)
        p.jump_if("le", R7, R1, outside)
        p.number(R1, end)
        p.jump_if("le", R7, R1, label)
        p.label(outside)

    def _values(self) -> None:
        """The value now to _NEW, the one before to _OLD; R8's bit 9 where it cannot be read.

        From here on R8 has flags: the kernel's and UNREAD.
        """
        p, size = self.program, self.source.value_size
        flags = p.new_label()
        p.mov(R1, R8)
        p.mov(R8, 0)
        p.jump_if("ne", R1, 0, flags)
        p.mov(R8, KERNEL)
        p.label(flags)
        for offset in range(0, size, 8):
            p.store(R10, _NEW + offset, 0)
        p.mov(R1, R10)
        p.alu("add", R1, _NEW)
        p.mov(R2, min(self.source.size, VALUE_MOST))
        p.number(R3, self.source.address)
        p.call("probe_read_user")
        fine, read = p.new_label(), p.new_label()
        p.jump_if("eq", R0, 0, fine)
        p.alu("or", R8, UNREAD)
        p.mov(R1, 1)
        p.atomic("add", R9, BLIND, R1)
        for offset in range(0, size, 8):
            p.load(R1, R9, OLD + offset)
            p.store(R10, _NEW + offset, R1)
            p.store(R10, _OLD + offset, R1)
        p.jump(read)
        p.label(fine)
        for offset in range(0, size, 8):
            p.load(R1, R10, _NEW + offset)
            if self.kernel.fetching:
                p.atomic("xchg", R9, OLD + offset, R1)
            else:
                p.load(R2, R9, OLD + offset)
                p.store(R9, OLD + offset, R1)
                p.mov(R1, R2)
            p.store(R10, _OLD + offset, R1)
        p.label(read)

    def unchanged(self, label: str) -> None:
        """Go to ``label`` where the value is as before."""
        p = self.program
        changed = p.new_label()
        offsets = range(0, self.source.value_size, 8)
        for offset in offsets:
            p.load(R1, R10, _NEW + offset)
            p.load(R2, R10, _OLD + offset)
            if self.source.bits is not None:
                start, width = self.source.bits
                p.alu("xor", R1, R2)
                p.alu("lsh", R1, 64 - start - width)
                p.alu("rsh", R1, 64 - width)
                p.mov(R2, 0)
            p.jump_if("ne", R1, R2, changed)
        p.jump(label)
        p.label(changed)

    def condition(self, stop_unread: bool) -> None:
        """Go to ``out`` where the access does not count."""
        p = self.program
        read = p.new_label()
        p.jump_if("set", R8, UNREAD, "unread" if stop_unread else read)
        if self.source.on_change:
            self.unchanged("out")
        p.label(read)
        if self.source.condition is not None:
            where = (_NEW, _OLD, _SCRATCH, _TEMPORARIES, STATE, FAULT, "failed")
            threads = StopLayout(self.source.value_size).threads
            frame = Frame(*where, self.kernel.namespace, threads)
            Translation(p, frame).value(self.source.condition)
            p.jump_if("eq", R0, 0, "out")

    def count(self) -> None:
        """One more is taken; not beyond MOST."""
        p = self.program
        free = p.new_label()
        p.mov(R1, 1)
        if self.kernel.fetching:
            p.atomic("fetch_add", R9, TAKEN, R1)
        else:
            p.load(R2, R9, TAKEN)
            p.atomic("add", R9, TAKEN, R1)
            p.mov(R1, R2)
        p.load(R2, R9, MOST)
        p.jump_if("eq", R2, 0, free)
        p.jump_if("lt", R1, R2, free)
        p.mov(R1, -1)
        p.atomic("add", R9, TAKEN, R1)
        p.jump("out")
        p.label(free)

    def end(self) -> Program:
        """Where everything goes that asks for no stop."""
        p = self.program
        p.label("out")
        p.mov(R0, 0)
        p.exit()
        return p

    def copy(self, base: Register, offset: int, place: int) -> None:
        """The value at ``place`` on the stack, to memory."""
        for word in range(0, self.source.value_size, 8):
            self.program.load(R1, R10, place + word)
            self.program.store(base, offset + word, R1)

    def current(self) -> None:
        """R0 = the process and thread that run now."""
        bpf.current(self.program, self.kernel.namespace, _SCRATCH)

    def top_of_stack(self, base: Register, offset: int) -> None:
        """TOP_WORDS of the user's stack, while the kernel works for it."""
        p = self.program
        p.call("get_current_task_btf")
        p.mov(R1, R0)
        p.call("task_pt_regs")
        p.load(R3, R0, bpf.PT_REGS["rsp"])
        p.mov(R1, base)
        p.alu("add", R1, offset)
        p.mov(R2, 8 * TOP_WORDS)
        p.call("probe_read_user")  # zeros where it cannot be read

    def user_stack(self, base: Register, offset: int, frames: int) -> None:
        p = self.program
        p.mov(R1, R6)
        p.mov(R2, base)
        p.alu("add", R2, offset)
        p.mov(R3, 8 * frames)
        p.mov(R4, bpf.F_USER_STACK)
        p.call("get_stack")


def stopping(source: Source, kernel: Kernel) -> Program:
    """Has its thread stop where the condition holds, and where it cannot be evaluated: gdb will
    say why.  By the event's signal, for which 1 is returned; where that is blocked, `_halt`."""
    writer = _Writer(source, kernel)
    layout = StopLayout(source.value_size)
    p = writer.program
    writer.begin()
    writer.copy(R9, LAST_OLD, _OLD)
    p.store(R9, LAST_IP, R7)
    writer.current()
    p.store(R9, LAST_THREAD, R0)
    writer.condition(stop_unread=True)
    p.label("stop")
    p.store(R10, _USER_IP, R7)
    p.mov(R7, 1)
    if kernel.fetching:
        p.atomic("fetch_add", R9, TAKEN, R7)
    else:
        p.mov(R1, 1)
        p.load(R7, R9, TAKEN)
        p.atomic("add", R9, TAKEN, R1)
    p.alu("and", R7, layout.entries - 1)
    p.alu("mul", R7, layout.entry)
    p.mov(R8, R9)
    p.alu("add", R8, HEAD)
    p.alu("add", R8, R7)
    writer.current()
    p.store(R8, layout.THREAD, R0)
    p.load(R1, R9, STATE)
    p.store(R8, layout.REASON, R1)
    p.store(R9, STATE, 0)
    p.load(R1, R9, FAULT)
    p.store(R8, layout.FAULT, R1)
    p.load(R1, R10, _USER_IP)
    p.store(R8, layout.IP, R1)
    p.call("ktime_get_ns")
    p.store(R8, layout.TIME, R0)
    writer.copy(R8, layout.OLD, _OLD)
    writer.copy(R8, layout.new, _NEW)
    _halt(p, kernel)
    p.label("unread")
    p.store(R9, STATE, UNREADABLE)
    p.number(R1, source.address)
    p.store(R9, FAULT, R1)
    p.label("failed")
    p.jump("stop")
    return writer.end() if p.goes_to("out") else p


def telling(kernel: Kernel) -> Program:
    """Asks for a stop at each access."""
    p = Program()
    p.map_value(R9, MEMORY)
    _halt(p, kernel)
    return p


def _halt(p: Program, kernel: Kernel) -> None:
    """The end of a program that has its thread stop.  A thread that blocks the event's signal is
    sent SIGSTOP instead, which none can block: gdb takes it, and the program sees neither."""
    if kernel.blocked is not None:
        signalled = p.new_label()
        p.call("get_current_task")
        p.mov(R3, R0)
        p.alu("add", R3, kernel.blocked)
        p.mov(R1, R10)
        p.alu("add", R1, _SCRATCH)
        p.mov(R2, 8)
        p.call("probe_read_kernel")
        p.jump_if("ne", R0, 0, signalled)
        p.load(R1, R10, _SCRATCH)
        p.load(R2, R9, TOLD_BY)
        p.alu("and", R1, R2)
        p.jump_if("eq", R1, 0, signalled)
        p.mov(R1, SIGSTOP)
        p.call("send_signal_thread")
        p.jump_if("ne", R0, 0, signalled)
        p.exit()
        p.label(signalled)
    p.mov(R0, 1)
    p.exit()


def own_task(size: int) -> Program:
    """Copies the first ``size`` bytes of the thread's task_struct to HEAD."""
    p = Program()
    p.map_value(R9, MEMORY)
    p.call("get_current_task")
    p.mov(R7, R0)
    for offset in range(0, size, _TASK_CHUNK):
        p.mov(R1, R9)
        p.alu("add", R1, HEAD + offset)
        p.mov(R2, _TASK_CHUNK)
        p.mov(R3, R7)
        p.alu("add", R3, offset)
        p.call("probe_read_kernel")
    p.mov(R0, 0)
    p.exit()
    return p


_TRIES = 48


def recording(source: Source, kernel: Kernel, number: int, layout: RecordLayout) -> Program:
    """Writes a record into the ring."""
    writer = _Writer(source, kernel)
    p = writer.program
    writer.begin()
    writer.condition(stop_unread=False)
    p.label("failed")  # a condition that cannot be evaluated leaves nothing out
    writer.count()
    room = p.new_label()
    # Its lock may be refused, with room enough, after a millisecond of waiting for a CPU that the
    # host has taken away (``check_deadlock``, kernel/bpf/rqspinlock.c, Linux 6.15): 275 of
    # 1,000,000 records on a loaded virtual machine where one asked once.
    for _ in range(_TRIES):
        p.map(R1, RING)
        p.mov(R2, layout.size)
        p.mov(R3, 0)
        p.call("ringbuf_reserve")
        p.jump_if("ne", R0, 0, room)
    p.mov(R1, 1)
    p.atomic("add", R9, LOST, R1)
    p.jump("out")
    p.label(room)
    p.store(R0, layout.IP, R7)
    p.mov(R7, R0)
    for word in range(layout.top):
        p.store(R7, layout.top_words + 8 * word, 0)
    p.alu("or", R8, number)
    p.store(R7, layout.INFO, R8)
    if kernel.system_calls:
        user = p.new_label()
        p.jump_if("set", R8, KERNEL, ".kernel")
        p.jump(user)
        p.label(".kernel")
        p.call("get_current_task_btf")
        p.mov(R1, R0)
        p.call("task_pt_regs")
        p.load(R1, R0, bpf.PT_REGS["orig_rax"])
        p.store(R7, layout.INFO + SYSTEM_CALL // 8, R1, 4)
        if layout.top:
            writer.top_of_stack(R7, layout.top_words)
        p.label(user)
    p.call("ktime_get_ns")
    p.store(R7, layout.TIME, R0)
    writer.current()
    p.store(R7, layout.THREAD, R0)
    writer.copy(R7, layout.OLD, _OLD)
    writer.copy(R7, layout.new, _NEW)
    for word in range(source.value_size, layout.value, 8):
        p.store(R7, layout.OLD + word, 0)
        p.store(R7, layout.new + word, 0)
    if layout.frames:
        for frame in range(layout.frames):
            p.store(R7, layout.stack + 8 * frame, 0)
        writer.user_stack(R7, layout.stack, layout.frames)
    p.mov(R1, R7)
    p.mov(R2, bpf.NO_WAKEUP)
    p.call("ringbuf_submit")
    return writer.end()


def counting(source: Source, kernel: Kernel, layout: RowLayout) -> Program:
    """Keeps a row for each accessing instruction, and for each pair of it and a thread."""
    calls = kernel.system_calls and bool(source.program)
    writer = _Writer(source, kernel)
    p = writer.program
    writer.begin()
    writer.condition(stop_unread=False)
    p.label("failed")
    writer.count()
    p.jump_if("set", R8, KERNEL, ".kernel")
    p.jump(".user")
    p.label(".kernel")
    p.store(R10, _IP, R7)
    if calls:
        writer.top_of_stack(R10, _TOP)
        _mix_in_caller(p, source.program)
    p.number(R1, KERNEL_KEY)
    p.alu("or", R7, R1)
    p.jump(".key")
    p.label(".user")
    p.store(R10, _IP, R7)
    for word in range(TOP_WORDS if calls else 0):
        p.store(R10, _TOP + 8 * word, 0)
    p.label(".key")
    _probe(p, kernel, layout.rows, layout.row, HEAD, layout.probes, "row")
    p.label("row.new")
    p.load(R1, R10, _IP)
    p.store(R8, layout.IP, R1)
    if calls:
        for word in range(TOP_WORDS):
            p.load(R1, R10, _TOP + 8 * word)
            p.store(R8, layout.TOP + 8 * word, R1)
    p.call("ktime_get_ns")
    p.store(R8, layout.FIRST_TIME, R0)
    writer.copy(R8, layout.FIRST_OLD, _OLD)
    writer.copy(R8, layout.first_new, _NEW)
    writer.user_stack(R8, layout.stack, layout.frames)
    p.label("row.found")
    p.mov(R1, 1)
    p.atomic("add", R8, layout.HITS, R1)
    writer.unchanged(".same")
    p.mov(R1, 1)
    p.atomic("add", R8, layout.CHANGES, R1)
    p.label(".same")
    writer.copy(R8, layout.last_old, _OLD)
    writer.copy(R8, layout.last_new, _NEW)
    for place in bpf.PT_REGS.values():
        p.load(R1, R6, place)
        p.store(R8, layout.REGISTERS + place, R1)
    p.call("ktime_get_ns")
    p.store(R8, layout.LAST_TIME, R0)
    writer.current()
    p.store(R8, layout.LAST_THREAD, R0)
    # The pair's key: where the row stands, and the thread.
    p.load(R7, R8, layout.KEY)
    p.alu("lsh", R7, 32)
    p.alu("lsh", R0, 32)
    p.alu("rsh", R0, 32)
    p.alu("or", R7, R0)
    _probe(p, kernel, layout.threads, 16, layout.thread_table, layout.probes, "pair", lost="out")
    p.label("pair.new")
    p.label("pair.found")
    p.mov(R1, 1)
    p.atomic("add", R8, 8, R1)
    return writer.end()


def _mix_in_caller(p: Program, ranges: tuple[tuple[int, int], ...]) -> None:
    """R7 becomes another one for each piece of the program's code that called the kernel: by the
    first words on the stack that lie there, as some may be left over from other calls.  Who called
    it for certain is found out later."""
    p.mov(R4, _OWN_WORDS)
    for word in range(TOP_WORDS):
        own, following = p.new_label(), p.new_label()
        p.load(R1, R10, _TOP + 8 * word)
        for start, end in ranges:
            outside = p.new_label()
            p.number(R3, start)
            p.jump_if("le", R1, R3, outside)
            p.number(R3, end)
            p.jump_if("le", R1, R3, own)
            p.label(outside)
        p.jump(following)
        p.label(own)
        p.number(R2, _GOLDEN)
        p.alu("mul", R1, R2)
        p.alu("rsh", R1, 16)
        p.alu("add", R7, R1)
        p.alu("sub", R4, 1)
        p.jump_if("eq", R4, 0, ".mixed")
        p.label(following)
    p.label(".mixed")


def _probe(
    p: Program,
    kernel: Kernel,
    entries: int,
    size: int,
    start: int,
    probes: int,
    name: str,
    lost: str = "",
) -> None:
    """R8 = the entry whose first word is R7, at ``.found``, or at ``.new`` where it was free.

    A table with open addressing, in plain memory that user space can read while the program
    runs: system calls on a BPF hash would switch BPF off for a moment (linux/bpf.py).
    """
    bits = entries.bit_length() - 1
    p.number(R3, _GOLDEN)
    p.alu("mul", R3, R7)
    p.alu("rsh", R3, 64 - bits)
    for _ in range(probes):
        following = p.new_label()
        p.mov(R1, R3)
        p.alu("and", R1, entries - 1)
        p.alu("mul", R1, size)
        p.mov(R8, R9)
        p.alu("add", R8, start)
        p.alu("add", R8, R1)
        p.load(R2, R8, 0)
        p.jump_if("eq", R2, R7, f"{name}.found")
        p.jump_if("ne", R2, 0, following)
        if kernel.fetching:
            p.mov(R0, 0)
            p.atomic("cmpxchg", R8, 0, R7)
            p.jump_if("eq", R0, 0, f"{name}.new")
            p.jump_if("eq", R0, R7, f"{name}.found")
        else:
            p.store(R8, 0, R7)
            p.jump(f"{name}.new")
        p.label(following)
        p.alu("add", R3, 1)
    if not lost:
        p.mov(R1, 1)
        p.atomic("add", R9, LOST, R1)
    p.jump("out")
