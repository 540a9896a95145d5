"""The networks of the papers, written with the SpikingJelly front door. Time first: ``[T, N, features]``."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from recipes.engine import parallel
from recipes.engine.dropout import Dropout, DropoutOverTime
from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.parameters import initial_delay as start_of_delays
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear


class Response(NamedTuple):
    """What a network gives for a batch of N samples."""

    membrane: Tensor
    """Membrane potential of the readout, ``[T, N, classes]``."""
    spikes: Tensor
    """Mean number of spikes per hidden neuron during each sample, ``[N]``; without gradient."""


class DeckersNetwork(nn.Module):
    """Two (or any number of) hidden layers of adaptive neurons and a memoryless readout: Deckers et al.,
    section 3.2, Fig. 4.

    Each hidden layer is connection -> batch normalisation -> neurons -> dropout, the readout connection ->
    batch normalisation. The text does not mention the normalisation nor that every layer has biases; its
    parameter counts do: only affine normalisation and a bias on all three layers give 37.9k, 38.7k and 74.8k.

    Args:
        inputs, classes: number of input channels and of classes.
        hidden: neurons per hidden layer.
        preset: neuron model, "lif", "adlif" or "adlif+": which parameters are trained and between which
            bounds.
        max_delay: cap of the synaptic delays in time steps, in all layers; None for a network without delays.
        channel_shift: in training every sample's channels are moved by a whole number drawn from
            -channel_shift ... channel_shift, as another voice would (0, the paper's: not at all).
        initial_delay: "zeros" as in the paper, or "uniform" between 0 and ``max_delay``.
        dropout: share of spikes dropped, drawn anew for every time step (as the sparch code, on which the
            paper's is based).
        norm_momentum: of the running statistics. 0.05 is sparch's; the text gives none.
        right_padding: silent steps appended to the input so that delayed spikes still arrive. The text
            appends them "accordingly" without a number. Default: ``max_delay`` steps, and none without
            delays, where nothing arrives late and silent steps would only add the readout's bias to Eq. 3.
            Three layers at the cap could delay a spike by three times as much; the learned delays are far
            shorter than that (Fig. 8).
        init_state: initial u and w of every neuron for every sample, "uniform" in [0, 1) as in section 4.2,
            or "zeros".

    Shapes: input counts ``[T, N, inputs]``; output :class:`Response` with T + right_padding steps. Every call
    starts from fresh states: a batch never sees the previous one.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: Sequence[int] = (128, 128),
        preset: str = "adlif+",
        max_delay: int | None = None,
        initial_delay: str = "zeros",
        channel_shift: int = 0,
        dropout: float = 0.5,
        norm_momentum: float = 0.05,
        right_padding: int | None = None,
        init_state: str = "uniform",
    ):
        super().__init__()
        self.augment = ChannelShift(channel_shift) if channel_shift else nn.Identity()
        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            HiddenLayer(
                _connection(before, width, max_delay, initial_delay),
                NormOverTime(width, momentum=norm_momentum),
                _Neurons(features=width, preset=preset, init_state=init_state, step_mode="m"),
                Dropout(dropout),
            )
            for before, width in pairwise(widths)
        )
        self.readout = nn.Sequential(
            _connection(widths[-1], classes, max_delay, initial_delay), NormOverTime(classes, momentum=norm_momentum)
        )
        for block in self.hidden:  # with delays, too many gradients have an effect before the last layer for it to pay
            block.neuron.store_support = max_delay is None or block is self.hidden[-1]
        self.right_padding = (max_delay or 0) if right_padding is None else right_padding

    def forward(self, counts: Tensor) -> Response:
        functional.reset_net(self)
        x = self.augment(counts)
        if self.right_padding:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self.right_padding))
        total, neurons, support = 0.0, 0, None
        for hidden in self.hidden:
            x, spikes = hidden(x, support)
            support = hidden.support
            total = total + spikes.detach().sum((0, 2))
            neurons += spikes.shape[2]
        connection, norm = self.readout
        return Response(norm(connection(x, support=support)), total / neurons)


class HiddenLayer(nn.Module):
    """connection -> norm -> neuron -> dropout; gives what goes on to the next layer, and the spikes before
    dropout. ``support``: where the gradient of x has an effect, for a connection that can make use of it."""

    def __init__(self, connection: nn.Module, norm: nn.Module, neuron: nn.Module, dropout: nn.Module):
        super().__init__()
        self.connection, self.norm, self.neuron, self.dropout = connection, norm, neuron, dropout

    def forward(self, x: Tensor, support: Tensor | None = None) -> tuple[Tensor, Tensor]:
        current = self.connection(x) if support is None else self.connection(x, support=support)
        spikes = self.neuron(self.norm(current))
        return self.dropout(spikes), spikes

    @property
    def support(self) -> Tensor | None:
        """Where the gradient of what was given last has an effect: where the neuron's has (``neuron.store_support``) and
        nothing was dropped."""
        inside, kept = self.neuron.support, getattr(self.dropout, "kept", None)
        return inside if inside is None or kept is None else inside & kept


class SpikeLinear(nn.Linear):
    """``nn.Linear`` for spikes: entries that are zero cost nothing."""

    def forward(self, x: Tensor, support: Tensor | None = None) -> Tensor:
        return spike_linear(x, self.weight, self.bias, support=support)


class ChannelShift(nn.Module):
    """Moves the channels of each sample ``[T, N, channels]`` by its own random number of channels, in training only;
    what leaves at one edge is lost, and silence comes in at the other."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def forward(self, counts: Tensor) -> Tensor:
        if not self.training:
            return counts
        _, samples, channels = counts.shape
        drawn = torch.randint(-self.most, self.most + 1, (parallel.whole(samples), 1), device=counts.device)
        shift = parallel.own(drawn)
        source = torch.arange(channels, device=counts.device) - shift
        inside = (source >= 0) & (source < channels)
        return counts.gather(2, source.clamp(0, channels - 1).expand_as(counts)) * inside


_MANY = 32  # features from which on torch normalises faster on a CPU if those of a step lie side by side


class NormOverTime(nn.BatchNorm1d):
    """Batch normalisation of ``[T, N, features]`` whose statistics of each feature run over time and batch alike; over
    the whole batch, where several processes divide it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and parallel.divided():
            return parallel.batch_norm(x.flatten(0, 1), self).view_as(x)
        if x.shape[2] >= _MANY or x.device.type != "cpu":
            return super().forward(x.flatten(0, 1)).view_as(x)
        features = x.permute(2, 0, 1).contiguous()
        return super().forward(features.flatten(1)[None]).view_as(features).permute(1, 2, 0)


class _Neurons(AdLIFPlusNode):
    def initial_state(self, current: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return super().initial_state(current)
        drawn = super().initial_state(current.new_zeros(parallel.whole(current.shape[0]), *current.shape[1:]))
        return tuple(parallel.own(state) for state in drawn)


def check_network(network: nn.Module) -> None:
    """Raises TypeError where the result of a sample depends on the others of its batch, or on random numbers, in a way
    that several processes would change."""
    ours = (NormOverTime, Dropout, DropoutOverTime)
    known = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, layer.Dropout)
    for name, module in network.named_modules():
        if isinstance(module, known) and not isinstance(module, ours):
            raise TypeError(
                f"{name} is a {type(module).__name__}, which several processes cannot divide; take "
                "NormOverTime of recipes.engine.networks, Dropout or DropoutOverTime of recipes.engine.dropout"
            )


def _connection(inputs: int, outputs: int, max_delay: int | None, initial_delay: str) -> nn.Module:
    """All-to-all synapses with biases (Eq. 2, or Eq. 7 with a delay per synapse); weights Xavier uniform, the
    rest zero."""
    if max_delay is not None:
        with torch.random.fork_rng(devices=()):  # what the layer draws for itself is not the paper's
            delayed = DelayedLinear(inputs, outputs, max_delay=max_delay, step_mode="m")
        nn.init.xavier_uniform_(delayed.weight)
        delayed.delay.data = start_of_delays(initial_delay, tuple(delayed.delay.shape), max_delay)
        return delayed
    linear = SpikeLinear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def count_parameters(network: nn.Module) -> int:
    """What is trained, or what the network itself counts (``count_parameters()``) where a paper counts otherwise."""
    if hasattr(network, "count_parameters"):
        return network.count_parameters()
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def as_input(counts: Tensor) -> Tensor:
    """Counts as stored, uint8 ``[N, T, channels]``, to a network's input, float ``[T, N, channels]``."""
    return counts.transpose(0, 1).to(torch.get_default_dtype(), memory_format=torch.contiguous_format)
