"""gdb's command line in the ways it is used: options, scripts, logging, paging, styles, hooks."""

from __future__ import annotations

import re
import subprocess

import pytest
from harness import GDBINIT, gdb_command

BLOCK = "2 watchpoints hit by one instruction"


def ran(*arguments, **options):
    """A gdb that runs to its end with no terminal; what it wrote."""
    words = [*gdb_command(), "-nx", "-iex", "set width 0", "-ex", f"source {GDBINIT}"]
    done = subprocess.run(
        [*words, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout and "$_kwatch" not in done.stdout
    return done.stdout


WATCHING = ("break main", "run", "kwatch s.a", "kwatch s.c", "continue")


def test_batch(program):
    commands = [word for command in WATCHING for word in ("-ex", command)]
    said = ran("-batch", *commands, program("simultaneous"))
    assert said.count(BLOCK) == 1
    assert "in both (v=" in said.split(BLOCK)[1]


@pytest.mark.parametrize("option", ["-x", "-ex"])
def test_a_script(program, tmp_path, option):
    """``-q -x FILE`` and ``source FILE``, with commands that go on by themselves."""
    script = tmp_path / "watch.gdb"
    script.write_text(
        "set pagination off\nbreak main\nrun\nkwatch s.a\n"
        'commands\nsilent\nprintf "a is %ld\\n", s.a\ncontinue\nend\nkwatch s.c if 0\ncontinue\n'
    )
    given = script if option == "-x" else f"source {script}"
    said = ran("-q", "-batch", option, given, program("simultaneous"))
    assert re.findall(r"a is \d", said) == ["a is 1", "a is 2"]
    assert "exited normally" in said


def test_commands_from_a_pipe(program):
    words = [*gdb_command(), "-nx", "-q", "-ex", f"source {GDBINIT}", str(program("simultaneous"))]
    given = "\n".join([*WATCHING, "continue", "delete", "continue", "quit", ""])
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout.count(BLOCK) == 2 and "exited normally" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_arguments_of_the_program(program):
    commands = ("-ex", "break hit", "-ex", "run", "-ex", "kwatch a", "-ex", "delete 1")
    more = ("-ex", "continue", "-ex", "print n", "-ex", "continue")
    said = ran("-batch", *commands, *more, "--args", program("loop"), "1", "-x", "2")
    assert "= 1\n" in said and "Old value" not in said.split("1 watchpoint hit")[0]
    assert said.count("1 watchpoint hit by one instruction") == 1
    assert "exited normally" in said


@pytest.mark.parametrize("early", [True, False])
def test_a_process_by_its_id(session, program, early):
    """``gdb -p PID``, with kwatch loaded before gdb attaches and after."""
    waiting = subprocess.Popen(
        [str(program("waiting"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert int(waiting.stdout.readline()) == waiting.pid
        with session(None, early=early, extra=("-p", str(waiting.pid))) as gdb:
            if "Operation not permitted" in gdb.greeting:
                pytest.skip("attaching is not permitted here")
            gdb.cmd("kwatch pair.a")
            gdb.cmd("kwatch pair.b")
            waiting.stdin.write("x")
            waiting.stdin.flush()
            assert BLOCK in gdb.cont()
            gdb.cmd("detach")
            assert waiting.wait(timeout=20) == 0
    finally:
        waiting.kill()
        waiting.communicate()


def test_logging(session, tmp_path):
    log = tmp_path / "gdb.txt"
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch s.c")
        gdb.cmd(f"set logging file {log}")
        turn = (
            "set logging enabled"
            if gdb.evaluate("int(gdb.VERSION.split('.')[0])") > 11
            else ("set logging")
        )
        gdb.cmd(f"{turn} on")
        out = gdb.cont()
        gdb.cmd("kwatch list")
        gdb.cmd(f"{turn} off")
        assert BLOCK in out
        logged = log.read_text()
        assert out.split("Continuing.\n")[1] in logged
        assert re.search(r"^2 +kwatch .* installed .* s\.a$", logged, re.M)
        # Redirected, the terminal stays quiet.
        gdb.cmd("set logging redirect on")
        gdb.cmd("set logging overwrite on")
        out = gdb.script(f"{turn} on\ncontinue\n{turn} off\n")
        assert BLOCK not in out and "both" not in out
        assert BLOCK in log.read_text()


def test_confirmations_are_asked_for_the_users_own_only(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("set confirm on")
        gdb.cmd("delete")  # nothing of the user's: no question
        gdb.cmd("kwatch s.a")
        assert gdb.cmd("delete 2") == ""
        gdb.cmd("set confirm off")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch s.c")
        gdb.cmd("delete")
        assert gdb.list() == {}
        assert gdb.run_out() == []


def test_hooks_of_the_users_own_around_commands(session):
    with session("simultaneous") as gdb:
        gdb.cmd("define hook-kwatch\necho before-kwatch\\n\nend")
        gdb.cmd("define hookpost-watch\necho after-watch\\n\nend")
        gdb.cmd("define hook-continue\necho before-continue\\n\nend")
        gdb.run_to("main")
        assert gdb.cmd("kwatch s.a").startswith("before-kwatch\n")
        assert "after-watch" in gdb.cmd("watch s.c")
        assert "after-watch" in gdb.cmd("watch s.b")
        out = gdb.cont()
        assert out.startswith("before-continue\n")
        assert "3 watchpoints hit by one instruction" in out


def test_a_command_of_the_users_own(session):
    with session("simultaneous") as gdb:
        gdb.cmd("define both\nkwatch $arg0\nkwatch $arg1\ncontinue\nend")
        gdb.run_to("main")
        assert BLOCK in gdb.cmd("both s.a s.c")


# On a terminal that shows colours.


@pytest.fixture
def terminal(program):
    pytest.importorskip("pyte", reason="pyte is not installed")
    from screen import Screen

    opened = []

    def start(**options):
        gdb = Screen(program("simultaneous"), rows=60, **options)
        opened.append(gdb)
        gdb.cmd("break main")
        gdb.cmd("run")
        gdb.cmd("kwatch s.a")
        gdb.cmd("kwatch s.c")
        return gdb

    yield start
    for one in opened:
        one.close()


def colours(gdb, text):
    """The colours of ``text`` where it stands last on the screen."""
    row = max(n for n, line in enumerate(gdb.lines) if text in line)
    start = gdb.lines[row].rindex(text)
    return {gdb.cell(row, column).fg for column in range(start, start + len(text))}


def addresses(gdb):
    """Of the instruction in kwatch's last block, and of the frame line after it."""
    text = gdb.text[gdb.text.rindex(BLOCK) :]
    return re.findall(r"^(0x[0-9a-f]{16}) (?:<both|in both)", text, re.M)


def test_styles_are_gdbs_own(terminal):
    gdb = terminal()
    gdb.cmd("continue")
    block, frame = addresses(gdb)
    assert colours(gdb, block) == colours(gdb, frame) != {"default"}
    gdb.cmd("set style address foreground red")
    gdb.cmd("set style filename foreground yellow")
    gdb.cmd("continue")
    assert colours(gdb, block) == {"red"}
    assert colours(gdb, "simultaneous.c:9") == {"brown", "default"}


def test_no_styles_where_they_are_off(terminal):
    gdb = terminal()
    gdb.cmd("set style enabled off")
    gdb.cmd("continue")
    for text in (addresses(gdb)[0], "simultaneous.c:9", "Hardware watchpoint 2"):
        assert colours(gdb, text) == {"default"}


def test_paging(terminal):
    """``q`` ends what kwatch prints as it ends gdb's own."""
    gdb = terminal()
    gdb.cmd("set height 6")
    gdb.cmd("set pagination on")
    gdb.type("continue")
    gdb.until(lambda: gdb.paged() or "in both" in gdb.text)
    if gdb.paged():  # gdb 10; later ones do not page the report of a stop
        gdb.cmd("q")
    gdb.until(lambda: gdb.prompt() > 0)
    gdb.cmd("set height 0")
    gdb.cmd("continue")
    gdb.cmd("set height 4")
    gdb.type("kwatch hits")
    gdb.until(gdb.paged)
    gdb.cmd("q")
    gdb.cmd("set height 0")
    for words in ("Traceback", "Python Exception", "Error while running"):
        assert words not in gdb.text
    gdb.cmd("kwatch doctor -traceback")
    assert "No internal fault in this session." in gdb.text
    gdb.cmd("kwatch hits")
    assert len(re.findall(r"^\d+ +1 +simultaneous.c:9", gdb.text, re.M)) >= 2
