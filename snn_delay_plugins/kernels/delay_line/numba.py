"""Loops of one time step of a layer with delays: :mod:`.delay_line`.

The synapses of sender j are the entries ``starts[j] : starts[j + 1]`` of ``places`` and ``taps``, ordered by receiver.
Currents to come and gradients from later lie along time, ``[N, out, length]``: seen from the entry of a sample and of
the present, the first tap of synapse s falls on entry ``places[s]`` = receiver * length + lag, the others behind it.
Work is split by samples or by senders, no sum depends on the number of threads.
"""

from __future__ import annotations

import numpy as np

from ..compiled import njit
from ..lanes_numba import LANES, add_pairs  # samples side by side, where all of them pass every synapse

_CACHE = 200_000  # bytes that stay near
_0, _1, _2, _3, _4, _6, _8 = (np.uint64(k) for k in (0, 1, 2, 3, 4, 6, 8))  # unsigned: no index counts from the end
_LANES = np.uint64(LANES)
_OPTIONS = {"nogil": True, "cache": True}
_FAST = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc"}}


@njit(**_OPTIONS)
def find(spikes, entries, values, offsets):
    """Entries n * in + j of ``[N, in]`` that are not zero, those of sample n at ``offsets[n] ... offsets[n + 1]``."""
    found = 0
    for n in range(spikes.shape[0]):
        offsets[n] = found
        row = spikes[n]
        first = n * row.shape[0]
        for j in range(row.shape[0]):  # without a branch: where spikes are cannot be predicted
            entries[found] = first + j
            values[found] = row[j]
            found += row[j] != 0
    offsets[spikes.shape[0]] = found
    return found


@njit(**_FAST)
def _axpy(a, x, y):
    for m in range(x.size):
        y[m] += a * x[m]


@njit(**_OPTIONS)
def arrive(first, last, entries, values, offsets, starts, places, taps, pending, now, bias, current):
    """Add what the events of a step cause to ``pending``, whose entry of this step is ``now``; current is what is due.

    Samples first ... last - 1.
    """
    width, senders = taps.shape[1], starts.size - 1
    for n in range(first, last):
        rows = pending[n].reshape(-1)[now:]
        for e in range(offsets[n], offsets[n + 1]):
            value, j = values[e], entries[e] - n * senders
            begin, end = np.uint64(starts[j]), np.uint64(starts[j + 1])
            if width == 2:
                for s in range(begin, end):
                    at = np.uint64(places[s])
                    rows[at] += value * taps[s, _0]
                    rows[at + _1] += value * taps[s, _1]
            elif width == 1:
                for s in range(begin, end):
                    rows[np.uint64(places[s])] += value * taps[s, _0]
            else:
                for s in range(begin, end):
                    at = np.uint64(places[s])
                    _axpy(value, taps[s], rows[at : at + np.uint64(width)])
        for i in range(current.shape[1]):
            current[n, i] = pending[n, i, now] + bias[i]


@njit(**_OPTIONS)
def forwards(pending, by):
    """Move time: entry ``by`` becomes the first, the last ones become zero."""
    kept = pending.shape[2] - by
    for n in range(pending.shape[0]):
        for i in range(pending.shape[1]):
            row = pending[n, i]
            for t in range(kept):
                row[t] = row[t + by]
            row[kept:] = 0


@njit(**_OPTIONS)
def put(grad, now, later, lanes, total):
    """The gradient of a step's currents ``[N, out]`` becomes the entry ``now`` of those from later (``lanes``: the same,
    ``[blocks, out, length, LANES]``; either may be empty); total[i] += the sum over samples."""
    for n in range(grad.shape[0]):
        block, lane = n // LANES, n % LANES
        for i in range(grad.shape[1]):
            value = grad[n, i]
            total[i] += value
            if later.size:
                later[n, i, now] = value
            if lanes.size:
                lanes[block, i, now, lane] = value


@njit(**_OPTIONS)
def backwards(later, lanes, by):
    """Move time: the first entry becomes ``by``. What is in front of it is overwritten before it is read."""
    for n in range(later.shape[0]):
        for i in range(later.shape[1]):
            row = later[n, i]
            for t in range(row.size - 1, by - 1, -1):
                row[t] = row[t - by]
    for b in range(lanes.shape[0]):
        for i in range(lanes.shape[1]):
            row = lanes[b, i].reshape(-1)
            for t in range(row.size - 1, by * LANES - 1, -1):
                row[t] = row[t - by * LANES]


@njit(**_FAST)
def collect(first, last, entries, values, starts, places, later, now, met):
    """met[s, m] += value * the gradient that tap m of synapse s led to, for events of senders first ... last - 1."""
    width, senders = np.uint64(met.shape[1]), starts.size - 1
    for e in range(entries.size):
        n = entries[e] // senders
        value, j = values[e], entries[e] - n * senders
        if j < first or j >= last:
            continue
        rows = later[n].reshape(-1)[now:]
        begin, end = np.uint64(starts[j]), np.uint64(starts[j + 1])
        for s in range(begin, end):
            at = np.uint64(places[s])
            _axpy(value, rows[at : at + width], met[s])


@njit(**_OPTIONS)
def collect_lanes(first, last, entries, values, starts, places, lanes, now, met):
    """The same from ``lanes``."""
    width, senders = np.uint64(met.shape[1]), starts.size - 1
    for e in range(entries.size):
        n = entries[e] // senders
        value, j = values[e], entries[e] - n * senders
        if j < first or j >= last:
            continue
        rows = lanes[n // LANES].reshape(-1)[now * LANES + n % LANES :]
        begin, end = np.uint64(starts[j]), np.uint64(starts[j + 1])
        if width == 2:
            for s in range(begin, end):
                at = np.uint64(places[s]) * _LANES
                met[s, _0] += value * rows[at]
                met[s, _1] += value * rows[at + _LANES]
        else:
            for s in range(begin, end):
                met[s, _0] += value * rows[np.uint64(places[s]) * _LANES]


@njit(**_OPTIONS)
def put_lanes(spikes, now, lanes):
    """``[N, in]`` becomes the entry ``now`` of ``[blocks, in, length, LANES]``."""
    for n in range(spikes.shape[0]):
        block, lane = n // LANES, n % LANES
        for j in range(spikes.shape[1]):
            lanes[block, j, now, lane] = spikes[n, j]


@njit(**_OPTIONS)
def put_entries(entries, values, now, lanes):
    """The same of the entries n * in + j alone; the others stay."""
    for e in range(entries.size):
        n, j = divmod(entries[e], lanes.shape[1])
        lanes[n // LANES, j, now, n % LANES] = values[e]


@njit(**_FAST)
def _two_products(x, y, step):
    a = b = x.dtype.type(0)
    for m in range(x.size):
        a += x[m] * y[m]
        b += x[m] * y[m + step]
    return a, b


@njit(**_FAST)
def _product(x, y):
    total = x.dtype.type(0)
    for m in range(x.size):
        total += x[m] * y[m]
    return total


@njit(**_OPTIONS)
def collect_many(first, last, spikes, starts, places, lanes, now, met):
    """met[s, m] += the spikes of senders first ... last - 1 times the gradients that tap m of synapse s led to, over all
    steps from ``now`` of a stretch ``[blocks, in, steps, LANES]``."""
    width, size = met.shape[1], (spikes.shape[2] - now) * LANES
    for block in range(spikes.shape[0]):
        rows = lanes[block].reshape(-1)[now * LANES :]
        for j in range(first, last):
            x = spikes[block, j].reshape(-1)[now * LANES :]
            for s in range(starts[j], starts[j + 1]):
                at = places[s] * LANES
                for m in range(0, width - 1, 2):
                    a, b = _two_products(x, rows[at + m * LANES : at + (m + 1) * LANES + size], LANES)
                    met[s, m] += a
                    met[s, m + 1] += b
                if width % 2:
                    met[s, width - 1] += _product(x, rows[at + (width - 1) * LANES : at + (width - 1) * LANES + size])


@njit(**_FAST)
def _rest(tap, p, rows, total):
    """total += the taps times what begins at p, one tap after the other."""
    for m in range(np.uint64(tap.size)):
        for lane in range(np.uint64(LANES)):
            total[lane] += tap[m] * rows[p + m * _LANES + lane]


@njit(**_FAST)
def leave(first, last, starts, places, taps, lanes, now, out):
    """out[n, j] = sum over the synapses of sender j of taps times the gradients that its spike would meet, for the
    blocks of samples first ... last - 1. Receivers in groups, whose gradients stay near while all senders read them."""
    senders, width = out.shape[1], np.uint64(taps.shape[1])
    length = lanes.shape[2]
    group = max(1, _CACHE // (4 * length * LANES * lanes.itemsize)) * 4 * length
    weights = taps.reshape(-1)
    sums = np.empty((senders, LANES), taps.dtype)
    reached = np.empty(senders, np.uint64)
    for block in range(first, last):
        rows = lanes[block].reshape(-1)[now * LANES :]
        sums[:] = 0
        for j in range(senders):
            reached[j] = np.uint64(starts[j])
        for until in range(group, lanes.shape[1] * length + group, group):
            for j in range(senders):
                end, s, total = np.uint64(starts[j + 1]), reached[j], sums[j]
                while width == 2 and s + _4 <= end and places[s + _3] < until:
                    add_pairs(
                        total,
                        weights,
                        s * _2,
                        rows,
                        np.uint64(places[s]) * _LANES,
                        np.uint64(places[s + _1]) * _LANES,
                        np.uint64(places[s + _2]) * _LANES,
                        np.uint64(places[s + _3]) * _LANES,
                    )
                    s += _4
                while s < end and places[s] < until:
                    p, q, m = np.uint64(places[s]) * _LANES, s * width, np.uint64(0)
                    while m + _8 <= width:
                        add_pairs(total, weights, q + m, rows, p, p + _2 * _LANES, p + _4 * _LANES, p + _6 * _LANES)
                        m += _8
                        p += _8 * _LANES
                    _rest(weights[q + m : q + width], p, rows, total)
                    s += _1
                reached[j] = s
        for lane in range(min(LANES, out.shape[0] - block * LANES)):
            row = out[block * LANES + lane]
            for j in range(senders):
                row[j] = sums[j, lane]
