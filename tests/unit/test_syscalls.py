"""System calls decoded from the registers of a real child, and from registers made up."""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from gdb_kwatch.linux import ptrace, registers, signals, syscalls
from gdb_kwatch.linux.registers import UserRegisters

ORDER = registers._NAMES
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")


def made_up(**values):
    return UserRegisters({**dict.fromkeys(ORDER, 0), **values})


def decode(name, *arguments, result=0, i386=False):
    numbers = {one: number for number, one in syscalls._names(i386).items()}
    words = ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp") if i386 else registers._ARGUMENTS
    values = {word: value % (1 << 64) for word, value in zip(words, arguments)}
    values["orig_rax"] = numbers[name]
    values["rax"] = result % (1 << 64)
    return syscalls.decode(made_up(**values), os.getpid(), i386)


@pytest.mark.parametrize(("i386", "header"), [(False, "unistd_64.h"), (True, "unistd_32.h")])
def test_the_table_is_that_of_the_header(i386, header):
    if not (HEADERS / header).exists():
        pytest.skip(f"no {header} here")
    text = (HEADERS / header).read_text()
    there = {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    names = syscalls._names(i386)
    common = there.keys() & names.keys()
    assert len(common) > 350
    assert {n: names[n] for n in common} == {n: there[n] for n in common}


def test_known_numbers():
    assert [syscalls.name_of(n) for n in (0, 1, 47, 217, 228, 334, 424, 999)] == [
        "read", "write", "recvmsg", "getdents64", "clock_gettime", "rseq", "pidfd_send_signal",
        "syscall_999",
    ]  # fmt: skip
    assert [syscalls.name_of(n, True) for n in (3, 102, 265, 403)] == [
        "read", "socketcall", "clock_gettime", "clock_gettime64",
    ]  # fmt: skip


def test_each_named_call_is_in_a_table():
    known = {*syscalls._names(False).values(), *syscalls._names(True).values()}
    assert set(syscalls._arguments()) <= known
    assert all(len(one) <= 6 for one in syscalls._arguments().values())


def test_a_descriptor_has_its_path_and_pointers_are_hex(tmp_path):
    path = tmp_path / "some file"
    path.write_text("x")
    fd = os.open(path, os.O_RDONLY)
    try:
        call = decode("read", fd, 0x7FFC0010, 36, result=36)
    finally:
        os.close(fd)
    assert call.text == f"read(fd={fd}<{path}>, buf=0x7ffc0010, count=36) = 36"
    assert call.json()["arguments"] == [
        {"name": "fd", "value": fd, "path": str(path)},
        {"name": "buf", "value": 0x7FFC0010},
        {"name": "count", "value": 36},
    ]
    assert call.result == 36


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("fstat", 999, 0), "fstat(fd=999, statbuf=NULL) = 0"),
        (
            ("openat", -100 % (1 << 32), 16, 0, 0),
            "openat(dirfd=AT_FDCWD, pathname=0x10, flags=0, mode=0) = 0",
        ),
        (("poll", 16, 1, 0xFFFFFFFF), "poll(fds=0x10, nfds=1, timeout=-1) = 0"),
        (("gettid",), "gettid(0, 0, 0, 0, 0, 0) = 0"),
    ],
)
def test_arguments(call, text):
    assert decode(*call).text == text


def test_errors_and_calls_that_are_made_again():
    failed = decode("read", 999, 16, 4, result=-errno.EFAULT)
    assert failed.text.endswith("= -1 EFAULT (Bad address)")
    assert failed.result == -errno.EFAULT
    again = decode("read", 999, 16, 4, result=-512)
    assert "ERESTARTSYS (interrupted by a signal; it is made again)" in again.text
    assert again.result is None


def test_a_32bit_program():
    call = decode("read", 999, 0xFFFF0010, 4, result=0xFFFFFFF2, i386=True)
    assert call.text == "read(fd=999, buf=0xffff0010, count=4) = -1 EFAULT (Bad address)"
    assert call.json()["abi"] == "i386"


def test_no_call():
    assert syscalls.decode(made_up(orig_rax=(1 << 64) - 1), os.getpid()) is None


def end(pid):
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def traced_child(action):
    pid = os.fork()
    if pid == 0:
        try:
            ptrace.call(ptrace.TRACEME, 0, None, None)
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        pytest.skip("ptrace is refused here")
    return pid


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_the_registers_of_a_thread_that_was_stopped_in_a_call():
    pid = traced_child(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    try:
        found = registers.read(pid)
        call = syscalls.decode(found, pid)
        assert call.name == "kill"
        assert [one.value for one in call.arguments][:2] == [pid, signal.SIGSTOP]
        assert not found.is_32bit
        assert found.rip >> 47 == 0
        info = registers.signal_info(pid)
        assert (info.number, info.code, info.fd) == (signal.SIGSTOP, 0, -1)
    finally:
        end(pid)
    with pytest.raises(ProcessLookupError):
        registers.read(pid)
    with pytest.raises(ProcessLookupError):
        registers.signal_info(pid)


def test_the_signal_is_one_that_the_program_does_not_handle():
    def child(handled, blocked=()):
        def action():
            for number in signals.HARMLESS:  # readline has a handler of its own
                signal.signal(number, (lambda *_: None) if number in handled else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
            os.kill(os.getpid(), signal.SIGSTOP)

        return traced_child(action)

    for handled, expected in (
        ((), signal.SIGURG),
        ((signal.SIGURG,), signal.SIGWINCH),
        ((signal.SIGURG, signal.SIGWINCH), None),
    ):
        pid = child(handled)
        try:
            number, reason = signals.choose(pid)
            assert number == expected
            assert ("SIGURG and SIGWINCH" in reason) == (expected is None)
        finally:
            end(pid)
    pid = child((), (signal.SIGURG,))
    try:
        assert signals.is_blocked(pid, signal.SIGURG)
        assert not signals.is_blocked(pid, signal.SIGWINCH)
    finally:
        end(pid)
    assert signals.masks(pid) == {}
