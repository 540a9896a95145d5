"""One event and the eight neurons of a block: the polynomials at its eight arrivals, in vector instructions.

LLVM's vectoriser of straight-line code is off in numba: compiled loops would take one number after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

__all__ = ["evaluate_rows"]

_SIZE = 8  # of a row, and rows: flow.MOMENTS, flow.LANES
_DOUBLES = ir.VectorType(ir.DoubleType(), _SIZE)
_WIDE, _NARROW = ir.IntType(64), ir.IntType(32)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_NARROW, _SIZE), order))


def _turned(builder: Any, rows: list) -> list:
    """The transpose: number k of row i becomes number i of row k, by one bit of the two numbers after the other."""
    for bit in (1, 2, 4):
        for a in range(_SIZE):
            if not a & bit:
                x, y = rows[a], rows[a | bit]
                rows[a] = _shuffle(builder, x, y, [i if not i & bit else _SIZE + i - bit for i in range(_SIZE)])
                rows[a | bit] = _shuffle(builder, x, y, [i + bit if not i & bit else _SIZE + i for i in range(_SIZE)])
    return rows


def _vector_at(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return builder.bitcast(context.make_array(kind)(context, builder, array).data, _DOUBLES.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    value = builder.load(pointer)
    value.align = 8
    return value


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, pointer).align = 8


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    of_three = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
    return builder.call(builder.module.declare_intrinsic(f"llvm.fmuladd.v{_SIZE}f64", (), of_three), [a, b, c])


def _element_pointers(context: Any, builder: Any, kind: Any, array: Any) -> list:
    data = context.make_array(kind)(context, builder, array).data
    return [builder.gep(data, [ir.Constant(_WIDE, lane)]) for lane in range(_SIZE)]


def _row_pointers(context: Any, builder: Any, kinds: tuple, rows: Any, places: Any) -> list:
    """To row places[lane] of each lane."""
    data = context.make_array(kinds[0])(context, builder, rows).data
    found = []
    for of_lane in _element_pointers(context, builder, kinds[1], places):
        first = builder.mul(builder.zext(builder.load(of_lane), _WIDE), ir.Constant(_WIDE, _SIZE))
        found.append(builder.bitcast(builder.gep(data, [first]), _DOUBLES.as_pointer()))
    return found


@intrinsic
def _evaluate_rows(_typing, rows, places, fractions, values, slopes, by_value, by_slope):
    def code(context, builder, signature, arguments):
        pointers = _row_pointers(context, builder, signature.args, *arguments[:2])
        at, *out = (
            _vector_at(context, builder, kind, array) for kind, array in zip(signature.args[2:], arguments[2:], strict=True)
        )
        f = _load(builder, at)
        coefficients = _turned(builder, [_load(builder, pointer) for pointer in pointers])
        value = slope = coefficients[-1]
        for c in coefficients[-2:0:-1]:
            value = _fused(builder, value, f, c)
            slope = _fused(builder, slope, f, value)
        value = _fused(builder, value, f, coefficients[0])
        missing = builder.fcmp_unordered("uno", value, value)
        zero = ir.Constant(_DOUBLES, [0.0] * _SIZE)
        for x, pointer, total in zip((value, slope), out[:2], out[2:], strict=True):
            _store(builder, x, pointer)
            _store(builder, builder.fadd(_load(builder, total), builder.select(missing, zero, x)), total)
        return builder.zext(builder.bitcast(missing, ir.IntType(_SIZE)), _WIDE)

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
