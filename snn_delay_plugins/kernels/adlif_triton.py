"""AdLIF sequences on CUDA: the recursions of :mod:`.adlif_numba`, whose functions and arguments these are.

A program owns a block of columns (samples x neurons) and runs them through time with their states in registers; no two
programs touch the same element, so that results repeat. Products and sums are not fused, as in the plain form.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64
_RESETS = {"subtract": (True, False), "zero": (False, True), "none": (False, False)}


@triton.jit
def _forward_kernel(
    current, u0, w0, s0, alpha_, beta_, a_, b_, theta_, spikes, u_seq, w_seq, u_T, w_T, s_T, steps, columns, features,
    ADAPTIVE: tl.constexpr, SYMPLECTIC: tl.constexpr, SUBTRACT: tl.constexpr, TO_ZERO: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = c < columns
    f = c % features
    u, w, s = tl.load(u0 + c, inside, 0), tl.load(w0 + c, inside, 0), tl.load(s0 + c, inside, 0)
    alpha, theta = tl.load(alpha_ + f, inside, 0), tl.load(theta_ + f, inside, 0)
    beta, a, b = tl.load(beta_ + f, inside, 0), tl.load(a_ + f, inside, 0), tl.load(b_ + f, inside, 0)
    seen = u  # what the surrogate looks at
    at = c
    for _ in range(steps):
        drive = tl.load(current + at, inside, 0)
        if ADAPTIVE:
            drive = drive - w
        if SYMPLECTIC:
            seen = alpha * u + (1 - alpha) * drive
            s = (seen - theta >= 0).to(u.dtype)
            u = seen
            if TO_ZERO:
                u = seen * (1 - s)
            if SUBTRACT:
                u = seen - theta * s
            if ADAPTIVE:
                w = beta * w + (1 - beta) * (a * u + b * s)
        else:
            kept = u
            if TO_ZERO:
                kept = u * (1 - s)
            seen = alpha * kept + (1 - alpha) * drive
            if SUBTRACT:
                seen = seen - theta * s
            if ADAPTIVE:
                w = beta * w + (1 - beta) * a * u + b * s
            s = (seen - theta >= 0).to(u.dtype)
            u = seen
        tl.store(spikes + at, s, inside)
        tl.store(u_seq + at, seen, inside)
        if ADAPTIVE:
            tl.store(w_seq + at, w, inside)
        at += columns
    tl.store(u_T + c, seen, inside)
    tl.store(w_T + c, w, inside)
    tl.store(s_T + c, s, inside)


@triton.jit
def _backward_kernel(
    g_s, g_u, g_w, g_uT, g_wT, g_sT, phi, current, u_seq, w_seq, u0, w0, s0, alpha_, beta_, a_, b_, theta_,
    g_current, g_u0, g_w0, g_s0, g_alpha_, g_beta_, g_a_, g_b_, g_theta_, steps, columns, features, width, height,
    ADAPTIVE: tl.constexpr, SYMPLECTIC: tl.constexpr, SUBTRACT: tl.constexpr, TO_ZERO: tl.constexpr,
    THROUGH_RESET: tl.constexpr, TRACED: tl.constexpr, BOXCAR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = c < columns
    f = c % features
    alpha, theta = tl.load(alpha_ + f, inside, 0), tl.load(theta_ + f, inside, 0)
    beta, a, b = tl.load(beta_ + f, inside, 0), tl.load(a_ + f, inside, 0), tl.load(b_ + f, inside, 0)
    zero = alpha * 0
    d_u, d_w, d_s = zero, zero, zero
    g_alpha, g_beta, g_a, g_b, g_theta = zero, zero, zero, zero, zero
    # the final state is an output of its own
    d_u_T, d_w, d_s = tl.load(g_uT + c, inside, 0), tl.load(g_wT + c, inside, 0), tl.load(g_sT + c, inside, 0)
    at = c + (steps - 1) * columns
    u_new = tl.load(u_seq + at, inside, 0)
    for k in range(steps):
        t = steps - 1 - k
        later = tl.where(t > 0, inside, False)  # not `inside & (t > 0)`: Triton 3.9's interpreter takes a
        first = tl.where(t > 0, False, inside)  # comparison of numbers, spread over lanes, for an integer
        u_old = tl.load(u_seq + at - columns, later, 0)
        s_old = tl.where(t > 0, (u_old - theta >= 0).to(theta.dtype), tl.load(s0 + c, first, 0))
        previous = u_old  # of the step before, as traced
        if SYMPLECTIC:
            if TO_ZERO:
                u_old = u_old * (1 - s_old)
            if SUBTRACT:
                u_old = u_old - theta * s_old
        u_old = tl.where(t > 0, u_old, tl.load(u0 + c, first, 0))
        drive = tl.load(current + at, inside, 0)
        w_old = zero
        if ADAPTIVE:
            w_old = tl.where(t > 0, tl.load(w_seq + at - columns, later, 0), tl.load(w0 + c, first, 0))
            drive = drive - w_old
        d_s += tl.load(g_s + at, inside, 0)
        g_trace = d_u_T
        if TRACED:
            g_trace += tl.load(g_u + at, inside, 0)
            d_w += tl.load(g_w + at, inside, 0)
        if BOXCAR:  # noqa: SIM108 - a constant of the compilation
            slope = tl.where(tl.abs(u_new - theta) <= width, zero + height, zero)
        else:
            slope = tl.load(phi + at, inside, 0)
        if SYMPLECTIC:
            s_new = (u_new - theta >= 0).to(theta.dtype)
            u_reset = u_new
            if TO_ZERO:
                u_reset = u_new * (1 - s_new)
            if SUBTRACT:
                u_reset = u_new - theta * s_new
            if ADAPTIVE:
                g_beta += d_w * (w_old - (a * u_reset + b * s_new))
                g_a += d_w * (1 - beta) * u_reset
                g_b += d_w * (1 - beta) * s_new
                d_u += d_w * (1 - beta) * a
                d_s += d_w * (1 - beta) * b
            if SUBTRACT:
                g_theta -= s_new * d_u
                if THROUGH_RESET:
                    d_s -= theta * d_u
            if TO_ZERO:
                if THROUGH_RESET:
                    d_s -= u_new * d_u
                d_u = d_u * (1 - s_new)
            fired = slope * d_s
            d_u += g_trace + fired
            g_theta -= fired
            g_alpha += d_u * (u_old - drive)
            d_current = (1 - alpha) * d_u
            if ADAPTIVE:
                d_w = beta * d_w - d_current
            d_u = alpha * d_u
            d_s = zero
        else:
            fired = slope * d_s
            d_u += g_trace + fired
            g_theta -= fired
            d_s = zero
            kept = zero + 1
            if SUBTRACT:
                g_theta -= s_old * d_u
                if THROUGH_RESET:
                    d_s = -theta * d_u
            if TO_ZERO:
                kept = 1 - s_old
                if THROUGH_RESET:
                    d_s = -alpha * u_old * d_u
            g_alpha += d_u * (u_old * kept - drive)
            d_current = (1 - alpha) * d_u
            d_u = alpha * d_u * kept
            if ADAPTIVE:
                d_u += (1 - beta) * a * d_w
                d_s += b * d_w
                g_beta += d_w * (w_old - a * u_old)
                g_a += d_w * (1 - beta) * u_old
                g_b += d_w * s_old
                d_w = beta * d_w - d_current
        tl.store(g_current + at, d_current, inside)
        u_new = previous
        d_u_T = zero
        at -= columns
    tl.store(g_u0 + c, d_u, inside)
    tl.store(g_w0 + c, d_w, inside)
    tl.store(g_s0 + c, d_s, inside)
    tl.store(g_alpha_ + c, g_alpha, inside)
    tl.store(g_beta_ + c, g_beta, inside)
    tl.store(g_a_ + c, g_a, inside)
    tl.store(g_b_ + c, g_b, inside)
    tl.store(g_theta_ + c, g_theta, inside)


def forward(
    current: Tensor, state: tuple[Tensor, ...], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.adlif_numba.forward`."""
    current, *inputs = (x.detach().contiguous() for x in (current, *state, *parameters))
    steps, columns = current.shape
    spikes, u_seq = torch.empty_like(current), torch.empty_like(current)
    w_seq = torch.empty_like(current) if adaptive else current.new_empty(0, 0)
    final = tuple(current.new_empty(columns) for _ in range(3))
    subtract, to_zero = _RESETS[reset]
    _forward_kernel[(triton.cdiv(columns, _BLOCK),)](
        current, *inputs, spikes, u_seq, w_seq, *final, steps, columns, parameters[0].numel(),
        adaptive, symplectic, subtract, to_zero, _BLOCK, num_warps=2, enable_fp_fusion=False,
    )  # fmt: skip
    return spikes, u_seq, w_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], current: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], parameters: tuple[Tensor, ...],
    adaptive: bool, symplectic: bool, reset: str, detach_reset: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.adlif_numba.backward`."""
    steps, columns = current.shape
    g_s, g_u, g_w, *g_final = gradients
    traced = g_u is not None or g_w is not None
    nothing = current.new_empty(0)

    def given(g: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        return current.new_zeros(shape) if g is None or not g.numel() else g.detach().contiguous()

    g_s = given(g_s, current.shape)
    g_u, g_w = (given(g, current.shape) if traced else nothing for g in (g_u, g_w))
    inputs = [x.detach().contiguous() for x in (current, *traces, *state, *parameters)]
    out = [torch.empty_like(inputs[0]), *(current.new_empty(columns) for _ in range(8))]
    subtract, to_zero = _RESETS[reset]
    _backward_kernel[(triton.cdiv(columns, _BLOCK),)](
        g_s, g_u, g_w, *(given(g, (columns,)) for g in g_final), nothing if phi is None else phi.contiguous(),
        *inputs, *out, steps, columns, parameters[0].numel(), *boxcar,
        adaptive, symplectic, subtract, to_zero, not detach_reset, traced, phi is None, _BLOCK,
        num_warps=2, enable_fp_fusion=False,
    )  # fmt: skip
    return tuple(out)
