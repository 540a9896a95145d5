"""Whole delays over a list of synapses on the CPU, as torch operators: ``snn_delay_plugins::sparse_delayed_linear`` and
its single step. Shapes: :mod:`snn_delay_plugins.functional.sparse_delay`."""
from __future__ import annotations

import torch
from torch import Tensor

from .compiled import njit
from .threads import over_ranges

__all__ = ["sparse_delayed_linear", "sparse_delayed_linear_step"]


@torch.library.custom_op("snn_delay_plugins::sparse_delayed_linear", mutates_args=())
def sparse_delayed_linear(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, out_features: int, steps: int
) -> Tensor:
    """Currents ``[steps, N, out]`` of spikes ``[T, N, in]``."""
    out = spikes.new_zeros(steps, spikes.shape[1], out_features)
    arrays = [x.detach().contiguous().numpy() for x in (spikes, starts, targets, delays, weights)]
    over_ranges(lambda first, last: _sequence(first, last, *arrays, out.numpy()), spikes.shape[1])
    return out


@sparse_delayed_linear.register_fake
def _(spikes, starts, targets, delays, weights, out_features, steps):
    return spikes.new_empty(steps, spikes.shape[1], out_features)


@torch.library.custom_op("snn_delay_plugins::sparse_delayed_linear_step", mutates_args=("pending",))
def sparse_delayed_linear_step(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, pending: Tensor, now: int
) -> None:
    """Add the currents of spikes ``[N, in]`` to the ring ``pending`` ``[slots, N, out]``, whose entry of now is
    ``now``."""
    arrays = [x.detach().contiguous().numpy() for x in (spikes, starts, targets, delays, weights)]
    over_ranges(lambda first, last: _step(first, last, *arrays, pending.detach().numpy(), now), spikes.shape[0])


@sparse_delayed_linear_step.register_fake
def _(spikes, starts, targets, delays, weights, pending, now):
    return None


@njit(cache=True, nogil=True)
def _sequence(first, last, spikes, starts, targets, delays, weights, out):
    for n in range(first, last):
        for t in range(spikes.shape[0]):
            for j in range(spikes.shape[2]):
                size = spikes[t, n, j]
                if size != 0:
                    for s in range(starts[j], starts[j + 1]):
                        arrival = t + delays[s]
                        if arrival < out.shape[0]:
                            out[arrival, n, targets[s]] += size * weights[s]


@njit(cache=True, nogil=True)
def _step(first, last, spikes, starts, targets, delays, weights, pending, now):
    slots = pending.shape[0]
    for n in range(first, last):
        for j in range(spikes.shape[1]):
            size = spikes[n, j]
            if size != 0:
                for s in range(starts[j], starts[j + 1]):
                    pending[(now + delays[s]) % slots, n, targets[s]] += size * weights[s]
