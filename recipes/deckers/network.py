"""The network of Deckers et al., written with the SpikingJelly front door. Time first: ``[T, N, features]``."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.parameters import initial_delay as start_of_delays
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear

from ..engine.training import parallel
from ..engine.training.dropout import Dropout
from ..engine.training.networks import HiddenLayer, NormOverTime, Response


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


class _Neurons(AdLIFPlusNode):
    def initial_state(self, current: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return super().initial_state(current)
        drawn = super().initial_state(current.new_zeros(parallel.whole(current.shape[0]), *current.shape[1:]))
        return tuple(parallel.own(state) for state in drawn)


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
