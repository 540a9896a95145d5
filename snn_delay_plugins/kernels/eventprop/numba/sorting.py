"""Sorting spikes and the arrivals of a step by time."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from ...compiled import njit
from ...vectors import NARROW, WIDE, data, load, pointer
from .flow import OPTIONS
from .tables import by_unit

__all__ = ["in_order", "sort_by_time", "sort_eight", "sort_pairs"]

_EIGHT = vectors.vector(ir.DoubleType(), 8)


@intrinsic
def _sort_eight(_typing, s, w):
    def code(context, builder, signature, arguments):
        times, weights = (data(context, builder, kind, at) for kind, at in zip(signature.args, arguments, strict=True))
        keys, values = (load(builder, pointer(builder, first, 0, _EIGHT)) for first in (times, weights))
        popcount = builder.module.declare_intrinsic("llvm.ctpop", (ir.IntType(8),))
        for lane in range(8):
            key, value = (builder.extract_element(of, ir.Constant(NARROW, lane)) for of in (keys, values))
            here = vectors.spread(builder, key, 8)
            less = builder.bitcast(builder.fcmp_ordered("<", keys, here), ir.IntType(8))
            same = builder.bitcast(builder.fcmp_ordered("==", keys, here), ir.IntType(8))
            earlier = builder.and_(same, ir.Constant(ir.IntType(8), (1 << lane) - 1))
            rank = builder.zext(builder.call(popcount, [builder.or_(less, earlier)]), WIDE)
            builder.store(key, builder.gep(times, [rank]))
            builder.store(value, builder.gep(weights, [rank]))
        return context.get_dummy_value()

    return types.void(s, w), code


def _sort_eight_plain(s, w):
    order = np.argsort(s[:8], kind="stable")
    s[:8], w[:8] = s[order], w[order]


# sort_eight(s, w): the first eight pairs by s, none of them NaN, stably. Each is written where as many of the others are
# smaller: no branches, of which sorting otherwise consists, and which hang on chance.
sort_eight = _sort_eight_plain if config.DISABLE_JIT else _sort_eight  # pyright: ignore


@njit(**OPTIONS)
def _order_of(t, lo, hi):
    """The stable order of t[lo:hi], by merging (NumPy's own sort takes ten times as long to compile)."""
    n = hi - lo
    order, spare = np.arange(n), np.empty(n, np.int64)
    width = 1
    while width < n:
        for start in range(0, n, 2 * width):
            a, middle, stop = start, min(start + width, n), min(start + 2 * width, n)
            b = middle
            for c in range(start, stop):
                if b >= stop or (a < middle and t[lo + order[a]] <= t[lo + order[b]]):
                    spare[c] = order[a]
                    a += 1
                else:
                    spare[c] = order[b]
                    b += 1
        order, spare = spare, order
        width *= 2
    return order


@njit(**OPTIONS)
def sort_by_time(out, lo, hi):
    """Sort columns lo..hi-1 by their first row, stably."""
    order = _order_of(out[0], lo, hi)
    column = np.empty(hi - lo)
    for row in range(out.shape[0]):
        for c in range(hi - lo):
            column[c] = out[row, lo + order[c]]
        for c in range(hi - lo):
            out[row, lo + c] = column[c]


@njit(**OPTIONS)
def in_order(found, samples):
    """Columns (time, unit, slope, sample) by sample and time: offsets [N + 1], rows (time, unit, slope)."""
    order, offsets = by_unit(found[3].astype(np.int64), 0, found.shape[1], samples)
    out = np.empty((3, found.shape[1]))
    for row in range(3):
        for c in range(found.shape[1]):
            out[row, c] = found[row, order[c]]
    for b in range(samples):
        sort_by_time(out, offsets[b], offsets[b + 1])
    return offsets, out


@njit(**OPTIONS)
def sort_pairs(s, w, m):
    """Sort the first m arrivals by time, stably. Up to eight: also writes behind them."""
    if m <= 8 <= s.size:
        s[m:8] = np.inf
        sort_eight(s, w)
        return
    if m <= 48:
        for a in range(1, m):
            x, y = s[a], w[a]
            c = a - 1
            while c >= 0 and s[c] > x:
                s[c + 1], w[c + 1] = s[c], w[c]
                c -= 1
            s[c + 1], w[c + 1] = x, y
        return
    order = _order_of(s, 0, m)
    x, y = np.empty(m), np.empty(m)
    for a in range(m):
        x[a], y[a] = s[order[a]], w[order[a]]
    for a in range(m):
        s[a], w[a] = x[a], y[a]
