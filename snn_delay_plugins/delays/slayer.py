r"""Delays between whole steps, learned by the SLAYER rule.

Deckers et al., *Co-learning synaptic delays, weights and adaptation in spiking neural networks*, Eq. 7 and 9; Shrestha &
Orchard 2018. With d = k + f, k whole and 0 <= f < 1, a spike of weight w arrives

- ``interpolation="linear"``: with w (1 - f) after k steps and w f after k + 1,
- ``"round"``: after the nearest whole number of steps, ``"floor"``: after k (straight-through: only in the value).

The gradient of the delay is the time derivative of the delayed spike train,

.. math:: \frac{\partial L}{\partial d_{ij}}
    = - W_{ij} \sum_t \frac{\partial L}{\partial I_i[t]}\, \bigl(s_j[t-k] - s_j[t-k-1]\bigr),

which for linear interpolation is the exact derivative (at a whole delay: the derivative towards longer delays): the
derivative of two taps, of which with ``"round"`` and ``"floor"`` the second is zero. Evaluation computes the same.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from .rule import DelayRule, Window, check_delays, scatter_window

__all__ = ["FLOOR", "LINEAR", "ROUND", "Interpolation"]

Interpolation = Literal["linear", "round", "floor"]


def _window(weight: Tensor, delay: Tensor, max_delay: int, interpolation: Interpolation) -> Window:
    """Two taps; only one where delays are whole and not learned."""
    check_delays(delay, max_delay)
    known = delay.detach()
    whole = known.round() if interpolation == "round" else known.floor()
    if interpolation != "linear" and not delay.requires_grad:
        return Window(weight[None], whole.long())
    later = weight * (delay - (whole if interpolation == "linear" else known))  # else: zero, with the gradient of d
    return Window(torch.stack((weight - later, later)), whole.long())


def _kernel(weight: Tensor, delay: Tensor, max_delay: int, interpolation: Interpolation) -> Tensor:
    """The last tap is there for the derivative at the longest delay, and zero."""
    kernel = scatter_window(_window(weight, delay, max_delay, interpolation), max_delay + 2)
    return kernel if delay.requires_grad else kernel[:-1]


_INTERPOLATIONS: dict[str, DelayRule] = {}
for _name in get_args(Interpolation):
    _INTERPOLATIONS[_name] = DelayRule(
        name="slayer",
        window=partial(_window, interpolation=_name),
        equation=r"w\,(1 - f)\,\delta[\tau - k] + w f\,\delta[\tau - k - 1]",
        source="Deckers et al., arXiv:2311.16112, Eq. 7 and 9; Shrestha & Orchard 2018",
        kernel=partial(_kernel, interpolation=_name),
        width=2,
        interpolations=_INTERPOLATIONS,
        smoothing=True,
    )

LINEAR, ROUND, FLOOR = (_INTERPOLATIONS[name] for name in ("linear", "round", "floor"))
