r"""EventProp with delays for every linear neuron: exact spike times and exact gradients of weights, delays and constants.

Equations (derived in ``docs/eventprop.md``). With the state x of a neuron and the coefficients of its model
(:mod:`.eventprop_models`)

    x' = M x between events;         an arrival of weight w:  x <- x + w B
    c . x reaches theta from below:  a spike at t_k,  x+ = x- + J x- + r
    for a time ``refractory`` after a spike  x' = M_held x  (the held states' rows of M are zero), no threshold is tested

and, backwards in time, with p = dL/dx:

    p' = -M^T p between events, nothing at arrivals
    p- = (1 + J)^T p+ - c G_k / (c . F-),   G_k = p+ . ((1 + J) F- - F+) + dL/dt_k
    dL/dw = sum B . p(t + d),   dL/dd = -w sum (M B) . p(t + d),   dL/dt_i = -sum_j w_ji (M B) . p(t_i + d_ji)
    dL/dM = int p x^T dt,   dL/d theta = sum G_k / (c . F-),   dL/dr = sum p+,   dL/dJ = sum p+ x-^T

with F- = M x- and F+ the flow after the spike, M x+ or M_held x+.
dL/dt_k holds what the loss says of the spike itself, what it caused at its targets (dL/dt_i above), and, with a refractory
period, p . (M_held - M) x at the period's end.

Here are the public functions and the plain PyTorch form (:func:`eventprop_linear_reference`), slow and short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checks import check_whole, shape_alone
from ..events import SpikeEvents
from ..kernels import dispatch
from ..kernels.eventprop.linear.operator import eventprop_linear as operator
from ..transforms import REVERSE_ALONE, refuse_transforms
from .eventprop import _Checked, _on_cpu, spikes_in_order
from .eventprop_models import ContinuousModel, StackedSystem, system_of

__all__ = ["eventprop_linear", "eventprop_linear_reference"]

Number = Tensor | float


def eventprop_linear(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    threshold: Number = 1.0,
    refractory: Number = 0.0,
    dt: float = 1.0,
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    max_spikes: int = 10_000,
) -> SpikeEvents:
    """A layer of neurons of a linear model with delays (module heading).

    Parameters
    ----------
    events, weight, delay, recurrent_weight, recurrent_delay, max_spikes
        As in :func:`snn_delay_plugins.functional.eventprop.eventprop_lif`.
    model : ContinuousModel
        One of :mod:`.eventprop_models`, or your own, of up to three states.
    constants : mapping from names to numbers or Tensors [] or [out]
        The model's constants; what is left out has its default.
    threshold, refractory : float or Tensor [] or [out]
        theta > 0; absolute refractory period >= 0.
    dt : float
        Only bounds the work: the loops step by at most dt, and by less beside short time constants.

    Returns
    -------
    SpikeEvents
        The layer's spikes, times differentiable with respect to weights, delays, ``events.times``, all constants, threshold
        and refractory. Arithmetic is float64 whatever the dtypes. Without triton CUDA tensors are copied to the CPU, with
        one warning.

    Raises
    ------
    TypeError, ValueError
        wrong dtype, shape, device; NaN; negative delay; constants that cannot be.
    RuntimeError
        more than ``max_spikes`` spikes of a neuron; backwards, a spike that only grazes the threshold.

    Source: Meszaros et al., Table 1, Eqs. 5 and 6, generalised; derivation in ``docs/eventprop.md``.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
    >>> from snn_delay_plugins.functional.eventprop_models import ADLIF
    >>> inputs = SpikeEvents.from_lists([[1.0, 4.0]], [[0, 1]], num_units=2, duration=50.0)
    >>> w = torch.full((1, 2), 8.0, dtype=torch.float64)
    >>> b = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    >>> spikes = eventprop_linear(inputs, w, model=ADLIF, constants={"a": 1.0, "b": b})
    >>> [round(t, 4) for t in spikes.times.tolist()]
    [4.3048, 6.7624]
    >>> spikes.times[1].backward()
    >>> round(b.grad.item(), 4)  # adaptation delays the second spike
    0.4067
    """
    refuse_transforms("EventProp", REVERSE_ALONE)
    syn = _Checked(events, weight, delay, recurrent_weight, recurrent_delay, 1.0, 1.0, 1.0, dt, "exact")
    max_spikes = check_whole("max_spikes", max_spikes, least=1, most=2**31 - 1)
    n_out = weight.shape[0]
    if shape_alone(events.times):
        raise RuntimeError(
            "eventprop_linear: how many spikes come out is known by running alone, not on the meta device or in a "
            "FakeTensorMode"
        )
    s = system_of(model, constants or {}, threshold, n_out)
    rest = refractory_of(refractory, n_out)
    if events.duration == 0:  # a dense sequence of no steps
        empty = syn.nothing((0,))
        return SpikeEvents._trusted(empty, events.units[:0], torch.zeros_like(events.offsets), n_out, 0.0, empty)
    if dispatch.eventprop_method(events.times, "eventprop_linear") == "torch":
        constants = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in (constants or {}).items()}
        return _on_cpu(
            eventprop_linear_reference, events, weight, delay, model=model, constants=constants, threshold=threshold,
            refractory=refractory, dt=dt, recurrent_weight=recurrent_weight, recurrent_delay=recurrent_delay,
            max_spikes=max_spikes,
        )  # fmt: skip
    neurons = (x.to(weight.device) for x in (s.M, s.J, s.r, s.theta, rest, s.B, s.c, s.kept))
    times, potential, units, offsets, *_ = operator(
        events.times, events.units, events.offsets, syn.weight, syn.delay, syn.recurrent_weight, syn.recurrent_delay,
        *neurons, events.duration, float(dt), max_spikes,
    )  # fmt: skip
    return SpikeEvents._trusted(times, units, offsets, n_out, events.duration, potential)


def eventprop_linear_reference(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    threshold: Number = 1.0,
    refractory: Number = 0.0,
    dt: float = 1.0,
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    max_spikes: int = 10_000,
) -> SpikeEvents:
    """:func:`eventprop_linear` in plain PyTorch, for float64 and small networks; ``dt`` is not looked at.

    The order of the spikes is searched event by event without gradient. Then each neuron's state is carried from spike to
    spike by matrix exponentials, under autograd; one Newton step from the time found, its slope detached, gives every spike
    time the gradient of the implicit function theorem.
    """
    syn = _Checked(events, weight, delay, recurrent_weight, recurrent_delay, 1.0, 1.0, 1.0, dt, "exact")
    syn.check_values()
    n_out = weight.shape[0]
    s = system_of(model, constants or {}, threshold, n_out)
    rest = refractory_of(refractory, n_out)
    w, d = syn.weight.double(), syn.delay.double().expand_as(weight)
    wr = dr = None
    if syn.recurrent_weight is not None and syn.recurrent_delay is not None:
        wr, dr = syn.recurrent_weight.double(), syn.recurrent_delay.double().expand_as(syn.recurrent_weight)
    neurons = [_Neuron.of(s, rest, j) for j in range(n_out)]
    times, units, offsets = [], [], [0]
    for sample in range(events.batch_size):
        e = events[sample]
        t_in = e.times.double()
        found = spikes_in_order(
            t_in.tolist(), e.units.tolist(), (w, d, wr, dr), [neuron.at_start() for neuron in neurons],
            lambda j, state, ahead, until=e.duration: neurons[j].next_spike(state, ahead, until),
            lambda j, t, x: neurons[j].after(t, x), e.duration, max_spikes,
        )  # fmt: skip
        state = [(torch.zeros((), dtype=torch.float64), torch.zeros(s.B.numel(), dtype=torch.float64))] * n_out
        done: list[Tensor] = []
        for t_k, j in found:
            arrivals, weights = t_in + d[j, e.units], w[j, e.units]
            if wr is not None and dr is not None and done:
                senders = torch.tensor([u for _, u in found[: len(done)]])
                arrivals = torch.cat([arrivals, torch.stack(done) + dr[j, senders]])
                weights = torch.cat([weights, wr[j, senders]])
            t, x = state[j]
            if j in units[offsets[-1] :] and (rest.requires_grad or float(rest[j].detach()) > 0):
                ready = t + rest[j]
                t, x = ready, _carried(s.M_held[j], s.B, x, t, ready, arrivals, weights)
            at = torch.tensor(t_k, dtype=torch.float64)
            x = _carried(s.M[j], s.B, x, t, at, arrivals, weights)
            flow = (s.M[j] @ x).detach()
            t = at - (s.c @ x - s.theta[j]) / (s.c @ flow)
            x = x + flow * (t - at)
            state[j] = t, x + s.J[j] @ x + s.r[j]
            done.append(t)
            units.append(j)
        times += done
        offsets.append(len(times))
    dtype = torch.promote_types(events.dtype, weight.dtype)
    stacked = torch.stack(times).to(dtype) if times else torch.zeros(0, dtype=dtype)
    return SpikeEvents._trusted(
        stacked, torch.tensor(units, dtype=torch.int64), torch.tensor(offsets), n_out, events.duration
    )


def refractory_of(refractory: Number, n_out: int) -> Tensor:
    """Refractory periods [out]; 0-dimensional tensors and numbers hold for all neurons.

    :raises ValueError: for negative ones, and those that are not finite.
    """
    tensor = refractory if isinstance(refractory, Tensor) else torch.tensor(refractory, dtype=torch.float64)
    tensor = tensor.to(torch.float64)
    if tensor.numel() != 1 and tuple(tensor.shape) != (n_out,):
        raise ValueError(f"refractory must be a number or one per neuron, [{n_out}], got shape {tuple(tensor.shape)}")
    given = tensor.detach()
    if not torch.compiler.is_compiling() and not bool((given.isfinite() & (given >= 0)).all()):
        raise ValueError(f"refractory must be finite and not negative, got {refractory}")
    return tensor.reshape(-1).expand(n_out)


def _carried(M, B, x, start, end, arrivals, weights) -> Tensor:
    """x at ``end`` from x at ``start`` and the arrivals in [start, end)."""
    seen = (arrivals.detach() >= start.detach()) & (arrivals.detach() < end.detach())
    x = exponential(M * (end - start)) @ x
    if not bool(seen.any()):
        return x
    kernels = exponential(M * (end - arrivals[seen])[:, None, None]) @ B
    return x + weights[seen] @ kernels


def exponential(M):
    """exp(M) of arrays or tensors [..., n, n] to rounding, which torch.linalg.matrix_exp is not (2e-12 where M is small):
    exp(M / 2^k) - 1 by its series, doubled k times."""
    size = float(abs(M.detach() if isinstance(M, Tensor) else M).sum(-1).max())
    doublings = max(0, math.ceil(math.log2(size / 0.25))) if size > 0 else 0
    M = M / 2**doublings
    term = less_one = M
    for n in range(2, 15):
        term = term @ M / n
        less_one = less_one + term
    for _ in range(doublings):
        less_one = 2 * less_one + less_one @ less_one
    n = M.shape[-1]
    return less_one + (torch.eye(n, dtype=M.dtype) if isinstance(M, Tensor) else np.eye(n))


# ------------------------------------------------------------------------------------------------ search for spikes


@dataclass(frozen=True)
class _Neuron:
    """Numbers of one neuron. On an interval no longer than ``piece`` that starts in x, |V''| <= curvature . |x|."""

    M: np.ndarray
    M_held: np.ndarray
    B: np.ndarray
    c: np.ndarray
    J: np.ndarray
    r: np.ndarray
    theta: float
    rest: float
    piece: float
    curvature: np.ndarray

    @staticmethod
    def of(s: StackedSystem, rest: Tensor, j: int) -> _Neuron:
        M, held, B, c, J, r = (x.detach().numpy() for x in (s.M[j], s.M_held[j], s.B, s.c, s.J[j], s.r[j]))
        piece = 0.5 / np.abs(M).sum(1).max()
        curvature = np.abs(c @ M @ M) @ _exp(np.abs(M), piece) * (1 + 1e-9)
        return _Neuron(M, held, B, c, J, r, float(s.theta[j].detach()), float(rest[j].detach()), piece, curvature)

    def at_start(self) -> tuple[float, np.ndarray, bool, float]:
        """Time, x, is V below the threshold, when the refractory period ends."""
        return 0.0, np.zeros(self.B.size), True, 0.0

    def after(self, t, x) -> tuple[float, np.ndarray, bool, float]:
        """The state after a spike at time t from x."""
        x = x + self.J @ x + self.r
        return t, x, bool(self.c @ x < self.theta * (1 - 1e-12)), t + self.rest

    def next_spike(self, state, pending, duration) -> tuple[float, np.ndarray, int]:
        """From a state through the pending arrivals: time (inf if none), x there, arrivals taken."""
        t, x, below, ready = state
        taken = 0
        while t < duration:
            until = min(pending[taken][0], duration) if taken < len(pending) else duration
            if t < ready:
                until = max(min(until, ready), t)
                x = _exp(self.M_held, until - t) @ x
                below = bool(self.c @ x < self.theta)  # a V that is not held may have risen beyond it unseen
            elif until > t:
                rise, at, below = self._first_rise(x, until - t, below)
                if rise >= 0:
                    return t + rise, at, taken
                x = _exp(self.M, until - t) @ x
            t = max(until, t)
            while taken < len(pending) and pending[taken][0] <= t:
                x = x + pending[taken][1] * self.B
                taken += 1
        return math.inf, x, taken

    def _first_rise(self, x, length, below) -> tuple[float, np.ndarray, bool]:
        """First u in [0, length] at which V - theta goes from negative to positive, -1 if there is none, and x(u); is V
        below theta at the end?

        Interval by interval: one in which V' has one sign holds a crossing if V - theta changes its sign; one in which V
        stays on one side of the threshold by the bounds on V' holds none; any other is halved.
        """
        a, width = 0.0, self.piece
        while True:
            last = a + width >= length
            width = length - a if last else width
            end = _exp(self.M, width) @ x
            va, vb = self.c @ x - self.theta, self.c @ end - self.theta
            slope, bend = self.c @ self.M @ x, self.curvature @ np.abs(x) * width
            if below and va >= 0:  # reached by rounding in the interval before, or only touched
                if slope > 0:
                    return a, x, below
                va = 0.0
            up, down = max(slope + bend, 0.0), max(bend - slope, 0.0)
            shortest = width <= 1e-8 * self.piece  # V' of both signs in it moves V by less than rounding
            if below and vb > 0 and (down == 0 or shortest):
                u = self._root(x, width)
                return a + u, _exp(self.M, u) @ x, below
            one_way = up == 0 or down == 0
            clear = below and vb <= 0 and -va * down - vb * up > up * down * width
            clear = clear or (not below and min(va, vb) > 0 and va * up + vb * down > up * down * width)
            if not (one_way or clear or shortest):
                width *= 0.5
                continue
            below = below or vb < 0
            if last:
                return -1.0, end, below
            a, x, width = a + width, end, min(2 * width, self.piece)

    def _root(self, x, width) -> float:
        """Where V, which rises all along, is theta: Newton's method between bounds."""
        lo, hi, u = 0.0, width, 0.5 * width
        for _ in range(100):
            at = _exp(self.M, u) @ x
            v, slope = self.c @ at - self.theta, self.c @ self.M @ at
            lo, hi = (u, hi) if v < 0 else (lo, u)
            new = u - v / slope if slope > 0 else lo
            if not lo < new < hi:
                new = 0.5 * (lo + hi)
            if abs(new - u) <= 1e-16 * width or new in (lo, hi):
                break
            u = new
        return u


def _exp(M: np.ndarray, u: float) -> np.ndarray:
    return exponential(M * u)
