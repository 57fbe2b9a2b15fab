"""Setting a kwatch: check that it can be had, let gdb's own ``watch`` make it, and see it armed.

Everything that can go wrong is found before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext

import gdb

from gdb_kwatch.core.arbiter import priority_of
from gdb_kwatch.core.debugreg import SLOTS
from gdb_kwatch.core.expression import chooses, tokens_of
from gdb_kwatch.core.grammar import Request
from gdb_kwatch.core.records import ACCESS_RW, Region

from . import by_value, gdbfacts, side_effects
from .gdbfacts import language
from .kernel_setting import judged, sees_kernel, set_judged_watch, set_kernel_watch
from .lvalues import Lvalue, NotWatchable, is_reference, raw, resolve
from .session import Session
from .watch import Listener, Options, Watch
from .watches import MORE

_COMMANDS = {"write": "watch", "read": "rwatch", "access": "awatch"}
_INTEGERS = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}
_USER_SPACE = 1 << 47
_MAX_SIZE = SLOTS * 8


# Makes a gdb.Breakpoint: one of the commands above, and the expression.
Maker = Callable[[str, str], None]


def set_watch(
    session: Session,
    request: Request,
    make: Maker | None = None,
    name: str = "",
    listener: Listener | None = None,
    by_stops: bool = False,
) -> Watch:
    """Set what was asked for; returns the new watchpoint.  Raises gdb.GdbError.

    ``make``: for one that is not made by gdb's own command, and has no condition nor thread.
    ``name`` and ``listener`` are those of a script (`Options`).  ``by_stops``: each hit is to be a
    trap in gdb, so perf may not stand for it.
    """
    _check_target()
    try:
        priority = priority_of(request.priority)
    except ValueError as error:
        raise gdb.GdbError(str(error)) from None
    expression, spec = request.expression, ""
    location = request.location
    rw = ACCESS_RW[request.access]
    place: tuple[int, int] | None = None
    if request.size is not None:
        place = _place(request.expression, request.size)
        expression = _as_c(f"{place[0]:#x}", place[1])
        spec = f"-size {request.size} {request.expression}"
        location = False
        lvalue = raw(*place, rw)
        following = _following(request.expression, place, rw)
        if following is not None:
            expression, place, lvalue = following.expression, None, following
    else:
        side_effects.refuse(expression)
        if gdbfacts.VERSION < (13, 0) and chooses(expression):
            raise gdb.GdbError(
                f"{expression}: {gdbfacts.NO_LOCATIONS}.\nWatch one place at a time, or use gdb 13."
            )
        if not location and gdb.selected_inferior().pid and gdbfacts.is_thread_local(expression):
            # gdb would move it to whichever thread it evaluates it in.
            location = True
        if not location and is_reference(expression):
            # gdb would watch the pointer behind a C++ reference, which never changes.
            expression, spec = f"*&{expression}", expression
        lvalue = _resolved(expression, rw, location)
    live = bool(gdb.selected_inferior().pid)
    _check_regions(request, lvalue.regions)
    gdbs = by_stops or make is not None
    kernel = not gdbs and sees_kernel(session, request)
    if not kernel:
        _check_size(request, lvalue.regions)
    session.look()
    if location:
        spec = f"-location {request.expression}"
        if _is_static(request.expression, rw, lvalue):
            # Static storage: the plain expression names the same memory, and gdb binds it anew
            # in each process; with -location it would keep an address of the last one.
            location = False
    options = Options(request.every, spec, place, priority, request.everywhere, name, listener)
    with language("c") if place else nullcontext():
        heard = listener is not None
        judge = None if gdbs else judged(session, request, expression, location, lvalue, heard)
        if kernel:
            seen = set_kernel_watch(session, request, expression, location, options, lvalue)
        elif judge is not None and not judge.reason:
            where = expression, location, options, lvalue
            seen, judge = set_judged_watch(session, request, *where)
        else:
            seen = None
    if seen is not None:
        return seen
    if kernel:
        _check_size(request, lvalue.regions)
    with language("c") if place else nullcontext():
        watch = _make(session, request, expression, location, options, make)
    watch.judged = judge
    if watch.bp.type == gdb.BP_WATCHPOINT and live:
        watch.bp.delete()
        advice = f"'kwatch -location {request.expression}' watches the memory that it names now."
        raise gdb.GdbError(
            f"gdb would make {request.expression} a software watchpoint and single-step the "
            f"program; it was not set.{'' if request.location else chr(10) + advice}"
        )
    if watch.reason == MORE:
        watch.bp.delete()
        raise gdb.GdbError(
            f"{request.expression}: {MORE}; it was not set.\n"
            f"'kwatch -location {request.expression}' watches the memory that it names now."
        )
    session.registry.serve()
    session.spread(watch)
    session.tell_limits()
    return watch


def _is_static(expression: str, rw: int, lvalue: Lvalue) -> bool:
    """Whether an expression names static storage by itself, through no pointer and no frame."""
    return (
        lvalue.address is not None
        and resolve(expression, rw).fixed
        and gdbfacts.symbol_at(lvalue.address) is not None
        and not gdbfacts.needs_frame(expression)
    )


def _check_target() -> None:
    if not gdbfacts.hardware_allowed():
        raise gdb.GdbError(
            "can-use-hw-watchpoints is 0, so gdb would single-step the program.\n"
            "Use 'set can-use-hw-watchpoints 1' (a script may have set it), then kwatch again."
        )
    thread = gdbfacts.selected_thread()
    inferior = gdb.selected_inferior()
    architecture = gdbfacts.architecture()
    if not re.match(r"i386", architecture):
        raise gdb.GdbError(
            f"kwatch needs an x86 program with debug registers; this one is {architecture}."
        )
    if thread is None or not inferior.pid:
        return
    if thread.is_running():
        raise gdb.GdbError(
            "Cannot set a kwatch while the selected thread is running; interrupt it first."
        )
    if not gdbfacts.can_read_registers(thread.ptid[1]) and not by_value.is_remote():
        raise gdb.GdbError(gdbfacts.why_no_registers())


def _place(address: str, size: str) -> tuple[int, int]:
    """``-size N ADDRESS`` as numbers."""
    count = _number(size, "-size")
    if not 1 <= count <= _MAX_SIZE:
        raise gdb.GdbError(
            f"-size {size}: kwatch watches 1 to {_MAX_SIZE} bytes ({SLOTS} slots of 8), "
            f"not {count}."
        )
    return _number(address, "the address") & (1 << 64) - 1, count


def _following(address: str, place: tuple[int, int], rw: int) -> Lvalue | None:
    """The ``place`` as an expression that finds it again in each process, where it is in static
    storage that ``address`` names; else None."""
    text = _as_c(f"({address})", place[1])
    try:
        lvalue = resolve(text, rw)
        same = lvalue.address == place[0] and lvalue.size == place[1]
        if same and _names_storage(address) and _is_static(text, rw, lvalue):
            return lvalue
    except (gdb.error, gdb.MemoryError, NotWatchable, RecursionError):
        pass  # another language than C, say
    return None


def _names_storage(address: str) -> bool:
    """Whether it is more than a number, its type and gdb's own variables."""
    before = ""
    for token in tokens_of(address):
        if before not in (".", "->", "::") and (token[0].isalpha() or token[0] == "_"):
            try:
                gdb.parse_and_eval(f"&{token}")
            except gdb.error:  # a type, a register
                continue
            return "$" not in address
        before = token
    return False


def _as_c(address: str, size: int) -> str:
    """An expression for gdb's ``watch``, which keeps the language it was set in."""
    if size in _INTEGERS:
        return f"*({_INTEGERS[size]} *) {address}"
    return f"*(unsigned char (*)[{size}]) {address}"


def _number(text: str, what: str) -> int:
    try:
        return int(text, 0)  # in no language: Modula-2 takes no 0x, and no 48 bits either
    except ValueError:
        pass
    side_effects.refuse(text)
    try:
        value = gdb.parse_and_eval(text)
        if value.type.strip_typedefs().code == gdb.TYPE_CODE_ARRAY:
            value = value.address  # as C has it
        return int(value)
    except (gdb.error, OverflowError, ValueError) as error:
        raise gdb.GdbError(f"{what}: {text}: {error}") from None


def _resolved(expression: str, rw: int, location: bool) -> Lvalue:
    try:
        lvalue = resolve(expression, rw, location)
    except NotWatchable:
        raise
    except (gdb.error, gdb.MemoryError) as error:
        raise gdb.GdbError(str(error)) from None
    except RecursionError:
        raise gdb.GdbError(f"Expression is nested too deeply: {expression[:40]}...") from None
    return lvalue


def _check_regions(request: Request, regions: tuple[Region, ...]) -> None:
    inferior = gdb.selected_inferior()
    for region in regions:
        if region.address >= _USER_SPACE:
            raise gdb.GdbError(
                f"{region.address:#x} is not a user-space address: the debug registers of a "
                "program cannot watch the kernel's memory."
            )
        if inferior.pid and gdbfacts.hardware_allowed():
            try:
                inferior.read_memory(region.address, region.length)
            except gdb.MemoryError:
                raise gdb.GdbError(
                    f"Cannot access memory at address {region.address:#x}, so {request.expression} "
                    "cannot be watched there."
                ) from None


def _check_size(request: Request, regions: tuple[Region, ...]) -> None:
    """What no arbiter can help."""
    wanted = {piece for region in regions for piece in region.pieces()}
    if len(wanted) > SLOTS:
        size = sum(region.length for region in regions)
        raise gdb.GdbError(
            f"No hardware slot free for kwatch {request.expression}: it needs {len(wanted)} of "
            f"{SLOTS}: {size} bytes are more than the {SLOTS} slots of 8 bytes can hold.\n"
            "Watch the part of it that matters."
        )


def _make(
    session: Session,
    request: Request,
    expression: str,
    location: bool,
    options: Options,
    make: Maker | None,
) -> Watch:
    """gdb's own ``watch``, and what the registry made of it."""
    line = [_COMMANDS[request.access], "-location" if location else "", expression]
    if request.condition is not None:
        line.append(f"if {request.condition}")
    for word, value in (("thread", request.thread), ("task", request.task)):
        if value is not None:
            line.append(f"{word} {value}")
    registry = session.registry
    registry.making = options
    registry.made = None
    try:
        if make is not None:
            make(line[0], " ".join(part for part in line[1:] if part))
        else:
            gdb.execute(" ".join(part for part in line if part), to_string=True)
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from None
    finally:
        registry.making = None
    watch = registry.made
    if watch is None:
        raise gdb.GdbError(f"gdb set no watchpoint for {request.expression}.")
    if request.temporary:
        try:
            gdb.execute(f"enable delete {watch.number}", to_string=True)
        except gdb.error as error:  # ``breakpoint always-inserted``, and no slot
            watch.bp.delete()
            raise gdb.GdbError(str(error)) from None
    return watch
