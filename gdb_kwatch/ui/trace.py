"""``kwatch trace``: record accesses at full speed; sums, records and files of them."""

from __future__ import annotations

import locale
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import gdb

from gdb_kwatch.core import filters
from gdb_kwatch.core.access_words import TRACE, AccessRequest, parse, told
from gdb_kwatch.core.exports import SUFFIXES, Row, UnknownSuffix, writer
from gdb_kwatch.core.filters import RecordLayout
from gdb_kwatch.core.grammar import UsageError
from gdb_kwatch.core.traces import Store, bar, sparkline
from gdb_kwatch.inferior.access_conditions import AccessCondition
from gdb_kwatch.inferior.recording import NAME, ByStops, Trace, recorder
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.symbols import where
from gdb_kwatch.inferior.targets import Target, check_slots, target_of

from . import style
from .report import count_of
from .tables import folded, table

_MOST_ROWS = 12
_BAR = 24
_SHOWN = 50


class Tracing:
    """The command's work, and the trace that there is."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.trace: Trace | None = None
        session.parts.append(self)
        self.words: dict[str, Callable[[list[str]], None]] = {
            "summary": self.summary,
            "show": self.show,
            "export": self.export,
            "stop": self.stop,
        }

    # A part of the session (`handlers.Part`): ``kwatch off`` ends a trace.

    def connect(self) -> None:
        pass

    def disconnect(self) -> None:
        if self.trace is not None and not self.trace.ended:
            self.trace.end("kwatch off")

    def invoke(self, argument: str, from_tty: bool = False) -> None:
        first, _, rest = argument.strip().partition(" ")
        if not first:
            gdb.write(self.state(self.needed()))
        elif first in self.words:
            self.words[first](gdb.string_to_argv(rest))
        else:
            self.begin(argument, from_tty)

    def needed(self) -> Trace:
        """The trace, with all that there is by now."""
        if self.trace is None:
            raise gdb.GdbError("There is no trace: 'kwatch trace EXPRESSION' begins one.")
        self.trace.drain()
        return self.trace

    def alone(self, words: list[str], word: str) -> Trace:
        """The same, for a word that takes no others."""
        if words:
            raise gdb.GdbError(f"Usage: kwatch trace {word}")
        return self.needed()

    def begin(self, argument: str, from_tty: bool = False) -> None:
        try:
            request = parse(argument, TRACE, several=True)
            targets = [target_of(text, request.access) for text in request.expressions]
        except UsageError as error:
            raise gdb.GdbError(str(error)) from None
        except gdb.GdbError as error:
            raise gdb.GdbError(told(str(error), argument, TRACE)) from None
        self._forget(from_tty)
        trace = self.start(request, targets)
        names = ", ".join(target.expression for target in targets)
        gdb.write(f"Tracing {names}: {trace.recorder.label}.\n")
        if trace.recorder.missing:
            gdb.write(f"({trace.recorder.missing})\n")
        gdb.write("'continue' runs the program; 'kwatch trace summary' shows what was seen.\n")

    def _forget(self, from_tty: bool) -> None:
        """There is one trace: say that a new one takes the records of the old one with it."""
        if self.trace is None or self.trace.store.spill is not None:
            return
        self.trace.drain()
        count = len(self.trace.store)
        if not count:
            return
        names = ", ".join(target.expression for target in self.trace.targets)
        what = f"the trace of {names} with {count_of(count, 'record')}"
        if not asked(f"Forget {what} ('kwatch trace export FILE' keeps it)? ", from_tty):
            raise gdb.GdbError("Not confirmed.")
        gdb.write(f"Forgetting {what}.\n")

    def start(self, request: AccessRequest, targets: list[Target]) -> Trace:
        """A new trace in the place of the one there is.  Raises gdb.GdbError."""
        check_slots(self.session, targets, NAME, instead_of=NAME)
        conditions = [AccessCondition(request.condition, target) for target in targets]
        size = max(target.region.length for target in targets)
        layout = RecordLayout(
            min(-(-size // 8) * 8, filters.VALUE_MOST),
            request.frames,
            filters.TOP_WORDS if request.kernel else 0,
        )
        spill = None
        if request.spill:
            try:
                spill = open(os.path.expanduser(request.spill), "w+b")  # noqa: SIM115
            except OSError as error:
                raise gdb.GdbError(f"{request.spill}: {error.strerror}") from None
        limit = max(int(gdb.parameter("kwatch trace-limit")), 1)
        store = Store(layout, limit, spill, request.count)
        if self.trace is not None:
            self.trace.end("another was begun")  # its slots are free
        try:
            recording = recorder(self.session, targets, request, conditions, layout)
        except BaseException:
            store.close()
            raise
        if self.trace is not None:
            self.trace.close()
        self.trace = Trace(self.session, targets, request, conditions, store, recording, progress)
        self.session.at_prompt()  # which sees what slots are left; a script has no prompt
        return self.trace

    def stop(self, words: list[str]) -> None:
        trace = self.alone(words, "stop")
        if not trace.ended:
            trace.end("stopped")
            self.session.at_prompt()
        gdb.write(self.state(trace))

    # What was recorded.

    def state(self, trace: Trace) -> str:
        names = ", ".join(target.expression for target in trace.targets)
        taken, lost = trace.recorder.taken(), trace.recorder.lost()
        hits = trace.recorder.hits()
        text = f"Trace of {names}: {hits:,} hit{'s' * (hits != 1)}, {len(trace.store):,} recorded"
        filtered = bool(trace.request.only or trace.request.without or trace.request.condition)
        if filtered or trace.request.count:
            text += f" ({max(hits - taken, 0):,} left out)"
        text += f", lost {lost:,}"
        if trace.store.forgotten:
            text += f", {trace.store.forgotten:,} forgotten (set kwatch trace-limit)"
        seconds = trace.seconds()
        text += f"; {seconds:.2f} s"
        if isinstance(trace.recorder, ByStops) and hits:
            text += f", slow{trace.recorder.timed.cost}"
        state = f"ended: {trace.ended}" if trace.ended else trace.recorder.label
        text += f" ({state})\n"
        if trace.recorder.missing:
            text += f"({trace.recorder.missing})\n"
        return text + trace.untested()

    def summary(self, words: list[str]) -> None:
        trace = self.alone(words, "summary")
        gdb.write(self.state(trace))
        total = len(trace.store)
        if not total:
            return
        lines: Counter[str] = Counter()
        functions: Counter[str] = Counter()
        for (ip, info, *top), count in self._places(trace).items():
            kernel = bool(info & filters.KERNEL)
            ip = trace.symbols[info & 0xFF].caller(ip, kernel, top, ())
            access = trace.symbols[info & 0xFF].access(ip, kernel)
            suffix = " (kernel)" if kernel else ""
            lines[where(access, ip) + suffix] += count
            functions[(access.function or access.symbol or hex(ip)) + suffix] += count
        threads: Counter[str] = Counter()
        for word, count in trace.store.counter(RecordLayout.THREAD).items():
            threads[trace.numbers.text(word & 0xFFFFFFFF)] += count
        self._bars("Source line", lines, total)
        self._bars("Function", functions, total)
        self._bars("Thread", threads, total)
        values = self._values(trace)
        if values:
            self._bars("Value", values, total)
        self._over_time(trace)

    def _places(self, trace: Trace) -> Counter[tuple[int, ...]]:
        """How often each pair of an instruction and flags occurs; with the top of the stack where
        the kernel was called."""
        found: Counter[tuple[int, ...]] = Counter()
        store, layout = trace.store, trace.store.layout
        words = [store.column(layout.top_words + 8 * word) for word in range(layout.top)]
        for ips, infos, *top in zip(
            store.column(RecordLayout.IP), store.column(RecordLayout.INFO), *words
        ):
            found.update(zip(ips, (info & 0xFFFF for info in infos), *top))
        return found

    def _values(self, trace: Trace) -> Counter[str]:
        """New values of one place that fits into a word."""
        target = trace.targets[0]
        layout = trace.store.layout
        if len(trace.targets) > 1 or layout.value != 8 or "no values" in trace.recorder.missing:
            return Counter()
        found: Counter[str] = Counter()
        for word, count in trace.store.counter(layout.new).most_common(_MOST_ROWS + 1):
            found[target.text(word.to_bytes(8, "little")[: target.region.length])] += count
        return found

    def _bars(self, title: str, counts: Counter[str], total: int) -> None:
        most = max(counts.values())
        rows = [
            [
                name,
                f"{count:,}",
                f"{count * 100 / total:.1f}%",
                bar(count, most, _BAR, ascii_only()),
            ]
            for name, count in counts.most_common(_MOST_ROWS)
        ]
        rest = total - sum(count for _, count in counts.most_common(_MOST_ROWS))
        if rest > 0:
            rows.append(["others", f"{rest:,}", f"{rest * 100 / total:.1f}%", ""])
        gdb.write("\n" + table([style.styled(title, "title"), "Hits", "", ""], rows) + "\n")

    def _over_time(self, trace: Trace) -> None:
        width = int(gdb.parameter("width") or 80)
        buckets = max(min(width - 20, 60), 10)
        counts = trace.store.over_time(buckets)
        first, last = trace.store.span()
        span = (last - first) / 1e9
        peak = max(counts) * buckets / span if span else 0
        gdb.write(f"\nOver time ({span:.3f} s, peak {peak:,.0f} hits/s)\n")
        gdb.write(sparkline(counts, ascii_only()) + "\n")

    def show(self, words: list[str]) -> None:
        trace = self.needed()
        count, wanted = _SHOWN, dict.fromkeys(("-thread", "-line", "-function"), "")
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "-n" and rest and rest[0].isdigit():
                count = min(int(rest.pop(0)), sys.maxsize)
            elif word in wanted and rest:
                wanted[word] = rest.pop(0)
            else:
                raise gdb.GdbError(
                    "Usage: kwatch trace show [-n COUNT] [-thread N] [-line [FILE:]LINE] "
                    "[-function NAME]"
                )
        if wanted["-thread"] and not re.fullmatch(r"\d+", wanted["-thread"]):
            raise gdb.GdbError(f"Invalid thread ID: {wanted['-thread']}")
        if wanted["-line"] and not re.fullmatch(r"(.*:)?\d+", wanted["-line"]):
            raise gdb.GdbError(f"-line {wanted['-line']}: it takes LINE or FILE:LINE.")
        chosen = self._chosen(trace, wanted)
        start, _ = trace.store.span()
        columns = _columns(trace)
        rows = [[cell(row, start) for cell in columns.values()] for row in islice(chosen, count)]
        if not rows:
            gdb.write("No such records.\n")
            return
        gdb.write(folded(list(columns), rows, gdb.parameter("width")) + "\n")
        if next(chosen, None) is not None:
            gdb.write(f"There are more than these {count} (-n).\n")

    def _chosen(self, trace: Trace, wanted: dict[str, str]) -> Iterator[Row]:
        for row in trace.rows():
            if wanted["-thread"] and str(row.thread) != wanted["-thread"]:
                continue
            if wanted["-function"] and row.function != wanted["-function"]:
                continue
            if wanted["-line"] and wanted["-line"] not in (row.where, str(row.line)):
                continue
            yield row

    def export(self, words: list[str]) -> None:
        trace = self.needed()
        if len(words) != 1:
            raise gdb.GdbError(
                f"Usage: kwatch trace export FILE; its suffix is one of {', '.join(SUFFIXES)}"
            )
        path = os.path.expanduser(words[0])
        count = self.write(trace, path)
        gdb.write(f"{count:,} record{'s' * (count != 1)} written to {path}.\n")

    def write(self, trace: Trace, path: str) -> int:
        """The records into a file; how many.  Raises gdb.GdbError."""
        try:
            export = writer(path)  # before the file is opened: it may be one that is dear
            with open(path, "w", encoding="utf-8", newline="") as file:
                return export(file, trace.rows())
        except UnknownSuffix as error:
            raise gdb.GdbError(str(error)) from None
        except OSError as error:
            raise gdb.GdbError(f"{path}: {error.strerror}") from None


def _columns(trace: Trace) -> dict[str, Callable[[Row, int], str]]:
    """What is shown of a record: heading, and text from it and the time of the first one."""
    columns: dict[str, Callable[[Row, int], str]] = {
        "ms": lambda row, start: f"{(row.time - start) / 1e6:.3f}",
        "Thread": lambda row, _: str(row.thread) if row.thread is not None else f"LWP {row.lwp}",
        "Where": lambda row, _: row.where,
        "Function": lambda row, _: row.function or "",
        "Access": lambda row, _: row.access,
        "What": lambda row, _: row.expression + (" (kernel)" if row.origin == "kernel" else ""),
        "Old": lambda row, _: row.old or "",
        "New": _new_value,
        "Callers": lambda row, _: " < ".join(row.stack[1:]),
    }
    if trace.request.access == "write":
        del columns["Access"]
    if not trace.request.frames:
        del columns["Callers"]
    return columns


def _new_value(row: Row, _: int) -> str:
    return "same" if row.new is not None and row.new == row.old else row.new or ""


def asked(question: str, from_tty: bool) -> bool:
    """gdb's `query`: yes where nobody can be asked, or ``confirm`` is off."""
    if not (from_tty and gdb.parameter("confirm") and os.isatty(0)):
        return True
    while True:
        try:
            answer = input(f"{question}(y or n) ").strip().lower()
        except EOFError:
            return True
        if answer[:1] in ("y", "n"):
            return answer[0] == "y"
        gdb.write("Please answer y or n.\n")


def ascii_only() -> bool:
    """Whether the terminal's character set has no blocks."""
    return "utf" not in locale.getpreferredencoding(False).lower()


def progress(trace: Trace) -> None:
    """One line, redrawn, where a terminal is there.  Called by a thread: nothing of gdb's."""
    if not style.terminal():
        return
    hits, seconds = trace.recorder.taken(), trace.seconds()
    text = (
        f"\r\033[Kkwatch trace: {hits:,} hits, {hits / seconds if seconds else 0:,.0f}/s, "
        f"lost {trace.recorder.lost():,}, {seconds:.1f} s\r"
    )
    os.write(1, text.encode())
