"""What is made of the measured times: medians, ratios pair by pair, and how they are written.

Pure: knows nothing of gdb, nor of how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The middle of some figures, and how far they lie apart."""

    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        return f"{self.median:{form}} [{self.low:{form}}..{self.high:{form}}]"

    def json(self, digits: int = 4) -> dict[str, float]:
        return {name: round(value, digits) for name, value in asdict(self).items()}


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value; ValueError where there is none."""
    if not values:
        raise ValueError("nothing was measured")
    return Spread(median(values), min(values), max(values))


def ratios(values: Sequence[float], bases: Sequence[float]) -> Spread:
    """Each value over the base of its own round: what slows the machine for a while slows both."""
    return spread([value / base for value, base in _pairs(values, bases)])


def differences(values: Sequence[float], bases: Sequence[float]) -> Spread:
    """Each value less the base of its own round."""
    return spread([value - base for value, base in _pairs(values, bases)])


def slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    """The growth of y for each x, between two points (x, y)."""
    if low[0] == high[0]:
        raise ValueError("two points at one place have no slope")
    return (high[1] - low[1]) / (high[0] - low[0])


def _pairs(values: Sequence[float], bases: Sequence[float]) -> list[tuple[float, float]]:
    if len(values) != len(bases):
        raise ValueError(f"{len(values)} values beside {len(bases)}: a round is missing")
    return list(zip(values, bases))
