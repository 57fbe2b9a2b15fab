"""Other plugins in the same gdb: libstdc++'s pretty-printers, and GEF or pwndbg where they are.

KWATCH_PLUGINS names scripts to source, with colons between them (GEF's gef.py, say): neither is on
an index that tests could take it from.
"""

from __future__ import annotations

import os
import re

import pytest
from harness import GDBINIT, line

PLUGINS = [path for path in os.environ.get("KWATCH_PLUGINS", "").split(":") if path]


def values(text):
    """What gdb's own report says of each stop."""
    return re.findall(r"^Old value = (.*)\nNew value = (.*)$", text, re.M)


def test_values_as_libstdcxxs_printers_show_them(session):
    stop = f"break vector_grows.cc:{line('vector_grows.cc', 'two elements')}"
    with session("vector_grows", kwatch=False) as gdb:
        gdb.cmd(stop)
        gdb.cmd("run")
        if "std::vector of length 2" not in gdb.cmd("print numbers"):
            pytest.skip("this gdb has no pretty-printers for libstdc++")
        gdb.cmd("watch numbers")
        bare = values("".join(gdb.run_out()))
    assert bare == [
        (
            "std::vector of length 2, capacity 4 = {1, 2}",
            "std::vector of length 3, capacity 4 = {1, 2, 3}",
        )
    ]
    with session("vector_grows") as gdb:
        gdb.cmd(stop)
        gdb.cmd("run")
        gdb.cmd("kwatch numbers")
        said = "".join(gdb.run_out())
        assert "std::vector of length 3, capacity 4 = {1, 2, 3}" in said
        assert [(h["old"], h["new"]) for t in gdb.stops() for h in t["hits"]] == bare


@pytest.mark.parametrize("path", PLUGINS or [None])
@pytest.mark.parametrize("first", ["plugin", "kwatch"])
def test_a_plugin_beside_kwatch(session, path, first, tmp_path):
    """It works beside kwatch, whichever was loaded first."""
    if path is None:
        pytest.skip("KWATCH_PLUGINS names none")
    scripts = [path, str(GDBINIT)] if first == "plugin" else [str(GDBINIT), path]
    extra = [word for script in scripts for word in ("-iex", f"source {script}")]
    prompt = ("-ex", "python gdb.prompt_hook = None", "-ex", "set prompt @@gdb-is-ready@@ ")
    before = ("env", "LC_ALL=C.UTF-8")  # pwndbg draws lines
    with session("simultaneous", kwatch=False, extra=(*extra, *prompt), before=before) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch s.a")
        gdb.cmd("watch s.c")
        out = gdb.cont()
        assert "2 watchpoints hit by one instruction" in out
        assert [len(trap["hits"]) for trap in gdb.hits()] == [2]
        assert len(gdb.run_out()) == 1
        assert "No internal fault" in gdb.cmd("kwatch doctor -traceback")
