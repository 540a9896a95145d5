"""What a training step costs with delays: EventProp, event-driven SLAYER delays, and dilated convolutions as published.

The workload is random: spikes of all channels, spread evenly over a sample, at 1 ms steps.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from DCLS.construct.modules import Dcls1d
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear


@dataclasses.dataclass(frozen=True)
class Workload:
    """A batch of samples of ``steps`` ms with ``events`` input spikes each."""

    batch: int
    steps: int = 1000
    events: int = 7000

    def draw(self, channels: int, classes: int) -> tuple[list[np.ndarray], list[np.ndarray], Tensor]:
        """Times and channels of every sample, and labels."""
        g = np.random.default_rng(0)
        times = [np.sort(g.uniform(0, self.steps, self.events)) for _ in range(self.batch)]
        units = [g.integers(0, channels, self.events) for _ in range(self.batch)]
        return times, units, torch.from_numpy(g.integers(0, classes, self.batch))


class DilatedConvolutions(nn.Module):
    """The network of Hammouamri et al. as published: ``Dcls1d`` (Gaussian), batch normalisation, SpikingJelly's LIFNode,
    dropout, with the paddings of its code; delays in every layer. ``[T, N, inputs]`` to the membrane of the readout."""

    def __init__(self, widths: list[int], max_delay: int):
        super().__init__()
        self.max_delay = max_delay
        self.delays = nn.ModuleList(
            Dcls1d(before, width, kernel_count=1, groups=1, dilated_kernel_size=max_delay + 1, bias=False, version="gauss")
            for before, width in pairwise(widths)
        )
        self.norms = nn.ModuleList(layer.BatchNorm1d(width, step_mode="m") for width in widths[1:-1])
        self.neurons = nn.ModuleList(
            neuron.LIFNode(
                tau=10.05, decay_input=False, v_threshold=threshold, v_reset=0.0, detach_reset=False,
                surrogate_function=surrogate.ATan(alpha=5.0), step_mode="m", store_v_seq=threshold > 1,
            )
            for threshold in [1.0] * len(self.norms) + [1e9]
        )  # fmt: skip
        self.dropout = layer.Dropout(0.4, step_mode="m")

    def forward(self, x: Tensor) -> tuple[Tensor, list[float]]:
        functional.reset_net(self)
        rates = []
        for k, delays in enumerate(self.delays):
            x = delays(pad(x.permute(1, 2, 0), (self.max_delay, self.max_delay // 2))).permute(2, 0, 1)
            if k < len(self.norms):
                x = self.neurons[k](self.norms[k](x.unsqueeze(3)).squeeze(3))
                rates.append(x.detach().mean().item())
                x = self.dropout(x)
            else:
                self.neurons[k](x)
        return self.neurons[-1].v_seq, rates


class SlayerDelays(nn.Module):
    """DelayedLinear with LIF neurons; delays in every layer."""

    def __init__(self, widths: list[int], max_delay: int):
        super().__init__()
        self.delays, self.neurons = nn.ModuleList(), nn.ModuleList()
        for before, width in pairwise(widths):
            delays = DelayedLinear(before, width, max_delay=max_delay, delay="uniform", step_mode="m")
            # about 2 % of the neurons fire in a step, whatever the width
            nn.init.normal_(delays.weight, 0.6 / (before * 0.01) ** 0.5 / 2, 0.6 / (before * 0.01) ** 0.5)
            self.delays.append(delays)
        for width in widths[1:-1]:
            self.neurons.append(AdLIFPlusNode(features=width, preset="lif", alpha=0.9, step_mode="m"))

    def forward(self, x: Tensor) -> tuple[Tensor, list[float]]:
        functional.reset_net(self)
        rates = []
        for k, delays in enumerate(self.delays):
            x = delays(x)
            if k < len(self.neurons):
                x = self.neurons[k](x)
                rates.append(x.detach().mean().item())
        return x, rates


class EventProp(nn.Module):
    """EventPropLIF layers with delays and a leaky readout without."""

    def __init__(self, widths: list[int], max_delay: int, spike_times: str):
        super().__init__()
        self.hidden = nn.ModuleList(
            EventPropLIF(
                before, width, delay="uniform", max_delay=float(max_delay), spike_times=spike_times,
                weight_init=(0.03, 0.01) if k == 0 else (0.06, 0.02),
            )
            for k, (before, width) in enumerate(pairwise(widths[:-1]))
        )  # fmt: skip
        self.readout = EventPropLI(widths[-2], widths[-1], readout="weighted_integral", spike_times=spike_times)

    def forward(self, events: SpikeEvents) -> tuple[Tensor, list[float]]:
        rates = []
        for hidden in self.hidden:
            events = hidden(events)
            rates.append(len(events) / (events.batch_size * events.num_units * events.duration))
        return self.readout(events), rates


NETWORKS = {
    "EventProp": lambda widths, max_delay: EventProp(widths, max_delay, "exact"),
    "EventProp, grid": lambda widths, max_delay: EventProp(widths, max_delay, "grid"),
    "SLAYER delays": SlayerDelays,
    "DCLS + SpikingJelly": DilatedConvolutions,
}


def training_step(name: str, widths: list[int], max_delay: int, workload: Workload) -> Callable[[], list[float]]:
    """A function that makes one training step (forward, loss, backward, Adam) of one of :data:`NETWORKS` and gives the
    spikes per ms of its hidden layers."""
    torch.manual_seed(0)
    times, units, labels = workload.draw(widths[0], widths[-1])
    network = NETWORKS[name](widths, max_delay)
    if isinstance(network, EventProp):
        inputs = SpikeEvents.from_lists(times, units, num_units=widths[0], duration=float(workload.steps))
    else:
        inputs = torch.zeros(workload.steps, workload.batch, widths[0])
        for n, (t, j) in enumerate(zip(times, units, strict=True)):
            inputs[t.astype(int), n, j] = 1.0
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)

    def step() -> list[float]:
        optimizer.zero_grad()
        out, rates = network(inputs)
        logits = out.softmax(-1).sum(0) if out.dim() == 3 else out
        cross_entropy(logits, labels).backward()
        optimizer.step()
        return rates

    return step
