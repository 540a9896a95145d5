"""Linear neurons over sequences as a torch operator (equations: :mod:`.structure`).

``snn_delay_plugins::linear_neuron`` and its adjoint serve ``torch.compile``; in eager mode an autograd function calls the
same kernels without the operator's cost. :mod:`.numba` runs them on the CPU, :mod:`.triton` on CUDA. Shapes: current
``[T, M]`` (M = samples x neurons), states ``[M]`` (the second empty where there is none), coefficients ``[K, F]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..first_order import reverse_mode_only
from .structure import Structure

__all__ = ["EVERY", "linear_neuron"]

EVERY = 32
"""Of so many steps one state is kept for a backward pass on the CPU, where no traces are asked for."""


def linear_neuron(current, x0, x1, s, coefficients, structure: Structure, traces: bool, support: bool, surrogate) -> tuple:
    """Spikes, traces of x0 and x1 (one of :data:`EVERY` steps unless ``traces``), last x0, x1 and s, and the support of
    the boxcar (bool; None if not ``support``)."""
    boxcar = getattr(surrogate, "is_boxcar", False)
    if torch.compiler.is_compiling():  # the boxcar alone: dispatch has seen to it
        *out, inside = _operator(
            current, x0, x1, s, coefficients, structure.code, traces, support, surrogate.width, surrogate.height
        )
    else:
        *out, inside = _Sequence.apply(
            current, x0, x1, s, coefficients, structure.code, traces, support and boxcar, surrogate
        )
    return *out, inside if support and boxcar else None


def _kernels(current: Tensor):
    """The module of the device; numba and triton are imported when the first kernel runs."""
    if current.is_cuda:
        from . import triton

        return triton
    from . import numba

    return numba


def _check(current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, structure: Structure) -> None:
    """Refuse whatever the loops, which know no bounds, could not read: an operator can be called by anybody."""
    if current.dim() != 2 or coefficients.dim() != 2:
        raise ValueError(
            f"current must be [T, M] and coefficients [K, F], got {tuple(current.shape)} and {tuple(coefficients.shape)}"
        )
    if current.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"current must be float32 or float64, got {current.dtype}")
    rows, features = coefficients.shape
    columns = current.shape[1]
    if rows != len(structure.names) or "theta" not in structure.names:
        raise ValueError(f"coefficients must have one row for each of {structure.names}, theta among them, got {rows} rows")
    if features == 0 or columns % features:
        raise ValueError(f"{columns} columns are no whole number of samples of {features} neurons")
    for name, value, size in zip(("x0", "x1", "s"), state, (columns, columns * structure.two, columns), strict=True):
        _check_like(name, value, current, (size,))
    _check_like("coefficients", coefficients, current, (rows, features))


def _check_like(name: str, value: Tensor, current: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    if value.dtype != current.dtype or value.device != current.device:
        raise TypeError(f"{name} is {value.dtype} on {value.device} but current {current.dtype} on {current.device}")


def _forward(current, x0, x1, s, coefficients, code: int, every: int, support: bool, width: float) -> tuple:
    _check(current, (x0, x1, s), coefficients, Structure.of(code))
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    out = _kernels(current).forward(current, (x0, x1, s), coefficients, code, every, inside if support else None, width)
    return *out, inside


def _backward(gradients, phi, boxcar, current, traces, state, coefficients, code: int) -> tuple:
    structure = Structure.of(code)
    _check(current, state, coefficients, structure)
    steps, columns = current.shape
    every = 1 if len(traces[0]) == steps else EVERY
    kept = (steps if every == 1 else max(0, steps - 1) // EVERY, columns)
    _check_like("trace of x0", traces[0], current, kept)
    if structure.two:
        _check_like("trace of x1", traces[1], current, kept)
    whole, last = (steps, columns), (columns,)
    shapes = (whole, whole, whole if structure.two else (0, 0), last, last if structure.two else (0,), last)
    names = ("spikes", "x0", "x1", "last x0", "last x1", "last s")
    for name, gradient, shape in zip(names, gradients, shapes, strict=True):
        if gradient is not None and gradient.numel():
            _check_like(f"gradient of {name}", gradient, current, shape)
    g_current, *g_state, g_columns = _kernels(current).backward(
        gradients, phi, boxcar, current, traces, state, coefficients, code, every
    )
    return g_current, *g_state, g_columns.view(len(coefficients), -1, coefficients.shape[1]).sum(1)


def _every(current: Tensor, whole: bool) -> int:
    return 1 if whole or current.is_cuda else EVERY


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, current, x0, x1, s, coefficients, code, traces, support, surrogate):
        boxcar = getattr(surrogate, "is_boxcar", False)
        every = _every(current, traces or not boxcar)
        out = _forward(current, x0, x1, s, coefficients, code, every, support, surrogate.width if boxcar else 0.0)
        ctx.save_for_backward(current, x0, x1, s, coefficients, *out[1:3])
        ctx.code, ctx.surrogate = code, surrogate
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(() if traces else out[1:3]), out[6])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        current, x0, x1, s, coefficients, *traces = ctx.saved_tensors
        surrogate, phi, boxcar = ctx.surrogate, None, (0.0, 0.0)
        if getattr(surrogate, "is_boxcar", False):
            boxcar = surrogate.width, surrogate.height
        else:
            phi = _slopes(traces, coefficients, Structure.of(ctx.code), surrogate)
        return *_backward(gradients[:6], phi, boxcar, current, traces, (x0, x1, s), coefficients, ctx.code), *(None,) * 4


def _slopes(traces, coefficients: Tensor, structure: Structure, surrogate) -> Tensor:
    """The surrogate's derivative at every step, ``[T, M]``."""
    from ...functional.surrogate import derivative

    rows, features = structure.rows(), coefficients.shape[1]
    z = traces[0].view(-1, features)
    if rows["c"] >= 0:
        z = z + coefficients[rows["c"]] * traces[1].view(-1, features)
    return derivative(z - coefficients[rows["theta"]], surrogate).to(z.dtype).view_as(traces[0])


@torch.library.custom_op("snn_delay_plugins::linear_neuron", mutates_args=())
def _operator(
    current: Tensor, x0: Tensor, x1: Tensor, s: Tensor, coefficients: Tensor, code: int, traces: bool, support: bool,
    width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    reverse_mode_only("linear_neuron")
    return _forward(current, x0, x1, s, coefficients, code, _every(current, traces), support, width)


@_operator.register_fake
def _(current, x0, x1, s, coefficients, code, traces, support, width, height):
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    steps = current.shape[0] if _every(current, traces) == 1 else (current.shape[0] - 1) // EVERY
    x0_seq = current.new_empty(steps, current.shape[1])
    x1_seq = torch.empty_like(x0_seq) if Structure.of(code).two else current.new_empty(0, 0)
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    return spikes, x0_seq, x1_seq, torch.empty_like(x0), torch.empty_like(x1), torch.empty_like(s), inside


@torch.library.custom_op("snn_delay_plugins::linear_neuron_backward", mutates_args=())
def _operator_backward(
    g_spikes: Tensor | None, g_x0: Tensor | None, g_x1: Tensor | None, g_x0T: Tensor | None, g_x1T: Tensor | None,
    g_sT: Tensor | None, current: Tensor, x0_seq: Tensor, x1_seq: Tensor, x0: Tensor, x1: Tensor, s: Tensor,
    coefficients: Tensor, code: int, width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the current, of the initial x0, x1, s, and of the coefficients (summed over samples)."""
    gradients = (g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT)
    return _backward(gradients, None, (width, height), current, (x0_seq, x1_seq), (x0, x1, s), coefficients, code)


@_operator_backward.register_fake
def _(g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT, current, x0_seq, x1_seq, x0, x1, s, coefficients, code, width, height):
    g_current = torch.empty_like(current, memory_format=torch.contiguous_format)
    return g_current, *(torch.empty_like(x) for x in (x0, x1, s, coefficients))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:5], *output[1:3])
    ctx.code, traces, _, *ctx.boxcar = inputs[5:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(() if traces else output[1:3]), output[6])


def _adjoint(ctx, *gradients):
    current, x0, x1, s, coefficients, *traces = ctx.saved_tensors
    out = _operator_backward(*gradients[:6], current, *traces, x0, x1, s, coefficients, ctx.code, *ctx.boxcar)
    return *out, *(None,) * 5


_operator.register_autograd(_adjoint, setup_context=_setup_context)
