"""LIF layers and LI readouts, forward and backward, in groups of samples whose buffers fit into a workspace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..neuron import Neuron
from .exact import ExactScheme
from .grid import GridScheme
from .lanes import where_the_events_are
from .spikes import joined_spikes, with_room
from .tables import Events, Sums, Synapses, groups

WORKSPACE = 1 << 28  # bytes that the buffers of a group of samples may take at least, where a sample takes less


def _scheme(layer: Synapses, recurrent: Synapses | None, neuron: Neuron, grid: bool) -> GridScheme | ExactScheme:
    return (GridScheme if grid else ExactScheme)(layer, recurrent, neuron)


@where_the_events_are
def lif_forward(
    events: Events, layer: Synapses, recurrent: Synapses | None, neuron: Neuron, grid: bool, max_spikes: int
) -> tuple[Events, Tensor]:
    """Spikes of the layer, by sample and time, and tau_m dV/dt at each of them.

    :raises TooManySpikes: as :func:`..cpu.lif_forward`.
    """
    scheme = _scheme(layer, recurrent, neuron, grid)
    parts = []
    for lo, hi in groups(events, *scheme.forward_bytes, WORKSPACE):
        part = events.part(lo, hi)

        def find(capacity: int, most: int, part: Events = part):
            return scheme.spikes(part, capacity, most)

        parts.append(with_room(find, neuron, max_spikes, lo).in_order(lo))
    return joined_spikes(parts, events.batch_size, events.times.device)


@where_the_events_are
def li_forward(events: Events, layer: Synapses, neuron: Neuron, grid: bool, samples: int) -> tuple[Tensor, Tensor]:
    """Voltage [samples, N, out] and, in the exact scheme, final (V, I) [N, out, 2]."""
    scheme = _scheme(layer, None, neuron, grid)
    n, n_out, device = events.batch_size, layer.shape[1], events.times.device
    voltage = torch.empty((samples, n, n_out), dtype=torch.float64, device=device)
    final = torch.zeros((n, n_out, 2), dtype=torch.float64, device=device)
    for lo, hi in groups(events, *scheme.forward_bytes, WORKSPACE):
        scheme.voltage(events.part(lo, hi), voltage[:, lo:hi], final[lo:hi])
    return voltage, final


@where_the_events_are
def li_peaks(events: Events, layer: Synapses, neuron: Neuron) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The largest V [N, out] in the exact scheme, its time, the event of a kink there (or -1) and V' before it."""
    scheme, shape, device = ExactScheme(layer, None, neuron), (events.batch_size, layer.shape[1]), events.times.device
    found = [torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(3)]
    kink = torch.full(shape, -1, dtype=torch.int64, device=device)
    for lo, hi in groups(events, *scheme.forward_bytes, WORKSPACE):
        peak, time, slope = (x[lo:hi] for x in found)
        scheme.peaks(events.part(lo, hi), peak, time, kink[lo:hi], slope)
        kink[lo:hi] += torch.where(kink[lo:hi] >= 0, events.offsets[lo], 0)
    peak, time, slope = found
    return peak, time, kink, slope


@dataclass
class Gradients:
    """Derivatives by weights and delays [out, in], event times (empty if not asked for), theta; none by tau yet."""

    weight: Tensor
    delay: Tensor
    recurrent_weight: Tensor | None
    recurrent_delay: Tensor | None
    times: Tensor
    theta: Tensor
    tau_mem: Tensor | None = None
    tau_syn: Tensor | None = None


@where_the_events_are
def backward(
    events: Events,
    layer: Synapses,
    recurrent: Synapses | None,
    neuron: Neuron,
    grid: bool,
    out: Events,
    slope: Tensor,
    g_time: Tensor,
    g_jump: Tensor,
    source: Tensor,
    end: Tensor,
    need_times: bool,
) -> Gradients:
    """Of a LIF layer (``out`` its spikes) or an LI readout (``out`` empty); arguments as of
    :func:`..cpu.backward`, source [T, N, out]."""
    scheme = _scheme(layer, recurrent, neuron, grid)
    sums, sums_r = Sums(layer), None if recurrent is None else Sums(recurrent)
    grad_t = torch.empty(events.times.numel() if need_times else 0, dtype=torch.float64, device=events.times.device)
    before = grad_t.new_zeros((events.batch_size, layer.shape[1]))
    for lo, hi in groups(events, *scheme.backward_bytes, WORKSPACE):
        inputs, spikes = events.part(lo, hi), out.part(lo, hi)
        here = slice(out.offsets[lo].item(), out.offsets[hi].item())
        of_spikes = [x[here] for x in (slope, g_time, g_jump)]
        adjoint = scheme.adjoint(spikes, of_spikes, source[:, lo:hi], end[lo:hi], before[lo:hi])
        if inputs.times.numel():
            scheme.gather(adjoint, inputs, sums)
            if need_times:
                e0 = events.offsets[lo].item()
                scheme.gather_times(adjoint, inputs, grad_t[e0 : e0 + inputs.times.numel()])
        if recurrent is not None and spikes.times.numel():
            scheme.gather(adjoint, spikes, sums_r, recurrent=True)
    of_recurrent = (None, None) if recurrent is None else sums_r.gradients(recurrent, neuron)
    return Gradients(*sums.gradients(layer, neuron), *of_recurrent, grad_t, -before.sum())
