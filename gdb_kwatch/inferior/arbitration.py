"""The arbiter's hands in gdb: asks it for each owner's slots, and carries out what it answers.

A watchpoint without a slot is a disabled gdb breakpoint that comes back by itself; a merged one
(and a session-wide one in another inferior) is carried: a sentinel on the wider slot watches for
it, and the engine judges it by gdb's rules.  What the user must know is collected as notes, one
line a change, since breakpoint events come in the middle of commands whose output is caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gdb

from gdb_kwatch.core.arbiter import Arbiter, Refused, Request, priority_name
from gdb_kwatch.core.debugreg import SLOTS, WRITE, Piece
from gdb_kwatch.core.records import Region
from gdb_kwatch.linux import ptrace, slots

from . import faults, gdbfacts, programs
from .watch import Watch

_PROBED = 32  # threads asked about foreign users: five system calls each
_MERGED_LENGTH = 4  # what is longer has nothing to share an aligned block of 8 with


@dataclass(frozen=True, eq=False)
class Note:
    """One line for the user.  ``came``: that it stands in a slot."""

    watch: Watch
    text: str
    came: bool = False


class Arbitration:
    """One for a session."""

    def __init__(
        self,
        owners: Callable[[], Iterable[Watch]],
        follows: Callable[[Watch], bool],
        switch: Callable[[Watch, bool], bool],
        renewed: Callable[[Watch], None],
    ) -> None:
        """``owners``: all there are, legs too.  ``follows``: whether kwatch may switch one.
        ``switch`` turns a gdb.Breakpoint on or off and answers whether it is so now; ``renewed``
        hears of those that stand in a slot again."""
        self.arbiter = Arbiter(fault=lambda error: faults.report("a callback", error))
        self.owners = owners
        self.follows = follows
        self.switch = switch
        self.renewed = renewed
        # How many perf events this gdb itself has on a thread, as each user of perf counts them.
        self.own_events: list[Callable[[int], int]] = []
        # What kwatch itself watches with no watchpoint, by the name that the user knows: the
        # arbiter takes it for foreign.
        self.users: dict[str, tuple[set[gdb.Progspace], frozenset[Piece]]] = {}
        # What else is to be done once a watchpoint came or went.
        self.followers: list[Callable[[Watch], None]] = []
        # And once all have.
        self.last: list[Callable[[], None]] = []
        self._notes: list[Note] = []
        self.calls: list[Callable[[], None]] = []  # of scripts, to be made in a safe place
        self._cause: Watch | None = None
        self._lives: dict[gdb.Progspace, bool] = {}
        self._foreign: dict[gdb.Progspace, int] = {}
        self._lost: dict[gdb.Progspace, int] = {}
        self._at_null: set[gdb.Progspace] = set()  # whose gdb has watched address 0
        # How many slots of the current process gdb has lost itself (after_exec.py).
        self.lost_slots: Callable[[], int] = lambda: 0
        self._settling = False

    # Asking.

    def claim_all(self, watches: Sequence[Watch]) -> None:
        """`claim` for each: who has lost its slot on the way and got it back was not without.

        They move one by one, as when a program is relocated, and those that shared a slot stand
        in two meanwhile.
        """
        before = [(w.head, w.request is not None and w.request.installed) for w in watches]
        notes, calls = set(self._notes), self.calls
        self.calls = []
        for watch in watches:
            self.claim(watch)
        still = {w for w, held in before if held and w.request is not None and w.request.installed}
        for watch in still:
            watch.displaced = False
        listeners = {id(w.options.listener) for w in still if w.options is not None}
        self._notes = [n for n in self._notes if n in notes or n.watch not in still]
        self.calls = calls + [
            c for c in self.calls if id(getattr(c, "__self__", c)) not in listeners
        ]

    def claim(self, watch: Watch) -> None:
        """Bring what the arbiter knows of ``watch`` in line with what it watches now."""
        regions = self._claims(watch) if watch.enabled else ()
        if not regions and not watch.spans:
            self.release(watch)
            return
        self._live(watch.progspace, self._alive(watch.progspace))
        if any(piece.address == 0 for piece in watch.needs):
            self._at_null.add(watch.progspace)
        request = watch.request
        fixed = not self.follows(watch) or isinstance(watch.bp, gdbfacts.Unlisted)
        mergeable = _mergeable(watch)
        before, self._cause = self._cause, watch.head
        try:
            if request is None:
                made = self.arbiter.request(
                    () if watch.spans else regions,
                    scope=None if watch.spans else watch.progspace,
                    priority=watch.priority,
                    owner=watch.head,
                    name=watch.head.name,
                    mergeable=mergeable,
                    fixed=fixed,
                    installed=self._installed,
                    uninstalled=self._uninstalled,
                    triggered=self._triggered,
                )
                if watch.spans:
                    self.arbiter.change(made, regions=regions, program=watch.progspace)
                watch.head.request = made
                if made.installed:
                    self._call_installed(watch.head)
                elif watch.head.refused:
                    self.note(watch.head, self.why_waiting(watch.head))
                watch.head.refused = False
            elif (request.fixed, request.mergeable) != (fixed, mergeable) and not watch.everywhere:
                watch.request = None  # adoption was switched, or it is resolved at last
                self.arbiter.release(request)
                self.claim(watch)
            elif request.pieces(watch.progspace) != _pieces(regions):
                program = watch.progspace if watch.spans else None
                self.arbiter.change(request, regions=regions, program=program)
        except Refused:
            # More than the CPU has: gdb makes it a software watchpoint at resume.
            self.release(watch)
            watch.head.refused = True
        finally:
            self._cause = before

    def _claims(self, watch: Watch) -> tuple[Region, ...]:
        if watch.moves and len(watch.needs) < SLOTS and self.perf_is_there(watch.progspace):
            return (*watch.claims, Region(*SPARE))
        return watch.claims

    def perf_is_there(self, space: gdb.Progspace | None = None) -> bool:
        """Whether perf, kwatch's own or another's, holds slots of a program (None: this one)."""
        space = space or programs.selected()
        return bool(self.foreign_slots(space)) or any(
            watch.sight or not watch.in_registers
            for watch in self.owners()
            if watch.progspace == space
        )

    def release(self, watch: Watch) -> None:
        """It wants no slot any more."""
        request, watch.head.request = watch.head.request, None
        watch.head.displaced = False
        self._has_come(watch.head)
        if request is not None:
            self.arbiter.release(request)

    def prioritize(self, watch: Watch, priority: int) -> None:
        """``kwatch priority``."""
        watch.priority = priority
        if watch.request is not None:
            self._cause = watch
            try:
                self.arbiter.change(watch.request, priority=priority)
            finally:
                self._cause = None

    def lives(self, ending: gdb.Inferior | None = None) -> None:
        """Which programs have a process: only these count for session-wide ones.  ``ending``: one
        that gdb says has exited, while it still has its process ID."""
        spaces: dict[gdb.Progspace, bool] = {}
        for inferior in gdb.inferiors():
            space = programs.of(inferior)
            if space is not None:
                spaces[space] = spaces.get(space, False) or bool(
                    inferior.pid and inferior != ending
                )
        for space, alive in spaces.items():
            self._live(space, alive)
        for space in [s for s in self._lives if not s.is_valid()]:
            del self._lives[space]  # its inferior was removed
            self._foreign.pop(space, None)
            self._lost.pop(space, None)
            self._at_null.discard(space)
            self.arbiter.drop(space)

    def _live(self, space: gdb.Progspace, alive: bool) -> None:
        if self._lives.get(space) != alive:
            self._lives[space] = alive
            if not alive:
                self._foreign.pop(space, None)
                self._lost.pop(space, None)
                self._at_null.discard(space)
            self.arbiter.live(space, alive)

    def foreign_slots(self, space: gdb.Progspace) -> int:
        """How many slots of its threads are held by others than watchpoints."""
        return self._foreign.get(space, 0)

    def used(self, space: gdb.Progspace) -> list[tuple[str, frozenset[Piece]]]:
        """Which of these are kwatch's own, and for what."""
        return self._users_of(space) if self.foreign_slots(space) else []

    def _users_of(self, space: gdb.Progspace) -> list[tuple[str, frozenset[Piece]]]:
        return [(name, pieces) for name, (of, pieces) in self.users.items() if space in of]

    def strangers(self, space: gdb.Progspace) -> int:
        """And how many are nobody's that is known here."""
        known = sum(len(pieces) for _, pieces in self.used(space))
        return max(self.foreign_slots(space) - known, 0)

    def others(self, space: gdb.Progspace) -> str:
        """Who has these slots, in short."""
        names = [name for name, _ in self.used(space)]
        return ", ".join(names + [FOREIGN] * bool(self.strangers(space)))

    def _alive(self, space: gdb.Progspace) -> bool:
        return any(i.pid for i in gdb.inferiors() if programs.of(i) == space)

    def foreign_of(self, number: int) -> int:
        """`strangers` of an inferior by its number."""
        space = next((programs.of(i) for i in gdb.inferiors() if i.num == number), None)
        return self.strangers(space) if space is not None else 0

    def probe(self) -> bool:
        """Find the slots that others hold on the threads of the current program, before gdb fails
        on them at resume; True if it is not as it was.  Where nobody may know (no right to use
        perf), none are seen."""
        threads = [t for t in gdb.selected_inferior().threads() if t.is_stopped()][:_PROBED]
        found = 0
        for thread in threads:
            try:
                lwp = thread.ptid[1]
                own = sum(count(lwp) for count in self.own_events)
                found = max(found, slots.foreign(lwp, own) or 0)
            except OSError:
                continue
        space = programs.selected()
        if space in self._at_null:
            # Where a pointer was NULL: a slot of gdb's that is off again and reads 0 looks like
            # one that ptrace was never given, so there seem to be more of others'.
            known = sum(len(pieces) for _, pieces in self._users_of(space))
            found = min(found, max(known, self.foreign_slots(space)))
        if not threads or found == self.foreign_slots(space):
            return False
        self._foreign[space] = found
        self.arbiter.foreign(space, found + self._lost.get(space, 0))
        self.settle()
        return True

    def count_lost(self) -> None:
        """Find the slots that gdb itself has lost in the current program."""
        space, lost = programs.selected(), self.lost_slots()
        if lost != self._lost.get(space, 0):
            self._lost[space] = lost
            self.arbiter.foreign(space, self.foreign_slots(space) + lost)
            self.settle()

    # Carrying out.

    def settle(self) -> None:
        """Have each gdb.Breakpoint be as the arbiter has decided."""
        if self._settling:
            return
        self._settling = True
        try:
            for watch in list(self.owners()):
                self._carry_out(watch)
            for follower in self.last:
                follower()
        finally:
            self._settling = False

    def _carry_out(self, watch: Watch) -> None:
        request = watch.request
        if request is None:
            watch.carried = watch.head is not watch
            watch.pieces = watch.needs
            left = watch.refused and watch.enabled and watch.in_registers
            if left and watch.head is watch and not watch.on:
                watch.on = self.switch(watch, True)  # it has waited: software, as for any other
            return
        pieces = request.held(watch.progspace)
        if watch.head is not watch:
            watch.pieces = pieces
            return
        merged = request.merged(watch.progspace)
        came = (merged or request.installed) and not (watch.on or watch.carried)
        watch.carried, watch.pieces = merged, pieces if merged else watch.needs
        if watch.enabled and not isinstance(watch.bp, gdbfacts.Unlisted):
            # One that is left to gdb from now on, and has waited: nobody else turns it on again.
            on = request.fixed or (request.installed and not merged)
            if on != watch.on:
                watch.on = on if self.switch(watch, on) else not on
        if came:
            self.renewed(watch)
        if request.installed != watch.was_installed:
            watch.was_installed = request.installed
            for follower in self.followers:
                follower(watch)

    def _installed(self, request: Request) -> None:
        watch: Watch = request.owner
        if watch.request is not request:
            return  # it was never without
        again = " again" if watch.displaced else ""
        watch.displaced = False
        self.note(watch, f"{watch.name} installed{again}", came=True)
        self._call_installed(watch)

    def _call_installed(self, watch: Watch) -> None:
        if watch.options is not None and watch.options.listener is not None:
            self.calls.append(watch.options.listener.installed)

    def _uninstalled(self, request: Request) -> None:
        watch: Watch = request.owner
        if watch.request is not request:
            return
        watch.displaced = True
        if watch.options is not None and watch.options.listener is not None:
            self.calls.append(watch.options.listener.uninstalled)
        if self._has_come(watch):
            return
        cause = self._cause
        to = ""
        if cause is not None and cause is not watch:
            to = f" to {cause.name}"
        elif self.foreign_slots(watch.progspace):
            to = f" to {self.others(watch.progspace)}"
        name = f"{watch.name} ({priority_name(request.priority)})"
        self.note(watch, f"{name} gave up {_slots_of(watch)}{to}")

    # Telling.

    def why_waiting(self, watch: Watch) -> str:
        """For one that waits: what it needs, who holds it, what would help."""
        arbiter, request = self.arbiter, watch.request
        assert request is not None
        space = watch.progspace
        count, free = len(_pieces(watch.claims)), arbiter.free(space)
        text = f"{watch.name} waits for a slot: it needs {count} of {SLOTS}, {free} free."
        if watch.everywhere:
            text = (
                f"{watch.name} waits for a slot: it needs {count} of {SLOTS} in each inferior, "
                f"{free} free in this one."
            )
        behind = [r for r in arbiter.behind(request) if r.owner is not watch]
        return "\n".join([text, *self._held_by(behind, space)])

    def no_room(self, pieces: frozenset[Piece], priority: int) -> str:
        """Why a new watchpoint of the current program would have to wait; "" if it would not."""
        space = programs.selected()
        if any(watch.moves for watch in self.owners() if watch.progspace == space):
            pieces |= {SPARE}
        text = f"it needs {len(pieces)} of {SLOTS} hardware slots, {self.arbiter.free(space)} free"
        try:
            answer = self.arbiter.would(
                [Region(*piece) for piece in pieces], scope=space, priority=priority
            )
        except Refused:
            return text
        if answer.installed:
            return ""
        return f"{text}.\n" + "\n".join(self._held_by(answer.behind, space)).rstrip(".")

    def holders(self, watch: Watch) -> str:
        """Who holds the slots of the program of ``watch``, itself left out."""
        return self._all_holders(watch.progspace, watch)

    def all_holders(self) -> str:
        """Who holds the slots of the current program."""
        return self._all_holders(programs.selected())

    def _all_holders(self, space: gdb.Progspace, but: Watch | None = None) -> str:
        held = self.arbiter.holders(space).values()
        found = {r.owner.number: r for requests in held for r in requests if r.owner is not but}
        return "\n".join(self._held_by([found[n] for n in sorted(found)], space))

    def _held_by(self, requests: Sequence[Request], space: gdb.Progspace) -> list[str]:
        lines = []
        for other in requests:
            size = len(_pieces(other.owner.claims))
            wait = "" if other.installed else ", which came first and waits too"
            where = "" if other.owner.progspace == space else ", in another inferior"
            shared = sum(len(some) > 1 for some in self._slots_held(other))
            among = ", shared" if shared == size else f", {shared} shared" if shared else ""
            lines.append(
                f"  {other.owner.mention}  "
                f"({size} slot{'s' if size > 1 else ''}{among}{wait}{where})"
            )
        held = [(name, len(pieces)) for name, pieces in self.used(space)]
        if self.strangers(space):
            held.append((f"{FOREIGN}: {WHO}", self.strangers(space)))
        lines += [f"  {name}  ({count} slot{'s' if count > 1 else ''})" for name, count in held]
        lost = self._lost.get(space, 0)
        if lost:
            lines.append(f"  {LOST}  ({lost} slot{'s' if lost > 1 else ''})")
        if lines:
            lines.insert(0, "Held by:")
        return [*lines, *self._advice(list(requests))]

    def _slots_held(self, request: Request) -> list[tuple[Request, ...]]:
        """All holders of each slot that it holds, itself among them."""
        holders = self.arbiter.holders(request.owner.progspace).values()
        return [some for some in holders if request in some]

    def _advice(self, requests: list[Request]) -> list[str]:
        """A line about what would free a slot: one that others hold too stays in use, and one that
        waits is in the way only where there are slots enough."""
        alone = [r for r in requests if any(len(some) == 1 for some in self._slots_held(r))]
        if not any(r.installed for r in requests):
            alone = requests
        if alone:
            numbers = [r.owner.number for r in alone]
            first = next((n for n in reversed(numbers) if n > 0), numbers[-1])
            return [f"'delete {first}' or 'disable {first}' would free its share."]
        slots = [some for r in reversed(requests) for some in self._slots_held(r)]
        if not slots:
            return []
        fewest = sorted(r.owner.number for r in min(slots, key=len))
        those = " ".join(map(str, fewest))
        return [f"'delete {those}' or 'disable {those}' would free a slot."]

    def trigger(self, watch: Watch, hit: dict[str, Any]) -> None:
        """Have the script of ``watch`` hear of a hit, after what it is to hear already."""
        if watch.request is not None:
            self.arbiter.trigger(watch.request, hit)

    def _triggered(self, request: Request, hit: dict[str, Any]) -> None:
        options = request.owner.options
        if options is not None and options.listener is not None:
            self.calls.append(partial(options.listener.hit, hit))

    def take_calls(self) -> list[Callable[[], None]]:
        calls, self.calls = self.calls, []
        return calls

    def note(self, watch: Watch, text: str, came: bool = False) -> None:
        """Something that the user is to read of ``watch``."""
        self._notes.append(Note(watch, text, came))

    def drop_notes(self, watch: Watch) -> None:
        self._notes = [note for note in self._notes if note.watch is not watch]

    def _has_come(self, watch: Watch) -> bool:
        """It goes: whether the user is still to read that it has come, and now is not."""
        come = [note for note in self._notes if note.watch is watch and note.came]
        self._notes = [note for note in self._notes if note not in come]
        return bool(come)

    def take_notes(self) -> list[str]:
        """What is to be read, of those that there still are."""
        notes, self._notes = self._notes, []
        return [note.text for note in notes if note.watch.bp.is_valid()]


# Where perf holds slots of a thread, a watchpoint whose place moves needs one more that is free:
# for a moment gdb takes the new place beside the old one, and the kernel has no register for it;
# then the resume fails ("No space left on device") and the program runs on without its watchpoints.
# Where all four are gdb's own, it takes the new place only where it has let go of the old one.
SPARE = Piece(0, 1, 1 << 6)
FOREIGN = "a foreign user"
LOST = "gdb itself, for a program that has called exec: until the process ends"
WHO = "perf, or whoever else holds breakpoint slots of its threads"


def _pieces(regions: Iterable[Region]) -> frozenset[Piece]:
    return frozenset(piece for region in regions for piece in region.pieces())


def _mergeable(watch: Watch) -> bool:
    """Whether its hits can be told by value alone: a kwatch for changes of a short, fixed place.

    A local's is not: gdb would not notice the end of its scope while the breakpoint is off.
    """
    lvalue = watch.lvalue
    return (
        watch.options is not None
        and watch.head is watch
        and watch.in_registers
        and not watch.sight
        and not watch.every
        and not watch.everywhere
        and watch.access == "write"
        and lvalue is not None
        and lvalue.fixed
        and (watch.is_location or not watch.scoped)
        and len(watch.regions) == 1
        and watch.regions[0].rw == WRITE
        and watch.regions[0].length <= _MERGED_LENGTH
    )


def _slots_of(watch: Watch) -> str:
    """``DR2``, or where it is in no register: ``its slot``."""
    thread = gdbfacts.selected_thread()
    found: list[int] = []
    if thread is not None and watch.progspace == programs.selected():
        try:
            held = ptrace.debug_registers(thread.ptid[1]).pieces()
            found = [slot for slot, piece in held.items() if piece in watch.pieces]
        except OSError:
            pass
    if found:
        return " ".join(f"DR{slot}" for slot in found)
    return "its slot" if len(watch.needs) == 1 else f"its {len(watch.needs)} slots"
