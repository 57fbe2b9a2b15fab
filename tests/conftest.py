"""What every kind of test may use: the checkout on sys.path, and the fixtures' programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from fixtures.build import build, cannot_run  # noqa: E402


@pytest.fixture(scope="session")
def program():
    """`program(NAME)`: the path of that fixture, built; skips where this CPU cannot run it."""

    def path_of(name: str) -> Path:
        reason = cannot_run(name)
        if reason:
            pytest.skip(f"{name}: {reason}")
        return build(name)

    return path_of
