"""The eight moments of an arrival, added as one vector of the processor: the compiler takes them one by one.

These are LLVM's own vector operations, which it breaks up where a processor's vectors are shorter.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .flow import MOMENTS

__all__ = ["add_powers"]

_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, MOMENTS)
_INDEX = ir.IntType(32)
_FLAGS = ("contract",)


def _row(context, builder, array_type, array, first):
    """Pointer to the eight numbers that begin at ``first``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [first]), _VECTOR.as_pointer())


def _picked(builder, value, which):
    """A vector of ones and, where ``which`` is 1, of the value."""
    both = builder.insert_element(ir.Constant(ir.VectorType(_DOUBLE, 2), [1.0, 1.0]), value, ir.Constant(_INDEX, 1))
    return builder.shuffle_vector(both, both, ir.Constant(ir.VectorType(_INDEX, MOMENTS), which))


def _powers(builder, f):
    """(1, f, .. f^7)."""
    g = builder.fmul(f, f, flags=_FLAGS)
    h = builder.fmul(g, g, flags=_FLAGS)
    first, second, third = (
        _picked(builder, value, [k >> bit & 1 for k in range(MOMENTS)]) for bit, value in enumerate((f, g, h))
    )
    return builder.fmul(builder.fmul(first, second, flags=_FLAGS), third, flags=_FLAGS)


@intrinsic
def _add_powers(_context, array, first, w, f):
    """array[first + k] += w f^k for k < 8."""

    def codegen(context, builder, signature, arguments):
        array, first, w, f = arguments
        row = _row(context, builder, signature.args[0], array, first)
        added = builder.fmul(_picked(builder, w, [1] * MOMENTS), _powers(builder, f), flags=_FLAGS)
        total = builder.fadd(builder.load(row, align=8), added, flags=_FLAGS)
        builder.store(total, row, align=8)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.float64, types.float64), codegen


def _add_powers_plain(array, first, w, f):
    array[first : first + np.uint64(MOMENTS)] += w * f ** np.arange(MOMENTS)


add_powers = _add_powers_plain if config.DISABLE_JIT else _add_powers  # pyright: ignore[reportAttributeAccessIssue]
