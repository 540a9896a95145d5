"""The eight moments of a step's arrivals as one vector of the processor: the compiler takes them one by one."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from .flow import MOMENTS, STATES

__all__ = ["add_powers", "moments_by_states", "states_by_moments"]

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


def _states_of(builder, first):
    """The eight numbers of every state, of an array [3, 8]."""
    return [vectors.load(builder, vectors.pointer(builder, first, MOMENTS * k, _VECTOR)) for k in range(STATES)]


def _sum(builder, x):
    """Of the eight numbers of a vector, by halves."""
    size = MOMENTS
    while size > 1:
        size //= 2
        low, high = (vectors.shuffle(builder, x, x, [k + start for k in range(size)]) for start in (0, size))
        x = builder.fadd(low, high)
    return builder.extract_element(x, ir.Constant(vectors.NARROW, 0))


@intrinsic
def _states_by_moments(_context, c, bucket, first):
    kind = types.UniTuple(types.float64, STATES)

    def codegen(context, builder, signature, arguments):
        states, moments = (
            vectors.data(context, builder, k, x) for k, x in zip(signature.args[:2], arguments[:2], strict=True)
        )
        row = vectors.load(builder, vectors.pointer(builder, moments, arguments[2], _VECTOR))
        sums = [_sum(builder, builder.fmul(of, row)) for of in _states_of(builder, states)]
        return context.make_tuple(builder, kind, sums)

    return kind(c, bucket, types.uint64), codegen


@intrinsic
def _moments_by_states(_context, c, p0, p1, p2, row, first):
    def codegen(context, builder, signature, arguments):
        states = _states_of(builder, vectors.data(context, builder, signature.args[0], arguments[0]))
        p = [vectors.spread(builder, x, MOMENTS) for x in arguments[1:4]]
        total = builder.fmul(states[0], p[0])
        for of, x in zip(states[1:], p[1:], strict=True):
            total = vectors.fused(builder, of, x, total)
        array = vectors.data(context, builder, signature.args[4], arguments[4])
        vectors.store(builder, total, vectors.pointer(builder, array, arguments[5], _VECTOR))
        return context.get_dummy_value()

    number = types.float64
    return types.void(c, number, number, number, row, types.uint64), codegen


def _states_by_moments_plain(c, bucket, first):
    return tuple(c @ bucket[first : first + np.uint64(MOMENTS)])


def _moments_by_states_plain(c, p0, p1, p2, row, first):
    row[first : first + np.uint64(MOMENTS)] = p0 * c[0] + p1 * c[1] + p2 * c[2]


# states_by_moments(c, bucket, first): the three sums over k of c[:, k] bucket[first + k].
# moments_by_states(c, p0, p1, p2, row, first): row[first + k] = c[:, k] . p for k < 8.
states_by_moments = _states_by_moments_plain if config.DISABLE_JIT else _states_by_moments  # pyright: ignore
moments_by_states = _moments_by_states_plain if config.DISABLE_JIT else _moments_by_states  # pyright: ignore
add_powers = _add_powers_plain if config.DISABLE_JIT else _add_powers  # pyright: ignore[reportAttributeAccessIssue]
