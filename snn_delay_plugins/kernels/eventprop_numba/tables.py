"""What is kept per synapse and per event, and the buckets that arrivals are added to."""

from __future__ import annotations

import numpy as np
from numba import njit

from .flow import LANES, OPTIONS, expm1

TRASH_ROWS = 8     # arrivals past the end are written here; several rows, so that the additions do not wait in line
_FRACTION = 2.0 ** 32


@njit(**OPTIONS)
def fixed_point(x):
    """x >= 0 in steps as fixed point: whole steps times 2^33 plus the fraction times 2^32."""
    n = np.int64(x)
    return (n << 33) + np.int64((x - n) * _FRACTION)


@njit(**OPTIONS)
def _split_row(d, dt, inv_tm, delta, steps, whole, fraction, f, em, q):
    """Delays d >= 0 of one neuron: whole steps, fraction in 2^-30 steps, fd, exp(fd/tau_m), expm1(-fd delta).

    In 32 bits, and one array at a time, because that vectorises.
    """
    inv_dt, most = 1 / dt, np.float64(steps)
    for i in range(d.size):
        x = min(d[i] * inv_dt, most)
        n = np.int32(x)
        whole[i] = n
        f[i] = max(min(d[i], most * dt) - n * dt, 0.0)
    for i in range(d.size):
        fraction[i] = np.int32(f[i] * (inv_dt * 2.0 ** 30))
    for i in range(d.size):
        em[i] = 1 + expm1(f[i] * inv_tm)
    for i in range(d.size):
        q[i] = expm1(-f[i] * delta)


@njit(**OPTIONS)
def synapse_tables(weight, delay, dt, tm, ts, steps):
    """Per synapse, in blocks of LANES neurons: position [B, in, L], P(-fd) as (es, K, em, w) [B, in, L, 4], and
    (delay, w) [B, in, L, 2].

    The lanes beyond the last neuron hold zero weights.
    """
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    where = np.zeros((blocks, n_in, LANES), np.int64)
    factor = np.zeros((blocks, n_in, LANES, 4))
    pair = np.zeros((blocks, n_in, LANES, 2))
    whole, fraction = np.empty(n_in, np.int32), np.empty(n_in, np.int32)
    f, em, q = np.empty(n_in), np.empty(n_in), np.empty(n_in)
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for j in range(n_out):
        _split_row(delay[j], dt, 1 / tm, delta, steps, whole, fraction, f, em, q)
        b, lane = j // LANES, j % LANES
        for i in range(n_in):
            where[b, i, lane] = (np.int64(whole[i]) << 33) + (np.int64(fraction[i]) << 2)
            factor[b, i, lane, 0] = em[i] + em[i] * q[i]
            factor[b, i, lane, 1] = -em[i] * f[i] / tm if equal else em[i] * q[i] * gain
            factor[b, i, lane, 2] = em[i]
            factor[b, i, lane, 3] = weight[j, i]
            pair[b, i, lane, 0] = delay[j, i]
            pair[b, i, lane, 1] = weight[j, i]
    return where, factor, pair


@njit(**OPTIONS)
def forward_tables(factor):
    """w P(-fd) (0, 1) = (w es, w K): [B, in, L, 2]; and which (block, input) rows hold a negative weight."""
    blocks, n_in, lanes, _ = factor.shape
    kick = np.empty((blocks, n_in, lanes, 2))
    negative = np.zeros((blocks, n_in), np.bool_)
    for b in range(blocks):
        for i in range(n_in):
            for j in range(lanes):
                w = factor[b, i, j, 3]
                kick[b, i, j, 0] = w * factor[b, i, j, 0]
                kick[b, i, j, 1] = w * factor[b, i, j, 1]
                if w < 0:
                    negative[b, i] = True
    return kick, negative


@njit(**OPTIONS)
def by_unit(units, lo, hi, n_units):
    """Counting sort of events lo..hi-1 by unit (stable, so by time within a unit): order and row pointers."""
    start = np.zeros(n_units + 1, np.int64)
    for e in range(lo, hi):
        start[units[e] + 1] += 1
    for i in range(n_units):
        start[i + 1] += start[i]
    cursor = start[:-1].copy()
    order = np.empty(hi - lo, np.int64)
    for e in range(lo, hi):
        order[cursor[units[e]]] = e
        cursor[units[e]] += 1
    return order, start


@njit(**OPTIONS)
def event_tables(times, units, lo, hi, n_units, dt, tm, ts):
    """A sample's events by unit: order, pointers, time, unit, position and P(2 dt - ft) as (em, K, es)."""
    order, start = by_unit(units, lo, hi, n_units)
    n = hi - lo
    t, position, unit = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int32)
    em, k, es = np.empty(n), np.empty(n), np.empty(n)
    for e in range(n):
        t[e] = times[order[e]]
        unit[e] = units[order[e]]
        position[e] = fixed_point(t[e] / dt) + (np.int64(2) << 32)     # bucket b lies in row b + 2
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for e in range(n):
        h = 2 * dt - (t[e] - np.int64(t[e] / dt) * dt)
        a = 1 + expm1(-h / tm)
        q = expm1(h * delta)
        em[e] = a
        es[e] = a + a * q
        k[e] = a * h / tm if equal else a * q * gain
    return order, start, t, unit, position, em, k, es


@njit(**OPTIONS)
def bucket_rows(steps):
    """Length of a bucket array of one block, and where its trash rows start. Row r holds bucket r - 2; rows 0 and 1,
    buckets -2 and -1, stay empty, so that step n finds its two buckets in rows 2n + 1 and 2n + 2 without a test."""
    return (2 * steps + 2 + TRASH_ROWS) * LANES, (2 * steps + 2) * LANES


@njit(**OPTIONS)
def scatter(start, position, em, k, es, where, kick, bucket, head, chain, last):
    """Add every arrival to its bucket and put it at the head of the bucket's chain. One block of neurons."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x, a, b, c = position[e], es[e], k[e], em[e]
            trash = last + (e & (TRASH_ROWS - 1)) * LANES
            e32 = np.int32(e)
            for j in range(LANES):
                r = np.uint64(min(((x + where[i, j]) >> 32) * LANES, trash) + j)
                y = kick[i, j, 0]
                bucket[r, 0] += y * a
                bucket[r, 1] += y * b + kick[i, j, 1] * c
                chain[e, j] = head[r]
                head[r] = e32


@njit(**OPTIONS)
def scatter_negative(start, position, where, factor, negative, inhibition, last):
    """Sum |w| of the negative arrivals per bucket: what a bound from above on I must not subtract."""
    for i in range(where.shape[0]):
        if negative[i]:
            for j in range(LANES):
                w = factor[i, j, 3]
                if w < 0:
                    for e in range(start[i], start[i + 1]):
                        inhibition[min(((position[e] + where[i, j]) >> 32) * LANES, last) + j] -= w
