"""Which instruction made a watched access: the trap comes after it, so the PC is one too far.

The trap is delivered when the accessing instruction has ended and before the next one starts (Intel
SDM vol. 3B, "Data Memory and I/O Breakpoint Exception Conditions"). So the PC is one of

1. the instruction after it by address: all but the cases below;
2. the instruction itself: a `rep` string instruction that is not done yet;
3. the target of a control transfer that touches memory:
   3.a a call, which writes its return address,
   3.b a return, which reads the PC's own value from the stack,
   3.c a jump through memory, which reads the PC's own value there.

Each case is held against the registers and the bytes that were hit, and an instruction is called
certain only where no other case can hold. This is done for traps that are shown, not for silent
ones: it may cost milliseconds, and its limits keep it from costing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import gdb

from gdb_kwatch.core.debugreg import EXECUTE, WRITE
from gdb_kwatch.core.instruction import memory_accesses
from gdb_kwatch.core.records import Region

from .machine_code import (
    AGREED,
    CODE_LIMIT,
    GUESSED,
    KNOWN,
    Decoded,
    MachineCode,
    NotX86,
    symbol_of,
)

__all__ = ["Access", "find_access"]

# Instructions visited in search of a called function's returns and jumps.
WALK_LIMIT = 400
# `ret N` drops at most so many bytes of arguments.
MOST_ARGUMENTS = 256
NO_BOUNDARY = "no symbol tells where instructions begin here"


class Access(NamedTuple):
    """The instruction that made an access, where it can be told.

    address, text: the instruction, in the user's disassembly flavor; None where it is not known
    function: the function around it, inlined ones included, as gdb's frame line names it
    symbol: `function+offset`, as gdb's x/i has it between < and >; "" where there is none
    fullname, filename, line: its source line; None where gdb has none
    certain: no other instruction can have made the access
    reason: why it is not known or not certain; completes "cannot be told: "
    """

    address: int | None = None
    text: str | None = None
    function: str | None = None
    symbol: str = ""
    fullname: str | None = None
    filename: str | None = None
    line: int | None = None
    certain: bool = False
    reason: str = ""


class _Candidate(NamedTuple):
    """An instruction that may have made the access.

    touches: its operand is on the watched bytes; False: its address cannot be computed any more
    doubt: why it may not be an instruction there, or may not have run; "" for none
    """

    code: Decoded
    touches: bool = True
    doubt: str = ""


def find_access(pc: int, regions: Sequence[Region] = (), live: bool = True) -> Access:
    """The instruction whose access made the selected thread trap with its PC at `pc`.

    regions: the watched bytes that were hit; what an instruction touched is compared with them
    live: the thread still stands at that trap; without its registers only the code can be asked

    Never raises: what goes wrong is the reason of an unknown access.
    """
    try:
        return _Search(MachineCode(pc, live), pc, regions).access()
    except NotX86 as error:
        return Access(reason=f"{error} is not an x86 program")
    except Exception as error:  # gdb.error, and whatever a damaged program makes of its symbols
        return Access(reason=f"gdb cannot read the code here ({error})")


def touched(pc: int, regions: Sequence[Region], slots: Sequence[Region]) -> list[bool | None]:
    """For each of `regions` whether the access that made the selected thread trap with its PC at
    `pc` touched it; None where that cannot be told.  `slots` are what trapped, and hold the
    regions.  Never raises."""
    try:
        search = _Search(MachineCode(pc, live=True), pc, slots)
        candidates = list(search._candidates())
        if len(candidates) == 1 and not candidates[0].doubt:
            return [search.touches_one(candidates[0].code, region) for region in regions]
    except Exception:  # gdb.error, NotX86, and whatever a damaged program makes of its symbols
        pass
    return [None] * len(regions)


class _Search:
    """The cases of this module's head, for one trap."""

    def __init__(self, code: MachineCode, pc: int, regions: Sequence[Region]) -> None:
        self.code = code
        self.pc = pc
        self.regions = [one for one in regions if one.rw != EXECUTE]
        self.before = code.before(pc)
        self.why_not = ""

    def access(self) -> Access:
        candidates = list(self._candidates())
        candidates.sort(key=lambda one: not one.touches)
        if not candidates:
            return self._system_call() or Access(reason=self.why_not or self._why_unknown())
        first, *others = candidates
        if others:
            return _described(first.code, f"`{others[0].code.brief}` may have made it as well")
        return _described(first.code, first.doubt)

    def _candidates(self) -> Iterator[_Candidate]:
        yield from self._linear()
        yield from self._repeated()
        if self.code.live:
            yield from self._calls()
            if self._returned():
                yield from self._returns()
            else:
                yield from self._jumps()

    # 1.
    def _linear(self) -> Iterator[_Candidate]:
        for code, evidence in self.before:
            touches = self._touches(code) if code.insn.falls_through else False
            if touches is False:
                continue
            # A guess counts only with an operand on the watched bytes; where all starts agree, that
            # operand takes the last doubt away.
            if touches or evidence != GUESSED:
                doubt = "" if evidence == KNOWN or (touches and evidence == AGREED) else NO_BOUNDARY
                if not touches and not self._no_jump():
                    doubt = doubt or "a jump through the watched bytes may have led here"
                yield _Candidate(code, bool(touches), doubt)
                return

    # 2.
    def _repeated(self) -> Iterator[_Candidate]:
        here = self.code.at(self.pc)
        if here is not None and here.insn.repeats:
            touches = self._touches(here)
            if touches is not False:
                yield _Candidate(here, bool(touches))

    # 3.a
    def _calls(self) -> Iterator[_Candidate]:
        back = self.code.pointer(self.code.registers.get("rsp"))
        for code, _ in self.code.before(back) if back else ():
            # A call that led just here is proof enough of its own boundary.
            if code.insn.is_call and self.code.destination(code) == self.pc and self._touches(code):
                yield _Candidate(code)
                return

    # 3.b
    def _returned(self) -> Decoded | None:
        """The call that the program has just returned from, by a return that read watched bytes."""
        call = next((code for code, _ in self.before if code.insn.is_call), None)
        top = self.code.registers.get("rsp")
        if call is None or top is None:
            return None
        end = top - self.code.word
        slots = range(end - MOST_ARGUMENTS, end + 1)
        return call if any(place in slots for place in self._places_of_pc()) else None

    def _returns(self) -> Iterator[_Candidate]:
        call = self._returned()
        if call is None:
            return
        start = self.code.lasting_destination(call)
        reached, complete = self._reachable(start, through_memory=True)
        found = [one for one in reached if one.insn.is_return and self._touches(one)]
        if complete and len(found) == 1:
            pointer = call.insn.target is None
            doubt = f"the pointer of `{call.brief}` may have changed since" if pointer else ""
            yield _Candidate(found[0], True, doubt)
        elif complete and found:
            self.why_not = (
                f"`{call.brief}` has returned, by one of {len(found)} return instructions"
            )
        else:
            self.why_not = f"`{call.brief}` has returned, by a return instruction not recorded"

    # 3.c
    def _jumps(self) -> Iterator[_Candidate]:
        if not self._places_of_pc():
            return
        # Either a jump inside this function, or one that entered it: that stands in what the last
        # call went to, a stub of the linkage table or a function that ends in a jump.
        inside = self._function_code()
        entering: list[Decoded] = []
        complete = False
        back = self.code.pointer(self.code.registers.get("rsp"))
        for call, _ in self.code.before(back) if back else ():
            if call.insn.is_call:
                start = self.code.lasting_destination(call)
                entering, complete = self._reachable(start, through_memory=False)
                break
        sites = {one.address: one for one in (*entering, *inside)}
        for one in sites.values():
            if (
                one.insn.is_jump
                and one.insn.memory
                and self._touches(one)
                and self.code.destination(one) == self.pc
            ):
                clear = complete or one in inside
                yield _Candidate(one, True, "" if clear else "not all of the code was followed")

    # --- what the cases ask ----------------------------------------------------------------------

    def _touches(self, code: Decoded) -> bool | None:
        """Whether an instruction touched watched bytes in a way that traps; None if it may have."""
        may = False
        for one in memory_accesses(code.insn, self.code.registers, code.after, self.code.word):
            if not self.regions:
                may = True
            for region in self.regions:
                if region.rw == WRITE and not one.writes:
                    continue
                overlaps = one.overlaps(region.address, region.length)
                if overlaps:
                    return True
                may = may or overlaps is None
        return None if may else False

    def touches_one(self, code: Decoded, region: Region) -> bool | None:
        """`_touches`, for one of the regions alone."""
        before, self.regions = self.regions, [region]
        try:
            return self._touches(code)
        finally:
            self.regions = before

    def _no_jump(self) -> bool:
        """Whether no control transfer can have read the watched bytes on its way to the PC."""
        if self.regions and all(one.rw == WRITE for one in self.regions):
            return True
        return self.code.live and bool(self.regions) and not self._places_of_pc()

    def _places_of_pc(self) -> list[int]:
        """Where the PC's own value stands on bytes that trap when they are read."""
        word, found = self.code.word, []
        wanted = self.pc.to_bytes(word, "little")
        for region in self.regions:
            if region.rw == WRITE:
                continue
            start = region.address - word + 1
            data = self.code.read(start, region.length + 2 * (word - 1))
            at = data.find(wanted)
            while at >= 0:
                found.append(start + at)
                at = data.find(wanted, at + 1)
        return found

    def _reachable(self, start: int | None, through_memory: bool) -> tuple[list[Decoded], bool]:
        """The instructions that can be reached from `start` without entering a call, and whether
        these are all. Tail calls are followed; so are, if asked, linkage stubs; computed jumps
        cannot be."""
        seen: dict[int, Decoded] = {}
        todo, complete = [start], True
        while todo:
            at = todo.pop()
            if at is None or len(seen) > WALK_LIMIT:
                complete = False
                continue
            while at is not None and at not in seen:
                block = self.code.decode(at, count=8)
                if not block:
                    complete = False
                    break
                for code in block:
                    if code.address in seen:
                        at = None
                        break
                    seen[code.address] = code
                    at = code.after if code.insn.falls_through or code.insn.is_call else None
                    if code.insn.is_jump:
                        if through_memory or not code.insn.memory:
                            todo.append(self.code.lasting_destination(code))
                    elif not code.insn.is_call and code.insn.target is not None:
                        todo.append(code.insn.target)
                    if at is None:
                        break
        return list(seen.values()), complete

    def _function_code(self) -> list[Decoded]:
        """The instructions of the function at the PC, as far as symbols tell and limits allow."""
        blocks = _function_blocks(self.pc)
        if blocks:
            start, end = blocks[-1].start, blocks[-1].end
        else:
            symbol = symbol_of(self.pc)
            if symbol is None:
                return []
            start, end = self.pc - symbol[1], self.pc + CODE_LIMIT
        return self.code.decode(start, end=min(end, start + CODE_LIMIT))

    # --- where there is no candidate -------------------------------------------------------------

    def _system_call(self) -> Access | None:
        """A kernel-mode hit is reported after the system call: there the kernel made the access."""
        for code, evidence in self.before:
            if code.insn.is_system_call and evidence in (KNOWN, AGREED):
                return _described(code, "")
        return None

    def _why_unknown(self) -> str:
        if self._is_handler_start():
            return "the kernel wrote there when it delivered the signal"
        if not self.before:
            return "no instruction can be decoded before the program counter"
        code, evidence = self.before[0]
        if evidence not in (KNOWN, AGREED):
            return "there are no symbols here, and no instruction before the program counter fits"
        if not code.insn.falls_through:
            return "the program counter was reached by a jump or call that is not recorded"
        if not memory_accesses(code.insn, {}, code.after, self.code.word):
            return f"`{code.brief}`, before the program counter, accesses no memory"
        return f"`{code.brief}`, before the program counter, does not touch the watched bytes"

    def _is_handler_start(self) -> bool:
        frame = self.code.frame
        if frame is None or not self.code.live:
            return False
        older = frame.older()
        symbol = symbol_of(self.pc)
        return (
            older is not None
            and older.type() == gdb.SIGTRAMP_FRAME
            and (symbol is None or symbol[1] == 0)
        )


def _described(code: Decoded, reason: str) -> Access:
    """An access by `code`, certain where there is no reason against it."""
    symbol = symbol_of(code.address)
    blocks = _function_blocks(code.address)
    function = str(blocks[0].function.print_name) if blocks else symbol[0] if symbol else None
    row = gdb.find_pc_line(code.address)
    known = row.symtab is not None and row.line
    label = ""
    if symbol is not None:
        label = f"{symbol[0]}+{symbol[1]}" if symbol[1] else symbol[0]
    return Access(
        code.address,
        code.text,
        function,
        label,
        row.symtab.fullname() if known else None,
        row.symtab.filename if known else None,
        row.line if known else None,
        not reason,
        reason,
    )


def _function_blocks(address: int) -> list[gdb.Block]:
    """The blocks of the functions there, from the innermost inlined one to the function that holds
    it; [] where there is no debug information."""
    try:
        block = gdb.block_for_pc(address)
    except (gdb.error, RuntimeError):  # "Cannot locate object file for block."
        return []
    found = []
    while block is not None:
        if block.function is not None:
            found.append(block)
        block = block.superblock
    return found
