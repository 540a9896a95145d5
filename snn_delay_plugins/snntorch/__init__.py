"""Adaptive neurons, delays and EventProp as native snnTorch parts."""

try:
    import snntorch  # noqa: F401
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "snntorch":  # it is there, but a module that it needs is not
        raise
    raise ImportError(
        "snn_delay_plugins.snntorch needs snnTorch >= 1.0: pip install 'snn_delay_plugins[snntorch]'"
    ) from error

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
