"""Linear layers with a delay per synapse as torch operators: ``snn_delay_plugins::delayed_linear`` and its adjoint.

On the CPU both run :mod:`.numba`, pass by pass in the form that :mod:`..dispatch` picks by the density of the
input; on CUDA :mod:`.triton`. Shapes: trains ``[T, N, in]``, weight and delay ``[out, in]``, output
``[steps, N, out]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import dispatch
from ..checks import FLOATS, check_kind, check_room, check_size, check_tensor
from ..first_order import PLAIN_FORM, first_order_only

__all__ = ["delayed_linear", "delayed_linear_backward"]


_INTERPOLATIONS = ("linear", "round", "floor")


def _check(
    trains: Tensor, weight: Tensor, delay: Tensor, support: Tensor | None, interpolation: str, max_delay: int, method: str
) -> None:
    """
    :raises TypeError, ValueError: unless everything fits to ``trains``; the delays themselves: see ``taps_of``.
    """
    check_kind("interpolation", interpolation, _INTERPOLATIONS)
    check_kind("method", method, ("triton",) if trains.is_cuda else ("auto", "events", "shifted"))
    check_size("max_delay", max_delay)
    check_tensor("trains", trains, (None, None, None), FLOATS, trains.device)
    like = (trains.dtype,), trains.device
    check_tensor("weight", weight, (None, trains.shape[2]), *like)
    check_tensor("delay", delay, tuple(weight.shape), *like)
    if support is not None:
        check_tensor("support", support, tuple(trains.shape), (torch.bool,), trains.device)


@torch.library.custom_op("snn_delay_plugins::delayed_linear", mutates_args=())
def delayed_linear(
    trains: Tensor, weight: Tensor, delay: Tensor, support: Tensor | None,
    interpolation: str, max_delay: int, steps: int, method: str,
) -> Tensor:  # fmt: skip
    """``out[t, n, i] = sum_j weight[i, j] trains[t - delay[i, j], n, j]``.

    ``support`` ``[T, N, in]``: where the gradient of the trains is wanted (elsewhere it is zero). ``method``:
    ``"events"``, ``"shifted"`` or ``"auto"`` (CPU), ``"triton"``.
    """
    _check(trains, weight, delay, support, interpolation, max_delay, method)
    check_size("steps", steps)
    if method == "triton":
        from . import triton

        return triton.forward(trains, weight, delay, interpolation, max_delay, steps)
    from . import numba as loops

    _check_room(trains, weight.shape[0], steps)
    x, taps = _as_arrays(trains, weight, delay, interpolation, max_delay, steps)
    out = trains.new_empty(steps, trains.shape[1], weight.shape[0])
    if not out.numel() or not trains.numel():
        return out.zero_()
    if dispatch.delay_form("forward", trains, method) == "events":
        loops.events_forward(loops.events_of(x), taps, out.numpy())
    else:
        loops.shifted_forward(x, taps, out.numpy())
    return out


@delayed_linear.register_fake
def _(trains, weight, delay, support, interpolation, max_delay, steps, method):
    return trains.new_empty(steps, trains.shape[1], weight.shape[0])


@torch.library.custom_op("snn_delay_plugins::delayed_linear_backward", mutates_args=())
def delayed_linear_backward(
    grad: Tensor, trains: Tensor, weight: Tensor, delay: Tensor, support: Tensor | None,
    interpolation: str, max_delay: int, method: str, for_trains: bool, for_synapses: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of trains, weight and delay; empty where they are not asked for."""
    _check(trains, weight, delay, support, interpolation, max_delay, method)
    check_tensor("grad", grad, (None, trains.shape[1], weight.shape[0]), (trains.dtype,), trains.device)
    if method == "triton":
        from . import triton

        return triton.backward(grad, trains, weight, delay, support, interpolation, max_delay, for_trains, for_synapses)
    from . import numba as loops

    nothing = trains.new_empty(0)
    g_trains, g_weight, g_delay = nothing, nothing.clone(), nothing.clone()
    x, taps = _as_arrays(trains, weight, delay, interpolation, max_delay, grad.shape[0])
    g = grad.detach().contiguous().numpy()
    if not grad.numel() or not trains.numel():
        of = ((trains, for_trains), (weight, for_synapses), (delay, for_synapses))
        return tuple(value.new_zeros(value.shape if wanted else 0) for value, wanted in of)
    if for_synapses:
        if dispatch.delay_form("synapses", trains, method) == "events":
            now, later = loops.events_synapses(loops.events_of(x), taps, g)
        else:
            now, later = loops.shifted_synapses(x, taps, g)
        fraction = delay.detach().numpy() - taps.k if interpolation == "linear" else 0.0
        g_weight = torch.from_numpy(((1 - fraction) * now + fraction * later).astype(x.dtype))
        g_delay = torch.from_numpy((weight.detach().numpy() * (later - now)).astype(x.dtype))
    if for_trains:
        if support is not None and dispatch.delay_form("trains", support, method) == "events":
            wanted = loops.events_of(support.contiguous().numpy())
            g_trains = torch.zeros_like(trains, memory_format=torch.contiguous_format)
            loops.events_trains(wanted, taps, g, g_trains.numpy())
        else:
            g_trains = torch.empty_like(trains, memory_format=torch.contiguous_format)
            loops.shifted_trains(taps, g, g_trains.numpy())
            if support is not None:
                g_trains.mul_(support)
    return g_trains, g_weight, g_delay


@delayed_linear_backward.register_fake
def _(grad, trains, weight, delay, support, interpolation, max_delay, method, for_trains, for_synapses):
    def of(like, wanted):
        return torch.empty_like(like, memory_format=torch.contiguous_format) if wanted else like.new_empty(0)

    return of(trains, for_trains), of(weight, for_synapses), of(delay, for_synapses)


def _check_room(trains: Tensor, receivers: int, steps: int) -> None:
    """The output, and what the loops lay out of one sample: at most one delay of the whole sequence more."""
    count, samples, senders = trains.shape
    numbers = steps * samples * receivers + (2 * steps + count) * (senders + receivers)
    check_room(f"steps = {steps} of {samples} x {receivers} currents", numbers * trains.element_size())


def _as_arrays(trains: Tensor, weight: Tensor, delay: Tensor, interpolation: str, max_delay: int, steps: int):
    """Delays longer than both sequences, which no spike outlasts, are cut to them."""
    from . import numba as loops

    x = trains.detach().contiguous().numpy()
    synapses = (value.detach().contiguous().numpy() for value in (weight, delay))
    return x, loops.taps_of(*synapses, interpolation, max_delay, max(steps, trains.shape[0]))


def _setup_context(ctx, inputs, output) -> None:
    trains, weight, delay, support, interpolation, max_delay, _, method = inputs
    ctx.save_for_backward(trains, weight, delay, support)
    ctx.options = (interpolation, max_delay, method)


def _backward(ctx, grad):
    for_trains, for_weight, for_delay, *_ = ctx.needs_input_grad
    gradients = delayed_linear_backward(grad, *ctx.saved_tensors, *ctx.options, for_trains, for_weight or for_delay)
    wanted = (for_trains, for_weight, for_delay)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), *(None for _ in range(5))


delayed_linear.register_autograd(_backward, setup_context=_setup_context)
first_order_only(delayed_linear_backward, "delayed_linear", PLAIN_FORM)
