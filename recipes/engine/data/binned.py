"""Spike recordings in the format of the Spiking Heidelberg Digits, binned to counts.

Any folder with ``NAME_train.h5[.gz]`` and ``NAME_test.h5[.gz]``, with or without ``NAME_valid.h5[.gz]``, is read:
``shd_*``, ``ssc_*``, ``dsp20_*`` and your own (:mod:`recipes.engine.data.shd_files` says what is in a file). Counts are
``uint8`` of shape ``[samples, steps, channels]``, made a few samples at a time and then read from a cache on disk: a split
never has to fit into memory.

Choices that the papers leave open
    * Bin ``k`` holds the spikes with ``k dt <= t < (k + 1) dt`` (:mod:`snn_delay_plugins.bins`), computed in float64
      from the stored float16 times; where all of a file's stand on a grid, every ms say, from the grid points that
      they stand for (:mod:`recipes.engine.data.recorded_grid`).
    * Spikes at or after the last bin are dropped (``Binning.late = "drop"``), as in a recording cut to one
      second; ``late = "last bin"`` puts them into the last bin instead. The number of late spikes is kept in
      ``Recordings.late``.
"""

import argparse
import copy
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import cache, downloads, plain_files
from . import heidelberg, longer, own_recordings, shd_files, silence
from .own_recordings import AS_EVER, Split
from .shd_folder import find_files, load_fold, load_splits, speaker_groups
from .sources import Source, Splits

_CACHE_FORMAT = 5  # raised whenever the meaning of a cached file changes


@dataclasses.dataclass(frozen=True)
class Binning:
    """From events to counts: ``steps`` equal bins over ``duration`` seconds, ``group`` channels summed.

    The default is Deckers et al., section 4.1: 10 ms bins over 1 s, 700 channels to 140.
    """

    duration: float = 1.0
    steps: int = 100
    units: int = 700
    group: int = 5
    late: str = "drop"

    def __post_init__(self):
        if self.steps < 1 or self.duration <= 0:
            raise ValueError(f"binning needs a positive duration and at least one step, not {self}")
        if self.group < 1 or self.units % self.group:
            raise ValueError(f"group = {self.group} does not divide the {self.units} channels")
        if self.late not in ("drop", "last bin"):
            raise ValueError(f'late = {self.late!r}: use "drop" or "last bin"')

    @property
    def channels(self) -> int:
        return self.units // self.group


@dataclasses.dataclass(frozen=True)
class Recordings:
    """One split: ``counts`` uint8 [samples, steps, channels], ``labels`` int64 [samples], ``speakers``
    likewise or None."""

    counts: np.ndarray | cache.OnDisk
    labels: np.ndarray
    speakers: np.ndarray | None
    late: int = 0
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Counts uint8 [N, T, channels] and labels [N]; nothing random."""
        return torch.from_numpy(self.counts[which]), torch.from_numpy(self.labels[which])

    def take(self, which: np.ndarray) -> "Recordings":
        speakers = None if self.speakers is None else self.speakers[which]
        return Recordings(self.counts[which], self.labels[which], speakers, self.late, self.class_names)

    def add_to(self, digest) -> None:
        digest.update(repr(self.counts.shape).encode())
        cache.update(digest, self.counts)
        cache.update(digest, self.labels)


class BinnedCounts(Source):
    """A folder in SHD's format, binned: batches are counts uint8 [N, T, channels]."""

    folder = "a folder with shd_train.h5.gz and shd_test.h5.gz, or any data in that format"
    names_speakers = True

    def __init__(
        self, binning: Binning, published: downloads.Published = heidelberg.SHD, paper_criterion: str = "test_accuracy"
    ):
        self.binning = binning
        self.published = published
        self.paper_criterion = paper_criterion
        self.allow_silence = False
        self.split = AS_EVER

    @property
    def settings(self) -> dict:
        # Not allow_silence: it changes no number of data that can be read without it.
        return {"binning": dataclasses.asdict(self.binning), **self.split.settings}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        own_recordings.add_options(parser, self.binning.duration, self.binning.units, self.binning.group)
        silence.add_option(parser)

    def with_options(self, given: argparse.Namespace) -> "BinnedCounts":
        source = copy.copy(self)
        source.binning = own_recordings.binning_of(given, self.binning)
        source.split = own_recordings.split_of(given, self.split)
        source.allow_silence = given.allow_silence
        return source

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        return own_recordings.is_binning(given, self.binning, settings) and own_recordings.is_split(
            given, self.split, settings
        )

    def find(self, data_dir: Path) -> str:
        return find_files(data_dir, self.split)[0]

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        return load_splits(
            data_dir, protocol, self._read, self.binning.channels, self.split, paper_criterion=self.paper_criterion
        )

    def folds(self, data_dir: Path | None, count: int) -> list[tuple[int, ...]]:
        return speaker_groups(data_dir, self._read, count)

    def load_fold(self, data_dir: Path | None, left_out: tuple[int, ...]) -> Splits:
        return load_fold(data_dir, self._read, self.binning.channels, left_out)

    def of_run(self, settings: dict) -> "BinnedCounts":
        source = copy.copy(self)
        source.binning = Binning(**settings["binning"])
        source.split = Split.of_run(settings)
        return source

    def recordings(self, path: Path, allow_silence: bool = False) -> Recordings:
        return read(path, self.binning, allow_silence, labelled=False)

    def _read(self, path: Path) -> Recordings:
        return read(path, self.binning, self.allow_silence)

    def smoke(self) -> tuple["BinnedCounts", Path]:
        from . import miniature

        return self, miniature.make()


# --------------------------------------------------------------------------------------------------- one file


def read(path: Path, binning: Binning, allow_silence: bool = False, labelled: bool = True) -> Recordings:
    """One file, binned, which may have no labels where it need not be ``labelled``; from the cache where these settings
    have seen this file (name, size, time) before. Raises :class:`DataError`."""
    path = Path(path)
    plain_files.checked(path)
    entry = _entry(path, binning, labelled)
    arrays = cache.cached(path, entry, lambda sink: _bin_into(sink, path, binning, labelled), ("counts",))
    return _recordings(path, arrays, binning, allow_silence)


def _entry(path: Path, binning: Binning, labelled: bool = True) -> Path:
    return cache.entry("binned", path, [_CACHE_FORMAT, dataclasses.asdict(binning), *([] if labelled else ["unlabelled"])])


def _bin_into(sink: cache.Sink, path: Path, binning: Binning, labelled: bool = True) -> None:
    with shd_files.open_events(path, labelled) as file:
        cut = longer.Cut()
        for chunk in file.chunks(binning.units):
            counts, late = _bin(path, chunk, binning)
            sink.append("counts", counts)
            sink.append("silent", chunk.samples.start + np.flatnonzero(~counts.any(axis=(1, 2))))
            cut.add(chunk.sample, chunk.time, late)
        sink.append("cut", cut.counted)
        file.append_samples(sink)


def _recordings(path: Path, arrays: dict, binning: Binning, allow_silence: bool) -> Recordings:
    longer.check(path, arrays["cut"], len(arrays["labels"]), binning.duration, binning.late == "drop")
    silence.check(path, arrays["silent"], binning.duration, allow_silence)
    names = tuple(arrays.get("class_names", np.array([], str)).tolist())
    return Recordings(arrays["counts"], arrays["labels"], arrays.get("speakers"), int(arrays["cut"][0]), names)


def _bin(path: Path, chunk: shd_files.Chunk, binning: Binning) -> tuple[np.ndarray, np.ndarray]:
    """Counts [samples, steps, channels] of one chunk of samples, and which spikes are late."""
    step = chunk.bins(binning.duration / binning.steps, binning.duration)
    late = step >= binning.steps
    row = chunk.sample * binning.steps + np.minimum(step, binning.steps - 1)
    cell = row * binning.channels + chunk.unit // binning.group
    if binning.late == "drop":
        cell = cell[~late]
    counts = np.bincount(cell, minlength=chunk.length * binning.steps * binning.channels)
    counts = counts.reshape(chunk.length, binning.steps, binning.channels)
    if counts.max() > np.iinfo(np.uint8).max:
        i = int(np.argmax(counts.max(axis=(1, 2))))
        raise DataError(
            f"{path}: sample {chunk.samples.start + i} has {counts[i].max()} spikes in one bin; 255 fit: use finer bins"
        )
    return counts.astype(np.uint8), late
