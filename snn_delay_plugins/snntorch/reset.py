"""Resetting and detaching networks that hold our modules at any depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snntorch import SpikingNeuron
from torch import Tensor, nn

from .state import CarriedStates

__all__ = ["detach", "detach_ours", "reset", "reset_ours"]


def reset(net: nn.Module) -> None:
    """Forget the states of every module of this package and every neuron of snnTorch inside ``net``, at any depth.

    snnTorch 1.0's ``utils.reset`` knows its own neurons alone, and of these resets the direct children of ``net`` and all
    others of their class; after ``snn_delay_plugins.register()`` it reaches the modules of this package too.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.snntorch import AdLIFPlus
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), AdLIFPlus(init_hidden=True))
        >>> spk = net(torch.rand(4, 2))
        >>> reset(net)
        >>> net[1].mem.numel()
        0
    """
    reset_ours(net)
    neuron: Any
    for neuron in _snntorchs(net):
        forget = getattr(neuron, "reset_mem", None)
        if callable(forget):  # those over whole sequences have no states
            forget()


def reset_ours(net: nn.Module) -> None:
    """Forget the states of the modules of this package alone."""
    for module in net.modules():
        if isinstance(module, CarriedStates):
            module.reset_mem()


def detach(net: nn.Module) -> None:
    """Cut the states of every module of this package and every neuron of snnTorch inside ``net`` from the graph of the
    steps before.

    Called between the chunks of truncated backpropagation through time; the states themselves go on.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.snntorch import AdLIFPlus
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), AdLIFPlus(init_hidden=True))
        >>> for chunk in torch.rand(3, 5, 4, 2):
        ...     torch.stack([net(x) for x in chunk]).sum().backward()
        ...     detach(net)
    """
    detach_ours(net)
    for neuron in _snntorchs(net):
        for kept in (neuron._buffers, neuron.__dict__):
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    kept[name] = value.detach()


def detach_ours(net: nn.Module) -> None:
    """Cut the states of the modules of this package alone."""
    for module in net.modules():
        if isinstance(module, CarriedStates):
            module.detach_states()


def _snntorchs(net: nn.Module) -> Iterator[SpikingNeuron]:
    return (
        module for module in net.modules() if isinstance(module, SpikingNeuron) and not isinstance(module, CarriedStates)
    )
