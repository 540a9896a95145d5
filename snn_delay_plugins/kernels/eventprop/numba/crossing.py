"""From bucket to bucket until the threshold is reached, and the crossing itself."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import OPTIONS, propagate
from .tables import by_unit


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _order_of(t, lo, hi):
    """The stable order of t[lo:hi], by merging (NumPy's own sort takes ten times as long to compile)."""
    n = hi - lo
    order, spare = np.arange(n), np.empty(n, np.int64)
    width = 1
    while width < n:
        for start in range(0, n, 2 * width):
            a, middle, stop = start, min(start + width, n), min(start + 2 * width, n)
            b = middle
            for c in range(start, stop):
                if b >= stop or (a < middle and t[lo + order[a]] <= t[lo + order[b]]):
                    spare[c] = order[a]
                    a += 1
                else:
                    spare[c] = order[b]
                    b += 1
        order, spare = spare, order
        width *= 2
    return order


@njit(**OPTIONS)
def sort_by_time(out, lo, hi):
    """Sort columns lo..hi-1 by their first row, stably."""
    order = _order_of(out[0], lo, hi)
    column = np.empty(hi - lo)
    for row in range(out.shape[0]):
        for c in range(hi - lo):
            column[c] = out[row, lo + order[c]]
        for c in range(hi - lo):
            out[row, lo + c] = column[c]


@njit(**OPTIONS)
def in_order(found, samples):
    """Columns (time, unit, slope, sample) by sample and time: offsets [N + 1], rows (time, unit, slope)."""
    order, offsets = by_unit(found[3].astype(np.int64), 0, found.shape[1], samples)
    out = np.empty((3, found.shape[1]))
    for row in range(3):
        for c in range(found.shape[1]):
            out[row, c] = found[row, order[c]]
    for b in range(samples):
        sort_by_time(out, offsets[b], offsets[b + 1])
    return offsets, out


@njit(**OPTIONS)
def sort_pairs(s, w, m):
    """Sort the first m arrivals by time."""
    if m <= 48:
        for a in range(1, m):
            x, y = s[a], w[a]
            c = a - 1
            while c >= 0 and s[c] > x:
                s[c + 1], w[c + 1] = s[c], w[c]
                c -= 1
            s[c + 1], w[c + 1] = x, y
        return
    order = _order_of(s, 0, m)
    x, y = np.empty(m), np.empty(m)
    for a in range(m):
        x[a], y[a] = s[order[a]], w[order[a]]
    for a in range(m):
        s[a], w[a] = x[a], y[a]


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def quiet_steps(bucket, inhibition, inhibited, base, n, until, state, at, forth, back, rate, theta):
    """Advance a neuron from step n over the steps in which it cannot reach the threshold. Returns the next step that may
    and the fractions of it until which, and from which on unless it spikes before, V is below the threshold for certain.

    base: first row of the neuron's column; state[at:at + 2]: its (V, I). Were V to reach theta at the
    fraction x of a step, then theta <= V(n) + x a with a = (I_high - V(n)) dt / tau_m,
    and, if there were no reset, V(n + 1) >= theta - (1 - x) c with c = (theta - I_low) dt / tau_m (both slopes zero
    if negative). No x satisfies both if (theta - V(n)) c + (theta - V(n + 1)) a > a c. I_high and I_low bound I in
    the step: I(n) plus all positive or all negative arrivals.
    """
    em, k, es = forth
    bm, bk, bs = back
    v, i = state[at], state[at + 1]
    low = theta * (1 - 1e-9)
    below, after = 1.0, 1.0
    while n < until:
        r = np.uint32(base + 2 * n + 1)
        di2 = bucket[2 * r + 2]
        di = bucket[2 * r] + bs * di2
        dv = bucket[2 * r + 1] + bm * bucket[2 * r + 3] + bk * di2
        v2 = em * v + (k * i + dv)  # the next step waits for one multiplication, not for a sum of five
        i2 = es * i
        down = inhibition[r] + inhibition[r + 1] if inhibited else 0.0
        a = (max(i, 0.0) + (di + down) * bs - v) * rate
        a = a if a > 0.0 else 0.0
        c = (theta + down - min(i, i2)) * rate
        c = c if c > 0.0 else 0.0
        if (low - v) * c + (low - v2) * a <= a * c:
            below = (low - v) / a if low > v and a > 0 else 0.0
            below = below if below < 1.0 else 1.0  # also where both overflowed
            after = 1.0 - (low - v2) / c if low > v2 and c > 0 else 1.0
            break
        v = v2
        i = i2 + di
        n += 1
    state[at], state[at + 1] = v, i
    return n, below, after


@njit(**OPTIONS)
def advance(bucket, n, base, state, at, forth, back):
    """One grid step of a neuron, spikes left out."""
    em, k, es = forth
    bm, bk, bs = back
    r = np.uint32(base + 2 * n + 1)
    v, i = state[at], state[at + 1]
    state[at] = em * v + k * i + bucket[2 * r + 1] + bm * bucket[2 * r + 3] + bk * bucket[2 * r + 2]
    state[at + 1] = es * i + bucket[2 * r] + bs * bucket[2 * r + 2]


@njit(**OPTIONS)
def arrivals_of_step(head, chain, base, lane, n, times, units, weight, delay, t, end, v, i, s, w, flow):
    """The arrivals of step n at a neuron (weight, delay: its row): those up to t enter its state (v, i) at t, those in
    (t, end) are listed by time."""
    m = 0
    for row in range(base + 2 * n + 1, base + 2 * n + 3):
        e = head[row]
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
