"""Shared by the tests of the recipes. Without the recipes extra they are skipped, saying what is missing."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where tests, and the processes that they start, find what they share

for needed in ("h5py", "lightning", "rich", "matplotlib", "spikingjelly"):
    pytest.importorskip(needed, reason=f"{needed} is missing: pip install 'snn_delay_plugins[recipes]'")

from recipes.engine.data import binned, miniature  # noqa: E402

SIZES = {"train": 48, "valid": 16, "test": 16}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Nothing of a test goes into the user's cache; subprocesses inherit this one."""
    folder = tmp_path_factory.mktemp("cache")
    before = {name: os.environ.get(name) for name in ("SNN_DELAY_PLUGINS_CACHE", "SNN_DELAY_PLUGINS_DATA")}
    os.environ["SNN_DELAY_PLUGINS_CACHE"] = str(folder)
    os.environ["SNN_DELAY_PLUGINS_DATA"] = str(folder / "downloads")
    yield folder
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches a download site; those of downloads have a server of their own."""
    monkeypatch.setenv("SNN_DELAY_PLUGINS_OFFLINE", "1")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A folder with a miniature data set of 48 + 16 + 16 samples."""
    return miniature.make(tmp_path_factory.mktemp("data"), sizes=SIZES)


@pytest.fixture(scope="session")
def small_splits(small_data):
    return binned.BinnedCounts(binned.Binning(steps=20)).load(small_data, "clean")
