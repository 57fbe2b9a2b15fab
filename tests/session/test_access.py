"""The instruction that made an access, found from real traps of real programs.

kwatch is not loaded: plain breakpoints of gdb stop the program, and `find_access` is asked.
"""

from __future__ import annotations

import struct
import subprocess
import time

import pytest
from harness import ROOT, line

from fixtures.build import BuildError, build

WRITE, ACCESS = 1, 3  # the R/W field of DR7

# Inside gdb. A watchpoint whose value always changes stops at every trap, also at those of a store
# that changes nothing, which gdb itself passes over.
DRIVER = f"""
import gdb, sys
sys.path.insert(0, {str(ROOT)!r})
from gdb_kwatch.core.records import Region
from gdb_kwatch.inferior.access import find_access

class Tick(gdb.Function):
    count = 0
    def invoke(self):
        Tick.count += 1
        return Tick.count

Tick("tick")

def number(expression):
    return int(gdb.parse_and_eval(expression))

def located(address, length=8, rw={ACCESS}, live=True, pc=None):
    pc = gdb.newest_frame().pc() if pc is None else pc
    found = find_access(pc, [Region(address, length, rw)], live)._asdict()
    return dict(found, pc=pc)

def trace(address, length, rw, live=True):
    kind = {{{WRITE}: gdb.WP_WRITE, {ACCESS}: gdb.WP_ACCESS}}[rw]
    c_type = {{1: "char", 2: "short", 4: "int", 8: "long long"}}[length]
    text = "$tick() + 0 * *(%s *) %d" % (c_type, address)
    gdb.Breakpoint(text, type=gdb.BP_WATCHPOINT, wp_class=kind)
    found = []
    while True:
        gdb.execute("continue", to_string=True)
        if not gdb.selected_inferior().pid:
            return found
        found.append(located(address, length, rw, live))

def memory(start, end):
    return bytes(gdb.selected_inferior().read_memory(start, end - start)).hex()
"""


@pytest.fixture
def stopped(session):
    """`stopped(NAME, place)`: a gdb without kwatch on that fixture, run to `place`."""

    def opened(name, place="main"):
        context = session(name, kwatch=False)

        class Stopped:
            def __enter__(self):
                gdb = context.__enter__()
                gdb.python(DRIVER)
                gdb.run_to(place)
                return gdb

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Stopped()

    return opened


def addresses(name):
    """The static symbols of a fixture, from `nm`: also those of its stripped twin."""
    lines = subprocess.run(["nm", str(build(name))], capture_output=True, text=True, check=True)
    return {w[2]: int(w[0], 16) for w in map(str.split, lines.stdout.splitlines()) if len(w) == 3}


def marked(gdb, symbols, word):
    """The table of a fixture: (address, kind) of each access, in the order they run."""
    data = gdb.evaluate(f"memory({symbols['accesses']}, {symbols['accesses_end']})")
    return list(struct.iter_unpack("<QQ" if word == 8 else "<II", bytes.fromhex(data)))


def once(found):
    """A `rep` that traps at several of its elements is one access."""
    return [
        one
        for last, one in zip([None, *found], found)
        if not (last and one["address"] and one["address"] == last["address"])
    ]


# name, symbols from, where to stop first, bytes of a word
PROGRAMS = [
    ("access_instructions", "access_instructions", "main", 8),
    ("access_instructions_lines", "access_instructions_lines", "main", 8),
    ("access_instructions_stripped", "access_instructions", "*{main}", 8),
    ("access_vectors", "access_vectors", "main", 8),
    ("access_32bit", "access_32bit", "*{_start}", 4),
]

# Where the instruction is told, but another cannot be ruled out; all others are certain.
DOUBTED = {
    "access_instructions": ["ret"],  # of a call through a variable
    "access_instructions_lines": ["ret"],
    "access_instructions_stripped": [
        "mov",  # of (%rcx) into %rcx: the instruction destroyed its address, at a guessed boundary
        "add",
        "mull",
        "xlat",
        "ret",
    ],
}


def skip_where_no_32_bit(name):
    """A compiler or a kernel may lack what 32-bit programs need."""
    if name == "access_32bit":
        try:
            subprocess.run([str(build(name))], check=True)
        except (BuildError, OSError, subprocess.CalledProcessError) as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("flavor", ["att", "intel"])
@pytest.mark.parametrize("rw", [WRITE, ACCESS], ids=["write", "access"])
@pytest.mark.parametrize(("name", "twin", "start", "word"), PROGRAMS, ids=lambda x: str(x)[7:])
def test_every_instruction(stopped, program, name, twin, start, word, rw, flavor):
    """Traps are exactly those that the program's table expects, and each is told."""
    skip_where_no_32_bit(name)
    program(twin)
    symbols = addresses(twin)
    with stopped(name, start.format(**{key: hex(value) for key, value in symbols.items()})) as gdb:
        gdb.cmd(f"set disassembly-flavor {flavor}")
        wanted = [at for at, kind in marked(gdb, symbols, word) if rw == ACCESS or kind & 2]
        found = once(gdb.evaluate(f"trace({symbols['watched']}, {word}, {rw})"))
        if name.endswith("stripped") and rw == ACCESS:
            # A jump through memory, from a place that no symbol connects with the PC.
            jump = symbols["jump_through_memory"]
            wanted = [0 if at == jump else at for at in wanted]
        assert [one["address"] or 0 for one in found] == wanted
        for one in found:
            assert one["certain"] == (one["address"] is not None and not one["reason"]), one
        doubted = [one["text"].split()[0] for one in found if one["address"] and one["reason"]]
        if flavor == "att":
            assert doubted == (DOUBTED.get(name, []) if rw == ACCESS else [])
        assert gdb.cmd("show disassembly-flavor").count(f'"{flavor}"') == 1
        for one in found:
            assert ("%" in (one["text"] or "")) <= (flavor == "att"), one


def test_an_access_that_is_not_told_has_a_reason(stopped):
    symbols = addresses("access_instructions")
    with stopped("access_instructions") as gdb:
        found = gdb.evaluate(f"trace({symbols['watched']}, 8, {ACCESS})")
        reasons = [one["reason"] for one in found if one["address"] is None]
        assert len(reasons) == 2
        assert "`call *%rdx` has returned, by a return instruction not recorded" in reasons[0]
        assert "returns_in_two_places" in reasons[1] and "one of 2" in reasons[1]
        for one in found:
            if one["address"] is None:
                assert (one["text"], one["function"], one["line"]) == (None, None, None)
                assert one["symbol"] == "" and not one["certain"]


def test_without_registers_the_code_still_tells_most(stopped):
    """A trap that is looked at later: nothing wrong may be certain."""
    symbols = addresses("access_instructions")
    with stopped("access_instructions") as gdb:
        wanted = [at for at, kind in marked(gdb, symbols, 8) if kind & 2]
        found = once(gdb.evaluate(f"trace({symbols['watched']}, 8, {WRITE}, live=False)"))
        told = {one["address"] for one in found if one["certain"]}
        assert told <= set(wanted)
        assert len(told) > 0.8 * len(wanted)


def test_without_regions_nothing_wrong_is_certain(stopped):
    with stopped("access_situations") as gdb:
        gdb.cmd("watch watched")
        gdb.cont()
        pc = gdb.evaluate("gdb.newest_frame().pc()")
        found = gdb.evaluate(f"find_access({pc})._asdict()")
        assert found["line"] == line("access_situations.c", "last of its line")


# --- programs in C, with gdb's own watchpoints ----------------------------------------------------


def test_the_line_is_that_of_the_store(stopped):
    source = "access_situations.c"
    with stopped("access_situations") as gdb:
        gdb.cmd("handle SIGUSR1 nostop noprint pass")
        gdb.cmd("watch watched")
        found = []
        while "watchpoint 2: watched" in gdb.cont():
            found.append(gdb.evaluate("located(number('(long)&watched'), 8, 1)"))
        # The first store of the loop rewrites 0: gdb does not stop there.
        assert [(one["line"], one["function"], one["certain"]) for one in found] == [
            (line(source, "last of its line"), "ends_a_line", True),
            (line(source, "inlined"), "inlined", True),
            (line(source, "cold part"), "cold_part", True),
            (line(source, "in the handler"), "handler", True),
        ]
        assert all(one["pc"] > one["address"] for one in found)
        assert all(one["fullname"].endswith(f"/fixtures/{source}") for one in found)
        assert found[1]["symbol"].startswith("calls_inlined")


def test_a_load_of_an_awatched_variable(stopped):
    with stopped("failed_cmpxchg", "swap") as gdb:
        gdb.cmd("awatch lock")
        gdb.cont()
        found = gdb.evaluate("located(number('(long)&lock'))")
        assert found["text"].startswith("lock cmpxchg ") and found["certain"]
        assert found["line"] == line("failed_cmpxchg.c", "swap")


def test_libc(stopped):
    """With symbols and lines or without any, as the libc of the machine has been installed."""
    with stopped("access_situations", "copies") as gdb:
        gdb.cmd("watch copy[100]")
        gdb.cont()
        found = gdb.evaluate("located(number('(long)&copy[100]'), 1, 1)")
        assert found["certain"] and found["address"] < found["pc"] + 1
        assert "mem" in (found["function"] or "mem")


def test_the_vdso(stopped):
    with stopped("access_situations") as gdb:
        gdb.cmd("watch now.tv_sec")
        out = gdb.cont()
        if "watchpoint 2: now.tv_sec" not in out:
            pytest.skip("this kernel's clock is read by a system call")
        found = gdb.evaluate("located(number('(long)&now'), 8, 1)")
        assert found["certain"] and "clock_gettime" in found["symbol"]


def test_a_linkage_stub(stopped):
    """The stub's jump reads its slot and lands in a library: the call before it leads back."""
    with stopped("access_situations") as gdb:
        gdb.cmd("tbreak raise")
        gdb.cmd("handle SIGUSR1 nostop noprint pass")
        slot = gdb.evaluate("number(\"(long)&'getppid@got.plt'\")")
        found = gdb.evaluate(f"trace({slot}, 8, {ACCESS})")
        assert found[-1]["symbol"] == "getppid@plt", found[-1]
        assert found[-1]["text"].split()[0] == "jmp" or "bnd jmp" in found[-1]["text"]
        assert found[-1]["certain"]


def test_the_frame_of_a_signal(stopped):
    """Written by the kernel: at the handler's first instruction no code of the program did it."""
    with stopped("access_situations") as gdb:
        gdb.cmd("handle SIGUSR1 nostop noprint pass")
        gdb.cmd("tbreak *handler")
        gdb.cont()
        found = gdb.evaluate("located(number('(long)$rsp') + 64, 8, 1)")
        assert found["address"] is None
        assert "kernel" in found["reason"] and "signal" in found["reason"]


def test_a_system_call(stopped):
    with stopped("access_situations") as gdb:
        gdb.cmd("catch syscall getppid")
        gdb.cont()
        gdb.cont()
        found = gdb.evaluate("located(number('(long)&watched'), 8, 1)")
        assert found["text"] == "syscall" and found["certain"]


def test_one_vector_store(stopped):
    with stopped("simultaneous") as gdb:
        gdb.cmd("watch s.c")
        gdb.cont()
        found = gdb.evaluate("located(number('(long)&s.c'), 8, 1)")
        assert found["text"].startswith("vmovdqa %ymm0,") and found["certain"]
        assert found["line"] == 9 and found["function"] == "both"


@pytest.mark.parametrize(
    ("name", "mnemonic", "function"),
    [("push_on_watched_stack", "push", "push"), ("call_on_watched_stack", "call", "call_it")],
)
def test_the_stack(stopped, name, mnemonic, function):
    with stopped(name) as gdb:
        gdb.cmd("watch area[7]")
        gdb.cont()
        found = gdb.evaluate("located(number('(long)&area[7]'), 8, 1)")
        assert found["text"].startswith(mnemonic) and found["certain"]
        assert found["function"] == function
        assert found["line"] == line(f"{name}.c", mnemonic)


# --- what may never happen ------------------------------------------------------------------------


def test_nothing_of_the_users_is_changed(stopped):
    with stopped("access_situations") as gdb:
        gdb.cmd("set disassembly-flavor intel")
        gdb.cmd("watch watched")
        gdb.cont()
        gdb.cmd("up")
        gdb.cmd("x/2i main")
        before = gdb.cmd("info line *$_"), gdb.cmd("frame"), gdb.cmd("show convenience")
        found = gdb.evaluate("located(number('(long)&watched'), 8, 1)")
        assert "QWORD PTR" in found["text"]
        assert (gdb.cmd("info line *$_"), gdb.cmd("frame"), gdb.cmd("show convenience")) == before


def test_it_never_raises(session):
    with session("access_situations", kwatch=False) as gdb:
        gdb.python(DRIVER)
        for pc in (0, 1, 0x401000, (1 << 64) - 1, 1 << 70, -5):
            found = gdb.evaluate(f"located(0x404000, 8, pc={pc})")  # not running
            assert not found["certain"] or found["address"]
        gdb.run_to("main")
        for pc in (0, 1, 0x401000, (1 << 64) - 1, 1 << 70, -5):
            for live in (True, False):
                found = gdb.evaluate(f"located(0x404000, 8, live={live}, pc={pc})")
                assert not found["certain"], found
                assert found["reason"]
        gdb.cmd("set $rsp = 8")
        assert gdb.evaluate("located(8)")["reason"]
        gdb.cmd("set $pc = 3")
        assert gdb.evaluate("located(8)")["reason"]


def test_time_is_bounded(stopped):
    """Some milliseconds were seen, without any symbol too; fifty times that would be felt."""
    symbols = addresses("access_instructions")
    with stopped("access_instructions_stripped", f"*{symbols['main']}") as gdb:
        gdb.cmd(f"watch *(long *) {symbols['watched']}")
        gdb.cont()
        start = time.monotonic()
        gdb.evaluate(f"[located({symbols['watched']}) for _ in range(20)] and 1")
        assert (time.monotonic() - start) / 20 < 0.15
