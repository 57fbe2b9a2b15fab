"""Expressions taken apart, as gdb 13 watches them, and those that may change the program."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdb_kwatch.core.expression import has_side_effects, parts_of, tokens_of

PARTS = [
    # names and constants
    ("a", []),
    ("  a  ", []),
    ("::a", []),
    ("ns::a", []),
    ("$rax", []),
    ("$_kwatch_slot", []),
    ("'file.c'::a", []),
    ("42", []),
    ('"text"', []),
    ("'c'", []),
    ("", []),
    (" ", []),
    # members, elements, pointers
    ("s.x", ["s"]),
    ("p->x", ["p"]),
    ("p -> x", ["p"]),
    ("p->q->r", ["p->q"]),
    ("p->a.b", ["p->a"]),
    ("'file.c'::p->x", ["'file.c'::p"]),
    ("::p->x", ["::p"]),
    ("p->Base::x", ["p"]),
    ("t.0.1", ["t.0"]),
    ("*p", ["p"]),
    ("**p", ["*p"]),
    ("*p->q", ["p->q"]),
    ("(*p).x", ["(*p)"]),
    ("(*p)", ["*p"]),
    ("(p)->x", ["(p)"]),
    ("a[i]", ["a", "i"]),
    ("a[i][j]", ["a[i]", "j"]),
    ("a[b[i]]", ["a", "b[i]"]),
    ("a[i].x", ["a[i]"]),
    ("p->a[i + 1].x", ["p->a[i+1]"]),
    ("(a)[i]", ["(a)", "i"]),
    ("*(p + i)", ["(p+i)"]),
    ("this->x", ["this"]),
    # operators
    ("a + b", ["a", "b"]),
    ("a+b*c-d", ["a", "b", "c", "d"]),
    ("a << 2 | b", ["a", "2", "b"]),
    ("(a + b) * c", ["(a+b)", "c"]),
    ("a == b && !c", ["a", "b", "!c"]),
    ("a ? b : c", ["a", "b", "c"]),
    ("a, b", ["a", "b"]),
    ("-a", ["a"]),
    ("!*p", ["*p"]),
    ("a - -b", ["a", "-b"]),
    ("- -b", ["-b"]),
    ("a & &b", ["a", "&b"]),
    ("a * *b", ["a", "*b"]),
    ("'x' + \"y\"", ["'x'", '"y"']),
    # the address of: what leads there is read
    ("&a", []),
    ("&s.x", ["s"]),
    ("&p->x", ["p"]),
    ("&p->q->r", ["p->q"]),
    ("&p->a[i]", ["p->a", "i"]),
    ("&*p", ["p"]),
    ("&(p->x)", ["p"]),
    ("&(a)", []),
    ("&&a", []),
    ("*&p->x", ["&p->x"]),
    ("&p->x == q", ["&p->x", "q"]),
    # arrays made of elements
    ("a@3", ["3"]),
    ("*p@3", ["p", "3"]),
    ("p->a[1]@n", ["p->a", "1", "n"]),
    # casts
    ("(int) a", ["a"]),
    ("(int) *p", ["*p"]),
    ("(long) p->x + i", ["(long)p->x", "i"]),
    ("(unsigned char) -x", ["-x"]),
    ("(size_t) &x", ["&x"]),
    ("(struct node *) *p", ["*p"]),
    ("(node *) *p", ["*p"]),
    ("((node *) p)->x", ["((node*)p)"]),
    ("((node *) p)", ["(node*)p"]),
    ("(int (*)[4]) *p", ["*p"]),
    ("*(int (*)[4]) p->a", ["(int(*)[4])p->a"]),
    ("(void (*)(int)) p", ["p"]),
    ("(const char **) *p", ["*p"]),
    ("(int) (a)", ["(a)"]),
    ("(a) * b", ["(a)", "b"]),
    ("(a & b) * c", ["(a&b)", "c"]),
    ("(sizeof(int) + a) * b", ["(sizeof(int)+a)", "b"]),
    ("((int) a) * b", ["((int)a)", "b"]),
    ("{int} p", ["p"]),
    ("{int} *p", ["*p"]),
    ("{int} &a", ["&a"]),
    ("{unsigned long} $rsp", ["$rsp"]),
    ("{int}", []),
    # C++
    ("Box<int>::value", []),
    ("Box<int>::p->x", ["Box<int>::p"]),
    ("ns::Box<int, Box<char *>>::value + a", ["ns::Box<int,Box<char*>>::value", "a"]),
    ("p->Box<int>::x", ["p"]),
    ("static_cast<node *>(p->q)->x", ["static_cast<node*>(p->q)"]),
    ("static_cast<node *>(p->q)", ["p->q"]),
    ("reinterpret_cast<ns::a<int> &>(*p)", ["*p"]),
    ("(Box<int> *) *p", ["*p"]),
    ("a < b", ["a", "b"]),
    ("a < b > c", ["a", "b", "c"]),
    ("a < b && c > d", ["a", "b", "c", "d"]),
    # not evaluated
    ("sizeof(a)", []),
    ("sizeof a", []),
    ("sizeof *p + i", ["sizeof*p", "i"]),
    ("sizeof (int) * n", ["sizeof(int)", "n"]),
    ("-sizeof(a)", ["sizeof(a)"]),
    # calls, which are not watched through
    ("$_strlen(s)", []),
    ("$_strlen(s) + a", ["$_strlen(s)", "a"]),
    ("f(x)", []),
    # not expressions: no more than that nothing is raised
    ("(", []),
    (")", []),
    ("()", []),
    ("(a", ["a"]),
    ("a[", []),
    ("]", []),
    ("&", []),
    ("*", []),
    ("->", []),
    ("@", []),
    ("'", []),
]


@pytest.mark.parametrize(("expression", "parts"), PARTS)
def test_parts(expression, parts):
    assert parts_of(expression) == parts


SIDE_EFFECTS = [
    "a = 1",
    "a += 1",
    "a <<= 1",
    "a >>= b",
    "a++",
    "--a",
    "a - --b",
    "s.a = s.b == 2",
    "f()",
    "f(x)",
    "f (x)",
    "ns::f(x)",
    "p->f(x)",
    "s.f(x)[1]",
    "a + f(x)",
    "a[f(x)]",
    "*f(x)",
    "(int) f(x)",
    "f(sizeof(int *))",
    "(*fp)(x)",
    "(s.f)(x)",
    "(p->f)(x)",
    "((f))(x)",
    "fs[0](x)",
    "f(x)(y)",
    "id<int>(x)",
    "ns::id<int, char *>(x)",
    "Box<int>::get()",
    "p->get<int>()",
    "'file.c'::f(x)",
    "'f(int)'(x)",
    "\u00e9t\u00e9(x)",
    "0x401136(5)",
    "[object message]",
    "a + [object message: 1]",
]

NO_SIDE_EFFECTS = [
    "a",
    "",
    "a == 1",
    "a != b",
    "a <= b",
    "a >= b",
    "a - -b",
    "a + +b",
    "- -1",
    "-a",
    "p->x",
    "a[i]",
    "a[(i)]",
    "(a)",
    "(a) + (b)",
    "sizeof(a)",
    "sizeof (int *)",
    "alignof(int)",
    "(int) (a)",
    "(node) (a)",
    "(node *) (p)",
    "(unsigned long) (a)",
    "(void (*)(int)) p",
    "(int (**)(char, long)) p",
    "(void (N::*)(int)) p",
    "*(int (*)[4]) p",
    "*(char (&)[4]) p",
    "{int} (p)",
    "{char *[4]} $rsp",
    "(int *[3]) p",
    "static_cast<node *>(p)->x",
    "reinterpret_cast<int (*)>(p)",
    "$_strlen(s)",
    "$_kwatch_tick() + 0 * $_kwatch_slot(1)",
    "a < b",
    "a < (b)",
    "a > (b)",
    "a ? (b) : (c)",
    "'='",
    '"a = b"',
    "\"f(x)\" == 'y'",
    "(",
    "((",
]


@pytest.mark.parametrize("expression", SIDE_EFFECTS)
def test_what_may_change_the_program(expression):
    assert has_side_effects(expression)


@pytest.mark.parametrize("expression", NO_SIDE_EFFECTS)
def test_what_only_reads(expression):
    assert not has_side_effects(expression)


@pytest.mark.parametrize(
    ("expression", "tokens"),
    [
        ("p->x+1", ["p", "->", "x", "+", "1"]),
        ("a ::b", ["a", "::", "b"]),
        ("A::~A", ["A::~A"]),
        ("a>>=1", ["a", ">>", "=", "1"]),
        ("x--y", ["x", "--", "y"]),
        ("'\\'' + \"\\\"\"", ["'\\''", "+", '"\\""']),
        ("it's", ["it", "'", "s"]),
        ("$a.b@3", ["$a", ".", "b", "@", "3"]),
        (" \t\n", []),
    ],
)
def test_tokens(expression, tokens):
    assert tokens_of(expression) == tokens


# --- whatever is typed ---------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["a", "p", "f", "x1", "int", "char", "size_t", "N", "Box", "static_cast", "sizeof", "1", "0x2"]
    + ["->", ".", "::", "+", "-", "*", "&", "&&", "<", ">", ">>", "<=", "==", "=", "?", ":", ","]
    + ["(", ")", "[", "]", "{", "}", "!", "~", "@", "^", "'", '"', "\\", " ", "++", "--", "$r"]
)
LIKELY = st.lists(PIECES, max_size=30).map("".join)
BALANCED = st.recursive(
    st.lists(PIECES.filter(lambda piece: piece not in "()[]{}'\"\\"), max_size=4).map("".join),
    lambda inner: st.lists(
        st.one_of(inner, *(inner.map(form.format) for form in ("({})", "[{}]", "{{{}}}", "f({})"))),
        max_size=4,
    ).map("".join),
)
TEXT = st.one_of(LIKELY, st.text(max_size=40))


@settings(deadline=None)
@given(TEXT)
@example("- - > a")
@example("& & & a")
@example("(a")
@example("'\\ '+'")
def test_nothing_raises_and_every_part_is_shorter(text):
    """So the caller, who takes the parts apart again, comes to an end; and, as all the parts
    together have fewer tokens than the whole, it does so after no more steps than there are
    tokens."""
    has_side_effects(text)
    whole = len(tokens_of(text))
    parts = parts_of(text)
    assert sum(len(tokens_of(part)) for part in parts) < max(whole, 1)
    assert all(part.strip() for part in parts)


@settings(deadline=None)
@given(BALANCED)
def test_a_part_changes_nothing_that_the_whole_does_not(text):
    """Parts are evaluated: none may be a call or an assignment that was not seen in the whole."""
    if not has_side_effects(text):
        assert not any(has_side_effects(part) for part in parts_of(text))


def pieces_of_all(text):
    """How many subexpressions there are, taken apart as the caller does."""
    todo, count = [text], 0
    while todo:
        count += 1
        todo += parts_of(todo.pop())
    return count


@pytest.mark.parametrize(
    "text",
    [
        "(" * 300 + "a" + ")" * 300,
        "(" * 300,
        "a[" * 300 + "1" + "]" * 300,
        "*" * 300 + "p",
        "&(" * 150 + "p" + ")" * 150,
        "& " * 300 + "p",
        "a@" * 300 + "1",
        "p" + "->q" * 300,
        "a+" * 300 + "1",
        "(int)" * 300 + "a",
        "B<int>::" * 300 + "a",
        "a<" * 300 + "b" + ">" * 300 + "::c",
        "'\\" * 300,
        "f(" * 300 + ")" * 300,
    ],
    ids=lambda text: text[:12],
)
def test_deep_nesting_takes_bounded_work(text):
    has_side_effects(text)
    assert pieces_of_all(text) <= 2 * len(tokens_of(text))
