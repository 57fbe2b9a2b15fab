"""Inside gdb: random conditions, tested by the kernel at a real write, and by gdb after it.

Started by test_kernel_conditions.py with CASES and SEED set.  Prints one line for each difference
and a last one with the counts.
"""

from __future__ import annotations

import random
import struct

import gdb

from gdb_kwatch.core.filters import Source
from gdb_kwatch.inferior import kernel_conditions
from gdb_kwatch.inferior.compiling import compiled
from gdb_kwatch.inferior.targets import target_of
from gdb_kwatch.linux.perf_event import Event, Request

# name, size, the number that `which` has for it; None: it is not written
WATCHED = (
    ("i8", 1), ("u8", 1), ("i16", 2), ("u16", 2), ("i32", 4), ("u32", 4), ("i64", 8), ("u64", 8),
    ("flag", 1), ("color", 4), ("sign", 4), ("pointer", 8), ("s.b", 2), ("array[2]", 4),
)  # fmt: skip
WORDS = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "color", "sign", "letter"]
MORE = ["s.a", "s.b", "s.c[1]", "s.d", "to_s->a", "to_s->c[2]", "array[1]", "*pointer", "flag"]
MORE += ["array[u8 & 3]", "pointer[1]", "*null", "GREEN", "MINUS", "sizeof (long)", "*(&s.a)"]
MORE += ["(int) ($rdi & 255)", "$_thread"]
SMALL = ["i8", "u8", "i16", "u16", "i32", "s.a", "s.b", "letter", "color", "sign"]
TYPES = ["char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long"]
TYPES += ["unsigned long", "signed char", "enum color", "_Bool"]
EDGES = [0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1]
EDGES += [2**32, 2**63 - 1, -1, -2, -128, -129, -(2**15), -(2**31), -(2**31) - 1]


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
        if kind < 0.8:
            return self.random.choice(MORE)
        return self.literal()

    def number(self, watched: str, depth: int) -> str:
        if depth == 0 or self.random.random() < 0.15:
            return self.leaf(watched)
        kind = self.random.random()
        one = self.number(watched, depth - 1)
        if kind < 0.12:
            return self.random.choice("-~+") + f"({one})"
        if kind < 0.27:
            return f"({self.random.choice(TYPES)}) ({one})"
        if kind < 0.4:
            return self.division(one)
        if kind < 0.5:
            count = self.random.choice([f"({self.leaf(watched)} & 63)", self.leaf(watched)])
            return f"(({one}) {self.random.choice(['<<', '>>'])} {count})"
        if kind < 0.56:
            return f"({self.truth(watched, depth - 1)} ? {one} : {one})"
        other = self.number(watched, depth - 1)
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
        if kind < 0.75:
            return f"((pointer - array) % 5 == {self.random.randrange(5)})"
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

    def fill(self) -> None:
        """New values everywhere."""
        for name, size in (*WATCHED, ("letter", 1), ("s.a", 4), ("s.d", 1), ("other_flag", 1)):
            self.put(name, self.fitting(name, size))
        for n in range(3):
            self.put(f"s.c[{n}]", self.maker.value(8))
        for n in range(4):
            self.put(f"array[{n}]", self.maker.value(4))

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
            self.space[name] = int(gdb.parse_and_eval(f"(long) &({name})"))
        return self.space[name]

    def run(self, number: int, seen: dict[str, int]) -> str:
        """The difference, or an empty string."""
        index = self.maker.random.randrange(len(WATCHED))
        name, size = WATCHED[index]
        self.fill()
        condition = self.maker.truth(name, self.maker.random.randrange(1, 4))
        target = target_of(name, "write")
        node, reason = compiled(condition, target)
        if node is None:
            seen["not compiled"] += 1
            seen.setdefault(reason, 0)
            seen[reason] += 1
            return ""
        old = target.now()
        new = self.fitting(name, size)
        self.put("which", struct.pack("<i", index))
        self.put("next", new.ljust(8, b"\0"))
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
            kernel = {0: "true", 1: "Division", 2: "memory"}.get(stops[0].reason, "?")
        by_gdb = self.ask_gdb(condition, gdb.Value(old, target.type), gdb.Value(new, target.type))
        seen[by_gdb] = seen.get(by_gdb, 0) + 1
        errors = ("Division", "memory")  # which of two comes first is gdb's laziness
        if kernel == by_gdb or (kernel in errors and by_gdb in errors):
            return ""
        return f"case {number}: {name} {old.hex()} -> {new.hex()}, {condition}: {kernel}, {by_gdb}"

    def ask_gdb(self, condition: str, old: gdb.Value, new: gdb.Value) -> str:
        gdb.set_convenience_variable("old", old)
        gdb.set_convenience_variable("new", new)
        try:
            return "true" if gdb.parse_and_eval(condition) else "false"
        except gdb.MemoryError:
            return "memory"
        except gdb.error as error:
            return "Division" if "zero" in str(error) else str(error)


def main(cases: int, seed: int) -> None:
    case = Case(Maker(seed), {})
    seen: dict[str, int] = {"not compiled": 0}
    differences = done = 0
    while done < cases:
        before = seen["not compiled"]
        text = case.run(done, seen)
        done += seen["not compiled"] == before
        if text:
            differences += 1
            print(text)
    print(f"cases {done} differences {differences} {seen}")


main(CASES, SEED)  # noqa: F821 - set by who sources this
