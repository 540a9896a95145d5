"""The loops of :mod:`.operator`. Every sample's trains are laid out along time with silence around them, so that all loops
run over the whole sequence, four taps at once."""

from __future__ import annotations

import numpy as np

from ..compiled import njit

__all__ = ["TAPS", "forward", "to_kernel", "to_trains"]

TAPS = 4  # that one pass over a train adds or correlates
_BLOCK = 16  # neurons whose rows are turned at once, a cache line of float32
_OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc"}}


@njit(**_OPTIONS)
def _turn(sequence, n, begin, end, first, rows):
    """rows[j - begin, first + t] = sequence[t, n, j] for j = begin ... end - 1."""
    for block in range(begin, end, _BLOCK):
        last = min(block + _BLOCK, end)
        for t in range(sequence.shape[0]):
            here = sequence[t, n]
            for j in range(block, last):
                rows[j - begin, first + t] = here[j]


@njit(**_OPTIONS)
def _turn_back(rows, n, sequence):
    for block in range(0, rows.shape[0], _BLOCK):
        last = min(block + _BLOCK, rows.shape[0])
        for t in range(sequence.shape[0]):
            here = sequence[t, n]
            for j in range(block, last):
                here[j] = rows[j, t]


@njit(**_OPTIONS)
def _longest(lag, width, steps):
    """Silence that is needed around a sequence; arrivals after ``steps`` are lost, so that no more is."""
    longest = 0
    for s in range(lag.size):
        longest = max(longest, min(lag[s], steps))
    return longest + width


# ------------------------------------------------------------------------------------------------- loops


@njit(**_OPTIONS)
def _add(k, row, at, step, total):
    """total[t] += sum_m k[m] row[at + step m + t]."""
    n = total.size
    for m in range(0, k.size, TAPS):
        a, b, c, d = k[m], k[m + 1], k[m + 2], k[m + 3]
        r = row[at + step * m : at + step * m + n]
        s = row[at + step * (m + 1) : at + step * (m + 1) + n]
        u = row[at + step * (m + 2) : at + step * (m + 2) + n]
        v = row[at + step * (m + 3) : at + step * (m + 3) + n]
        for t in range(n):
            total[t] += a * r[t] + b * s[t] + c * u[t] + d * v[t]


@njit(**_OPTIONS)
def forward(first, last, trains, kernel, lag, senders, starts, out):
    steps, width = out.shape[0], kernel.shape[1]
    silence = _longest(lag, width, steps)
    rows = np.zeros((trains.shape[2], silence + max(steps, trains.shape[0])), trains.dtype)
    currents = np.empty((out.shape[2], steps), trains.dtype)
    for n in range(first, last):
        _turn(trains, n, 0, trains.shape[2], silence, rows)
        currents[:] = 0
        for i in range(out.shape[2]):
            for s in range(starts[i], starts[i + 1]):
                if lag[s] < steps:
                    _add(kernel[s], rows[senders[s]], silence - lag[s], -1, currents[i])
        _turn_back(currents, n, out)


@njit(**_OPTIONS)
def to_trains(first, last, grad, kernel, lag, receivers, order, starts, g_trains):
    steps, width = grad.shape[0], kernel.shape[1]
    silence = _longest(lag, width, steps)
    length = g_trains.shape[0]
    rows = np.zeros((grad.shape[2], max(steps, length) + silence), grad.dtype)
    total = np.empty((g_trains.shape[2], length), grad.dtype)
    for n in range(first, last):
        _turn(grad, n, 0, grad.shape[2], 0, rows)
        total[:] = 0
        for j in range(total.shape[0]):
            for place in range(starts[j], starts[j + 1]):
                s = order[place]
                if lag[s] < steps:
                    _add(kernel[s], rows[receivers[s]], lag[s], 1, total[j])
        _turn_back(total, n, g_trains)


@njit(**_OPTIONS)
def to_kernel(first, last, trains, grad, lag, senders, starts, met):
    """met[s, m] = sum_{n, t} grad[t, n, i] trains[t - lag - m, n, j] for the receivers first ... last - 1."""
    steps, width = grad.shape[0], met.shape[1]
    silence = _longest(lag, width, steps)
    rows = np.zeros((trains.shape[2], silence + max(steps, trains.shape[0])), trains.dtype)
    currents = np.zeros((last - first, steps), grad.dtype)
    zero = trains.dtype.type(0)
    for n in range(trains.shape[1]):
        _turn(trains, n, 0, trains.shape[2], silence, rows)
        _turn(grad, n, first, last, 0, currents)
        for i in range(first, last):
            g = currents[i - first]
            for s in range(starts[i], starts[i + 1]):
                if lag[s] >= steps:
                    continue
                row = rows[senders[s]]
                for m in range(0, width, TAPS):
                    at = silence - lag[s] - m
                    r, u = row[at : at + steps], row[at - 1 : at - 1 + steps]
                    v, w = row[at - 2 : at - 2 + steps], row[at - 3 : at - 3 + steps]
                    a = b = c = d = zero
                    for t in range(steps):
                        x = g[t]
                        a += x * r[t]
                        b += x * u[t]
                        c += x * v[t]
                        d += x * w[t]
                    met[s, m] += a
                    met[s, m + 1] += b
                    met[s, m + 2] += c
                    met[s, m + 3] += d
