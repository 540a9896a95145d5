"""Spike recordings in the format of the Spiking Heidelberg Digits, binned to counts.

Cramer et al. (2020) publish SHD and SSC as HDF5 files, one per split, often gzipped:

====================  =============================================  =========================
dataset               type                                           meaning
====================  =============================================  =========================
``spikes/times``      one array of floats per sample                 time of each spike in s
``spikes/units``      one array of integers per sample               its channel, 0 ... 699
``labels``            integer per sample                             the class
``extra/speaker``     integer per sample (may be absent)             who spoke
``extra/keys``        one string per class (may be absent)           names of the classes
====================  =============================================  =========================

Any folder with ``NAME_train.h5[.gz]`` and ``NAME_test.h5[.gz]``, with or without ``NAME_valid.h5[.gz]``, is
read: ``shd_*``, ``ssc_*``, ``dsp20_*`` and your own. Counts are ``uint8`` of shape ``[samples, steps, channels]``,
made a few samples at a time and then read from a cache on disk: a split never has to fit into memory.

Choices that the papers leave open
    * Bin ``k`` holds the spikes with ``k dt <= t < (k + 1) dt`` (:mod:`snn_delay_plugins.bins`), computed in float64
      from the stored float16 times; where all of a file's stand on a grid, every ms say, from the grid points that
      they stand for (:mod:`recipes.engine.recorded_grid`).
    * Spikes at or after the last bin are dropped (``Binning.late = "drop"``), as in a recording cut to one
      second; ``late = "last bin"`` puts them into the last bin instead. The number of late spikes is kept in
      ``Recordings.late``.
    * A sample without spikes, or with none before the last bin ends, is an error that names the file and the
      samples: a recording that was lost, or times in ms, look like this, and no file that we have seen holds one on
      purpose. With ``--allow-silence`` it is kept, as silence.
"""

import argparse
import copy
import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from recipes.engine import cache, downloads, plain_files, recorded_grid
from recipes.engine.errors import DataError
from recipes.engine.hdf5_files import Hdf5File, opened
from recipes.engine.shd_folder import find_files, load_fold, load_splits, speaker_groups
from recipes.engine.sources import Source, Splits
from snn_delay_plugins.bins import bin_of, eps_of

log = logging.getLogger(__name__)

_CACHE_FORMAT = 4  # raised whenever the meaning of a cached file changes
_CHUNK = 64  # samples read and binned at once


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

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Counts uint8 [N, T, channels] and labels [N]; nothing random."""
        return torch.from_numpy(self.counts[which]), torch.from_numpy(self.labels[which])

    def take(self, which: np.ndarray) -> "Recordings":
        return Recordings(self.counts[which], self.labels[which], self.speakers[which])

    def add_to(self, digest) -> None:
        digest.update(repr(self.counts.shape).encode())
        cache.update(digest, self.counts)
        cache.update(digest, self.labels)


class BinnedCounts(Source):
    """A folder in SHD's format, binned: batches are counts uint8 [N, T, channels]."""

    folder = "a folder with shd_train.h5.gz and shd_test.h5.gz, or any data in that format"
    names_speakers = True

    def __init__(
        self, binning: Binning, published: downloads.Published = downloads.SHD, paper_criterion: str = "test_accuracy"
    ):
        self.binning = binning
        self.published = published
        self.paper_criterion = paper_criterion
        self.allow_silence = False

    @property
    def settings(self) -> dict:
        # Not allow_silence: it changes no number of data that can be read without it.
        return {"binning": dataclasses.asdict(self.binning)}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add_silence_option(parser)

    def with_options(self, given: argparse.Namespace) -> "BinnedCounts":
        source = copy.copy(self)
        source.allow_silence = given.allow_silence
        return source

    def find(self, data_dir: Path) -> str:
        return find_files(data_dir)[0]

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        return load_splits(data_dir, protocol, self._read, self.binning.channels, paper_criterion=self.paper_criterion)

    def folds(self, data_dir: Path | None, count: int) -> list[tuple[int, ...]]:
        return speaker_groups(data_dir, self._read, count)

    def load_fold(self, data_dir: Path | None, left_out: tuple[int, ...]) -> Splits:
        return load_fold(data_dir, self._read, self.binning.channels, left_out)

    def _read(self, path: Path) -> Recordings:
        return read(path, self.binning, self.allow_silence)

    def smoke(self) -> tuple["BinnedCounts", Path]:
        from recipes.engine import miniature

        return self, miniature.make()


def add_silence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-silence", action="store_true", help="keep samples without a spike; otherwise they are an error"
    )


# --------------------------------------------------------------------------------------------------- one file


def read(path: Path, binning: Binning, allow_silence: bool = False) -> Recordings:
    """One file, binned; from the cache where these settings have seen this file (name, size, time) before. Raises
    :class:`DataError`."""
    path = Path(path)
    plain_files.checked(path)
    arrays = cache.cached(path, _entry(path, binning), lambda sink: _bin_into(sink, path, binning), ("counts",))
    return _recordings(path, arrays, binning, allow_silence)


def _entry(path: Path, binning: Binning) -> Path:
    return cache.entry("binned", path, [_CACHE_FORMAT, dataclasses.asdict(binning)])


def _bin_into(sink: cache.Sink, path: Path, binning: Binning) -> None:
    with open_events(path) as file:
        late = 0
        for chunk in file.chunks(binning.units):
            counts, chunk_late = _bin(path, chunk, binning)
            sink.append("counts", counts)
            sink.append("silent", chunk.samples.start + np.flatnonzero(~counts.any(axis=(1, 2))))
            late += chunk_late
        sink.append("late", np.array([late]))
        file.append_samples(sink)
    if late:
        what = "dropped" if binning.late == "drop" else "put into the last bin"
        log.info("%s: %d spikes at or after %g s %s", path.name, late, binning.duration, what)


def _recordings(path: Path, arrays: dict, binning: Binning, allow_silence: bool) -> Recordings:
    check_silence(path, arrays["silent"], binning.duration, allow_silence)
    return Recordings(arrays["counts"], arrays["labels"], arrays.get("speakers"), int(arrays["late"][0]))


def check_silence(path: Path, silent: np.ndarray, duration: float, allowed: bool) -> None:
    """Samples without spikes in their ``duration`` (s) are an error or, where they are allowed, a line in the log."""
    if not len(silent):
        return
    named = ", ".join(map(str, silent[:5])) + (", ..." if len(silent) > 5 else "")
    count = f"sample {named} has" if len(silent) == 1 else f"{len(silent)} samples (numbers {named}) have"
    what = f"{path}: {count} no spikes in the first {duration:g} s"
    if not allowed:
        raise DataError(f"{what}; if that is meant, --allow-silence keeps them as silence")
    log.info("%s, kept as silence", what)


class Chunk(NamedTuple):
    """The spikes of some consecutive samples, one after the other."""

    samples: slice
    """Which samples of the file."""
    sample: np.ndarray
    """Of each spike, counted from the chunk's first."""
    time: np.ndarray
    """Of each spike, float64 seconds, finite and not negative."""
    unit: np.ndarray
    """Of each spike, int64."""

    @property
    def length(self) -> int:
        return self.samples.stop - self.samples.start

    def bins(self, dt: float, duration: float) -> np.ndarray:
        """int64, the bin of each spike (:mod:`snn_delay_plugins.bins`). All in seconds, as they are stored: times in ms
        would be rounded once more."""
        times = torch.from_numpy(self.time)
        eps = eps_of(times)
        # far beyond the end, no integer holds the number of the bin
        return bin_of(times.clamp(max=2 * duration), dt, eps).numpy()


@contextmanager
def open_events(path: Path) -> Iterator["EventFile"]:
    """One file in SHD's format. Raises :class:`DataError`."""
    with opened(path) as file:
        yield EventFile(path, file)


class EventFile:
    """``labels`` and ``speakers`` (or None) of one open file; its spikes in checked chunks."""

    def __init__(self, path: Path, file: Hdf5File):
        self.path, self._file = path, file
        self._times, self._units, labels = (
            _dataset(path, file, name) for name in ("spikes/times", "spikes/units", "labels")
        )
        speakers = file.dataset("extra/speaker")
        self.labels = _whole_numbers(path, file, "labels", labels)
        self.speakers = None if speakers is None else _whole_numbers(path, file, "extra/speaker", speakers)
        lengths = {"spikes/times": _length(self._times), "spikes/units": _length(self._units)}
        lengths |= {} if self.speakers is None else {"extra/speaker": len(self.speakers)}
        for name, length in lengths.items():
            if length != len(self.labels):
                raise DataError(f"{path}: {length} samples in {name} but {len(self.labels)} labels")
        if not len(self.labels):
            raise DataError(f"{path}: no samples")
        _check_labels(path, file, self.labels)
        _check_arrays(path, self._times, self._units)
        for name, dataset in (("spikes/times", self._times), ("spikes/units", self._units)):
            file.check_lists(name, dataset)
        self._rate = self._find_rate()

    def chunks(self, units: int) -> Iterator[Chunk]:
        """All spikes, in the file's order; units must be below ``units``."""
        for which in self._slices():
            times, channels = self._read("spikes/times", which), self._read("spikes/units", which)
            yield _checked_chunk(self.path, which, times, channels, units, self._rate)

    def _slices(self) -> Iterator[slice]:
        for start in range(0, len(self.labels), _CHUNK):
            yield slice(start, min(start + _CHUNK, len(self.labels)))

    def _read(self, name: str, which: slice) -> np.ndarray:
        return self._file.values(name, self._times if name == "spikes/times" else self._units, which)

    def _find_rate(self) -> int | None:
        """Of the grid on which the times stand, in float16 alone: others are fine enough without."""
        if h5py.check_vlen_dtype(self._times.dtype) != np.float16:
            return None
        return recorded_grid.rate_of(np.concatenate(self._read("spikes/times", which)) for which in self._slices())

    def append_samples(self, sink: cache.Sink) -> None:
        """Labels and, if the file has them, speakers."""
        sink.append("labels", self.labels)
        if self.speakers is not None:
            sink.append("speakers", self.speakers)


def _dataset(path: Path, file: Hdf5File, name: str) -> h5py.Dataset:
    dataset = file.dataset(name)
    if dataset is None:
        raise DataError(f"{path}: no dataset {name}; SHD's format has spikes/times, spikes/units and labels")
    return dataset


def _length(dataset: h5py.Dataset) -> int:
    return dataset.shape[0] if dataset.ndim else 1


def _whole_numbers(path: Path, file: Hdf5File, name: str, dataset: h5py.Dataset) -> np.ndarray:
    if dataset.ndim != 1 or not np.issubdtype(dataset.dtype, np.integer):
        raise DataError(f"{path}: {name} must be one integer per sample, not {dataset.dtype} of shape {dataset.shape}")
    return file.values(name, dataset).astype(np.int64)


def _check_labels(path: Path, file: Hdf5File, labels: np.ndarray) -> None:
    keys = file.dataset("extra/keys")
    top = len(keys) if keys is not None and keys.ndim == 1 else None
    wrong = np.flatnonzero((labels < 0) | (labels >= top if top else False))
    if len(wrong):
        allowed = f"0 to {top - 1} (extra/keys)" if top else "0 and up"
        raise DataError(f"{path}: sample {wrong[0]} has label {labels[wrong[0]]}, out of range: {allowed}")


def _check_arrays(path: Path, times: h5py.Dataset, units: h5py.Dataset) -> None:
    for name, dataset, kind in (("spikes/times", times, np.floating), ("spikes/units", units, np.integer)):
        held = h5py.check_vlen_dtype(dataset.dtype)
        if held is None or not np.issubdtype(held, kind) or dataset.ndim != 1:
            word = "floats (seconds)" if kind is np.floating else "integers"
            raise DataError(f"{path}: {name} must hold one array of {word} per sample, not {held or dataset.dtype}")


def _checked_chunk(path: Path, which: slice, times: np.ndarray, units: np.ndarray, below: int, rate: int | None) -> Chunk:
    lengths = np.array([len(sample) for sample in times])
    wrong = np.flatnonzero(lengths != [len(sample) for sample in units])
    if len(wrong):
        i = wrong[0]
        raise DataError(f"{path}: sample {which.start + i} has {lengths[i]} spike times but {len(units[i])} units")
    sample = np.repeat(np.arange(len(times)), lengths)
    time = np.concatenate(times)
    time = time.astype(np.float64) if rate is None else recorded_grid.restored(time, rate)
    unit = np.concatenate(units).astype(np.int64)

    def refuse(wrong: np.ndarray, values: np.ndarray, complaint: str) -> None:
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DataError(f"{path}: sample {which.start + sample[i]} has {complaint.format(values[i])}")

    refuse(~np.isfinite(time), time, "the spike time {}")
    refuse(time < 0, time, "a negative spike time ({} s)")
    refuse((unit < 0) | (unit >= below), unit, f"a spike of unit {{}}; units are 0 to {below - 1}")
    return Chunk(which, sample, time, unit)


def _bin(path: Path, chunk: Chunk, binning: Binning) -> tuple[np.ndarray, int]:
    """Counts [samples, steps, channels] of one chunk of samples, and the number of late spikes."""
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
    return counts.astype(np.uint8), int(late.sum())
