"""What differs between gdbs, and small questions that only gdb can answer.

Each workaround names the version where it was seen.  Beware of gdb.execute: at its end it runs the
commands of the breakpoint at which the program stands (`bpstat_do_actions`), so between gdb's
decision to stop and the end of the stop event it must not be called: commands that ``continue``
would resume the program in the middle of it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import gdb

from gdb_kwatch.core.expression import has_side_effects, tokens_of
from gdb_kwatch.linux import ptrace

VERSION = tuple(int(n) for n in re.findall(r"\d+", gdb.VERSION)[:2])

# gdb.BP_HARDWARE_BREAKPOINT is new in gdb 11; bptype bp_hardware_breakpoint is 2 in every gdb.
HARDWARE_BREAKPOINT = getattr(gdb, "BP_HARDWARE_BREAKPOINT", 2)
WATCH_TYPES = (
    gdb.BP_WATCHPOINT,
    gdb.BP_HARDWARE_WATCHPOINT,
    gdb.BP_READ_WATCHPOINT,
    gdb.BP_ACCESS_WATCHPOINT,
)

_LOCATION = re.compile(r"^\s*-?\d+\.\d+\s.*?(0x[0-9a-f]+)", re.M)
_CODE_LOCATION = re.compile(r"^\s*\d+\.\d+\s+y\s+(0x[0-9a-f]+).*?(?: inf ([\d, ]+))?$", re.M)


def selected_thread() -> gdb.InferiorThread | None:
    """gdb.selected_thread; None too where it has ended, and gdb has yet to select another:
    SystemError, "could not find gdb thread object" (13.1, 16.3)."""
    try:
        return gdb.selected_thread()
    except SystemError:
        return None


def interpreter_is_mi() -> bool:
    """Whether this gdb was started with an MI interpreter (or DAP), or with one beside its own
    (``-ex "new-ui mi …"``, as Eclipse does).

    The command line is asked, as gdb's Python has no interpreter query on any version here.
    """
    with open("/proc/self/cmdline", "rb") as line:
        arguments = line.read().split(b"\0")
    for i, argument in enumerate(arguments):
        if re.match(rb"-{1,2}i(n(t(e(r(p(r(e(t(e(r)?)?)?)?)?)?)?)?)?)?=(mi|dap)", argument):
            return True
        if re.match(rb"\s*new-ui\s+mi", argument):
            return True
        if re.match(rb"-{1,2}i(nterpreter)?$", argument):
            return arguments[i + 1 : i + 2] != [] and arguments[i + 1][:2] in (b"mi", b"da")
    return False


def location_addresses(bp: gdb.Breakpoint) -> list[int]:
    """The addresses of a breakpoint's locations, in gdb's order; [] where it has none.

    ``gdb.BreakpointLocation`` is new in gdb 13; before, nothing tells those of a watchpoint, and
    ``maint info breakpoints`` those of others (not to be asked while gdb is about to stop: see
    `symbolic`).
    """
    if hasattr(bp, "locations"):
        found = [loc.address for loc in bp.locations]
        return [address for address in found if address is not None]
    if bp.type in WATCH_TYPES:
        return []
    try:
        text = answer(f"maint info breakpoints {bp.number}")
    except gdb.error:
        return []
    return [int(address, 16) for address in _LOCATION.findall(text)]


NO_LOCATIONS = (
    "this gdb does not tell which memory it watches where an expression chooses (?:, &&, comma)"
)


class Unlisted:
    """A hardware breakpoint as ``info breakpoints`` tells of it: gdb 10 gives Python no object
    and no event for one.  Has what a gdb.Breakpoint has, as far as kwatch looks."""

    type = HARDWARE_BREAKPOINT
    thread = task = commands = expression = None
    ignore_count = 0

    def __init__(self, number: int, temporary: bool, enabled: bool, rest: str) -> None:
        self.number = number
        self.temporary = temporary
        self.enabled = enabled
        place = re.search(r" in (\S+) at (\S+)", rest)
        self.location = place.group(1) if place else rest.split("\n")[0].strip()
        condition = re.search(r"^\tstop only if (.*)$", rest, re.M)
        self.condition = condition.group(1) if condition else None
        hit = re.search(r"already hit (\d+) time", rest)
        self.hit_count = int(hit.group(1)) if hit else 0

    def is_valid(self) -> bool:
        return True


_HARDWARE_ROW = re.compile(r"^(\d+)\s+hw breakpoint\s+(\w+)\s+([yn])(.*(?:\n\t.*)*)", re.M)


def unlisted() -> list[Unlisted]:
    """The hardware breakpoints of gdb 10; [] where Python lists them itself."""
    if VERSION >= (11, 0):
        return []
    text = answer("info breakpoints")
    return [
        Unlisted(int(number), disposition == "del", enabled == "y", rest)
        for number, disposition, enabled, rest in _HARDWARE_ROW.findall(text)
    ]


def code_addresses(bp: gdb.Breakpoint) -> list[int]:
    """Where a hardware breakpoint stands in the selected inferior; [] while it is pending."""
    inferior = gdb.selected_inferior().num
    if hasattr(bp, "locations"):
        off = _without_condition(bp)
        return [
            int(location.address)
            for location in bp.locations
            if location.address is not None
            and location.enabled
            and location.address not in off
            and inferior in (location.thread_groups or [inferior])
        ]
    try:
        text = answer(f"maint info breakpoints {bp.number}")
    except gdb.error:
        return []
    return [
        int(address, 16)
        for address, inferiors in _CODE_LOCATION.findall(text)
        if not inferiors or str(inferior) in inferiors.split(", ")
    ]


_OFF = re.compile(r"^\s*\d+\.\d+\s+N\*?\s+(0x[0-9a-f]+)", re.M)
_HITS_LEFT = re.compile(r"^\s+disable after (?:next|additional) (\d+) hits", re.M)
_RECORD = re.compile(r'~"((?:[^"\\]|\\.)*)"\n?')
_ESCAPED = re.compile(r"\\(?:([0-7]{3})|(.))")


def _without_condition(bp: gdb.Breakpoint) -> set[int]:
    """Where the condition means nothing, as in another function of the same name: gdb puts the
    breakpoint in elsewhere only, which Python is not told (``bp_location.disabled_by_cond``)."""
    if bp.condition is None or len(bp.locations) < 2 or not may_execute():
        return set()
    return {int(each, 16) for each in _OFF.findall(answer(f"info breakpoints {bp.number}"))}


def is_enabled_once(bp: gdb.Breakpoint) -> bool:
    """Whether it is to be disabled at its next stop (``enable once``), which Python is not told."""
    if bp.number < 0:
        return False  # a script's own, which no command can name
    text = answer(f"info breakpoints {bp.number}")
    return re.search(rf"^{bp.number}\s.*\bdis\s+[yn]\b", text, re.M) is not None


def parse_in(bp: gdb.Breakpoint, name: str) -> bool:
    """Have gdb parse a watchpoint that is enabled anew, in language ``name``; False where it has no
    meaning in that.  By `enable`, which forgets how many hits are left (``enable count``)."""
    if bp.number < 0:
        return False  # a script's own, which no command can name
    left = _HITS_LEFT.search(answer(f"info breakpoints {bp.number}"))
    count = f"count {left.group(1)} " if left is not None else ""
    with language(name):
        try:
            return not answer(f"enable {count}{bp.number}")
        except gdb.error:
            return True  # parsed, and then there was no slot for it


def answer(command: str) -> str:
    """What gdb answers to a command.  With ``set trace-commands on`` gdb writes the command before
    it (`print_command_trace`), which is no part of the answer."""
    text: str = gdb.execute(command, to_string=True)
    if VERSION >= (17, 0) and '~"' in text:
        text = "".join(map(_unquoted, text.splitlines(keepends=True)))
    first, _, rest = text.partition("\n")
    return rest if first.startswith("+") and first.lstrip("+") == command else text


def _unquoted(line: str) -> str:
    """A line of the answer, which gdb 18 gives to MI commands as records of its console stream:
    ``~"text\\n"``, other bytes than ASCII's in octal."""
    found = _RECORD.fullmatch(line)
    if found is None:
        return line
    text = _ESCAPED.sub(_character, found.group(1))
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _character(found: re.Match[str]) -> str:
    octal, char = found.groups()
    return chr(int(octal, 8)) if octal else {"n": "\n", "t": "\t", "r": "\r"}.get(char, char)


def hardware_allowed() -> bool:
    """``can-use-hw-watchpoints``; another script may have set it to 0."""
    return bool(gdb.parameter("can-use-hw-watchpoints"))


def inserts_at_once() -> bool:
    """Whether gdb puts a watchpoint into the registers when it is made, not when it resumes
    (``breakpoints_should_be_inserted_now``)."""
    return bool(gdb.parameter("breakpoint always-inserted")) or any(
        thread.is_running() for inferior in gdb.inferiors() for thread in inferior.threads()
    )


def can_enable() -> bool:
    """Whether gdb can turn a watchpoint on now.  Before gdb 16 that takes a frame
    (``update_watchpoint``); where the selected thread has ended, or runs, gdb prints that it
    cannot, by the watchpoint's number, and raises nothing (``enable_breakpoint_disp``)."""
    if VERSION >= (16, 0) or not gdb.selected_inferior().pid:
        return True
    try:
        gdb.selected_frame()
    except gdb.error:
        return False
    return True


def symbol_at(address: int) -> str | None:
    """gdb's ``info symbol``: the static symbol that holds ``address``, None outside of any."""
    try:
        text = answer(f"info symbol {address:#x}")
    except gdb.error:
        return None
    return None if text.startswith("No symbol") else text.strip()


_C_INTEGERS = {
    1: "unsigned char",
    2: "unsigned short",
    4: "unsigned int",
    8: "unsigned long long",
}


def symbolic(address: int) -> str:
    """``both+12``, as gdb prints inside ``<>``; "" outside of any symbol.

    By printing a pointer: gdb.execute would run the commands of the breakpoint that was hit, if
    called between the decision to stop and the stop (`bpstat_do_actions`).
    """
    pointer = gdb.Value(address).cast(integer_type(8).pointer())
    match = re.search(r"<(.*)>$", pointer.format_string(symbols=True))
    return match.group(1) if match else ""


_integers: dict[str, dict[int, gdb.Type]] = {}


def integer_type(size: int) -> gdb.Type:
    """The unsigned integer of 1, 2, 4 or 8 bytes, of the current architecture.

    ``Architecture.integer_type`` is new in gdb 12.  C's names do not parse while the language is
    Rust or Ada, so they are looked up in C; once, with the first watchpoint, as it may be asked for
    in a stop, where the language cannot be changed.
    """
    architecture = gdb.selected_inferior().architecture()
    if hasattr(architecture, "integer_type"):
        return architecture.integer_type(8 * size, False)
    name = architecture.name()
    if name not in _integers:
        _integers[name] = {each: _c_integer(each) for each in _C_INTEGERS}
    return _integers[name][size]


def _c_integer(size: int) -> gdb.Type:
    try:
        return gdb.lookup_type(_C_INTEGERS[size])
    except gdb.error:
        with language("c"):  # which lookup_type does not notice before the next call from gdb
            return gdb.parse_and_eval(f"({_C_INTEGERS[size]}) 0").type


_BEFORE_PARENTHESIS = re.compile(r"([A-Za-z_][\w.%]*)\s*\(")


def changes_program(expression: str) -> bool:
    """Whether evaluating it may change the program.  ``rooms(2)`` does not where rooms is an
    array: Fortran and Ada write subscripts so."""
    text = expression
    while has_side_effects(text):
        for found in _BEFORE_PARENTHESIS.finditer(text):
            try:
                kind = gdb.parse_and_eval(found.group(1)).type.strip_typedefs()
            except (gdb.error, RecursionError):
                continue
            if kind.code == gdb.TYPE_CODE_PTR:
                kind = kind.target().strip_typedefs()
            if kind.code in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_STRING):
                text = _in_brackets(text, found.end() - 1)
                break
        else:
            return True
    return False


def _in_brackets(text: str, start: int) -> str:
    """``text`` with [ ] for the parentheses that open at ``start``."""
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            return f"{text[:start]}[{text[start + 1 : end]}]{text[end + 1 :]}"
    return f"{text[:start]}[{text[start + 1 :]}"


def needs_frame(expression: str) -> bool:
    """Whether an expression names a local, or a member of ``this``."""
    before = ""
    for token in tokens_of(expression):
        if before not in (".", "->", "::") and (token[0].isalpha() or token[0] == "_"):
            try:
                symbol, of_this = gdb.lookup_symbol(token)
            except gdb.error:
                return False  # no frame is selected, so none can be needed
            if of_this or (symbol is not None and symbol.needs_frame):
                return True
        before = token
    return False


def is_thread_local(expression: str) -> bool:
    """Whether it names a ``__thread`` variable: static, and yet its place is computed."""
    computed = getattr(gdb, "SYMBOL_LOC_COMPUTED", None)
    for token in tokens_of(expression):
        if token[0].isalpha() or token[0] == "_":
            try:
                symbol = gdb.lookup_symbol(token)[0]
            except gdb.error:
                symbol = gdb.lookup_global_symbol(token)
            if symbol is not None and symbol.addr_class == computed and not symbol.needs_frame:
                return True
    return False


def language_now() -> str:
    """The language in which gdb parses an expression; gdb before 13 tells ``auto`` where it is the
    selected frame's."""
    if hasattr(gdb, "current_language"):
        return str(gdb.current_language())
    return str(gdb.parameter("language"))


# Between gdb's decision to stop and the end of the stop event; see above.
stopping = False
# From the stop event to the next prompt or resume.
stopped = False
_deleting = False


@contextmanager
def stop_event() -> Iterator[None]:
    """In a handler of the stop event; each says so, as nothing tells which is the last."""
    global stopping
    stopping = True
    try:
        yield
    finally:
        stopping = False


@contextmanager
def in_deletion(bp: gdb.Breakpoint) -> Iterator[None]:
    """In breakpoint_deleted.  gdb deletes what was for one stop when its stop event is over, and
    goes on through what that stop is about, commands and all (`breakpoint_auto_delete`): were they
    run now, a ``continue`` would free it, and gdb (10 to 18) ends with a segmentation fault."""
    global _deleting
    _deleting = stopped and bp.temporary
    try:
        yield
    finally:
        _deleting = False


_breakpoints = gdb.breakpoints  # kwatch's hidden ones too, see `hiding`


def may_execute() -> bool:
    """Whether gdb.execute runs nothing else now: in a stop, no breakpoint has commands."""
    if _deleting:
        return False  # what was deleted before this one may have had commands
    if not stopping:
        return True
    # Before gdb 12 not every breakpoint is known to Python.
    return VERSION >= (12, 0) and not any(bp.commands for bp in _breakpoints() or ())


@contextmanager
def speaking(name: str) -> Iterator[bool]:
    """Parse what is parsed in language ``name`` for a while, as gdb does for a breakpoint that was
    set in it (`breakpoint_re_set_one`).  False where it is another one and cannot be changed now.
    """
    now = language_now()
    if name == now:
        yield True
    elif not may_execute():
        yield name == "c" and now in ("c++", "asm", "minimal")  # much the same
    else:
        with language(name):
            yield True


@contextmanager
def language(name: str) -> Iterator[None]:
    """Use a language for a while."""
    before = gdb.parameter("language")
    gdb.execute(f"set language {name}", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set language {before}", to_string=True)


def is_memory(address: int) -> bool:
    """Whether the program has memory there."""
    try:
        gdb.selected_inferior().read_memory(address, 1)
    except gdb.MemoryError:
        return False
    return True


def memory_lvalue(address: int, size: int) -> gdb.Value:
    """A lazy lvalue of ``size`` (1, 2, 4, 8) bytes at ``address``."""
    return gdb.Value(address).cast(integer_type(size).pointer()).dereference()


def architecture() -> str:
    """gdb's name of the inferior's architecture (``i386:x86-64``, ``i386``, ``aarch64``)."""
    try:
        return str(gdb.selected_frame().architecture().name())
    except gdb.error:
        pass
    return str(gdb.selected_inferior().architecture().name())


def target_name() -> str:
    """The target below the program: ``native``, ``core``, ``remote``, ``extended-remote`` …"""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    if connection is not None:  # gdb 12
        return str(connection.type)
    try:
        text = answer("maint print target-stack")
    except gdb.error:
        return ""
    for name in ("native", "extended-remote", "remote", "core"):
        if re.search(rf"^\s*- {name} ", text, re.M):
            return name
    return ""


def is_core_file() -> bool:
    """Whether the selected inferior, which has threads and a process ID, is a core file."""
    thread = selected_thread()
    return thread is not None and not can_read_registers(thread.ptid[1]) and "core" in target_name()


def why_no_registers() -> str:
    """Why the debug registers of this target cannot be read, and what to do."""
    name = target_name()
    if "core" in name:
        return "A core file cannot be watched: there is no process.  Run or attach to a program."
    if "remote" in name:
        return (
            "kwatch reads the debug registers by ptrace, and the program is behind a remote "
            "target.\nUse gdb on that machine, or gdb's own watch here."
        )
    return (
        "The debug registers of this process cannot be read by ptrace (refused by the system, or "
        f"another kind of target: {name or 'unknown'}).\n"
        "In a container, allow SYS_PTRACE; 'kwatch doctor' tells more."
    )


def can_read_registers(lwp: int) -> bool:
    """Whether this gdb traces ``lwp`` by ptrace, so that its debug registers can be read."""
    try:
        ptrace.status(lwp)
    except OSError:
        return False
    return True
