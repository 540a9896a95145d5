"""What a trained network says of recordings: ``recipes predict`` and ``recipes.load``."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
import torch

import recipes
from recipes.__main__ import main
from recipes.engine.data import miniature
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
