"""Sparse connections with a few taps each on CUDA, over the lists of :mod:`.operator`.

A program owns the currents of one receiver of one sample over some steps and goes through the receiver's synapses;
gradients of the trains are the same sums over the synapses of a sender, those of the taps are one program's a synapse. No
two programs write to the same place: results repeat. Time grows with the synapses and the width of their windows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_STEPS = 128


@triton.jit
def _sums_kernel(
    source, kernel, lag, other, order, starts, out, sources, targets, width, length, out_length,
    ORDERED: tl.constexpr, BACK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """out[n, i, t] = sum over the synapses s of i, sum_m kernel[s, m] source[n, other[s], t - lag[s] - m]; BACK: + instead.
    The synapses of i are starts[i] ... starts[i + 1] - 1 of `order`, or of the list itself if it is ORDERED."""
    n = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1)
    t = tl.program_id(0) * STEPS + tl.arange(0, STEPS)
    total = tl.zeros((STEPS,), out.dtype.element_ty)
    for place in range(tl.load(starts + i), tl.load(starts + i + 1)):
        s = n * 0 + place  # 64 bits
        if not ORDERED:
            s = tl.load(order + place)
        row = source + (n * sources + tl.load(other + s)) * length
        at = t - tl.load(lag + s)
        if BACK:
            at = t + tl.load(lag + s)
        for m in range(width):
            inside = (at >= 0) & (at < length)
            total += tl.load(kernel + s * width + m) * tl.load(row + at, inside, 0)
            if BACK:
                at += 1
            else:
                at -= 1
    tl.store(out + (n * targets + i) * out_length + t, total, t < out_length)


@triton.jit
def _taps_kernel(
    trains, grad, lag, senders, receivers, out, samples, inputs, outputs, width, length, steps, STEPS: tl.constexpr
):
    """out[s, m] = sum_{n, t} grad[n, receiver, t] trains[n, sender, t - lag[s] - m]."""
    s = tl.program_id(0).to(tl.int64)
    m = tl.program_id(1)
    later = tl.load(lag + s) + m
    sender, receiver = tl.load(senders + s), tl.load(receivers + s)
    total = tl.zeros((STEPS,), tl.float64)
    for n in range(samples):
        row = trains + (sender + (s * 0 + n) * inputs) * length  # 64 bits
        g = grad + (receiver + (s * 0 + n) * outputs) * steps
        for first in range(0, steps, STEPS):
            t = first + tl.arange(0, STEPS)
            at = t - later
            inside = (t < steps) & (at >= 0) & (at < length)
            total += (tl.load(g + t, inside, 0) * tl.load(row + at, inside, 0)).to(tl.float64)
    tl.store(out + s * width + m, tl.sum(total, 0))


def _by_unit(sequence: Tensor) -> Tensor:
    """[T, N, units] -> [N, units, T]."""
    return sequence.detach().permute(1, 2, 0).contiguous()


def _pointers(sorted_units: Tensor, count: int) -> Tensor:
    return torch.searchsorted(sorted_units, torch.arange(count + 1, device=sorted_units.device))


def _sums(
    source: Tensor, kernel: Tensor, lag: Tensor, other: Tensor, order: Tensor | None, starts: Tensor, steps: int, back: bool
) -> Tensor:
    (samples, sources, length), targets = source.shape, starts.shape[0] - 1
    out = source.new_empty(samples, targets, steps)
    if not out.numel():
        return out.permute(2, 0, 1).contiguous()
    lag = lag.clamp(max=max(length, steps))  # what is longer reaches nothing
    with torch.cuda.device_of(source):
        _sums_kernel[triton.cdiv(steps, _STEPS), targets, samples](
            source, kernel.detach().contiguous(), lag, other.contiguous(), lag if order is None else order, starts, out,
            sources, targets, kernel.shape[1], length, steps, order is None, back, _STEPS, num_warps=4,
        )  # fmt: skip
    return out.permute(2, 0, 1).contiguous()


def forward(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, steps: int
) -> Tensor:
    """``[steps, N, out]``."""
    return _sums(_by_unit(trains), kernel, lag, senders, None, _pointers(receivers, out_features), steps, back=False)


def backward(
    grad: Tensor, trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor,
    for_trains: bool, for_kernel: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of trains and kernel; empty where not asked for."""
    g, g_trains, g_kernel = _by_unit(grad), trains.new_empty(0), trains.new_empty(0)
    if for_trains:
        order = torch.argsort(senders, stable=True)
        starts = _pointers(senders[order], trains.shape[2])
        g_trains = _sums(g, kernel, lag, receivers, order, starts, trains.shape[0], back=True)
    if for_kernel:
        met = torch.zeros(kernel.shape, dtype=torch.float64, device=kernel.device)
        x, (steps, samples, outputs) = _by_unit(trains), grad.shape
        if met.numel() and x.numel() and g.numel():
            with torch.cuda.device_of(g):
                _taps_kernel[tuple(kernel.shape)](
                    x, g, lag.clamp(max=max(steps, x.shape[2])), senders.contiguous(), receivers.contiguous(), met, samples,
                    x.shape[1], outputs, kernel.shape[1], x.shape[2], steps, _STEPS, num_warps=4,
                )  # fmt: skip
        g_kernel = met.to(kernel.dtype)
    return g_trains, g_kernel
