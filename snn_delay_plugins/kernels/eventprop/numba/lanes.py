"""One event and the eight neurons of a block, in vector instructions: what they receive, and what they send back.

The pairs (I, V) or (p_V, p_I) of the eight lie in eight places; LLVM's vectoriser of straight-line code is off in numba, so
that loops over them would take one number after the other. ``mixed`` is what both directions compute of a pair (x, y) and
the event's factors: (k x, m y + l x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .flow import LANES

__all__ = ["add_pairs", "gather_pairs"]

_WIDE, _NARROW, _DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()
_PAIR, _FOUR_PAIRS = ir.VectorType(_DOUBLE, 2), ir.VectorType(_DOUBLE, 8)
_INDICES = ir.VectorType(_WIDE, LANES)
_HALVES = (0, 4)  # four pairs fill a vector


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_NARROW, len(order)), order))


def _repeated(builder: Any, *numbers: Any) -> Any:
    """A vector of two numbers, again and again."""
    pair = ir.Constant(_PAIR, [0.0, 0.0])
    for k, number in enumerate(numbers):
        pair = builder.insert_element(pair, number, ir.Constant(_NARROW, k))
    return _shuffle(builder, pair, pair, [0, 1] * 4)


def _rows(builder: Any, where: Any, x: Any) -> list:
    """(x + where) >> 32 of the eight lanes."""
    first = builder.insert_element(ir.Constant(_INDICES, ir.Undefined), x, ir.Constant(_NARROW, 0))
    every = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_NARROW, LANES), [0] * LANES))
    here = builder.load(builder.bitcast(where, _INDICES.as_pointer()), align=8)
    rows = builder.lshr(builder.add(here, every), ir.Constant(_INDICES, [32] * LANES))
    return [builder.extract_element(rows, ir.Constant(_NARROW, lane)) for lane in range(LANES)]


def _pair_pointers(builder: Any, data: Any, rows: list) -> list:
    """To the numbers 2 r and 2 r + 1."""
    one = ir.Constant(_WIDE, 1)
    return [builder.bitcast(builder.gep(data, [builder.shl(r, one)]), _PAIR.as_pointer()) for r in rows]


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    of_three = ir.FunctionType(_FOUR_PAIRS, [_FOUR_PAIRS] * 3)
    return builder.call(builder.module.declare_intrinsic("llvm.fmuladd.v8f64", (), of_three), [a, b, c])


def _mixed(builder: Any, pairs: Any, factors: Any, across: Any, onto: Any) -> Any:
    """onto + (k x, m y + l x) of the pairs (x, y); factors: (k, m), across: (0, l)."""
    first = _shuffle(builder, pairs, pairs, [0, 0, 2, 2, 4, 4, 6, 6])
    return _fused(builder, first, across, _fused(builder, pairs, factors, onto))


def _vectors(builder: Any, data: Any) -> list:
    return [
        builder.bitcast(builder.gep(data, [ir.Constant(_WIDE, 2 * half)]), _FOUR_PAIRS.as_pointer()) for half in _HALVES
    ]


@intrinsic
def _add_pairs(_typing, bucket, head, x, where, pairs, k, m, across, links, name):
    def code(context, builder, signature, arguments):
        kinds = signature.args
        bucket_data, head_data = (_data(context, builder, kinds[i], arguments[i]) for i in (0, 1))
        links_data = _data(context, builder, kinds[8], arguments[8])
        rows = _rows(builder, _data(context, builder, kinds[3], arguments[3]), arguments[2])
        k, m, across = arguments[5:8]
        factors, across = _repeated(builder, k, m), _repeated(builder, ir.Constant(_DOUBLE, 0.0), across)
        pointers, added, none = _pair_pointers(builder, bucket_data, rows), [], ir.Constant(_FOUR_PAIRS, [0.0] * 8)
        for vector in _vectors(builder, _data(context, builder, kinds[4], arguments[4])):
            four = _mixed(builder, builder.load(vector, align=8), factors, across, none)
            added += [_shuffle(builder, four, four, [2 * i, 2 * i + 1]) for i in range(4)]
        for lane, (pointer, pair, row) in enumerate(zip(pointers, added, rows, strict=True)):
            builder.store(builder.fadd(builder.load(pointer, align=8), pair), pointer, align=8)
            first = builder.gep(head_data, [row])
            builder.store(builder.load(first), builder.gep(links_data, [ir.Constant(_WIDE, lane)]))
            builder.store(arguments[9], first)
        return context.get_dummy_value()

    number = types.float64
    return types.void(bucket, head, types.int64, where, pairs, number, number, number, links, types.int32), code


@intrinsic
def _gather_pairs(_typing, pairs, x, where, k, m, across, total):
    def code(context, builder, signature, arguments):
        kinds = signature.args
        rows = _rows(builder, _data(context, builder, kinds[2], arguments[2]), arguments[1])
        k, m, across = arguments[3:6]
        factors, across = _repeated(builder, k, m), _repeated(builder, ir.Constant(_DOUBLE, 0.0), across)
        read = [
            builder.load(at, align=8)
            for at in _pair_pointers(builder, _data(context, builder, kinds[0], arguments[0]), rows)
        ]
        none, missing = ir.Constant(_FOUR_PAIRS, [0.0] * 8), ir.Constant(_WIDE, 0)
        totals = _vectors(builder, _data(context, builder, kinds[6], arguments[6]))
        for half, total_at in zip(_HALVES, totals, strict=True):
            a, b = (_shuffle(builder, read[half + i], read[half + i + 1], [0, 1, 2, 3]) for i in (0, 2))
            four = _shuffle(builder, a, b, list(range(8)))
            first = _shuffle(builder, four, four, [0, 0, 2, 2, 4, 4, 6, 6])
            lacking = builder.fcmp_unordered("uno", first, first)
            four = builder.select(lacking, none, four)
            builder.store(_mixed(builder, four, factors, across, builder.load(total_at, align=8)), total_at, align=8)
            bits = builder.zext(builder.bitcast(lacking, ir.IntType(8)), _WIDE)
            missing = builder.or_(missing, builder.shl(bits, ir.Constant(_WIDE, 2 * half)))
        return missing

    number = types.float64
    return types.int64(pairs, types.int64, where, number, number, number, total), code


def _add_pairs_plain(bucket, head, x, where, pairs, k, m, across, links, name):
    for lane in range(LANES):
        r = int(x + where[lane]) >> 32
        bucket[2 * r] += k * pairs[2 * lane]
        bucket[2 * r + 1] += m * pairs[2 * lane + 1] + across * pairs[2 * lane]
        links[lane], head[r] = head[r], name


def _gather_pairs_plain(pairs, x, where, k, m, across, total):
    missing = 0
    for lane in range(LANES):
        r = int(x + where[lane]) >> 32
        v, q = pairs[2 * r], pairs[2 * r + 1]
        if np.isnan(v):
            missing |= 3 << 2 * lane
        else:
            total[2 * lane] += k * v
            total[2 * lane + 1] += m * q + across * v
    return missing


# add_pairs(bucket, head, x, where, pairs, k, m, across, links, name): for every lane, to the pair of row
# (x + where) >> 32 of the bucket what is mixed of its pair; and ``name`` becomes the head of the row's chain, the former
# one goes to links. The rows of two lanes differ.
# gather_pairs(pairs, x, where, k, m, across, total): adds what is mixed of the pairs of these rows to total, but for those
# that begin with NaN; returns their lanes, two bits each.
add_pairs = _add_pairs_plain if config.DISABLE_JIT else _add_pairs  # pyright: ignore
gather_pairs = _gather_pairs_plain if config.DISABLE_JIT else _gather_pairs  # pyright: ignore
