"""EventPropConv1d, EventPropConv2d and EventPool as layers; their mathematics: functional/test_eventprop_convolution.py."""

from __future__ import annotations

import pickle
from importlib.util import find_spec

import pytest
import torch

import snn_delay_plugins
from snn_delay_plugins import (
    EventPool2d,
    EventPropConv1d,
    EventPropConv2d,
    EventPropLI,
    EventPropLIF,
    SpikeEvents,
    calibrate,
)
from snn_delay_plugins.functional.eventprop_models import ADLIF


def dense(*shape: int, rate: float = 0.1) -> torch.Tensor:
    return (torch.rand(40, 2, *shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def layer(**options) -> EventPropConv2d:
    torch.manual_seed(1)
    usual = {"kernel_size": 3, "delay": "uniform", "max_delay": 5.0, "weight_init": (1.5, 0.5)}
    return EventPropConv2d(2, 4, **{**usual, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learn": "threshold"},
        {"model": ADLIF, "learn": "all", "refractory": 0.5, "weight_init": (6.0, 1.0)},
        {"constants": {"tau_mem": (10.0, 30.0)}, "refractory": 1.0, "learn": ["tau_mem", "refractory"]},
        {"groups": 2, "stride": (2, 1), "padding": 1, "delay_type": "dendritic"},
        {"delay_type": "axonal", "learn_delay": False},
        {"delay": None},
        {"spike_times": "grid"},
    ],
    ids=lambda options: ", ".join(options) or "none",
)
def test_every_parameter_of_a_layer_gets_a_gradient(options):
    net = layer(**options)
    spikes = net(dense(2, 6, 7))
    assert spikes.unit_shape == (4, 3, 7) if "stride" in options else spikes.unit_shape == (4, 4, 5)
    (spikes.times * torch.sin(spikes.times.detach())).sum().backward()
    assert all(parameter.grad.any() for parameter in net.parameters())


def test_dense_input_gives_dense_output_of_the_shape_of_a_convolution():
    x = dense(2, 6, 7)
    for output in ("dense", "same"):
        out = layer(output=output)(x)
        assert out.shape == (40, 2, 4, 4, 5)
        assert out.sum() == len(layer()(x)) > 0
    assert layer(output="dense").to("meta")(x.to("meta")).shape == (40, 2, 4, 4, 5)


def test_layers_pass_through_pickle_and_state_dicts():
    net, x = layer(model=ADLIF, constants={"a": (0.0, 1.0)}), dense(2, 6, 7)
    copy, other = pickle.loads(pickle.dumps(net)), layer(model=ADLIF, constants={"a": (0.0, 1.0)})
    other.load_state_dict(net.state_dict())
    for again in (copy, other):
        assert torch.equal(again(x).times, net(x).times)


def test_a_network_of_convolutions_learns():
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        EventPropConv2d(2, 4, 3, delay="uniform", max_delay=5.0),
        EventPool2d(2),
        EventPropConv2d(4, 6, 2, model=ADLIF, learn=["tau_mem"]),
        EventPropLIF(6, 5, weight_init=(0.5, 0.2)),
        EventPropLI(5, 2, readout="integral"),
    )
    x, target = dense(2, 6, 6), torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    rates = calibrate(net, x, spikes_per_sample=4.0)
    assert [round(rate.after) for rate in rates.values()] == [4, 4, 4]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((net(x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_silent_convolution_says_so():
    with pytest.warns(UserWarning, match=r"no neuron of EventPropConv2d.*potential is 0\.00\d+ of the threshold"):
        layer(weight_init=(1e-3, 0.0))(dense(2, 6, 7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "groups = 3 must divide"),
        ({"delay_type": "axonal", "groups": 2}, "needs groups=1"),
        ({"delay_type": "both"}, "delay_type must be"),
        ({"model": ADLIF, "spike_times": "grid"}, "knows LIF neurons alone"),
        ({"constants": {"tau": 1.0}}, "LIF has no constant 'tau'"),
        ({"constants": {"tau_mem": torch.ones(3)}}, r"tau_mem must be a number, a tensor \[4\]"),
        ({"constants": {"tau_mem": -1.0}}, "tau_mem must be positive"),
        ({"stride": 0}, "stride must be"),
        ({"padding": (1, 1, 1)}, "padding: need one number or 2"),
        ({"delay": 9.0}, "initial delays must lie in"),
        ({"weight_init": 3.0}, "weight_init must be two numbers"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dense(98), r"expected spikes \[T, N, 2, height, width\], got shape \(40, 2, 98\)"),
        (dense(3, 6, 7), r"expected spikes \[T, N, 2, height, width\]"),
        (dense(2, 2, 7), "does not fit into an input of"),
        (
            SpikeEvents.from_dense(dense(98), 1.0),
            r"units must have a shape .*, got \(98,\): events\.reshape\(channels, hei",
        ),
        (SpikeEvents.from_dense(dense(3, 6, 7), 1.0), r"do not fit to units of shape \(3, 6, 7\)"),
    ],
)
def test_input_of_another_shape_is_refused_with_the_shape_that_it_should_have(given, message):
    with pytest.raises(ValueError, match=message):
        layer()(given)


def test_constants_of_another_image_size_are_refused():
    net = layer(constants={"tau_mem": torch.full((4, 3, 3), 20.0)})
    with pytest.raises(ValueError, match=r"tau_mem must be a number, \[4\] .*or \[4, 4, 5\]"):
        net(dense(2, 6, 7))
    assert net(dense(2, 5, 5)).unit_shape == (4, 3, 3)


def test_too_many_spikes_name_channel_place_and_sample():
    x = dense(2, 6, 7)
    x[:, 0] = 0
    with pytest.raises(RuntimeError, match=r"neuron \(\d, \d, \d\) in sample 1 fires more than max_spikes = 2"):
        layer(weight_init=(5.0, 0.0), max_spikes=2)(x)
    with pytest.raises(RuntimeError, match=r"neuron \(\d, \d, \d\) in sample 1 fires more than max_spikes = 2"):
        layer(model=ADLIF, weight_init=(5.0, 0.0), max_spikes=2)(x)


def test_a_plain_form_gives_the_same(monkeypatch):
    x = dense(2, 3, 4)[:20]
    nets = [layer(kernel_size=2), layer(kernel_size=2, model=ADLIF)]
    compiled = [net(x) for net in nets]
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    for spikes, net in zip(compiled, nets, strict=True):
        plain = net(x)
        assert torch.equal(plain.units, spikes.units)
        torch.testing.assert_close(plain.times, spikes.times, rtol=0, atol=1e-9)
        grads = [torch.autograd.grad((s.times * s.units).sum(), net.delay)[0] for s in (plain, spikes)]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_both_front_doors_have_the_layers(framework):
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    door = getattr(snn_delay_plugins, framework)
    for name in ("EventPropConv1d", "EventPropConv2d", "EventPool1d", "EventPool2d"):
        assert issubclass(getattr(door, name), getattr(snn_delay_plugins.eventprop_convolution, name))
    net = torch.nn.Sequential(door.EventPropConv1d(1, 3, 4, output="same", weight_init=(3.0, 0.0)))
    assert net(dense(1, 9)).shape == (40, 2, 3, 6)
    assert EventPropConv1d(1, 3, 4, weight_init=(3.0, 0.0))(dense(1, 9)).unit_shape == (3, 6)
