"""Resetting networks that hold our modules at any depth."""
from __future__ import annotations

from torch import nn

from .convolution import DelayedConv1d, DelayedConv2d
from .layer import DelayedLinear, DiscreteDelayedLinear
from .neuron import AdLIFPlus

__all__ = ["reset"]

_WITH_STATES = (AdLIFPlus, DelayedConv1d, DelayedConv2d, DelayedLinear, DiscreteDelayedLinear)


def reset(net: nn.Module) -> None:
    """Forget the states of every module of this package inside ``net``, at any depth.

    snnTorch 1.0's ``utils.reset`` knows its own neurons alone; after ``snn_delay_plugins.register()`` it calls this
    too. Other modules are left as they are.

    Example::

        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), AdLIFPlus(init_hidden=True))
        >>> spk = net(torch.rand(4, 2))
        >>> reset(net)
        >>> net[1].mem.numel()
        0
    """
    for module in net.modules():
        if isinstance(module, _WITH_STATES):
            module.reset_mem()
