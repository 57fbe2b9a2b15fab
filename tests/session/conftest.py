"""Session tests: a real gdb with kwatch loaded, on real programs."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Gdb, shown  # noqa: E402

# nohup and a shell's `&` leave these ignored, and so they would be in all that the tests start; one
# that has a handler here is at its default there.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture
def session(program, tmp_path):
    """`with session(NAME, kwatch=True) as gdb:` a gdb on that fixture; None for no program.

    The gdb and its inferior are ended however the test ends.  Where the test passed, the transcript
    is searched for what no user may see (harness.FORBIDDEN, less `allow=`), and gdb must have ended
    by itself with status 0.
    """

    @contextlib.contextmanager
    def opened(name: str | Path | None, **options: Any) -> Iterator[Gdb]:
        path = program(name) if isinstance(name, str) else name
        gdb = Gdb(path, folder=tmp_path, **options)
        try:
            yield gdb
        except BaseException:
            print(shown(gdb.transcript))  # pytest shows it with the failure
            raise
        finally:
            gdb.close()
        gdb.check()

    return opened
