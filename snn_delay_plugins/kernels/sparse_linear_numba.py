r"""Products of a weight matrix with spikes on the CPU: entries of the input that are zero cost next to nothing.

Rows are neuron-steps of a batch, x [R, in]; weights come transposed, [in, out], so that a spike adds one row of them:

.. math:: y_r = b + \sum_{j:\, x_{rj} \ne 0} x_{rj}\, w_j, \qquad
    \bar w_j = \sum_{r:\, x_{rj} \ne 0} x_{rj}\, \bar y_r, \qquad \bar x_{rj} = w_j \cdot \bar y_r

the last only where it is wanted. Work is split by rows or by blocks of receivers: no sum depends on the number of threads.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from .threads import over_ranges

_COLUMNS = 64  # receivers whose weights' gradients stay in the cache while all spikes pass by


@dataclass(frozen=True)
class Entries:
    """The entries of a matrix [R, in] that are not zero; those of row r at ``starts[r] ... starts[r + 1]``."""

    units: np.ndarray
    values: np.ndarray
    starts: np.ndarray


@njit(nogil=True, cache=True)
def _count(begin, end, dense, counts):
    for r in range(begin, end):
        row = dense[r]
        n = 0
        for j in range(row.shape[0]):
            n += row[j] != 0
        counts[r] = n


@njit(nogil=True, cache=True)
def _collect(begin, end, dense, starts, units, values):
    found = np.empty(dense.shape[1] + 1, units.dtype)
    for r in range(begin, end):
        row, e = dense[r], starts[r]
        here = units[e : starts[r + 1]]
        if here.size == 0:
            continue
        n = 0
        for j in range(row.shape[0]):  # without a branch: where spikes are cannot be predicted
            found[n] = j
            n += row[j] != 0
        for n in range(here.size):
            here[n] = found[n]
            values[e + n] = row[found[n]]


def count(dense: np.ndarray) -> np.ndarray:
    """How many entries of each row are not zero, [R]."""
    counts = np.empty(dense.shape[0], np.int64)
    over_ranges(lambda begin, end: _count(begin, end, dense, counts), counts.size)
    return counts


def entries_of(dense: np.ndarray, counts: np.ndarray) -> Entries:
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    units = np.empty(starts[-1], np.int32)
    values = np.empty(starts[-1], dense.dtype)
    over_ranges(lambda begin, end: _collect(begin, end, dense, starts, units, values), counts.size)
    return Entries(units, values, starts)


@njit(nogil=True, cache=True)
def _forward(begin, end, units, values, starts, weight, bias, out):
    for r in range(begin, end):
        row = out[r]
        row[:] = bias
        e, last = starts[r], starts[r + 1]
        while e + 4 <= last:  # four spikes share what is read and written of the row
            w0, w1, w2, w3 = weight[units[e]], weight[units[e + 1]], weight[units[e + 2]], weight[units[e + 3]]
            v0, v1, v2, v3 = values[e], values[e + 1], values[e + 2], values[e + 3]
            for i in range(row.shape[0]):
                row[i] += (v0 * w0[i] + v1 * w1[i]) + (v2 * w2[i] + v3 * w3[i])
            e += 4
        while e < last:
            w0, v0 = weight[units[e]], values[e]
            for i in range(row.shape[0]):
                row[i] += v0 * w0[i]
            e += 1


@njit(nogil=True, cache=True)
def _weights(begin, end, units, values, starts, grad, out):
    """out[j, i] for the blocks of receivers begin ... end."""
    receivers = grad.shape[1]
    for block in range(begin, end):
        first, last = block * _COLUMNS, min((block + 1) * _COLUMNS, receivers)
        sums = np.zeros((out.shape[0], last - first), out.dtype)
        for r in range(grad.shape[0]):
            g = grad[r, first:last]
            for e in range(starts[r], starts[r + 1]):
                row, v = sums[units[e]], values[e]
                for i in range(row.shape[0]):
                    row[i] += v * g[i]
        out[:, first:last] = sums


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _inputs(begin, end, units, starts, weight, grad, out):
    for r in range(begin, end):
        g, row = grad[r], out[r]
        e, last = starts[r], starts[r + 1]
        while e + 4 <= last:
            w0, w1, w2, w3 = weight[units[e]], weight[units[e + 1]], weight[units[e + 2]], weight[units[e + 3]]
            s0 = s1 = s2 = s3 = grad.dtype.type(0)
            for i in range(g.shape[0]):
                s0 += w0[i] * g[i]
                s1 += w1[i] * g[i]
                s2 += w2[i] * g[i]
                s3 += w3[i] * g[i]
            row[units[e]], row[units[e + 1]], row[units[e + 2]], row[units[e + 3]] = s0, s1, s2, s3
            e += 4
        while e < last:
            w0, s0 = weight[units[e]], grad.dtype.type(0)
            for i in range(g.shape[0]):
                s0 += w0[i] * g[i]
            row[units[e]] = s0
            e += 1


def forward(spikes: Entries, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [R, out]; ``weight`` [in, out], ``bias`` [out]."""
    arguments = (spikes.units, spikes.values, spikes.starts, weight, bias, out)
    over_ranges(lambda begin, end: _forward(begin, end, *arguments), out.shape[0])


def weights(spikes: Entries, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [in, out] with the gradient of the weights."""
    arguments = (spikes.units, spikes.values, spikes.starts, grad, out)
    over_ranges(lambda begin, end: _weights(begin, end, *arguments), -(-grad.shape[1] // _COLUMNS))


def inputs(wanted: Entries, weight: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [R, in], which is zero, with the gradient of the input where it is wanted."""
    arguments = (wanted.units, wanted.starts, weight, grad, out)
    over_ranges(lambda begin, end: _inputs(begin, end, *arguments), out.shape[0])
