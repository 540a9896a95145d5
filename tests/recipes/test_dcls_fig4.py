"""Fig. 4 of Hammouamri et al.: kernels that a run of Table 2 keeps through its training."""

import json

import numpy as np
import pytest
import torch
from stopping import Stop, stop_at

from recipes import dcls_fig4, dcls_table2
from recipes.__main__ import main
from recipes.dcls.network import DclsObjective, DclsTraining, HammouamriNetwork
from recipes.engine.results.runs import RunStore
from recipes.engine.training import trainer


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig4")
    assert main(["run", "dcls_table2", "--smoke", "--epochs", "8", "--out", str(folder)]) == 0
    return folder


def test_the_figure_is_drawn_of_the_runs_of_table_2(out, capsys):
    assert main(["run", "dcls_fig4", "--smoke", "--epochs", "8", "--out", str(out)]) == 0
    assert "1 finished run in " in capsys.readouterr().out
    assert {path.suffix for path in out.glob("dcls_fig4.*")} == {".md", ".csv", ".json", ".png", ".pdf"}
    rows = json.loads((out / "dcls_fig4.json").read_text())["rows"]
    assert [row["epoch"] for row in rows] == [0, 1, 8] and all(len(row["delay"]) == 8 for row in rows)
    assert rows[0]["sigma"] > 10 > rows[1]["sigma"] > rows[2]["sigma"]


def test_kernels_narrow_and_the_last_has_one_tap_per_synapse_at_the_rounded_delay(out):
    store = RunStore(out)
    (run,) = store.results(dcls_table2.SHD.name)
    found = dcls_fig4.pictures(dcls_fig4.moments(run, store), run["settings"]["network"]["max_delay"])
    widths = [(np.abs(p.kernels) > 0.01 * np.abs(p.kernels).max(0)).sum(0).mean() for p in found]
    assert sorted(widths, reverse=True) == widths and widths[-1] == 1
    last = dcls_fig4.moments(run, store)[-1]
    taps = np.abs(found[-1].kernels).argmax(0)
    assert (24 - taps).tolist() == last["delay"].round().int().tolist()
    weight = dcls_fig4.moments(run, store)[0]["weight"]
    np.testing.assert_allclose(found[0].kernels.sum(0), weight.numpy(), rtol=1e-4)  # a kernel adds up to its weight


def test_a_resumed_run_has_watched_what_the_uninterrupted_one_has(small_splits, tmp_path):
    def build():
        return DclsObjective(HammouamriNetwork(140, 4, hidden=(8, 8), max_delay=4), DclsTraining(3, 16))

    def train(name, *report):
        (tmp_path / name).mkdir(exist_ok=True)
        trainer.train(build, small_splits, 0, tmp_path / name, *report)
        return torch.load(tmp_path / name / "last.ckpt", weights_only=True)["objective"]["watched"]

    with pytest.raises(Stop):
        train("stopped", stop_at(0.8))
    for one, other in zip(train("whole"), train("stopped"), strict=True):
        assert one["epoch"] == other["epoch"]
        for a, b in zip(one["layers"], other["layers"], strict=True):
            assert torch.equal(a["delay"], b["delay"]) and torch.equal(a["weight"], b["weight"])


def test_runs_that_kept_no_kernels_are_one_clear_line(out, capsys):
    (path,) = out.glob("runs/*/last.ckpt")
    kept = torch.load(path, weights_only=True)
    torch.save(kept | {"objective": {"plateau": None}}, path)
    assert main(["table", "dcls_fig4", "--out", str(out)]) == 2
    assert "its kernels were not kept" in capsys.readouterr().err
    torch.save(kept, path)
