"""Pooling of events in space.

``"sum"``: a unit of the output fires with every spike of its window, at its time: the sum of the spike trains, which is
sum pooling of dense spike counts at every dt, linear, and exact in every gradient. It is also what maximum pooling of
trains of zeros and ones gives (a pooled unit fires where any unit fires) as long as no two spikes of a window meet, and in
continuous time they meet with probability zero. Average pooling is the sum with the weights behind it divided by the
window's size.

``"first"``: a unit of the output fires once, with the first spike of its window in a sample: the minimum of the spike
times, the maximum pooling of networks that code by latency. Its gradient goes to that spike alone, as that of a maximum.
It keeps layers behind it sparse, and it drops spikes.
"""

from __future__ import annotations

from typing import Literal

import torch

from ..checks import check_choice
from ..events import SpikeEvents
from ..kernels.event_patches.operator import event_pairs
from ..kernels.event_patches.wiring import space_of, wiring
from .eventprop_convolution import PerAxis
from .window_convolution import per_axis

__all__ = ["pool_events"]

Pooling = Literal["sum", "first"]
POOLING: tuple[Pooling, ...] = ("sum", "first")


def pool_events(
    events: SpikeEvents, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0, *, mode: Pooling = "sum"
) -> SpikeEvents:
    """Events of units (channels, *space), pooled over space (module heading).

    Parameters
    ----------
    events : SpikeEvents
        Units of shape (channels, length), (channels, height, width) ...
    kernel_size, stride, padding
        As in :func:`torch.nn.functional.avg_pool2d`; windows may overlap, what lies in none is dropped, and padding fires
        no spikes.
    mode : str
        ``"sum"`` or ``"first"``.

    Returns
    -------
    SpikeEvents
        Times (and ``potential``) differentiable with respect to those of ``events``.

    Raises
    ------
    TypeError, ValueError
        no events, units without such a shape, windows that do not fit.

    Examples
    --------
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.event_pooling import pool_events
    >>> row = SpikeEvents.from_lists([[1.0, 2.0, 3.0]], [[1, 0, 3]], num_units=4, duration=9.0).reshape(1, 4)
    >>> pool_events(row, 2).units.tolist(), pool_events(row, 2, mode="first").times.tolist()
    ([0, 0, 1], [1.0, 3.0])
    """
    check_choice("mode", mode, POOLING)
    axes = len(events.unit_shape) - 1 if isinstance(events, SpikeEvents) else 1
    channels, space = space_of(events, max(axes, 1))
    kernel = per_axis("kernel_size", kernel_size, axes, least=1)
    strides = kernel if stride is None else per_axis("stride", stride, axes, least=1)
    paddings = per_axis("padding", padding, axes, least=0)
    if any(2 * p > k for p, k in zip(paddings, kernel, strict=True)):
        raise ValueError(f"padding = {padding} must be at most half of kernel_size = {kernel_size}")
    wired = wiring(space, kernel, strides, paddings, (1,) * axes)
    starts, patches, _ = wired.lists(events.device)
    sites = starts.shape[0] - 1
    site = events.units % sites
    event, pair = event_pairs(starts.diff()[site], starts[site])
    units = (events.units // sites)[event] * wired.num_patches + patches[pair]
    samples, num_units = events.samples()[event], channels * wired.num_patches
    if mode == "first":
        chosen = _first_of(samples * num_units + units, events.batch_size * num_units)
        event, units, samples = event[chosen], units[chosen], samples[chosen]
    ends = torch.bincount(samples, minlength=events.batch_size).cumsum(0)
    potential = None if events.potential is None else events.potential[event]
    return SpikeEvents._trusted(
        events.times[event], units, torch.cat([ends.new_zeros(1), ends]), num_units, events.duration, potential,
        (channels, *wired.out_space),
    )  # fmt: skip


def _first_of(keys: torch.Tensor, count: int) -> torch.Tensor:
    """The place of the first of every key, in order."""
    places = torch.arange(keys.shape[0], device=keys.device)
    first = torch.full((count,), keys.shape[0], dtype=torch.int64, device=keys.device)
    first.scatter_reduce_(0, keys, places, reduce="amin")
    return places[first[keys] == places]
