r"""Convolutions over time as products per frequency, of real numbers alone.

With :math:`S = S_r + i S_i`, :math:`H = H_r + i H_i` a complex product is three real ones (Gauss),

.. math:: S H = (p_1 - p_3) + i\,(p_1 + p_2), \quad
    p_1 = (S_r + S_i) H_r, \quad p_2 = S_r (H_i - H_r), \quad p_3 = S_i (H_r + H_i),

and all sums around the products are linear, so that they belong to the transforms. What remains is a bilinear form,
transforms being small matrices:

.. math:: I = C \,[(A s) \cdot (B K)],

with the gradients :math:`B^T [(A s) \cdot (C^T g)]` of K and :math:`A^T [(B K) \cdot (C^T g)]` of s. On two CPU cores
three products and transforms by matrices are faster than fast Fourier transforms, which spend their time on moving memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["transforms"]


def transforms(length: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices A ``[products, length]``, B ``[products, length]`` and C ``[length, products]`` for real signals.

    Frequencies above half the length are conjugates and counted by doubling the others; omega = 0 (and pi, where the
    length is even) is real and needs one product.
    """
    time = torch.arange(length, device=like.device)
    real = torch.tensor([0, length // 2] if length % 2 == 0 else [0], device=like.device)
    pairs = torch.arange(1, (length + 1) // 2, device=like.device)

    def basis(frequencies: Tensor) -> tuple[Tensor, Tensor]:
        angle = (frequencies[:, None] * time % length).double() * (2 * math.pi / length)
        return angle.cos(), angle.sin()

    cos, sin = basis(pairs)  # the transform is cos - i sin
    alone = basis(real)[0]
    of_trains = torch.cat([alone, cos - sin, cos, -sin])
    of_kernel = torch.cat([alone, cos, -sin - cos, cos - sin])
    back = torch.cat([alone, 2 * (cos - sin), -2 * sin, -2 * cos]).mT / length
    return of_trains.to(like.dtype), of_kernel.to(like.dtype), back.to(like.dtype)
