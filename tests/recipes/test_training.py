"""Training: what follows the seed, what a kill may not change, which epoch a protocol chooses."""

import csv
import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
import torch
from stopping import Stop, stop_at, timeless

from recipes.deckers.network import DeckersNetwork
from recipes.engine.errors import DataError
from recipes.engine.results import runs
from recipes.engine.results.runs import Run, RunStore
from recipes.engine.training import batches, epochs, trainer
from recipes.engine.training.hyperparameters import Hyperparameters
from recipes.engine.training.networks import as_input
from recipes.engine.training.objectives import SummedSoftmax

# patience 0 and a small factor: the learning rate falls within four epochs, so that a resume has a scheduler
# to get wrong
HYPER = Hyperparameters(4, 16, 0.02, delay_rate_factor=10.0, plateau_factor=0.3, plateau_patience=0, min_learning_rate=1e-6)
network = functools.partial(DeckersNetwork, 140, 4, hidden=(8, 8), max_delay=3)


def train(splits, folder, hyper=HYPER, seed=0, **options):
    folder.mkdir(exist_ok=True)
    return trainer.train(lambda: SummedSoftmax(network(), hyper), splits, seed, folder, **options)


@pytest.fixture(scope="module")
def whole(small_splits, tmp_path_factory):
    """A run that nothing interrupts, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return train(small_splits, folder), folder


def weights(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


# ----------------------------------------------------------------------------------------- seeds and resuming


def test_the_learning_rate_falls_in_the_run_that_the_other_tests_compare_with(whole):
    rates = [entry["learning_rate"] for entry in whole[0]["history"]]
    assert rates[0] == 0.02 and rates[-1] < 0.02


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_a_run_stopped_anywhere_ends_where_the_uninterrupted_one_does(small_splits, whole, tmp_path, share):
    with pytest.raises(Stop):
        train(small_splits, tmp_path, report=stop_at(share))
    torch.rand(7), np.random.rand(3)  # whatever happens between is not part of the run
    again = train(small_splits, tmp_path)
    assert timeless(again["history"]) == timeless(whole[0]["history"])
    assert again["best"] == whole[0]["best"] and again["resumed"] == (share > 0.25)
    expected = weights(whole[1])
    for name, value in weights(tmp_path).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    for name, value in torch.load(tmp_path / "best.pt", weights_only=True).items():
        torch.testing.assert_close(value, torch.load(whole[1] / "best.pt", weights_only=True)[name], rtol=0, atol=0)


def test_the_log_of_a_resumed_run_holds_every_epoch_once(small_splits, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Stop):
        train(small_splits, tmp_path, report=stop_at(0.6), tensorboard=True)
    history = train(small_splits, tmp_path, tensorboard=True)["history"]
    logged = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss/train")
    assert [(e.step, pytest.approx(e.value)) for e in logged] == [(e["epoch"], e["train_loss"]) for e in history]


def test_a_run_stopped_twice_ends_where_the_uninterrupted_one_does(small_splits, whole, tmp_path):
    for share in (0.3, 0.6):
        with pytest.raises(Stop):
            train(small_splits, tmp_path, report=stop_at(share))
    assert timeless(train(small_splits, tmp_path)["history"]) == timeless(whole[0]["history"])


def test_a_run_stopped_between_its_last_epoch_and_its_result_only_reads_the_result(small_splits, whole):
    again = train(small_splits, whole[1])
    assert again["history"] == whole[0]["history"]  # with the very same times: nothing was trained again


def test_another_seed_gives_another_run(small_splits, whole, tmp_path):
    other = train(small_splits, tmp_path, dataclasses.replace(HYPER, epochs=1), seed=1)
    assert timeless(other["history"]) != timeless(whole[0]["history"][:1])


def test_the_order_of_samples_follows_seed_and_epoch(small_splits):
    def orders(seed):
        loader = batches.batches(small_splits.train, 16, shuffle_seed=seed)
        found = []
        for epoch in (0, 1, 0):
            loader.sampler.set_epoch(epoch)
            found.append([int(i) for draw in loader.sampler for i in draw.which])
        return found

    first, second, again = orders(0)
    assert sorted(first) == list(range(48)) and first == again != second and orders(1)[0] != first


def test_every_sample_is_seen_once_and_the_last_batch_may_be_smaller(small_splits):
    sizes = [len(batch.labels) for batch in batches.batches(small_splits.train, 20)]
    assert sizes == [20, 20, 8]


# ---------------------------------------------------------------------------------------------------- results


def test_the_result_holds_what_the_table_needs(whole):
    result, folder = whole
    assert [entry["epoch"] for entry in result["history"]] == [1, 2, 3, 4]
    for name in ("train_loss", "train_accuracy", "valid_accuracy", "test_accuracy", "test_spikes", "seconds"):
        assert all(np.isfinite(entry[name]) for entry in result["history"])
    assert result["peak_memory_mib"] >= result["memory_before_mib"] > 0
    assert result["versions"]["torch"] == torch.__version__.split("+")[0] or result["versions"]["torch"]
    assert result["machine"]["cores"] and result["command"] == sys.argv
    json.dumps(result, allow_nan=False)
    with open(folder / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_the_recorded_accuracy_is_that_of_the_kept_weights(small_splits, whole):
    result, folder = whole
    kept = network().eval()
    kept.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    batches.seed_everything(0)
    right = 0
    with torch.no_grad():
        for counts, labels, _ in batches.batches(small_splits.valid, 256):
            membrane = kept(as_input(counts)).membrane
            right += (membrane.softmax(-1).sum(0).argmax(1) == labels).sum().item()
    assert result["best"]["clean"]["valid_accuracy"] == pytest.approx(100 * right / len(small_splits.valid))


HISTORY = [
    {"epoch": 1, "valid_accuracy": 40.0, "test_accuracy": 50.0, "test_spikes": 1.0},
    {"epoch": 2, "valid_accuracy": 60.0, "test_accuracy": 45.0, "test_spikes": 2.0},
    {"epoch": 3, "valid_accuracy": 60.0, "test_accuracy": 70.0, "test_spikes": 3.0},
]


def test_the_clean_protocol_takes_the_test_accuracy_of_the_best_validation_epoch():
    chosen = epochs.chosen_epochs(HISTORY, {"paper": "test_accuracy", "clean": "valid_accuracy"})
    assert chosen["clean"] == HISTORY[1]  # the first of equals; the better test accuracy of epoch 3 plays no part
    assert chosen["paper"] == HISTORY[2]


def test_without_validation_only_the_paper_protocol_can_choose():
    history = [{k: v for k, v in entry.items() if k != "valid_accuracy"} for entry in HISTORY]
    assert list(epochs.chosen_epochs(history, {"paper": "test_accuracy"})) == ["paper"]


def test_the_learning_rate_follows_the_first_evaluated_set(small_splits, tmp_path):
    splits = dataclasses.replace(small_splits, valid=None, protocol="paper")
    history = train(splits, tmp_path, dataclasses.replace(HYPER, epochs=3))["history"]
    best, rate = -1.0, 0.02
    for entry in history:
        assert entry["learning_rate"] == pytest.approx(rate) and "valid_accuracy" not in entry
        if entry["test_accuracy"] > best:
            best = entry["test_accuracy"]
        else:
            rate *= 0.3


def test_means_weigh_every_sample_alike():
    tally = epochs.Tally()
    tally.add(3, loss=torch.tensor(6.0))
    tally.add(1, loss=torch.tensor(0.0))
    assert tally.means()["loss"] == 1.5


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_where(small_splits, tmp_path):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            from recipes.engine.training.networks import Response

            return Response(x[:, :, :4] * self.scale * float("nan"), torch.zeros(x.shape[1]))

    with pytest.raises(trainer.Diverged, match=r"nan in epoch 1, batch 1 \(seed 5\)"):
        trainer.train(lambda: SummedSoftmax(Broken(), HYPER), small_splits, 5, tmp_path)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------- run store


def test_a_run_is_known_by_all_of_its_settings():
    run = Run("table", "lif", 0, {"training": {"epochs": 3}})
    assert run.key == Run("table", "lif", 0, {"training": {"epochs": 3}}).key
    others = [
        Run("table", "lif", 1, run.settings),
        Run("table", "adlif", 0, run.settings),
        Run("other", "lif", 0, run.settings),
        Run("table", "lif", 0, {"training": {"epochs": 4}}),
    ]
    assert len({run.key, *(other.key for other in others)}) == 5


def test_a_result_is_there_whole_or_not_at_all(tmp_path):
    store, run = RunStore(tmp_path), Run("table", "lif", 0, {})
    with pytest.raises(ValueError):
        store.finish(run, {"accuracy": float("nan")})
    assert store.result(run) is None and store.results("table") == []
    store.finish(run, {"accuracy": 1.0})
    assert store.result(run)["accuracy"] == 1.0 and len(store.results("table")) == 1 and store.results("other") == []


@pytest.mark.parametrize("text", ['{"recipe": "table", ', "[1]", '{"recipe": "table"}'])
def test_a_result_that_is_none_is_named(tmp_path, text):
    store, run = RunStore(tmp_path), Run("table", "lif", 0, {})
    store.finish(run, {"accuracy": 1.0})
    (store.folder_of(run) / "result.json").write_text(text)
    for read in (lambda: store.result(run), lambda: store.results("table")):
        with pytest.raises(DataError, match=r"result.json: not a result.*; delete .*lif_seed0_\w+ to run it again"):
            read()


def test_two_processes_do_not_train_the_same_run(tmp_path):
    store, run = RunStore(tmp_path), Run("table", "lif", 0, {})
    with store.claimed(run):
        with pytest.raises(runs.Busy), store.claimed(run):
            pass
        with store.claimed(Run("table", "lif", 1, {})):
            pass
    with store.claimed(run):
        pass
