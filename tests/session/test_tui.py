"""The TUI's windows stay whole when kwatch prints, as seen through a terminal emulator."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("pyte", reason="pyte is not installed")

from screen import Screen  # noqa: E402

ROW = re.compile(r"Hardware watchpoint \d: s\.\w  DR\d   write   (\d)          (\w+)")


@pytest.fixture
def tui(program):
    opened = []

    def start(command="kwatch", **options):
        """A gdb in main, in the TUI, with two watchpoints."""
        gdb = Screen(program("simultaneous"), kwatch=command == "kwatch", **options)
        opened.append(gdb)
        gdb.cmd("break main")
        gdb.cmd("run")
        gdb.cmd("tui enable", lambda: bool(gdb.box()))
        gdb.cmd(f"{command} s.a")
        gdb.cmd(f"{command} s.c")
        assert "3: s.c" in gdb.text
        return gdb

    yield start
    for one in opened:
        one.close()


def cont(gdb):
    """On to the next stop, with the windows whole; what was written since then."""
    gdb.cmd("continue", lambda: bool(gdb.box()))
    assert "in both" in gdb.text
    return gdb.below()


def test_the_block_stands_in_the_command_window(tui):
    gdb = tui()
    below = cont(gdb)
    assert "2 watchpoints hit by one instruction" in below
    assert [ROW.match(line).groups() for line in below if ROW.match(line)] == [
        ("0", "1"),
        ("0", "1"),
    ]
    gdb.until(lambda: any(re.match(r"│\s+>\s*10\s", line) for line in gdb.box()))
    assert any("/* store */" in line for line in gdb.box())


def test_the_other_windows_are_as_in_gdb_alone(tui):
    shown = []
    for command in ("kwatch", "watch"):
        gdb = tui(command)
        cont(gdb)
        gdb.until(lambda gdb=gdb: any(re.match(r"│\s+>\s*10\s", line) for line in gdb.box()))
        shown.append(gdb.box())
    assert shown[0] == shown[1]


@pytest.mark.parametrize("layout", ["asm", "split", "regs"])
def test_other_layouts(tui, layout):
    gdb = tui(rows=50)
    gdb.cmd(f"layout {layout}", lambda: bool(gdb.box()))
    below = cont(gdb)
    assert "2 watchpoints hit by one instruction" in below
    assert len([line for line in below if ROW.match(line)]) == 2


def test_resized(tui):
    """Narrower than the table: gdb's own shape, a value a line."""
    gdb = tui()
    cont(gdb)
    gdb.resize(50, 60)
    gdb.until(lambda: bool(gdb.box()))
    below = cont(gdb)
    assert "Hardware watchpoint 2: s.a  (DR0, write)" in below
    assert below.count("Old value = 1") == 2 and below.count("New value = 2") == 2
    gdb.resize(50, 120)
    gdb.until(lambda: bool(gdb.box()))
    gdb.cmd("kwatch list", lambda: bool(gdb.box()))
    assert "Num  Kind " in gdb.text


def test_left_and_entered_again(tui):
    gdb = tui()
    gdb.cmd("tui disable")
    gdb.cmd("continue")
    assert "2 watchpoints hit by one instruction" in gdb.text
    gdb.cmd("tui enable", lambda: bool(gdb.box()))
    assert "2 watchpoints hit by one instruction" in cont(gdb)


def test_styles_leave_no_escapes_on_the_screen(tui):
    gdb = tui()
    gdb.cmd("set style enabled on")
    cont(gdb)
    assert not re.search(r"\x1b|\[\d*m", gdb.text)


def test_a_long_table_scrolls_in_its_window(tui):
    gdb = tui()
    cont(gdb)
    cont(gdb)
    for command in ("kwatch slots", "kwatch hits", "kwatch doctor", "kwatch list"):
        gdb.cmd(command, lambda: bool(gdb.box()))
    assert any(re.match(r"3 +kwatch .* installed ", line) for line in gdb.below())
