"""Drivers of the compiled EventProp loops: step size, tables, threads. NumPy arrays in and out.

Weights and delays are float32 or float64, everything else is float64 or int64. Passes are split by neurons, forward
passes of recurrent layers by samples, over ``threads`` Python threads (the loops release the GIL). Every sum is taken in an
order that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...bins import FLOAT32, FLOAT64
from ..threads import pool
from . import numba as loops
from .neuron import Neuron, TooManySpikes, most_spikes, refuse_endless

_TIME_CHUNKS = 8  # neurons are split into this many runs when derivatives by event times are summed over them
_GROUP_EVENTS = 1 << 18  # and samples into groups of about this many events, which bounds the memory of that sum
_GROUP_POINTERS = 1 << 22
_NUMBERS = 8  # kept of a spike: the columns of the loops, twice as long while they grow
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Spikes:
    """Arrays of a SpikeEvents; eps: of the dtype of its times (:mod:`snn_delay_plugins.bins`)."""

    times: np.ndarray
    units: np.ndarray
    offsets: np.ndarray
    eps: float = FLOAT64

    @property
    def batch_size(self) -> int:
        return self.offsets.size - 1

    def part(self, lo: int, hi: int) -> Spikes:
        """Samples lo..hi-1."""
        e0, e1 = self.offsets[lo], self.offsets[hi]
        return Spikes(self.times[e0:e1], self.units[e0:e1], self.offsets[lo : hi + 1] - e0, self.eps)


def spikes(times: np.ndarray, units: np.ndarray, offsets: np.ndarray, single: bool) -> Spikes:
    """``single``: the times came as float32."""
    return Spikes(times, units, offsets, FLOAT32 if single or loops.all_float32(times) else FLOAT64)


# ---------------------------------------------------------------------------------------------------- threads


def _run(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    if threads <= 1 or len(tasks) <= 1:
        return [task() for task in tasks]
    return list(pool(os.getpid(), threads).map(lambda task: task(), tasks))


def _ranges(size: int, parts: int) -> list[tuple[int, int]]:
    bounds = [size * k // parts for k in range(parts + 1)]
    return [(lo, hi) for lo, hi in itertools.pairwise(bounds) if hi > lo]


def _sample_groups(offsets: np.ndarray, units: int = 0) -> list[tuple[int, int]]:
    """
    :param units: of the events; where they are sorted by unit, a sample has a pointer for each.
    """
    groups, lo, ends = [], 0, offsets.tolist()
    most = max(1, _GROUP_POINTERS // (units + 1))
    for b in range(offsets.size - 1):
        if b > lo and (ends[b + 1] - ends[lo] > _GROUP_EVENTS or b - lo >= most):
            groups.append((lo, b))
            lo = b
    return [*groups, (lo, offsets.size - 1)] if offsets.size > 1 else []


# ---------------------------------------------------------------------------------------------------- synapses


@dataclass(frozen=True)
class Synapses:
    """Weights and delays [out, in] of one dtype."""

    weight: np.ndarray
    delay: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape

    @property
    def blocks(self) -> int:
        return -(-self.weight.shape[0] // loops.LANES)

    def none(self) -> Synapses:
        """What stands for recurrent synapses in a layer that has none."""
        return Synapses(*(np.empty((0, 0), self.weight.dtype) for _ in range(2)))

    def tables(self, neuron: Neuron, grid: bool) -> tuple[np.ndarray, ...]:
        """Of all neurons at once; most loops make those of a block of neurons where they need them."""
        if grid:
            return loops.grid_tables(self.weight, self.delay, neuron.dt, neuron.steps)
        return loops.synapse_tables(self.weight, self.delay, neuron.dt, neuron.tau_mem, neuron.tau_syn, neuron.steps)


def _rows(neuron: Neuron, *layers: Synapses | None) -> int:
    """Rows of a neuron's column in the exact scheme: see column_rows."""
    longest = max((float(layer.delay.max(initial=0)) for layer in layers if layer is not None), default=0.0)
    return loops.column_rows(neuron.steps, int(min(longest / neuron.dt, neuron.steps)) + 1)


def _events_in_time(spikes: Spikes, n_units: int, neuron: Neuron, grid: bool) -> tuple:
    """The events of all samples as the forward loops of the scheme need them."""
    if grid:
        return spikes.offsets, _event_tables(spikes, n_units, neuron, grid)
    factors = loops.event_factors(spikes.times, neuron.dt, neuron.tau_mem, neuron.tau_syn)
    return spikes.times, spikes.units, spikes.offsets, factors


def _event_tables(spikes: Spikes, n_units: int, neuron: Neuron, grid: bool) -> tuple[np.ndarray, ...]:
    """The events of all samples by unit, as the loops of the scheme need them."""
    events = spikes.times, spikes.units, spikes.offsets, n_units, neuron.dt
    if grid:
        return loops.all_grid_events(*events, neuron.steps, spikes.eps)
    return loops.event_tables(*events, neuron.tau_mem, neuron.tau_syn)


# ---------------------------------------------------------------------------------------------------- LIF


def lif_forward(
    spikes: Spikes,
    synapses: Synapses,
    recurrent: Synapses | None,
    neuron: Neuron,
    grid: bool,
    max_spikes: int,
    threads: int,
) -> tuple[Spikes, np.ndarray]:
    """Spikes of the layer and tau_m dV/dt at each of them."""
    forward = _feedforward if recurrent is None else _recurrent_forward
    offsets, out = forward(spikes, synapses, recurrent, neuron, grid, max_spikes, threads)
    return Spikes(np.ascontiguousarray(out[0]), out[1].astype(np.int64), offsets), np.ascontiguousarray(out[2])


def _feedforward(spikes, synapses, _recurrent, neuron, grid, max_spikes, threads) -> tuple[np.ndarray, np.ndarray]:
    layer = synapses.weight, synapses.delay
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    rows = _rows(neuron, synapses)
    ranges = _ranges(synapses.blocks, _pieces(threads, synapses.blocks))
    found = [np.empty((4, 0))]
    for lo, hi in _sample_groups(spikes.offsets, synapses.shape[1]):
        part = spikes.part(lo, hi)
        events = _events_in_time(part, synapses.shape[1], neuron, grid)

        def task(first, last, events=events):
            if grid:
                return loops.lif_grid_forward(*events, *layer, first, last, *constants, max_spikes)
            return loops.lif_exact_forward(
                *events, *layer, first, last, *constants, rows, neuron.duration, max_spikes, most_spikes(_NUMBERS, 0)
            )

        for columns, status, sample, unit in _run([partial(task, *blocks) for blocks in ranges], threads):
            _check_spikes((status, lo + sample, unit), neuron, max_spikes)
            columns[3] += lo
            found.append(columns)
    return loops.in_order(np.concatenate(found, axis=1), spikes.batch_size)


def _recurrent_forward(spikes, synapses, recurrent, neuron, grid, max_spikes, threads) -> tuple[np.ndarray, np.ndarray]:
    events = (spikes.times, spikes.units, spikes.offsets)
    rows = None if grid else _rows(neuron, synapses, recurrent)
    tables_r = recurrent.tables(neuron, grid)
    tables = tables_r if grid else synapses.tables(neuron, grid)  # the grid scheme reads none of the inputs
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)

    def task(lo, hi):
        if grid:
            return loops.lif_grid_recurrent_forward(
                *events, spikes.eps, lo, hi, synapses.weight, synapses.delay, *tables_r, *constants, max_spikes
            )
        return loops.lif_exact_recurrent_forward(
            *events,
            lo,
            hi,
            synapses.weight,
            synapses.delay,
            tables[0],
            tables[2],
            recurrent.weight,
            recurrent.delay,
            tables_r[0],
            tables_r[2],
            *constants,
            rows,
            neuron.duration,
            max_spikes,
            most_spikes(_NUMBERS, recurrent.weight.shape[0]),
        )

    ranges = _ranges(spikes.batch_size, _pieces(threads, spikes.batch_size))
    parts = _run([partial(task, *part) for part in ranges], threads)
    for _, _, status, sample, unit in parts:
        _check_spikes((status, sample, unit), neuron, max_spikes)
    offsets = np.zeros(spikes.batch_size + 1, np.int64)
    if not parts:
        return offsets, np.empty((3, 0))
    np.cumsum(np.concatenate([part[0] for part in parts]), out=offsets[1:])
    return offsets, parts[0][1] if len(parts) == 1 else np.concatenate([part[1] for part in parts], axis=1)


def _pieces(threads: int, most: int) -> int:
    """More pieces than threads, since some take longer than others."""
    return min(4 * threads, max(most, 1)) if threads > 1 else 1


def _check_spikes(outcome: tuple[int, int, int], neuron: Neuron, max_spikes: int) -> None:
    status, sample, unit = outcome
    if status == loops.TOO_MANY_SPIKES:
        raise TooManySpikes(sample, unit, neuron.duration, max_spikes)
    if status == loops.ENDLESS:
        refuse_endless(sample, unit, max_spikes)


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


def backward(
    spikes: Spikes,
    synapses: Synapses,
    recurrent: Synapses | None,
    neuron: Neuron,
    grid: bool,
    out: Spikes,
    slope: np.ndarray,
    g_time: np.ndarray,
    g_jump: np.ndarray,
    source: np.ndarray,
    end: np.ndarray,
    need_times: bool,
    need_tau: bool,
    resets: bool,
    threads: int,
) -> Gradients:
    """Backward pass of a LIF layer (``out`` its spikes) or an LI readout (``out`` the instants of dL/dV jumps).

    source [T, N * out]: dL/dV at the samples, or no rows; end [N, out, 2]: dL/d(V, I) at the end.
    """
    n_out, n_in = synapses.shape
    fired = (out.times, out.units, out.offsets)
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    mu = _NOTHING
    if recurrent is not None:
        mu = _recurrent_jumps(fired, recurrent, neuron, grid, slope, g_time, g_jump, threads)
    groups = _sample_groups(spikes.offsets, max(synapses.shape))
    layer_r = recurrent or synapses.none()
    scheme = constants if grid else (*constants, _rows(neuron, synapses, recurrent))
    sum_type = np.float64 if len(groups) > 1 else synapses.weight.dtype  # one group adds once to every gradient
    grads = [np.zeros(x.shape, sum_type) for x in (synapses, synapses, layer_r, layer_r)]
    before = np.zeros(synapses.blocks)
    grad_t = np.zeros(spikes.times.size if need_times else 0)
    # when derivatives by times are summed over neurons, the number of parts must not depend on the number of threads
    pieces = min(synapses.blocks, _TIME_CHUNKS) if need_times else _pieces(threads, synapses.blocks)
    for lo, hi in groups:
        inputs, instants = spikes.part(lo, hi), out.part(lo, hi)
        factors = neuron.dt, neuron.tau_mem, neuron.tau_syn
        if grid:
            events = _event_tables(inputs, n_in, neuron, grid)
        else:
            events = inputs.units, inputs.times, *loops.event_factors(inputs.times, *factors)
        jumps = _event_tables(instants, n_out, neuron, grid)
        here, order = slice(out.offsets[lo], out.offsets[hi]), jumps[0]
        of_jumps = [values[here][order] for values in (slope, g_time, g_jump)]
        of_jumps += [mu.size > 0, mu[here][order] if mu.size else np.empty(order.size)]
        if not grid:
            of_jumps.append(np.empty((order.size, 5)))

        def task(
            first,
            last,
            by_time,
            events=events,
            jumps=jumps,
            of_jumps=of_jumps,
            inputs=inputs,
            instants=instants,
            lo=lo,
            hi=hi,
        ):
            layer = inputs.offsets, events, lo, synapses.weight, synapses.delay, first, last
            rest = layer_r.weight, layer_r.delay, *scheme, *grads, by_time, before
            if grid:
                loops.grid_backward(*layer, source, instants.offsets, jumps, *of_jumps, *rest)
            else:
                loops.exact_backward(*layer, end[lo:hi], source, neuron.every, instants.offsets, jumps, *of_jumps, *rest)

        ranges = _ranges(synapses.blocks, pieces)
        by_time = [np.zeros(inputs.times.size if need_times else 0) for _ in ranges]
        _run([partial(task, *blocks, part) for blocks, part in zip(ranges, by_time, strict=True)], threads)
        for part in by_time if need_times else ():
            grad_t[spikes.offsets[lo] : spikes.offsets[hi]] += part
    gradients = Gradients(*grads, times=grad_t, theta=-float(before.sum()))
    if need_tau:
        _tau_gradient(
            gradients, spikes, synapses, recurrent, neuron, fired, slope, g_time, g_jump, mu, source, end, resets, threads
        )
    return gradients


def _recurrent_jumps(fired, recurrent, neuron, grid, slope, g_time, g_jump, threads) -> np.ndarray:
    mu = np.zeros(slope.size)
    if not mu.size:
        return mu
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    rows = None if grid else _rows(neuron, recurrent)
    tables, samples = recurrent.tables(neuron, grid), fired[2].size - 1

    def task(lo, hi):
        if grid:
            loops.grid_recurrent_jumps(*fired, lo, hi, slope, g_time, g_jump, *tables, *constants, mu)
        else:
            loops.recurrent_jumps(
                *fired, lo, hi, slope, g_time, g_jump, recurrent.weight, recurrent.delay, *tables[:2], *constants, rows, mu
            )

    _run([partial(task, *part) for part in _ranges(samples, min(threads, samples))], threads)
    return mu


def _tau_gradient(
    gradients, spikes, synapses, recurrent, neuron, fired, slope, g_time, g_jump, mu, source, end, resets, threads
) -> None:
    constants = (neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps)
    rows = _rows(neuron, synapses, recurrent)
    if recurrent is None and fired[0].size:
        mu = np.empty(fired[0].size)
        loops.feedforward_jumps(
            *fired,
            0,
            spikes.batch_size,
            slope,
            g_time,
            g_jump,
            synapses.shape[0],
            *constants,
            source,
            neuron.every,
            end,
            mu,
        )
    layers = []
    for layer in (synapses, recurrent or synapses.none()):
        layers.append((layer.weight, layer.delay, *layer.tables(neuron, grid=False)))

    def task(b):
        return loops.exact_tau_gradient(
            spikes.times,
            spikes.units,
            spikes.offsets,
            *layers[0],
            end,
            source,
            neuron.every,
            *fired,
            b,
            b + 1,
            mu,
            resets,
            *layers[1],
            *constants,
            rows,
        )

    for by_mem, by_syn in _run([partial(task, b) for b in range(spikes.batch_size)], threads):
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


def li_forward(
    spikes: Spikes, synapses: Synapses, neuron: Neuron, grid: bool, samples: int, find_peak: bool, threads: int
) -> tuple[np.ndarray, np.ndarray, Peak]:
    """Voltage [samples, N, out], final (V, I) [N, out, 2], largest voltage."""
    n_out, n_in = synapses.shape
    n = spikes.batch_size
    voltage = np.empty((samples, n, n_out))
    final = np.zeros((n, n_out, 2))
    peak = Peak(np.zeros((n, n_out)), np.zeros((n, n_out)), np.full((n, n_out), -1), np.zeros((n, n_out)))
    constants = neuron.tau_mem, neuron.tau_syn, neuron.dt, neuron.steps
    rows = _rows(neuron, synapses)
    ranges = _ranges(synapses.blocks, min(threads, synapses.blocks))
    for lo, hi in _sample_groups(spikes.offsets, synapses.shape[1]):
        part = spikes.part(lo, hi)
        layer = *_events_in_time(part, n_in, neuron, grid), lo, synapses.weight, synapses.delay

        def task(first, last, layer=layer):
            if grid:
                loops.li_grid_forward(*layer, first, last, *constants, voltage)
            else:
                loops.li_exact_forward(
                    *layer,
                    first,
                    last,
                    *constants,
                    rows,
                    neuron.every,
                    voltage,
                    final,
                    find_peak,
                    peak.value,
                    peak.time,
                    peak.event,
                    peak.slope,
                )

        _run([partial(task, *blocks) for blocks in ranges], threads)
        peak.event[lo:hi][peak.event[lo:hi] >= 0] += spikes.offsets[lo]
    return voltage, final, peak


def arrivals_forward(
    spikes: Spikes, weight: np.ndarray, delay: np.ndarray, rate: float, duration: float, threads: int
) -> np.ndarray:
    """[N, out]: sum of w exp(-rate s) over the arrivals s <= duration."""
    n = spikes.batch_size
    total = np.zeros((n, weight.shape[0]))
    _run(
        [
            lambda lo=lo, hi=hi: loops.discounted_arrivals(
                spikes.times, spikes.units, spikes.offsets, lo, hi, weight, delay, rate, duration, total
            )
            for lo, hi in _ranges(n, min(threads, max(n, 1)))
        ],
        threads,
    )
    return total


def arrivals_backward(
    spikes: Spikes,
    weight: np.ndarray,
    delay: np.ndarray,
    rate: float,
    duration: float,
    grad: np.ndarray,
    need_times: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_out = weight.shape[0]
    grad_w, grad_d = np.zeros(weight.shape), np.zeros(weight.shape)
    grad_t = np.zeros(spikes.times.size if need_times else 0)

    def task(lo, hi, first, last, part):
        loops.discounted_arrivals_backward(
            spikes.times,
            spikes.units,
            spikes.offsets,
            lo,
            hi,
            weight,
            delay,
            rate,
            duration,
            first,
            last,
            grad,
            grad_w,
            grad_d,
            part,
        )

    for lo, hi in _sample_groups(spikes.offsets):
        ranges = _ranges(n_out, min(n_out, _TIME_CHUNKS))
        e0, e1 = spikes.offsets[lo], spikes.offsets[hi]
        parts = [np.zeros(e1 - e0 if need_times else 0) for _ in ranges]
        _run([partial(task, lo, hi, *r, part) for r, part in zip(ranges, parts, strict=True)], threads)
        if need_times:
            for part in parts:
                grad_t[e0:e1] += part
    return grad_w, grad_d, grad_t
