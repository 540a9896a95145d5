"""States that a module carries from step to step, as plain attributes."""
from __future__ import annotations

from torch import Tensor, nn

__all__ = ["CarriedStates"]


class CarriedStates(nn.Module):
    """A module whose states between steps are neither parameters nor buffers.

    snnTorch keeps its states in buffers. Data-parallel training sends those of rank 0 to every other rank before each
    forward pass, and averages of weights (``torch.optim.swa_utils``) pair them by position: both mistake the states of
    one batch for something that the network has learned. Here they are attributes, which move with the module
    (``.to()``, ``.double()``) and are never in a state dict.

    A subclass names its states once, ``_states = ("w", "mem")``; each is a tensor, or None.
    """

    _states: tuple[str, ...] = ()

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        for name in self._states:
            value = getattr(self, name, None)
            if isinstance(value, Tensor):
                setattr(self, name, fn(value))
        return self

    def detach_states(self) -> None:
        """Cut the states from the graph of the steps before (truncated backpropagation through time)."""
        for name in self._states:
            value = getattr(self, name, None)
            if isinstance(value, Tensor):
                setattr(self, name, value.detach())
