r"""Weights of a few bits for deployment.

The weights of a layer become multiples of one step,

.. math:: w \to \Delta\, n, \qquad n = \max(-m, \min(m, \operatorname{round}(w / \Delta))), \qquad m = 2^{b-1} - 1,

for b bits: 2 bits are the ternary weights of Sun et al., *Exploiting heterogeneous delays for efficient computation in
low-bit neural networks* (arXiv:2510.27434), together with delays of a few bits (:mod:`snn_delay_plugins.delays.quantised`).
The step is the one of a hundred, from one to a hundred per cent of max |w| / m, that leaves the least squared error: few
large weights are clipped where that spares the many small ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_whole, shape_alone

__all__ = ["QuantisedWeight", "check_weight_bits", "quantise_weight"]

_STEPS = 100


class QuantisedWeight(NamedTuple):
    """Whole multiples of one step."""

    levels: Tensor
    """int32, of the shape of the weight."""
    scale: Tensor
    """The step, a number in the dtype of the weight."""
    error: float
    """The norm of what was changed, as a share of the norm of the weight."""

    @property
    def weight(self) -> Tensor:
        """The weight that they stand for."""
        return self.levels.to(self.scale.dtype) * self.scale


def check_weight_bits(bits: object) -> int:
    """
    :raises TypeError, ValueError: unless it is a whole number of 2 to 16.
    """
    return check_whole("weight_bits", bits, least=2, most=16)


def quantise_weight(weight: Tensor, bits: int) -> QuantisedWeight:
    """A weight of any shape in ``bits`` bits, 2 to 16 (equation: head of this module).

    :raises TypeError, ValueError: for another number of bits, or weights that are not finite.
    :raises RuntimeError: where there are no values to quantise.

    Example::

        >>> ternary = quantise_weight(torch.tensor([0.1, -1.0, 1.0]), bits=2)
        >>> ternary.levels.tolist(), ternary.scale.item(), round(ternary.error, 3)
        ([0, -1, 1], 1.0, 0.071)
    """
    bits = check_weight_bits(bits)
    if shape_alone(weight):
        raise RuntimeError("weights are quantised by their values: load them first (to_empty() and load_state_dict())")
    weight = weight.detach()
    if not bool(weight.isfinite().all()):
        raise ValueError("weights must be finite to be quantised")
    most = 2 ** (bits - 1) - 1
    largest = weight.abs().max() if weight.numel() else weight.new_zeros(())
    if not largest > 0:
        return QuantisedWeight(torch.zeros_like(weight, dtype=torch.int32), torch.ones_like(largest), 0.0)
    scales = [largest * ((k + 1) / _STEPS) / most for k in range(_STEPS)]
    scale = min(scales, key=lambda scale: float((_levels(weight, scale, most) * scale - weight).double().square().sum()))
    levels = _levels(weight, scale, most)
    error = (levels * scale - weight).double().norm() / weight.double().norm()
    return QuantisedWeight(levels.int(), scale, float(error))


def _levels(weight: Tensor, scale: Tensor, most: int) -> Tensor:
    return (weight / scale).round().clamp(-most, most)
