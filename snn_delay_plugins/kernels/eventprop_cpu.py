"""Drivers of the compiled EventProp loops: step size, tables, threads. NumPy arrays (float64, int64) in and out.

Forward passes are split by samples, backward passes by neurons, over ``threads`` Python threads (the loops release the
GIL). Every sum is taken in an order that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import eventprop_numba as loops
from .threads import pool

_TIME_CHUNKS = 8            # neurons are split into this many runs when derivatives by event times are summed over them
_GROUP_EVENTS = 1 << 18     # and samples into groups of about this many events, which bounds the memory of that sum
_NO_ROWS = np.empty((0, 0))
_NO_PAIRS = np.empty((0, 0, 0, 0))
_NO_SYNAPSES = (_NO_ROWS, np.empty((0, 0, 0), np.int64), np.empty((0, 0, 0, 0)), _NO_PAIRS)
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Spikes:
    """Arrays of a SpikeEvents."""

    times: np.ndarray
    units: np.ndarray
    offsets: np.ndarray

    @property
    def batch_size(self) -> int:
        return self.offsets.size - 1


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
    steps = max(1, math.ceil(duration / min(dt, longest) - 1e-6))
    return Neuron(theta, tau_mem, tau_syn, duration / steps, steps, 1, duration)


def grid_neuron(theta: float, tau_mem: float, tau_syn: float, dt: float, duration: float) -> Neuron:
    return Neuron(theta, tau_mem, tau_syn, dt, num_steps(duration, dt), 1, duration)


def num_steps(duration: float, dt: float) -> int:
    """Steps of length dt that cover the duration; a remainder within rounding is none."""
    return max(1, math.ceil(duration / dt - 1e-6))


class TooManySpikes(RuntimeError):
    pass


# ---------------------------------------------------------------------------------------------------- threads

def _run(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    if threads <= 1 or len(tasks) <= 1:
        return [task() for task in tasks]
    return list(pool(os.getpid(), threads).map(lambda task: task(), tasks))


def _ranges(size: int, parts: int) -> list[tuple[int, int]]:
    bounds = [size * k // parts for k in range(parts + 1)]
    return [(lo, hi) for lo, hi in itertools.pairwise(bounds) if hi > lo]


def _sample_groups(offsets: np.ndarray) -> list[tuple[int, int]]:
    groups, lo = [], 0
    for b in range(offsets.size - 1):
        if b > lo and offsets[b + 1] - offsets[lo] > _GROUP_EVENTS:
            groups.append((lo, b))
            lo = b
    return [*groups, (lo, offsets.size - 1)] if offsets.size > 1 else []


# ---------------------------------------------------------------------------------------------------- synapses

@dataclass(frozen=True)
class Synapses:
    """Weights and delays [out, in] with their tables, those of the exact or of the grid scheme."""

    weight: np.ndarray
    delay: np.ndarray
    where: np.ndarray
    factor: np.ndarray
    pair: np.ndarray
    grid: bool

    @classmethod
    def build(cls, weight: np.ndarray, delay: np.ndarray, neuron: Neuron, grid: bool) -> Synapses:
        if grid:
            tables = *loops.grid_tables(weight, delay, neuron.dt, neuron.steps), np.empty((0, 0, 0, 0))
        else:
            tables = loops.synapse_tables(weight, delay, neuron.dt, neuron.tau_mem, neuron.tau_syn, neuron.steps)
        return cls(weight, delay, *tables, grid)

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape

    def kick(self) -> tuple[np.ndarray, np.ndarray]:
        return loops.forward_tables(self.factor)


# ---------------------------------------------------------------------------------------------------- LIF

def lif_forward(spikes: Spikes, synapses: Synapses, recurrent: Synapses | None, neuron: Neuron, max_spikes: int,
                threads: int) -> tuple[Spikes, np.ndarray]:
    """Spikes of the layer and tau_m dV/dt at each of them."""
    n_out, n_in = synapses.shape
    events = (spikes.times, spikes.units, spikes.offsets)
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    if synapses.grid and recurrent is None:
        def task(lo, hi):
            return loops.lif_grid_forward(*events, lo, hi, n_in, n_out, synapses.where, synapses.factor, *constants,
                                          max_spikes)
    elif synapses.grid:
        def task(lo, hi):
            return loops.lif_grid_recurrent_forward(
                *events, lo, hi, n_in, n_out, synapses.where, synapses.factor, recurrent.where, recurrent.factor,
                *constants, max_spikes)
    else:
        kick, negative = synapses.kick()
        if recurrent is None:
            def task(lo, hi):
                return loops.lif_exact_forward(*events, lo, hi, n_out, synapses.where, synapses.factor, synapses.pair,
                                               kick, negative, *constants, neuron.duration, max_spikes)
        else:
            kick_r, _ = recurrent.kick()

            def task(lo, hi):
                return loops.lif_exact_recurrent_forward(
                    *events, lo, hi, synapses.weight, synapses.delay, synapses.where, synapses.factor, kick, negative,
                    recurrent.weight, recurrent.delay, recurrent.where, kick_r, *constants, neuron.duration,
                    max_spikes)
    ranges = _ranges(spikes.batch_size, min(max(4 * threads, 1), max(spikes.batch_size, 1)) if threads > 1 else 1)
    parts = _run([lambda lo=lo, hi=hi: task(lo, hi) for lo, hi in ranges], threads)
    for _, _, status, sample, unit in parts:
        if status == loops.TOO_MANY_SPIKES:
            raise TooManySpikes(
                f"neuron {unit} in sample {sample} fires more than max_spikes = {max_spikes} spikes within "
                f"{neuron.duration:g} time units: runaway activity, usually recurrent excitation with short delays. "
                "Lower the weights, lengthen the recurrent delays, or raise max_spikes if this rate is meant")
    offsets = np.zeros(spikes.batch_size + 1, np.int64)
    if not parts:
        return Spikes(np.empty(0), np.empty(0, np.int64), offsets), np.empty(0)
    np.cumsum(np.concatenate([part[0] for part in parts]), out=offsets[1:])
    out = parts[0][1] if len(parts) == 1 else np.concatenate([part[1] for part in parts], axis=1)
    return Spikes(np.ascontiguousarray(out[0]), out[1].astype(np.int64), offsets), np.ascontiguousarray(out[2])


@dataclass
class Gradients:
    """Derivatives by weights and delays [out, in], by event times, theta and tau."""

    weight: np.ndarray
    delay: np.ndarray
    recurrent_weight: np.ndarray
    recurrent_delay: np.ndarray
    times: np.ndarray
    theta: float
    tau_mem: float = 0.0
    tau_syn: float = 0.0


def backward(spikes: Spikes, synapses: Synapses, recurrent: Synapses | None, neuron: Neuron, out: Spikes,
             slope: np.ndarray, g_time: np.ndarray, g_jump: np.ndarray, source: np.ndarray, end: np.ndarray,
             need_times: bool, need_tau: bool, resets: bool, threads: int) -> Gradients:
    """Backward pass of a LIF layer (``out`` its spikes) or an LI readout (``out`` the instants of dL/dV jumps).

    source [T, N * out]: dL/dV at the samples, or no rows; end [N, out, 2]: dL/d(V, I) at the end.
    """
    n_out, n_in = synapses.shape
    batch_size, blocks, grid = spikes.batch_size, synapses.where.shape[0], synapses.grid
    events = (spikes.times, spikes.units, spikes.offsets)
    fired = (out.times, out.units, out.offsets)
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    delay_r, where_r, factor_r, pair_r = _NO_SYNAPSES
    if recurrent is not None:
        delay_r, where_r, factor_r, pair_r = recurrent.delay, recurrent.where, recurrent.factor, recurrent.pair
    mu = _NOTHING
    if recurrent is not None and out.times.size:
        mu = np.empty(out.times.size)
        if grid:
            def jumps(lo, hi):
                loops.grid_recurrent_jumps(*fired, lo, hi, slope, g_time, g_jump, where_r, factor_r, n_out, *constants,
                                           mu)
        else:
            def jumps(lo, hi):
                loops.recurrent_jumps(*fired, lo, hi, slope, g_time, g_jump, delay_r, where_r, factor_r, *constants, mu)
        _run([lambda lo=lo, hi=hi: jumps(lo, hi) for lo, hi in _ranges(batch_size, min(threads, batch_size))], threads)
    parts_of_sum = 2 if grid else 4
    sums = np.zeros((blocks, n_in, loops.LANES, parts_of_sum))
    sums_r = np.zeros((where_r.shape[0], n_out if recurrent is not None else 0, loops.LANES, parts_of_sum))
    before = np.zeros(blocks)
    grad_t = np.zeros(spikes.times.size if need_times else 0)

    def task(lo, hi, first, last, part):
        if grid:
            loops.grid_backward(*events, lo, hi, n_in, n_out, synapses.where, synapses.factor, first, last, source,
                                *fired, slope, g_time, g_jump, mu, where_r, *constants, sums, sums_r, part, before)
        else:
            loops.exact_backward(*events, lo, hi, n_out, synapses.where, synapses.factor, synapses.pair, first, last,
                                 end, source, neuron.every, *fired, slope, g_time, g_jump, mu, where_r, pair_r,
                                 *constants, sums, sums_r, part, before)

    if need_times:
        for lo, hi in _sample_groups(spikes.offsets):
            e0, e1 = spikes.offsets[lo], spikes.offsets[hi]
            if e0 == e1:
                ranges, parts = _ranges(blocks, 1), [_NOTHING]
            else:
                ranges = _ranges(blocks, min(blocks, _TIME_CHUNKS))
                parts = [np.zeros(e1 - e0) for _ in ranges]
            _run([partial(task, lo, hi, *r, part) for r, part in zip(ranges, parts, strict=True)], threads)
            if e1 > e0:
                for part in parts:
                    grad_t[e0:e1] += part
    else:
        _run([lambda r=r: task(0, batch_size, *r, _NOTHING) for r in _ranges(blocks, min(threads, blocks))], threads)
    finish = loops.grid_finish if grid else loops.finish
    grad_w, grad_d = np.empty((n_out, n_in)), np.empty((n_out, n_in))
    finish(sums, synapses.factor, neuron.tau_mem, neuron.tau_syn, grad_w, grad_d)
    grad_wr, grad_dr = np.empty(delay_r.shape), np.empty(delay_r.shape)
    if recurrent is not None:
        finish(sums_r, recurrent.factor, neuron.tau_mem, neuron.tau_syn, grad_wr, grad_dr)
    gradients = Gradients(grad_w, grad_d, grad_wr, grad_dr, grad_t, -float(before.sum()))
    if need_tau:
        _tau_gradient(gradients, events, synapses, recurrent, neuron, fired, slope, g_time, g_jump, mu, source, end,
                      resets, threads)
    return gradients


def _tau_gradient(gradients, events, synapses, recurrent, neuron, fired, slope, g_time, g_jump, mu, source, end, resets,
                  threads) -> None:
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    delay_r, where_r, factor_r, _ = _NO_SYNAPSES
    kick, _ = synapses.kick()
    kick_r = np.empty((0, 0, 0, 0))
    n_out = synapses.shape[0]
    batch_size = events[2].size - 1
    if recurrent is not None:
        delay_r, where_r, factor_r = recurrent.delay, recurrent.where, recurrent.factor
        kick_r, _ = recurrent.kick()
    elif fired[0].size:
        mu = np.empty(fired[0].size)
        loops.feedforward_jumps(*fired, 0, batch_size, slope, g_time, g_jump, n_out, *constants, source, neuron.every,
                                end, mu)

    def task(b):
        return loops.exact_tau_gradient(
            *events, synapses.delay, synapses.where, synapses.factor, kick, end, source, neuron.every, *fired, b, b + 1,
            mu, resets, delay_r, where_r, factor_r, kick_r, *constants)

    for by_mem, by_syn in _run([lambda b=b: task(b) for b in range(batch_size)], threads):
        gradients.tau_mem += by_mem
        gradients.tau_syn += by_syn


# ---------------------------------------------------------------------------------------------------- LI

@dataclass
class Peak:
    """Largest V of every output [N, out] and its time; the event at whose arrival V has a kink there (or -1) and V'
    before it: such a maximum moves with the arrival."""

    value: np.ndarray
    time: np.ndarray
    event: np.ndarray
    slope: np.ndarray


def li_forward(spikes: Spikes, synapses: Synapses, neuron: Neuron, samples: int, find_peak: bool,
               threads: int) -> tuple[np.ndarray, np.ndarray, Peak]:
    """Voltage [samples, N, out], final (V, I) [N, out, 2], largest voltage."""
    n_out, n_in = synapses.shape
    n = spikes.batch_size
    voltage = np.empty((samples, n, n_out))
    final = np.zeros((n, n_out, 2))
    peak = Peak(np.zeros((n, n_out)), np.zeros((n, n_out)), np.full((n, n_out), -1), np.zeros((n, n_out)))
    events = (spikes.times, spikes.units, spikes.offsets)
    if synapses.grid:
        def task(lo, hi):
            loops.li_grid_forward(*events, lo, hi, n_in, n_out, synapses.where, synapses.factor, neuron.tau_mem,
                                  neuron.tau_syn, neuron.dt, neuron.steps, voltage)
    else:
        kick, _ = synapses.kick()

        def task(lo, hi):
            loops.li_exact_forward(*events, lo, hi, n_out, synapses.where, synapses.pair, kick,
                                   neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps, neuron.every, voltage,
                                   final, find_peak, peak.value, peak.time, peak.event, peak.slope)
    _run([lambda lo=lo, hi=hi: task(lo, hi) for lo, hi in _ranges(n, min(threads, max(n, 1)))], threads)
    return voltage, final, peak


def arrivals_forward(spikes: Spikes, weight: np.ndarray, delay: np.ndarray, rate: float, duration: float,
                     threads: int) -> np.ndarray:
    """[N, out]: sum of w exp(-rate s) over the arrivals s <= duration."""
    n = spikes.batch_size
    total = np.zeros((n, weight.shape[0]))
    _run([lambda lo=lo, hi=hi: loops.discounted_arrivals(spikes.times, spikes.units, spikes.offsets, lo, hi, weight,
                                                         delay, rate, duration, total)
          for lo, hi in _ranges(n, min(threads, max(n, 1)))], threads)
    return total


def arrivals_backward(spikes: Spikes, weight: np.ndarray, delay: np.ndarray, rate: float, duration: float,
                      grad: np.ndarray, need_times: bool, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_out = weight.shape[0]
    grad_w, grad_d = np.zeros(weight.shape), np.zeros(weight.shape)
    grad_t = np.zeros(spikes.times.size if need_times else 0)

    def task(lo, hi, first, last, part):
        loops.discounted_arrivals_backward(spikes.times, spikes.units, spikes.offsets, lo, hi, weight, delay, rate,
                                           duration, first, last, grad, grad_w, grad_d, part)

    for lo, hi in _sample_groups(spikes.offsets):
        ranges = _ranges(n_out, min(n_out, _TIME_CHUNKS))
        e0, e1 = spikes.offsets[lo], spikes.offsets[hi]
        parts = [np.zeros(e1 - e0 if need_times else 0) for _ in ranges]
        _run([partial(task, lo, hi, *r, part) for r, part in zip(ranges, parts, strict=True)], threads)
        if need_times:
            for part in parts:
                grad_t[e0:e1] += part
    return grad_w, grad_d, grad_t
