"""Constants of an EventProp layer and its steps, for the kernels of every device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

from ...bins import steps_in
from ..checks import memory

__all__ = [
    "Neuron",
    "TooManySpikes",
    "exact_neuron",
    "grid_neuron",
    "most_spikes",
    "num_steps",
    "refuse_endless",
    "refuse_overflow",
]


@dataclass(frozen=True)
class Neuron:
    """Constants of a layer; ``steps`` of length ``dt`` cover the duration, ``every`` steps make one of the caller's."""

    theta: float
    tau_mem: float
    tau_syn: float
    dt: float
    steps: int
    every: int
    duration: float


def exact_neuron(theta: float, tau_mem: float, tau_syn: float, dt: float, duration: float, sampled: bool) -> Neuron:
    """Steps for the exact scheme: no longer than dt and half the shorter time constant (which keeps the factors of
    P(2 dt - ft) P(-fd) near one); a divisor of dt if the voltage is sampled every dt, else of the duration."""
    longest = 0.5 * min(tau_mem, tau_syn)
    if sampled:
        every = max(1, math.ceil(dt / longest))
        return Neuron(theta, tau_mem, tau_syn, dt / every, every * num_steps(duration, dt), every, duration)
    steps = num_steps(duration, min(dt, longest))
    return Neuron(theta, tau_mem, tau_syn, duration / steps, steps, 1, duration)


def grid_neuron(theta: float, tau_mem: float, tau_syn: float, dt: float, duration: float) -> Neuron:
    return Neuron(theta, tau_mem, tau_syn, dt, num_steps(duration, dt), 1, duration)


def num_steps(duration: float, dt: float) -> int:
    """Steps of length dt that cover the duration, at least one."""
    return max(1, steps_in(duration, dt))


def most_spikes(numbers: int, targets: int) -> int:
    """That fit into an eighth of the memory: ``numbers`` float64 each, and links to ``targets`` of a recurrent layer."""
    return memory() // (8 * (8 * numbers + 4 * targets))


class TooManySpikes(RuntimeError):
    """Says which neuron and what to do; ``unit`` is a number, or channel and place."""

    def __init__(self, sample: int, unit: int | tuple[int, ...], duration: float, max_spikes: int) -> None:
        super().__init__(
            f"neuron {unit} in sample {sample} fires more than max_spikes = {max_spikes} spikes within "
            f"{duration:g} time units: runaway activity, usually recurrent excitation with short delays. "
            "Lower the weights, lengthen the recurrent delays, or raise max_spikes if this rate is meant"
        )
        self.sample, self.unit, self.duration, self.max_spikes = sample, unit, duration, max_spikes

    def __reduce__(self):
        return TooManySpikes, (self.sample, self.unit, self.duration, self.max_spikes)


def refuse_endless(sample: int, unit: int, max_spikes: int, further: str = "") -> NoReturn:
    """
    :param further: another limit that may have been met.
    :raises RuntimeError: always, saying why.
    """
    raise RuntimeError(
        f"neuron {unit} in sample {sample} fires almost without end, within max_spikes = {max_spikes}: more spikes than "
        f"memory holds{further}. Lower the weights, lengthen the recurrent delays, or give neurons a refractory period"
    )


def refuse_overflow(sample: int, unit: int) -> NoReturn:
    """
    :raises RuntimeError: always, saying why.
    """
    raise RuntimeError(
        f"the state of neuron {unit} in sample {sample} grows beyond what a float64 holds: its weights are too large, or "
        "its constants let it grow without end"
    )
