r"""Convolutions over space whose every connection is a window of taps over time, whatever rule makes the taps
(:mod:`snn_delay_plugins.delays`),

.. math:: I_{i}[t, x] = \sum_j \sum_y \sum_m K_{ij}[y, m]\, s_j[t - \ell_{ij}[y] - m,\, x + y],

with i and j channels, x positions and y the places of the kernel. A delay is a place on the axis of time, so that this is
a causal convolution with one more axis.

Shapes: spikes ``[T, N, C, L]`` or ``[T, N, C, H, W]``; weight and delay ``[out, C / groups, *kernel]``; output
``[T, N, out, *positions]``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_real, check_spikes, check_steps, check_tensor, check_whole
from ..delays import DelayRule
from .inputs import Padding, check_bias, check_dtypes, check_past, compute_dtype, full_precision, padded_steps

__all__ = ["windowed_convolution"]


def windowed_convolution(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    rule: DelayRule,
    max_delay: int,
    parameters: Mapping[str, Tensor | float] | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    time_padding: Padding = "same",
    history: Tensor | None = None,
) -> Tensor:
    """Convolution over one or two axes of space with a window per connection (equation: head of this module).

    :param rule: how weight and delay become taps. :param parameters: its further parameters by name.

    The other arguments, the result and the errors are those of :func:`~.delay_convolution.delayed_convolution`.
    """
    check_convolution(spikes, weight, delay, bias, check_whole("groups", groups, least=1))
    max_delay = check_steps("max_delay", max_delay)
    after = padded_steps(time_padding, max_delay)
    before = 0
    if history is not None:
        check_past(history, spikes)
        spikes, before = torch.cat([history.flip(0), spikes]), history.shape[0]
    compute = compute_dtype(spikes, weight)
    space = weight.dim() - 2
    with full_precision(spikes):
        kernel = rule.over_lags(weight.to(compute), delay.to(compute), max_delay, parameters or {})
        over_time = kernel.flip(0).movedim(0, 2).contiguous()  # [out, C / groups, taps, *kernel]
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
    check_dtypes(spikes, weight)
