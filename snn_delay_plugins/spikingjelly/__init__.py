"""Adaptive neurons, delays and EventProp as native SpikingJelly parts."""

from typing import TYPE_CHECKING

from .framework import FRAMEWORK

with FRAMEWORK.needed():
    from .convolution import DelayedConv1d, DelayedConv2d
    from .eventprop import (
        EventPool1d,
        EventPool2d,
        EventPropAdaptiveLI,
        EventPropAdLIF,
        EventPropConv1d,
        EventPropConv2d,
        EventPropLI,
        EventPropLIF,
        EventPropLinear,
        EventPropLinearLI,
    )
    from .layer import DelayedLinear, DiscreteDelayedLinear
    from .model import from_model
    from .models import NEURONS
    from .neuron import AdLIFPlusNode
    from .recurrent import DelayedRecurrent

if TYPE_CHECKING:
    from .model import Node

    def __getattr__(name: str) -> type[Node]:
        """Neurons that are made of models, as type checkers see them."""
        ...


__all__ = [
    "AdLIFPlusNode", "DelayedConv1d", "DelayedConv2d", "DelayedLinear", "DelayedRecurrent", "DiscreteDelayedLinear",
    "EventPool1d", "EventPool2d", "EventPropAdLIF", "EventPropAdaptiveLI", "EventPropConv1d", "EventPropConv2d",
    "EventPropLI", "EventPropLIF", "EventPropLinear", "EventPropLinearLI", "from_model",
]  # fmt: skip

__all__ += list(NEURONS)  # one or two classes for every model of snn_delay_plugins.models
globals().update(NEURONS)
