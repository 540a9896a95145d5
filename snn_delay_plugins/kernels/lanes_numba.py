"""Numbers side by side, added as one: what compilers do not find in loops over as many as a register holds."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["LANES", "add_pairs", "spread_pair"]

LANES = 8
_CONTRACT = ("contract",)  # a product and a sum are one instruction


@intrinsic
def add_pairs(typingctx, total, weights, first, rows, p0, p1, p2, p3):
    """``total[lane] += sum_k weights[first + 2 k] rows[p_k + lane] + weights[first + 2 k + 1] rows[p_k + LANES + lane]``
    for k = 0 ... 3 and every lane; contiguous arrays of one floating type, unchecked."""
    signature = types.void(total, weights, first, rows, p0, p1, p2, p3)

    def codegen(context, builder, signature, args):
        kind = signature.args[0].dtype
        lanes, size = ir.VectorType(context.get_data_type(kind), LANES), kind.bitwidth // 8
        to, of_weights, of_rows = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 1, 3))
        of_weights = builder.gep(of_weights, [args[2]])

        def place(pointer, more=0):
            pointer = builder.gep(pointer, [ir.Constant(ir.IntType(64), more)])
            return builder.bitcast(pointer, lanes.as_pointer())

        def times(k, pointer, more):
            weight = builder.load(builder.gep(of_weights, [ir.Constant(ir.IntType(64), k)]))
            none, whole = ir.Constant(lanes, ir.Undefined), ir.VectorType(ir.IntType(32), LANES)
            one = builder.insert_element(none, weight, ir.Constant(ir.IntType(32), 0))
            every = builder.shuffle_vector(one, none, ir.Constant(whole, [0] * LANES))
            return builder.fmul(every, builder.load(place(pointer, more), align=size), flags=_CONTRACT)

        def plus(a, b):
            return builder.fadd(a, b, flags=_CONTRACT)

        here = there = ir.Constant(lanes, [0.0] * LANES)  # two sums: one would wait for itself
        for k, at in enumerate(args[4:]):
            pointer = builder.gep(of_rows, [at])
            here, there = plus(here, times(2 * k, pointer, 0)), plus(there, times(2 * k + 1, pointer, LANES))
        builder.store(plus(builder.load(place(to), align=size), plus(here, there)), place(to), align=size)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def spread_pair(typingctx, rows, p, weights, first, values, at):
    """``rows[p + lane] += weights[first] values[at + lane]`` and ``rows[p + LANES + lane] += weights[first + 1] values[at +
    lane]`` for every lane; contiguous arrays of one floating type, unchecked."""
    signature = types.void(rows, p, weights, first, values, at)

    def codegen(context, builder, signature, args):
        kind = signature.args[0].dtype
        lanes, size = ir.VectorType(context.get_data_type(kind), LANES), kind.bitwidth // 8
        none, whole = ir.Constant(lanes, ir.Undefined), ir.VectorType(ir.IntType(32), LANES)
        to, of_weights, of_values = (
            builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [args[k + 1]])
            for k in (0, 2, 4)
        )
        spike = builder.load(builder.bitcast(of_values, lanes.as_pointer()), align=size)
        for k in range(2):
            weight = builder.load(builder.gep(of_weights, [ir.Constant(ir.IntType(64), k)]))
            one = builder.insert_element(none, weight, ir.Constant(ir.IntType(32), 0))
            every = builder.shuffle_vector(one, none, ir.Constant(whole, [0] * LANES))
            here = builder.bitcast(builder.gep(to, [ir.Constant(ir.IntType(64), k * LANES)]), lanes.as_pointer())
            added = builder.fmul(every, spike, flags=_CONTRACT)
            builder.store(builder.fadd(builder.load(here, align=size), added, flags=_CONTRACT), here, align=size)
        return context.get_dummy_value()

    return signature, codegen
