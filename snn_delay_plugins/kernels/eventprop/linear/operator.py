"""EventProp of linear neurons as torch operators: ``eventprop_linear`` and its backward pass.

Events and what is checked of them are as in :mod:`..operator`. The neurons are tensors of float64: M, J [out, n, n],
r [out, n], theta and refractory [out]; B, c and kept [n].
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...checks import FLOATS, check_room, check_tensor
from ...device import has_triton, runs_triton
from ...first_order import first_order_only, reverse_mode_only
from ..operator import (
    _REVERSE,
    _array,
    _check_delay,
    _check_finite,
    _check_layer,
    _check_positive,
    _checked_events,
    _empty_gradient,
    _events_in_order,
    _finite,
    _like,
    _not_a_number,
    _warn_of_copies,
)
from .tables import Constants, Layer, steps_at_least

__all__ = ["MOST_STATES", "eventprop_linear"]

MOST_STATES = 3
_CELL_BYTES = 100  # of a row: moments, inhibition, chain
_SHORTEST = 1e-300
_MOST_CELLS = 1 << 28  # rows count to 2^31, eight numbers each


def _cpu():
    from . import cpu  # numba is imported when a layer first runs

    return cpu


def _device_kernels(tensor: Tensor) -> ModuleType | None:
    """The kernels of a CUDA tensor's device; None for other devices and where Triton is not installed."""
    if not (runs_triton(tensor) and has_triton()):
        return None
    from . import triton

    return triton


def _checked(times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, duration, neurons) -> Tensor:
    _check_layer(times, weight, delay, recurrent_weight, recurrent_delay)
    for name, tensor in {
        "weight": weight, "delay": delay, "recurrent_weight": recurrent_weight, "recurrent_delay": recurrent_delay,
    }.items():  # fmt: skip
        if tensor is not None:
            _check_finite(name, tensor.detach())
            if name.endswith("delay"):
                _check_delay(name, tensor.detach())
    _M, B, c, _J, _r, theta, refractory, kept = neurons
    check_tensor("B", B, (None,), (torch.float64,), times.device)
    n_out, n = weight.shape[0], B.shape[0]
    if not 1 <= n <= MOST_STATES:
        raise ValueError(f"B must be [states]; the compiled loops take neurons of up to {MOST_STATES} states, got {n}")
    shapes = {"M": (n_out, n, n), "J": (n_out, n, n), "r": (n_out, n), "theta": (n_out,), "refractory": (n_out,)}
    names = ("M", "B", "c", "J", "r", "theta", "refractory", "kept")
    for name, tensor in zip(names, neurons, strict=True):
        check_tensor(name, tensor, shapes.get(name, (n,)), (torch.float64,), times.device)
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"the neurons' {name} holds values that are not finite")
    if not bool((theta > 0).all()) or not bool((refractory >= 0).all()):
        raise ValueError("theta must be positive and refractory not negative")
    if not bool(((kept == 0) | (kept == 1)).all()):
        raise ValueError("kept must be 0 for the states that a refractory period holds, else 1")
    if bool(((B != 0) & (c != 0)).any()) and float(B @ c) != 0:
        raise ValueError(f"an arrival must not make the potential jump, but c . B = {float(B @ c):g}")
    return _checked_events(times, units, offsets, weight.shape[1], duration)


def _layer(neurons, duration: float, dt: float, recurrent: bool):
    _check_positive("dt", dt)
    if duration < _SHORTEST:
        raise ValueError(f"duration = {duration:g} would be too short; its inverse is no number")
    M = neurons[0]
    rates = steps_at_least(_array(M), duration, dt)
    columns = -(-M.shape[0] // 8) * 8 if recurrent else 8
    what = (
        f"dt = {dt:g} and the neurons' rates cut the duration of {duration:g} into {rates:.3g} steps: tables of {columns} "
        "neurons"
    )
    if not columns * rates < _MOST_CELLS:
        raise ValueError(f"{what} would be too long; take larger time constants or a larger dt")
    check_room(what, int(_CELL_BYTES * columns * rates))
    layer = Layer.of(Constants(*(_array(x) for x in neurons)), duration, dt)
    if not layer.is_finite:
        raise ValueError("the neurons' M, B or c are so large that their products overflow")
    return layer


def _events(times, units, offsets):
    if times.device.type != "cpu":
        _warn_of_copies(times.device.type, " for neurons other than LIF" if has_triton() else " without triton")
    return _cpu().Events(_array(times), units.cpu().contiguous().numpy(), offsets.cpu().contiguous().numpy())


def _synapses(weight, delay) -> Any:  # None for None
    return None if weight is None else (_array(weight), _array(delay, tuple(weight.shape)))


def _events_on_device(kernels, times, units, offsets):
    return kernels.Events(*(x.detach().contiguous() for x in (times.to(torch.float64), units, offsets.to(times.device))))


def _on_device(kernels, weight, delay):
    return None if weight is None else kernels.synapses(weight, delay)


@torch.library.custom_op("snn_delay_plugins::eventprop_linear", mutates_args=())
def eventprop_linear(
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None,
    recurrent_delay: Tensor | None,
    M: Tensor,
    J: Tensor,
    r: Tensor,
    theta: Tensor,
    refractory: Tensor,
    B: Tensor,
    c: Tensor,
    kept: Tensor,
    duration: float,
    dt: float,
    max_spikes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes of the layer: times, potential, units, offsets; then times in float64 and the states before each jump and at
    the end of each refractory period [spikes, 3]."""
    reverse_mode_only("eventprop_linear", _REVERSE)
    neurons = M, B, c, J, r, theta, refractory, kept
    times = _checked(times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, duration, neurons)
    if max_spikes < 1:
        raise ValueError(f"max_spikes must be positive, got {max_spikes}")
    layer = _layer(neurons, duration, dt, recurrent_weight is not None)
    kernels = _device_kernels(times)
    if kernels:
        synapses, recurrent = _on_device(kernels, weight, delay), _on_device(kernels, recurrent_weight, recurrent_delay)
        out = kernels.forward_pass(
            _events_on_device(kernels, times, units, offsets), synapses, recurrent, layer, max_spikes
        )
        exact, of_units, of_offsets, _ = out.events
        before, at_ready = out.before, out.at_ready
    else:
        out = _cpu().forward_pass(
            _events(times, units, offsets), _synapses(weight, delay), _synapses(recurrent_weight, recurrent_delay), layer,
            max_spikes, torch.get_num_threads(),
        )  # fmt: skip
        exact, of_units, of_offsets = (torch.from_numpy(x).to(times.device) for x in (out.times, out.units, out.offsets))
        before, at_ready = (torch.from_numpy(x).to(times.device) for x in (out.before, out.at_ready))
    dtype = torch.promote_types(times.dtype, weight.dtype)
    return exact.to(dtype, copy=True), theta[of_units].to(dtype), of_units, of_offsets, exact, before, at_ready


@eventprop_linear.register_fake
def _(
    times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, M, J, r, theta, refractory, B, c, kept,
    duration, dt, max_spikes,
):  # fmt: skip
    spikes = torch.library.get_ctx().new_dynamic_size()
    out = times.new_empty(spikes, dtype=torch.promote_types(times.dtype, weight.dtype))
    exact = times.new_empty(spikes, dtype=torch.float64)
    states = times.new_empty((spikes, 3), dtype=torch.float64)
    return (
        out, torch.empty_like(out), units.new_empty(spikes), torch.empty_like(offsets), exact, states,
        torch.empty_like(states),
    )  # fmt: skip


@torch.library.custom_op("snn_delay_plugins::eventprop_linear_backward", mutates_args=())
def eventprop_linear_backward(
    g_time: Tensor | None,
    g_potential: Tensor | None,
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None,
    recurrent_delay: Tensor | None,
    M: Tensor,
    J: Tensor,
    r: Tensor,
    theta: Tensor,
    refractory: Tensor,
    B: Tensor,
    c: Tensor,
    kept: Tensor,
    out_units: Tensor,
    out_offsets: Tensor,
    exact: Tensor,
    before: Tensor,
    at_ready: Tensor,
    duration: float,
    dt: float,
    for_times: bool,
    for_constants: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of times, weight, delay, recurrent weight and delay, M, J, r, theta and refractory; empty where not asked
    for."""
    neurons = M, B, c, J, r, theta, refractory, kept
    times = _checked(times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, duration, neurons)
    slope = _check_spikes(exact, out_units, out_offsets, before, at_ready, g_time, g_potential, offsets, neurons, duration)
    empty = _empty_gradients(times, weight, delay, recurrent_weight, recurrent_delay, neurons, for_times, for_constants)
    if not _finite(g_time, g_potential):
        return _not_a_number(empty)
    layer = _layer(neurons, duration, dt, recurrent_weight is not None)
    kernels = _device_kernels(times)
    if kernels:
        synapses, recurrent = _on_device(kernels, weight, delay), _on_device(kernels, recurrent_weight, recurrent_delay)
        out = kernels.Spikes(_events_on_device(kernels, exact, out_units, out_offsets), before, at_ready)
        by_time, by_potential = (torch.zeros_like(slope) if g is None else g.double() for g in (g_time, g_potential))
        grads = kernels.backward_pass(
            _events_on_device(kernels, times, units, offsets), synapses, recurrent, layer, out, by_time, by_potential,
            for_times, for_constants,
        )  # fmt: skip
    else:
        out = _cpu().Spikes(*(x.cpu().contiguous().numpy() for x in (exact, out_units, out_offsets, before, at_ready)))
        by_time, by_potential = (_array(torch.zeros_like(slope) if g is None else g) for g in (g_time, g_potential))
        grads = _cpu().backward_pass(
            _events(times, units, offsets), _synapses(weight, delay), _synapses(recurrent_weight, recurrent_delay), layer,
            out, by_time, by_potential, for_times, for_constants, torch.get_num_threads(),
        )  # fmt: skip
    n = B.shape[0]
    arrays = (
        grads.times, grads.weight, grads.delay, grads.recurrent_weight, grads.recurrent_delay, grads.M[:, :n, :n],
        grads.J[:, :n, :n], grads.r[:, :n], grads.theta, grads.refractory,
    )  # fmt: skip
    arrays = [None if array is None else torch.as_tensor(array) for array in arrays]
    if for_constants:
        arrays[-1] = torch.as_tensor(grads.refractory) + _by_no_refractory(M, J, r, refractory, kept, arrays[6], arrays[7])
    tensors = (times, weight, delay, recurrent_weight, recurrent_delay, M, J, r, theta, refractory)
    return tuple(  # pyright: ignore[reportReturnType] - as many as the signature says
        _like(grad.clone(), tensor) if grad is not None and tensor is not None and place.numel() else place
        for grad, tensor, place in zip(arrays, tensors, empty, strict=True)
    )


def _by_no_refractory(M, J, r, refractory, kept, by_J, by_r) -> Tensor:
    """dL/d refractory [out] where it is zero, from above: sum p+ . (M_held - M) x+, with x+ = (1 + J) x- + r."""
    change = (kept[:, None] - 1) * M
    by_rest = ((change + change @ J) * by_J.to(J)).sum((1, 2)) + ((change @ r[..., None])[..., 0] * by_r.to(r)).sum(1)
    return torch.where(refractory == 0, by_rest, 0.0)


def _check_spikes(exact, units, offsets, before, at_ready, g_time, g_potential, of_times, neurons, duration) -> Tensor:
    """What a forward pass returned; c . M x at its spikes.

    :raises RuntimeError: where V only grazes the threshold.
    """
    M, B, c = neurons[:3]
    device = of_times.device
    check_tensor("exact", exact, (None,), (torch.float64,), device)
    check_tensor("out_units", units, tuple(exact.shape), (torch.int64,), device)
    check_tensor("out_offsets", offsets, tuple(of_times.shape), (torch.int64,), device)
    exact, ordered = _events_in_order(exact, units, offsets, M.shape[0], duration, None)
    if not ordered:
        raise ValueError("the spikes of a sample must be in the order of their times")
    for name, tensor in {"before": before, "at_ready": at_ready}.items():
        check_tensor(name, tensor, (exact.shape[0], MOST_STATES), (torch.float64,), exact.device)
    for name, g in {"g_time": g_time, "g_potential": g_potential}.items():
        if g is not None:
            check_tensor(name, g, tuple(exact.shape), FLOATS, exact.device)
    slope = ((c @ M)[units] * before[:, : B.shape[0]]).sum(1)
    if slope.numel() and not bool((slope > 0).all()):
        k = int(slope.argmin())
        raise RuntimeError(
            f"the spike of neuron {units[k].item()} at t = {exact[k].item():g} only grazes the threshold "
            f"(dV/dt = {slope[k].item():g}): its time has no gradient"
        )
    return slope


def _empty_gradients(times, weight, delay, recurrent_weight, recurrent_delay, neurons, for_times, for_constants):
    M, _B, _c, J, r, theta, refractory, _kept = neurons
    recurrent = recurrent_weight is not None
    return (
        _empty_gradient(for_times, times),
        torch.empty_like(weight),
        _empty_gradient(True, delay),
        torch.empty_like(recurrent_weight) if recurrent else times.new_empty(0),
        _empty_gradient(True, recurrent_delay) if recurrent else times.new_empty(0),
        _empty_gradient(for_constants, M),
        _empty_gradient(for_constants, J),
        _empty_gradient(for_constants, r),
        torch.empty_like(theta),
        torch.empty_like(refractory),
    )


@eventprop_linear_backward.register_fake
def _(
    g_time, g_potential, times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, M, J, r, theta,
    refractory, B, c, kept, out_units, out_offsets, exact, before, at_ready, duration, dt, for_times, for_constants,
):  # fmt: skip
    neurons = M, B, c, J, r, theta, refractory, kept
    return _empty_gradients(times, weight, delay, recurrent_weight, recurrent_delay, neurons, for_times, for_constants)


def _context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:15], *output[2:])
    ctx.options = inputs[15:17]


def _backward(ctx, g_time, g_potential, *_):
    need = ctx.needs_input_grad
    wanted = need[0], any(need[7:10]) or need[11]
    g_times, *grads = eventprop_linear_backward(g_time, g_potential, *ctx.saved_tensors, *ctx.options, *wanted)
    given = [g if wants else None for g, wants in zip(grads, need[3:12], strict=True)]
    return g_times if need[0] else None, None, None, *given, *(None,) * 6


eventprop_linear.register_autograd(_backward, setup_context=_context)
first_order_only(eventprop_linear_backward, "an EventProp layer")
