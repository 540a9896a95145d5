"""Rows of a table whose samples are made in another way than those of the others."""

import dataclasses
import json

import numpy as np
import pytest

from recipes.__main__ import main
from recipes.deckers_table1 import RECIPE as DECKERS
from recipes.engine.command import work
from recipes.engine.command.recipe import Row
from recipes.engine.errors import OptionError
from recipes.engine.results import comparison
from recipes.flagship_ablation import RECIPE, ROWS

KEYS = ("reference", "channels-stay", "steps-of-20-ms", "no-augmentation", "batch-128")


@pytest.fixture
def planned(small_data, tmp_path, monkeypatch):
    """The plan of a command, without training."""
    found = []
    monkeypatch.setattr(work, "finish", lambda plan: found.append(plan) or ([], []))

    def of(*options):
        asked = ["run", "flagship_ablation", "--data-dir", str(small_data), "--out", str(tmp_path), "--seeds", "1"]
        assert main([*asked, "--only", ",".join(KEYS), *options]) == 0
        return found[-1]

    return of


def runs_of(planned):
    return {run.network: run for part in planned.by_data for run in part.runs(part.load())}


def test_rows_of_one_kind_of_samples_share_them(planned):
    parts = [[row.key for row in part.rows] for part in planned().by_data]
    assert parts == [["reference", "batch-128"], ["no-augmentation"], ["channels-stay"], ["steps-of-20-ms"]]


def test_a_row_is_trained_on_the_samples_that_its_settings_say(planned):
    runs = runs_of(planned())
    whole = RECIPE.source_of_data.settings
    for key, run in runs.items():
        row = next(row for row in ROWS if row.key == key)
        assert {part: run.settings[part] for part in whole} == {
            part: run_part for part, run_part in RECIPE.settings_of(row).items() if part in whole
        }
    assert runs["reference"].settings["augmentation"] == whole["augmentation"]
    assert runs["no-augmentation"].settings["augmentation"] == {}
    assert set(runs["channels-stay"].settings["augmentation"]) == set(whole["augmentation"]) - {"channel_shift"}
    assert runs["steps-of-20-ms"].settings["binning"] == whole["binning"] | {"steps": 50}
    for part in planned().by_data:
        counts, _ = part.load().train.batch(np.arange(4), np.random.default_rng(0))
        assert counts.shape == (4, 50 if part.rows[0].key == "steps-of-20-ms" else 100, 140)


def test_what_an_option_asks_for_holds_in_rows_that_do_not_say_otherwise(planned):
    runs = runs_of(planned("--augment", "channel_shift=20,time_jitter=3"))
    assert runs["reference"].settings["augmentation"]["channel_shift"] == 20
    assert "channel_shift" not in runs["channels-stay"].settings["augmentation"]
    assert runs["channels-stay"].settings["augmentation"]["time_jitter"] == 3
    assert runs["no-augmentation"].settings["augmentation"] == {}


def test_rows_may_differ_in_their_samples_but_in_nothing_else_of_them(planned):
    told = [comparison.without_row(RECIPE, dataclasses.asdict(run)) for run in runs_of(planned()).values()]
    assert comparison.differences(told) == ""
    others = runs_of(planned("--set", "average=0.5")).values()
    told += [comparison.without_row(RECIPE, dataclasses.asdict(run)) for run in others]
    assert comparison.differences(told) == ""  # rows differ in it; of_network tells
    told[0]["binning"]["duration"] = 2.0
    assert comparison.differences(told).startswith("binning duration: 1.0, 2.0")


def test_finished_rows_of_other_samples_are_found_by_their_own_settings(tmp_path, capsys):
    smoke = ["run", "flagship_ablation", "--smoke", "--epochs", "1", "--only", "reference,steps-of-20-ms", "--energy"]
    assert main([*smoke, "--augment", "time_shift=20", "--out", str(tmp_path)]) == 0
    measured = {path.parent.name.partition("_")[0]: json.loads(path.read_text())["layers"]["hidden.0.connection"]["dense"]
                for path in tmp_path.glob("runs/*/operations.json")}  # fmt: skip
    assert measured["reference"] == 2 * measured["steps-of-20-ms"]  # products of the first layer at every step
    table = ["table", "flagship_ablation", "--out", str(tmp_path)]
    assert main([*table, "--augment", "time_shift=20"]) == 0 and main(table) == 0
    rows = json.loads((tmp_path / "flagship_ablation.json").read_text())["rows"]
    assert [row["key"] for row in rows if row["runs"]] == ["reference", "steps-of-20-ms"]
    assert f"time_shift 20 ({RECIPE.source_of_data.strengths['time_shift']:g})" in capsys.readouterr().out
    assert main([*table, "--augment", "time_shift=10"]) == 2
    assert "no finished runs with these options" in capsys.readouterr().err


def test_samples_that_a_source_cannot_change_are_refused():
    row = Row("finer", "finer", {}, {}, data={"binning": {"steps": 200}})
    assert DECKERS.source_of_data.changed(row.data).binning.steps == 200
    with pytest.raises(KeyError, match="augmentation"):
        DECKERS.source_of_data.changed({"augmentation": {"blend": 1.0}})
    with pytest.raises(OptionError, match="no such"):
        RECIPE.source_of_data.changed({"augmentation": {"no such": 1.0}})
