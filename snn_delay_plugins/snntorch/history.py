"""Layers with delays as snnTorch uses them: a step per call, with the last inputs kept inside, or a whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ..delay_options import Option
from ..frameworks import known
from ..parameters import live_modules
from ..transforms import exported_step
from .state import CarriedStates
from .upstream import emitted, restarted_alone

__all__ = ["KeepsHistory", "StepMode"]

StepMode = Annotated[bool, Option("``True``: one step per call; ``False``: the whole sequence.")]


class KeepsHistory(CarriedStates):
    """With ``step_mode=True`` the layer is called once per time step, on spikes ``(N, *)``, and keeps the last inputs until
    :meth:`reset_delay`; with ``step_mode=False`` it takes the whole sequence ``(T, N, *)`` and keeps nothing. Both give
    equal outputs.

    The last inputs are ``history`` ``[max_delay + 1, N, *]``, newest first. It stays as it is when the next step brings
    another, but shares memory with it: write into ``history.clone()`` alone.
    """

    _states = ("history",)
    _sequence_form = "step_mode=False"
    history: Tensor | None
    if TYPE_CHECKING:  # what the synapses beside this class bring

        @property
        def lengthened_by(self) -> str: ...

        sequence_currents: Callable[..., Tensor]
        step_currents: Callable[..., tuple[Tensor, Tensor]]
        check_batch: Callable[..., None]

    def keep_history(self, step_mode: bool) -> None:
        """Called once by a layer's constructor, when its synapses are there.

        :raises TypeError, ValueError: for a ``step_mode`` that is none, or that does not go with the layer's padding.
        """
        self.step_mode = _checked_mode(step_mode)
        if step_mode and self.lengthened_by:
            raise ValueError(f"{self.lengthened_by} lengthens a sequence and needs step_mode=False")
        self.history = None

    def reset_delay(self) -> None:
        """Forget the inputs of earlier steps."""
        self.history = None
        self.states_are_new()
        restarted_alone(self, None)

    reset_mem = reset_delay  # what snnTorch's utils.reset calls
    reset = reset_delay  # what SpikingJelly's functional.reset_net calls, should the layer be in a network of its

    @classmethod
    def detach_hidden(cls) -> None:
        """Cut the inputs that every layer of this class, copies included, keeps from their graph (truncated
        backpropagation); their spikes still arrive. For one network: :func:`snn_delay_plugins.snntorch.detach`."""
        for layer in live_modules():
            if isinstance(layer, cls):
                layer.detach_states()

    def forward(self, input_: Tensor) -> Tensor:
        if self.step_mode is not True:
            _checked_mode(self.step_mode)  # SpikingJelly's set_step_mode writes into any module
            return self.sequence_currents(input_)
        if exported_step(type(self).__name__):
            return self.step_currents(input_, None)[0]
        self.take_states()
        self.check_batch(self.history, input_, "reset_delay() or snn_delay_plugins.snntorch.reset(net)")
        restarted_alone(self, self.history)
        current, history = self.step_currents(input_, self.history)
        if torch.compiler.is_compiling():
            self.history = history
        else:
            self.__dict__["history"] = history  # not by torch's slow __setattr__
        emitted(self, current)
        return current


def _checked_mode(step_mode: object) -> bool:
    if not isinstance(step_mode, bool):
        hint = "".join(
            f"; {framework.title}'s layers with step_mode={step_mode!r} are in {framework.folder}"
            for framework in known()
            if isinstance(step_mode, str) and step_mode in (*framework.step.values(), *framework.sequence.values())
        )
        raise TypeError(f"step_mode must be True (one step per call) or False (sequences), got {step_mode!r}{hint}")
    return step_mode
