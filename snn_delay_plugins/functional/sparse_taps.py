r"""Sparse connections in training: every synapse that exists has a window of taps over time,

.. math:: I_i[t] = \sum_{s: j \to i} \sum_m K_s[m]\, a_j[t - \ell_s - m],

K_s the values and l_s the first lag of its window: the whole Gaussian (Hammouamri et al., Eq. 9), or the part of it that
floating point sees, or the two neighbouring steps of the SLAYER rule (:mod:`.delay`). Time and memory grow with the
number of synapses, where the dense forms compute with all possible ones.

Shapes: trains ``[T, N, in]``, kernel ``[synapses, width]``, lag, senders and receivers int64 ``[synapses]``, ordered by
receiver; output ``[T + after, N, out]``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import dispatch
from ..kernels.checks import check_windows
from .dcls import checked_sigma, gaussian_kernel
from .delay import check_delays

__all__ = ["delay_window", "gaussian_window", "smoothed_taps", "sparse_convolution"]

_REACH = {torch.float32: 6.0, torch.float64: 8.7}  # in sigmas; what lies beyond is below the rounding of the sum


def sparse_convolution(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, *,
    after: int = 0, method: str | None = None,
) -> Tensor:  # fmt: skip
    """Input currents over a list of synapses with a window of taps each (equation: head of this module).

    :param trains: ``[T, N, in]``. :param kernel: ``[synapses, width]``, of the same dtype; both differentiable.
    :param lag: first lag of every window, >= 0. :param senders: and ``receivers`` of the synapses, ordered by receiver.
    :param after: steps of the response after the last of the trains.
    :param method: ``"torch"`` (plain form, memory for every synapse and step) or ``"numba"`` (CPU); default: as
        :mod:`~snn_delay_plugins.kernels.dispatch` chooses.
    :returns: ``[T + after, N, out]``; what arrives past the end is lost.
    :raises ValueError: for shapes that do not fit, a negative lag, a sender or receiver that is not there, synapses that
        are not ordered by receiver, or a method that is not possible here.
    :raises TypeError: for dtypes that do not fit.

    Example::

        >>> import torch
        >>> one = torch.tensor([0])
        >>> taps = torch.tensor([[2.0, 1.0]])
        >>> sparse_convolution(torch.eye(4)[:, :1, None], taps, one + 1, one, one, 1).flatten().tolist()
        [0.0, 2.0, 1.0, 0.0]
    """
    steps = trains.shape[0] + after
    if dispatch.sparse_delay_method(trains, method) == "numba":
        from ..kernels.sparse_taps.operator import sparse_taps as operator

        return operator(trains, kernel, lag, senders, receivers, out_features, steps)
    check_windows(kernel, lag, senders, receivers, trains.shape[-1], out_features)
    arriving = trains[:, :, senders]
    shape = (steps, trains.shape[1], out_features)
    current = trains.new_zeros(shape) + 0 * (trains.sum() + kernel.sum())  # keeps the graph where nothing arrives
    for m in range(kernel.shape[1]):
        time = torch.arange(trains.shape[0], device=trains.device)[:, None] + lag + m  # [T, synapses]
        t, s = (time < steps).nonzero(as_tuple=True)
        place = (time[t, s] * trains.shape[1], receivers[s])
        for n in range(trains.shape[1]):
            index = (place[0] + n) * out_features + place[1]
            current = current.flatten().index_add(0, index, arriving[t, n, s] * kernel[s, m]).view(shape)
    return current


def gaussian_window(weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int) -> tuple[Tensor, Tensor]:
    """The Gaussians of :func:`~.dcls.gaussian_kernel` ``[synapses, width]`` where they are not lost in rounding, and the
    first lag of each; weight, delay and sigma are ``[synapses]`` (sigma also one number).

    Example::

        >>> import torch
        >>> kernel, lag = gaussian_window(torch.ones(1), torch.tensor([50.0]), torch.tensor(0.5), max_delay=100)
        >>> kernel.shape, lag.tolist()
        (torch.Size([1, 8]), [47])
    """
    check_delays(delay, max_delay)
    sigma = checked_sigma(sigma, weight, "gauss")
    reach = _reach(sigma, weight.dtype)
    width = gaussian_width(sigma, max_delay, weight.dtype)
    lag = (delay.detach().floor().long() - reach).clamp(0, max_delay + 1 - width)
    kernel = gaussian_kernel(weight, delay - lag, sigma, width - 1)
    return kernel.mT, lag


def gaussian_width(sigma: Tensor, max_delay: int, dtype: torch.dtype) -> int:
    """The width of :func:`gaussian_window`."""
    return min(2 * _reach(sigma, dtype) + 2, max_delay + 1)


def _reach(sigma: Tensor, dtype: torch.dtype) -> int:
    return math.ceil(_REACH.get(dtype, 8.7) * float(sigma.detach().max())) if sigma.numel() else 0


def delay_window(weight: Tensor, delay: Tensor, max_delay: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """The two taps of :func:`~.delay.delay_kernel` ``[synapses, 2]``, and the lag of the first; only one where delays
    are whole and not learned."""
    check_delays(delay, max_delay)
    lag = delay.detach().round() if interpolation == "round" else delay.detach().floor()
    fraction = delay - (lag if interpolation == "linear" else delay.detach())  # else: zero, with the gradient of d
    later = weight * fraction
    if interpolation == "linear" or delay.requires_grad:
        return torch.stack([weight - later, later], 1), lag.long()
    return weight[:, None], lag.long()


def smoothed_taps(taps: Tensor, smoothing: Tensor) -> Tensor:
    """Windows ``[synapses, width]`` after the causal kernel eps_d ``[taps]``, ``[synapses, width + taps - 1]``."""
    later = smoothing.numel() - 1
    return F.conv1d(F.pad(taps, (later, later))[:, None], smoothing.to(taps.dtype).flip(0)[None, None])[:, 0]
