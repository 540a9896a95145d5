r"""What a delay rule says: over which steps a synapse spreads a spike, as a function of its weight and its delay.

A synapse from neuron j to neuron i is a window of taps over time,

.. math:: I_i[t] = \sum_j \sum_m K_{ij}[m]\, s_j[t - \ell_{ij} - m],

and a rule is the function (weight, delay, ...) -> (taps K, first lag l), differentiable in plain PyTorch: how a delay
between two steps is meant, and what its gradient is. What applies windows (:mod:`snn_delay_plugins.functional.windows`,
convolutions over space, single steps, the compiled kernels) knows no more of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_real, check_sigma, check_steps, values_known

__all__ = ["DelayRule", "RuleParameter", "Window", "check_delays", "check_width", "round_delay", "scatter_window"]


class Window(NamedTuple):
    """The taps of every synapse and where they begin."""

    taps: Tensor
    """``[width, *weight.shape]``, differentiable."""
    lags: Tensor
    """int64, of the shape of the weight (or one that broadcasts to it): the lag of the first tap, within
    ``[0, max_delay]``; the last one lies at ``max_delay + 1`` at most."""


@dataclass(frozen=True)
class RuleParameter:
    """A further parameter of a rule, one number for all synapses or one for each.

    :param low: and ``high``: the interval in which it is kept where it is learned, ``high`` as a function of the longest
        delay. :param initial: its value at the start, as a function of the longest delay.
    """

    low: float
    high: Callable[[int], float]
    initial: Callable[[int], float]


def round_delay(delay: Tensor, max_delay: int) -> Tensor:
    """The nearest whole delay."""
    return delay.round()


@dataclass(frozen=True, kw_only=True, eq=False)
class DelayRule:
    """One way to make taps of a weight and a delay.

    :param name: what ``delay_gradient=`` of the layers calls it.
    :param window: ``(weight, delay, max_delay, **parameters) -> Window``, for weights of any shape; ``delay`` and the
        parameters have that shape or broadcast to it. It calls :func:`check_delays`.
    :param equation: the taps, in LaTeX. :param source: paper and equation number.
    :param parameters: further parameters by name; the layers have options for ``sigma``, a width in time steps.
    :param kernel: the same as one kernel over time ``[taps, *weight.shape]``, whose first tap has lag 0, for those who
        compute with all lags anyway. Default: the window in a kernel of ``max_delay + 2`` taps.
    :param width: number of taps, where it is always the same one; at most two run in compiled form on events.
    :param evaluated: the rule of evaluation, without parameters. Default: this one.
    :param whole: ``(delay, max_delay)`` -> the whole delays that stand for the window when the layer is discretized.
    :param interpolations: the same rule by the name of another interpolation between steps, where it has any.
    :param smoothing: whether the layers take a smoothing kernel with it.
    :raises TypeError: for fields that are not of these kinds.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.delays import RULES
        >>> window = RULES["slayer"].window(torch.tensor([2.0]), torch.tensor([1.25]), max_delay=3)
        >>> window.taps.flatten().tolist(), window.lags.tolist()
        ([1.5, 0.5], [1])
    """

    name: str
    window: Callable[..., Window]
    equation: str = ""
    source: str = ""
    parameters: Mapping[str, RuleParameter] = field(default_factory=dict)
    kernel: Callable[..., Tensor] | None = None
    width: int | None = None
    evaluated: DelayRule | None = None
    whole: Callable[[Tensor, int], Tensor] = round_delay
    interpolations: Mapping[str, DelayRule] = field(default_factory=dict, repr=False)
    smoothing: bool = False

    def __post_init__(self) -> None:
        if not callable(self.window):
            raise TypeError(f"window of rule {self.name!r} must be a function, got {self.window!r}")
        if not isinstance(self.evaluated, DelayRule | None):
            raise TypeError(f"evaluated of rule {self.name!r} must be a DelayRule, got {self.evaluated!r}")
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, RuleParameter):
                raise TypeError(f"{name} of rule {self.name!r} must be a RuleParameter, got {parameter!r}")

    def check_window(self, max_delay: int) -> None:
        """Look at the windows of three synapses, with no delay, the longest one and one between.

        :raises TypeError: if ``window`` does not return taps and whole lags.
        :raises ValueError: for shapes that do not fit, and taps beyond lag 0 and ``max_delay + 1``.
        """
        parameters = {name: parameter.initial(max_delay) for name, parameter in self.parameters.items()}
        with torch.device("cpu"):
            delay = torch.tensor([0.0, 0.4 * max_delay, max_delay])
            made = self.window(torch.ones_like(delay), delay, max_delay, **parameters)
        of = f"window of rule {self.name!r}"
        if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, Tensor) for part in made)):
            raise TypeError(f"{of} must return a Window(taps, lags), got {type(made).__name__}")
        taps, lags = made
        if lags.dtype != torch.int64:
            raise TypeError(f"{of}: lags must be int64, got {lags.dtype}; convert them, e.g. delay.detach().floor().long()")
        if taps.dim() != 2 or taps.shape[1] != 3 or lags.shape not in ((), (1,), (3,)):
            raise ValueError(
                f"{of} must return taps [width, *weight.shape] and lags of the shape of weight, got "
                f"{tuple(taps.shape)} and {tuple(lags.shape)} for weights (3,)"
            )
        if values_known(lags) and not (int(lags.min()) >= 0 and int(lags.max()) + len(taps) - 1 <= max_delay + 1):
            raise ValueError(
                f"{of} has taps at lags {int(lags.min())} to {int(lags.max()) + len(taps) - 1}: with max_delay={max_delay} "
                f"they must lie in [0, {max_delay + 1}]"
            )

    def __deepcopy__(self, memo: dict) -> DelayRule:
        return self  # nothing of it changes

    def over_lags(self, weight: Tensor, delay: Tensor, max_delay: int, parameters: Mapping[str, Tensor | float]) -> Tensor:
        """The kernel over time ``[taps, *weight.shape]``: its tap tau weighs the spikes of tau steps ago."""
        if self.kernel is not None:
            return self.kernel(weight, delay, max_delay, **parameters)
        return scatter_window(self.window(weight, delay, max_delay, **parameters), max_delay + 2)

    def in_evaluation(self) -> DelayRule:
        """The rule that evaluation computes with."""
        return self if self.evaluated is None else self.evaluated

    def spread(self, delay: Tensor, max_delay: int, parameters: Mapping[str, Tensor | float]) -> Tensor | None:
        """Over which steps a spike of weight one is spread, ``[taps, *delay.shape]``; None: not over more than two."""
        if self.width is not None and self.width <= 2:
            return None
        return self.over_lags(torch.ones_like(delay), delay, max_delay, parameters)


def scatter_window(window: Window, length: int) -> Tensor:
    """A window as a kernel of ``length`` taps, the first at lag 0.

    Example::

        >>> import torch
        >>> window = Window(torch.tensor([[1.5], [0.5]]), torch.tensor([1]))
        >>> scatter_window(window, 4).flatten().tolist()
        [0.0, 1.5, 0.5, 0.0]
    """
    taps, lags = window
    kernel = taps.new_zeros(length, *taps.shape[1:])
    place = torch.arange(taps.shape[0], device=taps.device).view(-1, *[1] * (taps.dim() - 1)) + lags
    return kernel.scatter(0, place.expand_as(taps), taps)


def check_delays(delay: Tensor, max_delay: int) -> int:
    """``max_delay`` as an int, no delay being longer.

    :raises ValueError: for delays that are negative, NaN or too long.
    """
    max_delay = check_steps("max_delay", max_delay)
    if delay.numel() == 0 or not values_known(delay):
        return max_delay
    low, high = (value.item() for value in torch.aminmax(delay.detach()))
    if not (low >= 0 and high <= max_delay):  # also catches NaN
        raise ValueError(
            f"delays must lie in [0, max_delay={max_delay}], got {low:g} ... {high:g}; clip them "
            "(snn_delay_plugins.parameters.project_, or bound_mode='clamp' in a layer) or raise max_delay"
        )
    return max_delay


def check_width(sigma: float | Tensor, weight: Tensor, *, zero: bool = False) -> Tensor:
    """The width of windows as a tensor like ``weight``. :param zero: whether it may be zero.

    :raises TypeError, ValueError: for numbers that are not positive, and shapes that do not broadcast to ``weight``.
    """
    if isinstance(sigma, Tensor):
        check_real("sigma", sigma)
    elif not (zero and sigma == 0):
        sigma = check_sigma(sigma)
    sigma = torch.as_tensor(sigma, dtype=weight.dtype, device=weight.device)
    last = weight.shape[max(0, weight.dim() - sigma.dim()) :]  # of equal length: torch 2.6 compiles no other zip
    if sigma.dim() > weight.dim() or any(size not in (1, of) for size, of in zip(sigma.shape, last, strict=True)):
        raise ValueError(f"sigma of shape {tuple(sigma.shape)} does not broadcast to weight {tuple(weight.shape)}")
    if sigma.numel() == 0 or not values_known(sigma):
        return sigma
    low, high = (value.item() for value in torch.aminmax(sigma.detach()))
    if not ((low > 0 or (zero and low == 0)) and math.isfinite(high)):  # also catches NaN
        raise ValueError(f"sigma must be a positive number of time steps, got {low:g}")
    return sigma
