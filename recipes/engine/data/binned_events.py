"""The events of any source in bins, their training samples augmented anew in every epoch."""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import downloads
from . import strengths as named
from .augmentation import augmentations
from .augmented_counts import RenderedCounts
from .binned import Binning
from .events import EventRecordings
from .sources import Source, Splits


@dataclasses.dataclass(frozen=True)
class BinnedEvents(Source):
    """The samples of a source whose parts are :class:`~recipes.engine.data.events.EventRecordings`, in bins of ``dt`` ms
    from the start to the end of its recordings. ``strengths``: as those of
    :class:`~recipes.engine.data.augmented_counts.AugmentedCounts`."""

    of: Source
    dt: float
    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        augmentations(self.strengths)

    @property
    def folder(self) -> str | None:
        return self.of.folder

    @property
    def published(self) -> downloads.Published | None:
        return self.of.published

    @property
    def settings(self) -> dict:
        return self.of.settings | {"binning": {"dt": self.dt}, "augmentation": dict(self.strengths)}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        self.of.add_options(parser)
        named.add_option(parser, self.strengths, "units, ms or shares")

    def with_options(self, given: argparse.Namespace) -> "BinnedEvents":
        changed = named.asked_for(given)
        augmentations(changed)
        strengths = named.used(dict(self.strengths) | changed)
        return dataclasses.replace(self, of=self.of.with_options(given), strengths=strengths)

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        ours = given.augment is None or settings["augmentation"] == dict(self.strengths)
        return ours and self.of.matches(given, settings)

    def find(self, data_dir: Path) -> str:
        return self.of.find(data_dir)

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        splits = self.of.load(data_dir, protocol)
        binning = self._binning(splits.train)
        made = {"train": RenderedCounts(splits.train, binning, augmentations(self.strengths))}
        made |= {name: RenderedCounts(part, binning) for name, part in splits.evaluated.items()}
        return dataclasses.replace(splits, **made)

    def of_run(self, settings: dict) -> "BinnedEvents":
        strengths = named.used(settings["augmentation"])
        return dataclasses.replace(self, of=self.of.of_run(settings), dt=settings["binning"]["dt"], strengths=strengths)

    def knowing(self, facts: Mapping[str, Any]) -> "BinnedEvents":
        return dataclasses.replace(self, of=self.of.knowing(facts))

    def recordings(self, path: Path, allow_silence: bool = False) -> RenderedCounts:
        recordings = self.of.recordings(path, allow_silence)
        return RenderedCounts(recordings, self._binning(recordings))

    def _binning(self, of: EventRecordings) -> Binning:
        steps = math.ceil(of.duration / self.dt)
        return Binning(duration=steps * self.dt / 1000, steps=steps, units=of.num_units, group=1)

    def smoke(self) -> tuple["BinnedEvents", Path | None]:
        of, folder = self.of.smoke()
        return dataclasses.replace(self, of=of), folder
