"""From a condition's text to the tree that runs in the kernel, by gdb's own understanding of it.

The text is taken apart here; every name, literal and type is looked up by gdb (`operands`).
Promotions are those of ``binop_promote`` and ``unop_promote`` (gdb/eval.c) for C and C++, results
those of ``scalar_binop``, ``value_equal`` and ``value_less`` (gdb/valarith.c, valops.c).  Whatever
is not understood exactly is not compiled, and the reason is told.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import gdb

from gdb_kwatch.core import conditions as tree
from gdb_kwatch.core.bpf import Program
from gdb_kwatch.core.condition_text import Untold, tokens, type_words
from gdb_kwatch.core.conditions import INT, UNSIGNED_LONG, Kind, Node, TooComplex

from . import gdbfacts
from .macros import expanded
from .operands import (
    NotCompiled,
    Operand,
    at,
    constant,
    folded,
    kind_of,
    member,
    named,
    not_between_classes,
    number,
    plain,
    special,
)
from .targets import Target

_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
_BITS = ("&", "|", "^")
_CPP_CASTS = ("static_cast", "reinterpret_cast")
_NOT_COMPILED = ("dynamic_cast", "const_cast", "typeid", "alignof", "_Alignof", "decltype")


def compiled(
    condition: str | None, target: Target, afresh: bool = False
) -> tuple[Node | None, str]:
    """The tree of a condition, or None and why not; (None, "") where there is no condition.

    ``afresh``: as a kwatch has it, by gdb's rules.  The watched expression, in its own condition,
    is what it names at each access, and not what it named when it was set; threads have a table.
    """
    if condition is None:
        return None, ""
    try:
        node = _Parser(condition, target, afresh).all()
        _try(node)
    except (NotCompiled, TooComplex, Untold) as error:
        return None, str(error)
    except RecursionError:
        return None, "it is too long"
    except (gdb.error, gdb.MemoryError, OverflowError) as error:
        return None, str(error) or type(error).__name__
    return node, ""


def places_of(condition: str, target: Target, afresh: bool = False) -> list[tuple[int, int]]:
    """The memory that a condition which can be compiled names: variables and whole arrays, each
    with its address and size, and what stands at a fixed address."""
    parser = _Parser(condition, target, afresh)
    found = _fixed_loads(parser.all())
    return sorted(set(found) | parser.places)


def _fixed_loads(node: Node) -> list[tuple[int, int]]:
    found = [place for part in tree.parts(node) for place in _fixed_loads(part)]
    if isinstance(node, tree.Load) and isinstance(node.address, tree.Number):
        found.append((node.address.value, node.length or node.kind.size))
    return found


def _try(node: Node) -> None:
    """Whether it can be translated at all."""
    frame = tree.Frame(-32, -64, -72, -96, 0, 8, "failed")
    tree.Translation(Program(), frame).value(node)


_language_told = ["c"]


def _language() -> str:
    """The one in which gdb parses now; in a stop, where an older gdb cannot be asked, the last."""
    known = gdbfacts.language_now()
    if known not in ("auto", "local"):
        return known
    if gdbfacts.may_execute():
        text = gdb.execute("show language", to_string=True)
        found = re.search(r'currently ([^"]+)"', text)
        _language_told[0] = found.group(1) if found else "?"
    return _language_told[0]


@functools.lru_cache(maxsize=1)
def narrows_wrongly() -> bool:
    """Whether this gdb loses the sign where it cuts a negative number: in 16.3,
    ``p (unsigned char) -257`` is 1 (``gdb_mpz::export_bits``); 13.1 and 18.1 have 255, as C."""
    return int(gdb.parse_and_eval("(unsigned char) -257")) != 255


class _Parser:
    """One condition.  Each method returns the operand of what it has read."""

    def __init__(self, text: str, target: Target, afresh: bool) -> None:
        self.target = target
        self.afresh = afresh
        language = _language()
        if language not in ("c", "c++"):
            raise NotCompiled(f"the language is {language}")
        cpp = language == "c++"
        self.found = tokens(expanded(text), cpp)
        self.tokens = [token.text for token in self.found]
        self.kinds = [token.kind for token in self.found]
        self.at = 0
        try:
            self.watched = [token.text for token in tokens(target.expression, cpp)]
        except Untold:
            self.watched = []
        self.int_type = plain(gdb.parse_and_eval("1").type)
        self.truth_type = plain(gdb.parse_and_eval("1 == 1").type)
        self.unsure = narrows_wrongly()
        self.places: set[tuple[int, int]] = set()  # see `places_of`

    # Reading.

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            raise NotCompiled("it ends too early")
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise NotCompiled(f"`{self.peek() or 'its end'}' is not understood")
        self.at += 1

    def all(self) -> Node:
        found = self.as_test(self.value(self.expression()))
        if self.at < len(self.tokens):
            raise NotCompiled(f"`{self.peek()}' is not understood")
        return self.node(found)

    # What gdb's types make of operands.

    def value(self, operand: Operand) -> Operand:
        """Read from memory; an array becomes the address of its first element."""
        if operand.node is not None or operand.either is not None:
            return operand
        assert operand.address is not None
        if operand.code == gdb.TYPE_CODE_ARRAY:
            return Operand(plain(operand.type.target()).pointer(), operand.address)
        if operand.code == gdb.TYPE_CODE_FUNC:
            return Operand(operand.type.pointer(), operand.address)
        kind = kind_of(operand.type)
        length = (sum(operand.bits) + 7) // 8 if operand.bits else kind.size
        region = self.target.region
        watched = operand.address == number(region.address) and length == region.length
        if operand.bits is None:
            load: Node = tree.Load(operand.address, kind)
            return Operand(operand.type, tree.Watched("new", kind) if watched else load)
        load = tree.Load(operand.address, UNSIGNED_LONG, length)
        whole = tree.Watched("new", UNSIGNED_LONG) if watched else load
        return Operand(operand.type, tree.Bits(whole, *operand.bits, kind))

    def node(self, operand: Operand) -> Node:
        kind_of(operand.type)
        assert operand.node is not None
        return operand.node

    def each(self, operand: Operand, make: Callable[[Operand], Operand]) -> Operand:
        """``make`` of a value; of both, where ?: chooses between values of two types."""
        if operand.either is None:
            return make(operand)
        test, yes, no = operand.either
        yes, no = (self.each(self.value(one), make) for one in (yes, no))
        return self.chosen(test, yes, no)

    def chosen(self, test: Node, yes: Operand, no: Operand) -> Operand:
        """``test ? yes : no``, of two that are alike: two values, or two places."""
        alike = yes.type == no.type or (
            yes.is_integral and yes.code == no.code and kind_of(yes.type) == kind_of(no.type)
        )
        if alike and yes.node is not None and no.node is not None:
            return Operand(yes.type, tree.Choose(test, yes.node, no.node))
        alike = alike and yes.bits is None and no.bits is None
        if alike and yes.address is not None and no.address is not None:
            return Operand(yes.type, address=tree.Choose(test, yes.address, no.address))
        return Operand(yes.type, either=(test, yes, no))

    def truth_of(self, operand: Operand) -> Operand:
        """Whether it is not 0."""
        one = Operand(self.truth_type, tree.Number(1, self.truth_kind))
        none = Operand(self.truth_type, tree.Number(0, self.truth_kind))
        return self.chosen(self.node(operand), one, none)

    def as_test(self, operand: Operand) -> Operand:
        """A value of which only that matters."""
        return operand if operand.either is None else self.each(operand, self.truth_of)

    def promoted(self, operand: Operand) -> Operand:
        """``unop_promote``: what is smaller than int becomes int."""
        if not operand.is_integral:
            kind_of(operand.type)
            raise NotCompiled(f"arithmetic on a value of type {operand.type}")
        if kind_of(operand.type).size < INT.size:
            return Operand(self.int_type, tree.Convert(self.node(operand), INT))
        return operand

    def common(self, left: Operand, right: Operand) -> tuple[Node, Node, Kind]:
        """``binop_promote``: both as the type that C's rules give."""
        kinds = []
        for operand in (left, right):
            kind = kind_of(operand.type)
            kinds.append(kind if kind.size >= INT.size else INT)
        size = max(kind.size for kind in kinds)
        unsigned = any(kind.size == size and not kind.signed for kind in kinds)
        kind = Kind(size, not unsigned)
        return (
            tree.Convert(self.node(left), kind),
            tree.Convert(self.node(right), kind),
            kind,
        )

    def integer(self, kind: Kind) -> gdb.Type:
        """The type that a result of ``kind`` has: what matters is its size and sign."""
        names = {4: "int", 8: "long"}
        return plain(
            gdb.lookup_type(names[kind.size] if kind.signed else f"unsigned {names[kind.size]}")
        )

    def truth(self, node: Node) -> Operand:
        return Operand(self.truth_type, node)

    @property
    def truth_kind(self) -> Kind:
        return kind_of(self.truth_type)

    # Operators.

    def expression(self) -> Operand:
        """With commas: what is before one is evaluated, and read only where that takes it."""
        found = self.choice()
        while self.peek() == ",":
            self.take()
            found = self.after(found, self.choice())
        return found

    def after(self, before: Operand, last: Operand) -> Operand:
        first = self.effect(before)
        if first is None:
            return last
        if last.node is None and last.address is not None:
            return Operand(last.type, None, tree.Sequence(first, last.address), last.bits)
        return self.each(last, lambda one: Operand(one.type, tree.Sequence(first, self.node(one))))

    def effect(self, operand: Operand) -> Node | None:
        """What must be evaluated of an operand that is not used."""
        if operand.either is not None:
            test, yes, no = operand.either
            nothing = tree.Number(0, INT)
            return tree.Choose(test, self.effect(yes) or nothing, self.effect(no) or nothing)
        node = operand.node if operand.node is not None else operand.address
        return None if isinstance(node, (tree.Number, tree.Watched)) else node

    def choice(self) -> Operand:
        test = self.binary(0)
        if self.peek() != "?":
            return test
        self.take()
        yes = self.expression()
        self.expect(":")
        no = self.choice()
        truth = self.node(self.as_test(self.value(test)))
        return self.chosen(truth, yes, no)

    def binary(self, level: int) -> Operand:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            operator = self.take()
            left = self.apply(operator, left, self.binary(level + 1))
        return left

    def apply(self, operator: str, one: Operand, other: Operand) -> Operand:
        left, right = self.value(one), self.value(other)
        if operator in ("&&", "||"):
            first, second = (self.node(self.as_test(side)) for side in (left, right))
            return self.truth(tree.Logic(operator, first, second, self.truth_kind))
        return self.each(
            left, lambda first: self.each(right, lambda second: self.two(operator, first, second))
        )

    def two(self, operator: str, left: Operand, right: Operand) -> Operand:
        if left.is_pointer or right.is_pointer:
            return self.pointers(operator, left, right)
        if not left.is_integral or not right.is_integral:
            kind_of(left.type), kind_of(right.type)
            raise NotCompiled(f"`{operator}' on values of types {left.type} and {right.type}")
        if left.is_bool and right.is_bool and operator not in ("<<", ">>"):
            return self.booleans(operator, left, right)
        if operator in ("<<", ">>"):
            return self.shift(operator, left, right)
        first, second, kind = self.common(left, right)
        if operator in _COMPARISONS:
            return self.truth(tree.Compare(operator, first, second, self.truth_kind))
        unsure = self.unsure and operator == "*" and kind.signed
        return Operand(self.integer(kind), tree.Binary(operator, first, second, unsure))

    def shift(self, operator: str, left: Operand, right: Operand) -> Operand:
        """gdb promotes the left operand only, and takes no bool for a count."""
        count = self.node(right)
        if right.is_bool:
            raise NotCompiled("a shift by a bool, which gdb does not take")
        if not self.shift_is_sure(count):
            raise NotCompiled("a shift by what is not constant (this gdb does not define it)")
        value = self.promoted(left)
        unsure = self.unsure and operator == "<<" and kind_of(value.type).signed
        return Operand(value.type, tree.Binary(operator, self.node(value), count, unsure))

    def shift_is_sure(self, count: Node) -> bool:
        """gdb 13 says what a count too large gives; before, it was the host's."""
        if gdbfacts.VERSION >= (13, 0):
            return True
        while isinstance(count, tree.Convert):
            count = count.node
        return isinstance(count, tree.Number) and 0 <= count.value < 32

    def booleans(self, operator: str, left: Operand, right: Operand) -> Operand:
        """Two bools are not promoted; gdb takes few operators for them (`scalar_binop`)."""
        first, second = self.node(left), self.node(right)
        if operator in ("==", "!="):
            return self.truth(tree.Compare(operator, first, second, self.truth_kind))
        if operator in _BITS:
            return Operand(left.type, tree.Binary(operator, first, second))
        raise NotCompiled(f"`{operator}' on two bools, which gdb does not take")

    def pointers(self, operator: str, left: Operand, right: Operand) -> Operand:
        if operator in _COMPARISONS:
            for side in (left, right):
                if not side.is_pointer and not side.is_integral:
                    raise NotCompiled(f"a comparison with a value of type {side.type}")
            return self.truth(
                tree.Compare(
                    operator,
                    tree.Convert(self.node(left), UNSIGNED_LONG),
                    tree.Convert(self.node(right), UNSIGNED_LONG),
                    self.truth_kind,
                )
            )
        if operator == "-" and left.is_pointer and right.is_pointer:
            size = self.step(left)
            if size != self.step(right):
                raise NotCompiled("the difference of pointers to two types")
            difference = tree.Binary(
                "-",
                tree.Convert(self.node(left), tree.LONG),
                tree.Convert(self.node(right), tree.LONG),
            )
            quotient = tree.Binary("/", difference, tree.Number(size, tree.LONG))
            return Operand(self.integer(tree.LONG), quotient)
        if operator == "+" and right.is_pointer and left.is_integral:
            left, right = right, left
        if operator not in "+-" or not (left.is_pointer and right.is_integral):
            raise NotCompiled(f"`{operator}' on pointers, which gdb does not take")
        return Operand(left.type, self.moved(operator, left, right))

    def step(self, pointer: Operand) -> int:
        """``find_size_for_pointer_math``."""
        target = plain(pointer.type.target())
        if target.code in (gdb.TYPE_CODE_VOID, gdb.TYPE_CODE_FUNC):
            return 1
        if not target.sizeof:
            raise NotCompiled(f"a pointer to {target}, whose size is not known")
        return int(target.sizeof)

    def moved(self, operator: str, pointer: Operand, count: Operand) -> Node:
        distance = tree.Binary(
            "*",
            tree.Convert(tree.Convert(self.node(count), tree.LONG), UNSIGNED_LONG),
            tree.Number(self.step(pointer), UNSIGNED_LONG),
        )
        return folded(tree.Binary(operator, self.node(pointer), distance))

    def unary(self) -> Operand:
        token = self.peek()
        if token in ("-", "~", "+", "!"):
            self.take()
            operand = self.value(self.unary())
            return self.each(operand, lambda one: self.signed(token, one))
        if token == "*":
            self.take()
            return self.each(self.value(self.unary()), self.target_of)
        if token == "&":
            self.take()
            operand = self.unary()
            if operand.address is None or operand.bits:
                raise NotCompiled("the address of what is not in memory")
            return Operand(operand.type.pointer(), operand.address)
        if token == "sizeof":
            return self.size_of()
        if token == "(":
            kind = self.cast(")")
            if kind is not None:
                return self.each(self.value(self.unary()), lambda one: self.converted(kind, one))
        if token == "{":
            kind = self.cast("}")
            if kind is None:
                raise NotCompiled("`{' is not understood")
            place = self.each(self.value(self.unary()), self.as_address)
            return at(kind, folded(self.node(place)))
        return self.postfix()

    def signed(self, operator: str, operand: Operand) -> Operand:
        """``-``, ``~``, ``+`` or ``!``."""
        if operator == "!":
            return self.truth(tree.Not(self.node(operand), self.truth_kind))
        promoted = self.promoted(operand)
        if operator == "+":
            return promoted
        return Operand(promoted.type, tree.Unary(operator, self.node(promoted)))

    def as_address(self, operand: Operand) -> Operand:
        if not operand.is_pointer and not operand.is_integral:
            raise NotCompiled(f"an address of type {operand.type}")
        return Operand(self.integer(UNSIGNED_LONG), tree.Convert(self.node(operand), UNSIGNED_LONG))

    def size_of(self) -> Operand:
        start = self.at
        self.take()
        if self.peek() != "(":
            self.unary()
        else:
            depth = 0
            while True:
                depth += {"(": 1, ")": -1}.get(self.take(), 0)
                if not depth:
                    break
        return constant(gdb.parse_and_eval(" ".join(self.tokens[start : self.at])))

    def cast(self, end: str) -> gdb.Type | None:
        """The type in brackets here, taken; None where there is none."""
        words, stop = type_words(self.found, self.at + 1)
        if not words or self.tokens[stop : stop + 1] != [end]:
            return None
        try:
            kind = gdb.parse_and_eval(f"({' '.join(words)} *) 0").type.target()
        except gdb.error:
            return None
        self.at = stop + 1
        return plain(kind)

    def converted(self, kind: gdb.Type, operand: Operand) -> Operand:
        """``value_cast`` between scalars."""
        node = self.node(operand)
        before, after = kind_of(operand.type), kind_of(kind)
        if kind.code == gdb.TYPE_CODE_BOOL:
            return Operand(kind, tree.Convert(node, after, boolean=True))
        if operand.is_pointer and kind.code == gdb.TYPE_CODE_PTR:
            not_between_classes(operand.type, kind)
        unsure = self.unsure and before.signed and after.size < before.size
        return Operand(kind, tree.Convert(node, after, unsure=unsure))

    def target_of(self, pointer: Operand) -> Operand:
        if not pointer.is_pointer:
            kind_of(pointer.type)
            raise NotCompiled(f"`*' on a value of type {pointer.type}")
        return at(pointer.type.target(), folded(self.node(pointer)))

    def postfix(self) -> Operand:
        operand = self.primary()
        while True:
            token = self.peek()
            if token == "[":
                self.take()
                operand = self.elements(self.value(operand), self.value(self.expression()))
                self.expect("]")
            elif token in (".", "->"):
                self.take()
                operand = self.members(operand, self.take())
            elif token == "(":
                raise NotCompiled("it calls a function")
            else:
                return operand

    def elements(self, pointer: Operand, index: Operand) -> Operand:
        return self.each(
            pointer, lambda base: self.each(index, lambda count: self.element(base, count))
        )

    def members(self, operand: Operand, name: str) -> Operand:
        return self.each(operand, lambda one: self.member(one, name))

    def element(self, pointer: Operand, index: Operand) -> Operand:
        if not pointer.is_pointer or not index.is_integral:
            raise NotCompiled("`[]' on something else than a pointer or array")
        return self.target_of(Operand(pointer.type, self.moved("+", pointer, index)))

    def member(self, operand: Operand, name: str) -> Operand:
        if self.peek() == "(":
            raise NotCompiled("it calls a function")
        if operand.code == gdb.TYPE_CODE_PTR:  # for gdb . and -> are the same
            operand = self.target_of(self.value(operand))
        return member(operand, name)

    def primary(self) -> Operand:
        watched = None if self.afresh else self.the_watched()
        if watched is not None:
            return watched
        kind = self.kinds[self.at] if self.at < len(self.kinds) else ""
        token = self.take()
        if token == "(":
            operand = self.expression()
            self.expect(")")
            return operand
        if kind in ("number", "char"):
            return constant(gdb.parse_and_eval(token))
        if kind != "name":
            raise NotCompiled(f"`{token}' is not understood")
        if token in _CPP_CASTS and self.peek() == "<":
            return self.cpp_cast()
        if token in _NOT_COMPILED:
            raise NotCompiled(f"it uses {token}")
        if self.peek() == "(":
            raise NotCompiled("it calls a function")
        if token == "this":
            raise NotCompiled("this is a local variable")
        if token in ("$new", "$old"):
            return self.watched_value(token[1:])
        if token.startswith("$"):
            return special(token, table=self.afresh)
        try:
            operand = named(token)
            if isinstance(operand.address, tree.Number):
                self.places.add((operand.address.value, int(operand.type.sizeof)))
            return operand
        except NotCompiled as error:
            if [token] == self.watched[:1] and "local" in str(error):
                raise NotCompiled(f"{error}; $new is the watched value") from None
            raise

    def cpp_cast(self) -> Operand:
        """``static_cast<TYPE> (EXPRESSION)``."""
        kind = self.cast(">")
        if kind is None:
            raise NotCompiled(f"`{self.tokens[self.at - 1]}' is not understood")
        self.expect("(")
        operand = self.value(self.expression())
        self.expect(")")
        return self.each(operand, lambda one: self.converted(kind, one))

    def the_watched(self) -> Operand | None:
        """The watched expression itself, as it was written, where it stands for itself."""
        end = self.at + len(self.watched)
        if not self.watched or self.tokens[self.at : end] != self.watched:
            return None
        if self.kinds[self.at] != "name":
            return None
        if self.tokens[end : end + 1] and self.tokens[end] in ("[", ".", "->", "("):
            return None
        if any(token in _LEVELS[9] + _LEVELS[8] for token in self.watched):
            return None
        kind = plain(self.target.type)
        if not Operand(kind).is_integral and kind.code != gdb.TYPE_CODE_PTR:
            return None
        found = self.watched_value("new")
        self.at = end
        address = None if self.target.bits else number(self.target.region.address)
        return Operand(found.type, found.node, address)

    def watched_value(self, which: str) -> Operand:
        """``$new`` or ``$old``."""
        kind = plain(self.target.type)
        known = kind_of(kind)
        if self.target.bits is not None:
            whole = tree.Watched(which, UNSIGNED_LONG)
            return Operand(kind, tree.Bits(whole, *self.target.bits, known))
        if known.size != self.target.region.length:
            raise NotCompiled(f"${which} is not the whole of {self.target.expression}")
        return Operand(kind, tree.Watched(which, known))
