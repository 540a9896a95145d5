"""Linear neurons over sequences on CUDA: the recursions of :mod:`.numba`, whose functions and arguments these are.

A program owns a block of columns (samples x neurons) and runs them through time with their states in registers; no two
programs touch the same element, so that results repeat. Products and sums are not fused, as in the plain form. RECURRENT
neurons (:mod:`..recurrent_neuron.triton`) are all those of a sample, whose spikes change the currents of later steps.

The constants that bear the names of coefficients are their rows in the tensor of coefficients, -1 for one that is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .recurrent_triton import met, send
from .structure import Structure

_BLOCK = 64


@triton.jit
def _columns(columns, features, BLOCK: tl.constexpr, RECURRENT: tl.constexpr):
    """The columns of this program, which of them there are, and their neurons."""
    lane = tl.arange(0, BLOCK)
    col = tl.program_id(0).to(tl.int64) * BLOCK + lane
    inside, f = col < columns, col % features
    if RECURRENT:
        col = tl.program_id(0).to(tl.int64) * features + lane
        inside, f = lane < features, lane.to(tl.int64)
    return col, inside, f


@triton.jit
def _row(k, ROW: tl.constexpr, features, f, inside):
    """One coefficient of every column of the block."""
    if ROW < 0:
        return tl.zeros_like(tl.load(k + f, inside, 0))
    return tl.load(k + ROW * features + f, inside, 0)


@triton.jit
def _after(x0, s, j00, r0, J00: tl.constexpr, R0: tl.constexpr):
    """What the spike leaves of the first state, where it acts in its own step."""
    p = x0
    if J00 >= 0:
        p = p * (1 + j00 * s)
    if R0 >= 0:
        p = p + r0 * s
    return p


@triton.jit
def _forward_kernel(
    current, x0_0, x1_0, s_0, k, spikes, x0_seq, x1_seq, x0_T, x1_T, s_T, steps, columns, features, taps, lags, senders,
    layers, width_of_taps,
    A00: tl.constexpr, A01: tl.constexpr, A10: tl.constexpr, A11: tl.constexpr, J00: tl.constexpr, J01: tl.constexpr,
    J10: tl.constexpr, J11: tl.constexpr, R0: tl.constexpr, R1: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr,
    C: tl.constexpr, THETA: tl.constexpr, Q0: tl.constexpr, Q1: tl.constexpr,
    TWO: tl.constexpr, SUBTRACTED: tl.constexpr, SYMPLECTIC: tl.constexpr, RECURRENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    col, inside, f = _columns(columns, features, BLOCK, RECURRENT)
    a00 = _row(k, A00, features, f, inside)
    a01 = _row(k, A01, features, f, inside)
    a10 = _row(k, A10, features, f, inside)
    a11 = _row(k, A11, features, f, inside)
    j00 = _row(k, J00, features, f, inside)
    j01 = _row(k, J01, features, f, inside)
    j10 = _row(k, J10, features, f, inside)
    j11 = _row(k, J11, features, f, inside)
    r0 = _row(k, R0, features, f, inside)
    r1 = _row(k, R1, features, f, inside)
    b0 = _row(k, B0, features, f, inside)
    b1 = _row(k, B1, features, f, inside)
    c = _row(k, C, features, f, inside)
    theta = _row(k, THETA, features, f, inside)
    x0, s = tl.load(x0_0 + col, inside, 0), tl.load(s_0 + col, inside, 0)
    x1 = tl.zeros_like(x0)
    if TWO:
        x1 = tl.load(x1_0 + col, inside, 0)
    at = col
    for t in range(steps):
        i = tl.load(current + at, inside, 0)
        y0, y1 = tl.zeros_like(x0), tl.zeros_like(x0)
        if SYMPLECTIC:
            if A00 >= 0:
                y0 = a00 * _after(x0, s, j00, r0, J00, R0)
            if B0 >= 0:
                if SUBTRACTED:
                    y0 += b0 * (i - x1)
                else:
                    y0 += b0 * i
            s = (y0 - theta >= 0).to(x0.dtype)
            if A10 >= 0:
                y1 = a10 * _after(y0, s, j00, r0, J00, R0)
            if R1 >= 0:
                y1 += r1 * s
            if A11 >= 0:
                y1 = a11 * x1 + (1 - a11) * y1
            x0, x1 = y0, y1
        else:
            if J00 >= 0:
                y0 = (a00 + j00 * s) * x0
            elif A00 >= 0:
                y0 = a00 * x0
            if J01 >= 0:
                y0 += (a01 + j01 * s) * x1
            elif A01 >= 0:
                y0 += a01 * x1
            if B0 >= 0:
                if SUBTRACTED:
                    y0 += b0 * (i - x1)
                else:
                    y0 += b0 * i
            if R0 >= 0:
                y0 += r0 * s
            if J11 >= 0:
                y1 = (a11 + j11 * s) * x1
            elif A11 >= 0:
                y1 = a11 * x1
            if J10 >= 0:
                y1 += (a10 + j10 * s) * x0
            elif A10 >= 0:
                y1 += a10 * x0
            if B1 >= 0:
                y1 += b1 * i
            if R1 >= 0:
                y1 += r1 * s
            x0, x1, z = y0, y1, y0
            if C >= 0:
                z += c * y1
            s = (z - theta >= 0).to(x0.dtype)
        tl.store(spikes + at, s, inside)
        tl.store(x0_seq + at, x0, inside)
        if TWO:
            tl.store(x1_seq + at, x1, inside)
        if RECURRENT:
            n = tl.program_id(0).to(tl.int64)
            send(s, current, taps, lags, senders, n, f, inside, t, steps, columns, features, layers, width_of_taps)
        at += columns
    tl.store(x0_T + col, x0, inside)
    tl.store(s_T + col, s, inside)
    if TWO:
        tl.store(x1_T + col, x1, inside)


@triton.jit
def _backward_kernel(
    g_s, g_x0, g_x1, g_x0T, g_x1T, g_sT, phi, current, x0_seq, x1_seq, x0_0, x1_0, s_0, k, g_current, g_x0_0, g_x1_0,
    g_s_0, g_k, steps, columns, features, width, height, taps, lags, layers, width_of_taps,
    A00: tl.constexpr, A01: tl.constexpr, A10: tl.constexpr, A11: tl.constexpr, J00: tl.constexpr, J01: tl.constexpr,
    J10: tl.constexpr, J11: tl.constexpr, R0: tl.constexpr, R1: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr,
    C: tl.constexpr, THETA: tl.constexpr, Q0: tl.constexpr, Q1: tl.constexpr,
    TWO: tl.constexpr, SUBTRACTED: tl.constexpr, SYMPLECTIC: tl.constexpr, RECURRENT: tl.constexpr, BLOCK: tl.constexpr,
    THROUGH_J: tl.constexpr, THROUGH_R0: tl.constexpr, THROUGH_R1: tl.constexpr, TRACED: tl.constexpr, BOXCAR: tl.constexpr,
):  # fmt: skip
    col, inside, f = _columns(columns, features, BLOCK, RECURRENT)
    a00 = _row(k, A00, features, f, inside)
    a01 = _row(k, A01, features, f, inside)
    a10 = _row(k, A10, features, f, inside)
    a11 = _row(k, A11, features, f, inside)
    j00 = _row(k, J00, features, f, inside)
    j01 = _row(k, J01, features, f, inside)
    j10 = _row(k, J10, features, f, inside)
    j11 = _row(k, J11, features, f, inside)
    r0 = _row(k, R0, features, f, inside)
    r1 = _row(k, R1, features, f, inside)
    b0 = _row(k, B0, features, f, inside)
    b1 = _row(k, B1, features, f, inside)
    c = _row(k, C, features, f, inside)
    theta = _row(k, THETA, features, f, inside)
    q0 = _row(k, Q0, features, f, inside)
    q1 = _row(k, Q1, features, f, inside)
    zero = tl.zeros_like(theta)
    g_a00 = zero
    g_a01 = zero
    g_a10 = zero
    g_a11 = zero
    g_j00 = zero
    g_j01 = zero
    g_j10 = zero
    g_j11 = zero
    g_r0 = zero
    g_r1 = zero
    g_b0 = zero
    g_b1 = zero
    g_c = zero
    g_theta = zero
    d0, ds = tl.load(g_x0T + col, inside, 0), tl.load(g_sT + col, inside, 0)
    d1, x1, x1_new = zero, zero, zero
    at = col + (steps - 1) * columns
    x0_new = tl.load(x0_seq + at, inside, 0)
    if TWO:
        d1 = tl.load(g_x1T + col, inside, 0)
        x1_new = tl.load(x1_seq + at, inside, 0)
    for n in range(steps):
        t = steps - 1 - n
        later = inside & (col + t * columns >= columns)  # whose step before is in the sequence
        x0 = tl.where(t > 0, tl.load(x0_seq + at - columns, later, 0), tl.load(x0_0 + col, inside, 0))
        z = x0
        if TWO:
            x1 = tl.where(t > 0, tl.load(x1_seq + at - columns, later, 0), tl.load(x1_0 + col, inside, 0))
            if C >= 0:
                z += c * x1
        s = tl.where(t > 0, (z - theta >= 0).to(theta.dtype), tl.load(s_0 + col, inside, 0))
        i = tl.load(current + at, inside, 0)
        ds += tl.load(g_s + at, inside, 0)
        if TRACED:
            d0 += tl.load(g_x0 + at, inside, 0)
            if TWO:
                d1 += tl.load(g_x1 + at, inside, 0)
        if BOXCAR:
            above = x0_new
            if C >= 0:
                above += c * x1_new
            slope = tl.where(tl.abs(above - theta) <= width, zero + height, zero)
        else:
            slope = tl.load(phi + at, inside, 0)
        if RECURRENT:
            n_64, wanted = tl.program_id(0).to(tl.int64), inside & (slope != 0)
            ds += met(g_current, taps, lags, n_64, f, wanted, t, steps, columns, features, layers, width_of_taps)
        if SYMPLECTIC:  # noqa: SIM102 - constants of the compilation
            if TWO:
                s_new = (x0_new - theta >= 0).to(theta.dtype)
                p, dp, kick, kicked = _after(x0_new, s_new, j00, r0, J00, R0), zero, zero, d1
                if A11 >= 0:
                    kicked = (1 - a11) * d1
                if A10 >= 0:
                    kick = a10 * p
                    g_a10 += kicked * p
                    dp = a10 * kicked
                if R1 >= 0:
                    kick += r1 * s_new
                    g_r1 += kicked * s_new
                    if THROUGH_R1:
                        ds += r1 * kicked
                if Q1 >= 0:
                    ds += q1 * kicked
                if A11 >= 0:
                    g_a11 += d1 * (x1 - kick)
                if R0 >= 0:
                    g_r0 += dp * s_new
                    if THROUGH_R0:
                        ds += r0 * dp
                if J00 >= 0:
                    g_j00 += dp * x0_new * s_new
                    if THROUGH_J:
                        ds += j00 * x0_new * dp
                    dp = dp * (1 + j00 * s_new)
                d0 += dp
        fired = slope * ds
        d0 += fired
        g_theta -= fired
        if C >= 0:
            d1 += c * fired
            g_c += fired * x1_new
        e0, e1, ds, d_i = zero, zero, zero, zero
        if B0 >= 0:
            d_i = b0 * d0
            if SUBTRACTED:
                e1 = -d_i
                g_b0 += d0 * (i - x1)
            else:
                g_b0 += d0 * i
        if A11 >= 0:
            e1 += a11 * d1
            if not SYMPLECTIC:
                g_a11 += d1 * x1
        if SYMPLECTIC:
            if A00 >= 0:
                g_a00 += d0 * _after(x0, s, j00, r0, J00, R0)
                d0 = a00 * d0
            else:
                d0 = zero
            e0 = d0
            if J00 >= 0:
                e0 = d0 * (1 + j00 * s)
        elif A00 >= 0:
            e0 = a00 * d0
            g_a00 += d0 * x0
        if J00 >= 0:
            if not SYMPLECTIC:
                e0 += j00 * s * d0
            g_j00 += d0 * x0 * s
            if THROUGH_J:
                ds += j00 * x0 * d0
        if R0 >= 0:
            g_r0 += d0 * s
            if THROUGH_R0:
                ds += r0 * d0
        if Q0 >= 0:
            ds += q0 * d0
        if not SYMPLECTIC:
            if A01 >= 0:
                e1 += a01 * d0
                g_a01 += d0 * x1
            if J01 >= 0:
                e1 += j01 * s * d0
                g_j01 += d0 * x1 * s
                if THROUGH_J:
                    ds += j01 * x1 * d0
            if A10 >= 0:
                e0 += a10 * d1
                g_a10 += d1 * x0
            if B1 >= 0:
                d_i += b1 * d1
                g_b1 += d1 * i
            if J10 >= 0:
                e0 += j10 * s * d1
                g_j10 += d1 * x0 * s
                if THROUGH_J:
                    ds += j10 * x0 * d1
            if J11 >= 0:
                e1 += j11 * s * d1
                g_j11 += d1 * x1 * s
                if THROUGH_J:
                    ds += j11 * x1 * d1
            if R1 >= 0:
                g_r1 += d1 * s
                if THROUGH_R1:
                    ds += r1 * d1
            if Q1 >= 0:
                ds += q1 * d1
        d0, d1 = e0, e1
        tl.store(g_current + at, d_i, inside)
        if RECURRENT:
            tl.debug_barrier()  # what the neurons of the step before will meet is there
        x0_new, x1_new = x0, x1
        at -= columns
    tl.store(g_x0_0 + col, d0, inside)
    tl.store(g_s_0 + col, ds, inside)
    if TWO:
        tl.store(g_x1_0 + col, d1, inside)
    if A00 >= 0:
        tl.store(g_k + A00 * columns + col, g_a00, inside)
    if A01 >= 0:
        tl.store(g_k + A01 * columns + col, g_a01, inside)
    if A10 >= 0:
        tl.store(g_k + A10 * columns + col, g_a10, inside)
    if A11 >= 0:
        tl.store(g_k + A11 * columns + col, g_a11, inside)
    if J00 >= 0:
        tl.store(g_k + J00 * columns + col, g_j00, inside)
    if J01 >= 0:
        tl.store(g_k + J01 * columns + col, g_j01, inside)
    if J10 >= 0:
        tl.store(g_k + J10 * columns + col, g_j10, inside)
    if J11 >= 0:
        tl.store(g_k + J11 * columns + col, g_j11, inside)
    if R0 >= 0:
        tl.store(g_k + R0 * columns + col, g_r0, inside)
    if R1 >= 0:
        tl.store(g_k + R1 * columns + col, g_r1, inside)
    if B0 >= 0:
        tl.store(g_k + B0 * columns + col, g_b0, inside)
    if B1 >= 0:
        tl.store(g_k + B1 * columns + col, g_b1, inside)
    if C >= 0:
        tl.store(g_k + C * columns + col, g_c, inside)
    if THETA >= 0:
        tl.store(g_k + THETA * columns + col, g_theta, inside)


class Synapses(NamedTuple):
    """From each neuron of a sample to each, in planes (:mod:`.recurrent_triton`)."""

    to_receivers: Tensor
    """Taps ``[layers, width, senders, receivers]``."""
    lags_to_receivers: Tensor
    to_senders: Tensor
    """Taps ``[layers, width, receivers, senders]``."""
    lags_to_senders: Tensor

    @property
    def layers_and_width(self) -> tuple[int, ...]:
        return tuple(self.to_receivers.shape[:2])


def _constants(code: int, features: int | None = None) -> dict[str, int]:
    """:param features: neurons of a sample, where they are RECURRENT."""
    structure = Structure.of(code)
    rows = {name.upper(): row for name, row in structure.rows().items()}
    flags = {"TWO": structure.two, "SUBTRACTED": structure.subtracted, "SYMPLECTIC": structure.symplectic}
    block = _BLOCK if features is None else max(32, triton.next_power_of_2(features))
    return {**rows, **flags, "RECURRENT": features is not None, "BLOCK": block}


def _constants_of_backward(code: int, traced: bool, boxcar: bool) -> dict[str, bool]:
    through = {f"THROUGH_{name.upper()}": name not in Structure.of(code).detached for name in ("J", "r0", "r1")}
    return {**through, "TRACED": traced, "BOXCAR": boxcar}


def _programs(columns: int, features: int, recurrent: bool) -> tuple[int]:
    """One a block of columns, or a sample."""
    return (columns // features if recurrent else triton.cdiv(columns, _BLOCK),)


def _options(code: int, features: int, recurrent: bool) -> dict[str, int]:
    constants = _constants(code, features if recurrent else None)
    return {**constants, "num_warps": min(16, constants["BLOCK"] // 32), "enable_fp_fusion": False}


def forward(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, code: int, every: int = 1,
    support: Tensor | None = None, width: float = 0.0, synapses: Synapses | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.numba.forward`; the traces are always whole.

    :param synapses: of the neurons to each other; what they carry is added to ``current``, in place.
    """
    current, *inputs = (x.detach().contiguous() for x in (current, *state, coefficients))
    (steps, columns), features = current.shape, coefficients.shape[1]
    structure = Structure.of(code)
    spikes, x0_seq = torch.empty_like(current), torch.empty_like(current)
    x1_seq = torch.empty_like(current) if structure.two else current.new_empty(0, 0)
    final = [torch.empty_like(x) for x in inputs[:3]]
    wires = [None, None, None, 0, 0]
    if synapses is not None:
        senders = torch.empty(columns, dtype=torch.int32, device=current.device)
        wires = [synapses.to_receivers, synapses.lags_to_receivers, senders, *synapses.layers_and_width]
    recurrent = synapses is not None
    _forward_kernel[_programs(columns, features, recurrent)](
        current, *inputs, spikes, x0_seq, x1_seq, *final, steps, columns, features, *wires,
        **_options(code, features, recurrent),
    )  # fmt: skip
    if support is not None:
        rows = structure.rows()
        z = x0_seq.view(-1, features)
        if rows["c"] >= 0:
            z = z + coefficients[rows["c"]] * x1_seq.view(-1, features)
        torch.le((z - coefficients[rows["theta"]]).abs().view(current.shape), width, out=support)
    return spikes, x0_seq, x1_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], current: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], coefficients: Tensor, code: int, every: int = 1,
    synapses: Synapses | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.numba.backward`.

    :param current: with what the ``synapses`` carried.
    """
    (steps, columns), features = current.shape, coefficients.shape[1]
    g_s, g_x0, g_x1, *g_final = gradients
    traced = g_x0 is not None or g_x1 is not None
    nothing = current.new_empty(0)

    def given(g: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        return current.new_zeros(shape) if g is None or not g.numel() else g.detach().contiguous()

    g_s = given(g_s, current.shape)
    g_x0, g_x1 = (given(g, current.shape) if traced else nothing for g in (g_x0, g_x1))
    inputs = [x.detach().contiguous() for x in (current, *traces, *state, coefficients)]
    out = [
        torch.empty_like(inputs[0]),
        *(torch.empty_like(x) for x in inputs[3:6]),
        current.new_zeros(len(coefficients), columns),
    ]
    wires = [None, None, 0, 0]
    if synapses is not None:
        wires = [synapses.to_senders, synapses.lags_to_senders, *synapses.layers_and_width]
    recurrent = synapses is not None
    _backward_kernel[_programs(columns, features, recurrent)](
        g_s, g_x0, g_x1, *(given(g, (columns,)) for g in g_final), nothing if phi is None else phi.contiguous(),
        *inputs, *out, steps, columns, features, *boxcar, *wires, **_options(code, features, recurrent),
        **_constants_of_backward(code, traced, phi is None),
    )  # fmt: skip
    return tuple(out)
