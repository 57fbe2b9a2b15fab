"""What a name, a register or a member of a condition stands for: gdb's type of it, and where it is.

Only what stands at the same place for as long as the program runs, or can be found from there by
reading memory, is known to the kernel; everything else is for gdb.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import gdb

from gdb_kwatch.core import conditions as tree
from gdb_kwatch.core.bpf import PT_REGS
from gdb_kwatch.core.conditions import INT, UNSIGNED_LONG, Kind, Node

from . import gdbfacts
from .lvalues import REFERENCES, is_signed

INTEGRAL = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
STRUCTS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
_MOST_THREADS = 16
# $fp is no register: gdb takes the frame's base from the debug information.
_SAME = {"pc": "rip", "sp": "rsp", "eflags": "eflags", "cs": "cs", "ss": "ss"}
_THREADS = ("_thread", "_gthread", "_inferior")
_SOMEWHERE = 1 << 20  # no object is there: only the distance of its members is asked for


class NotCompiled(Exception):
    """The condition is for gdb alone; the text says why."""


class Operand(NamedTuple):
    """A value: its tree, or, where it stands in memory, the tree of its address; and gdb's type
    of it, without typedefs and qualifiers.

    bits: of a bit-field, the first one at its address, and their number
    either: what ?: chooses from, where gdb's type depends on it: the test and both
    """

    type: gdb.Type
    node: Node | None = None
    address: Node | None = None
    bits: tuple[int, int] | None = None
    either: tuple[Node, Operand, Operand] | None = None

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
        return self.code in INTEGRAL or self.code == gdb.TYPE_CODE_FLAGS


def plain(kind: gdb.Type) -> gdb.Type:
    return kind.strip_typedefs().unqualified()


def kind_of(kind: gdb.Type) -> Kind:
    """Size and sign of a type of integers or pointers.  Raises NotCompiled."""
    if kind.code == gdb.TYPE_CODE_PTR:
        if kind.sizeof != 8:
            raise NotCompiled("pointers are not of 8 bytes")
        return UNSIGNED_LONG
    if kind.code == gdb.TYPE_CODE_FLT:
        raise NotCompiled("floating point")
    if kind.code == gdb.TYPE_CODE_FLAGS and kind.sizeof in (4, 8):
        return Kind(int(kind.sizeof), False)
    if kind.code not in INTEGRAL or kind.sizeof not in (1, 2, 4, 8):
        raise NotCompiled(f"a value of type {kind}")
    return Kind(int(kind.sizeof), is_signed(kind))


def number(value: int) -> Node:
    """An address."""
    return tree.Number(value & (1 << 64) - 1, UNSIGNED_LONG)


def constant(value: gdb.Value) -> Operand:
    kind = plain(value.type)
    known = kind_of(kind)
    return Operand(kind, tree.Number(int(value), known))


def at(kind: gdb.Type, address: Node, bits: tuple[int, int] | None = None) -> Operand:
    """What stands in memory; of a reference, what it refers to (`coerce_ref`)."""
    kind = plain(kind)
    if kind.code in REFERENCES:
        return Operand(plain(kind.target()), address=tree.Load(address, UNSIGNED_LONG))
    return Operand(kind, address=address, bits=bits)


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


# Names.


def named(name: str) -> Operand:
    """A variable, constant or function.  Raises NotCompiled, gdb.error."""
    bare = name.lstrip(":")
    if name != bare:
        symbol = gdb.lookup_global_symbol(bare) or gdb.lookup_static_symbol(bare)
        of_this = False
    else:
        try:
            symbol, of_this = gdb.lookup_symbol(name)
        except gdb.error:  # no frame: the program does not run yet
            symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
            of_this = False
    if of_this:
        raise NotCompiled(f"{name} is a member of this")
    if symbol is None:
        return _unlisted(name)
    if symbol.is_argument or symbol.needs_frame:
        raise NotCompiled(f"{name} is a local variable")
    if symbol.addr_class == gdb.SYMBOL_LOC_CONST:
        return constant(symbol.value())
    if symbol.addr_class == gdb.SYMBOL_LOC_TYPEDEF:
        raise NotCompiled(f"`{name}' is not understood here")
    if symbol.addr_class == getattr(gdb, "SYMBOL_LOC_COMPUTED", None):
        if gdbfacts.is_thread_local(name):
            raise NotCompiled(f"{name} is another variable in each thread")
        raise NotCompiled(f"{name} has no fixed address")
    if symbol.addr_class == gdb.SYMBOL_LOC_OPTIMIZED_OUT:
        raise NotCompiled(f"{name} is optimized out")
    fixed = (gdb.SYMBOL_LOC_STATIC, gdb.SYMBOL_LOC_UNRESOLVED, gdb.SYMBOL_LOC_BLOCK)
    if symbol.addr_class not in fixed:
        raise NotCompiled(f"{name} has no fixed address")
    return _in_place(name, gdb.parse_and_eval(name))


def _unlisted(name: str) -> Operand:
    """What gdb knows, and `gdb.lookup_symbol` does not find: constants, static members of classes,
    static variables of functions (``function::variable``)."""
    if "::" not in name and not gdbfacts.may_execute():
        raise NotCompiled(f"{name} may be a macro")  # see macros.expanded
    try:
        value = gdb.parse_and_eval(name)
    except gdb.error:
        raise NotCompiled(f"gdb knows no {name} here") from None
    if value.address is None:
        return constant(value)
    owner, _, own = name.rpartition("::")
    if not owner:
        raise NotCompiled(f"{name} has no debug information")
    if not (_is_class(owner) or _is_static_in(owner, own)):
        raise NotCompiled(f"{name} has no fixed address")
    return _in_place(name, value)


def _is_class(name: str) -> bool:
    try:
        return plain(gdb.lookup_type(name)).code in STRUCTS
    except gdb.error:
        return False


def _is_static_in(function: str, name: str) -> bool:
    value = gdb.parse_and_eval(function)
    if value.type.code != gdb.TYPE_CODE_FUNC:
        return False
    block = gdb.block_for_pc(int(value.address))
    found = [symbol for symbol in block or () if symbol.name == name]
    return [symbol.addr_class for symbol in found] == [gdb.SYMBOL_LOC_STATIC]


def _in_place(name: str, value: gdb.Value) -> Operand:
    address = value.address
    if address is not None and plain(value.type).code in REFERENCES:
        address = address.address  # of the reference: as gdb's &(&reference)
    if address is None:
        raise NotCompiled(f"{name} is not in memory")
    return at(value.type, number(int(address)))


# Members.


def member(operand: Operand, name: str) -> Operand:
    """``operand.name``, of a struct in memory.  Raises NotCompiled, gdb.error."""
    if operand.code not in STRUCTS or operand.address is None:
        raise NotCompiled(f"a member of a value of type {operand.type}")
    _not_more_than_declared(operand.type)
    found = _members(operand.type, name)
    if not found:
        raise NotCompiled(f"{operand.type} has no plain member {name}")
    if len(found) > 1:
        raise NotCompiled(f"{operand.type} has several members {name}")
    field, start = found[0]
    if not hasattr(field, "bitpos"):
        value = gdb.parse_and_eval(f"{operand.type.name}::{name}")
        return _in_place(name, value)
    first, bits = start // 8, None
    if field.bitsize:
        bits = start % 8, int(field.bitsize)
        if sum(bits) > 64:
            raise NotCompiled(f"{name} is a bit-field in nine bytes")
    return at(
        field.type,
        folded(tree.Binary("+", operand.address, tree.Number(first, UNSIGNED_LONG))),
        bits,
    )


def _not_more_than_declared(kind: gdb.Type) -> None:
    """``set print object on`` has gdb look for what an object really is (`value_full_object`)."""
    if gdb.parameter("print object") and any(
        (field.name or "").startswith("_vptr") for field in kind.fields()
    ):
        raise NotCompiled("print object is on, so its type is known at run time only")


def _members(kind: gdb.Type, name: str) -> list[tuple[gdb.Field, int]]:
    """The members of that name with their first bits: its own and those of unnamed members; where
    there is none, those of its base classes (`value_struct_elt`)."""
    found = []
    bases = []
    for field in kind.fields():
        if field.is_base_class:
            bases.append(field)
        elif field.name == name:
            found.append((field, field.bitpos if hasattr(field, "bitpos") else 0))
        elif not field.name and hasattr(field, "bitpos") and plain(field.type).code in STRUCTS:
            inner = _members(plain(field.type), name)
            found += [(one, field.bitpos + start) for one, start in inner]
    if found:
        return found
    for field in bases:
        inner = _members(plain(field.type), name)
        if inner and all(hasattr(one, "bitpos") for one, _ in inner):
            offset = 8 * _distance(kind, field)
            inner = [(one, offset + start) for one, start in inner]
        found += inner
    return found


def not_between_classes(before: gdb.Type, after: gdb.Type) -> None:
    """gdb moves a pointer to a class where it is cast to one to its base (`value_cast_structs`)."""
    kinds = [plain(pointer.target()) for pointer in (before, after)]
    if kinds[0] == kinds[1] or any(kind.code not in STRUCTS for kind in kinds):
        return
    if any(field.is_base_class for kind in kinds for field in kind.fields()):
        raise NotCompiled("a cast between classes")


def _distance(kind: gdb.Type, base: gdb.Field) -> int:
    """Where a base class begins; of a virtual one, each object says it."""
    whole = gdb.Value(_SOMEWHERE).cast(kind.pointer()).dereference()
    try:
        return int(whole[base].address) - _SOMEWHERE
    except (gdb.error, TypeError):
        raise NotCompiled(f"{base.type} is a virtual base class") from None


# Registers, and what gdb has under a $.


def special(token: str, table: bool) -> Operand:
    """A register, ``$_thread`` and the like.  Raises NotCompiled.

    ``table``: the program is given a table of gdb's threads
    """
    name = token[1:]
    if name in _THREADS:
        place = _THREADS.index(name)
        kind = plain(gdb.parse_and_eval(token).type)
        return Operand(kind, tree.ThreadNumber(place + 1) if table else _of_thread(token, place))
    if re.match(r"_(siginfo|tlb)?$|__|\d*$", name):
        raise NotCompiled(f"{token} is gdb's own")
    place = _register(name)
    if place is None:
        if gdb.convenience_variable(name) is not None or name[:1] == "_":
            raise NotCompiled(f"{token} is a variable of gdb's, which may change")
        value = gdb.parse_and_eval(token)
        if value.type.code == gdb.TYPE_CODE_VOID:
            raise NotCompiled(f"{token} is a variable of gdb's, which may change")
        raise NotCompiled(f"{token} is not known to the kernel at a hit")
    register, start, size = place
    kind = plain(gdb.parse_and_eval(token).type)
    known = kind_of(kind)
    if known.size != size:
        raise NotCompiled(f"{token} has not the size of a register")
    if start:
        whole = tree.CpuRegister(register, UNSIGNED_LONG)
        return Operand(kind, tree.Bits(whole, start, 8 * size, known))
    return Operand(kind, tree.CpuRegister(register, known))


def _register(name: str) -> tuple[str, int, int] | None:
    """By gdb's name: the register in PT_REGS, the first bit, the size in bytes."""
    if name in _SAME:
        return _SAME[name], 0, 8 if _SAME[name][0] == "r" else 4
    if name in PT_REGS:
        return (name, 0, 8) if name[0] == "r" else None
    found = re.fullmatch(r"(r\d+)([dwl])", name)
    if found and found.group(1) in PT_REGS:
        return found.group(1), 0, {"d": 4, "w": 2, "l": 1}[found.group(2)]
    if name[:1] == "e" and f"r{name[1:]}" in PT_REGS:
        return f"r{name[1:]}", 0, 4
    if f"r{name}" in PT_REGS:
        return f"r{name}", 0, 2
    if re.fullmatch(r"[abcd][lh]", name):
        return f"r{name[0]}x", 8 if name[1] == "h" else 0, 1
    if name[-1:] == "l" and f"r{name[:-1]}" in PT_REGS and len(name) == 3:
        return f"r{name[:-1]}", 0, 1
    return None


def numbers_of(thread: gdb.InferiorThread) -> tuple[int, int, int]:
    """What $_thread, $_gthread and $_inferior are for it."""
    return thread.num, thread.global_num, thread.inferior.num


def _of_thread(token: str, place: int) -> Node:
    """A number that gdb has for the thread; of one that is not there yet, gdb must be asked."""
    threads = gdb.selected_inferior().threads()
    if len(threads) > _MOST_THREADS:
        raise NotCompiled(f"{token} with more than {_MOST_THREADS} threads")
    node: Node = tree.Unknown()
    for thread in threads:
        is_this = tree.Compare("==", tree.ThreadId(), tree.Number(thread.ptid[1], INT))
        node = tree.Choose(is_this, tree.Number(numbers_of(thread)[place], INT), node)
    return node
