r"""Sparse connections with a few taps each, as torch operators: ``snn_delay_plugins::sparse_taps``,

.. math:: I_i[t] = \sum_{s: j \to i} \sum_m K_s[m]\, a_j[t - \ell_s - m],

and its gradients. Time and memory grow with the number of synapses and the width of their windows, not with in x out
nor with the longest delay. Synapses are ordered by receiver. Shapes: :mod:`snn_delay_plugins.functional.windows`.

On the CPU :mod:`.numba` runs the loops, split by samples or by receivers: no sum depends on the number of threads; on CUDA
:mod:`.triton`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checks import FLOATS, check_room, check_size, check_tensor, check_windows
from ..device import runs_triton
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only
from ..threads import over_ranges

__all__ = ["sparse_taps", "sparse_taps_backward"]


@torch.library.custom_op("snn_delay_plugins::sparse_taps", mutates_args=())
def sparse_taps(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, steps: int
) -> Tensor:
    """``[steps, N, out]`` of trains ``[T, N, in]``, kernel ``[synapses, width]``, whole lags ``[synapses]``."""
    reverse_mode_only("sparse_convolution")
    _check(trains, kernel, lag, senders, receivers, out_features, steps)
    if runs_triton(trains):
        from . import triton

        return triton.forward(trains, kernel, lag, senders, receivers, out_features, steps)
    from . import numba as loops

    x, k, ell = _arrays(trains, kernel, lag)
    out = np.empty((steps, x.shape[1], out_features), x.dtype)
    starts = _starts(_array(receivers), out_features)
    over_ranges(lambda a, b: loops.forward(a, b, x, k, ell, _array(senders), starts, out), x.shape[1])
    return torch.from_numpy(out)


@sparse_taps.register_fake
def _(trains, kernel, lag, senders, receivers, out_features, steps):
    return trains.new_empty(steps, trains.shape[1], out_features)


@torch.library.custom_op("snn_delay_plugins::sparse_taps_backward", mutates_args=())
def sparse_taps_backward(
    grad: Tensor, trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor,
    for_trains: bool, for_kernel: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of trains and kernel; empty where not asked for."""
    check_tensor("grad", grad, (None, None, None), FLOATS, trains.device)
    _check(trains, kernel, lag, senders, receivers, grad.shape[2], grad.shape[0])
    check_tensor("grad", grad, (None, trains.shape[1], None), (trains.dtype,), trains.device)
    if runs_triton(trains):
        from . import triton

        return triton.backward(grad, trains, kernel, lag, senders, receivers, for_trains, for_kernel)
    from . import numba as loops

    x, k, ell = _arrays(trains, kernel, lag)
    g, sources, targets = (_array(value) for value in (grad, senders, receivers))
    g_trains, g_kernel = (np.empty(0, x.dtype) for _ in range(2))
    if for_trains:
        g_trains = np.empty(x.shape, x.dtype)
        order = np.argsort(sources, kind="stable")
        starts = _starts(sources[order], x.shape[2])
        over_ranges(lambda a, b: loops.to_trains(a, b, g, k, ell, targets, order, starts, g_trains), x.shape[1])
    if for_kernel:
        met = np.zeros(k.shape)
        starts = _starts(targets, g.shape[2])
        over_ranges(lambda a, b: loops.to_kernel(a, b, x, g, ell, sources, starts, met), g.shape[2])
        g_kernel = np.ascontiguousarray(met[:, : kernel.shape[1]].astype(x.dtype))
    return torch.from_numpy(g_trains), torch.from_numpy(g_kernel)


@sparse_taps_backward.register_fake
def _(grad, trains, kernel, lag, senders, receivers, for_trains, for_kernel):
    def of(like, wanted):
        return torch.empty_like(like, memory_format=torch.contiguous_format) if wanted else like.new_empty(0)

    return of(trains, for_trains), of(kernel, for_kernel)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:5])


def _backward(ctx, grad):
    wanted = ctx.needs_input_grad[:2]
    gradients = sparse_taps_backward(grad, *ctx.saved_tensors, *wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), *(None for _ in range(5))


sparse_taps.register_autograd(_backward, setup_context=_setup_context)
first_order_only(sparse_taps_backward, "sparse_convolution (layers with few synapses)", PLAIN_FORM)


# ------------------------------------------------------------------------------------------------- arrays


def _check(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, steps: int
) -> None:
    """
    :raises TypeError, ValueError: unless everything fits to ``trains``, and synapses to one another.
    """
    check_tensor("trains", trains, (None, None, None), FLOATS, trains.device)
    check_tensor("kernel", kernel, (None, None), (trains.dtype,), trains.device)
    check_size("steps", steps)
    check_size("out_features", out_features)
    count, samples, inputs = trains.shape
    numbers = steps * samples * out_features + (2 * steps + count) * (inputs + out_features)
    check_room(f"steps = {steps} of {samples} x {out_features} currents", numbers * trains.element_size())
    check_windows(kernel, lag, senders, receivers, inputs, out_features)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _arrays(trains: Tensor, kernel: Tensor, lag: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel gets as many taps more, of weight zero, as make their number a multiple of TAPS."""
    from .numba import TAPS

    taps = _array(kernel)
    wide = np.zeros((taps.shape[0], -(-max(taps.shape[1], 1) // TAPS) * TAPS), taps.dtype)
    wide[:, : taps.shape[1]] = taps
    return _array(trains), wide, _array(lag)


def _starts(of: np.ndarray, count: int) -> np.ndarray:
    """Where the entries 0 ... count - 1 begin in a sorted array."""
    return np.searchsorted(of, np.arange(count + 1))
