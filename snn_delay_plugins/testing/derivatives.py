"""Gradients of a case, and what they are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .registry import NotApplicable
from .subject import Case

__all__ = ["gradients", "weighted"]


def weighted(output: Tensor) -> Tensor:
    """A loss that no two places have an equal share in."""
    generator = torch.Generator().manual_seed(3)
    return (output * torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)).sum()


def gradients(case: Case, net: nn.Module, x: Tensor, run=None) -> dict[str, Tensor]:
    """Of a loss of the output, by the name of the parameter; "the input" is one of them.

    :raises NotApplicable: if the output has no gradient.
    """
    x = x.detach().clone().requires_grad_()
    output = (run or case.run)(net, x)
    if not output.requires_grad:
        raise NotApplicable("its output has no gradient")
    weighted(output).backward()
    named = {"the input": x.grad} | {name: parameter.grad for name, parameter in net.named_parameters()}
    return {name: gradient for name, gradient in named.items() if gradient is not None}
