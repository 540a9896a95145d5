"""What a neuron model says: its states, its trainable parameters, and the equations, as coefficients or as a step.

A :class:`LinearModel` maps its parameters to the coefficients of a linear system with jumps
(:mod:`snn_delay_plugins.functional.linear_neuron`), differentiably in plain PyTorch; the kernels, both frameworks' front
doors and the conformance tests know no more of it. A :class:`StepModel` is not linear: it gives one step in plain
PyTorch and runs in that form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..functional.linear_neuron import Coefficients

__all__ = ["RESETS", "LinearModel", "NeuronModel", "Parameter", "StepModel", "membrane_reset"]

RESETS = ("subtract", "zero", "none")
Number = Tensor | float


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter, one value per neuron.

    :param low, high: the interval in which it is kept after every optimizer step.
    :param initial: interval of the uniform initial draw; default: the whole interval.
    :raises ValueError: unless low <= high and the initial draw is finite and inside.
    """

    low: float = -math.inf
    high: float = math.inf
    initial: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"a parameter's interval must satisfy low <= high, got [{self.low}, {self.high}]")
        low, high = self.draw
        if not (math.isfinite(low) and math.isfinite(high) and self.low <= low <= high <= self.high):
            raise ValueError(f"initial values need a finite interval inside [{self.low}, {self.high}], got [{low}, {high}]")

    @property
    def draw(self) -> tuple[float, float]:
        """Interval of the initial draw."""
        return self.initial or (self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class NeuronModel:
    """What linear models and others have in common.

    :param name: of the class that it becomes in snnTorch; SpikingJelly's is ``nameNode``.
    :param states: names of the states, the membrane potential first; ``mem`` in snnTorch is ``v`` in SpikingJelly.
    :param parameters: by name, in the order of the constructor.
    :param equations: in LaTeX, one line a state; they head the docstrings. :param source: paper and equation number.
    :param presets: other intervals by name of the preset; a parameter that a preset leaves out is as in ``parameters``.
    :param resets: what can be chosen, the default first.
    """

    name: str
    states: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    equations: str = ""
    source: str = ""
    presets: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    resets: tuple[str, ...] = RESETS

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.states:
            raise ValueError(
                f"a model needs a name that can be a class's and at least one state, got {self.name!r} and {self.states}"
            )
        unknown = sorted(set(self.resets) - set(RESETS))
        if unknown or not self.resets:
            raise ValueError(f"resets of {self.name} must be of {RESETS}, got {self.resets}")


@dataclass(frozen=True, kw_only=True)
class LinearModel(NeuronModel):
    """A neuron of one or two states that is a linear system with jumps.

    :param coefficients: ``(parameters by name, theta, reset, detach_reset) -> Coefficients``.

    Example::

        >>> import torch
        >>> def coefficients(p, theta, reset, detach_reset):
        ...     return Coefficients(theta=theta, A=((p["alpha"],),), B=(1 - p["alpha"],), r=(-theta,))
        >>> leaky = LinearModel(name="Leak", states=("mem",), parameters={"alpha": Parameter(0.4, 0.9)},
        ...                     coefficients=coefficients, resets=("subtract",))
        >>> leaky.coefficients({"alpha": torch.tensor(0.5)}, 1.0, "subtract", False).structure.names
        ('A00', 'r0', 'B0', 'theta')
    """

    coefficients: Callable[[Mapping[str, Tensor], Number, str, bool], Coefficients]


@dataclass(frozen=True, kw_only=True)
class StepModel(NeuronModel):
    """A neuron that is not linear; it runs step by step in plain PyTorch.

    :param step: ``(current, states, spikes, parameters, theta, reset, detach_reset) -> (states, distance)``: the states
        after the step, and how far the neuron is above its threshold, on which the surrogate is called; ``spikes`` are
        those of the step before.
    """

    step: Callable[..., tuple[tuple[Tensor, ...], Tensor]]


def membrane_reset(reset: str, theta: Number, column: tuple[Number, ...]) -> dict:
    """r and J of a reset of the first state, for :class:`~snn_delay_plugins.functional.linear_neuron.Coefficients`.

    ``"subtract"``: theta is subtracted in the step after the spike; ``"zero"``: the first state is carried on as zero;
    ``"none"``.

    :param column: the first column of A, by which a state that is carried on is multiplied.
    """
    if reset == "subtract":
        return {"r": (-theta,)}
    if reset == "zero":
        rows = tuple((0 if _absent(value) else -value, *(0,) * (len(column) - 1)) for value in column)
        return {"J": rows}
    return {}


def _absent(value: Number) -> bool:
    return not isinstance(value, Tensor) and value == 0
