"""Speech Commands whose training clips are augmented as sound, and then as spectrograms, anew in every epoch.

:data:`AUGMENTATIONS` has what is done by name; each has one number, its strength, at 0 nothing happens. Validation and test
clips are taken as they are.
"""

import argparse
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snn_delay_plugins.kernels.compiled import njit

from ..files import cache
from . import strengths as named
from .speech_commands import MelSpectrogram, Spectrograms, SpeechCommands


@dataclasses.dataclass
class Sounds:
    """Clips of a batch on their way: ``clips`` float32 ``[N, samples]`` at ``rate``, and what is planned for them, one
    number a clip: sample t is read at ``scale t + offset``."""

    clips: np.ndarray
    rate: int
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, clips: np.ndarray, rate: int) -> "Sounds":
        return cls(clips, rate, np.ones(len(clips)), np.zeros(len(clips)))

    def moved(self) -> np.ndarray:
        """The clips read where it is planned, on the line between two samples; silence outside."""
        out = np.empty_like(self.clips)
        _read(self.clips, self.scale, self.offset, out)
        return out


@njit(nogil=True, cache=True)
def _read(clips, scale, offset, out):
    samples = clips.shape[1]
    for n in range(clips.shape[0]):
        for t in range(samples):
            place = scale[n] * t + offset[n]
            left = int(np.floor(place))
            if 0 <= left < samples - 1:
                share = place - left
                out[n, t] = (1.0 - share) * clips[n, left] + share * clips[n, left + 1]
            else:
                out[n, t] = 0.0


class SoundChange:
    """Draws for every clip what is done to it; ``most`` is the strength."""

    limit = float("inf")

    def __init__(self, most: float):
        self.most = most

    def plan(self, sounds: Sounds, rng: np.random.Generator) -> None:
        """Where the samples are read."""

    def sound(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Clips float32 ``[N, samples]``."""
        return clips

    def spectrogram(self, bands: Tensor, rng: np.random.Generator) -> Tensor:
        """Spectrograms ``[N, T, bands]``, which may be written into."""
        return bands


class Speed(SoundChange):
    """The whole clip faster and higher by one factor exp(-most ... most), about its middle."""

    limit = 1.0

    def plan(self, sounds, rng):
        factor = np.exp(rng.uniform(-self.most, self.most, len(sounds.clips)))
        middle = sounds.clips.shape[1] / 2
        sounds.offset = sounds.offset + sounds.scale * (1 - factor) * middle
        sounds.scale = sounds.scale * factor


class TimeShift(SoundChange):
    """The whole clip later by -most ... most ms."""

    limit = 1000.0

    def plan(self, sounds, rng):
        by = rng.uniform(-self.most, self.most, len(sounds.clips)) * sounds.rate / 1000
        sounds.offset = sounds.offset - sounds.scale * by


class Noise(SoundChange):
    """Noise between white and brown over the clip, its power up to ``most`` times that of the clip, drawn evenly in
    decibels over the 40 below that."""

    limit = 10.0

    def sound(self, clips, rng):
        count, samples = clips.shape
        noises = _noises(-(-count // 8), samples, rng)  # which takes longer than all the rest: eight clips share one
        at = rng.integers(samples, size=count)
        noise = np.stack([np.roll(noises[n // 8], at[n]) for n in range(count)])
        level = self.most * 10 ** rng.uniform(-4, 0, (count, 1))
        power = np.square(clips).mean(1, keepdims=True)
        return clips + noise * np.sqrt(level * power).astype(np.float32)


def _noises(count: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 ``[count, samples]`` of power 1, with an amplitude that falls with the frequency, 20 Hz as 0, or does not."""
    frequency = np.maximum(np.arange(samples // 2 + 1, dtype=np.float32), 20.0)
    steepness = rng.uniform(0, 1, (count, 1)).astype(np.float32)
    spectrum = rng.standard_normal((count, len(frequency), 2), np.float32).view(np.complex64)[..., 0]
    noises = np.fft.irfft(spectrum * frequency**-steepness, samples, 1).astype(np.float32)
    return noises / np.sqrt(np.square(noises).mean(1, keepdims=True))


class BandStretch(SoundChange):
    """The bands of a spectrogram wider or narrower by one factor exp(-most ... most), from the lowest on, as the vocal
    tract of somebody else."""

    limit = 1.0

    def spectrogram(self, bands, rng):
        count = bands.shape[2]
        factor = np.exp(rng.uniform(-self.most, self.most, (len(bands), 1)))
        place = torch.from_numpy(np.clip(factor * np.arange(count), 0, count - 1))
        left = place.long().clamp(max=count - 2)
        share = (place - left).to(bands.dtype)[:, None]
        index = left[:, None].expand_as(bands)
        return bands.gather(2, index).lerp_(bands.gather(2, index + 1), share.expand_as(bands))


class TimeMask(SoundChange):
    """Two stretches of time of 0 ... most of the clip each, in which a spectrogram is at its mean (Park et al. 2019)."""

    limit = 1.0

    def spectrogram(self, bands, rng):
        return _masked(bands, 1, self.most, rng)


class BandMask(SoundChange):
    """The same over the bands."""

    limit = 1.0

    def spectrogram(self, bands, rng):
        return _masked(bands, 2, self.most, rng)


def _masked(bands: Tensor, dim: int, most: float, rng: np.random.Generator, times: int = 2) -> Tensor:
    count = bands.shape[dim]
    mean = bands.mean((1, 2), keepdim=True)
    places = torch.arange(count).view(1, -1, 1) if dim == 1 else torch.arange(count).view(1, 1, -1)
    for _ in range(times):
        length = rng.uniform(0, most, len(bands)) * count
        begin = rng.uniform(0, 1, len(bands)) * (count - length)
        begin, end = (torch.from_numpy(at).view(-1, 1, 1) for at in (begin, begin + length))
        bands = torch.where((places >= begin) & (places < end), mean, bands)
    return bands


AUGMENTATIONS: dict[str, type[SoundChange]] = {
    "speed": Speed,
    "time_shift": TimeShift,
    "noise": Noise,
    "band_stretch": BandStretch,
    "time_mask": TimeMask,
    "band_mask": BandMask,
}


@dataclasses.dataclass(frozen=True)
class AugmentedClips:
    """Clips ``int16 [samples of the set, samples]`` whose batches are spectrograms float32 ``[N, T, bands]``, changed anew
    whenever they are asked for."""

    clips: np.ndarray | cache.OnDisk
    labels: np.ndarray
    rate: int
    features: MelSpectrogram
    changes: tuple[SoundChange, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        sounds = Sounds.of(self.clips[which].astype(np.float32) / 2**15, self.rate)
        for change in self.changes:
            change.plan(sounds, rng)
        clips = sounds.moved()
        for change in self.changes:
            clips = change.sound(clips, rng)
        bands = self.features.features(torch.from_numpy(clips), self.rate)
        for change in self.changes:
            bands = change.spectrogram(bands, rng)
        return bands, torch.from_numpy(self.labels[which])

    def add_to(self, digest) -> None:
        cache.update(digest, self.clips)
        digest.update(self.labels)


class AugmentedSpeech(SpeechCommands):
    """A folder in Speech Commands' layout. ``strengths``: of the augmentations of training clips, by their names in
    :data:`AUGMENTATIONS`."""

    def __init__(self, features: MelSpectrogram, strengths: Mapping[str, float], rate: int = 16000):
        super().__init__(features, rate)
        self.strengths = named.used(strengths)
        named.check(self.strengths, {name: kind.limit for name, kind in AUGMENTATIONS.items()})

    @property
    def settings(self) -> dict:
        return super().settings | {"augmentation": dict(self.strengths)}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        named.add_option(parser, self.strengths, "ms or shares")

    def with_options(self, given: argparse.Namespace) -> "AugmentedSpeech":
        return AugmentedSpeech(self.features, dict(self.strengths) | named.asked_for(given), self.rate)

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        return given.augment is None or settings["augmentation"] == self.strengths

    def of_run(self, settings: dict) -> "AugmentedSpeech":
        features = dataclasses.replace(self.features, **settings["features"])
        return AugmentedSpeech(features, settings["augmentation"], self.rate)

    def _part(self, data_dir: Path, split: str, paths: list[Path], labels: np.ndarray) -> AugmentedClips | Spectrograms:
        if split != "train":
            return super()._part(data_dir, split, paths, labels)
        append = functools.partial(self._append_clips, paths=paths)
        clips = self._kept("clips", data_dir, paths, [self.rate, self.features.duration], "clips", append)
        changes = tuple(kind(self.strengths[name]) for name, kind in AUGMENTATIONS.items() if name in self.strengths)
        return AugmentedClips(clips, labels, self.rate, self.features, changes)

    def _append_clips(self, sink: cache.Sink, paths: list[Path]) -> None:
        for path in paths:
            sink.append("clips", np.round(self._clip(path) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)[None])
