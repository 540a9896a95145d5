r"""Causal convolution over time of spike trains with a kernel per synapse,

.. math:: I_i[t] = \sum_j \sum_\tau K_{ij}[\tau]\, s_j[t - \tau],

directly, or over many taps as products per frequency.

The spectral form takes blocks of B steps, whose response is M = B + taps - 1 steps long, and multiplies at the M
frequencies (:mod:`snn_delay_plugins.kernels.frequencies`), beyond some thousand of them without blocks; its gradients are
of the same form and left to autograd.

Shapes: trains ``[T, N, in]``, kernel ``[taps, out, in]``, output ``[T, N, out]``.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from ..checks import check_tensor, check_whole
from ..kernels.frequencies import LONGEST_MATRIX, transforms

__all__ = ["causal_convolution"]

ConvolutionMethod = Literal["direct", "fft"]
METHODS = get_args(ConvolutionMethod)
_FFT_FROM_TAPS = 6


def causal_convolution(trains: Tensor, kernel: Tensor, method: ConvolutionMethod | None = None, after: int = 0) -> Tensor:
    """``out[t] = sum_tau kernel[tau] @ trains[t - tau]`` for t = 0 ... T - 1 + after.

    :param trains: ``[T, N, in]``. :param kernel: ``[taps, out, in]``, first tap at lag 0, of the same dtype.
    :param method: ``"direct"`` (the reference) or ``"fft"`` (products per frequency); default: by the number of taps.
        The two agree up to rounding.
    :param after: steps of the response after the last of the trains.
    :returns: ``[T + after, N, out]``; what arrives past the end is lost.
    :raises ValueError: for an unknown method, shapes or devices that do not fit, or a negative ``after``.
    :raises TypeError: for different dtypes.
    """
    _check(trains, kernel)
    after = check_whole("after", after)
    steps, batch, _ = trains.shape
    kernel = kernel[: max(steps + after, 1)]  # later taps arrive past the end
    taps, out, _ = kernel.shape
    if method not in (None, *METHODS):
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if steps == 0 or batch == 0:
        return trains.new_zeros(steps + after, batch, out) + 0 * (trains.sum() + kernel.sum())  # keeps the graph
    if taps == 1:
        return F.pad(trains @ kernel[0].mT, (0, 0, 0, 0, 0, after))
    if method is None:
        method = "fft" if taps >= _FFT_FROM_TAPS else "direct"
    if method == "direct":
        padded = F.pad(trains.permute(1, 2, 0), (taps - 1, after))
        return F.conv1d(padded, kernel.permute(1, 2, 0).flip(-1)).permute(2, 0, 1)
    return _spectral_convolution(trains, kernel, after)


def _check(trains: Tensor, kernel: Tensor) -> None:
    if check_tensor("trains", trains).dim() != 3:
        raise ValueError(f"trains must be [T, N, in], got shape {tuple(trains.shape)}")
    if check_tensor("kernel", kernel).dim() != 3 or kernel.shape[0] < 1 or kernel.shape[2] != trains.shape[2]:
        raise ValueError(
            f"kernel must be [taps, out, {trains.shape[2]}] with at least one tap for trains of shape "
            f"{tuple(trains.shape)}, got {tuple(kernel.shape)}"
        )
    if trains.device != kernel.device:
        raise ValueError(f"trains are on {trains.device} but kernel on {kernel.device}; move one of them")
    if trains.dtype != kernel.dtype:
        raise TypeError(f"trains are {trains.dtype} but kernel is {kernel.dtype}; convert one of them")


def _spectral_convolution(trains: Tensor, kernel: Tensor, after: int) -> Tensor:
    steps, batch, inputs = trains.shape
    taps, out, _ = kernel.shape
    block = _block_length(steps, taps, batch, inputs, out)
    if block + taps - 1 > LONGEST_MATRIX:  # by fast transforms, which need no blocks
        block = steps
    blocks, per_frequency = math.ceil(steps / block), transforms(block + taps - 1, like=kernel)
    if blocks > 1:
        trains = F.pad(trains, (0, 0, 0, 0, 0, blocks * block - steps)).view(blocks, block, batch, inputs)
        trains = trains.transpose(0, 1)
    spectrum = per_frequency.of_trains(trains.reshape(block, -1)).view(-1, blocks * batch, inputs)
    response = per_frequency.of_kernel(kernel.reshape(taps, -1)).view(-1, out, inputs)
    products = (spectrum @ response.mT).flatten(1)
    if blocks == 1:
        whole = per_frequency.back(products, 0, min(steps + after, steps + taps - 1)).view(-1, batch, out)
    else:
        parts = per_frequency.back(products, 0, block + taps - 1).view(-1, blocks, batch, out).transpose(0, 1)
        # overlap-add: the last taps - 1 steps of a block's response fall into the next block
        late = F.pad(parts[:, block:], (0, 0, 0, 0, 0, block - taps + 1, 1, 0))
        whole = (F.pad(parts[:, :block], (0, 0, 0, 0, 0, 0, 0, 1)) + late).flatten(0, 1)[: steps + after]
    return F.pad(whole, (0, 0, 0, 0, 0, steps + after - whole.shape[0]))


_MULTIPLICATIONS_PER_MOVE = 40  # what a processor multiplies while it writes a number to memory and reads it again


def _block_length(steps: int, taps: int, batch: int, inputs: int, out: int) -> int:
    """The cheapest block length among whole, half, quarter, ... sequences."""

    def cost(blocks: int) -> float:
        block = math.ceil(steps / blocks)
        length = block + taps - 1
        columns = blocks * batch
        multiplications = columns * (block * inputs + length * out + inputs * out) + taps * inputs * out
        moves = columns * (inputs + out) + inputs * out
        return 1.5 * length * (multiplications + _MULTIPLICATIONS_PER_MOVE * moves)

    blocks = 1
    # a response may reach into the next block alone
    while steps // (2 * blocks) >= max(taps - 1, 8) and cost(2 * blocks) < cost(blocks):
        blocks *= 2
    return math.ceil(steps / blocks)
