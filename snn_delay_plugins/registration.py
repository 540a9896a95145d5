"""Our classes under the frameworks' own names: ``snntorch.AdLIFPlus``, ``neuron.AdLIFPlusNode`` and the like.

Neither framework has a registration API, so that this sets module attributes; :func:`unregister` takes every one back.
Those that make snnTorch's helpers reach our modules are in :mod:`.snntorch.helpers`.
"""

from __future__ import annotations

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
_replaced: list[tuple[ModuleType, str, object, object]] = []  # module, name, what was there, what is


def register() -> tuple[str, ...]:
    """Put our classes into the namespaces of the frameworks that are installed.

    After it, ``snntorch.AdLIFPlus``, ``snntorch.DelayedLinear``, ``snntorch.EventPropLIF``,
    ``spikingjelly.activation_based.neuron.AdLIFPlusNode``, ``spikingjelly.activation_based.layer.DelayedLinear`` and the
    like exist, and ``snntorch.utils.reset`` and ``snntorch.backprop``'s ``BPTT``, ``TBPTT`` and ``RTRL`` reach our modules
    at any depth, also where they were imported before. Calling it again changes nothing; :func:`unregister` undoes all.

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
        _reach_ours()
    return tuple(f"{module.__name__}.{name}" for module, name, _ in wanted)


def unregister() -> None:
    """Take every name that :func:`register` set out of the frameworks again, and put back what it replaced.

    What somebody else replaced after us is left to them.
    """
    while _registered:
        module, name, ours = _registered.pop()
        if getattr(module, name, None) is ours:
            delattr(module, name)
    while _replaced:
        module, name, original, ours = _replaced.pop()
        if getattr(module, name, None) is ours:
            setattr(module, name, original)


def _reach_ours() -> None:
    if _replaced:
        return
    for module, name, ours in importlib.import_module(".snntorch.helpers", __package__).replacements():
        _replaced.append((module, name, getattr(module, name), ours))
        setattr(module, name, ours)
