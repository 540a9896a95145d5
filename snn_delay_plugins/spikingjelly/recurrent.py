"""Neurons with delayed recurrent synapses for SpikingJelly."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from spikingjelly.activation_based.base import MemoryModule, StepModule
from torch import Tensor, nn

from ..delay_options import Interpolation, SynapseOptions, takes_options
from ..parameters import refuse_other_batch
from ..recurrent import RecurrentDelays
from .history import StepMode
from .memory import DetachableMemories
from .model import Node

__all__ = ["DelayedRecurrent"]


class DelayedRecurrent(RecurrentDelays, DetachableMemories):
    r"""Neurons with recurrent synapses, each with a trainable weight and delay, around a neuron as SpikingJelly's
    ``LinearRecurrentContainer`` is.

    .. math:: I_i[t] = x_i[t] + \sum_j W_{ij}\, s_j[t - 1 - d_{ij}]

    x is the input, currents ``[N, F]`` (``step_mode="s"``) or ``[T, N, F]`` (``"m"``), I what the neuron gets and s the
    spikes that it gives, which are the output. A spike arrives after 1 + d steps; d stays in ``[0, max_delay]`` after
    every optimizer step. A delay between two whole steps, and how it is learned, is a matter of ``delay_gradient``: all
    rules of :class:`DelayedLinear` serve (``"triangle"``: Queant et al., *DelRec*, arXiv:2509.24852). The memories are
    ``spikes``, those of the last step, and ``history``, those before, newest first; the neuron keeps its own.

    In mode ``"m"`` the neurons of this package that are linear run compiled with their synapses; others step by step.

    :param neuron: any neuron from ``[N, F]`` to spikes of that shape: of this package, of SpikingJelly or a module.
    :param features: F; default: that of the neuron, where it says it.
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.spikingjelly import AdLIFPlusNode
        >>> layer = DelayedRecurrent(AdLIFPlusNode(features=128), max_delay=25, delay="uniform", step_mode="m")
        >>> layer(torch.rand(100, 8, 128)).shape
        torch.Size([100, 8, 128])
    """

    _operator = "recurrent_neuron"
    _sequence_form = "functional.set_step_mode(net, 'm')"
    neuron: Any

    @takes_options(SynapseOptions)
    def __init__(
        self,
        neuron: nn.Module,
        features: int | None = None,
        *,
        interpolation: Interpolation = "linear",
        step_mode: StepMode = "s",
        **options: Unpack[SynapseOptions],
    ) -> None:
        super().__init__()
        self.create_recurrence(neuron, features, interpolation=interpolation, **options)
        self.step_mode = step_mode
        self.register_memory("spikes", 0.0)
        self.register_memory("history", 0.0)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        self.check_input(inputs[0], steps=step_mode == "m")
        spikes = states[0][None] if isinstance(states[0], Tensor) else None
        refuse_other_batch(spikes, inputs[0], -2, "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        spikes, history = _present(states)
        current, history = self.arriving(inputs[0], spikes, history)
        self._in_mode("s")
        emitted = self.neuron(current)
        return (emitted,), (emitted, 0.0 if history is None else history)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        spikes, history = _present(states)
        if not len(inputs[0]):
            return (inputs[0],), states
        if isinstance(self.neuron, Node):
            self._in_mode("m")
            emitted = self.neuron(inputs[0], recurrence=self.recurrence(self.joined(spikes, history)))
        else:
            self._in_mode("s")
            emitted = torch.stack(self._steps(inputs[0], spikes, history))
        return (emitted,), self.left_by(emitted, spikes, history)

    def _steps(self, x_seq: Tensor, spikes: Tensor | None, history: Tensor | None) -> list[Tensor]:
        emitted = []
        for x in x_seq:
            current, history = self.arriving(x, spikes, history)
            spikes = self.neuron(current)
            emitted.append(spikes)
        return emitted

    def reset(self) -> None:
        """Forget the spikes on their way and the neuron's states."""
        super().reset()
        if isinstance(self.neuron, MemoryModule):
            self.neuron.reset()

    def detach(self) -> None:
        super().detach()
        if isinstance(self.neuron, MemoryModule):
            self.neuron.detach()

    def _in_mode(self, step_mode: str) -> None:
        if isinstance(self.neuron, StepModule) and self.neuron.step_mode != step_mode:
            self.neuron.step_mode = step_mode

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, interpolation={self.interpolation!r}, step_mode={self.step_mode!r}"


def _present(states: tuple) -> list[Tensor | None]:
    return [state if isinstance(state, Tensor) else None for state in states]
