"""What is installed, and under which names; ``.ci/installed`` builds and uses it."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(monkeypatch):
    """{package: its folder}."""
    setuptools = pytest.importorskip("setuptools", reason="setuptools is missing")
    asked = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **options: asked.update(options))
    runpy.run_path("setup.py")
    (moved,) = asked["package_dir"].items()
    return {name: ROOT / name.replace(".", "/").replace(moved[0].replace(".", "/"), moved[1]) for name in asked["packages"]}


def test_every_folder_with_code_is_installed(installed):
    folders = {file.parent for part in ("snn_delay_plugins", "recipes") for file in (ROOT / part).rglob("*.py")}
    assert set(installed.values()) == folders and len(folders) == len(installed) > 15


def test_nothing_is_installed_beside_the_package_itself(installed):
    assert {name.partition(".")[0] for name in installed} == {"snn_delay_plugins"}
    assert installed["snn_delay_plugins.recipes.engine.data"] == ROOT / "recipes" / "engine" / "data"
