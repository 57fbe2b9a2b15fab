"""Does churn.py notice?  Each of its invariants is broken on purpose, and it must fail for it.

    python3 tests/matrix/churn_broken.py [NAME…] [-seed N]    (about 5 minutes)

Needs what churn.py needs.  Ends with 1 if a breakage went unseen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# What is done to kwatch once it is loaded, and what churn.py must say of it.
BREAKAGES = {
    "sentinel without an owner": (
        "sentinels.Pool.aim = lambda self, pieces, real=sentinels.Pool.aim: real(\n"
        "    self, {*pieces, *(s.piece for s in self.sentinels if s.piece)})",
        "enabled with no owner",
    ),
    "sentinel in no pool": (
        "gdb.events.stop.connect(lambda event: sentinels.Sentinel(True))",
        "sentinels in no pool",
    ),
    "sentinels left by kwatch off": (
        "sentinels.Pool.discard = lambda self: None",
        "left behind by kwatch off",
    ),
    "owner that is gone": (
        "watches.Registry.deleted = lambda self, bp: None",
        "an owner that is gone",
    ),
    "native not adopted": (
        "watches.Registry.created = lambda self, bp, real=watches.Registry.created: (\n"
        "    None if bp.number % 3 == 0 else real(self, bp))",
        "not adopted",
    ),
    "slots that are not those of the owners": (
        "watches.Registry.pieces_in_use = lambda self, without=None, real=\\\n"
        "    watches.Registry.pieces_in_use: set(sorted(real(self, without))[1:])",
        "slots hold",
    ),
    "kwatch slots does not say what ptrace says": (
        "ptrace.debug_registers = lambda lwp, real=ptrace.debug_registers: real(lwp)._replace(\n"
        "    addresses=(real(lwp).addresses[0] ^ 8, *real(lwp).addresses[1:]))",
        "kwatch slots says",
    ),
    "descriptors left open": (
        "kept = []\nperf_event.Event.close = lambda self: kept.append(self)",
        "descriptors are left open",
    ),
    "objects that are kept": (
        "kept = []\n"
        "gdb.events.stop.connect(lambda event: kept.extend(sentinels.Slot() for _ in range(9)))",
        "of Slot are alive",
    ),
    "memory that grows": (
        "kept = []\ngdb.events.stop.connect(lambda event: kept.append(b'x' * (100 << 20)))",
        "KiB of memory",
    ),
    "a command of gdb's in a stop": (
        "gdb.events.stop.connect(lambda event: None)\ngdbfacts.may_execute = lambda: False",
        "is executed in a stop",
    ),
    "a fault that is told": (
        "watches.Registry.serve = lambda self: 1 / 0",
        "internal fault",
    ),
    "gdb crashes": (
        "gdb.events.exited.connect(lambda event: os.kill(os.getpid(), 11))",
        "gdb ended: SIGSEGV",
    ),
    "gdb hangs": (
        "def hang(event):\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except KeyboardInterrupt:\n"
        "            pass\n"
        "gdb.events.exited.connect(hang)",
        "gdb hangs",
    ),
}
LOADER = """
import os, sys, time
import gdb
sys.path.insert(0, {checkout!r})
from gdb_kwatch.ui import plugin
plugin.load()
from gdb_kwatch.inferior import gdbfacts, sentinels, watches
from gdb_kwatch.linux import perf_event, ptrace
{breakage}
"""


def notices(name: str, seed: int, folder: Path) -> str:
    """ "" where churn.py fails for the right reason; else what it said."""
    breakage, expected = BREAKAGES[name]
    loader = folder / "broken.py"
    loader.write_text(LOADER.format(checkout=str(CHECKOUT), breakage=breakage))
    churn = [sys.executable, str(CHECKOUT / "tests" / "matrix" / "churn.py"), "-no-bare"]
    done = subprocess.run(
        [*churn, "-seed", str(seed), "-n", "400", "-programs", str(folder), "-first"],
        env=dict(os.environ, KWATCH_GDBINIT=str(loader)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return "" if done.returncode == 1 and expected in done.stdout else done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("-seed", type=int, default=1, help="of churn.py (default: 1)")
    arguments = parser.parse_args()
    unseen = 0
    with tempfile.TemporaryDirectory(prefix="kwatch-broken-") as folder:
        for name in arguments.names or BREAKAGES:
            said = notices(name, arguments.seed, Path(folder))
            unseen += bool(said)
            print(f"{'UNSEEN' if said else 'seen  '} {name}", flush=True)
            if said:
                print(said)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
