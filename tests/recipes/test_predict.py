"""What a trained network says of recordings: ``recipes predict`` and ``recipes.load``."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
import soundfile
import torch
from made_runs import make

import recipes
from recipes.__main__ import main
from recipes.engine.data import miniature, miniature_speech
from recipes.engine.errors import DataError
from recipes.tables import TABLES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs")
    asked = ["run", "flagship_shd", "--smoke", "--only", "20k", "--epochs", "1", "--out", str(out)]
    assert main(asked) == 0
    (folder,) = (out / "runs").iterdir()
    return folder


@pytest.fixture(scope="module")
def file():
    return miniature.make() / "miniature_test.h5.gz"


def recording(path, labels=None, units=(3, 600), keys=None):
    with h5py.File(path, "w") as made:
        for name, kind, of_sample in (("times", np.float16, (0.1, 0.2)), ("units", np.uint16, units)):
            spikes = made.create_dataset(f"spikes/{name}", (2,), h5py.vlen_dtype(kind))
            for sample in range(2):
                spikes[sample] = np.array(of_sample, kind)
        if labels is not None:
            made["labels"] = np.array(labels, np.uint16)
        if keys is not None:
            made["extra/keys"] = keys
    return path


def rows_of(path):
    with open(path, encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_a_loaded_run_is_as_right_as_its_result_says(run, file):
    trained = recipes.load(run)
    probabilities, labels = trained.predict(file)
    assert probabilities.shape == (64, trained.classes) and torch.allclose(probabilities.sum(1), torch.ones(64).double())
    right = (probabilities.argmax(1) == labels).double().mean().item() * 100
    assert right == pytest.approx(json.loads((run / "result.json").read_text())["best"]["clean"]["test_accuracy"])


def test_predictions_are_written_with_names_where_the_file_has_them(run, tmp_path, capsys):
    named = recording(tmp_path / "named.h5", labels=[0, 3], keys=[b"one", b"two", b"three", b"four"])
    unnamed = recording(tmp_path / "unnamed.h5")
    assert main(["predict", str(run), str(named), str(unnamed), "--csv", str(tmp_path / "all.csv")]) == 0
    first, second, third, _ = rows_of(tmp_path / "all.csv")
    assert first["name"] == ["one", "two", "three", "four"][int(first["predicted"])] and second["label"] == "3"
    assert third["name"] == third["predicted"] and third["label"] == ""
    assert float(first["probability"]) == max(float(first[f"p({name})"]) for name in ("one", "two", "three", "four"))
    assert "of 2 labelled samples right" in capsys.readouterr().out


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(run, tmp_path, capsys):
    damaged, empty = tmp_path / "damaged.h5", tmp_path / "empty.h5"
    damaged.write_bytes(b"no file of this kind" * 100)
    empty.touch()
    strange = recording(tmp_path / "strange.h5", units=(3, 700))
    good = recording(tmp_path / "good.h5")
    files = [damaged, empty, strange, tmp_path / "absent.h5", good]
    assert main(["predict", str(run), *map(str, files), "--csv", str(tmp_path / "all.csv")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [str(file) in line for file, line in zip(files[:4], said, strict=True)] == [True] * 4
    assert "unit 700; units are 0 to 699" in said[2]
    assert [row["file"] for row in rows_of(tmp_path / "all.csv")] == [str(good)] * 2


def test_silence_is_predicted_when_that_is_asked_for_alone(run, tmp_path, capsys):
    silent = recording(tmp_path / "silent.h5")
    with h5py.File(silent, "a") as made:
        for name in ("times", "units"):
            made[f"spikes/{name}"][1] = np.array([], made[f"spikes/{name}"][0].dtype)
    assert main(["predict", str(run), str(silent)]) == 1
    assert "--allow-silence" in capsys.readouterr().err
    assert main(["predict", str(run), str(silent), "--allow-silence"]) == 0


def test_every_table_is_found_by_the_name_that_its_runs_have():
    names = list(TABLES)
    assert {"flagship_shd", "deckers_table1", "deckers_table2_gsc", "dcls_table2_ssc", "eventprop_shd"} <= set(names)
    assert [TABLES[name].name for name in names] == names and "of_tomorrow" not in TABLES


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda run: (run / "best.pt").write_bytes(b"x"), "best.pt: damaged, or not written by these recipes"),
        (lambda run: (run / "best.pt").unlink(), "best.pt: not there"),
        (lambda run: (run / "result.json").unlink(), "no result.json; the run is not finished"),
        (lambda run: changed(run, network={"hidden": [7]}), "made with snn_delay_plugins 0.0.0, this is"),
        (lambda run: changed(run, network={"knob": 1}), "made with snn_delay_plugins 0.0.0, this is"),
        (lambda run: changed(run, recipe="of_tomorrow"), "there is no recipe of_tomorrow here"),
    ],
)
def test_a_run_that_cannot_be_used_is_named(run, tmp_path, change, said):
    shutil.copytree(run, copy := tmp_path / "run")
    change(copy)
    with pytest.raises(DataError, match=said):
        recipes.load(copy)


def changed(run, network=None, recipe=None):
    result = json.loads((run / "result.json").read_text())
    result["versions"]["snn_delay_plugins"] = "0.0.0"
    result["settings"]["network"] |= network or {}
    result["recipe"] = recipe or result["recipe"]
    (run / "result.json").write_text(json.dumps(result))


# --------------------------------------------------------------------------------- other files and other networks


def test_plain_arrays_are_read_as_recordings(run, tmp_path):
    recording(tmp_path / "same.h5")
    first, second = np.float16([0.1, 0.2]).tolist()  # as the file has them
    np.save(tmp_path / "rows.npy", np.array([[first, 3], [second, 600]]))
    (tmp_path / "rows.csv").write_text(f"time,unit\n{first},3\n{second},600\n")
    (tmp_path / "bare.csv").write_text(f"{first},3\n{second},600\n")
    several = {"times": np.array([first, second] * 2), "units": np.array([3, 600] * 2), "offsets": np.array([0, 2, 4])}
    np.savez(tmp_path / "several.npz", **several, labels=np.array([1, 2]), keys=np.array(["a", "b", "c", "d"]))
    files = [str(tmp_path / name) for name in ("same.h5", "rows.npy", "rows.csv", "bare.csv", "several.npz")]
    assert main(["predict", str(run), *files, "--csv", str(tmp_path / "all.csv")]) == 0
    rows = rows_of(tmp_path / "all.csv")
    assert [float(row["probability"]) for row in rows] == pytest.approx([float(rows[0]["probability"])] * 7, rel=1e-4)
    assert [row["label"] for row in rows] == [""] * 5 + ["1", "2"] and rows[-1]["name"] in "abcd"


def test_plain_arrays_that_are_no_recordings_are_named(run, tmp_path, capsys):
    def table(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    def arrays(name, **of):
        np.savez(tmp_path / name, **of)
        return tmp_path / name

    one = np.array([0.1])
    np.save(tmp_path / "flat.npy", one)
    wrong = {
        table("nan.csv", "nan,3\n"): "spike time nan",
        table("negative.csv", "0.1,-3\n"): "a spike of unit -3",
        table("early.csv", "-0.1,3\n"): "negative spike time",
        table("beyond.csv", "0.1,700\n"): "a spike of unit 700",
        table("half.csv", "0.1,3.5\n"): "unit 3.5 of spike 0 is no whole number",
        table("words.csv", "when,where\n0.1,3\n"): "first line must be time,unit",
        table("three.csv", "0.1,3,4\n"): "expected rows of a time",
        table("nothing.csv", ""): "the file is empty",
        table("head.csv", "time,unit\n"): "no spikes in the first 1 s",
        table("ms.csv", "100,3\n200,3\n"): "times are in seconds",
        tmp_path / "flat.npy": "expected rows of a time",
        arrays("none.npz", other=one): "no array times; found other",
        arrays("more.npz", times=one, units=np.array([1, 2])): "1 times but 2 units",
        arrays("float.npz", times=one, units=one): "units must be a list of whole numbers",
        arrays("ends.npz", times=one, units=np.array([1]), offsets=np.array([0, 2])): "offsets must rise",
        arrays("objects.npz", times=np.array([{}]), units=np.array([1])): "without pickled objects",
    }
    good = table("good.csv", "0.1,3\n")
    assert main(["predict", str(run), *map(str, wrong), str(good), "--csv", str(tmp_path / "all.csv")]) == 1
    lines = capsys.readouterr().err.splitlines()
    for line, (path, said) in zip(lines, wrong.items(), strict=True):
        assert str(path) in line and said in line
    assert [row["file"] for row in rows_of(tmp_path / "all.csv")] == [str(good)]


def test_audio_is_predicted_by_networks_of_audio(tmp_path, capsys):
    words = miniature_speech.make()
    folder = make(tmp_path / "run", "dcls_table2_gsc", "small", inputs=140, classes=3, name="GSC-3", hidden=[9, 7])
    clip = sorted((words / "fall").glob("*_nohash_0.flac"))[0]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 16000)
    wrong = {
        "rate.wav": (noise, 8000),
        "stereo.wav": (np.stack([noise, noise], 1), 16000),
        "silent.wav": (0 * noise, 16000),
    }
    for name, (samples, rate) in wrong.items():
        soundfile.write(tmp_path / name, samples, rate)
    soundfile.write(tmp_path / "none.wav", noise[:0], 16000)
    (tmp_path / "damaged.flac").write_bytes(clip.read_bytes()[:60])
    (tmp_path / "empty.flac").touch()
    recording(tmp_path / "spikes.h5")
    said = [
        "8000 Hz; expected 16000",
        "2 channels; expected mono",
        "silent in its first 1 s",
        "zero length",
        "damaged",
        "empty",
    ]
    files = [tmp_path / name for name in (*wrong, "none.wav", "damaged.flac", "empty.flac", "spikes.h5")]
    assert main(["predict", str(folder), *map(str, files), str(clip), "--csv", str(tmp_path / "all.csv")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [str(file) in line for file, line in zip(files, lines, strict=True)] == [True] * 7
    assert [words in line for words, line in zip(said, lines[:6], strict=True)] == [True] * 6
    (row,) = rows_of(tmp_path / "all.csv")
    assert row["file"] == str(clip)


def test_a_file_of_audio_is_what_it_is_in_an_evaluation(tmp_path):
    words = miniature_speech.make()
    clip = sorted((words / "fall").glob("*_nohash_0.flac"))[-1]  # of a speaker of the test
    for recipe, row in (("dcls_table2_gsc", "small"), ("flagship_gsc", "80k")):
        bands = TABLES[recipe].source_of_data.features.bands
        folder = make(tmp_path / recipe, recipe, row, inputs=bands, classes=3, name="GSC-3", hidden=[9, 7])
        source = recipes.load(folder).source
        test = source.load(words, "clean").test
        of_split, _ = test.batch(np.arange(len(test)), np.random.default_rng(0))
        of_file, _ = source.recordings(clip).batch(np.arange(1), np.random.default_rng(0))
        assert int(((of_split - of_file).abs() < 1e-3).flatten(1).all(1).sum()) == 1


def test_braille_is_predicted_at_the_length_of_the_training(tmp_path):
    rng = np.random.default_rng(0)
    traces = np.round(100 + 20 * rng.random((5, 76, 12))).astype(np.uint8)
    np.savez(tmp_path / "labelled.npz", taxels=traces, labels=np.array([0, 1, 2, 3, 0]))
    np.savez(tmp_path / "short.npz", taxels=traces[:2, :40])
    folder = make(tmp_path / "run", "eventprop_braille", "feedforward-64-delays", inputs=24, classes=4, hidden=9)
    result = json.loads((folder / "result.json").read_text())
    result["settings"]["braille"]["encoding"] = "theta2"
    result["data"] |= {"duration": 1900.0, "class_names": ["Space", "A", "B", "C"]}
    (folder / "result.json").write_text(json.dumps(result))
    files = [str(tmp_path / name) for name in ("labelled.npz", "short.npz")]
    assert main(["predict", str(folder), *files, "--csv", str(tmp_path / "all.csv")]) == 0
    rows = rows_of(tmp_path / "all.csv")
    assert [row["label"] for row in rows] == ["0", "1", "2", "3", "0", "", ""] and rows[0]["name"] in (
        "Space",
        "A",
        "B",
        "C",
    )
    trained = recipes.load(folder)
    assert trained.recordings(tmp_path / "short.npz").duration == 1900.0


def test_what_is_no_run_is_answered(run, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place, said in (
        (tmp_path / "absent", "no such folder"),
        (tmp_path / "file", "not a folder"),
        (tmp_path / "folder", "no run and no model"),
        (run.parent.parent, f"it holds 1, {run} for one"),
    ):
        assert main(["predict", str(place), "x.h5"]) == 2
        assert said in capsys.readouterr().err


def test_a_run_on_generated_points_says_which_can_predict(tmp_path, capsys):
    folder = make(tmp_path / "run", "eventprop_yinyang", "30-delays", inputs=5, classes=3)
    assert main(["predict", str(folder), "x.h5"]) == 2
    assert "no files are read one by one by runs on YinYang" in capsys.readouterr().err
