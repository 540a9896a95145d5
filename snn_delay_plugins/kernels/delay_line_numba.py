"""Loops of one time step of a layer with delays: :mod:`.delay_line`.

The synapses of sender j are the entries ``starts[j] : starts[j + 1]`` of ``targets``, ``lags`` and ``taps``, that of
synapse s and tap m acts ``lags[s] + m`` steps later. Currents to come and gradients from later lie along time for every
sample and receiver: the taps of a synapse meet neighbouring numbers. Work is split by samples or by senders, no sum
depends on the number of threads.
"""
from __future__ import annotations

import numpy as np
from numba import njit

LANES = 8
"""Samples side by side where all of them pass every synapse: the gradient of the input."""
_0, _1, _2, _3, _4, _5, _6, _7 = (np.uint64(k) for k in range(8))  # unsigned: no index counts from the end
_OPTIONS = {"nogil": True, "cache": True}
_FAST = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc"}}


@njit(**_OPTIONS)
def find(spikes, units, values, offsets):
    """Entries of ``[N, in]`` that are not zero, those of sample n at ``offsets[n] ... offsets[n + 1]``; their number."""
    found = 0
    for n in range(spikes.shape[0]):
        offsets[n] = found
        row = spikes[n]
        for j in range(row.shape[0]):  # without a branch: where spikes are cannot be predicted
            units[found] = j
            values[found] = row[j]
            found += row[j] != 0
    offsets[spikes.shape[0]] = found
    return found


@njit(**_FAST)
def _axpy(a, x, y):
    for m in range(x.size):
        y[m] += a * x[m]


@njit(**_OPTIONS)
def arrive(first, last, units, values, offsets, starts, targets, lags, taps, pending, now):
    """Add what the events of one step cause to ``pending`` ``[N, out, length]``, whose entry of this step is ``now``."""
    width, length = taps.shape[1], np.uint64(pending.shape[2])
    for n in range(first, last):
        rows = pending[n].reshape(-1)
        for e in range(offsets[n], offsets[n + 1]):
            value, j = values[e], units[e]
            begin, end = np.uint64(starts[j]), np.uint64(starts[j + 1])
            if width == 2:
                for s in range(begin, end):
                    at = np.uint64(targets[s]) * length + np.uint64(lags[s] + now)
                    rows[at] += value * taps[s, _0]
                    rows[at + _1] += value * taps[s, _1]
            elif width == 1:
                for s in range(begin, end):
                    rows[np.uint64(targets[s]) * length + np.uint64(lags[s] + now)] += value * taps[s, _0]
            else:
                for s in range(begin, end):
                    at = np.uint64(targets[s]) * length + np.uint64(lags[s] + now)
                    _axpy(value, taps[s], rows[at : at + np.uint64(width)])


@njit(**_OPTIONS)
def take(pending, now, bias, current):
    """current = what is due now."""
    for n in range(current.shape[0]):
        for i in range(current.shape[1]):
            current[n, i] = pending[n, i, now] + bias[i]


@njit(**_OPTIONS)
def forwards(rows, by):
    """Move time: entry ``by`` becomes the first, the last ones become zero."""
    kept = rows.shape[2] - by
    for n in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[n, i]
            for t in range(kept):
                row[t] = row[t + by]
            row[kept:] = 0


@njit(**_OPTIONS)
def put(grad, now, later):
    """later[n, i, now] = grad[n, i]."""
    for n in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            later[n, i, now] = grad[n, i]


@njit(**_OPTIONS)
def add(grad, total):
    """total[i] += the sum over samples."""
    for n in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            total[i] += grad[n, i]


@njit(**_OPTIONS)
def backwards(rows, by):
    """Move time: the first entry becomes ``by``. What is in front of it is overwritten before it is read."""
    for n in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[n, i]
            for t in range(row.size - 1, by - 1, -1):
                row[t] = row[t - by]


@njit(**_OPTIONS)
def put_lanes(grad, now, later):
    """The same, for later ``[blocks, out, length, LANES]``."""
    for n in range(grad.shape[0]):
        block, lane = n // LANES, n % LANES
        for i in range(grad.shape[1]):
            later[block, i, now, lane] = grad[n, i]


@njit(**_OPTIONS)
def backwards_lanes(rows, by):
    for b in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[b, i].reshape(-1)
            for t in range(row.size - 1, by * LANES - 1, -1):
                row[t] = row[t - by * LANES]


@njit(**_FAST)
def collect(first, last, units, values, offsets, starts, targets, lags, later, now, met):
    """met[s, m] += value * later[n, target, now + lag + m] for the events of senders first ... last - 1."""
    width, length = met.shape[1], np.uint64(later.shape[2])
    for n in range(later.shape[0]):
        rows = later[n].reshape(-1)
        for e in range(offsets[n], offsets[n + 1]):
            value, j = values[e], units[e]
            if j < first or j >= last:
                continue
            begin, end = np.uint64(starts[j]), np.uint64(starts[j + 1])
            if width == 2:
                for s in range(begin, end):
                    at = np.uint64(targets[s]) * length + np.uint64(lags[s] + now)
                    met[s, _0] += value * rows[at]
                    met[s, _1] += value * rows[at + _1]
            else:
                for s in range(begin, end):
                    at = np.uint64(targets[s]) * length + np.uint64(lags[s] + now)
                    _axpy(value, rows[at : at + np.uint64(width)], met[s])


@njit(**_FAST)
def leave(first, last, starts, targets, lags, taps, later, now, out):
    """out[n, j] = sum over the synapses of sender j of taps times the gradients that its spike would meet, for the
    blocks of samples first ... last - 1; later ``[blocks, out, length, LANES]``."""
    senders, width = out.shape[1], taps.shape[1]
    length = np.uint64(later.shape[2])
    zero = taps.dtype.type(0)
    weights = taps.reshape(-1)
    for block in range(first, last):
        rows = later[block].reshape(-1)
        lanes = min(LANES, out.shape[0] - block * LANES)
        for j in range(senders):
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
            for s in range(np.uint64(starts[j]), np.uint64(starts[j + 1])):
                p = (np.uint64(targets[s]) * length + np.uint64(lags[s] + now)) * np.uint64(LANES)
                q = s * np.uint64(width)
                for _ in range(width):
                    a = weights[q]
                    s0 += a * rows[p]
                    s1 += a * rows[p + _1]
                    s2 += a * rows[p + _2]
                    s3 += a * rows[p + _3]
                    s4 += a * rows[p + _4]
                    s5 += a * rows[p + _5]
                    s6 += a * rows[p + _6]
                    s7 += a * rows[p + _7]
                    p += np.uint64(LANES)
                    q += _1
            n = block * LANES
            sums = (s0, s1, s2, s3, s4, s5, s6, s7)
            for lane in range(lanes):
                out[n + lane, j] = sums[lane]
