"""Instruction texts, in both of gdb's syntaxes, and the memory that they touch."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdb_kwatch.core.instruction import (
    Immediate,
    Memory,
    MemoryAccess,
    Port,
    Register,
    Target,
    full_name,
    memory_accesses,
    parse,
)

NAMES = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
# Every register tells itself: rax is 0x10000, rbx 0x20000, ...
REGISTERS = {name: 0x10000 * (number + 1) for number, name in enumerate(NAMES)}
REGISTERS.update(fs_base=0x7F0000000000, gs_base=0x7E0000000000, eflags=0x246)
RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP = (REGISTERS[name] for name in NAMES[:8])
FS = REGISTERS["fs_base"]
AFTER = 0x401010


def touched(text, intel=False, word=8, **changed):
    """What `text` touches, as (address, size, "r"/"w"/"rw")."""
    insn = parse(text, intel)
    assert insn is not None, text
    return [
        (one.address, one.size, "r" * one.reads + "w" * one.writes)
        for one in memory_accesses(insn, {**REGISTERS, **changed}, AFTER, word)
    ]


# (AT&T, Intel, what it touches); the texts are those of binutils 2.40, gdb 13's too.
BOTH_SYNTAXES = [
    # stores
    ("mov    %rax,(%rdi)", "mov    QWORD PTR [rdi],rax", [(RDI, 8, "w")]),
    ("movl   $0x5,0x4(%rdi)", "mov    DWORD PTR [rdi+0x4],0x5", [(RDI + 4, 4, "w")]),
    ("movb   $0x7,-0x8(%rbp)", "mov    BYTE PTR [rbp-0x8],0x7", [(RBP - 8, 1, "w")]),
    ("mov    %ax,(%rdi,%rcx,8)", "mov    WORD PTR [rdi+rcx*8],ax", [(RDI + 8 * RCX, 2, "w")]),
    ("mov    %eax,0x0(,%rcx,4)", "mov    DWORD PTR [rcx*4+0x0],eax", [(4 * RCX, 4, "w")]),
    (
        "vmovdqa %ymm0,0x2f3c(%rip)        # 0x403f4c <s>",
        "vmovdqa YMMWORD PTR [rip+0x2f3c],ymm0        # 0x403f4c <s>",
        [(AFTER + 0x2F3C, 32, "w")],
    ),
    ("vmovdqu64 %zmm16,(%rdi)", "vmovdqu64 ZMMWORD PTR [rdi],zmm16", [(RDI, 64, "w")]),
    (
        "vmovdqu32 %zmm0,-0x20(%rdi){%k1}",
        "vmovdqu32 ZMMWORD PTR [rdi-0x20]{k1},zmm0",
        [(RDI - 32, 64, "w")],
    ),
    ("vmovntdq %ymm0,(%rdi)", "vmovntdq YMMWORD PTR [rdi],ymm0", [(RDI, 32, "w")]),
    ("movss  %xmm0,(%rdi)", "movss  DWORD PTR [rdi],xmm0", [(RDI, 4, "w")]),
    ("movsd  %xmm0,(%rdi)", "movsd  QWORD PTR [rdi],xmm0", [(RDI, 8, "w")]),
    ("movq   %xmm0,(%rdi)", "movq   QWORD PTR [rdi],xmm0", [(RDI, 8, "w")]),
    ("movups %xmm0,(%rdi)", "movups XMMWORD PTR [rdi],xmm0", [(RDI, 16, "w")]),
    ("movnti %rax,(%rdi)", "movnti QWORD PTR [rdi],rax", [(RDI, 8, "w")]),
    ("sete   (%rdi)", "sete   BYTE PTR [rdi]", [(RDI, 1, "w")]),
    ("movabs %al,0x405048", "movabs ds:0x405048,al", [(0x405048, 1, "w")]),
    ("mov    %fs,(%rdi)", "mov    WORD PTR [rdi],fs", [(RDI, None, "w")]),
    ("mov    %eax,(%ecx)", "mov    DWORD PTR [ecx],eax", [(RCX, 4, "w")]),
    ("mov    %rax,%fs:0x28", "mov    QWORD PTR fs:0x28,rax", [(FS + 0x28, 8, "w")]),
    (
        "mov    %rax,%fs:-0x8(%rdi)",
        "mov    QWORD PTR fs:[rdi-0x8],rax",
        [(FS + RDI - 8, 8, "w")],
    ),
    ("mov    %rax,0x8(%rsp,%riz,1)", "mov    QWORD PTR [rsp+riz*1+0x8],rax", [(RSP + 8, 8, "w")]),
    # loads
    ("mov    (%rdi),%rax", "mov    rax,QWORD PTR [rdi]", [(RDI, 8, "r")]),
    ("movzbl 0x2(%rdi),%eax", "movzx  eax,BYTE PTR [rdi+0x2]", [(RDI + 2, 1, "r")]),
    ("movslq (%rdi),%rax", "movsxd rax,DWORD PTR [rdi]", [(RDI, 4, "r")]),
    ("cmp    %rax,(%rdi)", "cmp    QWORD PTR [rdi],rax", [(RDI, 8, "r")]),
    ("cmpl   $0x0,(%rdi)", "cmp    DWORD PTR [rdi],0x0", [(RDI, 4, "r")]),
    ("testb  $0x1,(%rdi)", "test   BYTE PTR [rdi],0x1", [(RDI, 1, "r")]),
    ("imul   $0x3,(%rdi),%rax", "imul   rax,QWORD PTR [rdi],0x3", [(RDI, 8, "r")]),
    ("divq   (%rdi)", "div    QWORD PTR [rdi]", [(RDI, 8, "r")]),
    ("vpaddd (%rdi),%ymm0,%ymm1", "vpaddd ymm1,ymm0,YMMWORD PTR [rdi]", [(RDI, 32, "r")]),
    ("ucomisd (%rdi),%xmm0", "ucomisd xmm0,QWORD PTR [rdi]", [(RDI, 8, "r")]),
    ("shlx   %eax,(%rdi),%ebx", "shlx   ebx,DWORD PTR [rdi],eax", [(RDI, 4, "r")]),
    ("kmovw  (%rdi),%k1", "kmovw  k1,WORD PTR [rdi]", [(RDI, None, "r")]),
    ("ldmxcsr (%rdi)", "ldmxcsr DWORD PTR [rdi]", [(RDI, 4, "r")]),
    (
        "jmp    *0x2fe2(%rip)        # 0x403ff2",
        "jmp    QWORD PTR [rip+0x2fe2]        # 0x403ff2",
        [(AFTER + 0x2FE2, 8, "r")],
    ),
    ("notrack jmp *(%rdx,%rax,8)", "notrack jmp QWORD PTR [rdx+rax*8]", [(RDX + 8 * RAX, 8, "r")]),
    # both
    ("incl   (%rdi)", "inc    DWORD PTR [rdi]", [(RDI, 4, "rw")]),
    ("addq   $0x3,(%rdi)", "add    QWORD PTR [rdi],0x3", [(RDI, 8, "rw")]),
    ("shll   %cl,(%rdi)", "shl    DWORD PTR [rdi],cl", [(RDI, 4, "rw")]),
    ("sarl   (%rdi)", "sar    DWORD PTR [rdi],1", [(RDI, 4, "rw")]),
    ("xchg   %rax,(%rdi)", "xchg   QWORD PTR [rdi],rax", [(RDI, 8, "rw")]),
    ("lock xadd %rax,(%rdi)", "lock xadd QWORD PTR [rdi],rax", [(RDI, 8, "rw")]),
    ("lock cmpxchg %rdx,(%rdi)", "lock cmpxchg QWORD PTR [rdi],rdx", [(RDI, 8, "rw")]),
    ("lock cmpxchg16b (%rdi)", "lock cmpxchg16b OWORD PTR [rdi]", [(RDI, 16, "rw")]),
    ("lock btsq $0x5,(%rdi)", "lock bts QWORD PTR [rdi],0x5", [(RDI, 8, "rw")]),
    ("xacquire lock incl (%rdi)", "xacquire lock inc DWORD PTR [rdi]", [(RDI, 4, "rw")]),
    # x87 and state
    ("fstpl  (%rdi)", "fstp   QWORD PTR [rdi]", [(RDI, 8, "w")]),
    ("fstpt  -0x4(%rdi)", "fstp   TBYTE PTR [rdi-0x4]", [(RDI - 4, 10, "w")]),
    ("fldl   (%rdi)", "fld    QWORD PTR [rdi]", [(RDI, 8, "r")]),
    ("fnstcw (%rdi)", "fnstcw WORD PTR [rdi]", [(RDI, None, "w")]),
    ("fxsave -0x40(%rdi)", "fxsave [rdi-0x40]", [(RDI - 64, 512, "w")]),
    ("fxrstor (%rdi)", "fxrstor [rdi]", [(RDI, 512, "r")]),
    ("xsave  (%rdi)", "xsave  [rdi]", [(RDI, 12288, "w")]),
    ("xrstor (%rdi)", "xrstor [rdi]", [(RDI, 12288, "r")]),
    # the stack, after the stack pointer has moved
    ("push   %rbp", "push   rbp", [(RSP, 8, "w")]),
    ("push   $0x1", "push   0x1", [(RSP, 8, "w")]),
    ("push   %ax", "push   ax", [(RSP, 2, "w")]),
    ("pop    %rbp", "pop    rbp", [(RSP - 8, 8, "r")]),
    ("push   0x10(%rsp)", "push   QWORD PTR [rsp+0x10]", [(RSP + 0x18, 8, "r"), (RSP, 8, "w")]),
    ("pop    0x10(%rsp)", "pop    QWORD PTR [rsp+0x10]", [(RSP + 0x10, 8, "w"), (RSP - 8, 8, "r")]),
    ("call   0x401126 <main(int, char**)>", "call   0x401126 <main>", [(RSP, 8, "w")]),
    ("call   *%rdx", "call   rdx", [(RSP, 8, "w")]),
    ("call   *0x8(%rax)", "call   QWORD PTR [rax+0x8]", [(RAX + 8, 8, "r"), (RSP, 8, "w")]),
    ("call   *0x8(%rsp)", "call   QWORD PTR [rsp+0x8]", [(RSP + 16, 8, "r"), (RSP, 8, "w")]),
    ("ret", "ret", [(RSP - 8, 8, "r")]),
    ("ret    $0x10", "ret    0x10", [(RSP - 24, 8, "r")]),
    ("leave", "leave", [(RSP - 8, 8, "r")]),
    ("enter  $0x10,$0x0", "enter  0x10,0x0", [(RBP, 8, "w")]),
    ("pushf", "pushf", [(RSP, 8, "w")]),
    # string instructions, after their pointers have moved
    ("stos   %al,%es:(%rdi)", "stos   BYTE PTR es:[rdi],al", [(RDI - 1, 1, "w")]),
    ("stos   %rax,%es:(%rdi)", "stos   QWORD PTR es:[rdi],rax", [(RDI - 8, 8, "w")]),
    ("rep stos %al,%es:(%rdi)", "rep stos BYTE PTR es:[rdi],al", [(RDI - 64, 64, "w")]),
    (
        "movsl  %ds:(%rsi),%es:(%rdi)",
        "movs   DWORD PTR es:[rdi],DWORD PTR ds:[rsi]",
        [(RSI - 4, 4, "r"), (RDI - 4, 4, "w")],
    ),
    (
        "rep movsb %ds:(%rsi),%es:(%rdi)",
        "rep movs BYTE PTR es:[rdi],BYTE PTR ds:[rsi]",
        [(RSI - 64, 64, "r"), (RDI - 64, 64, "w")],
    ),
    ("lods   %ds:(%rsi),%rax", "lods   rax,QWORD PTR ds:[rsi]", [(RSI - 8, 8, "r")]),
    ("scas   %es:(%rdi),%al", "scas   al,BYTE PTR es:[rdi]", [(RDI - 1, 1, "r")]),
    (
        "cmpsw  %es:(%rdi),%ds:(%rsi)",
        "cmps   WORD PTR ds:[rsi],WORD PTR es:[rdi]",
        [(RDI - 2, 2, "r"), (RSI - 2, 2, "r")],
    ),
    ("insb   (%dx),%es:(%rdi)", "ins    BYTE PTR es:[rdi],dx", [(RDI - 1, 1, "w")]),
    ("outsb  %ds:(%rsi),(%dx)", "outs   dx,BYTE PTR ds:[rsi]", [(RSI - 1, 1, "r")]),
    # memory that no operand names
    ("maskmovdqu %xmm1,%xmm0", "maskmovdqu xmm0,xmm1", [(RDI, 16, "w")]),
    ("maskmovq %mm1,%mm0", "maskmovq mm0,mm1", [(RDI, 16, "w")]),
    ("vmaskmovdqu %xmm1,%xmm0", "vmaskmovdqu xmm0,xmm1", [(RDI, 16, "w")]),
    (
        "movdir64b (%rsi),%rdi",
        "movdir64b rdi,[rsi]",
        [(RSI, 64, "r"), (RDI, 64, "w")],
    ),
    # addresses that the instruction itself has destroyed
    ("mov    (%rax),%rax", "mov    rax,QWORD PTR [rax]", [(None, 8, "r")]),
    ("mov    (%rax),%al", "mov    al,BYTE PTR [rax]", [(None, 1, "r")]),
    ("mull   (%rdx)", "mul    DWORD PTR [rdx]", [(None, 4, "r")]),
    ("cmpxchg %rcx,(%rax)", "cmpxchg QWORD PTR [rax],rcx", [(None, 8, "rw")]),
    ("xadd   %rdi,(%rdi)", "xadd   QWORD PTR [rdi],rdi", [(None, 8, "rw")]),
    ("xlat   %ds:(%rbx)", "xlat   BYTE PTR ds:[rbx]", [(None, None, "r")]),
    ("pop    %rsp", "pop    rsp", [(None, 8, "r")]),
    # addresses that no general register tells
    (
        "vpscatterdd %zmm0,(%rdi,%zmm7,1){%k1}",
        "vpscatterdd DWORD PTR [rdi+zmm7*1]{k1},zmm0",
        [(None, None, "w")],
    ),
    (
        "vpgatherdd %ymm6,(%rdi,%ymm7,1),%ymm1",
        "vpgatherdd ymm1,DWORD PTR [rdi+ymm7*1],ymm6",
        [(None, None, "r")],
    ),
    ("tileloadd (%rsi,%rcx,1),%tmm0", "tileloadd tmm0,[rsi+rcx*1]", [(None, None, "r")]),
    # none at all
    ("lea    0x8(%rdi),%rax", "lea    rax,[rdi+0x8]", []),
    ("nopw   0x0(%rax,%rax,1)", "nop    WORD PTR [rax+rax*1+0x0]", []),
    ("data16 cs nopw 0x0(%rax,%rax,1)", "data16 cs nop WORD PTR [rax+rax*1+0x0]", []),
    ("prefetcht0 (%rdi)", "prefetcht0 BYTE PTR [rdi]", []),
    ("clflush (%rdi)", "clflush BYTE PTR [rdi]", []),
    ("mov    %rax,%rdi", "mov    rdi,rax", []),
    ("in     (%dx),%al", "in     al,dx", []),
    ("out    %al,(%dx)", "out    dx,al", []),
    ("fld    %st(1)", "fld    st(1)", []),
    ("fadd   %st,%st(2)", "fadd   st(2),st", []),
    ("jmp    *%rax", "jmp    rax", []),
    ("jne,pn 0x401126 <main>", "jne,pn 0x401126 <main>", []),
    ("endbr64", "endbr64", []),
    ("syscall", "syscall", []),
    ("vcvtsi2sd %rax,%xmm0,%xmm0", "vcvtsi2sd xmm0,xmm0,rax", []),
    ("vaddps {rn-sae},%zmm0,%zmm1,%zmm2", "vaddps zmm2,zmm1,zmm0{rn-sae}", []),
]


@pytest.mark.parametrize(("att", "intel", "wanted"), BOTH_SYNTAXES, ids=lambda x: str(x)[:40])
def test_what_is_touched(att, intel, wanted):
    found = [touched(att), touched(intel, intel=True)]
    for one in found:
        # A size of None is an upper bound only, which the two texts may tell differently.
        sizes = [size for _, size, _ in wanted]
        assert [
            (address, size if known is not None else None, how)
            for (address, size, how), known in zip(one, sizes)
        ] == wanted
        assert len(one) == len(wanted)
    assert parse(att).prefixes == parse(intel, True).prefixes


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # gdb 10.1 (binutils 2.35) writes the suffix of 64-bit stack instructions
        ("callq  0x401126 <main>", [(RSP, 8, "w")]),
        ("callq  *0x2fe2(%rip)        # 0x403ff2", [(AFTER + 0x2FE2, 8, "r"), (RSP, 8, "w")]),
        ("retq", [(RSP - 8, 8, "r")]),
        ("repz retq", [(RSP - 8, 8, "r")]),
        ("bnd jmpq *(%rax)", [(RAX, 8, "r")]),
        ("leaveq", [(RSP - 8, 8, "r")]),
        ("pushq  $0x0", [(RSP, 8, "w")]),
        ("pushw  $0x0", [(RSP, 2, "w")]),
        ("popq   0x8(%rax)", [(RAX + 8, 8, "w"), (RSP - 8, 8, "r")]),
        ("pushfq", [(RSP, 8, "w")]),
    ],
)
def test_older_names(text, wanted):
    assert touched(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mov    0x804a01c,%eax", [(0x804A01C, 4, "r")]),
        ("incl   0x804a01c", [(0x804A01C, 4, "rw")]),
        ("mov    %eax,-0x4(%ebp)", [(RBP - 4, 4, "w")]),
        ("push   %eax", [(RSP, 4, "w")]),
        ("pop    %eax", [(RSP - 4, 4, "r")]),
        ("pusha", [(RSP, 32, "w")]),
        ("popa", [(RSP - 32, 32, "r")]),
        ("ret    $0x4", [(RSP - 8, 4, "r")]),
        ("call   *0x804a00c", [(0x804A00C, 4, "r"), (RSP, 4, "w")]),
        ("mov    %gs:0x14,%eax", [(REGISTERS["gs_base"] + 0x14 & 0xFFFFFFFF, 4, "r")]),
        ("mov    %ax,(%bx,%si)", [(RBX + RSI & 0xFFFF, 2, "w")]),
    ],
)
def test_32_bit(text, wanted):
    assert touched(text, word=4) == wanted


def test_addresses_wrap_as_the_cpu_wraps_them():
    assert touched("mov %al,-0x1(%edi)", rdi=0) == [(0xFFFFFFFF, 1, "w")]
    assert touched("mov %al,-0x1(%rdi)", rdi=0) == [((1 << 64) - 1, 1, "w")]
    assert touched("mov %al,0x10(%rdi)", rdi=(1 << 64) - 8) == [(8, 1, "w")]


def test_direction_flag():
    down = {"eflags": 0x646}
    assert touched("stos %eax,%es:(%rdi)", **down) == [(RDI + 4, 4, "w")]
    assert touched("rep stos %eax,%es:(%rdi)", **down) == [(RDI + 4, 64, "w")]


@pytest.mark.parametrize(("index", "word"), [(0, 0), (63, 0), (64, 8), (-1, -8), (-64, -8)])
def test_bit_strings_reach_beyond_their_operand(index, word):
    text = "bts %rax,(%rdi)"
    assert touched(text, rax=index & (1 << 64) - 1) == [(RDI + word, 8, "rw")]


def test_a_missing_register_makes_the_address_unknown():
    for text in ("mov %eax,(%rdi)", "push %rax", "stos %al,%es:(%rdi)", "bts %rax,0x10(%rip)"):
        insn = parse(text)
        assert [one.address for one in memory_accesses(insn, {}, AFTER)] == [None]
    fixed = memory_accesses(parse("mov %eax,0x10(%rip)"), {}, AFTER)
    assert [one.address for one in fixed] == [AFTER + 16]


def test_flow():
    flow = {
        "call   0x401126 <f>": (0x401126, False),
        "jmp    0x401126 <f+4>": (0x401126, False),
        "je     0x401126": (0x401126, True),
        "loop   0x401126": (0x401126, True),
        "jmp    *%rax": (None, False),
        "ret": (None, False),
        "repz ret": (None, False),
        "ud2": (None, False),
        "hlt": (None, False),
        "int3": (None, True),
        "mov    %rax,(%rdi)": (None, True),
    }
    for text, wanted in flow.items():
        insn = parse(text)
        assert (insn.target, insn.falls_through) == wanted, text
    assert parse("call 0x1 <f>").is_call and parse("callq *%rax").is_call
    assert parse("bnd ret").is_return and parse("jmpq *%rax").is_jump
    for text in ("syscall", "sysenter", "int    $0x80"):
        assert parse(text).is_system_call
    assert parse("int    0x80", intel=True).is_system_call
    assert not parse("int    $0x3").is_system_call


def test_repeats():
    assert parse("rep stos %al,%es:(%rdi)").repeats
    assert parse("repz cmpsb %es:(%rdi),%ds:(%rsi)").repeats
    assert parse("repnz scas %es:(%rdi),%al").repeats
    assert not parse("stos %al,%es:(%rdi)").repeats
    assert not parse("repz ret").repeats
    assert not parse("movsd (%rax),%xmm0").is_string
    assert not parse("movsbl (%rax),%eax").is_string


def test_operands():
    insn = parse("lock add $-0x8,%fs:0x10(%rax,%r9,4)")
    assert insn.prefixes == ("lock",)
    assert insn.operands == (Immediate(-8), Memory("fs", 16, "rax", "r9", 4))
    assert parse("jmp 0x10").operands == (Target(16),)
    assert parse("in (%dx),%al").operands == (Port(), Register("al"))


def test_full_name():
    names = {"al": "rax", "ah": "rax", "eax": "rax", "sil": "rsi", "r9d": "r9", "r10b": "r10"}
    assert {name: full_name(name) for name in names} == names
    assert full_name("xmm0") == full_name("fs") == ""


@pytest.mark.parametrize("text", ["(bad)", ".byte 0x82", "", "rex.WRX", "mov %?,(%rax)"])
def test_no_instruction(text):
    assert parse(text) is None


def test_overlap():
    access = MemoryAccess(0x1000, 4, True, False)
    assert access.overlaps(0x1003, 8) and access.overlaps(0xFF9, 8)
    assert not access.overlaps(0x1004, 8) and not access.overlaps(0xFF8, 8)
    assert MemoryAccess(None, 4, True, False).overlaps(0, 8) is None


BASES = st.sampled_from(("", *NAMES))
INDICES = st.sampled_from(("", *(name for name in NAMES if name != "rsp")))
SEGMENTS = st.sampled_from(("", "fs", "gs"))


@given(SEGMENTS, BASES, INDICES, st.sampled_from((1, 2, 4, 8)), st.integers(-(1 << 31), 1 << 31))
def test_both_syntaxes_give_the_same_address(segment, base, index, scale, displacement):
    if not base and not index:
        base = "rdi"
    sign = "-" if displacement < 0 else ""
    number = f"{sign}{abs(displacement):#x}"
    att = f"{'%' + segment + ':' if segment else ''}{number}("
    att += f"%{base}" if base else ""
    att += f",%{index},{scale})" if index else ")"
    terms = "+".join([base] * bool(base) + [f"{index}*{scale}"] * bool(index))
    intel = f"DWORD PTR {segment + ':' if segment else ''}[{terms}{'' if sign else '+'}{number}]"
    address = displacement + REGISTERS.get(base, 0) + scale * REGISTERS.get(index, 0)
    address = (address + REGISTERS.get(segment + "_base", 0)) % (1 << 64)
    assert touched(f"movl   $0x1,{att}") == [(address, 4, "w")]
    assert touched(f"mov    {intel},0x1", intel=True) == [(address, 4, "w")]


@given(st.text(alphabet="mov repcallstj%$*(),:0x123[]+-{}#<> abdfgiqyz.", max_size=60))
@example("push $0123")
@example("push $x")
@example("mov eax,[rax*]")
@example("mov eax,[rax*²]")
@settings(max_examples=500)
def test_any_text_is_read_or_refused(text):
    for intel in (False, True):
        insn = parse(text, intel)
        if insn is not None:
            memory_accesses(insn, REGISTERS, AFTER)
