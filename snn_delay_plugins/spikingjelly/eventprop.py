"""EventProp layers for SpikingJelly: multi-step modules."""

from __future__ import annotations

from spikingjelly.activation_based.base import StepModule

from .. import eventprop, eventprop_convolution, eventprop_linear, eventprop_linear_readout

__all__ = [
    "EventPool1d", "EventPool2d", "EventPropAdLIF", "EventPropAdaptiveLI", "EventPropConv1d", "EventPropConv2d",
    "EventPropLI", "EventPropLIF", "EventPropLinear", "EventPropLinearLI",
]  # fmt: skip


class _MultiStep(StepModule):
    """A module whose only step mode is ``"m"``: an event-based layer sees a sample as a whole."""

    _step_mode = "m"

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)


class EventPropLIF(eventprop.EventPropLIF, _MultiStep):
    __doc__ = eventprop.EventPropLIF.__doc__


class EventPropLI(eventprop.EventPropLI, _MultiStep):
    __doc__ = eventprop.EventPropLI.__doc__


class EventPropLinear(eventprop_linear.EventPropLinear, _MultiStep):
    __doc__ = eventprop_linear.EventPropLinear.__doc__


class EventPropAdLIF(eventprop_linear.EventPropAdLIF, _MultiStep):
    __doc__ = eventprop_linear.EventPropAdLIF.__doc__


class EventPropLinearLI(eventprop_linear_readout.EventPropLinearLI, _MultiStep):
    __doc__ = eventprop_linear_readout.EventPropLinearLI.__doc__


class EventPropAdaptiveLI(eventprop_linear_readout.EventPropAdaptiveLI, _MultiStep):
    __doc__ = eventprop_linear_readout.EventPropAdaptiveLI.__doc__


class EventPropConv1d(eventprop_convolution.EventPropConv1d, _MultiStep):
    __doc__ = eventprop_convolution.EventPropConv1d.__doc__


class EventPropConv2d(eventprop_convolution.EventPropConv2d, _MultiStep):
    __doc__ = eventprop_convolution.EventPropConv2d.__doc__


class EventPool1d(eventprop_convolution.EventPool1d, _MultiStep):
    __doc__ = eventprop_convolution.EventPool1d.__doc__


class EventPool2d(eventprop_convolution.EventPool2d, _MultiStep):
    __doc__ = eventprop_convolution.EventPool2d.__doc__
