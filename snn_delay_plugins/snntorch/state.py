"""States that a module carries from step to step, as plain attributes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CarriedStates"]


class CarriedStates(nn.Module):
    """A module whose states between steps are neither parameters nor buffers.

    snnTorch keeps its states in buffers. Data-parallel training sends those of rank 0 to every other rank before each
    forward pass, and averages of weights (``torch.optim.swa_utils``) pair them by position: both mistake the states of
    one batch for something that the network has learned. Here they are attributes, which move with the module
    (``.to()``, ``.double()``) and are never in a state dict.

    A subclass names its states once, ``_states = ("w", "mem")``, each a tensor or None, and forgets them in
    ``reset_mem``. A step that starts from them calls :meth:`take_states` before, ``reset_mem`` :meth:`states_are_new`.
    """

    _states: tuple[str, ...] = ()
    _written_in = -1  # the backward pass in which the states were written; -1: outside of every one

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._written_in = -1
        for name in self._states:  # of a module that was pickled when its states were buffers
            if name in self._buffers:
                self._non_persistent_buffers_set.discard(name)
                setattr(self, name, self._buffers.pop(name))

    def reset_mem(self):
        """Forget the states; the next step starts anew."""
        raise NotImplementedError

    def take_states(self) -> None:
        """Refuse a step that a backward pass runs a second time: its states are no longer those of the first time.

        :raises RuntimeError: under ``torch.utils.checkpoint``, which would give a wrong gradient.
        """
        if torch.compiler.is_compiling():
            return
        backward = torch._C._current_graph_task_id()
        if backward != -1 and self._written_in != backward:
            raise RuntimeError(
                f"{type(self).__name__} carries its states from call to call, but torch.utils.checkpoint calls it a "
                "second time in the backward pass, when they have gone on: pass the states as arguments, reset inside of "
                "the function that is checkpointed, or use the form over whole sequences"
            )

    def states_are_new(self) -> None:
        """The states were forgotten: what is computed next starts anew, also in a backward pass."""
        if not torch.compiler.is_compiling() and self._written_in != torch._C._current_graph_task_id():
            self._written_in = torch._C._current_graph_task_id()

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
