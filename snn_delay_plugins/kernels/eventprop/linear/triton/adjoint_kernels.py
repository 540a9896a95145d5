"""Backward kernels: p = dL/dx, backwards in time, and its sums over arrivals.

p[b, n, j, i] holds p at the end of step n. Where p jumps are boundaries: number 2 k is spike k, 2 k + 1 the end of its
refractory period. The spikes come neuron by neuron (tables.SpikeLists). first[b, n, j] is the last boundary of a step,
follow the next earlier one in the same step, above the next later one, -1 if there is none; a step without boundaries has
-1 in first or, in the refractory period, -2. Of a boundary: its time (when), its step, p at it as those before it see it
(at), and that, carried on to the end of the step by the flow that holds below it (below), which is what arrivals below it
read. plus[k]: p after spike k. An arrival at the time of a spike comes after it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...triton.flow import any_of, other_than
from ...triton.sized import sized
from .flow import (
    DURATION,
    INVERSE,
    MOMENTS,
    POLYNOMIAL,
    REST,
    SLOPE,
    SQUARE,
    TAYLOR,
    WIDTH,
    C,
    H,
    J,
    P,
    column_of,
    dot,
    jumped,
    moved_back,
    place,
    three,
    times,
    times_back,
)


@triton.jit
def store_three(to, kept, p0, p1, p2):
    tl.store(to, p0, kept)
    tl.store(to + 1, p1, kept)
    tl.store(to + 2, p2, kept)


@triton.jit
def load_three(of, kept):
    return tl.load(of, kept, 0), tl.load(of + 1, kept, 0), tl.load(of + 2, kept, 0)


@triton.jit
def start_back(own, earliest, before_ready, rest):
    """1 in lanes whose last spike's refractory period is not over at the end of the sample."""
    any_spike = own >= earliest
    ready = tl.load(before_ready + own * 3, any_spike, 0)
    return ((rest > 0) & any_spike & (ready != ready)).to(tl.int32)


@triton.jit
def close(of, n, h, now, held, broken, p0, p1, p2):
    """p at the start of step n, from p at the time ``now``, the step's end where it is not broken."""
    y0, y1, y2 = times_back(of + (P + SQUARE * held) * WIDTH, p0, p1, p2)
    if any_of(broken):
        u = tl.where(broken, tl.maximum(now - n * h, 0.0), 0.0)
        z0, z1, z2 = moved_back(of + SQUARE * held * WIDTH, u, p0, p1, p2)
        y0, y1, y2 = tl.where(broken, z0, y0), tl.where(broken, z1, y1), tl.where(broken, z2, y2)
    return y0, y1, y2


@triton.jit
def pass_boundary(
    lanes, woken, spike, time, of, n, end, now, held, previous, extra, received, t, before, at_ready, g_time, g_jump, p0,
    p1, p2, first, when, step, follow, above, at, below, mu, plus, by_ready, at_step,
):  # fmt: skip
    """The lanes' boundaries, ends of refractory periods where ``woken``, else spikes. Returns p below it, whether the
    flow there is that of the refractory period, the boundary's number, and what the spike is owed by the end of its
    refractory period."""
    u = tl.where(lanes, now - time, 0.0)
    p0, p1, p2 = moved_back(of + SQUARE * held * WIDTH, u, p0, p1, p2)
    spikes = lanes & other_than(woken)
    ends = lanes & woken
    x0, x1, x2 = load_three(at_ready + 3 * spike, ends)
    a0, a1, a2 = times(of + SQUARE * WIDTH, x0, x1, x2)
    c0, c1, c2 = times(of, x0, x1, x2)
    owed = p0 * (a0 - c0) + p1 * (a1 - c1) + p2 * (a2 - c2)
    tl.store(by_ready + spike, owed, ends)
    v0, v1, v2 = load_three(before + 3 * spike, spikes)
    a0, a1, a2 = times(of, v0, v1, v2)
    c0, c1, c2 = times(of + J * WIDTH, a0, a1, a2)
    x0, x1, x2 = jumped(of, v0, v1, v2)
    resting = (tl.load(of + REST * WIDTH) > 0).to(tl.int32)
    e0, e1, e2 = times(of + SQUARE * resting * WIDTH, x0, x1, x2)
    by_time = tl.load(g_time + spike, spikes, 0) + received + extra
    changes = (x0 != v0) | (x1 != v1) | (x2 != v2) | (resting > 0)  # else both flows are one, but for rounding
    by_time += tl.where(changes, p0 * (a0 + c0 - e0) + p1 * (a1 + c1 - e1) + p2 * (a2 + c2 - e2), 0.0)
    rate = dot(of + SLOPE * WIDTH, v0, v1, v2)  # zero at an instant that is no crossing (lif.py), whose time is given
    jump = tl.load(g_jump + spike, spikes, 0) - by_time / tl.where(spikes & (by_time != 0), rate, 1.0)
    tl.store(mu + spike, jump, spikes)
    store_three(plus + 3 * spike, spikes, p0, p1, p2)
    a0, a1, a2 = times_back(of + J * WIDTH, p0, p1, p2)
    c0, c1, c2 = three(of + TAYLOR * WIDTH)
    p0 = tl.where(spikes, p0 + a0 + c0 * jump, p0)
    p1 = tl.where(spikes, p1 + a1 + c1 * jump, p1)
    p2 = tl.where(spikes, p2 + a2 + c2 * jump, p2)
    held = tl.where(lanes, ends.to(tl.int32), held)
    number = (2 * spike + ends.to(tl.int32)).to(tl.int32)
    tl.store(when + number, time, lanes)
    tl.store(step + number, (number * 0 + n).to(tl.int32), lanes)
    tl.store(above + number, previous, lanes)
    tl.store(follow + number, number * 0 - 1, lanes)
    tl.store(follow + previous, number, lanes & (previous >= 0))
    tl.store(first + at_step, number, lanes & (previous < 0))
    store_three(at + 3 * number, lanes, p0, p1, p2)
    u = tl.where(lanes, time - end, 0.0)
    y0, y1, y2 = moved_back(of + SQUARE * held * WIDTH, u, p0, p1, p2)
    store_three(below + 3 * number, lanes, y0, y1, y2)
    extra = tl.where(ends, owed, tl.where(spikes, 0.0, extra))
    return p0, p1, p2, held, tl.where(lanes, number, previous), extra


@sized
def adjoint_kernel(
    start, t, before, at_ready, g_time, g_jump, source, final, neurons, constants, p, first, when, step, follow, above, at,
    below, mu, plus, by_ready, steps, n_out, every, samples, of_sample, of_step, SAMPLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a feed-forward layer. source [samples, batch, out]: dL/dV at the start of every ``every``-th step, where it is
    SAMPLED; final [batch, out, 3]: dL/dx at the end."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    of = column_of(neurons, tl.minimum(j, n_out - 1))
    h, duration = tl.load(constants + H), tl.load(constants + DURATION)
    rest = tl.load(of + REST * WIDTH)
    earliest = tl.load(start + b * n_out + j, inside, 0)
    spike = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    held = start_back(spike, earliest, at_ready, rest)
    extra = tl.zeros((BLOCK,), tl.float64)
    p0, p1, p2 = load_three(final + 3 * (b * n_out + j), inside)
    for back in range(steps):
        n = steps - 1 - back
        if SAMPLED:
            sample = (n + 1) // every
            here = inside & (sample * every == n + 1) & (sample < samples)
            jump = tl.load(source + b * of_sample + tl.cast(sample, tl.int64) * of_step + j, here, 0)
            c0, c1, c2 = three(of + TAYLOR * WIDTH)
            p0, p1, p2 = p0 + c0 * jump, p1 + c1 * jump, p2 + c2 * jump
        end = tl.minimum((n + 1) * h, duration)
        at_step = (b * steps + n) * n_out + j
        store_three(p + 3 * at_step, inside, p0, p1, p2)
        tl.store(first + at_step, -1 - held, inside)
        now = p0 * 0 + end
        previous = held * 0 - 1
        left = spike >= earliest
        woken = left & (rest > 0) & (held == 0)
        time = tl.load(t + spike, left, 0) + tl.where(woken, rest, 0.0)
        lanes = left & (time >= n * h)
        while any_of(lanes):
            time = tl.minimum(time, now)
            p0, p1, p2, held, previous, extra = pass_boundary(
                lanes, woken, spike, time, of, n, end, now, held, previous, extra, 0.0, t, before, at_ready, g_time,
                g_jump, p0, p1, p2, first, when, step, follow, above, at, below, mu, plus, by_ready, at_step,
            )  # fmt: skip
            now = tl.where(lanes, time, now)
            spike -= (lanes & other_than(woken)).to(tl.int64)
            left = spike >= earliest
            woken = left & (rest > 0) & (held == 0)
            time = tl.load(t + spike, left, 0) + tl.where(woken, rest, 0.0)
            lanes = lanes & left & (time >= n * h)
        p0, p1, p2 = close(of, n, h, now, held, previous >= 0, p0, p1, p2)


@triton.jit
def at_arrivals(b, s, of, inside, p, first, when, follow, below, h, inverse, steps, n_out, j):
    """(q, dq/df) of the arrivals of one event at all lanes: what an arrival of weight one at the fraction f changes L
    by."""
    n, f = place(s, h, inverse, steps)
    seen = inside & (n < steps)
    at = (b * steps + n) * n_out + j
    boundary = tl.load(first + at, seen, -1)
    p0, p1, p2 = load_three(p + 3 * at, seen)
    odd = (boundary & 1) > 0
    rests = tl.load(of + REST * WIDTH) > 0
    held = tl.where(boundary >= 0, rests & other_than(odd), boundary == -2).to(tl.int32)
    going = boundary >= 0
    going = going & (s < tl.load(when + boundary, going, 0))
    while any_of(going):
        y0, y1, y2 = load_three(below + 3 * boundary, going)
        p0, p1, p2 = tl.where(going, y0, p0), tl.where(going, y1, p1), tl.where(going, y2, p2)
        held = tl.where(going, boundary & 1, held)
        boundary = tl.load(follow + boundary, going, -1)
        going = going & (boundary >= 0)
        going = going & (s < tl.load(when + boundary, going, 0))
    c = of + (C + POLYNOMIAL * held) * WIDTH
    q, slope = p0 * 0, p0 * 0
    for back in tl.static_range(0, MOMENTS):
        k = MOMENTS - 1 - back
        slope = slope * f + q
        q = q * f + dot(c + 3 * k * WIDTH, p0, p1, p2)
    return q, slope


@sized
def gather_kernel(
    start, sample, times, delay, p, first, when, follow, below, neurons, constants, sum_w, sum_d, steps, n_out,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add q and dq/df at the arrivals of input i to sum_w[i, j] and sum_d[i, j], in the order of its events."""
    i = tl.program_id(0)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    of = column_of(neurons, tl.minimum(j, n_out - 1))
    h, inverse = tl.load(constants + H), tl.load(constants + INVERSE)
    synapse = i.to(tl.int64) * n_out + j
    d = tl.load(delay + synapse, inside, 0)
    by_weight, by_delay = tl.load(sum_w + synapse, inside, 0), tl.load(sum_d + synapse, inside, 0)
    for e in range(tl.load(start + i), tl.load(start + i + 1)):
        q, slope = at_arrivals(
            tl.load(sample + e),
            tl.load(times + e) + d,
            of,
            inside,
            p,
            first,
            when,
            follow,
            below,
            h,
            inverse,
            steps,
            n_out,
            j,
        )
        by_weight += q
        by_delay += slope
    tl.store(sum_w + synapse, by_weight, inside)
    tl.store(sum_d + synapse, by_delay, inside)


@triton.jit
def sent_back(
    b, time, unit, weight, delay, of, inside, p, first, when, follow, below, h, inverse, steps, n_out, j
):  # fmt: skip
    """w dq/df 2 / h at the arrivals of an event at all lanes: what they add to dL/dt of the event."""
    synapse = unit * n_out + j
    s = time + tl.load(delay + synapse, inside, 0)
    _q, slope = at_arrivals(b, s, of, inside, p, first, when, follow, below, h, inverse, steps, n_out, j)
    return 2.0 * inverse * tl.load(weight + synapse, inside, 0) * slope


@sized
def gather_times_kernel(
    units, sample, times, weight, delay, p, first, when, follow, below, neurons, constants, grad, steps, n_out,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """dL/dt of event e."""
    e = tl.program_id(0)
    h, inverse = tl.load(constants + H), tl.load(constants + INVERSE)
    total = tl.zeros((BLOCK,), tl.float64)
    for j0 in range(0, n_out, BLOCK):
        j = j0 + tl.arange(0, BLOCK)
        total += sent_back(
            tl.load(sample + e), tl.load(times + e), tl.load(units + e), weight, delay, column_of(neurons, tl.minimum(j,
            n_out - 1)), j < n_out, p, first, when, follow, below, h, inverse, steps, n_out, j,
        )  # fmt: skip
    tl.store(grad + e, tl.sum(total, 0))


@sized
def recurrent_adjoint_kernel(
    offsets, units, time_of, weight, delay, start, t, before, at_ready, g_time, g_jump, neurons, constants, p, first,
    when, step, follow, above, at, below, mu, plus, by_ready, steps, n_out, BLOCK: tl.constexpr,
):  # fmt: skip
    """As adjoint_kernel, all neurons of a sample in one program. Spikes are taken backwards in time: dL/dt of each has also
    what its own targets send back. units, time_of: in order of time; everything else comes
    neuron by neuron."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    of = column_of(neurons, tl.minimum(j, n_out - 1))
    h, inverse, duration = tl.load(constants + H), tl.load(constants + INVERSE), tl.load(constants + DURATION)
    rest = tl.load(of + REST * WIDTH)
    earliest = tl.load(start + b * n_out + j, inside, 0)
    own = tl.load(start + b * n_out + j + 1, inside, 0) - 1
    held = start_back(own, earliest, at_ready, rest)
    oldest = tl.load(offsets + b)
    spike = tl.load(offsets + b + 1) - 1
    p0 = tl.zeros((BLOCK,), tl.float64)
    p1, p2, extra = p0, p0, p0
    for back in range(steps):
        n = steps - 1 - back
        end = tl.minimum((n + 1) * h, duration)
        at_step = (b * steps + n) * n_out + j
        store_three(p + 3 * at_step, inside, p0, p1, p2)
        tl.store(first + at_step, -1 - held, inside)
        tl.debug_barrier()
        now = p0 * 0 + end
        previous = held * 0 - 1
        going = n >= 0
        while going:
            # first the ends of refractory periods down to the next spike, or to the start of the step
            here = spike >= oldest
            t_next = tl.load(time_of + tl.maximum(spike, 0))
            here = here & (t_next >= n * h)
            down_to = tl.where(here, t_next, n * h)
            left = own >= earliest
            woken = left & (rest > 0) & (held == 0)
            time = tl.load(t + own, left, 0) + rest
            lanes = woken & (time >= down_to)
            if any_of(lanes):
                time = tl.minimum(time, now)
                p0, p1, p2, held, previous, extra = pass_boundary(
                    lanes, woken, own, time, of, n, end, now, held, previous, extra, 0.0, t, before, at_ready, g_time,
                    g_jump, p0, p1, p2, first, when, step, follow, above, at, below, mu, plus, by_ready, at_step,
                )  # fmt: skip
                now = tl.where(lanes, time, now)
                tl.debug_barrier()
            if here:
                unit = tl.load(units + spike)
                received = tl.sum(
                    sent_back(
                        b,
                        t_next,
                        unit,
                        weight,
                        delay,
                        of,
                        inside,
                        p,
                        first,
                        when,
                        follow,
                        below,
                        h,
                        inverse,
                        steps,
                        n_out,
                        j,
                    ),
                    0,
                )
                lanes = j == unit
                time = tl.minimum(t_next + p0 * 0, now)
                p0, p1, p2, held, previous, extra = pass_boundary(
                    lanes, lanes == 0, own, time, of, n, end, now, held, previous,
                    extra, received, t, before, at_ready, g_time, g_jump, p0, p1, p2, first, when, step, follow, above, at,
                    below, mu, plus, by_ready, at_step,
                )  # fmt: skip
                now = tl.where(lanes, time, now)
                own -= lanes.to(tl.int64)
                spike -= 1
                tl.debug_barrier()
            going = here
        p0, p1, p2 = close(of, n, h, now, held, previous >= 0, p0, p1, p2)
