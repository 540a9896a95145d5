"""Tests and doctests that import a framework which is not installed are skipped, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

import snn_delay_plugins
from snn_delay_plugins import frameworks

PACKAGE = Path(__file__).parent / "snn_delay_plugins"

# The same examples in every run: a suite that fails does so for everybody. `--hypothesis-profile=default` draws new ones.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


def imports(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Dotted names that the statements import; of a class or function that of its module in front."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def needed(source: str) -> list[frameworks.Framework]:
    """The frameworks that a file imports at its top, itself or through this package."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # which pytest says better
        return []
    found = []
    for name in imports(body):
        package, _, rest = name.partition(".")
        if package == "snn_delay_plugins":
            part = rest.partition(".")[0]
            free = part in snn_delay_plugins.__all__  # needs no framework
            owners = [f for f in frameworks.known() if not free and (part == f.name or part in f.names)][:1]
        else:
            owners = [f for f in frameworks.known() if package == f.package.partition(".")[0]]
        found += [owner for owner in owners if owner not in found]
    return found


def examples(source: str) -> str:
    """The imports in the examples of a file."""
    lines = (line.strip().removeprefix(">>> ") for line in source.splitlines() if line.lstrip().startswith(">>> "))
    return "\n".join(line for line in lines if line.startswith(("import ", "from ")))


def absent(file: Path) -> list[str]:
    """Why a file cannot be run or its examples tried here."""
    source = file.read_text()
    found = [*needed(source), *needed(examples(source))]
    found += [f for f in frameworks.known() if file.is_relative_to(PACKAGE / f.name)]
    return sorted({framework.missing for framework in found if not framework.is_installed()})


class _LeftOut(pytest.File):
    def collect(self):
        pytest.skip("; ".join(absent(self.path)))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector):
    found = yield
    if found and file_path.suffix == ".py" and absent(file_path):
        return [_LeftOut.from_parent(parent, path=file_path)]
    return found


collect_ignore_glob = [] if find_spec("triton") else ["snn_delay_plugins/kernels/*triton*"]
