"""Recordings without speakers, of another length, of other units: the options of all sources in SHD's format."""

import argparse
import logging

import h5py
import numpy as np
import pytest

from recipes.datasets import SOURCES
from recipes.deckers_table1 import RECIPE as DECKERS
from recipes.engine.command import options, request
from recipes.engine.errors import DataError, OptionError
from recipes.eventprop_digits import RECIPE as DIGITS
from recipes.flagship_shd import RECIPE as FLAGSHIP
from snn_delay_plugins import SpikeEvents

KINDS = ("SHD", "SHD, augmented", "SHD as events")


def asked(source, *arguments):
    parser = argparse.ArgumentParser()
    source.add_options(parser)
    return source.with_options(parser.parse_args(arguments))


def write(path, samples=20, classes=2, units=60, seconds=1.0, scale=1.0):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", samples, h5py.vlen_dtype(np.float32))
        which = file.create_dataset("spikes/units", samples, h5py.vlen_dtype(np.int32))
        for i in range(samples):
            times[i] = np.sort(rng.uniform(0, seconds, 40)).astype(np.float32) * scale
            which[i] = rng.integers(0, units, 40)
        file["labels"] = np.arange(samples) % classes
    return path


def contents(part):
    inputs, labels = part.batch(np.arange(len(part)), np.random.default_rng(0))
    dense = inputs.to_dense(20.0).transpose(0, 1) if isinstance(inputs, SpikeEvents) else inputs
    return [row.numpy().tobytes() for row in dense], labels.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_split_makes_what_is_missing_of_every_class(tmp_path, kind):
    write(tmp_path / "own_train.h5")
    source = asked(SOURCES[kind], "--units", "60", "--split", "random", "--held-out", "0.3")
    splits = source.load(tmp_path, "clean")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [8, 6, 6]
    assert splits.inputs == (60 if kind == "SHD as events" else 12)
    seen = []
    for part in (splits.valid, splits.test):
        rows, labels = contents(part)
        assert sorted(labels) == [0, 0, 0, 1, 1, 1]
        seen += rows
    assert len(set(seen)) == 12  # no sample twice
    again, other = (asked(source, *more).load(tmp_path, "clean") for more in ((), ("--split-seed", "1")))
    assert again.digest == splits.digest != other.digest
    run = source.of_run(source.settings)
    assert run.load(tmp_path, "clean").digest == splits.digest


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_said_with_its_remedy(tmp_path, kind):
    write(tmp_path / "own_train.h5", units=701)
    with pytest.raises(DataError, match=r"own_test\.h5\[\.gz\] is missing; --split random makes one"):
        SOURCES[kind].load(tmp_path, "clean")
    with pytest.raises(DataError, match=r"spike of unit 700; units are 0 to 699 \(--units N"):
        asked(SOURCES[kind], "--split", "random").load(tmp_path, "clean")
    write(tmp_path / "own_train.h5")
    write(tmp_path / "own_test.h5", samples=4)
    with pytest.raises(DataError, match=r"no extra/speaker: there is no own_valid\.h5.*--split random holds out"):
        SOURCES[kind].load(tmp_path, "clean")
    with pytest.raises(DataError, match=r"number there what belongs together, or compare runs with --split random"):
        SOURCES[kind].folds(tmp_path, 3)
    splits = asked(SOURCES[kind], "--split", "random").load(tmp_path, "clean")
    assert len(splits.train) + len(splits.valid) == 20 and len(splits.test) == 4
    write(tmp_path / "own_valid.h5", samples=4, seconds=0.9)
    with pytest.raises(DataError, match="nothing to make under protocol clean, with own_train"):
        asked(SOURCES[kind], "--split", "random").load(tmp_path, "clean")


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_a_long_recording_is_cut_off_and_said_once_or_used(tmp_path, caplog, kind):
    write(tmp_path / "long_train.h5", seconds=2.0)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            short = asked(SOURCES[kind], "--split", "random").load(tmp_path, "clean")
    (said,) = [line for line in caplog.messages if "cut off" in line]
    with h5py.File(tmp_path / "long_train.h5") as file:
        times = np.concatenate(file["spikes/times"][:])
    assert f"{(times >= 1).sum()} of 800 spikes" in said and "in 20 of 20 samples" in said and "--duration" in said
    caplog.clear()
    long = asked(SOURCES[kind], "--split", "random", "--duration", "2").load(tmp_path, "clean")
    assert "cut off" not in caplog.text
    before, after = (part.test.batch(np.arange(1), np.random.default_rng(0))[0] for part in (short, long))
    if kind == "SHD as events":
        assert (before.duration, after.duration) == (1000.0, 2000.0)
    else:
        assert before.shape[1:] == (100, 140) and after.shape[1:] == (200, 140)
        assert after[:, :100].sum() < after.sum() == 40


def test_a_file_without_samples_is_refused(tmp_path):
    write(tmp_path / "no_train.h5", samples=0)
    with pytest.raises(DataError, match=r"no_train\.h5: no samples"):
        asked(SOURCES["SHD"], "--split", "random").load(tmp_path, "clean")


def test_times_in_ms_are_refused(tmp_path):
    write(tmp_path / "ms_train.h5", scale=1000.0)
    with pytest.raises(DataError, match=r"ms_train\.h5: spikes up to .* divide those in ms by 1000"):
        asked(SOURCES["SHD"], "--split", "random").load(tmp_path, "clean")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--units", "64"), r"--units 64: not a multiple of the 5 .*--units 65"),
        (("--units", "0"), "--units 0: between 1 and 32767"),
        (("--units", "3"), "--units 3: fewer than the 5 neighbouring units.*give a --group, between 1 and 3"),
        (("--group", "3"), "--units 700: not a multiple of the 3"),
        (("--duration", "0.0005"), "--duration 0.0005: between 0.01 and"),
        (("--duration", "1.004"), "not a whole number of steps of 10 ms"),
        (("--duration", "nan"), "--duration nan"),
        (("--held-out", "0.9"), "--held-out 0.9: a share between"),
        (("--split-seed", "-1"), "--split-seed -1: a whole number between 0 and 4294967295"),
    ],
)
def test_lengths_and_numbers_that_cannot_be_are_refused(arguments, said):
    for source in (SOURCES["SHD"], FLAGSHIP.source_of_data):
        with pytest.raises(OptionError, match=said):
            asked(source, *arguments)


def test_what_augmentations_do_to_units_is_scaled_with_their_number():
    flagship = asked(FLAGSHIP.source_of_data, "--units", "70", "--augment", "channel_warp=3")
    assert flagship.settings["augmentation"]["channel_shift"] == FLAGSHIP.source_of_data.strengths["channel_shift"] / 10
    assert flagship.settings["augmentation"]["channel_warp"] == 3.0
    assert flagship.settings["augmentation"]["time_stretch"] == FLAGSHIP.source_of_data.strengths["time_stretch"]
    digits = asked(DIGITS.source_of_data, "--units", "64", "--group", "2")
    assert digits._inputs == 32 and digits.settings["augmentation"]["channels"] == round(8 * 32 / 140)


def test_runs_as_ever_have_the_settings_that_they_had():
    assert set(asked(DECKERS.source_of_data).settings) == {"binning"}
    assert asked(FLAGSHIP.source_of_data).settings == FLAGSHIP.source_of_data.settings


def test_a_table_finds_the_runs_of_these_options():
    parser = argparse.ArgumentParser()
    DECKERS.add_options(parser)
    given = parser.parse_args(["--units", "60", "--split", "random"])
    given.name = "deckers_table1"
    found = request.parse(DECKERS, given)
    assert found.source.matches(found.source_options, found.source.settings)
    assert not found.source.matches(found.source_options, DECKERS.source_of_data.settings)
    assert set(options.of_source(found.source)) >= {"units", "duration", "group", "split"}
