"""Recordings whose times stand on a grid keep their bins, in every dtype; those of none are what they say."""

import h5py
import numpy as np
import pytest

from recipes.engine.data import binned, events, recorded_grid
from recipes.engine.data.binned import Binning
from recipes.engine.data.events import Sampling


def write(path, times, kind):
    """One sample, of one unit."""
    with h5py.File(path, "w") as file:
        for name, values, held in (("times", times, kind), ("units", np.zeros(len(times)), "u2")):
            file.create_dataset(f"spikes/{name}", (1,), h5py.vlen_dtype(np.dtype(held)))[0] = values.astype(held)
        file["labels"] = np.zeros(1, "u2")
    return path


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("every", [0.5, 1, 2, 5, 10])
def test_recordings_on_a_grid_of_ms_keep_their_bins(tmp_path, kind, every):
    k = np.arange(round(1000 / every))
    path = write(tmp_path / "x_train.h5", k * every / 1000, kind)
    in_bins = np.bincount((k * round(every * 10)) // 100, minlength=100)
    np.testing.assert_array_equal(binned.read(path, Binning()).counts[:][0, :, 0], in_bins)
    kept = events.read(path, Sampling(resolution=every))
    np.testing.assert_allclose(kept.sample(0)[0], k * every, rtol=1e-7)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("steps", [3, 7, 100, 250, 1000, 2048])
def test_recordings_on_the_borders_of_the_bins_keep_their_bins(tmp_path, kind, steps):
    path = write(tmp_path / "x_train.h5", np.arange(steps) / steps * 1.4, kind)
    assert (binned.read(path, Binning(duration=1.4, steps=steps)).counts[:][0, :, 0] == 1).all()


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_late_spikes_do_not_change_the_bins_of_others(tmp_path, kind):
    path = write(tmp_path / "x_train.h5", np.r_[np.arange(1000) / 1000, 3.3, 7.0, 60000.0], kind)
    counts = binned.read(path, Binning(duration=0.7, steps=70))
    assert (counts.counts[:][0, :, 0] == 10).all() and counts.late == 303
    assert len(events.read(path, Sampling(duration=700.0)).times) == 700


def test_times_on_no_grid_are_what_they_say(tmp_path):
    times = np.sort(np.random.default_rng(0).uniform(0, 1, 5000)).astype(np.float16)
    path = write(tmp_path / "x_train.h5", times, "f2")
    expected = np.bincount(np.floor(times.astype(float) * 100).astype(int), minlength=101)[:100]
    np.testing.assert_array_equal(binned.read(path, Binning()).counts[:][0, :, 0], expected)
    kept = events.read(path, Sampling())
    np.testing.assert_array_equal(kept.sample(0)[0], np.unique(np.floor(times[times < 1].astype(float) * 1000)))


@pytest.mark.parametrize("rate", [100, 500, 1000, 2000])
def test_the_grid_is_found_in_any_order_and_in_pieces(rate):
    times = np.random.default_rng(0).permutation(np.arange(rate) / rate).astype(np.float16)
    found = recorded_grid.rate_of(np.array_split(times, 7))
    assert found % rate == 0
    np.testing.assert_allclose(np.sort(recorded_grid.restored(times, found)), np.arange(rate) / rate, rtol=1e-12)


@pytest.mark.parametrize(
    "times",
    [
        [], [0.0], [0.57], [0.25, 0.5, 0.57], np.arange(0, 1, 1 / 8000), np.r_[np.arange(1000) / 1000, 0.00051],
        [np.nan, np.inf],
    ],
)  # fmt: skip
def test_few_times_and_times_closer_than_float16_can_tell_stand_on_no_grid(times):
    assert recorded_grid.rate_of([np.array(times, np.float16)]) is None
