"""A real gdb on a pseudo-terminal, driven a command at a time.

What a test may know of gdb's terminal is here: prompts, how to wait, how to end it, and what must
never appear in a transcript.  Nothing here waits for time: each command ends with a prompt.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import tempfile
from pathlib import Path
from typing import Any

import pexpect

ROOT = Path(__file__).resolve().parents[2]
# Another kwatch than this checkout's: an installed one, say.
GDBINIT = Path(os.environ.get("KWATCH_GDBINIT") or ROOT / "gdb_kwatch" / "gdbinit.py")
TRIPWIRE = Path(__file__).with_name("tripwire.py")
FIXTURES = ROOT / "fixtures"

PROMPT = "@@gdb-is-ready@@ "
TIMEOUT = int(os.environ.get("KWATCH_TIMEOUT", "60"))  # seconds; more where all is emulated
MOST = 4_000_000  # characters of one session: more is a command that is repeated without an end
SHOWN = 40_000  # of them, where a test fails

# With editing on, readline would echo what is typed and the transcript would hold it twice.
SETTINGS = (
    "set width 0",
    "set height 0",
    "set confirm off",
    "set pagination off",
    "set style enabled off",
    "set print thread-events off",
    "set editing off",
)

# None of these may be seen by a user, whatever the situation.
FORBIDDEN = (
    "Traceback",
    "Python Exception",
    "Error occurred in Python",
    "Error while",
    "$_kwatch",
    "internal-error",
    "Fatal signal",
    "gdb.execute in the middle of a stop",  # tripwire.py
)


class GdbFailure(AssertionError):
    """gdb did not do what the harness waited for; the message has the transcript."""


def gdb_command() -> list[str]:
    """The gdb under test: environment variable KWATCH_GDB, a command line (default: gdb)."""
    return shlex.split(os.environ.get("KWATCH_GDB", "gdb"))


def line(source: str, mark: str) -> int:
    """The number of the one line of fixtures/SOURCE whose comment begins with MARK.

    The first line is the name of the situation and does not count.
    """
    comment = re.compile(r"(/\*|//)\s*" + re.escape(mark) + r"\b")
    lines = (FIXTURES / source).read_text().splitlines()
    found = [n for n, text in enumerate(lines, 1) if n > 1 and comment.search(text)]
    assert len(found) == 1, f"{source} has the mark {mark!r} on the lines {found}"
    return found[0]


def shown(transcript: str) -> str:
    """A transcript as a failure shows it: its middle is left out where it is long."""
    left_out = len(transcript) - SHOWN
    if left_out <= 0:
        return transcript
    begin, end = transcript[: SHOWN // 4], transcript[-(SHOWN - SHOWN // 4) :]
    return f"{begin}\n[... {left_out:,} characters ...]\n{end}"


class Gdb:
    """One gdb, from its first prompt to its end.

    kwatch: whether the plugin is loaded
    early:  it is loaded before the program, as ~/.gdbinit does it, not after
    allow:  words of FORBIDDEN that this session may print
    extra:  more arguments for gdb, before the program
    before: a command line that runs gdb
    kernel_conditions: whether conditions are tested in the kernel, where it is allowed; None: as
            kwatch does it by itself
    """

    def __init__(
        self,
        program: Path | str | None,
        *,
        kwatch: bool = True,
        early: bool = False,
        allow: tuple[str, ...] = (),
        extra: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
        kernel_conditions: bool | None = None,
        folder: Path | None = None,
    ) -> None:
        self.allow = allow
        self.folder = folder or Path(tempfile.mkdtemp(prefix="kwatch-test-"))
        self.transcript = ""
        self.exit_code: int | None = None
        arguments = [*before, *gdb_command(), "-q", "-nx"]
        for setting in SETTINGS:
            arguments += ["-iex", setting]
        if kwatch:
            arguments += ["-iex", f"source {TRIPWIRE}"]
            when = "-iex" if early else "-ex"
            arguments += [when, f"source {GDBINIT}"]
            if kernel_conditions is not None:
                wanted = "auto" if kernel_conditions else "off"
                arguments += [when, f"set kwatch kernel-conditions {wanted}"]
        arguments += ["-ex", f"set prompt {PROMPT}", *extra]
        if program is not None:
            arguments.append(str(program))
        environment = dict(os.environ, TERM="dumb", LC_ALL="C", HISTSIZE="0")
        environment.pop("DEBUGINFOD_URLS", None)
        self._child = pexpect.spawn(
            arguments[0],
            arguments[1:],
            env=environment,
            cwd=str(self.folder),
            echo=False,
            encoding="utf-8",
            codec_errors="replace",
            timeout=TIMEOUT,
            maxread=65536,
        )
        self._child.delaybeforesend = None
        self.greeting = self._until_prompt(TIMEOUT)

    # --- talking ---

    def cmd(self, text: str, timeout: float | None = None) -> str:
        """One command (or several lines that gdb reads as one); what gdb answered."""
        self.transcript += f"{PROMPT}{text}\n"
        self._child.sendline(text)
        return self._until_prompt(timeout or TIMEOUT)

    def script(self, text: str, timeout: float | None = None) -> str:
        """Several commands, through `source`: the terminal's own line is limited to 4,096 bytes."""
        path = self._file(".gdb")
        path.write_text(text)
        return self.cmd(f"source {path}", timeout)

    def python(self, text: str, timeout: float | None = None) -> str:
        """Python inside gdb; what it printed."""
        path = self._file(".py")
        path.write_text(text)
        return self.cmd(f"source {path}", timeout)

    def value(self, expression: str) -> str:
        """How gdb prints a value."""
        return self.cmd(f"output {expression}").strip()

    def evaluate(self, expression: str) -> Any:
        """A Python expression inside gdb, through JSON."""
        out = self.cmd(f"python import json; print('@' + json.dumps({expression}))")
        found = re.search(r"^@(.*)$", out, re.M)
        if not found:
            raise GdbFailure(f"{expression!r} gave no value:\n{shown(self.transcript)}")
        return json.loads(found.group(1))

    def json(self, command: str) -> Any:
        """`command` with -json into a file, loaded."""
        path = self._file(".json")
        out = self.cmd(f"{command} -json {path}")
        if not path.stat().st_size:
            said = shown(self.transcript)
            raise GdbFailure(f"{command} -json wrote nothing but said: {out}\n{said}")
        return json.loads(path.read_text())

    # --- short names for what most tests do ---

    def hits(self) -> list[dict[str, Any]]:
        return self.json("kwatch hits")

    def stops(self) -> list[dict[str, Any]]:
        """The traps at which the program was stopped."""
        return [trap for trap in self.hits() if trap["stopped"]]

    def list(self) -> dict[int, dict[str, Any]]:
        """`kwatch list` by number."""
        return {entry["number"]: entry for entry in self.json("kwatch list")}

    def run_to(self, place: str) -> str:
        """A new run of the program, up to PLACE."""
        self.cmd(f"tbreak {place}")
        out = self.cmd("run")
        if "Temporary breakpoint" not in out:
            raise GdbFailure(f"the program did not reach {place}:\n{shown(self.transcript)}")
        return out

    def cont(self, timeout: float | None = None) -> str:
        return self.cmd("continue", timeout)

    def go_to(self, place: str, timeout: float | None = None) -> str:
        """Goes on to PLACE, which must be the next stop."""
        self.cmd(f"tbreak {place}")
        out = self.cont(timeout)
        if "Temporary breakpoint" not in out:
            raise GdbFailure(f"something stopped before {place}:\n{shown(self.transcript)}")
        return out

    def interrupt(self) -> str:
        """Stops a program that runs in the background (`continue &`)."""
        out = self.cmd("interrupt")
        self._child.expect(r"SIGINT|SIG0|stopped", timeout=TIMEOUT)
        # Whether a prompt follows a stop in the background differs: an echo of ours, then a prompt.
        self._child.sendline("echo @stopped@\\n")
        self._child.expect_exact("@stopped@", timeout=TIMEOUT)
        return out + self._until_prompt(TIMEOUT)

    def run_out(self, most: int = 100) -> list[str]:
        """Goes on until the program has ended; what each stop printed, the end not among them."""
        stops = []
        for _ in range(most):
            out = self.cont()
            if "exited" in out or "is not being run" in out:
                self.ending = out
                return stops
            stops.append(out)
        raise GdbFailure(f"the program did not end after {most} stops:\n{shown(self.transcript)}")

    # --- ending ---

    def close(self) -> None:
        """Ends this gdb and, with it, its inferior."""
        if self._child.isalive():
            with contextlib.suppress(OSError):
                self._child.sendline("kill")
                self._child.sendline("quit")
            try:
                self._child.expect_exact(pexpect.EOF, timeout=15)
            except pexpect.TIMEOUT:
                # Inferiors that gdb started die with it (PTRACE_O_EXITKILL).
                self._child.kill(signal.SIGKILL)
                self._child.expect_exact(pexpect.EOF, timeout=15)
            self.transcript += self._text()
        self._child.close(force=True)
        status, number = self._child.exitstatus, self._child.signalstatus
        self.exit_code = -number if number is not None else status

    def check(self) -> None:
        """What no session may show."""
        for word in FORBIDDEN:
            if word not in self.allow:
                assert word not in self.transcript, f"{word!r} was shown:\n{shown(self.transcript)}"
        assert self.exit_code == 0, f"gdb ended with {self.exit_code}:\n{shown(self.transcript)}"

    # --- inside ---

    def _until_prompt(self, timeout: float) -> str:
        try:
            self._child.expect_exact(PROMPT, timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            self.transcript += self._text()
            what = "no prompt" if isinstance(error, pexpect.TIMEOUT) else "gdb ended"
            raise GdbFailure(f"{what}:\n{shown(self.transcript)}") from None
        out = self._text()
        self.transcript += out
        if len(self.transcript) > MOST:
            raise GdbFailure(f"no end is to be seen:\n{shown(self.transcript)}")
        return out

    def _text(self) -> str:
        text = self._child.before
        return text.replace("\r\n", "\n") if isinstance(text, str) else ""

    def _file(self, suffix: str) -> Path:
        handle, name = tempfile.mkstemp(suffix=suffix, dir=str(self.folder))
        os.close(handle)
        return Path(name)
