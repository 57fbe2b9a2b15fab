"""The four slots of a thread as the kernel shares them out, to ptrace and to perf.

Both go through one account (``reserve_bp_slot``, kernel/events/hw_breakpoint.c).  An event of
perf's counts from its opening to its closing, enabled or not; one on a CPU, with no thread, counts
for every thread.  A slot that ptrace was once given stays reserved until the thread ends: deleting
a watchpoint only disables it (``ptrace_write_dr7``), and no address is taken back.

So what is left over, ``SLOTS - free - reserved``, is perf's: kwatch's own events and foreign ones.
"""

from __future__ import annotations

from gdb_kwatch.core.debugreg import SLOTS, WRITE

from . import perf_event, ptrace

# Any aligned address of user space will do: the events are never enabled.
_SOMEWHERE = 0x1000


def free_slots(lwp: int) -> int | None:
    """How many hardware breakpoints another user could still have on a thread.

    Found by asking for them until there are no more.  None where perf is not allowed, the thread
    has ended, or no file can be opened.  Needs no right to see the kernel (paranoid 2 is enough).
    """
    request = perf_event.Request(_SOMEWHERE, 1, WRITE, kernel=False, disabled=True)
    taken: list[perf_event.Event] = []
    try:
        while len(taken) < SLOTS:
            taken.append(perf_event.Event(request, lwp))
    except perf_event.NoSlot:
        pass
    except perf_event.PerfError:
        return None
    finally:
        for event in taken:
            event.close()
    return len(taken)


def reserved(lwp: int, count: int = 0, stay: bool = False) -> int:
    """How many slots ptrace has reserved on a stopped thread that this process traces, or will have
    once ``count`` pieces are in its registers: each takes the lowest register that is free
    (``x86_insert_aligned_watchpoint``), also where ptrace has kept others.  ``stay``: what is in
    them now is not taken out before.

    DR0 to DR3 read as 0 until ptrace is given the slot (``ptrace_get_debugreg``), and keep their
    address when it is switched off.  One that is on may stand at 0, where gdb follows a NULL
    pointer.  Raises OSError where the thread cannot be read.
    """
    registers = ptrace.debug_registers(lwp)
    on = set(registers.pieces())
    kept = on | {slot for slot, address in enumerate(registers.addresses) if address}
    inserted = on if stay else set()
    vacant = [slot for slot in range(SLOTS) if slot not in inserted]
    return len(kept.union(vacant[: max(count - len(inserted), 0)]))


def foreign(lwp: int, own: int = 0) -> int | None:
    """How many slots are held by others than ptrace and ``own`` events of perf's; None where it
    cannot be told.  Raises OSError where the thread cannot be read."""
    free = free_slots(lwp)
    if free is None:
        return None
    return max(SLOTS - free - reserved(lwp) - own, 0)
