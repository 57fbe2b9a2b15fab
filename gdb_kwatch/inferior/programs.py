"""Which program space an inferior has, asked only while gdb can tell.

gdb asserts in ``Inferior.progspace`` that there is one (`infpy_get_progspace`, and with it in
``gdb.current_progspace``), and ends itself where there is none:

- gdb 10 selects the child of a fork, and tells of its first thread, before it has given it a
  program space (`follow_fork_inferior`);
- gdb 13 takes away that of the child of a vfork while it lets go of the parent
  (`handle_vfork_child_exec_or_exit`).
"""

from __future__ import annotations

from typing import Any

import gdb

from .gdbfacts import selected_thread
from .handlers import Handlers

_known: dict[int, gdb.Progspace] = {}
_unborn: set[int] = set()


def learn() -> None:
    """Take down which inferior has which: at a stop, in new_objfile and clear_objfiles, in a
    command.  There each has one; while a fork is followed or an inferior ends, one may have none.
    """
    _unborn.clear()
    for inferior in gdb.inferiors():
        _known[inferior.num] = inferior.progspace


def of(inferior: gdb.Inferior) -> gdb.Progspace | None:
    """That of any inferior, as `learn` has found it."""
    return _known.get(inferior.num)


def selected() -> gdb.Progspace | None:
    """That of the selected inferior; None for the child of a fork that has none yet."""
    inferior = gdb.selected_inferior()
    if inferior.num in _unborn and inferior.pid:  # add-inferior makes one without a process
        return None
    return inferior.progspace


def filename() -> str | None:
    """The file of the selected inferior's program."""
    space = selected()
    return None if space is None else space.filename


def is_another(number: int) -> bool:
    """Whether the inferior of that number has another program than the selected one."""
    space = None if number == gdb.selected_inferior().num else _known.get(number)
    return space is not None and space.is_valid() and space.filename != filename()


def is_half_read(objfile: gdb.Objfile) -> bool:
    """In new_objfile: whether a command (``file``) reads the symbols of a program that is stopped.
    It is not relocated yet, and what is looked up from a frame of it now, gdb does not find later
    either (``symbol_cache_mark_not_found``, 13.1): every such lookup has to wait for the prompt."""
    thread = selected_thread()
    file = objfile.owner or objfile
    return thread is not None and thread.is_stopped() and file.filename == filename()


class _Births:
    """Notices inferiors that may have no program space yet."""

    def __init__(self) -> None:
        self._coming = Handlers(new_inferior=self._at_new)
        # By the next of these gdb has done with a fork; others call `learn`.
        self._settling = Handlers(
            cont=self._at_settled, stop=self._at_settled, before_prompt=self._at_settled
        )

    def connect(self) -> None:
        self._coming.connect()

    def disconnect(self) -> None:
        self._coming.disconnect()
        self._at_settled()

    def _at_new(self, event: gdb.NewInferiorEvent) -> None:
        _unborn.add(event.inferior.num)
        self._settling.connect()

    def _at_settled(self, event: Any = None) -> None:
        self._settling.disconnect()
        _unborn.clear()


births = _Births()
