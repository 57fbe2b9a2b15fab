"""Set-up as a user runs it: the verbs, in processes of their own, with a real gdb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, gdb_command

# Runs a command line whose ptrace answers EPERM, as in a container without SYS_PTRACE.
NO_PTRACE = """
import ctypes, os, struct, sys
SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, NR_PTRACE, EPERM = 2, 38, 22, 101, 1
LOAD, EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
rules = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, NR_PTRACE), (RETURN, 0, 0, ERRNO | EPERM)]
rules += [(RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def kwatch(home):
    """`kwatch(WORD...)`: that verb, with a home folder of its own."""

    def run(*words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ, HOME=str(home), TERM="dumb")
        environment.pop("XDG_CONFIG_HOME", None)
        return subprocess.run(
            [*before, sys.executable, "-m", "gdb_kwatch", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


def started(home: Path, *commands: str) -> str:
    """What a gdb of this home folder prints; it reads its start-up file."""
    arguments = [part for command in commands for part in ("-ex", command)]
    return subprocess.run(
        [*gdb_command(), "-batch", *arguments],
        env=dict(os.environ, HOME=str(home), TERM="dumb"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    ).stdout


def processes_of(program: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/exe"):
        try:
            found.append(os.readlink(entry))
        except OSError:
            continue
    return [path for path in found if path == str(program)]


def test_demo_shows_both_answers(kwatch, program):
    path = program("simultaneous")
    shown = kwatch("demo")
    assert shown.returncode == 0, shown.stderr
    alone, _, with_kwatch = shown.stdout.partition("2. gdb with kwatch")
    assert "Hardware watchpoint 4: s.c\n  | \n  | Old value = 0" in alone
    assert "Hardware watchpoint 2: s.a\n  | \n" not in alone
    assert "3 watchpoints hit by one instruction" in with_kwatch
    assert "\x1b" not in shown.stdout
    assert "python3 -m gdb_kwatch install" in with_kwatch
    assert processes_of(path) == []


def test_demo_says_that_ptrace_is_refused(kwatch, program):
    path = program("simultaneous")
    shown = kwatch("demo", before=(sys.executable, "-c", NO_PTRACE))
    assert shown.returncode == 1
    assert "ptrace is refused" in shown.stderr
    assert "--cap-add=SYS_PTRACE" in shown.stderr
    assert processes_of(path) == []


def test_doctor_finds_nothing_to_mend(kwatch):
    shown = kwatch("doctor")
    assert shown.returncode == 0, shown.stdout
    assert "ok    gdb" in shown.stdout
    assert "BAD" not in shown.stdout


def test_doctor_finds_that_ptrace_is_refused(kwatch):
    shown = kwatch("doctor", before=(sys.executable, "-c", NO_PTRACE))
    assert shown.returncode == 1
    assert "BAD" in shown.stdout and "SYS_PTRACE" in shown.stdout


@pytest.mark.parametrize(
    "before",
    [None, b"", b"echo mine\\n", b"echo mine\\n\r\n", b"# \xff\n", b"# caf\xe9\r\n"],
    ids=["no file", "empty", "no newline at the end", "CRLF", "not UTF-8", "CRLF not UTF-8"],
)
def test_an_installed_kwatch_is_loaded_by_gdb(kwatch, home, before):
    file = home / ".gdbinit"
    if before is not None:
        file.write_bytes(before)
    assert kwatch("install").returncode == 0
    once = file.read_bytes()
    assert kwatch("install").returncode == 0
    assert file.read_bytes() == once
    answer = started(home, "help kwatch", "kwatch list")
    assert "Undefined command" not in answer
    assert kwatch("uninstall").returncode == 0
    assert (file.read_bytes() if file.exists() else None) == before
    assert "Undefined command" in started(home, "kwatch list")


def test_install_chooses_the_file_that_this_gdb_reads(kwatch, home):
    for name in (".gdbinit", ".config/gdb/gdbinit"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("")
    assert kwatch("install").returncode == 0
    assert "Undefined command" not in started(home, "kwatch list")


def test_without_gdb_or_root_the_command_is_said(home, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys; os.geteuid = lambda: 1000\n"
            "from gdb_kwatch.outside import verbs; sys.exit(verbs.main(['demo']))",
        ],
        cwd=ROOT,
        env={"PATH": str(bare), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.returncode == 2
    assert "apt-get install -y gdb gcc libc6-dev" in shown.stderr
