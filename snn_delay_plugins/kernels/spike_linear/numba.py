r"""Products of a weight matrix with spikes on the CPU: entries of the input that are zero cost next to nothing.

Rows are neuron-steps of a batch, x [R, in]; weights come transposed, [in, out], so that a spike adds one row of them:

.. math:: y_r = b + \sum_{j:\, x_{rj} \ne 0} x_{rj}\, w_j, \qquad
    \bar w_j = \sum_{r:\, x_{rj} \ne 0} x_{rj}\, \bar y_r, \qquad \bar b = \sum_r \bar y_r, \qquad
    \bar x_{rj} = w_j \cdot \bar y_r

the last only where it is wanted. Every pass finds the spikes of a row and uses them while the row is in the cache: what
these loops wait for is memory. Work is split by rows or by receivers: no sum depends on the number of threads.
"""

from __future__ import annotations

import numpy as np

from ..compiled import njit
from ..nonzero_numba import entries, room
from ..threads import over_ranges

_COLUMNS = 128  # receivers whose weights' gradients stay in the cache while all spikes pass by


@njit(nogil=True, cache=True)
def _forward(begin, end, x, weight, bias, out):
    flags, words, found = room(x.shape[1])
    for r in range(begin, end):
        source, row = x[r], out[r]
        last = entries(source, flags, words, found)
        for i in range(row.shape[0]):
            row[i] = bias[i]
        e = 0
        while e + 4 <= last:  # four spikes share what is read and written of the row
            j0, j1, j2, j3 = found[e], found[e + 1], found[e + 2], found[e + 3]
            w0, w1, w2, w3 = weight[j0], weight[j1], weight[j2], weight[j3]
            v0, v1, v2, v3 = source[j0], source[j1], source[j2], source[j3]
            for i in range(row.shape[0]):
                row[i] += (v0 * w0[i] + v1 * w1[i]) + (v2 * w2[i] + v3 * w3[i])
            e += 4
        while e < last:
            w0, v0 = weight[found[e]], source[found[e]]
            for i in range(row.shape[0]):
                row[i] += v0 * w0[i]
            e += 1


@njit(nogil=True, cache=True)
def _weights(begin, end, x, grad, out, bias):
    """Columns begin ... end of the gradients [in, out] and [out]."""
    flags, words, found = room(x.shape[1])
    for first in range(begin, end, _COLUMNS):
        last = min(first + _COLUMNS, end)
        sums = np.zeros((x.shape[1] + 1, last - first), out.dtype)
        total = sums[x.shape[1]]
        for r in range(grad.shape[0]):
            source, g = x[r], grad[r, first:last]
            for i in range(total.shape[0]):
                total[i] += g[i]
            for e in range(entries(source, flags, words, found)):
                row, v = sums[found[e]], source[found[e]]
                for i in range(row.shape[0]):
                    row[i] += v * g[i]
        out[:, first:last] = sums[:-1]
        bias[first:last] = total


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _inputs(begin, end, wanted, weight, grad, out):
    flags, words, found = room(wanted.shape[1])
    for r in range(begin, end):
        g, row = grad[r], out[r]
        last = entries(wanted[r], flags, words, found)
        for j in range(row.shape[0]):
            row[j] = 0
        e = 0
        while e + 4 <= last:
            j0, j1, j2, j3 = found[e], found[e + 1], found[e + 2], found[e + 3]
            w0, w1, w2, w3 = weight[j0], weight[j1], weight[j2], weight[j3]
            s0 = s1 = s2 = s3 = grad.dtype.type(0)
            for i in range(g.shape[0]):
                s0 += w0[i] * g[i]
                s1 += w1[i] * g[i]
                s2 += w2[i] * g[i]
                s3 += w3[i] * g[i]
            row[j0], row[j1], row[j2], row[j3] = s0, s1, s2, s3
            e += 4
        while e < last:
            w0, s0 = weight[found[e]], grad.dtype.type(0)
            for i in range(g.shape[0]):
                s0 += w0[i] * g[i]
            row[found[e]] = s0
            e += 1


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [R, out]; ``weight`` [in, out], ``bias`` [out]."""
    over_ranges(lambda begin, end: _forward(begin, end, x, weight, bias, out), out.shape[0])


def weights(x: np.ndarray, grad: np.ndarray, out: np.ndarray, bias: np.ndarray) -> None:
    """Fill ``out`` [in, out] and ``bias`` [out] with the gradients of weights and bias."""
    over_ranges(lambda begin, end: _weights(begin, end, x, grad, out, bias), grad.shape[1], grain=16)


def inputs(wanted: np.ndarray, weight: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [R, in] with the gradient of the input where it is wanted ([R, in], bool) and zero elsewhere."""
    over_ranges(lambda begin, end: _inputs(begin, end, wanted, weight, grad, out), out.shape[0])
