"""AdLIF+ neurons, learnable synaptic delays and EventProp with delays for snnTorch and SpikingJelly.

``from snn_delay_plugins import AdLIFPlus`` gives the snnTorch neuron; ``snn_delay_plugins.snntorch`` and
``snn_delay_plugins.spikingjelly`` hold the parts of each framework, ``snn_delay_plugins.functional`` the maths.
A framework is imported when one of its names is asked for; until then torch alone is needed.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0.dev0"

# public name -> the module it comes from, imported when the name is asked for
_NAMES = {
    "AdLIFPlus": ".snntorch",
    "StateAdLIFPlus": ".snntorch",
    "AdLIFPlusNode": ".spikingjelly",
    "EventPropLI": ".eventprop",
    "EventPropLIF": ".eventprop",
    "SpikeEvents": ".events",
    "calibrate": ".calibration",
    "register": ".registration",
    "unregister": ".registration",
}
_SUBMODULES = ("eventprop", "events", "functional", "parameters", "schedules", "snntorch", "spikingjelly")

# what needs no framework: `from snn_delay_plugins import *` works whichever of the two is installed
__all__ = [
    "EventPropLI", "EventPropLIF", "SpikeEvents", "__version__", "calibrate", "eventprop", "events", "functional",
    "parameters", "register", "schedules", "unregister",
]  # fmt: skip


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name], __name__), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *_NAMES, *_SUBMODULES})
