"""A synapse's kernel over the lags, and how training moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from ..delayed import WindowedDelays
from ..functional.windows import smoothed_kernel
from .axes import AxesOptions, axes_for, whole_numbers

__all__ = ["kernel", "kernels_over_training"]


@torch.no_grad()
def kernel(layer: WindowedDelays, synapse: tuple[int, ...]) -> Tensor:
    """How a spike of one synapse is weighed over the next steps, ``[max_delay + 2]``, on the CPU.

    :param layer: ``DelayedLinear``, ``DelayedConv2d`` ... in training or evaluation, whose rules may differ.
    :param synapse: (receiver, sender); of a convolution the index of a tap in ``layer.weight``.
    :raises TypeError: for a layer of another kind. :raises IndexError: for a synapse that it does not have.

    Example::

        >>> from snn_delay_plugins.spikingjelly import DelayedLinear
        >>> layer = DelayedLinear(2, 1, max_delay=3, delay=1.25)
        >>> _ = layer.weight.data.fill_(2.0)
        >>> kernel(layer, (0, 1)).tolist()
        [0.0, 1.5, 0.5, 0.0, 0.0]
    """
    if not isinstance(layer, WindowedDelays):
        raise TypeError(f"expected DelayedLinear, DelayedConv1d or DelayedConv2d, got {type(layer).__name__}")
    shape = layer.weight.shape
    if len(synapse) != len(shape) or any(not -size <= i < size for i, size in zip(synapse, shape, strict=False)):
        raise IndexError(f"synapse must be an index into the weight of shape {tuple(shape)}, got {tuple(synapse)}")
    rule, of = layer.active_rule, lambda value: value.detach().expand(shape)[synapse].view(1, 1).cpu()
    weight = of(layer.weight)
    mask = getattr(layer, "mask", None)
    if mask is not None:
        weight = weight * of(mask)
    values = {name: of(value) for name, value in layer.rule_values(rule).items()}
    taps = rule.over_lags(weight, of(layer.bounded("delay")).to(weight.dtype), layer.max_delay, values)
    smoothing = getattr(layer, "smoothing", None)
    taps = smoothed_kernel(taps, None if smoothing is None else smoothing.cpu())[:, 0, 0]
    return F.pad(taps, (0, max(0, layer.max_delay + 2 - len(taps))))


def kernels_over_training(
    kernels: Sequence[Tensor] | Tensor, ax: Axes | None = None, *, plot_colorbar: bool = True, **axes: Unpack[AxesOptions]
) -> Axes:
    """The kernel of one synapse after each epoch: epochs along, lags up, the weight as colour.

    :param kernels: what :func:`kernel` gave after each epoch, ``[epochs, lags]``.
    :raises ValueError: for kernels of different lengths, or none.

    Example::

        >>> import torch
        >>> ax = kernels_over_training([torch.eye(5)[1], torch.eye(5)[2], torch.eye(5)[2]])
        >>> ax.images[0].get_array().shape
        (5, 3)
    """
    taps = [torch.as_tensor(one).detach().cpu() for one in kernels]
    if not taps or {one.shape for one in taps} != {taps[0].shape} or taps[0].dim() != 1:
        raise ValueError(
            "kernels must be [epochs, lags], a kernel per epoch and all of one length, got "
            f"{[tuple(one.shape) for one in taps[:4]]}"
        )
    weights = torch.stack(taps).T.double().numpy()
    most = float(abs(weights).max()) or 1.0
    ax = axes_for(ax, axes, xlabel="epoch", ylabel="lag (steps)")
    extent = cast("tuple[float, float, float, float]", (-0.5, len(taps) - 0.5, -0.5, len(weights) - 0.5))
    image = ax.imshow(
        weights, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest", extent=extent
    )
    whole_numbers(ax.xaxis, ax.yaxis)
    if plot_colorbar:
        ax.figure.colorbar(image, ax=ax, label="weight of a spike")
    return ax
