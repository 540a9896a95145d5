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
from typing import Any

import torch
from torch import Tensor

from ..checks import values_known
from ..functional.adlif import RESETS
from ..functional.linear_neuron import Coefficients

__all__ = ["RESETS", "LinearModel", "NeuronModel", "Parameter", "StepModel", "membrane_reset"]

Number = Tensor | float


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter, one value per neuron.

    :param low, high: the interval in which it is kept after every optimizer step.
    :param initial: interval of the uniform initial draw; default: the whole interval.
    :param domain: where the equations hold; users can widen the interval up to it.
    :param doc: what it is, as in "a leak per time step (membrane)".
    :raises TypeError: for an initial draw or a domain that is no interval.
    :raises ValueError: unless low <= high inside of the domain, and the initial draw is finite and inside.
    """

    low: float = -math.inf
    high: float = math.inf
    initial: tuple[float, float] | None = None
    domain: tuple[float, float] = (-math.inf, math.inf)
    doc: str = ""

    def __post_init__(self) -> None:
        for name, interval in (("initial", self.initial), ("domain", self.domain)):
            if interval is not None and not (isinstance(interval, tuple | list) and len(interval) == 2):
                raise TypeError(f"{name} of a parameter must be (low, high), got {interval!r}")
        if not self.low <= self.high:
            raise ValueError(f"a parameter's interval must satisfy low <= high, got [{self.low}, {self.high}]")
        if not self.domain[0] <= self.low <= self.high <= self.domain[1]:
            raise ValueError(f"a parameter's interval [{self.low}, {self.high}] must lie in its domain {self.domain}")
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
    :param states: names of the states, the membrane potential first: ``mem``, which is called ``v`` in SpikingJelly.
    :param parameters: by name, in the order of the constructor.
    :param title: what it is in a few words. :param equations: in LaTeX, one line a state. :param source: paper and
        equation number. :param notes: what else is to be said, in sentences. The four head the docstrings.
    :param presets: other parameters by name of the preset; one that a preset leaves out is as in ``parameters``, which are
        the preset ``"default"``.
    :param resets: what can be chosen, the default first.
    :raises TypeError: for parameters that are none.
    :raises ValueError: for names that can be none, parameters of presets that the model does not have, and unknown resets.
    """

    name: str
    states: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    title: str = ""
    equations: str = ""
    source: str = ""
    notes: str = ""
    presets: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    resets: tuple[str, ...] = RESETS

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.states:
            raise ValueError(
                f"a model needs a name that can be a class's and at least one state, got {self.name!r} and {self.states}"
            )
        names = (*self.states, *self.parameters)
        for name in names:
            if not name.isidentifier() or names.count(name) > 1:
                raise ValueError(f"states and parameters of {self.name} need names of their own, got {name!r} in {names}")
        for each in (self.parameters, *self.presets.values()):
            for name, value in each.items():
                if not isinstance(value, Parameter):
                    raise TypeError(f"{name} of {self.name} must be a Parameter(low, high), got {value!r}")
        for preset, changed in self.presets.items():
            strange = sorted(set(changed) - set(self.parameters))
            if strange or preset == "default":
                raise ValueError(f"preset {preset!r} of {self.name} changes {strange}; it has {sorted(self.parameters)}")
        unknown = sorted(set(self.resets) - set(RESETS))
        if unknown or not self.resets:
            raise ValueError(f"resets of {self.name} must be of {RESETS}, got {self.resets}")

    @property
    def all_presets(self) -> dict[str, dict[str, Parameter]]:
        """All parameters by name of the preset, the default first."""
        changes = {"default": {}, **self.presets}
        return {preset: {**self.parameters, **changed} for preset, changed in changes.items()}

    def check_reset(self, reset: str, detach_reset: bool = False) -> None:
        """
        :raises ValueError: for a reset that the model does not have, as far as can be seen.
        """
        if reset not in self.resets:
            raise ValueError(f"{self.name} has no reset {reset!r}; it has {self.resets}")


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.states) > 2:
            raise ValueError(f"a LinearModel has one or two states, {self.name} has {self.states}: make it a StepModel")

    def check_reset(self, reset: str, detach_reset: bool = False) -> None:
        """
        :raises ValueError: for a reset that the model does not have, and one of which its coefficients know nothing.
        """
        super().check_reset(reset, detach_reset)
        if reset == self.resets[0] and not detach_reset:
            return
        middle = {name: torch.full((1,), sum(of.draw) / 2, device="cpu") for name, of in self.parameters.items()}
        default, chosen = (self.coefficients(middle, 1.0, kind, detach_reset) for kind in (self.resets[0], reset))
        if reset != self.resets[0] and _same(default, chosen):
            raise ValueError(
                f"coefficients of {self.name} are the same for reset {reset!r} as for {self.resets[0]!r}: the model has "
                f"resets={self.resets} but does not look at its argument reset"
            )
        if detach_reset and chosen.through is None and any(name[0] in "rJ" for name in chosen.named):
            raise ValueError(
                f"coefficients of {self.name} do not look at detach_reset: they give no through= "
                "(snn_delay_plugins.models.membrane_reset does)"
            )


def _same(one: Coefficients, other: Coefficients) -> bool:
    """Whether two neurons of the same parameters are one."""
    a, b = one.named, other.named
    if one.structure != other.structure or set(a) != set(b):
        return False
    values = [torch.as_tensor(x).detach() for name in a for x in (a[name], b[name])]
    return all(map(values_known, values)) and all(map(torch.equal, values[::2], values[1::2]))


def _above(states: tuple[Tensor, ...], parameters: Mapping[str, Tensor], theta: Number) -> Tensor:
    return states[0] - theta


@dataclass(frozen=True, kw_only=True)
class StepModel(NeuronModel):
    """A neuron that is not linear; it runs step by step in plain PyTorch.

    :param step: ``(current, states, spikes, parameters, theta, reset, detach_reset) -> states``: the states after the
        step; ``spikes`` are those of the step before.
    :param above: ``(states, parameters, theta) -> z``: how far neurons in these states are above their threshold; they
        spike where z >= 0, with the surrogate gradient of z. Default: the first state minus theta.

    Example::

        >>> import torch
        >>> def step(current, states, spikes, p, theta, reset, detach_reset):
        ...     (u,) = states
        ...     return (u + p["rate"] * u * (u - 0.5) + current - theta * spikes,)
        >>> quadratic = StepModel(name="Quadratic", states=("mem",), parameters={"rate": Parameter(0.0, 0.5)}, step=step,
        ...                       resets=("subtract",))
        >>> quadratic.above((torch.tensor([0.5, 1.5]),), {}, 1.0)
        tensor([-0.5000,  0.5000])
    """

    step: Callable[..., tuple[Tensor, ...]]
    above: Callable[[tuple[Tensor, ...], Mapping[str, Tensor], Number], Tensor] = _above


def membrane_reset(reset: str, theta: Number, column: tuple[Number, ...], detach_reset: bool = False) -> dict[str, Any]:
    """r, J and through of a reset of the first state, for
    :class:`~snn_delay_plugins.functional.linear_neuron.Coefficients`.

    ``"subtract"``: theta is subtracted in the step after the spike; ``"zero"``: the first state is carried on as zero;
    ``"none"``.

    :param column: the first column of A, by which a state that is carried on is multiplied.
    :param detach_reset: no gradient flows through the reset. A model whose spikes add to a state of their own, as an
        adaptation, gives r and through itself.
    """
    through = {"through": (0,)} if detach_reset else {}
    if reset == "subtract":
        return {"r": (-theta,), **through}
    if reset == "zero":
        rows = tuple((0 if _absent(value) else -value, *(0,) * (len(column) - 1)) for value in column)
        return {"J": rows, **through}
    return through


def _absent(value: Number) -> bool:
    return not isinstance(value, Tensor) and value == 0
