"""``python -m recipes tune``: cross-validation over the speakers of the training set."""

import argparse
import functools
import gzip
import json
import pickle
import shutil
import statistics

import h5py
import numpy as np
import pytest

from recipes.__main__ import main
from recipes.deckers_table1 import RECIPE as DECKERS
from recipes.engine.command import options
from recipes.engine.data import binned, shd_folder
from recipes.engine.errors import DataError
from recipes.eventprop_shd import RECIPE as EVENTPROP

SOURCES = {"counts": DECKERS.source_of_data, "events": EVENTPROP.source_of_data}
SPEAKERS = range(6)  # of the miniature's training file


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]


def recordings(part):
    """What an augmented part augments."""
    return getattr(part, "recordings", part)


@pytest.fixture
def folder(small_data, tmp_path):
    """A data set of which only the training file can be read."""
    for path in small_data.iterdir():
        shutil.copy(path, tmp_path / path.name)
    for split in ("valid", "test"):
        (tmp_path / f"miniature_{split}.h5.gz").write_bytes(b"not to be read")
    return tmp_path


@pytest.mark.parametrize("count", [2, 4, 6, 10])
def test_every_speaker_is_left_out_once(source, folder, count):
    folds = source.folds(folder, count)
    assert len(folds) == min(count, 6)
    assert sorted(who for fold in folds for who in fold) == list(SPEAKERS)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == source.folds(folder, count)


def test_every_speaker_can_be_left_out_alone(source, folder):
    parser = argparse.ArgumentParser()
    options.add_folds(parser)
    folds = source.folds(folder, parser.parse_args(["--folds", "speakers"]).folds)
    assert sorted(folds) == [(who,) for who in SPEAKERS]


def test_nobody_who_is_left_out_is_trained_on_and_no_other_file_is_read(source, folder):
    digests = set()
    for left_out in source.folds(folder, 3):
        splits = source.load_fold(folder, left_out)
        assert splits.test is None and list(splits.evaluated) == ["valid"] and splits.criterion == "valid_accuracy"
        assert set(recordings(splits.valid).speakers) == set(left_out)
        assert set(recordings(splits.train).speakers) == set(SPEAKERS) - set(left_out)
        assert len(recordings(splits.train)) + len(splits.valid) == 48
        assert f"speakers {left_out[0]}, {left_out[1]} left out of miniature_train.h5.gz" in splits.validation
        digests.add(splits.digest)
    assert len(digests) == 1


def test_other_processes_load_the_same_fold(source, folder):
    left_out = source.folds(folder, 6)[2]
    load = pickle.loads(pickle.dumps(functools.partial(source.load_fold, folder, left_out)))
    splits = load()
    assert splits.left_out == left_out and set(recordings(splits.valid).speakers) == set(left_out)


def spoken_by(folder, speakers, labels=None):
    """The miniature's training file with other speakers (None: without any) and labels."""
    path = folder / "miniature_train.h5.gz"
    plain = folder / "miniature_train.h5"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    with h5py.File(plain, "r+") as file:
        del file["extra/speaker"]
        if speakers is not None:
            file["extra/speaker"] = np.resize(speakers, 48).astype(np.uint16)
        if labels is not None:
            file["labels"][:] = np.resize(labels, 48)
    return folder


@pytest.mark.parametrize("speakers, message", [(None, "no extra/speaker: cross"), ([4], "one speaker only: cross")])
def test_a_file_that_names_nobody_to_leave_out_is_an_error(source, folder, speakers, message):
    with pytest.raises(DataError, match=rf"miniature_train\.h5: {message}-validation has nobody to leave out"):
        source.folds(spoken_by(folder, speakers), 3)


def test_a_class_of_one_speaker_cannot_be_left_out(source, folder):
    spoken_by(folder, [0, 1, 2], labels=[0, 1, 2])
    assert source.folds(folder, 3)
    with pytest.raises(DataError, match="leaves no training sample of class 1"):
        source.load_fold(folder, (1,))


def test_less_than_two_groups_are_refused(folder):
    with pytest.raises(ValueError, match="at least two groups of speakers, got 1"):
        shd_folder.speaker_groups(folder, functools.partial(binned.read, binning=binned.Binning(steps=5)), 1)


# ---------------------------------------------------------------------------------------------------- command


TUNE = ("tune", "eventprop_shd", "--smoke", "--folds", "2", "--only", "recurrent-64-weights")


def results(out):
    return {path: json.loads(path.read_text()) for path in out.glob("runs/*/result.json")}


def test_settings_are_compared_in_one_table(tmp_path, capsys):
    tune = (*TUNE, "--out", str(tmp_path))
    assert main([*tune]) == 0
    first = results(tmp_path)
    assert len(first) == 2 and not any("test_accuracy" in run["history"][0] for run in first.values())
    times = {path: path.stat().st_mtime_ns for path in first}
    assert main([*tune, "--set", "regularisation=[1e-5]", "--seeds", "0,1"]) == 0
    printed = capsys.readouterr().out
    assert "Fold 1 of 2: without speakers" in printed and "miniature: speakers left out" in printed
    found = results(tmp_path)
    assert len(found) == 6 and times == {path: path.stat().st_mtime_ns for path in first}

    rows = json.loads((tmp_path / "eventprop_shd_tuning.json").read_text())["rows"]
    assert len(rows) == 2 and rows[0]["accuracy"]["mean"] >= rows[1]["accuracy"]["mean"]
    for row in rows:
        strength = row["settings"]["training regularisation"]
        runs = [run for run in found.values() if run["settings"]["training"]["regularisation"] == strength]
        assert len(runs) == 2 * len(row["seeds"]) == {1e-5: 4, 2e-8: 2}[strength[0]]
        folds = {}
        for run in runs:
            best = max(epoch["valid_accuracy"] for epoch in run["history"])
            folds.setdefault(tuple(run["settings"]["left_out"]), []).append(best)
        means = [statistics.mean(values) for values in folds.values()]
        assert row["accuracy"]["mean"] == pytest.approx(statistics.mean(means))
        assert row["accuracy"]["std"] == pytest.approx(statistics.stdev(means))
    text = (tmp_path / "eventprop_shd_tuning.md").read_text()
    assert "training regularisation" in text and "[1e-05]" in text and "2 of 2" in text and "test set was not read" in text
    (remark,) = (line for line in text.splitlines() if "Settings other than the recipe's: " in line)
    assert "epochs 1 (100)" in remark and "regularisation" not in remark  # which has its column

    # They are no runs of the table, which has none yet
    assert main(["table", "eventprop_shd", "--out", str(tmp_path)]) == 2
    assert "no finished runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("tune", "eventprop_yinyang", "--smoke"), "the data of eventprop_yinyang name no speakers to leave out"),
        (("tune", "eventprop_braille"), "the data of eventprop_braille name no speakers"),
        (("tune", "dcls_table2", "--dataset", "gsc"), "the data of dcls_table2_gsc name no speakers"),
        ((*TUNE, "--protocol", "clean"), "--protocol clean: tune leaves speakers out"),
        (("tune", "eventprop_shd", "--smoke", "--folds", "1"), "--folds 1: at least two"),
        (("tune", "eventprop_shd", "--smoke", "--folds", "x"), "'x' is not a whole number"),
        (("run", "eventprop_shd", "--smoke", "--folds", "3"), "--folds"),
        (("tune", "deckers_fig3"), "deckers_fig3"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and message in printed.err and printed.err.count("\n") == 1 and not printed.out


# ------------------------------------------------------------------------- settings in which networks differ


def test_a_rate_in_which_the_chosen_networks_agree_can_be_set(tmp_path, capsys):
    run = ["run", "eventprop_shd", "--smoke", "--only", "recurrent-64-weights", "--out", str(tmp_path)]
    assert main(run) == 0 and main([*run, "--set", "regularisation=[1e-5]"]) == 0
    assert {tuple(r["settings"]["training"]["regularisation"]) for r in results(tmp_path).values()} == {(2e-8,), (1e-5,)}
    capsys.readouterr()
    table = ["table", "eventprop_shd", "--out", str(tmp_path)]
    assert main(table) == 2  # never one mean of both
    assert "different settings (training regularisation: [1e-05], [2e-08]); choose with" in capsys.readouterr().err
    only = ["--only", "recurrent-64-weights", "--set", "regularisation=[1e-5]"]
    assert main([*table, *only]) == 0


def test_one_in_which_they_differ_cannot(tmp_path, capsys):
    both = ["--only", "recurrent-64-weights,feedforward-64-weights", "--set", "regularisation=[1e-5]"]
    assert main(["run", "eventprop_shd", "--smoke", "--out", str(tmp_path), *both]) == 2
    assert "--set regularisation: the networks of this table differ in it; choose some" in capsys.readouterr().err
    one = ["--only", "recurrent-64-weights", "--set", "hidden=32"]  # the row's name says 64
    assert main(["run", "eventprop_shd", "--smoke", "--out", str(tmp_path), *one]) == 2
    assert "--set hidden: the networks of this table differ in it; change it in the recipe" in capsys.readouterr().err
