"""Backward pass, exact scheme: p = dL/d(V, I), backwards in time, read at every arrival."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import INLINED, LANES, OPTIONS, flow_table, propagate
from .lanes import gather_pairs, lowest_bit
from .quiet import step_constants, step_lanes_back
from .tables import block_positions, by_unit, fixed_point, place_of, split_buffers, tables_of_sample

_TOGETHER = 256  # events of which those are put aside that meet a spike


@njit(**OPTIONS)
def adjoint(
    rows_p,
    after,
    grid,
    lanes,
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
    start,
    given,
    theta,
    tm,
    constants,
    flow,
):
    """p of a block's neurons, ``lanes`` of them, at the grid points, backwards; returns the sum of p before their spikes
    (-dL/d theta).

    end[lane] = (dL/dV, dL/dI) at the last grid point; source[n, column + lane] = dL/dV(n every dt) (no rows: none). Spikes
    start[lane] .. start[lane + 1] - 1 at times t with slope = tau_m dV/dt = I - theta, dL/dt_k = g_time, and g_jump added
    to dL/dV:

        mu_k = (theta p_V - tau_m dL/dt_k) / slope + g_jump,   p_V(t_k-) = p_V(t_k+) + mu_k          (Eq. 67)

    (or mu as given). Rows 2n + 1 and 2n + 2 of rows_p get p as the arrivals of step n see it: from grid point n + 1, and
    the same as if from n + 2. If a neuron spikes in step n it has (NaN, index of the first such spike) there and _seen
    tells, from after[spikes, 5]: p(n + 1) with the jumps from that spike on [:2]; of the first spike of a step, p(n + 1)
    without any [2:4]; is there a later one in the step [4]? grid[lane] gets p at every grid point, unless it has no rows.
    """
    p, later = np.zeros(2 * LANES), np.empty(2 * LANES)
    spike, due = np.empty(LANES, np.int64), np.full(LANES, -1)  # the last spike not taken yet, and its step
    for lane in range(lanes):
        p[lane], p[LANES + lane] = end[lane]
        spike[lane] = start[lane + 1] - 1
        if spike[lane] >= start[lane]:
            due[lane] = min(_step_of(t[spike[lane]], dt), steps - 1)
    latest = due.max()
    sampled, kept = source.shape[0] > 0, grid.shape[0] > 0
    total = 0.0
    n = steps - 1
    while n >= 0:
        if sampled and (n + 1) % every == 0 and (n + 1) // every < source.shape[0]:
            for lane in range(lanes):
                p[lane] += source[(n + 1) // every, column + lane]
        if kept:
            for lane in range(lanes):
                grid[lane, n + 1, 0], grid[lane, n + 1, 1] = p[lane], p[LANES + lane]
        quiet = latest + 1  # no spikes in the steps n, n - 1 .. quiet
        if sampled:
            quiet = max(quiet, n // every * every)
        if kept:
            quiet = max(quiet, n)
        if quiet <= n:
            while n >= quiet:
                step_lanes_back(rows_p, LANES * (2 * n + 1), p, constants)
                n -= 1
            continue
        later[:] = p
        step_lanes_back(rows_p, LANES * (2 * n + 1), p, constants)
        latest = -1
        for lane in range(lanes):
            if due[lane] == n:
                k, v, q, before = _spikes_of_step(
                    after, n, dt, later[lane], later[LANES + lane], t, mu, slope, g_time, g_jump, start[lane], spike[lane],
                    given, theta, tm, flow,
                )  # fmt: skip
                p[lane], p[LANES + lane] = v, q
                total += before
                for r in (2 * (LANES * (2 * n + 1) + lane), 2 * (LANES * (2 * n + 2) + lane)):
                    rows_p[r], rows_p[r + 1] = np.nan, k + 1
                spike[lane] = k
                due[lane] = _step_of(t[k], dt) if k >= start[lane] else -1
            latest = max(latest, due[lane])
        n -= 1
    return total


@njit(**INLINED)
def _spikes_of_step(after, n, dt, x, y, t, mu, slope, g_time, g_jump, first, spike, given, theta, tm, flow):
    """Back through step n of a neuron whose last spike in it is ``spike``, from p = (x, y) at its end. Returns the last
    spike before the step, p at its start and the sum of p_V before its spikes."""
    v, q, now = x, y, (n + 1) * dt
    before, more, total = (x, y), 0.0, 0.0
    while spike >= first and t[spike] >= n * dt:
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
    after[spike + 1, 2], after[spike + 1, 3] = x, y
    a, b, c = propagate(now - n * dt, flow)
    return spike, a * v, b * v + c * q, total


@njit(**OPTIONS)
def _step_of(t, dt):
    """The last step that begins no later."""
    n = np.int64(t / dt) + 1
    while n > 0 and n * dt > t:
        n -= 1
    return n


@njit(**OPTIONS)
def _with_jump(p, mu, u, flow):
    """p at a grid point as seen from before a spike a time u earlier: p + (mu, 0) P(-u)."""
    em, k, es = propagate(u, flow)
    return p[0] + mu / em, p[1] - mu * k / (em * es)


@njit(**INLINED)
def _seen(row, first, s, t, after, constants):
    """p of a row of a neuron's column that belongs to a step with spikes, first the first of them, as an arrival at time s
    sees it: with the jumps of the spikes that come later. NaN if p itself is (first is no spike then): an overflow."""
    if not 0 <= first < t.size:
        return np.nan, np.nan
    k = np.int64(first)
    while after[k, 4] > 0 and t[k] <= s:
        k += 1
    # The choices below hang on chance, so they are numbers, not branches: early arrivals are as frequent as late ones.
    late = np.int64(t[k] <= s)
    at = k + (np.int64(first) - k) * late
    v, q = after[at, 2 * late], after[at, 2 * late + 1]
    even = np.float64(1 - (row & 1))
    bm, bk, bs = constants[3], constants[4], constants[5]
    return (1.0 + even * (bm - 1.0)) * v, even * bk * v + (1.0 + even * (bs - 1.0)) * q


@njit(**INLINED)
def _gather(units, position, em, k, es, where, rows_p, sums, et, delay, neuron, t, after, constants):
    """Sum p over the arrivals of every synapse of a block: sums[i, 2j:2j + 2] = (sum em_e p_V, sum K_e p_V + es_e p_I), to
    be finished by the synapse's own factors. Events in order of time keep to the same few rows for a while. The few
    arrivals in steps with spikes are put aside and taken in a loop of their own."""
    aside, lanes = np.empty(_TOGETHER, np.int64), np.empty(_TOGETHER, np.int64)
    for start in range(0, units.size, _TOGETHER):
        m = 0
        for e in range(start, min(start + _TOGETHER, units.size)):
            i = units[e]
            missing = gather_pairs(rows_p, position[e], where[i], em[e], es[e], k[e], sums[i])
            aside[m], lanes[m] = e, missing
            m += np.int64(missing != 0)  # no branch: which events these are hangs on chance
        _gather_aside(
            aside, lanes, m, units, position, em, k, es, where, rows_p, sums, et, delay, neuron, t, after, constants
        )


@njit(**OPTIONS)
def _gather_aside(aside, lanes, m, units, position, em, k, es, where, rows_p, sums, et, delay, neuron, t, after, constants):
    """_gather of the first m events put aside, at those lanes where it found no p."""
    for n in range(m):
        e, missing = aside[n], lanes[n]
        i = units[e]
        while missing != 0:
            j = lowest_bit(missing)
            missing &= missing - 1
            r = place_of(position[e], where[i, j], j)
            v, q = _seen(r // LANES, rows_p[2 * r + 1], et[e] + delay[neuron + j, i], t, after, constants)
            sums[i, 2 * j] += em[e] * v
            sums[i, 2 * j + 1] += k[e] * v + es[e] * q


@njit(**OPTIONS)
def _gather_times(
    units, position, em, k, es, where, factor, rows_p, et, weight, delay, neuron, t, after, constants, grad_t, tm, ts
):
    """Add to grad_t the derivative by the time of each event, w (p_I / tau_s - p_V / tau_m) at its arrivals."""
    n_out = delay.shape[0]
    for e in range(units.size):
        i, x, a, b, c = units[e], position[e], es[e], k[e], em[e]
        total = 0.0
        for j in range(min(LANES, n_out - neuron)):
            r = place_of(x, where[i, j], j)
            v, q = rows_p[2 * r], rows_p[2 * r + 1]
            if v != v:
                v, q = _seen(r // LANES, q, et[e] + delay[neuron + j, i], t, after, constants)
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
    rows_p, no_grid = np.zeros(2 * LANES * rows), np.empty((0, 0, 2))
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    recurrent = weight_r.shape[0] > 0
    n_r = n_out if recurrent else 0
    where, factor, buffers = np.empty((n_in, LANES), np.int64), np.empty((n_in, LANES, 3)), split_buffers(n_in)
    where_r, factor_r, buffers_r = np.empty((n_r, LANES), np.int64), np.empty((n_r, LANES, 3)), split_buffers(n_r)
    sums, sums_r = np.empty((n_in, 2 * LANES)), np.empty((n_r, 2 * LANES))
    units, times, positions, em, k, es = events
    s_unit = np.empty(slope.size if recurrent else 0, np.int64)
    for block in range(block_lo, block_hi):
        neuron = block * LANES
        block_positions(delay, block, dt, tm, ts, steps, buffers, where, factor)
        sums[:] = 0
        if recurrent:
            block_positions(delay_r, block, dt, tm, ts, steps, buffers_r, where_r, factor_r)
            sums_r[:] = 0
        for b in range(offsets.size - 1):
            of = slice(offsets[b], offsets[b + 1])
            eu, et, position, eem, ek, ees = units[of], times[of], positions[of], em[of], k[of], es[of]
            _order, s_start, t, s_position, sem, sk, ses = tables_of_sample(spikes, spike_offsets, b)
            s0, s1 = spike_offsets[b], spike_offsets[b + 1]
            mu, after = mu_all[s0:s1], after_all[s0:s1]
            before_spikes[block] += adjoint(
                rows_p,
                after,
                no_grid,
                min(LANES, n_out - neuron),
                steps,
                dt,
                end[b, neuron:],
                source,
                every,
                (first + b) * n_out + neuron,
                t,
                mu,
                slope[s0:s1],
                g_time[s0:s1],
                g_jump[s0:s1],
                s_start[neuron:],
                given,
                theta,
                tm,
                constants,
                flow,
            )
            _gather(eu, position, eem, ek, ees, where, rows_p, sums, et, delay, neuron, t, after, constants)
            if grad_t.size > 0:
                _gather_times(
                    eu, position, eem, ek, ees, where, factor, rows_p, et, weight, delay, neuron, t, after, constants,
                    grad_t[of], tm, ts,
                )  # fmt: skip
            if recurrent:
                for j in range(n_out):
                    s_unit[s_start[j] : s_start[j + 1]] = j
                _gather(
                    s_unit[: t.size], s_position, sem, sk, ses, where_r, rows_p, sums_r, t, delay_r, neuron, t, after,
                    constants,
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
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    em, k, es, bm, bk, bs = constants[0], constants[1], constants[2], constants[3], constants[4], constants[5]
    size = LANES * rows  # of a block
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
                r = 2 * (j // LANES * size + LANES * (2 * n + 1) + j % LANES)
                rows_p[r], rows_p[r + 1] = v, q
                rows_p[r + 2 * LANES], rows_p[r + 2 * LANES + 1] = bm * v, bk * v + bs * q
                now[j] = (n + 1) * dt
                before[j] = p[j]
            bottom = spike
            while bottom >= s0 and spike_t[bottom] >= n * dt:
                j = spike_u[bottom]
                r, here = 2 * (j // LANES * size + LANES * (2 * n + 1) + j % LANES), place[bottom - s0]
                after[here, 2:4] = p[j]
                after[here, 4] = 1.0 if rows_p[r] != rows_p[r] else 0.0
                rows_p[r], rows_p[r + 2 * LANES] = np.nan, np.nan
                rows_p[r + 1], rows_p[r + 2 * LANES + 1] = here, here
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
                    r = place_of(x, where_r[block, j, lane], lane)
                    v, q = rows_p[2 * (block * size + r)], rows_p[2 * (block * size + r) + 1]
                    if v != v:
                        v, q = _seen(r // LANES, q, ts_k + delay_r[m, j], t, after, constants)
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
    rows_p, no_grid = np.zeros(2 * LANES * (2 * steps + 3)), np.empty((0, 0, 2))
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    for b in range(lo, hi):
        order, start = by_unit(spike_u, spike_offsets[b], spike_offsets[b + 1], n_out)
        t, mu, after = spike_t[order], np.empty(order.size), np.empty((order.size, 5))
        x, gt, gj = slope[order], g_time[order], g_jump[order]
        for neuron in range(0, n_out, LANES):
            adjoint(
                rows_p,
                after,
                no_grid,
                min(LANES, n_out - neuron),
                steps,
                dt,
                end[b, neuron:],
                source,
                every,
                b * n_out + neuron,
                t,
                mu,
                x,
                gt,
                gj,
                start[neuron:],
                False,
                theta,
                tm,
                constants,
                flow,
            )
        mu_out[order] = mu
