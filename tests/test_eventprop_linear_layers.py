"""Layers of adaptive and other linear neurons: constants, bounds, kinds of input and output, words for silence."""

import importlib
import math
import pickle

import pytest
import torch

from snn_delay_plugins import EventPropAdLIF, EventPropLI, EventPropLIF, EventPropLinear, SpikeEvents, calibrate
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF, LIF, RESONATE_AND_FIRE


def dense(steps=60, batch=2, features=10):
    return (torch.rand(steps, batch, features) < 0.1).float()


def strong(**options):
    return EventPropAdLIF(10, 6, weight_init=(1.0, 0.3), **options)


def test_a_layer_is_the_function_with_its_parameters():
    layer = strong(tau_mem=(10.0, 30.0), a=torch.linspace(0.0, 6.0, 6), b=0.3, refractory=1.5, delay="uniform", max_delay=5)
    events = SpikeEvents.from_dense(dense(), 1.0)
    wanted = eventprop_linear(
        events, layer.weight, layer.delay, model=ADLIF, refractory=1.5,
        constants={"tau_mem": layer.tau_mem, "a": layer.a, "b": layer.b},
    )  # fmt: skip
    got = layer(events)
    assert len(got) > 20
    assert got.units.tolist() == wanted.units.tolist()
    assert (got.times - wanted.times).abs().max() <= 1e-5  # constants of the layer are float32
    assert layer.tau_mem.shape == layer.a.shape == (6,)
    assert 10 <= layer.tau_mem.min() < layer.tau_mem.max() <= 30


def test_a_layer_of_lif_neurons_fires_as_the_lif_layer():
    one, other = EventPropLinear(10, 6, LIF, recurrent=True), EventPropLIF(10, 6, recurrent=True)
    other.load_state_dict({name: x for name, x in one.state_dict().items() if name in other.state_dict()})
    with torch.no_grad():
        for layer in (one, other):
            layer.weight.copy_(other.weight * 30)
    events = SpikeEvents.from_dense(dense(), 1.0)
    got, wanted = one(events), other(events)
    assert len(wanted) > 20
    assert got.units.tolist() == wanted.units.tolist()
    assert (got.times - wanted.times).abs().max() <= 1e-9


def test_what_is_learnt_is_a_parameter_that_keeps_to_its_bounds():
    layer = strong(tau_mem=(10.0, 30.0), learn=["tau_mem", "a", "b", "threshold", "refractory"], refractory=0.5)
    assert {"tau_mem", "a", "b", "threshold", "refractory"} <= set(dict(layer.named_parameters()))
    assert {"tau_syn", "tau_adapt"} <= set(dict(layer.named_buffers()))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e6)
    layer(dense()).times.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters() if p is not layer.delay)
    least = layer.tau_mem.min().item() / 20
    optimizer.step()
    layer._value("tau_mem")
    assert layer._value("tau_mem").min() >= least * (1 - 1e-6)
    assert layer._value("refractory").min() >= 0
    assert layer._value("a").min() >= -0.99 - 1e-6


def test_learn_all_trains_every_constant():
    layer = EventPropLinear(3, 2, RESONATE_AND_FIRE, learn="all")
    assert set(dict(layer.named_parameters())) == {
        "weight", "delay", "tau_syn", "decay", "omega", "threshold", "refractory",
    }  # fmt: skip


def test_layers_pass_through_pickle_and_state_dicts():
    layer = strong(tau_mem=(10.0, 30.0), learn=["a"])
    events = dense()
    copy, other = pickle.loads(pickle.dumps(layer)), strong(tau_mem=(10.0, 30.0), learn=["a"])
    other.load_state_dict(layer.state_dict())
    for again in (copy, other):
        assert torch.equal(again(events).times, layer(events).times)


def test_dense_input_gives_dense_output_where_asked_for():
    layer = strong(output="same")
    spikes = dense()
    out = layer(spikes)
    assert out.shape == (60, 2, 6)
    assert out.sum() == layer(SpikeEvents.from_dense(spikes, 1.0)).counts().sum() > 0


def test_a_network_learns_its_constants():
    net = torch.nn.Sequential(strong(tau_mem=(10.0, 30.0), learn="all"), EventPropLI(6, 2, readout="integral"))
    spikes, target = dense(), torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((net(spikes) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_silence_is_said_with_the_potential_that_was_reached():
    layer = EventPropAdLIF(10, 6, weight_init=(1e-3, 0.0))
    with pytest.warns(UserWarning, match=r"its largest membrane potential is 0\.00\d+ of the threshold.*calibrate"):
        layer(dense())


def test_seconds_in_place_of_milliseconds_are_suspected():
    layer = EventPropAdLIF(10, 6)
    events = SpikeEvents.from_lists([[0.1, 0.2]], [[0, 1]], num_units=10, duration=1.0)
    with pytest.warns(UserWarning, match=r"Samples last 1 but tau_mem is 20: are their times in seconds\?"):
        layer(events)


def test_calibrate_scales_the_weights_of_adaptive_layers():
    net = torch.nn.Sequential(EventPropAdLIF(10, 20), EventPropAdLIF(20, 5))
    rates = calibrate(net, dense(200), spikes_per_sample=4.0)
    assert [rate.after == pytest.approx(4.0, rel=0.2) for rate in rates.values()] == [True, True]


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_both_front_doors_hand_the_layers_out(framework):
    pytest.importorskip(framework)
    door = importlib.import_module(f"snn_delay_plugins.{framework}")
    layer = door.EventPropAdLIF(10, 6, weight_init=(1.0, 0.3))
    assert isinstance(layer, EventPropAdLIF)
    assert isinstance(door.EventPropLinear(10, 6, LIF), EventPropLinear)
    assert len(layer(dense())) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau_mem": -1.0}, "tau_mem must be positive"),
        ({"b": torch.zeros(3)}, r"b must be a number, a tensor \[6\] or \(low, high\)"),
        ({"a": -2.0}, r"a must be finite and lie in \[-0.99, inf\]"),
        ({"refractory": -1.0}, "refractory must be finite"),
        ({"tau_syn": math.nan}, "tau_syn"),
        ({"learn": ["tau"]}, "AdLIF has no constant 'tau'; it has tau_mem"),
    ],
)
def test_constants_that_cannot_be_are_refused_by_name(options, words):
    with pytest.raises(ValueError, match=words):
        EventPropAdLIF(10, 6, **options)


def test_a_model_that_is_none_is_refused():
    with pytest.raises(TypeError, match="model must be a ContinuousModel, got str"):
        EventPropLinear(10, 6, "AdLIF")
