r"""Losses and training helpers of the EventProp papers.

Voltage losses (readout V [T, N, C], or one number per output), with t = n dt and duration T:

    sum  sum_n V[n] dt,   mean  sum / T,   exponential  sum_n exp(-t / T) V[n] dt,   maximum  max_n V[n]

followed by softmax and cross-entropy. ``eventprop_li(..., readout="integral" | "weighted_integral" | "maximum")`` gives
the first, third and fourth without a grid; hand its result to :func:`torch.nn.functional.cross_entropy`.

Spike-time losses read the first spike of every output unit. A silent unit counts as spiking at the end of the sample;
that constant has no gradient (EventProp cannot create spikes: see :func:`bump_silent_`).

Sources: Meszaros, Knight, Nowotny, *Efficient Event-based Delay Learning in Spiking Neural Networks* (Eqs. 71, 72);
Nowotny, Turner, Knight, *Loss shaping enhances exact gradient learning with Eventprop* (voltage losses, spike-count
regularisation); Wunderlich, Pehle, *Event-based backpropagation can compute exact gradients for spiking neural networks*
(first-spike cross-entropy).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_choice, check_number, check_tensor, check_whole, values_known
from ..events import SpikeEvents

__all__ = [
    "bump_silent_",
    "ease_in",
    "first_spike_cross_entropy",
    "reduce_voltage",
    "spike_count_regularisation",
    "time_invariant_mse",
    "voltage_cross_entropy",
]

Reduction = Literal["sum", "mean", "exponential", "maximum"]
_REDUCTIONS = ("sum", "mean", "exponential", "maximum")


def reduce_voltage(voltage: Tensor, how: Reduction, *, dt: float = 1.0) -> Tensor:
    """[T, N, C] -> [N, C], as in the module heading; the duration is T dt.

    Examples
    --------
    >>> import torch
    >>> reduce_voltage(torch.ones(4, 1, 2), "sum", dt=0.5).tolist()
    [[2.0, 2.0]]
    """
    if check_tensor("voltage", voltage).dim() != 3:
        raise ValueError(f"voltage must be [T, N, C], got shape {tuple(voltage.shape)}")
    if not voltage.is_floating_point():
        raise TypeError(f"voltage must be floating point, got {voltage.dtype}")
    dt = check_number("dt", dt, above=0.0)
    check_choice("how", how, _REDUCTIONS)
    if voltage.shape[0] == 0:
        raise ValueError("voltage has no time steps")
    if how == "sum":
        return voltage.sum(0) * dt
    if how == "mean":
        return voltage.mean(0)
    if how == "maximum":
        return voltage.amax(0)
    steps = voltage.shape[0]
    n = torch.arange(steps, dtype=voltage.dtype, device=voltage.device)
    return torch.tensordot(torch.exp(-n / steps) * dt, voltage, 1)


def voltage_cross_entropy(voltage: Tensor, target: Tensor, how: Reduction = "exponential", *, dt: float = 1.0) -> Tensor:
    """Mean cross-entropy of softmax(:func:`reduce_voltage`) against class indices ``target`` [N]."""
    scores = reduce_voltage(voltage, how, dt=dt)
    return _mean(F.cross_entropy(scores, _checked_target(target, scores), reduction="none"))


def first_spike_cross_entropy(
    events: SpikeEvents, target: Tensor, *, tau: float = 1.0, early: float = 0.0, tau_early: float = 1.0
) -> Tensor:
    r"""Cross-entropy on first-spike times: the earlier the spike of a class, the more likely the class.

        L = mean_N [ -log softmax(-t / tau)[c] + early (exp(t_c / tau_early) - 1) ]

    with t [N, C] the first spikes and c the target; the second term asks the true class to spike early.
    """
    tau, tau_early = check_number("tau", tau, above=0.0), check_number("tau_early", tau_early, above=0.0)
    early = check_number("early", early, least=0.0)
    times = _first_spikes(events)
    target = _checked_target(target, times)
    loss = F.cross_entropy(-times / tau, target, reduction="none")
    if early:
        loss = loss + early * torch.expm1(times.gather(1, target[:, None])[:, 0] / tau_early)
    return _mean(loss)


def time_invariant_mse(events: SpikeEvents, target: Tensor, delta_t: float) -> Tensor:
    r"""Time-invariant mean squared error of first-spike times (Eq. 71), averaged over the samples:

        L = 1/2 sum_{i != c} (t_i - t_c - delta_t)^2

    It asks every wrong class to spike delta_t after the true class c, whenever that is. Its gradient is Eq. 72.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> e = SpikeEvents.from_lists([[3.0, 5.0]], [[0, 1]], num_units=2, duration=10.0)
    >>> time_invariant_mse(e, torch.tensor([0]), 5.0).item()
    4.5
    """
    delta_t = check_number("delta_t", delta_t, least=0.0)
    times = _first_spikes(events)
    target = _checked_target(target, times)
    gap = times - times.gather(1, target[:, None]) - delta_t
    wrong = torch.ones_like(gap).scatter(1, target[:, None], 0.0)
    return 0.5 * _mean((gap.square() * wrong).sum(1))


def spike_count_regularisation(
    events: SpikeEvents, strength: float, *, target: float = 14.0, mean_counts: Tensor | None = None
) -> Tensor:
    r"""Pull every hidden neuron's mean spike count per sample, S_j / N, towards a target nu.

        L = strength / 2 sum_j (S_j / N - nu)^2

    Spike counts are piecewise constant, so the exact gradient is zero. As Nowotny et al., the backward pass instead adds

        dL/dV_j += strength (S_j - nu N) / N^2       just before each spike of neuron j, on both sides of its reset,

    through ``events.potential``; too many spikes push V down, too few push it up. mlGeNN writes the jump on its lambda_V
    = -p_V / tau_m^2 (its drive carries one more 1 / tau_m, and its loss is a mean over time steps): its Lambda is
    ``strength / tau_m^2``. A neuron without a spike gets no gradient: see :func:`bump_silent_`.

    ``mean_counts`` [units]: S_j / N of the whole batch, where ``events`` are a share of it (data-parallel training). The
    gradient is then, like that of a mean over the share, to be weighed by the share's size.
    """
    if _checked_events(events).potential is None:
        raise ValueError(
            "spike_count_regularisation needs the events returned by an EventProp LIF layer: these carry no "
            "membrane potential (input spikes, or cut by detach() or dense conversion)"
        )
    strength, target = check_number("strength", strength, least=0.0), check_number("target", target, least=0.0)
    if mean_counts is not None:
        _check_counts("mean_counts", mean_counts)
        if mean_counts.shape != (events.num_units,):
            raise ValueError(f"mean_counts has shape {tuple(mean_counts.shape)}, expected [{events.num_units}]")
    return _SpikeCount.apply(
        events.potential, events.units, events.num_units, events.batch_size, strength, target, mean_counts
    )


class _SpikeCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx, potential, units, num_units, batch_size, strength, target, mean_counts):
        if batch_size == 0:
            ctx.save_for_backward(potential)
            return potential.new_zeros(())
        if mean_counts is None:
            mean_counts = torch.bincount(units, minlength=num_units).to(potential.dtype) / batch_size
        excess = mean_counts.to(potential.dtype) - target
        ctx.save_for_backward(strength * excess[units] / batch_size)
        return 0.5 * strength * excess.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (jump,) = ctx.saved_tensors
        return grad * jump, None, None, None, None, None, None


@torch.no_grad()
def bump_silent_(weight: Tensor, spike_counts: Tensor, bump: float = 0.002) -> int:
    """Add ``bump`` to all incoming weights [out, in] of the neurons that never spiked; returns how many there were.

    ``spike_counts`` [out] or [samples, out], for instance summed over an epoch. Not in the paper; in its authors' code
    with 0.002 after every epoch.

    Examples
    --------
    >>> import torch
    >>> w = torch.zeros(2, 3)
    >>> bump_silent_(w, torch.tensor([4, 0]), 0.5), w.tolist()
    (1, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    """
    if check_tensor("weight", weight).dim() != 2 or not weight.is_floating_point():
        raise ValueError(f"weight must be [out, in] and floating point, got {tuple(weight.shape)} of {weight.dtype}")
    _check_counts("spike_counts", spike_counts)
    if spike_counts.dim() not in (1, 2):
        raise ValueError(f"spike_counts must be [out] or [samples, out], got shape {tuple(spike_counts.shape)}")
    bump = check_number("bump", bump, least=0.0)
    counts = spike_counts.reshape(-1, spike_counts.shape[-1]).sum(0)
    if counts.numel() != weight.shape[0]:
        raise ValueError(f"{counts.numel()} spike counts for {weight.shape[0]} neurons")
    silent = counts == 0
    weight[silent] += bump
    return int(silent.sum())


def ease_in(batch: int, final: float = 1e-3, *, start: float = 1e-5, growth: float = 1.05) -> float:
    """Learning rate of batch 0, 1, 2, ...: from ``start``, multiplied by growth^batch after each batch, up to ``final``.

    The growth compounds: lr = start growth^(batch (batch + 1) / 2), about 14 batches from 1e-5 to 1e-3.

    Examples
    --------
    >>> ease_in(0), ease_in(100)
    (1e-05, 0.001)
    """
    batch, start = check_whole("batch", batch, most=2**62), check_number("start", start, above=0.0)
    final, growth = check_number("final", final, least=start), check_number("growth", growth, above=1.0)
    exponent = 0.5 * batch * (batch + 1)
    if exponent * math.log(growth) >= math.log(final / start):
        return final
    return start * growth**exponent


def _checked_events(events: SpikeEvents) -> SpikeEvents:
    if not isinstance(events, SpikeEvents):
        raise TypeError(
            f"events must be SpikeEvents, got {type(events).__name__}; the loss reads spike times: let the "
            'layer return them, output="events"'
        )
    return events


def _mean(losses: Tensor) -> Tensor:
    """Over the samples; zero, with gradients of zero, for an empty batch."""
    return losses.sum() / max(losses.shape[0], 1)


def _first_spikes(events: SpikeEvents) -> Tensor:
    """[N, C]; the end of the sample where a unit is silent."""
    return _checked_events(events).first_spike_times(silent=events.duration)


def _checked_target(target: Tensor, scores: Tensor) -> Tensor:
    n, classes = scores.shape
    if check_tensor("target", target, "class indices, int64 [N]").shape != (n,):
        raise ValueError(f"target must be [{n}], got shape {tuple(target.shape)}")
    if target.dtype != torch.int64:
        raise TypeError(f"target must be int64, got {target.dtype}")
    if target.device != scores.device:
        raise ValueError(f"target is on {target.device} but the network's output on {scores.device}; move one of them")
    if n and values_known(target) and not (int(target.min()) >= 0 and int(target.max()) < classes):
        bad = target[(target < 0) | (target >= classes)][0].item()
        raise ValueError(f"target {bad} is outside [0, {classes})")
    return target


def _check_counts(name: str, counts: Tensor) -> None:
    if check_tensor(name, counts).is_complex() or counts.dtype == torch.bool:
        raise TypeError(f"{name} must hold numbers of spikes, got {counts.dtype}")
    if values_known(counts) and not bool(((counts >= 0) & (counts < math.inf)).all()):
        raise ValueError(f"{name} must hold numbers of spikes, >= 0 and finite")
