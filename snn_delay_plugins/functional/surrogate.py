r"""Surrogate gradients of the spike.

A neuron fires where its membrane potential reaches the threshold (Deckers et al., Eq. 1),

.. math:: s = \Theta(x) = \begin{cases} 1 & x \ge 0 \\ 0 & x < 0 \end{cases}, \qquad x = u - \theta .

Any callable ``x -> spikes`` of snnTorch or SpikingJelly serves as a surrogate; :class:`Boxcar` is the papers' own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..checks import LARGEST, check_number
from ..transforms import transform

__all__ = ["Boxcar", "derivative", "fire"]


class _BoxcarSpike(torch.autograd.Function):
    """Without setup_context, for which torch would look up the signature in every step."""

    @staticmethod
    def forward(ctx, x: Tensor, width: float, height: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.width, ctx.height = width, height
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (grad,) = gradients
        (x,) = ctx.saved_tensors
        return grad * ctx.height * (x.abs() <= ctx.width).to(grad.dtype), None, None


class _BoxcarSpikeInTransforms(torch.autograd.Function):
    """With the rules of vmap and of forward mode; torch.compile takes no function that has the latter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, width: float, height: float) -> Tensor:
        return (x >= 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, width, height = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        ctx.width, ctx.height = width, height

    backward = _BoxcarSpike.backward

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_):
        (x,) = ctx.saved_tensors
        return tangent * ctx.height * (x.abs() <= ctx.width).to(tangent.dtype)


class Boxcar(nn.Module):
    r"""Spike with the boxcar surrogate gradient of Deckers et al., Eq. 6.

    .. math:: \frac{\partial s}{\partial u} =
        \begin{cases} 0.5 & |u - \theta| \le 0.5 \\ 0 & \text{otherwise} \end{cases}

    Called on ``x = u - threshold`` of any shape, it returns spikes (0 or 1) of the same shape and dtype; it fires at
    ``x >= 0``. It can be used as ``spike_grad`` in snnTorch and as ``surrogate_function`` in SpikingJelly.

    :param width: half-width of the box around the threshold (paper: 0.5).
    :param height: gradient inside the box (paper: 0.5; the code of Bittar & Garner uses 1).
    :raises ValueError: if ``width`` or ``height`` is not positive and finite. :raises TypeError: if one is no number.

    Example::

        >>> import torch
        >>> u = torch.tensor([0.4, 0.9, 1.0, 1.6], requires_grad=True)
        >>> spikes = Boxcar()(u - 1.0)
        >>> spikes.sum().backward()
        >>> spikes.tolist(), u.grad.tolist()
        ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 0.0])
    """

    is_boxcar = True  # the kernels know its gradient

    def __init__(self, width: float = 0.5, height: float = 0.5) -> None:
        super().__init__()
        self.width = check_number("width", width, above=0.0, most=LARGEST)
        self.height = check_number("height", height, above=0.0, most=LARGEST)

    def forward(self, x: Tensor) -> Tensor:
        spike = _BoxcarSpike if transform() is None else _BoxcarSpikeInTransforms
        return spike.apply(x, self.width, self.height)

    def extra_repr(self) -> str:
        return f"width={self.width}, height={self.height}"


def fire(x: Tensor, surrogate: Callable[[Tensor], Tensor]) -> Tensor:
    """Spikes at ``x >= 0``, with the gradient of ``surrogate`` and the dtype of ``x``.

    snnTorch's surrogates fire at ``x > 0`` and return float32; a neuron that sits exactly on the threshold is given
    its spike here, so that the two frameworks and Eq. 1 agree. A smooth forward function (SpikingJelly's
    ``spiking=False``) passes unchanged.

    :raises ValueError: if the surrogate changes the shape. :raises TypeError: if it returns no tensor.
    """
    spikes = surrogate(x)
    if isinstance(surrogate, Boxcar):
        return spikes
    if not isinstance(spikes, Tensor):
        raise TypeError(f"the surrogate must return a tensor of spikes, got {type(spikes).__name__}")
    if spikes.shape != x.shape:
        raise ValueError(f"surrogate changed the shape {tuple(x.shape)} to {tuple(spikes.shape)}")
    spikes = spikes.to(x.dtype)
    return spikes + ((x == 0) & (spikes == 0)).to(x.dtype)


def derivative(x: Tensor, surrogate: Callable[[Tensor], Tensor]) -> Tensor:
    r"""The surrogate derivative :math:`\varphi = \partial s / \partial x`, element by element, without graph."""
    if isinstance(surrogate, Boxcar):
        return surrogate.height * (x.detach().abs() <= surrogate.width).to(x.dtype)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        spikes = surrogate(x)
        if not spikes.requires_grad:  # snnTorch's surrogate_disable=True: the plain step
            return torch.zeros_like(x)
        (phi,) = torch.autograd.grad(spikes.sum(), x)
    return phi
