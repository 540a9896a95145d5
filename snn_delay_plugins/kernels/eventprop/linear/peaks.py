"""The largest potential of linear neurons without threshold: every maximum between two arrivals, and those in kinks.

A step is passed over if bounds on V' say that V cannot exceed in it what it reaches at the start of some step; else it is
cut at its arrivals, and each piece is halved until V' has one sign or |V''| excludes a larger value. Backwards, dL/dV
enters as a jump of p at the time of the maximum; where V peaks because an arrival bends it down, the maximum moves with
that arrival, dV = V' ds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ...compiled import njit
from ..numba.sorting import sort_pairs
from ..numba.tables import all_by_unit
from .arrivals import ahead, block_synapses, list_inputs, longest_sample, room_for_block, scatter, scatter_negative
from .cpu import NO_SOURCE, Events, Gradients, _pieces, _ranges, _run, swept_back
from .flow import LANES, MOMENTS, OPTIONS, STATES, TERMS, expanded, highest, state_at
from .forward import kicks_of, slopes
from .tables import Layer

__all__ = ["Peaks", "peaks", "peaks_backward"]


@dataclass(frozen=True)
class Peaks:
    """[N, out]: the largest V of [0, T], its first time, the state there [N, out, 3]; the event whose arrival bends V down
    there, or -1, and V' before it."""

    value: np.ndarray
    time: np.ndarray
    state: np.ndarray
    event: np.ndarray
    slope: np.ndarray


def peaks(events: Events, synapses: tuple, layer: Layer, threads: int) -> Peaks:
    shape = events.offsets.size - 1, synapses[0].shape[0]
    found = Peaks(np.zeros(shape), np.zeros(shape), np.zeros((*shape, STATES)), np.full(shape, -1), np.zeros(shape))
    blocks = -(-shape[1] // LANES)
    of = events.offsets, events.times, events.units, *synapses
    rest = layer.tables, layer.series, layer.h, layer.steps, layer.duration, *vars(found).values()
    _run([partial(_search, *of, lo, hi, *rest) for lo, hi in _ranges(blocks, _pieces(threads, blocks))], threads)
    return found


def peaks_backward(
    events: Events, synapses: tuple, layer: Layer, found: Peaks, grad: np.ndarray, need_times: bool, need_constants: bool,
    threads: int,
) -> Gradients:  # fmt: skip
    """``grad`` [N, out]: dL of the largest values."""
    batch, n_out = grad.shape
    nothing = np.zeros(grad.size)
    spikes = (
        found.time.ravel(), found.state.reshape(-1, STATES), np.full((grad.size, STATES), np.nan), nothing, nothing,
        np.ascontiguousarray(grad).ravel(),
    )  # fmt: skip
    starts = n_out * np.arange(batch)[:, None] + np.arange(n_out + 1)
    units = np.tile(np.arange(n_out), batch)
    jumps = n_out * np.arange(batch + 1), starts, spikes, spikes[0], units, True
    total = swept_back(events, synapses, None, layer, jumps, NO_SOURCE, need_times, need_constants, threads)
    sample, unit = np.nonzero(found.event >= 0)
    event, shift = found.event[sample, unit], (grad * found.slope)[sample, unit]
    np.add.at(total.delay, (unit, events.units[event]), shift)
    if need_times:
        np.add.at(total.times, event, shift)
    return total


@njit(**OPTIONS)
def _bending(head, chain, base, lane, n, steps, times, units, weight, delay, when, kick):
    """The event that arrives at ``when``, in step n or beside it, and bends V down, or -1; kick: what an arrival of weight
    one adds to V'."""
    for row in range(base + max(n - 1, 0), base + min(n + 2, steps)):
        e = head[row]
        while e >= 0:
            u = units[e]
            if weight[u] * kick < 0 and abs(times[e] + delay[u] - when) <= 1e-13 * (1 + when):
                return np.int64(e)
            e = chain[e, lane]
    return np.int64(-1)


@njit(**OPTIONS)
def _search(
    offsets, times, units, weight, delay, block_lo, block_hi, layer, series, h, steps, duration,
    value, when, state, event, slope_before,
):  # fmt: skip
    M, P, C, b, c, _J, _r, _theta, _rest, _taylor, curvature, slope = layer
    n_out, n_in = weight.shape
    rows, inverse = steps + 1, 1 / h
    longest = longest_sample(offsets)
    bucket, head, chain, bw, bd = room_for_block(longest, rows, n_in)
    inhibition = np.zeros(LANES * rows)
    s, w = np.empty(longest + 1), np.empty(longest + 1)
    states, v = np.empty((TERMS, STATES)), np.empty(TERMS)
    x, at = np.empty(STATES), np.empty((steps + 1, STATES))
    order, start = all_by_unit(units, offsets, n_in)
    for block in range(block_lo, block_hi):
        block_synapses(weight, delay, block, bw, bd)
        for sample in range(offsets.size - 1):
            first, last = offsets[sample], offsets[sample + 1]
            et, eu = times[first:last], units[first:last]
            bucket[:] = 0
            inhibition[:] = 0
            head[:] = -1
            scatter(et, eu, bw, bd, inverse, steps, rows, 0, 0, bucket, head, chain)
            scatter_negative(et, order[first:last], start[sample], bw, bd, inverse, steps, rows, 0, inhibition)
            for lane in range(min(LANES, n_out - block * LANES)):
                j, base = block * LANES + lane, lane * rows
                kicks, kick = (
                    kicks_of(b, slope[j], curvature[j], h),
                    slope[j, 0] * b[0] + slope[j, 1] * b[1] + slope[j, 2] * b[2],
                )
                at[0] = 0
                floor = 0.0
                for n in range(steps):
                    at[n + 1, 0], at[n + 1, 1], at[n + 1, 2] = ahead(P[0, j], C[0, j], bucket, base + n, at[n])
                    floor = max(floor, c[0] * at[n + 1, 0] + c[1] * at[n + 1, 1] + c[2] * at[n + 1, 2])
                if not abs(at[steps, 0]) + abs(at[steps, 1]) + abs(at[steps, 2]) < np.inf:
                    value[sample, j] = np.nan  # as that of the voltage
                    continue
                floor -= 1e-12 * (1 + floor)  # states at the steps' starts carry rounding
                best, step, rising = 0.0, 0, 0.0
                for n in range(steps):
                    x[:] = at[n]
                    r = base + n
                    begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
                    positive = bucket[MOMENTS * r] + inhibition[r]
                    up, _down = slopes(
                        M[0, j], c, slope[j], curvature[j], kicks, h, x[0], x[1], x[2], positive, inhibition[r]
                    )
                    if c[0] * x[0] + c[1] * x[1] + c[2] * x[2] + up * h < max(floor, best):
                        continue
                    m = list_inputs(head[r], chain, lane, j, et, eu, weight, delay, end, s, w)
                    sort_pairs(s, w, m)
                    t = begin
                    for a in range(m + 1):
                        until = max(min(s[a], end) if a < m else end, t)
                        if until > t:
                            expanded(series[j], c, x[0], x[1], x[2], states, v)
                            bend = 0.0
                            for k in range(STATES):
                                bend += curvature[j, k] * abs(x[k])
                            higher, u, rate = highest(v, bend, until - t, best)
                            if u >= 0:
                                best, step, rising = higher, n, rate
                                when[sample, j] = until if u == until - t else t + u
                                y0, y1, y2 = state_at(states, u)
                                state[sample, j, 0], state[sample, j, 1], state[sample, j, 2] = y0, y1, y2
                            x[0], x[1], x[2] = state_at(states, until - t)
                            t = until
                        if a < m:
                            for k in range(STATES):
                                x[k] += w[a] * b[k]
                value[sample, j] = best
                if rising > 0 and when[sample, j] < duration:
                    e = _bending(head, chain, base, lane, step, steps, et, eu, weight[j], delay[j], when[sample, j], kick)
                    if e >= 0:
                        event[sample, j], slope_before[sample, j] = first + e, rising
