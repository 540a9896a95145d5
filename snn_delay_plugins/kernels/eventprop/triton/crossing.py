"""The next threshold crossing of a neuron in a step, lane by lane.

The arrivals of neuron j in step n are a chain: ``head[row]`` and then ``chain[node, j]`` are numbers of nodes, the events
of the sample (-1: the last one). A chain is in no order; the arrivals are taken in order of time by looking for the next
one each time, since there are few in a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .flow import any_of, other_than, propagate


@triton.jit
def next_arrival(
    node,
    chain,
    node_t,
    node_u,
    weight,
    delay,
    j,
    n_out,
    since,
    t,
    v,
    i,
    end,
    inv_tm,
    delta,
    gain,
    equal,
    ENTER: tl.constexpr,
):
    """The first arrival after t and before end, its time (inf if none) and weight; arrivals at the same time are one.
    With ENTER, arrivals from `since` up to t enter the state (v, i) at t. node: the head of the chain, or -1 in lanes
    that are not asked."""
    arrival = tl.zeros_like(v) + float("inf")
    arriving = tl.zeros_like(v)
    while tl.max(node, 0) >= 0:
        live = node >= 0
        event = node.to(tl.int64)
        synapse = tl.load(node_u + event, live, 0) * n_out + j
        s = tl.load(node_t + event, live, 0) + tl.load(delay + synapse, live, 0)
        w = tl.load(weight + synapse, live, 0)
        if ENTER:
            early = live & (s >= since) & (s <= t)
            if any_of(early):
                _, k, es = propagate(tl.where(early, t - s, 0.0), inv_tm, delta, gain, equal)
                v += tl.where(early, k * w, 0.0)
                i += tl.where(early, es * w, 0.0)
        later = live & (s > t) & (s < end)
        arriving = tl.where(later & (s < arrival), w, tl.where(later & (s == arrival), arriving + w, arriving))
        arrival = tl.where(later & (s < arrival), s, arrival)
        node = tl.load(chain + event * n_out + j, live, -1)
    return arrival, arriving, v, i


@triton.jit
def free_crossing(lanes, v, i, length, theta, tm, inv_tm, delta, gain, equal):
    """First u in [0, length] with V(u) = theta, V rising, free evolution from (v, i), v <= theta up to rounding: where,
    u, I(u). Newton from the left: while V rises it is concave, so every iterate stays left of the root, and a tangent that
    leaves the interval or a slope that turns proves there is none."""
    rising = lanes & (length > 0) & (i > theta)
    found = rising & (v >= theta) & (i > v)
    at = i
    running = rising & (v < theta)
    u = tl.where(running, (theta - v) * tm / tl.where(running, i - v, 1.0), 0.0)
    running = running & (u <= length)
    rounds = 0
    while any_of(running) & (rounds < 200):
        em, k, es = propagate(tl.where(running, u, 0.0), inv_tm, delta, gain, equal)
        vu, iu = em * v + k * i, es * i
        slope = iu - vu
        step = (theta - vu) * tm / tl.where(running & (slope > 0), slope, 1.0)
        done = (vu >= theta) | ((slope > 0) & ((u + step * 0.5 <= u) | (step < 1e-17 * tm)))
        hit = running & done & (iu > theta)
        found = found | hit
        at = tl.where(hit, iu, at)
        running = running & (slope > 0) & other_than(done)
        u = tl.where(running, u + step, u)
        running = running & (u <= length)
        rounds += 1
    return found, u, at


@triton.jit
def next_crossing(
    lanes, head, chain, node_t, node_u, weight, delay, j, n_out, since, t, v, i, end, theta, tm, inv_tm, delta, gain, equal
):
    """From state (v, i) at time t through the arrivals of a step to the first crossing before end: its time (inf if there
    is none) and I there. head: pointers to the lanes' chains; arrivals before `since` are in the state already.

    An arrival at the time of the crossing is not taken: a spike has seen the arrivals before it.
    """
    crossing, at = tl.zeros_like(v) + float("inf"), tl.zeros_like(v)
    first = tl.load(head, lanes, -1)
    arrival, arriving, v, i = next_arrival(
        first, chain, node_t, node_u, weight, delay, j, n_out, since, t, v, i, end, inv_tm, delta, gain, equal, True
    )
    while any_of(lanes):
        until = tl.minimum(arrival, end)
        length = tl.where(lanes, until - t, 0.0)
        found, u, current = free_crossing(lanes, v, i, length, theta, tm, inv_tm, delta, gain, equal)
        after = (t.to(tl.int64, bitcast=True) + 1).to(tl.float64, bitcast=True)  # the next number: later than t
        crossing = tl.where(found, tl.minimum(tl.maximum(t + u, after), until), crossing)
        at = tl.where(found, current, at)
        lanes = lanes & other_than(found) & (arrival < end)
        em, k, es = propagate(length, inv_tm, delta, gain, equal)
        v = em * v + k * i
        i = es * i + tl.where(lanes, arriving, 0.0)
        t = tl.where(lanes, until, t)
        arrival, arriving, v, i = next_arrival(
            tl.where(lanes, first, -1),
            chain,
            node_t,
            node_u,
            weight,
            delay,
            j,
            n_out,
            since,
            t,
            v,
            i,
            end,
            inv_tm,
            delta,
            gain,
            equal,
            False,
        )
    return crossing, at
