"""Inputs at the edge that make sense: no time steps, no samples, other types of numbers, views. Their right answers."""

from __future__ import annotations

import math
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional import losses
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.delay_convolution import delayed_convolution
from snn_delay_plugins.functional.eventprop import eventprop_li
from snn_delay_plugins.functional.inputs import padded_steps
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.schedules import ExponentialSigma, PublishedSigma

EMPTY = [(0, 2), (5, 0), (0, 0)]


def layers():
    """name, layer, shape of a step of the input, shape of a step of the output, steps more"""
    for output in ("dense", "same"):
        for scheme in ("exact", "grid"):
            make = partial(EventPropLIF, 6, 5, output=output, recurrent=True, spike_times=scheme)
            yield f"EventPropLIF {output} {scheme}", make, (6,), (5,), 0
    for scheme in ("exact", "grid"):
        yield f"EventPropLI {scheme}", partial(EventPropLI, 6, 5, spike_times=scheme), (6,), (5,), 0
    for framework, key in (("snntorch", {"step_mode": False}), ("spikingjelly", {"step_mode": "m"})):
        if not find_spec(framework):
            continue
        parts = __import__(f"snn_delay_plugins.{framework}", fromlist=["DelayedLinear"])
        for gradient in ("slayer", "gaussian"):
            options = {"max_delay": 3, "delay_gradient": gradient, **key}
            for synapses in (None, 2):
                make = partial(parts.DelayedLinear, 6, 5, synapses=synapses, **options)
                yield f"{framework} DelayedLinear {gradient} {synapses}", make, (6,), (5,), 0
                yield f"{framework} DelayedLinear {gradient} {synapses} full", partial(make, padding="full"), (6,), (5,), 3
            make = partial(parts.DelayedConv1d, 2, 5, 3, **options)
            yield f"{framework} DelayedConv1d {gradient}", make, (2, 8), (5, 6), 0
            yield f"{framework} DelayedConv1d {gradient} full", partial(make, time_padding="full"), (2, 8), (5, 6), 3
        neuron = partial(parts.StateAdLIFPlus) if framework == "snntorch" else partial(parts.AdLIFPlusNode, **key)
        for init_state in ("zeros", "uniform"):
            yield f"{framework} AdLIF {init_state}", partial(neuron, features=6, init_state=init_state), (6,), (6,), 0


LAYERS = list(layers())


@pytest.mark.parametrize(("make", "size", "out", "more"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
@pytest.mark.parametrize(("steps", "batch"), EMPTY)
def test_no_steps_or_no_samples_give_an_empty_output_and_gradients_of_zero(make, size, out, more, steps, batch):
    layer, x = make(), torch.zeros(steps, batch, *size, requires_grad=True)
    output = layer(x)
    assert output.shape == (steps + more, batch, *out) and not output.isnan().any()
    if not output.requires_grad:  # a neuron that saw no step does not depend on anything
        return
    output.sum().backward()
    assert x.grad.shape == x.shape
    for name, parameter in layer.named_parameters():
        if name != "bias":
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            assert (parameter.grad == (steps + more) * batch * math.prod(out[1:])).all()


@pytest.mark.parametrize("readout", ["integral", "weighted_integral", "maximum"])
@pytest.mark.parametrize("scheme", ["exact", "grid"])
@pytest.mark.parametrize(("steps", "batch"), EMPTY)
def test_readouts_of_nothing_are_zero(readout, scheme, steps, batch):
    layer = EventPropLI(6, 5, readout=readout, spike_times=scheme)
    output = layer(torch.zeros(steps, batch, 6))
    assert output.shape == (batch, 5) and not output.any()
    output.sum().backward()
    assert not layer.weight.grad.any()


def test_events_of_no_steps_pass_through_a_network():
    net = torch.nn.Sequential(EventPropLIF(6, 5), EventPropLIF(5, 4, recurrent=True), EventPropLI(4, 3))
    output = net(torch.zeros(0, 2, 6))
    assert output.shape == (0, 2, 3)
    output.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_losses_of_an_empty_batch_are_zero():
    events = SpikeEvents(*(torch.zeros(0, requires_grad=True), torch.zeros(0).long(), torch.zeros(1).long()), 3, 10.0)
    none = torch.zeros(0).long()
    voltage = torch.zeros(4, 0, 3, requires_grad=True)
    for loss in (
        losses.first_spike_cross_entropy(events, none, early=1.0),
        losses.time_invariant_mse(events, none, 1.0),
        losses.voltage_cross_entropy(voltage, none),
    ):
        assert loss.item() == 0.0
        loss.backward()


def test_the_mean_over_the_samples_is_still_the_mean():
    events = SpikeEvents.from_lists([[1.0, 4.0], [2.0]], [[0, 1], [1]], num_units=3, duration=10.0)
    target, times = torch.tensor([0, 2]), torch.tensor([[1.0, 4.0, 10.0], [10.0, 2.0, 10.0]], dtype=torch.float64)
    expected = (
        torch.nn.functional.cross_entropy(-times / 2, target)
        + 0.5 * torch.expm1(torch.tensor([1.0, 10.0], dtype=torch.float64) / 3).mean()
    )
    got = losses.first_spike_cross_entropy(events, target, tau=2.0, early=0.5, tau_early=3.0)
    torch.testing.assert_close(got, expected)


# ------------------------------------------------------------------------------------------------ numbers

NUMBERS = [3, 3.0, np.int64(3), np.int8(3), np.float32(3), np.float64(3), torch.tensor(3), torch.tensor(3.0)]
VALID = {
    "width of numpy": (lambda v: Boxcar(v).width, 3.0),
    "epochs": (lambda v: ExponentialSigma(v, 2.0)(0), 2.0),
    "PublishedSigma max_delay": (lambda v: round(PublishedSigma(8, v)(0), 2), 2.27),
    "ease_in": (lambda v: losses.ease_in(v) > 1e-5, True),
    "EventPropLIF sizes": (lambda v: tuple(EventPropLIF(v, v).weight.shape), (3, 3)),
    "EventPropLIF max_spikes": (lambda v: EventPropLIF(2, 2, max_spikes=v).max_spikes, 3),
    "EventPropLIF tau_mem": (lambda v: EventPropLIF(2, 2, tau_mem=v).tau_mem, 3.0),
    "EventPropLIF max_delay": (lambda v: EventPropLIF(2, 2, max_delay=v, delay=v).delay.tolist(), [[3.0] * 2] * 2),
    "delayed_linear max_delay": (
        lambda v: delayed_linear(torch.ones(4, 1, 1), torch.ones(1, 1), torch.ones(1, 1), max_delay=v).flatten().tolist(),
        [0.0, 1.0, 1.0, 1.0],
    ),
}  # fmt: skip
if find_spec("snntorch"):
    from snn_delay_plugins.snntorch import AdLIFPlus, DelayedConv2d, DelayedLinear

    VALID |= {
        "DelayedLinear": (lambda v: repr(DelayedLinear(v, v, max_delay=v, synapses=v))[:50],
                          "DelayedLinear(in_features=3, out_features=3, bias="),
        "DelayedConv2d": (lambda v: tuple(DelayedConv2d(v, v, v, padding=v, max_delay=v).weight.shape), (3, 3, 3, 3)),
        "threshold": (lambda v: AdLIFPlus(threshold=v).threshold.item(), 3.0),
    }  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda v: f"{type(v).__name__}")
@pytest.mark.parametrize(("call", "answer"), VALID.values(), ids=VALID)
def test_a_whole_number_counts_whatever_its_type(call, answer, number):
    assert call(number) == answer


def test_zero_and_one_are_flags_and_infinity_is_no_longest_delay():
    layer = EventPropLIF(2, 2, recurrent=0, learn_delay=np.bool_(False), max_delay=math.inf)
    assert layer.recurrent is False and layer.learn_delay is False and layer.max_delay == math.inf
    assert EventPropLI(2, 2, delay=None, delay_type="axonal").delay is None
    assert EventPropLIF(2, 2, weight_init=[0.5, 0.0]).weight.tolist() == [[0.5, 0.5]] * 2
    assert padded_steps(np.int64(3), 5) == 3
    events, weight = SpikeEvents.from_lists([[1.0]], [[0]], num_units=2, duration=10.0), torch.ones(3, 2)
    assert torch.equal(eventprop_li(events, weight, tau_mem=torch.tensor(20)), eventprop_li(events, weight, tau_mem=20.0))
    assert losses.bump_silent_(torch.zeros(1, 1), torch.zeros(1), bump=0.0) == 1


# ------------------------------------------------------------------------------------------------ tensors


def test_views_give_what_their_copies_give():
    def views(*shape):
        return torch.rand(*(2 * size for size in shape))[tuple(slice(None, None, 2) for _ in shape)]

    x, weight, delay = views(7, 2, 6), views(5, 6), views(5, 6)
    for method in ("direct", "fft", "events", "shifted"):
        wanted = delayed_linear(x.contiguous(), weight.contiguous(), delay.contiguous(), max_delay=2, method=method)
        assert torch.equal(delayed_linear(x, weight, delay, max_delay=2, method=method), wanted)
    image, kernel = views(4, 2, 3, 8), views(5, 3, 3)
    wanted = delayed_convolution(image.contiguous(), kernel.contiguous(), kernel.contiguous(), max_delay=1)
    torch.testing.assert_close(delayed_convolution(image, kernel, kernel, max_delay=1), wanted)
    for method in ("torch", "numba"):
        wanted = adlif(3 * x.contiguous(), alpha=views(6).contiguous() * 0 + 0.5, method=method)[0]
        assert torch.equal(adlif(3 * x, alpha=views(6) * 0 + 0.5, method=method)[0], wanted)


def test_nan_goes_through_a_linear_map_as_everywhere_in_torch():
    x = torch.zeros(5, 1, 2)
    x[1, 0, 0] = math.nan
    for method in ("direct", "events", "shifted"):
        out = delayed_linear(x, torch.ones(1, 2), torch.ones(1, 2), max_delay=1, method=method).flatten()
        assert out.isnan()[2] and not out.isnan()[0], method


def test_half_precision_goes_through_layers_in_its_own_dtype():
    x, weight = torch.ones(3, 1, 2), torch.ones(1, 2)
    for dtype in (torch.float16, torch.bfloat16):
        out = delayed_linear(x.to(dtype), weight.to(dtype), weight.to(dtype), max_delay=1, method="direct")
        assert out.dtype == dtype and out.flatten().tolist() == [0.0, 2.0, 2.0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the kernels compute in float32 or float64
            assert adlif(x.to(dtype), alpha=torch.tensor(0.5, dtype=dtype))[0].dtype == dtype


def test_boolean_and_integer_spikes_are_counts_for_eventprop():
    counts = torch.tensor([[[1, 0]], [[0, 2]], [[1, 1]]])
    layer = EventPropLI(2, 3)
    wanted = layer(counts.float())
    assert torch.equal(layer(counts), wanted) and torch.equal(layer(counts.to(torch.uint8)), wanted)
    assert torch.equal(layer(counts > 0), layer((counts > 0).float()))
