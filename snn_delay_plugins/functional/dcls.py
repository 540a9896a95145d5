r"""Delays learned through a Gaussian: dilated convolutions with learnable spacings (DCLS).

Hammouamri, Khalfaoui-Hassani, Masquelier, *Learning Delays in Spiking Neural Networks using Dilated Convolutions with
Learnable Spacings*. The synapse from neuron j to neuron i is a convolution over time (Eq. 8) whose kernel has T_d taps,

.. math:: I_i = \sum_j k_{ij} * s_j, \qquad
    k_{ij}[n] = \frac{w_{ij}}{c} \exp\Bigl(-\frac12 \Bigl(\frac{n - T_d + d_{ij} + 1}{\sigma_{ij}}\Bigr)^2\Bigr)
    \quad (9), \qquad
    c = \epsilon + \sum_n \exp(\ldots) \quad (10),

for n = 0 ... T_d - 1 and eps = 1e-7. Training sees this kernel, whose standard deviation sigma shrinks from epoch to
epoch (:mod:`snn_delay_plugins.schedules`) and which is differentiable in the delay; evaluation and hardware see one tap
per synapse, the rounded delay (Eq. 7: :func:`~snn_delay_plugins.functional.delay.delayed_linear` with ``"round"``).

Conventions of this package: a kernel is indexed by its lag tau = T_d - 1 - n, the delay is a lag in time steps, and
``max_delay`` = T_d - 1. In these,

.. math:: K_{ij}[\tau] = \frac{w_{ij}}{c} \exp\Bigl(-\frac12 \Bigl(\frac{\tau - d_{ij}}{\sigma_{ij}}\Bigr)^2\Bigr).

The ``dcls`` package names the same synapse by a position P around the middle of the kernel and a width SIG: see
:func:`delay_from_position`, :func:`sigma_from_width` and their inverses. Its version ``"max"`` is a triangle of half
base sigma in place of the Gaussian.

The kernel is the delay rule :mod:`snn_delay_plugins.delays.gaussian`, applied by :mod:`.windows`.

Shapes: spikes ``[T, N, in]``, weight, delay and sigma ``[out, in]`` (delay also ``[1, in]``, ``[out, 1]``; sigma also a
number), output ``[T, N, out]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice, check_steps, check_tensor, check_whole
from ..delays import DCLS_MAX, GAUSSIAN, check_delays
from ..delays.gaussian import SHAPES, SMALLEST_SIGMA, Shape, gaussian_kernel
from ..kernels.dispatch import DelayMethod
from .inputs import Padding, check_history, check_input, check_synapses, compute_dtype, full_precision
from .windows import windowed_linear, windowed_linear_step

__all__ = [
    "SMALLEST_SIGMA", "delay_from_position", "gaussian_delayed_linear", "gaussian_delayed_linear_step",
    "gaussian_kernel", "gaussian_window", "parameters_from_dcls", "position_from_delay", "rounded_delayed_linear_step",
    "sigma_from_width", "width_from_sigma",
]  # fmt: skip

_RULES = {"gauss": GAUSSIAN, "max": DCLS_MAX}


def gaussian_delayed_linear(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: float | Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    shape: Shape = "gauss",
    padding: Padding = "same",
    history: Tensor | None = None,
    method: DelayMethod | None = None,
) -> Tensor:
    """Linear layer with a delay per synapse that is learned through a Gaussian (equations: head of this module).

    On the left every spike train is preceded by ``max_delay`` = T_d - 1 silent steps, as published, or by ``history``.

    :param spikes: spike trains or any real input, ``[T, N, in]``. :param weight: ``[out, in]``.
    :param delay: ``[out, in]``, ``[1, in]`` or ``[out, 1]``, in time steps within ``[0, max_delay]``.
    :param sigma: a number or a tensor broadcastable to ``[out, in]``. :param bias: ``[out]``.
    :param max_delay: T_d - 1. :param shape: ``"gauss"`` or ``"max"``.
    :param padding: silent steps appended on the right, that late spikes still arrive: a number (published:
        ``max_delay // 2``), ``"same"`` (none) or ``"full"`` (``max_delay``).
    :param history: the spikes before the first step, newest first, ``[H, N, in]``.
    :param method: ``"direct"`` or ``"fft"``, see :func:`~snn_delay_plugins.functional.convolution.causal_convolution`, or a
        compiled form of :func:`~.delay.delayed_linear`, two taps at a time, for narrow Gaussians and few spikes.
    :returns: input currents ``[T + padding, N, out]`` in the dtype of ``spikes``; half precision is computed
        in float32.
    :raises ValueError: for shapes or devices that do not fit, unknown options, a sigma that is not positive, or delays
        that are negative, NaN or longer than ``max_delay``.
    :raises TypeError: if ``spikes`` and ``weight`` have different dtypes (outside autocast) or are not floating point.

    Example::

        >>> import torch
        >>> spikes = torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1)
        >>> synapse = torch.tensor([[2.0]]), torch.tensor([[1.0]])
        >>> current = gaussian_delayed_linear(spikes, *synapse, sigma=0.5, max_delay=2)
        >>> [round(value, 3) for value in current.flatten().tolist()]
        [0.213, 1.574, 0.213, 0.0]
    """
    return windowed_linear(
        spikes, weight, delay, bias, rule=_RULES[check_choice("shape", shape, SHAPES)], parameters={"sigma": sigma},
        max_delay=max_delay, padding=padding, history=history, method=method,
    )  # fmt: skip


def gaussian_delayed_linear_step(
    spikes: Tensor,
    history: Tensor | None,
    weight: Tensor,
    delay: Tensor,
    sigma: float | Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    shape: Shape = "gauss",
) -> tuple[Tensor, Tensor]:
    """One time step of :func:`gaussian_delayed_linear`, whose arguments and errors these are.

    :param spikes: the spikes of this step, ``[N, in]``.
    :param history: the spikes before it, newest first, ``[max_delay + 1, N, in]``; ``None`` at the start.
    :returns: input currents of this step ``[N, out]``, and the history for the next one.

    Example::

        >>> import torch
        >>> synapse, history = (torch.tensor([[2.0]]), torch.tensor([[1.0]])), None
        >>> for spike in (1.0, 0.0):
        ...     spikes = torch.tensor([[spike]])
        ...     current, history = gaussian_delayed_linear_step(spikes, history, *synapse, sigma=0.5, max_delay=2)
        >>> round(current.item(), 3)
        1.574
    """
    return windowed_linear_step(
        spikes, history, weight, delay, bias, rule=_RULES[check_choice("shape", shape, SHAPES)],
        parameters={"sigma": sigma}, max_delay=max_delay,
    )  # fmt: skip


def gaussian_window(weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int) -> tuple[Tensor, Tensor]:
    """The Gaussians of :func:`gaussian_kernel` ``[synapses, width]`` where they are not lost in rounding, and the first lag
    of each; weight, delay and sigma are ``[synapses]`` (sigma also one number).

    Example::

        >>> import torch
        >>> kernel, lag = gaussian_window(torch.ones(1), torch.tensor([50.0]), torch.tensor(0.5), max_delay=100)
        >>> kernel.shape, lag.tolist()
        (torch.Size([1, 8]), [47])
    """
    taps, lags = GAUSSIAN.window(weight, delay, max_delay, sigma=sigma)
    return taps.mT, lags


def rounded_delayed_linear_step(
    spikes: Tensor, ring: Tensor, newest: int, weight: Tensor, delay: Tensor, bias: Tensor | None = None
) -> Tensor:
    """One time step of the discrete form (Eq. 7) over a ring buffer of spikes, without graph.

    :param spikes: the spikes of this step, ``[N, in]``; they become the entry ``newest`` of the ring.
    :param ring: the last inputs, ``[H, N, in]`` with H > ``max_delay``, zero at the start; changed in place. The spikes
        of tau steps ago are the entry ``(newest + tau) % H``; for the next step ``newest`` is ``(newest - 1) % H``.
    :param weight: ``[out, in]``. :param delay: ``[out, in]``, ``[1, in]`` or ``[out, 1]``. :param bias: ``[out]``.
    :returns: input currents of this step ``[N, out]``.
    :raises ValueError: for shapes or devices that do not fit, or delays outside ``[0, H - 1]``.
    :raises TypeError: if ``spikes`` and ``weight`` have different dtypes (outside autocast) or are not floating point.

    Example::

        >>> import torch
        >>> ring, synapse = torch.zeros(3, 1, 1), (torch.tensor([[2.0]]), torch.tensor([[1.2]]))
        >>> [rounded_delayed_linear_step(torch.ones(1, 1), ring, newest, *synapse).item() for newest in (0, 2)]
        [0.0, 2.0]
    """
    check_synapses(weight, delay)
    check_input(spikes, weight, bias, steps=False)
    if check_tensor("ring", ring).dim() != 3:
        raise ValueError(f"ring must be [H, N, in], got shape {tuple(ring.shape)}")
    check_history(ring, ring.shape[0], spikes)
    newest = check_whole("newest", newest, most=ring.shape[0] - 1)
    check_delays(delay, ring.shape[0] - 1)
    compute = compute_dtype(spikes, weight)
    with torch.no_grad(), full_precision(spikes):
        ring[newest] = spikes
        slot = (newest + delay.round().long()) % ring.shape[0]
        sender = torch.arange(weight.shape[1], device=weight.device)
        arriving = ring.permute(0, 2, 1)[slot.expand_as(weight), sender]  # [out, in, N]
        current = torch.einsum("oin,oi->no", arriving.to(compute), weight.to(compute))
        if bias is not None:
            current = current + bias.to(compute)
    return current.to(spikes.dtype)


# ------------------------------------------------------------------------------------ the dcls package's parameters


def delay_from_position(position: Tensor, max_delay: int) -> Tensor:
    """The delay of ``dcls``'s position ``P``: d = T_d - 1 - (P + T_d // 2).

    Example::

        >>> import torch
        >>> delay_from_position(torch.tensor([-12.0, 0.0, 12.0]), max_delay=24).tolist()
        [24.0, 12.0, 0.0]
    """
    return check_steps("max_delay", max_delay) // 2 - check_tensor("position", position)


def position_from_delay(delay: Tensor, max_delay: int) -> Tensor:
    """``dcls``'s position ``P`` of a delay, the inverse of :func:`delay_from_position` (and the same formula)."""
    return check_steps("max_delay", max_delay) // 2 - check_tensor("delay", delay)


def sigma_from_width(width: Tensor, shape: Shape = "gauss") -> Tensor:
    """The sigma of Eq. 9 of ``dcls``'s ``SIG``: sigma = abs(SIG) + 0.27 (``"gauss"``) or + 1 (``"max"``)."""
    return check_tensor("width", width).abs() + SMALLEST_SIGMA[check_choice("shape", shape, SHAPES)]


def width_from_sigma(sigma: Tensor, shape: Shape = "gauss") -> Tensor:
    """``dcls``'s ``SIG >= 0`` of a sigma.

    :raises ValueError: for a sigma that ``dcls`` cannot have (below 0.27, or 1 for ``"max"``).
    """
    width = check_tensor("sigma", sigma) - SMALLEST_SIGMA[check_choice("shape", shape, SHAPES)]
    if width.numel() and not width.min() >= 0:  # also catches NaN
        raise ValueError(f"dcls has no sigma below {SMALLEST_SIGMA[shape]} (shape {shape!r}), got {sigma.min():g}")
    return width


def parameters_from_dcls(state: dict[str, Tensor], max_delay: int, shape: Shape = "gauss") -> dict[str, Tensor]:
    """A state dict of a network with ``Dcls1d`` layers, as those of the published code, in this package's parameters.

    ``NAME.weight`` loses its axis of kernel elements, ``NAME.P`` becomes ``NAME.delay`` and ``NAME.SIG`` ``NAME.sigma``
    (a number where all synapses share one); everything else is passed on.

    :param max_delay: T_d - 1 of these layers, their ``dilated_kernel_size - 1``, which a state dict does not hold.
    :raises ValueError: for several kernel elements per synapse or positions outside the kernel, naming the entry.

    Example::

        >>> import torch
        >>> ours = parameters_from_dcls({"0.weight": torch.ones(2, 3, 1), "0.P": torch.zeros(1, 2, 3, 1)}, max_delay=24)
        >>> {name: tuple(value.shape) for name, value in ours.items()}
        {'0.weight': (2, 3), '0.delay': (2, 3)}
    """
    check_steps("max_delay", max_delay)
    check_choice("shape", shape, SHAPES)
    ours = {}
    for name, value in state.items():
        prefix, _, last = name.rpartition(".")
        prefix += "." if prefix else ""
        if f"{prefix}P" not in state or last not in ("weight", "P", "SIG"):
            ours[name] = value
            continue
        if value.dim() != 3 + (last != "weight") or value.shape[-1] != 1 or (last != "weight" and len(value) != 1):
            raise ValueError(f"{name}: not of a Dcls1d with one kernel element per synapse, shape {tuple(value.shape)}")
        value = value.squeeze(-1)
        if last == "weight":
            ours[name] = value
        elif last == "P":
            delay = delay_from_position(value[0], max_delay)
            if not (delay.min() >= 0 and delay.max() <= max_delay):
                raise ValueError(
                    f"{name}: positions mean delays of {delay.min():g} ... {delay.max():g} steps, outside "
                    f"[0, max_delay={max_delay}]; max_delay is dilated_kernel_size - 1"
                )
            ours[f"{prefix}delay"] = delay
        else:
            sigma = sigma_from_width(value[0], shape)
            ours[f"{prefix}sigma"] = sigma.flatten()[0] if (sigma == sigma.flatten()[0]).all() else sigma
    return ours
