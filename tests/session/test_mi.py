"""Under MI a front end gets a full `*stopped` record, with reason, number and frame."""

from __future__ import annotations

import os
import re

import pexpect
import pytest
from harness import GDBINIT, gdb_command

END = re.compile(r"\(gdb\) ?\r?\n")


class Mi:
    """A gdb that speaks MI, on a pseudo-terminal."""

    def __init__(self, program, kwatch):
        arguments = [*gdb_command(), "-q", "-nx", "-i=mi2", "-iex", "set style enabled off"]
        if kwatch:
            arguments += ["-ex", f"source {GDBINIT}"]
        environment = dict(os.environ, TERM="dumb", LC_ALL="C")
        self.child = pexpect.spawn(
            arguments[0],
            [*arguments[1:], str(program)],
            env=environment,
            echo=False,
            encoding="utf-8",
            codec_errors="replace",
            timeout=60,
        )
        self.child.delaybeforesend = None
        self.transcript = self.until_prompt()

    def until_prompt(self):
        self.child.expect(END)
        return self.child.before.replace("\r\n", "\n")

    def ask(self, command):
        """A command, and all up to the next prompt; to the stop, where it resumes the program."""
        self.child.sendline(command)
        said = self.until_prompt()
        while "^running" in said and "*stopped" not in said:
            said += self.until_prompt()
        self.transcript += said
        return said

    def console(self, command):
        return self.ask(f'-interpreter-exec console "{command}"')

    def close(self):
        self.child.sendline("-gdb-exit")
        self.child.expect(pexpect.EOF)
        self.child.close(force=True)
        return self.child.exitstatus


@pytest.fixture
def mi(program):
    opened = []

    def start(name, kwatch=True):
        opened.append(Mi(program(name), kwatch))
        return opened[-1]

    yield start
    for one in opened:
        if one.child.isalive():
            assert one.close() == 0
        for word in ("Traceback", "Python Exception", "$_kwatch", "internal-error"):
            assert word not in one.transcript, one.transcript


def stopped(text):
    records = [x for x in text.splitlines() if x.startswith("*stopped")]
    assert len(records) == 1, text
    return records[0]


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_full_stop_record(mi, command):
    gdb = mi("simultaneous")
    gdb.ask("-break-insert -t main")
    gdb.ask("-exec-run")
    gdb.console(f"{command} s.a")
    gdb.console(f"{command} s.c")
    record = stopped(gdb.ask("-exec-continue"))
    assert 'reason="watchpoint-trigger"' in record
    assert re.search(r'wpt=\{number="[23]",exp="s\.[ac]"\}', record)
    assert re.search(r'value=\{old="0",new="1"\}', record)
    assert 'func="both"' in record
    assert 'thread-id="1"' in record


def test_a_watchpoint_that_gdb_misses(mi):
    """gdb blames pair.b, which did not change; the stop is pair.a's."""
    gdb = mi("blamed_unchanged")
    gdb.ask("-break-insert -t main")
    gdb.ask("-exec-run")
    gdb.ask("-break-watch pair.a")
    gdb.ask("-break-watch pair.b")
    said = gdb.ask("-exec-continue")
    record = stopped(said)
    assert 'func="store"' in record and 'thread-id="1"' in record
    assert "exited" not in record
    assert "pair.a" in said
    assert '"1"' in gdb.ask("-data-evaluate-expression pair.a")


def test_sentinels_are_not_told_to_the_front_end(mi):
    """=breakpoint-created and -break-list know the user's breakpoints only."""
    gdb = mi("simultaneous")
    gdb.ask("-break-insert -t main")
    gdb.ask("-exec-run")
    gdb.ask("-break-watch s.a")
    gdb.console("kwatch s.b")
    gdb.ask("-exec-continue")
    numbers = set(re.findall(r'=breakpoint-\w+,bkpt=\{number="(-?[\d.]+)"', gdb.transcript))
    numbers |= set(re.findall(r'=breakpoint-\w+,id="(-?[\d.]+)"', gdb.transcript))
    assert numbers <= {"1", "2", "3"}
    listed = re.findall(r'bkpt=\{number="(-?\d+)"', gdb.ask("-break-list"))
    assert listed == ["2", "3"]


@pytest.mark.parametrize("expression", ["table[3]", "-size 8 &table[3]", "z + table.cells[3]"])
def test_no_setting_is_told_to_have_changed(mi, expression):
    """To see whether an expression calls the program, kwatch forbids calls for a moment."""
    gdb = mi("operators")
    gdb.ask("-break-insert -t go")
    gdb.ask("-exec-run")
    gdb.console(f"kwatch {expression}")
    told = re.findall(
        r'=cmd-param-changed,param="may-call-functions",value="(\w+)"', gdb.transcript
    )
    if int(re.search(r"GNU gdb .* (\d+)\.\d", gdb.console("show version")).group(1)) >= 14:
        assert told == []
    assert told == ["off", "on"] * (len(told) // 2)
    assert "is on" in gdb.console("show may-call-functions")
    assert 'value="0"' in gdb.ask("-data-evaluate-expression calls")


def test_one_answer_to_each_command(mi):
    """With its own token and fields."""
    gdb = mi("operators")
    gdb.ask("-break-insert -t go")
    gdb.ask("-exec-run")
    results = re.findall(r"^.*\^.*$", gdb.ask("21-break-watch table.cells[3]"), re.M)
    assert results == ['21^done,wpt={number="2",exp="table.cells[3]"}']
    results = re.findall(r"^.*\^.*$", gdb.ask("22-break-watch -a *&table.cells[2]"), re.M)
    assert results == ['22^done,hw-awpt={number="3",exp="*&table.cells[2]"}']


def test_what_gdb_answers_is_understood(mi, tmp_path):
    """gdb 18 gives a script the records of MI's console stream in place of the text."""
    gdb = mi("operators")
    script = tmp_path / "hook.gdb"
    script.write_text(
        'define hook-stop\n  echo mine "\\\\303\\n\nend\ndocument hook-stop\nDone.\nend\n'
    )
    gdb.console(f"source {script}")
    before = gdb.console("show user hook-stop")
    gdb.ask("-break-insert -t go")
    gdb.ask("-exec-run")
    assert "calls a function of the program" in gdb.console("kwatch table[3]")
    gdb.console("kwatch z")
    inside = '~"  kwatch-internal-hook-stop\\n"\n'
    assert gdb.console("show user hook-stop").replace(inside, "") == before
    assert '~"Done.\\n"' in gdb.console("help hook-stop")
    assert "Error while running hook_stop" not in gdb.ask("-exec-continue")
    assert 'value="0"' in gdb.ask("-data-evaluate-expression calls")
