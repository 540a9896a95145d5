"""Drivers of the compiled loops: step length, tables of the neurons, threads. NumPy float64 arrays in and out.

Passes are split by neurons, forward passes of recurrent layers by samples, over ``threads`` Python threads (the loops
release the GIL). Every sum is taken in an order that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from ....bins import steps_in
from ...checks import memory
from ...threads import pool
from ..neuron import TooManySpikes, refuse_overflow
from . import adjoint, forward
from .flow import ENDLESS, LANES, MOMENTS, MOST_IN_STEP, OVERFLOW, STATES, TERMS, TOO_MANY_SPIKES

__all__ = ["Constants", "Events", "Gradients", "Layer", "Spikes", "backward_pass", "forward_pass", "steps_at_least"]

_SHORT = 0.25  # step times the largest rate: the polynomials of eight moments are exact to 1e-14
_CHUNKS = 8  # neurons are split into this many runs when derivatives by event times are summed over them


@dataclass(frozen=True)
class Constants:
    """M, J [out, n, n], r [out, n], theta and refractory [out]; B, c and kept [n]: 0 for states held in the refractory
    period."""

    M: np.ndarray
    B: np.ndarray
    c: np.ndarray
    J: np.ndarray
    r: np.ndarray
    theta: np.ndarray
    refractory: np.ndarray
    kept: np.ndarray

    @property
    def padded(self) -> Constants:
        """With states that stay zero up to STATES of them."""
        more = STATES - self.B.size
        square, row = ((0, 0), (0, more), (0, more)), ((0, 0), (0, more))
        return replace(
            self, M=np.pad(self.M, square), J=np.pad(self.J, square), r=np.pad(self.r, row),
            B=np.pad(self.B, (0, more)), c=np.pad(self.c, (0, more)), kept=np.pad(self.kept, (0, more)),
        )  # fmt: skip


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


def steps_at_least(M: np.ndarray, duration: float, dt: float) -> float:
    """Duration over the step's longest length: no longer than dt, and short beside all rates of M."""
    return duration * max(1 / dt, _largest_rate(M) / _SHORT)


def _largest_rate(M: np.ndarray) -> float:
    """A bound on the largest |eigenvalue|, some percent above it: |M^64|^(1/64). NumPy's eigenvalues take fifty times as
    long."""
    size = float(np.abs(M).max(initial=0.0))
    if not 0 < size < np.inf:
        return size
    power, logarithm = M / size, 0.0
    for _ in range(6):
        power = power @ power
        size_of = np.maximum(np.abs(power).max((1, 2), keepdims=True), 1e-300)
        power, logarithm = power / size_of, 2 * logarithm + np.log(size_of)
    return size * float(np.exp((logarithm + np.log(M.shape[-1])) / 64).max())


_layers: deque[tuple[tuple, Layer]] = deque(maxlen=8)


@dataclass(frozen=True)
class Layer:
    """Padded constants, steps, and what the loops read of the neurons."""

    constants: Constants
    steps: int
    h: float
    duration: float
    tables: tuple[np.ndarray, ...]
    series: np.ndarray  # M^k / k!, [out, TERMS, 3, 3]

    @cached_property
    def is_finite(self) -> bool:
        return all(bool(np.isfinite(x).all()) for x in self.tables)

    @staticmethod
    def of(constants: Constants, duration: float, dt: float) -> Layer:
        """The tables of the last few layers are kept, for their backward passes."""
        key = duration, dt, *(x.tobytes() for x in vars(constants).values())
        for known, layer in list(_layers):
            if known == key:
                return layer
        with np.errstate(over="ignore", invalid="ignore"):  # refused where it is used
            layer = Layer._of(constants, duration, dt)
        _layers.append((key, layer))
        return layer

    @staticmethod
    def _of(constants: Constants, duration: float, dt: float) -> Layer:
        steps = max(1, steps_in(steps_at_least(constants.M, duration, dt), 1.0))
        h = duration / steps
        k = constants.padded
        M = np.stack([k.M, k.kept[:, None] * k.M])
        flows = M if k.refractory.any() else M[:1]  # else nothing is ever held
        P = np.broadcast_to(_exp(flows * h), M.shape)
        slope = k.c @ k.M
        series = np.empty((k.theta.size, TERMS, STATES, STATES))
        series[:, 0] = np.eye(STATES)
        for n in range(1, TERMS):
            series[:, n] = series[:, n - 1] @ k.M / n
        taylor = k.c @ series
        size = np.abs(k.M)
        curvature = np.einsum("ji,jik->jk", np.abs(np.einsum("ji,jik->jk", slope, k.M)), _exp(size * h)) * (1 + 1e-9)
        C = _polynomials(_arrived(flows, k.B, h))
        C = np.broadcast_to(C, (2, *C.shape[1:]))
        tables = M, P, C, k.B, k.c, k.J, k.r, k.theta, k.refractory, taylor, curvature, slope
        return Layer(k, steps, h, duration, tuple(np.ascontiguousarray(x, dtype=np.float64) for x in tables), series)

    def by_matrices(self, by_p: np.ndarray, by_c: np.ndarray) -> np.ndarray:
        """dL/d(M, M_held) [2, out, 3, 3] from the derivatives by P and C of both."""
        M, B = self.tables[0], self.constants.B
        by_nodes = np.einsum("nk,xjki->nxji", _interpolation(), by_c)
        grad = _by_exponent(M * self.h, by_p) * self.h
        for part, node in zip(by_nodes, _nodes(), strict=True):
            time = self.h * (1 - node) / 2
            grad = grad + _by_exponent(M * time, part[..., None] * B) * time
        return grad


@cache
def _nodes() -> np.ndarray:
    return np.cos(np.pi * (2 * np.arange(MOMENTS) + 1) / (2 * MOMENTS))


def _arrived(M: np.ndarray, B: np.ndarray, h: float) -> np.ndarray:
    """exp(M h (1 - f) / 2) B at the nodes f [8, ..., 3]."""
    size = float(np.abs(M).sum(-1).max(initial=0.0)) * h
    if not size < 2:  # its series would be long
        return _exp(M * (h * (1 - _nodes()) / 2)[:, None, None, None, None]) @ B
    term = np.broadcast_to(B, M.shape[:-1])
    total, power, n = np.zeros((MOMENTS, *term.shape)), np.ones(MOMENTS), 0
    largest = 1.0
    while largest > 1e-18:
        total += power[:, None, None, None] * term
        n += 1
        term = np.einsum("xjik,xjk->xji", M, term)
        power, largest = power * (h * (1 - _nodes()) / (2 * n)), largest * size / n
    return total


@cache
def _chebyshev() -> tuple[np.ndarray, np.ndarray]:
    """Coefficients by Chebyshev polynomials of values at the nodes, and powers of f by them."""
    k = np.arange(MOMENTS)
    transform = np.cos(np.outer(k, np.pi * (2 * k + 1) / (2 * MOMENTS))) * 2 / MOMENTS
    transform[0] /= 2
    powers = np.zeros((MOMENTS, MOMENTS))
    for n in k:
        powers[: n + 1, n] = np.polynomial.chebyshev.cheb2poly(np.eye(MOMENTS)[n])[: n + 1]
    return transform, powers


def _polynomials(values: np.ndarray) -> np.ndarray:
    """Coefficients of powers of f [2, out, 8, 3] of the polynomials through the values at the nodes [8, 2, out, 3]."""
    transform, powers = _chebyshev()
    return np.moveaxis(np.tensordot(powers, np.tensordot(transform, values, 1), 1), 0, 2)


def _interpolation() -> np.ndarray:
    """[node, power]: transposed _polynomials."""
    transform, powers = _chebyshev()
    return (powers @ transform).T


def _exp(matrices: np.ndarray) -> np.ndarray:
    """exp - 1 of a power of 1/2 of the matrices by its series, doubled; torch.linalg.matrix_exp is right to 2e-12 alone."""
    size = float(np.abs(matrices).sum(-1).max(initial=0.0))
    if not size < np.inf:
        return np.full_like(matrices, np.nan)
    doublings = max(0, int(np.ceil(np.log2(size / 0.25)))) if size > 0 else 0
    matrices = matrices / 2.0**doublings
    term = less_one = matrices
    for n in range(2, 15):
        term = term @ matrices / n
        less_one = less_one + term
    for _ in range(doublings):
        less_one = 2 * less_one + less_one @ less_one
    return less_one + np.eye(matrices.shape[-1])


def _by_exponent(X: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """dL/dX from dL/d exp(X): a block of the exponential of a matrix of twice the size."""
    n = X.shape[-1]
    scale = float(np.abs(grad).max(initial=0.0)) or 1.0  # so that the series need not care for the size of the loss
    both = np.zeros((*X.shape[:-2], 2 * n, 2 * n))
    both[..., :n, :n] = both[..., n:, n:] = np.swapaxes(X, -1, -2)
    both[..., :n, n:] = grad / scale
    return _exp(both)[..., :n, n:] * scale


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
    ends = layer.tables, layer.series, layer.h, layer.steps, layer.duration, max_spikes, _room_for(synapses[0].shape[0])
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
            raise RuntimeError(
                f"neuron {unit} in sample {sample} fires almost without end, within max_spikes = {max_spikes}: more "
                f"spikes than memory holds, or than {MOST_IN_STEP} of each neuron in a step of {layer.h:.3g} time units. "
                "Lower the weights, lengthen the recurrent delays, or give neurons a refractory period"
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


def _room_for(n_out: int) -> int:
    """Spikes that fit into an eighth of the memory, with what a recurrent layer keeps of each."""
    return memory() // (8 * (8 * forward.COLUMN + 4 * n_out))


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
    weights_r = recurrent or (np.empty((0, 0)), np.empty((0, 0)))
    of, of_r = synapses[0].shape, weights_r[0].shape
    sums = np.zeros(of), np.zeros(of), np.zeros(of_r), np.zeros(of_r)
    of_neurons = np.zeros(n_out), np.zeros(n_out), np.zeros((n_out, 4, STATES, STATES))
    by_tables = np.zeros((2, n_out, STATES, STATES)), np.zeros((2, n_out, MOMENTS, STATES))
    blocks = -(-n_out // LANES)
    ranges, none = _ranges(blocks, min(blocks, _CHUNKS)), np.empty((0, 0, 0))
    parts = [np.zeros(events.times.size if need_times else 0) for _ in ranges]
    tasks = [
        partial(
            adjoint.backward, events.offsets, events.times, events.units, *synapses, lo, hi, out.offsets, starts, spikes,
            out.times, out.units, recurrent is not None, *weights_r, *ends, need_constants, none, 1, none,
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
