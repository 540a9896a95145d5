"""Forward pass of the LI readout, exact scheme, and the integrals over its voltage."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .crossing import advance, arrivals_of_step
from .flow import LANES, OPTIONS, flow_table, propagate
from .quiet import step_constants
from .tables import block_kicks, by_unit, clear, scatter, split_buffers


@njit(**OPTIONS)
def li_exact_forward(
    times,
    units,
    offsets,
    factors,
    first,
    weight,
    delay,
    block_lo,
    block_hi,
    tm,
    ts,
    dt,
    steps,
    rows,
    every,
    voltage,
    final,
    find_peak,
    peak,
    peak_time,
    peak_event,
    peak_slope,
):
    """Leaky-integrator readout, blocks block_lo..block_hi-1 of its outputs, all samples of a part of the batch that begins
    with sample ``first``; factors: event_factors.

    voltage [T, N, out] gets V(n every dt) (T = 0: not wanted), final [N, out, 2] gets (V, I) at steps dt. With
    find_peak, peak and peak_time [N, out] get the largest V in [0, steps dt] and its time: steps whose bound exceeds
    the largest V at the grid points are resolved arrival by arrival. V may peak in a kink, where an inhibitory spike
    arrives while V rises: peak_event and peak_slope get that event and V' before it (else -1 and 0).
    """
    n_out, n_in = weight.shape
    bucket, head = np.zeros(2 * LANES * rows), np.empty(LANES * rows, np.int32)
    longest = 0
    for b in range(offsets.size - 1):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    s, w = np.empty(longest + 1), np.empty(longest + 1)
    where, kick, buffers = np.empty((n_in, LANES), np.int64), np.empty((n_in, 2 * LANES)), split_buffers(n_in)
    constants, flow = step_constants(dt, tm, ts, 0.0), flow_table(dt, tm, ts)
    at = np.empty((steps + 1, 2))
    position, eem, ek, ees = factors
    for block in range(block_lo, block_hi):
        block_kicks(weight, delay, block, dt, tm, ts, steps, buffers, where, kick)
        for b in range(offsets.size - 1):
            of = slice(offsets[b], offsets[b + 1])
            et, eu = times[of], units[of]
            clear(bucket, head, steps)
            scatter(eu, position[of], eem[of], ek[of], ees[of], where, kick, bucket, head, chain)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                v = i = 0.0
                for n in range(steps):
                    at[n, 0], at[n, 1] = v, i
                    v, i = advance(bucket, LANES * (2 * n + 1) + lane, v, i, constants)
                at[steps, 0], at[steps, 1] = v, i
                final[first + b, j, 0], final[first + b, j, 1] = v, i
                for n in range(voltage.shape[0]):
                    voltage[n, first + b, j] = at[n * every, 0]
                if find_peak:
                    peak[first + b, j], peak_time[first + b, j], e, peak_slope[first + b, j] = _peak(
                        at, head, chain, lane, et, eu, weight[j], delay[j], dt, steps, s, w, tm, ts, flow
                    )
                    peak_event[first + b, j] = offsets[b] + e if e >= 0 else -1


@njit(**OPTIONS)
def _peak(at, head, chain, lane, times, units, weight, delay, dt, steps, s, w, tm, ts, flow):
    """Largest V over [0, steps dt], its first time, the arrival at which it has a kink there (or -1), V' before it."""
    least = 0.0
    for n in range(steps + 1):
        least = max(least, at[n, 0])
    least -= 1e-12 * (1 + least)  # grid values carry rounding
    best, when, slope = 0.0, 0.0, 0.0
    for n in range(steps):
        v, i = at[n, 0], at[n, 1]
        high = max(i, 0.0)
        place = LANES * (2 * n + 1) + lane
        for row in range(2):
            e = head[place + LANES * row]
            while e >= 0:
                high += max(weight[units[e]], 0.0)
                e = chain[e, lane]
        if v + max(high - v, 0.0) * dt / tm < least:
            continue
        t, end = n * dt, (n + 1) * dt
        v, i, m = arrivals_of_step(head, chain, place, lane, times, units, weight, delay, t, end, v, i, s, w, flow)
        for a in range(m + 1):
            until = s[a] if a < m else end
            if i > v and i > 0:  # V' has the sign of I - V; from here it may fall through zero once
                u = _extremum(v, i, until - t, tm, ts, flow)
                if u >= 0:
                    em, k, es = propagate(u, flow)
                    if em * v + k * i > best:
                        best, when, slope = em * v + k * i, t + u, 0.0
            em, k, es = propagate(until - t, flow)
            v = em * v + k * i
            i = es * i
            t = until
            if v > best:
                best, when, slope = v, t, (i - v) / tm
            if a < m:
                i += w[a]
    if slope > 1e-12 and when < steps * dt:
        n = np.int64(when / dt)
        for row in range(max(2 * n - 1, 1), min(2 * n + 5, 2 * steps + 1)):
            e = head[LANES * row + lane]
            while e >= 0:
                if abs(times[e] + delay[units[e]] - when) <= 1e-12 * (1 + when) and weight[units[e]] < 0:
                    return best, when, e, slope
                e = chain[e, lane]
    return best, when, -1, 0.0


@njit(**OPTIONS)
def _extremum(v, i, length, tm, ts, flow):
    """u in [0, length] with I(u) = V(u), I(0) > V(0); -1 if none. I - V falls through zero once; bisection, Newton."""
    em, k, es = propagate(length, flow)
    if es * i - em * v - k * i > 0:
        return -1.0
    a, b = 0.0, length
    u = 0.5 * length
    for _ in range(100):
        em, k, es = propagate(u, flow)
        x, y = em * v + k * i, es * i
        f = y - x
        if f > 0:
            a = u
        else:
            b = u
        slope = -y / ts - (y - x) / tm
        new = u - f / slope if slope < 0 else -1.0
        if not (a < new < b):
            new = 0.5 * (a + b)
        if abs(new - u) <= 1e-16 * tm:
            return new
        u = new
    return u


@njit(**OPTIONS)
def discounted_arrivals(times, units, offsets, lo, hi, weight, delay, rate, duration, total):
    """total[b, j] = sum of w exp(-rate s) over the arrivals s <= duration."""
    n_out, n_in = weight.shape
    for b in range(lo, hi):
        order, start = by_unit(units, offsets[b], offsets[b + 1], n_in)
        for j in range(n_out):
            x = 0.0
            for i in range(n_in):
                y = 0.0
                for a in range(start[i], start[i + 1]):
                    s = times[order[a]] + delay[j, i]
                    if s <= duration:
                        y += np.exp(-rate * s) if rate > 0 else 1.0
                x += weight[j, i] * y
            total[b, j] = x


@njit(**OPTIONS)
def discounted_arrivals_backward(
    times, units, offsets, lo, hi, weight, delay, rate, duration, out_lo, out_hi, grad, grad_w, grad_d, grad_t
):
    """Adds the gradient of discounted_arrivals for outputs out_lo..out_hi-1; grad_t, from offsets[lo] on, or empty."""
    _n_out, n_in = weight.shape
    for b in range(lo, hi):
        order, start = by_unit(units, offsets[b], offsets[b + 1], n_in)
        for j in range(out_lo, out_hi):
            g = grad[b, j]
            for i in range(n_in):
                y = 0.0
                for a in range(start[i], start[i + 1]):
                    s = times[order[a]] + delay[j, i]
                    if s <= duration:
                        x = np.exp(-rate * s) if rate > 0 else 1.0
                        y += x
                        if grad_t.size > 0:
                            grad_t[order[a] - offsets[lo]] -= g * weight[j, i] * rate * x
                grad_w[j, i] += g * y
                grad_d[j, i] -= g * weight[j, i] * rate * y
