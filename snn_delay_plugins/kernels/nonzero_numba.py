"""Where a row of numbers is not zero: compiled, for the loops over spikes."""

from __future__ import annotations

import numpy as np

from .compiled import njit

__all__ = ["entries", "room"]


@njit(nogil=True, cache=True)
def room(length):
    """Where :func:`entries` works: a flag per entry, the same as words of eight, and the places found."""
    words = np.zeros(-(-length // 8), np.uint64)
    return words.view(np.uint8), words, np.empty(8 * words.size + 1, np.int64)


@njit(nogil=True, cache=True)
def entries(row, flags, words, found):
    """Put the places of what is not zero in ``row`` into ``found``; how many there are."""
    for j in range(row.shape[0]):
        flags[j] = row[j] != 0
    n = 0
    for k in range(words.shape[0]):
        if words[k] != 0:
            for j in range(8 * k, 8 * k + 8):  # without a branch: where spikes are cannot be predicted
                found[n] = j
                n += flags[j]
    return n
