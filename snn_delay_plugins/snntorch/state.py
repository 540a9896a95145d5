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

    A subclass names its states once, ``_states = ("w", "mem")``, each a tensor or None, and forgets them in
    ``reset_mem``.
    """

    _states: tuple[str, ...] = ()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for name in self._states:  # of a module that was pickled when its states were buffers
            if name in self._buffers:
                self._non_persistent_buffers_set.discard(name)
                setattr(self, name, self._buffers.pop(name))

    def reset_mem(self):
        """Forget the states; the next step starts anew."""
        raise NotImplementedError

    def _present_states(self) -> dict[str, Tensor]:
        values = {name: getattr(self, name, None) for name in self._states}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        if any(value.is_meta for value in self._present_states().values()):
            self.reset_mem()  # shapes without values: to_empty() would carry on whatever lies in memory
        for name, value in self._present_states().items():
            setattr(self, name, fn(value))
        return self

    def detach_states(self) -> None:
        """Cut the states from the graph of the steps before (truncated backpropagation through time)."""
        for name, value in self._present_states().items():
            setattr(self, name, value.detach())
