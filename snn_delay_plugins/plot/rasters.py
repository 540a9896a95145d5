"""Spikes over time, and where they arrive."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from ..events import SpikeEvents
from .axes import AxesOptions, axes_for, whole_numbers
from .synapses import synapses_of

__all__ = ["arrivals", "raster"]

EXCITATORY, INHIBITORY = "tab:blue", "tab:red"


class _Spikes(NamedTuple):
    times: Tensor
    units: Tensor
    end: float
    num_units: int


def _spikes(data: Tensor | np.ndarray | SpikeEvents, sample: int, step: float = 1.0) -> _Spikes:
    """Those of one sample, of which dense ones are ``step`` apart."""
    if isinstance(data, SpikeEvents):
        one = data.detach()[sample]
        return _Spikes(one.times.cpu().double(), one.units.cpu(), one.duration, one.num_units)
    try:
        dense = torch.as_tensor(data).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected SpikeEvents or spikes [T, neurons] or [T, N, *], got {type(data).__name__}") from error
    if dense.dim() < 2:
        raise ValueError(f"expected spikes [T, neurons] or [T, N, *], got shape {tuple(dense.shape)}")
    if dense.dim() > 2:
        if not -dense.shape[1] <= sample < dense.shape[1]:
            raise IndexError(f"sample {sample} of a batch of {dense.shape[1]}")
        dense = dense[:, sample].flatten(1)
    when, who = dense.nonzero(as_tuple=True)
    return _Spikes(when.double() * step, who, len(dense) * step, dense.shape[1])


def raster(
    data: Tensor | np.ndarray | SpikeEvents,
    ax: Axes | None = None,
    *,
    sample: int = 0,
    title: str | None = None,
    xlabel: str | None = None,
    ylabel: str = "neuron",
    figsize: tuple[float, float] | None = None,
    dpi: float | None = None,
    **kwargs: Any,
) -> Axes:
    """A mark for every spike.

    :param data: spikes ``[T, neurons]``, a batch ``[T, N, *]`` or :class:`~snn_delay_plugins.SpikeEvents`.
    :param sample: which one of a batch.
    :param kwargs: of ``Axes.scatter``, as in snnTorch: ``s=1.5, c="black"``.
    :raises TypeError, ValueError, IndexError: for data that are no spikes, and a sample that is not there.

    Example::

        >>> import torch
        >>> ax = raster((torch.rand(100, 8, 30) < 0.1).float(), sample=3, c="tab:blue")
        >>> ax.get_xlabel()
        'time step'
    """
    spikes = _spikes(data, sample)
    options: AxesOptions = {"ylabel": ylabel}
    if figsize is not None:
        options["figsize"] = figsize
    if title is not None:
        options["title"] = title
    if dpi is not None:
        options["dpi"] = dpi
    label = "time (ms)" if isinstance(data, SpikeEvents) else "time step"
    ax = axes_for(ax, options, xlabel=label if xlabel is None else xlabel, ylabel=ylabel)
    marks = {"s": 8.0, "marker": "|", "linewidths": 0.8} | ({} if {"c", "color"} & set(kwargs) else {"c": "black"})
    ax.scatter(spikes.times.numpy(), spikes.units.numpy(), **{**marks, **kwargs})
    whole_numbers(ax.yaxis)
    ax.set(xlim=(0.0, spikes.end), ylim=(-0.5, spikes.num_units - 0.5))
    return ax


def arrivals(
    data: Tensor | np.ndarray | SpikeEvents,
    layer: nn.Module,
    neuron: int,
    ax: Axes | None = None,
    *,
    sample: int = 0,
    senders: int = 30,
    **axes: Unpack[AxesOptions],
) -> Axes:
    """Spikes on their way to one neuron: sent at the black mark, there at the dot, blue excites, red inhibits.

    :param data: the input of ``layer``, as in :func:`raster`. :param layer: a linear layer with delays.
    :param neuron: the receiver. :param sample: which one of a batch.
    :param senders: how many are drawn: of those that spiked the ones with the largest weights, the largest on top.
    :raises TypeError, ValueError, IndexError: for layers without delays, convolutions, data that do not fit the layer, and
        a neuron or sample that is not there.

    Example::

        >>> import torch
        >>> from snn_delay_plugins import EventPropLIF, SpikeEvents
        >>> layer = EventPropLIF(5, 2, delay=3.0)
        >>> events = SpikeEvents.from_lists([[1.0, 4.0]], [[0, 3]], num_units=5, duration=10.0)
        >>> ax = arrivals(events, layer, neuron=1)
        >>> sorted(ax.collections[-1].get_offsets()[:, 0].tolist())
        [4.0, 7.0]
    """
    synapses = synapses_of(layer)
    if synapses.weight.dim() != 2:
        raise ValueError(f"arrivals are those of linear layers, got {type(layer).__name__}")
    receivers, channels = synapses.weight.shape
    if not -receivers <= neuron < receivers:
        raise IndexError(f"neuron {neuron} of a layer of {receivers}")
    spikes = _spikes(data, sample, synapses.step)
    if spikes.num_units != channels:
        raise ValueError(f"{type(layer).__name__} has {channels} inputs, the data {spikes.num_units}")
    if synapses.unit == "steps" and isinstance(data, SpikeEvents):
        raise ValueError(f"delays of {type(layer).__name__} are steps: give spikes [T, neurons], as of events.to_dense(dt)")
    weight, delay = synapses.weight[neuron], synapses.delay[neuron]
    exists = ~delay.isnan()
    fired = torch.zeros(channels, dtype=torch.bool)
    fired[spikes.units] = True
    order = [int(i) for i in weight.abs().argsort(descending=True, stable=True) if fired[i] and exists[i]][:senders]
    row = torch.full((channels,), -1)
    row[order] = torch.arange(len(order))
    shown = row[spikes.units] >= 0
    sent, who = spikes.times[shown], spikes.units[shown]
    there, rows = sent + delay[who].double(), row[who]
    colours = [INHIBITORY if inhibits else EXCITATORY for inhibits in (weight[who] < 0).tolist()]
    unit = {"steps": "time step", "ms": "time (ms)"}[synapses.unit]
    ax = axes_for(ax, axes, xlabel=unit, ylabel=f"senders to neuron {neuron}, by weight")
    lines = torch.stack([torch.stack([sent, rows.double()], 1), torch.stack([there, rows.double()], 1)], 1)
    ax.add_collection(LineCollection(list(lines.numpy()), colors=colours, linewidths=0.7, alpha=0.5))
    ax.scatter(sent.numpy(), rows.numpy(), s=18.0, marker="|", c="black", linewidths=0.8)
    ax.scatter(there.numpy(), rows.numpy(), s=7.0, c=colours)
    ax.set_yticks(range(len(order)), list(map(str, order)), fontsize="x-small")
    last = 1.02 * max([0.0, *there.tolist()])  # a whole dot
    ax.set(xlim=(0.0, max(spikes.end, last)), ylim=(len(order) - 0.5, -0.5))
    return ax
