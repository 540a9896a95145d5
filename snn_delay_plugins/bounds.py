"""Bounded trainable parameters: the one way in which this package clips.

The papers keep their parameters inside intervals by projection: after each optimizer step the value is clipped,

    p <- min(max(p - update, low), high)                     Deckers et al., section 4.2 ("are clipped")

A clamp inside the forward pass would not do the same: outside the interval its gradient is zero and the parameter
never comes back. It is offered all the same (``mode="clamp"``), because published code uses it.

A module that derives from :class:`BoundedModule` names its intervals once and is projected by every
``torch.optim`` optimizer that holds its parameters, directly after ``optimizer.step()``; nothing has to be called.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from .checks import check_choice, check_number
from .projection import structure_changed, watch

__all__ = ["BoundedModule", "interval_of", "is_lazy", "project_"]

BoundMode = Literal["project", "clamp"]
MODES: tuple[BoundMode, ...] = ("project", "clamp")


class BoundedModule(nn.Module):
    """A module some of whose parameters live in intervals.

    :meth:`bound` names an interval. With ``mode="project"`` (default) the parameter is clipped in place after every
    ``torch.optim`` optimizer step that moves it; with ``mode="clamp"`` it is left alone and :meth:`bounded` clamps
    it where it is read, so that its gradient is zero outside the interval.

    A step moves what the optimizer holds and has a gradient. A parameter of another optimizer, a frozen one, or one
    whose gradient is None is not touched, whatever its value; :func:`project_` clips all.

    Copies (``copy.deepcopy``, ``pickle``, ``torch.load``) are projected like the original, and take the values of its
    states without their graph. An optimizer that does not derive from ``torch.optim.Optimizer``, or that drops the
    gradients inside its step, has to be followed by :func:`project_`; one that evaluates the loss several times per
    step (LBFGS) is projected only after the last, so that ``mode="clamp"`` suits it better.

    Example::

        >>> import torch
        >>> class Leak(BoundedModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.alpha = torch.nn.Parameter(torch.tensor(0.9))
        ...         self.bound("alpha", 0.36, 0.96)
        >>> leak = Leak()
        >>> optimizer = torch.optim.SGD(leak.parameters(), lr=1.0)
        >>> (-leak.alpha).backward(); _ = optimizer.step()
        >>> round(leak.alpha.item(), 2)
        0.96
    """

    def __init__(self, *args, **kwargs) -> None:  # arguments go on to the framework's class beside this one
        super().__init__(*args, **kwargs)
        self._bounds: dict[str, tuple[float, float]] = {}
        self._bound_modes: dict[str, str] = {}
        watch(self)

    def __getstate__(self) -> dict:
        # torch refuses to copy tensors that hang on a graph, which is what the states of a neuron in training do
        return {name: _without_graph(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict) -> None:  # deepcopy and unpickling do not call __init__
        super().__setstate__(state)
        if "_bound_mode" in self.__dict__:  # pickled when a module had one mode for all of its parameters
            mode: BoundMode = self.__dict__.pop("_bound_mode")
            self._bound_modes = dict.fromkeys(self._bounds, mode)
        watch(self)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        structure_changed()

    @property
    def parameter_bounds(self) -> dict[str, tuple[float, float]]:
        """The intervals by parameter name (a copy)."""
        return dict(self._bounds)

    @property
    def projected_bounds(self) -> dict[str, tuple[float, float]]:
        """Those of the parameters that are clipped after an optimizer's step."""
        return {name: interval for name, interval in self._bounds.items() if self._bound_modes[name] == "project"}

    def bound(self, name: str, low: float, high: float, mode: BoundMode = "project") -> None:
        """Keep parameter ``name`` inside ``[low, high]``.

        Every parameter has a mode of its own; a second call for the same name replaces the first.

        :raises ValueError: if the bounds are not two numbers with a finite one inside, or ``mode`` is unknown.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a parameter, got {name!r}")
        interval = interval_of(name, (low, high))
        check_choice("bound mode", mode, MODES)
        # new dictionaries, modes first: another thread may be looking through the old ones after a step of its optimizer
        self._bound_modes = {**self._bound_modes, name: mode}
        self._bounds = {**self._bounds, name: interval}
        structure_changed()

    def bounded(self, name: str) -> Tensor:
        """The value of parameter ``name`` as the forward pass reads it."""
        value = getattr(self, name)
        if self._bound_modes.get(name) == "clamp":
            return value.clamp(*self._bounds[name])
        return value

    def stored(self, name: str) -> Tensor | None:
        """The parameter, buffer or attribute that holds ``name``, not what a parametrization computes from it."""
        for place in (self._parameters, self._buffers, self.__dict__):
            value = place.get(name)
            if value is not None:
                return value
        return None

    def project(self) -> None:
        """Clip every parameter whose mode is ``"project"``, in place."""
        with torch.no_grad():
            for name, (low, high) in self.projected_bounds.items():
                value = self.stored(name)
                if value is not None and not is_lazy(value):
                    value.clamp_(low, high)


def _without_graph(value):
    """``value`` itself, or where it is or directly holds tensors with a graph, the same without it."""
    if isinstance(value, Tensor) and not value.is_leaf:
        return value.detach()
    if isinstance(value, dict) and any(isinstance(v, Tensor) and not v.is_leaf for v in value.values()):
        return type(value)((name, _without_graph(v)) for name, v in value.items())
    return value


def project_(module: nn.Module) -> nn.Module:
    """Clip every bounded parameter inside ``module`` to its interval, in place, and return ``module``.

    Needed only beside optimizers that are not ``torch.optim.Optimizer`` (or after writing into parameters by hand).

    :raises TypeError: if it is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for child in module.modules():
        if isinstance(child, BoundedModule):
            child.project()
    return module


def is_lazy(value: object) -> TypeGuard[nn.UninitializedParameter | nn.UninitializedBuffer]:
    """Whether it is a lazy parameter or buffer that has no shape yet."""
    lazy = nn.parameter.UninitializedTensorMixin  # pyright: ignore[reportAttributeAccessIssue] - not in torch's __all__
    return isinstance(value, lazy)  # torch's is_lazy stops torch.compile


def interval_of(name: str, bounds: Iterable[float]) -> tuple[float, float]:
    """Two numbers between which a finite one lies; either may be infinite."""
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise ValueError(f"bounds of {name!r} must be two numbers (low, high), got {bounds!r}") from None
    if not any(isinstance(value, float) and math.isnan(value) for value in (low, high)):
        low, high = (check_number(f"each of the bounds of {name!r}", value, infinite=True) for value in (low, high))
    if not low <= high or low == math.inf or high == -math.inf:  # also catches NaN
        raise ValueError(f"bounds of {name!r} must satisfy low <= high with a finite number inside, got [{low}, {high}]")
    return low, high
