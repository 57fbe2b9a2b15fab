"""The canary of kernel-mode hits, on the real kernel and where perf is refused."""

from __future__ import annotations

import errno
import os

import pytest

from gdb_kwatch.linux import kernel_canary, perf_event


@pytest.mark.skipif(perf_event.why_not() is not None, reason="no perf here")
def test_it_sees_a_read():
    before = sorted(os.listdir("/proc/self/fd"))
    bird = kernel_canary.run()
    assert bird.trapped, bird.text
    assert "was counted" in bird.text and "stopped it" in bird.text
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_where_perf_is_refused_it_says_so(monkeypatch):
    def refuse(*_):
        raise perf_event.NotAllowed(errno.EACCES, "kernel.perf_event_paranoid is 3")

    monkeypatch.setattr(kernel_canary, "Event", refuse)
    bird = kernel_canary.run()
    assert not bird.trapped
    assert bird.text == "kernel.perf_event_paranoid is 3"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
