r"""AdLIF sequences on the CPU: the recursions of :mod:`snn_delay_plugins.functional.adlif`, forward and backward.

Forward computes in the same order as the plain form, so that the two agree to the last bit. Backward is the adjoint
recursion, with :math:`\varphi[t]` the surrogate's derivative at :math:`u[t] - \theta` and g the incoming gradients
(``variant="adlif"``, ``reset="subtract"``):

.. math::
    \bar s[t] &= g_s[t] + b\, \bar w[t+1] - \theta\, \bar u[t+1] \\
    \bar u[t] &= g_u[t] + \alpha\, \bar u[t+1] + (1-\beta)\, a\, \bar w[t+1] + \varphi[t]\, \bar s[t] \\
    \bar w[t] &= g_w[t] + \beta\, \bar w[t+1] - (1-\alpha)\, \bar u[t+1]

Neurons and samples are flattened to M = N F columns; parameters are ``[F]``. A column never sees another one: results
depend neither on the number of threads nor on how columns are grouped.

What these loops wait for is memory. Forward therefore keeps the states of one step of :data:`~.adlif.EVERY` alone; backward
computes the traces of u and w between two of them anew, block of columns by block, into buffers that stay in the cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from .compiled import njit
from .threads import over_ranges

# Columns that run through time together; their states stay in the cache. All rows live in one buffer, so that the
# compiler sees that they do not overlap and vectorises the loops over columns, which it cannot prove for two dozen
# arrays; a row is a little longer than its columns, or all rows would compete for the same lines of the cache.
_W = 2048
_ROW = _W + 16
# What a spike does to the membrane potential, as numbers: (subtract theta, multiply by zero).
_RESETS = {"subtract": (1, 0), "zero": (0, 1), "none": (0, 0)}


@register_jitable
def _advance(u, w, s, drive, alpha, beta, a, b, theta, one, zero, subtract, to_zero, adaptive, symplectic):
    """One step: (u that the surrogate looks at, u, w, s). ``adaptive`` and ``symplectic`` are constants of the caller."""
    if adaptive:
        drive = drive - w
    if symplectic:
        u_hat = alpha * u + (one - alpha) * drive
        s = one if u_hat - theta >= zero else zero
        u = u_hat * (one - to_zero * s) - subtract * theta * s
        if adaptive:
            w = beta * w + (one - beta) * (a * u + b * s)
        return u_hat, u, w, s
    u_new = alpha * (u * (one - to_zero * s)) + (one - alpha) * drive - subtract * theta * s
    if adaptive:
        w = beta * w + (one - beta) * a * u + b * s
    return u_new, u_new, w, one if u_new - theta >= zero else zero


@cache
def _forward_kernel(adaptive: bool, symplectic: bool):
    U, W, S, X, ALPHA, THETA, BETA, A, B, ROWS = (np.int64(_ROW * row) for row in range(10))

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, subtract, to_zero, current, u0, w0, s0, alpha, beta, a, b, theta,
        spikes, u_seq, w_seq, u_T, w_T, s_T, support, every, marking, width,
    ):  # fmt: skip
        # every: u_seq and w_seq hold every so many-th step; marking: whether the support of the boxcar is wanted
        steps = current.shape[0]
        features = alpha.shape[0]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for c in range(begin, end, _W):
            n = min(_W, end - c)
            r = np.zeros(ROWS, current.dtype)
            for m in range(n):
                f = (c + m) % features
                r[U + m], r[W + m], r[S + m] = u0[c + m], w0[c + m], s0[c + m]
                r[ALPHA + m], r[THETA + m], r[BETA + m] = alpha[f], theta[f], beta[f]
                r[A + m], r[B + m] = a[f], b[f]
            for t in range(steps):
                # rows as slices: with an offset in the index the compiler guards it against being negative
                i_t = current[t, c : c + n]
                for m in range(n):
                    r[X + m], r[U + m], r[W + m], r[S + m] = _advance(
                        r[U + m], r[W + m], r[S + m], i_t[m], r[ALPHA + m], r[BETA + m], r[A + m], r[B + m], r[THETA + m],
                        one, zero, subtract, to_zero, adaptive, symplectic,
                    )  # fmt: skip
                target = spikes[t, c : c + n]
                for m in range(n):
                    target[m] = r[S + m]
                if marking:
                    inside = support[t, c : c + n]
                    for m in range(n):
                        inside[m] = abs(r[X + m] - r[THETA + m]) <= width
                if (t + 1) % every == 0 and t // every < u_seq.shape[0]:
                    target = u_seq[t // every, c : c + n]
                    for m in range(n):
                        target[m] = r[X + m]
                    if adaptive:
                        target = w_seq[t // every, c : c + n]
                        for m in range(n):
                            target[m] = r[W + m]
            for m in range(n):
                u_T[c + m], w_T[c + m], s_T[c + m] = r[X + m], r[W + m], r[S + m]

    return kernel


@cache
def _backward_kernel(adaptive: bool, symplectic: bool, boxcar: bool):
    (
        DU, DW, DS, GU, S0, ALPHA, THETA, BETA, A, B, G_ALPHA, G_THETA, G_BETA, G_A, G_B, X, U, W, S, ROWS,
    ) = (np.int64(_ROW * row) for row in range(20))  # fmt: skip
    # symplectic: the gradient of u before the reset joins after what flows back through the reset
    G_U = GU if symplectic else DU

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, subtract, to_zero, through_reset, width, height, traced, every,
        g_s, g_u, g_w, g_uT, g_wT, g_sT, phi, current, u_seq, w_seq, u0, w0, s0, alpha, beta, a, b, theta,
        g_current, g_u0, g_w0, g_s0, g_alpha, g_beta, g_a, g_b, g_theta,
    ):  # fmt: skip
        steps = current.shape[0]
        anew = every > 1
        us = np.empty((every if anew else 0, _W), current.dtype)  # the traces between two steps that were kept
        ws = np.empty((every if anew and adaptive else 0, _W), current.dtype)
        features = alpha.shape[0]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for c in range(begin, end, _W):
            n = min(_W, end - c)
            r = np.zeros(ROWS, current.dtype)
            for m in range(n):
                f = (c + m) % features
                r[ALPHA + m], r[THETA + m], r[BETA + m] = alpha[f], theta[f], beta[f]
                r[A + m], r[B + m] = a[f], b[f]
                # the final state is an output of its own
                r[G_U + m], r[DW + m], r[DS + m], r[S0 + m] = g_uT[c + m], g_wT[c + m], g_sT[c + m], s0[c + m]
            for part in range((steps - 1) // every, -1, -1):
                start = part * every
                end_of_part = min(start + every, steps)
                if anew:
                    for m in range(n):
                        r[U + m], r[W + m], r[S + m] = u0[c + m], w0[c + m], s0[c + m]
                    if part > 0:
                        held = u_seq[part - 1, c : c + n]
                        for m in range(n):
                            u, th = held[m], r[THETA + m]
                            fired_before = one if u - th >= zero else zero
                            if symplectic:
                                u = u * (one - to_zero * fired_before) - subtract * th * fired_before
                            r[U + m], r[S + m] = u, fired_before
                        if adaptive:
                            held = w_seq[part - 1, c : c + n]
                            for m in range(n):
                                r[W + m] = held[m]
                    for t in range(start, end_of_part):
                        i_t = current[t, c : c + n]
                        for m in range(n):
                            r[X + m], r[U + m], r[W + m], r[S + m] = _advance(
                                r[U + m], r[W + m], r[S + m], i_t[m], r[ALPHA + m], r[BETA + m], r[A + m], r[B + m],
                                r[THETA + m], one, zero, subtract, to_zero, adaptive, symplectic,
                            )  # fmt: skip
                        target = us[t - start]
                        for m in range(n):
                            target[m] = r[X + m]
                        if adaptive:
                            target = ws[t - start]
                            for m in range(n):
                                target[m] = r[W + m]
                for t in range(end_of_part - 1, start - 1, -1):
                    first = t == 0
                    if traced:
                        row = g_u[t, c : c + n]
                        for m in range(n):
                            r[G_U + m] += row[m]
                        row = g_w[t, c : c + n]
                        for m in range(n):
                            r[DW + m] += row[m]
                    u_t = us[t - start, :n] if anew else u_seq[t, c : c + n]
                    if anew and t > start:
                        before = us[t - 1 - start, :n]
                    else:
                        before = u0[c : c + n] if first else u_seq[(t - 1) // every, c : c + n]
                    i_t = current[t, c : c + n]
                    g_t = g_s[t, c : c + n]
                    phi_t = g_t if boxcar else phi[t, c : c + n]
                    w_t = g_t
                    if adaptive:
                        if anew and t > start:
                            w_t = ws[t - 1 - start, :n]
                        else:
                            w_t = w0[c : c + n] if first else w_seq[(t - 1) // every, c : c + n]
                    for m in range(n):
                        al, th = r[ALPHA + m], r[THETA + m]
                        u_new, u_old = u_t[m], before[m]
                        s_old = r[S0 + m] if first else (one if u_old - th >= zero else zero)
                        d_u, d_w, d_s = r[DU + m], r[DW + m], r[DS + m] + g_t[m]
                        slope = (height if abs(u_new - th) <= width else zero) if boxcar else phi_t[m]
                        drive = i_t[m]
                        if adaptive:
                            w_old = w_t[m]
                            drive -= w_old
                            be, aa, bb = r[BETA + m], r[A + m], r[B + m]
                        g_th = zero
                        if symplectic:
                            s_new = one if u_new - th >= zero else zero
                            if not first:
                                u_old = u_old * (one - to_zero * s_old) - subtract * th * s_old
                            if adaptive:
                                u_reset = u_new * (one - to_zero * s_new) - subtract * th * s_new
                                r[G_BETA + m] += d_w * (w_old - (aa * u_reset + bb * s_new))
                                r[G_A + m] += d_w * (one - be) * u_reset
                                r[G_B + m] += d_w * (one - be) * s_new
                                d_u += d_w * (one - be) * aa
                                d_s += d_w * (one - be) * bb
                            g_th -= subtract * s_new * d_u
                            d_s -= through_reset * (subtract * th + to_zero * u_new) * d_u
                            d_u = d_u * (one - to_zero * s_new) + r[GU + m]
                            r[GU + m] = zero
                            fired = slope * d_s
                            d_u += fired
                            g_th -= fired
                            r[G_ALPHA + m] += d_u * (u_old - drive)
                            r[DU + m] = al * d_u
                            r[DS + m] = zero
                        else:
                            fired = slope * d_s
                            d_u = d_u + fired
                            g_th -= fired
                            g_th -= subtract * s_old * d_u
                            kept = one - to_zero * s_old
                            d_u_old = al * d_u * kept
                            d_s_old = -through_reset * (subtract * th + to_zero * al * u_old) * d_u
                            r[G_ALPHA + m] += d_u * (u_old * kept - drive)
                            if adaptive:
                                d_u_old += (one - be) * aa * d_w
                                d_s_old += bb * d_w
                                r[G_BETA + m] += d_w * (w_old - aa * u_old)
                                r[G_A + m] += d_w * (one - be) * u_old
                                r[G_B + m] += d_w * s_old
                            r[DU + m] = d_u_old
                            r[DS + m] = d_s_old
                        r[G_THETA + m] += g_th
                        r[X + m] = (one - al) * d_u
                        if adaptive:
                            r[DW + m] = be * d_w - (one - al) * d_u
                    row = g_current[t, c : c + n]
                    for m in range(n):
                        row[m] = r[X + m]
            for m in range(n):
                g_u0[c + m], g_w0[c + m], g_s0[c + m] = r[DU + m], r[DW + m], r[DS + m]
                g_alpha[c + m], g_beta[c + m], g_theta[c + m] = r[G_ALPHA + m], r[G_BETA + m], r[G_THETA + m]
                g_a[c + m], g_b[c + m] = r[G_A + m], r[G_B + m]

    return kernel


def _scalars(like: Tensor, *values: float) -> list[np.floating]:
    """Numbers in the kernel's dtype, so that nothing is computed in a wider one."""
    kind = np.float32 if like.dtype == torch.float32 else np.float64
    return [kind(value) for value in values]


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def forward(
    current: Tensor, state: tuple[Tensor, ...], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str, every: int = 1, support: Tensor | None = None, width: float = 0.0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run the neurons.

    :param current: ``[T, M]``; :param state: (u, w, s), each ``[M]``;
    :param parameters: (alpha, beta, a, b, theta), each ``[F]`` in the dtype of ``current``.
    :param every: 1: the whole traces are returned; more: every so many-th step of them, but for the last, which is what
        :func:`backward` needs.
    :param support: ``[T, M]``, bool, to be filled: where u is within ``width`` of the threshold.
    :returns: spikes, trace of u (symplectic: of u before the reset), trace of w, each ``[T, M]`` or
        ``[(T - 1) // every, M]`` (that of w if not ``adaptive``: empty), and the last u, w and s, each ``[M]``.
    """
    steps, columns = current.shape
    spikes = torch.empty(current.shape, dtype=current.dtype)
    u_seq = spikes.new_empty(steps if every == 1 else (steps - 1) // every, columns)
    w_seq = torch.empty_like(u_seq) if adaptive else current.new_empty(0, 0)
    final = tuple(current.new_empty(columns) for _ in range(3))
    kernel = _forward_kernel(adaptive, symplectic)
    arguments = _scalars(current, *_RESETS[reset])
    marked = np.empty((0, 0), np.bool_) if support is None else support.numpy()
    arguments += [*_arrays(current, *state, *parameters, spikes, u_seq, w_seq, *final), marked]
    arguments += [every, support is not None, *_scalars(current, width)]
    over_ranges(lambda begin, end: kernel(begin, end, *arguments), columns, grain=_W)
    return spikes, u_seq, w_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], current: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str, detach_reset: bool, every: int = 1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of :func:`forward`.

    :param gradients: of what :func:`forward` returned, ``None`` where there is none.
    :param phi: derivative of the surrogate at every step, ``[T, M]``; ``None``: the boxcar of that half-width and
        height. :param traces: of u and w, as :func:`forward` returned them with this ``every``.
    :returns: gradient of the current ``[T, M]``, of the initial (u, w, s) ``[M]`` and of (alpha, beta, a, b, theta)
        per column, ``[M]``.
    """
    columns = current.shape[1]
    g_s, g_u, g_w, *g_final = gradients
    traced = g_u is not None or g_w is not None
    zeros = current.new_zeros(()).expand_as(current)
    nothing = current.new_empty(0, 0)
    g_u, g_w = (zeros if g is None or not g.numel() else g for g in (g_u, g_w)) if traced else (nothing, nothing)
    g_final = [current.new_zeros(columns) if g is None else g for g in g_final]
    out = [torch.empty(current.shape, dtype=current.dtype), *(current.new_empty(columns) for _ in range(8))]
    resets = _scalars(current, *_RESETS[reset])
    options = [*resets, *_scalars(current, not detach_reset, *boxcar), traced, every]
    incoming = _arrays(zeros if g_s is None else g_s, g_u, g_w, *g_final, nothing if phi is None else phi)
    inputs, outputs = _arrays(current, *state, *parameters), _arrays(*out)
    kernel = _backward_kernel(adaptive, symplectic, phi is None)
    arguments = [*options, *incoming, inputs[0], *_arrays(*traces), *inputs[1:], *outputs]
    over_ranges(lambda begin, end: kernel(begin, end, *arguments), columns, grain=_W)
    return tuple(out)
