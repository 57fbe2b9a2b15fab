"""Command lines of `kwatch`: options cut short, threads and conditions, quotes and brackets."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdb_kwatch.core.grammar import OPTIONS, VALUED, Request, UsageError, outermost, parse

LINES = [
    ("s.a", Request("s.a")),
    ("  s.a  ", Request("s.a")),
    ("a + b", Request("a + b")),
    ("-w s.a", Request("s.a")),
    ("-a s.a", Request("s.a", access="access")),
    ("-r s.a", Request("s.a", access="read")),
    ("-w -w s.a", Request("s.a")),
    ("-l p->x", Request("p->x", location=True)),
    ("-location p->x", Request("p->x", location=True)),
    ("-every s.a", Request("s.a", every=True)),
    ("-a -every s.a", Request("s.a", access="access", every=True)),
    ("-t s.a", Request("s.a", temporary=True)),
    ("-size 8 0x1000", Request("0x1000", size="8")),
    ("-size sizeof(int) &x + 1", Request("&x + 1", size="sizeof(int)")),
    ("-a -l -every -t s.a", Request("s.a", "access", True, True, True)),
    ("-t -every -l -a s.a", Request("s.a", "access", True, True, True)),
    # cut short
    ("-e s.a", Request("s.a", every=True)),
    ("-ever s.a", Request("s.a", every=True)),
    ("-lo s.a", Request("s.a", location=True)),
    ("-s 4 p", Request("p", size="4")),
    # white space
    ("-w\ts.a", Request("s.a")),
    ("-size\t8\t0x1000", Request("0x1000", size="8")),
    ("-l   -t   s.a", Request("s.a", location=True, temporary=True)),
    # where options end
    ("-- list", Request("list")),
    ("-w -- -5", Request("-5")),
    ("--\t-x", Request("-x")),
    ("-- -- x", Request("-- x")),
    ("-5", Request("-5")),
    ("-0x10", Request("-0x10")),
    ("- x", Request("- x")),
    ("s.a -w", Request("s.a -w")),
    # conditions
    ("s.a if s.b > 1", Request("s.a", condition="s.b > 1")),
    ("s.a if(s.b > 1)", Request("s.a", condition="(s.b > 1)")),
    ("a[i]if b", Request("a[i]", condition="b")),
    ("s.a if b if c", Request("s.a", condition="b if c")),
    ("s.a\tif\tb", Request("s.a", condition="b")),
    ("gif", Request("gif")),
    ("iffy + if_ + $if", Request("iffy + if_ + $if")),
    ("a[if b]", Request("a[if b]")),
    ("f(x if y) if z", Request("f(x if y)", condition="z")),
    ('s["x if y"] if z', Request('s["x if y"]', condition="z")),
    ("c == 'if' if z", Request("c == 'if'", condition="z")),
    ('x == " if " if z', Request('x == " if "', condition="z")),
    ('x == "\\" if " if z', Request('x == "\\" if "', condition="z")),
    ("x == '\\'' if z", Request("x == '\\''", condition="z")),
    ("x'first if z", Request("x'first", condition="z")),
    ("a'first + b'last if z", Request("a'first + b'last", condition="z")),
    ("a) if z", Request("a)", condition="z")),
    ("{int} p if z", Request("{int} p", condition="z")),
    # what is done at a hit
    ('-log "x {old}->{new}" s.a if z', Request("s.a", condition="z", log="x {old}->{new}")),
    ("-log hit s.a", Request("s.a", log="hit")),
    ('-do "bt 3; p \\"y\\"" s.a', Request("s.a", do='bt 3\np "y"')),
    ("-from f -not-from g -not-from libc s.a", Request("s.a", only=("f",), without=("g", "libc"))),
    ("-from f<int, long>::g(int, char) s.a", Request("s.a", only=("f<int, long>::g(int, char)",))),
    ("-from 'f (int)' -from \"g\" s.a", Request("s.a", only=("f (int)", "g"))),
    ("-from f( s.a", Request("s.a", only=("f(",))),
    # threads and tasks
    ("s.a thread 1", Request("s.a", thread="1")),
    ("s.a thread 1.2", Request("s.a", thread="1.2")),
    ("s.a thread $_thread", Request("s.a", thread="$_thread")),
    ("s.a task 3", Request("s.a", task="3")),
    ("s.a  thread  1 ", Request("s.a", thread="1")),
    ("s.a thread 1 if b", Request("s.a", thread="1", condition="b")),
    ("s.a if b thread 1", Request("s.a", thread="1", condition="b")),
    ("s.a if b task 1", Request("s.a", task="1", condition="b")),
    ("s.a if (b) thread 1", Request("s.a", thread="1", condition="(b)")),
    ("s.a thread 1 if b thread 2", Request("s.a", thread="1", condition="b thread 2")),
    ("thread", Request("thread")),
    ("thread + 1", Request("thread + 1")),
    ("thread->x", Request("thread->x")),
    ("s.thread", Request("s.thread")),
    ("a + my_thread 1", Request("a + my_thread 1")),
    ('a if $_streq(b, "a thread 1")', Request("a", condition='$_streq(b, "a thread 1")')),
    ('a if b == "on thread 1"', Request("a", condition='b == "on thread 1"')),
]


@pytest.mark.parametrize(("line", "request_"), LINES)
def test_lines(line, request_):
    assert parse(line) == request_


WRONG = [
    ("", "Argument required"),
    ("   ", "Argument required"),
    ("-w", "Argument required"),
    ("-w --", "Argument required"),
    ("--", "Argument required"),
    ("if b", "Argument required"),
    ("thread 1", "Argument required"),
    ("-l if b thread 1", "Argument required"),
    ("s.a if", "condition is missing"),
    ("s.a if  ", "condition is missing"),
    ("s.a if thread 1", "condition is missing"),
    ("s.a thread 1 if", "condition is missing"),
    ("-size", "-size requires an argument"),
    ("-size  ", "-size requires an argument"),
    ("-size 8", "Argument required"),
    ("-size 8 if b", "Argument required"),
    ("-x s.a", "Unrecognized option -x"),
    ("-size=8 s.a", "Unrecognized option -size=8"),
    ("-every2 s.a", "Unrecognized option -every2"),
    ("-L s.a", "Unrecognized option -L"),
    ("--w s.a", "Unrecognized option --w"),
    ("-wa s.a", "Unrecognized option -wa"),
    ("-a -r s.a", "Only one of -w, -a and -r"),
    ("-w -a s.a", "Only one of -w, -a and -r"),
    ("-r -every s.a", "-every is for writes"),
    ("-every -r s.a", "-every is for writes"),
    ('-log "x s.a', '-log: a quote is not closed: "x s.a'),
    ("-do 'bt s.a", "-do: a quote is not closed: 'bt s.a"),
]


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_wrong_lines(line, words):
    with pytest.raises(UsageError, match=words):
        parse(line)


def test_an_unknown_option_is_told_what_there_is():
    with pytest.raises(UsageError) as error:
        parse("-nosuch x")
    assert all(option in str(error.value) for option in OPTIONS)


DEFAULTS = ("write", "access", "read", "normal")


@pytest.mark.parametrize("option", OPTIONS)
def test_options_cut_short_stand_for_the_one_they_can_be(option):
    argument = " 8" if option in VALUED else ""
    for end in range(2, len(option) + 1):
        word = option[:end]
        others = [name for name in OPTIONS if name.startswith(word)]
        if word in OPTIONS:
            assert parse(f"{word}{' 8' if word in VALUED else ''} x").expression == "x"
        elif len(others) == 1 or word == "-lo":  # which gdb takes for -location
            option = others[0]
            assert parse(f"{word}{argument} x") == parse(f"{option}{argument} x")
        else:
            with pytest.raises(UsageError, match="ambiguous"):
                parse(f"{word} x")


def test_ambiguity_names_the_candidates(monkeypatch):
    monkeypatch.setattr("gdb_kwatch.core.grammar.OPTIONS", ("-one", "-once", "-two"))
    with pytest.raises(UsageError, match="-on: ambiguous option; it may be -one, -once"):
        parse("-on x")
    with pytest.raises(UsageError, match="Unrecognized option -x"):
        parse("-x y")


# --- there and back ------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "s.b", "p->x", "*p", "a[i]", "list", "gif", "thread_id", "a + b"])
WHOLE = st.sampled_from(
    [*"abc", "s.a", "x == 'if'", 'y["a if b"]', "f(c if d)", "(a + b) * c", "-5", "-x", "$if"]
)
REQUESTS = st.builds(
    lambda **fields: Request(**fields),
    expression=WHOLE,
    access=st.sampled_from(["write", "access", "read"]),
    location=st.booleans(),
    every=st.booleans(),
    temporary=st.booleans(),
    size=st.one_of(st.none(), st.sampled_from(["1", "8", "0x10", "sizeof(int)", "n"])),
    thread=st.one_of(st.none(), st.sampled_from(["1", "2.1", "$_thread"])),
    task=st.none(),
    condition=st.one_of(st.none(), WHOLE, NAMES),
).filter(lambda request: not (request.every and request.access == "read"))


def render(request, shuffled, thread_last):
    """One of the ways to type a request."""
    options = {"write": ["-w"], "access": ["-a"], "read": ["-r"]}[request.access]
    options += ["-l"] if request.location else []
    options += ["-every"] if request.every else []
    options += ["-t"] if request.temporary else []
    options += [f"-size {request.size}"] if request.size else []
    thread = [f"thread {request.thread}"] if request.thread else []
    condition = [f"if {request.condition}"] if request.condition else []
    end = condition + thread if thread_last else thread + condition
    return " ".join([*shuffled(options), "--", request.expression, *end])


@settings(deadline=None)
@given(REQUESTS, st.data(), st.booleans())
def test_a_request_typed_is_the_request(request_, data, thread_last):
    line = render(request_, lambda x: data.draw(st.permutations(x)), thread_last)
    assert parse(line) == request_


# --- whatever is typed ---------------------------------------------------------------------------

WORDS = st.sampled_from(
    [*OPTIONS, "-", "--", "-x", "-e", "-lo", "if", "thread", "task", "1", "x", "(", ")", "[", "]"]
    + ["'", '"', "\\", "if(", "\t", "  ", "\n", "{", "}", "\u00a0", "-5", "-\u0661"]
)
ANY_LINE = st.one_of(
    st.text(max_size=40),
    st.lists(WORDS, max_size=12).map(" ".join),
    st.lists(WORDS, max_size=12).map("".join),
)


def _is_from(value, line):
    """Whether a field of a request has nothing that the line has not."""
    if isinstance(value, tuple):
        return all(_is_from(part, line) for part in value)
    return value is None or isinstance(value, bool) or value in line or value in DEFAULTS


@settings(deadline=None)
@given(ANY_LINE)
@example("-\x1cx")
@example("x if\u2003thread\u20031")
def test_any_line_is_a_request_or_a_usage_error(line):
    try:
        request = parse(line)
    except UsageError as error:
        assert str(error) and "\n" not in str(error).strip("\n")
        return
    assert request.expression == request.expression.strip() != ""
    assert request.condition is None or request.condition == request.condition.strip() != ""
    for value in request:
        assert _is_from(value, line)


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("", ""),
        ("abc", "abc"),
        ("a(b)c", "ac"),
        ("a[b{c}d]e", "ae"),
        ("a'('b", "ab"),
        ('a"\'"b', "ab"),
        ("a'\\''b", "ab"),
        ("a'b", "a'b"),
        ("a)b", "ab"),
        ("a)(b)c", "ac"),
        ("a(b", "a"),
    ],
)
def test_outside_of_brackets_and_quotes(text, outside):
    assert "".join(text[place] for place in outermost(text)) == outside
