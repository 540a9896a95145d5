"""Numbers side by side, added as one: what compilers do not find in loops over as many as a register holds."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from . import vectors
from .vectors import fused, index, load, pointer, spread, store

__all__ = ["LANES", "add_pairs", "spread_pair"]

LANES = 8


@intrinsic
def add_pairs(typingctx, total, weights, first, rows, p0, p1, p2, p3):
    """``total[lane] += sum_k weights[first + 2 k] rows[p_k + lane] + weights[first + 2 k + 1] rows[p_k + LANES + lane]``
    for k = 0 ... 3 and every lane; contiguous arrays of one floating type, unchecked."""
    signature = types.void(total, weights, first, rows, p0, p1, p2, p3)

    def codegen(context, builder, signature, args):
        lanes = vectors.vector(context.get_data_type(signature.args[0].dtype), LANES)
        total, of_weights, of_rows = (vectors.data(context, builder, signature.args[k], args[k]) for k in (0, 1, 3))
        of_weights, total = builder.gep(of_weights, [args[2]]), pointer(builder, total, 0, lanes)

        def weighted(k, row, onto):
            weight = spread(builder, builder.load(builder.gep(of_weights, [index(k)])), LANES)
            return fused(builder, weight, load(builder, pointer(builder, row, k % 2 * LANES, lanes)), onto)

        here = there = vectors.zeros(lanes)  # two sums: one would wait for itself
        for k, at in enumerate(args[4:]):
            row = builder.gep(of_rows, [at])
            here, there = weighted(2 * k, row, here), weighted(2 * k + 1, row, there)
        store(builder, builder.fadd(load(builder, total), builder.fadd(here, there)), total)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def spread_pair(typingctx, rows, p, weights, first, values, at):
    """``rows[p + lane] += weights[first] values[at + lane]`` and ``rows[p + LANES + lane] += weights[first + 1] values[at +
    lane]`` for every lane; contiguous arrays of one floating type, unchecked."""
    signature = types.void(rows, p, weights, first, values, at)

    def codegen(context, builder, signature, args):
        lanes = vectors.vector(context.get_data_type(signature.args[0].dtype), LANES)
        to, of_weights, of_values = (
            builder.gep(vectors.data(context, builder, signature.args[k], args[k]), [args[k + 1]]) for k in (0, 2, 4)
        )
        spike = load(builder, pointer(builder, of_values, 0, lanes))
        for k in range(2):
            weight = spread(builder, builder.load(builder.gep(of_weights, [index(k)])), LANES)
            here = pointer(builder, to, k * LANES, lanes)
            store(builder, fused(builder, weight, spike, load(builder, here)), here)
        return context.get_dummy_value()

    return signature, codegen
