"""The README's sample session is what a gdb with kwatch really prints."""

import re
from pathlib import Path

import pytest

from gdb_kwatch.linux import perf_event

README = Path(__file__).parents[2] / "README.md"


def plain(text):
    """Without what differs from compiler to compiler: addresses, offsets, blanks."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = text.replace("v@entry=", "")  # gcc 10 does not know the value at entry
    text = re.sub(r"<(\w+)\+\d+>", r"<\1>", text)
    text = re.sub(r"at \S*simultaneous\.c", "at simultaneous.c", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def sample(start):
    """The README's code block that begins with ``start``, as (command, what it prints) pairs."""
    blocks = re.findall(r"^ *```\n(.*?)^ *```", README.read_text(), re.S | re.M)
    block = next(b for b in blocks if b.lstrip().startswith(start))
    parts = re.split(r"^ *\(gdb\) (.*)\n", block, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2]))


def test_the_first_session(session):
    with session("simultaneous") as gdb:
        gdb.cmd("break main")
        gdb.cmd("run")
        for command, printed in sample("(gdb) kwatch s.a"):
            assert plain(gdb.cmd(command)) == plain(printed), command


def test_one_too_many(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abcd":
            gdb.cmd(f"kwatch s.{member}")
        for command, printed in sample("(gdb) kwatch other"):
            assert plain(gdb.cmd(command)) == plain(printed), command


def test_the_json_has_what_is_shown(session):
    ((_, printed),) = sample("(gdb) kwatch hits -json")
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        for member in "abc":
            gdb.cmd(f"kwatch s.{member}")
        gdb.cont()
        trap = gdb.hits()[0]
    assert set(re.findall(r'"(\w+)":', printed)) == set(trap) | set(trap["hits"][0])


@pytest.mark.skipif(perf_event.why_not() is not None, reason="no perf here")
def test_hits_inside_system_calls(session):
    """Up to gdb's own frame line, which depends on the C library's debug information."""
    with session("syscall") as gdb:
        gdb.cmd("break main")
        gdb.cmd("run")
        for command, printed in sample("(gdb) kwatch -k buf[0]"):
            said = gdb.cmd(command).split("\nCatchpoint ")[0]
            assert plain(without_numbers(said)) == plain(without_numbers(printed)), command


def without_numbers(text):
    """How often the kernel's copy was counted, and the number of a pipe."""
    return re.sub(r"pipe:\[\d+\]", "pipe", re.sub(r"perf x\d", "perf", text))
