"""Layers of linear neurons, forward and backward, in groups of samples whose buffers fit into a workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...neuron import refuse_overflow
from ...triton.lanes import LANES, blocks, lanes_of_layer, where_the_events_are
from ...triton.spikes import with_room
from ...triton.tables import Events, Synapses, by_unit, groups, joined, spike_lists
from . import adjoint_kernels, constants_kernels, forward_kernels

WORKSPACE = 1 << 28  # bytes that the buffers of a group of samples may take at least, where a sample takes less
_NODES = 8  # spikes of a recurrent layer in a sample, per neuron, that there is room for at first
_CELL, _CHAINED, _CELL_BACK, _CELL_STATES = 72, 4, 28, 24  # bytes of a step of a neuron
_MOMENTS, _ROWS = 8, 7


@dataclass
class Neurons:
    """Columns of the neurons (:mod:`.flow`), the same as rows [rows, out], numbers of the layer, steps."""

    columns: Tensor
    rows: Tensor
    numbers: Tensor
    steps: int
    duration: float

    @classmethod
    def of(cls, layer, device: torch.device) -> Neurons:
        """layer: :class:`..tables.Layer`."""
        k = layer.constants
        M, P, C, _b, _c, J, r, theta, rest, taylor, curvature, _slope = (torch.tensor(x) for x in layer.tables)
        n_out = theta.shape[0]
        tables = (
            *(x.movedim(1, -1) for x in (M, P, C.transpose(-1, -2))),
            *(x.movedim(0, -1) for x in (J, r, theta, rest, curvature, taylor)),
        )
        rows = torch.cat([x.reshape(-1, n_out) for x in tables])
        columns = torch.nn.functional.pad(rows, (0, -n_out % LANES)).view(rows.shape[0], -1, LANES).movedim(0, 1)
        numbers = torch.tensor([layer.h, 1 / layer.h, layer.duration, *k.B.tolist()], dtype=torch.float64)
        return cls(columns.contiguous().to(device), rows.to(device), numbers.to(device), layer.steps, layer.duration)


class Buckets:
    """Moments, inhibition and chains of the arrivals of every step (:mod:`.forward_kernels`)."""

    def __init__(self, nodes: Events, ranges: Tensor, synapses: Synapses, neurons: Neurons, inhibited: bool) -> None:
        samples, n_out, device = ranges.shape[0], synapses.shape[1], ranges.device
        shape = samples, neurons.steps, n_out
        self.moments = torch.zeros((*shape, _MOMENTS), dtype=torch.float64, device=device)
        self.inhibition = torch.zeros(shape if inhibited else 0, dtype=torch.float64, device=device)
        self.head = torch.full(shape, -1, dtype=torch.int32, device=device)
        self.chain = torch.empty((nodes.times.numel(), n_out), dtype=torch.int32, device=device)
        forward_kernels.scatter_kernel[samples, blocks(n_out)](
            nodes.times, nodes.units, ranges, *synapses, neurons.numbers, *self.all(), neurons.steps, n_out, inhibited,
            LANES, num_warps=1,
        )  # fmt: skip

    def all(self) -> tuple[Tensor, ...]:
        return self.moments, self.inhibition, self.head, self.chain


@dataclass
class Spikes:
    """Of a layer, by sample and time: the events, x before the jump and at the end of the refractory period [spikes, 3]."""

    events: Events
    before: Tensor
    at_ready: Tensor


@dataclass
class _Found:
    """Of a group of samples: rows of spikes [samples, capacity, 7, out], how many there are [samples, out]; the last
    states' sizes."""

    rows: Tensor
    count: Tensor
    final: Tensor

    @classmethod
    def room(cls, samples: int, capacity: int, n_out: int, device: torch.device) -> _Found:
        rows = torch.empty((samples, capacity, _ROWS, n_out), dtype=torch.float64, device=device)
        count = torch.empty((samples, n_out), dtype=torch.int32, device=device)
        return cls(rows, count, torch.empty((samples, n_out), dtype=torch.float64, device=device))

    @property
    def times(self) -> Tensor:
        return self.rows[:, :, 0]

    def in_order(self, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [spikes, 7], unit and sample, which counts from ``first``, by sample and time."""
        taken = torch.arange(self.rows.shape[1], device=self.count.device) < self.count[:, :, None]
        sample, unit, _ = taken.nonzero(as_tuple=True)
        rows = self.rows.permute(0, 3, 1, 2)[taken]
        order = torch.sort(rows[:, 0], stable=True).indices
        order = order[torch.sort(sample[order], stable=True).indices]
        return rows[order], unit[order], sample[order] + first


@where_the_events_are
def forward_pass(events: Events, synapses: Synapses, recurrent: Synapses | None, layer, max_spikes: int) -> Spikes:
    """Spikes of all samples.

    :raises TooManySpikes, RuntimeError: as :func:`..cpu.forward_pass`.
    """
    device, n_out = events.times.device, synapses.shape[1]
    neurons = Neurons.of(layer, device)
    per_sample = (_CELL + _CHAINED) * neurons.steps * n_out + (0 if recurrent is None else 4 * _NODES * n_out**2)
    parts = []
    for lo, hi in groups(events, per_sample, 4 * n_out, WORKSPACE):
        part = events.part(lo, hi)

        def find(capacity: int, most: int, part: Events = part) -> _Found:
            return _spikes(part, synapses, recurrent, neurons, capacity, most)

        found = with_room(find, neurons, max_spikes, lo)
        if not bool(found.final.isfinite().all()):
            sample, unit = divmod(int(found.final.isfinite().logical_not().flatten().nonzero()[0]), n_out)
            refuse_overflow(lo + sample, unit)
        parts.append(found.in_order(lo))
    offsets = torch.zeros(events.batch_size + 1, dtype=torch.int64, device=device)
    if not parts:
        rows, units = offsets.new_empty((0, _ROWS), dtype=torch.float64), offsets.new_empty(0)
    else:
        rows, units, sample = (torch.cat(x) for x in zip(*parts, strict=True))
        offsets[1:] = torch.bincount(sample, minlength=events.batch_size).cumsum(0)
    times, before, at_ready = (x.clone(memory_format=torch.contiguous_format) for x in rows.split([1, 3, 3], 1))
    return Spikes(Events(times[:, 0], units, offsets), before, at_ready)


@where_the_events_are
def readout(events: Events, synapses: Synapses, layer, samples: int) -> tuple[Tensor, Tensor]:
    """Of neurons without threshold: V at the start of every ``layer.steps / samples``-th step [samples, N, out], and x at
    the end [N, out, 3]."""
    device, n_out, n = events.times.device, synapses.shape[1], events.batch_size
    neurons = Neurons.of(layer, device)
    voltage = torch.empty((samples, n, n_out), dtype=torch.float64, device=device)
    final = torch.empty((n, n_out, 3), dtype=torch.float64, device=device)
    for lo, hi in groups(events, (_CELL + _CHAINED) * neurons.steps * n_out, 4 * n_out, WORKSPACE):
        part, of_part = events.part(lo, hi), voltage[:, lo:hi]
        buckets = Buckets(part, _ranges(part, 0), synapses, neurons, False)
        forward_kernels.readout_kernel[hi - lo, blocks(n_out)](
            buckets.moments, neurons.columns, of_part, final[lo:hi], neurons.steps, n_out, *_layout(of_part, neurons.steps),
            LANES, num_warps=1,
        )  # fmt: skip
    return voltage, final


def _spikes(
    part: Events, synapses: Synapses, recurrent: Synapses | None, neurons: Neurons, capacity: int, most: int
) -> _Found:
    samples, (n_in, n_out), device = part.batch_size, synapses.shape, part.times.device
    found = _Found.room(samples, capacity, n_out, device)
    of_found = found.rows, found.count, found.final
    both = synapses if recurrent is None else joined(synapses, recurrent)
    inhibited = bool((both.weight < 0).any())
    if recurrent is None:
        buckets = Buckets(part, _ranges(part, 0), both, neurons, inhibited)
        forward_kernels.spikes_kernel[samples, blocks(n_out)](
            *buckets.all(), part.times, part.units, *both, neurons.columns, neurons.numbers, *of_found, neurons.steps,
            n_out, capacity, most, inhibited, LANES, num_warps=1,
        )  # fmt: skip
        return found
    room = _NODES * n_out
    while True:
        nodes, ranges = _with_room(part, room)
        buckets = Buckets(nodes, ranges, both, neurons, inhibited)
        sent = torch.empty(samples, dtype=torch.int64, device=device)
        forward_kernels.recurrent_kernel[(samples,)](
            *buckets.all(), ranges, nodes.times, nodes.units, *both, neurons.columns, neurons.numbers, *of_found, sent,
            neurons.steps, n_in, n_out, capacity, room, most, inhibited, **lanes_of_layer(n_out),
        )  # fmt: skip
        if int(sent.max()) < room or int(found.count.max()) > most:
            return found
        room *= 4


def _ranges(part: Events, room: int) -> Tensor:
    """Where the events of every sample are, first and last + 1, if each sample's are followed by ``room`` free places."""
    gaps = torch.arange(part.batch_size, device=part.offsets.device) * room
    return torch.stack([part.offsets[:-1] + gaps, part.offsets[1:] + gaps], 1)


def _with_room(part: Events, room: int) -> tuple[Events, Tensor]:
    """The events with ``room`` free places after each sample's, and where they are."""
    place = torch.arange(part.times.numel(), device=part.times.device) + part.samples() * room
    size = part.times.numel() + part.batch_size * room
    times, units = part.times.new_zeros(size), part.units.new_zeros(size)
    times[place], units[place] = part.times, part.units
    return Events(times, units, part.offsets), _ranges(part, room)


# ---------------------------------------------------------------------------------------------------- backward


@dataclass
class Gradients:
    """By weights and delays [out, in], event times, and what belongs to each neuron; None where not asked for."""

    weight: Tensor
    delay: Tensor
    recurrent_weight: Tensor | None
    recurrent_delay: Tensor | None
    times: Tensor
    theta: Tensor
    refractory: Tensor
    M: Tensor
    J: Tensor
    r: Tensor


class Readout(NamedTuple):
    """dL/dV at evenly spaced samples [samples or none, N, out], the first at 0, and dL/dx at the end [N, out, 3]."""

    by_voltage: Tensor
    by_final: Tensor

    @classmethod
    def none(cls, samples: int, n_out: int, like: Tensor) -> Readout:
        return cls(like.new_empty(0, samples, n_out), like.new_zeros(samples, n_out, 3))

    def part(self, lo: int, hi: int) -> Readout:
        return Readout(self.by_voltage[:, lo:hi], self.by_final[lo:hi])

    def layout(self, steps: int) -> tuple[int, int, int, int]:
        """Steps of a sample, samples, and strides."""
        return _layout(self.by_voltage, steps)


def _layout(voltage: Tensor, steps: int) -> tuple[int, int, int, int]:
    samples = voltage.shape[0]
    return steps // max(samples, 1), samples, voltage.stride(1), voltage.stride(0)


class _Adjoint:
    """p and its boundaries in a group of samples (:mod:`.adjoint_kernels`)."""

    def __init__(
        self, spikes: Spikes, g_time: Tensor, g_jump: Tensor, readout: Readout, neurons: Neurons,
        recurrent: Synapses | None,
    ) -> None:  # fmt: skip
        events, n_out, device = spikes.events, neurons.rows.shape[1], spikes.before.device
        samples, steps, count = events.batch_size, neurons.steps, events.times.numel()

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        def numbers(*shape: int) -> Tensor:
            return torch.full(shape, -1, dtype=torch.int32, device=device)

        order, self.start = spike_lists(events, n_out)
        self.units, self.samples = events.units[order], events.samples()[order]
        self.t, self.before, self.at_ready = events.times[order], spikes.before[order], spikes.at_ready[order]
        self.p, self.first = floats(samples, steps, n_out, 3), numbers(samples, steps, n_out)
        self.when, self.step, self.follow, self.above = floats(2 * count), *(numbers(2 * count) for _ in range(3))
        self.at, self.below = floats(2 * count, 3), floats(2 * count, 3)
        self.mu, self.plus, self.by_ready = floats(count), floats(count, 3), floats(count)
        of_spikes = self.t, self.before, self.at_ready, g_time[order], g_jump[order]
        of_layer = neurons.columns, neurons.numbers
        out = (
            self.p, self.first, self.when, self.step, self.follow, self.above, self.at, self.below, self.mu, self.plus,
            self.by_ready,
        )  # fmt: skip
        if recurrent is None:
            adjoint_kernels.adjoint_kernel[samples, blocks(n_out)](
                self.start, *of_spikes, *readout, *of_layer, *out, steps, n_out, *readout.layout(steps),
                len(readout.by_voltage) > 0, LANES, num_warps=1,
            )  # fmt: skip
        else:
            adjoint_kernels.recurrent_adjoint_kernel[(samples,)](
                events.offsets, events.units, events.times, *recurrent, self.start, *of_spikes, *of_layer, *out, steps,
                n_out, **lanes_of_layer(n_out),
            )  # fmt: skip

    def read(self) -> tuple[Tensor, ...]:
        """What an arrival reads."""
        return self.p, self.first, self.when, self.follow, self.below


class _Sums:
    """q and dq/df added up over the arrivals of every synapse [in, out]."""

    def __init__(self, synapses: Synapses) -> None:
        self.synapses = synapses
        self.q, self.slope = torch.zeros_like(synapses.weight), torch.zeros_like(synapses.weight)

    def add(self, adjoint: _Adjoint, events: Events, neurons: Neurons) -> None:
        n_in, n_out = self.synapses.shape
        order, start, sample = by_unit(events, n_in)
        adjoint_kernels.gather_kernel[n_in, blocks(n_out)](
            start, sample, events.times[order], self.synapses.delay, *adjoint.read(), neurons.columns, neurons.numbers,
            self.q, self.slope, neurons.steps, n_out, LANES, num_warps=1,
        )  # fmt: skip

    def gradients(self, h: float) -> tuple[Tensor, Tensor]:
        return self.q.t().contiguous(), (2 / h * self.synapses.weight * self.slope).t().contiguous()


class _Constants:
    """Derivatives by M, M_held, P, C of both, J and r, added up over groups."""

    def __init__(self, n_out: int, neurons: Neurons) -> None:
        like = neurons.rows
        self.neurons = neurons
        self.m, self.p = like.new_zeros(2, n_out, 3, 3), like.new_zeros(2, n_out, 3, 3)
        self.c = like.new_zeros(2, n_out, _MOMENTS, 3)

    def add(self, adjoint: _Adjoint, inputs: Events, spikes: Events, both: Synapses, n_in: int) -> None:
        neurons, n_out, steps = self.neurons, both.shape[1], self.neurons.steps
        nodes = inputs
        if both.shape[0] > n_in:
            nodes = _merged(inputs, spikes, n_in)
        buckets = Buckets(nodes, _ranges(nodes, 0), both, neurons, False)
        states = torch.empty_like(adjoint.p)
        listing = buckets.head, buckets.chain, nodes.times, nodes.units, *both
        of_layer = neurons.columns, neurons.numbers
        constants_kernels.replay_kernel[nodes.batch_size, blocks(n_out)](
            buckets.moments, *listing, adjoint.start, adjoint.t, adjoint.before, adjoint.at_ready, *of_layer, states, steps,
            n_out, LANES, num_warps=1,
        )  # fmt: skip
        for held in range(2):
            whole = torch.where((adjoint.first == -1 - held)[..., None], adjoint.p, 0.0)
            self.p[held] += torch.einsum("bnji,bnjk->jik", whole, states)
            self.c[held] += torch.einsum("bnjk,bnji->jki", buckets.moments, whole)
        cell, unit, held, *rest = self._parts(adjoint, states)
        parts = unit.numel()
        out = states.new_empty(parts, 9)
        if parts:
            constants_kernels.pieces_kernel[(blocks(parts),)](
                cell, unit, held, *rest, *listing, *of_layer, out, parts, n_out, LANES, num_warps=1
            )
        self.m += by_key(held * n_out + unit, out, 2 * n_out).view(2, n_out, 3, 3)

    def _parts(self, adjoint: _Adjoint, states: Tensor) -> list[Tensor]:
        """Parts of steps with boundaries: above each of these, and below the first of a step. Place of the step, neuron,
        1 in the refractory period, times and p, x at its ends."""
        neurons, n_out, steps = self.neurons, states.shape[2], states.shape[1]
        h = neurons.numbers[0]
        boundary = (adjoint.step >= 0).nonzero().flatten()
        spike, odd, above = boundary // 2, boundary % 2, adjoint.above[boundary].long()
        unit, step, when = adjoint.units[spike], adjoint.step[boundary].long(), adjoint.when[boundary]
        cell = (adjoint.samples[spike] * steps + step) * n_out + unit
        end = torch.clamp((step + 1) * h, max=neurons.duration)
        topmost = above < 0
        high = torch.where(topmost, end, adjoint.when[above])
        p = torch.where(topmost[:, None], adjoint.p.view(-1, 3)[cell], adjoint.at[above])
        x = torch.where((odd > 0)[:, None], adjoint.at_ready[spike], self._after(adjoint)[spike])
        resting = neurons.rows[_REST][unit] > 0
        held = (resting & (odd == 0)).long()
        lowest = adjoint.follow[boundary] < 0
        first = [cell, unit, odd, step * h, when, adjoint.at[boundary], states.view(-1, 3)[cell]]
        columns = zip([cell, unit, held, when, high, p, x], (y[lowest] for y in first), strict=True)
        return [torch.cat(pair).contiguous() for pair in columns]

    def _after(self, adjoint: _Adjoint) -> Tensor:
        """x after each spike."""
        J, r = self.neurons.rows[_J : _J + 9], self.neurons.rows[_J + 9 : _J + 12]
        jump = J[:, adjoint.units].t().reshape(-1, 3, 3)
        return adjoint.before + (jump * adjoint.before[:, None]).sum(2) + r[:, adjoint.units].t()


_J, _REST = 84, 97  # rows


def by_key(keys: Tensor, rows: Tensor, size: int) -> Tensor:
    """[size, columns]: sums of the rows of every key, each in their order."""
    total = rows.new_empty(size, rows.shape[1])
    order = torch.argsort(keys, stable=True)
    start = torch.zeros(size + 1, dtype=torch.int64, device=keys.device)
    start[1:] = torch.bincount(keys, minlength=size).cumsum(0)
    constants_kernels.sum_kernel[(size,)](start, order, rows.contiguous(), total, rows.shape[1], LANES, num_warps=1)
    return total


def _merged(inputs: Events, spikes: Events, n_in: int) -> Events:
    """Events and, after those of each sample, its spikes, as units from n_in on."""
    order = torch.argsort(torch.cat([inputs.samples(), spikes.samples()]), stable=True)
    times, units = torch.cat([inputs.times, spikes.times]), torch.cat([inputs.units, spikes.units + n_in])
    return Events(times[order], units[order], inputs.offsets + spikes.offsets)


@where_the_events_are
def backward_pass(
    events: Events, synapses: Synapses, recurrent: Synapses | None, layer, out: Spikes, g_time: Tensor, g_jump: Tensor,
    need_times: bool, need_constants: bool, readout: Readout | None = None,
) -> Gradients:  # fmt: skip
    """
    :param readout: of neurons whose V is read too, which are not recurrent.
    """
    n_in, n_out = synapses.shape
    nothing = Readout.none(events.batch_size, n_out, g_time)
    neurons = Neurons.of(layer, events.times.device)
    sums, sums_r = _Sums(synapses), None if recurrent is None else _Sums(recurrent)
    both = synapses if recurrent is None else joined(synapses, recurrent)
    constants = _Constants(n_out, neurons)
    grad_t = g_time.new_zeros(events.times.numel() if need_times else 0)
    of_spikes = g_time.new_zeros(n_out, 14)
    per_cell = _CELL_BACK + (_CELL + _CELL_STATES * 2 if need_constants else 0)
    for lo, hi in groups(events, per_cell * neurons.steps * n_out, 4 * n_out if need_constants else 0, WORKSPACE):
        inputs, of_group = events.part(lo, hi), out.events.part(lo, hi)
        here = slice(out.events.offsets[lo].item(), out.events.offsets[hi].item())
        if readout is None and not of_group.times.numel():
            continue  # p is zero
        spikes = Spikes(of_group, out.before[here], out.at_ready[here])
        of_readout = (readout or nothing).part(lo, hi)
        adjoint = _Adjoint(spikes, g_time[here], g_jump[here], of_readout, neurons, recurrent)
        sums.add(adjoint, inputs, neurons)
        if sums_r is not None:
            sums_r.add(adjoint, of_group, neurons)
        if need_times and inputs.times.numel():
            e0 = events.offsets[lo].item()
            adjoint_kernels.gather_times_kernel[(inputs.times.numel(),)](
                inputs.units, inputs.samples(), inputs.times, *synapses, *adjoint.read(), neurons.columns, neurons.numbers,
                grad_t[e0 : e0 + inputs.times.numel()], neurons.steps, n_out, LANES, num_warps=1,
            )  # fmt: skip
        jumps = (adjoint.plus[:, :, None] * adjoint.before[:, None]).flatten(1)
        rows = torch.cat([-adjoint.mu[:, None], adjoint.by_ready[:, None], adjoint.plus, jumps], 1)
        of_spikes += by_key(adjoint.units, rows, n_out)
        if need_constants:
            constants.add(adjoint, inputs, of_group, both, n_in)
    theta, rest, r, J = of_spikes.split([1, 1, 3, 9], 1)
    M = J.new_zeros(n_out, 3, 3)
    if need_constants:
        tables = torch.from_numpy(layer.by_matrices(constants.p.cpu().numpy(), constants.c.cpu().numpy())).to(M.device)
        free, held = tables + constants.m
        M = free + torch.from_numpy(layer.constants.kept).to(M.device)[:, None] * held
    of_recurrent = (None, None) if sums_r is None else sums_r.gradients(layer.h)
    return Gradients(*sums.gradients(layer.h), *of_recurrent, grad_t, theta[:, 0], rest[:, 0], M, J.reshape(n_out, 3, 3), r)


def readout_backward(
    events: Events, synapses: Synapses, layer, of_readout: Readout, need_times: bool, need_constants: bool
) -> Gradients:
    """Of :func:`readout`: as spiking neurons that do not spike."""
    nothing = of_readout.by_final.new_empty(0)
    nobody = Events(nothing, nothing.long(), torch.zeros_like(events.offsets))
    states = nothing.new_empty(0, 3)
    spikes = Spikes(nobody, states, states)
    return backward_pass(events, synapses, None, layer, spikes, nothing, nothing, need_times, need_constants, of_readout)
