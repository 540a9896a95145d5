"""EventProp layers of adaptive and other linear neurons, with a constant for the layer or one per neuron.

The equations are in :mod:`snn_delay_plugins.functional.eventprop_linear`, the models in
:mod:`snn_delay_plugins.functional.eventprop_models`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from .checks import check_number, shape_alone
from .eventprop import EventPropSpiking, Output, _EventPropLayer
from .events import SpikeEvents
from .functional.eventprop_linear import eventprop_linear
from .functional.eventprop_models import ADLIF, Constant, ContinuousModel
from .parameters import DelayType

__all__ = ["EventPropAdLIF", "EventPropLinear", "LinearNeurons", "ModelConstants"]

Value = float | Tensor | tuple[float, float]


class ModelConstants(_EventPropLayer):
    """Constants of a layer of any linear model, fixed or trained, one for all or one for each."""

    _own: ClassVar[Mapping[str, Constant]] = {}
    """Beside those of the model."""
    model: ContinuousModel

    def _create_neurons(
        self, model: ContinuousModel, constants: Mapping[str, Value], learn: Collection[str] | str, neurons: int
    ) -> None:
        """``neurons``: for how many one constant may be given, and is drawn."""
        if not isinstance(model, ContinuousModel):
            raise TypeError(f"model must be a ContinuousModel, got {type(model).__name__}")
        self.model = model
        known = {**model.constants, **self._own}
        learnt = set(known) if learn == "all" else _names(learn)
        for name in sorted((set(constants) | learnt) - set(known)):
            raise ValueError(f"{model.name} has no constant {name!r}; it has {', '.join(known)}")
        for name, constant in known.items():
            self._create_value(name, constants.get(name, constant.default), constant, name in learnt, neurons)

    def _fits(self, value: Tensor, neurons: int) -> bool:
        return value.dim() == 0 or tuple(value.shape) == (neurons,)

    def _create_value(self, name: str, value: Value, constant: Constant, learn: bool, neurons: int) -> None:
        if isinstance(value, tuple | list):
            least, most = _interval(name, value)
            tensor = torch.empty(neurons).uniform_(least, most)
        elif isinstance(value, Tensor):
            tensor, least, most = value.detach().clone(), constant.default, constant.default
        else:
            least = most = check_number(name, value)
            tensor = torch.tensor(least)
        if not self._fits(tensor, neurons):
            raise ValueError(
                f"{name} must be a number, a tensor [{neurons}] or (low, high), got shape {tuple(tensor.shape)}"
            )
        tensor = tensor.to(torch.get_default_dtype() if not tensor.is_floating_point() else tensor.dtype)
        if not shape_alone(tensor):
            least, most = float(tensor.min()), float(tensor.max())
        if constant.positive and not least > 0:
            raise ValueError(f"{name} must be positive, got {value}")
        low = least / 20 if constant.positive else constant.low
        if not (math.isfinite(least) and math.isfinite(most) and low <= least and most <= constant.high):
            raise ValueError(f"{name} must be finite and lie in [{constant.low:g}, {constant.high:g}], got {value}")
        if learn:
            self.register_parameter(name, nn.Parameter(tensor))
            self.bound(name, low, constant.high)
        else:
            self.register_buffer(name, tensor)

    def _value(self, name: str) -> Tensor:
        return self.bounded(name) if name in self._parameters else getattr(self, name)

    def _learnt(self) -> list[str]:
        return [name for name in {**self.model.constants, **self._own} if name in self._parameters]


class LinearNeurons(ModelConstants, EventPropSpiking):
    """The neurons of a layer of any linear model, which spike."""

    _counted_as = "eventprop_linear"
    _own: ClassVar = {"threshold": Constant(1.0, positive=True), "refractory": Constant(0.0, low=0.0)}

    def neurons(self) -> tuple[ContinuousModel, dict, Tensor, Tensor | float]:
        constants = {name: self._value(name) for name in self.model.constants}
        return self.model, constants, self._value("threshold"), self._value("refractory")

    def _fire(self, events: SpikeEvents, scale: float = 1.0) -> SpikeEvents:
        """``scale``: of the threshold."""
        raise NotImplementedError

    def _largest_potential(self, events: SpikeEvents) -> str:
        """By the largest threshold that is reached: until then there is no spike and no recurrence."""
        low, high = 0.0, 1.0
        for k in range(14):
            middle = 10.0 ** (-k) if low == 0 else 0.5 * (low + high)
            silent = not self._reaches(events, middle)
            low, high = (low, middle) if silent else (middle, high)
        return f"{low:.3g} of the threshold" if low else "not above zero"

    def _reaches(self, events: SpikeEvents, scale: float) -> bool:
        try:
            return len(self._fire(events, scale)) > 0
        except RuntimeError:  # more than max_spikes
            return True

    def _suspected_constant(self) -> tuple[str, float]:
        name = "tau_mem" if "tau_mem" in self.model.constants else next(iter(self.model.constants), "threshold")
        return name, float(self._value(name).detach().min())


class EventPropLinear(LinearNeurons):
    r"""Neurons of any linear model whose synapses have trainable weights and delays, with exact gradients.

    .. math:: \dot x = M x, \quad x \leftarrow x + w B \text{ at } t_i + d, \quad
              c \cdot x = \vartheta: \text{spike}, x \leftarrow x + J x + r

    Input, output, delays, weights and what is said of silence: as
    :class:`~snn_delay_plugins.eventprop.EventPropLIF`.

    Parameters
    ----------
    in_features, out_features : int
    model : ContinuousModel
        :data:`~snn_delay_plugins.functional.eventprop_models.ADLIF`, ``LIF``, ``RESONATE_AND_FIRE`` or your own.
    constants : mapping
        Of the model's constants, and ``threshold``, by name: a number for all neurons; a Tensor [out]; or (low, high):
        drawn from U(low, high) for every neuron. What is left out has its default.
    refractory : float, Tensor [out] or (low, high)
        Absolute refractory period: the membrane potential is held, arrivals act on the other states.
    learn : collection of names, or "all"
        Constants to be trained, ``"threshold"`` and ``"refractory"`` among them; positive ones stay above a twentieth of
        their initial value after every optimizer step.
    recurrent, delay, recurrent_delay, max_delay, delay_type, learn_delay, weight_init, recurrent_weight_init
        As in :class:`~snn_delay_plugins.eventprop.EventPropLIF`.
    dt, output, count_gradient, max_spikes
        As there; ``dt`` is the bin width of dense input and output.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as :func:`snn_delay_plugins.functional.eventprop_linear.eventprop_linear`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.eventprop_linear import EventPropLinear
    >>> from snn_delay_plugins.functional.eventprop_models import RESONATE_AND_FIRE
    >>> _ = torch.manual_seed(0)
    >>> layer = EventPropLinear(20, 8, RESONATE_AND_FIRE, constants={"omega": (0.1, 0.5)}, learn=["omega"],
    ...                         weight_init=(0.1, 0.1))
    >>> layer((torch.rand(100, 2, 20) < 0.05).float()).times.sum().backward()
    >>> layer.omega.grad.shape
    torch.Size([8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        model: ContinuousModel,
        *,
        constants: Mapping[str, Value] | None = None,
        refractory: Value = 0.0,
        learn: Collection[str] | str = (),
        recurrent: bool = False,
        delay: float | str | Tensor | None = 0.0,
        recurrent_delay: float | str | Tensor | None = 0.0,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.05, 0.02),
        recurrent_weight_init: tuple[float, float] = (0.0, 0.02),
        dt: float = 1.0,
        output: Output = "events",
        count_gradient: float = 0.0,
        max_spikes: int = 10_000,
    ) -> None:
        super().__init__()
        self._create_scheme(dt, "exact")
        self._create_layer(
            in_features, out_features, recurrent=recurrent, delay=delay, recurrent_delay=recurrent_delay,
            max_delay=max_delay, delay_type=delay_type, learn_delay=learn_delay, weight_init=weight_init,
            recurrent_weight_init=recurrent_weight_init, output=output, max_spikes=max_spikes,
            count_gradient=count_gradient,
        )  # fmt: skip
        self._create_neurons(model, {**(constants or {}), "refractory": refractory}, learn, self.out_features)

    def _fire(self, events: SpikeEvents, scale: float = 1.0) -> SpikeEvents:
        return eventprop_linear(
            events,
            self.weight,
            self._delay("delay"),
            model=self.model,
            constants={name: self._value(name) for name in self.model.constants},
            threshold=self._value("threshold") * scale,
            refractory=self._value("refractory"),
            dt=self.dt,
            recurrent_weight=self.recurrent_weight,
            recurrent_delay=self._delay("recurrent_delay"),
            max_spikes=self.max_spikes,
        )

    def extra_repr(self) -> str:
        delays = "no delays" if self.delay is None else f"max_delay={self.max_delay:g}, delay_type={self.delay_type!r}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, model={self.model.name}, {delays}, "
            f"dt={self.dt:g}, learn={self._learnt()}, recurrent={self.recurrent}, output={self.output!r}"
        )


class EventPropAdLIF(EventPropLinear):
    r"""Adaptive leaky integrate-and-fire neurons (AdLIF+) in continuous time, with delays and exact gradients.

    .. math:: \tau_m \dot V = -V + I - W, \quad \tau_w \dot W = -W + a V, \quad \tau_s \dot I = -I, \quad
              V = \vartheta: \text{spike}, V \leftarrow V - \vartheta, W \leftarrow W + b

    (Deckers et al., Eq. 1, in continuous time.) V oscillates for a > (tau_adapt - tau_mem)^2 / (4 tau_mem tau_adapt).
    :func:`~snn_delay_plugins.functional.eventprop_models.adlif_from_discrete` gives the constants of a discrete AdLIF+.

    Parameters
    ----------
    tau_mem, tau_syn, tau_adapt, a, b, threshold, refractory
        A number for all neurons, a Tensor [out], or (low, high): drawn from U(low, high) for every neuron. Time constants,
        the refractory period and delays are in the unit of the events' times, ms by convention.
    learn : collection of their names, or "all"
    others
        As in :class:`EventPropLinear` and :class:`~snn_delay_plugins.eventprop.EventPropLIF`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins import EventPropLI
    >>> from snn_delay_plugins.eventprop_linear import EventPropAdLIF
    >>> _ = torch.manual_seed(0)
    >>> hidden = EventPropAdLIF(700, 32, tau_mem=(10.0, 30.0), learn=["tau_mem", "b"], delay="uniform", max_delay=50.0)
    >>> net = torch.nn.Sequential(hidden, EventPropLI(32, 20))
    >>> net((torch.rand(100, 2, 700) < 0.05).float()).sum().backward()
    >>> hidden.tau_mem.grad.shape, hidden.b.grad.shape
    (torch.Size([32]), torch.Size([]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tau_mem: Value = 20.0,
        tau_syn: Value = 5.0,
        tau_adapt: Value = 100.0,
        a: Value = 0.5,
        b: Value = 0.2,
        threshold: Value = 1.0,
        refractory: Value = 0.0,
        learn: Collection[str] | str = (),
        recurrent: bool = False,
        delay: float | str | Tensor | None = 0.0,
        recurrent_delay: float | str | Tensor | None = 0.0,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.05, 0.02),
        recurrent_weight_init: tuple[float, float] = (0.0, 0.02),
        dt: float = 1.0,
        output: Output = "events",
        count_gradient: float = 0.0,
        max_spikes: int = 10_000,
    ) -> None:
        super().__init__(
            in_features, out_features, ADLIF,
            constants={
                "tau_mem": tau_mem, "tau_syn": tau_syn, "tau_adapt": tau_adapt, "a": a, "b": b, "threshold": threshold,
            },
            refractory=refractory, learn=learn, recurrent=recurrent, delay=delay, recurrent_delay=recurrent_delay,
            max_delay=max_delay, delay_type=delay_type, learn_delay=learn_delay, weight_init=weight_init,
            recurrent_weight_init=recurrent_weight_init, dt=dt, output=output, count_gradient=count_gradient,
            max_spikes=max_spikes,
        )  # fmt: skip


def _names(learn: object) -> set[str]:
    names = {learn} if isinstance(learn, str) else set(learn) if isinstance(learn, Collection) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f'learn must be names of constants, as in learn=["tau_mem"], or "all", got {learn!r}')
    return names


def _interval(name: str, ends: Sequence[float]) -> tuple[float, float]:
    if len(ends) != 2:
        raise ValueError(f"{name} must be a number, a tensor or an interval (low, high), got {ends!r}")
    low, high = (check_number(f"{name} (an end of its interval)", end) for end in ends)
    if low > high:
        raise ValueError(f"{name} must be an interval (low, high) with low <= high, got {ends!r}")
    return low, high
