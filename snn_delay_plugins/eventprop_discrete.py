r"""EventProp layers in whole time steps, for deployment (``layer.discretize()``), and what becomes of their spikes.

With P = exp(M dt), delays D rounded to whole steps, and s_i[n] the spikes of sender i in step n:

    x[n] = P x[n-1] + B sum_i w_ji s_i[n - D_ji]
    c . x[n] > theta:  a spike of step n,  x[n] <- x[n] + J x* + r,   then P of the held states for the refractory steps

with x* = x[n] but for c . x* = theta, so that a potential that is reset keeps what it is beyond the threshold: the exact
flow over a step, spikes and arrivals moved onto the steps; an input spike acts at its bin's start, a spike of
the layer is seen at the first step's end at which V is beyond the threshold. Recurrent spikes of delay 0 act on V in the
next step. Equations of the models: :mod:`snn_delay_plugins.functional.eventprop_models`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .checks import values_known
from .eventprop import EventPropSpiking
from .events import SpikeEvents
from .functional.delay import delayed_linear
from .functional.delay_convolution import delayed_convolution
from .functional.eventprop_linear import exponential, refractory_of
from .functional.eventprop_models import system_of

__all__ = ["DiscreteEventProp", "SpikeChange"]

_MOST_STEPS = 1 << 20


class SpikeChange(NamedTuple):
    """What discretizing did to the spikes of an example; spikes are compared neuron by neuron and sample by sample, the
    k-th with the k-th.

    :param exact: spikes of the layer in continuous time. :param discrete: in whole steps.
    :param lost: spikes that neurons have fewer, :param added: more. :param shift: mean distance in time of the others,
    :param lag: mean by which they come later.
    """

    exact: int
    discrete: int
    lost: int
    added: int
    shift: float
    lag: float

    @staticmethod
    def between(exact: SpikeEvents, discrete: SpikeEvents) -> SpikeChange:
        fewer = (exact.counts() - discrete.counts()).cpu()
        one, other = _by_neuron(exact), _by_neuron(discrete)
        common = torch.minimum(exact.counts(), discrete.counts()).flatten().cpu()
        pairs = [times[rank < common[neuron]] for times, neuron, rank in (one, other)]
        later = pairs[1] - pairs[0]
        shift, lag = (float(x.mean()) if later.numel() else math.nan for x in (later.abs(), later))
        return SpikeChange(
            len(exact), len(discrete), int(fewer.clamp(min=0).sum()), int((-fewer).clamp(min=0).sum()), shift, lag
        )


def _by_neuron(events: SpikeEvents) -> tuple[Tensor, Tensor, Tensor]:
    """Times, neuron (sample and unit) and rank of all spikes, by neuron and time."""
    neuron = (events.samples() * events.num_units + events.units).cpu()
    order = torch.argsort(neuron, stable=True)
    neuron = neuron[order]
    counts = torch.bincount(neuron, minlength=1)
    rank = torch.arange(neuron.numel()) - (counts.cumsum(0) - counts)[neuron]
    return events.times.detach().cpu().double()[order], neuron, rank


class DiscreteEventProp(nn.Module):
    """An EventProp layer frozen into whole steps (module heading); made by ``layer.discretize()``.

    Takes what the layer takes and gives what it gives (its ``output``), without gradients; events come back at multiples of
    ``dt``. All it computes with are buffers: ``weight``, ``delay`` and ``recurrent_delay`` in whole steps, the flow over a
    step ``P`` and ``P_held``, ``B``, ``c``, ``J``, ``r``, ``theta``, ``rest`` (refractory steps).

    :param change: a :class:`SpikeChange` where an example was given.

    Example::

        >>> from snn_delay_plugins import EventPropLIF
        >>> _ = torch.manual_seed(0)
        >>> layer = EventPropLIF(20, 10, delay="uniform", max_delay=5.0, weight_init=(0.8, 0.3))
        >>> frozen = layer.discretize(dt=1.0, example=(torch.rand(100, 4, 20) < 0.05).float())
        >>> frozen.change.exact, frozen.change.discrete, round(frozen.change.shift, 1)
        (649, 628, 1.5)
        >>> _ = torch.manual_seed(0)
        >>> frozen((torch.rand(50, 2, 20) < 0.1).float()).times[:3]
        tensor([7., 8., 8.], dtype=torch.float64)
    """

    change: SpikeChange | None = None
    weight: Tensor
    delay: Tensor
    recurrent_weight: Tensor | None
    recurrent_delay: Tensor
    P: Tensor
    P_held: Tensor
    B: Tensor
    c: Tensor
    J: Tensor
    r: Tensor
    theta: Tensor
    rest: Tensor

    @torch.no_grad()
    def __init__(self, layer: EventPropSpiking, dt: float) -> None:
        super().__init__()
        self.dt, self.output = dt, layer.output
        self._of, self._axes = type(layer).__name__, layer.weight.dim() - 2
        self._geometry: dict[str, Any] = getattr(layer, "_geometry", {})
        weight = layer.weight
        model, constants, threshold, refractory = layer.neurons()
        system = system_of(model, constants, threshold, weight.shape[0])
        step = weight.new_tensor(dt, dtype=torch.float64)
        neurons = {
            "P": exponential((system.M * step).cpu()), "P_held": exponential((system.M_held * step).cpu()),
            "B": system.B, "c": system.c, "J": system.J, "r": system.r, "theta": system.theta,
        }  # fmt: skip
        for name, value in neurons.items():
            self.register_buffer(name, value.detach().to(weight.device, weight.dtype, copy=True))
        rest = (refractory_of(refractory, weight.shape[0]) / dt).round().long()
        self.register_buffer("rest", rest.to(weight.device, copy=True))
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("delay", self._whole(layer, "delay", weight))
        recurrent = getattr(layer, "recurrent_weight", None)
        self.register_buffer("recurrent_weight", None if recurrent is None else recurrent.detach().clone())
        self.register_buffer(
            "recurrent_delay", None if recurrent is None else self._whole(layer, "recurrent_delay", recurrent)
        )
        self._look_at_delays()

    def _look_at_delays(self) -> None:
        """Keep what the loops need of the values: a program that is exported sees none."""
        if values_known(self.delay):
            self._longest = int(self.delay.max())
            self._lags = [] if self.recurrent_weight is None else self.recurrent_delay.unique().tolist()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._look_at_delays()

    def _whole(self, layer: EventPropSpiking, name: str, weight: Tensor) -> Tensor:
        delay = layer._delay(name)
        steps = torch.zeros_like(weight) if delay is None else (delay.detach() / self.dt).round().expand_as(weight)
        if float(steps.max()) > _MOST_STEPS:
            raise ValueError(
                f"{name} of {float(steps.max()):.3g} steps of dt = {self.dt:g}: is dt in the unit of the delays?"
            )
        return steps.to(weight.device, torch.int64, copy=True)

    @torch.no_grad()
    def forward(self, input: SpikeEvents | Tensor) -> SpikeEvents | Tensor:
        dense = input.to_dense(self.dt, dtype=self.weight.dtype) if isinstance(input, SpikeEvents) else input
        spikes = self._run(self._currents(dense.to(self.weight.dtype)))
        if self.output == "events" or (self.output == "same" and dense is not input):
            return SpikeEvents.from_dense(spikes, self.dt)
        return spikes

    def _currents(self, dense: Tensor) -> Tensor:
        """[T, N, out, *space]"""
        delay = self.delay.to(dense.dtype)
        self._look_at_delays()
        longest = self._longest
        if self._axes:
            return delayed_convolution(
                dense, self.weight, delay, max_delay=longest, interpolation="round", **self._geometry
            )
        return delayed_linear(dense, self.weight, delay, max_delay=longest, interpolation="round")

    def _run(self, current: Tensor) -> Tensor:
        shape = current.shape
        current = current.flatten(3) if current.dim() > 3 else current[..., None]
        steps, samples, units, places = current.shape
        columns = (slice(None), None)  # neuron by neuron, the same at all places
        P, P_held, J = (x[columns] for x in (self.P, self.P_held, self.J))
        r, theta, rest = (x[columns] for x in (self.r, self.theta, self.rest))
        x = current.new_zeros(samples, units, places, self.B.numel())
        ready = torch.zeros(samples, units, places, dtype=torch.int64, device=current.device)
        below = torch.ones_like(ready, dtype=torch.bool)
        recurrent = self.recurrent_weight
        echo = [] if recurrent is None else [recurrent * (self.recurrent_delay == lag) for lag in self._lags]
        out = torch.zeros_like(current)
        for n in range(steps):
            held = n < ready
            flow = torch.where(held[..., None, None], P_held, P) if not values_known(held) or bool(held.any()) else P
            x = (flow @ x[..., None])[..., 0] + current[n, ..., None] * self.B
            v = x @ self.c
            fires = (v > theta) & below & ~held
            out[n] = fires.to(out.dtype)
            beyond = ((v - theta) / (self.c @ self.c))[..., None] * self.c
            jump = (J @ (x - beyond)[..., None])[..., 0] + r
            x = torch.where(fires[..., None], x + jump, x)
            ready = torch.where(fires, n + 1 + rest, ready)
            # a model that does not reset V spikes again after V has fallen
            below = (x @ self.c <= theta) | (fires & (jump @ self.c < 0)) | (below & ~fires)
            for lag, weight in zip(self._lags, echo, strict=True):
                received = torch.einsum("ji,nip->njp", weight, out[n])
                if lag == 0:
                    x = x + received[..., None] * self.B
                elif n + lag < steps:
                    current[n + lag] += received
        return out.view(shape)

    def extra_repr(self) -> str:
        change = "" if self.change is None else f", {self.change}"
        return f"of {self._of}, weight={list(self.weight.shape)}, dt={self.dt:g}, output={self.output!r}{change}"
