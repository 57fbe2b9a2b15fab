"""``gdb-kwatch who`` and ``gdb-kwatch trace``, the part inside gdb: attach, look, let go.

What is wanted comes as a line of JSON by one pipe, what happens goes as lines of JSON by another
(`gdb_kwatch.outside.attached` has the other ends).  Nobody may end this gdb by a signal while it
is attached: the debug registers would stay as they are, and the next hit would kill the program.
So it goes by itself, when the first pipe is closed or whoever holds it has died.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gdb

from gdb_kwatch.core.access_words import AccessRequest, condition_of
from gdb_kwatch.core.filters import KERNEL, RecordLayout
from gdb_kwatch.core.grammar import UsageError
from gdb_kwatch.inferior.attending import STOPPING, AttendedRun, Line
from gdb_kwatch.inferior.recording import Trace
from gdb_kwatch.inferior.targets import Target, target_of
from gdb_kwatch.linux import signals

from . import plugin
from .trace import Tracing
from .who import Who


def serve(wanted: int, answers: int) -> None:
    """The whole work of this gdb."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # who ends a whole group asks the other, too
        signal.signal(number, signal.SIG_IGN)
    text = _line(wanted)
    if text:
        Work(json.loads(text), Line(wanted), answers).do()


def _line(fd: int) -> str:
    """Up to the first newline; what follows stays in the pipe."""
    found = bytearray()
    while not found.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            return ""
        found += byte
    return found.decode()


class Work:
    """One process, looked at once."""

    def __init__(self, wanted: dict[str, Any], line: Line, answers: int) -> None:
        self.wanted = wanted
        self.line = line
        self.answers = answers
        session = plugin.session
        assert session is not None
        self.session = session
        self.stopped_by = ""  # the signal of somebody else that was to stop the process

    def tell(self, what: str, text: str = "") -> None:
        """Nobody may be there any more: then all ends soon, by the line."""
        data = json.dumps({"is": what, "text": text}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.answers, data) :]
        except OSError:
            pass

    def do(self) -> None:
        # Signals are the program's own business.  Those that would stop it end the look instead.
        gdb.execute("handle all nostop noprint pass", to_string=True)
        gdb.execute("handle SIGINT nostop noprint pass", to_string=True)
        gdb.execute(f"handle {' '.join(STOPPING)} stop print pass", to_string=True)
        gdb.execute(f"set width {self.wanted['width']}", to_string=True)
        _know_architecture(int(self.wanted["pid"]))
        try:
            gdb.execute(f"attach {int(self.wanted['pid'])}", to_string=True)
        except gdb.error as error:
            self.tell("not attached", str(error))
            return
        gdb.execute("set architecture auto", to_string=True)
        self.tell("attached")
        _leave_assembly()
        after: Callable[[], None] | None = None
        try:
            if not self.line.closed:
                if self.wanted["verb"] == "who":
                    self._who()
                else:
                    after = self._trace()
        except gdb.GdbError as error:
            self.tell("failed", str(error))
        except gdb.error as error:
            self.tell("failed", str(error))
        finally:
            if gdb.selected_inferior().pid:
                with suppress(gdb.error):  # it may have been killed just now
                    gdb.execute("detach", to_string=True)
                if self.stopped_by:
                    signals.stop_again(int(self.wanted["pid"]), self.stopped_by)
            self.tell("detached")
            self.line.close()
        if after is not None:
            try:
                after()
            except gdb.GdbError as error:
                self.tell("failed", str(error))
        self.tell("done")

    # What both do.

    def _request(self) -> tuple[AccessRequest, list[Target]]:
        wanted = self.wanted
        condition = wanted["condition"]
        expressions = []
        for text in wanted["expressions"]:
            try:
                expression, its_own = condition_of(text)
            except UsageError as error:
                raise gdb.GdbError(str(error)) from None
            if its_own and condition:
                raise gdb.GdbError("There is more than one condition.")
            condition = condition or its_own
            expressions.append(expression.strip())
        request = AccessRequest(
            tuple(expressions),
            "access" if wanted["reads"] else "write",
            wanted["kernel"],
            0,
            wanted["count"],
            wanted["frames"],
            tuple(wanted["only"]),
            tuple(wanted["without"]),
            condition,
            None,
            wanted["json"],
        )
        return request, [target_of(text, request.access) for text in expressions]

    @contextmanager
    def _run(self, done: Callable[[], bool] = lambda: False) -> Iterator[AttendedRun]:
        """A run; afterwards the program is as it was, and what happened to it is told."""

        def begins() -> None:
            self.tell("looking")

        run = AttendedRun(self.line, self.wanted["seconds"], begins, done)
        try:
            yield run
        finally:
            if run.exited:
                self.tell("note", f"The process has ended ({run.exited}).")
            elif run.stopped_by_others:
                self.stopped_by = run.stopped_by
                self.tell("note", f"The process was stopped by {run.stopped_by} from outside.")
            elif run.stopped_by not in ("", "SIGSTOP"):
                self.tell("note", f"The process was stopped by {run.stopped_by}.")
            run.take_back()

    # The verbs.

    def _who(self) -> None:
        request, targets = self._request()
        found: list[str] = []
        with self._run() as run:
            who = Who(self.session)
            who.run(request, targets[0], False, run, self._note, found.append)
        self.tell("result", "".join(found))

    def _note(self, text: str) -> None:
        if text.strip():
            self.tell("note", text.strip())

    def _trace(self) -> Callable[[], None]:
        request, targets = self._request()
        tracing = Tracing(self.session)
        trace = tracing.start(request, targets)
        self._note(trace.recorder.missing)
        self._note(f"Tracing: {trace.recorder.label}")

        def enough() -> bool:
            return 0 < request.count <= trace.recorder.taken()

        with self._run(enough) as run:
            try:
                run.go()
            finally:
                trace.end(_why(self.line.closed, request.count if enough() else 0, run))
        trace.drain()
        state = tracing.state(trace)

        def write() -> None:
            count = tracing.write(trace, self.wanted["file"])
            name = self.wanted["name"]
            self.tell("result", f"{state}{count:,} records written to {name}.\n")

        if not gdb.selected_inferior().pid:
            return write
        if all(target.signed is not None for target in targets):
            look_up(trace)  # so that it need not wait for the file to be written
            return write
        write()  # gdb reads more of the program to print such values
        return _nothing


def _know_architecture(pid: int) -> None:
    """gdb reads from the process what machine it is for only after it has attached; until then it
    takes it for one of 32 bits, and would put the program counter of a thread that stands behind an
    `int3` back by one in the lower half alone (save_stop_reason, gdb/linux-nat.c)."""
    with suppress(OSError), open(f"/proc/{pid}/exe", "rb") as file:
        if file.read(5) == b"\x7fELF\x02":
            gdb.execute("set architecture i386:x86-64", to_string=True)


def _leave_assembly() -> None:
    """Where the process is in a system call's stub, gdb takes the expressions to be assembly (the
    C library of Debian sid has the lines of it; gdb 18.1 is silent for ever then, once it has
    something to watch): take the language of the first caller that has another."""
    if _language() != "asm":
        return
    found, frame = "c", gdb.newest_frame()
    while frame is not None:
        frame.select()
        if _language() != "asm":
            found = _language()
            break
        try:
            frame = frame.older()
        except gdb.error:
            break
    gdb.newest_frame().select()
    gdb.execute(f"set language {found}", to_string=True)


def _language() -> str:
    text = gdb.execute("show language", to_string=True)
    found = re.search(r'currently ([^"]+)"', text)
    return found.group(1) if found else ""


def _nothing() -> None:
    pass


def _why(asked: bool, count: int, run: AttendedRun) -> str:
    """Why a trace ends."""
    if run.exited:
        return "the process has ended"
    if count:
        return f"{count} were recorded (-count)"
    return "asked" if asked else "-for"


def look_up(trace: Trace) -> None:
    """All that is to be asked of the program about the records, each once."""
    store, layout = trace.store, trace.store.layout
    offsets = [RecordLayout.IP, RecordLayout.INFO]
    offsets += [layout.stack + 8 * n for n in range(layout.frames)]
    for chunk in zip(*(store.column(offset) for offset in offsets)):
        for ip, info, *stack in set(zip(*chunk)):
            symbols = trace.symbols[info & 0xFF]
            symbols.access(ip, bool(info & KERNEL))
            for address in symbols.chain(tuple(filter(None, stack)))[1:]:
                symbols.frame(address)
