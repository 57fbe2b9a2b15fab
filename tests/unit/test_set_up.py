"""Set-up: what is missing is found, provided or said. No network, nothing installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gdb_kwatch import places
from gdb_kwatch.outside import debugger, libraries, packages, probe, processes, say, testing

GDB = debugger.Debugger(("gdb",), "13.1", (3, 11), ("pygments", "tabulate"))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`tools(NAME, SCRIPT)` puts a program on a PATH that has no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("KWATCH_GDB", raising=False)

    def tool(name: str, script: str = "exit 0") -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return tool


@pytest.fixture
def user(monkeypatch):
    """`user(UID)`: who runs this."""
    packages._apt_update.cache_clear()
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "state_dir", lambda: str(tmp_path / "state"))
    return tmp_path / "state"


# --- the system's packages ---


def test_on_an_empty_machine_everything_is_missing(tools):
    needs = packages.missing(compiler=True, cxx=True)
    assert [need.package for need in needs] == ["gdb", "gcc", "libc6-dev", "g++"]


def test_headers_are_missed_by_trying_them(tools):
    tools("gdb")
    tools("gcc", "exit 1")
    assert packages.missing(compiler=True) == [packages.HEADERS]


def test_nothing_missing_calls_nothing(tools, user):
    user(0)
    tools("gdb")
    tools("gcc")
    tools("apt-get", "exit 1")
    packages.provide(packages.missing(compiler=True))


def test_root_gets_it_installed(tools, user, tmp_path):
    user(0)
    log = tmp_path / "log"
    tools("apt-get", f'echo "$DEBIAN_FRONTEND $@" >> {log}')
    packages.provide([packages.GDB, packages.COMPILER])
    update, install = log.read_text().splitlines()
    assert update.startswith("noninteractive") and update.endswith("update")
    assert install.endswith("install -y --no-install-recommends gdb gcc")


def test_what_apt_says_is_shown_where_it_fails(tools, user):
    user(0)
    tools("apt-get", "echo E: no route to the mirror; exit 100")
    with pytest.raises(say.Stop, match="no route to the mirror") as stop:
        packages.provide([packages.GDB])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("uid", "there", "command"),
    [
        (
            1000,
            ["apt-get", "sudo"],
            "sudo apt-get update && sudo apt-get install -y gdb gcc libc6-dev",
        ),
        (1000, ["apt-get"], "apt-get update && apt-get install -y gdb gcc libc6-dev    (as root)"),
        (1000, ["dnf", "sudo"], "sudo dnf install -y gdb gcc glibc-devel"),
        (0, ["pacman"], "pacman -S --needed gdb gcc glibc"),
    ],
)
def test_others_get_the_exact_command(tools, user, uid, there, command):
    user(uid)
    for name in there:
        tools(name, "echo must not run; exit 1")
    with pytest.raises(say.Stop) as stop:
        packages.provide([packages.GDB, packages.COMPILER, packages.HEADERS])
    assert stop.value.code == 2
    assert str(stop.value).splitlines() == [
        "gdb, a C compiler and the C library's headers are missing here. Install, then try again:",
        f"  {command}",
    ]


# --- gdb and its Python ---


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("GNU gdb (Debian 13.1-3) 13.1\nCopyright", "13.1"),
        ("GNU gdb (Debian 10.1-1.7) 10.1.90.20210103-git\n", "10.1.90.20210103-git"),
        ("GNU gdb (Fedora Linux) 16.3-1.fc42\n", "16.3-1.fc42"),
        ("", "?"),
    ],
)
def test_gdb_version(banner, version):
    assert debugger.version_in(banner) == version


@pytest.mark.parametrize(("version", "major"), [("10.1.90-git", 10), ("18.1", 18), ("?", 0)])
def test_gdb_major(version, major):
    assert debugger.Debugger(("gdb",), version, None, ()).major == major


def test_what_gdb_says_of_its_python():
    noise = "warning: something\n"
    said = 'kwatch-probe: {"python": [3, 9], "lacking": ["tabulate"]}\n'
    assert debugger.python_in(noise + said) == ((3, 9), ("tabulate",))
    assert debugger.python_in("Scripting in the Python language is not supported") == (None, ())


def test_another_gdb_can_be_named(tools, monkeypatch):
    assert debugger.find() is None
    tools("my-gdb")
    monkeypatch.setenv("KWATCH_GDB", "my-gdb -data-directory '/a b'")
    assert debugger.find() == ("my-gdb", "-data-directory", "/a b")


def test_a_gdb_without_python_is_told_apart(tools):
    tools("gdb", 'echo "GNU gdb (GDB) 12.1"')
    assert debugger.ask(("gdb",)) == debugger.Debugger(("gdb",), "12.1", None, ())


def test_the_probe_looks_where_set_up_puts_things(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    site = Path(places.site_dirs()[-1])
    assert site.is_relative_to(tmp_path)
    site.mkdir(parents=True)
    (site / "kwatch_good.py").touch()
    (site / "kwatch_broken.py").write_text("1 / 0")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(probe, "LIBRARIES", ("kwatch_good", "kwatch_broken", "kwatch_absent"))
    assert probe.lacking() == ["kwatch_broken", "kwatch_absent"]


# --- pygments and tabulate ---


def test_nothing_lacking_calls_nothing(monkeypatch):
    monkeypatch.setattr(processes, "run", lambda *_, **__: pytest.fail("nothing to run"))
    complete = debugger.Debugger(("gdb",), "13.1", (3, 11), ())
    assert libraries.provide(complete) is complete


def test_pip_fills_the_folder_of_that_python(state, monkeypatch):
    asked = []

    def run(argv, **_):
        asked.append(argv)
        folder = Path(argv[argv.index("--target") + 1])
        folder.mkdir(parents=True)
        (folder / "tabulate.py").touch()
        return processes.Ended(0, "")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(libraries, "_has_pip", lambda python: True)
    after = debugger.Debugger(("gdb",), "13.1", (3, 11), ())
    monkeypatch.setattr(debugger, "ask", lambda command: after)
    assert libraries.provide(GDB) is after
    assert (state / "site" / "3.11" / "tabulate.py").exists()
    (argv,) = asked
    assert argv[argv.index("--python-version") + 1] == "3.11"


def test_without_pip_or_root_it_is_said_and_the_work_goes_on(state, monkeypatch, user, capsys):
    user(1000)
    monkeypatch.setattr(libraries, "_has_pip", lambda python: True)
    monkeypatch.setattr(processes, "run", lambda *_, **__: processes.Ended(1, "no index\n"))
    assert libraries.provide(GDB) == GDB
    said = capsys.readouterr().err
    assert "no index" in said and "python3-pygments python3-tabulate" in said
    assert not (state / "site" / "3.11").exists()


# --- the tests' environment ---


def test_the_requirements_are_read_from_setup_cfg():
    names = [testing._name(line) for line in testing.requirements(places.checkout())]
    assert {"pytest", "pexpect", "hypothesis", *testing.OPTIONAL} <= set(names)


@pytest.fixture
def venv(state, monkeypatch):
    """The environment's making, played: what was asked for, and what fails."""

    class Played:
        log: list[str] = []
        failing: set[str] = set()

        def run(self, argv, **_):
            what = " ".join(argv[argv.index("-m") + 1 :])
            self.log.append(what)
            if what.startswith("venv"):
                (Path(argv[-1]) / "bin").mkdir(parents=True)
                (Path(argv[-1]) / "bin" / "python").touch()
            return processes.Ended(int(any(name in what for name in self.failing)), "")

    played = Played()
    played.log, played.failing = [], set()
    monkeypatch.setattr(processes, "run", played.run)
    monkeypatch.setattr(packages, "venv_maker", lambda: sys.executable)
    monkeypatch.setattr(testing, "requirements", lambda root: ["pytest >= 7", "mypy"])
    return played


def test_the_environment_is_made_once(venv):
    python = testing.environment("root")
    assert [line.split()[0] for line in venv.log] == ["venv", "pip"]
    assert testing.environment("root") == python
    assert len(venv.log) == 2


def test_changed_requirements_make_it_anew(venv, monkeypatch):
    testing.environment("root")
    monkeypatch.setattr(testing, "requirements", lambda root: ["pytest >= 8", "mypy"])
    testing.environment("root")
    assert len(venv.log) == 4


def test_a_linter_that_cannot_be_had_is_done_without(venv):
    venv.failing = {"mypy"}
    testing.environment("root")
    assert [line.split()[-1] for line in venv.log[1:]] == ["mypy", "7", "mypy"]


def test_pytest_is_not_done_without(venv, user):
    user(1000)
    venv.failing = {"pytest >="}
    with pytest.raises(say.Stop, match="python3-pytest") as stop:
        testing.environment("root")
    assert stop.value.code == 2


def test_all_that_is_missing_is_asked_for_at_once(tools, user, state, monkeypatch):
    user(1000)
    monkeypatch.setattr(packages, "venv_maker", lambda: None)
    with pytest.raises(say.Stop) as stop:
        testing.test([])
    assert stop.value.code == 2
    assert "install -y gdb gcc libc6-dev g++ python3-venv" in str(stop.value)


def test_a_broken_off_set_up_is_done_again(venv, monkeypatch):
    def broken_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(testing, "_pip", broken_off)
        with pytest.raises(KeyboardInterrupt):
            testing.environment("root")
    testing.environment("root")
    assert [line.split()[0] for line in venv.log] == ["venv", "venv", "pip"]


# --- where things are ---


def test_a_checkout_keeps_its_state_in_itself():
    root = places.checkout()
    assert places.site_dirs((3, 9))[0] == os.path.join(root, ".kwatch", "site", "3.9")


def test_an_installed_package_uses_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "PACKAGE", str(tmp_path / "gdb_kwatch"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert places.checkout() is None
    assert places.state_dir() == str(tmp_path / "data" / "gdb-kwatch")
    assert places.fixtures_dir() == str(tmp_path / "gdb_kwatch" / "fixtures")


def test_a_relative_data_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.site_dirs((3, 9))[-1] == str(tmp_path / ".local/share/gdb-kwatch/site/3.9")


def test_a_checkout_that_cannot_be_written_uses_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    root = places.checkout()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(root))
    assert places.state_dir() == str(tmp_path / "gdb-kwatch")


# --- other programs ---


def test_a_program_out_of_time_is_ended_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    ended = processes.run(
        ["/bin/sh", "-c", f"sleep 60 & echo $! > {pid}; echo started; wait"],
        seconds=1,
    )
    assert (ended.code, ended.output) == (None, "started\n")
    assert not _runs(int(pid.read_text()))


def test_a_process_left_behind_is_ended(tmp_path):
    pid = tmp_path / "pid"
    script = f"sleep 60 >/dev/null 2>&1 & echo $! > {pid}"
    assert processes.run(["/bin/sh", "-c", script], seconds=30).fine
    assert not _runs(int(pid.read_text()))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- guests: compilers and targets that only some tests are about ---


def test_guests_are_asked_in_once(tools, user, tmp_path):
    user(0)
    log = tmp_path / "log"
    tools("apt-get", f'echo "$@" >> {log}')
    tools("gcc")
    tools("valgrind")
    packages.invite(tmp_path / "state" / "tried")
    update, install = log.read_text().splitlines()
    assert "--no-remove gdbserver gfortran gnat" in install
    assert "valgrind" not in install and "gcc-multilib" not in install
    packages.invite(tmp_path / "state" / "tried")
    assert len(log.read_text().splitlines()) == 2


def test_guests_that_cannot_be_had_do_no_harm(tools, user, tmp_path):
    user(0)
    tools("apt-get", "exit 100")
    tools("gcc")
    packages.invite(tmp_path / "tried")
    user(1000)
    packages.invite(tmp_path / "never")
    assert not (tmp_path / "never").exists()
