"""Resetting and detaching networks that hold our modules at any depth."""

from __future__ import annotations

from torch import nn

from .state import CarriedStates

__all__ = ["detach", "reset"]


def reset(net: nn.Module) -> None:
    """Forget the states of every module of this package inside ``net``, at any depth.

    snnTorch 1.0's ``utils.reset`` knows its own neurons alone; after ``snn_delay_plugins.register()`` it calls this
    too. Other modules are left as they are.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.snntorch import AdLIFPlus
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), AdLIFPlus(init_hidden=True))
        >>> spk = net(torch.rand(4, 2))
        >>> reset(net)
        >>> net[1].mem.numel()
        0
    """
    for module in net.modules():
        if isinstance(module, CarriedStates):
            module.reset_mem()


def detach(net: nn.Module) -> None:
    """Cut the states of every module of this package inside ``net`` from the graph of the steps before.

    Called between the chunks of truncated backpropagation through time; the states themselves go on.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.snntorch import AdLIFPlus
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), AdLIFPlus(init_hidden=True))
        >>> for chunk in torch.rand(3, 5, 4, 2):
        ...     torch.stack([net(x) for x in chunk]).sum().backward()
        ...     detach(net)
    """
    for module in net.modules():
        if isinstance(module, CarriedStates):
            module.detach_states()
