"""Backward pass, exact scheme: p = dL/d(V, I), backwards in time, read at every arrival."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import LANES, OPTIONS, flow_table, propagate, propagator
from .lanes import gather_pairs
from .tables import block_positions, by_unit, fixed_point, split_buffers, tables_of_sample


@njit(**OPTIONS)
def adjoint(
    rows_p,
    after,
    grid,
    base,
    steps,
    dt,
    end,
    source,
    every,
    column,
    t,
    mu,
    slope,
    g_time,
    g_jump,
    lo,
    hi,
    given,
    theta,
    tm,
    forth,
    back,
    flow,
):
    """p of one neuron at the grid points, backwards; returns the sum of p before its spikes (-dL/d theta).

    end = (dL/dV, dL/dI) at the last grid point; source[n, column] = dL/dV(n every dt) (no rows: none). Spikes lo..hi-1
    at times t with slope = tau_m dV/dt = I - theta, dL/dt_k = g_time, and g_jump added to dL/dV:

        mu_k = (theta p_V - tau_m dL/dt_k) / slope + g_jump,   p_V(t_k-) = p_V(t_k+) + mu_k          (Eq. 67)

    (or mu as given). Rows 2n + 1 and 2n + 2 of rows_p, counted from ``base``, get p as the arrivals of step n see it: from
    grid point n + 1, and the same as if from n + 2. If the neuron spikes in step n they get (NaN, index of the first such
    spike) and _seen tells, from after[spikes, 5]: p(n + 1) with the jumps from that spike on [:2]; of the first spike of a
    step, p(n + 1) without any [2:4]; is there a later one in the step [4]? grid gets p at every grid point, unless it has
    no rows.
    """
    v, q = end[0], end[1]
    spike = hi - 1
    total = 0.0
    sampled = source.shape[0] > 0
    n = steps - 1
    while n >= 0:
        if sampled and (n + 1) % every == 0 and (n + 1) // every < source.shape[0]:
            v += source[(n + 1) // every, column]
        if grid.shape[0] > 0:
            grid[n + 1, 0], grid[n + 1, 1] = v, q
        quiet = _step_of(t[spike], dt) + 1 if spike >= lo else 0  # no spikes in the steps n, n - 1 .. quiet
        if sampled:
            quiet = max(quiet, n // every * every)
        if grid.shape[0] > 0:
            quiet = max(quiet, n)
        if quiet <= n:
            v, q = _quiet_adjoint(rows_p, base, n, quiet, v, q, forth, back)
            n = quiet - 1
            continue
        r = 2 * np.uint32(base + 2 * n + 1)
        now = (n + 1) * dt
        x, y = v, q
        before, more = (v, q), 0.0
        while spike >= lo and t[spike] >= n * dt:
            a, b, c = propagate(now - t[spike], flow)
            q = b * v + c * q
            v = a * v
            now = t[spike]
            if not given:
                mu[spike] = (theta * v - tm * g_time[spike]) / slope[spike] + g_jump[spike]
            v += mu[spike]
            total += v
            before = _with_jump(before, mu[spike], (n + 1) * dt - t[spike], flow)
            after[spike, 0], after[spike, 1] = before
            after[spike, 4] = more
            more = 1.0
            spike -= 1
        a, b, c = propagate(now - n * dt, flow)
        q = b * v + c * q
        v = a * v
        rows_p[r], rows_p[r + 2] = np.nan, np.nan
        rows_p[r + 1], rows_p[r + 3] = spike + 1, spike + 1
        after[spike + 1, 2], after[spike + 1, 3] = x, y
        n -= 1
    return total


@njit(**OPTIONS)
def _step_of(t, dt):
    """The last step that begins no later."""
    n = np.int64(t / dt) + 1
    while n > 0 and n * dt > t:
        n -= 1
    return n


@njit(**OPTIONS)
def _quiet_adjoint(rows_p, base, n, down_to, v, q, forth, back):
    """Steps n, n - 1 .. down_to without spikes: their rows, and p at the start of the last."""
    em, k, es = forth
    bm, bk, bs = back
    while n >= down_to:
        r = 2 * np.uint32(base + 2 * n + 1)
        rows_p[r], rows_p[r + 1] = v, q
        rows_p[r + 2], rows_p[r + 3] = bm * v, bk * v + bs * q
        q = k * v + es * q
        v = em * v
        n -= 1
    return v, q


@njit(**OPTIONS)
def _with_jump(p, mu, u, flow):
    """p at a grid point as seen from before a spike a time u earlier: p + (mu, 0) P(-u)."""
    em, k, es = propagate(u, flow)
    return p[0] + mu / em, p[1] - mu * k / (em * es)


@njit(**OPTIONS)
def _seen(row, first, s, t, after, back):
    """p of a row of a neuron's column that belongs to a step with spikes, first the first of them, as an arrival at time s
    sees it: with the jumps of the spikes that come later. NaN if p itself is (first is no spike then): an overflow."""
    if not 0 <= first < t.size:
        return np.nan, np.nan
    k = np.int64(first)
    while t[k] <= s and after[k, 4] > 0:
        k += 1
    at, column = (np.int64(first), 2) if t[k] <= s else (k, 0)
    v, q = after[at, column], after[at, column + 1]
    bm, bk, bs = back if row % 2 == 0 else (1.0, 0.0, 1.0)
    return bm * v, bk * v + bs * q


@njit(**OPTIONS)
def _gather(units, position, em, k, es, where, rows_p, rows, sums, et, delay, neuron, t, after, back):
    """Sum p over the arrivals of every synapse of a block: sums[i, 2j:2j + 2] = (sum em_e p_V, sum K_e p_V + es_e p_I), to
    be finished by the synapse's own factors. Events in order of time keep to the same few rows for a while. The few
    arrivals in steps with spikes are put aside and taken in a loop of their own."""
    aside, m = np.empty((256, 4), np.int64), 0
    for e in range(units.size):
        i = units[e]
        missing = gather_pairs(rows_p, position[e], where[i], em[e], es[e], k[e], sums[i])
        if missing != 0:
            for j in range(LANES):
                if missing >> 2 * j & 1:
                    aside[m, 0], aside[m, 1], aside[m, 2], aside[m, 3] = i, j, e, (position[e] + where[i, j]) >> 32
                    m += 1
            if m > aside.shape[0] - LANES:
                _gather_aside(aside[:m], em, k, es, rows_p, rows, sums, et, delay, neuron, t, after, back)
                m = 0
    _gather_aside(aside[:m], em, k, es, rows_p, rows, sums, et, delay, neuron, t, after, back)


@njit(**OPTIONS)
def _gather_aside(aside, em, k, es, rows_p, rows, sums, et, delay, neuron, t, after, back):
    """_gather of arrivals (input, lane, event, row) put aside."""
    for n in range(aside.shape[0]):
        i, j, e, r = aside[n]
        v, q = _seen(r - j * rows, rows_p[2 * r + 1], et[e] + delay[neuron + j, i], t, after, back)
        sums[i, 2 * j] += em[e] * v
        sums[i, 2 * j + 1] += k[e] * v + es[e] * q


@njit(**OPTIONS)
def _gather_times(
    units, position, em, k, es, where, factor, rows_p, rows, et, weight, delay, neuron, t, after, back, grad_t, tm, ts
):
    """Add to grad_t the derivative by the time of each event, w (p_I / tau_s - p_V / tau_m) at its arrivals."""
    n_out = delay.shape[0]
    for e in range(units.size):
        i, x, a, b, c = units[e], position[e], es[e], k[e], em[e]
        total = 0.0
        for j in range(min(LANES, n_out - neuron)):
            r = (x + where[i, j]) >> 32
            v, q = rows_p[2 * r], rows_p[2 * r + 1]
            if v != v:
                v, q = _seen(r - j * rows, q, et[e] + delay[neuron + j, i], t, after, back)
            y, z = c * v, b * v + a * q
            v, q = factor[i, j, 2] * y, factor[i, j, 0] * z + factor[i, j, 1] * y
            total += weight[neuron + j, i] * (q / ts - v / tm)
        grad_t[e] += total


@njit(**OPTIONS)
def exact_backward(
    offsets,
    events,
    first,
    weight,
    delay,
    block_lo,
    block_hi,
    end,
    source,
    every,
    spike_offsets,
    spikes,
    slope,
    g_time,
    g_jump,
    given,
    mu_all,
    after_all,
    weight_r,
    delay_r,
    theta,
    tm,
    ts,
    dt,
    steps,
    rows,
    grad_w,
    grad_d,
    grad_wr,
    grad_dr,
    grad_t,
    before_spikes,
):
    """Blocks block_lo..block_hi-1 of a layer, all samples of a part of the batch that begins with sample ``first``.

    events: units, times and event_factors of all of them. spikes (of the layer, or any instants of jumps): event_tables;
    slope, g_time, g_jump, mu_all and after_all [spikes] are in their order. end [N, out, 2] of the part; source [T, N *
    out] of the whole batch, every `every` steps, or no rows. mu_all holds the jumps if they are given, else gets them. A
    recurrent layer has weight_r with rows. Adds to the gradients by weights and delays, to grad_t the derivatives by the
    times of the events unless it is empty, and to before_spikes[block] the sum of p_V before the spikes.
    """
    n_out, n_in = weight.shape
    rows_p, no_grid = np.zeros(2 * LANES * rows), np.empty((0, 2))
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    recurrent = weight_r.shape[0] > 0
    n_r = n_out if recurrent else 0
    where, factor, buffers = np.empty((n_in, LANES), np.int64), np.empty((n_in, LANES, 3)), split_buffers(n_in)
    where_r, factor_r, buffers_r = np.empty((n_r, LANES), np.int64), np.empty((n_r, LANES, 3)), split_buffers(n_r)
    sums, sums_r = np.empty((n_in, 2 * LANES)), np.empty((n_r, 2 * LANES))
    units, times, positions, em, k, es = events
    s_unit = np.empty(slope.size if recurrent else 0, np.int64)
    for block in range(block_lo, block_hi):
        neuron = block * LANES
        block_positions(delay, block, dt, tm, ts, steps, rows, buffers, where, factor)
        sums[:] = 0
        if recurrent:
            block_positions(delay_r, block, dt, tm, ts, steps, rows, buffers_r, where_r, factor_r)
            sums_r[:] = 0
        rows_p[2 * rows * max(n_out - neuron, 0) :] = 0
        for b in range(offsets.size - 1):
            of = slice(offsets[b], offsets[b + 1])
            eu, et, position, eem, ek, ees = units[of], times[of], positions[of], em[of], k[of], es[of]
            _order, s_start, t, s_position, sem, sk, ses = tables_of_sample(spikes, spike_offsets, b)
            s0, s1 = spike_offsets[b], spike_offsets[b + 1]
            mu, after = mu_all[s0:s1], after_all[s0:s1]
            for lane in range(min(LANES, n_out - neuron)):
                j = neuron + lane
                before_spikes[block] += adjoint(
                    rows_p,
                    after,
                    no_grid,
                    lane * rows,
                    steps,
                    dt,
                    end[b, j],
                    source,
                    every,
                    (first + b) * n_out + j,
                    t,
                    mu,
                    slope[s0:s1],
                    g_time[s0:s1],
                    g_jump[s0:s1],
                    s_start[j],
                    s_start[j + 1],
                    given,
                    theta,
                    tm,
                    forth,
                    back,
                    flow,
                )
            _gather(eu, position, eem, ek, ees, where, rows_p, rows, sums, et, delay, neuron, t, after, back)
            if grad_t.size > 0:
                _gather_times(
                    eu, position, eem, ek, ees, where, factor, rows_p, rows, et, weight, delay, neuron, t, after, back,
                    grad_t[of], tm, ts,
                )  # fmt: skip
            if recurrent:
                for j in range(n_out):
                    s_unit[s_start[j] : s_start[j + 1]] = j
                _gather(
                    s_unit[: t.size], s_position, sem, sk, ses, where_r, rows_p, rows, sums_r, t, delay_r, neuron, t, after,
                    back,
                )  # fmt: skip
        _finish(sums, factor, weight, neuron, tm, ts, grad_w, grad_d)
        if recurrent:
            _finish(sums_r, factor_r, weight_r, neuron, tm, ts, grad_wr, grad_dr)


@njit(**OPTIONS)
def _finish(sums, factor, weight, neuron, tm, ts, grad_w, grad_d):
    """dL/dw = sum p_I (Eq. 5) and dL/dd = w sum (p_I / tau_s - p_V / tau_m) (Eq. 6), p = -(tau lambda), from the sums of
    _gather."""
    for j in range(min(LANES, weight.shape[0] - neuron)):
        for i in range(weight.shape[1]):
            v = factor[i, j, 2] * sums[i, 2 * j]
            q = factor[i, j, 0] * sums[i, 2 * j + 1] + factor[i, j, 1] * sums[i, 2 * j]
            grad_w[neuron + j, i] += q
            grad_d[neuron + j, i] += weight[neuron + j, i] * (q / ts - v / tm)


@njit(**OPTIONS)
def recurrent_jumps(
    spike_t,
    spike_u,
    spike_offsets,
    lo,
    hi,
    slope,
    g_time,
    g_jump,
    weight_r,
    delay_r,
    where_r,
    factor_r,
    theta,
    tm,
    ts,
    dt,
    steps,
    rows,
    mu_out,
):
    """mu of every spike of a recurrent layer, backwards in time: dL/dt_k has also what its own targets send back."""
    n_out = delay_r.shape[0]
    rows_p = np.zeros(2 * where_r.shape[0] * LANES * rows)
    p, before, now = np.empty((n_out, 2)), np.empty((n_out, 2)), np.empty(n_out)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    em, k, es = forth
    bm, bk, bs = back
    for b in range(lo, hi):
        s0, s1 = spike_offsets[b], spike_offsets[b + 1]
        order, _start = by_unit(spike_u, s0, s1, n_out)
        t = spike_t[order]
        place, after = np.empty(s1 - s0, np.int64), np.empty((s1 - s0, 5))
        for a in range(s1 - s0):
            place[order[a] - s0] = a
        p[:] = 0
        spike = s1 - 1
        for n in range(steps - 1, -1, -1):
            for j in range(n_out):
                v, q = p[j, 0], p[j, 1]
                r = 2 * (j * rows + 2 * n + 1)
                rows_p[r], rows_p[r + 1] = v, q
                rows_p[r + 2], rows_p[r + 3] = bm * v, bk * v + bs * q
                now[j] = (n + 1) * dt
                before[j] = p[j]
            bottom = spike
            while bottom >= s0 and spike_t[bottom] >= n * dt:
                j = spike_u[bottom]
                r, here = 2 * (j * rows + 2 * n + 1), place[bottom - s0]
                after[here, 2:4] = p[j]
                after[here, 4] = 1.0 if rows_p[r] != rows_p[r] else 0.0
                rows_p[r], rows_p[r + 2] = np.nan, np.nan
                rows_p[r + 1], rows_p[r + 3] = here, here
                bottom -= 1
            while spike > bottom:
                j, ts_k = spike_u[spike], spike_t[spike]
                step = np.int64(ts_k / dt)
                x = fixed_point(ts_k / dt) + (np.int64(2) << 32)
                em_k, k_k, es_k = propagate(2 * dt - (ts_k - step * dt), flow)
                received = 0.0
                for m in range(n_out):
                    block, lane = m // LANES, m % LANES
                    w = weight_r[m, j]
                    r = block * LANES * rows + ((x + where_r[block, j, lane]) >> 32)
                    v, q = rows_p[2 * r], rows_p[2 * r + 1]
                    if v != v:
                        v, q = _seen(r - m * rows, q, ts_k + delay_r[m, j], t, after, back)
                    y, z = em_k * v, k_k * v + es_k * q
                    v = factor_r[block, j, lane, 2] * y
                    q = factor_r[block, j, lane, 0] * z + factor_r[block, j, lane, 1] * y
                    received += w * (q / ts - v / tm)
                a, c, d = propagate(now[j] - ts_k, flow)
                p[j, 1] = c * p[j, 0] + d * p[j, 1]
                p[j, 0] = a * p[j, 0]
                now[j] = ts_k
                jump = (theta * p[j, 0] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                mu_out[spike] = jump
                before[j] = _with_jump(before[j], jump, (n + 1) * dt - ts_k, flow)
                after[place[spike - s0], :2] = before[j]
                p[j, 0] += jump
                spike -= 1
            for j in range(n_out):
                if now[j] == (n + 1) * dt:
                    p[j, 1] = k * p[j, 0] + es * p[j, 1]
                    p[j, 0] = em * p[j, 0]
                else:
                    a, c, d = propagate(now[j] - n * dt, flow)
                    p[j, 1] = c * p[j, 0] + d * p[j, 1]
                    p[j, 0] = a * p[j, 0]
    return


@njit(**OPTIONS)
def feedforward_jumps(
    spike_t,
    spike_u,
    spike_offsets,
    lo,
    hi,
    slope,
    g_time,
    g_jump,
    n_out,
    theta,
    tm,
    ts,
    dt,
    steps,
    source,
    every,
    end,
    mu_out,
):
    """mu of every spike of a feed-forward layer, as exact_backward finds them."""
    rows_p, no_grid = np.zeros(2 * (2 * steps + 3)), np.empty((0, 2))
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    for b in range(lo, hi):
        order, start = by_unit(spike_u, spike_offsets[b], spike_offsets[b + 1], n_out)
        t, mu, after = spike_t[order], np.empty(order.size), np.empty((order.size, 5))
        x, gt, gj = slope[order], g_time[order], g_jump[order]
        for j in range(n_out):
            adjoint(
                rows_p,
                after,
                no_grid,
                0,
                steps,
                dt,
                end[b, j],
                source,
                every,
                b * n_out + j,
                t,
                mu,
                x,
                gt,
                gj,
                start[j],
                start[j + 1],
                False,
                theta,
                tm,
                forth,
                back,
                flow,
            )
        mu_out[order] = mu
