"""EventProp layers in whole steps."""

from __future__ import annotations

import pickle

import pytest
import torch

from snn_delay_plugins import EventPropAdLIF, EventPropConv1d, EventPropLIF, SpikeEvents
from snn_delay_plugins.eventprop_discrete import SpikeChange

DURATION = 60.0
LAYERS = {
    "LIF": lambda: EventPropLIF(8, 5, delay="uniform", max_delay=5.0, weight_init=(1.2, 0.4)),
    "recurrent AdLIF": lambda: EventPropAdLIF(
        8, 5, recurrent=True, recurrent_delay="uniform", delay="uniform", max_delay=5.0, delay_type="dendritic",
        tau_mem=(10.0, 20.0), refractory=2.0, weight_init=(2.0, 0.4),
    ),
    "convolution": lambda: EventPropConv1d(1, 3, 4, stride=2, delay="uniform", max_delay=5.0, weight_init=(3.0, 0.4)),
    "no delays": lambda: EventPropLIF(8, 5, recurrent=True, delay=None, recurrent_delay=None, weight_init=(1.2, 0.4)),
}  # fmt: skip


def layer_and_events(kind: str):
    torch.manual_seed(0)
    events = SpikeEvents.from_lists(
        [DURATION * torch.rand(n, dtype=torch.float64) for n in (120, 60)],
        [torch.randint(8, (n,)) for n in (120, 60)],
        num_units=8,
        duration=DURATION,
    )
    return LAYERS[kind](), events.reshape(1, 8) if kind == "convolution" else events


@pytest.mark.parametrize("kind", LAYERS)
def test_the_spikes_of_short_steps_are_those_of_continuous_time(kind):
    layer, events = layer_and_events(kind)
    change = layer.discretize(dt=0.04, example=events).change
    assert change.exact == change.discrete > 20
    assert change.lost == change.added == 0
    assert change.shift < 0.08


def test_the_change_in_spikes_counts_what_is_lost_added_and_later():
    def spikes(times, units):
        return SpikeEvents.from_lists(times, units, num_units=3, duration=10.0)

    exact = spikes([[1.0, 2.0, 3.0], [4.0]], [[0, 0, 1], [2]])
    discrete = spikes([[1.5, 3.5], [3.5, 9.0]], [[0, 1], [2, 2]])
    assert SpikeChange.between(exact, discrete) == SpikeChange(4, 4, 1, 1, 0.5, pytest.approx(1 / 6))


def test_delays_and_refractory_periods_become_whole_steps():
    layer = EventPropAdLIF(2, 1, delay=torch.tensor([[3.2, 7.6]]), refractory=3.1, max_delay=9.0)
    frozen = layer.discretize(dt=2.0)
    assert frozen.delay.tolist() == [[2, 4]]
    assert frozen.rest.tolist() == [2]


def test_one_arrival_acts_by_the_exact_flow():
    layer = EventPropLIF(1, 1, delay=3.0, max_delay=9.0, weight_init=(8.0, 0.0), tau_mem=20.0, tau_syn=5.0)
    dense = torch.zeros(30, 1, 1)
    dense[4] = 1.0
    first = layer(SpikeEvents.from_dense(dense, 1.0)).times[0]  # 7 + 4.12
    assert layer.discretize()(dense).times.tolist()[0] == float(first.detach().ceil()) == 12.0


def test_a_frozen_layer_keeps_the_kind_of_output_has_no_parameters_and_passes_through_pickle():
    layer, events = layer_and_events("LIF")
    frozen = layer.discretize(example=events)
    assert not list(frozen.parameters()) and "exact=" in repr(frozen)
    copy = pickle.loads(pickle.dumps(frozen))
    assert torch.equal(copy(events).times, frozen(events).times)
    layer.output = "same"
    dense = layer.discretize()(events.to_dense(1.0))
    assert dense.shape == (60, 2, 5)
    assert int(dense.sum()) == len(layer.discretize()(events)) > 0


def test_seconds_in_place_of_milliseconds_are_refused():
    with pytest.raises(ValueError, match="is dt in the unit of the delays"):
        EventPropLIF(2, 1, delay=5.0).discretize(dt=1e-6)
    with pytest.raises(ValueError, match="dt must be"):
        EventPropLIF(2, 1).discretize(dt=0.0)
