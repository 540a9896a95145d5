"""Free evolution within a step, and the first rise of the potential through the threshold."""

from __future__ import annotations

import numpy as np

from ...compiled import njit
from .sizes import LANES, MOMENTS, STATES, TERMS

__all__ = [
    "ENDLESS", "INLINED", "LANES", "MOMENTS", "MOST_IN_STEP", "OK", "OPTIONS", "OVERFLOW", "STATES", "TERMS",
    "TOO_MANY_SPIKES", "expanded", "first_rise", "highest", "moved", "moved_back", "state_at",
]  # fmt: skip

OK, TOO_MANY_SPIKES, OVERFLOW, ENDLESS = 0, 1, 2, 3
MOST_IN_STEP = 1000  # spikes of a neuron, on average, in a step of a recurrent layer: each of them lists all before it
OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
INLINED = {**OPTIONS, "forceinline": True}  # for what a step calls: a call hands every array over as seven numbers


@njit(**OPTIONS)
def moved(m, u, x0, x1, x2):
    """exp(m u) x for |u| up to a step."""
    y0, y1, y2 = x0, x1, x2
    for k in range(1, TERMS):
        s = u / k
        z0 = s * (m[0, 0] * x0 + m[0, 1] * x1 + m[0, 2] * x2)
        z1 = s * (m[1, 0] * x0 + m[1, 1] * x1 + m[1, 2] * x2)
        z2 = s * (m[2, 0] * x0 + m[2, 1] * x1 + m[2, 2] * x2)
        x0, x1, x2 = z0, z1, z2
        y0 += x0
        y1 += x1
        y2 += x2
    return y0, y1, y2


@njit(**OPTIONS)
def moved_back(m, u, p0, p1, p2):
    """exp(m^T u) p for |u| up to a step."""
    y0, y1, y2 = p0, p1, p2
    for k in range(1, TERMS):
        s = u / k
        z0 = s * (m[0, 0] * p0 + m[1, 0] * p1 + m[2, 0] * p2)
        z1 = s * (m[0, 1] * p0 + m[1, 1] * p1 + m[2, 1] * p2)
        z2 = s * (m[0, 2] * p0 + m[1, 2] * p1 + m[2, 2] * p2)
        p0, p1, p2 = z0, z1, z2
        y0 += p0
        y1 += p1
        y2 += p2
    return y0, y1, y2


@njit(**INLINED)
def expanded(series, c, x0, x1, x2, states, v):
    """Coefficients in u of exp(M u) x, states [TERMS, 3], and of V(u) = c . exp(M u) x. series[k]: M^k / k!"""
    for k in range(TERMS):
        y0 = series[k, 0, 0] * x0 + series[k, 0, 1] * x1 + series[k, 0, 2] * x2
        y1 = series[k, 1, 0] * x0 + series[k, 1, 1] * x1 + series[k, 1, 2] * x2
        y2 = series[k, 2, 0] * x0 + series[k, 2, 1] * x1 + series[k, 2, 2] * x2
        states[k, 0], states[k, 1], states[k, 2] = y0, y1, y2
        v[k] = c[0] * y0 + c[1] * y1 + c[2] * y2


@njit(**INLINED)
def state_at(states, u):
    """The sum of the series of expanded."""
    y0, y1, y2 = states[TERMS - 1, 0], states[TERMS - 1, 1], states[TERMS - 1, 2]
    for k in range(TERMS - 2, -1, -1):
        y0 = y0 * u + states[k, 0]
        y1 = y1 * u + states[k, 1]
        y2 = y2 * u + states[k, 2]
    return y0, y1, y2


@njit(**OPTIONS)
def _value(v, u):
    y = v[TERMS - 1]
    for k in range(TERMS - 2, -1, -1):
        y = y * u + v[k]
    return y


@njit(**OPTIONS)
def _slope(v, u):
    y = (TERMS - 1) * v[TERMS - 1]
    for k in range(TERMS - 2, 0, -1):
        y = y * u + k * v[k]
    return y


@njit(**INLINED)
def first_rise(v, curvature, theta, length, below, x0, x1, x2):
    """First u in [0, length], up to a step, at which V rises through theta, -1 if there is none; is V below at the end?

    Free evolution from x; v: coefficients of V(u) in u, overwritten; |V''| <= curvature . |x|. Interval by interval: one in
    which V' has one sign holds a crossing if V - theta changes its sign; one in which V stays below the threshold by the
    bounds on V' holds none; any other is halved. NaN where the bounds are no numbers.
    """
    v[0] -= theta
    bend = curvature[0] * abs(x0) + curvature[1] * abs(x1) + curvature[2] * abs(x2)
    if not (bend < np.inf and abs(v[0]) + abs(v[1]) < np.inf):
        return np.nan, below
    if below and v[0] >= 0 and v[1] > 0:  # reached by rounding in the interval before; else it is only touched
        return 0.0, below
    a, width = 0.0, length
    va, da = v[0], v[1]
    while True:
        last = a + width >= length
        if last:
            width = length - a
        b = length if last else a + width
        vb = _value(v, b)
        if below and va > 0:
            va = 0.0
        up, down = max(da + bend * width, 0.0), max(bend * width - da, 0.0)
        shortest = width <= 1e-8 * length  # V' of both signs in it moves V by less than rounding
        if below and vb > 0 and (down == 0 or shortest):
            return _root(v, a, b), below
        clear = below and vb <= 0 and -va * down - vb * up > up * down * width
        clear = clear or (not below and min(va, vb) > 0 and va * up + vb * down > up * down * width)
        if not (up == 0 or down == 0 or clear or shortest):
            width *= 0.5
            continue
        below = below or vb < 0
        if last:
            return -1.0, below
        a, va, da = b, vb, _slope(v, b)
        width *= 2


@njit(**OPTIONS)
def _root(v, lo, hi):
    """Where the series v, which rises from lo to hi, is zero: Newton's method between bounds."""
    u = 0.5 * (lo + hi)
    for _ in range(100):
        y, slope = _value(v, u), _slope(v, u)
        if y < 0:
            lo = u
        else:
            hi = u
        new = u - y / slope if slope > 0 else lo
        if abs(new - u) <= 2e-16 * hi:  # seen before the bounds: a last step of nothing leads back to one of them
            return min(max(new, lo), hi)
        if not lo < new < hi:
            new = 0.5 * (lo + hi)
            if not lo < new < hi:
                break
        u = new
    return u


@njit(**OPTIONS)
def highest(v, bend, length, best):
    """The largest V(u) in [0, length] beyond ``best``, where it is, and V' there if that is the end, else 0; (best, -1, 0)
    where there is none.

    v: coefficients of V(u) in u; |V''| <= bend. Interval by interval: where V' has one sign, V is largest at an end; where
    the bound on V'' keeps V below the best, there is nothing; any other is halved, once the top between a rise and a fall
    is known.
    """
    found, rate = -1.0, 0.0
    if not (bend < np.inf and abs(v[0]) + abs(v[1]) < np.inf):
        return best, found, rate
    if v[0] > best:
        best, found = v[0], 0.0
    falling = np.zeros(TERMS)  # -V'
    for k in range(TERMS - 1):
        falling[k] = -(k + 1) * v[k + 1]
    a, width, va, da = 0.0, length, v[0], v[1]
    while True:
        last = a + width >= length
        if last:
            width = length - a
        b = length if last else a + width
        vb, db = _value(v, b), _slope(v, b)
        if da > 0 > db:
            u = _root(falling, a, b)
            top = _value(v, u)
            if top > best:
                best, found, rate = top, u, 0.0
        if vb > best:
            best, found, rate = vb, b, db if last else 0.0
        clear = abs(da) >= bend * width or width <= 1e-8 * length
        clear = clear or max(va, vb) + 0.125 * bend * width * width <= best + 1e-15 * abs(best)
        if not clear:
            width *= 0.5
            continue
        if last:
            return best, found, rate
        a, va, da = b, vb, db
        width *= 2
