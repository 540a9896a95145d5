"""A loss of spike counts has no gradient in time: said where it shows, and nowhere else."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import pytest
import torch

from snn_delay_plugins import EventPropAdLIF, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif
from snn_delay_plugins.functional.losses import time_invariant_mse

T, N, C = 20, 4, 4
TARGET = torch.arange(N)


def dense_layer(**options) -> EventPropLIF:
    torch.manual_seed(1)
    return EventPropLIF(6, C, **{"weight_init": (0.7, 0.2), "delay": 1.0, "max_delay": 5.0, "output": "dense", **options})


def spikes() -> torch.Tensor:
    return (torch.rand(T, N, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def warned(loss, layer=None) -> tuple[bool, torch.Tensor]:
    layer = layer or dense_layer()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loss(layer(spikes())).backward()
    return any("reads how many spikes there are" in str(w.message) for w in said), layer.weight.grad


COUNTS = {
    "sum": lambda x: x.sum(0).square().sum(),
    "mean": lambda x: torch.nn.functional.cross_entropy(10 * x.mean(0), TARGET),
    "linear readout of counts": lambda x: (x.sum(0) @ torch.ones(C, 3)).square().sum(),
    "loop": lambda x: sum(x.unbind(0)).square().sum(),
}
TIMES = {
    "weighted by time": lambda x: (x * torch.arange(T)[:, None, None]).sum(),
    "steps": lambda x: x[5:15].sum(),
    "counts and times": lambda x: x.sum(0).square().sum() + (x * torch.arange(T)[:, None, None]).sum(),
    "decaying": lambda x: (x * torch.exp(-torch.arange(T) / 5)[:, None, None]).sum(0).square().sum(),
    "one unit alone": lambda x: x[:, 0, 0].sum() + x[7, 1, 1],
}


@pytest.mark.parametrize("loss", COUNTS.values(), ids=COUNTS)
def test_a_loss_of_counts_says_that_it_has_no_gradient_in_time(loss):
    said, grad = warned(loss)
    assert said and not grad.any()


@pytest.mark.parametrize("loss", TIMES.values(), ids=TIMES)
def test_a_loss_that_reads_times_too_says_nothing(loss):
    said, grad = warned(loss)
    assert not said and grad.any()


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
@pytest.mark.parametrize("name", ["ce_count_loss", "mse_count_loss", "ce_temporal_loss", "mse_temporal_loss"])
def test_snntorchs_losses_of_counts_and_of_marked_spikes_are_named(name):
    import snntorch.functional as SF

    options = {"target_is_time": False, "on_target": 3, "off_target": 15} if name == "mse_temporal_loss" else {}
    loss = getattr(SF, name)(**options)
    assert warned(lambda x: loss(x, TARGET))[0]


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
def test_snntorchs_loss_of_every_step_trains():
    import snntorch.functional as SF

    said, grad = warned(lambda x: SF.ce_rate_loss()(x, TARGET))
    assert not said and grad.any()


def test_the_warning_names_the_remedies_and_points_at_the_users_line():
    layer = dense_layer()
    loss = layer(spikes()).sum(0).square().sum()
    with pytest.warns(UserWarning, match=r"EventPropLI.*first_spike_times.*spike_count_regularisation") as said:
        loss.backward()
    assert said[0].filename == __file__


def test_a_gradient_of_zero_a_silent_layer_and_events_say_nothing():
    assert not warned(lambda x: 0 * x.sum())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silent = dense_layer(weight_init=(0.0, 0.0))
        silent(spikes())
    assert not warned(lambda x: x.sum(), silent)[0]
    assert not warned(lambda e: time_invariant_mse(e, TARGET, 1.0), dense_layer(output="events"))[0]


def test_only_spikes_in_the_first_or_last_bin_still_count_as_timeless_where_all_have_one_gradient():
    times = torch.tensor([0.2, 3.7], requires_grad=True)
    events = SpikeEvents(times, torch.tensor([0, 0]), torch.tensor([0, 2]), 1, 4.0)
    with pytest.warns(UserWarning, match="reads how many"):
        events.to_dense(1.0).sum().backward()
    assert times.grad.tolist() == [0.0, 0.0]


# ------------------------------------------------------------------------------------------------ count_gradient


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_count_gradient_is_that_of_the_potentials_at_the_spikes_over_the_threshold(scale):
    """V(t_k) at fixed t_k, the resets before it moving with their spikes."""
    tau_mem, tau_syn, theta = 20.0, 5.0, 0.8
    inputs = torch.tensor([1.0, 2.0, 3.5, 6.0, 7.0], dtype=torch.float64)
    weight = torch.tensor([[2.5, 3.0, 1.0, 4.0, 2.0]], dtype=torch.float64, requires_grad=True)
    events = SpikeEvents(inputs, torch.arange(5), torch.tensor([0, 5]), 5, 40.0)
    spikes = eventprop_lif(events, weight, tau_mem=tau_mem, tau_syn=tau_syn, threshold=theta)
    assert len(spikes) >= 3
    (grad,) = torch.autograd.grad(spikes.to_dense(1.0, count_gradient=scale).sum(), weight, retain_graph=True)

    expected = torch.zeros_like(weight)
    for k, t in enumerate(spikes.times.detach()):
        x = (t - inputs).clamp(min=0)
        response = tau_syn / (tau_mem - tau_syn) * (torch.exp(-x / tau_mem) - torch.exp(-x / tau_syn))
        v = weight[0] @ response - theta * torch.exp((spikes.times[:k] - t) / tau_mem).sum()
        assert abs(float(v.detach()) - theta) < 1e-9
        expected += torch.autograd.grad(v, weight, retain_graph=True)[0] * scale / theta
    torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-12)


def test_a_count_gradient_leaves_the_values_and_the_gradient_of_times_as_they_are():
    x, plain, with_counts = spikes(), dense_layer(), dense_layer(count_gradient=1.0)
    weights = torch.arange(T)[:, None, None] / T
    assert torch.equal(plain(x), with_counts(x))
    grads = []
    for c in (0.0, 1.0, 2.0):
        layer = dense_layer(count_gradient=c)
        (layer(x) * weights).sum().backward()
        grads.append(layer.weight.grad)
    assert grads[0].any()
    torch.testing.assert_close(grads[2] - grads[1], grads[1] - grads[0], rtol=1e-4, atol=1e-5)


LOSSES = {
    "ce_rate_loss": {},
    "ce_count_loss": {},
    "mse_count_loss": {"correct_rate": 0.6, "incorrect_rate": 0.2},
    "ce_temporal_loss": {},
}


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["LIF", "AdLIF"])
def test_snntorchs_losses_train_with_a_count_gradient(name, kind):
    import snntorch.functional as SF

    loss, x = getattr(SF, name)(**LOSSES[name]), spikes()
    torch.manual_seed(1)
    make = EventPropLIF if kind == "LIF" else EventPropAdLIF
    layer = make(6, C, weight_init=(1.5, 0.3), delay=1.0, max_delay=5.0, output="dense", count_gradient=1.0)
    optimizer, losses = torch.optim.Adam(layer.parameters(), lr=0.05), []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for _ in range(25):
            optimizer.zero_grad()
            value = loss(layer(x), TARGET)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    assert layer.weight.grad.any() and layer.delay.grad.any()
    least = 0.98 if name == "ce_rate_loss" else 0.9  # where every step is asked for its class and most have no spike
    assert min(losses[-5:]) < least * losses[0]


def test_spikes_without_a_potential_have_no_count_gradient():
    events = SpikeEvents.from_lists([[0.5]], [[0]], num_units=1, duration=4.0)
    with pytest.raises(ValueError, match="count_gradient needs events with a potential"):
        events.to_dense(1.0, count_gradient=1.0)
    with pytest.raises(ValueError, match="count_gradient must be"):
        dense_layer(count_gradient=-1.0)


def test_the_warning_names_the_count_gradient():
    with pytest.warns(UserWarning, match="Set count_gradient=1 of the layer"):
        dense_layer()(spikes()).sum().backward()
