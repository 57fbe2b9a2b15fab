"""kwatch on Debian's kernels: 5.10, 6.1, 6.12 and sid's, each booted in QEMU with its suite's gdb.

    python3 tests/matrix/kernels.py [-v] [--all] [SUITE ...] [-- PYTEST ARGUMENT ...]

Takes each suite's cloud kernel with apt-get, packs the suite's root (gdb, Python, the checkout, its
programs) into an initramfs, boots both under QEMU's software emulation, and runs the session tests
of DR6 and of kernel-mode hits there. Ends with a table by kernel, and with exit code 1 if anything
failed. As root; the machine needs no KVM. --all runs all those tests, not only the short list; some
of them ask for what QEMU's emulation cannot do: of several debug registers that one access hits, it
tells one (QEMU 10.0).

QEMU is trixie's, from its root: 7.2, bookworm's, corrupts a guest's flags while a debug register is
set (a kernel panic in __kmalloc, after cmpxchg16b).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import roots
from checkout import debugger, exit_code, processes, say, table

EMULATOR, QEMU = "trixie", "qemu-system-x86"
META = "linux-image-cloud-amd64"
MEMORY = 2048
SECONDS = 3600
STEP_SECONDS = 400  # for one command of a session: the guest is emulated, and slow
S = "tests/session"

# What is asked of a kernel, and the tests that answer.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "DR6: four threads": (f"{S}/test_threads.py::test_four_threads_each_its_own_place",),
    "DR6: two threads, one place": (f"{S}/test_threads.py::test_two_threads_on_one_place",),
    "-k: read(2) over two": (f"{S}/test_kernel_hits.py::test_a_read_that_touches_two_of_three",),
    "-k: rerun": (f"{S}/test_kernel_hits.py::test_a_rerun_arms_it_again",),
    "-k: gdb's own watch": (f"{S}/test_kernel_situations.py::test_gdbs_own_watch_sees_a_call",),
    "-k: EFAULT, restart": (
        f"{S}/test_kernel_situations.py::test_a_call_that_writes[efault]",
        f"{S}/test_kernel_situations.py::test_a_call_that_writes[restart]",
    ),
    "-k: 4 KiB over four": (f"{S}/test_kernel_situations.py::test_a_call_that_writes[page]",),
    "-k: io_uring": (f"{S}/test_kernel_situations.py::test_io_uring",),
    "-k: signal frame": (f"{S}/test_kernel_situations.py::test_a_signal_frame_on_a_watched_stack",),
    "-k: thread's end": (f"{S}/test_kernel_situations.py::test_the_end_of_a_thread_clears_a_word",),
    "-k: exec": (f"{S}/test_kernel_processes.py::test_an_exec",),
    "-k: threads": (f"{S}/test_kernel_processes.py::test_each_stop_names_its_thread",),
    "condition in the kernel": (
        f"{S}/test_kernel_conditions.py::test_gdbs_own_commands_work_on_it",
        f"{S}/test_kernel_conditions.py::test_every_thread_and_those_to_come",
        f"{S}/test_kernel_conditions.py::test_two_hundred_terms",
    ),
    "random conditions": (f"{S}/test_kernel_conditions.py::test_the_kernel_answers_as_gdb_does",),
    "refused: nobody": (
        f"{S}/test_kernel_rights.py::test_it_is_refused_with_reason_and_remedy[as_nobody]",
        f"{S}/test_kernel_rights.py::test_auto_falls_back_once_and_changes_are_found_by_value"
        "[as_nobody]",
    ),
}
ALL = (
    f"{S}/test_simultaneous.py",
    f"{S}/test_threads.py",
    f"{S}/test_kernel_hits.py",
    f"{S}/test_kernel_situations.py",
    f"{S}/test_kernel_processes.py",
    f"{S}/test_kernel_rights.py",
)

# Of a root, what no test needs.
LEFT_OUT = re.compile(
    r"(boot|dev|proc|sys|run|tmp|work|var/(cache|log|tmp|lib/apt)|usr/include|usr/lib(exec)?/gcc"
    r"|usr/share/(doc|man|info|locale|i18n|bug|lintian|perl|perl5|gcc|common-licenses)"
    r"|usr/lib/(x86_64-linux-gnu/)?(perl|perl-base|gconv|rustlib|go-[\d.]+|git-core|debug)"
    r"|usr/lib(x?32)|usr/share/go-[\d.]+|usr/libexec|usr/bin/(.*lto-dump.*|qemu-.*)|usr/share/(qemu|seabios|ovmf)|root/\.cache"
    r"|usr/lib/.*/lib(LLVM|rustc|[atlu]+b?san|go|gnat|gphobos|clang|dub|std-)[^/]*"
    r"|root/kwatch/\.kwatch/(mypy|pytest|gdb-testsuite|roots)|usr/lib/python3/dist-packages/pip"
    r")(/|$)|.*\.a$|.*/__pycache__(/|$)"
)

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp /run /var/tmp /var/log
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
chmod 1777 /tmp
chmod 755 /root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
export KWATCH_TIMEOUT={step} KWATCH_EMULATED=1
ip link set lo up 2>/dev/null
cd /root/kwatch
echo "@kernel $(uname -r)"
echo "@paranoid $(cat /proc/sys/kernel/perf_event_paranoid)"
gdb -nx -q -batch -iex 'source gdb_kwatch/gdbinit.py' -ex 'kwatch doctor' | sed 's/^/@doctor /'
{python} -m pytest -p no:cacheprovider -o timeout={timeout} -rA --tb=short {tests}
echo "@done $?"
{python} -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
"""


@dataclass
class Result:
    """What one kernel has answered."""

    suite: str
    kernel: str = "?"
    gdb: str = "?"
    paranoid: str = "?"
    doctor: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)  # by test
    done: bool = False
    log: Path | None = None

    @property
    def fine(self) -> bool:
        return self.done and not {"FAILED", "ERROR"} & set(self.outcomes.values())

    def answer(self, tests: Sequence[str]) -> str:
        """works, skipped, FAILED, or - where it was not asked."""
        found = {
            outcome
            for name, outcome in self.outcomes.items()
            for test in tests
            if name == test or name.startswith(f"{test}[")
        }
        for outcome, word in (("FAILED", "FAILED"), ("ERROR", "FAILED"), ("SKIPPED", "skipped")):
            if outcome in found:
                return word
        return "works" if "PASSED" in found else "-"


def kernel_image(suite: str, root: Path, into: Path) -> Path:
    """The suite's cloud kernel, by apt-get."""
    depends = roots.output(root, ["apt-cache", "depends", META])
    found = re.search(r"Depends: (linux-image-\d\S*-cloud-amd64)", depends)
    if not found:
        roots._apt_get(root, "update")
        depends = roots.output(root, ["apt-cache", "depends", META])
        found = re.search(r"Depends: (linux-image-\d\S*-cloud-amd64)", depends)
    if not found:
        raise say.Stop(f"{suite} has no {META}:\n{depends}")
    name = found.group(1)
    # Since 7.x the image is in a package of its own.
    binary = name.replace("linux-image-", "linux-binary-")
    listed = roots.output(root, ["apt-cache", "show", binary])
    wanted = binary if f"Package: {binary}" in listed else name
    kept = roots.folder() / "kernels" / suite
    kept.mkdir(parents=True, exist_ok=True)
    debs = sorted(kept.glob(f"{wanted}_*.deb"))
    if not debs:
        say.step(f"fetching {wanted} ({suite})")
        inside = root / "var/tmp/kernel"
        inside.mkdir(parents=True, exist_ok=True)
        log = roots.log_file(suite, "kernel")
        outcome = roots.run(
            root, ["apt-get", "download", wanted], seconds=900, directory="/var/tmp/kernel", log=log
        )
        if not outcome.fine:
            raise say.Stop(f"apt-get download {wanted}: {outcome}; see {log}")
        for deb in inside.glob("*.deb"):
            shutil.move(str(deb), kept)
        shutil.rmtree(inside)
        debs = sorted(kept.glob(f"{wanted}_*.deb"))
    done = processes.run(["dpkg-deb", "-x", str(debs[-1]), str(into)], seconds=120)
    images = sorted(into.rglob("vmlinuz*"))
    if not done.fine or not images:
        raise say.Stop(f"{debs[-1].name} holds no kernel:\n{done.last_lines()}")
    return images[-1]


class Archive:
    """A cpio archive as the kernel unpacks it (``newc``)."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.number = 0

    def add(self, name: str, mode: int, data: bytes = b"") -> None:
        self.number += 1
        encoded = name.encode() + b"\0"
        values = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % value for value in values)
        self._padded(header + encoded)
        self._padded(data)

    def _padded(self, data: bytes) -> None:
        self.file.write(data + b"\0" * (-len(data) % 4))

    def close(self) -> None:
        self.add("TRAILER!!!", 0)
        self.file.close()


def files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What of a root goes into the archive, folders before what is in them."""
    for folder, names, others in os.walk(root):
        inside = os.path.relpath(folder, root)
        prefix = "" if inside == "." else f"{inside}/"
        names[:] = sorted(name for name in names if not LEFT_OUT.match(prefix + name))
        for name in [*names, *sorted(others)]:
            if not LEFT_OUT.match(prefix + name):
                yield prefix + name, os.lstat(os.path.join(folder, name))


def pack(root: Path, init: str, path: Path) -> None:
    """The initramfs: the root, and what it does."""
    archive = Archive(path)
    for name in ("dev", "proc", "sys", "run", "tmp"):
        archive.add(name, stat.S_IFDIR | 0o755)
    for name, status in files(root):
        place = root / name
        if stat.S_ISLNK(status.st_mode):
            archive.add(name, status.st_mode, os.readlink(place).encode())
        elif stat.S_ISDIR(status.st_mode):
            archive.add(name, status.st_mode)
        elif stat.S_ISREG(status.st_mode):
            archive.add(name, status.st_mode, place.read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, init.encode())
    archive.close()


def emulator() -> Path:
    """The root whose QEMU is used, with that in it."""
    root = roots.folder() / EMULATOR
    if not (root / "usr/bin/qemu-system-x86_64").exists():
        with roots.held(EMULATOR):
            root = roots.made(EMULATOR)
            say.step(f"installing {QEMU} into {root}")
            roots._apt_get(root, "update")
            roots._apt_get(root, "install", "-y", "--no-install-recommends", QEMU)
    return root


def boot(kernel: Path, initramfs: Path, log: Path) -> None:
    """Until the guest switches itself off; what it says goes to `log`.  Both files are moved."""
    root = emulator()
    inside = Path(tempfile.mkdtemp(prefix="kernel-", dir=root / "var/tmp"))
    try:
        shutil.move(str(kernel), inside / "kernel")
        shutil.move(str(initramfs), inside / "initramfs")
        argv = [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
            *("-m", str(MEMORY), "-display", "none", "-serial", "stdio", "-monitor", "none"),
            *("-nodefaults", "-no-reboot", "-kernel", "kernel", "-initrd", "initramfs"),
            *("-append", "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off"),
        ]
        directory = "/" + str(inside.relative_to(root))
        roots.run(root, argv, seconds=SECONDS, directory=directory, log=log)
    finally:
        shutil.rmtree(inside)


def read(result: Result, text: str) -> None:
    """What the guest has said."""
    for line in text.replace("\r", "").split("\n"):
        if found := re.match(r"@(kernel|paranoid) (.*)", line):
            setattr(result, found.group(1), found.group(2))
        elif line.startswith("@doctor "):
            result.doctor.append(line[8:])
        elif line.startswith("@done "):
            result.done = True
        elif found := re.match(r"(PASSED|FAILED|ERROR) (\S+::.*?)( - .*)?$", line):
            result.outcomes[found.group(2)] = found.group(1)
        elif found := re.match(r"(\S+::\S+) SKIPPED", line):
            result.outcomes[found.group(1)] = "SKIPPED"


def tried(suite: str, tests: Sequence[str], verbose: bool) -> Result:
    """Boot the suite's kernel and run the tests there."""
    result = Result(suite)
    with tempfile.TemporaryDirectory(prefix="kwatch-kernel-") as name:
        folder = Path(name)
        with roots.held(suite):
            root = roots.made(suite)
            roots.copy_checkout(root)
            result.gdb = debugger.version_in(roots.output(root, ["gdb", "-nx", "--version"]))
            python = _tests_python(suite, root)
            kernel = kernel_image(suite, root, folder / "kernel")
            words = " ".join(f"'{word}'" for word in (*tests, "-v"))
            init = INIT.format(
                python=python, tests=words, step=STEP_SECONDS, timeout=4 * STEP_SECONDS
            )
            pack(root, init, folder / "initramfs")
            result.log = roots.log_file(suite, "kernel-session")
        say.step(f"booting {kernel.name} with gdb {result.gdb}")
        boot(kernel, folder / "initramfs", result.log)
    text = result.log.read_text(encoding="utf-8", errors="replace")
    read(result, text)
    if verbose:
        print(text)
    return result


def _tests_python(suite: str, root: Path) -> str:
    """The root's Python that has pytest, and the programs built; made by the tests' own set-up."""
    log = roots.log_file(suite, "set-up")
    one = f"{S}/test_simultaneous.py::test_the_block"
    outcome = roots.run(
        root, ["python3", "-m", "gdb_kwatch", "test", "--", one], seconds=1800, log=log
    )
    found = sorted((root / "root/kwatch/.kwatch/venv").glob("*/bin/python"))
    if not found:
        raise say.Stop(f"the tests cannot be set up in {root}: {outcome}; see {log}")
    return "/" + str(found[-1].relative_to(root))


def shown(results: Sequence[Result]) -> str:
    """The table: a question a row, a kernel a column; and what each doctor says of kernel hits."""
    heads = ["", *(result.kernel for result in results)]
    rows: list[list[object]] = [["gdb", *(result.gdb for result in results)]]
    rows.append(["perf_event_paranoid", *(result.paranoid for result in results)])
    for question, tests in QUESTIONS.items():
        rows.append([question, *(result.answer(tests) for result in results)])
    passed = [list(result.outcomes.values()).count("PASSED") for result in results]
    rows.append(["tests passed", *(f"{n}/{len(r.outcomes)}" for n, r in zip(passed, results))])
    lines = [table(heads, rows)]
    for result in results:
        for line in result.doctor:
            if "inside system calls" in line:
                lines.append(f"{result.kernel}: {' '.join(line.split())}")
        for name, outcome in result.outcomes.items():
            if outcome in ("FAILED", "ERROR"):
                lines.append(f"{result.kernel}: {outcome} {name} (see {result.log})")
        if not result.done:
            lines.append(f"{result.kernel}: the guest did not come to its end; see {result.log}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the guests say")
    parser.add_argument("--all", action="store_true", help="all tests of DR6 and kernel hits")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" ".join(roots.SUITES))
    own, passed_on = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, passed_on = own[:at], own[at + 1 :]
    arguments = parser.parse_args(own)
    short = [test for tests in QUESTIONS.values() for test in tests]
    tests = passed_on or (list(ALL) if arguments.all else short)
    results = [tried(suite, tests, arguments.verbose) for suite in arguments.suites or roots.SUITES]
    print(shown(results))
    return 0 if all(result.fine for result in results) else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
