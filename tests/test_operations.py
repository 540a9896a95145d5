"""Synaptic operations, counted by hand on three networks, in both frameworks, and as SpikingJelly's counter does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

snntorch = pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional, layer, neuron, op_counter  # noqa: E402

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents, synaptic_operations  # noqa: E402
from snn_delay_plugins import snntorch as in_snntorch  # noqa: E402
from snn_delay_plugins import spikingjelly as in_spikingjelly  # noqa: E402
from snn_delay_plugins.spikingjelly.counters import extra_rules  # noqa: E402


def certain(layer_, weight: float) -> None:
    with torch.no_grad():
        layer_.weight.fill_(weight)
        if layer_.bias is not None:
            layer_.bias.zero_()


def first_net(framework):
    """3 -> 4 with delays, of which one synapse does not exist and the last sender's lie between two steps; 4 -> 2."""
    delays = torch.tensor([0.0, 2.0, 1.5]).expand(4, 3).clone()
    if framework == "snntorch":
        net = nn.Sequential(
            in_snntorch.DelayedLinear(3, 4, max_delay=3, delay=delays, density=1.0, step_mode=False),
            in_snntorch.StateHeterogeneousLIF(alpha=0.5, features=4), nn.Linear(4, 2),
        )  # fmt: skip
    else:
        net = nn.Sequential(
            in_spikingjelly.DelayedLinear(3, 4, max_delay=3, delay=delays, density=1.0),
            in_spikingjelly.HeterogeneousLIFNode(alpha=0.5, features=4), layer.Linear(4, 2),
        )  # fmt: skip
        functional.set_step_mode(net, "m")
    certain(net[0], 2.0)
    net[0].mask[0, 0] = False
    return net


INPUT = torch.zeros(6, 2, 3)
for step, sample, unit in ((0, 0, 0), (1, 0, 0), (1, 0, 1), (2, 1, 2), (3, 1, 0), (3, 1, 2)):
    INPUT[step, sample, unit] = 1.0


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_spikes_times_their_synapses_are_counted_as_by_hand(framework):
    net = first_net(framework)
    counted = synaptic_operations(net, INPUT)
    # sender 0: 3 spikes over 3 synapses; 1: 1 over 4; 2: 2 over 4 of two taps each
    assert counted.layers["0"].spikes == 6 and counted.layers["0"].synaptic_operations == 9 + 4 + 16
    assert counted.layers["0"].dense == 6 * 2 * (3 + 4 + 8)
    # alpha = 1/2, weights 2: a whole spike brings the membrane to 1, the threshold; so do two halves
    hidden = net[1](net[0](INPUT)) if framework == "snntorch" else None
    if hidden is not None:
        assert counted.layers["2"].spikes == int(hidden.sum())
    assert counted.layers["2"].synaptic_operations == 2 * counted.layers["2"].spikes > 0
    assert counted.multiply_accumulates == 0 and counted.samples == 2
    total = 29 + 2 * counted.layers["2"].spikes
    assert counted.synaptic_operations == total
    assert counted.energy() == pytest.approx(total * 0.9e-12 / 2)
    assert counted.energy(addition=2.0) == total


def test_hidden_spikes_of_the_first_network_are_those_of_a_scalar_loop():
    spikes = 0
    for sample in range(2):
        for receiver in range(4):
            u = s = 0.0
            for t in range(6):

                def at(lag, unit, t=t, sample=sample):
                    return float(INPUT[t - lag, sample, unit]) if t >= lag else 0.0

                current = 2 * ((receiver > 0) * at(0, 0) + at(2, 1) + 0.5 * at(1, 2) + 0.5 * at(2, 2))
                u = 0.5 * u + 0.5 * current - s
                s = float(u >= 1)
                spikes += int(s)
    assert synaptic_operations(first_net("snntorch"), INPUT).layers["2"].spikes == spikes


def second_net():
    """A convolution 3 x 3 with padding over 4 x 4, stride 2, and average pooling, behind which input is graded."""
    net = nn.Sequential(
        in_spikingjelly.DelayedConv2d(1, 2, 3, stride=2, padding=1, bias=False, max_delay=2, delay=1.0),
        neuron.IFNode(), layer.AvgPool2d(2), layer.Flatten(), layer.Linear(2, 3),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    certain(net[0], 0.25)
    return net


def test_a_convolution_counts_the_receivers_of_each_place_and_graded_input_multiplies():
    x = torch.zeros(3, 1, 1, 4, 4)
    x[0, 0, 0, 0, 0] = x[1, 0, 0, 1, 1] = x[2, 0, 0, 3, 3] = 1.0
    counted = synaptic_operations(second_net(), x)
    # receivers stand at 0 and 2 and reach one place further: the corner is seen by one, (1, 1) by four, (3, 3) by one
    assert counted.layers["0"].synaptic_operations == 2 * (1 + 4 + 1)
    x[:] = 1.0  # four spikes of weight 1/4 reach the corner at least: some but not all of a pool fire
    counted = synaptic_operations(second_net(), torch.cat([x, 0.5 * x]))
    assert counted.layers["0"].synaptic_operations == 0  # graded
    assert counted.layers["0"].multiply_accumulates == counted.layers["0"].dense == 6 * 2 * (1 + 2 + 2 + 4) * 1 + 6 * 2 * 16
    assert counted.energy() >= counted.multiply_accumulates * 4.6e-12


def test_events_and_recurrent_synapses_are_counted():
    torch.manual_seed(0)
    events = SpikeEvents.from_lists([[1.0, 2.0, 3.0], [2.0]], [[0, 1, 1], [2]], num_units=3, duration=20.0)
    hidden = EventPropLIF(3, 4, recurrent=True, max_delay=2.0, weight_init=(6.0, 0.0), recurrent_weight_init=(0.1, 0.0))
    net = nn.Sequential(hidden, EventPropLI(4, 2))
    with torch.no_grad():
        hidden.weight[0, 0] = 0.0  # no synapse
        hidden.recurrent_weight.fill_diagonal_(0.0)
    fired = len(hidden(events))
    counted = synaptic_operations(net, events)
    assert fired > 0 and counted.samples == 2
    assert counted.layers["0"].spikes == 4 and counted.layers["0"].synaptic_operations == 3 + 3 * 4 + fired * 3
    assert counted.layers["1"].synaptic_operations == fired * 2


def test_counting_takes_no_memory_for_the_longest_delay():
    layer_ = in_snntorch.DelayedLinear(300, 200, max_delay=100_000, delay="uniform", density=1.0, step_mode=False)
    with torch.no_grad():  # a kernel over all lags would be 24 GB
        layer_.weight.fill_(1.0)
        layer_.delay.copy_(layer_.delay.round())
        layer_.delay[:, 0] = 99_999.5  # two taps each
        layer_.delay[:, 1] = 100_000.0
        layer_.weight[:, 2] = 0.0
    counted = synaptic_operations(nn.Sequential(layer_), torch.ones(1, 1, 300)).layers["0"]
    assert counted.spikes == 300 and counted.synaptic_operations == 200 * (2 + 1 + 0 + 297)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("options", [{}, {"delay_gradient": "gaussian"}, {"synapses": 2}])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_spikingjellys_counter_counts_the_same(step_mode, options, discrete):
    torch.manual_seed(1)
    made = in_spikingjelly.DelayedLinear(8, 8, max_delay=3, delay="uniform", **options).eval()
    if discrete and "delay_gradient" in options:
        made = made.discretize()
    net = nn.Sequential(
        made, in_spikingjelly.AdLIFPlusNode(v_threshold=0.2, features=8), layer.Linear(8, 3, bias=False)
    ).eval()
    functional.set_step_mode(net, step_mode)
    x = (torch.rand(12, 2, 8) < 0.4).float()
    counted = synaptic_operations(net, x, steps=step_mode == "s")
    functional.reset_net(net)
    counter = op_counter.SynOpCounter(extra_rules=extra_rules(op_counter.SynOpCounter))
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        [net(step) for step in x] if step_mode == "s" else net(x)
    assert counter.get_total() == counted.synaptic_operations > 0


@pytest.mark.parametrize("counter", [op_counter.FlopCounter, op_counter.MemoryAccessCounter])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_strict_counters_pass_where_lif_node_passes(step_mode, counter):
    x = (torch.rand(6, 2, 8) < 0.4).float()
    totals = []
    for node in (neuron.LIFNode, in_spikingjelly.AdLIFPlusNode, in_spikingjelly.CubaLIFNode):
        net = nn.Sequential(in_spikingjelly.DelayedLinear(8, 8, max_delay=3, delay="uniform"), node())
        functional.set_step_mode(net, step_mode)
        made = counter(extra_rules=extra_rules(counter))
        with op_counter.DispatchCounterMode([made], strict=True):
            [net(step) for step in x] if step_mode == "s" else net(x)
        totals.append(made.get_total())
    assert min(totals) > 2 * 6 * 2 * 8 * 8 * 2  # two taps of a synapse at each step


def test_floating_point_operations_of_neurons_are_those_of_their_equations():
    made = op_counter.FlopCounter(extra_rules=extra_rules(op_counter.FlopCounter))
    node = in_spikingjelly.HeterogeneousLIFNode(features=5, step_mode="m")
    with op_counter.DispatchCounterMode([made], strict=True):
        node(torch.zeros(7, 2, 5))
    of = {str(key): value for key, value in made.get_counts()["Global"].items()}
    # alpha u + (1 - alpha) I - theta s: three products, two sums; u - theta >= 0: two
    assert of["snn_delay_plugins.linear_neuron.default"] == 7 * 2 * 5 * 7


def test_a_layer_of_which_no_rule_is_known_is_said():
    net = nn.Sequential(nn.Linear(3, 3), nn.Bilinear(3, 3, 3))
    net[1].forward = lambda x: x
    with pytest.warns(UserWarning, match=r"the operations of 1 \(Bilinear\) are not counted"):
        assert synaptic_operations(net, torch.ones(2, 1, 3)).synaptic_operations == 2 * 9


def test_what_is_counted_is_checked_and_the_mode_stays():
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module"):
        synaptic_operations(None, torch.ones(1, 1, 1))
    with pytest.raises(TypeError, match=r"batch must be a tensor \[T, N, \*\] or SpikeEvents, got list"):
        synaptic_operations(nn.Linear(1, 1), [1.0])
    with pytest.raises(
        ValueError, match="there are rules for SynOpCounter, FlopCounter, MemoryAccessCounter, not for MACCounter"
    ):
        extra_rules(op_counter.MACCounter)
    net = first_net("snntorch").train()
    table = str(synaptic_operations(net, INPUT))
    assert net.training and "SynOps" in table and "2 samples" in table


def recurrent(step_mode):
    torch.manual_seed(4)
    return in_spikingjelly.DelayedRecurrent(
        in_spikingjelly.AdLIFPlusNode(features=8, v_threshold=0.2, step_mode=step_mode), max_delay=3, delay="uniform",
        interpolation="round", synapses=5, step_mode=step_mode,
    )  # fmt: skip


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_recurrent_synapses_carry_what_the_layer_emits(step_mode):
    net, x = recurrent(step_mode).eval(), 2 * torch.rand(12, 2, 8)
    net.weight.data.mul_(3)
    counted = synaptic_operations(net, x, steps=step_mode == "s")
    functional.reset_net(net)
    emitted = torch.stack([net(step) for step in x]) if step_mode == "s" else net(x)
    by_hand = int((emitted.sum((0, 1)) * net.mask.sum(0)).sum())
    assert counted.synaptic_operations == by_hand > 0
    functional.reset_net(net)
    counter = op_counter.SynOpCounter(extra_rules=extra_rules(op_counter.SynOpCounter))
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        [net(step) for step in x] if step_mode == "s" else net(x)
    last = int((emitted[-1].sum(0) * net.mask.sum(0)).sum()) if step_mode == "s" else 0  # on its way after the last step
    assert counter.get_total() == by_hand - last
