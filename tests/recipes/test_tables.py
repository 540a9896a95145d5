"""The paper's table beside ours: what is averaged, what is written, what is drawn."""

import csv
import io
import itertools
import json
import math

import pytest
from rich.console import Console

from recipes.__main__ import find_recipes
from recipes.dcls_fig5 import RECIPE as FIG5
from recipes.deckers_table1 import RECIPE
from recipes.engine.command.recipe import TableRecipe
from recipes.engine.results import plots, styles, tables
from recipes.eventprop_braille import RECIPE as BRAILLE
from recipes.eventprop_yinyang import RECIPE as YIN_YANG


def run(network, seed, valid, test, protocol="clean", **changes):
    history = [
        {"epoch": i + 1, "train_accuracy": 90.0, "valid_accuracy": v, "test_accuracy": t, "test_spikes": 2.0 + i}
        for i, (v, t) in enumerate(zip(valid, test, strict=True))
    ]
    at_valid, at_test = (max(history, key=lambda e: e[name]) for name in ("valid_accuracy", "test_accuracy"))
    return {
        "recipe": RECIPE.name,
        "network": network,
        "seed": seed,
        "settings": {"protocol": protocol, "training": {"epochs": len(valid), "batch_size": 128}},
        "data": {"name": "DSP20", "samples": {"train": 2200, "valid": 400, "test": 400}, "validation": "dsp20_valid.h5.gz"},
        "parameters": 37948,
        "history": history,
        "best": {"clean": at_valid, "paper": at_test},
        "seconds_per_epoch": 3.0 + seed,
        "peak_memory_mib": 900.0 + seed,
        "threads": 2,
        "machine": {"processor": "a processor"},
        "versions": {"torch": "2.11.0"},
    } | changes


@pytest.fixture
def runs():
    return [
        run("lif", 0, [50.0, 60.0, 40.0], [70.0, 52.0, 55.0]),
        run("lif", 1, [50.0, 60.0, 70.0], [40.0, 50.0, 58.0]),
        run("adlif-plus-delays", 0, [80.0], [81.0]),
    ]


def test_the_statistics_are_over_the_epochs_that_the_protocol_chose(runs):
    lif, *_, delays, _, _ = tables.summarise(RECIPE, runs)
    assert lif["test"]["values"] == [52.0, 58.0] and lif["test"]["mean"] == 55.0 and lif["test"]["max"] == 58.0
    assert lif["test"]["std"] == pytest.approx(math.sqrt(18.0))
    assert lif["best_test"]["values"] == [70.0, 58.0] and lif["valid"]["values"] == [60.0, 70.0]
    assert lif["epoch"] == [2, 3] and lif["spikes_per_neuron"]["mean"] == 3.5
    assert lif["seconds_per_epoch"] == 3.5 and lif["peak_memory_mib"] == 901.0 and lif["seeds"] == [0, 1]
    assert delays["test"]["std"] is None  # one run has no spread


def test_under_the_paper_protocol_the_best_test_epoch_counts():
    row = tables.summarise(RECIPE, [run("lif", 0, [50.0, 60.0], [70.0, 52.0], protocol="paper")])[0]
    assert row["test"]["mean"] == 70.0 and "valid" not in row


def test_the_papers_figures_stand_beside_ours(runs):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tables.sheet(RECIPE, runs).as_rich())
    text = console.export_text()
    for expected in (
        "84.49 / 86.22",
        "95.02 / 96.26",
        "55.0 ± 4.2",
        "81.0",
        "37,948 (37.9k)",
        "3.50 ± 0.71 (10.75)",
        "DSP20",
        "SHD",
    ):
        assert expected in text
    assert "Protocol clean" in text and "dsp20_valid.h5.gz" in text


def test_a_network_without_a_run_keeps_its_row(runs):
    rows = tables.summarise(RECIPE, runs)
    assert [row["name"] for row in rows] == [row.name for row in RECIPE.rows] and rows[1]["runs"] == 0


def test_networks_that_failed_are_not_said_to_be_not_run(runs):
    assert (
        "Not run: adlif-plus, lif-delays, adlif-plus-uniform-delays."
        in tables.sheet(RECIPE, runs, {"adlif", "adlif-plus-uniform-delays-shifts"}).remarks
    )


def with_settings(key, training=None, **changes):
    """A run of the recipe's settings but for these."""
    (row,) = (row for row in RECIPE.rows if row.key == key)
    own = RECIPE.settings_of(row)
    settings = {"protocol": "clean"} | own | {"training": own["training"] | (training or {})} | changes
    return run(key, 0, [50.0], [60.0], settings=json.loads(json.dumps(settings)))


def other_settings(*runs):
    return [text for text in tables.sheet(RECIPE, list(runs)).remarks if text.startswith("Settings other than")]


def test_settings_other_than_the_recipes_are_named_below_the_table(tmp_path):
    changed = {"learning_rate": 1e9, "epochs": 1, "plateau_patience": 2**60}
    network = RECIPE.network_settings | {"preset": "lif", "hidden": [64, 64], "dropout": 0}
    only = with_settings("lif", changed, network=network)
    (remark,) = other_settings(only)
    for expected in ("hidden [64, 64] ([128, 128])", "dropout 0 (0.5)", "learning_rate 1e+09 (0.01)", "epochs 1 (100)",
                     f"plateau_patience {2**60} (5)"):  # fmt: skip
        assert expected in remark
    assert "preset" not in remark and "batch_size" not in remark and "binning" not in remark
    paths = tables.sheet(RECIPE, [only]).write(tmp_path)
    assert f"- {remark}" in paths[0].read_text() and remark in json.loads(paths[2].read_text())["notes"]


def test_settings_of_the_data_and_of_some_networks_alone_are_named_with_them():
    binning = RECIPE.source_of_data.settings["binning"] | {"steps": 50}
    changed = with_settings("adlif", {"learning_rate": 0.0123456789}, binning=binning)
    (remark,) = other_settings(with_settings("lif"), changed)
    assert remark == (
        "Settings other than the recipe's: binning steps 50 (100) for adlif, learning_rate 0.0123456789 (0.01) for adlif; "
        "in brackets the recipe's."
    )


def test_brackets_in_a_remark_are_shown(runs):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tables.sheet(RECIPE, runs).with_remarks(["left out: out[red]/runs [null, 1]"]).as_rich())
    assert "left out: out[red]/runs [null, 1]" in console.export_text()


def test_a_setting_that_the_recipe_no_longer_has_is_named():
    (remark,) = other_settings(with_settings("lif", {"momentum": 0.9}))
    assert "momentum 0.9 (not in the recipe)" in remark


@pytest.mark.parametrize("row", RECIPE.rows + YIN_YANG.rows + BRAILLE.rows, ids=lambda row: row.key)
def test_the_recipes_own_settings_need_no_remark(row):
    (recipe,) = (recipe for recipe in (RECIPE, YIN_YANG, BRAILLE) if row in recipe.rows)
    settings = json.loads(json.dumps(recipe.settings_of(row)))
    assert tables.other_settings(recipe, [{"network": row.key, "settings": {"protocol": "clean"} | settings}]) == []


@pytest.mark.parametrize("epochs, text", [(1, ", 1 epoch, batch"), (2, ", 2 epochs, batch")])
def test_one_epoch_is_no_plural(epochs, text):
    assert any(text in remark for remark in tables.sheet(RECIPE, [run("lif", 0, [50.0] * epochs, [60.0] * epochs)]).remarks)


def test_the_table_is_written_as_markdown_csv_and_json(runs, tmp_path):
    paths = tables.sheet(RECIPE, runs).write(tmp_path)
    assert [path.name for path in paths] == ["deckers_table1.md", "deckers_table1.csv", "deckers_table1.json"]
    markdown = paths[0].read_text().splitlines()
    lines = [line for line in markdown if line.startswith("|")]
    assert len(lines) == 2 + 5 and len({line.count("|") for line in lines}) == 1  # the paper's five networks
    absent = "Not run: adlif, adlif-plus, lif-delays, adlif-plus-uniform-delays, adlif-plus-uniform-delays-shifts."
    assert f"- {absent}" in markdown and "Synaptic delay LIF" in paths[0].read_text()
    with open(paths[1], newline="") as file:
        heads, *rows = csv.reader(file)
    assert len(rows) == 5 and all(len(row) == len(heads) for row in rows) and rows[0][0] == "Basic LIF"
    stored = json.loads(paths[2].read_text())
    assert len(stored["rows"]) == len(RECIPE.rows) and absent in stored["notes"]
    assert stored["rows"][0]["test"]["mean"] == 55.0 and stored["rows"][0]["paper"]["mean"] == 84.49
    assert stored["settings"]["protocol"] == "clean" and stored["data"]["name"] == "DSP20"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_the_plots_are_drawn_and_written(runs, tmp_path):
    paths = plots.write(RECIPE, runs, tmp_path)
    figures = ("deckers_table1_accuracy", "deckers_table1_learning_curves")
    assert [path.name for path in paths] == [f"{name}{suffix}" for name in figures for suffix in (".png", ".pdf")]
    starts = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF"}
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in paths)


@pytest.mark.parametrize("recipe", [RECIPE, BRAILLE, FIG5], ids=lambda recipe: recipe.name)
def test_no_legend_and_no_name_stands_over_the_axes(recipe):
    measured = [run(row.key, 0, [50.0, 60.0], [55.0, 58.0]) for row in recipe.rows]
    for name in recipe.figures:
        figure = getattr(plots, name)(recipe, measured)
        figure.canvas.draw()
        whole = figure.get_window_extent()
        for legend in (*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())):
            box = legend.get_window_extent()
            assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes), name
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, name
        for axes in figure.axes:
            labels = [label for label in axes.get_xticklabels() if label.get_text() and not label.get_rotation()]
            boxes = [label.get_window_extent() for label in labels]
            assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes)), name
        plots.plt.close(figure)


def test_an_architecture_has_one_colour_and_delays_one_line():
    looks = styles.of_rows(RECIPE)
    assert (
        looks["lif"].colour == looks["lif-delays"].colour != looks["adlif-plus"].colour == looks["adlif-plus-delays"].colour
    )
    assert {looks[key].line for key in ("lif", "adlif", "adlif-plus")} == {styles.WITHOUT}
    assert {looks[key].line for key in ("lif-delays", "adlif-plus-delays")} == {styles.WITH}
    seen = {(look.colour, look.line) for look in looks.values()}
    assert len(seen) == len(looks)  # nothing looks like another


@pytest.mark.parametrize("name", sorted(find_recipes()))
def test_no_two_rows_of_any_table_look_alike(name):
    for recipe in getattr(find_recipes()[name], "parts", {"": find_recipes()[name]}).values():
        if isinstance(recipe, TableRecipe):
            looks = styles.of_rows(recipe)
            assert set(looks) == {row.key for row in recipe.rows}
            assert len({(look.colour, look.line) for look in looks.values()}) == len(looks), recipe.name


def test_every_seed_is_a_point_beside_the_paper(runs):
    figure = plots.accuracy(RECIPE, runs)
    points = [(line.get_xdata(), line.get_ydata()) for line in figure.axes[0].lines]
    drawn = [y for _, ys in points for y in (ys if hasattr(ys, "__len__") else [ys])]
    for value in (52.0, 58.0, 81.0, 84.49, 86.22, 95.02, 96.26):
        assert value in drawn
    plots.plt.close(figure)


def test_the_learning_curves_show_each_seed_and_the_mean(runs):
    figure = plots.learning_curves(RECIPE, runs)
    assert [axes.get_title() for axes in figure.axes] == ["train", "valid", "test"]
    curves = [list(line.get_ydata()) for line in figure.axes[2].lines]
    assert [70.0, 52.0, 55.0] in curves and [40.0, 50.0, 58.0] in curves and [55.0, 51.0, 56.5] in curves
    plots.plt.close(figure)


def test_a_run_that_stopped_early_has_a_shorter_curve_and_stays_in_the_mean():
    figure = plots.learning_curves(
        RECIPE, [run("lif", 0, [50.0, 60.0, 40.0], [70.0, 52.0, 55.0]), run("lif", 1, [50.0], [40.0])]
    )
    curves = [list(line.get_ydata()) for line in figure.axes[2].lines]
    assert curves == [[70.0, 52.0, 55.0], [40.0], [55.0, 46.0, 47.5]]
    plots.plt.close(figure)


@pytest.mark.parametrize(
    "recipe, form, sizes, scale",
    [(BRAILLE, "recurrent-{}-delays", (64, 256, 1024), "log"), (YIN_YANG, "{}-delays", (5, 15, 30), "linear")],
)
def test_sizes_over_a_wide_range_stand_at_equal_distances(recipe, form, sizes, scale):
    figure = plots.accuracy_over_hidden(recipe, [run(form.format(size), 0, [50.0], [60.0]) for size in sizes])
    axes = figure.axes[0]
    assert axes.get_xscale() == scale and list(axes.get_xticks()) == list(sizes)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(map(str, sizes))
    plots.plt.close(figure)
