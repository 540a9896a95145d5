"""Losses and helpers of the EventProp papers, against the formulas and autograd."""

import math

import pytest
import torch
from torch.nn import functional as F

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.losses import (
    bump_silent_,
    ease_in,
    first_spike_cross_entropy,
    reduce_voltage,
    spike_count_regularisation,
    time_invariant_mse,
    voltage_cross_entropy,
)


@pytest.mark.parametrize("how", ["sum", "mean", "exponential", "maximum"])
def test_voltage_losses_follow_their_formulas(how):
    v = torch.randn(7, 3, 4, dtype=torch.float64)
    n = torch.arange(7, dtype=torch.float64)[:, None, None]
    wanted = {
        "sum": v.sum(0) * 0.5,
        "mean": v.mean(0),
        "maximum": v.max(0).values,
        "exponential": (torch.exp(-n * 0.5 / 3.5) * v).sum(0) * 0.5,
    }[how]
    assert torch.allclose(reduce_voltage(v, how, dt=0.5), wanted)
    target = torch.tensor([0, 3, 1])
    assert torch.allclose(voltage_cross_entropy(v, target, how, dt=0.5), F.cross_entropy(wanted, target))


def test_voltage_losses_refuse_bad_arguments():
    v = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="how"):
        reduce_voltage(v, "median")
    with pytest.raises(ValueError, match=r"\[T, N, C\]"):
        reduce_voltage(v[0], "sum")
    with pytest.raises(ValueError, match="target 4"):
        voltage_cross_entropy(v, torch.tensor([0, 1, 4]))
    with pytest.raises(TypeError, match="int64"):
        voltage_cross_entropy(v, torch.zeros(3))
    with pytest.raises(ValueError, match=r"\[3\]"):
        voltage_cross_entropy(v, torch.zeros(2, dtype=torch.int64))


def spikes():
    events = SpikeEvents.from_lists([[3.0, 5.0, 6.0, 7.0], [1.0]], [[0, 1, 0, 2], [2]], num_units=3, duration=10.0)
    events.times.requires_grad_()
    return events


def test_time_invariant_mse_has_the_gradient_of_equation_72():
    events, target, delta = spikes(), torch.tensor([0, 2]), 1.5
    loss = time_invariant_mse(events, target, delta)
    # sample 0: t = (3, 5, 7), c = 0; sample 1: t = (10, 10, 1) with two silent units, c = 2
    assert loss.item() == pytest.approx(0.5 * (0.5 * (0.5**2 + 2.5**2) + 0.5 * (7.5**2 + 7.5**2)))
    loss.backward()
    wanted = torch.tensor([-(0.5 + 2.5), 0.5, 0.0, 2.5, -(7.5 + 7.5)], dtype=torch.float64) / 2
    assert torch.allclose(events.times.grad, wanted)


def test_first_spike_cross_entropy_reads_only_first_spikes():
    events, target = spikes(), torch.tensor([1, 2])
    loss = first_spike_cross_entropy(events, target, tau=2.0, early=0.1, tau_early=20.0)
    t = torch.tensor([[3.0, 5.0, 7.0], [10.0, 10.0, 1.0]], dtype=torch.float64, requires_grad=True)
    wanted = F.cross_entropy(-t / 2, target) + 0.1 * (torch.exp(t[[0, 1], target] / 20) - 1).mean()
    assert torch.allclose(loss, wanted)
    loss.backward()
    wanted.backward()
    assert torch.allclose(events.times.grad, torch.stack([*t.grad[0, :2], t.grad[0, 0] * 0, t.grad[0, 2], t.grad[1, 2]]))


def test_spike_count_regularisation_pushes_counts_to_the_target():
    events = spikes()
    events.potential = torch.ones(5, dtype=torch.float64, requires_grad=True)
    loss = spike_count_regularisation(events, 0.5, target=0.75)
    assert loss.item() == pytest.approx(0.25 * ((1 - 0.75) ** 2 + (0.5 - 0.75) ** 2 + (1 - 0.75) ** 2))
    loss.backward()
    # strength (S - nu N) / N^2 with N = 2 and S = (2, 1, 2), at each spike
    wanted = 0.5 * (torch.tensor([2.0, 1.0, 2.0, 2.0, 2.0], dtype=torch.float64) - 1.5) / 4
    assert torch.allclose(events.potential.grad, wanted)


def test_spike_count_regularisation_of_shares_adds_up_to_that_of_the_batch():
    whole = spikes()
    whole.potential = torch.ones(5, dtype=torch.float64, requires_grad=True)
    loss = spike_count_regularisation(whole, 0.5, target=0.75)
    loss.backward()
    mean, grads = whole.counts().sum(0) / 2, []
    for share in (whole[0:1], whole[1:2]):
        share.potential = torch.ones(len(share), dtype=torch.float64, requires_grad=True)
        of_share = spike_count_regularisation(share, 0.5, target=0.75, mean_counts=mean)
        assert of_share.item() == pytest.approx(loss.item())
        (of_share * 0.5).backward()  # half of the batch
        grads.append(share.potential.grad)
    assert torch.allclose(torch.cat(grads), whole.potential.grad)
    with pytest.raises(ValueError, match=r"mean_counts has shape \(2,\), expected \[3\]"):
        spike_count_regularisation(share, 0.5, mean_counts=mean[:2])


def test_spike_count_regularisation_needs_a_layer():
    with pytest.raises(ValueError, match="potential"):
        spike_count_regularisation(spikes(), 1.0)


def test_bump_lifts_silent_neurons_only():
    weight = torch.zeros(3, 2, requires_grad=True)
    assert bump_silent_(weight, torch.tensor([[0, 1, 0], [0, 0, 2]]), 0.25) == 1
    assert weight.tolist() == [[0.25, 0.25], [0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="2 spike counts for 3 neurons"):
        bump_silent_(weight, torch.tensor([1, 2]))


def test_ease_in_compounds_and_ends_at_the_final_rate():
    rate, batch = 1e-5, 0
    while rate < 1e-3:
        assert ease_in(batch) == pytest.approx(rate)
        rate *= 1.05 ** (batch + 1)
        batch += 1
    assert batch == 14 and ease_in(batch) == ease_in(10**6) == 1e-3
    assert math.isfinite(ease_in(10**9))
    with pytest.raises(ValueError):
        ease_in(-1)
