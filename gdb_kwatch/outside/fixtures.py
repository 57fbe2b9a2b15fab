"""The bundled programs to debug, built where this user can write."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gdb_kwatch import places
from gdb_kwatch.outside import say


def built(name: str) -> Path:
    """The program `name`, built if it is not there yet or its source changed."""
    builder = _builder()
    if why := builder.cannot_run(name):
        raise say.Stop(f"the program {name} cannot run here: {why}")
    try:
        return Path(builder.build(name, Path(places.state_dir(), "fixtures")))
    except builder.BuildError as error:
        raise say.Stop(f"the program {name} could not be built:\n{error}") from error


def build_all() -> None:
    """Build every program; those that cannot be built are the tests' to report."""
    builder = _builder()
    into = Path(places.state_dir(), "fixtures")
    names = [name for name in builder.FIXTURES if not builder.cannot_build(name)]
    if not all((into / builder.output_name(name)).exists() for name in names):
        say.step(f"building the programs to debug into {into}")
    for name in names:
        try:
            builder.build(name, into)
        except builder.BuildError as error:
            say.step(f"{name} could not be built:\n{error}")


def need_cxx() -> bool:
    return any(fixture.language == "c++" for fixture in _builder().FIXTURES.values())


def _builder() -> ModuleType:
    # Loaded by its path: it is fixtures.build in a checkout, gdb_kwatch.fixtures.build installed.
    name, path = "kwatch_fixtures_build", Path(places.fixtures_dir(), "build.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise say.Stop(f"{path} is missing: this copy of kwatch is not whole")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
