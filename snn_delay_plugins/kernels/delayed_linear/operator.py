"""Linear layers with one or two taps per synapse as torch operators: ``snn_delay_plugins::delayed_linear`` and its adjoint.

On the CPU both run :mod:`.numba`, pass by pass in the form that :mod:`..dispatch` picks by the density of the
input; on CUDA :mod:`.triton`. Shapes: trains ``[T, N, in]``, taps ``[1 or 2, out, in]``, lags int64 ``[out, in]``, output
``[steps, N, out]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import dispatch
from ..checks import FLOATS, check_kind, check_room, check_size, check_tensor
from ..device import runs_triton
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only

__all__ = ["delayed_linear", "delayed_linear_backward"]


def _check(trains: Tensor, taps: Tensor, lags: Tensor, support: Tensor | None, max_delay: int, method: str) -> None:
    """
    :raises TypeError, ValueError: unless everything fits to ``trains``; the lags themselves: see ``taps_of``.
    """
    check_kind("method", method, ("triton",) if runs_triton(trains) else ("auto", "events", "shifted"))
    check_size("max_delay", max_delay)
    check_tensor("trains", trains, (None, None, None), FLOATS, trains.device)
    check_tensor("taps", taps, (None, None, trains.shape[2]), (trains.dtype,), trains.device)
    if taps.shape[0] not in (1, 2):
        raise ValueError(f"taps must be one or two per synapse, got {taps.shape[0]}")
    check_tensor("lags", lags, tuple(taps.shape[1:]), (torch.int64,), trains.device)
    if support is not None:
        check_tensor("support", support, tuple(trains.shape), (torch.bool,), trains.device)


@torch.library.custom_op("snn_delay_plugins::delayed_linear", mutates_args=())
def delayed_linear(
    trains: Tensor, taps: Tensor, lags: Tensor, support: Tensor | None, max_delay: int, steps: int, method: str
) -> Tensor:
    """``out[t, n, i] = sum_j sum_m taps[m, i, j] trains[t - lags[i, j] - m, n, j]``.

    ``max_delay``: the longest lag of a first tap. ``support`` ``[T, N, in]``: where the gradient of the trains is wanted
    (elsewhere it is zero). ``method``: ``"events"``, ``"shifted"`` or ``"auto"`` (CPU), ``"triton"``.
    """
    reverse_mode_only("delayed_linear")
    _check(trains, taps, lags, support, max_delay, method)
    check_size("steps", steps)
    if method == "triton":
        from . import triton

        return triton.forward(trains, taps, lags, steps)
    from . import numba as loops

    _check_room(trains, taps.shape[1], steps)
    x, synapses = _as_arrays(trains, taps, lags, max_delay, steps)
    out = trains.new_empty(steps, trains.shape[1], taps.shape[1])
    if not out.numel() or not trains.numel():
        return out.zero_()
    if dispatch.delay_form("forward", trains, method) == "events":
        loops.events_forward(loops.events_of(x), synapses, out.numpy())
    else:
        loops.shifted_forward(x, synapses, out.numpy())
    return out


@delayed_linear.register_fake
def _(trains, taps, lags, support, max_delay, steps, method):
    return trains.new_empty(steps, trains.shape[1], taps.shape[1])


@torch.library.custom_op("snn_delay_plugins::delayed_linear_backward", mutates_args=())
def delayed_linear_backward(
    grad: Tensor, trains: Tensor, taps: Tensor, lags: Tensor, support: Tensor | None,
    max_delay: int, method: str, for_trains: bool, for_taps: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of trains and taps; empty where they are not asked for."""
    _check(trains, taps, lags, support, max_delay, method)
    check_tensor("grad", grad, (None, trains.shape[1], taps.shape[1]), (trains.dtype,), trains.device)
    if method == "triton":
        from . import triton

        return triton.backward(grad, trains, taps, lags, support, for_trains, for_taps)
    from . import numba as loops

    g_trains, g_taps = trains.new_empty(0), trains.new_empty(0)
    x, synapses = _as_arrays(trains, taps, lags, max_delay, grad.shape[0])
    g = grad.detach().contiguous().numpy()
    if not grad.numel() or not trains.numel():
        return trains.new_zeros(trains.shape if for_trains else 0), taps.new_zeros(taps.shape if for_taps else 0)
    if for_taps:
        if dispatch.delay_form("synapses", trains, method) == "events":
            met = loops.events_synapses(loops.events_of(x), synapses, g)
        else:
            met = loops.shifted_synapses(x, synapses, g)
        g_taps = torch.empty_like(taps, memory_format=torch.contiguous_format)
        g_taps.numpy()[:] = met[: taps.shape[0]]
    if for_trains:
        if support is not None and dispatch.delay_form("trains", support, method) == "events":
            wanted = loops.events_of(support.contiguous().numpy())
            g_trains = torch.zeros_like(trains, memory_format=torch.contiguous_format)
            loops.events_trains(wanted, synapses, g, g_trains.numpy())
        else:
            g_trains = torch.empty_like(trains, memory_format=torch.contiguous_format)
            loops.shifted_trains(synapses, g, g_trains.numpy())
            if support is not None:
                g_trains.mul_(support)
    return g_trains, g_taps


@delayed_linear_backward.register_fake
def _(grad, trains, taps, lags, support, max_delay, method, for_trains, for_taps):
    def of(like, wanted):
        return torch.empty_like(like, memory_format=torch.contiguous_format) if wanted else like.new_empty(0)

    return of(trains, for_trains), of(taps, for_taps)


def _check_room(trains: Tensor, receivers: int, steps: int) -> None:
    """The output, and what the loops lay out of one sample: at most one delay of the whole sequence more."""
    count, samples, senders = trains.shape
    numbers = steps * samples * receivers + (2 * steps + count) * (senders + receivers)
    check_room(f"steps = {steps} of {samples} x {receivers} currents", numbers * trains.element_size())


def _as_arrays(trains: Tensor, taps: Tensor, lags: Tensor, max_delay: int, steps: int):
    """Lags longer than both sequences, which no spike outlasts, are cut to them."""
    from . import numba as loops

    x, kernel, first = (value.detach().contiguous().numpy() for value in (trains, taps, lags))
    return x, loops.taps_of(kernel, first, max_delay, max(steps, trains.shape[0]))


def _setup_context(ctx, inputs, output) -> None:
    trains, taps, lags, support, max_delay, _, method = inputs
    ctx.save_for_backward(trains, taps, lags, support)
    ctx.options = (max_delay, method)


def _backward(ctx, grad):
    wanted = ctx.needs_input_grad[:2]
    gradients = delayed_linear_backward(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), *(None for _ in range(5))


delayed_linear.register_autograd(_backward, setup_context=_setup_context)
first_order_only(delayed_linear_backward, "delayed_linear", PLAIN_FORM)
