"""Linear neurons over sequences as a torch operator (equations: :mod:`.structure`).

``snn_delay_plugins::linear_neuron`` and its adjoint serve ``torch.compile`` and whatever looks at operators as they run; in
eager mode an autograd function calls the same kernels without the operator's cost. :mod:`.numba` runs them on the CPU,
:mod:`.triton` on CUDA. Shapes: current ``[T, M]`` (M = samples x neurons), states ``[M]`` (the second empty where there is
none), coefficients ``[K, F]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...transforms import transform
from ..checks import FLOATS, check_tensor
from ..device import runs_triton
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only
from ..op_counts import counting
from .structure import Structure

__all__ = ["EVERY", "linear_neuron"]

_functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue] - torch's stubs leave it out

EVERY = 32
"""Of so many steps one state is kept for a backward pass on the CPU, where no traces are asked for."""


def linear_neuron(current, x0, x1, s, coefficients, structure: Structure, traces: bool, support: bool, surrogate) -> tuple:
    """Spikes, traces of x0 and x1 (one of :data:`EVERY` steps unless ``traces``), last x0, x1 and s, and the support of
    the boxcar (bool; None if not ``support``)."""
    boxcar = getattr(surrogate, "is_boxcar", False)
    inputs = (current, x0, x1, s, coefficients, structure.code, traces, support and boxcar)
    if torch.compiler.is_compiling():  # the boxcar alone: dispatch has seen to it
        *out, inside = _operator(*inputs, surrogate.width, surrogate.height)
    else:
        *out, inside = _Sequence.apply(*inputs, surrogate)
    return *out, inside if support and boxcar else None


def _kernels(current: Tensor):
    """The module of the device; numba and triton are imported when the first kernel runs."""
    if runs_triton(current):
        from . import triton

        return triton
    from . import numba

    return numba


def _looked_at(current: Tensor, *gradients: Tensor | None) -> bool:
    """Whether the operator itself must run: something counts, fakes or vectorises operators."""
    if counting() or transform() is not None or type(current) not in (Tensor, torch.nn.Parameter):
        return True
    return any(g is not None and _functorch.is_legacy_batchedtensor(g) for g in gradients)


def _check(current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, structure: Structure) -> None:
    """Refuse whatever the loops, which know no bounds, could not read: an operator can be called by anybody."""
    check_tensor("current", current, (None, None), FLOATS, current.device)
    like = (current.dtype,), current.device
    rows = len(structure.names)
    check_tensor("coefficients", coefficients, (rows, None), *like)
    (steps, columns), features = current.shape, coefficients.shape[1]
    if not steps:
        raise ValueError("current must have at least one time step, got none")
    if "theta" not in structure.names:
        raise ValueError(f"coefficients must have a threshold theta, got {structure.names}")
    if not features or columns % features:
        raise ValueError(f"current has {columns} columns (samples x neurons): no multiple of the {features} coefficients")
    for name, value, size in zip(("x0", "x1", "s"), state, (columns, columns * structure.two, columns), strict=True):
        check_tensor(name, value, (size,), *like)


def _check_backward(gradients, phi, current: Tensor, traces: tuple[Tensor, Tensor], structure: Structure) -> None:
    """Traces are whole or, on the CPU, hold one of :data:`EVERY` steps; those that are no outputs have empty gradients."""
    whole, last = tuple(current.shape), (current.shape[1],)
    like = (current.dtype,), current.device
    steps = whole[0] if runs_triton(current) or traces[0].shape[:1] == whole[:1] else (whole[0] - 1) // EVERY
    check_tensor("x0_seq", traces[0], (steps, whole[1]), *like)
    check_tensor("x1_seq", traces[1], (steps, whole[1]) if structure.two else (None, None), *like)
    names = ("g_spikes", "g_x0", "g_x1", "g_x0T", "g_x1T", "g_sT", "phi")
    shapes = (whole, whole, whole, last, last, last, whole)
    for name, gradient, shape in zip(names, (*gradients, phi), shapes, strict=True):
        if gradient is not None and (name in ("g_spikes", "g_x0T", "g_sT", "phi") or gradient.numel()):
            check_tensor(name, gradient, shape, *like)


def _every(current: Tensor, whole: bool) -> int:
    return 1 if whole or runs_triton(current) else EVERY


def _forward(
    current: Tensor, x0: Tensor, x1: Tensor, s: Tensor, coefficients: Tensor, code: int, traces: bool, support: bool,
    width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    reverse_mode_only("linear_neuron")
    _check(current, (x0, x1, s), coefficients, Structure.of(code))
    every = _every(current, traces)
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    out = _kernels(current).forward(current, (x0, x1, s), coefficients, code, every, inside if support else None, width)
    spikes, x0_seq, x1_seq, x0_last, x1_last, s_last = out
    return spikes, x0_seq, x1_seq, x0_last, x1_last, s_last, inside


def _backward(
    g_spikes: Tensor | None, g_x0: Tensor | None, g_x1: Tensor | None, g_x0T: Tensor | None, g_x1T: Tensor | None,
    g_sT: Tensor | None, phi: Tensor | None, current: Tensor, x0_seq: Tensor, x1_seq: Tensor, x0: Tensor, x1: Tensor,
    s: Tensor, coefficients: Tensor, code: int, width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the current, of the initial x0, x1, s, and of the coefficients (summed over samples)."""
    structure, traces = Structure.of(code), (x0_seq, x1_seq)
    gradients = (g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT)
    _check(current, (x0, x1, s), coefficients, structure)
    _check_backward(gradients, phi, current, traces, structure)
    every = 1 if len(x0_seq) == len(current) else EVERY
    g_current, g_x0, g_x1, g_s, g_columns = _kernels(current).backward(
        gradients, phi, (width, height), current, traces, (x0, x1, s), coefficients, code, every
    )
    return g_current, g_x0, g_x1, g_s, g_columns.view(len(coefficients), -1, coefficients.shape[1]).sum(1)


_operator = torch.library.custom_op("snn_delay_plugins::linear_neuron", mutates_args=())(_forward)
_operator_backward = torch.library.custom_op("snn_delay_plugins::linear_neuron_backward", mutates_args=())(_backward)


@_operator.register_fake
def _(current, x0, x1, s, coefficients, code, traces, support, width, height):
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    steps = current.shape[0] if _every(current, traces) == 1 else (current.shape[0] - 1) // EVERY
    x0_seq = current.new_empty(steps, current.shape[1])
    x1_seq = torch.empty_like(x0_seq) if Structure.of(code).two else current.new_empty(0, 0)
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    return spikes, x0_seq, x1_seq, *(torch.empty_like(x) for x in (x0, x1, s)), inside


@_operator_backward.register_fake
def _(g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT, phi, current, x0_seq, x1_seq, x0, x1, s, coefficients, code, *boxcar):
    g_current = torch.empty_like(current, memory_format=torch.contiguous_format)
    return g_current, *(torch.empty_like(x) for x in (x0, x1, s, coefficients))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:5], *output[1:3])
    ctx.code, traces, _, *ctx.boxcar = inputs[5:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(() if traces else output[1:3]), output[6])


def _adjoint(ctx, *gradients):
    *inputs, x0_seq, x1_seq = ctx.saved_tensors
    current, *state = inputs
    out = _operator_backward(*gradients[:6], None, current, x0_seq, x1_seq, *state, ctx.code, *ctx.boxcar)
    return *out, *(None,) * 5


_operator.register_autograd(_adjoint, setup_context=_setup_context)
first_order_only(_operator_backward, "linear_neuron (AdLIF+ and all linear neurons)", PLAIN_FORM)


class _Sequence(torch.autograd.Function):
    """The operator in eager mode, with the derivative of any surrogate that is served."""

    @staticmethod
    def forward(ctx, current, x0, x1, s, coefficients, code, traces, support, surrogate):
        inputs = (current, x0, x1, s, coefficients)
        ctx.is_boxcar = getattr(surrogate, "is_boxcar", False)
        ctx.boxcar = (surrogate.width, surrogate.height) if ctx.is_boxcar else (0.0, 0.0)
        run = _operator if _looked_at(current) else _forward
        out = run(*inputs, code, traces or not ctx.is_boxcar, support, *ctx.boxcar)
        ctx.save_for_backward(*inputs, *out[1:3])
        ctx.code, ctx.surrogate = code, surrogate
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(() if traces else out[1:3]), out[6])
        return out

    @staticmethod
    def backward(ctx, *gradients):
        current, x0, x1, s, coefficients, x0_seq, x1_seq = ctx.saved_tensors
        phi = None if ctx.is_boxcar else _slopes(x0_seq, x1_seq, coefficients, Structure.of(ctx.code), ctx.surrogate)
        # with a graph of the gradient, the operator is who says that there is none
        run = _operator_backward if torch.is_grad_enabled() or _looked_at(current, *gradients) else _backward
        g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT, _ = gradients
        inputs = (current, x0_seq, x1_seq, x0, x1, s, coefficients)
        out = run(g_spikes, g_x0, g_x1, g_x0T, g_x1T, g_sT, phi, *inputs, ctx.code, *ctx.boxcar)
        return *out, *(None,) * 4


def _slopes(x0_seq: Tensor, x1_seq: Tensor, coefficients: Tensor, structure: Structure, surrogate) -> Tensor:
    """The surrogate's derivative at every step, ``[T, M]``."""
    from ...functional.surrogate import derivative

    rows, features = structure.rows(), coefficients.shape[1]
    z = x0_seq.view(-1, features)
    if rows["c"] >= 0:
        z = z + coefficients[rows["c"]] * x1_seq.view(-1, features)
    return derivative(z - coefficients[rows["theta"]], surrogate).to(z.dtype).view_as(x0_seq)
