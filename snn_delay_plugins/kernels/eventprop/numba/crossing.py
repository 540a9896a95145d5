"""Whether the threshold is reached in a step, and the crossing itself."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import INLINED, LANES, OPTIONS, propagate
from .sorting import sort_pairs


@njit(**INLINED)
def _first_crossing(v, i, length, theta, tm, flow):
    """First u in [0, length] with V(u) = theta, V rising; (-1, 0) if none. Returns u and I(u).

    Free evolution from (v, i), v <= theta up to rounding. Newton from the left: while V rises it is concave, so every
    iterate stays left of the root, and a tangent that leaves the interval or a slope that turns proves there is none.
    """
    if i <= theta:
        return -1.0, 0.0
    if v >= theta:
        return (0.0, i) if i > v else (-1.0, 0.0)
    u = (theta - v) * tm / (i - v)
    for _ in range(200):
        if u > length:
            return -1.0, 0.0
        em, k, es = propagate(u, flow)
        vu, iu = em * v + k * i, es * i
        if vu >= theta:
            return (u, iu) if iu > theta else (-1.0, 0.0)
        slope = iu - vu
        if slope <= 0:
            return -1.0, 0.0
        step = (theta - vu) * tm / slope
        if u + step * 0.5 <= u or step < 1e-17 * tm:
            return (u, iu) if iu > theta else (-1.0, 0.0)
        u += step
    return -1.0, 0.0  # 200 steps without progress: V touches theta from below within rounding


@njit(**OPTIONS)
def grown(out):
    """The same columns in an array twice as long."""
    new = np.empty((out.shape[0], 2 * out.shape[1]))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            new[row, column] = out[row, column]
    return new


@njit(**INLINED)
def next_crossing(v, i, t, end, a, m, s, w, theta, tm, flow):
    """Walk from state (v, i) at time t through the sorted arrivals a..m-1 to the first crossing before end.

    Returns (time or -1, I there, index of the first arrival not yet taken). Arrivals before the crossing are taken,
    arrivals at it or later are not: a spike time is always later than any arrival it has seen.
    """
    while True:
        until = s[a] if a < m else end
        if until > end:
            until = end
        if until > t:
            u, iu = _first_crossing(v, i, until - t, theta, tm, flow)
            if u >= 0:
                tc = t + u
                if tc <= t:
                    tc = np.nextafter(t, np.inf)
                return tc, iu, a
            em, k, es = propagate(until - t, flow)
            v = em * v + k * i
            i = es * i
            t = until
        if a >= m or s[a] > t:
            return -1.0, 0.0, a
        while a < m and s[a] <= t:
            i += w[a]
            a += 1


@njit(**INLINED)
def reach(bucket, inhibition, place, v, i, constants):
    """Of one neuron what advance_lanes says of eight: may V reach the threshold in the step whose arrivals lie at place and
    one row on? And the fractions of the step until which, and from which on unless it spikes before, it is certainly
    below."""
    em, k, es = constants[0], constants[1], constants[2]
    bm, bk, bs = constants[3], constants[4], constants[5]
    rate, theta, low = constants[6], constants[7], constants[8]
    di2 = bucket[2 * (place + LANES)]
    di = bucket[2 * place] + bs * di2
    dv = bucket[2 * place + 1] + bm * bucket[2 * (place + LANES) + 1] + bk * di2
    v2 = em * v + (k * i + dv)
    down = inhibition[place] + inhibition[place + LANES]
    a = (max(i, 0.0) + (di + down) * bs - v) * rate
    a = a if a > 0.0 else 0.0
    c = (theta + down - min(i, es * i)) * rate
    c = c if c > 0.0 else 0.0
    below = (low - v) / a if low > v and a > 0 else 0.0
    below = below if below < 1.0 else 1.0  # also where both overflowed
    after = 1.0 - (low - v2) / c if low > v2 and c > 0 else 1.0
    return (low - v) * c + (low - v2) * a <= a * c, below, after


@njit(**INLINED)
def advance(bucket, place, v, i, constants):
    """The state (V, I) of one neuron a step later, spikes left out."""
    em, k, es = constants[0], constants[1], constants[2]
    bm, bk, bs = constants[3], constants[4], constants[5]
    di2 = bucket[2 * (place + LANES)]
    dv = bucket[2 * place + 1] + bm * bucket[2 * (place + LANES) + 1] + bk * di2
    return em * v + (k * i + dv), es * i + bucket[2 * place] + bs * di2


@njit(**INLINED)
def arrivals_of_step(head, chain, place, lane, times, units, weight, delay, t, end, v, i, s, w, flow):
    """The arrivals at a neuron (weight, delay: its row) of the step whose chains begin at place and one row on: those up to
    t enter its state (v, i) at t, those in (t, end) are listed by time."""
    m = 0
    for row in range(2):
        e = head[place + LANES * row]
        while e >= 0:
            u = units[e]
            arrival, x = times[e] + delay[u], weight[u]
            if arrival <= t:
                _em, k, es = propagate(t - arrival, flow)
                v += k * x
                i += es * x
            elif arrival < end:
                s[m], w[m] = arrival, x
                m += 1
            e = chain[e, lane]
    sort_pairs(s, w, m)
    return v, i, m
