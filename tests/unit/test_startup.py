"""The marked block in gdb's start-up file: put in, updated, taken out, the rest kept."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdb_kwatch import places
from gdb_kwatch.outside import say, startup

HERE = "/somewhere/gdb_kwatch/gdbinit.py"
THERE = "/else where/gdb_kwatch/gdbinit.py"
BLOCK = b"# >>> kwatch >>>\nsource /somewhere/gdb_kwatch/gdbinit.py\n# <<< kwatch <<<\n"

# Anything a file may hold, with what could be mistaken made likely.
pieces = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"set height 0\n", b"# kwatch\r\n", startup.END]),
)
texts = st.lists(pieces).map(b"".join).filter(lambda text: startup.BEGIN not in text)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


@given(texts)
def test_taking_out_gives_the_old_bytes_back(text):
    assert startup.without_block(startup.with_block(text, HERE)) == text


@given(texts)
def test_putting_in_twice_is_putting_in_once(text):
    once = startup.with_block(text, HERE)
    assert startup.with_block(once, HERE) == once
    assert once.count(startup.BEGIN) == 1


@given(texts)
def test_a_moved_checkout_changes_the_path_only(text):
    moved = startup.with_block(startup.with_block(text, HERE), THERE)
    assert moved == startup.with_block(text, THERE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", BLOCK),
        (b"set height 0\n", b"set height 0\n" + BLOCK),
        (b"set height 0", b"set height 0\n" + BLOCK[:-1]),
        (b"set height 0\r\n", b"set height 0\r\n" + BLOCK.replace(b"\n", b"\r\n")),
        (b"echo \xff\xfe\n", b"echo \xff\xfe\n" + BLOCK),
    ],
    ids=["empty", "plain", "no newline at the end", "CRLF", "not UTF-8"],
)
def test_what_is_written(before, after):
    assert startup.with_block(before, HERE) == after


def test_what_the_user_wrote_after_the_block_stays():
    text = startup.with_block(b"first\n", HERE) + b"later\n"
    assert startup.with_block(text, THERE).endswith(b"# <<< kwatch <<<\nlater\n")
    assert startup.without_block(text) == b"first\nlater\n"


def test_a_second_copy_of_the_block_goes():
    twice = b"a\n" + BLOCK + b"b\n" + BLOCK + b"c\n"
    assert startup.with_block(twice, HERE) == b"a\n" + BLOCK + b"b\nc\n"
    assert startup.without_block(twice) == b"a\nb\nc\n"


@pytest.mark.parametrize("text", [b"a\n# >>> kwatch >>>\nb\n", b"# >>> kwatch >>>\n" + BLOCK])
def test_a_damaged_block_is_left_alone_and_said(text):
    with pytest.raises(say.Stop, match="without a '# <<< kwatch <<<'"):
        startup.with_block(text, HERE)
    with pytest.raises(say.Stop):
        startup.without_block(text)


def test_a_path_that_gdb_cannot_source_is_refused():
    with pytest.raises(say.Stop, match="line break"):
        startup.block("/a\nb/gdbinit.py")


def test_a_file_made_for_the_block_goes_with_it(home):
    assert "loads kwatch now" in startup.install(13)
    assert places.GDBINIT in (home / ".gdbinit").read_text()
    assert "nothing to do" in startup.install(13)
    assert "removed" in startup.uninstall()
    assert list(home.iterdir()) == []
    assert "nothing to do" in startup.uninstall()


def test_a_file_made_for_the_block_stays_once_the_user_wrote_into_it(home):
    startup.install(13)
    with open(home / ".gdbinit", "a") as file:
        file.write("set height 0\n")
    startup.uninstall()
    assert (home / ".gdbinit").read_text() == "set height 0\n"


def test_an_empty_file_of_the_users_stays(home):
    (home / ".gdbinit").touch()
    startup.install(13)
    startup.uninstall()
    assert (home / ".gdbinit").read_bytes() == b""


def test_an_old_path_is_brought_up_to_date(home):
    (home / ".gdbinit").write_bytes(b"a\n" + BLOCK + b"b\n")
    assert "up to date" in startup.install(13)
    assert (home / ".gdbinit").read_bytes() == startup.with_block(
        b"a\n" + BLOCK + b"b\n", places.GDBINIT
    )


def test_a_symbolic_link_stays_one_and_the_mode_stays(home):
    real = home / "dotfiles" / "gdbinit"
    real.parent.mkdir()
    real.write_bytes(b"set height 0\n")
    real.chmod(0o640)
    (home / ".gdbinit").symlink_to(real)
    startup.install(13)
    assert (home / ".gdbinit").is_symlink()
    assert startup.BEGIN in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    startup.uninstall()
    assert (home / ".gdbinit").is_symlink()
    assert real.read_bytes() == b"set height 0\n"
    assert os.listdir(real.parent) == ["gdbinit"]


def test_a_dangling_symbolic_link_is_followed(home):
    (home / ".gdbinit").symlink_to(home / "later")
    startup.install(13)
    assert startup.BEGIN in (home / "later").read_bytes()
    startup.uninstall()
    assert not (home / "later").exists()


@pytest.mark.parametrize(("major", "chosen"), [(10, ".gdbinit"), (11, ".config/gdb/gdbinit")])
def test_the_file_is_the_one_that_this_gdb_reads(home, major, chosen):
    for name in (".gdbinit", ".config/gdb/gdbinit"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    assert startup.location(major) == home / chosen


def test_the_plain_file_is_used_where_there_is_no_modern_one(home):
    assert startup.location(13) == home / ".gdbinit"


def test_xdg_config_home_is_respected(home, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    (home / "xdg" / "gdb").mkdir(parents=True)
    (home / "xdg" / "gdb" / "gdbinit").touch()
    assert startup.location(13) == home / "xdg" / "gdb" / "gdbinit"


def test_the_block_moves_when_gdb_reads_another_file(home):
    startup.install(13)
    modern = home / ".config" / "gdb" / "gdbinit"
    modern.parent.mkdir(parents=True)
    modern.write_bytes(b"set height 0\n")
    startup.install(13)
    assert not (home / ".gdbinit").exists()
    assert startup.BEGIN in modern.read_bytes()
    startup.uninstall()
    assert modern.read_bytes() == b"set height 0\n"


def test_a_file_that_cannot_be_read_is_said(home):
    (home / ".gdbinit").mkdir()
    with pytest.raises(say.Stop, match="nothing was changed"):
        startup.install(13)
