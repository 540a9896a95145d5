r"""Linear neurons over sequences on the CPU, forward and backward (equations: :mod:`.structure`).

Backward is the adjoint recursion, with :math:`\varphi[t]` the surrogate's derivative at
:math:`z[t] = x_0[t] + c\,x_1[t] - \theta` and g the incoming gradients:

.. math::
    \bar x[t] &= g_x[t] + (A + s[t] J)^T \bar x[t+1] + \varphi[t]\, \bar s[t]\, (1, c)^T \\
    \bar s[t] &= g_s[t] + (J x[t] + r)^T \bar x[t+1] \\
    \bar I[t] &= B^T \bar x[t]

Where a spike acts in its own step (symplectic), what the second state saw is undone before the spike is.

Neurons and samples are flattened to M = N F columns; coefficients are ``[K, F]``. A column never sees another one: results
depend neither on the number of threads nor on how columns are grouped.

What these loops wait for is memory. Forward therefore keeps the states of one step of so many alone; backward computes
the traces between two of them anew, block of columns by block, into buffers that stay in the cache. And one pass over the
columns takes several steps, four forward and two backward, with states, coefficients and sums in registers between them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..compiled import njit
from ..threads import over_ranges
from .structure import NAMES, Structure

# Columns that run through time together; their states stay in the cache. All rows live in one buffer, so that the
# compiler sees that they do not overlap and vectorises the loops over columns, which it cannot prove for two dozen
# arrays; a row is a little longer than its columns, or all rows would compete for the same lines of the cache.
_W = 2048
_ROW = _W + 16
_PART = 32  # steps that backward takes at once where all states were kept


class _Rows:
    """Where each row of the buffer begins."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._at = {name: np.int64(_ROW * k) for k, name in enumerate(names)}
        self.size = np.int64(_ROW * len(names))

    def __call__(self, *names: str) -> tuple[np.int64, ...]:
        return tuple(self._at.get(name, np.int64(0)) for name in names)


def _present(structure: Structure) -> tuple[bool, ...]:
    return tuple(name in structure.names for name in NAMES)


def _advance_of(structure: Structure, rows: _Rows):
    """The function that advances the column m of a buffer by one step, (x0, x1, s), and what the spike leaves of x0."""
    a00, a01, a10, a11, j00, j01, j10, j11, r0, r1, b0, b1, cc, _, _, _ = _present(structure)
    A00, A01, A10, A11, J00, J01, J10, J11, R0, R1, B0, B1, C, THETA = rows(*NAMES[:14])
    two, subtracted, symplectic = structure.two, structure.subtracted, structure.symplectic

    @njit(inline="always")
    def after(r, m, x0, s, one):
        """What the spike leaves of the first state, where it acts in its own step."""
        p = x0
        if j00:
            p = p * (one + r[J00 + m] * s)
        if r0:
            p += r[R0 + m] * s
        return p

    if symplectic:

        @njit(inline="always")
        def advance(r, m, x0, x1, s, i, one, zero):
            y0, y1 = zero, zero
            if a00:
                y0 = r[A00 + m] * after(r, m, x0, s, one)
            if b0:
                y0 += r[B0 + m] * ((i - x1) if subtracted else i)
            s = one if y0 - r[THETA + m] >= zero else zero
            if two:
                kick = zero
                if a10:
                    kick = r[A10 + m] * after(r, m, y0, s, one)
                if r1:
                    kick += r[R1 + m] * s
                y1 = kick
                if a11:
                    y1 = r[A11 + m] * x1 + (one - r[A11 + m]) * kick
            return y0, y1, s

        return advance, after

    @njit(inline="always")
    def advance(r, m, x0, x1, s, i, one, zero):
        y0, y1 = zero, zero
        if j00:
            y0 = ((r[A00 + m] if a00 else zero) + r[J00 + m] * s) * x0
        elif a00:
            y0 = r[A00 + m] * x0
        if j01:
            y0 += ((r[A01 + m] if a01 else zero) + r[J01 + m] * s) * x1
        elif a01:
            y0 += r[A01 + m] * x1
        if b0:
            y0 += r[B0 + m] * ((i - x1) if subtracted else i)
        if r0:
            y0 += r[R0 + m] * s
        if two:
            if j11:
                y1 = ((r[A11 + m] if a11 else zero) + r[J11 + m] * s) * x1
            elif a11:
                y1 = r[A11 + m] * x1
            if j10:
                y1 += ((r[A10 + m] if a10 else zero) + r[J10 + m] * s) * x0
            elif a10:
                y1 += r[A10 + m] * x0
            if b1:
                y1 += r[B1 + m] * i
            if r1:
                y1 += r[R1 + m] * s
        z = y0
        if cc:
            z += r[C + m] * y1
        return y0, y1, one if z - r[THETA + m] >= zero else zero

    return advance, after


def _fires_of(structure: Structure, rows: _Rows):
    """The function that says how far the column m of a buffer is above its threshold."""
    (cc,) = ("c" in structure.names,)
    C, THETA = rows("c", "theta")

    @njit(inline="always")
    def above(r, m, x0, x1):
        z = x0
        if cc:
            z += r[C + m] * x1
        return z - r[THETA + m]

    return above


@cache
def _forward_kernel(code: int):
    structure = Structure.of(code)
    rows = _Rows(("x0", "x1", "sa", "sb", "sc", "s", *structure.names))
    X0, X1, SA, SB, SC, S = rows("x0", "x1", "sa", "sb", "sc", "s")
    ROWS, K, FIRST = rows.size, len(structure.names), np.int64(6)
    two = structure.two
    (advance, _), above = _advance_of(structure, rows), _fires_of(structure, rows)

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, current, x0_0, x1_0, s_0, coefficients, spikes, x0_seq, x1_seq, x0_T, x1_T, s_T, support, every,
        marking, width,
    ):  # fmt: skip
        # every: the traces hold every so many-th step; marking: whether the support of the boxcar is wanted
        steps = current.shape[0]
        features = coefficients.shape[1]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for c in range(begin, end, _W):
            n = min(_W, end - c)
            r = np.zeros(ROWS, current.dtype)
            for m in range(n):
                r[X0 + m], r[S + m] = x0_0[c + m], s_0[c + m]
            if two:
                for m in range(n):
                    r[X1 + m] = x1_0[c + m]
            for k in range(K):
                row = r[(FIRST + k) * _ROW : (FIRST + k) * _ROW + n]
                of = coefficients[k]
                for m in range(n):
                    row[m] = of[(c + m) % features]
            # more than four, or spikes written where they belong, and the compiler gives up proving that nothing overlaps
            fours = steps // 4 * 4 if every % 4 == 0 and not marking else 0
            for t in range(0, fours, 4):
                # rows as slices: with an offset in the index the compiler guards it against being negative
                i_a, i_b = current[t, c : c + n], current[t + 1, c : c + n]
                i_c, i_d = current[t + 2, c : c + n], current[t + 3, c : c + n]
                for m in range(n):
                    x0, x1, s = r[X0 + m], r[X1 + m] if two else zero, r[S + m]
                    x0, x1, a = advance(r, m, x0, x1, s, i_a[m], one, zero)
                    x0, x1, b = advance(r, m, x0, x1, a, i_b[m], one, zero)
                    x0, x1, s = advance(r, m, x0, x1, b, i_c[m], one, zero)
                    r[SA + m], r[SB + m], r[SC + m] = a, b, s
                    r[X0 + m], r[X1 + m], r[S + m] = advance(r, m, x0, x1, s, i_d[m], one, zero)
                for k in range(4):
                    target, row = spikes[t + k, c : c + n], r[SA + k * _ROW : SA + k * _ROW + n]
                    for m in range(n):
                        target[m] = row[m]
                if (t + 4) % every == 0 and t // every < x0_seq.shape[0]:
                    target = x0_seq[t // every, c : c + n]
                    for m in range(n):
                        target[m] = r[X0 + m]
                    if two:
                        target = x1_seq[t // every, c : c + n]
                        for m in range(n):
                            target[m] = r[X1 + m]
            for t in range(fours, steps):
                i_t = current[t, c : c + n]
                for m in range(n):
                    r[X0 + m], r[X1 + m], r[S + m] = advance(
                        r, m, r[X0 + m], r[X1 + m] if two else zero, r[S + m], i_t[m], one, zero
                    )
                target = spikes[t, c : c + n]
                for m in range(n):
                    target[m] = r[S + m]
                if marking:
                    inside = support[t, c : c + n]
                    for m in range(n):
                        inside[m] = abs(above(r, m, r[X0 + m], r[X1 + m])) <= width
                if (t + 1) % every == 0 and t // every < x0_seq.shape[0]:
                    target = x0_seq[t // every, c : c + n]
                    for m in range(n):
                        target[m] = r[X0 + m]
                    if two:
                        target = x1_seq[t // every, c : c + n]
                        for m in range(n):
                            target[m] = r[X1 + m]
            for m in range(n):
                x0_T[c + m], s_T[c + m] = r[X0 + m], r[S + m]
            if two:
                for m in range(n):
                    x1_T[c + m] = r[X1 + m]

    return kernel


def _adjoint_of(structure: Structure, rows: _Rows, boxcar: bool):
    """The function that takes the adjoints (d0, d1, ds) of the column m of a buffer back over one step, from the states
    behind it to those before it, and gives the gradient of the current; those of the coefficients are added up."""
    a00, a01, a10, a11, j00, j01, j10, j11, r0, r1, b0, b1, cc, _, q0, q1 = _present(structure)
    A00, A01, A10, A11, J00, J01, J10, J11, R0, R1, B0, B1, C, _, Q0, Q1 = rows(*NAMES)
    (G_A00, G_A01, G_A10, G_A11, G_J00, G_J01, G_J10, G_J11, G_R0, G_R1, G_B0, G_B1, G_C, G_THETA) = rows(
        *(f"g_{name}" for name in NAMES[:14])
    )
    two, subtracted, symplectic = structure.two, structure.subtracted, structure.symplectic
    (_, after), above = _advance_of(structure, rows), _fires_of(structure, rows)

    @njit(inline="always")
    def adjoint(
        r, m, d0, d1, ds, x0_t, x1_t, x0, x1, s, i, g, phi, width, height, through_j, through_r0, through_r1, one, zero
    ):
        z = above(r, m, x0_t, x1_t)
        slope = (height if abs(z) <= width else zero) if boxcar else phi
        ds += g
        if symplectic and two:
            y0, s_new = x0_t, one if z >= zero else zero
            p, dp, kick = after(r, m, y0, s_new, one), zero, zero
            kicked = ((one - r[A11 + m]) if a11 else one) * d1
            if a10:
                kick = r[A10 + m] * p
                r[G_A10 + m] += kicked * p
                dp = r[A10 + m] * kicked
            if r1:
                kick += r[R1 + m] * s_new
                r[G_R1 + m] += kicked * s_new
                ds += through_r1 * r[R1 + m] * kicked
            if q1:
                ds += r[Q1 + m] * kicked
            if a11:
                r[G_A11 + m] += d1 * (x1 - kick)
            if r0:
                r[G_R0 + m] += dp * s_new
                ds += through_r0 * r[R0 + m] * dp
            if j00:
                r[G_J00 + m] += dp * y0 * s_new
                ds += through_j * r[J00 + m] * y0 * dp
                dp = dp * (one + r[J00 + m] * s_new)
            d0 += dp
        fired = slope * ds
        d0 += fired
        r[G_THETA + m] -= fired
        if cc:
            d1 += r[C + m] * fired
            r[G_C + m] += fired * x1_t
        e0, e1, ds, d_i = zero, zero, zero, zero
        if b0:
            d_i = r[B0 + m] * d0
            if subtracted:
                e1 = -d_i
                r[G_B0 + m] += d0 * (i - x1)
            else:
                r[G_B0 + m] += d0 * i
        if a11:
            e1 += r[A11 + m] * d1
            if not symplectic:
                r[G_A11 + m] += d1 * x1
        if symplectic:
            if a00:
                r[G_A00 + m] += d0 * after(r, m, x0, s, one)
                d0 = r[A00 + m] * d0
            else:
                d0 = zero
            e0 = d0
            if j00:
                e0 = d0 * (one + r[J00 + m] * s)
        elif a00:
            e0 = r[A00 + m] * d0
            r[G_A00 + m] += d0 * x0
        if j00:
            if not symplectic:
                e0 += r[J00 + m] * s * d0
            r[G_J00 + m] += d0 * x0 * s
            ds += through_j * r[J00 + m] * x0 * d0
        if r0:
            r[G_R0 + m] += d0 * s
            ds += through_r0 * r[R0 + m] * d0
        if q0:
            ds += r[Q0 + m] * d0
        if not symplectic:
            if a01:
                e1 += r[A01 + m] * d0
                r[G_A01 + m] += d0 * x1
            if j01:
                e1 += r[J01 + m] * s * d0
                r[G_J01 + m] += d0 * x1 * s
                ds += through_j * r[J01 + m] * x1 * d0
            if a10:
                e0 += r[A10 + m] * d1
                r[G_A10 + m] += d1 * x0
            if b1:
                d_i += r[B1 + m] * d1
                r[G_B1 + m] += d1 * i
            if j10:
                e0 += r[J10 + m] * s * d1
                r[G_J10 + m] += d1 * x0 * s
                ds += through_j * r[J10 + m] * x0 * d1
            if j11:
                e1 += r[J11 + m] * s * d1
                r[G_J11 + m] += d1 * x1 * s
                ds += through_j * r[J11 + m] * x1 * d1
            if r1:
                r[G_R1 + m] += d1 * s
                ds += through_r1 * r[R1 + m] * d1
            if q1:
                ds += r[Q1 + m] * d1
        return e0, e1, ds, d_i

    return adjoint


@cache
def _backward_kernel(code: int, boxcar: bool):
    structure = Structure.of(code)
    names = structure.names
    rows = _Rows(("d0", "d1", "ds", "s0", "di", "dj", "s", *names, *(f"g_{name}" for name in names)))
    D0, D1, DS, S0, DI, DJ, S = rows("d0", "d1", "ds", "s0", "di", "dj", "s")
    ROWS, K, FIRST, GRADIENTS = rows.size, len(names), np.int64(7), np.int64(7 + len(names))
    two = structure.two
    (advance, _), above = _advance_of(structure, rows), _fires_of(structure, rows)
    adjoint = _adjoint_of(structure, rows, boxcar)
    NEXT, OTHER = np.int64(2 * _ROW), np.int64(_ROW)  # from a state to that of the next step; from x0 to x1

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, width, height, through_j, through_r0, through_r1, traced, every, g_s, g_x0, g_x1, g_x0T, g_x1T, g_sT,
        phi, current, x0_seq, x1_seq, x0_0, x1_0, s_0, coefficients, g_current, g_x0_0, g_x1_0, g_s_0, g_coefficients,
    ):  # fmt: skip
        steps = current.shape[0]
        anew = every > 1
        part_length = every if anew else _PART
        # the states before and behind every step of a part, in one buffer too
        states = np.empty((min(part_length, steps) + 1) * NEXT, current.dtype)
        features = coefficients.shape[1]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for c in range(begin, end, _W):
            n = min(_W, end - c)
            r = np.zeros(ROWS, current.dtype)
            for k in range(K):
                row = r[(FIRST + k) * _ROW : (FIRST + k) * _ROW + n]
                of = coefficients[k]
                for m in range(n):
                    row[m] = of[(c + m) % features]
            for m in range(n):  # the final state is an output of its own
                r[D0 + m], r[DS + m], r[S0 + m] = g_x0T[c + m], g_sT[c + m], s_0[c + m]
            if two:
                for m in range(n):
                    r[D1 + m] = g_x1T[c + m]
            for part in range((steps - 1) // part_length, -1, -1):
                start = part * part_length
                stop = min(start + part_length, steps)
                for k in range(1 if anew else stop - start + 1):  # the states that were kept
                    kept = start + k - 1
                    x = states[k * NEXT :]
                    held = x0_0[c : c + n] if kept < 0 else x0_seq[part - 1 if anew else kept, c : c + n]
                    for m in range(n):
                        x[m] = held[m]
                    if two:
                        held = x1_0[c : c + n] if kept < 0 else x1_seq[part - 1 if anew else kept, c : c + n]
                        for m in range(n):
                            x[OTHER + m] = held[m]
                if anew:
                    x = states[:NEXT]
                    for m in range(n):
                        if part == 0:
                            r[S + m] = r[S0 + m]
                        else:
                            r[S + m] = one if above(r, m, x[m], x[OTHER + m] if two else zero) >= zero else zero
                    pairs = start + (stop - start) // 2 * 2
                    for t in range(start, pairs, 2):
                        x = states[(t - start) * NEXT :]
                        i_t, i_next = current[t, c : c + n], current[t + 1, c : c + n]
                        for m in range(n):
                            x0, x1, s = advance(r, m, x[m], x[OTHER + m] if two else zero, r[S + m], i_t[m], one, zero)
                            y0, y1, s = advance(r, m, x0, x1, s, i_next[m], one, zero)
                            x[NEXT + m], x[2 * NEXT + m], r[S + m] = x0, y0, s
                            if two:
                                x[NEXT + OTHER + m], x[2 * NEXT + OTHER + m] = x1, y1
                    for t in range(pairs, stop):
                        x = states[(t - start) * NEXT :]
                        i_t = current[t, c : c + n]
                        for m in range(n):
                            x0, x1, s = advance(r, m, x[m], x[OTHER + m] if two else zero, r[S + m], i_t[m], one, zero)
                            x[NEXT + m], r[S + m] = x0, s
                            if two:
                                x[NEXT + OTHER + m] = x1
                # two steps at a time, but where traces have gradients, and at step 0: the initial spikes before it are told
                # by no state
                pairs = 0 if traced else max(0, stop - max(start, 1)) // 2
                for t in range(stop - 1, stop - 1 - 2 * pairs, -2):
                    x = states[(t - 1 - start) * NEXT :]
                    i_t, i_before, g_t, g_before = (
                        current[t, c : c + n], current[t - 1, c : c + n], g_s[t, c : c + n], g_s[t - 1, c : c + n],
                    )  # fmt: skip
                    phi_t, phi_before = (g_t, g_before) if boxcar else (phi[t, c : c + n], phi[t - 1, c : c + n])
                    for m in range(n):
                        x0, x1 = x[m], x[OTHER + m] if two else zero
                        y0, y1 = x[NEXT + m], x[NEXT + OTHER + m] if two else zero
                        z0, z1 = x[2 * NEXT + m], x[2 * NEXT + OTHER + m] if two else zero
                        s = one if above(r, m, y0, y1) >= zero else zero
                        d0, d1, ds, r[DJ + m] = adjoint(
                            r, m, r[D0 + m], r[D1 + m] if two else zero, r[DS + m], z0, z1, y0, y1, s, i_t[m], g_t[m],
                            phi_t[m], width, height, through_j, through_r0, through_r1, one, zero,
                        )  # fmt: skip
                        s = one if above(r, m, x0, x1) >= zero else zero
                        d0, d1, ds, r[DI + m] = adjoint(
                            r, m, d0, d1, ds, y0, y1, x0, x1, s, i_before[m], g_before[m],
                            phi_before[m], width, height, through_j, through_r0, through_r1, one, zero,
                        )  # fmt: skip
                        r[D0 + m], r[DS + m] = d0, ds
                        if two:
                            r[D1 + m] = d1
                    row = g_current[t, c : c + n]
                    for m in range(n):
                        row[m] = r[DJ + m]
                    row = g_current[t - 1, c : c + n]
                    for m in range(n):
                        row[m] = r[DI + m]
                for t in range(stop - 1 - 2 * pairs, start - 1, -1):
                    if traced:
                        row = g_x0[t, c : c + n]
                        for m in range(n):
                            r[D0 + m] += row[m]
                        if two:
                            row = g_x1[t, c : c + n]
                            for m in range(n):
                                r[D1 + m] += row[m]
                    first = t == 0
                    x = states[(t - start) * NEXT :]
                    i_t = current[t, c : c + n]
                    g_t = g_s[t, c : c + n]
                    phi_t = g_t if boxcar else phi[t, c : c + n]
                    for m in range(n):
                        x0, x1 = x[m], x[OTHER + m] if two else zero
                        y0, y1 = x[NEXT + m], x[NEXT + OTHER + m] if two else zero
                        s = r[S0 + m] if first else (one if above(r, m, x0, x1) >= zero else zero)
                        r[D0 + m], d1, r[DS + m], r[DI + m] = adjoint(
                            r, m, r[D0 + m], r[D1 + m] if two else zero, r[DS + m], y0, y1, x0, x1, s, i_t[m], g_t[m],
                            phi_t[m], width, height, through_j, through_r0, through_r1, one, zero,
                        )  # fmt: skip
                        if two:
                            r[D1 + m] = d1
                    row = g_current[t, c : c + n]
                    for m in range(n):
                        row[m] = r[DI + m]
            for m in range(n):
                g_x0_0[c + m], g_s_0[c + m] = r[D0 + m], r[DS + m]
            if two:
                for m in range(n):
                    g_x1_0[c + m] = r[D1 + m]
            for k in range(K):  # rows of q stay zero: they are values alone
                row = r[(GRADIENTS + k) * _ROW : (GRADIENTS + k) * _ROW + n]
                of = g_coefficients[k, c : c + n]
                for m in range(n):
                    of[m] = row[m]

    return kernel


def _scalar(like: Tensor, value: float) -> np.floating:
    """A number in the kernel's dtype, so that nothing is computed in a wider one."""
    return np.float32(value) if like.dtype == torch.float32 else np.float64(value)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def forward(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, code: int, every: int = 1,
    support: Tensor | None = None, width: float = 0.0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run the neurons.

    :param current: ``[T, M]``; :param state: (x0, x1, s), each ``[M]``; :param coefficients: ``[K, F]``.
    :param code: of the :class:`~.structure.Structure`.
    :param every: 1: the whole traces are returned; more: every so many-th step of them, but for the last, which is what
        :func:`backward` needs.
    :param support: ``[T, M]``, bool, to be filled: where the neuron is within ``width`` of the threshold.
    :returns: spikes, traces of x0 and x1, each ``[T, M]`` or ``[(T - 1) // every, M]`` (that of x1 empty where there is
        none), and the last x0, x1 and s, each ``[M]``.
    """
    steps, columns = current.shape
    spikes = torch.empty(current.shape, dtype=current.dtype)
    x0_seq = spikes.new_empty(steps if every == 1 else (steps - 1) // every, columns)
    two = Structure.of(code).two
    x1_seq = torch.empty_like(x0_seq) if two else current.new_empty(0, 0)
    final = [current.new_empty(columns), current.new_empty(columns if two else 0), current.new_empty(columns)]
    marked = np.empty((0, 0), np.bool_) if support is None else support.numpy()
    arguments = [*_arrays(current, *state, coefficients), *_arrays(spikes, x0_seq, x1_seq, *final), marked]
    arguments += [every, support is not None, _scalar(current, width)]
    kernel = _forward_kernel(Structure.of(code).of_forward.code)
    over_ranges(lambda begin, end: kernel(begin, end, *arguments), columns, grain=_W)
    return spikes, x0_seq, x1_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], current: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], coefficients: Tensor, code: int, every: int = 1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of :func:`forward`.

    :param gradients: of what :func:`forward` returned, ``None`` where there is none.
    :param phi: derivative of the surrogate at every step, ``[T, M]``; ``None``: the boxcar of that half-width and
        height. :param traces: of x0 and x1, as :func:`forward` returned them with this ``every``.
    :returns: gradient of the current ``[T, M]``, of the initial (x0, x1, s) ``[M]`` and of the coefficients per column,
        ``[K, M]``.
    """
    columns = current.shape[1]
    g_s, g_x0, g_x1, *g_final = gradients
    traced = g_x0 is not None or g_x1 is not None
    zeros = current.new_zeros(()).expand_as(current)
    nothing = current.new_empty(0, 0)
    g_x0, g_x1 = (zeros if g is None or not g.numel() else g for g in (g_x0, g_x1)) if traced else (nothing, nothing)
    g_final = [current.new_zeros(columns) if g is None or not g.numel() else g for g in g_final]
    out = [
        torch.empty(current.shape, dtype=current.dtype),
        *(torch.empty_like(x) for x in state),
        current.new_empty(len(coefficients), columns),
    ]
    structure = Structure.of(code)
    through = [_scalar(current, name not in structure.detached) for name in ("J", "r0", "r1")]  # one kernel for all
    options = [_scalar(current, boxcar[0]), _scalar(current, boxcar[1]), *through, traced, every]
    incoming = _arrays(zeros if g_s is None else g_s, g_x0, g_x1, *g_final, nothing if phi is None else phi)
    inputs, outputs = _arrays(current, *traces, *state, coefficients), _arrays(*out)
    kernel = _backward_kernel(structure._replace(detached=()).code, phi is None)
    over_ranges(lambda begin, end: kernel(begin, end, *options, *incoming, *inputs, *outputs), columns, grain=_W)
    return tuple(out)
