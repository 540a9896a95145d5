r"""Adaptive leaky integrate-and-fire neurons: AdLIF, AdLIF+ and the symplectic SE-AdLIF.

``variant="adlif"``: Deckers et al., Eq. 1 (membrane potential u, adaptation current w, spike s, input current I)

.. math::
    u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]) - \theta\, s[t-1] \\
    w[t] &= \beta\, w[t-1] + (1 - \beta)\, a\, u[t-1] + b\, s[t-1] \\
    s[t] &= \Theta(u[t] - \theta)

``variant="symplectic"``: Baronig et al. 2024, Eq. 6 (SE-AdLIF). The adaptation current sees the membrane potential
of the same step, after its reset; this keeps the discretised oscillation stable.

.. math::
    \hat u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]), \qquad s[t] = \Theta(\hat u[t] - \theta) \\
    u[t] &= \hat u[t]\, (1 - s[t]) \\
    w[t] &= \beta\, w[t-1] + (1 - \beta) (a\, u[t] + b\, s[t])

Without ``beta, a, b`` both are a LIF neuron with leak alpha. Time runs in steps; nothing here has a unit.

Both are linear neurons (:mod:`.linear_neuron`), whose plain form and kernels run them.

Shapes: current ``[T, N, *]`` (one step: ``[N, *]``), states ``[N, *]``, parameters any shape that broadcasts to ``*``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..checks import check_choice, check_flag, check_function, check_number, check_tensor, values_known
from ..kernels import dispatch
from ..kernels.dispatch import NeuronMethod
from ..kernels.linear_neuron.structure import Structure
from .linear_neuron import (
    Coefficients,
    LinearState,
    NotFiniteError,
    advance,
    after_jump,
    check_current,
    check_parameter,
    check_states,
    is_finite,
    name_of,
    resolved,
    run,
)
from .recurrent import Recurrence
from .surrogate import Boxcar, fire

__all__ = ["AdLIFState", "NotFiniteError", "adlif", "adlif_step", "spikes_of"]

Variant = Literal["adlif", "symplectic"]
Reset = Literal["subtract", "zero", "none"]
VARIANTS: tuple[Variant, ...] = ("adlif", "symplectic")
RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")
_BOXCAR = Boxcar()


class AdLIFState(NamedTuple):
    """State of adaptive LIF neurons after a step; each ``[N, *]``."""

    u: Tensor
    """Membrane potential."""
    w: Tensor
    """Adaptation current."""
    s: Tensor
    """Spike (0 or 1)."""


class _Neuron(NamedTuple):
    """Everything of one call that does not change from step to step."""

    structure: Structure
    coefficients: dict[str, Tensor | float]
    adaptive: bool
    surrogate: Callable[[Tensor], Tensor]
    threshold: Tensor | float
    reset: str


def spikes_of(u: Tensor, threshold: Tensor | float, surrogate: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    r"""The spikes :math:`s = \Theta(u - \theta)` that belong to a membrane potential ``u`` (any shape).

    Front doors whose users carry only (w, u) from step to step recover ``s[t-1]`` with it, gradient included.
    """
    return fire(u - threshold, surrogate or _BOXCAR)


def adlif_step(
    current: Tensor,
    state: AdLIFState,
    *,
    alpha: Tensor,
    beta: Tensor | None = None,
    a: Tensor | None = None,
    b: Tensor | None = None,
    threshold: Tensor | float = 1.0,
    surrogate: Callable[[Tensor], Tensor] | None = None,
    variant: Variant = "adlif",
    reset: Reset | None = None,
    detach_reset: bool = False,
) -> AdLIFState:
    """One time step of adaptive LIF neurons; the arguments are those of :func:`adlif`.

    :param current: input current of this step, ``[N, *]``.
    :param state: state after the previous step.
    :returns: state after this step; its ``s`` is the output.

    Example::

        >>> import torch
        >>> rest = AdLIFState(*torch.zeros(3, 1, 1))
        >>> state = adlif_step(torch.full((1, 1), 2.5), rest, alpha=torch.tensor(0.5))
        >>> state.u.item(), state.s.item()
        (1.25, 1.0)
    """
    check_tensor("current", current)
    neuron, _ = _neuron(current, current.shape[1:], alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset)
    _check_state(state, current.shape, current.device)
    linear = advance(neuron.structure, neuron.coefficients, current, _before(neuron, state), neuron.surrogate)
    state = _carried(neuron, linear, state)
    if not current.is_cuda:  # on CUDA the check would wait for the device at every step
        _check_finite(state.u, neuron)
    return state


def adlif(
    current: Tensor,
    state: AdLIFState | None = None,
    *,
    alpha: Tensor,
    beta: Tensor | None = None,
    a: Tensor | None = None,
    b: Tensor | None = None,
    threshold: Tensor | float = 1.0,
    surrogate: Callable[[Tensor], Tensor] | None = None,
    variant: Variant = "adlif",
    reset: Reset | None = None,
    detach_reset: bool = False,
    traces: bool = False,
    support: bool = False,
    recurrence: Recurrence | None = None,
    method: NeuronMethod | None = None,
) -> tuple:
    """A sequence of adaptive LIF neurons (equations: head of this module).

    :param current: input current, ``[T, N, *]``, floating point.
    :param state: initial (u, w, s), each ``[N, *]``; default: all zero.
    :param alpha: leak of the membrane potential, broadcastable to ``*``.
    :param beta: leak of the adaptation current. ``beta``, ``a``, ``b`` are given together, or not at all (LIF).
    :param a: coupling of the adaptation current to the membrane potential.
    :param b: adaptation per spike.
    :param threshold: firing threshold theta, a number or a tensor that broadcasts to ``*``.
    :param surrogate: surrogate gradient called on ``u - threshold``; default :class:`~.surrogate.Boxcar`, Eq. 6.
    :param variant: ``"adlif"`` (Deckers et al., Eq. 1) or ``"symplectic"`` (Baronig et al. 2024, Eq. 6).
    :param reset: ``"subtract"`` (default of ``"adlif"``: theta is subtracted), ``"zero"`` (default of
        ``"symplectic"``: the membrane potential that is carried on is zero) or ``"none"``.
    :param detach_reset: no gradient through the reset (the adaptation per spike keeps its gradient).
    :param traces: also return the traces of u and w, each ``[T, N, *]``.
    :param support: also return where a gradient of the spikes has an effect, bool ``[T, N, *]``: inside the boxcar. Layers
        that take it (``support=``) compute no other; ``None``, everywhere, in the plain form, with recurrence and for other
        surrogates.
    :param recurrence: synapses with delays from the neurons to each other (:mod:`.recurrent`), for a current ``[T, N, F]``.
    :param method: ``"torch"`` (the plain form, the reference), ``"numba"`` (compiled, CPU, same values) or
        ``"triton"`` (compiled, CUDA); default: chosen by :mod:`snn_delay_plugins.kernels.dispatch`. The gradients of
        the compiled forms cannot be differentiated again.
    :returns: spikes ``[T, N, *]`` in the dtype of ``current`` and the final state; with ``traces``, ``(u, w)`` third; with
        ``support``, that last.
        States are computed in the wider of the dtypes of ``current`` and the parameters (under autocast: float32).
    :raises ValueError: for shapes that do not fit, unknown options, incomplete adaptation parameters, or when the
        membrane potential becomes NaN or infinite.
    :raises TypeError: for a ``current`` that is not floating point or is wider than the parameters.

    Example::

        >>> import torch
        >>> spikes, state = adlif(torch.full((8, 1, 1), 2.0), alpha=torch.tensor(0.5), beta=torch.tensor(0.97),
        ...                       a=torch.tensor(0.5), b=torch.tensor(0.3))
        >>> spikes.flatten().tolist()
        [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    if check_tensor("current", current).dim() < 2:
        raise ValueError(f"current must be [T, N, *], got shape {tuple(current.shape)}")
    neuron, dtype = _neuron(
        current, current.shape[2:], alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset
    )
    if state is None:
        state = AdLIFState(*(current.new_zeros(current.shape[1:], dtype=dtype) for _ in range(3)))
    _check_state(state, current.shape[1:], current.device)
    traces, support = check_flag("traces", traces), check_flag("support", support)

    chosen = dispatch.neuron_method(current, dtype, neuron.surrogate, method, name_of("adlif", recurrence))
    spikes, linear, x, inside = run(
        neuron.structure, neuron.coefficients, current, _before(neuron, state), dtype, neuron.surrogate, traces, support,
        chosen, recurrence,
    )  # fmt: skip
    u_w = _traces(neuron, spikes, x, state, dtype) if traces else None
    state = _carried(neuron, linear, state) if len(current) else state
    _check_finite(state.u, neuron)
    return spikes.to(current.dtype), state, *((u_w,) if traces else ()), *((inside,) if support else ())


def _before(neuron: _Neuron, state: AdLIFState) -> LinearState:
    """The state as the linear neuron carries it; the symplectic one's is before the jump of its spike."""
    s = torch.zeros_like(state.u) if neuron.structure.symplectic else state.s
    return LinearState(state.u, state.w if neuron.adaptive else None, s)


def _after(neuron: _Neuron, u: Tensor, s: Tensor) -> Tensor:
    """The membrane potential that is carried on."""
    return after_jump(neuron.structure, neuron.coefficients, u, s) if neuron.structure.symplectic else u


def _carried(neuron: _Neuron, linear: LinearState, before: AdLIFState) -> AdLIFState:
    w = before.w if linear.x1 is None else linear.x1
    return AdLIFState(_after(neuron, linear.x0, linear.s), w, linear.s)


def _traces(neuron: _Neuron, s: Tensor, x: tuple, before: AdLIFState, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    u, w = x
    return _after(neuron, u, s), before.w.to(dtype).expand_as(u) if w is None else w


def _neuron(
    current, features, alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset
) -> tuple[_Neuron, torch.dtype]:
    check_current(current)
    check_choice("variant", variant, VARIANTS)
    reset = ("subtract" if variant == "adlif" else "zero") if reset is None else check_choice("reset", reset, RESETS)
    if surrogate is not None:
        check_function("surrogate", surrogate, "Boxcar()")
    adaptation = {"beta": beta, "a": a, "b": b}
    missing = [name for name, value in adaptation.items() if value is None]
    if missing and len(missing) < 3:
        raise ValueError(f"beta, a and b are given together or not at all; {', '.join(missing)} missing")
    parameters = {"alpha": alpha, **({} if missing else adaptation)}
    for name, value in {**parameters, "threshold": threshold}.items():
        if isinstance(value, Tensor):
            check_parameter(name, value, current, features)
        else:
            _check_constant(name, value)
    # the threshold does not widen the states
    dtype = torch.promote_types(current.dtype, alpha.dtype) if isinstance(alpha, Tensor) else current.dtype
    p = {name: _cast(value, current, dtype) for name, value in parameters.items()}
    detach_reset = check_flag("detach_reset", detach_reset)
    theta = threshold.to(dtype) if isinstance(threshold, Tensor) else threshold
    named, structure = resolved(_coefficients(p, theta, reset, detach_reset, variant == "symplectic"))
    return _Neuron(structure, named, not missing, surrogate or _BOXCAR, threshold, reset), dtype


def _cast(value: Tensor | float, current: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if isinstance(value, Tensor) else torch.as_tensor(value, dtype=dtype, device=current.device)


def _coefficients(
    p: dict[str, Tensor], theta: Tensor | float, reset: str, detach_reset: bool, symplectic: bool
) -> Coefficients:
    alpha = p["alpha"]
    subtracted = -theta if reset == "subtract" else 0
    to_zero = -1.0 if symplectic else -alpha
    # no reset is one by nothing: one kernel fewer to compile
    j = to_zero if reset == "zero" else 0 * alpha.detach() if reset == "none" else 0
    if "beta" not in p:
        return Coefficients(
            theta, A=((alpha,),), B=(1.0 - alpha,), r=(subtracted,), J=((j,),), symplectic=symplectic,
            through=(0,) if detach_reset else None,
        )  # fmt: skip
    beta, a, b = p["beta"], p["a"], p["b"]
    into_w = a if symplectic else (1.0 - beta) * a  # the symplectic structure has the factor itself
    return Coefficients(
        theta, A=((alpha, 0), (into_w, beta)), B=(1.0 - alpha,), r=(subtracted, b), J=((j, 0), (0, 0)), subtracted=True,
        symplectic=symplectic, through=(0, b) if detach_reset else None,
    )  # fmt: skip


def _check_constant(name: str, value: float) -> None:
    if name == "threshold":
        check_number(name, value, above=0.0)
    elif name in ("alpha", "beta"):
        check_number(name, value, least=0.0, most=1.0, unit="a leak per time step")
    else:
        check_number(name, value)


def _check_state(state: AdLIFState, shape: torch.Size, device: torch.device) -> None:
    if not (isinstance(state, tuple) and len(state) == 3 and all(isinstance(value, Tensor) for value in state)):
        raise TypeError(f"state must be an AdLIFState of three tensors (u, w, s), got {type(state).__name__}")
    check_states(dict(zip(AdLIFState._fields, state, strict=True)), shape, device)


def _check_finite(u: Tensor, neuron: _Neuron) -> None:
    # The NaN of a threshold enters the membrane potential by subtraction alone.
    if not values_known(u) or not u.numel():
        return
    theta = neuron.threshold
    if neuron.reset != "subtract" and isinstance(theta, Tensor) and not torch.isfinite(theta.detach()).all():
        raise ValueError(f"threshold must be finite, got {theta.detach().flatten()[:8].tolist()}")
    if not is_finite(u):
        raise NotFiniteError(
            "the membrane potential became NaN or infinite: look for NaN or infinite input currents or parameters, "
            "or for an unstable neuron (alpha >= 1, strongly negative a)"
        )
