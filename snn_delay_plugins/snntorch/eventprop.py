"""EventProp layers for snnTorch: sequence modules beside ``StateLeaky``, on (T, B, C) or on events.

snnTorch's contract for a module that takes whole sequences is (T, B, C) in and out and nothing else; the layers keep no
state, so that ``utils.reset`` has nothing to do for them.
"""

from ..eventprop import EventPropLI, EventPropLIF
from ..eventprop_convolution import EventPool1d, EventPool2d, EventPropConv1d, EventPropConv2d
from ..eventprop_linear import EventPropAdLIF, EventPropLinear
from ..eventprop_linear_readout import EventPropAdaptiveLI, EventPropLinearLI

__all__ = [
    "EventPool1d", "EventPool2d", "EventPropAdLIF", "EventPropAdaptiveLI", "EventPropConv1d", "EventPropConv2d",
    "EventPropLI", "EventPropLIF", "EventPropLinear", "EventPropLinearLI",
]  # fmt: skip
