"""Weights and delays of a layer of any kind, as matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..delayed import DiscreteSynapses, WindowedDelays
from ..eventprop import _EventPropLayer
from ..eventprop_convolution import EventPropConv1d, EventPropConv2d
from ..eventprop_discrete import DiscreteEventProp

__all__ = ["Synapses", "synapses_of"]


class Synapses(NamedTuple):
    """Those of a layer, without gradient, on the CPU."""

    weight: Tensor
    """``[out, in]``; of a convolution ``[out, in, *kernel]``."""
    delay: Tensor
    """Of the same shape; NaN where there is no synapse."""
    max_delay: float
    unit: str
    """Of the delays."""
    step: float
    """Of dense spikes, in that unit."""
    shared: str = "synapses"
    """What has a delay of its own: synapses, axons or dendrites."""

    def own_delays(self) -> Tensor:
        """The delays that exist, one for each that is learned."""
        delay = self.delay
        if self.shared == "axons":
            delay = delay[:1] if delay.dim() == 2 else delay[:1].flatten(2)[..., :1]
        elif self.shared == "dendrites":
            delay = delay.flatten(1)[:, :1]
        return delay[~delay.isnan()]


_SHARED = {"axonal": "axons", "dendritic": "dendrites"}


@torch.no_grad()
def synapses_of(layer: nn.Module, recurrent: bool = False) -> Synapses:
    """
    :param recurrent: those between the neurons of an EventProp layer.
    :raises TypeError: for anything else than a layer with delays. :raises ValueError: for one without, or without values.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"expected a layer with delays (DelayedLinear, EventPropLIF ...), got {type(layer).__name__}")
    if any(tensor.is_meta for tensor in layer.state_dict().values()):
        raise ValueError(f"{type(layer).__name__} is on the meta device, where weights and delays have no values")
    if isinstance(layer, _EventPropLayer | EventPropConv1d | EventPropConv2d | DiscreteEventProp):
        return _of_events(layer, "recurrent_" if recurrent else "")
    if recurrent:
        raise ValueError(f"recurrent=True: {type(layer).__name__} has no recurrent synapses")
    if isinstance(layer, DiscreteSynapses):
        return _of_list(layer)
    if not isinstance(layer, WindowedDelays) or not isinstance(getattr(layer, "delay", None), Tensor):
        raise TypeError(f"expected a layer with delays (DelayedLinear, EventPropLIF ...), got {type(layer).__name__}")
    weight = layer.weight.detach().cpu()
    delay = layer.bounded("delay").detach().cpu().expand_as(weight)
    mask = getattr(layer, "mask", None)
    if mask is not None:
        delay = delay.masked_fill(~mask.cpu(), torch.nan)
        weight = weight * mask.cpu()
    shared = _SHARED.get(getattr(layer, "delay_type", ""), "synapses")
    return Synapses(weight, delay, layer.max_delay, "steps", 1.0, shared)


def _of_events(layer: nn.Module, kind: str) -> Synapses:
    weight, delay = getattr(layer, f"{kind}weight", None), getattr(layer, f"{kind}delay", None)
    if weight is None or delay is None:
        missing = "recurrent synapses" if weight is None else f"delays ({kind}delay is None)"
        raise ValueError(f"{type(layer).__name__} has no {missing}")
    weight = weight.detach().cpu()
    delay = delay.detach().cpu().to(weight.dtype).expand_as(weight)
    if isinstance(layer, DiscreteEventProp):
        return Synapses(weight, delay, float(delay.max()), "steps", 1.0)
    return Synapses(weight, delay, layer.max_delay, "ms", layer.dt, _SHARED.get(layer.delay_type, "synapses"))  # pyright: ignore


def _of_list(layer: DiscreteSynapses) -> Synapses:
    senders = torch.repeat_interleave(torch.arange(layer.in_features), layer.starts.cpu().diff())
    at = layer.targets.cpu().long(), senders
    weight = torch.zeros(layer.out_features, layer.in_features, dtype=layer.weights.dtype)
    delay = torch.full_like(weight, torch.nan)
    weight[at], delay[at] = layer.weights.detach().cpu(), layer.delays.cpu().to(weight.dtype)
    return Synapses(weight, delay, layer.max_delay, "steps", 1.0)
