"""A small client of the Debug Adapter Protocol: a real gdb over its standard input and output."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import GDBINIT, gdb_command

SECONDS = 60
WORDS = ("Traceback", "Python Exception", "Error occurred in Python", "$_kwatch", "internal-error")


class DapClient:
    """One session.  All messages from gdb are kept, in order."""

    def __init__(self, kwatch: bool = True, extra: tuple[str, ...] = ()) -> None:
        words = [*gdb_command(), "-q", "-nx", "--interpreter=dap"]
        if kwatch:
            words += ["-ex", f"source {GDBINIT}"]
        environment = dict(os.environ, LC_ALL="C")
        environment.pop("DEBUGINFOD_URLS", None)
        self.process = subprocess.Popen(
            [*words, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.messages: list[dict[str, Any]] = []
        self._seen = 0  # up to which message `event` has looked
        self._seq = itertools.count(1)
        self._bytes = b""

    # The wire.

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            head, found, rest = self._bytes.partition(b"\r\n\r\n")
            if found:
                length = int(head.split(b":")[1])
                if len(rest) >= length:
                    self._bytes = rest[length:]
                    message = json.loads(rest[:length])
                    self.messages.append(message)
                    return message
            assert self.process.stdout is not None
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise AssertionError(f"gdb has ended or hangs:\n{self.log()}")
            self._bytes += data

    def log(self) -> str:
        return "\n".join(json.dumps(message) for message in self.messages)

    # Requests and events.

    def send(self, command: str, **arguments: Any) -> int:
        """Send a request, and wait for nothing."""
        seq = next(self._seq)
        message = {"seq": seq, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self.process.stdin.flush()
        return seq

    def response(self, seq: int) -> dict[str, Any]:
        for message in self.messages:
            if message["type"] == "response" and message["request_seq"] == seq:
                return message
        while True:
            message = self._read()
            if message["type"] == "response" and message["request_seq"] == seq:
                return message

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The body of the answer to a request that must succeed."""
        answer = self.response(self.send(command, **arguments))
        assert answer["success"], self.log()
        return answer.get("body") or {}

    def refused(self, command: str, **arguments: Any) -> str:
        answer = self.response(self.send(command, **arguments))
        assert not answer["success"], self.log()
        return answer["message"]

    def event(self, name: str, so: Callable[[dict[str, Any]], bool] = lambda body: True) -> Any:
        """The body of the next event of that name, from where the last look has ended."""
        while True:
            while self._seen < len(self.messages):
                message = self.messages[self._seen]
                self._seen += 1
                if message.get("event") == name and so(message.get("body") or {}):
                    return message.get("body") or {}
            self._read()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The bodies of all events of that name so far."""
        return [m.get("body") or {} for m in self.messages if m.get("event") == name]

    # What most sessions do.

    def initialize(self) -> dict[str, Any]:
        found = self.ask("initialize", adapterID="gdb", linesStartAt1=True)
        self.event("initialized")
        return found

    def launch(self, program: Path, **arguments: Any) -> None:
        """After the breakpoints: load and run the program, and wait for the first stop."""
        launch = self.send("launch", program=str(program), **arguments)
        self.ask("configurationDone")
        assert self.response(launch)["success"], self.log()

    def to_main(self, program: Path, **arguments: Any) -> dict[str, Any]:
        """A session that stands in main; what the server can do."""
        able = self.initialize()
        self.launch(program, stopAtBeginningOfMainSubprogram=True, **arguments)
        self.event("stopped")
        return able

    def cont(self) -> dict[str, Any]:
        """On to the next stop."""
        self.ask("continue", threadId=1)
        return self.event("stopped")

    def run_out(self) -> None:
        self.ask("continue", threadId=1)
        self.event("exited")

    def repl(self, command: str) -> str:
        return self.ask("evaluate", expression=command, context="repl")["result"]

    def value(self, expression: str) -> str:
        return self.ask("evaluate", expression=expression, context="watch")["result"]

    def frame(self) -> dict[str, Any]:
        """The innermost frame."""
        return self.ask("stackTrace", threadId=1)["stackFrames"][0]

    def output(self) -> str:
        """What kwatch and gdb have said so far."""
        return "".join(body["output"] for body in self.events("output"))

    def close(self) -> None:
        self.send("disconnect", terminateDebuggee=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"gdb did not end:\n{self.log()}") from None
        log = self.log()
        for word in WORDS:
            assert word not in log, f"{word!r} was sent:\n{log}"
