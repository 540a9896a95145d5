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

from ..checks import check_real, check_sigma, check_steps, check_whole, values_known

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


_TAKEN = {"weight", "delay", "bias", "mask", "smoothing", "max_delay"}
"""What layers with delays have beside the parameters of a rule."""


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
    :param width: number of taps, where there are never more; at most two run in compiled form on events.
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

    def __deepcopy__(self, memo: dict) -> DelayRule:
        return self  # nothing of it changes

    def __post_init__(self) -> None:
        """
        :raises TypeError, ValueError: for fields that no layer could use.
        """
        for field_name in ("window", "whole", *(["kernel"] if self.kernel is not None else [])):
            if not callable(getattr(self, field_name)):
                raise TypeError(f"{self._said(field_name)} must be a function, got {getattr(self, field_name)!r}")
        if self.width is not None:
            check_whole(self._said("width"), self.width, least=1)
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, RuleParameter):
                raise TypeError(f"{self._said(name)} must be a RuleParameter, got {parameter!r}")
        if taken := sorted(set(self.parameters) & _TAKEN):
            raise ValueError(f"{self._said('parameters')} must not be called {taken[0]!r}: layers have another one")
        if self.evaluated is not None:
            if not isinstance(self.evaluated, DelayRule):
                raise TypeError(f"{self._said('evaluated')} must be a DelayRule, got {self.evaluated!r}")
            if self.evaluated.parameters:
                raise ValueError(
                    f"{self._said('evaluated')} must have no parameters, has {', '.join(self.evaluated.parameters)}"
                )

    def windows(self, weight: Tensor, delay: Tensor, max_delay: int, parameters: Mapping[str, Tensor | float]) -> Window:
        """What ``window`` gives for these, its lags of the shape of the weight.

        :raises TypeError, ValueError: unless it is a :class:`Window` within ``[0, max_delay + 1]``, naming the rule.
        """
        window = self.window(weight, delay, max_delay, **parameters)
        if not (isinstance(window, tuple) and len(window) == 2 and all(isinstance(part, Tensor) for part in window)):
            raise TypeError(f"{self._said('window')} must return a Window(taps, lags), got {type(window).__name__}")
        taps, lags = window
        shape = tuple(weight.shape)
        if taps.dim() != weight.dim() + 1 or taps.shape[1:] != weight.shape or not taps.shape[0]:
            raise ValueError(
                f"{self._said('window')} must return taps [width, *weight.shape], at least one, for a weight of shape "
                f"{shape}, got {tuple(taps.shape)}"
            )
        if self.width is not None and taps.shape[0] > self.width:
            raise ValueError(f"{self._said('window')} returned {taps.shape[0]} taps, but its width is {self.width}")
        if taps.dtype != weight.dtype:
            raise TypeError(f"{self._said('window')}: taps must be {weight.dtype}, as the weight, got {taps.dtype}")
        if lags.dtype != torch.int64:
            raise TypeError(
                f"{self._said('window')}: lags must be int64, got {lags.dtype}; convert them, e.g. "
                "delay.detach().floor().long()"
            )
        if lags.shape != weight.shape:
            last = shape[max(0, len(shape) - lags.dim()) :]
            if lags.dim() > len(shape) or any(size not in (1, of) for size, of in zip(lags.shape, last, strict=True)):
                raise ValueError(
                    f"{self._said('window')} must return lags of the shape {shape} of the weight, got {tuple(lags.shape)}"
                )
        if lags.numel() and values_known(lags):
            low, high = torch.stack(torch.aminmax(lags)).tolist()
            high += taps.shape[0] - 1
            if low < 0 or high > max_delay + 1:
                raise ValueError(
                    f"{self._said('window')} has taps at lags {low} to {high}: with max_delay={max_delay} they must lie in "
                    f"[0, {max_delay + 1}]"
                )
        return Window(taps, lags.expand(shape))

    def over_lags(self, weight: Tensor, delay: Tensor, max_delay: int, parameters: Mapping[str, Tensor | float]) -> Tensor:
        """The kernel over time ``[taps, *weight.shape]``: its tap tau weighs the spikes of tau steps ago.

        :raises TypeError, ValueError: for a ``kernel`` or ``window`` of another shape or dtype, naming the rule.
        """
        if self.kernel is None:
            return scatter_window(self.windows(weight, delay, max_delay, parameters), max_delay + 2)
        kernel = self.kernel(weight, delay, max_delay, **parameters)
        if not isinstance(kernel, Tensor) or kernel.dtype != weight.dtype:
            got = kernel.dtype if isinstance(kernel, Tensor) else type(kernel).__name__
            raise TypeError(f"{self._said('kernel')} must return a tensor of {weight.dtype}, as the weight, got {got}")
        most = max_delay + 2
        if kernel.dim() != weight.dim() + 1 or kernel.shape[1:] != weight.shape or not 1 <= kernel.shape[0] <= most:
            raise ValueError(
                f"{self._said('kernel')} must return [taps, *weight.shape] with 1 to max_delay + 2 = {most} taps for a "
                f"weight of shape {tuple(weight.shape)}, got {tuple(kernel.shape)}"
            )
        return kernel

    def whole_delays(self, delay: Tensor, max_delay: int) -> Tensor:
        """What ``whole`` gives for these.

        :raises ValueError: unless these are whole numbers in ``[0, max_delay]``, one for each delay, naming the rule.
        """
        whole = self.whole(delay, max_delay)
        if whole.shape != delay.shape or not bool(((whole == whole.round()) & (whole >= 0) & (whole <= max_delay)).all()):
            raise ValueError(
                f"{self._said('whole')} must return whole numbers in [0, max_delay = {max_delay}] of the shape "
                f"{tuple(delay.shape)} of the delay, got {whole.flatten()[:4].tolist()} ... of shape {tuple(whole.shape)}"
            )
        return whole

    def initial_values(self, max_delay: int) -> dict[str, float]:
        """The further parameters at the start.

        :raises ValueError: for one that is not finite or below its ``low``, naming the rule.
        """
        values = {name: parameter.initial(max_delay) for name, parameter in self.parameters.items()}
        for name, value in values.items():
            if not self.parameters[name].low <= value < math.inf:
                raise ValueError(
                    f"{self._said(f'parameter {name!r}')} must start in [{self.parameters[name].low:g}, inf), got {value:g}"
                )
        return values

    def check_window(self, max_delay: int, parameters: Mapping[str, float]) -> bool:
        """Look at the windows of three synapses of weight 1, with no delay, the longest one and one between.

        :returns: whether delays have a gradient at all.
        :raises TypeError, ValueError: as :meth:`windows`, and for taps that are not finite.
        """
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
            delay = torch.tensor([0.0, 0.4 * max_delay, max_delay]).requires_grad_()
            values = {name: torch.tensor(value) for name, value in parameters.items()}
            taps = self.windows(torch.ones_like(delay), delay, max_delay, values).taps
            if values_known(taps) and not bool(taps.isfinite().all()):
                raise ValueError(f"{self._said('window')} must return finite taps, got {taps.tolist()} for weights of 1")
            return taps.requires_grad and torch.autograd.grad(taps.sum(), delay, allow_unused=True)[0] is not None

    def _said(self, field_name: str) -> str:
        return f"{field_name} of rule {self.name!r}"

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
