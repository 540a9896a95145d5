r"""Sparse connections with a few taps each on the CPU, as torch operators: ``snn_delay_plugins::sparse_taps``,

.. math:: I_i[t] = \sum_{s: j \to i} \sum_m K_s[m]\, a_j[t - \ell_s - m],

and its gradients. Time and memory grow with the number of synapses and the width of their windows, not with in x out
nor with the longest delay. Synapses are ordered by receiver. Shapes: :mod:`snn_delay_plugins.functional.windows`.

Every sample's trains are laid out along time with silence around them, so that all loops run over the whole sequence,
four taps at once. Work is split by samples or by receivers: no sum depends on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checks import FLOATS, check_room, check_size, check_tensor, check_windows
from ..compiled import njit
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only
from ..threads import over_ranges

__all__ = ["sparse_taps", "sparse_taps_backward"]

_TAPS = 4  # that one pass over a train adds or correlates
_BLOCK = 16  # neurons whose rows are turned at once, a cache line of float32
_OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc"}}


@torch.library.custom_op("snn_delay_plugins::sparse_taps", mutates_args=())
def sparse_taps(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, steps: int
) -> Tensor:
    """``[steps, N, out]`` of trains ``[T, N, in]``, kernel ``[synapses, width]``, whole lags ``[synapses]``."""
    reverse_mode_only("sparse_convolution")
    _check(trains, kernel, lag, senders, receivers, out_features, steps)
    x, k, ell = _arrays(trains, kernel, lag)
    out = np.empty((steps, x.shape[1], out_features), x.dtype)
    starts = _starts(_array(receivers), out_features)
    over_ranges(lambda a, b: _forward(a, b, x, k, ell, _array(senders), starts, out), x.shape[1])
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
    x, k, ell = _arrays(trains, kernel, lag)
    g, sources, targets = (_array(value) for value in (grad, senders, receivers))
    g_trains, g_kernel = (np.empty(0, x.dtype) for _ in range(2))
    if for_trains:
        g_trains = np.empty(x.shape, x.dtype)
        order = np.argsort(sources, kind="stable")
        starts = _starts(sources[order], x.shape[2])
        over_ranges(lambda a, b: _to_trains(a, b, g, k, ell, targets, order, starts, g_trains), x.shape[1])
    if for_kernel:
        met = np.zeros(k.shape)
        starts = _starts(targets, g.shape[2])
        over_ranges(lambda a, b: _to_kernel(a, b, x, g, ell, sources, starts, met), g.shape[2])
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
    """The kernel gets as many taps more, of weight zero, as make their number a multiple of four."""
    taps = _array(kernel)
    wide = np.zeros((taps.shape[0], -(-max(taps.shape[1], 1) // _TAPS) * _TAPS), taps.dtype)
    wide[:, : taps.shape[1]] = taps
    return _array(trains), wide, _array(lag)


def _starts(of: np.ndarray, count: int) -> np.ndarray:
    """Where the entries 0 ... count - 1 begin in a sorted array."""
    return np.searchsorted(of, np.arange(count + 1))


@njit(**_OPTIONS)
def _turn(sequence, n, begin, end, first, rows):
    """rows[j - begin, first + t] = sequence[t, n, j] for j = begin ... end - 1."""
    for block in range(begin, end, _BLOCK):
        last = min(block + _BLOCK, end)
        for t in range(sequence.shape[0]):
            here = sequence[t, n]
            for j in range(block, last):
                rows[j - begin, first + t] = here[j]


@njit(**_OPTIONS)
def _turn_back(rows, n, sequence):
    for block in range(0, rows.shape[0], _BLOCK):
        last = min(block + _BLOCK, rows.shape[0])
        for t in range(sequence.shape[0]):
            here = sequence[t, n]
            for j in range(block, last):
                here[j] = rows[j, t]


@njit(**_OPTIONS)
def _longest(lag, width, steps):
    """Silence that is needed around a sequence; arrivals after ``steps`` are lost, so that no more is."""
    longest = 0
    for s in range(lag.size):
        longest = max(longest, min(lag[s], steps))
    return longest + width


# ------------------------------------------------------------------------------------------------- loops


@njit(**_OPTIONS)
def _add(k, row, at, step, total):
    """total[t] += sum_m k[m] row[at + step m + t]."""
    n = total.size
    for m in range(0, k.size, _TAPS):
        a, b, c, d = k[m], k[m + 1], k[m + 2], k[m + 3]
        r = row[at + step * m : at + step * m + n]
        s = row[at + step * (m + 1) : at + step * (m + 1) + n]
        u = row[at + step * (m + 2) : at + step * (m + 2) + n]
        v = row[at + step * (m + 3) : at + step * (m + 3) + n]
        for t in range(n):
            total[t] += a * r[t] + b * s[t] + c * u[t] + d * v[t]


@njit(**_OPTIONS)
def _forward(first, last, trains, kernel, lag, senders, starts, out):
    steps, width = out.shape[0], kernel.shape[1]
    silence = _longest(lag, width, steps)
    rows = np.zeros((trains.shape[2], silence + max(steps, trains.shape[0])), trains.dtype)
    currents = np.empty((out.shape[2], steps), trains.dtype)
    for n in range(first, last):
        _turn(trains, n, 0, trains.shape[2], silence, rows)
        currents[:] = 0
        for i in range(out.shape[2]):
            for s in range(starts[i], starts[i + 1]):
                if lag[s] < steps:
                    _add(kernel[s], rows[senders[s]], silence - lag[s], -1, currents[i])
        _turn_back(currents, n, out)


@njit(**_OPTIONS)
def _to_trains(first, last, grad, kernel, lag, receivers, order, starts, g_trains):
    steps, width = grad.shape[0], kernel.shape[1]
    silence = _longest(lag, width, steps)
    length = g_trains.shape[0]
    rows = np.zeros((grad.shape[2], max(steps, length) + silence), grad.dtype)
    total = np.empty((g_trains.shape[2], length), grad.dtype)
    for n in range(first, last):
        _turn(grad, n, 0, grad.shape[2], 0, rows)
        total[:] = 0
        for j in range(total.shape[0]):
            for place in range(starts[j], starts[j + 1]):
                s = order[place]
                if lag[s] < steps:
                    _add(kernel[s], rows[receivers[s]], lag[s], 1, total[j])
        _turn_back(total, n, g_trains)


@njit(**_OPTIONS)
def _to_kernel(first, last, trains, grad, lag, senders, starts, met):
    """met[s, m] = sum_{n, t} grad[t, n, i] trains[t - lag - m, n, j] for the receivers first ... last - 1."""
    steps, width = grad.shape[0], met.shape[1]
    silence = _longest(lag, width, steps)
    rows = np.zeros((trains.shape[2], silence + max(steps, trains.shape[0])), trains.dtype)
    currents = np.zeros((last - first, steps), grad.dtype)
    zero = trains.dtype.type(0)
    for n in range(trains.shape[1]):
        _turn(trains, n, 0, trains.shape[2], silence, rows)
        _turn(grad, n, first, last, 0, currents)
        for i in range(first, last):
            g = currents[i - first]
            for s in range(starts[i], starts[i + 1]):
                if lag[s] >= steps:
                    continue
                row = rows[senders[s]]
                for m in range(0, width, _TAPS):
                    at = silence - lag[s] - m
                    r, u = row[at : at + steps], row[at - 1 : at - 1 + steps]
                    v, w = row[at - 2 : at - 2 + steps], row[at - 3 : at - 3 + steps]
                    a = b = c = d = zero
                    for t in range(steps):
                        x = g[t]
                        a += x * r[t]
                        b += x * u[t]
                        c += x * v[t]
                        d += x * w[t]
                    met[s, m] += a
                    met[s, m + 1] += b
                    met[s, m + 2] += c
                    met[s, m + 3] += d
