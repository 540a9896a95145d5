"""The EventProp recipes: networks, objectives, smoke runs, resuming after a kill."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from stopping import Stop, stop_at, timeless

from recipes import eventprop_sequence
from recipes.__main__ import main
from recipes.engine.training import trainer
from recipes.engine.training.objectives import Moment
from recipes.eventprop.network import (
    EventPropTraining,
    FirstSpikeError,
    FirstSpikeNetwork,
    FirstSpikeTraining,
    VoltageCrossEntropy,
    VoltageNetwork,
)
from recipes.eventprop.neurons import NEURONS
from recipes.eventprop.yin_yang import Encoding, YinYang
from snn_delay_plugins.events import SpikeEvents

ROOT = Path(__file__).parents[2]
SEQUENCE = ROOT.parent / "shared" / "fixtures" / "sequence_detection"
HYPER = EventPropTraining(4, 30, learning_rate=0.01, delay_learning_rate=0.1, decay=0.9, bump=0.05)


def voltage_network(**settings):
    torch.manual_seed(0)
    return VoltageNetwork(6, 3, **{"hidden": 8, "input_weight": (4.0, 2.0), "hidden_weight": (2.0, 1.0)} | settings)


def events(samples=5, seed=0):
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 80, 20)) for _ in range(samples)]
    return SpikeEvents.from_lists(times, [rng.integers(0, 6, 20) for _ in times], num_units=6, duration=100.0)


# --------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("delays", [True, False])
@pytest.mark.parametrize("recurrent", [True, False])
def test_weights_and_delays_are_the_papers(recurrent, delays):
    network = voltage_network(layers=1 if recurrent else 2, recurrent=recurrent, delays=delays, initial_delay=50.0)
    sizes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    expected = {"hidden.0.weight": (8, 6), "readout.weight": (3, 8)}
    expected |= {"hidden.0.recurrent_weight": (8, 8)} if recurrent else {"hidden.1.weight": (8, 8)}
    if delays:
        expected |= {name.replace("weight", "delay"): size for name, size in expected.items() if name[0] == "h"}
        first = network.hidden[0]
        assert 30 < first.delay.max() <= 50
        assert not recurrent or (first.recurrent_delay == 0).all()
    assert sizes == expected


def test_the_readout_is_the_average_of_the_potential_or_in_its_own_unit():
    batch = events()
    average, own = (voltage_network(readout_time=unit)(batch).output for unit in (None, 10.0))
    torch.testing.assert_close(average * 10, own)
    assert own.shape == (5, 3) and own.std() > 0


def test_outputs_of_a_small_hidden_layer_get_as_much_as_those_of_a_large_one():
    torch.manual_seed(0)
    small, large = (FirstSpikeNetwork(4, 3, hidden=n).readout.weight.mean().item() * n for n in (5, 30))
    assert small == pytest.approx(large, rel=0.1)


def test_weights_of_a_larger_layer_start_smaller_so_that_as_much_reaches_a_neuron():
    torch.manual_seed(0)
    given = {"hidden_weight": (0.25, 0.5), "recurrent_weight": (0.5, 0.1), "output_weight": (0.1, 0.2)}

    def weights(hidden):
        network = VoltageNetwork(6, 3, hidden=hidden, layers=2, recurrent=True, weight_fan_in=16, **given)
        first, second = network.hidden
        return first.weight, [second.weight, first.recurrent_weight, network.readout.weight]

    for hidden, share in ((8, 1.0), (16, 1.0), (1024, 1 / 64)):
        of_input, others = weights(hidden)
        assert of_input.mean().item() == pytest.approx(0.03, abs=0.01)
        few = 10 / (3 * hidden) ** 0.5  # standard errors
        for weight, (mean, std) in zip(others, given.values(), strict=True):
            assert weight.mean().item() == pytest.approx(mean * share, abs=few * std * share**0.5)
            assert weight.std().item() == pytest.approx(std * share**0.5, rel=few)


@pytest.mark.parametrize("value", [0, -3])
def test_a_fan_in_of_no_neurons_is_refused(value):
    with pytest.raises(ValueError, match=f"weight_fan_in must be a positive.*{value}"):
        voltage_network(weight_fan_in=value)


# -------------------------------------------------------------------------------------------------- objective


def test_weights_and_delays_have_their_own_rates_which_fall_by_epoch():
    objective = VoltageCrossEntropy(voltage_network(), HYPER)
    optimizer = objective.optimizer()
    weights, delays = ([p.shape for p in group["params"]] for group in optimizer.param_groups)
    assert len(weights) == 3 and len(delays) == 2
    objective.before_batch(optimizer, Moment(epoch=2, batch=1, batches=5))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 * 0.81, 0.1 * 0.81])


def test_weights_from_the_input_learn_faster_by_their_factor():
    objective = VoltageCrossEntropy(voltage_network(), dataclasses.replace(HYPER, input_rate_factor=3.0))
    optimizer = objective.optimizer()
    objective.before_batch(optimizer, Moment(0, 0, 5))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in objective.network.named_parameters()}
    assert found.pop("hidden.0.weight") == pytest.approx(0.03)
    assert {name: rate for name, rate in found.items() if name.endswith("weight")} == {
        "hidden.1.weight": 0.01,
        "readout.weight": 0.01,
    }


def test_ease_in_starts_at_a_hundredth_and_leaves_delays_alone():
    objective = VoltageCrossEntropy(voltage_network(), dataclasses.replace(HYPER, ease_in=True, decay=1.0))
    optimizer, found = objective.optimizer(), []
    for step in range(20):
        objective.before_batch(optimizer, Moment(step // 5, step % 5, 5))
        found.append([group["lr"] for group in optimizer.param_groups])
    weights, delays = zip(*found, strict=True)
    assert weights[0] == pytest.approx(1e-4) and weights[-1] == pytest.approx(0.01) and sorted(weights) == list(weights)
    assert set(delays) == {0.1}


def test_without_delays_there_is_one_group():
    objective = VoltageCrossEntropy(voltage_network(delays=False), HYPER)
    optimizer = objective.optimizer()
    objective.before_batch(optimizer, Moment(0, 0, 5))
    assert len(optimizer.param_groups) == 1


def test_a_cosine_rises_from_zero_in_a_twentieth_of_the_training_and_ends_at_zero():
    objective = VoltageCrossEntropy(
        voltage_network(), EventPropTraining(10, 30, 0.01, delay_learning_rate=0.1, schedule="cosine")
    )
    optimizer, found = objective.optimizer(), []
    for step in range(40):
        objective.before_batch(optimizer, Moment(step // 4, step % 4, 4))
        found.append([group["lr"] for group in optimizer.param_groups])
    weights, delays = zip(*found, strict=True)
    assert weights[:3] == pytest.approx((0.005, 0.01, 0.01)) and list(weights[2:]) == sorted(weights[2:], reverse=True)
    assert weights[21] == pytest.approx(0.005, rel=1e-6) and 0 < weights[-1] < 1e-4
    assert delays == pytest.approx([10 * weight for weight in weights])


@pytest.mark.parametrize("changes", [{"decay": 0.9}, {"ease_in": True}])
def test_a_cosine_is_the_whole_schedule(changes):
    with pytest.raises(ValueError, match="neither decay nor ease_in"):
        EventPropTraining(10, 30, 0.01, delay_learning_rate=0.1, schedule="cosine", **changes)


def test_centred_gradients_leave_the_mean_weight_of_a_hidden_neuron_where_it_is():
    plain, centred = voltage_network(layers=1, recurrent=True), voltage_network(layers=1, recurrent=True)
    for network, changes in ((plain, {}), (centred, {"centred": True})):
        objective = VoltageCrossEntropy(network, dataclasses.replace(HYPER, **changes))
        objective.optimizer()
        objective.before_epoch(0)
        objective.measure(events(), torch.tensor([0, 1, 2, 0, 1])).loss.backward()
    for name in ("weight", "recurrent_weight"):
        whole, rest = (getattr(network.hidden[0], name).grad for network in (plain, centred))
        torch.testing.assert_close(rest, whole - whole.mean(1, keepdim=True))
        assert whole.mean(1).abs().max() > 1e-6 > rest.mean(1).abs().max()
    torch.testing.assert_close(centred.readout.weight.grad, plain.readout.weight.grad)


@pytest.mark.parametrize("neuron", NEURONS)
def test_learned_constants_are_one_per_neuron_and_learn_at_their_own_rate(neuron):
    network = voltage_network(layers=1, neuron=neuron, learn=["tau_mem", "tau_syn"])
    objective = VoltageCrossEntropy(network, dataclasses.replace(HYPER, constant_learning_rate=0.5))
    optimizer = objective.optimizer()
    objective.before_epoch(0)
    objective.before_batch(optimizer, Moment(0, 0, 5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.1, 0.5]
    objective.measure(events(), torch.tensor([0, 1, 2, 0, 1])).loss.backward()
    optimizer.step()
    moved = network.hidden[0].tau_mem.detach() - 20.0
    assert moved.shape == (8,) and moved.abs().max().item() == pytest.approx(0.5, rel=1e-3)  # Adam's first step


def test_an_adaptive_neuron_without_adaptation_is_a_lif_neuron():
    settings = {"layers": 1, "recurrent": True, "initial_delay": 50.0}
    lif, adaptive = (voltage_network(**settings, **neuron) for neuron in ({}, {"neuron": "adlif", "a": 0.0, "b": 0.0}))
    torch.testing.assert_close(adaptive(events()).output, lif(events()).output, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neuron": "izhikevich"}, "neuron 'izhikevich': use one of lif, adlif"),
        ({"neuron": "adlif", "spike_times": "grid"}, "spike_times must be 'exact'"),
        ({"learn": ["tau_mem"], "spike_times": "grid"}, "spike_times must be 'exact'"),
        ({"learn": ["tau_adapt"]}, "has no constant 'tau_adapt'"),
    ],
)
def test_a_neuron_that_there_is_not_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        voltage_network(**settings)


def test_neurons_silent_for_an_epoch_are_bumped():
    network = voltage_network(layers=1)
    with torch.no_grad():
        network.hidden[0].weight[2] = 0.0
    objective = VoltageCrossEntropy(network, HYPER)
    optimizer = objective.optimizer()
    objective.before_epoch(0)
    objective.measure(events(), torch.tensor([0, 1, 2, 0, 1]))
    before = network.hidden[0].weight.detach().clone()
    objective.after_epoch(optimizer, {}, "")
    change = network.hidden[0].weight.detach() - before
    assert change[2].tolist() == pytest.approx([0.05] * 6) and change[0].abs().max() == 0


def test_evaluation_does_not_count_as_spiking():
    network = voltage_network(layers=1)
    objective = VoltageCrossEntropy(network, HYPER)
    objective.optimizer()
    objective.before_epoch(0)
    network.eval()
    objective.measure(events(), torch.tensor([0, 1, 2, 0, 1]))
    assert sum(int(spikes.sum()) for spikes in objective._spikes) == 0


def test_regularisation_pulls_the_weights_towards_the_target():
    batch, labels = events(), torch.tensor([0, 1, 2, 0, 1])

    def gradient(strength, target):
        network = voltage_network(layers=1, delays=False).eval()
        hyper = dataclasses.replace(HYPER, regularisation=(strength,), target_spikes=target)
        VoltageCrossEntropy(network, hyper).measure(batch, labels).loss.backward()
        return network.hidden[0].weight.grad

    def pull(target):
        return gradient(1e3, target) - gradient(0.0, target)

    assert pull(1000.0).mean() < 0 < pull(0.0).mean()  # more spikes by larger weights, fewer by smaller ones


def test_training_stops_when_patience_is_over():
    objective = VoltageCrossEntropy(voltage_network(), dataclasses.replace(HYPER, patience=2))
    history = [{"train_accuracy": value} for value in (50.0, 60.0, 60.0, 55.0)]
    assert [objective.finished(history[:n], "train_accuracy") for n in (1, 2, 3, 4)] == [False, False, False, True]


def test_the_first_spike_error_leaves_out_who_is_silent():
    objective = FirstSpikeError(FirstSpikeNetwork(4, 3, hidden=5), FirstSpikeTraining(1, 1, 0.1, 0.1, delta_t=2.0))
    output = SpikeEvents.from_lists([[3.0, 4.0], [5.0]], [[0, 1], [2]], num_units=3, duration=20.0)
    loss, predicted = objective.judge(output, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(0.5 * (4 - 3 - 2) ** 2 / 2) and predicted.tolist() == [0, 2]


# -------------------------------------------------------------------------------------------------- resuming


def train(folder, share=math.inf, **changes):
    def build():
        network = FirstSpikeNetwork(4, 3, hidden=8, input_weight=(2.5, 1.2), output_weight=(1.0, 1.0))
        hyper = FirstSpikeTraining(4, 30, 0.01, 0.1, decay=0.8, bump=0.05, **changes)
        return FirstSpikeError(network, hyper)

    folder.mkdir(exist_ok=True)
    splits = YinYang(Encoding(), (120, 40, 40)).load(None, "clean")
    return trainer.train(build, splits, 0, folder, stop_at(share))


def test_a_stopped_run_ends_where_the_uninterrupted_one_does(tmp_path):
    whole = train(tmp_path / "whole")
    for share in (0.4, 0.8):
        with pytest.raises(Stop):
            train(tmp_path / "stopped", share)
    again = train(tmp_path / "stopped")
    assert again["resumed"] and timeless(again["history"]) == timeless(whole["history"])
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "stopped")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_early_stop_ends_the_run_also_after_a_kill(tmp_path):
    first = train(tmp_path, patience=0)
    assert len(first["history"]) == 1
    assert train(tmp_path, patience=0)["history"] == first["history"]


# ------------------------------------------------------------------------------------------------------ smoke


def test_the_sequence_task_is_as_the_paper_says(tmp_path, capsys):
    arguments = ["run", "eventprop_sequence", "--smoke", "--out", str(tmp_path)]
    if SEQUENCE.is_dir():
        arguments += ["--data-dir", str(SEQUENCE)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "100 % after 6 encounters (paper: 6)" in printed and "NO: " not in printed
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".json", ".png", ".pdf"}


def test_the_sequence_task_says_so_when_it_fails(tmp_path, capsys):
    arguments = ["run", "eventprop_sequence", "--smoke", "--learning-rate", "0.01", "--out", str(tmp_path)]
    assert main(arguments) == 1 and "NO: " in capsys.readouterr().out


def test_solved_means_solved_for_good():
    def history(*correct):
        return [eventprop_sequence.Encounter(0.0, n, []) for n in correct]

    assert eventprop_sequence.solved_after(history(0, 2, 1, 2, 2)) == 3
    assert eventprop_sequence.solved_after(history(0, 2, 1)) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("eventprop_yinyang", "--data-dir", "/tmp"), "generates its data"),
        (("eventprop_braille", "--offline"), "or name a folder that has Braille with --data-dir"),
        (("eventprop_braille", "--data-dir", "/nowhere"), "/nowhere/braille_th10.npz: no such file"),
        (("eventprop_braille", "--smoke", "--encoding", "th9"), "th9"),
        (("eventprop_shd", "--smoke", "--augmentation", "mixup"), "mixup"),
        (("eventprop_shd", "--smoke", "--set", "rate=3"), "--set rate: no such setting; choose from"),
        (("eventprop_shd", "--smoke", "--set", "learning_rate=fast"), '="fast": needs float (default 0.001)'),
        (("eventprop_shd", "--smoke", "--set", "epochs=3"), "use --epochs"),
        (("eventprop_shd", "--smoke", "--set", "learning_rate"), "is not NAME=VALUE"),
        (("eventprop_yinyang", "--smoke", "--set", "learning_rate=1"), "the networks of this table differ in it"),
        (("eventprop_sequence", "--data-dir", "/nowhere"), "/nowhere/V_1.npy: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_impossible_command_is_one_clear_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["run", *arguments])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and message in printed.err and printed.err.count("\n") == 1


def test_a_changed_setting_is_part_of_the_run(tmp_path, capsys):
    common = ["--smoke", "--epochs", "1", "--only", "recurrent-64-delays", "--out", str(tmp_path)]
    assert main(["run", "eventprop_braille", *common, "--set", "target_spikes=5"]) == 0
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["settings"]["training"]["target_spikes"] == 5
    capsys.readouterr()
    assert main(["table", "eventprop_braille", "--out", str(tmp_path), "--set", "target_spikes=6"]) == 2
    assert "no finished runs" in capsys.readouterr().err
