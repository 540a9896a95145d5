"""The largest V of a leaky integrator over a sample, exact scheme: ``_peak`` of :mod:`..numba.readout`, lane by lane."""

from __future__ import annotations

import triton
import triton.language as tl

from .crossing import next_arrival
from .exact_kernels import may_cross
from .flow import (
    BACK_ES,
    DELTA,
    DT,
    EM,
    EQUAL,
    ES,
    GAIN,
    INV_TAU_MEM,
    TAU_MEM,
    TAU_SYN,
    K,
    any_of,
    other_than,
    propagate,
)  # fmt: skip
from .sized import sized


@triton.jit
def extremum(lanes, v, i, length, tm, ts, inv_tm, delta, gain, equal):
    """Where I = V in [0, length], if I > V at 0: I - V falls through zero once; bisection, Newton. Whether, where."""
    em, k, es = propagate(tl.where(lanes, length, 0.0), inv_tm, delta, gain, equal)
    found = lanes & (es * i - em * v - k * i <= 0)
    low, high = tl.zeros_like(v), length
    u = 0.5 * length
    running = found
    rounds = 0
    while any_of(running) & (rounds < 100):
        em, k, es = propagate(tl.where(running, u, 0.0), inv_tm, delta, gain, equal)
        x, y = em * v + k * i, es * i
        low = tl.where(running & (y > x), u, low)
        high = tl.where(running & (y <= x), u, high)
        slope = -y / ts - (y - x) * inv_tm
        new = u - (y - x) / tl.where(slope < 0, slope, 1.0)
        new = tl.where((slope < 0) & (new > low) & (new < high), new, 0.5 * (low + high))
        done = tl.abs(new - u) <= 1e-16 * tm
        u = tl.where(running, new, u)
        running = running & other_than(done)
        rounds += 1
    return found, u


@sized
def peak_kernel(
    current, voltage, inhibition, head, chain, times, units, weight, delay, constants, peak, peak_t, peak_e, peak_s,
    steps, n_out, BLOCK: tl.constexpr,
):  # fmt: skip
    """peak, peak_t [N, out]: the largest V and its first time; peak_e, peak_s: the event at whose inhibitory arrival V has
    a kink there and V' before it (else -1 and 0). Steps whose bound stays below the largest V are not looked into."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    tm, ts, dt = tl.load(constants + TAU_MEM), tl.load(constants + TAU_SYN), tl.load(constants + DT)
    inv_tm, delta = tl.load(constants + INV_TAU_MEM), tl.load(constants + DELTA)
    gain, equal = tl.load(constants + GAIN), tl.load(constants + EQUAL)
    em, k, es, bs = (tl.load(constants + EM), tl.load(constants + K), tl.load(constants + ES), tl.load(constants + BACK_ES))
    v, i = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    best, when, slope = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    for n in range(steps):
        at = (b * steps + n) * n_out + j
        di, dv = tl.load(current + at, inside, 0), tl.load(voltage + at, inside, 0)
        down = tl.load(inhibition + at, inside, 0)
        lanes = inside & may_cross(v, i, di, dv, down, em, k, es, bs, dt * inv_tm, best)
        if any_of(lanes):
            first = tl.load(head + at, lanes, -1)
            t = tl.zeros((BLOCK,), tl.float64) + n * dt
            end = (n + 1) * dt
            now_v, now_i = v, i
            arrival, arriving, now_v, now_i = next_arrival(
                first,
                chain,
                times,
                units,
                weight,
                delay,
                j,
                n_out,
                t,
                t,
                now_v,
                now_i,
                end,
                inv_tm,
                delta,
                gain,
                equal,
                True,
            )
            open_, going = lanes, any_of(lanes)  # in a name: Triton 3.2 takes no call in the test of a loop inside an if
            while going:
                until = tl.minimum(arrival, end)
                length = tl.where(open_, until - t, 0.0)
                rising = open_ & (now_i > now_v) & (now_i > 0)
                found, u = extremum(rising, now_v, now_i, length, tm, ts, inv_tm, delta, gain, equal)
                e, c, d = propagate(tl.where(found, u, 0.0), inv_tm, delta, gain, equal)
                top = e * now_v + c * now_i
                higher = found & (top > best)
                best, when = tl.where(higher, top, best), tl.where(higher, t + u, when)
                slope = tl.where(higher, 0.0, slope)
                e, c, d = propagate(length, inv_tm, delta, gain, equal)
                now_v = e * now_v + c * now_i
                now_i = d * now_i
                higher = open_ & (now_v > best)
                best, when = tl.where(higher, now_v, best), tl.where(higher, until, when)
                slope = tl.where(higher, (now_i - now_v) * inv_tm, slope)
                open_ = open_ & (arrival < end)
                now_i += tl.where(open_, arriving, 0.0)
                t = tl.where(open_, until, t)
                arrival, arriving, now_v, now_i = next_arrival(
                    tl.where(open_, first, -1), chain, times, units, weight, delay, j, n_out, t, t, now_v, now_i, end,
                    inv_tm, delta, gain, equal, False,
                )  # fmt: skip
                going = any_of(open_)
        v = em * v + k * i + dv
        i = es * i + di
    kink = tl.zeros((BLOCK,), tl.int64) - 1
    sought = inside & (slope > 1e-12) & (when < steps * dt)
    middle = (when / dt).to(tl.int64)
    for near in range(3):  # rounding may have put an arrival into the step beside
        place = middle + near - 1
        there = sought & (place >= 0) & (place < steps)
        node = tl.load(head + (b * steps + place) * n_out + j, there, -1)
        while tl.max(node, 0) >= 0:
            live = node >= 0
            event = node.to(tl.int64)
            synapse = tl.load(units + event, live, 0) * n_out + j
            s = tl.load(times + event, live, 0) + tl.load(delay + synapse, live, 0)
            here = live & (kink < 0) & (tl.load(weight + synapse, live, 0) < 0) & (tl.abs(s - when) <= 1e-12 * (1 + when))
            kink = tl.where(here, event, kink)
            node = tl.load(chain + event * n_out + j, live, -1)
    tl.store(peak + b * n_out + j, best, inside)
    tl.store(peak_t + b * n_out + j, when, inside)
    tl.store(peak_e + b * n_out + j, kink, inside)
    tl.store(peak_s + b * n_out + j, tl.where(kink >= 0, slope, 0.0), inside)
