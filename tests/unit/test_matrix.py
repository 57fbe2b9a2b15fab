"""What tests/matrix reads: apt's and pip's settings, JUnit reports, dejagnu's results."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

MATRIX = Path(__file__).resolve().parents[1] / "matrix"


@pytest.fixture(autouse=True)
def matrix(monkeypatch):
    monkeypatch.syspath_prepend(str(MATRIX))


def module(name):
    return importlib.import_module(name)


def test_pip_settings_that_fetch_are_lent_and_folders_of_this_machine_are_not():
    config = module("host").pip_config(
        [
            ":env:.timeout='180'",
            ":env:.find-links='/opt/wheels'",
            "global.cert='/etc/ssl/certs/ca-certificates.crt'",
            "global.extra-index-url='file:///srv/simple\\nhttps://index.example/simple'",
            "global.timeout='15'",
            "global.no-compile='true'",
            "WARNING: something else",
        ]
    )
    assert dict(config["global"]) == {
        "cert": "/etc/ssl/certs/ca-certificates.crt",
        "extra-index-url": "https://index.example/simple",
        "timeout": "180",
    }


def test_the_mirror_is_debians_own_archive_not_its_security_archive(monkeypatch):
    host = module("host")
    monkeypatch.delenv("KWATCH_MIRROR", raising=False)
    known = [
        host.Repository("http://tools.example/apt/", "any", "main", "Tools", "Tools"),
        host.Repository("http://one.example/security/", "x", "main", "Debian", "Debian-Security"),
        host.Repository("http://one.example/archive/", "x", "main", "Debian", "Debian"),
    ]
    monkeypatch.setattr(host, "repositories", lambda: known)
    assert host.mirror() == "http://one.example/archive"
    monkeypatch.setenv("KWATCH_MIRROR", "http://other.example/debian")
    assert host.mirror() == "http://other.example/debian"


def test_no_debian_mirror_is_said(monkeypatch):
    host = module("host")
    monkeypatch.delenv("KWATCH_MIRROR", raising=False)
    monkeypatch.setattr(host, "repositories", list)
    with pytest.raises(host.say.Stop, match="KWATCH_MIRROR"):
        host.mirror()


def test_a_junit_report_is_counted(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="a" name="fine"/>'
        '<testcase classname="a" name="left out"><skipped/></testcase>'
        '<testcase classname="a" name="wrong"><failure/></testcase>'
        '<testcase classname="a" name="twice wrong"><failure/><error/></testcase>'
        "</testsuite></testsuites>"
    )
    counts, failures = module("gdbs").read(report)
    assert counts == {"passed": 1, "skipped": 1, "failed": 2}
    assert failures == ["a::wrong", "a::twice wrong"]
    assert module("gdbs").read(tmp_path / "none.xml") == ({}, [])


@pytest.mark.parametrize(
    ("wanted", "offered", "order"),
    [
        ("13.1-3", ["10.1-2", "13.1-3", "16.3-1"], ["13.1-3", "10.1-2", "16.3-1"]),
        ("18.1-3", ["17.2-1", "10.1-2", "19.1-1"], ["17.2-1", "10.1-2", "19.1-1"]),
        ("9.2", ["10.1-2", "13.1-3"], ["10.1-2", "13.1-3"]),
        ("18.1-3", [], []),
    ],
)
def test_the_nearest_source_package_comes_first(wanted, offered, order):
    assert module("gdb_testsuite").nearest(wanted, offered) == order


LOG = """\
Running watch.exp ...
(gdb) watch x
Hardware watchpoint 2: x
(gdb) PASS: watch.exp: watch x
continue
Continuing.
FAIL: watch.exp: hit (timeout)
"""


def test_a_result_that_changed_is_found_and_shown_with_what_gdb_printed(capsys):
    suite = module("gdb_testsuite")
    bare = suite.Run(("PASS: watch.exp: watch x", "PASS: watch.exp: hit"), "")
    loaded = suite.Run(("PASS: watch.exp: watch x", "FAIL: watch.exp: hit (timeout)"), LOG)
    assert suite.report(bare, loaded, verbose=True) == 1
    assert capsys.readouterr().out.splitlines()[:4] == [
        "- PASS: watch.exp: hit",
        "+ FAIL: watch.exp: hit (timeout)",
        "    | continue",
        "    | Continuing.",
    ]


def test_a_python_fault_that_changed_no_result_is_found(capsys):
    suite = module("gdb_testsuite")
    results = ("PASS: watch.exp: watch x",)
    fault = "Python Exception <class 'gdb.error'>: No frame."
    loaded = suite.Run(results, f"(gdb) watch x\n{fault}\n{fault}\n(gdb) {results[0]}\n")
    assert suite.report(suite.Run(results, LOG), loaded, verbose=False) == 1
    assert f"+ {fault} (2 times)" in capsys.readouterr().out
    assert suite.report(loaded, loaded, verbose=False) == 0


def test_the_same_results_are_fine_and_none_are_not():
    suite = module("gdb_testsuite")
    some = suite.Run(("PASS: watch.exp: watch x",), LOG)
    assert suite.report(some, some, verbose=False) == 0
    assert suite.report(suite.Run((), ""), suite.Run((), ""), verbose=False) == 1


def test_where_kwatch_is_to_differ_it_is_said(capsys):
    suite = module("gdb_testsuite")
    file = "gdb.base/watchpoint-unaligned.exp"
    bare = suite.Run((f"PASS: {file}: delete 7", f"KFAIL: {file}: wpcount(7) (PRMS: t/22389)"), "")
    loaded = suite.Run((f"FAIL: {file}: delete 7", f"KPASS: {file}: wpcount(7) (PRMS t/22389)"), "")
    assert suite.report(bare, loaded, verbose=False) == 0
    assert "4 lines of watchpoint-unaligned.exp differ: of seven" in capsys.readouterr().out
    other = suite.Run((f"FAIL: {file}: delete 7", f"FAIL: {file}: wpcount(4)"), "")
    assert suite.report(bare, other, verbose=False) == 1


def test_results_of_dejagnu_are_told_from_the_rest_of_its_summary():
    suite = module("gdb_testsuite")
    assert suite.RESULT.match("KFAIL: gdb.base/watchpoint.exp: later (PRMS: gdb/38)")
    assert suite.RESULT.match("UNSUPPORTED: gdb.base/watch-read.exp: skip")
    assert not suite.RESULT.match("# of expected passes\t\t545")
    assert not suite.RESULT.match("Running target unix")


def test_what_a_booted_kernel_has_said():
    kernels = module("kernels")
    result = kernels.Result("sid")
    hits = "tests/session/test_kernel_hits.py"
    kernels.read(
        result,
        "[    0.1] boot\r\n@kernel 6.12.1-cloud\r\n@paranoid 3\r\n"
        "@doctor ok    hits inside system calls  kwatch -k works\r\n"
        f"{hits}::test_skipped SKIPPED (no io_uring here)  [ 50%]\r\n"
        f"PASSED {hits}::test_a[one]\r\nFAILED {hits}::test_a[two] - assert 1 == 2\r\n"
        "@done 1\r\n",
    )
    assert (result.kernel, result.paranoid, result.done, result.fine) == (
        "6.12.1-cloud",
        "3",
        True,
        False,
    )
    assert result.outcomes == {
        f"{hits}::test_a[one]": "PASSED",
        f"{hits}::test_a[two]": "FAILED",
        f"{hits}::test_skipped": "SKIPPED",
    }
    assert result.answer([f"{hits}::test_a[one]"]) == "works"
    assert result.answer([f"{hits}::test_a"]) == "FAILED"
    assert result.answer([f"{hits}::test_skipped"]) == "skipped"
    assert result.answer([f"{hits}::test_b"]) == "-"


def test_an_initramfs_is_a_newc_archive(tmp_path):
    kernels = module("kernels")
    root = tmp_path / "root"
    (root / "usr/share/doc").mkdir(parents=True)
    (root / "usr/share/doc/left-out").write_text("x")
    (root / "usr/program").write_bytes(b"12345")
    (root / "link").symlink_to("usr/program")
    kernels.pack(root, "#!/bin/sh\n", tmp_path / "archive")
    data = (tmp_path / "archive").read_bytes()
    assert len(data) % 4 == 0
    found = {}
    while data:
        assert data[:6] == b"070701"
        fields = [int(data[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = data[110 : 110 + length - 1].decode()
        start = (110 + length + 3) // 4 * 4
        found[name] = fields[1], data[start : start + size]
        data = data[(start + size + 3) // 4 * 4 :]
    assert list(found)[-1] == "TRAILER!!!"
    assert found["usr/program"][1] == b"12345"
    assert found["link"][1] == b"usr/program"
    assert found["init"] == (0o100755, b"#!/bin/sh\n")
    assert "usr/share/doc" not in found
    assert {"proc", "sys", "dev", "tmp", "usr"} <= set(found)
