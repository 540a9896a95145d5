"""Braille letters read by a sliding fingertip of 12 taxels: Mueller-Cleve et al. (2022).

Two kinds of NumPy files, read without pickle:

events   ``times`` (s), ``channels`` (2 taxel + polarity), ``offsets``, ``labels``: already encoded.
traces   ``taxels`` uint8 [samples, steps, 12] at 40 Hz, ``labels``: encoded here by :func:`sigma_delta`.

Splits are 70 : 10 : 20, stratified by letter, as in the EventProp-with-delays paper.
"""

import argparse
import dataclasses
import hashlib
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from recipes.engine.events import EventRecordings
from recipes.engine.sources import DataError, Source, Splits

RATE = 40.0  # Hz, of the raw traces
TAXELS = 12
_FILES = {"th10": "braille_th10.npz", "raw": "braille_raw40hz_50rep.npz"}
ENCODINGS = ("th10", "theta1", "theta2")


def sigma_delta(traces: np.ndarray, threshold: float, dt: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Times (unit of ``dt``) and channels (2 taxel + polarity; 0 up, 1 down) of every sample of ``traces`` [samples,
    steps, taxels].

    The encoder keeps a reconstruction r of each taxel, at first its first value. Between two frames the trace is a
    straight line; whenever it has moved a threshold away from r, an event is emitted at that time and r follows it by
    one threshold.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, not {threshold}")
    return [_sigma_delta(trace.astype(np.float64), threshold, dt) for trace in traces]


def _sigma_delta(trace: np.ndarray, threshold: float, dt: float) -> tuple[np.ndarray, np.ndarray]:
    reference = trace[0].copy()
    times, channels = [], []
    for step in range(1, len(trace)):
        before, now = trace[step - 1], trace[step]
        events = np.floor(np.abs(now - reference) / threshold).astype(int)
        for taxel in np.flatnonzero(events):
            up = now[taxel] > reference[taxel]
            levels = reference[taxel] + (1 if up else -1) * threshold * np.arange(1, events[taxel] + 1)
            passed = (levels - before[taxel]) / (now[taxel] - before[taxel])
            times.append((step - 1 + passed) * dt)
            channels.append(np.full(len(levels), 2 * taxel + (0 if up else 1)))
            reference[taxel] = levels[-1]
    if not times:
        return np.zeros(0), np.zeros(0, int)
    return np.concatenate(times), np.concatenate(channels)


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
    """``encoding`` "th10": the published events; "theta1", "theta2": the raw traces, encoded with a threshold of 1
    or 2. ``resolution`` ms: events are moved to the multiple before them; None keeps their times."""

    encoding: str = "th10"
    resolution: float | None = None
    split_seed: int = 0

    folder = f"a folder with {_FILES['th10']} or, for the raw encodings, {_FILES['raw']}"

    @property
    def settings(self) -> dict:
        return {"braille": dataclasses.asdict(self)}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--encoding",
            choices=ENCODINGS,
            help="th10: published events; theta1, theta2: raw traces, sigma-delta encoded here with that threshold "
            f"(default {self.encoding})",
        )

    def with_options(self, given: argparse.Namespace) -> "Braille":
        return dataclasses.replace(self, encoding=given.encoding) if given.encoding else self

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        return given.encoding is None or settings["braille"]["encoding"] == given.encoding

    @property
    def name(self) -> str:
        return "Braille-th10" if self.encoding == "th10" else f"Braille-raw-{self.encoding}"

    def find(self, data_dir: Path) -> str:
        path = self._path(data_dir)
        if not path.is_file():
            raise DataError(f"{path}: no such file (needed for --encoding {self.encoding})")
        return self.name

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        self.find(data_dir)
        recordings = read(self._path(data_dir), self.encoding)
        if self.resolution is not None:
            on_grid = np.floor(recordings.times / self.resolution) * np.float32(self.resolution)
            recordings = dataclasses.replace(recordings, times=on_grid.astype(np.float32))
        return split(recordings, self.name, protocol, self.split_seed)

    def _path(self, data_dir: Path) -> Path:
        return Path(data_dir) / _FILES["th10" if self.encoding == "th10" else "raw"]

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
    )


class MiniatureBraille(Source):
    """Generated taxel traces in Braille's format, four letters that differ in when each taxel is touched."""

    def __init__(self, of: Braille, samples: int = 120, seed: int = 0):
        self.of, self.samples, self.seed = of, samples, seed

    @property
    def settings(self) -> dict:
        return self.of.settings | {"generated": {"samples": self.samples, "seed": self.seed}}

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        rng = np.random.default_rng(self.seed)
        labels = np.arange(self.samples) % 4
        touched = 10 + 50 * np.random.default_rng(99).random((4, TAXELS))  # in frames
        frames = np.arange(76.0)[:, None]
        when = touched[labels] + rng.normal(0, 1.0, (self.samples, TAXELS))
        traces = np.round(100 + 20 * np.exp(-0.5 * ((frames - when[:, None]) / 3) ** 2)).astype(np.uint8)
        threshold = {"th10": 4.0, "theta1": 1.0, "theta2": 2.0}[self.of.encoding]
        samples = sigma_delta(traces, threshold, 1000 / RATE)
        return split(
            EventRecordings.of(samples, labels, 2 * TAXELS, 76 * 1000 / RATE), "miniature", protocol, self.seed
        )


def read(path: Path, encoding: str) -> EventRecordings:
    """One file, checked and encoded. Raises :class:`DataError`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a whole npz file without pickled objects ({error})") from error
    needed = ("times", "channels", "offsets", "labels") if encoding == "th10" else ("taxels", "labels")
    for name in needed:
        if name not in arrays:
            raise DataError(f"{path}: no array {name}; found {', '.join(sorted(arrays)) or 'nothing'}")
    labels = arrays["labels"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise DataError(f"{path}: labels must be one integer per sample, not {labels.dtype} of shape {labels.shape}")
    letters = len(arrays["letters"]) if "letters" in arrays else int(labels.max()) + 1
    wrong = np.flatnonzero((labels < 0) | (labels >= letters))
    if len(wrong):
        raise DataError(f"{path}: sample {wrong[0]} has label {labels[wrong[0]]}, out of range: 0 to {letters - 1}")
    return _read_events(path, arrays) if encoding == "th10" else _read_traces(path, arrays, encoding)


def _read_events(path: Path, arrays: dict[str, np.ndarray]) -> EventRecordings:
    times, channels, offsets = arrays["times"], arrays["channels"], arrays["offsets"].astype(np.int64)
    labels = arrays["labels"]
    if len(offsets) != len(labels) + 1 or offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"{path}: offsets must rise from 0 to the {len(times)} events in {len(labels) + 1} steps, "
            f"not from {offsets[0]} to {offsets[-1]} in {len(offsets)}"
        )
    if len(times) != len(channels):
        raise DataError(f"{path}: {len(times)} times but {len(channels)} channels")
    for values, wrong, complaint in (
        (times, ~np.isfinite(times) | (times < 0), "the spike time {} s"),
        (channels, (channels < 0) | (channels >= 2 * TAXELS), "a spike of channel {}; channels are 0 to 23"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            sample = int(np.searchsorted(offsets, i, side="right")) - 1
            raise DataError(f"{path}: sample {sample} has {complaint.format(values[i])}")
    times = np.float32(1000.0) * times.astype(np.float32)
    samples = [(times[start:stop], channels[start:stop]) for start, stop in pairwise(offsets)]
    # the end of the recordings: the first multiple of 25 ms (one raw frame) after their last event
    end = 25.0 * (np.floor(float(times.max(initial=0.0)) / 25.0) + 1)
    return EventRecordings.of(samples, labels, 2 * TAXELS, end)


def _read_traces(path: Path, arrays: dict[str, np.ndarray], encoding: str) -> EventRecordings:
    traces, labels = arrays["taxels"], arrays["labels"]
    if traces.ndim != 3 or traces.shape[2] != TAXELS or len(traces) != len(labels) or traces.shape[1] < 2:
        raise DataError(
            f"{path}: taxels must be [{len(labels)} samples, steps, {TAXELS}], not {'x'.join(map(str, traces.shape))}"
        )
    if not np.isfinite(traces.astype(np.float64)).all():
        sample = int(np.argwhere(~np.isfinite(traces.astype(np.float64)))[0, 0])
        raise DataError(f"{path}: sample {sample} has a taxel value that is not a number")
    dt = 1000 / RATE
    threshold = float(encoding.removeprefix("theta"))
    samples = sigma_delta(traces, threshold, dt)
    return EventRecordings.of(samples, labels, 2 * TAXELS, traces.shape[1] * dt)  # no event after the last frame
