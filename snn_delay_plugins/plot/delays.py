"""Delays of a layer: how they are spread, and which synapse has which."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from torch import nn

from .axes import AxesOptions, axes_for, whole_numbers
from .synapses import synapses_of

__all__ = ["delay_histogram", "delay_matrix"]


def delay_histogram(
    layer: nn.Module, ax: Axes | None = None, *, bins: int = 30, recurrent: bool = False, **axes: Unpack[AxesOptions]
) -> Axes:
    """How many delays of a layer lie where between zero and its longest one.

    :param layer: one with delays: ``DelayedLinear``, ``DelayedConv2d``, ``EventPropLIF``, a discretized layer ... A delay
        that synapses share, axonal or dendritic, counts once; synapses that do not exist do not.
    :param bins: number of bars. :param recurrent: delays between the neurons of an EventProp layer.
    :raises TypeError: for another kind of layer. :raises ValueError: for one without delays.

    Example::

        >>> from snn_delay_plugins import EventPropLIF
        >>> ax = delay_histogram(EventPropLIF(20, 10, delay="uniform", max_delay=50.0), bins=10)
        >>> int(sum(bar.get_height() for bar in ax.patches))
        200
    """
    synapses = synapses_of(layer, recurrent)
    delays = synapses.own_delays()
    longest = float(synapses.max_delay) if math.isfinite(synapses.max_delay) else max(delays.tolist(), default=0.0)
    ax = axes_for(ax, axes, xlabel=f"delay ({synapses.unit})", ylabel=synapses.shared)
    ax.hist(delays.numpy(), bins=bins, range=(0.0, longest or 1.0), color="tab:blue", edgecolor="white", linewidth=0.4)
    ax.set_xlim(0.0, longest or 1.0)
    return ax


def delay_matrix(
    layer: nn.Module,
    ax: Axes | None = None,
    *,
    recurrent: bool = False,
    plot_colorbar: bool = True,
    cmap: Any = "viridis",
    **axes: Unpack[AxesOptions],
) -> Axes:
    """The delay of every synapse, receivers down, senders along; blank where there is none.

    :param layer: as in :func:`delay_histogram`; of a convolution the taps of all input channels lie side by side.
    :param recurrent: delays between the neurons of an EventProp layer. :param plot_colorbar: draw the scale beside it.
    :raises TypeError: for another kind of layer. :raises ValueError: for one without delays.

    Example::

        >>> from snn_delay_plugins import EventPropLIF
        >>> ax = delay_matrix(EventPropLIF(20, 10, delay="uniform", max_delay=50.0))
        >>> ax.images[0].get_array().shape
        (10, 20)
    """
    synapses = synapses_of(layer, recurrent)
    delays = np.ma.masked_invalid(synapses.delay.flatten(1).numpy())
    longest = synapses.max_delay if math.isfinite(synapses.max_delay) else None
    taps = synapses.delay.dim() > 2
    ax = axes_for(ax, axes, xlabel="tap of the kernel" if taps else "sender", ylabel="channel" if taps else "receiver")
    image = ax.imshow(delays, vmin=0.0, vmax=longest, cmap=cmap, aspect="auto", interpolation="nearest")
    whole_numbers(ax.xaxis, ax.yaxis)
    if plot_colorbar:
        ax.figure.colorbar(image, ax=ax, label=f"delay ({synapses.unit})")
    return ax
