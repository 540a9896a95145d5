"""Drivers of the compiled loops: threads. NumPy float64 arrays in and out.

Passes are split by neurons, forward passes of recurrent layers by samples, over ``threads`` Python threads (the loops
release the GIL). Every sum is taken in an order that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...threads import pool
from ..neuron import TooManySpikes, most_spikes, refuse_endless, refuse_overflow
from . import adjoint, forward
from .flow import ENDLESS, LANES, MOMENTS, MOST_IN_STEP, OVERFLOW, STATES, TOO_MANY_SPIKES
from .tables import Layer

__all__ = ["Events", "Gradients", "Spikes", "backward_pass", "forward_pass"]

_CHUNKS = 8  # neurons are split into this many runs when derivatives by event times are summed over them
NO_SOURCE = np.empty((0, 0, 0)), 1, np.empty((0, 0, 0))  # ``source``, ``every`` and ``final`` where spikes alone are read


@dataclass(frozen=True)
class Events:
    times: np.ndarray
    units: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Spikes(Events):
    """And the states before the jump and at the end of the refractory period [spikes, 3]."""

    before: np.ndarray
    at_ready: np.ndarray


# ---------------------------------------------------------------------------------------------------- threads


def _run(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    if threads <= 1 or len(tasks) <= 1:
        return [task() for task in tasks]
    return list(pool(os.getpid(), threads).map(lambda task: task(), tasks))


def _ranges(size: int, parts: int) -> list[tuple[int, int]]:
    bounds = [size * k // parts for k in range(parts + 1)]
    return [(lo, hi) for lo, hi in itertools.pairwise(bounds) if hi > lo]


def _pieces(threads: int, most: int) -> int:
    """More pieces than threads, since some take longer than others."""
    return min(4 * threads, max(most, 1)) if threads > 1 else 1


# ---------------------------------------------------------------------------------------------------- passes


def forward_pass(
    events: Events, synapses: tuple, recurrent: tuple | None, layer: Layer, max_spikes: int, threads: int
) -> Spikes:
    """Spikes of all samples. synapses, recurrent: weight and delay [out, in]."""
    of_events = events.times, events.units, events.offsets
    ends = (
        layer.tables,
        layer.series,
        layer.h,
        layer.steps,
        layer.duration,
        max_spikes,
        most_spikes(forward.COLUMN, 0 if recurrent is None else synapses[0].shape[0]),
    )
    if recurrent is None:
        run, size = partial(forward.feedforward, *of_events, *synapses), -(-synapses[0].shape[0] // LANES)
        tasks = [partial(run, lo, hi, *ends) for lo, hi in _ranges(size, _pieces(threads, size))]
    else:
        size = events.offsets.size - 1
        tasks = [
            partial(forward.recurrent, *of_events, lo, hi, *synapses, *recurrent, *ends)
            for lo, hi in _ranges(size, _pieces(threads, size))
        ]
    found = [np.empty((forward.COLUMN, 0))]
    for columns, status, sample, unit in _run(tasks, threads):
        if status == TOO_MANY_SPIKES:
            raise TooManySpikes(sample, unit, layer.duration, max_spikes)
        if status == ENDLESS:
            refuse_endless(
                sample, unit, max_spikes, f", or than {MOST_IN_STEP} of each neuron in a step of {layer.h:.3g} time units"
            )
        if status == OVERFLOW:
            refuse_overflow(sample, unit)
        found.append(columns)
    columns = np.concatenate(found, axis=1)
    columns = columns[:, np.lexsort((columns[0], columns[2]))]
    per_sample = np.bincount(columns[2].astype(np.int64), minlength=events.offsets.size - 1)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(per_sample)])
    before, at_ready = (np.ascontiguousarray(columns[k : k + STATES].T) for k in (3, 3 + STATES))
    return Spikes(columns[0].copy(), columns[1].astype(np.int64), offsets, before, at_ready)


@dataclass
class Gradients:
    """By weights and delays [out, in], event times, and what belongs to each neuron."""

    weight: np.ndarray
    delay: np.ndarray
    recurrent_weight: np.ndarray
    recurrent_delay: np.ndarray
    times: np.ndarray
    theta: np.ndarray
    refractory: np.ndarray
    M: np.ndarray
    J: np.ndarray
    r: np.ndarray


def backward_pass(
    events: Events, synapses: tuple, recurrent: tuple | None, layer: Layer, out: Spikes, g_time: np.ndarray,
    g_jump: np.ndarray, need_times: bool, need_constants: bool, threads: int,
) -> Gradients:  # fmt: skip
    n_out = synapses[0].shape[0]
    samples = events.offsets.size - 1
    sample = np.repeat(np.arange(samples), np.diff(out.offsets))
    order = np.lexsort((out.times, out.units, sample))
    counts = np.bincount(sample * n_out + out.units, minlength=samples * n_out).reshape(samples, n_out)
    starts = np.zeros((samples, n_out + 1), np.int64)
    np.cumsum(counts, axis=1, out=starts[:, 1:])
    starts += out.offsets[:-1, None]
    by_neuron = out.times, out.before, out.at_ready, g_time, g_jump
    spikes = (*(np.ascontiguousarray(x[order]) for x in by_neuron), np.zeros(order.size))
    ends = layer.tables, layer.h, layer.steps, layer.duration
    if recurrent is not None:
        task = partial(adjoint.recurrent_jumps)
        of = out.offsets, starts, spikes, *recurrent, *ends
        _run([partial(task, lo, hi, *of) for lo, hi in _ranges(samples, _pieces(threads, samples))], threads)
    jumps = out.offsets, starts, spikes, out.times, out.units, recurrent is not None
    return swept_back(events, synapses, recurrent, layer, jumps, NO_SOURCE, need_times, need_constants, threads)


def swept_back(
    events: Events, synapses: tuple, recurrent: tuple | None, layer: Layer, jumps: tuple, source: tuple, need_times: bool,
    need_constants: bool, threads: int,
) -> Gradients:  # fmt: skip
    """:func:`.adjoint.backward` over all neurons. jumps: its ``spike_offsets`` .. ``given``; source: its ``source``,
    ``every`` and ``final``."""
    n_out = synapses[0].shape[0]
    weights_r = recurrent or (np.empty((0, 0)), np.empty((0, 0)))
    of, of_r = synapses[0].shape, weights_r[0].shape
    sums = np.zeros(of), np.zeros(of), np.zeros(of_r), np.zeros(of_r)
    of_neurons = np.zeros(n_out), np.zeros(n_out), np.zeros((n_out, 4, STATES, STATES))
    by_tables = np.zeros((2, n_out, STATES, STATES)), np.zeros((2, n_out, MOMENTS, STATES))
    blocks = -(-n_out // LANES)
    ranges = _ranges(blocks, min(blocks, _CHUNKS))
    parts = [np.zeros(events.times.size if need_times else 0) for _ in ranges]
    tasks = [
        partial(
            adjoint.backward, events.offsets, events.times, events.units, *synapses, lo, hi, *jumps, *weights_r,
            layer.tables, layer.h, layer.steps, layer.duration, need_constants, *source,
            (*sums, part, *of_neurons, *by_tables),
        )
        for (lo, hi), part in zip(ranges, parts, strict=True)
    ]  # fmt: skip
    _run(tasks, threads)
    by_theta, by_rest, by_m = of_neurons
    by_kept = by_m[:, 0]
    if need_constants:
        free, held = layer.by_matrices(*by_tables) + np.moveaxis(by_m[:, :2], 1, 0)
        by_kept = free + layer.constants.kept[:, None] * held
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return Gradients(*sums, total, by_theta, by_rest, by_kept, by_m[:, 2], by_m[:, 3, :, 0])
