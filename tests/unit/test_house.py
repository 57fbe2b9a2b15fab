"""The house's own rules, read from the source: who imports whom, and what loads when."""

from __future__ import annotations

import ast
import configparser
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gdb_kwatch"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a room may import of the house; places.py is open to all.
ROOMS = {
    "core": {"core"},
    "linux": {"linux", "core"},
    "inferior": {"inferior", "core", "linux"},
    "ui": {"ui", "inferior", "core", "linux"},
    "outside": {"outside", "core"},
}
# Modules of others that a room may not know.
FORBIDDEN = {"core": {"gdb", "ctypes"}, "linux": {"gdb"}, "outside": {"gdb", "ctypes"}}
MAY_IMPORT_UI = {"gdbinit.py", "__init__.py"}
# They cost tens of milliseconds: imported when first used, never while the plugin loads.
HEAVY = {"pygments", "tabulate", "hypothesis"}


def room(path: Path) -> str:
    """The room a module stands in; its own name at the top of the package."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0]


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[str]:
    """Every module that a module imports, by absolute name; `from a import b` gives a.b too."""
    for node in ast.walk(tree or ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                inside = path.relative_to(ROOT).parent.parts
                kept = inside[: len(inside) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def house_imports(path: Path) -> set[str]:
    """The rooms (and top modules) of the house that a module imports."""
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "gdb_kwatch" and len(parts) > 1}


def at_load(path: Path) -> Iterator[str]:
    """What a module imports when it is itself imported: not what only functions do."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            yield node
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, field, None) or [])
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)

    for node in statements(ast.parse(path.read_text()).body):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(path, node)


def ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_run_one_way(path):
    allowed = ROOMS.get(room(path))
    if allowed is not None:
        assert house_imports(path) <= allowed | {"places"}
    elif path.name not in MAY_IMPORT_UI:
        assert "ui" not in house_imports(path)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_a_room_does_not_know_what_it_may_not(path):
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN.get(room(path), set())


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_heavy_libraries_load_when_first_used(path):
    assert not {name.split(".")[0] for name in at_load(path)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_each_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the list of standard modules is of 3.10")
@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in {"outside", "__main__.py"}])
def test_outside_needs_the_standard_library_only(path):
    others = {name.split(".")[0] for name in imports(path)} - {"gdb_kwatch"}
    assert others <= set(sys.stdlib_module_names)


def test_every_room_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent for path in MODULES}
    there = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == there | {"gdb_kwatch.fixtures"}


def test_the_rules_see_what_they_forbid(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "gdb_kwatch")
    path = tmp_path / "gdb_kwatch" / "core" / "wrong.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from ..ui import report\nfrom .. import linux\nimport gdb.types\n"
        "try:\n    import tabulate\nexcept ImportError:\n    pass\n"
        "def later():\n    import pygments\n"
    )
    assert house_imports(path) == {"ui", "linux"}
    assert "gdb.types" in set(imports(path))
    assert set(at_load(path)) & HEAVY == {"tabulate"}
