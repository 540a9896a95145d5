"""AdLIF sequences as torch operators, so that ``torch.compile``, autocast and data-parallel training pass through them.

``snn_delay_plugins::adlif`` runs the neurons; its own gradient is that of a boxcar surrogate.
``snn_delay_plugins::adlif_backward`` is the adjoint, also for any other surrogate's derivative ``phi``. Both run
:mod:`.adlif_numba` on the CPU and :mod:`.adlif_triton` on CUDA. Shapes: current ``[T, M]`` (M = samples x neurons),
states ``[M]``, parameters ``[F]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import FLOATS, check_kind, check_tensor
from .first_order import PLAIN_FORM, first_order_only

__all__ = ["EVERY", "adlif", "adlif_backward"]

_RESETS = ("subtract", "zero", "none")

EVERY = 32
"""Of so many steps one state is kept for a backward pass on the CPU, where no traces are asked for."""


def _kernels(current: Tensor):
    """The module of the device; numba and triton are imported when the first kernel runs."""
    if current.is_cuda:
        from . import adlif_triton

        return adlif_triton
    from . import adlif_numba

    return adlif_numba


def _check(current: Tensor, state: dict[str, Tensor], parameters: dict[str, Tensor], reset: str) -> None:
    """
    :raises TypeError, ValueError: unless everything fits to ``current``.
    """
    check_kind("reset", reset, _RESETS)
    check_tensor("current", current, (None, None), FLOATS, current.device)
    steps, columns = current.shape
    features = parameters["alpha"].numel()
    if not steps:
        raise ValueError("current must have at least one time step, got none")
    if not features or columns % features:
        raise ValueError(f"current has {columns} columns (samples x neurons), which is no multiple of alpha's {features}")
    for name, value in state.items():
        check_tensor(name, value, (columns,), (current.dtype,), current.device)
    for name, value in parameters.items():
        check_tensor(name, value, (features,), (current.dtype,), current.device)


@torch.library.custom_op("snn_delay_plugins::adlif", mutates_args=())
def adlif(
    current: Tensor, u: Tensor, w: Tensor, s: Tensor,
    alpha: Tensor, beta: Tensor, a: Tensor, b: Tensor, theta: Tensor,
    adaptive: bool, symplectic: bool, reset: str, detach_reset: bool, traces: bool, support: bool,
    width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Spikes, trace of u (symplectic: before the reset), trace of w (empty if not ``adaptive``), last u, w and s, support
    of the boxcar (bool; empty if not ``support``).

    ``traces``: whether the two traces are outputs with a gradient; without, they hold one of :data:`EVERY` steps on the
    CPU, whose backward computes the others anew. ``width``, ``height``: the boxcar.
    """
    _check(current, {"u": u, "w": w, "s": s}, {"alpha": alpha, "beta": beta, "a": a, "b": b, "theta": theta}, reset)
    arguments = (current, (u, w, s), (alpha, beta, a, b, theta), adaptive, symplectic, reset)
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    if not current.is_cuda:
        return *_kernels(current).forward(*arguments, 1 if traces else EVERY, inside if support else None, width), inside
    out = _kernels(current).forward(*arguments)
    if support:
        torch.le((out[1].view(-1, theta.numel()) - theta).abs().view(current.shape), width, out=inside)
    return *out, inside


@adlif.register_fake
def _(
    current, u, w, s, alpha, beta, a, b, theta, adaptive, symplectic, reset, detach_reset, traces, support, width, height
):
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    steps = current.shape[0] if traces or current.is_cuda else (current.shape[0] - 1) // EVERY
    u_seq = current.new_empty(steps, current.shape[1])
    w_seq = torch.empty_like(u_seq) if adaptive else current.new_empty(0, 0)
    inside = current.new_empty(current.shape if support else (0, 0), dtype=torch.bool)
    return spikes, u_seq, w_seq, *(torch.empty_like(u) for _ in range(3)), inside


@torch.library.custom_op("snn_delay_plugins::adlif_backward", mutates_args=())
def adlif_backward(
    g_spikes: Tensor | None, g_u: Tensor | None, g_w: Tensor | None,
    g_uT: Tensor | None, g_wT: Tensor | None, g_sT: Tensor | None, phi: Tensor | None,
    current: Tensor, u_seq: Tensor, w_seq: Tensor, u: Tensor, w: Tensor, s: Tensor,
    alpha: Tensor, beta: Tensor, a: Tensor, b: Tensor, theta: Tensor,
    adaptive: bool, symplectic: bool, reset: str, detach_reset: bool, width: float, height: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the current, of the initial u, w, s, and of alpha, beta, a, b, theta (summed over samples)."""
    last = {name: g for name, g in {"g_uT": g_uT, "g_wT": g_wT, "g_sT": g_sT}.items() if g is not None}
    parameters = {"alpha": alpha, "beta": beta, "a": a, "b": b, "theta": theta}
    _check(current, {"u": u, "w": w, "s": s, **last}, parameters, reset)
    _check_traces(current, u_seq, w_seq, adaptive, {"g_spikes": g_spikes, "phi": phi}, {"g_u": g_u, "g_w": g_w})
    g_current, *g_columns = _kernels(current).backward(
        (g_spikes, g_u, g_w, g_uT, g_wT, g_sT), phi, (width, height), current, (u_seq, w_seq), (u, w, s),
        (alpha, beta, a, b, theta), adaptive, symplectic, reset, detach_reset,
        *(() if len(u_seq) == len(current) else (EVERY,)),
    )  # fmt: skip
    g_parameters = (g.view(-1, theta.numel()).sum(0) for g in g_columns[3:])
    return g_current, *g_columns[:3], *g_parameters


def _check_traces(
    current: Tensor, u_seq: Tensor, w_seq: Tensor, adaptive: bool,
    whole: dict[str, Tensor | None], or_empty: dict[str, Tensor | None],
) -> None:  # fmt: skip
    """Traces are whole or, on the CPU, hold one of :data:`EVERY` steps; those that are no outputs have empty gradients."""
    steps, columns = current.shape
    like = (current.dtype,), current.device
    kept = steps if current.is_cuda or u_seq.shape[:1] == (steps,) else (steps - 1) // EVERY
    check_tensor("u_seq", u_seq, (kept, columns), *like)
    check_tensor("w_seq", w_seq, (kept, columns) if adaptive else (None, None), *like)
    for name, sequence in (*whole.items(), *((name, g) for name, g in or_empty.items() if g is not None and g.numel())):
        if sequence is not None:
            check_tensor(name, sequence, (steps, columns), *like)


@adlif_backward.register_fake
def _(g_spikes, g_u, g_w, g_uT, g_wT, g_sT, phi, current, u_seq, w_seq, u, w, s, alpha, beta, a, b, theta, *options):
    g_current = torch.empty_like(current, memory_format=torch.contiguous_format)
    return g_current, *(torch.empty_like(u) for _ in range(3)), *(torch.empty_like(alpha) for _ in range(5))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:9], *output[1:3])
    *options, traces, _, width, height = inputs[9:]
    ctx.options = (*options, width, height)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(() if traces else output[1:3]), output[6])


def _backward(ctx, *gradients):
    *inputs, u_seq, w_seq = ctx.saved_tensors
    current, state, parameters = inputs[0], inputs[1:4], inputs[4:]
    gradients = adlif_backward(*gradients[:6], None, current, u_seq, w_seq, *state, *parameters, *ctx.options)
    return *gradients, *(None for _ in range(8))


adlif.register_autograd(_backward, setup_context=_setup_context)
first_order_only(adlif_backward, "adlif (AdLIF+ neurons)", PLAIN_FORM)
