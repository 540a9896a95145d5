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

Shapes: current ``[T, N, *]`` (one step: ``[N, *]``), states ``[N, *]``, parameters any shape that broadcasts to ``*``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_choice, check_flag, check_function, check_number, check_tensor, values_known
from ..kernels import dispatch
from .surrogate import Boxcar, derivative, fire

__all__ = ["AdLIFState", "adlif", "adlif_step", "spikes_of"]

VARIANTS = ("adlif", "symplectic")
RESETS = ("subtract", "zero", "none")
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

    alpha: Tensor
    beta: Tensor | None
    a: Tensor | None
    b: Tensor | None
    threshold: Tensor | float
    surrogate: Callable[[Tensor], Tensor]
    variant: str
    reset: str
    detach_reset: bool


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
    variant: str = "adlif",
    reset: str | None = None,
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
    neuron = _neuron(current, current.shape[1:], alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset)
    _check_state(state, current.shape, current.device)
    state = _step(neuron, current, state)
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
    variant: str = "adlif",
    reset: str | None = None,
    detach_reset: bool = False,
    traces: bool = False,
    support: bool = False,
    method: str | None = None,
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
        that take it (``support=``) compute no other; ``None``, everywhere, in the plain form and for other surrogates.
    :param method: ``"torch"`` (the plain form below, the reference), ``"numba"`` (compiled, CPU, same values) or
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
    neuron = _neuron(current, current.shape[2:], alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset)
    dtype = torch.promote_types(current.dtype, neuron.alpha.dtype)
    if state is None:
        state = AdLIFState(*(current.new_zeros(current.shape[1:], dtype=dtype) for _ in range(3)))
    _check_state(state, current.shape[1:], current.device)
    traces, support = check_flag("traces", traces), check_flag("support", support)

    chosen = dispatch.adlif_method(current, dtype, neuron.surrogate, method)
    sequence = _plain_sequence if chosen == "torch" else _compiled_sequence
    spikes, state, u_w, inside = sequence(neuron, current, state, dtype, traces, support)
    _check_finite(state.u, neuron)
    return spikes, state, *((u_w,) if traces else ()), *((inside,) if support else ())


def _plain_sequence(
    neuron: _Neuron, current: Tensor, state: AdLIFState, dtype: torch.dtype, traces: bool, support: bool
) -> tuple:
    u, w, s = [], [], []
    for current_t in current.unbind(0):
        state = _step(neuron, current_t, state)
        s.append(state.s)
        if traces:
            u.append(state.u)
            w.append(state.w)
    u_w = (_stack(u, current, dtype), _stack(w, current, dtype)) if traces else None
    return _stack(s, current, current.dtype), state, u_w, None


def _compiled_sequence(
    neuron: _Neuron, current: Tensor, state: AdLIFState, dtype: torch.dtype, traces: bool, support: bool
) -> tuple:
    from ..kernels.adlif import adlif as operator

    steps, batch, *features = current.shape
    columns = math.prod(features)

    def per_neuron(value: Tensor | float | None) -> Tensor:
        value = torch.as_tensor(0.0 if value is None else value, dtype=dtype, device=current.device)
        return value.expand(features).reshape(columns)

    parameters = [per_neuron(p) for p in (neuron.alpha, neuron.beta, neuron.a, neuron.b, neuron.threshold)]
    flat_state = (value.to(dtype).reshape(batch * columns) for value in state)
    flat = current.to(dtype).reshape(steps, batch * columns)
    arguments = (flat, *flat_state, *parameters)
    options = (neuron.beta is not None, neuron.variant == "symplectic", neuron.reset, neuron.detach_reset)
    if isinstance(neuron.surrogate, Boxcar):
        out = operator(*arguments, *options, traces, support, neuron.surrogate.width, neuron.surrogate.height)
    else:
        out = _WithSurrogate.apply(*arguments, options, traces, neuron.surrogate)
    spikes, u_seq, w_seq, u, w, s, *inside = out
    shape = current.shape
    inside = inside[0].view(shape) if support and inside else None
    if neuron.beta is None:
        w = state.w.to(dtype).reshape(batch * columns)
        w_seq = w.expand(steps, -1)
    final = AdLIFState(*(value.view(shape[1:]) for value in (_after_reset(neuron, u, s, parameters[-1]), w, s)))
    u_w = None
    if traces:
        u_w = _after_reset(neuron, u_seq, spikes, parameters[-1]).view(shape), w_seq.reshape(shape)
    return spikes.view(shape).to(current.dtype), final, u_w, inside


class _WithSurrogate(torch.autograd.Function):
    """The operator with the derivative of a surrogate that is not the boxcar."""

    @staticmethod
    def forward(ctx, current, u, w, s, alpha, beta, a, b, theta, options, traces, surrogate):
        from ..kernels.adlif import adlif as operator

        inputs = (current, u, w, s, alpha, beta, a, b, theta)
        output = operator(*inputs, *options, True, False, 0.0, 0.0)[:6]
        ctx.save_for_backward(*inputs, *output[1:3])
        ctx.options, ctx.surrogate = options, surrogate
        ctx.set_materialize_grads(False)
        if not traces:
            ctx.mark_non_differentiable(*output[1:3])
        return output

    @staticmethod
    def backward(ctx, *gradients):
        from ..kernels.adlif import adlif_backward

        *inputs, u_seq, w_seq = ctx.saved_tensors
        current, state, parameters = inputs[0], inputs[1:4], inputs[4:]
        theta = parameters[-1]
        phi = derivative((u_seq.view(-1, theta.numel()) - theta).view_as(u_seq), ctx.surrogate).to(u_seq.dtype)
        arguments = (*gradients, phi, current, u_seq, w_seq, *state, *parameters, *ctx.options, 0.0, 0.0)
        return *adlif_backward(*arguments), None, None, None


def _after_reset(neuron: _Neuron, u: Tensor, s: Tensor, theta: Tensor) -> Tensor:
    """The membrane potential that is carried on; the symplectic kernel gives it before its reset."""
    if neuron.variant == "adlif" or neuron.reset == "none":
        return u
    s = s.detach() if neuron.detach_reset else s
    if neuron.reset == "zero":
        return u * (1 - s)
    return u - (s.view(-1, theta.numel()) * theta).view_as(u)


def _step(neuron: _Neuron, current: Tensor, state: AdLIFState) -> AdLIFState:
    alpha, beta, a, b, theta = neuron.alpha, neuron.beta, neuron.a, neuron.b, neuron.threshold
    u, w, s = state
    drive = current if beta is None else current - w
    if neuron.variant == "adlif":
        s_reset = s.detach() if neuron.detach_reset else s
        kept = u * (1 - s_reset) if neuron.reset == "zero" else u
        u_new = alpha * kept + (1 - alpha) * drive
        if neuron.reset == "subtract":
            u_new = u_new - theta * s_reset
        w_new = w if beta is None else beta * w + (1 - beta) * a * u + b * s
        return AdLIFState(u_new, w_new, fire(u_new - theta, neuron.surrogate))

    u_hat = alpha * u + (1 - alpha) * drive
    s_new = fire(u_hat - theta, neuron.surrogate)
    s_reset = s_new.detach() if neuron.detach_reset else s_new
    if neuron.reset == "zero":
        u_new = u_hat * (1 - s_reset)
    elif neuron.reset == "subtract":
        u_new = u_hat - theta * s_reset
    else:
        u_new = u_hat
    w_new = w if beta is None else beta * w + (1 - beta) * (a * u_new + b * s_new)
    return AdLIFState(u_new, w_new, s_new)


def _neuron(current, features, alpha, beta, a, b, threshold, surrogate, variant, reset, detach_reset) -> _Neuron:
    if not current.is_floating_point():
        raise TypeError(f"current must be floating point, got {current.dtype}; convert it, e.g. current.float()")
    check_choice("variant", variant, VARIANTS)
    reset = ("subtract" if variant == "adlif" else "zero") if reset is None else check_choice("reset", reset, RESETS)
    if surrogate is not None:
        check_function("surrogate", surrogate, "Boxcar()")
    adaptation = {"beta": beta, "a": a, "b": b}
    missing = [name for name, value in adaptation.items() if value is None]
    if missing and len(missing) < 3:
        raise ValueError(f"beta, a and b are given together or not at all; {', '.join(missing)} missing")
    for name, value in {"alpha": alpha, "threshold": threshold, **adaptation}.items():
        if isinstance(value, Tensor):
            _check_parameter(name, value, current, features)
        elif value is not None or name in ("alpha", "threshold"):
            _check_constant(name, value)
    if not isinstance(alpha, Tensor):
        alpha = torch.as_tensor(alpha, dtype=current.dtype, device=current.device)
    detach_reset = check_flag("detach_reset", detach_reset)
    return _Neuron(alpha, beta, a, b, threshold, surrogate or _BOXCAR, variant, reset, detach_reset)


def _check_constant(name: str, value: float) -> None:
    if name == "threshold":
        check_number(name, value, above=0.0)
    elif name in ("alpha", "beta"):
        check_number(name, value, least=0.0, most=1.0, unit="a leak per time step")
    else:
        check_number(name, value)


def _check_parameter(name: str, value: Tensor, current: Tensor, features: torch.Size) -> None:
    if value.dim() and value.shape != features and not _broadcasts(value.shape, features):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not broadcast to the neurons {tuple(features)} of a current "
            f"of shape {tuple(current.shape)}"
        )
    if value.device != current.device and value.dim() > 0:
        raise ValueError(f"{name} is on {value.device} but current on {current.device}; move one of them")
    if value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
    if torch.promote_types(value.dtype, current.dtype) != value.dtype:
        raise TypeError(
            f"current is {current.dtype} but {name} only {value.dtype}; convert the module (e.g. .double()) or the current"
        )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def _check_state(state: AdLIFState, shape: torch.Size, device: torch.device) -> None:
    if not (isinstance(state, tuple) and len(state) == 3 and all(isinstance(value, Tensor) for value in state)):
        raise TypeError(f"state must be an AdLIFState of three tensors (u, w, s), got {type(state).__name__}")
    for name, value in zip(AdLIFState._fields, state, strict=True):
        if value.shape != shape:
            raise ValueError(f"state {name} has shape {tuple(value.shape)}, the input needs {tuple(shape)}")
        if value.is_complex():
            raise TypeError(f"state {name} must hold real numbers, got {value.dtype}")
        if value.device != device:
            raise ValueError(f"state {name} is on {value.device} but current on {device}; move one of them")


class NotFiniteError(ValueError):
    """The membrane potential has left every bound: a diverged training, or inputs or parameters that are not finite."""


def _check_finite(u: Tensor, neuron: _Neuron) -> None:
    # A NaN never leaves the recursion of u, so that the last step tells of every step before it. That of a threshold
    # enters it by subtraction alone.
    if not values_known(u) or not u.numel():
        return
    theta = neuron.threshold
    if neuron.reset != "subtract" and isinstance(theta, Tensor) and not torch.isfinite(theta.detach()).all():
        raise ValueError(f"threshold must be finite, got {theta.detach().flatten()[:8].tolist()}")
    if not torch.isfinite(u.detach()).all():
        raise NotFiniteError(
            "the membrane potential became NaN or infinite: look for NaN or infinite input currents or parameters, "
            "or for an unstable neuron (alpha >= 1, strongly negative a)"
        )


def _stack(steps: list[Tensor], current: Tensor, dtype: torch.dtype) -> Tensor:
    if not steps:
        return current.new_zeros(current.shape, dtype=dtype)
    return torch.stack(steps).to(dtype)
