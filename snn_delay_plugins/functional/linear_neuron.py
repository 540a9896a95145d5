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

A spike can act in its own step, ``symplectic``, so that the second state sees the first after its jump (Baronig et al.
2024, Eq. 6); the states are those before the jump of their own spike:

.. math::
    x_0[t] &= A_{00}\, p[t-1] + B_0 (I[t] - x_1[t-1]), \qquad p[t] = (1 + s[t]\, J_{00})\, x_0[t] + s[t]\, r_0 \\
    x_1[t] &= A_{11}\, x_1[t-1] + (1 - A_{11}) (A_{10}\, p[t] + r_1\, s[t])

Shapes: current ``[T, N, *]`` (one step: ``[N, *]``), states ``[N, *]``, coefficients any shape that broadcasts to ``*``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_flag, check_function, check_tensor, values_known
from ..kernels import dispatch
from ..kernels.dispatch import NeuronMethod
from ..kernels.linear_neuron.structure import Structure
from .recurrent import Recurrence
from .surrogate import Boxcar, fire

__all__ = ["Coefficients", "LinearState", "NotFiniteError", "linear_neuron", "linear_neuron_step"]

Number = Tensor | float
_BOXCAR = Boxcar()
_NAMES_OF_ROWS = (("A00", "A01"), ("A10", "A11"), ("J00", "J01"), ("J10", "J11"), ("r0", "r1"), ("B0", "B1"))


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
    :param symplectic: a spike acts in its own step; a second state is ``subtracted`` and sees the first after its jump.
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
    symplectic: bool = False
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
        if self.symplectic and (misfit := self.structure.misfit):
            raise ValueError(misfit)

    @property
    def named(self) -> dict[str, Number]:
        """The coefficients that there are by name, in the order of the kernels."""
        found: dict[str, Number] = {}
        for names, values in zip(_NAMES_OF_ROWS, (*self._rows(self.A), *self._rows(self.J), self.r, self.B), strict=True):
            for name, value in zip(names, values):  # noqa: B905 - torch 2.6 compiles strict=False as strict=True
                if isinstance(value, Tensor) or value != 0:
                    found[name] = value
        if not _absent(self.c):
            found["c"] = self.c
        found["theta"] = self.theta
        for i, value in enumerate(self.through or ()):
            if not (_absent(value) or self._passes(i)):
                found[f"q{i}"] = value
        return found

    @staticmethod
    def _rows(matrix: tuple[tuple[Number, ...], ...] | None) -> tuple[tuple[Number, ...], ...]:
        return ((), ()) if matrix is None else (matrix[0], matrix[1] if len(matrix) > 1 else ())

    def _passes(self, i: int) -> bool:
        """Whether all of r has its gradient to the spike."""
        if self.through is None or i >= len(self.r):
            return True
        value, r = self.through[i] if i < len(self.through) else 0, self.r[i]
        return value is r or (_absent(value) and _absent(r))

    @property
    def structure(self) -> Structure:
        """What a kernel is compiled for."""
        return self._structure(tuple(self.named))

    def _structure(self, names: tuple[str, ...]) -> Structure:
        detached = tuple(f"r{i}" for i in range(2) if not self._passes(i))
        if self.through is not None and any(name.startswith("J") for name in names):
            detached = ("J", *detached)
        return Structure(names, self.subtracted, detached, self.symplectic)


class LinearState(NamedTuple):
    """State of linear neurons after a step; each ``[N, *]``."""

    x0: Tensor
    x1: Tensor | None
    """None where there is one state."""
    s: Tensor
    """Spike (0 or 1)."""


class NotFiniteError(ValueError):
    """A state has left every bound: a diverged training, or inputs or parameters that are not finite."""


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
    named, structure = resolved(coefficients)
    return advance(structure, named, current, state, surrogate or _BOXCAR)


def resolved(coefficients: Coefficients) -> tuple[dict[str, Number], Structure]:
    """The coefficients by name and their structure, for many steps."""
    named = coefficients.named
    return named, coefficients._structure(tuple(named))


def advance(of: Structure, k: dict[str, Number], current: Tensor, state: LinearState, surrogate) -> LinearState:
    """One step in plain PyTorch; ``k``: the coefficients by name. The order of operations is that of the kernels."""
    x0, x1, s = state
    if of.symplectic:
        return _symplectic(of, k, current, x0, x1, s, surrogate)
    s_jump = s.detach() if "J" in of.detached else s
    y0 = _entry(k, "A00", "J00", s_jump, x0)
    if x1 is not None and ("A01" in k or "J01" in k):
        y0 = y0 + _entry(k, "A01", "J01", s_jump, x1)
    if "B0" in k:
        y0 = y0 + k["B0"] * (current if x1 is None or not of.subtracted else current - x1)
    y0 = _added(of, y0, k, s, "r0", "q0")
    y1 = None
    if x1 is not None:
        y1 = _entry(k, "A11", "J11", s_jump, x1)
        if "A10" in k or "J10" in k:
            y1 = y1 + _entry(k, "A10", "J10", s_jump, x0)
        if "B1" in k:
            y1 = y1 + k["B1"] * current
        y1 = _added(of, y1, k, s, "r1", "q1")
    z = y0 if y1 is None or "c" not in k else y0 + k["c"] * y1
    return LinearState(y0, y1, fire(z - k["theta"], surrogate))


def _symplectic(of: Structure, k: dict[str, Number], current, x0, x1, s, surrogate) -> LinearState:
    y0 = k["A00"] * after_jump(of, k, x0, s) if "A00" in k else torch.zeros_like(x0)
    if "B0" in k:
        y0 = y0 + k["B0"] * (current if x1 is None else current - x1)
    s = fire(y0 - k["theta"], surrogate)
    if x1 is None:
        return LinearState(y0, None, s)
    kick = k["A10"] * after_jump(of, k, y0, s) if "A10" in k else torch.zeros_like(y0)
    kick = _added(of, kick, k, s, "r1", "q1")
    y1 = k["A11"] * x1 + (1.0 - k["A11"]) * kick if "A11" in k else kick
    return LinearState(y0, y1, s)


def after_jump(of: Structure, k: dict[str, Number], x0: Tensor, s: Tensor) -> Tensor:
    """What a spike leaves of the first state, where it acts in its own step."""
    if "J00" in k:
        x0 = x0 * (1.0 + k["J00"] * (s.detach() if "J" in of.detached else s))
    return x0 + k["r0"] * (s.detach() if "r0" in of.detached else s) if "r0" in k else x0


def _entry(k: dict[str, Number], of_state: str, of_spike: str, s: Tensor, x: Tensor) -> Tensor:
    """(A + s J) x of one entry; a spike that takes all of A leaves zero, to the last bit."""
    if of_spike in k:
        return (k.get(of_state, 0) + k[of_spike] * s) * x
    return k[of_state] * x if of_state in k else torch.zeros_like(x)


def _added(of: Structure, y: Tensor, k: dict[str, Number], s: Tensor, added: str, through: str) -> Tensor:
    """What the spike adds to one state."""
    if added in k:
        y = y + k[added] * (s.detach() if added in of.detached else s)
    if through in k:  # the value is in r already; this is its gradient to the spike
        q = k[through]
        q = q.detach() if isinstance(q, Tensor) else q
        y = y + q * (s - s.detach())
    return y


def linear_neuron(
    current: Tensor, coefficients: Coefficients, state: LinearState | None = None, *,
    surrogate: Callable[[Tensor], Tensor] | None = None, traces: bool = False, support: bool = False,
    recurrence: Recurrence | None = None, method: NeuronMethod | None = None,
) -> tuple:  # fmt: skip
    """A sequence of linear neurons (equations: head of this module).

    :param current: input current, ``[T, N, *]``, floating point.
    :param coefficients: see :class:`Coefficients`. :param state: initial (x0, x1, s), each ``[N, *]``; default: zero.
    :param surrogate: surrogate gradient called on z; default :class:`~.surrogate.Boxcar`.
    :param traces: also return the traces of the states. :param support: also return where a gradient of the spikes has an
        effect, bool ``[T, N, *]``; None, everywhere, in the plain form, with recurrence and for surrogates other than the
        boxcar.
    :param recurrence: synapses with delays from the neurons to each other (:mod:`.recurrent`), for a current ``[T, N, F]``.
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
    if check_tensor("current", current).dim() < 2:
        raise ValueError(f"current must be [T, N, *], got shape {tuple(current.shape)}")
    named, structure = resolved(coefficients)
    dtype, two = _compute_dtype(current, named), structure.two
    if state is None:
        zero = current.new_zeros(current.shape[1:], dtype=dtype)
        state = LinearState(zero, zero if two else None, zero)
    _check_state(state, two, current)
    if surrogate is not None:
        check_function("surrogate", surrogate, "Boxcar()")
    traces, support = check_flag("traces", traces), check_flag("support", support)
    chosen = dispatch.neuron_method(current, dtype, surrogate or _BOXCAR, method, name_of("linear_neuron", recurrence))
    spikes, last, x, inside = run(
        structure, named, current, state, dtype, surrogate or _BOXCAR, traces, support, chosen, recurrence
    )
    for name, value in (("first", last.x0), ("second", last.x1)):
        if value is not None and not is_finite(value):
            raise NotFiniteError(
                f"the {name} state became NaN or infinite: look for NaN or infinite input currents or parameters, "
                "or for an unstable neuron"
            )
    return spikes.to(current.dtype), last, *((x,) if traces else ()), *((inside,) if support else ())


def run(
    structure: Structure, named: dict[str, Number], current: Tensor, state: LinearState, dtype: torch.dtype,
    surrogate: Callable, traces: bool, support: bool, method: str, recurrence: Recurrence | None = None,
) -> tuple:  # fmt: skip
    """A sequence whose arguments fit: spikes in the dtype of the states, the last state, traces of x0 and x1 and the
    support (None: not asked for, or everywhere)."""
    if recurrence is not None:
        recurrence.check_fits(current)
    if method == "torch":
        return _plain_sequence(structure, named, current, state, dtype, surrogate, traces, recurrence)
    return _compiled_sequence(structure, named, current, state, dtype, surrogate, traces, support, recurrence)


def name_of(operator: str, recurrence: Recurrence | None) -> str:
    """What the operator of these neurons is called where they are dispatched."""
    return operator if recurrence is None else "recurrent_neuron"


def _plain_sequence(structure, named, current, state, dtype, surrogate, traces: bool, recurrence) -> tuple:
    states = [state]
    recurrent = None if recurrence is None else recurrence.begin(current, dtype)
    for current_t in current.unbind(0):
        if recurrent is not None:
            current_t = current_t + recurrent.current()
        states.append(advance(structure, named, current_t, states[-1], surrogate))
        if recurrent is not None:
            recurrent.fired(states[-1].s)
        if not traces:
            states[-2] = LinearState(None, None, states[-2].s)  # pyright: ignore[reportArgumentType] - nobody needs them any more

    def stack(values: list[Tensor]) -> Tensor:
        return torch.stack(values).to(dtype) if values else current.new_zeros(current.shape, dtype=dtype)

    x, s = None, stack([state.s for state in states[1:]])
    if traces:
        x1 = None if state.x1 is None else stack([state.x1 for state in states[1:]])
        x = stack([state.x0 for state in states[1:]]), x1
    return s, states[-1], x, None


def _compiled_sequence(
    structure, named, current, state, dtype, surrogate, traces: bool, support: bool, recurrence
) -> tuple:
    from ..kernels.linear_neuron.operator import linear_neuron as operator

    if recurrence is not None:
        return _compiled_recurrence(structure, named, current, state, dtype, surrogate, traces, recurrence)
    steps, batch, *features = current.shape
    columns = math.prod(features)
    rows = torch.stack([_row(value, features, dtype, current) for value in named.values()]).view(len(named), columns)
    flat_x0, flat_x1, flat_s = (
        current.new_empty(0, dtype=dtype) if x is None else x.to(dtype).reshape(batch * columns) for x in state
    )
    spikes, x0_seq, x1_seq, x0, x1, s, inside = operator(
        current.to(dtype).reshape(steps, batch * columns), flat_x0, flat_x1, flat_s, rows, structure, traces, support,
        surrogate,
    )  # fmt: skip
    shape, two = current.shape, state.x1 is not None
    final = LinearState(x0.view(shape[1:]), x1.view(shape[1:]) if two else None, s.view(shape[1:]))
    x = (x0_seq.view(shape), x1_seq.view(shape) if two else None) if traces else None
    return spikes.view(shape), final, x, None if inside is None else inside.view(shape)


def _compiled_recurrence(structure, named, current, state, dtype, surrogate, traces: bool, recurrence: Recurrence) -> tuple:
    from ..kernels.recurrent_neuron.operator import recurrent_neuron as operator

    features = current.shape[2:]
    rows = torch.stack([_row(value, features, dtype, current) for value in named.values()])
    x0, x1, s = (current.new_empty(0, 0, dtype=dtype) if x is None else x.to(dtype) for x in state)
    spikes, x0_seq, x1_seq, x0, x1, s = operator(
        current.to(dtype), x0, x1, s, rows, *recurrence.synapses(dtype), recurrence.past(current, dtype), structure, traces,
        surrogate,
    )  # fmt: skip
    two = state.x1 is not None
    x = (x0_seq, x1_seq if two else None) if traces else None
    return spikes, LinearState(x0, x1 if two else None, s), x, None


def _row(value: Number, features: list[int], dtype: torch.dtype, current: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return current.new_full(features, value, dtype=dtype)
    return value.to(current.device, dtype).expand(features)


def _absent(value: Number) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _compute_dtype(current: Tensor, named: dict[str, Number]) -> torch.dtype:
    check_current(current)
    dtype = current.dtype
    for name, value in named.items():
        if isinstance(value, Tensor):
            check_parameter(name, value, current, current.shape[2:])
            dtype = torch.promote_types(dtype, value.dtype)
    return dtype


def check_current(current: Tensor) -> None:
    """:raises TypeError: for a current that is not floating point."""
    if not current.is_floating_point():
        raise TypeError(f"current must be floating point, got {current.dtype}; convert it, e.g. current.float()")


def check_parameter(name: str, value: Tensor, current: Tensor, features: torch.Size) -> None:
    """
    :raises ValueError: unless it broadcasts to the neurons, on the device of the current.
    :raises TypeError: for complex numbers, or where the current is wider.
    """
    if value.dim() and value.shape != features and not _broadcasts(value.shape, features):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not broadcast to the neurons {tuple(features)} of a current "
            f"of shape {tuple(current.shape)}"
            + ("; features= must be the shape of one sample" if features else "; a step is [N, *], a sequence [T, N, *]")
        )
    if value.device != current.device and value.dim() > 0:
        raise ValueError(f"{name} is on {value.device} but current on {current.device}; move one of them")
    if value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
    if value.dtype != current.dtype and torch.promote_types(value.dtype, current.dtype) != value.dtype:
        raise TypeError(
            f"current is {current.dtype} but {name} only {value.dtype}; convert the module (e.g. .double()) or the current"
        )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def check_states(named: dict[str, Tensor], shape: torch.Size, device: torch.device) -> None:
    """
    :raises ValueError: for another shape or device. :raises TypeError: for complex numbers.
    """
    for name, value in named.items():
        if value.shape != shape:
            raise ValueError(f"state {name} has shape {tuple(value.shape)}, the input needs {tuple(shape)}")
        if value.is_complex():
            raise TypeError(f"state {name} must hold real numbers, got {value.dtype}")
        if value.device != device:
            raise ValueError(f"state {name} is on {value.device} but current on {device}; move one of them")


def _check_state(state: LinearState, two: bool, current: Tensor) -> None:
    if not (isinstance(state, tuple) and len(state) == 3):
        raise TypeError(f"state must be a LinearState of three (x0, x1, s), got {type(state).__name__}")
    if (state[1] is not None) != two:
        raise ValueError(f"state x1 must {'be given' if two else 'be None'}: the neuron has {1 + two} state(s)")
    named = dict(zip(LinearState._fields, state, strict=True))
    for name, value in named.items():
        if value is not None:
            check_tensor(f"state {name}", value)
    check_states({name: value for name, value in named.items() if value is not None}, current.shape[1:], current.device)


def is_finite(state: Tensor) -> bool:
    """Whether no value is NaN or infinite, as far as values are known. A NaN never leaves the recursion, so that the last
    step tells of every step before it."""
    return not values_known(state) or not state.numel() or bool(torch.isfinite(state.detach()).all())
