"""Inside gdb: random conditions, tested by the kernel at a real write, and by gdb after it.

Started by test_kernel_conditions.py with CASES and SEED set.  Prints one line for each difference,
what the conditions had in them, and a last line with the counts.
"""

from __future__ import annotations

import random
import re
import struct
from collections import Counter

import gdb

from gdb_kwatch.core import conditions as tree
from gdb_kwatch.core.condition_values import Access, Failed
from gdb_kwatch.core.condition_values import value_of as worked_out
from gdb_kwatch.core.filters import Source
from gdb_kwatch.inferior import kernel_conditions
from gdb_kwatch.inferior.compiling import compiled
from gdb_kwatch.inferior.lvalues import of_bits
from gdb_kwatch.inferior.operands import numbers_of
from gdb_kwatch.inferior.targets import Target, target_of
from gdb_kwatch.linux import registers
from gdb_kwatch.linux.perf_event import Event, Request

# What is written, by the number that `which` has for it, and its size.
WATCHED = (
    ("i8", 1), ("u8", 1), ("i16", 2), ("u16", 2), ("i32", 4), ("u32", 4), ("i64", 8), ("u64", 8),
    ("flag", 1), ("color", 4), ("sign", 4), ("pointer", 8), ("s.b", 2), ("array[2]", 4),
    ("bits.low", 1), ("bits.mid", 1), ("u.h[1]", 2), ("node.next->v", 4),
)  # fmt: skip
OTHERS = (("letter", 1), ("s.a", 4), ("s.d", 1), ("other_flag", 1), ("u.i", 4), ("bits", 8))
WORDS = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "color", "sign", "letter"]
MORE = ["s.a", "s.b", "s.c[1]", "s.d", "to_s->a", "to_s->c[2]", "array[1]", "*pointer", "flag"]
MORE += ["array[u8 & 3]", "pointer[1]", "GREEN", "MINUS", "sizeof (long)", "*(&s.a)"]
MORE += ["(int) ($rdi & 255)", "$_thread", "$_inferior", "other_flag", "(&s)->b", "sizeof u"]
MORE += ["bits.low", "bits.mid", "to_bits->wide", "bits.on", "bits.s", "u.b[1]", "u.i", "u.h[0]"]
MORE += ["node.next->v", "(*node.next->next).v", "matrix[1][u8 & 3]", "both[u8 & 1].c[1]"]
MORE += ["{short} &i32", "*(unsigned char *) &i64", "(long) pointer", "(char) array", "'\\n'"]
MORE += ["(flag ? s : both[1]).b", "*(flag ? &i32 : array)"]
RARE = ["*null", "node.next->next->next->v", "to_s[1 << 28].a", "*(long *) i64"]
SMALL = ["i8", "u8", "i16", "u16", "i32", "s.a", "s.b", "letter", "color", "sign", "bits.mid"]
TYPES = ["char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long"]
TYPES += ["unsigned long", "signed char", "enum color", "enum sign", "_Bool"]
EDGES = [0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1]
EDGES += [2**32, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -128, -129, -257, -(2**15), -(2**31)]
EDGES += [-(2**31) - 1, -(2**32) - 1]


class Maker:
    """Makes conditions over the variables of fixtures/conditions.c."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def literal(self) -> str:
        value = abs(self.random.choice(EDGES))
        return self.random.choice([str(value), hex(value), f"{value}u", f"{value}L", "'a'"])

    def leaf(self, watched: str) -> str:
        kind = self.random.random()
        if kind < 0.3:
            return self.random.choice([watched, "$new", "$old"])
        if kind < 0.55:
            return self.random.choice(WORDS)
        if kind < 0.56:
            return self.random.choice(RARE)
        if kind < 0.82:
            return self.random.choice(MORE)
        return self.literal()

    def number(self, watched: str, depth: int) -> str:
        if depth == 0 or self.random.random() < 0.15:
            return self.leaf(watched)
        kind = self.random.random()
        one = self.number(watched, depth - 1)
        if kind < 0.12:
            return self.random.choice("-~+!") + f"({one})"
        if kind < 0.27:
            return f"({self.random.choice(TYPES)}) ({one})"
        if kind < 0.4:
            return self.division(one)
        if kind < 0.5:
            count = self.random.choice([f"({self.leaf(watched)} & 63)", self.leaf(watched)])
            return f"(({one}) {self.random.choice(['<<', '>>'])} {count})"
        if kind < 0.53:
            return f"({self.truth(watched, depth - 1)} ? {one} : {one})"
        other = self.number(watched, depth - 1)
        if kind < 0.59:
            return f"({self.truth(watched, depth - 1)} ? {one} : {other})"
        if kind < 0.62:
            return f"({other}, {one})"
        if kind < 0.66:
            return self.truth(watched, depth - 1)
        return f"({one} {self.random.choice('+-*&|^')} {other})"

    def division(self, left: str) -> str:
        """gdb 13 itself dies of the smallest long by -1: a long is divided by what is positive."""
        operator = self.random.choice("/%")
        if self.random.random() < 0.5:
            small = f"(int) ({left})"
            return f"({small} {operator} {self.random.choice(SMALL)})"
        return f"({left} {operator} ({self.leaf('u8')} & 0xff))"

    def truth(self, watched: str, depth: int) -> str:
        kind = self.random.random()
        if depth == 0 or kind < 0.5:
            comparison = self.random.choice(["==", "!=", "<", "<=", ">", ">="])
            left = self.number(watched, depth)
            right = self.number(watched, max(depth - 1, 0))
            return f"({left} {comparison} {right})"
        if kind < 0.6:
            return f"!({self.number(watched, depth - 1)})"
        if kind < 0.7:
            comparison = self.random.choice(["==", "<", ">="])
            return f"(pointer + {self.leaf('u8')} {comparison} &array[{self.random.randrange(4)}])"
        if kind < 0.73:
            return f"((pointer - array) % 5 == {self.random.randrange(5)})"
        if kind < 0.76:
            one = self.random.choice(["pointer", "null", "node.next", "to_s", "array", "&s.b"])
            other = self.random.choice(["0", "&array[1]", "(void *) 0", "pointer", "-1"])
            return f"({one} {self.random.choice(['==', '!=', '<', '>='])} {other})"
        operator = self.random.choice(["&&", "||"])
        return f"({self.truth(watched, depth - 1)} {operator} {self.truth(watched, depth - 1)})"

    def value(self, size: int) -> bytes:
        edge = self.random.choice([*EDGES, self.random.getrandbits(64), self.random.getrandbits(8)])
        return struct.pack("<Q", edge & (1 << 64) - 1)[:size]


class Case:
    def __init__(self, maker: Maker, space: dict[str, int]) -> None:
        self.maker = maker
        self.space = space
        self.memory = gdb.selected_inferior()
        self.had: Counter[str] = Counter()
        self.deepest = 0

    def fill(self) -> None:
        """New values everywhere."""
        for name, size in (*WATCHED, *OTHERS):
            self.put(name, self.fitting(name, size))
        for n in range(3):
            self.put(f"s.c[{n}]", self.maker.value(8))
        for n in range(4):
            self.put(f"array[{n}]", self.maker.value(4))
            self.put(f"matrix[1][{n}]", self.maker.value(2))

    def fitting(self, name: str, size: int) -> bytes:
        if name in ("flag", "other_flag"):
            return bytes([self.maker.random.randrange(2)])
        if name == "pointer":
            place = self.place("array[0]") + 4 * self.maker.random.randrange(4)
            return struct.pack("<Q", place if self.maker.random.random() < 0.9 else 8)
        return self.maker.value(size)

    def put(self, name: str, data: bytes) -> None:
        self.memory.write_memory(self.place(name), data)

    def place(self, name: str) -> int:
        if name not in self.space:
            whole = "bits" if name.startswith("bits.") else name
            self.space[name] = int(gdb.parse_and_eval(f"(long) &({whole})"))
        return self.space[name]

    def run(self, number: int, seen: dict[str, int]) -> str:
        """The difference, or an empty string."""
        random_ = self.maker.random
        index = random_.randrange(len(WATCHED))
        name, size = WATCHED[index]
        self.fill()
        condition = self.maker.truth(name, random_.choice([1, 2, 2, 3, 3, 4]))
        target = target_of(name, "write")
        node, reason = compiled(condition, target, afresh=random_.random() < 0.5)
        if node is None:
            seen["not compiled"] += 1
            reason = re.sub(r"type .*", "type", reason)
            seen[reason] = seen.get(reason, 0) + 1
            return ""
        old = target.now()
        self.put("which", struct.pack("<i", index))
        self.put("next", self.fitting(name, size).ljust(8, b"\0"))
        source = Source(target.region.address, size, condition=node)
        program = kernel_conditions.Loaded(source, old)
        lwp = gdb.selected_thread().ptid[1]
        event = Event(Request(target.region.address, size, 1, kernel=False), lwp)
        try:
            event.set_bpf(program.fd)
            gdb.execute("continue", to_string=True)
            if event.count() != 1:
                return f"case {number}: {event.count()} writes of {name}"
            stops = program.taken(lwp)
        finally:
            event.close()
            program.close()
        kernel = "false"
        if stops:
            kernel = {0: "true", 1: "Division", 2: "memory", 4: "asked"}.get(stops[0].reason, "?")
        new = target.now()
        if stops:
            # Where a page is not there yet, kwatch works it out.
            again = self.worked_out(node, stops[0].old, stops[0].new)
            if again != kernel:
                return f"case {number}: {condition}: {kernel}, worked out {again}"
        elif self.worked_out(node, old, new) != "false":
            return f"case {number}: {condition}: false, worked out otherwise"
        by_gdb = self.ask_gdb(condition, value_of(target, old), value_of(target, new))
        seen[by_gdb] = seen.get(by_gdb, 0) + 1
        self.look(node, name, 0)
        if kernel == "asked":  # where the kernel does not know, gdb decides
            self.had["left to gdb at the access"] += 1
            return ""
        errors = ("Division", "memory")  # which of two comes first is gdb's laziness
        if kernel == by_gdb or (kernel in errors and by_gdb in errors):
            return ""
        return f"case {number}: {name} {old.hex()} -> {new.hex()}, {condition}: {kernel}, {by_gdb}"

    def worked_out(self, node: tree.Node, old: bytes, new: bytes) -> str:
        def read(address: int, length: int) -> bytes | None:
            try:
                return bytes(self.memory.read_memory(address, length))
            except (gdb.error, OverflowError):
                return None

        thread = gdb.selected_thread()
        lwp = thread.ptid[1]
        values = registers.read(lwp).values
        try:
            access = Access(old, new, read, values, lwp, numbers_of(thread))
            return "true" if worked_out(node, access) else "false"
        except Failed as failed:
            return {1: "Division", 2: "memory", 4: "asked"}[failed.reason]

    def ask_gdb(self, condition: str, old: gdb.Value, new: gdb.Value) -> str:
        gdb.set_convenience_variable("old", old)
        gdb.set_convenience_variable("new", new)
        try:
            return "true" if gdb.parse_and_eval(condition) else "false"
        except gdb.MemoryError:
            return "memory"
        except gdb.error as error:
            return "Division" if "zero" in str(error) else str(error)

    def look(self, node: tree.Node, name: str, depth: int) -> None:
        """Take down what a condition has in it."""
        self.deepest = max(self.deepest, depth)
        if not depth:
            self.had[f"watched {name}"] += 1
        sort = type(node).__name__
        if isinstance(node, (tree.Binary, tree.Compare, tree.Logic, tree.Unary)):
            sort = node.operator
        kind = f"{'signed' if node.kind.signed else 'unsigned'} {8 * node.kind.size}"
        if isinstance(node, (tree.Binary, tree.Unary)):
            self.had[f"{sort} {kind}"] += 1
        elif isinstance(node, tree.Compare):
            left = node.left.kind
            self.had[f"{sort} {'signed' if left.signed else 'unsigned'} {8 * left.size}"] += 1
        elif isinstance(node, (tree.Load, tree.Watched, tree.Bits, tree.Convert)):
            self.had[f"{sort} {kind}"] += 1
        else:
            self.had[sort] += 1
        for part in tree.parts(node):
            self.look(part, name, depth + 1)


def value_of(target: Target, data: bytes) -> gdb.Value:
    if target.bits is None:
        return gdb.Value(data, target.type)
    start, width = target.bits
    return of_bits(int.from_bytes(data, "little") >> start & (1 << width) - 1, width, target.type)


def main(cases: int, seed: int) -> None:
    case = Case(Maker(seed), {})
    seen: dict[str, int] = {"not compiled": 0}
    differences = done = 0
    while done < cases:
        if done % 100 == 0:
            gdb.execute(f"set language {('c', 'c++')[done // 100 % 2]}")
            TYPES[-1] = ("_Bool", "bool")[done // 100 % 2]
        before = seen["not compiled"]
        text = case.run(done, seen)
        done += seen["not compiled"] == before
        if text:
            differences += 1
            print(text)
    gdb.execute("set language auto")
    had = ", ".join(f"{name}: {count}" for name, count in sorted(case.had.items()))
    print(f"had {had}, deepest: {case.deepest}")
    print(f"cases {done} differences {differences} {seen}")


main(CASES, SEED)  # noqa: F821 - set by who sources this
