r"""Convolutions over time as products per frequency.

With :math:`S = S_r + i S_i`, :math:`H = H_r + i H_i` a complex product is three real ones (Gauss),

.. math:: S H = (p_1 - p_3) + i\,(p_1 + p_2), \quad
    p_1 = (S_r + S_i) H_r, \quad p_2 = S_r (H_i - H_r), \quad p_3 = S_i (H_r + H_i),

and all sums around the products are linear, so that they belong to the transforms. What remains is a bilinear form of real
numbers, transforms being matrices:

.. math:: I = C \,[(A s) \cdot (B K)],

with the gradients :math:`B^T [(A s) \cdot (C^T g)]` of K and :math:`A^T [(B K) \cdot (C^T g)]` of s. On two CPU cores
three products and transforms by matrices are faster than fast Fourier transforms, which spend their time on moving memory.
The matrices grow with the square of the length, though: long signals take the fast transforms (:class:`_Fourier`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LONGEST_MATRIX", "Transforms", "transforms"]

LONGEST_MATRIX = 2048
"""Steps up to which transforms are matrices; three of them have 25 million entries by then."""


class Transforms:
    """By matrices. Signals are ``[steps, columns]`` with at most ``length`` steps, spectra ``[frequencies, columns]``.

    Frequencies above half the length are conjugates and counted by doubling the others; omega = 0 (and pi, where the
    length is even) is real and needs one product.
    """

    def __init__(self, length: int, like: Tensor) -> None:
        time = torch.arange(length, device=like.device)
        real = torch.tensor([0, length // 2] if length % 2 == 0 else [0], device=like.device)
        pairs = torch.arange(1, (length + 1) // 2, device=like.device)

        def basis(frequencies: Tensor) -> tuple[Tensor, Tensor]:
            angle = (frequencies[:, None] * time % length).double() * (2 * math.pi / length)
            return angle.cos(), angle.sin()

        cos, sin = basis(pairs)  # the transform is cos - i sin
        alone = basis(real)[0]
        self._a = torch.cat([alone, cos - sin, cos, -sin]).to(like.dtype)
        self._b = torch.cat([alone, cos, -sin - cos, cos - sin]).to(like.dtype)
        self._c = (torch.cat([alone, 2 * (cos - sin), -2 * sin, -2 * cos]).mT / length).to(like.dtype)

    def of_trains(self, trains: Tensor) -> Tensor:
        """A s."""
        return self._a[:, : len(trains)] @ trains

    def of_kernel(self, kernel: Tensor) -> Tensor:
        """B K."""
        return self._b[:, : len(kernel)] @ kernel

    def back(self, products: Tensor, first: int, last: int) -> Tensor:
        """C p, from step ``first`` to before step ``last``."""
        return self._c[first:last] @ products

    def of_gradients(self, gradients: Tensor) -> Tensor:
        """C^T g."""
        return self._c[: len(gradients)].mT @ gradients

    def of_taps(self, products: Tensor, taps: int) -> Tensor:
        """B^T p, of the first ``taps``: the gradient of a kernel."""
        return self._b[:, :taps].mT @ products


class _Fourier(Transforms):
    """By fast Fourier transforms; spectra are complex."""

    def __init__(self, length: int) -> None:
        spare = max(0, length.bit_length() - 5)
        self._length = -(-length >> spare) << spare  # at least, a small number times a power of two

    def of_trains(self, trains: Tensor) -> Tensor:
        return torch.fft.rfft(trains, self._length, dim=0)

    def of_kernel(self, kernel: Tensor) -> Tensor:
        return torch.fft.rfft(kernel, self._length, dim=0)

    def back(self, products: Tensor, first: int, last: int) -> Tensor:
        return torch.fft.irfft(products, self._length, dim=0)[first:last]

    def of_gradients(self, gradients: Tensor) -> Tensor:
        return torch.fft.rfft(gradients, self._length, dim=0).conj().resolve_conj()

    def of_taps(self, products: Tensor, taps: int) -> Tensor:
        return torch.fft.irfft(products.conj(), self._length, dim=0)[:taps]


def transforms(length: int, like: Tensor) -> Transforms:
    """For signals of ``length`` steps with the device and dtype of ``like``."""
    return Transforms(length, like) if length <= LONGEST_MATRIX else _Fourier(length)
