"""What to look at when a network does not learn: who fires, and whom the gradient reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

from matplotlib.axes import Axes
from torch import nn

from ..calibration import LayerRate
from .axes import AxesOptions, axes_for, legend_above, name_places

__all__ = ["gradient_flow", "spikes_per_layer"]


def spikes_per_layer(
    rates: Mapping[str, float] | Mapping[str, LayerRate], ax: Axes | None = None, **axes: Unpack[AxesOptions]
) -> Axes:
    """A bar per spiking layer; a layer without any spike says so.

    :param rates: of :func:`snn_delay_plugins.firing_rates`, or what :func:`snn_delay_plugins.calibrate` returned: bars
        before and after.
    :raises TypeError: for no mapping. :raises ValueError: for no layers, and rates that are negative or not finite.

    Example::

        >>> ax = spikes_per_layer({"1": 0.05, "3": 0.0})
        >>> [text.get_text() for text in ax.texts]
        ['silent']
    """
    if not isinstance(rates, Mapping):
        raise TypeError(f"rates must be a mapping of layers to numbers, as of firing_rates(), got {type(rates).__name__}")
    if not rates:
        raise ValueError("rates holds no layers")
    groups: dict[str, list[float]] = {"": []}
    for rate in rates.values():
        if isinstance(rate, LayerRate):
            groups.setdefault("before", []).append(float(rate.before))
            groups.setdefault("after", []).append(float(rate.after))
        else:
            groups[""].append(float(rate))
    groups = {name: values for name, values in groups.items() if values}
    if {len(values) for values in groups.values()} != {len(rates)}:
        raise ValueError("rates must be numbers, or what calibrate() returned, not a mixture")
    for values in groups.values():
        for layer, rate in zip(rates, values, strict=True):
            if not 0 <= rate < math.inf:
                raise ValueError(f"layer {layer!r}: a rate must be finite and not negative, got {rate}")
    ax = axes_for(ax, axes, xlabel="spiking layer", ylabel="spikes per neuron and step\n(EventProp: and sample)")
    width = 0.8 / len(groups)
    for number, (name, values) in enumerate(groups.items()):
        places = [x + (number - (len(groups) - 1) / 2) * width for x in range(len(rates))]
        ax.bar(places, values, width, color=("tab:blue" if name in ("", "after") else "lightgray"), label=name or None)
        for x, rate in zip(places, values, strict=True):
            if not rate:
                _say(ax, x, "silent")
    name_places(ax, rates)
    if len(groups) > 1:
        legend_above(ax, columns=2)
    return ax


def gradient_flow(net: nn.Module, ax: Axes | None = None, **axes: Unpack[AxesOptions]) -> Axes:
    """Mean and largest gradient of every parameter, between ``loss.backward()`` and ``optimizer.zero_grad()``.

    Parameters that the gradient has not reached, whose gradient is zero, or is NaN or infinite somewhere, say so.

    :raises ValueError: for a network of which no parameter has a gradient.

    Example::

        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> net(torch.ones(2, 3)).sum().backward()
        >>> ax = gradient_flow(net)
        >>> [label.get_text() for label in ax.get_xticklabels()]
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    parameters = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    if all(parameter.grad is None for parameter in parameters.values()):
        raise ValueError("no parameter has a gradient: draw between loss.backward() and optimizer.zero_grad()")
    ax = axes_for(ax, axes, xlabel="", ylabel="|gradient|", figsize=(max(4.8, 0.45 * len(parameters) + 2), 4.4))
    largest, mean, said = {}, {}, {}
    for x, parameter in enumerate(parameters.values()):
        gradient = parameter.grad
        if gradient is None or not gradient.numel():
            said[x] = "no gradient"
        elif not gradient.isfinite().all():
            said[x] = "not finite"
        elif not gradient.any():
            said[x] = "zero"
        else:
            size = gradient.detach().abs().double()
            largest[x], mean[x] = size.max().item(), size.mean().item()
    if largest:
        ax.set_yscale("log")
    ax.bar(list(largest), list(largest.values()), color="lightgray", label="largest")
    ax.bar(list(mean), list(mean.values()), 0.5, color="tab:blue", label="mean")
    for x, why in said.items():
        _say(ax, x, why)
    name_places(ax, parameters)
    ax.set_xlim(-0.6, len(parameters) - 0.4)
    legend_above(ax, columns=2)
    return ax


def _say(ax: Axes, x: float, what: str) -> None:
    """Where a bar would stand."""
    ax.text(x, 0.02, what, rotation=90, ha="center", color="tab:red", fontsize="small", transform=ax.get_xaxis_transform())
