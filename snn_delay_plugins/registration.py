"""Our classes under the frameworks' own names: ``snntorch.AdLIFPlus``, ``neuron.AdLIFPlusNode`` and the like.

Neither framework has a registration API, so that this sets module attributes; :func:`unregister` takes every one back.
"""
from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

__all__ = ["register", "unregister"]

# framework -> (module of the framework, our module, name)
_PLACES = {
    "snntorch": (
        ("snntorch", ".snntorch", "AdLIFPlus"),
        ("snntorch", ".snntorch", "StateAdLIFPlus"),
        ("snntorch", ".snntorch", "DelayedConv1d"),
        ("snntorch", ".snntorch", "DelayedConv2d"),
        ("snntorch", ".snntorch", "DelayedLinear"),
        ("snntorch", ".snntorch", "EventPropLI"),
        ("snntorch", ".snntorch", "EventPropLIF"),
    ),
    "spikingjelly": (
        ("spikingjelly.activation_based.neuron", ".spikingjelly", "AdLIFPlusNode"),
        ("spikingjelly.activation_based.layer", ".spikingjelly", "DelayedConv1d"),
        ("spikingjelly.activation_based.layer", ".spikingjelly", "DelayedConv2d"),
        ("spikingjelly.activation_based.layer", ".spikingjelly", "DelayedLinear"),
        ("spikingjelly.activation_based.layer", ".spikingjelly", "EventPropLI"),
        ("spikingjelly.activation_based.layer", ".spikingjelly", "EventPropLIF"),
    ),
}
_registered: list[tuple[ModuleType, str, object]] = []
_original_reset = _extended_reset = None


def register() -> tuple[str, ...]:
    """Put our classes into the namespaces of the frameworks that are installed.

    After it, ``snntorch.AdLIFPlus``, ``snntorch.DelayedLinear``, ``snntorch.EventPropLIF``,
    ``spikingjelly.activation_based.neuron.AdLIFPlusNode``, ``spikingjelly.activation_based.layer.DelayedLinear`` and the
    like exist, and ``snntorch.utils.reset`` reaches our modules
    at any depth. Calling it again changes nothing; :func:`unregister` undoes all of it.

    :returns: the qualified names that are registered.
    :raises ImportError: if neither framework is installed.
    :raises RuntimeError: if a framework has a name of its own there; nothing is changed then.

    Example::

        >>> import snn_delay_plugins, snntorch
        >>> "snntorch.AdLIFPlus" in snn_delay_plugins.register()
        True
        >>> snntorch.AdLIFPlus is snn_delay_plugins.AdLIFPlus
        True
        >>> snn_delay_plugins.unregister()
    """
    installed = [name for name in _PLACES if importlib.util.find_spec(name)]
    if not installed:
        raise ImportError(
            "neither snnTorch nor SpikingJelly is installed: pip install 'snn_delay_plugins[snntorch]' or "
            "'snn_delay_plugins[spikingjelly]'"
        )
    wanted = []
    for framework in installed:
        for target, source, name in _PLACES[framework]:
            module = importlib.import_module(target)
            ours = getattr(importlib.import_module(source, __package__), name)
            if getattr(module, name, ours) is not ours:
                raise RuntimeError(
                    f"{target}.{name} exists already and is not ours; nothing was registered. "
                    f"Import snn_delay_plugins{source}.{name} instead"
                )
            wanted.append((module, name, ours))
    for module, name, ours in wanted:
        if not hasattr(module, name):
            setattr(module, name, ours)
            _registered.append((module, name, ours))
    if "snntorch" in installed:
        _extend_reset()
    return tuple(f"{module.__name__}.{name}" for module, name, _ in wanted)


def unregister() -> None:
    """Take every name that :func:`register` set out of the frameworks again, and give ``snntorch.utils.reset`` back."""
    global _original_reset, _extended_reset
    while _registered:
        module, name, ours = _registered.pop()
        if getattr(module, name, None) is ours:
            delattr(module, name)
    if _original_reset is not None:
        utils = importlib.import_module("snntorch.utils")
        if utils.reset is _extended_reset:  # else somebody wrapped it after us
            utils.reset = _original_reset
        _original_reset = _extended_reset = None


def _extend_reset() -> None:
    global _original_reset, _extended_reset
    if _original_reset is not None:
        return
    utils = importlib.import_module("snntorch.utils")
    ours = importlib.import_module(".snntorch", __package__)
    _original_reset = original = utils.reset

    @functools.wraps(original)
    def reset(net):
        original(net)
        ours.reset(net)

    utils.reset = _extended_reset = reset
