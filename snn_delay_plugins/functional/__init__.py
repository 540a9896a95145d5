"""The maths: pure functions on ``[T, N, *]`` tensors with explicit state. Every file opens with its equation.

Every public function can be imported from here, ``from snn_delay_plugins.functional import adlif, delayed_linear``, or from
the file that it stands in, ``from snn_delay_plugins.functional.delay import delayed_linear``. A file that has the name of
its function (``adlif``) is, as an attribute, that function, which has the file's other public names for attributes.

Example::

    >>> from snn_delay_plugins import functional
    >>> functional.adlif is functional.adlif.adlif
    True
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adlif import *  # noqa: F403
    from .convolution import *  # noqa: F403
    from .dcls import *  # noqa: F403
    from .delay import *  # noqa: F403
    from .delay_convolution import *  # noqa: F403
    from .event_pooling import *  # noqa: F403
    from .eventprop import *  # noqa: F403
    from .eventprop_convolution import *  # noqa: F403
    from .eventprop_linear import *  # noqa: F403
    from .eventprop_linear_readout import *  # noqa: F403
    from .eventprop_traces import *  # noqa: F403
    from .linear import *  # noqa: F403
    from .linear_neuron import *  # noqa: F403
    from .losses import *  # noqa: F403
    from .recurrent import *  # noqa: F403
    from .sparse_delay import *  # noqa: F403
    from .sparse_taps import *  # noqa: F403
    from .surrogate import *  # noqa: F403
    from .window_convolution import *  # noqa: F403
    from .windows import *  # noqa: F403

_FILES = (
    "adlif", "convolution", "dcls", "delay", "delay_convolution", "event_pooling", "eventprop", "eventprop_convolution",
    "eventprop_linear", "eventprop_linear_readout", "eventprop_traces", "linear", "linear_neuron", "losses",
    "recurrent", "sparse_delay", "sparse_taps", "surrogate", "window_convolution", "windows",
)  # fmt: skip


@functools.cache
def _public() -> dict[str, object]:
    """What the files list in ``__all__``."""
    files = [importlib.import_module(f".{name}", __name__) for name in _FILES]
    return {name: getattr(file, name) for file in files for name in file.__all__}


def __getattr__(name: str):
    if name == "__all__":
        return sorted(_public())
    if name in _FILES:
        importlib.import_module(f".{name}", __name__)  # which sets the attribute
        return globals()[name]
    if name.startswith("_") or name not in _public():
        module = sys.modules[__name__]  # with it Python suggests the name that was meant
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=module)
    globals()[name] = value = _public()[name]
    return value


def __dir__() -> list[str]:
    return sorted({*_FILES, *_public()})


class _Functional(ModuleType):
    """This package, where importing a file does not hide the function of its name."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in getattr(value, "__all__", ()):
            file, value = value, getattr(value, name)
            vars(value).update({other: getattr(file, other) for other in file.__all__})
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Functional
