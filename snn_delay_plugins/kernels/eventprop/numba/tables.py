"""What is kept per synapse and per event, and the buckets that arrivals are added to."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import LANES, OPTIONS, expm1
from .lanes import scatter_pairs

_FRACTION = 2.0**32


@njit(**OPTIONS)
def place_of(x, where, lane):
    """Where an arrival is added: the number of the pair in a block's buckets, of an event at position x and a synapse."""
    return ((x + where) >> 32) * LANES + lane


@njit(**OPTIONS)
def fixed_point(x):
    """x >= 0 in steps as fixed point: whole steps times 2^33 plus the fraction times 2^32."""
    n = np.int64(x)
    return (n << 33) + np.int64((x - n) * _FRACTION)


@njit(**OPTIONS)
def split_buffers(n_in):
    """What _split_row writes to."""
    whole, fraction = np.empty(n_in, np.int32), np.empty(n_in, np.int32)
    return whole, fraction, np.empty(n_in), np.empty(n_in), np.empty(n_in), np.empty(n_in)


@njit(**OPTIONS)
def _split_row(d, dt, tm, ts, steps, buffers):
    """Delays d >= 0 of one neuron: whole steps, fraction in 2^-30 steps, and P(-fd) as (em, K, es).

    In 32 bits, and one array at a time, because that vectorises.
    """
    whole, fraction, f, em, k, es = buffers
    inv_dt, inv_tm, most = 1 / dt, 1 / tm, np.float64(steps)
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for i in range(d.size):
        x = min(d[i] * inv_dt, most)
        n = np.int32(x)
        whole[i] = n
        f[i] = max(min(d[i], most * dt) - n * dt, 0.0)
    for i in range(d.size):
        fraction[i] = np.int32(f[i] * (inv_dt * 2.0**30))
    for i in range(d.size):
        em[i] = 1 + expm1(f[i] * inv_tm)
    for i in range(d.size):
        q = expm1(-f[i] * delta)
        es[i] = em[i] + em[i] * q
        k[i] = em[i] * q * gain
    if equal:
        for i in range(d.size):
            k[i] = -em[i] * f[i] * inv_tm


@njit(**OPTIONS)
def block_positions(delay, block, dt, tm, ts, steps, buffers, where, factor):
    """Of the synapses to LANES neurons: position [in, L] and P(-fd) as (es, K, em) [in, L, 3], zero in the lanes beyond the
    last neuron."""
    whole, fraction, _f, em, k, es = buffers
    for lane in range(LANES):
        j = block * LANES + lane
        if j >= delay.shape[0]:
            where[:, lane] = 0
            factor[:, lane] = 0
            continue
        _split_row(delay[j], dt, tm, ts, steps, buffers)
        for i in range(delay.shape[1]):
            where[i, lane] = (np.int64(2 * whole[i]) << 32) + (np.int64(fraction[i]) << 2)
            factor[i, lane, 0], factor[i, lane, 1], factor[i, lane, 2] = es[i], k[i], em[i]


@njit(**OPTIONS)
def block_kicks(weight, delay, block, dt, tm, ts, steps, buffers, where, kick):
    """The same with w P(-fd) (0, 1) = (w es, w K) [in, 2 L] in place of P(-fd)."""
    whole, fraction, _f, _em, k, es = buffers
    for lane in range(LANES):
        j = block * LANES + lane
        if j >= delay.shape[0]:
            where[:, lane] = 0
            kick[:, 2 * lane : 2 * lane + 2] = 0
            continue
        _split_row(delay[j], dt, tm, ts, steps, buffers)
        for i in range(delay.shape[1]):
            w = np.float64(weight[j, i])
            where[i, lane] = (np.int64(2 * whole[i]) << 32) + (np.int64(fraction[i]) << 2)
            kick[i, 2 * lane], kick[i, 2 * lane + 1] = w * es[i], w * k[i]


@njit(**OPTIONS)
def synapse_tables(weight, delay, dt, tm, ts, steps):
    """Of all blocks, for layers whose neurons advance together: position [B, in, L], P(-fd) [B, in, L, 3] and
    w P(-fd) (0, 1) [B, in, 2 L]."""
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    where = np.empty((blocks, n_in, LANES), np.int64)
    factor, kick = np.empty((blocks, n_in, LANES, 3)), np.empty((blocks, n_in, 2 * LANES))
    buffers = split_buffers(n_in)
    for block in range(blocks):
        block_positions(delay, block, dt, tm, ts, steps, buffers, where[block], factor[block])
        block_kicks(weight, delay, block, dt, tm, ts, steps, buffers, where[block], kick[block])
    return where, factor, kick


@njit(**OPTIONS)
def by_unit_into(units, lo, hi, order, start):
    """Counting sort of events lo..hi-1 by unit (stable, so by time within a unit): order and row pointers."""
    start[:] = 0
    for e in range(lo, hi):
        start[units[e] + 1] += 1
    for i in range(start.size - 1):
        start[i + 1] += start[i]
    cursor = start[:-1].copy()
    for e in range(lo, hi):
        order[cursor[units[e]]] = e
        cursor[units[e]] += 1


@njit(**OPTIONS)
def by_unit(units, lo, hi, n_units):
    start, order = np.empty(n_units + 1, np.int64), np.empty(hi - lo, np.int64)
    by_unit_into(units, lo, hi, order, start)
    return order, start


@njit(**OPTIONS)
def all_by_unit(units, offsets, n_units):
    """by_unit of all samples: order and pointers [N, units + 1], both into the sample's part."""
    order, start = np.empty(units.size, np.int64), np.empty((offsets.size - 1, n_units + 1), np.int64)
    for b in range(offsets.size - 1):
        of = slice(offsets[b], offsets[b + 1])
        by_unit_into(units[of], 0, offsets[b + 1] - offsets[b], order[of], start[b])
    return order, start


@njit(**OPTIONS)
def event_factors(times, dt, tm, ts):
    """Of events at any times, in any order: position, P(2 dt - ft) as (em, K, es)."""
    n = times.size
    position, em, k, es = np.empty(n, np.int64), np.empty(n), np.empty(n), np.empty(n)
    for e in range(n):
        position[e] = fixed_point(times[e] / dt) + (np.int64(2) << 32)  # bucket b lies in row b + 2
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for e in range(n):
        h = 2 * dt - (times[e] - np.int64(times[e] / dt) * dt)
        a = 1 + expm1(-h / tm)
        q = expm1(h * delta)
        em[e] = a
        es[e] = a + a * q
        k[e] = a * h / tm if equal else a * q * gain
    return position, em, k, es


@njit(**OPTIONS)
def event_tables(times, units, offsets, n_units, dt, tm, ts):
    """Events by unit, sample after sample: order (numbers of events), pointers [N, units + 1] into the sample's part, times
    and event_factors."""
    samples = offsets.size - 1
    order, start = np.empty(times.size, np.int64), np.empty((samples, n_units + 1), np.int64)
    t = np.empty(times.size)
    for b in range(samples):
        lo, hi = offsets[b], offsets[b + 1]
        by_unit_into(units, lo, hi, order[lo:hi], start[b])
        for e in range(lo, hi):
            t[e] = times[order[e]]
    position, em, k, es = event_factors(t, dt, tm, ts)
    return order, start, t, position, em, k, es


@njit(**OPTIONS)
def tables_of_sample(tables, offsets, b):
    """event_tables of sample b, from those of all samples."""
    order, start, t, position, em, k, es = tables
    lo, hi = offsets[b], offsets[b + 1]
    return order[lo:hi], start[b], t[lo:hi], position[lo:hi], em[lo:hi], k[lo:hi], es[lo:hi]


def column_rows(steps, reach):
    """Rows of buckets, each with one of every neuron of a block side by side: row r holds bucket r - 2. Rows 0 and 1,
    buckets -2 and -1, stay empty, so that step n finds its two buckets in rows 2n + 1 and 2n + 2 without a test. Arrivals
    past the end, of delays of up to ``reach`` steps, fall into the rows behind, also where rounding moves times and delays
    by a step each."""
    return 2 * (steps + reach) + 7


@njit(**OPTIONS)
def clear(bucket, head, steps):
    """Empty the buckets of a block, but for those past the end, which nobody reads."""
    places = LANES * (2 * steps + 3)
    bucket[: 2 * places] = 0
    head[:places] = -1


@njit(**OPTIONS)
def scatter(units, position, em, k, es, where, kick, bucket, head, chain):
    """Add every arrival to its bucket and put it at the head of the bucket's chain. One block of neurons.

    bucket [2 rows L]: I and V side by side; chain [events, L]. Events in order of time keep to the same few buckets for a
    while.
    """
    for e in range(units.size):
        u = units[e]
        scatter_pairs(bucket, head, position[e], where[u], kick[u], es[e], em[e], k[e], chain[e], np.int32(e))


@njit(**OPTIONS)
def inhibitory_units(weight, neuron, units):
    """Lists in units which units have negative weights to a block of neurons; returns their number."""
    least, m = np.zeros(weight.shape[1]), 0
    for j in range(min(LANES, weight.shape[0] - neuron)):
        for i in range(weight.shape[1]):
            least[i] = min(least[i], weight[neuron + j, i])
    for i in range(weight.shape[1]):
        units[m] = i
        m += np.int64(least[i] < 0)
    return m


@njit(**OPTIONS)
def scatter_negative(inhibitory, order, start, position, where, weight, neuron, inhibition):
    """Sum |w| of the negative arrivals per bucket: what a bound from above on I must not subtract. order, start: events by
    unit; inhibitory: those units that have negative weights to the block."""
    for i in inhibitory:
        for j in range(min(LANES, weight.shape[0] - neuron)):
            w = weight[neuron + j, i]
            if w < 0:
                for e in range(start[i], start[i + 1]):
                    inhibition[place_of(position[order[e]], where[i, j], j)] -= w
