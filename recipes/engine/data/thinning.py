"""Fewer events of the same recording: neighbouring channels are merged, and of a merged channel's spikes every n-th is
kept, at its own time. The rate of a channel stays known to within a spike, and costs an n-th of the events."""

import dataclasses

import numpy as np

from .events import EventRecordings


@dataclasses.dataclass(frozen=True)
class Thinning:
    """``merged`` neighbouring channels become one, of whose events numbers ``every // 2 + k every`` are kept."""

    merged: int = 5
    every: int = 8

    def __post_init__(self):
        if self.merged < 1 or self.every < 1:
            raise ValueError(f"merged and every must be at least 1, not {self}")

    def channels(self, units: int) -> int:
        """Channels that ``units`` channels become."""
        if units % self.merged:
            raise ValueError(f"merged = {self.merged} does not divide the {units} channels")
        return units // self.merged

    def __call__(self, recordings: EventRecordings) -> EventRecordings:
        channels = self.channels(recordings.num_units)
        thinned = [self._thinned(*recordings.sample(i), channels) for i in range(len(recordings))]
        fewer = EventRecordings.of(thinned, recordings.labels, channels, recordings.duration)
        return dataclasses.replace(fewer, speakers=recordings.speakers, class_names=recordings.class_names)

    def _thinned(self, times: np.ndarray, units: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
        units = units // self.merged
        by_channel = np.argsort(units, kind="stable")
        counts = np.bincount(units, minlength=channels)
        number = np.empty(len(units), int)  # of each event among those of its channel
        number[by_channel] = np.arange(len(units)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = number % self.every == self.every // 2
        return times[kept], units[kept]
