"""Linear neurons without threshold: states at samples and at the end. Backwards as spiking neurons that do not spike."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...compiled import njit
from .arrivals import ahead, block_synapses, longest_sample, room_for_block, scatter
from .cpu import Events, Gradients, _pieces, _ranges, _run, swept_back
from .flow import LANES, OPTIONS, STATES
from .tables import Layer

__all__ = ["readout", "readout_backward"]


def readout(events: Events, synapses: tuple, layer: Layer, samples: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """V at the start of every ``layer.steps / samples``-th step [samples, N, out], and x at the end [N, out, 3]."""
    n_out, batch = synapses[0].shape[0], events.offsets.size - 1
    voltage, final = np.empty((samples, batch, n_out)), np.empty((batch, n_out, STATES))
    blocks = -(-n_out // LANES)
    every = layer.steps // samples if samples else layer.steps + 1
    of = events.offsets, events.times, events.units, *synapses
    rest = layer.tables, layer.h, layer.steps, every, voltage, final
    _run([partial(_sampled, *of, lo, hi, *rest) for lo, hi in _ranges(blocks, _pieces(threads, blocks))], threads)
    return voltage, final


def readout_backward(
    events: Events, synapses: tuple, layer: Layer, by_voltage: np.ndarray, by_final: np.ndarray, need_times: bool,
    need_constants: bool, threads: int,
) -> Gradients:  # fmt: skip
    """``by_voltage`` [samples or none, N, out], ``by_final`` [N or none, out, 3]: dL of what :func:`readout` gives."""
    n_out, batch = synapses[0].shape[0], events.offsets.size - 1
    every = layer.steps // by_voltage.shape[0] if by_voltage.shape[0] else 1
    spikes = np.empty(0), np.empty((0, STATES)), np.full((1, STATES), np.nan), np.empty(0), np.empty(0), np.empty(0)
    nobody = np.zeros(batch + 1, np.int64), np.zeros((batch, n_out + 1), np.int64), spikes
    jumps = *nobody, np.empty(0), np.empty(0, np.int64), False
    source = by_voltage, every, by_final
    return swept_back(events, synapses, None, layer, jumps, source, need_times, need_constants, threads)


@njit(**OPTIONS)
def _sampled(offsets, times, units, weight, delay, block_lo, block_hi, layer, h, steps, every, voltage, final):
    P, C, c = layer[1], layer[2], layer[4]
    n_out, n_in = weight.shape
    rows, inverse = steps + 1, 1 / h
    bucket, head, chain, bw, bd = room_for_block(longest_sample(offsets), rows, n_in)
    for block in range(block_lo, block_hi):
        block_synapses(weight, delay, block, bw, bd)
        for sample in range(offsets.size - 1):
            of = slice(offsets[sample], offsets[sample + 1])
            bucket[:] = 0
            scatter(times[of], units[of], bw, bd, inverse, steps, rows, 0, 0, bucket, head, chain)
            for lane in range(min(LANES, n_out - block * LANES)):
                j = block * LANES + lane
                x0 = x1 = x2 = 0.0
                for n in range(steps):
                    if n % every == 0 and n // every < voltage.shape[0]:
                        voltage[n // every, sample, j] = c[0] * x0 + c[1] * x1 + c[2] * x2
                    x0, x1, x2 = ahead(P[0, j], C[0, j], bucket, lane * rows + n, (x0, x1, x2))
                final[sample, j, 0], final[sample, j, 1], final[sample, j, 2] = x0, x1, x2
