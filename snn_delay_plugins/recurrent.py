"""Neurons with delayed recurrent synapses: what the layers of both frameworks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self, Unpack

import torch
from torch import Tensor, nn

from .checks import check_spikes, check_whole
from .delay_options import Interpolation, SynapseOptions
from .delayed import DelayedSynapses
from .functional.recurrent import Recurrence
from .functional.windows import history_after
from .models.parameters import NeuronParameters

__all__ = ["RecurrentDelays"]


class RecurrentDelays(DelayedSynapses):
    """Synapses from the neurons of a layer to each other, a weight and a delay each. What a framework's layer keeps
    between its calls are the ``spikes`` of the last step and, as its linear layers do, the ``history`` before them."""

    neuron: nn.Module
    reset: Callable[[], object]
    """Of the framework's layer: forget the spikes on their way and the neuron's states."""

    def create_recurrence(
        self,
        neuron: nn.Module,
        features: int | None,
        *,
        interpolation: Interpolation = "linear",
        **options: Unpack[SynapseOptions],
    ) -> None:
        """Take ``neuron`` and create its synapses; called once by a layer's constructor.

        :raises TypeError, ValueError: for a neuron that is none or has another shape than ``[features]``, and options.
        """
        if not isinstance(neuron, nn.Module):
            raise TypeError(f"neuron must be a module, got {type(neuron).__name__}")
        features = _features_of(neuron, features)
        self.create_synapses(features, features, False, interpolation=interpolation, **options)
        self.neuron = neuron
        self._draw_weight()

    def _draw_weight(self) -> None:
        """U(-1, 1) over the root of the number of senders, as torch's recurrent layers: weights that make neurons fire by
        themselves would keep them firing."""
        with torch.no_grad():
            if self.mask is None:
                self.weight.uniform_(-1, 1).div_(math.sqrt(self.in_features))
            else:
                self.weight.uniform_(-1, 1).mul_(self.mask).div_(self.mask.sum(1, keepdim=True).clamp(min=1).sqrt())

    def recurrence(self, history: Tensor | None, factor: Tensor | None = None) -> Recurrence:
        """The synapses of this mode, after the spikes of ``history``, newest first, ``[H, N, F]``.

        :param factor: of the spikes that the neurons emit, where these are not 1.
        """
        rule = self.active_rule
        return Recurrence(
            weight=self.weight if factor is None else self.weight * factor.to(self.weight.dtype),
            delay=self.bounded("delay"),
            rule=rule,
            max_delay=self.max_delay,
            parameters=self.rule_values(rule),
            mask=self.mask,
            history=history,
        )

    def discretize(self, weight_bits: int | None = None) -> Self:
        """A frozen copy with whole delays, neuron included, for deployment: what this layer computes in evaluation, if its
        delays are learned through a Gaussian, a triangle or rounding (``kernel="round"``, ``interpolation="round"``).

        :param weight_bits: as of :meth:`DelayedLinear.discretize`.
        """
        frozen = self.with_whole_delays(weight_bits)
        frozen.reset()
        return frozen

    def with_whole_delays(self, weight_bits: int | None = None) -> Self:
        try:
            return super().with_whole_delays(weight_bits)
        except RuntimeError as error:
            if "deepcopy" not in str(error):
                raise
            raise RuntimeError(
                f"{type(self.neuron).__name__} cannot be copied while its states hold a graph: reset the network before "
                "discretize()"
            ) from error

    def arriving(self, current: Tensor, spikes: Tensor | None, history: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The current of a step ``[N, F]`` with what the spikes of the steps before add to it, and the next history."""
        self.check_input(current, steps=False)
        if spikes is None:
            return current, history
        recurrent, history = self.step_currents(spikes.to(current.dtype), history)
        return current + recurrent, history

    def check_input(self, current: Tensor, steps: bool) -> None:
        """
        :raises TypeError, ValueError: unless it is ``[N, F]``, or with ``steps`` ``[T, N, F]``.
        """
        layout = "[T, N, {0}]" if steps else "[N, {0}]"
        if check_spikes(current).dim() != 2 + steps or current.shape[-1] != self.in_features:
            remedy = (
                "" if steps or current.dim() != 3 else f"; for a sequence [T, N, {self.in_features}]: {self._sequence_form}"
            )
            raise ValueError(
                f"the input of {type(self).__name__} must be {layout.format(self.in_features)}, got shape "
                f"{tuple(current.shape)}{remedy}"
            )

    @staticmethod
    def joined(spikes: Tensor | None, history: Tensor | None) -> Tensor | None:
        """The last spikes and those before, newest first."""
        if spikes is None or history is None:
            return None if spikes is None else spikes[None]
        return torch.cat([spikes[None], history])

    def left_by(self, emitted: Tensor, spikes: Tensor | None, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """The last spikes and the history after a sequence of ``emitted`` ones ``[T, N, F]``."""
        recent = history_after(emitted, self._padded(emitted, self.joined(spikes, history)), self.max_delay + 1)
        return recent[0], recent[1:]

    def _padded(self, emitted: Tensor, past: Tensor | None) -> Tensor | None:
        length = self.max_delay + 2
        if past is None or past.shape[0] == length:
            return past
        return torch.cat([past, emitted.new_zeros(length - past.shape[0], *emitted.shape[1:])])


def _features_of(neuron: nn.Module, features: int | None) -> int:
    known = neuron._neurons if isinstance(neuron, NeuronParameters) else None
    if known is None:
        if features is None:
            raise ValueError(
                f"features must be given, the number of neurons, where {type(neuron).__name__} does not say it: give it to "
                "one of the two"
            )
        return check_whole("features", features, least=1)
    if len(known) != 1:
        raise ValueError(f"recurrent synapses need neurons of shape [features], {type(neuron).__name__} has {known}")
    if features is not None and features != known[0]:
        raise ValueError(f"features={features}, but {type(neuron).__name__} has features={known[0]}")
    return known[0]
