"""What the networks of the papers share, written with the SpikingJelly front door. Time first: ``[T, N, features]``."""

from typing import NamedTuple

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from . import parallel
from .dropout import Dropout, DropoutOverTime


class Response(NamedTuple):
    """What a network gives for a batch of N samples."""

    membrane: Tensor
    """Membrane potential of the readout, ``[T, N, classes]``."""
    spikes: Tensor
    """Mean number of spikes per hidden neuron during each sample, ``[N]``; without gradient."""
    rates: Tensor | None = None
    """Mean spikes per step and sample of every hidden neuron, ``[neurons]``, with gradient, for what is to regularise them;
    None where nothing does."""


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


def check_network(network: nn.Module) -> None:
    """Raises TypeError where the result of a sample depends on the others of its batch, or on random numbers, in a way
    that several processes would change."""
    ours = (NormOverTime, Dropout, DropoutOverTime)
    known = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, layer.Dropout)
    for name, module in network.named_modules():
        if isinstance(module, known) and not isinstance(module, ours):
            raise TypeError(
                f"{name} is a {type(module).__name__}, which several processes cannot divide; take "
                f"NormOverTime of {__name__}, Dropout or DropoutOverTime of {Dropout.__module__}"
            )


def count_parameters(network: nn.Module) -> int:
    """What is trained, or what the network itself counts (``count_parameters()``) where a paper counts otherwise."""
    if hasattr(network, "count_parameters"):
        return network.count_parameters()
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def as_input(counts: Tensor) -> Tensor:
    """Counts as stored, uint8 ``[N, T, channels]``, to a network's input, float ``[T, N, channels]``."""
    return counts.transpose(0, 1).to(torch.get_default_dtype(), memory_format=torch.contiguous_format)
