r"""Recurrent synapses with delays among the neurons of one layer, by whatever rule of :mod:`snn_delay_plugins.delays`,

.. math:: I_i[t] = x_i[t] + \sum_j \sum_m K_{ij}[m]\, s_j[t - 1 - \ell_{ij} - m],

x the current from outside, K the taps and l the first lag of the window that the rule makes of weight and delay. A spike
arrives a step after it was fired at the earliest: a delay d stands for 1 + d steps (Queant et al., *DelRec*,
arXiv:2509.24852, section 3.1).

:func:`~.linear_neuron.linear_neuron` and :func:`~.adlif.adlif` take a :class:`Recurrence` as ``recurrence=``. In compiled
form a spike visits its synapses once and adds to the currents that are on their way; where many spikes are, neurons collect
what arrives in eight steps at once. In the backward pass spikes, and neurons whose surrogate is not zero, collect the
gradients that they meet. The work follows the number of spikes, up to that of many, and the width of the windows, not
the longest delay.

Shapes: current ``[T, N, F]``, weight ``[F, F]`` (receiver, sender), delay ``[F, F]`` (synaptic), ``[1, F]`` (axonal) or
``[F, 1]`` (dendritic), history ``[H, N, F]``, newest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_real, check_steps, check_tensor
from ..delays import DelayRule
from .inputs import check_past, check_synapses

__all__ = ["Recurrence", "RecurrentSynapses"]


class RecurrentSynapses(NamedTuple):
    """The windows of the synapses that exist, as the kernels take them."""

    taps: Tensor
    """``[width, synapses]``, differentiable."""
    lags: Tensor
    """int64 ``[synapses]``, of the first taps."""
    ends: Tensor | None
    """Receiver and sender of each, int64 ``[2, synapses]``; None: all to all, row by row of the weight."""


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """What a layer's neurons say to each other (equation: head of this module).

    :param weight: ``[F, F]``, from sender (column) to receiver (row). :param delay: in time steps in ``[0, max_delay]``,
        one step less than it takes.
    :param rule: how weight and delay become taps. :param parameters: its further parameters by name.
    :param mask: which synapses exist, bool ``[F, F]``. Default: all.
    :param history: the spikes before the first step, newest first, ``[H, N, F]``. Default: none.
    :raises ValueError, TypeError: for shapes and dtypes that do not fit.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.delays import WHOLE
        >>> from snn_delay_plugins.functional import Coefficients, linear_neuron
        >>> relay = Coefficients(theta=1.0, A=((0,),), B=(1.0,))  # fires whenever its current reaches 1
        >>> to_itself = Recurrence(weight=torch.ones(1, 1), delay=torch.full((1, 1), 2.0), rule=WHOLE, max_delay=2)
        >>> spikes, _ = linear_neuron(torch.eye(8)[:, :1, None], relay, recurrence=to_itself)
        >>> spikes.flatten().tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """

    weight: Tensor
    delay: Tensor
    rule: DelayRule
    max_delay: int
    parameters: Mapping[str, Tensor | float] = field(default_factory=dict)
    mask: Tensor | None = None
    history: Tensor | None = None

    def __post_init__(self) -> None:
        check_synapses(self.weight, self.delay)
        check_real("weight", self.weight)
        features = self.weight.shape[0]
        if self.weight.shape != (features, features):
            raise ValueError(f"weight must be [F, F], from all neurons to all, got shape {tuple(self.weight.shape)}")
        if self.mask is not None and (
            check_tensor("mask", self.mask).shape != self.weight.shape or self.mask.dtype != torch.bool
        ):
            raise ValueError(
                f"mask must be bool {tuple(self.weight.shape)}, got {self.mask.dtype} of shape {tuple(self.mask.shape)}"
            )
        check_steps("max_delay", self.max_delay)

    def check_fits(self, current: Tensor) -> None:
        """
        :raises ValueError: unless ``current`` is a sequence of these neurons. :raises TypeError: for a wider one.
        """
        features = self.weight.shape[0]
        if current.dim() != 3 or current.shape[2] != features:
            raise ValueError(
                f"current must be [T, N, {features}] for recurrent weights of shape {tuple(self.weight.shape)}, got shape "
                f"{tuple(current.shape)}"
            )
        if current.device != self.weight.device:
            raise ValueError(f"current is on {current.device} but weight on {self.weight.device}; move one of them")
        if torch.promote_types(current.dtype, self.weight.dtype) != self.weight.dtype:
            raise TypeError(
                f"current is {current.dtype} but weight only {self.weight.dtype}; convert the module (e.g. .double()) or "
                "the current"
            )
        if self.history is not None:
            check_past(self.history, current)

    def past(self, current: Tensor, dtype: torch.dtype) -> Tensor:
        """The spikes before the first step that may still arrive, oldest first, ``[H, N, F]``."""
        if self.history is None:
            return current.new_zeros(0, *current.shape[1:], dtype=dtype)
        return self.history[: self.max_delay + 2].flip(0).to(dtype)

    def synapses(self, dtype: torch.dtype) -> RecurrentSynapses:
        """The windows in this dtype, those of a mask alone where values can be looked at."""
        weight, delay, values = self._in(dtype)
        if self.mask is None or torch.compiler.is_compiling():
            taps, lags = self.rule.windows(self._existing(weight), delay, self.max_delay, values)
            return RecurrentSynapses(taps.flatten(1), lags.flatten(), None)
        receivers, senders = ends = self.mask.nonzero().mT

        def of(value: Tensor) -> Tensor:
            return value.expand_as(weight)[receivers, senders]

        values = {name: of(x) if isinstance(x, Tensor) and x.dim() else x for name, x in values.items()}
        taps, lags = self.rule.windows(weight[receivers, senders], of(delay), self.max_delay, values)
        return RecurrentSynapses(taps, lags, ends)

    def begin(self, current: Tensor, dtype: torch.dtype) -> _OnTheirWay:
        """The same for the plain form, step by step."""
        weight, delay, values = self._in(dtype)
        kernel = self.rule.over_lags(self._existing(weight), delay, self.max_delay, values)
        past = self.past(current, dtype).flip(0)[: kernel.shape[0]]
        silence = past.new_zeros(kernel.shape[0] - past.shape[0], *current.shape[1:])
        return _OnTheirWay(kernel, torch.cat([past, silence]))

    def _existing(self, weight: Tensor) -> Tensor:
        return weight if self.mask is None else weight * self.mask

    def _in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Tensor | float]]:
        values: dict[str, Tensor | float] = {
            name: x.to(dtype) if isinstance(x, Tensor) else x for name, x in self.parameters.items()
        }
        return self.weight.to(dtype), self.delay.to(dtype), values


class _OnTheirWay:
    """Spikes that have not arrived yet, in plain PyTorch: the last ones, newest first, and a kernel over all lags."""

    def __init__(self, kernel: Tensor, past: Tensor) -> None:
        self._kernel, self._past = kernel, past

    def current(self) -> Tensor:
        """What arrives in this step, ``[N, F]``."""
        return torch.einsum("lnj,lij->ni", self._past, self._kernel)

    def fired(self, spikes: Tensor) -> None:
        """``spikes`` ``[N, F]`` leave in this step."""
        self._past = torch.cat([spikes.to(self._past.dtype)[None], self._past[:-1]])
