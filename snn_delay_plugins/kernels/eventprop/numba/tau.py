"""Derivatives by tau_mem and tau_syn, exact scheme."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .adjoint import adjoint
from .crossing import advance
from .flow import LANES, OPTIONS, flow_table, propagator, propagator_by_tau
from .quiet import step_constants
from .tables import clear, event_tables, place_of, scatter


@njit(**OPTIONS)
def _gather_tau(
    start,
    position,
    es_e,
    k_e,
    em_e,
    by_tau,
    where,
    factor,
    weight,
    delay,
    rows_p,
    et,
    grid,
    t,
    mu,
    spike_start,
    neuron,
    n_out,
    dt,
    tm,
    ts,
    total,
):
    """Add to total = (d/d tau_m, d/d tau_s) what the arrivals' own propagators P(h) (0, w) contribute."""
    for i in range(where.shape[0]):
        if start[i] == start[i + 1]:
            continue
        for j in range(min(LANES, n_out - neuron)):
            w = weight[neuron + j, i]
            s0 = s1 = a0 = a1 = a2 = 0.0
            for e in range(start[i], start[i + 1]):
                r = place_of(position[e], where[i, j], j)
                v, q = rows_p[2 * r], rows_p[2 * r + 1]
                if v == v:
                    s0 += em_e[e] * v
                    s1 += k_e[e] * v + es_e[e] * q
                    a0 += by_tau[e, 0] * v
                    a1 += by_tau[e, 1] * v
                    a2 += by_tau[e, 2] * v + by_tau[e, 3] * q
                elif not 0 <= q < t.size:  # p overflowed
                    total[:] = np.nan
                else:
                    n = (r // LANES - 1) // 2
                    s = et[e] + delay[neuron + j, i]
                    _, dm_k, ds_k, ds_es = propagator_by_tau((n + 1) * dt - s, tm, ts)
                    total[0] += w * dm_k * grid[j, n + 1, 0]
                    total[1] += w * (ds_k * grid[j, n + 1, 0] + ds_es * grid[j, n + 1, 1])
                    spike = np.int64(q)
                    while spike < spike_start[neuron + j + 1] and (t[spike] < (n + 1) * dt or n + 3 == grid.shape[1]):
                        if t[spike] > s:
                            _, dm_k, ds_k, ds_es = propagator_by_tau(t[spike] - s, tm, ts)
                            total[0] += w * mu[spike] * dm_k
                            total[1] += w * mu[spike] * ds_k
                        spike += 1
            x = delay[neuron + j, i]
            _, dm_k, ds_k, ds_es = propagator_by_tau(-(x - np.int64(x / dt) * dt), tm, ts)
            total[0] += w * (factor[i, j, 1] * a0 + factor[i, j, 0] * a1 + dm_k * s0)
            total[1] += w * (factor[i, j, 0] * a2 + ds_k * s0 + ds_es * s1)


@njit(**OPTIONS)
def _events_by_tau(times, dt, tm, ts):
    table = np.empty((times.size, 4))
    for e in range(times.size):
        f = times[e] - np.int64(times[e] / dt) * dt
        table[e, 0], table[e, 1], table[e, 2], table[e, 3] = propagator_by_tau(2 * dt - f, tm, ts)
    return table


@njit(**OPTIONS)
def _tables_of(times, units, lo, hi, n_units, dt, tm, ts):
    """event_tables of one sample."""
    order, start, t, position, em, k, es = event_tables(
        times[lo:hi], units[lo:hi], np.array([0, hi - lo]), n_units, dt, tm, ts
    )
    return order, start[0], t, position, em, k, es


@njit(**OPTIONS)
def exact_tau_gradient(
    times,
    units,
    offsets,
    weight,
    delay,
    where,
    factor,
    kick,
    end,
    source,
    every,
    spike_t,
    spike_u,
    spike_offsets,
    lo,
    hi,
    mu_given,
    resets,
    weight_r,
    delay_r,
    where_r,
    factor_r,
    kick_r,
    theta,
    tm,
    ts,
    dt,
    steps,
    rows,
):
    """(dL/d tau_m, dL/d tau_s) with the jumps mu of all spikes given; spikes reset V where resets is true.

    dL/d tau = sum of p(end) dP(length)/d tau x(start) over all pieces of free evolution: state from grid point to grid
    point, and every arrival and every reset to the grid point that follows it.
    """
    n_out, n_in = delay.shape
    rows_p, grid = np.zeros(2 * LANES * rows), np.zeros((LANES, steps + 2, 2))
    bucket, head = np.zeros(2 * LANES * rows), np.empty(LANES * rows, np.int32)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b], spike_offsets[b + 1] - spike_offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    forth_by, back_by = propagator_by_tau(dt, tm, ts), propagator_by_tau(-dt, tm, ts)
    total, nothing = np.zeros(2), np.empty(0)
    for b in range(lo, hi):
        order, start, et, position, eem, ek, ees = _tables_of(times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        eu = units[offsets[b] : offsets[b + 1]][order]
        by_tau = _events_by_tau(et, dt, tm, ts)
        s0, s1 = spike_offsets[b], spike_offsets[b + 1]
        s_order, s_start, t, s_position, sem, sk, ses = _tables_of(spike_t, spike_u, s0, s1, n_out, dt, tm, ts)
        su = spike_u[s0:s1][s_order]
        s_by_tau = _events_by_tau(t, dt, tm, ts)
        mu, after = mu_given[s0:s1][s_order], np.empty((t.size, 5))
        for block in range(where.shape[0]):
            neuron = block * LANES
            clear(bucket, head, steps)
            scatter(eu, position, eem, ek, ees, where[block], kick[block], bucket, head, chain)
            if delay_r.shape[0] > 0:
                scatter(su, s_position, sem, sk, ses, where_r[block], kick_r[block], bucket, head, chain)
            lanes = min(LANES, n_out - neuron)
            adjoint(
                rows_p,
                after,
                grid,
                lanes,
                steps,
                dt,
                end[b, neuron:],
                source,
                every,
                b * n_out + neuron,
                t,
                mu,
                nothing,
                nothing,
                nothing,
                s_start[neuron:],
                True,
                theta,
                tm,
                constants,
                flow,
            )
            for lane in range(lanes):
                j = neuron + lane
                state_v = state_i = 0.0
                spike, stop = s_start[j], s_start[j + 1]
                for n in range(steps):
                    v, q = grid[lane, n + 1, 0], grid[lane, n + 1, 1]
                    x, y = state_v, state_i
                    total[0] += v * (forth_by[0] * x + forth_by[1] * y)
                    total[1] += (v * forth_by[2] + q * forth_by[3]) * y
                    reset = 0.0
                    if spike < stop and (t[spike] < (n + 1) * dt or n == steps - 1):
                        while spike < stop and (t[spike] < (n + 1) * dt or n == steps - 1):
                            dm_em, dm_k, ds_k, _ = propagator_by_tau(t[spike] - n * dt, tm, ts)
                            total[0] += mu[spike] * (dm_em * x + dm_k * y)
                            total[1] += mu[spike] * ds_k * y
                            if resets:
                                h = (n + 1) * dt - t[spike]
                                em, _, _ = propagator(h, tm, ts)
                                reset += theta * em
                                total[0] -= theta * v * em * h / (tm * tm)
                                later = spike + 1
                                while later < stop and (t[later] < (n + 1) * dt or n == steps - 1):
                                    h = t[later] - t[spike]
                                    em, _, _ = propagator(h, tm, ts)
                                    total[0] -= theta * mu[later] * em * h / (tm * tm)
                                    later += 1
                            spike += 1
                    else:
                        r = 2 * (LANES * (2 * n + 2) + lane)
                        x, y = bucket[r + 1], bucket[r]
                        total[0] += v * (back_by[0] * x + back_by[1] * y)
                        total[1] += (v * back_by[2] + q * back_by[3]) * y
                    state_v, state_i = advance(bucket, LANES * (2 * n + 1) + lane, state_v, state_i, constants)
                    state_v -= reset
            _gather_tau(
                start,
                position,
                ees,
                ek,
                eem,
                by_tau,
                where[block],
                factor[block],
                weight,
                delay,
                rows_p,
                et,
                grid,
                t,
                mu,
                s_start,
                neuron,
                n_out,
                dt,
                tm,
                ts,
                total,
            )
            if delay_r.shape[0] > 0:
                _gather_tau(
                    s_start,
                    s_position,
                    ses,
                    sk,
                    sem,
                    s_by_tau,
                    where_r[block],
                    factor_r[block],
                    weight_r,
                    delay_r,
                    rows_p,
                    t,
                    grid,
                    t,
                    mu,
                    s_start,
                    neuron,
                    n_out,
                    dt,
                    tm,
                    ts,
                    total,
                )
    return total[0], total[1]
