"""What the system allows: against the system's own answers, and against made-up systems."""

from __future__ import annotations

import ctypes
import io
import platform
import struct

import pytest

from gdb_kwatch.linux import rights
from gdb_kwatch.linux.rights import CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE

SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
PARANOID = "/proc/sys/kernel/perf_event_paranoid"
STATUS = "/proc/self/status"


@pytest.fixture
def system(monkeypatch):
    """`system({PATH: TEXT}, capabilities)`: nothing else can be opened by the module."""

    def make(files, *capabilities):
        mask = sum(1 << capability for capability in capabilities)
        files = {STATUS: f"Name:\tgdb\nCapPrm:\tffff\nCapEff:\t{mask:016x}\n", **files}

        def open_(path):
            if files.get(path) is None:
                raise FileNotFoundError(2, "No such file or directory", path)
            return io.StringIO(files[path])

        monkeypatch.setattr(rights, "open", open_, raising=False)

    return make


def effective():
    """The effective capabilities of this process by capget(2)."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(24)
    assert ctypes.CDLL(None, use_errno=True).syscall(125, header, data) == 0
    low, _, _, high, _, _ = struct.unpack("=6I", data)
    return high << 32 | low


def test_capabilities_are_those_that_the_kernel_tells():
    mask = effective()
    assert [rights.capable(n) for n in range(64)] == [bool(mask >> n & 1) for n in range(64)]


def test_capabilities_where_nothing_tells(system):
    system({STATUS: None})
    assert not rights.capable(CAP_SYS_PTRACE)
    system({STATUS: "Name:\tgdb\n"})
    assert not rights.capable(CAP_SYS_PTRACE)


def test_capability_numbers():
    """linux/capability.h"""
    assert (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON) == (19, 21, 38)


@pytest.mark.parametrize("scope", [None, "0\n", "", "nonsense"])
def test_no_rule_for_tracing(system, scope):
    system({SCOPE: scope})
    fact = rights.ptrace_fact()
    assert (fact.good, fact.text, fact.remedy) == (True, "allowed", "")


@pytest.mark.parametrize(
    ("scope", "needed", "says", "remedy"),
    [
        (1, False, "1 (only descendants)", "'run' works as it is"),
        (2, True, "2 (only with CAP_SYS_PTRACE)", "run gdb as root"),
        (3, True, "3 (nobody)", "reboot"),
        (4, True, "4 (unknown)", "reboot"),
    ],
)
def test_rules_for_tracing(system, scope, needed, says, remedy):
    system({SCOPE: f"{scope}\n"})
    fact = rights.ptrace_fact()
    assert (fact.good, fact.needed) == (False, needed)
    assert fact.text == f"kernel.yama.ptrace_scope is {says}"
    assert remedy in fact.remedy
    assert ("'run' works" in fact.remedy) == (scope == 1)  # Yama checks PTRACE_TRACEME from 2 on


@pytest.mark.parametrize(("scope", "good"), [(1, True), (2, True), (3, False)])
def test_the_right_to_trace(system, scope, good):
    """With the capability everything is allowed but what is forbidden to all."""
    system({SCOPE: f"{scope}\n"}, CAP_SYS_PTRACE)
    assert rights.ptrace_fact().good is good


@pytest.mark.parametrize(
    ("level", "capability", "good"),
    [
        (-1, None, True),
        (1, None, True),
        (2, None, False),
        (3, None, False),
        (4, None, False),
        (4, CAP_PERFMON, True),
        (4, CAP_SYS_ADMIN, True),
        (4, CAP_SYS_PTRACE, False),
    ],
)
def test_perf_events(system, level, capability, good):
    system({PARANOID: f"{level}\n"}, *([] if capability is None else [capability]))
    fact = rights.perf_fact()
    assert fact.good is good
    assert f"kernel.perf_event_paranoid is {level}" in fact.text
    assert bool(fact.remedy) is not good
    assert good or not fact.needed  # watchpoints work without


def test_a_kernel_without_perf_events(system):
    system({PARANOID: None}, CAP_PERFMON)
    fact = rights.perf_fact()
    assert (fact.good, fact.needed, fact.text) == (False, False, "not in this kernel")


def test_this_system():
    for fact in (rights.ptrace_fact(), rights.perf_fact()):
        assert fact.name and fact.text
        assert fact.good or fact.remedy
    assert rights.kernel_release() == platform.release()
