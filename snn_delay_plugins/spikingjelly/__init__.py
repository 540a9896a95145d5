"""Adaptive neurons, delays and EventProp as native SpikingJelly parts."""

from .framework import FRAMEWORK

with FRAMEWORK.needed():
    from .convolution import DelayedConv1d, DelayedConv2d
    from .eventprop import EventPropLI, EventPropLIF
    from .layer import DelayedLinear, DiscreteDelayedLinear
    from .model import from_model
    from .models import NEURONS
    from .neuron import AdLIFPlusNode

__all__ = [
    "AdLIFPlusNode", "DelayedConv1d", "DelayedConv2d", "DelayedLinear", "DiscreteDelayedLinear", "EventPropLI",
    "EventPropLIF", "from_model",
]  # fmt: skip

__all__ += list(NEURONS)  # one or two classes for every model of snn_delay_plugins.models
globals().update(NEURONS)
