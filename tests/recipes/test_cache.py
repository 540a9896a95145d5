"""Arrays kept on disk: whole or absent, built once and in pieces, read without filling the memory."""

import errno
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from recipes.engine.data import binned, events
from recipes.engine.data.binned import Binning
from recipes.engine.data.events import Sampling
from recipes.engine.errors import DataError
from recipes.engine.files import cache

ROOT = Path(__file__).parents[2]


def make(sink):
    for start in range(0, 10, 4):
        sink.append("grid", np.arange(start, min(start + 4, 10), dtype=np.int16)[:, None] * np.ones((1, 3), np.int16))
    sink.append("labels", np.arange(10))
    sink.append("nothing", np.zeros((0, 2), np.float32))


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "cache" / "entry"


def test_pieces_become_whole_arrays_on_disk_and_in_memory_alike(tmp_path, kept):
    on_disk = cache.cached(tmp_path, kept, make, on_disk=("grid", "nothing"))
    pieces = {}
    make(SimpleNamespace(append=lambda name, rows: pieces.setdefault(name, []).append(rows)))
    for name, array in ((name, np.concatenate(of_one)) for name, of_one in pieces.items()):
        np.testing.assert_array_equal(on_disk[name], array)
        assert on_disk[name].dtype == array.dtype and on_disk[name].shape == array.shape
    assert [type(on_disk[name]) for name in ("grid", "nothing", "labels")] == [cache.OnDisk, cache.OnDisk, np.ndarray]


def test_the_file_of_an_array_is_closed_when_the_array_is_gone(tmp_path, kept):
    array = cache.cached(tmp_path, kept, make, on_disk=("grid",))["grid"]
    file = array._file
    del array
    assert file.closed


def test_a_program_ends_without_a_word_on_the_arrays_that_it_still_has(tmp_path, kept):
    cache.cached(tmp_path, kept, make)
    labels = str(kept / "labels")
    code = f"from recipes.engine.files import cache; kept = cache.OnDisk({labels!r}, cache.np.dtype('i8'), (10,))"
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


ROWS = [slice(2, 7), slice(None), slice(7, 2), slice(0, 10, 3), slice(-3, None), np.array([9, 0, 0, -1]), np.array([], int),
        np.arange(10) % 2 == 0]  # fmt: skip


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_rows_on_disk_are_those_of_an_array(tmp_path, kept, rows):
    array = cache.cached(tmp_path, kept, make, on_disk=("grid",))["grid"]
    for on_disk in (array, pickle.loads(pickle.dumps(array))):  # other processes get the place, not the content
        np.testing.assert_array_equal(on_disk[rows], np.asarray(array)[rows])
        assert len(on_disk) == 10 and on_disk[rows].dtype == np.int16
    assert len(pickle.dumps(array)) < 500


def test_a_row_that_is_not_there_is_an_error(tmp_path, kept):
    array = cache.cached(tmp_path, kept, make, on_disk=("grid",))["grid"]
    with pytest.raises(IndexError):
        array[np.array([10])]
    os.truncate(kept / "grid", 20)
    with pytest.raises(OSError, match="grid: the file has been cut while it was in use"):
        array[:]


def test_a_digest_is_the_same_on_disk_and_in_memory(tmp_path, kept):
    array = cache.cached(tmp_path, kept, make, on_disk=("grid",))["grid"]
    digests = [hashlib.sha256() for _ in range(3)]
    digests[0].update(np.asarray(array).tobytes())
    cache.update(digests[1], array)
    cache.update(digests[2], np.asarray(array))
    assert len({digest.hexdigest() for digest in digests}) == 1


def test_the_second_reading_makes_nothing(tmp_path, kept):
    first = cache.cached(tmp_path, kept, make)
    second = cache.cached(tmp_path, kept, lambda sink: pytest.fail("made again"))
    np.testing.assert_array_equal(first["grid"], second["grid"])


@pytest.mark.parametrize("damage", ["cut", "longer", "missing", "no contents", "half contents", "other contents"])
def test_a_damaged_entry_is_built_anew(tmp_path, kept, damage):
    cache.cached(tmp_path, kept, make)
    array, contents = kept / "grid", kept / "arrays.json"
    {
        "cut": lambda: os.truncate(array, 20),
        "longer": lambda: array.write_bytes(array.read_bytes() + b"x"),
        "missing": array.unlink,
        "no contents": contents.unlink,
        "half contents": lambda: os.truncate(contents, 30),
        "other contents": lambda: contents.write_text("[1, 2]"),
    }[damage]()
    with pytest.warns(UserWarning, match="unreadable .*anew"):
        again = cache.cached(tmp_path, kept, make)
    assert again["grid"][9, 2] == 9
    cache.cached(tmp_path, kept, lambda sink: pytest.fail("still damaged"))
    assert sorted(path.name for path in kept.parent.iterdir()) == [".entry.lock", "entry"]


def test_an_error_while_building_leaves_nothing(tmp_path, kept):
    def fail(sink):
        make(sink)
        raise DataError("sample 7")

    with pytest.raises(DataError, match="sample 7"):
        cache.cached(tmp_path, kept, fail)
    assert [path.name for path in kept.parent.iterdir()] == [".entry.lock"]


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, kept):
    def fail(sink):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"no space left.*SNN_DELAY_PLUGINS_CACHE"):
        cache.cached(tmp_path, kept, fail)


def test_rows_of_another_kind_are_a_mistake(tmp_path, kept):
    def mixed(sink):
        sink.append("a", np.zeros((2, 3)))
        sink.append("a", np.zeros((2, 4)))

    with pytest.raises(TypeError, match="a: rows of"):
        cache.cached(tmp_path, kept, mixed)


BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from recipes.engine.files import cache
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
def make(sink):
    with open(folder / "built", "a") as file:
        file.write("x")
    for i in range(10):
        sink.append("numbers", np.full(1000, i))
        time.sleep(pause)
print(cache.cached(folder, folder / "cache" / "entry", make)["numbers"].sum(), flush=True)
"""


def build(folder, pause):
    command = [sys.executable, "-c", BUILD, str(folder), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_build_leaves_nothing_that_is_used_and_the_next_one_cleans_up(tmp_path):
    (tmp_path / "cache").mkdir()
    process = build(tmp_path, pause=5.0)
    until(lambda: list((tmp_path / "cache").glob(".entry.*.parts")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cache" / "entry").exists()
    assert build(tmp_path, pause=0).communicate(timeout=60)[0] == "45000\n"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".entry.lock", "entry"]


def test_processes_that_want_the_same_entry_build_it_once(tmp_path):
    processes = [build(tmp_path, pause=0.05) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["45000\n"] * 2
    assert (tmp_path / "built").read_text() == "x"


# ----------------------------------------------------------------------------------------------------- memory

SAMPLES, SPIKES = 3000, 2000  # 6 million spikes: 36 MB of events, 300 MB of counts at 1 ms


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("large") / "x_train.h5"
    with h5py.File(path, "w") as file:
        for name, kind, draw in (
            ("times", np.float16, lambda: np.sort(rng.random(SPIKES, np.float32)).astype(np.float16)),
            ("units", np.uint16, lambda: rng.integers(0, 700, SPIKES, np.uint16)),
        ):
            dataset = file.create_dataset(f"spikes/{name}", (SAMPLES,), h5py.vlen_dtype(kind))
            for sample in range(SAMPLES):
                dataset[sample] = draw()
        file["labels"] = np.arange(SAMPLES) % 35
    return path


def peak(work):
    """The most bytes that Python and NumPy held at once during ``work``, above what they held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["events", "counts"])
def test_a_split_is_read_and_iterated_without_holding_it_in_memory(large, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_CACHE", str(tmp_path))
    read = {
        "events": lambda: events.read(large, Sampling(resolution=None)),
        "counts": lambda: binned.read(large, Binning(steps=200, group=1)),
    }[kind]
    size = {"events": 6 * SAMPLES * SPIKES, "counts": SAMPLES * 200 * 700}[kind]
    order = np.random.default_rng(0).permutation(SAMPLES)

    def iterate():
        part = read()
        for start in range(0, SAMPLES, 32):
            part.batch(order[start : start + 32], np.random.default_rng(0))

    built, iterated = peak(read), peak(iterate)
    chunk = {"events": 64 * SPIKES * 100, "counts": 64 * 200 * 700 * 12}[kind]  # with all intermediate arrays
    assert size > 34e6
    assert built < chunk + 5e6, f"{built / 1e6:.0f} MB"
    assert iterated < size / 4, f"{iterated / 1e6:.0f} MB"
