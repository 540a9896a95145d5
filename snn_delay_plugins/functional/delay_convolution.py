r"""Convolutions over space whose every connection has a weight and a delay,

.. math:: I_{i}[t, x] = \sum_j \sum_y w_{ij}[y]\, s_j[t - d_{ij}[y],\, x + y],

with i and j channels, x positions and y the places of the kernel: as in :mod:`.delay` (SLAYER rule) and :mod:`.dcls`
(Gaussian), of which this is the extension to space. A delay is a place on the axis of time, so that this is a causal
convolution with one more axis.

Shapes: spikes ``[T, N, C, L]`` or ``[T, N, C, H, W]``; weight and delay ``[out, C / groups, *kernel]``; output
``[T, N, out, *positions]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_spikes, check_tensor, check_whole
from .dcls import gaussian_kernel
from .delay import autocasts, check_bias, check_past, check_real, compute_dtype, delay_kernel, full_precision, padded_steps

__all__ = ["delayed_convolution"]


def delayed_convolution(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    sigma: float | Tensor | None = None,
    interpolation: str = "linear",
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    time_padding: str | int = "same",
    history: Tensor | None = None,
) -> Tensor:
    """Convolution over one or two axes of space with a delay per connection (equation: head of this module).

    :param spikes: ``[T, N, C, L]`` or ``[T, N, C, H, W]``. :param weight: ``[out, C / groups, *kernel]``.
    :param delay: of the shape of ``weight``, in time steps within ``[0, max_delay]``. :param bias: ``[out]``.
    :param sigma: a number or a tensor broadcastable to ``weight``: the delays are Gaussians of this standard deviation
        (Hammouamri et al., Eq. 9). Default: ``interpolation`` between steps, gradient by the SLAYER rule.
    :param interpolation: ``"linear"``, ``"round"`` (with ``sigma=None``: the discrete form, Eq. 7) or ``"floor"``.
    :param stride: and ``padding``, ``dilation``, ``groups``: over space, as in ``torch.nn.functional.conv2d``.
    :param time_padding: ``"same"``: T steps out, ``"full"``: ``T + max_delay``, or a number of steps more.
    :param history: the spikes before the first step, newest first, ``[H, N, C, ...]``; default: none came before.
    :returns: input currents ``[T + time_padding, N, out, *positions]`` in the dtype of ``spikes``; half precision is
        computed in float32.
    :raises ValueError: for shapes that do not fit, unknown options, a sigma that is not positive, or delays that are
        negative, NaN or longer than ``max_delay``.
    :raises TypeError: if ``spikes`` and ``weight`` have different dtypes (outside autocast) or are not floating point.

    Example::

        >>> import torch
        >>> spikes, weight = torch.zeros(3, 1, 1, 2, 2), torch.ones(1, 1, 1, 1)
        >>> spikes[0] = 1.0
        >>> delayed_convolution(spikes, weight, torch.ones(1, 1, 1, 1), max_delay=1)[:, 0, 0, 0, 0].tolist()
        [0.0, 1.0, 0.0]
    """
    check_convolution(spikes, weight, delay, bias, check_whole("groups", groups, least=1))
    after = padded_steps(time_padding, max_delay)
    before = 0
    if history is not None:
        check_past(history, spikes)
        spikes, before = torch.cat([history.flip(0), spikes]), history.shape[0]
    compute = compute_dtype(spikes, weight)
    space = weight.dim() - 2
    with full_precision(spikes):
        kernel = space_time_kernel(weight.to(compute), delay.to(compute), max_delay, sigma, interpolation)
        over_time = kernel.flip(0).movedim(0, 2)  # [out, C / groups, taps, *kernel]
        trains = spikes.to(compute).movedim(0, 2)  # [N, C, T, ...]
        steps = trains.shape[2] + after
        trains = F.pad(trains, (*[0, 0] * space, kernel.shape[0] - 1, max(after, after + 1 - steps)))  # one step at least
        convolve = F.conv2d if space == 1 else F.conv3d
        stride, dilation = per_axis("stride", stride, space, 1), per_axis("dilation", dilation, space, 1)
        padding = per_axis("padding", padding, space, 0)
        current = convolve(
            trains, over_time, None if bias is None else bias.to(compute), (1, *stride), (0, *padding),
            (1, *dilation), groups,
        )  # fmt: skip
    return current.movedim(2, 0)[before:steps].to(spikes.dtype)


def space_time_kernel(
    weight: Tensor, delay: Tensor, max_delay: int, sigma: float | Tensor | None, interpolation: str
) -> Tensor:
    """``[taps, out, C / groups, *kernel]``: its tap tau weighs the spikes of tau steps ago."""
    if sigma is not None:
        return gaussian_kernel(weight, delay, sigma, max_delay)
    return delay_kernel(weight.flatten(1), delay.flatten(1), max_delay, interpolation).view(-1, *weight.shape)


def per_axis(name: str, value: int | tuple[int, ...], axes: int, least: int) -> tuple[int, ...]:
    """One number per axis of space.

    :raises ValueError: for another count of numbers, or numbers below ``least``. :raises TypeError: for other types.
    """
    values = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{name}: need one number or {axes}, got {value}")
    return tuple(check_whole(name, number, least=least) for number in values)


def check_convolution(
    spikes: Tensor, weight: Tensor, delay: Tensor, bias: Tensor | None, groups: int, steps: bool = True
) -> None:
    check_spikes(spikes)
    for name, value in {"weight": weight, "delay": delay}.items():
        check_tensor(name, value)
    if weight.dim() not in (3, 4):
        raise ValueError(f"weight must be [out, in, kernel] or [out, in, height, width], got {tuple(weight.shape)}")
    if delay.shape != weight.shape:
        raise ValueError(f"delay must have the shape {tuple(weight.shape)} of weight, got {tuple(delay.shape)}")
    if spikes.dim() != weight.dim() + steps or spikes.shape[1 + steps] != weight.shape[1] * groups:
        layout = f"[{'T, ' if steps else ''}N, {weight.shape[1] * groups}, {'L' if weight.dim() == 3 else 'H, W'}]"
        raise ValueError(f"spikes must be {layout}, got shape {tuple(spikes.shape)}")
    if weight.shape[0] % groups:
        raise ValueError(f"groups = {groups} do not divide the {weight.shape[0]} outputs of weight")
    check_bias(bias, weight)
    check_real("delay", delay)
    if not len({spikes.device, weight.device, delay.device}) == 1:
        raise ValueError(f"spikes, weight and delay are on {spikes.device}, {weight.device} and {delay.device}")
    if not (spikes.is_floating_point() and weight.is_floating_point()):
        remedy = "" if spikes.is_floating_point() else "; convert it, e.g. input.float()"
        raise TypeError(f"spikes and weight must be floating point, got {spikes.dtype} and {weight.dtype}{remedy}")
    if spikes.dtype != weight.dtype and not autocasts(spikes):
        raise TypeError(f"spikes are {spikes.dtype} but weight is {weight.dtype}; convert one of them")
