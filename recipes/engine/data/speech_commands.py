"""Folders of audio in the layout of Google's Speech Commands (Warden 2018), as mel spectrograms.

::

    DIR/yes/0132a06d_nohash_0.wav      one folder per word; WAV or FLAC, mono, 16 kHz
    DIR/no/...
    DIR/validation_list.txt            the clips of the validation set, one "word/name" a line
    DIR/testing_list.txt               likewise of the test set; all others are for training

Folders whose name begins with "_" (background noise) are left out. How lists are read, and what in them is an error:
:mod:`recipes.engine.data.clip_lists`.

Features as in the code of Hammouamri et al.: a clip is cut or padded with silence to one second, resampled to 8 kHz,
and turned into a power spectrogram (256 samples long, 80 samples apart), 140 mel bands, in decibels, not normalised.
Batches are float32 ``[N, T, bands]``.
"""

import dataclasses
import functools
import hashlib
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from ..errors import DataError
from ..files import cache, downloads, plain_files
from . import clip_lists
from .sources import PROTOCOLS, UNKNOWN, Source, Splits

log = logging.getLogger(__name__)

_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
_CACHE_FORMAT = 2  # raised whenever the meaning of a cached file changes
_CHUNK = 256  # clips turned into spectrograms at once

_WORDS = "speech_commands_v0.02"
GSC = downloads.Published(
    "GSC",
    "https://arxiv.org/abs/1804.03209",
    "CC BY 4.0",
    (
        downloads.RemoteFile(
            f"{_WORDS}.tar.gz",
            (
                f"https://storage.googleapis.com/download.tensorflow.org/data/{_WORDS}.tar.gz",
                f"http://download.tensorflow.org/data/{_WORDS}.tar.gz",
            ),
            "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            makes=(_WORDS,),
            unpack=functools.partial(downloads.unpack_folder, _WORDS),
        ),
    ),
    data=_WORDS,
)


@dataclasses.dataclass(frozen=True)
class MelSpectrogram:
    """Mel bands over time of clips of ``duration`` seconds. The upper edge of the bands is the published one although
    it lies above half of ``rate``: the bands above are constant, and the network's normalisation does not care."""

    duration: float = 1.0
    rate: int = 8000
    window: int = 256
    hop: int = 80
    bands: int = 140
    lowest: float = 50.0
    highest: float = 14000.0

    def features(self, clips: Tensor, rate: int) -> Tensor:
        """Clips ``[N, samples]`` recorded at ``rate`` -> decibels ``[N, T, bands]``."""
        from torchaudio import functional  # a second that --help need not pay

        samples = round(self.duration * rate)
        clips = torch.nn.functional.pad(clips[:, :samples], (0, samples - min(samples, clips.shape[1])))
        return _decibels_of_bands(self)(functional.resample(clips, rate, self.rate)).transpose(1, 2)


@functools.lru_cache(maxsize=4)
def _decibels_of_bands(of: MelSpectrogram) -> torch.nn.Module:
    """Clips ``[N, samples]`` at ``of.rate`` -> decibels ``[N, bands, T]``."""
    from torchaudio import transforms

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        mel = transforms.MelSpectrogram(
            of.rate, n_fft=of.window, hop_length=of.hop, n_mels=of.bands, f_min=of.lowest, f_max=of.highest, power=2.0
        )
    return torch.nn.Sequential(mel, transforms.AmplitudeToDB())


@dataclasses.dataclass(frozen=True)
class LevelledMelSpectrogram(MelSpectrogram):
    """The same, with the loudness of a clip taken out: in tens of decibels above the clip's mean, nothing more than
    ``floor`` decibels below its loudest place."""

    floor: float = 60.0

    def features(self, clips: Tensor, rate: int) -> Tensor:
        decibels = super().features(clips, rate)
        decibels = decibels.maximum(decibels.amax((1, 2), keepdim=True) - self.floor)
        return (decibels - decibels.mean((1, 2), keepdim=True)) / 10


@dataclasses.dataclass(frozen=True)
class Spectrograms:
    """One split: ``features`` float32 [samples, steps, bands], ``labels`` int64 [samples]."""

    features: np.ndarray | cache.OnDisk
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Features [N, T, bands] and labels [N]; nothing random."""
        return torch.from_numpy(self.features[which]), torch.from_numpy(self.labels[which])

    def add_to(self, digest) -> None:
        cache.update(digest, self.features)
        digest.update(self.labels)


class SpeechCommands(Source):
    """A folder in Speech Commands' layout."""

    folder = "a folder with one subfolder of WAV or FLAC files per word, validation_list.txt and testing_list.txt"

    published = GSC

    def __init__(self, features: MelSpectrogram | None = None, rate: int = 16000):
        self.features = features or MelSpectrogram()
        self.rate = rate  # of the recordings; not among the settings, because the recordings tell

    @property
    def settings(self) -> dict:
        return {"features": dataclasses.asdict(self.features)}

    def find(self, data_dir: Path) -> str:
        return _name(_words(Path(data_dir)))

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        """Training, validation and test clips; both protocols choose the epoch on the validation clips, which is what
        the paper does on this data set. Raises :class:`DataError`."""
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
        data_dir = Path(data_dir)
        words = _words(data_dir)
        files = _split_files(data_dir, words)
        digest, parts = hashlib.sha256(), {}
        for split, paths in files.items():
            labels = np.array([words.index(path.parent.name) for path in paths], np.int64)
            parts[split] = self._part(data_dir, split, paths, labels)
            parts[split].add_to(digest)
        return Splits(
            _name(words),
            protocol,
            parts["train"],
            parts["valid"],
            parts["test"],
            self.features.bands,
            len(words),
            f"{_LISTS['valid']} ({len(parts['valid'])} clips)",
            digest.hexdigest()[:16],
            paper_criterion="valid_accuracy",
            class_names=tuple(words),
        )

    def of_run(self, settings: dict) -> "SpeechCommands":
        return SpeechCommands(dataclasses.replace(self.features, **settings["features"]), self.rate)

    def recordings(self, path: Path, allow_silence: bool = False) -> Spectrograms:
        plain_files.checked(path)
        clip = self._clip(path)
        if not allow_silence and not clip.any():
            raise DataError(
                f"{path}: silent in its first {self.features.duration:g} s; if that is meant, --allow-silence keeps it"
            )
        seconds = soundfile.info(path).duration
        if seconds > self.features.duration:
            log.info("%s: of its %.3g s the first %g s are used", path, seconds, self.features.duration)
        features = self.features.features(torch.from_numpy(clip[None]), self.rate)
        return Spectrograms(features.numpy(), np.array([UNKNOWN]))

    def smoke(self) -> tuple["SpeechCommands", Path]:
        from . import miniature_speech

        return self, miniature_speech.make()

    def _part(self, data_dir: Path, split: str, paths: list[Path], labels: np.ndarray) -> "Spectrograms":
        append = functools.partial(self._append_spectrograms, paths=paths)
        key = [{"features": dataclasses.asdict(self.features)}, split]
        return Spectrograms(self._kept("mel", data_dir, paths, key, "features", append), labels)

    def _kept(
        self, kind: str, data_dir: Path, paths: list[Path], key: list, name: str, append: Callable[[cache.Sink], None]
    ) -> cache.OnDisk:
        """What ``append`` makes of these clips, from the cache where it is there already."""
        listing = hashlib.sha256()
        for path in paths:
            stat = plain_files.checked(path)
            listing.update(f"{path.relative_to(data_dir)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        kept = cache.entry(kind, data_dir, [_CACHE_FORMAT, *key, listing.hexdigest()])
        return cache.cached(data_dir, kept, append, (name,))[name]

    def _append_spectrograms(self, sink: cache.Sink, paths: list[Path]) -> None:
        for start in range(0, len(paths), _CHUNK):
            clips = np.stack([self._clip(path) for path in paths[start : start + _CHUNK]])
            sink.append("features", self.features.features(torch.from_numpy(clips), self.rate).numpy())

    def _clip(self, path: Path) -> np.ndarray:
        """float32 [samples], cut or padded to the length of all."""
        samples = round(self.features.duration * self.rate)
        try:
            with soundfile.SoundFile(path) as file:
                rate, channels = file.samplerate, file.channels
                clip = file.read(samples, dtype="float32") if channels == 1 else np.zeros(0)
        except (OSError, soundfile.SoundFileError) as error:
            raise DataError(f"{path}: not a readable audio file ({error})") from error
        if rate != self.rate:
            raise DataError(f"{path}: recorded at {rate} Hz; expected {self.rate} Hz: resample it")
        if channels != 1:
            raise DataError(f"{path}: {channels} channels; expected mono")
        if not len(clip):
            raise DataError(f"{path}: empty, a recording of zero length")
        if not np.isfinite(clip).all():
            raise DataError(f"{path}: samples that are not finite")
        return np.pad(clip, (0, samples - len(clip)))


def _words(data_dir: Path) -> list[str]:
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such folder")
    words = [entry.name for entry in sorted(data_dir.iterdir()) if entry.is_dir() and entry.name[0] not in "_."]
    words = [word for word in words if any(p.suffix.lower() in clip_lists.SUFFIXES for p in (data_dir / word).iterdir())]
    if len(words) < 2:
        raise DataError(f"{data_dir}: expected one subfolder of WAV or FLAC files per word, found {len(words)}")
    return words


def _name(words: list[str]) -> str:
    """GSC-35, GSC-10, ...: by the number of words."""
    return f"GSC-{len(words)}"


def _split_files(data_dir: Path, words: list[str]) -> dict[str, list[Path]]:
    return clip_lists.splits_of(data_dir, clip_lists.clips_of(data_dir, words), _LISTS)
