"""The command line outside gdb: the verbs, their help and their exit codes."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence

from gdb_kwatch import places
from gdb_kwatch.outside import attached, demo, doctor, say, setup, startup, testing

EXIT_CODES = "Exit code: 0 fine; 1 not; 2 something must be done first, and it is said what."

ATTACHED = (
    "Ctrl-C, SIGTERM and a hang-up end it earlier: gdb lets go of the process, and what was found "
    "until then is shown or written. Exit code: 0 fine, though nothing may have been touched; 1 "
    "not; 2 something must be done first, and it is said what; 130, 143, 129 ended by that signal."
)

# Their arguments are another program's: argparse would take a `-k` or `-x` as its own.
PASSED_ON: dict[str, Callable[[Sequence[str]], int]] = {
    "test": testing.test,
    "bench": testing.bench,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if words and words[0] in PASSED_ON and words[1:2] not in (["-h"], ["--help"]):
            return PASSED_ON[words[0]](words[2:] if words[1:2] == ["--"] else words[1:])
        return _run(_parser().parse_args(words))
    except say.Stop as stop:
        print(f"kwatch: {stop}", file=sys.stderr)
        return stop.code
    except BrokenPipeError:  # `… demo | head` is no fault
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def _terminated(*_: object) -> None:
    """SIGTERM as an exception: what runs for us is ended on the way out."""
    sys.exit(128 + signal.SIGTERM)


def _run(options: argparse.Namespace) -> int:
    if options.verb == "demo":
        return demo.run()
    if options.verb in ("who", "trace"):
        return attached.run(options)
    if options.verb == "doctor":
        return doctor.run()
    if options.verb == "uninstall":
        print(startup.uninstall())
    elif options.print:
        print(startup.block(places.GDBINIT).decode(errors="surrogateescape"))
    else:
        with setup.alone():
            print(startup.install(setup.debugger_ready().major))
    return 0


def _count(text: str) -> int:
    return int(_positive(text, int))


def _seconds(text: str) -> float:
    return _positive(text, float)


def _positive(text: str, kind: Callable[[str], float]) -> float:
    with contextlib.suppress(ValueError):
        if 0 < kind(text) < 1e9:
            return kind(text)
    raise argparse.ArgumentTypeError(f"{text}: it takes a number greater than 0")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=say.verb("").strip(),
        description="kwatch: every watchpoint that one instruction hit, in gdb.",
        epilog=EXIT_CODES,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(
        name: str,
        summary: str,
        more: str,
        arguments: str | None = None,
        epilog: str = EXIT_CODES,
    ) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {more}",
            epilog=epilog,
            usage=arguments and f"{say.verb(name)} {arguments}",
        )

    verb(
        "demo",
        "set up what is missing and show kwatch at work",
        "Runs gdb twice on a bundled program: alone, and with kwatch.",
    )
    verb(
        "test",
        "set up what the tests need and run them all",
        "Linters and types first, then pytest; with arguments, only pytest with these. "
        "Needs a checkout.",
        arguments="[PYTEST ARGUMENT...]",
    )
    install = verb(
        "install",
        "load kwatch in every gdb from now on",
        "Keeps one marked block in gdb's start-up file; everything else in it stays as it is.",
    )
    install.add_argument("--print", action="store_true", help="only print the block")
    verb("uninstall", "take that out again", "Nothing else in the start-up file is touched.")
    verb(
        "doctor",
        "show what works on this machine, and what to do about the rest",
        "Looks from outside gdb, then runs `kwatch doctor` inside it.",
    )
    who = verb(
        "who",
        "show which instructions touch a place in a running process",
        "Attaches gdb for some seconds, then the process runs on. `help kwatch who` in gdb "
        "tells more.",
        epilog=ATTACHED,
    )
    trace = verb(
        "trace",
        "record every access of a place in a running process into a file",
        "The suffix of FILE tells the format: .json (lines), .csv, .perfetto.json or .trace.json "
        "(Perfetto), .folded (flame graphs).",
        epilog=ATTACHED,
    )
    for one in (who, trace):
        one.add_argument("-p", dest="pid", type=_count, required=True, help="the process")
        one.add_argument(
            "-for",
            dest="seconds",
            type=_seconds,
            metavar="SECONDS",
            help=f"for how long ({attached.SECONDS:g})",
        )
        one.add_argument("-a", dest="reads", action="store_true", help="reads, too")
        one.add_argument(
            "-k", dest="kernel", action="store_true", help="by system calls, too (needs perf)"
        )
        one.add_argument(
            "-from",
            dest="only",
            action="append",
            default=[],
            metavar="CODE",
            help="only by this function or library; may be given again",
        )
        one.add_argument(
            "-not-from",
            dest="without",
            action="append",
            default=[],
            metavar="CODE",
            help="not by this function or library; may be given again",
        )
        one.add_argument("-if", dest="condition", metavar="COND", help="only where COND holds")
    who.add_argument("expressions", metavar="EXPR", nargs=1, help="what to watch: EXPR [if COND]")
    trace.add_argument(
        "expressions", metavar="EXPR", nargs="+", help="what to watch: EXPR [if COND]"
    )
    who.add_argument("-json", action="store_true", help="rows as JSON")
    trace.add_argument("-o", dest="file", metavar="FILE", required=True, help="what to write")
    trace.add_argument(
        "-count", type=_count, default=0, metavar="N", help="end after N accesses; no -for then"
    )
    trace.add_argument(
        "-stack", type=_count, default=0, metavar="N", help="with the N innermost callers"
    )
    verb(
        "bench",
        "measure what kwatch costs beside gdb's own watch",
        "Arguments go to tests/bench/run.py. Needs a checkout.",
        arguments="[ARGUMENT...]",
    )
    return parser
