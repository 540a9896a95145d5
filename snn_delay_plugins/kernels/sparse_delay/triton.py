"""Whole delays over a list of synapses on CUDA. The list is by sender; a program owns the currents of one receiver of some
samples and goes through the receiver's synapses, in the order of the list: results repeat, without atomics.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..checks import check_synapse_list

_STEPS, _SAMPLES = 128, 32


@triton.jit
def _sequence_kernel(
    spikes, starts, order, senders, delays, weights, out, inputs, receivers, length, steps, STEPS: tl.constexpr
):
    """out[n, i, t] = sum over the synapses s of i: weights[s] spikes[n, sender, t - delays[s]]."""
    n = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1)
    t = tl.program_id(0) * STEPS + tl.arange(0, STEPS)
    total = tl.zeros((STEPS,), out.dtype.element_ty)
    for place in range(tl.load(starts + i), tl.load(starts + i + 1)):
        s = tl.load(order + place)
        at = t - tl.load(delays + s)
        train = spikes + (n * inputs + tl.load(senders + s)) * length
        total += tl.load(weights + s) * tl.load(train + at, (at >= 0) & (at < length), 0)
    tl.store(out + (n * receivers + i) * steps + t, total, t < steps)


@triton.jit
def _step_kernel(
    spikes, starts, order, senders, delays, weights, pending, samples, inputs, receivers, slots, now, SAMPLES: tl.constexpr
):
    """pending[(now + delays[s]) % slots, n, i] += weights[s] spikes[n, sender]."""
    i = tl.program_id(0)
    n = tl.program_id(1).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    inside = n < samples
    for place in range(tl.load(starts + i), tl.load(starts + i + 1)):
        s = tl.load(order + place)
        slot = (now + tl.load(delays + s)) % slots
        at = pending + (slot * samples + n) * receivers + i
        spike = tl.load(spikes + n * inputs + tl.load(senders + s), inside, 0)
        tl.store(at, tl.load(at, inside, 0) + tl.load(weights + s) * spike, inside)


_prepared: OrderedDict[tuple, tuple[Tensor, ...]] = OrderedDict()
_KEPT = 16  # lists: a network of discrete layers that takes one step after another


def _by_receiver(synapses: tuple[Tensor, ...], receivers: int, longest: int) -> tuple[Tensor, ...]:
    """Where the synapses of every receiver begin in the order that is second, then their senders. Looking at a list waits
    for the device: done once, as long as nobody changes the list.

    :raises ValueError: for a list that does not fit.
    """
    starts, targets, delays, weights = synapses
    of_list = (starts, targets, delays)
    known = not any(x.is_inference() for x in of_list)  # which count no changes
    key = (receivers, longest, *((x.data_ptr(), x._version, x.shape, x.stride()) for x in of_list)) if known else ()
    if known and key in _prepared:
        _prepared.move_to_end(key)
        return _prepared[key][:3]
    check_synapse_list(starts, targets, delays, weights, receivers, longest)
    order = torch.argsort(targets, stable=True)
    first = torch.searchsorted(targets[order].long(), torch.arange(receivers + 1, device=targets.device))
    senders = torch.repeat_interleave(
        torch.arange(starts.shape[0] - 1, device=targets.device), starts.diff(), output_size=targets.shape[0]
    )
    if known:  # the list is kept too: no other one gets its memory
        _prepared[key] = (first, order, senders, *of_list)
        if len(_prepared) > _KEPT:
            _prepared.popitem(last=False)
    return first, order, senders


def sequence(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, out_features: int, steps: int,
    longest: int,
) -> Tensor:  # fmt: skip
    """Currents ``[steps, N, out]``. :raises ValueError: for a list that does not fit."""
    length, samples, inputs = spikes.shape
    by_receiver = _by_receiver((starts, targets, delays, weights), out_features, longest)
    out = spikes.new_empty(samples, out_features, steps)
    if out.numel():
        trains = spikes.detach().permute(1, 2, 0).contiguous()
        with torch.cuda.device_of(spikes):
            _sequence_kernel[triton.cdiv(steps, _STEPS), out_features, samples](
                trains, *by_receiver, delays.contiguous(), weights.detach().contiguous(),
                out, inputs, out_features, length, steps, _STEPS, num_warps=4,
            )  # fmt: skip
    return out.permute(2, 0, 1).contiguous()


def step(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, pending: Tensor, now: int
) -> None:
    """Adds to the ring ``pending``, which is contiguous. :raises ValueError: for a list that does not fit."""
    slots, samples, receivers = pending.shape
    by_receiver = _by_receiver((starts, targets, delays, weights), receivers, slots - 1)
    if not pending.numel():
        return
    with torch.cuda.device_of(spikes):
        _step_kernel[receivers, triton.cdiv(samples, _SAMPLES)](
            spikes.detach().contiguous(), *by_receiver, delays.contiguous(),
            weights.detach().contiguous(), pending, samples, spikes.shape[1], receivers, slots, now, _SAMPLES, num_warps=1,
        )  # fmt: skip
