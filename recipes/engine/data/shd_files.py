"""One file in the format of the Spiking Heidelberg Digits: its spikes in checked chunks, its labels and speakers.

Cramer et al. (2020) publish SHD and SSC as HDF5 files, one per split, often gzipped:

====================  =============================================  =========================
dataset               type                                           meaning
====================  =============================================  =========================
``spikes/times``      one array of floats per sample                 time of each spike in s
``spikes/units``      one array of integers per sample               its channel, 0 ... 699
``labels``            integer per sample (absent: to be predicted)   the class
``extra/speaker``     integer per sample (may be absent)             who spoke
``extra/keys``        one string per class (may be absent)           names of the classes
====================  =============================================  =========================

Times are float16 in the published files; where all of a file's stand on a grid, every ms say, they are the grid points
that they stand for (:mod:`recipes.engine.data.recorded_grid`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from snn_delay_plugins.bins import bin_of, eps_of

from ..errors import DataError
from ..files import cache
from ..files.hdf5_files import Hdf5File, opened
from . import recorded_grid
from .sources import UNKNOWN

log = logging.getLogger(__name__)

_CHUNK = 64  # samples read at once
_MOST_NAMES, _LONGEST_NAME = 10_000, 100


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
def open_events(path: Path, labelled: bool = True) -> Iterator["EventFile"]:
    """One file in SHD's format, or of plain arrays (:mod:`recipes.engine.data.event_tables`); without labels where it need
    not be ``labelled``. Raises :class:`DataError`."""
    from .event_tables import SUFFIXES, EventTable  # which are made of this module's

    if path.suffix in SUFFIXES:
        yield EventTable(path, labelled)
        return
    with opened(path) as file:
        yield EventFile(path, file, labelled)


class EventFile:
    """``labels``, ``speakers`` (or None) and ``class_names`` (or none) of one open file; its spikes in checked chunks.
    Labels that are not there are :data:`UNKNOWN`."""

    def __init__(self, path: Path, file: Hdf5File, labelled: bool = True):
        self.path, self._file = path, file
        self._times, self._units = (_dataset(path, file, name) for name in ("spikes/times", "spikes/units"))
        labels = _dataset(path, file, "labels") if labelled else file.dataset("labels")
        speakers = file.dataset("extra/speaker")
        if labels is None:
            self.labels = np.full(_length(self._times), UNKNOWN)
        else:
            self.labels = _whole_numbers(path, file, "labels", labels)
        self.speakers = None if speakers is None else _whole_numbers(path, file, "extra/speaker", speakers)
        lengths = {"spikes/times": _length(self._times), "spikes/units": _length(self._units)}
        lengths |= {} if self.speakers is None else {"extra/speaker": len(self.speakers)}
        for name, length in lengths.items():
            if length != len(self.labels):
                raise DataError(f"{path}: {length} samples in {name} but {len(self.labels)} labels")
        if not len(self.labels):
            raise DataError(f"{path}: no samples")
        if labels is not None:
            _check_labels(path, file, self.labels)
        _check_arrays(path, self._times, self._units)
        for name, dataset in (("spikes/times", self._times), ("spikes/units", self._units)):
            file.check_lists(name, dataset)
        self._rate = self._find_rate()
        self.class_names = _class_names(file)

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
        """Labels and, if the file has them, speakers and names of classes."""
        sink.append("labels", self.labels)
        if self.speakers is not None:
            sink.append("speakers", self.speakers)
        if self.class_names:
            sink.append("class_names", np.array(self.class_names))


def _class_names(file: Hdf5File) -> tuple[str, ...]:
    """``extra/keys``; empty where there are none that can be read."""
    keys = file.dataset("extra/keys")
    if keys is None or keys.ndim != 1 or keys.dtype.kind not in "OS" or len(keys) > _MOST_NAMES:
        return ()
    # one by one: each may be as long as the file, and all of them the same one
    names = (file.values("extra/keys", keys, slice(i, i + 1))[0][:_LONGEST_NAME] for i in range(len(keys)))
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)


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
    refuse(
        (unit < 0) | (unit >= below), unit, f"a spike of unit {{}}; units are 0 to {below - 1} (--units N trains on others)"
    )
    return Chunk(which, sample, time, unit)
