"""Checks of what goes into layers with delays, and what they compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from ..checks import LONGEST, check_real, check_spikes, check_tensor

__all__ = [
    "Padding", "autocasts", "check_bias", "check_history", "check_input", "check_past", "check_smoothing", "check_synapses",
    "compute_dtype", "full_precision", "padded_steps",
]  # fmt: skip

Padding = Literal["same", "full"] | int
"""Silent steps after the last: their number, all that a spike may need to arrive (``"full"``), or none."""
PADDINGS = ("same", "full")


def full_precision(spikes: Tensor) -> AbstractContextManager:
    """A region without autocast; the meta device knows none."""
    return nullcontext() if spikes.is_meta else torch.autocast(spikes.device.type, enabled=False)


def autocasts(spikes: Tensor) -> bool:
    return not spikes.is_meta and torch.is_autocast_enabled(spikes.device.type)


def compute_dtype(spikes: Tensor, weight: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(spikes.dtype, weight.dtype), torch.float32)


def padded_steps(padding: Padding, longest: int) -> int:
    """How many silent steps ``padding`` appends where the last spike may arrive ``longest`` steps late."""
    if isinstance(padding, str):
        if padding in PADDINGS:
            return longest if padding == "full" else 0
    elif isinstance(padding, Integral) and not isinstance(padding, bool) and 0 <= int(padding) <= LONGEST:
        return int(padding)
    raise ValueError(f"padding must be one of {PADDINGS} or a number of steps >= 0 (most: {LONGEST}), got {padding!r}")


def check_smoothing(smoothing: Tensor) -> None:
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


def check_input(spikes: Tensor, weight: Tensor, bias: Tensor | None, steps: bool) -> None:
    if check_spikes(spikes).dim() != 2 + steps or spikes.shape[-1] != weight.shape[1]:
        layout = f"[{'T, ' if steps else ''}N, {weight.shape[1]}]"
        raise ValueError(f"spikes must be {layout}, got shape {tuple(spikes.shape)}")
    if spikes.device != weight.device:
        raise ValueError(f"spikes are on {spikes.device} but weight on {weight.device}; move one of them")
    check_dtypes(spikes, weight)
    check_bias(bias, weight)


def check_dtypes(spikes: Tensor, weight: Tensor) -> None:
    if not (spikes.is_floating_point() and weight.is_floating_point()):
        remedy = "" if spikes.is_floating_point() else "; convert it, e.g. input.float()"
        raise TypeError(f"spikes and weight must be floating point, got {spikes.dtype} and {weight.dtype}{remedy}")
    if spikes.dtype != weight.dtype and not autocasts(spikes):
        raise TypeError(f"spikes are {spikes.dtype} but weight is {weight.dtype}; convert one of them")


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
