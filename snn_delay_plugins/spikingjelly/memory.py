"""Memories as SpikingJelly keeps them, with states that may be views."""

from __future__ import annotations

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor

from ..kernels import dispatch
from ..transforms import exported_step, exporting

__all__ = ["DetachableMemories"]


class DetachableMemories(MemoryModule):
    """A ``MemoryModule`` whose ``functional.detach_net`` takes views too.

    SpikingJelly detaches in place, which torch refuses for views (the last inputs out of a sequence) and which would
    cut the graph of a trace that the user holds.

    ``torch.utils.checkpoint`` calls a module a second time in the backward pass, when its memories are those of the last
    step: refused, as the gradient would be wrong. ``memopt.checkpoint_module`` brings the memories of the first time along.
    """

    _operator: str | None = None  # that sequences run in
    _left: tuple[int, ...] = ()  # the memories that the last call outside of a backward pass left

    def forward(self, *args, **kwargs):
        if torch.compiler.is_compiling():
            return self._exported(*args, **kwargs) if exporting() else super().forward(*args, **kwargs)
        if self._operator is not None and self.step_mode == "m":
            dispatch.tell_counters(self._operator)  # before anything else that a strict counter refuses
        again = torch._C._current_graph_task_id() != -1
        if again and self._left and self._tensors() == self._left:
            raise RuntimeError(
                f"{type(self).__name__} keeps memories from call to call, but torch.utils.checkpoint calls it a second "
                "time in the backward pass, when they have gone on: use SpikingJelly's memopt.checkpoint_module, or call "
                "functional.reset_net inside of the function that is checkpointed"
            )
        outputs = super().forward(*args, **kwargs)
        if not again:
            self.__dict__["_left"] = self._tensors()  # not by torch's slow __setattr__
        return outputs

    def _exported(self, *args, **kwargs):
        """What ``torch.export`` records: a call from the start, that leaves the memories as they are."""
        if self.step_mode == "s":
            exported_step(type(self).__name__)
        kept = self._memories
        self.__dict__["_memories"] = dict(self._memories_rv)
        try:
            return super().forward(*args, **kwargs)
        finally:
            self.__dict__["_memories"] = kept

    def _tensors(self) -> tuple[int, ...]:
        return tuple([id(value) for value in self._memories.values() if isinstance(value, Tensor)])

    def _apply(self, fn, recurse: bool = True):
        return super()._apply(fn)  # SpikingJelly's takes no recurse, which torch's to_empty() hands over

    def detach(self) -> None:
        """Detach the memories from the graph (truncated backpropagation)."""
        for name, value in self._memories.items():
            if isinstance(value, Tensor):
                self._memories[name] = value.detach()
        self.__dict__["_left"] = self._tensors()
