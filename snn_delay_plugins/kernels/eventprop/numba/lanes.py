"""One event and the eight neurons of a block, in vector instructions: what they receive, and what they send back.

The pairs (I, V) or (p_V, p_I) of the eight lie in eight places. ``mixed`` is what both directions compute of a pair (x, y)
and the event's factors: (k x, m y + l x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from ...vectors import NARROW, WIDE, data, fused, index, load, pointer, shuffle, store
from .flow import LANES

__all__ = ["gather_pairs", "lowest_bit", "scatter_pairs"]

_DOUBLE = ir.DoubleType()
_PAIR, _FOUR_PAIRS, _PLACES = vectors.vector(_DOUBLE, 2), vectors.vector(_DOUBLE, 8), vectors.vector(WIDE, LANES)
_HALVES = (0, 4)  # four pairs fill a vector


def _repeated(builder: Any, *numbers: Any) -> Any:
    """A vector of two numbers, again and again."""
    pair = vectors.zeros(_PAIR)
    for k, value in enumerate(numbers):
        pair = builder.insert_element(pair, value, ir.Constant(NARROW, k))
    return shuffle(builder, pair, pair, [0, 1] * 4)


def _rows(builder: Any, where: Any, x: Any) -> list:
    """The first place of row (x + where) >> 32, for the eight lanes."""
    here = load(builder, pointer(builder, where, 0, _PLACES))
    rows = builder.lshr(builder.add(here, vectors.spread(builder, x, LANES)), ir.Constant(_PLACES, [32] * LANES))
    places = builder.mul(rows, ir.Constant(_PLACES, [LANES] * LANES))
    return [builder.extract_element(places, ir.Constant(NARROW, lane)) for lane in range(LANES)]


def _pair_pointers(builder: Any, first: Any, rows: list) -> list:
    """To the pair of every lane in its row."""
    starts = [builder.gep(first, [builder.shl(row, index(1))]) for row in rows]
    return [pointer(builder, start, 2 * lane, _PAIR) for lane, start in enumerate(starts)]


def _mixed(builder: Any, pairs: Any, factors: Any, across: Any, onto: Any) -> Any:
    """onto + (k x, m y + l x) of the pairs (x, y); factors: (k, m), across: (0, l)."""
    first = shuffle(builder, pairs, pairs, [0, 0, 2, 2, 4, 4, 6, 6])
    return fused(builder, first, across, fused(builder, pairs, factors, onto))


def _vectors(builder: Any, first: Any) -> list:
    return [pointer(builder, first, 2 * half, _FOUR_PAIRS) for half in _HALVES]


@intrinsic
def _scatter_pairs(_typing, bucket, head, x, where, pairs, k, m, across, links, name):
    def code(context, builder, signature, arguments):
        kinds = signature.args
        bucket_data, head_data = (data(context, builder, kinds[i], arguments[i]) for i in (0, 1))
        links_data = data(context, builder, kinds[8], arguments[8])
        rows = _rows(builder, data(context, builder, kinds[3], arguments[3]), arguments[2])
        k, m, across = arguments[5:8]
        factors, across = _repeated(builder, k, m), _repeated(builder, ir.Constant(_DOUBLE, 0.0), across)
        pointers, added, none = _pair_pointers(builder, bucket_data, rows), [], vectors.zeros(_FOUR_PAIRS)
        for vector in _vectors(builder, data(context, builder, kinds[4], arguments[4])):
            four = _mixed(builder, load(builder, vector), factors, across, none)
            added += [shuffle(builder, four, four, [2 * i, 2 * i + 1]) for i in range(4)]
        for lane, (here, pair, row) in enumerate(zip(pointers, added, rows, strict=True)):
            store(builder, builder.fadd(load(builder, here), pair), here)
            first = builder.gep(builder.gep(head_data, [row]), [index(lane)])
            builder.store(builder.load(first), builder.gep(links_data, [index(lane)]))
            builder.store(arguments[9], first)
        return context.get_dummy_value()

    number = types.float64
    return types.void(bucket, head, types.int64, where, pairs, number, number, number, links, types.int32), code


@intrinsic
def _lowest_bit(_typing, bits):
    def code(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), code


@intrinsic
def _gather_pairs(_typing, pairs, x, where, k, m, across, total):
    def code(context, builder, signature, arguments):
        kinds = signature.args
        rows = _rows(builder, data(context, builder, kinds[2], arguments[2]), arguments[1])
        k, m, across = arguments[3:6]
        factors, across = _repeated(builder, k, m), _repeated(builder, ir.Constant(_DOUBLE, 0.0), across)
        read = [load(builder, at) for at in _pair_pointers(builder, data(context, builder, kinds[0], arguments[0]), rows)]
        none, missing = vectors.zeros(_FOUR_PAIRS), index(0)
        totals = _vectors(builder, data(context, builder, kinds[6], arguments[6]))
        for half, total_at in zip(_HALVES, totals, strict=True):
            a, b = (shuffle(builder, read[half + i], read[half + i + 1], [0, 1, 2, 3]) for i in (0, 2))
            four = shuffle(builder, a, b, list(range(8)))
            first = shuffle(builder, four, four, [0, 0, 2, 2, 4, 4, 6, 6])
            lacking = builder.fcmp_unordered("uno", first, first)
            four = builder.select(lacking, none, four)
            store(builder, _mixed(builder, four, factors, across, load(builder, total_at)), total_at)
            lacking = shuffle(builder, lacking, lacking, [0, 2, 4, 6])
            bits = builder.zext(builder.bitcast(lacking, ir.IntType(4)), WIDE)
            missing = builder.or_(missing, builder.shl(bits, index(half)))
        return missing

    number = types.float64
    return types.int64(pairs, types.int64, where, number, number, number, total), code


def _scatter_pairs_plain(bucket, head, x, where, pairs, k, m, across, links, name):
    for lane in range(LANES):
        r = (int(x + where[lane]) >> 32) * LANES + lane
        bucket[2 * r] += k * pairs[2 * lane]
        bucket[2 * r + 1] += m * pairs[2 * lane + 1] + across * pairs[2 * lane]
        links[lane], head[r] = head[r], name


def _gather_pairs_plain(pairs, x, where, k, m, across, total):
    missing = 0
    for lane in range(LANES):
        r = (int(x + where[lane]) >> 32) * LANES + lane
        v, q = pairs[2 * r], pairs[2 * r + 1]
        if np.isnan(v):
            missing |= 1 << lane
        else:
            total[2 * lane] += k * v
            total[2 * lane + 1] += m * q + across * v
    return missing


def _lowest_bit_plain(bits):
    bits = int(bits)
    return (bits & -bits).bit_length() - 1


# lowest_bit(bits): which is the lowest bit that is set, of bits that are not zero.
# scatter_pairs(bucket, head, x, where, pairs, k, m, across, links, name): for every lane, to its pair in row
# (x + where) >> 32 of the bucket what is mixed of its pair; and ``name`` becomes the head of the chain there, the former
# one goes to links.
# gather_pairs(pairs, x, where, k, m, across, total): adds what is mixed of the pairs of these rows to total, but for those
# that begin with NaN; returns their lanes, a bit each.
scatter_pairs = _scatter_pairs_plain if config.DISABLE_JIT else _scatter_pairs  # pyright: ignore
lowest_bit = _lowest_bit_plain if config.DISABLE_JIT else _lowest_bit  # pyright: ignore
gather_pairs = _gather_pairs_plain if config.DISABLE_JIT else _gather_pairs  # pyright: ignore
