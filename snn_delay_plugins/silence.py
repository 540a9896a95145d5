"""Silence is said: a spiking layer that fires no spike during a whole batch of training warns, once.

Surrogate gradients reach as far as their support, EventProp's not at all: a layer far below threshold trains nothing and
stops every gradient on its way to the layers before it, without any error.
"""
from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from .callers import user_level

__all__ = ["SCALE_WEIGHTS", "SaysSilence", "name_of", "not_watched"]

_watching: ContextVar[bool] = ContextVar("watching", default=True)
_FIRED = "fired"
SCALE_WEIGHTS = "Scale the weights on one batch with snn_delay_plugins.calibrate(net, batch)"


@contextmanager
def not_watched() -> Iterator[None]:
    """No layer is watched inside, as where a function tries weights out."""
    token = _watching.set(False)
    try:
        yield
    finally:
        _watching.reset(token)


class SaysSilence(nn.Module):
    """A spiking layer that warns once if it has fired no spike during a whole batch in training mode.

    The form of one step calls :meth:`watch_step` in every step and :meth:`end_batch` where a batch ends; the form of a
    sequence :meth:`watch_sequence`. Nothing of it is a parameter, a buffer or part of a state dict.
    """

    # class attributes, so that modules pickled before they existed have them
    _batch: str | tuple[Tensor, Tensor, int] | None = None
    """Of the batch under way: None, ``_FIRED``, or (spikes, input current, both summed over the steps; steps)."""
    _said_silent = False

    def watch_step(self, current: Tensor, spikes: Tensor) -> None:
        """Take note of one step: on a device elsewhere without waiting for it, on the CPU until the first spike."""
        if torch.compiler.is_compiling() or self._batch == _FIRED or not self.is_watched(spikes) or not spikes.numel():
            return
        with torch.no_grad():
            current, spikes = current.detach(), spikes.detach()
            if not spikes.is_cuda and spikes.any():
                self._batch = _FIRED
                return
            if self._batch is None or self._batch[0].shape != spikes.shape or self._batch[0].device != spikes.device:
                self._batch = spikes.clone(), current.clone(), 1
            else:
                fired, drive, steps = self._batch
                self._batch = fired.add_(spikes), drive.add_(current), steps + 1

    def end_batch(self) -> None:
        """Look at the batch that is over, and warn if it was silent."""
        if torch.compiler.is_compiling():
            return
        batch, self._batch = self._batch, None
        if isinstance(batch, tuple):
            fired, drive, steps = batch
            if not fired.any():
                self._say_silent(drive / steps)

    def watch_sequence(self, current: Tensor, spikes: Tensor) -> None:
        """The same for a batch ``[T, N, *]`` that one call has computed."""
        if torch.compiler.is_compiling() or not self.is_watched(spikes) or not spikes.numel():
            return
        spikes = spikes.detach()
        if not spikes[len(spikes) // 2].any() and not spikes.any():  # where layers fire, one step mostly tells
            self._say_silent(current.detach().mean(0))

    def is_watched(self, spikes: Tensor) -> bool:
        """Whether a silent batch with these ``spikes`` would be said."""
        return (
            self.training
            and not self._said_silent
            and _watching.get()
            and type(spikes) in (Tensor, nn.Parameter)  # no fake tensor, whose values nobody knows
            and not spikes.is_meta
            and not torch.jit.is_tracing()
            and not torch._C._functorch.is_functorch_wrapped_tensor(spikes)
        )

    def _say_silent(self, drive: Tensor) -> None:
        """``drive``: mean over time of the input current, ``[N, *]``. A layer without any input is not at fault."""
        if drive.any():
            self.say_silent(
                f"the mean of its input current is {drive.mean().item():.3g} (largest of a neuron {drive.max().item():.3g})"
            )

    def say_silent(self, drive: str, remedy: str = f"{SCALE_WEIGHTS}.") -> None:
        """Warn, once for this layer; ``drive`` says with numbers how far it is from its threshold."""
        self._said_silent = True
        threshold = getattr(self, "v_threshold", None)
        threshold = self.threshold if threshold is None else threshold
        threshold = float(threshold.detach().mean()) if isinstance(threshold, Tensor) else threshold
        warnings.warn(
            f"no neuron of {name_of(self)} fired during a whole batch in training, so that it and the layers before it "
            f"learn nothing: {drive}, its threshold {threshold:.3g}. {remedy}",
            stacklevel=user_level(),
        )


def name_of(module: nn.Module) -> str:
    """What a user calls ``module``: its qualified name in the network that holds it, if one does, its class and sizes.

    A module does not know who holds it; the garbage collector does. Meant for messages alone: it looks at every object.

    Example::

        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> name_of(net[1])
        "layer '1' (ReLU)"
    """
    holder: dict[int, tuple[nn.Module, str]] = {}
    for candidate in gc.get_objects():
        if issubclass(type(candidate), nn.Module):
            for name, child in candidate.__dict__.get("_modules", {}).items():
                holder.setdefault(id(child), (candidate, name))
    path, here, seen = [], module, set()
    while id(here) in holder and id(here) not in seen:
        seen.add(id(here))
        here, name = holder[id(here)]
        path.insert(0, name)
    label = f"{type(module).__name__}{_sizes(module)}"
    return f"layer {'.'.join(path)!r} ({label})" if path else label


def _sizes(module: nn.Module) -> str:
    if hasattr(module, "in_features"):
        return f"({module.in_features}, {module.out_features})"
    alpha = getattr(module, "alpha", None)
    if isinstance(alpha, Tensor) and not isinstance(alpha, nn.parameter.UninitializedTensorMixin) and alpha.dim():
        return f"({', '.join(map(str, alpha.shape))})"
    return ""
