r"""Readouts of EventProp networks by any linear neuron without a threshold: leaky and adaptive leaky integrators.

    x' = M x between events,    an arrival of weight w:  x <- x + w B,    V = c . x

of a model's M, B and c (:mod:`.eventprop_models`; threshold and jumps are not read). Backwards p = dL/dx obeys

    p' = -M^T p - c dL/dV,    dL/dw = sum B . p(t + d),    dL/dd = -w sum (M B) . p(t + d),    dL/dM = int p x^T dt

and integrals are functions of the final state: with y = int_0^T exp(-r t) x dt,

    (r - M) y = B sum w exp(-r (t_i + d)) - exp(-r T) x(T)                          (sum over arrivals before T)

The largest V lies between two arrivals, where V' = 0, or in a kink, where an arrival bends V down; its derivatives are
those of V at that time, and in a kink dV/ds = V' before the arrival s.

Here are the public function and its plain PyTorch form (:func:`eventprop_linear_li_reference`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..bins import steps_in
from ..checks import check_choice, shape_alone
from ..events import SpikeEvents
from ..kernels import dispatch
from ..kernels.eventprop.linear.readout_operator import eventprop_linear_li as operator
from ..kernels.eventprop.operator import eventprop_arrivals
from ..transforms import REVERSE_ALONE, refuse_transforms
from .eventprop import _Checked, _on_cpu
from .eventprop_linear import Number, exponential
from .eventprop_models import ContinuousModel, system_of

__all__ = ["LINEAR_READOUTS", "eventprop_linear_li", "eventprop_linear_li_reference"]

LinearReadout = Literal["voltage", "integral", "weighted_integral", "maximum"]
LINEAR_READOUTS = ("voltage", "integral", "weighted_integral", "maximum")


def eventprop_linear_li(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    dt: float = 1.0,
    readout: LinearReadout = "voltage",
) -> Tensor:
    """The potential of linear neurons without a threshold (module heading).

    Parameters
    ----------
    events, weight, delay
        As in :func:`snn_delay_plugins.functional.eventprop.eventprop_lif`.
    model, constants
        As in :func:`snn_delay_plugins.functional.eventprop_linear.eventprop_linear`, for example
        :data:`~snn_delay_plugins.functional.eventprop_models.ADAPTIVE_LI`.
    dt : float
        Sampling interval of ``readout="voltage"``.
    readout : str
        ``"voltage"``: V(n dt) [steps, N, out]; ``"integral"``: int_0^T V dt, ``"weighted_integral"``:
        int_0^T exp(-t / T) V dt, ``"maximum"``: the largest V on [0, T], all [N, out] and exact.

    Returns
    -------
    Tensor
        In the wider of the dtypes of ``weight`` and ``events``, differentiable with respect to weight, delay,
        ``events.times`` and all constants.

    Raises
    ------
    TypeError, ValueError
        as :func:`snn_delay_plugins.functional.eventprop_linear.eventprop_linear`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop_linear_readout import eventprop_linear_li
    >>> from snn_delay_plugins.functional.eventprop_models import ADAPTIVE_LI
    >>> inputs = SpikeEvents.from_lists([[0.0, 10.0]], [[0, 1]], num_units=2, duration=40.0)
    >>> v = eventprop_linear_li(inputs, torch.ones(1, 2), model=ADAPTIVE_LI, constants={"tau_mem": 10.0, "a": 2.0})
    >>> v.shape, round(v.max().item(), 4)  # 0.412 without adaptation
    (torch.Size([40, 1, 1]), 0.3835)
    """
    check_choice("readout", readout, LINEAR_READOUTS)
    refuse_transforms("EventProp", REVERSE_ALONE)
    syn = _Checked(events, weight, delay, None, None, 1.0, 1.0, 1.0, dt, "exact")
    n_out = weight.shape[0]
    s = system_of(model, constants or {}, 1.0, n_out)
    dtype = torch.promote_types(events.dtype, weight.dtype)
    steps = max(1, steps_in(events.duration, dt)) if events.duration else 0
    if shape_alone(events.times) or events.duration == 0:
        shape = (steps, events.batch_size, n_out) if readout == "voltage" else (events.batch_size, n_out)
        return syn.nothing(shape) + (0 * s.M.sum()).to(dtype)
    if dispatch.eventprop_method(events.times, "eventprop_linear_li") == "torch":
        constants = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in (constants or {}).items()}
        return _on_cpu(
            eventprop_linear_li_reference, events, weight, delay, model=model, constants=constants, dt=dt, readout=readout
        )
    arguments = events.times, events.units, events.offsets, syn.weight, syn.delay
    M, B, c = (x.to(weight.device) for x in (s.M, s.B, s.c))
    if readout in ("voltage", "maximum"):
        return operator(*arguments, M, B, c, events.duration, float(dt), readout).to(dtype)
    rate = 1.0 / events.duration if readout == "weighted_integral" else 0.0
    final = operator(*arguments, M, B, c, events.duration, float(dt), "final")
    arrived = eventprop_arrivals(*arguments, rate, events.duration).to(final)
    right = arrived[..., None] * B - math.exp(-rate * events.duration) * final
    shifted = rate * torch.eye(B.numel(), dtype=M.dtype, device=M.device) - M
    return (torch.linalg.solve(shifted, right[..., None])[..., 0] @ c).to(dtype)


def eventprop_linear_li_reference(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    dt: float = 1.0,
    readout: LinearReadout = "voltage",
) -> Tensor:
    """:func:`eventprop_linear_li` in plain PyTorch, slow and short: V(t) = sum w c . exp(M (t - s)) B over the arrivals s,
    integrals of it by the exponential of a matrix with one row more; the maximum is the largest V at the arrivals, at T and
    where V' = 0, bracketed by 64 points between two arrivals. Differentiated by autograd."""
    syn = _Checked(events, weight, delay, None, None, 1.0, 1.0, 1.0, dt, "exact")
    syn.check_values()
    s = system_of(model, constants or {}, 1.0, weight.shape[0])
    w, d = syn.weight.double(), syn.delay.double().expand_as(weight)
    samples = []
    for sample in range(events.batch_size):
        e = events[sample]
        of_neurons = []
        for j in range(weight.shape[0]):
            arrivals, weights = e.times.double() + d[j, e.units], w[j, e.units]
            at = dt * torch.arange(max(1, steps_in(events.duration, dt)), dtype=torch.float64)
            if not len(weights):
                of_neurons.append(0 * at if readout == "voltage" else at.new_zeros(()))
                continue
            if readout == "voltage":
                of_neurons.append(_potential(at, arrivals, weights, s.M[j], s.B, s.c))
                continue
            if readout == "maximum":
                of_neurons.append(_maximum(arrivals, weights, s.M[j], s.B, s.c, events.duration))
                continue
            rate = 1.0 / events.duration if readout == "weighted_integral" else 0.0
            left = (events.duration - arrivals).clamp(min=0)
            more = torch.cat([s.M[j] - rate * torch.eye(s.B.numel(), dtype=torch.float64), s.B[:, None]], 1)
            more = torch.cat([more, torch.zeros(1, s.B.numel() + 1, dtype=torch.float64)])
            integral = exponential(more * left[:, None, None])[:, :-1, -1] @ s.c
            of_neurons.append((weights * torch.exp(-rate * arrivals) * integral).sum())
        samples.append(torch.stack(of_neurons, -1))
    voltage = torch.stack(samples, -2)
    return voltage.to(torch.promote_types(events.dtype, weight.dtype))


def _potential(at: Tensor, arrivals: Tensor, weights: Tensor, M: Tensor, B: Tensor, c: Tensor) -> Tensor:
    since = at[:, None] - arrivals
    return exponential(M * since.clamp(min=0)[..., None, None]) @ B @ c * (since > 0) @ weights


def _maximum(arrivals: Tensor, weights: Tensor, M: Tensor, B: Tensor, c: Tensor, duration: float) -> Tensor:
    of = arrivals.detach(), weights.detach(), M.detach(), B.detach()
    slope = c @ of[2]
    within = of[0][of[0] < duration].sort().values
    cuts = torch.cat([within.new_tensor([0.0]), within, within.new_tensor([duration])])
    inside = torch.linspace(1e-9, 1 - 1e-9, 65, dtype=torch.float64)
    at = cuts[:-1, None] + (cuts[1:] - cuts[:-1])[:, None] * inside
    rising = _potential(at.ravel(), *of, slope).view_as(at) > 0
    top = rising[:, :-1] & ~rising[:, 1:]
    lo, hi = at[:, :-1][top], at[:, 1:][top]
    for _ in range(60 if len(lo) else 0):
        middle = 0.5 * (lo + hi)
        rises = _potential(middle, *of, slope) > 0
        lo, hi = torch.where(rises, middle, lo), torch.where(rises, hi, middle)
    times = torch.cat([0.5 * (lo + hi), arrivals[arrivals < duration], lo.new_tensor([0.0, duration])])
    return _potential(times, arrivals, weights, M, B, c).max()
