"""From a condition's text to the tree that runs in the kernel, by gdb's own understanding of it.

The text is taken apart here; every name, literal and type is looked up by gdb.  Promotions are
those of ``binop_promote`` and ``unop_promote`` (gdb/eval.c) for C and C++, results those of
``scalar_binop``, ``value_equal`` and ``value_less`` (gdb/valarith.c, valops.c).  Whatever is not
understood exactly is not compiled, and the reason is told.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import gdb

from gdb_kwatch.core import conditions as tree
from gdb_kwatch.core.bpf import PT_REGS, Program
from gdb_kwatch.core.conditions import INT, UNSIGNED_LONG, Kind, Node, TooComplex

from . import gdbfacts
from .lvalues import is_signed
from .targets import Target

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*(?![\w.]))|(?P<char>'(?:[^'\\]|\\.)+')"
    r"|(?P<name>\$?[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)"
    r"|(?P<operator>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:().,\[\]=])|(?P<other>\S))"
)
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
_INTEGRAL = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
_REGISTERS = {"pc": "rip", "sp": "rsp", "fp": "rbp"}
_MOST_THREADS = 16
_TYPE_TOKEN = re.compile(r"[A-Za-z_]\w*(?:::\w+)*$|\*$")


class NotCompiled(Exception):
    """The condition is for gdb alone; the text says why."""


@dataclass(frozen=True)
class Operand:
    """A value: its tree, or, where it stands in memory, the tree of its address; and gdb's type
    of it, without typedefs and qualifiers."""

    type: gdb.Type
    node: Node | None = None
    address: Node | None = None

    @property
    def code(self) -> int:
        return int(self.type.code)

    @property
    def is_bool(self) -> bool:
        return self.code == gdb.TYPE_CODE_BOOL

    @property
    def is_pointer(self) -> bool:
        return self.code == gdb.TYPE_CODE_PTR

    @property
    def is_integral(self) -> bool:
        return self.code in _INTEGRAL


def compiled(condition: str | None, target: Target, local: bool = False) -> tuple[Node | None, str]:
    """The tree of a condition, or None and why not; (None, "") where there is no condition.

    ``local``: the watched expression names locals, so that a condition which is more than the
    expression itself would need its frame.
    """
    if condition is None:
        return None, ""
    try:
        node = _Parser(condition, target).all()
        _try(node)
    except (NotCompiled, TooComplex) as error:
        return None, str(error)
    except (gdb.error, gdb.MemoryError, RecursionError, OverflowError) as error:
        return None, str(error) or type(error).__name__
    return node, ""


def _try(node: Node) -> None:
    """Whether it can be translated at all."""
    frame = tree.Frame(-32, -64, -72, -96, 0, 8, "failed")
    tree.Translation(Program(), frame).value(node)


def _language() -> str:
    text = gdb.execute("show language", to_string=True)
    found = re.search(r'currently ([^"]+)"', text) or re.search(r'is "([^"]+)"', text)
    return found.group(1) if found else "?"


def _plain(kind: gdb.Type) -> gdb.Type:
    return kind.strip_typedefs().unqualified()


def kind_of(kind: gdb.Type) -> Kind:
    """Size and sign of a type of integers or pointers.  Raises NotCompiled."""
    if kind.code == gdb.TYPE_CODE_PTR:
        if kind.sizeof != 8:
            raise NotCompiled("pointers are not of 8 bytes")
        return UNSIGNED_LONG
    if kind.code == gdb.TYPE_CODE_FLT:
        raise NotCompiled("floating point")
    if kind.code not in _INTEGRAL or kind.sizeof not in (1, 2, 4, 8):
        raise NotCompiled(f"a value of type {kind}")
    return Kind(int(kind.sizeof), is_signed(kind))


@functools.lru_cache(maxsize=1)
def narrows_wrongly() -> bool:
    """Whether this gdb loses the sign where it cuts a negative number: in 16.3,
    ``p (unsigned char) -257`` is 1 (``gdb_mpz::truncate``); 13.1 and 18.1 have 255, as C.

    What overflows without a cast is as in C here, in such a gdb too.
    """
    return int(gdb.parse_and_eval("(unsigned char) -257")) != 255


class _Parser:
    """One condition.  Each method returns the operand of what it has read."""

    def __init__(self, text: str, target: Target) -> None:
        self.text = text
        self.target = target
        self.language = _language()
        if self.language not in ("c", "c++"):
            raise NotCompiled(f"the language is {self.language}")
        self.tokens: list[str] = []
        self.kinds: list[str] = []
        for match in _TOKEN.finditer(text):
            kind = str(match.lastgroup)
            if kind == "other":
                raise NotCompiled(f"`{match.group(kind)}' is not understood")
            self.tokens.append(match.group(kind))
            self.kinds.append(kind)
        self.at = 0
        self.watched = [m.group(m.lastgroup) for m in _TOKEN.finditer(target.expression)]
        self.int_type = _plain(gdb.parse_and_eval("1").type)
        self.truth_type = _plain(gdb.parse_and_eval("1 == 1").type)

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
        found = self.value(self.choice())
        if self.at < len(self.tokens):
            token = self.peek()
            if token == "=":
                raise NotCompiled("an assignment")
            raise NotCompiled(f"`{token}' is not understood")
        return self.node(found)

    # What gdb's types make of operands.

    def value(self, operand: Operand) -> Operand:
        """Read from memory; an array becomes the address of its first element."""
        if operand.node is not None:
            return operand
        assert operand.address is not None
        if operand.code == gdb.TYPE_CODE_ARRAY:
            return Operand(_plain(operand.type.target()).pointer(), operand.address)
        kind = kind_of(operand.type)
        region = self.target.region
        if operand.address == tree.Number(region.address, UNSIGNED_LONG) and (
            kind.size == region.length
        ):
            return Operand(operand.type, tree.Watched("new", kind))
        return Operand(operand.type, tree.Load(operand.address, kind))

    def node(self, operand: Operand) -> Node:
        kind_of(operand.type)
        assert operand.node is not None
        return operand.node

    def promoted(self, operand: Operand) -> Operand:
        """``unop_promote``: what is smaller than int becomes int."""
        if not operand.is_integral:
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
        return _plain(
            gdb.lookup_type(names[kind.size] if kind.signed else f"unsigned {names[kind.size]}")
        )

    def truth(self, node: Node) -> Operand:
        return Operand(self.truth_type, node)

    @property
    def truth_kind(self) -> Kind:
        return kind_of(self.truth_type)

    # Operators.

    def choice(self) -> Operand:
        test = self.binary(0)
        if self.peek() != "?":
            return test
        self.take()
        yes = self.value(self.choice())
        self.expect(":")
        no = self.value(self.choice())
        if kind_of(yes.type) != kind_of(no.type) or yes.code != no.code:
            raise NotCompiled("?: with branches of two types")
        return Operand(
            yes.type, tree.Choose(self.node(self.value(test)), self.node(yes), self.node(no))
        )

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
            return self.truth(
                tree.Logic(operator, self.node(left), self.node(right), self.truth_kind)
            )
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
        return Operand(self.integer(kind), tree.Binary(operator, first, second))

    def shift(self, operator: str, left: Operand, right: Operand) -> Operand:
        """gdb promotes the left operand only, and takes no bool for a count."""
        count = self.node(right)
        if right.is_bool:
            raise NotCompiled("a shift by a bool, which gdb does not take")
        if not self.shift_is_sure(count):
            raise NotCompiled("a shift by what is not constant (this gdb does not define it)")
        value = self.promoted(left)
        return Operand(value.type, tree.Binary(operator, self.node(value), count))

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
            raise NotCompiled(f"`{operator}' on pointers")
        return Operand(left.type, self.moved(operator, left, right))

    def step(self, pointer: Operand) -> int:
        """``find_size_for_pointer_math``."""
        target = _plain(pointer.type.target())
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
        if token in ("-", "~", "+"):
            self.take()
            operand = self.promoted(self.value(self.unary()))
            if token == "+":
                return operand
            return Operand(operand.type, tree.Unary(token, self.node(operand)))
        if token == "!":
            self.take()
            operand = self.value(self.unary())
            return self.truth(tree.Not(self.node(operand), self.truth_kind))
        if token == "*":
            self.take()
            return self.target_of(self.value(self.unary()))
        if token == "&":
            self.take()
            operand = self.unary()
            if operand.address is None:
                raise NotCompiled("the address of what is not in memory")
            return Operand(operand.type.pointer(), operand.address)
        if token == "sizeof":
            return self.size_of()
        if token == "(":
            kind = self.cast()
            if kind is not None:
                return self.converted(kind, self.value(self.unary()))
        return self.postfix()

    def size_of(self) -> Operand:
        start = self.at
        self.take()
        if self.peek() != "(":
            raise NotCompiled("sizeof without brackets")
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(self.take(), 0)
            if not depth:
                break
        return self.constant(gdb.parse_and_eval(" ".join(self.tokens[start : self.at])))

    def cast(self) -> gdb.Type | None:
        """The type in brackets here, taken; None where there is none."""
        end = self.at + 1
        while end < len(self.tokens) and _TYPE_TOKEN.match(self.tokens[end]):
            end += 1
        words = self.tokens[self.at + 1 : end]
        if not words or end >= len(self.tokens) or self.tokens[end] != ")" or words[0] == "*":
            return None
        try:
            kind = gdb.parse_and_eval(f"({' '.join(words)}) 0").type
        except gdb.error:
            return None
        self.at = end + 1
        return _plain(kind)

    def converted(self, kind: gdb.Type, operand: Operand) -> Operand:
        """``value_cast`` between scalars."""
        node = self.node(operand)
        before = kind_of(operand.type)
        if before.signed and kind_of(kind).size < before.size and narrows_wrongly():
            raise NotCompiled(f"a cast to {kind}, which this gdb gets wrong for negative numbers")
        if kind.code == gdb.TYPE_CODE_BOOL:
            return Operand(kind, tree.Convert(node, kind_of(kind), boolean=True))
        return Operand(kind, tree.Convert(node, kind_of(kind)))

    def target_of(self, pointer: Operand) -> Operand:
        if not pointer.is_pointer:
            raise NotCompiled(f"`*' on a value of type {pointer.type}")
        return Operand(_plain(pointer.type.target()), address=folded(self.node(pointer)))

    def postfix(self) -> Operand:
        operand = self.primary()
        while True:
            token = self.peek()
            if token == "[":
                self.take()
                index = self.value(self.choice())
                self.expect("]")
                pointer = self.value(operand)
                if not pointer.is_pointer or not index.is_integral:
                    raise NotCompiled("`[]' on something else than a pointer or array")
                element = Operand(pointer.type, self.moved("+", pointer, index))
                operand = self.target_of(element)
            elif token in (".", "->"):
                self.take()
                operand = self.member(operand, self.take())
            elif token == "(":
                raise NotCompiled("it calls a function")
            else:
                return operand

    def member(self, operand: Operand, name: str) -> Operand:
        value = operand
        if value.code == gdb.TYPE_CODE_PTR:
            value = self.target_of(self.value(operand))
        if value.code not in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION) or value.address is None:
            raise NotCompiled(f"a member of a value of type {value.type}")
        for field in value.type.fields():
            if field.name != name:
                continue
            if field.bitsize:
                raise NotCompiled(f"{name} is a bit-field")
            if not hasattr(field, "bitpos") or field.is_base_class:
                break
            kind = _plain(field.type)
            offset = tree.Number(field.bitpos // 8, UNSIGNED_LONG)
            return Operand(kind, address=folded(tree.Binary("+", value.address, offset)))
        raise NotCompiled(f"{value.type} has no plain member {name}")

    def primary(self) -> Operand:
        watched = self.the_watched()
        if watched is not None:
            return watched
        kind = self.kinds[self.at] if self.at < len(self.kinds) else ""
        token = self.take()
        if token == "(":
            operand = self.choice()
            self.expect(")")
            return operand
        if kind in ("number", "char"):
            return self.constant(gdb.parse_and_eval(token))
        if kind != "name":
            raise NotCompiled(f"`{token}' is not understood")
        if token.startswith("$"):
            return self.special(token)
        if self.peek() == "(":
            raise NotCompiled("it calls a function")
        return self.named(token)

    def the_watched(self) -> Operand | None:
        """The watched expression itself, as it was written, where it stands for itself."""
        end = self.at + len(self.watched)
        if self.tokens[self.at : end] != self.watched or self.kinds[self.at] != "name":
            return None
        if self.tokens[end : end + 1] and self.tokens[end] in ("[", ".", "->", "("):
            return None
        if any(
            self.tokens[self.at + n] in _LEVELS[9] + _LEVELS[8] for n in range(len(self.watched))
        ):
            return None
        kind = _plain(self.target.type)
        if kind.code not in (*_INTEGRAL, gdb.TYPE_CODE_PTR):
            return None
        if kind.sizeof != self.target.region.length:
            raise NotCompiled(f"{self.target.expression} is a bit-field")
        self.at = end
        return Operand(
            kind,
            tree.Watched("new", kind_of(kind)),
            tree.Number(self.target.region.address, UNSIGNED_LONG),
        )

    def constant(self, value: gdb.Value) -> Operand:
        kind = _plain(value.type)
        return Operand(kind, tree.Number(int(value), kind_of(kind)))

    def special(self, token: str) -> Operand:
        """``$new``, ``$old``, ``$_thread``, a register."""
        name = token[1:]
        if name in ("new", "old"):
            kind = _plain(self.target.type)
            if kind.sizeof != self.target.region.length:
                raise NotCompiled(f"{self.target.expression} is a bit-field")
            return Operand(kind, tree.Watched(name, kind_of(kind)))
        if name == "_thread":
            return Operand(self.int_type, self.thread_number())
        register = _REGISTERS.get(name, name)
        value = gdb.parse_and_eval(token)
        kind = _plain(value.type)
        low = {**{f"e{n[1:]}": n for n in PT_REGS if n[0] == "r" and n[1:].isalpha()}}
        if register in low:
            register = low[register]
        elif re.fullmatch(r"r\d+d", register):
            register = register[:-1]
        if register not in PT_REGS or kind.code not in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_PTR):
            raise NotCompiled(f"{token} is gdb's own")
        return Operand(kind, tree.CpuRegister(register, kind_of(kind)))

    def thread_number(self) -> Node:
        """gdb's number for the LWP; of a thread that is not there yet, gdb must be asked."""
        threads = gdb.selected_inferior().threads()
        if len(threads) > _MOST_THREADS:
            raise NotCompiled(f"$_thread with more than {_MOST_THREADS} threads")
        node: Node = tree.Unknown()
        for thread in threads:
            is_this = tree.Compare("==", tree.ThreadId(), tree.Number(thread.ptid[1], INT))
            node = tree.Choose(is_this, tree.Number(thread.num, INT), node)
        return node

    def named(self, name: str) -> Operand:
        symbol, of_this = gdb.lookup_symbol(name)
        if of_this:
            raise NotCompiled(f"{name} is a member of this")
        if symbol is None:
            if name not in ("true", "false"):
                raise NotCompiled(f"{name} has no debug information")
            return self.constant(gdb.parse_and_eval(name))
        if symbol.addr_class == gdb.SYMBOL_LOC_CONST:
            return self.constant(symbol.value())
        if symbol.needs_frame:
            raise NotCompiled(f"{name} is a local variable")
        if symbol.addr_class != gdb.SYMBOL_LOC_STATIC:
            raise NotCompiled(f"{name} has no fixed address")
        value = gdb.parse_and_eval(name)
        kind = _plain(value.type)
        if kind.code == gdb.TYPE_CODE_REF or value.address is None:
            raise NotCompiled(f"{name} is a reference")
        address = int(value.address) & (1 << 64) - 1
        return Operand(kind, address=tree.Number(address, UNSIGNED_LONG))


def folded(node: Node) -> Node:
    """Sums of constant addresses as one number, so that a place can be told by it."""
    if isinstance(node, tree.Convert) and isinstance(node.node, tree.Number):
        return tree.Number(tree.extended(node.node.value, node.kind), node.kind)
    if isinstance(node, tree.Convert):
        inner = folded(node.node)
        return folded(tree.Convert(inner, node.kind)) if isinstance(inner, tree.Number) else node
    if isinstance(node, tree.Binary) and node.operator in "+-*":
        left, right = folded(node.left), folded(node.right)
        if isinstance(left, tree.Number) and isinstance(right, tree.Number):
            value = {
                "+": left.value + right.value,
                "-": left.value - right.value,
                "*": left.value * right.value,
            }[node.operator]
            return tree.Number(tree.extended(value, node.kind), node.kind)
    return node
