r"""Gradients of the taps of recurrent synapses on the CPU: what spikes met,

.. math:: \bar K_{ij}[m] = \sum_{n, t} s_{nj}[t]\, \bar I_{ni}[t + 1 + \ell_{ij} + m].

Samples lie side by side as in :mod:`.numba`. Four synapses of a sender go over its spikes at once; the gradients of a block
of receivers stay in the cache. Samples, and some spikes each, are summed in double precision; blocks share no synapse.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..compiled import njit
from ..lanes_numba import LANES, meet_events
from ..threads import over_ranges
from .wiring import FOUR, Entries, Pairs

__all__ = ["tap_gradients"]

_SUMMED = 64  # spikes that are summed in the dtype of the currents before they are in double precision


@njit(nogil=True)
def _who_fired(trains, row, n0, side, fired):
    fired[:] = False
    for k in range(side):
        spikes = trains[row, n0 + k]
        for j in range(fired.size):
            fired[j] |= spikes[j] != 0


@njit(cache=True, nogil=True)
def _count_events(begin, end, trains, counts):
    """How many rows of each sender have a spike in any sample of a group: ``counts`` ``[groups, F]``."""
    fired = np.empty(trains.shape[2], np.bool_)
    for group in range(begin, end):
        n0 = group * LANES
        for row in range(trains.shape[0]):
            _who_fired(trains, row, n0, min(LANES, trains.shape[1] - n0), fired)
            of_group = counts[group]
            for j in range(fired.size):
                of_group[j] += fired[j]


@njit(cache=True, nogil=True)
def _list_events(begin, end, trains, after, rows, values):
    """These rows, and the spikes of the group side by side, from ``after`` of each group and sender on."""
    fired = np.empty(trains.shape[2], np.bool_)
    for group in range(begin, end):
        n0 = group * LANES
        side = min(LANES, trains.shape[1] - n0)
        for row in range(trains.shape[0]):
            _who_fired(trains, row, n0, side, fired)
            for j in range(fired.size):
                if fired[j]:
                    e = after[group, j]
                    rows[e] = row
                    for k in range(side):
                        values[e * LANES + k] = trains[row, n0 + k, j]
                    after[group, j] += 1


class _Events(NamedTuple):
    """Spikes by group of samples and sender."""

    offsets: np.ndarray
    """Those of group g and sender j are ``offsets[g F + j] ... offsets[g F + j + 1]``."""
    rows: np.ndarray
    values: np.ndarray
    """``[events * LANES]``."""


def _events(trains: np.ndarray) -> _Events:
    groups, features = -(-trains.shape[1] // LANES), trains.shape[2]
    counts = np.zeros((groups, features), np.int64)
    over_ranges(lambda begin, end: _count_events(begin, end, trains, counts), groups)
    offsets = np.append(0, np.cumsum(counts))
    rows, values = np.empty(offsets[-1], np.int32), np.zeros(offsets[-1] * LANES, trains.dtype)
    after = offsets[:-1].reshape(counts.shape).copy()
    over_ranges(lambda begin, end: _list_events(begin, end, trains, after, rows, values), groups)
    return _Events(offsets, rows, values)


@njit(cache=True, nogil=True)
def _taps_met(begin, end, entries, events, room, before, g_current, met):
    """What spikes met at every tap, flat [entries, 2], of the blocks ``begin ... end``."""
    steps, samples, features = g_current.shape
    block = entries.block
    line = np.zeros(block * room * LANES, g_current.dtype)
    for b in range(begin, end):
        width = min(block, features - b * block)
        for group in range(-(-samples // LANES)):
            n0 = group * LANES
            side = min(LANES, samples - n0)
            for t in range(steps):
                for k in range(side):
                    row = g_current[t, n0 + k, b * block : b * block + width]
                    for m in range(width):
                        line[(m * room + before + t) * LANES + k] = row[m]
            for j in range(features):
                first, last = events.offsets[group * features + j], events.offsets[group * features + j + 1]
                for e in range(entries.starts[b, j], entries.starts[b, j + 1], FOUR):
                    while last > first and events.rows[last - 1] > before + steps - 2 - entries.lags[e]:
                        last -= 1
                    for part in range(first, last, _SUMMED):
                        meet_events(
                            met, e, entries.places, -b * block * room, line, events.rows, events.values, part,
                            min(part + _SUMMED, last),
                        )  # fmt: skip


def tap_gradients(
    pairs: Pairs, lists: tuple[Entries, ...], room: int, past: Tensor, spikes: Tensor, g_current: np.ndarray
) -> Tensor:
    """``[width, synapses]``, of the synapses in the ``lists``, by senders with lines of ``room`` rows.

    :param past: and ``spikes``: ``[H, N, F]`` and ``[T, N, F]``. :param g_current: ``[T, N, F]``.
    """
    events = _events(torch.cat([past, spikes]).detach().numpy())
    gradients = np.zeros(pairs.taps.shape)
    for entries in lists:
        met = np.zeros(entries.taps.size)
        arguments = entries, events, room, len(past), g_current, met
        over_ranges(lambda begin, end, arguments=arguments: _taps_met(begin, end, *arguments), len(entries.starts))
        exists = entries.sources >= 0
        gradients[entries.sources[exists]] = met.reshape(-1, 2)[exists]
    return torch.from_numpy(pairs.unfolded(gradients)).to(spikes.dtype)
