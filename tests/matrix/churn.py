"""Random sessions: watchpoints are set, changed and deleted while programs come and go, and kwatch
must never make gdb crash, hang, or forget a sentinel.

    python3 tests/matrix/churn.py [-n STEPS] [-seconds S] [-seed N] [-session LENGTH] [-v]
    python3 tests/matrix/churn.py -soak 30

Each session is a gdb (KWATCH_GDB, default gdb) on a pseudo-terminal, and gets commands drawn at
random from the seed, which is printed. After each command kwatch's own state is compared with
gdb's, and now and then the debug registers with what their owners say. Where a session fails, its
commands are kept in a file, and run again in a gdb without kwatch to see whether that fails too:

    python3 tests/matrix/churn.py -replay FILE [-bare]

Ends with 1 if there was a failure that bare gdb does not have. Needs only gdb, a C compiler and
this Python. In another gdb:

    python3 tests/matrix/roots.py run sid python3 tests/matrix/churn.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import random
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from fixtures.build import build  # noqa: E402

GDBINIT = Path(os.environ.get("KWATCH_GDBINIT") or CHECKOUT / "gdb_kwatch" / "gdbinit.py")
SETTINGS = ("set width 0", "set height 0", "set confirm off", "set pagination off")
SETTINGS += ("set style enabled off", "set editing off", "set startup-quietly on")

# A command that takes longer is interrupted, as a user would do it; software watchpoints, record
# and a program that waits for another one are slow by nature.  Only then does gdb hang.
SETTLE = "(settle)"  # a command of ours, see Gdb.settle
PATIENCE = 4.0
HANG = 30.0

# What no user may see.
FORBIDDEN = re.compile(
    r"internal fault|the system refused|Traceback|Python Exception|Error occurred in Python"
    r"|Error while executing|\$_kwatch|internal-error|Fatal signal"
    r"|(?<!Cannot insert )(?:break|watch)point (-\d+)"  # that would be gdb's own, for code
)

# Where gdb could not insert one of the user's own, the slots that it took for its first pieces are
# never free again (``x86_handle_nonaligned_watchpoint`` takes none back; 10 to 18): any may fail.
OVERFULL = re.compile(r"Could not insert hardware (?:break|watch)point \d+\.")

# Inside gdb: what there is, for the next choice, and what is wrong with it.
FACTS = """
import gdb, json
from collections import Counter
churn_scripts = set()
def churn_script():
    "Another script's hidden watchpoint."
    try:
        churn_scripts.add(gdb.Breakpoint("alpha", gdb.BP_WATCHPOINT, gdb.WP_WRITE, True).number)
    except gdb.error as error:
        print(error)
def churn_thread():
    try:
        return gdb.selected_thread()
    except SystemError:  # "could not find gdb thread object" (13.1, 16.3): it has just ended
        return None
def churn_facts(wrong):
    thread = churn_thread()
    return {
        "numbers": [b.number for b in gdb.breakpoints() or () if b.number > 0],
        "pid": gdb.selected_inferior().pid,
        "stopped": thread is not None and thread.is_stopped(),
        "threads": [t.num for t in gdb.selected_inferior().threads()],
        "inferiors": sorted(i.num for i in gdb.inferiors()),
        "scripts": sorted(churn_scripts),
        "hardware": int(gdb.parameter("can-use-hw-watchpoints")),
        "wrong": wrong,
        "memory": churn_memory(),
    }
def churn_memory():
    return 0
def churn_check(number, settled):
    print("@@%d %s" % (number, json.dumps(churn_facts(churn_wrong(settled)))))
def churn_listed():
    return getattr(gdb.breakpoints, "__wrapped__", gdb.breakpoints)()
def churn_wrong(settled):
    return []
"""
INSIDE = """
import ctypes, gc, os
from gdb_kwatch.core.debugreg import SLOTS, pieces_of
from gdb_kwatch.inferior import gdbfacts
from gdb_kwatch.inferior.sentinels import Sentinel
from gdb_kwatch.inferior.threads import Threads
from gdb_kwatch.ui import plugin
churn_execute = gdb.execute
churn_misdeeds = []
def churn_watched_execute(command, *rest, **others):
    "gdb.execute runs the commands of the breakpoint at which the program stands."
    if not gdbfacts.may_execute():
        churn_misdeeds.append("%r is executed in a stop" % command)
    return churn_execute(command, *rest, **others)
gdb.execute = churn_watched_execute
def churn_listed():
    return getattr(gdb.breakpoints, "__wrapped__", gdb.breakpoints)()
def churn_wrong(settled):
    session = plugin.session
    registry = session.registry
    if not session.connected:
        left = [b.number for b in churn_listed() or () if isinstance(b, Sentinel)]
        return ["left behind by kwatch off: %s" % left] if left else []
    there = {b.number: b for b in churn_listed() or () if isinstance(b, Sentinel)}
    pooled = {}
    wrong = churn_misdeeds[:]
    churn_misdeeds.clear()
    for space, pool in registry.pools.items():
        if not space.is_valid():
            continue
        wanted = {p for w in registry.owners() if w.progspace == space for p in w.pieces}
        for sentinel in pool.sentinels:
            if not sentinel.is_valid():
                continue
            pooled[sentinel.number] = sentinel
            if sentinel.enabled and not wanted.issuperset(pieces_of(*sentinel.piece)):
                wrong.append("enabled with no owner: %d %s" % (sentinel.number, sentinel.piece))
        if len(pool.sentinels) > 2 * SLOTS:
            wrong.append("a pool of %d sentinels" % len(pool.sentinels))
    lost = sorted(set(there) - set(pooled) - {s.number for s in session.spent if s.is_valid()})
    if lost:
        wrong.append("sentinels in no pool: %s" % lost)
    for number, watch in registry.watches.items():
        if not watch.bp.is_valid():
            wrong.append("an owner that is gone: %d" % number)
    owned = set(registry.watches)
    for bp in gdb.breakpoints() or ():
        if bp.type not in churn_types or isinstance(bp, Sentinel) or bp.number in owned:
            continue
        if bp.thread is None:  # else its thread may have ended: gdb 13 keeps it, hidden
            wrong.append("not adopted: %d" % bp.number)
    wrong += churn_told() + churn_descriptors(session)
    if settled:
        wrong += churn_slots(session) + churn_grown(session)
    return wrong
churn_libc = ctypes.CDLL(None, use_errno=True)
churn_libc.ptrace.restype = ctypes.c_long
churn_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
def churn_peek(lwp, n):
    "DRn by PTRACE_PEEKUSER, not by kwatch's own way."
    ctypes.set_errno(0)
    value = churn_libc.ptrace(3, lwp, 848 + 8 * n, None)
    if value == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), "PEEKUSER")
    return value & (1 << 64) - 1
def churn_told():
    "`kwatch slots` says what ptrace says."
    wrong = []
    for row in json.loads(churn_execute("kwatch slots -json", to_string=True)):
        try:
            addresses = [churn_peek(row["lwp"], n) for n in range(4)]
            dr7 = churn_peek(row["lwp"], 7)
        except OSError:
            continue
        real = {}
        for n in range(4):
            if dr7 >> 2 * n & 3:
                field = dr7 >> 16 + 4 * n
                real[n] = (addresses[n], {0: 1, 1: 2, 2: 8, 3: 4}[field >> 2 & 3], field & 3)
        names = {"execute": 0, "write": 1, "access": 3}
        said = {
            s["slot"]: (int(s["address"], 16), s["size"], names[s["access"]])
            for s in row["slots"]
            if s["enabled"]
        }
        if said != real or row["dr7"] != dr7:
            wrong.append("kwatch slots says %s, DR7 %#x; ptrace %s, %#x" % (
                said, row["dr7"], real, dr7))
    return wrong
def churn_descriptors(session):
    "Without a use of perf or BPF none of their descriptors is open."
    watches = session.registry.watches.values()
    traced = [p.trace for p in session.parts if getattr(p, "trace", None) is not None]
    if any(w.sight or not w.in_registers for w in watches) or any(not t.ended for t in traced):
        return []
    kinds = ("perf_event",) if traced else ("perf_event", "bpf")  # its records are in a BPF map
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue
        if any(kind in name for kind in kinds):
            found.append(name)
    return ["descriptors are left open: %s" % sorted(found)] if found else []
def churn_memory():
    "Resident KiB of this gdb."
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
def churn_grown(session):
    "Nothing is kept of what is gone."
    gc.collect()
    alive = Counter(type(t).__name__ for t in gc.get_objects()
                    if type(t).__module__.startswith("gdb_kwatch"))
    pools = len(session.registry.pools)
    traps = len(session.engine.history.last(1000))
    most = {"Sentinel": 8 * pools + 16, "Slot": 8 * pools + 64, "Pool": pools + 2,
            "Watch": 64 + 4 * traps, "Trap": 8 + traps, "Hit": 64 + 8 * traps,
            "Touch": 64 + 8 * traps, "Plan": 64, "Request": 64 + 4 * traps}
    wrong = ["%d of %s are alive" % (alive[n], n) for n, m in most.items() if alive[n] > m]
    if churn_memory() > 400000:
        wrong.append("gdb has %d KiB of memory" % churn_memory())
    return wrong
churn_types = (gdb.BP_HARDWARE_WATCHPOINT, gdb.BP_READ_WATCHPOINT, gdb.BP_ACCESS_WATCHPOINT)
def churn_slots(session):
    thread = churn_thread()
    if thread is None or not thread.is_stopped():
        return []
    read = Threads(session).of(gdb.selected_inferior(), thread)
    if read is None:
        return []
    # Those of perf's events (kernel sight) are in no register that ptrace knows of.
    wanted = {p for p in session.registry.pieces_in_use() if p.rw <= 3}
    held = {p for p in read.layout if p is not None}
    if held == wanted or len(wanted) > SLOTS:
        return []
    name = lambda pieces: sorted("%#x+%d rw%d" % tuple(p) for p in pieces)
    return ["slots hold %s, owners say %s" % (name(held), name(wanted))]
"""


class Failure(Exception):
    """A session went wrong; the text says how."""


class Unsettled(Failure):
    """The registers are not as the owners say."""


class World:
    """What commands may name: $PROGRAMS, $SAVED, and $WAITING, a process that waits
    to be attached to."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.waiting: list[subprocess.Popen[bytes]] = []
        for name in PROGRAMS:
            build(name, programs)

    def filled(self, line: str) -> str:
        line = line.replace("$PROGRAMS", str(self.programs)).replace("$GDBINIT", str(GDBINIT))
        line = line.replace("$SAVED", str(self.folder / "saved.gdb"))
        if "$WAITING" in line:
            process = subprocess.Popen(
                [self.programs / "churn", "wait", "threads"],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.waiting.append(process)
            line = line.replace("$WAITING", str(process.pid))
        return line

    def end(self) -> None:
        for process in self.waiting:
            process.kill()
            process.wait()
        self.waiting.clear()
        # Else a later session reads what no replay of it can.
        (self.folder / "saved.gdb").unlink(missing_ok=True)


class Gdb:
    """A gdb on a pseudo-terminal, and the commands it was given."""

    def __init__(self, world: World, bare: bool = False) -> None:
        self.world = world
        self.log: list[str] = []
        self.checks = 0
        self.facts: dict[str, Any] = {}
        # After an exec gdb (10.1 to 18.1) believes that the registers still hold what they held:
        # it neither writes nor frees those slots again.
        self.executed: set[int] = set()
        self.called = False  # a function of the program's was called, and gave its value
        folder = world.folder
        inside = folder / "inside.py"
        inside.write_text(FACTS if bare else FACTS + INSIDE)
        command = [*shlex.split(os.environ.get("KWATCH_GDB", "gdb")), "-q", "-nx"]
        for setting in SETTINGS:
            command += ["-iex", setting]
        if not bare:
            command += ["-ex", f"source {GDBINIT}"]
        command += ["-ex", f"source {inside}"]
        environment = dict(os.environ, TERM="dumb", LC_ALL="C", HOME=str(folder))
        environment.pop("DEBUGINFOD_URLS", None)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environment)
        self.status: int | None = None
        self.text = ""
        self.overfull = False
        self.memory = 0  # at most, in KiB

    def give(self, line: str) -> str:
        """One command; what gdb printed until it could say how things are."""
        self.log.append(line)
        if line == SETTLE:
            self.settle()
            return self.text
        return self.check(self.world.filled(line))

    def settle(self) -> None:
        """gdb writes the registers when it resumes a thread: after a step they must be as the
        owners say.  A step may itself delete an owner, or go over one: so the last of three."""
        for attempt in range(3):
            if not self.facts["stopped"] or self.facts["pid"] in self.executed:
                return
            if re.search("Could not|The program|Cannot|aborted|record", self.check("stepi")):
                return
            with contextlib.suppress(Unsettled if attempt < 2 else ()):
                self.check(settled=True)
                return

    def check(self, line: str = "", settled: bool = False) -> str:
        """Let gdb answer how things are, after ``line``; raises Failure where it cannot."""
        self.checks += 1
        question = f"python churn_check({self.checks}, {settled})\n"
        self.send(f"{line}\n{question}" if line else question)
        self.text = ""
        start = asked = time.monotonic()
        answer = re.compile(rf"@@{self.checks} (\{{.*\}})\r?$", re.M)
        while not (found := answer.search(self.text)):
            now = time.monotonic()
            if now - start > HANG:
                raise Failure("gdb hangs")
            if now - asked > PATIENCE:
                asked = now
                self.send("\x03")
                while self.read(0.5):
                    pass  # what was typed ahead is lost with the command that is interrupted
                self.send(question)
            self.read(0.5)
        self.facts = json.loads(found.group(1))
        self.called = self.called or bool(re.search(r"^\$\d+ = 5\r?$", self.text, re.M))
        self.facts["calls"] = self.called
        self.memory = max(self.memory, self.facts["memory"])
        if "is executing new program" in self.text:
            self.executed.add(self.facts["pid"])
        # What was typed is echoed; a $_kwatch in it would be ours.
        self.overfull = self.overfull or bool(OVERFULL.search(self.text))
        for seen in FORBIDDEN.finditer(self.text):
            if seen.group(1) and self.overfull:
                continue
            if seen.group(1) is None or int(seen.group(1)) not in self.facts["scripts"]:
                raise Failure(f"gdb printed {seen.group()!r}")
        if self.facts["wrong"]:
            raise (Unsettled if settled else Failure)("; ".join(self.facts["wrong"]))
        return self.text

    def send(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.terminal, text.encode())

    def read(self, timeout: float) -> bool:
        """Take what gdb printed, False if nothing; raises Failure where gdb has ended."""
        if not select.select([self.terminal], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        if not data:
            self.wait()
            raise Failure(f"gdb ended: {self.ending()}")
        self.text += data.decode(errors="replace")
        return True

    def traceback(self) -> str:
        """Of kwatch's last fault."""
        self.text = ""
        self.send("kwatch doctor -traceback\n")
        with contextlib.suppress(Failure):
            while self.read(1):
                pass
        return self.text.strip()

    def quit(self) -> None:
        """End as a user does; raises Failure where gdb does not end well."""
        self.send("quit\n")
        start = time.monotonic()
        try:
            while time.monotonic() - start < HANG:
                self.read(0.5)
        except Failure:
            if self.status == 0:
                return
            raise
        raise Failure("gdb hangs at quit")

    def wait(self) -> None:
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def ending(self) -> str:
        assert self.status is not None
        if os.WIFSIGNALED(self.status):
            return signal.Signals(os.WTERMSIG(self.status)).name
        return f"exit code {os.WEXITSTATUS(self.status)}"

    def kill(self) -> None:
        """Programs that it traces end with it (PTRACE_O_EXITKILL)."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.terminal)


# What a session is made of.

PLACES = (
    *("s.a", "s.b", "s.c", "s.d", "s", "alpha", "beta", "wide[1]", "wide", "place[0]", "place[1]"),
    *("buffer[3]", "*(int *) buffer", "*(long *) (buffer + 3)", "*heap", "heap[1]", "heap", "mine"),
    *("library_global", "s.a + s.b", "$sp", "nothing", "n", "poke", "*heap + beta"),
    *("buffer[0]", "buffer[1]", "buffer[5]", "buffer[9]", "buffer[12]"),
    *("at->key", "at->next->key", "at->next->next->key", "at->next", "at", "nodes[1].key"),
)
FUNCTIONS = ("main", "together", "local", "poke", "worker", "on_signal", "library_store")
PROGRAMS = ("churn", "simultaneous_static")
ARGUMENTS = ("threads", "library", "fork", "signal", "kernel")
CONDITIONS = ("s.a > 1", "alpha != 2", "s.b == 0", "$_thread == 1", "n > 1", "0", "1", "")


class Maker:
    """Draws the next command; knows what gdb last said of itself."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.facts: dict[str, Any] = {}
        self.table: list[tuple[int, Callable[[], str]]] = [
            (16, self.kwatch),
            (12, self.native),
            (5, self.breakpoint),
            (8, self.change),
            (5, self.condition),
            (8, lambda: f"delete {self.number()}"),
            (1, lambda: "delete"),
            (2, self.commands),
            (18, lambda: "continue"),
            (10, self.step),
            (4, self.write),
            (4, self.look),
            (5, self.setting),
            (2, self.process),
            (2, self.inferior),
            (1, self.script),
            (3, self.record),
            (1, lambda: self.one_of(("kwatch off", "kwatch on", "kwatch off\nkwatch on"))),
        ]

    def next(self, facts: dict[str, Any]) -> str:
        self.facts = facts
        if not facts["pid"] and self.random.random() < 0.4:
            return self.run()
        weights = [weight for weight, _ in self.table]
        return self.random.choices([make for _, make in self.table], weights)[0]()

    def number(self) -> int:
        return self.one_of(self.facts["numbers"] or [1])

    def one_of(self, choices: Any) -> Any:
        return self.random.choice(list(choices))

    # One kind of command each.

    def run(self) -> str:
        names = self.random.sample(ARGUMENTS, self.random.choice((0, 0, 1, 1, 2)))
        if self.random.random() < 0.15:
            names.append("exec")
        first = self.one_of(("tbreak main\n", "tbreak poke\n", "tbreak local\n", "", ""))
        return first + " ".join(["run", *names])

    def place(self) -> str:
        return self.one_of(PLACES)

    def tail(self) -> str:
        tail = self.one_of(("", "", "", " thread 1", " thread 2"))
        if self.random.random() < 0.2:
            tail += f" if {self.one_of(CONDITIONS[:-1])}"
        return tail

    def kwatch(self) -> str:
        if self.random.random() < 0.05:
            size, start = self.one_of((1, 4, 8, 12, 32, 40)), self.one_of((0, 1, 3, 5))
            return f"kwatch -size {size} &buffer[{start}]"
        options = ("-w", "-a", "-r", "-l", "-every", "-t", "-k", "-g")
        chosen = [option for option in options if self.random.random() < 0.12]
        if self.random.random() < 0.05:
            chosen.append(self.one_of(('-log "{old} {new}"', '-do "bt 1"', "-not-from poke")))
        if self.random.random() < 0.05:
            chosen.append(f"-p {self.one_of(('background', 'normal', 'break-native', '40'))}")
        return " ".join(["kwatch", *chosen, self.place()]) + self.tail()

    def native(self) -> str:
        command = self.one_of(("watch", "watch", "rwatch", "awatch"))
        place = self.place()
        if place == "n" or (place == "mine" and not self.facts["hardware"]):
            # Where one for a local cannot be made after all (a register; can-use-hw-watchpoints 0),
            # gdb (10 to 16) frees it and leaves the breakpoint at the end of its scope pointing to
            # it: any deletion may go round in a ring for ever (``watch_command_1``).
            command = "watch"
        return f"{command} {self.one_of(('', '', '-l '))}{place}{self.tail()}"

    def breakpoint(self) -> str:
        command = self.one_of(("hbreak", "thbreak", "tbreak", "break"))
        return f"{command} {self.one_of(FUNCTIONS)}{self.tail()}"

    def change(self) -> str:
        how = ("disable", "disable", "enable", "enable", "enable once", "enable delete")
        return f"{self.one_of((*how, 'enable count 2'))} {self.number()}"

    def condition(self) -> str:
        if self.random.random() < 0.4:
            return f"ignore {self.number()} {self.one_of((0, 1, 2))}"
        return f"condition {self.number()} {self.one_of(CONDITIONS)}".rstrip()

    def commands(self) -> str:
        lines = self.random.sample(
            ("silent", "print s", "kwatch list", "info breakpoints", "continue"),
            self.one_of((0, 1, 2)),
        )
        lines.sort(key=lambda line: {"silent": 0, "continue": 2}.get(line, 1))
        return "\n".join([f"commands {self.number()}", *lines, "end"])

    def step(self) -> str:
        words = ("stepi", "nexti", "step", "next", "finish", "until", "advance poke")
        return self.one_of((*words, "continue 2", "stepi 5", "reverse-stepi"))

    def write(self) -> str:
        return self.one_of(
            (
                "set var s.a = 9",
                "set var beta = beta + 1",
                "print poke(5)",
                "print together(6)",
                "up",
                "signal 0",
                "queue-signal SIGUSR1",
                "signal SIGUSR1",
                "set var buffer[5] = buffer[5] + 1",
            )
        )

    def look(self) -> str:
        return self.one_of(
            (
                *("kwatch list", "kwatch slots", "kwatch hits", "kwatch verify", "kwatch doctor"),
                *("info breakpoints", "info watchpoints", "bt", "info threads", "info kwatch"),
            )
        )

    def setting(self) -> str:
        return self.one_of(
            (
                *("set can-use-hw-watchpoints 0", *["set can-use-hw-watchpoints 1"] * 3),
                *("set kwatch adopt off", *["set kwatch adopt on"] * 3),
                *("set kwatch history 3", "set kwatch history 100"),
                *["set kwatch kernel-conditions auto"] * 3,
                *("set kwatch kernel-conditions off", "set kwatch merge off"),
                *("set kwatch kernel on", "set kwatch kernel auto", "set kwatch kernel off"),
                *["set kwatch merge on", "set kwatch policy exact", "set kwatch policy simple"],
                *("handle SIGUSR1 nostop noprint pass", "handle SIGUSR1 stop print pass"),
                *("set follow-fork-mode child", "set follow-fork-mode parent"),
                *("set detach-on-fork off", *["set detach-on-fork on"] * 3),
                *("set follow-exec-mode new", "set follow-exec-mode same"),
                *("set scheduler-locking on", "set scheduler-locking step"),
                *["set scheduler-locking off"] * 2,
                *("set non-stop on", *["set non-stop off"] * 3),
                *("set schedule-multiple on", "set schedule-multiple off"),
                *("set language rust", *["set language auto"] * 3),
                *("set breakpoint always-inserted on", "set breakpoint always-inserted off"),
                *("set disable-randomization off", "catch fork", "catch exec", "catch unload"),
            )
        )

    def process(self) -> str:
        kind = self.random.random()
        if kind < 0.3:
            return self.run()
        if kind < 0.45:
            # With two inferiors gdb (13.1) loses the stop of starti at random, and waits for ever:
            # it asks one of them for its events, and has put this one aside (`do_target_wait`).
            starti = "starti" if len(self.facts["inferiors"]) == 1 else "kill"
            return self.one_of(("kill", "detach", "disconnect", starti))
        if kind < 0.6:
            # A checkpoint calls fork.  Where gdb cannot write the registers back after a call (13.1
            # on a processor with AMX), it knows of the child, and of the process itself no more,
            # and waits for that one's end when it is to end both (``linux_fork_killall``).
            checkpoint = "checkpoint" if self.facts["calls"] else "info checkpoints"
            # With a second thread gdb (13.1) waits in a ring for one that it has not resumed.
            record = "record full" if len(self.facts["threads"]) == 1 else "record stop"
            return self.one_of((record, "record stop", checkpoint, "restart 0"))
        if kind < 0.75:
            # With another program loaded gdb reads symbols while the process still runs, and says
            # of each of its own breakpoints too that "Selected thread is running".
            return "kill\nfile $PROGRAMS/churn\nattach $WAITING\nset var go = 1"
        if kind < 0.9:
            return f"file $PROGRAMS/{self.one_of(PROGRAMS)}"
        return self.one_of(("nosharedlibrary", "sharedlibrary", "interrupt -a", "flushregs"))

    def inferior(self) -> str:
        number = self.one_of(self.facts["inferiors"])
        thread = self.one_of(self.facts["threads"] or [1])
        return self.one_of(
            (
                *("add-inferior", "clone-inferior", f"remove-inferiors {number}"),
                *("add-inferior -exec $PROGRAMS/churn", f"kill inferiors {number}"),
                *[f"inferior {number}"] * 4,
                *(f"detach inferiors {number}", *[f"thread {thread}"] * 3),
            )
        )

    def record(self) -> str:
        place = self.one_of(("s.a", "alpha", "place[0]", "*heap", "buffer[3]", "nothing"))
        option = self.one_of(("", "", "-a ", "-k "))
        return self.one_of(
            (
                f"kwatch who {option}-for 0.3 {place}",
                *[f"kwatch trace {option}{place}"] * 3,
                *("kwatch trace summary", "kwatch trace show -n 3"),
                *["kwatch trace stop"] * 3,
                f"kwatch history {self.number()}",
                f"kwatch last {place}",
                f"kwatch priority {self.number()} {self.one_of((0, 16, 200))}",
            )
        )

    def script(self) -> str:
        return self.one_of(
            (
                "save breakpoints $SAVED\nsource $SAVED",
                "kwatch save $SAVED\nsource $SAVED",
                "python churn_script()",
                "source $GDBINIT",
                "define hook-stop\necho stopped\\n\nend",
            )
        )


def plain(line: str) -> str | None:
    """The same command for a gdb without kwatch; None where there is none."""
    words = line.split()
    if "kwatch" not in words or words[0] in ("set", "info", "commands", "python", "define"):
        return None if "set kwatch" in line or "info kwatch" in line else line
    if len(words) > 1 and words[1] in (
        "list",
        "slots",
        "hits",
        "verify",
        "doctor",
        "save",
        "off",
        "on",
        "who",
        "trace",
        "history",
        "last",
        "priority",
    ):
        return None
    command, rest = "watch", words[1:]
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        command = {"-a": "awatch", "-r": "rwatch"}.get(option, command)
        if option in ("-log", "-do"):
            rest = shlex.split(" ".join(rest))[1:]
        elif option in ("-p", "-not-from"):
            rest.pop(0)
        elif option == "-size":
            size = rest.pop(0)
            rest[0] = f"*(char (*)[{size}]) {rest[0]}"
    return " ".join([command, *rest])


def without_kwatch(lines: list[str]) -> Iterator[str]:
    for text in lines:
        kept = [plain(line) for line in text.split("\n")]
        if any(line is not None for line in kept):
            yield "\n".join(line for line in kept if line is not None)


def session(gdb: Gdb, maker: Maker, length: int, until: float) -> None:
    """One gdb's life.  Raises Failure."""
    gdb.check()
    gdb.give("file $PROGRAMS/churn")
    while len(gdb.log) < length and time.monotonic() < until:
        gdb.give(maker.next(gdb.facts))
        if len(gdb.log) % 6 == 0:
            gdb.give(SETTLE)
    if gdb.facts["stopped"] or not gdb.facts["pid"]:
        gdb.give("kwatch off")  # and nothing is left behind
        gdb.give("kwatch on")
    gdb.quit()


def replay(lines: list[str], world: World, bare: bool, verbose: bool = False) -> str | None:
    """Run the commands of a session again; how it failed, or None."""
    gdb = Gdb(world, bare)
    try:
        gdb.check()
        for line in without_kwatch(lines) if bare else lines:
            text = gdb.give(line)
            if verbose:
                print(text)
        gdb.quit()
    except Failure as failure:
        if verbose:
            print(gdb.text)
        return str(failure)
    finally:
        gdb.kill()
        world.end()
    return None


def churn(arguments: argparse.Namespace, world: World) -> int:
    """Sessions until there were enough; the number of failures that are kwatch's."""
    start = time.monotonic()
    until = start + arguments.seconds
    seed, done, sessions, failures = arguments.seed, 0, 0, 0
    kinds: Counter[str] = Counter()
    memory = 0
    while done < arguments.n and time.monotonic() < until and not (arguments.first and failures):
        maker = Maker(seed)
        gdb = Gdb(world)
        failed = None
        try:
            session(gdb, maker, min(arguments.session, arguments.n - done), until)
        except Failure as failure:
            failed = str(failure)
            if "fault" in failed or "refused" in failed:
                failed += f"\n{gdb.traceback()}"
        finally:
            gdb.kill()
            world.end()
        if failed:
            failures += report(seed, failed, gdb, world, arguments)
        memory = max(memory, gdb.memory)
        kinds.update(" ".join(line.split()[: 1 + line.startswith("kwatch")]) for line in gdb.log)
        done += len(gdb.log)
        sessions += 1
        seed += 1
    seconds = time.monotonic() - start
    print(
        f"{done} commands in {sessions} gdbs, seeds {arguments.seed} to {seed - 1}, "
        f"{seconds:.0f} s, memory at most {memory // 1024} MiB; {failures} failures",
        flush=True,
    )
    if arguments.verbose:
        print(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    return failures


def report(seed: int, failed: str, gdb: Gdb, world: World, arguments: argparse.Namespace) -> bool:
    """Tell a failure; whether it is kwatch's."""
    kept = Path(tempfile.gettempdir()) / f"kwatch-churn-{seed}.txt"
    kept.write_text("\n\n".join(gdb.log) + "\n")
    print(f"seed {seed}: {failed}\n  after: {gdb.log[-1:]}\n  commands: {kept}", flush=True)
    if arguments.verbose:
        print(gdb.text)
    if arguments.no_bare:
        return True
    bare = None
    for _ in range(3 if failed.startswith("gdb") else 1):  # what depends on its memory, or on time
        bare = bare or replay(gdb.log, world, bare=True)
    print(f"  bare gdb: {bare or 'fine'}", flush=True)
    return not bare or not failed.startswith("gdb")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("-n", type=int, default=500, help="commands in all (default: 500)")
    parser.add_argument("-seconds", type=float, default=50, help="at most (default: 50)")
    parser.add_argument("-seed", type=int, default=None, help="of the first session")
    parser.add_argument("-session", type=int, default=80, help="commands a gdb (default: 80)")
    parser.add_argument(
        "-soak", type=float, metavar="MINUTES", help="as many as fit into that time"
    )
    parser.add_argument("-replay", type=Path, help="run the commands of a failed session again")
    parser.add_argument("-programs", type=Path, help="the folder to build the programs in")
    parser.add_argument("-first", action="store_true", help="end with the first failure")
    parser.add_argument("-no-bare", action="store_true", help="replay no failure without kwatch")
    parser.add_argument("-bare", action="store_true", help="with -replay: without kwatch")
    parser.add_argument("-v", dest="verbose", action="store_true", help="show what gdb printed")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 20)
    if arguments.soak is not None:
        arguments.n, arguments.seconds = sys.maxsize, 60 * arguments.soak
    with tempfile.TemporaryDirectory(prefix="kwatch-churn-") as name:
        world = World(Path(name), arguments.programs or Path(name, "programs"))
        if arguments.replay:
            lines = arguments.replay.read_text().rstrip("\n").split("\n\n")
            said = replay(lines, world, arguments.bare, verbose=True)
            print(said or "no failure")
            return 1 if said else 0
        print(f"seed {arguments.seed}")
        return 1 if churn(arguments, world) else 0


if __name__ == "__main__":
    sys.exit(main())
