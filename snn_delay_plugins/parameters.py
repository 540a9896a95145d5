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
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from .projection import live_modules, structure_changed, watch

__all__ = [
    "ADLIF_PRESETS", "AdLIFParameters", "AdLIFPreset", "BoundedModule", "DelayParameters", "delay_shape",
    "initial_delay", "live_modules", "project_",
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

        :raises TypeError: if a bound is not a number.
        :raises ValueError: if no finite number lies inside (NaN, ``low > high``, both the same infinity), or ``mode``
            is unknown.
        """
        interval = _interval(name, (low, high))
        if mode not in MODES:
            raise ValueError(f"bound mode must be one of {MODES}, got {mode!r}")
        self._bounds[name], self._bound_modes[name] = interval, mode
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


def _interval(name: str, interval: Iterable[float]) -> tuple[float, float]:
    """``interval`` as two numbers between which a finite one lies."""
    try:
        low, high = (float(bound) for bound in interval)
    except (TypeError, ValueError) as error:
        raise TypeError(f"bounds of {name!r} must be two numbers (low, high), got {interval!r}") from error
    if not low <= high or low == math.inf or high == -math.inf:
        raise ValueError(f"bounds of {name!r} must satisfy low <= high with a finite number inside, got [{low}, {high}]")
    return low, high


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
    """
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
        if init_state not in INITIAL_STATES:
            raise ValueError(f"init_state must be one of {INITIAL_STATES}, got {init_state!r}")
        self.preset, self.init_state = preset, init_state
        self._initial: dict[str, float | None] = {}
        for name in ("alpha", "beta", "a", "b"):
            if name not in intervals:
                if initial[name] is not None:
                    raise ValueError(f"preset {preset!r} has no {name}, but {name}={initial[name]} was given")
                self.register_parameter(name, None)
                continue
            self.bound(name, *intervals[name], mode=bound_mode)
            self._register_lazy(name, learn[name])
            self._initial[name] = _inside(name, initial[name], intervals[name])
            if initial[name] is None and not all(map(math.isfinite, intervals[name])):
                raise ValueError(f"{name} is drawn from its interval: give finite bounds or a value, got {intervals[name]}")
        if init_state == "uniform":
            for name in ("initial_u", "initial_w"):
                self._register_lazy(name, learn=False)
        if features is not None:
            self.create_features(_shape_of(features))

    def _register_lazy(self, name: str, learn: bool) -> None:
        if learn:
            self.register_parameter(name, _LazyParameter())
        else:
            self.register_buffer(name, _LazyBuffer())

    def create_features(self, shape: tuple[int, ...]) -> None:
        """Give every lazy parameter one value per neuron of ``shape``."""
        for name in (*self._initial, "initial_u", "initial_w"):
            value = getattr(self, name, None)
            if value is None or not _is_lazy(value):
                continue
            initial = self._initial.get(name)
            low, high = self._bounds.get(name, (0.0, 1.0))
            if isinstance(initial, Tensor) and not _broadcasts(initial.shape, shape):
                raise ValueError(f"{name} of shape {tuple(initial.shape)} does not broadcast to the neurons {shape}")
            with torch.inference_mode(False), torch.no_grad():  # born in inference mode they could not be trained
                value.materialize(initial.shape if isinstance(initial, Tensor) else shape)
                if initial is None:
                    value.uniform_(low, high)
                elif isinstance(initial, Tensor):
                    value.copy_(initial)
                else:
                    value.fill_(initial)

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
        """Create ``weight`` (Xavier uniform), ``bias`` (zero) and ``delay``, bounded to ``[0, max_delay]``.

        :param delay: initial delays in time steps: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a
            tensor of the delay's shape.
        :param delay_type: ``"synaptic"`` ``[out, in]``, ``"axonal"`` ``[1, in]`` or ``"dendritic"`` ``[out, 1]``.
        """
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be positive, got {in_features} and {out_features}")
        if max_delay != int(max_delay) or max_delay < 0:
            raise ValueError(f"max_delay must be a whole number of time steps >= 0, got {max_delay}")
        shape = delay_shape(delay_type, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        self.max_delay, self.delay_type, self.learn_delay = int(max_delay), delay_type, learn_delay
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(out_features, in_features)))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        initial = initial_delay(delay, shape, self.max_delay)
        if learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay, mode=bound_mode)

    def check_batch(self, history: Tensor | None, spikes: Tensor, remedy: str) -> None:
        """Refuse spikes ``[..., N, in]`` of another batch size than the ``history`` ``[H, N, in]`` of earlier ones."""
        if isinstance(history, Tensor) and spikes.dim() > 1 and spikes.shape[-2] != history.shape[1]:
            raise ValueError(
                f"spikes of a batch of {history.shape[1]} are still on their way but the input is a batch of "
                f"{spikes.shape[-2]}: call {remedy} between batches"
            )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, delay_type={self.delay_type!r}, learn_delay={self.learn_delay}"
        )


def delay_shape(delay_type: str, out_features: int, in_features: int) -> tuple[int, int]:
    """Shape of the delays: ``"synaptic"`` [out, in], ``"axonal"`` [1, in] or ``"dendritic"`` [out, 1].

    :raises ValueError: for any other ``delay_type``.
    """
    shapes = {"synaptic": (out_features, in_features), "axonal": (1, in_features), "dendritic": (out_features, 1)}
    if delay_type not in shapes:
        raise ValueError(f"delay_type must be one of {sorted(shapes)}, got {delay_type!r}")
    return shapes[delay_type]


def initial_delay(
    delay: float | str | Tensor, shape: tuple[int, int], max_delay: float, name: str = "delay"
) -> Tensor:
    """Initial delays of the given shape from a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.

    :raises ValueError: unless all of them are finite and in ``[0, max_delay]``; the message calls them ``name``.
    """
    if isinstance(delay, str):
        if delay not in ("zeros", "uniform"):
            raise ValueError(f"{name} must be a number, a tensor, 'zeros' or 'uniform', got {delay!r}")
        if delay == "uniform" and math.isinf(max_delay):
            raise ValueError(f"{name}='uniform' draws from [0, max_delay]: give a finite max_delay")
        return torch.zeros(shape) if delay == "zeros" else torch.empty(shape).uniform_(0.0, max_delay)
    value = torch.as_tensor(delay, dtype=torch.get_default_dtype()).detach()
    if value.dim() > 0 and value.shape != shape:
        raise ValueError(f"{name} must be a number or have shape {shape}, got shape {tuple(value.shape)}")
    if not bool((value.isfinite() & (value >= 0) & (value <= max_delay)).all()):
        raise ValueError(f"initial delays must lie in [0, {max_delay:g}], got {value.min():g} ... {value.max():g}"
                         + ("" if name == "delay" else f" for {name}"))
    return value.expand(shape).clone()


def _shape_of(features: int | Iterable[int]) -> tuple[int, ...]:
    shape = tuple(features) if isinstance(features, Iterable) else (features,)
    if not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ValueError(f"features must be positive whole numbers, got {features!r}")
    return shape


def _broadcasts(shape: torch.Size, target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def _inside(name: str, value: float | Tensor | None, interval: tuple[float, float]) -> float | Tensor | None:
    """A given initial value, brought into its interval with a warning."""
    if value is None:
        return None
    given = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach()
    if not torch.isfinite(given).all():
        raise ValueError(f"{name} must be finite, got {value}")
    if name in ("alpha", "beta") and not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"{name} is a leak per time step and lies in [0, 1], got {value}; "
                         "the number of neurons is the argument features")
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
    if preset not in ADLIF_PRESETS:
        raise ValueError(f"preset must be one of {sorted(ADLIF_PRESETS)}, got {preset!r}")
    bounds = ADLIF_PRESETS[preset].bounds
    for name, interval in (overrides or {}).items():
        if name not in bounds:
            raise ValueError(f"preset {preset!r} has no parameter {name!r}; it has {sorted(bounds)}")
        bounds[name] = _interval(name, interval)
    return bounds
