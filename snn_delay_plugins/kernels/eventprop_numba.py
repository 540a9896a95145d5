"""Event-driven EventProp on the CPU: compiled loops for the LIF layer and the LI readout.

All loops work in float64 on one sample at a time and release the GIL; the callers spread samples (forward) or output
neurons (backward) over threads. A neuron's gradient row is always summed over samples in the same order, so results
do not depend on the number of threads and no [N x out x in] array exists.

Between spikes a neuron is linear. With the state x = (V, I) and

    x(t + h) = P(h) x(t),   P(h) = [[em, K], [0, es]],   em = exp(-h/tau_m),  es = exp(-h/tau_s),
    K = em expm1(h delta) / (tau_m delta),   delta = 1/tau_m - 1/tau_s   (K = em h / tau_m if delta = 0),

an arrival of weight w adds (0, w). Times split into whole steps and a fraction, t = kt dt + ft and d = kd dt + fd.
Seen from the grid point (kt + kd + 2) dt an arrival at s = t + d amounts to

    P(2 dt - ft - fd) (0, w) = P(2 dt - ft) P(-fd) (0, w),

a product of three numbers known per event and two known per synapse: three multiplications and no exponential, whatever
the delay. Whether ft + fd carries into the next step decides where it belongs: with positions held in fixed point,
k 2^33 + (f / dt) 2^32, one integer addition gives the bucket 2 (kt + kd) + carry. So bucket 2n - 1 and bucket 2n
together hold the arrivals of step n, the first as seen from grid point n + 1, the second from n + 2, and

    x(n + 1) = P(dt) x(n) + bucket[2n - 1] + P(-dt) bucket[2n]    is the exact state at every grid point.

Only in a step in which the neuron may reach its threshold, by a rigorous bound, are the arrivals of that step looked
at one by one (they are chained per bucket) and the crossing solved by Newton's method from the left, which cannot
overshoot, since V is concave while it rises through the threshold.

Backwards, p = (dL/dV, dL/dI) = (-tau_m lambda_V, -tau_s lambda_I) obeys the transposed propagator, jumps by mu_k at
the neuron's own spikes only, and is read at every arrival by the same factorisation.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LANES = 8           # neurons that share one pass over the events: their buckets lie side by side
_TRASH_ROWS = 8     # arrivals past the end are written here; several rows, so that the additions do not wait in line
_FRACTION = 2.0 ** 32
_CELLS = 32         # cells per dt of the table behind propagate
_TERMS = 7          # of its series within a cell: the next one is below 1e-16
OK, TOO_MANY_SPIKES = 0, 1

_OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


# ------------------------------------------------------------------------------------------------ propagator

@njit(**_OPTIONS)
def _expm1(x):
    """exp(x) - 1 for |x| <= 2: Taylor series of x/8, doubled three times; free of branches, so loops vectorise."""
    r = 0.125 * x
    q = r * (1 + r * (1 / 2) * (1 + r * (1 / 3) * (1 + r * (1 / 4) * (1 + r * (1 / 5) * (1 + r * (1 / 6) * (
        1 + r * (1 / 7) * (1 + r * (1 / 8) * (1 + r * (1 / 9) * (1 + r * (1 / 10) * (1 + r * (1 / 11)))))))))))
    q = q * (q + 2)
    q = q * (q + 2)
    return q * (q + 2)


@njit(**_OPTIONS)
def propagator(h, tm, ts):
    """(em, K, es) of P(h) for |h| <= 2 min(tau_m, tau_s)."""
    delta = 1 / tm - 1 / ts
    em = 1 + _expm1(-h / tm)
    q = _expm1(h * delta)
    es = em + em * q
    if abs(delta) * tm < 1e-14:
        return em, em * h / tm, es
    return em, em * q / (tm * delta), es


@njit(**_OPTIONS)
def propagator_any(h, tm, ts):
    """(em, K, es) of P(h) for any h >= 0."""
    delta = 1 / tm - 1 / ts
    em, es = np.exp(-h / tm), np.exp(-h / ts)
    if abs(delta) * tm < 1e-14:
        return em, em * h / tm, es
    if delta < 0:
        return em, em * np.expm1(h * delta) / (tm * delta), es
    return em, es * np.expm1(-h * delta) / (-tm * delta), es


@njit(**_OPTIONS)
def flow_table(dt, tm, ts):
    """What propagate(h, flow) needs for 0 <= h <= 2 dt: P at multiples of a cell, dt / 32, and the series of P within one.

    Rows 0 .. 6 are the coefficients of h^n in em and es and of h^(n + 1) in K, K(h) = h / tau_m sum (-h)^n c_n / (n + 1)!
    with c_n = sum_i tau_m^-i tau_s^(i-n); the other rows are (em, K, es). flow[0, 3] and flow[1, 3]: 1 / cell and cell.
    """
    flow = np.empty((_TERMS + 2 * _CELLS + 2, 4))
    cell = dt / _CELLS
    a, b, c = 1.0, 1.0, 1.0
    for n in range(_TERMS):
        flow[n, 0], flow[n, 1], flow[n, 2] = a, c / (tm * (n + 1)), b
        factorial = -1.0 / (n + 1)
        b *= factorial / ts
        c = factorial * c / tm + b
        a *= factorial / tm
    for k in range(2 * _CELLS + 2):
        flow[_TERMS + k, 0], flow[_TERMS + k, 1], flow[_TERMS + k, 2] = propagator_any(k * cell, tm, ts)
    flow[0, 3], flow[1, 3] = 1 / cell, cell
    return flow


@njit(**_OPTIONS)
def propagate(h, flow):
    """(em, K, es) of P(h) for 0 <= h <= 2 dt from flow_table: P(h) = P(whole cells) P(rest). About as fast as one exp."""
    n = np.int64(h * flow[0, 3])
    r = h - n * flow[1, 3]
    em, k, es = flow[6, 0], flow[6, 1], flow[6, 2]
    for m in range(5, -1, -1):
        em = flow[m, 0] + r * em
        k = flow[m, 1] + r * k
        es = flow[m, 2] + r * es
    k *= r
    n += _TERMS
    return flow[n, 0] * em, flow[n, 0] * k + flow[n, 1] * es, flow[n, 2] * es


@njit(**_OPTIONS)
def _psi(z):
    """(exp(z) (z - 1) + 1) / z^2, the integral of u exp(z u) over [0, 1], for |z| <= 2."""
    total, term = 0.0, 1.0
    for k in range(24):
        total += term / (k + 2)
        term *= z / (k + 1)
    return total


@njit(**_OPTIONS)
def propagator_by_tau(h, tm, ts):
    """(d em/d tau_m, dK/d tau_m, dK/d tau_s, d es/d tau_s) for |h| <= 2 min(tau_m, tau_s)."""
    em, k, es = propagator(h, tm, ts)
    m = k * tm                                          # K = m / tau_m, m = integral of exp(-(h-u)/tm - u/ts)
    dm_dbeta = -em * h * h * _psi(h * (1 / tm - 1 / ts))          # by 1 / tau_s
    dm_dalpha = -h * m - dm_dbeta                                 # by 1 / tau_m
    return em * h / (tm * tm), -(m + dm_dalpha / tm) / (tm * tm), -dm_dbeta / (tm * ts * ts), es * h / (ts * ts)


# ------------------------------------------------------------------------------------------------ tables

@njit(**_OPTIONS)
def _position(x):
    """x >= 0 in steps as fixed point: whole steps times 2^33 plus the fraction times 2^32."""
    n = np.int64(x)
    return (n << 33) + np.int64((x - n) * _FRACTION)


@njit(**_OPTIONS)
def _split_row(d, dt, inv_tm, delta, steps, whole, fraction, f, em, q):
    """Delays d >= 0 of one neuron: whole steps, fraction in 2^-32 steps, fd, exp(fd/tau_m), expm1(-fd delta).

    In 32 bits, and one array at a time, because that vectorises.
    """
    inv_dt, most = 1 / dt, np.float64(steps)
    for i in range(d.size):
        x = min(d[i] * inv_dt, most)
        n = np.int32(x)
        whole[i] = n
        f[i] = max(min(d[i], most * dt) - n * dt, 0.0)
    for i in range(d.size):
        fraction[i] = np.int32(f[i] * (inv_dt * 2.0 ** 30))
    for i in range(d.size):
        em[i] = 1 + _expm1(f[i] * inv_tm)
    for i in range(d.size):
        q[i] = _expm1(-f[i] * delta)


@njit(**_OPTIONS)
def synapse_tables(weight, delay, dt, tm, ts, steps):
    """Per synapse, in blocks of LANES neurons: position [B, in, L], P(-fd) as (es, K, em, w) [B, in, L, 4], and
    (delay, w) [B, in, L, 2].

    The lanes beyond the last neuron hold zero weights.
    """
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    where = np.zeros((blocks, n_in, LANES), np.int64)
    factor = np.zeros((blocks, n_in, LANES, 4))
    pair = np.zeros((blocks, n_in, LANES, 2))
    whole, fraction = np.empty(n_in, np.int32), np.empty(n_in, np.int32)
    f, em, q = np.empty(n_in), np.empty(n_in), np.empty(n_in)
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for j in range(n_out):
        _split_row(delay[j], dt, 1 / tm, delta, steps, whole, fraction, f, em, q)
        b, lane = j // LANES, j % LANES
        for i in range(n_in):
            where[b, i, lane] = (np.int64(whole[i]) << 33) + (np.int64(fraction[i]) << 2)
            factor[b, i, lane, 0] = em[i] + em[i] * q[i]
            factor[b, i, lane, 1] = -em[i] * f[i] / tm if equal else em[i] * q[i] * gain
            factor[b, i, lane, 2] = em[i]
            factor[b, i, lane, 3] = weight[j, i]
            pair[b, i, lane, 0] = delay[j, i]
            pair[b, i, lane, 1] = weight[j, i]
    return where, factor, pair


@njit(**_OPTIONS)
def forward_tables(factor):
    """w P(-fd) (0, 1) = (w es, w K): [B, in, L, 2]; and which (block, input) rows hold a negative weight."""
    blocks, n_in, lanes, _ = factor.shape
    kick = np.empty((blocks, n_in, lanes, 2))
    negative = np.zeros((blocks, n_in), np.bool_)
    for b in range(blocks):
        for i in range(n_in):
            for j in range(lanes):
                w = factor[b, i, j, 3]
                kick[b, i, j, 0] = w * factor[b, i, j, 0]
                kick[b, i, j, 1] = w * factor[b, i, j, 1]
                if w < 0:
                    negative[b, i] = True
    return kick, negative


@njit(**_OPTIONS)
def by_unit(units, lo, hi, n_units):
    """Counting sort of events lo..hi-1 by unit (stable, so by time within a unit): order and row pointers."""
    start = np.zeros(n_units + 1, np.int64)
    for e in range(lo, hi):
        start[units[e] + 1] += 1
    for i in range(n_units):
        start[i + 1] += start[i]
    cursor = start[:-1].copy()
    order = np.empty(hi - lo, np.int64)
    for e in range(lo, hi):
        order[cursor[units[e]]] = e
        cursor[units[e]] += 1
    return order, start


@njit(**_OPTIONS)
def event_tables(times, units, lo, hi, n_units, dt, tm, ts):
    """A sample's events by unit: order, pointers, time, unit, position and P(2 dt - ft) as (em, K, es)."""
    order, start = by_unit(units, lo, hi, n_units)
    n = hi - lo
    t, position, unit = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int32)
    em, k, es = np.empty(n), np.empty(n), np.empty(n)
    for e in range(n):
        t[e] = times[order[e]]
        unit[e] = units[order[e]]
        position[e] = _position(t[e] / dt) + (np.int64(2) << 32)     # bucket b lies in row b + 2
    delta = 1 / tm - 1 / ts
    equal = abs(delta) * tm < 1e-14
    gain = 0.0 if equal else 1 / (tm * delta)
    for e in range(n):
        h = 2 * dt - (t[e] - np.int64(t[e] / dt) * dt)
        a = 1 + _expm1(-h / tm)
        q = _expm1(h * delta)
        em[e] = a
        es[e] = a + a * q
        k[e] = a * h / tm if equal else a * q * gain
    return order, start, t, unit, position, em, k, es


# ------------------------------------------------------------------------------------------------ buckets

@njit(**_OPTIONS)
def _rows(steps):
    """Length of a bucket array of one block, and where its trash rows start. Row r holds bucket r - 2; rows 0 and 1,
    buckets -2 and -1, stay empty, so that step n finds its two buckets in rows 2n + 1 and 2n + 2 without a test."""
    return (2 * steps + 2 + _TRASH_ROWS) * LANES, (2 * steps + 2) * LANES


@njit(**_OPTIONS)
def _scatter(start, position, em, k, es, where, kick, bucket, head, chain, last):
    """Add every arrival to its bucket and put it at the head of the bucket's chain. One block of neurons."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x, a, b, c = position[e], es[e], k[e], em[e]
            trash = last + (e & (_TRASH_ROWS - 1)) * LANES
            e32 = np.int32(e)
            for j in range(LANES):
                r = np.uint64(min(((x + where[i, j]) >> 32) * LANES, trash) + j)
                y = kick[i, j, 0]
                bucket[r, 0] += y * a
                bucket[r, 1] += y * b + kick[i, j, 1] * c
                chain[e, j] = head[r]
                head[r] = e32


@njit(**_OPTIONS)
def _scatter_negative(start, position, where, factor, negative, inhibition, last):
    """Sum |w| of the negative arrivals per bucket: what a bound from above on I must not subtract."""
    for i in range(where.shape[0]):
        if negative[i]:
            for j in range(LANES):
                w = factor[i, j, 3]
                if w < 0:
                    for e in range(start[i], start[i + 1]):
                        inhibition[min(((position[e] + where[i, j]) >> 32) * LANES, last) + j] -= w


# ------------------------------------------------------------------------------------------------ threshold

@njit(**_OPTIONS)
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
    return -1.0, 0.0            # 200 steps without progress: V touches theta from below within rounding


@njit(**_OPTIONS)
def _grown(out):
    """The same columns in an array twice as long."""
    new = np.empty((out.shape[0], 2 * out.shape[1]))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            new[row, column] = out[row, column]
    return new


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def _sort_by_time(out, lo, hi):
    """Sort columns lo..hi-1 by their first row, stably."""
    order = _order_of(out[0], lo, hi)
    column = np.empty(hi - lo)
    for row in range(out.shape[0]):
        for c in range(hi - lo):
            column[c] = out[row, lo + order[c]]
        for c in range(hi - lo):
            out[row, lo + c] = column[c]


@njit(**_OPTIONS)
def _sort_pairs(s, w, m):
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


@njit(**_OPTIONS)
def _next_crossing(v, i, t, end, a, m, s, w, theta, tm, flow):
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


@njit(**_OPTIONS)
def _quiet_steps(bucket, inhibition, inhibited, base, n, until, state, at, forth, back, rate, theta):
    """Advance a neuron from step n over the steps in which it cannot reach the threshold; the next step that may.

    base: the row of the neuron's bucket -2; state[at:at + 2]: its (V, I). Were V to reach theta at the fraction x of a step, then theta <= V(n) + x a with a = (I_high - V(n)) dt / tau_m,
    and, if there were no reset, V(n + 1) >= theta - (1 - x) c with c = (theta - I_low) dt / tau_m (both slopes zero
    if negative). No x satisfies both if (theta - V(n)) c + (theta - V(n + 1)) a > a c. I_high and I_low bound I in
    the step: I(n) plus all positive or all negative arrivals.
    """
    em, k, es = forth
    bm, bk, bs = back
    v, i = state[at], state[at + 1]
    low = theta * (1 - 1e-9)
    while n < until:
        r = np.uint64((2 * n + 1) * LANES + base)
        r2 = r + np.uint64(LANES)
        di2 = bucket[r2, 0]
        di = bucket[r, 0] + bs * di2
        v2 = em * v + k * i + bucket[r, 1] + bm * bucket[r2, 1] + bk * di2
        i2 = es * i
        down = inhibition[r] + inhibition[r2] if inhibited else 0.0
        a = (max(i, 0.0) + (di + down) * bs - v) * rate
        a = a if a > 0.0 else 0.0
        c = (theta + down - min(i, i2)) * rate
        c = c if c > 0.0 else 0.0
        if (low - v) * c + (low - v2) * a <= a * c:
            break
        v = v2
        i = i2 + di
        n += 1
    state[at], state[at + 1] = v, i
    return n


@njit(**_OPTIONS)
def _step(bucket, n, base, state, at, forth, back):
    """One grid step of a neuron, spikes left out."""
    em, k, es = forth
    bm, bk, bs = back
    r = (2 * n + 1) * LANES + base
    v, i = state[at], state[at + 1]
    state[at] = em * v + k * i + bucket[r, 1] + bm * bucket[r + LANES, 1] + bk * bucket[r + LANES, 0]
    state[at + 1] = es * i + bucket[r, 0] + bs * bucket[r + LANES, 0]


@njit(**_OPTIONS)
def _arrivals(head, chain, lane, n, times, units, pair, block, t, end, v, i, s, w, flow):
    """The arrivals of step n: those up to t enter the state (v, i), those in (t, end) are listed by time."""
    m = 0
    for row in range(2 * n + 1, 2 * n + 3):
        e = head[row * LANES + lane]
        while e >= 0:
            u = units[e]
            arrival, x = times[e] + pair[block, u, lane, 0], pair[block, u, lane, 1]
            if arrival <= t:
                em, k, es = propagate(t - arrival, flow)
                v += k * x
                i += es * x
            elif arrival < end:
                s[m], w[m] = arrival, x
                m += 1
            e = chain[e, lane]
    _sort_pairs(s, w, m)
    return v, i, m


# ------------------------------------------------------------------------------------------------ LIF, exact, forward

@njit(**_OPTIONS)
def lif_exact_forward(times, units, offsets, lo, hi, n_out, where, factor, pair, kick, negative,
                      theta, tm, ts, dt, steps, duration, max_spikes):
    """Feed-forward LIF layer, samples lo..hi-1.

    Returns spikes per sample, (times, units, I - theta) of all spikes, and (status, sample, neuron).
    """
    n_in = where.shape[1]
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))                      # time, unit, I - theta
    total = 0
    rows, last = _rows(steps)
    bucket, head, inhibition = np.zeros((rows, 2)), np.empty(rows, np.int32), np.zeros(rows)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    s, w, state = np.empty(longest + 1), np.empty(longest + 1), np.empty(2)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        order, start, et, eu, position, eem, ek, ees = event_tables(
            times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        for block in range(where.shape[0]):
            bucket[:] = 0
            head[:] = -1
            _scatter(start, position, eem, ek, ees, where[block], kick[block], bucket, head, chain, last)
            inhibited = negative[block].any()
            if inhibited:
                inhibition[:] = 0
                _scatter_negative(start, position, where[block], factor[block], negative[block], inhibition, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                before = total
                state[:] = 0
                n = 0
                while True:
                    n = _quiet_steps(bucket, inhibition, inhibited, lane, n, steps, state, 0, forth, back,
                                     dt / tm, theta)
                    if n >= steps:
                        break
                    t, end = n * dt, min((n + 1) * dt, duration)
                    v, i, m = _arrivals(head, chain, lane, n, et, eu, pair, block, t, end, state[0], state[1],
                                        s, w, flow)
                    a = 0
                    reset = 0.0
                    while True:
                        t, i, a = _next_crossing(v, i, t, end, a, m, s, w, theta, tm, flow)
                        if t < 0:
                            break
                        if total - before >= max_spikes:
                            return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, j
                        if total == out.shape[1]:
                            out = _grown(out)
                        out[0, total], out[1, total], out[2, total] = t, j, i - theta
                        total += 1
                        qm, qk, qs = propagate((n + 1) * dt - t, flow)
                        reset += theta * qm
                        v = 0.0
                        high = max(i, 0.0)                      # V <= high (end - t) / tau_m until the end of the step
                        for later in range(a, m):
                            high += max(w[later], 0.0)
                        if high * (end - t) < theta * tm * (1 - 1e-9):
                            break
                    _step(bucket, n, lane, state, 0, forth, back)
                    state[0] -= reset
                    n += 1
        count[b - lo] = total - first
        _sort_by_time(out, first, total)
    return count, out[:, :total].copy(), OK, -1, -1


@njit(**_OPTIONS)
def _recurrent_crossing(head, chain, echo, base, entry, n, j, times, units, weight, delay, out, first,
                        weight_r, delay_r, since, t, end, v, i, s, w, theta, tm, flow):
    """Next crossing of neuron j in step n, given all arrivals known so far: (time, I there), time inf if none.

    From state (v, i) at time t; arrivals before since are in it already. Chains lead through input events (nodes below
    times.size, continued at chain[entry + node]) and spikes of the layer itself (continued at echo).
    """
    m = 0
    lane = j % LANES
    for row in range(2 * n + 1, 2 * n + 3):
        node = head[row * LANES + base]
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
                    em, k_, es = propagate(t - arrival, flow)
                    v += k_ * x
                    i += es * x
                elif arrival < end:
                    s[m], w[m] = arrival, x
                    m += 1
    _sort_pairs(s, w, m)
    tc, ic, a = _next_crossing(v, i, t, end, 0, m, s, w, theta, tm, flow)
    return (tc, ic) if tc >= 0 else (np.inf, 0.0)


@njit(**_OPTIONS)
def _send(bucket, inhibition, head, echo, node, name, n, t, j, where_r, kick_r, weight_r, rows, last, dt, flow):
    """Put the arrivals of a spike of neuron j at time t in step n into the buckets and chains of all neurons."""
    step = max(np.int64(t / dt), n)
    x = max(_position(t / dt), np.int64(n) << 33) + (np.int64(2) << 32)
    em, k, es = propagate(2 * dt - (t - step * dt), flow)
    for m in range(weight_r.shape[0]):
        block, lane = m // LANES, m % LANES
        r = block * rows + min(((x + where_r[block, j, lane]) >> 32) * LANES, last) + lane
        y = kick_r[block, j, lane, 0]
        bucket[r, 0] += y * es
        bucket[r, 1] += y * k + kick_r[block, j, lane, 1] * em
        if weight_r[m, j] < 0:
            inhibition[r] -= weight_r[m, j]
        echo[node, m] = head[r]
        head[r] = name


@njit(**_OPTIONS)
def lif_exact_recurrent_forward(times, units, offsets, lo, hi, weight, delay, where, factor, kick, negative,
                                weight_r, delay_r, where_r, kick_r, theta, tm, ts, dt, steps, duration, max_spikes):
    """Recurrent LIF layer, samples lo..hi-1; where_r and kick_r are indexed by the sender: [block, from, lane].

    All neurons advance step by step. In a step, spikes are taken in order of time: the earliest crossing of any
    neuron is final, since arrivals it causes come no earlier; neurons that it reaches within the step are solved
    again. So delays shorter than dt, and zero, are exact. Returns as lif_exact_forward.
    """
    n_out, n_in = weight.shape
    blocks = where.shape[0]
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    rows, last = _rows(steps)
    bucket, inhibition = np.zeros((blocks * rows, 2)), np.zeros(blocks * rows)
    head = np.empty(blocks * rows, np.int32)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((blocks * longest, LANES), np.int32)
    echo = np.empty((256, n_out), np.int32)
    s, w = np.empty(longest + 258), np.empty(longest + 258)
    state, trial = np.empty(2 * n_out), np.empty(2)
    cross, cross_i = np.empty(n_out), np.empty(n_out)
    since, last_i, reset = np.empty(n_out), np.empty(n_out), np.empty(n_out)
    spikes = np.empty(n_out, np.int64)
    active, listed = np.empty(n_out, np.int64), np.zeros(n_out, np.bool_)
    changed = np.empty(n_out, np.int64)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    inhibited = negative.any() or weight_r.min() < 0
    for b in range(lo, hi):
        first = total
        order, start, et, eu, position, eem, ek, ees = event_tables(
            times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        bucket[:] = 0
        inhibition[:] = 0
        head[:] = -1
        for block in range(blocks):
            here = slice(block * rows, (block + 1) * rows)
            _scatter(start, position, eem, ek, ees, where[block], kick[block], bucket[here], head[here],
                     chain[block * longest:(block + 1) * longest], last)
            _scatter_negative(start, position, where[block], factor[block], negative[block], inhibition[here], last)
        state[:] = 0
        spikes[:] = 0
        for n in range(steps):
            begin, end = n * dt, min((n + 1) * dt, duration)
            candidates = 0
            for j in range(n_out):
                changed[j] = j
            reached = n_out                              # at the start of a step every neuron may have a new crossing
            while True:
                for c in range(reached):
                    m = changed[c]
                    base = m // LANES * rows + m % LANES
                    if not listed[m]:
                        trial[0], trial[1] = state[2 * m], state[2 * m + 1]
                        if _quiet_steps(bucket, inhibition, inhibited, base, n, n + 1, trial, 0, forth, back,
                                        dt / tm, theta) > n:
                            continue
                        listed[m], reset[m], since[m] = True, 0.0, -1.0
                        active[candidates] = m
                        candidates += 1
                    spiked = since[m] >= 0
                    cross[m], cross_i[m] = _recurrent_crossing(
                        head, chain, echo, base, m // LANES * longest, n, m, et, eu, weight, delay, out, first,
                        weight_r, delay_r, since[m], since[m] if spiked else begin, end,
                        0.0 if spiked else state[2 * m], last_i[m] if spiked else state[2 * m + 1],
                        s, w, theta, tm, flow)
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
                    out = _grown(out)
                out[0, total], out[1, total], out[2, total] = t, j, cross_i[j] - theta
                node = total - first
                total += 1
                spikes[j] += 1
                em, k, es = propagate((n + 1) * dt - t, flow)
                reset[j] += theta * em
                since[j], last_i[j] = t, cross_i[j]
                if node == echo.shape[0]:
                    longer = np.empty((2 * node, n_out), np.int32)
                    longer[:node] = echo
                    echo = longer
                    s, w = np.empty(longest + 2 * node + 2), np.empty(longest + 2 * node + 2)
                _send(bucket, inhibition, head, echo, node, np.int32(et.size + node), n, t, j, where_r, kick_r,
                      weight_r, rows, last, dt, flow)
                reached = 0
                for m in range(n_out):
                    arrival = t + delay_r[m, j]
                    if m == j or arrival < end and (not listed[m] or arrival < cross[m]):
                        changed[reached] = m
                        reached += 1
            for j in range(n_out):
                _step(bucket, n, j // LANES * rows + j % LANES, state, 2 * j, forth, back)
            for c in range(candidates):
                j = active[c]
                state[2 * j] -= reset[j]
                listed[j] = False
        count[b - lo] = total - first
        for k in range(first + 1, total):           # in order already, but for rounding of simultaneous spikes
            if out[0, k] < out[0, k - 1]:
                _sort_by_time(out, first, total)
                break
    return count, out[:, :total].copy(), OK, -1, -1


# ------------------------------------------------------------------------------------------------ exact, backward

@njit(**_OPTIONS)
def _adjoint(rows_p, after, grid, lane, steps, dt, end, source, every, column, t, mu, slope, g_time, g_jump, lo, hi, given,
             theta, tm, forth, back, flow):
    """p of one neuron at the grid points, backwards; returns the sum of p before its spikes (-dL/d theta).

    end = (dL/dV, dL/dI) at the last grid point; source[n, column] = dL/dV(n every dt) (no rows: none). Spikes lo..hi-1
    at times t with slope = tau_m dV/dt = I - theta, dL/dt_k = g_time, and g_jump added to dL/dV:

        mu_k = (theta p_V - tau_m dL/dt_k) / slope + g_jump,   p_V(t_k-) = p_V(t_k+) + mu_k          (Eq. 67)

    (or mu as given). Rows 2n + 1 and 2n + 2 of rows_p get p as the arrivals of step n see it: from grid point n + 1,
    and the same as if from n + 2. If the neuron spikes in step n they get (NaN, index of the first such spike), and
    after[that index] gets p(n + 1). grid gets p at every grid point, unless it has no rows.
    """
    em, k, es = forth
    bm, bk, bs = back
    v, q = end[0], end[1]
    spike = hi - 1
    total = 0.0
    sampled = source.shape[0] > 0
    for n in range(steps - 1, -1, -1):
        if sampled and (n + 1) % every == 0 and (n + 1) // every < source.shape[0]:
            v += source[(n + 1) // every, column]
        if grid.shape[0] > 0:
            grid[n + 1, 0], grid[n + 1, 1] = v, q
        r = (2 * n + 1) * LANES + lane
        if spike >= lo and t[spike] >= n * dt:
            now = (n + 1) * dt
            x, y = v, q
            while spike >= lo and t[spike] >= n * dt:
                a, b, c = propagate(now - t[spike], flow)
                q = b * v + c * q
                v = a * v
                now = t[spike]
                if not given:
                    mu[spike] = (theta * v - tm * g_time[spike]) / slope[spike] + g_jump[spike]
                v += mu[spike]
                total += v
                spike -= 1
            a, b, c = propagate(now - n * dt, flow)
            q = b * v + c * q
            v = a * v
            rows_p[r, 0], rows_p[r + LANES, 0] = np.nan, np.nan
            rows_p[r, 1], rows_p[r + LANES, 1] = spike + 1, spike + 1
            after[spike + 1, 0], after[spike + 1, 1] = x, y
        else:
            rows_p[r, 0], rows_p[r, 1] = v, q
            rows_p[r + LANES, 0], rows_p[r + LANES, 1] = bm * v, bk * v + bs * q
            q = k * v + es * q
            v = em * v
    return total


@njit(**_OPTIONS)
def _without_jumps(row, first, after, back):
    """(step, p_V, p_I) of a row that belongs to a step with spikes, first the first of them, as if they did not jump."""
    n = (row // LANES - 1) // 2
    v, q = after[first, 0], after[first, 1]
    if row // LANES == 2 * n + 1:
        return n, v, q
    bm, bk, bs = back
    return n, bm * v, bk * v + bs * q


@njit(**_OPTIONS)
def _jumps(s, n, spike, hi, t, mu, last_step, dt, flow):
    """What the jumps of the spikes spike..hi-1 in step n add to (p_V, p_I) at an arrival at time s in that step."""
    v, q = 0.0, 0.0
    while spike < hi and (t[spike] < (n + 1) * dt or n == last_step):             # the last step takes t = steps dt
        if t[spike] > s:
            em, k, es = propagate(t[spike] - s, flow)
            v += mu[spike] * em
            q += mu[spike] * k
        spike += 1
    return v, q


@njit(**_OPTIONS)
def _gather(start, position, em, k, es, where, rows_p, sums, last,
            et, pair, after, t, mu, spike_start, neuron, n_out, last_step, dt, back, flow):
    """Sum p over the arrivals of every synapse of a block.

    sums[i, j] = (sum em_e p_V, sum K_e p_V + es_e p_I, v, q): the first two to be finished by the synapse's own factors;
    v and q are what the receiver's spikes in the step of the arrival add to the sums of p_V and p_I.
    """
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x, a, b, c = position[e], es[e], k[e], em[e]
            for j in range(LANES):
                row = min(((x + where[i, j]) >> 32) * LANES, last)
                r = np.uint64(row + j)
                v, q = rows_p[r, 0], rows_p[r, 1]
                if not v == v and neuron + j < n_out:
                    first = np.int64(q)
                    n, v, q = _without_jumps(row, first, after, back)
                    y, z = _jumps(et[e] + pair[i, j, 0], n, first, spike_start[neuron + j + 1], t, mu,
                                  last_step, dt, flow)
                    sums[i, j, 2] += y
                    sums[i, j, 3] += z
                sums[i, j, 0] += c * v
                sums[i, j, 1] += b * v + a * q


@njit(**_OPTIONS)
def _gather_times(start, position, em, k, es, where, factor, rows_p, last,
                  et, pair, after, t, mu, spike_start, neuron, n_out, order, grad_t, last_step, dt, tm, ts, back, flow):
    """Add to grad_t the derivative by the time of each event, w (p_I / tau_s - p_V / tau_m) at its arrivals."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x, a, b, c = position[e], es[e], k[e], em[e]
            total = 0.0
            for j in range(min(LANES, n_out - neuron)):
                row = min(((x + where[i, j]) >> 32) * LANES, last)
                v, q = rows_p[row + j, 0], rows_p[row + j, 1]
                jump = 0.0
                if not v == v:
                    first = np.int64(q)
                    n, v, q = _without_jumps(row, first, after, back)
                    y, z = _jumps(et[e] + pair[i, j, 0], n, first, spike_start[neuron + j + 1], t, mu,
                                  last_step, dt, flow)
                    jump = z / ts - y / tm
                y, z = c * v, b * v + a * q
                v, q = factor[i, j, 2] * y, factor[i, j, 0] * z + factor[i, j, 1] * y
                total += factor[i, j, 3] * (q / ts - v / tm + jump)
            grad_t[order[e]] += total


@njit(**_OPTIONS)
def exact_backward(times, units, offsets, lo, hi, n_out, where, factor, pair, block_lo, block_hi,
                   end, source, every, spike_t, spike_u, spike_offsets, slope, g_time, g_jump, mu_given,
                   where_r, pair_r, theta, tm, ts, dt, steps, sums, sums_r, grad_t, before_spikes):
    """Blocks block_lo..block_hi-1 of a layer, samples lo..hi-1, in order.

    end [N, out, 2]; source [T, N * out], every `every` steps, or no rows; spikes of the layer (or any instants of jumps) with slope, g_time
    and g_jump; mu_given empty or the jumps themselves. A recurrent layer has where_r with blocks. Adds to sums (see
    _gather), derivatives by the times of the events, from offsets[lo] on, to grad_t unless that is empty, and the sum of
    p_V before the spikes to before_spikes[block].
    """
    n_in = where.shape[1]
    rows, last = _rows(steps)
    rows_p, no_grid = np.zeros((rows, 2)), np.empty((0, 2))
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    given, recurrent = mu_given.size > 0, where_r.shape[0] > 0
    for b in range(lo, hi):
        order, start, et, eu, position, eem, ek, ees = event_tables(
            times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        order -= offsets[lo]
        s0, s1 = spike_offsets[b], spike_offsets[b + 1]
        s_order, s_start, t, su, s_position, sem, sk, ses = event_tables(
            spike_t, spike_u, s0, s1, n_out, dt, tm, ts)
        x, gt, gj = slope[s_order], g_time[s_order], g_jump[s_order]
        mu = mu_given[s_order] if given else np.empty(s1 - s0)
        after = np.empty((s1 - s0, 2))
        for block in range(block_lo, block_hi):
            neuron = block * LANES
            for lane in range(min(LANES, n_out - neuron)):
                j = neuron + lane
                before_spikes[block] += _adjoint(
                    rows_p, after, no_grid, lane, steps, dt, end[b, j], source, every, b * n_out + j, t, mu, x, gt, gj,
                    s_start[j], s_start[j + 1], given, theta, tm, forth, back, flow)
            for lane in range(n_out - neuron, LANES):
                rows_p[lane::LANES] = 0
            _gather(start, position, eem, ek, ees, where[block], rows_p, sums[block], last,
                    et, pair[block], after, t, mu, s_start, neuron, n_out, steps - 1, dt, back, flow)
            if grad_t.size > 0:
                _gather_times(start, position, eem, ek, ees, where[block], factor[block], rows_p, last,
                              et, pair[block], after, t, mu, s_start, neuron, n_out, order, grad_t, steps - 1, dt, tm, ts, back,
                              flow)
            if recurrent:
                _gather(s_start, s_position, sem, sk, ses, where_r[block], rows_p, sums_r[block], last,
                        t, pair_r[block], after, t, mu, s_start, neuron, n_out, steps - 1, dt, back, flow)


@njit(**_OPTIONS)
def finish(sums, factor, tm, ts, grad_w, grad_d):
    """dL/dw = sum p_I (Eq. 5) and dL/dd = w sum (p_I / tau_s - p_V / tau_m) (Eq. 6), p = -(tau lambda), from the sums of
    _gather."""
    n_out, n_in = grad_w.shape
    for b in range(sums.shape[0]):
        for i in range(n_in):
            for j in range(min(LANES, n_out - b * LANES)):
                v = factor[b, i, j, 2] * sums[b, i, j, 0] + sums[b, i, j, 2]
                q = factor[b, i, j, 0] * sums[b, i, j, 1] + factor[b, i, j, 1] * sums[b, i, j, 0] + sums[b, i, j, 3]
                grad_w[b * LANES + j, i] = q
                grad_d[b * LANES + j, i] = factor[b, i, j, 3] * (q / ts - v / tm)


@njit(**_OPTIONS)
def recurrent_jumps(spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump,
                    delay_r, where_r, factor_r, theta, tm, ts, dt, steps, mu_out):
    """mu of every spike of a recurrent layer, backwards in time: dL/dt_k has also what its own targets send back."""
    n_out = delay_r.shape[0]
    blocks = where_r.shape[0]
    rows, last = _rows(steps)
    rows_p = np.zeros((blocks, rows, 2))
    p, now = np.empty((n_out, 2)), np.empty(n_out)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    em, k, es = forth
    bm, bk, bs = back
    for b in range(lo, hi):
        s0, s1 = spike_offsets[b], spike_offsets[b + 1]
        order, start = by_unit(spike_u, s0, s1, n_out)
        t, mu = spike_t[order], np.empty(s1 - s0)
        place, after = np.empty(s1 - s0, np.int64), np.empty((s1 - s0, 2))
        for a in range(s1 - s0):
            place[order[a] - s0] = a
        p[:] = 0
        spike = s1 - 1
        for n in range(steps - 1, -1, -1):
            for j in range(n_out):
                v, q = p[j, 0], p[j, 1]
                r = (2 * n + 1) * LANES + j % LANES
                rows_p[j // LANES, r, 0], rows_p[j // LANES, r, 1] = v, q
                rows_p[j // LANES, r + LANES, 0], rows_p[j // LANES, r + LANES, 1] = bm * v, bk * v + bs * q
                now[j] = (n + 1) * dt
            bottom = spike
            while bottom >= s0 and spike_t[bottom] >= n * dt:
                j = spike_u[bottom]
                for r in range(2 * n + 1, 2 * n + 3):
                    rows_p[j // LANES, r * LANES + j % LANES, 0] = np.nan
                    rows_p[j // LANES, r * LANES + j % LANES, 1] = place[bottom - s0]
                after[place[bottom - s0], 0], after[place[bottom - s0], 1] = p[j, 0], p[j, 1]
                bottom -= 1
            while spike > bottom:
                j, ts_k = spike_u[spike], spike_t[spike]
                step = np.int64(ts_k / dt)
                x = _position(ts_k / dt) + (np.int64(2) << 32)
                em_k, k_k, es_k = propagate(2 * dt - (ts_k - step * dt), flow)
                received = 0.0
                for m in range(n_out):
                    block, lane = m // LANES, m % LANES
                    w = factor_r[block, j, lane, 3]
                    row = min(((x + where_r[block, j, lane]) >> 32) * LANES, last)
                    v, q = rows_p[block, row + lane, 0], rows_p[block, row + lane, 1]
                    jump = 0.0
                    if not v == v:
                        earliest = np.int64(q)
                        at, v, q = _without_jumps(row, earliest, after, back)
                        y, z = _jumps(ts_k + delay_r[m, j], at, earliest, start[m + 1], t, mu, steps - 1, dt, flow)
                        jump = z / ts - y / tm
                    y, z = em_k * v, k_k * v + es_k * q
                    v = factor_r[block, j, lane, 2] * y
                    q = factor_r[block, j, lane, 0] * z + factor_r[block, j, lane, 1] * y
                    received += w * (q / ts - v / tm + jump)
                a, c, d = propagate(now[j] - ts_k, flow)
                p[j, 1] = c * p[j, 0] + d * p[j, 1]
                p[j, 0] = a * p[j, 0]
                now[j] = ts_k
                jump = (theta * p[j, 0] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                mu[place[spike - s0]] = jump
                mu_out[spike] = jump
                p[j, 0] += jump
                spike -= 1
            for j in range(n_out):
                if now[j] == (n + 1) * dt:
                    p[j, 1] = k * p[j, 0] + es * p[j, 1]
                    p[j, 0] = em * p[j, 0]
                else:
                    a, c, d = propagate(now[j] - n * dt, flow)
                    p[j, 1] = c * p[j, 0] + d * p[j, 1]
                    p[j, 0] = a * p[j, 0]
    return


# ------------------------------------------------------------------------------------------------ LI, exact, forward

@njit(**_OPTIONS)
def li_exact_forward(times, units, offsets, lo, hi, n_out, where, pair, kick, tm, ts, dt, steps, every,
                     voltage, final, find_peak, peak, peak_time, peak_event, peak_slope):
    """Leaky-integrator readout, samples lo..hi-1.

    voltage [T, N, out] gets V(n every dt) (T = 0: not wanted), final [N, out, 2] gets (V, I) at steps dt. With
    find_peak, peak and peak_time [N, out] get the largest V in [0, steps dt] and its time: steps whose bound exceeds
    the largest V at the grid points are resolved arrival by arrival. V may peak in a kink, where an inhibitory spike
    arrives while V rises: peak_event and peak_slope get that event and V' before it (else -1 and 0).
    """
    n_in = where.shape[1]
    rows, last = _rows(steps)
    bucket, head = np.zeros((rows, 2)), np.empty(rows, np.int32)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    s, w, state = np.empty(longest + 1), np.empty(longest + 1), np.empty(2)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    at = np.empty((steps + 1, 2))
    for b in range(lo, hi):
        order, start, et, eu, position, eem, ek, ees = event_tables(
            times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        for block in range(where.shape[0]):
            bucket[:] = 0
            head[:] = -1
            _scatter(start, position, eem, ek, ees, where[block], kick[block], bucket, head, chain, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                state[:] = 0
                for n in range(steps):
                    at[n, 0], at[n, 1] = state[0], state[1]
                    _step(bucket, n, lane, state, 0, forth, back)
                at[steps, 0], at[steps, 1] = state[0], state[1]
                final[b, j, 0], final[b, j, 1] = state[0], state[1]
                for n in range(voltage.shape[0]):
                    voltage[n, b, j] = at[n * every, 0]
                if find_peak:
                    peak[b, j], peak_time[b, j], e, peak_slope[b, j] = _peak(
                        at, head, chain, lane, et, eu, pair, block, dt, steps, s, w, tm, ts, flow)
                    peak_event[b, j] = order[e] if e >= 0 else -1


@njit(**_OPTIONS)
def _peak(at, head, chain, lane, times, units, pair, block, dt, steps, s, w, tm, ts, flow):
    """Largest V over [0, steps dt], its first time, the arrival at which it has a kink there (or -1), V' before it."""
    least = 0.0
    for n in range(steps + 1):
        least = max(least, at[n, 0])
    least -= 1e-12 * (1 + least)                    # grid values carry rounding
    best, when, slope = 0.0, 0.0, 0.0
    for n in range(steps):
        v, i = at[n, 0], at[n, 1]
        high = max(i, 0.0)
        for row in range(2 * n + 1, 2 * n + 3):
            e = head[row * LANES + lane]
            while e >= 0:
                high += max(pair[block, units[e], lane, 1], 0.0)
                e = chain[e, lane]
        if v + max(high - v, 0.0) * dt / tm < least:
            continue
        t, end = n * dt, (n + 1) * dt
        v, i, m = _arrivals(head, chain, lane, n, times, units, pair, block, t, end, v, i, s, w, flow)
        for a in range(m + 1):
            until = s[a] if a < m else end
            if i > v and i > 0:                     # V' has the sign of I - V; from here it may fall through zero once
                u = _extremum(v, i, until - t, tm, ts, flow)
                if u >= 0:
                    em, k, es = propagate(u, flow)
                    if em * v + k * i > best:
                        best, when, slope = em * v + k * i, t + u, 0.0
            em, k, es = propagate(until - t, flow)
            v = em * v + k * i
            i = es * i
            t = until
            if v > best:
                best, when, slope = v, t, (i - v) / tm
            if a < m:
                i += w[a]
    if slope > 1e-12 and when < steps * dt:
        n = np.int64(when / dt)
        for row in range(max(2 * n - 1, 1), min(2 * n + 5, 2 * steps + 1)):
            e = head[row * LANES + lane]
            while e >= 0:
                if (abs(times[e] + pair[block, units[e], lane, 0] - when) <= 1e-12 * (1 + when)
                        and pair[block, units[e], lane, 1] < 0):
                    return best, when, e, slope
                e = chain[e, lane]
    return best, when, -1, 0.0


@njit(**_OPTIONS)
def _extremum(v, i, length, tm, ts, flow):
    """u in [0, length] with I(u) = V(u), I(0) > V(0); -1 if none. I - V falls through zero once; bisection, Newton."""
    em, k, es = propagate(length, flow)
    if es * i - em * v - k * i > 0:
        return -1.0
    a, b = 0.0, length
    u = 0.5 * length
    for _ in range(100):
        em, k, es = propagate(u, flow)
        x, y = em * v + k * i, es * i
        f = y - x
        if f > 0:
            a = u
        else:
            b = u
        slope = -y / ts - (y - x) / tm
        new = u - f / slope if slope < 0 else -1.0
        if not (a < new < b):
            new = 0.5 * (a + b)
        if abs(new - u) <= 1e-16 * tm:
            return new
        u = new
    return u


@njit(**_OPTIONS)
def discounted_arrivals(times, units, offsets, lo, hi, weight, delay, rate, duration, total):
    """total[b, j] = sum of w exp(-rate s) over the arrivals s <= duration."""
    n_out, n_in = weight.shape
    for b in range(lo, hi):
        order, start = by_unit(units, offsets[b], offsets[b + 1], n_in)
        for j in range(n_out):
            x = 0.0
            for i in range(n_in):
                y = 0.0
                for a in range(start[i], start[i + 1]):
                    s = times[order[a]] + delay[j, i]
                    if s <= duration:
                        y += np.exp(-rate * s) if rate > 0 else 1.0
                x += weight[j, i] * y
            total[b, j] = x


@njit(**_OPTIONS)
def discounted_arrivals_backward(times, units, offsets, lo, hi, weight, delay, rate, duration, out_lo, out_hi, grad,
                                 grad_w, grad_d, grad_t):
    """Adds the gradient of discounted_arrivals for outputs out_lo..out_hi-1; grad_t, from offsets[lo] on, or empty."""
    n_out, n_in = weight.shape
    for b in range(lo, hi):
        order, start = by_unit(units, offsets[b], offsets[b + 1], n_in)
        for j in range(out_lo, out_hi):
            g = grad[b, j]
            for i in range(n_in):
                y = 0.0
                for a in range(start[i], start[i + 1]):
                    s = times[order[a]] + delay[j, i]
                    if s <= duration:
                        x = np.exp(-rate * s) if rate > 0 else 1.0
                        y += x
                        if grad_t.size > 0:
                            grad_t[order[a] - offsets[lo]] -= g * weight[j, i] * rate * x
                grad_w[j, i] += g * y
                grad_d[j, i] -= g * weight[j, i] * rate * y


# ------------------------------------------------------------------------------------------------ exact, by tau

@njit(**_OPTIONS)
def _gather_tau(start, position, es_e, k_e, em_e, by_tau, where, factor, delay, rows_p, last, et, grid, t, mu, spike_start,
                neuron, n_out, dt, tm, ts, total):
    """Add to total = (d/d tau_m, d/d tau_s) what the arrivals' own propagators P(h) (0, w) contribute."""
    for i in range(where.shape[0]):
        if start[i] == start[i + 1]:
            continue
        for j in range(min(LANES, n_out - neuron)):
            w = factor[i, j, 3]
            s0 = s1 = a0 = a1 = a2 = 0.0
            for e in range(start[i], start[i + 1]):
                row = min(((position[e] + where[i, j]) >> 32) * LANES, last)
                v, q = rows_p[row + j, 0], rows_p[row + j, 1]
                if v == v:
                    s0 += em_e[e] * v
                    s1 += k_e[e] * v + es_e[e] * q
                    a0 += by_tau[e, 0] * v
                    a1 += by_tau[e, 1] * v
                    a2 += by_tau[e, 2] * v + by_tau[e, 3] * q
                else:
                    n = (row // LANES - 1) // 2
                    s = et[e] + delay[neuron + j, i]
                    dm_em, dm_k, ds_k, ds_es = propagator_by_tau((n + 1) * dt - s, tm, ts)
                    total[0] += w * dm_k * grid[j, n + 1, 0]
                    total[1] += w * (ds_k * grid[j, n + 1, 0] + ds_es * grid[j, n + 1, 1])
                    spike = np.int64(q)
                    while spike < spike_start[neuron + j + 1] and (
                            t[spike] < (n + 1) * dt or n + 3 == grid.shape[1]):
                        if t[spike] > s:
                            dm_em, dm_k, ds_k, ds_es = propagator_by_tau(t[spike] - s, tm, ts)
                            total[0] += w * mu[spike] * dm_k
                            total[1] += w * mu[spike] * ds_k
                        spike += 1
            x = delay[neuron + j, i]
            dm_em, dm_k, ds_k, ds_es = propagator_by_tau(-(x - np.int64(x / dt) * dt), tm, ts)
            total[0] += w * (factor[i, j, 1] * a0 + factor[i, j, 0] * a1 + dm_k * s0)
            total[1] += w * (factor[i, j, 0] * a2 + ds_k * s0 + ds_es * s1)


@njit(**_OPTIONS)
def _events_by_tau(times, dt, tm, ts):
    table = np.empty((times.size, 4))
    for e in range(times.size):
        f = times[e] - np.int64(times[e] / dt) * dt
        table[e, 0], table[e, 1], table[e, 2], table[e, 3] = propagator_by_tau(2 * dt - f, tm, ts)
    return table


@njit(**_OPTIONS)
def exact_tau_gradient(times, units, offsets, delay, where, factor, kick,
                       end, source, every, spike_t, spike_u, spike_offsets, lo, hi, mu_given, resets,
                       delay_r, where_r, factor_r, kick_r, theta, tm, ts, dt, steps):
    """(dL/d tau_m, dL/d tau_s) with the jumps mu of all spikes given; spikes reset V where resets is true.

    dL/d tau = sum of p(end) dP(length)/d tau x(start) over all pieces of free evolution: state from grid point to grid
    point, and every arrival and every reset to the grid point that follows it.
    """
    n_out, n_in = delay.shape
    rows, last = _rows(steps)
    rows_p, grid = np.zeros((rows, 2)), np.zeros((LANES, steps + 2, 2))
    bucket, head = np.zeros((rows, 2)), np.empty(rows, np.int32)
    longest = 0
    for b in range(lo, hi):
        longest = max(longest, offsets[b + 1] - offsets[b], spike_offsets[b + 1] - spike_offsets[b])
    chain = np.empty((longest, LANES), np.int32)
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    forth_by, back_by = propagator_by_tau(dt, tm, ts), propagator_by_tau(-dt, tm, ts)
    total, state, nothing = np.zeros(2), np.empty(2), np.empty(0)
    for b in range(lo, hi):
        order, start, et, eu, position, eem, ek, ees = event_tables(
            times, units, offsets[b], offsets[b + 1], n_in, dt, tm, ts)
        by_tau = _events_by_tau(et, dt, tm, ts)
        s_order, s_start, t, su, s_position, sem, sk, ses = event_tables(
            spike_t, spike_u, spike_offsets[b], spike_offsets[b + 1], n_out, dt, tm, ts)
        s_by_tau = _events_by_tau(t, dt, tm, ts)
        mu, after = mu_given[s_order], np.empty((t.size, 2))
        for block in range(where.shape[0]):
            neuron = block * LANES
            bucket[:] = 0
            _scatter(start, position, eem, ek, ees, where[block], kick[block], bucket, head, chain, last)
            if delay_r.shape[0] > 0:
                _scatter(s_start, s_position, sem, sk, ses, where_r[block], kick_r[block], bucket, head, chain, last)
            for lane in range(min(LANES, n_out - neuron)):
                j = neuron + lane
                _adjoint(rows_p, after, grid[lane], lane, steps, dt, end[b, j], source, every, b * n_out + j,
                         t, mu, nothing, nothing, nothing, s_start[j], s_start[j + 1], True, theta, tm, forth, back, flow)
                state[:] = 0
                spike, stop = s_start[j], s_start[j + 1]
                for n in range(steps):
                    v, q = grid[lane, n + 1, 0], grid[lane, n + 1, 1]
                    x, y = state[0], state[1]
                    total[0] += v * (forth_by[0] * x + forth_by[1] * y)
                    total[1] += (v * forth_by[2] + q * forth_by[3]) * y
                    reset = 0.0
                    if spike < stop and (t[spike] < (n + 1) * dt or n == steps - 1):
                        while spike < stop and (t[spike] < (n + 1) * dt or n == steps - 1):
                            dm_em, dm_k, ds_k, ds_es = propagator_by_tau(t[spike] - n * dt, tm, ts)
                            total[0] += mu[spike] * (dm_em * x + dm_k * y)
                            total[1] += mu[spike] * ds_k * y
                            if resets:
                                h = (n + 1) * dt - t[spike]
                                em, k, es = propagator(h, tm, ts)
                                reset += theta * em
                                total[0] -= theta * v * em * h / (tm * tm)
                                later = spike + 1
                                while later < stop and (t[later] < (n + 1) * dt or n == steps - 1):
                                    h = t[later] - t[spike]
                                    em, k, es = propagator(h, tm, ts)
                                    total[0] -= theta * mu[later] * em * h / (tm * tm)
                                    later += 1
                            spike += 1
                    else:
                        r = (2 * n + 2) * LANES + lane
                        x, y = bucket[r, 1], bucket[r, 0]
                        total[0] += v * (back_by[0] * x + back_by[1] * y)
                        total[1] += (v * back_by[2] + q * back_by[3]) * y
                    _step(bucket, n, lane, state, 0, forth, back)
                    state[0] -= reset
            _gather_tau(start, position, ees, ek, eem, by_tau, where[block], factor[block], delay, rows_p, last, et, grid,
                        t, mu, s_start, neuron, n_out, dt, tm, ts, total)
            if delay_r.shape[0] > 0:
                _gather_tau(s_start, s_position, ses, sk, sem, s_by_tau, where_r[block], factor_r[block], delay_r, rows_p,
                            last, t, grid, t, mu, s_start, neuron, n_out, dt, tm, ts, total)
    return total[0], total[1]


# ------------------------------------------------------------------------------------------------ grid scheme

@njit(**_OPTIONS)
def grid_tables(weight, delay, dt, steps):
    """Per synapse, in blocks of LANES neurons: rounded delay in steps [B, in, L], at most steps, and w [B, in, L]."""
    n_out, n_in = weight.shape
    blocks = (n_out + LANES - 1) // LANES
    where = np.zeros((blocks, n_in, LANES), np.int64)
    value = np.zeros((blocks, n_in, LANES))
    for j in range(n_out):
        for i in range(n_in):
            where[j // LANES, i, j % LANES] = np.int64(min(np.floor(delay[j, i] / dt + 0.5), float(steps)))
            value[j // LANES, i, j % LANES] = weight[j, i]
    return where, value


@njit(**_OPTIONS)
def _grid_events(times, units, lo, hi, n_units, dt):
    """Events by unit: order, pointers and the row in which a spike without delay is seen, one step after its own."""
    order, start = by_unit(units, lo, hi, n_units)
    step = np.empty(hi - lo, np.int64)
    for e in range(hi - lo):
        step[e] = np.int64(np.ceil(times[order[e]] / dt - 1e-6)) + 1
    return order, start, step


@njit(**_OPTIONS)
def _grid_scatter(start, step, where, value, drive, last):
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            trash = last + (e & (_TRASH_ROWS - 1)) * LANES
            x = step[e]
            for j in range(LANES):
                drive[np.uint64(min((x + where[i, j]) * LANES, trash) + j)] += value[i, j]


@njit(**_OPTIONS)
def _grid_gather(start, step, where, rows_p, sums, last):
    """sums[i, j] += (p_V, p_I) at the arrival step of every event."""
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            x = step[e]
            for j in range(LANES):
                r = np.uint64(min((x + where[i, j]) * LANES, last) + j)
                sums[i, j, 0] += rows_p[r, 0]
                sums[i, j, 1] += rows_p[r, 1]


@njit(**_OPTIONS)
def grid_finish(sums, value, tm, ts, grad_w, grad_d):
    """As finish, from the sums of _grid_gather."""
    n_out, n_in = grad_w.shape
    for b in range(sums.shape[0]):
        for i in range(n_in):
            for j in range(min(LANES, n_out - b * LANES)):
                v, q = sums[b, i, j, 0], sums[b, i, j, 1]
                grad_w[b * LANES + j, i] = q
                grad_d[b * LANES + j, i] = value[b, i, j] * (q / ts - v / tm)


@njit(**_OPTIONS)
def _grid_gather_times(start, step, where, value, rows_p, last, order, grad_t, tm, ts):
    for i in range(where.shape[0]):
        for e in range(start[i], start[i + 1]):
            total = 0.0
            for j in range(LANES):
                r = min((step[e] + where[i, j]) * LANES, last) + j
                total += value[i, j] * (rows_p[r, 1] / ts - rows_p[r, 0] / tm)
            grad_t[order[e]] += total


@njit(**_OPTIONS)
def _grid_run(drive, lane, n, steps, state, alpha, beta, gain, scale, theta):
    """Advance a neuron from step n to the step in which it spikes (steps if none); state = (V, S).

    S is the synaptic variable, scale S = I the current averaged over the step; V <- alpha V + (1 - alpha) I.
    """
    v, s = state[0], state[1]
    while n < steps:
        s = beta * s + drive[np.uint64(n * LANES + lane)]
        v = alpha * v + gain * s
        if v >= theta:
            break
        n += 1
    state[0], state[1] = v, s
    return n


@njit(**_OPTIONS)
def _grid_constants(dt, tm, ts):
    """alpha, beta, (1 - alpha) scale, scale: scale = mean over a step of exp(-t / tau_s)."""
    alpha, beta = np.exp(-dt / tm), np.exp(-dt / ts)
    scale = -np.expm1(-dt / ts) * ts / dt
    return alpha, beta, -np.expm1(-dt / tm) * scale, scale


@njit(**_OPTIONS)
def lif_grid_forward(times, units, offsets, lo, hi, n_in, n_out, where, value, theta, tm, ts, dt, steps, max_spikes):
    """Feed-forward LIF layer on the grid; returns as lif_exact_forward, with I - V in place of I - theta."""
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    last = steps * LANES
    drive, state = np.zeros((steps + _TRASH_ROWS) * LANES), np.empty(2)
    alpha, beta, gain, scale = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt)
        for block in range(where.shape[0]):
            drive[:] = 0
            _grid_scatter(start, step, where[block], value[block], drive, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                state[:] = 0
                before, n = total, 0
                while True:
                    n = _grid_run(drive, lane, n, steps, state, alpha, beta, gain, scale, theta)
                    if n >= steps:
                        break
                    if total - before >= max_spikes:
                        return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, block * LANES + lane
                    if total == out.shape[1]:
                        out = _grown(out)
                    out[0, total], out[1, total] = n * dt, block * LANES + lane
                    out[2, total] = scale * state[1] - state[0]
                    total += 1
                    state[0] = 0.0
                    n += 1
        count[b - lo] = total - first
        _sort_by_time(out, first, total)
    return count, out[:, :total].copy(), OK, -1, -1


@njit(**_OPTIONS)
def lif_grid_recurrent_forward(times, units, offsets, lo, hi, n_in, n_out, where, value, where_r, value_r,
                               theta, tm, ts, dt, steps, max_spikes):
    """Recurrent LIF layer on the grid, step by step."""
    count = np.zeros(hi - lo, np.int64)
    out = np.empty((3, 1024))
    total = 0
    blocks = where.shape[0]
    last = steps * LANES
    drive = np.zeros((blocks, (steps + _TRASH_ROWS) * LANES))
    state, spikes = np.empty((n_out, 2)), np.empty(n_out, np.int64)
    alpha, beta, gain, scale = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        first = total
        order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt)
        drive[:] = 0
        for block in range(blocks):
            _grid_scatter(start, step, where[block], value[block], drive[block], last)
        state[:] = 0
        spikes[:] = 0
        for n in range(steps):
            for j in range(n_out):
                if _grid_run(drive[j // LANES], j % LANES, n, n + 1, state[j], alpha, beta, gain, scale, theta) > n:
                    continue
                if spikes[j] >= max_spikes:
                    return count, out[:, :0].copy(), TOO_MANY_SPIKES, b, j
                if total == out.shape[1]:
                    out = _grown(out)
                out[0, total], out[1, total], out[2, total] = n * dt, j, scale * state[j, 1] - state[j, 0]
                total += 1
                spikes[j] += 1
                state[j, 0] = 0.0
                for block in range(blocks):
                    for lane in range(LANES):
                        r = min((n + 1 + where_r[block, j, lane]) * LANES, last) + lane
                        drive[block, r] += value_r[block, j, lane]
        count[b - lo] = total - first
    return count, out[:, :total].copy(), OK, -1, -1


@njit(**_OPTIONS)
def li_grid_forward(times, units, offsets, lo, hi, n_in, n_out, where, value, tm, ts, dt, steps, voltage):
    """voltage [T, N, out]: V at every step."""
    last = steps * LANES
    drive = np.zeros((steps + _TRASH_ROWS) * LANES)
    alpha, beta, gain, scale = _grid_constants(dt, tm, ts)
    for b in range(lo, hi):
        order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt)
        for block in range(where.shape[0]):
            drive[:] = 0
            _grid_scatter(start, step, where[block], value[block], drive, last)
            for lane in range(min(LANES, n_out - block * LANES)):
                v = s = 0.0
                for n in range(steps):
                    s = beta * s + drive[n * LANES + lane]
                    v = alpha * v + gain * s
                    voltage[n, b, block * LANES + lane] = v


@njit(**_OPTIONS)
def grid_backward(times, units, offsets, lo, hi, n_in, n_out, where, value, block_lo, block_hi, source,
                  spike_t, spike_u, spike_offsets, slope, g_time, g_jump, mu_given, where_r,
                  theta, tm, ts, dt, steps, sums, sums_r, grad_t, before_spikes):
    """The published backward pass, blocks block_lo..block_hi-1; arguments as in exact_backward."""
    last = steps * LANES
    rows_p = np.zeros(((steps + _TRASH_ROWS) * LANES, 2))
    em, k, es = propagator_any(dt, tm, ts)
    drive_v, drive_i = grid_drive(dt, tm, ts)
    given, sampled = mu_given.size > 0, source.shape[0] > 0
    for b in range(lo, hi):
        order, start, step = _grid_events(times, units, offsets[b], offsets[b + 1], n_in, dt)
        order -= offsets[lo]
        s_order, s_start, s_step = _grid_events(spike_t, spike_u, spike_offsets[b], spike_offsets[b + 1], n_out, dt)
        for block in range(block_lo, block_hi):
            for lane in range(LANES):
                j = block * LANES + lane
                v = q = 0.0
                spike = s_start[j + 1] - 1 if j < n_out else -1
                first = s_start[j] if j < n_out else 0
                for n in range(steps - 1, -1, -1):
                    v, q = em * v, k * v + es * q
                    if sampled and j < n_out:
                        g = source[n, b * n_out + j]
                        v += drive_v * g
                        q += drive_i * g
                    if spike >= first and s_step[spike] == n + 1:
                        a = s_order[spike]
                        if given:
                            v += mu_given[a]
                        else:
                            v += (theta * v - tm * g_time[a]) / slope[a] + g_jump[a]
                        before_spikes[block] += v
                        spike -= 1
                    rows_p[n * LANES + lane, 0], rows_p[n * LANES + lane, 1] = v, q
            _grid_gather(start, step, where[block], rows_p, sums[block], last)
            if grad_t.size > 0:
                _grid_gather_times(start, step, where[block], value[block], rows_p, last, order, grad_t, tm, ts)
            if where_r.shape[0] > 0:
                _grid_gather(s_start, s_step, where_r[block], rows_p, sums_r[block], last)


@njit(**_OPTIONS)
def grid_drive(dt, tm, ts):
    """What dL/dV(n) adds to (p_V, p_I): the scheme spreads it over a step, as a drive g / dt held for dt."""
    em, k, es = propagator_any(dt, tm, ts)
    return -np.expm1(-dt / tm) * tm / dt, (-np.expm1(-dt / ts) * ts - tm * k) / dt


@njit(**_OPTIONS)
def grid_recurrent_jumps(spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump, where_r, value_r,
                         n_out, theta, tm, ts, dt, steps, mu_out):
    """mu of every spike of a recurrent layer on the grid."""
    blocks = where_r.shape[0]
    last = steps * LANES
    rows_p = np.zeros((blocks, (steps + _TRASH_ROWS) * LANES, 2))
    p = np.empty((n_out, 2))
    em, k, es = propagator_any(dt, tm, ts)
    for b in range(lo, hi):
        p[:] = 0
        spike = spike_offsets[b + 1] - 1
        for n in range(steps - 1, -1, -1):
            for j in range(n_out):
                p[j, 0], p[j, 1] = em * p[j, 0], k * p[j, 0] + es * p[j, 1]
            while spike >= spike_offsets[b] and np.int64(np.ceil(spike_t[spike] / dt - 1e-6)) == n:
                j = spike_u[spike]
                received = 0.0
                for block in range(blocks):
                    for lane in range(LANES):
                        r = min((n + 1 + where_r[block, j, lane]) * LANES, last) + lane
                        received += value_r[block, j, lane] * (rows_p[block, r, 1] / ts - rows_p[block, r, 0] / tm)
                mu_out[spike] = (theta * p[j, 0] - tm * (g_time[spike] + received)) / slope[spike] + g_jump[spike]
                p[j, 0] += mu_out[spike]
                spike -= 1
            for j in range(n_out):
                r = n * LANES + j % LANES
                rows_p[j // LANES, r, 0], rows_p[j // LANES, r, 1] = p[j, 0], p[j, 1]
    return


@njit(**_OPTIONS)
def feedforward_jumps(spike_t, spike_u, spike_offsets, lo, hi, slope, g_time, g_jump, n_out, theta, tm, ts, dt, steps,
                      source, every, end, mu_out):
    """mu of every spike of a feed-forward layer, as exact_backward finds them."""
    rows, last = _rows(steps)
    rows_p, no_grid = np.zeros((rows, 2)), np.empty((0, 2))
    forth, back, flow = propagator(dt, tm, ts), propagator(-dt, tm, ts), flow_table(dt, tm, ts)
    for b in range(lo, hi):
        order, start = by_unit(spike_u, spike_offsets[b], spike_offsets[b + 1], n_out)
        t, mu, after = spike_t[order], np.empty(order.size), np.empty((order.size, 2))
        x, gt, gj = slope[order], g_time[order], g_jump[order]
        for j in range(n_out):
            _adjoint(rows_p, after, no_grid, 0, steps, dt, end[b, j], source, every, b * n_out + j, t, mu, x, gt, gj,
                     start[j], start[j + 1], False, theta, tm, forth, back, flow)
        mu_out[order] = mu
