"""Augmentations of spike recordings: Nowotny, Turner, Knight (2025), as the EventProp-with-delays paper uses them.

Shift: all events of a sample move by one random number of channels. Blend: of two samples of one class, aligned at
their common centre of mass in time and channel, every event is kept with probability 1/2. Stretch and drop, which are not
in the papers: all times of a sample by one factor; every event is lost with one probability.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from snn_delay_plugins.events import SpikeEvents

from ..engine.data.events import EventRecordings, as_events

Sample = tuple[np.ndarray, np.ndarray]  # times in ms, ascending; units


def shift(sample: Sample, by: int, num_units: int) -> Sample:
    """Every event ``by`` channels further; what leaves the range of channels is lost."""
    times, units = sample
    moved = units + np.asarray(by, units.dtype)
    inside = (moved >= 0) & (moved < num_units)
    return times[inside], moved[inside]


def blend(
    one: Sample, other: Sample, rng: np.random.Generator, num_units: int, duration: float, share: float = 0.5
) -> Sample:
    """The two samples moved halfway towards each other, so that their centres of mass meet, and of each event every
    one kept with probability ``share``. Moves are whole channels and whole ms, truncated towards zero (as in the
    published code); what leaves the range is lost. A sample without events has no centre: it is blended where it is.
    """
    kept = []
    for (times, units), (to_times, to_units) in ((one, other), (other, one)):
        if len(times) and len(to_times):
            times = times + np.float32(int((float(to_times.mean()) - float(times.mean())) / 2))
            units = units + np.int16(int((float(to_units.mean()) - float(units.mean())) / 2))
        inside = (units >= 0) & (units < num_units) & (times >= 0) & (times < duration)
        drawn = inside & (rng.random(len(times)) < share)
        kept.append((times[drawn], units[drawn]))
    times, units = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order], units[order]


def stretch(sample: Sample, factor: float, duration: float) -> Sample:
    """Every event ``factor`` times as late; what is then at or after ``duration`` is lost."""
    times, units = sample
    times = times * np.float32(factor)
    inside = times < duration
    return times[inside], units[inside]


def drop(sample: Sample, share: float, rng: np.random.Generator) -> Sample:
    """Every event lost with probability ``share``."""
    times, units = sample
    kept = rng.random(len(times)) >= share
    return times[kept], units[kept]


@dataclasses.dataclass(frozen=True)
class ShiftAndBlend:
    """Makes a training part of recordings: every sample once per epoch and ``blended`` times as many blends (SHD's
    7,644 of 8,156 are 0.94), all of them shifted by -``channels`` ... ``channels``."""

    channels: int = 40
    blended: float = 0.94

    def __call__(self, recordings: EventRecordings) -> "Augmented":
        return Augmented(recordings, self)

    def perturbed(self, sample: Sample, rng: np.random.Generator, num_units: int, duration: float) -> Sample:
        """One sample or blend, as it is shown in one epoch."""
        if self.channels:
            sample = shift(sample, int(rng.integers(-self.channels, self.channels + 1)), num_units)
        return sample


@dataclasses.dataclass(frozen=True)
class ShiftStretchAndDrop(ShiftAndBlend):
    """Also stretched by 1 - ``stretched`` ... 1 + ``stretched``, and of the events a share lost that is itself drawn for
    every sample, between 0 and ``dropped``."""

    stretched: float = 0.1
    dropped: float = 0.4

    def perturbed(self, sample: Sample, rng: np.random.Generator, num_units: int, duration: float) -> Sample:
        sample = stretch(sample, 1 + rng.uniform(-self.stretched, self.stretched), duration)
        sample = drop(sample, rng.uniform(0, self.dropped), rng)
        return super().perturbed(sample, rng, num_units, duration)


class Augmented:
    """Recordings that are shifted and blended anew in every epoch. Example i < n is sample i; the others are blends
    of a random sample with a random one of its class (itself included, as published)."""

    def __init__(self, recordings: EventRecordings, how: ShiftAndBlend):
        self.recordings, self.how = recordings, how
        self.blends = round(how.blended * len(recordings))
        self._of_class = {label: np.flatnonzero(recordings.labels == label) for label in np.unique(recordings.labels)}

    def __len__(self) -> int:
        return len(self.recordings) + self.blends

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[SpikeEvents, Tensor]:
        drawn = [self._example(int(i), rng) for i in which]
        events = as_events([sample for sample, _ in drawn], self.recordings.num_units, self.recordings.duration)
        return events, torch.tensor([label for _, label in drawn])

    def _example(self, i: int, rng: np.random.Generator) -> tuple[Sample, int]:
        of, units = self.recordings, self.recordings.num_units
        if i >= len(of):
            i = int(rng.integers(len(of)))
            partner = int(rng.choice(self._of_class[of.labels[i]]))
            sample = blend(of.sample(i), of.sample(partner), rng, units, of.duration)
        else:
            sample = of.sample(i)
        return self.how.perturbed(sample, rng, units, of.duration), int(of.labels[i])
