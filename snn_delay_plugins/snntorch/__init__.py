"""Adaptive neurons, delays and EventProp as native snnTorch parts."""

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
    from .neuron import AdLIFPlus, StateAdLIFPlus
    from .recurrent import DelayedRecurrent
    from .reset import detach, reset

if TYPE_CHECKING:
    from .model import SequenceNeuron, StepNeuron

    def __getattr__(name: str) -> type[StepNeuron] | type[SequenceNeuron]:
        """Neurons that are made of models, as type checkers see them."""
        ...


__all__ = [
    "AdLIFPlus", "DelayedConv1d", "DelayedConv2d", "DelayedLinear", "DelayedRecurrent", "DiscreteDelayedLinear",
    "EventPool1d", "EventPool2d", "EventPropAdLIF", "EventPropAdaptiveLI", "EventPropConv1d", "EventPropConv2d",
    "EventPropLI", "EventPropLIF", "EventPropLinear", "EventPropLinearLI", "StateAdLIFPlus", "detach", "from_model",
    "reset",
]  # fmt: skip

__all__ += list(NEURONS)  # one or two classes for every model of snn_delay_plugins.models
globals().update(NEURONS)
