"""The exact scheme's launches."""

from __future__ import annotations

import torch
from torch import Tensor

from ..neuron import Neuron
from . import exact_adjoint_kernels, exact_kernels, peak_kernels
from .flow import exact_constants
from .lanes import LANES, blocks, lanes_of_layer
from .spikes import Found
from .tables import (
    Events,
    EventTable,
    Sums,
    Synapses,
    SynapseTable,
    by_unit,
    event_table,
    exact_steps,
    joined,
    spike_lists,
    synapse_table,
)

_NODES = 8  # spikes of a recurrent layer in a sample, per neuron, that there is room for at first


class Buckets:
    """What the arrivals of every step amount to at its end, and their chains (-1: empty)."""

    def __init__(
        self, samples: int, nodes: int, steps: int, n_out: int, inhibited: bool, chained: bool, device: torch.device
    ) -> None:
        shape = samples, steps, n_out
        self.current, self.voltage = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(2))
        self.inhibition = torch.zeros(shape if inhibited else 0, dtype=torch.float64, device=device)
        self.head = torch.full(shape if chained else (0,), -1, dtype=torch.int32, device=device)
        self.chain = torch.empty((nodes, n_out) if chained else 0, dtype=torch.int32, device=device)

    def all(self) -> tuple[Tensor, ...]:
        return self.current, self.voltage, self.inhibition, self.head, self.chain


class Adjoint:
    """p_V and p_I at the end of every step; the first spike of a neuron in every step; times, next spikes and jumps of the
    spikes neuron by neuron."""

    def __init__(self, samples: int, steps: int, n_out: int, times: Tensor, follow: Tensor) -> None:
        shape = samples, steps, n_out
        self.p = [torch.empty(shape, dtype=torch.float64, device=times.device) for _ in range(2)]
        self.first = torch.empty(shape, dtype=torch.int32, device=times.device)
        self.times, self.follow, self.mu = times, follow, torch.empty_like(times)

    def all(self) -> tuple[Tensor, ...]:
        return *self.p, self.first, self.follow, self.times, self.mu


class ExactScheme:
    """A layer: synapses, of the layer to itself too if it is recurrent, and neurons."""

    def __init__(self, layer: Synapses, recurrent: Synapses | None, neuron: Neuron) -> None:
        self.layer, self.recurrent, self.neuron = layer, recurrent, neuron
        self.device, self.n_out = layer.weight.device, layer.shape[1]
        self.constants = exact_constants(neuron, self.device)
        self.table = synapse_table(layer, neuron)
        self.forward_bytes = 28 * neuron.steps * self.n_out, 4 * self.n_out  # of a sample, of an event
        self.backward_bytes = 20 * neuron.steps * self.n_out, 0
        if recurrent is not None:
            self.table_r = synapse_table(recurrent, neuron)
            self.forward_bytes = self.forward_bytes[0] + 4 * _NODES * self.n_out**2, self.forward_bytes[1]

    def _events(self, events: Events) -> EventTable:
        return event_table(events.times, events.units, exact_steps(events.times, self.neuron.dt), self.neuron)

    def spikes(self, part: Events, capacity: int, max_spikes: int) -> Found:
        if self.recurrent is not None:
            return self._recurrent_spikes(part, capacity, max_spikes)
        samples, steps, n_out = part.batch_size, self.neuron.steps, self.n_out
        inhibited = bool((self.layer.weight < 0).any())
        buckets = Buckets(samples, part.times.numel(), steps, n_out, inhibited, True, self.device)
        self._scatter(part, _ranges(part, 0), buckets, self.layer, self.table, inhibited, True)
        found = Found.room(samples, capacity, n_out, self.device)
        exact_kernels.lif_kernel[samples, blocks(n_out)](
            *buckets.all(),
            part.times,
            part.units,
            *self.layer,
            self.constants,
            found.times,
            found.slope,
            found.count,
            steps,
            n_out,
            capacity,
            max_spikes,
            inhibited,
            LANES,
            num_warps=1,
        )
        return found

    def _recurrent_spikes(self, part: Events, capacity: int, max_spikes: int) -> Found:
        samples, steps, (n_in, n_out) = part.batch_size, self.neuron.steps, self.layer.shape
        both = joined(self.layer, self.recurrent)
        table = synapse_table(both, self.neuron)
        inhibited = bool((both.weight < 0).any())
        found = Found.room(samples, capacity, n_out, self.device)
        room = _NODES * n_out
        while True:
            nodes, ranges = _with_room(part, room)
            buckets = Buckets(samples, nodes.times.numel(), steps, n_out, inhibited, True, self.device)
            self._scatter(nodes, ranges, buckets, both, table, inhibited, True)
            sent = torch.empty(samples, dtype=torch.int64, device=self.device)
            exact_kernels.recurrent_kernel[(samples,)](
                *buckets.all(),
                ranges,
                nodes.times,
                nodes.units,
                *both,
                table.position,
                table.k,
                table.es,
                self.constants,
                found.times,
                found.slope,
                found.count,
                sent,
                steps,
                n_in,
                n_out,
                capacity,
                room,
                max_spikes,
                inhibited,
                **lanes_of_layer(n_out, registers=128),
            )
            if int(sent.max()) < room or int(found.count.max()) > max_spikes:
                return found
            room *= 4

    def voltage(self, part: Events, voltage: Tensor, final: Tensor) -> None:
        """voltage [T, samples, out] gets V every `every` steps, final [samples, out, 2] (V, I) at the end."""
        samples, steps, n_out = part.batch_size, self.neuron.steps, self.n_out
        buckets = Buckets(samples, 0, steps, n_out, False, False, self.device)
        self._scatter(part, _ranges(part, 0), buckets, self.layer, self.table, False, False)
        exact_kernels.li_kernel[samples, blocks(n_out)](
            buckets.current,
            buckets.voltage,
            self.constants,
            voltage,
            final,
            steps,
            self.neuron.every,
            voltage.shape[0],
            n_out,
            voltage.stride(1),
            voltage.stride(0),
            LANES,
            num_warps=1,
        )

    def peaks(self, part: Events, peak: Tensor, time: Tensor, event: Tensor, slope: Tensor) -> None:
        """The largest V [samples, out] of the readout, its time, the event (of the part) of a kink there, V' before it."""
        samples, steps, n_out = part.batch_size, self.neuron.steps, self.n_out
        buckets = Buckets(samples, part.times.numel(), steps, n_out, True, True, self.device)
        self._scatter(part, _ranges(part, 0), buckets, self.layer, self.table, True, True)
        peak_kernels.peak_kernel[samples, blocks(n_out)](
            *buckets.all(),
            part.times,
            part.units,
            *self.layer,
            self.constants,
            peak,
            time,
            event,
            slope,
            steps,
            n_out,
            LANES,
            num_warps=1,
        )

    def _scatter(
        self,
        events: Events,
        ranges: Tensor,
        buckets: Buckets,
        layer: Synapses,
        table: SynapseTable,
        inhibited: bool,
        chained: bool,
    ) -> None:
        of_events = self._events(events)
        exact_kernels.scatter_kernel[ranges.shape[0], blocks(self.n_out)](
            *of_events[1:],
            ranges,
            table.position,
            table.k,
            table.es,
            layer.weight,
            self.constants,
            *buckets.all(),
            self.neuron.steps,
            self.n_out,
            inhibited,
            chained,
            LANES,
            num_warps=1,
        )

    def adjoint(self, spikes: Events, of_spikes: list[Tensor], source: Tensor, end: Tensor, before: Tensor) -> Adjoint:
        """of_spikes: slope, dL/dt, dL/dpotential; source [T, samples, out]: dL/dV every `every` steps, or no rows; end
        [samples, out, 2]: dL/d(V, I) at the end; before [samples, out] gets the sums of p_V before the spikes."""
        samples, steps, n_out = spikes.batch_size, self.neuron.steps, self.n_out
        order, start = spike_lists(spikes, n_out)
        step = exact_steps(spikes.times, self.neuron.dt).clamp(max=steps - 1)
        adjoint = Adjoint(samples, steps, n_out, spikes.times[order], _follow(spikes, step, order, n_out))
        if self.recurrent is None:
            exact_adjoint_kernels.adjoint_kernel[samples, blocks(n_out)](
                start,
                step[order],
                adjoint.times,
                *(x[order] for x in of_spikes),
                end,
                source,
                self.constants,
                *adjoint.p,
                adjoint.first,
                adjoint.mu,
                before,
                steps,
                self.neuron.every,
                n_out,
                source.shape[0],
                source.stride(1),
                source.stride(0),
                source.shape[0] > 0,
                LANES,
                num_warps=1,
            )
            return adjoint
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel(), device=self.device)
        of_events = event_table(spikes.times, spikes.units, step, self.neuron)
        exact_adjoint_kernels.recurrent_adjoint_kernel[(samples,)](
            spikes.offsets,
            place,
            spikes.units,
            step,
            *of_events.arrivals(),
            self.table_r.position,
            self.recurrent.delay,
            self.table_r.em,
            self.table_r.k,
            self.table_r.es,
            self.recurrent.weight,
            *of_spikes,
            start,
            step[order],
            adjoint.times,
            adjoint.follow,
            self.constants,
            *adjoint.p,
            adjoint.first,
            adjoint.mu,
            before,
            steps,
            n_out,
            **lanes_of_layer(n_out, registers=96),
        )
        return adjoint

    def gather(self, adjoint: Adjoint, events: Events, sums: Sums, recurrent: bool = False) -> None:
        """Add p at all arrivals of the events, those of the layer itself for its recurrent synapses, to the sums."""
        layer, table = (self.recurrent, self.table_r) if recurrent else (self.layer, self.table)
        n_in, n_out = layer.shape
        order, start, sample = by_unit(events, n_in)
        exact_adjoint_kernels.gather_kernel[n_in, blocks(n_out)](
            start,
            sample,
            *self._arrivals(events, recurrent).arrivals(order),
            table.position,
            layer.delay,
            table.em,
            table.k,
            table.es,
            *adjoint.all(),
            self.constants,
            sums.v,
            sums.i,
            self.neuron.steps,
            n_out,
            LANES,
            num_warps=1,
        )

    def _arrivals(self, events: Events, own: bool) -> EventTable:
        """own: of spikes of the layer, all of which lie in a step."""
        step = exact_steps(events.times, self.neuron.dt)
        step = step.clamp(max=self.neuron.steps - 1) if own else step
        return event_table(events.times, events.units, step, self.neuron)

    def gather_times(self, adjoint: Adjoint, events: Events, grad: Tensor) -> None:
        table = self.table
        exact_adjoint_kernels.gather_times_kernel[(events.times.numel(),)](
            events.units,
            events.samples(),
            *self._arrivals(events, False).arrivals(),
            table.position,
            self.layer.delay,
            table.em,
            table.k,
            table.es,
            self.layer.weight,
            *adjoint.all(),
            self.constants,
            grad,
            self.neuron.steps,
            self.n_out,
            LANES,
            num_warps=1,
        )


def _follow(spikes: Events, step: Tensor, order: Tensor, n_out: int) -> Tensor:
    """Of spikes neuron by neuron: the next one of the same neuron in the same step, or -1."""
    neuron, step = (spikes.samples() * n_out + spikes.units)[order], step[order]
    follow = torch.full_like(order, -1)
    same = (neuron[1:] == neuron[:-1]) & (step[1:] == step[:-1])
    follow[:-1] = torch.where(same, torch.arange(order.numel(), device=order.device)[1:], -1)
    return follow.to(torch.int32)


def _ranges(part: Events, room: int) -> Tensor:
    """Where the events of every sample are, first and last + 1, if each sample's are followed by `room` free places."""
    gaps = torch.arange(part.batch_size, device=part.offsets.device) * room
    return torch.stack([part.offsets[:-1] + gaps, part.offsets[1:] + gaps], 1)


def _with_room(part: Events, room: int) -> tuple[Events, Tensor]:
    """The events with `room` free places after each sample's, and where they are."""
    place = torch.arange(part.times.numel(), device=part.times.device) + part.samples() * room
    size = part.times.numel() + part.batch_size * room
    times, units = part.times.new_zeros(size), part.units.new_zeros(size)
    times[place], units[place] = part.times, part.units
    return Events(times, units, part.offsets), _ranges(part, room)
