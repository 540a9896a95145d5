"""Free evolution of neurons within a step, lane by lane, and the first rise of the potential through the threshold.

``neurons`` [out / 32, rows, 32] has what a lane reads of its neuron; of = column_of(neurons, j) points to its column, in
which rows are a known distance apart, so that no lane has to keep an address for each. Matrices are rows one after the
other; those of the refractory period follow those of the free flow.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...triton.flow import any_of, other_than

STATES, MOMENTS, TERMS = tl.constexpr(3), tl.constexpr(8), tl.constexpr(12)
M, P, C, J, R = tl.constexpr(0), tl.constexpr(18), tl.constexpr(36), tl.constexpr(84), tl.constexpr(93)
THETA, REST, CURVATURE, TAYLOR, SLOPE, ROWS = (tl.constexpr(n) for n in (96, 97, 98, 101, 104, 137))
WIDTH = tl.constexpr(32)
SQUARE, POLYNOMIAL = tl.constexpr(9), tl.constexpr(24)  # rows from the free flow's M and P, and C, to the held one's

# Numbers of the layer, a float64 tensor: triton would round Python floats to float32.
H, INVERSE, DURATION, B = (tl.constexpr(n) for n in range(4))


@triton.jit
def column(vector):
    """Three numbers one after the other."""
    return tl.load(vector), tl.load(vector + 1), tl.load(vector + 2)


@triton.jit
def column_of(neurons, j):
    return neurons + j // WIDTH * (ROWS * WIDTH) + j % WIDTH


@triton.jit
def three(of):
    """Three rows one after the other."""
    return tl.load(of), tl.load(of + WIDTH), tl.load(of + 2 * WIDTH)


@triton.jit
def times(m, x0, x1, x2):
    """m x, m the lanes' matrices."""
    y0 = tl.load(m) * x0 + tl.load(m + WIDTH) * x1 + tl.load(m + 2 * WIDTH) * x2
    y1 = tl.load(m + 3 * WIDTH) * x0 + tl.load(m + 4 * WIDTH) * x1 + tl.load(m + 5 * WIDTH) * x2
    y2 = tl.load(m + 6 * WIDTH) * x0 + tl.load(m + 7 * WIDTH) * x1 + tl.load(m + 8 * WIDTH) * x2
    return y0, y1, y2


@triton.jit
def times_back(m, p0, p1, p2):
    """m^T p."""
    y0 = tl.load(m) * p0 + tl.load(m + 3 * WIDTH) * p1 + tl.load(m + 6 * WIDTH) * p2
    y1 = tl.load(m + WIDTH) * p0 + tl.load(m + 4 * WIDTH) * p1 + tl.load(m + 7 * WIDTH) * p2
    y2 = tl.load(m + 2 * WIDTH) * p0 + tl.load(m + 5 * WIDTH) * p1 + tl.load(m + 8 * WIDTH) * p2
    return y0, y1, y2


@triton.jit
def exponential(m0, m1, m2, m3, m4, m5, m6, m7, m8, u, x0, x1, x2):
    """exp(m u) x for |u| up to a step, by its series. A loop: written out, its terms take Triton minutes to compile."""
    y0, y1, y2 = x0, x1, x2
    number = tl.zeros_like(u)
    for _ in range(1, TERMS):
        number += 1
        s = u * (1.0 / number)
        z0 = s * (m0 * x0 + m1 * x1 + m2 * x2)
        z1 = s * (m3 * x0 + m4 * x1 + m5 * x2)
        z2 = s * (m6 * x0 + m7 * x1 + m8 * x2)
        x0, x1, x2 = z0, z1, z2
        y0 += x0
        y1 += x1
        y2 += x2
    return y0, y1, y2


@triton.jit
def moved(m, u, x0, x1, x2):
    """exp(m u) x."""
    m0, m1, m2 = three(m)
    m3, m4, m5 = three(m + 3 * WIDTH)
    m6, m7, m8 = three(m + 6 * WIDTH)
    return exponential(m0, m1, m2, m3, m4, m5, m6, m7, m8, u, x0, x1, x2)


@triton.jit
def moved_back(m, u, p0, p1, p2):
    """exp(m^T u) p."""
    m0, m1, m2 = three(m)
    m3, m4, m5 = three(m + 3 * WIDTH)
    m6, m7, m8 = three(m + 6 * WIDTH)
    return exponential(m0, m3, m6, m1, m4, m7, m2, m5, m8, u, p0, p1, p2)


@triton.jit
def place(s, h, inverse, steps):
    """Step n of times s, n h <= s < (n + 1) h in floating point, and the fraction of it in [-1, 1]; past the end: a step
    >= steps."""
    n = tl.minimum(s * inverse, steps + 0 * s).to(tl.int32)
    n = tl.where(n * h > s, n - 1, n)
    n = tl.where((n + 1) * h <= s, n + 1, n)
    return n, 2.0 * (s - n * h) * inverse - 1.0


@triton.jit
def polynomial(c, f):
    """sum_k f^k C_k: what an arrival of weight one at the fraction f of a step is at its end."""
    y0, y1, y2 = three(c + 21 * WIDTH)
    for k in tl.static_range(6, -1, -1):
        c0, c1, c2 = three(c + 3 * k * WIDTH)
        y0, y1, y2 = y0 * f + c0, y1 * f + c1, y2 * f + c2
    return y0, y1, y2


@triton.jit
def ahead(of, held, moments, x0, x1, x2):
    """State at a step's end: P x + sum_k m_k C_k, the moments m of a lane one after the other. held: 1 in lanes that
    rest."""
    y0, y1, y2 = times(of + (P + SQUARE * held) * WIDTH, x0, x1, x2)
    c = of + (C + POLYNOMIAL * held) * WIDTH
    for k in tl.static_range(0, MOMENTS):
        m = tl.load(moments + k)
        c0, c1, c2 = three(c + 3 * k * WIDTH)
        y0 += m * c0
        y1 += m * c1
        y2 += m * c2
    return y0, y1, y2


@triton.jit
def jumped(of, x0, x1, x2):
    """x + J x + r."""
    y0, y1, y2 = times(of + J * WIDTH, x0, x1, x2)
    r0, r1, r2 = three(of + R * WIDTH)
    return x0 + y0 + r0, x1 + y1 + r1, x2 + y2 + r2


# ------------------------------------------------------------------------------------------------ crossings


@triton.jit
def dot(of, x0, x1, x2):
    a, b, c = three(of)
    return a * x0 + b * x1 + c * x2


@triton.jit
def _series(of, x0, x1, x2):
    """Coefficients of V(u) = c . exp(M u) x in u."""
    k = of + TAYLOR * WIDTH
    return (
        dot(k, x0, x1, x2),
        dot(k + 3 * WIDTH, x0, x1, x2),
        dot(k + 6 * WIDTH, x0, x1, x2),
        dot(k + 9 * WIDTH, x0, x1, x2),
        dot(k + 12 * WIDTH, x0, x1, x2),
        dot(k + 15 * WIDTH, x0, x1, x2),
        dot(k + 18 * WIDTH, x0, x1, x2),
        dot(k + 21 * WIDTH, x0, x1, x2),
        dot(k + 24 * WIDTH, x0, x1, x2),
        dot(k + 27 * WIDTH, x0, x1, x2),
        dot(k + 30 * WIDTH, x0, x1, x2),
        dot(k + 33 * WIDTH, x0, x1, x2),
    )


@triton.jit
def _value(u, a, b, c, d, e, f, g, h, i, k, n, o):
    return a + u * (b + u * (c + u * (d + u * (e + u * (f + u * (g + u * (h + u * (i + u * (k + u * (n + u * o))))))))))


@triton.jit
def _slope(u, b, c, d, e, f, g, h, i, k, n, o):
    y = 8 * i + u * (9 * k + u * (10 * n + u * (11 * o)))
    return b + u * (2 * c + u * (3 * d + u * (4 * e + u * (5 * f + u * (6 * g + u * (7 * h + u * y))))))


@triton.jit
def first_rise(lanes, of, length, below, x0, x1, x2):
    """First u in [0, length], up to a step, at which V rises through theta: where, u, and is V below it at the end?

    Interval by interval, as linear.flow.first_rise: one in which V' has one sign holds a crossing if V - theta changes its
    sign; one in which V stays below the threshold by the bounds on V' holds none; any other is halved. u is NaN in lanes
    whose numbers overflow.
    """
    a, b, c, d, e, f, g, h, i, k, n, o = _series(of, x0, x1, x2)
    a -= tl.load(of + THETA * WIDTH)
    bend = dot(of + CURVATURE * WIDTH, tl.abs(x0), tl.abs(x1), tl.abs(x2))
    fits = bend + tl.abs(a) + tl.abs(b) < float("inf")
    running = lanes & fits
    found = running & below & (a >= 0) & (b > 0)  # reached by rounding in the interval before; else it is only touched
    running = running & other_than(found)
    lo, width = tl.zeros_like(length), length
    hi = lo
    va, slope = a, b
    root_lo, root_hi = lo, lo
    crossing = found & other_than(found)
    while any_of(running):
        last = lo + width >= length
        width = tl.where(last, length - lo, width)
        hi = tl.where(last, length, lo + width)
        vb = _value(hi, a, b, c, d, e, f, g, h, i, k, n, o)
        va = tl.where(below, tl.minimum(va, 0.0), va)
        up, down = tl.maximum(slope + bend * width, 0.0), tl.maximum(bend * width - slope, 0.0)
        shortest = width <= 1e-8 * length  # V' of both signs in it moves V by less than rounding
        rises = running & below & (vb > 0) & ((down == 0) | shortest)
        root_lo, root_hi = tl.where(rises, lo, root_lo), tl.where(rises, hi, root_hi)
        crossing = crossing | rises
        running = running & other_than(rises)
        room = up * down * width
        under = below & (vb <= 0) & (-va * down - vb * up > room)
        over = other_than(below) & (va > 0) & (vb > 0) & (va * up + vb * down > room)
        passed = running & ((up == 0) | (down == 0) | under | over | shortest)
        below = below | (passed & (vb < 0))
        running = running & other_than(passed & last)
        slope = tl.where(passed, _slope(hi, b, c, d, e, f, g, h, i, k, n, o), slope)
        lo, va = tl.where(passed, hi, lo), tl.where(passed, vb, va)
        width = tl.where(passed, 2.0 * width, 0.5 * width)
    u = 0.5 * (root_lo + root_hi)
    running = crossing
    rounds = 0
    while any_of(running) & (rounds < 100):  # Newton's method between bounds
        y, slope = _value(u, a, b, c, d, e, f, g, h, i, k, n, o), _slope(u, b, c, d, e, f, g, h, i, k, n, o)
        root_lo, root_hi = tl.where(y < 0, u, root_lo), tl.where(y < 0, root_hi, u)
        new = u - y / tl.where(slope > 0, slope, 1.0)
        inside = (slope > 0) & (new > root_lo) & (new < root_hi)
        new = tl.where(inside, new, 0.5 * (root_lo + root_hi))
        stuck = other_than((new > root_lo) & (new < root_hi))
        done = stuck | (tl.abs(new - u) <= 1e-16 * root_hi)
        u = tl.where(running & other_than(stuck), new, u)
        running = running & other_than(done)
        rounds += 1
    return found | crossing, tl.where(lanes & other_than(fits), float("nan"), u), below
