"""The Yin-Yang data set, generated: Kriener, Goeltz, Petrovici (2022), encoded in spike times.

Points (x, y) in a disk of radius 0.5 around (0.5, 0.5), in three classes of equal probability: yin (1), yang (0) and
the two dots (2) of radius 0.1 around (0.25, 0.5) and (0.75, 0.5). Four inputs x, y, 1 - x, 1 - y spike once each, at
``early + value (late - early)``.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from ..engine.data.events import EventRecordings
from ..engine.data.sources import Source, Splits

RADIUS = 0.5
DOT = 0.1
YANG, YIN, DOTS = 0, 1, 2


def which_class(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Class of each point of the disk. Yin: the upper half without the right-hand half-size disk, with the left-hand
    one; the dots, and then their rims, cut out of both."""
    from_left, from_right = np.hypot(x - RADIUS / 2, y - RADIUS), np.hypot(x - 3 * RADIUS / 2, y - RADIUS)
    yin = (from_right <= DOT) | ((from_left > DOT) & (from_left <= RADIUS / 2)) | ((y > RADIUS) & (from_right > RADIUS / 2))
    return np.where((from_left < DOT) | (from_right < DOT), DOTS, np.where(yin, YIN, YANG))


def points(samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) [samples, 2] and classes: first a class is drawn for every sample, then points until one is of it."""
    wanted, xy = rng.integers(0, 3, samples), np.empty((samples, 2))
    open_ = np.arange(samples)
    while len(open_):
        x, y = rng.random((2, len(open_))) * 2 * RADIUS
        good = (np.hypot(x - RADIUS, y - RADIUS) <= RADIUS) & (which_class(x, y) == wanted[open_])
        xy[open_[good]] = np.stack([x, y], 1)[good]
        open_ = open_[~good]
    return xy, wanted


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Times in ms: inputs spike between ``early`` and ``late``, the network runs for ``duration``."""

    early: float = 1.5
    late: float = 20.0
    duration: float = 40.0

    def __call__(self, xy: np.ndarray, labels: np.ndarray) -> EventRecordings:
        times = self.early + np.concatenate([xy, 1 - xy], 1) * (self.late - self.early)
        units = np.arange(4)
        return EventRecordings.of([(row, units) for row in times], labels, 4, self.duration)


class YinYang(Source):
    """``sizes`` samples for training, validation and testing, drawn from ``seed``: the same for every network."""

    def __init__(self, encoding: Encoding, sizes: tuple[int, int, int] = (5000, 1000, 1000), seed: int = 0):
        self.encoding, self.sizes, self.seed = encoding, sizes, seed

    @property
    def settings(self) -> dict:
        return {
            "encoding": dataclasses.asdict(self.encoding),
            "generated": {"train": self.sizes[0], "valid": self.sizes[1], "test": self.sizes[2], "seed": self.seed},
        }

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        parts, digest = [], hashlib.sha256()
        for number, samples in enumerate(self.sizes):
            part = self.encoding(*points(samples, np.random.default_rng([self.seed, number])))
            part.add_to(digest)
            parts.append(part)
        return Splits(
            "Yin-Yang",
            protocol,
            *parts,
            inputs=4,
            classes=3,
            validation=f"{self.sizes[1]} validation samples",
            digest=digest.hexdigest()[:16],
            paper_criterion="valid_accuracy",
        )

    def smoke(self) -> tuple["YinYang", None]:
        return YinYang(self.encoding, (600, 200, 200), self.seed), None
