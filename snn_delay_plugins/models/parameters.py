"""Trainable parameters and initial states of a neuron model, one value per neuron; what both frameworks share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from types import MappingProxyType
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ..bounds import BoundedModule, BoundMode, interval_of, is_lazy
from ..callers import user_level
from ..checks import check_choice, check_flag, real_values, values_known
from .model import NeuronModel, Parameter
from .run import Run, prepare

__all__ = ["NeuronParameters", "preset_parameters"]

InitialState = Literal["zeros", "uniform"]
INITIAL_STATES: tuple[InitialState, ...] = ("zeros", "uniform")
_NOT_YET = (
    "the parameters of this neuron take their shape from its first input, which has not come yet: give features= "
    "to the neuron, or run one batch through the network first (also before DistributedDataParallel, AveragedModel or "
    "torch.func read its parameters)"
)


class _TellsFeatures:
    """A lazy tensor whose errors name the argument that would have given the shape."""

    @property
    def shape(self):
        raise RuntimeError(_NOT_YET)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        try:
            return super().__torch_function__(func, types, args, kwargs)  # pyright: ignore[reportAttributeAccessIssue] - of Tensor
        except ValueError as error:
            raise ValueError(_NOT_YET) from error


class _LazyParameter(_TellsFeatures, nn.parameter.UninitializedParameter):
    """torch's lazy parameter, whose error does not know our argument."""


class _LazyBuffer(_TellsFeatures, nn.parameter.UninitializedBuffer):
    """torch's lazy buffer, which alone among the lazy tensors cannot be deep-copied."""

    def __deepcopy__(self, memo: dict) -> _LazyBuffer:
        if id(self) not in memo:
            memo[id(self)] = _lazy_buffer(self.data)
        return memo[id(self)]


def _lazy_buffer(like: Tensor) -> _LazyBuffer:
    return _LazyBuffer(device=like.device, dtype=like.dtype)  # pyright: ignore[reportCallIssue] - it has its parent's __new__


def _lazy_parameter(like: Tensor, requires_grad: bool) -> nn.Parameter:
    kind = cast("Callable[..., nn.Parameter]", nn.UninitializedParameter)  # a Parameter for torch, not for its types
    return kind(requires_grad, device=like.device, dtype=like.dtype)


class NeuronParameters(BoundedModule):
    """Trainable parameters and initial state of the neurons of a model, one value per neuron.

    What the neuron classes of both frameworks share. A subclass names its ``model`` and calls
    :meth:`create_neuron_parameters` once. If ``features`` is not given, the parameters take their shape from the first
    input, as in torch's lazy modules.
    """

    model: ClassVar[NeuronModel]

    # class attributes, so that modules pickled before they existed have them
    _neurons: tuple[int, ...] | None = None
    """The shape that ``features`` or the first input gave; None where neither has."""
    _draws: Mapping[str, tuple[float, float]] = MappingProxyType({})
    _sequence_form = ""  # what takes sequences, in a user's words
    _said_sequence = False

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Parameter]]:
        """The parameters of the neuron by name of the preset, the default first."""
        return cls.model.all_presets

    def create_neuron_parameters(
        self,
        *,
        features: int | Iterable[int] | None = None,
        preset: str = "default",
        initial: Mapping[str, float | Tensor | None] | None = None,
        learn: Mapping[str, bool] | None = None,
        bounds: Mapping[str, Iterable[float]] | None = None,
        bound_mode: BoundMode = "project",
        init_state: InitialState = "zeros",
    ) -> None:
        """Create the parameters of the model; called once by the constructor of a neuron.

        :param features: shape of the neurons, e.g. ``128`` after Linear or ``(32, 14, 14)`` after Conv2d.
        :param preset: key of :meth:`presets`.
        :param initial: given initial values; ``None``: drawn uniformly from the interval of the initial draw.
        :param learn: whether each is a parameter (True, the default) or a fixed buffer.
        :param bounds: intervals that replace the preset's.
        :param bound_mode: ``"project"`` or ``"clamp"``, see :class:`~snn_delay_plugins.parameters.BoundedModule`.
        :param init_state: ``"zeros"`` or ``"uniform"``, see :meth:`initial_state`.
        """
        chosen = preset_parameters(self.presets(), preset, bounds)
        check_choice("init_state", init_state, INITIAL_STATES)
        self.preset, self.init_state = preset, init_state
        initial, learn = initial or {}, learn or {}
        shape = None if features is None else _shape_of(features)
        self._initial: dict[str, float | Tensor | None] = {}
        self._draws = {}
        for name in self.model.parameters:
            given = initial.get(name)
            if name not in chosen:
                if given is not None:
                    raise ValueError(f"preset {preset!r} has no {name}, but {name}={given} was given")
                self.register_parameter(name, None)
                continue
            self.bound(name, chosen[name].low, chosen[name].high, mode=bound_mode)
            self._draws[name] = chosen[name].draw
            self._initial[name] = _inside(name, given, chosen[name])
            self._register(name, check_flag(f"learn_{name}", learn.get(name, True)), shape)
        if init_state == "uniform":
            for name in self._start_names():
                self._register(name, False, shape)
        self._neurons = shape

    def _start_names(self) -> tuple[str, ...]:
        """Of the buffers that hold the states before the first step of an evaluation."""
        return ("initial_u", *(f"initial_{state}" for state in self.model.states[1:]))

    def _register(self, name: str, learn: bool, shape: tuple[int, ...] | None) -> None:
        if shape is None and isinstance(torch.empty(0), FakeTensor):
            raise RuntimeError("torch makes no lazy parameters in a FakeTensorMode: give features, the neurons' shape")
        if learn:
            value = _LazyParameter() if shape is None else nn.Parameter(self._initial_value(name, shape))
            self.register_parameter(name, cast("nn.Parameter", value))  # what torch takes a lazy one for
        else:
            self.register_buffer(name, _LazyBuffer() if shape is None else self._initial_value(name, shape))

    def _initial_value(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One value per neuron of ``shape``; a tensor that the user gave keeps its own shape."""
        initial = self._initial.get(name)
        low, high = self._draws.get(name) or self._bounds.get(name, (0.0, 1.0))
        if isinstance(initial, Tensor):
            if not _broadcasts(initial.shape, shape):
                raise ValueError(f"{name} of shape {tuple(initial.shape)} does not broadcast to the neurons {shape}")
            return torch.empty(initial.shape).copy_(initial)
        if initial is not None:
            return torch.full(shape, initial, dtype=torch.get_default_dtype())
        if math.isinf(high - low):
            raise ValueError(
                f"{name} has no initial value and its bounds [{low}, {high}] are too wide to draw one: give {name}"
            )
        return torch.empty(shape).uniform_(low, high)

    def _lazy(self) -> dict[str, nn.UninitializedParameter | nn.UninitializedBuffer]:
        """The parameters and buffers that have no shape yet."""
        named = ((name, getattr(self, name, None)) for name in (*self._initial, *self._start_names()))
        return {name: value for name, value in named if value is not None and is_lazy(value)}

    def create_features(self, shape: tuple[int, ...]) -> None:
        """Give every lazy parameter one value per neuron of ``shape``."""
        if self._neurons is not None:
            return
        lazy = self._lazy()
        for name, value in lazy.items():
            with torch.inference_mode(False), torch.no_grad():  # born in inference mode they could not be trained
                initial = self._initial_value(name, shape)
                value.materialize(initial.shape)
                value.copy_(initial)
        if lazy:
            self._neurons = shape

    @property
    def said_features(self) -> str:
        """``features`` as a user writes them; None before the first input."""
        return str(self._neurons[0] if self._neurons is not None and len(self._neurons) == 1 else self._neurons)

    def warn_of_sequence(self, current: Tensor) -> None:
        """Warn once where the input of one step has more dimensions than ``[N, *]`` of the neurons: a sequence."""
        shape = self._neurons
        if torch.compiler.is_compiling() or shape is None or current.dim() <= 1 + len(shape) or self._said_sequence:
            return
        if math.prod(shape) == 1:  # one value that all neurons share
            return
        self._said_sequence = True
        warnings.warn(
            f"{type(self).__name__} takes one step [N, *] per call and has neurons of shape {shape}, but its input has "
            f"shape {tuple(current.shape)}: it looks like a sequence [T, N, *], whose time steps are taken for samples: "
            f"use {self._sequence_form}. If it is one step, give features one size per dimension, features="
            f"{(1,) * (current.dim() - 1 - len(shape)) + shape}",
            stacklevel=user_level(),
        )

    def initial_state(self, current: Tensor) -> tuple[Tensor, ...]:
        """The states before the first step, in the model's order, for the input current ``[N, *]`` of one step.

        ``init_state="zeros"``: zero. ``"uniform"``: in training U(0, 1), drawn for every sample anew (Deckers et al.,
        section 4.2) from torch's global generator; in evaluation one fixed draw per neuron (the buffers ``initial_...``),
        so that a result depends on nothing but the sample.
        """
        zeros = torch.zeros_like(current, dtype=self._state_dtype(current))
        if self.init_state == "zeros":
            return (zeros,) * len(self.model.states)
        if self.training:
            return tuple(torch.rand_like(zeros) for _ in self.model.states)
        return tuple(getattr(self, name).to(zeros.dtype).expand_as(zeros) for name in self._start_names())

    def _state_dtype(self, current: Tensor) -> torch.dtype:
        for name in self._initial:
            return torch.promote_types(current.dtype, getattr(self, name).dtype)
        return current.dtype

    def neuron_parameters(self) -> dict[str, Tensor | None]:
        """The parameters as the equations read them."""
        return {name: None if getattr(self, name) is None else self.bounded(name) for name in self.model.parameters}

    def prepared(
        self, threshold: float | Tensor, surrogate: Callable[[Tensor], Tensor], reset: str, detach_reset: bool = False
    ) -> Run:
        """The model with the parameters of now, ready to run."""
        given = cast("dict[str, Tensor]", self.neuron_parameters())  # models know which of theirs a preset leaves out
        return prepare(self.model, given, threshold, surrogate, reset, detach_reset)

    def _apply(self, fn, recurse: bool = True):
        lazy = self._lazy()
        super()._apply(fn, recurse)
        for name, before in lazy.items():
            value = getattr(self, name)
            if not is_lazy(value):  # torch forgets it on the way to the meta device
                if isinstance(before, nn.UninitializedParameter):
                    self._parameters[name] = _lazy_parameter(value, before.requires_grad)
                else:
                    self._buffers[name] = _lazy_buffer(value)
        return self

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        values = (*self._parameters.values(), *self._buffers.values())
        lazy = any(value is not None and is_lazy(value) for value in values)
        super()._save_to_state_dict(destination, prefix, keep_vars or lazy)  # a lazy parameter cannot be detached

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name, value in self._lazy().items():
            saved = state_dict.get(prefix + name)
            if saved is not None and not is_lazy(saved):
                with torch.no_grad():
                    value.materialize(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def preset_parameters(
    presets: Mapping[str, Mapping[str, Parameter]], preset: str, bounds: Mapping[str, Iterable[float]] | None = None
) -> dict[str, Parameter]:
    """The parameters of a preset, the intervals of some of them replaced.

    :raises ValueError: for an unknown preset, or an override for a parameter that the preset does not have.
    """
    chosen = dict(presets[check_choice("preset", preset, sorted(presets))])
    if not isinstance(bounds, Mapping | None):
        raise TypeError(f"bounds must be a dict such as {{'alpha': (0.5, 0.9)}}, got {bounds!r}")
    for name, interval in (bounds or {}).items():
        if name not in chosen:
            raise ValueError(f"preset {preset!r} has no parameter {name!r}; it has {sorted(chosen)}")
        chosen[name] = _within(name, chosen[name], *interval_of(name, interval))
    return chosen


def _within(name: str, parameter: Parameter, low: float, high: float) -> Parameter:
    """``parameter`` with the interval of a user; its initial draw goes with it."""
    least, most = parameter.domain
    if not least <= low <= high <= most:
        raise ValueError(
            f"{name} is {parameter.doc or 'a parameter'}: its bounds must lie in [{least:g}, {most:g}], got "
            f"[{low:g}, {high:g}]"
        )
    initial = parameter.initial
    if initial is not None:
        initial = (min(max(initial[0], low), high), min(max(initial[1], low), high))
    return replace(parameter, low=low, high=high, initial=initial)


def _shape_of(features: int | Iterable[int]) -> tuple[int, ...]:
    shape = tuple(features) if isinstance(features, Iterable) else (features,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and 0 < size < 2**31 for size in shape):
        raise ValueError(f"features must be positive whole numbers, got {features!r}")
    return tuple(int(size) for size in shape)


def _broadcasts(shape: torch.Size, target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def _inside(name: str, value: float | Tensor | None, parameter: Parameter) -> float | Tensor | None:
    """A given initial value, brought into its interval with a warning."""
    if value is None:
        return None
    given = real_values(name, value)
    if not values_known(given):
        return given.clamp(parameter.low, parameter.high)
    if not torch.isfinite(given).all():
        raise ValueError(f"{name} must be finite, got {value}")
    least, most = parameter.domain
    if not ((given >= least) & (given <= most)).all():
        raise ValueError(
            f"{name} is {parameter.doc or 'a parameter'} and lies in [{least:g}, {most:g}], got {value}; "
            "the number of neurons is the argument features"
        )
    clipped = given.clamp(parameter.low, parameter.high)
    if not torch.equal(clipped, given):
        warnings.warn(
            f"{name}={value} lies outside its interval [{parameter.low:.4g}, {parameter.high:.4g}] and is clipped; "
            f"pass bounds={{{name!r}: (low, high)}} to widen it",
            stacklevel=user_level(),
        )
    return clipped if given.dim() else clipped.item()
