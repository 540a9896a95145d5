"""One event and the eight neurons of a block: the polynomials at its eight arrivals, in vector instructions."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from ...vectors import WIDE, data, fused, index, load, pointer, shuffle, store

__all__ = ["evaluate_rows"]

_SIZE = 8  # of a row, and rows: flow.MOMENTS, flow.LANES
_DOUBLES = vectors.vector(ir.DoubleType(), _SIZE)


def _turned(builder: Any, rows: list) -> list:
    """The transpose: number k of row i becomes number i of row k, by one bit of the two numbers after the other."""
    for bit in (1, 2, 4):
        for a in range(_SIZE):
            if not a & bit:
                x, y = rows[a], rows[a | bit]
                rows[a] = shuffle(builder, x, y, [i if not i & bit else _SIZE + i - bit for i in range(_SIZE)])
                rows[a | bit] = shuffle(builder, x, y, [i + bit if not i & bit else _SIZE + i for i in range(_SIZE)])
    return rows


def _row_pointers(context: Any, builder: Any, kinds: tuple, rows: Any, places: Any) -> list:
    """To row places[lane] of each lane."""
    of_rows, of_places = data(context, builder, kinds[0], rows), data(context, builder, kinds[1], places)
    found = []
    for lane in range(_SIZE):
        place = builder.zext(builder.load(builder.gep(of_places, [index(lane)])), WIDE)
        found.append(pointer(builder, of_rows, builder.mul(place, index(_SIZE)), _DOUBLES))
    return found


@intrinsic
def _evaluate_rows(_typing, rows, places, fractions, values, slopes, by_value, by_slope):
    def code(context, builder, signature, arguments):
        pointers = _row_pointers(context, builder, signature.args, *arguments[:2])
        f, *out = (
            pointer(builder, data(context, builder, kind, array), 0, _DOUBLES)
            for kind, array in zip(signature.args[2:], arguments[2:], strict=True)
        )
        f = load(builder, f)
        coefficients = _turned(builder, [load(builder, row) for row in pointers])
        value = slope = coefficients[-1]
        for c in coefficients[-2:0:-1]:
            value = fused(builder, value, f, c)
            slope = fused(builder, slope, f, value)
        value = fused(builder, value, f, coefficients[0])
        missing = builder.fcmp_unordered("uno", value, value)
        zero = vectors.zeros(_DOUBLES)
        for x, here, total in zip((value, slope), out[:2], out[2:], strict=True):
            store(builder, x, here)
            store(builder, builder.fadd(load(builder, total), builder.select(missing, zero, x)), total)
        return builder.zext(builder.bitcast(missing, ir.IntType(_SIZE)), WIDE)

    return types.int64(rows, places, fractions, values, slopes, by_value, by_slope), code


def _evaluate_rows_plain(rows, places, fractions, values, slopes, by_value, by_slope):
    missing = 0
    for lane in range(_SIZE):
        q = rows[_SIZE * int(places[lane]) :][:_SIZE]
        values[lane] = np.polynomial.polynomial.polyval(fractions[lane], q)
        slopes[lane] = np.polynomial.polynomial.polyval(fractions[lane], q[1:] * np.arange(1, _SIZE))
        if np.isnan(values[lane]):
            missing |= 1 << lane
        else:
            by_value[lane] += values[lane]
            by_slope[lane] += slopes[lane]
    return missing


# evaluate_rows(rows, places, fractions, values, slopes, by_value, by_slope): sum_k rows[8 place + k] f^k of every lane and
# its derivative by f, added to by_value and by_slope unless they are NaN; returns the lanes, a bit each, in which they are.
evaluate_rows = _evaluate_rows_plain if config.DISABLE_JIT else _evaluate_rows  # pyright: ignore[reportAttributeAccessIssue] - set as it loads
