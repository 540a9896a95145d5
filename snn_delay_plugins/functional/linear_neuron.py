r"""Linear neurons with jumps: what LIF, AdLIF, resonate-and-fire and SiLIF neurons have in common.

A neuron has one or two states x, an input current I and spikes s (no unit; time runs in steps):

.. math::
    x[t] &= (A + s[t-1]\, J)\, x[t-1] + s[t-1]\, r + B\, I[t] \\
    z[t] &= x_0[t] + c\, x_1[t] - \theta, \qquad s[t] = \Theta(z[t])

A decays, couples and rotates the states; a spike multiplies them (J) and adds to them (r) in the next step; B weighs the
input; c lets the second state move the threshold. A *model* (:mod:`snn_delay_plugins.models`) maps its own parameters to
these coefficients, differentiably, so that their gradients reach alpha, beta, a, b or whatever it calls its own.

Where the second state is a current that is subtracted from the input, ``subtracted``, :math:`A_{01} = -B_0` and the two
are one term, :math:`B_0 (I[t] - x_1[t-1])`.

Shapes: current ``[T, N, *]`` (one step: ``[N, *]``), states ``[N, *]``, coefficients any shape that broadcasts to ``*``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels import dispatch
from ..kernels.linear_neuron.structure import NAMES, Structure
from .surrogate import Boxcar, fire

__all__ = ["Coefficients", "LinearState", "linear_neuron", "linear_neuron_step"]

Number = Tensor | float
_BOXCAR = Boxcar()


@dataclass(frozen=True)
class Coefficients:
    """The coefficients of a linear neuron; those that are the number 0 cost nothing.

    :param theta: firing threshold.
    :param A: ``((A00, A01), (A10, A11))``, or ``((A00,),)`` for one state.
    :param B: ``(B0, B1)`` or ``(B0,)``.
    :param r: what a spike adds to the states in the next step, ``(r0, r1)`` or ``(r0,)``.
    :param J: what a spike multiplies them with in the next step, as A. Default: nothing.
    :param c: how the second state moves the threshold.
    :param subtracted: the second state is subtracted from the input current: A01 is -B0 and given as 0.
    :param through: no gradient flows from J and r to the spike that made them (a detached reset) but what these values,
        ``(q0, q1)``, in the place of r carry; they have no gradient themselves.
    :raises ValueError: for shapes of the tuples that make no neuron of one or two states.

    Example::

        >>> lif = Coefficients(theta=1.0, A=((0.9,),), B=(0.1,), r=(-1.0,))
        >>> lif.structure.names
        ('A00', 'r0', 'B0', 'theta')
    """

    theta: Number
    A: tuple[tuple[Number, ...], ...]
    B: tuple[Number, ...]
    r: tuple[Number, ...] = (0,)
    J: tuple[tuple[Number, ...], ...] | None = None
    c: Number = 0
    subtracted: bool = False
    through: tuple[Number, ...] | None = None

    def __post_init__(self) -> None:
        states = len(self.A)
        if states not in (1, 2) or any(len(row) != states for row in self.A):
            raise ValueError(f"A must be ((A00,),) or ((A00, A01), (A10, A11)), got {self.A}")
        if self.J is not None and (len(self.J) != states or any(len(row) != states for row in self.J)):
            raise ValueError(f"J must have the shape of A, {states} x {states}, got {self.J}")
        for name, value in (("B", self.B), ("r", self.r), ("through", self.through)):
            if value is not None and not 1 <= len(value) <= states:
                raise ValueError(f"{name} must have one value per state, {states}, got {len(value)}")
        if states == 1 and (self.subtracted or not _absent(self.c)):
            raise ValueError("c and subtracted belong to a second state, and A has one")
        if self.subtracted and not _absent(self.A[0][1]):
            raise ValueError("subtracted: A01 is -B0 and must be given as 0")

    @property
    def named(self) -> dict[str, Number]:
        """The coefficients that there are by name, in the order of the kernels."""
        values = {f"A{i}{j}": value for i, row in enumerate(self.A) for j, value in enumerate(row)}
        for i, row in enumerate(self.J or ()):
            values.update({f"J{i}{j}": value for j, value in enumerate(row)})
        for name, pair in (("r", self.r), ("B", self.B), ("q", self.through or ())):
            values.update({f"{name}{i}": value for i, value in enumerate(pair)})
        values["c"] = self.c
        present = {name: value for name, value in values.items() if not _absent(value)} | {"theta": self.theta}
        return {name: present[name] for name in NAMES if name in present}

    @property
    def structure(self) -> Structure:
        """What a kernel is compiled for."""
        return Structure(tuple(self.named), self.subtracted, self.through is not None)


class LinearState(NamedTuple):
    """State of linear neurons after a step; each ``[N, *]``."""

    x0: Tensor
    x1: Tensor | None
    """None where there is one state."""
    s: Tensor
    """Spike (0 or 1)."""


def linear_neuron_step(
    current: Tensor, state: LinearState, coefficients: Coefficients,
    surrogate: Callable[[Tensor], Tensor] | None = None,
) -> LinearState:  # fmt: skip
    """One time step of linear neurons (equations: head of this module).

    :param current: input current ``[N, *]``. :param state: after the previous step.
    :returns: the state after this step; its ``s`` is the output.

    Example::

        >>> import torch
        >>> lif = Coefficients(theta=1.0, A=((0.5,),), B=(0.5,), r=(-1.0,))
        >>> rest = LinearState(torch.zeros(1, 1), None, torch.zeros(1, 1))
        >>> state = linear_neuron_step(torch.full((1, 1), 2.5), rest, lif)
        >>> state.x0.item(), state.s.item()
        (1.25, 1.0)
    """
    return _step(coefficients.named, coefficients, current, state, surrogate or _BOXCAR)


def _step(k: dict[str, Number], of: Coefficients, current: Tensor, state: LinearState, surrogate) -> LinearState:
    x0, x1, s = state
    s_reset = s.detach() if of.through is not None else s
    y0 = k["A00"] * x0 if "A00" in k else torch.zeros_like(x0)
    if "A01" in k:
        y0 = y0 + k["A01"] * x1
    if "B0" in k:
        y0 = y0 + k["B0"] * (current - x1 if of.subtracted else current)
    y0 = _jump(y0, k, s, s_reset, x0, x1, "J00", "J01", "r0", "q0")
    y1 = None
    if x1 is not None:
        y1 = k["A11"] * x1 if "A11" in k else torch.zeros_like(x1)
        if "A10" in k:
            y1 = y1 + k["A10"] * x0
        if "B1" in k:
            y1 = y1 + k["B1"] * current
        y1 = _jump(y1, k, s, s_reset, x1, x0, "J11", "J10", "r1", "q1")
    z = y0 + k["c"] * y1 if "c" in k else y0
    return LinearState(y0, y1, fire(z - k["theta"], surrogate))


def _jump(y, k, s, s_reset, own, other, of_own: str, of_other: str, added: str, through: str):
    """What the spike of the step before does to one state."""
    if of_own in k:
        y = y + k[of_own] * own * s_reset
    if of_other in k:
        y = y + k[of_other] * other * s_reset
    if added in k:
        y = y + k[added] * s_reset
    if through in k:  # the value is in r already; this is its gradient to the spike
        q = k[through].detach() if isinstance(k[through], Tensor) else k[through]
        y = y + q * (s - s.detach())
    return y


def linear_neuron(
    current: Tensor, coefficients: Coefficients, state: LinearState | None = None, *,
    surrogate: Callable[[Tensor], Tensor] | None = None, traces: bool = False, support: bool = False,
    method: str | None = None,
) -> tuple:  # fmt: skip
    """A sequence of linear neurons (equations: head of this module).

    :param current: input current, ``[T, N, *]``, floating point.
    :param coefficients: see :class:`Coefficients`. :param state: initial (x0, x1, s), each ``[N, *]``; default: zero.
    :param surrogate: surrogate gradient called on z; default :class:`~.surrogate.Boxcar`.
    :param traces: also return the traces of the states. :param support: also return where a gradient of the spikes has an
        effect, bool ``[T, N, *]``; None, everywhere, in the plain form and for surrogates other than the boxcar.
    :param method: ``"torch"`` (the plain form, the reference), ``"numba"`` or ``"triton"`` (compiled, same values);
        default: chosen by :mod:`snn_delay_plugins.kernels.dispatch`.
    :returns: spikes ``[T, N, *]`` in the dtype of ``current`` and the final state; with ``traces``, ``(x0, x1)`` third;
        with ``support``, that last. States are computed in the widest of the dtypes (under autocast: float32).
    :raises ValueError: for shapes that do not fit, or when a state becomes NaN or infinite.
    :raises TypeError: for a ``current`` that is not floating point or is wider than the coefficients.

    Example::

        >>> import torch
        >>> lif = Coefficients(theta=1.0, A=((0.5,),), B=(0.5,), r=(-1.0,))
        >>> spikes, state = linear_neuron(torch.full((8, 1, 1), 2.0), lif)
        >>> spikes.flatten().tolist()
        [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """
    if current.dim() < 2:
        raise ValueError(f"current must be [T, N, *], got shape {tuple(current.shape)}")
    named, structure = coefficients.named, coefficients.structure
    dtype = _compute_dtype(current, named)
    if state is None:
        zero = current.new_zeros(current.shape[1:], dtype=dtype)
        state = LinearState(zero, zero if structure.two else None, zero)
    _check_state(state, structure, current.shape[1:])
    surrogate = surrogate or _BOXCAR
    chosen = dispatch.adlif_method(current, dtype, surrogate, method)
    if chosen == "torch":
        return _plain_sequence(named, coefficients, current, state, dtype, surrogate, traces, support)
    return _compiled_sequence(named, structure, current, state, dtype, surrogate, traces, support)


def _plain_sequence(named, coefficients, current, state, dtype, surrogate, traces: bool, support: bool) -> tuple:
    states = [state]
    for current_t in current.unbind(0):
        states.append(_step(named, coefficients, current_t, states[-1], surrogate))
    _check_finite(states[-1])

    def stack(values: list[Tensor], dtype: torch.dtype) -> Tensor:
        return torch.stack(values).to(dtype) if values else current.new_zeros(current.shape, dtype=dtype)

    out = [stack([state.s for state in states[1:]], current.dtype), states[-1]]
    if traces:
        x1 = None if state.x1 is None else stack([state.x1 for state in states[1:]], dtype)
        out.append((stack([state.x0 for state in states[1:]], dtype), x1))
    return *out, *((None,) if support else ())


def _compiled_sequence(named, structure, current, state, dtype, surrogate, traces: bool, support: bool) -> tuple:
    from ..kernels.linear_neuron.operator import linear_neuron as operator

    steps, batch, *features = current.shape
    columns = math.prod(features)
    rows = torch.stack([_row(value, features, dtype, current) for value in named.values()]).view(len(named), columns)
    flat = (current.new_empty(0, dtype=dtype) if x is None else x.to(dtype).reshape(batch * columns) for x in state)
    spikes, x0_seq, x1_seq, x0, x1, s, inside = operator(
        current.to(dtype).reshape(steps, batch * columns), *flat, rows, structure, traces, support, surrogate
    )
    shape = current.shape
    final = LinearState(x0.view(shape[1:]), x1.view(shape[1:]) if structure.two else None, s.view(shape[1:]))
    _check_finite(final)
    out = [spikes.view(shape).to(current.dtype), final]
    if traces:
        out.append((x0_seq.view(shape), x1_seq.view(shape) if structure.two else None))
    if support:
        out.append(None if inside is None else inside.view(shape))
    return tuple(out)


def _row(value: Number, features: list[int], dtype: torch.dtype, current: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return current.new_full(features, value, dtype=dtype)
    return value.to(current.device, dtype).expand(features)


def _absent(value: Number) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _compute_dtype(current: Tensor, named: dict[str, Number]) -> torch.dtype:
    if not current.is_floating_point():
        raise TypeError(f"current must be floating point, got {current.dtype}; convert it, e.g. current.float()")
    dtype = current.dtype
    features = current.shape[2:]
    for name, value in named.items():
        if not isinstance(value, Tensor):
            continue
        if value.dim() and value.shape != features and not _broadcasts(value.shape, features):
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} does not broadcast to the neurons {tuple(features)} of a current "
                f"of shape {tuple(current.shape)}"
            )
        if value.device != current.device and value.dim() > 0:
            raise ValueError(f"{name} is on {value.device} but current on {current.device}; move one of them")
        if torch.promote_types(value.dtype, current.dtype) != value.dtype:
            raise TypeError(
                f"current is {current.dtype} but {name} only {value.dtype}; convert the module "
                "(e.g. .double()) or the current"
            )
        dtype = torch.promote_types(dtype, value.dtype)
    return dtype


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def _check_state(state: LinearState, structure: Structure, shape: torch.Size) -> None:
    if (state.x1 is not None) != structure.two:
        raise ValueError(
            f"state x1 must {'be given' if structure.two else 'be None'}: the neuron has {1 + structure.two} state(s)"
        )
    for name, value in zip(LinearState._fields, state, strict=True):
        if value is not None and value.shape != shape:
            raise ValueError(f"state {name} has shape {tuple(value.shape)}, the input needs {tuple(shape)}")


def _check_finite(state: LinearState) -> None:
    # A NaN never leaves the recursion, so that the last step tells of every step before it.
    if torch.compiler.is_compiling():
        return
    for name, value in (("first", state.x0), ("second", state.x1)):
        if value is not None and value.numel() and (value.detach() * 0).sum().item() != 0:  # NaN and infinity times zero
            raise ValueError(
                f"the {name} state became NaN or infinite: look for NaN or infinite input currents or "
                "parameters, or for an unstable neuron"
            )
