"""What can be told about this machine from outside gdb; then kwatch's own doctor, inside."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from gdb_kwatch.outside import debugger, libraries, packages, processes, say, setup

SECONDS = 30
OLDEST_GDB, OLDEST_PYTHON = 10, (3, 9)


# The last line of gdb_kwatch.ui.doctor where nothing that kwatch needs is missing.
ALL_FINE = "Everything kwatch needs is here."


class Finding(NamedTuple):
    """One line of the doctor's; `remedy` is what to do where it is not fine."""

    fine: bool
    text: str
    remedy: str = ""
    needed: bool = True

    def __str__(self) -> str:
        if self.fine:
            return f"ok    {self.text}"
        return f"{'BAD ' if self.needed else 'note'}  {self.text}\n      -> {self.remedy}"


def run() -> int:
    """Print everything; 0 where nothing that kwatch needs is missing, else 1."""
    command = debugger.find()
    gdb = debugger.ask(command) if command else None
    findings = [*of_debugger(gdb), of_compiler()]
    print("\n".join(["Outside gdb:", *map(str, findings)]), flush=True)
    inside = gdb is not None and gdb.python is not None and _inside(gdb)
    return 0 if inside and all(finding.fine or not finding.needed for finding in findings) else 1


def of_debugger(gdb: debugger.Debugger | None) -> list[Finding]:
    if gdb is None:
        return [Finding(False, "gdb: not on PATH", packages.command(["gdb"]))]
    name = f"gdb {gdb.version} ({shlex.join(gdb.command)})"
    if gdb.python is None:
        return [Finding(False, name, f"it {setup.no_python()}")]
    python = "Python {}.{} in gdb".format(*gdb.python)
    lacking = say.listing(list(gdb.lacking))
    return [
        Finding(gdb.major >= OLDEST_GDB, name, f"kwatch needs gdb {OLDEST_GDB} or later"),
        Finding(gdb.python >= OLDEST_PYTHON, python, "kwatch needs a gdb with Python 3.9 or later"),
        Finding(
            not lacking,
            f"for gdb's Python: no {lacking}" if lacking else "pygments and tabulate in gdb",
            f"output is plain without. {say.verb('install')} fetches them, or:"
            f"\n         {libraries.remedy(gdb.lacking)}",
            needed=False,
        ),
    ]


def of_compiler() -> Finding:
    lacking = [need.package for need in packages.missing(compiler=True) if need != packages.GDB]
    text = f"C compiler, for the demo ({packages.c_compiler() or 'none found'})"
    return Finding(not lacking, text, packages.command(lacking), needed=False)


def _inside(gdb: debugger.Debugger) -> bool:
    """Show `kwatch doctor`; whether it found nothing to mend."""
    say.step("running kwatch doctor inside gdb")
    argv = [*debugger.with_kwatch(gdb), "-ex", "kwatch doctor"]
    ended = processes.run(argv, seconds=SECONDS, env=debugger.QUIET)
    print(f"Inside gdb (kwatch doctor):\n{ended.output.strip()}")
    if ended.code is None:
        print(f"gdb did not come to an end in {SECONDS} seconds")
    return ended.fine and ALL_FINE in ended.output
