"""A forgotten reset in training: the second backward pass runs into the steps of the first, and is told so in our words.

Torch frees a graph in its backward pass, and notices where an optimizer has changed a parameter that it saved. Both errors
speak of saved tensors; the cause is nearly always a state that was carried from one batch to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .transforms import transform

__all__ = ["ToldOfSecondBackward"]

_autograd = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue] - torch's stubs leave it out
_packing = getattr(_autograd, "_top_saved_tensors_default_hooks", lambda ignore: None)
_DEPTH = 5  # from a state to tensors that its step has saved


class ToldOfSecondBackward(nn.Module):
    """A module that carries a state from step to step: ``before = self.continued(state)``, then the step from ``before``
    to ``after``, then ``self.carries(after)``.

    One hook at the start of a window notes that a backward pass has reached it. The first step after that starts from the
    state through :class:`_Seam`, which does nothing but look, in the next backward pass that reaches it, whether that one
    can go on. Programs that never run a second backward pass, or may (``retain_graph=True``), compute what they did.
    """

    _reset_and_detach = ""  # what a user calls, as "reset(net) between batches, or detach(net) between windows"
    _window: list[bool] | None = None
    """Not empty: a backward pass has reached the first step of the window. None: no window has begun."""

    def continued(self, state: Tensor) -> Tensor:
        """``state``, from which the next step starts."""
        if torch.compiler.is_compiling() or self._window is None:
            return state
        if not state.requires_grad:
            self._window = None
        elif self._window and torch.is_grad_enabled() and transform() is None:
            self._window = None
            return _Seam.apply(state, type(self).__name__, self._reset_and_detach)
        return state

    def carries(self, state: Tensor, spikes: Tensor | None = None) -> None:
        """``state`` is what the step has left; ``spikes``: those of a sequence, which may be all that a loss reads."""
        if torch.compiler.is_compiling() or self._window is not None or not state.requires_grad:
            return
        if _packing(False) is not None:  # torch.utils.checkpoint: what it saves may be looked at once, by its owner
            return
        if torch._C._current_graph_task_id() == -1 and transform() is None:
            window: list[bool] = []
            for reached in (state,) if spikes is None else (state, spikes):
                if reached.requires_grad:
                    reached.register_hook(lambda gradient: window.append(True))
            self._window = window


class _Seam(torch.autograd.Function):
    """The identity between two windows."""

    @staticmethod
    def forward(ctx, state: Tensor, name: str, remedy: str) -> Tensor:
        ctx.name, ctx.remedy = name, remedy
        return state.view_as(state)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        cause = _spent(ctx.next_functions[0][0], _DEPTH)
        if cause is not None:
            raise RuntimeError(
                f"a second backward pass reached steps of {ctx.name} that an earlier one has been through: its states were "
                f"carried on from there, and what those steps saved is freed or changed by the optimizer. Call {ctx.remedy}"
            ) from cause
        return gradient, None, None


def _spent(node: torch.autograd.graph.Node | None, depth: int) -> RuntimeError | None:
    """Torch's error if something that a node near ``node`` has saved for its backward pass is no longer there."""
    if node is None or not depth:
        return None
    for name in dir(node):
        if name == "saved_tensors" or name.startswith("_saved_"):
            try:
                getattr(node, name)
            except RuntimeError as error:
                if "second time" in str(error) or "inplace operation" in str(error):
                    return error
    for before, _ in node.next_functions:
        cause = _spent(before, depth - 1)
        if cause is not None:
            return cause
    return None
