"""A feed-forward network of any of the package's neurons, with or without delays, and a readout that may leak; written with
the SpikingJelly front door. Time first: ``[T, N, features]``."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.functional.linear_neuron import Coefficients, linear_neuron
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.parameters import BoundedModule
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, CSiLIFNode, DelayedLinear, SiLIFNode

from ..engine.training.dropout import Dropout
from ..engine.training.networks import HiddenLayer, NormOverTime, Response

NEURONS = ("CSiLIF", "SiLIF", "AdLIF+", "AdLIF", "LIF")
DELAYS = ("none", "axonal", "dendritic", "synaptic")
READOUTS = ("leaky", "memoryless")


class FlagshipNetwork(nn.Module):
    """Any number of hidden layers, each connection -> batch normalisation -> neurons -> dropout, and a readout of
    connection -> batch normalisation -> leaky integrators.

    Args:
        inputs, classes: number of input channels and of classes.
        hidden: neurons per hidden layer.
        neuron: one of :data:`NEURONS`; C-SiLIF as published (Fabre et al., arXiv 2506.06374).
        delays: of the synapses, one of :data:`DELAYS`, learned by the SLAYER rule, uniform between 0 and ``max_delay``
            at the start. "axonal": one delay per sender, "dendritic": one per receiver. From the raw input on; without
            them synapses have no delay.
        max_delay: longest delay in time steps.
        dropout: share of spikes dropped, drawn anew for every time step.
        norm_momentum: of the running statistics.
        readout: "leaky" (trained leaks between exp(-1/5) and exp(-1/25) per step, as in Bittar & Garner's code) or
            "memoryless".
        surrogate_width, surrogate_height: of the boxcar around the threshold, on which gradients pass.

    Shapes: input counts ``[T, N, inputs]``; output :class:`Response` with T steps, its ``rates`` those of every hidden
    neuron. Every call starts from fresh states.

    Raises ValueError for a word that is none of those above.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: Sequence[int] = (256, 256),
        neuron: str = "CSiLIF",
        delays: str = "none",
        max_delay: int = 30,
        dropout: float = 0.3,
        norm_momentum: float = 0.05,
        readout: str = "leaky",
        surrogate_width: float = 0.5,
        surrogate_height: float = 0.5,
    ):
        super().__init__()
        for name, value, known in (("neuron", neuron, NEURONS), ("delays", delays, DELAYS), ("readout", readout, READOUTS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        longest = 0 if delays == "none" else max_delay
        surrogate = Boxcar(surrogate_width, surrogate_height)
        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            HiddenLayer(
                _connection(before, width, delays, longest),
                NormOverTime(width, momentum=norm_momentum),
                _neurons(neuron, width, surrogate),
                Dropout(dropout),
            )
            for before, width in pairwise(widths)
        )
        for block in self.hidden:
            block.neuron.store_support = True
        self.readout = nn.Sequential(
            _connection(widths[-1], classes, delays, longest), NormOverTime(classes, momentum=norm_momentum)
        )
        self.integrator = LeakyReadout(classes) if readout == "leaky" else nn.Identity()

    def forward(self, counts: Tensor) -> Response:
        functional.reset_net(self)
        x, support, spikes = counts, None, []
        for hidden in self.hidden:
            x, fired = hidden(x, support)
            support = hidden.support
            spikes.append(fired)
        connection, norm = self.readout
        membrane = self.integrator(norm(connection(x, support=support)))
        total = sum(fired.detach().sum((0, 2)) for fired in spikes)
        rates = torch.cat([fired.mean((0, 1)) for fired in spikes]) if self.training else None
        return Response(membrane, total / sum(fired.shape[2] for fired in spikes), rates)


class LeakyReadout(BoundedModule):
    r"""Leaky integrators that do not spike, with a trained leak each:

    .. math:: u[t] = \alpha\, u[t-1] + (1 - \alpha)\, I[t], \qquad u[-1] = 0

    ``[T, N, features] -> [T, N, features]``; alpha starts uniformly between ``slowest`` and ``fastest``, time constants in
    steps, and stays there.
    """

    def __init__(self, features: int, *, fastest: float = 5.0, slowest: float = 25.0):
        super().__init__()
        low, high = math.exp(-1 / fastest), math.exp(-1 / slowest)
        self.alpha = nn.Parameter(torch.empty(features).uniform_(low, high))
        self.bound("alpha", low, high, mode="project")

    def forward(self, current: Tensor) -> Tensor:
        alpha = self.bounded("alpha")
        never = Coefficients(theta=float("inf"), A=((alpha,),), B=(1 - alpha,))
        _, _, (membrane, *_) = linear_neuron(current, never, traces=True)
        return membrane


class Linear(nn.Linear):
    """``nn.Linear`` for spikes, without a bias: a batch normalisation comes after it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor, support: Tensor | None = None) -> Tensor:
        return spike_linear(x, self.weight, support=support)


def _connection(inputs: int, outputs: int, delays: str, max_delay: int) -> nn.Module:
    """All-to-all synapses without biases, weights as ``nn.Linear`` draws them."""
    linear = Linear(inputs, outputs)
    if max_delay == 0:
        return linear
    delayed = DelayedLinear(
        inputs, outputs, bias=False, max_delay=max_delay, delay="uniform", delay_type=delays, step_mode="m"
    )
    delayed.weight.data = linear.weight.data
    return delayed


def _neurons(name: str, features: int, surrogate: nn.Module) -> nn.Module:
    options = {"features": features, "surrogate_function": surrogate, "step_mode": "m"}
    if name == "CSiLIF":
        return CSiLIFNode(preset="published", **options)
    if name == "SiLIF":
        return SiLIFNode(**options)
    return AdLIFPlusNode(preset=name.lower(), **options)
