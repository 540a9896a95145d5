"""The spikes that a forward pass finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..neuron import Neuron, TooManySpikes
from .tables import Events

_FIRST_CAPACITY = 32  # spikes of a neuron in a sample that there is room for at first


@dataclass
class Found:
    """Spikes of a group of samples: times and slopes [samples, capacity, out], how many there are [samples, out]."""

    times: Tensor
    slope: Tensor
    count: Tensor

    @classmethod
    def room(cls, samples: int, capacity: int, n_out: int, device: torch.device) -> Found:
        times, slope = (torch.empty((samples, capacity, n_out), dtype=torch.float64, device=device) for _ in range(2))
        return cls(times, slope, torch.empty((samples, n_out), dtype=torch.int32, device=device))

    def in_order(self, first: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Time, unit, slope and sample, which counts from `first`, by sample and time."""
        k = torch.arange(self.times.shape[1], device=self.count.device)
        taken = k < self.count[:, :, None]
        sample, unit, _ = taken.nonzero(as_tuple=True)
        times, slope = (x.transpose(1, 2)[taken] for x in (self.times, self.slope))
        order = torch.sort(times, stable=True).indices
        order = order[torch.sort(sample[order], stable=True).indices]
        return times[order], unit[order], slope[order], sample[order] + first


def with_room(find: Callable[[int, int], Found], neuron: Neuron, max_spikes: int, first: int) -> Found:
    """find(capacity, max_spikes), again with enough room if there was too little: no spike is dropped.

    :raises TooManySpikes: of a neuron, as on the CPU.
    """
    found = find(min(_FIRST_CAPACITY, max_spikes), max_spikes)
    most = int(found.count.max())
    if most > max_spikes:
        sample, unit = divmod(int((found.count > max_spikes).flatten().nonzero()[0]), found.count.shape[1])
        raise TooManySpikes(first + sample, unit, neuron.duration, max_spikes)
    return find(most, max_spikes) if most > found.times.shape[1] else found


def joined_spikes(parts: Sequence[tuple[Tensor, ...]], batch_size: int, device: torch.device) -> tuple[Events, Tensor]:
    """Of all groups: spikes and slopes."""
    offsets = torch.zeros(batch_size + 1, dtype=torch.int64, device=device)
    if not parts:
        return Events(offsets.new_empty(0, dtype=torch.float64), offsets[:0], offsets), offsets.new_empty(0).double()
    times, units, slope, sample = (torch.cat(column) for column in zip(*parts, strict=True))
    offsets[1:] = torch.bincount(sample, minlength=batch_size).cumsum(0)
    return Events(times, units, offsets), slope
