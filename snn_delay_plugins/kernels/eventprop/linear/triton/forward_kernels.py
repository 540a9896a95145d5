"""Forward kernels (:mod:`..linear` has the algorithm).

bucket[b, n, j, k]: the moments of the arrivals of step n; inhibition[b, n, j]: sum of |w| of the negative ones; head[b,
n, j] and chain[node, j]: the arrivals of a step, one leading to the next, in no order. A spike has seven rows in found[b,
number, row, j]: its time, x before the jump, x at the end of the refractory period. Programs as in the kernels of LIF:
one of 32 neurons and one sample, or one of all neurons of a sample.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...triton.flow import any_of, other_than
from ...triton.sized import sized
from .flow import (
    CURVATURE,
    DURATION,
    INVERSE,
    MOMENTS,
    REST,
    SLOPE,
    SQUARE,
    TAYLOR,
    THETA,
    WIDTH,
    B,
    H,
    ahead,
    column,
    column_of,
    dot,
    first_rise,
    jumped,
    moved,
    place,
)


@triton.jit
def add_arrivals(
    b, node, time, unit, weight, delay, bucket, inhibition, head, chain, j, inside, h, inverse, steps, n_out,
    INHIBITED: tl.constexpr,
):  # fmt: skip
    """Arrivals of one event at all lanes: moments, and the head of the step's chain. Returns times and steps."""
    synapse = unit * n_out + j
    s = time + tl.load(delay + synapse, inside, 0)
    n, f = place(s, h, inverse, steps)
    seen = inside & (n < steps)
    w = tl.load(weight + synapse, seen, 0)
    at = (b * steps + n) * n_out + j
    moments = bucket + at * MOMENTS
    power = w
    for k in tl.static_range(0, MOMENTS):
        tl.store(moments + k, tl.load(moments + k, seen, 0) + power, seen)
        power = power * f
    if INHIBITED:
        tl.store(inhibition + at, tl.load(inhibition + at, seen, 0) + tl.maximum(-w, 0.0), seen)
    tl.store(chain + node * n_out + j, tl.load(head + at, seen, -1), seen)
    tl.store(head + at, j * 0 + node, seen)
    return s, n


@sized
def scatter_kernel(
    times, units, ranges, weight, delay, constants, bucket, inhibition, head, chain, steps, n_out,
    INHIBITED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The buckets of all arrivals."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    h, inverse = tl.load(constants + H), tl.load(constants + INVERSE)
    for e in range(tl.load(ranges + 2 * b), tl.load(ranges + 2 * b + 1)):
        add_arrivals(
            b, e, tl.load(times + e), tl.load(units + e), weight, delay, bucket, inhibition, head, chain, j, j < n_out, h,
            inverse, steps, n_out, INHIBITED,
        )  # fmt: skip


@triton.jit
def bounds(of, b0, b1, b2, h):
    """What one excitatory and one inhibitory arrival of weight one may add to V' in a step."""
    kick = dot(of + SLOPE * WIDTH, b0, b1, b2)
    spread = h * dot(of + CURVATURE * WIDTH, tl.abs(b0), tl.abs(b1), tl.abs(b2))
    return tl.maximum(spread + kick, 0.0), tl.maximum(spread - kick, 0.0)


@triton.jit
def may_cross(of, x0, x1, x2, y0, y1, y2, total, negative, raises, lowers, h):
    """Whether a neuron may reach the threshold in a step that begins in x and ends in y: the bound of linear.forward's
    quiet_steps."""
    low = tl.load(of + THETA * WIDTH) * (1 - 1e-9)
    v, after = dot(of + TAYLOR * WIDTH, x0, x1, x2), dot(of + TAYLOR * WIDTH, y0, y1, y2)
    rate = dot(of + SLOPE * WIDTH, x0, x1, x2)
    bend = h * dot(of + CURVATURE * WIDTH, tl.abs(x0), tl.abs(x1), tl.abs(x2))
    positive = total + negative
    up = tl.maximum(rate + bend + positive * raises + negative * lowers, 0.0)
    down = tl.maximum(bend - rate + positive * lowers + negative * raises, 0.0)
    return other_than((low - v) * down + (low - after) * up > up * down * h)


@triton.jit
def next_arrival(node, chain, node_t, node_u, weight, delay, j, n_out, seen, end):
    """The first arrival after ``seen``: its time, brought back to the step's end, inf if there is none, and weight;
    arrivals at the same time are one. node: the heads of the chains, or -1 in lanes that are not asked."""
    arrival = seen * 0 + float("inf")
    arriving = seen * 0
    while tl.max(node, 0) >= 0:
        live = node >= 0
        event = node.to(tl.int64)
        synapse = tl.load(node_u + event, live, 0) * n_out + j
        s = tl.minimum(tl.load(node_t + event, live, 0) + tl.load(delay + synapse, live, 0), end)
        w = tl.load(weight + synapse, live, 0)
        later = live & (s > seen)
        arriving = tl.where(later & (s < arrival), w, tl.where(later & (s == arrival), arriving + w, arriving))
        arrival = tl.where(later & (s < arrival), s, arrival)
        node = tl.load(chain + event * n_out + j, live, -1)
    return arrival, arriving


@triton.jit
def advance(
    active, first, chain, node_t, node_u, weight, delay, j, n_out, of, b0, b1, b2, end, ready, t, x0, x1, x2, seen, below
):  # fmt: skip
    """Lanes from state x at time t to what comes first: the next arrival, a crossing, the end of the refractory period or
    of the step. Lanes that cross, lanes whose refractory period ends, lanes that arrive at the step's end; t, x, the time
    of the last arrival taken, is V below the threshold.

    Arrivals before a crossing are taken, those at it or later are not: a spike is later than any arrival it has seen.
    """
    arrival, arriving = next_arrival(tl.where(active, first, -1), chain, node_t, node_u, weight, delay, j, n_out, seen, end)
    until = tl.maximum(tl.minimum(arrival, end), t)
    resting = active & (t < ready)
    until = tl.where(resting, tl.minimum(until, ready), until)
    length = tl.where(active, until - t, 0.0)
    found, u, after = first_rise(active & other_than(resting) & (length > 0), of, length, below, x0, x1, x2)
    below = tl.where(active, after, below)
    held = resting.to(tl.int32)
    u = tl.where(found | (u != u), u, length)
    y0, y1, y2 = moved(of + SQUARE * held * WIDTH, u, x0, x1, x2)
    x0, x1, x2 = tl.where(active, y0, x0), tl.where(active, y1, x1), tl.where(active, y2, x2)
    following = (t.to(tl.int64, bitcast=True) + 1).to(tl.float64, bitcast=True)  # the next number
    t = tl.where(found, tl.minimum(tl.maximum(t + u, following), until), tl.where(active, until, t))
    woken = resting & (t >= ready)
    below = tl.where(woken, dot(of + TAYLOR * WIDTH, x0, x1, x2) < tl.load(of + THETA * WIDTH), below)
    goes_on = active & other_than(found | woken)  # an arrival at the same time is taken afterwards
    takes = goes_on & (arrival <= t)
    w = tl.where(takes, arriving, 0.0)
    x0, x1, x2 = x0 + w * b0, x1 + w * b1, x2 + w * b2
    seen = tl.where(takes, arrival, seen)
    done = goes_on & (t >= end) & (arrival >= end)
    return found, woken, done, t, x0, x1, x2, seen, below


@triton.jit
def record(found, spike, n_out, kept, t, x0, x1, x2):
    """Of spikes: time, x before the jump, none yet at the end of the refractory period. spike: where their rows begin."""
    tl.store(found + spike, t, kept)
    tl.store(found + spike + n_out, x0, kept)
    tl.store(found + spike + 2 * n_out, x1, kept)
    tl.store(found + spike + 3 * n_out, x2, kept)
    tl.store(found + spike + 4 * n_out, t * 0 + float("nan"), kept)
    tl.store(found + spike + 5 * n_out, t * 0 + float("nan"), kept)
    tl.store(found + spike + 6 * n_out, t * 0 + float("nan"), kept)


@triton.jit
def record_ready(found, spike, n_out, kept, x0, x1, x2):
    tl.store(found + spike + 4 * n_out, x0, kept)
    tl.store(found + spike + 5 * n_out, x1, kept)
    tl.store(found + spike + 6 * n_out, x2, kept)


@triton.jit
def after_spike(of, found, t, x0, x1, x2, ready, below):
    """State, end of the refractory period, is V below the threshold, after the jump of the lanes ``found``."""
    y0, y1, y2 = jumped(of, x0, x1, x2)
    theta, rest = tl.load(of + THETA * WIDTH), tl.load(of + REST * WIDTH)
    below = tl.where(found, dot(of + TAYLOR * WIDTH, y0, y1, y2) < theta * (1 - 1e-12), below)
    ready = tl.where(found & (rest > 0), t + rest, ready)
    return tl.where(found, y0, x0), tl.where(found, y1, x1), tl.where(found, y2, x2), ready, below


@sized
def spikes_kernel(
    bucket, inhibition, head, chain, times, units, weight, delay, neurons, constants, found, count, final, steps, n_out,
    capacity, max_spikes, INHIBITED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A feed-forward layer, from step to step; in one in which a bound says that a neuron may spike, or in which its
    refractory period ends, its arrivals are looked at one by one. Spikes beyond the capacity are counted alone; final[b,
    j] is no finite number if the state overflows."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    of = column_of(neurons, tl.minimum(j, n_out - 1))
    h, duration = tl.load(constants + H), tl.load(constants + DURATION)
    b0, b1, b2 = column(constants + B)
    raises, lowers = bounds(of, b0, b1, b2, h)
    zero = tl.zeros((BLOCK,), tl.float64)
    x0, x1, x2, ready, negative = zero, zero, zero, zero - 1, zero
    fired, below = tl.zeros((BLOCK,), tl.int32), zero == 0
    for n in range(steps):
        at = (b * steps + n) * n_out + tl.minimum(j, n_out - 1)
        end = tl.minimum((n + 1) * h, duration)
        if INHIBITED:
            negative = tl.load(inhibition + at)
        held = ready > end
        y0, y1, y2 = ahead(of, held.to(tl.int32), bucket + at * MOMENTS, x0, x1, x2)
        total = tl.load(bucket + at * MOMENTS)
        active = (ready > n * h) | may_cross(of, x0, x1, x2, y0, y1, y2, total, negative, raises, lowers, h)
        active = active & inside & other_than(held) & (fired <= max_spikes)
        below = below | other_than(held | active)
        x0, x1, x2 = tl.where(active, x0, y0), tl.where(active, x1, y1), tl.where(active, x2, y2)
        t, seen = zero + n * h, zero - 1
        while any_of(active):
            spikes, woken, done, t, x0, x1, x2, seen, below = advance(
                active, tl.load(head + at), chain, times, units, weight, delay, j, n_out, of, b0, b1, b2, end, ready, t, x0,
                x1, x2, seen, below,
            )  # fmt: skip
            spot = (b * capacity + fired) * 7 * n_out + j
            record(found, spot, n_out, spikes & (fired < capacity), t, x0, x1, x2)
            record_ready(found, spot - 7 * n_out, n_out, woken & (fired <= capacity), x0, x1, x2)
            x0, x1, x2, ready, below = after_spike(of, spikes, t, x0, x1, x2, ready, below)
            fired += spikes.to(tl.int32)
            active = active & other_than(done) & (fired <= max_spikes)
    tl.store(count + b * n_out + j, fired, inside)
    tl.store(final + b * n_out + j, tl.abs(x0) + tl.abs(x1) + tl.abs(x2), inside)


@triton.jit
def _crossings(
    lanes, head, chain, node_t, node_u, weight, delay, j, n_out, of, b0, b1, b2, end, ready, t, x0, x1, x2, seen, below,
    found, last, kept,
):  # fmt: skip
    """Lanes from x at t to the first crossing, its time, or to the end of the step, inf; and there x, the time of the
    last arrival taken, whether V is below the threshold. x at the end of a refractory period on the way goes to the rows
    of the spike ``last``."""
    crossing = x0 * 0 + float("inf")
    active = lanes
    while any_of(active):
        spikes, woken, done, t, x0, x1, x2, seen, below = advance(
            active, tl.load(head), chain, node_t, node_u, weight, delay, j, n_out, of, b0, b1, b2, end, ready, t, x0, x1,
            x2, seen, below,
        )  # fmt: skip
        record_ready(found, last, n_out, woken & kept, x0, x1, x2)
        crossing = tl.where(spikes, t, crossing)
        active = active & other_than(spikes | done)
    return crossing, x0, x1, x2, seen, below


@sized
def recurrent_kernel(
    bucket, inhibition, head, chain, ranges, node_t, node_u, weight, delay, neurons, constants, found, count, final, sent,
    steps, n_in, n_out, capacity, nodes, max_spikes, INHIBITED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As spikes_kernel, all neurons of a sample in one program. The synapses are [in + out, out]: a spike of neuron j is an
    event of unit in + j and takes the next free node of the sample, after those of its input events. There are ``nodes`` of
    them; the sample stops when they are used up (the caller starts again with more).

    In a step spikes are taken in order of time: the earliest crossing of any neuron is final, since arrivals it causes
    come no earlier; neurons that it reaches within the step are solved again from their own last spike. So delays shorter
    than a step, and zero, are exact.
    """
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < n_out
    near = tl.minimum(j, n_out - 1)
    of = column_of(neurons, near)
    h, inverse, duration = tl.load(constants + H), tl.load(constants + INVERSE), tl.load(constants + DURATION)
    b0, b1, b2 = column(constants + B)
    raises, lowers = bounds(of, b0, b1, b2, h)
    node = tl.load(ranges + 2 * b + 1)
    last_node = node + nodes
    open_ = node < last_node
    zero = tl.zeros((BLOCK,), tl.float64)
    x0, x1, x2, ready, negative = zero, zero, zero, zero - 1, zero
    fired, below = tl.zeros((BLOCK,), tl.int32), zero == 0
    for n in range(steps):
        at = (b * steps + n) * n_out + near
        end = tl.minimum((n + 1) * h, duration)
        listed = zero > 0
        from_t, from0, from1, from2, since, from_below = zero + n * h, x0, x1, x2, zero - 1, below
        crossing, seen = zero + float("inf"), zero - 1
        reached = inside
        going = open_
        while going:
            held = ready > end
            if INHIBITED:
                negative = tl.load(inhibition + at)
            y0, y1, y2 = ahead(of, held.to(tl.int32), bucket + at * MOMENTS, from0, from1, from2)
            total = tl.load(bucket + at * MOMENTS)
            may = may_cross(of, from0, from1, from2, y0, y1, y2, total, negative, raises, lowers, h)
            may = other_than(held) & (may | (ready > n * h))
            again = reached & (listed | may)
            quiet = reached & other_than(again)
            x0, x1, x2 = tl.where(quiet, y0, x0), tl.where(quiet, y1, x1), tl.where(quiet, y2, x2)
            below = below | (quiet & other_than(held))
            listed = listed | again
            if any_of(again):
                spot = (b * capacity + fired - 1) * 7 * n_out + j
                t_found, z0, z1, z2, taken, under = _crossings(
                    again, head + at, chain, node_t, node_u, weight, delay, j, n_out, of, b0, b1, b2, end, ready, from_t,
                    from0, from1, from2, since, from_below, found, spot, (fired > 0) & (fired <= capacity),
                )  # fmt: skip
                crossing, seen = tl.where(again, t_found, crossing), tl.where(again, taken, seen)
                x0, x1, x2 = tl.where(again, z0, x0), tl.where(again, z1, x1), tl.where(again, z2, x2)
                below = tl.where(again, under, below)
            t = tl.min(crossing, 0)
            going = (t <= end) & open_
            if going:
                sender = tl.min(tl.where(crossing == t, j, BLOCK), 0)
                mine = j == sender
                tl.store(node_t + node, t)
                tl.store(node_u + node, (n_in + sender).to(tl.int64))
                record(
                    found, (b * capacity + fired) * 7 * n_out + j, n_out, mine & (fired < capacity), crossing, x0, x1, x2
                )
                z0, z1, z2, ready, from_below = after_spike(of, mine, crossing, x0, x1, x2, ready, from_below)
                from_t, since = tl.where(mine, t, from_t), tl.where(mine, seen, since)
                from0, from1, from2 = tl.where(mine, z0, from0), tl.where(mine, z1, from1), tl.where(mine, z2, from2)
                fired += mine.to(tl.int32)
                tl.debug_barrier()
                s, to = add_arrivals(
                    b, node, t, (n_in + sender).to(tl.int64), weight, delay, bucket, inhibition, head, chain, j, inside, h,
                    inverse, steps, n_out, INHIBITED,
                )  # fmt: skip
                tl.debug_barrier()
                reached = inside & (mine | ((to == n) & (other_than(listed) | (s < crossing))))
                node += 1
                open_ = (node < last_node) & (tl.max(fired, 0) <= max_spikes)
        tl.debug_barrier()
    tl.store(count + b * n_out + j, fired, inside)
    tl.store(final + b * n_out + j, tl.abs(x0) + tl.abs(x1) + tl.abs(x2), inside)
    tl.store(sent + b, node - tl.load(ranges + 2 * b + 1))


@sized
def readout_kernel(
    bucket, neurons, voltage, final, steps, n_out, every, samples, of_sample, of_step, BLOCK: tl.constexpr,
):  # fmt: skip
    """Neurons without threshold: V at the start of every ``every``-th step, voltage [samples, batch, out], and x at the
    end, final [batch, out, 3]."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    near = tl.minimum(j, n_out - 1)
    of = column_of(neurons, near)
    x0 = tl.zeros((BLOCK,), tl.float64)
    x1, x2, held = x0, x0, tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        sample = n // every
        here = inside & (sample * every == n) & (sample < samples)
        to = voltage + b * of_sample + tl.cast(sample, tl.int64) * of_step + j
        tl.store(to, dot(of + TAYLOR * WIDTH, x0, x1, x2), here)
        x0, x1, x2 = ahead(of, held, bucket + ((b * steps + n) * n_out + near) * MOMENTS, x0, x1, x2)
    to = final + 3 * (b * n_out + j)
    tl.store(to, x0, inside)
    tl.store(to + 1, x1, inside)
    tl.store(to + 2, x2, inside)
