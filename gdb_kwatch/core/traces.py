"""What was recorded of accesses: records of a trace, rows of ``kwatch who``, and sums over them.

Records stay as the kernel wrote them, bytes in chunks, until somebody looks: a million take some
60 MB.  Sums are made column by column.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from .bpf import PT_REGS
from .filters import (
    HEAD,
    KERNEL,
    KERNEL_KEY,
    SYSTEM_CALL,
    TOP_WORDS,
    UNREAD,
    RecordLayout,
    RowLayout,
)

HEADER = 8  # of the ring, before each record
NO_VALUE = 1 << 10  # in a record's info: nothing is known of the value (a perf ring alone)


class Record(NamedTuple):
    """One access.  ``ip`` is the address after the instruction; where the kernel made it, the
    address after the system call."""

    time: int  # ns of CLOCK_MONOTONIC
    process: int
    thread: int  # the LWP
    ip: int
    source: int  # which of the traced expressions
    kernel: bool
    system_call: int | None
    old: bytes | None
    new: bytes | None
    stack: tuple[int, ...]
    top: tuple[int, ...] = ()  # of the user's stack, where the kernel made it

    @property
    def changed(self) -> bool:
        return self.old != self.new


class Store:
    """The records of one trace: at most ``limit``, the oldest forgotten first; with ``spill``,
    all of them, in that file; with ``most``, the first so many alone."""

    def __init__(
        self, layout: RecordLayout, limit: int, spill: BinaryIO | None = None, most: int = 0
    ) -> None:
        self.layout = layout
        self.limit = limit
        self.step = HEADER + layout.size
        self.count = 0  # ever added
        self.forgotten = 0
        self.most = most
        self._cut = 0  # of the first chunk's records, those that are forgotten
        self.spill = spill
        self._chunks: deque[bytes] = deque()
        self._words = self.step // 8
        self._record = struct.Struct(
            f"<{HEADER}xQQQQ{layout.value}s{layout.value}s{layout.frames + layout.top}Q"
        )

    def __len__(self) -> int:
        return self.count - self.forgotten

    def add(self, data: bytes) -> None:
        """Whole records, ring headers included."""
        if self.most:
            data = data[: (self.most - self.count) * self.step]
        if not data:
            return
        self.count += len(data) // self.step
        if self.spill is not None:
            self.spill.write(data)
            return
        self._chunks.append(data)
        while (over := len(self) - self.limit) > 0:
            there = len(self._chunks[0]) // self.step - self._cut
            if there <= over:
                self._chunks.popleft()
                self._cut = 0
            else:
                self._cut += over
            self.forgotten += min(there, over)

    def pack(
        self,
        time: int,
        process: int,
        thread: int,
        ip: int,
        info: int,
        old: bytes = b"",
        new: bytes = b"",
        stack: tuple[int, ...] = (),
    ) -> bytes:
        """A record as the kernel would have written it."""
        frames = (*stack, *[0] * self.layout.frames)[: self.layout.frames]
        frames += (0,) * self.layout.top
        return self._record.pack(time, process << 32 | thread, ip, info, old, new, *frames)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the records, in the order in which they came."""
        if self.spill is None:
            for n, chunk in enumerate(list(self._chunks)):
                yield chunk if n else chunk[self._cut * self.step :]
            return
        self.spill.flush()
        with open(self.spill.name, "rb") as file:
            while data := file.read(self.step * 4096):
                yield data

    def records(self) -> Iterator[Record]:
        for chunk in self.chunks():
            for row in self._record.iter_unpack(chunk):
                yield _record(row, self.layout.frames)

    def column(self, offset: int) -> Iterator[list[int]]:
        """One word of each record, a list for each chunk."""
        first = (HEADER + offset) // 8
        for chunk in self.chunks():
            yield memoryview(chunk).cast("Q")[first :: self._words].tolist()

    def counter(self, offset: int) -> Counter[int]:
        """How often each value of a word occurs."""
        found: Counter[int] = Counter()
        for column in self.column(offset):
            found.update(column)
        return found

    def span(self) -> tuple[int, int]:
        """The times of the first and the last record."""
        first, last = 0, 0
        for column in self.column(RecordLayout.TIME):
            first = min(column[0], first) if first else column[0]
            last = max(last, column[-1])
        return first, last

    def over_time(self, buckets: int) -> list[int]:
        """How many records fall into each of so many equal parts of the span."""
        first, last = self.span()
        width = max((last - first) // buckets + 1, 1)
        found = [0] * buckets
        for column in self.column(RecordLayout.TIME):
            for bucket, count in Counter([(time - first) // width for time in column]).items():
                found[min(max(bucket, 0), buckets - 1)] += count
        return found

    def close(self) -> None:
        if self.spill is not None:
            self.spill.close()


def _record(row: tuple[int, ...], frames: int) -> Record:
    time, thread, ip, info, old, new, *words = row
    stack, top = words[:frames], words[frames:]
    known = not info & (UNREAD | NO_VALUE)
    return Record(
        time,
        thread >> 32,
        thread & 0xFFFFFFFF,
        ip,
        info & 0xFF,
        bool(info & KERNEL),
        info >> SYSTEM_CALL if info & KERNEL else None,
        old if known else None,  # type: ignore[arg-type]
        new if known else None,  # type: ignore[arg-type]
        tuple(frame for frame in stack if frame),
        tuple(top),
    )


@dataclass
class Accessor:
    """One instruction that touched the watched place."""

    ip: int
    kernel: bool
    hits: int = 0
    changes: int = 0
    threads: Counter[int] = field(default_factory=Counter)
    first_time: int = 0
    last_time: int = 0
    last_thread: int = 0
    first_old: bytes = b""
    first_new: bytes = b""
    last_old: bytes = b""
    last_new: bytes = b""
    registers: dict[str, int] = field(default_factory=dict)
    stack: tuple[int, ...] = ()
    top: tuple[int, ...] = ()

    def add(self, later: Accessor) -> None:
        """Another row of the same instruction; its first hit came after this one's."""
        self.hits += later.hits
        self.changes += later.changes
        self.threads.update(later.threads)
        if later.last_time >= self.last_time:
            self.last_time, self.last_thread = later.last_time, later.last_thread
            self.last_old, self.last_new = later.last_old, later.last_new
            self.registers = later.registers


def accessors(data: bytes, layout: RowLayout, size: int) -> list[Accessor]:
    """The rows that a `filters.counting` program keeps in its memory, by first time."""

    def word(at: int) -> int:
        return int(struct.unpack_from("<Q", data, at)[0])

    found: dict[int, Accessor] = {}
    for at in range(HEAD, layout.thread_table, layout.row):
        key = word(at + layout.KEY)
        if not key:
            continue
        registers = struct.unpack_from(f"<{len(PT_REGS)}Q", data, at + layout.REGISTERS)
        stack = struct.unpack_from(f"<{layout.frames}Q", data, at + layout.stack)
        first_old, first_new, last_old, last_new = (
            data[at + place : at + place + size]
            for place in (layout.FIRST_OLD, layout.first_new, layout.last_old, layout.last_new)
        )
        kernel = bool(key & KERNEL_KEY)
        found[key & 0xFFFFFFFF] = Accessor(
            word(at + layout.IP) if kernel else key,
            kernel,
            word(at + layout.HITS),
            word(at + layout.CHANGES),
            Counter(),
            word(at + layout.FIRST_TIME),
            word(at + layout.LAST_TIME),
            word(at + layout.LAST_THREAD) & 0xFFFFFFFF,
            first_old,
            first_new,
            last_old,
            last_new,
            {} if kernel else dict(zip(PT_REGS, registers)),
            tuple(frame for frame in stack if frame),
            struct.unpack_from(f"<{TOP_WORDS}Q", data, at + layout.TOP) if kernel else (),
        )
    for at in range(layout.thread_table, layout.size, 16):
        pair, hits = struct.unpack_from("<QQ", data, at)
        row = found.get(pair >> 32)
        if pair and row is not None:
            row.threads[pair & 0xFFFFFFFF] += hits
    return sorted(found.values(), key=lambda row: row.first_time)


class Folded(NamedTuple):
    """Changes that follow each other and are alike but for time: one row of a history."""

    time: int
    thread: int
    where: str
    old: str
    new: str
    times: int


def folded(changes: Iterator[tuple[int, int, str, str, str]]) -> list[Folded]:
    """Repeats of one place by one thread as one: from the first old value to the last new one."""
    rows: list[Folded] = []
    for time, thread, where, old, new in changes:
        last = rows[-1] if rows else None
        if last is not None and (last.thread, last.where) == (thread, where) and last.new == old:
            rows[-1] = last._replace(new=new, times=last.times + 1)
        else:
            rows.append(Folded(time, thread, where, old, new, 1))
    return rows


_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.:-=+*#"


def sparkline(counts: list[int], ascii_only: bool = False) -> str:
    """Counts as one line of blocks."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    most = max(counts, default=0) or 1
    return "".join(
        blocks[min(count * len(blocks) // most, len(blocks) - 1)] if count else " "
        for count in counts
    )


def bar(count: int, most: int, width: int, ascii_only: bool = False) -> str:
    length = round(count * width / most) if most else 0
    return ("#" if ascii_only else "█") * max(length, 1 if count else 0)
