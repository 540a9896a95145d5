"""EventProp convolutions against linear EventProp layers with the unrolled weights and delays."""

from __future__ import annotations

import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif
from snn_delay_plugins.functional.eventprop_convolution import eventprop_lif_convolution, eventprop_linear_convolution
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF

F64 = torch.float64
SAMPLES, DURATION = 3, 40.0

# channels, space, out channels, kernel, stride, padding, dilation, groups
SHAPES = [
    (1, (5,), 2, (2,), 1, 0, 1, 1),
    (4, (9,), 6, (3,), 2, 1, 1, 2),
    (2, (8,), 9, (2,), (3,), 2, 3, 1),
    (2, (4, 5), 3, (2, 3), 1, 0, 1, 1),
    (6, (6, 5), 6, (3, 2), (2, 1), (1, 2), (1, 2), 3),
    (3, (3, 3), 3, (3, 3), 1, 1, 1, 3),
]


def spikes_of(shape, per_unit: float = 6.0) -> SpikeEvents:
    units = torch.Size(shape).numel()
    counts = torch.tensor([int(per_unit * units), 0, int(per_unit * units) // 2])
    times = DURATION * 0.7 * torch.rand(int(counts.sum()), dtype=F64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    events = SpikeEvents(times, torch.randint(units, times.shape), offsets, units, DURATION).reshape(*shape)
    events.times.requires_grad_()
    return events


def unrolled(kernel, space, stride, padding, dilation, groups):
    """[out units, in units] of a kernel [out, in / groups, *k]: the convolution of every unit vector."""
    channels = kernel.shape[1] * groups
    units = channels * torch.Size(space).numel()
    convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d)[len(space) - 1]
    columns = convolve(
        torch.eye(units, dtype=F64).view(units, channels, *space), kernel, None, stride, padding, dilation, groups
    )
    return columns.flatten(1).T


def case(shape):
    channels, space, out, kernel, stride, padding, dilation, groups = shape
    events = spikes_of((channels, *space))
    weight = (1.5 + torch.randn(out, channels // groups, *kernel, dtype=F64)).requires_grad_()
    delay = (6 * torch.rand(weight.shape, dtype=F64)).requires_grad_()
    return events, weight, delay, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def gradients(spikes: SpikeEvents, leaves):
    phase = torch.sin(0.3 * spikes.times.detach() + spikes.units)
    loss = (spikes.times * phase).sum()
    if spikes.potential is not None:
        loss = loss + (spikes.potential * phase.cos()).sum()
    return torch.autograd.grad(loss, leaves)


def assert_same(convolved: SpikeEvents, linear: SpikeEvents, leaves):
    assert len(linear) > 5
    assert torch.equal(convolved.units, linear.units)
    assert torch.equal(convolved.offsets, linear.offsets)
    torch.testing.assert_close(convolved.times, linear.times, rtol=0, atol=1e-10)
    for one, other in zip(gradients(convolved, leaves), gradients(linear, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_convolution_is_the_linear_layer_with_the_unrolled_weights(shape):
    torch.manual_seed(1)
    events, weight, delay, geometry = case(shape)
    constants = [torch.tensor(x, dtype=F64, requires_grad=True) for x in (15.0, 4.0, 0.9)]
    options = dict(zip(("tau_mem", "tau_syn", "threshold"), constants, strict=True))
    convolved = eventprop_lif_convolution(events, weight, delay, **geometry, **options)
    full = [unrolled(x, shape[1], **geometry) for x in (weight, delay)]
    assert convolved.num_units == full[0].shape[0]
    assert convolved.unit_shape[0] == shape[2]
    linear = eventprop_lif(events, *full, **options)
    assert_same(convolved, linear, [weight, delay, events.times, *constants])


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4]], ids=str)
@pytest.mark.parametrize("per", ["channel", "neuron"])
def test_constants_of_adaptive_neurons_are_those_of_a_channel_or_a_neuron(shape, per):
    torch.manual_seed(2)
    events, weight, delay, geometry = case(shape)
    full = [unrolled(x, shape[1], **geometry) for x in (weight, delay)]
    out, places = shape[2], full[0].shape[0] // shape[2]
    space = eventprop_lif_convolution(events, weight, delay, **geometry).unit_shape[1:]
    size = (out,) if per == "channel" else (out, *space)
    names = ("tau_mem", "tau_adapt", "a", "b", "threshold", "refractory")
    bounds = ((8.0, 20.0), (40.0, 90.0), (0.0, 2.0), (0.0, 0.5), (0.7, 1.2), (0.0, 2.0))
    values = {
        name: (low + (high - low) * torch.rand(size, dtype=F64)).requires_grad_()
        for name, (low, high) in zip(names, bounds, strict=True)
    }
    of_neurons = {name: x.flatten() if per == "neuron" else x.repeat_interleave(places) for name, x in values.items()}
    own = ("threshold", "refractory")

    def options(values):
        constants = {name: x for name, x in values.items() if name not in own}
        return {"model": ADLIF, "constants": constants, **{name: values[name] for name in own}}

    convolved = eventprop_linear_convolution(events, weight, delay, **geometry, **options(values))
    linear = eventprop_linear(events, *full, **options(of_neurons))
    assert_same(convolved, linear, [weight, delay, events.times, *values.values()])
