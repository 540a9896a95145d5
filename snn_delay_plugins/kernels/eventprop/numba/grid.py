"""The published scheme on the grid: forward and backward passes."""

from __future__ import annotations

import numpy as np

from ....bins import FLOAT64, SLACK
from ...compiled import njit
from .crossing import grown
from .flow import LANES, OK, OPTIONS, TOO_MANY_SPIKES, propagator_any
from .tables import by_unit, by_unit_into

GROUP = 4  # neurons that share one pass over the events: their columns fit the innermost cache


@njit(**OPTIONS)
def _rows(steps):
    """Of a neuron's column: a spike in the last step and a delay of all steps reach row 2 steps + 1."""
    return 2 * steps + 2


@njit(**OPTIONS)
def _block_buffers(n_in):
    """What _grid_block writes to."""
    return np.empty((LANES // GROUP, n_in, GROUP), np.int64), np.empty((LANES // GROUP, n_in, GROUP))


@njit(**OPTIONS)
def _grid_block(weight, delay, block, dt, steps, where, value):
    """Of the synapses to LANES neurons, group after group: rounded delay in steps [in, G], at most steps, and w [in, G];
    zero for those beyond the last neuron."""
    for lane in range(LANES):
        j, group, place = block * LANES + lane, lane // GROUP, lane % GROUP
        if j >= weight.shape[0]:
            where[group, :, place] = 0
            value[group, :, place] = 0
            continue
        for i in range(weight.shape[1]):
            where[group, i, place] = _in_steps(delay[j, i], dt, steps)
            value[group, i, place] = weight[j, i]


@njit(**OPTIONS)
def _in_steps(delay, dt, steps):
    return np.int64(min(np.floor(delay / dt + 0.5), float(steps)))


@njit(**OPTIONS)
def grid_tables(weight, delay, dt, steps):
    """Of layers whose neurons advance together, by the sender: rounded delay in steps, at most steps, and w [in, out]."""
    n_out, n_in = weight.shape
    where, value = np.empty((n_in, n_out), np.int64), np.empty((n_in, n_out))
    for j in range(n_out):
        for i in range(n_in):
            where[i, j], value[i, j] = _in_steps(delay[j, i], dt, steps), weight[j, i]
    return where, value


@njit(**OPTIONS)
def _grid_events(times, units, lo, hi, n_units, dt, steps, eps):
    """Events by unit: order, pointers and the row in which a spike without delay is seen, one step after its own."""
    order, start = by_unit(units, lo, hi, n_units)
    step = np.empty(hi - lo, np.int64)
    _fill_steps(times, order, dt, steps, eps, step)
    return order, start, step


@njit(**OPTIONS)
def _fill_steps(times, order, dt, steps, eps, step):
    for e in range(order.size):
        step[e] = min(_step_of(times[order[e]], dt, eps), steps) + 1


@njit(**OPTIONS)
def _step_of(time, dt, eps):
    """As bins.step_of."""
    position = time / dt
    return np.int64(np.ceil(position - min(max(2 * eps * position, SLACK), 0.5)))


@njit(**OPTIONS)
def all_float32(times):
    """As bins.eps_of: were these numbers float32?"""
    e = 0
    while e < times.size and np.float64(np.float32(times[e])) == times[e]:
        e += 1
    return e == times.size


@njit(**OPTIONS)
def all_grid_events(times, units, offsets, n_units, dt, steps, eps):
    """The same of all samples: pointers [N, units + 1], order and row [events]."""
    samples = offsets.size - 1
    order, start = np.empty(times.size, np.int64), np.empty((samples, n_units + 1), np.int64)
    step = np.empty(times.size, np.int64)
    for b in range(samples):
        lo, hi = offsets[b], offsets[b + 1]
        by_unit_into(units, lo, hi, order[lo:hi], start[b])
        _fill_steps(times, order[lo:hi], dt, steps, eps, step[lo:hi])
    return order, start, step


@njit(**OPTIONS)
def _grid_events_of(tables, offsets, b):
    order, start, step = tables
    lo, hi = offsets[b], offsets[b + 1]
    return order[lo:hi], start[b], step[lo:hi]


@njit(**OPTIONS)
def _grid_scatter(start, step, where, value, drive):
    """Add every arrival at a group of neurons to its row of drive [G, rows]. Arrivals past the end fall into the rows
    behind, which nobody reads."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x = step[e]
            for j in range(GROUP):
                drive[j, np.uint64(x + where[i, j])] += value[i, j]


@njit(**OPTIONS)
def _grid_gather(start, step, where, p, sums):
    """sums[i, j] += (p_V, p_I) of p [G, rows, 2] at the arrivals at a group of four, whose sums stay in registers."""
    for i in range(where.shape[0]):
        d0, d1, d2, d3 = where[i]
        v0 = v1 = v2 = v3 = q0 = q1 = q2 = q3 = 0.0
        for e in range(start[i], start[i + 1]):
            x = step[e]
            r0, r1, r2, r3 = np.uint64(x + d0), np.uint64(x + d1), np.uint64(x + d2), np.uint64(x + d3)
            v0 += p[0, r0, 0]
            q0 += p[0, r0, 1]
            v1 += p[1, r1, 0]
            q1 += p[1, r1, 1]
            v2 += p[2, r2, 0]
            q2 += p[2, r2, 1]
            v3 += p[3, r3, 0]
            q3 += p[3, r3, 1]
        for j, (v, q) in enumerate(((v0, q0), (v1, q1), (v2, q2), (v3, q3))):
            sums[i, j, 0] += v
            sums[i, j, 1] += q


@njit(**OPTIONS)
def _grid_finish(sums, weight, neuron, tm, ts, grad_w, grad_d):
    """As the exact scheme's _finish, from the sums [groups, in, G, 2] of _grid_gather."""
    for lane in range(min(LANES, weight.shape[0] - neuron)):
        j, group, place = neuron + lane, lane // GROUP, lane % GROUP
        for i in range(weight.shape[1]):
            v, q = sums[group, i, place, 0], sums[group, i, place, 1]
            grad_w[j, i] += q
            grad_d[j, i] += weight[j, i] * (q / ts - v / tm)


@njit(**OPTIONS)
def _grid_gather_times(start, step, where, value, sent, by_time):
    """by_time[e] += the derivative by the time of event e (by unit), the sum of w sent [G, rows] at its arrivals."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x, total = step[e], 0.0
            for j in range(GROUP):
                total += value[i, j] * sent[j, np.uint64(x + where[i, j])]
            by_time[e] += total


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
    where, value = _block_buffers(n_in)
    drive, state = np.zeros((GROUP, _rows(steps))), np.empty(2)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _grid_block(weight, delay, block, dt, steps, where, value)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            for lane in range(min(LANES, n_out - block * LANES)):
                j, group, place = block * LANES + lane, lane // GROUP, lane % GROUP
                if place == 0:
                    drive[:, :steps] = 0
                    _grid_scatter(start, step, where[group], value[group], drive)
                state[:] = 0
                before, n = total, 0
                while True:
                    n = _grid_run(drive[place], n, steps, state, alpha, beta, gain, theta)
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
def lif_grid_recurrent_forward(
    times, units, offsets, eps, lo, hi, weight, delay, where_r, value_r, theta, tm, ts, dt, steps, max_spikes
):
    """Recurrent LIF layer on the grid, step by step; where_r, value_r: grid_tables of the recurrent synapses.

    What all neurons receive in a step lies side by side, so that they advance in vector instructions; a spike writes to the
    rows of the steps soon after its own.
    """
    n_out, n_in = weight.shape
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    drive = np.zeros((steps + 1, n_out))  # the last row takes arrivals past the end
    blocks = (n_out + LANES - 1) // LANES
    where = np.empty((blocks, LANES // GROUP, n_in, GROUP), np.int64)
    value = np.empty(where.shape)
    for block in range(blocks):
        _grid_block(weight, delay, block, dt, steps, where[block], value[block])
    columns = np.zeros((GROUP, _rows(steps)))
    v, s, spikes = np.empty(n_out), np.empty(n_out), np.empty(n_out, np.int64)
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        _order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt, steps, eps)
        for neuron in range(0, n_out, GROUP):
            block, group = neuron // LANES, neuron % LANES // GROUP
            columns[:, :steps] = 0
            _grid_scatter(start, step, where[block, group], value[block, group], columns)
            for n in range(steps):
                for j in range(min(GROUP, n_out - neuron)):
                    drive[n, neuron + j] = columns[j, n]
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
    where, value = _block_buffers(n_in)
    drive = np.zeros((GROUP, _rows(steps)))
    alpha, beta, gain = _grid_constants(dt, tm, ts)
    for block in range(block_lo, block_hi):
        _grid_block(weight, delay, block, dt, steps, where, value)
        for b in range(offsets.size - 1):
            _order, start, step = _grid_events_of(events, offsets, b)
            for lane in range(min(LANES, n_out - block * LANES)):
                group, place = lane // GROUP, lane % GROUP
                if place == 0:
                    drive[:, :steps] = 0
                    _grid_scatter(start, step, where[group], value[group], drive)
                v = s = 0.0
                for n in range(steps):
                    s = beta * s + drive[place, n]
                    v = alpha * v + gain * s
                    voltage[n, first + b, block * LANES + lane] = v


@njit(**OPTIONS)
def grid_backward(
    offsets,
    events,
    first,
    weight,
    delay,
    block_lo,
    block_hi,
    source,
    spike_offsets,
    spikes,
    slope,
    g_time,
    g_jump,
    given,
    mu,
    weight_r,
    delay_r,
    theta,
    tm,
    ts,
    dt,
    steps,
    grad_w,
    grad_d,
    grad_wr,
    grad_dr,
    grad_t,
    before_spikes,
):
    """The published backward pass, blocks block_lo..block_hi-1; arguments as in exact_backward, events
    and spikes: all_grid_events."""
    n_out, n_in = weight.shape
    recurrent = weight_r.shape[0] > 0
    n_r = n_out if recurrent else 0
    where, value = _block_buffers(n_in)
    where_r, value_r = _block_buffers(n_r)
    sums, sums_r = np.empty((*where.shape, 2)), np.empty((*where_r.shape, 2))
    p, sent = np.zeros((GROUP, _rows(steps), 2)), np.zeros((GROUP, _rows(steps)))  # zero from the end on
    by_time = np.empty(0)
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
            if grad_t.size > 0:
                by_time = np.zeros(order.size)
            for lane in range(min(LANES, n_out - neuron)):
                j, group, place = neuron + lane, lane // GROUP, lane % GROUP
                if place == 0 and j + GROUP > n_out:
                    p[:] = 0  # of the neurons that are not there
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
                    p[place, n, 0], p[place, n, 1] = v, q
                if place < GROUP - 1 and j < n_out - 1:
                    continue
                _grid_gather(start, step, where[group], p, sums[group])
                if grad_t.size > 0:
                    for member in range(GROUP):
                        for n in range(steps):
                            sent[member, n] = p[member, n, 1] / ts - p[member, n, 0] / tm
                    _grid_gather_times(start, step, where[group], value[group], sent, by_time)
                if recurrent:
                    _grid_gather(s_start, s_step, where_r[group], p, sums_r[group])
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
def grid_recurrent_jumps(
    spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump, where_r, value_r, theta, tm, ts, dt, steps, mu_out
):
    """mu of every spike of a recurrent layer on the grid."""
    n_out = where_r.shape[0]
    sent = np.zeros((steps + 1, n_out))  # what an arrival sends back, p_I / tau_s - p_V / tau_m
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
            while spike >= spike_offsets[b] and _step_of(spike_t[spike], dt, FLOAT64) == n:
                j = spike_u[spike]
                received = 0.0
                for m in range(n_out):
                    received += value_r[j, m] * sent[np.uint64(min(n + 1 + where_r[j, m], steps)), m]
                mu_out[spike] = (theta * v[j] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                v[j] += mu_out[spike]
                spike -= 1
            for j in range(n_out):
                sent[n, j] = q[j] / ts - v[j] / tm
