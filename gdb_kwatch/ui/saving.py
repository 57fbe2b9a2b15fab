"""Kwatches as a gdb script: every option, condition, count and command line comes back."""

from __future__ import annotations

from collections.abc import Iterable

from gdb_kwatch.core.arbiter import NORMAL, priority_name
from gdb_kwatch.inferior.kernel_watch import KernelWatch
from gdb_kwatch.inferior.watch import Watch


def script(watches: Iterable[Watch]) -> str:
    """The script of the kwatches among ``watches``; empty where there are none."""
    return "".join(_lines(watch) for watch in watches if watch.options is not None)


def _lines(watch: Watch) -> str:
    assert watch.options is not None
    bp = watch.bp
    words = ["kwatch", *{"write": (), "access": ("-a",), "read": ("-r",)}[watch.access]]
    kernel = isinstance(watch, KernelWatch) and watch.sees_kernel
    flags = (
        ("-k", kernel),
        ("-every", watch.every),
        ("-t", bp.temporary),
        ("-g", watch.everywhere),
    )
    words += [word for word, on in flags if on]
    if watch.priority != NORMAL:
        words += ["-p", priority_name(watch.priority)]
    words += watch.acting
    words.append(watch.options.spec or f"-- {watch.watched}")
    if watch.only_thread is not None:
        words.append(f"thread {watch.only_thread}")
    if bp.task:
        words.append(f"task {bp.task}")
    if watch.user_condition:
        words.append(f"if {watch.user_condition}")
    lines = [" ".join(words)]
    if bp.ignore_count:
        lines.append(f"ignore $bpnum {bp.ignore_count}")
    if bp.commands:
        lines += ["commands $bpnum", *(f"  {x}" for x in bp.commands.rstrip().split("\n")), "end"]
    if not watch.enabled:
        lines.append("disable $bpnum")
    return "\n".join(lines) + "\n"
