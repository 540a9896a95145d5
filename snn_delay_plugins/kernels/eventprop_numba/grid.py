"""The published scheme on the grid: forward and backward passes."""

from __future__ import annotations

import numpy as np
from numba import njit

from .crossing import grown
from .flow import LANES, OK, OPTIONS, TOO_MANY_SPIKES, propagator_any
from .tables import by_unit, by_unit_into

TRASH_ROWS = 8     # arrivals past the end are written here; several rows, so that the additions do not wait in line


@njit(**OPTIONS)
def _grid_block(weight, delay, block, dt, steps, where, value):
    """Of the synapses to LANES neurons: rounded delay in steps [in, L], at most steps, and w [in, L]; zero in the lanes
    beyond the last neuron."""
    for lane in range(LANES):
        j = block * LANES + lane
        if j >= weight.shape[0]:
            where[:, lane] = 0
            value[:, lane] = 0
            continue
        for i in range(weight.shape[1]):
            where[i, lane] = np.int64(min(np.floor(delay[j, i] / dt + 0.5), float(steps)))
            value[i, lane] = weight[j, i]


@njit(**OPTIONS)
def grid_tables(weight, delay, dt, steps):
    """Of all blocks, for layers whose neurons advance together: [B, in, L] each."""
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    where, value = np.empty((blocks, n_in, LANES), np.int64), np.empty((blocks, n_in, LANES))
    for block in range(blocks):
        _grid_block(weight, delay, block, dt, steps, where[block], value[block])
    return where, value


@njit(**OPTIONS)
def _grid_events(times, units, lo, hi, n_units, dt):
    """Events by unit: order, pointers and the row in which a spike without delay is seen, one step after its own."""
    order, start = by_unit(units, lo, hi, n_units)
    step = np.empty(hi - lo, np.int64)
    _fill_steps(times, order, dt, step)
    return order, start, step


@njit(**OPTIONS)
def _fill_steps(times, order, dt, step):
    for e in range(order.size):
        step[e] = np.int64(np.ceil(times[order[e]] / dt - 1e-6)) + 1


@njit(**OPTIONS)
def all_grid_events(times, units, offsets, n_units, dt):
    """The same of all samples: pointers [N, units + 1], order and row [events]."""
    samples = offsets.size - 1
    order, start = np.empty(times.size, np.int64), np.empty((samples, n_units + 1), np.int64)
    step = np.empty(times.size, np.int64)
    for b in range(samples):
        lo, hi = offsets[b], offsets[b + 1]
        by_unit_into(units, lo, hi, order[lo:hi], start[b])
        _fill_steps(times, order[lo:hi], dt, step[lo:hi])
    return order, start, step


@njit(**OPTIONS)
def _grid_events_of(tables, offsets, b):
    order, start, step = tables
    lo, hi = offsets[b], offsets[b + 1]
    return order[lo:hi], start[b], step[lo:hi]


@njit(**OPTIONS)
def _grid_scatter(start, step, where, value, drive, last):
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            trash = last + (e & (TRASH_ROWS - 1)) * LANES
            x = step[e]
            for j in range(LANES):
                drive[np.uint64(min((x + where[i, j]) * LANES, trash) + j)] += value[i, j]


@njit(**OPTIONS)
def _grid_gather(start, step, where, rows_p, sums, last):
    """sums[i, j] += (p_V, p_I) at the arrival step of every event."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x = step[e]
            for j in range(LANES):
                r = np.uint64(min((x + where[i, j]) * LANES, last) + j)
                sums[i, j, 0] += rows_p[r, 0]
                sums[i, j, 1] += rows_p[r, 1]


@njit(**OPTIONS)
def _grid_finish(sums, weight, neuron, tm, ts, grad_w, grad_d):
    """As the exact scheme's _finish, from the sums of _grid_gather."""
    for j in range(min(LANES, weight.shape[0] - neuron)):
        for i in range(weight.shape[1]):
            v, q = sums[i, j, 0], sums[i, j, 1]
            grad_w[neuron + j, i] += q
            grad_d[neuron + j, i] += weight[neuron + j, i] * (q / ts - v / tm)


@njit(**OPTIONS)
def _grid_gather_times(start, step, where, value, rows_p, last, order, grad_t, tm, ts):
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            total = 0.0
            for j in range(LANES):
                r = min((step[e] + where[i, j]) * LANES, last) + j
                total += value[i, j] * (rows_p[r, 1] / ts - rows_p[r, 0] / tm)
            grad_t[order[e]] += total


@njit(**OPTIONS)
def _grid_run(drive, lane, n, steps, state, alpha, beta, gain, theta):
    """Advance a neuron from step n to the step in which it spikes (steps if none); state = (V, S).

    S is the synaptic variable; V <- alpha V + (1 - alpha) scale S, scale S the current averaged over a step.
    """
    v, s = state[0], state[1]
    while n < steps:
        s = beta * s + drive[np.uint64(n * LANES + lane)]
        v = alpha * v + gain * s
        if v >= theta:
            break
        n += 1
    state[0], state[1] = v, s
    return n


@njit(**OPTIONS)
def _grid_constants(dt, tm, ts):
    """alpha, beta, (1 - alpha) scale: scale = mean over a step of exp(-t / tau_s)."""
    scale = -np.expm1(-dt / ts) * ts / dt
    return np.exp(-dt / tm), np.exp(-dt / ts), -np.expm1(-dt / tm) * scale


@njit(**OPTIONS)
def lif_grid_forward(offsets, events, weight, delay, block_lo, block_hi, theta, tm, ts, dt, steps, max_spikes):
    """Feed-forward LIF layer on the grid; arguments and result as lif_exact_forward, events: all_grid_events, and I - V in
    place of I - theta."""
    n_out, n_in = weight.shape
    found = np.empty((4, 1024))
    total = 0
    last = steps * LANES
    where, value = np.empty((n_in, LANES), np.int64), np.empty((n_in, LANES))
    drive, state = np.zeros((steps + TRASH_ROWS) * LANES), np.empty(2)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _grid_block(weight, delay, block, dt, steps, where, value)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            drive[:] = 0
            _grid_scatter(start, step, where, value, drive, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                state[:] = 0
                before, n = total, 0
                while True:
                    n = _grid_run(drive, lane, n, steps, state, alpha, beta, gain, theta)
                    if n >= steps:
                        break
                    if total - before >= max_spikes:
                        return found[:, :0].copy(), TOO_MANY_SPIKES, b, j
                    if total == found.shape[1]:
                        found = grown(found)
                    found[0, total], found[1, total], found[2, total] = n * dt, j, state[1] - state[0]
                    found[3, total] = b
                    total += 1
                    state[0] = 0.0
                    n += 1
    return found[:, :total].copy(), OK, -1, -1


@njit(**OPTIONS)
def lif_grid_recurrent_forward(times, units, offsets, lo, hi, n_in, n_out, where, value, where_r, value_r,
                               theta, tm, ts, dt, steps, max_spikes):
    """Recurrent LIF layer on the grid, step by step."""
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    blocks = where.shape[0]
    last = steps * LANES
    drive = np.zeros((blocks, (steps + TRASH_ROWS) * LANES))
    state, spikes = np.empty((n_out, 2)), np.empty(n_out, np.int64)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        _order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt)
        drive[:] = 0
        for block in range(blocks):
            _grid_scatter(start, step, where[block], value[block], drive[block], last)
        state[:] = 0
        spikes[:] = 0
        for n in range(steps):
            for j in range(n_out):
                if _grid_run(drive[j // LANES], j % LANES, n, n + 1, state[j], alpha, beta, gain, theta) > n:
                    continue
                if spikes[j] >= max_spikes:
                    return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, j
                if total == out.shape[1]:
                    out = grown(out)
                out[0, total], out[1, total], out[2, total] = n * dt, j, state[j, 1] - state[j, 0]
                total += 1
                spikes[j] += 1
                state[j, 0] = 0.0
                for block in range(blocks):
                    for lane in range(LANES):
                        r = min((n + 1 + where_r[block, j, lane]) * LANES, last) + lane
                        drive[block, r] += value_r[block, j, lane]
        count[b - lo] = total - first
    return count, out[:, :total].copy(), OK, -1, -1


@njit(**OPTIONS)
def li_grid_forward(offsets, events, first, weight, delay, block_lo, block_hi, tm, ts, dt, steps, voltage):
    """voltage [T, N, out]: V at every step; arguments as li_exact_forward, events: all_grid_events."""
    n_out, n_in = weight.shape
    last = steps * LANES
    where, value = np.empty((n_in, LANES), np.int64), np.empty((n_in, LANES))
    drive = np.zeros((steps + TRASH_ROWS) * LANES)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _grid_block(weight, delay, block, dt, steps, where, value)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            drive[:] = 0
            _grid_scatter(start, step, where, value, drive, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                v = s = 0.0
                for n in range(steps):
                    s = beta * s + drive[n * LANES + lane]
                    v = alpha * v + gain * s
                    voltage[n, first + b, block * LANES + lane] = v


@njit(**OPTIONS)
def grid_backward(offsets, events, first, weight, delay, block_lo, block_hi, source, spike_offsets, spikes, slope, g_time,
                  g_jump, given, mu, weight_r, delay_r, theta, tm, ts, dt, steps, grad_w, grad_d, grad_wr, grad_dr, grad_t,
                  before_spikes):
    """The published backward pass, blocks block_lo..block_hi-1; arguments as in exact_backward, events
    and spikes: all_grid_events."""
    n_out, n_in = weight.shape
    last = steps * LANES
    recurrent = weight_r.shape[0] > 0
    n_r = n_out if recurrent else 0
    where, value, sums = np.empty((n_in, LANES), np.int64), np.empty((n_in, LANES)), np.empty((n_in, LANES, 2))
    where_r, value_r, sums_r = np.empty((n_r, LANES), np.int64), np.empty((n_r, LANES)), np.empty((n_r, LANES, 2))
    rows_p = np.zeros(((steps + TRASH_ROWS) * LANES, 2))
    em, k, es = propagator_any(dt, tm, ts)
    drive_v, drive_i = grid_drive(dt, tm, ts)
    sampled = source.shape[0] > 0
    for block in range(block_lo, block_hi):
        neuron = block * LANES
        _grid_block(weight, delay, block, dt, steps, where, value)
        sums[:] = 0
        if recurrent:
            _grid_block(weight_r, delay_r, block, dt, steps, where_r, value_r)
            sums_r[:] = 0
        for b in range(offsets.size - 1):
            order, start, step = _grid_events_of(events, offsets, b)
            _order, s_start, s_step = _grid_events_of(spikes, spike_offsets, b)
            s0 = spike_offsets[b]
            for lane in range(LANES):
                j = neuron + lane
                v = q = 0.0
                spike = s_start[j + 1] - 1 if j < n_out else -1
                earliest = s_start[j] if j < n_out else 0
                for n in range(steps - 1, -1, -1):
                    v, q = em * v, k * v + es * q
                    if sampled and j < n_out:
                        g = source[n, (first + b) * n_out + j]
                        v += drive_v * g
                        q += drive_i * g
                    if spike >= earliest and s_step[spike] == n + 1:
                        a = s0 + spike
                        if not given:
                            mu[a] = (theta * v - tm * g_time[a]) / slope[a] + g_jump[a]
                        v += mu[a]
                        before_spikes[block] += v
                        spike -= 1
                    rows_p[n * LANES + lane, 0], rows_p[n * LANES + lane, 1] = v, q
            _grid_gather(start, step, where, rows_p, sums, last)
            if grad_t.size > 0:
                _grid_gather_times(start, step, where, value, rows_p, last, order, grad_t, tm, ts)
            if recurrent:
                _grid_gather(s_start, s_step, where_r, rows_p, sums_r, last)
        _grid_finish(sums, weight, neuron, tm, ts, grad_w, grad_d)
        if recurrent:
            _grid_finish(sums_r, weight_r, neuron, tm, ts, grad_wr, grad_dr)


@njit(**OPTIONS)
def grid_drive(dt, tm, ts):
    """What dL/dV(n) adds to (p_V, p_I): the scheme spreads it over a step, as a drive g / dt held for dt."""
    _em, k, _es = propagator_any(dt, tm, ts)
    return -np.expm1(-dt / tm) * tm / dt, (-np.expm1(-dt / ts) * ts - tm * k) / dt


@njit(**OPTIONS)
def grid_recurrent_jumps(spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump, where_r, value_r,
                         n_out, theta, tm, ts, dt, steps, mu_out):
    """mu of every spike of a recurrent layer on the grid."""
    blocks = where_r.shape[0]
    last = steps * LANES
    rows_p = np.zeros((blocks, (steps + TRASH_ROWS) * LANES, 2))
    p = np.empty((n_out, 2))
    em, k, es = propagator_any(dt, tm, ts)
    for b in range(lo, hi):
        p[:] = 0
        spike = spike_offsets[b + 1] - 1
        for n in range(steps - 1, -1, -1):
            for j in range(n_out):
                p[j, 0], p[j, 1] = em * p[j, 0], k * p[j, 0] + es * p[j, 1]
            while spike >= spike_offsets[b] and np.int64(np.ceil(spike_t[spike] / dt - 1e-6)) == n:
                j = spike_u[spike]
                received = 0.0
                for block in range(blocks):
                    for lane in range(LANES):
                        r = min((n + 1 + where_r[block, j, lane]) * LANES, last) + lane
                        received += value_r[block, j, lane] * (rows_p[block, r, 1] / ts - rows_p[block, r, 0] / tm)
                mu_out[spike] = (theta * p[j, 0] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                p[j, 0] += mu_out[spike]
                spike -= 1
            for j in range(n_out):
                r = n * LANES + j % LANES
                rows_p[j // LANES, r, 0], rows_p[j // LANES, r, 1] = p[j, 0], p[j, 1]
    return
