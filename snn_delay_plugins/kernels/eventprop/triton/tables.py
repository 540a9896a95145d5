"""What the kernels need to know of synapses, events and spikes, as tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ....bins import FLOAT64, step_of
from ..neuron import Neuron
from .flow import difference

_FRACTION = 2.0**32


class Events(NamedTuple):
    """Events of a batch: times float64 [n], units int64 [n], offsets int64 [N + 1]; eps: of the dtype that the times came
    in (:mod:`snn_delay_plugins.bins`)."""

    times: Tensor
    units: Tensor
    offsets: Tensor
    eps: float | Tensor = FLOAT64

    @property
    def batch_size(self) -> int:
        return self.offsets.numel() - 1

    def part(self, lo: int, hi: int) -> Events:
        """Samples lo .. hi - 1."""
        e0, e1 = self.offsets[lo].item(), self.offsets[hi].item()
        return Events(self.times[e0:e1], self.units[e0:e1], self.offsets[lo : hi + 1] - e0, self.eps)

    def samples(self) -> Tensor:
        """The sample of each event."""
        return torch.repeat_interleave(
            torch.arange(self.batch_size, device=self.offsets.device), self.offsets.diff(), output_size=self.times.numel()
        )


class Synapses(NamedTuple):
    """Weights and delays [in, out] in float64: the neurons of a program lie side by side."""

    weight: Tensor
    delay: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.weight.shape)


def synapses(weight: Tensor, delay: Tensor) -> Synapses:
    """Of weights [out, in] and delays that broadcast to them."""
    return Synapses(*(x.detach().expand(weight.shape).t().to(torch.float64).contiguous() for x in (weight, delay)))


def joined(layer: Synapses, recurrent: Synapses) -> Synapses:
    """Spikes of the layer itself as further inputs, units in .. in + out - 1."""
    return Synapses(*(torch.cat(pair) for pair in zip(layer, recurrent, strict=True)))


SHARE_OF_CARD = 1 / 32
"""Of its memory, for the buffers of one layer's pass; ``benchmarks/on_gpu.py`` measures others."""


def groups(events: Events, per_sample: int, per_event: int, budget: int) -> Iterator[tuple[int, int]]:
    """Runs of samples whose buffers, so many bytes per sample and per event, fit into the budget, on a card into a share of
    its memory where that is more; at least one each. A program is 32 neurons of a sample, and a card holds thousands."""
    if events.times.is_cuda:
        budget = max(budget, int(SHARE_OF_CARD * torch.cuda.get_device_properties(events.times.device).total_memory))
    lo, size = 0, 0
    for b, count in enumerate(events.offsets.diff().tolist()):
        more = per_sample + per_event * count
        if b > lo and size + more > budget:
            yield lo, b
            lo, size = b, 0
        size += more
    if events.batch_size > lo:
        yield lo, events.batch_size


class Sums:
    """(p_V, p_I) added up over the arrivals of every synapse [in, out]."""

    def __init__(self, layer: Synapses) -> None:
        self.v, self.i = torch.zeros_like(layer.weight), torch.zeros_like(layer.weight)

    def gradients(self, layer: Synapses, neuron: Neuron) -> tuple[Tensor, Tensor]:
        """dL/dw = sum p_I (Eq. 5), dL/dd = w sum (p_I / tau_s - p_V / tau_m) (Eq. 6), [out, in]."""
        by_delay = layer.weight * (self.i / neuron.tau_syn - self.v / neuron.tau_mem)
        return self.i.t().contiguous(), by_delay.t().contiguous()


class ByUnit(NamedTuple):
    """Events by unit, over all samples: order, pointers [units + 1], sample of each."""

    order: Tensor
    start: Tensor
    sample: Tensor


def by_unit(events: Events, n_units: int) -> ByUnit:
    order = torch.argsort(events.units, stable=True)
    return ByUnit(order, _pointers(events.units, n_units), events.samples()[order])


def _pointers(keys: Tensor, size: int) -> Tensor:
    start = torch.zeros(size + 1, dtype=torch.int64, device=keys.device)
    start[1:] = torch.bincount(keys, minlength=size).cumsum(0)
    return start


class SpikeLists(NamedTuple):
    """Spikes of every neuron of every sample, one list after the other: order, pointers [N * out + 1]."""

    order: Tensor
    start: Tensor


def spike_lists(spikes: Events, n_out: int) -> SpikeLists:
    keys = spikes.samples() * n_out + spikes.units
    return SpikeLists(torch.argsort(keys, stable=True), _pointers(keys, spikes.batch_size * n_out))


# ------------------------------------------------------------------------------------------------ grid scheme


def grid_steps(events: Events, dt: float) -> Tensor:
    """The step in which each spike acts."""
    return step_of(events.times, dt, events.eps)


def grid_delays(layer: Synapses, neuron: Neuron) -> Tensor:
    """In steps, at most the length of the sample."""
    return torch.floor(layer.delay / neuron.dt + 0.5).clamp(max=neuron.steps).to(torch.int64)


# ------------------------------------------------------------------------------------------------ exact scheme


class EventTable(NamedTuple):
    """Of every event: time, unit, position and P(2 dt - ft) as (em, K, es)."""

    times: Tensor
    units: Tensor
    position: Tensor
    em: Tensor
    k: Tensor
    es: Tensor

    def arrivals(self, order: Tensor | None = None) -> tuple[Tensor, ...]:
        """Time, position and factors, in an order."""
        columns = self.times, self.position, self.em, self.k, self.es
        return columns if order is None else tuple(x[order] for x in columns)


class SynapseTable(NamedTuple):
    """Of every synapse: position and P(-fd) as (em, K, es)."""

    position: Tensor
    em: Tensor
    k: Tensor
    es: Tensor


def exact_steps(times: Tensor, dt: float) -> Tensor:
    """n with n dt <= t < (n + 1) dt, in floating point."""
    n = torch.floor(times / dt)
    n = torch.where(n * dt > times, n - 1, n)
    return torch.where((n + 1) * dt <= times, n + 1, n).to(torch.int64)


def event_table(times: Tensor, units: Tensor, step: Tensor, neuron: Neuron) -> EventTable:
    """step: the one that holds each event."""
    dt = neuron.dt
    fraction = (times - step * dt).clamp(0, dt)
    position = (step << 33) + (fraction / dt * _FRACTION).to(torch.int64).clamp(max=(1 << 32) - 1)
    return EventTable(times, units, position, *_propagator(2 * dt - fraction, neuron))


def synapse_table(layer: Synapses, neuron: Neuron) -> SynapseTable:
    dt, steps = neuron.dt, neuron.steps
    whole = torch.floor((layer.delay / dt).clamp(max=steps))
    fraction = (layer.delay.clamp(max=steps * dt) - whole * dt).clamp(min=0)
    position = (whole.to(torch.int64) << 33) + ((fraction / dt * 2.0**30).to(torch.int64) << 2)
    return SynapseTable(position, *_propagator(-fraction, neuron))


def _propagator(h: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor, Tensor]:
    delta, gain, equal = difference(neuron)
    em = torch.exp(-h / neuron.tau_mem)
    q = torch.expm1(h * delta)
    return em, em * (q * gain + h * equal), em + em * q
