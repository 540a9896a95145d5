"""Synapses of a line as a list, in compiled loops on the CPU (:mod:`.delay_line`).

The spikes of a step are taken in one of two forms. Few of them visit their synapses, which add to the currents to come;
many are kept, samples side by side, until every synapse has fetched them in the steps in which they are due. Backwards
few meet the gradients that they led to one by one, many as sums over a stretch of steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..checks import LONGEST, check_room, check_synapse_indices
from ..op_counts import announce
from ..threads import over_ranges
from . import numba as loops

__all__ = ["ListedSynapses", "entries_of", "numbers_of"]

_MANY = 1.0  # events per sender and block of samples from which all senders are visited
_STILL_MANY = 0.25  # ... where synapses fetch what came before in any case
_FOR_THREADS = 200_000  # additions from which a step is split among threads


class ListedSynapses:
    """A window of taps per synapse, ordered by sender and receiver. The loops do not look where they read and write: they
    have arrays of their own, which nobody else can write into or free.

    :param taps: ``[synapses, width]``, differentiable. :param lags: of the first tap of each. :param starts: int64
        ``[in + 1]``: where the synapses of a sender begin. :param targets: their receivers. :param longest: the longest
        lag that can be.
    """

    def __init__(
        self, taps: Tensor, lags: Tensor, starts: Tensor, targets: Tensor, out_features: int, longest: int
    ) -> None:
        self.taps, self.dtype = taps, taps.dtype
        check_synapse_indices(starts, targets, lags, out_features, longest)  # the loops do not look
        self.weights = taps.detach().resolve_neg().contiguous().numpy()
        if taps.shape[1] == 1:  # may be the layer's own weights; wider ones were computed from these
            self.weights = self.weights.copy()
        self.senders, self.receivers, self.width = starts.numel() - 1, out_features, taps.shape[1]
        self.reach = (int(lags.max()) if lags.numel() else 0) + self.width
        self.room = max(8, self.reach // 3)  # steps between two moves of what is on its way
        padded = 2 if self.width <= 2 else -(-self.width // 8) * 8  # taps that the loop over all synapses takes at once
        self.length = self.reach + self.room + padded - self.width
        check_room(f"a list of {taps.shape[0]} synapses with delays up to {self.reach - self.width}", self.size(1))
        places = targets.long() * self.length + lags
        if max(out_features, self.senders) * self.length <= LONGEST:
            places = places.int()  # half the memory that the loops visit
        self.tables = starts.numpy().copy(), places.numpy(), self.weights
        self.padded = np.pad(self.weights, ((0, 0), (0, padded - self.width))) if padded > self.width else self.weights
        self._by_receiver: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def by_sender(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tables for :meth:`visit`."""
        return *self.tables[:2], self.padded

    @property
    def by_receiver(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same with senders and receivers exchanged."""
        if self._by_receiver is None:
            starts, places, _ = self.tables
            targets, lags = np.divmod(places, places.dtype.type(self.length))
            order = np.argsort(targets, kind="stable")
            senders = np.repeat(np.arange(self.senders, dtype=places.dtype), np.diff(starts))
            first = np.searchsorted(targets[order], np.arange(self.receivers + 1))
            self._by_receiver = first, (senders * self.length + lags)[order].astype(places.dtype), self.padded[order]
        return self._by_receiver

    def announce(self, spikes: Tensor) -> None:
        """Show a counter of operations what the loops do with these spikes."""
        taps_of = np.add.reduceat(np.append(np.count_nonzero(self.weights, axis=1), 0), self.tables[0][:-1])
        taps_of[np.diff(self.tables[0]) == 0] = 0
        announce(spikes, torch.from_numpy(taps_of.astype(np.int64)))

    def ranges(self, loop: Callable, arguments: tuple, size: int, visits: int) -> None:
        """Over threads, where that pays for ``visits`` of all synapses of a sender."""
        if visits * self.width * self.receivers > _FOR_THREADS:
            over_ranges(lambda first, last: loop(first, last, *arguments), size)
        else:
            loop(0, size, *arguments)

    def silence(self, spikes: Tensor) -> Pending:
        """Nothing on its way, for spikes of a step ``[N, in]``."""
        check_room(
            f"currents on their way over delays up to {self.reach - self.width}, of {spikes.shape[0]} x "
            f"{self.receivers} receivers,",
            self.size(spikes.shape[0]),
        )
        return Pending(self, spikes.shape[0])

    def size(self, samples: int) -> int:
        """Bytes of what is on its way."""
        return samples * self.receivers * self.length * self.weights.itemsize

    def offset(self, bias: Tensor | None) -> np.ndarray:
        zeros = np.zeros(self.receivers, self.weights.dtype)
        return zeros if bias is None else zeros + bias.detach().to(self.dtype).resolve_neg().numpy()

    def arrive(self, spikes: Tensor, pending: Pending, now: int, offset: np.ndarray) -> tuple[Tensor, tuple]:
        """Spikes leave, and what is due is taken: the currents, and what the backward pass needs of the spikes."""
        numbers = numbers_of(spikes, self.dtype)
        entries, values, offsets = entries_of(numbers)
        found, current = entries.size, np.empty((numbers.shape[0], self.receivers), numbers.dtype)
        many = self.many(found, numbers.shape[0], _STILL_MANY if pending.fetched else _MANY)
        if many or pending.fetched:
            pending.remember(numbers if many else None, now)
        if many:
            offsets, found = np.zeros_like(offsets), 0
        self.ranges(
            loops.arrive, (entries, values, offsets, *self.tables, pending.later, now, offset, current), len(current), found
        )
        if pending.fetched and pending.past is not None:
            current += self.visit(self.by_receiver, pending.past, self.room - 1 - now, *current.shape)
        return torch.from_numpy(current), (entries, values)

    def visit(self, tables: tuple, lanes: np.ndarray, now: int, samples: int, units: int) -> np.ndarray:
        """What all synapses fetch, ``[N, units]``: sums over those of a unit of their taps times numbers of later steps,
        ``lanes`` ``[blocks, others, length, LANES]``."""
        out = np.empty((samples, units), self.weights.dtype)
        self.ranges(loops.leave, (*tables, lanes, now, out), lanes.shape[0], out.size)
        return out

    def keep(self, left: tuple) -> tuple[Tensor, ...]:
        """What :meth:`arrive` said of the spikes, for the backward pass."""
        return tuple(torch.from_numpy(x.copy()) for x in left)

    def kept(self, spikes: Tensor) -> tuple[Tensor, ...]:
        return self.keep(entries_of(numbers_of(spikes, self.dtype))[:2])

    @staticmethod
    def forwards(pending: Pending, by: int) -> None:
        loops.forwards(pending.later, by)
        if pending.fetched:
            loops.backwards(_NONE, pending.past, by)

    def tape(self, line) -> ListedTape:
        return ListedTape(self, line.samples, line.to_spikes)

    def many(self, events: int, samples: int, share: float = _MANY) -> bool:
        """Whether the events of a step are so many that all synapses are visited, samples side by side."""
        return events > share * blocks_of(samples) * self.senders


_NONE = np.zeros((0, 0, 0), np.float32)


def blocks_of(samples: int) -> int:
    return -(-samples // loops.LANES)


class Pending:
    """What is on its way: currents ``[N, out, length]`` to come of few spikes, and many spikes of steps before,
    ``[blocks, in, length, LANES]``, newest first, which synapses still fetch for ``fetched`` steps."""

    def __init__(self, synapses: ListedSynapses, samples: int) -> None:
        numbers = synapses.weights.dtype
        self.reach, self.room = synapses.reach, synapses.room
        self.later = np.zeros((samples, synapses.receivers, synapses.length), numbers)
        self.shape = blocks_of(samples), synapses.senders, synapses.length, loops.LANES
        self.past: np.ndarray | None = None
        self.fetched = 0

    def remember(self, spikes: np.ndarray | None, now: int) -> None:
        """The spikes ``[N, in]`` of a step, None where they are not to be fetched."""
        if not self.fetched:
            self.past = np.zeros(self.shape, self.later.dtype)
        self.fetched = self.fetched - 1 if spikes is None else self.reach
        loops.put_lanes(self.silence if spikes is None else spikes, self.room - 1 - now, self.past)

    @property
    def silence(self) -> np.ndarray:
        return np.zeros((self.later.shape[0], self.shape[1]), self.later.dtype)


def numbers_of(spikes: Tensor, dtype: torch.dtype) -> np.ndarray:
    spikes = spikes.detach().resolve_neg()
    if spikes.dtype != dtype or not spikes.is_contiguous():
        spikes = spikes.to(dtype).contiguous()
    return spikes.numpy()


def entries_of(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is not zero in ``[N, in]``: where (n * in + j), how much, and where each sample begins in these."""
    numbers = np.int32 if spikes.size <= LONGEST else np.int64
    entries, values = np.empty(spikes.size + 1, numbers), np.empty(spikes.size + 1, spikes.dtype)
    offsets = np.empty(spikes.shape[0] + 1, np.int64)
    found = loops.find(spikes, entries, values, offsets)
    return entries[:found], values[:found], offsets


class ListedTape:
    """What one backward pass has met so far: gradients of later currents, sums for the taps and the bias."""

    def __init__(self, synapses: ListedSynapses, samples: int, to_spikes: bool) -> None:
        self.synapses, numbers = synapses, synapses.weights.dtype
        self.samples, self.now = samples, synapses.room
        self.to_taps = synapses.taps.requires_grad
        along_time = self.to_taps and synapses.width > 2
        blocks = blocks_of(samples) if self.to_taps or to_spikes else 0
        self.later = np.zeros((along_time * samples, synapses.receivers, synapses.length), numbers)
        self.lanes = np.zeros((blocks, synapses.receivers, synapses.length, loops.LANES), numbers)
        self.met = np.zeros(synapses.weights.shape) if self.to_taps else None  # in double precision
        self.many: np.ndarray | None = None  # spikes of steps with many, of this stretch
        self.waiting = False
        self.total = np.zeros(synapses.receivers)
        self.silence = np.zeros((samples, synapses.receivers), numbers)

    def retreat(self, grad: Tensor | None, kept: tuple[Tensor, ...], to_spikes: bool) -> Tensor | None:
        """One step towards the past, with the gradient of its currents: that of its spikes, ``[N, in]``."""
        synapses = self.synapses
        if self.now == 0:
            self._collect_many()
            loops.backwards(self.later, self.lanes, synapses.room)
            self.now = synapses.room
        self.now -= 1
        row = self.silence if grad is None else grad.detach().to(synapses.dtype).contiguous().numpy()
        loops.put(row, self.now, self.later, self.lanes, self.total)
        entries, values = (x.numpy() for x in kept)
        if self.to_taps and entries.size:
            self._collect(entries, values)
        if not to_spikes:
            return None
        return torch.from_numpy(synapses.visit(synapses.by_sender, self.lanes, self.now, self.samples, synapses.senders))

    def sums(self) -> tuple[Tensor | None, Tensor]:
        """The gradients of the taps and of the bias."""
        self._collect_many()
        return None if self.met is None else torch.from_numpy(self.met), torch.from_numpy(self.total)

    def _collect(self, entries: np.ndarray, values: np.ndarray) -> None:
        synapses = self.synapses
        if synapses.many(entries.size, self.samples):
            if self.many is None:
                shape = self.lanes.shape[0], synapses.senders, synapses.room, loops.LANES
                self.many = np.zeros(shape, self.lanes.dtype)
            loops.put_entries(entries, values, self.now, self.many)
            self.waiting = True
            return
        loop, later = (loops.collect, self.later) if self.later.size else (loops.collect_lanes, self.lanes)
        arguments = entries, values, *synapses.tables[:2], later, self.now, self.met
        synapses.ranges(loop, arguments, synapses.senders, entries.size)

    def _collect_many(self) -> None:
        """Add what the steps with many spikes led to, from ``now`` on."""
        if not self.waiting or self.many is None:
            return
        synapses, (blocks, senders, steps, lanes) = self.synapses, self.many.shape
        arguments = self.many, *synapses.tables[:2], self.lanes, self.now, self.met
        synapses.ranges(loops.collect_many, arguments, senders, blocks * senders * steps * lanes)
        self.many[:] = 0
        self.waiting = False
