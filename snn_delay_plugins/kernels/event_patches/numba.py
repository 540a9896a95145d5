"""Compiled loops of :mod:`.operator`: counting sorts by row, stable, so that the times of a row stay in order."""

from __future__ import annotations

import numpy as np

from ..compiled import njit

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def row_offsets(units, offsets, starts, patches, num_patches, first, channels):
    """[rows + 1]: where the events of each row begin."""
    samples, sites = offsets.size - 1, starts.size - 1
    begin = np.zeros(num_patches * samples + 1, np.int64)
    for b in range(samples):
        for e in range(offsets[b], offsets[b + 1]):
            channel = units[e] // sites
            if first <= channel < first + channels:
                site = units[e] - channel * sites
                for k in range(starts[site], starts[site + 1]):
                    begin[patches[k] * samples + b + 1] += 1
    for r in range(begin.size - 1):
        begin[r + 1] += begin[r]
    return begin


@njit(**OPTIONS)
def sort_into(times, units, offsets, starts, patches, taps, num_taps, first, channels, begin, out_times, out_units):
    samples, sites = offsets.size - 1, starts.size - 1
    cursor = begin[:-1].copy()
    for b in range(samples):
        for e in range(offsets[b], offsets[b + 1]):
            channel = units[e] // sites
            if first <= channel < first + channels:
                site, base = units[e] - channel * sites, (channel - first) * num_taps
                for k in range(starts[site], starts[site + 1]):
                    r = patches[k] * samples + b
                    out_times[cursor[r]] = times[e]
                    out_units[cursor[r]] = base + taps[k]
                    cursor[r] += 1


@njit(**OPTIONS)
def sum_back(grad, units, offsets, starts, patches, first, channels, begin, out):
    """Sum over what became of an event."""
    samples, sites = offsets.size - 1, starts.size - 1
    cursor = begin[:-1].copy()
    for b in range(samples):
        for e in range(offsets[b], offsets[b + 1]):
            channel = units[e] // sites
            if first <= channel < first + channels:
                site, total = units[e] - channel * sites, 0.0
                for k in range(starts[site], starts[site + 1]):
                    r = patches[k] * samples + b
                    total += grad[cursor[r]]
                    cursor[r] += 1
                out[e] = total
