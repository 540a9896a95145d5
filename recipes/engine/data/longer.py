"""Recordings that go on after what is used of them: said once a file, with numbers, and an error where their times can
only be in another unit."""

import functools
import logging
from pathlib import Path

import numpy as np

from ..errors import DataError

log = logging.getLogger(__name__)

_MOST = 100  # times as long as what is used: 1,000 ms of a second are 1,000


class Cut:
    """Counts what lies at or after the end, chunk by chunk."""

    def __init__(self):
        self._late = self._spikes = self._samples = 0
        self._latest = 0.0

    def add(self, sample: np.ndarray, time: np.ndarray, late: np.ndarray) -> None:
        """``late``: which of the spikes of consecutive samples. Times in s."""
        self._late += int(late.sum())
        self._spikes += len(late)
        self._samples += len(np.unique(sample[late]))
        self._latest = max(self._latest, float(time.max(initial=0.0)))

    @property
    def counted(self) -> np.ndarray:
        """[late spikes, spikes, samples with late ones, time of the last spike (s)]."""
        return np.array([self._late, self._spikes, self._samples, self._latest])


def check(
    path: Path, counted: np.ndarray, samples: int, duration: float, dropped: bool = True, remedy: bool = True
) -> None:
    """``duration`` in s; ``dropped``: whether late spikes are; ``remedy``: whether there is ``--duration``. Raises
    :class:`DataError` for times that are no seconds."""
    late, spikes, of_samples, latest = counted.tolist()
    if latest >= _MOST * duration and late > spikes / 2:
        raise DataError(
            f"{path}: spikes up to {latest:g} s, and {duration:g} s of a recording are used; times are in seconds: divide "
            "those in ms by 1000, and cut long recordings into pieces"
        )
    if late:
        share = 100 * late / spikes
        _say(
            f"{path}: {late:.0f} of {spikes:.0f} spikes ({share:.2g} %), in {of_samples:.0f} of {samples} samples, lie at "
            f"{duration:g} s or later and are {'cut off' if dropped else 'put into the last bin'}; the last is at "
            f"{latest:.3g} s{' (a run with a longer --duration uses them)' if remedy and dropped else ''}"
        )


@functools.cache
def _say(what: str) -> None:
    log.info(what)
