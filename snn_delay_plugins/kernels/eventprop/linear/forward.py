"""Forward passes: feed-forward and recurrent layers.

Spikes are columns of an array: time, unit, sample, x before the jump (three rows), x at the end of the refractory period
(three rows, NaN if there is none before the end of the sample).
"""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from ..numba.crossing import grown
from ..numba.sorting import sort_pairs
from ..numba.tables import all_by_unit, by_unit
from .arrivals import (
    add_moments,
    ahead,
    block_synapses,
    enter,
    list_arrivals,
    list_inputs,
    longest_sample,
    place,
    room_for_block,
    rows_of_moments,
    scatter,
    scatter_negative,
)
from .flow import (
    ENDLESS,
    INLINED,
    LANES,
    MOMENTS,
    MOST_IN_STEP,
    OK,
    OPTIONS,
    OVERFLOW,
    STATES,
    TERMS,
    TOO_MANY_SPIKES,
    expanded,
    first_rise,
    moved,
    state_at,
)

COLUMN = 3 + 2 * STATES


@njit(**OPTIONS)
def slopes(m, c, slope, curvature, kicks, h, x0, x1, x2, positive, negative):
    """(up, down), -down <= V' <= up and neither negative, over a time h from x with arrivals whose positive and negative
    weights sum to ``positive`` and -``negative``; kicks: kicks_of h. V'' stays within h curvature . |M x| of what it is at
    the start.
    """
    raises, lowers = kicks
    y0 = m[0, 0] * x0 + m[0, 1] * x1 + m[0, 2] * x2
    y1 = m[1, 0] * x0 + m[1, 1] * x1 + m[1, 2] * x2
    y2 = m[2, 0] * x0 + m[2, 1] * x1 + m[2, 2] * x2
    rate = c[0] * y0 + c[1] * y1 + c[2] * y2
    bend = slope[0] * y0 + slope[1] * y1 + slope[2] * y2
    spread = h * (curvature[0] * abs(y0) + curvature[1] * abs(y1) + curvature[2] * abs(y2))
    up = rate + h * max(bend + spread, 0.0) + positive * raises + negative * lowers
    down = h * max(spread - bend, 0.0) - rate + positive * lowers + negative * raises
    return max(up, 0.0), max(down, 0.0)


@njit(**INLINED)
def _weights(s, w, first, count, end):
    """Of the arrivals first..count-1 before ``end``: the sum of positive weights, and minus that of negative ones."""
    positive, negative = 0.0, 0.0
    for a in range(first, count):
        if s[a] < end:
            positive += max(w[a], 0.0)
            negative += max(-w[a], 0.0)
    return positive, negative


@njit(**OPTIONS)
def kicks_of(b, slope, curvature, h):
    """How far an arrival of weight one may raise and lower V' within a step."""
    kick = slope[0] * b[0] + slope[1] * b[1] + slope[2] * b[2]
    spread = h * (curvature[0] * abs(b[0]) + curvature[1] * abs(b[1]) + curvature[2] * abs(b[2]))
    return max(spread + kick, 0.0), max(spread - kick, 0.0)


@njit(**OPTIONS)
def _stays_below(low, v, end, up, down, h):
    """Whether V, -down <= V' <= up, from v < low to ``end`` in a time h, cannot reach low on the way.

    Were V to reach it at the time u, v + u up >= low and end + (h - u) down >= low; no u satisfies both if
    (low - v) down + (low - end) up > up down h.
    """
    beyond = (low - v) * down + (low - end) * up > up * down * h
    return beyond or (up == 0 and v < low) or (down == 0 and end < low)


@njit(**INLINED)
def quiet_steps(n, until, x, y, bucket, inhibition, base, m, p, c, slope, curvature, b, potential, theta, h, window):
    """Advance a neuron from step n over the steps in which it cannot reach the threshold; returns the next step that may,
    with x at its start and y what x becomes in it without a spike. window: the times in that step, counted from its start,
    between which a first crossing must lie.
    """
    kicks = kicks_of(b, slope, curvature, h)
    low = theta * (1 - 1e-9)
    x0, x1, x2 = x[0], x[1], x[2]
    v = potential[0] * x0 + potential[1] * x1 + potential[2] * x2
    while n < until:
        y0, y1, y2 = ahead(p, c, bucket, base + n, (x0, x1, x2))
        v2 = potential[0] * y0 + potential[1] * y1 + potential[2] * y2
        negative = inhibition[base + n]
        positive = bucket[MOMENTS * (base + n)] + negative
        up, down = slopes(m, potential, slope, curvature, kicks, h, x0, x1, x2, positive, negative)
        if not _stays_below(low, v, v2, up, down, h):
            y[0], y[1], y[2] = y0, y1, y2
            window[0] = min((low - v) / up, h) if low > v and up > 0 else 0.0
            window[1] = max(h - (low - v2) / down, 0.0) if low > v2 and down > 0 else h
            break
        x0, x1, x2, v = y0, y1, y2, v2
        n += 1
    x[0], x[1], x[2] = x0, x1, x2
    return n


@njit(**INLINED)
def quiet_after(m, b, c, slope, curvature, theta, x, end, u, s, w, first, count):
    """Whether a neuron in state x, a time u before the step's end, where it is in ``end`` without a further spike, cannot
    reach the threshold on the way, with the arrivals first..count-1."""
    arriving = _weights(s, w, first, count, np.inf)
    up, down = slopes(m, c, slope, curvature, kicks_of(b, slope, curvature, u), u, x[0], x[1], x[2], *arriving)
    v, v2 = c[0] * x[0] + c[1] * x[1] + c[2] * x[2], c[0] * end[0] + c[1] * end[1] + c[2] * end[2]
    return _stays_below(theta * (1 - 1e-9), v, v2, up, down, u)


@njit(**INLINED)
def steepest(m, b, c, slope, curvature, x, length, s, w, count, end):
    """A bound from above on V', and zero, over a time ``length`` from state x with the arrivals before ``end``."""
    kicks, arriving = kicks_of(b, slope, curvature, length), _weights(s, w, 0, count, end)
    return slopes(m, c, slope, curvature, kicks, length, x[0], x[1], x[2], *arriving)[0]


@njit(**INLINED)
def next_spike(series, rest, b, c, theta, curvature, x, t, end, ready, below, a, m, s, w, room, at_ready):
    """Walk from state x at time t through the sorted arrivals a..m-1 to the first crossing, or to the end of the step, by
    the flow of ``series`` or, until ``ready``, x' = rest x. room: for the series of states and potential.

    Returns (time or -1, arrivals taken, is V below the threshold); x becomes the state there, at_ready that at the end of a
    refractory period on the way. Arrivals before the crossing are taken, arrivals at it or later are not: a spike is always
    later than any arrival it has seen.
    """
    states, v = room
    while True:
        until = max(min(s[a], end) if a < m else end, t)
        held = t < ready
        if held and ready < until:
            until = ready
        if until > t:
            if held:
                x[0], x[1], x[2] = moved(rest, until - t, x[0], x[1], x[2])
            else:
                expanded(series, c, x[0], x[1], x[2], states, v)
                u, below = first_rise(v, curvature, theta, until - t, below, x[0], x[1], x[2])
                x[0], x[1], x[2] = state_at(states, u if u >= 0 else until - t)
                if u >= 0:
                    # rounded behind the next arrival, a recurrent neuron that is solved again from here would miss it
                    return min(max(t + u, np.nextafter(t, np.inf)), until), a, below
                if u != u:  # not to be lost: the end of the sample sees it
                    x[0] = np.nan
            t = until
        if held and t >= ready:
            at_ready[:] = x
            below = c[0] * x[0] + c[1] * x[1] + c[2] * x[2] < theta  # a V that is not held may have risen beyond it unseen
        while a < m and s[a] <= t:
            for k in range(STATES):
                x[k] += w[a] * b[k]
            a += 1
        if t >= end:
            return -1.0, a, below


@njit(**OPTIONS)
def jump(q, r, c, theta, x):
    """x <- x + J x + r; is V below the threshold afterwards?"""
    y0 = x[0] + q[0, 0] * x[0] + q[0, 1] * x[1] + q[0, 2] * x[2] + r[0]
    y1 = x[1] + q[1, 0] * x[0] + q[1, 1] * x[1] + q[1, 2] * x[2] + r[1]
    y2 = x[2] + q[2, 0] * x[0] + q[2, 1] * x[1] + q[2, 2] * x[2] + r[2]
    x[0], x[1], x[2] = y0, y1, y2
    return c[0] * y0 + c[1] * y1 + c[2] * y2 < theta * (1 - 1e-12)


@njit(**OPTIONS)
def _record(found, column, t, j, sample, x):
    found[0, column], found[1, column], found[2, column] = t, j, sample
    for k in range(STATES):
        found[3 + k, column], found[3 + STATES + k, column] = x[k], np.nan


@njit(**OPTIONS)
def feedforward(
    times, units, offsets, weight, delay, block_lo, block_hi, layer, series, h, steps, duration, max_spikes, room_for
):
    """Blocks block_lo..block_hi-1 of a layer's neurons, all samples: columns of all spikes, at most ``room_for``, (status,
    sample, neuron)."""
    M, P, C, b, c, J, r_, theta, rest, _taylor, curvature, slope = layer
    n_out, n_in = weight.shape
    rows, inverse = steps + 1, 1 / h
    found, total = np.empty((COLUMN, 1024)), 0
    longest = longest_sample(offsets)
    bucket, head, chain, bw, bd = room_for_block(longest, rows, n_in)
    inhibition = np.zeros(LANES * rows)
    s, w = np.empty(longest + 1), np.empty(longest + 1)
    room = np.empty((TERMS, STATES)), np.empty(TERMS)
    x, y, z, at_ready = np.empty(STATES), np.empty(STATES), np.empty(STATES), np.empty(STATES)
    window, moments = np.empty(2), np.empty(MOMENTS)
    order, start = all_by_unit(units, offsets, n_in)
    for block in range(block_lo, block_hi):
        block_synapses(weight, delay, block, bw, bd)
        inhibited = bw.min() < 0
        for sample in range(offsets.size - 1):
            of = slice(offsets[sample], offsets[sample + 1])
            et, eu = times[of], units[of]
            bucket[:] = 0
            head[:] = -1
            scatter(et, eu, bw, bd, inverse, steps, rows, 0, 0, bucket, head, chain)
            if inhibited:
                inhibition[:] = 0
                scatter_negative(et, order[of], start[sample], bw, bd, inverse, steps, rows, 0, inhibition)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                before, below, ready, low = total, True, -1.0, theta[j] * (1 - 1e-9)
                x[:] = 0
                m_free, m_held, p_free, p_held, c_free, c_held = M[0, j], M[1, j], P[0, j], P[1, j], C[0, j], C[1, j]
                of_flow, of_bend, of_slope, jumps, adds = series[j], curvature[j], slope[j], J[j], r_[j]
                n = 0
                while n < steps:
                    r = lane * rows + n
                    begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
                    if ready > end:
                        x[0], x[1], x[2] = ahead(p_held, c_held, bucket, r, x)
                        n += 1
                        continue
                    waking = ready > begin
                    if not waking:
                        after = quiet_steps(
                            n, steps, x, y, bucket, inhibition, lane * rows, m_free, p_free, c_free, of_slope, of_bend, b,
                            c, theta[j], h, window,
                        )  # fmt: skip
                        below = below or after > n
                        n = after
                        if n == steps:
                            break
                        r = lane * rows + n
                        begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
                    m = list_inputs(head[r], chain, lane, j, et, eu, weight, delay, end, s, w)
                    t, a, fired, stop, bound = begin, 0, False, end, np.inf
                    if waking:
                        z[:] = x
                    else:
                        t, stop = begin + window[0], min(begin + window[1], end)
                        moments[:] = 0
                        gain = 0.0
                        for _ in range(3):  # the bounds are closer where fewer arrivals are ahead
                            t += gain
                            m = enter(m_free, p_free, c_free, x, z, begin, end, t, inverse, s, w, m, moments)
                            v = c[0] * z[0] + c[1] * z[1] + c[2] * z[2]
                            up = steepest(m_free, b, c, of_slope, of_bend, z, stop - t, s, w, m, stop)
                            bound = v + up * (stop - t)
                            below = below or v < low
                            gain = (low - v) / up if low > v and up > 0 else 0.0
                            if bound < low or gain < 0.25 * (stop - t):
                                break
                        if bound < low:
                            x[:] = y
                            n += 1
                            continue
                    sort_pairs(s, w, m)
                    while True:
                        at_ready[0] = np.nan
                        t, a, below = next_spike(
                            of_flow,
                            m_held,
                            b,
                            c,
                            theta[j],
                            of_bend,
                            z,
                            t,
                            end if fired else stop,
                            ready,
                            below,
                            a,
                            m,
                            s,
                            w,
                            room,
                            at_ready,
                        )
                        if at_ready[0] == at_ready[0]:
                            found[3 + STATES :, total - 1] = at_ready
                        if t < 0:
                            break
                        if total - before >= max_spikes:
                            return found[:, :0].copy(), TOO_MANY_SPIKES, sample, j
                        if total == found.shape[1]:
                            if 2 * total > room_for:
                                return found[:, :0].copy(), ENDLESS, sample, j
                            found = grown(found)
                        _record(found, total, t, j, sample, z)
                        total += 1
                        fired = True
                        b0, b1, b2 = z[0], z[1], z[2]
                        below = jump(jumps, adds, c, theta[j], z)
                        if rest[j] > 0:
                            ready = t + rest[j]
                            continue
                        b0, b1, b2 = moved(m_free, end - t, z[0] - b0, z[1] - b1, z[2] - b2)
                        y[0], y[1], y[2] = y[0] + b0, y[1] + b1, y[2] + b2
                        if below and quiet_after(m_free, b, c, of_slope, of_bend, theta[j], z, y, end - t, s, w, a, m):
                            break
                    # y holds all jumps of the step where none is followed by a refractory period
                    x[:] = z if (fired and rest[j] > 0) or waking or z[0] != z[0] else y
                    n += 1
                if not abs(x[0]) + abs(x[1]) + abs(x[2]) < np.inf:
                    return found[:, :0].copy(), OVERFLOW, sample, j
    return found[:, :total].copy(), OK, -1, -1


@njit(**OPTIONS)
def recurrent(
    times, units, offsets, lo, hi, weight, delay, weight_r, delay_r, layer, series, h, steps, duration, max_spikes, room_for
):  # fmt: skip
    """Samples lo..hi-1 of a recurrent layer: columns of all spikes, in order, (status, sample, neuron).

    All neurons advance step by step. In a step, spikes are taken in order of time: the earliest crossing of any neuron is
    final, since arrivals it causes come no earlier; neurons that it reaches within the step are solved again. So delays
    shorter than a step, and zero, are exact.
    """
    M, P, C, b, c, J, r_, theta, rest, _taylor, curvature, slope = layer
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    rows, inverse = steps + 1, 1 / h
    found, total = np.empty((COLUMN, 1024)), 0
    longest = longest_sample(offsets[lo : hi + 1])
    bucket, head = rows_of_moments(blocks * LANES * rows), np.empty(blocks * LANES * rows, np.int32)
    inhibition = np.empty(blocks * LANES * rows)
    chain, echo = np.empty((blocks, longest, LANES), np.int32), np.empty((256, n_out), np.int32)
    out_t, out_u = np.empty(256), np.empty(256, np.int64)
    s, w, at_ready = np.empty(longest + 257), np.empty(longest + 257), np.empty(STATES)
    room = np.empty((TERMS, STATES)), np.empty(TERMS)
    x, start, final, y = np.empty((n_out, 3)), np.empty((n_out, 3)), np.empty((n_out, 3)), np.empty(STATES)
    trial, window = np.empty(STATES), np.empty(2)
    since, begun, cross = np.empty(n_out), np.empty(n_out), np.empty(n_out)
    ready, below, began_below = np.empty(n_out), np.empty(n_out, np.bool_), np.empty(n_out, np.bool_)
    count, last = np.empty(n_out, np.int64), np.empty(n_out, np.int64)
    active, listed = np.empty(n_out, np.int64), np.zeros(n_out, np.bool_)
    reached = np.empty(n_out, np.int64)
    bw, bd = np.empty((n_in, LANES)), np.empty((n_in, LANES))
    for sample in range(lo, hi):
        et, eu = times[offsets[sample] : offsets[sample + 1]], units[offsets[sample] : offsets[sample + 1]]
        bucket[:] = 0
        inhibition[:] = 0
        head[:] = -1
        order, start_of = by_unit(eu, 0, eu.size, n_in)
        for block in range(blocks):
            block_synapses(weight, delay, block, bw, bd)
            base = block * LANES * rows
            scatter(et, eu, bw, bd, inverse, steps, rows, base, 0, bucket, head, chain[block])
            if bw.min() < 0:
                scatter_negative(et, order, start_of, bw, bd, inverse, steps, rows, base, inhibition)
        x[:] = 0
        ready[:] = -1
        below[:] = True
        count[:] = 0
        spikes = 0
        for n in range(steps):
            begin, end = n * h, (n + 1) * h if n < steps - 1 else duration
            candidates, many, before = 0, n_out, spikes
            for j in range(n_out):
                reached[j] = j
            while True:
                for k in range(many):
                    j = reached[k]
                    r = j * rows + n
                    if ready[j] > end:
                        cross[j] = np.inf
                        if not listed[j]:
                            continue
                    if not listed[j]:
                        trial[:] = x[j]
                        if not ready[j] > begin and n < quiet_steps(
                            n, n + 1, trial, y, bucket, inhibition, j * rows, M[0, j], P[0, j], C[0, j], slope[j],
                            curvature[j], b, c, theta[j], h, window,
                        ):  # fmt: skip
                            continue
                        listed[j] = True
                        active[candidates] = j
                        candidates += 1
                        since[j], begun[j], began_below[j] = -1.0, begin, below[j]
                        start[j] = x[j]
                    m = list_arrivals(
                        head[r], chain[j // LANES], j % LANES, echo, j, et, eu, weight, delay,
                        out_t, out_u, weight_r, delay_r, since[j], end, s, w,
                    )  # fmt: skip
                    final[j] = start[j]
                    sort_pairs(s, w, m)
                    at_ready[0] = np.nan
                    t, _a, below[j] = next_spike(
                        series[j],
                        M[1, j],
                        b,
                        c,
                        theta[j],
                        curvature[j],
                        final[j],
                        begun[j],
                        end,
                        ready[j],
                        began_below[j],
                        0,
                        m,
                        s,
                        w,
                        room,
                        at_ready,
                    )
                    if at_ready[0] == at_ready[0]:
                        found[3 + STATES :, last[j]] = at_ready
                    cross[j] = t if t >= 0 else np.inf
                if candidates == 0:
                    break
                j = active[0]
                for k in range(1, candidates):
                    if cross[active[k]] < cross[j]:
                        j = active[k]
                t = cross[j]
                if t == np.inf:
                    break
                if count[j] >= max_spikes:
                    return found[:, :0].copy(), TOO_MANY_SPIKES, sample, j
                if spikes - before > MOST_IN_STEP * n_out:
                    return found[:, :0].copy(), ENDLESS, sample, j
                if total == found.shape[1]:
                    if 2 * total > room_for:
                        return found[:, :0].copy(), ENDLESS, sample, j
                    found = grown(found)
                _record(found, total, t, j, sample, final[j])
                if spikes == out_t.size:
                    longer, longer_t, longer_u = np.empty((2 * spikes, n_out), np.int32), np.empty(2 * spikes), out_u
                    longer[:spikes] = echo
                    longer_t[:spikes] = out_t
                    longer_u = np.empty(2 * spikes, np.int64)
                    longer_u[:spikes] = out_u
                    echo, out_t, out_u = longer, longer_t, longer_u
                    s, w = np.empty(longest + 2 * spikes + 1), np.empty(longest + 2 * spikes + 1)
                out_t[spikes], out_u[spikes] = t, j
                last[j] = total
                total += 1
                count[j] += 1
                start[j] = final[j]
                began_below[j] = jump(J[j], r_[j], c, theta[j], start[j])
                since[j], begun[j] = t, t
                if rest[j] > 0:
                    ready[j] = t + rest[j]
                many = 1
                reached[0] = j
                for m in range(n_out):
                    arrival = t + delay_r[m, j]
                    step, f = place(arrival, inverse, steps)
                    if step < n:
                        step, f = n, -1.0
                    r = m * rows + step
                    add_moments(bucket, r, weight_r[m, j], f)
                    if weight_r[m, j] < 0:
                        inhibition[r] -= weight_r[m, j]
                    echo[spikes, m] = head[r]
                    head[r] = et.size + spikes
                    if m != j and step == n and (not listed[m] or arrival < cross[m]):
                        reached[many] = m
                        many += 1
                spikes += 1
            for j in range(n_out):
                if listed[j]:
                    x[j] = final[j]
                    listed[j] = False
                else:
                    mode = 1 if ready[j] > end else 0
                    below[j] = below[j] or mode == 0
                    x[j, 0], x[j, 1], x[j, 2] = ahead(P[mode, j], C[mode, j], bucket, j * rows + n, x[j])
        for j in range(n_out):
            if not abs(x[j, 0]) + abs(x[j, 1]) + abs(x[j, 2]) < np.inf:
                return found[:, :0].copy(), OVERFLOW, sample, j
    return found[:, :total].copy(), OK, -1, -1
