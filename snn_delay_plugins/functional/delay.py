r"""Linear layers whose every synapse has a weight and a delay.

Deckers et al., Eq. 7: input current of neuron i from the spike trains s_j,

.. math:: I_i[t] = \sum_j W_{ij}\, a_j[t - d_{ij}] + b_i, \qquad a_j = \varepsilon_d * s_j

(without a smoothing kernel eps_d: a_j = s_j).

Delays are real numbers of time steps; what arrives of a delay between two, and the gradient (SLAYER rule), is the rule
:mod:`snn_delay_plugins.delays.slayer`, applied by :mod:`.windows`.

Shapes: spikes ``[T, N, in]``, weight ``[out, in]``, delay ``[out, in]`` (synaptic), ``[1, in]`` (axonal) or
``[out, 1]`` (dendritic), output ``[T, N, out]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import check_choice, check_steps, values_known
from ..delays import LINEAR, Interpolation, scatter_window
from ..kernels.dispatch import DelayMethod
from .inputs import Padding, check_input, check_smoothing, check_synapses, padded_steps
from .windows import history_after, windowed_linear, windowed_linear_step

__all__ = ["check_delay_options", "delay_kernel", "delay_window", "delayed_linear", "delayed_linear_step", "history_after"]

INTERPOLATIONS = tuple(LINEAR.interpolations)


def delay_kernel(weight: Tensor, delay: Tensor, max_delay: int, interpolation: Interpolation = "linear") -> Tensor:
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
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    window = LINEAR.interpolations[interpolation].window(weight, delay, max_delay)
    return scatter_window(window, check_steps("max_delay", max_delay) + 2)


def delayed_linear(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int | None = None,
    interpolation: Interpolation = "linear",
    padding: Padding = "same",
    smoothing: Tensor | None = None,
    history: Tensor | None = None,
    support: Tensor | None = None,
    method: DelayMethod | None = None,
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
    return windowed_linear(
        spikes, weight, delay, bias, rule=LINEAR.interpolations[interpolation],
        max_delay=_longest(delay) if max_delay is None else max_delay, padding=padding, smoothing=smoothing,
        history=history, support=support, method=method,
    )  # fmt: skip


def delayed_linear_step(
    spikes: Tensor,
    history: Tensor | None,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    interpolation: Interpolation = "linear",
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
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    return windowed_linear_step(
        spikes, history, weight, delay, bias, rule=LINEAR.interpolations[interpolation], max_delay=max_delay,
        smoothing=smoothing,
    )  # fmt: skip


def delay_window(weight: Tensor, delay: Tensor, max_delay: int, interpolation: Interpolation) -> tuple[Tensor, Tensor]:
    """The two taps of :func:`delay_kernel` ``[synapses, 2]``, and the lag of the first; only one where delays are whole and
    not learned. Weight and delay are ``[synapses]``."""
    taps, lags = LINEAR.interpolations[interpolation].window(weight, delay, max_delay)
    return taps.mT, lags


def check_delay_options(interpolation: Interpolation, padding: Padding, smoothing: Tensor | None) -> None:
    """Refuse options that :func:`delayed_linear` would refuse; the layers call it when they are constructed."""
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    padded_steps(padding, 0)
    if smoothing is not None:
        check_smoothing(smoothing)


def _longest(delay: Tensor) -> int:
    if not (values_known(delay) or torch.compiler.is_compiling()):
        raise ValueError("the longest delay is not known on the meta device, of a fake tensor or in vmap: give max_delay")
    longest = delay.detach().max().item() if delay.numel() else 0.0
    if not math.isfinite(longest):
        raise ValueError(f"delays must be finite, the largest is {longest}")
    return check_steps("the longest delay", max(0, math.ceil(longest)))
