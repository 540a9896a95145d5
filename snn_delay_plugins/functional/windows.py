r"""Linear layers whose synapses are windows of taps over time, by whatever rule of :mod:`snn_delay_plugins.delays`,

.. math:: I_i[t] = \sum_j \sum_m K_{ij}[m]\, a_j[t - \ell_{ij} - m] + b_i, \qquad a_j = \varepsilon_d * s_j

(without a smoothing kernel eps_d: a_j = s_j), K the taps and l the first lag of each window: over sequences or step by
step, with all possible synapses or a list of those that exist.

Windows of at most two taps run in compiled form: on events or as shifted trains, at a cost that does not depend on the
longest delay. Wider ones are a causal convolution with a kernel over all lags (:mod:`.convolution`), or where that is asked
for the compiled form, two taps at a time; over a list of synapses time and memory grow with their number and the width of
the windows.

Shapes: spikes ``[T, N, in]``, weight ``[out, in]``, delay ``[out, in]`` (synaptic), ``[1, in]`` (axonal) or ``[out, 1]``
(dendritic), output ``[T, N, out]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_steps, check_tensor
from ..delays import DelayRule, Window
from ..kernels import dispatch
from ..kernels.checks import check_windows
from ..kernels.dispatch import DelayMethod
from .convolution import METHODS as CONVOLUTIONS
from .convolution import ConvolutionMethod, causal_convolution
from .inputs import (
    Padding,
    check_history,
    check_input,
    check_past,
    check_smoothing,
    check_synapses,
    compute_dtype,
    full_precision,
    padded_steps,
)

__all__ = [
    "history_after", "listed_convolution", "smoothed_kernel", "smoothed_taps", "windowed_linear", "windowed_linear_step",
]  # fmt: skip

_TAPS_ON_EVENTS = 2


def windowed_linear(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    rule: DelayRule,
    max_delay: int,
    parameters: Mapping[str, Tensor | float] | None = None,
    padding: Padding = "same",
    smoothing: Tensor | None = None,
    history: Tensor | None = None,
    support: Tensor | None = None,
    method: DelayMethod | None = None,
) -> Tensor:
    """Linear layer with a window per synapse (equation: head of this module).

    :param spikes: spike trains or any real input, ``[T, N, in]``. :param weight: ``[out, in]``.
    :param delay: in time steps within ``[0, max_delay]``. :param bias: ``[out]``.
    :param rule: how weight and delay become taps. :param parameters: its further parameters by name.
    :param padding: ``"same"``, ``"full"`` (``max_delay`` steps more, plus those of ``smoothing``), or a number of steps.
    :param smoothing: the causal kernel eps_d over time, ``[taps]``. :param history: the spikes before the first step,
        newest first, ``[H, N, in]``.
    :param support: where the gradient of ``spikes`` is wanted, of their shape; elsewhere it is zero.
    :param method: as of :func:`~.delay.delayed_linear`; by default windows of more than two taps take a plain form.
    :returns: ``[T + padding, N, out]`` in the dtype of ``spikes``; half precision is computed in float32.
    :raises ValueError: for shapes or devices that do not fit, unknown options, or delays outside ``[0, max_delay]``.
    :raises TypeError: for dtypes that do not fit.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.delays import WHOLE
        >>> spikes, synapse = torch.eye(4)[:, :1, None], (torch.tensor([[2.0]]), torch.tensor([[1.2]]))
        >>> windowed_linear(spikes, *synapse, rule=WHOLE, max_delay=2).flatten().tolist()
        [0.0, 2.0, 0.0, 0.0]
    """
    check_synapses(weight, delay)
    check_input(spikes, weight, bias, steps=True)
    max_delay, parameters = check_steps("max_delay", max_delay), parameters or {}
    later = 0
    if smoothing is not None:
        check_smoothing(smoothing)
        later = smoothing.numel() - 1
    after = padded_steps(padding, max_delay + later)
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
    chosen = _method(rule, spikes, compute, method)
    if max_delay == 0 and smoothing is None and not delay.requires_grad:
        chosen = None  # an ordinary linear layer: one product
    with full_precision(spikes):
        trains, weight, delay = spikes.to(compute), weight.to(compute), delay.to(compute)
        if chosen in dispatch.DELAY_KERNELS:
            window = rule.windows(weight, delay, max_delay, parameters)
            current = _compiled(trains, window, weight, support, smoothing, max_delay, trains.shape[0] + after, chosen)
        else:
            kernel = smoothed_kernel(rule.over_lags(weight, delay, max_delay, parameters), smoothing)
            if support is not None:
                trains = torch.where(support.bool(), trains, trains.detach())
            current = causal_convolution(trains, kernel, cast("ConvolutionMethod | None", chosen), after)
        current = current[before:]
        if bias is not None:
            current = current + bias.to(compute)
    return current.to(spikes.dtype)


def windowed_linear_step(
    spikes: Tensor,
    history: Tensor | None,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    rule: DelayRule,
    max_delay: int,
    parameters: Mapping[str, Tensor | float] | None = None,
    smoothing: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One time step of :func:`windowed_linear`, whose arguments and errors these are.

    :param spikes: the spikes of this step, ``[N, in]``.
    :param history: the spikes before it, newest first, as returned by the step before: ``[max_delay + 1, N, in]`` (plus
        ``len(smoothing) - 1``); ``None`` at the start.
    :returns: input currents of this step ``[N, out]``, and the history for the next one.
    """
    check_synapses(weight, delay)
    check_input(spikes, weight, bias, steps=False)
    max_delay = check_steps("max_delay", max_delay)
    compute = compute_dtype(spikes, weight)
    with full_precision(spikes):
        kernel = rule.over_lags(weight.to(compute), delay.to(compute), max_delay, parameters or {})
        kernel = smoothed_kernel(kernel, smoothing)
        length = history_length(max_delay, smoothing)
        if history is None:
            history = spikes.new_zeros(length, *spikes.shape)
        check_history(history, length, spikes)
        recent = torch.cat([spikes[None], history])
        current = torch.einsum("lni,loi->no", recent[: kernel.shape[0]].to(compute), kernel)
        if bias is not None:
            current = current + bias.to(compute)
    return current.to(spikes.dtype), recent[:-1]


def history_length(max_delay: int, smoothing: Tensor | None = None) -> int:
    """Steps that a layer remembers."""
    return max_delay + 1 + (0 if smoothing is None else smoothing.numel() - 1)


def history_after(spikes: Tensor, history: Tensor | None, max_delay: int, smoothing: Tensor | None = None) -> Tensor:
    """The history that a layer with delays needs after ``spikes`` ``[T, N, in]``.

    :returns: the last ``max_delay + 1`` (plus ``len(smoothing) - 1``) steps, newest first, zero before the start.
    """
    length = history_length(max_delay, smoothing)
    recent = spikes[max(0, spikes.shape[0] - length) :].flip(0)
    if recent.shape[0] == length:
        return recent
    if history is None:
        history = spikes.new_zeros(length, *spikes.shape[1:])
    return torch.cat([recent, history])[:length]


def listed_convolution(
    trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, out_features: int, *,
    after: int = 0, method: DelayMethod | None = None,
) -> Tensor:  # fmt: skip
    """Input currents over a list of synapses with a window of taps each (equation: head of this module).

    :param trains: ``[T, N, in]``. :param kernel: ``[synapses, width]``, of the same dtype; both differentiable.
    :param lag: first lag of every window, >= 0. :param senders: and ``receivers`` of the synapses, int64, ordered by
        receiver.
    :param after: steps of the response after the last of the trains.
    :param method: ``"torch"`` (plain form, memory for every synapse and step), ``"numba"`` (CPU) or ``"triton"`` (CUDA);
        default: as :mod:`~snn_delay_plugins.kernels.dispatch` chooses.
    :returns: ``[T + after, N, out]``; what arrives past the end is lost.
    :raises ValueError: for shapes that do not fit, a negative lag, a sender or receiver that is not there, synapses that
        are not ordered by receiver, or a method that is not possible here.
    :raises TypeError: for dtypes that do not fit.

    Example::

        >>> import torch
        >>> one = torch.tensor([0])
        >>> taps = torch.tensor([[2.0, 1.0]])
        >>> listed_convolution(torch.eye(4)[:, :1, None], taps, one + 1, one, one, 1).flatten().tolist()
        [0.0, 2.0, 1.0, 0.0]
    """
    steps = trains.shape[0] + after
    if dispatch.sparse_delay_method(trains, method, "sparse_taps") != "torch":
        from ..kernels.sparse_taps.operator import sparse_taps as operator

        return operator(trains, kernel, lag, senders, receivers, out_features, steps)
    check_windows(kernel, lag, senders, receivers, trains.shape[-1], out_features)
    arriving = trains[:, :, senders]
    shape = (steps, trains.shape[1], out_features)
    current = trains.new_zeros(shape) + 0 * (trains.sum() + kernel.sum())  # keeps the graph where nothing arrives
    for m in range(kernel.shape[1]):
        time = torch.arange(trains.shape[0], device=trains.device)[:, None] + lag + m  # [T, synapses]
        t, s = (time < steps).nonzero(as_tuple=True)
        place = (time[t, s] * trains.shape[1], receivers[s])
        for n in range(trains.shape[1]):
            index = (place[0] + n) * out_features + place[1]
            current = current.flatten().index_add(0, index, arriving[t, n, s] * kernel[s, m]).view(shape)
    return current


def smoothed_kernel(kernel: Tensor, smoothing: Tensor | None) -> Tensor:
    """A kernel ``[taps, out, in]`` after eps_d: convolutions commute, so it is smoothed in place of every train."""
    if smoothing is None:
        return kernel
    check_smoothing(smoothing)
    later = smoothing.numel() - 1
    padded = F.pad(kernel, (0, 0, 0, 0, later, later))
    return (padded.unfold(0, later + 1, 1) * smoothing.to(kernel.dtype).flip(0)).sum(-1)


def smoothed_taps(taps: Tensor, smoothing: Tensor) -> Tensor:
    """Windows ``[synapses, width]`` after the causal kernel eps_d ``[taps]``, ``[synapses, width + taps - 1]``."""
    later = smoothing.numel() - 1
    return F.conv1d(F.pad(taps, (later, later))[:, None], smoothing.to(taps.dtype).flip(0)[None, None])[:, 0]


def _method(rule: DelayRule, spikes: Tensor, compute: torch.dtype, method: DelayMethod | None) -> str | None:
    methods = dispatch.OPERATORS["delayed_linear"].methods
    if method in methods or (rule.width is not None and rule.width <= _TAPS_ON_EVENTS):
        return dispatch.delay_method(spikes, compute, method)
    wanted = dispatch.wanted_method(method, methods)
    return wanted if wanted in CONVOLUTIONS else None


def _compiled(
    trains: Tensor, window: Window, weight: Tensor, support: Tensor | None, smoothing: Tensor | None, max_delay: int,
    steps: int, form: str,
) -> Tensor:  # fmt: skip
    from ..kernels.delayed_linear.operator import delayed_linear as operator

    if smoothing is not None:
        if support is not None:
            trains, support = torch.where(support.bool(), trains, trains.detach()), None
        trains = _smoothed(trains, smoothing.to(trains.dtype))
    support = None if support is None else support.bool()
    taps, lags = window
    current = operator(trains, taps[:_TAPS_ON_EVENTS], lags, support, max_delay, steps, form)
    for m in range(_TAPS_ON_EVENTS, taps.shape[0], _TAPS_ON_EVENTS):
        later = taps[m : m + _TAPS_ON_EVENTS]
        current = current + operator(trains, later, lags + m, support, max_delay + m, steps, form)
    return current


def _smoothed(trains: Tensor, smoothing: Tensor) -> Tensor:
    """eps_d * s_j, ``[T + taps - 1, N, in]``."""
    later = smoothing.numel() - 1
    padded = F.pad(trains, (0, 0, 0, 0, later, later))
    total = smoothing[0] * padded[later:]
    for lag in range(1, later + 1):
        total = total + smoothing[lag] * padded[later - lag : padded.shape[0] - lag]
    return total
