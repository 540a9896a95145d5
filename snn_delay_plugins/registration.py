"""Our classes under the frameworks' own names: ``snntorch.AdLIFPlus``, ``neuron.AdLIFPlusNode`` and the like.

No framework has a registration API, so that this sets module attributes; :func:`unregister` takes every one back. Which
names go where, and which of a framework's helpers have to be replaced, its folder says (:mod:`.frameworks`).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from types import ModuleType

from .callers import user_level
from .frameworks import Framework, installed, known

__all__ = ["register", "unregister"]

_registered: list[tuple[ModuleType, str, object]] = []
_replaced: list[tuple[ModuleType, str, object, object]] = []  # module, name, what was there, what is
_reaching: list[str] = []  # frameworks whose helpers reach ours


def register() -> tuple[str, ...]:
    """Put our classes into the namespaces of the frameworks that are installed.

    After it, ``snntorch.AdLIFPlus``, ``snntorch.DelayedLinear``, ``snntorch.EventPropLIF``,
    ``spikingjelly.activation_based.neuron.AdLIFPlusNode``, ``spikingjelly.activation_based.layer.DelayedLinear`` and the
    like exist, and ``snntorch.utils.reset`` and ``snntorch.backprop``'s ``BPTT``, ``TBPTT`` and ``RTRL`` reach our modules
    at any depth, also where they were imported before. Calling it again changes nothing; :func:`unregister` undoes all.

    Every class that our folder of the framework exports is put there, layers beside its layers and neurons beside its
    neurons, except those that no user builds (``DiscreteDelayedLinear`` comes from ``layer.discretize()``).

    :returns: the qualified names that are registered.
    :raises ImportError: if no framework is installed, or none that we can use: one that is too old, beside another, is left
        out with a warning.
    :raises RuntimeError: if a framework has a name of its own there; nothing is changed then.

    Example::

        >>> import snn_delay_plugins, snntorch
        >>> "snntorch.AdLIFPlus" in snn_delay_plugins.register()
        True
        >>> snntorch.AdLIFPlus is snn_delay_plugins.AdLIFPlus
        True
        >>> snn_delay_plugins.unregister()
    """
    present = installed()
    if not present:
        titles = " nor ".join(framework.title for framework in known())
        remedies = " or ".join(framework.remedy for framework in known())
        raise ImportError(f"neither {titles} is installed: {remedies}")
    present = _usable(present)
    wanted = [place for framework in present for place in _free_places(framework)]
    for module, name, ours in wanted:
        if not hasattr(module, name):
            setattr(module, name, ours)
            _registered.append((module, name, ours))
    for framework in present:
        _reach_ours(framework)
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
    _reaching.clear()


def _usable(present: Sequence[Framework]) -> list[Framework]:
    """
    :raises ImportError: of the first, if none is.
    """
    refused: list[ImportError] = []
    usable = []
    for framework in present:
        try:
            framework.load()
            usable.append(framework)
        except ImportError as error:
            refused.append(error)
    if not usable:
        raise refused[0]
    for error in refused:
        warnings.warn(f"left out by register(): {error}", stacklevel=user_level())
    return usable


def _free_places(framework: Framework) -> list[tuple[ModuleType, str, type]]:
    """
    :raises RuntimeError: for one that is taken.
    """
    found = []
    for name, (place, ours) in framework.places().items():
        module = importlib.import_module(place)
        if getattr(module, name, ours) is not ours:
            raise RuntimeError(
                f"{place}.{name} exists already and is not ours; nothing was registered. "
                f"Import {framework.folder}.{name} instead"
            )
        found.append((module, name, ours))
    return found


def _reach_ours(framework: Framework) -> None:
    if framework.name in _reaching:
        return
    _reaching.append(framework.name)
    for module, name, ours in framework.replacements():
        _replaced.append((module, name, getattr(module, name), ours))
        setattr(module, name, ours)
