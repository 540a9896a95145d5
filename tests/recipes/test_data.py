"""Reading and binning of spike recordings: against the raw events, and every way in which a file can be
wrong."""

import dataclasses
import gzip
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from recipes.engine.data import binned, miniature, shd_files, shd_folder
from recipes.engine.data.binned import BinnedCounts, Binning
from recipes.engine.data.own_recordings import Split
from recipes.engine.errors import DataError
from recipes.engine.files import cache

DSP20 = Path(__file__).parents[3] / "shared" / "data" / "dsp20"


def write(path, times, units, labels, speakers=None, keys=None, times_type=np.float16, units_type=np.uint16):
    """A file in SHD's format; None leaves a dataset out."""
    with h5py.File(path, "w") as file:
        for name, arrays, kind in (("times", times, times_type), ("units", units, units_type)):
            if arrays is not None:
                dataset = file.create_dataset(f"spikes/{name}", (len(arrays),), h5py.vlen_dtype(kind))
                for i, array in enumerate(arrays):
                    dataset[i] = np.asarray(array, kind)
        if labels is not None:
            file["labels"] = np.asarray(labels)
        if speakers is not None:
            file["extra/speaker"] = np.asarray(speakers)
        if keys is not None:
            file["extra/keys"] = np.array(keys, dtype=h5py.string_dtype())
    return path


def loop(times, units, binning):
    """Counts of one sample, event by event, with the edges of every bin written out."""
    counts = np.zeros((binning.steps, binning.channels), int)
    late = 0
    for time, unit in zip(times, units, strict=True):
        for k in range(binning.steps):
            if k * binning.duration <= float(time) * binning.steps < (k + 1) * binning.duration:
                counts[k, int(unit) // binning.group] += 1
                break
        else:
            late += 1
            if binning.late == "last bin":
                counts[-1, int(unit) // binning.group] += 1
    return counts, late


def events(rng, samples=9, longest=300, end=1.7):
    lengths = [0, 1, *rng.integers(2, longest, samples - 2)]
    times = [np.sort(rng.uniform(0, end, n)).astype(np.float16) for n in lengths]
    return times, [rng.integers(0, 700, n).astype(np.uint16) for n in lengths]


# ---------------------------------------------------------------------------------------------------- binning


@pytest.mark.parametrize("late", ["drop", "last bin"])
@pytest.mark.parametrize("steps, group, duration", [(100, 5, 1.0), (100, 5, 1.4), (7, 1, 0.5), (250, 700, 1.0)])
def test_binning_counts_the_raw_events(tmp_path, late, steps, group, duration):
    times, units = events(np.random.default_rng(steps))
    path = write(tmp_path / "x_train.h5", times, units, np.zeros(9, int))
    binning = Binning(duration, steps, 700, group, late)
    found = binned.read(path, binning, allow_silence=True)
    expected = [loop(t, u, binning) for t, u in zip(times, units, strict=True)]
    assert found.counts.dtype == np.uint8
    np.testing.assert_array_equal(found.counts, [counts for counts, _ in expected])
    assert found.late == sum(late for _, late in expected) > 0


def test_a_spike_on_a_bin_edge_belongs_to_the_later_bin(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.0, 0.25, 0.5, 0.57, 1.0]], [[0] * 5], [0])
    counts = binned.read(path, Binning()).counts[:][0, :, 0]
    assert np.flatnonzero(counts).tolist() == [0, 25, 50, 56]  # float16 stores 0.57 as 0.5698; 1.0 is dropped


def test_neighbouring_channels_share_a_group(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.0] * 4], [[4, 5, 9, 699]], [0])
    counts = binned.read(path, Binning()).counts[:][0, 0]
    assert {i: int(counts[i]) for i in np.flatnonzero(counts)} == {0: 1, 1: 2, 139: 1}


def test_more_samples_than_one_chunk_are_binned_alike(tmp_path, monkeypatch):
    times, units = events(np.random.default_rng(1))
    path = write(tmp_path / "x_train.h5", times, units, np.zeros(9, int))
    whole = binned.read(path, Binning(), allow_silence=True)
    monkeypatch.setattr(shd_files, "_CHUNK", 2)
    same = shutil.copy(path, tmp_path / "y_train.h5")  # not in the cache
    np.testing.assert_array_equal(binned.read(same, Binning(), allow_silence=True).counts, whole.counts)


def test_a_gzipped_file_reads_like_the_plain_one(tmp_path):
    times, units = events(np.random.default_rng(2))
    plain = write(tmp_path / "x_train.h5", times, units, np.arange(9), speakers=np.arange(9))
    packed = tmp_path / "x_train.h5.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = (binned.read(path, Binning(), allow_silence=True) for path in (plain, packed))
    for field in ("counts", "labels", "speakers"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"duration": 0.0}, {"group": 3}, {"late": "keep"}])
def test_impossible_binning_is_refused(wrong):
    with pytest.raises(ValueError):
        Binning(**wrong)


# ----------------------------------------------------------------------------------------- folders and splits


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_two_data_sets_in_one_folder_have_to_be_told_apart(tmp_path):
    folder_of(tmp_path, "shd_train.h5", "shd_test.h5", "ssc_train.h5", "ssc_test.h5", "ssc_valid.h5")
    with pytest.raises(DataError, match="several data sets"):
        shd_folder.find_files(tmp_path)
    name, files = shd_folder.find_files(tmp_path / "ssc")
    assert name == "SSC" and set(files) == {"train", "valid", "test"}


def test_an_unpacked_file_is_preferred_to_the_gzipped_one(tmp_path):
    _, files = shd_folder.find_files(folder_of(tmp_path, "shd_train.h5.gz", "shd_train.h5", "shd_test.h5.gz"))
    assert files["train"].name == "shd_train.h5" and files["test"].name == "shd_test.h5.gz"


def shd_like(folder, train_labels, test_labels, speakers=None):
    for split, labels in (("train", train_labels), ("test", test_labels)):
        who = speakers if split == "train" else None
        write(folder / f"shd_{split}.h5", [[0.1]] * len(labels), [[i] for i in range(len(labels))], labels, who)
    return folder


def test_the_clean_protocol_uses_the_valid_file(small_data):
    splits = BinnedCounts(Binning()).load(small_data, "clean")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [48, 16, 16]
    assert list(splits.evaluated) == ["valid", "test"] and splits.classes == 4
    assert "miniature_valid.h5.gz" in splits.validation


def test_where_the_paper_chose_on_a_validation_file_so_does_its_protocol(small_data, tmp_path):
    splits = BinnedCounts(Binning(), paper_criterion="valid_accuracy").load(small_data, "paper")
    assert splits.criterion == "valid_accuracy" and len(splits.valid) == 16 and "miniature_valid" in splits.validation
    folder = miniature.make(tmp_path, sizes={"train": 8, "test": 4})
    with pytest.raises(DataError, match=r"miniature_valid\.h5\.gz is missing, on which the paper chose its epoch"):
        BinnedCounts(Binning(), paper_criterion="valid_accuracy").load(folder, "paper")


def test_the_paper_protocol_chooses_on_the_test_file(small_data):
    splits = BinnedCounts(Binning()).load(small_data, "paper")
    assert splits.valid is None and list(splits.evaluated) == ["test"] and len(splits.train) == 48


def test_without_a_valid_file_the_clean_protocol_holds_out_speakers(tmp_path):
    labels, speakers = np.tile([0, 1], 20), np.repeat(np.arange(10), 4)
    folder = shd_like(tmp_path, labels, [0, 1], speakers)
    splits = BinnedCounts(Binning()).load(folder, "clean")
    assert len(np.unique(splits.valid.speakers)) == 2 and len(splits.valid) == 8 and len(splits.train) == 32
    assert not set(splits.valid.speakers) & set(splits.train.speakers)
    again = BinnedCounts(Binning()).load(folder, "clean")
    other = shd_folder.load_splits(folder, "clean", lambda path: binned.read(path, Binning()), 140, Split(seed=3))
    np.testing.assert_array_equal(again.valid.speakers, splits.valid.speakers)
    assert set(other.valid.speakers) != set(splits.valid.speakers)
    assert splits.digest == again.digest != other.digest


def test_the_clean_protocol_needs_somebody_to_hold_out(tmp_path):
    with pytest.raises(DataError, match="no extra/speaker"):
        BinnedCounts(Binning()).load(shd_like(tmp_path, [0, 1], [0, 1]), "clean")


def test_one_speaker_cannot_be_held_out(tmp_path):
    with pytest.raises(DataError, match="one speaker only"):
        BinnedCounts(Binning()).load(shd_like(tmp_path, [0, 1], [0, 1], [7, 7]), "clean")


# ------------------------------------------------------------------------------------------------------ cache


def test_the_second_reading_comes_from_the_cache(small_data, monkeypatch):
    first = BinnedCounts(Binning()).load(small_data, "clean")
    monkeypatch.setattr(binned, "_bin_into", lambda *_: pytest.fail("binned again"))
    second = BinnedCounts(Binning()).load(small_data, "clean")
    np.testing.assert_array_equal(first.train.counts, second.train.counts)
    np.testing.assert_array_equal(first.train.speakers, second.train.speakers)
    assert first.digest == second.digest


@pytest.mark.parametrize("change", [{"steps": 50}, {"group": 7}, {"late": "last bin"}, {"duration": 0.5}])
def test_other_settings_have_another_cache_file(small_data, change):
    path = small_data / "miniature_test.h5.gz"
    assert binned._entry(path, Binning()) != binned._entry(path, dataclasses.replace(Binning(), **change))


def test_a_changed_file_is_binned_anew(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.1]], [[1]], [0])
    assert binned.read(path, Binning()).counts[:].sum() == 1
    write(path, [[0.1, 0.2]], [[1, 1]], [0])
    os.utime(path, ns=(1, 1))
    assert binned.read(path, Binning()).counts[:].sum() == 2


def test_counts_stay_on_disk(small_data):
    assert isinstance(binned.read(small_data / "miniature_test.h5.gz", Binning()).counts, cache.OnDisk)


# -------------------------------------------------------------------------------------------------- miniature


def test_the_miniature_follows_its_seed(tmp_path):
    sizes = {"train": 8, "test": 8}
    folders = [miniature.make(tmp_path / name, seed, sizes) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    one, same, other = (BinnedCounts(Binning()).load(folder, "paper").digest for folder in folders)
    assert one == same != other


def test_the_orders_of_the_miniature_differ_in_timing_alone(tmp_path):
    splits = BinnedCounts(Binning()).load(miniature.make(tmp_path, sizes={"train": 400, "test": 4}), "paper")
    counts, labels = splits.train.counts[:].astype(float), splits.train.labels
    over_time = np.stack([counts[labels == c].sum(1).mean(0) for c in range(4)])  # mean counts per channel
    centre = (counts.sum(2) * np.arange(100)).sum(1) / counts.sum((1, 2))
    bands = over_time.reshape(4, 2, 70).sum(2)
    assert bands[0, 0] > 2 * bands[0, 1] and bands[2, 1] > 2 * bands[2, 0]  # the band shows in the counts
    for first, second in ((0, 1), (2, 3)):  # the order does not, beyond noise
        assert np.abs(over_time[first] - over_time[second]).max() < 0.6
        assert abs(centre[labels == first].mean() - centre[labels == second].mean()) < 4
    low, high = counts[:, :, :35].sum(2), counts[:, :, 35:70].sum(2)
    lag = [(high[labels == c].mean(0).argmax() - low[labels == c].mean(0).argmax()) for c in (0, 1)]
    assert lag[0] > 10 and lag[1] < -10


@pytest.mark.skipif(not DSP20.is_dir(), reason="the recordings in ../shared/data/dsp20 are not here")
def test_real_recordings_are_binned_like_their_raw_events(tmp_path):
    shutil.copy(DSP20 / "dsp20_test.h5.gz", tmp_path)
    found = binned.read(tmp_path / "dsp20_test.h5.gz", Binning())
    assert len(found) == 400
    with gzip.open(tmp_path / "dsp20_test.h5.gz") as packed, open(tmp_path / "plain.h5", "wb") as plain:
        shutil.copyfileobj(packed, plain)
    with h5py.File(tmp_path / "plain.h5") as file:
        for i in (0, 255, 256, 399):
            times, units = file["spikes/times"][i], file["spikes/units"][i]
            edges = np.arange(101) / 100
            expected, _, _ = np.histogram2d(times.astype(float), units, [edges, np.arange(0, 701, 5)])
            expected[-1] -= np.histogram(units[times.astype(float) == 1.0], np.arange(0, 701, 5))[
                0
            ]  # histogram closes the last bin
            np.testing.assert_array_equal(found.counts[i : i + 1][0], expected)
        assert found.labels[399] == file["labels"][399] and found.speakers[399] == file["extra/speaker"][399]
