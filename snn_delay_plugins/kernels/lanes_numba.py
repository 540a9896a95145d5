"""Numbers side by side, added as one: what compilers do not find in loops over as many as a register holds."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import vectors
from .vectors import fused, index, load, pointer, spread, store

__all__ = ["LANES", "WINDOW", "add_pairs", "add_windows", "meet_events", "spread_pair"]

LANES = 8
WINDOW = 8  # steps


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


@intrinsic
def add_windows(typingctx, total, at, weights, rows, places, first, last, shift):
    """``total[at + q] += weights[2 e] rows[p + q] + weights[2 e + 1] rows[p + q + 1]``, p = ``places[e] + shift``, for e =
    ``first`` ... ``last - 1``, q = 0 ... WINDOW - 1 and every lane; total and rows are counted by LANES. Flat, contiguous
    arrays, the floating ones of one type, unchecked."""
    signature = types.void(total, at, weights, rows, places, first, last, shift)

    def codegen(context, builder, signature, args):
        lanes = vectors.vector(context.get_data_type(signature.args[0].dtype), LANES)
        total, of_weights, of_rows, of_places = (
            vectors.data(context, builder, signature.args[k], args[k]) for k in (0, 2, 3, 4)
        )
        begin = builder.mul(args[1], index(LANES))
        sums = [pointer(builder, builder.gep(total, [begin]), q * LANES, lanes) for q in range(WINDOW)]
        held = [cgutils.alloca_once_value(builder, load(builder, one)) for one in sums]  # registers, once compiled
        with cgutils.for_range_slice(builder, args[5], args[6], index(1), vectors.WIDE) as (e, _):
            place = _as_index(builder, builder.load(builder.gep(of_places, [e])))
            row = builder.gep(of_rows, [builder.mul(builder.add(place, args[7]), index(LANES))])
            pair = builder.gep(of_weights, [builder.mul(e, index(2))])
            two = [spread(builder, builder.load(builder.gep(pair, [index(k)])), LANES) for k in range(2)]
            for q in range(WINDOW + 1):
                value = load(builder, pointer(builder, row, q * LANES, lanes))
                for k in range(2):
                    if 0 <= q - k < WINDOW:
                        builder.store(fused(builder, two[k], value, builder.load(held[q - k])), held[q - k])
        for one, to in zip(held, sums, strict=True):
            store(builder, builder.load(one), to)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def meet_events(typingctx, sums, entry, places, shift, rows, times, values, first, last):
    """``sums[2 (entry + n) + c] += sum of values[e, lane] rows[places[entry + n] + shift + times[e] + c, lane]`` over the
    lanes and e = ``first`` ... ``last - 1``, for n = 0 ... 3 and c = 0, 1. ``sums`` is double; what is added to it is
    summed in the type of ``values`` and ``rows``. Flat, contiguous arrays, unchecked."""
    signature = types.void(sums, entry, places, shift, rows, times, values, first, last)

    def codegen(context, builder, signature, args):
        lanes = vectors.vector(context.get_data_type(signature.args[6].dtype), LANES)
        of_sums, of_places, of_rows, of_times, of_values = (
            vectors.data(context, builder, signature.args[k], args[k]) for k in (0, 2, 4, 5, 6)
        )
        starts = []
        for n in range(4):
            place = _as_index(builder, builder.load(builder.gep(of_places, [builder.add(args[1], index(n))])))
            starts.append(builder.gep(of_rows, [builder.mul(builder.add(place, args[3]), index(LANES))]))
        held = [cgutils.alloca_once_value(builder, vectors.zeros(lanes)) for _ in range(8)]
        with cgutils.for_range_slice(builder, args[7], args[8], index(1), vectors.WIDE) as (e, _):
            time = _as_index(builder, builder.load(builder.gep(of_times, [e])))
            value = load(builder, pointer(builder, of_values, builder.mul(e, index(LANES)), lanes))
            for n in range(4):
                row = builder.gep(starts[n], [builder.mul(time, index(LANES))])
                for c in range(2):
                    here = load(builder, pointer(builder, row, c * LANES, lanes))
                    to = held[2 * n + c]
                    builder.store(fused(builder, value, here, builder.load(to)), to)
        for k in range(8):
            at = builder.gep(of_sums, [builder.add(builder.mul(args[1], index(2)), index(k))])
            builder.store(builder.fadd(builder.load(at), vectors.total(builder, builder.load(held[k]))), at)
        return context.get_dummy_value()

    return signature, codegen


def _as_index(builder, value):
    return value if value.type == vectors.WIDE else builder.sext(value, vectors.WIDE)
