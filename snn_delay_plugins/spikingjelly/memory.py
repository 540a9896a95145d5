"""Memories as SpikingJelly keeps them, with states that may be views."""
from __future__ import annotations

from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor

__all__ = ["DetachableMemories"]


class DetachableMemories(MemoryModule):
    """A ``MemoryModule`` whose ``functional.detach_net`` takes views too.

    SpikingJelly detaches in place, which torch refuses for views (the last inputs out of a sequence) and which would
    cut the graph of a trace that the user holds.
    """

    def _apply(self, fn, recurse: bool = True):
        return super()._apply(fn)  # SpikingJelly's takes no recurse, which torch's to_empty() hands over

    def detach(self) -> None:
        """Detach the memories from the graph (truncated backpropagation)."""
        for name, value in self._memories.items():
            if isinstance(value, Tensor):
                self._memories[name] = value.detach()
