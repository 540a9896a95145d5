"""Forward pass of the LIF layer, exact scheme: feed-forward and recurrent."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .crossing import arrivals_of_step, grown, next_crossing, reach
from .flow import ENDLESS, LANES, OK, OPTIONS, TOO_MANY_SPIKES, flow_table, propagate
from .lanes import lowest_bit
from .quiet import advance_lanes, step_constants
from .sorting import sort_by_time, sort_pairs
from .tables import (
    all_by_unit,
    block_kicks,
    by_unit,
    clear,
    event_factors,
    fixed_point,
    inhibitory_units,
    place_of,
    scatter,
    scatter_negative,
    split_buffers,
)


@njit(**OPTIONS)
def lif_exact_forward(
    times,
    units,
    offsets,
    factors,
    weight,
    delay,
    block_lo,
    block_hi,
    theta,
    tm,
    ts,
    dt,
    steps,
    rows,
    duration,
    max_spikes,
    room_for,
):
    """Feed-forward LIF layer, blocks block_lo..block_hi-1 of its neurons, all samples; factors: event_factors.

    Returns columns (time, unit, I - theta, sample) of all spikes, at most ``room_for``, and (status, sample, neuron).
    """
    n_in = weight.shape[1]
    found = np.empty((4, 1024))  # time, unit, I - theta, sample
    total = 0
    bucket, head, inhibition = np.zeros(2 * LANES * rows), np.empty(LANES * rows, np.int32), np.zeros(LANES * rows)
    longest = 0
    for b in range(offsets.size - 1):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    s, w = np.empty(longest + 1), np.empty(longest + 1)
    state, before = np.empty(2 * LANES), np.empty(2 * LANES)
    where, kick, buffers = np.empty((n_in, LANES), np.int64), np.empty((n_in, 2 * LANES)), split_buffers(n_in)
    inhibitory, used = np.empty(n_in, np.int64), False  # units with negative weights; is any inhibition left over?
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    position, eem, ek, ees = factors
    order, start = all_by_unit(units, offsets, n_in)
    spikes = np.empty(LANES, np.int64)
    for block in range(block_lo, block_hi):
        neuron = block * LANES
        block_kicks(weight, delay, block, dt, tm, ts, steps, buffers, where, kick)
        inhibited = inhibitory_units(weight, neuron, inhibitory)
        for b in range(offsets.size - 1):
            of = slice(offsets[b], offsets[b + 1])
            et, eu = times[of], units[of]
            clear(bucket, head, steps)
            scatter(eu, position[of], eem[of], ek[of], ees[of], where, kick, bucket, head, chain)
            if used:
                inhibition[:] = 0
            used = inhibited > 0
            if used:
                scatter_negative(
                    inhibitory[:inhibited], order[of], start[b], position[of], where, weight, neuron, inhibition
                )
            state[:] = 0
            spikes[:] = 0
            for n in range(steps):
                row = LANES * (2 * n + 1)
                may = advance_lanes(bucket, inhibition, row, state, before, constants)
                while may != 0:
                    lane = lowest_bit(may)
                    may &= may - 1
                    j, place, v, i = neuron + lane, row + lane, before[lane], before[LANES + lane]
                    _may, below, after = reach(bucket, inhibition, place, v, i, constants)
                    t, end = (n + below) * dt, min((n + 1) * dt, duration)
                    em, k, es = propagate(below * dt, flow)
                    v, i, m = arrivals_of_step(
                        head, chain, place, lane, et, eu, weight[j], delay[j], t, end, em * v + k * i, es * i, s, w, flow
                    )
                    a = 0
                    until = min(end, max(t, (n + after) * dt))
                    while True:
                        t, i, a = next_crossing(v, i, t, until, a, m, s, w, theta, tm, flow)
                        if t < 0:
                            break
                        if spikes[lane] >= max_spikes:
                            return found[:, :0].copy(), TOO_MANY_SPIKES, b, j
                        if total == found.shape[1]:
                            if 2 * total > room_for:
                                return found[:, :0].copy(), ENDLESS, b, j
                            found = grown(found)
                        found[0, total], found[1, total], found[2, total], found[3, total] = t, j, i - theta, b
                        total += 1
                        spikes[lane] += 1
                        qm, _qk, _qs = propagate((n + 1) * dt - t, flow)
                        state[lane] -= theta * qm
                        v, until = 0.0, end
                        high = max(i, 0.0)  # V <= high (end - t) / tau_m until the end of the step
                        for later in range(a, m):
                            high += max(w[later], 0.0)
                        if high * (end - t) < theta * tm * (1 - 1e-9):
                            break
    return found[:, :total].copy(), OK, -1, -1


@njit(**OPTIONS)
def _recurrent_crossing(
    head,
    chain,
    echo,
    place,
    entry,
    j,
    times,
    units,
    weight,
    delay,
    out,
    first,
    weight_r,
    delay_r,
    since,
    t,
    end,
    v,
    i,
    s,
    w,
    theta,
    tm,
    flow,
):
    """Next crossing of neuron j in the step whose chains begin at place and one row on, given all arrivals known so far:
    (time, I there), time inf if none.

    From state (v, i) at time t; arrivals before since are in it already. Chains lead through input events (nodes below
    times.size, continued at chain[entry + node]) and spikes of the layer itself (continued at echo).
    """
    m = 0
    lane = j % LANES
    for row in range(2):
        node = head[place + LANES * row]
        while node >= 0:
            if node < times.size:
                u = np.int64(units[node])
                arrival, x = times[node] + delay[j, u], weight[j, u]
                node = chain[entry + node, lane]
            else:
                k = node - times.size
                u = np.int64(out[1, first + k])
                arrival, x = out[0, first + k] + delay_r[j, u], weight_r[j, u]
                node = echo[k, j]
            if arrival >= since:
                if arrival <= t:
                    _em, k_, es = propagate(t - arrival, flow)
                    v += k_ * x
                    i += es * x
                elif arrival < end:
                    s[m], w[m] = arrival, x
                    m += 1
    sort_pairs(s, w, m)
    tc, ic, _a = next_crossing(v, i, t, end, 0, m, s, w, theta, tm, flow)
    return (tc, ic) if tc >= 0 else (np.inf, 0.0)


@njit(**OPTIONS)
def _send(bucket, inhibition, head, echo, node, name, n, t, j, where_r, kick_r, weight_r, rows, dt, flow):
    """Put the arrivals of a spike of neuron j at time t in step n into the buckets and chains of all neurons."""
    step = max(np.int64(t / dt), n)
    x = max(fixed_point(t / dt), np.int64(n) << 33) + (np.int64(2) << 32)
    em, k, es = propagate(2 * dt - (t - step * dt), flow)
    for m in range(weight_r.shape[0]):
        block, lane = m // LANES, m % LANES
        r = block * LANES * rows + place_of(x, where_r[block, j, lane], lane)
        y = kick_r[block, j, 2 * lane]
        bucket[2 * r] += y * es
        bucket[2 * r + 1] += y * k + kick_r[block, j, 2 * lane + 1] * em
        if weight_r[m, j] < 0:
            inhibition[r] -= weight_r[m, j]
        echo[node, m] = head[r]
        head[r] = name


@njit(**OPTIONS)
def lif_exact_recurrent_forward(
    times,
    units,
    offsets,
    lo,
    hi,
    weight,
    delay,
    where,
    kick,
    weight_r,
    delay_r,
    where_r,
    kick_r,
    theta,
    tm,
    ts,
    dt,
    steps,
    rows,
    duration,
    max_spikes,
    room_for,
):
    """Recurrent LIF layer, samples lo..hi-1; where and kick: synapse_tables, those of the recurrent synapses by the
    sender, [block, from, lane]. Returns spikes per sample, (times, units, I - theta) of all spikes, and
    (status, sample, neuron).

    All neurons advance step by step. In a step, spikes are taken in order of time: the earliest crossing of any
    neuron is final, since arrivals it causes come no earlier; neurons that it reaches within the step are solved
    again. So delays shorter than dt, and zero, are exact.
    """
    n_out, n_in = weight.shape
    blocks = where.shape[0]
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    size = LANES * rows  # of a block
    bucket, inhibition = np.zeros(2 * blocks * size), np.zeros(blocks * size)
    head = np.empty(blocks * size, np.int32)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((blocks * longest, LANES), np.int32)
    echo = np.empty((256, n_out), np.int32)
    s, w = np.empty(longest + 258), np.empty(longest + 258)
    state, trial, before = np.empty((blocks, 2 * LANES)), np.empty(2 * LANES), np.empty(2 * LANES)
    cross, cross_i = np.empty(n_out), np.empty(n_out)
    since, last_i, reset = np.empty(n_out), np.empty(n_out), np.empty(n_out)
    spikes = np.empty(n_out, np.int64)
    active, listed = np.empty(n_out, np.int64), np.zeros(n_out, np.bool_)
    changed = np.empty(n_out, np.int64)
    constants, flow = step_constants(dt, tm, ts, theta), flow_table(dt, tm, ts)
    inhibitory, inhibited = np.empty(n_in, np.int64), weight.min() < 0
    for b in range(lo, hi):
        first = total
        et, eu = times[offsets[b] : offsets[b + 1]], units[offsets[b] : offsets[b + 1]]
        position, eem, ek, ees = event_factors(et, dt, tm, ts)
        order, start = by_unit(eu, 0, eu.size if inhibited else 0, n_in)
        bucket[:] = 0
        inhibition[:] = 0
        head[:] = -1
        for block in range(blocks):
            here = slice(block * size, (block + 1) * size)
            scatter(
                eu,
                position,
                eem,
                ek,
                ees,
                where[block],
                kick[block],
                bucket[2 * here.start : 2 * here.stop],
                head[here],
                chain[block * longest : (block + 1) * longest],
            )
            if inhibited:
                m = inhibitory_units(weight, block * LANES, inhibitory)
                scatter_negative(
                    inhibitory[:m], order, start, position, where[block], weight, block * LANES, inhibition[here]
                )
        state[:] = 0
        spikes[:] = 0
        for n in range(steps):
            begin, end = n * dt, min((n + 1) * dt, duration)
            candidates = reached = 0
            for block in range(blocks):
                trial[:] = state[block]
                may = advance_lanes(bucket, inhibition, block * size + LANES * (2 * n + 1), trial, before, constants)
                while may != 0:
                    changed[reached] = block * LANES + lowest_bit(may)
                    reached += 1
                    may &= may - 1
            while True:
                for c in range(reached):
                    m = changed[c]
                    block, lane = m // LANES, m % LANES
                    place = block * size + LANES * (2 * n + 1) + lane
                    v, i = state[block, lane], state[block, LANES + lane]
                    if not listed[m]:
                        may_reach, _below, _after = reach(bucket, inhibition, place, v, i, constants)
                        if not may_reach:
                            continue
                        listed[m], reset[m], since[m] = True, 0.0, -1.0
                        active[candidates] = m
                        candidates += 1
                    spiked = since[m] >= 0
                    cross[m], cross_i[m] = _recurrent_crossing(
                        head,
                        chain,
                        echo,
                        place,
                        block * longest,
                        m,
                        et,
                        eu,
                        weight,
                        delay,
                        out,
                        first,
                        weight_r,
                        delay_r,
                        since[m],
                        since[m] if spiked else begin,
                        end,
                        0.0 if spiked else v,
                        last_i[m] if spiked else i,
                        s,
                        w,
                        theta,
                        tm,
                        flow,
                    )
                if candidates == 0:
                    break
                j = active[0]
                for c in range(1, candidates):
                    if cross[active[c]] < cross[j]:
                        j = active[c]
                t = cross[j]
                if t == np.inf:
                    break
                if spikes[j] >= max_spikes:
                    return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, j
                if total == out.shape[1]:
                    if 2 * total > room_for:
                        return count, out[:, :0].copy(), ENDLESS, b, j
                    out = grown(out)
                out[0, total], out[1, total], out[2, total] = t, j, cross_i[j] - theta
                node = total - first
                total += 1
                spikes[j] += 1
                em, k, _es = propagate((n + 1) * dt - t, flow)
                reset[j] += theta * em
                since[j], last_i[j] = t, cross_i[j]
                if node == echo.shape[0]:
                    longer = np.empty((2 * node, n_out), np.int32)
                    longer[:node] = echo
                    echo = longer
                    s, w = np.empty(longest + 2 * node + 2), np.empty(longest + 2 * node + 2)
                _send(
                    bucket,
                    inhibition,
                    head,
                    echo,
                    node,
                    np.int32(et.size + node),
                    n,
                    t,
                    j,
                    where_r,
                    kick_r,
                    weight_r,
                    rows,
                    dt,
                    flow,
                )
                reached = 0
                for m in range(n_out):
                    arrival = t + delay_r[m, j]
                    if m == j or (arrival < end and (not listed[m] or arrival < cross[m])):
                        changed[reached] = m
                        reached += 1
            for block in range(blocks):
                advance_lanes(bucket, inhibition, block * size + LANES * (2 * n + 1), state[block], before, constants)
            for c in range(candidates):
                j = active[c]
                state[j // LANES, j % LANES] -= reset[j]
                listed[j] = False
        count[b - lo] = total - first
        for k in range(first + 1, total):  # in order already, but for rounding of simultaneous spikes
            if out[0, k] < out[0, k - 1]:
                sort_by_time(out, first, total)
                break
    return count, out[:, :total].copy(), OK, -1, -1
