"""Where perf is not allowed: kwatch -k is refused with reason and remedy, auto falls back once."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import ROOT, Gdb, shown

from gdb_kwatch.linux import perf_event

NOBODY = 65534
WITHOUT_PERF = (sys.executable, str(Path(__file__).with_name("without_perf.py")))


@contextmanager
def as_nobody(program) -> Iterator[Gdb]:
    """A gdb of a user without any capability, on a copy of the program."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root, and setpriv")
    level = perf_event.paranoid()
    if level is None or level <= 1:
        pytest.skip(f"kernel.perf_event_paranoid is {level}: everybody may")
    with tempfile.TemporaryDirectory(prefix="kwatch-nobody-", dir="/tmp") as name:
        os.chmod(name, 0o777)
        copy = Path(name) / "syscall"
        shutil.copy(program("syscall"), copy)
        ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        check = f"setpriv {' '.join(ids)} test -r {ROOT / 'gdb_kwatch' / 'gdbinit.py'}"
        if os.system(check):
            pytest.skip("the checkout cannot be read by others")
        gdb = Gdb(copy, folder=Path(name), before=("setpriv", *ids))
        try:
            yield gdb
        except BaseException:
            print(shown(gdb.transcript))
            raise
        finally:
            gdb.close()
        gdb.check()


@contextmanager
def without_perf(program) -> Iterator[Gdb]:
    """A gdb in a sandbox that refuses perf_event_open."""
    with tempfile.TemporaryDirectory(prefix="kwatch-test-") as name:
        gdb = Gdb(program("syscall"), folder=Path(name), before=WITHOUT_PERF)
        try:
            yield gdb
        except BaseException:
            print(shown(gdb.transcript))
            raise
        finally:
            gdb.close()
        gdb.check()


REASONS = {
    as_nobody: (r"kernel\.perf_event_paranoid is \d+ and gdb has no CAP_PERFMON", "CAP_PERFMON"),
    without_perf: (r"refused by a seccomp filter or a security module", "in a container"),
}
cases = pytest.mark.parametrize("refused", REASONS, ids=lambda one: one.__name__)


@cases
def test_it_is_refused_with_reason_and_remedy(program, refused):
    reason, remedy = REASONS[refused]
    with refused(program) as gdb:
        gdb.run_to("main")
        answer = gdb.cmd("kwatch -k *(long *) &buf[0]")
        assert re.search(rf"^kwatch -k .* was not set: .*{reason}", answer, re.M), answer
        assert re.search(rf"^To have it: .*{remedy}", answer, re.M), answer
        assert "No hardware watchpoints" in gdb.cmd("kwatch list")
        answer = gdb.cmd("set kwatch kernel on")
        assert re.search(reason, answer)
        assert "is off" in gdb.cmd("show kwatch kernel")
        doctor = gdb.cmd("kwatch doctor")
        assert re.search(rf"inside system calls +kwatch -k is refused: .*{reason}", doctor), doctor
        assert "Everything kwatch needs is here." in doctor


@cases
def test_auto_falls_back_once_and_changes_are_found_by_value(program, refused):
    reason, _ = REASONS[refused]
    with refused(program) as gdb:
        gdb.run_to("main")
        first = gdb.cmd("set kwatch kernel auto")
        warning = "hits inside system calls are not seen, the debug registers are used alone"
        assert re.search(f"warning: {warning}: .*{reason}", first)
        answers = [gdb.cmd(f"kwatch *(long *) &buf[{n}]") for n in (0, 16)]
        assert "is auto" in gdb.cmd("show kwatch kernel")
        told = [line for line in "".join([first, *answers]).split("\n") if "warning" in line]
        assert len(told) == 1, told
        out = gdb.cont()  # the store to buf[0]; the read before it was no trap
        assert re.search(r"1 watchpoint changed with no trap.*\n.*\n.* 3: .*buf\[16\]", out), out
        assert "1 watchpoint hit by one instruction" in out
        traps = json.loads(gdb.cmd("kwatch hits -json"))
        assert [trap["origin"] for trap in traps] == ["untrapped", "user"]


def test_where_it_is_allowed_the_doctor_says_so(session):
    if perf_event.why_not() is not None:
        pytest.skip("no perf here")
    with session("syscall") as gdb:
        assert re.search(
            r"inside system calls +kwatch -k works: a read\(2\) in a throwaway process was counted "
            r"\(\d\) and stopped it \(set kwatch kernel off\)",
            gdb.cmd("kwatch doctor"),
        )
