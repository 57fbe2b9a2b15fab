"""kwatch for other scripts in gdb: `import gdb_kwatch`."""

from __future__ import annotations

import re
from pathlib import Path

RAISES = ("Python Exception", "Error while", "Traceback", "Error occurred in Python")
README = Path(__file__).parents[2] / "README.md"


def python_sample():
    """The README's sample script."""
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)
    return block


def test_the_sample_script_of_the_readme(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        out = gdb.python(python_sample())
        assert "installed: s.c\n" in out, out
        out = gdb.cont()
        assert re.search(r"^s\.c 0 -> 1 at simultaneous\.c:9$", out, re.M), out
        assert "s.c: 1 hit, installed in [0]" in gdb.cmd("python report()")
        for member in "abd":
            gdb.cmd(f"watch s.{member}")
        out = gdb.cmd("watch other")
        assert "kwatch 2 (background) gave up" in out and "gave way: s.c\n" in out
        gdb.cmd("delete 3")
        assert "installed: s.c\n" in gdb.transcript.rsplit("delete 3", 1)[1] + gdb.cmd(
            "kwatch list"
        )
        assert "deleted" in gdb.cmd("python watched.delete(); print(watched.state)")
        assert sorted(gdb.list()) == [4, 5, 6]


def test_slots_and_hits_are_those_of_the_commands(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cont()
        gdb.cmd("python import gdb_kwatch")
        assert gdb.evaluate("gdb_kwatch.hits()") == gdb.json("kwatch hits")
        assert gdb.evaluate("gdb_kwatch.slots()") == gdb.json("kwatch slots")


def test_an_address_needs_a_length(session):
    with session("simultaneous", allow=RAISES) as gdb:
        gdb.run_to("main")
        address = int(gdb.value("(long) &s.b"))
        gdb.cmd("python import gdb_kwatch")
        out = gdb.cmd(f"python gdb_kwatch.watch({address})")
        assert "an address needs a length" in out
        gdb.cmd(f"python k = gdb_kwatch.watch({address}, length=8, name='the b', every=True)")
        row = gdb.list()[2]
        assert (row["address"], row["size"], row["every"], row["name"]) == (
            hex(address), 8, True, "the b",
        )  # fmt: skip
        assert "(the b)" in gdb.cmd("kwatch list")


def test_wrong_arguments_set_nothing(session):
    with session("simultaneous", allow=RAISES) as gdb:
        gdb.run_to("main")
        gdb.cmd("python import gdb_kwatch")
        for call, words in (
            ("'s.a', access='sometimes'", "access is one of write, read, access"),
            ("'s.a', scope='everywhere'", "scope is one of inferior, all"),
            ("'s.a', priority='high'", "break-native"),
            ("'no_such'", 'No symbol "no_such"'),
        ):
            assert words in gdb.cmd(f"python gdb_kwatch.watch({call})")
        assert gdb.list() == {}


def test_a_callback_that_raises_is_told_and_the_others_are_called(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb_kwatch\n"
            "def bad(*_): raise KeyError('mine')\n"
            "def good(handle, hit): print('good', hit['number'], hit['old'], hit['new'])\n"
            "gdb_kwatch.watch('s.a', on_hit=bad)\n"
            "gdb_kwatch.watch('s.c', on_hit=good)\n"
        )
        out = gdb.cont()
        assert "KeyError in a script's callback: 'mine'" in out
        assert "good 3 0 1" in out
        assert len(gdb.run_out()) == 1


def test_a_callback_may_ask_for_anything(session):
    """It sets and deletes watchpoints, and runs commands of gdb's."""
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb, gdb_kwatch\n"
            "def next_one(handle, hit):\n"
            "    handle.delete()\n"
            "    gdb_kwatch.watch('other', on_hit=lambda h, hit: gdb.execute('print other'))\n"
            "gdb_kwatch.watch('s.a', on_hit=next_one)\n"
        )
        gdb.cont()
        assert [row["expression"] for row in gdb.list().values()] == ["other"]
        assert re.search(r"^\$\d+ = [13]$", gdb.cont(), re.M)


def test_two_scripts_share_the_slots(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb_kwatch\n"
            "for member in 'abc':\n"
            "    gdb_kwatch.watch('s.' + member, name='one')\n"
        )
        gdb.python(
            "import gdb_kwatch\n"
            "mine = [gdb_kwatch.watch(e, name='two') for e in ('other', 's.d')]\n"
        )
        assert [row["state"] for row in gdb.list().values()] == ["installed"] * 4 + ["waiting"]
        assert gdb.evaluate("[k.state for k in mine]") == ["installed", "waiting"]
        gdb.cmd("delete 2")
        assert gdb.evaluate("[k.state for k in mine]") == ["installed"] * 2


def test_hits_that_do_not_stop_are_told_too(session):
    with session("simultaneous") as gdb:
        gdb.run_to("main")
        gdb.python(
            "import gdb_kwatch\n"
            "seen = []\n"
            "gdb_kwatch.watch('s.a', condition='s.a == 2',"
            " on_hit=lambda k, hit: seen.append((hit['new'], hit['stop'])))\n"
        )
        gdb.cont()
        assert gdb.evaluate("seen") == [["1", False], ["2", True]]
