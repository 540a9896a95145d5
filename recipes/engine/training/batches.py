"""The batches of a training, and the seeds of all that is random in them."""

import math
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.sources import Part
from . import parallel

EVALUATION_BATCH = 256  # without a graph to keep, larger batches cost no more memory than training ones


def seed_everything(*parts: int) -> None:
    """Python, NumPy and torch from one sequence of numbers, e.g. (seed, epoch)."""
    word = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)


class Draw(NamedTuple):
    """One batch to come: which examples, and the seed of what is random in them."""

    which: np.ndarray
    seed: tuple[int, ...]


class Batch(NamedTuple):
    """``share``: which rows of the batch these are; None: all."""

    inputs: Any
    labels: Tensor
    share: parallel.Share | None


class _Batches(Dataset):
    """Whole batches of a part by :class:`Draw`, or this process's rows of them."""

    def __init__(self, part: Part, process: int = 0, processes: int = 1):
        self.part, self.process, self.processes = part, process, processes

    def __getitem__(self, draw: Draw) -> Batch:
        # A share is cut out of the whole batch, whose augmentations are drawn from one generator.
        inputs, labels = self.part.batch(draw.which, np.random.default_rng(draw.seed))
        if self.processes == 1:
            return Batch(inputs, labels, None)
        share = parallel.Share.of(len(labels), self.process, self.processes)
        return Batch(inputs[share.rows], labels[share.rows], share)

    def __len__(self) -> int:
        return len(self.part)


class _EpochShuffle(Sampler):
    """Batches of example numbers; the order follows (seed, epoch) alone. Lightning tells the epoch, also
    after a resume."""

    def __init__(self, examples: int, batch_size: int, seed: int | None):
        self.examples, self.batch_size, self.seed, self.epoch = examples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        seed = (0,) if self.seed is None else (self.seed, self.epoch)
        order = np.arange(self.examples)
        if self.seed is not None:
            order = np.random.default_rng(seed).permutation(self.examples)
        for number, start in enumerate(range(0, self.examples, self.batch_size)):
            yield Draw(order[start : start + self.batch_size], (*seed, number))

    def __len__(self) -> int:
        return math.ceil(self.examples / self.batch_size)


def batches(
    part: Part, batch_size: int, shuffle_seed: int | None = None, epoch: int = 0, process: int = 0, processes: int = 1
) -> DataLoader:
    """:class:`Batch` after batch of a part, the last one smaller where it has to be; unshuffled without a seed.
    ``epoch`` is the first to come. ``process`` of ``processes`` gets its rows of each."""
    sampler = _EpochShuffle(len(part), batch_size, shuffle_seed)
    sampler.set_epoch(epoch)
    # A DataLoader draws a number whenever it is iterated, which Lightning does before or after the epoch's
    # seeding: give it its own.
    of_process = _Batches(part, process, processes)
    pinned = torch.cuda.is_available()  # from there Lightning copies tensors to a GPU while the network computes
    return DataLoader(of_process, sampler=sampler, batch_size=None, generator=torch.Generator(), pin_memory=pinned)


def evaluation_batch(samples: int, processes: int) -> int:
    """The largest size up to the usual one of which no batch is too small to divide."""
    sizes = range(EVALUATION_BATCH, 0, -1)
    return next(size for size in sizes if min(size, samples % size or size) >= min(processes, samples))
