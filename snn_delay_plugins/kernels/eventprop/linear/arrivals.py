"""Arrivals: their moments per step and neuron, and their order within a step."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import LANES, MOMENTS, OPTIONS, moved
from .rows import add_powers


@njit(**OPTIONS)
def rows_of_moments(rows):
    """Eight numbers a row, each row in a cache line of its own."""
    room = np.empty(MOMENTS * (rows + 1))
    first = (-(room.ctypes.data // 8)) % MOMENTS
    return room[first : first + MOMENTS * rows]


@njit(**OPTIONS)
def block_synapses(weight, delay, block, w, d):
    """Weights and delays [in, L] of a block of neurons, zero in the lanes beyond the last neuron."""
    for lane in range(LANES):
        j = block * LANES + lane
        for i in range(weight.shape[1]):
            w[i, lane] = weight[j, i] if j < weight.shape[0] else 0.0
            d[i, lane] = delay[j, i] if j < weight.shape[0] else 0.0


@njit(**OPTIONS)
def place(s, inverse, steps):
    """Step of a time s, and its fraction of the step in [-1, 1]; times past the end: step ``steps``."""
    x = min(s * inverse, np.float64(steps))
    n = np.int32(x)
    return n, 2.0 * (x - n) - 1.0


@njit(**OPTIONS)
def add_moments(bucket, r, w, f):
    """bucket: the eight moments of every row, one after the other."""
    k = np.uint64(r) * np.uint64(MOMENTS)
    g = f * f
    a0, a1 = w, w * f
    a2, a3 = a0 * g, a1 * g
    g *= g
    bucket[k] += a0
    bucket[k + np.uint64(1)] += a1
    bucket[k + np.uint64(2)] += a2
    bucket[k + np.uint64(3)] += a3
    bucket[k + np.uint64(4)] += a0 * g
    bucket[k + np.uint64(5)] += a1 * g
    bucket[k + np.uint64(6)] += a2 * g
    bucket[k + np.uint64(7)] += a3 * g


@njit(**OPTIONS)
def scatter(times, units, w, d, inverse, steps, rows, base, name, bucket, head, chain):
    """Add every arrival at a block of neurons to its row, base + lane rows + step, and put it, as ``name`` + its number, at
    the head of the row's chain."""
    fractions, places = np.empty(LANES), np.empty(LANES, np.uint32)
    for e in range(units.size):
        t, here, of, links, node = times[e], d[units[e]], w[units[e]], chain[e], np.int32(name + e)
        for lane in range(LANES):  # a loop of its own, which vectorises
            n, fractions[lane] = place(t + here[lane], inverse, steps)
            places[lane] = np.uint32(base + lane * rows + n)
        add_powers(bucket, places, fractions, of)
        for lane in range(LANES):
            r = places[lane]
            links[lane] = head[r]
            head[r] = node


@njit(**OPTIONS)
def scatter_negative(times, units, w, d, inverse, steps, rows, base, inhibition):
    """Sum |w| of the negative arrivals per row: the bounds on V' know them apart."""
    for e in range(units.size):
        for lane in range(LANES):
            if w[units[e], lane] < 0:
                n, _f = place(times[e] + d[units[e], lane], inverse, steps)
                inhibition[base + lane * rows + n] -= w[units[e], lane]


@njit(**OPTIONS)
def ahead(p, c, bucket, r, x):
    """State at a step's end: P x + sum_k m_k C_k, m the moments of row r."""
    first = np.uint64(r) * np.uint64(MOMENTS)
    y0, y1, y2 = 0.0, 0.0, 0.0  # of the arrivals first: they need not wait for x
    for k in range(MOMENTS):
        m = bucket[first + np.uint64(k)]
        y0 += m * c[k, 0]
        y1 += m * c[k, 1]
        y2 += m * c[k, 2]
    y0 += p[0, 0] * x[0] + p[0, 1] * x[1] + p[0, 2] * x[2]
    y1 += p[1, 0] * x[0] + p[1, 1] * x[1] + p[1, 2] * x[2]
    y2 += p[2, 0] * x[0] + p[2, 1] * x[1] + p[2, 2] * x[2]
    return y0, y1, y2


@njit(**OPTIONS)
def to_end(m, b, u, x, s, w, first, count, end):
    """x a time u later, at ``end``, with the arrivals first..count-1 on the way. In place."""
    x[0], x[1], x[2] = moved(m, u, x[0], x[1], x[2])
    for a in range(first, count):
        y0, y1, y2 = moved(m, max(end - s[a], 0.0), b[0], b[1], b[2])
        x[0] += w[a] * y0
        x[1] += w[a] * y1
        x[2] += w[a] * y2


@njit(**OPTIONS)
def list_arrivals(
    node, chain, lane, echo, j, times, units, weight, delay, out_t, out_u, weight_r, delay_r, since, end, s, w
):
    """The arrivals of a row from ``since`` on, by time; those that rounding put behind ``end`` at it. Chains lead through
    input events (nodes below times.size, continued at chain) and spikes of the layer itself (continued at echo)."""
    m = 0
    while node >= 0:
        if node < times.size:
            u = units[node]
            arrival, x = times[node] + delay[j, u], weight[j, u]
            node = chain[node, lane]
        else:
            k = node - times.size
            u = out_u[k]
            arrival, x = out_t[k] + delay_r[j, u], weight_r[j, u]
            node = echo[k, j]
        if arrival >= since:
            s[m], w[m] = min(arrival, end), x
            m += 1
    return m


@njit(**OPTIONS)
def enter(m, p, c, x, z, begin, end, early, inverse, s, w, count, room):
    """Let the arrivals before ``early`` act together: from the state x at the step's start, z becomes that at ``early``.
    Returns the number of those that remain. room: moments of the arrivals that were let in before, to go on with."""
    rest = 0
    for a in range(count):
        if s[a] < early:
            add_moments(room, 0, w[a], 2.0 * (s[a] - begin) * inverse - 1.0)
        else:
            s[rest], w[rest] = s[a], w[a]
            rest += 1
    if early > begin:
        y0, y1, y2 = ahead(p, c, room, 0, x)
        z[0], z[1], z[2] = moved(m, early - end, y0, y1, y2)
    else:
        z[0], z[1], z[2] = x[0], x[1], x[2]
    return rest
