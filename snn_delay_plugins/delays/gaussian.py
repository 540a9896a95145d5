r"""Delays learned through a Gaussian: dilated convolutions with learnable spacings (DCLS).

Hammouamri, Khalfaoui-Hassani, Masquelier, *Learning Delays in Spiking Neural Networks using Dilated Convolutions with
Learnable Spacings*, Eq. 9 and 10, by the lag tau = T_d - 1 - n with T_d = ``max_delay`` + 1,

.. math:: K[\tau] = \frac{w}{c} \exp\Bigl(-\frac12 \Bigl(\frac{\tau - d}{\sigma}\Bigr)^2\Bigr), \qquad
    c = \epsilon + \sum_\tau \exp(\ldots), \quad \epsilon = 10^{-7},

for tau = 0 ... T_d - 1. The ``dcls`` package's version ``"max"`` is a triangle of half base sigma in place of the Gaussian.
Training sees this kernel, whose sigma shrinks from epoch to epoch (:mod:`snn_delay_plugins.schedules`), evaluation one
tap at the rounded delay (Eq. 7).

eps takes weight away from a delay between two steps once sigma is small (all of it below sigma = 0.09 for a delay
halfway between two): the discrete kernel is the limit for whole delays alone. :func:`gaussian_kernel` warns there.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..callers import user_level
from ..checks import check_choice, check_real, check_tensor, values_known
from .rule import DelayRule, RuleParameter, Window, check_delays, check_width
from .slayer import ROUND

__all__ = ["DCLS_MAX", "GAUSSIAN", "SMALLEST_SIGMA", "gaussian_kernel"]

EPSILON = 1e-7  # Eq. 10
Shape = Literal["gauss", "max"]
SHAPES: tuple[Shape, ...] = ("gauss", "max")
SMALLEST_SIGMA = {"gauss": 0.27, "max": 1.0}
"""What the ``dcls`` package adds to ``|SIG|``."""
_SIGMA_THAT_LOSES_WEIGHT = 0.5 / math.sqrt(-2 * math.log(EPSILON))  # exp(-(1/2 / sigma)^2 / 2) = eps
_REACH = {torch.float32: 6.0, torch.float64: 8.7}  # in sigmas; what lies beyond is below the rounding of the sum


def gaussian_kernel(weight: Tensor, delay: Tensor, sigma: float | Tensor, max_delay: int, shape: Shape = "gauss") -> Tensor:
    """The kernels of Eq. 9 and 10 by lag.

    :param weight: of any shape, one per synapse.
    :param delay: in time steps, within ``[0, max_delay]``, broadcastable to ``weight``.
    :param sigma: standard deviation in time steps, greater than zero: a number or a tensor broadcastable to ``weight``.
    :param max_delay: T_d - 1.
    :param shape: ``"gauss"``, or ``"max"``: max(0, sigma - |tau - d|) in place of the exponential.
    :returns: ``[max_delay + 1, *weight.shape]``; tap tau weighs the spikes of tau steps ago. Differentiable in
        ``weight``, ``delay`` and ``sigma``. The taps of a synapse sum up to its weight (but for eps).
    :raises ValueError: for an unknown ``shape``, shapes that do not broadcast, a sigma that is not a positive number,
        or delays that are negative, NaN or too long.

    Example::

        >>> import torch
        >>> kernel = gaussian_kernel(torch.tensor([[2.0]]), torch.tensor([[1.0]]), sigma=0.5, max_delay=2)
        >>> [round(tap, 3) for tap in kernel.flatten().tolist()]
        [0.213, 1.574, 0.213]
    """
    check_choice("shape", shape, SHAPES)
    if not check_tensor("weight", weight).is_floating_point():
        raise TypeError(f"weight must be floating point, got {weight.dtype}")
    check_real("delay", check_tensor("delay", delay))
    max_delay = check_delays(delay, max_delay)
    sigma = _checked_sigma(sigma, weight, shape)
    lag = torch.arange(max_delay + 1, dtype=weight.dtype, device=weight.device).view(-1, *[1] * weight.dim())
    distance = lag - delay
    bump = torch.exp(-0.5 * (distance / sigma) ** 2) if shape == "gauss" else (sigma - distance.abs()).relu()
    return bump * (weight / (EPSILON + bump.sum(0)))


def _window(weight: Tensor, delay: Tensor, max_delay: int, sigma: float | Tensor, shape: Shape) -> Window:
    """The part of the kernel that is not lost in rounding."""
    check_delays(delay, max_delay)
    sigma = _checked_sigma(sigma, weight, shape)
    reach = _REACH.get(weight.dtype, 8.7) if shape == "gauss" else 1.0
    reach = math.ceil(reach * float(sigma.detach().max())) if sigma.numel() else 0
    width = min(2 * reach + 2, max_delay + 1)
    lag = (delay.detach().floor().long() - reach).clamp(0, max_delay + 1 - width)
    return Window(gaussian_kernel(weight, delay - lag, sigma, width - 1, shape), lag)


def _kernel(weight: Tensor, delay: Tensor, max_delay: int, sigma: float | Tensor, shape: Shape) -> Tensor:
    return gaussian_kernel(weight, delay, sigma, max_delay, shape)


def _checked_sigma(sigma: float | Tensor, weight: Tensor, shape: Shape) -> Tensor:
    sigma = check_width(sigma, weight)
    if sigma.numel() == 0 or not values_known(sigma):
        return sigma
    smallest = sigma.detach().min().item()
    if smallest < _SIGMA_THAT_LOSES_WEIGHT and shape == "gauss":
        warnings.warn(
            f"sigma = {smallest:g}: below {_SIGMA_THAT_LOSES_WEIGHT:.2f} eps in Eq. 10 takes the weight of delays "
            "between two steps away; for one tap per synapse use evaluation mode, discretize() or "
            "delayed_linear(..., interpolation='round')",
            stacklevel=user_level(),
        )
    return sigma


def _start(max_delay: int, smallest: float) -> float:
    """Where the published annealing starts."""
    return (max_delay + 1) // 2 + smallest


def _widest(max_delay: int) -> float:
    return max_delay + 1.0


_BUMPS: dict[Shape, str] = {
    "gauss": r"\frac{w}{c} \exp\bigl(-\tfrac12 ((\tau - d) / \sigma)^2\bigr)",
    "max": r"\frac{w}{c} \max(0, \sigma - |\tau - d|)",
}
GAUSSIAN, DCLS_MAX = (
    DelayRule(
        name=name,
        window=partial(_window, shape=shape),
        equation=_BUMPS[shape],
        source="Hammouamri et al., arXiv:2306.17670, Eq. 9 and 10; evaluation: Eq. 7",
        parameters={
            "sigma": RuleParameter(SMALLEST_SIGMA[shape], _widest, partial(_start, smallest=SMALLEST_SIGMA[shape]))
        },
        kernel=partial(_kernel, shape=shape),
        evaluated=ROUND,
    )
    for name, shape in zip(("gaussian", "dcls_max"), SHAPES, strict=True)
)
