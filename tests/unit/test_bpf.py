"""The assembler's encodings, and bpf(2) where this machine lets us."""

from __future__ import annotations

import os
import struct

import pytest

from gdb_kwatch.core import bpf as asm
from gdb_kwatch.core.bpf import R0, R1, R2, R6, R10, AssemblyError, Program
from gdb_kwatch.linux import bpf

REFUSED = bpf.why_not()
needs_bpf = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


def words(program: Program, **maps: int) -> list[str]:
    code = program.assemble(maps)
    return [code[at : at + 8].hex() for at in range(0, len(code), 8)]


# As clang and the kernel's own bpf_insn macros write them (include/linux/filter.h).
@pytest.mark.parametrize(
    ("write", "bytes_of_it"),
    [
        (lambda p: p.mov(R0, 0), "b700000000000000"),
        (lambda p: p.mov(R6, R1), "bf16000000000000"),
        (lambda p: p.alu("add", R2, -8), "07020000f8ffffff"),
        (lambda p: p.alu("mov", R0, R0, 4), "bc00000000000000"),
        (lambda p: p.alu("arsh", R0, 32), "c700000020000000"),
        (lambda p: p.load(R1, R6, 128), "7961800000000000"),
        (lambda p: p.load(R1, R6, 4, 1), "7161040000000000"),
        (lambda p: p.store(R10, -8, R1), "7b1af8ff00000000"),
        (lambda p: p.store(R10, -4, 7, 4), "620afcff07000000"),
        (lambda p: p.atomic("add", R0, 0, R1), "db10000000000000"),
        (lambda p: p.atomic("xchg", R0, 8, R1), "db100800e1000000"),
        (lambda p: p.call("map_lookup_elem"), "8500000001000000"),
        (lambda p: p.exit(), "9500000000000000"),
    ],
)
def test_known_encodings(write, bytes_of_it):
    program = Program()
    write(program)
    assert words(program) == [bytes_of_it]


def test_a_number_of_64_bits_takes_two_instructions():
    program = Program()
    program.mov(R1, 0x123456789ABCDEF0)
    assert words(program) == ["18010000f0debc9a", "0000000078563412"]


def test_maps_are_named_until_the_end():
    program = Program()
    program.map(R1, "ring")
    program.map_value(R2, "memory", 16)
    assert words(program, ring=5, memory=6) == [
        *("1811000005000000", "0000000000000000"),
        *("1822000006000000", "0000000010000000"),
    ]
    with pytest.raises(AssemblyError, match="no map ring"):
        program.assemble()


def test_labels_count_slots():
    program = Program()
    program.jump_if("eq", R0, 0, "end")
    program.mov(R0, 1 << 40)  # two slots
    program.label("end")
    program.exit()
    assert words(program)[0] == "1500020000000000"


def test_what_cannot_be_assembled():
    program = Program()
    with pytest.raises(AssemblyError, match="16 bits"):
        program.load(R0, R1, 40000)
    with pytest.raises(AssemblyError, match="32 bits"):
        program.alu("add", R0, 1 << 31)
    program.jump("nowhere")
    with pytest.raises(AssemblyError, match="no label nowhere"):
        program.assemble()
    program.label("twice")
    with pytest.raises(AssemblyError, match="twice"):
        program.label("twice")


def test_pt_regs_are_as_in_the_kernel():
    places = {name: asm.PT_REGS[name] for name in ("r15", "rax", "orig_rax", "rip", "ss")}
    assert places == {"r15": 0, "rax": 80, "orig_rax": 120, "rip": 128, "ss": 160}


@needs_bpf
def test_the_verifier_says_why():
    program = Program()
    program.load(R0, R10, 8)
    program.exit()
    with pytest.raises(bpf.BpfError) as caught:
        bpf.load(program.assemble())
    assert "invalid" in caught.value.log


@needs_bpf
def test_memory_is_shared_and_closed():
    before = len(os.listdir("/proc/self/fd"))
    memory = bpf.Memory(20)
    assert memory.size == 24
    memory.set_word(16, -1)
    assert memory.word(16) == (1 << 64) - 1
    memory.close()
    memory.close()
    assert len(os.listdir("/proc/self/fd")) == before


@needs_bpf
def test_an_empty_ring_reads_as_nothing():
    ring = bpf.Ring(5000, 12)
    assert (ring.size, ring.step) == (8192, 24)
    assert ring.read() == b""
    ring.close()


def test_a_ring_stops_at_a_record_being_written():
    """The kernel's side of the ring, by hand."""
    ring = object.__new__(bpf.Ring)
    ring.size, ring.record, ring.step = 4096, 8, 16
    ring._consumer = bytearray(4096)
    ring._producer = bytearray(4096 + 2 * 4096)
    busy = 1 << 31
    for n, length in enumerate((8, 8, 8 | busy, 8)):
        struct.pack_into("<IIQ", ring._producer, 4096 + 16 * n, length, 0, n)
    struct.pack_into("<Q", ring._producer, 0, 64)
    assert [row[2] for row in struct.iter_unpack("<IIQ", ring.read())] == [0, 1]
    assert ring.read() == b""
    struct.pack_into("<I", ring._producer, 4096 + 32, 8)
    assert [row[2] for row in struct.iter_unpack("<IIQ", ring.read())] == [2, 3]


@pytest.mark.parametrize(
    ("number", "text"),
    [(38, "no bpf"), (1, "refused"), (22, "Invalid argument")],
)
def test_the_reason_is_told(monkeypatch, number, text):
    def refused(code, name=""):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bpf, "load", refused)
    assert text in bpf.why_not()
