"""Which layer with delays feeds which neuron: a neuron that starts anew behind a layer that does not is an accident.

snnTorch's networks reset their neurons one by one (``reset_mem()``, ``utils.reset``). Spikes that are still on their way
through a delay would then reach the next sequence, in evaluation without any sign of it. Links are made by the tensors
that go from the layer to the neuron, so that networks side by side know nothing of each other.
"""

from __future__ import annotations

import warnings
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..callers import user_level

if TYPE_CHECKING:
    from .history import KeepsHistory

__all__ = ["emitted", "layer_before", "neuron_restarted", "restarted_alone", "taken"]

_emitted: dict[int, tuple[weakref.ref, weakref.ref]] = {}  # identity of a current -> it, and the layer it comes from
_upstream: weakref.WeakKeyDictionary[nn.Module, weakref.ref] = weakref.WeakKeyDictionary()
_waiting: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # layers whose neuron has started anew


def emitted(layer: nn.Module, current: Tensor) -> None:
    """``current`` is what ``layer`` emits at this step."""
    if not torch.compiler.is_compiling():
        name = id(current)
        _emitted[name] = weakref.ref(current, lambda _: _emitted.pop(name, None)), weakref.ref(layer)


def taken(neuron: nn.Module, current: Tensor) -> None:
    """``current`` is the input of ``neuron``."""
    if torch.compiler.is_compiling() or not _emitted:
        return
    reference, layer = _emitted.get(id(current), (None, None))
    if reference is not None and layer is not None and reference() is current and _upstream.get(neuron) is not layer:
        _upstream[neuron] = layer


def neuron_restarted(neuron: nn.Module) -> None:
    """``neuron`` has forgotten its states."""
    if torch.compiler.is_compiling():
        return
    layer = layer_before(neuron)
    if layer is not None and layer.history is not None:
        _waiting.add(layer)


def layer_before(neuron: nn.Module) -> KeepsHistory | None:
    """The layer with delays whose currents ``neuron`` took last."""
    layer = _upstream.get(neuron)
    return None if layer is None else layer()


def restarted_alone(layer: nn.Module, history: Tensor | None) -> None:
    """A step (or, without history, a reset) of ``layer``: one warning where its neuron has started anew and it has not."""
    if torch.compiler.is_compiling() or not _waiting or layer not in _waiting:
        return
    _waiting.discard(layer)
    if history is not None and history.any():
        warnings.warn(
            f"a neuron was reset but the {type(layer).__name__} before it was not: spikes of the sequence before are "
            f"still on their way ({int(history.count_nonzero())} in the last {history.shape[0]} steps) and will arrive in "
            "this one. Call snn_delay_plugins.snntorch.reset(net), which resets both, or layer.reset_delay()",
            stacklevel=user_level(),
        )
