"""Pooling of events."""

from __future__ import annotations

import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.event_pooling import pool_events

F64 = torch.float64


def image(channels: int = 3, height: int = 6, width: int = 5, spikes: int = 200) -> SpikeEvents:
    torch.manual_seed(0)
    units = channels * height * width
    times = (40 * torch.rand(spikes, dtype=F64)).requires_grad_()
    offsets = torch.tensor([0, spikes // 3, spikes // 3, spikes])
    return SpikeEvents(times, torch.randint(units, (spikes,)), offsets, units, 40.0).reshape(channels, height, width)


@pytest.mark.parametrize("windows", [(2,), ((2, 1),), (3, 2, 1), (2, 1)], ids=str)
def test_sum_pooling_of_events_is_sum_pooling_of_their_counts(windows):
    events = image()
    pooled = pool_events(events, *windows)
    dense, counts = pooled.to_dense(1.0), events.to_dense(1.0)
    steps, samples = dense.shape[:2]
    expected = torch.nn.functional.avg_pool2d(counts.flatten(0, 1), *windows, divisor_override=1)
    assert torch.equal(dense.flatten(0, 1), expected)
    assert (steps, samples, pooled.unit_shape) == (40, 3, tuple(expected.shape[1:]))
    assert SpikeEvents(pooled.times, pooled.units, pooled.offsets, pooled.num_units, 40.0).times is pooled.times  # in order


def test_the_first_spike_of_a_window_is_the_least_of_its_first_spike_times():
    events = image()
    first = pool_events(events, 2, mode="first")
    per_unit = -events.first_spike_times(silent=1e9).view(3, 3, 6, 5)
    expected = -torch.nn.functional.max_pool2d(per_unit, 2)
    found = first.first_spike_times(silent=1e9).view(3, *first.unit_shape)
    assert torch.equal(found, expected)
    assert first.counts().max() == 1
    phase = torch.sin(torch.arange(found.numel(), dtype=F64)).view_as(found)
    grads = [torch.autograd.grad((x * phase).sum(), events.times)[0] for x in (found, expected)]
    assert grads[0].any() and torch.equal(*grads)


def test_every_copy_of_a_spike_sends_its_gradient_back():
    events = image()
    pooled = pool_events(events, 3, 1)
    (grad,) = torch.autograd.grad(pooled.times.sum(), events.times)
    copies = torch.nn.functional.conv2d(torch.ones(1, 1, 4, 3, dtype=F64), torch.ones(1, 1, 3, 3, dtype=F64), padding=2)
    expected = copies.expand(1, 3, 6, 5).flatten()[events.units]
    assert torch.equal(grad, expected)
    assert float(grad.sum()) == len(pooled)


@pytest.mark.parametrize("mode", ["sum", "first"])
def test_no_spikes_stay_none(mode):
    pooled = pool_events(image(spikes=0), 2, mode=mode)
    assert len(pooled) == 0 and pooled.batch_size == 3 and pooled.unit_shape == (3, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 7}, "does not fit into an input of"),
        ({"kernel_size": 2, "padding": 2}, "at most half of kernel_size"),
        ({"kernel_size": 2, "mode": "max"}, "mode must be"),
        ({"kernel_size": (2, 2, 2)}, "kernel_size: need one number or 2"),
        ({"kernel_size": 0}, "kernel_size must be"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pool_events(image(), **arguments)


def test_units_without_a_shape_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"got \(90,\): events.reshape"):
        pool_events(image().reshape(-1), 2)
    with pytest.raises(TypeError, match=r"SpikeEvents\.from_dense"):
        pool_events(torch.zeros(3), 2)
