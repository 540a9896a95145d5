"""Backward kernels for the derivatives of M: states at the starts of steps, and int p x^T dt over the parts of steps that
have boundaries (:mod:`.adjoint_kernels`). Whole steps are products of matrices, on the host.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...triton.flow import any_of
from ...triton.sized import sized
from .adjoint_kernels import load_three, store_three
from .flow import (
    DURATION,
    INVERSE,
    MOMENTS,
    POLYNOMIAL,
    REST,
    SQUARE,
    TERMS,
    WIDTH,
    B,
    C,
    H,
    ahead,
    column,
    column_of,
    jumped,
    moved,
    place,
    polynomial,
    three,
)


@triton.jit
def arrivals_after(mark, node, chain, node_t, node_u, weight, delay, j, n_out, c, h, inverse, steps):
    """What the arrivals of a step from ``mark`` on are at its end, by the flow of which c is the polynomial."""
    y0, y1, y2 = mark * 0, mark * 0, mark * 0
    while tl.max(node, 0) >= 0:
        live = node >= 0
        event = node.to(tl.int64)
        synapse = tl.load(node_u + event, live, 0) * n_out + j
        s = tl.load(node_t + event, live, 0) + tl.load(delay + synapse, live, 0)
        _n, f = place(s, h, inverse, steps)
        z0, z1, z2 = polynomial(c, f)
        w = tl.where(live & (s >= mark), tl.load(weight + synapse, live, 0), 0.0)
        y0, y1, y2 = y0 + w * z0, y1 + w * z1, y2 + w * z2
        node = tl.load(chain + event * n_out + j, live, -1)
    return y0, y1, y2


@sized
def replay_kernel(
    bucket, head, chain, node_t, node_u, weight, delay, start, t, before, at_ready, neurons, constants, states, steps,
    n_out, BLOCK: tl.constexpr,
):  # fmt: skip
    """states[b, n, j, i]: x at the start of step n, from the moments and the spikes known."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    near = tl.minimum(j, n_out - 1)
    of = column_of(neurons, near)
    h, inverse, duration = tl.load(constants + H), tl.load(constants + INVERSE), tl.load(constants + DURATION)
    rest = tl.load(of + REST * WIDTH)
    spike = tl.load(start + b * n_out + j, inside, 0)
    last = tl.load(start + b * n_out + j + 1, inside, 0)
    zero = tl.zeros((BLOCK,), tl.float64)
    x0, x1, x2, ready = zero, zero, zero, zero
    held = tl.zeros((BLOCK,), tl.int32)
    for n in range(steps):
        at = (b * steps + n) * n_out + near
        store_three(states + 3 * at, inside, x0, x1, x2)
        end = tl.minimum((n + 1) * h, duration)
        y0, y1, y2 = ahead(of, held, bucket + at * MOMENTS, x0, x1, x2)
        mark = zero - 1
        wakes = (held > 0) & (ready < end)
        fires = (held == 0) & (spike < last)
        fires = fires & (tl.load(t + spike, fires, 0) < end)
        while any_of(wakes | fires):
            v0, v1, v2 = load_three(before + 3 * spike, fires)
            z0, z1, z2 = jumped(of, v0, v1, v2)
            v0, v1, v2 = load_three(at_ready + 3 * spike - 3, wakes)
            x0 = tl.where(fires, z0, tl.where(wakes, v0, x0))
            x1 = tl.where(fires, z1, tl.where(wakes, v1, x1))
            x2 = tl.where(fires, z2, tl.where(wakes, v2, x2))
            at_spike = tl.load(t + spike, fires, 0)
            mark = tl.where(fires, at_spike, tl.where(wakes, ready, mark))
            ready = tl.where(fires, at_spike + rest, ready)
            held = tl.where(fires, (rest > 0).to(tl.int32), tl.where(wakes, 0, held))
            spike += fires.to(tl.int64)
            wakes = (held > 0) & (ready < end)
            fires = (held == 0) & (spike < last)
            fires = fires & (tl.load(t + spike, fires, 0) < end)
        broken = inside & (mark >= 0)
        if any_of(broken):
            z0, z1, z2 = moved(of + SQUARE * held * WIDTH, tl.where(broken, end - tl.maximum(mark, n * h), 0.0), x0, x1, x2)
            node = tl.where(broken, tl.load(head + at), -1)
            c = of + (C + POLYNOMIAL * held) * WIDTH
            v0, v1, v2 = arrivals_after(mark, node, chain, node_t, node_u, weight, delay, j, n_out, c, h, inverse, steps)
            y0, y1, y2 = tl.where(broken, z0 + v0, y0), tl.where(broken, z1 + v1, y1), tl.where(broken, z2 + v2, y2)
        x0, x1, x2 = y0, y1, y2


@triton.jit
def piece(m, u, p0, p1, p2, x0, x1, x2, d0, d1, d2, d3, d4, d5, d6, d7, d8):
    """d + int p x^T over a time u that begins in x and ends in p, which is
    sum_n u^(n + 1) / (n + 1)! A_n,  A_0 = p x^T,  A_n = M^T A_(n-1) + p (M^n x)^T."""
    m0, m1, m2 = three(m)
    m3, m4, m5 = three(m + 3 * WIDTH)
    m6, m7, m8 = three(m + 6 * WIDTH)
    a0, a1, a2, a3, a4, a5, a6, a7, a8 = u * 0, u * 0, u * 0, u * 0, u * 0, u * 0, u * 0, u * 0, u * 0
    scale, number = u * 0 + 1, tl.zeros_like(u)
    for _ in range(0, TERMS - 1):
        number += 1
        scale = scale * (u * (1.0 / number))
        c0, c1, c2 = m0 * a0 + m3 * a3 + m6 * a6, m0 * a1 + m3 * a4 + m6 * a7, m0 * a2 + m3 * a5 + m6 * a8
        c3, c4, c5 = m1 * a0 + m4 * a3 + m7 * a6, m1 * a1 + m4 * a4 + m7 * a7, m1 * a2 + m4 * a5 + m7 * a8
        a6, a7, a8 = m2 * a0 + m5 * a3 + m8 * a6, m2 * a1 + m5 * a4 + m8 * a7, m2 * a2 + m5 * a5 + m8 * a8
        a0, a1, a2 = c0 + p0 * x0, c1 + p0 * x1, c2 + p0 * x2
        a3, a4, a5 = c3 + p1 * x0, c4 + p1 * x1, c5 + p1 * x2
        a6, a7, a8 = a6 + p2 * x0, a7 + p2 * x1, a8 + p2 * x2
        d0, d1, d2 = d0 + scale * a0, d1 + scale * a1, d2 + scale * a2
        d3, d4, d5 = d3 + scale * a3, d4 + scale * a4, d5 + scale * a5
        d6, d7, d8 = d6 + scale * a6, d7 + scale * a7, d8 + scale * a8
        x0, x1, x2 = m0 * x0 + m1 * x1 + m2 * x2, m3 * x0 + m4 * x1 + m5 * x2, m6 * x0 + m7 * x1 + m8 * x2
    return d0, d1, d2, d3, d4, d5, d6, d7, d8


@sized
def pieces_kernel(
    cell, unit, held, low, high, p, x, head, chain, node_t, node_u, weight, delay, neurons, constants, out, parts, n_out,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """out[k] = int p x^T over part k of a step: of neuron unit[k], from the time low, x, to high, p. cell: place of the
    step in head."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = k < parts
    j = tl.load(unit + k, inside, 0)
    m = column_of(neurons, j) + SQUARE * WIDTH * tl.load(held + k, inside, 0)
    lo, hi = tl.load(low + k, inside, 0), tl.load(high + k, inside, 0)
    p0, p1, p2 = load_three(p + 3 * k, inside)
    x0, x1, x2 = load_three(x + 3 * k, inside)
    b0, b1, b2 = column(constants + B)
    z = lo * 0
    d0, d1, d2, d3, d4, d5, d6, d7, d8 = piece(m, hi - lo, p0, p1, p2, x0, x1, x2, z, z, z, z, z, z, z, z, z)
    node = tl.load(head + tl.load(cell + k, inside, 0), inside, -1)
    while tl.max(node, 0) >= 0:
        live = node >= 0
        event = node.to(tl.int64)
        synapse = tl.load(node_u + event, live, 0) * n_out + j
        s = tl.load(node_t + event, live, 0) + tl.load(delay + synapse, live, 0)
        here = live & (s >= lo) & (s < hi)
        w = tl.where(here, tl.load(weight + synapse, live, 0), 0.0)
        u = tl.where(here, hi - s, 0.0)
        d0, d1, d2, d3, d4, d5, d6, d7, d8 = piece(
            m, u, p0, p1, p2, w * b0, w * b1, w * b2, d0, d1, d2, d3, d4, d5, d6, d7, d8
        )
        node = tl.load(chain + event * n_out + j, live, -1)
    tl.store(out + 9 * k, d0, inside)
    tl.store(out + 9 * k + 1, d1, inside)
    tl.store(out + 9 * k + 2, d2, inside)
    tl.store(out + 9 * k + 3, d3, inside)
    tl.store(out + 9 * k + 4, d4, inside)
    tl.store(out + 9 * k + 5, d5, inside)
    tl.store(out + 9 * k + 6, d6, inside)
    tl.store(out + 9 * k + 7, d7, inside)
    tl.store(out + 9 * k + 8, d8, inside)


@sized
def sum_kernel(start, order, rows, total, columns, BLOCK: tl.constexpr):
    """total[key] = sum of the rows order[start[key]:start[key + 1]], in that order."""
    key = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    x = tl.zeros((BLOCK,), tl.float64)
    for k in range(tl.load(start + key), tl.load(start + key + 1)):
        x += tl.load(rows + tl.load(order + k) * columns + column, inside, 0)
    tl.store(total + key.to(tl.int64) * columns + column, x, inside)
