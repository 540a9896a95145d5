"""A model with the values of its parameters, run for a step or a sequence: all that a front door knows of equations.

Users carry states alone from step to step. The spikes of the step before are recovered from them,
``s[t-1] = Theta(z[t-1])``, gradient included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..checks import values_known
from ..functional.linear_neuron import (
    Coefficients,
    LinearState,
    NotFiniteError,
    check_parameter,
    linear_neuron,
    linear_neuron_step,
)
from ..functional.recurrent import Recurrence
from ..functional.surrogate import fire
from ..kernels import dispatch
from .model import LinearModel, NeuronModel, StepModel

__all__ = ["Run", "Sequence", "prepare"]

States = tuple[Tensor, ...]
Surrogate = Callable[[Tensor], Tensor]


class Sequence(NamedTuple):
    """What a sequence leaves."""

    spikes: Tensor
    """``[T, N, *]``, in the dtype of the current."""
    states: States
    """After the last step, each ``[N, *]``."""
    traces: States | None = None
    """The states after every step, each ``[T, N, *]``, where they were asked for."""
    support: Tensor | None = None
    """Where a gradient of the spikes has an effect, bool ``[T, N, *]``; None: everywhere."""


class Run(Protocol):
    """Neurons ready to run; states in the order of the model."""

    @property
    def shows_spikes(self) -> bool:
        """Whether states that were carried tell of their spikes."""
        ...

    def spikes(self, states: States) -> Tensor:
        """The spikes that belong to states ``[N, *]`` that were carried."""
        ...

    def threshold_at(self, states: States) -> Tensor | float:
        """What the membrane potential of states ``[..., N, *]`` is compared with: it may move with the others."""
        ...

    def step(self, current: Tensor, states: States) -> tuple[States, Tensor]:
        """States and spikes after one step, from the current ``[N, *]``.

        :raises ValueError: for shapes that do not fit. :raises NotFiniteError: when a state becomes NaN or infinite.
        """
        ...

    def sequence(
        self, current: Tensor, states: States, traces: bool = False, support: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Sequence:  # fmt: skip
        """The same over a current ``[T, N, *]``, to which ``recurrence`` adds what the neurons say to each other."""
        ...


def prepare(
    model: NeuronModel, parameters: Mapping[str, Tensor], threshold: float | Tensor, surrogate: Surrogate, reset: str,
    detach_reset: bool = False,
) -> Run:  # fmt: skip
    """The neurons of ``model`` with these parameters.

    :raises ValueError: for a reset that the model does not have, and coefficients that are not those of its states.
    """
    if reset not in model.resets:
        raise ValueError(f"{model.name} has no reset {reset!r}; it has {model.resets}")
    if isinstance(model, LinearModel):
        coefficients = model.coefficients(parameters, threshold, reset, detach_reset)
        if not isinstance(coefficients, Coefficients) or len(coefficients.A) != len(model.states):
            got = f"those of {len(coefficients.A)}" if isinstance(coefficients, Coefficients) else repr(coefficients)
            raise ValueError(
                f"coefficients of {model.name} must return the Coefficients of its {len(model.states)} states, got {got}"
            )
        return _LinearRun(parameters, coefficients, surrogate)
    if isinstance(model, StepModel):
        return _StepRun(parameters, model, threshold, surrogate, reset, detach_reset)
    raise TypeError(f"model must be a LinearModel or a StepModel, got {type(model).__name__}")


class _LinearRun(NamedTuple):
    parameters: Mapping[str, Tensor]
    coefficients: Coefficients
    surrogate: Surrogate
    shows_spikes = True

    def spikes(self, states: States) -> Tensor:
        of = self.coefficients
        moved = isinstance(of.c, Tensor) or of.c != 0
        z = states[0] + of.c * states[1] if moved else states[0]
        return fire(z - of.theta, self.surrogate)

    def threshold_at(self, states: States) -> Tensor | float:
        of = self.coefficients
        return of.theta - of.c * states[1] if isinstance(of.c, Tensor) or of.c != 0 else of.theta

    def _started(self, states: States) -> LinearState:
        return LinearState(states[0], states[1] if len(states) > 1 else None, self.spikes(states))

    def step(self, current: Tensor, states: States) -> tuple[States, Tensor]:
        _check_fit(self.parameters, self.coefficients.theta, current, current.shape[1:])
        state = linear_neuron_step(current, self._started(states), self.coefficients, self.surrogate)
        after = _states(state)
        if not current.is_cuda:  # on CUDA the check would wait for the device at every step
            _check_finite(after, self.coefficients.theta)
        return after, state.s

    def sequence(
        self, current: Tensor, states: States, traces: bool = False, support: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Sequence:  # fmt: skip
        _check_fit(self.parameters, self.coefficients.theta, current, current.shape[2:])
        spikes, state, *more = linear_neuron(
            current, self.coefficients, self._started(states), surrogate=self.surrogate, traces=traces, support=support,
            recurrence=recurrence,
        )  # fmt: skip
        if not current.is_cuda:
            _check_finite(_states(state), self.coefficients.theta)
        kept = tuple(trace for trace in more.pop(0) if trace is not None) if traces else None
        return Sequence(spikes, _states(state), kept, more[0] if support else None)


class _StepRun(NamedTuple):
    parameters: Mapping[str, Tensor]
    model: StepModel
    threshold: float | Tensor
    surrogate: Surrogate
    reset: str
    detach_reset: bool
    shows_spikes = True

    def spikes(self, states: States) -> Tensor:
        return fire(self.model.above(states, self.parameters, self.threshold), self.surrogate)

    def threshold_at(self, states: States) -> Tensor | float:
        return states[0] - self.model.above(states, self.parameters, self.threshold)

    def step(self, current: Tensor, states: States) -> tuple[States, Tensor]:
        _check_fit(self.parameters, self.threshold, current, current.shape[1:])
        after = self._stepped(current, states, self.spikes(states))
        if not current.is_cuda:
            _check_finite(after, self.threshold)
        return after, self.spikes(after)

    def _stepped(self, current: Tensor, states: States, spikes: Tensor) -> States:
        after = self.model.step(
            current, states, spikes, self.parameters, self.threshold, self.reset, self.detach_reset
        )  # fmt: skip
        if not isinstance(after, tuple | list):
            raise TypeError(
                f"step of {self.model.name} must return its states as a tuple, as in `return (u,)`, got "
                f"{type(after).__name__}"
            )
        if len(after) != len(states) or any(state.shape != current.shape for state in after):
            shapes = [tuple(state.shape) for state in after]
            raise ValueError(
                f"step of {self.model.name} must return its {len(states)} states of shape {tuple(current.shape)}, got "
                f"{shapes}"
            )
        return tuple(after)

    def sequence(
        self, current: Tensor, states: States, traces: bool = False, support: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Sequence:  # fmt: skip
        _check_fit(self.parameters, self.threshold, current, current.shape[2:])
        if dispatch.wanted_method(None, dispatch.METHODS) is None:
            dispatch.warn_once(
                f"{self.model.name} is not linear and runs in plain PyTorch, step by step: slower than a LinearModel"
            )
        spikes, passed = self.spikes(states), [states]
        emitted = []
        recurrent = None if recurrence is None else recurrence.begin(current, states[0].dtype)
        for step in current.unbind(0):
            if recurrent is not None:
                step = step + recurrent.current()
            states = self._stepped(step, states, spikes)
            spikes = self.spikes(states)
            if recurrent is not None:
                recurrent.fired(spikes)
            passed.append(states)
            emitted.append(spikes)
        _check_finite(states, self.threshold)
        kept = None
        if traces:
            kept = tuple(_stacked(list(values), current, values[0].dtype) for values in zip(*passed, strict=True))
            kept = tuple(trace[1:] for trace in kept)
        return Sequence(_stacked(emitted, current, current.dtype), states, kept)


def _states(state: LinearState) -> States:
    return (state.x0,) if state.x1 is None else (state.x0, state.x1)


def _stacked(steps: list[Tensor], current: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(steps).to(dtype) if steps else current.new_zeros(current.shape, dtype=dtype)


def _check_fit(parameters: Mapping[str, Tensor], threshold: float | Tensor, current: Tensor, features: torch.Size) -> None:
    for name, value in parameters.items():
        check_parameter(name, value, current, features)
    if isinstance(threshold, Tensor):
        check_parameter("threshold", threshold, current, features)


def _check_finite(states: States, threshold: float | Tensor) -> None:
    # A NaN never leaves the recursion, so that the last step tells of every step before it.
    if not values_known(states[0]) or not states[0].numel():
        return
    together = states[0].detach()
    for state in states[1:]:
        together = together + state.detach()
    if isinstance(threshold, Tensor):
        together = together + threshold.detach()
    if torch.isfinite(together).all():
        return
    if isinstance(threshold, Tensor) and not torch.isfinite(threshold.detach()).all():
        raise ValueError(f"threshold must be finite, got {threshold.detach().flatten()[:8].tolist()}")
    raise NotFiniteError(
        "a state of the neurons became NaN or infinite: look for NaN or infinite input currents or parameters, or for an "
        "unstable neuron"
    )
