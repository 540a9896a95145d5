r"""Linear layers with one or two taps per synapse on the CPU: two compiled forms of
:func:`snn_delay_plugins.functional.windows.windowed_linear`, whose time and memory do not depend on the longest delay.

Synapse (i, j) has the tap ``now`` after k steps and ``later`` after k + 1.

- ``"events"``: every spike visits its synapses. Forward adds both taps where the spike arrives; backward collects the
  gradients g_i[t + k] and g_i[t + k + 1] that it meets there. One visit per spike and synapse.
- ``"shifted"``: every synapse adds its sender's whole train, shifted: two multiply-adds per synapse and step, but over
  consecutive times, eight at once. It wins where more than some percent of the input is not zero.

The gradients of the taps, :math:`C^0_{ij} = \sum_t g_i[t]\, a_j[t-k]` and
:math:`C^1_{ij} = \sum_t g_i[t]\, a_j[t-k-1]`, are summed in double precision.

Arrays are [T, N, features], weights [out, in]. Events are ordered by sample, time and unit, work is split by samples,
by blocks of receivers or by senders: no sum depends on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..compiled import njit
from ..nonzero_numba import entries, room
from ..threads import over_ranges

_BLOCK = 32  # receivers whose sums (or gradients) lie side by side while events pass by
_STEPS = 32  # loops over time run a multiple of this many steps, or the rest would be computed one by one
_STRETCH = 512  # steps at a time
_ROW = np.int64(_STRETCH + 16)
_SIDE = 4  # samples side by side in the shifted form of short sequences, of at most ...
_SHORT = 256  # ... steps
_SENDERS = 64  # trains that stay in the cache while all receivers read them


@dataclass(frozen=True)
class Taps:
    """The synapses: lag ``k`` of the first tap and the two taps, each [out, in]; ``longest`` = max k."""

    k: np.ndarray
    now: np.ndarray
    later: np.ndarray
    longest: int


@dataclass(frozen=True)
class Events:
    """Entries of a [T, N, units] array that are not zero; those of sample n at ``offsets[n] ... offsets[n + 1]``."""

    times: np.ndarray
    units: np.ndarray
    values: np.ndarray
    offsets: np.ndarray


# ------------------------------------------------------------------------------------------------- the input


@njit(nogil=True, cache=True)
def _count(begin, end, dense, counts):
    counts[begin:end] = 0
    for t in range(dense.shape[0]):  # in the order of memory
        for n in range(begin, end):
            row = dense[t, n]
            c = np.int32(0)
            for j in range(row.shape[0]):
                c += np.int32(row[j] != 0)
            counts[n] += c


@njit(nogil=True, cache=True)
def _collect(begin, end, dense, offsets, times, units, values):
    flags, words, found = room(dense.shape[2])
    after = offsets[begin:end].copy()
    for t in range(dense.shape[0]):
        for n in range(begin, end):
            row = dense[t, n]
            here = entries(row, flags, words, found)
            e = after[n - begin]
            for i in range(here):
                times[e + i], units[e + i], values[e + i] = t, found[i], row[found[i]]
            after[n - begin] = e + here


def events_of(dense: np.ndarray) -> Events:
    """The entries of [T, N, units] that are not zero."""
    counts = np.empty(dense.shape[1], np.int64)
    over_ranges(lambda begin, end: _count(begin, end, dense, counts), counts.size)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    times, units = (np.empty(offsets[-1], np.int32) for _ in range(2))
    values = np.empty(offsets[-1], dense.dtype)
    over_ranges(lambda begin, end: _collect(begin, end, dense, offsets, times, units, values), counts.size)
    return Events(times, units, values, offsets)


def taps_of(taps: np.ndarray, lags: np.ndarray, max_delay: int, most: int) -> Taps:
    """``most``: the lag after which nothing of a sequence is left.

    :raises ValueError: for a lag outside [0, max_delay]: it would be written outside of memory.
    """
    low, high = (int(lags.min()), int(lags.max())) if lags.size else (0, 0)
    if not (low >= 0 and high <= max_delay):
        raise ValueError(f"lags must lie in [0, max_delay={max_delay}], got {low} ... {high} (NaN is far below zero)")
    if high > most:  # it would not fit into 32 bits, nor its silence into memory
        lags, high = np.minimum(lags, most), most
    return Taps(lags.astype(np.int32), taps[0], taps[1] if len(taps) > 1 else np.zeros_like(taps[0]), high)


@njit(nogil=True, cache=True)
def _in_blocks(values, step, out):
    """[out, in] -> [blocks, in, block]: for each sender the receivers side by side; ``step`` > 0 makes positions of
    delays, rows of that many entries."""
    for i in range(values.shape[0]):
        b, c = i // out.shape[2], i % out.shape[2]
        for j in range(values.shape[1]):
            out[b, j, c] = values[i, j] * step + c if step else values[i, j]


def _blocked(values: np.ndarray, step: int = 0) -> np.ndarray:
    receivers, senders = values.shape
    out = np.zeros((-(-receivers // _BLOCK), senders, _BLOCK), values.dtype if not step else np.int64)
    _in_blocks(values, step, out)
    return out


# -------------------------------------------------------------------------------------------- every spike visits


@njit(nogil=True, cache=True)
def _events_forward(begin, end, times, units, values, offsets, place, now, later, longest, out):
    steps, _, receivers = out.shape
    blocks = place.shape[0]
    sums = np.empty((steps + longest + 2) * _BLOCK, out.dtype)
    for program in range(begin, end):
        n, b = program // blocks, program % blocks
        width = min(_BLOCK, receivers - b * _BLOCK)
        sums[:] = 0
        for e in range(offsets[n], offsets[n + 1]):
            t = np.int64(times[e])
            if t >= steps:
                break
            start, value = t * _BLOCK, values[e]
            to, w_now, w_later = place[b, units[e]], now[b, units[e]], later[b, units[e]]
            for c in range(width):
                p = np.uint64(start + to[c])
                sums[p] += value * w_now[c]
                sums[p + np.uint64(_BLOCK)] += value * w_later[c]
        for t in range(steps):
            row = out[t, n, b * _BLOCK : b * _BLOCK + width]
            here = sums[t * _BLOCK : t * _BLOCK + width]
            for c in range(width):
                row[c] = here[c]


@njit(nogil=True, cache=True)
def _gradients(grad, n, b, width, rows):
    """Sample n and block b of ``grad`` to rows[t, receiver], as zeros past the end."""
    steps = grad.shape[0]
    rows[steps * _BLOCK :] = 0
    for t in range(steps):
        row = grad[t, n, b * _BLOCK : b * _BLOCK + width]
        here = rows[t * _BLOCK : t * _BLOCK + width]
        for c in range(width):
            here[c] = row[c]


@njit(nogil=True, cache=True)
def _events_synapses(begin, end, times, units, values, offsets, place, longest, grad, met_now, met_later):
    """C0 and C1, [block, sender, receiver]."""
    steps, samples, receivers = grad.shape
    rows = np.empty((steps + longest + 2) * _BLOCK, grad.dtype)
    for b in range(begin, end):
        width = min(_BLOCK, receivers - b * _BLOCK)
        for n in range(samples):
            if offsets[n] == offsets[n + 1]:
                continue
            _gradients(grad, n, b, width, rows)
            for e in range(offsets[n], offsets[n + 1]):
                t = np.int64(times[e])
                if t >= steps:
                    break
                start, value = t * _BLOCK, values[e]
                at, total_now, total_later = place[b, units[e]], met_now[b, units[e]], met_later[b, units[e]]
                for c in range(width):
                    p = np.uint64(start + at[c])
                    total_now[c] += value * rows[p]
                    total_later[c] += value * rows[p + np.uint64(_BLOCK)]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _events_trains(begin, end, times, units, offsets, place, now, later, longest, grad, out):
    """The gradient of the input at the given events alone; ``out`` is zero elsewhere."""
    steps, _, receivers = grad.shape
    rows = np.empty((max(steps, out.shape[0]) + longest + 2) * _BLOCK, grad.dtype)
    for n in range(begin, end):
        if offsets[n] == offsets[n + 1]:
            continue
        for b in range(place.shape[0]):
            width = min(_BLOCK, receivers - b * _BLOCK)
            _gradients(grad, n, b, width, rows)
            for e in range(offsets[n], offsets[n + 1]):
                start = np.int64(times[e]) * _BLOCK
                at, w_now, w_later = place[b, units[e]], now[b, units[e]], later[b, units[e]]
                total = out[times[e], n, units[e]]
                for c in range(width):
                    p = np.uint64(start + at[c])
                    total += w_now[c] * rows[p] + w_later[c] * rows[p + np.uint64(_BLOCK)]
                out[times[e], n, units[e]] = total


def _by_block(taps: Taps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the delays and both weights, [block, sender, receiver]."""
    return _blocked(taps.k, _BLOCK), _blocked(taps.now), _blocked(taps.later)


def events_forward(events: Events, taps: Taps, out: np.ndarray) -> None:
    """Fill ``out`` [steps, N, out]."""
    synapses = _by_block(taps)
    arguments = (events.times, events.units, events.values, events.offsets, *synapses, taps.longest, out)
    over_ranges(lambda begin, end: _events_forward(begin, end, *arguments), out.shape[1] * synapses[0].shape[0])


def events_synapses(events: Events, taps: Taps, grad: np.ndarray) -> np.ndarray:
    """C0 and C1, [2, out, in], in double precision."""
    receivers, senders = taps.k.shape
    place = _blocked(taps.k, _BLOCK)
    met = np.zeros((2, *place.shape))
    arguments = (events.times, events.units, events.values, events.offsets, place, taps.longest, grad, *met)
    over_ranges(lambda begin, end: _events_synapses(begin, end, *arguments), place.shape[0])
    return met.transpose(0, 1, 3, 2).reshape(2, -1, senders)[:, :receivers]


def events_trains(where: Events, taps: Taps, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [T, N, in], which is zero, at the events of ``where``."""
    arguments = (where.times, where.units, where.offsets, *_by_block(taps), taps.longest, grad, out)
    over_ranges(lambda begin, end: _events_trains(begin, end, *arguments), out.shape[1])


# ------------------------------------------------------------------------------------------- every synapse shifts


@njit(nogil=True, cache=True)
def _transpose(dense, n, side, first, last, start, end, trains):
    """Samples n, n + 1, ... of [T, N, units], ``side`` of them interleaved, -> trains[unit, (start + t) side + sample],
    before ``end``, for the units first ... last."""
    steps = min(dense.shape[0], end - start)
    for s in range(min(side, dense.shape[1] - n)):
        for j0 in range(first, last, 16):
            for t in range(steps):
                row = dense[t, n + s]
                for j in range(j0, min(j0 + 16, last)):
                    trains[j - first, (start + t) * side + s] = row[j]


@njit(nogil=True, cache=True)
def _transpose_back(trains, start, side, first, last, n, dense):
    for s in range(min(side, dense.shape[1] - n)):
        for j0 in range(first, last, 16):
            for t in range(dense.shape[0]):
                row = dense[t, n + s]
                for j in range(j0, min(j0 + 16, last)):
                    row[j] = trains[j - first, start + t * side + s]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _shifted_sums(trains, lag, now, later, step, margin, sums):
    """sums[i, margin + t] = P[t] + Q[t - step] with P[t] = sum_j now[i, j] trains[j, lag[i, j] + t], Q likewise of
    later."""
    receivers, senders = lag.shape
    length = sums.shape[1] - 2 * margin
    sums[:] = 0
    part = np.empty(2 * _ROW, trains.dtype)  # P and Q of a stretch of time: each entry that is read serves both
    fours = senders // 4 * 4
    for block in range(0, senders, _SENDERS):
        for first in range(0, length, _STRETCH):
            n = min(_STRETCH, length - first)
            for i in range(receivers):
                for m in range(n):
                    part[m] = 0
                    part[_ROW + m] = 0
                for j in range(block, min(block + _SENDERS, fours), 4):
                    at = lag[i, j] + first
                    s0 = trains[j, at : at + n]
                    at = lag[i, j + 1] + first
                    s1 = trains[j + 1, at : at + n]
                    at = lag[i, j + 2] + first
                    s2 = trains[j + 2, at : at + n]
                    at = lag[i, j + 3] + first
                    s3 = trains[j + 3, at : at + n]
                    a0, a1, a2, a3 = now[i, j], now[i, j + 1], now[i, j + 2], now[i, j + 3]
                    b0, b1, b2, b3 = later[i, j], later[i, j + 1], later[i, j + 2], later[i, j + 3]
                    for m in range(n):
                        x0, x1, x2, x3 = s0[m], s1[m], s2[m], s3[m]
                        p, q = part[m], part[_ROW + m]
                        p += a0 * x0  # one after the other: each a fused multiply-add
                        q += b0 * x0
                        p += a1 * x1
                        q += b1 * x1
                        p += a2 * x2
                        q += b2 * x2
                        p += a3 * x3
                        q += b3 * x3
                        part[m], part[_ROW + m] = p, q
                for j in range(max(block, fours), min(block + _SENDERS, senders)):
                    at = lag[i, j] + first
                    s0 = trains[j, at : at + n]
                    a0, b0 = now[i, j], later[i, j]
                    for m in range(n):
                        part[m] += a0 * s0[m]
                        part[_ROW + m] += b0 * s0[m]
                total = sums[i, margin + first : margin + first + n]
                for m in range(n):
                    total[m] += part[m]
                total = sums[i, margin + first + step : margin + first + step + n]
                for m in range(n):
                    total[m] += part[_ROW + m]


@njit(nogil=True, cache=True)
def _shifted(n0, n1, i0, i1, source, side, start, width, lag, now, later, step, out):
    """Samples n0 side ... n1 side and rows i0 ... i1 of the shifted sums; trains begin at ``start`` of rows of
    ``width`` steps."""
    length = -(-(out.shape[0] + 1) * side // _STEPS) * _STEPS
    trains = np.zeros((source.shape[2], width * side + length), source.dtype)
    sums = np.empty((i1 - i0, side + length + side), source.dtype)
    for n in range(n0 * side, min(n1 * side, source.shape[1]), side):
        if n + side > source.shape[1]:
            trains[:] = 0  # fewer samples than before
        _transpose(source, n, side, 0, source.shape[2], start, width, trains)
        _shifted_sums(trains, lag[i0:i1], now[i0:i1], later[i0:i1], step * side, side, sums)
        _transpose_back(sums, side, side, i0, i1, n, out)


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _correlations(trains, lag, grad, before, met):
    """met[0, i, j] += sum_t grad[i, t] trains[j, lag[i, j] + t], met[1] of ``before``, the gradient one step later."""
    receivers, senders = lag.shape
    length = grad.shape[1]
    fours = senders // 4 * 4
    zero = grad.dtype.type(0)
    for block in range(0, senders, _SENDERS):
        for i in range(receivers):
            g, h = grad[i], before[i]
            for j in range(block, min(block + _SENDERS, fours), 4):  # four senders share what is read of g and h
                s0 = trains[j, lag[i, j] : lag[i, j] + length]
                s1 = trains[j + 1, lag[i, j + 1] : lag[i, j + 1] + length]
                s2 = trains[j + 2, lag[i, j + 2] : lag[i, j + 2] + length]
                s3 = trains[j + 3, lag[i, j + 3] : lag[i, j + 3] + length]
                p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = zero
                for t in range(length):
                    u, v = g[t], h[t]
                    x0, x1, x2, x3 = s0[t], s1[t], s2[t], s3[t]
                    p0 += u * x0
                    p1 += u * x1
                    p2 += u * x2
                    p3 += u * x3
                    q0 += v * x0
                    q1 += v * x1
                    q2 += v * x2
                    q3 += v * x3
                met[0, i, j] += p0
                met[0, i, j + 1] += p1
                met[0, i, j + 2] += p2
                met[0, i, j + 3] += p3
                met[1, i, j] += q0
                met[1, i, j + 1] += q1
                met[1, i, j + 2] += q2
                met[1, i, j + 3] += q3
            for j in range(max(block, fours), min(block + _SENDERS, senders)):
                s0 = trains[j, lag[i, j] : lag[i, j] + length]
                p0 = q0 = zero
                for t in range(length):
                    p0 += g[t] * s0[t]
                    q0 += h[t] * s0[t]
                met[0, i, j] += p0
                met[1, i, j] += q0


@njit(nogil=True, cache=True)
def _shifted_synapses(i0, i1, source, side, start, lag, grad, met):
    steps = grad.shape[0]
    length = -(-(steps + 1) * side // _STEPS) * _STEPS
    trains = np.zeros((source.shape[2], start * side + length), source.dtype)
    here = np.zeros((i1 - i0, length), grad.dtype)
    before = np.zeros((i1 - i0, length), grad.dtype)
    for n in range(0, source.shape[1], side):
        if n + side > source.shape[1]:  # fewer samples than before
            trains[:] = 0
            here[:] = 0
        _transpose(source, n, side, 0, source.shape[2], start, start + steps, trains)
        _transpose(grad, n, side, i0, i1, 0, steps, here)
        before[:, : (steps - 1) * side] = here[:, side : steps * side]
        _correlations(trains, lag[i0:i1], here, before, met[:, i0:i1])


def _side(steps: int, samples: int) -> int:
    """Samples whose entries of a step lie side by side: shifted by whole steps they stay aligned, and loops over short
    times get longer."""
    return _SIDE if samples >= _SIDE and steps <= _SHORT else 1


def _over_samples_or_rows(kernel, samples: int, rows: int) -> None:
    if samples > 1:
        over_ranges(lambda begin, end: kernel(begin, end, 0, rows), samples)
    elif samples == 1:
        over_ranges(lambda begin, end: kernel(0, 1, begin, end), rows)


def shifted_forward(trains: np.ndarray, taps: Taps, out: np.ndarray) -> None:
    """Fill ``out`` [steps, N, out]."""
    start, samples = taps.longest, trains.shape[1]  # silence before the first step, where delayed trains begin
    side = _side(out.shape[0], samples)
    lag = (start - taps.k) * side
    arguments = (trains, side, start, start + out.shape[0], lag, taps.now, taps.later, 1, out)
    _over_samples_or_rows(lambda *part: _shifted(*part, *arguments), -(-samples // side), taps.k.shape[0])


def shifted_trains(taps: Taps, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [T, N, in] with the gradient of the input."""
    k, now, later = (np.ascontiguousarray(x.T) for x in (taps.k, taps.now, taps.later))
    side = _side(out.shape[0], grad.shape[1])
    arguments = (grad, side, 0, out.shape[0] + taps.longest + 1, k * side, now, later, -1, out)
    _over_samples_or_rows(lambda *part: _shifted(*part, *arguments), -(-grad.shape[1] // side), k.shape[0])


def shifted_synapses(trains: np.ndarray, taps: Taps, grad: np.ndarray) -> np.ndarray:
    """C0 and C1, [2, out, in], in double precision."""
    start = taps.longest
    side = _side(grad.shape[0], trains.shape[1])
    met = np.zeros((2, *taps.k.shape))
    arguments = (trains, side, start, (start - taps.k) * side, grad, met)
    over_ranges(lambda begin, end: _shifted_synapses(begin, end, *arguments), taps.k.shape[0])
    return met
