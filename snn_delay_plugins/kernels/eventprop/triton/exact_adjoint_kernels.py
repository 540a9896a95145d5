"""The exact scheme, backwards: p = (dL/dV, dL/dI), obeying the transposed propagator, with jumps at the neuron's spikes.

p_v[b, n, j], p_i[b, n, j] hold p at the end of step n, (n + 1) dt. An arrival at s in step n sees that,
propagated back to s by the factors of :mod:`.exact_kernels`, plus the jumps of the neuron's spikes between s and the end of
the step, each propagated by itself. Spikes come neuron by neuron (tables.SpikeLists); first[b, n, j] is a neuron's first
spike in step n, or -1, and follow[spike] the next one of the same neuron in the same step, or -1. Programs and indices as
in :mod:`.grid_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .flow import (
    BACK_EM,
    BACK_ES,
    BACK_K,
    DELTA,
    DT,
    EM,
    EQUAL,
    ES,
    GAIN,
    INV_TAU_MEM,
    TAU_MEM,
    TAU_SYN,
    THETA,
    K,
    any_of,
    propagate,
)
from .sized import sized


@sized
def adjoint_kernel(
    start,
    step,
    times,
    slope,
    g_time,
    g_jump,
    end,
    source,
    constants,
    p_v,
    p_i,
    first,
    mu,
    before,
    steps,
    every,
    n_out,
    samples,
    of_sample,
    of_step,
    SAMPLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """p, first and the jumps mu of a feed-forward layer:

        mu_k = (theta p_V - tau_m dL/dt_k) / slope + g_jump,   p_V(t_k-) = p_V(t_k+) + mu_k          (Eq. 67)

    end[b, j] = (dL/dV, dL/dI) at the last grid point; source[n, b, j] = dL/dV(n every dt), n < samples. before[b, j]: sum
    of p_V before the spikes."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm, dt = tl.load(constants + THETA), tl.load(constants + TAU_MEM), tl.load(constants + DT)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    earliest = tl.load(start + b * n_out + j, inside, 0)
    spike = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    v = tl.load(end + (b * n_out + j) * 2, inside, 0)
    q = tl.load(end + (b * n_out + j) * 2 + 1, inside, 0)
    total = tl.zeros((BLOCK,), tl.float64)
    for back in range(steps):
        n = steps - 1 - back
        if SAMPLED:
            row = (n + 1) // every
            here = inside & ((n + 1) % every == 0) & (row < samples)
            v += tl.load(source + (b * 0 + row) * of_step + b * of_sample + j, here, 0)
        at = (b * steps + n) * n_out + j
        tl.store(p_v + at, v, inside)
        tl.store(p_i + at, q, inside)
        left = spike >= earliest
        now = left & (tl.load(step + spike, left, -1) == n)
        spiked = now
        t = tl.zeros((BLOCK,), tl.float64) + (n + 1) * dt
        while any_of(now):
            at_spike = tl.load(times + spike, now, 0)
            e, c, d = propagate(tl.where(now, t - at_spike, 0.0), inv_tm, delta, gain, equal)
            q = c * v + d * q
            v = e * v
            t = tl.where(now, at_spike, t)
            jump = (theta * v - tm * tl.load(g_time + spike, now, 0)) / tl.load(slope + spike, now, 1)
            jump += tl.load(g_jump + spike, now, 0)
            tl.store(mu + spike, jump, now)
            v += tl.where(now, jump, 0.0)
            total += tl.where(now, v, 0.0)
            spike -= now.to(tl.int64)
            left = spike >= earliest
            now = now & left & (tl.load(step + spike, left, -1) == n)
        tl.store(first + at, tl.where(spiked, spike + 1, -1).to(tl.int32), inside)
        e, c, d = em + 0 * v, k + 0 * v, es + 0 * v
        if any_of(spiked):
            x, y, z = propagate(tl.where(spiked, t - n * dt, 0.0), inv_tm, delta, gain, equal)
            e, c, d = tl.where(spiked, x, em), tl.where(spiked, y, k), tl.where(spiked, z, es)
        q = c * v + d * q
        v = e * v
    tl.store(before + b * n_out + j, total, inside)


@triton.jit
def p_at_arrival(
    b,
    time,
    position,
    em_e,
    k_e,
    es_e,
    where,
    delay,
    em_d,
    k_d,
    es_d,
    p_v,
    p_i,
    first,
    follow,
    times,
    mu,
    j,
    inside,
    bm,
    bk,
    bs,
    inv_tm,
    delta,
    gain,
    equal,
    steps,
    n_out,
):
    """(p_V, p_I) as the arrivals of an event at all lanes see it; where .. es_d: of its synapses."""
    x = (position + where) >> 32
    n = (x + 1) >> 1
    seen = inside & (n < steps)
    at = (b * steps + n) * n_out + j
    v, q = tl.load(p_v + at, seen, 0), tl.load(p_i + at, seen, 0)
    carried = (x & 1) > 0
    q = tl.where(carried, q, bk * v + bs * q)
    v = tl.where(carried, v, bm * v)
    q = k_e * v + es_e * q
    v = em_e * v
    q = k_d * v + es_d * q
    v = em_d * v
    spike = tl.load(first + at, seen, -1)
    while tl.max(spike, 0) >= 0:
        live = spike >= 0
        ahead = tl.load(times + spike, live, 0) - (time + delay)
        counts = live & (ahead > 0)
        em, k, _ = propagate(tl.where(counts, ahead, 0.0), inv_tm, delta, gain, equal)
        jump = tl.where(counts, tl.load(mu + spike, counts, 0), 0.0)
        v += em * jump
        q += k * jump
        spike = tl.load(follow + spike, live, -1)
    return v, q


@sized
def gather_kernel(
    start,
    sample,
    time,
    position,
    em_e,
    k_e,
    es_e,
    where_,
    delay_,
    em_d_,
    k_d_,
    es_d_,
    p_v,
    p_i,
    first,
    follow,
    times,
    mu,
    constants,
    sum_v,
    sum_i,
    steps,
    n_out,
    BLOCK: tl.constexpr,
):
    """Add p at the arrivals of input i to sum[i, j], in the order of its events."""
    i = tl.program_id(0)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    bm, bk, bs = tl.load(constants + BACK_EM), tl.load(constants + BACK_K), tl.load(constants + BACK_ES)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    synapse = i.to(tl.int64) * n_out + j
    where, delay = tl.load(where_ + synapse, inside, 0), tl.load(delay_ + synapse, inside, 0)
    em_d, k_d = tl.load(em_d_ + synapse, inside, 0), tl.load(k_d_ + synapse, inside, 0)
    es_d = tl.load(es_d_ + synapse, inside, 0)
    sum_of_v, sum_of_i = tl.load(sum_v + synapse, inside, 0), tl.load(sum_i + synapse, inside, 0)
    for e in range(tl.load(start + i), tl.load(start + i + 1)):
        v, q = p_at_arrival(
            tl.load(sample + e),
            tl.load(time + e),
            tl.load(position + e),
            tl.load(em_e + e),
            tl.load(k_e + e),
            tl.load(es_e + e),
            where,
            delay,
            em_d,
            k_d,
            es_d,
            p_v,
            p_i,
            first,
            follow,
            times,
            mu,
            j,
            inside,
            bm,
            bk,
            bs,
            inv_tm,
            delta,
            gain,
            equal,
            steps,
            n_out,
        )
        sum_of_v += v
        sum_of_i += q
    tl.store(sum_v + synapse, sum_of_v, inside)
    tl.store(sum_i + synapse, sum_of_i, inside)


@triton.jit
def sent_back(
    b,
    unit,
    time,
    position,
    em_e,
    k_e,
    es_e,
    where_,
    delay_,
    em_d_,
    k_d_,
    es_d_,
    weight,
    p_v,
    p_i,
    first,
    follow,
    times,
    mu,
    j,
    inside,
    bm,
    bk,
    bs,
    inv_tm,
    delta,
    gain,
    equal,
    tm,
    ts,
    steps,
    n_out,
):
    """w (p_I / tau_s - p_V / tau_m) at the arrivals of an event at all lanes: what they add to dL/dt of the event."""
    synapse = unit * n_out + j
    v, q = p_at_arrival(
        b,
        time,
        position,
        em_e,
        k_e,
        es_e,
        tl.load(where_ + synapse, inside, 0),
        tl.load(delay_ + synapse, inside, 0),
        tl.load(em_d_ + synapse, inside, 0),
        tl.load(k_d_ + synapse, inside, 0),
        tl.load(es_d_ + synapse, inside, 0),
        p_v,
        p_i,
        first,
        follow,
        times,
        mu,
        j,
        inside,
        bm,
        bk,
        bs,
        inv_tm,
        delta,
        gain,
        equal,
        steps,
        n_out,
    )
    return tl.load(weight + synapse, inside, 0) * (q / ts - v / tm)


@sized
def gather_times_kernel(
    units,
    sample,
    time,
    position,
    em_e,
    k_e,
    es_e,
    where,
    delay,
    em_d,
    k_d,
    es_d,
    weight,
    p_v,
    p_i,
    first,
    follow,
    times,
    mu,
    constants,
    grad,
    steps,
    n_out,
    BLOCK: tl.constexpr,
):
    """dL/dt of event e."""
    e = tl.program_id(0)
    bm, bk, bs = tl.load(constants + BACK_EM), tl.load(constants + BACK_K), tl.load(constants + BACK_ES)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    tm, ts = tl.load(constants + TAU_MEM), tl.load(constants + TAU_SYN)
    total = tl.zeros((BLOCK,), tl.float64)
    for j0 in range(0, n_out, BLOCK):
        j = j0 + tl.arange(0, BLOCK)
        total += sent_back(
            tl.load(sample + e),
            tl.load(units + e),
            tl.load(time + e),
            tl.load(position + e),
            tl.load(em_e + e),
            tl.load(k_e + e),
            tl.load(es_e + e),
            where,
            delay,
            em_d,
            k_d,
            es_d,
            weight,
            p_v,
            p_i,
            first,
            follow,
            times,
            mu,
            j,
            j < n_out,
            bm,
            bk,
            bs,
            inv_tm,
            delta,
            gain,
            equal,
            tm,
            ts,
            steps,
            n_out,
        )
    tl.store(grad + e, tl.sum(total, 0))


@sized
def recurrent_adjoint_kernel(
    offsets,
    place,
    units,
    step,
    time,
    position,
    em_e,
    k_e,
    es_e,
    where,
    delay,
    em_d,
    k_d,
    es_d,
    weight,
    slope,
    g_time,
    g_jump,
    start,
    list_step,
    list_t,
    follow,
    constants,
    p_v,
    p_i,
    first,
    mu,
    before,
    steps,
    n_out,
    BLOCK: tl.constexpr,
):
    """As adjoint_kernel, all neurons of a sample in one program. Spikes are taken backwards in time: dL/dt of each has also
    what its own targets send back. units .. es_e, slope, g_time, g_jump: in order of time; start, list_t, list_step, follow
    and mu: neuron by neuron, to where `place` leads from the others."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm, dt = tl.load(constants + THETA), tl.load(constants + TAU_MEM), tl.load(constants + DT)
    ts = tl.load(constants + TAU_SYN)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    bm, bk, bs = tl.load(constants + BACK_EM), tl.load(constants + BACK_K), tl.load(constants + BACK_ES)
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    earliest = tl.load(start + b * n_out + j, inside, 0)
    own = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    oldest = tl.load(offsets + b)
    spike = tl.load(offsets + b + 1) - 1
    v, q = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    for back in range(steps):
        n = steps - 1 - back
        at = (b * steps + n) * n_out + j
        tl.store(p_v + at, v, inside)
        tl.store(p_i + at, q, inside)
        left = own >= earliest
        now = left & (tl.load(list_step + own, left, -1) == n)
        spiked = now
        while any_of(now):
            own -= now.to(tl.int64)
            left = own >= earliest
            now = now & left & (tl.load(list_step + own, left, -1) == n)
        tl.store(first + at, tl.where(spiked, own + 1, -1).to(tl.int32), inside)
        tl.debug_barrier()
        t = tl.zeros((BLOCK,), tl.float64) + (n + 1) * dt
        here = spike >= oldest
        if here:
            here = tl.load(step + spike) == n
        while here:
            unit, at_spike = tl.load(units + spike), tl.load(time + spike)
            received = tl.sum(
                sent_back(
                    b,
                    unit,
                    at_spike,
                    tl.load(position + spike),
                    tl.load(em_e + spike),
                    tl.load(k_e + spike),
                    tl.load(es_e + spike),
                    where,
                    delay,
                    em_d,
                    k_d,
                    es_d,
                    weight,
                    p_v,
                    p_i,
                    first,
                    follow,
                    list_t,
                    mu,
                    j,
                    inside,
                    bm,
                    bk,
                    bs,
                    inv_tm,
                    delta,
                    gain,
                    equal,
                    tm,
                    ts,
                    steps,
                    n_out,
                ),
                0,
            )
            mine = j == unit
            e, c, d = propagate(tl.where(mine, t - at_spike, 0.0), inv_tm, delta, gain, equal)
            q = c * v + d * q
            v = e * v
            t = tl.where(mine, at_spike, t)
            jump = (theta * v - tm * (tl.load(g_time + spike) + received)) / tl.load(slope + spike)
            jump += tl.load(g_jump + spike)
            tl.store(mu + tl.load(place + spike) + 0 * j, jump, mine)
            v += tl.where(mine, jump, 0.0)
            total += tl.where(mine, v, 0.0)
            tl.debug_barrier()
            spike -= 1
            here = spike >= oldest
            if here:
                here = tl.load(step + spike) == n
        e, c, d = em + 0 * v, k + 0 * v, es + 0 * v
        if any_of(spiked):
            x, y, z = propagate(tl.where(spiked, t - n * dt, 0.0), inv_tm, delta, gain, equal)
            e, c, d = tl.where(spiked, x, em), tl.where(spiked, y, k), tl.where(spiked, z, es)
        q = c * v + d * q
        v = e * v
    tl.store(before + b * n_out + j, total, inside)
