r"""Continuous-time neuron models for EventProp, as data: linear systems with jumps.

Between events a neuron's state x follows x' = M x. An arrival of weight w adds w B. Where the membrane potential c . x
reaches theta from below the neuron spikes and x becomes x + J x + r. During an absolute refractory period the states
that are ``held`` keep their values, the others evolve, and the threshold is not tested.

A :class:`ContinuousModel` maps named constants (numbers, or one per neuron) to these coefficients, differentiably in plain
PyTorch; :func:`snn_delay_plugins.functional.eventprop_linear.eventprop_linear` knows no more of it. At a spike c . x equals
theta, so that "V to zero" and "V minus theta" are one and the same jump, in value and in gradient.

Discrete and continuous constants of AdLIF+ (zero-order hold: over a step of length dt each equation holds the other's
variable): alpha = exp(-dt / tau_mem), beta = exp(-dt / tau_adapt), a and b the same; :func:`adlif_from_discrete`,
:func:`adlif_to_discrete`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "ADAPTIVE_LI", "ADLIF", "LI", "LIF", "RESONATE_AND_FIRE", "Constant", "ContinuousModel", "LinearSystem",
    "adlif_from_discrete", "adlif_to_discrete", "system_of",
]  # fmt: skip

Number = Tensor | float


@dataclass(frozen=True)
class Constant:
    """A constant of a model: its default, and the interval in which a trained one is kept."""

    default: float
    low: float = -math.inf
    high: float = math.inf
    positive: bool = False


@dataclass(frozen=True, kw_only=True)
class LinearSystem:
    """Coefficients of one layer; entries are numbers, 0-dimensional tensors or tensors [out].

    :param M: rows of the matrix. :param B: what an arrival of weight one adds. :param c: the potential is c . x.
    :param J, r: jump at a spike; none: zero. :param held: numbers of the states that a refractory period holds.
    """

    M: tuple[tuple[Number, ...], ...]
    B: tuple[float, ...]
    c: tuple[float, ...]
    J: tuple[tuple[Number, ...], ...] | None = None
    r: tuple[Number, ...] | None = None
    held: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ContinuousModel:
    """A linear neuron in continuous time.

    :param states: their names, in the order of x. :param constants: by name, in the order of the constructor; all but
        ``threshold``, which every model has.
    :param system: ``(constants by name, threshold) -> LinearSystem``.

    Example (a leaky integrator whose synapse is a second one, and a jump that leaves half of V)::

        >>> half = ContinuousModel(
        ...     name="Half", states=("I", "V"), constants={"tau_mem": Constant(20.0, positive=True)},
        ...     system=lambda k, theta: LinearSystem(
        ...         M=((-0.2, 0), (1 / k["tau_mem"], -1 / k["tau_mem"])), B=(1, 0), c=(0, 1), J=((0, 0), (0, -0.5))))
        >>> system_of(half, {}, 1.0, 2).M[0]
        tensor([[-0.2000,  0.0000],
                [ 0.0500, -0.0500]], dtype=torch.float64)
    """

    name: str
    states: tuple[str, ...]
    constants: Mapping[str, Constant]
    system: Callable[[Mapping[str, Tensor], Tensor], LinearSystem]
    equations: str = ""
    source: str = ""


@dataclass(frozen=True)
class StackedSystem:
    """A :class:`LinearSystem` as float64 tensors: M, J [out, n, n], r [out, n], theta [out]; B, c, kept [n]; kept is 0 for
    the states that a refractory period holds, else 1."""

    M: Tensor
    B: Tensor
    c: Tensor
    J: Tensor
    r: Tensor
    theta: Tensor
    kept: Tensor

    @property
    def M_held(self) -> Tensor:
        return self.kept[:, None] * self.M


def system_of(model: ContinuousModel, constants: Mapping[str, Number], threshold: Number, n_out: int) -> StackedSystem:
    """The coefficients of a layer of ``n_out`` neurons; constants that are not given have their defaults.

    :raises TypeError, ValueError: for unknown names, shapes other than [] and [out], values that are not finite, constants
        that must be positive and are not.
    """
    unknown = sorted(set(constants) - set(model.constants))
    if unknown:
        raise ValueError(f"{model.name} has no constant {unknown[0]!r}; it has {', '.join(model.constants)}")
    values = {
        name: _checked(name, constants.get(name, constant.default), n_out, constant.positive)
        for name, constant in model.constants.items()
    }
    theta = _checked("threshold", threshold, n_out, True)
    system = model.system(values, theta)
    n = len(model.states)
    none = (0.0,) * n

    def stack(entries) -> Tensor:
        """[out, len(entries)]"""
        columns = [torch.as_tensor(x, dtype=torch.float64, device=theta.device).expand(n_out) for x in entries]
        return torch.stack(columns, -1)

    def rows(matrix) -> Tensor:
        if len(matrix) != n or any(len(row) != n for row in matrix):
            raise ValueError(f"{model.name} has {n} states: its matrices must be {n} x {n}")
        return torch.stack([stack(row) for row in matrix], -2)

    def fixed(entries, what) -> Tensor:
        if len(entries) != n or any(isinstance(x, Tensor) for x in entries):
            raise ValueError(f"{what} of {model.name} must be {n} plain numbers, got {entries!r}")
        return torch.tensor(entries, dtype=torch.float64, device=theta.device)

    b, c = fixed(system.B, "B"), fixed(system.c, "c")
    kick = sum(x * y for x, y in zip(system.B, system.c, strict=True))
    if kick != 0:
        raise ValueError(
            f"an arrival must not make the potential of {model.name} jump (c . B = {kick:g}): spikes would be tied "
            "to arrivals. Let it enter through a state of its own, as the synaptic current I does"
        )
    kept = torch.tensor([float(k not in system.held) for k in range(n)], dtype=torch.float64, device=theta.device)
    return StackedSystem(
        rows(system.M), b, c, rows(system.J or (none,) * n), stack(system.r or none), theta.expand(n_out), kept
    )


def _checked(name: str, value: Number, n_out: int, positive: bool) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be real, got {tensor.dtype}")
    if tensor.numel() != 1 and tuple(tensor.shape) != (n_out,):
        raise ValueError(f"{name} must be a number or one per neuron, [{n_out}], got shape {tuple(tensor.shape)}")
    tensor = (tensor.reshape(()) if tensor.dim() != 1 else tensor).to(torch.float64)
    given = tensor.detach()
    bad = ~given.isfinite() | (given <= 0 if positive else torch.zeros_like(given, dtype=torch.bool))
    if torch.compiler.is_compiling():  # which cannot look at values: the operator finds what is not a number
        return torch.where(bad, torch.nan, tensor)
    if bool(bad.any()):
        value = float(given[bad][0]) if given.dim() else float(given)
        raise ValueError(f"{name} must be {'positive and ' if positive else ''}finite, got {value:g}")
    return tensor


def _tau(default: float) -> Constant:
    return Constant(default, low=1e-3, positive=True)


def _lif(k, theta):
    tm, ts = k["tau_mem"], k["tau_syn"]
    return LinearSystem(M=((-1 / ts, 0), (1 / tm, -1 / tm)), B=(1, 0), c=(0, 1), J=((0, 0), (0, -1)), held=(1,))


LIF = ContinuousModel(
    name="LIF",
    states=("I", "V"),
    constants={"tau_mem": _tau(20.0), "tau_syn": _tau(5.0)},
    equations=r"\tau_s \dot I &= -I, \qquad \tau_m \dot V = -V + I, \qquad V \to 0",
    source="Meszaros et al., Table 1",
    system=_lif,
)


def _adlif(k, theta):
    tm, ts, tw, a = k["tau_mem"], k["tau_syn"], k["tau_adapt"], k["a"]
    return LinearSystem(
        M=((-1 / ts, 0, 0), (1 / tm, -1 / tm, -1 / tm), (0, a / tw, -1 / tw)), B=(1, 0, 0), c=(0, 1, 0),
        J=((0, 0, 0), (0, -1, 0), (0, 0, 0)), r=(0, 0, k["b"]), held=(1,),
    )  # fmt: skip


ADLIF = ContinuousModel(
    name="AdLIF",
    states=("I", "V", "W"),
    constants={
        "tau_mem": _tau(20.0),
        "tau_syn": _tau(5.0),
        "tau_adapt": _tau(100.0),
        "a": Constant(0.5, low=-0.99),  # below -1 V and W grow without end
        "b": Constant(0.2),
    },
    equations=r"""\tau_s \dot I &= -I, \qquad \tau_m \dot V = -V + I - W, \qquad \tau_w \dot W = -W + a V \\
        V = \vartheta&: \quad V \to V - \vartheta, \quad W \to W + b""",
    source="Deckers et al., Eq. 1, in continuous time; V oscillates for a > (tau_w - tau_m)^2 / (4 tau_m tau_w)",
    system=_adlif,
)


LI = ContinuousModel(
    name="LI",
    states=LIF.states,
    constants=LIF.constants,
    equations=r"\tau_s \dot I &= -I, \qquad \tau_m \dot V = -V + I",
    source="Meszaros et al., Table 1",
    system=_lif,
)


def _adaptive_leak(k, theta):
    return _adlif({**k, "b": 0.0}, theta)


ADAPTIVE_LI = ContinuousModel(
    name="AdaptiveLI",
    states=ADLIF.states,
    constants={name: constant for name, constant in ADLIF.constants.items() if name != "b"},
    equations=r"\tau_s \dot I &= -I, \qquad \tau_m \dot V = -V + I - W, \qquad \tau_w \dot W = -W + a V",
    source="ADLIF without spikes",
    system=_adaptive_leak,
)


def _resonate(k, theta):
    d, w = k["decay"], k["omega"]
    return LinearSystem(
        M=((-1 / k["tau_syn"], 0, 0), (1, -d, -w), (0, w, -d)), B=(1, 0, 0), c=(0, 1, 0),
        J=((0, 0, 0), (0, -1, 0), (0, 0, 0)), held=(1, 2),
    )  # fmt: skip


RESONATE_AND_FIRE = ContinuousModel(
    name="ResonateAndFire",
    states=("I", "V", "U"),
    constants={"tau_syn": _tau(5.0), "decay": Constant(0.05, low=0.0), "omega": Constant(0.3)},
    equations=r"""\tau_s \dot I &= -I, \qquad \dot V = -\lambda V - \omega U + I, \qquad \dot U = \omega V - \lambda U \\
        V = \vartheta&: \quad V \to V - \vartheta""",
    source="Izhikevich 2001, with an exponential synapse; decay lambda and omega (radians) per unit of time",
    system=_resonate,
)


def adlif_from_discrete(alpha: Number, beta: Number, a: Number, b: Number, dt: float) -> dict[str, Number]:
    """Constants of :data:`ADLIF` of a discrete AdLIF+ neuron (Deckers et al., Eq. 1) with a time step of ``dt``.

    In the discrete neuron a spike is a current of its weight during one step; here a current of that charge that decays
    with tau_syn: multiply weights by dt / tau_syn, too. The two agree as dt becomes small beside all time constants.

    >>> adlif_from_discrete(0.95, 0.99, 0.5, 1.0, 1.0)["tau_mem"]
    19.495...
    """
    return {"tau_mem": -dt / _log(alpha), "tau_adapt": -dt / _log(beta), "a": a, "b": b}


def adlif_to_discrete(tau_mem: Number, tau_adapt: Number, a: Number, b: Number, dt: float) -> dict[str, Number]:
    """The inverse of :func:`adlif_from_discrete`.

    >>> adlif_to_discrete(20.0, 100.0, 0.5, 1.0, 1.0)["alpha"]
    0.951...
    """
    return {"alpha": _exp(-dt / tau_mem), "beta": _exp(-dt / tau_adapt), "a": a, "b": b}


def _log(x: Number) -> Number:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def _exp(x: Number) -> Number:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)
