r"""Linear layers whose every synapse has a weight and a delay.

Deckers et al., Eq. 7: input current of neuron i from the spike trains s_j,

.. math:: I_i[t] = \sum_j W_{ij}\, a_j[t - d_{ij}] + b_i, \qquad a_j = \varepsilon_d * s_j

(without a smoothing kernel eps_d: a_j = s_j).

Delays are real numbers of time steps, d = k + f with k whole and 0 <= f < 1. Between steps the spike train is

- ``interpolation="linear"``: :math:`a[t-d] = (1-f)\, a[t-k] + f\, a[t-k-1]`,
- ``"round"``: k is the nearest whole number and f = 0, ``"floor"``: f = 0 (straight-through: only in the value).

The gradient of the delay is the SLAYER rule (Shrestha & Orchard 2018; Deckers et al., Eq. 9), the time derivative of
the delayed spike train of the synapse,

.. math:: \frac{\partial L}{\partial d_{ij}}
    = - W_{ij} \sum_t \frac{\partial L}{\partial I_i[t]}\, \bigl(a_j[t-k] - a_j[t-k-1]\bigr),

which for linear interpolation is the exact derivative (at a whole delay: the derivative towards longer delays).

A delay is a kernel over time with one or two entries, so that the layer is a causal convolution of ``max_delay + 2``
taps (:mod:`.convolution`).

Shapes: spikes ``[T, N, in]``, weight ``[out, in]``, delay ``[out, in]`` (synaptic), ``[1, in]`` (axonal) or
``[out, 1]`` (dendritic), output ``[T, N, out]``.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import LONGEST, check_choice, check_spikes, check_steps, check_tensor, values_known
from ..kernels import dispatch
from .convolution import causal_convolution

__all__ = ["check_delay_options", "delay_kernel", "delayed_linear", "delayed_linear_step", "history_after"]

INTERPOLATIONS = ("linear", "round", "floor")
PADDINGS = ("same", "full")


def delay_kernel(weight: Tensor, delay: Tensor, max_delay: int, interpolation: str = "linear") -> Tensor:
    """The kernel over time that weights and delays stand for.

    :param weight: ``[out, in]``.
    :param delay: in time steps, ``[out, in]``, ``[1, in]`` or ``[out, 1]``, within ``[0, max_delay]``.
    :param max_delay: longest delay; the kernel has ``max_delay + 2`` taps, the last for the derivative at the cap.
    :returns: kernel ``[max_delay + 2, out, in]``: its tap tau weighs the spikes of tau steps ago. Differentiable in
        ``weight`` and (SLAYER rule) ``delay``.
    :raises ValueError: for shapes that do not fit, unknown options, or delays that are negative, NaN or too long.

    Example::

        >>> import torch
        >>> delay_kernel(torch.tensor([[2.0]]), torch.tensor([[1.25]]), max_delay=2).flatten().tolist()
        [0.0, 1.5, 0.5, 0.0]
    """
    check_synapses(weight, delay)
    max_delay = check_delays(delay, max_delay)
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    tap = delay.detach().round() if interpolation == "round" else delay.detach().floor()
    fraction = delay - (tap if interpolation == "linear" else delay.detach())  # else: zero, with the gradient of d
    tap = tap.long().expand_as(weight)[None]
    later = weight * fraction
    kernel = weight.new_zeros(max_delay + 2, *weight.shape, dtype=later.dtype)
    return kernel.scatter(0, tap, (weight - later)[None]).scatter(0, tap + 1, later[None])


def delayed_linear(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int | None = None,
    interpolation: str = "linear",
    padding: str | int = "same",
    smoothing: Tensor | None = None,
    history: Tensor | None = None,
    support: Tensor | None = None,
    method: str | None = None,
) -> Tensor:
    """Linear layer with a delay per synapse (equations: head of this module).

    :param spikes: spike trains (graded spikes and any real input are allowed), ``[T, N, in]``.
    :param weight: ``[out, in]``.
    :param delay: in time steps, within ``[0, max_delay]``: ``[out, in]`` (synaptic), ``[1, in]`` (axonal: one per
        sender) or ``[out, 1]`` (dendritic: one per receiver).
    :param bias: ``[out]``.
    :param max_delay: longest delay that can occur, whole steps; default: the longest in ``delay``.
    :param interpolation: ``"linear"``, ``"round"`` or ``"floor"``.
    :param padding: ``"same"``: T steps out, later arrivals are lost. ``"full"``: ``T + max_delay`` steps (plus
        ``len(smoothing) - 1``), every spike arrives. A number: that many steps more than T.
    :param smoothing: the causal kernel eps_d over time, ``[taps]``, first tap at lag 0; default: none.
    :param history: the spikes before the first step, newest first, ``[H, N, in]`` (see :func:`history_after`);
        default: none came before.
    :param support: where the gradient of ``spikes`` is wanted, of their shape; elsewhere it is zero. Behind a neuron
        with a boxcar surrogate nothing else matters: ``support = (u - threshold).abs() <= 0.5``.
    :param method: plain forms: ``"direct"`` (convolution, the reference), ``"fft"`` (products per frequency),
        ``"torch"`` (either, by the number of taps); compiled forms: ``"events"`` (spikes visit their synapses),
        ``"shifted"`` (synapses add shifted trains), ``"numba"`` (either, by density; all three CPU), ``"triton"``
        (CUDA). Default: chosen by :mod:`snn_delay_plugins.kernels.dispatch`. All agree up to rounding; the gradients
        of the compiled forms cannot be differentiated again.
    :returns: input currents ``[T, N, out]`` (``"full"``: longer) in the dtype of ``spikes``; half precision is
        computed in float32.
    :raises ValueError: for shapes or devices that do not fit, unknown options, or delays that are negative, NaN or
        longer than ``max_delay``.
    :raises TypeError: if ``spikes`` and ``weight`` have different dtypes (outside autocast) or are not floating point.

    Example::

        >>> import torch
        >>> spikes = torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1)
        >>> current = delayed_linear(spikes, torch.tensor([[2.0]]), torch.tensor([[1.5]]))
        >>> current.flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    check_synapses(weight, delay)
    check_input(spikes, weight, bias, steps=True)
    check_delay_options(interpolation, padding, smoothing)
    max_delay = _longest(delay) if max_delay is None else check_steps("max_delay", max_delay)
    after = padded_steps(padding, max_delay + (0 if smoothing is None else smoothing.numel() - 1))
    if support is not None and check_tensor("support", support).shape != spikes.shape:
        raise ValueError(f"support must have the shape {tuple(spikes.shape)} of spikes, got {tuple(support.shape)}")
    before = 0
    if history is not None:
        check_past(history, spikes)
        before = history.shape[0]
        spikes = torch.cat([history.flip(0), spikes])
        if support is not None:
            support = torch.cat([torch.ones_like(history, dtype=torch.bool).flip(0), support.bool()])
    compute = compute_dtype(spikes, weight)
    chosen = dispatch.delay_method(spikes, compute, method)
    if max_delay == 0 and smoothing is None and not delay.requires_grad:
        chosen = None  # an ordinary linear layer: one product
    with full_precision(spikes):
        trains, weight, delay = spikes.to(compute), weight.to(compute), delay.to(compute)
        steps = trains.shape[0] + after
        if chosen in dispatch.DELAY_KERNELS:
            current = _compiled(trains, weight, delay, support, max_delay, interpolation, smoothing, steps, chosen)
        else:
            kernel = smoothed_kernel(weight, delay, max_delay, interpolation, smoothing)
            if support is not None:
                trains = torch.where(support.bool(), trains, trains.detach())
            if not delay.requires_grad:
                kernel = kernel[:-1]  # zero: the last tap is there for the derivative at the cap
            current = causal_convolution(trains, kernel, chosen, after)
        current = current[before:]
        if bias is not None:
            current = current + bias.to(compute)
    return current.to(spikes.dtype)


def delayed_linear_step(
    spikes: Tensor,
    history: Tensor | None,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    interpolation: str = "linear",
    smoothing: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One time step of :func:`delayed_linear`, whose arguments and errors these are.

    :param spikes: the spikes of this step, ``[N, in]``.
    :param history: the spikes before it as returned by the step before, ``None`` at the start.
    :returns: input currents of this step ``[N, out]``, and the history for the next one.

    Example::

        >>> import torch
        >>> weight, delay, history, currents = torch.tensor([[2.0]]), torch.tensor([[1.5]]), None, []
        >>> for spike in (1.0, 0.0, 0.0):
        ...     current, history = delayed_linear_step(torch.tensor([[spike]]), history, weight, delay, max_delay=2)
        ...     currents.append(current.item())
        >>> currents
        [0.0, 1.0, 1.0]
    """
    check_synapses(weight, delay)
    check_input(spikes, weight, bias, steps=False)
    compute = compute_dtype(spikes, weight)
    with full_precision(spikes):
        kernel = smoothed_kernel(weight.to(compute), delay.to(compute), max_delay, interpolation, smoothing)
        if history is None:
            history = spikes.new_zeros(kernel.shape[0] - 1, *spikes.shape)
        check_history(history, kernel.shape[0] - 1, spikes)
        recent = torch.cat([spikes[None], history])
        current = torch.einsum("lni,loi->no", recent.to(compute), kernel)
        if bias is not None:
            current = current + bias.to(compute)
    return current.to(spikes.dtype), recent[:-1]


def history_after(spikes: Tensor, history: Tensor | None, max_delay: int, smoothing: Tensor | None = None) -> Tensor:
    """The history that :func:`delayed_linear` and :func:`delayed_linear_step` need after ``spikes`` ``[T, N, in]``.

    :returns: the last ``max_delay + 1`` (plus ``len(smoothing) - 1``) steps, newest first, zero before the start.
    """
    length = max_delay + 1 + (0 if smoothing is None else smoothing.numel() - 1)
    recent = spikes[max(0, spikes.shape[0] - length) :].flip(0)
    if recent.shape[0] == length:
        return recent
    if history is None:
        history = spikes.new_zeros(length, *spikes.shape[1:])
    return torch.cat([recent, history])[:length]


def _compiled(
    trains: Tensor, weight: Tensor, delay: Tensor, support: Tensor | None, max_delay: int, interpolation: str,
    smoothing: Tensor | None, steps: int, form: str,
) -> Tensor:  # fmt: skip
    from ..kernels.delayed_linear.operator import delayed_linear as operator

    check_delays(delay, max_delay)
    if smoothing is not None:
        if support is not None:
            trains, support = torch.where(support.bool(), trains, trains.detach()), None
        trains = _smoothed(trains, smoothing.to(trains.dtype))
    support = None if support is None else support.bool()
    return operator(trains, weight, delay.expand_as(weight), support, interpolation, int(max_delay), steps, form)


def _smoothed(trains: Tensor, smoothing: Tensor) -> Tensor:
    """eps_d * s_j, ``[T + taps - 1, N, in]``."""
    later = smoothing.numel() - 1
    padded = F.pad(trains, (0, 0, 0, 0, later, later))
    return sum(smoothing[lag] * padded[later - lag : padded.shape[0] - lag] for lag in range(later + 1))


def full_precision(spikes: Tensor) -> AbstractContextManager:
    """A region without autocast; the meta device knows none."""
    return nullcontext() if spikes.is_meta else torch.autocast(spikes.device.type, enabled=False)


def autocasts(spikes: Tensor) -> bool:
    return not spikes.is_meta and torch.is_autocast_enabled(spikes.device.type)


def compute_dtype(spikes: Tensor, weight: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(spikes.dtype, weight.dtype), torch.float32)


def smoothed_kernel(weight: Tensor, delay: Tensor, max_delay: int, interpolation: str, smoothing: Tensor | None) -> Tensor:
    """The delay kernel after eps_d: convolutions commute, so the kernel is smoothed in place of every train."""
    kernel = delay_kernel(weight, delay, max_delay, interpolation)
    if smoothing is None:
        return kernel
    _check_smoothing(smoothing)
    later = smoothing.numel() - 1
    padded = F.pad(kernel, (0, 0, 0, 0, later, later))
    return (padded.unfold(0, later + 1, 1) * smoothing.to(kernel.dtype).flip(0)).sum(-1)


def _longest(delay: Tensor) -> int:
    if not (values_known(delay) or torch.compiler.is_compiling()):
        raise ValueError("the longest delay is not known on the meta device, of a fake tensor or in vmap: give max_delay")
    longest = delay.detach().max().item() if delay.numel() else 0.0
    if not math.isfinite(longest):
        raise ValueError(f"delays must be finite, the largest is {longest}")
    return check_steps("the longest delay", max(0, math.ceil(longest)))


def padded_steps(padding: str | int, longest: int) -> int:
    """How many silent steps ``padding`` appends where the last spike may arrive ``longest`` steps late."""
    if isinstance(padding, str) and padding in PADDINGS:
        return longest if padding == "full" else 0
    if isinstance(padding, Integral) and not isinstance(padding, bool) and 0 <= padding <= LONGEST:
        return int(padding)
    raise ValueError(f"padding must be one of {PADDINGS} or a number of steps >= 0 (most: {LONGEST}), got {padding!r}")


def check_delay_options(interpolation: str, padding: str | int, smoothing: Tensor | None) -> None:
    """Refuse options that :func:`delayed_linear` would refuse; the layers call it when they are constructed."""
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    padded_steps(padding, 0)
    if smoothing is not None:
        _check_smoothing(smoothing)


def _check_smoothing(smoothing: Tensor) -> None:
    if not isinstance(smoothing, Tensor) or smoothing.dim() != 1 or smoothing.numel() == 0:
        got = tuple(smoothing.shape) if isinstance(smoothing, Tensor) else smoothing
        raise ValueError(f"smoothing must be a tensor of shape [taps], a kernel over time, got {got}")
    check_real("smoothing", smoothing)


def check_synapses(weight: Tensor, delay: Tensor) -> None:
    if check_tensor("weight", weight).dim() != 2:
        raise ValueError(f"weight must be [out, in], got shape {tuple(weight.shape)}")
    check_real("delay", check_tensor("delay", delay))
    out, inputs = weight.shape
    if delay.dim() != 2 or delay.shape[0] not in (1, out) or delay.shape[1] not in (1, inputs):
        raise ValueError(
            f"delay must be [{out}, {inputs}] (synaptic), [1, {inputs}] (axonal) or [{out}, 1] (dendritic) for a "
            f"weight of shape {tuple(weight.shape)}, got {tuple(delay.shape)}"
        )
    if delay.device != weight.device:
        raise ValueError(f"delay is on {delay.device} but weight on {weight.device}; move one of them")


def check_real(name: str, value: Tensor) -> None:
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")


def check_delays(delay: Tensor, max_delay: int) -> int:
    """``max_delay`` as an int, no delay being longer."""
    max_delay = check_steps("max_delay", max_delay)
    if delay.numel() == 0 or not values_known(delay):
        return max_delay
    low, high = (value.item() for value in torch.aminmax(delay.detach()))
    if not (low >= 0 and high <= max_delay):  # also catches NaN
        raise ValueError(
            f"delays must lie in [0, max_delay={max_delay}], got {low:g} ... {high:g}; clip them "
            "(snn_delay_plugins.parameters.project_, or bound_mode='clamp' in a layer) or raise max_delay"
        )
    return max_delay


def check_input(spikes: Tensor, weight: Tensor, bias: Tensor | None, steps: bool) -> None:
    if check_spikes(spikes).dim() != 2 + steps or spikes.shape[-1] != weight.shape[1]:
        layout = f"[{'T, ' if steps else ''}N, {weight.shape[1]}]"
        raise ValueError(f"spikes must be {layout}, got shape {tuple(spikes.shape)}")
    if spikes.device != weight.device:
        raise ValueError(f"spikes are on {spikes.device} but weight on {weight.device}; move one of them")
    if not (spikes.is_floating_point() and weight.is_floating_point()):
        remedy = "" if spikes.is_floating_point() else "; convert it, e.g. input.float()"
        raise TypeError(f"spikes and weight must be floating point, got {spikes.dtype} and {weight.dtype}{remedy}")
    if spikes.dtype != weight.dtype and not autocasts(spikes):
        raise TypeError(f"spikes are {spikes.dtype} but weight is {weight.dtype}; convert one of them")
    check_bias(bias, weight)


def check_bias(bias: Tensor | None, weight: Tensor) -> None:
    if bias is None:
        return
    if check_tensor("bias", bias).shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{weight.shape[0]}], got shape {tuple(bias.shape)}")
    check_real("bias", bias)
    if bias.device != weight.device:
        raise ValueError(f"bias is on {bias.device} but weight on {weight.device}; move one of them")


def check_past(history: Tensor, spikes: Tensor) -> None:
    """The spikes ``[H, N, ...]`` before a sequence ``[T, N, ...]``."""
    check_real("history", check_tensor("history", history))
    if history.shape[1:] != spikes.shape[1:] or history.dim() != spikes.dim():
        raise ValueError(
            f"history must be [H, {', '.join(map(str, spikes.shape[1:]))}] for this input, got shape {tuple(history.shape)}"
        )
    if history.device != spikes.device:
        raise ValueError(f"history is on {history.device} but spikes on {spikes.device}; move one of them")


def check_history(history: Tensor, length: int, spikes: Tensor) -> None:
    expected = (length, *spikes.shape)
    if check_tensor("history", history).shape != expected:
        raise ValueError(f"history must have shape {expected} for this input, got {tuple(history.shape)}")
