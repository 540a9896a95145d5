r"""Causal convolution over time of spike trains with a kernel per synapse,

.. math:: I_i[t] = \sum_j \sum_\tau K_{ij}[\tau]\, s_j[t - \tau],

directly, or over many taps as one product per frequency.

Shapes: trains ``[T, N, in]``, kernel ``[taps, out, in]``, output ``[T, N, out]``.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["causal_convolution"]

METHODS = ("direct", "fft")
# Measured on 2 CPU cores at [125, 128, 140] -> 128, forward and backward: the FFT costs as much as about 5 taps.
_FFT_FROM_TAPS = 6


def causal_convolution(trains: Tensor, kernel: Tensor, method: str | None = None) -> Tensor:
    """``out[t] = sum_tau kernel[tau] @ trains[t - tau]``: trains [T, N, in], kernel [L, out, in] -> [T, N, out]."""
    kernel = kernel[: max(trains.shape[0], 1)]  # later taps arrive past the end
    steps, batch, _ = trains.shape
    taps, out, _ = kernel.shape
    if steps == 0 or batch == 0:
        return trains.new_zeros(steps, batch, out) + 0 * (trains.sum() + kernel.sum())  # keeps the graph
    if method is None:
        method = "fft" if taps >= _FFT_FROM_TAPS else "direct"
    if method == "direct":
        padded = F.pad(trains.permute(1, 2, 0), (taps - 1, 0))
        return F.conv1d(padded, kernel.permute(1, 2, 0).flip(-1)).permute(2, 0, 1)
    if method == "fft":
        return _SpectralConvolution.apply(trains, kernel, _fast_length(steps + taps - 1))[0]
    raise ValueError(f"method must be one of {METHODS}, got {method!r}")


class _SpectralConvolution(torch.autograd.Function):
    r"""The causal convolution as one product per frequency, :math:`Y_\omega = S_\omega H_\omega`.

    Its adjoints are correlations, :math:`\bar S = \bar Y H^*` and :math:`\bar H = S^* \bar Y`, written out here because
    autograd would take complex transforms of real signals. Spectra of signals are stacked, real parts above
    imaginary ones (``[F, 2 N, C]``), so that the complex products are two real ones.
    """

    @staticmethod
    def forward(trains: Tensor, kernel: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        spectrum = _spectrum(trains, length)
        real, imaginary = _response(kernel, length)
        by_real, by_imaginary = (spectrum @ real).chunk(2, 1), (spectrum @ imaginary).chunk(2, 1)
        product = torch.complex(by_real[0] - by_imaginary[1], by_imaginary[0] + by_real[1])
        return torch.fft.irfft(product, length, dim=0)[: trains.shape[0]], spectrum, real, imaginary

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        trains, kernel, ctx.length = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.steps, ctx.taps = trains.shape[0], kernel.shape[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor, *_):
        spectrum, real, imaginary = ctx.saved_tensors
        grad = _spectrum(grad, ctx.length)
        grad_trains = grad_kernel = None
        if ctx.needs_input_grad[0]:
            by_real, by_imaginary = (grad @ real.mT).chunk(2, 1), (grad @ imaginary.mT).chunk(2, 1)
            product = torch.complex(by_real[0] + by_imaginary[1], by_real[1] - by_imaginary[0])
            grad_trains = torch.fft.irfft(product, ctx.length, dim=0)[: ctx.steps]
        if ctx.needs_input_grad[1]:
            above, below = grad.chunk(2, 1)
            turned = torch.cat([below, -above], 1)
            grad_kernel = _lags(spectrum.mT @ grad, spectrum.mT @ turned, ctx.taps, ctx.length)
        return grad_trains, grad_kernel, None


def _spectrum(signal: Tensor, length: int) -> Tensor:
    """[T, N, C] -> [F, 2 N, C], the real parts above the imaginary ones."""
    parts = torch.view_as_real(torch.fft.rfft(signal, length, dim=0))
    return parts.permute(0, 3, 1, 2).flatten(1, 2)


def _fourier_basis(taps: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of omega tau, each [F, taps]: with few taps a small matrix is the fastest transform."""
    turns = torch.arange(length // 2 + 1, device=like.device)[:, None] * torch.arange(taps, device=like.device)
    angle = (turns % length).double() * (2 * math.pi / length)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def _response(kernel: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """[L, out, in] -> the real and imaginary parts of its transform, each [F, in, out]."""
    taps, out, inputs = kernel.shape
    cosine, sine = _fourier_basis(taps, length, kernel)
    flat = kernel.mT.reshape(taps, inputs * out)
    return (cosine @ flat).view(-1, inputs, out), (-sine @ flat).view(-1, inputs, out)


def _lags(real: Tensor, imaginary: Tensor, taps: int, length: int) -> Tensor:
    """The inverse transform of [F, in, out] at the first lags, [L, out, in]."""
    # every frequency but the first (and, for even lengths, the last) stands for its conjugate too
    share = real.new_full((real.shape[0], 1), 2 / length)
    share[0] = 1 / length
    if length % 2 == 0:
        share[-1] = 1 / length
    cosine, sine = _fourier_basis(taps, length, real)
    lags = (share * cosine).mT @ real.flatten(1) - (share * sine).mT @ imaginary.flatten(1)
    return lags.view(taps, *real.shape[1:]).mT


def _fast_length(length: int) -> int:
    """The smallest number >= length whose prime factors are 2, 3 and 5 (fast Fourier transform sizes)."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
