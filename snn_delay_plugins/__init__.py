"""Adaptive neurons, learnable synaptic delays and EventProp with delays for snnTorch and SpikingJelly.

``snn_delay_plugins.snntorch`` and ``snn_delay_plugins.spikingjelly`` hold the parts of each framework,
``snn_delay_plugins.functional`` the maths. Every class of a framework can be imported from here too, and has one meaning
whatever is installed: ``AdLIFPlusNode`` is SpikingJelly's, and a name that both have (``DelayedLinear``) is snnTorch's, as
``AdLIFPlus`` is. Where snnTorch is missing such a name is an ImportError that says from where to import SpikingJelly's.

A framework is imported when one of its names is asked for; until then torch alone is needed.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import delays, eventprop, events, frameworks, functional, models, parameters, schedules, snntorch, spikingjelly
    from . import plot as plot
    from . import testing as testing
    from .calibration import calibrate, firing_rates
    from .eventprop import EventPropLI, EventPropLIF
    from .eventprop_convolution import EventPool1d, EventPool2d, EventPropConv1d, EventPropConv2d
    from .eventprop_linear import EventPropAdLIF, EventPropLinear
    from .eventprop_linear_readout import EventPropAdaptiveLI, EventPropLinearLI
    from .events import SpikeEvents
    from .operations import synaptic_operations
    from .registration import register, unregister
    from .spikingjelly import *  # noqa: F403
if TYPE_CHECKING:  # after the others: names that both have are its
    from .snntorch import *  # noqa: F403

__version__ = "0.1.0"

# public name -> the module it comes from, imported when the name is asked for; those of frameworks: see .frameworks
_NAMES = {
    "EventPool1d": ".eventprop_convolution",
    "EventPool2d": ".eventprop_convolution",
    "EventPropAdLIF": ".eventprop_linear",
    "EventPropAdaptiveLI": ".eventprop_linear_readout",
    "EventPropConv1d": ".eventprop_convolution",
    "EventPropConv2d": ".eventprop_convolution",
    "EventPropLI": ".eventprop",
    "EventPropLIF": ".eventprop",
    "EventPropLinear": ".eventprop_linear",
    "EventPropLinearLI": ".eventprop_linear_readout",
    "SpikeEvents": ".events",
    "calibrate": ".calibration",
    "firing_rates": ".calibration",
    "register": ".registration",
    "synaptic_operations": ".operations",
    "unregister": ".registration",
}
_SUBMODULES = (
    "delays", "eventprop", "events", "frameworks", "functional", "models", "parameters", "plot", "schedules", "testing",
)  # fmt: skip

# what needs no framework: `from snn_delay_plugins import *` works whatever is installed
__all__ = [
    "EventPool1d", "EventPool2d", "EventPropAdLIF", "EventPropAdaptiveLI", "EventPropConv1d", "EventPropConv2d",
    "EventPropLI", "EventPropLIF", "EventPropLinear", "EventPropLinearLI", "SpikeEvents", "__version__", "calibrate",
    "delays", "eventprop", "events", "firing_rates", "frameworks", "functional", "models", "parameters", "register",
    "schedules", "synaptic_operations", "unregister",
]  # fmt: skip
if TYPE_CHECKING:
    __all__ += ["snntorch", "spikingjelly"]
    __all__ += snntorch.__all__
    __all__ += spikingjelly.__all__


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name], __name__), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        value = _of_frameworks(name)
    globals()[name] = value
    return value


def _of_frameworks(name: str) -> Any:
    """The folder of a framework, or a class in it."""
    known = () if name.startswith("_") else importlib.import_module(".frameworks", __name__).known()
    for framework in known:
        if name == framework.name:
            return framework.load()
    owners = [framework for framework in known if name in framework.names]
    if not owners:
        module = sys.modules[__name__]  # with it Python suggests the name that was meant
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=module)
    owner, *others = owners
    try:
        folder = owner.load()
    except ImportError as error:
        elsewhere = [f"{other.title}'s: from {other.folder} import {name}" for other in others if other.is_installed()]
        if not elsewhere:
            raise
        raise ImportError(f"{name} of {__name__} is {owner.title}'s. {error}. {'; '.join(elsewhere)}") from error
    return getattr(folder, name)


def __dir__() -> list[str]:
    known = importlib.import_module(".frameworks", __name__).known()
    of_frameworks = {name for framework in known for name in (framework.name, *framework.names)}
    return sorted({"__version__", *_NAMES, *_SUBMODULES, *of_frameworks})
