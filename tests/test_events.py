"""SpikeEvents: construction, batching, and gradients across the border to dense tensors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.events import SpikeEvents


def two_samples(**kwargs):
    return SpikeEvents.from_lists([[0.0, 10.0], [2.5]], [[0, 1], [1]], num_units=2, duration=40.0, **kwargs)


def test_from_lists_keeps_samples_apart():
    events = two_samples()
    assert (events.batch_size, len(events), events.num_units, events.duration) == (2, 3, 2, 40.0)
    assert events.times.dtype == torch.float64
    times, units = events.to_lists()
    assert [t.tolist() for t in times] == [[0.0, 10.0], [2.5]] and [u.tolist() for u in units] == [[0, 1], [1]]
    assert events.counts().tolist() == [[1, 1], [0, 1]]
    assert events.samples().tolist() == [0, 0, 1]


def test_unsorted_input_is_sorted_within_samples_and_keeps_its_gradient():
    times = torch.tensor([5.0, 1.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
    events = SpikeEvents(times, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 2, 4]), 2, 10.0)
    assert events.times.tolist() == [1.0, 5.0, 2.0, 3.0] and events.units.tolist() == [1, 0, 1, 0]
    (events.times * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert times.grad.tolist() == [2.0, 1.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"times": torch.tensor([math.nan, 1.0])}, ValueError, r"times\[0\] = nan"),
        ({"times": torch.tensor([0.5, -1.0])}, ValueError, r"times\[1\] = -1"),
        ({"times": torch.tensor([0.5, 11.0])}, ValueError, r"times\[1\] = 11"),
        ({"times": torch.tensor([1, 2])}, TypeError, "float32 or float64"),
        ({"times": torch.tensor([1.0, 2.0]).half()}, TypeError, "float32 or float64"),
        ({"times": torch.tensor([[1.0, 2.0]])}, ValueError, "one-dimensional"),
        ({"units": torch.tensor([0, 7])}, ValueError, r"units\[1\] = 7"),
        ({"units": torch.tensor([-1, 0])}, ValueError, r"units\[0\] = -1"),
        ({"units": torch.tensor([0, 1]).int()}, TypeError, "units must be int64"),
        ({"units": torch.tensor([0])}, ValueError, "2 times but 1 units"),
        ({"offsets": torch.tensor([0, 1])}, ValueError, "offsets"),
        ({"offsets": torch.tensor([0, 2, 1, 2])}, ValueError, "offsets"),
        ({"duration": math.inf}, ValueError, "duration"),
        ({"duration": 0.0}, ValueError, "duration"),
        ({"num_units": 0}, ValueError, "num_units"),
    ],
)
def test_invalid_parts_raise_and_name_the_value(change, error, message):
    parts = {
        "times": torch.tensor([0.5, 1.0]),
        "units": torch.tensor([0, 1]),
        "offsets": torch.tensor([0, 2]),
        "num_units": 2,
        "duration": 10.0,
    }
    SpikeEvents(**parts)
    with pytest.raises(error, match=message):
        SpikeEvents(**{**parts, **change})


def test_cat_and_index_are_inverse():
    events = two_samples()
    again = SpikeEvents.cat([events[0], events[1:2]])
    assert torch.equal(again.times, events.times) and torch.equal(again.offsets, events.offsets)
    assert torch.equal(SpikeEvents.batch([events, events])[2:].times, events.times)
    assert events[-1].units.tolist() == [1]
    with pytest.raises(IndexError):
        events[2]
    with pytest.raises(ValueError, match="num_units"):
        SpikeEvents.cat([events, SpikeEvents.from_lists([[]], [[]], num_units=3, duration=40.0)])
    with pytest.raises(ValueError, match="dtype"):
        SpikeEvents.cat([events, two_samples(dtype=torch.float32)])


def test_to_casts_times_only():
    events = two_samples().to(torch.float32)
    assert events.times.dtype == torch.float32 and events.units.dtype == torch.int64
    with pytest.raises(TypeError):
        events.to(torch.int32)


def test_first_spike_times_are_differentiable_and_silent_units_constant():
    events = SpikeEvents.from_lists([[1.0, 3.0, 4.0], []], [[1, 0, 1], []], num_units=3, duration=9.0)
    events.times.requires_grad_()
    first = events.first_spike_times(silent=9.0)
    assert first.tolist() == [[3.0, 1.0, 9.0], [9.0, 9.0, 9.0]]
    first.sum().backward()
    assert events.times.grad.tolist() == [1.0, 1.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(1, 4),
    st.sampled_from([0.1, 0.3, 1.0, 1 / 3, 5.0]),
    st.integers(0, 2**31),
)
def test_dense_to_events_and_back_is_the_identity(steps, batch, units, dt, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randint(0, 4, (steps, batch, units), generator=generator).float()
    if steps == 0:
        return
    events = SpikeEvents.from_dense(dense, dt)
    assert len(events) == int(dense.sum())
    assert torch.equal(events.to_dense(dt, dtype=torch.float32), dense)
    assert events.batch_size == batch and events.duration == pytest.approx(steps * dt)


@pytest.mark.parametrize("value", [0.5, -1.0, math.nan, math.inf])
def test_graded_spikes_cannot_become_events(value):
    dense = torch.zeros(3, 1, 2)
    dense[1, 0, 1] = value
    with pytest.raises(ValueError, match=r"dense\[1, 0, 1\]"):
        SpikeEvents.from_dense(dense, 1.0)


def test_spikes_past_the_last_bin_raise_and_the_end_falls_into_it():
    events = SpikeEvents.from_lists([[10.0]], [[0]], num_units=1, duration=10.0)
    assert events.to_dense(1.0)[:, 0, 0].nonzero().tolist() == [[9]]
    with pytest.raises(ValueError, match="at least 10 steps"):
        events.to_dense(1.0, num_steps=5)


def test_gradient_of_to_dense_is_the_slope_of_the_dense_gradient():
    dt, steps = 0.01, 1000
    times = torch.tensor([0.004, 2.345, 7.0, 9.999], dtype=torch.float64, requires_grad=True)
    events = SpikeEvents(times, torch.zeros(4, dtype=torch.int64), torch.tensor([0, 4]), 1, 10.0)
    t = torch.arange(steps, dtype=torch.float64) * dt
    # a loss that is nonlinear in the train: phi(t) = exp(-t / 3) cos t against every spike, squared
    phi = torch.exp(-t / 3) * torch.cos(t)
    (events.to_dense(dt)[:, 0, 0] @ phi).square().backward()
    exact = times.detach().clone().requires_grad_()
    (torch.exp(-exact / 3) * torch.cos(exact)).sum().square().backward()
    assert torch.allclose(times.grad, exact.grad, rtol=0, atol=2e-2 * exact.grad.abs().max())


def test_gradient_of_to_dense_is_one_sided_at_the_borders():
    events = SpikeEvents.from_lists([[0.0, 1.0, 2.0]], [[0, 0, 0]], num_units=1, duration=3.0)
    events.times.requires_grad_()
    (events.to_dense(1.0)[:, 0, 0] * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)).sum().backward()
    assert events.times.grad.tolist() == [9.0, 49.5, 90.0]
    single = SpikeEvents.from_lists([[0.0]], [[0]], num_units=1, duration=3.0)
    single.times.requires_grad_()
    with pytest.raises(ValueError, match="single bin"):
        single.to_dense(3.0)


def test_gradient_of_from_dense_is_that_of_the_centre_of_mass():
    dense = torch.zeros(6, 1, 1, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        dense[3] = 1
    events = SpikeEvents.from_dense(dense, 0.5)
    (4.0 * events.times).sum().backward()
    # t = sum_m m dt X[m] / sum_m X[m] around the spike, so dt/dX[m] = (m - 3) dt
    assert dense.grad[:, 0, 0].tolist() == [0.0, 0.0, -2.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("n", [0, 3, 5])
def test_an_isolated_spike_carries_its_gradient_through_dense_code(n):
    dense = torch.zeros(6, 1, 1, dtype=torch.float64)
    dense[n] = 1
    events = SpikeEvents.from_dense(dense, 0.25)
    events.times.requires_grad_()
    again = SpikeEvents.from_dense(events.to_dense(0.25), 0.25)
    (3.0 * again.times).sum().backward()
    assert events.times.grad.tolist() == [3.0]


def changeable():
    times = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    return SpikeEvents(times, torch.tensor([0, 1, 2, 1]), torch.tensor([0, 3, 4]), 3, 10.0)


@pytest.mark.parametrize("value", [-1, 3, 10**8, -(10**8)])
def test_a_unit_that_was_changed_in_place_is_refused_by_every_view(value):
    for view in (lambda e: e.counts(), lambda e: e.first_spike_times(), lambda e: e.to_dense(1.0)):
        events = changeable()
        events.units[2] = value
        with pytest.raises(ValueError, match=rf"units\[2\] = {value}"):
            view(events)


def test_offsets_that_were_changed_in_place_are_refused_by_every_view():
    for view in (lambda e: e.samples(), lambda e: e.counts(), lambda e: e.to_dense(1.0)):
        events = changeable()
        events.offsets[1] = 10**8
        with pytest.raises(ValueError, match="offsets must rise"):
            view(events)


def test_times_that_were_changed_in_place_do_not_give_another_first_spike_or_bin():
    events = changeable()
    events.times[1] = 0.2
    with pytest.raises(ValueError, match="no longer in order"):
        events.first_spike_times()
    events.times[1] = -2.5
    with pytest.raises(ValueError, match=r"times\[1\] = -2.5 is negative"):
        events.to_dense(1.0)


def test_dense_spikes_without_a_time_step_have_no_events():
    events = SpikeEvents.from_dense(torch.zeros(0, 2, 3), 1.0)
    assert (len(events), events.batch_size, events.duration) == (0, 2, 0.0)
    assert events.to_dense(1.0).shape == (0, 2, 3)


def test_times_and_offsets_that_were_changed_in_place_are_refused_by_every_view():
    events = SpikeEvents.from_lists([[1.0, 2.0], [3.0]], [[0, 1], [2]], num_units=3, duration=10.0)
    events.times[2] = 50.0
    for view in (lambda: events.to_dense(1.0), events.first_spike_times):
        with pytest.raises(ValueError, match=r"t = 50 lies beyond duration = 10"):
            view()
    events.times[2] = math.nan
    with pytest.raises(ValueError, match="t = nan lies beyond"):
        events.to_dense(1.0)
    events.times[2] = 3.0
    events.offsets[1] = 10**9
    for view in (lambda: events[1], events.to_lists, events.first_spike_times, events.counts):
        with pytest.raises(ValueError, match="offsets"):
            view()


def test_an_empty_batch_counts_nothing():
    assert SpikeEvents.from_lists([], [], num_units=3, duration=1.0).counts().shape == (0, 3)
