"""gdb/MI as a client has it that others use: pygdbmi."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import time

import pytest
from harness import GDBINIT, gdb_command

from gdb_kwatch.linux import perf_event

controller = pytest.importorskip("pygdbmi.gdbcontroller", reason="pygdbmi is not installed")

SECONDS = 60


class Client:
    """One gdb behind pygdbmi.  Each record that it has sent is kept, in order."""

    def __init__(self, program, kwatch=True, interpreter="mi3"):
        words = [
            *gdb_command(),
            "-q",
            "-nx",
            f"--interpreter={interpreter}",
            "-iex",
            "set confirm off",
        ]
        if kwatch:
            words += ["-ex", f"source {GDBINIT}"]
        self.gdb = controller.GdbController([*words, str(program)], 0.01)
        self.records = []
        self._tokens = itertools.count(1)

    def _read(self, until):
        """The records up to one for which `until` holds, that one included."""
        end = time.monotonic() + SECONDS
        kept = []
        while time.monotonic() < end:
            got = self.gdb.get_gdb_response(timeout_sec=1, raise_error_on_timeout=False)
            self.records += got
            kept += got
            if any(until(record) for record in got):
                return kept
        raise AssertionError(f"gdb did not answer: {self.records}")

    def send(self, command):
        """A command and its result record; what came with it is in `said`."""
        token = next(self._tokens)
        self.gdb.write(f"{token}{command}", read_response=False)
        self.said = self._read(lambda record: record.get("token") == token)
        return next(record for record in self.said if record.get("token") == token)

    def ask(self, command):
        """The fields of a command that must succeed."""
        result = self.send(command)
        assert result["message"] == "done", result
        return result["payload"] or {}

    def refused(self, command):
        result = self.send(command)
        assert result["message"] == "error", result
        return result["payload"]["msg"]

    def resume(self, command="-exec-continue"):
        """To the next stop; the fields of ``*stopped``.  What came before it is in `said`."""
        result = self.send(command)
        assert result["message"] == "running", result
        if not any(record["message"] == "stopped" for record in self.said):
            self.said += self._read(lambda record: record["message"] == "stopped")
        (stop,) = [record for record in self.said if record["message"] == "stopped"]
        return stop["payload"]

    def to_main(self):
        self.ask("-break-insert -t main")
        return self.resume("-exec-run")

    def has(self, name):
        """Whether this gdb's Python has `gdb.NAME`."""
        self.send(f"-interpreter-exec console \"python print('has', hasattr(gdb, '{name}'))\"")
        return "has True" in self.console()

    def console(self):
        """What the last command printed."""
        return "".join(r["payload"] or "" for r in self.said if r["type"] == "console")

    def notes(self, name):
        """The notifications of that name, in all of the session."""
        return [r["payload"] for r in self.records if (r["type"], r["message"]) == ("notify", name)]

    def close(self):
        process = self.gdb.gdb_process
        process.stdin.write(b"-gdb-exit\n")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.flush()
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        text = json.dumps(self.records)
        for word in ("Traceback", "Python Exception", "$_kwatch", "internal-error"):
            assert word not in text, text


@pytest.fixture
def client(program):
    opened = []

    def start(name, **options):
        opened.append(Client(program(name), **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def with_commands(gdb):
    if not gdb.has("MICommand"):
        pytest.skip("this gdb has no MI commands in Python (new in 12)")
    return gdb


def with_notifications(gdb):
    if not gdb.has("notify_mi"):
        pytest.skip("this gdb has no MI notifications in Python (new in 14)")
    return gdb


# What holds on every gdb.


def watched(gdb):
    """A session with gdb's own MI commands; all that was answered."""
    gdb.to_main()
    answers = [gdb.ask("-break-watch s.a"), gdb.ask("-break-watch -a s.c")]
    answers.append(gdb.ask("-break-watch -r s.d"))
    answers.append(gdb.ask("-break-list"))
    answers.append(gdb.ask("-break-delete 4"))
    answers.append(gdb.resume())
    answers.append(gdb.ask("-break-list"))
    answers.append(gdb.ask("-break-delete 2 3"))
    answers.append(gdb.ask("-break-list"))
    for answer in answers:
        answer.pop("core", None)  # which CPU it ran on
    return answers


@pytest.mark.parametrize("interpreter", ["mi2", "mi3"])
def test_gdbs_own_commands_and_stops_keep_their_fields(client, interpreter):
    bare = watched(client("simultaneous", kwatch=False, interpreter=interpreter))
    assert watched(client("simultaneous", interpreter=interpreter)) == bare
    stop = bare[5]
    assert stop["reason"] == "access-watchpoint-trigger"
    assert stop["hw-awpt"] == {"number": "3", "exp": "s.c"}
    assert stop["frame"]["func"] == "both"


def test_a_kwatch_stop_has_reason_number_values_and_frame(client):
    gdb = client("simultaneous")
    gdb.to_main()
    gdb.ask('-interpreter-exec console "kwatch s.c"')
    stop = gdb.resume()
    assert stop["reason"] == "watchpoint-trigger"
    assert stop["wpt"] == {"number": "2", "exp": "s.c"}
    assert stop["value"] == {"old": "0", "new": "1"}
    assert stop["frame"]["func"] == "both" and stop["thread-id"] == "1"


@pytest.mark.parametrize("setting", ["mi-async on", "non-stop on"])
def test_while_the_program_runs_the_front_end_can_talk(client, setting):
    gdb = client("simultaneous")
    gdb.ask("-gdb-set mi-async on")
    gdb.ask(f"-gdb-set {setting}")
    gdb.to_main()
    gdb.ask('-interpreter-exec console "kwatch s.a"')
    gdb.ask('-interpreter-exec console "kwatch s.c"')
    for value in ("1", "2"):
        stop = gdb.resume()
        assert stop["reason"] == "watchpoint-trigger" and stop["value"]["new"] == value
        assert stop["stopped-threads"] == (["1"] if "non-stop" in setting else "all")
        assert "2 watchpoints hit by one instruction" in gdb.console()


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_missed_one_stops_with_frame_and_thread(client, command):
    """gdb fills `reason` from the watchpoint that it blames, which here would not stop."""
    gdb = client("blamed_unchanged")
    gdb.to_main()
    gdb.ask(f'-interpreter-exec console "{command} pair.a"')
    gdb.ask(f'-interpreter-exec console "{command} pair.b"')
    stop = gdb.resume()
    assert stop["frame"]["func"] == "store"
    assert stop["thread-id"] == "1" and stop["stopped-threads"] == "all"
    assert "Hardware watchpoint 2: pair.a" in gdb.console()
    assert gdb.ask("-data-evaluate-expression pair.a") == {"value": "1"}


def test_no_record_tells_of_a_sentinel(client):
    gdb = client("simultaneous")
    gdb.to_main()
    gdb.ask('-interpreter-exec console "kwatch s.a"')
    gdb.ask('-interpreter-exec console "kwatch -a s.b"')
    gdb.ask("-break-watch s.c")
    gdb.resume()
    gdb.resume()
    gdb.ask("-break-delete 3")
    gdb.resume()
    numbers = {note["bkpt"]["number"] for note in gdb.notes("breakpoint-created")}
    numbers |= {note["bkpt"]["number"] for note in gdb.notes("breakpoint-modified")}
    numbers |= {note["id"] for note in gdb.notes("breakpoint-deleted")}
    assert numbers <= {"1", "2", "3", "4"}


def test_an_mi_beside_a_console_as_eclipse_has_it(session):
    """``new-ui mi``: the console is the user's, the MI is the front end's."""
    master, slave = pty.openpty()
    try:
        extra = ("-ex", f"new-ui mi {os.ttyname(slave)}")
        with session("simultaneous", extra=extra) as gdb:
            gdb.run_to("main")
            gdb.cmd("kwatch s.a")
            gdb.cmd("kwatch s.c")
            block = gdb.cont()
            assert "2 watchpoints hit by one instruction" in block
            gdb.cmd("kill")
        os.set_blocking(master, False)
        heard = b""
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(master, 65536):
                heard += data
    finally:
        os.close(master)
        os.close(slave)
    stops = [text for text in heard.decode().split("\r\n") if text.startswith("*stopped")]
    assert len(stops) == 2, heard
    assert 'reason="watchpoint-trigger"' in stops[1] and 'func="both"' in stops[1]
    assert 'wpt={number="3",exp="s.c"}' in stops[1]


# The commands, gdb 12 and later.


def test_kwatch_sets_and_answers_as_break_watch_does(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    assert gdb.ask("-kwatch s.a") == {"wpt": {"number": "2", "exp": "s.a"}}
    assert gdb.ask("-kwatch -a s.b") == {"hw-awpt": {"number": "3", "exp": "s.b"}}
    assert gdb.ask("-kwatch -r s.c") == {"hw-rwpt": {"number": "4", "exp": "s.c"}}
    rows = gdb.ask("-break-list")["BreakpointTable"]["body"]
    assert [row["what"] for row in rows] == ["s.a", "s.b", "s.c"]
    assert "=" not in gdb.console()  # the answer is the fields, not a line as well


def test_kwatch_takes_a_quoted_expression(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    answer = gdb.ask('-kwatch "s.a + s.b"')
    assert answer == {"wpt": {"number": "2", "exp": "s.a + s.b"}}
    assert gdb.ask("-kwatch -size 8 &other")["wpt"]["exp"] == "-size 8 &other"


def test_kwatch_refuses_as_the_command_does(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    assert gdb.refused("-kwatch") == "-kwatch: Argument required (expression to compute)."
    assert gdb.refused("-kwatch nobody") == 'No symbol "nobody" in current context.'
    assert "kwatch watches 1 to 32 bytes" in gdb.refused("-kwatch -size 33 &s")


def test_one_that_has_to_wait_says_so(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    for name in "abcd":
        gdb.ask(f"-kwatch s.{name}")
    assert gdb.ask("-kwatch other") == {"wpt": {"number": "6", "exp": "other"}}
    assert "waits for a slot: it needs 1 of 4, 0 free" in gdb.console()
    states = {row["number"]: row["state"] for row in gdb.ask("-kwatch-list")["watchpoints"]}
    assert states["6"] == "waiting"


def test_list_slots_and_hits(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    gdb.ask("-kwatch s.a")
    gdb.ask("-break-watch s.c")
    gdb.resume()
    rows = gdb.ask("-kwatch-list")["watchpoints"]
    assert [(r["number"], r["kind"], r["hits"]) for r in rows] == [
        ("2", "kwatch", "1"),
        ("3", "watch", "1"),
    ]
    assert [(r["state"], r["slots"], r["armed"]) for r in rows] == [
        ("installed", ["0"], "1"),
        ("installed", ["1"], "1"),
    ]
    (thread,) = gdb.ask("-kwatch-slots")["threads"]
    assert thread["thread"] == "1"
    assert [slot["owners"] for slot in thread["slots"]] == [["2"], ["3"], [], []]
    assert [slot["enabled"] for slot in thread["slots"]] == ["true", "true", "false", "false"]
    (trap,) = gdb.ask("-kwatch-hits")["traps"]
    assert trap["function"] == "both" and trap["stopped"] == "true"
    assert [(h["number"], h["old"], h["new"]) for h in trap["hits"]] == [
        ("2", "0", "1"),
        ("3", "0", "1"),
    ]
    gdb.resume()
    assert [t["trap"] for t in gdb.ask("-kwatch-hits -n 1")["traps"]] == ["2"]
    assert gdb.refused("-kwatch-hits -x") == "-kwatch-hits: Usage: -kwatch-hits [-n COUNT]"
    assert gdb.refused("-kwatch-list all") == "-kwatch-list: Usage: -kwatch-list"


def test_what_is_put_off_to_the_prompt_is_done_at_the_next_command(client):
    """A script has deleted all that it did not make."""
    gdb = with_commands(client("blamed_unchanged"))
    gdb.to_main()
    gdb.ask("-kwatch pair.a")
    gdb.ask("-kwatch pair.b")
    delete = "python [b.delete() for b in gdb.breakpoints.__wrapped__() if b.number < 0]"
    gdb.ask(f'-interpreter-exec console "{delete}"')
    gdb.ask("-kwatch-list")
    gdb.resume()
    (trap,) = gdb.ask("-kwatch-hits")["traps"]
    assert [(h["new"], h["stop"]) for h in trap["hits"]] == [("1", "true"), ("0", "false")]


def test_off_takes_the_commands_away_and_on_puts_them_back(client):
    gdb = with_commands(client("simultaneous"))
    gdb.to_main()
    gdb.ask("-kwatch s.a")
    gdb.ask('-interpreter-exec console "kwatch off"')
    assert gdb.refused("-kwatch s.b") == "Undefined MI command: kwatch"
    assert gdb.resume()["wpt"]["exp"] == "s.a"
    assert gdb.notes("kwatch-trap") == []
    gdb.ask('-interpreter-exec console "kwatch on"')
    assert [row["number"] for row in gdb.ask("-kwatch-list")["watchpoints"]] == ["2"]
    gdb.resume()
    assert len(gdb.ask("-kwatch-hits")["traps"]) == 1


def test_an_old_gdb_has_no_such_commands(client):
    gdb = client("simultaneous")
    if gdb.has("MICommand"):
        pytest.skip("this gdb has MI commands in Python")
    assert "Undefined MI command: kwatch" in gdb.refused("-kwatch s.a")


# The notification, gdb 14 and later.


def told(gdb):
    """The =kwatch-trap records among what came with the last stop, each before that stop."""
    names = [record["message"] for record in gdb.said if record["type"] == "notify"]
    assert "kwatch-trap" not in names[names.index("stopped") :]
    return [r["payload"] for r in gdb.said if r["message"] == "kwatch-trap"]


def test_each_stop_is_told_with_all_its_hits(client):
    gdb = with_notifications(client("simultaneous"))
    gdb.to_main()
    gdb.ask("-kwatch s.a")
    gdb.ask("-break-watch s.c")
    gdb.resume()
    (note,) = told(gdb)
    trap = json.loads(note.pop("json"))
    assert note == gdb.ask("-kwatch-hits")["traps"][0]
    assert trap["trap"] == 1 and trap["stopped"] is True and trap["line"] == int(note["line"])
    assert [(h["number"], h["old"], h["new"]) for h in trap["hits"]] == [
        (2, "0", "1"),
        (3, "0", "1"),
    ]


def test_a_missed_one_is_told(client):
    gdb = with_notifications(client("blamed_unchanged"))
    gdb.to_main()
    gdb.ask("-break-watch pair.a")
    gdb.ask("-break-watch pair.b")
    gdb.resume()
    (note,) = told(gdb)
    hits = json.loads(note["json"])["hits"]
    assert [(h["number"], h["stop"], h["blamed"]) for h in hits] == [
        (2, True, False),
        (3, False, True),
    ]


def test_what_changed_with_no_trap_is_told(client):
    gdb = with_notifications(client("syscall"))
    gdb.to_main()
    gdb.ask("-kwatch buf[16]")
    gdb.ask("-kwatch buf[0]")
    gdb.resume()
    assert [note["origin"] for note in told(gdb)] == ["untrapped", "user"]


@pytest.mark.skipif(perf_event.why_not() is not None, reason=f"no perf: {perf_event.why_not()}")
def test_a_write_by_the_kernel_is_told(client):
    gdb = with_notifications(client("syscall"))
    gdb.to_main()
    gdb.ask("-kwatch -k buf[16]")
    gdb.resume()
    (note,) = told(gdb)
    assert note["origin"] == "kernel" and note["call"]["name"] == "read"
    assert [hit["seen_by"] for hit in note["hits"]] == ["counter"]


def test_other_stops_are_not_told(client):
    gdb = with_notifications(client("simultaneous"))
    gdb.to_main()
    gdb.ask('-kwatch "s.a if 0"')
    gdb.resume("-exec-next")
    gdb.resume("-exec-next")
    assert gdb.notes("kwatch-trap") == []
