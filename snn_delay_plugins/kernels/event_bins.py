"""The border between events and dense spike counts as torch operators, which ``torch.compile`` passes through whole.

Dynamo drops the gradient of an ``autograd.Function`` whose forward does not read the differentiable input itself (spike
times are binned without it), and cannot trace the checks of values. Compiled code therefore calls
:meth:`~snn_delay_plugins.events.SpikeEvents.to_dense` and ``from_dense`` through these operators, which run the same code
uncompiled; how many events come out is known only then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bins import bin_of
from ..events import SpikeEvents, gradient_of_counts, gradient_of_times
from .first_order import first_order_only

__all__ = ["dense_to_events", "events_to_dense"]


@torch.library.custom_op("snn_delay_plugins::events_to_dense", mutates_args=())
def events_to_dense(
    times: Tensor, units: Tensor, offsets: Tensor, num_units: int, duration: float, dt: float, steps: int,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Spike counts ``[steps, N, num_units]``."""
    return _events(times, units, offsets, num_units, duration).to_dense(dt, steps, dtype=dtype)


@events_to_dense.register_fake
def _(times, units, offsets, num_units, duration, dt, steps, dtype):
    return times.new_empty(steps, offsets.shape[0] - 1, num_units, dtype=dtype)


@torch.library.custom_op("snn_delay_plugins::events_to_dense_backward", mutates_args=())
def events_to_dense_backward(
    grad: Tensor, times: Tensor, units: Tensor, offsets: Tensor, num_units: int, duration: float, dt: float
) -> Tensor:
    """Gradient of the times."""
    events = _events(times, units, offsets, num_units, duration)
    bins = events.bins(dt, grad.shape[0])
    return gradient_of_times(grad.detach(), bins, events.samples(), units, dt).to(times.dtype)


@events_to_dense_backward.register_fake
def _(grad, times, units, offsets, num_units, duration, dt):
    return torch.empty_like(times, memory_format=torch.contiguous_format)


def _to_dense_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:6]


def _to_dense_backward(ctx, grad):
    return events_to_dense_backward(grad, *ctx.saved_tensors, *ctx.options), *(None for _ in range(7))


events_to_dense.register_autograd(_to_dense_backward, setup_context=_to_dense_context)
first_order_only(events_to_dense_backward, "SpikeEvents.to_dense")


@torch.library.custom_op("snn_delay_plugins::dense_to_events", mutates_args=())
def dense_to_events(dense: Tensor, dt: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Times, units and offsets of the spikes counted in ``[T, N, C]``."""
    events = SpikeEvents.from_dense(dense.detach(), dt, dtype=dtype)
    return events.times, events.units, events.offsets


@dense_to_events.register_fake
def _(dense, dt, dtype):
    spikes = torch.library.get_ctx().new_dynamic_size()
    units = dense.new_empty(spikes, dtype=torch.int64)
    return dense.new_empty(spikes, dtype=dtype), units, dense.new_empty(dense.shape[1] + 1, dtype=torch.int64)


@torch.library.custom_op("snn_delay_plugins::dense_to_events_backward", mutates_args=())
def dense_to_events_backward(
    grad: Tensor, times: Tensor, units: Tensor, offsets: Tensor, dense: Tensor, dt: float
) -> Tensor:
    """Gradient of the counts."""
    steps, _, num_units = dense.shape
    samples = _events(times, units, offsets, num_units, steps * dt).samples()
    return gradient_of_counts(grad.detach(), bin_of(times, dt), samples, units, dt, dense.shape).to(dense.dtype)


@dense_to_events_backward.register_fake
def _(grad, times, units, offsets, dense, dt):
    return torch.empty_like(dense, memory_format=torch.contiguous_format)


def _to_events_context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*(x.detach() for x in output), inputs[0])
    ctx.dt = inputs[1]


def _to_events_backward(ctx, grad, *_):
    return dense_to_events_backward(grad, *ctx.saved_tensors, ctx.dt), None, None


dense_to_events.register_autograd(_to_events_backward, setup_context=_to_events_context)
first_order_only(dense_to_events_backward, "SpikeEvents.from_dense")


def _events(times: Tensor, units: Tensor, offsets: Tensor, num_units: int, duration: float) -> SpikeEvents:
    return SpikeEvents._trusted(times.detach(), units, offsets, num_units, duration)
