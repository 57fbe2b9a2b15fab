"""The commands: grammar, help, completion, list, save, settings; a kwatch is a gdb breakpoint."""

from __future__ import annotations

import difflib
import json
import re

import pytest


@pytest.mark.parametrize(
    "typed,answer",
    [
        ("s.a", "Hardware watchpoint 2: s.a"),
        ("-w s.a", "Hardware watchpoint 2: s.a"),
        ("-a s.a", "Hardware access (read/write) watchpoint 2: s.a"),
        ("-r s.a", "Hardware read watchpoint 2: s.a"),
        ("-l s.a", "Hardware watchpoint 2: -location s.a"),
        ("-location s.a", "Hardware watchpoint 2: -location s.a"),
        ("-every s.a", "Hardware watchpoint 2: s.a"),
        ("-t s.a", "Hardware watchpoint 2: s.a"),
        ("-a -l s.a", "Hardware access (read/write) watchpoint 2: -location s.a"),
        ("-l -a s.a", "Hardware access (read/write) watchpoint 2: -location s.a"),
        ("s.a if s.a == 2", "Hardware watchpoint 2: s.a"),
        ("s.a thread 1", "Hardware watchpoint 2: s.a"),
        ("s.a thread 1 if s.a == 2", "Hardware watchpoint 2: s.a"),
        ("-l s.a thread 1 if s.a > 1", "Hardware watchpoint 2: -location s.a"),
        ("-- s.a", "Hardware watchpoint 2: s.a"),
        ("*(long *) &s.b", "Hardware watchpoint 2: *(long *) &s.b"),
        ("-size 8 &s.a", "Hardware watchpoint 2: "),
        ("-size 4 -l &s.a", "Hardware watchpoint 2: "),
    ],
)
def test_grammar(session, typed, answer):
    with session("simultaneous", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        out = gdb.cmd(f"kwatch {typed}")
        assert out.startswith(answer), out
        assert out.count("\n") == 1
        # It stands where gdb's own stand, and works.
        info = gdb.cmd("info watchpoints")
        assert re.search(r"^2 +(hw|acc|read) watchpoint +\w+ +y ", info, re.M), info
        assert gdb.cmd("info breakpoints") == info
        if "-r" not in typed and "s.b" not in typed:
            assert "atchpoint 2" in gdb.cont()


def test_a_kwatch_is_a_gdb_breakpoint(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        assert gdb.evaluate("[b.number for b in gdb.breakpoints() if b.number > 0]") == [2]
        assert gdb.cmd("condition 2 s.a == 2") == ""
        assert "stop only if s.a == 2" in gdb.cmd("info breakpoints")
        assert gdb.cmd("condition 2").endswith("now unconditional.\n")
        assert "Will ignore next" in gdb.cmd("ignore 2 1")
        gdb.cmd("disable 2")
        assert re.search(r"^2 +hw watchpoint +keep n ", gdb.cmd("info breakpoints"), re.M)
        gdb.cmd("enable 2")
        gdb.cmd("kwatch other")
        assert gdb.value("$bpnum") == "3"
        gdb.cmd("delete 2 3")
        assert gdb.cmd("info breakpoints").startswith("No breakpoints")


def test_adoption_leaves_no_trace(session):
    """The same session with and without kwatch: the same numbers, lists and messages."""

    def asked(gdb):
        said = []
        for command in (
            "tbreak main",
            "run",
            "watch s.a",
            "rwatch s.b",
            "info breakpoints",
            "info watchpoints",
            "break both",
            "delete 2",
            "watch s.d if s.d == 5",
            "info breakpoints",
            "print $bpnum",
            "continue",
            "info breakpoints",
            "delete",
            "info breakpoints",
            "watch other",
            "continue",
            "continue",
            "info breakpoints",
            "info display",
            "show convenience",
        ):
            said.append(f"[{command}]\n" + gdb.cmd(command))
        saved = gdb.folder / "saved"
        gdb.cmd(f"save breakpoints {saved}")
        text = "\n".join(said + [saved.read_text()])
        text = re.sub(r"process \d+", "process N", text)
        # `show convenience` lists every function there is, kwatch's as well.
        return [x for x in text.splitlines() if "<internal function" not in x]

    with session("simultaneous", kwatch=False) as gdb:
        bare = asked(gdb)
    with session("simultaneous", allow=("$_kwatch",)) as gdb:
        with_kwatch = asked(gdb)
    difference = "\n".join(difflib.unified_diff(bare, with_kwatch, "bare", "kwatch", lineterm=""))
    assert not difference, difference


def test_adopt_off(session):
    with session("condition_not_blamed") as gdb:
        assert "on" in gdb.cmd("show kwatch adopt")
        gdb.cmd("set kwatch adopt off")
        assert "off" in gdb.cmd("show kwatch adopt")
        gdb.run_to("main")
        gdb.cmd("watch pair.a if pair.a == 3")
        gdb.cmd("watch pair.b if 0")
        assert gdb.run_out() == []  # gdb alone
        gdb.cmd("set kwatch adopt on")
        gdb.run_to("main")
        assert len(gdb.run_out()) == 1


def test_history_is_a_ring(session):
    with session("loop", kernel_conditions=False) as gdb:
        assert re.search(r"\d+", gdb.cmd("show kwatch history"))
        gdb.cmd("set kwatch history 50")
        gdb.run_to("main")
        gdb.cmd("kwatch a if a == 300")
        gdb.cont()
        traps = gdb.hits()
        assert [t["trap"] for t in traps] == list(range(251, 301))
        assert traps[-1]["hits"][0]["new"] == "300"
        path = gdb.folder / "three.json"
        gdb.cmd(f"kwatch hits -n 3 -json {path}")
        assert [t["trap"] for t in json.loads(path.read_text())] == [298, 299, 300]
        assert gdb.cmd("kwatch hits -n 3").count("loop.c:") == 3


@pytest.mark.parametrize("command", ["list", "slots", "hits", "save", "who", "trace"])
def test_no_file_is_written_that_was_not_asked_for(session, command):
    """A word is a FILE where the command takes one, and never an option."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        mine = gdb.folder / "mine.c"
        mine.write_text("int x;\n")
        words = ["mine.c", "2", "-n 1 mine.c", "mine.c -json", "-json -json", "-json -n mine.c"]
        if command == "save":
            words = ["-json", "-n mine.c"]
        elif command in ("who", "trace"):
            words = ["s.a -spill -a", "mine.c", "-json mine.c"]
        before = sorted(path.name for path in gdb.folder.iterdir())
        for typed in words:
            out = gdb.cmd(f"kwatch {command} {typed}")
            assert re.match(r"Usage: |Argument|Unrec|No symbol|A syntax|-\w+ requires", out), out
        assert sorted(path.name for path in gdb.folder.iterdir()) == before
        assert mine.read_text() == "int x;\n"


@pytest.mark.parametrize("command", ["list", "slots", "hits"])
def test_json_on_the_terminal_is_the_json_of_the_file(session, command):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cont()
        assert json.loads(gdb.cmd(f"kwatch {command} -json")) == gdb.json(f"kwatch {command}")


def test_list(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        assert gdb.json("kwatch list") == []
        gdb.cmd("kwatch s.a if s.a == 2")
        gdb.cmd("watch s.b")
        gdb.cmd("rwatch s.c")
        gdb.cmd("awatch other")
        gdb.cmd("disable 3")
        gdb.cont()
        table = gdb.list()
        assert {n: e["kind"] for n, e in table.items()} == {
            2: "kwatch",
            3: "watch",
            4: "rwatch",
            5: "awatch",
        }
        assert table[3]["state"] == "disabled"
        assert table[2]["condition"] == "s.a == 2"
        assert table[2]["expression"] == "s.a"
        assert table[2]["address"] == gdb.cmd("output/x (long) &s.a").strip()
        assert {"number", "kind", "state", "slots", "armed", "threads", "access", "address"} <= set(
            table[2]
        )
        assert {"size", "hits", "expression", "condition", "priority"} <= set(table[2])
        text = gdb.cmd("kwatch list")
        assert gdb.cmd("info kwatch") == text
        for word in ("Num", "kwatch", "watch", "rwatch", "awatch", "s.a", "other"):
            assert word in text


def test_tables_are_folded_to_the_width(session):
    with session("simultaneous", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a if s.a == 2")
        gdb.cmd("kwatch s.c")
        gdb.cont()
        wide = {command: gdb.cmd(f"kwatch {command}") for command in ("list", "hits")}
        for width in (80, 40):
            gdb.cmd(f"set width {width}")
            for command, before in wide.items():
                text = gdb.cmd(f"kwatch {command}")
                assert max(len(line) for line in text.splitlines()) <= width
                assert sorted(text.split()) == sorted(before.split())
        assert text.count("\n") > before.count("\n")
        gdb.cmd("set width 200")
        assert {command: gdb.cmd(f"kwatch {command}") for command in wide} == wide


def test_a_variable_named_like_a_subcommand(session):
    """`kwatch -- list` watches a variable; without it, the subcommand is meant."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        # A C library with debug information may have a `list` of its own.
        words = r'No symbol "list"|watchpoint \d+: list$|^list is not in memory'
        assert re.search(words, gdb.cmd("kwatch -- list"), re.M)
        assert re.match(r"No hardware watchpoints|Num ", gdb.cmd("kwatch list"))
        gdb.cmd("delete")
        assert "canary" not in gdb.cmd("kwatch -- verify + 1")
        assert gdb.cmd("kwatch -- other").startswith("Hardware watchpoint ")


def test_help(session):
    with session(None) as gdb:
        text = gdb.cmd("help kwatch")
        for word in ("-w", "-a", "-r", "-l", "-every", "-t", "-size", "Usage: kwatch"):
            assert word in text
        for name in ("list", "slots", "hits", "verify", "doctor", "save", "off", "on"):
            assert f"kwatch {name} -- " in text
            assert f"Usage: kwatch {name}" in gdb.cmd(f"help kwatch {name}")
        assert gdb.cmd("help set kwatch adopt") and gdb.cmd("help set kwatch history")
        assert "kwatch" in gdb.cmd("help info kwatch")


def test_completion(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        assert "kwatch s.a" in gdb.cmd("complete kwatch s.").splitlines()
        assert "kwatch other" in gdb.cmd("complete kwatch oth").splitlines()
        options = gdb.cmd("complete kwatch -").split()
        for option in ("-a", "-every", "-l", "-location", "-r", "-size", "-t", "-w"):
            assert option in options
        assert "kwatch -l s.a" in gdb.cmd("complete kwatch -l s.").splitlines()
        assert "kwatch -size" in gdb.cmd("complete kwatch -s")
        assert "kwatch list" in gdb.cmd("complete kwatch li").splitlines()
        assert "-json" in gdb.cmd("complete kwatch hits -j")


def test_completion_of_what_subcommands_take(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.b")

        def offered(line):
            found = gdb.cmd(f"complete kwatch {line}").splitlines()
            head = line.rpartition(" ")[0]
            return [one[len(f"kwatch {head}") :].strip() for one in found]

        names = ["background", "break-native", "native", "normal"]
        for command in ("verify", "priority", "history"):
            assert offered(f"{command} ") == ["2", "3"], command
        assert sorted(offered("priority 2 ")) == sorted(offered("-p ")) == names
        assert offered("priority 2 no") == offered("-p no") == ["normal"]
        for command in ("on", "off", "doctor", "list", "slots", "history 2"):
            assert offered(f"{command} ") == [], command
        for command in ("who", "trace", "last", "who -a"):
            assert "s.a" in offered(f"{command} s."), command
        for command in ("save", "hits -json", "hits -n 3 -json", "list -json", "slots -json"):
            assert offered(f"{command} /dev/nul") == ["/dev/null"], command
        assert offered("hits /dev/nul") == []
        for command in ("trace export", "trace s.a -spill"):
            assert offered(f"{command} /dev/nul") == ["/dev/null"], command
        for command in ("", "-l ", "who ", "trace ", "who s.a ", "trace s.a s.b "):
            assert offered(f"{command}-not-f") == ["-not-from"], command
        assert "show" in offered("trace sh") and "stop" in offered("trace sto")
        assert offered("trace show -") == ["-function", "-line", "-n", "-thread"]
        assert offered("trace show -n 3 -f") == ["-function"]
        for command in ("trace summary -", "trace stop ", "trace export -", "trace export x "):
            assert offered(command) == [], command
        assert gdb.cmd("complete info kwatch -") == "info kwatch -json\n"
        assert gdb.cmd("complete info kwatch -json /dev/nul") == "info kwatch -json /dev/null\n"
        # kwatch's hooks call commands of its own, which are nobody's to type.
        assert gdb.cmd("complete kw").split() == ["kwatch"]


def test_completion_of_files(session):
    with session("simultaneous") as gdb:
        (gdb.folder / "only").mkdir()
        (gdb.folder / "only" / "one.json").touch()
        (gdb.folder / "two.json").touch()
        for command in ("hits -json", "trace export"):

            def offered(name, command=command):
                found = gdb.cmd(f"complete kwatch {command} {name}").splitlines()
                return [one.rpartition(" ")[2] for one in found]

            assert offered("tw") == ["two.json"]
            # More than one, or gdb would put a blank behind the folder.
            assert offered("onl") == ["only/", "only/one.json"]
            assert offered("only/o") == ["only/one.json"]
            assert offered("none/") == offered("x") == []


def test_completion_is_quick_and_harmless_with_no_program(session):
    with session(None) as gdb:
        for typed in ("", "-", "x", "s.", "-size ", "-size 8 ", "*(", "hits -n "):
            gdb.cmd(f"complete kwatch {typed}")


def test_saved_by_gdb_and_restored_as_adopted_watchpoints(session):
    with session("condition_not_blamed", kernel_conditions=False) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -l pair.a if pair.a == 3")
        gdb.cmd("kwatch pair.b")
        gdb.cmd("ignore 3 1")
        gdb.cmd("commands 3\nsilent\nend")
        gdb.cmd("disable 3")
        path = gdb.folder / "saved"
        gdb.cmd(f"save breakpoints {path}")
        text = path.read_text()
        assert "kwatch" not in text
        assert re.search(r"watch (-l(ocation)? )?pair\.a$", text, re.M)
        gdb.cmd("delete")
        gdb.cmd(f"source {path}")
        assert {e["kind"] for e in gdb.list().values()} == {"watch"}
        stops = gdb.run_out()
        assert len(stops) == 1  # pair.a == 3, where gdb blames none or the other
        assert "pair.a" in stops[0]


def test_kwatch_save_keeps_the_options(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -every s.b if s.c > 0")
        gdb.cmd("kwatch -a -l s.a")
        gdb.cmd("kwatch -size 4 &s.c")
        gdb.cmd("kwatch -t s.d")
        gdb.cmd("ignore 3 7")
        gdb.cmd("commands 4\necho said\\n\nend")
        gdb.cmd("disable 5")
        before = [
            {k: e[k] for k in ("kind", "access", "size", "condition", "state", "address")}
            for e in gdb.list().values()
        ]
        path = gdb.folder / "saved"
        gdb.cmd(f"kwatch save {path}")
        assert "-every" in path.read_text()
        gdb.cmd("delete")
        gdb.cmd(f"source {path}")
        after = [
            {k: e[k] for k in ("kind", "access", "size", "condition", "state", "address")}
            for e in gdb.list().values()
        ]
        assert after == before
        info = gdb.cmd("info breakpoints")
        assert "ignore next 7 hits" in info
        assert "echo said" in info
        path2 = gdb.folder / "saved2"
        gdb.cmd(f"kwatch save {path2}")
        assert path2.read_text() == path.read_text()


def test_doctor(session):
    with session("simultaneous") as gdb:
        text = gdb.cmd("kwatch doctor")
        assert "canary" in text
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        text = gdb.cmd("kwatch doctor")
        version = gdb.evaluate("gdb.VERSION").split(" ")[0]
        for word in (version, "Python", "canary", "3 of 4"):
            assert word in text, word
        assert len(gdb.run_out()) == 2


def test_doctor_with_no_program(session):
    """gdb would name an architecture that it takes by default."""
    with session(None) as gdb:
        text = gdb.cmd("kwatch doctor")
        assert "no program is running" in text and "architecture" not in text


def test_internal_words_say_that_they_are(session):
    with session("simultaneous") as gdb:
        found = gdb.cmd("apropos kwatch").splitlines()
        inner = [line for line in found if "_kwatch" in line or "kwatch-internal" in line]
        assert inner and all("Internal to kwatch: " in line for line in inner)
        gdb.transcript = ""  # the words above are not to be seen elsewhere
        assert "internal" not in gdb.cmd("complete kwatch")


def test_sourced_twice(session):
    """Sourced again (~/.gdbinit and by hand), nothing doubles."""
    from harness import GDBINIT

    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd(f"source {GDBINIT}")
        gdb.cmd("kwatch s.c")
        out = gdb.cont()
        assert out.count("hit by one instruction") == 1
        assert len(gdb.run_out()) == 1


def test_output_redirected(session):
    """`pipe` and logging see what the terminal sees."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        assert "s.a" in gdb.cmd("pipe kwatch list | cat")
        captured = gdb.evaluate('gdb.execute("kwatch list", to_string=True)')
        assert "s.a" in captured
        assert "s.a" not in gdb.cmd('python gdb.execute("kwatch list", to_string=True)')
