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
_LONG = 100  # steps after which a batch that is detached and never reset is looked at
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

    A form that keeps its states calls :meth:`watch_step` in every step, or :meth:`watch_part` for several, and
    :meth:`end_batch` where it is reset; one that does not, :meth:`watch_sequence`. Nothing of it is a parameter, a buffer
    or part of a state dict.
    """

    # class attributes, so that modules pickled before they existed have them
    _batch: str | tuple[Tensor, Tensor, int] | None = None
    """Of the batch under way: None, ``_FIRED``, or (spikes, input current, both summed over the steps; steps)."""
    _said_silent = False
    takes_sequences = False
    """Whether a call is a whole sequence, where no ``step_mode`` says so."""

    def watch_step(self, current: Tensor, spikes: Tensor) -> None:
        """Take note of a step ``[N, *]``: on a device without waiting for it, on the CPU until the first spike."""
        if self._batch != _FIRED:
            self.watch_part(current[None], spikes[None])

    def watch_part(self, current: Tensor, spikes: Tensor) -> None:
        """The same for some steps of a batch, ``[T, N, *]``."""
        if torch.compiler.is_compiling() or self._batch == _FIRED or not self.is_watched(spikes) or not spikes.numel():
            return
        with torch.no_grad():
            current, spikes = current.detach(), spikes.detach()
            if not spikes.is_cuda and _any(spikes):
                self._batch = _FIRED
                return
            fired, drive, steps = spikes.sum(0), current.sum(0), len(spikes)
            earlier = self._batch
            if isinstance(earlier, tuple) and (earlier[0].shape, earlier[0].device) == (fired.shape, fired.device):
                fired, drive, steps = fired + earlier[0], drive + earlier[1], steps + earlier[2]
            self._batch = fired, drive, steps

    def end_batch(self) -> None:
        """Look at the batch that is over, and warn if it was silent."""
        if torch.compiler.is_compiling():
            return
        batch, self._batch = self._batch, None
        if isinstance(batch, tuple):
            fired, drive, steps = batch
            if steps > 1 and not fired.any():  # one step alone gives lazy parameters their shapes: it is no batch
                self._say_silent(drive / steps)

    def end_window(self) -> None:
        """The states were detached: a batch goes on, but one without end is looked at now and then."""
        if isinstance(self._batch, tuple) and self._batch[2] >= _LONG:
            self.end_batch()

    def watch_sequence(self, current: Tensor, spikes: Tensor) -> None:
        """The same for a batch ``[T, N, *]`` that one call has computed."""
        if torch.compiler.is_compiling() or not self.is_watched(spikes) or not spikes.numel():
            return
        if not _any(spikes.detach()):
            self._say_silent(current.detach().mean(0))

    def is_watched(self, spikes: Tensor) -> bool:
        """Whether a silent batch with these ``spikes`` would be said."""
        return (
            self.training
            and torch.is_grad_enabled()
            and not torch.is_inference_mode_enabled()
            and not self._said_silent
            and _watching.get()
            and type(spikes) in (Tensor, nn.Parameter)  # no fake tensor, whose values nobody knows
            and not spikes.is_meta
            and not torch.jit.is_tracing()
            and not torch._C._functorch.is_functorch_wrapped_tensor(spikes)  # pyright: ignore[reportAttributeAccessIssue]
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
            f"may learn nothing: {drive}, its threshold {threshold:.3g}. {remedy}",
            stacklevel=user_level(),
        )


def _any(spikes: Tensor) -> bool:
    return bool(spikes[len(spikes) // 2].any() or spikes.any())  # where layers fire, one step mostly tells


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
    neurons = getattr(module, "_neurons", None)
    return f"({', '.join(map(str, neurons))})" if neurons else ""
