r"""Linear neurons with delayed recurrent synapses over sequences as a torch operator (equation:
:mod:`snn_delay_plugins.functional.recurrent`).

``snn_delay_plugins::recurrent_neuron`` and its adjoint serve ``torch.compile`` and whatever looks at operators as they run;
in eager mode an autograd function calls the same kernels without the operator's cost. :mod:`.numba` runs them on the CPU,
:mod:`.triton` on CUDA.
Shapes: current ``[T, N, F]``, states ``[N, F]`` (the second empty where there is none),
coefficients ``[K, F]``, taps ``[width, synapses]``, lags int64 ``[synapses]``, ends int64 ``[2, synapses]`` (receivers,
senders; None: all to all, F x F), past ``[H, N, F]``, oldest first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import FLOATS, check_indices, check_room, check_tensor
from ..device import runs_triton
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only
from ..linear_neuron.operator import EVERY, _every, _looked_at, _slopes
from ..linear_neuron.structure import Structure

__all__ = ["recurrent_neuron"]


def recurrent_neuron(
    current, x0, x1, s, coefficients, taps, lags, ends, past, structure: Structure, traces: bool, surrogate
) -> tuple:
    """Spikes, traces of x0 and x1 (one of :data:`EVERY` steps unless ``traces``), last x0, x1 and s."""
    inputs = (current, x0, x1, s, coefficients, taps, lags, ends, past, structure.code, traces)
    if torch.compiler.is_compiling():  # the boxcar alone: dispatch has seen to it
        out = _operator(*inputs, surrogate.width, surrogate.height)
    else:
        out = _Sequence.apply(*inputs, surrogate)
    return out[0], *out[2:]


def _kernels(current: Tensor):
    """The module of the device; numba and triton are imported when the first kernel runs."""
    if runs_triton(current):
        from . import triton

        return triton
    from . import numba

    return numba


def _check(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor, ends: Tensor | None,
    past: Tensor, structure: Structure,
) -> None:  # fmt: skip
    """Refuse whatever the loops, which know no bounds, could not read: an operator can be called by anybody."""
    check_tensor("current", current, (None, None, None), FLOATS, current.device)
    like, device = (current.dtype,), current.device
    steps, samples, features = current.shape
    if not current.numel():
        raise ValueError(f"current must not be empty, got shape {tuple(current.shape)}")
    check_tensor("coefficients", coefficients, (len(structure.names), features), like, device)
    if "theta" not in structure.names:
        raise ValueError(f"coefficients must have a threshold theta, got {structure.names}")
    one = (samples, features)
    shapes = (one, one if structure.two else (0, 0), one)
    for name, value, shape in zip(("x0", "x1", "s"), state, shapes, strict=True):
        check_tensor(name, value, shape, like, device)
    check_tensor("past", past, (None, *one), like, device)
    synapses = features * features if ends is None else lags.numel()
    check_tensor("taps", taps, (None, synapses), like, device)
    if not taps.shape[0]:
        raise ValueError("taps must be at least one per synapse, got none")
    check_tensor("lags", lags, (synapses,), (torch.int64,), device)
    if ends is not None:
        check_tensor("ends", ends, (2, synapses), (torch.int64,), device)
        for name, indices in zip(("receivers", "senders"), ends, strict=True):
            check_indices(name, indices, features, "the number of neurons")
    if lags.numel() and (least := int(lags.min())) < 0:
        raise ValueError(f"lags must not be negative, got {least}")
    rows = 2 * (len(past) + steps) + taps.shape[0]
    what = f"the recurrent currents of {steps} steps of {features} neurons, {taps.shape[0]} taps"
    check_room(what, (rows + 4 * samples * steps) * features * current.element_size())


def _check_backward(gradients, phi, spikes: Tensor, total: Tensor, traces: tuple[Tensor, Tensor], structure) -> None:
    """Traces are whole or, on the CPU, hold one of :data:`EVERY` steps; those that are no outputs have empty gradients."""
    whole, one = tuple(total.shape), tuple(total.shape[1:])
    like = (total.dtype,), total.device
    check_tensor("spikes", spikes, whole, *like)
    steps = whole[0] if runs_triton(total) or traces[0].shape[:1] == whole[:1] else (whole[0] - 1) // EVERY
    check_tensor("x0_seq", traces[0], (steps, *one), *like)
    check_tensor("x1_seq", traces[1], (steps, *one) if structure.two else (0, 0, 0), *like)
    names = ("g_spikes", "g_x0", "g_x1", "g_x0T", "g_x1T", "g_sT", "phi")
    shapes = (whole, whole, whole, one, one, one, whole)
    for name, gradient, shape in zip(names, (*gradients, phi), shapes, strict=True):
        if gradient is not None and (name in ("g_spikes", "g_x0T", "g_sT", "phi") or gradient.numel()):
            check_tensor(name, gradient, shape, *like)


def _forward(
    current: Tensor, x0: Tensor, x1: Tensor, s: Tensor, coefficients: Tensor, taps: Tensor, lags: Tensor,
    ends: Tensor | None, past: Tensor, code: int, traces: bool, width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Spikes, the whole current of the neurons, traces of x0 and x1, last x0, x1 and s."""
    reverse_mode_only("recurrent_neuron")
    _check(current, (x0, x1, s), coefficients, taps, lags, ends, past, Structure.of(code))
    every = _every(current, traces)
    spikes, total, x0_seq, x1_seq, x0_last, x1_last, s_last = _kernels(current).forward(
        current, (x0, x1, s), coefficients, taps, lags, ends, past, code, every
    )
    return spikes, total, x0_seq, x1_seq, x0_last, x1_last, s_last


def _backward(
    g_spikes: Tensor | None, g_x0: Tensor | None, g_x1: Tensor | None, g_x0T: Tensor | None, g_x1T: Tensor | None,
    g_sT: Tensor | None, phi: Tensor | None, spikes: Tensor, total: Tensor, x0_seq: Tensor, x1_seq: Tensor, x0: Tensor,
    x1: Tensor, s: Tensor, coefficients: Tensor, taps: Tensor, lags: Tensor, ends: Tensor | None, past: Tensor, code: int,
    width: float, height: float, wants_past: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the current, of the initial x0, x1, s, of the coefficients (summed over samples), taps and past."""
    structure, traces, state = Structure.of(code), (x0_seq, x1_seq), (x0, x1, s)
    gradients = (g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT)
    _check(total, state, coefficients, taps, lags, ends, past, structure)
    _check_backward(gradients, phi, spikes, total, traces, structure)
    every = 1 if len(x0_seq) == len(total) else EVERY
    g_current, g_x0, g_x1, g_s, g_coefficients, g_taps, g_past = _kernels(total).backward(
        gradients, phi, (width, height), spikes, total, traces, state, coefficients, taps, lags, ends, past, code, every,
        wants_past,
    )  # fmt: skip
    return g_current, g_x0, g_x1, g_s, g_coefficients.sum(1), g_taps, g_past


_operator = torch.library.custom_op("snn_delay_plugins::recurrent_neuron", mutates_args=())(_forward)
_operator_backward = torch.library.custom_op("snn_delay_plugins::recurrent_neuron_backward", mutates_args=())(_backward)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_operator.register_fake
def _(current, x0, x1, s, coefficients, taps, lags, ends, past, code, traces, width, height):
    steps = current.shape[0] if _every(current, traces) == 1 else (current.shape[0] - 1) // EVERY
    x0_seq = current.new_empty(steps, *current.shape[1:])
    x1_seq = torch.empty_like(x0_seq) if Structure.of(code).two else current.new_empty(0, 0, 0)
    return _like(current), _like(current), x0_seq, x1_seq, *(_like(x) for x in (x0, x1, s))


@_operator_backward.register_fake
def _(g_s, g_x0, g_x1, g_x0T, g_x1T, g_sT, phi, spikes, total, x0_seq, x1_seq, x0, x1, s, k, taps, lags, ends, past, *more):
    return tuple(_like(x) for x in (total, x0, x1, s, k, taps, past))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[1:9], *output[:4])
    ctx.code, traces, *ctx.boxcar = inputs[9:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1], *(() if traces else output[2:4]))


def _adjoint(ctx, g_spikes, _, *gradients):
    *inputs, spikes, total, x0_seq, x1_seq = ctx.saved_tensors
    out = _operator_backward(
        g_spikes, *gradients, None, spikes, total, x0_seq, x1_seq, *inputs, ctx.code, *ctx.boxcar, ctx.needs_input_grad[8]
    )
    return _of_inputs(out, 4)


def _of_inputs(out: tuple[Tensor, ...], rest: int) -> tuple[Tensor | None, ...]:
    """The gradients in the order of the inputs: lags, ends and what follows the past have none."""
    *gradients, g_taps, g_past = out
    return *gradients, g_taps, None, None, g_past, *(None,) * rest


_operator.register_autograd(_adjoint, setup_context=_setup_context)
first_order_only(_operator_backward, "recurrent_neuron", PLAIN_FORM)


class _Sequence(torch.autograd.Function):
    """The operator in eager mode, with the derivative of any surrogate that is served."""

    @staticmethod
    def forward(ctx, current, x0, x1, s, coefficients, taps, lags, ends, past, code, traces, surrogate):
        inputs = (x0, x1, s, coefficients, taps, lags, ends, past)
        ctx.is_boxcar = getattr(surrogate, "is_boxcar", False)
        ctx.boxcar = (surrogate.width, surrogate.height) if ctx.is_boxcar else (0.0, 0.0)
        run = _operator if _looked_at(current) else _forward
        out = run(current, *inputs, code, traces or not ctx.is_boxcar, *ctx.boxcar)
        ctx.save_for_backward(*inputs, *out[:4])
        ctx.code, ctx.surrogate = code, surrogate
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(out[1], *(() if traces else out[2:4]))
        return out

    @staticmethod
    def backward(ctx, g_spikes, _, *gradients):
        *inputs, spikes, total, x0_seq, x1_seq = ctx.saved_tensors
        structure = Structure.of(ctx.code)
        phi = None if ctx.is_boxcar else _slopes(x0_seq, x1_seq, inputs[3], structure, ctx.surrogate)
        # with a graph of the gradient, the operator is who says that there is none
        looked_at = torch.is_grad_enabled() or _looked_at(spikes, g_spikes, *gradients)
        run = _operator_backward if looked_at else _backward
        g_x0, g_x1, g_x0T, g_x1T, g_sT = gradients
        x0, x1, s, k, taps, lags, ends, past = inputs
        width, height = ctx.boxcar
        out = run(
            g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT, phi, spikes, total, x0_seq, x1_seq, x0, x1, s, k, taps, lags, ends,
            past, ctx.code, width, height, ctx.needs_input_grad[8],
        )  # fmt: skip
        return _of_inputs(out, 3)
