"""Whole delays over a list of synapses on the CPU: spikes visit their synapses.

The loops check each synapse that a spike visits: a look at the whole list would cost more than the few visits of a step.
"""

from __future__ import annotations

from ..compiled import njit

__all__ = ["sequence", "step"]


@njit(cache=True, nogil=True)
def sequence(first, last, spikes, starts, targets, delays, weights, out, longest):
    """Do all synapses fit that were visited?"""
    steps, _, receivers = out.shape
    for n in range(first, last):
        for t in range(spikes.shape[0]):
            for j in range(spikes.shape[2]):
                size = spikes[t, n, j]
                if size != 0:
                    begin, end = starts[j], starts[j + 1]
                    if begin < 0 or begin > end or end > weights.shape[0]:
                        return False
                    for s in range(begin, end):
                        delay, target = delays[s], targets[s]
                        if delay < 0 or delay > longest or target < 0 or target >= receivers:
                            return False
                        arrival = t + delay
                        if arrival < steps:
                            out[arrival, n, target] += size * weights[s]
    return True


@njit(cache=True, nogil=True)
def step(first, last, spikes, starts, targets, delays, weights, pending, longest, now):
    """Do all synapses fit that were visited? ``longest`` is one less than the slots of the ring."""
    slots, _, receivers = pending.shape
    for n in range(first, last):
        for j in range(spikes.shape[1]):
            size = spikes[n, j]
            if size != 0:
                begin, end = starts[j], starts[j + 1]
                if begin < 0 or begin > end or end > weights.shape[0]:
                    return False
                for s in range(begin, end):
                    delay, target = delays[s], targets[s]
                    if delay < 0 or delay > longest or target < 0 or target >= receivers:
                        return False
                    slot = now + delay
                    pending[slot if slot < slots else slot - slots, n, target] += size * weights[s]
    return True
