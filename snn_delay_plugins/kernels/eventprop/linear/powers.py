"""The eight moments of an arrival, added as one vector of the processor: the compiler takes them one by one."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from .flow import MOMENTS

__all__ = ["add_powers"]

_VECTOR = vectors.vector(ir.DoubleType(), MOMENTS)
_FLAGS = ("contract",)


def _picked(builder, value, which):
    """A vector of ones and, where ``which`` is 1, of the value."""
    ones = ir.Constant(vectors.vector(ir.DoubleType(), 2), [1.0, 1.0])
    both = builder.insert_element(ones, value, ir.Constant(vectors.NARROW, 1))
    return vectors.shuffle(builder, both, both, which)


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
        row = vectors.pointer(builder, vectors.data(context, builder, signature.args[0], array), first, _VECTOR)
        weight = vectors.spread(builder, w, MOMENTS)
        vectors.store(builder, vectors.fused(builder, weight, _powers(builder, f), vectors.load(builder, row)), row)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.float64, types.float64), codegen


def _add_powers_plain(array, first, w, f):
    array[first : first + np.uint64(MOMENTS)] += w * f ** np.arange(MOMENTS)


add_powers = _add_powers_plain if config.DISABLE_JIT else _add_powers  # pyright: ignore[reportAttributeAccessIssue]
