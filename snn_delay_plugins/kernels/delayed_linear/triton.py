"""Linear layers with one or two taps per synapse on CUDA: the ``"shifted"`` form of :mod:`.numba`, whose head has the
equations. Every program owns its outputs, so that results repeat; time does not depend on the longest delay.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _STEPS = 8, 64  # of 16 rows a thread holds twice the registers, and a processor half of the programs


@triton.jit
def _shifted_sums_kernel(
    source, lag, now, later, out, receivers, senders, length, out_length, ROWS: tl.constexpr, STEPS: tl.constexpr
):
    """out[n, i, t] = sum_j now[i, j] source[n, j, t + lag[i, j]] + later[i, j] source[n, j, t + lag[i, j] + 1]."""
    n = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    t = tl.program_id(0) * STEPS + tl.arange(0, STEPS)
    row = i < receivers
    total = tl.zeros((ROWS, STEPS), out.dtype.element_ty)
    for j in range(senders):
        synapse = i * senders + j
        k = tl.load(lag + synapse, row, 0)
        a, b = tl.load(now + synapse, row, 0), tl.load(later + synapse, row, 0)
        at = t[None, :] + k[:, None]
        train = source + (n * senders + j) * length
        here = tl.load(train + at, row[:, None] & (at >= 0) & (at < length), 0)
        after = tl.load(train + at + 1, row[:, None] & (at >= -1) & (at + 1 < length), 0)
        total += a[:, None] * here + b[:, None] * after
    where = (n * receivers + i[:, None]) * out_length + t[None, :]
    tl.store(out + where, total, row[:, None] & (t < out_length)[None, :])


@triton.jit
def _correlations_kernel(
    source, lag, grad, met_now, met_later, samples, receivers, senders, length, grad_length,
    ROWS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """met_later[i, j] = sum_{n, t} grad[n, i, t] source[n, j, t + lag[i, j]], met_now one step later."""
    j = tl.program_id(0)
    i = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row = i < receivers
    k = tl.load(lag + i * senders + j, row, 0)
    now, later = tl.zeros((ROWS,), tl.float64), tl.zeros((ROWS,), tl.float64)
    for n in range(samples):
        train = source + (n * senders + j).to(tl.int64) * length
        for first in range(0, grad_length, STEPS):
            t = first + tl.arange(0, STEPS)
            inside = row[:, None] & (t < grad_length)[None, :]
            g = tl.load(grad + (n * receivers + i[:, None]).to(tl.int64) * grad_length + t[None, :], inside, 0)
            at = t[None, :] + k[:, None]
            here = tl.load(train + at, inside & (at >= 0) & (at < length), 0)
            after = tl.load(train + at + 1, inside & (at >= -1) & (at + 1 < length), 0)
            later += tl.sum(g * here, 1).to(tl.float64)
            now += tl.sum(g * after, 1).to(tl.float64)
    tl.store(met_now + i * senders + j, now, row)
    tl.store(met_later + i * senders + j, later, row)


def _both(taps: Tensor) -> tuple[Tensor, Tensor]:
    return taps[0], taps[1] if taps.shape[0] > 1 else torch.zeros_like(taps[0])


def _by_unit(sequence: Tensor) -> Tensor:
    """[T, N, units] -> [N, units, T]."""
    return sequence.detach().permute(1, 2, 0).contiguous()


def _shifted_sums(source: Tensor, lag: Tensor, now: Tensor, later: Tensor, steps: int) -> Tensor:
    samples, senders, length = source.shape
    receivers = lag.shape[0]
    out = source.new_empty(samples, receivers, steps)
    grid = (triton.cdiv(steps, _STEPS), triton.cdiv(receivers, _ROWS), samples)
    tables = (x.contiguous() for x in (lag, now, later))
    _shifted_sums_kernel[grid](source, *tables, out, receivers, senders, length, steps, _ROWS, _STEPS)
    return out.permute(2, 0, 1).contiguous()


def forward(trains: Tensor, taps: Tensor, lags: Tensor, steps: int) -> Tensor:
    """``[steps, N, out]``. Lags outside of the sequence reach nothing; nothing is read outside of memory."""
    now, later = _both(taps.detach())
    return _shifted_sums(_by_unit(trains), -lags.int() - 1, later, now, steps)


def backward(
    grad: Tensor, trains: Tensor, taps: Tensor, lags: Tensor, support: Tensor | None, for_trains: bool, for_taps: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of trains and taps; empty where they are not asked for."""
    k, g = lags.int(), _by_unit(grad)
    g_trains, g_taps = trains.new_empty(0), trains.new_empty(0)
    if for_taps:
        source = _by_unit(trains)
        met = torch.empty(2, *k.shape, dtype=torch.float64, device=k.device)
        samples, senders, length = source.shape
        grid = (senders, triton.cdiv(k.shape[0], _ROWS))
        _correlations_kernel[grid](source, -k - 1, g, *met, samples, k.shape[0], senders, length, g.shape[2], _ROWS, _STEPS)
        g_taps = met[: taps.shape[0]].to(taps.dtype)
    if for_trains:
        now, later = _both(taps)
        g_trains = _shifted_sums(g, k.T, now.T, later.T, trains.shape[0])
        if support is not None:
            g_trains = g_trains * support
    return g_trains, g_taps
