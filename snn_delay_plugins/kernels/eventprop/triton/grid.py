"""The grid scheme's launches."""

from __future__ import annotations

import torch
from torch import Tensor

from ..neuron import Neuron
from . import grid_kernels as kernels
from .flow import grid_constants
from .lanes import LANES, blocks, lanes_of_layer
from .spikes import Found
from .tables import Events, Sums, Synapses, by_unit, grid_delays, grid_steps, spike_lists


class Adjoint:
    """p_V and p_I at every step [samples, steps, out]."""

    def __init__(self, samples: int, steps: int, n_out: int, device: torch.device) -> None:
        self.p = [torch.empty((samples, steps, n_out), dtype=torch.float64, device=device) for _ in range(2)]


class GridScheme:
    """A layer: synapses, of the layer to itself too if it is recurrent, and neurons."""

    def __init__(self, layer: Synapses, recurrent: Synapses | None, neuron: Neuron) -> None:
        self.layer, self.recurrent, self.neuron = layer, recurrent, neuron
        self.device, self.n_out = layer.weight.device, layer.shape[1]
        self.constants = grid_constants(neuron, self.device)
        self.where = grid_delays(layer, neuron)
        self.where_r = None if recurrent is None else grid_delays(recurrent, neuron)
        self.forward_bytes = 8 * neuron.steps * self.n_out, 0  # of a sample, of an event
        self.backward_bytes = 16 * neuron.steps * self.n_out, 0

    def spikes(self, part: Events, capacity: int, max_spikes: int) -> Found:
        samples, steps, n_out = part.batch_size, self.neuron.steps, self.n_out
        drive = torch.zeros((samples, steps, n_out), dtype=torch.float64, device=self.device)
        self._scatter(part, drive)
        found = Found.room(samples, capacity, n_out, self.device)
        into = found.times, found.slope, found.count, steps, n_out, capacity, max_spikes
        if self.recurrent is None:
            kernels.lif_kernel[samples, blocks(n_out)](drive, self.constants, *into, LANES, num_warps=1)
        else:
            kernels.recurrent_kernel[(samples,)](
                drive, self.where_r, self.recurrent.weight, self.constants, *into, **lanes_of_layer(n_out)
            )
        return found

    def voltage(self, part: Events, voltage: Tensor, final: Tensor) -> None:
        """voltage [steps, samples, out] gets V at every step."""
        drive = voltage.zero_().transpose(0, 1)
        self._scatter(part, drive)
        kernels.li_kernel[part.batch_size, blocks(self.n_out)](
            drive, self.constants, self.neuron.steps, self.n_out, *drive.stride()[:2], LANES, num_warps=1
        )

    def _scatter(self, part: Events, drive: Tensor) -> None:
        row = grid_steps(part, self.neuron.dt) + 1
        kernels.scatter_kernel[part.batch_size, blocks(self.n_out)](
            part.units,
            row,
            part.offsets,
            self.where,
            self.layer.weight,
            drive,
            self.neuron.steps,
            self.n_out,
            *drive.stride()[:2],
            LANES,
            num_warps=1,
        )

    def adjoint(self, spikes: Events, of_spikes: list[Tensor], source: Tensor, end: Tensor, before: Tensor) -> Adjoint:
        """of_spikes: slope, dL/dt, dL/dpotential; source [steps, samples, out]: dL/dV, or no rows; before [samples, out]
        gets the sums of p_V before the spikes."""
        samples, steps, n_out = spikes.batch_size, self.neuron.steps, self.n_out
        adjoint = Adjoint(samples, steps, n_out, self.device)
        lists = spike_lists(spikes, n_out)
        at_spikes = [x[lists.order] for x in (grid_steps(spikes, self.neuron.dt), *of_spikes)]
        if self.recurrent is None:
            kernels.adjoint_kernel[samples, blocks(n_out)](
                lists.start,
                *at_spikes,
                source,
                self.constants,
                *adjoint.p,
                before,
                steps,
                n_out,
                source.stride(1),
                source.stride(0),
                source.shape[0] > 0,
                LANES,
                num_warps=1,
            )
        else:
            kernels.recurrent_adjoint_kernel[(samples,)](
                lists.start,
                *at_spikes,
                self.where_r,
                self.recurrent.weight,
                self.constants,
                *adjoint.p,
                before,
                steps,
                n_out,
                **lanes_of_layer(n_out),
            )
        return adjoint

    def gather(self, adjoint: Adjoint, events: Events, sums: Sums, recurrent: bool = False) -> None:
        """Add p at all arrivals of the events, those of the layer itself for its recurrent synapses, to the sums."""
        where = self.where_r if recurrent else self.where
        n_in, n_out = where.shape
        order, start, sample = by_unit(events, n_in)
        row = grid_steps(events, self.neuron.dt)[order] + 1
        kernels.gather_kernel[n_in, blocks(n_out)](
            start, sample, row, where, *adjoint.p, sums.v, sums.i, self.neuron.steps, n_out, LANES, num_warps=1
        )

    def gather_times(self, adjoint: Adjoint, events: Events, grad: Tensor) -> None:
        row = grid_steps(events, self.neuron.dt) + 1
        kernels.gather_times_kernel[(events.times.numel(),)](
            events.units,
            events.samples(),
            row,
            self.where,
            self.layer.weight,
            *adjoint.p,
            self.constants,
            grad,
            self.neuron.steps,
            self.n_out,
            LANES,
            num_warps=1,
        )
