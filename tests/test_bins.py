"""Which bin, which step: the rule against whole numbers, for every dtype and width of the bins."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins import EventPropLIF, SpikeEvents
from snn_delay_plugins.bins import bin_of, step_of, steps_in

WIDTHS = [1.0, 0.5, 0.1, 0.3, 1 / 3, 0.7, 1e-3, 25.0, 10 / 3]
DTYPES = [torch.float32, torch.float64]
steps_and_widths = given(st.integers(0, 100_000), st.sampled_from(WIDTHS) | st.floats(1e-6, 1e6), st.sampled_from(DTYPES))


@settings(max_examples=300, deadline=None)
@steps_and_widths
def test_a_multiple_of_dt_lies_in_its_bin_however_it_was_rounded(n, dt, dtype):
    exact = torch.tensor([n], dtype=torch.float64) * dt
    stored = exact.to(dtype)
    for time in (stored, stored.double(), torch.tensor([n], dtype=dtype) * dt, 1000 * (exact / 1000).to(dtype)):
        assert bin_of(time, dt).tolist() == step_of(time, dt).tolist() == [n], time.item()
    assert steps_in(n * dt, dt) == n and steps_in(exact.to(dtype).item(), dt) == n


@settings(max_examples=300, deadline=None)
@steps_and_widths
def test_a_time_between_two_multiples_lies_in_the_bin_of_the_first_and_acts_in_the_step_of_the_second(n, dt, dtype):
    for part in (0.05, 0.5, 0.93):
        time = torch.tensor([(n + part) * dt], dtype=torch.float64).to(dtype)
        assert int(Fraction(time.item()) / Fraction(dt)) == n
        assert bin_of(time, dt).tolist() == [n] and step_of(time, dt).tolist() == [n + 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dt", WIDTHS)
def test_100000_bins_survive_the_way_to_events_and_back(dt, dtype):
    dense = (torch.arange(100_000) % 3)[:, None, None]
    events = SpikeEvents.from_dense(dense, dt, dtype=dtype)
    for same in (events, events.to(torch.float64)):
        assert torch.equal(same.to_dense(dt, dtype=torch.int64), dense)


@pytest.mark.parametrize("count", [2**22, 2**23])
def test_float32_times_keep_to_the_nearest_multiple_where_they_are_coarse(count):
    n = torch.arange(count - 1000, count)
    times = (n.double() * 0.1).float()
    assert torch.equal(bin_of(times, 0.1), n) and torch.equal(step_of(times, 0.1), n)


def test_times_that_cannot_tell_bins_apart_are_refused():
    events = SpikeEvents(torch.tensor([2.0**24]), torch.tensor([0]), torch.tensor([0, 1]), 1, 2.0**24)
    message = r"float32 does not tell times near t = 1\.67\d*e\+07 apart that differ by dt = 1: .* use float64 times"
    with pytest.raises(ValueError, match=message):
        events.to_dense(1.0)
    with pytest.raises(ValueError, match=message):
        EventPropLIF(1, 2, spike_times="grid")(events)
    with pytest.raises(ValueError, match="float32 does not tell times"):
        SpikeEvents.from_dense(torch.zeros(2**23 + 2, 1, 1), 1.0, dtype=torch.float32)


@pytest.mark.parametrize("dt", [1.0, 0.1, 0.3, 1 / 3])
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_grid_scheme_does_not_depend_on_the_dtype_of_times(dt, recurrent):
    torch.manual_seed(0)
    dense = (torch.rand(300, 2, 20) < 0.05).float()
    layer = EventPropLIF(
        20, 6, weight_init=(0.3, 0.1), recurrent=recurrent, tau_mem=20 * dt, tau_syn=5 * dt, dt=dt, spike_times="grid"
    ).double()
    exact = SpikeEvents.from_dense(dense, dt)
    found = []
    for events in (exact, exact.to(torch.float32), exact.to(torch.float32).to(torch.float64)):
        layer.zero_grad()
        spikes = layer(events)
        spikes.times.sum().backward()
        found.append((spikes.to_dense(dt, 300), layer.weight.grad.clone()))
    assert found[0][0].sum() > 100
    for counts, grad in found[1:]:
        assert torch.equal(counts, found[0][0]) and torch.equal(grad, found[0][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_of_seconds_on_a_grid_of_ms_keep_their_bins(dtype):
    seconds = (np.arange(1000) / 1000).astype(dtype)
    for scaled in ({"times": [seconds], "scale": 1000.0}, {"times": [1000 * seconds]}):
        events = SpikeEvents.from_lists(units=[np.zeros(1000, int)], num_units=1, duration=1000.0, **scaled)
        assert (events.to_dense(1.0) == 1).all() and (events.to_dense(10.0) == 10).all()


def test_lists_of_python_numbers_are_not_rounded_to_float32():
    assert SpikeEvents.from_lists([[0.1, 2.7]], [[0, 0]], num_units=1, duration=3.0).times.tolist() == [0.1, 2.7]


def test_float16_seconds_are_scaled_without_loss_and_scaled_float16_warns():
    seconds = np.array([0.1, 0.57, 0.9995], np.float16)
    units = [np.zeros(3, int)]
    events = SpikeEvents.from_lists([seconds], units, num_units=1, duration=1000.0, scale=1000.0)
    assert events.times.tolist() == (1000 * seconds.astype(np.float64)).tolist()
    with pytest.warns(UserWarning, match=r"sample 0: float16 times up to 999\.5 stand .* apart; .* scale=1000"):
        SpikeEvents.from_lists([1000 * seconds], units, num_units=1, duration=1000.0)
    with pytest.raises(ValueError, match="scale must be positive and finite, got nan"):
        SpikeEvents.from_lists([seconds], units, num_units=1, duration=1000.0, scale=float("nan"))
