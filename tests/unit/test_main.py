"""The command line outside gdb: verbs, help, exit codes. Nothing is installed or fetched here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gdb_kwatch import places
from gdb_kwatch.outside import demo, say, setup, startup, testing, verbs

VERBS = ("demo", "test", "install", "uninstall", "doctor", "bench")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        verbs.main([verb, "--help"])
    assert ended.value.code == 0
    assert verb in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["nonsense"], ["demo", "more"]])
def test_a_wrong_command_line_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        verbs.main(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["test"], []),
        (["test", "-k", "list or slots", "-x"], ["-k", "list or slots", "-x"]),
        (["test", "--", "--help"], ["--help"]),
        (["bench", "-json", "file"], ["-json", "file"]),
    ],
)
def test_arguments_go_to_pytest_and_the_bench_as_they_are(words, passed, monkeypatch):
    seen = []
    monkeypatch.setitem(verbs.PASSED_ON, words[0], lambda given: seen.append(list(given)) or 7)
    assert verbs.main(words) == 7
    assert seen == [passed]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (say.Stop("no gdb", say.USER_MUST_ACT), 2),
        (say.Stop("gdb broke"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_how_a_stop_ends(error, code, monkeypatch, capsys):
    def run():
        raise error

    monkeypatch.setattr(demo, "run", run)
    assert verbs.main(["demo"]) == code
    if isinstance(error, say.Stop):
        assert capsys.readouterr().err == f"kwatch: {error}\n"


def test_print_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(setup, "debugger_ready", lambda: pytest.fail("it needs no gdb"))
    assert verbs.main(["install", "--print"]) == 0
    assert capsys.readouterr().out.encode() == startup.block(places.GDBINIT) + b"\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [testing.test, testing.bench])
def test_an_installed_package_says_that_it_needs_a_checkout(verb, monkeypatch):
    monkeypatch.setattr(places, "checkout", lambda: None)
    with pytest.raises(say.Stop, match="needs a checkout") as stop:
        verb([])
    assert stop.value.code == 2


def test_the_module_runs_without_the_site_packages_and_from_any_folder(tmp_path):
    root = places.checkout()
    script = f"import sys; sys.path.insert(0, {root!r}); import runpy; sys.argv = ['x', '--help']"
    script += "; runpy.run_module('gdb_kwatch', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert all(verb in ended.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_listing(items, text):
    assert say.listing(items) == text
