"""Table 4 and Figs. 5 to 8 of Deckers et al.: what they show of the runs of Table 1, without training any twice."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from recipes import deckers_table1, deckers_table2
from recipes.__main__ import main
from recipes.deckers import distributions
from recipes.deckers.distributions import Distribution
from recipes.engine.training.networks import count_parameters

VIEWS = ("deckers_table4", "deckers_fig5", "deckers_fig6", "deckers_fig7", "deckers_fig8")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A folder with the smoke runs of Table 1's networks, one epoch each."""
    folder = tmp_path_factory.mktemp("views")
    assert main(["run", "deckers_table4", "--smoke", "--epochs", "1", "--seeds", "2", "--out", str(folder)]) == 0
    return folder


def of_kind(out, name):
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shows_the_runs_that_are_there_and_trains_none_again(out, name, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")}
    assert main(["run", name, "--smoke", "--epochs", "1", "--seeds", "2", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")} == before
    assert "are kept and not repeated" in capsys.readouterr().out
    for suffix in (".md", ".csv", ".json", ".png", ".pdf"):
        (out / f"{name}{suffix}").unlink()
    assert main(["table", name, "--out", str(out)]) == 0 and main(["plot", name, "--out", str(out)]) == 0
    assert {path.suffix for path in out.glob(f"{name}.*")} == {".md", ".csv", ".json", ".png", ".pdf"}
    assert "paper, SHD" in (out / f"{name}.md").read_text()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_names_settings_that_are_not_the_recipes(out, name):
    assert main(["table", name, "--out", str(out)]) == 0
    (remark,) = of_kind(out, name)["notes"]
    assert remark.startswith("Settings other than the recipe's: ") and "epochs 1 (100)" in remark
    assert f"- {remark}" in (out / f"{name}.md").read_text()


@pytest.mark.parametrize("name", VIEWS)
def test_without_runs_a_view_says_how_to_make_them(tmp_path, name, capsys):
    assert main(["table", name, "--out", str(tmp_path)]) == 2
    assert f"make them with: python -m recipes run {name}\n" in capsys.readouterr().err


def test_spikes_stand_beside_the_papers(out):
    main(["table", "deckers_table4", "--out", str(out)])
    rows = of_kind(out, "deckers_table4")["rows"]
    assert [row["paper"]["spikes"] for row in rows] == [10.75, 10.7, 10.28, 13.7, 11.48]
    assert "| 13.7 | 1.27 |" in (out / "deckers_table4.md").read_text()


def test_every_seed_is_shown(out):
    main(["table", "deckers_fig5", "--out", str(out)])
    text = (out / "deckers_fig5.md").read_text()
    assert text.count("0: ") == text.count(", 1: ") == 5


def test_the_parameters_are_those_of_the_kept_weights(out):
    main(["table", "deckers_fig7", "--out", str(out)])
    shown = of_kind(out, "deckers_fig7")
    (run,) = shown["runs"]
    (folder,) = out.glob(f"runs/{run['network']}_seed{run['seed']}_*")
    kept = torch.load(folder / "best.pt", weights_only=True)
    assert list(shown["rows"]) == ["alpha", "beta", "a", "b"]
    for name, row in shown["rows"].items():
        values = kept[f"hidden.1.neuron.{name}"]
        assert row["mean"] == pytest.approx(values.mean().item()) and row["count"] == len(values)
        assert row["low"] - 1e-6 <= values.min() <= values.max() <= row["high"] + 1e-6


def test_the_delays_are_those_of_the_kept_weights(out):
    main(["table", "deckers_fig8", "--out", str(out)])
    shown = of_kind(out, "deckers_fig8")
    names = [row["connection"] for row in shown["rows"]]
    assert names == ["input - hidden 1", "hidden 1 - hidden 2", "hidden 2 - output"]
    assert [row["count"] for row in shown["rows"]] == [140 * 32, 32 * 32, 32 * 4]
    assert all(sum(row["synapses_by_whole_delay"]) == row["count"] for row in shown["rows"])


def test_another_network_can_be_chosen(out, capsys):
    assert main(["table", "deckers_fig6", "--out", str(out), "--only", "lif"]) == 0
    assert list(of_kind(out, "deckers_fig6")["rows"]) == ["alpha"]
    assert main(["table", "deckers_fig8", "--out", str(out), "--only", "adlif"]) == 2
    assert "adlif has no delays" in capsys.readouterr().err
    assert main(["table", "deckers_fig8", "--out", str(out), "--only", "glif"]) == 2


@pytest.mark.parametrize("data, name", [("ssc", "miniature"), ("gsc", "GSC-3")])
def test_table_2_shows_the_literature_and_below_it_ours(data, name, tmp_path, capsys):
    command = ["deckers_table2", "--dataset", data, "--out", str(tmp_path)]
    assert main(["run", *command, "--smoke", "--epochs", "1"]) == 0
    assert main(["table", *command]) == 0 and main(["plot", *command]) == 0
    text = (tmp_path / f"deckers_table2_{data}.md").read_text()
    published = deckers_table2.LITERATURE[data.upper()]
    assert all(line.model in text and line.accuracy in text for line in published)
    assert text.index(published[-1].model) < text.index("ours: Synaptic delay AdLIF+")
    assert f"{name} is not" in text and (tmp_path / f"deckers_table2_{data}.png").exists()


def test_table_2_has_the_networks_of_the_paper():
    """0.076M, 0.71M and 0.61M parameters; SHD's is the very network of Table 1."""
    shd, ssc, gsc = (deckers_table2.RECIPE.parts[key].of for key in ("shd", "ssc", "gsc"))
    assert shd is deckers_table1.RECIPE

    def parameters(recipe, inputs):
        network = recipe.network(inputs, 35, **recipe.network_settings | recipe.rows[0].settings)
        return count_parameters(network) / 1e6

    assert parameters(ssc, 140) == pytest.approx(0.71, abs=0.005)
    assert parameters(gsc, 40) == pytest.approx(0.61, abs=0.005)
    assert gsc.source_of_data.features.bands == 40


def test_missing_weights_are_one_clear_line(out, tmp_path, capsys):
    import shutil

    shutil.copytree(out, tmp_path / "copy")
    for path in (tmp_path / "copy").glob("runs/*/best.pt"):
        path.unlink()
    assert main(["table", "deckers_fig8", "--out", str(tmp_path / "copy")]) == 2
    assert "best.pt: not there; delete" in capsys.readouterr().err


def test_the_best_run_is_that_of_the_validation_accuracy():
    def run(seed, valid, test):
        best = {"valid_accuracy": valid, "test_accuracy": test}
        return {"seed": seed, "settings": {"protocol": "clean"}, "best": {"clean": best}}

    assert distributions.best_run([run(0, 50.0, 90.0), run(1, 60.0, 10.0)])["seed"] == 1


@pytest.mark.parametrize(
    "values, distance", [(torch.linspace(0, 2, 1001), 0.0), (torch.zeros(50), 1.0), (torch.full((40,), 1.0), 0.5)]
)
def test_the_distance_from_uniform(values, distance):
    summary = Distribution("b", values, 0.0, 2.0).summary()
    assert summary["distance_from_uniform"] == pytest.approx(distance, abs=2e-3)


def test_values_at_the_bounds_are_counted():
    summary = Distribution("b", torch.tensor([0.0, 0.01, 1.0, 2.0]), 0.0, 2.0).summary()
    assert summary["at_low"] == 0.5 and summary["at_high"] == 0.25 and summary["count"] == 4


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float)


@pytest.mark.parametrize("name", (*VIEWS, "deckers_table1"))
def test_every_picture_is_drawn_again_from_its_json_alone(out, name, tmp_path):
    assert main(["table", name, "--out", str(out)]) == 0 and main(["plot", name, "--out", str(out)]) == 0
    assert main(["plot", name, "--json", str(out / f"{name}.json"), "--out", str(tmp_path)]) == 0
    drawn = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in drawn] == sorted(path.name for path in out.glob(f"{name}*.png"))
    for path in drawn:  # accuracies in the JSON are rounded
        assert np.abs(pixels(path) - pixels(out / path.name)).mean() < 0.1


def test_a_table_of_a_version_without_curves_is_drawn_but_for_them(out, tmp_path, capsys):
    main(["table", "deckers_table1", "--out", str(out)])
    stored = of_kind(out, "deckers_table1")
    stored["rows"] = [{name: value for name, value in row.items() if name != "curves"} for row in stored["rows"]]
    (tmp_path / "old.json").write_text(json.dumps(stored))
    assert main(["plot", "deckers_table1", "--json", str(tmp_path / "old.json"), "--out", str(tmp_path)]) == 0
    assert "kept no curves; learning_curves not drawn" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.png")] == ["deckers_table1_accuracy.png"]


@pytest.mark.parametrize(
    "name, text, why",
    [
        ("deckers_table1", None, "no such file"),
        ("deckers_table1", "{", "no JSON"),
        ("deckers_table1", "[1]", "not the deckers_table1.json"),
        ("deckers_fig8", '{"recipe": "deckers_fig6"}', "but deckers_fig6's"),
        ("deckers_fig8", '{"recipe": "deckers_fig8", "rows": [{}]}', "not the JSON of this table"),
        ("deckers_table1", '{"recipe": "deckers_table1", "rows": 3}', "not a table's JSON"),
    ],
)
def test_a_json_that_is_no_table_is_one_clear_line(name, text, why, tmp_path, capsys):
    path = tmp_path / "given.json"
    if text is not None:
        path.write_text(text)
    assert main(["plot", name, "--json", str(path), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--json {path}: " in line and why in line
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("name", ["deckers_table1", "deckers_fig5"])
@pytest.mark.parametrize("option", [("--only", "lif"), ("--seeds", "1"), ("--set", "dropout=0.1"), ("--data-dir", "x")])
def test_a_json_is_drawn_as_a_whole(name, option, tmp_path, capsys):
    assert main(["plot", name, "--json", "x.json", *option, "--out", str(tmp_path)]) == 2
    assert f"--json draws all that its file holds; leave out {option[0]}" in capsys.readouterr().err
