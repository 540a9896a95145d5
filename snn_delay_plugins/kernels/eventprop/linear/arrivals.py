"""Arrivals: their moments per step and neuron, and their order within a step."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .flow import INLINED, LANES, MOMENTS, OPTIONS, moved
from .powers import add_powers, states_by_moments


@njit(**OPTIONS)
def rows_of_moments(rows):
    """Eight numbers a row, each row in a cache line of its own."""
    room = np.empty(MOMENTS * (rows + 1))
    first = (-(room.ctypes.data // 8)) % MOMENTS
    return room[first : first + MOMENTS * rows]


@njit(**OPTIONS)
def longest_sample(offsets):
    """The largest number of events of a sample."""
    longest = 0
    for sample in range(offsets.size - 1):
        longest = max(longest, offsets[sample + 1] - offsets[sample])
    return longest


@njit(**OPTIONS)
def room_for_block(longest, rows, n_in):
    """Of a block of neurons, not yet written: moments [L rows, 8], heads of chains [L rows], chains [longest, L], weights
    and delays [in, L]."""
    return (
        rows_of_moments(LANES * rows), np.empty(LANES * rows, np.int32), np.empty((longest, LANES), np.int32),
        np.empty((n_in, LANES)), np.empty((n_in, LANES)),
    )  # fmt: skip


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
    add_powers(bucket, np.uint64(r) * np.uint64(MOMENTS), w, f)  # pyright: ignore[reportCallIssue] - numba adds the first


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
        for lane in range(LANES):
            r = places[lane]
            add_moments(bucket, r, of[lane], fractions[lane])
            links[lane] = head[r]
            head[r] = node


@njit(**OPTIONS)
def scatter_negative(times, order, start, w, d, inverse, steps, rows, base, inhibition):
    """Sum |w| of the negative arrivals per row: the bounds on V' know them apart. order, start: events by unit."""
    for i in range(w.shape[0]):
        for lane in range(LANES):
            if w[i, lane] < 0:
                for e in range(start[i], start[i + 1]):
                    n, _f = place(times[order[e]] + d[i, lane], inverse, steps)
                    inhibition[base + lane * rows + n] -= w[i, lane]


@njit(**INLINED)
def ahead(p, c, bucket, r, x):
    """State at a step's end: P x + sum_k m_k C_k, m the moments of row r."""
    # of the arrivals first: they need not wait for x
    y0, y1, y2 = states_by_moments(c, bucket, np.uint64(r) * np.uint64(MOMENTS))  # pyright: ignore[reportCallIssue]
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


@njit(**INLINED)
def list_inputs(node, chain, lane, j, times, units, weight, delay, end, s, w):
    """:func:`list_arrivals` of a layer without recurrent synapses: all of a row."""
    m = 0
    while node >= 0:
        u = units[node]
        s[m], w[m] = min(times[node] + delay[j, u], end), weight[j, u]
        node = chain[node, lane]
        m += 1
    return m


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


@njit(**INLINED)
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
