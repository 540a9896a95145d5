"""What the neurons of one sample say to each other, inside the kernels of :mod:`.triton`.

Synapses lie in ``layers`` planes from all to all (one, unless a pair of neurons has several synapses), each with a lag and
``width`` taps a pair. A spike visits its receivers alone; in the backward pass a neuron visits its receivers where
its surrogate is not zero.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def send(s, total, taps, lags, senders, n, f, inside, t, steps, columns, features, layers, width):
    """Add the taps of those that fire in step t, ``s``, to the currents of their receivers in steps t + 1 + lag and later.

    ``taps`` [layers, width, senders, receivers], ``lags`` [layers, senders, receivers]; ``senders``: room for a list.
    """
    fires = inside & (s != 0)
    counted = fires.to(tl.int32)
    tl.store(senders + n * features + tl.cumsum(counted, 0) - 1, f, fires)
    count = tl.sum(counted, 0)
    tl.debug_barrier()  # the list is there
    for a in range(count):
        j = tl.load(senders + n * features + a).to(tl.int64)
        for layer in range(layers):
            row = t + 1 + tl.load(lags + (layer * features + j) * features + f, inside, 0)
            at = total + row.to(tl.int64) * columns + n * features + f
            for m in range(width):
                there = inside & (row < steps)
                tap = tl.load(taps + ((layer * width + m) * features + j) * features + f, there, 0)
                tl.store(at, tl.load(at, there, 0) + tap, there)
                row += 1
                at += columns
    tl.debug_barrier()  # the currents are there


@triton.jit
def met(g_total, taps, lags, n, f, wanted, t, steps, columns, features, layers, width):
    """What a spike of step t would meet of the gradients of the currents, for the senders that are ``wanted``.

    ``taps`` [layers, width, receivers, senders], ``lags`` [layers, receivers, senders].
    """
    found = tl.zeros(f.shape, g_total.dtype.element_ty)
    for i in range(features):
        for layer in range(layers):
            row = t + 1 + tl.load(lags + (layer * features + i) * features + f, wanted, 0)
            at = g_total + row.to(tl.int64) * columns + n * features + i
            for m in range(width):
                there = wanted & (row < steps)
                tap = tl.load(taps + ((layer * width + m) * features + i) * features + f, there, 0)
                found += tap * tl.load(at, there, 0)
                row += 1
                at += columns
    return found
