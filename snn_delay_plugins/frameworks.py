"""The frameworks that this package is a plug-in of: what the folder of each says, and which are installed.

A framework is one folder of this package whose ``framework.py`` holds ``FRAMEWORK``, a :class:`Framework`. The lazy names
of the package, :func:`snn_delay_plugins.register`, the texts of ImportErrors, the conformance kit and skipped tests walk
over them and know none by name; a further framework is a further folder. Reading a ``framework.py`` imports no framework.

To add one: a folder with ``framework.py`` (the descriptor), ``__init__.py`` (its imports inside of
``with FRAMEWORK.needed():``, and ``__all__``), layers on :class:`~snn_delay_plugins.delayed.DelayedSynapses` and neurons on
:class:`~snn_delay_plugins.models.parameters.NeuronParameters`; its extra in ``setup.cfg``; and, for type checkers, its line
in ``snn_delay_plugins/__init__.py``.

Example::

    >>> from snn_delay_plugins import frameworks
    >>> [framework.title for framework in frameworks.known()]
    ['snnTorch', 'SpikingJelly']
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Framework", "installed", "known"]

Replacement = tuple[ModuleType, str, object]
"""Module of the framework, name in it, what has to stand there."""


def _nothing() -> list[Replacement]:
    return []


@dataclass(frozen=True, kw_only=True)
class Framework:
    """What the folder of a framework says of it.

    :param name: of the folder, and of the extra that installs the framework. :param title: as its authors spell it.
    :param package: module that is imported to see whether the framework is there. :param minimum: its oldest version.
    :param rank: a name that several have is, in ``snn_delay_plugins`` itself, that of the framework of the lowest rank.
    :param layers: names of the layers in the folder's ``__all__``; every other module class there is a neuron.
    :param neurons: what a model's neurons are called, by the model's name: ``("{}", "State{}")``.
    :param layer_place: module of the framework into which ``register()`` puts the layers.
    :param neuron_place: the same for neurons.
    :param unplaced: names that stay in the folder: those that the framework has for a class of its own, and classes that
        no user builds.
    :param step: options with which our layers take one step ``[N, *]`` per call. :param sequence: a sequence ``[T, N, *]``.
        Both empty: the two are classes of their own.
    :param reset: ``net ->``: forgets the states in ``net``, at any depth. :param detach: cuts them from their graph.
    :param conformance: makes what the kit has to know (:class:`snn_delay_plugins.testing.frameworks.Framework`).
    :param replacements: what ``register()`` puts in the place of helpers of the framework, so that they reach our modules.
    """

    name: str
    title: str
    package: str
    minimum: str
    layers: tuple[str, ...]
    neurons: tuple[str, ...]
    layer_place: str
    neuron_place: str
    reset: Callable[[nn.Module], None]
    detach: Callable[[nn.Module], None]
    step: Mapping[str, Any]
    sequence: Mapping[str, Any]
    unplaced: frozenset[str] = frozenset()
    replacements: Callable[[], Sequence[Replacement]] = _nothing
    conformance: Callable[[], Any] | None = None
    rank: int = 100

    @property
    def folder(self) -> str:
        """The package of ours that holds the framework's parts."""
        return f"{__package__}.{self.name}"

    @property
    def remedy(self) -> str:
        """How to install the framework."""
        return f"pip install '{__package__}[{self.name}]'"

    @property
    def missing(self) -> str:
        """Why something that needs the framework is left out where it is absent."""
        return f"{self.title} is missing: {self.remedy}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the module classes in the folder, known without the framework."""
        from .models import MODELS

        return (*(pattern.format(model) for model in MODELS for pattern in self.neurons), *self.layers)

    def is_installed(self) -> bool:
        try:
            return importlib.util.find_spec(self.package.partition(".")[0]) is not None
        except ModuleNotFoundError:  # an import hook that hides it
            return False

    def load(self) -> ModuleType:
        """Our folder, imported.

        :raises ImportError: if the framework is absent or too old.
        """
        return importlib.import_module(self.folder)

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Around imports of the framework: says what to install where it is absent or too old.

        :raises ImportError: if so.
        """
        present = _version(self.package.partition(".")[0])
        needs = f"{self.folder} needs {self.title} >= {self.minimum}"
        if present is not None and _numbers(present) < _numbers(self.minimum):
            raise ImportError(f"{needs} and {present} is installed: {self.remedy}")
        try:
            importlib.import_module(self.package)
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != self.package.partition(".")[0]:  # a module that it needs is absent
                raise
            raise ImportError(f"{needs}: {self.remedy}") from error

    def classes(self) -> dict[str, type[nn.Module]]:
        """The module classes in the folder's ``__all__``."""
        from torch import nn

        folder = self.load()
        found = {name: getattr(folder, name) for name in folder.__all__}
        return {name: value for name, value in found.items() if isinstance(value, type) and issubclass(value, nn.Module)}

    def places(self) -> dict[str, tuple[str, type[nn.Module]]]:
        """Name -> (module of the framework, class of ours) of those that ``register()`` puts there; neurons first."""
        classes = {name: value for name, value in self.classes().items() if name not in self.unplaced}
        neurons = [name for name in classes if name not in self.layers]
        layers = [name for name in classes if name in self.layers]
        return {name: (self.neuron_place, classes[name]) for name in neurons} | {
            name: (self.layer_place, classes[name]) for name in layers
        }


def known() -> tuple[Framework, ...]:
    """Every framework that has a folder, by rank; nothing of them is imported."""
    with _reading:
        return _found(tuple(sys.modules[__name__.rpartition(".")[0]].__path__))


def installed() -> tuple[Framework, ...]:
    """Those that are installed."""
    return tuple(framework for framework in known() if framework.is_installed())


_reading = threading.RLock()


@functools.lru_cache(maxsize=8)
def _found(path: tuple[str, ...]) -> tuple[Framework, ...]:
    folders = [module.name for module in pkgutil.iter_modules(path) if module.ispkg]
    described = [described for folder in folders if (described := _description(folder, path)) is not None]
    return tuple(sorted(described, key=lambda framework: (framework.rank, framework.name)))


def _description(folder: str, path: tuple[str, ...]) -> Framework | None:
    """What ``folder/framework.py`` holds, read without the folder's ``__init__``, which imports the framework."""
    name = f"{__package__}.{folder}.framework"
    if not hasattr(sys.modules.get(name), "FRAMEWORK"):  # or another thread is in the middle of its import
        package = PathFinder.find_spec(f"{__package__}.{folder}", path)
        spec = PathFinder.find_spec(name, package.submodule_search_locations) if package is not None else None
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules.setdefault(name, module)  # when it is whole: other threads take what they find there
        return module.FRAMEWORK
    return sys.modules[name].FRAMEWORK


def _version(package: str) -> str | None:
    """None for one that runs from a checkout."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Of ``1.0.0rc1`` ``(1,)``: zeros at the end count as none."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
