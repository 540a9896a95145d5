"""Compiled loops where numba's cache on disk is missing, full, read-only or damaged: same numbers, one warning."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("numba")

from numba.core import caching

import snn_delay_plugins
from snn_delay_plugins.kernels import compiled

SOURCE = """
from snn_delay_plugins.kernels.compiled import njit

@njit(cache=True, nogil=True)
def twice(x):
    return 2 * x

@njit(cache=True)
def thrice(x):
    return twice(x) + x
"""
REMEDY = "set the environment variable NUMBA_CACHE_DIR"


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(compiled, "_told", False)
    monkeypatch.setattr(caching.config, "CACHE_DIR", "")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "loops.py").write_text(SOURCE)
    return tmp_path


def loops(place):
    """The module anew, as another process would import it."""
    spec = importlib.util.spec_from_file_location("loops_of_a_test", place / "loops.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # cached code names its module
    spec.loader.exec_module(module)
    return module


def hits(module) -> int:
    return sum(sum(f.stats.cache_hits.values()) for f in (module.twice, module.thrice))


def quietly(place, *values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = loops(place)
        for value in values or (1.5,):
            assert module.thrice(value) == 3 * value
    return module


def saying_once(act) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    assert [w.category for w in caught] == [RuntimeWarning]
    assert REMEDY in str(caught[0].message)


def no_place(place, monkeypatch) -> None:
    """Neither beside the source nor in the home folder: as root, a folder cannot be made inside of a file."""
    (place / "__pycache__").write_text("a file")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(place / "__pycache__"))


def test_code_is_cached_where_there_is_a_place_and_found_by_the_next_process(place):
    assert hits(quietly(place)) == 0
    assert hits(quietly(place)) == 1  # twice is inside of it


BUILT = """
import numpy as np
from snn_delay_plugins.kernels.compiled import njit

TABLE = np.arange(5000.0)

def built(factor):
    @njit(inline="always")
    def scaled(x):
        return factor * x

    @njit(cache=True)
    def kernel(x):
        return scaled(x) + TABLE[2500]

    return kernel
"""


def test_loops_that_a_function_builds_are_found_by_the_next_process_each_as_it_was_built(tmp_path):
    (tmp_path / "loops.py").write_text(BUILT)
    for found in (0, 1):
        for factor in (2, 3):
            kernel = loops(tmp_path).built(factor)
            assert kernel(1.5) == factor * 1.5 + 2500
            assert sum(kernel.stats.cache_hits.values()) == found
    assert len(list((tmp_path / "__pycache__").glob("*.nbc"))) == 2  # the folder does not grow


@pytest.mark.parametrize(
    ("before", "after"),
    [("factor * x", "factor * x * 1"), ("arange(5000.0)", "arange(1, 5001.0)"), ('inline="always"', 'inline="never"')],
)
def test_a_loop_is_described_by_everything_that_it_computes(tmp_path, before, after):
    def description(source):
        (tmp_path / "loops.py").write_text(source)
        return compiled._description(loops(tmp_path).built(2))

    assert description(BUILT) == description(BUILT)
    assert (description(BUILT) == description(BUILT.replace(before, after))) == ("inline" in before)


def test_without_any_place_the_loops_run_and_one_warning_says_what_to_set(place, monkeypatch):
    no_place(place, monkeypatch)
    saying_once(lambda: [loops(place).thrice(1) for _ in range(2)])


def test_a_folder_that_the_user_named_and_that_cannot_be_made_is_told_too(place, monkeypatch):
    no_place(place, monkeypatch)
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(place / "loops.py" / "inside"))
    saying_once(lambda: loops(place).thrice(1))


def test_a_folder_that_cannot_be_written_any_more_is_no_error(place):
    def act():
        module = loops(place)
        (place / "__pycache__").rmdir()
        (place / "__pycache__").write_text("a file")
        assert module.thrice(1) == 3

    saying_once(act)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_is_no_error(place, monkeypatch, code):
    def refuse(self, name, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", refuse)

    def act():
        module = loops(place)
        assert module.thrice(1) == 3

    saying_once(act)
    monkeypatch.undo()
    quietly(place)  # nothing half-written is left that would disturb


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "garbage": lambda data: bytes(range(256)) * 20,
    "one byte": lambda data: data[:-200] + bytes([data[-200] ^ 255]) + data[-199:],
    "another pickle": lambda data: b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_compiled_anew_and_replaced(place, kind, damage):
    quietly(place)
    files = sorted((place / "__pycache__").glob(kind))
    assert len(files) >= 2
    for file in files:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    quietly(place)
    assert hits(quietly(place)) == 1


def test_the_code_of_another_signature_is_not_taken(place):
    """What two processes that save at once can leave behind: the index names a file that the other one wrote."""
    quietly(place, 1, 1.5)
    one, two = sorted((place / "__pycache__").glob("*thrice*.nbc"))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    quietly(place, 1, 1.5)


def test_a_cache_that_cannot_be_mended_is_left_alone(place, monkeypatch):
    quietly(place)
    for file in (place / "__pycache__").glob("*.nbi"):
        file.write_bytes(b"")

    def refuse(self, overloads):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", refuse)
    saying_once(lambda: loops(place).thrice(1))


def test_every_loop_of_the_package_is_compiled_through_it():
    root = Path(snn_delay_plugins.__file__).parents[1]
    files = [f for folder in ("snn_delay_plugins", "recipes") for f in (root / folder).rglob("*.py")]
    assert len(files) > 50
    straight = [f for f in files if re.search(r"^\s*(from numba import .*jit|import numba)", f.read_text(), re.MULTILINE)]
    assert [f.name for f in straight] == ["compiled.py"]
