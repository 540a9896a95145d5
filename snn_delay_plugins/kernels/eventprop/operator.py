"""EventProp layers as torch operators, so that ``torch.compile``, autocast and data-parallel training pass through them.

``eventprop_lif``, ``eventprop_li`` and ``eventprop_arrivals``, each with its ``_backward``, are those of
:mod:`snn_delay_plugins.functional.eventprop`; they run :mod:`.cpu` or, for CUDA tensors,
:mod:`.triton`. Events are three tensors: times ``[n]``, units ``[n]`` int64 and offsets ``[N + 1]`` int64. How
many spikes come out is known only by running: compiled code sees a size that depends on the data.

Beside its result a forward operator returns what its backward needs.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from functools import cache
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...bins import check_resolution, eps_of
from ...callers import user_level
from ..checks import FLOATS, check_indices, check_kind, check_offsets, check_room, check_tensor
from ..device import has_triton, runs_triton
from ..first_order import first_order_only, reverse_mode_only
from .neuron import exact_neuron, grid_neuron, num_steps

__all__ = ["KINDS", "eventprop_arrivals", "eventprop_li", "eventprop_lif"]

_Gradients = TypeVar("_Gradients", bound=tuple[Tensor, ...])
_REVERSE = "its derivatives exist in reverse mode alone (backward(), torch.autograd.grad)"
_MOST_CELLS = 1 << 29  # neurons times steps: a step has two rows, delays double them, and rows count to 2^31
_CELL_BYTES = 56  # of two rows: a bucket, its inhibition and its chain

KINDS = ("voltage", "final", "maximum")
"""What eventprop_li returns: V at the samples [T, N, out], (V, I) at the end [N, out, 2], the largest V [N, out]."""


def _cpu():
    from . import cpu  # numba is imported when a layer first runs

    return cpu


def _device_kernels(tensor: Tensor) -> ModuleType | None:
    """The kernels of a CUDA tensor's device; None for other devices and where Triton is not installed."""
    if not (runs_triton(tensor) and has_triton()):
        return None
    from . import triton

    return triton


def _linear_lif() -> ModuleType:
    """LIF among the linear neurons, on a device, for gradients of tau_mem and tau_syn."""
    from .linear.triton import lif

    return lif


@cache
def _warn_of_copies(device: str, what: str) -> None:
    warnings.warn(
        f"EventProp has no {device} kernel{what}: spikes and parameters are copied to the CPU, computed there in "
        "float64 and copied back",
        stacklevel=user_level(),
    )


# ------------------------------------------------------------------------------------------------ checks


def check_values(
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None,
    recurrent_delay: Tensor | None,
    tau_mem: Tensor | float,
    tau_syn: Tensor | float,
    threshold: Tensor | float,
    again: bool = False,
) -> None:
    """
    :param again: in a backward pass, for which weights that the forward pass has seen need no second look. Delays do: the
        loops find their places by them.
    :raises ValueError: for weights and delays that are not finite, negative delays, constants that are not positive.
    """
    for name, tensor in {"weight": weight, "recurrent_weight": recurrent_weight}.items():
        if tensor is None or (again and _identity(tensor) in _finite_weights):
            continue
        _check_finite(name, tensor.detach())
        if not tensor.is_inference():
            _finite_weights.append(_identity(tensor))
    for name, tensor in {"delay": delay, "recurrent_delay": recurrent_delay}.items():
        if tensor is not None:
            _check_finite(name, tensor.detach())
            _check_delay(name, tensor.detach())
    for name, value in {"tau_mem": tau_mem, "tau_syn": tau_syn, "threshold": threshold}.items():
        _check_positive(name, value.item() if isinstance(value, Tensor) else float(value))


_finite_weights: deque[tuple] = deque(maxlen=64)


def _identity(tensor: Tensor) -> tuple:
    """What another tensor, or another state of this one, would most likely not have."""
    version = None if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.shape, tensor.stride()


def _checked_events(
    times: Tensor, units: Tensor, offsets: Tensor, num_units: int, duration: float, step: float | None = None
) -> Tensor:
    """SpikeEvents checks what it is built from; since then the tensors may have been changed, by an optimizer or by whoever
    else holds them, and the loops rely on them. The order of times inside a sample makes no difference here.

    :param step: of the grid scheme: the times must tell its steps apart.
    :returns: the times, those that rounding put past the end brought back to it.
    :raises TypeError, ValueError: unless they are a batch of ``num_units`` units.
    """
    return _events_in_order(times, units, offsets, num_units, duration, step)[0]


def _events_in_order(
    times: Tensor, units: Tensor, offsets: Tensor, num_units: int, duration: float, step: float | None
) -> tuple[Tensor, bool]:
    """The same, and whether the times rise inside of every sample."""
    _check_positive("duration", duration)
    _check_event_tensors(times, units, offsets)
    end = duration * (1 + 1e-6)  # rounded to float32, the last one may lie beyond
    if times.is_cpu and all(x.is_contiguous() for x in (times, units, offsets)):
        arrays = (x.detach().numpy() for x in (times, units, offsets))
        fits, ordered, last = _cpu().loops.events_fit(*arrays, num_units, end)
    else:
        fits = False
    if not fits:  # or not known
        last = _last(times.detach(), units, offsets, num_units, end, duration)
        ordered = not _falls(times.detach(), offsets)
    if step is not None:
        check_resolution(times.dtype, last, step)
    return times.clamp(max=duration) if last > duration else times, ordered


def _last(times: Tensor, units: Tensor, offsets: Tensor, num_units: int, end: float, duration: float) -> float:
    """The last time. :raises ValueError: saying what does not fit."""
    check_offsets("offsets", offsets, times.shape[0], "the number of events")
    check_indices("units", units, num_units, "num_units")
    if not times.numel():
        return 0.0
    first, last = torch.stack(times.aminmax()).tolist()
    if not (first >= 0 and last <= end):
        raise ValueError(
            f"spike times from {first:g} to {last:g} are not within [0, duration = {duration:g}]; if they "
            "are learned, clamp them and build the SpikeEvents anew after each update"
        )
    return last


def _falls(times: Tensor, offsets: Tensor) -> bool:
    falls = times[1:] < times[:-1]
    starts = offsets[1:-1].to(times.device)
    falls[starts[(starts > 0) & (starts < times.shape[0])] - 1] = False
    return bool(falls.any())


def _check_event_tensors(times: Tensor, units: Tensor, offsets: Tensor) -> None:
    check_tensor("times", times, (None,), FLOATS, times.device)
    check_tensor("units", units, (times.shape[0],), (torch.int64,), times.device)
    check_tensor("offsets", offsets, (None,), (torch.int64,), times.device)


def _check_layer(
    times: Tensor,
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    **constants: Tensor,
) -> None:
    """
    :raises TypeError, ValueError: for dtypes, shapes and devices that do not fit to one another.
    """
    check_tensor("weight", weight, (None, None), FLOATS, times.device)
    n_out = weight.shape[0]
    if not weight.numel():
        raise ValueError(f"weight must be [out, in] with at least one of each, got shape {tuple(weight.shape)}")
    _check_delay_shape("delay", delay, weight)
    if (recurrent_weight is None) != (recurrent_delay is None):
        raise ValueError("recurrent_weight and recurrent_delay are given together or not at all")
    if recurrent_weight is not None and recurrent_delay is not None:
        check_tensor("recurrent_weight", recurrent_weight, (n_out, n_out), FLOATS, times.device)
        _check_delay_shape("recurrent_delay", recurrent_delay, recurrent_weight)
    for name, value in constants.items():
        if value.numel() != 1 or value.is_complex():
            raise ValueError(f"{name} must be one real number, got {value.dtype} of shape {tuple(value.shape)}")


def _check_delay_shape(name: str, delay: Tensor, weight: Tensor) -> None:
    rows, columns = (1 if delay.dim() == 2 and delay.shape[d] == 1 else weight.shape[d] for d in range(2))
    check_tensor(name, delay, (rows, columns), FLOATS, weight.device)


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_steps(
    tau_mem: float, tau_syn: float, duration: float, dt: float, grid: bool, sampled: bool, columns: int
) -> None:
    """
    :param columns: neurons whose tables exist at one time.
    :raises ValueError: for so many steps that tables would not fit, into memory or the integers that count their rows.
    """
    for name, value in {"dt": dt, "duration": duration}.items():
        _check_positive(name, value)
    step = dt if grid else min(dt, 0.5 * min(tau_mem, tau_syn))
    steps = max(duration, dt if sampled else 0.0) / step + 1 if step else math.inf
    what = (
        f"dt = {dt:g}, tau_mem = {tau_mem:g} and tau_syn = {tau_syn:g} cut the duration of {duration:g} into "
        f"{steps:.3g} steps: tables of {columns} neurons"
    )
    if not columns * steps < _MOST_CELLS:
        raise ValueError(f"{what} would be too long; take larger ones")
    check_room(what, int(_CELL_BYTES * columns * steps))


def _all_finite(tensor: Tensor) -> bool:
    tensor = tensor.detach()
    if tensor.is_cpu and tensor.is_contiguous():
        array = tensor.numpy().reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(np.dot(array, array)):  # NaN and infinity survive a sum; an overflow is sorted out below
                return True
    return bool(tensor.isfinite().all())


def _check_finite(name: str, tensor: Tensor) -> None:
    if not _all_finite(tensor):
        j, i = (~tensor.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{name}[{j}, {i}] = {tensor[j, i].item()} is not finite")


def _check_delay(name: str, delay: Tensor) -> None:
    if delay.numel() and float(delay.numpy().min() if delay.is_cpu else delay.min()) < 0:  # numpy's takes less time
        j, i = divmod(int(delay.argmin()), delay.shape[1])
        raise ValueError(f"{name}[{j}, {i}] = {delay[j, i].item()} is negative; clamp delays after each update")


# ------------------------------------------------------------------------------------------------ tensors and arrays


def _array(tensor: Tensor, shape: tuple[int, ...] | None = None, dtype: torch.dtype = torch.float64) -> np.ndarray:
    tensor = tensor.detach().to("cpu", dtype)
    return (tensor if shape is None else tensor.expand(shape)).contiguous().numpy()


def _spikes(times: Tensor, units: Tensor, offsets: Tensor, what: str = ""):
    if times.device.type != "cpu":
        _warn_of_copies(times.device.type, what if has_triton() else " without triton")
    return _cpu().spikes(
        _array(times), units.cpu().contiguous().numpy(), offsets.cpu().contiguous().numpy(), times.dtype == torch.float32
    )


def _home(tensor: Tensor) -> torch.device:
    """Where float64 intermediate results stay: beside CUDA tensors; other devices may not know float64."""
    return tensor.device if tensor.is_cuda else torch.device("cpu")


def _events(kernels: ModuleType, times: Tensor, units: Tensor, offsets: Tensor):
    tensors = times.detach().to(torch.float64), units, offsets
    return kernels.Events(*(x.contiguous() for x in tensors), eps_of(times))


def _like(grad: np.ndarray | Tensor, tensor: Tensor) -> Tensor:
    """A gradient [out, in] in the shape (summed where it was broadcast), dtype and device of its tensor."""
    grad = torch.from_numpy(grad) if isinstance(grad, np.ndarray) else grad
    for dim in range(grad.dim()):
        if tensor.shape[dim] == 1 != grad.shape[dim]:
            grad = grad.sum(dim, keepdim=True)
    return grad.to(tensor.device, tensor.dtype)


def _gradient(wanted: bool, grad: np.ndarray | Tensor | float, tensor: Tensor) -> Tensor:
    """Of the operators' backward passes; empty where it is not asked for."""
    if not wanted:
        return tensor.new_empty(0)
    if isinstance(grad, np.ndarray | Tensor):
        return _like(grad, tensor)
    return torch.tensor(grad, dtype=tensor.dtype, device=tensor.device)


def _finite(*grads: Tensor | None) -> bool:
    return all(g is None or _all_finite(g) for g in grads)


def _not_a_number(grads: _Gradients) -> _Gradients:
    """A loss that is not finite, as gradient scaling meets now and then, has no derivatives: NaN, as everywhere in
    torch, for the caller to see. The loops use NaN for a purpose of their own."""
    for g in grads:
        g.fill_(math.nan)
    return grads


def _empty_gradient(wanted: bool, tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format) if wanted else tensor.new_empty(0)


def _neuron(
    threshold: float,
    tau_mem: Tensor,
    tau_syn: Tensor,
    duration: float,
    dt: float,
    grid: bool,
    sampled: bool,
    columns: int = 8,
):
    tau_m, tau_s = float(tau_mem), float(tau_syn)
    _check_steps(tau_m, tau_s, duration, dt, grid, sampled, columns)
    constants = threshold, tau_m, tau_s, dt, duration
    return grid_neuron(*constants) if grid else exact_neuron(*constants, sampled)


def _synapses(weight: Tensor, delay: Tensor):
    """Arrays of one dtype, float64 where the two differ."""
    dtype = torch.promote_types(weight.dtype, delay.dtype)
    return _cpu().Synapses(_array(weight, None, dtype), _array(delay, tuple(weight.shape), dtype))


# ------------------------------------------------------------------------------------------------ LIF


def _checked_lif(
    times,
    units,
    offsets,
    weight,
    delay,
    recurrent_weight,
    recurrent_delay,
    tau_mem,
    tau_syn,
    threshold,
    duration,
    step: float | None = None,
    again: bool = False,
) -> Tensor:
    _check_layer(
        times, weight, delay, recurrent_weight, recurrent_delay, tau_mem=tau_mem, tau_syn=tau_syn, threshold=threshold
    )
    check_values(weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold, again)
    return _checked_events(times, units, offsets, weight.shape[1], duration, step)


def _columns(weight: Tensor, recurrent_weight: Tensor | None) -> int:
    """Neurons whose tables exist at one time: all of a recurrent layer, which advance together, else those of a block."""
    return 8 if recurrent_weight is None else -(-weight.shape[0] // 8) * 8


@torch.library.custom_op("snn_delay_plugins::eventprop_lif", mutates_args=())
def eventprop_lif(
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None,
    recurrent_delay: Tensor | None,
    tau_mem: Tensor,
    tau_syn: Tensor,
    threshold: Tensor,
    duration: float,
    dt: float,
    grid: bool,
    max_spikes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes of the layer: times, potential, units, offsets; then times in float64 and tau_m dV/dt at each of them."""
    reverse_mode_only("eventprop_lif", _REVERSE)
    step = dt if grid else None
    times = _checked_lif(
        times, units, offsets, weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold, duration, step
    )
    if max_spikes < 1:
        raise ValueError(f"max_spikes must be positive, got {max_spikes}")
    neuron = _neuron(float(threshold), tau_mem, tau_syn, duration, dt, grid, False, _columns(weight, recurrent_weight))
    kernels = _device_kernels(times)
    make = kernels.synapses if kernels else _synapses
    layer, recurrent = make(weight, delay), None
    if recurrent_weight is not None and recurrent_delay is not None:
        recurrent = make(recurrent_weight, recurrent_delay)
    if kernels:
        out, slope = kernels.lif_forward(
            _events(kernels, times, units, offsets), layer, recurrent, neuron, grid, max_spikes
        )
        exact, out_units, out_offsets = out[:3]
    else:
        out, slope = _cpu().lif_forward(
            _spikes(times, units, offsets), layer, recurrent, neuron, grid, max_spikes, torch.get_num_threads()
        )
        out_units, out_offsets = (torch.from_numpy(x).to(times.device) for x in (out.units, out.offsets))
        exact, slope = (torch.from_numpy(x).to(_home(times)) for x in (out.times, slope))
    spike_times = exact.to(times.device, torch.promote_types(times.dtype, weight.dtype), copy=True)
    return spike_times, torch.full_like(spike_times, float(threshold)), out_units, out_offsets, exact, slope


@eventprop_lif.register_fake
def _(
    times,
    units,
    offsets,
    weight,
    delay,
    recurrent_weight,
    recurrent_delay,
    tau_mem,
    tau_syn,
    threshold,
    duration,
    dt,
    grid,
    max_spikes,
):
    spikes = torch.library.get_ctx().new_dynamic_size()
    out = times.new_empty(spikes, dtype=torch.promote_types(times.dtype, weight.dtype))
    exact = times.new_empty(spikes, dtype=torch.float64, device=_home(times))
    return (out, torch.empty_like(out), units.new_empty(spikes), torch.empty_like(offsets), exact, torch.empty_like(exact))


@torch.library.custom_op("snn_delay_plugins::eventprop_lif_backward", mutates_args=())
def eventprop_lif_backward(
    g_time: Tensor | None,
    g_potential: Tensor | None,
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    recurrent_weight: Tensor | None,
    recurrent_delay: Tensor | None,
    tau_mem: Tensor,
    tau_syn: Tensor,
    threshold: Tensor,
    out_units: Tensor,
    out_offsets: Tensor,
    exact: Tensor,
    slope: Tensor,
    duration: float,
    dt: float,
    grid: bool,
    for_times: bool,
    for_synapses: bool,
    for_tau: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of times, weight, delay, recurrent weight and delay, tau_mem, tau_syn, threshold; empty where not asked
    for (``for_synapses``: all weights and delays)."""
    layer = weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold
    times = _checked_lif(times, units, offsets, *layer, duration, again=True)
    exact = _checked_spikes(exact, out_units, out_offsets, slope, times, offsets, weight, duration)
    for name, g in {"g_time": g_time, "g_potential": g_potential}.items():
        if g is not None:
            check_tensor(name, g, tuple(exact.shape), FLOATS, times.device)
    _check_slope(slope, exact, out_units)
    if not _finite(g_time, g_potential):
        return _not_a_number(
            _lif_gradients(
                g_time,
                g_potential,
                times,
                units,
                offsets,
                weight,
                delay,
                recurrent_weight,
                recurrent_delay,
                tau_mem,
                tau_syn,
                threshold,
                for_times,
                for_synapses,
                for_tau,
            )
        )
    neuron = _neuron(float(threshold), tau_mem, tau_syn, duration, dt, grid, False, _columns(weight, recurrent_weight))
    kernels = _device_kernels(times)
    make = kernels.synapses if kernels else _synapses
    layer, recurrent = make(weight, delay), None
    if recurrent_weight is not None and recurrent_delay is not None:
        recurrent = make(recurrent_weight, recurrent_delay)
    end_shape = offsets.numel() - 1, weight.shape[0], 2
    if kernels:
        by_time, by_potential = (torch.zeros_like(slope) if g is None else g.to(slope) for g in (g_time, g_potential))
        inputs = _events(kernels, times, units, offsets)
        out = kernels.Events(exact, out_units, out_offsets)
        readout = slope.new_empty((0, *end_shape[:2])), slope.new_zeros(end_shape)
        if for_tau:
            linear = _linear_lif()
            spikes = linear.spikes(out, linear.states(torch.full_like(slope, neuron.theta), slope + neuron.theta))
            grads = linear.backward(inputs, layer, recurrent, neuron, spikes, by_time, by_potential, *readout, for_times)
        else:
            grads = kernels.backward(
                inputs, layer, recurrent, neuron, grid, out, slope, by_time, by_potential, *readout, for_times
            )
    else:
        slopes = slope.cpu().numpy()
        by_time, by_potential = (np.zeros_like(slopes) if g is None else _array(g) for g in (g_time, g_potential))
        grads = _cpu().backward(
            _spikes(times, units, offsets),
            layer,
            recurrent,
            neuron,
            grid,
            _cpu().Spikes(exact.cpu().numpy(), out_units.cpu().numpy(), out_offsets.cpu().numpy()),
            slopes,
            by_time,
            by_potential,
            np.empty((0, 0)),
            np.zeros(end_shape),
            for_times,
            for_tau,
            True,
            torch.get_num_threads(),
        )
    by_weight, by_delay = times.new_empty(0), times.new_empty(0)
    if recurrent_weight is not None and recurrent_delay is not None:
        by_weight = _gradient(for_synapses, grads.recurrent_weight, recurrent_weight)
        by_delay = _gradient(for_synapses, grads.recurrent_delay, recurrent_delay)
    return (
        _gradient(for_times, grads.times, times),
        _gradient(for_synapses, grads.weight, weight),
        _gradient(for_synapses, grads.delay, delay),
        by_weight,
        by_delay,
        _gradient(for_tau, grads.tau_mem, tau_mem),
        _gradient(for_tau, grads.tau_syn, tau_syn),
        _gradient(True, grads.theta, threshold),
    )


def _checked_spikes(
    exact: Tensor,
    units: Tensor,
    offsets: Tensor,
    slope: Tensor,
    times: Tensor,
    of_times: Tensor,
    weight: Tensor,
    duration: float,
) -> Tensor:
    """What a forward pass returned: its spikes, by sample and time, and tau_m dV/dt at each."""
    for name, tensor in {"exact": exact, "slope": slope}.items():
        check_tensor(name, tensor, tuple(exact.shape), (torch.float64,), _home(times))
    check_tensor("out_offsets", offsets, tuple(of_times.shape), (torch.int64,), times.device)
    places = units.to(exact.device), offsets.to(exact.device)
    exact, ordered = _events_in_order(exact, *places, weight.shape[0], duration, None)
    if not ordered:
        raise ValueError("the spikes of a sample must be in the order of their times")
    return exact


def _check_slope(slope: Tensor, times: Tensor, units: Tensor) -> None:
    if slope.numel() and not (slope.numpy() if slope.is_cpu else slope).min() > 0:  # also NaN
        k = int(slope.argmin())
        raise RuntimeError(
            f"the spike of neuron {units[k].item()} at t = {times[k].item():g} only grazes the threshold "
            f"(I - threshold = {slope[k].item():g}): its time has no gradient"
        )


@eventprop_lif_backward.register_fake
def _lif_gradients(
    g_time,
    g_potential,
    times,
    units,
    offsets,
    weight,
    delay,
    recurrent_weight,
    recurrent_delay,
    tau_mem,
    tau_syn,
    threshold,
    *rest,
):
    for_times, for_synapses, for_tau = rest[-3:]
    recurrent = (
        (times.new_empty(0), times.new_empty(0))
        if recurrent_weight is None
        else (_empty_gradient(for_synapses, recurrent_weight), _empty_gradient(for_synapses, recurrent_delay))
    )
    return (
        _empty_gradient(for_times, times),
        _empty_gradient(for_synapses, weight),
        _empty_gradient(for_synapses, delay),
        *recurrent,
        _empty_gradient(for_tau, tau_mem),
        _empty_gradient(for_tau, tau_syn),
        torch.empty_like(threshold),
    )


def _lif_context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:10], *output[2:])
    ctx.options = inputs[10:13]


def _lif_backward(ctx, g_time, g_potential, *_):
    need = ctx.needs_input_grad
    wanted = (need[0], any(need[3:7]), need[7] or need[8])
    g_times, *grads = eventprop_lif_backward(g_time, g_potential, *ctx.saved_tensors, *ctx.options, *wanted)
    given = [g if wants else None for g, wants in zip(grads, need[3:10], strict=True)]
    return g_times if need[0] else None, None, None, *given, None, None, None, None


eventprop_lif.register_autograd(_lif_backward, setup_context=_lif_context)
first_order_only(eventprop_lif_backward, "an EventProp layer")


# ------------------------------------------------------------------------------------------------ LI


def _checked_li(
    times, units, offsets, weight, delay, tau_mem, tau_syn, duration, kind, step: float | None = None, again: bool = False
) -> Tensor:
    check_kind("kind", kind, KINDS if step is None else KINDS[:1])  # the grid scheme computes V at its steps, no more
    _check_layer(times, weight, delay, tau_mem=tau_mem, tau_syn=tau_syn)
    check_values(weight, delay, None, None, tau_mem, tau_syn, 1.0, again)
    return _checked_events(times, units, offsets, weight.shape[1], duration, step)


@torch.library.custom_op("snn_delay_plugins::eventprop_li", mutates_args=())
def eventprop_li(
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    tau_mem: Tensor,
    tau_syn: Tensor,
    duration: float,
    dt: float,
    grid: bool,
    kind: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The readout (:data:`KINDS`); then, for the maximum, its time, the event at whose arrival V has a kink there (or
    -1) and V' before it, each [N, out]."""
    reverse_mode_only("eventprop_li", _REVERSE)
    step = dt if grid else None
    times = _checked_li(times, units, offsets, weight, delay, tau_mem, tau_syn, duration, kind, step)
    neuron = _neuron(1.0, tau_mem, tau_syn, duration, dt, grid, sampled=kind == "voltage")
    samples = neuron.steps // neuron.every if kind == "voltage" else 0
    check_room(f"V at {samples} steps of dt = {dt:g}", 8 * samples * (offsets.numel() - 1) * weight.shape[0])
    dtype = torch.promote_types(times.dtype, weight.dtype)
    kernels = _device_kernels(times)
    if kernels and kind == "maximum":
        value, *peak = kernels.li_peaks(_events(kernels, times, units, offsets), kernels.synapses(weight, delay), neuron)
        return value.to(dtype), *peak
    if kernels:
        voltage, final = kernels.li_forward(
            _events(kernels, times, units, offsets), kernels.synapses(weight, delay), neuron, grid, samples
        )
        nothing = final.new_zeros(final.shape[:2])
        result = voltage if kind == "voltage" else final
        return result.to(dtype), nothing, nothing.long() - 1, nothing.clone()
    voltage, final, peak = _cpu().li_forward(
        _spikes(times, units, offsets),
        _synapses(weight, delay),
        neuron,
        grid,
        samples,
        kind == "maximum",
        torch.get_num_threads(),
    )
    result = {"voltage": voltage, "final": final, "maximum": peak.value}[kind]
    return (
        torch.from_numpy(result).to(times.device, dtype),
        torch.from_numpy(peak.time).to(_home(times)),
        torch.from_numpy(peak.event).to(_home(times)),
        torch.from_numpy(peak.slope).to(_home(times)),
    )


@eventprop_li.register_fake
def _(times, units, offsets, weight, delay, tau_mem, tau_syn, duration, dt, grid, kind):
    batch, n_out = offsets.shape[0] - 1, weight.shape[0]
    shape = {"voltage": (num_steps(duration, dt), batch, n_out), "final": (batch, n_out, 2), "maximum": (batch, n_out)}
    result = times.new_empty(shape[kind], dtype=torch.promote_types(times.dtype, weight.dtype))
    when = times.new_empty((batch, n_out), dtype=torch.float64, device=_home(times))
    return result, when, torch.empty_like(when, dtype=torch.int64), torch.empty_like(when)


@torch.library.custom_op("snn_delay_plugins::eventprop_li_backward", mutates_args=())
def eventprop_li_backward(
    grad: Tensor,
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    tau_mem: Tensor,
    tau_syn: Tensor,
    peak_time: Tensor,
    peak_event: Tensor,
    peak_slope: Tensor,
    duration: float,
    dt: float,
    grid: bool,
    kind: str,
    for_times: bool,
    for_synapses: bool,
    for_tau: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of times, weight, delay, tau_mem, tau_syn; empty where not asked for."""
    constants, step = (tau_mem, tau_syn, duration, kind), dt if grid else None
    times = _checked_li(times, units, offsets, weight, delay, *constants, step, again=True)
    neuron = _neuron(0.0, tau_mem, tau_syn, duration, dt, grid, sampled=kind == "voltage")
    batch, n_out = offsets.shape[0] - 1, weight.shape[0]
    shape = {"voltage": (neuron.steps // neuron.every, batch, n_out), "final": (batch, n_out, 2), "maximum": (batch, n_out)}
    check_tensor("grad", grad, shape[kind], FLOATS, times.device)
    if kind == "maximum":
        _check_peaks(peak_time, peak_event, peak_slope, shape[kind], times, neuron)
    if not _finite(grad):
        return _not_a_number(
            _li_gradients(grad, times, units, offsets, weight, delay, tau_mem, tau_syn, for_times, for_synapses, for_tau)
        )
    kernels = _device_kernels(times)
    if kernels:
        grads = _li_backward_on_device(
            kernels,
            grad.detach().to(torch.float64),
            _events(kernels, times, units, offsets),
            kernels.synapses(weight, delay),
            neuron,
            grid,
            kind,
            (peak_time, peak_event, peak_slope),
            for_times,
            for_tau,
        )
    else:
        grads = _li_backward_on_cpu(
            grad,
            _spikes(times, units, offsets),
            _synapses(weight, delay),
            neuron,
            grid,
            kind,
            peak_time.cpu().numpy(),
            peak_event.cpu().numpy(),
            peak_slope.cpu().numpy(),
            for_times,
            for_tau,
        )
    return (
        _gradient(for_times, grads.times, times),
        _gradient(for_synapses, grads.weight, weight),
        _gradient(for_synapses, grads.delay, delay),
        _gradient(for_tau, grads.tau_mem, tau_mem),
        _gradient(for_tau, grads.tau_syn, tau_syn),
    )


def _check_peaks(time: Tensor, event: Tensor, slope: Tensor, shape: tuple[int, int], times: Tensor, neuron) -> None:
    for name, tensor, dtype in (
        ("peak_time", time, torch.float64),
        ("peak_event", event, torch.int64),
        ("peak_slope", slope, torch.float64),
    ):
        check_tensor(name, tensor, shape, (dtype,), _home(times))
    if not bool(((time >= 0) & (time <= neuron.steps * neuron.dt * (1 + 1e-9))).all()):
        raise ValueError(f"peak_time must lie in [0, duration = {neuron.duration:g}]")
    if not bool(((event >= -1) & (event < times.shape[0])).all()):
        raise ValueError(f"peak_event must lie in [-1, {times.shape[0]}), the number of events")


def _li_backward_on_device(kernels, grad, events, synapses, neuron, grid, kind, peak, for_times, for_tau):
    n_out, nothing = synapses.shape[1], grad.new_empty(0)
    none = kernels.Events(nothing, nothing.long(), torch.zeros_like(events.offsets))
    source, end = grad.new_empty((0, events.batch_size, n_out)), grad.new_zeros((events.batch_size, n_out, 2))
    if kind == "maximum":
        return _peaks_backward_on_device(kernels, grad, events, synapses, neuron, peak, source, end, for_times, for_tau)
    if kind == "voltage":
        source = grad.contiguous()
    else:
        end = grad.contiguous()
    if for_tau:
        linear = _linear_lif()
        spikes = linear.spikes(none, linear.states(nothing, nothing))
        return linear.backward(events, synapses, None, neuron, spikes, nothing, nothing, source, end, for_times)
    return kernels.backward(events, synapses, None, neuron, grid, none, nothing, nothing, nothing, source, end, for_times)


def _peaks_backward_on_device(kernels, grad, events, synapses, neuron, peak, source, end, for_times, for_tau):
    """V at a given time: dL/dV jumps there; one instant per output, in order of time, as on the CPU."""
    time, event, slope = peak
    samples, n_out = time.shape
    order = time.argsort(dim=1, stable=True)
    offsets = torch.arange(samples + 1, device=time.device) * n_out
    instants = kernels.Events(time.gather(1, order).flatten(), order.flatten(), offsets)
    jump = grad.gather(1, order).flatten()
    ones, zeros = torch.ones_like(jump), torch.zeros_like(jump)
    if for_tau:  # instants are spikes that change nothing
        linear = _linear_lif()
        voltage = kernels.li_peaks(events, synapses, neuron)[0]
        before = linear.states(voltage, voltage + neuron.tau_mem * slope).gather(1, order[..., None].expand(-1, -1, 3))
        spikes = linear.spikes(instants, before.flatten(0, 1))
        grads = linear.backward(events, synapses, None, neuron, spikes, zeros, jump, source, end, for_times)
    else:
        of_instants = ones, zeros, jump
        grads = kernels.backward(events, synapses, None, neuron, False, instants, *of_instants, source, end, for_times)
    sample, unit = (event >= 0).nonzero(as_tuple=True)  # there the maximum moves with the arrival: dV = V' ds
    kink, shift = event[sample, unit], (grad * slope)[sample, unit]
    grads.delay.index_put_((unit, events.units[kink]), shift, accumulate=True)
    if for_times:
        grads.times.index_put_((kink,), shift, accumulate=True)
    return grads


def _li_backward_on_cpu(grad, spikes, synapses, neuron, grid, kind, peak_time, peak_event, peak_slope, for_times, for_tau):
    cpu = _cpu()
    n, n_out = spikes.batch_size, synapses.shape[0]
    g = _array(grad)
    source, end = np.empty((0, 0)), np.zeros((n, n_out, 2))
    instants, jump = cpu.Spikes(np.empty(0), np.empty(0, np.int64), np.zeros(n + 1, np.int64)), np.empty(0)
    if kind == "voltage":
        source = g.reshape(g.shape[0], n * n_out)
    elif kind == "final":
        end = g
    else:  # V at a given time: dL/dV jumps there; one instant per output, in order of time
        order = np.argsort(peak_time, axis=1, kind="stable")
        instants = cpu.Spikes(
            np.take_along_axis(peak_time, order, 1).ravel(),
            order.ravel().astype(np.int64),
            np.arange(n + 1, dtype=np.int64) * n_out,
        )
        jump = np.ascontiguousarray(np.take_along_axis(g, order, 1).ravel())
    grads = cpu.backward(
        spikes,
        synapses,
        None,
        neuron,
        grid,
        instants,
        np.ones_like(jump),
        np.zeros_like(jump),
        jump,
        source,
        end,
        for_times,
        for_tau,
        False,
        torch.get_num_threads(),
    )
    if kind == "maximum":  # a maximum at the arrival of an inhibitory spike moves with it: dV = V' ds
        b, j = np.nonzero(peak_event >= 0)
        event, shift = peak_event[b, j], g[b, j] * peak_slope[b, j]
        np.add.at(grads.delay, (j, spikes.units[event]), shift)
        if for_times:
            np.add.at(grads.times, event, shift)
    return grads


@eventprop_li_backward.register_fake
def _li_gradients(grad, times, units, offsets, weight, delay, tau_mem, tau_syn, *rest):
    for_times, for_synapses, for_tau = rest[-3:]
    return (
        _empty_gradient(for_times, times),
        _empty_gradient(for_synapses, weight),
        _empty_gradient(for_synapses, delay),
        _empty_gradient(for_tau, tau_mem),
        _empty_gradient(for_tau, tau_syn),
    )


def _li_context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:7], *output[1:])
    ctx.options = inputs[7:]


def _li_backward(ctx, grad, *_):
    need = ctx.needs_input_grad
    if grad is None:
        return (None,) * len(need)
    wanted = (need[0], need[3] or need[4], need[5] or need[6])
    g_times, *grads = eventprop_li_backward(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    given = [g if wants else None for g, wants in zip(grads, need[3:7], strict=True)]
    return g_times if need[0] else None, None, None, *given, None, None, None, None


eventprop_li.register_autograd(_li_backward, setup_context=_li_context)
first_order_only(eventprop_li_backward, "an EventProp layer")


# ------------------------------------------------------------------------------------------------ discounted arrivals


def _checked_arrivals(times, units, offsets, weight, delay, rate, duration) -> Tensor:
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"rate must be finite and not negative, got {rate}")
    _check_layer(times, weight, delay)
    check_values(weight, delay, None, None, 1.0, 1.0, 1.0)
    return _checked_events(times, units, offsets, weight.shape[1], duration)


@torch.library.custom_op("snn_delay_plugins::eventprop_arrivals", mutates_args=())
def eventprop_arrivals(
    times: Tensor, units: Tensor, offsets: Tensor, weight: Tensor, delay: Tensor, rate: float, duration: float
) -> Tensor:
    """[N, out]: sum of w exp(-rate s) over the arrivals s <= duration."""
    reverse_mode_only("eventprop_arrivals", _REVERSE)
    times = _checked_arrivals(times, units, offsets, weight, delay, rate, duration)
    kernels = _device_kernels(times)
    if kernels:
        total = kernels.arrivals_forward(
            _events(kernels, times, units, offsets), kernels.synapses(weight, delay), rate, duration
        )
        return total.to(torch.promote_types(times.dtype, weight.dtype))
    arrays = _array(weight), _array(delay, tuple(weight.shape))
    total = _cpu().arrivals_forward(_spikes(times, units, offsets), *arrays, rate, duration, torch.get_num_threads())
    return torch.from_numpy(total).to(times.device, torch.promote_types(times.dtype, weight.dtype))


@eventprop_arrivals.register_fake
def _(times, units, offsets, weight, delay, rate, duration):
    shape = offsets.shape[0] - 1, weight.shape[0]
    return times.new_empty(shape, dtype=torch.promote_types(times.dtype, weight.dtype))


@torch.library.custom_op("snn_delay_plugins::eventprop_arrivals_backward", mutates_args=())
def eventprop_arrivals_backward(
    grad: Tensor,
    times: Tensor,
    units: Tensor,
    offsets: Tensor,
    weight: Tensor,
    delay: Tensor,
    rate: float,
    duration: float,
    for_times: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of times (empty if not asked for), weight and delay."""
    times = _checked_arrivals(times, units, offsets, weight, delay, rate, duration)
    check_tensor("grad", grad, (offsets.shape[0] - 1, weight.shape[0]), FLOATS, times.device)
    kernels = _device_kernels(times)
    if kernels:
        grad_w, grad_d, grad_t = kernels.arrivals_backward(
            _events(kernels, times, units, offsets),
            kernels.synapses(weight, delay),
            rate,
            duration,
            grad.detach().to(torch.float64).contiguous(),
            for_times,
        )
        return _gradient(for_times, grad_t, times), _like(grad_w, weight), _like(grad_d, delay)
    arrays = _array(weight), _array(delay, tuple(weight.shape))
    grad_w, grad_d, grad_t = _cpu().arrivals_backward(
        _spikes(times, units, offsets), *arrays, rate, duration, _array(grad), for_times, torch.get_num_threads()
    )
    return _gradient(for_times, grad_t, times), _like(grad_w, weight), _like(grad_d, delay)


@eventprop_arrivals_backward.register_fake
def _(grad, times, units, offsets, weight, delay, rate, duration, for_times):
    return _empty_gradient(for_times, times), _empty_gradient(True, weight), _empty_gradient(True, delay)


def _arrivals_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.options = inputs[5:]


def _arrivals_backward(ctx, grad):
    need = ctx.needs_input_grad
    grads = eventprop_arrivals_backward(grad, *ctx.saved_tensors, *ctx.options, need[0])
    g_times, g_weight, g_delay = (g if need[i] else None for g, i in zip(grads, (0, 3, 4), strict=True))
    return g_times, None, None, g_weight, g_delay, None, None


eventprop_arrivals.register_autograd(_arrivals_backward, setup_context=_arrivals_context)
first_order_only(eventprop_arrivals_backward, "an EventProp layer")
