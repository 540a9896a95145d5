"""The published scheme on the grid (:mod:`..numba.grid` has its equations): kernels of feed-forward layers.

A program owns a block of neurons of one sample, lane by lane; ``b`` counts the samples of a group, ``n`` steps. Programs
that sum gradients own one input and a block of neurons. Nobody else touches what a lane writes, so that no sum depends on
the order in which programs run.
"""

from __future__ import annotations

import triton.language as tl

from .flow import DRIVE_I, DRIVE_V, DT, EM, ES, GRID_GAIN, TAU_MEM, TAU_SYN, THETA, K, any_of
from .sized import sized


@sized
def scatter_kernel(units, row, offsets, where, weight, drive, steps, n_out, of_sample, of_step, BLOCK: tl.constexpr):
    """drive[b, n, j] = sum of w_ji over the arrivals in step n = row + where; they add up in the order of the events."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    for e in range(tl.load(offsets + b), tl.load(offsets + b + 1)):
        synapse = tl.load(units + e) * n_out + j
        n = tl.load(row + e) + tl.load(where + synapse, inside, 0)
        seen = inside & (n < steps)
        at = drive + b * of_sample + n * of_step + j
        tl.store(at, tl.load(at, seen, 0) + tl.load(weight + synapse, inside, 0), seen)


@sized
def lif_kernel(drive, constants, found_t, found_slope, count, steps, n_out, capacity, max_spikes, BLOCK: tl.constexpr):
    """V through the steps. Spikes (time, I - V) go to found[b, k, j] while k < capacity; count[b, j] has all of them, up to
    the one that is too many."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    theta, dt = tl.load(constants + THETA), tl.load(constants + DT)
    alpha, beta, gain = tl.load(constants + EM), tl.load(constants + ES), tl.load(constants + GRID_GAIN)
    v, s = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    fired = tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        s = beta * s + tl.load(drive + (b * steps + n) * n_out + j, inside, 0)
        v = alpha * v + gain * s
        spike = inside & (v >= theta) & (fired <= max_spikes)
        at = (b * capacity + fired) * n_out + j
        kept = spike & (fired < capacity)
        tl.store(found_t + at, v * 0 + n * dt, kept)
        tl.store(found_slope + at, s - v, kept)
        fired += spike.to(tl.int32)
        v = tl.where(spike, 0.0, v)
    tl.store(count + b * n_out + j, fired, inside)


@sized
def li_kernel(drive, constants, steps, n_out, of_sample, of_step, BLOCK: tl.constexpr):
    """Replace drive[n, b, j] by V."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    alpha, beta, gain = tl.load(constants + EM), tl.load(constants + ES), tl.load(constants + GRID_GAIN)
    v, s = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    at = drive + b * of_sample + j
    for _ in range(steps):
        s = beta * s + tl.load(at, inside, 0)
        v = alpha * v + gain * s
        tl.store(at, v, inside)
        at += of_step


@sized
def adjoint_kernel(
    start,
    step,
    slope,
    g_time,
    g_jump,
    source,
    constants,
    p_v,
    p_i,
    before,
    steps,
    n_out,
    of_sample,
    of_step,
    SAMPLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """p[b, n, j] = (dL/dV, dL/dI), backwards; before[b, j] = sum of p_V before the spikes (-dL/d theta). At a spike, listed
    neuron by neuron from start[b out + j] on,

        p_V <- p_V + (theta p_V - tau_m dL/dt) / slope + dL/dpotential                                        (Eq. 67)"""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm = tl.load(constants + THETA), tl.load(constants + TAU_MEM)
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    drive_v, drive_i = tl.load(constants + DRIVE_V), tl.load(constants + DRIVE_I)
    first = tl.load(start + b * n_out + j, inside, 0)
    spike = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    v, q = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    for back in range(steps):
        n = steps - 1 - back
        q = k * v + es * q
        v = em * v
        if SAMPLED:
            g = tl.load(source + (b * 0 + n) * of_step + b * of_sample + j, inside, 0)
            v += drive_v * g
            q += drive_i * g
        left = spike >= first
        now = left & (tl.load(step + spike, left, -1) == n)
        jump = (theta * v - tm * tl.load(g_time + spike, now, 0)) / tl.load(slope + spike, now, 1)
        v += tl.where(now, jump + tl.load(g_jump + spike, now, 0), 0.0)
        total += tl.where(now, v, 0.0)
        spike -= now.to(tl.int64)
        at = (b * steps + n) * n_out + j
        tl.store(p_v + at, v, inside)
        tl.store(p_i + at, q, inside)
    tl.store(before + b * n_out + j, total, inside)


@sized
def gather_kernel(start, sample, row, where, p_v, p_i, sum_v, sum_i, steps, n_out, BLOCK: tl.constexpr):
    """Add p at the arrivals of input i to sum[i, j], in the order of its events."""
    i = tl.program_id(0)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    synapse = i.to(tl.int64) * n_out + j
    d = tl.load(where + synapse, inside, 0)
    v, q = tl.load(sum_v + synapse, inside, 0), tl.load(sum_i + synapse, inside, 0)
    for e in range(tl.load(start + i), tl.load(start + i + 1)):
        n = tl.load(row + e) + d
        seen = inside & (n < steps)
        at = (tl.load(sample + e) * steps + n) * n_out + j
        v += tl.load(p_v + at, seen, 0)
        q += tl.load(p_i + at, seen, 0)
    tl.store(sum_v + synapse, v, inside)
    tl.store(sum_i + synapse, q, inside)


@sized
def gather_times_kernel(units, sample, row, where, weight, p_v, p_i, constants, grad, steps, n_out, BLOCK: tl.constexpr):
    """Of event e: sum of w (p_I / tau_s - p_V / tau_m) at its arrivals."""
    e = tl.program_id(0)
    tm, ts = tl.load(constants + TAU_MEM), tl.load(constants + TAU_SYN)
    i, b, first_row = tl.load(units + e), tl.load(sample + e), tl.load(row + e)
    total = tl.zeros((BLOCK,), tl.float64)
    for j0 in range(0, n_out, BLOCK):
        j = j0 + tl.arange(0, BLOCK)
        inside = j < n_out
        synapse = i * n_out + j
        n = first_row + tl.load(where + synapse, inside, 0)
        seen = inside & (n < steps)
        at = (b * steps + n) * n_out + j
        p = tl.load(p_i + at, seen, 0) / ts - tl.load(p_v + at, seen, 0) / tm
        total += tl.load(weight + synapse, inside, 0) * p
    tl.store(grad + e, tl.sum(total, 0))


@sized
def recurrent_kernel(
    drive, where, weight, constants, found_t, found_slope, count, steps, n_out, capacity, max_spikes, BLOCK: tl.constexpr
):
    """As lif_kernel, all neurons of a sample in one program; a spike's arrivals add to the drive of later steps, spikes of
    a step in the order of their neurons. where and weight [from, to]."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    theta, dt = tl.load(constants + THETA), tl.load(constants + DT)
    alpha, beta, gain = tl.load(constants + EM), tl.load(constants + ES), tl.load(constants + GRID_GAIN)
    v, s = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    fired = tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        s = beta * s + tl.load(drive + (b * steps + n) * n_out + j, inside, 0)
        v = alpha * v + gain * s
        spike = inside & (v >= theta) & (fired <= max_spikes)
        at = (b * capacity + fired) * n_out + j
        kept = spike & (fired < capacity)
        tl.store(found_t + at, v * 0 + n * dt, kept)
        tl.store(found_slope + at, s - v, kept)
        fired += spike.to(tl.int32)
        v = tl.where(spike, 0.0, v)
        sender = tl.min(tl.where(spike, j, BLOCK), 0)
        while sender < BLOCK:
            synapse = sender.to(tl.int64) * n_out + j
            m = n + 1 + tl.load(where + synapse, inside, 0)
            seen = inside & (m < steps)
            arrival = drive + (b * steps + m) * n_out + j
            tl.store(arrival, tl.load(arrival, seen, 0) + tl.load(weight + synapse, inside, 0), seen)
            tl.debug_barrier()
            sender = tl.min(tl.where(spike & (j > sender), j, BLOCK), 0)
        tl.debug_barrier()
    tl.store(count + b * n_out + j, fired, inside)


@sized
def recurrent_adjoint_kernel(
    start, step, slope, g_time, g_jump, where, weight, constants, p_v, p_i, before, steps, n_out, BLOCK: tl.constexpr
):
    """As adjoint_kernel, all neurons of a sample in one program: dL/dt of a spike has also what its own targets send back,
    sum_m w_m (p_I / tau_s - p_V / tau_m)_m at its arrivals, all of them later. where and weight [from, to]."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    theta, tm, ts = tl.load(constants + THETA), tl.load(constants + TAU_MEM), tl.load(constants + TAU_SYN)
    em, k, es = tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES)
    first = tl.load(start + b * n_out + j, inside, 0)
    spike = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    v, q = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    for back in range(steps):
        n = steps - 1 - back
        q = k * v + es * q
        v = em * v
        left = spike >= first
        now = left & (tl.load(step + spike, left, -1) == n)
        if any_of(now):
            received = tl.zeros((BLOCK,), tl.float64)
            sender = tl.min(tl.where(now, j, BLOCK), 0)
            while sender < BLOCK:
                synapse = sender.to(tl.int64) * n_out + j
                m = n + 1 + tl.load(where + synapse, inside, 0)
                seen = inside & (m < steps)
                at = (b * steps + m) * n_out + j
                p = tl.load(p_i + at, seen, 0) / ts - tl.load(p_v + at, seen, 0) / tm
                back_sent = tl.sum(tl.load(weight + synapse, inside, 0) * p, 0)
                received = tl.where(j == sender, back_sent, received)
                sender = tl.min(tl.where(now & (j > sender), j, BLOCK), 0)
            jump = (theta * v - tm * (tl.load(g_time + spike, now, 0) + received)) / tl.load(slope + spike, now, 1)
            v += tl.where(now, jump + tl.load(g_jump + spike, now, 0), 0.0)
            total += tl.where(now, v, 0.0)
            spike -= now.to(tl.int64)
        at = (b * steps + n) * n_out + j
        tl.store(p_v + at, v, inside)
        tl.store(p_i + at, q, inside)
        tl.debug_barrier()
    tl.store(before + b * n_out + j, total, inside)
