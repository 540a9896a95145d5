"""Backward pass: p = dL/dx, backwards in time, read at every arrival, and the derivatives of the constants.

Of a neuron on its way back, ``track`` holds: p at the time ``now``; pe, the same continued to the end of the step that
``now`` lies in, by the flow that holds below ``now``. Its ``place`` holds: the next spike (its number), whether the flow
below ``now`` is the one of its refractory period, the polynomial that holds below ``now``, and whether this step has jumps.
"""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from ..numba.lanes import lowest_bit
from .arrivals import ahead, block_synapses, list_arrivals, longest_sample, place, rows_of_moments, scatter, to_end
from .flow import INLINED, LANES, MOMENTS, OPTIONS, STATES, TERMS, moved_back
from .powers import moments_by_states
from .rows import evaluate_rows

NOW, EXTRA, THETA, REST = 0, 1, 2, 3  # of a neuron's scalars: time; owed to its next spike; sums of derivatives
SPIKE, HELD, BOTTOM, BROKEN = 0, 1, 2, 3  # of its place
_TOGETHER = 256  # events of which those are put aside that meet a step with jumps


@njit(**OPTIONS)
def _polynomial(c, p, q, r):
    """Row r of q: the coefficients C_k . p."""
    moments_by_states(c, p[0], p[1], p[2], q, np.uint64(MOMENTS * r))  # pyright: ignore[reportCallIssue]


@njit(**INLINED)
def quiet_back(n, down_to, p, q, base, P, C, states, bucket, grad_p, grad_c):
    """Steps n, n - 1 .. down_to, which have no jumps: their polynomials, p at the start of the last, and, if there are
    states, what P and C receive."""
    p0, p1, p2 = p[0], p[1], p[2]
    while n >= down_to:
        _polynomial(C, (p0, p1, p2), q, base + n)
        if states.shape[0] > 0:
            for column in range(STATES):
                grad_p[0, column] += p0 * states[n, column]
                grad_p[1, column] += p1 * states[n, column]
                grad_p[2, column] += p2 * states[n, column]
            for k in range(MOMENTS):
                m = bucket[MOMENTS * (base + n) + k]
                grad_c[k, 0] += m * p0
                grad_c[k, 1] += m * p1
                grad_c[k, 2] += m * p2
        p0, p1, p2 = (
            P[0, 0] * p0 + P[1, 0] * p1 + P[2, 0] * p2,
            P[0, 1] * p0 + P[1, 1] * p1 + P[2, 1] * p2,
            P[0, 2] * p0 + P[1, 2] * p1 + P[2, 2] * p2,
        )
        n -= 1
    p[0], p[1], p[2] = p0, p1, p2


@njit(**INLINED)
def next_boundary(where, scalars, lo, t, rest, begin):
    """Time of the next jump or end of a refractory period on the way back, -1 if it lies before ``begin``."""
    k = where[SPIKE]
    if k < lo:
        return -1.0
    time = t[k] + rest if rest > 0 and where[HELD] == 0 else t[k]
    return min(time, scalars[NOW]) if time >= begin else -1.0


@njit(**OPTIONS)
def _piece(m, b, p0, p1, p2, x, u, s, w, count, now, low, powers, d_m):
    """Add int p x^T over a time u that begins in x and ends, at ``now``, in p, with the arrivals in [low, now) on the way:
    for one of weight one, and for x alike, sum_n u^(n + 1) / (n + 1)! A_n,  A_0 = p x^T,  A_n = M^T A_(n-1) + p (M^n x)^T.
    By columns: d_m[:, j] += sum_n u^(n + 1) / (n + 1)! A_n[:, j]. powers: room."""
    for of_arrivals in range(2):
        if of_arrivals and count == 0:
            return
        y0, y1, y2 = (b[0], b[1], b[2]) if of_arrivals else (x[0], x[1], x[2])
        a00 = a01 = a02 = a10 = a11 = a12 = a20 = a21 = a22 = 0.0
        scale = 1.0
        if of_arrivals:
            for k in range(count):
                powers[k] = w[k] if low <= s[k] < now else 0.0
        for n in range(TERMS - 1):
            if of_arrivals:
                scale = 0.0
                for k in range(count):
                    powers[k] *= (now - s[k]) / (n + 1)
                    scale += powers[k]
            else:
                scale *= u / (n + 1)
            a00, a10, a20 = (
                m[0, 0] * a00 + m[1, 0] * a10 + m[2, 0] * a20 + p0 * y0,
                m[0, 1] * a00 + m[1, 1] * a10 + m[2, 1] * a20 + p1 * y0,
                m[0, 2] * a00 + m[1, 2] * a10 + m[2, 2] * a20 + p2 * y0,
            )
            a01, a11, a21 = (
                m[0, 0] * a01 + m[1, 0] * a11 + m[2, 0] * a21 + p0 * y1,
                m[0, 1] * a01 + m[1, 1] * a11 + m[2, 1] * a21 + p1 * y1,
                m[0, 2] * a01 + m[1, 2] * a11 + m[2, 2] * a21 + p2 * y1,
            )
            a02, a12, a22 = (
                m[0, 0] * a02 + m[1, 0] * a12 + m[2, 0] * a22 + p0 * y2,
                m[0, 1] * a02 + m[1, 1] * a12 + m[2, 1] * a22 + p1 * y2,
                m[0, 2] * a02 + m[1, 2] * a12 + m[2, 2] * a22 + p2 * y2,
            )
            d_m[0, 0] += scale * a00
            d_m[0, 1] += scale * a01
            d_m[0, 2] += scale * a02
            d_m[1, 0] += scale * a10
            d_m[1, 1] += scale * a11
            d_m[1, 2] += scale * a12
            d_m[2, 0] += scale * a20
            d_m[2, 1] += scale * a21
            d_m[2, 2] += scale * a22
            y0, y1, y2 = (
                m[0, 0] * y0 + m[0, 1] * y1 + m[0, 2] * y2,
                m[1, 0] * y0 + m[1, 1] * y1 + m[1, 2] * y2,
                m[2, 0] * y0 + m[2, 1] * y1 + m[2, 2] * y2,
            )


@njit(**INLINED)
def pass_boundary(
    layer, j, time, end, q, row, track, scalars, where, spikes, received, given, segments, constants, arrivals, d_m
):  # fmt: skip
    """One jump, or the end of one refractory period, of neuron j at ``time``, on the way back.

    spikes: t, x before the jump, x at the end of the refractory period, dL/dt_k, dL/dV_k, mu (got or given).
    constants: are their derivatives wanted? arrivals: (s, w, count) of this step.
    """
    M, _P, C, b, c, J, r, _theta, rest, _taylor, _curvature, slope = layer
    _t, before, at_ready, g_time, g_jump, mu = spikes
    until, link, poly, used = segments
    s, w, powers, count = arrivals
    k, held = where[SPIKE], where[HELD]
    p, pe = track[0], track[1]
    # what holds above becomes a part of its own
    if where[BROKEN] == 0:
        above = used[0]
        used[0] += 1
        for i in range(MOMENTS):
            poly[above, i] = q[MOMENTS * row + i]
        q[MOMENTS * row], q[MOMENTS * row + 1] = np.nan, above
        where[BROKEN] = 1
    else:
        above = where[BOTTOM]
    until[above] = time
    top0, top1, top2, now = p[0], p[1], p[2], scalars[NOW]
    p[0], p[1], p[2] = moved_back(M[held, j], now - time, top0, top1, top2)
    x = np.empty(STATES)
    if held == 0 and rest[j] > 0:  # the end of a refractory period
        for i in range(STATES):
            x[i] = at_ready[k, i]
        by_time = 0.0
        for i in range(STATES):
            for column in range(STATES):
                by_time += p[i] * (M[1, j, i, column] - M[0, j, i, column]) * x[column]
        scalars[EXTRA] = by_time
        scalars[REST] += by_time
        where[HELD] = 1
    else:
        v, g = before[k], J[j]
        after = 1 if rest[j] > 0 else 0
        for i in range(STATES):
            x[i] = v[i] + g[i, 0] * v[0] + g[i, 1] * v[1] + g[i, 2] * v[2] + r[j, i]
        if not given:
            rate = slope[j, 0] * v[0] + slope[j, 1] * v[1] + slope[j, 2] * v[2]
            by_time = g_time[k] + received + scalars[EXTRA]
            for i in range(STATES):
                flow_before, flow_after = 0.0, 0.0
                for column in range(STATES):
                    kick = 1.0 * (i == column) + g[i, column]
                    flow = M[0, j, column, 0] * v[0] + M[0, j, column, 1] * v[1] + M[0, j, column, 2] * v[2]
                    flow_before += kick * flow
                    flow_after += M[after, j, i, column] * x[column]
                by_time += p[i] * (flow_before - flow_after)
            mu[k] = g_jump[k] - by_time / rate
        scalars[EXTRA] = 0.0
        scalars[THETA] -= mu[k]
        if constants:
            for i in range(STATES):
                d_m[3, i, 0] += p[i]
                for column in range(STATES):
                    d_m[2, i, column] += p[i] * v[column]
        p0 = p[0] + g[0, 0] * p[0] + g[1, 0] * p[1] + g[2, 0] * p[2] + c[0] * mu[k]
        p1 = p[1] + g[0, 1] * p[0] + g[1, 1] * p[1] + g[2, 1] * p[2] + c[1] * mu[k]
        p2 = p[2] + g[0, 2] * p[0] + g[1, 2] * p[1] + g[2, 2] * p[2] + c[2] * mu[k]
        p[0], p[1], p[2] = p0, p1, p2
        where[SPIKE] -= 1
        where[HELD] = 0
    if constants:
        _piece(M[held, j], b, top0, top1, top2, x, now - time, s, w, count, now, time, powers, d_m[held])
    scalars[NOW] = time
    pe[0], pe[1], pe[2] = moved_back(M[where[HELD], j], time - end, p[0], p[1], p[2])
    below = used[0]
    used[0] += 1
    until[below] = -np.inf
    _polynomial(C[where[HELD], j], pe, poly[below], 0)
    link[above] = below
    where[BOTTOM] = below


@njit(**OPTIONS)
def open_step(layer, j, end, q, row, track, scalars, where):
    """The polynomial of a step, as if it had no jumps."""
    C = layer[2]
    _polynomial(C[where[HELD], j], track[0], q, row)
    scalars[NOW] = end
    where[BROKEN] = 0


@njit(**OPTIONS)
def close_step(layer, j, begin, track, scalars, where):
    """p at the start of the step."""
    M, P = layer[0], layer[1]
    p = track[0]
    if where[BROKEN]:
        p[0], p[1], p[2] = moved_back(M[where[HELD], j], scalars[NOW] - begin, p[0], p[1], p[2])
    else:
        q = P[where[HELD], j]
        p0 = q[0, 0] * p[0] + q[1, 0] * p[1] + q[2, 0] * p[2]
        p1 = q[0, 1] * p[0] + q[1, 1] * p[1] + q[2, 1] * p[2]
        p2 = q[0, 2] * p[0] + q[1, 2] * p[1] + q[2, 2] * p[2]
        p[0], p[1], p[2] = p0, p1, p2


@njit(**OPTIONS)
def start_back(track, scalars, where, last, lo, rest, at_ready, duration):
    """At the end of a sample; the last spike's refractory period may not be over."""
    track[:] = 0
    scalars[:] = 0
    scalars[NOW] = duration
    where[SPIKE] = last
    over = last < lo or at_ready[max(last, 0), 0] == at_ready[max(last, 0), 0]
    where[HELD] = 1 if rest > 0 and not over else 0
    where[BROKEN] = 0


@njit(**OPTIONS)
def _evaluate(row, first, f):
    """(q(f), q'(f)) of the polynomial whose eight coefficients begin at ``first``."""
    v, d = row[first + np.uint64(7)], row[first + np.uint64(7)]
    for k in (6, 5, 4, 3, 2, 1):
        v = v * f + row[first + np.uint64(k)]
        d = d * f + v
    return v * f + row[first], d


@njit(**INLINED)
def _of_part(q, r, s, f, segments):
    """(q(f), q'(f)) in a step with jumps, of the part in which the time s lies."""
    until, link, poly, used = segments
    part = q[MOMENTS * r + 1]
    if not 0 <= part < used[0]:  # p itself is no number
        return np.nan, np.nan
    a = np.int64(part)
    while s < until[a]:
        a = link[a]
    return _evaluate(poly[a], np.uint64(0), f)


@njit(**INLINED)
def _gather(times, units, w, d, inverse, steps, rows, q, segments, sum_w, sum_d, grad_t):
    """Sum q and q' over the arrivals of every synapse of a block, and w q' over those of every event. The few arrivals in
    steps with jumps are put aside and taken in a loop of their own."""
    fractions, places = np.empty(LANES), np.empty(LANES, np.uint32)
    values, slopes = np.empty(LANES), np.empty(LANES)
    aside, missing_of = np.empty(_TOGETHER, np.int64), np.empty(_TOGETHER, np.int64)
    for start in range(0, units.size, _TOGETHER):
        m = 0
        for e in range(start, min(start + _TOGETHER, units.size)):
            t, i = times[e], units[e]
            here, into_w, into_d = d[i], sum_w[i], sum_d[i]
            for lane in range(LANES):  # a loop of its own, which vectorises
                n, fractions[lane] = place(t + here[lane], inverse, steps)
                places[lane] = np.uint32(lane * rows + n)
            missing = evaluate_rows(q, places, fractions, values, slopes, into_w, into_d)  # pyright: ignore[reportCallIssue]
            aside[m], missing_of[m] = e, missing
            m += np.int64(missing != 0)  # no branch: which events these are hangs on chance
            if grad_t.size > 0:
                of, total = w[i], 0.0
                for lane in range(LANES):
                    total += 0.0 if missing >> lane & 1 else of[lane] * slopes[lane]
                grad_t[e] += 2 * inverse * total
        for k in range(m):
            e, missing = aside[k], missing_of[k]
            i = units[e]
            while missing != 0:
                lane = lowest_bit(missing)  # pyright: ignore[reportCallIssue]
                missing &= missing - 1
                s = times[e] + d[i, lane]
                n, f = place(s, inverse, steps)
                v, slope = _of_part(q, lane * rows + n, s, f, segments)
                sum_w[i, lane] += v
                sum_d[i, lane] += slope
                if grad_t.size > 0:
                    grad_t[e] += 2 * inverse * w[i, lane] * slope


@njit(**OPTIONS)
def _step_of_boundary(time, h, steps):
    """The last step that begins no later."""
    n = min(np.int64(time / h) + 1, steps - 1)
    while n > 0 and n * h > time:
        n -= 1
    return n


@njit(**OPTIONS)
def _finish(sum_w, sum_d, w, block, inverse, grad_w, grad_d):
    for lane in range(min(LANES, grad_w.shape[0] - block * LANES)):
        for i in range(grad_w.shape[1]):
            grad_w[block * LANES + lane, i] += sum_w[i, lane]
            grad_d[block * LANES + lane, i] += 2 * inverse * w[i, lane] * sum_d[i, lane]


@njit(**OPTIONS)
def replay(layer, j, bucket, rows, lane, listing, spikes, lo, hi, h, steps, duration, states):
    """x at the start of every step, states [steps, 3], from the moments and the spikes known."""
    M, P, C, b, _c, J, r, _theta, rest, _taylor, _curvature, _slope = layer
    t, before, at_ready = spikes[0], spikes[1], spikes[2]
    head, chain, echo, et, eu, weight, delay, out_t, out_u, weight_r, delay_r, s, w = listing
    x = np.zeros(STATES)
    k, held = lo, 0  # next spike; in the refractory period of the one before
    for n in range(steps):
        states[n] = x
        begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
        mark, mode = -1.0, held
        while True:
            if held and at_ready[k - 1, 0] == at_ready[k - 1, 0] and t[k - 1] + rest[j] < end:
                mark, held = t[k - 1] + rest[j], 0
                x[:] = at_ready[k - 1]
            elif not held and k < hi and t[k] < end:
                mark, held = t[k], 1 if rest[j] > 0 else 0
                q, v = J[j], before[k]
                for i in range(STATES):
                    x[i] = v[i] + q[i, 0] * v[0] + q[i, 1] * v[1] + q[i, 2] * v[2] + r[j, i]
                k += 1
            else:
                break
        if mark < 0:
            x[0], x[1], x[2] = ahead(P[mode, j], C[mode, j], bucket, lane * rows + n, x)
        else:
            m = list_arrivals(
                head[lane * rows + n], chain, lane, echo, j, et, eu, weight, delay, out_t, out_u, weight_r, delay_r, mark,
                end, s, w,
            )  # fmt: skip
            to_end(M[held, j], b, end - max(mark, begin), x, s, w, 0, m, end)


@njit(**OPTIONS)
def backward(
    offsets, times, units, weight, delay, block_lo, block_hi, spike_offsets, starts, spikes, out_t, out_u, given,
    weight_r, delay_r, layer, h, steps, duration, constants, source, every, final, grads,
):  # fmt: skip
    """Blocks block_lo..block_hi-1 of a layer, all samples.

    spikes: t, x before the jump, x at the end of the refractory period, dL/dt_k, dL/dV_k, mu, by sample and neuron;
    starts [N, out + 1]: where each neuron's begin. out_t, out_u: the spikes by sample and time. source [T, N, out]: dL/dV
    at every ``every``-th step's start, or no rows; final [N, out, 3]: dL/dx at the end, or no rows. grads: by weights,
    delays, the recurrent ones, times of the events (or empty), theta, refractory periods, (M, M_held, J and r [4, 3, 3]) of
    every neuron, P and C of both flows.
    """
    M, P, C, b, c, _J, _r, _theta, rest, _taylor, _curvature, _slope = layer
    grad_w, grad_d, grad_wr, grad_dr, grad_t, grad_theta, grad_rest, grad_m, grad_p, grad_c = grads
    n_out, n_in = weight.shape
    rows, inverse = steps + 1, 1 / h
    loops = weight_r.shape[0] > 0
    n_r = n_out if loops else 0
    q = rows_of_moments(LANES * rows)
    longest, most = longest_sample(offsets), longest_sample(spike_offsets)
    parts = 4 * most + 8
    segments = np.empty(parts), np.empty(parts, np.int64), np.empty((parts, MOMENTS)), np.zeros(1, np.int64)
    track, scalars, where = np.empty((2, STATES)), np.empty(4), np.empty(4, np.int64)
    bw, bd, sum_w, sum_d = (
        np.empty((n_in, LANES)),
        np.empty((n_in, LANES)),
        np.empty((n_in, LANES)),
        np.empty((n_in, LANES)),
    )
    rw, rd, sum_wr, sum_dr = (
        np.empty((n_r, LANES)),
        np.empty((n_r, LANES)),
        np.empty((n_r, LANES)),
        np.empty((n_r, LANES)),
    )
    size = LANES * rows if constants else 0
    bucket, head = rows_of_moments(size), np.empty(size, np.int32)
    chain, chain_r = np.empty((longest if constants else 0, LANES), np.int32), np.empty((most, LANES), np.int32)
    echo = np.empty((most if constants else 0, n_out), np.int32)
    s, w, powers, count = np.empty(longest + most + 1), np.empty(longest + most + 1), np.empty(longest + most + 1), 0
    states = np.empty((steps if constants else 0, STATES))
    nothing = np.empty(0)
    for block in range(block_lo, block_hi):
        block_synapses(weight, delay, block, bw, bd)
        sum_w[:], sum_d[:] = 0, 0
        if loops:
            block_synapses(weight_r, delay_r, block, rw, rd)
            sum_wr[:], sum_dr[:] = 0, 0
        q[:] = 0
        for sample in range(offsets.size - 1):
            of, of_spikes = (
                slice(offsets[sample], offsets[sample + 1]),
                slice(spike_offsets[sample], spike_offsets[sample + 1]),
            )
            et, eu, ot, ou = times[of], units[of], out_t[of_spikes], out_u[of_spikes]
            segments[3][0] = 0
            if constants:
                bucket[:] = 0
                head[:] = -1
                scatter(et, eu, bw, bd, inverse, steps, rows, 0, 0, bucket, head, chain)
                if loops:
                    scatter(ot, ou, rw, rd, inverse, steps, rows, 0, eu.size, bucket, head, chain_r)
                    for lane in range(min(LANES, n_out - block * LANES)):
                        echo[: ou.size, block * LANES + lane] = chain_r[: ou.size, lane]
            listing = head, chain, echo, et, eu, weight, delay, ot, ou, weight_r, delay_r, s, w
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                lo, hi = starts[sample, j], starts[sample, j + 1]
                start_back(track, scalars, where, hi - 1, lo, rest[j], spikes[2], duration)
                if final.shape[0] > 0:
                    track[0] = final[sample, j]
                if constants:
                    replay(layer, j, bucket, rows, lane, listing, spikes, lo, hi, h, steps, duration, states)
                n = steps - 1
                while n >= 0:
                    time = next_boundary(where, scalars, lo, spikes[0], rest[j], 0.0)
                    stop = 0 if source.shape[0] == 0 else n // every * every  # whole steps from n down to here
                    if time >= 0:
                        stop = max(stop, _step_of_boundary(time, h, steps) + 1)
                    if stop <= n:
                        held = where[HELD]
                        quiet_back(
                            n, stop, track[0], q, lane * rows, P[held, j], C[held, j], states, bucket, grad_p[held, j],
                            grad_c[held, j],
                        )  # fmt: skip
                        n = stop - 1
                    else:
                        begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
                        r = lane * rows + n
                        open_step(layer, j, end, q, r, track, scalars, where)
                        time = next_boundary(where, scalars, lo, spikes[0], rest[j], begin)
                        if constants:
                            count = list_arrivals(
                                head[r], chain, lane, echo, j, et, eu, weight, delay, ot, ou, weight_r, delay_r, -1.0, end,
                                s, w,
                            )  # fmt: skip
                        while time >= 0:
                            pass_boundary(
                                layer, j, time, end, q, r, track, scalars, where, spikes, 0.0, given, segments, constants,
                                (s, w, powers, count), grad_m[j],
                            )  # fmt: skip
                            time = next_boundary(where, scalars, lo, spikes[0], rest[j], begin)
                        if constants:
                            _piece(
                                M[where[HELD], j], b, track[0, 0], track[0, 1], track[0, 2], states[n],
                                scalars[NOW] - begin, s, w, count, scalars[NOW], -1.0, powers, grad_m[j, where[HELD]],
                            )  # fmt: skip
                        close_step(layer, j, begin, track, scalars, where)
                        n -= 1
                    if source.shape[0] > 0 and (n + 1) % every == 0 and (n + 1) // every < source.shape[0]:
                        for i in range(STATES):
                            track[0, i] += c[i] * source[(n + 1) // every, sample, j]
                grad_theta[j] += scalars[THETA]
                grad_rest[j] += scalars[REST]
            part = grad_t[of] if grad_t.size > 0 else nothing
            _gather(et, eu, bw, bd, inverse, steps, rows, q, segments, sum_w, sum_d, part)
            if loops:
                _gather(ot, ou, rw, rd, inverse, steps, rows, q, segments, sum_wr, sum_dr, nothing)
        _finish(sum_w, sum_d, bw, block, inverse, grad_w, grad_d)
        if loops:
            _finish(sum_wr, sum_dr, rw, block, inverse, grad_wr, grad_dr)


@njit(**OPTIONS)
def recurrent_jumps(
    lo, hi, spike_offsets, starts, spikes, weight_r, delay_r, layer, h, steps, duration
):  # fmt: skip
    """mu of every spike of a recurrent layer, backwards in time, all neurons step by step: dL/dt_k has also what its own
    targets send back. names: rows of ``spikes``' columns, see backward; times as the forward pass found them."""
    rest = layer[8]
    n_out = weight_r.shape[0]
    rows, inverse = steps + 1, 1 / h
    q = rows_of_moments(n_out * rows)
    track, scalars, where = np.empty((n_out, 2, STATES)), np.empty((n_out, 4)), np.empty((n_out, 4), np.int64)
    boundary = np.empty(n_out)
    none, no_m = (np.empty(0), np.empty(0), np.empty(0), 0), np.empty((4, 3, 3))
    for sample in range(lo, hi):
        parts = 4 * (spike_offsets[sample + 1] - spike_offsets[sample]) + 8
        segments = np.empty(parts), np.empty(parts, np.int64), np.empty((parts, MOMENTS)), np.zeros(1, np.int64)
        q[:] = 0
        for j in range(n_out):
            start_back(
                track[j], scalars[j], where[j], starts[sample, j + 1] - 1, starts[sample, j], rest[j], spikes[2], duration
            )
        for n in range(steps - 1, -1, -1):
            begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
            latest = -1
            for j in range(n_out):
                open_step(layer, j, end, q, j * rows + n, track[j], scalars[j], where[j])
                boundary[j] = next_boundary(where[j], scalars[j], starts[sample, j], spikes[0], rest[j], begin)
                if boundary[j] >= 0 and (latest < 0 or boundary[j] > boundary[latest]):
                    latest = j
            while latest >= 0:
                j, received = latest, 0.0
                if not (where[j, HELD] == 0 and rest[j] > 0):
                    t = spikes[0][where[j, SPIKE]]
                    for m in range(n_out):
                        s = t + delay_r[m, j]
                        step, f = place(s, inverse, steps)
                        if step < n:
                            step, f = n, -1.0
                        v, slope = _evaluate(q, np.uint64(MOMENTS * (m * rows + step)), f)
                        if v != v:
                            v, slope = _of_part(q, m * rows + step, s, f, segments)
                        received += weight_r[m, j] * slope
                    received *= 2 * inverse
                pass_boundary(
                    layer, j, boundary[j], end, q, j * rows + n, track[j], scalars[j], where[j], spikes, received, False,
                    segments, False, none, no_m,
                )  # fmt: skip
                boundary[j] = next_boundary(where[j], scalars[j], starts[sample, j], spikes[0], rest[j], begin)
                latest = -1
                for m in range(n_out):
                    if boundary[m] >= 0 and (latest < 0 or boundary[m] > boundary[latest]):
                        latest = m
            for j in range(n_out):
                close_step(layer, j, begin, track[j], scalars[j], where[j])
