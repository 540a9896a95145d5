"""Layers with delays as SpikingJelly uses them: by ``step_mode`` a step or a sequence, with the last inputs as a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from torch import Tensor

from ..delay_options import Option
from .memory import DetachableMemories

__all__ = ["KeepsHistory", "StepMode"]

StepMode = Annotated[Literal["s", "m"], Option('``"s"`` (one step per call) or ``"m"`` (the whole sequence).')]


class KeepsHistory(DetachableMemories):
    """Spikes ``[N, *]`` (``step_mode="s"``) or ``[T, N, *]`` (``"m"``); both modes give equal outputs. The memory
    ``history`` holds the last inputs, ``[max_delay + 1, N, *]``, newest first, until ``functional.reset_net``: a sequence
    may be fed in parts. It shares memory with that of the next step: write into a clone alone.
    """

    _sequence_form = "functional.set_step_mode(net, 'm')"
    if TYPE_CHECKING:  # what the synapses beside this class bring

        @property
        def lengthened_by(self) -> str: ...

        sequence_currents: Callable[..., Tensor]
        step_currents: Callable[..., tuple[Tensor, Tensor]]
        history_after: Callable[..., Tensor]
        check_batch: Callable[..., None]

    def keep_history(self, step_mode: StepMode) -> None:
        """Called once by a layer's constructor, when its synapses are there."""
        self.step_mode = step_mode
        self.register_memory("history", 0.0)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: StepMode) -> tuple:
        self.check_batch(states[0], inputs[0], "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        if self.lengthened_by:
            raise ValueError(f'{self.lengthened_by} lengthens a sequence and needs step_mode="m"')
        current, history = self.step_currents(inputs[0], _present(states))
        return (current,), (history,)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **options) -> tuple[tuple, tuple]:
        history = _present(states)
        current = self.sequence_currents(inputs[0], history=history, **options)
        if self.lengthened_by:  # nothing is left to arrive later
            return (current,), (0.0,)
        return (current,), (self.history_after(inputs[0], history),)


def _present(states: tuple) -> Tensor | None:
    return states[0] if isinstance(states[0], Tensor) else None
