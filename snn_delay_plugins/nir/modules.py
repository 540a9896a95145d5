"""Small modules for nodes of NIR that are neither a layer nor a neuron of a framework."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional.surrogate import Boxcar, fire

__all__ = ["OverTime", "Readout", "Scale", "Threshold"]


class Scale(nn.Module):
    """Each element times a number of its own.

    Example::

        >>> Scale(torch.tensor([1.0, 2.0]))(torch.ones(3, 2)).tolist()[0]
        [1.0, 2.0]
    """

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype)


class Threshold(nn.Module):
    """A spike where the input reaches the threshold, with the surrogate gradient of neurons.

    Example::

        >>> Threshold(torch.tensor(0.5))(torch.tensor([0.2, 0.7])).tolist()
        [0.0, 1.0]
    """

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.threshold: Tensor
        self.surrogate = Boxcar()

    def forward(self, x: Tensor) -> Tensor:
        return fire(x - self.threshold.to(x.dtype), self.surrogate).to(x.dtype)


class OverTime(nn.Module):
    """A module of torch that knows images alone, over sequences of them ``[T, N, C, ...]``.

    Example::

        >>> OverTime(nn.AvgPool2d(2))(torch.ones(5, 3, 1, 4, 4)).shape
        torch.Size([5, 3, 1, 2, 2])
    """

    takes_sequences = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Readout(nn.Module):
    """The membrane potential of neurons that do not reset, NIR's ``LI`` and ``CubaLI``.

    :param neuron: returns spikes and, last, its potential; or keeps the potential in ``v_seq`` or ``v``, as SpikingJelly's
        do with ``store_v_seq=True``.
    """

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    @property
    def takes_sequences(self) -> bool:
        mode = getattr(self.neuron, "step_mode", None)
        return mode == "m" if mode is not None else bool(getattr(self.neuron, "takes_sequences", False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.neuron(x)
        if isinstance(out, tuple):
            return out[-1]
        kept = self.neuron.v_seq if self.takes_sequences else self.neuron.v
        assert isinstance(kept, torch.Tensor)
        return kept
