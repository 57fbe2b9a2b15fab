"""The arbiter's bench runs to its end and writes both its forms.  Its times are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench" / "arbiter.py"


def test_text_and_json(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, str(BENCH), "-n", "5", "50", "-operations", "60", "-json", str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    small, large = json.loads(file.read_text())
    assert (small["requests"], large["requests"]) == (5, 50)
    assert large["waiting"] > 0 and large["median"] > 0
    assert text.splitlines()[2].split()[:2] == ["requests", "waiting"]
