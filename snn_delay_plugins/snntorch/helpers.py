"""snnTorch's own helpers, ``utils.reset`` and ``backprop``, over networks that hold our modules.

Both go by closed lists of snnTorch's classes. What follows are names inside of snnTorch's modules and what has to stand
in their place so that ours are met too, in functions that a user imported before as well: ``reset`` looks up
``_layer_check`` in ``snntorch.utils`` when it runs, and ``BPTT``, ``TBPTT`` and ``RTRL`` look up ``utils`` and ``snn`` in
``snntorch.backprop``. Networks without our modules are treated as ever. :func:`snn_delay_plugins.register` sets the names,
:func:`~snn_delay_plugins.unregister` puts the old ones back.
"""

from __future__ import annotations

import functools
import importlib
import threading
import warnings
import weakref
from types import ModuleType

from torch import nn

from ..parameters import BoundedModule
from .model import StepNeuron
from .reset import detach_ours, reset_ours

__all__ = ["goes_by_a_list", "reaches_ours", "replacements"]


def replacements() -> list[tuple[ModuleType, str, object]]:
    """(module of snnTorch, name, what has to stand there)."""
    utils = importlib.import_module("snntorch.utils")
    name = "_layer_check" if goes_by_a_list(utils) else "reset"
    found: list[tuple[ModuleType, str, object]] = [(utils, name, _followed_by_reset(getattr(utils, name)))]
    backprop = _backprop()
    if backprop is not None:
        snn, run = importlib.import_module("snntorch"), _Run(utils)
        found += [
            (backprop, "utils", _View(utils, reset=run.reset, _final_layer_check=_final_layer_check, is_slstm="is ours")),
            (backprop, "snn", _View(snn, SLSTM=run)),
        ]
    return found


def goes_by_a_list(utils: ModuleType) -> bool:
    """Whether ``utils.reset`` looks for a closed list of classes, as snnTorch 1.0's does in ``_layer_check``."""
    return "_layer_check" in utils.reset.__code__.co_names


def reaches_ours(utils: ModuleType) -> bool:
    """Whether ``utils.reset`` resets modules of this package, which is so after ``register()``."""
    return any(hasattr(getattr(utils, name, None), "reaches_ours") for name in ("_layer_check", "reset"))


def _backprop() -> ModuleType | None:
    """``snntorch.backprop``, whose announcement that it will go is not for those who only register our classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module("snntorch.backprop")
        except ModuleNotFoundError:
            return None


def _followed_by_reset(original):
    @functools.wraps(original)
    def extended(net):
        result = original(net)
        reset_ours(net)
        return result

    vars(extended)["reaches_ours"] = True
    return extended


class _View(ModuleType):
    """A module with some of its names replaced, as another one sees it."""

    def __init__(self, module: ModuleType, **replaced) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(replaced, _viewed=module)

    def __getattr__(self, name: str):
        return getattr(self._viewed, name)


class _Run(threading.local):
    """Stands at the place of one of the classes whose ``detach_hidden`` snnTorch's training calls after every update.

    The dictionary of those classes has the flags of ``utils`` for keys, so that ``True`` leads to a single one. The last,
    ``SLSTM``, gets a key of its own here: it detaches our modules in the network of this thread, and SLSTM's if asked for.
    """

    def __init__(self, utils: ModuleType) -> None:
        self.utils, self.net = utils, None

    def reset(self, net: nn.Module) -> None:
        """``utils.reset``, which a run calls first; remembers the network."""
        self.net = weakref.ref(net)
        self.utils.reset(net)

    def detach_hidden(self) -> None:
        if self.utils.is_slstm:
            importlib.import_module("snntorch").SLSTM.detach_hidden()
        net = None if self.net is None else self.net()
        if net is not None:
            detach_ours(net)


def _final_layer_check(net: nn.Module) -> int:
    """How many values the last module of ``net`` returns: spikes and states of ours, at any depth.

    :raises ValueError: if the last module is ours and does not return its spikes and states step by step.
    """
    last = net
    while not isinstance(last, BoundedModule) and (children := list(last.children())):
        last = children[-1]
    if not isinstance(last, BoundedModule):
        return importlib.import_module("snntorch.utils")._final_layer_check(net)
    if not isinstance(last, StepNeuron) or (last.init_hidden and not last.output):
        raise ValueError(
            "snntorch.backprop needs the spikes and states of the last neuron at every step: end the network with "
            f"AdLIFPlus(init_hidden=True, output=True), got {last!r}"
        )
    return 1 + len(last.model.states)
