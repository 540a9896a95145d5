"""EventProp layers for SpikingJelly: multi-step modules."""

from __future__ import annotations

from spikingjelly.activation_based.base import StepModule

from .. import eventprop

__all__ = ["EventPropLI", "EventPropLIF"]


class _MultiStep(StepModule):
    """A module whose only step mode is ``"m"``: an event-based layer sees a sample as a whole."""

    _step_mode = "m"

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)


class EventPropLIF(eventprop.EventPropLIF, _MultiStep):
    __doc__ = eventprop.EventPropLIF.__doc__


class EventPropLI(eventprop.EventPropLI, _MultiStep):
    __doc__ = eventprop.EventPropLI.__doc__
