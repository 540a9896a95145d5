"""Synapses of a line as a list, in compiled loops on the CPU (:mod:`.delay_line`): spikes visit their synapses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..checks import LONGEST, check_indices, check_offsets, check_room
from ..threads import over_ranges
from . import numba as loops

__all__ = ["ListedSynapses"]

_WIDE = 6  # taps from which whole windows pay as products of matrices
_DENSE = 0.2  # ... of the inputs of a step, where the share that is not zero is above this
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
        check_offsets("starts", starts, taps.shape[0], "the number of synapses")  # the loops do not look
        check_indices("targets", targets, out_features, "out_features")
        check_indices("delays", lags, longest + 1, "max_delay + 1")
        self.weights = taps.detach().resolve_neg().contiguous().numpy()
        if taps.shape[1] == 1:  # may be the layer's own weights; wider ones were computed from these
            self.weights = self.weights.copy()
        self.senders, self.receivers, self.width = starts.numel() - 1, out_features, taps.shape[1]
        self.reach = (int(lags.max()) if lags.numel() else 0) + self.width
        self.room = max(8, self.reach // 3)  # steps between two moves of what is on its way
        self.length = self.reach + self.room
        check_room(f"a list of {taps.shape[0]} synapses with delays up to {self.reach - self.width}", self.size(1))
        places = targets.long() * self.length + lags
        if out_features * self.length <= LONGEST:
            places = places.int()  # half the memory that the loops visit
        self.tables = starts.numpy().copy(), places.numpy(), self.weights
        full = lags.numel() == self.senders * out_features and self.width >= _WIDE and not lags.any()
        self.matrix = self.weights.reshape(self.senders, -1) if full else None

    def ranges(self, loop: Callable, arguments: tuple, size: int, visits: int) -> None:
        """Over threads, where that pays for ``visits`` of all synapses of a sender."""
        if visits * self.width * self.receivers > _FOR_THREADS:
            over_ranges(lambda first, last: loop(first, last, *arguments), size)
        else:
            loop(0, size, *arguments)

    def silence(self, spikes: Tensor) -> np.ndarray:
        """Nothing on its way, for spikes of a step ``[N, in]``."""
        check_room(
            f"currents on their way over delays up to {self.reach - self.width}, of {spikes.shape[0]} x "
            f"{self.receivers} receivers,",
            self.size(spikes.shape[0]),
        )
        return np.zeros((spikes.shape[0], self.receivers, self.length), self.weights.dtype)

    def size(self, samples: int) -> int:
        """Bytes of what is on its way."""
        return samples * self.receivers * self.length * self.weights.itemsize

    def offset(self, bias: Tensor | None) -> np.ndarray:
        zeros = np.zeros(self.receivers, self.weights.dtype)
        return zeros if bias is None else zeros + bias.detach().to(self.dtype).resolve_neg().numpy()

    def numbers(self, spikes: Tensor) -> np.ndarray:
        spikes = spikes.detach().resolve_neg()
        if spikes.dtype != self.dtype or not spikes.is_contiguous():
            spikes = spikes.to(self.dtype).contiguous()
        return spikes.numpy()

    def arrive(self, spikes: Tensor, pending: np.ndarray, now: int, offset: np.ndarray) -> tuple[Tensor, tuple]:
        """Spikes leave, and what is due is taken: the currents, and what the backward pass needs of the spikes."""
        spikes = self.numbers(spikes)
        entries, values, offsets = entries_of(spikes)
        current, found = np.empty((spikes.shape[0], self.receivers), pending.dtype), entries.size
        if self.dense(found, spikes.shape[0]):
            due = torch.from_numpy(pending)[:, :, now : now + self.width]
            due += (torch.from_numpy(spikes) @ torch.from_numpy(self.matrix)).view(due.shape)
            offsets = np.zeros_like(offsets)
        loop, tables = (loops.arrive, self.tables) if self.matrix is None else (loops.arrive_whole, (self.matrix,))
        self.ranges(loop, (entries, values, offsets, *tables, pending, now, offset, current), spikes.shape[0], found)
        return torch.from_numpy(current), (entries, values)

    def keep(self, left: tuple) -> tuple[Tensor, ...]:
        """What :meth:`arrive` said of the spikes, for the backward pass."""
        return tuple(torch.from_numpy(x.copy()) for x in left)

    def kept(self, spikes: Tensor) -> tuple[Tensor, ...]:
        return self.keep(entries_of(self.numbers(spikes))[:2])

    @staticmethod
    def forwards(pending: np.ndarray, by: int) -> None:
        loops.forwards(pending, by)

    def tape(self, line) -> ListedTape:
        return ListedTape(self, line.samples, line.to_spikes)

    def dense(self, events: int, samples: int) -> bool:
        return self.matrix is not None and events > _DENSE * samples * self.senders


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
        matrix, lanes, narrow = synapses.matrix is not None, loops.LANES, synapses.width <= 2
        blocks = -(-samples // lanes) if narrow or (to_spikes and not matrix) else 0
        later = matrix or (self.to_taps and not narrow)
        self.later = np.zeros((later * samples, synapses.receivers, synapses.length), numbers)
        self.lanes = np.zeros((blocks, synapses.receivers, synapses.length, lanes), numbers)
        # whole windows as the products of matrices sum them, few taps per synapse in double precision
        self.met = np.zeros(synapses.weights.shape, numbers if matrix else np.float64) if self.to_taps else None
        self.total = np.zeros(synapses.receivers)
        self.silence = np.zeros((samples, synapses.receivers), numbers)

    def retreat(self, grad: Tensor | None, kept: tuple[Tensor, ...], to_spikes: bool) -> Tensor | None:
        """One step towards the past, with the gradient of its currents: that of its spikes, ``[N, in]``."""
        synapses = self.synapses
        if self.now == 0:
            loops.backwards(self.later, self.lanes, synapses.room)
            self.now = synapses.room
        self.now -= 1
        grad = self.silence if grad is None else grad.detach().to(synapses.dtype).contiguous().numpy()
        loops.put(grad, self.now, self.later, self.lanes, self.total)
        entries, values = (x.numpy() for x in kept)
        if self.to_taps and entries.size:
            self._collect(entries, values)
        return self._leave() if to_spikes else None

    def sums(self) -> tuple[Tensor | None, Tensor]:
        """The gradients of the taps and of the bias."""
        return None if self.met is None else torch.from_numpy(self.met), torch.from_numpy(self.total)

    def _window(self) -> Tensor:
        rows = torch.from_numpy(self.later)[:, :, self.now : self.now + self.synapses.width]
        return rows.reshape(self.samples, -1)

    def _collect(self, entries: np.ndarray, values: np.ndarray) -> None:
        synapses = self.synapses
        whole = None if synapses.matrix is None else self.met.reshape(synapses.senders, -1)
        if synapses.dense(entries.size, self.samples):
            spikes = np.zeros(self.samples * synapses.senders, values.dtype)
            spikes[entries] = values
            torch.from_numpy(whole).addmm_(torch.from_numpy(spikes).view(self.samples, -1).mT, self._window())
        elif whole is not None:
            arguments = entries, values, self._window().numpy(), whole
            synapses.ranges(loops.collect_whole, arguments, synapses.senders, entries.size)
        else:
            loop, later = (loops.collect, self.later) if self.later.size else (loops.collect_lanes, self.lanes)
            arguments = entries, values, *synapses.tables[:2], later, self.now, self.met
            synapses.ranges(loop, arguments, synapses.senders, entries.size)

    def _leave(self) -> Tensor:
        synapses = self.synapses
        if synapses.matrix is not None:
            return self._window() @ torch.from_numpy(synapses.matrix).mT
        out = np.empty((self.samples, synapses.senders), synapses.weights.dtype)
        synapses.ranges(loops.leave, (*synapses.tables, self.lanes, self.now, out), self.lanes.shape[0], out.size)
        return torch.from_numpy(out)
