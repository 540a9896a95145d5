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
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from .callers import user_level
from .checks import check_choice, check_flag, check_number, check_spikes, check_steps, check_whole, values_known
from .projection import live_modules, structure_changed, watch
from .transforms import check_left_behind

__all__ = [
    "ADLIF_PRESETS", "AdLIFParameters", "AdLIFPreset", "BoundedModule", "DelayParameters", "delay_shape",
    "initial_delay", "live_modules", "project_", "real_values", "refuse_other_batch",
]  # fmt: skip

MODES = ("project", "clamp")
INITIAL_STATES = ("zeros", "uniform")


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
            self._bound_modes = dict.fromkeys(self._bounds, self.__dict__.pop("_bound_mode"))
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

    def bound(self, name: str, low: float, high: float, mode: str = "project") -> None:
        """Keep parameter ``name`` inside ``[low, high]``.

        Every parameter has a mode of its own; a second call for the same name replaces the first.

        :raises ValueError: if the bounds are not two numbers with a finite one inside, or ``mode`` is unknown.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a parameter, got {name!r}")
        interval = _interval(name, (low, high))
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
                if value is not None and not _is_lazy(value):
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


@dataclass(frozen=True)
class AdLIFPreset:
    """Intervals of the four trainable parameters of an adaptive LIF neuron (``None``: no adaptation current).

    Initial values are drawn uniformly from the same intervals (Deckers et al., section 4.2).
    """

    alpha: tuple[float, float]
    beta: tuple[float, float] | None = None
    a: tuple[float, float] | None = None
    b: tuple[float, float] | None = None

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The intervals of the parameters that this neuron has."""
        named = {"alpha": self.alpha, "beta": self.beta, "a": self.a, "b": self.b}
        return {name: interval for name, interval in named.items() if interval is not None}


ADLIF_PRESETS: dict[str, AdLIFPreset] = {
    # A LIF neuron with trainable leak, over AdLIF+'s range so that adaptation is the only difference.
    "lif": AdLIFPreset(alpha=(0.36, 0.96)),
    # Bittar & Garner 2022: tau_u 5 ... 25 and tau_w 30 ... 120 time steps, a of either sign.
    "adlif": AdLIFPreset(
        alpha=(math.exp(-1 / 5), math.exp(-1 / 25)),
        beta=(math.exp(-1 / 30), math.exp(-1 / 120)),
        a=(-1.0, 1.0),
        b=(0.0, 2.0),
    ),
    # Deckers et al., section 4.2.
    "adlif+": AdLIFPreset(alpha=(0.36, 0.96), beta=(0.96, 0.99), a=(0.0, 1.0), b=(0.0, 2.0)),
}


def _is_lazy(value: Tensor) -> bool:
    return isinstance(value, nn.parameter.UninitializedTensorMixin)  # torch's is_lazy stops torch.compile


_NOT_YET = (
    "alpha, beta, a and b of this neuron take their shape from its first input, which has not come yet: give features= "
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
            return super().__torch_function__(func, types, args, kwargs)
        except ValueError as error:
            raise ValueError(_NOT_YET) from error


class _LazyParameter(_TellsFeatures, nn.parameter.UninitializedParameter):
    """torch's lazy parameter, whose error does not know our argument."""


class _LazyBuffer(_TellsFeatures, nn.parameter.UninitializedBuffer):
    """torch's lazy buffer, which alone among the lazy tensors cannot be deep-copied."""

    def __deepcopy__(self, memo: dict) -> _LazyBuffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(device=self.data.device, dtype=self.data.dtype)
        return memo[id(self)]


class AdLIFParameters(BoundedModule):
    """Trainable parameters and initial state of adaptive LIF neurons, one value per neuron.

    What the neuron classes of both frameworks share. If ``features`` is not given, the parameters take their shape
    from the first input, as in torch's lazy modules.
    """

    alpha: Tensor
    beta: Tensor | None
    a: Tensor | None
    b: Tensor | None

    # class attributes, so that modules pickled before they existed have them
    _neurons: tuple[int, ...] | None = None
    """The shape that ``features`` or the first input gave; None where neither has."""
    _sequence_form = ""  # what takes sequences, in a user's words
    _said_sequence = False

    def create_adlif_parameters(
        self,
        features: int | Iterable[int] | None,
        preset: str,
        initial: dict[str, float | Tensor | None],
        learn: dict[str, bool],
        bounds: dict[str, Iterable[float]] | None,
        bound_mode: str,
        init_state: str,
    ) -> None:
        """Create alpha, beta, a and b; called once by the constructor of a neuron.

        :param features: shape of the neurons, e.g. ``128`` after Linear or ``(32, 14, 14)`` after Conv2d.
        :param preset: key of :data:`ADLIF_PRESETS`.
        :param initial: given initial values; ``None``: drawn uniformly from the interval.
        :param learn: whether each is a parameter (True) or a fixed buffer.
        :param bounds: intervals that replace the preset's.
        :param bound_mode: ``"project"`` or ``"clamp"``, see :class:`BoundedModule`.
        :param init_state: ``"zeros"`` or ``"uniform"``, see :meth:`initial_state`.
        """
        intervals = preset_bounds(preset, bounds)
        check_choice("init_state", init_state, INITIAL_STATES)
        self.preset, self.init_state = preset, init_state
        shape = self._neurons = None if features is None else _shape_of(features)
        self._initial: dict[str, float | None] = {}
        for name in ("alpha", "beta", "a", "b"):
            if name not in intervals:
                if initial[name] is not None:
                    raise ValueError(f"preset {preset!r} has no {name}, but {name}={initial[name]} was given")
                self.register_parameter(name, None)
                continue
            self.bound(name, *intervals[name], mode=bound_mode)
            self._initial[name] = _inside(name, initial[name], intervals[name])
            self._register(name, check_flag(f"learn_{name}", learn[name]), shape)
        if init_state == "uniform":
            for name in ("initial_u", "initial_w"):
                self._register(name, False, shape)

    def _register(self, name: str, learn: bool, shape: tuple[int, ...] | None) -> None:
        if shape is None and isinstance(torch.empty(0), FakeTensor):
            raise RuntimeError("torch makes no lazy parameters in a FakeTensorMode: give features, the neurons' shape")
        if learn:
            value = _LazyParameter() if shape is None else nn.Parameter(self._initial_value(name, shape))
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, _LazyBuffer() if shape is None else self._initial_value(name, shape))

    def _initial_value(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One value per neuron of ``shape``; a tensor that the user gave keeps its own shape."""
        initial = self._initial.get(name)
        low, high = self._bounds.get(name, (0.0, 1.0))
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

    def create_features(self, shape: tuple[int, ...]) -> None:
        """Give every lazy parameter one value per neuron of ``shape``."""
        for name in (*self._initial, "initial_u", "initial_w"):
            value = getattr(self, name, None)
            if value is None or not _is_lazy(value):
                continue
            with torch.inference_mode(False), torch.no_grad():  # born in inference mode they could not be trained
                initial = self._initial_value(name, shape)
                value.materialize(initial.shape)
                value.copy_(initial)
                self._neurons = shape

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

    def initial_state(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """(u, w) before the first step, for the input current ``[N, *]`` of one step.

        ``init_state="zeros"``: zero. ``"uniform"``: in training u and w ~ U(0, 1), drawn for every sample anew
        (Deckers et al., section 4.2) from torch's global generator; in evaluation one fixed draw per neuron (the
        buffers ``initial_u`` and ``initial_w``), so that a result depends on nothing but the sample.
        """
        dtype = torch.promote_types(current.dtype, self.alpha.dtype)
        zeros = torch.zeros_like(current, dtype=dtype)
        if self.init_state == "zeros":
            return zeros, zeros
        if self.training:
            u, w = torch.rand_like(zeros), torch.rand_like(zeros)
        else:
            u, w = (value.to(dtype).expand_as(zeros) for value in (self.initial_u, self.initial_w))
        return u, zeros if self.beta is None else w

    def neuron_parameters(self) -> dict[str, Tensor | None]:
        """alpha, beta, a and b as the equations read them."""
        names = ("alpha", "beta", "a", "b")
        return {name: None if getattr(self, name) is None else self.bounded(name) for name in names}

    def _apply(self, fn, recurse: bool = True):
        lazy = {
            name: value
            for name in (*self._initial, "initial_u", "initial_w")
            if (value := getattr(self, name, None)) is not None and _is_lazy(value)
        }
        super()._apply(fn, recurse)
        for name, before in lazy.items():
            value = getattr(self, name)
            if not _is_lazy(value):  # torch forgets it on the way to the meta device
                like = {"device": value.device, "dtype": value.dtype}
                if isinstance(before, nn.Parameter):
                    self._parameters[name] = nn.UninitializedParameter(before.requires_grad, **like)
                else:
                    self._buffers[name] = _LazyBuffer(**like)
        return self

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        values = (*self._parameters.values(), *self._buffers.values())
        lazy = any(value is not None and _is_lazy(value) for value in values)
        super()._save_to_state_dict(destination, prefix, keep_vars or lazy)  # a lazy parameter cannot be detached

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name in (*self._initial, "initial_u", "initial_w"):
            value, saved = getattr(self, name, None), state_dict.get(prefix + name)
            if value is not None and saved is not None and _is_lazy(value) and not _is_lazy(saved):
                with torch.no_grad():
                    value.materialize(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class DelayParameters(BoundedModule):
    """Weight, bias and delay of a linear layer with delays; what the layers of both frameworks share."""

    def create_delay_parameters(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        max_delay: int,
        delay: float | str | Tensor,
        delay_type: str,
        learn_delay: bool,
        bound_mode: str,
    ) -> None:
        """Create ``weight`` (U(-1, 1)), ``bias`` (zero) and ``delay``, bounded to ``[0, max_delay]``.

        The weights are still to be scaled, when it is known which synapses exist: :mod:`.initial_weights`.

        :param delay: initial delays in time steps: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a
            tensor of the delay's shape.
        :param delay_type: ``"synaptic"`` ``[out, in]``, ``"axonal"`` ``[1, in]`` or ``"dendritic"`` ``[out, 1]``.
        """
        in_features, out_features = check_features(in_features, out_features)
        bias, learn_delay = check_flag("bias", bias), check_flag("learn_delay", learn_delay)
        max_delay = check_steps("max_delay", max_delay)
        shape = delay_shape(delay_type, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        self.max_delay, self.delay_type, self.learn_delay = max_delay, delay_type, learn_delay
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-1.0, 1.0))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        initial = initial_delay(delay, shape, self.max_delay)
        if learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay, mode=bound_mode)

    def check_batch(self, history: Tensor | None, spikes: Tensor, remedy: str) -> None:
        """Refuse spikes ``[..., N, in]`` of another batch size than the ``history`` ``[H, N, in]`` of earlier ones."""
        refuse_other_batch(history, spikes, -2, remedy)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, delay_type={self.delay_type!r}, learn_delay={self.learn_delay}"
        )


def refuse_other_batch(history: object, spikes: Tensor, axis: int, remedy: str) -> None:
    """
    :raises ValueError: for ``spikes`` of another size along ``axis`` than the ``history`` ``[H, N, ...]`` of earlier ones.
    """
    check_left_behind(history)
    check_spikes(spikes)
    if isinstance(history, Tensor) and spikes.dim() >= -axis and spikes.shape[axis] != history.shape[1]:
        raise ValueError(
            f"spikes of a batch of {history.shape[1]} are still on their way but the input is a batch of "
            f"{spikes.shape[axis]}: call {remedy} between batches"
        )


def delay_shape(delay_type: str, out_features: int, in_features: int) -> tuple[int, int]:
    """Shape of the delays: ``"synaptic"`` [out, in], ``"axonal"`` [1, in] or ``"dendritic"`` [out, 1].

    :raises ValueError: for any other ``delay_type``.
    """
    shapes = {"synaptic": (out_features, in_features), "axonal": (1, in_features), "dendritic": (out_features, 1)}
    return shapes[check_choice("delay_type", delay_type, sorted(shapes))]


def check_features(in_features: int, out_features: int) -> tuple[int, int]:
    """The sizes of a linear layer, positive whole numbers."""
    sizes = [
        check_whole(name, value, least=-math.inf, most=2**31 - 1)
        for name, value in {"in_features": in_features, "out_features": out_features}.items()
    ]
    if min(sizes) < 1:
        raise ValueError(f"in_features and out_features must be positive, got {sizes[0]} and {sizes[1]}")
    return sizes[0], sizes[1]


def initial_delay(delay: float | str | Tensor, shape: tuple[int, int], max_delay: float, name: str = "delay") -> Tensor:
    """Initial delays of the given shape from a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.

    :raises ValueError: unless all of them are finite and in ``[0, max_delay]``; the message calls them ``name``.
    """
    if isinstance(delay, str):
        if delay not in ("zeros", "uniform"):
            raise ValueError(f"{name} must be a number, a tensor, 'zeros' or 'uniform', got {delay!r}")
        if delay == "uniform" and math.isinf(max_delay):
            raise ValueError(f"{name}='uniform' draws from [0, max_delay]: give a finite max_delay")
        return torch.zeros(shape) if delay == "zeros" else torch.empty(shape).uniform_(0.0, max_delay)
    value = real_values(name, delay)
    if value.dim() > 0 and tuple(value.shape) != shape:
        raise ValueError(f"{name} must be a number or have shape {shape}, got shape {tuple(value.shape)}")
    if values_known(value) and not bool((value.isfinite() & (value >= 0) & (value <= max_delay)).all()):
        allowed = "[0, inf)" if math.isinf(max_delay) else f"[0, {max_delay:g}]"
        raise ValueError(
            f"initial delays must lie in {allowed}, got {value.min():g} ... {value.max():g}"
            + ("" if name == "delay" else f" for {name}")
        )
    return torch.empty(shape).copy_(value)


def real_values(name: str, value: float | Tensor) -> Tensor:
    """Given values in the default dtype, where they are (numbers: on the CPU, whose values can be looked at)."""
    try:
        given = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # what torch says of None, text, ragged lists, ...
        given = None
    if given is None or given.is_complex() or given.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else repr(value)
        raise TypeError(f"{name} must be a number or a tensor of real numbers, got {kind}")
    return given.to(torch.get_default_dtype())


def _shape_of(features: int | Iterable[int]) -> tuple[int, ...]:
    shape = tuple(features) if isinstance(features, Iterable) else (features,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and 0 < size < 2**31 for size in shape):
        raise ValueError(f"features must be positive whole numbers, got {features!r}")
    return tuple(int(size) for size in shape)


def _broadcasts(shape: torch.Size, target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def _inside(name: str, value: float | Tensor | None, interval: tuple[float, float]) -> float | Tensor | None:
    """A given initial value, brought into its interval with a warning."""
    if value is None:
        return None
    given = real_values(name, value)
    if not values_known(given):
        return given.clamp(*interval)
    if not torch.isfinite(given).all():
        raise ValueError(f"{name} must be finite, got {value}")
    if name in ("alpha", "beta") and not ((given >= 0) & (given <= 1)).all():
        raise ValueError(
            f"{name} is a leak per time step and lies in [0, 1], got {value}; "
            "the number of neurons is the argument features"
        )
    clipped = given.clamp(*interval)
    if not torch.equal(clipped, given):
        warnings.warn(
            f"{name}={value} lies outside its interval [{interval[0]:.4g}, {interval[1]:.4g}] and is clipped; "
            f"pass bounds={{{name!r}: (low, high)}} to widen it",
            stacklevel=4,  # the caller of the neuron's constructor
        )
    return clipped if given.dim() else clipped.item()


def preset_bounds(preset: str, overrides: dict[str, Iterable[float]] | None = None) -> dict[str, tuple[float, float]]:
    """Intervals of a preset, some of them replaced.

    :raises ValueError: for an unknown preset, or an override for a parameter that the preset does not have.
    """
    bounds = ADLIF_PRESETS[check_choice("preset", preset, sorted(ADLIF_PRESETS))].bounds
    if not isinstance(overrides, Mapping | None):
        raise TypeError(f"bounds must be a dict such as {{'alpha': (0.5, 0.9)}}, got {overrides!r}")
    for name, interval in (overrides or {}).items():
        if name not in bounds:
            raise ValueError(f"preset {preset!r} has no parameter {name!r}; it has {sorted(bounds)}")
        bounds[name] = low, high = _interval(name, interval)
        if name in ("alpha", "beta") and not 0 <= low <= high <= 1:
            raise ValueError(f"{name} is a leak per time step: its bounds must lie in [0, 1], got [{low:g}, {high:g}]")
    return bounds


def _interval(name: str, bounds: Iterable[float]) -> tuple[float, float]:
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
