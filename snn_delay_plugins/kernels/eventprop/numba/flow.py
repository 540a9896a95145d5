"""Free evolution of (V, I): the propagator P(h), its table, its derivatives."""

from __future__ import annotations

import numpy as np

from ...compiled import njit

LANES = 8  # neurons that share one pass over the events, each with its column of buckets
_CELLS = 32  # cells per dt of the table behind propagate
_LAST_CELL = 2.0 * _CELLS + 1
_TERMS = 7  # of its series within a cell: the next one is below 1e-16
OK, TOO_MANY_SPIKES, ENDLESS = 0, 1, 2
OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
INLINED = {**OPTIONS, "forceinline": True}  # for what a step calls: a call hands every array over as seven numbers


@njit(**OPTIONS)
def expm1(x):
    """exp(x) - 1 for |x| <= 2: Taylor series of x/8, doubled three times; free of branches, so loops vectorise."""
    r = 0.125 * x
    q = r * (1 / 39916800) + 1 / 3628800
    q = q * r + 1 / 362880
    q = q * r + 1 / 40320
    q = q * r + 1 / 5040
    q = q * r + 1 / 720
    q = q * r + 1 / 120
    q = q * r + 1 / 24
    q = q * r + 1 / 6
    q = q * r + 0.5
    q = (q * r + 1.0) * r
    q = q * (q + 2)
    q = q * (q + 2)
    return q * (q + 2)


@njit(**OPTIONS)
def propagator(h, tm, ts):
    """(em, K, es) of P(h) for |h| <= 2 min(tau_m, tau_s)."""
    delta = 1 / tm - 1 / ts
    em = 1 + expm1(-h / tm)
    q = expm1(h * delta)
    es = em + em * q
    if abs(delta) * tm < 1e-14:
        return em, em * h / tm, es
    return em, em * q / (tm * delta), es


@njit(**OPTIONS)
def propagator_any(h, tm, ts):
    """(em, K, es) of P(h) for any h >= 0."""
    delta = 1 / tm - 1 / ts
    em, es = np.exp(-h / tm), np.exp(-h / ts)
    if abs(delta) * tm < 1e-14:
        return em, em * h / tm, es
    if delta < 0:
        return em, em * np.expm1(h * delta) / (tm * delta), es
    return em, es * np.expm1(-h * delta) / (-tm * delta), es


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def propagate(h, flow):
    """(em, K, es) of P(h) for 0 <= h <= 2 dt from flow_table: P(h) = P(whole cells) P(rest). About as fast as one exp.
    Where V overflowed, h may be no number: no cell beyond the last one is read."""
    x = h * flow[0, 3]
    n = np.int64(x if x < _LAST_CELL else _LAST_CELL)
    r = h - n * flow[1, 3]
    em, k, es = flow[6, 0], flow[6, 1], flow[6, 2]
    for m in range(5, -1, -1):
        em = flow[m, 0] + r * em
        k = flow[m, 1] + r * k
        es = flow[m, 2] + r * es
    k *= r
    n += _TERMS
    return flow[n, 0] * em, flow[n, 0] * k + flow[n, 1] * es, flow[n, 2] * es


@njit(**OPTIONS)
def _psi(z):
    """(exp(z) (z - 1) + 1) / z^2, the integral of u exp(z u) over [0, 1], for |z| <= 2."""
    total, term = 0.0, 1.0
    for k in range(24):
        total += term / (k + 2)
        term *= z / (k + 1)
    return total


@njit(**OPTIONS)
def propagator_by_tau(h, tm, ts):
    """(d em/d tau_m, dK/d tau_m, dK/d tau_s, d es/d tau_s) for |h| <= 2 min(tau_m, tau_s)."""
    em, k, es = propagator(h, tm, ts)
    m = k * tm  # K = m / tau_m, m = integral of exp(-(h-u)/tm - u/ts)
    dm_dbeta = -em * h * h * _psi(h * (1 / tm - 1 / ts))  # by 1 / tau_s
    dm_dalpha = -h * m - dm_dbeta  # by 1 / tau_m
    return em * h / (tm * tm), -(m + dm_dalpha / tm) / (tm * tm), -dm_dbeta / (tm * ts * ts), es * h / (ts * ts)
