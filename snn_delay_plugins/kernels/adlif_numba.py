r"""AdLIF sequences on the CPU: the recursions of :mod:`snn_delay_plugins.functional.adlif`, forward and backward.

Forward computes in the same order as the plain form, so that the two agree to the last bit. Backward is the adjoint
recursion, with :math:`\varphi[t]` the surrogate's derivative at :math:`u[t] - \theta` and g the incoming gradients
(``variant="adlif"``, ``reset="subtract"``):

.. math::
    \bar s[t] &= g_s[t] + b\, \bar w[t+1] - \theta\, \bar u[t+1] \\
    \bar u[t] &= g_u[t] + \alpha\, \bar u[t+1] + (1-\beta)\, a\, \bar w[t+1] + \varphi[t]\, \bar s[t] \\
    \bar w[t] &= g_w[t] + \beta\, \bar w[t+1] - (1-\alpha)\, \bar u[t+1]

Every sample is its own program, in chunks of neurons: results do not depend on the number of threads. Neurons and
samples are flattened to M = N F columns; parameters are ``[F]``.
"""
from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

# Columns of one program. All its rows live in one buffer at multiples of this constant: the compiler then sees that
# they do not overlap and vectorises the loops over columns, which it cannot prove for two dozen separate arrays.
_W = 256
# What a spike does to the membrane potential, as numbers: (subtract theta, multiply by zero).
RESETS = {"subtract": (1, 0), "zero": (0, 1), "none": (0, 0)}


@cache
def _forward_kernel(adaptive: bool, symplectic: bool, parallel: bool):
    U, W, S, X, ALPHA, THETA, BETA, A, B, ROWS = (np.int64(_W * row) for row in range(10))

    @njit(parallel=parallel, cache=True, nogil=True)
    def kernel(subtract, to_zero, current, u0, w0, s0, alpha, beta, a, b, theta, spikes, u_seq, w_seq):
        steps, columns = current.shape
        features = alpha.shape[0]
        chunks = (features + _W - 1) // _W
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for program in prange(columns // features * chunks):
            first = program % chunks * _W
            n = min(_W, features - first)
            c = program // chunks * features + first
            r = np.empty(ROWS, current.dtype)
            for m in range(n):
                r[U + m], r[W + m], r[S + m] = u0[c + m], w0[c + m], s0[c + m]
                r[ALPHA + m], r[THETA + m], r[BETA + m] = alpha[first + m], theta[first + m], beta[first + m]
                r[A + m], r[B + m] = a[first + m], b[first + m]
            for t in range(steps):
                for m in range(n):
                    r[X + m] = current[t, c + m]
                for m in range(n):
                    u, s, al, th = r[U + m], r[S + m], r[ALPHA + m], r[THETA + m]
                    drive = r[X + m]
                    if adaptive:
                        drive = drive - r[W + m]
                    if symplectic:
                        u_hat = al * u + (one - al) * drive
                        s = one if u_hat - th >= zero else zero
                        r[X + m] = u_hat  # traced before the reset: this is what the surrogate looks at
                        u = u_hat * (one - to_zero * s) - subtract * th * s
                        if adaptive:
                            be = r[BETA + m]
                            r[W + m] = be * r[W + m] + (one - be) * (r[A + m] * u + r[B + m] * s)
                        r[U + m] = u
                    else:
                        u_new = al * (u * (one - to_zero * s)) + (one - al) * drive - subtract * th * s
                        if adaptive:
                            be = r[BETA + m]
                            r[W + m] = be * r[W + m] + (one - be) * r[A + m] * u + r[B + m] * s
                        s = one if u_new - th >= zero else zero
                        r[U + m] = u_new
                        r[X + m] = u_new
                    r[S + m] = s
                for m in range(n):
                    spikes[t, c + m] = r[S + m]
                for m in range(n):
                    u_seq[t, c + m] = r[X + m]
                if adaptive:
                    for m in range(n):
                        w_seq[t, c + m] = r[W + m]

    return kernel


@cache
def _backward_kernel(adaptive: bool, symplectic: bool, parallel: bool):
    (
        DU, DW, DS, ALPHA, THETA, BETA, A, B, G_ALPHA, G_THETA, G_BETA, G_A, G_B,
        X, PHI, GS, GU, GW, UO, WO, SO, UN, SN, ROWS,
    ) = (np.int64(_W * row) for row in range(24))  # fmt: skip

    @njit(parallel=parallel, cache=True, nogil=True)
    def kernel(
        subtract, to_zero, through_reset, traced, g_s, g_u, g_w, phi, current, spikes, u_seq, w_seq, u0, w0, s0, alpha, beta, a, b, theta,
        g_current, g_u0, g_w0, g_s0, g_alpha, g_beta, g_a, g_b, g_theta,
    ):  # fmt: skip
        steps, columns = current.shape
        features = alpha.shape[0]
        chunks = (features + _W - 1) // _W
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        for program in prange(columns // features * chunks):
            first = program % chunks * _W
            n = min(_W, features - first)
            c = program // chunks * features + first
            r = np.zeros(ROWS, current.dtype)
            for m in range(n):
                r[DU + m], r[DW + m], r[DS + m] = g_u0[c + m], g_w0[c + m], g_s0[c + m]
                r[ALPHA + m], r[THETA + m], r[BETA + m] = alpha[first + m], theta[first + m], beta[first + m]
                r[A + m], r[B + m] = a[first + m], b[first + m]
            for t in range(steps - 1, -1, -1):
                for m in range(n):
                    r[X + m] = current[t, c + m]
                for m in range(n):
                    r[PHI + m] = phi[t, c + m]
                for m in range(n):
                    r[GS + m] = g_s[t, c + m]
                if traced:
                    for m in range(n):
                        r[GU + m] = g_u[t, c + m]
                    for m in range(n):
                        r[GW + m] = g_w[t, c + m]
                if symplectic:
                    for m in range(n):
                        r[UN + m] = u_seq[t, c + m]
                    for m in range(n):
                        r[SN + m] = spikes[t, c + m]
                if t > 0:
                    for m in range(n):
                        r[UO + m] = u_seq[t - 1, c + m]
                    for m in range(n):
                        r[SO + m] = spikes[t - 1, c + m]
                    if symplectic:
                        for m in range(n):
                            s = r[SO + m]
                            r[UO + m] = r[UO + m] * (one - to_zero * s) - subtract * r[THETA + m] * s
                    if adaptive:
                        for m in range(n):
                            r[WO + m] = w_seq[t - 1, c + m]
                else:
                    for m in range(n):
                        r[UO + m], r[WO + m], r[SO + m] = u0[c + m], w0[c + m], s0[c + m]
                for m in range(n):
                    al, th = r[ALPHA + m], r[THETA + m]
                    u_old, w_old, s_old = r[UO + m], r[WO + m], r[SO + m]
                    d_u, d_w, d_s = r[DU + m] + r[GU + m], r[DW + m] + r[GW + m], r[DS + m] + r[GS + m]
                    drive = r[X + m]
                    if adaptive:
                        drive -= w_old
                        be, aa, bb = r[BETA + m], r[A + m], r[B + m]
                    g_th = zero
                    if symplectic:
                        u_hat, s_new = r[UN + m], r[SN + m]
                        if adaptive:
                            u_new = u_hat * (one - to_zero * s_new) - subtract * th * s_new
                            r[G_BETA + m] += d_w * (w_old - (aa * u_new + bb * s_new))
                            r[G_A + m] += d_w * (one - be) * u_new
                            r[G_B + m] += d_w * (one - be) * s_new
                            d_u += d_w * (one - be) * aa
                            d_s += d_w * (one - be) * bb
                        g_th -= subtract * s_new * d_u
                        d_s -= through_reset * (subtract * th + to_zero * u_hat) * d_u
                        d_u = d_u * (one - to_zero * s_new)
                        fired = r[PHI + m] * d_s
                        d_u += fired
                        g_th -= fired
                        r[G_ALPHA + m] += d_u * (u_old - drive)
                        r[DU + m] = al * d_u
                        r[DS + m] = zero
                    else:
                        fired = r[PHI + m] * d_s
                        d_u += fired
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
                        d_w = be * d_w - (one - al) * d_u
                    r[DW + m] = d_w
                for m in range(n):
                    g_current[t, c + m] = r[X + m]
            for m in range(n):
                g_u0[c + m], g_w0[c + m], g_s0[c + m] = r[DU + m], r[DW + m], r[DS + m]
                g_alpha[c + m], g_beta[c + m], g_theta[c + m] = r[G_ALPHA + m], r[G_BETA + m], r[G_THETA + m]
                g_a[c + m], g_b[c + m] = r[G_A + m], r[G_B + m]

    return kernel


def _parallel() -> bool:
    """Whether to use several threads: as many as torch does. One thread runs without a thread pool, whose idle
    threads would wait busily and take the processor from whatever else runs on it."""
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if threads > 1:
        torchs = torch.get_num_threads()
        numba.set_num_threads(threads)
        if torch.get_num_threads() != torchs:  # starting numba's pool can undo torch.set_num_threads
            torch.set_num_threads(torchs)
    return threads > 1


def _scalars(like: Tensor, *values: float) -> list[np.floating]:
    """Numbers in the kernel's dtype, so that nothing is computed in a wider one."""
    kind = np.float32 if like.dtype == torch.float32 else np.float64
    return [kind(value) for value in values]


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def forward(
    current: Tensor, state: tuple[Tensor, Tensor, Tensor], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Run the neurons.

    :param current: ``[T, M]``, contiguous; :param state: (u, w, s), each ``[M]``;
    :param parameters: (alpha, beta, a, b, theta), each ``[F]`` in the dtype of ``current``.
    :returns: spikes, trace of u (symplectic: of u before the reset) and trace of w (empty if not ``adaptive``).
    """
    spikes, u_seq = (torch.empty_like(current, memory_format=torch.contiguous_format) for _ in range(2))
    w_seq = torch.empty_like(u_seq) if adaptive else current.new_empty(0, 0)
    kernel = _forward_kernel(adaptive, symplectic, _parallel())
    kernel(*_scalars(current, *RESETS[reset]), *_arrays(current, *state, *parameters, spikes, u_seq, w_seq))
    return spikes, u_seq, w_seq


def backward(
    gradients: tuple[Tensor, Tensor | None, Tensor | None], phi: Tensor, current: Tensor,
    sequence: tuple[Tensor, Tensor, Tensor], state: tuple[Tensor, Tensor, Tensor], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str, detach_reset: bool, final: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:  # fmt: skip
    """The gradients of :func:`forward`.

    :param gradients: of the spikes and of the traces of u and w (``None``: not asked for), each ``[T, M]``.
    :param phi: derivative of the surrogate at every step, ``[T, M]``.
    :param sequence: what :func:`forward` returned; :param final: gradients of the final (u, w, s), each ``[M]``.
    :returns: gradient of the current, of the initial (u, w, s), and per column of (alpha, beta, a, b, theta).
    """
    traced = gradients[1] is not None
    nothing = current.new_empty(0, 0)
    g_current = torch.empty_like(current, memory_format=torch.contiguous_format)  # else the kernel fills a copy
    g_state = tuple(g.contiguous().clone() for g in final)
    g_parameters = tuple(torch.empty_like(g_state[0]) for _ in range(5))
    kernel = _backward_kernel(adaptive, symplectic, _parallel())
    kernel(
        *_scalars(current, *RESETS[reset], not detach_reset), traced,
        *_arrays(gradients[0], *(gradients[1:] if traced else (nothing, nothing)), phi, current, *sequence),
        *_arrays(*state, *parameters, g_current, *g_state, *g_parameters),
    )
    return g_current, g_state, g_parameters
