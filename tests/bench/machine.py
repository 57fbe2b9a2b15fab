"""What the figures were measured on, in one line."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """`cpu` is the one that everything was pinned to; None where nothing was."""

    model: str
    cores: int
    kernel: str
    gdb: str
    python: str
    lldb: str | None
    cpu: int | None
    load: float

    def text(self) -> str:
        parts = [
            self.model,
            f"{self.cores} cores" + ("" if self.cpu is None else f", pinned to CPU {self.cpu}"),
            f"Linux {self.kernel}",
            f"gdb {self.gdb} with Python {self.python}",
            *([self.lldb] if self.lldb else []),
            f"load average {self.load:.1f}",
        ]
        return "; ".join(parts)


def machine(gdb: str, python: str, lldb: str | None, cpu: int | None) -> Machine:
    """This one, now."""
    return Machine(
        _model(Path("/proc/cpuinfo").read_text()),
        os.cpu_count() or 0,
        platform.release(),
        gdb,
        python,
        lldb,
        cpu,
        os.getloadavg()[0],
    )


def _model(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
