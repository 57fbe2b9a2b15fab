"""What a kwatch does at a hit beside stopping: -log, -do, and which code counts: -from, -not-from.

Where the kernel does not do it, a function in the condition does: gdb asks it at each hit, and so
does kwatch for hits that gdb missed.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import gdb

from gdb_kwatch.core.grammar import Request

from . import faults, gdbfacts
from .kernel_watch import Listed
from .left_out import left_out
from .lvalues import UNREADABLE
from .session import Session
from .watch import HIT_COUNTS, Watch

if TYPE_CHECKING:
    from .symbols import Symbols

# What a message may hold, each as it may be.
SAMPLE: dict[str, object] = {
    "old": "0",
    "new": "1",
    "thread": 1,
    "line": "a.c:1",
    "function": "f",
    "pc": "0x1",
    "number": 1,
    "expression": "a",
}
_NOT_FORMATTED = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


class Action:
    """Of one kwatch."""

    def __init__(self, watch: Watch, request: Request, symbols: Symbols) -> None:
        self.watch = watch
        self.request = request
        self.symbols = symbols
        self.told = False  # that its message cannot be written


def check(request: Request) -> None:
    """Before anything is set.  Raises gdb.GdbError."""
    from .code_ranges import code_ranges, function_ranges  # on first use: it takes time to load

    if request.log is not None:
        _check_message(request.log)
    code = (*request.only, *request.without)
    if gdb.selected_inferior().pid:
        code_ranges(code)
        return
    for name in code:
        if not function_ranges(name):
            gdb.write(f"{name} is no function here: it is looked for when the program runs\n")


def _check_message(text: str) -> None:
    """Whether it can be filled in.  Raises gdb.GdbError."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise gdb.GdbError(f"-log: {error}.") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in SAMPLE:
            fields = ", ".join(SAMPLE)
            raise gdb.GdbError(f"-log: there is no {{{name}}}; there are {fields}.")
        field = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"
        try:
            field.format(**SAMPLE)
        except _NOT_FORMATTED as error:
            raise gdb.GdbError(f"-log: {field} cannot be filled in: {_told(error)}.") from None


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {{{error.args[0]}}}"
    return "{} has no name" if isinstance(error, IndexError) else str(error).rstrip(".")


class Actions(gdb.Function):
    """Whether a hit of a kwatch with -log, -from or -not-from is to stop: (NUMBER [, CONDITION]).
    kwatch makes it the condition of such a one."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.of: dict[int, Action] = {}
        session.act = self.add
        super().__init__(HIT_COUNTS)

    def add(self, watch: Watch, request: Request) -> None:
        """Put the function into the condition of a new kwatch; its commands after -do."""
        if request.log is not None or ((request.only or request.without) and watch.in_registers):
            from .symbols import Symbols  # on first use: it takes time to load

            self.of[watch.number] = Action(watch, request, Symbols(watch.regions))
            watch.log, watch.only, watch.without = request.log, request.only, request.without
            watch.acts = True
            watch.bp.condition = watch.with_acting(request.condition)
        if request.do is not None:
            # Not by the object's attribute: gdb 10 has none for a catchpoint.
            text = f"commands {watch.number}\n{request.do}\ncontinue\nend"
            gdb.execute(text, to_string=True)

    def invoke(self, number: gdb.Value, condition: gdb.Value | bool = True) -> bool:
        try:
            return self._asked(int(number), bool(condition))
        except Exception as error:
            faults.report("a hit's action", error)
            return True

    def _asked(self, number: int, holds: bool) -> bool:
        action = self.of.get(number)
        if action is None or not action.watch.bp.is_valid() or action.watch.lvalue is None:
            return holds  # also where `save breakpoints` has written it
        pc = gdb.newest_frame().pc()
        if not holds or left_out(action.watch, pc):
            return False
        if action.request.log is None or self._is_ignored(action.watch):
            return True
        self._log(action, pc)
        return False

    def _is_ignored(self, watch: Watch) -> bool:
        """Whether the hit is one of those that `ignore` passes over: gdb counts them where the
        condition holds, and does not stop."""
        if isinstance(watch.bp, Listed):
            watch.bp.look()
        return bool(watch.bp.ignore_count > 0)

    def _log(self, action: Action, pc: int) -> None:
        """What cannot be written is told once; it is no reason to stop."""
        try:
            text = str(action.request.log).format(**self._fields(action, pc))
        except (*_NOT_FORMATTED, gdb.error) as error:
            if not action.told:
                action.told = True
                gdb.write(f"{action.watch.name}: -log: not written: {error}\n", gdb.STDERR)
            return
        gdb.write(text + "\n")

    def _fields(self, action: Action, pc: int) -> dict[str, object]:
        from .symbols import where

        watch = self.session.engine.tested(action.watch)
        lvalue, thread = watch.lvalue, gdbfacts.selected_thread()
        assert thread is not None
        old, new = UNREADABLE, UNREADABLE
        if lvalue is not None:
            old, new = lvalue.text(watch.before), lvalue.text(watch.last)
        access = action.symbols.access(pc)
        return {
            "old": old,
            "new": new,
            "thread": thread.num,
            "line": where(access, pc),
            "function": access.function or "??",
            "pc": hex(access.address or pc),
            "number": action.watch.number,
            "expression": action.watch.expression,
        }
