"""gdb's own tests, with kwatch loaded and without: the results must be the same, line by line.

    python3 tests/matrix/gdb_testsuite.py [-v] [--few] [TEST.exp ...]

The tests are those of the source package of the gdb on PATH, fetched once with apt; dejagnu's
runtest runs them out of tree on the installed gdb, first bare and then with kwatch sourced as a
start-up file is. Prints each result line that differs (-v: with what gdb printed there) and each
Python fault that only the second log has, and exits with 1 if there is any. In another gdb:

    python3 tests/matrix/roots.py run sid python3 tests/matrix/gdb_testsuite.py
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import host
from checkout import CHECKOUT, debugger, exit_code, packages, processes, say, table

FEW = (
    "gdb.base/watchpoint.exp",
    "gdb.base/watchpoint-hw-hit-once.exp",
    "gdb.base/watchpoint-unaligned.exp",
    "gdb.base/watch-cond.exp",
    "gdb.base/watch-read.exp",
    "gdb.threads/watchthreads.exp",
)
ALL = (
    "gdb.base/*watch*.exp",
    "gdb.base/*hbreak*.exp",
    "gdb.base/hw-sw-break-same-address.exp",
    "gdb.threads/*watch*.exp",
    "gdb.mi/mi-watch*.exp",
)
NEEDS = {
    "runtest": packages.Need("dejagnu", "dejagnu"),
    "gcc": packages.COMPILER,
    "g++": packages.CXX_COMPILER,
}
GDBINIT = CHECKOUT / "gdb_kwatch" / "gdbinit.py"
STORE = CHECKOUT / ".kwatch" / "gdb-testsuite"
SECONDS = 3600
SHOWN = 20
# dejagnu.info, "A POSIX compliant test framework" and "runtest's output"; DUPLICATE and PATH are
# gdb's own (lib/check-test-names.exp).
RESULT = re.compile(
    r"(PASS|FAIL|XPASS|XFAIL|KPASS|KFAIL|UNRESOLVED|UNTESTED|UNSUPPORTED|ERROR|WARNING"
    r"|DUPLICATE|PATH): "
)
# Where a file sets seven read watchpoints, gdb cannot resume and its test knows that (KFAIL).
IMPROVED = re.compile(
    r"(PASS|FAIL): gdb\.base/watchpoint-unaligned\.exp: delete \d+$"
    r"|K(FAIL|PASS): gdb\.base/watchpoint-unaligned\.exp: wpcount\(7\)"
)
WHY = (
    "of seven rwatches gdb inserts none (KFAIL);\n"
    "with kwatch three wait (KPASS), and `delete` says which one has come"
)
# Most patterns of gdb's tests let other lines pass: a fault there changes no result.
FAULT = re.compile(r"Python Exception .*|Error occurred in Python.*")


@dataclass(frozen=True)
class Run:
    """What one runtest said: its result lines in order, and its whole log."""

    results: tuple[str, ...]
    log: str

    def counts(self) -> Counter[str]:
        return Counter(line.partition(":")[0] for line in self.results)

    def faults(self) -> Counter[str]:
        return Counter(FAULT.findall(self.log))


def sources(gdb: str) -> tuple[str, Path]:
    """The version and the gdb/testsuite folder of the source package nearest to this gdb."""
    exact = exact_version()
    if exact and _tests_of(exact).exists():
        return exact, _tests_of(exact)
    with tempfile.TemporaryDirectory(prefix="kwatch-gdb-source-") as scratch:
        apt = _apt(Path(scratch))
        for version in nearest(exact or gdb, _offered(apt)):
            if _tests_of(version).exists() or _fetch(apt, Path(scratch), version):
                return version, _tests_of(version)
    raise say.Stop(
        f"apt has no source package of gdb {exact or gdb} to take its tests from",
        say.USER_MUST_ACT,
    )


def exact_version() -> str:
    """The version of the source package that the installed gdb was built from; "" if of none."""
    show = ["dpkg-query", "-W", "-f", "${source:Version}", "gdb"]
    if not shutil.which(show[0]):
        return ""
    ended = processes.run(show, seconds=60)
    return ended.output.strip() if ended.fine else ""


def nearest(wanted: str, offered: Iterable[str]) -> list[str]:
    """`offered`, in the order to try: the wanted version, then those closest below, then above.

    A mirror that lags behind has the package of a new gdb without its source.

    >>> nearest("18.1-3", ["10.1-2", "19.1-1", "18.1-3", "17.2-1"])
    ['18.1-3', '17.2-1', '10.1-2', '19.1-1']
    """

    def numbers(version: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", version)]

    known = sorted(set(offered), key=numbers)
    below = [version for version in known if numbers(version) <= numbers(wanted)]
    return below[::-1] + known[len(below) :]


def found(testsuite: Path, patterns: Iterable[str], version: str) -> list[str]:
    """The test files that `patterns` name, in order."""
    names: list[str] = []
    for pattern in patterns:
        there = sorted(str(path.relative_to(testsuite)) for path in testsuite.glob(pattern))
        # There are none of some kinds in older gdbs.
        if not there and "*" not in pattern and pattern not in ALL:
            raise say.Stop(f"gdb {version} has no test file {pattern}")
        names += [name for name in there if name not in names]
    return names


def run(gdb: str, testsuite: Path, tests: Iterable[str], flags: str, keep: Path) -> Run:
    """A runtest for each file, as one that ends early would leave the rest out; the logs are kept
    in `keep`."""
    runs = [run_one(gdb, testsuite, test, flags) for test in tests]
    whole = Run(sum((each.results for each in runs), ()), "".join(each.log for each in runs))
    keep.mkdir(parents=True, exist_ok=True)
    (keep / "gdb.sum").write_text("\n".join(whole.results) + "\n")
    (keep / "gdb.log").write_text(whole.log)
    return whole


def run_one(gdb: str, testsuite: Path, test: str, flags: str) -> Run:
    """One runtest in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="kwatch-runtest-") as scratch:
        Path(scratch, "site.exp").write_text(site(gdb, testsuite, scratch, flags))
        # Nothing of the user's: neither ~/.dejagnurc nor a start-up file or a history of gdb's.
        env = {"HOME": scratch, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        # Not the leader of its session: the terminal that mi-watch.exp opens would be its own, and
        # end it with SIGHUP.
        argv = ["sh", "-c", '"$@"; exit $?', "sh", "env", "--unset=DEJAGNU"]
        argv += ["runtest", "--tool", "gdb", test]
        ended = processes.run(argv, seconds=SECONDS, env=env, cwd=scratch)
        if ended.code is None:
            raise say.Stop(f"{test} did not come to an end:\n{ended.last_lines()}")
        summary, log = Path(scratch, "gdb.sum"), Path(scratch, "gdb.log")
        if not summary.exists():
            raise say.Stop(f"runtest could not run:\n{ended.last_lines()}")
        lines = summary.read_text(errors="replace").splitlines()
        results = [line for line in lines if RESULT.match(line)]
        if not any(line.strip() == "=== gdb Summary ===" for line in lines):
            results.append(f"ERROR: {test}: runtest ended before its summary")
        return Run(tuple(results), log.read_text(errors="replace"))


def site(gdb: str, testsuite: Path, folder: str, flags: str) -> str:
    """What gdb's configure would write into site.exp, for an installed gdb."""
    machine = processes.run(["gcc", "-dumpmachine"], seconds=60).output.strip()
    settings = {
        "tool": "gdb",
        "srcdir": str(testsuite),
        "objdir": folder,
        "host_triplet": machine,
        "build_triplet": machine,
        "target_triplet": machine,
        "GDB": gdb,
        "GDBFLAGS": flags,
    }
    if "GDB_DATA_DIRECTORY" not in (testsuite / "lib" / "gdb.exp").read_text(errors="replace"):
        # gdb 11 and before would look for the data directory of a build tree.
        settings["INTERNAL_GDBFLAGS"] = "-nw -nx"
    return "".join(f"set {name} {{{value}}}\n" for name, value in settings.items())


def differences(bare: Run, loaded: Run) -> list[str]:
    """The result lines that only one run has: '- ' the bare gdb's, '+ ' those with kwatch."""
    lines = difflib.ndiff(bare.results, loaded.results)
    return [line for line in lines if line.startswith(("- ", "+ "))]


def printed(log: str, result: str) -> str:
    """What stands in `log` between the result line before `result` and itself; the last of it."""
    lines = log.splitlines()
    # The log has a result after whatever the line held before: "(gdb) PASS: ...".
    end = next((at for at, line in enumerate(lines) if line.endswith(result)), 0)
    start = next((at + 1 for at in range(end - 1, -1, -1) if RESULT.search(lines[at])), 0)
    return "\n".join(f"    | {line}" for line in lines[max(start, end - SHOWN) : end])


def _tests_of(version: str) -> Path:
    # dejagnu finds lib/ only under a folder of this name.
    return STORE / version / "testsuite"


def _apt(scratch: Path) -> list[str]:
    """Options with which apt knows the sources of every release it has the packages of."""
    known = {
        f"deb-src {each.uri} {each.release} {each.component}"
        for each in host.repositories()
        # Before the first update there is no telling whose they are.
        if each.origin in ("Debian", "Ubuntu", "")
    }
    if not known:
        raise say.Stop("apt has no package sources here to fetch gdb's tests from")
    (scratch / "sources.list").write_text("\n".join(sorted(known)) + "\n")
    (scratch / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch,
        "APT::Sandbox::User": "root",  # another user could not write into the scratch folder
    }
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _offered(apt: list[str]) -> list[str]:
    say.step("fetching the lists of source packages (apt-get update)")
    processes.run(["apt-get", *apt, "update"], seconds=600)
    shown = processes.run(["apt-cache", *apt, "showsrc", "gdb"], seconds=60).output
    return re.findall(r"^Version: (\S+)$", shown, re.MULTILINE)


def _fetch(apt: list[str], scratch: Path, version: str) -> bool:
    say.step(f"fetching the source package of gdb {version}")
    source = ["apt-get", *apt, "source", "--download-only", f"gdb={version}"]
    ended = processes.run(source, seconds=1200, cwd=scratch)
    if not ended.fine:
        say.step(f"apt could not:\n{ended.last_lines(3)}")
        return False
    archive = next(scratch.glob(f"gdb_{version.rpartition('-')[0]}*.orig.tar.*[!c]"))
    tests = _tests_of(version)
    tests.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tests.parent) as unpacked:
        _unpack_tests(archive, Path(unpacked))
        Path(unpacked, tests.name).rename(tests)
    return True


def _unpack_tests(archive: Path, into: Path) -> None:
    """Put gdb/testsuite of the source archive into `into`: a tenth of it, and all that is used."""
    with tarfile.open(archive) as tar:
        # The idiom of tarfile's documentation: Debian's Python 3.9 has no filters yet.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        for member in tar:
            inside = PurePosixPath(member.name).parts[1:]
            plain = member.isfile() or member.isdir()
            if plain and inside[:2] == ("gdb", "testsuite") and ".." not in inside:
                member.name = str(PurePosixPath(*inside[1:]))
                tar.extract(member, into)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="show gdb's output as well")
    parser.add_argument("--bare", action="store_true", help="only the bare gdb: what is expected")
    parser.add_argument("tests", nargs="*", metavar="TEST.exp", help="or a pattern")
    parser.add_argument("--few", action="store_true", help="only six of them, for a quick answer")
    arguments = parser.parse_args()
    packages.provide([need for tool, need in NEEDS.items() if not shutil.which(tool)])
    path = shutil.which("gdb")
    if path is None:
        raise say.Stop("gdb is not on PATH", say.USER_MUST_ACT)
    gdb = debugger.version_in(processes.run([path, "-nx", "--version"], seconds=30).output)
    version, testsuite = sources(gdb)
    say.step(f"testing gdb {gdb} ({path}) by the tests of gdb {version}")
    tests = found(testsuite, arguments.tests or (FEW if arguments.few else ALL), version)
    modes = {"bare": "", "kwatch": f'-ix "{GDBINIT}"'}
    if arguments.bare:
        del modes["kwatch"]
    runs = {}
    for mode, flags in modes.items():
        runs[mode] = run(path, testsuite, tests, flags, STORE / "logs" / mode)
    kinds = sorted(set().union(*(each.counts() for each in runs.values())))
    rows = [(mode, *(each.counts()[kind] for kind in kinds)) for mode, each in runs.items()]
    print(table((f"gdb {gdb}", *kinds), rows))
    if arguments.bare:
        return 0
    return report(runs["bare"], runs["kwatch"], arguments.verbose)


def report(bare: Run, loaded: Run, verbose: bool) -> int:
    """Print what differs; the exit code."""
    if not bare.results:
        print("no test ran at all")
        return 1
    found = differences(bare, loaded)
    different = [line for line in found if not IMPROVED.match(line[2:])]
    if len(different) < len(found):
        print(f"{len(found) - len(different)} lines of watchpoint-unaligned.exp differ: {WHY}")
    for line in different:
        print(line)
        shown = printed(loaded.log, line[2:]) if verbose and line.startswith("+ ") else ""
        if shown:
            print(shown)
    faults = loaded.faults() - bare.faults()
    for text, times in faults.items():
        print(f"+ {text} ({times} times)")
    if different or faults:
        count = f"{len(different)} result lines differ, {sum(faults.values())} lines of faults"
        print(f"{count}; logs: {STORE / 'logs'}")
        return 1
    same = len(bare.results) - (len(found) - len(different)) // 2
    print(f"the same {same} results with kwatch and without")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
