"""Braille letters read by a sliding fingertip of 12 taxels: Mueller-Cleve et al. (2022).

Two kinds of NumPy files, read without pickle:

events   ``times`` (s), ``channels`` (2 taxel + polarity), ``offsets``, ``labels``: already encoded.
traces   ``taxels`` uint8 [samples, steps, 12] at 40 Hz, ``labels``: encoded here by :func:`sigma_delta`.

The events are published as pickles (Zenodo 7050094). They are downloaded and turned into the first kind, without running
what a pickle may say (:mod:`recipes.engine.files.plain_pickle`).

Splits are 70 : 10 : 20, stratified by letter, as in the EventProp-with-delays paper.
"""

import argparse
import dataclasses
import hashlib
import string
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_delay_plugins.bins import bin_of

from ..engine.data import longer, silence
from ..engine.data.events import EventRecordings
from ..engine.data.sources import UNKNOWN, Source, Splits
from ..engine.errors import DataError
from ..engine.files import archives, atomic, downloads, numpy_files, plain_files, plain_pickle

_LONGEST = 3600  # s
_MOST_EVENTS = 1 << 27  # that traces are encoded into
RATE = 40.0  # Hz, of the raw traces
TAXELS = 12
LETTERS = ("Space", *string.ascii_uppercase)
THRESHOLDS = (1, 2, 5, 10)  # of the published events
_RAW = "braille_raw40hz_50rep.npz"
ENCODINGS = (*(f"th{threshold}" for threshold in THRESHOLDS), "theta1", "theta2")


def _published_file(encoding: str) -> str:
    return f"braille_{encoding}.npz"


def unpack(archive: Path, folder: Path) -> None:
    """The published archive of pickles -> one file of events per threshold. Raises :class:`DataError`."""
    for threshold in THRESHOLDS:
        name = f"data_braille_letters_th_{threshold}.pkl"
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked.") as temporary:
            archives.unpack_file(archive, name, Path(temporary) / name)
            try:
                arrays = events_of(Path(temporary) / name)
            except DataError as error:
                raise DataError(f"{archive}: {str(error).removeprefix(f'{temporary}/')}") from error
        with atomic.replacing(folder / _published_file(f"th{threshold}")) as part, open(part, "wb") as file:
            np.savez_compressed(file, **arrays)


def events_of(pickled: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of events from a published pickle: a table (or a list) of samples, each a ``letter`` and
    ``events``, lists of times in s by taxel and polarity. Raises :class:`DataError`."""
    table = plain_pickle.load(pickled)
    if isinstance(table, (list, np.ndarray)):
        table = {name: [sample.get(name) for sample in table if isinstance(sample, dict)] for name in ("letter", "events")}
    columns = [table.get(name) for name in ("letter", "events")] if isinstance(table, dict) else [None]
    if not all(isinstance(column, (list, tuple, np.ndarray)) and len(column) for column in columns):
        raise DataError(f"{pickled.name}: no samples with letter and events")
    times, channels, lengths = [], [], []
    for number, sample in enumerate(table["events"]):
        try:
            by_channel = [np.asarray(channel, np.float64).reshape(-1) for taxel in sample for channel in taxel]
        except (TypeError, ValueError) as error:
            raise DataError(f"{pickled.name}: sample {number} has events that are not lists of times") from error
        if len(by_channel) != 2 * TAXELS:
            raise DataError(f"{pickled.name}: sample {number} has {len(by_channel)} channels, not {2 * TAXELS}")
        of_sample = np.concatenate(by_channel)
        order = np.argsort(of_sample, kind="stable")
        times.append(of_sample[order].astype(np.float32))
        channels.append(np.repeat(np.arange(2 * TAXELS, dtype=np.uint8), [len(c) for c in by_channel])[order])
        lengths.append(len(of_sample))
    unknown = [letter for letter in table["letter"] if not (isinstance(letter, str) and letter in LETTERS)]
    if unknown or len(table["letter"]) != len(lengths):
        what = f"the letter {unknown[0]!r:.50}" if unknown else f"{len(table['letter'])} letters but {len(lengths)} samples"
        raise DataError(f"{pickled.name}: {what}")
    return {
        "times": np.concatenate(times),
        "channels": np.concatenate(channels),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "labels": np.array([LETTERS.index(letter) for letter in table["letter"]], np.uint8),
        "letters": np.array(LETTERS),
    }


PUBLISHED = downloads.Published(
    "Braille",
    "https://zenodo.org/records/7050094",
    "see that page",
    (
        downloads.RemoteFile(
            "reading_braille_data.zip",
            ("https://zenodo.org/records/7050094/files/reading_braille_data.zip",),
            None,
            makes=tuple(_published_file(f"th{threshold}") for threshold in THRESHOLDS),
            unpack=unpack,
        ),
    ),
)


def sigma_delta(traces: np.ndarray, threshold: float, dt: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Times (unit of ``dt``) and channels (2 taxel + polarity; 0 up, 1 down) of every sample of ``traces`` [samples,
    steps, taxels].

    The encoder keeps a reconstruction r of each taxel, at first its first value. Between two frames the trace is a
    straight line; whenever it has moved a threshold away from r, an event is emitted at that time and r follows it by
    one threshold.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    traces = np.asarray(traces, np.float64)
    reference, found = traces[:, 0].copy(), [(np.zeros(0, int), np.zeros(0), np.zeros(0, int))]
    for step in range(1, traces.shape[1]):
        before, now = traces[:, step - 1], traces[:, step]
        events = np.floor(np.abs(now - reference) / threshold).astype(int)
        sample, taxel = np.nonzero(events)
        number, start, sign = events[sample, taxel], reference[sample, taxel], np.sign(now - reference)[sample, taxel]
        reference[sample, taxel] = start + sign * threshold * number
        which = np.repeat(np.arange(len(sample)), number)  # of sample and taxel, for each event
        level = np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number) + 1
        reached, sample, taxel = start[which] + sign[which] * threshold * level, sample[which], taxel[which]
        passed = (reached - before[sample, taxel]) / (now - before)[sample, taxel]
        found.append((sample, (step - 1 + passed) * dt, 2 * taxel + (sign[which] < 0)))
    samples, times, channels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(samples, kind="stable")
    ends = np.cumsum(np.bincount(samples, minlength=len(traces)))[:-1]
    return list(zip(np.split(times[order], ends), np.split(channels[order], ends), strict=True))


def stratified(labels: np.ndarray, shares: tuple[float, float], seed: int) -> tuple[np.ndarray, ...]:
    """Sample numbers of training, validation and test sets: of every class ``shares[0]`` for training, ``shares[1]``
    for validation and the rest for testing."""
    rng, parts = np.random.default_rng(seed), ([], [], [])
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(shares) * len(of_class)).astype(int)
        for part, chosen in zip(parts, np.split(of_class, ends), strict=True):
            part.append(chosen)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


@dataclasses.dataclass(frozen=True)
class Braille(Source):
    """``encoding`` "th1" ... "th10": the published events; "theta1", "theta2": the raw traces, encoded with a threshold
    of 1 or 2. ``resolution`` ms: events are moved to the multiple before them; None keeps their times."""

    encoding: str = "th10"
    resolution: float | None = None
    split_seed: int = 0
    allow_silence: bool = False
    duration: float | None = None
    """Of every recording (ms), as a run knows it; None: up to the end of the last one in the file."""

    @property
    def folder(self) -> str:
        return f"a folder with {self._path('').name}"

    @property
    def published(self) -> downloads.Published | None:
        return None if self._is_raw else PUBLISHED

    @property
    def _is_raw(self) -> bool:
        return self.encoding.startswith("theta")

    @property
    def settings(self) -> dict:
        # Not allow_silence: it changes no number of data that can be read without it.
        return {"braille": {"encoding": self.encoding, "resolution": self.resolution, "split_seed": self.split_seed}}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--encoding",
            choices=ENCODINGS,
            help="th1 ... th10: published events; theta1, theta2: raw traces, sigma-delta encoded here with that threshold "
            f"(default {self.encoding})",
        )
        silence.add_option(parser)

    def with_options(self, given: argparse.Namespace) -> "Braille":
        encoding = given.encoding or self.encoding
        return dataclasses.replace(self, encoding=encoding, allow_silence=given.allow_silence)

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        return given.encoding is None or settings["braille"]["encoding"] == given.encoding

    @property
    def name(self) -> str:
        return f"Braille-raw-{self.encoding}" if self._is_raw else f"Braille-{self.encoding}"

    def find(self, data_dir: Path) -> str:
        path = self._path(data_dir)
        plain_files.checked(path, f" (needed for --encoding {self.encoding})")
        return self.name

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        self.find(data_dir)
        recordings = self._resolved(read(self._path(data_dir), self.encoding, self.allow_silence))
        return split(recordings, self.name, protocol, self.split_seed)

    def of_run(self, settings: dict) -> "Braille | MiniatureBraille":
        known = settings["braille"]
        if known["encoding"] not in ENCODINGS:
            raise ValueError(f"encoding {known['encoding']!r}; known are {', '.join(ENCODINGS)}")
        source = dataclasses.replace(self, **known)
        return MiniatureBraille(source, **settings["generated"]) if "generated" in settings else source

    def knowing(self, facts: Mapping[str, Any]) -> "Braille":
        return dataclasses.replace(self, duration=facts.get("duration"))

    def recordings(self, path: Path, allow_silence: bool = False) -> EventRecordings:
        return self._resolved(read(path, self.encoding, allow_silence, labelled=False, duration=self.duration))

    def _resolved(self, recordings: EventRecordings) -> EventRecordings:
        if self.resolution is None:
            return recordings
        step = bin_of(torch.from_numpy(recordings.times), self.resolution).numpy()
        return dataclasses.replace(recordings, times=(step * self.resolution).astype(np.float32))

    def _path(self, data_dir: Path) -> Path:
        return Path(data_dir) / (_RAW if self._is_raw else _published_file(self.encoding))

    def smoke(self) -> tuple["Source", Path | None]:
        return MiniatureBraille(self), None


def split(recordings: EventRecordings, name: str, protocol: str, seed: int) -> Splits:
    digest = hashlib.sha256()
    parts = []
    for which in stratified(recordings.labels, (0.7, 0.1), seed):
        part = recordings.take(which)
        part.add_to(digest)
        parts.append(part)
    return Splits(
        name,
        protocol,
        *parts,
        inputs=2 * TAXELS,
        classes=int(recordings.labels.max()) + 1,
        validation=f"{len(parts[1])} samples held out, stratified by letter",
        digest=digest.hexdigest()[:16],
        paper_criterion="valid_accuracy",
        class_names=recordings.class_names,
    )


class MiniatureBraille(Source):
    """Generated taxel traces in Braille's format, four letters that differ in when each taxel is touched."""

    def __init__(self, of: Braille, samples: int = 120, seed: int = 0):
        self.of, self.samples, self.seed = of, samples, seed

    @property
    def settings(self) -> dict:
        return self.of.settings | {"generated": {"samples": self.samples, "seed": self.seed}}

    def knowing(self, facts: Mapping[str, Any]) -> "MiniatureBraille":
        return MiniatureBraille(self.of.knowing(facts), self.samples, self.seed)

    def recordings(self, path: Path, allow_silence: bool = False) -> EventRecordings:
        return self.of.recordings(path, allow_silence)

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        rng = np.random.default_rng(self.seed)
        labels = np.arange(self.samples) % 4
        touched = 10 + 50 * np.random.default_rng(99).random((4, TAXELS))  # in frames
        frames = np.arange(76.0)[:, None]
        when = touched[labels] + rng.normal(0, 1.0, (self.samples, TAXELS))
        traces = np.round(100 + 20 * np.exp(-0.5 * ((frames - when[:, None]) / 3) ** 2)).astype(np.uint8)
        threshold = min(4.0, float(self.of.encoding.removeprefix("theta").removeprefix("th")))
        samples = sigma_delta(traces, threshold, 1000 / RATE)
        return split(EventRecordings.of(samples, labels, 2 * TAXELS, 76 * 1000 / RATE), "miniature", protocol, self.seed)


def read(
    path: Path, encoding: str, allow_silence: bool = False, labelled: bool = True, duration: float | None = None
) -> EventRecordings:
    """One file, checked and encoded, which may have no labels where it need not be ``labelled``; of each recording
    ``duration`` ms (None: all). Raises :class:`DataError`."""
    recordings = _read(path, encoding, labelled, duration)
    silent = np.flatnonzero(np.diff(recordings.offsets) == 0)
    silence.check(path, silent, recordings.duration / 1000, allow_silence)
    return recordings


def _read(path: Path, encoding: str, labelled: bool, duration: float | None) -> EventRecordings:
    raw = encoding.startswith("theta")
    needed = ("taxels", "labels") if raw else ("times", "channels", "offsets", "labels")
    arrays = numpy_files.read_npz(path)
    unknown = not labelled and "labels" not in arrays
    if unknown:
        counted = arrays.get("taxels" if raw else "offsets", np.zeros(0))
        samples = (len(counted) if counted.ndim else 0) - (not raw)
        if samples < 1:
            raise DataError(f"{path}: no samples; needed are {', '.join(needed[:-1])}")
        arrays["labels"] = np.zeros(samples, np.int64)
    for name in needed:
        if name not in arrays:
            raise DataError(f"{path}: no array {name}; found {', '.join(sorted(arrays)) or 'nothing'}")
    labels = arrays["labels"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise DataError(f"{path}: labels must be one integer per sample, not {labels.dtype} of shape {labels.shape}")
    if arrays.get("letters", labels).ndim != 1:
        raise DataError(f"{path}: letters must be one name per letter, not of shape {arrays['letters'].shape}")
    letters = len(arrays["letters"]) if "letters" in arrays else int(labels.max()) + 1
    wrong = np.flatnonzero((labels < 0) | (labels >= letters))
    if len(wrong):
        raise DataError(f"{path}: sample {wrong[0]} has label {labels[wrong[0]]}, out of range: 0 to {letters - 1}")
    if labelled and "letters" not in arrays and len(np.unique(labels)) < letters:
        missing = np.flatnonzero(np.unique(labels) != np.arange(len(np.unique(labels))))[0]
        raise DataError(f"{path}: no sample has label {missing}, but some have label {labels.max()}")
    recordings = _read_traces(path, arrays, encoding, duration) if raw else _read_events(path, arrays, duration)
    labels = np.full(len(recordings), UNKNOWN) if unknown else recordings.labels
    names = tuple(map(str, arrays["letters"])) if "letters" in arrays else ()
    return dataclasses.replace(recordings, labels=labels, class_names=names)


def _read_events(path: Path, arrays: dict[str, np.ndarray], duration: float | None) -> EventRecordings:
    times, channels, offsets = arrays["times"], arrays["channels"], arrays["offsets"]
    labels = arrays["labels"]
    for name, array in (("times", times), ("channels", channels), ("offsets", offsets)):
        if array.ndim != 1:
            raise DataError(f"{path}: {name} must be a list, not of shape {array.shape}")
    if not np.issubdtype(offsets.dtype, np.integer):
        raise DataError(f"{path}: offsets must be integers, not {offsets.dtype}")
    offsets = offsets.astype(np.int64)
    if len(offsets) != len(labels) + 1 or offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"{path}: offsets must rise from 0 to the {len(times)} events in {len(labels) + 1} steps, "
            f"not as {offsets[:3].tolist()} ... {offsets[-3:].tolist()} in {len(offsets)}"
        )
    if len(times) != len(channels):
        raise DataError(f"{path}: {len(times)} times but {len(channels)} channels")
    if not (np.issubdtype(times.dtype, np.floating) and np.issubdtype(channels.dtype, np.integer)):
        raise DataError(f"{path}: times must be floats (s) and channels integers, not {times.dtype} and {channels.dtype}")
    for values, wrong, complaint in (
        (times, ~np.isfinite(times) | (times < 0), "the spike time {} s"),
        (times, times > _LONGEST, f"the spike time {{}} s; recordings of at most {_LONGEST} s are read"),
        (channels, (channels < 0) | (channels >= 2 * TAXELS), "a spike of channel {}; channels are 0 to 23"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            sample = int(np.searchsorted(offsets, i, side="right")) - 1
            raise DataError(f"{path}: sample {sample} has {complaint.format(values[i])}")
    times = (1000.0 * times.astype(np.float64)).astype(np.float32)
    samples = [(times[start:stop], channels[start:stop]) for start, stop in pairwise(offsets)]
    # the end of the recordings: the first multiple of 25 ms (one raw frame) after their last event
    end = 25.0 * (np.floor(float(times.max(initial=0.0)) / 25.0) + 1)
    return _until(path, samples, labels, end, duration)


def _until(path: Path, samples: list, labels: np.ndarray, end: float, duration: float | None) -> EventRecordings:
    """Recordings of ``duration`` ms; None: those of the file, up to its ``end``."""
    if duration is not None:
        cut = longer.Cut()
        for number, (times, _) in enumerate(samples):
            cut.add(np.full(len(times), number), times / 1000.0, times >= duration)
        longer.check(path, cut.counted, len(samples), duration / 1000.0, remedy=False)
    return EventRecordings.of(samples, labels, 2 * TAXELS, end if duration is None else duration)


def _read_traces(path: Path, arrays: dict[str, np.ndarray], encoding: str, duration: float | None) -> EventRecordings:
    traces, labels = arrays["taxels"], arrays["labels"]
    if traces.ndim != 3 or traces.shape[2] != TAXELS or len(traces) != len(labels) or traces.shape[1] < 2:
        raise DataError(
            f"{path}: taxels must be [{len(labels)} samples, steps, {TAXELS}], not {'x'.join(map(str, traces.shape))}"
        )
    if traces.dtype.kind not in "uif":
        raise DataError(f"{path}: taxels must be numbers, not {traces.dtype}")
    traces = traces.astype(np.float64)
    if not np.isfinite(traces).all():
        sample = int(np.argwhere(~np.isfinite(traces))[0, 0])
        raise DataError(f"{path}: sample {sample} has a taxel value that is not a number")
    dt = 1000 / RATE
    threshold = float(encoding.removeprefix("theta"))
    events = np.abs(np.diff(traces, axis=1)).sum() / threshold
    if events > _MOST_EVENTS:
        raise DataError(f"{path}: the traces would become {events:g} events; at most {_MOST_EVENTS} are made")
    samples = sigma_delta(traces, threshold, dt)
    return _until(path, samples, labels, traces.shape[1] * dt, duration)  # no event after the last frame
