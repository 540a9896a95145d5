"""SpikingJelly neurons made of a model. There are no equations here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor

from ..bounds import BoundMode
from ..checks import LARGEST, check_current, check_flag, check_function, check_number
from ..functional.recurrent import Recurrence
from ..functional.surrogate import Boxcar
from ..models import front_door
from ..models.model import LinearModel, NeuronModel
from ..models.parameters import InitialState, NeuronParameters
from ..models.run import Run, Sequence, States
from ..second_backward import ToldOfSecondBackward
from ..silence import SaysSilence
from ..transforms import check_left_behind
from .history import StepMode
from .memory import DetachableMemories

__all__ = ["Node", "from_model"]

_RESETS = {
    "subtract": "the threshold is subtracted",
    "zero": "the membrane potential that is carried on is zero",
    "none": "the states are not reset",
}


class Node(SaysSilence, ToldOfSecondBackward, NeuronParameters, BaseNode, DetachableMemories):
    """A neuron in both step modes; the base class of what :func:`from_model` makes."""

    _sequence_form = "functional.set_step_mode(net, 'm')"
    _reset_and_detach = (
        "functional.reset_net(net) between batches, or functional.detach_net(net) between the windows of one sequence"
    )

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: StepMode = "s",
        store_v_seq: bool = False,
        *,
        features: int | Iterable[int] | None = None,
        preset: str = "default",
        learn: bool = True,
        bounds: dict[str, Iterable[float]] | None = None,
        bound_mode: BoundMode = "project",
        init_state: InitialState = "zeros",
        **of_model,
    ) -> None:
        """:param of_model: initial values of the model's parameters."""
        for name, value in {"detach_reset": detach_reset, "store_v_seq": store_v_seq, "learn": learn}.items():
            check_flag(name, value)
        if surrogate_function is not None:
            check_function("surrogate_function", surrogate_function, "Boxcar()")
        if v_reset is not None and check_number("v_reset", v_reset) != 0:
            raise ValueError(f"v_reset must be None ({_RESETS[self.model.resets[0]]}) or 0.0, got {v_reset}")
        if v_reset is not None and "zero" not in self.model.resets:
            raise ValueError(f"v_reset must be None: {self.model.name} has no reset to zero, got {v_reset}")
        if isinstance(v_threshold, Tensor):
            raise TypeError(f"v_threshold must be a number (a node learns no threshold), got {v_threshold}")
        super().__init__(
            v_threshold=check_number("v_threshold", v_threshold, above=0.0, most=LARGEST),
            v_reset=None if v_reset is None else float(v_reset),
            surrogate_function=Boxcar() if surrogate_function is None else surrogate_function,
            detach_reset=detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        self.model.check_reset(self.model.resets[0] if v_reset is None else "zero", detach_reset)
        self.store_support, self.support = False, None
        for name in self.model.states[1:]:  # the first is BaseNode's v
            self.register_memory(name, 0.0)
        self.create_neuron_parameters(
            features=features,
            preset=preset,
            initial={name: of_model.get(name) for name in self.model.parameters},
            learn=dict.fromkeys(self.model.parameters, learn),
            bounds=bounds,
            bound_mode=bound_mode,
            init_state=init_state,
        )

    def _reset_mechanism(self) -> str:
        return self.model.resets[0] if self.v_reset is None else "zero"

    def _run(self) -> Run:
        return self.prepared(self.v_threshold, self.surrogate_function, self._reset_mechanism(), self.detach_reset)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: StepMode) -> tuple:
        x = check_current(inputs[0], *(("[T, N, *]", 2) if step_mode == "m" else ("[N, *]", 1)))
        current = x.new_zeros(x.shape[1:]) if step_mode == "m" else x
        self.create_features(tuple(current.shape[1:]))
        if step_mode == "s":
            self.warn_of_sequence(current)
        given = all(isinstance(state, Tensor) for state in states)
        initial = states if given else self.initial_state(current)
        materialized = tuple(
            state if isinstance(state, Tensor) else start if state == 0 else torch.full_like(start, state)
            for state, start in zip(states, initial, strict=True)
        )
        check_left_behind(*states)
        for name, state in zip(self._memories, materialized, strict=True):
            if state.shape != current.shape:
                raise RuntimeError(
                    f"{name} has shape {tuple(state.shape)} but the input of a step {tuple(current.shape)}: call "
                    "spikingjelly.activation_based.functional.reset_net(net) between batches"
                )
        return materialized

    def _continued(self, states: States) -> States:
        return self.continued(states[0]), *states[1:]

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        after, spikes = self._run().step(inputs[0], self._continued(states))
        self.carries(after[0])
        self.watch_step(inputs[0], spikes)
        return (spikes.to(inputs[0].dtype),), after

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        sequence = self._sequence(inputs[0], states, support=self.store_support)
        self.support = sequence.support
        return (sequence.spikes,), sequence.states

    def _sequence(self, x_seq: Tensor, states: States, **wanted: Any) -> Sequence:
        sequence = self._run().sequence(x_seq, self._continued(states), **wanted)
        self.carries(sequence.states[0], sequence.spikes)
        self.watch_part(x_seq, sequence.spikes)
        return sequence

    def multi_step_forward(self, x_seq: Tensor, *args, recurrence: Recurrence | None = None, **kwargs) -> Tensor:
        if not self.store_v_seq and recurrence is None:
            return cast("Tensor", super().multi_step_forward(x_seq, *args, **kwargs))  # of one output
        # BaseNode would loop over single steps here
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        sequence = self._sequence(x_seq, states, traces=self.store_v_seq, recurrence=recurrence)
        self.support = None
        self._memories.update(zip(self._memories, sequence.states, strict=True))
        if sequence.traces is not None:  # they were asked for
            self.v_seq = sequence.traces[0]
        return sequence.spikes

    def reset(self) -> None:
        self.end_batch()
        super().reset()

    def detach(self) -> None:
        self.end_window()
        super().detach()

    def extra_repr(self) -> str:
        return f"features={self.said_features}, {super().extra_repr()}, preset={self.preset!r}"


def from_model(model: NeuronModel, module: str | None = None) -> type[Node]:
    """The SpikingJelly neuron of a model: a class ``NAMENode`` for both step modes, like ``neuron.LIFNode``.

    :param model: a :class:`~snn_delay_plugins.models.LinearModel` (compiled in step mode ``"m"``) or
        :class:`~snn_delay_plugins.models.StepModel`.
    :param module: where pickle will look for the class under its own name; default: the module that calls this.
    :returns: the class. Its memories are ``v``, the model's first state, and the other states under their names.
    :raises TypeError: if ``model`` is no model.
    :raises ValueError: if a state or parameter has the name of something that every node has.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.models import Coefficients, LinearModel, Parameter, membrane_reset
        >>> def coefficients(p, theta, reset, detach_reset):
        ...     jump = membrane_reset(reset, theta, (p["alpha"],), detach_reset)
        ...     return Coefficients(theta=theta, A=((p["alpha"],),), B=(1,), **jump)
        >>> leak = LinearModel(name="Leak", states=("mem",), parameters={"alpha": Parameter(0.4, 0.9)},
        ...                    coefficients=coefficients)
        >>> LeakNode = from_model(leak)
        >>> LeakNode(features=128, step_mode="m")(torch.rand(100, 8, 128)).shape
        torch.Size([100, 8, 128])
    """
    front_door.check_type(model)
    front_door.check_names(model, Node, (*model.states[1:], *model.parameters), {*BaseNode().__dict__, "v"})
    module = front_door.calling_module(module)
    name = f"{model.name}Node"
    signature = front_door.signature_of(Node.__init__, (), dict.fromkeys(model.parameters))
    return front_door.make_class(
        Node, name, module, model, signature, _doc(model, module, name),
        _operator="linear_neuron" if isinstance(model, LinearModel) else None,
    )  # fmt: skip


def _doc(model: NeuronModel, module: str, name: str) -> str:
    memories = ", ".join(f"``{state}``" for state in ("v", *model.states[1:]))
    call = (
        'Input currents ``[N, *]`` (``step_mode="s"``) or ``[T, N, *]`` (``"m"``); spikes of the same shape. The memories '
        f"are {memories}, each ``[N, *]``; they last until ``functional.reset_net``."
    )
    zero = "; ``0.0``: the membrane potential that is carried on is zero" if "zero" in model.resets else ""
    options = [
        ":param v_threshold: firing threshold theta.",
        f":param v_reset: ``None``: {_RESETS[model.resets[0]]}{zero}.",
        ":param surrogate_function: default: the boxcar of half-width and height 0.5.",
        ":param detach_reset: no gradient through the reset.",
        ':param step_mode: ``"s"`` or ``"m"``.',
        ":param store_v_seq: keep the trace of v in ``v_seq`` ``[T, N, *]``.",
        ":param features: shape of the neurons, ``128`` or ``(32, 14, 14)``; ``None``: taken from the first input.",
        ":param learn: ``False``: the parameters are buffers.",
        f':param bounds: intervals that replace those of the preset, e.g. ``{{"{next(iter(model.parameters), "name")}": '
        "(low, high)}``.",
        ':param bound_mode: ``"project"`` (clip after the optimizer\'s step) or ``"clamp"`` (clamp in the forward pass).',
        ':param init_state: ``"zeros"``, or ``"uniform"``: states from U(0, 1) (evaluation: one fixed draw).',
        ":raises ValueError: for options or values that make no such neuron, and inputs that do not fit.",
        ":raises TypeError: for options of the wrong type.",
        ":raises RuntimeError: if the input's shape changed without a reset.",
    ]
    example = "\n".join((
        "    >>> import torch",
        f"    >>> from {module} import {name}",
        f'    >>> {name}(features=128, step_mode="m")(torch.rand(100, 8, 128)).shape',
        "    torch.Size([100, 8, 128])",
    ))  # fmt: skip
    return front_door.document(model, "used like ``neuron.LIFNode``", call, options, example)
