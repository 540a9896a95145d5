"""Whether events are what the other loops rely on: one pass, before anything is read by its indices."""

from __future__ import annotations

from ...compiled import njit

__all__ = ["events_fit"]


@njit(nogil=True, cache=True)
def events_fit(times, units, offsets, n_units, end):
    """Whether offsets rise from 0 to the number of events, units lie in [0, n_units) and times in [0, end]; whether times
    rise inside of every sample; and the last time."""
    if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != times.size or units.size != times.size:
        return False, False, 0.0
    ordered, last, outside = True, 0.0, False
    for b in range(offsets.size - 1):
        if offsets[b + 1] < offsets[b] or offsets[b + 1] > times.size:
            return False, False, 0.0
        before = 0.0
        for e in range(offsets[b], offsets[b + 1]):
            time = times[e]
            outside |= not ((time >= 0) & (time <= end))  # also NaN
            outside |= (units[e] < 0) | (units[e] >= n_units)
            ordered &= time >= before
            before = time
            last = max(last, time)
    return not outside, ordered, last
