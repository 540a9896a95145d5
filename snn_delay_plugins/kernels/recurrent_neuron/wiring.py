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

__all__ = ["FOUR", "Entries", "Pairs", "pairs_of"]

FOUR = 4  # entries that are visited as one
_BLOCK = 32
_NEAR = WINDOW - 1  # the first lag of which no spike lands in its own window
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

    def near_by_sender(self, rows: int, features: int, room: int) -> Entries:
        """Those that end within a window, of what reaches anything in so many steps. Lines of receivers, of ``room`` rows:
        place + r is where the first tap of a spike of row r lands."""
        return self._listed(self.senders, self.receivers, (0, min(_NEAR, rows)), features, room, 1)

    def far_by_sender(self, rows: int, features: int, room: int) -> Entries:
        """Those that end later."""
        return self._listed(self.senders, self.receivers, (_NEAR, rows), features, room, 1)

    def far_by_receiver(self, rows: int, features: int, room: int) -> Entries:
        """Lines of senders: place + r is the spike whose second tap lands in row r, place + r + 1 that of the first."""
        return self._listed(self.receivers, self.senders, (_NEAR, rows), features, room, -1)

    def _listed(self, units, others, between: tuple[int, int], features: int, room: int, direction: int) -> Entries:
        like = np.empty(0, np.int32 if (features + 1) * room < 1 << 31 else np.int64)
        return Entries(*_arranged(units, others, self.lags, self.taps, *between, features, room, direction, like))


@njit(cache=True, nogil=True)
def _arranged(units, others, lags, taps, low, high, features, room, direction, like):
    """What :class:`Entries` holds, of lags from ``low`` to below ``high``, by block of others, unit and lag; those of
    a unit and block are filled up to a multiple of FOUR by the last one, without taps. ``like``: dtype of the places."""
    after = np.zeros(max(high, low) + 2, np.int64)
    for lag in lags:
        if low <= lag < high:
            after[lag + 1] += 1
    for k in range(1, after.size):
        after[k] += after[k - 1]
    by_lag = np.empty(after[-1], np.int64)
    for e in range(lags.size):
        if low <= lags[e] < high:
            by_lag[after[lags[e]]] = e
            after[lags[e]] += 1
    block = _BLOCK if by_lag.size >= _MANY * features else features
    blocks = -(-features // block)
    counts = np.zeros((blocks, features), np.int64)
    for e in by_lag:
        counts[others[e] // block, units[e]] += 1
    starts, free = np.zeros((blocks, features + 1), np.int64), np.empty((blocks, features), np.int64)
    end = 0
    for b in range(blocks):
        for u in range(features):
            starts[b, u] = free[b, u] = end
            end += -(-counts[b, u] // FOUR) * FOUR
        starts[b, features] = end
    places, of_lags, sources = np.empty(end, like.dtype), np.empty(end, np.int64), np.full(end, -1)
    pairs = np.zeros((end, 2), taps.dtype)
    for e in by_lag:
        b, u = others[e] // block, units[e]
        at = free[b, u]
        free[b, u] += 1
        places[at] = others[e] * room + (lags[e] + 1 if direction > 0 else -lags[e] - 2)
        of_lags[at], sources[at] = lags[e], e
        pairs[at, 0], pairs[at, 1] = taps[e, 0 if direction > 0 else 1], taps[e, 1 if direction > 0 else 0]
    for b in range(blocks):
        for u in range(features):
            for at in range(free[b, u], starts[b, u + 1]):
                places[at], of_lags[at] = places[free[b, u] - 1], of_lags[free[b, u] - 1]
    return starts, places, of_lags, pairs, sources, block


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
