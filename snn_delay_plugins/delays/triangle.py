r"""Delays learned through a triangle that narrows over training: the interpolation of DelRec.

Queant, Rançon, Cottereau, Masquelier, *DelRec: learning delays in recurrent spiking neural networks* (arXiv:2509.24852):
a spike of weight w that is due after d steps arrives over the steps tau with

.. math:: K[\tau] = w\, \frac{\max(0,\ s - |\tau - d|)}{s^2}, \qquad s = 1 + \sigma,

a triangle of half base s, in training; sigma shrinks from epoch to epoch, and evaluation takes one tap at the rounded
delay. At sigma = 0 it is the linear interpolation between the two steps around d. The taps sum up to w for whole s and
nearly so for others: unlike the triangle of ``dcls`` (version ``"max"``), it is not normalised by their sum.

What was taken from the paper and its code: the triangle, its scale, the rounding in evaluation, and sigma as one number
for all synapses that falls exponentially, from 10 steps by 0.95 per epoch over 100 epochs
(``ExponentialSigma(epochs=100, initial=10.0, final=0.06)`` of :mod:`snn_delay_plugins.schedules`). What was not: there the
connections are recurrent, with one step of delay more, and each neuron may learn its share of sigma (here: ``learn_sigma``
and ``sigma_type``). Of a triangle that reaches below lag 0 or beyond ``max_delay`` + 1 that part is lost.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .rule import DelayRule, RuleParameter, Window, check_delays, check_width
from .slayer import ROUND

__all__ = ["TRIANGLE"]


def _window(weight: Tensor, delay: Tensor, max_delay: int, sigma: float | Tensor) -> Window:
    check_delays(delay, max_delay)
    half_base = 1 + check_width(sigma, weight, zero=True)
    reach = math.ceil(float(half_base.detach().max())) if half_base.numel() else 0
    width = min(2 * reach + 1, max_delay + 2)
    lags = (delay.detach().floor().long() - reach).clamp(0, max_delay + 2 - width)
    return Window(_taps(weight, delay - lags, half_base, width), lags)


def _kernel(weight: Tensor, delay: Tensor, max_delay: int, sigma: float | Tensor) -> Tensor:
    check_delays(delay, max_delay)
    return _taps(weight, delay, 1 + check_width(sigma, weight, zero=True), max_delay + 2)


def _taps(weight: Tensor, delay: Tensor, half_base: Tensor, width: int) -> Tensor:
    lag = torch.arange(width, dtype=weight.dtype, device=weight.device).view(-1, *[1] * weight.dim())
    distance = lag - delay
    distance = torch.where(distance == -half_base, distance.detach(), distance)  # a foot that longer delays leave
    height = half_base + torch.where(distance > 0, -distance, distance)  # at the peak: the derivative to longer delays
    return height.clamp(min=0) * (weight / half_base**2)  # whose derivative at a foot is not zero


def _start(max_delay: int) -> float:
    """As published, but no wider than the delays."""
    return min(10.0, (max_delay + 1) / 2)


def _widest(max_delay: int) -> float:
    return max_delay + 1.0


TRIANGLE = DelayRule(
    name="triangle",
    window=_window,
    equation=r"w \max(0, s - |\tau - d|) / s^2, \quad s = 1 + \sigma",
    source="Queant et al., DelRec, arXiv:2509.24852",
    parameters={"sigma": RuleParameter(0.0, _widest, _start)},
    kernel=_kernel,
    evaluated=ROUND,
)
