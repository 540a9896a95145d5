"""Linear readouts as torch operators: ``eventprop_linear_li`` and its backward pass. Events and neurons as in
:mod:`.operator`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ....bins import steps_in
from ...checks import FLOATS, check_room, check_tensor
from ...dispatch import warn_once
from ...first_order import first_order_only, reverse_mode_only
from ..operator import _REVERSE, _array, _empty_gradient, _finite, _like, _not_a_number
from .operator import _checked, _device_kernels, _events, _events_on_device, _layer, _on_device, _synapses
from .tables import steps_at_least

__all__ = ["KINDS", "eventprop_linear_li"]

KINDS = ("voltage", "final", "maximum")
_MOST_SAMPLES = 1 << 31
_MAXIMUM_ON_CPU = (
    "the maximum of a linear readout (EventPropLinearLI, EventPropAdaptiveLI) is searched on the CPU: events and weights "
    "are copied there and back at every call"
)


def _loops():
    from . import readout  # numba is imported when a layer first runs

    return readout


def _search():
    from . import peaks

    return peaks


def _shape(kind: str, M: Tensor, offsets: Tensor, duration: float, dt: float) -> tuple[int, ...]:
    n_out, n = M.shape[:2]
    if kind == "voltage":
        return max(1, steps_in(duration, dt)), offsets.shape[0] - 1, n_out
    return (offsets.shape[0] - 1, n_out, n) if kind == "final" else (offsets.shape[0] - 1, n_out)


def _prepared(times, units, offsets, weight, delay, M, B, c, duration, dt, kind):
    """Checked times, layer and number of samples."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if weight.dim() != 2 or B.dim() != 1 or M.dim() != 3:
        shapes = ", ".join(str(tuple(x.shape)) for x in (weight, B, M))
        raise ValueError(f"weight, B and M must be [out, in], [n] and [out, n, n], got {shapes}")
    n_out, n = weight.shape[0], B.shape[0]
    nothing = M.new_zeros(n_out, n)
    neurons = M, B, c, torch.zeros_like(M), nothing, M.new_ones(n_out), M.new_zeros(n_out), torch.ones_like(B)
    times = _checked(times, units, offsets, weight, delay, None, None, duration, neurons)
    if kind != "voltage":
        return times, _layer(neurons, duration, dt, False), 0
    if not (dt > 0 and duration / dt < _MOST_SAMPLES):
        raise ValueError(
            f"dt = {dt:g} must be positive and cut the duration of {duration:g} into fewer than {_MOST_SAMPLES} samples: "
            "take a larger dt"
        )
    samples = max(1, steps_in(duration, dt))
    check_room(
        f"the voltage at {samples} samples (take a larger dt than {dt:g})", 8 * samples * (offsets.shape[0] - 1) * n_out
    )
    rates = steps_at_least(_array(M), dt, dt)
    if not math.isfinite(rates):
        raise ValueError(f"dt = {dt:g}, or the neurons' rates, have no inverse: take larger time constants or a larger dt")
    every = max(1, math.ceil(rates * (1 - 1e-12)))
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
    """``"voltage"``: c . x at n dt [steps, N, out]; ``"final"``: x at the end [N, out, n]; ``"maximum"``: the largest V
    [N, out]; float64."""
    reverse_mode_only("eventprop_linear_li", _REVERSE)
    times, layer, samples = _prepared(times, units, offsets, weight, delay, M, B, c, duration, dt, kind)
    n, threads, kernels = B.shape[0], torch.get_num_threads(), _device_kernels(times)
    if kernels and kind != "maximum":
        on_device = _events_on_device(kernels, times, units, offsets), _on_device(kernels, weight, delay)
        voltage, final = kernels.readout(*on_device, layer, samples)
        return voltage if kind == "voltage" else final[..., :n].clone()
    of = _events(times, units, offsets), _synapses(weight, delay), layer
    if kind == "maximum":
        if kernels:
            warn_once(_MAXIMUM_ON_CPU)
        return torch.from_numpy(_search().peaks(*of, threads).value).to(times.device)
    voltage, final = _loops().readout(*of, samples, threads)
    return torch.from_numpy(voltage if kind == "voltage" else final[..., :n].copy()).to(times.device)


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
    layer_and_grad, wanted = (layer, grad.detach(), B.shape[0], samples), (for_times, for_constants)
    kernels = _device_kernels(times)
    if kernels and kind != "maximum":
        on_device = _events_on_device(kernels, times, units, offsets), _on_device(kernels, weight, delay)
        arrays = _gradients_on_device(kernels, on_device, *layer_and_grad, wanted)
    else:
        arrays = _gradients(_events(times, units, offsets), _synapses(weight, delay), *layer_and_grad, kind, wanted)
    return tuple(  # pyright: ignore[reportReturnType] - as many as the signature says
        _like(array.clone(), tensor) if place.numel() else place
        for array, tensor, place in zip(arrays, (times, weight, delay, M), empty, strict=True)
    )


def _empty_gradients(times, weight, delay, M, for_times, for_constants):
    return (
        _empty_gradient(for_times, times), torch.empty_like(weight), torch.empty_like(delay),
        _empty_gradient(for_constants, M),
    )  # fmt: skip


def _gradients_on_device(kernels, of, layer, grad, n, samples, wanted: tuple[bool, bool]) -> tuple[Tensor, ...]:
    events, synapses = of
    grad = grad.double().contiguous()
    by = kernels.Readout.none(*(grad.shape[1:] if samples else grad.shape[:2]), grad)
    if samples:
        by = by._replace(by_voltage=grad)
    else:
        by = by._replace(by_final=torch.nn.functional.pad(grad, (0, 3 - n)).contiguous())
    found = kernels.readout_backward(events, synapses, layer, by, *wanted)
    return found.times, found.weight, found.delay, found.M[:, :n, :n]


def _gradients(events, synapses, layer, grad, n, samples, kind, wanted: tuple[bool, bool]) -> tuple[Tensor, ...]:
    of, grad, threads = (events, synapses, layer), _array(grad), torch.get_num_threads()
    if kind == "maximum":
        found = _search().peaks_backward(*of, _search().peaks(*of, threads), grad, *wanted, threads)
    else:
        none = np.empty((0, 0, 0))
        by_final = none if samples else np.pad(grad, ((0, 0), (0, 0), (0, 3 - n)))
        found = _loops().readout_backward(*of, grad if samples else none, by_final, *wanted, threads)
    return tuple(map(torch.from_numpy, (found.times, found.weight, found.delay, found.M[:, :n, :n])))


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
