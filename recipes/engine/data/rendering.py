"""From events and a :class:`~recipes.engine.data.augmentation.Plan` to counts, in one pass over the events."""

import numpy as np
from numba import uint64

from snn_delay_plugins.kernels.compiled import njit

from .augmentation import Plan
from .binned import Binning
from .events import EventRecordings


def centres(of: EventRecordings) -> np.ndarray:
    """Mean time (ms) and unit of every sample, ``[samples, 2]``; the middle of the recording where it is silent."""
    found = np.empty((len(of), 2))
    found[:] = of.duration / 2, of.num_units / 2
    for i in range(len(of)):
        times, units = of.sample(i)
        if len(times):
            found[i] = np.mean(times, dtype=np.float64), np.mean(units, dtype=np.float64)
    return found


def render(of: EventRecordings, plan: Plan, binning: Binning, centre: np.ndarray, seed: int) -> np.ndarray:
    """Counts uint8 ``[N, steps, channels]``; more than 255 in one bin are counted as 255. What is random of single events
    follows ``seed``. ``centre``: :func:`centres`."""
    counts = np.zeros((len(plan), binning.steps, binning.channels), np.uint8)
    per_ms = binning.steps / (1000.0 * binning.duration)
    for n, i in enumerate(plan.which):
        j = plan.partner[n]
        state = np.random.SeedSequence([seed, n]).generate_state(1, np.uint64)[0]
        lost = 1 - (1 - plan.lost[n]) * (0.5 if j >= 0 else 1.0)
        for sample, other in ((i, j), (j, i)) if j >= 0 else ((i, i),):
            begin, end = of.offsets[sample], of.offsets[sample + 1]
            to_time, to_unit = (centre[other] - centre[sample]) / 2
            how = (
                (plan.time_scale[n], plan.time_offset[n] + plan.time_scale[n] * to_time, plan.time_jitter[n]),
                (plan.unit_scale[n], plan.unit_offset[n] + plan.unit_scale[n] * to_unit, plan.unit_jitter[n]),
                (plan.time_from[n], plan.time_to[n], plan.unit_from[n], plan.unit_to[n]),
            )
            times, units = of.times[begin:end], of.units[begin:end]
            state = _place(times, units, *how, lost, per_ms, binning.group, uint64(state), counts[n])
        if plan.added[n]:
            _add(int(plan.added[n]), uint64(state), counts[n])
    return counts


@njit(nogil=True, cache=True)
def _next(state):
    """Xorshift64*: the state after one draw, and a number in [0, 1)."""
    state ^= state >> uint64(12)
    state ^= state << uint64(25)
    state ^= state >> uint64(27)
    return state, float((state * uint64(2685821657736338717)) >> uint64(11)) / 9007199254740992.0


@njit(nogil=True, cache=True)
def _normal(state):
    state, a = _next(state)
    state, b = _next(state)
    return state, np.sqrt(-2.0 * np.log(1.0 - a)) * np.cos(2.0 * np.pi * b)


@njit(nogil=True, cache=True)
def _place(times, units, time_map, unit_map, mask, lost, per_ms, group, state, counts):
    steps, channels = counts.shape
    for k in range(times.shape[0]):
        if lost > 0.0:
            state, drawn = _next(state)
            if drawn < lost:
                continue
        time = time_map[0] * float(times[k]) + time_map[1]
        unit = unit_map[0] * float(units[k]) + unit_map[1]
        if time_map[2] > 0.0:
            state, drawn = _normal(state)
            time += time_map[2] * drawn
        if unit_map[2] > 0.0:
            state, drawn = _normal(state)
            unit += unit_map[2] * drawn
        if (mask[0] <= time < mask[1]) or (mask[2] <= unit < mask[3]):
            continue
        step, channel = int(np.floor(time * per_ms + 1e-6)), int(np.floor(unit)) // group
        if 0 <= step < steps and unit >= 0.0 and channel < channels and counts[step, channel] < 255:
            counts[step, channel] += 1
    return state


@njit(nogil=True, cache=True)
def _add(events, state, counts):
    steps, channels = counts.shape
    for _ in range(events):
        state, a = _next(state)
        state, b = _next(state)
        step, channel = int(a * steps), int(b * channels)
        if counts[step, channel] < 255:
            counts[step, channel] += 1
