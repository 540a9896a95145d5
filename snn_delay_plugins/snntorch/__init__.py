"""Adaptive neurons, delays and EventProp as native snnTorch parts."""

from .framework import FRAMEWORK

with FRAMEWORK.needed():
    from .convolution import DelayedConv1d, DelayedConv2d
    from .eventprop import EventPropLI, EventPropLIF
    from .layer import DelayedLinear, DiscreteDelayedLinear
    from .model import from_model
    from .models import NEURONS
    from .neuron import AdLIFPlus, StateAdLIFPlus
    from .reset import detach, reset

__all__ = [
    "AdLIFPlus", "DelayedConv1d", "DelayedConv2d", "DelayedLinear", "DiscreteDelayedLinear", "EventPropLI",
    "EventPropLIF", "StateAdLIFPlus", "detach", "from_model", "reset",
]  # fmt: skip

__all__ += list(NEURONS)  # one or two classes for every model of snn_delay_plugins.models
globals().update(NEURONS)
