"""Recordings in SHD's format as counts whose training samples are made anew from their events in every epoch."""

import argparse
import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files import downloads
from . import events, heidelberg, own_recordings, shd_folder, silence
from . import strengths as named
from .augmentation import IN_UNITS, Augmentation, Plan, augmentations
from .binned import BinnedCounts, Binning
from .own_recordings import AS_EVER, Split
from .rendering import centres, render
from .sources import Source, Splits


class RenderedCounts:
    """Recordings whose batches are counts uint8 ``[N, T, channels]``, augmented anew whenever they are asked for."""

    def __init__(self, recordings: events.EventRecordings, binning: Binning, how: tuple[Augmentation, ...] = ()):
        self.recordings, self.binning, self.how = recordings, binning, how

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def duration(self) -> float:
        """In ms."""
        return self.recordings.duration

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.recordings.class_names

    @cached_property
    def _centres(self) -> np.ndarray:
        return centres(self.recordings)

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        plan = Plan.unchanged(self.recordings, which)
        for augmentation in self.how:
            augmentation(plan, self.recordings, rng)
        counts = render(self.recordings, plan, self.binning, self._centres, int(rng.integers(2**63)))
        return torch.from_numpy(counts), torch.from_numpy(plan.labels)


@dataclasses.dataclass(frozen=True)
class AugmentedCounts(Source):
    """A folder in SHD's format in bins. ``strengths``: of the augmentations of training samples, by their names in
    :data:`recipes.engine.data.augmentation.AUGMENTATIONS`. Validation and test samples are binned as they are."""

    binning: Binning
    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published: downloads.Published = heidelberg.SHD
    paper_criterion: str = "test_accuracy"
    allow_silence: bool = False
    split: Split = AS_EVER

    folder = BinnedCounts.folder
    names_speakers = True

    def __post_init__(self):
        augmentations(self.strengths)

    @property
    def settings(self) -> dict:
        return {
            "binning": dataclasses.asdict(self.binning), "augmentation": dict(self.strengths), **self.split.settings,
        }  # fmt: skip

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        named.add_option(parser, self.strengths, "units, ms or shares; by --units the recipe's numbers of units are scaled")
        own_recordings.add_options(parser, self.binning.duration, self.binning.units, self.binning.group)
        silence.add_option(parser)

    def with_options(self, given: argparse.Namespace) -> "AugmentedCounts":
        changed = named.asked_for(given)
        augmentations(changed)
        binning = own_recordings.binning_of(given, self.binning)
        before = _of_units(self.strengths, binning.units / self.binning.units)
        return dataclasses.replace(
            self, binning=binning, strengths=named.used(before | changed), split=own_recordings.split_of(given, self.split),
            allow_silence=given.allow_silence,
        )  # fmt: skip

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        augmented = given.augment is None or settings["augmentation"] == dict(self.strengths)
        return (
            augmented
            and own_recordings.is_binning(given, self.binning, settings)
            and own_recordings.is_split(given, self.split, settings)
        )

    def find(self, data_dir: Path) -> str:
        return shd_folder.find_files(data_dir, self.split)[0]

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        return self._rendered(
            shd_folder.load_splits(
                data_dir, protocol, self._read, self.binning.channels, self.split, paper_criterion=self.paper_criterion
            )
        )

    def folds(self, data_dir: Path | None, count: int) -> list[tuple[int, ...]]:
        return shd_folder.speaker_groups(data_dir, self._read, count)

    def load_fold(self, data_dir: Path | None, left_out: tuple[int, ...]) -> Splits:
        return self._rendered(shd_folder.load_fold(data_dir, self._read, self.binning.channels, left_out))

    def of_run(self, settings: dict) -> "AugmentedCounts":
        return dataclasses.replace(
            self, binning=Binning(**settings["binning"]), strengths=named.used(settings["augmentation"]),
            split=Split.of_run(settings),
        )  # fmt: skip

    def recordings(self, path: Path, allow_silence: bool = False) -> RenderedCounts:
        return RenderedCounts(events.read(path, self._sampling, allow_silence, labelled=False), self.binning)

    @property
    def _sampling(self) -> events.Sampling:
        return events.Sampling(duration=1000.0 * self.binning.duration, resolution=None, units=self.binning.units)

    def _read(self, path: Path) -> events.EventRecordings:
        return events.read(path, self._sampling, self.allow_silence)

    def _rendered(self, splits: Splits) -> Splits:
        made = {"train": RenderedCounts(splits.train, self.binning, augmentations(self.strengths))}
        for name, part in splits.evaluated.items():
            made[name] = RenderedCounts(part, self.binning)
        return dataclasses.replace(splits, **made)

    def smoke(self) -> tuple["AugmentedCounts", Path]:
        from . import miniature

        return self, miniature.make()


def _of_units(strengths: Mapping[str, float], factor: float) -> dict[str, float]:
    """Those that are numbers of units, for another number of them."""
    return {
        name: float(f"{value * factor:.3g}") if name in IN_UNITS and factor != 1 else value
        for name, value in strengths.items()
    }
