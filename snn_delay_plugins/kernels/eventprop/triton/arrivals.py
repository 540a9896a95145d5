"""[N, out]: the sum of w exp(-rate s) over the arrivals s <= duration, which integrals over the readout's V need."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .lanes import LANES, blocks, where_the_events_are
from .sized import sized
from .tables import Events, Synapses, by_unit


@triton.jit
def _discount(t, delay, rate, duration, seen):
    s = t + delay
    return tl.where(seen & (s <= duration), tl.exp(-rate * s), 0.0)


@sized
def _forward_kernel(times, units, offsets, weight, delay, constants, total, n_out, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    rate, duration = tl.load(constants), tl.load(constants + 1)
    x = tl.zeros((BLOCK,), tl.float64)
    for e in range(tl.load(offsets + b), tl.load(offsets + b + 1)):
        synapse = tl.load(units + e) * n_out + j
        y = _discount(tl.load(times + e), tl.load(delay + synapse, inside, 0), rate, duration, inside)
        x += tl.load(weight + synapse, inside, 0) * y
    tl.store(total + b * n_out + j, x, inside)


@sized
def _weight_kernel(start, sample, times, delay, grad, constants, by_weight, n_out, BLOCK: tl.constexpr):
    """dL/dw[i, j]: of the events of input i, in their order."""
    i = tl.program_id(0)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < n_out
    rate, duration = tl.load(constants), tl.load(constants + 1)
    synapse = i.to(tl.int64) * n_out + j
    d = tl.load(delay + synapse, inside, 0)
    x = tl.zeros((BLOCK,), tl.float64)
    for e in range(tl.load(start + i), tl.load(start + i + 1)):
        g = tl.load(grad + tl.load(sample + e) * n_out + j, inside, 0)
        x += g * _discount(tl.load(times + e), d, rate, duration, inside)
    tl.store(by_weight + synapse, x, inside)


@sized
def _times_kernel(units, sample, times, weight, delay, grad, constants, by_time, n_out, BLOCK: tl.constexpr):
    """dL/dt of event e."""
    e = tl.program_id(0)
    rate, duration = tl.load(constants), tl.load(constants + 1)
    i, b, t = tl.load(units + e), tl.load(sample + e), tl.load(times + e)
    x = tl.zeros((BLOCK,), tl.float64)
    for j0 in range(0, n_out, BLOCK):
        j = j0 + tl.arange(0, BLOCK)
        inside = j < n_out
        w = tl.load(weight + i * n_out + j, inside, 0)
        g = tl.load(grad + b * n_out + j, inside, 0)
        x -= g * w * rate * _discount(t, tl.load(delay + i * n_out + j, inside, 0), rate, duration, inside)
    tl.store(by_time + e, tl.sum(x, 0))


@where_the_events_are
def arrivals_forward(events: Events, layer: Synapses, rate: float, duration: float) -> Tensor:
    n_out = layer.shape[1]
    total = layer.weight.new_empty(events.batch_size, n_out)
    if total.numel():
        times, units, offsets, _ = events
        constants = _constants(rate, duration, total)
        _forward_kernel[events.batch_size, blocks(n_out)](
            times, units, offsets, *layer, constants, total, n_out, LANES, num_warps=1
        )
    return total


@where_the_events_are
def arrivals_backward(
    events: Events, layer: Synapses, rate: float, duration: float, grad: Tensor, need_times: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """By weights and delays [out, in], by times (empty if not asked for)."""
    n_in, n_out = layer.shape
    constants = _constants(rate, duration, grad)
    by_weight = torch.zeros_like(layer.weight)
    by_time = grad.new_empty(events.times.numel() if need_times else 0)
    if events.times.numel():
        order, start, sample = by_unit(events, n_in)
        _weight_kernel[n_in, blocks(n_out)](
            start, sample, events.times[order], layer.delay, grad, constants, by_weight, n_out, LANES, num_warps=1
        )
        if need_times:
            _times_kernel[(events.times.numel(),)](
                events.units, events.samples(), events.times, *layer, grad, constants, by_time, n_out, LANES, num_warps=1
            )
    return by_weight.t().contiguous(), (-rate * layer.weight * by_weight).t().contiguous(), by_time


def _constants(rate: float, duration: float, like: Tensor) -> Tensor:
    return torch.tensor([rate, duration], dtype=torch.float64, device=like.device)
