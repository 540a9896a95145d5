"""One step of the eight neurons of a block, spikes left out, in vector instructions: forwards and backwards.

state and p hold the first variable of the eight and then the second, [2 L]. A row of buckets, or of p, holds the pairs of
the eight side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ... import vectors
from ...compiled import njit
from ...vectors import WIDE, data, fused, index, load, pointer, shuffle, store
from .flow import LANES, OPTIONS, propagator

__all__ = ["advance_lanes", "step_constants", "step_lanes_back"]

_EIGHT = vectors.vector(ir.DoubleType(), LANES)
_EM, _K, _ES, _BACK_M, _BACK_K, _BACK_S, _RATE, _THETA, _LOW = range(9)


@njit(**OPTIONS)
def step_constants(dt, tm, ts, theta):
    """What a step of LANES neurons needs: P(dt), P(-dt), dt / tau_m, theta and theta but for rounding."""
    em, k, es = propagator(dt, tm, ts)
    back_m, back_k, back_s = propagator(-dt, tm, ts)
    return np.array([em, k, es, back_m, back_k, back_s, dt / tm, theta, theta * (1 - 1e-9)])


def _number(builder: Any, constants: Any, which: int) -> Any:
    """One of step_constants, in every lane."""
    return vectors.spread(builder, builder.load(builder.gep(constants, [index(which)])), LANES)


def _row(builder: Any, first: Any, place: Any) -> tuple[Any, Any]:
    """The pairs of a row: the first numbers of the eight, and the second."""
    at = builder.shl(place, index(1))
    a, b = (load(builder, pointer(builder, first, builder.add(at, index(more)), _EIGHT)) for more in (0, LANES))
    return tuple(shuffle(builder, a, b, list(range(k, 2 * LANES, 2))) for k in (0, 1))


def _store_row(builder: Any, x: Any, y: Any, first: Any, place: Any) -> None:
    at, mixed = builder.shl(place, index(1)), [lane + LANES * second for lane in range(LANES) for second in (0, 1)]
    for more in (0, LANES):
        here = pointer(builder, first, builder.add(at, index(more)), _EIGHT)
        store(builder, shuffle(builder, x, y, mixed[more : more + LANES]), here)


def _positive(builder: Any, x: Any) -> Any:
    """x where x > 0, else 0, also for no number."""
    none = vectors.zeros(_EIGHT)
    return builder.select(builder.fcmp_ordered(">", x, none), x, none)


@intrinsic
def _advance_lanes(_typing, bucket, inhibition, place, state, before, constants):
    def code(context, builder, signature, arguments):
        arrays = {name: data(context, builder, signature.args[i], arguments[i]) for name, i in _ARGUMENTS}
        place, number = arguments[2], lambda which: _number(builder, arrays["constants"], which)
        v, i = (load(builder, pointer(builder, arrays["state"], more, _EIGHT)) for more in (0, LANES))
        store(builder, v, pointer(builder, arrays["before"], 0, _EIGHT))
        store(builder, i, pointer(builder, arrays["before"], LANES, _EIGHT))
        next_row = builder.add(place, index(LANES))
        di, dv = _row(builder, arrays["bucket"], place)
        di2, dv2 = _row(builder, arrays["bucket"], next_row)
        dv = fused(builder, number(_BACK_M), dv2, fused(builder, number(_BACK_K), di2, dv))
        di = fused(builder, number(_BACK_S), di2, di)
        negative = [load(builder, pointer(builder, arrays["inhibition"], at, _EIGHT)) for at in (place, next_row)]
        down = builder.fadd(*negative)
        v2 = fused(builder, number(_EM), v, fused(builder, number(_K), i, dv))
        i2 = builder.fmul(number(_ES), i)
        store(builder, v2, pointer(builder, arrays["state"], 0, _EIGHT))
        store(builder, builder.fadd(i2, di), pointer(builder, arrays["state"], LANES, _EIGHT))
        high = fused(builder, builder.fadd(di, down), number(_BACK_S), _positive(builder, i))
        a = _positive(builder, builder.fmul(builder.fsub(high, v), number(_RATE)))
        least = builder.select(builder.fcmp_ordered("<", i2, i), i2, i)
        c = builder.fsub(builder.fadd(number(_THETA), down), least)
        c = _positive(builder, builder.fmul(c, number(_RATE)))
        low = number(_LOW)
        needed = fused(builder, builder.fsub(low, v), c, builder.fmul(builder.fsub(low, v2), a))
        may = builder.fcmp_ordered("<=", needed, builder.fmul(a, c))
        return builder.zext(builder.bitcast(may, ir.IntType(LANES)), WIDE)

    return types.int64(bucket, inhibition, types.int64, state, before, constants), code


_ARGUMENTS = (("bucket", 0), ("inhibition", 1), ("state", 3), ("before", 4), ("constants", 5))


@intrinsic
def _step_lanes_back(_typing, rows, place, p, constants):
    def code(context, builder, signature, arguments):
        rows, p, constants = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3))
        place, number = arguments[1], lambda which: _number(builder, constants, which)
        v, q = (load(builder, pointer(builder, p, more, _EIGHT)) for more in (0, LANES))
        _store_row(builder, v, q, rows, place)
        second = fused(builder, number(_BACK_K), v, builder.fmul(number(_BACK_S), q))
        _store_row(builder, builder.fmul(number(_BACK_M), v), second, rows, builder.add(place, index(LANES)))
        q = fused(builder, number(_K), v, builder.fmul(number(_ES), q))
        store(builder, builder.fmul(number(_EM), v), pointer(builder, p, 0, _EIGHT))
        store(builder, q, pointer(builder, p, LANES, _EIGHT))
        return context.get_dummy_value()

    return types.void(rows, types.int64, p, constants), code


def _advance_lanes_plain(bucket, inhibition, place, state, before, constants):
    em, k, es, back_m, back_k, back_s, rate, theta, low = constants
    before[:] = state
    v, i = before[:LANES], before[LANES:]
    row, after = (bucket[2 * at : 2 * (at + LANES)].reshape(LANES, 2).T for at in (place, place + LANES))
    dv, di = row[1] + back_k * after[0] + back_m * after[1], row[0] + back_s * after[0]
    down = inhibition[place : place + LANES] + inhibition[place + LANES : place + 2 * LANES]
    v2, i2 = em * v + (k * i + dv), es * i
    state[:LANES], state[LANES:] = v2, i2 + di
    a = np.fmax((np.fmax(i, 0) + (di + down) * back_s - v) * rate, 0)
    c = np.fmax((theta + down - np.where(i2 < i, i2, i)) * rate, 0)
    may = (low - v) * c + (low - v2) * a <= a * c
    return int(np.packbits(may, bitorder="little")[0])


def _step_lanes_back_plain(rows, place, p, constants):
    em, k, es, back_m, back_k, back_s = constants[:6]
    v, q = p[:LANES].copy(), p[LANES:].copy()
    for at, x, y in ((place, v, q), (place + LANES, back_m * v, back_k * v + back_s * q)):
        rows[2 * at : 2 * (at + LANES)] = np.stack([x, y], 1).ravel()
    p[:LANES], p[LANES:] = em * v, k * v + es * q


# advance_lanes(bucket, inhibition, place, state, before, constants): one step from the state (V, I), which goes to before,
# with the arrivals of the two rows from place on. Returns those lanes, a bit each, whose V may reach the threshold in it.
# Were V to reach theta at the fraction x of the step, then theta <= V(n) + x a with a = (I_high - V(n)) dt / tau_m, and,
# if there were no reset, V(n + 1) >= theta - (1 - x) c with c = (theta - I_low) dt / tau_m (both slopes zero if negative).
# No x satisfies both if (theta - V(n)) c + (theta - V(n + 1)) a > a c. I_high and I_low bound I in the step: I(n) plus all
# positive or all negative arrivals, whose sum is in inhibition.
# step_lanes_back(rows, place, p, constants): one step back of p = (p_V, p_I), and to the two rows from place on p as the
# arrivals of the step see it: from the step's end, and the same as if from a step later.
advance_lanes = _advance_lanes_plain if config.DISABLE_JIT else _advance_lanes  # pyright: ignore
step_lanes_back = _step_lanes_back_plain if config.DISABLE_JIT else _step_lanes_back  # pyright: ignore
