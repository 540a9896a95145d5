"""Linear layers on spikes as torch operators: ``snn_delay_plugins::sparse_linear`` and its adjoint, on the CPU.

Every pass visits the entries that are not zero alone (:mod:`.numba`) where they are few enough for that
to be faster, else it is a product of matrices; :mod:`.dispatch` decides. Shapes: x ``[R, in]``, weight ``[out, in]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import dispatch
from ..checks import FLOATS, check_kind, check_tensor
from ..first_order import PLAIN_FORM, first_order_only, reverse_mode_only

__all__ = ["sparse_linear", "sparse_linear_backward"]


def _check(x: Tensor, weight: Tensor, support: Tensor | None, method: str) -> None:
    """
    :raises TypeError, ValueError: unless everything fits to x, on the CPU.
    """
    check_kind("method", method, ("events", "auto"))
    check_tensor("x", x, (None, None), FLOATS, torch.device("cpu"))
    check_tensor("weight", weight, (None, x.shape[1]), (x.dtype,), x.device)
    if support is not None:
        check_tensor("support", support, tuple(x.shape), (torch.bool,), x.device)


@torch.library.custom_op("snn_delay_plugins::sparse_linear", mutates_args=())
def sparse_linear(x: Tensor, weight: Tensor, bias: Tensor | None, support: Tensor | None, method: str) -> Tensor:
    """``x @ weight.T + bias``. ``support`` ``[R, in]``, bool: where the gradient of x is wanted (elsewhere it is zero).
    ``method``: ``"events"`` or ``"auto"``."""
    reverse_mode_only("spike_linear")
    from . import numba as loops

    _check(x, weight, support, method)
    if bias is not None:
        check_tensor("bias", bias, (weight.shape[0],), (x.dtype,), x.device)
    x = x.detach().contiguous()
    if dispatch.linear_form("forward", x, method) == "dense":
        return torch.nn.functional.linear(x, weight.detach(), None if bias is None else bias.detach())
    out = x.new_empty(x.shape[0], weight.shape[0])
    start = x.new_zeros(weight.shape[0]) if bias is None else bias.detach().contiguous()
    loops.forward(x.numpy(), _by_sender(weight), start.numpy(), out.numpy())
    return out


@sparse_linear.register_fake
def _(x, weight, bias, support, method):
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.custom_op("snn_delay_plugins::sparse_linear_backward", mutates_args=())
def sparse_linear_backward(
    grad: Tensor, x: Tensor, weight: Tensor, support: Tensor | None, method: str,
    for_x: bool, for_weight: bool, for_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, weight and bias; empty where they are not asked for."""
    from . import numba as loops

    _check(x, weight, support, method)
    check_tensor("grad", grad, (x.shape[0], weight.shape[0]), (x.dtype,), x.device)
    grad, x, weight = (value.detach().contiguous() for value in (grad, x, weight))
    g_x, g_weight, g_bias = (x.new_empty(0) for _ in range(3))
    if for_weight and dispatch.linear_form("weights", x, method) == "events":
        g_bias = x.new_empty(weight.shape[0])
        g_weight = x.new_empty(weight.shape[1], weight.shape[0])
        loops.weights(x.numpy(), grad.numpy(), g_weight.numpy(), g_bias.numpy())
        g_weight = g_weight.t().contiguous()
        g_bias = g_bias if for_bias else x.new_empty(0)
    else:
        g_weight = grad.t().mm(x) if for_weight else g_weight
        g_bias = grad.sum(0) if for_bias else g_bias
    if for_x:
        if support is None or dispatch.linear_form("inputs", support, method) == "dense":
            g_x = grad.mm(weight)
            if support is not None:
                g_x.mul_(support)
        else:
            g_x = torch.empty_like(x)
            loops.inputs(support.contiguous().numpy(), _by_sender(weight), grad.numpy(), g_x.numpy())
    return g_x, g_weight, g_bias


@sparse_linear_backward.register_fake
def _(grad, x, weight, support, method, for_x, for_weight, for_bias):
    def of(like, wanted):
        return torch.empty_like(like, memory_format=torch.contiguous_format) if wanted else like.new_empty(0)

    return of(x, for_x), of(weight, for_weight), weight.new_empty(weight.shape[0] if for_bias else 0)


def _by_sender(weight: Tensor):
    return weight.detach().t().contiguous().numpy()


def _setup_context(ctx, inputs, output) -> None:
    x, weight, _, support, method = inputs
    ctx.save_for_backward(x, weight, support)
    ctx.method = method


def _backward(ctx, grad):
    x, weight, support = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:3]
    gradients = sparse_linear_backward(grad, x, weight, support, ctx.method, *wanted)
    return *(g if asked else None for g, asked in zip(gradients, wanted, strict=True)), None, None


sparse_linear.register_autograd(_backward, setup_context=_setup_context)
first_order_only(sparse_linear_backward, "spike_linear", PLAIN_FORM)
