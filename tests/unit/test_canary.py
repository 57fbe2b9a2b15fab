"""The canary: it traps on this machine, and says why where it could not."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gdb_kwatch.linux import canary, ptrace

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_PTRACE = ROOT / "tests" / "session" / "without_ptrace.py"
FLY = "from gdb_kwatch.linux import canary; print(canary.run())"


@pytest.fixture(autouse=True)
def no_child_is_left(monkeypatch):
    """Each child is gone, and waited for, when the canary has flown."""
    children, fork = [], os.fork

    def noted():
        pid = fork()
        children.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", noted)
    yield
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_it_traps():
    bird = canary.run()
    assert bird.trapped, bird.text
    assert bird.text.startswith("the canary's store trapped in a throwaway process (DR6 ")


def test_it_flies_again():
    assert [canary.run().trapped for _ in range(3)] == [True] * 3


def test_where_ptrace_is_refused():
    done = subprocess.run(
        [sys.executable, str(WITHOUT_PTRACE), sys.executable, "-c", FLY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "prctl" in done.stderr:
        pytest.skip(f"no seccomp here: {done.stderr.strip()}")
    assert (done.stdout, done.stderr) == (
        "Canary(trapped=False, text='the canary could not be traced: ptrace is refused here')\n",
        "",
    )


def failing(number):
    def fail(*arguments):
        ctypes.set_errno(number)
        return True

    return fail


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "every debug register is taken by somebody else (perf, another tracer)"),
        (errno.EPERM, os.strerror(errno.EPERM)),
    ],
)
def test_a_register_that_cannot_be_set(monkeypatch, number, reason):
    monkeypatch.setattr(ptrace, "poke_debug_register", failing(number))
    bird = canary.run()
    assert bird == canary.Canary(False, f"the canary could not be watched: setting DR0: {reason}")


def test_a_control_register_that_cannot_be_set(monkeypatch):
    """gdb meets this one where perf holds the slots: the address is taken, its use is not."""
    fail, poke = failing(errno.ENOSPC), ptrace.poke_debug_register
    monkeypatch.setattr(
        ptrace,
        "poke_debug_register",
        lambda lwp, n, value: (fail if n == 7 else poke)(lwp, n, value),
    )
    bird = canary.run()
    assert not bird.trapped
    assert "setting DR7: every debug register is taken" in bird.text


def test_a_machine_that_sets_registers_and_does_not_trap(monkeypatch):
    monkeypatch.setattr(ptrace, "poke_debug_register", lambda lwp, number, value: False)
    bird = canary.run()
    assert not bird.trapped
    assert "did not trap: this machine does not deliver watchpoints" in bird.text


def test_a_trap_without_its_bit(monkeypatch):
    monkeypatch.setattr(ptrace, "status", lambda lwp: 0xFFFF0FF0)
    bird = canary.run()
    assert not bird.trapped
    assert bird.text == "the canary trapped, but DR6 is 0xffff0ff0: its bit is missing"


def test_a_child_that_cannot_be_resumed(monkeypatch):
    call = ptrace.call

    def refuse_to_resume(request, *arguments):
        if request == ptrace.CONT:
            ctypes.set_errno(errno.ESRCH)
            return -1
        return call(request, *arguments)

    monkeypatch.setattr(ptrace, "call", refuse_to_resume)
    bird = canary.run()
    assert not bird.trapped
    assert f"resuming it: {os.strerror(errno.ESRCH)}" in bird.text


def test_a_child_that_dies_before_its_store(monkeypatch):
    real = ptrace.poke_debug_register

    def kill(lwp, number, value):
        failed = real(lwp, number, value)
        if number == 7:
            os.kill(lwp, signal.SIGKILL)
        return failed

    monkeypatch.setattr(ptrace, "poke_debug_register", kill)
    assert not canary.run().trapped


def test_no_process_to_be_had(monkeypatch):
    def refuse():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    bird = canary.run()
    assert not bird.trapped
    assert bird.text.endswith(f"no new process: {os.strerror(errno.EAGAIN)}")
