"""The ``kwatch`` command and its subcommands.

``kwatch`` is a prefix command that also takes an expression.  gdb would take a variable ``v`` for
``verify`` cut short: so each proper beginning of a subcommand's name is a hidden command of its
own that watches the variable.  One called just as a subcommand is reached by ``kwatch -- list``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import gdb

from gdb_kwatch.core.arbiter import PRIORITIES, priority_of
from gdb_kwatch.core.grammar import OPTIONS, UsageError, parse
from gdb_kwatch.inferior import faults, gdbfacts, hit_actions
from gdb_kwatch.inferior.session import Session
from gdb_kwatch.inferior.setting import set_watch

from .report import count_of
from .views import Views, write_out


class Kwatch(gdb.Command):
    """Set a hardware watchpoint, and miss none of its hits.
    Usage: kwatch [-w|-a|-r] [-k] [-l|-location] [-every] [-t] [-g] [-p PRIORITY] [-size N]
                  EXPRESSION [thread ID] [if COND]

    A kwatch stops execution of your program whenever the value of EXPRESSION
    changes, as gdb's "watch" does.  When one instruction hits several watchpoints,
    all of them are reported, gdb's own included, where gdb reports one.

    Options:
      -w            Stop when the value changes; the default.
      -a            Stop at every read or write of it ("awatch").
      -r            Stop at every read of it ("rwatch"): x86 traps reads and writes
                    alike, and one that leaves the value as it was is taken for a read.
      -every        Stop at every write, also of the same value.
      -k            See the kernel's accesses too: a system call that touches it stops
                    the program on its way out.  Needs the right to use perf.
      -l, -location Watch the memory that EXPRESSION names now.
      -size N       EXPRESSION is an address; watch the N bytes there.
      -t            Delete it at its first stop.
      -log TEXT     Write a message at each hit and go on: {old}, {new}, {thread}, {line},
                    {function}, {pc}, {number} and {expression} are filled in.
      -do COMMANDS  Run gdb commands ("bt 3; info locals") at each hit, and go on.
      -from CODE, -not-from CODE
                    Count accesses by this function or library only, or all but these.
      -g            Watch in all inferiors, those to come included.
      -p PRIORITY   background, normal (the default), native (as gdb's own), break-native
                    or a number from 0 to 255: who holds the slots where there are too few.
      --            End of options and of subcommands: "kwatch -- list" watches `list'.

    A kwatch is a gdb breakpoint: "delete", "disable", "enable", "condition", "ignore",
    "commands" and "info watchpoints" work on it by its number.  It takes one of the
    four debug registers for each aligned piece of 1, 2, 4 or 8 bytes.  Where none is free,
    one of lower priority gives up its own, or the kwatch waits; you are told, and what
    waits is installed when a slot is free."""

    def __init__(self, session: Session) -> None:
        super().__init__("kwatch", gdb.COMMAND_BREAKPOINTS, prefix=True)
        self.tracing: Any = None  # what ``kwatch trace`` has, once it was used
        self.session = session
        hit_actions.Actions(session)

    def complete(self, text: str, word: str | None) -> list[str]:
        return completions(text, word)

    @faults.as_errors()
    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        self.set(argument)

    def set(self, argument: str) -> None:
        """Set the kwatch that a command line asks for, and answer as ``watch`` does."""
        check_on(self.session)
        try:
            request = parse(argument)
        except UsageError as error:
            raise gdb.GdbError(str(error)) from None
        if request.acts:
            hit_actions.check(request)
        watch = set_watch(self.session, request)
        if request.acts:
            self.session.act(watch, request)
        gdb.write(f"{watch.mention}\n")
        self.session.at_change(watch)


def check_on(session: Session) -> None:
    if not session.connected:
        raise gdb.GdbError("kwatch is off; 'kwatch on' puts it back.")


# What a subcommand takes.
NOTHING, FILE, NUMBER, PRIORITY, EXPRESSION = "", "file", "number", "priority", "expression"


class Subcommand(gdb.Command):
    """What the subcommands share: one word below ``kwatch``, and its arguments.

    ``always``: whether it is of use while kwatch is off.
    """

    word = ""
    always = False
    options: tuple[str, ...] = ("-json",)
    takes = NOTHING

    def __init_subclass__(cls) -> None:
        if "invoke" in cls.__dict__:
            cls.invoke = faults.as_errors()(cls.invoke)  # type: ignore[method-assign]

    def __init__(self, kwatch: Kwatch, views: Views) -> None:
        super().__init__(f"kwatch {self.word}", gdb.COMMAND_BREAKPOINTS)
        self.kwatch = kwatch
        self.session = kwatch.session
        self.views = views

    def complete(self, text: str, word: str | None) -> list[str] | int:
        words = text.split(" ")
        if words[-1].startswith("-"):
            return option_completions(words[-1], word, self.options_now(words[:-1]))
        takes = self.takes_now(words[:-1])
        if takes == FILE:
            return gdb.COMPLETE_FILENAME if word is None else file_completions(words[-1], word)
        if takes == EXPRESSION:
            return completions(text, word)
        offered: Iterable[str] = ()
        if takes == NUMBER:
            offered = (str(n) for n in sorted(self.session.registry.watches) if n > 0)
        elif takes == PRIORITY:
            offered = PRIORITIES
        return option_completions(words[-1], word, tuple(offered))

    def takes_now(self, before: list[str]) -> str:
        """What may come after these words of it, for completion."""
        return self.takes

    def options_now(self, before: list[str]) -> tuple[str, ...]:
        """The same of options."""
        return self.options

    @faults.as_errors()
    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        if argument[:1] and argument[0] in _GOES_ON:
            self.kwatch.set(joined(self.word, argument))  # `list[0]` is an expression
        else:
            if not self.always:
                check_on(self.session)
            self.run(gdb.string_to_argv(argument))

    def run(self, words: list[str]) -> None:
        raise NotImplementedError

    def usage(self) -> gdb.GdbError:
        """The usage lines of the help text, as an error."""
        lines = (self.__doc__ or "").split("\n")
        first = next(n for n, line in enumerate(lines) if "Usage:" in line)
        indent = lines[first].index("Usage:")  # Python 3.13 takes it away
        usage = takewhile(str.strip, lines[first:])
        return gdb.GdbError("\n".join(line[indent:] for line in usage))


class Json(Subcommand):
    """One that takes ``-json [FILE]``."""

    def takes_now(self, before: list[str]) -> str:
        return FILE if before[-1:] == ["-json"] else NOTHING

    def json_file(self, words: list[str]) -> tuple[bool, str | None]:
        """``[-json [FILE]]`` and nothing else."""
        if not words:
            return False, None
        if words[0] != "-json" or len(words) > 2 or any(w.startswith("-") for w in words[1:]):
            raise self.usage()
        return True, words[1] if len(words) == 2 else None


class List(Json):
    """Show the owners of debug registers: kwatches, and gdb's own.
    Usage: kwatch list [-json [FILE]]

    For each: its number and kind, its state, the slots it stands in and on how many of
    the threads ("armed n/m"), what it watches, and how often that was touched.  The count
    of hits is kwatch's own; gdb cannot raise its own for a hit that it missed.
    "info kwatch" is the same."""

    word = "list"

    def run(self, words: list[str]) -> None:
        json, filename = self.json_file(words)
        if json:
            write_out(self.views.list_json(), filename)
        else:
            gdb.write(self.views.list_text())


class Slots(Json):
    """Show the debug registers of the selected thread as the CPU has them.
    Usage: kwatch slots [-json [FILE]]

    DR0 to DR3 with their owners, DR6 and DR7.  Threads whose slots differ are named.
    With -json, one object for each thread."""

    word = "slots"

    def run(self, words: list[str]) -> None:
        json, filename = self.json_file(words)
        if json:
            write_out(self.views.slots_json(), filename)
        else:
            gdb.write(self.views.slots_text())


class Hits(Json):
    """Show the traps of this session and the watchpoints that each one hit.
    Usage: kwatch hits [-n COUNT] [-json [FILE]]

    The oldest comes first; -n shows the last COUNT traps only.  "set kwatch history"
    says how many are kept.  With -json, the traps as JSON, with a FILE into that."""

    word = "hits"
    always = True
    options = ("-n", "-json")

    def run(self, words: list[str]) -> None:
        count: int | None = None
        json = False
        filename: str | None = None
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "-n":
                if not rest or not rest[0].isdigit():
                    raise gdb.GdbError("-n requires an argument: how many traps to show.")
                count = int(rest.pop(0))
            elif word == "-json" and not json:
                json = True
                if rest and not rest[0].startswith("-"):
                    filename = rest.pop(0)
            else:
                raise self.usage()
        if json:
            write_out(self.views.hits_json(count), filename)
        else:
            gdb.write(self.views.hits_text(count))


class Verify(Subcommand):
    """Show that watchpoints really stand in the registers, so that no hits is evidence.
    Usage: kwatch verify [NUMBER]...

    For each watchpoint, on how many of the threads it is in the debug registers; then a
    canary: a throwaway process makes one known store under a debug register and must trap."""

    word = "verify"
    takes = NUMBER
    options = ()

    def run(self, words: list[str]) -> None:
        gdb.write(self.views.verify([number_of(word) for word in words]))


class Priority(Subcommand):
    """Change who holds the debug registers where there are too few.
    Usage: kwatch priority NUMBER PRIORITY

    PRIORITY is background (0), normal (16, a kwatch's default), native (128, gdb's own
    watchpoints and hardware breakpoints), break-native (192), or a number from 0 to 255.
    A watchpoint displaces those of lower priority only, the lowest first, then the newest."""

    word = "priority"
    options = ()

    def takes_now(self, before: list[str]) -> str:
        return PRIORITY if before else NUMBER

    def run(self, words: list[str]) -> None:
        if len(words) != 2:
            raise self.usage()
        number = number_of(words[0])
        watch = {w.number: w for w in self.views.watches()}.get(number)
        if watch is None:
            raise gdb.GdbError(f"No hardware watchpoint number {number}.")
        try:
            priority = priority_of(words[1])
        except ValueError as error:
            raise gdb.GdbError(str(error)) from None
        self.session.prioritize(watch, priority)


class Doctor(Subcommand):
    """Check what kwatch needs: gdb, the system, the program; and say what to mend.
    Usage: kwatch doctor [-traceback]

    With -traceback, the Python traceback of the last internal fault."""

    word = "doctor"
    always = True
    options = ("-traceback",)

    def run(self, words: list[str]) -> None:
        if words == ["-traceback"]:
            gdb.write(faults.last() or "No internal fault in this session.\n")
            return
        if words:
            raise self.usage()
        from . import doctor

        gdb.write(doctor.text(doctor.facts(self.session)))


class Save(Subcommand):
    """Save the kwatches, with their options, as a script for "source".
    Usage: kwatch save FILE

    gdb's own "save breakpoints" keeps them too, as plain watchpoints."""

    word = "save"
    takes = FILE
    options = ()

    def run(self, words: list[str]) -> None:
        if len(words) != 1 or words[0].startswith("-"):
            raise gdb.GdbError("Argument required (file name in which to save)")
        from .saving import script

        path = os.path.expanduser(words[0])
        text = script(self.views.watches())
        if not text:
            gdb.write("Nothing to save.\n")
            return
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise gdb.GdbError(
                f"Unable to open file '{path}' for saving ({error.strerror})"
            ) from None
        gdb.write(f"Saved to file '{path}'.\n")


class Off(Subcommand):
    """Take kwatch out of gdb, until "kwatch on".
    Usage: kwatch off

    Its hidden watchpoints, its hooks and all that runs at an event go.  Kwatches stay as
    gdb's own watchpoints, which report as gdb does and miss what gdb misses."""

    word = "off"
    always = True
    options = ()

    def run(self, words: list[str]) -> None:
        if words:
            raise self.usage()
        if not self.session.connected:
            gdb.write("kwatch is off already.\n")
            return
        watches = list(self.session.registry.watches.values())
        count = sum(w.options is not None for w in watches)
        kernel = sum(not w.in_registers for w in watches)
        self.session.disconnect()
        stay = f"; {count_of(count, 'kwatch', 'kwatches')} left to gdb" if count else ""
        gdb.write(f"kwatch is off{stay} ('kwatch on' puts it back).\n")
        off = [str(w.number) for w in watches if w.enabled and not w.on]
        if off:
            gdb.write(f"Disabled until then, with no slot of their own: {', '.join(off)}.\n")
        if kernel:
            what = "sees the kernel or is tested there, and watches"
            if kernel > 1:
                what = "see the kernel or are tested there, and watch"
            gdb.write(f"{kernel} of these {what} nothing until 'kwatch on'.\n")


class On(Subcommand):
    """Put kwatch back after "kwatch off".
    Usage: kwatch on

    It looks after the watchpoints that are there now; kwatches that gdb still has are
    kwatches again, with their options."""

    word = "on"
    always = True
    options = ()

    def run(self, words: list[str]) -> None:
        if words:
            raise self.usage()
        if self.session.connected:
            gdb.write("kwatch is on already.\n")
            return
        self.session.connect()
        count = len(self.session.registry.watches)
        found = f"; {count_of(count, 'watchpoint')} looked after" if count else ""
        gdb.write(f"kwatch is on{found}.\n")


class WhoCommand(Subcommand):
    """Show which instructions touch a place, while the program runs at full speed.
    Usage: kwatch who EXPRESSION [-a] [-k] [-for SECONDS] [-from CODE] [-not-from CODE]
                      [-json] [if COND]
           kwatch who N

    Resumes the program; when it stops, or after so many SECONDS, there is one row for each
    instruction that wrote to EXPRESSION's memory: how often, by which threads, its place, and
    the first and the last value.  "kwatch who N" shows row N's first backtrace and the
    registers of its last hit.

    Options:
      -a             Reads, too.
      -k             Also what the kernel does in system calls.
      -for SECONDS   Stop the program after so long.
      -from CODE     Only accesses by this function or library; may be given again.
      -not-from CODE Without those by this function or library; may be given again.
      -json          The rows as JSON.
      if COND        Only accesses at which COND holds; $old and $new are the values.

    The kernel counts (perf events and BPF); where that is not allowed, gdb stops at each hit
    and goes on, and you are told what it costs."""

    word = "who"
    takes = EXPRESSION
    options = ("-a", "-k", "-for", "-from", "-not-from", "-json")

    def __init__(self, kwatch: Kwatch, views: Views) -> None:
        super().__init__(kwatch, views)
        self.who: Any = None

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        if argument[:1] and argument[0] in _GOES_ON:
            self.kwatch.set(joined(self.word, argument))
            return
        if not argument:
            raise self.usage()
        check_on(self.session)
        if self.who is None:
            from .who import Who

            self.who = Who(self.session)
        self.who.invoke(argument, from_tty)


# The words of "kwatch trace", with their options.
_OF_TRACE: dict[str, tuple[str, ...]] = {
    "summary": (),
    "show": ("-n", "-thread", "-line", "-function"),
    "export": (),
    "stop": (),
}


class TraceCommand(Subcommand):
    """Record every access of a place while the program runs at full speed.
    Usage: kwatch trace EXPRESSION... [-a] [-k] [-stack N] [-for SECONDS | -count N]
                        [-from CODE] [-not-from CODE] [-spill FILE] [if COND]
           kwatch trace [summary | stop]
           kwatch trace show [-n COUNT] [-thread N] [-line [FILE:]LINE] [-function NAME]
           kwatch trace export FILE

    Begins a trace; "continue" then runs the program, and no access stops it.  Ctrl-C stops
    the program, not the trace.  Each record has the time, the thread, the instruction and the
    old and new value.

    Options:
      -a             Reads, too.
      -k             Also what the kernel does in system calls.
      -stack N       With the N innermost callers (by frame pointers).
      -for SECONDS   End it when the program has run so long.
      -count N       End it after N records.
      -from CODE     Only accesses by this function or library; may be given again.
      -not-from CODE Without those by this function or library; may be given again.
      -spill FILE    Keep the records in FILE, without a limit, and not in memory.
      if COND        Only accesses at which COND holds; $old and $new are the values.

    export writes a file by its suffix: .json (lines), .csv, .perfetto.json or .trace.json
    (Perfetto, chrome://tracing), .folded (flame graphs)."""

    word = "trace"
    takes = EXPRESSION
    options = ("-a", "-k", "-stack", "-for", "-count", "-from", "-not-from", "-spill")

    def __init__(self, kwatch: Kwatch, views: Views) -> None:
        super().__init__(kwatch, views)
        self.tracing: Any = None  # made when it is first used

    def complete(self, text: str, word: str | None) -> list[str] | int:
        offered = super().complete(text, word)
        if isinstance(offered, list) and text and " " not in text:
            return option_completions(text, word, tuple(_OF_TRACE)) + offered
        return offered

    def takes_now(self, before: list[str]) -> str:
        if before[:1] == ["export"]:
            return FILE if len(before) == 1 else NOTHING
        if before[-1:] == ["-spill"]:
            return FILE
        return NOTHING if before and before[0] in _OF_TRACE else self.takes

    def options_now(self, before: list[str]) -> tuple[str, ...]:
        return _OF_TRACE.get(before[0], self.options) if before else self.options

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        if argument[:1] and argument[0] in _GOES_ON:
            self.kwatch.set(joined(self.word, argument))
            return
        check_on(self.session)
        if self.tracing is None:
            from .trace import Tracing

            self.tracing = self.kwatch.tracing = Tracing(self.session)
        self.tracing.invoke(argument, from_tty)


class ChangesCommand(Subcommand):
    """Show the changes of a watched place, from what was recorded.
    Usage: kwatch history NUMBER [-all]

    One row for each change: when, by which thread, where, from what to what; repeats are
    folded.  From the traps of watchpoint NUMBER (see "kwatch hits"), and from the trace of the
    same expression where there is one (see "kwatch trace").  Nothing is run again.
    With -all also those of earlier runs of the program."""

    word = "history"
    takes = NUMBER
    options = ("-all",)

    def takes_now(self, before: list[str]) -> str:
        return NOTHING if before else NUMBER

    def run(self, words: list[str]) -> None:
        rest = [word for word in words if word != "-all"]
        if len(rest) != 1 or not rest[0].isdigit():
            raise self.usage()
        from .changes import Changes

        changes = Changes(self.session, self.kwatch.tracing, "-all" in words)
        gdb.write(changes.of_watch(int(rest[0])))


class LastCommand(Subcommand):
    """Show the last change of a place, from what was recorded.
    Usage: kwatch last EXPRESSION

    From watchpoints and traces of the memory that EXPRESSION names.  Nothing is run again."""

    word = "last"
    takes = EXPRESSION
    options = ()

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        if argument[:1] and argument[0] in _GOES_ON:
            self.kwatch.set(joined(self.word, argument))
            return
        if not argument:
            raise self.usage()
        check_on(self.session)
        from .changes import Changes

        gdb.write(Changes(self.session, self.kwatch.tracing).last(argument))


class InfoKwatch(gdb.Command):
    """Show the owners of debug registers: kwatches, and gdb's own.
    Usage: info kwatch [-json [FILE]]

    The same as "kwatch list"."""

    def __init__(self, same: Subcommand) -> None:
        super().__init__("info kwatch", gdb.COMMAND_STATUS)
        self.same = same

    def complete(self, text: str, word: str | None) -> list[str] | int:
        return self.same.complete(text, word)

    @faults.as_errors()
    def invoke(self, argument: str, from_tty: bool) -> None:
        gdb.execute(f"kwatch list {argument}", from_tty)


class Beginning(gdb.Command):
    """Watch the variable of this name."""

    def __init__(self, kwatch: Kwatch, word: str) -> None:
        super().__init__(f"kwatch {word}", gdb.COMMAND_OBSCURE, gdb.COMPLETE_EXPRESSION)
        self.kwatch = kwatch
        self.word = word
        self.ready = False
        # A deprecated command stands in no help and no completion.  gdb warns at its first use:
        # let that be now, unseen.
        gdb.execute(f"maintenance deprecate kwatch {word}", to_string=True)
        gdb.execute(f"kwatch {word}", to_string=True)
        self.ready = True

    @faults.as_errors()
    def invoke(self, argument: str, from_tty: bool) -> None:
        if self.ready:
            self.dont_repeat()
            self.kwatch.set(joined(self.word, argument))


_GOES_ON = "[+%<>=!|^?,"


def joined(word: str, argument: str) -> str:
    """A word and what followed it, as one expression again."""
    return word + argument if argument.startswith("[") else f"{word} {argument}".strip()


def number_of(word: str) -> int:
    """The number of a breakpoint, as gdb takes it: a number or a convenience variable."""
    if re.fullmatch(r"[0-9]+", word):
        return int(word)
    if re.fullmatch(r"\$\w+", word):
        with contextlib.suppress(gdb.error):
            return int(gdb.parse_and_eval(word))
    raise gdb.GdbError(f"Bad breakpoint number '{word}'")


# gdb asks for completions with word None first, to learn where words break.
def option_completions(text: str, word: str | None, options: tuple[str, ...]) -> list[str]:
    """What may stand for ``word``, the last part of ``text`` by gdb's breaking of words."""
    start = len(text) - len(word or "")
    return [option[start:] for option in options if option.startswith(text)]


def file_completions(text: str, word: str) -> list[str]:
    """As gdb's COMPLETE_FILENAME, which takes all words of a command for one name."""
    names = _files(text)
    if len(names) == 1 and names[0].endswith("/"):
        # With what is in it: gdb puts a blank behind the only completion.
        names += _files(names[0])
    return option_completions(text, word, tuple(names))


def _files(text: str) -> list[str]:
    """The names that begin so, folders with a slash."""
    folder, slash, start = text.rpartition("/")
    place = os.path.expanduser(folder + slash)
    try:
        found = sorted(os.listdir(place or "."))
    except OSError:
        return []
    return [
        folder + slash + name + "/" * os.path.isdir(place + name)
        for name in found
        if name.startswith(start) and (start or name[0] != ".")
    ]


def completions(text: str, word: str | None) -> list[str]:
    """Completions of a ``kwatch`` line: options, then what gdb's ``watch`` would offer."""
    if word is None:
        return []
    before, last = ["", *text.split(" ")][-2:]
    if before == "-p":
        return option_completions(last, word, PRIORITIES)
    offered = option_completions(last, word, OPTIONS) if last.startswith("-") else []
    if offered:
        return offered
    line = f"watch {last}"
    found = gdbfacts.answer(f"complete {line}").split("\n")
    start = len(line) - len(word or "")
    return [text[start:] for text in found if text.startswith(line)]


SUBCOMMANDS = (
    *(List, Slots, Hits, Priority, Verify, Doctor, Save),
    *(WhoCommand, TraceCommand, ChangesCommand, LastCommand, Off, On),
)


def define(session: Session) -> None:
    """Register ``kwatch`` and what stands below it."""
    kwatch = Kwatch(session)
    views = Views(session)
    commands = {subcommand.word: subcommand(kwatch, views) for subcommand in SUBCOMMANDS}
    words = list(commands)
    beginnings = {word[:n] for word in words for n in range(1, len(word))}
    for word in sorted(beginnings.difference(words)):
        Beginning(kwatch, word)
    InfoKwatch(commands["list"])
