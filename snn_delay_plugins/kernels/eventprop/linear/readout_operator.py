"""Linear readouts as torch operators: ``eventprop_linear_li`` and its backward pass. Events and neurons as in
:mod:`.operator`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ....bins import steps_in
from ...checks import FLOATS, check_room, check_tensor
from ...first_order import first_order_only, reverse_mode_only
from ..operator import _REVERSE, _array, _empty_gradient, _finite, _like, _not_a_number
from .operator import _checked, _device_kernels, _events, _events_on_device, _layer, _on_device, _synapses
from .tables import steps_at_least

__all__ = ["KINDS", "eventprop_linear_li"]

KINDS = ("voltage", "final")


def _loops():
    from . import readout  # numba is imported when a layer first runs

    return readout


def _shape(kind: str, M: Tensor, offsets: Tensor, duration: float, dt: float) -> tuple[int, ...]:
    n_out, n = M.shape[:2]
    if kind == "voltage":
        return max(1, steps_in(duration, dt)), offsets.shape[0] - 1, n_out
    return offsets.shape[0] - 1, n_out, n


def _prepared(times, units, offsets, weight, delay, M, B, c, duration, dt, kind):
    """Checked times, layer and number of samples."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    n_out, n = weight.shape[0], B.shape[0]
    nothing = M.new_zeros(n_out, n)
    neurons = M, B, c, torch.zeros_like(M), nothing, M.new_ones(n_out), M.new_zeros(n_out), torch.ones_like(B)
    times = _checked(times, units, offsets, weight, delay, None, None, duration, neurons)
    if kind == "final":
        return times, _layer(neurons, duration, dt, False), 0
    samples = max(1, steps_in(duration, dt))
    check_room("the voltage", 8 * samples * (offsets.shape[0] - 1) * n_out)
    every = max(1, math.ceil(steps_at_least(_array(M), dt, dt) * (1 - 1e-12)))
    return times, _layer(neurons, samples * dt, dt / every, False), samples


@torch.library.custom_op("snn_delay_plugins::eventprop_linear_li", mutates_args=())
def eventprop_linear_li(
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    M: Tensor,
    B: Tensor,
    c: Tensor,
    duration: float,
    dt: float,
    kind: str,
) -> Tensor:
    """``"voltage"``: c . x at n dt [steps, N, out]; ``"final"``: x at the end [N, out, n]; float64."""
    reverse_mode_only("eventprop_linear_li", _REVERSE)
    times, layer, samples = _prepared(times, units, offsets, weight, delay, M, B, c, duration, dt, kind)
    kernels = _device_kernels(times)
    if kernels:
        on_device = _events_on_device(kernels, times, units, offsets)
        voltage, final = kernels.readout(on_device, _on_device(kernels, weight, delay), layer, samples)
        return voltage if kind == "voltage" else final[..., : B.shape[0]].clone()
    voltage, final = _loops().readout(
        _events(times, units, offsets), _synapses(weight, delay), layer, samples, torch.get_num_threads()
    )
    return torch.from_numpy(voltage if kind == "voltage" else final[..., : B.shape[0]].copy()).to(times.device)


@eventprop_linear_li.register_fake
def _(times, units, offsets, weight, delay, M, B, c, duration, dt, kind):
    return M.new_empty(_shape(kind, M, offsets, duration, dt))


@torch.library.custom_op("snn_delay_plugins::eventprop_linear_li_backward", mutates_args=())
def eventprop_linear_li_backward(
    grad: Tensor,
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    M: Tensor,
    B: Tensor,
    c: Tensor,
    duration: float,
    dt: float,
    kind: str,
    for_times: bool,
    for_constants: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of times, weight, delay and M; empty where not asked for."""
    times, layer, samples = _prepared(times, units, offsets, weight, delay, M, B, c, duration, dt, kind)
    check_tensor("grad", grad, _shape(kind, M, offsets, duration, dt), FLOATS, times.device)
    empty = _empty_gradients(times, weight, delay, M, for_times, for_constants)
    if not _finite(grad, None):
        return _not_a_number(empty)
    n, kernels = B.shape[0], _device_kernels(times)
    if kernels:
        g, states = grad.detach().double().contiguous(), (offsets.numel() - 1, weight.shape[0])
        of_readout = kernels.Readout.none(*states, g)
        if samples:
            of_readout = of_readout._replace(by_voltage=g)
        else:
            of_readout = of_readout._replace(by_final=torch.nn.functional.pad(g, (0, 3 - n)).contiguous())
        grads = kernels.readout_backward(
            _events_on_device(kernels, times, units, offsets), _on_device(kernels, weight, delay), layer, of_readout,
            for_times, for_constants,
        )  # fmt: skip
    else:
        by_voltage, by_final = np.empty((0, 0, 0)), np.empty((0, 0, 0))
        if samples:
            by_voltage = _array(grad)
        else:
            by_final = np.pad(_array(grad), ((0, 0), (0, 0), (0, 3 - n)))
        grads = _loops().readout_backward(
            _events(times, units, offsets), _synapses(weight, delay), layer, by_voltage, by_final, for_times, for_constants,
            torch.get_num_threads(),
        )  # fmt: skip
    arrays = [torch.as_tensor(x) for x in (grads.times, grads.weight, grads.delay, grads.M[:, :n, :n])]
    return tuple(  # pyright: ignore[reportReturnType] - as many as the signature says
        _like(array.clone(), tensor) if place.numel() else place
        for array, tensor, place in zip(arrays, (times, weight, delay, M), empty, strict=True)
    )


def _empty_gradients(times, weight, delay, M, for_times, for_constants):
    return (
        _empty_gradient(for_times, times), torch.empty_like(weight), torch.empty_like(delay),
        _empty_gradient(for_constants, M),
    )  # fmt: skip


@eventprop_linear_li_backward.register_fake
def _(grad, times, units, offsets, weight, delay, M, B, c, duration, dt, kind, for_times, for_constants):
    return _empty_gradients(times, weight, delay, M, for_times, for_constants)


def _context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.options = inputs[8:]


def _backward(ctx, grad):
    need = ctx.needs_input_grad
    g_times, *grads, by_m = eventprop_linear_li_backward(grad, *ctx.saved_tensors, *ctx.options, need[0], need[5])
    weights = (g if wants else None for g, wants in zip(grads, need[3:5], strict=True))
    return g_times if need[0] else None, None, None, *weights, by_m if need[5] else None, *(None,) * 5


eventprop_linear_li.register_autograd(_backward, setup_context=_context)
first_order_only(eventprop_linear_li_backward, "an EventProp layer")
