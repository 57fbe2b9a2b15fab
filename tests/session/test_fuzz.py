"""2,000 made-up command lines: no traceback, no stuck gdb, nothing left behind."""

from __future__ import annotations

import json
import warnings

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

LINES = 2000

# No slash, tilde or pipe: a line may reach `kwatch save FILE`, which is to write in the test's own
# folder only.
OPTIONS = st.sampled_from(
    ["-w", "-a", "-r", "-l", "-location", "-every", "-t", "-size", "-size 8", "-size 0", "--"]
    + ["-n", "-n 3", "-json", "-e", "-lo", "-", "---", "-size -1", "-size=8", "-L", "-\u00e9"]
)
WORDS = st.sampled_from(
    ["s.a", "s", "&s.a", "other", "*(long *) &s.b", "s.nosuch", "$rax", "$pc", "$_", "5", "0x0"]
    + ["*(char *) 0", "nosuch", "list", "slots", "hits", "verify", "doctor", "save", "info", "if"]
    + ["thread", "thread 1", "thread 99", "task 1", "if s.a > 1", "if 0", "if 1/0", "if (", "mask"]
    + ["s.a + s.b", "s.a == 1", "both", "main", "'x'", '"y"', '"', "'", "(", ")", "{", "}", "[0]"]
    + ["::", "->", "@", "%", "\\", "$_kwatch_x", "$bpnum", "#", "1.5", "s.a,s.b", "sizeof(s)"]
)
GIBBERISH = st.text(
    st.characters(blacklist_characters="/~|!\r\n", blacklist_categories=("Cs", "Cc")), max_size=12
)
LINE = st.lists(st.one_of(OPTIONS, WORDS, GIBBERISH), max_size=7).map(" ".join)

RUNNER = """
import gdb, json, time
lines = json.load(open({path!r}))
strange, slow = [], []
def mine():
    return [b for b in gdb.breakpoints() if b.number > 0]
for i, line in enumerate(lines):
    start = time.monotonic()
    try:
        gdb.execute("kwatch " + line, False, True)
    except gdb.error as error:
        if "Error occurred in Python" in str(error):
            strange.append((line, str(error)))
    except BaseException as error:
        strange.append((line, repr(error)))
    if time.monotonic() - start > 5:
        slow.append(line)
    for b in mine():
        b.delete()
print("@" + json.dumps([len(lines), strange, slow]))
"""


def made_up_lines() -> list[str]:
    """The same 2,000 each time: a failure can be looked at again."""
    lines: list[str] = []

    @seed(20)
    @settings(
        max_examples=LINES,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(LINE)
    def collect(line: str) -> None:
        lines.append(line)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(lines) < LINES:
            collect()
    return lines[:LINES]


def fuzz(gdb, lines):
    path = gdb.folder / "lines.json"
    path.write_text(json.dumps(lines))
    out = gdb.python(RUNNER.format(path=str(path)), timeout=240)
    report = [x for x in out.splitlines() if x.startswith("@")]
    assert report, out
    count, strange, slow = json.loads(report[0][1:])
    assert count == len(lines)
    assert strange == []
    assert slow == []


def test_made_up_command_lines(session):
    lines = made_up_lines()
    with session("simultaneous", allow=("$_kwatch",)) as gdb:  # one of the words
        half = len(lines) // 2
        fuzz(gdb, lines[: half // 2])  # before the program runs
        gdb.run_to("main")
        gdb.cmd("set python print-stack full")
        fuzz(gdb, lines[half // 2 :])
        assert gdb.cmd("info breakpoints").startswith("No breakpoints")
        # It is the gdb it was.
        gdb.cmd("set kwatch adopt on")
        for member in "abc":
            assert gdb.cmd(f"kwatch s.{member}").startswith("Hardware watchpoint ")
        assert len(gdb.run_out()) == 2
        assert [len(t["hits"]) for t in gdb.stops()] == [3, 3]


def test_some_of_them_typed_and_completed(session):
    """Through the terminal, and through completion, which must not raise either."""
    lines = [x for x in made_up_lines() if x.isprintable() and x.isascii()][:60]
    with session("simultaneous", allow=("$_kwatch",)) as gdb:
        gdb.run_to("main")
        for text in lines:
            gdb.cmd(f"kwatch {text}")
            gdb.cmd(f"complete kwatch {text}")
        gdb.cmd("delete")
        gdb.cmd("kwatch s.a")
        assert len(gdb.run_out()) == 2
