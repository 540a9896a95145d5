r"""Recurrent synapses as the loops of :mod:`.numba` visit them.

A synapse is one entry per two taps, :math:`(K[2 p], K[2 p + 1])` at the lag :math:`\ell + 2 p`. Entries are listed for a
unit, sender or receiver, and within a block of the units on their other end, so that what a unit reads or writes of a
block stays in the cache; within that the shortest lags come first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..compiled import njit
from ..lanes_numba import WINDOW

__all__ = ["BLOCK", "FOUR", "Entries", "Pairs", "pairs_of"]

BLOCK = 32
FOUR = 4  # entries that are visited as one
_NEVER = 1 << 40  # a lag that nothing outlasts
_MANY = 64  # entries per unit from which there are several blocks


class Entries(NamedTuple):
    """What the compiled loops take."""

    starts: np.ndarray
    """``[blocks, F + 1]``: those of unit u and block b are ``starts[b, u] ... starts[b, u + 1]``."""
    places: np.ndarray
    """Of each, where the line of the unit on its other end begins, in rows, with the lag: what the row of a spike, or of a
    window, is added to."""
    lags: np.ndarray
    taps: np.ndarray
    """``[entries, 2]``."""
    sources: np.ndarray
    """Which of the pairs each is; -1: none, for filling up."""
    block: int


class Pairs(NamedTuple):
    """All entries in the order of the synapses, pair by pair."""

    receivers: np.ndarray
    senders: np.ndarray
    lags: np.ndarray
    taps: np.ndarray
    """``[pairs * synapses, 2]``."""

    width: int
    """Taps of a synapse."""

    def unfolded(self, values: np.ndarray) -> np.ndarray:
        """``[pairs * synapses, 2]`` as ``[width, synapses]``."""
        pairs = -(-self.width // 2)
        return np.ascontiguousarray(values.reshape(pairs, -1, 2).transpose(0, 2, 1).reshape(2 * pairs, -1)[: self.width])

    def split(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Which end within a window, and which later, of those that reach anything in so many steps."""
        near = self.lags < WINDOW - 1
        return np.flatnonzero(near & (self.lags < rows)), np.flatnonzero(~near & (self.lags < rows))

    def by_sender(self, which: np.ndarray, features: int, room: int) -> Entries:
        """Lines of receivers, of ``room`` rows: place + r is where the first tap of a spike of row r lands."""
        return self._listed(which, self.senders, self.receivers, features, room, 1, 1, self.taps)

    def by_receiver(self, which: np.ndarray, features: int, room: int) -> Entries:
        """Lines of senders: place + r is the spike whose second tap lands in row r, place + r + 1 that of the first."""
        return self._listed(which, self.receivers, self.senders, features, room, -2, -1, self.taps[:, ::-1])

    def _listed(self, which, units, others, features, room, ahead, sign, taps) -> Entries:
        units, others, lags = units[which], others[which], self.lags[which]
        block = BLOCK if which.size >= _MANY * features else features
        starts, order = _arranged(units, others, lags, features, block)
        exists = order >= 0
        order = np.where(exists, order, ~order)
        lags, sources = lags[order], which[order]
        places = others[order] * room + ahead + sign * lags
        if (features + 1) * room < 1 << 31:
            places = places.astype(np.int32)
        of_order = np.ascontiguousarray(taps[sources])
        of_order[~exists] = 0
        return Entries(starts, places, lags, of_order, np.where(exists, sources, -1), block)


@njit(cache=True, nogil=True)
def _arranged(units, others, lags, features, block):
    """By block of others, then unit, then lag; those of a unit and block are filled up to a multiple of FOUR by the
    last one, negated (~)."""
    blocks = -(-features // block)
    longest = lags.max() if lags.size else 0
    after = np.zeros(longest + 2, np.int64)
    for lag in lags:
        after[lag + 1] += 1
    for k in range(1, after.size):
        after[k] += after[k - 1]
    by_lag = np.empty(lags.size, np.int64)
    for e in range(lags.size):
        by_lag[after[lags[e]]] = e
        after[lags[e]] += 1
    counts = np.zeros(blocks * features, np.int64)
    for e in range(lags.size):
        counts[others[e] // block * features + units[e]] += 1
    starts = np.zeros((blocks, features + 1), np.int64)
    next_free = np.empty(counts.size, np.int64)
    end = 0
    for b in range(blocks):
        for u in range(features):
            starts[b, u] = next_free[b * features + u] = end
            end += -(-counts[b * features + u] // FOUR) * FOUR
        starts[b, features] = end
    order = np.empty(end, np.int64)
    for e in by_lag:
        key = others[e] // block * features + units[e]
        order[next_free[key]] = e
        next_free[key] += 1
    for b in range(blocks):
        for u in range(features):
            for e in range(next_free[b * features + u], starts[b, u + 1]):
                order[e] = ~order[next_free[b * features + u] - 1]
    return starts, order


@lru_cache(maxsize=8)
def _all_to_all(features: int) -> tuple[np.ndarray, np.ndarray]:
    receivers, senders = np.divmod(np.arange(features * features), features)
    return receivers, senders


def pairs_of(taps: Tensor, lags: Tensor, ends: Tensor | None, features: int) -> Pairs:
    """:param taps: ``[width, synapses]``; :param ends: receivers and senders, ``[2, synapses]``, None: all to all."""
    receivers, senders = _all_to_all(features) if ends is None else ends.numpy()
    given, first = taps.detach().numpy(), np.minimum(lags.detach().numpy(), _NEVER)
    width, synapses = given.shape
    pairs = -(-width // 2)
    both = np.zeros((pairs, synapses, 2), given.dtype)
    both[:, :, 0] = given[0::2]
    both[: width // 2, :, 1] = given[1::2]
    lag = (first + 2 * np.arange(pairs)[:, None]).ravel()
    return Pairs(np.tile(receivers, pairs), np.tile(senders, pairs), lag, both.reshape(-1, 2), width)
