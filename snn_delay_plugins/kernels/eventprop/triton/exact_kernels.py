"""The exact scheme (:mod:`..numba` has the algorithm): forward kernels.

A step has one bucket: current[b, n, j] and voltage[b, n, j] are what the arrivals of step n amount to at its end. Programs
and indices as in :mod:`.grid_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .crossing import next_crossing
from .flow import (
    BACK_EM,
    BACK_ES,
    BACK_K,
    DELTA,
    DT,
    DURATION,
    EM,
    EQUAL,
    ES,
    GAIN,
    INV_TAU_MEM,
    TAU_MEM,
    THETA,
    K,
    any_of,
    other_than,
    propagate,
)
from .sized import sized


@triton.jit
def add_arrivals(
    b,
    node,
    unit,
    position,
    em_e,
    k_e,
    es_e,
    where,
    k_d,
    es_d,
    weight,
    current,
    voltage,
    inhibition,
    head,
    chain,
    j,
    inside,
    bm,
    bk,
    bs,
    steps,
    n_out,
    INHIBITED: tl.constexpr,
    CHAINED: tl.constexpr,
):
    """Arrivals of one event at all lanes: w P(2 dt - ft) P(-fd) (0, 1), as seen from the grid point after the next or, if
    the fractions carry, from the next; put at the head of the step's chain."""
    synapse = unit * n_out + j
    x = (position + tl.load(where + synapse, inside, 0)) >> 32
    n = (x + 1) >> 1
    seen = inside & (n < steps)
    w = tl.load(weight + synapse, seen, 0)
    es = tl.load(es_d + synapse, seen, 0)
    di = es * es_e * w
    dv = (es * k_e + tl.load(k_d + synapse, seen, 0) * em_e) * w
    carried = (x & 1) > 0
    dv = tl.where(carried, dv, bm * dv + bk * di)
    di = tl.where(carried, di, bs * di)
    at = (b * steps + n) * n_out + j
    tl.store(current + at, tl.load(current + at, seen, 0) + di, seen)
    tl.store(voltage + at, tl.load(voltage + at, seen, 0) + dv, seen)
    if INHIBITED:
        tl.store(inhibition + at, tl.load(inhibition + at, seen, 0) + tl.maximum(-w, 0.0), seen)
    if CHAINED:
        tl.store(chain + node * n_out + j, tl.load(head + at, seen, -1), seen)
        tl.store(head + at, j * 0 + node, seen)


@triton.jit
def may_cross(v, i, di, dv, down, em, k, es, bs, rate, theta):
    """Whether a neuron may reach the threshold in a step: the bound of eventprop.numba's quiet_steps."""
    low = theta * (1 - 1e-9)
    after = em * v + k * i + dv
    a = tl.maximum((tl.maximum(i, 0.0) + (di + down) * bs - v) * rate, 0.0)
    c = tl.maximum((theta + down - tl.minimum(i, es * i)) * rate, 0.0)
    return (low - v) * c + (low - after) * a <= a * c


@sized
def scatter_kernel(
    units,
    position,
    em_e,
    k_e,
    es_e,
    ranges,
    where,
    k_d,
    es_d,
    weight,
    constants,
    current,
    voltage,
    inhibition,
    head,
    chain,
    steps,
    n_out,
    INHIBITED: tl.constexpr,
    CHAINED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The buckets of all arrivals; inhibition[b, n, j] = sum of |w| of the negative ones."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    bm, bk, bs = tl.load(constants + BACK_EM), tl.load(constants + BACK_K), tl.load(constants + BACK_ES)
    for e in range(tl.load(ranges + 2 * b), tl.load(ranges + 2 * b + 1)):
        add_arrivals(
            b,
            e,
            tl.load(units + e),
            tl.load(position + e),
            tl.load(em_e + e),
            tl.load(k_e + e),
            tl.load(es_e + e),
            where,
            k_d,
            es_d,
            weight,
            current,
            voltage,
            inhibition,
            head,
            chain,
            j,
            inside,
            bm,
            bk,
            bs,
            steps,
            n_out,
            INHIBITED,
            CHAINED,
        )


@sized
def lif_kernel(
    current,
    voltage,
    inhibition,
    head,
    chain,
    times,
    units,
    weight,
    delay,
    constants,
    found_t,
    found_slope,
    count,
    steps,
    n_out,
    capacity,
    max_spikes,
    INHIBITED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """From grid point to grid point; in a step in which a bound says that a neuron may spike its arrivals are looked at one
    by one. Spikes (time, I - theta) as in grid_kernels.lif_kernel."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm, dt = tl.load(constants + THETA), tl.load(constants + TAU_MEM), tl.load(constants + DT)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    em, k, es, bs = (tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES), tl.load(constants + BACK_ES))
    duration = tl.load(constants + DURATION)
    v, i, down = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    fired = tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        at = (b * steps + n) * n_out + j
        di, dv = tl.load(current + at, inside, 0), tl.load(voltage + at, inside, 0)
        if INHIBITED:
            down = tl.load(inhibition + at, inside, 0)
        lanes = inside & (fired <= max_spikes) & may_cross(v, i, di, dv, down, em, k, es, bs, dt * inv_tm, theta)
        reset = tl.zeros((BLOCK,), tl.float64)
        t = reset + n * dt
        now_v, now_i, since = v, i, reset - 1
        later = (n + 1) * dt
        end = tl.minimum(later, duration)
        while any_of(lanes):
            t, now_i = next_crossing(
                lanes,
                head + at,
                chain,
                times,
                units,
                weight,
                delay,
                j,
                n_out,
                since,
                t,
                now_v,
                now_i,
                end,
                theta,
                tm,
                inv_tm,
                delta,
                gain,
                equal,
            )
            lanes = lanes & (t <= end)
            t = tl.where(lanes, t, end)
            place = (b * capacity + fired) * n_out + j
            kept = lanes & (fired < capacity)
            tl.store(found_t + place, t, kept)
            tl.store(found_slope + place, now_i - theta, kept)
            fired += lanes.to(tl.int32)
            decay, _, _ = propagate(tl.where(lanes, later - t, 0.0), inv_tm, delta, gain, equal)
            reset += tl.where(lanes, theta * decay, 0.0)
            now_v = tl.zeros((BLOCK,), tl.float64)
            since = t
            high = tl.maximum(now_i, 0.0) + tl.maximum((di + down) * bs, 0.0)  # no more than V can reach
            lanes = lanes & (fired <= max_spikes) & (high * (end - t) >= theta * tm * (1 - 1e-9))
        v = em * v + k * i + dv - reset
        i = es * i + di
    tl.store(count + b * n_out + j, fired, inside)


@sized
def li_kernel(
    current, bucket_v, constants, voltage, final, steps, every, samples, n_out, of_sample, of_step, BLOCK: tl.constexpr
):
    """V(n every dt) of the readout to voltage[n, b, j], n < samples; (V, I) at the end to final[b, j]."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    v, i = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    for n in range(steps):
        sampled = inside & (n % every == 0) & (n // every < samples)
        row = b * 0 + n // every  # 64 bits
        tl.store(voltage + row * of_step + b * of_sample + j, v, sampled)
        at = (b * steps + n) * n_out + j
        v = em * v + k * i + tl.load(bucket_v + at, inside, 0)
        i = es * i + tl.load(current + at, inside, 0)
    tl.store(final + (b * n_out + j) * 2, v, inside)
    tl.store(final + (b * n_out + j) * 2 + 1, i, inside)


@sized
def recurrent_kernel(
    current,
    voltage,
    inhibition,
    head,
    chain,
    ranges,
    node_t,
    node_u,
    weight,
    delay,
    where,
    k_d,
    es_d,
    constants,
    found_t,
    found_slope,
    count,
    sent,
    steps,
    n_in,
    n_out,
    capacity,
    nodes,
    max_spikes,
    INHIBITED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """As lif_kernel, all neurons of a sample in one program. The synapses are [in + out, out]: a spike of neuron j is an
    event of unit in + j and takes the next free node of the sample, after the nodes of its input events. There are `nodes`
    of them; the sample stops when they are used up (the caller starts again with more).

    In a step spikes are taken in order of time: the earliest crossing of any neuron is final, since arrivals it causes
    come no earlier; neurons that it reaches within the step are solved again. So delays shorter than dt, and zero, are
    exact.
    """
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm, dt = tl.load(constants + THETA), tl.load(constants + TAU_MEM), tl.load(constants + DT)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    bm, bk, bs = tl.load(constants + BACK_EM), tl.load(constants + BACK_K), tl.load(constants + BACK_ES)
    duration = tl.load(constants + DURATION)
    node = tl.load(ranges + 2 * b + 1)
    last = node + nodes
    open_ = node < last
    v, i, down = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    fired = tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        at = (b * steps + n) * n_out + j
        later = (n + 1) * dt
        end = tl.minimum(later, duration)
        di, dv = tl.load(current + at, inside, 0), tl.load(voltage + at, inside, 0)
        if INHIBITED:
            down = tl.load(inhibition + at, inside, 0)
        listed = open_ & inside & may_cross(v, i, di, dv, down, em, k, es, bs, dt * inv_tm, theta)
        reset = tl.zeros((BLOCK,), tl.float64)
        from_t, from_v, from_i, since = reset + n * dt, v, i, reset - 1
        crossing, at_crossing = reset + float("inf"), reset
        if any_of(listed):
            crossing, at_crossing = next_crossing(
                listed,
                head + at,
                chain,
                node_t,
                node_u,
                weight,
                delay,
                j,
                n_out,
                since,
                from_t,
                from_v,
                from_i,
                end,
                theta,
                tm,
                inv_tm,
                delta,
                gain,
                equal,
            )
        t = tl.min(crossing, 0)
        while (t <= end) & open_:
            sender = tl.min(tl.where(crossing == t, j, BLOCK), 0)
            mine = j == sender
            tl.store(node_t + node, t)
            tl.store(node_u + node, (n_in + sender).to(tl.int64))
            place = (b * capacity + fired) * n_out + j
            kept = mine & (fired < capacity)
            tl.store(found_t + place, crossing, kept)
            tl.store(found_slope + place, at_crossing - theta, kept)
            fired += mine.to(tl.int32)
            decay, _, _ = propagate(later - t, inv_tm, delta, gain, equal)
            reset += tl.where(mine, theta * decay, 0.0)
            from_t, since = tl.where(mine, t, from_t), tl.where(mine, t, since)
            from_v, from_i = tl.where(mine, 0.0, from_v), tl.where(mine, at_crossing, from_i)
            fraction = tl.maximum(t - n * dt, 0.0)
            position = ((b * 0 + n) << 33) + tl.minimum((fraction / dt * 4294967296.0).to(tl.int64), 4294967295)
            em_e, k_e, es_e = propagate(2 * dt - fraction, inv_tm, delta, gain, equal)
            unit = (n_in + sender).to(tl.int64)
            tl.debug_barrier()
            add_arrivals(
                b,
                node,
                unit,
                position,
                em_e,
                k_e,
                es_e,
                where,
                k_d,
                es_d,
                weight,
                current,
                voltage,
                inhibition,
                head,
                chain,
                j,
                inside,
                bm,
                bk,
                bs,
                steps,
                n_out,
                INHIBITED,
                True,
            )
            tl.debug_barrier()
            di, dv = tl.load(current + at, inside, 0), tl.load(voltage + at, inside, 0)
            if INHIBITED:
                down = tl.load(inhibition + at, inside, 0)
            arrival = t + tl.load(delay + unit * n_out + j, inside, 0)
            reached = mine | (inside & (arrival < end) & (other_than(listed) | (arrival < crossing)))
            listed = listed | (reached & may_cross(v, i, di, dv, down, em, k, es, bs, dt * inv_tm, theta))
            reached = reached & listed
            again, at_again = next_crossing(
                reached,
                head + at,
                chain,
                node_t,
                node_u,
                weight,
                delay,
                j,
                n_out,
                since,
                from_t,
                from_v,
                from_i,
                end,
                theta,
                tm,
                inv_tm,
                delta,
                gain,
                equal,
            )
            crossing, at_crossing = tl.where(reached, again, crossing), tl.where(reached, at_again, at_crossing)
            t = tl.min(crossing, 0)
            node += 1
            open_ = (node < last) & (tl.max(fired, 0) <= max_spikes)
        tl.debug_barrier()
        v = em * v + k * i + tl.load(voltage + at, inside, 0) - reset
        i = es * i + tl.load(current + at, inside, 0)
    tl.store(count + b * n_out + j, fired, inside)
    tl.store(sent + b, node - tl.load(ranges + 2 * b + 1))
