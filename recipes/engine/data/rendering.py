"""From events and a :class:`~recipes.engine.data.augmentation.Plan` to counts, in one pass over the events."""

import numpy as np
from numba import uint64

from snn_delay_plugins.kernels.compiled import njit

from .augmentation import Plan
from .binned import Binning
from .events import EventRecordings

_NODES = 257  # between which a wave over time is a line


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
    units = np.arange(of.num_units) / of.num_units
    for n, i in enumerate(plan.which):
        j = plan.partner[n]
        state = uint64(np.random.SeedSequence([seed, n]).generate_state(1, np.uint64)[0])
        kept = (
            (1 - plan.lost[n]) * (0.5 if j >= 0 else 1.0) * (1 - (plan.unit_loss[n, 0] + _at(plan.unit_loss[n], units)) / 2)
        )
        of_units = _at(plan.unit_wave[n], units) + plan.unit_offset[n] + plan.unit_scale[n] * np.arange(of.num_units)
        of_times = (plan.time_scale[n], plan.time_offset[n], plan.time_jitter[n])
        mask = (plan.time_from[n], plan.time_to[n], plan.unit_from[n], plan.unit_to[n])
        wave = _at(plan.time_wave[n], np.arange(_NODES) / (_NODES - 1))
        for sample, other in ((i, j), (j, i)) if j >= 0 else ((i, i),):
            events = slice(of.offsets[sample], of.offsets[sample + 1])
            towards = (centre[other] - centre[sample]) / 2
            state = _place(
                of.times[events], of.units[events], towards, of_times, wave, (_NODES - 1) / of.duration,
                of_units + plan.unit_scale[n] * towards[1], plan.unit_jitter[n], kept, mask, per_ms, binning.group,
                uint64(state), counts[n],
            )  # fmt: skip
        if plan.added[n]:
            _add(int(plan.added[n]), uint64(state), counts[n])
    return counts


def _at(wave: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A wave of a plan at places from 0 to 1."""
    amplitude, cycles, phase = wave
    return amplitude * np.sin(2 * np.pi * cycles * places + phase)


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
def _place(
    times, units, towards, time_map, wave, nodes_per_ms, unit_map, unit_jitter, kept, mask, per_ms, group, state, counts
):
    """``unit_map`` and ``kept``: where each unit goes, and the probability with which its events stay."""
    steps, channels = counts.shape
    last = wave.shape[0] - 2
    for k in range(times.shape[0]):
        of = units[k]
        if kept[of] < 1.0:
            state, drawn = _next(state)
            if drawn >= kept[of]:
                continue
        recorded, unit = float(times[k]), unit_map[of]
        time = time_map[0] * (recorded + towards[0]) + time_map[1]
        node = recorded * nodes_per_ms
        left = min(max(int(node), 0), last)
        time += wave[left] + (wave[left + 1] - wave[left]) * (node - left)
        if time_map[2] > 0.0:
            state, drawn = _normal(state)
            time += time_map[2] * drawn
        if unit_jitter > 0.0:
            state, drawn = _normal(state)
            unit += unit_jitter * drawn
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
