"""States of the neurons over time, for plots: the forward pass again, from its spikes, sampled."""

from __future__ import annotations

import math

import numpy as np

from ...compiled import njit
from .adjoint import replay
from .arrivals import block_synapses, longest_sample, scatter
from .cpu import Events, Spikes
from .flow import LANES, MOMENTS, OPTIONS, STATES
from .tables import Constants, Layer, steps_at_least

__all__ = ["sampled_states"]


def sampled_states(
    events: Events, synapses: tuple, recurrent: tuple | None, constants: Constants, dt: float, samples: int, out: Spikes
) -> np.ndarray:
    """[samples, N, out, 3]: x(n dt). Arguments as of :func:`.cpu.forward_pass`, whose result is ``out``."""
    every = max(1, math.ceil(dt * steps_at_least(constants.M, 1.0, math.inf) * (1 - 1e-12)))
    layer = Layer.of(constants, samples * dt, dt / every)
    if layer.steps % samples:
        raise ValueError(f"dt = {dt:g} does not cut {samples * dt:g} into {samples} steps")
    n_out, batch = synapses[0].shape[0], events.offsets.size - 1
    sample = np.repeat(np.arange(batch), np.diff(out.offsets))
    order = np.lexsort((out.times, out.units, sample))
    counts = np.bincount(sample * n_out + out.units, minlength=batch * n_out).reshape(batch, n_out)
    starts = np.zeros((batch, n_out + 1), np.int64)
    np.cumsum(counts, axis=1, out=starts[:, 1:])
    starts += out.offsets[:-1, None]
    by_neuron = tuple(np.ascontiguousarray(x[order]) for x in (out.times, out.before, out.at_ready))
    states = np.empty((samples, batch, n_out, STATES))
    weights_r = recurrent or (np.empty((0, 0)), np.empty((0, 0)))
    _states(
        events.offsets, events.times, events.units, *synapses, out.offsets, starts, by_neuron, out.times, out.units,
        *weights_r, layer.tables, layer.h, layer.steps, layer.duration, layer.steps // samples, states,
    )  # fmt: skip
    return states


@njit(**OPTIONS)
def _states(
    offsets, times, units, weight, delay, spike_offsets, starts, spikes, out_t, out_u, weight_r, delay_r, layer, h, steps,
    duration, every, states,
):  # fmt: skip
    n_out, n_in = weight.shape
    rows, inverse, loops = steps + 1, 1 / h, weight_r.shape[0] > 0
    n_r = n_out if loops else 0
    longest, most = longest_sample(offsets), longest_sample(spike_offsets)
    bucket, head = np.empty(MOMENTS * LANES * rows), np.empty(LANES * rows, np.int32)
    chain, chain_r = np.empty((longest, LANES), np.int32), np.empty((most, LANES), np.int32)
    echo = np.empty((most, n_out), np.int32)
    s, w, x = np.empty(longest + most + 1), np.empty(longest + most + 1), np.empty((steps, STATES))
    bw, bd = np.empty((n_in, LANES)), np.empty((n_in, LANES))
    rw, rd = np.empty((n_r, LANES)), np.empty((n_r, LANES))
    for block in range((n_out + LANES - 1) // LANES):
        block_synapses(weight, delay, block, bw, bd)
        if loops:
            block_synapses(weight_r, delay_r, block, rw, rd)
        lanes = min(LANES, n_out - block * LANES)
        for sample in range(offsets.size - 1):
            of = slice(offsets[sample], offsets[sample + 1])
            of_spikes = slice(spike_offsets[sample], spike_offsets[sample + 1])
            et, eu, ot, ou = times[of], units[of], out_t[of_spikes], out_u[of_spikes]
            bucket[:], head[:] = 0, -1
            scatter(et, eu, bw, bd, inverse, steps, rows, 0, 0, bucket, head, chain)
            if loops:
                scatter(ot, ou, rw, rd, inverse, steps, rows, 0, eu.size, bucket, head, chain_r)
                for lane in range(lanes):
                    echo[: ou.size, block * LANES + lane] = chain_r[: ou.size, lane]
            listing = head, chain, echo, et, eu, weight, delay, ot, ou, weight_r, delay_r, s, w
            for lane in range(lanes):
                j = block * LANES + lane
                lo, hi = starts[sample, j], starts[sample, j + 1]
                replay(layer, j, bucket, rows, lane, listing, spikes, lo, hi, h, steps, duration, x)
                for n in range(states.shape[0]):
                    states[n, sample, j] = x[n * every]
