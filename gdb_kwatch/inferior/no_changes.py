"""Commands that may change nothing of a breakpoint, told apart from ``disable``.

A kwatch that waits for a slot, or is merged, is off already: gdb's event for ``disable`` is then
about nothing that is seen to be different (`Registry.switched`).  ``ignore N 0`` of one with no
hits to ignore, and ``condition N`` of one without a condition, send the same.
"""

from __future__ import annotations

from .faults import guarded
from .handlers import Handlers
from .hooks import Hook
from .watches import Registry

COMMANDS = ("ignore", "condition")


class NoChanges:
    """One for a session: the registry knows while such a command runs."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._hooks = [Hook(f"hook-{name}", self.before) for name in COMMANDS]
        self._hooks += [Hook(f"hookpost-{name}", self.after) for name in COMMANDS]
        self._failed = Handlers(before_prompt=self.after)

    def connect(self) -> None:
        for hook in self._hooks:
            hook.install()

    def disconnect(self) -> None:
        self.after()
        for hook in self._hooks:
            hook.uninstall()

    @guarded()
    def before(self) -> None:
        self.registry.may_keep = True
        self._failed.connect()

    @guarded()
    def after(self) -> None:
        self.registry.may_keep = False
        self._failed.disconnect()
