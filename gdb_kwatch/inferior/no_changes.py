"""Commands that may change nothing of a breakpoint, told apart from ``disable``.

A kwatch that waits for a slot, or is merged, is off already: gdb's event for ``disable`` is then
about nothing that is seen to be different (`Registry.switched`).  ``ignore N 0`` of one with no
hits to ignore, and ``condition N`` of one without a condition, send the same.
"""

from __future__ import annotations

from .hooks import Around
from .watches import Registry


class NoChanges(Around):
    """One for a session: the registry knows while such a command runs."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(("ignore", "condition"), self.before, self.after)
        self.registry = registry

    def before(self) -> None:
        self.registry.may_keep = True

    def after(self) -> None:
        self.registry.may_keep = False
