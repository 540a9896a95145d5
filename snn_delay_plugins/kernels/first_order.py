"""Backward passes of compiled operators, which have no derivative of their own."""

from __future__ import annotations

from torch.autograd import forward_ad
from torch.library import CustomOpDef

__all__ = ["PLAIN_FORM", "first_order_only", "reverse_mode_only"]

PLAIN_FORM = 'take the plain PyTorch form, method="torch" or SNN_DELAY_PLUGINS_METHOD=torch'
"""The remedy where compiled code cannot do what torch can."""


def first_order_only(backward: CustomOpDef, name: str, remedy: str = "it has first derivatives alone") -> None:
    """Let a second differentiation of ``name`` say what can be done, in place of torch's words about its internals."""

    def refuse(ctx, *gradients):
        raise RuntimeError(
            f"the gradient of {name} is compiled and cannot be differentiated again (double backward, "
            f"create_graph=True): {remedy}"
        )

    backward.register_autograd(refuse)


def reverse_mode_only(name: str, remedy: str = PLAIN_FORM) -> None:
    """Called by an operator itself: torch drops the tangents of one that has no rule for them.

    :raises NotImplementedError: in forward-mode AD (``torch.func.jvp``, ``jacfwd``, dual numbers).
    """
    if forward_ad._current_level >= 0:
        raise NotImplementedError(f"{name} is compiled and has no derivative in forward mode: {remedy}")
