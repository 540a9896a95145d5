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

from recipes.engine import data, miniature
from recipes.engine.data import Binning, DataError

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
@pytest.mark.parametrize(
    "steps, group, duration", [(100, 5, 1.0), (100, 5, 1.4), (7, 1, 0.5), (250, 700, 1.0)]
)
def test_binning_counts_the_raw_events(tmp_path, late, steps, group, duration):
    times, units = events(np.random.default_rng(steps))
    path = write(tmp_path / "x_train.h5", times, units, np.zeros(9, int))
    binning = Binning(duration, steps, 700, group, late)
    binned = data.bin_file(path, binning, allow_silence=True)
    expected = [loop(t, u, binning) for t, u in zip(times, units, strict=True)]
    assert binned.counts.dtype == np.uint8
    np.testing.assert_array_equal(binned.counts, [counts for counts, _ in expected])
    assert binned.late == sum(late for _, late in expected) > 0


def test_a_spike_on_a_bin_edge_belongs_to_the_later_bin(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.0, 0.25, 0.5, 0.57, 1.0]], [[0] * 5], [0])
    counts = data.bin_file(path, Binning()).counts[0, :, 0]
    assert np.flatnonzero(counts).tolist() == [0, 25, 50, 56]  # float16 stores 0.57 as 0.5698; 1.0 is dropped


def test_neighbouring_channels_share_a_group(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.0] * 4], [[4, 5, 9, 699]], [0])
    counts = data.bin_file(path, Binning()).counts[0, 0]
    assert {i: int(counts[i]) for i in np.flatnonzero(counts)} == {0: 1, 1: 2, 139: 1}


def test_more_samples_than_one_chunk_are_binned_alike(tmp_path, monkeypatch):
    times, units = events(np.random.default_rng(1))
    path = write(tmp_path / "x_train.h5", times, units, np.zeros(9, int))
    whole = data.bin_file(path, Binning(), allow_silence=True)
    monkeypatch.setattr(data, "_CHUNK", 2)
    np.testing.assert_array_equal(data.bin_file(path, Binning(), allow_silence=True).counts, whole.counts)


def test_a_gzipped_file_reads_like_the_plain_one(tmp_path):
    times, units = events(np.random.default_rng(2))
    plain = write(tmp_path / "x_train.h5", times, units, np.arange(9), speakers=np.arange(9))
    packed = tmp_path / "x_train.h5.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = (data.bin_file(path, Binning(), allow_silence=True) for path in (plain, packed))
    for field in ("counts", "labels", "speakers"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("reading", [data.bin_file, data.read])
def test_samples_without_spikes_are_an_error_unless_they_are_allowed(tmp_path, reading):
    path = write(tmp_path / "x_train.h5", [[], [0.1], []], [[], [3], []], [0, 0, 0])
    for _ in range(2):  # made, and from the cache
        with pytest.raises(DataError, match=r"x_train\.h5: 2 samples \(numbers 0, 2\) have no spikes.*--allow-silence"):
            reading(path, Binning())
        counts = reading(path, Binning(), allow_silence=True).counts
        assert counts[1].sum() == 1 and counts[0].sum() == counts[2].sum() == 0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"duration": 0.0}, {"group": 3}, {"late": "keep"}])
def test_impossible_binning_is_refused(wrong):
    with pytest.raises(ValueError):
        Binning(**wrong)


# -------------------------------------------------------------------------------------------- malformed files

GOOD = {"times": [[0.1, 0.2], [0.3]], "units": [[1, 2], [3]], "labels": [0, 1], "speakers": [0, 1]}
MALFORMED = {
    "no spikes/times": ({"times": None}, r"no dataset spikes/times"),
    "no spikes/units": ({"units": None}, r"no dataset spikes/units"),
    "no labels": ({"labels": None}, r"no dataset labels"),
    "fewer labels than samples": ({"labels": [0]}, r"2 samples in spikes/times but 1 labels"),
    "fewer unit arrays": ({"units": [[1, 2]]}, r"1 samples in spikes/units but 2 labels"),
    "fewer speakers": ({"speakers": [0]}, r"1 samples in extra/speaker but 2 labels"),
    "unequal lengths in one sample": (
        {"units": [[1, 2], [3, 4]]},
        r"sample 1 has 1 spike times but 2 units",
    ),
    "unit 700": ({"units": [[1, 2], [700]]}, r"sample 1 has a spike of unit 700; units are 0 to 699"),
    "negative unit": ({"units": [[-1, 2], [3]], "units_type": np.int32}, r"sample 0 has a spike of unit -1"),
    "NaN time": ({"times": [[0.1, 0.2], [np.nan]]}, r"sample 1 has the spike time nan"),
    "infinite time": ({"times": [[0.1, np.inf], [0.2]]}, r"sample 0 has the spike time inf"),
    "negative time": ({"times": [[-0.5, 0.2], [0.3]]}, r"sample 0 has a negative spike time \(-0.5 s\)"),
    "times as integers": ({"times_type": np.int32}, r"spikes/times must hold one array of floats"),
    "units as floats": ({"units_type": np.float32}, r"spikes/units must hold one array of integers"),
    "labels as floats": ({"labels": [0.0, 1.0]}, r"labels must be one integer per sample"),
    "negative label": ({"labels": [0, -1]}, r"sample 1 has label -1, out of range"),
    "label beyond the named classes": (
        {"labels": [0, 2], "keys": ["null", "eins"]},
        r"sample 1 has label 2, out of range: 0 to 1",
    ),
    "no samples": (
        {"times": [], "units": [], "labels": np.zeros(0, int), "speakers": np.zeros(0, int)},
        r"no samples",
    ),
    "256 spikes in a bin": (
        {"times": [[0.1, 0.2], [0.5] * 256], "units": [[1, 2], [3] * 256]},
        r"sample 1 has 256 spikes in one bin",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_an_error_that_names_file_and_sample(tmp_path, case):
    change, message = MALFORMED[case]
    path = write(tmp_path / "x_train.h5", **(GOOD | change))
    with pytest.raises(DataError, match=message) as error:
        data.bin_file(path, Binning())
    assert str(path) in str(error.value)


def test_the_sample_is_counted_from_the_start_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_CHUNK", 2)
    path = write(tmp_path / "x_train.h5", [[0.1]] * 5, [[1]] * 4 + [[701]], [0] * 5)
    with pytest.raises(DataError, match="sample 4 has a spike of unit 701"):
        data.bin_file(path, Binning())


def test_times_that_are_not_lists_are_an_error(tmp_path):
    with h5py.File(tmp_path / "x_train.h5", "w") as file:
        file["spikes/times"] = np.zeros(3, np.float16)
        file["spikes/units"] = np.zeros(3, np.uint16)
        file["labels"] = np.zeros(3, int)
    with pytest.raises(DataError, match="spikes/times must hold one array of floats"):
        data.bin_file(tmp_path / "x_train.h5", Binning())


@pytest.mark.parametrize("name", ["x_train.h5", "x_train.h5.gz"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name, damage):
    whole = write(tmp_path / "whole.h5", [[0.1] * 500] * 50, [[1] * 500] * 50, [0] * 50).read_bytes()
    whole = gzip.compress(whole) if name.endswith(".gz") else whole
    content = {"empty": b"", "garbage": b"garbage" * 50, "truncated": whole[: len(whole) // 2]}[damage]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        data.bin_file(tmp_path / name, Binning())


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        data.bin_file(tmp_path / "x_train.h5", Binning())


# ----------------------------------------------------------------------------------------- folders and splits


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_without_recordings_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no spike recordings here"):
        data.find_files(folder_of(tmp_path, "notes.txt"))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        data.find_files(tmp_path / "nowhere")


def test_a_missing_test_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"shd_test\.h5\[\.gz\] is missing"):
        data.find_files(folder_of(tmp_path, "shd_train.h5.gz"))


def test_two_data_sets_in_one_folder_have_to_be_told_apart(tmp_path):
    folder_of(tmp_path, "shd_train.h5", "shd_test.h5", "ssc_train.h5", "ssc_test.h5", "ssc_valid.h5")
    with pytest.raises(DataError, match="several data sets"):
        data.find_files(tmp_path)
    name, files = data.find_files(tmp_path / "ssc")
    assert name == "SSC" and set(files) == {"train", "valid", "test"}


def test_an_unpacked_file_is_preferred_to_the_gzipped_one(tmp_path):
    _, files = data.find_files(folder_of(tmp_path, "shd_train.h5.gz", "shd_train.h5", "shd_test.h5.gz"))
    assert files["train"].name == "shd_train.h5" and files["test"].name == "shd_test.h5.gz"


def shd_like(folder, train_labels, test_labels, speakers=None):
    for split, labels in (("train", train_labels), ("test", test_labels)):
        who = speakers if split == "train" else None
        write(
            folder / f"shd_{split}.h5", [[0.1]] * len(labels), [[i] for i in range(len(labels))], labels, who
        )
    return folder


def test_a_test_label_outside_the_training_classes_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"shd_test\.h5: sample 1 has label 3, out of range"):
        data.load(shd_like(tmp_path, [0, 1, 2], [0, 3]), Binning(), "paper")


def test_a_training_label_beyond_a_gap_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match=r"shd_train\.h5: sample 2 has label 60000, but no sample has label 2"
    ):
        data.load(shd_like(tmp_path, [0, 1, 60000], [0, 1]), Binning(), "paper")


def test_the_clean_protocol_uses_the_valid_file(small_data):
    splits = data.load(small_data, Binning(), "clean")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [48, 16, 16]
    assert list(splits.evaluated) == ["valid", "test"] and splits.classes == 4
    assert "miniature_valid.h5.gz" in splits.validation


def test_the_paper_protocol_chooses_on_the_test_file(small_data):
    splits = data.load(small_data, Binning(), "paper")
    assert splits.valid is None and list(splits.evaluated) == ["test"] and len(splits.train) == 48


def test_without_a_valid_file_the_clean_protocol_holds_out_speakers(tmp_path):
    labels, speakers = np.tile([0, 1], 20), np.repeat(np.arange(10), 4)
    folder = shd_like(tmp_path, labels, [0, 1], speakers)
    splits = data.load(folder, Binning(), "clean")
    assert len(np.unique(splits.valid.speakers)) == 2 and len(splits.valid) == 8 and len(splits.train) == 32
    assert not set(splits.valid.speakers) & set(splits.train.speakers)
    again, other = data.load(folder, Binning(), "clean"), data.load(folder, Binning(), "clean", split_seed=3)
    np.testing.assert_array_equal(again.valid.speakers, splits.valid.speakers)
    assert set(other.valid.speakers) != set(splits.valid.speakers)
    assert splits.digest == again.digest != other.digest


def test_the_clean_protocol_needs_somebody_to_hold_out(tmp_path):
    with pytest.raises(DataError, match="no extra/speaker"):
        data.load(shd_like(tmp_path, [0, 1], [0, 1]), Binning(), "clean")


def test_one_speaker_cannot_be_held_out(tmp_path):
    with pytest.raises(DataError, match="one speaker only"):
        data.load(shd_like(tmp_path, [0, 1], [0, 1], [7, 7]), Binning(), "clean")


# ------------------------------------------------------------------------------------------------------ cache


def test_the_second_reading_comes_from_the_cache(small_data, monkeypatch):
    first = data.load(small_data, Binning(), "clean")
    monkeypatch.setattr(data, "_bin_into", lambda *_: pytest.fail("binned again"))
    second = data.load(small_data, Binning(), "clean")
    np.testing.assert_array_equal(first.train.counts, second.train.counts)
    np.testing.assert_array_equal(first.train.speakers, second.train.speakers)
    assert first.digest == second.digest


@pytest.mark.parametrize("change", [{"steps": 50}, {"group": 7}, {"late": "last bin"}, {"duration": 0.5}])
def test_other_settings_have_another_cache_file(small_data, change):
    path = small_data / "miniature_test.h5.gz"
    assert data._entry(path, Binning()) != data._entry(
        path, dataclasses.replace(Binning(), **change)
    )


def test_a_changed_file_is_binned_anew(tmp_path):
    path = write(tmp_path / "x_train.h5", [[0.1]], [[1]], [0])
    assert data.read(path, Binning()).counts.sum() == 1
    write(path, [[0.1, 0.2]], [[1, 1]], [0])
    os.utime(path, ns=(1, 1))
    assert data.read(path, Binning()).counts.sum() == 2


def test_counts_stay_on_disk(small_data):
    counts = data.read(small_data / "miniature_test.h5.gz", Binning()).counts
    assert not counts.flags.owndata and not counts.flags.writeable


# -------------------------------------------------------------------------------------------------- miniature


def test_the_miniature_follows_its_seed(tmp_path):
    sizes = {"train": 8, "test": 8}
    folders = [miniature.make(tmp_path / name, seed, sizes) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    one, same, other = (data.load(folder, Binning(), "paper").digest for folder in folders)
    assert one == same != other


def test_the_orders_of_the_miniature_differ_in_timing_alone(tmp_path):
    splits = data.load(miniature.make(tmp_path, sizes={"train": 400, "test": 4}), Binning(), "paper")
    counts, labels = splits.train.counts.astype(float), splits.train.labels
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
    binned = data.bin_file(tmp_path / "dsp20_test.h5.gz", Binning())
    assert len(binned) == 400
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
            np.testing.assert_array_equal(binned.counts[i], expected)
        assert (
            binned.labels[399] == file["labels"][399] and binned.speakers[399] == file["extra/speaker"][399]
        )
