"""Training in two processes equals training in one; what cannot be divided, or fails, says so.

That they end with the one that started them is shown in test_kill.py.
"""

import parallel_builds as builds
import parallel_work as work
import pytest
import stopped_commands
import torch
from stopping import Stop, stop_at, timeless

from recipes.engine.data.events import Sampling, ShdEvents
from recipes.engine.errors import OptionError
from recipes.engine.training import batches, parallel, trainer
from recipes.engine.training.hardware import Hardware
from recipes.eventprop.augmentation import ShiftAndBlend
from recipes.eventprop.yin_yang import Encoding, YinYang

TWO = Hardware(devices=2)


def event_splits(folder):
    source = ShdEvents(Sampling(duration=1000.0, resolution=10.0), {"both": ShiftAndBlend(40, blended=0.25)}, "both")
    return source.load(folder, "clean")


CASES = {
    "deckers": builds.deckers,
    "deckers float64": builds.deckers_float64,
    "hammouamri": builds.hammouamri,
    "voltage": builds.voltage,
    "first spike": builds.first_spike,
    "continued": builds.first_spike,
}


@pytest.fixture(scope="module")
def trained(small_splits, small_data, tmp_path_factory):
    """By name, the result and the folder of one process and of two."""
    out = tmp_path_factory.mktemp("trained")
    events, yin_yang = event_splits(small_data), YinYang(Encoding(), (101, 40, 41)).load(None, "clean")
    splits = {"voltage": events, "first spike": yin_yang, "continued": yin_yang}
    folders = {name: [out / f"{name}, {n}" for n in (1, 2)] for name in CASES}
    ones, cases = [], []
    for name, build in CASES.items():
        for folder in folders[name]:
            folder.mkdir()
        case = build, splits.get(name, small_splits)
        ones.append(trainer.train(*case, 0, folders[name][0]))
        torch.set_default_dtype(torch.float32)
        cases.append((*case, folders[name][1]))
    with pytest.raises(Stop):  # one process begins what two then end
        trainer.train(*cases[-1][:2], 0, folders["continued"][1], stop_at(0.6))
    twos = parallel.run(builds.train_all, (cases, TWO), 2, lambda *_: None)
    return {name: [*zip(pair, folders[name], strict=True)] for name, *pair in zip(CASES, ones, twos, strict=True)}


# ------------------------------------------------------------------------------------------------ equal results


@pytest.mark.parametrize("name", [name for name in CASES if name != "deckers"])
def test_two_processes_learn_what_one_does(trained, name):
    """Two epochs of five batches or more, the last of them smaller and not even."""
    (one, folder_of_one), (two, folder_of_two) = trained[name]
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (folder_of_one, folder_of_two)]
    assert states[0]["global_step"] == states[1]["global_step"] >= 10
    for single, double in zip(timeless(one["history"]), timeless(two["history"]), strict=True):
        assert double == pytest.approx(single, rel=1e-5, abs=1e-5)
    for key, value in states[0]["state_dict"].items():
        torch.testing.assert_close(states[1]["state_dict"][key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert two["parameters"] == one["parameters"] and two["resumed"] == (name == "continued")
    assert two["hardware"] == {"accelerator": "cpu", "devices": 2, "precision": "32"}
    assert {p.name for p in folder_of_two.iterdir()} == {"last.ckpt", "best.pt", "metrics.csv"}


def test_rounding_moves_no_more_than_biases_that_are_normalised_away(trained):
    """The gradient of a bias before a batch normalisation is zero but for rounding, which Adam makes steps of: in
    float32 the biases of Deckers et al. (and with them the running means) differ, and nothing that is learned does."""
    (one, folder_of_one), (two, folder_of_two) = trained["deckers"]
    for single, double in zip(one["history"], two["history"], strict=True):
        assert double["train_loss"] == pytest.approx(single["train_loss"], rel=1e-5)
        assert double["train_accuracy"] == single["train_accuracy"]
    first, second = (torch.load(f / "last.ckpt", weights_only=True)["state_dict"] for f in (folder_of_one, folder_of_two))
    free = {"network.readout.0.bias", *(f"network.hidden.{i}.connection.bias" for i in (0, 1))}
    for key in first.keys() - free:
        if not key.endswith("running_mean"):
            torch.testing.assert_close(second[key], first[key], rtol=1e-3, atol=1e-3, msg=key)


# ------------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize("samples, processes", [(7, 2), (8, 3), (3, 3), (128, 5)])
def test_the_shares_make_up_the_batch(samples, processes):
    shares = [parallel.Share.of(samples, n, processes) for n in range(processes)]
    assert [i for share in shares for i in range(samples)[share.rows]] == list(range(samples))
    assert sum(share.weight for share in shares) == pytest.approx(processes)
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_each_process_keeps_its_rows_of_what_was_drawn_for_all():
    drawn = torch.arange(10).expand(3, 10)
    with parallel.holding(parallel.Share.of(10, 1, 3)):
        assert parallel.divided() and parallel.whole(3) == 10
        assert parallel.own(drawn, dim=1)[0].tolist() == [3, 4, 5]
        with pytest.raises(ValueError, match="4 samples are no share of 3"):
            parallel.whole(4)
    assert not parallel.divided() and parallel.whole(3) == 3 and parallel.own(drawn) is drawn


def test_no_evaluation_batch_leaves_a_process_without_a_sample():
    for samples in (1, 2, 40, 256, 257, 513, 514):
        for processes in (1, 2, 3):
            size = batches.evaluation_batch(samples, processes)
            assert min(size, samples % size or size) >= min(processes, samples)
            assert processes > 1 or size == batches.EVALUATION_BATCH


# ------------------------------------------------------------------------------------------------------- errors


def test_a_batch_too_small_to_divide_is_refused(small_splits, tmp_path):
    with pytest.raises(OptionError, match=r"--devices 9: of 48 .* smallest batch has 8, .* --batch-size"):
        trainer.train(builds.deckers, small_splits, 0, tmp_path, hardware=Hardware(devices=9))
    assert not list(tmp_path.iterdir())


def test_a_network_that_mixes_samples_is_refused(small_splits, tmp_path):
    with pytest.raises(TypeError, match=r"layer\.1 is a BatchNorm1d, .* take NormOverTime"):
        trainer.train(builds.foreign, small_splits, 0, tmp_path, hardware=TWO)


@pytest.fixture
def forked(monkeypatch):
    """Processes for work that is not about how they begin."""
    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda kind: stopped_commands.context())


def test_the_processes_meet_and_the_first_one_answers(forked):
    heard = []
    assert parallel.run(work.add_up, (10,), 2, lambda *what: heard.append(what)) == 21
    assert heard == [(0, "from the first alone")]


def test_an_error_in_one_process_ends_all(forked):
    with pytest.raises(work.Broken, match="the second"):
        parallel.run(work.break_second, (), 2, lambda *_: None)


def test_the_end_of_one_process_ends_all(forked):
    with pytest.raises(RuntimeError, match=r"process 1 of 2 ended \(signal SIGKILL\)|Connection closed by peer"):
        parallel.run(work.kill_second, (), 2, lambda *_: None)
