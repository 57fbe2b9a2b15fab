"""`gdb-kwatch who` and `trace`: the commands of that name on a process that runs already.

gdb runs in a session of its own, where no Ctrl-C of a terminal and no hang-up reaches it, and is
never ended by a signal: a gdb that dies while it is attached leaves its debug registers in the
process, and the next hit kills that.  It is asked to end by a pipe that is closed, be it by the
death of this command (`gdb_kwatch.ui.shell` has the other end).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from types import FrameType

from gdb_kwatch import places
from gdb_kwatch.core import exports
from gdb_kwatch.outside import debugger, refusals, say, target

SECONDS = 5.0  # where neither -for nor -count is given
# How long gdb may take, in seconds, before it is taken to hang:
TO_BEGIN = 180.0  # it reads symbols
TO_LET_GO = 60.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(options: argparse.Namespace) -> int:
    """Attach gdb, run the command, detach; prints what was found."""
    target.check(options.pid)
    if options.verb == "trace":
        _check_file(options.file)
    command = debugger.find()
    if command is None:
        raise say.Stop("there is no gdb here", say.USER_MUST_ACT)
    with Attending(options, command) as gdb:
        return gdb.attend()


def _check_file(path: str) -> None:
    """Whether it can be written, before anything is recorded for it."""
    try:
        exports.writer(path)
    except exports.UnknownSuffix as error:
        raise say.Stop(str(error)) from None
    if os.path.isdir(path):
        raise say.Stop(f"{path}: is a directory")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise say.Stop(f"{path}: there is no directory {folder}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise say.Stop(f"{path}: permission denied")


def _wanted(options: argparse.Namespace) -> dict[str, object]:
    tracing = options.verb == "trace"
    count = options.count if tracing else 0
    seconds = options.seconds or (0 if count else SECONDS)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    return {
        "verb": options.verb,
        "pid": options.pid,
        "expressions": options.expressions,
        "seconds": seconds,
        "reads": options.reads,
        "kernel": options.kernel,
        "only": options.only,
        "without": options.without,
        "condition": options.condition,
        "json": not tracing and options.json,
        "count": count,
        "frames": options.stack if tracing else 0,
        "file": os.path.abspath(options.file) if tracing else None,
        "name": options.file if tracing else None,
        "width": columns,
    }


class Attending:
    """The gdb that does the work, and what it tells."""

    def __init__(self, options: argparse.Namespace, command: tuple[str, ...]) -> None:
        self.options = options
        self.wanted = _wanted(options)
        self.command = command
        self.asked: signal.Signals | None = None  # what ended it
        self.state = "begun"
        self.result = ""
        self.failed = ""
        self._holding = False  # the line, and gdb knows what is wanted
        self._before: dict[int, object] = {}

    def __enter__(self) -> Attending:
        theirs, self._line = os.pipe()
        self._answers, answers = os.pipe()
        # Not pipes: gdb must not be ended by SIGPIPE when this end is gone.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        for number in ENDING:
            # What nohup and a shell's `&` have set to be ignored stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._ask)
        serve = f"python from gdb_kwatch.ui import shell; shell.serve({theirs}, {answers})"
        self._process = subprocess.Popen(
            [*self.command, "-nx", "-batch", "-x", places.GDBINIT, "-ex", serve],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **debugger.QUIET},
            start_new_session=True,
            pass_fds=(theirs, answers),
            restore_signals=False,  # SIGPIPE stays ignored
        )
        os.close(theirs)
        os.close(answers)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        with contextlib.suppress(BrokenPipeError):  # it has ended: that is seen at once
            os.write(self._line, json.dumps(self.wanted).encode() + b"\n")
        self._holding = True
        if self.asked is not None:
            self._close_line()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self

    def __exit__(self, *_: object) -> None:
        self._close_line()
        os.close(self._answers)
        self._output.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        """At a signal: gdb is to let go of the process."""
        if self.asked is None:
            self.asked = signal.Signals(number)
            self._close_line()
        else:
            os.write(2, b"kwatch: gdb is letting go of the process\n")

    def _close_line(self) -> None:
        if self._holding:
            self._holding = False
            os.close(self._line)

    def attend(self) -> int:
        """Follow gdb to its end; the exit code."""
        for what, text in self._told():
            if what in ("attached", "looking", "detached", "done"):
                self.state = what
            if what == "looking":
                self._say_begun()
            elif what == "note":
                for line in text.splitlines():
                    say.step(line)
            elif what == "result":
                self.result = text
            elif what in ("failed", "not attached"):
                self.failed = text
                if what == "not attached":
                    self.state = what
        code = self._process.wait()
        if self.result:
            self._print()
        if self.state == "not attached":
            raise say.Stop(self._why_not_attached(), say.USER_MUST_ACT)
        if self.failed:
            raise say.Stop(self.failed)
        if self.state != "done" and not (self.state == "begun" and self.asked):
            raise say.Stop(self._broken(code))
        if self.asked is None:
            return 0
        if not self.result:
            say.step("interrupted before anything was recorded")
        return 128 + self.asked

    def _say_begun(self) -> None:
        seconds, count = self.wanted["seconds"], self.wanted["count"]
        limits = [f"{seconds:g} s"] if seconds else []
        limits += [f"{count:,} access{'es' if count != 1 else ''}"] if count else []
        what = ", ".join(self.options.expressions)
        say.step(
            f"looking at {what} in process {self.options.pid} for {' or '.join(limits)} "
            "(Ctrl-C ends it earlier)"
        )

    def _print(self) -> None:
        try:
            sys.stdout.write(self.result)
            sys.stdout.flush()
        except OSError:
            if self.asked is None:
                raise  # else the terminal is gone

    def _told(self) -> Iterator[tuple[str, str]]:
        """What gdb tells, until it ends.  Raises Stop where it hangs."""
        rest = b""
        since, before = time.monotonic(), ("", False)
        while True:
            now = (self.state, self.asked is not None)
            if now != before:
                since, before = time.monotonic(), now
            limit = self._limit()
            ready, _, _ = select.select([self._answers], [], [], 0.2)
            if ready:
                data = os.read(self._answers, 1 << 16)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    yield told["is"], told["text"]
            elif limit is not None and time.monotonic() - since > limit:
                raise say.Stop(self._hangs(limit))

    def _limit(self) -> float | None:
        """For how long this state may last."""
        if self.state in ("detached", "done"):
            return None  # it writes the file
        if self.asked is not None or self.state == "not attached":
            return TO_LET_GO
        if self.state != "looking":
            return TO_BEGIN
        seconds = float(str(self.wanted["seconds"]))
        return seconds + TO_LET_GO if seconds else None

    # What went wrong.

    def _said(self) -> str:
        self._output.seek(0)
        text = self._output.read().decode(errors="replace")
        return "\n".join(f"  {line}" for line in text.rstrip().splitlines()[-8:])

    def _why_not_attached(self) -> str:
        why = target.why_not(self.options.pid) or refusals.known(self.failed)
        return f"{why or 'gdb cannot attach to this process.'}\ngdb said: {self.failed}"

    def _broken(self, code: int) -> str:
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        text = f"gdb ended too early, {how}; {target.describe(self.options.pid)}. gdb said:\n"
        if self.state == "begun" and code >= 0:
            found = debugger.ask(self.command)
            if found.python is None:
                return "this gdb has no Python, and kwatch needs it"
        return text + self._said()

    def _hangs(self, limit: float) -> str:
        pid, gdb = self.options.pid, self._process.pid
        return (
            f"gdb (process {gdb}) has not answered for {limit:g} s; {target.describe(pid)}.\n"
            "It is left alone, and lets go of the process when it can. `kill -KILL "
            f"{gdb}` ends it, but may end process {pid}, too."
        )
