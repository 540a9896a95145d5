"""``recipes export``: what is written of a trained network, and reading it back."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import make
from torch import nn

import recipes
from recipes.__main__ import main
from recipes.engine.data import miniature
from recipes.engine.errors import DataError, OptionError
from recipes.engine.results import synapse_tables
from recipes.engine.training.connections import connections

MODELS = Path(__file__).parents[2] / "docs" / "models"
RUNS = {  # recipe, row, changes of the network
    "flagship": ("flagship_shd", "20k", {"hidden": [9, 7]}),
    "AdLIF+ with delays": ("deckers_table1", "adlif-plus-delays", {"hidden": [9, 7], "max_delay": 20}),
    "DCLS": ("dcls_table2_shd", "hidden-2", {"hidden": [9, 7], "synapses": 5}),
    "EventProp": ("eventprop_shd", "recurrent-64-delays", {"hidden": 9}),
    "Braille": ("flagship_braille", "128", {"hidden": [9, 7]}),
    "recurrent delays": ("recurrent_delays_shd", "learned", {"hidden": [9, 7]}),
}


def made(tmp_path, kind):
    recipe, row, settings = RUNS[kind]
    return make(tmp_path / "run", recipe, row, inputs=700 if kind == "EventProp" else 140, classes=4, **settings)


def table_of(folder):
    (path,) = folder.glob("synapses.*")
    return synapse_tables.read(path)


def dense(synapses, shape):
    weight, delay = torch.zeros(shape), torch.zeros(shape)
    place = torch.from_numpy(synapses.receiver).long(), torch.from_numpy(synapses.sender).long()
    weight[place], delay[place] = torch.from_numpy(synapses.weight), torch.from_numpy(synapses.delay).float()
    return weight, delay


@pytest.mark.parametrize("form", ["csv", "npz"])
@pytest.mark.parametrize("kind", RUNS)
def test_what_is_exported_reads_back_as_the_network_with_whole_delays(tmp_path, kind, form):
    run = made(tmp_path, kind)
    assert main(["export", str(run), "--split", "none", "--table", form, "--out", str(tmp_path / "out")]) == 0
    back, trained = recipes.load(tmp_path / "out").network.state_dict(), torch.load(run / "best.pt", weights_only=True)
    assert back.keys() == trained.keys()
    for name, value in trained.items():
        if name.endswith("delay"):
            assert torch.equal(back[name], back[name].round()) and (back[name] - value).abs().max() <= 0.5
        else:
            assert torch.equal(back[name], value), name
    tables = table_of(tmp_path / "out")
    weights = [name for name in trained if name.endswith("weight") and trained[name].dim() == 2]
    assert len(tables) == len(weights)
    for synapses, name in zip(tables.values(), weights, strict=True):
        weight, delay = dense(synapses, trained[name].shape)
        mask = back.get(name.replace("weight", "mask"), torch.ones_like(weight, dtype=torch.bool))
        assert len(synapses.weight) == int(mask.sum()) and torch.equal(weight, back[name] * mask)
        stored = back.get(name.replace("weight", "delay"), torch.zeros(()))
        lag = 1 if kind == "recurrent delays" and ".neuron." in name else 0  # a spike of the step before
        assert torch.equal(delay, (stored.expand_as(weight) + lag) * mask)


def test_the_tables_give_the_currents_of_the_network(tmp_path):
    run = made(tmp_path, "AdLIF+ with delays")
    state = torch.load(run / "best.pt", weights_only=True)
    for name, value in state.items():  # a bias and a normalisation that do something
        if name.endswith(("bias", "running_mean", "norm.weight")):
            value.copy_(torch.randn_like(value))
    torch.save(state, run / "best.pt")
    assert main(["export", str(run), "--split", "none", "--out", str(tmp_path / "out")]) == 0
    layer = recipes.load(tmp_path / "out").network.hidden[0]
    spikes = (torch.rand(30, 2, 140) < 0.1).float()
    with torch.no_grad():
        expected = layer.norm(layer.connection(spikes))
    synapses = table_of(tmp_path / "out")["hidden.0.connection"]
    summed = np.zeros((30, 2, 9))
    for sender, receiver, weight, delay in zip(
        synapses.sender, synapses.receiver, synapses.weight, synapses.delay, strict=True
    ):
        summed[delay:, :, receiver] += weight * spikes.numpy()[: 30 - delay, :, sender]
    with open(tmp_path / "out" / "neurons.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["layer"] == "hidden.0.connection"]
    gain, offset = (np.array([float(row[name]) for row in rows]) for name in ("gain", "offset"))
    np.testing.assert_allclose(gain * summed + offset, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert {"alpha", "beta"} <= {name for name, value in rows[0].items() if value}


def test_the_accuracy_is_that_of_the_network_before_and_after(tmp_path, capsys):
    run = made(tmp_path, "flagship")
    out = tmp_path / "out"
    assert main(["export", str(run), "--weight-bits", "3", "--out", str(out), "--split", "test"]) == 0
    percent = json.loads((out / "model.json").read_text())["accuracy"]["percent"]
    assert list(percent) == ["as trained", "whole delays", "whole delays, weights of 3 bits"]
    file = miniature.make() / "miniature_test.h5.gz"
    for folder, what in ((run, "as trained"), (out, "whole delays, weights of 3 bits")):
        probabilities, labels = recipes.load(folder).predict(file)
        assert percent[what] == pytest.approx(100 * (probabilities.argmax(1) == labels).double().mean().item())
    said = capsys.readouterr().out
    assert "These data, miniature" in said and f"{percent['whole delays']:.2f} % of 64 samples (test)" in said
    weights = table_of(out)["hidden.0.connection"].weight
    assert len(np.unique(weights)) <= 7


def test_a_model_says_what_the_run_says(tmp_path):
    run = made(tmp_path, "DCLS")
    out = tmp_path / "small"
    assert main(["export", str(run), "--model", "--split", "none", "--out", str(out), "--data-licence", "CC0"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.json", "weights.pt"]
    back, trained = recipes.load(out), recipes.load(run)
    assert all(torch.equal(a, b) for a, b in zip(back.network.parameters(), trained.network.parameters(), strict=True))
    card = (out / "README.md").read_text()
    assert "CC0" in card and "predict small" in card and str(tmp_path) not in card + (out / "model.json").read_text()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, capsys):
    run, out = made(tmp_path, "flagship"), tmp_path / "out"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synapse_tables, "write_neurons", full)
    ask = ["export", str(run), "--split", "none", "--out", str(out)]
    assert main(ask) == 2 and "no space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    monkeypatch.undo()
    assert main(ask) == 0
    before = (out / "model.json").read_bytes()
    monkeypatch.setattr(synapse_tables, "write_neurons", full)
    assert main([*ask, "--weight-bits", "2"]) == 2 and (out / "model.json").read_bytes() == before


def test_options_that_do_not_fit_are_refused(tmp_path, capsys):
    run = made(tmp_path, "flagship")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for asked, said in (
        (["--out", str(tmp_path / "full")], "other files"),
        (["--out", str(run)], "other files"),
        (["--split", "none", "--dt", "1"], "in steps already"),
        (["--model", "--weight-bits", "4"], "drop"),
        (["--weight-bits", "1"], "2 to 16"),
        (["--split", "none", "--data-dir", "x"], "drop it"),
        (["--data-dir", str(tmp_path / "absent")], "no such folder"),
    ):
        assert main(["export", str(run), *asked]) == 2
        assert said in capsys.readouterr().err
    assert not (run / "exported").exists()


def test_a_layer_of_another_kind_is_refused_by_name():
    with pytest.raises(OptionError, match=r"1\.weight: no table of synapses is known of Conv1d"):
        connections(nn.Sequential(nn.Linear(3, 4), nn.Conv1d(4, 2, 3)))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda out: (out / "weights.pt").write_bytes(b"x" * 99), "weights.pt: damaged"),
        (lambda out: (out / "weights.pt").unlink(), "weights.pt: not there"),
        (lambda out: (out / "model.json").write_text("[]"), "model.json: not a model"),
        (lambda out: changed(out, format=2), "format 2; this version reads 1"),
        (lambda out: changed(out, recipe="of_tomorrow"), "there is no recipe of_tomorrow here"),
        (lambda out: changed(out, settings={}), "its settings make no network"),
    ],
)
def test_a_model_that_cannot_be_used_is_named(tmp_path, change, said):
    run, out = made(tmp_path, "flagship"), tmp_path / "out"
    main(["export", str(run), "--model", "--split", "none", "--out", str(out)])
    change(out)
    with pytest.raises(DataError, match=said):
        recipes.load(out)


def a_recording(folder, described):
    """Of the kind that a model takes."""
    if "features" in described["settings"]:
        soundfile = pytest.importorskip("soundfile", reason="the recipes extra is not installed")
        soundfile.write(folder / "one.wav", np.sin(np.arange(16000) / 9), 16000)
        return folder / "one.wav"
    if "braille" in described["settings"]:
        touched = 100 + 50 * np.sin(np.arange(76)[None, :, None] / 5 + np.arange(12))
        np.savez(folder / "one.npz", taxels=touched.astype(np.uint8))
        return folder / "one.npz"
    units = described["settings"]["binning"]["units"]
    (folder / "one.csv").write_text("".join(f"{0.01 * n},{7 * n % units}\n" for n in range(90)))
    return folder / "one.csv"


@pytest.mark.parametrize("folder", sorted(path.parent for path in MODELS.glob("*/model.json")), ids=lambda path: path.name)
def test_a_model_that_we_hand_on_is_small_and_predicts(folder, tmp_path, capsys):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6
    described = json.loads((folder / "model.json").read_text())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{described['parameters']:,d}" in card and f"{described['chosen']['test_accuracy']:.2f} %" in card
    probabilities, labels = recipes.load(folder).predict(a_recording(tmp_path, described))
    assert probabilities.shape == (1, described["data"]["classes"]) and labels.tolist() == [-1]
    assert probabilities.sum().item() == pytest.approx(1)


def changed(out, **values):
    described = json.loads((out / "model.json").read_text()) | values
    (out / "model.json").write_text(json.dumps(described))
