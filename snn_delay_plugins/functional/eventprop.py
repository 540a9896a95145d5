r"""EventProp with delays: spiking layers whose gradients are exact and whose memory grows with the spikes.

Equations (Meszaros, Knight, Nowotny, *Efficient Event-based Delay Learning in Spiking Neural Networks*, Table 1)

    tau_m V' = -V + I,     tau_s I' = -I
    a spike of i at t:     I_j <- I_j + w_ji      at the arrival t + d_ji
    V_j reaches theta:     a spike of j, V_j <- 0

    tau_m lambda_V' = -lambda_V - dl/dV,   tau_s lambda_I' = -lambda_I + lambda_V          (backwards in time)
    lambda_V <- lambda_V + [theta lambda_V + dl/dt_k + sum_m w_m (lambda_V - lambda_I)_m] / (tau_m V'),   V' at the spike
    dL/dw_ji = -tau_s sum lambda_I,j (t + d_ji)                                                (Eq. 5)
    dL/dd_ji = -w_ji sum (lambda_I - lambda_V)_j (t + d_ji)                                    (Eq. 6)

and beyond the paper, with p = (-tau_m lambda_V, -tau_s lambda_I) = dL/d(V, I):

    dL/d theta = -sum_k p_V(t_k-),   dL/d tau_m = int p_V (V - I) / tau_m^2 dt,   dL/d tau_s = int p_I I / tau_s^2 dt
    dL/dt_i = sum_j w_ji (p_I / tau_s - p_V / tau_m)_j (t_i + d_ji)                            (input spike times)

Weights and delays are [out, in]; a delay of shape [1, in] is axonal, [out, 1] dendritic. All times share one unit, ms
by convention. Spikes travel as :class:`snn_delay_plugins.events.SpikeEvents`.

``spike_times="exact"``: spike and arrival times are real numbers, the result does not depend on dt beyond rounding.
``spike_times="grid"``: the published scheme of mlGeNN. A spike at time t acts in step ceil(t / dt), up to rounding
(:mod:`snn_delay_plugins.bins`), delays are rounded to whole steps, an arrival is seen one step after: step + 1 + delay. The
current over a step is its mean, and the backward pass is the continuous one sampled at the steps, not the derivative of the
discretised system.

Here are the public functions and the plain PyTorch form of both schemes (``*_reference``), slow and
short, against which the compiled loops are tested.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..bins import step_of, steps_in
from ..checks import check_choice, check_number, check_whole, shape_alone
from ..events import SpikeEvents, check_types
from ..kernels import dispatch
from ..kernels.eventprop import operator as operators
from ..transforms import REVERSE_ALONE, refuse_transforms

__all__ = ["eventprop_li", "eventprop_li_reference", "eventprop_lif", "eventprop_lif_reference"]

SpikeTimes = Literal["exact", "grid"]
Readout = Literal["voltage", "integral", "weighted_integral", "maximum"]
SPIKE_TIMES: tuple[SpikeTimes, ...] = ("exact", "grid")
READOUTS: tuple[Readout, ...] = ("voltage", "integral", "weighted_integral", "maximum")


def eventprop_lif(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    tau_mem: float | Tensor = 20.0,
    tau_syn: float | Tensor = 5.0,
    threshold: float | Tensor = 1.0,
    dt: float = 1.0,
    spike_times: SpikeTimes = "exact",
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    max_spikes: int = 10_000,
) -> SpikeEvents:
    r"""A layer of leaky integrate-and-fire neurons with exponential synapses and delays (module heading).

    Parameters
    ----------
    events : SpikeEvents
        Input spikes of N samples from ``in`` units.
    weight : Tensor [out, in]
        float32 or float64.
    delay : Tensor [out, in], [1, in] or [out, 1], optional
        Non-negative real delays; none means zero. Arrivals after the end of the sample have no effect.
    tau_mem, tau_syn, threshold : float or 0-dimensional Tensor
        Positive. tau_mem = tau_syn is allowed (the limit is taken).
    dt : float
        ``"exact"``: only bounds the work, the loops step by at most dt. ``"grid"``: the time step.
    recurrent_weight, recurrent_delay : Tensor [out, out], optional
        Synapses from the layer's spikes (second index) to its neurons, delays as above, also shorter than dt or zero.
    max_spikes : int
        Most spikes of one neuron in one sample. No spike is ever dropped: a neuron that exceeds it raises.

    Returns
    -------
    SpikeEvents
        The layer's spikes, times differentiable with respect to weight, delay, recurrent_*, ``events.times``, tau_mem,
        tau_syn and threshold. Its ``potential`` (= threshold) takes the gradient of spike-count regularisation.

    Arithmetic is float64 whatever the dtypes; times come out in the wider of the dtypes of ``events`` and ``weight``.
    V must pass the threshold: a V that only touches it makes no spike.

    Raises
    ------
    TypeError, ValueError
        wrong dtype, shape, device; NaN; negative delay; non-positive constant; gradients that do not exist
        (``"grid"`` has none for tau_mem, tau_syn).
    RuntimeError
        more than ``max_spikes`` spikes of a neuron.

    Source: Table 1, Eqs. 5, 6, 67-70 of Meszaros et al.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop import eventprop_lif
    >>> inputs = SpikeEvents.from_lists([[1.0, 4.0]], [[0, 1]], num_units=2, duration=50.0)
    >>> w = torch.tensor([[4.0, 4.0]], dtype=torch.float64, requires_grad=True)
    >>> d = torch.tensor([[3.5, 0.25]], dtype=torch.float64, requires_grad=True)
    >>> spikes = eventprop_lif(inputs, w, d, tau_mem=20.0, tau_syn=5.0)
    >>> [round(t, 4) for t in spikes.times.tolist()]
    [8.4942]
    >>> spikes.times.sum().backward()
    >>> [round(g, 4) for g in d.grad[0].tolist()]
    [0.5206, 0.4794]
    """
    refuse_transforms("EventProp", REVERSE_ALONE)
    syn = _Checked(events, weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold, dt, spike_times)
    max_spikes = check_whole("max_spikes", max_spikes, least=1, most=2**31 - 1)
    if shape_alone(events.times):
        raise RuntimeError(
            "eventprop_lif: how many spikes come out is known by running alone, not on the meta device or "
            "in a FakeTensorMode"
        )
    if events.duration == 0:  # a dense sequence of no steps
        empty = syn.nothing((0,))
        return SpikeEvents._trusted(empty, events.units[:0], torch.zeros_like(events.offsets), weight.shape[0], 0.0, empty)
    if dispatch.eventprop_method(events.times, "eventprop_lif") == "torch":
        return _on_cpu(
            eventprop_lif_reference, events, weight, delay, tau_mem=tau_mem, tau_syn=tau_syn, threshold=threshold, dt=dt,
            spike_times=spike_times, recurrent_weight=recurrent_weight, recurrent_delay=recurrent_delay,
            max_spikes=max_spikes,
        )  # fmt: skip
    times, potential, units, offsets, *_ = operators.eventprop_lif(
        events.times,
        events.units,
        events.offsets,
        syn.weight,
        syn.delay,
        syn.recurrent_weight,
        syn.recurrent_delay,
        syn.tau_mem,
        syn.tau_syn,
        syn.threshold,
        events.duration,
        float(dt),
        spike_times == "grid",
        max_spikes,
    )
    return SpikeEvents._trusted(times, units, offsets, weight.shape[0], events.duration, potential)


def eventprop_li(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    tau_mem: float | Tensor = 20.0,
    tau_syn: float | Tensor = 5.0,
    dt: float = 1.0,
    spike_times: SpikeTimes = "exact",
    readout: Readout = "voltage",
) -> Tensor:
    r"""A readout of leaky integrators: the module heading's equations without a threshold.

    Parameters
    ----------
    events, weight, delay, tau_mem, tau_syn, spike_times
        As in :func:`eventprop_lif`.
    dt : float
        Sampling interval of ``readout="voltage"`` and, with ``spike_times="grid"``, the time step.
    readout : str
        With T the duration of the sample, for every output:

        * ``"voltage"``: V(n dt), n = 0 .. ceil(T / dt) - 1, dense [steps, N, out];
        * ``"integral"``: int_0^T V dt, [N, out];
        * ``"weighted_integral"``: int_0^T exp(-t / T) V dt, [N, out];
        * ``"maximum"``: the largest V on [0, T], [N, out]. Its gradient is that of V at the time of the maximum.

        In the exact scheme the last three are exact and do not depend on dt; in the grid scheme they are the sums over
        steps times dt and the maximum over steps. On CUDA, the exact maximum is computed on the CPU, with one warning.

    Returns
    -------
    Tensor
        In the wider of the dtypes of ``weight`` and ``events``, differentiable with respect to weight, delay,
        ``events.times``, tau_mem and tau_syn.

    Raises
    ------
    TypeError, ValueError
        as :func:`eventprop_lif`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop import eventprop_li
    >>> inputs = SpikeEvents.from_lists([[0.0, 10.0]], [[0, 1]], num_units=2, duration=40.0)
    >>> w = torch.ones(1, 2, dtype=torch.float64)
    >>> v = eventprop_li(inputs, w, tau_mem=10.0, tau_syn=5.0)
    >>> v.shape, round(v.max().item(), 4)
    (torch.Size([40, 1, 1]), 0.412)
    """
    check_choice("readout", readout, READOUTS)
    refuse_transforms("EventProp", REVERSE_ALONE)
    syn = _Checked(events, weight, delay, None, None, tau_mem, tau_syn, 1.0, dt, spike_times)
    if events.duration == 0:
        return syn.nothing(((0,) if readout == "voltage" else ()) + (events.batch_size, weight.shape[0]))
    if dispatch.eventprop_method(events.times, "eventprop_li") == "torch":
        return _on_cpu(
            eventprop_li_reference, events, weight, delay, tau_mem=tau_mem, tau_syn=tau_syn, dt=dt,
            spike_times=spike_times, readout=readout,
        )  # fmt: skip
    grid = spike_times == "grid"
    arguments = events.times, events.units, events.offsets, syn.weight, syn.delay

    def run(kind: str) -> Tensor:
        return operators.eventprop_li(*arguments, syn.tau_mem, syn.tau_syn, events.duration, float(dt), grid, kind)[0]

    if readout == "voltage":
        return run("voltage")
    if grid:
        return _reduce_steps(run("voltage"), dt, events.duration, readout)
    if readout == "maximum":
        return run("maximum")
    # tau_s I' = -I + tau_s sum_k w_k delta(t - s_k) and tau_m V' = -V + I, both times exp(-r t), integrated over [0, T]:
    rate = 1.0 / events.duration if readout == "weighted_integral" else 0.0
    final = run("final")
    voltage, current = final[..., 0], final[..., 1]
    arrived = operators.eventprop_arrivals(*arguments, rate, events.duration)
    end = math.exp(-rate * events.duration)
    tau_m, tau_s = syn.tau_mem.to(final), syn.tau_syn.to(final)
    int_current = tau_s * (arrived - end * current) / (1 + rate * tau_s)
    return (int_current - tau_m * end * voltage) / (1 + rate * tau_m)


def _on_cpu(reference, events: SpikeEvents, weight: Tensor, delay: Tensor | None, **options):
    """The plain form, which computes on the CPU."""
    delay = None if delay is None else delay.cpu()
    options = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in options.items()}
    return reference(events.to("cpu"), weight.cpu(), delay, **options).to(events.device)


def _reduce_steps(voltage: Tensor, dt: float, duration: float, readout: Readout) -> Tensor:
    if readout == "maximum":
        return voltage.amax(0)
    if readout == "integral":
        return voltage.sum(0) * dt
    t = torch.arange(voltage.shape[0], dtype=voltage.dtype, device=voltage.device) * dt
    return torch.tensordot(torch.exp(-t / duration) * dt, voltage, 1)


# ------------------------------------------------------------------------------------------------ checks


class _Checked:
    """The arguments of a layer, their types and shapes checked; constants as 0-dimensional tensors, delays as given or
    zeros. Values are checked by the operators, so that compiled code refuses the same."""

    def __init__(
        self, events, weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold, dt, spike_times
    ) -> None:
        if not isinstance(events, SpikeEvents):
            raise TypeError(
                f"events must be SpikeEvents, got {type(events).__name__}; "
                "dense spikes become events with SpikeEvents.from_dense(spikes, dt)"
            )
        if not torch.compiler.is_compiling():
            check_types(events.times, events.units, events.offsets, events.num_units, events.duration, events.potential)
        check_choice("spike_times", spike_times, SPIKE_TIMES)
        check_number("dt", dt, above=0.0)
        self.weight = _checked_weight("weight", weight, events)
        n_out, n_in = weight.shape
        if n_in != events.num_units:
            raise ValueError(f"weight is [out, in] = {tuple(weight.shape)} but events come from {events.num_units} units")
        self.delay = _checked_delay("delay", delay, weight)
        if recurrent_weight is None:
            if recurrent_delay is not None:
                raise ValueError("recurrent_delay was given without recurrent_weight")
            self.recurrent_weight = self.recurrent_delay = None
        else:
            self.recurrent_weight = _checked_weight("recurrent_weight", recurrent_weight, events)
            if tuple(recurrent_weight.shape) != (n_out, n_out):
                raise ValueError(f"recurrent_weight must be [{n_out}, {n_out}], got {tuple(recurrent_weight.shape)}")
            self.recurrent_delay = _checked_delay("recurrent_delay", recurrent_delay, recurrent_weight)
        self.tau_mem = _checked_constant("tau_mem", tau_mem)
        self.tau_syn = _checked_constant("tau_syn", tau_syn)
        self.threshold = _checked_constant("threshold", threshold)
        if spike_times == "grid" and (self.tau_mem.requires_grad or self.tau_syn.requires_grad):
            raise ValueError("the grid scheme has no gradient for tau_mem and tau_syn; use spike_times='exact'")

        self.times = events.times

    def nothing(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros, whose gradients are zeros of everything that the layer reads."""
        read = (
            self.weight,
            self.delay,
            self.recurrent_weight,
            self.recurrent_delay,
            self.tau_mem,
            self.tau_syn,
            self.threshold,
            self.times,
        )
        dtype = torch.promote_types(self.times.dtype, self.weight.dtype)
        total = sum((value.sum().to(self.weight) for value in read if value is not None), self.weight.new_zeros(()))
        return (0 * total).to(dtype).expand(shape)

    def check_values(self) -> None:
        operators.check_values(
            self.weight, self.delay, self.recurrent_weight, self.recurrent_delay, self.tau_mem, self.tau_syn, self.threshold
        )


def _checked_weight(name: str, weight: Tensor, events: SpikeEvents) -> Tensor:
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(weight).__name__}")
    if weight.dim() != 2:
        raise ValueError(f"{name} must be [out, in], got shape {tuple(weight.shape)}")
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {weight.dtype}")
    if weight.device != events.device:
        raise ValueError(f"{name} is on {weight.device} but the events are on {events.device}")
    if weight.shape[0] < 1:
        raise ValueError(f"{name} must have at least one output, got shape {tuple(weight.shape)}")
    return weight


def _checked_delay(name: str, delay: Tensor | None, weight: Tensor) -> Tensor:
    n_out, n_in = weight.shape
    if delay is None:
        return weight.new_zeros(1, 1)
    if not isinstance(delay, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(delay).__name__}")
    if tuple(delay.shape) not in ((n_out, n_in), (1, n_in), (n_out, 1)):
        raise ValueError(
            f"{name} must be [{n_out}, {n_in}], axonal [1, {n_in}] or dendritic [{n_out}, 1], got {tuple(delay.shape)}"
        )
    if delay.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {delay.dtype}")
    if delay.device != weight.device:
        raise ValueError(f"{name} is on {delay.device} but its weight is on {weight.device}")
    return delay


def _checked_constant(name: str, value: float | Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.tensor(check_number(name, value, above=0.0), dtype=torch.float64)
    if value.numel() != 1:
        raise ValueError(f"{name} must be a single number for the layer, got shape {tuple(value.shape)}")
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be a real number, got {value.dtype}")
    return (value if value.is_floating_point() else value.double()).reshape(())


# ------------------------------------------------------------------------------------------------ plain PyTorch form


def _decay(x: Tensor, tau: Tensor) -> Tensor:
    return torch.exp(-x / tau)


def _response(x: Tensor, tau_m: Tensor, tau_s: Tensor) -> Tensor:
    """K(x): V at time x >= 0 after a unit arrival; zero for x < 0. Smooth through tau_m = tau_s."""
    x = x.clamp(min=0)
    z = x * (1 / tau_m - 1 / tau_s)
    small = z.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    phi = torch.where(small, 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5))), torch.expm1(safe) / safe)
    return x / tau_m * torch.exp(-x / tau_m) * phi


def eventprop_lif_reference(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    tau_mem: float | Tensor = 20.0,
    tau_syn: float | Tensor = 5.0,
    threshold: float | Tensor = 1.0,
    dt: float = 1.0,
    spike_times: SpikeTimes = "exact",
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    max_spikes: int = 10_000,
) -> SpikeEvents:
    """:func:`eventprop_lif` in plain PyTorch, for float64 and small networks.

    Exact scheme: the order of the spikes is searched event by event without gradient. Then every spike time satisfies
    V(t_k) = threshold, V being a sum of responses to the arrivals and to the resets before it; one Newton step from the
    time found, its slope detached, gives t_k the gradient of the implicit function theorem, through autograd.
    """
    syn = _Checked(events, weight, delay, recurrent_weight, recurrent_delay, tau_mem, tau_syn, threshold, dt, spike_times)
    syn.check_values()
    if spike_times == "grid":
        return _lif_grid_reference(events, syn, dt)
    tm, ts, theta = (x.to(torch.float64) for x in (syn.tau_mem, syn.tau_syn, syn.threshold))
    w, d = weight.double(), syn.delay.double().expand_as(weight)
    wr = dr = None
    if syn.recurrent_weight is not None and syn.recurrent_delay is not None:
        wr, dr = syn.recurrent_weight.double(), syn.recurrent_delay.double().expand_as(syn.recurrent_weight)
    tau_mem, tau_syn, threshold = (float(x.detach()) for x in (syn.tau_mem, syn.tau_syn, syn.threshold))
    times, units, offsets = [], [], [0]
    for sample in range(events.batch_size):
        e = events[sample]
        t_in = e.times.double()
        found = spikes_in_order(
            t_in.tolist(), e.units.tolist(), (w, d, wr, dr), [(0.0, 0.0, 0.0)] * weight.shape[0],  # time, V, I
            lambda j, state, ahead, until=e.duration: _crossing(state, ahead, tau_mem, tau_syn, threshold, until),
            lambda j, t, current: (t, 0.0, current), e.duration, max_spikes,
        )  # fmt: skip
        done: list[Tensor] = []
        own: dict[int, list[Tensor]] = {}
        for t_k, j in found:
            arrivals = t_in + d[j, e.units]
            weights = w[j, e.units]
            if wr is not None and dr is not None and done:
                senders = torch.tensor([u for _, u in found[: len(done)]])
                arrivals = torch.cat([arrivals, torch.stack(done) + dr[j, senders]])
                weights = torch.cat([weights, wr[j, senders]])
            seen = arrivals.detach() < t_k
            x, weights = t_k - arrivals[seen], weights[seen]
            v = (weights * _response(x, tm, ts)).sum()
            if j in own:
                v = v - theta * _decay(t_k - torch.stack(own[j]), tm).sum()
            current = (weights * _decay(x, ts)).sum()
            slope = ((current - theta) / tm).detach()
            t = t_k - (v - theta) / slope
            done.append(t)
            own.setdefault(j, []).append(t)
        times += done
        units += [j for _, j in found]
        offsets.append(len(times))
    dtype = torch.promote_types(events.dtype, weight.dtype)
    stacked = torch.stack(times).to(dtype) if times else torch.zeros(0, dtype=dtype)
    return SpikeEvents._trusted(
        stacked, torch.tensor(units, dtype=torch.int64), torch.tensor(offsets), weight.shape[0], events.duration
    )


def spikes_in_order(
    times, units, weights: tuple, initial: list, next_spike: Callable, after: Callable, duration: float, max_spikes: int
) -> list[tuple[float, int]]:
    """All spikes of one sample in order, by solving for every neuron's next crossing and taking the earliest.

    weights: weight, delay, recurrent weight and delay (or None). initial: a state of each neuron.
    next_spike(j, state, arrivals ahead): time (inf if there is none), what ``after`` wants, number of arrivals taken.
    after(j, time, that): the state after the spike.
    """
    w, d = (x.detach().tolist() for x in weights[:2])
    wr, dr = (None if x is None else x.detach().tolist() for x in weights[2:])
    state, everyone = list(initial), range(len(initial))
    pending = [sorted((t + d[j][u], w[j][u]) for t, u in zip(times, units, strict=True)) for j in everyone]
    upcoming = [next_spike(j, state[j], pending[j]) for j in everyone]
    found: list[tuple[float, int]] = []
    counts = [0] * len(state)
    while True:
        j = min(everyone, key=lambda m: upcoming[m][0])
        t, there, taken = upcoming[j]
        if t > duration:
            return found
        counts[j] += 1
        if counts[j] > max_spikes:
            raise RuntimeError(f"neuron {j} fires more than max_spikes = {max_spikes} spikes")
        found.append((t, j))
        state[j] = after(j, t, there)
        del pending[j][:taken]
        changed = {j}
        if wr is not None and dr is not None:
            for m in everyone:
                arrival = t + dr[m][j]
                bisect.insort(pending[m], (arrival, wr[m][j]))
                if arrival < upcoming[m][0]:
                    changed.add(m)
        for m in changed:
            upcoming[m] = next_spike(m, state[m], pending[m])


def _crossing(state, pending, tm, ts, theta, duration) -> tuple[float, float, int]:
    """Next upward crossing from a state through the pending arrivals: time (inf if none), I there, arrivals taken."""
    t, v, i = state
    for taken in range(len(pending) + 1):
        until = min(pending[taken][0], duration) if taken < len(pending) else duration
        length = until - t
        if length > 0:
            top = _maximum(v, i, length, tm, ts)
            if _free(v, i, top, tm, ts)[0] > theta > v:
                lo, hi = 0.0, top
                while True:
                    mid = 0.5 * (lo + hi)
                    if not lo < mid < hi:
                        break
                    lo, hi = (mid, hi) if _free(v, i, mid, tm, ts)[0] < theta else (lo, mid)
                return t + hi, _free(v, i, hi, tm, ts)[1], taken
            v, i = _free(v, i, length, tm, ts)
            t = until
        if taken < len(pending):
            i += pending[taken][1]
    return math.inf, 0.0, 0


def _free(v, i, x, tm, ts) -> tuple[float, float]:
    """State a time x later."""
    delta = 1 / tm - 1 / ts
    m = x if abs(delta) * tm < 1e-14 else math.expm1(x * delta) / delta
    return math.exp(-x / tm) * (v + i * m / tm), math.exp(-x / ts) * i


def _maximum(v, i, length, tm, ts) -> float:
    """Where V is largest on [0, length]: V' has the sign of I - V, which changes at most once."""
    if i <= v:
        return 0.0 if _free(v, i, length, tm, ts)[0] <= v else length
    end_v, end_i = _free(v, i, length, tm, ts)
    if end_i >= end_v:
        return length
    lo, hi = 0.0, length
    for _ in range(200):
        mid = 0.5 * (lo + hi)
        mid_v, mid_i = _free(v, i, mid, tm, ts)
        lo, hi = (mid, hi) if mid_i > mid_v else (lo, mid)
    return 0.5 * (lo + hi)


def eventprop_li_reference(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    tau_mem: float | Tensor = 20.0,
    tau_syn: float | Tensor = 5.0,
    dt: float = 1.0,
    spike_times: SpikeTimes = "exact",
    readout: Readout = "voltage",
) -> Tensor:
    """:func:`eventprop_li` in plain PyTorch: V(t) = sum w K(t - s) over the arrivals, differentiated by autograd.

    The integrals are trapezoidal sums over 200 points per dt and therefore approximate; the maximum is the largest of
    the same points.
    """
    syn = _Checked(events, weight, delay, None, None, tau_mem, tau_syn, 1.0, dt, spike_times)
    syn.check_values()
    steps = max(1, steps_in(events.duration, dt))
    if spike_times == "grid":
        taus = float(syn.tau_mem), float(syn.tau_syn)
        voltage = _LiGridReference.apply(_grid_drive(events, syn.weight, syn.delay, dt, steps, taus), *taus, dt)
        return voltage if readout == "voltage" else _reduce_steps(voltage, dt, events.duration, readout)
    tm, ts = syn.tau_mem.double(), syn.tau_syn.double()
    if readout == "voltage":
        at = torch.arange(steps, dtype=torch.float64) * dt
    else:
        at = torch.linspace(0, events.duration, 200 * steps + 1, dtype=torch.float64)
    samples = []
    for sample in range(events.batch_size):
        e = events[sample]
        arrivals = e.times.double() + syn.delay.double().expand_as(weight)[:, e.units]  # [out, n]
        samples.append((_response(at[:, None, None] - arrivals, tm, ts) * weight.double()[:, e.units]).sum(-1))
    voltage = torch.stack(samples, 1)
    if readout == "maximum":
        voltage = voltage.amax(0)
    elif readout != "voltage":
        rate = 1 / events.duration if readout == "weighted_integral" else 0.0
        voltage = torch.trapezoid(torch.exp(-rate * at)[:, None, None] * voltage, at, dim=0)
    return voltage.to(torch.promote_types(events.dtype, weight.dtype))


# The published scheme, dense. Forward, with S the synaptic variable, c = (1 - beta) tau_s / dt and I = c S:
#     S[n] = beta S[n-1] + arrivals[n],  V[n] = alpha V[n-1] + (1 - alpha) c S[n],  spike if V[n] >= theta, then V[n] = 0
# Backward, with A = tau_m / (tau_s - tau_m) and a drive D[n] = -dL/dV[n] / dt held over the step:
#     lambda_I <- D + (lambda_I - D) beta + A (lambda_V - D) (beta - alpha),   lambda_V <- D + (lambda_V - D) alpha
#     at a spike lambda_V <- lambda_V + (theta lambda_V + received) / (I - V)
# and gradients read lambda[n] at the arrival step n, after all of this.


def _grid_lambda_step(lam_v, lam_i, drive, tm, ts, dt):
    alpha, beta = math.exp(-dt / tm), math.exp(-dt / ts)
    delta = 1 / tm - 1 / ts
    # tau_m / (tau_s - tau_m) (beta - alpha), in a form that is stable for tau_m near tau_s
    coupling = alpha / ts * (dt if abs(delta) * tm < 1e-14 else math.expm1(dt * delta) / delta)
    return (drive + (lam_v - drive) * alpha, drive + (lam_i - drive) * beta + coupling * (lam_v - drive))


class _GridDrive(torch.autograd.Function):
    """arrivals [T, N, out] from spikes. The gradient handed back is (lambda_V, lambda_I) [2, T, N, out], read at the
    arrival steps: -tau_s lambda_I for weights, and so on; it is no derivative of a dense tensor."""

    @staticmethod
    def forward(ctx, times, weight, delay, events, dt, steps, tm, ts):
        n = step_of(times, dt)[:, None] + 1 + torch.floor(delay.double().t()[events.units] / dt + 0.5).long()
        inside = n < steps  # [events, out]
        event, j = inside.nonzero().unbind(1)
        n, sample, i = n[inside], events.samples()[event], events.units[event]
        drive = torch.zeros(2, steps, events.batch_size, weight.shape[0], dtype=torch.float64)
        drive[0].index_put_((n, sample, j), weight.double()[j, i], accumulate=True)
        ctx.save_for_backward(times, weight, delay, event, j, n, sample, i)
        ctx.taus = tm, ts
        return drive

    @staticmethod
    def backward(ctx, lam):
        times, weight, delay, event, j, n, sample, i = ctx.saved_tensors
        _tm, ts = ctx.taus
        lam_v, lam_i = lam[0][n, sample, j], lam[1][n, sample, j]
        w = weight.double()[j, i]
        grad_w = torch.zeros(weight.shape, dtype=torch.float64).index_put((j, i), -ts * lam_i, accumulate=True)
        grad_d = torch.zeros(delay.shape, dtype=torch.float64).index_put((j, i), -w * (lam_i - lam_v), accumulate=True)
        grad_t = torch.zeros(times.shape, dtype=torch.float64).index_put((event,), -w * (lam_i - lam_v), accumulate=True)
        return grad_t.to(times), grad_w.to(weight), grad_d.to(delay), None, None, None, None, None


def _grid_drive(events, weight, delay, dt, steps, taus):
    return _GridDrive.apply(events.times, weight, delay.expand_as(weight), events, dt, steps, *taus)


class _LiGridReference(torch.autograd.Function):
    @staticmethod
    def forward(ctx, drive, tm, ts, dt):
        ctx.constants = tm, ts, dt
        alpha, beta = math.exp(-dt / tm), math.exp(-dt / ts)
        scale = (1 - beta) * ts / dt
        v = s = torch.zeros_like(drive[0, 0])
        out = []
        for arrivals in drive[0]:
            s = beta * s + arrivals
            v = alpha * v + (1 - alpha) * scale * s
            out.append(v)
        return torch.stack(out)

    @staticmethod
    def backward(ctx, grad):
        return torch.stack(grid_adjoint(grad, *ctx.constants)), None, None, None


def grid_adjoint(grad: Tensor, tau_mem: float, tau_syn: float, dt: float) -> tuple[Tensor, Tensor]:
    """(lambda_V, lambda_I) [T, N, out] of a readout in the grid scheme, given dL/dV [T, N, out]."""
    lam_v = lam_i = torch.zeros_like(grad[0])
    vs, cs = [], []
    for g in grad.flip(0):
        lam_v, lam_i = _grid_lambda_step(lam_v, lam_i, -g / dt, tau_mem, tau_syn, dt)
        vs.append(lam_v)
        cs.append(lam_i)
    return torch.stack(vs[::-1]), torch.stack(cs[::-1])


def _lif_grid_reference(events, syn, dt) -> SpikeEvents:
    steps = max(1, steps_in(events.duration, dt))
    tm, ts, theta = float(syn.tau_mem), float(syn.tau_syn), float(syn.threshold)
    drive = _grid_drive(events, syn.weight, syn.delay, dt, steps, (tm, ts))
    wr = dr = None
    if syn.recurrent_weight is not None and syn.recurrent_delay is not None:
        wr, dr = syn.recurrent_weight, syn.recurrent_delay.expand_as(syn.recurrent_weight)
    times, units, offsets = _LifGridReference.apply(drive, wr, dr, tm, ts, theta, dt)
    return SpikeEvents._trusted(times, units, offsets, syn.weight.shape[0], events.duration)


class _LifGridReference(torch.autograd.Function):
    @staticmethod
    def forward(ctx, drive, wr, dr, tm, ts, theta, dt):
        arrivals = drive[0].clone()
        steps, batch, n_out = arrivals.shape
        alpha, beta = math.exp(-dt / tm), math.exp(-dt / ts)
        scale = (1 - beta) * ts / dt
        v, s = torch.zeros_like(arrivals[0]), torch.zeros_like(arrivals[0])
        rounded = torch.floor(dr.double() / dt + 0.5).long() if dr is not None else None
        found, slope = [], {}
        for n in range(steps):
            s = beta * s + arrivals[n]
            v = alpha * v + (1 - alpha) * scale * s
            for b, j in (v >= theta).nonzero().tolist():
                found.append((b, n, j))
                slope[b, n, j] = float(s[b, j] - v[b, j])
                v[b, j] = 0
                if wr is not None and rounded is not None:
                    for m in range(n_out):
                        at = n + 1 + int(rounded[m, j])
                        if at < steps:
                            arrivals[at, b, m] += wr.double()[m, j]
        found.sort()
        ctx.found, ctx.slope, ctx.rounded = found, slope, rounded
        ctx.constants, ctx.shape = (tm, ts, theta, dt), arrivals.shape
        ctx.save_for_backward(wr, dr)
        times = torch.tensor([n * dt for _, n, _ in found], dtype=torch.float64)
        units = torch.tensor([j for _, _, j in found], dtype=torch.int64)
        offsets = torch.tensor([0] + [sum(1 for f in found if f[0] <= b) for b in range(batch)])
        ctx.mark_non_differentiable(units, offsets)
        return times, units, offsets

    @staticmethod
    def backward(ctx, grad, _units, _offsets):
        wr, dr = ctx.saved_tensors
        tm, ts, theta, dt = ctx.constants
        steps, batch, n_out = ctx.shape
        lam_v, lam_i = torch.zeros(batch, n_out).double(), torch.zeros(batch, n_out).double()
        history = torch.zeros(2, steps, batch, n_out, dtype=torch.float64)
        index = {f: k for k, f in enumerate(ctx.found)}
        grad_w = torch.zeros(n_out, n_out, dtype=torch.float64)
        grad_d = torch.zeros(n_out, n_out, dtype=torch.float64)
        for n in range(steps - 1, -1, -1):
            lam_v, lam_i = _grid_lambda_step(lam_v, lam_i, 0.0, tm, ts, dt)
            for b, _, j in [f for f in ctx.found if f[1] == n]:
                received = float(grad[index[b, n, j]])
                if wr is not None:
                    for m in range(n_out):
                        at = n + 1 + int(ctx.rounded[m, j])
                        if at < steps:
                            difference = history[0, at, b, m] - history[1, at, b, m]
                            received += float(wr[m, j] * difference)
                            grad_w[m, j] -= ts * history[1, at, b, m]
                            grad_d[m, j] += wr[m, j] * difference
                lam_v[b, j] += (theta * lam_v[b, j] + received) / ctx.slope[b, n, j]
            history[0, n], history[1, n] = lam_v, lam_i
        return (
            history,
            grad_w.to(wr) if wr is not None else None,
            grad_d.to(dr) if dr is not None else None,
            None,
            None,
            None,
            None,
        )
