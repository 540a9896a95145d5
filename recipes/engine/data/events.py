"""Recordings as events, for networks that take :class:`snn_delay_plugins.SpikeEvents`; SHD's files among them.

Times are in ms. Augmentations of the EventProp papers (shift, blend) are in :mod:`recipes.eventprop.augmentation`.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_delay_plugins.bins import steps_in
from snn_delay_plugins.events import SpikeEvents

from ..files import cache, downloads, plain_files
from . import binned, heidelberg, longer, own_recordings, shd_files, shd_folder, silence
from .own_recordings import AS_EVER, Split
from .sources import Source, Splits

_CACHE_FORMAT = 5  # raised whenever the meaning of a cached file changes


@dataclasses.dataclass(frozen=True)
class EventRecordings:
    """Samples as events: sample i owns ``times[offsets[i]:offsets[i + 1]]`` (ms, float32, ascending) and the
    ``units`` (int16) beside them."""

    times: np.ndarray | cache.OnDisk
    units: np.ndarray | cache.OnDisk
    offsets: np.ndarray
    labels: np.ndarray
    num_units: int
    duration: float
    speakers: np.ndarray | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, samples: list[tuple[np.ndarray, np.ndarray]], labels, num_units: int, duration: float):
        """From (times, units) of each sample; events are sorted by time, those at or after ``duration`` left out."""
        ordered = []
        for times, units in samples:
            times, units = np.asarray(times, np.float32), np.asarray(units, np.int16)
            order = np.argsort(times, kind="stable")
            order = order[times[order] < duration]
            ordered.append((times[order], units[order]))
        offsets = np.concatenate([[0], np.cumsum([len(times) for times, _ in ordered])]).astype(np.int64)
        times = np.concatenate([times for times, _ in ordered]) if ordered else np.zeros(0, np.float32)
        units = np.concatenate([units for _, units in ordered]) if ordered else np.zeros(0, np.int16)
        return cls(times, units, offsets, np.asarray(labels, np.int64), num_units, float(duration))

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and units of one sample."""
        which = slice(self.offsets[i], self.offsets[i + 1])
        return self.times[which], self.units[which]

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[SpikeEvents, Tensor]:
        """Events and labels of these samples; nothing random."""
        samples = [self.sample(i) for i in which]
        return as_events(samples, self.num_units, self.duration), torch.from_numpy(self.labels[which])

    def take(self, which: np.ndarray) -> "EventRecordings":
        samples = [self.sample(i) for i in which]
        taken = EventRecordings.of(samples, self.labels[which], self.num_units, self.duration)
        return taken if self.speakers is None else dataclasses.replace(taken, speakers=self.speakers[which])

    def add_to(self, digest) -> None:
        digest.update(repr((len(self), self.num_units, self.duration)).encode())
        for array in (self.times, self.units, self.offsets, self.labels):
            cache.update(digest, array)


def as_events(samples: list[tuple[np.ndarray, np.ndarray]], num_units: int, duration: float) -> SpikeEvents:
    """A batch of samples (times in ascending order, units)."""
    lengths = [len(times) for times, _ in samples]
    return SpikeEvents(
        torch.from_numpy(np.concatenate([times for times, _ in samples])),
        torch.from_numpy(np.concatenate([units for _, units in samples]).astype(np.int64)),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        num_units,
        duration,
    )


@dataclasses.dataclass(frozen=True)
class Sampling:
    """From a file's spikes to events: what is kept of them.

    ``duration`` ms from the start; with ``resolution`` ms, times are rounded down to whole multiples of it and a
    channel spikes at most once in each, as in mlGeNN's reading of SHD at 1 ms; None keeps every spike at its stored
    time.
    """

    duration: float = 1000.0
    resolution: float | None = 1.0
    units: int = 700

    def __post_init__(self):
        if self.duration <= 0 or (self.resolution is not None and self.resolution <= 0):
            raise ValueError(f"duration and resolution must be positive, not {self}")


def read(path: Path, sampling: Sampling, allow_silence: bool = False, labelled: bool = True) -> EventRecordings:
    """One file, which may have no labels where it need not be ``labelled``; from the cache where these settings have seen
    this file before. The events stay on disk, but for those of the batch at hand. Raises
    :class:`recipes.engine.data.sources.DataError`."""
    path = Path(path)
    plain_files.checked(path)
    kept = cache.entry("events", path, [_CACHE_FORMAT, dataclasses.asdict(sampling), *([] if labelled else ["unlabelled"])])
    arrays = cache.cached(path, kept, lambda sink: _read(sink, path, sampling, labelled), ("times", "units"))
    longer.check(path, arrays["cut"], len(arrays["labels"]), sampling.duration / 1000)
    silence.check(path, arrays["silent"], sampling.duration / 1000, allow_silence)
    names = ("times", "units", "offsets", "labels")
    classes = tuple(arrays.get("class_names", np.array([], str)).tolist())
    events = (arrays[name] for name in names)
    return EventRecordings(*events, sampling.units, sampling.duration, arrays.get("speakers"), classes)


def _read(sink: cache.Sink, path: Path, sampling: Sampling, labelled: bool) -> None:
    lengths, cut = [], longer.Cut()
    with shd_files.open_events(path, labelled) as file:
        for chunk in file.chunks(sampling.units):
            sample, time, unit = _sampled(chunk, sampling)
            sink.append("times", time.astype(np.float32))
            sink.append("units", unit.astype(np.int16))
            lengths.append(np.bincount(sample, minlength=chunk.length))
            cut.add(chunk.sample, chunk.time, 1000.0 * chunk.time >= sampling.duration)
        lengths = np.concatenate(lengths)
        sink.append("offsets", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        sink.append("silent", np.flatnonzero(lengths == 0))
        sink.append("cut", cut.counted)
        file.append_samples(sink)


def _sampled(chunk: shd_files.Chunk, sampling: Sampling) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample, time (ms) and unit of what is kept of the chunk's spikes, in this order."""
    sample, time, unit = chunk.sample, 1000.0 * chunk.time, chunk.unit
    if sampling.resolution is None:
        inside = time < sampling.duration
        sample, time, unit = sample[inside], time[inside], unit[inside]
        order = np.lexsort((unit, time, sample))
        return sample[order], time[order], unit[order]
    steps = steps_in(sampling.duration, sampling.resolution)
    step = chunk.bins(sampling.resolution / 1000, sampling.duration / 1000)
    inside = step < steps
    # One number per spike is sorted much faster than three, and tells repeated ones.
    spikes = np.sort((sample[inside] * steps + step[inside]) * sampling.units + unit[inside])
    spikes = spikes[np.diff(spikes, prepend=-1) > 0]
    rest, unit = np.divmod(spikes, sampling.units)
    sample, step = np.divmod(rest, steps)
    return sample, step * sampling.resolution, unit


def _for_channels(augmentation: Any, factor: float) -> Any:
    """An augmentation that moves events by ``channels``, for so many times as many of them."""
    if factor == 1 or not hasattr(augmentation, "channels"):
        return augmentation
    return dataclasses.replace(augmentation, channels=round(augmentation.channels * factor))


@dataclasses.dataclass(frozen=True)
class ShdEvents(Source):
    """A folder in SHD's format as events. ``augmentations`` are the ways in which training samples can be augmented, by
    name: each makes a training part of the recordings (None: as they are) and is a dataclass, kept with every result;
    ``augmentation`` names the one in use. ``paper_criterion`` is the metric by which the paper chose its epoch.
    ``thinning`` makes each file's recordings into others with ``channels(units)`` channels
    (:class:`recipes.engine.data.thinning.Thinning`)."""

    sampling: Sampling
    augmentations: dict[str, Callable[[EventRecordings], object] | None]
    augmentation: str
    paper_criterion: str = "train_accuracy"
    allow_silence: bool = False
    published: downloads.Published = heidelberg.SHD
    thinning: Any = None
    split: Split = AS_EVER

    folder = binned.BinnedCounts.folder
    names_speakers = True

    @property
    def _augment(self) -> Callable[[EventRecordings], object] | None:
        return self.augmentations[self.augmentation]

    @property
    def settings(self) -> dict:
        how = dataclasses.asdict(self._augment) if self._augment else {}
        thinned = {"thinning": dataclasses.asdict(self.thinning)} if self.thinning else {}
        return {
            "sampling": dataclasses.asdict(self.sampling),
            "augmentation": {"name": self.augmentation, **how},
            **thinned,
            **self.split.settings,
        }

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--augmentation", choices=list(self.augmentations), help=f"of training samples (default {self.augmentation})"
        )
        own_recordings.add_options(parser, self.sampling.duration / 1000, self.sampling.units, self._merged)
        silence.add_option(parser)

    @property
    def _merged(self) -> int | None:
        return self.thinning.merged if self.thinning else None

    def with_options(self, given: argparse.Namespace) -> "ShdEvents":
        taken = self._taken(given)
        factor = taken._inputs / self._inputs
        return dataclasses.replace(
            taken,
            augmentation=given.augmentation or self.augmentation,
            augmentations={name: _for_channels(how, factor) for name, how in self.augmentations.items()},
            split=own_recordings.split_of(given, self.split),
            allow_silence=given.allow_silence,
        )

    def _taken(self, given: argparse.Namespace) -> "ShdEvents":
        """What the options take of a recording."""
        before, resolution = self.sampling, self.sampling.resolution
        duration = 1000 * own_recordings.seconds(given, before.duration / 1000, resolution and resolution / 1000)
        units, merged = own_recordings.units_of(given, before.units, self._merged)
        return dataclasses.replace(
            self,
            sampling=dataclasses.replace(before, duration=float(f"{duration:.9g}"), units=units),
            thinning=self.thinning and dataclasses.replace(self.thinning, merged=merged),
        )

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        return (
            (given.augmentation is None or settings["augmentation"]["name"] == given.augmentation)
            and (not own_recordings.lengths_are_asked(given) or self._takes_as(self._taken(given).settings, settings))
            and own_recordings.is_split(given, self.split, settings)
        )

    @staticmethod
    def _takes_as(ours: dict, settings: dict) -> bool:
        return all(settings.get(part) == ours.get(part) for part in ("sampling", "thinning"))

    def find(self, data_dir: Path) -> str:
        return shd_folder.find_files(data_dir, self.split)[0]

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        return self._augmented(
            shd_folder.load_splits(
                data_dir, protocol, self._read, self._inputs, self.split, paper_criterion=self.paper_criterion
            )
        )

    def folds(self, data_dir: Path | None, count: int) -> list[tuple[int, ...]]:
        return shd_folder.speaker_groups(data_dir, self._read, count)

    def load_fold(self, data_dir: Path | None, left_out: tuple[int, ...]) -> Splits:
        return self._augmented(shd_folder.load_fold(data_dir, self._read, self._inputs, left_out))

    def of_run(self, settings: dict) -> "ShdEvents":
        thinned = settings.get("thinning")
        if (thinned is None) != (self.thinning is None):
            raise ValueError(f"thinning {thinned}, which this recipe does not do")
        return dataclasses.replace(
            self,
            sampling=Sampling(**settings["sampling"]),
            augmentation=self._known(settings["augmentation"]["name"]),
            thinning=thinned and dataclasses.replace(self.thinning, **thinned),
            split=Split.of_run(settings),
        )

    def _known(self, augmentation: str) -> str:
        if augmentation not in self.augmentations:
            raise ValueError(f"augmentation {augmentation!r}; known are {', '.join(self.augmentations)}")
        return augmentation

    def recordings(self, path: Path, allow_silence: bool = False) -> EventRecordings:
        recordings = read(path, self.sampling, allow_silence, labelled=False)
        return self.thinning(recordings) if self.thinning else recordings

    def _read(self, path: Path) -> EventRecordings:
        recordings = read(path, self.sampling, self.allow_silence)
        return self.thinning(recordings) if self.thinning else recordings

    @property
    def _inputs(self) -> int:
        return self.thinning.channels(self.sampling.units) if self.thinning else self.sampling.units

    def _augmented(self, splits: Splits) -> Splits:
        return splits if self._augment is None else dataclasses.replace(splits, train=self._augment(splits.train))

    def smoke(self) -> tuple["ShdEvents", Path]:
        from . import miniature

        # of the miniature's few spikes thinning would leave none
        thinning = dataclasses.replace(self.thinning, every=1) if self.thinning else None
        return dataclasses.replace(self, thinning=thinning), miniature.make()
