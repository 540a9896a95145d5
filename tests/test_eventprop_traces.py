"""States of EventProp neurons, recorded."""

from __future__ import annotations

import math

import pytest
import torch

from snn_delay_plugins import EventPropAdLIF, EventPropConv1d, EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.eventprop_models import ADLIF

DURATION = 60.0


def events(units: int = 8) -> SpikeEvents:
    torch.manual_seed(0)
    times = [DURATION * torch.rand(n, dtype=torch.float64) for n in (120, 60)]
    return SpikeEvents.from_lists(times, [torch.randint(units, t.shape) for t in times], num_units=units, duration=DURATION)


def adaptive(**options) -> EventPropAdLIF:
    torch.manual_seed(1)
    usual = {"tau_mem": (10.0, 20.0), "a": 1.5, "b": 0.3, "weight_init": (2.0, 0.4), "delay": "uniform", "max_delay": 5.0}
    return EventPropAdLIF(8, 11, **{**usual, **options}).double()


def test_a_layer_that_does_not_fire_records_the_voltage_of_a_readout():
    lif, li = EventPropLIF(8, 5, threshold=1e6, dt=0.7).double(), EventPropLI(8, 5, delay=0.0, dt=0.7).double()
    li.weight.data.copy_(lif.weight)
    _, traces = lif.eval()(events(), record=["V"])
    torch.testing.assert_close(traces["V"], li(events()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"refractory": 2.0}, {"recurrent": True, "refractory": 1.0}], ids=str)
def test_states_follow_their_equations_between_spikes_and_jump_at_them(options):
    """By differences: where nothing arrives in a step and nobody spikes, x' = M x; jumps are those of the spikes."""
    layer = adaptive(dt=0.01, **options)
    few = SpikeEvents.from_lists([[1.0, 1.5, 2.0, 30.0]], [[0, 3, 4, 5]], num_units=8, duration=50.0)
    layer.weight.data *= 3
    spikes, traces = layer(few, record=("V", "W", "I"))
    assert len(spikes) > 10 and traces["V"].shape == (5000, 1, 11)
    V, W, current = (traces[name][:, 0] for name in ("V", "W", "I"))
    tau_m, tau_w, rest = layer.tau_mem, layer.tau_adapt, float(layer.refractory)
    n = torch.arange(1, 4999)
    dV, dW = ((x[2:] - x[:-2]) / 0.02 for x in (V, W))
    held = torch.zeros(4998, 11, dtype=torch.bool)
    near = torch.zeros(4998, 11, dtype=torch.bool)
    for t, j in zip(spikes.times.tolist(), spikes.units.tolist(), strict=True):
        held[(n * 0.01 >= t) & (n * 0.01 < t + rest), j] = True
        for edge in (t, t + rest):
            near[(n * 0.01 - edge).abs() < 0.03, j] = True
    kinks = ((current[2:] - 2 * current[1:-1] + current[:-2]).abs() > 1e-4) | near  # arrivals
    free = ~kinks & ~held
    expected = (current - V - W)[1:-1] / tau_m
    torch.testing.assert_close(dV[free], expected[free], rtol=0, atol=1e-4)
    assert not (held & ~kinks).any() or float(dV[held & ~kinks].abs().max()) < 1e-9
    expected = (layer.a * V - W)[1:-1] / tau_w
    torch.testing.assert_close(dW[~kinks], expected[~kinks], rtol=0, atol=1e-4)
    for t, j in zip(spikes.times.tolist(), spikes.units.tolist(), strict=True):
        k = math.floor(t / 0.01)
        assert float(V[k, j]) <= 1.0 + 1e-6 and abs(float(V[k, j]) - 1.0) < 0.05
        assert abs(float(V[k + 1, j])) < 0.05
        assert abs(float(W[k + 1, j] - W[k, j]) - 0.3) < 0.01


@pytest.mark.parametrize("constants", [{}, {"tau_mem": torch.linspace(5.0, 20.0, 9).view(3, 3)}], ids=["shared", "each"])
def test_a_convolution_records_what_the_layer_with_the_unrolled_weights_does(constants):
    torch.manual_seed(2)
    layer = EventPropConv1d(1, 3, 4, stride=2, weight_init=(3.0, 0.5), model=ADLIF, constants=constants).double()
    full = EventPropAdLIF(8, 9, delay=None, tau_mem=constants.get("tau_mem", torch.full((9,), 20.0)).flatten()).double()
    ones = torch.eye(8, dtype=torch.float64).view(8, 1, 8)
    full.weight.data.copy_(torch.nn.functional.conv1d(ones, layer.weight, stride=2).flatten(1).T)
    given = events()
    spikes, traces = layer(given.reshape(1, 8), record=["V", "W"])
    _, expected = full(given, record=["V", "W"])
    assert len(spikes) > 10
    for name in ("V", "W"):
        assert traces[name].shape == (60, 2, 3, 3)
        torch.testing.assert_close(traces[name].flatten(2), expected[name], rtol=0, atol=1e-9)


def test_states_that_a_neuron_has_not_are_refused_by_name():
    with pytest.raises(ValueError, match="record='W': the neurons of EventPropLIF have the states I, V"):
        EventPropLIF(8, 5)(events(), record=["V", "W"])
    with pytest.raises(ValueError, match="record= needs spike_times='exact'"):
        EventPropLIF(8, 5, spike_times="grid")(events(), record="V")


def test_what_is_recorded_comes_beside_the_output_as_it_is_without():
    layer, dense = adaptive(output="same"), events().to_dense(1.0)
    out, traces = layer(dense, record="V")
    assert torch.equal(out, layer(dense)) and out.requires_grad
    assert traces["V"].shape == out.shape and not traces["V"].requires_grad
