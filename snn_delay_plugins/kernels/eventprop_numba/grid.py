"""The published scheme on the grid: forward and backward passes."""

from __future__ import annotations

import numpy as np
from numba import njit

from .crossing import grown
from .flow import LANES, OK, OPTIONS, TOO_MANY_SPIKES, propagator_any
from .tables import by_unit, by_unit_into


@njit(**OPTIONS)
def _rows(steps):
    """Of what a neuron receives: a spike in the last step and a delay of all steps reach row 2 steps + 1."""
    return 2 * steps + 2


@njit(**OPTIONS)
def _round_delays(delay, block, dt, steps, where):
    """Delays of LANES neurons in steps, at most steps: where [L, in]."""
    for lane in range(min(LANES, delay.shape[0] - block * LANES)):
        _round_row(delay[block * LANES + lane], dt, steps, where[lane])


@njit(**OPTIONS)
def _round_row(delay, dt, steps, where):
    for i in range(delay.size):
        where[i] = np.int64(min(np.floor(delay[i] / dt + 0.5), float(steps)))


@njit(**OPTIONS)
def grid_tables(weight, delay, dt, steps):
    """Of layers whose neurons advance together, by the sender: rounded delay in steps, at most steps, and w [in, out]."""
    n_out, n_in = weight.shape
    where, value, row = np.empty((n_in, n_out), np.int64), np.empty((n_in, n_out)), np.empty(n_in, np.int64)
    for j in range(n_out):
        _round_row(delay[j], dt, steps, row)
        for i in range(n_in):
            where[i, j], value[i, j] = row[i], weight[j, i]
    return where, value


@njit(**OPTIONS)
def _grid_events(times, units, lo, hi, n_units, dt, steps):
    """Events by unit: order, pointers and the row in which a spike without delay is seen, one step after its own."""
    order, start = by_unit(units, lo, hi, n_units)
    step = np.empty(hi - lo, np.int64)
    _fill_steps(times, order, dt, steps, step)
    return order, start, step


@njit(**OPTIONS)
def _fill_steps(times, order, dt, steps, step):
    for e in range(order.size):
        step[e] = min(np.int64(np.ceil(times[order[e]] / dt - 1e-6)), steps) + 1


@njit(**OPTIONS)
def all_grid_events(times, units, offsets, n_units, dt, steps):
    """The same of all samples: pointers [N, units + 1], order and row [events]."""
    samples = offsets.size - 1
    order, start = np.empty(times.size, np.int64), np.empty((samples, n_units + 1), np.int64)
    step = np.empty(times.size, np.int64)
    for b in range(samples):
        lo, hi = offsets[b], offsets[b + 1]
        by_unit_into(units, lo, hi, order[lo:hi], start[b])
        _fill_steps(times, order[lo:hi], dt, steps, step[lo:hi])
    return order, start, step


@njit(**OPTIONS)
def _grid_events_of(tables, offsets, b):
    order, start, step = tables
    lo, hi = offsets[b], offsets[b + 1]
    return order[lo:hi], start[b], step[lo:hi]


@njit(**OPTIONS)
def _grid_scatter(start, step, where, weight, drive):
    """Add every arrival at one neuron to its row. Arrivals past the end fall into the rows behind, which nobody reads."""
    for i in range(where.size):
        delay, w = where[i], np.float64(weight[i])
        for e in range(start[i], start[i + 1]):
            drive[np.uint64(step[e] + delay)] += w


@njit(**OPTIONS)
def _grid_gather(start, step, where, p, sums):
    """sums[i] += (p_V, p_I) at the arrivals at one neuron. Two sums side by side, since additions wait for each other."""
    for i in range(where.size):
        delay, lo, hi = where[i], start[i], start[i + 1]
        v = q = x = y = 0.0
        for e in range(lo, hi - 1, 2):
            r, s = np.uint64(step[e] + delay), np.uint64(step[e + 1] + delay)
            v += p[r, 0]
            q += p[r, 1]
            x += p[s, 0]
            y += p[s, 1]
        if (hi - lo) % 2:
            r = np.uint64(step[hi - 1] + delay)
            v += p[r, 0]
            q += p[r, 1]
        sums[i, 0] += v + x
        sums[i, 1] += q + y


@njit(**OPTIONS)
def _grid_finish(sums, weight, neuron, tm, ts, grad_w, grad_d):
    """As the exact scheme's _finish, from the sums [L, in, 2] of _grid_gather."""
    for j in range(min(LANES, weight.shape[0] - neuron)):
        for i in range(weight.shape[1]):
            v, q = sums[j, i, 0], sums[j, i, 1]
            grad_w[neuron + j, i] += q
            grad_d[neuron + j, i] += weight[neuron + j, i] * (q / ts - v / tm)


@njit(**OPTIONS)
def _grid_gather_times(start, step, where, weight, sent, by_time):
    """by_time[e] += the derivative by the time of event e (by unit), w sent at its arrival."""
    for i in range(where.size):
        delay, w = where[i], np.float64(weight[i])
        for e in range(start[i], start[i + 1]):
            by_time[e] += w * sent[np.uint64(step[e] + delay)]


@njit(**OPTIONS)
def _grid_run(drive, n, steps, state, alpha, beta, gain, theta):
    """Advance a neuron from step n to the step in which it spikes (steps if none); state = (V, S).

    S is the synaptic variable; V <- alpha V + (1 - alpha) scale S, scale S the current averaged over a step.
    """
    v, s = state[0], state[1]
    while n < steps:
        s = beta * s + drive[np.uint64(n)]
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
    where, drive, state = np.empty((LANES, n_in), np.int64), np.zeros(_rows(steps)), np.empty(2)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _round_delays(delay, block, dt, steps, where)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                drive[:steps] = 0
                _grid_scatter(start, step, where[lane], weight[j], drive)
                state[:] = 0
                before, n = total, 0
                while True:
                    n = _grid_run(drive, n, steps, state, alpha, beta, gain, theta)
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
def lif_grid_recurrent_forward(times, units, offsets, lo, hi, weight, delay, where_r, value_r, theta, tm, ts, dt, steps,
                               max_spikes):
    """Recurrent LIF layer on the grid, step by step; where_r, value_r: grid_tables of the recurrent synapses.

    What all neurons receive in a step lies side by side, so that they advance in vector instructions; a spike writes to the
    rows of the steps soon after its own.
    """
    n_out, n_in = weight.shape
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    drive = np.zeros((steps + 1, n_out))                 # the last row takes arrivals past the end
    where, lanes = np.empty((LANES, n_in), np.int64), np.zeros((LANES, _rows(steps)))
    v, s, spikes = np.empty(n_out), np.empty(n_out), np.empty(n_out, np.int64)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        _order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt, steps)
        for neuron in range(0, n_out, LANES):
            _round_delays(delay, neuron // LANES, dt, steps, where)
            width = min(LANES, n_out - neuron)
            for lane in range(width):
                lanes[lane, :steps] = 0
                _grid_scatter(start, step, where[lane], weight[neuron + lane], lanes[lane])
            for n in range(steps):
                for lane in range(width):
                    drive[n, neuron + lane] = lanes[lane, n]
        v[:] = 0
        s[:] = 0
        spikes[:] = 0
        for n in range(steps):
            if not _grid_step(drive[n], v, s, alpha, beta, gain, theta):
                continue
            for j in range(n_out):
                if not v[j] >= theta:
                    continue
                if spikes[j] >= max_spikes:
                    return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, j
                if total == out.shape[1]:
                    out = grown(out)
                out[0, total], out[1, total], out[2, total] = n * dt, j, s[j] - v[j]
                total += 1
                spikes[j] += 1
                v[j] = 0.0
                for m in range(n_out):
                    drive[np.uint64(min(n + 1 + where_r[j, m], steps)), m] += value_r[j, m]
        count[b - lo] = total - first
    return count, out[:, :total].copy(), OK, -1, -1


@njit(**OPTIONS)
def _grid_step(drive, v, s, alpha, beta, gain, theta):
    """Advance all neurons by a step; does any spike?"""
    above = 0
    for j in range(v.size):
        s[j] = beta * s[j] + drive[j]
        v[j] = alpha * v[j] + gain * s[j]
        above += v[j] >= theta
    return above > 0


@njit(**OPTIONS)
def li_grid_forward(offsets, events, first, weight, delay, block_lo, block_hi, tm, ts, dt, steps, voltage):
    """voltage [T, N, out]: V at every step; arguments as li_exact_forward, events: all_grid_events."""
    n_out, n_in = weight.shape
    where, drive = np.empty((LANES, n_in), np.int64), np.zeros(_rows(steps))
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _round_delays(delay, block, dt, steps, where)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            for lane in range(min(LANES, n_out - block * LANES)):
                drive[:steps] = 0
                _grid_scatter(start, step, where[lane], weight[block * LANES + lane], drive)
                v = s = 0.0
                for n in range(steps):
                    s = beta * s + drive[n]
                    v = alpha * v + gain * s
                    voltage[n, first + b, block * LANES + lane] = v


@njit(**OPTIONS)
def grid_backward(offsets, events, first, weight, delay, block_lo, block_hi, source, spike_offsets, spikes, slope, g_time,
                  g_jump, given, mu, weight_r, delay_r, theta, tm, ts, dt, steps, grad_w, grad_d, grad_wr, grad_dr, grad_t,
                  before_spikes):
    """The published backward pass, blocks block_lo..block_hi-1; arguments as in exact_backward, events
    and spikes: all_grid_events."""
    n_out, n_in = weight.shape
    recurrent = weight_r.shape[0] > 0
    n_r = n_out if recurrent else 0
    where, sums = np.empty((LANES, n_in), np.int64), np.empty((LANES, n_in, 2))
    where_r, sums_r = np.empty((LANES, n_r), np.int64), np.empty((LANES, n_r, 2))
    p, sent = np.zeros((_rows(steps), 2)), np.zeros(_rows(steps))      # zero from the end on
    by_time = np.empty(0)
    em, k, es = propagator_any(dt, tm, ts)
    drive_v, drive_i = grid_drive(dt, tm, ts)
    sampled = source.shape[0] > 0
    for block in range(block_lo, block_hi):
        neuron = block * LANES
        _round_delays(delay, block, dt, steps, where)
        sums[:] = 0
        if recurrent:
            _round_delays(delay_r, block, dt, steps, where_r)
            sums_r[:] = 0
        for b in range(offsets.size - 1):
            order, start, step = _grid_events_of(events, offsets, b)
            _order, s_start, s_step = _grid_events_of(spikes, spike_offsets, b)
            s0 = spike_offsets[b]
            if grad_t.size > 0:
                by_time = np.zeros(order.size)
            for lane in range(min(LANES, n_out - neuron)):
                j = neuron + lane
                v = q = 0.0
                spike, earliest = s_start[j + 1] - 1, s_start[j]
                for n in range(steps - 1, -1, -1):
                    v, q = em * v, k * v + es * q
                    if sampled:
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
                    p[n, 0], p[n, 1] = v, q
                _grid_gather(start, step, where[lane], p, sums[lane])
                if grad_t.size > 0:
                    for n in range(steps):
                        sent[n] = p[n, 1] / ts - p[n, 0] / tm
                    _grid_gather_times(start, step, where[lane], weight[j], sent, by_time)
                if recurrent:
                    _grid_gather(s_start, s_step, where_r[lane], p, sums_r[lane])
            for e in range(by_time.size):
                grad_t[order[e]] += by_time[e]
        _grid_finish(sums, weight, neuron, tm, ts, grad_w, grad_d)
        if recurrent:
            _grid_finish(sums_r, weight_r, neuron, tm, ts, grad_wr, grad_dr)


@njit(**OPTIONS)
def grid_drive(dt, tm, ts):
    """What dL/dV(n) adds to (p_V, p_I): the scheme spreads it over a step, as a drive g / dt held for dt."""
    _em, k, _es = propagator_any(dt, tm, ts)
    return -np.expm1(-dt / tm) * tm / dt, (-np.expm1(-dt / ts) * ts - tm * k) / dt


@njit(**OPTIONS)
def grid_recurrent_jumps(spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump, where_r, value_r, theta, tm, ts, dt,
                         steps, mu_out):
    """mu of every spike of a recurrent layer on the grid."""
    n_out = where_r.shape[0]
    sent = np.zeros((steps + 1, n_out))                  # what an arrival sends back, p_I / tau_s - p_V / tau_m
    v, q = np.empty(n_out), np.empty(n_out)
    em, k, es = propagator_any(dt, tm, ts)
    for b in range(lo, hi):
        v[:] = 0
        q[:] = 0
        spike = spike_offsets[b + 1] - 1
        for n in range(steps - 1, -1, -1):
            for j in range(n_out):
                q[j] = k * v[j] + es * q[j]
                v[j] = em * v[j]
            while spike >= spike_offsets[b] and np.int64(np.ceil(spike_t[spike] / dt - 1e-6)) == n:
                j = spike_u[spike]
                received = 0.0
                for m in range(n_out):
                    received += value_r[j, m] * sent[np.uint64(min(n + 1 + where_r[j, m], steps)), m]
                mu_out[spike] = (theta * v[j] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                v[j] += mu_out[spike]
                spike -= 1
            for j in range(n_out):
                sent[n, j] = q[j] / ts - v[j] / tm
