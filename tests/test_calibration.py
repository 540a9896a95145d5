"""Weights scaled on one batch to a wanted rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents, calibrate

snntorch = pytest.importorskip("snn_delay_plugins.snntorch")
spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
framework = pytest.importorskip("spikingjelly.activation_based")


def batch(inputs: int = 50, steps: int = 40) -> torch.Tensor:
    return (torch.rand(steps, 4, inputs) < 0.1).float()


def jelly(mode: str) -> nn.Sequential:
    from spikingjelly.activation_based import layer, neuron

    net = nn.Sequential(
        layer.Linear(50, 40),
        spikingjelly.AdLIFPlusNode(),
        spikingjelly.DelayedLinear(40, 30, max_delay=5),
        neuron.LIFNode(),
    )
    framework.functional.set_step_mode(net, mode)
    return net


def snn(steps: bool) -> nn.Sequential:
    import snntorch as theirs

    if not steps:
        return nn.Sequential(nn.Linear(50, 40), snntorch.StateAdLIFPlus(), nn.Linear(40, 30), snntorch.StateAdLIFPlus())
    return nn.Sequential(
        nn.Linear(50, 40),
        snntorch.AdLIFPlus(init_hidden=True),
        snntorch.DelayedLinear(40, 30, max_delay=5),
        theirs.Leaky(beta=0.9, init_hidden=True),
    )


@pytest.mark.parametrize(
    "make", [lambda: snn(True), lambda: snn(False), lambda: jelly("s"), lambda: jelly("m")],
    ids=["snnTorch steps", "snnTorch sequence", "SpikingJelly s", "SpikingJelly m"],
)  # fmt: skip
def test_every_layer_fires_as_often_as_wanted_afterwards(make):
    net, x = make(), batch()
    table = calibrate(net, x, rate=0.08)
    assert list(table) == ["1", "3"] and table["1"].before == 0.0
    for row in table.values():
        assert row.after == pytest.approx(0.08, rel=0.1)
    again = calibrate(net, x, rate=0.08)  # the states are fresh, and what was measured is what the network does
    for name, row in again.items():
        assert row.before == pytest.approx(table[name].after) and row.factor == pytest.approx(1.0, rel=0.1)


def test_only_weights_change_and_by_the_factor_of_the_table():
    net = snn(False)
    weight, *biases = (value.detach().clone() for value in (net[0].weight, net[0].bias, net[2].bias))
    table = calibrate(net, batch())
    assert torch.equal(net[0].bias, biases[0]) and torch.equal(net[2].bias, biases[1])
    torch.testing.assert_close(net[0].weight.detach(), table["1"].factor * weight)


def test_a_normalisation_before_the_neurons_is_what_is_scaled_and_its_statistics_stay():
    class Norm(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x.flatten(0, 1)).view_as(x)

    net = nn.Sequential(nn.Linear(50, 40), Norm(40), snntorch.StateAdLIFPlus())
    linear = net[0].weight.detach().clone()
    table = calibrate(net, batch(), rate=0.1)
    assert table["2"].after == pytest.approx(0.1, rel=0.1)
    assert torch.equal(net[0].weight, linear)
    torch.testing.assert_close(net[1].weight.detach(), torch.full((40,), table["2"].factor))
    assert not net[1].running_mean.any() and net[1].num_batches_tracked == 0


def test_eventprop_layers_fire_so_many_spikes_per_neuron_and_sample():
    net = nn.Sequential(EventPropLIF(50, 30, weight_init=(1e-3, 1e-3)), EventPropLIF(30, 20), EventPropLI(20, 3))
    events = SpikeEvents.from_dense(batch(), 1.0)
    recorded = [(net[0], 30), (net[1], 20)]
    table = calibrate(net, events, spikes_per_sample=2.0)
    x = events
    for (layer, neurons), row in zip(recorded, table.values(), strict=True):
        x = layer(x)
        assert row.after == pytest.approx(2.0, rel=0.1) and len(x) / (4 * neurons) == pytest.approx(row.after)


def test_a_network_with_a_loop_of_its_own_is_run_by_what_the_user_gives():
    net = snntorch.AdLIFPlus(features=40)
    whole = nn.ModuleDict({"fc": nn.Linear(50, 40), "neuron": net})

    def forward(net, x):
        w, mem = net["neuron"].reset_mem()
        for step in x:
            _, w, mem = net["neuron"](net["fc"](step), w, mem)

    table = calibrate(whole, batch(), forward=forward)
    assert table["neuron"].after == pytest.approx(0.05, rel=0.1)


def test_the_users_random_numbers_go_on_as_if_nothing_had_been_tried():
    net = nn.Sequential(nn.Linear(50, 40), nn.Dropout(0.2), snntorch.StateAdLIFPlus(features=40, init_state="uniform"))
    x = batch()
    torch.manual_seed(5)
    calibrate(net, x, rate=0.1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch": torch.zeros(9, 2, 50)}, RuntimeError, "layer '1' cannot fire 0.05 times.*does it get any spikes"),
        ({"batch": torch.full((9, 2, 50), float("nan"))}, ValueError, "layer '1': its input holds NaN"),
        ({"rate": 1.5}, ValueError, "rate is the share of neuron-steps"),
        ({"rate": float("nan")}, ValueError, "rate is the share of neuron-steps"),
        ({"spikes_per_sample": float("nan")}, ValueError, "spikes_per_sample must be positive"),
    ],
)
def test_what_cannot_be_reached_names_the_layer_and_changes_nothing(arguments, error, message):
    net = nn.Sequential(nn.Linear(50, 40, bias=False), snntorch.StateAdLIFPlus(features=40))
    before = net[0].weight.detach().clone()
    with pytest.raises(error, match=message):
        calibrate(net, **({"batch": batch()} | arguments))
    assert torch.equal(net[0].weight, before)


def test_a_network_without_spiking_layers_is_refused():
    with pytest.raises(ValueError, match="Linear holds no spiking layer"):
        calibrate(nn.Linear(3, 4), torch.rand(5, 2, 3))


class OneStep(nn.Module):
    """A class of its own around a layer and neurons, as snnTorch's tutorials write them; ``forward`` takes one step."""

    def __init__(self, neuron: nn.Module, feed: nn.Module | None = None):
        super().__init__()
        self.fc, self.neuron = feed or nn.Linear(50, 40), neuron

    def forward(self, x):
        return self.neuron(self.fc(x))


def leaky():
    import snntorch as theirs

    return theirs.Leaky(beta=0.9, init_hidden=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneStep(snntorch.AdLIFPlus(init_hidden=True)),
        lambda: OneStep(snntorch.AdLIFPlus(init_hidden=True, features=40)),
        lambda: OneStep(snntorch.AdLIFPlus(init_hidden=True), snntorch.DelayedLinear(50, 40, max_delay=3)),
        lambda: OneStep(leaky()),
        lambda: OneStep(spikingjelly.AdLIFPlusNode()),
    ],
    ids=["lazy", "features", "delays", "Leaky", "SpikingJelly"],
)
def test_a_network_that_takes_single_steps_is_not_given_the_time_steps_as_samples(make):
    net = make()
    before = {name: value.clone() for name, value in net.named_parameters() if not nn.parameter.is_lazy(value)}
    with pytest.raises(ValueError, match=r"single steps: pass forward=lambda net, batch: \[net\(x\) for x in batch\]"):
        calibrate(net, batch())
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) if name in before else nn.parameter.is_lazy(value)
    table = calibrate(net, batch(), forward=lambda net, batch: [net(x) for x in batch])
    assert table["neuron"].after == pytest.approx(0.05, rel=0.1)


def test_a_network_with_its_own_loop_over_time_is_called_once_whatever_its_sizes():
    class Loop(OneStep):
        def forward(self, x):
            self.neuron.reset_mem()
            return torch.stack([super(Loop, self).forward(step) for step in x])

    net = Loop(snntorch.AdLIFPlus(init_hidden=True), nn.Linear(8, 8))
    assert calibrate(net, torch.rand(8, 8, 8))["neuron"].after == pytest.approx(0.05, rel=0.1)


def test_what_limits_the_rate_and_in_which_unit_is_what_holds_for_the_layer():
    layer = EventPropLIF(50, 4, weight_init=(-1.0, 0.0))
    with pytest.raises(RuntimeError, match=r"5 times per neuron and sample: .* no input spikes, or no positive weights"):
        calibrate(layer, batch())
    with pytest.raises(ValueError, match=r"got 5; the spikes per neuron and sample of .* are spikes_per_sample"):
        calibrate(layer, batch(), rate=5)
    net = nn.Sequential(nn.Linear(50, 4, bias=False), snntorch.StateAdLIFPlus(features=4))
    nn.init.constant_(net[0].weight, -1.0)
    with pytest.raises(RuntimeError, match=r"per neuron-step: .* no input spikes, or no positive weights"):
        calibrate(net, batch())
